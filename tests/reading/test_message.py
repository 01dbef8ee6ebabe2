"""Standard input as a message: the same one however its octets arrive."""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.mail import BLOCK, Body, Header, Message
from muawrap.reading import message as reading

MAX_RECEIVED = 100


def whole(text: bytes) -> list[bytes]:
    """The text as one block."""
    return [text]


def dripped(text: bytes) -> list[bytes]:
    """The text octet by octet."""
    return [text[at : at + 1] for at in range(len(text))]


def crowded(text: bytes) -> list[bytes]:
    """The text in two blocks with empty ones about them, cut in the middle."""
    half = len(text) // 2
    return [b"", text[:half], b"", text[half:], b""]


SPLITTINGS = (whole, dripped, crowded)


def spool(blocks: list[bytes], dot_ends: bool = False) -> tuple[reading.Headers, Body]:
    """Header block and body of a text that comes in these blocks."""
    source = iter(blocks)
    return reading._spool(reading.crlf_as_lf(reading._before_dot(source) if dot_ends else source))


def text_of(body: Body) -> bytes:
    """The whole body, and its counts checked on the way."""
    text = b"".join(body.blocks())
    assert (body.size, body.lines, body.eight_bit) == (len(text), text.count(b"\n"), not text.isascii())
    return text


def split(text: bytes, dot_ends: bool = False) -> tuple[list[bytes], bytes]:
    """The fields and the body of a text, which are the same for every splitting."""
    answers = []
    for splitting in SPLITTINGS:
        headers, body = spool(splitting(text), dot_ends)
        answers.append(([header.octets for header in headers], text_of(body)))
    assert answers[0] == answers[1] == answers[2]
    return answers[0]


def fields(text: bytes) -> list[str]:
    """The names of the header fields of a text."""
    return [header.name for header in spool([text])[0]]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe: to read from, to write to."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def fed(pipe: tuple[int, int], text: bytes) -> int:
    """The reading end of a pipe that a writer fills and closes."""

    def write() -> None:
        with open(pipe[1], "wb") as end:
            end.write(text)

    threading.Thread(target=write, daemon=True).start()
    return pipe[0]


def read(text: bytes, tmp_path: Path, dot_ends: bool = True, max_received: int = MAX_RECEIVED) -> Message:
    """A message read from a file."""
    path = tmp_path / "message"
    path.write_bytes(text)
    with path.open("rb") as file:
        return reading.read(file.fileno(), dot_ends, max_received)[0]


# -- line ends (RULES F1) -------------------------------------------------------------------------------------------

LINE_ENDS = {
    b"a\nb\n": b"a\nb\n",
    b"a\r\nb\r\n": b"a\nb\n",
    b"a\rb\r": b"a\nb\n",
    b"a\nb\r\nc\rd": b"a\nb\nc\nd\n",
    b"a\r\r\nb": b"a\n\nb\n",
    b"a\n\rb\n": b"a\n\nb\n",
    b"a\r\n\r\nb": b"a\n\nb\n",
    b"a": b"a\n",
    b"a\n": b"a\n",
    b"a\r": b"a\n",
    b"a\0b\xff\n": b"a\0b\xff\n",
    b"\n\n": b"\n\n",
    b"": b"",
}


@pytest.mark.row("I5")
@pytest.mark.parametrize("body", LINE_ENDS)
def test_lf_crlf_and_cr_are_each_one_line_end(body: bytes) -> None:
    """RULES F1, F5: decided line by line; a missing last one is added; NUL and 8-bit text of a body stay."""
    assert split(b"X: y\n\n" + body) == ([b"X: y\n"], LINE_ENDS[body])


def test_a_header_in_crlf_and_a_body_in_lf_are_read() -> None:
    """RULES F1: PHP and Nodemailer write so; Exim takes the body for header."""
    assert split(b"To: a@x\r\nSubject: s\r\n\r\none\ntwo\r\n") == ([b"To: a@x\n", b"Subject: s\n"], b"one\ntwo\n")


