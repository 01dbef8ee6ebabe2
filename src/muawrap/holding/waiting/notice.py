"""The message that tells `admin` of what was given up: a few lines, which wait in the outbox as any other message does.

It is there before what it tells of has gone, and tells of all that one run gives up, until it is on its way itself. Of
its own end nobody is told but the log.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from muawrap import addresses, report
from muawrap.errand import Errand
from muawrap.failure import Failure
from muawrap.holding import clock
from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping.bounce import Loss
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool, fresh_name
from muawrap.mail import Body

FACT = "notice"
"""The fact that makes a message of the outbox one of these: of how many messages it tells."""
LISTED = 20
"""Messages that are told of one by one; of the others there is a number."""
LIMIT = 400  # characters of anybody's words in one line
WORDS = {
    "refused": "was refused for good",
    "expired": "could not be sent for too long",
    "parked": "may have been sent, and nobody knows",
}


class Notices:
    """Those of one run, which has the lock of the outbox."""

    def __init__(self, errand: Errand, keeper: Keeper) -> None:
        self._errand = errand
        self._keeper = keeper
        self._open: Entry | None = None  # it takes more

    def add(self, outcome: str, held: Held, losses: Collection[Loss]) -> None:
        """Of a message that is about to be given up, where there is an admin; on disk when this returns."""
        facts = self._errand.facts()
        if FACT in dict(held.envelope.facts):
            self.leaves()
            report.event("not-told", facts, [("error", "; ".join(one.reason for one in losses))], error=True)
        elif self._errand.settings.admin:
            try:
                with Spool(self._keeper, facts) as spool:
                    self._add(spool, _lines(outcome, held, losses))
            except Failure as failure:  # which stops no mail
                report.event("not-told", facts, [("error", failure.sentence())], error=True)
            else:
                report.event("told", facts, [("name", self._open.name if self._open else "")])

    def leaves(self) -> None:
        """One of them is on its way, or gone: another one is begun."""
        self._open = None

    def _add(self, spool: Spool, lines: tuple[str, ...]) -> None:
        """Raises Failure."""
        if self._open is not None:
            before = spool.read(self._open)
            self._open = spool.rewrite(self._open, self._made(before.envelope.id, lines, before))
            return
        name = f"notice-{fresh_name()}"
        domain = addresses.split(self._errand.settings.admin)[1]
        spool.put(batchsmtp.write(self._made(f"<{name}@{domain or 'localhost'}>", lines)), name)
        self._open = next((entry for entry in spool.entries() if entry.name == name), None)

    def _made(self, message_id: str, lines: tuple[str, ...], before: Held | None = None) -> Held:
        """The notice with these lines behind those of the one before; as old as what it tells last."""
        count = int(dict(before.envelope.facts)[FACT]) if before is not None else 0
        old = b"".join(before.body.blocks()).decode("ascii").splitlines() if before is not None else []
        listed = old[: min(count, LISTED) * (len(lines) + 1)]
        text = [*listed, *lines, ""] if count < LISTED else [*listed, f"And {count + 1 - LISTED} more.", ""]
        where = report.printable(self._keeper.folder)
        text += [
            f"What was refused or may have been sent is in {where}/failed,",
            f"what has expired in {where}/archive, unless the configuration says otherwise.",
            "muawrap held --outbox --failed shows it.",
        ]
        admin = self._errand.settings.admin
        envelope = Envelope(
            "",  # the null sender where that may be, so that nothing comes back (RFC 3834)
            (Addressee(admin),),
            clock.now(),
            message_id,
            utf8=not admin.isascii(),
            facts=(("login", self._errand.who.login), (FACT, str(count + 1))),
        )
        header = f"To: {admin}\nSubject: mail from your outbox was not sent\nAuto-Submitted: auto-generated\n"
        return Held(envelope, header.encode(), Body("\n".join([*text, ""]).encode("ascii")))


def _lines(outcome: str, held: Held, losses: Collection[Loss]) -> tuple[str, ...]:
    """What there is to tell of a message that is given up: always as many."""
    envelope = held.envelope
    named = [loss.addressee.address for loss in losses]
    listed = ", ".join(named[:LISTED]) + (f" and {len(named) - LISTED} more" if len(named) > LISTED else "")
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(envelope.at)) if envelope.at else "some time ago"
    lines = (
        f"The message of {when} {WORDS[outcome]}:",
        f"  from        <{envelope.sender}>",
        f"  to          {listed}",
        f"  Subject     {_subject(held)}",
        f"  Message-ID  {envelope.id or '-'}",
        f"  reason      {'; '.join(dict.fromkeys(loss.reason for loss in losses))}",
    )
    return tuple(report.printable(line)[:LIMIT] for line in lines)


def _subject(held: Held) -> str:
    for line in held.header.splitlines():
        if line[:8].lower() == b"subject:":
            return line[8:].strip().decode("utf-8", "backslashreplace")
    return "-"
