"""`muawrap check`: what it shows of each endpoint and of this machine, when it fails, and that it sends nothing."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from muawrap import config
from muawrap.admin import check, endpoints, machine
from muawrap.admin.endpoints import Endpoint
from muawrap.admin.trial import Finding
from muawrap.config import Config
from muawrap.failure import Failure
from muawrap.holding import settings
from muawrap.holding.formats import batchsmtp
from muawrap.holding.store.spool import Spool, fresh_name
from muawrap.mail import SmartHost
from muawrap.submission import certificate, discovery, lookup
from muawrap.submission.certificate import Facts
from tests.submission.offering import Heard
from tests.support import nameserver
from tests.support.canary import CANARY, assert_silent
from tests.support.certificates import Authority, Issued, fingerprint, issue
from tests.support.lmtp_server import LmtpServer
from tests.support.nameserver import NameServer
from tests.support.program import Program
from tests.support.server import Drop, Script, Server, Session, Silence, Then
from tests.support.socks_server import SocksServer
from tests.support.spool import MUAWRAP, SOURCE, held
from tests.support.user import WWW_DATA, acting_as, public_folder

DOMAIN = "client.example"
LOGIN = f'[auth]\nuser = "al"\npassword = "{CANARY}"\n'
USERS = {"al": CANARY}

Serve = Callable[[dict[str, list[str]]], None]


@pytest.fixture
def ca(authority: Authority, tmp_path: Path) -> str:
    """The line of [tls] that trusts the authority of the tests."""
    return f'ca_file = "{authority.ca_file(tmp_path / "ca.pem")}"\n'


def configure(program: Program, hosts: str, tables: str = "", keys: str = "") -> None:
    """`hosts` as they stand in the list; the folders of the machine that runs the tests are left alone."""
    spool = f'spool = "{program.folder}/spool"\n'
    program.configure(
        f'smart_hosts = [{hosts}]\nfrom = "me@example.net"\n{spool}{keys}[redirect]\naliases = []\n{tables}'
    )


def run(program: Program, *words: str) -> tuple[int, str]:
    """Exit status and standard output."""
    done = CliRunner().invoke(check.command, ["-C", str(program.config), *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert_silent(done.output.encode())
    return done.exit_code, done.stdout


def as_object(program: Program) -> tuple[int, dict[str, Any]]:
    status, out = run(program, "--json")
    [line] = out.splitlines()
    return status, json.loads(line)


def shown(out: str) -> list[dict[str, str]]:
    """The blocks: label and text, and the endpoint's name under ""."""
    found: list[dict[str, str]] = []
    label = ""
    for line in out.split("\n\n", 1)[1].rpartition("\n\n")[0].splitlines():
        if line and not line.startswith(" "):
            found.append({"": line})
        elif line:
            label = line[2:15].strip() or label
            found[-1][label] = f"{found[-1].get(label, '')} {line[15:]}".strip()
    return found


def verbs(sessions: list[Session]) -> set[bytes]:
    return {command.split(b" ")[0] for session in sessions for command in session.commands}


# -- one endpoint ----------------------------------------------------------------------------------------------------