@pytest.mark.row("I5", "I7")
def test_a_cr_alone_folds_a_header_field() -> None:
    """RULES F1: as in Exim, so that it smuggles no field into the header, nor a blank line."""
    assert split(b"Subject: a\rBcc: b@x\r\r\rc\r\r\nTo: d@x\n\n") == (
        [b"Subject: a\n Bcc: b@x\n c\n", b"To: d@x\n"],
        b"",
    )


@pytest.mark.row("I5")
@given(
    st.lists(
        st.sampled_from([b"\n", b"\r", b"\r\n", b".", b"\0", b"a", b"X: y", b" ", b"\xff", b"From x"]), max_size=14
    )
)
@settings(deadline=None, max_examples=500)
@pytest.mark.parametrize("dot_ends", [False, True])
def test_no_splitting_changes_the_message(dot_ends: bool, pieces: list[bytes]) -> None:
    """RULES F1, F2: and lines end with LF only, each field is one field, and the block holds no NUL."""
    text = b"".join(pieces)
    found, body = split(text, dot_ends)
    assert split(text, dot_ends) == (found, body) == _at_pieces(pieces, dot_ends)
    assert b"\r" not in body
    assert body.endswith(b"\n") or not body
    for octets in found:
        assert re.fullmatch(rb"[!-9;-~]+[ \t]*:[^\0\r\n]*\n(?:[ \t][^\0\r\n]*\n)*", octets)
        assert octets.rpartition(b"\n ")[2].strip() or octets.count(b"\n") == 1


def _at_pieces(pieces: list[bytes], dot_ends: bool) -> tuple[list[bytes], bytes]:
    headers, body = spool(pieces, dot_ends)
    return [header.octets for header in headers], text_of(body)


# -- the lone dot (RULES F2) ----------------------------------------------------------------------------------------

DOTS = {  # below "X: y" and an empty line: what is left of it where a dot ends the message
    b"a\n.\nmore\n": b"a\n",
    b"a\n.\r\nmore\n": b"a\n",
    b"a\r\n.\nmore\n": b"a\n",
    b"a\r\n.\r\nmore\r\n": b"a\n",
    b".\nmore\n": b"",
    b"a\n.\n.\n": b"a\n",
    # only LF and CRLF count, on both sides of the dot
    b"a\r.\nmore\n": b"a\n.\nmore\n",
    b"a\n.\rmore\n": b"a\n.\nmore\n",
    b"a\r.\rmore\n": b"a\n.\nmore\n",
    b"a\n.\r\rmore\n": b"a\n.\n\nmore\n",
    # no lone dots
    b"a\n..\nmore\n": b"a\n..\nmore\n",
    b"a\n. \nmore\n": b"a\n. \nmore\n",
    b"a\n.b\n": b"a\n.b\n",
    b"a.\nmore\n": b"a.\nmore\n",
    b"a\n.": b"a\n.\n",
    b"a\n.\r": b"a\n.\n",
    b"\n\n.": b"\n\n.\n",
}


@pytest.mark.parametrize("body", DOTS)
def test_a_lone_dot_ends_the_message(body: bytes) -> None:
    """RULES F2: and two dots stay two."""
    assert split(b"X: y\n\n" + body, dot_ends=True)[1] == DOTS[body]


@pytest.mark.parametrize("body", [b"a\n.\nmore\n", b".\n", b"a\n..\n.\n"])
def test_a_lone_dot_is_text_when_i_is_given(body: bytes) -> None:
    """RULES F2: end of input ends the message."""
    assert split(b"X: y\n\n" + body)[1] == body


@pytest.mark.parametrize("text", [b".\n", b".\r\n", b".\nX: y\n"])
def test_a_lone_dot_as_the_first_line_leaves_an_empty_message(text: bytes) -> None:
    """RULES F2, F8."""
    assert split(text, dot_ends=True) == ([], b"")


