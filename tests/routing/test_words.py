"""Header fields beyond ASCII: what a mail reader decodes out of them is what the caller wrote."""

from __future__ import annotations

import locale
import re
from email.header import decode_header, make_header
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap import addresses
from muawrap.mail import has_long_lines
from muawrap.routing import words

ENCODED = [
    ("Subject: Gr\u00fc\u00dfe aus K\u00f6ln\n", "Subject: =?utf-8?B?R3LDvMOfZQ==?= aus =?utf-8?B?S8O2bG4=?=\n"),
    ("Subject:\u00fc\u00fc\n", "Subject:=?utf-8?B?w7zDvA==?=\n"),
    ("X-Anything : \u00fc  \t\u00fc\n", "X-Anything : =?utf-8?B?w7wgIAnDvA==?=\n"),
    ("Subject: a\n \u00fc\n \u00e4 b\n", "Subject: a\n =?utf-8?B?w7wgw6Q=?= b\n"),
    ("Subject: \udcfc\n", "Subject: =?unknown-8bit?B?/A==?=\n"),
    # between two encoded-words a reader drops the blank, which so becomes part of ours
    ("X: =?utf-8?q?a?= \u00fc =?utf-8?Q?b?= c\n", "X: =?utf-8?q?a?= =?utf-8?B?IMO8IA==?= =?utf-8?Q?b?= c\n"),
    ("From: J\u00f6rg <a@b.example>\n", "From: =?utf-8?B?SsO2cmc=?= <a@b.example>\n"),
    ("From:J\u00f6rg<a@b.example>\n", "From: =?utf-8?B?SsO2cmc=?= <a@b.example>\n"),
    ('To: "M\u00fcller, J." <a@b.example>\n', "To: =?utf-8?B?TcO8bGxlciwgSi4=?= <a@b.example>\n"),
    ('To: Al "B" \u00dc \u00df C <a@b.example>\n', 'To: Al "B" =?utf-8?B?w5wgw58=?= C <a@b.example>\n'),
    ('Cc: "\u00fc \\"x\\" \\\\" <a@b.example>\n', "Cc: =?utf-8?B?w7wgIngiIFw=?= <a@b.example>\n"),
    (
        "To: a@b.example (J\u00f6rg (\u00e4) x\\)\u00fc)\n",
        "To: a@b.example (=?utf-8?B?SsO2cmc=?= (=?utf-8?B?w6Q=?=)\n =?utf-8?B?eCnDvA==?=)\n",
    ),
    (
        "To: Gr\u00fcppe: a@b.example, \u00c4 <c@d.example>;\n",
        "To: =?utf-8?B?R3LDvHBwZQ==?= : a@b.example,\n =?utf-8?B?w4Q=?= <c@d.example>;\n",
    ),
    ("To: al@b\u00fccher.example, x <b@\u00e4.example>\n", "To: al@xn--bcher-kva.example, x <b@xn--4ca.example>\n"),
    ("Resent-To: \u00fc <a@b.example>\n", "Resent-To: =?utf-8?B?w7w=?= <a@b.example>\n"),
]

UNTOUCHED = [
    "Subject: plain  text\n  and =?utf-8?q?more?=\n",
    "To: j\u00f6rg@b.example\n",
    "To: j\u00f6rg@b\u00fccher.example\n",
    "To: a@stra\u00dfe.example\n",
    "To: <@b\u00fccher.example:a@b.example>\n",
    "To: no \u00fc list\n",
    "From: <\udcfc@b.example>\n",
    'Content-Type: text/plain; name="\u00fc"\n',
    'Content-Disposition: attachment; filename="\u00fc"\n',
    "Message-ID: <\u00fc@b.example>\n",
    "References: <\u00fc@b.example>\n",
    "Received: by \u00fc\n",
    "List-Unsubscribe: <https://b.example/\u00fc>\n",
    "Keywords: \u00fc, \u00e4\n",
]


@pytest.mark.parametrize(("field", "expected"), ENCODED)
def test_free_text_names_and_comments_become_words(field: str, expected: str) -> None:
    """F7: and nothing else of the field changes; once is enough."""
    assert words.encoded(field) == expected
    assert words.encoded(expected) == expected


