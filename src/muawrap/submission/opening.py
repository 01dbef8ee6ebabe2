"""What comes before the dialogue: the password had, and the connection begun without waiting for it."""

from __future__ import annotations

import time

from muawrap.failure import Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import secrets
from muawrap.submission.dial import Dial


class Opening:
    """One smart host about to be talked to; `failure` says why it cannot be.

    It is made before smtplib and ssl are loaded, so that the network works while they are. Without `begin` the
    connection is begun when it is taken, for those who want to know how long it takes.
    """

    def __init__(self, host: SmartHost, begin: bool = True) -> None:
        self.host = host
        total = host.timeouts.total
        self.end = time.monotonic() + total if total else float("inf")
        self.password = self.token = ""
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

    def _find_secret(self) -> None:
        """The password, or the token where nothing else can be used: it may take a while, or not be there."""
        auth = self.host.auth
        if secrets.needs_password(auth):
            self.password = secrets.password(auth, self.names)
        elif auth.token:
            self.token = secrets.token(auth, self.names)

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
