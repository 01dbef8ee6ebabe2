"""Each smart host in turn, until one gives a verdict: a Receipt, or the Failure that ended it."""

from __future__ import annotations

import re
import ssl
import time

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Receipt, Recipient, Reply, SmartHost, Transaction, Way
from muawrap.submission import sasl, secrets, tls, wire
from muawrap.submission.connection import Connection, Trace

BEFORE_MAIL = (Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH)
"""Stages whose troubles are the host's own, never a verdict on the message (RULES C1)."""

_TLS_IS_NEEDED = "AUTH goes over verified TLS only: use submissions:// or submission://, or auth.allow_plaintext"


def deliver(transaction: Transaction, trace: Trace | None = None) -> Receipt:
    """Hand the message to the first smart host that takes it (RULES C). Raises Failure."""
    failures: list[Failure] = []
    for way in transaction.ways:
        try:
            return _degraded(_one(transaction, way, trace), failures)
        except Failure as failure:
            if is_final(failure, transaction.tempfail):
                raise
            failures.append(failure)
    if transaction.dial_delay and all(failure.stage is Stage.CONNECT for failure in failures):
        # The line may still be coming up: once more, and never after a connection (RULES C6).
        time.sleep(transaction.dial_delay)
        return deliver(transaction._replace(dial_delay=0), trace)
    raise _summary(failures)


def is_final(failure: Failure, tempfail: str) -> bool:
    """Whether no other host may be tried: a verdict on the message, or an end of message that is on its way."""
    if failure.lead == UNCERTAIN or failure.stage is Stage.VERDICT:
        return True
    if failure.stage in BEFORE_MAIL or failure.reply is None or failure.reply.kind not in (4, 5):
        return False
    return not (tempfail == "next-host" and failure.reply.kind == 4)


def _degraded(receipt: Receipt, failures: list[Failure]) -> Receipt:
    return receipt._replace(degraded=tuple(failure.sentence() for failure in failures))


def _summary(failures: list[Failure]) -> Failure:
    """Each host's own reason, in order (RULES C7). What may pass at one host may pass."""
    if len(failures) == 1:
        return failures[0]
    lead = TRY_AGAIN if any(failure.lead == TRY_AGAIN for failure in failures) else REFUSED
    advice = next((failure.advice for failure in failures if failure.advice and failure.lead == lead), "")
    return Failure("no smart host took the message", lead=lead, reasons=tuple(failures), advice=advice)


def _one(transaction: Transaction, way: Way, trace: Trace | None) -> Receipt:
    """The whole dialogue with one smart host. Raises Failure."""
    host = way.host
    total = host.timeouts.total
    end = time.monotonic() + total if total else float("inf")
    password = _at_home(host)
    connection = ready(way, transaction.hostname, password, trace, end)
    try:
        _fits(connection, transaction, way)
        reply = _transaction(connection, transaction, way)
    except Failure:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not connection.committed:
            raise
        bug = f"internal error: {type(error).__name__}: {error}"
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else bug
        raise connection.failure(what) from error
    finally:
        connection.leave()
    return Receipt(
        host=str(host),
        sender=way.sender,
        tls=connection.tls_name,
        user=host.auth.user,
        size=wire.size(way.header, transaction.body),
        reply=str(reply),
        rewritten=way.rewritten,
    )


def _at_home(host: SmartHost) -> str:
    """The password, "" where none is needed; and whether the CA file is good, before anybody is called."""
    stage = Stage.TLS
    try:
        if host.tls.ca_file and host.tls.policy != "none":
            tls.context(host, verified=True)
        stage = Stage.AUTH
        return secrets.password(host.auth) if host.auth.user else ""
    except Failure as failure:
        what, lead, advice = failure.what, failure.lead, failure.advice
        raise Failure(what, lead=lead, stage=stage, host=str(host), advice=advice) from failure


def _attempts(host: SmartHost) -> tuple[bool | None, ...]:
    """TLS as it is tried, each on a new connection: verified, encrypted only, none (muawrap.toml(5), tls.policy)."""
    if host.tls.policy == "none":
        return (None,)
    if host.tls.policy == "required" or (host.auth.user and not host.auth.allow_plaintext):
        return (True,)
    return (True, False) if host.scheme == "submissions" else (True, False, None)


def ready(way: Way, hostname: str, password: str, trace: Trace | None, end: float) -> Connection:
    """A connection that stands where MAIL may follow: TLS by the policy, AUTH where a user is set. Raises Failure."""
    host = way.host
    at_once = host.scheme == "submissions"
    broken = Failure("no attempt was made")
    for secure in _attempts(host):
        if secure is False and not isinstance(broken.__cause__, ssl.SSLCertVerificationError):
            continue  # it was not the certificate that stood in the way
        connection = Connection(host, hostname, trace, end)
        try:
            connection.connect()
            if at_once:
                connection.handshake(bool(secure))
            connection.greeting()
            connection.ehlo()
            if not at_once and secure is not None:
                _starttls(connection, secure)
            _authenticate(connection, password)
            return connection
        except BaseException as error:
            connection.leave()
            if isinstance(error, Failure) and error.stage is Stage.CONNECT and broken.stage is not None:
                raise broken from error  # the host has been connected, whatever became of it since (RULES C6)
            if not isinstance(error, Failure) or error.stage is not Stage.TLS:
                raise
            broken = error
    raise broken