@pytest.mark.parametrize("field", UNTOUCHED)
def test_what_is_ascii_or_structured_keeps_its_octets(field: str) -> None:
    """F3, F7: addresses that need SMTPUTF8 too, and what cannot be read."""
    assert words.encoded(field) == field


TEXT = st.text(st.sampled_from('a\u00fc\u20ac\U0001f4a9 ,.=?_()<>"\\:;@'), max_size=300)
LONG_TEXT = st.lists(st.one_of(TEXT, st.sampled_from([" ", "\n ", "x" * 300, "\u00fc" * 100]))).map("".join)


def decoded(value: str) -> str:
    return str(make_header(decode_header(value.replace("\n", ""))))


@given(LONG_TEXT)
def test_a_reader_decodes_what_was_written(text: str) -> None:
    """F7: with its blanks; encoded-words keep to their lines (RFC 2047, 2)."""
    field = "Subject: " + re.sub(r"\n(?=[ \t]*(\n|\Z))", "", text) + "\n"
    made = words.encoded(field)
    assert made.isascii()
    assert has_long_lines(made.encode()) <= has_long_lines(field.encode())
    for word in re.findall(r"=\?utf-8\?B\?[^ \n]*", made):
        assert len(word) <= words.WORD_LIMIT
    assert decoded(made).split() == field.replace("\n", "").split()
    if "=?" not in field:
        assert re.sub("[ \t]+", " ", decoded(made)) == re.sub("[ \t]+", " ", field.replace("\n", ""))


NAMES = st.text(st.sampled_from('a\u00fc\u20ac ,.()<>"\\:;@'), max_size=80)


@given(st.lists(NAMES, min_size=1, max_size=5), st.booleans())
def test_a_reader_finds_the_same_names_and_addresses(names: list[str], comments: bool) -> None:
    """F7: whatever is quoted; the addresses stay where they are."""
    quoted = [re.sub(r'(["\\()])', r"\\\1", name) for name in names]
    form = "a{0}@b.example ({1})" if comments else '"{1}" <a{0}@b.example>'
    field = "To: " + ", ".join(form.format(number, name) for number, name in enumerate(quoted)) + "\n"
    made = words.encoded(field)
    assert made.isascii()
    found = addresses.parse_list(made[3:])
    assert [one.address for one in found] == [f"a{number}@b.example" for number in range(len(names))]
    if not comments:
        read = [(decoded(name), address) for name, address in getaddresses([made[3:].replace("\n", "")])]
        expected = [(" ".join(name.split()), f"a{number}@b.example") for number, name in enumerate(names)]
        assert [(" ".join(name.split()), address) for name, address in read] == expected


def test_octets_of_another_charset_are_read_as_the_locale_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """F7: and leave as UTF-8; the name of a charset is never made up."""
    monkeypatch.setattr(locale, "nl_langinfo", lambda item: "ISO-8859-15")
    assert words.encoded("Subject: \udca4\n") == "Subject: =?utf-8?B?4oKs?=\n"
    monkeypatch.setattr(locale, "nl_langinfo", lambda item: "EUC-JP")
    assert words.encoded("Subject: \udcff\n") == "Subject: =?unknown-8bit?B?/w==?=\n"


@pytest.mark.parametrize(
    "field",
    [
        "X: " + "\u00fc " * 200_000 + "\n",
        "X: " + "\u00fc a " * 100_000 + "\n",
        "X: " + "\u00fc" * 1_000_000 + "\n",
        "To: " + "\u00fc" * 1_000_000 + " <a@b>\n",
        "To: (" + "\u00fc(" * 100_000 + ")" * 100_001 + " <a@b>\n",
        'To: "' + "\\\u00fc" * 200_000 + '" <a@b>\n',
        "To: " + "\u00fc <a@b>, " * 20_000 + "\n",
        "To: " + "\u00fc:;," * 50_000 + "\n",
    ],
    ids=["words", "every other word", "one word", "one name", "comments", "quotes", "addresses", "groups"],
)
def test_a_giant_field_takes_linear_time(field: str) -> None:
    """F7: up to some hundred thousand of everything."""
    assert words.encoded(field).isascii()
