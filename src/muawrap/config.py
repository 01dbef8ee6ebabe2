"""The configuration of one call as frozen values; every error names file, line and key."""

# Annotations are values here: a NamedTuple compiles those that are texts, one by one, while every delivery waits.

import os
import pwd
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from muawrap import document, environment, schema, trust
from muawrap.document import Document, Where
from muawrap.failure import Failure
from muawrap.mail import Auth, SmartHost, Timeouts, Tls
from muawrap.schema import Bad

SYSTEM_FILE = "/etc/muawrap/muawrap.toml"
FILE_LIMIT = 1024 * 1024  # a configuration is written by hand
LOGIN_UID = 1000  # the first uid of people; below it, but for root, are system accounts


class HostEntry(NamedTuple):
    """One item of a smart_hosts list as written; auth None: the list's, Auth(): none."""

    host: SmartHost
    auth: Auth | None
    tls: Mapping[str, Any]
    timeouts: Mapping[str, float]
    where: Where = ()


class Profile(NamedTuple):
    """The keys that a route, an account and the top of the file share; None: not set there."""

    hosts: tuple[HostEntry, ...] | None = None
    auth: Auth | None = None
    tls: Mapping[str, Any] | None = None
    sender: str | None = None  # `from`
    allowed_from: tuple[str, ...] | None = None


class Route(NamedTuple):
    """A [[route]]: what holds for the final recipients that match."""

    recipients: tuple[str, ...]
    profile: Profile
    unroutable: str
    add_headers: tuple[str, ...]
    remove_headers: tuple[str, ...]


class Account(NamedTuple):
    """An [[account]]: what holds for the callers that match."""

    match: tuple[str, ...]
    users: tuple[str, ...]
    profile: Profile


class Hold(NamedTuple):
    """A [hold.NAME]: a host that is not always there, and `keys`, the keys that are set for it."""

    hosts: tuple[SmartHost, ...]
    keys: Mapping[str, Any]


class Config(NamedTuple):
    """What muawrap.toml(5) describes, checked; the fields are its keys with their defaults."""

    source: str  # the file, or "the environment"
    profile: Profile
    qualify_domain: str
    hostname: str
    host_local: frozenset[str]  # this host's own names in lower case: bare names in another spelling (RULES D1)
    routes: tuple[Route, ...] = ()
    accounts: tuple[Account, ...] = ()
    timeouts: Timeouts = Timeouts()
    aliases: tuple[str, ...] = ("/etc/aliases",)
    aliases_may_be_missing: bool = True  # those by default, not those that somebody configured
    forward: str = "{home}/.forward"
    rewrite_from_header: bool = True
    envelope_from_header: bool = False
    null_sender: str = "keep"
    admin: str = ""
    local_domains: tuple[str, ...] = ()
    log: tuple[str, ...] = ("syslog",)
    log_format: str = "text"
    exit_status: str = "one"
    keep_failed: str = ""
    dial_delay: float = 0
    tempfail: str = "final"
    dot_ends_message: bool = True
    long_lines: str = "encode"
    extract_addresses_remove_arguments: bool = False
    max_received: int = 100
    spool: str = "/var/spool/muawrap"
    mta: tuple[str, ...] = ("/usr/sbin/sendmail",)
    holds: Mapping[str, Hold] = {}
    outbox: Mapping[str, Any] = {}


# -- finding it -----------------------------------------------------------------------------------------------------


def load(given: str | None, environ: Mapping[str, str]) -> Config:
    """The configuration of this call: -C FILE alone, or what the environment and the first file found say.

    With MUAWRAP_SMART_HOSTS set no file is read, so that no source's password meets another source's host.
    Raises Failure.
    """
    if given is not None:
        try:
            given = os.path.abspath(given)
        except OSError:
            pass  # the current directory is gone, and so is whatever a relative path names
        found = _open(given)
        if found is None:
            raise Failure(f"there is no configuration file {given}", advice="-C names it")
        return _Reader(found.values, found, {}).config()
    values, variables = environment.read(environ)
    if "smart_hosts" in values:
        return _Reader(values, None, variables).config()
    if "auth" in values:
        raise Failure(
            f"{next(name for key, name in variables.items() if key[0] == 'auth')} is set, but the smart hosts come"
            " from a file, and a password meets only its own hosts",
            advice="set MUAWRAP_SMART_HOSTS too, or write [auth] into the file",
        )
    places = places_looked_in(environ)
    for place in places:
        found = _open(place)
        if found is not None:
            for key, value in values.items():
                under = found.values.get(key)
                found.values[key] = {**under, **value} if isinstance(under, dict) and isinstance(value, dict) else value
            return _Reader(found.values, found, variables).config()
    raise Failure(
        f"there is no configuration: looked for {' and '.join(places)}, and MUAWRAP_SMART_HOSTS is not set",
        advice='write smart_hosts = ["submissions://smtp.example.org"] into one of them, see muawrap.toml(5);'
        " cron, sudo and php-fpm clear the environment",
    )


