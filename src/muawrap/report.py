"""A Receipt or a Failure turned into a log line, standard error and an exit status: the only place that does."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable
from typing import NoReturn

from muawrap.config import Config
from muawrap.failure import NAMED, TRY_AGAIN, Failure, internal
from muawrap.mail import Receipt

LINE_LIMIT = 4096
"""Octets of a line with its end (RULES A7): what a pipe takes in one piece (PIPE_BUF), so that no line is torn."""
FIELD_LIMIT = 900  # octets of one field: none crowds out the others; only the error takes what is left
SYSLOG_SECONDS = 5  # how long a syslog that does not listen may hold us up
READER_SECONDS = 10  # how long, in all, a reader of -v who does not read may hold us up
PIECE = 256  # octets a pipe or terminal takes in one piece where poll() says that it takes anything
_SYSLOG = "/dev/log"
_CONTAINER = "/proc/1/fd/2"
_INFO, _ERROR = 2 << 3 | 6, 2 << 3 | 3  # facility mail, severities info and error (RFC 5424, 6.2.1)
_PLAIN = re.compile(r"[A-Za-z0-9_.@<>,:;+/*=!?~%&'|\[\](){}#$^-]+")


class Facts:
    """What is known of the message so far; every log line tells it, whatever became of it."""

    def __init__(self) -> None:
        self.log: tuple[str, ...] = ("syslog",)
        self.log_format = "text"
        self.exit_status = "one"
        self.message_id = ""
        self.sender: str | None = None  # "" is the null sender
        self.recipients: tuple[str, ...] = ()
        self.notes: list[tuple[str, str]] = []
        self.keep: Callable[[Failure], str] | None = None  # writes the copy an owner asked for; the path
        self.later: Callable[[Failure], str] | None = None  # takes what may be sent later; its name. Not with sendmail

    def follow(self, settings: Config) -> None:
        """From now on they are told as the configuration asks."""
        self.log, self.log_format, self.exit_status = settings.log, settings.log_format, settings.exit_status


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
        ("8bit", "pass" if receipt.eight_bit else ""),
    ]
    _log("sent", facts, fields)
    return 0


def failure(failure: Failure, facts: Facts, logged: bool = True, spoken: bool = True) -> int:
    """A message that was not sent, or may not have been: one line for the caller, and a log line.

    Not `spoken`: the caller is told otherwise.
    """
    postponed, refusal = _postponed(failure, facts)
    if postponed:
        return 0
    kept, trouble = _copy(failure, facts)
    try:
        line = _line(failure, facts, kept, trouble, refusal)
    except MemoryError:
        line = f"sendmail: {failure.lead}: out of memory, and so no more can be told\n"
    if spoken:
        _screen.last(line)
    try:
        if logged:
            _log_failure(failure, facts, kept, "; ".join(filter(None, (refusal, trouble))))
    except MemoryError:
        pass  # log trouble changes no outcome
    return _status(failure, facts)


def _status(failure: Failure, facts: Facts) -> int:
    """1, unless the configuration asks for more (RULES A1); what failed before it was read could not ask."""
    if facts.exit_status == "one":
        return 1
    try:
        from muawrap import sysexits

        return sysexits.status(failure)
    except MemoryError:
        return 1


def _line(failure: Failure, facts: Facts, kept: str, trouble: str, refusal: str) -> str:
    """What the caller reads."""
    copy = f"kept as {kept}" if kept else f"could not be kept: {trouble}" if trouble else ""
    later = f"could not be kept in the outbox: {refusal}" if refusal else ""
    return _sentence(f"sendmail: {failure.lead}: ", failure, facts, (failure.advice, later, copy))


def _sentence(head: str, failure: Failure, facts: Facts, remarks: tuple[str, ...]) -> str:
    """One line, of which all has its place that matters; the remarks stand behind it in brackets."""
    identity = f" [Message-ID {facts.message_id}]" if facts.message_id else ""
    told = [_cut(printable(remark), FIELD_LIMIT) for remark in remarks if remark]
    tail = _cut(printable(identity), FIELD_LIMIT) + (f" ({'; '.join(told)})" if told else "")
    room = LINE_LIMIT - 1 - len(head) - len(tail)
    return head + _cut(printable(_as_many_as_fit(failure, room, NAMED, _shown)), room) + tail + "\n"


def _log_failure(failure: Failure, facts: Facts, kept: str, trouble: str) -> None:
    advice = _cut(f" ({failure.advice})", FIELD_LIMIT) if failure.advice else ""
    fields = [("lead", failure.lead), ("degraded", "; ".join(failure.degraded)), ("kept", kept), ("not-kept", trouble)]
    room = LINE_LIMIT - len(log_line("failed", facts, [*fields, ("error", advice or " ")], 0) + "\n")
    shown = _in_json if facts.log_format == "json" else _in_quotes
    error = _as_many_as_fit(failure, room, max(NAMED, len(failure.reasons)), shown) + advice
    _log("failed", facts, [*fields, ("error", error)])


def _copy(failure: Failure, facts: Facts) -> tuple[str, str]:
    """Where the copy is that the owner asked for, or why there is none: nothing else comes of that."""
    if facts.keep is None:
        return "", ""
    try:
        return facts.keep(failure), ""
    except Failure as trouble:
        return "", str(trouble)
    except Exception as error:
        return "", internal(error)


def _postponed(failure: Failure, facts: Facts) -> tuple[bool, str]:
    """Whether something else has taken the message, to send it later: the caller is told, and the log; or why not."""
    if facts.later is None or failure.lead != TRY_AGAIN:
        return False, ""
    try:
        name = facts.later(failure)
    except Failure as refusal:
        return False, f"{refusal}: {refusal.advice}" if refusal.advice else str(refusal)
    except Exception as error:
        return False, internal(error)
    try:
        _screen.last(_sentence(_POSTPONED, failure, facts, ("muawrap ship --outbox sends it",)))
        _log("kept", facts, [("name", name), ("error", str(failure))])
    except MemoryError:
        _screen.last(f"{_POSTPONED}out of memory, and so no more can be told\n")
    return True, ""


_POSTPONED = "muawrap: not sent now, kept in the outbox: "


def event(name: str, facts: Facts, fields: Pairs, error: bool = False) -> None:
    """A log line about something else than the outcome of this call; `error`: somebody should look at it."""
    _log(name, facts, fields, error)


def answer(text: str) -> int:
    """What a mode that takes no message has to say."""
    _to(1, text)
    return 0


def reply(octets: bytes) -> None:
    """What a caller by SMTP is told; one that has gone away is told nothing."""
    try:
        while octets:
            try:
                octets = octets[os.write(1, octets) :]
            except BlockingIOError:
                select.select([], [1], [])
    except OSError:
        pass


def trace(mark: str, line: str) -> None:
    """What -v shows: a line of the dialogue or a remark about it, or how far a long work has come ("...")."""
    if mark == "...":
        progress(line)
    else:
        _screen.line(f"{mark} {printable(line)}")


def progress(text: str) -> None:
    """How far a long work has come, on a terminal only: one line below all others, written anew; "" takes it away."""
    if os.isatty(2):
        _screen.bottom(printable(text))


def leave(status: int) -> NoReturn:
    """End at once: what is left of the interpreter could only spoil the outcome (RULES A5)."""
    os._exit(status)


# -- one line, whatever stands in it --------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Printable ASCII only: everything else is shown escaped, so that no reply and no name can forge a line."""
    return "".join(map(_shown, text))