def _starttls(connection: Connection, verified: bool) -> None:
    required = connection.smart_host.tls.policy == "required"
    if not connection.capabilities.offers("STARTTLS"):
        if required:
            connection.stage = Stage.STARTTLS
            raise connection.failure(
                "the server does not offer TLS",
                lead=REFUSED,
                advice="submissions:// is TLS at once; tls.policy decides",
            )
        return
    try:
        connection.starttls(verified=verified)
    except Failure as failure:
        if required or failure.reply is None or failure.reply.code == 421:
            raise
        return  # offered and then refused is not offered, and the dialogue stands where it stood (RFC 3207, 4)
    connection.ehlo()


def _authenticate(connection: Connection, password: str) -> None:
    auth = connection.smart_host.auth
    if not auth.user:
        return
    connection.stage = Stage.AUTH
    if not connection.verified and not auth.allow_plaintext:
        what = f"the connection is not protected (TLS: {connection.tls_name})"
        raise connection.failure(what, lead=REFUSED, advice=_TLS_IS_NEEDED)
    offered = connection.capabilities.mechanisms
    name = sasl.choose(offered, auth.mechanisms)
    if not name:
        wanted = " or ".join(auth.mechanisms or sasl.BY_DEFAULT)
        what = f"AUTH {' '.join(offered)}, but not {wanted}" if offered else "no AUTH"
        raise connection.failure(f"the server offers {what}", lead=REFUSED)
    connection.auth(sasl.mechanism(name, auth.user, password))


def _fits(connection: Connection, transaction: Transaction, way: Way) -> None:
    """Whether this host can take this message at all (RULES C1). Raises Failure."""
    connection.stage = Stage.EHLO
    connection.hush()  # a 421 that is there before MAIL is no verdict on the message
    limit = connection.capabilities.size_limit
    size = wire.size(way.header, transaction.body)
    if limit and size > limit:
        raise connection.failure(f"the message has {size} octets, the host takes {limit}", lead=REFUSED)
    if transaction.utf8 and not connection.capabilities.offers("SMTPUTF8"):
        raise connection.failure("the host does not take addresses beyond ASCII (SMTPUTF8)", lead=REFUSED)


def _transaction(connection: Connection, transaction: Transaction, way: Way) -> Reply:
    """MAIL, every RCPT, DATA, the text: one of each (RULES B1, B2). Raises Failure."""
    connection.hide(*_hidden(transaction.recipients))
    connection.stage = Stage.MAIL
    reply = connection.command(f"MAIL FROM:<{way.sender}>{_mail_parameters(connection, transaction, way)}")
    if reply.kind != 2:
        raise connection.refused(reply)
    connection.stage = Stage.RCPT
    notify = f" NOTIFY={transaction.notify}" if transaction.notify and connection.capabilities.offers("DSN") else ""
    refusals = []
    for recipient in transaction.recipients:
        try:
            reply = connection.command(
                f"RCPT TO:<{recipient.address}>{notify}", shown=f"RCPT TO:{recipient.shown}{notify}"
            )
            if reply.kind == 2:
                continue
            failure = connection.refused(reply, recipient.shown)
            if reply.kind not in (4, 5):
                raise failure
            refusals.append(failure)
        except Failure:
            if not refusals:
                raise
            break  # one recipient has been refused already, and that is the verdict
        if reply.code == 421:  # the server is leaving
            break
    if refusals:
        raise _refused_recipients(refusals)
    connection.stage = Stage.DATA
    reply = connection.command("DATA")
    if reply.code != 354:
        raise connection.refused(reply)
    reply = connection.text(wire.with_dots(wire.text(way.header, transaction.body)))
    if reply.kind != 2:
        raise connection.refused(reply)
    return reply


def _mail_parameters(connection: Connection, transaction: Transaction, way: Way) -> str:
    """SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET and ENVID (RFC 3461), each where it is offered."""
    offered = connection.capabilities
    eight_bit = transaction.body.eight_bit or not way.header.isascii()
    parameters = [
        ("SIZE", f"SIZE={wire.size(way.header, transaction.body)}"),
        ("8BITMIME", "BODY=8BITMIME" if eight_bit else ""),
        ("SMTPUTF8", "SMTPUTF8" if transaction.utf8 else ""),
        ("DSN", f"RET={transaction.returns}" if transaction.returns else ""),
        ("DSN", f"ENVID={transaction.envelope_id}" if transaction.envelope_id else ""),
    ]
    return "".join(f" {parameter}" for keyword, parameter in parameters if parameter and offered.offers(keyword))


def _hidden(recipients: tuple[Recipient, ...]) -> list[str]:
    """Patterns for all that a server could repeat of addresses which the caller must not read (RULES D5)."""
    hidden: set[str] = set()
    plain: set[str] = set()
    for recipient in recipients:
        local, _, domain = recipient.address.rpartition("@")
        known = recipient.shown == f"<{recipient.address}>"
        (plain if known else hidden).update((recipient.address.lower(), local.lower(), domain.lower()))
    parts = sorted(hidden - plain, key=len, reverse=True)  # whole addresses before their parts
    return [rf"(?<!\w){re.escape(part)}(?!\w)" for part in parts if part]


def _refused_recipients(refusals: list[Failure]) -> Failure:
    """One Failure for all of them; a recipient that is refused for good outweighs those that are not."""
    worst = next((refusal for refusal in refusals if refusal.lead == REFUSED), refusals[0])
    if len(refusals) == 1:
        return worst
    return Failure(
        lead=worst.lead,
        stage=Stage.RCPT,
        host=worst.host,
        reply=worst.reply,
        reasons=tuple(refusals),
        advice=worst.advice,
    )
