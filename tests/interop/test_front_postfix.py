"""A real Postfix in front of a host that is not always there, told by etc/postfix as it is shipped (INTERMITTENT 6.8).

Its daemons run as root and its pipe as another user, so what that user needs stands where everybody may go.
"""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.everybody import everybody
from tests.support.need import missing
from tests.support.postfix import PATIENCE, Postfix
from tests.support.program import REPOSITORY
from tests.support.server import Server
from tests.support.unpacked import unpacked
from tests.support.user import WWW_DATA, public_folder

ETC = REPOSITORY / "etc" / "postfix"
# What it delivers with
SERVICES = """\
pickup unix n - n 60 1 pickup
qmgr unix n - n 300 1 qmgr
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
error unix - - n - - error
retry unix - - n - - error
"""
HYPHENS = "allow_min_user = yes\n"  # addresses that begin with one


class Front:
    """Postfix, muawrap's configuration and spool, and a host that can be shipped to."""

    def __init__(self, folder: Path, sink: Server) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.spool.mkdir(mode=0o700)
        shutil.chown(self.spool, WWW_DATA, WWW_DATA)
        self.config = folder / "muawrap.toml"
        self.program = everybody(folder, self.config)
        self.log_file = folder / "log"
        self.log_file.touch()
        self.log_file.chmod(0o666)
        self.config.write_text(
            f'smart_hosts = ["smtp://127.0.0.1:9"]\nspool = "{self.spool}"\nlog = "{self.log_file}"\n'
            f'[hold.cheshire]\nto = "smtp://127.0.0.1:{sink.port}"\nmin_interval = 0\n'
        )
        self.config.chmod(0o644)
        self.postfix = Postfix(
            folder,
            delivers=True,
            extra=HYPHENS + self.shipped("main.cf"),
            services=SERVICES + self.shipped("master.cf"),
        )
        (folder / "transport").write_text(self.shipped("transport"))
        self.command("postmap", f"hash:{folder}/transport")

    def command(self, name: str, *words: str) -> None:
        """One of Postfix's own commands."""
        package = unpacked("postfix")
        subprocess.run(
            [package.folder / "usr/sbin" / name, "-c", self.postfix.folder / "etc", *words],
            env={"PATH": "/usr/sbin:/usr/bin", "LD_LIBRARY_PATH": package.library_path},
            capture_output=True,
            check=True,
        )

    def shipped(self, name: str) -> str:
        """One of the files of etc/postfix, but for paths and the user."""
        text = (ETC / name).read_text()
        for there, here in (
            ("/etc/postfix/transport", f"{self.folder}/transport"),
            ("/usr/local/bin/muawrap", str(self.program)),
            ("user=muawrap ", "user=www-data "),
        ):
            text = text.replace(there, here)
        return text

    def send(self, sender: str, recipients: list[str], text: bytes = b"Subject: hi\n\nhello\n") -> None:
        with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=PATIENCE) as client:
            assert client.sendmail(sender, recipients, text.replace(b"\n", b"\r\n")) == {}

    def logged(self, pattern: str, count: int = 1) -> list[str]:
        """What Postfix says of this, as soon as it has said it so many times."""
        deadline = time.monotonic() + PATIENCE
        while len(found := re.findall(pattern, self.postfix.log)) < count:
            assert time.monotonic() < deadline, (self.postfix.folder / "output").read_text() + self.postfix.log
            time.sleep(0.005)  # between two looks at a file
        return found

    def held(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted((self.spool / "cheshire" / "new").glob("*"))]

    def muawrap(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """As the user of the spool."""
        return subprocess.run(
            [self.program, *words],
            env={},
            user=WWW_DATA,
            group=WWW_DATA,
            extra_groups=[],
            capture_output=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def sink() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def front(sink: Server) -> Iterator[Front]:
    if os.geteuid() != 0:
        missing("root, to run Postfix")
    with public_folder() as folder:
        made = Front(folder, sink)
        with made.postfix:
            yield made


def test_a_message_for_two_domains_of_a_host_is_held_once_and_shipped(front: Front, sink: Server) -> None:
    """INTERMITTENT 6.8: sender, recipients and bytes as they came; the queue id is its id; one connection."""
    recipients = ["Al@cheshire.example", '"a b"@shop.cheshire.example', "-x@cheshire.example"]
    text = b"Subject: Gr\xc3\xbc\xc3\x9fe\nBcc: b@x.example\n\n.dot\nFrom here\n\n\xff\n"
    front.send("Me+x@client.example", recipients, text)
    front.logged("status=sent .delivered via muahold service", 3)
    [file] = front.held()
    [queue_id] = set(re.findall(r"postfix/pipe\[\d+\]: (\w+): to=", front.postfix.log))
    assert queue_id in file.decode(errors="replace")
    done = front.muawrap("ship", "cheshire")
    assert (done.returncode, done.stderr) == (0, b"")
    [session] = sink.finished()
    [message] = session.accepted
    assert message.sender == b"Me+x@client.example"
    assert sorted(message.recipients) == sorted(map(str.encode, recipients))
    assert message.text.endswith(text.replace(b"\n", b"\r\n"))
    assert front.held() == []


def test_the_null_sender_stays_null(front: Front, sink: Server) -> None:
    """INTERMITTENT 6.8: null_sender=, since Postfix says MAILER-DAEMON otherwise."""
    front.send("", ["al@cheshire.example"])
    front.logged("status=sent .delivered via muahold service")
    assert front.muawrap("ship", "cheshire").returncode == 0
    [session] = sink.finished()
    assert [message.sender for message in session.accepted] == [b""]


@pytest.mark.row("H4")
def test_what_postfix_gives_once_more_is_held_once(front: Front, sink: Server) -> None:
    """INTERMITTENT 6.3: as after a crash between our answer and its note of it; two alike are two."""
    front.send("me@client.example", ["al@cheshire.example"])
    front.logged("status=sent .delivered via muahold service")
    [queue_id] = set(re.findall(r"postfix/pipe\[\d+\]: (\w+): to=", front.postfix.log))
    [file] = front.held()
    text = file.partition(b"DATA\n")[2].removesuffix(b".\n").replace(b"\n..", b"\n.")
    again = [
        front.program,
        "hold",
        "--id",
        queue_id,
        "-f",
        "me@client.example",
        "cheshire",
        "--",
        "al@cheshire.example",
    ]
    subprocess.run(again, input=text, env={}, user=WWW_DATA, group=WWW_DATA, extra_groups=[], check=True)
    assert len(front.held()) == 1
    front.send("me@client.example", ["al@cheshire.example"])
    front.logged("status=sent .delivered via muahold service", 2)
    assert len(front.held()) == 2


def test_what_cannot_be_held_stays_with_postfix(front: Front, sink: Server) -> None:
    """INTERMITTENT 6.3: 75 is "later", the log of Postfix has our sentence, and the next attempt succeeds."""
    good = front.config.read_text()
    front.config.write_text(good.replace("[hold.cheshire]", "[hold.other]"))
    front.send("me@client.example", ["al@cheshire.example"])
    [said] = set(front.logged(r"status=deferred \(temporary failure. Command output: (.*)\)"))
    assert said.startswith('muawrap: not held, try again: there is no host "cheshire"')
    front.config.write_text(good)
    deadline = time.monotonic() + PATIENCE
    while "status=sent (delivered via muahold service)" not in front.postfix.log:
        assert time.monotonic() < deadline, front.postfix.log
        front.command("postqueue", "-f")  # which does nothing while the message is still at hand
        time.sleep(0.1)  # between two looks
    assert len(front.held()) == 1
