"""`muawrap atrn`: the connection turned, and no message acknowledged before it is handed over (INTERMITTENT 1.4)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from muawrap import config
from muawrap.admin.atrn import command
from muawrap.failure import Failure
from muawrap.holding import mta
from muawrap.holding.asking import atrn, servers, turned
from muawrap.holding.asking.servers import Wishes
from tests.support.certificates import Authority
from tests.support.exim import Exim
from tests.support.need import need
from tests.support.program import REPOSITORY, Program
from tests.support.provider import Customer, Mail, Provider
from tests.support.server import Over, Raw
from tests.torture.link import Cut, Direction, Link

AUTH = 'auth = { user = "alice", password = "wonder", mechanisms = ["CRAM-MD5"], allow_plaintext = true }\n'
HELLO = Mail("a@x.example", ["b@y.example"], b"Message-ID: <1@x>\r\nSubject: hello\r\n\r\nHello.\r\n")
DOTS = Mail("", ["b@y.example", '"c d"@y.example', "-e@y.example"], b".\r\n\r\n.\r\n..\r\nFrom x\r\n\xff\r\n.last\r\n")
BARE = Mail(
    "a+b@x.example", ["b@y.example"], b"Bcc: kept@x.example\r\nReturn-Path: <z>\r\n\r\n" + b"x" * 2000 + b"\r\n"
)
THREE = [HELLO, DOTS, BARE]

# Keeps what it is given, and does what the first file it finds says.
RECORDING = """\
#!/bin/sh
number=$(ls {folder}/taken | wc -l)
{before}
printf '%s\\n' "$@" > {folder}/taken/$number.args
cat > {folder}/taken/$number.text
mv {folder}/taken/$number.text {folder}/taken/$number
rm {folder}/taken/$number.args.x 2>/dev/null
env > {folder}/environment
{after}
"""


class Ran(NamedTuple):
    status: int
    out: str
    err: str


class Recorder:
    """A mail system that keeps what it takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "mta"
        (folder / "taken").mkdir()
        self.behave()

    def behave(self, before: str = "", after: str = "") -> None:
        """From now on it does this before and after it takes a message."""
        self.program.write_text(RECORDING.format(folder=self.folder, before=before, after=after))
        self.program.chmod(0o755)

    @property
    def taken(self) -> list[tuple[list[str], bytes]]:
        """Arguments and text of each message, in order."""
        kept = sorted(
            (path for path in (self.folder / "taken").iterdir() if path.suffix == ""), key=lambda one: int(one.name)
        )
        return [(path.with_suffix(".args").read_text().split("\n")[:-1], path.read_bytes()) for path in kept]

    @property
    def mails(self) -> list[tuple[str, list[str], bytes]]:
        """The same as it was sent."""
        return [(args[2], args[4:], text) for args, text in self.taken]

    def forget(self) -> None:
        for path in (self.folder / "taken").iterdir():
            path.unlink()


def expected(mail: Mail) -> tuple[str, list[str], bytes]:
    text = mail.text.replace(b"\r\n", b"\n")
    return mail.sender or "<>", list(mail.recipients), text if b"\n\n" in text else text + b"\n"


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    folder = tmp_path / "recorder"
    folder.mkdir()
    return Recorder(folder)


def write(program: Program, port: int, words: list[str], keys: str = AUTH) -> Path:
    """A configuration with the table [hold.isp] for a provider at this port."""
    program.configure(
        f'smart_hosts = ["smtp://127.0.0.1:1"]\nhostname = "laptop.example"\nmta = {json.dumps(words)}\n'
        f'[hold.isp]\nto = ["smtp://127.0.0.1:{port}"]\n{keys}'
    )
    return program.config


