"""A message handed to the mail system of this machine, by the command that `mta` names, and what that said.

Where the last word of `mta` is -bS the command reads one transaction of batch SMTP, else it is called with
`-i -f SENDER -- RECIPIENT...` and reads the message. Only its exit status 0 means that it has the message.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, NamedTuple

from muawrap import batch, report
from muawrap.environment import FETCHED
from muawrap.failure import Failure
from muawrap.mail import Body
from muawrap.submission import wire

SECONDS = 600.0
"""How long it may take: as long as the sender of a message waits for the reply to it (RFC 5321, 4.5.3.2.6)."""
SAID = 4096  # octets of each of its outputs that are kept
WORDS = 400  # characters of them that are told
HEAD = 4096  # octets of a program that say what it is
KILLED_SECONDS = 5.0  # for a killed program to be gone
_FOLDER = "/var/tmp"  # on disk, as /tmp often is not
GLANCE = 0.1  # seconds between two looks whether a program that holds its outputs open has ended
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
FOR_FETCHED = {**ENVIRONMENT, FETCHED: "1"}
"""For what was fetched: were the program, by way of some script, our own sendmail, it would refuse."""

FOR_GOOD = (os.EX_DATAERR, os.EX_NOUSER, os.EX_NOHOST)
"""Statuses that are about the message or a recipient. All others may be a wrong `mta`, and must not bounce all mail."""
# Exim's and Sendmail's -bS print the reply that stopped the batch; 500 to 504 are about our own commands.
_BATCH_REFUSED = re.compile(rb"55[0-9][ -]")
_OURS = re.compile(rb"^\s*(?:from|import)\s+muawrap\b", re.MULTILINE)

TAKEN, LATER, REFUSED = "taken", "later", "refused"


class Answer(NamedTuple):
    """What became of a message."""

    outcome: str  # TAKEN, LATER or REFUSED
    words: str  # why, for people here; "" where there is nothing to say
    said: str = ""  # the first line that the program printed, for others: it need not know our paths
    hung: bool = False  # it did not end, and was ended


def must_not_be_us(mta: Sequence[str]) -> None:
    """Refuse a `mta` that cannot be run, or that is this program itself: mail would go round. Raises Failure."""
    program = os.path.realpath(mta[0])
    if not os.path.isfile(program) or not os.access(program, os.X_OK):
        raise Failure(
            f"there is no program {mta[0]} to hand mail to",
            advice="mta names the sendmail of the mail system of this machine",
            status=os.EX_CONFIG,
        )
    for word in mta:  # the program may be an interpreter, and a word behind it what is interpreted
        if _OURS.search(_head(word)):
            raise Failure(
                f"mail cannot be handed to {word}: it is muawrap itself, which would send it back",
                advice="mta names the sendmail of the mail system of this machine",
                status=os.EX_CONFIG,
            )


def _head(path: str) -> bytes:
    """How a file begins; nothing where it is none, or may not be read."""
    if os.path.isfile(path):
        with suppress(OSError), open(path, "rb") as file:
            return file.read(HEAD)
    return b""


def hand(
    mta: Sequence[str],
    sender: str,
    recipients: Sequence[str],
    header: bytes,
    body: Body,
    *,
    environment: Mapping[str, str] = ENVIRONMENT,
    seconds: float = SECONDS,
) -> Answer:
    """Hand one message over and wait for the verdict. Whatever goes wrong here is LATER."""
    argv = list(mta)
    if argv[-1] == "-bS":
        text = batch.transaction((), sender, recipients, header, body)
    else:
        text = wire.text(header, body)
        argv += ["-i", "-f", sender or "<>", "--", *recipients]
    try:
        # From a file, not a pipe: were we killed half way, the end of a pipe would be the end of a shorter message.
        with tempfile.TemporaryFile(dir=os.environ.get("TMPDIR") or _FOLDER) as file:
            _write(file, text)
            return _run(argv, file, environment, seconds)
    except (OSError, Failure) as error:
        return Answer(LATER, f"{mta[0]}: {(getattr(error, 'strerror', '') or str(error)).lower()}")


def _write(file: IO[bytes], text: Iterable[bytes]) -> None:
    file.writelines(text)
    file.flush()
    file.seek(0)


def _run(argv: Sequence[str], file: IO[bytes], environment: Mapping[str, str], seconds: float) -> Answer:
    """Run it; no shell, and a process group of its own. Raises OSError where it cannot be started."""
    process = subprocess.Popen(
        argv,
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as output, process.stderr as errors:
        try:
            said = _heard(process, (output, errors), time.monotonic() + seconds)
        except TimeoutError:
            return Answer(LATER, f"{argv[0]} took longer than {seconds:g} s", hung=True)
        finally:
            if process.poll() is None:  # the whole group: nobody may take the message once it has been refused
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(KILLED_SECONDS)
    return _verdict(argv, process.returncode, *said)


def _heard(process: subprocess.Popen[bytes], pipes: Sequence[IO[bytes]], deadline: float) -> list[bytes]:
    """How each output begins, when the program has ended. Raises TimeoutError.

    Somebody it has left behind may hold the outputs open; they are not waited for.
    """
    heard = {pipe.fileno(): b"" for pipe in pipes}
    poll = select.poll()
    for descriptor in heard:
        poll.register(descriptor, select.POLLIN)
    is_open = set(heard)
    while process.poll() is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if is_open:
            is_open -= _listen(poll, heard, min(left, GLANCE))
        else:
            with suppress(subprocess.TimeoutExpired):
                process.wait(left)
    _listen(poll, heard, 0)
    return list(heard.values())


def _listen(poll: select.poll, heard: dict[int, bytes], seconds: float) -> set[int]:
    """Take in what comes; the descriptors from which nothing more will."""
    closed = set()
    for descriptor, _ in poll.poll(int(seconds * 1000)):
        octets = os.read(descriptor, SAID)
        heard[descriptor] += octets[: SAID - len(heard[descriptor])]
        if not octets:
            poll.unregister(descriptor)
            closed.add(descriptor)
    return closed


def _verdict(argv: Sequence[str], status: int, output: bytes, errors: bytes) -> Answer:
    if status == os.EX_OK:
        return Answer(TAKEN, _words(output or errors))
    batched = argv[-1] == "-bS"
    said = _words(output if batched and output else errors or output)
    ended = f"{argv[0]} ended with {f'status {status}' if status > 0 else f'signal {-status}'}"
    for_good = status in FOR_GOOD or (batched and status in (1, 2) and _BATCH_REFUSED.match(output))
    return Answer(REFUSED if for_good else LATER, f"{ended}: {said}" if said else ended, said)


def _words(said: bytes) -> str:
    """The first line that says something, printable."""
    lines = (line.strip() for line in said.decode("utf-8", "backslashreplace").splitlines())
    return report.printable(next(filter(None, lines), ""))[:WORDS]
