"""The TOML file, or the environment, as frozen values; every error names file, line and key."""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from muawrap import extras, schema, trust
from muawrap.failure import Failure
from muawrap.mail import Auth, SmartHost, Timeouts, Tls
from muawrap.schema import Bad, Check

SYSTEM_FILE = "/etc/muawrap/muawrap.toml"
FILE_LIMIT = 1024 * 1024  # a configuration is written by hand
ENVIRONMENT = "MUAWRAP_"
LOGIN_UID = 1000  # the first uid of people; below it, but for root, are system accounts


class Config(NamedTuple):
    """What muawrap.toml(5) describes, checked; the fields are its keys, `sender` is `from`."""

    source: str  # the file, or "the environment"
    profile: Profile
    rewrite_from_header: bool
    envelope_from_header: bool
    null_sender: str
    admin: str
    qualify_domain: str
    local_domains: tuple[str, ...]
    hostname: str
    host_local: frozenset[str]  # this host's own names in lower case: bare names in another spelling (RULES D1)
    log: tuple[str, ...]
    dial_delay: float
    tempfail: str
    dot_ends_message: bool
    extract_addresses_remove_arguments: bool
    max_received: int
    aliases: tuple[str, ...]
    aliases_may_be_missing: bool
    forward: str
    timeouts: Timeouts
    routes: tuple[Route, ...]
    accounts: tuple[Account, ...]


class Profile(NamedTuple):
    """The keys that a route, an account and the top of the file share; None: not set there."""

    hosts: tuple[HostEntry, ...] | None = None
    auth: Auth | None = None
    tls: Mapping[str, Any] | None = None
    sender: str | None = None
    allowed_from: tuple[str, ...] | None = None


class HostEntry(NamedTuple):
    """One item of a smart_hosts list as written; auth None: the list's, Auth(): none."""

    host: SmartHost
    auth: Auth | None
    tls: Mapping[str, Any]
    timeouts: Timeouts | None


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


# -- finding and reading --------------------------------------------------------------------------------------------


def load(given: str | None, environ: Mapping[str, str]) -> Config:
    """The configuration of this call: -C FILE alone, or what the environment and the first file found say.

    With MUAWRAP_SMART_HOSTS set no file is read, so that no source's password meets another source's host.
    Raises Failure.
    """
    uid = os.getuid()
    login = uid == 0 or uid >= LOGIN_UID
    if given is not None:
        found = _read_file(os.path.abspath(given), {0, uid} if login else {0})
        if found is None:
            raise Failure(f"there is no configuration file {given}")
        return found
    variables = {name: value for name, value in environ.items() if name.startswith(ENVIRONMENT)}
    if ENVIRONMENT + "SMART_HOSTS" in variables or ENVIRONMENT + "SMART_HOSTS_FILE" in variables:
        return _Reader("the environment", "").read(_from_environment(variables))
    for name in variables:
        if name.startswith(ENVIRONMENT + "AUTH_"):
            raise Failure(
                f"{name} is set, but the smart hosts come from a file, and a password meets only its own hosts",
                advice=f"set {ENVIRONMENT}SMART_HOSTS too, or write password = {{ env = ... }} into the file",
            )
    places = places_looked_in(environ)
    for place in places:
        found = _read_file(place, {0, uid} if login else {0}, _from_environment(variables))
        if found is not None:
            return found
    raise Failure(
        f"there is no configuration: neither {' nor '.join(places)} exists, and {ENVIRONMENT}SMART_HOSTS is not set",
        advice='write smart_hosts = ["submissions://smtp.example.org"] into one of them, see muawrap.toml(5);'
        " cron, sudo and php-fpm clear the environment",
    )


def places_looked_in(environ: Mapping[str, str]) -> list[str]:
    """The files that are looked for without -C, in order; people have one of their own, system accounts have not."""
    uid = os.getuid()
    if uid and uid < LOGIN_UID:
        return [SYSTEM_FILE]
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):
        try:
            folder = pwd.getpwuid(uid).pw_dir + "/.config"
        except KeyError:
            return [SYSTEM_FILE]
    return [folder + "/muawrap/muawrap.toml", SYSTEM_FILE]


