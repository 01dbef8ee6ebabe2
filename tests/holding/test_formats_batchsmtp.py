"""Batch SMTP: what is written reads back, here and word for word; what is damaged is refused."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap import batch, keeping
from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.mail import Body, Invocation
from muawrap.reading import dialogue
from muawrap.reading import message as reading
from muawrap.reading.dialogue import Dialogue
from muawrap.routing.redirect import Expansion
from tests.support.held import FULL, opened, seen

ENVELOPE = Envelope("a@b.example", (Addressee("c@d.example"),))
HELD = Held(ENVELOPE, b"Subject: x\n", Body(b"hello\n"))


def text_of(held: Held) -> bytes:
    return b"".join(batchsmtp.write(held))


def one_of(octets: bytes) -> Held:
    (held,) = batchsmtp.transactions([octets])
    return held


def dripped(octets: bytes) -> Iterator[bytes]:
    return (octets[at : at + 1] for at in range(len(octets)))


# -- round trips


@given(FULL)
def test_what_is_written_reads_back(held: Held) -> None:
    """INTERMITTENT 2.5: envelope, header and body, whatever is in them; and once more, octet for octet."""
    octets = text_of(held)
    again = one_of(octets)
    assert seen(again) == seen(held)
    assert text_of(again) == octets


@given(FULL)
def test_the_notes_are_lines_that_every_reader_of_smtp_skips(held: Held) -> None:
    """INTERMITTENT 2.2: printable ASCII before MAIL, as long as our own reader takes; the text is the same without."""
    octets = text_of(held)
    plain = b"".join(batchsmtp.write(held, noted=False))
    assert octets.endswith(plain)
    assert plain.startswith(b"MAIL FROM:<")
    assert b"\r" not in octets
    for line in octets.removesuffix(plain).splitlines():
        assert re.fullmatch(rb"NOOP muawrap( [a-z][a-z0-9.-]*\+?=([^ \"\\]+|\"([^\"\\]|\\.)*\"))+", line)
        assert re.fullmatch(rb"[ -~]{1,4096}", line)
    bare = one_of(plain)
    assert bare.envelope.sender == held.envelope.sender
    assert [one.address for one in bare.envelope.recipients] == [one.address for one in held.envelope.recipients]
    assert seen(bare)[1:] == seen(held)[1:]


@settings(max_examples=40)
@given(FULL)
def test_pieces_of_any_size_are_the_same_file(held: Held) -> None:
    """STYLE: whole, and dripped."""
    octets = text_of(held._replace(envelope=held.envelope._replace(id="", facts=())))
    (again,) = batchsmtp.transactions(dripped(octets))
    assert seen(again) == seen(one_of(octets))


@settings(max_examples=25)
@given(st.lists(FULL, max_size=3))
def test_several_files_in_one_go_are_as_many_messages(messages: list[Held]) -> None:
    """INTERMITTENT 2.1: no note of one is about another."""
    octets = b"".join(map(text_of, messages))
    assert list(map(seen, batchsmtp.transactions([octets]))) == list(map(seen, messages))


def test_our_reader_takes_a_line_as_long_as_a_note_may_be() -> None:
    """muawrap.batch: the limits are one."""
    assert batch.LINE_LIMIT == dialogue.LINE_LIMIT


# -- what it looks like


def test_a_plain_message_is_as_exim_writes_it_but_for_one_note() -> None:
    """INTERMITTENT 2.5."""
    held = Held(
        Envelope("Al@b.example", (Addressee("c@d.example"), Addressee('"q l"@d.example')), 1795257900.0, "1xUcvW-1d"),
        b"Subject: x\n",
        Body(b".\n..x\nhello\n"),
    )
    assert text_of(held) == (
        b"NOOP muawrap at=2026-11-21T10:45:00Z id=1xUcvW-1d\n"
        b"MAIL FROM:<Al@b.example>\n"
        b'RCPT TO:<c@d.example>\nRCPT TO:<"q l"@d.example>\n'
        b"DATA\nSubject: x\n\n..\n...x\nhello\n.\n"
    )


def test_what_dsn_asks_of_each_recipient_takes_few_words() -> None:
    """RFC 3461: neighbours with the same are named together, all of them not at all."""
    recipients = [Addressee(f"r{number}@x.example", "NEVER") for number in range(1, 1001)]
    held = HELD._replace(envelope=ENVELOPE._replace(recipients=tuple(recipients)))
    assert text_of(held).startswith(b"NOOP muawrap notify=NEVER\nMAIL")
    recipients[4] = Addressee("r5@x.example", "DELAY", "rfc822;r@x.example")
    recipients[5] = Addressee("r6@x.example")
    held = HELD._replace(envelope=ENVELOPE._replace(recipients=tuple(recipients)))
    assert text_of(held).partition(b"\n")[0] == (
        b"NOOP muawrap notify.1-4=NEVER notify.5=DELAY notify.7-1000=NEVER orcpt.5=rfc822;r@x.example"
    )
    assert one_of(text_of(held)).envelope.recipients == tuple(recipients)


def test_a_thousand_original_recipients_fill_their_notes() -> None:
    """INTERMITTENT 2.2: as few commands as possible, for Exim gives up after ten."""
    recipients = tuple(Addressee(f"r{n}@x.example", "", f"rfc822;r{n}@x.example") for n in range(1000))
    octets = text_of(HELD._replace(envelope=ENVELOPE._replace(recipients=recipients)))
    notes = [line for line in octets.splitlines() if line.startswith(b"NOOP")]
    assert len(notes) == -(-sum(map(len, notes)) // 4096) <= 10
    assert one_of(octets).envelope.recipients == recipients


def test_a_value_longer_than_a_line_goes_on_in_the_next() -> None:
    """muawrap.batch: nothing is cut, not even between the two halves of an escape."""
    held = HELD._replace(envelope=ENVELOPE._replace(id="\\\n\u00e4" * 2000, facts=(("error", "x" * 9000),)))
    notes = [line for line in text_of(held).splitlines() if line.startswith(b"NOOP")]
    assert len(notes) == 7
    assert [line[:18] for line in notes[1:3]] == [b'NOOP muawrap id+="', b'NOOP muawrap id+="']
    assert seen(one_of(text_of(held))) == seen(held)


@pytest.mark.parametrize("at", [-1.0, 1e18, float("inf"), float("nan")])
def test_a_time_that_no_calendar_has_is_left_out(at: float) -> None:
    """INTERMITTENT 6.0: clocks lie, and mtimes too."""
    assert text_of(HELD._replace(envelope=ENVELOPE._replace(at=at))).startswith(b"MAIL")


# -- what cannot be written


@pytest.mark.parametrize(
    ("envelope", "sentence"),
    [
        (Envelope("a@b.example", ()), "0 recipients, and a message has 1 to 10000"),
        (
            Envelope("", (Addressee("a@b.example"),) * 10_001),
            "10001 recipients, and a message has 1 to 10000",
        ),
        (Envelope("a@b.example\nQUIT", ENVELOPE.recipients), r"a control character in 'a@b.example\nQUIT'"),
        (Envelope("", (Addressee("a@b.example\rDATA"),)), r"a control character in 'a@b.example\rDATA'"),
        (Envelope("", (Addressee("a\0@b.example"),)), r"a control character in 'a\x00@b.example'"),
        (
            Envelope("", (Addressee("a@b.example>, <c@d.example"),)),
            "cannot read the address '<a@b.example>, <c@d.example>': it holds more than one address",
        ),
        (Envelope("", (Addressee(""),)), 'cannot read the address \'<>\': nothing stands between "<" and ">"'),
        (
            Envelope("\udcff@b.example", ENVELOPE.recipients),
            "cannot read the address '<\\udcff@b.example>': a control character, or what is not UTF-8, in an address",
        ),
    ],
)
def test_an_envelope_that_would_not_read_back_is_refused_before_a_word_is_written(
    envelope: Envelope, sentence: str
) -> None:
    """INTERMITTENT 6.3: no address breaks out of its line."""
    with pytest.raises(Failure) as caught:
        batchsmtp.write(HELD._replace(envelope=envelope))
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "envelope",
    [
        ENVELOPE._replace(recipients=(Addressee("a@b.example", "NEVER,DELAY"),)),
        ENVELOPE._replace(recipients=(Addressee("a@b.example", "", "rfc822;a b"),)),
        ENVELOPE._replace(body="BINARYMIME"),
        ENVELOPE._replace(returns="ALL"),
        ENVELOPE._replace(envelope_id="x\r\nQUIT"),
    ],
)
def test_what_no_host_could_be_told_is_not_written(envelope: Envelope) -> None:
    """RFC 3461, RFC 6152: or it would be refused when it is read."""
    with pytest.raises(Failure, match=r"cannot read the parameter|has no parameter"):
        batchsmtp.write(HELD._replace(envelope=envelope))


@pytest.mark.parametrize("name", ["id", "notify", "notify.2", "two words", "x=y", "X", "", "a\nMAIL"])
def test_a_fact_has_a_name_of_its_own(name: str) -> None:
    """muawrap.batch: it cannot pass for something else."""
    with pytest.raises(ValueError, match="no name of a fact"):
        batchsmtp.write(HELD._replace(envelope=ENVELOPE._replace(facts=((name, "x"),))))


def test_quotes_that_need_not_be_are_not_written() -> None:
    """RFC 5321, 4.1.2: it is the same mailbox."""
    envelope = Envelope('"a"@b.example', (Addressee('"c"@d.example'),))
    assert text_of(HELD._replace(envelope=envelope)).startswith(b"MAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\n")


# -- what is read


def test_a_copy_that_keep_failed_made_is_read_with_all_its_facts(tmp_path: Path) -> None:
    """RULES A4, INTERMITTENT 6.0: same format."""
    message, _ = reading.taken(iter([b"Message-ID: <1@x>\n\nhello\n"]), 100)
    invocation = Invocation(
        sender="a@b.example",
        notify="FAILURE",
        returns="HDRS",
        envelope_id="Q+2B1",
        full_name='Cron "D\u00e4mon"',
        gateway=True,
        utf8=True,
    )
    kept = keeping.Given(invocation, ["c@d.example", "root"], message, "login")
    tmp_path.chmod(0o700)
    before = os.umask(0o022)
    failure = Failure("bad\nthing", lead=TRY_AGAIN)
    path = Path(keeping.keep(str(tmp_path), kept, failure, "<1@" + "x" * 900, lambda _: Expansion((), ())))
    os.umask(before)
    with opened(tmp_path) as place:
        envelope = batchsmtp.read(place, path.name).envelope
    assert abs(envelope.at - path.stat().st_mtime) < 2
    assert envelope.recipients == (Addressee("c@d.example", "FAILURE"), Addressee("root", "FAILURE"))
    assert (envelope.returns, envelope.envelope_id, envelope.utf8) == ("HDRS", "Q+2B1", True)
    assert envelope.id.startswith("<1@xxx")  # cut, and nothing else is cut for it
    assert envelope.facts[:2] == (("outcome", TRY_AGAIN), ("gateway", "yes"))


def test_what_a_command_says_itself_wins_over_the_note() -> None:
    """RFC 3461: parameters in a batch are ours to read, Exim has none."""
    octets = (
        b"noop muawrap ret=FULL body=7BIT envid=one notify=DELAY notify.2=NEVER\r\n"
        b"MAIL FROM:<a@b.example> RET=hdrs BODY=8bitmime SMTPUTF8\r\n"
        b"RCPT TO:<c@d.example> NOTIFY=success\r\nRCPT TO:<e@f.example>\r\nRCPT TO:<g@h.example>\r\n"
        b"NOOP muawrap id=late\r\nDATA\r\n\r\nx\r\n.\r\n"
    )
    envelope = one_of(octets).envelope
    assert [one.notify for one in envelope.recipients] == ["SUCCESS", "NEVER", "DELAY"]
    assert (envelope.returns, envelope.body, envelope.envelope_id, envelope.utf8) == ("HDRS", "8BITMIME", "one", True)
    assert envelope.id == "late"


@pytest.mark.parametrize(
    "before",
    [
        b"NOOP\n",
        b"NOOP anything at=all\n",
        b"NOOP muawrap\n",
        b"NOOP muawrapped id=x\n",
        b"HELO mx.isp.example\n",
        b"NOOP muawrap id=forgotten\nMAIL FROM:<x@y.example>\nRSET\n",
        b"NOOP muawrap id=forgotten\nMAIL FROM:<x@y.example>\nHELO again\n",
        b"VRFY x\nEXPN x\nHELP\nETRN x\n\n",
    ],
)
def test_what_exim_passes_over_is_passed_over(before: bytes) -> None:
    """INTERMITTENT 2.2."""
    assert seen(one_of(before + text_of(HELD) + b"QUIT\n")) == seen(HELD)


@pytest.mark.parametrize(
    "note",
    [
        'id="x',
        "id=x\\",
        'id="\\q"',
        'id="\\U00110000"',
        'id="\\xe"',
        "id",
        "=x",
        "id=",
        'id="x"y',
        "id+=x",
        "at=yesterday",
        "at=2026-13-40T10:45:00Z",
        'notify="NEVER SIZE=1"',
        'notify="NEVER\\nRCPT TO:<x@y>"',
        "notify.2=NEVER",
        "notify.1-2=NEVER",
        "orcpt.1=nothing",
        "ret=SOME",
        'envid="a b"',
        "body=9BIT",
    ],
)
def test_a_note_that_is_damaged_or_asks_for_what_there_is_not_is_refused(note: str) -> None:
    """INTERMITTENT 6.3: what was asked for is not lost in silence, and what is said to a host is what SMTP has."""
    octets = f"NOOP muawrap {note}\n".encode() + text_of(HELD)
    with pytest.raises(Failure, match="cannot read what stands behind NOOP muawrap"):
        one_of(octets)


def test_notes_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory."""
    monkeypatch.setattr(batchsmtp, "NOTES", 100)
    with pytest.raises(Failure, match="more than 100 notes"):
        one_of(b"NOOP muawrap x=y\n" * 101 + text_of(HELD))


