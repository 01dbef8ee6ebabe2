"""The configuration: where it comes from, what may stand in it, and what it means (muawrap.toml(5))."""

from __future__ import annotations

import difflib
import importlib
import os
import pwd
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap import config, document, environment, extras, schema, trust
from muawrap.config import Config, hosts_for
from muawrap.failure import Failure
from muawrap.mail import Auth, Secret, SmartHost, Timeouts, Tls
from tests.support.user import NOBODY, WWW_DATA, acting_as, public_folder

# What is loaded when it is needed has to be loaded already where another user cannot read this Python.
NEEDED_LATER = (difflib, importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli"))

HOSTS = 'smart_hosts = ["submissions://smtp.example.org"]\n'


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as made:
        yield made


@pytest.fixture(autouse=True)
def a_machine_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host name with a dot and no file of the system: what a test does not set is not there."""
    machine(monkeypatch, "box", str(tmp_path / "system.toml"))


def machine(monkeypatch: pytest.MonkeyPatch, name: str, system_file: str) -> None:
    known = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((known.sysname, name, "", "", "")))
    monkeypatch.setattr(config, "SYSTEM_FILE", system_file)


def home_is(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The passwd file says that everybody lives here."""
    entry = pwd.struct_passwd(("al", "x", 1, 1, "Al", str(folder), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: entry)


def written(path: Path, text: str | bytes, mode: int = 0o600, owner: int = -1) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.chown(path, owner, owner)
    path.chmod(mode)
    return str(path)


def load(folder: Path, text: str | bytes) -> Config:
    """What this text means, given with -C."""
    return config.load(written(folder / "muawrap.toml", text), {})


def hosts(settings: Config) -> tuple[SmartHost, ...]:
    return hosts_for(settings, None, None)


def refusal(folder: Path, text: str | bytes) -> Failure:
    """The failure this text is."""
    with pytest.raises(Failure) as caught:
        load(folder, text)
    assert caught.value.what.startswith(f"configuration {folder}/muawrap.toml")
    return caught.value


def told(folder: Path, text: str | bytes) -> str:
    """The sentence for this text, without the name of the file."""
    return refusal(folder, text).what.removeprefix(f"configuration {folder}/muawrap.toml").lstrip(": ")


def environment_refusal(variables: Mapping[str, str]) -> Failure:
    with pytest.raises(Failure) as caught:
        config.load(None, variables)
    return caught.value


# -- the five shortest real configurations (DESIGN, 2)


def test_a_laptop_sends_through_gmail(tmp_path: Path) -> None:
    """DESIGN, 2: the first of the five."""
    settings = load(
        tmp_path,
        """\
smart_hosts = ["submissions://smtp.gmail.com"]
admin = "al@gmail.com"
[auth]
user = "al@gmail.com"
password = { keyring = "muawrap" }
""",
    )
    (host,) = hosts(settings)
    assert str(host) == "smtp.gmail.com:465"
    assert host.auth == Auth("al@gmail.com", (Secret("keyring", "muawrap"),))
    assert host.tls.policy == "required"
    assert settings.admin == "al@gmail.com"


def test_a_relay_without_login_needs_two_lines(tmp_path: Path) -> None:
    """DESIGN, 2: the second of the five."""
    settings = load(tmp_path, 'smart_hosts = ["smtp://relay.corp.example"]\nqualify_domain = "corp.example"\n')
    (host,) = hosts(settings)
    assert (str(host), host.auth, host.tls.policy) == ("relay.corp.example:25", Auth(), "if-offered")
    assert settings.qualify_domain == "corp.example"


def test_a_container_needs_no_file(tmp_path: Path) -> None:
    """DESIGN, 2: the third of the five."""
    settings = config.load(
        None,
        {
            "MUAWRAP_SMART_HOSTS": "submission://email-smtp.eu-west-1.amazonaws.com",
            "MUAWRAP_AUTH_USER": "AKIAIOSFODNN7EXAMPLE",
            "MUAWRAP_AUTH_PASSWORD_FILE": "/run/secrets/smtp",
            "MUAWRAP_FROM": "noreply@example.org",
            "MUAWRAP_ADMIN": "ops@example.org",
        },
    )
    (host,) = hosts(settings)
    assert str(host) == "email-smtp.eu-west-1.amazonaws.com:587"
    assert host.auth == Auth("AKIAIOSFODNN7EXAMPLE", (Secret("file", "/run/secrets/smtp"),))
    assert (settings.profile.sender, settings.admin) == ("noreply@example.org", "ops@example.org")
    assert settings.source == "the environment"


def test_two_providers_have_a_login_each(tmp_path: Path) -> None:
    """DESIGN, 2: the fourth of the five."""
    settings = load(
        tmp_path,
        """\
smart_hosts = [
  "submissions://smtp.example.org",
  { url = "submission://b.example", from = "a@b.example", auth = { user = "a", password = { file = "/b" } } },
]
[auth]
user = "alice@example.org"
password = { keyring = "muawrap" }
""",
    )
    first, second = hosts(settings)
    assert (first.auth.user, first.sender) == ("alice@example.org", "")
    assert (second.auth.user, second.sender) == ("a", "a@b.example")
    assert second.auth.password == (Secret("file", "/b"),)


def test_a_shared_host_sends_for_its_web_server_as_the_shop(tmp_path: Path) -> None:
    """DESIGN, 2: the fifth of the five."""
    settings = load(tmp_path, HOSTS + '[[account]]\nusers = ["www-data"]\nfrom = "shop@example.org"\n')
    (account,) = settings.accounts
    assert (account.users, account.profile.sender) == (("www-data",), "shop@example.org")
    assert hosts_for(settings, None, account) == hosts(settings)


# -- every key

TABLE_OF = {
    "": "{}",
    "auth": '[auth]\nuser = "al"\npassword = {{ keyring = "k" }}\n{}',
    "tls": "[tls]\n{}",
    "timeouts": "[timeouts]\n{}",
    "redirect": "[redirect]\n{}",
    "route": '[[route]]\nrecipients = ["*"]\n{}',
    "account": '[[account]]\nusers = ["al"]\n{}',
    "host": '[[smart_hosts]]\nurl = "submissions://a.example"\n{}',
    "hold": '[hold.isp]\nto = "smtp://a.example"\n{}',
    "outbox": "[outbox]\n{}",
}

# table, key, a good value, and what becomes of it
GOOD: list[tuple[str, str, str, object]] = [
    ("", "smart_hosts", '["smtp://a.example"]', ("a.example:25",)),
    ("", "from", '"Al <al@example.org>"', "al@example.org"),
    ("", "from", '""', ""),
    ("", "allowed_from", '["*@Example.ORG"]', ("*@example.org",)),
    ("", "rewrite_from_header", "false", False),
    ("", "envelope_from_header", "true", True),
    ("", "null_sender", '"from"', "from"),
    ("", "admin", '"al@example.org"', "al@example.org"),
    ("", "admin", '"root"', "root"),
    ("", "admin", '""', ""),
    ("", "qualify_domain", '"example.org"', "example.org"),
    ("", "local_domains", '["Example.org", "example.net"]', ("example.org", "example.net")),
    ("", "hostname", '"mail.example.org"', "mail.example.org"),
    ("", "hostname", '"[192.0.2.1]"', "[192.0.2.1]"),
    ("", "log", '"none"', ("none",)),
    ("", "log", '"/var/log/mail"', ("/var/log/mail",)),
    ("", "log", '["container", "syslog"]', ("container", "syslog")),
    ("", "log_format", '"json"', "json"),
    ("", "exit_status", '"sysexits"', "sysexits"),
    ("", "keep_failed", '"/var/spool/failed"', "/var/spool/failed"),
    ("", "long_lines", '"pass"', "pass"),
    ("", "long_lines", '"refuse"', "refuse"),
    ("", "dial_delay", "1.5", 1.5),
    ("", "dial_delay", '"10s"', 10.0),
    ("", "dial_delay", '"1m30s"', 90.0),
    ("", "tempfail", '"next-host"', "next-host"),
    ("", "dot_ends_message", "false", False),
    ("", "extract_addresses_remove_arguments", "true", True),
    ("", "max_received", "0", 0),
    ("auth", "mechanisms", '["plain", "CRAM-MD5"]', ("PLAIN", "CRAM-MD5")),
    ("auth", "allow_plaintext", "true", True),
    ("auth", "token", '{ command = ["/bin/token"] }', (Secret("command", ("/bin/token",)),)),
    ("tls", "policy", '"none"', None),
    ("tls", "ca_file", '"/etc/ssl/own.pem"', "/etc/ssl/own.pem"),
    ("tls", "min_version", '"1.3"', "1.3"),
    ("tls", "verify", "false", False),
    ("tls", "fingerprint", f'"SHA256:{":".join(["AB"] * 32)}"', ("ab" * 32,)),
    ("tls", "fingerprint", f'["{"0" * 64}", "{"1" * 64}"]', ("0" * 64, "1" * 64)),
    ("tls", "fingerprint", '""', ()),
    ("tls", "client_cert", '"/etc/ssl/me.pem"', "/etc/ssl/me.pem"),
    ("tls", "client_key", '""', ""),
    ("tls", "server_name", '"a.example"', "a.example"),
    ("tls", "server_name", '"B\\u00fccher.example"', "xn--bcher-kva.example"),
    ("tls", "server_name", '""', ""),
    ("tls", "server_name", '"192.0.2.1"', "192.0.2.1"),
    ("tls", "server_name", '"[192.0.2.1]"', "192.0.2.1"),
    ("tls", "server_name", '"2001:DB8:0::1"', "2001:db8::1"),
    ("tls", "server_name", '"[::1]"', "::1"),
    ("tls", "server_name", '"[IPv6:::1]"', "::1"),
    ("timeouts", "connect", "1", 1.0),
    ("timeouts", "greeting", "0.5", 0.5),
    ("timeouts", "command", "86400", 86400.0),
    ("timeouts", "data", "1", 1.0),
    ("timeouts", "final", "1", 1.0),
    ("timeouts", "total", "0", 0.0),
    ("redirect", "aliases", '["/etc/mail/aliases"]', ("/etc/mail/aliases",)),
    ("redirect", "aliases", "[]", ()),
    ("redirect", "forward", '""', ""),
    ("redirect", "forward", '"/var/forward/{user}"', "/var/forward/{user}"),
    ("route", "recipients", '["*@corp.example"]', None),
    ("route", "smart_hosts", '["smtp://a.example"]', None),
    ("route", "auth", "false", None),
    ("route", "from", '"al@example.org"', None),
    ("route", "unroutable", '"nobody lives there"', "nobody lives there"),
    ("route", "add_headers", '["X-Route: corp"]', ("X-Route: corp",)),
    ("route", "remove_headers", '["X-Mailer", "Received:"]', ("x-mailer", "received")),
    ("account", "match", '["*@Work.example"]', ("*@work.example",)),
    ("account", "users", '["www-data"]', None),
    ("account", "smart_hosts", '["smtp://a.example"]', None),
    ("account", "auth", "false", None),
    ("account", "tls", '{ min_version = "1.3" }', None),
    ("account", "from", '"al@example.org"', None),
    ("account", "allowed_from", '["*"]', None),
    ("host", "url", '"smtp://b.example"', None),
    ("host", "auth", "false", None),
    ("host", "tls", '{ min_version = "1.3" }', None),
    ("host", "timeouts", "{ connect = 5 }", None),
    ("host", "from", '"al@example.org"', None),
    ("host", "source_address", '"192.0.2.1"', "192.0.2.1"),
    ("host", "source_address", '"2001:db8::1"', "2001:db8::1"),
    ("host", "family", '"ipv6"', "ipv6"),
    ("host", "proxy", '"socks5://127.0.0.1:9050"', "socks5://127.0.0.1:9050"),
    ("host", "proxy", '"socks5://al:s3cret@[::1]:1080"', "socks5://al:s3cret@[::1]:1080"),
    ("host", "ignore_extensions", '["pipelining", "CHUNKING"]', ("PIPELINING", "CHUNKING")),
    ("host", "dials", "false", False),
    ("", "spool", '"/var/spool/held"', "/var/spool/held"),
    ("", "mta", '["/usr/sbin/exim4"]', ("/usr/sbin/exim4",)),
    ("hold", "to", '["smtp://b.example", { url = "submission://c.example" }]', None),
    ("hold", "auth", '{ user = "al", password = { keyring = "k" } }', None),
    ("hold", "tls", '{ policy = "none" }', None),
    ("hold", "timeouts", "{ connect = 5 }", None),
    ("hold", "domains", '["Dialup.Example"]', ("dialup.example",)),
    ("hold", "etrn_names", '["@dialup.example"]', ("@dialup.example",)),
    ("hold", "trust_caller", "true", True),
    ("hold", "mailstore_prefix", "4", 4),
    ("hold", "mailstore_suffix", "1", 1),
    *(
        (table, *row)
        for table in ("hold", "outbox")
        for row in [
            ("max_age", '"1d12h"', 129_600.0),
            ("max_age", "3600", 3600.0),
            ("max_age", '"999999999w"', 100 * 365 * 86_400.0),
            ("on_expire", '"discard"', "discard"),
            ("on_refuse", '"bounce"', "bounce"),
            ("uncertain", '"resend"', "resend"),
            ("retry", '"F,2h,15m"', "F,2h,15m"),
            ("retry", '"* refused F,1h,5m\\n* * F,5d,8h"', "* refused F,1h,5m\n* * F,5d,8h"),
            ("min_interval", '"90s"', 90.0),
            ("archive_keep", "0", 0.0),
        ]
    ),
    ("outbox", "folder", '"/var/spool/outbox"', "/var/spool/outbox"),
    ("", "hold", "{}", None),
    ("", "outbox", "{}", None),
    ("", "auth", "{}", None),
    ("", "tls", "{}", None),
    ("", "timeouts", "{}", None),
    ("", "redirect", "{}", None),
    ("", "route", "[]", None),
    ("", "account", "[]", None),
    ("auth", "user", '"al"', None),
    ("auth", "password", '"secret"', None),
]


def document_with(table: str, key: str, value: str) -> tuple[str, int]:
    """A configuration that is good but for one value, and the line that value stands on."""
    lines = TABLE_OF[table].format(f"{key} = {value}").splitlines()
    kept = [line for line in lines[:-1] if not line.startswith(f"{key} = ")] + lines[-1:]
    return "\n".join(["# a comment", "", *kept]) + "\n", len(kept) + 2


@pytest.mark.parametrize(("table", "key", "value", "expected"), GOOD)
def test_a_good_value_is_taken(table: str, key: str, value: str, expected: object, tmp_path: Path) -> None:
    """muawrap.toml(5)."""
    settings = load(tmp_path, document_with(table, key, value)[0])
    if expected is None:
        return
    found: object
    if key == "smart_hosts":
        found = tuple(map(str, hosts(settings)))
    elif table == "auth":
        found = getattr(settings.profile.auth, key)
    elif table == "tls":
        found = (settings.profile.tls or {})[key]
    elif table == "timeouts":
        found = getattr(settings.timeouts, key)
    elif table in ("route", "account"):
        found = getattr((settings.routes or settings.accounts)[0], key)
    elif table == "hold":
        found = settings.holds["isp"].keys[key]
    elif table == "outbox":
        found = settings.outbox[key]
    elif table == "host":
        found = getattr(hosts(settings)[0], key)
    elif key in ("from", "allowed_from"):
        found = getattr(settings.profile, {"from": "sender"}.get(key, key))
    else:
        found = getattr(settings, key)
    assert found == expected


def rows(table: str) -> schema.Rows:
    return schema.HOST if table == "host" else schema.TABLES.get(table, schema.TOP)


def every_key() -> list[tuple[str, str]]:
    return [(table, key) for table in TABLE_OF for key in rows(table)]


def test_no_key_of_the_schema_is_left_out_here() -> None:
    """The tables of these tests are complete."""
    assert {(table, key) for table, key, *_ in GOOD} == set(every_key())


@pytest.mark.parametrize(("table", "key"), every_key())
def test_a_wrong_type_is_refused_with_file_line_and_key(table: str, key: str, tmp_path: Path) -> None:
    """muawrap.toml(5): a date is never right."""
    text, line = document_with(table, key, "1979-05-27")
    names = {"": "", "host": "smart_hosts.", "hold": "hold.isp."}.get(table, f"{table}.")
    failure = refusal(tmp_path, text)
    assert failure.what.startswith(f"configuration {tmp_path}/muawrap.toml line {line}: {names}{key} ")
    assert failure.advice == "see muawrap.toml(5)"


@pytest.mark.parametrize(("table", "key"), every_key())
def test_a_misspelt_key_is_refused_with_the_nearest_known_key(table: str, key: str, tmp_path: Path) -> None:
    """muawrap.toml(5)."""
    text, line = document_with(table, key + "x", "1")
    failure = refusal(tmp_path, text)
    assert failure.what.startswith(f"configuration {tmp_path}/muawrap.toml line {line}: ")
    assert failure.what.endswith(f"{key}x is no key of muawrap")
    assert failure.advice == f"did you mean {key}?"


@pytest.mark.parametrize(
    ("text", "sentence", "advice"),
    [
        (
            HOSTS + '[auth]\nuser = "al"\nadmin = "al@example.org"\n',
            "line 4: auth.admin is no key of muawrap",
            "admin is no key of a table: it must stand above the first line in brackets",
        ),
        (HOSTS + 'user = "al"\n', "line 2: user is no key of muawrap", "it belongs into the table auth"),
        (HOSTS + "connect = 5\n", "line 2: connect is no key of muawrap", "it belongs into the table timeouts"),
        (HOSTS + "qqqqqqqq = 5\n", "line 2: qqqqqqqq is no key of muawrap", "see muawrap.toml(5)"),
        (HOSTS + "[smtp]\nhost = 1\n", "line 2: smtp is no key of muawrap", "see muawrap.toml(5)"),
    ],
)
def test_a_key_in_the_wrong_table_is_told_where_it_belongs(
    text: str, sentence: str, advice: str, tmp_path: Path
) -> None:
    """muawrap.toml(5): TOML gives what stands below a header to that table."""
    failure = refusal(tmp_path, text)
    assert told(tmp_path, text) == sentence
    assert failure.advice == advice


IMPOSSIBLE = [
    ("", "smart_hosts", "[]", "must not be empty"),
    ("", "smart_hosts", '"smtp://a.example"', 'must be a list, written as ["submissions://smtp.example.org"]'),
    ("", "smart_hosts", "[1]", "must be a table, such as { key = value }"),
    ("", "from", '"al"', "must be a full address, with a domain"),
    ("", "from", '"al@"', 'is no address: no domain after "@"'),
    (
        "",
        "from",
        '"al@faß.example"',
        "is no address: 'faß' is one domain or another, as 'ß' is read; write its A-label",
    ),
    ("", "allowed_from", '["*@*ü.example"]', "matches nothing: '*ü' is no label of a domain (IDNA)"),
    ("", "from", '"al@a.example, bo@a.example"', "is no address: it holds more than one address"),
    ("", "from", '"al@a.example\\nX: y"', "must not hold control characters, or octets that are not UTF-8"),
    ("", "allowed_from", '"*"', 'must be a list, such as ["one", "two"]'),
    ("", "allowed_from", "[1]", 'must be a text in quotes, such as "text"'),
    ("", "rewrite_from_header", '"yes"', "must be true or false"),
    ("", "rewrite_from_header", "1", "must be true or false"),
    ("", "null_sender", '"drop"', 'must be "keep" or "from"'),
    ("", "admin", '"a, b"', "is no address: it holds more than one address"),
    ("", "qualify_domain", '"exa mple"', "is no domain: "),
    ("", "qualify_domain", '"a@b"', "is no domain: "),
    ("", "hostname", '"-a"', "is no domain: "),
    ("", "local_domains", '["a b"]', "is no domain: "),
    ("", "log", '"sylog"', 'must be "syslog", "container", "none", a path from "/" or from "~/", or a list of these'),
    ("", "log", '""', 'must be "syslog"'),
    ("", "log", "[]", 'must be "syslog"'),
    ("", "dial_delay", "-1", "must be a number of seconds from 0 to 86400"),
    ("", "dial_delay", "nan", "must be a number of seconds"),
    ("", "dial_delay", "inf", "must be a number of seconds"),
    ("", "dial_delay", "true", "must be a number of seconds"),
    ("", "dial_delay", "86401", "must be a number of seconds"),
    ("", "dial_delay", '"1d1s"', "must be a number of seconds from 0 to 86400"),
    ("", "dial_delay", '"10"', 'must be a time, such as "5d" or "1h30m"'),
    ("", "tempfail", '"next"', 'must be "final" or "next-host"'),
    ("", "max_received", "-1", "must be a whole number from 0 to 1000000"),
    ("", "max_received", "1.0", "must be a whole number"),
    ("", "max_received", "true", "must be a whole number"),
    ("", "auth", '"al"', "must be a table, such as { key = value }"),
    ("tls", "fingerprint", '"AB:CD"', "must be a SHA-256 in hexadecimal, 64 digits with or without colons"),
    ("tls", "fingerprint", f'["{"0" * 64}", "md5:{"0" * 32}"]', "must be a SHA-256 in hexadecimal"),
    ("host", "source_address", '"a.example"', "must be an address of this machine"),
    ("host", "source_address", '"256.0.0.1"', "must be an address of this machine"),
    ("tls", "server_name", '"[mail.example]"', "must be a domain, or an IP address"),
    ("tls", "server_name", '"::1%lo"', "must be a domain, or an IP address"),
    ("tls", "server_name", '"a b"', "is no domain: "),
    ("", "smart_hosts", '["smtp+unix://al:pw@/run/s"]', "must not hold a user"),
    (
        "",
        "smart_hosts",
        f'["smtp+unix:///{"ü" * 54}"]',
        f'"smtp+unix:///{"ü" * 54}" must name a socket by its',
    ),
    ("host", "family", '"inet6"', 'must be "" or "ipv4" or "ipv6"'),
    ("host", "proxy", '"http://127.0.0.1:80"', 'must be "socks5://HOST:PORT"'),
    ("host", "proxy", '"socks5://127.0.0.1"', 'must be "socks5://HOST:PORT"'),
    ("host", "proxy", '"socks5://al@127.0.0.1:1080"', "has a user without a password"),
    ("", "smart_hosts", '["srv://a.example:25"]', '"srv://a.example:25" must name a domain, and no port'),
    ("", "smart_hosts", '["mx://192.0.2.1"]', '"mx://192.0.2.1" must name a domain, and no port'),
    ("", "smart_hosts", '["lmtp+unix://run/lmtp"]', '"lmtp+unix://run/lmtp" must name a socket by its whole path'),
    ("", "smart_hosts", f'["smtp+unix:///{"x" * 107}"]', f'"smtp+unix:///{"x" * 107}" must name a socket by its whole'),
    ("", "mta", '["sendmail"]', "must be a program with its arguments, such as"),
    ("", "mta", "[]", "must be a program with its arguments"),
    ("", "hold", "[]", "must be a table of tables, written as [hold.NAME] on a line of its own"),
    ("", "hold", "{ isp = {} }", ".isp.to is missing"),
    ("", "hold", '{ isp = { to = "a" } }', '.isp.to "a" has no scheme'),
    ("", "hold", '{ outbox = { to = "smtp://a" } }', '.outbox cannot be: a name is letters, digits, ".", "_" and "-"'),
    ("", "hold", '{ ".isp" = { to = "smtp://a" } }', "..isp cannot be: a name is"),
    ("", "hold", '{ "a/b" = { to = "smtp://a" } }', ".a/b cannot be: a name is"),
    ("hold", "max_age", '"5 days"', 'must be a time, such as "5d" or "1h30m", or a whole number of seconds'),
    ("hold", "max_age", "-1", "must be a time"),
    ("hold", "max_age", "true", "must be a time"),
    ("hold", "max_age", '""', "must be a time"),
    ("hold", "on_expire", '"keep"', 'must be "bounce" or "archive" or "discard"'),
    ("hold", "retry", "[]", "must be retry rules such as"),
    ("hold", "retry", '"F,2h,15m\\u0000"', "must not hold control characters"),
    ("", "route", "{}", "must be a list, written as [[route]] on a line of its own"),
    ("", "account", "{}", "must be a list, written as [[account]] on a line of its own"),
    ("auth", "password", '""', "must not be empty"),
    ("auth", "password", "{}", "must be a text, or a table with one key"),
    ("auth", "password", '{ file = "/a", env = "B" }', "must be a text, or a table with one key"),
    ("auth", "password", '{ safe = "x" }', 'knows keyring, command, file, netrc, credential, env, not "safe"'),
    ("auth", "password", '{ file = "x" }', 'of the form file must be a path from "/" or from "~/"'),
    ("auth", "password", '{ file = "" }', "of the form file must not be empty"),
    ("auth", "password", '{ env = "" }', "of the form env must not be empty"),
    ("auth", "password", '{ keyring = "" }', "of the form keyring must not be empty"),
    ("auth", "password", "{ command = [] }", "of the form command must not be empty"),
    ("auth", "password", '{ command = "pass" }', 'of the form command must be a list, such as ["one", "two"]'),
    ("auth", "password", "[]", "is missing beside user"),
    ("tls", "policy", '"always"', 'must be "required" or "if-offered" or "none"'),
    ("tls", "ca_file", '"own.pem"', 'must be a path from "/" or from "~/"'),
    ("tls", "min_version", "1.2", 'must be a text in quotes, such as "text"'),
    ("tls", "min_version", '"1.1"', 'must be "1.2" or "1.3"'),
    ("timeouts", "connect", "0", "must be more than 0 seconds"),
    ("timeouts", "final", "0", "must be more than 0 seconds"),
    ("timeouts", "total", "-1", "must be a number of seconds"),
    ("redirect", "aliases", '["aliases"]', 'must be a path from "/" or from "~/"'),
    ("redirect", "forward", '"/etc/forward"', "must be a path with {home} or {user} in it"),
    ("redirect", "forward", '"{home}"', "must be a path with {home} or {user} in it"),
    ("redirect", "forward", '"{home}/.forward.{host}"', "knows {home} and {user} only"),
    ("route", "recipients", "[]", "is missing"),
    ("route", "add_headers", '["X-Route"]', "must be a list of whole header lines"),
    ("route", "add_headers", '["X-Route: a\\nBcc: b"]', "must not hold control characters"),
    ("route", "remove_headers", '["X Route"]', "must be a list of header names"),
    ("account", "users", "[33]", 'must be a text in quotes, such as "text"'),
]


@pytest.mark.parametrize(("table", "key", "value", "sentence"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_with_file_line_and_key(
    table: str, key: str, value: str, sentence: str, tmp_path: Path
) -> None:
    """muawrap.toml(5): and the message says what would be right."""
    text, line = document_with(table, key, value)
    names = {"": "", "hold": "hold.isp.", "host": "smart_hosts."}.get(table, f"{table}.")
    blank = "" if sentence.startswith(".") else " "
    assert told(tmp_path, text).startswith(f"line {line}: {names}{key}{blank}{sentence}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[hold.isp]\nto = ["smtp://a.example", "smtp://b.test"]\n[hold.isp.auth]\nuser = "al"\npassword = "x"\n',
            (
                "line 3: hold.isp.auth would send the password of a.example to b.test too;"
                " give that host an auth of its own, or auth = false"
            ),
        ),
        (
            '[hold.alice]\nto = "smtp://a"\ndomains = ["bob", "x.example"]\n[hold.Bob]\nto = "smtp://b"\n',
            "line 3: hold.alice.domains holds bob, which is the name of [hold.Bob]",
        ),
        ('[auth]\nuser = "al"\n', "line 1: auth.password is missing beside user"),
        ('[auth]\ntoken = "x"\n', "line 1: auth.user is missing beside token"),
        ('\n[auth]\npassword = "x"\n', "line 2: auth.user is missing beside password"),
        *(
            (f"\n[auth]\nmechanisms = {listed}\n", "line 2: auth.user is missing beside mechanisms")
            for listed in ('["EXTERNAL", "PLAIN"]', '["PLAIN"]')  # which would be no AUTH at all
        ),
        (
            'smart_hosts = [\n{ url = "smtp://a.example", auth = { mechanisms = ["PLAIN"] } },\n]\n',
            "line 2: smart_hosts.auth.user is missing beside mechanisms",
        ),
        ("\n[[route]]\n", "line 2: route.recipients is missing"),
        ('[[route]]\nrecipients = ["a"]\n[[route]]\nfrom = ""\n', "line 3: route.recipients is missing"),
        ('[[account]]\nfrom = ""\n', "line 1: account.match and users are both missing"),
        ('smart_hosts = [\n"smtp://a.example",\n{ from = "" },\n]\n', "line 3: smart_hosts.url is missing"),
        (
            '[[route]]\nrecipients = ["a"]\nunroutable = "x"\nsmart_hosts = ["smtp://a.example"]\n',
            "line 3: route.unroutable and smart_hosts exclude each other",
        ),
    ],
)
def test_what_is_missing_is_told_at_the_table_it_is_missing_in(text: str, sentence: str, tmp_path: Path) -> None:
    """muawrap.toml(5)."""
    assert told(tmp_path, text) == sentence


# -- smart hosts


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port"),
    [
        ("smtp://a.example", "smtp", "a.example", 25),
        ("submission://a.example", "submission", "a.example", 587),
        ("submissions://a.example", "submissions", "a.example", 465),
        ("smtp://a.example:2525", "smtp", "a.example", 2525),
        ("smtp://a.example./", "smtp", "a.example", 25),
        ("smtp://relay", "smtp", "relay", 25),
        ("smtp://127.0.0.1:1025", "smtp", "127.0.0.1", 1025),
        ("smtp://[::1]", "smtp", "::1", 25),
        ("smtp://[2001:db8::1]:2525", "smtp", "2001:db8::1", 2525),
        ("submissions://a.example:587", "submissions", "a.example", 587),
    ],
)
def test_a_smart_host_is_a_scheme_a_host_and_a_port(url: str, scheme: str, host: str, port: int) -> None:
    """muawrap.toml(5), SMART HOSTS."""
    assert schema.smart_host(url) == SmartHost(url, scheme, host, port)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("a.example", "has no scheme: write submissions://a.example (TLS), submission:// (STARTTLS) or smtp://"),
        ("", "has no scheme"),
        ("http://a.example", "has an unknown scheme: write submissions://, submission:// or smtp://"),
        ("smtps://a.example", "has an unknown scheme"),
        ("smtp://", "is no smart host"),
        ("smtp://a.example/inbox", "is no smart host"),
        ("smtp://::1", "is no smart host: write SCHEME://HOST or SCHEME://HOST:PORT, IPv6 in brackets"),
        ("smtp://[::1", "is no smart host"),
        ("smtp://[::::]", "has no IPv6 address"),
        ("smtp://[1.2.3.4]", "has no IPv6 address"),
        ("smtp://a..example", "has no host name that DNS could know"),
        ("smtp://a b", "has no host name that DNS could know"),
        ("smtp://-a.example", "has no host name that DNS could know"),
        ("smtp://\u00e4.example", "has no host name that DNS could know"),
        (f"smtp://{'a' * 64}.example", "has no host name that DNS could know"),
        (f"smtp://{'a.' * 124}example", "has no host name that DNS could know"),
        ("smtp://a.example:0", "has an impossible port"),
        ("smtp://a.example:65536", "has an impossible port"),
        ("smtp://a.example:port", "is no smart host"),
        ("smtp://a.example:\u0661", "is no smart host"),
        ("submission://a.example:465", "write submissions://a.example"),
    ],
)
def test_what_is_no_smart_host_is_refused_with_what_would_be(url: str, sentence: str) -> None:
    """muawrap.toml(5), SMART HOSTS."""
    with pytest.raises(schema.Bad, match=re.escape(sentence)):
        schema.smart_host(url)


