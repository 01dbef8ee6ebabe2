"""Each smart host in turn, until one gives a verdict: a Receipt, or the Failure that ended it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Receipt, Recipient, Reply, SmartHost, Transaction, Way
from muawrap.submission import sasl, tls, wire
from muawrap.submission.connection import Connection, Trace
from muawrap.submission.opening import Opening

ONE_FLIGHT = 64 * 1024
"""Octets of a message that leaves together with its envelope: what a receiver's window takes without waiting."""

BEFORE_MAIL = (Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH, Stage.OFFER)
"""Stages whose troubles are the host's own, never a verdict on the message (RULES C1)."""

_TLS_IS_NEEDED = "AUTH goes over verified TLS only: use submissions:// or submission://, or auth.allow_plaintext"


def deliver(transaction: Transaction, trace: Trace | None = None, opening: Opening | None = None) -> Receipt:
    """Hand the message to the first smart host that takes it (RULES C). Raises Failure.

    `opening` is that of the first smart host, where it has been made already.
    """
    failures: list[Failure] = []
    for way in transaction.ways:
        try:
            receipt = _one(transaction, way, opening or Opening(way.host), trace)
            return receipt._replace(degraded=tuple(map(str, failures)))
        except Failure as failure:
            if is_final(failure, transaction.tempfail):
                failure.degraded = tuple(map(str, failures))
                raise
            failures.append(failure)
            opening = None
    if transaction.dial_delay and all(failure.stage is Stage.CONNECT for failure in failures):
        # The line may still be coming up: once more, and never after a connection (RULES C6).
        time.sleep(transaction.dial_delay)
        return deliver(transaction._replace(dial_delay=0), trace)
    raise _summary(failures)


def is_final(failure: Failure, tempfail: str) -> bool:
    """Whether no other host may be tried: a verdict on the message, or an end of message that is on its way."""
    if failure.lead == UNCERTAIN or failure.stage is Stage.VERDICT:
        return True
    if failure.stage is None:  # this machine's own trouble, which no other host mends
        return True
    if failure.stage in BEFORE_MAIL or failure.reply is None or failure.reply.kind not in (4, 5):
        return False
    return not (tempfail == "next-host" and failure.reply.kind == 4)


def _summary(failures: list[Failure]) -> Failure:
    """Each host's own reason, in order (RULES C7). What may pass at one host may pass."""
    if len(failures) == 1:
        return failures[0]
    lead = TRY_AGAIN if any(failure.lead == TRY_AGAIN for failure in failures) else REFUSED
    advice = next((failure.advice for failure in failures if failure.advice and failure.lead == lead), "")
    return Failure("no smart host took the message", lead=lead, reasons=tuple(failures), advice=advice)


def _one(transaction: Transaction, way: Way, opening: Opening, trace: Trace | None) -> Receipt:
    """The whole dialogue with one smart host. Raises Failure."""
    host = way.host
    connection = ready(opening, transaction.hostname, trace)
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


def _attempts(host: SmartHost) -> tuple[bool | None, ...]:
    """TLS as it is tried, each on a new connection: verified, encrypted only, none (muawrap.toml(5), tls.policy)."""
    if host.tls.policy == "none":
        return (None,)
    if host.tls.policy == "required" or (host.auth.user and not host.auth.allow_plaintext):
        return (True,)
    return (True, False) if host.scheme == "submissions" else (True, False, None)


def ready(opening: Opening, hostname: str, trace: Trace | None) -> Connection:
    """A connection that stands where MAIL may follow: TLS by the policy, AUTH where a user is set. Raises Failure."""
    if opening.failure is not None:
        raise opening.failure
    host = opening.host
    at_once = host.scheme == "submissions"
    broken = Failure("no attempt was made")
    contexts = _contexts(opening)
    for secure in _attempts(host):
        if secure is False and not isinstance(broken.__cause__, ssl.SSLCertVerificationError):
            continue  # it was not the certificate that stood in the way
        connection = Connection(host, hostname, trace, opening.end)
        connection.contexts = contexts
        if opening.password:
            # From the first word on: another host of the list may have learned it already.
            connection.hide(*sasl.forms(host.auth.user, opening.password))
        try:
            connection.connect(dial=opening.take())
            if at_once:
                connection.handshake(bool(secure))
            connection.greeting()
            connection.ehlo()
            if not at_once and secure is not None:
                _starttls(connection, secure)
            _authenticate(connection, opening.password)
            return connection
        except BaseException as error:
            connection.leave()
            if isinstance(error, Failure) and error.stage is Stage.CONNECT and broken.stage is not None:
                raise broken from error  # the host has been connected, whatever became of it since (RULES C6)
            if not isinstance(error, Failure) or error.stage is not Stage.TLS:
                raise
            broken = error
    raise broken


def _contexts(opening: Opening) -> dict[bool, ssl.SSLContext]:
    """What TLS is going to need, made while the connection is under way. Raises Failure for a CA file that is none."""
    host = opening.host
    if host.tls.policy != "required" and not (host.tls.ca_file and host.tls.policy == "if-offered"):
        return {}
    try:
        return {True: tls.context(host, verified=True)}
    except Failure as failure:
        opening.close()
        what, advice = failure.what, failure.advice
        raise Failure(what, lead=failure.lead, stage=Stage.TLS, host=str(host), advice=advice) from failure


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
        advice = "auth.mechanisms names others" if offered else "a server often offers it after TLS only"
        raise connection.failure(f"the server offers {what}", lead=REFUSED, advice=advice)
    connection.auth(sasl.mechanism(name, auth.user, password))