Pairs = list[tuple[str, str]]
"""Names, which are ours, and values, which may be anybody's."""


def log_line(event: str, facts: Facts, fields: Pairs, now: float | None = None) -> str:
    """One line: the time unless `now` is None, the event, and pairs that no value can break out of."""
    pairs = [
        ("id", facts.message_id),
        ("from", "" if facts.sender is None else f"<{facts.sender}>"),
        ("to", _listed(facts.recipients)),
        *fields,
        *facts.notes,
    ]
    stamp = "" if now is None else time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now))
    if facts.log_format == "json":
        return _object([("time", stamp), ("event", event), *pairs])
    return paired(f"{stamp} {event}".lstrip(), pairs)


def paired(line: str, pairs: Pairs, limit: int = LINE_LIMIT) -> str:
    """A line that goes on with name=value for what has a value; with its end it takes at most `limit` octets."""
    for name, value in pairs:
        room = _room(name, limit - len(f'{line} {name}=""\n'))
        if value and room > 0:
            # One plain word stands as it is; that it is cut shows in quotes.
            plain = len(value) <= room and _PLAIN.fullmatch(value)
            line += f" {name}={value}" if plain else f' {name}="{_escaped(value, room, _in_quotes)}"'
    return line


def _object(pairs: Pairs) -> str:
    """What has a value as one object of texts (RFC 8259), in LINE_LIMIT with its end."""
    values: dict[str, str] = {}
    for name, value in pairs:
        if value:  # a name stands in it once
            values[name] = f"{values[name]}; {value}" if name in values else value
    line = ""
    for name, value in values.items():
        begun = f'{line}, "{name}": "' if line else f'"{name}": "'
        room = _room(name, LINE_LIMIT - len(f'{{{begun}"}}\n'))
        if room > 0:
            line = f'{begun}{_escaped(value, room, _in_json)}"'
    return f"{{{line}}}"


