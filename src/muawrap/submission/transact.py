"""MAIL, every RCPT, the text: one of each, in as few flights as the host allows (RULES B)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from muawrap import signals
from muawrap.failure import REFUSED, Failure, Stage, internal
from muawrap.mail import Receipt, Recipient, Reply, Transaction, Way
from muawrap.submission import wire
from muawrap.submission.connection import GOODBYE, Connection

ONE_FLIGHT = 64 * 1024
"""Octets of a message that leaves together with its envelope: what a receiver's window takes without waiting."""


Lines = Sequence[tuple[str, str]]
"""Commands, each with what may be told of it; "" is the command itself."""

Refusals = tuple[Failure, ...]
"""Of a partial transaction: why some recipients do not get it."""

Next = Callable[[], Reply]
"""The replies to the commands of a flight, one by one. Raises Failure."""


def hand_over(
    connection: Connection,
    transaction: Transaction,
    way: Way,
    fresh: bool = True,
    heard: Next | None = None,
    ahead: Lines = (),
) -> Receipt:
    """The message over a connection that stands where MAIL may follow. Raises Failure.

    `fresh`: it has carried no message yet, so that the host has had no time to go away.
    `heard`: the replies to its MAIL and RCPT, which were sent with the text before; `ahead` are those of the next one,
    to be sent with this text.
    """
    try:
        if heard is None:
            connection.stage = Stage.OFFER
            connection.hush()  # a 421 that is there before MAIL is no verdict on the message
            if is_too_wide(connection, transaction):
                transaction, way = _in_seven_bits(transaction, way)
            fits(connection, transaction, way)
        reply, refused, unknown = offer(connection, transaction, way, fresh, heard, ahead)
        return Receipt(
            host=str(way.host),
            sender=way.sender,
            tls=connection.tls_name,
            user=way.host.auth.user,
            size=wire.size(way.header, transaction.body),
            reply=str(reply),
            rewritten=way.rewritten,
            eight_bit=is_too_wide(connection, transaction) or not (way.header.isascii() or _is_wide(connection)),
            refused=refused,
            unknown=unknown,
        )
    except Failure:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not connection.committed:
            raise
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else internal(error)
        raise connection.failure(what) from error


def is_too_wide(connection: Connection, transaction: Transaction) -> bool:
    """Whether a text has octets beyond ASCII, and the host takes seven bits only (RFC 6152)."""
    return transaction.body.eight_bit and not _is_wide(connection)


def _is_wide(connection: Connection) -> bool:
    return connection.capabilities.offers("8BITMIME")


def _in_seven_bits(transaction: Transaction, way: Way) -> tuple[Transaction, Way]:
    """What such a host gets: text in quoted-printable, as far as it can be (RULES F6). Raises Failure."""
    from muawrap.submission import mime

    made = mime.recoding(way.header, transaction.body, seven_bit=True)
    return transaction._replace(body=made.body), way._replace(header=made.header(way.header))


def fits(connection: Connection, transaction: Transaction, way: Way) -> None:
    """Whether this host can take this message at all (RULES C1). Raises Failure."""
    limit = connection.capabilities.size_limit
    size = wire.size(way.header, transaction.body)
    if limit and size > limit:
        raise connection.failure(f"the message has {size} octets, and {limit} are the limit", lead=REFUSED)
    if transaction.utf8 and not connection.capabilities.offers("SMTPUTF8"):
        beyond = [one for one in (way.sender, *(one.shown for one in transaction.recipients)) if not one.isascii()]
        whom = f", such as {beyond[0].strip('<>')}" if beyond else ""
        raise connection.failure(f"does not take addresses beyond ASCII{whom} (SMTPUTF8)", lead=REFUSED)


