"""mailstore: pairs of files, written so that half of one is never taken for a message, and read so that none is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding.formats import maildir, mailstore
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.mail import Body
from tests.support.held import BARE, opened, seen
from tests.support.need import need
from tests.support.program import REPOSITORY

HELD = Held(
    Envelope("Al@b.example", (Addressee("c@d.example"), Addressee('"q l"@d.example')), 1795257900.0),
    b"Subject: x\n",
    Body(b".\nhello\n"),
)


def written(folder: Path, held: Held, base: str = "m1") -> str:
    with opened(folder) as place:
        return mailstore.write(place, base, held)


def read(folder: Path, name: str, *lines: int) -> Held:
    with opened(folder) as place:
        held = mailstore.read(place, name, *lines)
        assert mailstore.envelope(place, name, *lines) == held.envelope
    return held


def refusal(folder: Path, name: str, *lines: int) -> Failure:
    with pytest.raises(Failure) as caught:
        read(folder, name, *lines)
    return caught.value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BARE)
def test_what_is_written_reads_back(tmp_path: Path, held: Held) -> None:
    """INTERMITTENT 2.3: quotes that the format takes are put back."""
    assert seen(read(tmp_path, written(tmp_path, held))) == seen(held)
    for path in tmp_path.iterdir():
        path.unlink()


def test_the_files_are_as_exim_writes_them(tmp_path: Path) -> None:
    """INTERMITTENT 2.3."""
    assert written(tmp_path, HELD) == "m1.env"
    assert {path.name for path in tmp_path.iterdir()} == {"m1.env", "m1.msg"}
    assert (tmp_path / "m1.env").read_bytes() == b"Al@b.example\nc@d.example\nq l@d.example\n"
    assert (tmp_path / "m1.msg").read_bytes() == b"Subject: x\n\n.\nhello\n"
    assert (tmp_path / "m1.env").stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("quoted local@x.example", '"quoted local"@x.example'),
        ("a@b@x.example", '"a@b"@x.example'),
        ('a"b\\c@x.example', '"a\\"b\\\\c"@x.example'),
        ('"a b"@x.example', '"\\"a b\\""@x.example'),
        (" a @x.example", '" a "@x.example'),
        ("@x.example", '""@x.example'),
        (".a..b.@x.example", '".a..b."@x.example'),
        ("a/b=c+d@[192.0.2.1]", "a/b=c+d@[192.0.2.1]"),
    ],
)
def test_a_local_part_gets_the_quotes_it_needs(tmp_path: Path, line: str, address: str) -> None:
    """INTERMITTENT 2: what is left of the last @."""
    (tmp_path / "m1.env").write_text(f'"As Given"@x.example\n{line}\n')
    (tmp_path / "m1.msg").write_bytes(b"\n")
    envelope = read(tmp_path, "m1.env").envelope
    assert envelope.sender == '"As Given"@x.example'
    assert envelope.recipients == (Addressee(address),)


@pytest.mark.parametrize(
    ("line", "address"),
    [("x.@x.example", '"x."@x.example'), ("a..b@x.example", '"a..b"@x.example'), ("a@x-.example", "a@x-.example")],
)
def test_a_sender_that_exim_took_is_read_however_it_is_spelled(tmp_path: Path, line: str, address: str) -> None:
    """INTERMITTENT 2.3: Exim writes it as it came, and what it has accepted must leave some day."""
    (tmp_path / "m1.env").write_text(f"{line}\na@x-.example\n")
    (tmp_path / "m1.msg").write_bytes(b"\n")
    held = read(tmp_path, "m1.env")
    assert (held.envelope.sender, held.envelope.recipients) == (address, (Addressee("a@x-.example"),))
    assert read(tmp_path, written(tmp_path, held, "m2")).envelope == held.envelope


def test_a_header_block_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES F8: an empty line above it would make it a body."""
    monkeypatch.setattr("muawrap.reading.message.HEADER_LIMIT", 1000)
    (tmp_path / "m1.env").write_text("a@x.example\nb@x.example\n")
    (tmp_path / "m1.msg").write_bytes(b"X: " + b"y" * 1000 + b"\n\nbody\n")
    assert str(refusal(tmp_path, "m1.env")) == "m1.env: the header block is longer than 1000 octets"


