"""A server without a thread: octets written down beforehand, and a socket that brings them when their time has come."""

from __future__ import annotations

import contextlib
import re
import select
import socket
from typing import Any, NamedTuple

from muawrap.mail import SmartHost
from muawrap.submission.dial import Dial
from muawrap.submission.opening import Opening

# What stands between two pieces of a script; none of them is part of a character in UTF-8.
AFTER_SEND, WHEN_AWAITED, SILENCE, RESET = b"\xff", b"\xfe", b"\xfd", b"\xfc"

LINE_LIMIT, LINES_LIMIT = 4096, 100  # RELIABILITY S1
_CUT = re.compile(rb"([\xfc-\xff])")
# RFC 5321, 4.2, as one expression: lines of one code, "-" after it in all but the last; LF alone is forgiven.
_REPLY = re.compile(rb"([2-5][0-9][0-9])(?:-[^\0\n]*\n\1)*(?: [^\0\n]*)?\r?\n")


class Said(NamedTuple):
    """A complete reply: its code, and where it ends."""

    code: int
    end: int

    @property
    def kind(self) -> int:
        return self.code // 100


def replies_in(octets: bytes, at: int = 0) -> list[Said]:
    """The replies that octets begin with, up to what is none; a second opinion beside muawrap.submission.replies."""
    found = []
    while match := _REPLY.match(octets, at):
        lines = match[0].split(b"\n")[:-1]
        if len(lines) > LINES_LIMIT or any(len(line.removesuffix(b"\r")) > LINE_LIMIT for line in lines):
            break
        at = match.end()
        found.append(Said(int(match[1]), at))
    return found


class Wired(socket.socket):
    """Our end of a connection to a server that follows a script and never makes anybody wait.

    The first piece is there from the beginning. One behind AFTER_SEND comes when something has been sent, one behind
    WHEN_AWAITED when somebody waits for it; at SILENCE the wait times out, at RESET the connection breaks, and at the
    end of the script the server closes.
    """

    def __init__(self, script: bytes, mouthful: int = 0, hesitant: bool = False) -> None:
        """`mouthful`: octets sent or received at once, 0 for all; `hesitant`: every second send would block."""
        ours, self.theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        first, *others = _CUT.split(script)
        self.pieces = list(zip(others[::2], others[1::2], strict=True))
        self.mouthful = mouthful
        self.hesitant = hesitant
        self.hesitates = False
        self.said = bytearray()  # by the client, as the kernel took it
        self.heard = bytearray()  # by the client, or there to be heard
        self.offers: list[tuple[bytes, int]] = []  # all that was to leave with each send, and len(heard) before it
        self._write(first)

    def _write(self, octets: bytes) -> None:
        self.heard += octets
        self.theirs.sendall(octets)

    def _next(self, *when: bytes) -> None:
        """The next piece, where it is due. Raises what its mark stands for."""
        if self.pieces and self.pieces[0][0] in when:
            mark, octets = self.pieces.pop(0)
            self._write(octets)
            if mark == SILENCE:
                raise TimeoutError
            if mark == RESET:
                self.pieces.clear()
                raise ConnectionResetError(104, "Connection reset by peer")

    def send(self, data: Any, flags: int = 0, /) -> int:
        self.offers.append((bytes(self.said) + bytes(data), len(self.heard)))
        self.hesitates = self.hesitant and not self.hesitates
        if self.hesitates:
            raise BlockingIOError
        taken = super().send(data[: self.mouthful or None], flags)
        self.said += data[:taken]
        self.theirs.recv(taken)
        self._next(AFTER_SEND, RESET)
        return taken

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if self.gettimeout() and not self._readable():
            if self.pieces:
                self._next(AFTER_SEND, WHEN_AWAITED, SILENCE, RESET)
            if not self._readable():
                if self.pieces:
                    return self.recv(bufsize, flags)
                self.theirs.shutdown(socket.SHUT_WR)
        return super().recv(min(bufsize, self.mouthful or bufsize), flags)

    def _readable(self) -> bool:
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return bool(poll.poll(0))

    def detach(self) -> int:
        """TLS takes the descriptor over, and the script is over, too: what is left of it is all there is."""
        with contextlib.suppress(OSError):
            self._write(b"".join(octets for _, octets in self.pieces))
            self.theirs.shutdown(socket.SHUT_WR)
        self.pieces.clear()
        return super().detach()

    def end(self) -> None:
        self.theirs.close()
        self.close()


class _Dialled(Dial):
    """A connection that is there already."""

    proxy = None

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def connected(self) -> socket.socket:
        return self.sock

    def close(self) -> None:
        self.sock.close()


class WiredOpening(Opening):
    """The first smart host of a delivery, reached by these sockets in turn."""

    def __init__(self, host: SmartHost, sockets: list[Wired], password: str = "") -> None:
        self.host = host
        self.end = float("inf")
        self.known = {}
        self.password, self.token = password, ""
        self.failure = None
        self.dial = None
        self.sockets = sockets

    def take(self) -> Dial:
        return _Dialled(self.sockets.pop(0))