def heard_ahead(connection: Connection, following: Transaction, verdict: str, goes_on: bool = False) -> Next | None:
    """The replies to the envelope that left with a text, once that has been accepted; each is told in its turn.

    None: some of a partial transaction are accepted, and it has to be offered once more, since its host has been made
    to forget it.

    They also prove the verdict. Had it been a reply too many from before the text, the true one would be the next, and
    all of these would stand for another command. So a 2yz to all of them, with nothing behind, confirms it; after a
    refusal they are counted, up to one that can be no other. Raises Failure where there are too many (RULES C3).
    """
    heard: list[Reply] = []
    trouble: list[Failure] = []  # instead of the next one
    surplus = None
    connection.hide_words(_hidden(following.recipients))
    try:
        connection.begin_again()
        signals.interrupting()
        connection.stage = Stage.MAIL
        while len(heard) <= len(following.recipients):
            heard.append(connection.reply())
            connection.stage = Stage.RCPT
            if heard[-1].code == 421:
                break
        else:
            agreed = all(reply.kind == 2 for reply in heard)
            surplus = connection.spare() if agreed else connection.surplus(goes_on)
        signals.decided()  # here, since no signal may take the verdict on what was sent away
    except Failure as failure:
        trouble.append(failure)
    except Exception:  # this message has been sent, whatever becomes of the next one (RULES A5)
        trouble.append(connection.failure("interrupted", stage=Stage.MAIL))
    signals.decided()
    if surplus is not None and surplus.code not in GOODBYE:
        connection.committed, connection.stage = True, Stage.VERDICT
        raise connection.failure(f'sent "{verdict}" and then "{surplus}", which nobody asked for,')
    if following.partial and {reply.kind == 2 for reply in heard[1:]} == {True, False}:
        return None
    told: Iterator[Reply | Failure] = iter((*heard, *trouble))

    def tell() -> Reply:
        reply = next(told)
        if isinstance(reply, Failure):
            raise reply
        return reply

    return tell


def offer(
    connection: Connection, transaction: Transaction, way: Way, fresh: bool, heard: Next | None, ahead: Lines
) -> tuple[Reply, Refusals, Refusals]:
    """MAIL, every RCPT, the text: one of each, in as few flights as the host allows (RULES B). Raises Failure.

    The verdict, and why some do not get it, or may not have got it, where the transaction is partial.
    """
    offers = connection.capabilities.offers
    connection.hide_words(_hidden(transaction.recipients))
    lines = envelope(connection, transaction, way)
    text = wire.text(way.header, transaction.body)
    size = wire.size(way.header, transaction.body)
    chunk = (f"BDAT {size} LAST", "")
    alone = len(lines) == 2 and size <= ONE_FLIGHT and way.host == transaction.ways[-1].host and fresh and not ahead
    # Over LMTP a verdict may look like the answer to RCPT, so that one reply too many would not show.
    alone = alone and not connection.is_lmtp
    _announce(connection, transaction, transaction.recipients)
    if heard is not None:
        refused = _agreed(connection, transaction, [heard] * len(lines))
    elif not offers("PIPELINING"):
        commands = [partial(connection.command, line, shown=shown) for line, shown in lines]
        refused = _agreed(connection, transaction, commands)
    elif offers("CHUNKING") and alone:
        # With one recipient nothing can be half delivered, so all of it leaves at once (RULES B6).
        connection.text(wire.as_chunk(text), before=[*lines, chunk], with_envelope=True, size=size)
        return _all_accepted(connection, transaction), (), ()
    else:
        connection.hush()
        connection.flight(lines)
        refused = _agreed(connection, transaction, [connection.reply] * len(lines))
    without = {failure.recipient for failure in refused}
    accepted = tuple(recipient for recipient in transaction.recipients if recipient.shown not in without)
    _announce(connection, transaction, accepted)
    verdicts = len(accepted) if connection.is_lmtp else 1
    if offers("CHUNKING"):
        connection.text(wire.as_chunk(text), before=[chunk], after=ahead, size=size, verdicts=verdicts)
    else:
        connection.stage = Stage.DATA
        reply = connection.command("DATA")
        if reply.code != 354:
            raise connection.refused(reply)
        connection.text(wire.with_dots(text), size=size, verdicts=verdicts)
    if connection.is_lmtp:
        from muawrap.submission import lmtp

        reply, unsent, unknown = lmtp.verdict(connection, accepted, transaction.partial)
        return reply, (*refused, *unsent), unknown
    reply = _chunk_accepted(connection, more=bool(ahead)) if offers("CHUNKING") else _accepted(connection)
    return reply, refused, ()