def _fits(connection: Connection, transaction: Transaction, way: Way) -> None:
    """Whether this host can take this message at all (RULES C1). Raises Failure."""
    connection.stage = Stage.OFFER
    connection.hush()  # a 421 that is there before MAIL is no verdict on the message
    limit = connection.capabilities.size_limit
    size = wire.size(way.header, transaction.body)
    if limit and size > limit:
        raise connection.failure(f"the message has {size} octets, and {limit} are the limit", lead=REFUSED)
    if transaction.utf8 and not connection.capabilities.offers("SMTPUTF8"):
        beyond = [one for one in (way.sender, *(one.shown for one in transaction.recipients)) if not one.isascii()]
        whom = f", such as {beyond[0].strip('<>')}" if beyond else ""
        raise connection.failure(f"does not take addresses beyond ASCII{whom} (SMTPUTF8)", lead=REFUSED)


def _transaction(connection: Connection, transaction: Transaction, way: Way) -> Reply:
    """MAIL, every RCPT, the text: one of each, in as few flights as the host allows (RULES B). Raises Failure."""
    offers = connection.capabilities.offers
    connection.hide_words(_hidden(transaction.recipients))
    envelope = _envelope(connection, transaction, way)
    text = wire.text(way.header, transaction.body)
    size = wire.size(way.header, transaction.body)
    chunk = (f"BDAT {size} LAST", "")
    if not offers("PIPELINING"):
        _agreed(connection, transaction, [partial(connection.command, line, shown=shown) for line, shown in envelope])
    elif offers("CHUNKING") and len(envelope) == 2 and size <= ONE_FLIGHT and way is transaction.ways[-1]:
        # With one recipient nothing can be half delivered, so all of it leaves at once (RULES B6).
        connection.text(wire.as_chunk(text), before=[*envelope, chunk], with_envelope=True)
        return _all_accepted(connection, transaction)
    else:
        connection.hush()
        connection.flight(envelope)
        _agreed(connection, transaction, [connection.reply] * len(envelope))
    if offers("CHUNKING"):
        connection.text(wire.as_chunk(text), before=[chunk])
        return _chunk_accepted(connection)
    connection.stage = Stage.DATA
    reply = connection.command("DATA")
    if reply.code != 354:
        raise connection.refused(reply)
    connection.text(wire.with_dots(text))
    return _accepted(connection)


def _envelope(connection: Connection, transaction: Transaction, way: Way) -> list[tuple[str, str]]:
    """MAIL and all RCPT, each with what may be told of it."""
    notify = f" NOTIFY={transaction.notify}" if transaction.notify and connection.capabilities.offers("DSN") else ""
    mail = f"MAIL FROM:<{way.sender}>{_mail_parameters(connection, transaction, way)}"
    connection.stage = Stage.MAIL
    return [
        (mail, ""),
        *(
            (f"RCPT TO:<{recipient.address}>{notify}", f"RCPT TO:{recipient.shown}{notify}")
            for recipient in transaction.recipients
        ),
    ]


def _agreed(connection: Connection, transaction: Transaction, replies: Sequence[Callable[[], Reply]]) -> None:
    """Wait until sender and every recipient are accepted. Raises Failure that names all who are not (RULES B2)."""
    connection.stage = Stage.MAIL
    reply = replies[0]()
    if reply.kind != 2:
        raise connection.refused(reply)
    connection.stage = Stage.RCPT
    refusals = []
    for recipient, next_reply in zip(transaction.recipients, replies[1:], strict=True):
        try:
            reply = next_reply()
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


def _all_accepted(connection: Connection, transaction: Transaction) -> Reply:
    """The 2yz to a text that left with its envelope: the third of three replies. Raises Failure."""
    try:
        _agreed(connection, transaction, [connection.reply] * 2)
    except Failure as failure:
        if failure.reply is not None and failure.reply.kind in (4, 5):
            rest = [connection.spare() for _ in range(2 if failure.stage is Stage.MAIL else 1)]
            if rest[-1] is not None and rest[-1].kind == 2:
                connection.stage = Stage.VERDICT
                raise connection.failure(f'sent "{failure.reply}" and then "{rest[-1]}"') from failure
        raise
    return _chunk_accepted(connection)


def _chunk_accepted(connection: Connection) -> Reply:
    """The 2yz to BDAT LAST. Raises Failure for everything else.

    No 354 stands before it, so that one reply too many would make the answer to RCPT the verdict. What shows that,
    beside what Connection.verdict() looks at: its enhanced status is about an address (RFC 3463, 3.2). A server
    without such codes that says one 250 too many, and the true verdict later than all others, is believed: only the
    answer to QUIT could tell, and that costs a round trip.
    """
    reply = _accepted(connection)
    if reply.lines[0].startswith("2.1."):
        raise connection.failure(f'sent "{reply}", which is about an address,')
    return reply


def _accepted(connection: Connection) -> Reply:
    """The 2yz to the text. Raises Failure for everything else."""
    reply = connection.verdict()
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


def _hidden(recipients: tuple[Recipient, ...]) -> set[str]:
    """All that a server could repeat of addresses which the caller must not read, in lower case (RULES D5)."""
    hidden: set[str] = set()
    plain: set[str] = set()
    for recipient in recipients:
        local, _, domain = recipient.address.lower().rpartition("@")
        known = recipient.shown == f"<{recipient.address}>"
        (plain if known else hidden).update((recipient.address.lower(), local, domain))
    return hidden - plain


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
