"""A connection made by a SOCKS5 proxy, which looks the name up as well (RFC 1928, RFC 1929).

PySocks, the library of the field, connects by itself and waits for each step anew: it could neither be begun early nor
race the proxy's addresses nor keep to one deadline, and it loads logging.
"""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost, endpoint

VERSION, LOGIN_VERSION, CONNECT = 5, 1, 1
NO_LOGIN, BY_PASSWORD, NONE_ACCEPTED = 0, 2, 0xFF
IPV4, NAME, IPV6 = 1, 3, 4
LENGTHS = {IPV4: 4, IPV6: 16}


class Answer(NamedTuple):
    """What a reply code means, and what to do about it (RFC 1928, 6)."""

    what: str
    lead: str = TRY_AGAIN
    advice: str = ""


ANSWERS = {
    1: Answer("it failed, and does not say why"),
    2: Answer("its rules forbid that", REFUSED, "whoever runs the proxy decides which hosts it connects to"),
    3: Answer("the network cannot be reached"),
    4: Answer("the host cannot be reached", advice="look at the name of the smart host: the proxy looks it up"),
    5: Answer("connection refused", advice="is this the right port?"),
    6: Answer("the way is too long (TTL expired)"),
    7: Answer("it makes no connections", REFUSED, "proxy must name one that does"),
    8: Answer("it does not know this kind of address", REFUSED, "write the name of the smart host, not its address"),
}

_LOOK = "look at user and password in proxy"


class Proxy(NamedTuple):
    """A proxy and how to log in there; without a user there is no login. As a text it holds no secret."""

    host: str
    port: int
    user: str = ""
    password: str = ""

    def __str__(self) -> str:
        return endpoint(self.host, self.port)

    def __repr__(self) -> str:
        return f"Proxy({self})"


def proxy(url: str) -> Proxy:
    """The proxy of a URL that the configuration has found to be good; user and password stand there as they are."""
    login, _, where = url.partition("://")[2].rpartition("@")
    host, _, port = where.rstrip("/").rpartition(":")
    user, _, password = login.partition(":")
    return Proxy(host.strip("[]"), int(port), user, password)


def connect(sock: socket.socket, proxy: Proxy, host: SmartHost, deadline: float) -> None:
    """Have the proxy at the other end of a socket connect it to a smart host. Raises Failure.

    Nothing is read beyond the proxy's answer: what follows is the smart host's.
    """
    _Dialogue(sock, proxy, host, deadline).lead()


class _Dialogue:
    def __init__(self, sock: socket.socket, proxy: Proxy, host: SmartHost, deadline: float) -> None:
        self._sock = sock
        self._proxy = proxy
        self._host = host
        self._deadline = deadline
        self._asked = False  # to connect: from then on the time is the host's

    def lead(self) -> None:
        """All of it. Raises Failure."""
        self._greet()
        self._say(bytes((VERSION, CONNECT, 0)) + _address(self._host.host) + self._host.port.to_bytes(2, "big"))
        self._asked = True
        version, code, _, kind = self._hear(4)
        if version != VERSION:
            raise self._no_socks()
        if code:
            answer = ANSWERS.get(code, Answer(f"its code for that is {code}"))
            what = f"the proxy {self._proxy} made no connection: {answer.what}"
            raise self._failed(what, answer.lead, answer.advice)
        if kind not in (*LENGTHS, NAME):
            raise self._no_socks()
        self._hear((self._hear(1)[0] if kind == NAME else LENGTHS[kind]) + 2)  # the address it connects from

    def _greet(self) -> None:
        """Agree on a login, and log in (RFC 1928, 3; RFC 1929, 2)."""
        methods = (NO_LOGIN, BY_PASSWORD) if self._proxy.user else (NO_LOGIN,)
        self._say(bytes((VERSION, len(methods), *methods)))
        version, method = self._hear(2)
        if version != VERSION:
            raise self._no_socks()
        if method == NONE_ACCEPTED and not self._proxy.user:
            advice = 'proxy = "socks5://USER:PASSWORD@HOST:PORT"'
            raise self._failed(f"the proxy {self._proxy} wants a login", REFUSED, advice=advice)
        if method == NONE_ACCEPTED:
            what = f"the proxy {self._proxy} takes no login by password"
            raise self._failed(what, REFUSED, advice="leave user and password out of proxy")
        if method not in methods:
            raise self._no_socks()
        if method == BY_PASSWORD:
            words = (word.encode() for word in (self._proxy.user, self._proxy.password))
            self._say(bytes((LOGIN_VERSION,)) + b"".join(bytes((len(word),)) + word for word in words))
            if self._hear(2)[1]:
                raise self._failed(f"the proxy {self._proxy} refused the login", REFUSED, advice=_LOOK)

    def _say(self, octets: bytes) -> None:
        try:
            self._sock.settimeout(self._left())
            self._sock.sendall(octets)
        except OSError as error:
            raise self._lost(error) from error

    def _hear(self, count: int) -> bytes:
        """Exactly so many octets."""
        octets = b""
        try:
            while len(octets) < count:
                self._sock.settimeout(self._left())
                more = self._sock.recv(count - len(octets))
                if not more:
                    raise self._failed(f"the proxy {self._proxy} closed the connection")
                octets += more
        except OSError as error:
            raise self._lost(error) from error
        return octets

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _lost(self, error: OSError) -> Failure:
        if not isinstance(error, TimeoutError):
            why = (error.strerror or str(error)).lower()
            return self._failed(f"the proxy {self._proxy} broke the connection ({why})")
        seconds = f"{self._host.timeouts.connect:g} s"
        if self._asked:
            return self._failed(f"the proxy {self._proxy} made no connection within {seconds}")
        return self._failed(f"the proxy {self._proxy} was silent for {seconds}")

    def _no_socks(self) -> Failure:
        what = f"the proxy {self._proxy} sent what is no SOCKS5"
        return self._failed(what, REFUSED, advice="proxy must name a SOCKS5 proxy, and its port")

    def _failed(self, what: str, lead: str = TRY_AGAIN, advice: str = "") -> Failure:
        return Failure(what, lead=lead, stage=Stage.CONNECT, host=str(self._host), advice=advice)


def _address(host: str) -> bytes:
    """A host as RFC 1928 (5) has it: an address, or a name for the proxy to look up."""
    for kind, family in (IPV6, socket.AF_INET6), (IPV4, socket.AF_INET):
        try:
            return bytes((kind,)) + socket.inet_pton(family, host)
        except OSError:
            continue
    name = host.encode("ascii")
    return bytes((NAME, len(name))) + name
