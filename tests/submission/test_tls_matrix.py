"""Every TLS policy, by scheme, by what decides whether a certificate is good, against every kind of server.

A model of a few lines says what has to come of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from muawrap.failure import Failure, Stage
from muawrap.mail import Transaction
from muawrap.submission.deliver import deliver
from tests.submission.offering import PATIENT, Heard, login, offer, smart_host
from tests.support.canary import CANARY, assert_silent
from tests.support.certificates import Issued, issue
from tests.support.server import Channel, Conversation, Drop, Raw, Reset, Script, Server

# -- the servers


@cache
def root() -> Issued:
    return issue(common_name="Trusted Root", ca=True)


@cache
def certificate(kind: str) -> Issued:
    if kind == "self-signed":
        return issue("127.0.0.1")
    by = issue(common_name="Another Root", ca=True) if kind == "unknown authority" else root()
    return issue("127.0.0.2" if kind == "wrong name" else "127.0.0.1", by=by, age=9 if kind == "expired" else 1)


CERTIFICATES = ("good", "wrong name", "expired", "self-signed", "unknown authority")
AT_ONCE = "handshake reset at once"
BROKEN: dict[str, Script] = {  # handshakes that begin and come to nothing
    "handshake garbled": {"handshake": Heard(Raw(b"\x16\x03\x03\x00\x04\x02\x00\x00\x00"))},
    "handshake reset": {"handshake": Heard(Reset())},
    AT_ONCE: {"handshake": Reset()},
    "handshake dropped": {"handshake": Heard(Drop())},
    "clear text for a handshake": {"handshake": Heard(Raw(b"250 fine\r\n250 fine\r\n354 go\r\n250 taken\r\n"))},
}
REFUSED: dict[str, Script] = {
    "STARTTLS refused, 454": {"STARTTLS": "454 4.7.0 not now"},
    "STARTTLS refused, 502": {"STARTTLS": "502 5.5.1 what?"},
}
INJECTED: dict[str, Script] = {"words put in": {"STARTTLS": b"220 go ahead\r\n235 welcome\r\n250 taken\r\n"}}
SCRIPTS = {**BROKEN, **REFUSED, **INJECTED}
NO_TLS, OTHER_WAY = "no TLS", "TLS the other way"  # at once where STARTTLS is wanted, and the reverse


class Both(Server):
    """It takes LHLO for EHLO, and so a single message as LMTP has it (RFC 2033, 4.1 and 4.2)."""

    def serve(self, channel: Channel, number: int) -> None:
        class Local(Conversation):
            do_lhlo = Conversation.do_ehlo

        Local(self, channel, self.scripts[0]).lead()


def server(kind: str, scheme: str) -> Server:
    at_once = (scheme == "submissions") != (kind == OTHER_WAY)
    users = {"alice": CANARY}
    if kind == NO_TLS:
        return Both(users=users)
    return Both(SCRIPTS.get(kind, {}), context=certificate(kind).served(), implicit_tls=at_once, users=users)


# -- the model


class Case(NamedTuple):
    policy: str
    scheme: str
    kind: str
    trust: str  # what decides: chain, pin (the right one), wrong pin, nothing (verify = false)
    auth: bool

    def __str__(self) -> str:
        return f"{self.policy}, {self.scheme}, {self.kind}, by {self.trust}{', AUTH' if self.auth else ''}"


def expected(case: Case) -> str | Stage:
    """How it is sent, as the log has it, or the stage at which the host has failed."""
    at_once = case.scheme == "submissions"
    needs_tls = case.policy == "required" or "pin" in case.trust
    in_the_clear = Stage.AUTH if case.auth else "none"
    if case.kind == OTHER_WAY:
        return Stage.TLS if at_once else Stage.GREETING  # each waits for the other, or takes what it gets for an error
    if case.policy == "none":
        return in_the_clear
    if case.kind == NO_TLS and at_once:
        return Stage.TLS
    if case.kind == NO_TLS or case.kind in REFUSED:
        return Stage.STARTTLS if needs_tls else in_the_clear
    if case.kind in INJECTED:
        return Stage.STARTTLS
    if case.kind in BROKEN:
        return Stage.TLS if needs_tls or at_once or case.auth else "none"
    if case.trust == "nothing":
        return Stage.AUTH if case.auth else "TLSv1.3 unverified"
    if case.trust == "pin":
        return "TLSv1.3 pinned"
    if case.trust == "chain" and case.kind == "good":
        return "TLSv1.3"
    return Stage.TLS if needs_tls or case.auth else "TLSv1.3 unverified"


def connections(case: Case) -> int:
    """One, and one more where what was wanted first came to nothing and less will do."""
    outcome = expected(case)
    less = case.kind in BROKEN or (outcome == "TLSv1.3 unverified" and case.trust == "chain")
    return 2 if isinstance(outcome, str) and case.policy == "if-offered" and less else 1


def cases() -> Iterator[Case]:
    kinds = (*CERTIFICATES, NO_TLS, OTHER_WAY, *SCRIPTS)
    for case in map(
        Case._make,
        product(
            ("required", "if-offered", "none"),
            ("smtp", "submission", "submissions", "lmtp"),
            kinds,
            ("chain", "pin", "wrong pin", "nothing"),
            (False, True),
        ),
    ):
        if case.scheme == "submissions" and (case.policy == "none" or case.kind in {**REFUSED, **INJECTED}):
            continue  # the configuration refuses the one, and there is no such thing as the other
        if case.scheme == "submissions" and case.kind == AT_ONCE:
            continue  # a server that does not even accept is no question of TLS
        if case.trust != "chain" and (case.policy == "none" or case.scheme in ("smtp", "lmtp")):
            continue  # no question without TLS, and none that the scheme has a part in
        yield case


# -- the test


def fields(case: Case, ca_file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"policy": case.policy, "ca_file": ca_file, "verify": case.trust != "nothing"}
    if "pin" in case.trust:
        other = "00" * 32
        found["fingerprint"] = (other, certificate(case.kind).pins[1]) if case.trust == "pin" else (other,)
    if case.auth:
        found["auth"] = login()
    if case.kind == OTHER_WAY and case.scheme != "submissions":
        found["timeouts"] = PATIENT._replace(greeting=0.05)  # which is waited for in vain
    return found


def attempted(transaction: Transaction) -> tuple[str | Stage | None, str]:
    """How it was sent, or the stage at which that failed; and what is said of it."""
    try:
        receipt = deliver(transaction)
    except Failure as failure:
        return failure.stage, f"{failure} ({failure.advice})"
    return receipt.tls, receipt.host


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return root().file(tmp_path_factory.mktemp("tls") / "ca.pem")


@pytest.mark.row("T1", "T2", "T3", "T3 pinning", "T4")
@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_policy_scheme_and_server_decide(case: Case, ca_file: Path) -> None:
    """C1: required is verified or the host fails, if-offered takes what there is, none is clear; AUTH verified only."""
    outcome = expected(case)
    with server(case.kind, case.scheme) as peer:
        transaction = offer(smart_host(peer, case.scheme, **fields(case, ca_file)))
        reached, said = attempted(transaction)
        sessions = peer.finished()
    assert reached == outcome
    assert len(sessions) == connections(case)
    assert ("(verify = false)" in said) == (case.trust == "nothing")
    assert_silent(said.encode())
    told = [session for session in sessions if any(line[:4] == b"MAIL" for line in session.commands)]
    assert len(told) == len(peer.accepted) == isinstance(outcome, str)
    for session in sessions:
        assert session.tls or not case.auth or session not in told
        assert (session.authenticated is not None) == (case.auth and session in told)
        if session not in told:
            assert b"AUTH" not in session.raw
            assert b"Hello." not in session.raw
    if isinstance(outcome, str):
        assert told[0].tls == (outcome != "none")
