"""`muawrap hold`: 0 is a promise, everything else is 75 and leaves nothing (INTERMITTENT 6.3)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from muawrap import config
from muawrap.failure import Failure
from muawrap.holding import hold, settings
from muawrap.holding.asking import servers
from muawrap.holding.asking.servers import Wishes
from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.settings import Keeper
from muawrap.holding.store.spool import Spool
from muawrap.mail import Body
from muawrap.reading.message import as_it_is
from tests.support.spool import AT, Machine, held, keeper

TEXT = b"Subject: hello\n\nHello.\n.\n..x\nFrom here\n"
CALL = ("cheshire", "-f", "me@client.example", "--", "you@example.net")
FIELDS = b"Return-path: <x@y>\nEnvelope-to: a@b,\n c@d\nDelivery-date: Sat, 21 Nov 2026 10:00:00 +0000\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Keeper:
    return keeper(tmp_path)


def holding(machine: Machine) -> list[Held]:
    """What is held, read by our own reader."""
    found = []
    for path in machine.files():
        with path.open("rb") as file:
            [one] = batchsmtp.transactions(iter([file.read()]))
            found.append(one)
    return found


def text_of(one: Held) -> bytes:
    return one.header + b"\n" + b"".join(one.body.blocks())


# -- a message


def test_a_message_is_held_and_not_a_word_is_said(machine: Machine) -> None:
    """INTERMITTENT 6.3: exit 0, a file in new/, one line in the log."""
    done = machine.run("hold", *CALL, '"two words"@Example.NET', stdin=TEXT)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    [one] = holding(machine)
    assert one.envelope.sender == "me@client.example"
    assert [each.address for each in one.envelope.recipients] == ["you@example.net", '"two words"@Example.NET']
    assert text_of(one) == TEXT
    assert machine.files("tmp") == []
    [line] = machine.logged()
    assert ' held from=<me@client.example> to="you@example.net,' in line
    assert f"host=cheshire name={machine.files()[0].name} size=" in line


def test_a_host_goes_by_its_domains_too(machine: Machine) -> None:
    """INTERMITTENT 6.0: [hold.NAME] or one of its `domains`."""
    assert machine.run("hold", "Wonderland.example", *CALL[1:], stdin=TEXT).returncode == 0
    assert len(machine.files()) == 1


def test_the_name_of_a_host_comes_before_the_domains_of_all(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: the mail of one customer is in no other's folder; the configuration refuses this, too."""
    (tmp_path / "muawrap.toml").write_text(
        'smart_hosts = ["smtp://a"]\n[hold.alice]\nto = "smtp://a"\ndomains = ["x.example"]\n'
        '[hold.bob]\nto = "smtp://b"\n'
    )
    loaded = config.load(str(tmp_path / "muawrap.toml"), {})
    alice = loaded.holds["alice"]
    mixed = loaded._replace(holds={**loaded.holds, "alice": alice._replace(keys={"domains": ("bob", "x.example")})})
    for name, found, to in (("bob", "bob", "b"), ("@bob", "bob", "b"), ("X.example.", "alice", "a")):
        assert settings.keeper(mixed, name).name == found
        assert servers.server(mixed, Wishes(name.lstrip("@"))).hosts[0].host == to


