"""Text parts encoded anew: what Python's email package reads out of a message is the same before and after."""

from __future__ import annotations

import email
import locale
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap import mail
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.mail import Body
from muawrap.submission import mime
from muawrap.submission.parts import DEPTH_LIMIT, PARTS_LIMIT

LONG = b"x" * 2500 + b"\n"
EIGHT = "gr\xfc\xdfe\n".encode()


def recoded(text: bytes, *, seven_bit: bool = True) -> bytes:
    """A whole message, lines ended by LF, as it leaves; the counts of its body are right."""
    header, _, body = text.partition(b"\n\n")
    header += b"\n"
    made = mime.recoding(header, Body(body), seven_bit=seven_bit)
    blocks = list(made.body.blocks())
    octets = b"".join(blocks)
    assert (made.body.size, made.body.lines) == (len(octets), octets.count(b"\n"))
    assert made.body.eight_bit == (not octets.isascii())
    assert made.body.long_lines == mail.has_long_lines(octets)
    return made.header(header) + b"\n" + octets


def read(text: bytes) -> list[tuple[str, bytes | None]]:
    """Each part: what it is, and what is in it."""
    parts = email.message_from_bytes(text).walk()
    return [
        (part.get_content_type(), None if part.is_multipart() else part.get_payload(decode=True))  # type: ignore[misc]
        for part in parts
    ]


# -- what is written -------------------------------------------------------------------------------------------------

WRITTEN = {
    "no MIME at all": (
        b"Subject: x\n\n" + EIGHT,
        (
            b"Subject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n"
            b"MIME-Version: 1.0\n\ngr=C3=BC=C3=9Fe\n"
        ),
    ),
    "cron": (
        b"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nX: y\n\n"
        + EIGHT,
        (
            b"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
            b"Content-Transfer-Encoding: quoted-printable\nX: y\n\ngr=C3=BC=C3=9Fe\n"
        ),
    ),
    "a charset that is not true": (
        b"mime-version: 1.0\nCONTENT-TYPE: TEXT/HTML;\n\tcharset=us-ascii; x=y\n\n" + EIGHT,
        (
            b"mime-version: 1.0\nContent-Type: TEXT/HTML;\n\tcharset=utf-8; x=y\n"
            b"Content-Transfer-Encoding: quoted-printable\n\ngr=C3=BC=C3=9Fe\n"
        ),
    ),
    "a charset of its own": (
        b"MIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1\n\ngr\xfc\xdfe\n",
        (
            b"MIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1\n"
            b"Content-Transfer-Encoding: quoted-printable\n\ngr=FC=DFe\n"
        ),
    ),
    "HTML may say it itself": (
        b"MIME-Version: 1.0\nContent-Type: text/html\n\n<meta charset=latin1>\xfc\n",
        (
            b"MIME-Version: 1.0\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n"
            b"<meta charset=3Dlatin1>=FC\n"
        ),
    ),
    "a type of before MIME": (
        b"Content-Type: text\n\n" + EIGHT,
        (
            b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n"
            b"MIME-Version: 1.0\n\ngr=C3=BC=C3=9Fe\n"
        ),
    ),
    "a multipart, and one within": (
        b'MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary="(x.+)"\nContent-Transfer-Encoding: 8bit\n\n'
        b"before\n--(x.+)\n\n" + EIGHT + b"--(x.+)\nContent-Type: multipart/alternative; boundary*=us-ascii''y\n\n"
        b"--y\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>\xc3\xbc \n"
        b"--y\nContent-Type: application/x\n\nz\n--y--\n--(x.+)\nContent-Type: text/plain\n\nas it is\n"
        b"--(x.+)--\nafter\n",
        (
            b'MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary="(x.+)"\nContent-Transfer-Encoding: 7bit\n\n'
            b"before\n--(x.+)\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
            b"gr=C3=BC=C3=9Fe\n--(x.+)\nContent-Type: multipart/alternative; boundary*=us-ascii''y\n\n"
            b"--y\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
            b"<p>=C3=BC=20\n--y\nContent-Type: application/x\n\nz\n--y--\n"
            b"--(x.+)\nContent-Type: text/plain\n\nas it is\n--(x.+)--\nafter\n"
        ),
    ),
}


