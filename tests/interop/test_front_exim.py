"""A real Exim in front of hosts that are not always there, told by etc/exim/holding.conf as it is shipped.

INTERMITTENT 6.7: both transports, and ETRN through the lookup.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.exim import PATIENCE
from tests.support.isp import SNIPPET, Isp, isp
from tests.support.need import need
from tests.support.server import Server, closed_port

HOSTS = {"cheshire.example": "cheshire", "shop.cheshire.example": "cheshire", "gryphon.example": "gryphon"}
TRANSPORTS = ("hold_file", "hold_pipe")
TEXT = b"Subject: Gr\xc3\xbc\xc3\x9fe\r\nBcc: b@x.example\r\n\r\n.dot\r\nFrom here\r\n\xff\r\n"


@pytest.fixture
def sink() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def front(sink: Server, request: pytest.FixtureRequest) -> Iterator[Isp]:
    """With the transport that a test asks for, else the first."""
    transport = getattr(request, "param", TRANSPORTS[0])
    url = f"smtp://127.0.0.1:{sink.port}"
    with isp(HOSTS, {"cheshire": url, "gryphon": url}, transport=transport, keys="min_interval = 0\n") as made:
        yield made


def test_the_snippet_is_good_by_itself(tmp_path: Path) -> None:
    """Each part says to which section it belongs, and nothing else is needed for it."""
    conf = tmp_path / "conf"
    conf.write_text(SNIPPET.read_text().replace("Debian-exim", "mail"))
    done = subprocess.run([need("exim4"), "-C", conf, "-bV"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Configuration file is {conf}" in done.stdout


@pytest.mark.parametrize("front", TRANSPORTS, indirect=True)
def test_a_message_for_two_domains_of_a_host_is_one_file_and_shipped_once(front: Isp, sink: Server) -> None:
    """INTERMITTENT 6.7: sender, recipients and bytes as they came; one file a host; one connection for all."""
    cheshire = ["Al@cheshire.example", '"a b"@shop.cheshire.example', "-x@CHESHIRE.example"]
    front.send("Me+x@client.example", [*cheshire, "g@gryphon.example"], TEXT)
    front.logged("Completed")
    assert (len(front.files("cheshire")), len(front.files("gryphon"))) == (1, 1)
    front.send("", cheshire[:1])
    front.logged("Completed", 2)
    assert len(front.files("cheshire")) == 2
    done = front.muawrap("ship", "cheshire")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"sent 2\n", b"")
    [session] = sink.finished()
    first, second = session.accepted
    assert (first.sender, second.sender) == (b"Me+x@client.example", b"")
    assert sorted(recipient.lower() for recipient in first.recipients) == sorted(
        one.lower().encode() for one in cheshire
    )
    assert {recipient.rpartition(b"@")[0] for recipient in first.recipients} == {b"Al", b'"a b"', b"-x"}
    assert first.text.endswith(TEXT)
    assert front.files("cheshire") == []
    assert len(front.files("gryphon")) == 1


def test_what_cannot_be_held_stays_with_exim() -> None:
    """INTERMITTENT 6.3: 75 is "later", Exim's log has our sentence, and the next attempt succeeds."""
    with isp(HOSTS, {"gryphon": "smtp://127.0.0.1:9"}, transport="hold_pipe") as front:
        front.send("me@client.example", ["al@cheshire.example"])
        front.logged('muawrap: not held, try again: there is no host "cheshire"')
        front.logged("== al@cheshire.example .* defer ")
        front.config.write_text(front.config.read_text().replace("[hold.gryphon]", "[hold.cheshire]"))
        deadline = time.monotonic() + PATIENCE
        while "Completed" not in front.log:
            assert time.monotonic() < deadline, front.log
            assert front.run("-qff").returncode == 0  # which passes over a message that is still at hand
        assert len(front.files("cheshire")) == 1
        assert front.mailbox == ""


