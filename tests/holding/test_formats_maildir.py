"""maildir: the envelope above the header is read and removed, and nothing that only looks like it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding.formats import maildir
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.mail import Body
from tests.support.held import BARE, opened, seen

HELD = Held(
    Envelope("Al@b.example", (Addressee("c@d.example"), Addressee('"q, l"@d.example')), 1795257900.0),
    b"Subject: x\n",
    Body(b".\nhello\n"),
)
ABOVE = b'Return-path: <Al@b.example>\nEnvelope-to: c@d.example,\n "q, l"@d.example\n'
DATE = b"Delivery-date: Sat, 21 Nov 2026 10:45:00 +0000\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "tmp", "new", "cur":
        (tmp_path / name).mkdir()
    return tmp_path


def written(folder: Path, held: Held) -> str:
    with opened(folder) as place:
        return maildir.write(place, held, "mx.isp.example")


def read(path: Path, known: tuple[str, ...] = maildir.OWN) -> Held:
    with opened(path.parent) as place:
        held = maildir.read(place, path.name, known)
        assert maildir.envelope(place, path.name, known) == held.envelope
    return held


def read_in(folder: Path, octets: bytes, known: tuple[str, ...] = maildir.OWN) -> Held:
    path = folder / "new" / "1"
    path.write_bytes(octets)
    return read(path, known)


def refusal(folder: Path, octets: bytes, known: tuple[str, ...] = maildir.OWN) -> Failure:
    with pytest.raises(Failure) as caught:
        read_in(folder, octets, known)
    return caught.value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BARE)
def test_what_is_written_reads_back(folder: Path, held: Held) -> None:
    """INTERMITTENT 2.4: also a header that begins with such fields, or goes on where ours ends."""
    path = folder / "new" / written(folder, held)
    again = read(path)
    assert seen(again) == seen(held)
    path.unlink()


def test_a_file_is_as_exim_writes_it(folder: Path) -> None:
    """INTERMITTENT 2.4: name, order of the fields, one recipient a line."""
    name = written(folder, HELD)
    assert re.fullmatch(rf"[0-9]{{10}}\.M[0-9]{{1,6}}P{os.getpid()}\.mx\.isp\.example", name)
    assert (folder / "new" / name).read_bytes() == ABOVE + DATE + b"Subject: x\n\n.\nhello\n"
    assert list((folder / "tmp").iterdir()) == []
    assert (folder / "new" / name).stat().st_mtime == HELD.envelope.at
    assert (folder / "new" / name).stat().st_mode & 0o777 == 0o660


def test_a_hosts_name_stays_in_the_name_of_the_file(folder: Path) -> None:
    """The description of maildir: slash and colon are written as numbers."""
    with opened(folder) as place:
        name = maildir.write(place, HELD, "../a:b")
    assert name.endswith(r"...\057a\072b")
    assert (folder / "new" / name).is_file()


def test_names_differ(folder: Path) -> None:
    """However fast."""
    names = {written(folder, HELD) for _ in range(50)}
    assert len(names) == len(list((folder / "new").iterdir())) == 50


# -- which fields count


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("first", [ABOVE + DATE, DATE + ABOVE, ABOVE, ABOVE.upper().replace(b"AL@B", b"Al@b")])
def test_the_fields_are_read_and_removed_in_any_order(folder: Path, first: bytes, end: bytes) -> None:
    """INTERMITTENT 2.4."""
    held = read_in(folder, (first + b"Subject: x\n\n.\nhello\n").replace(b"\n", end))
    assert (held.header, b"".join(held.body.blocks())) == (HELD.header, b".\nhello\n")
    assert held.envelope.sender.lower() == "al@b.example"
    assert [one.address.lower() for one in held.envelope.recipients] == ["c@d.example", '"q, l"@d.example']


@pytest.mark.parametrize(
    "header",
    [
        b"Return-path: <forged@evil.example>\nSubject: x\n",
        b"Envelope-to: forged@evil.example\nEnvelope-to: more@evil.example\n",
        b"Subject: x\nReturn-path: <forged@evil.example>\nDelivery-date: never\n",
        b"X-Envelope-To: forged@evil.example\n",
        b" goes on\nSubject: x\n",
        b"no header\n",
        b"",
    ],
)
def test_what_stands_further_down_or_for_the_second_time_is_part_of_the_message(folder: Path, header: bytes) -> None:
    """INTERMITTENT 2: the first ones are the MTA's, and forged ones add nobody."""
    held = read_in(folder, ABOVE + DATE + header + b"\nbody\n")
    assert held.envelope == HELD.envelope
    assert held.header == header


