"""Programs that call sendmail, as Debian ships them: what they send is what arrives, and they hear of a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.exim import Arrived, Exim
from tests.support.need import missing, need
from tests.support.program import Program

TO, CC, BCC = "a@x.example", "b@x.example", "c@x.example"
REFUSED = "no@x.example"
ME = "me@client.example"
SUBJECT = "Grüße vom Schreibtisch"
BODY = "hello\n.\n..dots\nFrom here\nGrüße, 日本\n~x\n \nBcc: x@x.example\n\nlast\n"
PATIENCE = 20.0  # seconds; how long a message may take that nobody waits for

Done = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def running_exim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exim]:
    with Exim(tmp_path_factory.mktemp("exim"), refuse_recipients=[REFUSED]) as exim:
        yield exim


@pytest.fixture
def exim(running_exim: Exim) -> Exim:
    running_exim.forget()
    return running_exim


@dataclass
class Desk:
    """Where the callers sit: the program set up for them in either way, and a home."""

    program: Program
    exim: Exim
    home: Path
    to: str = TO
    path: Path = field(init=False)  # of the program

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.path = self.program.named("sendmail")
        self.aliases = self.home / "aliases"
        self.aliases.write_text("root: ops@client.example\n")
        self.program.configure(
            self.program.smart_hosts(self.exim)
            + 'from = "box@client.example"\nallowed_from = ["*@client.example"]\nqualify_domain = "client.example"\n'
            + f'[redirect]\naliases = ["{self.aliases}"]\n'
        )

    @property
    def command(self) -> str:
        """For those whose setting takes a command line."""
        return f"{self.path} -C {self.program.config}"

    @property
    def environment(self) -> dict[str, str]:
        """For those whose setting takes a path and nothing more."""
        return {
            "MUAWRAP_SMART_HOSTS": f"smtp://127.0.0.1:{self.exim.port}",
            "MUAWRAP_FROM": "box@client.example",
            "MUAWRAP_ALLOWED_FROM": "*@client.example",
            "MUAWRAP_QUALIFY_DOMAIN": "client.example",
            "MUAWRAP_LOG": str(self.program.log_file),
        }

    def run(self, *argv: str, stdin: str = BODY, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
        return subprocess.run(
            [need(argv[0]), *argv[1:]],
            input=stdin.encode(),
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home), "LC_ALL": "C.UTF-8", **(env or {})},
            cwd=cwd or self.home,
            capture_output=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def desk(program: Program, exim: Exim, tmp_path: Path) -> Desk:
    return Desk(program, exim, tmp_path / "home")


# --- the callers: all send the same


def mutt(desk: Desk, *options: str, settings: str = "") -> Done:
    muttrc = desk.home / "muttrc"
    muttrc.write_text(
        f'set sendmail="{desk.command} -oem -oi"\n'
        f'set from="{ME}"\nset use_from\nset use_envelope_from\nset hostname="client.example"\nset copy=no\n{settings}'
    )
    return desk.run("mutt", "-n", "-F", str(muttrc), *options, "-s", SUBJECT, "-c", CC, "-b", BCC, "--", desk.to)


def bsd_mailx(desk: Desk) -> Done:
    mailrc = desk.home / "mailrc"
    mailrc.write_text(f"set sendmail={desk.path}\n")
    return desk.run(
        "bsd-mailx", "-r", ME, "-s", SUBJECT, "-c", CC, "-b", BCC, desk.to,
        env={"MAILRC": str(mailrc), **desk.environment},
    )  # fmt: skip


def s_nail(desk: Desk) -> Done:
    settings = {
        "v15-compat": "yes",
        "mta": str(desk.path),
        "mta-arguments": f"-C {desk.program.config}",
        "sendwait": "",  # else it is gone before it could hear of a failure
        "DEAD": str(desk.home / "dead.letter"),
    }
    sets = [word for name, value in settings.items() for word in ("-S", f"{name}={value}")]
    return desk.run("s-nail", "-:/", *sets, "-r", ME, "-s", SUBJECT, "-c", CC, "-b", BCC, desk.to)


SCRIPT = """
$sent = mail($argv[1], $argv[2], stream_get_contents(STDIN), $argv[3], "-f$argv[4]");
exit($sent ? 0 : 9);
"""


def php(desk: Desk, *settings: str) -> Done:
    options = [word for setting in settings for word in ("-d", setting)]
    header = f"From: {ME}\r\nCc: {CC}\r\nBcc: {BCC}\r\nContent-Type: text/plain; charset=utf-8"
    return desk.run(
        "php", "-n", "-d", f"sendmail_path={desk.command} -t -i", *options,
        "-r", SCRIPT, "--", desk.to, SUBJECT, header, ME,
    )  # fmt: skip


def php_with_lf(desk: Desk) -> Done:
    return php(desk, "mail.mixed_lf_and_crlf=On")


CALLERS: dict[str, Callable[[Desk], Done]] = {
    "mutt": mutt,
    "bsd-mailx": bsd_mailx,
    "s-nail": s_nail,
    "PHP": php,
    "PHP with LF": php_with_lf,
}


def only(exim: Exim) -> Arrived:
    [arrived] = exim.messages()
    return arrived


def decoded(arrived: Arrived) -> str:
    """The body as its reader sees it."""
    payload = arrived.parsed.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode(arrived.parsed.get_content_charset("utf-8"))


def added_by(caller: str) -> str:
    """What it puts behind every body."""
    return "\n" if caller.startswith("PHP") else ""


@pytest.mark.parametrize("caller", CALLERS)
def test_a_message_arrives_as_it_was_written(desk: Desk, caller: str) -> None:
    """A2, B1, F3, F4: with all its recipients, nothing lost, nothing shown that is not for everyone."""
    done = CALLERS[caller](desk)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    arrived = only(desk.exim)
    assert sorted(arrived.recipients) == [TO, CC, BCC]
    assert arrived.sender == ME
    parsed = arrived.parsed
    assert (parsed["Subject"], parsed["To"], parsed["Cc"]) == (SUBJECT, TO, CC)
    assert "Bcc" not in parsed
    assert BCC.encode() not in arrived.header
    for name in ("From", "Date", "Message-ID", "Subject", "To", "Cc"):
        assert len(parsed.get_all(name, [])) == 1, name
    assert ME in parsed["From"]
    assert decoded(arrived) == BODY + added_by(caller)


@pytest.mark.parametrize("caller", CALLERS)
def test_a_caller_hears_that_the_smart_host_is_down(desk: Desk, caller: str) -> None:
    """A1: by exit status."""
    desk.exim.stop()
    done = CALLERS[caller](desk)
    assert_told(desk, caller, done)
    assert "not sent, try again" in desk.program.log


@pytest.mark.parametrize("caller", CALLERS)
def test_a_caller_hears_that_a_recipient_was_refused(desk: Desk, caller: str) -> None:
    """A1, B2: by exit status; the other recipients get nothing."""
    desk.to = REFUSED
    done = CALLERS[caller](desk)
    assert_told(desk, caller, done)
    assert "not sent, refused" in desk.program.log
    assert desk.exim.messages() == []


def assert_told(desk: Desk, caller: str, done: Done) -> None:
    """It says so in its own way."""
    if caller == "mutt":
        assert done.returncode == 1
        assert b"Could not send the message." in done.stdout + done.stderr
    elif caller == "bsd-mailx":
        assert done.returncode == 1
        assert b"sendmail process failed with error code 1" in done.stderr
        assert b"sendmail: not sent, " in done.stderr
    elif caller == "s-nail":
        assert done.returncode == 4
        assert b"message not sent" in done.stderr
        assert b"sendmail: not sent, " in done.stderr
        assert BODY.split()[0].encode() in (desk.home / "dead.letter").read_bytes()
    else:
        assert done.returncode == 9, "mail() did not return false"
        assert b"sendmail: not sent, " in done.stderr


# --- mutt has more to ask for


def test_an_attachment_of_mutt_arrives_byte_for_byte(desk: Desk) -> None:
    attached = desk.home / "attached.bin"
    attached.write_bytes(bytes(range(256)) * 1024)
    done = mutt(desk, "-a", str(attached))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    [attachment] = only(desk.exim).parsed.iter_attachments()
    assert attachment.get_payload(decode=True) == attached.read_bytes()


DSN = 'set dsn_notify="failure,delay"\nset dsn_return=hdrs\n'


def test_mutt_asks_for_delivery_notifications(desk: Desk, program: Program, tmp_path: Path) -> None:
    """E6: -N and -R are DSN."""
    with Exim(tmp_path, extra="dsn_advertise_hosts = *\n") as notifying:
        program.configure(program.smart_hosts(notifying))
        done = mutt(desk, settings=DSN)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert only(notifying).recipients == [TO, CC, BCC]
        mail, *rcpts = (line for line in notifying.said if line.startswith(("MAIL", "RCPT")))
        assert "RET=HDRS" in mail
        assert len(rcpts) == 3
        assert all("NOTIFY=FAILURE,DELAY" in rcpt for rcpt in rcpts)


def test_a_host_without_dsn_gets_the_message_of_mutt_all_the_same(desk: Desk) -> None:
    """E6."""
    done = mutt(desk, settings=DSN)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert only(desk.exim).recipients == [TO, CC, BCC]
    assert not any("NOTIFY" in line or "RET=" in line for line in desk.exim.said)


# --- git


@dataclass
class Repository:
    """One commit with all that is hard to carry in a message."""

    desk: Desk
    folder: Path

    def git(self, *argv: str, stdin: str = "", env: dict[str, str] | None = None) -> Done:
        identity = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_DATE": "1600000000 +0000"}
        for role in ("AUTHOR", "COMMITTER"):
            identity |= {f"GIT_{role}_NAME": "Jürgen", f"GIT_{role}_EMAIL": ME}
        return self.desk.run("git", *argv, stdin=stdin, env={**identity, **(env or {})}, cwd=self.folder)

    def send(self, *options: str, env: dict[str, str] | None = None) -> Done:
        return self.git(
            "send-email", *options, "--confirm=never", "--quiet", "--suppress-cc=all", f"--envelope-sender={ME}",
            f"--from={ME}", f"--to={self.desk.to}", f"--cc={CC}", f"--bcc={BCC}", "-1", env=env,
        )  # fmt: skip

    def send_by_command(self) -> Done:
        return self.send(f"--sendmail-cmd={self.desk.command}")

    def send_by_path(self) -> Done:
        return self.send(f"--smtp-server={self.desk.path}", env=self.desk.environment)


@pytest.fixture
def repository(desk: Desk) -> Repository:
    git_core = Path(desk.run("git", "--exec-path").stdout.decode().strip())
    if not (git_core / "git-send-email").exists():
        missing("git send-email")
    folder = desk.home / "repository"
    folder.mkdir()
    repository = Repository(desk, folder)
    repository.git("init", "--quiet")
    (folder / "file").write_text(BODY + "no line end")
    repository.git("add", "file")
    repository.git("commit", "--quiet", "-m", f"{SUBJECT}\n\nA text.")
    return repository


@pytest.mark.parametrize("way", ["send_by_command", "send_by_path"])
def test_a_patch_sent_with_git_can_be_applied(desk: Desk, repository: Repository, way: str) -> None:
    """B1, F1, F3: the commit made of what arrived is the one that was sent."""
    done: Done = getattr(repository, way)()
    assert done.returncode == 0, done.stderr
    assert b"sendmail" not in done.stderr
    arrived = only(desk.exim)
    assert sorted(arrived.recipients) == [TO, CC, BCC]
    assert arrived.sender == ME
    assert arrived.parsed["Subject"] == f"[PATCH] {SUBJECT}"
    assert BCC.encode() not in arrived.header

    message = desk.home / "message"
    message.write_bytes(arrived.text)
    other = Repository(desk, desk.home / "other")
    other.folder.mkdir()
    other.git("init", "--quiet")
    applied = other.git("am", str(message))
    assert applied.returncode == 0, applied.stderr
    assert other.git("show", "HEAD:file").stdout.decode() == BODY + "no line end"
    assert other.git("log", "-1", "--format=%an %ae %s%n%b").stdout.decode() == f"Jürgen {ME} {SUBJECT}\nA text.\n\n"


@pytest.mark.parametrize("way", ["send_by_command", "send_by_path"])
def test_git_hears_of_a_failure(desk: Desk, repository: Repository, way: str) -> None:
    """A1."""
    desk.exim.stop()
    done: Done = getattr(repository, way)()
    assert done.returncode not in (0, 255)
    assert b"sendmail: not sent, try again: " in done.stderr


# --- cron

CRON_ARGV = ["-FCronDaemon", "-i", "-B8BITMIME", "-oem"]  # Debian's cron 3.0pl1-162; the recipients follow
CRON_HEADER = """\
From: root (Cron Daemon)
To: root
Subject: Cron <root@box> run-parts /etc/cron.daily
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
X-Cron-Env: <SHELL=/bin/sh>
X-Cron-Env: <HOME=/root>
X-Cron-Env: <PATH=/usr/bin:/bin>
X-Cron-Env: <LOGNAME=root>
"""


def assert_from_cron(arrived: Arrived, to: str, body: str) -> None:
    """Its header is kept but for the bare names (F9); what was missing has been added (F3)."""
    assert arrived.sender == "box@client.example"
    lines = arrived.header.decode().splitlines()
    assert lines[0] == 'From: "root (Cron Daemon)" <box@client.example>'
    assert lines[1] == f"To: {to}"
    assert "Content-Transfer-Encoding: 8bit" in lines
    assert "X-Cron-Env: <LOGNAME=root>" in lines
    assert arrived.parsed["Subject"].startswith("Cron <root@")
    assert arrived.parsed["Date"]
    assert arrived.parsed["Message-ID"]
    assert arrived.body.decode() == body


def test_the_output_of_a_cron_job_reaches_whom_root_stands_for(desk: Desk) -> None:
    """D1, F9: cron's own command line, its few variables, and no HOME."""
    result = desk.program.run(
        *CRON_ARGV,
        "root",
        stdin=f"{CRON_HEADER}\n{BODY}".encode(),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        cwd=Path("/"),
    )
    assert (result.status, result.out, result.err) == (0, b"", b"")
    arrived = only(desk.exim)
    assert arrived.recipients == ["ops@client.example"]
    assert_from_cron(arrived, "root@client.example", BODY)


