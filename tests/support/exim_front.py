"""A real Exim in front: it takes a message, routes it by a table of domains, and hands it to `muawrap hold` or a file.

    with exim_front(PIPE, {"wonderland.example": "cheshire"}) as front:
        front.submit("me@client.example", ["Bob@wonderland.example"], b"Subject: hello\n\nHello.\n")
        front.log                                   # what became of it
        front.run("-qff")                           # it tries again what was deferred

It runs as whoever runs the tests, or as nobody where that is root, for whom no Exim delivers; so all of it, and
muawrap too, stands in a folder that everybody may read. INTERMITTENT 6.7 has what a postmaster writes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.need import need
from tests.support.program import REPOSITORY, python_of_everybody
from tests.support.user import NOBODY, public_folder

CONFIG = """\
exim_user = {uid}
exim_group = {gid}
admin_groups = {gid}
deliver_drop_privilege
primary_hostname = mx.isp.example
spool_directory = {folder}/exim
log_file_path = {folder}/exim/%slog
notifier_socket =
exim_path = {exim}
keep_environment =
trusted_users = {uid}
write_rejectlog = false
disable_ipv6
rfc1413_query_timeout = 0s
{main}
{acl}
begin routers
held:
  driver = manualroute
  domains = lsearch;{folder}/hosts
  route_data = ${{lookup{{$domain}}lsearch{{{folder}/hosts}}}}
  caseful_local_part
  transport = hold
begin transports
hold:
{transport}
begin retry
* * F,1h,1m
"""

BATCH = "use_bsmtp\nbatch_max = 1000\nbatch_id = $host\nrcpt_include_affixes\n"
CAREFUL = "log_output\nreturn_fail_output\ntimeout_defer\nfreeze_signal\nfreeze_exec_fail\n"
FIELDS = "return_path_add\nenvelope_to_add\ndelivery_date_add\n"

FILE = f"driver = appendfile\ndirectory = {{spool}}/$host/new\nmode = 0660\ndirectory_mode = 0770\n{BATCH}"
"""Transport A: no process is involved."""
MAILDIR = f"driver = appendfile\nmaildir_format\ndirectory = {{spool}}/$host\nmode = 0660\nbatch_max = 1000\n{FIELDS}"
MAILSTORE = "driver = appendfile\nmailstore_format\ndirectory = {spool}/$host/new\nmode = 0660\nbatch_max = 1000\n"
PIPE = f"driver = pipe\ncommand = {{muawrap}} hold --bsmtp $host\n{BATCH}{CAREFUL}"
"""Transport B."""
# The sender comes by the environment: $sender_address is tainted, and no argument of a command.
PLAIN_PIPE = (
    "driver = pipe\ncommand = {muawrap} hold $host -- $pipe_addresses\n"
    f"batch_max = 1000\nbatch_id = $host\n{FIELDS}{CAREFUL}"
)
LMTP = "driver = lmtp\ncommand = {muawrap} hold --lmtp $host\nbatch_max = 1000\nbatch_id = $host\n"


@dataclass
class Front:
    """An Exim that has been set up; `spool` is muawrap's."""

    folder: Path
    exim: str
    uid: int

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def log(self) -> str:
        """Exim's main log and its panic log."""
        logs = [self.folder / "exim" / name for name in ("mainlog", "paniclog")]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    @property
    def muawrap_log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Exim with its configuration, to its end."""
        return subprocess.run(
            [self.exim, "-C", str(self.folder / "exim.conf"), *words],
            input=stdin,
            capture_output=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd=self.folder,
            user=self.uid if self.uid != os.geteuid() else None,
            group=self.uid if self.uid != os.geteuid() else None,
            extra_groups=[] if self.uid != os.geteuid() else None,
            check=False,
            timeout=60,
        )

    def submit(self, sender: str, recipients: Sequence[str], text: bytes) -> None:
        """A message comes in, and is delivered once before this returns."""
        done = self.run("-odi", "-oi", "-f", sender or "<>", "--", *recipients, stdin=text)
        assert done.returncode == 0, done

    def waiting(self) -> int:
        """How many messages Exim still has."""
        return sum(1 for _ in (self.folder / "exim" / "input").rglob("*-H"))

    def files(self, host: str, folder: str = "new") -> list[Path]:
        """What stands in a folder of a host in muawrap's spool."""
        place = self.spool / host / folder
        return sorted(place.iterdir()) if place.exists() else []

    def muawrap(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """`muawrap` as Exim runs it."""
        return subprocess.run(
            [str(self.folder / "muawrap"), *words], input=stdin, capture_output=True, env={}, check=False, timeout=60
        )


@contextmanager
def exim_front(
    transport: str, hosts: Mapping[str, str], *, main: str = "", acl: str = "", more: str = ""
) -> Iterator[Front]:
    """Set up: `hosts` are domains and the host of each, `more` stands at the end of muawrap's configuration.

    In `transport` {muawrap}, {spool} and {folder} are filled in.
    """
    exim = need("exim4")
    uid = os.geteuid() or NOBODY
    with public_folder() as folder:
        shutil.copytree(REPOSITORY / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        front = Front(folder, exim, uid)
        tables = "".join(f'[hold.{host}]\nto = "smtp://127.0.0.1:9"\n' for host in dict.fromkeys(hosts.values()))
        _write(folder / "muawrap.toml", f'spool = "{folder}/spool"\nlog = "{folder}/log"\n{tables}{more}', 0o644)
        _write(
            folder / "muawrap",
            f"#!/bin/sh\nexport PYTHONPATH={folder}/src:{_packages()} PYTHONDONTWRITEBYTECODE=1\n"
            f'command=$1; shift\nexec {python_of_everybody()} -c "from muawrap.admin.program import main; main()" '
            f'"$command" -C {folder}/muawrap.toml "$@"\n',
            0o755,
        )
        _write(folder / "hosts", "".join(f"{domain}: {host}\n" for domain, host in hosts.items()), 0o644)
        filled = transport.format(muawrap=folder / "muawrap", spool=front.spool, folder=folder)
        gid = uid if uid != os.geteuid() else os.getegid()
        text = CONFIG.format(
            uid=uid,
            gid=gid,
            folder=folder,
            exim=exim,
            main=main.format(folder=folder, muawrap=folder / "muawrap"),
            acl=acl,
            transport="".join(f"  {line}\n" for line in filled.splitlines()),
        )
        _write(folder / "exim.conf", text, 0o644)
        for name in ("exim", "spool"):
            (folder / name).mkdir(mode=0o700)
        for path in (folder, folder / "exim", folder / "spool"):
            os.chown(path, uid, gid)
        yield front


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


def _packages() -> str:
    """Where click is; the interpreter may be another one than ours."""
    import click

    return str(Path(click.__file__).parents[1])