@pytest.mark.row("T7")
def test_a_password_in_a_url_is_refused_and_not_shown(tmp_path: Path) -> None:
    """RELIABILITY T7: neither on standard error nor in the log."""
    failure = refusal(tmp_path, 'smart_hosts = ["submissions://al:s3cret@smtp.example.org"]\n')
    assert "s3cret" not in failure.what + failure.advice
    assert failure.what.endswith(
        'smart_hosts must not hold a user: write { url = "...", auth = { user = "...", password = ... } }'
    )


def test_a_host_takes_what_it_does_not_set_from_the_top(tmp_path: Path) -> None:
    """muawrap.toml(5), HOST."""
    settings = load(
        tmp_path,
        """\
smart_hosts = [
  "smtp://a.example",
  { url = "submissions://b.example", tls = { min_version = "1.3" }, timeouts = { connect = 5 } },
]
[tls]
ca_file = "/own.pem"
[timeouts]
final = 700
""",
    )
    first, second = hosts(settings)
    assert first.tls == Tls("if-offered", "/own.pem")
    assert second.tls == Tls("required", "/own.pem", "1.3")
    assert first.timeouts == Timeouts(final=700)
    assert second.timeouts == Timeouts(connect=5, final=700)


def test_a_value_in_the_table_of_a_host_is_told_on_its_own_line(tmp_path: Path) -> None:
    """muawrap.toml(5): every error names file, line and key."""
    text = """\
smart_hosts = [
  # "[this]" is no host
  { url = "smtp://a.example", timeouts = { connect = 1 } },

  { url = "smtp://b.example",
    timeouts = { connect = 0 } },
]
""".replace(",\n    timeouts", ", timeouts")
    assert told(tmp_path, text) == "line 5: smart_hosts.timeouts.connect must be more than 0 seconds"


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            '{ url = "smtp://b.example", family = "ipv6", source_address = "192.0.2.1" }',
            "line 4: {}.source_address is no ipv6 address: 192.0.2.1",
        ),
        (
            '{ url = "lmtp+unix:///s", proxy = "socks5://127.0.0.1:1080" }',
            "line 4: {}.url a socket of this machine is reached without proxy, source_address and family: lmtp+unix:///s",
        ),
        (
            '{ url = "smtp://b.example", tls = { client_key = "/x" } }',
            "line 4: {}.tls has a client_key without a client_cert",
        ),
        (
            '{ url = "submissions://b", tls = { policy = "none" } }',
            'line 4: {}.tls cannot have the policy "none" with submissions://b, which is TLS from the first octet',
        ),
        (
            '{ url = "smtp://b.example", tls = { policy = "none" } }',
            'line 4: {}.tls cannot have a fingerprint and the policy "none" with smtp://b.example',
        ),
        (
            '{ url = "mx://b.example", auth = { user = "al", password = "x" } }',
            "line 4: {}.auth cannot go with mx://b.example: whoever answers for DNS would get the password; use srv://",
        ),
        (
            '{ url = "smtp://b.example", auth = { user = "al", mechanisms = ["EXTERNAL"] } }',
            "line 4: {}.auth has EXTERNAL only, which needs tls.client_cert for smtp://b.example",
        ),
    ],
)
@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("\n\n", "smart_hosts"),
        ('[[route]]\nrecipients = ["*"]\n', "route.smart_hosts"),
        ('[[account]]\nusers = ["al"]\n', "account.smart_hosts"),
        ("\n[hold.isp]\n", "hold.isp.to"),
    ],
)
def test_what_cannot_be_together_in_the_table_of_a_host_is_told_there(
    table: str, key: str, entry: str, sentence: str, tmp_path: Path
) -> None:
    """muawrap.toml(5): every error names file, line and key; a [tls] that others share is innocent."""
    tls = f'fingerprint = "{"0" * 64}"'
    above, _, name = key.rpartition(".")
    shared = f"{above}.tls" if above.startswith("hold") else "tls"
    text = f'{table}{name} = ["smtp://a.example",\n{entry},\n]\n[{shared}]\n{tls}\n'
    assert told(tmp_path, text) == sentence.format(key)


