"""A SOCKS5 proxy: it looks the name up and connects; its own trouble is told from that of the host behind it."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from muawrap import config
from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import smarthosts, socks
from muawrap.submission.deliver import deliver
from muawrap.submission.dial import Dial
from muawrap.submission.socks import Proxy
from tests.submission.offering import PATIENT, failure_of, offer, smart_host
from tests.support.canary import CANARY
from tests.support.certificates import Authority
from tests.support.program import Program
from tests.support.server import Drip, Drop, Raw, Reset, Server, Silence
from tests.support.socks_server import SocksServer

NAME = "smtp.nowhere.example"
USER = {b"alice": CANARY.encode()}


def behind(proxy: SocksServer | int, address: str = NAME, login: str = "", **fields: Any) -> SmartHost:
    port = proxy if isinstance(proxy, int) else proxy.port
    fields.setdefault("timeouts", PATIENT)
    return smart_host(25, address=address, proxy=f"socks5://{login}127.0.0.1:{port}", **fields)


@pytest.fixture(autouse=True)
def _no_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN: dial-on-demand, and Tor: a question to DNS would raise the line, or tell where we are about to go."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        assert named["flags"] & socket.AI_NUMERICHOST, host
        return real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("extensions", [("PIPELINING", "CHUNKING"), ("8BITMIME",)])
def test_a_message_goes_by_the_proxy_which_gets_the_name(extensions: tuple[str, ...]) -> None:
    """RFC 1928, 4: no look-up here."""
    with Server(extensions=extensions) as server, SocksServer({NAME: server.port}) as proxy:
        receipt = deliver(offer(behind(proxy), hostname=""))
        (session,) = server.finished()
        assert proxy.asked == [f"{NAME}:25"]
    assert receipt.host == f"{NAME}:25"
    assert [message.accepted for message in session.messages] == [True]
    assert session.commands[0] == b"EHLO localhost"  # our address is known to the proxy only


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_goes_as_an_address(address: str) -> None:
    """RFC 1928, 5."""
    with Server() as server, SocksServer({address: server.port}) as proxy:
        deliver(offer(behind(proxy, address)))
        assert proxy.asked == [f"{address}:25"]


@pytest.mark.parametrize(
    "bound",
    [
        bytes((1, 0, 0, 0, 0, 0, 0)),
        bytes((4, *range(18))),
        bytes((3, 0, 0, 25)),
        bytes((3, 255)) + b"x" * 255 + b"\0\1",
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_follows_the_answer_is_the_hosts(bound: bytes, together: bool) -> None:
    """The greeting comes in the same piece as the answer, or the answer octet by octet: none is lost."""
    answer = bytes((5, 0, 0)) + bound
    action = Raw(answer + b"220 early\r\n") if together else Drip(answer, 0.001)
    silent = {"greeting": Silence()} if together else {}
    with (
        Server(silent) as server,
        SocksServer({NAME: server.port}, {"reply": action}) as proxy,
        Dial(behind(proxy)).connected() as made,
    ):
        made.settimeout(5)
        greeting = made.recv(100)
    assert greeting == (b"220 early\r\n" if together else b"220 server.example ESMTP\r\n")


def test_tls_ends_at_the_host(authority: Authority, tmp_path: Path) -> None:
    """The certificate is that of the name, and the proxy sees TLS only."""
    with (
        Server(context=authority.server_context(NAME), implicit_tls=True) as server,
        SocksServer({NAME: server.port}) as proxy,
    ):
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        host = behind(proxy, scheme="submissions", ca_file=ca_file)
        assert deliver(offer(host)).tls.startswith("TLSv1.")


# -- logging in


def test_a_login_is_given_where_the_proxy_asks_for_it() -> None:
    """RFC 1929; a password may hold the signs of a URL."""
    users = {b"alice": "p:a@ss\u00e4".encode()}
    with Server() as server, SocksServer({NAME: server.port}, users=users) as proxy:
        deliver(offer(behind(proxy, login="alice:p:a@ss\u00e4@")))
        assert proxy.asked == [f"{NAME}:25"]


def test_a_login_is_not_given_where_none_is_asked_for() -> None:
    """RFC 1928, 3: the proxy decides."""
    with Server() as server, SocksServer({NAME: server.port}) as proxy:
        deliver(offer(behind(proxy, login=f"alice:{CANARY}@")))
        assert CANARY.encode() not in bytes(proxy.finished()[0].raw)


def test_a_wrong_password_is_refused() -> None:
    """A3: without the password."""
    with SocksServer(users={b"alice": b"other"}) as proxy:
        failure = failure_of(offer(behind(proxy, login=f"alice:{CANARY}@")))
        where = f"127.0.0.1:{proxy.port}"
    assert failure.sentence() == f"{NAME}:25: the proxy {where} refused the login while connecting"
    assert (failure.lead, failure.advice) == (REFUSED, "look at user and password in proxy")


def test_a_login_that_is_missing_is_asked_for() -> None:
    with SocksServer(users=USER) as proxy:
        failure = failure_of(offer(behind(proxy)))
    assert failure.what.endswith(" wants a login")
    assert failure.lead == REFUSED
    assert 'proxy = "socks5://USER:PASSWORD@HOST:PORT"' in failure.advice


def test_a_proxy_that_knows_other_logins_only() -> None:
    with SocksServer(script={"method": b"\x05\xff"}) as proxy:
        failure = failure_of(offer(behind(proxy, login=f"alice:{CANARY}@")))
    assert failure.what.endswith(" takes no login by password")


# -- trouble: the proxy's, or the host's


@pytest.mark.parametrize(
    ("code", "words", "lead"),
    [
        (1, "it failed, and does not say why", TRY_AGAIN),
        (2, "its rules forbid that", REFUSED),
        (3, "the network cannot be reached", TRY_AGAIN),
        (4, "the host cannot be reached", TRY_AGAIN),
        (5, "connection refused", TRY_AGAIN),
        (6, "the way is too long (TTL expired)", TRY_AGAIN),
        (7, "it makes no connections", REFUSED),
        (8, "it does not know this kind of address", REFUSED),
        (9, "its code for that is 9", TRY_AGAIN),
        (255, "its code for that is 255", TRY_AGAIN),
    ],
)
def test_what_the_proxy_says_of_the_host_is_told(code: int, words: str, lead: str) -> None:
    """RFC 1928, 6: each code has its words, and the line names host and proxy."""
    with SocksServer(script={"reply": Raw(bytes((5, code, 0, 1)) + bytes(6))}) as proxy:
        failure = failure_of(offer(behind(proxy)))
    sentence = f"{NAME}:25: the proxy 127.0.0.1:{proxy.port} made no connection: {words} while connecting"
    assert (failure.sentence(), failure.lead, failure.stage) == (sentence, lead, Stage.CONNECT)


def test_a_proxy_that_cannot_be_reached_is_to_blame_itself(closed_port: int) -> None:
    failure = failure_of(offer(behind(closed_port)))
    what = f"the proxy 127.0.0.1:{closed_port} cannot be reached: connection refused"
    assert failure.sentence() == f"{NAME}:25: {what} while connecting"
    assert failure.lead == TRY_AGAIN


def test_a_proxy_whose_name_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(host: SmartHost) -> list[smarthosts.Address]:
        assert (host.host, host.port) == ("proxy.example", 1080)
        advice = "look at the name of the smart host, and at DNS"
        raise Failure("name or service not known", lead=REFUSED, host=str(host), stage=Stage.CONNECT, advice=advice)

    monkeypatch.setattr(smarthosts, "addresses", addresses)
    host = smart_host(25, address=NAME, proxy=f"socks5://al:{CANARY}@proxy.example:1080")
    failure = failure_of(offer(host))
    what = "the proxy proxy.example:1080 cannot be reached: name or service not known"
    assert failure.sentence() == f"{NAME}:25: {what} while connecting"
    assert (failure.lead, failure.advice) == (REFUSED, "proxy names it")


@pytest.mark.parametrize("stage", ["method", "reply"])
@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Drop(), "closed the connection"),
        (Reset(), "broke the connection (connection reset by peer)"),
        (Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "sent what is no SOCKS5"),
    ],
)
def test_a_proxy_that_is_none_or_goes_away_is_to_blame_itself(stage: str, action: Any, words: str) -> None:
    with SocksServer(script={stage: action}) as proxy:
        failure = failure_of(offer(behind(proxy)))
    assert failure.what == f"the proxy 127.0.0.1:{proxy.port} {words}"


@pytest.mark.parametrize("octets", [b"\x05\x07", b"\x05\x02"])
def test_a_method_that_was_not_offered_is_no_socks5(octets: bytes) -> None:
    """RFC 1928, 3."""
    with SocksServer(script={"method": Raw(octets)}) as proxy:
        assert failure_of(offer(behind(proxy))).what.endswith("sent what is no SOCKS5")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({"method": Silence()}, "was silent for 0.3 s"),
        ({"reply": Silence()}, "made no connection within 0.3 s"),
        ({"reply": Drip(bytes((5, 0, 0, 3, 200)) + bytes(202), 0.02)}, "made no connection within 0.3 s"),
    ],
)
def test_connect_covers_proxy_and_host_together(script: dict[str, Any], words: str) -> None:
    """S3: one deadline, however slowly the octets come."""
    limits = PATIENT._replace(connect=0.3)
    begun = time.monotonic()
    with SocksServer(script=script) as proxy:
        failure = failure_of(offer(behind(proxy, timeouts=limits)))
    assert time.monotonic() - begun < 3
    assert (failure.what, failure.lead) == (f"the proxy 127.0.0.1:{proxy.port} {words}", TRY_AGAIN)


def test_a_host_that_hangs_up_behind_the_proxy_is_to_blame_itself() -> None:
    """A3: from the proxy's yes on all is as without it."""
    with Server({"greeting": Drop()}) as server, SocksServer({NAME: server.port}) as proxy:
        failure = failure_of(offer(behind(proxy)))
    assert failure.sentence() == f"{NAME}:25: lost the connection while waiting for the greeting"


