"""One endpoint tried with everything but MAIL: what was reached, what it offers, and how long that took."""

from __future__ import annotations

import contextlib
import ssl
import time
from typing import Any, NamedTuple

from muawrap.admin.endpoints import Endpoint
from muawrap.failure import Failure, Stage, unexpected
from muawrap.mail import SmartHost
from muawrap.submission import certificate, verbose
from muawrap.submission.certificate import Facts
from muawrap.submission.connection import Connection, Trace
from muawrap.submission.dial import Dial
from muawrap.submission.opening import Opening
from muawrap.submission.ready import ready
from muawrap.submission.replies import Capabilities

SOON = 14
"""Days before its end from which a certificate is worth a word; those who renew by themselves do it at 30."""


class Finding(NamedTuple):
    """What is known of an endpoint; what was not reached is None or empty."""

    endpoint: Endpoint
    failure: Failure | None = None
    address: str = ""  # connected to, with its port; of a unix socket its path
    tried: tuple[str, ...] = ()  # addresses that could not be connected
    connect_seconds: float | None = None  # its name looked up, too
    tls_seconds: float | None = None  # the handshake
    facts: Facts | None = None  # without a version where the handshake failed on the certificate
    unverified: str = ""  # why TLS is unverified or missing, where the host is used all the same
    offers: Capabilities | None = None  # of the latest EHLO
    mechanism: str = ""

    @property
    def is_good(self) -> bool:
        """Whether MAIL could follow."""
        return self.failure is None

    @property
    def warning(self) -> str:
        """What is going to be wrong soon."""
        if self.failure is not None or self.facts is None or self.facts.how == "unverified":
            return ""
        days = self.facts.days_left
        if days is None or days >= SOON:
            return ""
        if days < 0:
            return "the certificate has expired"
        return "the certificate ends " + (f"in {days} day{'s' if days > 1 else ''}" if days else "within a day")


class Watched(Connection):
    """A connection that remembers what it has reached."""

    def __init__(self, host: SmartHost, hostname: str, trace: Trace | None, end: float) -> None:
        super().__init__(host, hostname, trace, end)
        self.address = ""
        self.tried: tuple[str, ...] = ()
        self.connect_seconds: float | None = None
        self.tls_seconds: float | None = None
        self.facts: Facts | None = None
        self.no_tls: Failure | None = None
        self.offers: Capabilities | None = None

    def connect(self, *_: object, dial: Dial | None = None) -> tuple[int, bytes]:
        begin = time.monotonic()
        try:
            done = super().connect(dial=dial)
        finally:
            self.tried = dial.tried if dial is not None else ()
        self.connect_seconds = time.monotonic() - begin
        with contextlib.suppress(OSError):  # reset at once
            assert self.sock is not None
            self.address = verbose.endpoint(self.sock.getpeername())
        return done

    def failure(self, what: str = "", **fields: Any) -> Failure:
        made = super().failure(what, **fields)
        if made.stage is Stage.TLS:  # the server may go before the handshake, within it, and behind it
            self.no_tls, self.offers = made, None
        return made

    def handshake(self, verified: bool = True) -> None:
        self.offers = None  # what was told in the clear could be anybody's (RFC 3207, 4.2)
        begin = time.monotonic()
        super().handshake(verified)
        self.tls_seconds = time.monotonic() - begin
        self.facts = self._facts()

    def no_handshake(self, error: ssl.SSLError | ValueError) -> Failure:
        if isinstance(error, ssl.SSLCertVerificationError):
            facts = self._facts()  # of what the server has shown; no TLS has come of it
            self.facts = facts and facts._replace(version="", cipher="")
        return super().no_handshake(error)

    def _facts(self) -> Facts | None:
        facts = certificate.facts(self.sock, self.smart_host, self.verified)
        if facts is None:
            return None
        # As with replies: whatever a server shows may be the password of another one.
        return facts._replace(subject=self._shown(facts.subject), issuer=self._shown(facts.issuer))

    def ehlo(self, name: str = "") -> tuple[int, bytes]:
        done = super().ehlo(name)
        self.offers = self.capabilities
        return done


def tried(endpoint: Endpoint, hostname: str, trace: Trace | None = None) -> Finding:
    """Connect, TLS and AUTH as a delivery would; then QUIT."""
    if endpoint.failure is not None:
        return Finding(endpoint, endpoint.failure)
    made: list[Watched] = []

    def watched(host: SmartHost, hostname: str, trace: Trace | None, end: float) -> Watched:
        made.append(Watched(host, hostname, trace, end))
        return made[-1]

    failure = None
    try:
        ready(Opening(endpoint.host, begin=False), hostname, trace, watched).leave()
    except Exception as error:
        failure = unexpected(error)
    if not made:
        return Finding(endpoint, failure)
    last = next((one for one in reversed(made) if one.address), made[-1])
    lacked = next((one.no_tls for one in made if one.no_tls is not None and one is not last), None)
    return Finding(
        endpoint,
        failure,
        last.address,
        last.tried,
        last.connect_seconds,
        last.tls_seconds,
        last.facts,
        lacked.what if lacked is not None else "",
        last.offers,
        last.mechanism,
    )
