"""The single-transaction rule: one list of smart hosts, one sender and one set of header edits for all recipients."""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from muawrap import addresses
from muawrap.config import Account, Config, Profile, Route, hosts_for
from muawrap.failure import Failure
from muawrap.mail import Invocation, Message, Recipient, SmartHost, Transaction, Way
from muawrap.routing import headers


class Caller(NamedTuple):
    """Who runs us, by the passwd file and never by the environment."""

    login: str  # the uid in digits where the passwd file does not know it
    full_name: str


class _Plan(NamedTuple):
    """What must be equal for all recipients (RULES B4)."""

    hosts: tuple[SmartHost, ...]
    own: tuple[str, ...]  # the `from` that holds for each host, "" where none is set
    senders: tuple[str, ...]  # the envelope sender for each host
    add_headers: tuple[str, ...]
    remove_headers: tuple[str, ...]


def caller() -> Caller:
    """The calling user."""
    uid = os.getuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Caller(str(uid), "")
    name = entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())
    return Caller(entry.pw_name, name)


def build(
    invocation: Invocation, config: Config, message: Message, recipients: tuple[Recipient, ...], who: Caller
) -> Transaction:
    """Put everything together that one transaction needs. Raises Failure where recipients disagree (RULES B4)."""
    choice = _Choice(invocation, config, message, who)
    plan, first = None, None
    for recipient in recipients:
        other = choice.plan(choice.route(recipient))
        if plan is None or first is None:
            plan, first = other, recipient
        elif other != plan:
            raise _disagreement(first, plan, recipient, other)
    if plan is None:
        raise Failure("no recipient")
    utf8 = invocation.utf8 or not all(map(addresses.is_ascii, (*plan.senders, *(one.address for one in recipients))))
    return Transaction(
        ways=choice.ways(plan),
        message_id=choice.message_id(plan),
        recipients=recipients,
        body=message.body,
        hostname=config.hostname,
        utf8=utf8,
        notify=invocation.notify,
        returns=invocation.returns,
        envelope_id=invocation.envelope_id,
        dial_delay=config.dial_delay,
        tempfail=config.tempfail,
    )


def _disagreement(first: Recipient, plan: _Plan, recipient: Recipient, other: _Plan) -> Failure:
    """Say who disagrees with whom, and about what."""
    if [str(host) for host in plan.hosts] != [str(host) for host in other.hosts]:
        about = f"go to {_listed(plan.hosts)}", f"to {_listed(other.hosts)}"
    elif plan.hosts != other.hosts:
        about = f"use another account or other settings at {_listed(plan.hosts)}", "does not"
    elif (plan.own, plan.senders) != (other.own, other.senders):
        mine, theirs = (next(one for one in (*each.senders, *each.own) if one) for each in (plan, other))
        about = f"be sent as <{mine}>", f"as <{theirs}>"
    else:
        about = "get other header lines", "does not"
    return Failure(
        f"one transaction cannot serve both: {first.shown} would {about[0]}, {recipient.shown} {about[1]}",
        advice="send to them one by one, or let their [[route]] tables agree",
    )


def _listed(hosts: Iterable[SmartHost]) -> str:
    return " then ".join(map(str, hosts))