def _room(name: str, left: int) -> int:
    return left if name == "error" else min(left, FIELD_LIMIT)


def _escaped(value: str, room: int, shown: Callable[[str], str]) -> str:
    """A value with each character as it is shown; what is too long is cut between two of them."""
    pieces = [shown(char) for char in value[: room + 1]]  # none is shown shorter than it is
    length = sum(map(len, pieces))
    if length > room:
        while pieces and length > room - 3:
            length -= len(pieces.pop())
        pieces.append("..."[:room])
    return "".join(pieces)


def _shown(char: str) -> str:
    return char if " " <= char <= "~" else char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _in_quotes(char: str) -> str:
    return "\\" + char if char in '\\"' else _shown(char)


def _in_json(char: str) -> str:
    """As JSON has it, in ASCII; an octet that was not UTF-8 is no character there, and shown as elsewhere."""
    if char in '\\"' or "\ud800" <= char <= "\udfff":
        return "\\" + _shown(char)
    if " " <= char <= "~":
        return char
    return re.sub("(....)", r"\\u\1", char.encode("utf-16-be").hex())


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 3] + "..."


def _listed(recipients: tuple[str, ...]) -> str:
    """As many as fit, then how many more there are."""
    for number in range(len(recipients)):
        if sum(map(len, recipients[: number + 1])) + number > FIELD_LIMIT - 40:
            return ",".join((*recipients[: max(1, number)], f"and {len(recipients) - max(1, number)} more"))
    return ",".join(recipients)


def _as_many_as_fit(failure: Failure, room: int, most: int, shown: Callable[[str], str]) -> str:
    """The sentence with as many of its reasons as there is room for, at least one, and how many more there are."""
    named = most
    sentence = failure.sentence(named)
    while named > 1 and (len(sentence) > room or sum(map(len, map(shown, sentence))) > room):
        named = max(1, named * 3 // 4)
        sentence = failure.sentence(named)
    return _cut(sentence, room)


# -- where it goes: trouble changes no outcome (RULES A5) -----------------------------------------------------------


class _Screen:
    """Standard error under -v. A reader who does not read holds nobody up: he is waited for, and then told no more."""

    def __init__(self) -> None:
        self._patience = float(READER_SECONDS)  # seconds left to wait
        self._bottom = ""  # the line that is written anew
        self._used = self._torn = False

    def line(self, text: str) -> None:
        self._write(f"{self._erased()}{text}\n{self._bottom}")

    def bottom(self, text: str) -> None:
        try:
            columns = os.get_terminal_size(2).columns or 80
        except OSError:
            return
        text = text[: columns - 1]  # a line that wraps could not be taken back
        if text != self._bottom:
            self._write(self._erased() + text)
            self._bottom = text

    def last(self, line: str) -> None:
        """The outcome, which stands alone; and one more chance for the reader."""
        if not self._used:
            _to(2, line)
            return
        before = "\n" if self._torn else self._erased()
        self._bottom = ""
        self._patience = READER_SECONDS
        self._write(before + line)

    def _erased(self) -> str:
        return f"\r{' ' * len(self._bottom)}\r" if self._bottom else ""

    def _write(self, text: str) -> None:
        self._used = True
        octets = text.encode("ascii", "backslashreplace")
        try:
            while octets and self._has_room():
                octets = octets[os.write(2, octets[:PIECE]) :]
                self._torn = bool(octets)
        except OSError:
            self._patience = 0

    def _has_room(self) -> bool:
        """Whether standard error takes PIECE octets without waiting, or does so after a while."""
        if self._patience <= 0:
            return False
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        if poll.poll(0):
            return True
        begin = time.monotonic()
        found = poll.poll(self._patience * 1000)
        self._patience = self._patience - (time.monotonic() - begin) if found else 0
        return bool(found)


_screen = _Screen()


def _to(descriptor: int, text: str) -> None:
    """Write what can be written."""
    octets = text.encode("ascii", "backslashreplace")
    try:
        while octets:
            octets = octets[os.write(descriptor, octets) :]
    except OSError:
        pass


def _log(event: str, facts: Facts, fields: Pairs, error: bool = False) -> None:
    """Write to the first log that takes the line."""
    for place in facts.log:
        try:
            if place == "none":
                return
            if place == "syslog":
                _to_syslog(_ERROR if error or event == "failed" else _INFO, log_line(event, facts, fields))
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