def _read_file(name: str, owners: set[int], over: Mapping[str, Any] | None = None) -> Config | None:
    """The configuration in one file, `over` laid over it; None where there is no such file."""
    try:
        contents = trust.read(name, limit=FILE_LIMIT, owners=owners, folder=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = extras.load("tomli", "the configuration")
    try:
        source = contents.octets.decode("utf-8")
    except UnicodeDecodeError as error:
        line = contents.octets.count(b"\n", 0, error.start) + 1
        raise Failure(f"configuration {name} line {line}: not UTF-8") from error
    try:
        values = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"configuration {name}: {error}", advice="see muawrap.toml(5)") from error
    except RecursionError as error:
        raise Failure(f"configuration {name}: nested too deeply") from error
    reader = _Reader(name, source)
    for key, value in (over or {}).items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            values[key].update(value)
        else:
            values[key] = value
    config = reader.read(values)
    if contents.mode & 0o004 and reader.literal:
        raise Failure(
            f"configuration {name} holds a password and is readable by everybody",
            advice=f'chmod o-r {name}, or password = {{ file = "..." }}',
        )
    return config


def _from_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """MUAWRAP_* as the values a file would give. Raises Failure."""
    known: dict[str, tuple[str, ...]] = {}
    for name in schema.TOP:
        if name not in schema.TABLES:
            known[ENVIRONMENT + name.upper()] = (name,)
    for table in ("auth", "tls", "timeouts"):
        for name in schema.TABLES[table]:
            known[f"{ENVIRONMENT}{table}_{name}".upper()] = (table, name)
    values: dict[str, Any] = {}
    for variable, content in variables.items():
        where = known.get(variable)
        if where is None and variable.endswith("_FILE") and variable[: -len("_FILE")] in known:
            where = known[variable[: -len("_FILE")]]
            if where[-1] == "password":
                value: Any = {"file": content}
            else:
                value = _environment_value(where, _content(variable, content))
        elif where is None:
            near = _nearest(variable, known)
            raise Failure(f"unknown environment variable {variable}", advice=f"did you mean {near}?" if near else "")
        else:
            value = _environment_value(where, content)
        table_values = values
        for name in where[:-1]:
            table_values = table_values.setdefault(name, {})
        table_values[where[-1]] = value
    return values


def _content(variable: str, name: str) -> str:
    try:
        return trust.read(name, limit=FILE_LIMIT).text.rstrip("\r\n")
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"{variable} names {name}, which does not exist") from None


_LISTS = (schema.texts, schema.globs, schema.domains, schema.paths, schema.mechanisms, schema.logs)


_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _environment_value(where: tuple[str, ...], content: str) -> Any:
    """A variable's text as TOML would have given it, by the kind of its key."""
    check = schema.TOP[where[0]] if len(where) == 1 else schema.TABLES[where[0]][where[1]]
    if where == ("smart_hosts",) or check in _LISTS:
        return [item.strip() for item in content.split(",") if item.strip()]
    if check is schema.flag or where == ("tls", "verify"):
        return _FLAGS.get(content.lower(), content)
    if check in (schema.number, schema.seconds, schema.some_seconds):
        try:
            return float(content) if "." in content else int(content)
        except ValueError:
            return content
    return content