def test_a_lone_dot_ends_the_message_within_the_header_too() -> None:
    """RULES F2."""
    assert split(b"X: y\n.\nTo: a@b\n\nbody\n", dot_ends=True) == ([b"X: y\n"], b"")
    assert split(b"X: y\n.\nTo: a@b\n\nbody\n") == ([b"X: y\n"], b".\nTo: a@b\n\nbody\n")


# -- where the header ends (RULES F5) -------------------------------------------------------------------------------


def test_a_first_line_that_is_no_header_starts_the_body() -> None:
    """RULES F5."""
    assert split(b"hello\nX: y\n\nworld\n") == ([], b"hello\nX: y\n\nworld\n")


@pytest.mark.parametrize(
    "line", [b"no colon", b"X y: z", b": z", b"X-\x01y: z", b"X\xc3\xa4y: z", b".y", b"From me to you"]
)
def test_a_line_that_is_no_header_ends_the_header_and_stays(line: bytes) -> None:
    """RULES F5, F1: a name that two receivers could read in two ways is none."""
    assert split(b"A: b\n" + line + b"\nTo: a@b\n\nbody\n") == ([b"A: b\n"], line + b"\nTo: a@b\n\nbody\n")


@pytest.mark.parametrize("line", [b"X(y): z", b"X/y: z", b'X"y: z', b"Subject : x", b"Subject\t : x", b"X:", b"x:y:z"])
def test_any_printable_name_is_a_header(line: bytes) -> None:
    """RULES F3, F5: and its octets stay."""
    assert split(line + b"\nTo: a@b\n\nbody\n") == ([line + b"\n", b"To: a@b\n"], b"body\n")


@pytest.mark.parametrize("text", [b" foo\nX: y\n\nb\n", b"   \nX: y\n", b"\tx\n"])
def test_a_first_line_that_begins_with_a_blank_is_text(text: bytes) -> None:
    """RULES F5."""
    assert split(text) == ([], text)


def test_the_empty_line_belongs_to_neither() -> None:
    """RULES F5."""
    assert split(b"\n\nX: y\n") == ([], b"\nX: y\n")
    assert split(b"X: y\n\n\nbody\n") == ([b"X: y\n"], b"\nbody\n")
    assert split(b"X: y\n\n") == split(b"X: y\n") == split(b"X: y") == ([b"X: y\n"], b"")


def test_folded_lines_stay_as_they_are() -> None:
    """RULES F3."""
    text = b"Subject: a\n  b\n\tc\n   \n d\n"
    assert split(text + b"To: a@b\n\n") == ([text, b"To: a@b\n"], b"")


@pytest.mark.parametrize("blanks", [b"   \n", b"\t\n", b" \n \n", b" \0\n", b" \r \n"])
def test_a_last_folded_line_of_blanks_only_goes(blanks: bytes) -> None:
    """RULES F1: some receivers take it for the end of the header, and it is none."""
    assert split(b"X: y\n" + blanks + b"To: a@b\n\nbody\n") == ([b"X: y\n", b"To: a@b\n"], b"body\n")


def test_trailing_blanks_of_a_field_stay() -> None:
    """RULES F3."""
    assert split(b"X: y \t\nA:\n\n") == ([b"X: y \t\n", b"A:\n"], b"")


@pytest.mark.row("I6")
def test_nul_is_dropped_from_headers() -> None:
    """RULES F5: before anything is looked at, so that it hides nothing; a line of NUL only is no empty line."""
    assert split(b"S\0ubject\0: x\0\n\0\n\0 y\n\0\0\nB\0cc: z\n\nbo\0dy\n") == (
        [b"Subject: x\n y\n", b"Bcc: z\n"],
        b"bo\0dy\n",
    )


def test_empty_input_is_an_empty_message() -> None:
    """RULES F8."""
    assert split(b"") == ([], b"")