class _Choice:
    """The precedence of accounts, routes and senders (muawrap.toml(5))."""

    def __init__(self, invocation: Invocation, config: Config, message: Message, who: Caller) -> None:
        self.invocation = invocation
        self.config = config
        self.message = message
        self.who = who
        self.null, self.given = self._given()
        box = next(iter(headers.mailboxes(message.headers, "from")), None)
        self.from_header = self._full(box.local, box.domain) if box else ""
        self.account = self._account()
        self._plans: dict[int, _Plan] = {}
        self._routes = [(_globs(route.recipients), route) for route in config.routes]
        self._date = headers.date(time.time())
        self._token = f"{int(time.time())}.{os.urandom(8).hex()}"

    def _given(self) -> tuple[bool, str]:
        """-f as (is it the null sender?, the address); "" where there is none or it cannot be completed."""
        value = self.invocation.sender
        if value is None:
            return False, ""
        if not value.strip():
            return True, ""
        try:
            box = addresses.parse_one(value, null=True)
        except addresses.AddressError as error:
            raise Failure(f"cannot read the sender given with -f, {value!r}: {error}") from error
        if not box.local:
            return True, ""
        return False, self._full(box.local, box.domain)

    def _full(self, local: str, domain: str) -> str:
        """A sender's address with a domain others know; "" where there is none for a bare name."""
        if domain and domain.lower() not in self.config.host_local:
            return addresses.join(local, domain)
        qualified = self.config.qualify_domain or domain
        return addresses.join(local, qualified) if qualified else ""

    def _account(self) -> Account | None:
        """The first account that matches the sender or the login."""
        sender = self.given or ("" if self.null else self.from_header)
        for account in self.config.accounts:
            if self.who.login in account.users or (sender and _matches(_globs(account.match), sender)):
                return account
        return None

    def route(self, recipient: Recipient) -> Route | None:
        """The first route for a final recipient. Raises Failure where it is unroutable."""
        for pattern, route in self._routes:
            if pattern.fullmatch(recipient.address.lower()):
                if route.unroutable:
                    raise Failure(f"{recipient.shown}: {route.unroutable}")
                return route
        return None

    def plan(self, route: Route | None) -> _Plan:
        """Hosts, senders and edits for the recipients of one route."""
        number = -1 if route is None else self.config.routes.index(route)
        if number not in self._plans:
            hosts = hosts_for(self.config, route, self.account)
            if not hosts:
                raise Failure(
                    f"no smart host is configured in {self.config.source}",
                    advice='set smart_hosts, such as ["submissions://smtp.example.org"]',
                )
            own = tuple(self.own(host, route) for host in hosts)
            senders = tuple(map(self.sender, own))
            edits = (route.add_headers, route.remove_headers) if route else ((), ())
            self._plans[number] = _Plan(hosts, own, senders, *edits)
        return self._plans[number]

    def own(self, host: SmartHost, route: Route | None) -> str:
        """The `from` that holds for a host: of the route, host, account or top, else auth.user if an address."""
        profiles = (route.profile if route else Profile(), self.account.profile if self.account else Profile())
        own = profiles[0].sender or host.sender or profiles[1].sender or self.config.profile.sender or ""
        if not own and "@" in host.auth.user:
            try:
                box = addresses.parse_one(host.auth.user)
            except addresses.AddressError:
                return ""
            own = box.address if box.domain else ""
        return own

    def may_pass(self, own: str, address: str) -> bool:
        """Whether a sender passes as it is: always while `from` is empty (muawrap.toml(5))."""
        if not own or (address and addresses.same(address, own)):
            return True
        allowed = self.account.profile.allowed_from if self.account else None
        if allowed is None:
            allowed = self.config.profile.allowed_from or ()
        return bool(address) and _matches(_globs(allowed), address)

    def sender(self, own: str) -> str:
        """The envelope sender where `own` is `from`; "" is the null sender. Raises Failure where none is to be had."""
        if self.null and (self.config.null_sender == "keep" or not own):
            return ""
        candidates = [self.given]
        if self.config.envelope_from_header and self.invocation.sender is None:
            candidates.append(self.from_header)
        for candidate in candidates:
            if candidate and self.may_pass(own, candidate):
                return candidate
        return own or self.default_sender()

    def default_sender(self) -> str:
        """login@qualify_domain. Raises Failure where that has no dot."""
        if not self.config.qualify_domain:
            given = self.invocation.sender
            of = f"the sender {given!r} has no domain" if given else f"no address to send {self.who.login}'s mail as"
            raise Failure(f"{of}", advice=f"set from, or qualify_domain, in {self.config.source}")
        return addresses.join(self.who.login, self.config.qualify_domain)

    def message_id(self, plan: _Plan) -> str:
        """The message's own, else the one that is added: the same for all hosts, so that it can be looked for."""
        own = next((header.value for header in self.message.headers if header.name == "message-id"), "")
        if own or self.invocation.gateway:
            return own
        named = plan.senders[0] or plan.own[0] or self._fallback()
        return f"<{self._token}@{addresses.split(named)[1]}>"

    def ways(self, plan: _Plan) -> tuple[Way, ...]:
        """Each host with its sender and the header block it would get."""
        found = []
        for host, own, sender in zip(plan.hosts, plan.own, plan.senders, strict=True):
            named = sender or own or self._fallback()
            block, rewritten = headers.apply(
                self.message.headers,
                headers.Edits(
                    sender=named,
                    full_name=self.invocation.full_name or self.who.full_name,
                    domain=self.config.qualify_domain or self.config.hostname or os.uname().nodename,
                    add_missing=not self.invocation.gateway,
                    date=self._date,
                    message_id=self.message_id(plan),
                    may_pass=partial(self.may_pass, own) if own and self.config.rewrite_from_header else None,
                    host_local=self.config.host_local,
                    add_headers=plan.add_headers,
                    remove_headers=plan.remove_headers,
                ),
            )
            found.append(Way(host, sender, block, rewritten))
        return tuple(found)

    def _fallback(self) -> str:
        """An address for From: under a null sender, where nothing better is known."""
        return addresses.join(self.who.login, self.config.qualify_domain or self.config.hostname or os.uname().nodename)


def _globs(patterns: Iterable[str]) -> re.Pattern[str]:
    """Patterns in which * stands for anything and ? for one character, as one expression without case."""
    alternatives = ("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in one) for one in patterns)
    return re.compile("|".join(f"(?:{one})" for one in alternatives) or r"(?!)", re.IGNORECASE | re.DOTALL)


def _matches(pattern: re.Pattern[str], address: str) -> bool:
    """Whether an address matches, with its +detail or without."""
    local, domain = addresses.split(address)
    plain = addresses.join(local.partition("+")[0] or local, domain)
    return bool(pattern.fullmatch(address) or pattern.fullmatch(plain))
