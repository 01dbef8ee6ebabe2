"""A Failure sorted by its reach: the host's, this message's, some recipients', or nobody knows; and its name in rules.

    connect, greeting, EHLO, TLS, AUTH; 421 or 221 anywhere         HOST         nothing else goes there now
    too large for the host; 4yz or 5yz to MAIL, DATA or the text    MESSAGE      the next message may go
    4yz or 5yz to RCPT                                              RECIPIENTS   the others get it
    lost, timed out or garbled in the middle of a message           BROKEN       the next one shows whose trouble it is
    the end of the text left, and no verdict came                   UNCERTAIN    as BROKEN, and not simply sent again

(INTERMITTENT 3.4, 6.4.) What is permanent about a host is not permanent for the mail: hosts get mended.
"""

from __future__ import annotations

import errno
import socket
from enum import Enum

from muawrap import failure as failures
from muawrap.failure import REFUSED, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission.connection import GOODBYE
from muawrap.submission.deliver import BEFORE_MAIL


class Scope(Enum):
    """Whom a failure is about."""

    HOST = "host"
    MESSAGE = "message"
    RECIPIENTS = "recipients"
    BROKEN = "broken"
    UNCERTAIN = "uncertain"


def scope(failure: Failure) -> Scope:
    """Of several hosts that were tried in turn, the one that was heard about this message counts."""
    if failure.lead == failures.UNCERTAIN:
        return Scope.UNCERTAIN
    if failure.reasons:
        if failure.stage is Stage.RCPT or failure.shares is not None:
            return Scope.RECIPIENTS
        found = {scope(reason) for reason in failure.reasons}
        if found & {Scope.MESSAGE, Scope.RECIPIENTS}:
            return Scope.MESSAGE
        return Scope.BROKEN if Scope.BROKEN in found else Scope.HOST
    reply = failure.reply
    if reply is not None and reply.code in GOODBYE:
        return Scope.HOST
    if failure.stage is Stage.OFFER:
        return Scope.MESSAGE if reply is None and failure.lead == REFUSED else Scope.HOST
    if failure.stage in BEFORE_MAIL:
        return Scope.HOST
    if failure.stage is None or reply is None or reply.kind not in (4, 5):
        return Scope.BROKEN
    return Scope.RECIPIENTS if failure.stage is Stage.RCPT else Scope.MESSAGE


_BY_REPLY = {
    Stage.MAIL: "mail",
    Stage.RCPT: "rcpt",
    Stage.DATA: "data",
    Stage.TEXT: "data",
    Stage.VERDICT: "data",
}
_BY_STAGE = {Stage.STARTTLS: "tls_required", Stage.TLS: "tls_required", Stage.AUTH: "auth_failed"}
_BY_ERRNO = {errno.ECONNREFUSED: "refused_A", errno.ETIMEDOUT: "timeout_connect_A"}


def error_name(failure: Failure) -> str:
    """What retry rules call it, as special as they know it; "" for what only "*" covers (INTERMITTENT 3.4)."""
    if failure.reasons:
        return error_name(failure.reasons[0])
    stage, reply, cause = failure.stage, failure.reply, failure.__cause__
    if stage is Stage.CONNECT:
        if isinstance(cause, (socket.gaierror, UnicodeError)):
            return "lookup"
        return _BY_ERRNO.get(cause.errno or 0, "") if isinstance(cause, OSError) else ""
    if stage in _BY_STAGE:
        return _BY_STAGE[stage]
    if reply is not None:
        return f"{_BY_REPLY[stage]}_{reply.code}" if stage in _BY_REPLY and reply.kind == 4 else ""
    if isinstance(cause, TimeoutError):
        waited = stage in (Stage.MAIL, Stage.RCPT, Stage.VERDICT)  # the others are the host's
        return f"{_BY_REPLY[stage]}_4xx" if stage is not None and waited else "timeout_A"
    return "" if stage in (None, Stage.OFFER) else "data_4xx" if stage is Stage.VERDICT else "lost_connection"


def host_name(failure: Failure, hosts: tuple[SmartHost, ...]) -> str:
    """The host a failure is about, as rules know it: its name without a port; else the first there is."""
    if failure.reasons:
        return host_name(failure.reasons[0], hosts)
    where = failure.host.partition(" ")[0]  # without how it was found
    name, _, port = where.rpartition(":")
    return (name if port.isdigit() else where).strip("[]") or (hosts[0].host if hosts else "")