def test_the_null_sender(folder: Path) -> None:
    """INTERMITTENT 2.4."""
    assert read_in(folder, b"Return-path: <>\nEnvelope-to: a@b.example\n\n").envelope.sender == ""


@pytest.mark.parametrize(
    ("date", "at"),
    [
        (b"Sat, 21 Nov 2026 04:42:14 +0000", 1795236134),
        (b"Sat, 21 Nov 2026 05:42:14 +0100", 1795236134),
        (b"21 Nov 2026 04:42:14 -0000", 1795236134),
        (b"Sat, 31 Nov 2026 04:42:14 +0000", 7),
        (b"Sat, 21 Nov 2026 04:42:14 +9999", 7),
        (b"Sat, 21 Nov 1926 04:42:14 +0000", 7),
        (b"Sat, 21 Nov 2026 99999999 +0000", 7),
        (b"soon", 7),
        (b"", 7),
        (b"\xff", 7),
    ],
)
def test_it_was_accepted_when_it_was_delivered_or_else_at_its_mtime(folder: Path, date: bytes, at: float) -> None:
    """INTERMITTENT 6.5: a date that cannot be read costs nothing."""
    path = folder / "new" / "1"
    path.write_bytes(ABOVE + b"Delivery-date: " + date + b"\n\n")
    os.utime(path, (7, 7))
    assert read(path).envelope.at == at


@pytest.mark.parametrize(
    ("first", "recipients"),
    [
        (b"X-Envelope-From: <s@x.example>\nX-Envelope-To: a@x.example, b@x.example\n", ["a@x.example", "b@x.example"]),
        (b"Return-Path: <s@x.example>\nX-Original-To: a@x.example\nDelivered-To: b@x.example\n", ["a@x.example"]),
        (b"Delivered-To: b@x.example\nReturn-Path: <s@x.example>\n", ["b@x.example"]),
    ],
)
def test_fields_of_other_programs_count_on_request_only(folder: Path, first: bytes, recipients: list[str]) -> None:
    """INTERMITTENT 2.4."""
    octets = first + b"Subject: x\n\n"
    held = read_in(folder, octets, maildir.OTHERS)
    assert (held.envelope.sender, held.header) == ("s@x.example", b"Subject: x\n")
    assert [one.address for one in held.envelope.recipients] == recipients
    assert str(refusal(folder, octets)) == "1 has no envelope"


# -- what is refused


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\n",
        b"Subject: x\n\n" + ABOVE,
        b"Return-path: <a@b.example>\nDelivery-date: x\n\n",
        b"Envelope-to: a@b.example\nSubject: x\n\n",
        b"Return-path: <a@b.example>\n on a second line\nEnvelope-to: c@d.example\n\n",
    ],
)
def test_without_sender_or_recipients_there_is_no_envelope(folder: Path, octets: bytes) -> None:
    """INTERMITTENT 2: the advice says which options make one."""
    failure = refusal(folder, octets)
    if octets:
        assert str(failure) == "1 has no envelope"
        assert "return_path_add, envelope_to_add" in failure.advice
    else:
        assert str(failure) == "1 is damaged: its envelope has no end"


@pytest.mark.parametrize(
    "above",
    [
        b"Return-path: <a@b.example>\nEnvelope-to: \n",
        b"Return-path: <a@b.example>\nEnvelope-to: ,\n",
        b"Return-path: <a@b.example>\nEnvelope-to: a b@x.example\n",
        b"Return-path: <a@b.example>\nEnvelope-to: a.@x.example b@x.example\n",
        b'Return-path: <a@b.example>\nEnvelope-to: .a@x.example, "b@x.example\n',
        b"Return-path: <a.@b.example>, <c@d.example>\nEnvelope-to: c@d.example\n",
        b'Return-path: <a@b.example>\nEnvelope-to: "a@x.example\n',
        b"Return-path: <a@b.example>\nEnvelope-to: \xff@x.example\n",
        b"Return-path: \nEnvelope-to: c@d.example\n",
        b"Return-path: <a@b.example>, <c@d.example>\nEnvelope-to: c@d.example\n",
    ],
)
def test_what_is_no_address_is_refused(folder: Path, above: bytes) -> None:
    """Never a wrong envelope."""
    failure = refusal(folder, above + b"Subject: x\n\n")
    assert str(failure).startswith("1: cannot read the envelope above its header: ")