@pytest.mark.row("S12 re-encoding")
@pytest.mark.parametrize("name", WRITTEN)
def test_text_is_encoded_and_says_so(name: str) -> None:
    """F6: fields are replaced where they stand; what has no need keeps its octets; once is enough."""
    given, expected = WRITTEN[name]
    assert recoded(given) == expected
    assert read(expected) == read(given)
    assert recoded(expected) == expected
    assert recoded(given, seven_bit=False) == given, "8-bit text is no trouble to a host that takes it"


def test_a_long_line_is_encoded_for_every_host_and_8_bit_text_with_it() -> None:
    """F6: decided before any connection; a second encoding for another host is not needed."""
    given = b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\n" + EIGHT + b"--x\n\n" + LONG + b"--x--\n"
    made = recoded(given, seven_bit=False)
    assert made == recoded(given)
    assert made.isascii()
    assert made.count(b"quoted-printable") == 2
    assert not mail.has_long_lines(made)
    assert read(made) == read(given)


def in_mixed(part: bytes, kind: bytes = b"mixed") -> bytes:
    return b"MIME-Version: 1.0\nContent-Type: multipart/%b; boundary=out\n\n--out\n%b\n--out--\n" % (kind, part)


UNTOUCHED = {
    "DKIM": b"DKIM-Signature: v=1\n\n",
    "ARC": b"ARC-Message-Signature: i=1\n\n",
    "signed": b"Content-Type: multipart/signed; boundary=x\n\n--x\n\n",
    "encrypted": b"Content-Type: multipart/encrypted; boundary=x\n\n--x\n\n",
    "a message in a message": b"Content-Type: message/rfc822\n\nSubject: y\n\n",
    "no text": b"Content-Type: application/json\n\n",
    "an image": b"Content-Type: image/svg+xml\nContent-Transfer-Encoding: 8bit\n\n",
    "base64": b"Content-Type: text/plain\nContent-Transfer-Encoding: BASE64\n\n",
    "quoted-printable": b"Content-Transfer-Encoding: Quoted-Printable\n\n",
    "an encoding that nobody knows": b"Content-Transfer-Encoding: x-uuencode\n\n",
    "two types": b"Content-Type: text/plain\nContent-Type: text/html\n\n",
    "two encodings": b"Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n\n",
    "a multipart in base64": b"Content-Transfer-Encoding: base64\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\n",
    "a multipart without a boundary": b"Content-Type: multipart/mixed\n\n--x\n\n",
    "a multipart with another boundary": b"Content-Type: multipart/mixed; boundary=y\n\n--x\n\n",
    "a boundary that is too long": b"Content-Type: multipart/mixed; boundary=%b\n\n--%b\n\n" % ((b"y" * 201,) * 2),
    "a part of a digest": in_mixed(b"\nSubject: y\n", b"digest").partition(b"\n--out--")[0] + b"\n",
    "a header that ends early for some": b"Content-Type: multipart/mixed; boundary=x\n\n--x\nX: y\nno field\n\n",
    "a part that begins with a fold": b"Content-Type: multipart/mixed; boundary=x\n\n--x\n Content-Type: text/html\n\n",
    "a name with a blank": b"X : y\nContent-Type: text/plain\n\n",
    "much behind a boundary": b"Content-Type: multipart/mixed; boundary=x\n\n--x" + b" " * 300 + b"\n\n",
    "a number that is none": b"Content-Type: multipart/mixed; boundary*%b=x\n\n--x\n\n" % (b"9" * 5000),
}


@pytest.mark.row("S12 re-encoding")
@pytest.mark.parametrize("name", UNTOUCHED)
@pytest.mark.parametrize("trouble", [LONG, EIGHT], ids=["long", "8-bit"])
def test_what_is_signed_opaque_or_unclear_keeps_every_octet(name: str, trouble: bytes) -> None:
    """F6: the body says that it still has long lines, or eight bits."""
    given = UNTOUCHED[name] + trouble
    for text in given, given.replace(b"\n", b"\nMIME-Version: 1.0\n", 1) if name.startswith("two") else given:
        assert recoded(text) == text
        assert recoded(text, seven_bit=False) == text


