"""One outcome, one line, whatever is in it and wherever it goes (RULES A1 to A7; RELIABILITY I8, I9, F6, L4)."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap import report
from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Receipt, Reply

RECEIPT = Receipt("smtp.example.org:587", "me@example.org", "TLSv1.3", "al", 1234, "250 2.0.0 queued as <1>")
PAIR = re.compile(r' ([a-z-]+)=("(?:[^"\\]|\\.)*"|[^ "]+)')

# Line ends, escapes, C1 controls, right-to-left overrides, octets that were not UTF-8.
characters = st.one_of(st.characters(), st.sampled_from('\r\n\0\x1b\x07\x9b"\\= \u202e\u2028\udcff'))
hostile = st.text(characters)
brief = st.text(characters, max_size=60)  # four of them, escaped, are not cut


def facts(*log: str, format: str = "text") -> report.Facts:
    made = report.Facts()
    made.log = log
    made.log_format = format
    made.message_id = "<1@example.org>"
    made.sender = "me@example.org"
    made.recipients = ("<you@example.net>",)
    return made


def parsed(line: str) -> tuple[str, list[tuple[str, str]]]:
    """The inverse of log_line: the event, and the pairs that went in."""
    event, _, rest = line.partition(" ")
    pairs = PAIR.findall(" " + rest)
    assert "".join(f" {name}={value}" for name, value in pairs) == " " * bool(rest) + rest
    return event, [
        (name, value[1:-1].encode().decode("unicode_escape") if value[0] == '"' else value) for name, value in pairs
    ]


# -- one line


@pytest.mark.row("I9")
@given(hostile)
def test_whatever_is_told_is_printable_ascii(text: str) -> None:
    """A3; RELIABILITY I9: no reply and no name writes to a terminal."""
    assert re.fullmatch("[ -~]*", report.printable(text))


@pytest.mark.row("I8", "I9")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain (text) \\ here", "plain (text) \\ here"),
        ("a\r\nsendmail: sent", "a\\r\\nsendmail: sent"),
        ("\x1b[2J\x07\x9b\x7f\0", "\\x1b[2J\\x07\\x9b\\x7f\\x00"),
        ("é \u202e \U0001f4a9 \udcff", "\\xe9 \\u202e \\U0001f4a9 \\udcff"),
    ],
)
def test_what_is_not_printable_is_shown_escaped(text: str, shown: str) -> None:
    """RELIABILITY I8, I9."""
    assert report.printable(text) == shown


@pytest.mark.row("I8")
@given(st.lists(st.tuples(st.sampled_from(["reply", "host", "error", "user"]), brief.filter(bool)), max_size=3), brief)
def test_a_log_line_parses_back_to_what_went_in(fields: list[tuple[str, str]], message_id: str) -> None:
    """RELIABILITY I8: one event is one line, and no value can look like a field."""
    known = facts()
    known.message_id = message_id
    line = report.log_line("failed", known, fields)
    assert re.fullmatch("[ -~]{1,4095}", line)
    event, pairs = parsed(line)
    before = [("id", message_id)] * bool(message_id)
    expected = [*before, ("from", "<me@example.org>"), ("to", "<you@example.net>"), *fields]
    assert event == "failed"
    assert pairs == expected


@pytest.mark.row("I8")
@given(st.lists(st.tuples(st.sampled_from(["reply", "host", "error", "user"]), brief.filter(bool)), max_size=3), brief)
def test_a_line_of_json_says_what_the_line_of_text_says(fields: list[tuple[str, str]], message_id: str) -> None:
    """muawrap.toml(5), log_format: the same fields, each a text; RELIABILITY I8: and nothing gets out of its value."""
    known = facts(format="json")
    known.message_id = message_id
    line = report.log_line("failed", known, fields)
    assert re.fullmatch("[ -~]{1,4095}", line)
    expected: dict[str, str] = {"event": "failed"}
    known.log_format = "text"
    for name, value in parsed(report.log_line("failed", known, fields))[1]:
        expected[name] = f"{expected[name]}; {value}" if name in expected else value
    # What is no character (RFC 8259, 8.2) is shown as it is told elsewhere, so that every reader takes the line.
    assert json.loads(line) == {name: re.sub("[\ud800-\udfff]", escaped, value) for name, value in expected.items()}


def escaped(found: re.Match[str]) -> str:
    return report.printable(found[0])


def unique(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """An object in which no name stands twice (RFC 8259, 4)."""
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


@pytest.mark.row("I8")
@given(st.lists(hostile, min_size=1, max_size=5), st.integers(1, 3000))
def test_a_line_of_json_is_bounded_and_json_all_the_same(values: list[str], times: int) -> None:
    """A7; RELIABILITY I8: cut inside a value, never in the middle of an escape; no half of a character is left."""
    known = facts(format="json")
    known.message_id = values[0] * times
    known.recipients = tuple(value * times for value in values)
    known.notes = [("discarded", value * times) for value in values]
    line = report.log_line("failed", known, [("reply", values[-1] * times), ("error", values[-1] * times)], 0)
    assert re.fullmatch("[ -~]{1,4095}", line)
    read = json.loads(line, object_pairs_hook=unique)
    assert list(read)[:2] == ["time", "event"]
    assert not any(re.search("[\ud800-\udfff]", value) for value in read.values())
    assert not any(len(value) > report.FIELD_LIMIT for name, value in read.items() if name != "error")


@pytest.mark.row("I8")
@pytest.mark.parametrize("value", ['x lead="sent"', "x\nfailed to=<evil>", '" to=<evil> "', "\\", '\\" to=<evil>'])
def test_a_forged_field_stays_inside_its_value(value: str) -> None:
    """RELIABILITY I8."""
    line = report.log_line("sent", facts(), [("reply", value), ("user", "al")])
    assert parsed(line)[1][3:] == [("reply", value), ("user", "al")]


def test_the_null_sender_is_told_and_an_unknown_one_is_not() -> None:
    """A3."""
    known = facts()
    known.sender = ""
    assert " from=<> " in report.log_line("sent", known, [])
    known.sender = None
    assert " from=" not in report.log_line("sent", known, [])


def test_notes_follow_the_fields() -> None:
    """D3: the log says what was discarded."""
    known = facts()
    known.notes = [("discarded", "root -> :blackhole:")]
    assert report.log_line("sent", known, [("host", "a:25")]).endswith(' host=a:25 discarded="root -> :blackhole:"')


def test_a_line_for_a_file_begins_with_the_time() -> None:
    """sendmail(8), DIAGNOSTICS: the same in both formats."""
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"
    assert re.match(stamp + " sent id=", report.log_line("sent", facts(), [], time.time()))
    line = report.log_line("sent", facts(format="json"), [], time.time())
    assert re.match(rf'{{"time": "{stamp}", "event": "sent", "id": "<1@example.org>", "from": ', line)


@pytest.mark.row("I8")
@given(st.lists(hostile, min_size=1, max_size=5), st.integers(1, 3000))
def test_a_log_line_is_bounded_and_its_quotes_closed_all_the_same(values: list[str], times: int) -> None:
    """A7; RELIABILITY I8: cut, but never in the middle of an escape, and one write to a pipe (PIPE_BUF)."""
    known = facts()
    known.message_id = values[0] * times
    known.recipients = tuple(value * times for value in values)
    known.notes = [("discarded", value * times) for value in values]
    line = report.log_line("failed", known, [("reply", values[-1] * times), ("error", values[-1] * times)])
    assert len(line) < report.LINE_LIMIT
    parsed(line)


def test_no_field_crowds_out_the_error() -> None:
    """A7: the log says why, whoever made the other fields long."""
    known = facts()
    known.message_id, known.sender, known.recipients = ("\n" * 100_000,) * 2 + (("<x@y>",) * 10_000,)
    pairs = dict(parsed(report.log_line("failed", known, [("lead", REFUSED), ("error", "why " * 2000)]))[1])
    assert pairs["to"].endswith(" more")
    assert pairs["lead"] == REFUSED
    assert len(pairs["error"]) > 1000


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("advice", ["", 'say "yes" \\ "no" \u20ac' * 9])
def test_the_log_says_how_many_more_there_are_and_ends_with_the_advice(
    format: str, advice: str, tmp_path: Path
) -> None:
    """A7: however long the reasons are, and whatever has to be escaped in them."""
    for width in range(1, 40):
        log = tmp_path / str(width)
        reasons = tuple(Failure(f'"{number}" \u20ac\U0001f4a9 \\ @{"x" * width}') for number in range(200))
        report.failure(Failure(reasons=reasons, advice=advice), facts(str(log), format=format))
        line = log.read_text().rstrip("\n")
        assert 2500 < len(line) < report.LINE_LIMIT
        error = json.loads(line)["error"] if format == "json" else dict(parsed(line.partition(" ")[2])[1])["error"]
        told = error.count("@")
        assert error.endswith(f"; and {200 - told} more" + (f" ({advice})" if advice else ""))


@pytest.mark.parametrize(("count", "length"), [(1, 2000), (2, 2000), (100, 20), (10_000, 12)])
def test_the_recipients_that_are_not_listed_are_counted(count: int, length: int) -> None:
    """A7."""
    known = facts()
    known.recipients = tuple(f"<{number:0{length}}>" for number in range(count))
    shown = dict(parsed(report.log_line("sent", known, []))[1])["to"]
    assert len(shown) <= report.FIELD_LIMIT
    if count > 2:
        listed = shown.split(",")
        assert listed[-1] == f"and {count - len(listed) + 1} more"


# -- standard error


def test_success_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """A1, A2."""
    assert report.success(RECEIPT, facts("none")) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("lead", [TRY_AGAIN, REFUSED, UNCERTAIN])
def test_a_failure_is_one_line_and_exit_status_1(lead: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A1, A3: it tells what to look for, in the log or at whom it may have reached."""
    assert report.failure(Failure("what\nhappened", lead=lead, advice="do\tthis"), facts("none")) == 1
    line = f"sendmail: {lead}: what\\nhappened [Message-ID <1@example.org>] (do\\tthis)\n"
    assert capfd.readouterr() == ("", line)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure("no", lead=TRY_AGAIN), os.EX_TEMPFAIL),
        (Failure("no", lead=UNCERTAIN), os.EX_SOFTWARE),
        (Failure("no"), os.EX_DATAERR),
    ],
)
def test_those_who_ask_for_sysexits_get_them_and_the_same_line(
    failure: Failure, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A1: success stays 0."""
    known = facts("none")
    assert report.failure(failure, known) == 1
    said = capfd.readouterr()
    known.exit_status = "sysexits"
    assert report.failure(failure, known) == status
    assert capfd.readouterr() == said
    assert report.success(RECEIPT, known) == 0


@given(hostile, hostile, hostile, st.integers(1, 2000))
def test_the_line_of_a_failure_is_bounded_and_ends_with_the_advice(
    what: str, advice: str, message_id: str, times: int
) -> None:
    """A3, A7: whoever chose the sentence, the Message-ID and the advice."""
    known = facts("none")
    known.message_id = message_id * times
    inner, outer = os.pipe()
    saved = os.dup(2)
    try:
        os.dup2(outer, 2)
        report.failure(Failure(what * times, lead=UNCERTAIN, advice=advice * times), known)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(outer)
    line = os.read(inner, 65536)
    os.close(inner)
    assert re.fullmatch(rb"sendmail: may have been sent: [ -~]*\n", line)
    assert len(line) <= report.LINE_LIMIT
    if advice and len(advice) * times < 80:
        assert line.endswith(f" ({report.printable(advice * times)})\n".encode())


def test_ten_are_named_on_standard_error_and_all_that_fit_in_the_log(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A7."""
    failure = Failure(reasons=tuple(Failure(f"<user{number}@example.net> is unknown") for number in range(1000)))
    log = tmp_path / "log"
    report.failure(failure, facts(str(log)))
    assert capfd.readouterr().err.endswith(
        "<user9@example.net> is unknown; and 990 more [Message-ID <1@example.org>]\n"
    )
    logged = log.read_text()
    assert 2500 < len(logged) <= report.LINE_LIMIT
    error = dict(parsed(logged.rstrip("\n").partition(" ")[2])[1])["error"]
    told = error.split("; ")
    assert told[-1] == f"and {1000 - len(told) + 1} more"


def test_a_failure_before_there_is_a_message_is_not_logged(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E9: who asks for a trail reads the answer."""
    monkeypatch.setattr(report, "_log", lambda *_: pytest.fail("logged"))
    assert report.failure(Failure("no"), facts("none"), logged=False) == 1
    assert capfd.readouterr().err == "sendmail: not sent, refused: no [Message-ID <1@example.org>]\n"


# -- where the log goes


def test_what_happened_is_logged_with_all_that_is_known(tmp_path: Path) -> None:
    """A3, A5."""
    log = tmp_path / "log"
    report.success(RECEIPT._replace(degraded=("one:25: refused while connecting",), rewritten=True), facts(str(log)))
    report.success(Receipt(), facts(str(log)))
    report.failure(Failure("no", lead=TRY_AGAIN, advice="wait"), facts(str(log)))
    common = [("id", "<1@example.org>"), ("from", "<me@example.org>"), ("to", "<you@example.net>")]
    assert [parsed(line.partition(" ")[2]) for line in log.read_text().splitlines()] == [
        (
            "sent",
            [
                *common,
                ("host", "smtp.example.org:587"),
                ("tls", "TLSv1.3"),
                ("user", "al"),
                ("size", "1234"),
                ("reply", "250 2.0.0 queued as <1>"),
                ("degraded", "one:25: refused while connecting"),
                ("from-header", "rewritten"),
            ],
        ),
        ("discarded", common),
        ("failed", [*common, ("lead", TRY_AGAIN), ("error", "no (wait)")]),
    ]


@pytest.mark.row("F6")
def test_a_log_file_is_made_for_its_owner_alone_and_appended_to(tmp_path: Path) -> None:
    """RELIABILITY F6: 0600."""
    log = tmp_path / "log"
    mask = os.umask(0)
    try:
        report.success(RECEIPT, facts(str(log)))
    finally:
        os.umask(mask)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    report.success(RECEIPT, facts(str(log)))
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.row("F6", "L6")
@pytest.mark.parametrize("format", ["text", "json"])
def test_a_line_is_one_write(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELIABILITY F6, L6: lines of several programs do not mix."""
    written: list[bytes] = []
    write = os.write

    def counted(file: int, octets: bytes) -> int:
        written.append(octets)
        return write(file, octets)

    monkeypatch.setattr(os, "write", counted)
    report.success(RECEIPT, facts(str(tmp_path / "log"), format=format))
    assert len(written) == 1


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "a link, which may lead anywhere": lambda path: path.symlink_to(path.with_name("target")),
    "a folder": lambda path: path.mkdir(),
    "a fifo that nobody reads": lambda path: os.mkfifo(path),
    "in a folder that is gone": lambda path: path.parent.rmdir(),
    "below a file": lambda path: path.parent.rename(path.parent.with_name("moved")).with_name("folder").write_text(""),
}


@pytest.mark.row("F6", "L4")
@pytest.mark.parametrize("trouble", UNUSABLE)
def test_log_trouble_never_changes_the_outcome(trouble: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A2, A5; RELIABILITY F6: and the next log of the list is used."""
    path = tmp_path / "folder" / "log"
    path.parent.mkdir()
    UNUSABLE[trouble](path)
    next_one = tmp_path / "next"
    assert report.success(RECEIPT, facts(str(path))) == 0
    assert report.success(RECEIPT, facts(str(path), str(next_one))) == 0
    assert report.failure(Failure("no"), facts(str(path), str(next_one))) == 1
    assert len(next_one.read_text().splitlines()) == 2
    assert not path.with_name("target").exists()
    assert capfd.readouterr() == ("", "sendmail: not sent, refused: no [Message-ID <1@example.org>]\n")


@pytest.mark.row("L4")
def test_a_full_disk_moves_on_to_the_next_log(tmp_path: Path) -> None:
    """A5; RELIABILITY L4."""
    log = tmp_path / "log"
    assert report.success(RECEIPT, facts("/dev/full", str(log))) == 0
    assert len(log.read_text().splitlines()) == 1


def test_a_part_of_a_line_is_not_taken_for_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A5: a disk may have room for some octets and not for the rest."""
    monkeypatch.setattr(os, "write", lambda file, octets: 10)
    assert not report._to_file(str(tmp_path / "log"), b"sent id=<1@example.org>\n")


@pytest.mark.parametrize("place", ["", "\0", "relative\udcff"])
def test_a_log_that_no_file_can_be_changes_nothing(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A5."""
    monkeypatch.chdir(tmp_path)
    assert report.success(RECEIPT, facts(place)) == 0


@pytest.mark.row("L4")
@pytest.mark.parametrize("descriptor", [1, 2])
@pytest.mark.parametrize("trouble", ["closed", "full", "nobody reads"])
def test_closed_and_full_descriptors_change_nothing(descriptor: int, trouble: str) -> None:
    """A5; RELIABILITY L4."""
    saved = os.dup(descriptor)
    try:
        os.close(descriptor)
        if trouble == "full":
            assert os.open("/dev/full", os.O_WRONLY) == descriptor
        elif trouble == "nobody reads":
            inner, outer = os.pipe()
            if outer != descriptor:
                inner, outer = os.dup(inner), os.dup2(outer, descriptor)
            os.close(inner)
        statuses = [report.answer("text\n"), report.failure(Failure("no"), facts("none"))]
        statuses.append(report.success(RECEIPT, facts("none")))
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
    assert statuses == [0, 1, 0]


def test_none_logs_nothing_and_asks_no_other(tmp_path: Path) -> None:
    """muawrap.toml(5), log."""
    log = tmp_path / "log"
    report.success(RECEIPT, facts("none", str(log)))
    assert not log.exists()


def test_container_is_the_standard_error_of_process_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5), log: what it names is appended to, and never made."""
    log = tmp_path / "log"
    assert report._CONTAINER == "/proc/1/fd/2"
    monkeypatch.setattr(report, "_CONTAINER", str(log))
    report.success(RECEIPT, facts("container"))
    assert not log.exists()
    log.touch()
    report.success(RECEIPT, facts("container"))
    report.success(RECEIPT, facts("container", format="json"))
    text, line = log.read_text().splitlines()
    assert " sent id=<1@example.org> " in text
    assert json.loads(line)["event"] == "sent"


# -- syslog


@pytest.fixture(params=[socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["datagram", "stream"])
def syslog(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A syslog of our own, in both kinds that syslog(3) knows."""
    monkeypatch.setattr(report, "_SYSLOG", str(tmp_path / "syslog"))
    with socket.socket(socket.AF_UNIX, request.param) as server:
        server.bind(report._SYSLOG)
        server.settimeout(10)
        if request.param == socket.SOCK_STREAM:
            server.listen()
        yield server


def received(server: socket.socket) -> bytes:
    if server.type == socket.SOCK_DGRAM:
        return server.recv(65536)
    connection, _ = server.accept()
    with connection:
        return connection.recv(65536).removesuffix(b"\0")


@pytest.mark.parametrize(("fails", "priority"), [(False, b"<22>"), (True, b"<19>")])
def test_syslog_gets_one_message_of_facility_mail(syslog: socket.socket, fails: bool, priority: bytes) -> None:
    """muawrap.toml(5), log: severity info or error; RFC 3164, 4.1."""
    if fails:
        report.failure(Failure("no"), facts("syslog"))
    else:
        report.success(RECEIPT, facts("syslog"))
    line = received(syslog)
    header = rb"[A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d muawrap\[%d\]: (failed|sent) id=<1@example.org> " % os.getpid()
    assert re.match(priority + header, line)
    assert b"\n" not in line


def test_syslog_gets_an_object_where_that_is_asked_for(syslog: socket.socket) -> None:
    """muawrap.toml(5), log_format: the time is syslog's own."""
    report.success(RECEIPT, facts("syslog", format="json"))
    head, _, line = received(syslog).partition(b": ")
    assert re.fullmatch(rb"<22>.* muawrap\[\d+\]", head)
    assert json.loads(line) == {
        "event": "sent",
        "id": "<1@example.org>",
        "from": "<me@example.org>",
        "to": "<you@example.net>",
        "host": "smtp.example.org:587",
        "tls": "TLSv1.3",
        "user": "al",
        "size": "1234",
        "reply": "250 2.0.0 queued as <1>",
    }


def test_the_machines_own_syslog_is_written_to(capfd: pytest.CaptureFixture[str]) -> None:
    """muawrap.toml(5), log: /dev/log."""
    assert report._SYSLOG == "/dev/log"
    if os.path.lexists("/dev/log") or not os.access("/dev", os.W_OK):
        pytest.skip("needs a /dev without a syslog, and the right to put one there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("/dev/log")
        try:
            server.settimeout(10)
            assert report.success(RECEIPT, facts("syslog")) == 0
            assert b" sent id=<1@example.org> " in server.recv(65536)
        finally:
            os.unlink("/dev/log")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("trouble", ["missing", "nobody listens", "a file", "full"])
def test_without_a_syslog_the_next_log_is_used(trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A5; muawrap.toml(5), log: the first that works; a syslog that does not read is not waited for forever."""
    path = tmp_path / "syslog"
    monkeypatch.setattr(report, "_SYSLOG", str(path))
    monkeypatch.setattr(report, "SYSLOG_SECONDS", 0.01)
    log = tmp_path / "log"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        if trouble == "a file":
            path.touch()
        elif trouble != "missing":
            server.bind(str(path))
        if trouble == "nobody listens":
            server.close()
        if trouble == "full":
            other.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    other.sendto(b"x", str(path))
        assert report.success(RECEIPT, facts("syslog")) == 0
        assert report.success(RECEIPT, facts("syslog", str(log))) == 0
    assert " sent id=<1@example.org> " in log.read_text()


def test_however_long_the_reasons_the_line_says_how_many_more_there_are(capfd: pytest.CaptureFixture[str]) -> None:
    """A7: cutting the end off would hide that others follow."""
    reasons = tuple(
        Failure(stage=Stage.RCPT, host="h:25", recipient=f"<r{n}@x>", reply=Reply(550, ("x" * 700,))) for n in range(20)
    )
    report.failure(Failure(reasons=reasons), report.Facts(), logged=False)
    said = capfd.readouterr().err
    assert len(said) <= report.LINE_LIMIT
    named = said.count("refused the recipient")
    assert 1 <= named < 10
    assert said.endswith(f"; and {20 - named} more\n")
