"""Calls as they were recorded of programs that are not to be had here, repeated with a message of their kind."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial

from tests.interop.callers.desk import BCC, BODY, CC, ME, TO, Desk, Done

ENCODED = "=?utf-8?B?R3LDvMOfZSB2b20gU2NocmVpYnRpc2No?="
LETTER = f"From: {ME}\nTo: {TO}\nCc: {CC}\nSubject: {ENCODED}\nContent-Type: text/plain; charset=utf-8\n\n{BODY}"
WITH_BCC = f"Bcc: {BCC}\n{LETTER}"
LAID_DOWN = "Date: Sat, 21 Nov 2020 10:00:00 +0000\nMessage-ID: <1@client.example>\n"  # what -G does not add
CRLF = LETTER.replace("\n", "\r\n")

CRON = f"""\
From: {{}}
To: {{}}
Subject: Cron <root@box> run-parts /etc/cron.daily
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
X-Cron-Env: <LOGNAME=root>

{BODY}"""

BATCH = f"HELO box\nMAIL FROM:<{ME}>\nRCPT TO:<{TO}>\nRCPT TO:<{CC}>\nRCPT TO:<{BCC}>\nDATA\n" + (
    LETTER.replace("\n.", "\n..") + ".\nQUIT\n"
)


def call(line: str, message: str = LETTER, name: str = "sendmail") -> Callable[[Desk], Done]:
    """Called with the words of this line, and a pipe."""
    return partial(_call, argv=shlex.split(line), message=message, name=name)


def _call(desk: Desk, argv: list[str], message: str, name: str) -> Done:
    return desk.run(desk.named(name), *argv, stdin=message)


def shell(script: str, message: str = BODY) -> Callable[[Desk], Done]:
    """Called by a script in which $1 is sendmail."""
    return partial(_shell, script=script, message=message)


def _shell(desk: Desk, script: str, message: str) -> Done:
    return desk.run("sh", "-c", script, "sh", desk.sendmail, stdin=message)


def mail(*words: str) -> Callable[[Desk], Done]:
    """By /usr/bin/mail, as bsd-mailx has it."""
    return partial(_mail, words=words)


def _mail(desk: Desk, words: tuple[str, ...]) -> Done:
    mailrc = desk.file("mailrc", f"set sendmail={desk.sendmail}\n")
    return desk.run("bsd-mailx", *words, env={"MAILRC": str(mailrc)})
