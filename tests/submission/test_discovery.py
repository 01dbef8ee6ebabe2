"""srv:// and mx:// entries: what is asked of DNS, in which order its answers are tried, what is said without."""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dns.resolver
import pytest

from muawrap import config
from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.holding.asking import servers
from muawrap.mail import Auth, Secret, SmartHost, Timeouts, Tls
from muawrap.submission import discovery, lookup, smarthosts, tls
from muawrap.submission.deliver import deliver
from muawrap.submission.opening import Opening
from tests.submission.offering import PATIENT, failure_of, login, offer, smart_host
from tests.submission.test_dialogue import BOTH, verbs
from tests.support import nameserver, own_dns
from tests.support.certificates import Authority
from tests.support.nameserver import NameServer
from tests.support.program import Program, Result
from tests.support.server import Server

DOMAIN = "client.example"
TLS, STARTTLS = f"_submissions._tcp.{DOMAIN}", f"_submission._tcp.{DOMAIN}"
HURRIED = Timeouts(connect=0.4)

Zones = dict[str, Sequence[str]]
Serve = Callable[[Zones], NameServer]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A name server with these zones, which is asked from now on."""
    with ExitStack() as stack:

        def make(zones: Zones) -> NameServer:
            server = stack.enter_context(NameServer(zones))
            monkeypatch.setattr(lookup, "resolver", lambda _: server.resolver())
            return server

        yield make


def srv(domain: str = DOMAIN, policy: str = "required", **fields: Any) -> SmartHost:
    secure: dict[str, Any] = {name: str(fields.pop(name)) for name in ("ca_file", "server_name") if name in fields}
    fields.setdefault("timeouts", PATIENT)
    return SmartHost(f"srv://{domain}", "srv", domain, 0, tls=Tls(policy, **secure), **fields)


def mx(domain: str = DOMAIN, **fields: Any) -> SmartHost:
    fields.setdefault("timeouts", PATIENT)
    return SmartHost(f"mx://{domain}", "mx", domain, 0, tls=Tls("if-offered"), **fields)


def places(entry: SmartHost) -> list[str]:
    return [f"{host.scheme}://{host.host}:{host.port}" for host in discovery.endpoints(entry)]


def why_not(entry: SmartHost) -> Failure:
    with pytest.raises(Failure) as caught:
        discovery.find(entry)
    assert (caught.value.stage, caught.value.host) == (Stage.CONNECT, entry.host)
    return caught.value


# -- srv:// ----------------------------------------------------------------------------------------------------------


def test_tls_at_once_comes_before_starttls_whatever_the_priorities(serve: Serve) -> None:
    """RFC 8314, 5.1; RFC 2782: a lower priority first, within one service."""
    serve(
        {
            TLS: ["SRV 20 0 465 b.client.example.", "SRV 10 0 1465 a.client.example."],
            STARTTLS: ["SRV 5 9 587 d.client.example.", "SRV 0 1 2587 c.client.example."],
        }
    )
    assert places(srv()) == [
        "submissions://a.client.example:1465",
        "submissions://b.client.example:465",
        "submission://c.client.example:2587",
        "submission://d.client.example:587",
    ]


def test_port_465_is_tls_at_once_whatever_service_names_it(serve: Serve) -> None:
    """RFC 8314, 3.3: such a server waits for a handshake while we wait for its greeting; the others are as ever."""
    serve(
        {STARTTLS: ["SRV 0 1 465 a.client.example.", "SRV 1 1 587 b.client.example.", "SRV 2 1 465 c.client.example."]}
    )
    assert places(srv()) == [
        "submissions://a.client.example:465",
        "submission://b.client.example:587",
        "submissions://c.client.example:465",
    ]
    [first, *_] = discovery.endpoints(srv())
    assert first.names == ("a.client.example", DOMAIN)  # the certificate is asked for the same as ever


def test_an_endpoint_keeps_what_is_set_for_its_entry_and_tells_its_record(serve: Serve) -> None:
    """muawrap.toml(5): auth, TLS and timeouts are those of the entry; lines name the endpoint and how it was found."""
    server = serve({TLS: ["SRV 0 1 465 Mail.Client.Example."]})
    entry = srv("Client.Example", auth=login(), source_address="127.0.0.1", family="ipv4", sender="al@client.example")
    [(host, record)] = discovery.find(entry).endpoints
    names = ("mail.client.example", "client.example")
    assert host == entry._replace(scheme="submissions", host="mail.client.example", port=465, names=names)
    assert (str(entry), str(host)) == ("srv://Client.Example", "mail.client.example:465 (by srv://Client.Example)")
    assert record == "_submissions._tcp.Client.Example SRV 0 1 465 Mail.Client.Example."
    assert server.asked.total() == 2


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("client.example", ("client.example",)),
        ("mail.client.example", ("mail.client.example", "client.example")),
        ("a.b.client.example", ("a.b.client.example", "client.example")),
        ("mail.other.example", ("client.example",)),
        ("notclient.example", ("client.example",)),
        ("example", ("client.example",)),
        ("client.example.evil.example", ("client.example",)),
    ],
)
def test_a_certificate_is_for_the_domain_or_for_a_host_under_it(
    target: str, names: tuple[str, ...], serve: Serve
) -> None:
    """RFC 6186, 6: DNS alone does not choose who gets the password."""
    serve({TLS: [f"SRV 0 1 465 {target}."]})
    assert discovery.endpoints(srv())[0].names == names
    [named] = discovery.endpoints(srv(server_name="this.example"))
    assert (named.names, tls.name_to_ask_for(named)) == (names, "this.example")


DRAWS = 10_000


def draws(serve: Serve, *weights: int) -> list[tuple[int, ...]]:
    """The orders of DRAWS draws, as places in the list of weights."""
    serve({TLS: [f"SRV 0 {weight} {1000 + number} a.client.example." for number, weight in enumerate(weights)]})
    entry = srv()
    answers = lookup.ask(discovery.questions(entry), 5)
    random.seed(2782)
    return [
        tuple(endpoint.host.port - 1000 for endpoint in discovery.chosen(entry, answers).endpoints)
        for _ in range(DRAWS)
    ]


def agree(counts: Counter[int], shares: Sequence[float], drawn: int) -> None:
    """Within five standard deviations: of a fair draw one in a million is not."""
    for number, share in enumerate(shares):
        allowed = 5 * math.sqrt(drawn * share * (1 - share))
        assert abs(counts[number] - drawn * share) <= allowed, (number, counts[number], share)


@pytest.mark.parametrize("weights", [(10, 20, 70), (0, 0, 0)])
def test_draws_match_the_weights(weights: tuple[int, ...], serve: Serve) -> None:
    """RFC 2782: the chance of being first is the share of the weight, and so it goes on among those that are left."""
    orders = draws(serve, *weights)
    effective = [weight or 1 for weight in weights]
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(len(weights)))}
    agree(Counter(order[0] for order in orders), [one / sum(effective) for one in effective], DRAWS)
    if len(weights) > 2:
        rest = [order for order in orders if order[0] == len(weights) - 1]
        left = effective[:-1]
        agree(Counter(order[1] for order in rest), [one / sum(left) for one in left], len(rest))


def test_a_weight_of_zero_has_a_very_small_chance_beside_others(serve: Serve) -> None:
    """RFC 2782: small, but not none."""
    first = Counter(order[0] for order in draws(serve, 0, 10, 20))
    assert 0 < first[0] < DRAWS / 100
    assert abs(first[1] / first[2] - 0.5) < 0.1


def test_a_target_of_a_dot_is_no_service(serve: Serve) -> None:
    """RFC 2782, RFC 6186, 3.4: the other service may be there all the same."""
    server = serve({TLS: ["SRV 0 0 0 ."], STARTTLS: ["SRV 0 0 587 mail.client.example."]})
    found = discovery.find(srv())
    assert [endpoint.host.port for endpoint in found.endpoints] == [587]
    assert found.failures == ()
    server.zones.popitem()
    failure = why_not(srv())
    assert failure.what == f"the domain offers no submission, says the SRV record of {TLS},"
    assert failure.lead == REFUSED


@pytest.mark.parametrize(("trouble", "seconds"), [(nameserver.SERVFAIL, 5), (nameserver.SILENCE, 1)])
def test_half_an_answer_is_an_answer_and_the_other_half_is_told(trouble: str, seconds: float, serve: Serve) -> None:
    """A5: logged as degraded, since the better service may be among what is missing."""
    serve({TLS: [trouble], STARTTLS: ["SRV 0 0 587 mail.client.example."]})
    found = discovery.find(srv(timeouts=Timeouts(connect=seconds)))
    assert [endpoint.host.port for endpoint in found.endpoints] == [587]
    assert [failure.lead for failure in found.failures] == [TRY_AGAIN]
    assert TLS in str(found.failures[0])


def test_what_is_no_endpoint_is_left_out(serve: Serve) -> None:
    """Hostile records: port 0 would be a unix socket, and an address no certificate is for; the rest is tried."""
    serve(
        {
            TLS: [
                "SRV 0 0 0 etc.passwd.example.",
                "SRV 1 0 465 127.0.0.1.",
                r"SRV 2 0 465 \027[31m.example.",
                r"SRV 3 0 465 two\032words.example.",
                r"SRV 4 0 465 a\.b.example.",
                "SRV 5 0 465 -x.example.",
                "SRV 6 0 465 good_one.example.",
            ]
        }
    )
    assert places(srv()) == ["submissions://good_one.example:465"]


def test_of_thousands_of_records_some_are_tried(serve: Serve) -> None:
    """Bounded: each may take timeouts.connect."""
    serve({TLS: [nameserver.LARGE, *(f"SRV 0 1 {port} a.client.example." for port in range(1, 1001))]})
    assert len(discovery.endpoints(srv())) == discovery.LIMIT


# -- mx:// -----------------------------------------------------------------------------------------------------------


def test_mx_hosts_are_tried_by_preference_and_equal_ones_in_any_order(serve: Serve) -> None:
    """RFC 5321, 5.1."""
    serve({DOMAIN: ["MX 20 c.client.example.", "MX 10 b.other.example.", "MX 10 a.other.example."]})
    orders = {tuple(host.host for host in discovery.endpoints(mx())) for _ in range(40)}
    assert orders == {
        ("a.other.example", "b.other.example", "c.client.example"),
        ("b.other.example", "a.other.example", "c.client.example"),
    }
    first = discovery.endpoints(mx())[0]
    assert (first.scheme, first.port, first.names, first.tls.policy) == ("smtp", 25, (), "if-offered")


def test_a_domain_without_mx_is_its_own_host(serve: Serve) -> None:
    """RFC 5321, 5.1: the implicit MX."""
    serve({DOMAIN: []})
    [endpoint] = discovery.find(mx()).endpoints
    assert str(endpoint.host) == "client.example:25 (by mx://client.example)"
    assert endpoint.record == "client.example has no MX record and is asked itself"


def test_a_null_mx_takes_no_mail(serve: Serve) -> None:
    """RFC 7505: not even at the domain's own address."""
    serve({DOMAIN: ["MX 0 .", "A 127.0.0.1"]})
    failure = why_not(mx())
    assert str(failure) == "client.example: the domain takes no mail, says its MX record, while connecting"
    assert failure.lead == REFUSED


