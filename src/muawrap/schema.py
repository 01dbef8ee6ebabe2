"""The keys of the configuration, one row a key: what each value may be, and what it becomes."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from muawrap import addresses
from muawrap.mail import Secret, SmartHost

PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "lmtp": 24}
DISCOVERED = ("srv", "mx")
SOCKETS = {"smtp+unix": "smtp", "lmtp+unix": "lmtp"}
POLICIES = ("required", "if-offered", "none")
MECHANISMS = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "PLAIN",
    "LOGIN",
    "EXTERNAL",
    "CRAM-MD5",
    "XOAUTH2",
    "OAUTHBEARER",
)


class Bad(ValueError):
    """A value that cannot be; the message says what would be right, `key` where that is not plain.

    `where` is the place of the table in which the key stands, where the one who reads it cannot know.
    """

    def __init__(self, message: str, key: str = "", where: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.key = key
        self.where = where


def text(value: object) -> str:
    if not isinstance(value, str):
        raise Bad('must be a text in quotes, such as "text"')
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", value):
        raise Bad("must not hold control characters, or octets that are not UTF-8")
    return value


_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}


def duration(value: object) -> float:
    """Seconds, as a number or as Exim and Sendmail write times, such as "1d12h"."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return float(value)
    if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9]{1,9}[wdhms])+", value):
        raise Bad('must be a time, such as "5d" or "1h30m", or a whole number of seconds')
    parts = re.findall(r"([0-9]+)([wdhms])", value)
    return float(min(sum(int(number) * _UNITS[unit] for number, unit in parts), _LONGEST))


_LONGEST = 100 * 365 * 86_400  # a hundred years are as good as for ever, and a date can still be made of them


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Bad("must be true or false")
    return value


def number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
        raise Bad("must be a whole number from 0 to 1000000")
    return value


def seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 86_400:
        raise Bad("must be a number of seconds from 0 to 86400")
    return float(value)


def delay(value: object) -> float:
    """Seconds, or a time as duration() reads it, such as "1m30s"; a day at most."""
    return seconds(duration(value) if isinstance(value, str) else value)


def some_seconds(value: object) -> float:
    if not seconds(value):
        raise Bad("must be more than 0 seconds")
    return seconds(value)


def texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Bad('must be a list, such as ["one", "two"]')
    return tuple(text(item) for item in value)


def globs(value: object) -> tuple[str, ...]:
    try:
        return tuple(addresses.in_a_labels(item.lower()) for item in texts(value))
    except addresses.AddressError as error:
        raise Bad(f"matches nothing: {error}") from error


def one_of(*choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if text(value) not in choices:
            raise Bad("must be " + " or ".join(f'"{choice}"' for choice in choices))
        return text(value)

    return check


def address(value: object) -> str:
    if not text(value):
        return ""
    found = destination(value)
    if not addresses.split(found)[1]:
        raise Bad("must be a full address, with a domain")
    return found


def destination(value: object) -> str:
    if not text(value):
        return ""
    try:
        return addresses.in_a_labels(addresses.parse_one(text(value)).address)
    except addresses.AddressError as error:
        raise Bad(f"is no address: {error}") from error


def domain(value: object) -> str:
    if not text(value):
        return ""
    try:
        return addresses.a_labels(addresses.parse_one("x@" + text(value)).domain)
    except addresses.AddressError as error:
        raise Bad(f"is no domain: {error}") from error


def server_name(value: object) -> str:
    """A domain, or an IP address as certificates have it: in one spelling, and without the brackets of a URL."""
    in_brackets = re.fullmatch(r"\[(?:IPv6:)?(.*)\]", text(value), re.IGNORECASE)
    name = in_brackets[1] if in_brackets else text(value)
    if _is_ipv4(name):
        return name
    if ":" in name and _is_ipv6(name):
        import socket

        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, name))
    if in_brackets or ":" in name:
        raise Bad('must be a domain, or an IP address such as "192.0.2.1" or "2001:db8::1"')
    return domain(name)


def command(value: object) -> tuple[str, ...]:
    words = texts(value)
    if not words or not words[0].startswith("/"):
        raise Bad('must be a program with its arguments, such as ["/usr/sbin/sendmail"]')
    return words