def places_looked_in(environ: Mapping[str, str]) -> list[str]:
    """The files that are looked for without -C, in order; people have one of their own, system accounts have not."""
    uid = os.getuid()
    if not _is_login(uid):
        return [SYSTEM_FILE]
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):
        try:
            folder = pwd.getpwuid(uid).pw_dir + "/.config"  # never $HOME, which sudo and su may leave to others
        except KeyError:
            return [SYSTEM_FILE]
    return [folder + "/muawrap/muawrap.toml", SYSTEM_FILE]


def _is_login(uid: int) -> bool:
    return uid == 0 or uid >= LOGIN_UID


def _open(name: str) -> Document | None:
    """The document in a file that the caller may be told by; None where there is no such file. Raises Failure."""
    uid = os.getuid()
    owners: Collection[int] = (0, uid) if _is_login(uid) else (0,)
    try:
        contents = trust.read(name, limit=FILE_LIMIT, owners=owners, folder=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Failure as failure:
        failure.what = f"configuration: {failure.what}"
        raise
    found = document.parse(name, contents.octets)
    if contents.mode & 0o004 and _holds_literal(found.values):
        raise Failure(
            f"configuration {name} holds a password and is readable by everybody",
            advice=f'chmod o-r {name}, or password = {{ file = "..." }}',
        )
    return found


def _holds_literal(values: object) -> bool:
    """Whether a password or token stands in the file itself, in whatever table, or that of a proxy in its URL."""
    tables = [values]
    while tables:
        table = tables.pop()
        if isinstance(table, dict):
            for key in "password", "token":
                secret = table.get(key)
                if any(isinstance(form, str) for form in (secret if isinstance(secret, list) else [secret])):
                    return True
            if "@" in str(table.get("proxy", "")):
                return True
            tables += table.values()
        elif isinstance(table, list):
            tables += table
    return False


# -- reading it -----------------------------------------------------------------------------------------------------


class _Reader:
    """Turns parsed values into a Config; knows where they come from, so that every error can say it."""

    def __init__(self, values: dict[str, Any], file: Document | None, variables: Mapping[Where, str]) -> None:
        self.values = values
        self.file = file
        self.variables = variables

    def error(self, where: Where, message: str, advice: str = "") -> Failure:
        """The failure for a key: of the variable that set it, else of the file."""
        variable = self.variables.get(where[:2]) or self.variables.get(where[:1])
        if self.file is None or variable:
            subject = f"environment variable {variable}" if variable else "environment: " + self.key(where)
        else:
            line = self.file.line(where)
            subject = f"configuration {self.file.name}{f' line {line}' if line else ''}: {self.key(where)}"
        return Failure(f"{subject} {message}", advice=advice or "see muawrap.toml(5)")

    @staticmethod
    def key(where: Where) -> str:
        return ".".join(part for part in where if isinstance(part, str))

    def checked(self, value: Any, row: Any, where: Where) -> Any:
        """A value checked against its row of the schema: unknown keys and impossible values are failures."""
        if isinstance(row, schema.Tables):
            value = [value] if row.alone and isinstance(value, str) else value
            if not isinstance(value, list):
                raise self.error(where, f"must be a list, written as {row.example}")
            return [self.checked(item, row.rows, (*where, number)) for number, item in enumerate(value)]
        if isinstance(row, schema.Named):
            if not isinstance(value, dict):
                raise self.error(where, f"must be a table of tables, written as {row.example}")
            return {name: self.checked(item, row.rows, (*where, name)) for name, item in value.items()}
        if row is schema.AUTH and value is False:
            return {}
        if row is schema.HOST and isinstance(value, str):  # a URL is a table with nothing but a url
            return {"url": self.checked(value, row["url"], where)}
        if not callable(row):
            if not isinstance(value, dict):
                raise self.error(where, "must be a table, such as { key = value }")
            for key in value:
                if key not in row:
                    raise self.error((*where, key), "is no key of muawrap", schema.advice(key, row))
            return {key: self.checked(inner, row[key], (*where, key)) for key, inner in value.items()}
        try:
            return row(value)
        except Bad as error:
            raise self.error(where, str(error)) from error

    def config(self) -> Config:
        """The whole. Raises Failure."""
        top = self.checked(self.values, schema.TOP, ())
        redirect = top.get("redirect", {})
        config = Config(
            source=self.file.name if self.file else "the environment",
            profile=self.profile(top, ()),
            qualify_domain=top.pop("qualify_domain", "") or _mail_name(),
            host_local=_own_names(top.get("hostname", "")),
            hostname=top.pop("hostname", "") or _dotted(os.uname().nodename),
            routes=tuple(self.route(table, ("route", number)) for number, table in enumerate(top.get("route", ()))),
            accounts=tuple(
                self.account(table, ("account", number)) for number, table in enumerate(top.get("account", ()))
            ),
            timeouts=Timeouts(**top.pop("timeouts", {})),
            aliases_may_be_missing="aliases" not in redirect,
            holds=self.holds(top.get("hold", {})),
        )
        as_they_are = {**redirect, **top}
        config = config._replace(**{key: as_they_are[key] for key in Config._fields if key in as_they_are})
        self.meets_only_its_own_hosts(config)
        return config

    def meets_only_its_own_hosts(self, config: Config) -> None:
        """Try every list of hosts with every password that could meet it: better refused now than when it is needed."""
        choosy = [
            (number, account)
            for number, account in enumerate(config.accounts)
            if account.profile.hosts or account.profile.auth is not None or account.profile.tls
        ]
        for which, account in (None, None), *choosy:
            for number, route in enumerate((None, *config.routes), -1):
                where: Where = ("route", number) if route else ("account", which or 0) if account else ()
                try:
                    hosts_for(config, route, account)
                except Bad as error:
                    raise self.error((*(error.where or where), error.key), str(error)) from error

    def route(self, table: Mapping[str, Any], where: Where) -> Route:
        if not table.get("recipients"):
            raise self.error((*where, "recipients"), "is missing", 'such as recipients = ["*@corp.example"]')
        if table.get("unroutable") and "smart_hosts" in table:
            raise self.error((*where, "unroutable"), "and smart_hosts exclude each other")
        return Route(
            table["recipients"],
            self.profile(table, where),
            table.get("unroutable", ""),
            table.get("add_headers", ()),
            table.get("remove_headers", ()),
        )

    def account(self, table: Mapping[str, Any], where: Where) -> Account:
        if not table.get("match") and not table.get("users"):
            raise self.error((*where, "match"), "and users are both missing", 'such as users = ["www-data"]')
        return Account(table.get("match", ()), table.get("users", ()), self.profile(table, where))

    def profile(self, table: Mapping[str, Any], where: Where) -> Profile:
        hosts = table.get("smart_hosts")
        if hosts is not None:
            where = (*where, "smart_hosts")
            if not hosts:
                raise self.error(where, "must not be empty")
            hosts = tuple(self.host(host, (*where, number)) for number, host in enumerate(hosts))
            where = where[:-1]
        auth = self.auth(table["auth"], (*where, "auth")) if "auth" in table else None
        return Profile(hosts, auth, table.get("tls"), table.get("from"), table.get("allowed_from"))

    def holds(self, tables: Mapping[str, Any]) -> dict[str, Hold]:
        found = {name: self.hold(name, table) for name, table in tables.items()}
        names = {name.lower(): name for name in found}
        for name, hold in found.items():
            for number, domain in enumerate(hold.keys.get("domains", ())):
                if (other := names.get(domain, name)) != name:  # mail for one host must not be held for another
                    where: Where = ("hold", name, "domains", number)
                    raise self.error(where, f"holds {domain}, which is the name of [hold.{other}]")
        return found

    def hold(self, name: str, table: dict[str, Any]) -> Hold:
        where: Where = ("hold", name)
        if not schema.HOLD_NAME.fullmatch(name) or name == "outbox":
            raise self.error(where, 'cannot be: a name is letters, digits, ".", "_" and "-", and not "outbox"')
        if not table.get("to"):
            raise self.error((*where, "to"), "is missing", 'such as to = ["smtp://host.example"]')
        entries = [self.host(host, (*where, "to", number)) for number, host in enumerate(table.pop("to"))]
        auth = self.auth(table.pop("auth"), (*where, "auth")) if "auth" in table else Auth()
        timeouts = Timeouts(**table.pop("timeouts", {}))
        tls = table.pop("tls", {})
        try:
            hosts = tuple(_complete(entry, entries[0], auth, tls, timeouts) for entry in entries)
        except Bad as error:
            raise self.error((*(error.where or where), error.key), str(error)) from error
        return Hold(hosts, table)

    def host(self, table: Mapping[str, Any], where: Where) -> HostEntry:
        if "url" not in table:
            raise self.error((*where, "url"), "is missing", 'such as url = "submissions://smtp.example.org"')
        own = ("ignore_extensions", "source_address", "family", "proxy", "dials")
        return HostEntry(
            table["url"]._replace(
                sender=table.get("from", ""),
                **{key: table[key] for key in own if key in table},
            ),
            self.auth(table["auth"], (*where, "auth")) if "auth" in table else None,
            table.get("tls", {}),
            table.get("timeouts", {}),
            where,
        )

    def auth(self, table: Mapping[str, Any], where: Where) -> Auth:
        for secret in "password", "token":
            if table.get(secret) and not table.get("user"):
                raise self.error((*where, "user"), f"is missing beside {secret}")
        by_certificate = table.get("mechanisms") == ("EXTERNAL",)
        if table.get("mechanisms") and not table.get("user") and not by_certificate:
            advice = 'without it there is no AUTH, but by mechanisms = ["EXTERNAL"] alone'
            raise self.error((*where, "user"), "is missing beside mechanisms", advice)
        if table.get("user") and not (table.get("password") or table.get("token") or by_certificate):
            raise self.error((*where, "password"), "is missing beside user")
        return Auth(**table)


# -- what this machine says of itself, never DNS --------------------------------------------------------------------


def _dotted(name: str) -> str:
    """The name where it is one that others could know, else ""."""
    name = name.rstrip(".")
    known = "." in name and not name.lower().startswith("localhost.") and schema.HOST_NAME.fullmatch(name)
    return name if known else ""


def _mail_name() -> str:
    """The default of qualify_domain: /etc/mailname, else the hostname, where they have a dot."""
    try:
        name = trust.read("/etc/mailname", limit=4096).text.split("\n")[0].strip()
    except (OSError, Failure):
        name = ""
    return _dotted(name) or _dotted(os.uname().nodename)


def _own_names(configured: str) -> frozenset[str]:
    """Names whose mail is mail for this host: the hostname, short and full, and localhost (RULES D1)."""
    names = [os.uname().nodename, configured, "localhost.localdomain"]
    names += [name.partition(".")[0] for name in names]
    return frozenset(name.lower() for name in names if name)


# -- what the values mean together ----------------------------------------------------------------------------------


def hosts_for(config: Config, route: Route | None, account: Account | None) -> tuple[SmartHost, ...]:
    """The smart hosts for one route and one account, each with the AUTH, TLS and timeouts that hold for it.

    The list is the route's, else the account's, else the top's. A password goes only to hosts of the table it
    stands in (or of a list that table takes over), and there only to hosts with the parent domain of the first.
    Raises Bad where a host of the list needs a word on AUTH of its own.
    """
    profiles = [chosen.profile for chosen in (route, account) if chosen is not None] + [config.profile]
    auth = None
    entries: tuple[HostEntry, ...] = ()
    for profile in profiles:
        auth = profile.auth if auth is None else auth
        if profile.hosts is not None:
            entries = profile.hosts
            break
    tls = {**(config.profile.tls or {}), **(account.profile.tls or {} if account else {})}
    hosts = [_complete(entry, entries[0], auth or Auth(), tls, config.timeouts) for entry in entries]
    # Each once (RULES C4): an entry that would be tried with the same address and settings again is the same host.
    distinct: dict[SmartHost, SmartHost] = {}
    for host in hosts:
        distinct.setdefault(host._replace(url=""), host)
    return tuple(distinct.values())


def _complete(entry: HostEntry, first: HostEntry, auth: Auth, tls: Mapping[str, Any], timeouts: Timeouts) -> SmartHost:
    host = entry.host
    if entry.auth is not None:
        auth = entry.auth
    elif auth.user and _parent(host.host) != _parent(first.host.host):
        raise Bad(
            f"would send the password of {first.host.host} to {host.host} too;"
            " give that host an auth of its own, or auth = false",
            "auth",
        )
    wanted = {"policy": "if-offered" if host.scheme in ("smtp", "mx") else "required", **tls, **entry.tls}
    if host.is_local:
        wanted["policy"] = "none"  # nobody listens between us and a socket of this machine, nor is TLS offered there
        auth = auth._replace(allow_plaintext=True)
    policy = Tls(**wanted)
    made = host._replace(auth=auth, tls=policy, timeouts=timeouts._replace(**entry.timeouts))
    _fits_together(made, entry)
    return made


def _fits_together(host: SmartHost, entry: HostEntry) -> None:
    """Raises Bad where what is set for a host, in its entry or elsewhere, cannot all be."""
    tls = host.tls
    own_auth = entry.where if entry.auth is not None else ()
    if tls.policy == "none" and host.scheme == "submissions":
        own = entry.where if "policy" in entry.tls else ()
        raise Bad(f'cannot have the policy "none" with {host.url}, which is TLS from the first octet', "tls", own)
    if tls.policy == "none" and tls.fingerprint and not host.is_local:
        own = entry.where if {"policy", "fingerprint"} & entry.tls.keys() else ()
        raise Bad(f'cannot have a fingerprint and the policy "none" with {host.url}', "tls", own)
    if bool(tls.client_cert) < bool(tls.client_key):
        own = entry.where if {"client_cert", "client_key"} & entry.tls.keys() else ()
        raise Bad("has a client_key without a client_cert", "tls", own)
    if host.auth.mechanisms == ("EXTERNAL",) and not tls.client_cert and not host.is_local:
        raise Bad(f"has EXTERNAL only, which needs tls.client_cert for {host.url}", "auth", own_auth)
    if host.auth.user and host.scheme == "mx":
        what = f"cannot go with {host.url}: whoever answers for DNS would get the password; use srv://"
        raise Bad(what, "auth", own_auth)
    if (
        host.auth.user
        and host.scheme == "srv"
        and (host.auth.allow_plaintext or tls.policy == "none" or not tls.verify)
    ):
        raise Bad(
            f"cannot go with {host.url} unless its certificate is verified:"
            " whoever answers for DNS would get the password",
            "auth",
            own_auth,
        )
    if host.is_local and (host.proxy or host.source_address or host.family):
        what = f"a socket of this machine is reached without proxy, source_address and family: {host.url}"
        raise Bad(what, "url", entry.where)
    if host.family and host.source_address and (":" in host.source_address) != (host.family == "ipv6"):
        raise Bad(f"is no {host.family} address: {host.source_address}", "source_address", entry.where)


_SECOND_LEVEL = (
    " ac asn co com ed edu gen go gob gouv gov gr gub gv id idv ind lg ltd me mil ne net nom or org plc sch "
)
"""What registries of countries have below their own, such as co.uk, com.au and go.jp, between blanks."""

_FOR_ALL = " ddns.net duckdns.org dyndns.org eu.org freeddns.org github.io gitlab.io no-ip.org uk.com us.com "
"""Domains below which anybody may have a name: some of the thousands of publicsuffix.org, between blanks."""


def _parent(host: str) -> str:
    """The domain one label up, unless it is known as a registry's; then, as of an address or a path, the host."""
    if host.startswith("/"):
        return host
    host = host.lower()
    parent = host.partition(".")[2]
    label, _, top = parent.partition(".")
    owned = bool(top) and f" {parent} " not in _FOR_ALL and not (len(top) == 2 and f" {label} " in _SECOND_LEVEL)
    return parent if owned and not re.fullmatch(r"[0-9.]+|.*:.*", host) else host