MBOX = [
    b"From a@b Sat Nov 21 10:00:00 2026",
    b"From a@b.example  Thu Jan  1 00:00:00 1970",
    b"From a@b.example Sat, 21 Nov 2026 10:00:00",
    b"From MAILER-DAEMON Fri Jul  8 12:08 CEST 2011",
    b"From - Sat Nov 21 10:00:00 2026",
    b"From a@b 21 Nov 26 9:00",
    b"From\0 a@b Sat Nov 21 10:00:00 2026",
    b">From a@b Sat Nov 21 10:00:00 2026",
]


@pytest.mark.parametrize("line", MBOX)
def test_a_leading_mailbox_separator_goes(line: bytes) -> None:
    """RULES F4: procmail pipes it to us."""
    assert split(line + b"\nX: y\n\nbody\n") == ([b"X: y\n"], b"body\n")


@pytest.mark.parametrize(
    "line",
    [
        b"From my point of view this is text",
        b"From a@b",
        b"From",
        b"From 3 to 4 on Nov 21 at 10:00 we meet",
        b"From Paris by train at 10:00",
        b"from a@b Sat Nov 21 10:00:00 2026",
        b">>From a@b Sat Nov 21 10:00:00 2026",
    ],
)
def test_a_sentence_that_begins_with_from_is_text(line: bytes) -> None:
    """RULES F4, F5."""
    text = line + b"\nX: y\n\nbody\n"
    assert split(text) == ([], text)


def test_a_mailbox_separator_goes_from_the_first_line_only() -> None:
    """RULES F4."""
    line = MBOX[0] + b"\n"
    assert split(line + b">" + line + b"X: y\n") == ([], b">" + line + b"X: y\n")
    assert split(b"X: y\n" + line + b"A: b\n") == ([b"X: y\n"], line + b"A: b\n")
    assert split(b"X: y\n\n" + line) == ([b"X: y\n"], line)


# -- what never leaves (RULES F4) -----------------------------------------------------------------------------------

HIDDEN = [
    b"Bcc: s@x\n",
    b"BCC:s@x\n",
    b"bcc : s@x\n",
    b"Bcc\t \t: s@x\n",
    b"Bcc:\n s@x\n",
    b"Bcc: a@x,\n\ts@x,\n   \n b@x\n",
    b"Bcc: a@x\nBcc: s@x\n",
    b"B\0cc\0: \0s@x\n",
    b"\0Bcc: s@x\n",
    b"Bcc: a@x\r\n s@x\r\n",
    b"Bcc: a@x\r s@x\n",
    b"Bcc: " + b"s@x," * 50_000 + b"\n",
    b"Resent-Bcc: s@x\n",
    b"RESENT-BCC :\n s@x\n",
    b"Return-Path: <s@x>\n",
    b"return-path : <s@x>\n",
]


@pytest.mark.row("I6", "I7")
@pytest.mark.parametrize("field", HIDDEN, ids=lambda field: repr(field[:20]))
@pytest.mark.parametrize("end", [b"", b"To: a@b\n", b"To: a@b\n\nbody\n"])
@pytest.mark.parametrize("begin", [b"", b"\0\n", b"Subject: hi\n", b"Subject: hi\r\n  \r\n"])
def test_bcc_goes_in_every_spelling(field: bytes, end: bytes, begin: bytes, tmp_path: Path) -> None:
    """RULES F4: with and without -t, for that is not even asked here."""
    left, body = read(begin + field + end, tmp_path)
    assert {header.name for header in left} <= {"subject", "to"}
    assert b"s@x" not in b"".join(header.octets for header in left) + text_of(body)


@pytest.mark.row("I7")
def test_a_bcc_without_a_last_line_end_goes(tmp_path: Path) -> None:
    """RULES F4."""
    assert read(b"To: a@b\nBcc: s@x", tmp_path).headers == (Header("to", b"To: a@b\n"),)


@pytest.mark.parametrize("field", [b"X-Bcc: s@x\n", b"Bccc: s@x\n", b"Subject: Bcc: s@x\n", b"Subject: x\n Bcc: s@x\n"])
def test_what_only_looks_like_bcc_stays(field: bytes, tmp_path: Path) -> None:
    """RULES F3."""
    assert [header.octets for header in read(field + b"\n", tmp_path).headers] == [field]