def rules(value: object) -> str:
    """Retry rules, read when they are needed: a rule is lines, a file is a path."""
    if not isinstance(value, str):
        raise Bad('must be retry rules such as "F,2h,15m; G,16h,1h,1.5", or a path from "/" to a file of them')
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", value):
        raise Bad("must not hold control characters, or octets that are not UTF-8")
    return value


def domains(value: object) -> tuple[str, ...]:
    return tuple(domain(item).lower() for item in texts(value))


def path(value: object) -> str:
    if not text(value):
        return ""
    expanded = home_path(text(value))
    if not expanded.startswith("/"):
        raise Bad('must be a path from "/" or from "~/"')
    return expanded


def paths(value: object) -> tuple[str, ...]:
    return tuple(path(item) for item in texts(value))


def forward(value: object) -> str:
    if not text(value):
        return ""
    if not text(value).startswith(("{home}/", "/")) or not re.search(r"\{(home|user)\}", text(value)):
        raise Bad('must be a path with {home} or {user} in it, such as "{home}/.forward"')
    if re.search(r"\{(?!home\}|user\})", text(value)):
        raise Bad("knows {home} and {user} only")
    return text(value)


def logs(value: object) -> tuple[str, ...]:
    items = texts(value) if isinstance(value, list) else (text(value),)
    if not items or not all(item in ("syslog", "container", "none") or item.startswith(("/", "~/")) for item in items):
        raise Bad('must be "syslog", "container", "none", a path from "/" or from "~/", or a list of these')
    return tuple(home_path(item) for item in items)


def header_lines(value: object) -> tuple[str, ...]:
    for line in texts(value):
        if not re.match(r"[!-9;-~]+:", line) or not line.isascii():
            raise Bad('must be a list of whole header lines, such as ["X-Route: corp"]')
    return texts(value)


def header_names(value: object) -> tuple[str, ...]:
    names = tuple(name.lower().rstrip(":") for name in texts(value))
    if not all(re.fullmatch(r"[!-9;-~]+", name) for name in names):
        raise Bad('must be a list of header names, such as ["X-Mailer"]')
    return names


def mechanisms(value: object) -> tuple[str, ...]:
    names = tuple(name.upper() for name in texts(value))
    for name in names:
        if name not in MECHANISMS:
            raise Bad(f"holds {name}, which this program does not have; it has {', '.join(MECHANISMS)}")
    return names


def extensions(value: object) -> tuple[str, ...]:
    names = tuple(name.upper() for name in texts(value))
    for name in names:
        if name in ("STARTTLS", "AUTH"):
            raise Bad(f"cannot hold {name}: tls.policy and auth decide about that")
    return names


def secrets(value: object) -> tuple[Secret, ...]:
    if isinstance(value, list):
        return tuple(secret for item in value for secret in secrets(item))
    if isinstance(value, str):
        if not value:
            raise Bad("must not be empty")
        return (Secret("literal", text(value)),)
    if not isinstance(value, dict) or len(value) != 1:
        raise Bad('must be a text, or a table with one key, such as { keyring = "muawrap" }')
    ((form, detail),) = value.items()
    if form not in SECRETS:
        raise Bad(f'knows {", ".join(SECRETS)}, not "{form}"')
    try:
        found = SECRETS[form](detail)
    except Bad as error:
        raise Bad(f"of the form {form} {error}") from error
    if not found:
        raise Bad(f"of the form {form} must not be empty")
    return (Secret(form, found),)


def fingerprints(value: object) -> tuple[str, ...]:
    items = texts(value) if isinstance(value, list) else (text(value),)
    found = tuple(re.sub(r"^sha-?256:", "", item.strip().lower()).replace(":", "") for item in items if item)
    if not all(re.fullmatch("[0-9a-f]{64}", item) for item in found):
        raise Bad("must be a SHA-256 in hexadecimal, 64 digits with or without colons, or a list of these")
    return found


def source(value: object) -> str:
    if not text(value):
        return ""
    if not (_is_ipv6(text(value)) or _is_ipv4(text(value))):
        raise Bad('must be an address of this machine, such as "192.0.2.1"')
    return text(value)