class _Reader:
    """Turns parsed TOML into a Config; knows file and text so that every error can say where."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.literal = False

    def error(self, where: tuple[str | int, ...], message: str, advice: str = "") -> Failure:
        key = ".".join(str(part) for part in where if isinstance(part, str))
        line = _line_of(self.source, where)
        place = f"configuration {self.name}" + (f" line {line}" if line else "")
        return Failure(f"{place}: {key} {message}", advice=advice or "see muawrap.toml(5)")

    def table(self, values: object, rows: Mapping[str, Check], where: tuple[str | int, ...]) -> dict[str, Any]:
        """A table checked against its schema: unknown keys and impossible values are failures."""
        if not isinstance(values, dict):
            raise self.error(where, "must be a table")
        checked = {}
        for key, value in values.items():
            if key not in rows:
                near = _nearest(key, rows)
                advice = f"did you mean {near}?" if near else ""
                raise self.error((*where, key), "is no key of muawrap", advice)
            try:
                checked[key] = rows[key](value)
            except Bad as error:
                raise self.error((*where, key), str(error)) from error
        return checked

    def tables(self, values: object, rows: Mapping[str, Check], name: str) -> list[dict[str, Any]]:
        if not isinstance(values, list):
            raise self.error((name,), f"must be written as [[{name}]]")
        return [self.table(value, rows, (name, index)) for index, value in enumerate(values)]

    def read(self, values: Mapping[str, Any]) -> Config:
        top = self.table(values, schema.TOP, ())
        redirect = self.table(top.get("redirect", {}), schema.REDIRECT, ("redirect",))
        timeouts = Timeouts(**self.table(top.get("timeouts", {}), schema.TIMEOUTS, ("timeouts",)))
        config = Config(
            source=self.name,
            profile=self.profile(top, ()),
            rewrite_from_header=top.get("rewrite_from_header", True),
            envelope_from_header=top.get("envelope_from_header", False),
            null_sender=top.get("null_sender", "keep"),
            admin=top.get("admin", ""),
            qualify_domain=top.get("qualify_domain", "") or _mail_name(),
            local_domains=top.get("local_domains", ()),
            hostname=top.get("hostname", "") or _dotted(os.uname().nodename),
            host_local=_own_names(top.get("hostname", "")),
            log=top.get("log", ("syslog",)),
            dial_delay=top.get("dial_delay", 0.0),
            tempfail=top.get("tempfail", "final"),
            dot_ends_message=top.get("dot_ends_message", True),
            extract_addresses_remove_arguments=top.get("extract_addresses_remove_arguments", False),
            max_received=top.get("max_received", 100),
            aliases=redirect.get("aliases", ("/etc/aliases",)),
            aliases_may_be_missing="aliases" not in redirect,
            forward=redirect.get("forward", "{home}/.forward"),
            timeouts=timeouts,
            routes=tuple(self.routes(top.get("route", []))),
            accounts=tuple(self.accounts(top.get("account", []))),
        )
        # Every list with every password that could meet it: a configuration is refused before it is needed.
        for which, account in enumerate((None, *config.accounts), -1):
            for index, route in enumerate((None, *config.routes), -1):
                where = ("route", index) if route else ("account", which) if account else ()
                try:
                    hosts_for(config, route, account)
                except Bad as error:
                    raise self.error((*where, "auth"), str(error)) from error
        return config

    def routes(self, values: object) -> list[Route]:
        found = []
        for index, table in enumerate(self.tables(values, schema.ROUTE, "route")):
            where = ("route", index)
            if not table.get("recipients"):
                raise self.error((*where, "recipients"), "is missing")
            if table.get("unroutable") and "smart_hosts" in table:
                raise self.error((*where, "unroutable"), "and smart_hosts exclude each other")
            found.append(
                Route(
                    table["recipients"],
                    self.profile(table, where),
                    table.get("unroutable", ""),
                    table.get("add_headers", ()),
                    tuple(name.lower().rstrip(":") for name in table.get("remove_headers", ())),
                )
            )
        return found

    def accounts(self, values: object) -> list[Account]:
        found = []
        for index, table in enumerate(self.tables(values, schema.ACCOUNT, "account")):
            if not table.get("match") and not table.get("users"):
                raise self.error(("account", index, "match"), "and users are both missing")
            profile = self.profile(table, ("account", index))
            found.append(Account(table.get("match", ()), table.get("users", ()), profile))
        return found

    def profile(self, table: Mapping[str, Any], where: tuple[str | int, ...]) -> Profile:
        hosts = None
        if "smart_hosts" in table:
            if not isinstance(table["smart_hosts"], list) or not table["smart_hosts"]:
                raise self.error((*where, "smart_hosts"), 'must be a list, such as ["submissions://smtp.example.org"]')
            hosts = tuple(
                self.host(entry, (*where, "smart_hosts", index)) for index, entry in enumerate(table["smart_hosts"])
            )
        tls = self.table(table["tls"], schema.TLS, (*where, "tls")) if "tls" in table else None
        auth = self.auth(table["auth"], (*where, "auth")) if "auth" in table else None
        return Profile(hosts, auth, tls, table.get("from"), table.get("allowed_from"))

    def auth(self, values: object, where: tuple[str | int, ...]) -> Auth:
        if values is False:
            return Auth()
        table = self.table(values, schema.AUTH, where)
        if "password" in table and not table.get("user"):
            raise self.error((*where, "user"), "is missing beside password")
        if table.get("user") and not table.get("password"):
            raise self.error((*where, "password"), "is missing beside user")
        if any(secret.form == "literal" for secret in table.get("password", ())):
            self.literal = True
        return Auth(**table)

    def host(self, entry: object, where: tuple[str | int, ...]) -> HostEntry:
        table = self.table({"url": entry} if isinstance(entry, str) else entry, schema.HOST, where)
        if "url" not in table:
            raise self.error((*where, "url"), "is missing")
        try:
            host = schema.parse_url(table["url"])
        except Bad as error:
            raise self.error((*where, "url"), str(error)) from error
        return HostEntry(
            host._replace(sender=table.get("from", "")),
            self.auth(table["auth"], (*where, "auth")) if "auth" in table else None,
            self.table(table.get("tls", {}), schema.TLS, (*where, "tls")),
            Timeouts(**self.table(table["timeouts"], schema.TIMEOUTS, (*where, "timeouts")))
            if "timeouts" in table
            else None,
        )


# -- what this machine says of itself, never DNS --------------------------------------------------------------------


def _dotted(name: str) -> str:
    """The name where it is one that others could know, else ""."""
    return name if "." in name.strip(".") and schema.HOST_NAME.fullmatch(name) else ""


def _mail_name() -> str:
    """The default of qualify_domain: /etc/mailname, else the hostname, where they have a dot."""
    try:
        name = trust.read("/etc/mailname", limit=4096).text.split("\n")[0].strip()
    except (OSError, Failure):
        name = ""
    return _dotted(name) or _dotted(os.uname().nodename)


def _own_names(configured: str) -> frozenset[str]:
    """Names whose mail is mail for this host: the hostname, short and full, and localhost (RULES D1)."""
    names = [os.uname().nodename, configured]
    names += [name.partition(".")[0] for name in names]
    return frozenset(name.lower() for name in (*names, "localhost") if name)


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
    tls = dict(config.profile.tls or {})
    if account is not None:
        tls.update(account.profile.tls or {})
    return tuple(_complete(entry, entries[0], auth or Auth(), tls, config.timeouts) for entry in entries)


def _complete(entry: HostEntry, first: HostEntry, auth: Auth, tls: Mapping[str, Any], timeouts: Timeouts) -> SmartHost:
    host = entry.host
    if entry.auth is not None:
        auth = entry.auth
    elif auth.user and _parent(host.host) != _parent(first.host.host):
        raise Bad(
            f"would send the password of {first.host.host} to {host.host} too;"
            " give that host an auth of its own, or auth = false"
        )
    policy = Tls(**{**tls, **entry.tls})
    if not policy.policy:
        policy = policy._replace(policy="if-offered" if host.scheme == "smtp" else "required")
    elif policy.policy == "none" and host.scheme == "submissions":
        raise Bad(f'cannot be: policy "none" with {host.url}, which is TLS from the first octet')
    return host._replace(auth=auth, tls=policy, timeouts=entry.timeouts or timeouts)


def _parent(host: str) -> str:
    """The domain one label up, where that still has a dot; else the host itself."""
    parent = host.lower().rstrip(".").partition(".")[2]
    return parent if "." in parent and not _is_literal(host) else host.lower()


def _is_literal(host: str) -> bool:
    return ":" in host or re.fullmatch(r"[0-9.]+", host) is not None


# -- saying where and what ------------------------------------------------------------------------------------------


def _nearest(word: str, known: Mapping[str, object]) -> str:
    """The known name most like `word`, "" where none is near."""
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")


_ASSIGNMENT = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=""")


def _line_of(source: str, where: tuple[str | int, ...]) -> int:
    """The line of a key, as near as a look at the text can tell; 0 where it is not in the text."""
    names = [part for part in where if isinstance(part, str)]
    counts: dict[str, int] = {}
    table: list[str | int] = []
    best, best_length = 0, 0
    for line_number, line in enumerate(source.splitlines(), 1):
        if header := re.match(r"\s*\[(\[?)\s*([^\[\]#]+?)\s*\]", line):
            name = header[2].replace('"', "")
            table = list(name.split("."))
            if header[1]:
                counts[name] = counts.get(name, -1) + 1
                table.append(counts[name])
            path_ = table
        elif assignment := _ASSIGNMENT.match(line):
            path_ = table + [part.strip(" \"'") for part in assignment[1].split(".")]
        else:
            path_ = []
        length = len(path_)
        if length and tuple(path_) == where[:length] and length > best_length:
            best, best_length = line_number, length
        elif best and not path_ and best_length < len(where) and re.search(rf"\b{re.escape(names[-1])}\b\s*=", line):
            return line_number  # inside the list or inline table that begins at `best`
    return best
