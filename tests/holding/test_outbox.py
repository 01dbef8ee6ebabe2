"""`muawrap outbox`: as sendmail, but for what may be tried again, which is kept (INTERMITTENT 6.0)."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.support import half_loaded
from tests.support.need import need
from tests.support.outbox import KEPT, NOWHERE, Outbox
from tests.support.program import Program, Result
from tests.support.server import Drop, Hold, Received, Server
from tests.support.terminal import Terminal
from tests.torture.outbox import tortured

MESSAGE = (
    b"To: you@example.net, bob\nBcc: secret@example.net\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n"
    b"Message-ID: <1@client.example>\nSubject: hello\n\nHello.\n.\nBye."
)


@pytest.fixture
def outbox(program: Program) -> Outbox:
    return Outbox(program).configure(NOWHERE)


def kept_line(done: Result) -> str:
    """What is said of a message that is kept."""
    assert (done.status, done.out) == (0, b"")
    line = done.err.decode("ascii")
    assert KEPT.fullmatch(line), line
    return line


# -- sent ------------------------------------------------------------------------------------------------------------


def test_what_is_sent_is_sent_silently_and_nothing_is_kept(outbox: Outbox) -> None:
    """A1, A2: not even a folder is made."""
    with Server() as server:
        done = outbox.configure(server).run("you@example.net")
    assert (done.status, done.out, done.err) == (0, b"", b"")
    assert [one.recipients for one in server.accepted] == [[b"you@example.net"]]
    assert not outbox.folder.exists()
    assert len(outbox.events("sent")) == 1


COMMAND_LINES = [
    ["-oi", "-t"],
    ["-i", "-f", "al@client.example", "--", "you@example.net"],
    ["-tifal@client.example", "-FAl Jones"],
    ["-oem", "you@example.net,bob", "-f", "<>"],
    ["-h", "3", "-G", "you@example.net"],
    ["-N", "success,delay", "-R", "hdrs", "-V", "a b", "-odq", "you@example.net"],
    # refused
    ["--frobnicate", "you@example.net"],
    ["--", "-t"],
    ["-bd"],
    ["you@"],
    ["-C"],
    [],
]


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_every_word_means_what_it_means_to_sendmail(words: list[str], outbox: Outbox) -> None:
    """E1 to E6: none is eaten on the way, and every failure is told in the same words."""
    with Server(extensions=("PIPELINING", "8BITMIME", "SIZE 10000000", "DSN")) as server:
        outbox.configure(server)
        plain = outbox.program.run(*words, stdin=MESSAGE)
        kept = outbox.run(*words, stdin=MESSAGE)
    assert (kept.status, kept.out, kept.err) == (plain.status, plain.out, plain.err)
    assert len(server.accepted) == 2 * (plain.status == 0)
    if plain.status == 0:
        one, other = map(arrived, server.accepted)
        assert one == other
    assert outbox.names() == []


def arrived(received: Received) -> tuple[object, ...]:
    """Envelope and text."""
    return (
        received.sender,
        received.mail_parameters,
        received.recipients,
        received.rcpt_parameters,
        received.text,
    )


# -- not sent now ----------------------------------------------------------------------------------------------------


def test_what_may_be_tried_again_is_kept_and_one_line_says_so(outbox: Outbox) -> None:
    """INTERMITTENT 6.0: exit 0, for the message is safe; the log has its id and the reason."""
    line = kept_line(outbox.run("you@example.net"))
    [held] = outbox.waiting()
    assert held.envelope.id in line
    assert "127.0.0.1:1: connection refused while connecting" in line
    [logged] = outbox.events("kept")
    assert f" name={outbox.names()[0]} " in logged
    assert f"id={held.envelope.id}" in logged
    assert "connection refused" in logged
    assert outbox.events("failed") == []


def test_it_is_kept_as_the_caller_gave_it(outbox: Outbox, tmp_path: Path) -> None:
    """A4: before aliases, with all that was asked for; read by nobody else."""
    aliases = tmp_path / "aliases"
    aliases.write_text("bob: bob@elsewhere.example\n")
    outbox.configure(NOWHERE, tables=f'[redirect]\naliases = ["{aliases}"]\n')
    words = ["-iU", '-FAl "the" Jones', "-Nnever", "-Rfull", "-Vx y", "bob", "\\carol", "you@example.net"]
    begin = time.time()
    kept_line(outbox.run(*words, stdin=MESSAGE))
    [held] = outbox.waiting()
    envelope = held.envelope
    assert envelope.sender == "me@client.example"
    assert [one.address for one in envelope.recipients] == ["bob", "\\carol", "you@example.net"]
    assert {one.notify for one in envelope.recipients} == {"NEVER"}
    assert (envelope.returns, envelope.envelope_id, envelope.utf8) == ("FULL", "x+20y", True)
    assert (envelope.id, begin - 1 < envelope.at <= time.time()) == ("<1@client.example>", True)
    facts = dict(envelope.facts)
    assert (facts["outcome"], facts["name"], facts["sender"]) == ("not sent, try again", 'Al "the" Jones', "default")
    assert facts["login"]
    text = held.header + b"\n" + b"".join(held.body.blocks())
    assert text == MESSAGE.replace(b"Bcc: secret@example.net\n", b"") + b"\n"
    [file] = (outbox.folder / "new").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(outbox.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("script", [{"RCPT": "451 4.2.1 later"}, {"greeting": "421 busy"}, {"dot": "452 no room"}])
def test_every_trouble_that_may_pass_keeps_it(script: dict[str, str], outbox: Outbox) -> None:
    """INTERMITTENT 6.0: wherever it came from."""
    with Server(script) as server:
        kept_line(outbox.configure(server).run("you@example.net"))
    assert len(outbox.names()) == 1


def test_trouble_of_our_own_that_may_pass_keeps_it_too(outbox: Outbox, tmp_path: Path) -> None:
    """D3: an alias says :defer:."""
    aliases = tmp_path / "aliases"
    aliases.write_text("bob: :defer: moving house\n")
    line = kept_line(outbox.configure(NOWHERE, tables=f'[redirect]\naliases = ["{aliases}"]\n').run("bob"))
    assert "moving house" in line
    [held] = outbox.waiting()
    assert held.envelope.id.endswith("@client.example>")


def test_a_large_message_is_kept_whole(outbox: Outbox) -> None:
    """A4: also one that is not kept in memory."""
    body = b"x" * 77 + b"\n"
    kept_line(outbox.run("you@example.net", stdin=b"Subject: large\n\n" + body * 40_000))
    [held] = outbox.waiting()
    assert held.body.size == len(body) * 40_000


@pytest.mark.row("H15")
@pytest.mark.parametrize(
    ("script", "lead"),
    [({"RCPT": "550 no such user"}, "not sent, refused"), ({"dot": Drop()}, "may have been sent")],
    ids=["refused", "uncertain"],
)
def test_what_is_refused_or_may_have_been_sent_is_not_kept(
    script: dict[str, object], lead: str, outbox: Outbox
) -> None:
    """A3, INTERMITTENT 6.0: the same sentence and status as sendmail's; keep_failed holds as ever."""
    folder = outbox.program.folder / "failed"
    folder.mkdir(0o700)
    with Server(script) as server:  # type: ignore[arg-type]
        done = outbox.configure(server, top=f'keep_failed = "{folder}"').run("you@example.net")
    assert (done.status, done.out) == (1, b"")
    assert done.sentence.startswith(f"sendmail: {lead}: ")
    assert "kept as " in done.sentence
    assert outbox.names() == []
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