@pytest.mark.parametrize("name", sorted(set(UNTOUCHED) - {"DKIM", "ARC", "a name with a blank", "a part of a digest"}))
def test_such_a_part_stays_as_it_is_beside_one_that_is_encoded(name: str) -> None:
    """F6: leaf by leaf, inside multiparts too. A signature inside a part signs nothing outside."""
    part = UNTOUCHED[name] + EIGHT
    if any(name.startswith(beyond) for beyond in ("much behind", "a number")):
        return  # not looked into as a whole
    given = in_mixed(part + b"--out\n\n" + LONG)
    made = recoded(given)
    assert part in made
    assert b"Content-Transfer-Encoding: quoted-printable\n\nxxx" in made
    assert read(made) == read(given)


# -- whatever is there -----------------------------------------------------------------------------------------------

FIELDS = [
    *(b"Content-Type: multipart/mixed; boundary=%b" % name for name in (b"a", b"b", b'"a--"', b'"a b"')),
    b"Content-Type: multipart/alternative;\n\tboundary*0=a; boundary*1=b",
    b"content-type: MULTIPART/MIXED; BOUNDARY*=us-ascii''a",
    b"Content-Type: multipart/digest; boundary=ab",
    b"Content-Type: multipart/signed; boundary=a",
    b"Content-Type: text/plain",
    b"CONTENT-TYPE: TEXT/HTML; charset=us-ascii",
    b"Content-Type: message/rfc822",
    b"Content-Type: application/x",
    *(b"Content-Transfer-Encoding: %b" % name for name in (b"8bit", b"base64", b"QUOTED-PRINTABLE")),
    b"MIME-Version: 1.0",
    b"X: y",
]
BOUNDARIES = [b"--a", b"--b", b"--ab", b"--a--", b"--b--", b"--ab--", b"--a b", b"--a \t", b"--a----", b"--a-- --"]
TEXT = [
    b"",
    b"",
    b"text",
    b"x" * 1200,
    b"a " * 600,
    b"y" * 75 + b"--a",
    b"\xc3\xa9",
    b"\xff",
    b"-" * 80,
    b"From x",
    b".",
]
HEADERS = st.lists(st.sampled_from(FIELDS), max_size=3, unique=True)
LINES = st.lists(st.sampled_from([*BOUNDARIES, *TEXT, *FIELDS, b"garbage", b" folded"]), max_size=25)


@pytest.mark.row("S12 re-encoding")
@given(fields=HEADERS, lines=LINES, seven_bit=st.booleans(), block=st.sampled_from([7, 64, mail.BLOCK]))
@settings(deadline=None, max_examples=400)
def test_a_reader_finds_the_same_parts_with_the_same_content(
    fields: list[bytes], lines: list[bytes], seven_bit: bool, block: int
) -> None:
    """F6: lossless for whatever looks like MIME: boundaries within boundaries, missing ends, wherever blocks meet."""
    text = b"".join(line + b"\n" for line in [b"From: a@b.example", *fields, b"", *lines])
    whole = mail.BLOCK
    mail.BLOCK = block
    try:
        made = recoded(text, seven_bit=seven_bit)
    finally:
        mail.BLOCK = whole
    assert read(made) == read(text)
    if made != text:
        assert recoded(made) == made


@given(part=st.lists(st.sampled_from(TEXT), min_size=1), depth=st.integers(0, DEPTH_LIMIT - 1))
@settings(deadline=None)
def test_a_leaf_is_reached_however_deep_it_stands(part: list[bytes], depth: int) -> None:
    """F6: inside multiparts too; a closing delimiter may be missing."""
    text = b"Content-Type: multipart/mixed; boundary=b0\n\n"
    for number in range(depth):
        text += b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (number, number + 1)
    text += b"--b%d\n\n%b\n" % (depth, b"\n".join(part))
    made = recoded(text)
    assert made.isascii()
    assert not mail.has_long_lines(made)
    assert read(made) == read(text)


# -- bounds ----------------------------------------------------------------------------------------------------------

