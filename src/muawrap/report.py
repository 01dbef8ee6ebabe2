"""A Receipt or a Failure turned into a log line, standard error and an exit status: the only place that does."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import NoReturn

from muawrap.failure import NAMED, Failure
from muawrap.mail import Receipt

LINE_LIMIT = 4096
"""Octets of a line with its end (RULES A7): what a pipe takes in one piece (PIPE_BUF), so that no line is torn."""
FIELD_LIMIT = 900  # octets of one field: none crowds out the others; only the error takes what is left
SYSLOG_SECONDS = 5  # how long a syslog that does not listen may hold us up
_SYSLOG = "/dev/log"
_CONTAINER = "/proc/1/fd/2"
_INFO, _ERROR = 2 << 3 | 6, 2 << 3 | 3  # facility mail, severities info and error (RFC 5424, 6.2.1)
_PLAIN = re.compile(r"[A-Za-z0-9_.@<>,:;+/*=!?~%&'|\[\](){}#$^-]+")


class Facts:
    """What is known of the message so far; every log line tells it, whatever became of it."""

    def __init__(self) -> None:
        self.log: tuple[str, ...] = ("syslog",)
        self.message_id = ""
        self.sender: str | None = None  # "" is the null sender
        self.recipients: tuple[str, ...] = ()
        self.notes: list[tuple[str, str]] = []
        self.keep: Callable[[Failure], str] | None = None  # writes the copy an owner asked for; the path


def success(receipt: Receipt, facts: Facts) -> int:
    """A message that was accepted, or discarded on purpose: silence, and a log line."""
    if not receipt.host:
        _log("discarded", facts, [])
        return 0
    facts.sender = receipt.sender
    fields = [
        ("host", receipt.host),
        ("tls", receipt.tls),
        ("user", receipt.user),
        ("size", str(receipt.size)),
        ("reply", receipt.reply),
        ("degraded", "; ".join(receipt.degraded)),
        ("from-header", "rewritten" if receipt.rewritten else ""),
    ]
    _log("sent", facts, fields)
    return 0


def failure(failure: Failure, facts: Facts | None) -> int:
    """A message that was not sent, or may not have been: one line for the caller, and a log line."""
    kept, trouble = _copy(failure, facts)
    try:
        line = _line(failure, facts, kept, trouble)
    except MemoryError:
        line = f"sendmail: {failure.lead}: out of memory, and so no more can be told\n"
    _to(2, line)
    try:
        if facts is not None:
            _log_failure(failure, facts, kept, trouble)
    except MemoryError:
        pass  # log trouble changes no outcome
    return 1


def _line(failure: Failure, facts: Facts | None, kept: str, trouble: str) -> str:
    """What the caller reads."""
    identity = f" [Message-ID {facts.message_id}]" if facts and facts.message_id else ""
    copy = f"kept as {kept}" if kept else f"could not be kept: {trouble}" if trouble else ""
    remarks = [_cut(printable(remark), FIELD_LIMIT) for remark in (failure.advice, copy) if remark]
    tail = _cut(printable(identity), FIELD_LIMIT) + (f" ({'; '.join(remarks)})" if remarks else "")
    head = f"sendmail: {failure.lead}: "
    room = LINE_LIMIT - 1 - len(head) - len(tail)
    return head + _cut(printable(_as_many_as_fit(failure, room, NAMED)), room) + tail + "\n"


def _log_failure(failure: Failure, facts: Facts, kept: str, trouble: str) -> None:
    advice = _cut(f" ({failure.advice})", FIELD_LIMIT) if failure.advice else ""
    fields = [("lead", failure.lead), ("degraded", "; ".join(failure.degraded)), ("kept", kept), ("not-kept", trouble)]
    room = LINE_LIMIT - len(log_line("failed", facts, fields, 0) + ' error=""\n' + advice)
    error = _as_many_as_fit(failure, room, max(NAMED, len(failure.reasons))) + advice
    _log("failed", facts, [*fields, ("error", error)])


def _copy(failure: Failure, facts: Facts | None) -> tuple[str, str]:
    """Where the copy is that the owner asked for, or why there is none: nothing else comes of that."""
    if facts is None or facts.keep is None:
        return "", ""
    try:
        return facts.keep(failure), ""
    except Failure as trouble:
        return "", str(trouble)
    except Exception as error:
        return "", f"internal error: {type(error).__name__}: {error}"


def answer(text: str) -> int:
    """What a mode that takes no message has to say."""
    _to(1, text)
    return 0


def trace(mark: str, line: str) -> None:
    """A line of the dialogue on standard error, for -v."""
    _to(2, f"{mark} {printable(line)}\n")


def leave(status: int) -> NoReturn:
    """End at once: what is left of the interpreter could only spoil the outcome (RULES A5)."""
    os._exit(status)


# -- one line, whatever stands in it --------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Printable ASCII only: everything else is shown escaped, so that no reply and no name can forge a line."""
    return "".join(map(_shown, text))


