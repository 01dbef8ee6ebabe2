"""What Exim's own transports wrote reads back as the messages that Exim was given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import Failure
from muawrap.holding.formats import batchsmtp, maildir, mailstore
from muawrap.holding.held import Held
from tests.support.held import SAMPLES, opened

FORGED = (b"return-path:", b"envelope-to:")


def given(way: str) -> list[Held]:
    """The two messages that Exim was given for this way of delivery."""
    octets = (SAMPLES / "input-all.bsmtp").read_bytes()
    domain = f"@{way}.held.example"
    return [held for held in batchsmtp.transactions([octets]) if held.envelope.recipients[0].address.endswith(domain)]


def found(folder: Path, module: Any, *arguments: int) -> Iterator[Held]:
    with opened(folder) as place:
        for name in sorted(path.name for path in folder.iterdir() if module.ready(path.name)):
            held = module.read(place, name, *arguments)
            assert module.envelope(place, name, *arguments) == held.envelope
            yield held


def addressed(held: Held) -> list[str]:
    return [one.address for one in held.envelope.recipients]


def fields(header: bytes) -> list[bytes]:
    return header.splitlines(keepends=True)


def same(one: Held, sample: Held, changed: Callable[[str], str]) -> None:
    """Envelope and body are the same; of the header those fields that Exim left there, and in the same order."""
    assert sample.envelope.sender == one.envelope.sender
    assert addressed(sample) == [changed(address) for address in addressed(one)]
    assert b"".join(sample.body.blocks()) == b"".join(one.body.blocks())
    kept = [field for field in fields(one.header) if not field.lower().startswith(FORGED)]
    assert [field for field in fields(sample.header) if field in kept] == kept
    assert not [field for field in fields(sample.header) if b"forged" in field]


def stripped(address: str) -> str:
    """The affix is gone."""
    return address.removeprefix("pre-")


def lowered(address: str) -> str:
    """And what is behind a router without caseful_local_part is in lower case."""
    local, _, domain = stripped(address).rpartition("@")
    return f"{local.lower()}@{domain}" if domain.endswith(".heldlc.example") else f"{local}@{domain}"


def whole(address: str) -> str:
    """With rcpt_include_affixes, and in Envelope-to:."""
    return address


@pytest.mark.parametrize(
    ("way", "folder", "module", "arguments", "changed"),
    [
        ("bsmtp", "bsmtp", batchsmtp, (), stripped),
        ("bsmtpcrlf", "bsmtpcrlf", batchsmtp, (), stripped),
        ("mailstore", "mailstore", mailstore, (), lowered),
        ("mailstorepfx", "mailstorepfx", mailstore, (4, 1), lowered),
        ("maildir", "maildir/new", maildir, (), whole),
    ],
)
def test_a_sample_reads_back_as_what_exim_was_given(
    way: str, folder: str, module: Any, arguments: tuple[int, ...], changed: Callable[[str], str]
) -> None:
    """INTERMITTENT 7.2: envelope and body as in input-all.bsmtp, but for what the format itself loses (section 2)."""
    samples = sorted(found(SAMPLES / folder, module, *arguments), key=lambda held: held.envelope.sender == "")
    messages = given(way)
    assert len(samples) == len(messages) == 2
    for message, sample in zip(messages, samples, strict=True):
        same(message, sample, changed)


def test_batch_smtp_with_the_fields_of_a_maildir_keeps_them_as_part_of_the_text() -> None:
    """INTERMITTENT 2: batch SMTP has an envelope of its own, and the text is as it is."""
    messages = given("bsmtpenv")
    samples = sorted(found(SAMPLES / "bsmtpenv", batchsmtp), key=lambda held: held.envelope.sender == "")
    for message, sample in zip(messages, samples, strict=True):
        end = maildir.top(sample.header).end
        assert end
        same(message, sample._replace(header=sample.header[end:]), whole)


def test_a_maildir_with_a_copy_for_each_recipient_is_as_many_messages() -> None:
    """INTERMITTENT 2: without batch_max."""
    message, bounce = given("maildirone")
    samples = list(found(SAMPLES / "maildirone" / "new", maildir))
    assert len(samples) == 8
    for sample in samples:
        (recipient,) = sample.envelope.recipients
        own = bounce if sample.envelope.sender == "" else message
        same(own._replace(envelope=own.envelope._replace(recipients=(recipient,))), sample, whole)
    assert sorted(address for sample in samples for address in addressed(sample)) == sorted(
        addressed(message) + addressed(bounce)
    )


def test_one_file_of_many_transactions_is_as_many_messages() -> None:
    """INTERMITTENT 2.1: file= instead of directory=; as one message it is refused, or the second one would be lost."""
    messages = given("bsmtpfile")
    samples = list(batchsmtp.transactions([(SAMPLES / "bsmtpfile").read_bytes()]))
    for message, sample in zip(messages, samples, strict=True):
        same(message, sample, stripped)
    with opened(SAMPLES) as place, pytest.raises(Failure, match=r"^bsmtpfile: more than one message$") as caught:
        batchsmtp.read(place, "bsmtpfile")
    assert "directory=" in caught.value.advice


def test_what_came_through_a_pipe_is_the_same() -> None:
    """INTERMITTENT 6.3: Exim splits the batch by domain where the command mentions $domain."""
    message, bounce = given("pipe")
    heard = []
    for path in (SAMPLES / "pipe").iterdir():
        text = path.read_bytes().partition(b"-----\n")[2]
        (sample,) = batchsmtp.transactions([text])
        heard += addressed(sample)
        own = bounce if sample.envelope.sender == "" else message
        same(own._replace(envelope=own.envelope._replace(recipients=sample.envelope.recipients)), sample, whole)
    assert sorted(heard) == sorted(map(stripped, addressed(message) + addressed(bounce)))


def test_two_domains_for_one_host_are_one_file() -> None:
    """INTERMITTENT 6.7."""
    (sample,) = found(SAMPLES / "exim-front", batchsmtp)
    assert sample.envelope.sender == "Alice@Send.Example"
    assert addressed(sample) == ["One@a.file.example", '"two words"@b.file.example', "Three@a.file.example"]
    assert fields(sample.header)[-1] == b"Subject: x\n"
    assert b"".join(sample.body.blocks()) == b"dot\nhi\n"


@pytest.mark.parametrize(("module", "option"), [(batchsmtp, "use_bsmtp"), (maildir, "return_path_add")])
def test_a_message_without_an_envelope_is_refused_with_the_options_it_takes(module: Any, option: str) -> None:
    """INTERMITTENT 2: the plain directory format, whose recipients nobody knows."""
    folder = SAMPLES / "smail"
    with opened(folder) as place:
        for path in folder.iterdir():
            for look in module.read, module.envelope:
                with pytest.raises(Failure) as caught:
                    look(place, path.name)
                assert str(caught.value) == f"{path.name} has no envelope"
                assert option in caught.value.advice


def test_prefix_lines_are_not_taken_for_addresses() -> None:
    """INTERMITTENT 2.3: the advice says what to set."""
    folder = SAMPLES / "mailstorepfx"
    with opened(folder) as place:
        for path in folder.glob("*.env"):
            for lines in (0, 0), (4, 0), (4, 12):
                for look in mailstore.read, mailstore.envelope:
                    with pytest.raises(Failure):
                        look(place, path.name, *lines)
