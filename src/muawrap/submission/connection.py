"""One connection to one smart host: smtplib.SMTP with bounded replies and one deadline a stage."""

from __future__ import annotations

import contextlib
import errno
import re
import select
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from muawrap import schema, signals
from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Reply, SmartHost
from muawrap.submission import replies, sasl, tls
from muawrap.submission.dial import Dial

if TYPE_CHECKING:  # loaded for -v, and where TLS fails
    from muawrap.submission.explain import Trouble
    from muawrap.submission.verbose import Verbose

RECEIVE = 64 * 1024  # octets asked of the kernel at once
COMMAND_LIMIT = 12_288  # octets of an AUTH line (RFC 4954, 4)
TAIL = 16 * 1024  # octets of text sent together with their end: one TLS record; what is lost earlier is "not sent"
COMPLAINT = 200  # characters of what a server says about a login in a challenge
QUOTED = 80  # characters of what is no reply; enough to see what it is
REST_OF_A_REPLY = 1.0  # seconds for what follows a reply that has begun unasked
SILENCE = 10.0  # seconds without a greeting before we look whether the server waits for TLS; no honest one minds
GOODBYE_SECONDS = 10.0  # for a goodbye, where that is waited for at all
GOODBYE = (221, 421)  # what a server may say unasked when it closes (RFC 5321, 3.8)
UNACKNOWLEDGED, NOT_SENT = slice(24, 28), slice(144, 148)  # tcpi_unacked, tcpi_notsent_bytes of <linux/tcp.h>

_AT_ONCE_SCHEME = "a server that waits for TLS at once (port 465) is submissions://"