MIXED = b"Content-Type: multipart/mixed; boundary=a\n"
NESTED = b"".join(b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (n, n + 1) for n in range(1000))
HOSTILE = {
    "100 000 lines that begin like a delimiter": (MIXED, b"--a\n\n" + LONG + b"--a-\n--\n" * 50_000, True),
    "as many parts as may be": (MIXED, b"--a\n\nhi\n" * (PARTS_LIMIT - 2) + LONG, True),
    "10 000 parts": (MIXED, b"--a\n\nhi\n" * 10_000 + LONG, False),
    "100 000 delimiters and no part": (MIXED, b"--a\n" * 100_000 + LONG, False),
    "1000 deep": (b"Content-Type: multipart/mixed; boundary=b0\n", NESTED + b"--b1000\n\n" + LONG, False),
    "a part with an endless header": (MIXED, b"--a\n" + b"X: y\n" * 200_000 + b"\n" + LONG, False),
    "a million parameters": (b"Content-Type: multipart/mixed" + b";a=b" * 1_000_000 + b"\n", b"--a\n\n" + LONG, False),
    "parts with many parameters": (
        MIXED,
        (b"--a\nContent-Type: text/plain" + b";a=b" * 500 + b"\n\n" + LONG) * 100,
        True,
    ),
    "100 000 quotes": (b'Content-Type: text/plain; charset="' + b'"' * 100_000 + b"\n", LONG, False),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_structure_costs_much(name: str) -> None:
    """F6, S12: bounded memory, linear time; beyond anybody's message it is left as it is."""
    header, body, encoded = HOSTILE[name]
    text = Body(body)
    tracemalloc.start()
    begun = time.process_time()
    made = mime.recoding(header, text, seven_bit=True).body
    size = sum(map(len, made.blocks()))
    assert time.process_time() - begun < 10, "what should take a fraction of a second"
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 16 * 1024 * 1024
    assert (made is not text) == encoded
    assert size == made.size


def test_a_large_body_is_encoded_in_little_memory(tmp_path: Path) -> None:
    """L2, F6: 24 MiB from a file, and never more than a few blocks of it."""
    path = tmp_path / "body"
    text = b"--a\n\n" + "gr\xfc\xdfe aus der Ferne\n".encode() * 1_000_000 + LONG + b"--a--\n"
    path.write_bytes(text)
    file = os.open(path, os.O_RDONLY)
    spooled = Body.spooled(file, len(text), text.count(b"\n"), True, True)
    tracemalloc.start()
    made = mime.recoding(MIXED, spooled, seven_bit=False).body
    assert sum(map(len, made.blocks())) == made.size > len(text)
    assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    tracemalloc.stop()
    assert (made.eight_bit, made.long_lines) == (False, False)
    os.close(file)


def test_little_text_leaves_in_one_block() -> None:
    """B6: a block more would be a flight more."""
    text = Body((b"--a\n\n" + EIGHT) * 500 + b"--a--\n")
    assert len(list(mime.recoding(MIXED, text, seven_bit=True).body.blocks())) == 1


def test_a_body_that_cannot_be_read_again_is_one_line(tmp_path: Path) -> None:
    """F5, L8."""
    path = tmp_path / "body"
    path.write_bytes(b"short\n")
    file = os.open(path, os.O_RDONLY)
    with pytest.raises(Failure, match="cannot be read again") as failed:
        mime.recoding(b"Subject: x\n", Body.spooled(file, 3_000_000, 1, True, True), seven_bit=True)
    assert failed.value.lead == TRY_AGAIN
    os.close(file)


# -- what nobody declared --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codeset", "charset"),
    [
        ("UTF-8", "unknown-8bit"),
        ("ANSI_X3.4-1968", "unknown-8bit"),
        ("ISO-8859-15", "iso-8859-15"),
        ("ISO8859-1", "iso-8859-1"),
        ("CP1251", "windows-1251"),
        ("KOI8-R", "koi8-r"),
        ("EUC-JP", "euc-jp"),
        ("nonsense\n", "unknown-8bit"),
    ],
)
def test_octets_that_are_no_utf_8_are_what_the_locale_says(
    codeset: str, charset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F6, F7: by its name in MIME; what nobody knows is unknown-8bit (RFC 1428, 3)."""
    monkeypatch.setattr(locale, "nl_langinfo", lambda item: codeset)
    assert f"Content-Type: text/plain; charset={charset}\n".encode() in recoded(b"Subject: x\n\n\xe4\n")
    assert b"charset=utf-8\n" in recoded(b"Subject: x\n\n" + EIGHT)