def test_the_header_is_also_handed_over_as_it_was_written(pipe: tuple[int, int]) -> None:
    """RULES E7: -t has to see the Bcc."""
    message, written = reading.read(fed(pipe, b"To: a@x\nBcc: b@x\n\nbody\n"), True, MAX_RECEIVED)
    assert [header.name for header in message.headers] == ["to"]
    assert [header.name for header in written] == ["to", "bcc"]


# -- standard input itself (RULES F8, A6) ---------------------------------------------------------------------------


def test_a_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    """RULES F8: anacron and atd hand over their files half read."""
    path = tmp_path / "job"
    path.write_bytes(b"To: not@x\n\n" + b"X: y\n\nbody\n")
    with path.open("rb", buffering=0) as file:
        file.seek(11)
        message, _ = reading.read(file.fileno(), True, MAX_RECEIVED)
    assert [header.name for header in message.headers] == ["x"]
    assert text_of(message.body) == b"body\n"


def test_a_socket_pair_is_as_good_as_a_pipe() -> None:
    """RULES E5: Node hands one over."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"X: y\n\nbody\n")
        theirs.shutdown(socket.SHUT_WR)
        assert text_of(reading.read(ours.fileno(), True, MAX_RECEIVED)[0].body) == b"body\n"


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    """RULES F8: some callers leave O_NONBLOCK on the end they hand over."""
    os.set_blocking(pipe[0], False)
    reader, writer = pipe
    answer: list[Message] = []
    thread = threading.Thread(target=lambda: answer.append(reading.read(reader, True, MAX_RECEIVED)[0]))
    thread.start()
    os.write(writer, b"X: y\n\n")
    os.write(writer, b"body\n")
    os.close(writer)
    thread.join(60)
    assert text_of(answer[0].body) == b"body\n"


@pytest.mark.row("L1")
def test_a_closed_standard_input_is_a_failure(pipe: tuple[int, int]) -> None:
    """RULES F8."""
    with pytest.raises(Failure, match="standard input is closed") as refused:
        reading.read(pipe[1], True, MAX_RECEIVED)  # the end that cannot be read
    assert refused.value.lead == REFUSED


@pytest.mark.row("L1")
def test_a_folder_as_standard_input_is_a_failure(tmp_path: Path) -> None:
    """RULES F8."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(Failure, match="standard input cannot be read: Is a directory"):
            reading.read(descriptor, True, MAX_RECEIVED)
    finally:
        os.close(descriptor)


def test_reading_ends_at_the_lone_dot_though_the_pipe_stays_open(pipe: tuple[int, int]) -> None:
    """RULES F2: a caller who keeps the pipe open is not waited for, in draining either."""
    os.write(pipe[1], b"X: y\n\nbody\n.\n")
    assert text_of(reading.read(pipe[0], True, MAX_RECEIVED)[0].body) == b"body\n"
    reading.drain(pipe[0])


def test_what_follows_the_dot_is_drained(pipe: tuple[int, int]) -> None:
    """RULES A6: the caller is spared a SIGPIPE."""
    descriptor = fed(pipe, b"X: y\n\n.\n" + b"more\n" * 200_000)
    reading.read(descriptor, True, MAX_RECEIVED)
    reading.drain(descriptor)
    assert os.read(descriptor, 1) == b""


@pytest.mark.parametrize(("dot_ends", "left"), [(True, b"more\n"), (False, b"")])
def test_a_skipped_message_is_read_to_its_end(tmp_path: Path, dot_ends: bool, left: bytes) -> None:
    """RULES A6: through the lone dot, or all of it; what is read beyond is in the same block at most."""
    path = tmp_path / "message"
    path.write_bytes(b"x" * BLOCK * 3 + b"\n.\n" + b"y" * BLOCK * 3 + left)
    with path.open("rb", buffering=0) as file:
        reading.skip(file.fileno(), dot_ends)
        assert file.read()[-5:] == left


