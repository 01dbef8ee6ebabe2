"""Messages as hostile as they come, for whatever writes and reads them; and what a test sees of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from muawrap import addresses
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.reading.message import as_it_is
from tests.support.program import REPOSITORY

SAMPLES = REPOSITORY / "tests" / "data" / "held"
"""What Exim's transports made of input-all.bsmtp, one folder (or file) for each way of delivery."""


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of a folder."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield place
    finally:
        os.close(place)


def seen(held: Held) -> tuple[Envelope, bytes, bytes]:
    """What can be compared: envelope, header and body."""
    return held.envelope, held.header, b"".join(held.body.blocks())


# -- strategies

_LOCAL = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=12).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
_DOMAINS = st.sampled_from(["x.example", "Mixed.Example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "\u00f6.example"])
_PLAIN = ["Bob@x.example", "a/b@x.example", "x=y+tag@x.example", '"a, b"@x.example', '"a>b<c"@x.example']


ADDRESSES = st.sampled_from(_PLAIN) | st.builds(
    lambda local, domain: addresses.parse_one(f"{local}@{domain}").address, _LOCAL, _DOMAINS
)
_NOTIFY = st.sampled_from(["", "NEVER", "SUCCESS,FAILURE", "DELAY"])
_ORIGINAL = st.sampled_from(["", "rfc822;a+2Bb@x.example", "utf-8;\u00e4@x.example", "x400;" + "y" * 400])
_FACT_NAMES = st.from_regex(r"\A[a-z][a-z0-9-]{0,9}\Z").filter(
    lambda name: name not in ("at", "id", "body", "smtputf8", "notify", "ret", "envid")
)
_ANY = st.text(st.characters(), max_size=30) | st.text(st.characters(), min_size=1).map(lambda text: text * 900)
_LINES = st.lists(
    st.sampled_from(
        [
            *(
                b".",
                b"..",
                b".x",
                b"x",
                b"",
                b"From x",
                b"DATA",
                b"\xff\xe4",
                b"\0",
                b"a\r.",
                b"QUIT",
                b" folded",
                b"\t",
            ),
            *(
                b"Subject: x",
                b"Bcc: y",
                b"Return-path: <z@x.example>",
                b"Envelope-to: z@x.example",
                b"NOOP muawrap id=z",
            ),
        ]
    )
)
TEXTS = st.builds(
    lambda lines, end, last: end.join(lines) + (end if last else b""),
    _LINES,
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
)


def held_with(envelopes: st.SearchStrategy[Envelope]) -> st.SearchStrategy[Held]:
    """Messages with such envelopes and any text."""
    return st.builds(lambda envelope, text: Held(envelope, *as_it_is(iter([text]))), envelopes, TEXTS)


FULL = held_with(
    st.builds(
        Envelope,
        sender=st.just("") | ADDRESSES,
        recipients=st.lists(st.builds(Addressee, ADDRESSES, _NOTIFY, _ORIGINAL), min_size=1, max_size=6).map(tuple),
        at=st.integers(0, 4_000_000_000_000_000).map(lambda micro: micro / 1e6),
        id=_ANY,
        body=st.sampled_from(["", "7BIT", "8BITMIME"]),
        utf8=st.booleans(),
        returns=st.sampled_from(["", "FULL", "HDRS"]),
        envelope_id=st.sampled_from(["", "QQ+2B1", "e" * 100]),
        facts=st.lists(st.tuples(_FACT_NAMES, _ANY), max_size=4).map(tuple),
    )
)
"""Messages with all that an envelope may have."""
BARE = held_with(
    st.builds(
        lambda sender, recipients, at: Envelope(sender, tuple(map(Addressee, recipients)), at),
        st.just("") | ADDRESSES,
        st.lists(ADDRESSES, min_size=1, max_size=6),
        st.integers(1, 4_000_000_000).map(float),
    )
)
"""Messages with sender, recipients and the second they were accepted, which every format has room for."""
