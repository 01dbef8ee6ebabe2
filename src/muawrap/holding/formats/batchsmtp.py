"""Messages held as batch SMTP: our own format, and what Exim's transports write with `use_bsmtp`.

An envelope has more to it than `sendmail -bS` takes in MAIL and RCPT. It stands in notes (muawrap.batch):

    at          when it was accepted, in UTC          body       7BIT or 8BITMIME
    id          what its MTA or caller calls it       smtputf8   yes
    ret, envid  RET and ENVID (RFC 3461)              notify     NOTIFY of all recipients that have no other
    notify.N, orcpt.N   NOTIFY and ORCPT of recipient N, or of N to M with notify.N-M; the first one is 1

All other names are facts that we pass on. What a command says itself wins over the note.
"""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from muawrap import batch
from muawrap.failure import Failure
from muawrap.holding.formats import disk, envelopes, mailboxes
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.reading import commands
from muawrap.reading.dialogue import Dialogue, Mail, Note, Rcpt, Text
from muawrap.reading.message import as_it_is
from muawrap.report import Pairs

NOTES = 16_384  # notes of one message: ORCPT for each of 10 000 recipients, all of it escaped
ADVICE = "the MTA's transport needs use_bsmtp, batch_max and rcpt_include_affixes"
"""For a message without an envelope, which nobody can send."""

_VERBS = (b"MAIL ", b"NOOP ", b"HELO ", b"EHLO ", b"RSET")
_KNOWN = ("at", "id", "body", "smtputf8", "notify", "ret", "envid")
_NAME = re.compile(r"[a-z][a-z0-9.-]*")
_RANGE = re.compile(r"(notify|orcpt)\.([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?")
_AT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,6}))?Z")
_SECONDS = "%Y-%m-%dT%H:%M:%S"

# -- a folder -------------------------------------------------------------------------------------------------------

ready = disk.ready


def files(name: str) -> tuple[str, ...]:
    """All files of the message, in the order in which they are removed."""
    return (name,)


def read(folder: int, name: str) -> Held:
    """The one message in a file of the folder. Raises Failure."""
    with disk.opened(folder, name) as file:
        found: list[Held] = []
        try:
            for held in transactions(file.blocks()):
                if found:
                    raise Failure("more than one message", advice="use directory= in the MTA's transport, not file=")
                found.append(held)
        except Failure as failure:
            raise _of(name, file, failure, bool(found)) from failure
        if not found:
            raise Failure(f"{name} holds no message", advice=ADVICE)
        return found[0]._replace(envelope=_dated(found[0].envelope, file))


def envelope(folder: int, name: str) -> Envelope:
    """The envelope of that message, without a look at its text, which may be damaged. Raises Failure."""
    with disk.opened(folder, name) as file:
        try:
            for found, _ in _begun(file.blocks(disk.HEAD)):
                return _dated(found, file)
        except Failure as failure:
            raise _of(name, file, failure, False) from failure
        raise Failure(f"{name} holds no message", advice=ADVICE)


def _of(name: str, file: disk.Opened, failure: Failure, begun: bool) -> Failure:
    """The failure with the name of the file; a message without an envelope is told from SMTP with a mistake in it."""
    if not begun and not os.pread(file.descriptor, 5, 0).upper().startswith(_VERBS):
        return Failure(f"{name} has no envelope", advice=ADVICE)
    return Failure(f"{name}: {failure}", lead=failure.lead, advice=failure.advice)


def _dated(found: Envelope, file: disk.Opened) -> Envelope:
    return found if found.at else found._replace(at=file.mtime)


# -- reading --------------------------------------------------------------------------------------------------------


def transactions(source: Iterable[bytes]) -> Iterator[Held]:
    """The messages of a batch, in order; `source` is an iterator of pieces of any size (INTERMITTENT 2.1, 2.2).

    Raises Failure at the first mistake, and where the input ends in the middle of a message; what came before it is
    whole.
    """
    for found, text in _begun(source):
        yield Held(found, *as_it_is(text))


def _begun(source: Iterable[bytes]) -> Iterator[tuple[Envelope, Text]]:
    """Each envelope, and the text that follows it, yet to be read. Raises Failure."""
    mail: Mail | None = None
    recipients: list[Rcpt] = []
    notes: list[tuple[int, str]] = []
    for event in Dialogue(batch=True, notes=True, address=mailboxes.path).events(source):
        if isinstance(event, Mail):
            mail, recipients = event, []
        elif isinstance(event, Rcpt):
            recipients.append(event)
        elif isinstance(event, Note):
            notes.append(event)
            if len(notes) > NOTES:
                raise Failure(f"line {event.line}: more than {NOTES} notes")
        elif isinstance(event, Text):
            assert mail is not None
            yield _envelope(mail, recipients, batch.facts(notes)), event
            notes = []
        else:
            notes = []