def test_a_fault_that_an_entry_only_meets_is_told_where_it_is_made(tmp_path: Path) -> None:
    """muawrap.toml(5): the tls of a host is innocent where the policy of all is wrong for it."""
    entry = '{ url = "submissions://a.example", tls = { min_version = "1.3" } }'
    assert told(tmp_path, f'smart_hosts = [{entry}]\n[tls]\npolicy = "none"\n').startswith("line 2: tls cannot have ")


@pytest.mark.parametrize("scheme", ["smtp", "submission"])
def test_the_policy_none_is_for_hosts_that_begin_in_the_clear(scheme: str, tmp_path: Path) -> None:
    """muawrap.toml(5), [tls]."""
    settings = load(tmp_path, f'smart_hosts = ["{scheme}://a.example"]\n[tls]\npolicy = "none"\n')
    assert hosts(settings)[0].tls.policy == "none"
    assert told(tmp_path, HOSTS + '[tls]\npolicy = "none"\n') == (
        'line 2: tls cannot have the policy "none" with submissions://smtp.example.org,'
        " which is TLS from the first octet"
    )


# -- a password goes only to its own hosts

AUTH = '[auth]\nuser = "al"\npassword = "s3cret"\n'


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("smtp1.example.org", "smtp2.example.org", True),
        ("smtp.example.org", "SMTP.Example.org:2525", True),
        ("example.org", "smtp.example.org", True),
        ("smtp.eu.example.org", "smtp.us.example.org", False),
        ("smtp.example.org", "smtp.example.net", False),
        ("smtp.example.org", "example.org.evil.example", False),
        ("one.co.uk", "two.co.uk", False),
        ("one.com.au", "two.com.au", False),
        ("one.me.uk", "two.me.uk", False),
        ("one.id.au", "two.id.au", False),
        ("one.go.jp", "two.go.jp", False),
        ("one.github.io", "two.github.io", False),
        ("one.duckdns.org", "two.duckdns.org", False),
        ("smtp1.web.de", "smtp2.web.de", True),
        ("smtp1.one.co.uk", "smtp2.one.co.uk", True),
        ("one.org", "two.org", False),
        ("relay1", "relay2", False),
        ("relay", "relay:2525", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "192.0.2.1:2525", True),
        ("[2001:db8::1]", "[2001:db8::2]", False),
    ],
)
def test_a_password_goes_only_to_hosts_with_the_parent_domain_of_the_first(
    first: str, second: str, shared: bool, tmp_path: Path
) -> None:
    """muawrap.toml(5), PRECEDENCE: where one owner can have that domain; otherwise the configuration is refused."""
    text = f'smart_hosts = ["smtp://{first}", "smtp://{second}"]\n' + AUTH
    if shared:
        assert [host.auth.user for host in hosts(load(tmp_path, text))] == ["al", "al"]
        return
    sentence = told(tmp_path, text)
    assert sentence.startswith("line 2: auth would send the password of ")
    assert sentence.endswith("; give that host an auth of its own, or auth = false")
    assert "s3cret" not in sentence