# -- a folder


def test_a_file_that_was_cut_anywhere_is_no_message(tmp_path: Path) -> None:
    """INTERMITTENT 2.2: the end of the input within a message; and what was begun behind a message is seen."""
    held = HELD._replace(envelope=ENVELOPE._replace(at=1.5, id="x y", recipients=(*ENVELOPE.recipients,) * 3))
    for octets in text_of(held), text_of(held).replace(b"\n", b"\r\n"):
        with opened(tmp_path) as place:
            for size in range(len(octets)):
                (tmp_path / "q1").write_bytes(octets[:size])
                with pytest.raises(Failure, match=r"^q1"):
                    batchsmtp.read(place, "q1")
            (tmp_path / "q1").write_bytes(octets)
            assert seen(batchsmtp.read(place, "q1")) == seen(held)
            for size in range(1, len(octets)):
                (tmp_path / "q1").write_bytes(octets + octets[:size])
                try:
                    assert seen(batchsmtp.read(place, "q1")) == seen(held)
                    assert octets[:size].strip() in octets.splitlines()[:1]  # nothing but a note was begun
                except Failure:
                    pass


def test_the_envelope_alone_is_that_of_the_message_and_its_text_is_not_looked_at(tmp_path: Path) -> None:
    """INTERMITTENT 6.6: for long lists."""
    recipients = tuple(Addressee(f"r{number}@x.example") for number in range(2000))
    held = HELD._replace(envelope=ENVELOPE._replace(at=12.0, recipients=recipients))
    (tmp_path / "q1").write_bytes(text_of(held).replace(b"hello\n.\n", b""))
    with opened(tmp_path) as place:
        assert batchsmtp.envelope(place, "q1") == held.envelope
        with pytest.raises(Failure, match=r"^q1: line 2005: the input ends in the middle of a message$"):
            batchsmtp.read(place, "q1")


