"""The keys of the configuration, one row a key: what each value may be, and what it becomes."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable
from typing import Any

from muawrap import addresses
from muawrap.mail import Secret, SmartHost

PORTS = {"smtp": 25, "submission": 587, "submissions": 465}
POLICIES = ("required", "if-offered", "none")
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")


class Bad(ValueError):
    """A value that cannot be; the message says what would be right."""


def text(value: object) -> str:
    if not isinstance(value, str):
        raise Bad('must be a text in quotes, such as "text"')
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise Bad("must not hold control characters")
    return value


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


def some_seconds(value: object) -> float:
    if not seconds(value):
        raise Bad("must be more than 0 seconds")
    return seconds(value)


def texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Bad('must be a list, such as ["one", "two"]')
    return tuple(text(item) for item in value)


def globs(value: object) -> tuple[str, ...]:
    return tuple(item.lower() for item in texts(value))


def one_of(*choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if text(value) not in choices:
            raise Bad("must be " + " or ".join(f'"{choice}"' for choice in choices))
        return text(value)

    return check


def address(value: object) -> str:
    if not text(value):
        return ""
    try:
        mailbox = addresses.parse_one(text(value))
    except addresses.AddressError as error:
        raise Bad(f"is no address: {error}") from error
    if not mailbox.domain:
        raise Bad("must be a full address, with a domain")
    return mailbox.address


def destination(value: object) -> str:
    if not text(value):
        return ""
    try:
        return addresses.parse_one(text(value)).address
    except addresses.AddressError as error:
        raise Bad(f"is no address: {error}") from error


def domain(value: object) -> str:
    if not text(value):
        return ""
    try:
        return addresses.parse_one("x@" + text(value)).domain
    except addresses.AddressError as error:
        raise Bad(f"is no domain: {error}") from error


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
    return tuple(item if item in ("syslog", "none", "container") else path(item) for item in items)


def header_lines(value: object) -> tuple[str, ...]:
    for line in texts(value):
        if not re.match(r"[!-9;-~]+:", line) or not line.isascii():
            raise Bad('must be a list of whole header lines, such as ["X-Route: corp"]')
    return texts(value)


def mechanisms(value: object) -> tuple[str, ...]:
    names = tuple(name.upper() for name in texts(value))
    for name in names:
        if name not in MECHANISMS:
            raise Bad(f"holds {name}, which this version does not have; it has {', '.join(MECHANISMS)}")
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
    if form in ("netrc", "credential"):
        raise Bad(f"of the form {form} is not available in this version")
    if form == "command":
        if not texts(detail):
            raise Bad("of the form command must name a program")
        return (Secret(form, texts(detail)),)
    if form == "file":
        return (Secret(form, path(detail)),)
    if form in ("keyring", "env"):
        return (Secret(form, text(detail)),)
    raise Bad(f'knows keyring, command, file and env, not "{form}"')


def later(value: object) -> str:
    raise Bad("is not available in this version")


def now(*values: object) -> Callable[[object], object]:
    """A key of which this version has some values only."""

    def check(value: object) -> object:
        if value not in values:
            shown = " or ".join(f'"{choice}"' for choice in values)
            raise Bad(f"can only be {shown} in this version")
        return value

    return check


def home_path(value: str) -> str:
    """A path with "~/" replaced by the passwd home of the caller, never by $HOME."""
    if not value.startswith("~/"):
        return value
    try:
        return pwd.getpwuid(os.getuid()).pw_dir + value[1:]
    except KeyError:
        raise Bad("begins with ~/, but the calling uid has no home in the passwd file") from None


_URL = re.compile(
    r"""
    (?P<scheme>[a-z0-9+]+)://
    (?: \[(?P<literal>[0-9A-Fa-f:.]+)\] | (?P<host>[^\[\]/:@?\#]*) )
    (?: :(?P<port>[0-9]{1,5}) )?
    /?
    """,
    re.VERBOSE,
)
HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


def parse_url(url: str) -> SmartHost:
    """One entry of smart_hosts, such as submission://smtp.example.org:2587. Raises Bad."""
    match = _URL.fullmatch(url)
    if match is None:
        if "@" in url:
            raise Bad(f'"{url}" must not hold a user: write it as auth = {{ user = "..." }}')
        if "://" not in url:
            raise Bad(f'"{url}" has no scheme: write submissions://{url} (TLS), submission:// (STARTTLS) or smtp://')
        raise Bad(f'"{url}" is no smart host: write SCHEME://HOST or SCHEME://HOST:PORT, IPv6 in brackets')
    scheme = match["scheme"]
    if scheme in ("lmtp", "lmtp+unix", "smtp+unix", "srv", "mx"):
        raise Bad(f"{scheme}:// is not available in this version")
    if scheme not in PORTS:
        raise Bad(f'"{url}" has an unknown scheme: write submissions://, submission:// or smtp://')
    host = match["literal"] or match["host"]
    if match["host"] is not None and not HOST_NAME.fullmatch(host):
        raise Bad(f'"{url}" has no host name that DNS could know')
    port = int(match["port"] or PORTS[scheme])
    if not 0 < port < 65536:
        raise Bad(f'"{url}" has an impossible port')
    if scheme == "submission" and port == 465:
        raise Bad(f"port 465 speaks TLS from the first octet: write submissions://{host}")
    return SmartHost(url, scheme, host.rstrip("."), port)


# -- the tables ------------------------------------------------------------------------------------------------------

Check = Callable[[object], Any]

AUTH: dict[str, Check] = {
    "user": text,
    "password": secrets,
    "token": later,
    "mechanisms": mechanisms,
    "allow_plaintext": flag,
}
TLS: dict[str, Check] = {
    "policy": one_of(*POLICIES),
    "ca_file": path,
    "fingerprint": later,
    "min_version": one_of("1.2", "1.3"),
    "client_cert": later,
    "client_key": later,
    "verify": now(True),
    "server_name": domain,
}
TIMEOUTS: dict[str, Check] = {
    "connect": some_seconds,
    "greeting": some_seconds,
    "command": some_seconds,
    "data": some_seconds,
    "final": some_seconds,
    "total": seconds,
}
HOST: dict[str, Check] = {
    "url": text,
    "auth": lambda value: value,
    "tls": lambda value: value,
    "timeouts": lambda value: value,
    "from": address,
    "source_address": later,
    "family": later,
    "proxy": later,
    "ignore_extensions": later,
}
REDIRECT: dict[str, Check] = {"aliases": paths, "forward": forward}
PROFILE: dict[str, Check] = {
    "smart_hosts": lambda value: value,
    "auth": lambda value: value,
    "from": address,
}
ROUTE: dict[str, Check] = {
    "recipients": globs,
    **PROFILE,
    "unroutable": text,
    "add_headers": header_lines,
    "remove_headers": texts,
}
ACCOUNT: dict[str, Check] = {
    "match": globs,
    "users": texts,
    **PROFILE,
    "tls": lambda value: value,
    "allowed_from": globs,
}
TOP: dict[str, Check] = {
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
    "log_format": now("text"),
    "exit_status": now("one"),
    "keep_failed": now(""),
    "dial_delay": seconds,
    "tempfail": one_of("final", "next-host"),
    "dot_ends_message": flag,
    "long_lines": now("pass"),
    "extract_addresses_remove_arguments": flag,
    "max_received": number,
    "tls": lambda value: value,
    "timeouts": lambda value: value,
    "redirect": lambda value: value,
    "route": lambda value: value,
    "account": lambda value: value,
}
TABLES = {"auth": AUTH, "tls": TLS, "timeouts": TIMEOUTS, "redirect": REDIRECT, "route": ROUTE, "account": ACCOUNT}
