"""The verdict of LMTP: one reply for each recipient, none of which can be taken back (RFC 2033, 4.2)."""

from __future__ import annotations

from collections.abc import Iterable

from muawrap import signals
from muawrap.failure import NAMED, REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage, internal
from muawrap.mail import Recipient, Reply, Shares
from muawrap.submission.connection import Connection

Refusals = tuple[Failure, ...]


class Divided(Failure):
    """Recipients whose verdicts differ: `reasons` has that of each who does not have the message for certain.

    The lead is "may have been sent" as long as it is not known of somebody. Where all is known, and somebody has it, it
    is "not sent, refused", also after replies that would let us try again: a caller who sends all of it once more would
    make two of what has arrived.
    """

    def sentence(self, named: int = NAMED) -> str:
        """Who has it, then the others in groups of the same reason; of each at most `named` are told."""
        assert self.shares is not None
        told = [f"sent to {_listed(self.shares.sent, named)}"] if self.shares.sent else []
        groups: dict[tuple[str, str], list[str]] = {}
        for reason in self.reasons:
            why = str(reason.reply) if reason.reply is not None else f"{reason.what} while {Stage.VERDICT.doing}"
            groups.setdefault((_WORDS[reason.lead], why), []).append(reason.recipient)
        told += [f"{word} {_names(whom, named)}: {why}" for (word, why), whom in list(groups.items())[:named]]
        if len(groups) > named:
            told.append(f"and {len(groups) - named} more")
        return f"{self.host} {self.what}: {'; '.join(told)}"


_WORDS = {REFUSED: "refused for", TRY_AGAIN: "not now for", UNCERTAIN: "unknown for"}


def verdict(
    connection: Connection, recipients: tuple[Recipient, ...], partial: bool
) -> tuple[Reply, Refusals, Refusals]:
    """The replies to a text, the end of which has left, for these recipients in order (RULES C3).

    The replies of all who have it as one, and where the transaction is partial the Failures of those who do not have
    it, and of those of whom nobody knows. Raises Failure: where it is not partial, unless everybody has it; where it
    is, if nobody has.
    """
    heard: list[Reply] = []

    def so_far(trouble: Failure) -> Failure:
        return _outcome(connection, recipients, heard, trouble)[0] or trouble

    signals.in_part(lambda: so_far(connection.failure("interrupted by a signal")))
    trouble = None
    try:
        for _ in recipients:
            reply = connection.verdict(more=True)
            if reply.kind not in (2, 4, 5):
                raise connection.refused(reply)  # and nobody knows whose the next one would be
            heard.append(reply)
        connection.confirm(heard)
    except (Exception, KeyboardInterrupt) as error:
        trouble = error if isinstance(error, Failure) else connection.failure(_interrupted(error))
        if len(heard) == len(recipients):
            heard.clear()  # one reply too many: all may be out of step
        connection.close()
    failure, reasons = _outcome(connection, recipients, heard, trouble)
    accepted = [reply for reply in heard if reply.kind == 2]
    if failure is not None and not (partial and accepted):
        raise failure from trouble
    refused = tuple(reason for reason in reasons if reason.lead != UNCERTAIN)
    return _together(accepted), refused, tuple(reason for reason in reasons if reason.lead == UNCERTAIN)


def _outcome(
    connection: Connection, recipients: tuple[Recipient, ...], heard: list[Reply], trouble: Failure | None
) -> tuple[Failure | None, list[Failure]]:
    """What became of it after these replies, None where everybody has it; and why each of the others has not."""
    shares = Shares(
        tuple(one for one, reply in zip(recipients, heard, strict=False) if reply.kind == 2),
        tuple(one for one, reply in zip(recipients, heard, strict=False) if reply.kind != 2),
        recipients[len(heard) :],
    )
    refusals = [reply for reply in heard if reply.kind != 2]
    reasons = [connection.refused(reply, one.shown) for one, reply in zip(shares.unsent, refusals, strict=True)]
    if shares.unknown:
        assert trouble is not None
        reasons += [connection.failure(trouble.what, recipient=one.shown) for one in shares.unknown]
    if not reasons:
        return None, []
    if not refusals and not shares.sent:
        return trouble, reasons
    if len(set(refusals)) == 1 and len(refusals) == len(recipients):
        return connection.refused(refusals[0]), reasons  # to all of them in the same words
    return _divided(connection, shares, reasons), reasons


def _divided(connection: Connection, shares: Shares, reasons: list[Failure]) -> Failure:
    worst = next((reason for reason in reasons if reason.lead == REFUSED), reasons[0])
    if shares.unknown:
        what = "did not take the message for all" if shares.unsent else "did not answer for all"
        failure = Divided(what, lead=UNCERTAIN, advice="look whether it arrived before you send it again")
    elif shares.sent:
        advice = "send it again to those only who do not have it"
        failure = Divided("did not take the message for all", lead=REFUSED, advice=advice)
    else:
        failure = Divided("did not take the message", lead=worst.lead, advice=worst.advice)
    failure.stage, failure.host = Stage.VERDICT, worst.host
    failure.reasons, failure.shares = tuple(reasons), shares
    return failure


def _together(accepted: list[Reply]) -> Reply:
    """Several replies as one, for the log and for a caller who waits for it; the same words once."""
    words = list(dict.fromkeys(str(reply).partition(" ")[2] for reply in accepted))
    more = f"; and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return Reply(accepted[0].code, ("; ".join(words[:NAMED]) + more,))


def _listed(recipients: Iterable[Recipient], named: int) -> str:
    return _names([one.shown for one in recipients], named)


def _names(names: list[str], named: int) -> str:
    return ", ".join(names[:named]) + (f" and {len(names) - named} more" if len(names) > named else "")


def _interrupted(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else internal(error)
