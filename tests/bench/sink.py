"""A smart host that takes everything fast and keeps only counts, sizes and hashes.

    python -m tests.bench.sink CERTIFICATE.pem

The first line it prints is {"ports": [...]}: one in the clear, one that offers STARTTLS and then AUTH, one with TLS at
once. After that comes one line for each message, before its verdict goes out. It ends when its standard input does.
Whole blocks are hashed as they come: a text costs the same per octet at any size, and no octet is kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import sys
import threading

BLOCK = 64 * 1024  # octets asked of the kernel at once; more costs memory to be mapped for every block
LINE_LIMIT = 64 * 1024
PATIENCE = 60.0  # seconds; a client that is silent for longer has died
EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 2147483648", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES")
END = b"\r\n."
"""What the end of DATA and a doubled dot have in common: where it is not, a block needs no closer look."""


class Over(Exception):
    """The client is gone."""


class Digest:
    """Counts a text, and hashes what stands behind its header: clients may add to a header, never change a body."""

    def __init__(self) -> None:
        self.octets = 0
        self._head: bytearray | None = bytearray()
        self._hash = hashlib.sha256()

    def feed(self, octets: bytes | memoryview) -> None:
        self.octets += len(octets)
        if self._head is None:
            self._hash.update(octets)
            return
        begin = max(0, len(self._head) - 3)
        self._head += octets
        end = self._head.find(b"\r\n\r\n", begin)
        if end >= 0:
            self._hash.update(self._head[end + 4 :])
            self._head = None

    @property
    def sha256(self) -> str:
        """Of the body; empty where no empty line ended the header."""
        return "" if self._head is not None else self._hash.hexdigest()


class Undotted:
    """Text as DATA sends it, un-dotted into a Digest; feed() gives what stood behind the end, or None before it."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._held = b"\r\n"  # two octets that have been passed on (a line begins), then those that may begin the end

    def feed(self, octets: bytes | memoryview) -> bytes | None:
        data = self._held + bytes(octets)
        dotted = END in data
        end = data.find(b"\r\n.\r\n") if dotted else -1
        if end >= 0:
            self._pass_on(data[: end + 2], dotted)
            return data[end + 5 :]
        cut = max(2, len(data) - 4)
        self._pass_on(data[:cut], dotted)
        self._held = data[cut - 2 :]
        return None

    def _pass_on(self, data: bytes, dotted: bool) -> None:
        if dotted:
            self._digest.feed(data.replace(END, b"\r\n")[2:])
        else:
            self._digest.feed(memoryview(data)[2:])