def test_skipping_and_draining_never_fail(pipe: tuple[int, int]) -> None:
    """RULES A6: a failure is being reported already."""
    reading.skip(pipe[1], True)
    reading.drain(pipe[1])
    reading.drain(-1)


# -- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "loops"), [(100, False), (101, True)])
def test_too_many_received_lines_are_a_loop(tmp_path: Path, count: int, loops: bool) -> None:
    """RULES F8."""
    text = b"Received: here\nreceived : there\n" * (count // 2) + b"Received: x\n" * (count % 2) + b"\n"
    if not loops:
        assert len(read(text, tmp_path).headers) == count
    else:
        with pytest.raises(Failure, match="101 Received: lines"):
            read(text, tmp_path)


def blocks_of(text: bytes, size: int) -> list[bytes]:
    """The text in blocks of that size."""
    return [text[at : at + size] for at in range(0, len(text), size)]


HEADER_BLOCKS = {
    "one line": b"X: " + b"a" * (reading.HEADER_LIMIT - 100) + b"\n",
    "folded lines": b"X: a\n" + b" a\n" * ((reading.HEADER_LIMIT - 100) // 3),
    "blank lines": b"X: a\n" + b" \n" * ((reading.HEADER_LIMIT - 100) // 2) + b" a\n",
    "bare CR": b"X: a" + b"\r" * (reading.HEADER_LIMIT - 100) + b"a\n",
    "NUL": b"X: a" + b"\0" * (reading.HEADER_LIMIT - 100) + b"a\n",
}


@pytest.mark.parametrize("size", [64, 65536])
@pytest.mark.parametrize("name", HEADER_BLOCKS)
def test_a_header_near_the_limit_costs_linear_time(name: str, size: int) -> None:
    """RULES D6: whatever the writer's blocks are."""
    begin = time.process_time()
    headers, body = spool(blocks_of(HEADER_BLOCKS[name] + b"To: a@b\n\nbody\n", size), dot_ends=True)
    assert time.process_time() - begin < 20
    assert [header.name for header in headers] == ["x", "to"]
    assert text_of(body) == b"body\n"


@pytest.mark.parametrize("size", [4096, 8 * 1024 * 1024])
@pytest.mark.parametrize(
    "text", [b"X: " + b"a" * reading.HEADER_LIMIT, b"X: a\n" + b" b\n" * (reading.HEADER_LIMIT // 3)]
)
@pytest.mark.parametrize("end", [b"", b"\n\nbody\n"])
def test_a_header_beyond_the_limit_is_refused(text: bytes, end: bytes, size: int) -> None:
    """RULES F5: wherever its lines end."""
    with pytest.raises(Failure, match="header block is longer"):
        spool(blocks_of(text + end, size))


def test_too_many_fields_are_refused() -> None:
    """RULES F5."""
    assert len(fields(b"To: a@x\n" * reading.FIELD_LIMIT)) == reading.FIELD_LIMIT
    with pytest.raises(Failure, match="header fields"):
        fields(b"a:\n" * (reading.FIELD_LIMIT + 2))


@pytest.mark.parametrize("dot_ends", [False, True])
@pytest.mark.parametrize("begin", [b"", b"X: y\n\n"])
def test_fifty_megabytes_without_a_line_end_are_text(begin: bytes, dot_ends: bool) -> None:
    """RULES F5, F1: in linear time, and a line end is added."""
    block = b"x" * 65536
    start = time.process_time()
    headers, body = spool([begin, *[block] * 800], dot_ends)
    assert time.process_time() - start < 20
    assert [header.name for header in headers] == (["x"] if begin else [])
    assert (body.size, body.lines, body.eight_bit) == (len(block) * 800 + 1, 1, False)


def test_a_line_like_a_mailbox_separator_costs_linear_time() -> None:
    """RULES F4."""
    begin = time.process_time()
    for line in (b"From " + b"Nov 21 " * 500_000, b"From x " + b" " * 4_000_000, b">From " + b"1 Jan 70 1:" * 300_000):
        assert spool([line + b"\n\nbody\n"])[0] == ()
    assert time.process_time() - begin < 20


# -- the spool ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR, empty."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def spool_file(body: Body) -> str:
    """What the kernel says the body's file is called."""
    assert body._file is not None
    assert os.fstat(body._file).st_nlink == 0
    assert os.fstat(body._file).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(body._file)
    return os.readlink(f"/proc/self/fd/{body._file}")


LARGE = b"line\r\n" * (reading.MEMORY // 5) + b"\xe4 last"
LARGE_READ = LARGE.replace(b"\r\n", b"\n") + b"\n"


def test_a_small_body_stays_in_memory(folder: Path) -> None:
    """RULES A4."""
    _, body = spool([b"X: y\n\n" + b"a" * reading.MEMORY])
    assert body._file is None
    assert body.size == reading.MEMORY + 1


@pytest.mark.row("F5")
@pytest.mark.parametrize("size", [4096, 65536, 8 * 1024 * 1024])
def test_a_large_body_is_kept_in_a_file_without_a_name(folder: Path, size: int) -> None:
    """RULES A4: nothing is left anywhere, even if we are killed; it can be read as often as asked."""
    _, body = spool(blocks_of(b"X: y\n\n" + LARGE, size), dot_ends=True)
    assert spool_file(body).startswith(f"{folder}/")
    assert os.listdir(folder) == []
    assert text_of(body) == text_of(body) == LARGE_READ


@pytest.mark.row("F5")
def test_without_o_tmpfile_the_name_is_removed_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES A4: some file systems have none."""
    really = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    _, body = spool([LARGE])
    assert re.fullmatch(rf"{re.escape(str(folder))}/\.muawrap-\d+-[0-9a-f]{{16}} \(deleted\)", spool_file(body))
    assert os.listdir(folder) == []
    assert text_of(body) == LARGE_READ


@pytest.mark.parametrize("tmpdir", ["/nowhere/at/all", "", "relative", "/dev/null", None])
def test_an_unusable_tmpdir_is_passed_over(tmpdir: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES A1: /var/tmp and /tmp are left."""
    if tmpdir is None:
        monkeypatch.delenv("TMPDIR", raising=False)
    else:
        monkeypatch.setenv("TMPDIR", tmpdir)
    _, body = spool([LARGE])
    assert spool_file(body).startswith(("/var/tmp/", "/tmp/"))


def refused_below(*folders: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the folders refuse every file."""
    really = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if str(path).startswith(folders):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)


def test_tmpdir_naming_the_last_folder_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES A1: with TMPDIR=/tmp and /tmp read-only, /var/tmp is still tried."""
    monkeypatch.setenv("TMPDIR", "/tmp")
    refused_below("/tmp", monkeypatch=monkeypatch)
    _, body = spool([LARGE])
    assert spool_file(body).startswith("/var/tmp/")


def test_no_folder_at_all_is_a_failure_for_now(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES A3: nothing was sent, and a later try may find room."""
    refused_below("/", monkeypatch=monkeypatch)
    with pytest.raises(Failure, match="no room to keep the message while it is sent: Read-only file system") as refused:
        spool([LARGE])
    assert refused.value.lead == TRY_AGAIN


@pytest.mark.row("F5")
def test_a_full_disk_is_a_failure_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES A3."""
    monkeypatch.setattr(reading, "_nameless_in", lambda folder: os.open("/dev/full", os.O_RDWR))
    with pytest.raises(Failure, match="No space left on device") as refused:
        spool([LARGE])
    assert refused.value.lead == TRY_AGAIN


@pytest.mark.row("L1")
def test_an_error_of_standard_input_is_none_of_the_disk(folder: Path) -> None:
    """RULES A3: a read that fails in the middle of a large message."""

    def source() -> Iterator[bytes]:
        yield LARGE
        raise Failure("standard input cannot be read: Input/output error", lead=TRY_AGAIN)

    with pytest.raises(Failure, match="standard input cannot be read"):
        reading._spool(source())
