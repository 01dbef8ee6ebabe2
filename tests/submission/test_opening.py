"""What is done before the dialogue: secrets, looked for once in a delivery and within its time."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from muawrap.failure import TRY_AGAIN, Failure, Stage
from muawrap.mail import Auth, Secret, SmartHost
from muawrap.submission.deliver import deliver
from muawrap.submission.opening import Known, Opening
from tests.submission.offering import PATIENT, failure_of, login, offer, smart_host
from tests.support.server import Server, Silence

USERS = {"alice": "s3cret"}


def command(script: str) -> Secret:
    return Secret("command", ("/bin/sh", "-c", script))


def by_command(script: str, where: Server | int, **fields: float) -> SmartHost:
    """A host whose password a command prints."""
    auth = Auth("alice", (command(script),), allow_plaintext=True)
    return smart_host(where, policy="none", auth=auth, timeouts=PATIENT._replace(**fields))


# -- once in a delivery


def test_a_secret_that_fails_fails_once_for_all_hosts(tmp_path: Path) -> None:
    """C7: each host tells it, but a keyring that nobody unlocks is waited for once, not for every endpoint of a srv://."""
    ran = tmp_path / "ran"
    script = f"echo >> {ran}; exit 1"
    hosts = [by_command(script, port) for port in (1, 2, 3)]
    failure = failure_of(offer(*hosts))
    assert [reason.what for reason in failure.reasons] == ["the password command /bin/sh failed with exit status 1"] * 3
    assert [reason.host for reason in failure.reasons] == [f"127.0.0.1:{port}" for port in (1, 2, 3)]
    assert ran.read_text() == "\n"
    with pytest.raises(Failure):
        deliver(offer(*hosts), opening=Opening(hosts[0]))  # as sendmail begins one; and the next delivery asks anew
    assert ran.read_text() == "\n\n"


def test_a_secret_that_is_found_is_found_once(tmp_path: Path, closed_port: int) -> None:
    """C1: by the same places for the same user; another user's is another one."""
    ran = tmp_path / "ran"
    with Server(users=USERS) as server:
        first, last = (by_command(f"echo >> {ran}; echo s3cret", where) for where in (closed_port, server))
        other = first._replace(auth=first.auth._replace(user="bob"))
        assert deliver(offer(first, other, last)).user == "alice"
    assert ran.read_text() == "\n\n"


def test_what_one_host_left_no_time_for_is_looked_for_again(tmp_path: Path) -> None:
    """C7: `timeouts.total` is of each host; what the dialogue with another one took is not the secret's failure."""
    script = f"if [ -e {tmp_path}/unlocked ]; then echo t0ken; else sleep 60; fi"
    auth = login(token=(command(script),), mechanisms=("XOAUTH2", "PLAIN"))
    host = smart_host(1, policy="none", auth=auth, timeouts=PATIENT._replace(total=30))
    known: Known = {}
    first = Opening(host, known=known)
    first.end = time.monotonic() + 0.05
    with pytest.raises(Failure):
        first.find("token")
    (tmp_path / "unlocked").touch()
    second = Opening(host, known=known)
    assert second.find("token") == "t0ken"
    for opening in (first, second):
        opening.close()


def test_a_netrc_is_read_for_every_host(tmp_path: Path, closed_port: int) -> None:
    """RFC 6186, 6: its password is one machine's."""
    netrc = tmp_path / "netrc"
    netrc.touch(0o600)
    netrc.write_text("machine localhost login alice password wrong\nmachine 127.0.0.1 login alice password s3cret\n")
    auth = Auth("alice", (Secret("netrc", str(netrc)),), allow_plaintext=True)
    with Server(users=USERS) as server:
        hosts = [
            smart_host(closed_port, policy="none", address="localhost", auth=auth),
            smart_host(server, policy="none", auth=auth),
        ]
        assert deliver(offer(*hosts)).user == "alice"


def test_the_next_delivery_looks_again(tmp_path: Path) -> None:
    """DESIGN 2: a token, or a password that was changed, is another one by then."""
    ran = tmp_path / "ran"
    with Server(users=USERS) as server:
        for _ in range(2):
            deliver(offer(by_command(f"echo >> {ran}; echo s3cret", server)))
    assert ran.read_text() == "\n\n"


# -- what is looked for


@pytest.mark.parametrize(
    ("mechanisms", "looked_for"),
    [((), True), (("XOAUTH2",), True), (("EXTERNAL", "OAUTHBEARER"), True), (("EXTERNAL",), False)],
)
def test_a_token_is_looked_for_only_where_it_could_be_used(mechanisms: tuple[str, ...], looked_for: bool) -> None:
    """DESIGN 2: whoever logs in by a certificate needs none, and no command that prints one."""
    host = smart_host(25, auth=Auth("alice", (), mechanisms, token=(Secret("command", ("/bin/false",)),)))
    failure = Opening(host, begin=False).failure
    assert (failure is not None) == looked_for


# -- timeouts.total


def test_the_total_ends_the_search_for_a_secret() -> None:
    """muawrap.toml(5), timeouts.total: for all of one host; the line names the command, which is what took the time."""
    with Server(users=USERS) as server:
        failure = failure_of(offer(by_command("sleep 60; echo s3cret", server, total=0.5)))
        assert (failure.stage, failure.lead) == (Stage.AUTH, TRY_AGAIN)
        assert re.fullmatch(r"the password command /bin/sh took longer than 0\.\d+ s", failure.what)
        assert server.finished() == []


def test_a_secret_that_took_most_of_the_total_is_named() -> None:
    """A3: the host had no time to answer, and is not to blame."""
    with Server({"greeting": Silence()}, users=USERS) as server:
        failure = failure_of(offer(by_command("sleep 1.1; echo s3cret", server, total=2)))
        assert (failure.stage, failure.what) == (Stage.GREETING, "timed out")
        assert failure.advice.startswith("looking for the secret took 1.")
        assert failure.advice.endswith(" s of timeouts.total")


def test_a_host_that_takes_all_of_the_total_is_to_blame_itself() -> None:
    """A3: nothing is said of the secret then."""
    with Server({"greeting": Silence()}, users=USERS) as server:
        host = smart_host(server, policy="none", auth=login(), timeouts=PATIENT._replace(total=0.2))
        failure = failure_of(offer(host))
        assert failure.stage is Stage.GREETING
        assert "secret" not in failure.advice
