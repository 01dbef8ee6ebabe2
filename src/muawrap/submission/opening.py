"""What comes before the dialogue: the password had, and the connection begun without waiting for it."""

from __future__ import annotations

import os
import time

from muawrap.failure import Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import secrets
from muawrap.submission.dial import Dial

CA_LIMIT = 16 * 1024 * 1024  # octets; a bundle of all authorities there are has less than one million


class Opening:
    """One smart host about to be talked to; `failure` says why it cannot be.

    It is made before smtplib and ssl are loaded, so that the network works while they are.
    """

    def __init__(self, host: SmartHost) -> None:
        self.host = host
        total = host.timeouts.total
        self.end = time.monotonic() + total if total else float("inf")
        self.password = ""
        self.failure: Failure | None = None
        self.dial: Dial | None = None
        stage = Stage.AUTH
        try:
            self.password = secrets.password(host.auth) if host.auth.user else ""
            stage = Stage.TLS
            if host.tls.ca_file and host.tls.policy != "none" and not os.path.isdir(host.tls.ca_file):
                if os.path.exists(host.tls.ca_file) and not os.path.isfile(host.tls.ca_file):  # a fifo would hold us up
                    raise Failure(_cannot_use(host, "it is not a regular file"), advice="tls.ca_file names it")
                with open(host.tls.ca_file, "rb") as file:
                    if b"-----BEGIN " not in file.read(CA_LIMIT):
                        raise Failure(_cannot_use(host, "it holds no certificate"), advice="tls.ca_file names it")
        except Failure as failure:
            self.failure = Failure(failure.what, lead=failure.lead, stage=stage, host=str(host), advice=failure.advice)
        except OSError as error:
            what = _cannot_use(host, (error.strerror or str(error)).lower())
            self.failure = Failure(what, stage=stage, host=str(host), advice="tls.ca_file names it")
        else:
            self.dial = Dial(host, self.end)

    def take(self) -> Dial:
        """The connection under way, once; a new one after that."""
        dial, self.dial = self.dial or Dial(self.host, self.end), None
        return dial

    def close(self) -> None:
        """Give up a connection that nobody took."""
        if self.dial is not None:
            self.dial.close()


def _cannot_use(host: SmartHost, why: str) -> str:
    return f"cannot use the CA file {host.tls.ca_file}: {why}"
