"""A real Dovecot that looks after logins: for a mail server that asks it over a socket, or at its own submission port.

    with DovecotLogins(folder, queue / "private" / "auth", {"al": "pencil"}, ["PLAIN"], owner="daemon"):
        ...                                   # a Postfix with smtpd_sasl_path = private/auth

It needs root; its configuration and log stand in `folder`, and nothing outside changes but for the socket. Passwords
stand in its file as they are, which every mechanism can do with. A wrong one delays nothing, but for half a second
before the answer to most mechanisms.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from tests.support.dovecot_daemon import Daemon, greets, programs
from tests.support.exim import end_group, held_port

NOBODY = 65534  # who hands over the mail
WITHOUT_PASSWORD = ("EXTERNAL", "OAUTHBEARER", "XOAUTH2")

COMMON = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
auth_mechanisms = {mechanisms}
# Any, such as a comma
auth_username_chars =
passdb {{
  driver = passwd-file
  args = {folder}/users
  mechanisms = {by_password}
  default_fields = nodelay
}}
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""

LOGINS = """\
protocols =
ssl = no
service auth {{
  # The folder may be closed to everybody else
  user = root
  unix_listener {socket} {{
    mode = 0600
    user = {owner}
  }}
}}
"""

SUBMISSION = """\
protocols = submission
hostname = dovecot.example
# Which is not there, and not asked for
mail_location = maildir:/nonexistent
ssl = required
ssl_cert = <{pem}
ssl_key = <{pem}
ssl_ca = <{ca_file}
ssl_require_crl = no
# Who has a certificate is whom it names
ssl_verify_client_cert = yes
auth_ssl_username_from_cert = yes
passdb {{
  driver = static
  args = nopassword=y
  mechanisms = external
}}
passdb {{
  driver = oauth2
  args = {folder}/oauth2
  mechanisms = oauthbearer xoauth2
}}
userdb {{
  driver = static
  args = uid={nobody} gid={nobody} home=/nonexistent
}}
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
service auth {{
  user = root
}}
service submission-login {{
  executable = {programs}/submission-login
  inet_listener submission {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener submissions {{
    address = 127.0.0.1
    port = {tls_port}
    ssl = yes
  }}
}}
service submission {{
  executable = {programs}/submission
}}
"""


TOKENS = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={folder}/keys/
username_attribute = sub
"""
KEY = b"the key that signs the tokens..."


def token(user: str, seconds: int = 3600) -> str:
    """What Dovecot takes for XOAUTH2 and OAUTHBEARER: a JSON Web Token (RFC 7519) that is good for so long."""
    now = int(time.time())
    claims = {"sub": user, "iat": now - 3600, "nbf": now - 3600, "exp": now + seconds}
    said = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{said}.{_base64(hmac.digest(KEY, said.encode(), 'sha256'))}"


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


class _Dovecot(Daemon):
    def __init__(self, folder: Path, users: Mapping[str, str], mechanisms: Collection[str], more: str) -> None:
        """`users` have their passwords; `more` is the rest of its configuration."""
        super().__init__(folder)
        (folder / "users").write_text("".join(f"{user}:{{PLAIN}}{password}\n" for user, password in users.items()))
        by_password = " ".join(mechanism.lower() for mechanism in mechanisms if mechanism not in WITHOUT_PASSWORD)
        common = COMMON.format(folder=folder, mechanisms=" ".join(mechanisms).lower(), by_password=by_password)
        (folder / "dovecot.conf").write_text(common + more)

    def stop(self) -> None:
        end_group(self._daemon.pid)  # it has nothing to lose, and asked to end it takes a second
        self._daemon.wait()


class DovecotLogins(_Dovecot):
    """It checks logins for a mail server, and does nothing else."""

    def __init__(
        self,
        folder: Path,
        path: Path,  # the socket
        users: Mapping[str, str],  # name -> password
        mechanisms: Collection[str],
        owner: str = "root",  # who may ask it
    ) -> None:
        super().__init__(folder, users, mechanisms, LOGINS.format(socket=path, owner=owner))
        self.path = path

    def __enter__(self) -> DovecotLogins:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        return self.path.is_socket()


class DovecotSubmission(_Dovecot):
    """It takes mail from who has logged in, and hands it over to a mail server while they wait."""

    def __init__(
        self,
        folder: Path,
        users: Mapping[str, str],
        mechanisms: Collection[str],
        pem: Path,  # its certificate and key
        ca_file: Path,  # who vouches for clients with a certificate
        relay: int,  # the port of the mail server
    ) -> None:
        # Bound but never listening, so that the ports stay ours
        self._held = [held_port(), held_port()]
        self.port, self.tls_port = (held.getsockname()[1] for held in self._held)
        more = SUBMISSION.format(
            folder=folder,
            pem=pem,
            ca_file=ca_file,
            nobody=NOBODY,
            relay=relay,
            programs=programs("dovecot-submissiond", "submission-login"),
            port=self.port,
            tls_port=self.tls_port,
        )
        super().__init__(folder, users, mechanisms, more)
        (folder / "oauth2").write_text(TOKENS.format(folder=folder))
        key = folder / "keys" / "default" / "HS256" / "default"
        key.parent.mkdir(parents=True)
        key.write_bytes(base64.b64encode(KEY))

    def __enter__(self) -> DovecotSubmission:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        for held in self._held:
            held.close()

    def _answers(self) -> bool:
        return greets(self.port)