# In a mount namespace of its own: our program instead of sendmail, our crontab instead of the machine's
CRON_SCRIPT = """\
set -e
mount --bind "$1/sendmail" "$(readlink -f /usr/sbin/sendmail)"
mount --bind "$1/crontab" /etc/crontab
mount --bind "$1/empty" /etc/cron.d
mount --bind "$1/empty" /var/spool/cron/crontabs
mount -t tmpfs tmpfs /run
exec cron -f
"""


def test_a_real_cron_has_the_output_of_its_job_delivered(desk: Desk, tmp_path: Path) -> None:
    """The program where sendmail is, a job at start, and a MAILTO with two addresses in one word."""
    need("cron")
    if os.geteuid() != 0 or shutil.which("sendmail", path="/usr/sbin") is None:
        missing("root, and a /usr/sbin/sendmail to put the program over")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        missing("mount namespaces")

    stage = tmp_path / "stage"
    (stage / "empty").mkdir(parents=True)
    wrapper = stage / "sendmail"
    wrapper.write_text(f'#!/bin/sh\nexec {desk.command} "$@"\n')
    wrapper.chmod(0o755)
    crontab = stage / "crontab"
    crontab.write_text("MAILTO=root,b@x.example\n@reboot root printf 'hello\\n.\\nlast'\n")
    crontab.chmod(0o600)
    with (stage / "output").open("wb") as output:
        cron = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", CRON_SCRIPT, "sh", str(stage)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not desk.exim.messages() and time.monotonic() < deadline and cron.poll() is None:
            time.sleep(0.02)  # cron tells nobody but syslog
    finally:
        cron.terminate()
        cron.wait()
    assert desk.exim.messages(), (stage / "output").read_text() + desk.program.log
    arrived = only(desk.exim)
    assert arrived.recipients == ["ops@client.example", "b@x.example"]
    assert_from_cron(arrived, "root@client.example,b@x.example", "hello\n.\nlast\n")