@pytest.mark.parametrize("size", range(len(b"Al@b.example\nc@d.example\nq l@d.example\n")))
def test_an_envelope_cut_within_a_line_is_damaged(tmp_path: Path, size: int) -> None:
    """INTERMITTENT 2.3: after a power failure; where it ends with a recipient's line nobody can tell."""
    written(tmp_path, HELD)
    octets = (tmp_path / "m1.env").read_bytes()[:size]
    (tmp_path / "m1.env").write_bytes(octets)
    if octets == b"Al@b.example\nc@d.example\n":
        assert read(tmp_path, "m1.env").envelope.recipients == HELD.envelope.recipients[:1]
    else:
        assert str(refusal(tmp_path, "m1.env")).startswith("m1.env is damaged: ")


@pytest.mark.parametrize("octets", [b"", b"\n", b"\n\n", b"a@b.example\n", b"a@b.example\n\n", b"\nc@d.example\n\n"])
def test_no_recipient_is_never_a_message_that_is_done(tmp_path: Path, octets: bytes) -> None:
    """INTERMITTENT 2.3: fewer than two lines, or empty ones."""
    (tmp_path / "m1.env").write_bytes(octets)
    (tmp_path / "m1.msg").write_bytes(b"\n")
    assert str(refusal(tmp_path, "m1.env")).startswith("m1.env")


@pytest.mark.parametrize("line", [b"V1", b"a@", b"\xff@x.example", b"a@b c", b"\0@x.example"])
def test_a_line_that_is_no_address_is_refused_with_what_to_set(tmp_path: Path, line: bytes) -> None:
    """INTERMITTENT 2.3: most likely it is one of a prefix."""
    (tmp_path / "m1.msg").write_bytes(b"\n")
    for lines in (line, b"c@d.example"), (b"a@b.example", line):
        (tmp_path / "m1.env").write_bytes(b"\n".join(lines) + b"\n")
        assert "mailstore_prefix" in refusal(tmp_path, "m1.env").advice


def test_lines_of_prefix_and_suffix_are_passed_over(tmp_path: Path) -> None:
    """INTERMITTENT 2.3."""
    written(tmp_path, HELD)
    octets = (tmp_path / "m1.env").read_bytes()
    (tmp_path / "m1.env").write_bytes(b"V1\nx@y.example\n" + octets + b"x@y.example\n")
    assert read(tmp_path, "m1.env", 2, 1).envelope.recipients == HELD.envelope.recipients
    assert str(refusal(tmp_path, "m1.env", 3, 2)).startswith("m1.env is damaged")


def test_a_text_that_is_missing_is_waited_for(tmp_path: Path) -> None:
    """INTERMITTENT 2.3: ready is when both are there; .tmp is unfinished, .msg alone nobody's."""
    written(tmp_path, HELD)
    (tmp_path / "m1.msg").unlink()
    with opened(tmp_path) as place, pytest.raises(Failure, match=r"^m1.msg cannot be read: no such file") as caught:
        mailstore.read(place, "m1.env")
    assert caught.value.lead == TRY_AGAIN
    assert mailstore.ready("m1.env")
    assert not any(map(mailstore.ready, ("m1.msg", "m1.tmp", ".m1.env", "temp.1.env", "q1")))


def test_the_envelope_is_removed_first() -> None:
    """INTERMITTENT 2.3: a text alone is no message any more."""
    assert mailstore.files("m1.env") == ("m1.env", "m1.msg")


def test_an_endless_envelope_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory."""
    monkeypatch.setattr(mailstore, "LIMIT", 1000)
    (tmp_path / "m1.env").write_bytes(b"a@b.example\n" * 100)
    assert str(refusal(tmp_path, "m1.env")) == "m1.env is larger than 1000 octets"


# -- writing


@pytest.mark.parametrize("change", [{"sender": "root"}, {"recipients": (Addressee("root"),)}])
def test_an_address_without_a_domain_is_not_written(tmp_path: Path, change: dict[str, Any]) -> None:
    """INTERMITTENT 2.3: it could not be told from a line of a prefix."""
    with pytest.raises(Failure, match="mailstore has no room for this envelope: 'root' has no domain"):
        written(tmp_path, HELD._replace(envelope=HELD.envelope._replace(**change)))
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    """INTERMITTENT 6.3: all or nothing."""
    with (tmp_path / "empty").open("w+b") as file:
        os.unlink(tmp_path / "empty")
        body = Body.spooled(file.fileno(), 1000, 10, False)  # which the disk has lost
        with pytest.raises(Failure, match="cannot be read again"):
            written(tmp_path, HELD._replace(body=body))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m1.tmp", "m1.msg"])
def test_a_name_that_is_taken_is_left_alone(tmp_path: Path, name: str) -> None:
    """INTERMITTENT 6.3: somebody else's message is never written over."""
    (tmp_path / name).write_bytes(b"theirs")
    with pytest.raises(Failure, match=r"^m1 cannot be written: file exists$") as caught:
        written(tmp_path, HELD)
    assert caught.value.lead == TRY_AGAIN
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"theirs")]