@pytest.mark.parametrize(("own", "user"), [("false", ""), ('{ user = "bo", password = "x" }', "bo")])
def test_another_host_needs_a_word_on_auth_of_its_own(own: str, user: str, tmp_path: Path) -> None:
    """muawrap.toml(5), PRECEDENCE."""
    text = f'smart_hosts = ["smtp://a.example.org", {{ url = "smtp://b.example.net", auth = {own} }}]\n' + AUTH
    assert [host.auth.user for host in hosts(load(tmp_path, text))] == ["al", user]


ROUTED = HOSTS + AUTH


@pytest.mark.parametrize(
    ("tables", "host", "user"),
    [
        ("", "smtp.example.org", "al"),
        ("[[route]] hosts", "route.example", ""),
        ("[[route]] hosts auth", "route.example", "route"),
        ("[[route]] auth", "smtp.example.org", "route"),
        ("[[route]] false", "smtp.example.org", ""),
        ("[[account]] hosts", "account.example", ""),
        ("[[account]] hosts auth", "account.example", "account"),
        ("[[account]] auth", "smtp.example.org", "account"),
        ("[[account]] false", "smtp.example.org", ""),
        ("[[route]] hosts [[account]] auth", "route.example", ""),
        ("[[route]] hosts [[account]] hosts auth", "route.example", ""),
        ("[[route]] [[account]] hosts auth", "account.example", "account"),
        ("[[route]] auth [[account]] hosts", "account.example", "route"),
        ("[[route]] [[account]] hosts", "account.example", ""),
    ],
)
def test_the_list_is_the_routes_else_the_accounts_else_the_tops(
    tables: str, host: str, user: str, tmp_path: Path
) -> None:
    """muawrap.toml(5), PRECEDENCE: and no password meets the hosts of another table."""
    text = ROUTED
    table = ""
    for word in tables.split():
        if word.startswith("[["):
            table = word.strip("[]")
            text += f"{word}\n" + ('recipients = ["*"]\n' if table == "route" else 'users = ["al"]\n')
        text += {
            "hosts": f'smart_hosts = ["smtp://{table}.example"]\n',
            "auth": f'auth = {{ user = "{table}", password = "x" }}\n',
            "false": "auth = false\n",
        }.get(word, "")
    settings = load(tmp_path, text)
    route = settings.routes[0] if settings.routes else None
    account = settings.accounts[0] if settings.accounts else None
    (found,) = hosts_for(settings, route, account)
    assert (found.host, found.auth.user) == (host, user)