def test_a_domain_that_two_tables_have_stands_for_neither(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: as two providers of ours have it; each goes by its own name."""
    (tmp_path / "muawrap.toml").write_text(
        'smart_hosts = ["smtp://a"]\n[hold.isp]\nto = "smtp://a"\ndomains = ["x.example"]\n'
        '[hold.other]\nto = "smtp://b"\ndomains = ["X.example"]\n'
    )
    loaded = config.load(str(tmp_path / "muawrap.toml"), {})
    assert settings.keeper(loaded, "other").name == "other"
    assert servers.server(loaded, Wishes("isp")).hosts[0].host == "a"
    for asked in (lambda: settings.keeper(loaded, "@x.example"), lambda: servers.server(loaded, Wishes("x.example"))):
        with pytest.raises(
            Failure, match=r"x\.example is a domain of \[hold\.isp\] and of \[hold\.other\] in "
        ) as found:
            asked()
        assert found.value.advice == "name one: isp, other"


@pytest.mark.parametrize("sender", ["", "<>", "MAILER-DAEMON"])
def test_the_null_sender_in_every_spelling(host: Keeper, sender: str) -> None:
    """INTERMITTENT 6.8: Postfix's pipe(8) says MAILER-DAEMON where null_sender= is not set."""
    with Spool(host) as spool:
        assert hold.one(spool, sender, ["<you@example.net>"], "", iter([TEXT])).envelope.sender == ""
        [entry] = spool.entries()
        assert spool.envelope(entry).sender == ""


def test_the_sender_of_an_exim_pipe_is_taken_from_its_environment(machine: Machine) -> None:
    """INTERMITTENT 6.3: $sender_address is tainted there; without MESSAGE_ID it is somebody else's variable."""
    call = ("cheshire", "you@example.net")
    assert machine.run("hold", *call, stdin=TEXT, env={"SENDER": "a@b"}).returncode == 75
    assert machine.run("hold", *call, stdin=TEXT, env={"SENDER": "a@b", "MESSAGE_ID": "1"}).returncode == 0
    assert machine.run("hold", *call, stdin=TEXT, env={"SENDER": "", "MESSAGE_ID": "1"}).returncode == 0
    assert sorted(one.envelope.sender for one in holding(machine)) == ["", "a@b"]


# -- the text


@pytest.mark.parametrize(
    ("above", "left"),
    [
        (b"", b""),
        (FIELDS, b""),
        (b"From me@x Sat Nov 21 10:00:00 2026\n", b""),
        (b"From MAILER-DAEMON Sat Nov 21 10:00:00 2026\n" + FIELDS, b""),
        (FIELDS + FIELDS, FIELDS),  # the second time they are the message's own
        (b"Received: x\n" + FIELDS, b"Received: x\n" + FIELDS),
        (b"From: a@b\n", b"From: a@b\n"),
        (b"From : a@b\n", b"From : a@b\n"),
        (b"Bcc: secret@x\n", b"Bcc: secret@x\n"),
    ],
)
def test_what_the_transport_put_above_goes_and_nothing_else(above: bytes, left: bytes) -> None:
    """INTERMITTENT 6.3: Return-path, Envelope-to, Delivery-date of its own kind; Bcc stays."""
    header, body = as_it_is(iter([above + TEXT]))
    done = hold.completed(Held(Envelope("a@b", (Addressee("c@d"),)), header, body))
    assert text_of(done) == left + TEXT


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        b"Subject: \xe4\xff\n\nraw \x80\xff and NUL \0 too\n",
        b"Subject: x\n\n" + b"y" * 100_000 + b"\n",
        b"Subject: no body\n\n",
        b"\nno header\n",
        b"Subject: x\n\n" + b"z\n" * 1_000_000,
    ],
)
def test_no_octet_of_the_text_is_touched(host: Keeper, text: bytes) -> None:
    """INTERMITTENT 6.3: 8-bit, NUL, long lines, large bodies."""
    with Spool(host) as spool:
        hold.one(spool, "a@b", ["c@d"], "", iter([text[:7], text[7:]]))
        [entry] = spool.entries()
        assert text_of(spool.read(entry)) == text


def test_an_address_beyond_ascii_asks_for_smtputf8(host: Keeper) -> None:
    """RFC 6531: no transport says so, and the host must be asked for it."""
    with Spool(host) as spool:
        assert hold.one(spool, "a@b", ["\u00e4@d"], "", iter([TEXT])).envelope.utf8
        assert not hold.one(spool, "a@b", ["c@d"], "", iter([TEXT])).envelope.utf8


# -- once


@pytest.mark.row("H4")
@pytest.mark.parametrize("named", [("--id", "4Xyz"), ("MESSAGE_ID", "4Xyz")])
def test_what_has_a_name_is_held_once(machine: Machine, named: tuple[str, str]) -> None:
    """INTERMITTENT 6.3: an MTA that missed our exit status asks again."""
    words = named if named[0] == "--id" else ()
    env = dict([named]) if named[0] == "MESSAGE_ID" else {}
    for date in (b"10", b"11"):
        text = FIELDS.replace(b"10:00", date + b":00") + TEXT  # of the second try
        assert machine.run("hold", *words, *CALL, stdin=text, env=env).returncode == 0
    [one] = holding(machine)
    assert one.envelope.id == "4Xyz"
    assert "again=1" in machine.logged()[1]


def test_what_differs_in_anything_is_another_message(host: Keeper) -> None:
    """INTERMITTENT 6.3: host, id, sender, recipients and body make the name; the order of recipients does not."""
    with Spool(host) as spool:
        for sender, to, identity, text in (
            ("a@b", ["c@d", "e@f"], "1", TEXT),
            ("x@b", ["c@d", "e@f"], "1", TEXT),
            ("a@b", ["c@d"], "1", TEXT),
            ("a@b", ["c@d", "e@f"], "2", TEXT),
            ("a@b", ["c@d", "e@f"], "1", TEXT + b"x\n"),
        ):
            assert hold.one(spool, sender, to, identity, iter([text])).new == 1
        assert hold.one(spool, "a@b", ["e@f", "c@d"], "1", iter([TEXT])).new == 0
        assert spool.total("new")[0] == 5