def _announce(connection: Connection, transaction: Transaction, accepted: tuple[Recipient, ...]) -> None:
    """Have whoever wants to know told who will get the message, just before its end leaves."""
    connection.before_end = None
    if transaction.before_end is not None:
        connection.before_end = partial(transaction.before_end, accepted)


def envelope(connection: Connection, transaction: Transaction, way: Way) -> Lines:
    """MAIL and all RCPT, each with what may be told of it."""
    mail = f"MAIL FROM:<{way.sender}>{_mail_parameters(connection, transaction, way)}"
    connection.stage = Stage.MAIL
    lines = [(mail, "")]
    for recipient in transaction.recipients:
        parameters = _rcpt_parameters(connection, transaction, recipient)
        lines.append((f"RCPT TO:<{recipient.address}>{parameters}", f"RCPT TO:{recipient.shown}{parameters}"))
    return lines


def _agreed(connection: Connection, transaction: Transaction, replies: Sequence[Next]) -> Refusals:
    """Wait until sender and every recipient are accepted. Raises Failure that names all who are not (RULES B2).

    A partial transaction goes on with those who are, unless the server leaves.
    """
    connection.stage = Stage.MAIL
    reply = replies[0]()
    if reply.kind != 2:
        raise connection.refused(reply)
    connection.stage = Stage.RCPT
    refusals: list[Failure] = []
    for recipient, next_reply in zip(transaction.recipients, replies[1:], strict=True):
        try:
            reply = next_reply()
            if reply.kind == 2:
                continue
            failure = connection.refused(reply, recipient.shown)
            if reply.kind not in (4, 5):
                raise failure
        except Failure:
            if not refusals or transaction.partial:
                raise
            break  # one recipient has been refused already, and that is the verdict
        refusals.append(failure)
        if reply.code == 421:  # the server is leaving
            if transaction.partial:
                raise failure
            break
    if refusals and not (transaction.partial and len(refusals) < len(transaction.recipients)):
        raise _refused_recipients(refusals)
    return tuple(refusals)


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


def _chunk_accepted(connection: Connection, more: bool = False) -> Reply:
    """The 2yz to BDAT LAST. Raises Failure for everything else.

    No 354 stands before it, so that one reply too many would make the answer to RCPT the verdict. What shows that,
    beside what Connection.verdict() looks at: its enhanced status is about an address (RFC 3463, 3.2). A server
    without such codes that says one 250 too many, and the true verdict later than all others, is believed: only the
    answer to QUIT could tell, and that costs a round trip.
    """
    reply = _accepted(connection, more)
    if reply.lines[0].startswith("2.1."):
        raise connection.failure(f'sent "{reply}", which is about an address,')
    return reply


def _accepted(connection: Connection, more: bool = False) -> Reply:
    """The 2yz to the text. Raises Failure for everything else."""
    reply = connection.verdict(more)
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


def _rcpt_parameters(connection: Connection, transaction: Transaction, recipient: Recipient) -> str:
    """NOTIFY and ORCPT (RFC 3461), where they are asked for and offered."""
    if not connection.capabilities.offers("DSN"):
        return ""
    notify = recipient.notify or transaction.notify
    parameters = (f"NOTIFY={notify}" if notify else "", f"ORCPT={recipient.original}" if recipient.original else "")
    return "".join(f" {parameter}" for parameter in parameters if parameter)


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
