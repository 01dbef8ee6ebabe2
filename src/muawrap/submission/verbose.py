"""What -v tells of one connection: the dialogue, the address reached, TLS, and how far the text has come."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable

from muawrap import mail
from muawrap.submission import certificate

LARGE = 1 << 20
"""Octets of a text beyond which one may want to see that something happens."""
WIDTH = 20  # of the bar


class Verbose:
    """Tells a Trace; trouble with that changes no outcome. `masked` is a text without what must not be told."""

    def __init__(self, trace: Callable[[str, str], None], masked: Callable[[str], str]) -> None:
        self._trace = trace
        self._masked = masked
        self._size = self._sent = 0  # of a large text that is on its way

    def line(self, mark: str, line: str) -> None:
        """Of the dialogue; where a reply comes, the text is over."""
        if mark == "<<<":
            self.over()
        with contextlib.suppress(Exception):
            self._trace(mark, line)

    def connected(self, sock: socket.socket) -> None:
        """By which address, of all those the host may have."""
        with contextlib.suppress(Exception):
            self._trace("---", f"connected to {endpoint(sock.getpeername())}")

    def encrypted(self, sock: ssl.SSLSocket, name: str) -> None:
        """What was agreed, and whom the certificate is for."""
        with contextlib.suppress(Exception):
            cipher = sock.cipher()
            shown = sock.getpeercert() or next(iter(certificate.chain(sock)), {})
            words = [name, cipher[0] if cipher else "", described(shown, time.time())]
            self._trace("---", self._masked(", ".join(filter(None, words))))

    def text(self, size: int) -> None:
        """The text begins; nothing of it is ever shown."""
        self.line(">>>", f"[{size:,} octets of text]")
        self._size, self._sent = (size if size > LARGE else 0), 0
        self._show()

    def sent(self, octets: int) -> None:
        """So much more of it has been handed to the kernel, doubled dots and commands included."""
        self._sent += octets
        self._show()

    def all_sent(self) -> None:
        """And now its end."""
        self._sent = self._size
        self._show(", waiting for the verdict")

    def over(self) -> None:
        """The text has been answered, or the connection is gone."""
        if self._size:
            self._size = 0
            with contextlib.suppress(Exception):
                self._trace("...", "")

    def _show(self, more: str = "") -> None:
        if self._size:
            with contextlib.suppress(Exception):
                self._trace("...", bar(min(self._sent, self._size), self._size) + more)


def endpoint(name: object) -> str:
    """An address as getpeername() gives it, in words."""
    return mail.endpoint(str(name[0]), name[1]) if isinstance(name, tuple) else str(name)


def described(shown: certificate.Certificate, now: float) -> str:
    """Names, issuer, and how long it is still good; "" where there is none."""
    if not shown:
        return ""
    words = [f"certificate for {certificate.names(shown) or 'no host'}"]
    issuer = certificate.issuer(shown)
    if issuer:
        words.append(f"issued by {issuer}")
    if "notAfter" in shown:
        days = certificate.days_left(shown, now)
        words.append(f"{days:,} day{'' if days == 1 else 's'} left" if days >= 0 else "expired")
    return ", ".join(words)


def bar(sent: int, size: int) -> str:
    """How much of a text has left."""
    return f"[{'#' * (sent * WIDTH // size):.<{WIDTH}}] {sent * 100 // size:3}%, {sent:,} of {size:,} octets"
