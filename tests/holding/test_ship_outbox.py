"""`muawrap ship --outbox`: what waits is sent as sendmail would have sent it (INTERMITTENT 6.0, 6.4)."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import clock
from muawrap.holding.shipping import journal
from muawrap.holding.shipping.road import Wishes
from muawrap.holding.shipping.ship import ship
from muawrap.holding.waiting.flush import Leftover
from tests.support.canary import CANARY
from tests.support.certificates import Authority
from tests.support.lmtp_server import LmtpServer
from tests.support.outbox import NOWHERE, TEXT, Outbox
from tests.support.program import Program
from tests.support.server import Action, Channel, Drop, Received, Server, Then, Wait
from tests.support.user import NOBODY

ADMIN = 'admin = "al@client.example"'
DSN = ("PIPELINING", "8BITMIME", "SIZE 10000000", "DSN", "SMTPUTF8")


@pytest.fixture
def outbox(program: Program) -> Outbox:
    return Outbox(program).configure(NOWHERE)


class Sets(Action):
    """Say that the client has come this far."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def perform(self, channel: Channel) -> None:
        self.event.set()


def subjects(server: Server) -> list[bytes]:
    """Of the messages that were taken, in order."""
    return [re.findall(rb"^Subject: (.*)\r$", one.text, re.MULTILINE)[0] for one in server.accepted]


# -- sent ------------------------------------------------------------------------------------------------------------


def test_all_that_waits_goes_over_one_connection_the_smallest_first(outbox: Outbox) -> None:
    """INTERMITTENT 6.4; and a flight each."""
    for name, size in ("large", 3000), ("small", 10), ("middle", 500):
        outbox.put(name, text=b"x" * size + b"\n")
    with Server(extensions=("PIPELINING", "CHUNKING", "8BITMIME")) as server:
        done = outbox.configure(server).ship()
    assert (done.status, done.out, done.err) == (0, b"sent 3\n", b"")
    assert len(server.sessions) == 1
    assert subjects(server) == [b"small", b"middle", b"large"]
    assert outbox.names() == []
    assert [line.split(" held=")[1].split()[0] for line in outbox.events("sent")] == ["small", "middle", "large"]


def test_nothing_to_send_is_no_connection_and_no_word(outbox: Outbox) -> None:
    """INTERMITTENT 6.4: cron may ask every minute."""
    with Server() as server:
        done = outbox.configure(server).ship()
    assert (done.status, done.out, done.err) == (0, b"", b"")
    assert server.sessions == []


CALLS = [
    [],
    ["-f", "al@work.example"],
    ["-f", "<>", "-G"],
    ["-F", "Al Jones"],
    ["-N", "success,failure", "-R", "hdrs", "-V", "a b"],
    ["-U"],
]


@pytest.mark.parametrize("own", [b"", b"From: al@work.example\n"], ids=["", "with From"])
@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_what_was_kept_arrives_as_it_would_have_arrived_then(words: list[str], own: bytes, outbox: Outbox) -> None:
    """A4, INTERMITTENT 6.0: as whom, with what header, and asking for the same; its date and Message-ID are of then."""
    message = own + b"To: you@example.net\nSubject: hello\nX-8: caf\xc3\xa9\n\nHello.\n.\n"
    tables = (
        '[[account]]\nmatch = ["al@work.example"]\nfrom = "al@work.example"\n'
        '[[route]]\nrecipients = ["*@elsewhere.example"]\nfrom = "other@client.example"\n'
    )
    argv = ["-i", *words, "you@example.net", "bob"]
    with Server(extensions=DSN) as server:
        assert outbox.configure(server, tables=tables).program.run(*argv, stdin=message).status == 0
        assert outbox.configure(NOWHERE, tables=tables).run(*argv, stdin=message).status == 0
        [held] = outbox.waiting()
        assert outbox.configure(server, tables=tables).flush(now=True).sent == 1
    then, now = server.accepted
    assert envelope(then) == envelope(now)
    varies = re.compile(rb"^(Date|Message-ID): .*\r\n", re.MULTILINE)
    assert sorted(varies.sub(b"", then.text).split(b"\r\n")) == sorted(varies.sub(b"", now.text).split(b"\r\n"))
    found = dict(re.findall(rb"^(Date|Message-ID): (.*)\r$", now.text, re.MULTILINE))
    assert len(found) == 2 * ("-G" not in words)
    if found:
        assert found[b"Message-ID"].decode() == held.envelope.id