def _envelope(mail: Mail, recipients: Sequence[Rcpt], pairs: Pairs) -> Envelope:
    """What the commands say and the notes before and among them. Raises Failure."""
    known: dict[str, str] = {}
    own = {"notify": [one.notify for one in recipients], "orcpt": [one.original for one in recipients]}
    facts = []
    for name, value in pairs:
        if name in _KNOWN:
            known[name] = value
        elif concerned := _RANGE.fullmatch(name):
            first, last = int(concerned[2]), int(concerned[3] or concerned[2])
            if not first <= last <= len(recipients):
                raise batch.unreadable(mail.line)
            values = own[concerned[1]]
            values[first - 1 : last] = [said or value for said in values[first - 1 : last]]
        else:
            facts.append((name, value))
    shared = known.get("notify", "")
    return Envelope(
        mail.sender,
        tuple(
            Addressee(one.address, _checked(mail, "NOTIFY", notify or shared), _checked(mail, "ORCPT", original))
            for one, notify, original in zip(recipients, own["notify"], own["orcpt"], strict=True)
        ),
        _seconds(mail, known.get("at", "")),
        known.get("id", ""),
        mail.body or _checked(mail, "BODY", known.get("body", "")),
        mail.utf8 or known.get("smtputf8") == "yes",
        mail.returns or _checked(mail, "RET", known.get("ret", "")),
        mail.envelope_id or _checked(mail, "ENVID", known.get("envid", "")),
        tuple(facts),
    )


def _checked(mail: Mail, keyword: str, value: str) -> str:
    """A value from a note. Raises Failure."""
    try:
        return _said(keyword, value)
    except commands.Refused as refused:
        raise batch.unreadable(mail.line) from refused


def _said(keyword: str, value: str) -> str:
    """A value as it will be said to a host: nothing but what RFC 3461 or 6152 has for it. Raises Refused."""
    if not value:
        return ""
    found = commands.parameters("RCPT" if keyword in ("NOTIFY", "ORCPT") else "MAIL", f"{keyword}={value}")
    return found[keyword] if keyword in ("ORCPT", "ENVID") else found[keyword].upper()


def _seconds(mail: Mail, value: str) -> float:
    """A time as _stamp writes it, 0 for none. Raises Failure."""
    if not value:
        return 0
    parts = _AT.fullmatch(value)
    try:
        if parts is None:
            raise batch.unreadable(mail.line)
        whole = calendar.timegm(time.strptime(parts[1], _SECONDS))
    except ValueError as error:
        raise batch.unreadable(mail.line) from error
    return disk.sane((whole * 1_000_000 + int((parts[2] or "0").ljust(6, "0"))) / 1e6)


# -- writing --------------------------------------------------------------------------------------------------------


def write(held: Held, *, noted: bool = True) -> Iterator[bytes]:
    """The message as one transaction, lines ended by LF, which we and `exim -bS` read (INTERMITTENT 2.5).

    Exim gives up after ten notes in one go; not `noted`: there are none. Raises Failure, before anything is written,
    where it could not be read back.
    """
    told = envelopes.writable(held.envelope)
    notes = batch.notes(_pairs(told)) if noted else ()
    return batch.transaction(notes, told.sender, (one.address for one in told.recipients), held.header, held.body)


def _pairs(told: Envelope) -> Pairs:
    """All that has no place in MAIL FROM:<...> and RCPT TO:<...>. Raises Failure where a host could not be told."""
    try:
        known = [
            ("at", _stamp(told.at)),
            ("id", told.id),
            ("body", _said("BODY", told.body)),
            ("smtputf8", "yes" if told.utf8 else ""),
            ("ret", _said("RET", told.returns)),
            ("envid", _said("ENVID", told.envelope_id)),
            *_ranges("notify", [_said("NOTIFY", one.notify) for one in told.recipients]),
            *_ranges("orcpt", [_said("ORCPT", one.original) for one in told.recipients]),
        ]
    except commands.Refused as refused:
        raise Failure(refused.text) from refused
    for name, _ in told.facts:
        if not _NAME.fullmatch(name) or name in _KNOWN or _RANGE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a fact")
    return [(name, value) for name, value in known if value] + list(told.facts)


def _ranges(name: str, values: list[str]) -> Iterator[tuple[str, str]]:
    """Values of the recipients; where neighbours have the same, together."""
    if name == "notify" and len(set(values)) == 1:
        yield name, values[0]
        return
    number = 0
    for value, run in groupby(values):
        first, number = number + 1, number + len(list(run))
        yield f"{name}.{first}" if first == number else f"{name}.{first}-{number}", value


def _stamp(at: float) -> str:
    """UTC as RFC 3339 has it, to the microsecond; "" for none."""
    whole, micro = divmod(round(disk.sane(at) * 1e6), 1_000_000)
    fraction = f".{micro:06}" if micro else ""
    return time.strftime(f"{_SECONDS}{fraction}Z", time.gmtime(whole)) if whole or micro else ""
