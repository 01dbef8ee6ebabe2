"""From which address and by which family a smart host is reached."""

from __future__ import annotations

import socket

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import smarthosts
from muawrap.submission.deliver import deliver
from muawrap.submission.dial import Dial
from muawrap.submission.smarthosts import Address
from tests.submission.offering import PATIENT, failure_of, offer, smart_host
from tests.support.need import missing
from tests.support.program import Program
from tests.support.server import Server, Silence

FOUR, SIX = socket.AF_INET, socket.AF_INET6
ELSEWHERE = {"192.0.2.1": "127.0.0.1", "2001:db8::1": "::1"}  # for documentation only (RFC 5737, RFC 3849)


@pytest.fixture(autouse=True)
def _six() -> None:
    try:
        with socket.create_server(("::1", 0), family=SIX):
            pass
    except OSError:
        missing("IPv6 on the loopback")


def peer(host: SmartHost, server: socket.socket) -> str:
    """By which address the server sees us."""
    with Dial(host).connected():
        made, name = server.accept()
        made.close()
    return str(name[0])


@pytest.mark.parametrize(("address", "source"), [("127.0.0.1", "127.0.0.77"), ("::1", "::1")])
def test_a_connection_comes_from_the_address_that_is_set(address: str, source: str) -> None:
    """muawrap.toml(5), source_address: both families."""
    with socket.create_server((address, 0), family=SIX if ":" in address else FOUR) as server:
        host = smart_host(server.getsockname()[1], address=address, source_address=source)
        assert peer(host, server) == source


@pytest.mark.parametrize(("source", "address"), ELSEWHERE.items())
def test_an_address_that_is_not_ours_is_said_to_be_none(source: str, address: str) -> None:
    """A3, C6: it may come up with the line, so that it is no refusal."""
    failure = failure_of(offer(smart_host(25, address=address, source_address=source)))
    what = f"cannot connect from {source}: cannot assign requested address"
    assert failure.sentence().endswith(f":25: {what} while connecting")
    assert (failure.lead, failure.stage) == (TRY_AGAIN, Stage.CONNECT)
    assert failure.advice == "source_address must be an address of this machine"


def named(monkeypatch: pytest.MonkeyPatch, server: socket.socket) -> None:
    """A name with addresses of both families, on the port of this server."""
    port = server.getsockname()[1]
    both = [Address(SIX, ("::1", port, 0, 0)), Address(FOUR, ("127.0.0.1", port))]
    monkeypatch.setattr(smarthosts, "addresses", lambda host: both)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "::1"),
        ({"family": "ipv4"}, "127.0.0.1"),
        ({"family": "ipv6"}, "::1"),
        ({"source_address": "127.0.0.77"}, "127.0.0.77"),
        ({"source_address": "::1"}, "::1"),
    ],
)
def test_only_addresses_of_the_family_are_tried(
    fields: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """muawrap.toml(5), family: that of source_address is no other."""
    with socket.create_server(("::", 0), family=SIX, dualstack_ipv6=True) as server:
        named(monkeypatch, server)
        seen = peer(smart_host(25, address="mail.example.org", **fields), server)
    assert seen.removeprefix("::ffff:") == expected


@pytest.mark.parametrize(
    ("address", "fields", "name"),
    [
        ("127.0.0.1", {"family": "ipv6"}, "IPv6"),
        ("127.0.0.1", {"source_address": "::1"}, "IPv6"),
        ("::1", {"family": "ipv4"}, "IPv4"),
    ],
)
def test_a_literal_of_the_other_family_is_refused(address: str, fields: dict[str, str], name: str) -> None:
    """A3."""
    failure = failure_of(offer(smart_host(25, address=address, **fields)))
    assert (failure.what, failure.lead) == (f"it has no {name} address", REFUSED)
    assert "family" in failure.advice


def test_a_name_without_such_an_address_may_have_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A3: a resolver that failed for one family tells the others."""
    monkeypatch.setattr(smarthosts, "addresses", lambda host: [Address(FOUR, ("127.0.0.1", 25))])
    with pytest.raises(Failure) as caught:
        Dial(smart_host(25, address="mail.example.org", family="ipv6")).connected()
    assert (caught.value.what, caught.value.lead) == ("it has no IPv6 address", TRY_AGAIN)
    assert caught.value.host == "mail.example.org:25"


def test_no_second_connection_comes_from_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent server is not asked whether it waits for TLS: the owner wants to be seen as one address."""
    monkeypatch.setattr("muawrap.submission.connection.SILENCE", 0.05)
    with Server({"greeting": Silence()}) as server:
        limits = PATIENT._replace(greeting=0.3)
        failure_of(offer(smart_host(server, source_address="127.0.0.77", timeouts=limits)))
        assert len(server.finished()) == 1


def test_the_address_literal_of_ehlo_is_the_one_that_is_seen() -> None:
    """RFC 5321, 4.1.3."""
    with Server() as server:
        deliver(offer(smart_host(server, source_address="127.0.0.77"), hostname=""))
        assert server.finished()[0].commands[0] == b"EHLO [127.0.0.77]"


def test_each_host_has_its_own(program: Program) -> None:
    """muawrap.toml(5): keys of a host's table, and the early connection minds them, too."""
    with Server() as server:
        program.configure(
            f'smart_hosts = [{{ url = "smtp://127.0.0.1:{server.port}", source_address = "192.0.2.1" }},\n'
            f'  {{ url = "smtp://127.0.0.1:{server.port}", source_address = "127.0.0.77", family = "ipv4" }}]\n'
            'from = "me@client.example"\n'
        )
        assert program.run("-v", "you@example.net", stdin=b"\nx\n").status == 0
        assert len(server.finished()) == 1
    assert f"127.0.0.1:{server.port}: cannot connect from 192.0.2.1" in program.log
