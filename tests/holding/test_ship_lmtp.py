"""What is held goes to its host by LMTP: each recipient has a verdict of its own (RFC 2033, 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muawrap.holding.shipping import journal
from muawrap.holding.store.spool import Spool
from tests.support.lmtp_server import LmtpServer
from tests.support.server import Drop
from tests.support.shipping import Host

A, B, C = "a@x.example", "b@x.example", "c@x.example"
NO, LATER = "550 5.1.1 no", "452 4.2.2 full"


def made(folder: Path, server: LmtpServer, more: str = "") -> Host:
    url = f'[{{ url = "lmtp://127.0.0.1:{server.port}", tls = {{ policy = "none" }} }}]'
    return Host(folder, url, 'on_refuse = "archive"\n' + more)


@pytest.mark.parametrize(
    ("script", "waiting", "refused", "parked"),
    [
        ({}, (), (), ()),
        ({f"dot {B}": LATER}, (B,), (), ()),
        ({f"dot {B}": NO}, (), (B,), ()),
        ({f"dot {A}": LATER, f"dot {B}": NO}, (A,), (B,), ()),
        ({f"dot {B}": NO, f"dot {C}": Drop()}, (), (B,), (C,)),
        ({f"dot {A}": LATER, f"dot {C}": Drop()}, (A,), (), (C,)),
        ({f"RCPT {A}": LATER, f"dot {C}": Drop()}, (A,), (), (C,)),
        ({"dot": LATER, f"dot {B}": NO}, (A, C), (B,), ()),
        ({"dot": LATER, f"dot {B}": Drop()}, (A,), (), (B, C)),
        ({f"dot {A}": NO, f"dot {B}": Drop()}, (), (A,), (B, C)),
    ],
)
def test_each_recipient_waits_is_refused_or_parked_by_its_own_verdict(
    tmp_path: Path, script: dict[str, Any], waiting: tuple[str, ...], refused: tuple[str, ...], parked: tuple[str, ...]
) -> None:
    """INTERMITTENT 6.4: nobody gets it twice, and exactly those are parked of whom nobody knows."""
    with LmtpServer(script) as server:
        host = made(tmp_path, server)
        host.put("one", A, B, C)
        host.ship()
        server.finished()
        had = [recipient.decode() for recipient, _ in server.deliveries]
    assert host.waiting() == ({"one": waiting} if waiting else {})
    assert host.journals() == []

    def told(event: str) -> list[str]:
        return [line.split(" to=")[1].split(" ")[0] for line in host.events(event)]

    assert told("refused") == ([",".join(refused)] if refused else [])
    assert told("parked") == ([",".join(parked)] if parked else [])
    with LmtpServer() as server:
        host.to = f'[{{ url = "lmtp://127.0.0.1:{server.port}", tls = {{ policy = "none" }} }}]'
        host.configure('on_refuse = "archive"\n')
        host.ship(now=True)
        server.finished()
        again = [recipient.decode() for recipient, _ in server.deliveries]
    assert sorted(again) == sorted(waiting)
    assert not set(again) & (set(had) - set(parked))


def test_who_is_unknown_is_sent_to_once_more_where_the_owner_wishes_it(tmp_path: Path) -> None:
    """uncertain = "resend": but not who has it."""
    with LmtpServer({f"dot {B}": Drop()}) as server:
        host = made(tmp_path, server, 'uncertain = "resend"\n')
        host.put("one", A, B, C)
        host.ship()
    assert host.waiting() == {"one": (B, C)}


def test_a_journal_of_different_verdicts_is_good_after_a_crash_at_any_line(tmp_path: Path) -> None:
    """INTERMITTENT 6.4: each line only narrows what is uncertain."""
    with LmtpServer() as server:
        host = made(tmp_path, server)
        host.put("one", A, B, C)
    with Spool(host.keeper) as spool:
        entry = host.entry("one")
        kept = journal.Journal(spool, entry)
        kept.dot({0, 1, 2})
        kept.parted({0}, {1})
        assert kept.dotted == {2}
        text = spool.journal("one")
        seen = []
        for end in range(1, text.count(b"\n") + 1):
            spool.journal_remove("one")
            spool.journal_append("one", b"".join(text.splitlines(keepends=True)[:end]))
            seen.append(journal.progress(spool, entry))
    sets = [(sorted(one.done), sorted(one.uncertain)) for one in seen]
    assert sets == [([], []), ([], [0, 1, 2]), ([0], [1, 2]), ([0], [2])]