def test_a_file_that_does_not_say_when_is_as_old_as_its_mtime(tmp_path: Path) -> None:
    """INTERMITTENT 6.5."""
    (tmp_path / "q1").write_bytes(text_of(HELD))
    os.utime(tmp_path / "q1", (5, 77.25))
    with opened(tmp_path) as place:
        assert batchsmtp.read(place, "q1").envelope.at == batchsmtp.envelope(place, "q1").at == 77.25
        (tmp_path / "q1").write_bytes(text_of(HELD._replace(envelope=ENVELOPE._replace(at=5.5))))
        assert batchsmtp.read(place, "q1").envelope.at == batchsmtp.envelope(place, "q1").at == 5.5


@pytest.mark.parametrize("octets", [b"", b"\n", b"QUIT\n", b"HELO x\n", b"NOOP muawrap id=x\n"])
def test_a_file_without_a_message_is_not_passed_over(tmp_path: Path, octets: bytes) -> None:
    """INTERMITTENT 2.3, for all formats: damaged is not done."""
    (tmp_path / "q1").write_bytes(octets)
    with opened(tmp_path) as place:
        for look in batchsmtp.read, batchsmtp.envelope:
            with pytest.raises(Failure, match=r"^q1 holds no message$"):
                look(place, "q1")


def test_a_mistake_in_the_middle_is_told_with_its_line(tmp_path: Path) -> None:
    """INTERMITTENT 2.2."""
    (tmp_path / "q1").write_bytes(b"MAIL FROM:<a@b.example>\nRCPT TO:<not an address>\nDATA\n\n.\n")
    with opened(tmp_path) as place, pytest.raises(Failure, match=r"^q1: line 2: cannot read the address") as caught:
        batchsmtp.read(place, "q1")
    assert caught.value.lead == REFUSED


