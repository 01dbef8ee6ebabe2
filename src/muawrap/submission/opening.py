"""What comes before the dialogue: the password had, and the connection begun without waiting for it."""

from __future__ import annotations

import time

from muawrap.failure import Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import secrets
from muawrap.submission.dial import Dial

Known = dict[tuple[object, ...], str | Failure]
"""What became of looking for each secret. It may take half a minute, and a delivery may have many hosts."""


class Opening:
    """One smart host about to be talked to; `failure` says why it cannot be.

    It is made before smtplib and ssl are loaded, so that the network works while they are. Without `begin` the
    connection is begun when it is taken, for those who want to know how long it takes. `known` is what the hosts
    before have found out about secrets, and learns what this one finds out.
    """

    def __init__(self, host: SmartHost, begin: bool = True, known: Known | None = None) -> None:
        self.host = host
        total = host.timeouts.total
        self.end = time.monotonic() + total if total else float("inf")
        self.known: Known = {} if known is None else known
        self.password = self.token = ""
        self._looked = 0.0  # seconds that looking for secrets took
        self._is_open = False  # whether the host has had some of `timeouts.total`
        self.failure: Failure | None = None
        self.dial: Dial | None = None
        stage = Stage.AUTH
        try:
            self._find_secret()
            stage = Stage.TLS
            if (host.tls.ca_file or host.tls.client_cert) and host.tls.policy != "none":
                from muawrap.submission import certfiles

                certfiles.check(host.tls)
        except Failure as failure:
            self.failure = Failure(failure.what, lead=failure.lead, stage=stage, host=str(host), advice=failure.advice)
        else:
            self.dial = Dial(host, self.end) if begin else None
        self._is_open = True

    def _find_secret(self) -> None:
        """The password, or the token where nothing else can be used: it may take a while, or not be there."""
        auth = self.host.auth
        if secrets.needs_password(auth):
            self.password = self.find("password")
        elif secrets.needs_token(auth):
            self.token = self.find("token")

    def find(self, what: str) -> str:
        """The password or the token, within `timeouts.total`. Raises Failure, without stage and host."""
        auth = self.host.auth
        look, places = (secrets.token, auth.token) if what == "token" else (secrets.password, auth.password)
        names = self.names if any(place.form == "netrc" for place in places) else ()  # the others know no hosts
        key = (what, auth.user, places, names, self.host.timeouts.total)
        found = self.known.get(key)
        if found is None:
            began = time.monotonic()
            try:
                found = look(auth, self.names, self.end - began)
            except Failure as failure:
                found = failure
            ended = time.monotonic()
            self._looked += ended - began
            if ended < self.end or not self._is_open:  # otherwise the next host may have more time for it
                self.known[key] = found
        if isinstance(found, Failure):
            raise found
        return found

    def explain(self, failure: Failure) -> None:
        """Say so where it was the secret that took up most of `timeouts.total`, and not the host."""
        total = self.host.timeouts.total
        if total and time.monotonic() >= self.end and self._looked > total / 2:
            failure.advice = f"looking for the secret took {self._looked:.3g} s of timeouts.total"

    @property
    def names(self) -> tuple[str, ...]:
        """What the host is called: as its certificate may call it, where it was found by DNS."""
        return self.host.names or (self.host.host,)

    def take(self) -> Dial:
        """The connection under way, once; a new one after that."""
        dial, self.dial = self.dial or Dial(self.host, self.end), None
        return dial

    def close(self) -> None:
        """Give up a connection that nobody took."""
        if self.dial is not None:
            self.dial.close()