def envelope(received: Received) -> tuple[object, ...]:
    return (
        received.sender,
        re.sub(rb"SIZE=\d+", b"", received.mail_parameters),
        received.recipients,
        received.rcpt_parameters,
    )


def test_the_date_is_that_of_the_day_it_was_written(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5322, 3.6.1."""
    monkeypatch.setattr(clock, "BUILT", 0)
    outbox.put("m1", at=time.time() - 3 * 86_400)
    with Server() as server:
        outbox.configure(server).flush()
    [date] = re.findall(rb"^Date: ..., (\d+) ", server.accepted[0].text, re.MULTILINE)
    assert int(date) == time.localtime(time.time() - 3 * 86_400).tm_mday


def test_aliases_are_those_of_now(outbox: Outbox, tmp_path: Path) -> None:
    """A4: and one that says :blackhole: is the end of it."""
    aliases = tmp_path / "aliases"
    aliases.write_text("bob: bob@new.example\nnobody: :blackhole:\n")
    outbox.put("m1", "bob")
    outbox.put("m2", "nobody")
    with Server() as server:
        tally = outbox.configure(server, tables=f'[redirect]\naliases = ["{aliases}"]\n').flush()
    assert [one.recipients for one in server.accepted] == [[b"bob@new.example"]]
    assert (tally.kept, outbox.names()) == (0, [])
    assert len(outbox.events("discarded")) == 1
    [sent] = outbox.events("sent")
    assert " to=bob " in sent
    assert " as=<me@client.example> final=<bob@new.example> " in sent


def test_tls_and_authentication_are_as_ever(outbox: Outbox, authority: Authority, tmp_path: Path) -> None:
    """INTERMITTENT 6.0: the smart host's own; once for all messages."""
    outbox.put("m1")
    outbox.put("m2")
    ca = tmp_path / "ca.pem"
    authority.ca_file(ca)
    tables = f'[auth]\nuser = "al"\npassword = "{CANARY}"\n[tls]\nca_file = "{ca}"\n'
    context = authority.server_context("127.0.0.1")
    with Server(context=context, implicit_tls=True, users={"al": CANARY}) as server:
        tally = outbox.configure(f"submissions://127.0.0.1:{server.port}", tables=tables).flush()
        [session] = server.finished()
    assert (tally.sent, session.authenticated, session.tls) == (2, "al", True)


# -- limits ----------------------------------------------------------------------------------------------------------


def test_no_more_than_so_many_octets_leave(outbox: Outbox) -> None:
    """INTERMITTENT 6.4: over a line that costs; the message that would be too much is not begun."""
    for number in range(1, 5):
        outbox.put(f"m{number}", text=b"x" * number * 1000 + b"\n")
    with Server() as server:
        done = outbox.configure(server).ship("--max-bytes", "4000")
    assert (done.status, done.out) == (75, b"sent 2 kept 2\n")
    assert subjects(server) == [b"m1", b"m2"]
    assert sum(one.size for one in server.accepted) <= 4000
    assert outbox.names() == ["m3", "m4"]


def test_no_more_than_so_many_messages_leave(outbox: Outbox) -> None:
    """INTERMITTENT 6.4."""
    for number in range(3):
        outbox.put(f"m{number}")
    with Server() as server:
        done = outbox.configure(server).ship("--limit", "2")
    assert (done.status, done.out) == (75, b"sent 2 kept 1\n")


# -- what does not go ------------------------------------------------------------------------------------------------


def test_a_host_that_is_down_leaves_everything_until_the_next_try(outbox: Outbox) -> None:
    """INTERMITTENT 3.2, 6.4: 75, and then nobody is called before that; --now does not wait."""
    outbox.put("m1")
    outbox.put("m2")
    tally = outbox.flush()
    assert (tally.sent, tally.kept) == (0, 2)
    assert tally.failure is not None
    assert tally.next == pytest.approx(time.time() + 900, abs=5)
    with Server() as server:
        outbox.configure(server)
        again = outbox.ship()
        assert (again.status, again.out) == (75, b"")
        assert b"retry time not reached, next at " in again.err
        assert server.sessions == []
        assert outbox.ship("--now").out == b"sent 2\n"
    with outbox.spool() as spool:
        assert spool.record() is None


def test_of_several_recipients_all_get_it_or_none(outbox: Outbox) -> None:
    """B2: one transaction, as with sendmail; put aside for all of them."""
    outbox.put("m1", "you@example.net", "no@example.net")
    with Server({"RCPT no@example.net": "550 5.1.1 no such user"}) as server:
        tally = outbox.configure(server).flush()
    assert (tally.refused, server.accepted) == (1, [])
    [why] = outbox.aside("failed").values()
    assert why["recipients"] == ["you@example.net", "no@example.net"]
    assert "550 5.1.1 no such user" in why["reply"]


def test_what_is_refused_is_put_aside_and_admin_is_told(outbox: Outbox) -> None:
    """INTERMITTENT 6.0: by a short message, in words; exit 69."""
    outbox.put("m1", "no@example.net", id="<1@client.example>")
    outbox.put("m2")
    with Server({"RCPT no@example.net": "550 5.1.1 no such user"}) as server:
        done = outbox.configure(server, top=ADMIN).ship()
    assert (done.status, done.out) == (69, b"sent 2 refused 1\n")
    assert list(outbox.aside("failed")) == ["m1"]
    [_, told] = server.accepted
    assert (told.sender, told.recipients) == (b"", [b"al@client.example"])
    for words in (
        b"To: al@client.example",
        b"Auto-Submitted: auto-generated",
        b"was refused for good",
        b"no@example.net",
        b"Subject     m1",
        b"<1@client.example>",
        b"550 5.1.1 no such user",
        f"{outbox.folder}/failed".encode(),
    ):
        assert words in told.text
    assert len(outbox.events("refused")) == 1


def test_many_that_are_refused_are_one_message_to_admin(outbox: Outbox) -> None:
    """INTERMITTENT 6.0: which is short, whatever they were."""
    for number in range(25):
        outbox.put(f"m{number}", id=f"<{'x' * 500}{number}@x>")
    with Server({"MAIL": "550 no mail from you"}) as server:
        outbox.configure(server, top=ADMIN)
        assert outbox.flush().refused == 26
        assert server.accepted == []  # nor is the message to admin, of which nobody is told
    assert outbox.names() == []
    assert len(outbox.aside("failed")) == 26
    assert len(outbox.events("not-told")) == 1
    assert outbox.flush().done == 0


def test_admin_reads_no_more_than_a_page(outbox: Outbox) -> None:
    """INTERMITTENT 6.0."""
    for number in range(25):
        outbox.put(f"m{number}", "no@example.net")
    with Server({"RCPT no@example.net": "550 no"}) as server:
        outbox.configure(server, top=ADMIN).flush()
    [told] = server.accepted
    assert told.text.count(b"Message-ID  ") == 20
    assert b"And 5 more." in told.text


def test_without_admin_nobody_is_told(outbox: Outbox) -> None:
    """muawrap.toml(5): but the log."""
    outbox.put("m1")
    with Server({"RCPT": "550 no"}) as server:
        outbox.configure(server).flush()
        assert len(server.finished()) == 1
    assert len(outbox.events("refused")) == 1


def test_what_a_host_will_not_take_now_stays_and_the_others_go(outbox: Outbox) -> None:
    """INTERMITTENT 6.4: with its own next try."""
    outbox.put("m1", "later@example.net")
    outbox.put("m2")
    with Server({"RCPT later@example.net": "450 4.2.1 later"}) as server:
        done = outbox.configure(server).ship()
        assert (done.status, subjects(server)) == (75, [b"m2"])
        assert done.out.startswith(b"sent 1 kept 1 next 2")
        assert outbox.ship().status == 75
        assert len(server.finished()) == 1  # it is not due yet
    assert outbox.names() == ["m1"]


@pytest.mark.row("H8")
def test_what_may_have_been_sent_is_parked(outbox: Outbox) -> None:
    """INTERMITTENT 6.0: never sent again by itself."""
    outbox.put("m1")
    with Server([{"dot": Drop()}, {}]) as server:
        assert outbox.configure(server).ship().status == 69
        assert outbox.ship("--now").status == 0
        assert server.accepted == []
    assert [why["outcome"] for why in outbox.aside("failed").values()] == ["parked"]


def test_what_may_have_been_sent_is_sent_again_where_that_is_wished(outbox: Outbox) -> None:
    """INTERMITTENT 6.4: with the same Message-ID, which the caller never gave."""
    outbox.run("you@example.net")
    with Server([{"dot": Drop()}, {}]) as server:
        outbox.configure(server, more='uncertain = "resend"')
        assert outbox.flush().sent == 0
        assert outbox.flush(now=True).sent == 1
        one, other = [re.findall(rb"Message-ID: (.*)\r", message.text) for message in server.messages]
    assert one == other != []


def test_a_run_that_was_killed_after_the_dot_parks_the_message(outbox: Outbox) -> None:
    """INTERMITTENT 6.4: as its journal says; nothing is sent."""
    outbox.put("m1")
    with outbox.spool() as spool:
        [entry] = spool.entries()
        journal.Journal(spool, entry).dot([0])
    with Server() as server:
        assert outbox.configure(server).flush().parked == 1
        assert server.accepted == []
    assert list(outbox.aside("failed")) == ["m1"]


def test_what_has_waited_too_long_has_one_more_try(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.5: then it is archived, and admin is told when that can be."""
    monkeypatch.setattr(clock, "BUILT", 0)
    outbox.put("old", "later@example.net", at=time.time() - 6 * 86_400)
    outbox.put("young", "later@example.net")
    with Server({"RCPT later@example.net": "450 later"}) as server:
        tally = outbox.configure(server, top=ADMIN).flush()
    assert (tally.expired, tally.kept) == (1, 1)
    assert list(outbox.aside("archive")) == ["old"]
    [told] = server.accepted
    assert b"could not be sent for too long" in told.text


@pytest.mark.parametrize("alias", ["bob: |/bin/pager", "bob: :fail: gone"])
def test_what_we_refuse_ourselves_is_not_given_up(alias: str, outbox: Outbox, tmp_path: Path) -> None:
    """INTERMITTENT 6.0: an alias file that is broken now may be mended tomorrow."""
    aliases = tmp_path / "aliases"
    aliases.write_text(alias + "\n")
    outbox.put("m1", "bob")
    outbox.put("m2")
    with Server() as server:
        tally = outbox.configure(server, top=ADMIN, tables=f'[redirect]\naliases = ["{aliases}"]\n').flush()
    assert (tally.sent, tally.kept, tally.refused) == (1, 1, 0)
    assert (subjects(server), outbox.names()) == ([b"m2"], ["m1"])


def test_nobody_sends_as_somebody_else(outbox: Outbox) -> None:
    """muawrap.toml(5): accounts go by who calls, and what a file says of that is no proof."""
    outbox.put("m1", facts=(("login", "somebody"),))
    with Server() as server:
        assert outbox.configure(server).flush().kept == 1
        assert server.sessions == []
    assert "it was kept for the user somebody" in outbox.events("kept")[0]


# -- several lists of smart hosts ------------------------------------------------------------------------------------


def route(server: Server | str) -> str:
    url = server if isinstance(server, str) else f"smtp://127.0.0.1:{server.port}"
    return f'[[route]]\nrecipients = ["*@work.example"]\nsmart_hosts = ["{url}"]\n'


def test_each_list_of_smart_hosts_has_one_connection(outbox: Outbox) -> None:
    """INTERMITTENT 6.4: whichever order its messages come in."""
    for number in range(6):
        outbox.put(f"m{number}", "you@work.example" if number % 2 else "you@example.net", text=b"x" * number + b"\n")
    with Server() as one, Server() as other:
        assert outbox.configure(one, tables=route(other)).flush().sent == 6
        assert [len(server.finished()) for server in (one, other)] == [1, 1]
    assert [len(server.accepted) for server in (one, other)] == [3, 3]


def test_a_list_that_is_down_does_not_stop_the_others(outbox: Outbox) -> None:
    """INTERMITTENT 5, 6.4: nor does it stand in their way for ever, where its message is the smallest."""
    outbox.put("m1", "you@work.example")
    outbox.put("m2", "you@example.net", text=b"x" * 100 + b"\n")
    outbox.put("m3", "you@work.example", text=b"x" * 200 + b"\n")
    with Server() as server:
        done = outbox.configure(server, tables=route(NOWHERE)).ship()
    assert done.status == 75
    assert done.out.startswith(b"sent 1 kept 2 next ")
    assert subjects(server) == [b"m2"]
    assert outbox.names() == ["m1", "m3"]


def test_a_list_that_is_down_does_not_stop_what_comes_for_the_others(outbox: Outbox) -> None:
    """INTERMITTENT 3.2, 6.4, line 7: a host that makes trouble stops no other one, and waits by its own next try."""
    with Server([{}, {}]) as server, Server([{"greeting": "421 later"}, {}]) as other:
        outbox.configure(server, tables=route(other))
        outbox.put("m1", "you@work.example")
        outbox.put("m2", "you@example.net")
        first = outbox.flush()
        assert (first.sent, first.kept) == (1, 1)
        assert first.next == pytest.approx(time.time() + 900, abs=60)
        outbox.put("m3", "you@example.net")
        second = outbox.flush()
        assert (second.sent, second.kept, second.failure) == (1, 1, None)
        assert len(other.finished()) == 1, "it was not due, and called"
        third = outbox.ship()
        assert (third.status, third.out) == (75, b"")
        assert b"retry time not reached, next at " in third.err
        assert outbox.flush(now=True).sent == 1
    assert subjects(server) == [b"m2", b"m3"]
    assert subjects(other) == [b"m1"]


def test_one_success_ends_the_waiting_for_its_list_and_for_no_other(outbox: Outbox) -> None:
    """INTERMITTENT 6.4, line 7: however little the next try of the others would be due."""
    with Server([{"greeting": "421 later"}, {}]) as server:
        outbox.configure(server, tables=route(NOWHERE))
        outbox.put("m1", "you@example.net")
        outbox.put("m2", "you@work.example")
        assert outbox.flush().kept == 2
        outbox.put("m3", "you@example.net", text=b"x" * 1000 + b"\n")
        tally = outbox.flush()
    assert (tally.sent, tally.kept, tally.failure) == (2, 1, None)
    assert subjects(server) == [b"m3", b"m1"]
    assert outbox.names() == ["m2"]


def test_what_waits_too_long_for_a_list_that_is_down_takes_nothing_else_with_it(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.5: its last try is over, and that of what goes elsewhere is still to come."""
    monkeypatch.setattr(clock, "BUILT", 0)
    outbox.put("m1", "later@example.net", at=time.time() - 4.99 * 86_400)
    with Server({"RCPT later@example.net": "450 later"}) as server:
        outbox.configure(server, tables=route(NOWHERE))
        assert outbox.flush().kept == 1
        now = time.time() + 0.1 * 86_400
        monkeypatch.setattr(clock, "now", lambda: now)
        with outbox.spool() as spool:
            noted = spool.note("m1")
            assert noted is not None
            spool.set_note("m1", noted._replace(record=noted.record._replace(last=now - 60, next=now + 60)))
        outbox.put("m2", "you@work.example", at=now - 6 * 86_400)
        tally = outbox.flush()
    assert (tally.expired, tally.kept) == (1, 1)
    assert outbox.names() == ["m1"]


# -- what is said ----------------------------------------------------------------------------------------------------


def test_json_is_one_object(outbox: Outbox) -> None:
    """muawrap(1)."""
    outbox.put("m1")
    with Server() as server:
        done = outbox.configure(server).ship("--json")
    told = json.loads(done.out)
    assert (told["host"], told["sent"], told["kept"], told["status"]) == ("outbox", 1, 0, 0)


def test_a_dry_run_shows_what_would_go_in_its_order(outbox: Outbox) -> None:
    """muawrap(1): and calls nobody."""
    outbox.put("large", text=b"x" * 1000)
    outbox.put("small")
    with Server() as server:
        done = outbox.configure(server).ship("--dry-run")
        assert server.sessions == []
    assert [line.split()[:2] for line in done.out.decode().splitlines()] == [["send", "small"], ["send", "large"]]
    assert len(outbox.names()) == 2


def test_a_dry_run_counts_octets_as_the_run_does(outbox: Outbox, tmp_path: Path) -> None:
    """muawrap(1): what it says is what is done, and to JSON it says an object a message."""
    (tmp_path / "aliases").write_text("nobody: :blackhole:\n")
    outbox.put("m0", "nobody", text=b"")
    for number in range(1, 4):
        outbox.put(f"m{number}", text=b"x" * number * 1000 + b"\n")
    with Server() as server:
        outbox.configure(server, tables=f'[redirect]\naliases = ["{tmp_path}/aliases"]\n')
        planned = outbox.ship("--max-bytes", "2500", "--dry-run")
        objects = outbox.ship("--max-bytes", "2500", "--dry-run", "--json")
        assert server.sessions == []
        done = outbox.ship("--max-bytes", "2500")
    assert [line.split()[:2] for line in planned.out.decode().splitlines()] == [["discard", "m0"], ["send", "m1"]]
    assert [json.loads(line)["host"] for line in objects.out.splitlines()] == ["outbox"] * 2
    assert done.out == b"sent 1 kept 2\n"


@pytest.mark.parametrize("words", [["HOST"], ["--all"], ["--to", "127.0.0.1"], ["--max-bytes", "0"]])
def test_what_does_not_go_with_the_outbox_is_refused(words: list[str], outbox: Outbox) -> None:
    """muawrap(1)."""
    done = outbox.ship(*words)
    assert (done.status, done.out) == (2, b"")
    assert b"Error: " in done.err


# -- what keep_failed has kept ---------------------------------------------------------------------------------------


@pytest.fixture
def failed(outbox: Outbox) -> Path:
    """A folder of keep_failed, with a message that could not be sent and one that was refused."""
    folder = outbox.program.folder / "failed"
    folder.mkdir(0o700)
    keep = f'keep_failed = "{folder}"'
    outbox.configure(NOWHERE, top=keep)
    outbox.program.run("you@example.net", stdin=b"Subject: later\nDate: then\n\nHello.\n")
    with Server({"RCPT": "550 no"}) as server:
        outbox.configure(server, top=keep).program.run("no@example.net", stdin=b"Subject: refused\n\nHello.\n")
    assert len(list(folder.iterdir())) == 2
    return folder


def test_a_folder_of_keep_failed_is_emptied_of_what_may_be_tried_again(outbox: Outbox, failed: Path) -> None:
    """A4, INTERMITTENT 6.4: a file goes when a smart host has its message; what was refused is told of, and stays."""
    with Server() as server:
        done = outbox.configure(server).ship("--from", str(failed))
    assert (done.status, done.out) == (0, b"sent 1\n")
    assert subjects(server) == [b"later"]
    [left] = failed.iterdir()
    assert done.err.decode() == f"muawrap: {left}: left alone: it was refused (sendmail -bS sends it all the same)\n"
    assert b"Subject: refused" in left.read_bytes()


def test_what_lmtp_left_goes_to_nobody_who_has_it(outbox: Outbox, tmp_path: Path) -> None:
    """A4, D2: the copy names its recipient behind a backslash, which is no part of the address in the log."""
    folder, aliases = tmp_path / "failed", tmp_path / "aliases"
    folder.mkdir(0o700)
    aliases.write_text("ann: \\ann, bob@other.example\n")
    top = f'keep_failed = "{folder}"\nlocal_domains = ["client.example"]'
    with LmtpServer([{"dot ann@client.example": "452 4.2.2 full"}, {}], path=tmp_path / "lmtp") as server:
        outbox.configure(f"lmtp+unix://{server.path}", top=top, tables=f'[redirect]\naliases = ["{aliases}"]\n')
        assert outbox.program.run("ann", stdin=TEXT).status == 1
        done = outbox.ship("--from", str(folder))
    assert (done.status, done.out, done.err) == (0, b"sent 1\n", b"")
    assert [one for one, _ in server.deliveries] == [b"bob@other.example", b"ann@client.example"]
    assert " to=ann@client.example " in outbox.events("sent")[-1]


def test_what_some_have_is_put_aside(outbox: Outbox, tmp_path: Path) -> None:
    """A4: a copy goes to all it names; whom LMTP has delivered to must not get it once a day."""
    folder = tmp_path / "failed"
    folder.mkdir(0o700)
    outbox.configure(NOWHERE, top=f'keep_failed = "{folder}"')
    assert outbox.program.run("a@x.example", "b@x.example", stdin=TEXT).status == 1
    [copy] = folder.iterdir()
    with LmtpServer([{"dot b@x.example": "452 4.2.2 full"}, {}], path=tmp_path / "lmtp") as server:
        outbox.configure(f"lmtp+unix://{server.path}")
        done = outbox.ship("--from", str(folder))
        assert done.status == 69
        assert b"/uncertain/" + copy.name.encode() + b": it was sent to some: " in done.err
        assert b"sent to <a@x.example>; not now for <b@x.example>" in done.err
        again = outbox.ship("--now", "--from", str(folder))
    assert (again.status, again.out, again.err) == (0, b"", b"")
    assert [one for one, _ in server.deliveries] == [b"a@x.example"]
    assert [path.name for path in (folder / "uncertain").iterdir()] == [copy.name]


def test_while_the_host_is_down_every_file_stays(outbox: Outbox, failed: Path) -> None:
    """INTERMITTENT 6.4: byte for byte; and the outbox itself has no part in it."""
    before = {path.name: path.read_bytes() for path in failed.iterdir()}
    done = outbox.configure(NOWHERE).ship("--from", str(failed))
    assert done.status == 75
    outbox.put("m1")
    assert {path.name: path.read_bytes() for path in failed.iterdir()} == before
    with outbox.spool() as spool:
        assert spool.record() is None
    assert outbox.names() == ["m1"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (outbox.folder, *outbox.folder.glob("from-*"))} == {0o700}


def test_a_file_whose_message_is_refused_now_stays_and_has_a_try_a_day(outbox: Outbox, failed: Path) -> None:
    """INTERMITTENT 6.4: its owner decides."""
    before = sorted(failed.iterdir())
    with Server({"RCPT": "550 5.1.1 no such user"}) as server:
        outbox.configure(server)
        done = outbox.ship("--from", str(failed))
        assert done.status == 69
        assert b"refused, and left where it is: " in done.err
        assert b"550 5.1.1 no such user" in done.err
        assert outbox.ship("--from", str(failed)).status == 75
        assert len(server.finished()) == 1
    assert sorted(failed.iterdir()) == before


@pytest.mark.parametrize("on_expire", ["discard", "archive", "bounce"])
def test_a_file_stays_whatever_is_given_up_elsewhere(outbox: Outbox, failed: Path, on_expire: str) -> None:
    """INTERMITTENT 6.4: a rule without parameters gives up at the first failure; its owner has not."""
    before = sorted(failed.iterdir())
    with Server({"RCPT": "450 4.2.1 later"}) as server:
        outbox.configure(server, more=f'retry = "* *"\non_expire = "{on_expire}"\n')
        done = outbox.ship("--from", str(failed))
    assert b": expired, and left where it is: " in done.err
    assert sorted(failed.iterdir()) == before


def test_a_file_whose_message_may_have_been_sent_goes_where_keep_failed_puts_such(outbox: Outbox, failed: Path) -> None:
    """A4, INTERMITTENT 6.0: and is not sent again."""
    with Server([{"dot": Drop()}, {}]) as server:
        outbox.configure(server)
        done = outbox.ship("--from", str(failed))
        assert done.status == 69
        assert b"it may have been sent, and is not sent again" in done.err
        assert outbox.ship("--from", str(failed), "--now").status == 0
        assert server.accepted == []
    assert len(list((failed / "uncertain").iterdir())) == 1


def test_what_is_in_uncertain_is_never_touched(outbox: Outbox, failed: Path) -> None:
    """A4."""
    uncertain = failed / "uncertain"
    uncertain.mkdir(0o700)
    [later] = [path for path in failed.iterdir() if path.is_file() and b"Subject: later" in path.read_bytes()]
    later.rename(uncertain / later.name)
    with Server() as server:
        done = outbox.configure(server).ship("--from", str(failed))
        assert (done.status, server.sessions) == (0, [])
    assert [line for line in done.err.splitlines() if b"it was refused" not in line] == []
    assert (uncertain / later.name).exists()


def test_what_is_no_file_of_keep_failed_is_told_of_and_left_alone(outbox: Outbox, failed: Path) -> None:
    """INTERMITTENT 6.4: links, half files, other people's, junk; nothing is sent that somebody slipped in."""
    [later] = [path for path in failed.iterdir() if b"Subject: later" in path.read_bytes()]
    name = later.name[:-16]
    elsewhere = failed.parent / "elsewhere"
    elsewhere.write_bytes(later.read_bytes())
    strange = {
        f".{name}{'0' * 16}": "half written",
        "notes.txt": "keep_failed writes no such file",
        f"{name}{'1' * 16}": "not a regular file",
        f"{name}{'2' * 16}": "it has another name elsewhere",
        f"{name}{'3' * 16}": "belongs to uid",
        f"{name}{'4' * 16}": "has no envelope",
        f"{name}{'5' * 16}": "it does not say what became of the message",
        f"{name}{'6' * 16}": "not a regular file",
    }
    half, junk, link, hard, others, damaged, unnoted, folder = strange
    (failed / half).write_bytes(later.read_bytes())
    (failed / junk).write_text("remember the milk\n")
    (failed / link).symlink_to(elsewhere)
    (failed / hard).hardlink_to(elsewhere)
    (failed / others).write_bytes(later.read_bytes())
    (failed / damaged).write_bytes(b"\0" * 100)
    (failed / unnoted).write_bytes(b"MAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\nDATA\n\nx\n.\n")
    (failed / folder).mkdir()
    if os.getuid() == 0:
        os.chown(failed / others, NOBODY, -1)
    else:
        (failed / others).unlink()
        del strange[others]
    with Server() as server:
        done = outbox.configure(server).ship("--from", str(failed))
    assert (done.status, done.out) == (0, b"sent 1\n")
    told = dict(line.removeprefix(f"muawrap: {failed}/").split(": ", 1) for line in done.err.decode().splitlines())
    assert {name: words for name, words in strange.items() if words not in told.get(name, "")} == {}
    assert set(strange) <= {path.name for path in failed.iterdir()}


def test_what_was_put_aside_is_left_alone_wherever_it_is(outbox: Outbox, failed: Path) -> None:
    """INTERMITTENT 6.0: parked is never sent again; a NAME.why tells it."""
    [later] = [path for path in failed.iterdir() if b"Subject: later" in path.read_bytes()]
    (failed / f"{later.name}.why").write_text('{"outcome": "parked"}\n')
    with Server() as server:
        done = outbox.configure(server).ship("--from", str(failed), "--now")
        assert server.sessions == []
    assert f"{later}: left alone: it was put aside, and is never sent again\n" in done.err.decode()
    assert later.exists()


@pytest.mark.parametrize("folder", ["", "new", "failed", "link"])
def test_the_outbox_is_no_folder_of_keep_failed(folder: str, outbox: Outbox, tmp_path: Path) -> None:
    """INTERMITTENT 6.0, 6.4: what waits there would go twice, and what is parked would go at all."""
    for name in outbox.folder / "new", outbox.folder / "failed":
        name.mkdir(0o700, parents=True)
    outbox.folder.chmod(0o700)
    (tmp_path / "link").symlink_to(outbox.folder / "failed")
    place = tmp_path / "link" if folder == "link" else outbox.folder / folder
    assert outbox.run("you@example.net").status == 0
    [kept] = (outbox.folder / "new").iterdir()
    (outbox.folder / "failed" / kept.name).write_bytes(kept.read_bytes())
    with Server() as server:
        for words in ([], ["--dry-run"]):
            done = outbox.configure(server).ship("--from", str(place), *words)
            assert (done.status, done.out) == (78, b"")
            assert b"is in the outbox itself, and no folder of keep_failed (muawrap ship --outbox sends" in done.err
        assert server.sessions == []


def test_two_outboxes_do_not_send_one_folder_at_once(outbox: Outbox, failed: Path) -> None:
    """INTERMITTENT 6.4: the lock is the folder's, whichever configuration names it; the other one is told to wait."""
    reached, go = threading.Event(), threading.Event()
    with Server({"MAIL": Then(Sets(reached), Wait(go), "250 go on")}) as server:
        settings = outbox.configure(server).config
        other = settings._replace(outbox={**settings.outbox, "folder": str(failed.parent / "other")})
        first, second = (Leftover(one, str(failed), lambda text: None) for one in (settings, other))
        with ThreadPoolExecutor() as pool:
            sending = pool.submit(ship, first.keeper, settings, first.road, Wishes())
            assert reached.wait(30)
            with pytest.raises(Failure, match="another muawrap sends what is in") as caught:
                ship(second.keeper, other, second.road, Wishes())
            go.set()
            assert sending.result().sent == 1
        assert caught.value.lead == TRY_AGAIN
        assert ship(second.keeper, other, second.road, Wishes()).done == 0
        assert len(server.accepted) == 1


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "no such file or directory"),
        (lambda folder: folder.write_text(""), "not a directory"),
        (lambda folder: (folder.mkdir(), folder.chmod(0o777)), "is writable by others"),
    ],
    ids=["missing", "a file", "anybody's"],
)
def test_a_folder_that_cannot_be_one_is_named(prepare: object, words: str, outbox: Outbox, tmp_path: Path) -> None:
    """INTERMITTENT 6.4."""
    assert callable(prepare)
    prepare(tmp_path / "strange")
    done = outbox.ship("--from", str(tmp_path / "strange"))
    assert done.status in (75, 78)
    assert words in done.err.decode()
    assert done.err.count(b"\n") == 1