def test_the_next_host_has_its_turn_without_the_proxy(closed_port: int) -> None:
    """C1: a proxy is a host's own."""
    with Server() as server:
        receipt = deliver(offer(behind(closed_port), smart_host(server)))
    assert "cannot be reached" in receipt.degraded[0]


def test_a_silent_host_is_not_called_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy would be taken for it."""
    monkeypatch.setattr("muawrap.submission.connection.SILENCE", 0.05)
    with Server({"greeting": Silence()}) as server, SocksServer({NAME: server.port}) as proxy:
        host = behind(proxy, timeouts=PATIENT._replace(greeting=0.3))._replace(port=587)
        failure_of(offer(host))
        assert len(proxy.finished()) == 1


def test_source_address_and_family_are_about_the_proxy() -> None:
    """muawrap.toml(5): they are about the connection that is made here."""
    with Server() as server, SocksServer({NAME: server.port}) as proxy:
        deliver(offer(behind(proxy, source_address="127.0.0.77", family="ipv4")))
        failure = failure_of(offer(behind(proxy, family="ipv6")))
    assert failure.what == f"the proxy 127.0.0.1:{proxy.port} cannot be reached: it has no IPv6 address"
    assert failure.advice == "family and source_address decide which addresses are tried"


def test_a_source_address_that_is_not_ours_is_not_the_proxys_fault(closed_port: int) -> None:
    """A3: the advice names the key that is wrong; where the proxy itself is, it names that."""
    failure = failure_of(offer(behind(closed_port, source_address="192.0.2.1")))
    what = "cannot be reached: cannot connect from 192.0.2.1: cannot assign requested address"
    assert failure.what == f"the proxy 127.0.0.1:{closed_port} {what}"
    assert failure.advice == "source_address must be an address of this machine"
    assert failure_of(offer(behind(closed_port))).advice == "proxy names it"


# -- the URL


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("socks5://127.0.0.1:9050", Proxy("127.0.0.1", 9050)),
        ("socks5h://proxy.example:1080/", Proxy("proxy.example", 1080)),
        ("socks5://[::1]:1080", Proxy("::1", 1080)),
        ("socks5://al:p@ss:w@[::1]:1080", Proxy("::1", 1080, "al", "p@ss:w")),
    ],
)
def test_a_url_is_taken_apart(url: str, made: Proxy) -> None:
    assert socks.proxy(url) == made
    assert "p@ss" not in f"{made} {made!r}"


@pytest.mark.parametrize("login", ["a" * 256 + ":x", "a:" + "x" * 256, ":x", "a:"])
def test_a_login_that_rfc_1929_has_no_room_for_is_refused(login: str, tmp_path: Path) -> None:
    """RFC 1929, 2: 1 to 255 octets each."""
    file = tmp_path / "muawrap.toml"
    file.write_text(f'smart_hosts = [{{ url = "smtp://a.example", proxy = "socks5://{login}@b.example:1080" }}]\n')
    file.chmod(0o600)
    with pytest.raises(Failure, match="1 to 255 octets"):
        config.load(str(file), {})


# -- from outside


def test_the_password_of_a_proxy_is_nowhere_to_be_read(program: Program) -> None:
    """G8: Program.run() looks for it in output and log; the early connection goes by the proxy, too."""
    with Server() as server, SocksServer({NAME: server.port}, users=USER) as proxy:
        url = f"socks5://alice:{CANARY}@127.0.0.1:{proxy.port}"
        program.configure(
            f'smart_hosts = [{{ url = "smtp://{NAME}", proxy = "{url}" }}]\n'
            'from = "me@client.example"\nhostname = "client.example"\n'
        )
        done = program.run("-v", "you@example.net", stdin=b"Subject: x\n\nx\n")
        assert done.status == 0
        assert len(proxy.finished()) == 1
        proxy.users = {b"alice": b"other"}
        assert "refused the login" in program.run("you@example.net", stdin=b"\nx\n").sentence
    lines = done.err.decode().splitlines()
    assert lines[:2] == [
        f"--- connecting to {NAME}:25 by the proxy 127.0.0.1:{proxy.port}",
        f"--- connected to 127.0.0.1:{proxy.port}",
    ]
    program.config.chmod(0o644)
    assert "holds a password and is readable by everybody" in program.run("you@example.net", stdin=b"\nx\n").sentence