# -- no answer -------------------------------------------------------------------------------------------------------

LOOP: Zones = {TLS: [f"CNAME {STARTTLS}."], STARTTLS: [f"CNAME {TLS}."], DOMAIN: [f"CNAME {DOMAIN}."]}
LONG: Zones = {
    **{name: ["CNAME 0.long.example."] for name in (TLS, STARTTLS, DOMAIN)},
    **{f"{number}.long.example": [f"CNAME {number + 1}.long.example."] for number in range(20)},
}


def everywhere(*records: str) -> Zones:
    return dict.fromkeys((TLS, STARTTLS, DOMAIN), records)


@pytest.mark.parametrize(
    ("zones", "by_srv", "by_mx", "lead"),
    [
        ({}, f"DNS does not know {TLS} or {STARTTLS}", f"DNS does not know {DOMAIN}", REFUSED),
        (everywhere(), f"DNS has no SRV record for {TLS} or {STARTTLS}", None, REFUSED),
        (
            everywhere(nameserver.SERVFAIL),
            f"the name server answered SERVFAIL for {TLS} or {STARTTLS}",
            f"the name server answered SERVFAIL for {DOMAIN}",
            TRY_AGAIN,
        ),
        (
            everywhere(nameserver.REFUSED),
            f"the name server answered REFUSED for {TLS} or {STARTTLS}",
            f"the name server answered REFUSED for {DOMAIN}",
            TRY_AGAIN,
        ),
        (
            everywhere(nameserver.SILENCE),
            f"no name server answered for {TLS} or {STARTTLS} within 0.4 s",
            f"no name server answered for {DOMAIN} within 0.4 s",
            TRY_AGAIN,
        ),
        (
            everywhere(nameserver.LARGE, nameserver.SILENCE),
            f"no name server answered for {TLS} or {STARTTLS} within 0.4 s",
            f"no name server answered for {DOMAIN} within 0.4 s",
            TRY_AGAIN,
        ),
        (
            LOOP,
            f"the aliases in DNS of {TLS} or {STARTTLS} go round in circles, or too far,",
            f"the aliases in DNS of {DOMAIN} go round in circles, or too far,",
            REFUSED,
        ),
        (
            LONG,
            f"the aliases in DNS of {TLS} or {STARTTLS} go round in circles, or too far,",
            f"the aliases in DNS of {DOMAIN} go round in circles, or too far,",
            REFUSED,
        ),
        (
            {TLS: ["SRV 0 0 465 127.0.0.1."], DOMAIN: ["MX 5 127.0.0.1."]},
            f"the SRV record of {TLS} names no host: 0 0 465 127.0.0.1.",
            f"the MX record of {DOMAIN} names no host: 5 127.0.0.1.",
            REFUSED,
        ),
        (
            {TLS: [nameserver.SERVFAIL], STARTTLS: ["SRV 0 0 0 ."]},
            f"the name server answered SERVFAIL for {TLS}",
            None,
            TRY_AGAIN,
        ),
        ({TLS: []}, f"DNS has no SRV record for {TLS}", None, REFUSED),
    ],
    ids=[
        *("unknown", "empty", "SERVFAIL", "REFUSED", "silence", "silence on TCP", "alias loop", "alias chain"),
        *("no host", "what may pass outweighs", "what exists outweighs"),
    ],
)
def test_each_kind_of_no_has_its_sentence(
    zones: Zones, by_srv: str, by_mx: str | None, lead: str, serve: Serve
) -> None:
    """C1: one sentence for all that was asked, the trouble that may pass first; within timeouts.connect."""
    serve(zones)
    timeouts = HURRIED if "within" in by_srv else PATIENT
    began = time.monotonic()
    failure = why_not(srv(timeouts=timeouts))
    assert (failure.what, failure.lead) == (by_srv, lead)
    if by_mx is not None:
        failure = why_not(mx(timeouts=timeouts))
        assert (failure.what, failure.lead) == (by_mx, lead)
    assert time.monotonic() - began < 5


