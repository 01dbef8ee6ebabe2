"""Certificates that may be for one of several names: compared by us as strictly as OpenSSL compares with one."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap.failure import REFUSED, Stage
from muawrap.mail import SmartHost
from muawrap.submission import identity
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.canary import CANARY
from tests.support.certificates import Issued, issue
from tests.support.server import Server

ROOT = issue(ca=True)
USERS = {"alice": CANARY}

# -- one presented name and one that we know

CASES = [
    ("mail.example.org", "mail.example.org", True),
    ("MAIL.Example.ORG", "mail.example.org", True),
    ("mail.example.org", "MAIL.example.org", True),
    ("*.example.org", "mail.example.org", True),
    ("*.example.org", "xn--mll-hoa.example.org", True),
    ("xn--mll-hoa.example.org", "xn--mll-hoa.example.org", True),
    ("*.example.org", "a.mail.example.org", False),
    ("*.example.org", "example.org", False),
    ("*.mail.example.org", "mail.example.org", False),
    ("example.org", "mail.example.org", False),
    ("mail.example.org", "example.org", False),
    ("xmail.example.org", "mail.example.org", False),
    ("m*.example.org", "mail.example.org", False),
    ("*l.example.org", "mail.example.org", False),
    ("m*l.example.org", "mail.example.org", False),
    ("xn--*.example.org", "xn--mll-hoa.example.org", False),
    ("mail.*.org", "mail.example.org", False),
    ("*.*.org", "mail.example.org", False),
    ("**.example.org", "mail.example.org", False),
    ("*", "localhost", False),
    ("*.", "localhost.", False),
    ("*.org", "example.org", False),
    ("*mail.example.org", "mail.example.org", False),
    ("mail.example.org\0.evil.example", "mail.example.org", False),
    ("mail.example.org.", "mail.example.org", False),
    (" mail.example.org", "mail.example.org", False),
    ("mail.example.org\n", "mail.example.org", False),
    ("", "mail.example.org", False),
    ("127.0.0.1", "127.0.0.1", False),
    ("*.0.0.1", "127.0.0.1", False),
]


@pytest.mark.row("T3")
@pytest.mark.parametrize(("presented", "name", "good"), CASES)
def test_a_name_is_good_for(presented: str, name: str, good: bool) -> None:
    """RFC 9525, 6.3: a star is the whole leftmost label and one label; an address is no name."""
    assert identity.matches(presented, name) is good


@pytest.mark.parametrize(
    ("presented", "name"), [("m\u00fcll.example.org", "m\u00fcll.example.org"), ("\u212a.example.org", "k.example.org")]
)
def test_only_ascii_is_compared(presented: str, name: str) -> None:
    """RFC 9525, 2: A-labels; KELVIN SIGN in lower case is a "k"."""
    assert not identity.matches(presented, name)


LABELS = st.sampled_from(["*", "a", "b", "A", "a*", "*a", "xn--a", "aa", "org"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
KNOWN = st.lists(st.sampled_from(["a", "b", "xn--a", "aa", "org"]), min_size=2, max_size=4).map(".".join)


@pytest.mark.row("T3")
@settings(max_examples=150)
@given(NAMES, KNOWN)
def test_we_and_openssl_agree(presented: str, name: str) -> None:
    """RFC 9525, 6.3: what it takes for a single name we take for one of several, and nothing else."""
    assert identity.matches(presented, name) is agreed_by_openssl(presented, name)


def agreed_by_openssl(presented: str, name: str) -> bool:
    """A handshake between two ends in memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=ROOT.pem.decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(down, up, server_hostname=name)
    server = issue(presented, by=ROOT).served().wrap_bio(up, down, server_side=True)
    for end in client, server, client:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError:
            return False
    return True


# -- the connection


def named(server: Server, tmp_path: Path, *names: str, scheme: str = "submissions", **fields: Any) -> SmartHost:
    ca_file = ROOT.file(tmp_path / "ca.pem")
    host = smart_host(server, scheme, ca_file=ca_file, auth=login(), **fields)
    # A name in place of the address, as if DNS had told it; the system knows it as the loopback.
    return host._replace(host="localhost", names=names)


def serving(made: Issued, asked: list[str | None], scheme: str = "submissions") -> Server:
    context = made.served()
    context.sni_callback = lambda sock, name, context: asked.append(name)
    return Server(context=context, implicit_tls=scheme == "submissions", users=USERS)


@pytest.mark.row("T3", "T4")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize(
    ("shown", "names", "asked_for", "good"),
    [
        ("example.org", ("example.org", "localhost"), "localhost", True),
        ("localhost", ("example.org", "localhost"), "localhost", True),
        ("*.example.org", ("mail.example.org", "localhost"), "localhost", True),
        ("other.example", ("example.org", "localhost"), "localhost", False),
        ("*.org", ("example.org", "localhost"), "localhost", False),
        ("localhost", ("example.org", "example.net"), "example.org", False),
        ("example.net", ("example.org", "example.net"), "example.org", True),
        ("example.org", ("example.org",), "example.org", True),
        ("localhost", ("example.org",), "example.org", False),
        ("localhost", (), "localhost", True),
    ],
)
def test_one_of_the_names_is_enough(
    shown: str, names: tuple[str, ...], asked_for: str, good: bool, scheme: str, tmp_path: Path
) -> None:
    """C1, RFC 6186, 6: the domain a person wrote, or a host under it; and AUTH over nothing less.

    TLS asks for the host's own name where the certificate may be for that, else for the first of them (RFC 6066, 3).
    """
    asked: list[str | None] = []
    with serving(issue(shown, by=ROOT), asked, scheme) as server:
        transaction = offer(named(server, tmp_path, *names, scheme=scheme))
        if good:
            receipt = deliver(transaction)
            assert (receipt.tls, receipt.user) == ("TLSv1.3", "alice")
        else:
            failure = failure_of(transaction)
            assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
            wanted = " or ".join(names) if len(names) > 1 else names[0]
            assert f"Hostname mismatch, certificate is not valid for '{wanted}'" in failure.what
            assert failure.what.endswith(f"(it is for {shown})")
            assert b"AUTH" not in server.finished()[0].raw
    assert asked == [asked_for]


@pytest.mark.row("T3")
def test_a_server_name_stands_alone(tmp_path: Path) -> None:
    """C1: what a person has set is not softened by DNS."""
    asked: list[str | None] = []
    with serving(issue("localhost", "example.org", by=ROOT), asked) as server:
        failure = failure_of(offer(named(server, tmp_path, "example.org", "localhost", server_name="mx.example")))
        assert "mismatch" in failure.what
    assert asked == ["mx.example"]


@pytest.mark.row("T3")
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: issue("example.org"), "self[- ]signed"),
        (lambda: issue("example.org", by=ROOT, age=9), "expired"),
        (lambda: issue("example.org", by=issue(ca=True)), "unable to get local issuer|signature"),
        (lambda: issue(by=ROOT, common_name="example.org"), "common name example.org does not count"),
    ],
)
def test_the_chain_is_verified_all_the_same(made: Any, said: str, tmp_path: Path) -> None:
    """C1: the name is only what OpenSSL leaves to us."""
    with serving(made(), []) as server:
        failure = failure_of(offer(named(server, tmp_path, "example.org", "localhost")))
    assert failure.stage is Stage.TLS
    assert re.search(said, failure.what)