_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"'@]+@[\w.-]*\w")
_WORD = re.compile(r"[\w.+-]*\w")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Trace = Callable[[str, str], None]
"""Told ">>>" or "<<<" and a line of the dialogue, or "---" and a remark; "..." and how far the text has come, then "".

Neither secrets nor the text ever reach it.
"""


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
        self.ehlo_refused: Failure | None = None  # why it is HELO that we have said
        self.verified = False
        self.contexts: dict[bool, ssl.SSLContext] = {}  # by whether they verify; made before they are needed
        self.tls_name = "none"  # or "TLSv1.3", "TLSv1.3 unverified", "TLSv1.3 pinned", for the log
        self.mechanism = ""  # by which we are authenticated
        self._in_text = False  # between DATA and the verdict, where no command may stand
        self._in_auth = False  # nor here: a line is an answer, and QUIT would be good base64
        self._verdicts = 1  # replies to the text that are still to come
        self._hidden: list[re.Pattern[str]] = []
        self._hidden_words: Collection[str] = ()
        self._hostname = hostname
        self._verbose: Verbose | None = None
        if trace is not None:
            with contextlib.suppress(Exception):  # -v changes no outcome
                from muawrap.submission.verbose import Verbose

                self._verbose = Verbose(trace, self._shown)
        self._end = end  # of timeouts.total, on the monotonic clock
        self._replies = replies.Reader()
        self._asked = 0  # commands in the latest flight
        self._awaited = 1  # replies that are still to come, the greeting first
        self._heard = Reply(0, ("",))  # the latest, as it came: never told
        self.before_end: Callable[[], None] | None = None  # called before the end of a text leaves; it may raise

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

    def refused(self, reply: Reply, recipient: str = "", advice: str = "", unasked: bool = False) -> Failure:
        """The Failure for a reply that says no, or that says what cannot be said here."""
        advice = advice or self._known_advice(reply)
        reply = self._masked(reply)
        if reply.kind in (4, 5):
            lead = TRY_AGAIN if reply.kind == 4 else REFUSED
            what = "unasked" if unasked else ""
            return self.failure(what, lead=lead, reply=reply, recipient=recipient, advice=advice)
        return self.failure(f'sent "{reply}", which is no answer,', recipient=recipient)

    def _known_advice(self, reply: Reply) -> str:
        """What to do about a refusal; loaded where there is one, and trouble with that must not change the outcome."""
        try:
            from muawrap.submission import advice
        except (ImportError, OSError):
            return ""
        return advice.for_reply(self.stage, reply)

    # -- what must not be told

    def hide(self, *secrets: str) -> None:
        """From now on the server's words are told without these, wherever they stand: it may repeat a password."""
        self._hidden += [re.compile(re.escape(secret), re.IGNORECASE) for secret in secrets]

    def hide_words(self, words: Collection[str]) -> None:
        """From now on the server's words are told without these, in lower case: addresses, and parts of them."""
        self._hidden_words = words
        self.hide(*(word for word in words if "@" not in word and not _WORD.fullmatch(word)))

    def _shown(self, text: str) -> str:
        for pattern in self._hidden:
            text = pattern.sub("***", text)
        if not self._hidden_words:
            return text
        for pattern in (_ADDRESS, _WORD):  # whole addresses before their parts
            text = pattern.sub(lambda word: "***" if word[0].lower() in self._hidden_words else word[0], text)
        return text

    def _quoted(self, line: str) -> str:
        """What a server said that was no reply; masked before it is cut, so that no half of a secret is left."""
        said = self._shown(line)
        return f": {said[:QUOTED]!r}{'...' if len(said) > QUOTED else ''}" if said else ""

    def _masked(self, reply: Reply) -> Reply:
        if not self._hidden and not self._hidden_words:
            return reply
        return Reply(reply.code, tuple(map(self._shown, reply.lines)))

    def _offered(self) -> replies.Capabilities:
        """What the answer to EHLO offers, masked but for words that have a meaning: a password may be "login"."""
        if self._masked(self._heard) == self._heard:
            return replies.capabilities(self._heard)
        meant = "|".join(sorted((*replies.KEYWORDS, *schema.MECHANISMS), key=len, reverse=True))
        parts = re.compile(rf"(?<![^\s=])({meant})(?![^\s=])", re.IGNORECASE)
        lines = [
            "".join(part if number % 2 else self._shown(part) for number, part in enumerate(parts.split(line)))
            for line in self._heard.lines
        ]
        return replies.capabilities(Reply(self._heard.code, tuple(lines)))

    def _tell(self, mark: str, line: str) -> None:
        if self._verbose is not None:
            self._verbose.line(mark, line)

    # -- the socket

    def deadline(self, seconds: float) -> float:
        """When a stage that begins now must have ended, timeouts.total included."""
        return min(time.monotonic() + seconds, self._end)

    def connect(self, *_: object, dial: Dial | None = None) -> tuple[int, bytes]:
        """Connect, or take the connection that is under way; `timeouts.connect` covers it all. Raises Failure."""
        self.stage = Stage.CONNECT
        dial = dial or Dial(self.smart_host, self._end)
        self._tell("---", f"connecting to {self.smart_host}{f' by the proxy {dial.proxy}' if dial.proxy else ''}")
        self.sock = dial.connected()
        if self._verbose is not None:
            self._verbose.connected(self.sock)
        return 0, b""

    def send(self, s: bytes | bytearray | memoryview | str, seconds: float | None = None) -> None:  # type: ignore[override]
        """Hand octets to the kernel, all of them before the deadline. Raises Failure.

        What the server says meanwhile is taken in: it answers a flight of commands while we still send, and would
        stop reading where nobody reads its answers.
        """
        if self.sock is None:
            raise self.failure("there is no connection")
        left = memoryview(s.encode("ascii") if isinstance(s, str) else s)
        deadline = self.deadline(seconds or self.smart_host.timeouts.command)
        try:
            while left:
                self.sock.settimeout(0)
                try:
                    left = left[self.sock.send(left) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    self._make_room(deadline)
                except ssl.SSLWantReadError:
                    self._wait(select.POLLIN, deadline)
        except OSError as error:
            raise (self._last_words() or self._lost(error)) from error

    def _make_room(self, deadline: float) -> None:
        """Wait until more can be sent; take in a bounded part of what has come."""
        wanted, room = select.POLLOUT, self._replies.room(self._asked)
        if room:
            wanted |= select.POLLIN
        if self._wait(wanted, deadline) & ~select.POLLOUT and room:
            self._take_in()

    def _wait(self, events: int, deadline: float) -> int:
        """Wait for the socket. Raises TimeoutError."""
        assert self.sock is not None
        if events & select.POLLIN and isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return select.POLLIN
        poll = select.poll()
        poll.register(self.sock, events)
        while True:
            left = self._left(deadline)
            found = signals.poll(poll, None if left == float("inf") else int(left * 1000) + 1)
            if found:
                return found[0][1]

    def _take_in(self) -> None:
        """What has come, without waiting. Raises OSError."""
        assert self.sock is not None
        self.sock.settimeout(0)
        try:
            octets = self.sock.recv(RECEIVE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not octets:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the server")
        self._replies.feed(octets)

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _lost(self, error: OSError | None) -> Failure:
        """A connection that broke or fell silent."""
        if isinstance(error, TimeoutError):
            return self.failure("timed out")
        if error is None or isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return self.failure("lost the connection")
        if isinstance(error, ssl.SSLError):
            reason = (error.reason or "unknown").replace("_", " ").lower()
            if "alert" in reason and self.stage in (Stage.GREETING, Stage.EHLO, Stage.LHLO):
                return self._refused_late(error)
            return self.failure(f"TLS broke ({reason})")
        return self.failure(f"lost the connection ({(error.strerror or str(error)).lower()})")

    def _refused_late(self, error: ssl.SSLError) -> Failure:
        """A handshake that the server ended when ours was over: in TLS 1.3 it looks at our certificate then."""
        from muawrap.submission import explain

        return self._no_tls(explain.handshake(error, None, at_once=False))

    def _no_tls(self, trouble: Trouble) -> Failure:
        lead = REFUSED if trouble.lasts else TRY_AGAIN
        return self.failure(trouble.what, lead=lead, stage=Stage.TLS, advice=trouble.advice)

    def _last_words(self) -> Failure | None:
        """The refusal of a server that went away, or stopped reading, while we were still talking."""
        try:
            for _ in range(self._asked + 1):  # of a flight, the first commands may have been accepted
                reply = self.pending()
                if reply is not None and reply.kind in (4, 5):
                    return self.refused(reply)
        except Failure as failure:
            return failure if failure.stage is Stage.TLS else None
        return None

    # -- replies

    def reply(self, seconds: float | None = None) -> Reply:
        """The next reply, whole, before the deadline (RULES C1, C3). Raises Failure."""
        deadline = self.deadline(seconds or self.smart_host.timeouts.command)
        while True:
            try:
                found = self._replies.next()
            except replies.Malformed as error:
                raise self.failure(f"sent {error}{self._quoted(error.line)}") from error
            if found is not None:
                self._in_text = self._in_text and not self.committed  # a whole reply ends the text
                self._awaited -= 1
                if self.committed and self._decides(found):
                    signals.decided()
                self._heard, told = found, self._masked(found)
                if self._verbose is not None:
                    self._tell("<<<", str(told))
                return found if found.kind == 3 else told  # a challenge is read, not told
            if not self._receive(deadline):
                raise self._lost(None)

    def _decides(self, reply: Reply) -> bool:
        """Whether the outcome stands with this reply, so that a signal changes nothing any more."""
        self._verdicts -= self.stage is Stage.VERDICT
        return self._verdicts <= 0 if self.stage is Stage.VERDICT else reply.kind in (4, 5)

    def _receive(self, deadline: float) -> bool:
        """Wait for octets; False where the server has closed."""
        assert self.sock is not None
        try:
            if signals.watched():
                self._wait(select.POLLIN, deadline)
            self.sock.settimeout(self._left(deadline))
            octets = self.sock.recv(RECEIVE)
        except OSError as error:
            raise self._lost(error) from error
        self._replies.feed(octets)
        return bool(octets)

    def pending(self) -> Reply | None:
        """A reply the server sent unasked; None where it sent none. Waits only for the rest of one. Raises Failure."""
        self._collect()
        return None if self._replies.empty else self.reply(REST_OF_A_REPLY)

    def hush(self) -> None:
        """Nothing may be waiting where we are about to speak: a reply would be taken for the answer. Raises Failure."""
        early = self.pending()
        if early is not None:
            raise self.refused(early, unasked=True)

    def _collect(self) -> None:
        """Take in what the server sent unasked, without waiting; no more than shows that there is something."""
        if self.sock is None:
            raise self.failure("there is no connection")
        try:
            while self._replies.empty and self._readable():
                self.sock.settimeout(0)
                octets = self.sock.recv(RECEIVE)
                if not octets:
                    raise self._lost(None)
                self._replies.feed(octets)
        except (BlockingIOError, ssl.SSLWantReadError):  # TLS had something to say, and the server nothing
            pass
        except OSError as error:
            raise self._lost(error) from error

    def _readable(self) -> bool:
        """Whether something is there to be read; asked before every command, so it never waits."""
        assert self.sock is not None
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def getreply(self) -> tuple[int, bytes]:
        """As smtplib has it, by way of reply()."""
        reply = self.reply()
        return reply.code, "\n".join(reply.lines).encode("utf-8", "surrogateescape")

    def command(self, line: str, seconds: float | None = None, shown: str = "") -> Reply:
        """Send one command and wait for its reply; `shown` is told instead of a line that holds a secret."""
        self.hush()
        self.say(line, shown)
        return self.reply(seconds)

    def say(self, line: str, shown: str = "") -> None:
        """Send one command without waiting."""
        self.flight([(line, shown)])

    def flight(self, lines: Iterable[tuple[str, str]]) -> None:
        """Send commands in one piece, without waiting; each with what is told of it, "" being the line itself."""
        self.send(self._encoded(lines))

    def _encoded(self, lines: Iterable[tuple[str, str]]) -> bytes:
        octets = []
        for line, shown in lines:
            if _CONTROL.search(line):
                raise self.failure("a control character inside a command", lead=REFUSED)
            self._tell(">>>", shown or line)
            octets.append(line.encode("utf-8") + b"\r\n")
        self._asked = len(octets)
        self._awaited += len(octets)
        return b"".join(octets)

    # -- stages

    def greeting(self) -> None:
        """Wait for the 220 (RFC 5321, 3.1). Raises Failure."""
        self.stage = Stage.GREETING
        deadline = self.deadline(self.smart_host.timeouts.greeting)
        self._notice_tls()
        try:
            reply = self.reply(deadline - time.monotonic())
        except Failure as failure:
            if isinstance(failure.__cause__, TimeoutError) and self._may_want_tls():
                failure.advice = _AT_ONCE_SCHEME
            raise
        if reply.code != 220:
            raise self.refused(reply)

    def _may_want_tls(self) -> bool:
        """Whether submissions:// could be the scheme of a server that says nothing; sockets and LMTP have none such."""
        return not (isinstance(self.sock, ssl.SSLSocket) or self.smart_host.is_local or self.is_lmtp)

    def _notice_tls(self) -> None:
        """Say so where a silent server waits for TLS at once, long before `timeouts.greeting` ends. Raises Failure.

        Both would wait for the other to begin. On port 25 nobody does, and a second connection that speaks first may
        be held against us there. A greeting that is merely slow is waited for as long as ever.
        """
        assert self.sock is not None
        host, limits = self.smart_host, self.smart_host.timeouts
        if not self._may_want_tls() or host.port == 25 or limits.greeting <= SILENCE:
            return
        if host.proxy or host.source_address:  # a second connection would take another way
            return
        with contextlib.suppress(TimeoutError):
            self._wait(select.POLLIN, self.deadline(SILENCE))
            return
        from muawrap.submission import explain

        if explain.speaks_tls(self.sock, max(0.0, min(limits.connect, self._end - time.monotonic(), SILENCE))):
            raise self.failure("the server waits for TLS at once", lead=REFUSED, advice=_AT_ONCE_SCHEME)

    def ehlo(self, name: str = "") -> tuple[int, bytes]:
        """EHLO, or HELO where that is refused and neither TLS nor AUTH is asked for (RULES C1). Raises Failure.

        LHLO is LMTP's EHLO, and it has no other (RFC 2033, 4.1).
        """
        self.stage = Stage.LHLO if self.is_lmtp else Stage.EHLO
        name = name or self._hostname or self._literal()
        reply = self.command(f"{self.stage.name} {name}")
        self.capabilities = replies.Capabilities({})
        self.ehlo_refused = None
        if reply.code == 250:
            self.capabilities = self._offered().without(self.smart_host.ignore_extensions)
        elif reply.kind in (4, 5) and not self._needs_extensions():
            self.ehlo_refused = self.refused(reply)
            try:
                reply = self.command(f"HELO {name}")
            except Failure as failure:
                raise self.ehlo_refused from failure  # a server that hangs up has said why
        if reply.code != 250:
            raise self.refused(reply)
        return reply.code, b""

    def _needs_extensions(self) -> bool:
        return self.smart_host.tls.is_required or self.smart_host.auth.is_wanted or self.is_lmtp

    @property
    def is_lmtp(self) -> bool:
        """Whether each recipient has a verdict of its own (RFC 2033)."""
        return self.smart_host.scheme == "lmtp"

    def _literal(self) -> str:
        """Our own address as a literal, without a look-up (RFC 5321, 4.1.3); where the host sees another, no name."""
        assert self.sock is not None
        if self.smart_host.is_local or self.smart_host.proxy:
            return "localhost"
        address = str(self.sock.getsockname()[0]).partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    def starttls(self, *_: object, verified: bool = True, **__: object) -> tuple[int, bytes]:
        """STARTTLS (RFC 3207); what came in clear is forgotten, and more than the 220 is an error. Raises Failure."""
        self.stage = Stage.STARTTLS
        reply = self.command("STARTTLS")
        if reply.code != 220:
            raise self.refused(reply)
        self.stage = Stage.TLS  # a connection lost from now on is a handshake that failed
        self._collect()
        if not self._replies.empty:
            what = "sent more than the reply to STARTTLS, which could be somebody else's words"
            raise self.failure(what, stage=Stage.STARTTLS)
        self.handshake(verified)
        return reply.code, b""

    def handshake(self, verified: bool = True) -> None:
        """TLS on the connection as it stands, before the deadline of `timeouts.connect`. Raises Failure."""
        self.stage = Stage.TLS
        assert self.sock is not None
        context = self.contexts.get(verified) or tls.context(self.smart_host, verified)
        deadline = self.deadline(self.smart_host.timeouts.connect)
        try:
            # A connection that is gone already makes wrap_socket() skip the handshake in silence, or lose the socket.
            self.sock.getpeername()
            self.sock = made = context.wrap_socket(
                self.sock, server_hostname=tls.name_to_ask_for(self.smart_host), do_handshake_on_connect=False
            )
            made.settimeout(self._left(deadline))
            made.do_handshake()
            how = tls.check(made, self.smart_host, verified)
        except (ssl.SSLError, ValueError) as error:
            raise self.no_handshake(error) from error
        except OSError as error:
            self.close()
            lost = self._lost(error)
            if isinstance(error, TimeoutError) and self.smart_host.scheme == "submissions":
                lost.advice = "a server that wants STARTTLS (port 587) is submission://"
            raise lost from error
        self.verified = verified
        self.tls_name = f"{made.version()} {how}".rstrip()
        self.capabilities = replies.Capabilities({})
        self._replies = replies.Reader()
        if self._verbose is not None:
            self._verbose.encrypted(made, self.tls_name)

    def no_handshake(self, error: ssl.SSLError | ValueError) -> Failure:
        """The Failure for a handshake that has not come to its end; the connection is closed."""
        from muawrap.submission import explain

        trouble = explain.handshake(error, self.sock, at_once=self.smart_host.scheme == "submissions")
        self.close()  # QUIT must not go into half a handshake
        return self._no_tls(trouble)

    def auth(self, mechanism: sasl.Mechanism, *_: object) -> tuple[int, bytes]:  # type: ignore[override]
        """Authenticate by one mechanism; only 235 is success (RFC 4954, 4). Raises Failure."""
        self.stage = Stage.AUTH
        self._in_auth = True
        line = f"AUTH {mechanism.name}"
        first = "" if mechanism.initial is None else " " + (sasl.encode(mechanism.initial) or "=")
        if first and len(line + first) < COMMAND_LIMIT:
            reply = self.command(line + first, shown=f"{line} ***")
        else:
            reply = self.command(line)
        for _challenge in range(sasl.CHALLENGES):
            if reply.code != 334:
                break
            reply = self.command(self._response(mechanism, reply.lines[0]), shown="***")
        self._in_auth = reply.code == 334
        if reply.code != 235:
            raise self._not_authenticated(mechanism, reply)
        try:
            mechanism.accepted(" ".join(self._heard.lines))
        except Failure as failure:
            raise self.failure(failure.what, lead=failure.lead, advice=failure.advice) from failure
        self.mechanism = mechanism.name
        return reply.code, b""

    def _response(self, mechanism: sasl.Mechanism, challenge: str) -> str:
        """The answer to a challenge, in base64; where there is none the exchange is cancelled (RFC 4954, 4)."""
        try:
            return sasl.encode(mechanism.answer(sasl.decode(challenge)))
        except ValueError:
            self._cancel()
            raise self.failure("sent a challenge that is no base64") from None
        except Failure as failure:
            self._cancel()
            raise self.failure(failure.what, lead=failure.lead, advice=failure.advice) from failure

    def _cancel(self) -> None:
        """Say that no answer is going to come (RFC 4954, 4); what follows is a command again."""
        self.say("*")
        self._in_auth = False

    def _not_authenticated(self, mechanism: sasl.Mechanism, reply: Reply) -> Failure:
        """A login that was refused, with what the server said about it in a challenge."""
        refusal = self.refused(reply)
        if reply.kind in (4, 5):
            refusal.what = self._shown(mechanism.complaint)[:COMPLAINT]
            of_login = reply.code == 535 or (reply.kind == 5 and mechanism.complaint)  # others may be about anything
            if of_login and mechanism.advice and (not refusal.advice or "password" in refusal.advice):
                refusal.advice = mechanism.advice  # what we know of replies is about passwords
        return refusal

    def text(
        self,
        blocks: Iterator[bytes],
        before: Iterable[tuple[str, str]] = (),
        with_envelope: bool = False,
        after: Sequence[tuple[str, str]] = (),
        size: int = 0,
        verdicts: int = 1,
    ) -> None:
        """Send the text, the last block of which holds its end (RULES C3), in one piece with commands around it.

        `with_envelope`: MAIL and RCPT go before it, so that replies may come before all of it has left (RULES B6).
        `after` are those of the next message, and `size` is what -v tells of it. `verdicts` is how many replies it has:
        one, or with LMTP one for each recipient.

        A block in `timeouts.data` is the slowest that is borne: 1.4 KiB a second, as the times of RFC 5321 have it.
        Raises Failure.
        """
        self.stage = Stage.TEXT
        self._in_text = True
        seconds = self.smart_host.timeouts.data
        self._awaited += verdicts - bool(before)  # the text of DATA has replies of its own, that of BDAT none
        self._verdicts = verdicts
        block = self._encoded(before) + next(blocks)
        if self._verbose is not None:
            self._verbose.text(size)
        for following in blocks:
            self.send(block, seconds)
            self._tell_sent(block)
            self.hush()  # a server that refuses a large text early need not get all of it
            block = following
        if len(block) > TAIL and not with_envelope:
            self.send(block[:-TAIL], seconds)
            self._tell_sent(block[:-TAIL])
            block = block[-TAIL:]
        self.hush()
        if time.monotonic() >= self._end:
            raise self.failure("timed out")
        if self.before_end is not None:
            self.before_end()
        self._end = float("inf")  # timeouts.total ends here: the verdict is worth waiting for
        self.committed = True
        self.stage = Stage.VERDICT
        signals.committed(self.failure("interrupted by a signal"))
        self.send(block + self._encoded(after) if after else block, seconds)
        if self._verbose is not None:
            self._verbose.all_sent()

    def _tell_sent(self, block: bytes) -> None:
        if self._verbose is not None:
            self._verbose.sent(len(block))

    def verdict(self, more: bool = False) -> Reply:
        """Wait for the reply to the text (RULES C3); `more` has been asked for in the same flight. Raises Failure.

        A server that says more than it was asked may mean something else by its 2yz, such as a text that it believes to
        have ended early; then nobody knows. Two things show that: its kernel had not got the end of the text yet, or
        more replies are here. Only a goodbye may follow (RULES A5), and what is no reply is of no account.
        """
        self.stage = Stage.VERDICT
        reply = self.reply(self.smart_host.timeouts.final)
        if not more:
            self.confirm([reply])
        return reply

    def confirm(self, heard: Sequence[Reply]) -> None:
        """Whether these can be all replies to the text, as verdict() says. Raises Failure."""
        accepted = next((reply for reply in heard if reply.kind == 2), None)
        if accepted is not None and self._unacknowledged():
            raise self.failure(f'sent "{accepted}" before it had the whole text,')
        spare = self.spare()
        if spare is not None and (accepted is not None or spare.kind == 2) and spare.code not in GOODBYE:
            raise self.failure(f'sent "{accepted or heard[-1]}" and then "{spare}", which nobody asked for,')

    def _unacknowledged(self) -> bool:
        """Whether the server's kernel has not got all we sent, as far as ours knows (TCP_INFO in tcp(7))."""
        assert self.sock is not None
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, NOT_SENT.stop)
        except (OSError, AttributeError):  # a system that cannot tell
            return False
        return any(info[UNACKNOWLEDGED]) or any(info[NOT_SENT])

    def spare(self) -> Reply | None:
        """A reply that is here although nothing waits for one; trouble is none (RULES A5)."""
        with contextlib.suppress(Exception):
            return self.pending()
        return None

    def surplus(self, goes_on: bool = False) -> Reply | None:
        """A reply that nobody asked for: what comes before one that can be no other, which is asked for now.

        That is the goodbye, or where the connection goes on the answer to EHLO, which stands for RSET, too (RFC 5321,
        4.1.4). Trouble is the end of the connection.
        """
        with contextlib.suppress(Exception):
            self.say(f"EHLO {self._hostname or self._literal()}" if goes_on else "QUIT")
            reply = self.reply(GOODBYE_SECONDS)
            if goes_on and reply.code == 250 and replies.capabilities(reply).keywords:
                return None
            self.close()
            return None if reply.code in GOODBYE else reply
        self.close()
        return None

    def begin_again(self) -> None:
        """Another message follows on this connection."""
        total = self.smart_host.timeouts.total
        self._end = time.monotonic() + total if total else float("inf")
        self.committed = False
        self.stage = Stage.OFFER

    def reset(self) -> None:
        """Another message follows after one that was refused: hear all replies to it, then RSET. Raises Failure."""
        self.begin_again()
        while self._awaited > 0:
            self.reply()
        reply = self.command("RSET")
        if reply.code != 250:
            raise self.refused(reply)

    def turned(self) -> tuple[socket.socket, bytes]:
        """The socket, which is the caller's now, and what came behind the last reply: the server is the client from
        here on (RFC 2645, 5.2), over the same TLS."""
        assert self.sock is not None
        sock, self.sock = self.sock, None
        return sock, self._replies.rest()

    def leave(self) -> None:
        """QUIT, where a command may stand, without waiting for an answer; then close. This cannot fail (RULES A5)."""
        with contextlib.suppress(Exception, KeyboardInterrupt):
            if self.sock is not None and not (self._in_text or self._in_auth):
                self._tell(">>>", "QUIT")
                self.sock.settimeout(0)
                self.sock.send(b"QUIT\r\n")
        self.close()

    def close(self) -> None:
        """Close, whatever state the socket is in."""
        if self._verbose is not None:
            self._verbose.over()
        with contextlib.suppress(Exception):
            super().close()
