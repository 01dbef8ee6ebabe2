"""One connection to one smart host: smtplib.SMTP with bounded replies and one deadline a stage."""

from __future__ import annotations

import select
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Reply, SmartHost
from muawrap.submission import replies, sasl, smarthosts, tls

RECEIVE = 64 * 1024  # octets asked of the kernel at once
COMMAND_LIMIT = 12_288  # octets of an AUTH line (RFC 4954, 4)

Trace = Callable[[str, str], None]
"""Told ">>>" or "<<<" and a line of the dialogue; secrets never reach it."""


class Connection(smtplib.SMTP):
    """The socket, TLS and the clock live here, and nowhere else.

    Every trouble is a Failure that knows host and stage. `committed` is set before the send that holds the end of the
    message: from then on a loss is not "not sent" but "may have been sent" (RULES C3).
    """

    def __init__(self, host: SmartHost, hostname: str, trace: Trace | None = None, end: float = float("inf")) -> None:
        # With a local name given, the constructor of smtplib does not look ours up in DNS.
        super().__init__(local_hostname=hostname)
        self.smart_host = host
        self.stage = Stage.CONNECT
        self.committed = False
        self.capabilities = replies.Capabilities({})
        self.verified = False
        self._hostname = hostname
        self._trace = trace
        self._end = end  # of timeouts.total, on the monotonic clock
        self._replies = replies.Reader()

    # -- trouble

    def failure(
        self,
        what: str = "",
        *,
        lead: str = TRY_AGAIN,
        reply: Reply | None = None,
        recipient: str = "",
        advice: str = "",
        stage: Stage | None = None,
    ) -> Failure:
        """A Failure at this host and stage. After the end of the message only a whole 4yz or 5yz says "not sent"."""
        if self.committed and (reply is None or reply.kind not in (4, 5)):
            lead = UNCERTAIN
            advice = "look whether it arrived before you send it again"
        return Failure(
            what,
            lead=lead,
            stage=stage or self.stage,
            host=str(self.smart_host),
            reply=reply,
            recipient=recipient,
            advice=advice,
        )

    def refused(self, reply: Reply, recipient: str = "", advice: str = "") -> Failure:
        """The Failure for a reply that says no, or that says what cannot be said here."""
        if reply.kind in (4, 5):
            lead = TRY_AGAIN if reply.kind == 4 else REFUSED
            return self.failure(lead=lead, reply=reply, recipient=recipient, advice=advice)
        return self.failure("which is no answer to that", reply=reply, recipient=recipient)

    # -- the socket

    def deadline(self, seconds: float) -> float:
        """When a stage that begins now must have ended, timeouts.total included."""
        return min(time.monotonic() + seconds, self._end)

    def connect(self, *_: object) -> tuple[int, bytes]:
        """Connect to the first address that answers; `timeouts.connect` covers them all. Raises Failure."""
        self.stage = Stage.CONNECT
        addresses = smarthosts.addresses(self.smart_host)
        deadline = self.deadline(self.smart_host.timeouts.connect)
        reasons = []
        for number, address in enumerate(addresses):
            share = (deadline - time.monotonic()) / (len(addresses) - number)
            made = socket.socket(address.family, socket.SOCK_STREAM)
            try:
                made.settimeout(max(share, 0.001))
                made.connect(address.sockaddr)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                made.close()
                reasons.append((address, _reason(error, share)))
                continue
            self.sock = made
            return 0, b""
        if len({reason for _, reason in reasons}) == 1:
            raise self.failure(reasons[0][1], advice="is the network up, and is this the right port?")
        raise self.failure(", ".join(f"{address}: {reason}" for address, reason in reasons))

    def send(self, s: bytes | bytearray | memoryview | str, seconds: float | None = None) -> None:  # type: ignore[override]
        """Hand octets to the kernel, all of them before the deadline. Raises Failure."""
        if self.sock is None:
            raise self.failure("there is no connection")
        left = memoryview(s.encode("ascii") if isinstance(s, str) else s)
        deadline = self.deadline(seconds or self.smart_host.timeouts.command)
        try:
            while left:
                self.sock.settimeout(self._left(deadline))
                left = left[self.sock.send(left) :]
        except OSError as error:
            raise self._lost(error) from error

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _lost(self, error: OSError | None) -> Failure:
        """A connection that broke or fell silent."""
        if isinstance(error, TimeoutError):
            return self.failure("timed out", advice="")
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return self.failure(f"TLS broke ({(error.reason or 'unknown').replace('_', ' ').lower()})")
        detail = f" ({error.strerror.lower()})" if error is not None and error.strerror and error.errno else ""
        if isinstance(error, ssl.SSLEOFError):
            detail = ""
        return self.failure(f"lost the connection{detail}")

    # -- replies

    def reply(self, seconds: float | None = None) -> Reply:
        """The next reply, whole, before the deadline (RULES C1, C3). Raises Failure."""
        deadline = self.deadline(seconds or self.smart_host.timeouts.command)
        while True:
            try:
                found = self._replies.next()
            except replies.Malformed as error:
                raise self.failure(f"sent {error}") from error
            if found is not None:
                self._tell("<<<", str(found))
                return found
            if not self._receive(deadline):
                raise self._lost(None)

    def _receive(self, deadline: float) -> bool:
        """Wait for octets; False where the server has closed."""
        assert self.sock is not None
        try:
            self.sock.settimeout(self._left(deadline))
            octets = self.sock.recv(RECEIVE)
        except OSError as error:
            raise self._lost(error) from error
        self._replies.feed(octets)
        return bool(octets)

    def pending(self) -> Reply | None:
        """A reply the server sent unasked; None where it sent none. Never waits. Raises Failure."""
        assert self.sock is not None
        try:
            while self._readable():
                self.sock.settimeout(0)
                octets = self.sock.recv(RECEIVE)
                if not octets:
                    raise self._lost(None)
                self._replies.feed(octets)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            raise self._lost(error) from error
        if self._replies.empty:
            return None
        return self.reply(min(1.0, self.smart_host.timeouts.command))

    def _readable(self) -> bool:
        assert self.sock is not None
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def getreply(self) -> tuple[int, bytes]:
        """As smtplib has it, by way of reply()."""
        reply = self.reply()
        return reply.code, "\n".join(reply.lines).encode()

    def _tell(self, mark: str, line: str) -> None:
        if self._trace is not None:
            self._trace(mark, line)

    def command(self, line: str, seconds: float | None = None, shown: str = "") -> Reply:
        """Send one command and wait for its reply; `shown` is told instead of a line that holds a secret."""
        self.say(line, shown)
        return self.reply(seconds)

    def say(self, line: str, shown: str = "") -> None:
        """Send one command without waiting."""
        if "\r" in line or "\n" in line:
            raise self.failure("a line end inside a command", lead=REFUSED)
        self._tell(">>>", shown or line)
        self.send(line.encode("utf-8") + b"\r\n")

    # -- stages

    def greeting(self) -> None:
        """Wait for the 220 (RFC 5321, 3.1). Raises Failure."""
        self.stage = Stage.GREETING
        reply = self.reply(self.smart_host.timeouts.greeting)
        if reply.code != 220:
            raise self.refused(reply)

    def ehlo(self, name: str = "") -> tuple[int, bytes]:
        """EHLO, or HELO where that is refused and neither TLS nor AUTH is asked for (RULES C1). Raises Failure."""
        self.stage = Stage.EHLO
        name = name or self._hostname or self._literal()
        reply = self.command(f"EHLO {name}")
        self.capabilities = replies.Capabilities({})
        if reply.code == 250:
            self.capabilities = replies.capabilities(reply)
        elif reply.kind in (4, 5) and not self._needs_extensions():
            reply = self.command(f"HELO {name}")
        if reply.code != 250:
            raise self.refused(reply)
        return reply.code, b""

    def _needs_extensions(self) -> bool:
        return self.smart_host.tls.policy == "required" or bool(self.smart_host.auth.user)

    def _literal(self) -> str:
        """Our own address as a literal: true, and no look-up (RFC 5321, 4.1.3)."""
        assert self.sock is not None
        address = str(self.sock.getsockname()[0]).partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    def starttls(self, *_: object, verified: bool = True, **__: object) -> tuple[int, bytes]:
        """STARTTLS (RFC 3207); what came in clear is forgotten, and more than the 220 is an error. Raises Failure."""
        self.stage = Stage.STARTTLS
        reply = self.command("STARTTLS")
        if reply.code != 220:
            raise self.refused(reply)
        if not self._replies.empty or self.pending() is not None:
            raise self.failure("sent more than the reply to STARTTLS, which could be somebody else's words")
        self.handshake(verified)
        return reply.code, b""

    def handshake(self, verified: bool = True) -> None:
        """TLS on the connection as it stands, before the deadline of `timeouts.connect`. Raises Failure."""
        self.stage = Stage.TLS
        assert self.sock is not None
        context = tls.context(self.smart_host, verified)
        try:
            self.sock.settimeout(self._left(self.deadline(self.smart_host.timeouts.connect)))
            self.sock = context.wrap_socket(self.sock, server_hostname=tls.name_to_verify(self.smart_host))
        except TimeoutError as error:
            raise self._lost(error) from error
        except (OSError, ValueError) as error:
            what, advice = tls.explain(error) if isinstance(error, OSError) else (str(error), "")
            permanent = isinstance(error, (ssl.SSLCertVerificationError, ValueError))
            raise self.failure(what, lead=REFUSED if permanent else TRY_AGAIN, advice=advice) from error
        self.verified = verified
        self.capabilities = replies.Capabilities({})
        self._replies = replies.Reader()
        self._tell("---", f"{self.tls_name} with {self.smart_host.host}")

    @property
    def tls_name(self) -> str:
        """TLSv1.3, "TLSv1.3 unverified" or none, for the log."""
        if not isinstance(self.sock, ssl.SSLSocket):
            return "none"
        return f"{self.sock.version()}{'' if self.verified else ' unverified'}"

    def auth(self, mechanism: sasl.Mechanism, *_: object) -> tuple[int, bytes]:  # type: ignore[override]
        """Authenticate by one mechanism; only 235 is success (RFC 4954, 4). Raises Failure."""
        self.stage = Stage.AUTH
        line = f"AUTH {mechanism.name}"
        first = "" if mechanism.initial is None else " " + sasl.encode(mechanism.initial)
        if first and len(line + first) < COMMAND_LIMIT:
            reply = self.command(line + first, shown=f"{line} ***")
        else:
            reply = self.command(line)
        for _challenge in range(sasl.CHALLENGES):
            if reply.code != 334:
                break
            try:
                answer = mechanism.answer(sasl.decode(reply.lines[0]))
            except ValueError:
                self.command("*")
                raise self.failure("sent a challenge that is no base64") from None
            reply = self.command(sasl.encode(answer), shown="***")
        if reply.code != 235:
            raise self.refused(reply, advice="look at auth.user and auth.password" if reply.kind == 5 else "")
        return reply.code, b""

    def text(self, blocks: Iterator[bytes]) -> Reply:
        """Send the text, the last block of which holds its end, and wait for the verdict (RULES C3). Raises Failure."""
        self.stage = Stage.TEXT
        seconds = self.smart_host.timeouts.data
        block = next(blocks)
        for following in blocks:
            self.send(block, seconds)
            block = following
        early = self.pending()
        if early is not None:
            raise self.refused(early)
        self.committed = True
        self.stage = Stage.VERDICT
        self.send(block, seconds)
        self._end = float("inf")
        return self.reply(self.smart_host.timeouts.final)

    def leave(self) -> None:
        """QUIT without waiting for an answer, then close; nothing here can fail (RULES A5)."""
        try:
            if self.sock is not None:
                self._tell(">>>", "QUIT")
                self.sock.settimeout(0)
                self.sock.send(b"QUIT\r\n")
        except OSError:
            pass
        try:
            self.close()
        except OSError:
            pass


def _reason(error: OSError, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:.0f} s"
    return (error.strerror or str(error)).lower()