@pytest.mark.row("H3")
@pytest.mark.parametrize("end", ["missing", "killed"])
def test_a_program_that_is_missing_or_killed_is_no_bounce(end: str) -> None:
    """INTERMITTENT 6.7: Exim keeps the message, frozen."""
    command = {"missing": "/nowhere/muawrap", "killed": "/usr/bin/timeout -s KILL 0.01 sleep 60"}[end]
    changes = {"/usr/local/bin/muawrap hold --bsmtp $host": command}
    with isp(HOSTS, {"cheshire": "smtp://127.0.0.1:9"}, transport="hold_pipe", changes=changes) as front:
        front.send("me@client.example", ["al@cheshire.example"])
        front.logged("Frozen")
        assert (front.waiting(), front.mailbox) == (1, "")


# -- ETRN ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("H7")
def test_four_spellings_at_once_are_one_shipper(front: Isp, sink: Server) -> None:
    """INTERMITTENT 1.2: Exim starts four programs; one connection, and each message once."""
    for number in range(5):
        front.send("me@client.example", [f"{number}@cheshire.example", f"{number}@shop.cheshire.example"])
    front.logged("Completed", 5)
    spellings = [b"cheshire.example", b"@cheshire.example", b"#shop.cheshire.example", b"CHESHIRE.EXAMPLE"]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda name: front.ask(b"ETRN " + name), spellings))
    assert [reply[0][:4] for reply in replies] == [b"250 "] * 4
    assert len(front.logged("ETRN .* received from")) == 4
    front.logged(r" sent ", 5, ours=True)
    [session] = sink.finished()
    recipients = sorted(message.recipients[0] for message in session.accepted)
    assert recipients == [b"%d@cheshire.example" % number for number in range(5)]
    assert front.files("cheshire") == []


def test_names_that_are_not_held_and_words_that_are_no_names_are_refused(front: Isp, sink: Server) -> None:
    """INTERMITTENT 1.2: 459 for both, since no other code can be given; nothing is started."""
    front.send("me@client.example", ["al@cheshire.example"])
    front.logged("Completed")
    commands = [b"x.example", b"@x.example", b"", b"#", b"a b", b"cheshire.example;id", b"$(id)", b"../cheshire"]
    replies = front.ask(*(b"ETRN " + command for command in commands))
    assert [reply[:4] for reply in replies] == [b"459 "] * len(commands), replies
    assert b"<x.example> is not held here" in replies[0]
    assert b"no name of a host" in replies[2]
    assert len(front.files("cheshire")) == 1
    assert sink.sessions == []


@pytest.mark.row("H13")
def test_strangers_may_not_ask(sink: Server) -> None:
    """RFC 1985: whom the mail goes to is not theirs to say anyway."""
    to = {"cheshire": f"smtp://127.0.0.1:{sink.port}"}
    with isp(HOSTS, to, changes={"= 127.0.0.1 : 192.0.2.0/24": "= 192.0.2.0/24"}) as front:
        [reply] = front.ask(b"ETRN cheshire.example")
        assert reply.startswith(b"459 <cheshire.example> is not for you")


SELDOM = 'min_interval = "1h"\n'


def test_what_nobody_sees_stands_in_the_log() -> None:
    """INTERMITTENT 1.2: no environment, no standard output, no status that counts: 250, and the log has the rest."""
    with closed_port() as port, isp(HOSTS, {"cheshire": f"smtp://127.0.0.1:{port}"}, keys=SELDOM) as front:
        front.send("me@client.example", ["al@cheshire.example"])
        front.logged("Completed")
        [reply] = front.ask(b"ETRN @cheshire.example")
        assert reply.startswith(b"250 ")
        [line] = front.logged(".*connection refused.*\n", ours=True)
        assert re.search(r"\bhost=cheshire\b", line), line
        assert len(front.files("cheshire")) == 1
        # Again, before min_interval is over; and for a host that the configuration does not know.
        assert [reply[:4] for reply in front.ask(b"ETRN #cheshire.example", b"ETRN gryphon.example")] == [b"250 "] * 2
        front.logged("not-due host=cheshire next=", ours=True)
        front.logged('failed host=gryphon error="there is no host', ours=True)
        assert "panic" not in front.log
