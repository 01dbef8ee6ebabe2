"""A real Exim in front of `muawrap hold`, by pipe, by LMTP and by file: one copy each, and no bounce when it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from muawrap.holding.held import Held
from muawrap.holding.store.spool import Spool
from tests.support import exim_front as front
from tests.support.exim_front import Front, exim_front
from tests.support.spool import keeper

HOSTS = {"a.example": "cheshire", "b.example": "cheshire"}
RECIPIENTS = ["Bob@a.example", '"two words"@a.example', "carol@b.example"]
TEXT = b"Subject: hello\nReturn-Path: <forged@x>\nBcc: secret@x\n\nFrom here\n.\n..\nraw \xe4\nBye.\n"

TRANSPORTS = {
    "file": front.FILE,
    "maildir": front.MAILDIR,
    "mailstore": front.MAILSTORE,
    "batch pipe": front.PIPE,
    "plain pipe": front.PLAIN_PIPE,
    "lmtp": front.LMTP,
}
PIPES = {name: transport for name, transport in TRANSPORTS.items() if "muawrap" in transport}


def holding(exim: Front) -> list[Held]:
    """All that is held, whichever way it came."""
    with Spool(keeper(exim.spool), make=False) as spool:
        return [spool.read(entry) for entry in spool.entries()]


@pytest.fixture(params=TRANSPORTS)
def either(request: pytest.FixtureRequest) -> Iterator[Front]:
    with exim_front(TRANSPORTS[request.param], HOSTS) as exim:
        yield exim


def test_a_message_is_held_with_its_envelope(either: Front) -> None:
    """INTERMITTENT 6.7: two domains of one host are one message; text and envelope are as Exim had them."""
    either.submit("Me@client.example", RECIPIENTS, TEXT)
    either.submit("", RECIPIENTS[:1], TEXT)
    bounce, one = sorted(holding(either), key=lambda held: held.envelope.sender)
    assert bounce.envelope.sender == ""
    assert one.envelope.sender == "Me@client.example"
    assert sorted(each.address for each in one.envelope.recipients) == sorted(RECIPIENTS)
    fields = [line.partition(b":")[0].lower() for line in one.header.splitlines() if line[:1] not in b" \t"]
    assert fields[0] == b"received"  # what the transport put above it is gone, and nothing else
    assert b"bcc" in fields
    assert b"".join(one.body.blocks()).rstrip(b"\n") == TEXT.partition(b"\n\n")[2].rstrip(b"\n")
    assert (either.waiting(), "**" in either.log) == (0, False)


def test_what_exim_accepts_is_held(either: Front) -> None:
    """RFC 5321, 4.1.2: addresses as Exim takes them, though no dot-atom or domain, and writes them or says them."""
    for sender in ("x.@carrier.example", "a..b@carrier.example", ".x@carrier.example", "a@foo-.example"):
        either.submit(sender, ["x.@a.example", ".y@b.example", '"p, q"@a.example'], TEXT)
    assert (either.waiting(), "**" in either.log) == (0, False)
    held = [one.envelope for one in holding(either)]
    assert sorted(one.sender for one in held) == [
        '".x"@carrier.example',
        '"a..b"@carrier.example',
        '"x."@carrier.example',
        "a@foo-.example",
    ]
    for one in held:
        assert sorted(each.address for each in one.recipients) == [
            '".y"@b.example',
            '"p, q"@a.example',
            '"x."@a.example',
        ]


def test_by_exim_s_own_name_it_is_held_once() -> None:
    """INTERMITTENT 6.3: MESSAGE_ID stands in the environment of a pipe; the same message again is not held again."""
    with exim_front(front.PIPE, HOSTS) as exim:
        (exim.folder / "exit").write_text("75")
        wrapped = exim.folder / "muawrap"
        wrapped.rename(exim.folder / "real")
        wrapped.write_text(f'#!/bin/sh\n{exim.folder}/real "$@"\nexit $(cat {exim.folder}/exit)\n')
        wrapped.chmod(0o755)
        exim.submit("me@client.example", RECIPIENTS, TEXT)
        assert (exim.waiting(), len(exim.files("cheshire"))) == (1, 1)  # held, and Exim has not heard of it
        (exim.folder / "exit").write_text("0")
        exim.run("-qff")
        assert (exim.waiting(), len(exim.files("cheshire"))) == (0, 1)
        assert " again=1" in exim.muawrap_log


@pytest.mark.row("H3")
@pytest.mark.parametrize("name", PIPES)
def test_trouble_is_deferred_and_held_later(name: str) -> None:
    """INTERMITTENT 6.3: 75 is `==` in Exim's log, never a bounce; also where hold has not read what Exim writes."""
    with exim_front(PIPES[name], HOSTS) as exim:
        exim.spool.chmod(0)
        os.chown(exim.spool, os.geteuid(), os.getegid())
        exim.submit("me@client.example", RECIPIENTS, TEXT + b"y\n" * 500_000)
        assert (exim.waiting(), holding_nothing(exim.spool)) == (1, True)
        assert "**" not in exim.log
        assert " == Bob@a.example" in exim.log
        assert "cannot be" in exim.muawrap_log
        exim.spool.chmod(0o700)
        os.chown(exim.spool, exim.uid, exim.uid)
        exim.run("-qff")
        assert (exim.waiting(), len(exim.files("cheshire"))) == (0, 1)


def holding_nothing(spool: Path) -> bool:
    return list(spool.iterdir()) == []