def proxy(value: object) -> str:
    if not text(value):
        return ""
    scheme, separator, rest = text(value).partition("://")
    user, _, where = rest.rpartition("@")
    match = _AUTHORITY.fullmatch(where)
    if scheme not in ("socks5", "socks5h") or not separator or match is None or not match["port"]:
        raise Bad('must be "socks5://HOST:PORT", or with a user "socks5://USER:PASSWORD@HOST:PORT"')
    if user and ":" not in user:
        raise Bad("has a user without a password")
    name, _, password = user.partition(":")
    if user and not all(0 < len(word.encode()) < 256 for word in (name, password)):  # RFC 1929, 2
        raise Bad("must have a user and a password of 1 to 255 octets")
    if not 0 < int(match["port"]) < 65536:
        raise Bad("has an impossible port")
    return text(value)


def home_path(value: str) -> str:
    """A path with "~/" replaced by the passwd home of the caller, never by $HOME."""
    if not value.startswith("~/"):
        return value
    try:
        return pwd.getpwuid(os.getuid()).pw_dir + value[1:]
    except KeyError:
        raise Bad("begins with ~/, but the calling uid has no home in the passwd file") from None


_AUTHORITY = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]/:?#]+))(?::(?P<port>[0-9]{1,5}))?/?")
HOLD_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}")
HOST_NAME = re.compile(r"(?!-)(?=.{1,253}\.?\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


def smart_host(value: object) -> SmartHost:
    """One entry of smart_hosts, such as submission://smtp.example.org:2587."""
    url = text(value)
    scheme, separator, rest = url.partition("://")
    is_path = scheme in SOCKETS and rest.startswith("/")
    if "@" in url and not is_path:  # which is not shown: a password may stand there, too
        raise Bad('must not hold a user: write { url = "...", auth = { user = "...", password = ... } }')
    if not separator:
        raise Bad(f'"{url}" has no scheme: write submissions://{url} (TLS), submission:// (STARTTLS) or smtp://')
    if scheme in SOCKETS:
        if not is_path or len(os.fsencode(rest)) > 107:  # sun_path in unix(7)
            raise Bad(f'"{url}" must name a socket by its whole path, of 107 octets at most: {scheme}:///path')
        return SmartHost(url, SOCKETS[scheme], rest, 0)
    if scheme not in PORTS and scheme not in DISCOVERED:
        raise Bad(f'"{url}" has an unknown scheme: write submissions://, submission:// or smtp://')
    match = _AUTHORITY.fullmatch(rest)
    if match is None:
        raise Bad(f'"{url}" is no smart host: write SCHEME://HOST or SCHEME://HOST:PORT, IPv6 in brackets')
    host = match["literal"] or match["name"]
    if not (_is_ipv6(host) if match["literal"] else HOST_NAME.fullmatch(host)):
        raise Bad(f'"{url}" has no host name that DNS could know' if match["name"] else f'"{url}" has no IPv6 address')
    if scheme in DISCOVERED:
        if match["literal"] or match["port"] or _is_ipv4(host):
            raise Bad(f'"{url}" must name a domain, and no port: DNS tells host and port')
        return SmartHost(url, scheme, host.rstrip("."), 0)
    port = int(match["port"] or PORTS[scheme])
    if not 0 < port < 65536:
        raise Bad(f'"{url}" has an impossible port')
    if scheme == "submission" and port == 465:
        raise Bad(f'"{url}" cannot be: port 465 speaks TLS from the first octet, write submissions://{rest}')
    return SmartHost(url, scheme, host.rstrip("."), port)


def _is_ipv6(literal: str) -> bool:
    import socket

    try:
        return bool(socket.inet_pton(socket.AF_INET6, literal))
    except OSError:
        return False


def _is_ipv4(literal: str) -> bool:
    return bool(re.fullmatch(r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:\.(?!$)|$)){4}", literal))


# -- the tables ------------------------------------------------------------------------------------------------------

Check = Callable[[object], Any]
Rows = Mapping[str, Any]  # of each key: a Check, the rows of a table, Tables or Named


class Tables(NamedTuple):
    """A list of tables with the same rows."""

    rows: Rows
    example: str  # of how it is written
    alone: bool = False  # a text by itself is a list of one


class Named(NamedTuple):
    """Tables with the same rows, each under a name of its owner's choice."""

    rows: Rows
    example: str


SECRETS: dict[str, Check] = {
    "keyring": text,
    "command": texts,
    "file": path,
    "netrc": path,
    "credential": text,
    "env": text,
}
AUTH: Rows = {
    "user": text,
    "password": secrets,
    "token": secrets,
    "mechanisms": mechanisms,
    "allow_plaintext": flag,
}
TLS: Rows = {
    "policy": one_of(*POLICIES),
    "ca_file": path,
    "fingerprint": fingerprints,
    "min_version": one_of("1.2", "1.3"),
    "client_cert": path,
    "client_key": path,
    "verify": flag,
    "server_name": server_name,
}
TIMEOUTS: Rows = {
    "connect": some_seconds,
    "greeting": some_seconds,
    "command": some_seconds,
    "data": some_seconds,
    "final": some_seconds,
    "total": seconds,
}
HOST: Rows = {
    "url": smart_host,
    "auth": AUTH,
    "tls": TLS,
    "timeouts": TIMEOUTS,
    "from": address,
    "source_address": source,
    "family": one_of("", "ipv4", "ipv6"),
    "proxy": proxy,
    "ignore_extensions": extensions,
    "dials": flag,
}
REDIRECT: Rows = {"aliases": paths, "forward": forward}
PROFILE: Rows = {
    "smart_hosts": Tables(HOST, '["submissions://smtp.example.org"]'),
    "auth": AUTH,
    "from": address,
}
ROUTE: Rows = {
    "recipients": globs,
    **PROFILE,
    "unroutable": text,
    "add_headers": header_lines,
    "remove_headers": header_names,
}
ACCOUNT: Rows = {
    "match": globs,
    "users": texts,
    **PROFILE,
    "tls": TLS,
    "allowed_from": globs,
}
WAITING: Rows = {
    "max_age": duration,
    "on_expire": one_of("bounce", "archive", "discard"),
    "on_refuse": one_of("bounce", "archive", "discard"),
    "uncertain": one_of("park", "resend"),
    "retry": rules,
    "min_interval": duration,
    "archive_keep": duration,
}
"""What [hold.NAME] and [outbox] share: for how long a message waits, and what becomes of it."""
HOLD: Rows = {
    "to": Tables(HOST, '["smtp://host.example"]', alone=True),
    "auth": AUTH,
    "tls": TLS,
    "timeouts": TIMEOUTS,
    "domains": domains,
    "etrn_names": texts,
    "trust_caller": flag,
    "mailstore_prefix": number,
    "mailstore_suffix": number,
    **WAITING,
}
OUTBOX: Rows = {"folder": path, **WAITING}
TOP: Rows = {
    **PROFILE,
    "allowed_from": globs,
    "rewrite_from_header": flag,
    "envelope_from_header": flag,
    "null_sender": one_of("keep", "from"),
    "admin": destination,
    "qualify_domain": domain,
    "local_domains": domains,
    "hostname": domain,
    "log": logs,
    "log_format": one_of("text", "json"),
    "exit_status": one_of("one", "sysexits"),
    "keep_failed": path,
    "dial_delay": delay,
    "tempfail": one_of("final", "next-host"),
    "dot_ends_message": flag,
    "long_lines": one_of("encode", "pass", "refuse"),
    "extract_addresses_remove_arguments": flag,
    "max_received": number,
    "spool": path,
    "mta": command,
    "tls": TLS,
    "timeouts": TIMEOUTS,
    "redirect": REDIRECT,
    "route": Tables(ROUTE, "[[route]] on a line of its own"),
    "account": Tables(ACCOUNT, "[[account]] on a line of its own"),
    "hold": Named(HOLD, "[hold.NAME] on a line of its own"),
    "outbox": OUTBOX,
}
TABLES: dict[str, Rows] = {
    "auth": AUTH,
    "tls": TLS,
    "timeouts": TIMEOUTS,
    "redirect": REDIRECT,
    "route": ROUTE,
    "account": ACCOUNT,
    "hold": HOLD,
    "outbox": OUTBOX,
}


# -- what to say of an unknown key -----------------------------------------------------------------------------------


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name most like `word`, "" where none is near."""
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")


def advice(key: str, rows: Rows) -> str:
    """What the writer of an unknown key may have meant: a key of another table, or another key of this one."""
    if key in TOP:
        # TOML gives every key below a header to that table, wherever its writer thinks it stands.
        return f"{key} is no key of a table: it must stand above the first line in brackets"
    home = next((name for name, inner in TABLES.items() if key in inner), "")
    if home:
        return f"it belongs into the table {home}"
    near = nearest(key, rows)
    return f"did you mean {near}?" if near else ""