WRITE = f"""
import os, sys
sys.path[:0] = [{str(REPOSITORY / "src")!r}]
from muawrap.failure import Failure
from muawrap.holding.formats import maildir, mailstore
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.mail import Body
held = Held(Envelope("", (Addressee("a@b.example"),), 5.0), b"Subject: x\\n", Body(b"hello\\n" * 1000))
place = os.open(sys.argv[2], os.O_RDONLY)
os.mkdir(os.path.join(sys.argv[2], "begin"))
try:
    mailstore.write(place, "m1", held) if sys.argv[1] == "mailstore" else maildir.write(place, held, "host")
except Failure as failure:
    print(failure)
"""


def writer(trace: Path, folder: Path, form: str, *options: str) -> list[str]:
    """The command that writes a message while strace looks on."""
    return [
        need("strace"),
        "-y",
        "-o",
        str(trace),
        *options,
        sys.executable,
        "-I",
        "-S",
        "-c",
        WRITE,
        form,
        str(folder),
    ]


def traced(folder: Path, form: str, *options: str) -> tuple[list[str], str]:
    """The system calls that write a message, and what the writer had to say."""
    trace = folder.parent / "trace"
    done = subprocess.run(writer(trace, folder, form, *options), capture_output=True, check=True, text=True)
    lines = trace.read_text().partition("/begin")[2].splitlines()[1:]
    return [line for line in lines if not line.startswith(("---", "+++"))], done.stdout


def names(calls: list[str]) -> list[str]:
    """The calls with what they are about, as short as can be."""
    short = []
    for call in calls:
        verb = re.sub("^(rename|unlink).*", r"\1", call.partition("(")[0])
        files = re.findall(r'/(m1\.[a-z]+|new|tmp|folder)>\)|"([^"]+)"', call)
        short.append(" ".join([verb, *(("".join(pair)) for pair in files)]))
    return short


def test_the_order_is_exims_and_everything_is_on_disk_before_the_name(tmp_path: Path) -> None:
    """INTERMITTENT 2.3: .tmp, .msg, .env; and unlike Exim's, .env and the folder survive a power failure, too."""
    folder = tmp_path / "folder"
    folder.mkdir()
    calls, said = traced(folder, "mailstore", "-e", "trace=mkdir,fsync,rename,renameat,renameat2")
    assert said == ""
    assert names(calls) == ["fsync m1.tmp", "fsync m1.msg", "rename m1.tmp m1.env", "fsync folder"]


RENAME = "rename,renameat,renameat2"
CALLS = {"mailstore": {"write": 2, "fsync": 3, RENAME: 1}, "maildir": {"write": 1, "fsync": 2, RENAME: 1}}
KILLED = [
    (form, call, when) for form, calls in CALLS.items() for call, most in calls.items() for when in range(1, most + 1)
]


@pytest.mark.parametrize(("form", "call", "when"), KILLED)
def test_a_writer_that_is_killed_leaves_a_whole_message_or_none(
    tmp_path: Path, form: str, call: str, when: int
) -> None:
    """INTERMITTENT 7.4: kill -9 at each call that changes the disk."""
    folder = tmp_path / "folder"
    for name in "tmp", "new":
        (folder / name).mkdir(parents=True)
    options = ["-e", f"trace=mkdir,{call}", "-e", f"inject={call}:signal=KILL:when={when}"]
    done = subprocess.run(writer(tmp_path / "trace", folder, form, *options), capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    place, module = (folder, mailstore) if form == "mailstore" else (folder / "new", maildir)
    for path in place.iterdir():
        if path.is_file() and module.ready(path.name):
            with opened(place) as descriptor:
                held = module.read(descriptor, path.name)
            assert held.envelope == Envelope("", (Addressee("a@b.example"),), 5.0)
            assert seen(held)[1:] == (b"Subject: x\n", b"hello\n" * 1000)


@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, when: int) -> None:
    """INTERMITTENT 6.3: an fsync that fails is a message that was not written."""
    folder = tmp_path / "folder"
    folder.mkdir()
    inject = f"inject=fsync:error=EIO:when={when}"
    _, said = traced(folder, "mailstore", "-e", "trace=mkdir,fsync", "-e", inject)
    assert said == "m1 cannot be written: input/output error\n"
    assert [path.name for path in folder.iterdir()] == ["begin"]