@pytest.mark.parametrize(
    "second", ["smtp+unix:///tmp/b.smtp.sock", "smtp+unix:///RUN/a.smtp.sock", "smtp://b.smtp.sock"]
)
def test_a_socket_has_no_parent_domain(second: str, tmp_path: Path) -> None:
    """muawrap.toml(5), PRECEDENCE: in another folder it may be somebody else's."""
    text = f'smart_hosts = ["smtp+unix:///run/a.smtp.sock", "{second}"]\n' + AUTH
    assert told(tmp_path, text).startswith("line 2: auth would send the password of /run/a.smtp.sock to ")


@pytest.mark.parametrize("table", ['[[route]]\nrecipients = ["*"]\n', '[[account]]\nusers = ["al"]\n'])
def test_what_would_leak_in_a_route_or_account_is_refused_before_it_is_needed(table: str, tmp_path: Path) -> None:
    """muawrap.toml(5), PRECEDENCE."""
    text = (
        f'smart_hosts = ["smtp://a.example.org", {{ url = "smtp://b.example.net", auth = false }}, "smtp://c.example"]\n'
        f'{table}from = ""\nauth = {{ user = "bo", password = "x" }}\n'
    )
    assert "auth would send the password of a.example.org to c.example too" in told(tmp_path, text)
    assert told(tmp_path, text).startswith("line 5: ")


def test_the_tls_of_an_account_lies_over_that_of_the_top(tmp_path: Path) -> None:
    """muawrap.toml(5), [[account]]."""
    settings = load(
        tmp_path,
        HOSTS + '[tls]\nca_file = "/top.pem"\n[[account]]\nusers = ["al"]\ntls = { min_version = "1.3" }\n',
    )
    (found,) = hosts_for(settings, None, settings.accounts[0])
    assert found.tls == Tls("required", "/top.pem", "1.3")


def test_thousands_of_routes_and_accounts_cost_no_time(tmp_path: Path) -> None:
    """D6: work is linear where accounts change no host."""
    routes = "".join(f'[[route]]\nrecipients = ["*@{number}.example"]\nfrom = ""\n' for number in range(1000))
    accounts = "".join(f'[[account]]\nusers = ["u{number}"]\nfrom = "u@a.example"\n' for number in range(1000))
    settings = load(tmp_path, HOSTS + routes + accounts)
    assert (len(settings.routes), len(settings.accounts)) == (1000, 1000)


# -- passwords


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"s3cret"', (Secret("literal", "s3cret"),)),
        ('{ keyring = "muawrap" }', (Secret("keyring", "muawrap"),)),
        ('{ command = ["pass", "show", "mail"] }', (Secret("command", ("pass", "show", "mail")),)),
        ('{ file = "/path" }', (Secret("file", "/path"),)),
        ('{ env = "NAME" }', (Secret("env", "NAME"),)),
        ('[{ env = "NAME" }, "s3cret"]', (Secret("env", "NAME"), Secret("literal", "s3cret"))),
    ],
)
def test_a_password_has_many_forms(value: str, expected: tuple[Secret, ...], tmp_path: Path) -> None:
    """muawrap.toml(5), SECRETS."""
    settings = load(tmp_path, f'{HOSTS}[auth]\nuser = "al"\npassword = {value}\n')
    assert hosts(settings)[0].auth.password == expected
    assert "s3cret" not in repr(settings)


WITH_LITERAL = [
    HOSTS + AUTH,
    HOSTS + '[auth]\nuser = "al"\npassword = [{ env = "NAME" }, "s3cret"]\n',
    'smart_hosts = [{ url = "smtp://a.example", auth = { user = "al", password = "s3cret" } }]\n',
    HOSTS + '[[route]]\nrecipients = ["*"]\nauth = { user = "al", password = "s3cret" }\n',
    HOSTS + '[[account]]\nusers = ["al"]\nauth = { user = "al", password = "s3cret" }\n',
]


@pytest.mark.row("F4")
@pytest.mark.parametrize("text", WITH_LITERAL)
def test_a_password_in_the_file_needs_a_file_that_others_cannot_read(text: str, tmp_path: Path) -> None:
    """muawrap.toml(5), Trust."""
    path = written(tmp_path / "muawrap.toml", text, 0o644)
    with pytest.raises(Failure) as caught:
        config.load(path, {})
    assert caught.value.what == f"configuration {path} holds a password and is readable by everybody"
    assert caught.value.advice == f'chmod o-r {path}, or password = {{ file = "..." }}'
    os.chmod(path, 0o640)
    assert config.load(path, {}).source == path


def test_a_password_is_looked_for_however_deep_the_tables_are(tmp_path: Path) -> None:
    """muawrap.toml(5), Trust: deeper than Python calls itself."""
    path = written(tmp_path / "muawrap.toml", "a." * 1200 + 'password = "x"\n', 0o644)
    with pytest.raises(Failure, match=r"holds a password and is readable by everybody|nested too deeply"):
        config.load(path, {})


def test_a_file_that_names_its_password_only_may_be_read_by_all(tmp_path: Path) -> None:
    """muawrap.toml(5), Trust."""
    text = HOSTS + '[auth]\nuser = "al"\npassword = { file = "/etc/muawrap/password" }\n'
    assert config.load(written(tmp_path / "muawrap.toml", text, 0o644), {}).profile.auth


# -- TOML


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("admin = al@example.org\n", "line 1: not TOML: Invalid value"),
        ("\n\nadmin\n", "line 3: not TOML: "),
        ("[auth\n", "line 1: not TOML: "),
        ('admin = "a"\nadmin = "b"\n', "line 2: not TOML: Cannot overwrite a value"),
        ('admin = "a', "not TOML: "),
        (b"admin = '\xe9'\n", "line 1: not UTF-8"),
        (b"# comment\n\nadmin = '\xff'\n", "line 3: not UTF-8"),
        (b"\xef\xbb\xbfa = 1\nadmin = '\xff'\n", "line 2: not UTF-8"),
        (f"max_received = {'9' * 5000}\n", ""),
        ("a = " + "[" * 100_000 + "\n", ""),
        ("\0", "line 1: not TOML: "),
    ],
)
def test_what_is_no_toml_is_a_failure_with_its_line(text: str | bytes, sentence: str, tmp_path: Path) -> None:
    """muawrap.toml(5)."""
    failure = refusal(tmp_path, text)
    assert told(tmp_path, text).startswith(sentence)
    assert len(failure.sentence()) < 400 + len(str(tmp_path))


def test_line_ends_and_the_byte_order_mark_of_other_systems_are_no_matter(tmp_path: Path) -> None:
    """muawrap.toml(5)."""
    settings = load(tmp_path, b"\xef\xbb\xbf" + (HOSTS + "max_received = 7\n").replace("\n", "\r\n").encode())
    assert settings.max_received == 7
    assert told(tmp_path, b"# x\r\n\r\nallowed_from = [\r\n]\r\nmax_received = 'a'\r\n").startswith(
        "line 5: max_received "
    )


@given(st.binary(max_size=60) | st.text("[]{}\"'=.,#\n ab1", max_size=60).map(str.encode))
def test_no_octets_are_more_than_a_failure(octets: bytes) -> None:
    """RELIABILITY 1, 8: no traceback, ever."""
    with suppress(Failure):
        found = document.parse("file", octets)
        assert config._Reader(found.values, found, {}).config()