def run(path: Path, *words: str) -> Ran:
    """`muawrap atrn`, in this process."""
    done = CliRunner().invoke(command, ["-C", str(path), *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


# -- the messages


@pytest.mark.parametrize("pipelining", [True, False])
def test_what_waits_is_handed_over_as_it_is(program: Program, recorder: Recorder, pipelining: bool) -> None:
    """INTERMITTENT 1.4: sender, recipients and text, Bcc and 8-bit too; CRLF becomes LF, and nothing else changes."""
    with Provider(THREE, pipelining=pipelining) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp", "b.example", "y.example")
        [session] = provider.finished()
    assert done == (0, "3 messages taken, 0 refused\n", "")
    assert (session.ending, session.authenticated, provider.waiting) == ("turned", "alice", [])
    assert b"ATRN b.example,y.example" in session.commands
    assert recorder.mails == [expected(mail) for mail in THREE]
    assert recorder.taken[0][0] == ["-i", "-f", "a@x.example", "--", "b@y.example"]
    assert program.log.count(" fetched ") == 3
    assert " fetched id=<1@x> from=<a@x.example> to=b@y.example server=127.0.0.1:" in program.log


def test_tls_comes_before_the_turn_and_stays(
    program: Program, recorder: Recorder, authority: Authority, tmp_path: Path
) -> None:
    """RFC 2645, 5.2: STARTTLS and CRAM-MD5 first; the messages come encrypted, and no secret is shown."""
    keys = f'tls = {{ policy = "required", ca_file = "{authority.ca_file(tmp_path / "ca.pem")}" }}\n' + AUTH.replace(
        ", allow_plaintext = true", ""
    ).replace("wonder", "s3cr3t-word")
    users = {"alice": "s3cr3t-word"}
    with Provider(THREE, context=authority.server_context(), users=users) as provider:
        done = muawrap(write(program, provider.port, [str(recorder.program)], keys), "-v", "isp")
        [session] = provider.finished()
    assert (done.returncode, done.stdout) == (0, "3 messages taken, 0 refused\n")
    assert (session.tls, session.authenticated, provider.waiting) == (True, "alice", [])
    assert recorder.mails == [expected(mail) for mail in THREE]
    for shown in (">>> ATRN", ">>> 220 laptop.example ESMTP", "<<< MAIL FROM:<a@x.example>", "octets", ">>> 221"):
        assert shown in done.stderr
    assert "s3cr3t-word" not in done.stderr + program.log


def muawrap(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`muawrap atrn` as a process of its own."""
    start = [sys.executable, "-c", "from muawrap.admin.commands import group; group()", "atrn", "-C", str(path)]
    environment = {"PYTHONPATH": str(REPOSITORY / "src"), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    return subprocess.run([*start, *words], env=environment, capture_output=True, text=True, check=False)


def test_batch_smtp_is_written_where_the_mail_system_reads_it(program: Program, tmp_path: Path) -> None:
    """The last word of mta is -bS: the envelope goes before the text, and dots are doubled."""
    reader = tmp_path / "batch"
    reader.write_text(f"#!/bin/sh\ncat >> {tmp_path}/got\n")
    reader.chmod(0o755)
    with Provider([DOTS]) as provider:
        done = run(write(program, provider.port, [str(reader), "-oMr", "atrn", "-bS"]), "isp")
    assert done.status == 0
    envelope = b'MAIL FROM:<>\nRCPT TO:<b@y.example>\nRCPT TO:<"c d"@y.example>\nRCPT TO:<-e@y.example>\nDATA\n'
    text = DOTS.text.replace(b"\r\n", b"\n").replace(b"\n.", b"\n..")
    assert (tmp_path / "got").read_bytes() == envelope + b"." + text + b".\n"


def test_a_real_exim_takes_them(program: Program, tmp_path: Path) -> None:
    """exim -bS: what its spool holds afterwards is what was sent."""
    with Exim(tmp_path) as exim, Provider(THREE) as provider:
        words = [exim.path, "-C", str(exim.folder / "exim.conf"), "-bS"]
        done = run(write(program, provider.port, words), "isp")
        arrived = exim.messages()
    assert (done.status, done.out, done.err) == (0, "3 messages taken, 0 refused\n", "")
    assert provider.waiting == []
    assert [(one.sender, one.recipients) for one in arrived] == [(one.sender, list(one.recipients)) for one in THREE]
    texts = [mail.text.replace(b"\r\n", b"\n") for mail in THREE]
    # Exim takes no line with a lone dot for a header, and a Return-Path: away
    assert [one.body for one in arrived] == [b"Hello.\n", texts[1], b"x" * 2000 + b"\n"]
    assert b"Subject: hello\n" in arrived[0].header
    assert b"Bcc: kept@x.example\n" in arrived[2].header


def test_what_a_real_exim_refuses_goes_back(program: Program, tmp_path: Path) -> None:
    """A 550 in its answer to a batch is a refusal for good; the provider tells the sender."""
    acl = "refuse:\n  deny message = we have no use for it\n"
    with Exim(tmp_path, extra="acl_not_smtp = refuse\n", acls=acl) as exim, Provider([HELLO]) as provider:
        words = [exim.path, "-C", str(exim.folder / "exim.conf"), "-bS"]
        done = run(write(program, provider.port, words), "isp")
        assert exim.messages() == []
    assert (done.status, done.out) == (69, "0 messages taken, 1 refused\n")
    assert provider.bounced == [HELLO]
    assert "we have no use for it" in done.err


def test_a_large_message_needs_no_memory(program: Program, tmp_path: Path) -> None:
    """What comes is spooled while it comes."""
    reader = tmp_path / "reader"
    reader.write_text(f"#!/bin/sh\nsha256sum > {tmp_path}/sum\n")
    reader.chmod(0o755)
    mail = Mail("a@x.example", ["b@y.example"], b"Subject: big\r\n\r\n" + (b"x" * 76 + b"\r\n") * 400_000)
    with Provider([mail]) as provider:
        path = write(program, provider.port, [str(reader)])
        script = (
            "import re\n"
            "from muawrap.admin.commands import group\n"
            "try: group()\n"
            "finally: print(re.search('VmHWM:[^0-9]*([0-9]+)', open('/proc/self/status').read())[1])\n"
        )
        environment = {"PYTHONPATH": str(REPOSITORY / "src"), "PATH": "/usr/bin:/bin"}
        words = [sys.executable, "-c", script, "atrn", "-C", str(path), "isp"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert provider.waiting == []
    assert int(done.stdout.split()[-1]) < 60_000, "kilobytes, for a message of 31 MB"


# -- what the mail system says


@pytest.mark.row("H14")
@pytest.mark.parametrize(
    ("after", "status", "out", "goes"),
    [
        ("exit 0", 0, "1 message taken, 0 refused", "away"),
        ("echo gone >&2; exit 67", 69, "0 messages taken, 1 refused", "back"),
        ("exit 65", 69, "0 messages taken, 1 refused", "back"),
        ("exit 68", 69, "0 messages taken, 1 refused", "back"),
        ("exit 64", 75, "0 messages taken, 0 refused, 1 or more left at isp", "nowhere"),
        ("exit 69", 75, "0 messages taken, 0 refused, 1 or more left at isp", "nowhere"),
        ("exit 75", 75, "0 messages taken, 0 refused, 1 or more left at isp", "nowhere"),
        ("exit 77", 75, "0 messages taken, 0 refused, 1 or more left at isp", "nowhere"),
        ("exit 1", 75, "0 messages taken, 0 refused, 1 or more left at isp", "nowhere"),
        ("exit 127", 75, "0 messages taken, 0 refused, 1 or more left at isp", "nowhere"),
        ("kill -9 $$", 75, "0 messages taken, 0 refused, 1 or more left at isp", "nowhere"),
        ("kill -TERM $$", 75, "0 messages taken, 0 refused, 1 or more left at isp", "nowhere"),
    ],
)
def test_only_status_0_is_an_acknowledgement(
    program: Program, recorder: Recorder, after: str, status: int, out: str, goes: str
) -> None:
    """sysexits.h: 65, 67 and 68 are refusals; everything else may be our own mistake, and bounces no mail."""
    recorder.behave(after=after)
    with Provider([HELLO]) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
        provider.finished()
    assert (done.status, done.out) == (status, out + "\n")
    assert (provider.waiting, provider.bounced) == (
        [HELLO] if goes == "nowhere" else [],
        [HELLO] if goes == "back" else [],
    )
    assert bool(done.err) == (goes != "away")
    assert "gone" not in after or "ended with status 67: gone" in done.err


def test_the_program_has_a_bounded_time_and_may_say_anything(program: Program, recorder: Recorder) -> None:
    """What hangs is killed with all it started; what it prints is cut, and shown printable."""
    recorder.behave(after="exec sleep 600")
    with Provider([HELLO]) as provider:
        path = write(program, provider.port, [str(recorder.program)])
        troubles: list[Failure] = []
        loaded = config.load(str(path), {})
        found = servers.server(loaded, Wishes("isp"))
        begun = time.monotonic()
        fetched = atrn.fetch(loaded, found, [], trouble=troubles.append, seconds=0.2)
        assert time.monotonic() - begun < 5
        assert (fetched.status, fetched.tally, provider.waiting) == (75, (0, 0, 1), [HELLO])
        assert "took longer than 0.2 s" in str(troubles[0])
        recorder.behave(after="yes '\033[2J' | head -c 3000000; printf 'caf\\351 \\033[2J' >&2; exit 75")
        done = run(path, "isp")
    assert done.status == 75
    assert done.err.endswith("ended with status 75: caf\\xe9 \\x1b[2J\n")


def test_who_is_left_behind_with_our_pipes_is_not_waited_for(program: Program, recorder: Recorder) -> None:
    """Exim delivers in the background, and what it starts may hold standard error open."""
    recorder.behave(after="sleep 600 & echo $! > " + str(recorder.folder / "sleeper"))
    with Provider([HELLO]) as provider:
        begun = time.monotonic()
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
    assert time.monotonic() - begun < 5
    os.kill(int((recorder.folder / "sleeper").read_text()), 9)
    assert done.status == 0


def test_its_environment_is_minimal(program: Program, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours goes there but a word for our own sendmail."""
    monkeypatch.setenv("SECRET", "word")
    with Provider([HELLO]) as provider:
        assert run(write(program, provider.port, [str(recorder.program)]), "isp").status == 0
    names = {line.partition("=")[0] for line in (recorder.folder / "environment").read_text().splitlines()}
    assert names - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "LC_ALL", "MUAWRAP_FETCHED"}


def test_a_program_that_goes_away_meanwhile_leaves_the_mail_where_it_is(program: Program, recorder: Recorder) -> None:
    """What cannot be started takes nothing."""

    def vanish(customer: Customer) -> None:
        customer.greet()
        recorder.program.unlink()
        assert customer.send(HELLO) == 451
        customer.quit()

    with Provider(turned=vanish) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
        assert [session.ending for session in provider.finished()] == ["turned"]
    assert done.status == 75
    assert "no such file or directory" in done.err


# -- never to ourselves


def ours(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    copy = tmp_path / "copied"
    copy.write_bytes((REPOSITORY / "bin" / "sendmail").read_bytes())
    copy.chmod(0o755)
    link, hard = tmp_path / "link", tmp_path / "hard"
    link.symlink_to(copy)
    os.link(copy, hard)
    script = tmp_path / "muawrap"
    script.write_text("#!/usr/bin/python3\nimport sys\nfrom muawrap.admin.program import main\nsys.exit(main())\n")
    script.chmod(0o755)
    yield "bin/sendmail", [str(REPOSITORY / "bin" / "sendmail")]
    yield "a copy", [str(copy)]
    yield "a symbolic link", [str(link), "-bS"]
    yield "a hard link", [str(hard)]
    yield "the muawrap program", [str(script), "outbox"]
    yield "by a shell", ["/bin/sh", str(copy)]


@pytest.mark.row("H14")
def test_mail_is_never_handed_to_ourselves(program: Program, tmp_path: Path) -> None:
    """It would go back to where it comes from; refused before anybody is called (78)."""
    with Provider([HELLO]) as provider:
        for case, words in ours(tmp_path):
            for options in ((), ("--dry-run",)):
                done = run(write(program, provider.port, words), *options, "isp")
                assert (done.status, done.out) == (78, ""), case
                assert "it is muawrap itself" in done.err
                assert "it is muawrap itself" in program.log.splitlines()[-1], "a hook shows nobody what is said"
        assert provider.finished() == []


@pytest.mark.parametrize("named", [True, False])
def test_not_by_way_of_a_script_either(program: Program, tmp_path: Path, named: bool) -> None:
    """A script that calls our sendmail, with -C or without: that refuses, and the mail stays where it is."""
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec {program.named("sendmail")} {f"-C {program.config}" if named else ""} "$@"\n')
    wrapper.chmod(0o755)
    with Provider([HELLO]) as provider:
        done = run(write(program, provider.port, [str(wrapper)]), "isp")
    assert (done.status, provider.waiting) == (75, [HELLO])
    assert "muawrap atrn hands fetched mail to this program, which would send it back" in done.err


@pytest.mark.parametrize("words", [["/nowhere/sendmail"], ["/etc/passwd"], ["/etc"]])
def test_a_program_that_cannot_be_run_is_told_before_anybody_is_called(program: Program, words: list[str]) -> None:
    """78: the configuration."""
    with Provider([HELLO]) as provider:
        done = run(write(program, provider.port, words), "isp")
        assert provider.finished() == []
    assert (done.status, done.err.count("\n")) == (78, 1)
    assert f"there is no program {words[0]} to hand mail to" in done.err


# -- the replies to ATRN


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("450 ATRN request refused", 75),
        ("451 Unable to process ATRN request now", 75),
        ("421 leaving", 75),
        ("454 later", 75),
        ("500 what?", 69),
        ("502 Command not implemented", 69),
        ("503 not now", 69),
        ("501 no such domain", 65),
        ("530 Authentication required", 77),
        ("535 no", 77),
        ("550 no", 77),
        ("221 what?", 75),
        ("354 go on", 75),
    ],
)
def test_each_refusal_has_its_exit_status(program: Program, recorder: Recorder, reply: str, status: int) -> None:
    """RFC 2645, 5.2.1: and the connection is not turned."""
    with Provider([HELLO], {"ATRN": reply}) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
        [session] = provider.finished()
    assert (done.status, done.out, done.err.count("\n")) == (status, "", 1)
    assert reply in done.err
    assert b"220 laptop" not in session.raw
    assert session.commands[-1] == (b"ATRN" if reply.startswith("2") else b"QUIT")


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--none-is", "9"), 9)])
def test_no_mail_is_no_failure(program: Program, recorder: Recorder, options: tuple[str, ...], status: int) -> None:
    """RFC 2645, 5.2.1: 453; and --none-is tells it apart."""
    with Provider() as provider:
        path = write(program, provider.port, [str(recorder.program)])
        assert run(path, *options, "isp") == (status, "no mail waits at isp\n", "")
        told = json.loads(run(path, *options, "--json", "isp").out)
    assert told == {"server": "isp", "reply": "453 You have no mail", "taken": 0, "refused": 0, "left": 0}


def test_a_provider_that_takes_its_leave_at_once_has_no_mail(program: Program, recorder: Recorder) -> None:
    """RFC 2645: QUIT is all it says."""

    def leave(customer: Customer) -> None:
        customer.reply(220)
        customer.quit()

    with Provider(turned=leave) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
        assert [session.ending for session in provider.finished()] == ["turned"]
    assert done == (0, "no mail waits at isp\n", "")


def test_without_the_keyword_nothing_is_asked(program: Program, recorder: Recorder) -> None:
    """RFC 2645, 5.1: 69, and what there is instead."""
    with Provider([HELLO], {"EHLO": Raw(b"250-provider.example\r\n250-ETRN\r\n250 AUTH CRAM-MD5\r\n")}) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
        [session] = provider.finished()
    assert (done.status, done.out) == (69, "")
    assert "does not offer ATRN, but ETRN AUTH" in done.err
    assert not any(line.startswith(b"ATRN") for line in session.commands)


@pytest.mark.parametrize("domain", ["a,b", "a b", "", "a\nQUIT", "x" * 256, "bücher.example"])
def test_a_domain_that_cannot_be_is_never_sent(program: Program, recorder: Recorder, domain: str) -> None:
    """INTERMITTENT 6.2, as for ETRN: 65; the request is one, so nobody is asked at all."""
    with Provider([HELLO]) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp", "a.example", domain)
        assert provider.finished() == []
    assert (done.status, done.err.count("\n")) == (65, 1)


def test_the_port_of_a_bare_host_is_366(program: Program) -> None:
    """RFC 2645, 7; a table and a URL have their own."""
    path = write(program, 2525, ["/bin/true"], 'domains = ["d.example"]\n')
    assert run(path, "--dry-run", "192.0.2.1").out == "smtp://192.0.2.1:366 tls=if-offered\nATRN\n/bin/true\n"
    assert run(path, "--dry-run", "192.0.2.1:26", "e.example").out.startswith("smtp://192.0.2.1:26 ")
    assert run(path, "--dry-run", "smtp://192.0.2.1").out.startswith("smtp://192.0.2.1 ")
    assert run(path, "--dry-run", "isp").out.splitlines()[:2] == [
        "smtp://127.0.0.1:2525 tls=if-offered",
        "ATRN d.example",
    ]


# -- a provider that is not to be trusted


def greets(customer: Customer) -> None:
    """It believes that it is still the server."""
    customer.say("220 provider.example ESMTP")
    customer.reply(220)
    customer.reply(500)
    customer.say("EHLO provider.example")
    customer.reply(250)
    customer.send(HELLO)
    customer.quit()


def hurries(customer: Customer) -> None:
    """Its commands come with the 250, before our greeting."""
    customer.say("EHLO provider.example", "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
    for code in (220, 250, 250, 250, 354):
        customer.reply(code)
    customer.say("Subject: hello", "", "Hello.", ".", "QUIT")
    customer.reply(250)
    customer.reply(221)


@pytest.mark.parametrize("context", [True, False])
def test_what_came_with_the_yes_belongs_to_the_turned_dialogue(
    program: Program, recorder: Recorder, authority: Authority, tmp_path: Path, context: bool
) -> None:
    """Nothing is lost between the two, by TLS or without."""
    keys = f'tls = {{ ca_file = "{authority.ca_file(tmp_path / "ca.pem")}" }}\n' + AUTH
    secure = authority.server_context() if context else None
    early = b"EHLO provider.example\r\nMAIL FROM:<a@x.example>\r\nRCPT"

    def rest(customer: Customer) -> None:
        for code in (220, 250, 250):
            customer.reply(code)
        customer.say(" TO:<b@y.example>", "DATA", "Subject: hello", "", "Hello.", ".", "QUIT")
        for code in (250, 354, 250, 221):
            customer.reply(code)

    with Provider(context=secure, turned=rest, early=early) as provider:
        done = run(write(program, provider.port, [str(recorder.program)], keys), "isp")
        assert [(session.ending, session.tls) for session in provider.finished()] == [("turned", context)]
    assert done == (0, "1 message taken, 0 refused\n", "")


def asks(customer: Customer) -> None:
    """It wants from us what we do not do."""
    customer.greet()
    assert customer.offered == ["PIPELINING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES"]
    for line in ("STARTTLS", "AUTH PLAIN AGEAYg==", "ETRN y.example", "ATRN y.example", "TURN", "EXPN all", "XYZZY"):
        customer.say(line)
        customer.reply(500, 502)
    for line in ("MAIL FROM:<a@x.example> SMTPUTF8", "MAIL FROM:<a@x.example> RET=FULL", "MAIL FROM:<a@x> NONSENSE=1"):
        customer.say(line)
        customer.reply(555)
    customer.say("MAIL FROM:<a@x.example> SIZE=20 BODY=8BITMIME")
    customer.reply(250)
    customer.say("RCPT TO:<c@y.example> NOTIFY=NEVER")
    customer.reply(555)
    customer.say("RCPT TO:<no such thing>", "RCPT TO:<b@y.example>", "DATA")
    for code in (451, 250, 354):
        customer.reply(code)
    customer.channel.send(HELLO.text + b".\r\n")
    customer.reply(250)
    customer.quit()


def changes_its_mind(customer: Customer) -> None:
    """MAIL again without RSET: the recipients behind it are not those of the first."""
    customer.greet()
    customer.say("MAIL FROM:<z@x.example>", "RCPT TO:<z@y.example>", "MAIL FROM:<y@x.example>", "RCPT TO:<y@y.example>")
    for code in (250, 250, 503, 250):
        customer.reply(code)
    customer.say("DATA")
    customer.reply(554)
    customer.say("RSET")
    customer.reply(250)
    customer.send(HELLO)
    customer.quit()


@pytest.mark.parametrize(
    ("turned", "status", "out", "lines"),
    [
        (greets, 0, "1 message taken, 0 refused", 0),
        (hurries, 0, "1 message taken, 0 refused", 0),
        (asks, 75, "1 message taken, 4 refused, 1 or more left at isp", 5),
        (changes_its_mind, 69, "1 message taken, 1 refused", 1),
    ],
)
def test_a_provider_of_another_mind_gets_proper_replies(
    program: Program, recorder: Recorder, turned: Callable[[Customer], None], status: int, out: str, lines: int
) -> None:
    """RFC 5321: what cannot be is refused, and what can be is taken."""
    with Provider(turned=turned) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
        assert [session.ending for session in provider.finished()] == ["turned"]
    assert (done.status, done.out, done.err.count("\n")) == (status, out + "\n", lines)
    assert [mail[:2] for mail in recorder.mails] == [("a@x.example", ["b@y.example"])]


@pytest.mark.parametrize(
    ("mail", "status", "out", "said", "left"),
    [
        (
            HELLO._replace(sender="\x01@x.example"),
            75,
            "0 messages taken, 0 refused, 1 or more left at isp",
            "a message stays at 127.0.0.1",
            1,
        ),
        (
            HELLO._replace(parameters="SMTPUTF8"),
            69,
            "0 messages taken, 1 refused",
            "a message from <a@x.example> is refused, and 127.0.0.1",
            0,
        ),
        (
            HELLO._replace(recipients=["b@y.example", "no such thing"]),
            75,
            "1 message taken, 0 refused, 1 or more left at isp",
            "a message from <a@x.example> stays at 127.0.0.1",
            0,
        ),
    ],
)
@pytest.mark.parametrize("pipelining", [True, False])
def test_who_is_declined_before_the_text_is_counted_logged_and_told(
    program: Program, recorder: Recorder, mail: Mail, status: int, out: str, said: str, left: int, pipelining: bool
) -> None:
    """INTERMITTENT 6.2: "no mail waits" is said where none was offered; an address that cannot be read stays there."""
    with Provider([mail], pipelining=pipelining) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
        assert [session.ending for session in provider.finished()] == ["turned"]
        assert len(provider.waiting) == left
    assert (done.status, done.out, done.err.count("\n")) == (status, out + "\n", 1)
    assert said in done.err
    [line] = [line for line in program.log.splitlines() if " fetched " in line and "reply=" in line]
    assert f"outcome={'refused' if status == 69 else 'later'}" in line


@pytest.mark.parametrize("sender", ["x.@carrier.example", "a..b@carrier.example", ".x@carrier.example"])
def test_a_local_part_that_needs_quotes_gets_them(program: Program, recorder: Recorder, sender: str) -> None:
    """RFC 5321, 4.1.2: the provider has accepted it so, and would bounce it."""
    with Provider([HELLO._replace(sender=sender)]) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
    assert done == (0, "1 message taken, 0 refused\n", "")
    local, _, domain = sender.partition("@")
    assert [mail[0] for mail in recorder.mails] == [f'"{local}"@{domain}']


def test_a_message_begun_and_given_up_is_not_no_mail(program: Program, recorder: Recorder) -> None:
    """RFC 2645: there was some."""

    def begin(customer: Customer) -> None:
        customer.greet()
        customer.say("MAIL FROM:<a@x.example>")
        customer.reply(250)
        customer.quit()

    with Provider(turned=begin) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "--none-is", "9", "isp")
    assert done == (0, "0 messages taken, 0 refused\n", "")


def test_a_header_block_that_is_too_long_stays_at_the_provider(program: Program, recorder: Recorder) -> None:
    """RULES F8: made a body, it would be another message."""
    with Provider([HELLO._replace(text=b"X: y\r\n" * 1_500_000 + b"\r\nbody\r\n")]) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
    assert (done.status, recorder.taken) == (75, [])
    assert "the header block is longer than" in done.err


def test_more_recipients_than_a_command_line_holds_are_for_the_next_transaction(
    program: Program, recorder: Recorder
) -> None:
    """RFC 5321, 4.5.3.1.10: 452, and the others are taken; until then they stay there, and one line says so."""

    def many(customer: Customer) -> None:
        customer.greet()
        customer.say("MAIL FROM:<a@x.example>", *(f"RCPT TO:<{'x' * 60}{n}@y.example>" for n in range(1003)), "DATA")
        codes = [customer.reply(250, 354, 452) for _ in range(1005)]
        assert codes == [250] * 1001 + [452] * 3 + [354]
        customer.channel.send(HELLO.text + b".\r\n")
        customer.reply(250)
        customer.quit()

    with Provider(turned=many) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
        assert [session.ending for session in provider.finished()] == ["turned"]
    assert (done.status, done.out) == (75, "1 message taken, 0 refused, 1 or more left at isp\n")
    assert done.err.count("\n") == 1
    assert len(recorder.mails[0][1]) == 1000


def babbles(customer: Customer) -> None:
    customer.channel.send(b"\0\xff?" * 100_000 + b"\r\n" + b"what\r\n" * 100)
    while True:
        customer.channel.receive()


def falls_silent(customer: Customer) -> None:
    customer.greet()
    customer.say("MAIL FROM:<a@x.example>")
    while True:
        customer.channel.receive()


def leaves(customer: Customer) -> None:
    customer.greet()
    raise Over("dropped")


def leaves_in_the_text(customer: Customer) -> None:
    customer.greet()
    customer.say("MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
    for code in (250, 250, 354):
        customer.reply(code)
    customer.channel.send(HELLO.text + b".")
    raise Over("dropped")


@pytest.mark.parametrize(
    ("turned", "said"),
    [
        (babbles, "spoke what is no SMTP"),
        (falls_silent, "said nothing for 0.2 s"),
        (leaves, "left without QUIT"),
        (leaves_in_the_text, "left without QUIT"),
    ],
)
def test_a_connection_that_ends_without_quit_is_for_later(
    program: Program, recorder: Recorder, turned: Callable[[Customer], None], said: str
) -> None:
    """More may wait there: 75; and of half a message nothing is handed over."""
    with Provider(turned=turned) as provider:
        loaded = config.load(str(write(program, provider.port, [str(recorder.program)])), {})
        troubles: list[Failure] = []
        found = servers.server(loaded, Wishes("isp"))
        fetched = atrn.fetch(loaded, found, [], trouble=troubles.append, idle=0.2)
    assert (fetched.status, fetched.tally) == (75, (0, 0, 1))
    assert said in str(troubles[-1])
    assert recorder.taken == []


# -- nothing is lost


def cuts(link: Link) -> Iterator[Cut]:
    """At the end of each flight of the dialogue that went over the link, an octet before, and some anywhere."""
    ways: tuple[Direction, ...] = ("up", "down")
    for way in ways:
        ends = set(accumulate(octets for there, octets in link.passed if there == way))
        offsets = {*ends, *(end - 1 for end in ends), *range(0, max(ends), max(ends) // 8)}
        for number, offset in enumerate(sorted(offsets)):
            yield Cut(way, offset, "RST" if number % 3 == 1 else "FIN")


def test_whatever_is_cut_nothing_is_lost_and_nothing_half_is_taken(program: Program, recorder: Recorder) -> None:
    """Every message still waits, or the mail system has it, wherever the link breaks."""
    seen = []
    with Provider(THREE) as provider, Link(provider.port) as link:
        loaded = config.load(str(write(program, link.port, [str(recorder.program)])), {})
        found = servers.server(loaded, Wishes("isp"))
        whole = atrn.fetch(loaded, found, [], trouble=lambda failure: None)
        assert whole.tally == (3, 0, 0)
        link.finished()
        for cut in list(cuts(link)):
            recorder.forget()
            provider.waiting = list(THREE)
            link.cut = cut
            complete = False
            try:
                complete = atrn.fetch(loaded, found, [], trouble=lambda failure: None).status == 0
            except Failure:
                pass
            provider.finished()
            taken = recorder.mails
            assert all(mail in [expected(one) for one in THREE] for mail in taken), cut
            assert all(expected(one) in taken for one in THREE if one not in provider.waiting), cut
            assert not complete or len(taken) == 3, cut
            seen.append(len(taken))
    assert len(seen) >= 60
    assert set(seen) == {0, 1, 2, 3}, "cuts before, between and behind the messages"


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_killed_at_any_moment_what_was_acknowledged_is_there(
    program: Program, recorder: Recorder, moment: str, number: int
) -> None:
    """SIGKILL while the mail system takes the n-th message, or when it has it: that one still waits."""
    recorder.behave(**{moment: f"[ $(($number / 2)) -ne {number} ] || kill -9 $PPID"})
    with Provider(THREE) as provider:
        done = muawrap(write(program, provider.port, [str(recorder.program)]), "isp")
        provider.finished()
        assert done.returncode == -9
        assert provider.waiting == THREE[number:]
        assert all(expected(one) in recorder.mails for one in THREE[:number])


def test_a_signal_in_the_middle_leaves_the_rest_at_the_provider(program: Program, recorder: Recorder) -> None:
    """TERM, as at shutdown."""
    recorder.behave(before="[ $number -ne 2 ] || kill -TERM $PPID")
    with Provider(THREE) as provider:
        done = muawrap(write(program, provider.port, [str(recorder.program)]), "isp")
        provider.finished()
    assert done.returncode == -15
    assert provider.waiting == THREE[1:]


def test_no_room_for_a_message_leaves_it_at_the_provider(
    program: Program, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is told by 451, and the next message has its own try."""
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with Provider([HELLO]) as provider:
        done = run(write(program, provider.port, [str(recorder.program)]), "isp")
    assert (done.status, provider.waiting, recorder.taken) == (75, [HELLO], [])
    assert "no such file or directory" in done.err


def test_the_bounds_are_those_of_the_standard() -> None:
    """RFC 5321: 5 minutes for a command (4.5.3.2.7), 10 for a verdict (4.5.3.2.6), 100 recipients at least."""
    assert (turned.IDLE, mta.SECONDS, turned.RECIPIENTS >= 100) == (300, 600, True)
    assert need("sh")
