"""What is held as batch SMTP goes into a real Exim by `exim -bS`, and comes out as it was."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from muawrap.holding.formats import batchsmtp, maildir, mailstore
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.mail import Body
from muawrap.reading.message import as_it_is
from tests.support.exim import Arrived, Exim
from tests.support.held import SAMPLES, opened

HEADER = (
    b"From: a@b.example\nTo: list@x.example\nBcc: hidden@x.example\n"
    b"Message-ID: <1@b.example>\nDate: Sat, 21 Nov 2026 10:45:00 +0000\n"
)
BODY = b"From here on\n.\n..\n.x\n\n>From\n 8-bit \xe9\xff\n" + b"x" * 1200 + b"\nNOOP muawrap id=x\nQUIT\n"
FULL = Envelope(
    "Alice.Mixed@Send.Example",
    (
        Addressee("Bob@x.example", "NEVER", "rfc822;bob@x.example"),
        Addressee('"quoted local"@x.example', "SUCCESS,DELAY"),
        Addressee('"a>b, \\"c\\" \\\\"@x.example'),
        Addressee("a/b=c+d@x.example"),
    ),
    1795257900.25,
    'an "id"\n\u00e4',
    "8BITMIME",
    True,
    "HDRS",
    "QQ+2B1",
    (("error", "x\r\nQUIT\r\n" * 900),),
)
HELD = Held(FULL, HEADER, Body(BODY))
BOUNCE = Held(Envelope("", (Addressee("c@d.example"),)), HEADER, Body())


def fed(exim: Exim, octets: bytes) -> list[Arrived]:
    """What it makes of the batch, without a complaint."""
    command = [exim.path, "-C", str(exim.folder / "exim.conf"), "-bS"]
    done = subprocess.run(command, input=octets, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return exim.messages()


def same(arrived: Arrived, held: Held) -> None:
    """Envelope and text, octet for octet."""
    assert arrived.sender == held.envelope.sender
    assert arrived.recipients == [one.address for one in held.envelope.recipients]
    assert arrived.text == held.header + b"\n" + b"".join(held.body.blocks())


def test_exim_reads_what_we_hold(exim: Exim) -> None:
    """INTERMITTENT 7.3: exit 0, the same envelope and the same text; whatever the notes have to say."""
    octets = b"".join(batchsmtp.write(HELD)) + b"".join(batchsmtp.write(BOUNCE))
    first, second = fed(exim, octets)
    same(first, HELD)
    same(second, BOUNCE)
    assert next(iter(batchsmtp.transactions([octets]))).envelope == FULL


def test_a_thousand_recipients_with_dsn_are_not_too_many_notes(exim: Exim) -> None:
    """INTERMITTENT 2.2: Exim gives up after ten commands that are about no mail."""
    recipients = tuple(Addressee(f"r{n}@x.example", "DELAY", f"rfc822;r{n}@x.example") for n in range(1000))
    held = HELD._replace(envelope=Envelope("a@b.example", recipients, 1.0, "x"))
    (arrived,) = fed(exim, b"".join(batchsmtp.write(held)))
    same(arrived, held)


def test_any_number_of_messages_without_notes_goes_in_at_once(exim: Exim) -> None:
    """INTERMITTENT 6.6: as an export for `exim -bS`; with notes it would end at the eleventh."""
    arrived = fed(exim, b"".join(b"".join(batchsmtp.write(HELD, noted=False)) for _ in range(25)))
    assert len(arrived) == 25
    for one in arrived:
        same(one, HELD)


def test_a_text_with_every_kind_of_line_end_is_the_one_that_would_be_sent(exim: Exim) -> None:
    """RULES F1."""
    header, body = as_it_is(iter([HEADER + b"\r\na\r\nb\rc\n\r\r.\r\nno end"]))
    held = HELD._replace(header=header, body=body)
    (arrived,) = fed(exim, b"".join(batchsmtp.write(held)))
    same(arrived, held)
    assert arrived.body == b"a\nb\nc\n\n\n.\nno end\n"


@pytest.mark.parametrize(
    ("folder", "module"), [("bsmtpcrlf", batchsmtp), ("mailstore", mailstore), ("maildir/new", maildir)]
)
def test_what_one_exim_wrote_goes_into_another(exim: Exim, folder: str, module: ModuleType) -> None:
    """INTERMITTENT 2.5: from each format, by way of ours."""
    with opened(SAMPLES / folder) as place:
        held = [
            module.read(place, path.name) for path in sorted((SAMPLES / folder).iterdir()) if module.ready(path.name)
        ]
    arrived = fed(exim, b"".join(b"".join(batchsmtp.write(one)) for one in held))
    for one, message in zip(arrived, held, strict=True):
        same(one, message)


def test_what_is_written_as_mailstore_or_maildir_goes_in_as_well(exim: Exim, tmp_path: Path) -> None:
    """INTERMITTENT 2.3, 2.4."""
    for name in "tmp", "new":
        (tmp_path / name).mkdir()
    with opened(tmp_path) as place, opened(tmp_path / "new") as new:
        held = [
            mailstore.read(place, mailstore.write(place, "m1", HELD)),
            maildir.read(new, maildir.write(place, HELD, "host")),
        ]
    for arrived in fed(exim, b"".join(b"".join(batchsmtp.write(one)) for one in held)):
        same(arrived, HELD)