LINES = """\
# line 1
smart_hosts = [   # line 2
  "smtp://a.example",
  { url = "smtp://b.example", from = "x@b.example" },
]
"admin" = "al"
local_domains = [
  "one",
  "two",
]
redirect.aliases = ["/a]", "/b"]
note = '''
admin = "not this one"
[auth]
'''
[auth]  # line 16
'user' = "al"
password = { file = "/x" }
[ "tls" ]
policy = "none"

[[route]]
recipients = ["a"]
[route.auth]
user = "r"
[[route]]
recipients = ["b"]
auth = { user = "s", password = "t" }
route.x = 1
[[account]]
users = ["al"]
"""


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("smart_hosts",), 2),
        (("smart_hosts", 0), 3),
        (("smart_hosts", 1, "from"), 4),
        (("smart_hosts", 1, "tls", "policy"), 4),
        (("admin",), 6),
        (("local_domains",), 7),
        (("redirect", "aliases"), 11),
        (("redirect", "forward"), 11),
        (("note",), 12),
        (("auth",), 16),
        (("auth", "user"), 17),
        (("auth", "password"), 18),
        (("auth", "token"), 16),
        (("tls", "policy"), 20),
        (("tls", "verify"), 19),
        (("route", 0), 22),
        (("route", 0, "recipients"), 23),
        (("route", 0, "auth"), 24),
        (("route", 0, "auth", "user"), 25),
        (("route", 1), 26),
        (("route", 1, "auth", "password"), 28),
        (("route", 1, "route", "x"), 29),
        (("route", 1, "smart_hosts", 0, "url"), 26),
        (("account", 0, "users"), 31),
        (("account", 0, "match"), 30),
        (("hostname",), 0),
        ((), 0),
    ],
)
def test_a_place_is_found_on_its_line(where: document.Where, line: int) -> None:
    """muawrap.toml(5): however the file is written."""
    assert document.parse("file", LINES.encode()).line(where) == line


def test_a_mistake_in_a_long_list_is_found_in_no_time(tmp_path: Path) -> None:
    """RELIABILITY F1: within a second, or two."""
    many = "".join(f'  "user{number}@example.org",\n' for number in range(20_000))
    text = f"{HOSTS}allowed_from = [\n{many}]\nmax_received = true\n"
    assert told(tmp_path, text).startswith("line 20004: max_received ")


# -- where it comes from


def test_c_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5), Where it is: neither the environment nor another file says anything."""
    home_is(monkeypatch, tmp_path)
    written(tmp_path / ".config/muawrap/muawrap.toml", "admin = 1\n")
    path = written(tmp_path / "other.toml", HOSTS)
    variables = {"MUAWRAP_SMART_HOSTS": "smtp://b.example", "MUAWRAP_MAX_RECEIVED": "7", "MUAWRAP_NONSENSE": ""}
    settings = config.load(path, variables)
    assert (str(hosts(settings)[0]), settings.max_received, settings.source) == ("smtp.example.org:465", 100, path)


def test_c_may_be_a_path_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5): and is told as a whole."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "muawrap.toml", HOSTS)
    assert config.load("muawrap.toml", {}).source == str(tmp_path / "muawrap.toml")


def test_a_file_given_with_c_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5): there is no falling back, not even where the current directory is gone."""
    with pytest.raises(Failure, match=re.escape(f"there is no configuration file {tmp_path}/x.toml")):
        config.load(str(tmp_path / "x.toml"), {"MUAWRAP_SMART_HOSTS": "smtp://b.example"})
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(Failure, match=r"there is no configuration file x\.toml"):
        config.load("x.toml", {})


def test_the_file_of_the_user_comes_before_that_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5), Where it is: the first that exists is the only one; the home is that of the passwd file."""
    home_is(monkeypatch, tmp_path / "home")
    own = tmp_path / "home/.config/muawrap/muawrap.toml"
    system = tmp_path / "system.toml"
    elsewhere = tmp_path / "elsewhere/.config/muawrap/muawrap.toml"
    written(elsewhere, HOSTS)
    written(system, HOSTS)
    variables = {"HOME": str(tmp_path / "elsewhere")}
    assert config.load(None, variables).source == str(system)
    written(own, HOSTS)
    assert config.load(None, variables).source == str(own)
    written(own, "admin = 1\n")
    with pytest.raises(Failure, match=re.escape(str(own))):
        config.load(None, variables)


@pytest.mark.parametrize(("value", "counts"), [("{0}/xdg", True), ("", False), ("xdg", False)])
def test_xdg_config_home_is_where_the_users_file_is(
    value: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """muawrap.toml(5), Where it is: an absolute path, as its specification says."""
    home_is(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "xdg/muawrap/muawrap.toml", HOSTS)
    own = written(tmp_path / ".config/muawrap/muawrap.toml", HOSTS)
    source = config.load(None, {"XDG_CONFIG_HOME": value.format(tmp_path)}).source
    assert source == (str(tmp_path / "xdg/muawrap/muawrap.toml") if counts else own)


def test_without_any_configuration_the_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5): and how to begin."""
    home_is(monkeypatch, tmp_path)
    failure = environment_refusal({})
    assert failure.what == (
        f"there is no configuration: looked for {tmp_path}/.config/muawrap/muawrap.toml and {tmp_path}/system.toml,"
        " and MUAWRAP_SMART_HOSTS is not set"
    )
    assert 'smart_hosts = ["submissions://smtp.example.org"]' in failure.advice
    assert "cron, sudo and php-fpm clear the environment" in failure.advice


@pytest.mark.row("O2")
def test_a_system_account_reads_the_systems_file_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5), Trust: www-data may be told by whoever finds a hole in a web application."""
    monkeypatch.setattr(config, "SYSTEM_FILE", str(folder / "system.toml"))
    written(folder / "system.toml", HOSTS, 0o644)
    mine = written(folder / "mine/muawrap/muawrap.toml", HOSTS, 0o644, WWW_DATA)
    of_root = written(folder / "root.toml", HOSTS, 0o644)
    with acting_as(WWW_DATA):
        assert config.load(None, {"XDG_CONFIG_HOME": str(folder / "mine")}).source == str(folder / "system.toml")
        assert config.load(of_root, {}).source == of_root
        with pytest.raises(Failure, match=f"{re.escape(mine)} belongs to uid {WWW_DATA}") as caught:
            config.load(mine, {})
    assert caught.value.advice == "it must belong to root"


@pytest.mark.row("O2")
def test_a_login_user_reads_files_of_root_and_of_his_own(folder: Path) -> None:
    """muawrap.toml(5), Trust."""
    mine = written(folder / "mine.toml", HOSTS, 0o600, NOBODY)
    of_root = written(folder / "root.toml", HOSTS, 0o644)
    others = written(folder / "others.toml", HOSTS, 0o644, WWW_DATA)
    with acting_as(NOBODY):
        assert config.load(mine, {}).source == mine
        assert config.load(of_root, {}).source == of_root
        with pytest.raises(Failure, match=f"{re.escape(others)} belongs to uid {WWW_DATA}"):
            config.load(others, {})
    with pytest.raises(Failure, match=f"{re.escape(mine)} belongs to uid {NOBODY}"):
        config.load(mine, {})


@pytest.mark.row("L5")
def test_a_user_without_a_home_reads_the_systems_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELIABILITY L5: an unknown uid, as in a container."""
    monkeypatch.setattr(config, "SYSTEM_FILE", str(folder / "system.toml"))
    written(folder / "system.toml", HOSTS, 0o644)
    log_in_home = written(folder / "home.toml", HOSTS + 'log = "~/log"\n', 0o644)
    with acting_as(54321):
        assert config.load(None, {}).source == str(folder / "system.toml")
        with pytest.raises(Failure, match="log begins with ~/, but the calling uid has no home in the passwd file"):
            config.load(log_in_home, {})