@pytest.mark.parametrize(
    ("field", "addresses"),
    [
        (b"x.@y.example", ['"x."@y.example']),
        (b'a@y.example,\n .x@y.example,\n "p, q"@y.example', ["a@y.example", '".x"@y.example', '"p, q"@y.example']),
        (b'"a\\", b"@y-.example, \\x@y.example', ['"a\\", b"@y-.example', "x@y.example"]),
    ],
)
def test_what_exim_took_is_read_however_it_is_spelled(folder: Path, field: bytes, addresses: list[str]) -> None:
    """RFC 5321, 4.1.2: a local part in quotes is the same mailbox; what is no domain is left to the host."""
    held = read_in(folder, b"Return-path: <a..b@x.example>\nEnvelope-to: " + field + b"\nSubject: x\n\n")
    assert held.envelope.sender == '"a..b"@x.example'
    assert [one.address for one in held.envelope.recipients] == addresses
    assert read(folder / "new" / written(folder, held)).envelope.recipients == held.envelope.recipients


def test_a_file_cut_within_its_envelope_is_damaged(folder: Path) -> None:
    """INTERMITTENT 6.3: at each octet; below it the format has no sign of an end."""
    octets = ABOVE + DATE
    for size in range(len(octets) + 1):
        assert str(refusal(folder, octets[:size])) in (
            "1 is damaged: its envelope has no end",
            "1 has no envelope",
        )
    assert seen(read_in(folder, octets + b"\n"))[1:] == (b"", b"")


def test_a_long_list_of_recipients_is_read_to_its_end(folder: Path) -> None:
    """INTERMITTENT 6.6: the envelope alone, too."""
    recipients = tuple(Addressee(f"recipient-{number}@x.example") for number in range(10_000))
    held = HELD._replace(envelope=HELD.envelope._replace(recipients=recipients))
    assert read(folder / "new" / written(folder, held)).envelope == held.envelope


def test_a_header_block_that_is_too_long_does_not_take_the_envelope_along(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 2.4: its fields name hidden recipients, and never leave with the message."""
    monkeypatch.setattr("muawrap.reading.message.HEADER_LIMIT", 1000)
    failure = refusal(folder, ABOVE + b"X: " + b"y" * 1000 + b"\n\nbody\n")
    assert str(failure) == "1: the header block is longer than 1000 octets"
    monkeypatch.setattr(maildir, "HEADER_LIMIT", 1000)
    with pytest.raises(Failure, match=r"^the header block is longer than 1000 octets$"):
        written(folder, HELD._replace(header=b"X: " + b"y" * 1000 + b"\n"))
    assert str(refusal(folder, b"Envelope-to: " + b"x@y.example,\n " * 10_000 + b"\n")).startswith("1 is damaged")


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_nothing_but_a_failure_comes_of_it(folder: Path, octets: bytes) -> None:
    """Bad input is never a traceback."""
    for text in octets, ABOVE + octets, b"Return-path:" + octets + b"\nEnvelope-to:" + octets + b"\n\n":
        try:
            assert read_in(folder, text).envelope.recipients
        except Failure:
            pass


# -- the folder


def test_flags_are_no_part_of_a_name() -> None:
    """INTERMITTENT 2.4."""
    assert maildir.unflagged("1.M2P3.host:2,ST") == maildir.unflagged("1.M2P3.host") == "1.M2P3.host"
    assert maildir.files("1.M2P3.host:2,S") == ("1.M2P3.host:2,S",)
    assert maildir.ready("1.M2P3.host:2,S")
    assert not maildir.ready(".keep")


def test_a_folder_that_is_no_maildir_is_told(tmp_path: Path) -> None:
    """INTERMITTENT 6.3: it is not made, for it may be a file system that is not mounted."""
    with pytest.raises(Failure, match=r"cannot be written: no such file or directory$") as caught:
        written(tmp_path, HELD)
    assert caught.value.lead == TRY_AGAIN


def test_a_text_that_cannot_be_read_leaves_nothing(folder: Path) -> None:
    """INTERMITTENT 6.3: all or nothing."""
    with (folder / "empty").open("w+b") as file:
        os.unlink(folder / "empty")
        body = Body.spooled(file.fileno(), 1000, 10, False)  # which the disk has lost
        with pytest.raises(Failure, match="cannot be read again"):
            written(folder, HELD._replace(body=body))
    assert {path.name for path in folder.rglob("*")} == {"tmp", "new", "cur"}
