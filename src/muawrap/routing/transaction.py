"""The single-transaction rule: one list of smart hosts, one sender and one set of header edits for all recipients."""

from __future__ import annotations

import os
import pwd
import re
import time
from functools import cache, partial
from typing import NamedTuple

from muawrap import addresses
from muawrap.config import Account, Config, Profile, Route, hosts_for
from muawrap.failure import Failure, together
from muawrap.mail import Invocation, Message, Recipient, SmartHost, Transaction, Way
from muawrap.routing import headers
from muawrap.schema import HOST_NAME

ORIGINAL_LIMIT = 500
"""Octets of ORCPT= (RFC 3461, 4.2)."""


class Caller(NamedTuple):
    """Who runs us, by the passwd file and never by the environment."""

    login: str  # the uid in digits where the passwd file does not know it
    full_name: str


def caller() -> Caller:
    """The calling user."""
    uid = os.getuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Caller(str(uid), "")
    capitalised = entry.pw_name[:1].upper() + entry.pw_name[1:]
    return Caller(entry.pw_name, entry.pw_gecos.partition(",")[0].replace("&", capitalised))


def login_at(who: Caller, domain: str) -> str:
    """The caller's address in a domain; a login such as CORP\\al is quoted."""
    return addresses.join(addresses.parse_one(addresses.phrase(who.login)).address, domain)


def build(
    invocation: Invocation, config: Config, message: Message, recipients: tuple[Recipient, ...], who: Caller
) -> Transaction:
    """Put everything together that one transaction needs. Raises Failure where recipients disagree (RULES B4)."""
    if not recipients:
        raise Failure("no recipient")
    choice = _Choice(invocation, config, message, who)
    routes = choice.routes(recipients)
    ways = choice.ways(routes[0])
    compared = {id(routes[0])}
    for recipient, route in zip(recipients, routes, strict=True):
        if id(route) in compared:
            continue
        compared.add(id(route))
        other = choice.ways(route)
        if _compared(other) != _compared(ways):
            raise _disagreement(recipients[0], ways, recipient, other)
    if config.long_lines == "refuse":
        from muawrap.routing import longlines

        for way in ways:
            longlines.refuse(way.header, message.body)
    recipients = tuple(map(choice.with_original, recipients))
    named = (*(way.sender for way in ways), *(recipient.address for recipient in recipients))
    return Transaction(
        ways=ways,
        message_id=headers.message_id(ways[0].header),
        recipients=recipients,
        body=message.body,
        hostname=config.hostname,
        utf8=invocation.utf8 or not all(map(addresses.is_ascii, named)),
        notify=invocation.notify,
        returns=invocation.returns,
        envelope_id=invocation.envelope_id,
        dial_delay=config.dial_delay,
        tempfail=config.tempfail,
    )


# -- do all recipients agree? (RULES B4) ----------------------------------------------------------------------------


def _compared(ways: tuple[Way, ...]) -> list[Way]:
    """What must be equal for all recipients: what each host would get, however the file spells it."""
    return [way._replace(host=way.host._replace(url="", sender="")) for way in ways]


def _disagreement(first: Recipient, ways: tuple[Way, ...], recipient: Recipient, others: tuple[Way, ...]) -> Failure:
    """Say who disagrees with whom, and about what; settings are named and not told, for they hold secrets."""
    one, two = first.shown, recipient.shown
    if _listed(ways) != _listed(others):
        about = f"{one} would go to {_listed(ways)}, {two} to {_listed(others)}"
    else:
        pairs = zip(_compared(ways), _compared(others), strict=True)
        way, other = next((way, other) for way, other in pairs if way != other)
        if way.host != other.host:
            names = [name for name in SmartHost._fields if getattr(way.host, name) != getattr(other.host, name)]
            about = f"{one} and {two} need different settings at {way.host}: {', '.join(names)}"
        elif way.sender != other.sender:
            about = f"{one} would be sent as <{way.sender}>, {two} as <{other.sender}>"
        else:
            about = f"{one} and {two} would get different header lines: {_different(way.header, other.header)}"
    return Failure(
        f"one transaction cannot serve both: {about}",
        advice="send to them one by one, or let their [[route]] tables agree",
    )


