"""Programs that call sendmail: what they send is what arrives, and they hear of a failure."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.interop.callers import languages, page, people, system
from tests.interop.callers.desk import BCC, BODY, BOX, CC, ME, OPS, SUBJECT, TO, Desk
from tests.interop.callers.table import CALLERS, Caller, Heard, Run
from tests.interop.callers.trial import output, trial
from tests.support.exim import Exim
from tests.support.program import Program
from tests.support.server import Server

# --- the table


@pytest.mark.parametrize("caller", [pytest.param(caller, id=caller.name) for caller in CALLERS])
def test_a_caller_gets_what_it_expects(caller: Caller, tmp_path: Path) -> None:
    """A1, A2, B1, B2, F1, F3, F4: its row of docs/callers.md, made once more."""
    made = trial(caller, tmp_path)
    assert not {column: wrong for column, wrong in made.wrong.items() if wrong}
    now, then = page.ROW.fullmatch(page.row(caller, made)), page.rows(page.read())[caller.name]
    assert now is not None
    assert now["cells"] == then["cells"]
    if now["version"] == then["version"]:  # another version may well call with other words
        assert now["argv"] == then["argv"]


def test_the_page_is_that_of_the_table() -> None:
    """Each caller has its row, in this order, and no mark is red; what stands around the rows is as it is made now."""
    written = page.read()
    assert list(page.rows(written)) == [caller.name for caller in CALLERS]
    assert "**no**" not in written
    made = page.HEAD.format(
        callers=len(CALLERS), real=sum(bool(caller.package) for caller in CALLERS), date="2020-01-01", python="3.11.0"
    )
    assert page.without_rows(written) == page.without_rows(f"{made}\n{page.notes()}")


def test_a_wrong_text_is_marked(tmp_path: Path) -> None:
    """The table would show it: a caller of which something else is expected than what it does."""
    expected = CALLERS[0]._replace(
        to=(TO,), sender=BOX, hidden="Date", text="another\n", heard=Heard("not at all", 0, b"nothing")
    )
    made = trial(expected, tmp_path)
    assert {column for column, wrong in made.wrong.items() if wrong} == {
        "recipients", "sender", "Bcc", "text", "failure"
    }  # fmt: skip
    assert page.row(expected, made).count("**no**") == 5


# --- what has no column


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "program").mkdir()
    return Program(tmp_path / "program")


@pytest.fixture
def desk(program: Program, exim: Exim, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(program, tmp_path / "home", exim)
    yield desk
    desk.close()


DOWN: list[tuple[Run, int | None]] = [
    (people.mutt, 1),
    (people.bsd_mailx, 1),
    (people.s_nail, 4),
    (people.git_send_email, None),
    (languages.php, 9),
    (languages.nodemailer, 9),
    (languages.symfony, 9),
]


@pytest.mark.parametrize(("run", "status"), DOWN, ids=["mutt", "mailx", "s-nail", "git", "PHP", "Node", "Symfony"])
def test_a_caller_hears_that_the_smart_host_is_down(desk: Desk, exim: Exim, run: Run, status: int | None) -> None:
    """A1: by exit status."""
    exim.stop()
    done = run(desk)
    assert done.returncode not in (0, 255)
    assert status is None or done.returncode == status
    assert [call.status for call in desk.calls()] == [1]
    assert "not sent, try again" in desk.program.log


def test_s_nail_keeps_what_was_not_sent(desk: Desk, exim: Exim) -> None:
    """A1: in dead.letter."""
    exim.stop()
    assert people.s_nail(desk).returncode == 4
    assert BODY.split()[0].encode() in (desk.home / "dead.letter").read_bytes()


def test_an_attachment_of_mutt_arrives_byte_for_byte(desk: Desk, exim: Exim) -> None:
    attached = desk.home / "attached.bin"
    attached.write_bytes(bytes(range(256)) * 1024)
    done = people.mutt(desk, "-a", str(attached))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    [arrived] = exim.messages()
    [attachment] = arrived.parsed.iter_attachments()
    assert attachment.get_payload(decode=True) == attached.read_bytes()


DSN = 'set dsn_notify="failure,delay"\nset dsn_return=hdrs\n'


def test_mutt_asks_for_delivery_notifications(program: Program, tmp_path: Path) -> None:
    """E6: -N and -R are DSN."""
    with Exim(tmp_path, extra="dsn_advertise_hosts = *\n") as notifying:
        done = people.mutt(Desk(program, tmp_path / "home", notifying), settings=DSN)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        [arrived] = notifying.messages()
        assert arrived.recipients == [TO, CC, BCC]
        mail, *rcpts = (line for line in notifying.said if line.startswith(("MAIL", "RCPT")))
        assert "RET=HDRS" in mail
        assert len(rcpts) == 3
        assert all("NOTIFY=FAILURE,DELAY" in rcpt for rcpt in rcpts)


def test_a_host_without_dsn_gets_the_message_of_mutt_all_the_same(desk: Desk, exim: Exim) -> None:
    """E6."""
    done = people.mutt(desk, settings=DSN)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    [arrived] = exim.messages()
    assert arrived.recipients == [TO, CC, BCC]
    assert not any("NOTIFY" in line or "RET=" in line for line in exim.said)


def test_a_patch_sent_with_git_can_be_applied(desk: Desk, exim: Exim) -> None:
    """B1, F1, F3: the commit made of what arrived is the one that was sent."""
    done = people.git_send_email(desk)
    assert done.returncode == 0, done.stderr
    assert b"sendmail" not in done.stderr
    [arrived] = exim.messages()
    assert arrived.parsed["Subject"] == f"[PATCH] {SUBJECT}"
    message = desk.file("message", arrived.text.decode())
    assert people.git(desk, "init", "--quiet", folder="other").returncode == 0
    applied = people.git(desk, "am", str(message), folder="other")
    assert applied.returncode == 0, applied.stderr
    shown = people.git(desk, "show", "HEAD:file", folder="other").stdout.decode()
    assert shown == BODY + "no line end"
    logged = people.git(desk, "log", "-1", "--format=%an %ae %s%n%b", folder="other").stdout.decode()
    assert logged == f"Jürgen {ME} {SUBJECT}\nA text.\n\n"


def test_git_shows_our_line(desk: Desk, exim: Exim) -> None:
    """A3."""
    exim.stop()
    assert b"sendmail: not sent, try again: " in people.git_send_email(desk).stderr


# --- cron


def test_what_cron_wrote_is_kept_but_for_bare_names(desk: Desk, exim: Exim) -> None:
    """D1, F3, F9: root is whom root stands for; what was missing has been added."""
    system.cron(desk)
    assert [call.status for call in desk.calls()] == [0]
    [arrived] = exim.messages()
    assert arrived.recipients == [OPS, CC]
    lines = arrived.header.decode().splitlines()
    assert lines[0] == f'From: "root (Cron Daemon)" <{BOX}>'
    assert lines[1] == f"To: root@client.example,{CC}"
    assert "Content-Transfer-Encoding: 8bit" in lines
    assert "X-Cron-Env: <LOGNAME=root>" in lines
    assert arrived.parsed["Subject"].startswith("Cron <root@")
    assert arrived.parsed["Date"]
    assert arrived.parsed["Message-ID"]


LONG = "".join(f"{number:04} Grüße " for number in range(273))[:3000]


def test_a_line_of_3000_characters_from_cron_arrives_intact(program: Program, tmp_path: Path) -> None:
    """F6: no line on the wire is too long, and the reader sees the one that was printed."""
    printed = f"before\n{LONG}\nafter\n"
    with Server() as server:
        desk = Desk(program, tmp_path / "home", server)
        system.cron(desk, printed)
        assert [call.status for call in desk.calls()] == [0], desk.program.log
        [received] = [each for session in server.finished() for each in session.accepted]
    assert max(map(len, received.data.split(b"\r\n"))) <= 998
    assert len(LONG) == 3000
    assert body(received.text) == printed


def body(text: bytes) -> str:
    parsed = email.message_from_bytes(text.replace(b"\r\n", b"\n"), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    payload = parsed.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode(parsed.get_content_charset("utf-8"))


# --- SMTP on standard input


@pytest.mark.parametrize("run", [people.alpine, languages.symfony], ids=["alpine", "Symfony"])
@pytest.mark.parametrize("stage", ["RCPT", "dot"])
def test_a_caller_by_smtp_reads_the_smart_hosts_own_refusal(
    program: Program, tmp_path: Path, run: Run, stage: str
) -> None:
    """E8: word for word, whether a recipient or the text was refused."""
    with Server({stage: "554 5.7.1 not from this street"}) as server:
        desk = Desk(program, tmp_path / "home", server)
        done = run(desk)
        assert [call.status for call in desk.calls()] == [1]
    assert re.search(rb"554 5[.]7[.]1 not from this street", output(done)), output(done)