def test_what_is_done_is_not_held_again(host: Keeper) -> None:
    """INTERMITTENT 6.3: in the last seven days."""
    with Spool(host) as spool:
        hold.one(spool, "a@b", ["c@d"], "1", iter([TEXT]))
        [entry] = spool.entries()
        spool.remove(entry)
        assert hold.one(spool, "a@b", ["c@d"], "1", iter([TEXT])).new == 0
        assert list(spool.entries()) == []


def test_what_was_sent_while_it_came_once_more_is_not_held_again(host: Keeper) -> None:
    """INTERMITTENT 6.3: an MTA that lost sight of one of us has another hold the batch, and it is sent meanwhile."""
    sent: list[str] = []

    def transaction(number: int) -> bytes:
        return b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nSubject: %d\n\n.\n" % number

    def slowly() -> Iterator[bytes]:
        yield transaction(1)
        yield b"RSET\n"  # the first is being written
        with Spool(host) as other:
            assert hold.batch(other, "1", iter([transaction(1), transaction(2)])).new == 2
            for entry in list(other.entries()):
                sent.append(entry.name)
                other.remove(entry)
        yield transaction(2)

    with Spool(host) as spool:
        assert hold.batch(spool, "1", slowly())[:2] == (2, 0)
        assert len(sent) == 2
        assert spool.total("new", "tmp")[0] == 0


@pytest.mark.row("H4")
def test_two_identical_alarms_are_two_messages(machine: Machine) -> None:
    """INTERMITTENT 6.0: without a name nothing is taken for a repetition."""
    for _ in range(2):
        assert machine.run("hold", *CALL, stdin=TEXT).returncode == 0
    assert len(machine.files()) == 2


def test_the_same_message_at_the_same_time_is_held_once(machine: Machine) -> None:
    """INTERMITTENT 6.3: two queue runners of one MTA."""
    argv = machine.argv("hold", "--id", "1", *CALL)
    running = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=machine.environment())
        for _ in range(4)
    ]
    for one in running:
        assert one.stdin is not None
        one.stdin.write(TEXT)
        one.stdin.flush()
    assert [one.communicate()[1] for one in running] == [b""] * 4
    assert [one.returncode for one in running] == [0] * 4
    assert len(machine.files()) == 1


# -- a batch

BATCH = (
    b"HELO mx\nMAIL FROM:<Me@client.example>\nRCPT TO:<You@example.net>\nDATA\n"
    + FIELDS
    + b"Subject: 1\n\n..\none\n.\n"
    b"NOOP muawrap at=2026-11-20T10:00:00Z id=old orcpt.1=rfc822;x@y\n"
    b"mail from: <>\nrcpt to: <a@b>\nrcpt to: <c@d>\ndata\nSubject: 2\n\ntwo\n.\nQUIT\nwhatever\n"
)


@pytest.mark.parametrize("octets", [BATCH, BATCH.replace(b"\n", b"\r\n")])
def test_a_batch_is_held_with_its_own_envelopes(machine: Machine, octets: bytes) -> None:
    """INTERMITTENT 2.1, 2.2: several transactions, LF or CRLF, with or without notes."""
    done = machine.run("hold", "--bsmtp", "cheshire", stdin=octets)
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = sorted(holding(machine), key=lambda one: one.header)
    assert (first.envelope.sender, first.envelope.recipients[0].address) == ("Me@client.example", "You@example.net")
    assert text_of(first) == b"Subject: 1\n\n.\none\n"
    assert (second.envelope.id, second.envelope.recipients[0].original) == ("old", "rfc822;x@y")
    assert text_of(second) == b"Subject: 2\n\ntwo\n"
    assert "messages=2" in machine.logged()[0]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"QUIT\n",
        BATCH[:-20],  # the end of the last message is missing
        BATCH.replace(b"mail from", b"mial from"),
        BATCH.replace(b"<a@b>", b"<a@b> SIZE=1"),
        BATCH.replace(b"<a@b>", b"<a b>"),
        BATCH.replace(b"<a@b>", b"<a\0@b>"),
        BATCH.replace(b"RCPT TO:<You@example.net>\n", b""),
    ],
)
def test_a_batch_with_a_mistake_leaves_nothing(machine: Machine, octets: bytes) -> None:
    """INTERMITTENT 6.3: all or nothing, 75."""
    done = machine.run("hold", "--bsmtp", "cheshire", stdin=octets)
    assert (done.returncode, done.stdout) == (75, b"")
    assert_one_line(done.stderr)
    assert machine.files() == machine.files("tmp") == []