@pytest.mark.parametrize(
    ("mode", "folder_mode", "sentence"),
    [
        (0o666, 0o755, "is writable by others"),
        (0o644, 0o777, "which is writable by others"),
        (0o000, 0o755, "Permission denied"),
        (0o644, 0o700, "Permission denied"),
    ],
)
def test_a_file_that_is_there_but_no_good_is_a_failure_and_the_next_is_not_read(
    mode: int, folder_mode: int, sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """muawrap.toml(5), Where it is."""
    monkeypatch.setattr(config, "SYSTEM_FILE", written(folder / "system.toml", HOSTS, 0o644))
    first = Path(written(folder / "xdg/muawrap/muawrap.toml", HOSTS, mode))
    first.parent.chmod(folder_mode)
    with acting_as(NOBODY), pytest.raises(Failure) as caught:
        config.load(None, {"XDG_CONFIG_HOME": str(folder / "xdg")})
    assert str(first) in caught.value.what
    assert sentence in caught.value.what


@pytest.mark.row("O2")
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_a_configuration_that_is_no_file_is_a_failure_at_once(kind: str, tmp_path: Path) -> None:
    """muawrap.toml(5), Trust."""
    path = tmp_path / "muawrap.toml"
    {"fifo": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/zero", path)}[kind](path)
    with pytest.raises(Failure):
        config.load(str(path), {})


def test_a_configuration_is_bounded(tmp_path: Path) -> None:
    """RELIABILITY F1."""
    with pytest.raises(Failure, match="is larger than"):
        load(tmp_path, b"#" * (config.FILE_LIMIT + 1))


# -- the environment

ALL_BY_ENVIRONMENT = {
    "MUAWRAP_SMART_HOSTS": "smtp://smtp1.example.org, smtp://smtp2.example.org:2525",
    "MUAWRAP_FROM": "al@example.org",
    "MUAWRAP_ALLOWED_FROM": "*@example.org,",
    "MUAWRAP_REWRITE_FROM_HEADER": "false",
    "MUAWRAP_ENVELOPE_FROM_HEADER": "Yes",
    "MUAWRAP_NULL_SENDER": "from",
    "MUAWRAP_ADMIN": "ops@example.org",
    "MUAWRAP_QUALIFY_DOMAIN": "example.org",
    "MUAWRAP_LOCAL_DOMAINS": "a.example, b.example",
    "MUAWRAP_HOSTNAME": "box.example.org",
    "MUAWRAP_LOG": "container,syslog",
    "MUAWRAP_LOG_FORMAT": "json",
    "MUAWRAP_EXIT_STATUS": "sysexits",
    "MUAWRAP_KEEP_FAILED": "/var/spool/failed",
    "MUAWRAP_DIAL_DELAY": "2.5",
    "MUAWRAP_TEMPFAIL": "next-host",
    "MUAWRAP_DOT_ENDS_MESSAGE": "0",
    "MUAWRAP_LONG_LINES": "pass",
    "MUAWRAP_EXTRACT_ADDRESSES_REMOVE_ARGUMENTS": "1",
    "MUAWRAP_MAX_RECEIVED": "50",
    "MUAWRAP_SPOOL": "/srv/spool",
    "MUAWRAP_MTA": "/usr/sbin/exim4, -bS",
    "MUAWRAP_AUTH_USER": "al",
    "MUAWRAP_AUTH_PASSWORD": "s3cret, with a comma",
    "MUAWRAP_AUTH_TOKEN": "t0ken",
    "MUAWRAP_AUTH_MECHANISMS": "plain, login",
    "MUAWRAP_AUTH_ALLOW_PLAINTEXT": "true",
    "MUAWRAP_TLS_POLICY": "required",
    "MUAWRAP_TLS_CA_FILE": "/own.pem",
    "MUAWRAP_TLS_MIN_VERSION": "1.3",
    "MUAWRAP_TLS_VERIFY": "false",
    "MUAWRAP_TLS_FINGERPRINT": ":".join(["AB"] * 32),
    "MUAWRAP_TLS_CLIENT_CERT": "/me.pem",
    "MUAWRAP_TLS_CLIENT_KEY": "/me.key",
    "MUAWRAP_TLS_SERVER_NAME": "mail.example.org",
    "MUAWRAP_TIMEOUTS_CONNECT": "1",
    "MUAWRAP_TIMEOUTS_GREETING": "2",
    "MUAWRAP_TIMEOUTS_COMMAND": "3",
    "MUAWRAP_TIMEOUTS_DATA": "4",
    "MUAWRAP_TIMEOUTS_FINAL": "5",
    "MUAWRAP_TIMEOUTS_TOTAL": "0",
}


def test_everything_a_container_needs_can_be_said_by_the_environment() -> None:
    """muawrap.toml(5), ENVIRONMENT: scalars and comma lists of top, auth, tls and timeouts."""
    settings = config.load(None, {**ALL_BY_ENVIRONMENT, "PATH": "/bin", "HOME": "/"})
    first, second = hosts(settings)
    assert (str(first), str(second)) == ("smtp1.example.org:25", "smtp2.example.org:2525")
    password, token = Secret("literal", "s3cret, with a comma"), Secret("literal", "t0ken")
    assert first.auth == Auth("al", (password,), ("PLAIN", "LOGIN"), True, (token,))
    secure = Tls("required", "/own.pem", "1.3", "mail.example.org", ("ab" * 32,), "/me.pem", "/me.key", False)
    assert first.tls == secure
    assert first.timeouts == Timeouts(1, 2, 3, 4, 5, 0)
    assert settings.profile.sender == "al@example.org"
    assert settings.profile.allowed_from == ("*@example.org",)
    assert settings._replace(profile=config.Profile(), timeouts=Timeouts(), host_local=frozenset()) == Config(
        source="the environment",
        profile=config.Profile(),
        host_local=frozenset(),
        rewrite_from_header=False,
        envelope_from_header=True,
        null_sender="from",
        admin="ops@example.org",
        qualify_domain="example.org",
        local_domains=("a.example", "b.example"),
        hostname="box.example.org",
        log=("container", "syslog"),
        log_format="json",
        exit_status="sysexits",
        keep_failed="/var/spool/failed",
        dial_delay=2.5,
        tempfail="next-host",
        dot_ends_message=False,
        long_lines="pass",
        extract_addresses_remove_arguments=True,
        max_received=50,
        spool="/srv/spool",
        mta=("/usr/sbin/exim4", "-bS"),
    )


def test_no_variable_is_left_out_here() -> None:
    assert set(ALL_BY_ENVIRONMENT) == set(environment.KEYS)


@pytest.mark.parametrize("variable", ALL_BY_ENVIRONMENT)
def test_any_variable_may_name_a_file_that_holds_its_value(variable: str, tmp_path: Path) -> None:
    """muawrap.toml(5), ENVIRONMENT: _FILE; the line end that editors put is not part of it."""
    variables = dict(ALL_BY_ENVIRONMENT)
    path = written(tmp_path / "value", variables.pop(variable) + "\n")
    variables[variable + "_FILE"] = path
    settings, expected = config.load(None, variables), config.load(None, ALL_BY_ENVIRONMENT)
    if variable in ("MUAWRAP_AUTH_PASSWORD", "MUAWRAP_AUTH_TOKEN"):  # which are read when they are needed
        auth = hosts(settings)[0].auth
        assert (auth.token if variable.endswith("TOKEN") else auth.password) == (Secret("file", path),)
    else:
        assert settings == expected


@pytest.mark.parametrize(("value", "seconds"), [("10", 10), ("2.5", 2.5), ("1m30s", 90)])
def test_a_variable_has_a_time_as_the_file_has_it(value: str, seconds: float) -> None:
    """INTERMITTENT 4: a bare number is of seconds, and there are units."""
    environ = {"MUAWRAP_SMART_HOSTS": "smtp://a.example", "MUAWRAP_DIAL_DELAY": value}
    assert config.load(None, environ).dial_delay == seconds


def test_a_host_may_have_its_own_name_and_a_domain_twice(tmp_path: Path) -> None:
    """muawrap.toml(5): only what two tables have would be ambiguous."""
    text = 'smart_hosts = ["smtp://a"]\n[hold.b]\nto = "smtp://b"\ndomains = ["b", "x.example", "X.example"]\n'
    assert load(tmp_path, text).holds["b"].keys["domains"] == ("b", "x.example", "x.example")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SMART_HOSTS", "", "must not be empty"),
        ("SMART_HOSTS", "smtp.example.org", '"smtp.example.org" has no scheme'),
        ("SMART_HOSTS", "smtp://a.example,http://b.example", '"http://b.example" has an unknown scheme'),
        ("FROM", "al", "must be a full address, with a domain"),
        ("FROM", "al@a.example\n", "must not hold control characters"),
        ("FROM", "\udcff@a.example", "must not hold control characters, or octets that are not UTF-8"),
        ("REWRITE_FROM_HEADER", "maybe", "must be true or false"),
        ("REWRITE_FROM_HEADER", "", "must be true or false"),
        ("MAX_RECEIVED", "many", "must be a whole number"),
        ("MAX_RECEIVED", "1.5", "must be a whole number"),
        ("MAX_RECEIVED", "", "must be a whole number"),
        ("MAX_RECEIVED", "9" * 5000, "must be a whole number"),
        ("DIAL_DELAY", "nan", "must be a number of seconds"),
        ("TIMEOUTS_FINAL", "0", "must be more than 0 seconds"),
        ("TIMEOUTS_FINAL", "soon", "must be a number of seconds"),
        ("TLS_VERIFY", "maybe", "must be true or false"),
        ("TLS_FINGERPRINT", "x", "must be a SHA-256 in hexadecimal"),
        ("AUTH_TOKEN", "", "must not be empty"),
        ("AUTH_MECHANISMS", "GSSAPI", "holds GSSAPI, which this program does not have; it has SCRAM-SHA-256-PLUS,"),
        ("AUTH_PASSWORD", "", "must not be empty"),
        ("KEEP_FAILED", "x", 'must be a path from "/" or from "~/"'),
    ],
)
def test_an_impossible_value_is_refused_with_its_variable(variable: str, value: str, sentence: str) -> None:
    """muawrap.toml(5), ENVIRONMENT."""
    failure = environment_refusal({"MUAWRAP_SMART_HOSTS": "smtp://a.example", f"MUAWRAP_{variable}": value})
    assert failure.what.startswith(f"environment variable MUAWRAP_{variable} {sentence}")


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("MUAWRAP_SMART_HOST", "MUAWRAP_SMART_HOSTS"),
        ("MUAWRAP_AUTH_USERNAME", "MUAWRAP_AUTH_USER"),
        ("MUAWRAP_FROM_FILE_FILE", ""),
        ("MUAWRAP_REDIRECT_FORWARD", ""),
        ("MUAWRAP_", ""),
    ],
)
@pytest.mark.parametrize("more", [{}, {"MUAWRAP_SMART_HOSTS": "smtp://a.example"}])
def test_an_unknown_variable_is_refused(variable: str, near: str, more: dict[str, str]) -> None:
    """muawrap.toml(5), ENVIRONMENT: and the nearest known one is told."""
    failure = environment_refusal({variable: "x", **more})
    assert failure.what == f"unknown environment variable {variable}"
    if near:
        assert failure.advice == f"did you mean {near}?"
    else:
        assert failure.advice


def test_a_variable_and_its_file_exclude_each_other(tmp_path: Path) -> None:
    """muawrap.toml(5), ENVIRONMENT: nobody has to know which one wins."""
    failure = environment_refusal({"MUAWRAP_SMART_HOSTS": "smtp://a.example", "MUAWRAP_SMART_HOSTS_FILE": "/x"})
    assert failure.what == (
        "the environment variables MUAWRAP_SMART_HOSTS and MUAWRAP_SMART_HOSTS_FILE exclude each other"
    )


