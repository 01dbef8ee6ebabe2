"""A real Dovecot as LMTP server, on a loopback port and on a unix socket, with mailboxes that tests can read.

    with DovecotLmtp(folder, {"a@x.example": "", "full@x.example": "1K"}) as dovecot:
        ...                                   # send something to 127.0.0.1, dovecot.port, or to dovecot.path
        [text] = dovecot.mails("a@x.example")

It needs root, to deliver as an account of its own; its configuration, mailboxes and log stand in `folder`, and nothing
outside changes. Who is no user is refused at RCPT; who is over quota, only once the text is known. Where
dovecot-lmtpd is not installed beside dovecot-core, its one program is unpacked in a cache folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.exim import end, held_port
from tests.support.need import missing, need
from tests.support.unpacked import Unavailable, unpacked

PATIENCE = 20.0  # seconds; how long the daemon may take to listen
OWNER = 65534  # of the mailboxes

CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = lmtp
ssl = no
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_plugins = quota
postmaster_address = postmaster@x.example
hostname = dovecot.example
lmtp_save_to_detail_mailbox = no
{more}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
plugin {{
  quota = maildir:User quota
}}
service lmtp {{
  executable = {lmtp}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener {path} {{
    mode = 0666
  }}
}}
"""


def executable() -> str:
    """The program of dovecot-lmtpd."""
    installed = Path("/usr/lib/dovecot/lmtp")
    if installed.exists():
        return str(installed)
    try:
        return str(unpacked("dovecot-lmtpd").folder / "usr/lib/dovecot/lmtp")
    except Unavailable as error:
        return missing(str(error))


class DovecotLmtp:
    def __init__(self, folder: Path, users: Mapping[str, str], more: str = "") -> None:
        """`users` have a quota each, such as "1K", "" for none."""
        if os.getuid() != 0:
            missing("root, which Dovecot delivers as others by")
        self.dovecot = need("dovecot")
        self.folder = folder
        self.path = folder / "lmtp"
        (folder / "run").mkdir()
        (folder / "mail").mkdir()
        os.chown(folder / "mail", OWNER, OWNER)
        rows = (
            f"{user}::{OWNER}:{OWNER}::{folder}/mail/{user}::"
            + (f"userdb_quota_rule=*:storage={quota}" if quota else "")
            for user, quota in users.items()
        )
        (folder / "users").write_text("\n".join(rows) + "\n")
        self._held = held_port()
        self.port: int = self._held.getsockname()[1]
        settings = {"folder": folder, "lmtp": executable(), "port": self.port, "path": self.path, "more": more}
        (folder / "dovecot.conf").write_text(CONFIGURATION.format(**settings))

    def __enter__(self) -> DovecotLmtp:
        self._held.close()
        command = [self.dovecot, "-F", "-c", str(self.folder / "dovecot.conf")]
        with (self.folder / "said").open("wb") as said:
            self._daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(f"Dovecot does not run: {(self.folder / 'said').read_text()}{self.log}")
            time.sleep(0.02)
        return self

    def __exit__(self, *exception: object) -> None:
        end(self._daemon)
        shutil.rmtree(self.folder / "run", ignore_errors=True)  # its sockets

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                probe.settimeout(5)
                return probe.recv(3) == b"220"
        except OSError:
            return False

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def mails(self, user: str) -> list[bytes]:
        """The texts that stand in a mailbox, without the two or three fields Dovecot puts in front."""
        return [
            path.read_bytes().partition(b"Message-ID:")[2]
            for path in (self.folder / "mail" / user).glob("Maildir/new/*")
        ]

    def forget(self) -> None:
        """Empty all mailboxes."""
        for user in (self.folder / "mail").iterdir():
            shutil.rmtree(user)