def test_a_batch_that_comes_again_is_held_once(machine: Machine) -> None:
    """INTERMITTENT 6.3: each of its messages goes by the MTA's name for all, and its place."""
    same = b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nSubject: x\n\nsame\n.\n" * 2
    for _ in range(2):
        assert machine.run("hold", "--bsmtp", "--id", "1", "cheshire", stdin=same).returncode == 0
    assert len(machine.files()) == 2


# -- 75, and what it says


def assert_one_line(octets: bytes, words: str = "") -> None:
    """One printable line that says so (RULES A3)."""
    line = octets.decode("ascii")
    assert line.startswith("muawrap: not held, try again: ")
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert words in line


@pytest.mark.row("H3")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Missing argument 'HOST'"),
        (("--what", *CALL), "No such option"),
        (("nowhere", *CALL[1:]), 'there is no host "nowhere" to hold mail for'),
        (("cheshir", *CALL[1:]), "(did you mean cheshire?)"),
        (("cheshire", "you@example.net"), 'no sender (-f names it, and -f "" is the null sender)'),
        (CALL[:3], "no recipient is named behind the host"),
        (("cheshire", "-f", "a@b", "--", "no address"), "cannot read the address"),
        (("cheshire", "-f", "a@b\nX: y", "--", "c@d"), "a control character in"),
        (("cheshire", "-f", "a@b", "--", "c\r@d"), "a control character in"),
        (("--bsmtp", *CALL), "with --bsmtp sender and recipients come from standard input"),
        (("--lmtp", "cheshire", "c@d"), "with --lmtp sender and recipients come from standard input"),
        (("--lmtp", "--bsmtp", "cheshire"), "exclude each other"),
        (("--lmtp", "--id", "1", "cheshire"), "--lmtp and --id exclude each other: a message has no id over LMTP"),
        (("-C", "/nonexistent", *CALL), "there is no configuration file /nonexistent"),
    ],
)
def test_whatever_is_wrong_with_a_call_is_75_and_a_line(machine: Machine, words: tuple[str, ...], said: str) -> None:
    """INTERMITTENT 6.3: an MTA bounces the message over any other status."""
    done = machine.run("hold", *words, stdin=TEXT)
    assert done.returncode == 75
    assert done.stdout[:4] == (b"421 " if "--lmtp" in words else b"")  # a client of LMTP hears it as the greeting
    assert_one_line(done.stderr, said)
    assert machine.files() == []


@pytest.mark.parametrize("sender", ["x.@carrier.example", "a..b@carrier.example", ".x@carrier.example"])
def test_a_local_part_that_needs_quotes_gets_them(machine: Machine, sender: str) -> None:
    """RFC 5321, 4.1.2: it is the same mailbox; Exim gives it to us as it came."""
    assert machine.run("hold", "cheshire", "-f", sender, "--", sender, stdin=TEXT).returncode == 0
    [one] = holding(machine)
    local, _, domain = sender.partition("@")
    assert (one.envelope.sender, one.envelope.recipients[0].address) == (f'"{local}"@{domain}',) * 2


@pytest.mark.parametrize("bsmtp", [False, True])
def test_a_header_block_that_is_too_long_is_75(machine: Machine, bsmtp: bool) -> None:
    """RULES F8: an empty line above it would make it a body."""
    text = b"X: y\n" * 1_000_000 + b"\nbody\n"
    if bsmtp:
        done = machine.run(
            "hold", "--bsmtp", "cheshire", stdin=b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n" + text + b".\n"
        )
    else:
        done = machine.run("hold", *CALL, stdin=text)
    assert done.returncode == 75
    assert_one_line(done.stderr, "the header block is longer than")
    assert machine.files() == machine.files("tmp") == []


def test_an_empty_message_is_none(machine: Machine) -> None:
    """INTERMITTENT 6.3: the MTA has died, or its command is wrong."""
    done = machine.run("hold", *CALL)
    assert done.returncode == 75
    assert_one_line(done.stderr, "standard input is empty")


def test_a_closed_standard_input_is_no_empty_message(machine: Machine) -> None:
    """INTERMITTENT 6.3: nor is any file that we open taken for it."""
    done = machine.run("hold", *CALL, stdin=TEXT, preexec_fn=lambda: os.close(0))
    assert done.returncode == 75
    assert_one_line(done.stderr, "standard input")