def test_timeouts_total_ends_the_question_too(serve: Serve) -> None:
    """muawrap.toml(5), timeouts.total: until the final dot, whatever is waited for."""
    serve(everywhere(nameserver.SILENCE))
    failure = why_not(mx(timeouts=Timeouts(connect=20, total=0.2)))
    assert failure.what == f"no name server answered for {DOMAIN} within 0.2 s"


def test_garbage_is_no_answer(serve: Serve) -> None:
    """C1: it may be anybody's, so that the true answer is waited for."""
    serve(everywhere(nameserver.GARBAGE))
    failure = why_not(srv(timeouts=HURRIED))
    assert failure.lead == TRY_AGAIN
    assert f"{TLS} or {STARTTLS}" in failure.what


def test_no_name_server_is_there(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """C1: without a network nobody waits for the end of timeouts.connect."""
    resolver = serve({}).resolver()
    resolver.nameservers = ["::ffff:255.255.255.255"]  # no packet is sent to it
    monkeypatch.setattr(lookup, "resolver", lambda _: resolver)
    began = time.monotonic()
    failure = why_not(mx(timeouts=Timeouts(connect=20)))
    assert time.monotonic() - began < 10
    assert failure.what.startswith("no name server can be asked for client.example (")
    assert (failure.lead, failure.advice) == (TRY_AGAIN, "is the network up?")


def test_aliases_are_followed(serve: Serve) -> None:
    """RFC 1034, 3.6.2: hosting providers have a name of their own for the records of all their customers."""
    serve(
        {
            TLS: ["CNAME one.host.example."],
            "one.host.example": ["CNAME two.host.example."],
            "two.host.example": ["SRV 0 0 465 mail.host.example."],
        }
    )
    assert places(srv()) == ["submissions://mail.host.example:465"]


def test_what_is_too_large_for_udp_is_asked_by_tcp(serve: Serve) -> None:
    server = serve({DOMAIN: [nameserver.LARGE, "MX 1 mail.client.example."]})
    assert places(mx()) == ["smtp://mail.client.example:25"]
    assert server.over == {"udp": 1, "tcp": 1}


def test_a_domain_that_no_service_can_have_is_unknown(serve: Serve) -> None:
    """C1: with the name of the service before it, it is longer than a name may be."""
    server = serve({})
    failure = why_not(srv(".".join(letter * 61 for letter in "abcd")))
    assert failure.what.startswith("DNS does not know _submissions._tcp.aaa")
    assert server.asked.total() == 0


def test_without_threads_the_questions_are_asked_one_by_one(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """A process limit is no reason to lose mail."""
    serve({TLS: ["SRV 0 0 465 mail.client.example."]})

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert places(srv()) == ["submissions://mail.client.example:465"]


def test_without_dnspython_another_host_may_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: DESIGN, dependencies: what only some configurations need may be missing."""
    monkeypatch.setitem(sys.modules, "dns.resolver", None)
    failure = why_not(mx())
    assert "needs the Python package dnspython, which cannot be loaded" in failure.what
    assert failure.advice.startswith("install it: apt install python3-dnspython, or ")
    with Server() as server:
        receipt = deliver(offer(mx(), smart_host(server)))
    assert len(receipt.degraded) == 1


# -- in turn ---------------------------------------------------------------------------------------------------------


def at_localhost(*ports: int) -> Zones:
    """STARTTLS at these ports of this machine, in this order."""
    return {STARTTLS: [f"SRV {number} 0 {port} localhost." for number, port in enumerate(ports)]}


def test_an_entry_that_fails_is_one_reason_and_the_next_is_tried(serve: Serve) -> None:
    """C1, C7: three entries, of which DNS does not know one and fails for another."""
    serve({"b.example": [nameserver.SERVFAIL]})
    with Server() as server:
        receipt = deliver(offer(srv("a.example"), mx("b.example"), smart_host(server)))
    assert [reason.partition(":")[0] for reason in receipt.degraded] == ["a.example", "b.example"]
    assert "DNS does not know _submissions._tcp.a.example" in receipt.degraded[0]
    assert "SERVFAIL" in receipt.degraded[1]
    assert receipt.host == f"127.0.0.1:{server.port}"


def test_when_all_fail_each_tells_its_reason(serve: Serve) -> None:
    """C7: what may pass at one may pass."""
    serve({"b.example": [nameserver.SERVFAIL]})
    failure = failure_of(offer(srv("a.example"), mx("b.example")))
    assert [reason.host for reason in failure.reasons] == ["a.example", "b.example"]
    assert failure.lead == TRY_AGAIN


def test_dns_is_not_asked_before_the_entry_has_its_turn(serve: Serve) -> None:
    """C1, INTERMITTENT: a dial-on-demand line is not raised for what is not needed."""
    asked = serve(at_localhost(1)).asked
    with Server() as server:
        deliver(offer(smart_host(server), srv(policy="none")))
    assert asked.total() == 0


def test_the_first_target_is_dead_and_the_second_takes_it(serve: Serve, closed_port: int) -> None:
    """C1, B6: only at the last endpoint of the last entry everything leaves in one flight."""
    with Server({"EHLO": "550 no", "HELO": "550 no"}, extensions=BOTH) as rude, Server(extensions=BOTH) as good:
        serve(at_localhost(closed_port, rude.port, good.port))
        receipt = deliver(offer(srv(policy="none")))
        (session,) = good.finished()
    assert receipt.host == f"localhost:{good.port} (by srv://client.example)"
    assert [reason.partition(" (by ")[0].split()[0] for reason in receipt.degraded] == [
        f"localhost:{closed_port}",
        f"localhost:{rude.port}",
    ]
    assert verbs(session) == [["EHLO"], ["MAIL", "RCPT", "BDAT"], ["QUIT"]]


def test_before_the_last_endpoint_the_envelope_goes_first(serve: Serve, closed_port: int) -> None:
    """B6: a loss could still move to the next endpoint, or to the next entry."""
    with Server(extensions=BOTH) as good:
        for zones, entries in (
            (at_localhost(good.port, closed_port), [srv(policy="none")]),
            (at_localhost(good.port), [srv(policy="none"), srv("b.example", policy="none")]),
        ):
            serve(zones)
            deliver(offer(*entries))
        sessions = good.finished()
    assert [verbs(session) for session in sessions] == [[["EHLO"], ["MAIL", "RCPT"], ["BDAT"], ["QUIT"]]] * 2


def test_an_endpoint_that_is_listed_too_is_tried_once(serve: Serve) -> None:
    """C4: in whichever order; and the one flight of B6 knows that nothing comes after it."""
    with Server([{"greeting": "554 no"}, {}], extensions=BOTH) as server:
        serve(at_localhost(server.port))
        entry = srv(policy="none", server_name="x.example")
        listed = entry._replace(
            url=f"submission://LOCALHOST:{server.port}", scheme="submission", host="LOCALHOST", port=server.port
        )
        failure = failure_of(offer(entry, listed))
        assert (failure.reasons, len(server.finished())) == ((), 1)
        deliver(offer(entry, listed))
        assert verbs(server.finished()[1]) == [["EHLO"], ["MAIL", "RCPT", "BDAT"], ["QUIT"]]


def test_an_endpoint_that_was_listed_before_is_not_tried_again(serve: Serve, closed_port: int) -> None:
    """C4: its neighbours are, each in its turn."""
    with Server(extensions=BOTH) as server:
        serve(at_localhost(closed_port, server.port))
        entry = srv(policy="none", server_name="x.example")
        listed = entry._replace(
            url=f"submission://localhost:{closed_port}", scheme="submission", host="localhost", port=closed_port
        )
        receipt = deliver(offer(listed, listed, entry))
    assert len(receipt.degraded) == 2  # as often as it is listed, and not for the entry
    assert receipt.host == f"localhost:{server.port} (by srv://client.example)"


@pytest.mark.parametrize(
    ("tried", "names", "covered"),
    [((), (), True), (("a.x", "x"), (), True), ((), ("a.x", "x"), False), (("x",), (), False), ((), ("x",), False)],
)
def test_another_name_for_the_certificate_is_another_attempt(
    tried: tuple[str, ...], names: tuple[str, ...], covered: bool
) -> None:
    """C4: what the certificate of the first attempt was refused for may be good enough for the second."""
    host = SmartHost("submissions://a.x", "submissions", "a.x", 465)
    assert smarthosts.covers(host._replace(names=tried), host._replace(names=names, url="srv://x")) is covered
    assert not smarthosts.covers(host, host._replace(port=466))
    alone = host._replace(tls=Tls(server_name="y"))  # whatever else it is called, the certificate is for that name
    assert smarthosts.covers(alone._replace(names=tried), alone._replace(names=names))


def test_dial_delay_asks_dns_again(serve: Serve) -> None:
    """C6: a name that could not be looked up is a host that could not be connected."""
    with Server() as good:
        server = serve({STARTTLS: [nameserver.SERVFAIL]})
        told = []

        def trace(mark: str, line: str) -> None:
            told.append(line)
            if told.count("asking DNS for srv://client.example") == 2:
                server.zones.update(NameServer.read(at_localhost(good.port)))

        receipt = deliver(offer(srv(policy="none"), dial_delay=0.01), trace)
    assert receipt.degraded == ()
    assert f"{STARTTLS} SRV 0 0 {good.port} localhost." in told


def test_a_server_that_is_asked_for_mail_may_be_found_by_dns(serve: Serve, closed_port: int) -> None:
    """etrn and atrn of muawrap(1): entry after entry, endpoint after endpoint."""
    with Server() as server:
        serve(at_localhost(closed_port, server.port))
        settings = config.load(None, {"MUAWRAP_SMART_HOSTS": "smtp://127.0.0.1"})
        asked = servers.Server("client.example", (mx("b.example"), srv(policy="none")))
        connection = servers.reached(asked, settings)
        assert str(connection.smart_host) == f"localhost:{server.port} (by srv://client.example)"
        connection.leave()
        with pytest.raises(Failure) as caught:
            servers.reached(asked._replace(hosts=asked.hosts[:1]), settings)
    assert caught.value.what == "DNS does not know b.example"


# -- whose certificate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [TLS, STARTTLS])
@pytest.mark.parametrize(
    ("names", "server_name", "good"),
    [
        ((DOMAIN,), "", True),
        (("localhost",), "", False),  # a name that DNS told, and the user did not
        (("localhost", DOMAIN), "", True),
        (("mail.client.example",), "", False),
        (("localhost",), "localhost", True),
        ((DOMAIN,), "localhost", False),
    ],
)
def test_a_foreign_host_shows_the_domain_of_the_user(
    service: str,
    names: tuple[str, ...],
    server_name: str,
    good: bool,
    serve: Serve,
    authority: Authority,
    tmp_path: Path,
) -> None:
    """RFC 6186, 6: and no password before that."""
    context = authority.server_context(*names)
    entry = srv(auth=login(), ca_file=authority.ca_file(tmp_path / "ca.pem"), server_name=server_name)
    with Server(context=context, implicit_tls=service == TLS, users={"alice": login().password[0].value}) as server:  # type: ignore[dict-item]
        serve({service: [f"SRV 0 0 {server.port} localhost."]})
        if good:
            assert deliver(offer(entry)).user == "alice"
        else:
            failure = failure_of(offer(entry))
            assert (failure.stage, failure.host) == (Stage.TLS, f"localhost:{server.port} (by srv://client.example)")
            assert not any(command.startswith(b"AUTH") for session in server.finished() for command in session.commands)


@pytest.mark.parametrize("server_name", ["", "this.example"])
@pytest.mark.parametrize(
    ("target", "password"),
    [("mail.client.example", "ours"), ("bank.example", "domain's"), ("client.example", "domain's")],
)
def test_dns_does_not_choose_which_password_of_a_netrc_is_told(
    target: str, password: str, server_name: str, serve: Serve, tmp_path: Path
) -> None:
    """RFC 6186, 6: that of another machine goes to that machine, and not to whoever says to be it."""
    words = "machine {} login alice password {}\n"
    passwords = {"bank.example": "bank's", "mail.client.example": "ours", DOMAIN: "domain's"}
    netrc = tmp_path / "netrc"
    netrc.touch(0o600)
    netrc.write_text("".join(words.format(*pair) for pair in passwords.items()))
    serve({TLS: [f"SRV 0 1 465 {target}."]})
    entry = srv(auth=Auth("alice", (Secret("netrc", str(netrc)),)), server_name=server_name)
    [host] = discovery.endpoints(entry)
    assert Opening(host, begin=False).password == password


# -- the program -----------------------------------------------------------------------------------------------------

MESSAGE = b"Subject: hello\n\nHello.\n"


@pytest.fixture
def own_address() -> str:
    return own_dns.own_address()


def run(program: Program, resolv_conf: str, *argv: str) -> Result:
    """The program where this is /etc/resolv.conf."""
    return program.run(*argv, stdin=MESSAGE, before=own_dns.resolving(program.folder, resolv_conf))


def test_the_program_finds_its_host_by_srv(
    program: Program, own_address: str, authority: Authority, closed_port: int
) -> None:
    """A1, A2, A5: by /etc/resolv.conf, with the first target dead, TLS verified by the user's domain, and AUTH."""
    ca_file = authority.ca_file(program.folder / "ca.pem")
    server = Server(context=authority.server_context(DOMAIN), implicit_tls=True, users={"al": "s3cret"})
    with server:
        zones: Zones = {
            TLS: [f"SRV 0 0 {closed_port} dead.client.example.", f"SRV 1 0 {server.port} mail.host.example."],
            STARTTLS: ["SRV 0 0 0 ."],
            "dead.client.example": ["A 127.0.0.1"],
            "mail.host.example": ["A 127.0.0.1"],
        }
        program.configure(
            f'smart_hosts = ["srv://{DOMAIN}"]\nfrom = "al@{DOMAIN}"\n'
            f'[auth]\nuser = "al"\npassword = "s3cret"\n[tls]\nca_file = "{ca_file}"\n'
        )
        with NameServer(zones, own_address, 53) as names:
            result = run(program, f"nameserver {own_address}\nsearch other.example\n", "you@example.net")
        assert result == Result(0, b"", b"")
        assert [session.authenticated for session in server.finished()] == ["al"]
    assert f'host="mail.host.example:{server.port} (by srv://{DOMAIN})"' in program.log
    assert f"dead.client.example:{closed_port} (by srv://{DOMAIN}): connection refused" in program.log
    assert not [name for name in names.asked if "other.example" in name]


def test_the_program_finds_its_host_by_mx_and_shows_how(program: Program, own_address: str) -> None:
    """RFC 5321, 5.1; sendmail(8), -v: the records stand among the remarks."""
    with Server(host=own_address, port=25) as server:
        program.configure(f'smart_hosts = ["mx://{DOMAIN}"]\nfrom = "al@{DOMAIN}"\n')
        zones: Zones = {DOMAIN: ["MX 0 mx.host.example."], "mx.host.example": [f"A {own_address}"]}
        with NameServer(zones, own_address, 53):
            result = run(program, f"nameserver {own_address}\n", "-v", "you@example.net")
        assert result.status == 0
        assert b"asking DNS for mx://client.example" in result.err + result.out
        assert b"client.example MX 0 mx.host.example." in result.err + result.out
        assert len(server.accepted) == 1
    assert f'host="mx.host.example:25 (by mx://{DOMAIN})"' in program.log


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        (b"nameserver nonsense\nnameserver 127.0.0.2\n", ["127.0.0.2"]),
        (b"nameserver\nnameserver 127.0.0.2 # ours\nnameserver https://dns.example\n", ["127.0.0.2"]),
        (b"search a..b\ndomain " + b"x" * 300 + b"\n\xff\xfe\nnameserver ::1\n", ["::1"]),
        (b"nameserver nonsense\n", ["127.0.0.1"]),
        (b"", ["127.0.0.1"]),
        (None, ["127.0.0.1"]),
    ],
)
def test_a_bad_line_of_resolv_conf_spoils_no_other(
    text: bytes | None, servers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S13: it is skipped, as the C library does it, and where none is left the local name server is asked."""
    file = tmp_path / "resolv.conf"
    if text is not None:
        file.write_bytes(text)
    monkeypatch.setattr(lookup, "CONFIGURATION", str(file))
    assert [str(server) for server in lookup.resolver(dns.resolver).nameservers] == servers


@pytest.mark.parametrize(
    ("resolv_conf", "words"),
    [
        ("nameserver nonsense\n", "client.example: no name server "),
        ("options timeout:0\n", "client.example: no name server "),
        ("nameserver {address}\noptions timeout:0 attempts:9\n", "client.example: no name server "),
    ],
    ids=["nonsense", "empty", "nobody there"],
)
def test_a_resolver_that_is_not_there_is_one_line(
    resolv_conf: str, words: str, program: Program, own_address: str
) -> None:
    """A3, S13: whatever stands in /etc/resolv.conf, and without one the local name server is asked."""
    program.configure(f'smart_hosts = ["mx://{DOMAIN}"]\nfrom = "al@{DOMAIN}"\n[timeouts]\nconnect = 1\n')
    began = time.monotonic()
    result = run(program, resolv_conf.format(address=own_address), "you@example.net")
    assert time.monotonic() - began < 10
    assert result.status == 1
    assert result.sentence.startswith(f"sendmail: not sent, try again: {words}")