def test_what_is_in_the_outbox_is_not_kept_a_second_time(outbox: Outbox) -> None:
    """A4: keep_failed has no copy, which somebody might send as well."""
    folder = outbox.program.folder / "failed"
    folder.mkdir(0o700)
    kept_line(outbox.configure(NOWHERE, top=f'keep_failed = "{folder}"').run("you@example.net"))
    assert list(folder.iterdir()) == []


def test_where_it_cannot_be_kept_the_failure_says_both(outbox: Outbox) -> None:
    """A3: exit 1, so that the caller keeps it; and keep_failed has its copy."""
    folder = outbox.program.folder / "failed"
    folder.mkdir(0o700)
    outbox.folder.write_text("in the way")
    done = outbox.configure(NOWHERE, top=f'keep_failed = "{folder}"').run("you@example.net")
    assert (done.status, done.out) == (1, b"")
    assert "connection refused while connecting" in done.sentence
    assert f"could not be kept in the outbox: {outbox.folder} is no folder: remove it, " in done.sentence
    assert f"kept as {folder}/" in done.sentence
    assert outbox.folder.read_text() == "in the way"
    assert f' not-kept="{outbox.folder} is no folder: ' in outbox.program.log, "cron has nobody who reads the other one"


@pytest.mark.row("H15")
@pytest.mark.parametrize(
    "inject",
    ["write:error=ENOSPC:when=1", "write:error=EDQUOT:when=2", "fsync:error=EIO:when=1", "fsync:error=EIO:when=2"],
)
def test_a_disk_in_trouble_leaves_no_half_message(inject: str, outbox: Outbox) -> None:
    """A3: from the first octet to the folder's own place on disk, without which there is no promise."""
    outbox.put("m1")
    name = inject.partition(":")[0]
    strace = [need("strace"), "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={inject}"]
    done = outbox.call([*strace, *outbox.argv("outbox", "you@example.net")])
    assert (done.status, done.out) == (1, b"")
    assert "connection refused while connecting" in done.sentence
    assert "could not be kept in the outbox: " in done.sentence
    assert outbox.names() == ["m1"]
    assert list((outbox.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_message_has_left_keeps_it(number: int, outbox: Outbox) -> None:
    """A1, INTERMITTENT 6.0: a machine that is shut down does not lose it."""
    reached = threading.Event()
    with Server({"MAIL": Hold(reached)}) as server:
        process = subprocess.Popen(
            outbox.configure(server).argv("outbox", "you@example.net"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=outbox.environment,
        )
        assert process.stdin is not None
        process.stdin.write(b"Subject: x\n\nHello.\n")
        process.stdin.close()
        process.stdin = None
        assert reached.wait(20)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert "interrupted by a signal" in kept_line(Result(process.returncode, out, err))
    assert len(outbox.names()) == 1


def test_a_message_that_was_not_read_to_its_end_is_not_kept(outbox: Outbox) -> None:
    """A1: half of it is no message."""
    read, write = os.pipe()
    process = subprocess.Popen(
        outbox.argv("outbox", "you@example.net"), stdin=read, stderr=subprocess.PIPE, env=outbox.environment
    )
    os.write(write, b"Subject: x\n\nHel")
    wait_until_read(read)
    process.terminate()
    _, err = process.communicate(timeout=20)
    os.close(read)
    os.close(write)
    assert process.returncode == 1
    assert err.startswith(b"sendmail: not sent, try again: interrupted by a signal")
    assert outbox.names() == []


def test_a_message_is_kept_whatever_a_signal_finds_half_loaded(outbox: Outbox) -> None:
    """E8: from the end of its text on it is the outbox's; what keeps it needs nothing that is not loaded by then."""
    outbox.configure(NOWHERE)
    for run in half_loaded.runs("outbox", ["-C", str(outbox.program.config), "you@example.net"], MESSAGE):
        [name] = outbox.names()
        (outbox.folder / "new" / name).unlink()
        assert (run.status, "interrupted by a signal" in run.said) == (0, bool(run.module)), run


def wait_until_read(pipe: int) -> None:
    """Until whoever reads it has taken all that is in it."""
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]:
        os.sched_yield()


@pytest.mark.row("H15")
@pytest.mark.parametrize("scene", ["down", "no room"])
def test_killed_anywhere_it_is_sent_or_kept_or_the_caller_knows(scene: str) -> None:
    """INTERMITTENT 7: never both; a sample of what `make torture` does at every system call."""
    need("strace")
    tally = tortured(scene, sample=6)
    assert tally.good, tally.told


# -- other modes -----------------------------------------------------------------------------------------------------


def test_help_is_there_and_nothing_else_is_ours(outbox: Outbox) -> None:
    """muawrap(1)."""
    done = outbox.call([*outbox.argv("outbox")[:3], "outbox", "--help"])
    assert done.status == 0
    assert b"kept in the outbox" in done.out
    assert b"[sendmail's options] [RECIPIENT]..." in done.out


def test_bp_lists_the_outbox_and_q_ships_it(outbox: Outbox) -> None:
    """E5: where there is a queue, of a kind, they tell of it."""
    assert b"nothing waits" in outbox.run("-bp").out
    outbox.put("m1", "you@example.net")
    assert b"you@example.net" in outbox.run("-bp").out
    with Server() as server:
        done = outbox.configure(server).run("-q")
    assert (done.status, done.out) == (0, b"sent 1\n")
    assert len(server.accepted) == 1
    assert outbox.names() == []


@pytest.mark.parametrize("mode", ["-bs", "-bS"])
def test_smtp_is_refused(mode: str, outbox: Outbox) -> None:
    """E8: a reply to the dot is a verdict, and "kept" is none."""
    done = outbox.run(mode, stdin=b"EHLO me\r\nQUIT\r\n")
    assert done.status == 1
    assert done.sentence.startswith("sendmail: not sent, refused: muawrap outbox takes one message on standard input")
    assert done.out.startswith(b"554 muawrap outbox takes one message") == (mode == "-bs")


def test_v_on_a_terminal_shows_the_dialogue_and_then_the_line(outbox: Outbox) -> None:
    """A2: as sendmail -v."""
    with Server({"RCPT": "450 later"}) as server:
        outbox.configure(server)
        done = Terminal(outbox.argv("outbox", "-v", "you@example.net"), b"Subject: x\n\nx\n", env=outbox.environment)
    assert done.status == 0
    told = done.written.decode("ascii").replace("\r\n", "\n")
    assert ">>> RCPT TO:<you@example.net>" in told
    assert KEPT.fullmatch(told.splitlines(keepends=True)[-1])


# -- sendmail itself -------------------------------------------------------------------------------------------------


@pytest.mark.row("H16")
@pytest.mark.parametrize("up", [True, False], ids=["sent", "failed"])
def test_sendmail_never_looks_at_the_outbox_or_the_spool(up: bool, outbox: Outbox, tmp_path: Path) -> None:
    """INTERMITTENT 6, 7: as strace sees it; nor does it load anything of it."""
    spool, trace = tmp_path / "spool", tmp_path / "trace"
    spool.mkdir()
    outbox.put("m1")
    with Server() as server:
        outbox.configure(
            *([server] if up else [NOWHERE]),
            top=f'spool = "{spool}"',
            tables='[hold.cheshire]\nto = "smtp://127.0.0.1:1"\n',
        )
        command = [need("strace"), "-f", "-s", "512", "-e", "trace=%file", "-o", str(trace)]
        own = (outbox.program.named("sendmail"), "-C", outbox.program.config, "you@example.net")
        done = subprocess.run([*command, *own], input=MESSAGE, capture_output=True, check=False)
    assert done.returncode == (0 if up else 1)
    calls = trace.read_text()
    assert str(outbox.program.config) in calls
    assert [path for path in (str(outbox.folder), str(spool), "muawrap/holding", "click") if path in calls] == []
    assert outbox.names() == ["m1"]