def test_tls_and_auth_are_tried_everywhere_and_nothing_is_sent(
    program: Program, authority: Authority, ca: str, tmp_path: Path
) -> None:
    """muawrap(1): the program from outside, with the dialogue of -v; no secret is told, MAIL is never said."""
    context = authority.server_context()
    with (
        Server(users=USERS, context=context) as first,
        Server(users=USERS, context=context, implicit_tls=True) as second,
    ):
        hosts = [f"submission://127.0.0.1:{first.port}", f"submissions://127.0.0.1:{second.port}"]
        configure(program, ", ".join(f'"{host}"' for host in hosts), f"{LOGIN}[tls]\n{ca}")
        done = subprocess.run(
            [*MUAWRAP, "check", "-v", "-C", str(program.config)],
            capture_output=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": SOURCE},
            check=False,
        )
        sessions = [*first.finished(), *second.finished()]
    assert_silent(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout
    assert b">>> AUTH PLAIN ***" in done.stderr
    assert [session.authenticated for session in sessions] == ["al", "al"]
    assert verbs(sessions) == {b"EHLO", b"STARTTLS", b"AUTH", b"QUIT"}
    out = done.stdout.decode()
    assert "sends as       <me@example.net>\n" in out
    assert [block[""] for block in shown(out)] == hosts
    assert out.splitlines()[-3:] == [
        "verdict  smart host".ljust(9 + len(hosts[1]) + 2) + "for",
        f"good     {hosts[0].ljust(len(hosts[1]))}  everybody",
        f"good     {hosts[1]}  everybody",
    ]


def test_a_block_tells_all_there_is_to_know(program: Program, authority: Authority, ca: str) -> None:
    """muawrap(1): in the order of the dialogue, in lines that fit a terminal."""
    extensions = ["PIPELINING", "SIZE 35882577", "8BITMIME", "CHUNKING", "X-A-NAME-THAT-IS-RATHER-LONG-FOR-ONE"]
    with Server(users=USERS, context=authority.server_context(), extensions=extensions) as server:
        url = f"submission://127.0.0.1:{server.port}"
        host = f'{{ url = "{url}", ignore_extensions = ["CHUNKING"], source_address = "127.0.0.2" }}'
        configure(program, host, f"{LOGIN}[tls]\n{ca}")
        status, out = run(program)
    assert status == 0
    [block] = shown(out)
    assert max(map(len, out.partition("\n\n")[2].splitlines())) <= 80
    seconds = block["connected"].split(", ")[1]
    assert float(seconds.removesuffix(" s")) < 5
    assert block == {
        "": url,
        "source": "smart_hosts",
        "for": "everybody",
        "connected": f"127.0.0.1:{server.port} from 127.0.0.2, {seconds}",
        "TLS": block["TLS"],
        "certificate": block["certificate"],
        "verified": block["verified"],
        "AUTH": "PLAIN as al; offered: PLAIN LOGIN",
        "SIZE": "up to 35.9 MB",
        "extensions": "PIPELINING 8BITMIME X-A-NAME-THAT-IS-RATHER-LONG-FOR-ONE",
        "not used": "CHUNKING (ignore_extensions)",
        "verdict": "good",
    }
    assert block["TLS"].startswith("TLSv1.3, TLS_")
    assert block["certificate"].startswith("127.0.0.1, issued by trustme ")
    assert block["verified"].startswith("by name, and chain to trustme ")


def test_the_object_has_the_same_facts_by_stable_names(
    program: Program, authority: Authority, ca: str, closed_port: int
) -> None:
    """muawrap(1), --json: one object; what was not reached is null."""
    ends = datetime.now(timezone.utc) + timedelta(days=29, hours=1)
    certificate = authority.certificate("127.0.0.1", not_after=ends)
    context = authority.server_context(certificate=certificate)
    with Server(users=USERS, context=context, implicit_tls=True, extensions=["SIZE 1000", "DSN"]) as server:
        urls = [f"submissions://127.0.0.1:{server.port}", f"submissions://127.0.0.1:{closed_port}"]
        configure(program, ", ".join(f'"{url}"' for url in urls), f"{LOGIN}[tls]\n{ca}")
        status, found = as_object(program)
    assert status == 1
    assert (found["good"], found["senders"], found["configuration"]) == (False, ["me@example.net"], str(program.config))
    good, bad = found["endpoints"]
    assert {name: value for name, value in good.items() if name not in ("connect_seconds", "tls")} == {
        "url": urls[0],
        "entry": urls[0],
        "sources": ["smart_hosts"],
        "record": None,
        "for": ["everybody"],
        "proxy": None,
        "source_address": None,
        "address": f"127.0.0.1:{server.port}",
        "unreachable": [],
        "unverified": None,
        "user": "al",
        "mechanism": "PLAIN",
        "mechanisms": ["PLAIN", "LOGIN"],
        "size_limit": 1000,
        "extensions": ["SIZE", "DSN", "AUTH"],
        "good": True,
        "verdict": "good",
        "warning": None,
        "error": None,
        "advice": None,
    }
    assert 0 <= good["connect_seconds"] < 5
    assert 0 <= good["tls"].pop("seconds") < 5
    assert good["tls"].pop("cipher").startswith("TLS_")
    assert good["tls"].pop("issuer") == good["tls"].pop("root")
    assert good["tls"] == {
        "version": "TLSv1.3",
        "subject": "127.0.0.1",
        "days_left": 29,
        "verified": "chain",
        "fingerprint": fingerprint(certificate),
    }
    assert set(bad) == set(good)
    assert [bad[name] for name in ("address", "connect_seconds", "tls", "mechanisms")] == [None] * 4
    assert (bad["unreachable"], bad["good"], bad["advice"]) == (
        ["127.0.0.1"],
        False,
        "is the network up, and is this the right port?",
    )
    assert bad["error"] == f"127.0.0.1:{closed_port}: connection refused while connecting"


@pytest.mark.parametrize(
    ("days", "how", "warning"),
    [
        (14, "chain to X", ""),
        (13, "chain to X", "the certificate ends in 13 days"),
        (1, "chain to X", "the certificate ends in 1 day"),
        (0, "chain to X", "the certificate ends within a day"),
        (3, "pinned", "the certificate ends in 3 days"),
        (-1, "pinned", "the certificate has expired"),
        (3, "unverified", ""),  # nobody looks at it
        (None, "pinned", ""),
    ],
)
def test_a_certificate_that_ends_soon_is_worth_a_word(days: int | None, how: str, warning: str) -> None:
    """muawrap(1): below 14 days, where anybody looks at the certificate."""
    endpoint = Endpoint(SmartHost("smtp://a.example", "smtp", "a.example", 25), (), ())
    found = Finding(endpoint, facts=Facts("TLSv1.3", "", "", "", days, how, ""))
    assert found.warning == warning
    assert found.is_good
    assert found._replace(failure=Failure("no")).warning == ""


def test_a_host_with_a_certificate_that_ends_soon_is_good_for_now(
    program: Program, authority: Authority, ca: str
) -> None:
    """muawrap(1): exit status 0, and both the verdict and the table say that there is more to it."""
    ends = datetime.now(timezone.utc) + timedelta(days=3, hours=1)
    context = authority.server_context(certificate=authority.certificate("127.0.0.1", not_after=ends))
    with Server(context=context) as server:
        configure(program, f'"submission://127.0.0.1:{server.port}"', f"[tls]\n{ca}")
        status, out = run(program)
    assert status == 0
    assert "  verdict      good, but the certificate ends in 3 days\n" in out
    assert out.splitlines()[-1].startswith("good, but  submission://")


def test_how_a_certificate_was_verified(program: Program) -> None:
    """muawrap(1): by its fingerprint, or not at all, and then why not; in the clear, why that."""
    shown_by_it = issue("127.0.0.1")
    pin = shown_by_it.pins[0]
    with Server(context=shown_by_it.served()) as server, Server() as clear:
        secure, plain = f"127.0.0.1:{server.port}", f"127.0.0.1:{clear.port}"
        hosts = (
            f'{{ url = "submission://{secure}", tls = {{ fingerprint = "{pin}" }} }}',
            f'{{ url = "submission://{secure}", tls = {{ verify = false }} }}',
            f'"smtp://{secure}"',
            f'{{ url = "smtp://{secure}", tls = {{ policy = "none" }} }}',
            f'"smtp://{plain}"',
        )
        configure(program, ", ".join(hosts))
        status, out = run(program)
    assert status == 0
    blocks = shown(out)
    assert [block.get("verified") for block in blocks] == [
        "by tls.fingerprint",
        "no: tls.verify is false",
        f"no: the certificate is not good: self-signed certificate (SHA-256 {pin})",
        None,
        None,
    ]
    assert [block.get("fingerprint") for block in blocks] == [pin, pin, None, None, None]
    assert [block["TLS"] for block in blocks[3:]] == [
        'none: tls.policy is "none"',
        "none: the server does not offer it",
    ]


def test_sockets_lmtp_and_proxies_are_shown_as_such(program: Program, tmp_path: Path) -> None:
    """muawrap.toml(5): the way to a host; of a proxy no login."""
    with (
        LmtpServer(path=tmp_path / "lmtp") as local,
        Server() as server,
        SocksServer({"smtp.example.org": server.port}, users={b"u": CANARY.encode()}) as proxy,
    ):
        by_proxy = f"socks5://u:{CANARY}@127.0.0.1:{proxy.port}"
        hosts = f'"lmtp+unix://{tmp_path}/lmtp", {{ url = "smtp://smtp.example.org", proxy = "{by_proxy}" }}'
        configure(program, hosts)
        status, out = run(program)
        sessions = local.finished()
    assert status == 0, out
    first, second = shown(out)
    assert (first[""], first["TLS"]) == (f"lmtp+unix://{tmp_path}/lmtp", "none: a socket of this machine")
    assert first["connected"].startswith(f"{tmp_path}/lmtp, ")
    assert verbs(sessions) == {b"LHLO", b"QUIT"}
    assert second["proxy"] == f"socks5 127.0.0.1:{proxy.port}"
    assert second["connected"].startswith(f"127.0.0.1:{proxy.port}, ")


# -- what is wrong ---------------------------------------------------------------------------------------------------


def test_every_host_is_tried_whatever_the_others_say(
    program: Program, authority: Authority, ca: str, tmp_path: Path
) -> None:
    """muawrap(1): verdict and advice; a password that is not there is told by its place, and none by its value."""
    context = authority.server_context()
    (tmp_path / "password").write_text(f"{CANARY}\n")
    (tmp_path / "password").chmod(0o666)
    with (
        Server({"AUTH": f"535 5.7.8 {CANARY} is wrong"}, users=USERS, context=context) as refuses,
        Server({"greeting": Silence()}, context=context) as silent,
        Server(context=context) as good,
    ):
        by_file = f'auth = {{ user = "al", password = {{ file = "{tmp_path}/password" }} }}'
        missing = 'auth = { user = "al", password = [{ file = "/nowhere/pw" }, { env = "NO_SUCH_VARIABLE" }] }'
        ports = refuses.port, good.port, good.port, silent.port, good.port
        more = "", f", {by_file}", f", {missing}", ", auth = false, timeouts = { greeting = 0.2 }", ", auth = false"
        hosts = (f'{{ url = "submission://127.0.0.1:{port}"{words} }}' for port, words in zip(ports, more, strict=True))
        configure(program, ", ".join(hosts), f"{LOGIN}[tls]\n{ca}")
        status, out = run(program)
        asked = good.finished()
    assert status == 1
    blocks = shown(out)
    assert [block["verdict"].partition(":")[0] for block in blocks] == ["FAILED"] * 4 + ["good"]
    refused, unsafe, nowhere, slow, _ = blocks
    assert refused["verdict"] == f"FAILED: 127.0.0.1:{refuses.port} answered AUTH with 535 5.7.8 *** is wrong"
    assert refused["AUTH"] == "not done; offered: PLAIN LOGIN"
    assert refused["advice"].startswith("look at auth.user and auth.password")
    assert f"{tmp_path}/password is writable by others" in unsafe["verdict"]
    assert unsafe["advice"].startswith("chmod ")
    assert "looked in /nowhere/pw, then the environment variable NO_SUCH_VARIABLE" in nowhere["verdict"]
    assert "timed out while waiting for the greeting" in slow["verdict"]
    assert slow["connected"].startswith(f"127.0.0.1:{silent.port}, ")
    assert len(asked) == 1, "without its password a host is not called"
    assert [line.split()[0] for line in out.splitlines()[-5:]] == ["FAILED"] * 4 + ["good"]


def test_a_certificate_that_is_not_good_is_the_verdict(program: Program) -> None:
    """muawrap(1): what delivery would say."""
    with Server(context=issue("other.example").served(), implicit_tls=True) as server:
        configure(program, f'"submissions://127.0.0.1:{server.port}"')
        status, out = run(program)
    [block] = shown(out)
    assert status == 1
    assert block["verdict"].startswith(f"FAILED: 127.0.0.1:{server.port}: the certificate is not good: ")
    assert "advice" in block
    assert "TLS" not in block


ROOT = issue(ca=True, common_name="The Root")
SELF_SIGNED = issue("127.0.0.1", age=9)


@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("shows", "tls", "certificate"),
    [
        (issue("a.example", "b.example", by=ROOT), "", "a.example, b.example, issued by The Root, 0 days left"),
        (SELF_SIGNED, "", "127.0.0.1, issued by somebody, expired"),
        (SELF_SIGNED, f'fingerprint = "{"0" * 64}"\n', "127.0.0.1, issued by somebody, expired"),
    ],
    ids=["wrong name", "expired", "wrong pin"],
)
def test_a_certificate_that_is_not_good_is_shown_as_not_verified(
    shows: Issued, tls: str, certificate: str, version: ssl.TLSVersion, scheme: str, program: Program
) -> None:
    """Issue 7, 6: subject and days left of a certificate that ended the handshake; of what went before no offers."""
    with Server(context=shows.served(version), implicit_tls=scheme == "submissions", users=USERS) as server:
        tables = f'{LOGIN}[tls]\nca_file = "{ROOT.file(program.folder / "ca.pem")}"\n{tls}'
        configure(program, f'"{scheme}://127.0.0.1:{server.port}"', tables)
        status, out = run(program)
        _, found = as_object(program)
    [block] = shown(out)
    assert status == 1
    assert (block["certificate"], block["verified"]) == (certificate, "no: the verdict says why")
    assert f"{block['verdict']} {block.get('fingerprint')}".count(shows.pins[0]) == 1
    assert set(block) <= {
        "",
        "source",
        "for",
        "connected",
        "certificate",
        "verified",
        "fingerprint",
        "verdict",
        "advice",
    }
    [endpoint] = found["endpoints"]
    told = endpoint["tls"]
    assert [told.pop(name) for name in ("version", "cipher", "seconds", "root")] == [None] * 4
    assert told.pop("days_left") <= 0
    assert certificate.startswith(f"{told.pop('subject')}, issued by {told.pop('issuer')}, ")
    assert told == {"verified": "unverified", "fingerprint": shows.pins[0]}
    assert [endpoint[name] for name in ("mechanisms", "size_limit", "extensions", "mechanism")] == [None] * 4