class Session:
    """One connection, from the greeting to its end."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, mode: str) -> None:
        self._sock = sock
        self._context = context
        self._mode = mode
        self._buffer = bytearray()
        self._at = 0  # what stands before it in the buffer has been read
        self._answers: list[bytes] = []
        self._block = bytearray(BLOCK)
        self._secure = False
        self._user = ""
        self._begin()

    def _begin(self) -> None:
        self._recipients = 0
        self._chunks = 0
        self._digest = Digest()

    def run(self) -> None:
        try:
            self._sock.settimeout(PATIENCE)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._mode == "tls":
                self._encrypt()
            self._say("220 sink.example ESMTP")
            while self._command(self._line()):
                pass
            self._flush()
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.unwrap()
        except (Over, OSError, ValueError):
            pass
        finally:
            self._sock.close()

    # -- octets

    def _receive(self) -> memoryview:
        """The next octets of the client; what was to be said is said first. Raises Over."""
        self._flush()
        count = self._sock.recv_into(self._block)
        if not count:
            raise Over
        return memoryview(self._block)[:count]

    def _line(self) -> bytes:
        while True:
            end = self._buffer.find(b"\n", self._at)
            if end >= 0:
                line = bytes(self._buffer[self._at : end])
                self._at = end + 1
                return line.rstrip(b"\r")
            del self._buffer[: self._at]
            self._at = 0
            if len(self._buffer) > LINE_LIMIT:
                raise Over
            self._buffer += self._receive()

    def _rest(self) -> bytes:
        """What has been received and not yet read, taken out of the buffer."""
        rest = bytes(self._buffer[self._at :])
        self._buffer.clear()
        self._at = 0
        return rest

    def _say(self, *lines: str) -> None:
        """Answers wait until the client has no more to say, so that a pipelined group gets one packet."""
        self._answers += [line.encode("ascii") + b"\r\n" for line in lines]

    def _flush(self) -> None:
        if self._answers:
            self._sock.sendall(b"".join(self._answers))
            self._answers = []

    def _encrypt(self) -> None:
        self._flush()
        self._rest()
        self._sock = self._context.wrap_socket(self._sock, server_side=True)
        self._secure = True

    # -- commands

    def _command(self, line: bytes) -> bool:
        """Answer one command; False after the last."""
        verb, _, rest = line.partition(b" ")
        name = verb.upper().decode("ascii", "replace")
        if name == "RCPT":
            self._recipients += 1
            self._say("250 2.1.5 ok")
        elif name == "MAIL":
            self._begin()
            self._say("250 2.1.0 ok")
        elif name in ("EHLO", "HELO"):
            self._greet(name)
        elif name == "STARTTLS":
            self._say("220 2.0.0 go ahead")
            self._encrypt()
        elif name == "AUTH":
            self._authenticate(rest.split())
        elif name == "DATA":
            self._data()
        elif name == "BDAT":
            self._bdat(rest.split())
        elif name == "QUIT":
            self._say("221 2.0.0 bye")
        else:
            self._say("250 2.0.0 ok")
        return name != "QUIT"

    def _greet(self, name: str) -> None:
        lines = ["sink.example"]
        if name == "EHLO":
            lines += EXTENSIONS
            if self._mode != "plain":
                lines.append("AUTH PLAIN LOGIN" if self._secure else "STARTTLS")
        self._say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")

    def _authenticate(self, words: list[bytes]) -> None:
        """PLAIN and LOGIN, with an initial response or without; every password is good."""
        answers = words[1:2]
        if words[0].upper() == b"PLAIN":
            answers = answers or [self._asked("")]
            self._user = base64.b64decode(answers[0]).split(b"\0")[1].decode()
        else:
            answers = answers or [self._asked("VXNlcm5hbWU6")]
            self._asked("UGFzc3dvcmQ6")
            self._user = base64.b64decode(answers[0]).decode()
        self._say("235 2.7.0 welcome")

    def _asked(self, challenge: str) -> bytes:
        self._say(f"334 {challenge}")
        return self._line()

    def _data(self) -> None:
        self._say("354 go ahead")
        text = Undotted(self._digest)
        rest = text.feed(self._rest())
        while rest is None:
            rest = text.feed(self._receive())
        self._buffer += rest
        self._verdict("DATA")

    def _bdat(self, words: list[bytes]) -> None:
        left = int(words[0])
        self._chunks += 1
        had = self._rest()
        self._digest.feed(had[:left])
        self._buffer += had[left:]
        left -= min(left, len(had))
        while left:
            self._flush()
            count = self._sock.recv_into(self._block, min(left, BLOCK))
            if not count:
                raise Over
            self._digest.feed(memoryview(self._block)[:count])
            left -= count
        if words[1:2] and words[1].upper() == b"LAST":
            self._verdict("BDAT")
        else:
            self._say("250 2.0.0 ok")

    def _verdict(self, by: str) -> None:
        tell(
            by=by,
            chunks=self._chunks,
            recipients=self._recipients,
            octets=self._digest.octets,
            sha256=self._digest.sha256,
            tls=self._secure,
            user=self._user,
        )
        self._say("250 2.0.0 taken")


def tell(**facts: object) -> None:
    """One line to whoever runs us."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def listen(context: ssl.SSLContext, mode: str) -> int:
    """Serve a free port of the loopback from now on."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=Session(sock, context, mode).run, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    context.num_tickets = 0  # nobody waits for them, yet a slow client would be counted a flight more
    tell(ports=[listen(context, mode) for mode in ("plain", "starttls", "tls")])
    sys.stdin.read()


if __name__ == "__main__":
    main()