@pytest.mark.parametrize(("mode", "sentence"), [(None, "which does not exist"), (0o666, "is writable by others")])
def test_a_file_that_a_variable_names_must_be_good(mode: int | None, sentence: str, tmp_path: Path) -> None:
    """muawrap.toml(5), ENVIRONMENT."""
    path = str(tmp_path / "value")
    if mode is not None:
        written(tmp_path / "value", "al@a.example", mode)
    failure = environment_refusal({"MUAWRAP_FROM_FILE": path})
    assert path in failure.what
    assert sentence in failure.what


def test_hosts_from_the_environment_mean_that_no_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5): no source's password meets another source's host."""
    home_is(monkeypatch, tmp_path)
    written(tmp_path / ".config/muawrap/muawrap.toml", "this is no TOML")
    settings = config.load(None, {"MUAWRAP_SMART_HOSTS": "smtp://a.example"})
    assert (settings.source, hosts(settings)[0].auth) == ("the environment", Auth())


def test_the_environment_lies_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5), ENVIRONMENT: key by key, in tables too."""
    text = HOSTS + 'max_received = 7\nadmin = "al@a.example"\n[timeouts]\nconnect = 5\nfinal = 700\n'
    path = written(tmp_path / "xdg/muawrap/muawrap.toml", text)
    variables = {
        "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
        "MUAWRAP_MAX_RECEIVED": "8",
        "MUAWRAP_TIMEOUTS_CONNECT": "6",
        "MUAWRAP_TLS_MIN_VERSION": "1.3",
    }
    settings = config.load(None, variables)
    assert (settings.max_received, settings.admin, settings.source) == (8, "al@a.example", path)
    assert settings.timeouts == Timeouts(connect=6, final=700)
    assert hosts(settings)[0].tls.min_version == "1.3"


def test_a_mistake_of_the_environment_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    """muawrap.toml(5)."""
    written(tmp_path / "xdg/muawrap/muawrap.toml", HOSTS + "max_received = 7\n[timeouts]\nfinal = 0\n")
    variables = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "MUAWRAP_MAX_RECEIVED": "x"}
    assert environment_refusal(variables).what.startswith("environment variable MUAWRAP_MAX_RECEIVED must be")
    variables = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "MUAWRAP_TIMEOUTS_CONNECT": "5"}
    assert "muawrap.toml line 4: timeouts.final must be" in environment_refusal(variables).what


@pytest.mark.parametrize("variable", ["MUAWRAP_AUTH_USER", "MUAWRAP_AUTH_PASSWORD", "MUAWRAP_AUTH_PASSWORD_FILE"])
def test_a_login_of_the_environment_never_meets_the_hosts_of_a_file(variable: str, tmp_path: Path) -> None:
    """muawrap.toml(5), ENVIRONMENT."""
    written(tmp_path / "xdg/muawrap/muawrap.toml", HOSTS)
    failure = environment_refusal({"XDG_CONFIG_HOME": str(tmp_path / "xdg"), variable: "s3cret"})
    assert failure.what.startswith(f"{variable} is set, but the smart hosts come from a file")
    assert "s3cret" not in failure.what + failure.advice


# -- what this machine says of itself


@pytest.mark.parametrize(
    ("node", "mail_name", "hostname", "qualify_domain"),
    [
        ("box", None, "", ""),
        ("box.example.org", None, "box.example.org", "box.example.org"),
        ("box.example.org", "example.org\n", "box.example.org", "example.org"),
        ("box", "example.org\nmore\n", "", "example.org"),
        ("box.example.org", "box\n", "box.example.org", "box.example.org"),
        ("box", "not a domain.at all\n", "", ""),
        ("box.", "example.org.\n", "", "example.org"),
        ("localhost.localdomain", "localhost.localdomain\n", "", ""),
    ],
)
def test_the_name_of_this_machine_counts_where_it_has_a_dot(
    node: str,
    mail_name: str | None,
    hostname: str,
    qualify_domain: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """muawrap.toml(5), hostname and qualify_domain: /etc/mailname, else the kernel; DNS is never asked."""
    machine(monkeypatch, node, "")
    read = trust.read

    def mail_name_for(path: str, **rules: Any) -> object:
        if path != "/etc/mailname":
            return read(path, **rules)
        if mail_name is None:
            raise FileNotFoundError(path)
        return read(written(tmp_path / "mailname", mail_name), **rules)

    monkeypatch.setattr(trust, "read", mail_name_for)
    settings = load(tmp_path, HOSTS)
    assert (settings.hostname, settings.qualify_domain) == (hostname, qualify_domain)


def test_the_names_of_this_host_are_short_and_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: names whose mail is mail for this host."""
    machine(monkeypatch, "Box.example.org", "")
    settings = load(tmp_path, HOSTS + 'hostname = "mail.example.net"\n')
    assert settings.host_local == {
        "box.example.org",
        "box",
        "mail.example.net",
        "mail",
        "localhost",
        "localhost.localdomain",
    }


# -- optional packages


def test_a_package_that_is_missing_is_told_with_what_needs_it_and_how_to_get_it() -> None:
    """DESIGN, 4."""
    with pytest.raises(Failure) as caught:
        extras.load("no_such_package", "auth.password from the keyring")
    assert caught.value.what.startswith("auth.password from the keyring needs the Python package no_such_package")
    assert f"{sys.executable} -m pip install no_such_package" in caught.value.advice


def test_a_package_that_is_broken_is_a_failure_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A3."""
    (tmp_path / "broken_package.py").write_text("1 / 0\n")
    (tmp_path / "half_a_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name, reason in ("broken_package", "division by zero"), ("half_a_package", "no_such_package"):
        with pytest.raises(Failure, match=reason):
            extras.load(name, "this")


def test_a_host_that_is_listed_twice_is_one_host(tmp_path: Path) -> None:
    """RULES C4: with another port, or other settings, it is another."""
    listed = (
        "smtp://a.example",
        "smtp://a.example/",
        "smtp://b.example",
        "smtp://a.example:25",
        "smtp://a.example:26",
        "submission://a.example:25",
    )
    urls = ", ".join(f'"{url}"' for url in listed)
    found = hosts(load(tmp_path, f"smart_hosts = [{urls}]\n"))
    assert [host.url for host in found] == [listed[0], listed[2], listed[4], listed[5]]


# -- what cannot be together


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('smart_hosts = ["submissions://a.example"]\ntls = { policy = "none" }\n', 'cannot have the policy "none"'),
        (
            f'smart_hosts = ["smtp://a.example"]\ntls = {{ policy = "none", fingerprint = "{"0" * 64}" }}\n',
            "fingerprint",
        ),
        ('smart_hosts = ["smtp://a.example"]\ntls = { client_key = "/k" }\n', "a client_key without a client_cert"),
        ('smart_hosts = ["smtp://a.example"]\nauth = { user = "al", mechanisms = ["EXTERNAL"] }\n', "EXTERNAL only"),
        ('smart_hosts = ["mx://a.example"]\nauth = { user = "al", password = "x" }\n', "use srv://"),
        *(
            (
                f'tls = {{ {tls} }}\nsmart_hosts = ["srv://a.example"]\n[auth]\nuser = "al"\npassword = "x"\n{auth}',
                "DNS",
            )
            for auth, tls in (("allow_plaintext = true\n", ""), ("", 'policy = "none"'), ("", "verify = false"))
        ),
        ('smart_hosts = [{ url = "smtp+unix:///run/s", family = "ipv4" }]\n', "is reached without proxy"),
        (
            'smart_hosts = [{ url = "smtp://a.example", family = "ipv4", source_address = "::1" }]\n',
            "is no ipv4 address: ::1",
        ),
    ],
)
def test_settings_that_cannot_be_together_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    """muawrap.toml(5): better refused now than when it is needed."""
    assert sentence in told(tmp_path, text)


def test_a_socket_of_this_machine_needs_no_tls(tmp_path: Path) -> None:
    """DESIGN, 2: smtp+unix:// and lmtp+unix://, whatever [tls] says for other hosts."""
    text = 'smart_hosts = ["lmtp+unix:///run/lmtp", "smtp+unix:///run/smtp"]\n[tls]\npolicy = "required"\n'
    lmtp, smtp = hosts(load(tmp_path, text))
    assert (str(lmtp), lmtp.scheme, lmtp.is_local, lmtp.tls.policy) == ("/run/lmtp", "lmtp", True, "none")
    assert (str(smtp), smtp.scheme, smtp.is_local, smtp.tls.policy) == ("/run/smtp", "smtp", True, "none")


def test_what_dns_is_asked_for_has_the_policy_of_its_kind(tmp_path: Path) -> None:
    """DESIGN, 2: if-offered for mx://, required for srv:// and lmtp://."""
    found = hosts(load(tmp_path, 'smart_hosts = ["mx://a.example", "srv://a.example", "lmtp://a.example"]\n'))
    assert [(host.scheme, host.tls.policy) for host in found] == [
        ("mx", "if-offered"),
        ("srv", "required"),
        ("lmtp", "required"),
    ]


@pytest.mark.parametrize(
    "line", ['token = "t"', 'password = "p"', 'mechanisms = ["EXTERNAL"]\n[tls]\nclient_cert = "/c"']
)
def test_a_user_logs_in_by_password_token_or_certificate(line: str, tmp_path: Path) -> None:
    """muawrap.toml(5), [auth]."""
    (host,) = hosts(load(tmp_path, f'{HOSTS}[auth]\nuser = "al"\n{line}\n'))
    assert host.auth.user == "al"


@pytest.mark.parametrize("table", ['auth = { user = "al", token = "t" }', 'proxy = "socks5://al:pw@127.0.0.1:1080"'])
def test_a_token_and_the_password_of_a_proxy_are_secrets_too(table: str, tmp_path: Path) -> None:
    """muawrap.toml(5), Trust: what holds one must not be readable by everybody."""
    file = tmp_path / "muawrap.toml"
    file.write_text(f'smart_hosts = [{{ url = "submission://a.example", {table} }}]\n')
    file.chmod(0o644)
    with pytest.raises(Failure, match="is readable by everybody"):
        config.load(str(file), {})