def test_a_certificate_that_cannot_be_had_is_not_made_up(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 7, 6: a Python whose ssl keeps nothing of a failed handshake is said to be one."""
    monkeypatch.setattr(certificate, "chain", lambda sock: [])
    with Server(context=SELF_SIGNED.served(), implicit_tls=True) as server:
        configure(program, f'"submissions://127.0.0.1:{server.port}"')
        _, out = run(program)
        _, found = as_object(program)
    [block] = shown(out)
    assert block["certificate"] == "this Python does not tell what the server has shown"
    assert block["verified"] == "no: the verdict says why"
    told = found["endpoints"][0]["tls"]
    assert (told.pop("verified"), set(told.values())) == ("unverified", {None})


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ({"STARTTLS": Then("220 go ahead", Drop())}, "(lost|the server closed) the connection.*"),
        ({"handshake": Heard(Drop())}, "(lost|the server closed) the connection.*"),
        ({"STARTTLS": "454 not now"}, "the server offers it, and then refuses"),
    ],
)
def test_why_there_is_no_tls_is_told_as_it_was(
    script: Script, why: str, program: Program, authority: Authority
) -> None:
    """Issue 7, 6: a server that says yes and goes away has not refused; for programs the same."""
    with Server(script, context=authority.server_context()) as server:
        configure(program, f'"smtp://127.0.0.1:{server.port}"')
        status, out = run(program)
        _, found = as_object(program)
    [block] = shown(out)
    assert (status, block["SIZE"]) == (0, "up to 10 MB")
    assert re.fullmatch(f"none: {why}", block["TLS"])
    told = found["endpoints"][0]["unverified"]
    assert told is None if "refuses" in why else re.fullmatch(why, told)


def test_offers_in_the_clear_are_not_those_of_tls(program: Program, authority: Authority) -> None:
    """Issue 7, 6: they could be anybody's (RFC 3207, 4.2), and no handshake has confirmed them."""
    with Server({"STARTTLS": Then("220 go ahead", Drop())}, context=authority.server_context(), users=USERS) as server:
        configure(program, f'"submission://127.0.0.1:{server.port}"', LOGIN)
        status, out = run(program)
    [block] = shown(out)
    assert status == 1
    assert "while setting up TLS" in block["verdict"]
    assert not {"TLS", "certificate", "AUTH", "SIZE", "extensions"} & block.keys()


def test_offers_before_tls_are_not_those_behind_it(program: Program, authority: Authority, tmp_path: Path) -> None:
    """The same where TLS is good, and the EHLO behind it is refused."""
    script: Script = {"EHLO 2": "502 not now", "HELO": "502 not now"}
    with Server(script, context=authority.server_context(), users=USERS) as server:
        tables = f'[tls]\nca_file = "{authority.ca_file(tmp_path / "ca.pem")}"\n{LOGIN}'
        configure(program, f'"submission://127.0.0.1:{server.port}"', tables)
        status, out = run(program)
    [block] = shown(out)
    assert (status, block["TLS"][:4]) == (1, "TLSv")
    assert not {"AUTH", "SIZE", "extensions"} & block.keys()


def test_a_login_of_a_route_is_tried_at_the_hosts_of_an_account(program: Program) -> None:
    """muawrap.toml(5), PRECEDENCE: auth is the route's, and hosts are the account's where the route has none."""
    with Server(users=USERS) as top, Server(users={"bo": CANARY}) as other:

        def login(user: str) -> str:
            return f'auth = {{ user = "{user}", password = "{CANARY}", allow_plaintext = true }}\n'

        route = f'[[route]]\nrecipients = ["*@corp.example"]\n{login("al")}'
        account = f'[[account]]\nmatch = ["bo@*"]\nsmart_hosts = ["smtp://127.0.0.1:{other.port}"]\n{login("bo")}'
        configure(program, f'"smtp://127.0.0.1:{top.port}"', route + account, login("al"))
        status, out = run(program)
    assert status == 1
    *good, bad = shown(out)
    assert [block["verdict"] for block in good] == ["good"] * 2
    assert bad["source"] == "smart_hosts of account bo@*"
    assert bad["for"] == "route *@corp.example and account bo@*"
    assert bad["verdict"].startswith(f"FAILED: 127.0.0.1:{other.port} answered AUTH with 535")


def test_mistakes_of_this_machine_are_told_before_anybody_is_called(program: Program) -> None:
    """muawrap(1): the alias that would fail those who use it (RULES D4), the folder that does not keep."""
    aliases = program.folder / "aliases"
    aliases.write_text("ops: al@example.net\npager: |/bin/pager\nnot an entry\nbroken: a@@b\n")
    with Server() as server:
        hosts = program.smart_hosts(server)
        keys = f'from = "me@example.net"\nkeep_failed = "/nowhere"\nspool = "{program.folder}/spool"\n'
        program.configure(f'{hosts}{keys}[redirect]\naliases = ["{aliases}"]\n')
        status, out = run(program)
        _, found = as_object(program)
    assert status == 1
    assert "keep_failed    /nowhere: no such file or directory\n" in out
    for said in ("3 names", "line 2: pager", "line 3", "line 4: broken"):
        assert said in out
    assert "ops" not in out
    assert found["aliases"][0]["complaints"][1].startswith("line 2: pager: delivers to a command")
    assert found["endpoints"][0]["good"]
    assert found["good"] is False


def test_there_has_to_be_somebody_to_send_as(program: Program) -> None:
    """muawrap(1): every smart host is good, and every message would fail all the same."""
    with Server() as server:
        program.configure(f'{program.smart_hosts(server)}qualify_domain = "localhost"\n')
        status, out = run(program)
        _, found = as_object(program)
    assert status == 1
    assert "no address to send" in out
    assert found["senders"] == []
    assert "no address to send" in found["sender_error"]


def test_there_has_to_be_a_smart_host(program: Program) -> None:
    """muawrap(1)."""
    program.configure('from = "me@example.net"\n')
    status, out = run(program)
    assert (status, out.splitlines()[-1]) == (1, "no smart host is configured: set smart_hosts")


def test_a_wrong_configuration_is_told_by_file_line_and_key(program: Program) -> None:
    """muawrap(1), muawrap.toml(5): for people on standard error, for programs in the object."""
    program.configure('smart_hosts = ["smtp://127.0.0.1"]\nadmn = "al@example.net"\n')
    done = CliRunner().invoke(check.command, ["-C", str(program.config), "--json"])
    assert done.exit_code == 1
    for said in (str(program.config), "line 2", "admn", "admin"):
        assert said in done.stderr
    found = json.loads(done.stdout)
    assert (found["good"], set(found)) == (False, {"good", "error", "advice"})
    assert "line 2" in found["error"]


# -- where they come from --------------------------------------------------------------------------------------------


def loaded(program: Program, text: str) -> Config:
    program.configure(text)
    return config.load(str(program.config), {})


def test_each_endpoint_says_where_it_stands_and_for_whom(program: Program) -> None:
    """muawrap(1): the list that has it, of the top, a route, an account or a hold; one that stands twice is one."""
    settled = loaded(
        program,
        'smart_hosts = ["smtp://a.example", "smtp://b.example"]\n'
        '[[account]]\nusers = ["root"]\nfrom = "root@example.net"\n'
        '[[account]]\nmatch = ["*@work.example"]\nauth = { user = "w", password = "x" }\n'
        'smart_hosts = ["submission://w.example"]\n'
        '[[account]]\nusers = ["www-data"]\ntls = { min_version = "1.3" }\n'
        '[[route]]\nrecipients = ["*@c.example"]\nsmart_hosts = ["smtp://b.example"]\n'
        '[[route]]\nrecipients = ["*@no.example"]\nunroutable = "no"\n'
        '[hold.isp]\nto = ["lmtp+unix:///run/lmtp", "smtp://a.example"]\n',
    )
    found = [(one.name, one.host.tls.min_version, one.sources, one.purposes) for one in endpoints.entries(settled)]
    route, www = "route *@c.example", "account www-data"
    assert found == [
        ("smtp://a.example", "1.2", ("smart_hosts", "hold.isp.to"), ("everybody", "hold isp")),
        ("smtp://b.example", "1.2", ("smart_hosts", f"smart_hosts of {route}"), ("everybody",)),
        ("submission://w.example", "1.2", ("smart_hosts of account *@work.example",), ("account *@work.example",)),
        ("smtp://a.example", "1.3", ("smart_hosts",), (www,)),
        ("smtp://b.example", "1.3", ("smart_hosts",), (www,)),
        ("lmtp+unix:///run/lmtp", "1.2", ("hold.isp.to",), ("hold isp",)),
    ]


def test_a_route_that_leads_nowhere_has_no_endpoint(program: Program) -> None:
    """muawrap.toml(5), unroutable: whatever else stands in its table."""
    route = '[[route]]\nrecipients = ["*@no.example"]\nunroutable = "no"\nauth = { user = "al", password = "x" }\n'
    settled = loaded(program, f'smart_hosts = ["submission://a.example"]\n{route}')
    assert [one.purposes for one in endpoints.entries(settled)] == [("everybody",)]


def test_the_list_of_a_route_is_tried_with_the_tls_of_an_account(program: Program) -> None:
    """muawrap.toml(5): [tls] of an account holds for the hosts of a route, too."""
    settled = loaded(
        program,
        'smart_hosts = ["smtp://a.example"]\n'
        '[[account]]\nusers = ["www-data"]\ntls = { min_version = "1.3" }\n'
        '[[route]]\nrecipients = ["*@c.example"]\nsmart_hosts = ["smtp://c.example"]\n',
    )
    last = endpoints.entries(settled)[-1]
    assert (last.name, last.host.tls.min_version) == ("smtp://c.example", "1.3")
    assert last.purposes == ("route *@c.example and account www-data",)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A name server with these zones, which is asked from now on."""
    with ExitStack() as stack:

        def make(zones: dict[str, list[str]]) -> None:
            server = stack.enter_context(NameServer(zones))
            monkeypatch.setattr(lookup, "resolver", lambda _: server.resolver())

        yield make


def test_each_host_that_dns_names_is_an_endpoint(
    program: Program, authority: Authority, ca: str, serve: Serve, closed_port: int
) -> None:
    """muawrap(1), RFC 8314: the dead one and the good one, each with its record; what DNS did not tell is a row."""
    context = authority.server_context(DOMAIN)
    with Server(users=USERS, context=context, implicit_tls=True) as server:
        records = [f"SRV 1 0 {closed_port} localhost.", f"SRV 2 0 {server.port} localhost."]
        serve({f"_submissions._tcp.{DOMAIN}": records, f"_submission._tcp.{DOMAIN}": [nameserver.SERVFAIL]})
        configure(program, f'"srv://{DOMAIN}"', f"{LOGIN}[tls]\n{ca}")
        status, out = run(program)
        sessions = server.finished()
    assert status == 1
    lookup_failed, dead, good = shown(out)
    assert lookup_failed == {
        "": f"srv://{DOMAIN}",
        "source": "smart_hosts",
        "for": "everybody",
        "verdict": f"FAILED: {DOMAIN}: the name server answered SERVFAIL for _submission._tcp.{DOMAIN} "
        "while connecting",
    }
    assert (dead[""], good[""]) == (
        f"submissions://localhost:{closed_port}",
        f"submissions://localhost:{server.port}",
    )
    assert good["source"] == f"smart_hosts: srv://{DOMAIN}"
    assert good["DNS"] == f"_submissions._tcp.{DOMAIN} {records[1]}"
    assert "connection refused" in dead["verdict"]
    assert (good["certificate"].partition(",")[0], good["verdict"]) == (DOMAIN, "good")
    assert verbs(sessions) == {b"EHLO", b"AUTH", b"QUIT"}


def test_mx_records_and_names_that_are_not_there(
    program: Program, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """muawrap(1), --json: the record, and a look-up without an answer."""
    with Server() as server:
        monkeypatch.setattr(discovery, "MX_PORT", server.port)
        serve({f"relay.{DOMAIN}": ["MX 10 localhost."]})
        configure(program, f'"mx://relay.{DOMAIN}", "mx://gone.{DOMAIN}"')
        status, found = as_object(program)
    assert status == 1
    good, gone = found["endpoints"]
    assert (good["url"], good["entry"]) == (f"smtp://localhost:{server.port}", f"mx://relay.{DOMAIN}")
    assert (good["record"], good["good"]) == (f"relay.{DOMAIN} MX 10 localhost.", True)
    assert (gone["url"], gone["record"], gone["good"]) == (f"mx://gone.{DOMAIN}", None, False)
    assert gone["error"] == f"gone.{DOMAIN}: DNS does not know gone.{DOMAIN} while connecting"


# -- folders ---------------------------------------------------------------------------------------------------------


def with_hold(program: Program, keys: str = "") -> Config:
    return loaded(
        program,
        f'spool = "{program.folder}/spool"\n{keys}smart_hosts = ["smtp://127.0.0.1"]\n'
        '[hold.isp]\nto = ["smtp://127.0.0.1"]\n',
    )


def states(settled: Config) -> dict[str, tuple[str, bool, bool]]:
    return {one.name: (one.state, one.is_usable, one.is_good) for one in machine.folders(settled)}


def test_where_messages_are_kept_and_how_many_wait(program: Program) -> None:
    """muawrap(1): outbox, spool, and each [hold.NAME]; looking at them makes none of them."""
    settled = with_hold(program, f'outbox = {{ folder = "{program.folder}/out/box" }}\n')
    spool = program.folder / "spool"
    assert states(settled) == {
        "outbox": ("not there yet, made when it is needed", True, True),
        "spool": ("not there; muawrap-holding(7) says how to make it", False, False),
        "hold isp": ("not there", False, False),
    }
    assert not spool.exists()
    spool.mkdir()
    assert states(settled)["hold isp"] == ("not there yet, made when it is needed", True, True)
    for keeper in settings.keeper(settled, "isp"), settings.outbox(settled):
        with Spool(keeper) as place:
            place.put(batchsmtp.write(held()), fresh_name())
    found = {one.name: one for one in machine.folders(settled)}
    assert [found[name].messages for name in ("outbox", "spool", "hold isp")] == [1, 0, 1]
    assert found["hold isp"].state.startswith("1 message, ")
    spool.chmod(0o777)
    state, is_usable, is_good = states(settled)["spool"]
    assert (state.startswith(f"{spool} is writable by everybody"), is_usable, is_good) == (True, False, False)


def test_without_holds_no_spool_is_missed(program: Program) -> None:
    """muawrap(1): nothing is wrong with a machine that holds nothing."""
    settled = loaded(program, f'spool = "{program.folder}/spool"\nsmart_hosts = ["smtp://127.0.0.1"]\n')
    assert states(settled)["spool"] == ("not there, and no [hold.NAME] needs it", False, True)


def test_the_folders_of_others_are_no_mistake(program: Program) -> None:
    """muawrap(1): a service has no outbox, and the spool is the MTA's; its own mail leaves all the same."""
    with public_folder() as folder:
        settled = with_hold(program)._replace(spool=str(folder / "spool"))
        (folder / "spool" / "isp").mkdir(parents=True)
        for path in folder / "spool", folder / "spool" / "isp":
            path.chmod(0o700)
        with acting_as(WWW_DATA):
            found = states(settled)
            mine = states(settled._replace(keep_failed=str(folder), outbox={"folder": str(folder / "box")}))
    advice = f"name one that belongs to it in outbox.folder of {program.config}"
    assert found["outbox"] == (f"none: the outbox of www-data has no folder ({advice})", False, True)
    for name in "spool", "hold isp":
        assert "permission denied" in found[name][0]
        assert found[name][1:] == (False, True)
    assert mine["keep_failed"] == ("www-data cannot write to it", False, False)
    assert mine["outbox"] == (f"not there, and www-data cannot make it in {folder}", False, False)
