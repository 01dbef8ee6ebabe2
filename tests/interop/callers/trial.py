"""A caller tried twice, with a smart host that takes its message and one that refuses it: the marks it gets."""

from __future__ import annotations

import email
import email.policy
import re
import subprocess
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from tests.interop.callers.desk import PATIENCE, Call, Desk, Done
from tests.interop.callers.table import COLUMNS, Caller
from tests.support.program import Program
from tests.support.server import Received, Server

REFUSAL = "550 5.1.1 no such user here"


class Trial(NamedTuple):
    """What has come of it: for each column what is wrong, or nothing."""

    argv: str  # as sendmail was called
    wrong: dict[str, str]


class Run(NamedTuple):
    done: Done
    calls: list[Call]
    messages: list[Received]
    log: str
    home: Path


def trial(caller: Caller, folder: Path) -> Trial:
    """Run it in both ways, in folders below this one."""
    good, refused = run(caller, folder / "good", {}), run(caller, folder / "refused", {"RCPT": REFUSAL})
    wrong = {column: CHECKS[column](caller, good) for column in COLUMNS[:-1]}
    wrong["failure"] = failure(caller, refused)
    argv = " ".join(shown(word) for word in good.calls[0].argv) if good.calls else ""
    return Trial(argv.removeprefix("sendmail ").replace(str(good.home), "~"), wrong)


def run(caller: Caller, folder: Path, script: dict[str, str]) -> Run:
    (folder / "program").mkdir(parents=True)
    program = Program(folder / "program")
    with Server(script, extensions=("PIPELINING", "8BITMIME", "DSN", "SIZE 10000000")) as server:
        desk = Desk(program, folder / "home", server)
        try:
            done = caller.run(desk)
            calls = desk.calls()
        finally:
            desk.close()
        sessions = server.finished()
    return Run(done, calls, [each for session in sessions for each in session.accepted], program.log, desk.home)


def shown(word: str) -> str:
    return f"'{word}'" if not word or " " in word else word


# --- what has to be true; the answer is what is wrong


def arguments(caller: Caller, run: Run) -> str:
    """Called once, taken, and not a word said."""
    if [call.status for call in run.calls] != [0]:
        return f"calls {run.calls}, log {run.log!r}, output {output(run.done)!r}"
    return f"output {output(run.done)!r}" if b"sendmail: " in output(run.done) else ""


def recipients(caller: Caller, run: Run) -> str:
    """In one message."""
    came = [sorted(address.decode() for address in message.recipients) for message in run.messages]
    return "" if came == [sorted(caller.to)] else f"recipients {came}"


def sender(caller: Caller, run: Run) -> str:
    """And each field that a message must have is there once."""
    came = [message.sender.decode() for message in run.messages]
    if came != [caller.sender]:
        return f"sender {came}"
    counts = {name: len(parsed(run).get_all(name, [])) for name in ("From", "Date", "Message-ID")}
    return "" if set(counts.values()) == {1} else f"fields {counts}"


def bcc(caller: Caller, run: Run) -> str:
    """Neither a field nor the address."""
    header = header_of(run)
    if re.search(rb"(?im)^(resent-)?bcc\b", header):
        return f"header {header!r}"
    return f"header {header!r}" if caller.hidden and caller.hidden.encode() in header else ""


def text(caller: Caller, run: Run) -> str:
    """Lines end with CRLF on the wire, and the body is what was written."""
    for message in run.messages:
        if re.search(rb"\r(?!\n)|(?<!\r)\n", message.data):
            return f"line ends {message.data!r}"
    payload = parsed(run).get_payload(decode=True)
    assert isinstance(payload, bytes)
    body = payload.decode(parsed(run).get_content_charset("utf-8"))
    if isinstance(caller.text, tuple):
        missing = [line for line in caller.text if line not in body]
        return f"no {missing} in {body!r}" if missing else ""
    return "" if body == caller.text else f"text {body!r}"


def failure(caller: Caller, run: Run) -> str:
    """The program says no, nothing is taken, and the caller shows it in its way."""
    heard = caller.heard
    if [call.status for call in run.calls] != [1] or run.messages:
        return f"calls {run.calls}, log {run.log!r}, output {output(run.done)!r}"
    if 'lead="not sent, refused"' not in run.log or REFUSAL not in run.log:
        return f"log {run.log!r}"
    if heard.status is not None and run.done.returncode != heard.status:
        return f"status {run.done.returncode}, output {output(run.done)!r}"
    return "" if re.search(heard.says, output(run.done)) else f"output {output(run.done)!r}"


CHECKS = {"arguments": arguments, "recipients": recipients, "sender": sender, "Bcc": bcc, "text": text}


def output(done: Done) -> bytes:
    return done.stdout + done.stderr


def header_of(run: Run) -> bytes:
    return run.messages[0].text.partition(b"\r\n\r\n")[0] if run.messages else b""


def parsed(run: Run) -> EmailMessage:
    """The message as its reader has it."""
    text = run.messages[0].text.replace(b"\r\n", b"\n") if run.messages else b""
    return email.message_from_bytes(text, policy=email.policy.default)


def version(package: str) -> str:
    """As Debian counts, without its own part."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, timeout=PATIENCE, check=False
    )
    return re.sub(r"^\d+:|[-+~].*", "", done.stdout.decode())