@pytest.mark.parametrize(
    ("toml", "said"),
    [("spool = 1\n", "spool"), ("]\n", "not TOML"), ("", "there is no host"), (None, "is not a regular file")],
)
def test_a_bad_configuration_is_75(machine: Machine, toml: str | None, said: str) -> None:
    """INTERMITTENT 6.3."""
    machine.config.unlink()
    if toml is None:
        machine.config.mkdir()
    else:
        machine.config.write_text(toml)
    done = machine.run("hold", *CALL, stdin=TEXT)
    assert done.returncode == 75
    assert_one_line(done.stderr, said)


def test_a_missing_spool_is_75_and_says_how_it_is_made(machine: Machine) -> None:
    """INTERMITTENT 6.3: the folder's own parent is somebody else's work."""
    machine.spool.rmdir()
    done = machine.run("hold", *CALL, stdin=TEXT)
    assert done.returncode == 75
    assert_one_line(done.stderr, f"{machine.spool}/cheshire cannot be made")
    assert_one_line(done.stderr, "(as root: install -d -m 02770 -o ")


@pytest.mark.parametrize("limit", [0, 1, 50, 4096, 100_000])
def test_no_room_is_75_and_leaves_nothing(machine: Machine, limit: int) -> None:
    """INTERMITTENT 6.3: the file grows until it may not."""
    text = b"Subject: x\n\n" + b"y" * 70 * 3000

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = machine.run("hold", *CALL, stdin=text, preexec_fn=small)
    assert done.returncode == 75
    assert_one_line(done.stderr, f"{machine.spool}/cheshire/new cannot be written: file too large (make room")
    assert machine.files() == machine.files("tmp") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_the_message_comes_is_75_and_leaves_nothing(machine: Machine, number: int) -> None:
    """INTERMITTENT 6.3: a shutdown takes the MTA's children along."""
    with subprocess.Popen(
        machine.argv("hold", *CALL), stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=machine.environment()
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"Subject: x\n\n" + b"y\n" * 1_000_000)  # more than a pipe holds: it is being read
        process.send_signal(number)
        process.stdin.close()
        said = process.stderr.read()
        assert process.wait(60) == 75
    assert_one_line(said, "interrupted by a signal")
    assert machine.files() == machine.files("tmp") == []


@pytest.mark.row("H3")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_the_program_is_being_loaded_is_75(machine: Machine, number: int, tmp_path: Path) -> None:
    """INTERMITTENT 6.3: killed by a signal is a bounce to Exim; here it comes with the first package of others."""
    package = tmp_path / "packages"
    package.mkdir()
    (package / "click.py").write_text(f"import os, sys\nos.kill(os.getpid(), {int(number)})\nsys.exit(1)\n")
    environment = {"PYTHONPATH": f"{package}:{machine.environment()['PYTHONPATH']}"}
    assert machine.run("hold", *CALL, stdin=TEXT, env=environment).returncode == 75
    assert machine.files() == machine.files("tmp") == []


def test_the_log_being_full_changes_nothing(machine: Machine) -> None:
    """RULES A5: what is on disk is held."""
    machine.log = Path("/dev/full")
    machine.configure()
    assert machine.run("hold", *CALL, stdin=TEXT).returncode == 0
    assert len(machine.files()) == 1


@pytest.mark.row("H18")
def test_memory_does_not_grow_with_the_message(machine: Machine) -> None:
    """INTERMITTENT 6.3: bounded; 32 MiB and one line, some room for Python."""
    command = machine.argv("hold", *CALL)
    peaks = []
    for octets in (1_000, 32 * 1024 * 1024):
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=machine.environment()) as process:
            assert process.stdin is not None
            process.stdin.write(b"Subject: x\n\n" + b"y" * octets)
            process.stdin.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)
    assert peaks[1] - peaks[0] < 12 * 1024  # kB
    assert machine.files()[-1].stat().st_size > 32 * 1024 * 1024


def test_what_cannot_be_read_back_is_not_taken(host: Keeper) -> None:
    """INTERMITTENT 6.3: addresses with NUL, CR, LF never get into a file."""
    with Spool(host) as spool:
        for address in ("a\0@b", "a\n@b", "a\r@b", "", "a b@c", "<x"):
            with pytest.raises(Failure):
                hold.one(spool, "a@b", [address], "", iter([TEXT]))
        assert list(spool.entries()) == []
        assert os.listdir(Path(spool.path, "tmp")) == []


def test_a_message_keeps_the_time_of_its_note() -> None:
    """INTERMITTENT 2.5: `NOOP muawrap at=` is when it was accepted first."""
    given = held()
    assert hold.completed(given).envelope.at == AT
    assert hold.completed(Held(given.envelope._replace(at=0), b"", Body())).envelope.at > 0
