"""Admin is told of what an outbox gives up, though no host can be reached then (INTERMITTENT 6.0)."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from muawrap.holding import clock
from muawrap.holding.held import Held
from muawrap.holding.shipping.journal import Journal
from muawrap.holding.store.spool import Spool
from tests.support.outbox import NOWHERE, Outbox
from tests.support.program import Program
from tests.support.server import Drop, Server

ADMIN = 'admin = "al@client.example"'
DAY = 86_400


@pytest.fixture
def outbox(program: Program, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """Nobody listens where its messages would go, and the clock may be a month late."""
    monkeypatch.setattr(clock, "BUILT", time.time() - 30 * DAY)
    return Outbox(program).configure(NOWHERE, top=ADMIN)


def old(outbox: Outbox, *names: str) -> None:
    for name in names:
        outbox.put(name, at=time.time() - 6 * DAY, id=f"<{name}@client.example>")


def notices(outbox: Outbox) -> list[Held]:
    return [held for held in outbox.waiting() if b"mail from your outbox was not sent" in held.header]


def text(held: Held) -> str:
    return b"".join(held.body.blocks()).decode("ascii")


def test_what_expires_while_the_host_is_down_is_told_when_it_is_up(outbox: Outbox) -> None:
    """INTERMITTENT 6.0: archived, and admin is told; once, by the next run that can."""
    old(outbox, "m1", "m2")
    assert outbox.flush().expired == 2
    assert sorted(outbox.aside("archive")) == ["m1", "m2"]
    assert len(notices(outbox)) == 1
    with Server() as server:
        outbox.configure(server, top=ADMIN)
        assert outbox.flush(now=True).sent == 1
        assert outbox.flush(now=True).done == 0
    [told] = server.accepted
    assert (told.sender, told.recipients) == (b"", [b"al@client.example"])
    for words in b"<m1@client.example>", b"<m2@client.example>", b"could not be sent for too long":
        assert told.text.count(words) == words.count(b"<") or words[:1] != b"<"
    assert outbox.names() == []


def test_one_tells_of_a_run_and_of_no_more_than_a_page(outbox: Outbox) -> None:
    """INTERMITTENT 6.0: however many are given up."""
    old(outbox, *(f"m{number}" for number in range(24)))
    assert outbox.flush().expired == 24
    [waiting] = notices(outbox)
    assert text(waiting).count("The message of ") == 20
    assert text(waiting).count("And 4 more.\n") == 1


def test_nobody_is_told_of_its_own_end(outbox: Outbox) -> None:
    """INTERMITTENT 6.0: it is put aside like any other, and that is all."""
    old(outbox, "m1")
    outbox.flush()
    [name] = outbox.names()
    with Server({"RCPT": "550 5.1.1 no such user"}) as server:
        assert outbox.configure(server, top=ADMIN).flush(now=True).refused == 1
    assert (outbox.names(), list(outbox.aside("failed"))) == ([], [name])
    assert len(outbox.events("not-told")) == 1


def test_one_that_may_have_been_sent_is_parked(outbox: Outbox) -> None:
    """INTERMITTENT 6.0: what is given up later is told by another one."""
    old(outbox, "m1")
    outbox.flush()
    with Server([{"dot": Drop()}, {}]) as server:
        assert outbox.configure(server, top=ADMIN).flush(now=True).parked == 1
    outbox.configure(NOWHERE, top=ADMIN)
    old(outbox, "m2")
    outbox.flush(now=True)
    [second] = notices(outbox)
    assert ("<m1@client.example>" in text(second), "<m2@client.example>" in text(second)) == (False, True)


class Crash(BaseException):
    """What nobody catches."""


@pytest.mark.parametrize(("step", "told"), [("told", 2), ("_put_aside", 1), ("_unlink", 1)])
def test_a_crash_costs_no_notice(outbox: Outbox, step: str, told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.4: it is on disk before its message goes, and from then on the journal knows that."""
    old(outbox, "m1")

    def crash(*words: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Journal if step == "told" else Spool, step, crash)
        with pytest.raises(Crash):
            outbox.flush()
    assert len(notices(outbox)) == 1
    assert outbox.flush(now=True).expired == 1
    assert len(notices(outbox)) == told
    assert all("<m1@client.example>" in text(one) for one in notices(outbox))
    assert list(outbox.aside("archive")) == ["m1"]


def test_an_archive_that_cannot_be_written_makes_one_notice(outbox: Outbox) -> None:
    """INTERMITTENT 6.4: however often the message is given up."""
    old(outbox, "m1")
    (outbox.folder / "archive").write_text("in the way")
    for _ in range(3):
        outbox.flush(now=True)
    [waiting] = notices(outbox)
    assert text(waiting).count("<m1@client.example>") == 1
    assert "m1" in outbox.names()


def test_it_is_listed_as_what_waits(outbox: Outbox) -> None:
    """INTERMITTENT 6.6."""
    old(outbox, "m1")
    outbox.flush()
    done = subprocess.run(
        outbox.argv("held", "--outbox", "--json"), capture_output=True, env=outbox.environment, check=True, timeout=60
    )
    assert b'"sender": "", "recipients": ["al@client.example"]' in done.stdout


def test_without_admin_there_is_none(outbox: Outbox, tmp_path: Path) -> None:
    """muawrap.toml(5)."""
    old(outbox.configure(NOWHERE), "m1")
    assert outbox.flush().expired == 1
    assert outbox.names() == []