@pytest.mark.parametrize(
    ("name", "is_ready"),
    [("q1xUcvW-2384065", True), ("temp.123.host", False), (".x", False), ("x.tmp", False), ("tempest", True)],
)
def test_an_unfinished_file_is_told_by_its_name(name: str, is_ready: bool) -> None:
    """INTERMITTENT 2.1, 6.1."""
    assert batchsmtp.ready(name) is is_ready
    assert batchsmtp.files(name) == (name,)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: others may write to the folder."""
    (tmp_path / "real").write_bytes(text_of(HELD))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with opened(tmp_path) as place:
        for name in "link", "folder", "fifo":
            with pytest.raises(Failure, match=f"^{name} is not a regular file$"):
                batchsmtp.read(place, name)
        with pytest.raises(Failure, match=r"^none cannot be read: no such file or directory$") as caught:
            batchsmtp.read(place, "none")
    assert caught.value.lead == TRY_AGAIN


# -- the rest of the program


def test_a_batch_has_notes_only_for_those_who_ask() -> None:
    """RULES E8: `sendmail -bS` does as before."""
    octets = text_of(HELD._replace(envelope=ENVELOPE._replace(id="x")))

    def events(given: Dialogue) -> list[str]:
        return [type(event).__name__ for event in given.events([octets])]

    assert events(Dialogue(batch=True)) == ["Mail", "Rcpt", "Text"]
    assert events(Dialogue(batch=True, notes=True)) == ["Note", "Mail", "Rcpt", "Text"]


def test_a_large_message_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    """INTERMITTENT 6.3: 32 MiB, written and read again."""
    size = 32 * 1024 * 1024
    file = os.memfd_create("body")
    for _ in range(32):
        os.write(file, b".234567\n" * 131_072)
    held = HELD._replace(body=Body.spooled(file, size, size // 8, False))
    tracemalloc.start()
    try:
        with (tmp_path / "q1").open("wb") as target:
            target.writelines(batchsmtp.write(held))
        with opened(tmp_path) as place:
            again = batchsmtp.read(place, "q1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        os.close(file)
    assert (again.body.size, again.body.lines, again.header) == (size, size // 8, held.header)
    assert peak < 8 * 1024 * 1024