def _listed(ways: tuple[Way, ...]) -> str:
    return " then ".join(str(way.host) for way in ways)


def _different(block: bytes, other: bytes) -> str:
    """The names of the header lines that are in one block only."""
    lines = set(block.splitlines()) ^ set(other.splitlines())
    names = {line.partition(b":")[0].decode("ascii", "replace") for line in lines if line[:1] not in b" \t"}
    return ", ".join(sorted(names)) or "their order"


# -- the precedence of routes, accounts and senders -----------------------------------------------------------------


class _Choice:
    """Which route, account and sender hold (muawrap.toml(5))."""

    def __init__(self, invocation: Invocation, config: Config, message: Message, who: Caller) -> None:
        self.invocation = invocation
        self.config = config
        self.message = message
        self.who = who
        self.domain = config.qualify_domain if "." in config.qualify_domain else ""
        self.null, self.given = self._given()
        self.from_header = self._from_header()
        self.account = self._account()
        self._ways: dict[int, tuple[Way, ...]] = {}  # by the id() of a route, which holds a dict and has no hash
        self._date = headers.date(time.time())
        self._message_id = ""

    def _given(self) -> tuple[bool, str]:
        """-f as (is it the null sender?, the address); "" where there is none or it cannot be completed."""
        value = self.invocation.sender
        if value is None:
            return False, ""
        if not value:
            return True, ""
        try:
            box = addresses.parse_one(value, null=True)
            return (False, self._full(box.local, box.domain)) if box.local else (True, "")
        except addresses.AddressError as error:
            raise Failure(f"cannot read the sender given with -f, {value!r}: {error}") from error

    def _full(self, local: str, domain: str) -> str:
        """An address with a domain others know; "" where there is none for a bare name. Raises AddressError."""
        domain = addresses.a_labels(domain)
        if not domain or domain.lower() in self.config.host_local:
            domain = self.domain or domain
        return addresses.join(local, domain) if domain else ""

    def _from_header(self) -> str:
        """The first address of From:, "" where there is none that could be a sender's."""
        box = next(iter(headers.mailboxes(self.message.headers, "from")), None)
        try:
            return self._full(box.local, box.domain) if box else ""
        except addresses.AddressError:
            return ""

    def with_original(self, recipient: Recipient) -> Recipient:
        """Where notifications are asked for, they name the address the caller gave (RFC 3461, 4.2), if they can."""
        if recipient.original or not (recipient.notify or self.invocation.notify):
            return recipient
        given = self._full(*addresses.split(recipient.trail[0] if recipient.trail else recipient.address))
        original = f"rfc822;{addresses.xtext(given)}"
        known = given and given.isascii() and len(original) <= ORIGINAL_LIMIT
        return recipient._replace(original=original) if known else recipient

    def _account(self) -> Account | None:
        """The first account that matches the login, or the sender: -f, and only without it the From: address."""
        sender = self.given if self.invocation.sender is not None else self.from_header
        for account in self.config.accounts:
            if self.who.login in account.users or (sender and _matches(account.match, sender)):
                return account
        return None

    def routes(self, recipients: tuple[Recipient, ...]) -> list[Route | None]:
        """The first route for each final recipient. Raises Failure that names all that are unroutable."""
        patterns = [(_globs(route.recipients), route) for route in self.config.routes]
        found = []
        unroutable = []
        for recipient in recipients:
            route = next((route for pattern, route in patterns if pattern.fullmatch(recipient.address)), None)
            found.append(route)
            if route is not None and route.unroutable:
                unroutable.append(Failure(f"{recipient.story}: {route.unroutable}"))
        if unroutable:
            raise together(unroutable)
        return found

    def ways(self, route: Route | None) -> tuple[Way, ...]:
        """Each host of a route with its sender and the header block it would get. Raises Failure."""
        if id(route) not in self._ways:
            hosts = hosts_for(self.config, route, self.account)
            if not hosts:
                raise Failure(
                    f"no smart host is configured in {self.config.source}",
                    advice='set smart_hosts, such as ["submissions://smtp.example.org"]',
                    status=os.EX_CONFIG,
                )
            self._ways[id(route)] = tuple(self.way(host, route) for host in hosts)
        return self._ways[id(route)]

    def way(self, host: SmartHost, route: Route | None) -> Way:
        """One host, with the sender and the header block it would get. Raises Failure."""
        own = self.own(host, route)
        sender = self.sender(own)
        known = self.config.qualify_domain or self.config.hostname or _nodename()
        named = sender or own or login_at(self.who, known)
        # One for all hosts and routes, so that the message can be looked for.
        self._message_id = self._message_id or f"<{int(time.time())}.{os.urandom(8).hex()}@{addresses.split(named)[1]}>"
        edits = headers.Edits(
            sender=named,
            own=own,
            # The passwd file names the caller, who is not the one that -f names.
            full_name=self.invocation.full_name or (self.who.full_name if named != self.given else ""),
            domain=known,
            add_missing=not self.invocation.gateway,
            date=self._date,
            message_id=self._message_id,
            may_pass=partial(self.may_pass, own) if own and self.config.rewrite_from_header else None,
            host_local=self.config.host_local,
            add_headers=route.add_headers if route else (),
            remove_headers=route.remove_headers if route else (),
            fold=self.config.long_lines == "encode",
        )
        return Way(host, sender, *headers.apply(self.message.headers, edits))

    def own(self, host: SmartHost, route: Route | None) -> str:
        """The `from` that holds for a host: of the route, host, account or top, else auth.user if an address."""
        profiles = (route.profile if route else Profile(), self.account.profile if self.account else Profile())
        own = profiles[0].sender or host.sender or profiles[1].sender or self.config.profile.sender
        if own:
            return own
        try:
            box = addresses.parse_one(host.auth.user)
        except addresses.AddressError:
            return ""
        return box.address if box.domain else ""

    def may_pass(self, own: str, address: str) -> bool:
        """Whether a sender passes as it is: always while `from` is empty (muawrap.toml(5))."""
        try:
            address = addresses.in_a_labels(address)
        except addresses.AddressError:
            pass  # it is nobody's, and may pass only where all may
        if not own or any(addresses.same(spelling, own) for spelling in _spellings(address)):
            return True
        allowed = self.account.profile.allowed_from if self.account else None
        return _matches(self.config.profile.allowed_from or () if allowed is None else allowed, address)

    def sender(self, own: str) -> str:
        """The envelope sender where `own` is `from`; "" is the null sender. Raises Failure where none is to be had."""
        if self.null:
            return "" if self.config.null_sender == "keep" else own
        candidates = [self.given]
        if self.config.envelope_from_header and self.invocation.sender is None:
            candidates.append(self.from_header)
        for candidate in candidates:
            if candidate and self.may_pass(own, candidate):
                return candidate
        return own or self.default_sender()

    def default_sender(self) -> str:
        """login@qualify_domain. Raises Failure where that has no dot."""
        if not self.domain:
            given = self.invocation.sender
            of = f"the sender {given!r} has no domain" if given else f"no address to send {self.who.login}'s mail as"
            advice = f"set from, or qualify_domain, in {self.config.source}"
            raise Failure(of, advice=advice, status=os.EX_CONFIG)
        return login_at(self.who, self.domain)


def _nodename() -> str:
    """The kernel's hostname where it can stand in an address: who sets it may write anything."""
    name = os.uname().nodename
    return name if HOST_NAME.fullmatch(name) else "localhost"


@cache
def _globs(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Patterns in which * stands for anything and ? for one character, as one expression without case."""
    alternatives = ("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in one) for one in patterns)
    return re.compile("|".join(f"(?:{one})" for one in alternatives) or r"(?!)", re.IGNORECASE | re.DOTALL)


def _matches(patterns: tuple[str, ...], address: str) -> bool:
    """Whether an address matches, with its +detail or without."""
    return any(_globs(patterns).fullmatch(spelling) for spelling in _spellings(address))


def _spellings(address: str) -> tuple[str, str]:
    """An address with its +detail and without: whoever may send as al@x may send as al+lists@x, which is al's too."""
    local, domain = addresses.split(address)
    return address, addresses.join(local.partition("+")[0] or local, domain)
