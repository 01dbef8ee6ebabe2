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
from collections.abc import Mapping
from pathlib import Path

from tests.support.dovecot_daemon import Daemon, greets, programs
from tests.support.exim import end, held_port

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


class DovecotLmtp(Daemon):
    def __init__(self, folder: Path, users: Mapping[str, str], more: str = "") -> None:
        """`users` have a quota each, such as "1K", "" for none."""
        super().__init__(folder)
        self.path = folder / "lmtp"
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
        settings = {
            "folder": folder,
            "lmtp": programs("dovecot-lmtpd", "lmtp") / "lmtp",
            "port": self.port,
            "path": self.path,
            "more": more,
        }
        (folder / "dovecot.conf").write_text(CONFIGURATION.format(**settings))

    def __enter__(self) -> DovecotLmtp:
        self._held.close()
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        end(self._daemon)
        shutil.rmtree(self.folder / "run", ignore_errors=True)  # its sockets

    def _answers(self) -> bool:
        return greets(self.port)

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
