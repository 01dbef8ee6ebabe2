"""A Receipt or a Failure turned into a log line, standard error and an exit status: the only place that does."""

from __future__ import annotations

import os
import re
import time
from typing import NoReturn

from muawrap.failure import UNCERTAIN, Failure
from muawrap.mail import Receipt

SENTENCE_LIMIT = 4096  # octets of one line in the log (RULES A7)
_CONTAINER = "/proc/1/fd/2"
_PLAIN = re.compile(r"[A-Za-z0-9_.@<>,:;+/*=!?~%&'|\[\](){}#$^-]+")


class Facts:
    """What is known of the message so far; every log line tells it, whatever became of it."""

    def __init__(self) -> None:
        self.log: tuple[str, ...] = ("syslog",)
        self.message_id = ""
        self.sender = ""
        self.recipients: tuple[str, ...] = ()
        self.notes: list[tuple[str, str]] = []


def printable(text: str) -> str:
    """Printable ASCII only: everything else is shown escaped, so that no reply and no name can forge a line."""
    return "".join(
        char if " " <= char <= "~" else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


def success(receipt: Receipt, facts: Facts) -> int:
    """A message that was accepted, or discarded on purpose: silence, and a log line."""
    facts.sender = receipt.sender
    fields = [
        ("host", receipt.host),
        ("tls", receipt.tls if receipt.host else ""),
        ("user", receipt.user),
        ("size", str(receipt.size) if receipt.host else ""),
        ("reply", receipt.reply),
        ("degraded", "; ".join(receipt.degraded)),
        ("from-header", "rewritten" if receipt.rewritten else ""),
    ]
    _log("sent" if receipt.host else "discarded", facts, fields)
    return 0


def failure(failure: Failure, facts: Facts | None) -> int:
    """A message that was not sent, or may not have been: one line for the caller, and a log line."""
    advice = f" ({failure.advice})" if failure.advice else ""
    identity = f" [Message-ID {facts.message_id}]" if facts and facts.message_id and failure.lead == UNCERTAIN else ""
    _to(2, f"sendmail: {failure.lead}: {printable(_short(failure.sentence()) + identity + advice)}\n")
    if facts is not None:
        _log("failed", facts, [("lead", failure.lead), ("error", failure.sentence() + advice)])
    return 1


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


def log_line(event: str, facts: Facts, fields: list[tuple[str, str]], now: float | None = None) -> str:
    """One line: the time unless `now` is None, the event, and name=value pairs that no value can break out of."""
    recipients = facts.recipients
    shown = ",".join(recipients)
    if len(shown) > SENTENCE_LIMIT // 2:
        shown = shown[: SENTENCE_LIMIT // 2].rpartition(",")[0]
        shown += f",and {len(recipients) - shown.count(',') - 1} more"
    pairs = [("id", facts.message_id), ("from", f"<{facts.sender}>"), ("to", shown), *facts.notes, *fields]
    line = " ".join([event, *(f"{name}={_quoted(value)}" for name, value in pairs if value)])
    if now is not None:
        line = time.strftime("%Y-%m-%dT%H:%M:%S%z ", time.localtime(now)) + line
    return _short(line)


def _quoted(value: str) -> str:
    """A value as it is where it is one plain word, else in quotes with backslash escapes."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.encode("unicode_escape", "surrogatepass").decode("ascii")  # doubles backslashes, too
    return '"' + escaped.replace('"', '\\"') + '"'


def _short(text: str) -> str:
    return text if len(text) <= SENTENCE_LIMIT else text[: SENTENCE_LIMIT - 3] + "..."


def _to(descriptor: int, text: str) -> None:
    """Write what can be written: a closed or full descriptor changes no outcome."""
    octets = text.encode("ascii", "backslashreplace")
    try:
        while octets:
            octets = octets[os.write(descriptor, octets) :]
    except OSError:
        pass


def _log(event: str, facts: Facts, fields: list[tuple[str, str]]) -> None:
    """Write to the first log that can be written to; trouble changes no outcome (RULES A5)."""
    for place in facts.log:
        if place == "none":
            return
        if place == "syslog":
            import syslog

            syslog.openlog("muawrap", syslog.LOG_PID, syslog.LOG_MAIL)
            priority = syslog.LOG_INFO if event != "failed" else syslog.LOG_ERR
            syslog.syslog(priority, log_line(event, facts, fields))
            return
        line = log_line(event, facts, fields, time.time()) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        if place == "container":
            path = _CONTAINER
        else:
            path = place
            flags |= os.O_CREAT | os.O_NOFOLLOW
        try:
            file = os.open(path, flags, 0o600)
        except OSError:
            continue
        try:
            if os.write(file, line.encode("ascii")):
                return
        except OSError:
            continue
        finally:
            os.close(file)
