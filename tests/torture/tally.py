"""What a run said, held against what happened: the faults of one run, and their sums; pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

FAULTS = ("lost", "duplicate", "short", "unlabelled", "tracebacks", "wrong status", "hangs")
KEPT = 20  # faults of a part that are told one by one; the others are counted

_LINE = re.compile(rb"sendmail: (not sent, try again|not sent, refused|may have been sent): [\x20-\x7e]+\n")


@dataclass(frozen=True)
class Run:
    """How the program ended: its status, None where it had to be killed, and what it said."""

    status: int | None
    out: bytes
    err: bytes


def faults(
    run: Run,
    copies: Sequence[bytes],
    text: bytes,
    *,
    end_left: bool | None = None,
    heard: bool = False,
    mute: bool = False,
) -> set[str]:
    """Where the promise was broken (RULES A1 to A3, C3).

    copies    the messages that servers took to their end, `text` being what a whole one is
    end_left  whether the end of the message can have been handed over; None where nobody knows
    heard     the verdict, which was good, was handed to the program whole
    mute      standard error could not be written
    """
    found = set()
    if len(copies) > 1:
        found.add("duplicate")
    if any(copy != text for copy in copies):
        found.add("short")
    if run.status is None:
        return found | {"hangs"}
    if run.status not in (0, 1) or (heard and run.status):
        found.add("wrong status")
    if b"Traceback" in run.err or b"Fatal Python error" in run.err:
        found.add("tracebacks")
    if run.status == 0:
        if not copies:
            found.add("lost")
        if run.out or run.err:
            found.add("unlabelled")
    elif not (mute and not run.err) and not _is_true(run, bool(copies), end_left):
        found.add("unlabelled")
    return found


def _is_true(run: Run, arrived: bool, end_left: bool | None) -> bool:
    """Whether one line, and nothing else, says what became of the message."""
    line = _LINE.fullmatch(run.err)
    if line is None or run.out:
        return False
    if line[1] == b"may have been sent":
        return b" [Message-ID " in run.err and (arrived or end_left is not False)
    return not arrived


def faults_of_answers(run: Run, copies: Sequence[bytes], texts: Sequence[bytes]) -> set[str]:
    """The same for -bs, where the caller reads a reply to the dot of each message (RULES E8)."""
    found = _broken(run, copies, texts)
    replies = re.findall(rb"^([2-5][0-9]{2}) ([\x20-\x7e]*)\r\n", run.out, re.MULTILINE)
    told = replies[5 : 2 + 4 * len(texts) : 4]  # behind greeting and EHLO: MAIL, RCPT, DATA and the dot of each
    if len(replies) != 3 + 4 * len(texts) or run.err:
        found.add("unlabelled")
    for text, (code, words) in zip(texts, told, strict=False):
        arrived = copies.count(text)
        if code == b"250":
            found |= set() if arrived else {"lost"}
        elif arrived and not (code == b"554" and words.startswith(b"5.4.2 may have been sent: ")):
            found.add("unlabelled")
    if run.status is not None and run.status != int(any(code != b"250" for code, _ in told)):
        found.add("wrong status")
    return found


_STOPPED = re.compile(rb"(sendmail: [a-z, ]+: )message ([0-9]+)(?:, at line [0-9]+,)? after ([0-9]+) sent: .*\n")


def faults_of_batch(run: Run, copies: Sequence[bytes], texts: Sequence[bytes]) -> set[str]:
    """The same for -bS, where one line says which message was not sent, and how many before it were (RULES E8)."""
    found = _broken(run, copies, texts)
    arrived = [copies.count(text) for text in texts]
    if run.status == 0:
        return found | ({"lost"} if not all(arrived) else set()) | ({"unlabelled"} if run.out or run.err else set())
    line = _STOPPED.fullmatch(run.err)
    if line is None or int(line[2]) != int(line[3]) + 1 or int(line[2]) > len(texts):
        return found | {"unlabelled"}
    sent = int(line[3])
    if not all(arrived[:sent]):
        found.add("lost")
    if any(arrived[sent + 1 :]) or not _is_true(run, bool(arrived[sent]), None):
        found.add("unlabelled")
    return found


_WHOM = re.compile(r"(sent to|refused for|not now for|unknown for) ((?:<[^>]*>(?:, )?)+)")


def faults_of_parts(
    run: Run,
    copies: Sequence[bytes],
    text: bytes,
    recipients: Sequence[str],
    *,
    end_left: bool | None,
    heard: bool,
    refused: Collection[str],
) -> set[str]:
    """The same for LMTP, where one line says who has it, who has not, and of whom nobody knows (RFC 2033, 4.2).

    copies   the texts that were delivered, each behind the name of its recipient and a blank
    refused  those to whom the server of this scene delivers nothing
    """
    found = set()
    has = [name.decode() for name, _, _ in (copy.partition(b" ") for copy in copies)]
    if len(set(has)) < len(has):
        found.add("duplicate")
    if any(copy.partition(b" ")[2] != text for copy in copies):
        found.add("short")
    if run.status is None:
        return found | {"hangs"}
    if run.status not in (0, 1) or (heard and run.status != int(bool(refused))):
        found.add("wrong status")
    if b"Traceback" in run.err or b"Fatal Python error" in run.err:
        found.add("tracebacks")
    if run.status == 0:
        return found | (set() if set(has) == set(recipients) and not run.err + run.out else {"lost"})
    line = _LINE.fullmatch(run.err)
    if line is None or run.out:
        return found | {"unlabelled"}
    uncertain = line[1] == b"may have been sent"
    told = {name: word for word, names in _WHOM.findall(run.err.decode()) for name in re.findall("<(.*?)>", names)}
    unknown = {name for name in recipients if told.get(name, "unknown for" if uncertain else "") == "unknown for"}
    sent = {name for name in recipients if told.get(name) == "sent to"}
    if not sent <= set(has):
        found.add("lost")
    if set(has) - sent - unknown or uncertain != bool(unknown) or (uncertain and heard):
        found.add("unlabelled")
    if uncertain and end_left is False:
        found.add("unlabelled")
    if line[1] == b"not sent, try again" and has:
        found.add("unlabelled")  # who reads that makes two of them
    return found


def _broken(run: Run, copies: Sequence[bytes], texts: Sequence[bytes]) -> set[str]:
    """What is wrong whatever the caller was told."""
    found = set()
    if len(set(copies)) < len(copies):
        found.add("duplicate")
    if not set(copies) <= set(texts):
        found.add("short")
    if run.status is None:
        found.add("hangs")
    elif run.status not in (0, 1):
        found.add("wrong status")
    if b"Traceback" in run.err or b"Fatal Python error" in run.err:
        found.add("tracebacks")
    return found


@dataclass
class Tally:
    """The sums of one part of the torture, and the first of its faults in words."""

    part: str
    runs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, where: str, found: Collection[str], run: Run | None = None) -> None:
        self.runs += 1
        self.counts.update(found)
        if found and len(self.told) < KEPT:
            said = "" if run is None else f": {run.status} {(run.out + run.err)[-400:]!r}"
            self.told.append(f"{where}: {', '.join(sorted(found))}{said}")

    def merge(self, other: Tally) -> None:
        self.runs += other.runs
        self.counts += other.counts
        self.told = (self.told + other.told)[:KEPT]
        self.notes += [note for note in other.notes if note not in self.notes]

    @property
    def good(self) -> bool:
        return self.runs > 0 and not any(self.counts.values())


def table(tallies: Iterable[Tally]) -> str:
    """All of them as it is printed."""
    head = ("part", "runs", *FAULTS, "verdict")
    rows = [
        (each.part, str(each.runs), *(str(each.counts[fault]) for fault in FAULTS), "good" if each.good else "BAD")
        for each in tallies
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) if number == 0 else cell.rjust(width) for number, (cell, width) in cells).rstrip()
        for cells in (list(enumerate(zip(row, widths, strict=True))) for row in (head, *rows))
    )