def log_line(event: str, facts: Facts, fields: list[tuple[str, str]], now: float | None = None) -> str:
    """One line: the time unless `now` is None, the event, and name=value pairs that no value can break out of."""
    pairs = [
        ("id", facts.message_id),
        ("from", "" if facts.sender is None else f"<{facts.sender}>"),
        ("to", _listed(facts.recipients)),
        *fields,
        *facts.notes,
    ]
    return paired(event if now is None else time.strftime("%Y-%m-%dT%H:%M:%S%z ", time.localtime(now)) + event, pairs)


def paired(line: str, pairs: list[tuple[str, str]], limit: int = LINE_LIMIT) -> str:
    """A line that goes on with those pairs that have a value; with its end it takes at most `limit` octets."""
    for name, value in pairs:
        room = limit - len(f'{line} {name}=""\n')
        if value and room > 0:
            line += f" {name}={_quoted(value, room if name == 'error' else min(room, FIELD_LIMIT))}"
    return line


def _shown(char: str) -> str:
    return char if " " <= char <= "~" else char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _quoted(value: str, room: int) -> str:
    """A value as it is where it is one plain word, else in quotes with backslash escapes; cut between two of them."""
    value = value[: room + 1]  # no escape is shorter than what it stands for
    if len(value) <= room and _PLAIN.fullmatch(value):
        return value
    shown = ["\\" + char if char in '\\"' else _shown(char) for char in value]
    if sum(map(len, shown)) > room:
        while shown and sum(map(len, shown)) > room - 3:
            shown.pop()
        shown.append("..."[:room])
    return '"' + "".join(shown) + '"'


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 3] + "..."


def _listed(recipients: tuple[str, ...]) -> str:
    """As many as fit, then how many more there are."""
    for number in range(len(recipients)):
        if sum(map(len, recipients[: number + 1])) + number > FIELD_LIMIT - 40:
            return ",".join((*recipients[: max(1, number)], f"and {len(recipients) - max(1, number)} more"))
    return ",".join(recipients)


def _as_many_as_fit(failure: Failure, room: int, most: int) -> str:
    """The sentence with as many of its reasons as there is room for, at least one, and how many more there are."""
    named = most
    sentence = failure.sentence(named)
    while len(printable(sentence)) > room and named > 1:
        named = max(1, named * 3 // 4)
        sentence = failure.sentence(named)
    return _cut(sentence, room)


# -- where it goes: trouble changes no outcome (RULES A5) -----------------------------------------------------------


def _to(descriptor: int, text: str) -> None:
    """Write what can be written."""
    octets = text.encode("ascii", "backslashreplace")
    try:
        while octets:
            octets = octets[os.write(descriptor, octets) :]
    except OSError:
        pass


def _log(event: str, facts: Facts, fields: list[tuple[str, str]]) -> None:
    """Write to the first log that takes the line."""
    for place in facts.log:
        try:
            if place == "none":
                return
            if place == "syslog":
                _to_syslog(_ERROR if event == "failed" else _INFO, log_line(event, facts, fields))
                return
            line = log_line(event, facts, fields, time.time()) + "\n"
            if _to_file(place, line.encode("ascii")):
                return
        except Exception:  # out of memory, too
            continue


def _to_file(place: str, line: bytes) -> bool:
    """One write, so that lines of several programs do not mix; a part of a line is not a line."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    if place == "container":
        file = os.open(_CONTAINER, flags)
    else:
        file = os.open(place, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        return os.write(file, line) == len(line)
    finally:
        os.close(file)


def _to_syslog(priority: int, line: str) -> None:
    """One datagram, as syslog(3) sends it; but syslog(3) neither says whether it arrived nor gives up waiting."""
    import socket

    stamp = time.strftime("%b %e %H:%M:%S")
    octets = f"<{priority}>{stamp} muawrap[{os.getpid()}]: {line}".encode("ascii")
    for kind, end in (socket.SOCK_DGRAM, b""), (socket.SOCK_STREAM, b"\0"):
        with socket.socket(socket.AF_UNIX, kind) as log:
            log.settimeout(SYSLOG_SECONDS)
            try:
                log.connect(_SYSLOG)
            except OSError:
                if kind == socket.SOCK_STREAM:
                    raise
                continue
            log.sendall(octets + end)
            return
