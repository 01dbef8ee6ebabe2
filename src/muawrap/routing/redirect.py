"""The expander: recipients in, final remote recipients out, each with the trail that led to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from muawrap import addresses
from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.mail import Recipient
from muawrap.routing.members import Entry, Member, MemberError, members

DEPTH = 50  # RULES D6; a chain this long is a mistake
RECIPIENTS = 10_000  # RULES D6; distinct addresses, expanded or final


class World(NamedTuple):
    """What the expander has to know of the outside, handed in so that it can be tested without one."""

    aliases: Callable[[str], Entry | None]
    forward: Callable[[str], Entry | None]
    include: Callable[[str, Entry], Entry]
    host_local: frozenset[str]  # this host's own names, in lower case
    local_domains: frozenset[str]  # further domains in which aliases and .forward apply
    admin: str
    qualify_domain: str
    sees: Callable[[str], bool]  # may the caller read what stands in this user's .forward?


class Expansion(NamedTuple):
    """Who gets the message, and which trails ended in :blackhole:."""

    recipients: tuple[Recipient, ...]
    discarded: tuple[str, ...]


class _Trail(NamedTuple):
    """The way from the address the caller gave; below somebody else's .forward it is told no further (RULES D5)."""

    shown: tuple[str, ...]
    ancestors: frozenset[str]
    hidden: str = ""

    def to(self, name: str, identity: str) -> _Trail:
        shown = self.shown if self.hidden else (*self.shown, name)
        return _Trail(shown, self.ancestors | {identity}, self.hidden)

    def told(self, *culprit: str) -> str:
        if self.hidden:
            return " -> ".join(self.shown) + f" (by {self.hidden}'s .forward)"
        return " -> ".join((*self.shown, *culprit))


def expand(given: Iterable[str], world: World) -> Expansion:
    """Expand aliases and .forward files until only final addresses are left (RULES D).

    Raises Failure that names every given address that cannot be delivered, and why.
    """
    expander = _Expander(world)
    failures = []
    for address in given:
        try:
            expander.visit(address, False, _Trail((), frozenset()))
        except Failure as failure:
            failures.append(failure)
            if expander.full:
                break
    if len(failures) == 1:
        raise failures[0]
    if failures:
        temporary = all(failure.lead == TRY_AGAIN for failure in failures)
        raise Failure(lead=TRY_AGAIN if temporary else REFUSED, reasons=tuple(failures), advice=failures[0].advice)
    return Expansion(tuple(expander.final.values()), tuple(expander.discarded))


class _Expander:
    def __init__(self, world: World) -> None:
        self.world = world
        self.final: dict[str, Recipient] = {}
        self.discarded: list[str] = []
        self.seen: set[str] = set()
        self.full = False

    def visit(self, address: str, stop: bool, trail: _Trail) -> None:
        """Expand one address, or find that it is final."""
        local, domain = addresses.split(address)
        of_this_host = not domain or domain.lower() in self.world.host_local
        if not of_this_host and domain.lower() not in self.world.local_domains:
            self.finish(address, trail.to(address, ""))
            return
        # Names of this host are one name however they are spelled, and looked up without case.
        identity = local.lower() if of_this_host else addresses.join(local.lower(), domain.lower())
        if identity in trail.ancestors:
            self.qualify(local, domain, of_this_host, trail)
            return
        identity = "\\" + identity if stop else identity
        if identity in self.seen:
            return
        self.seen.add(identity)
        self.bounded(trail)
        trail = trail.to(address, identity)
        if len(trail.ancestors) > DEPTH:
            raise Failure(f"{trail.told()}: redirected more than {DEPTH} times")
        if not stop:
            for look_up in (self.world.aliases, self.world.forward):
                try:
                    entry = look_up(local)
                except Failure as failure:
                    raise self.with_trail(failure, trail) from failure
                if entry is not None and self.enter(entry, trail):
                    return
        if of_this_host and self.world.admin and "admin" not in trail.ancestors:
            self.visit(self.world.admin, False, trail)
        else:
            self.qualify(local, domain, of_this_host, trail)

    def enter(self, entry: Entry, trail: _Trail) -> bool:
        """Expand a right-hand side; False where it is empty, which counts as absent (RULES D2)."""
        if entry.private and not self.world.sees(entry.private):
            trail = trail._replace(hidden=trail.hidden or entry.private)
        try:
            found = members(entry.text)
        except MemberError as error:
            told = f"{trail.told()} -> {error} ({entry.where})" if not trail.hidden else trail.told()
            raise Failure(f"{told} cannot be read" if trail.hidden else told) from error
        if any(member.kind == "blackhole" for member in found):
            self.discarded.append(trail.told(":blackhole:"))
            return True
        for member in found:
            self.member(member, entry, trail)
        return bool(found)

    def member(self, member: Member, entry: Entry, trail: _Trail) -> None:
        if member.kind in ("address", "stop"):
            self.visit(member.value, member.kind == "stop", trail)
        elif member.kind == "include":
            identity = ":include:" + member.value
            if identity in self.seen:
                return
            self.seen.add(identity)
            self.bounded(trail)
            inner = trail.to(identity, identity)
            if len(inner.ancestors) > DEPTH:
                raise Failure(f"{inner.told()}: redirected more than {DEPTH} times")
            try:
                included = self.world.include(member.value, entry)
            except Failure as failure:
                raise self.with_trail(failure, trail, identity) from failure
            self.enter(included, inner)
        elif member.kind in ("fail", "defer"):
            lead = REFUSED if member.kind == "fail" else TRY_AGAIN
            said = "" if trail.hidden else member.value
            raise Failure(trail.told(f":{member.kind}: {said}".strip()), lead=lead)
        else:
            raise Failure(
                f"{trail.told(member.value)}: a local delivery to a {member.kind}, and there are none here",
                advice="give an address instead",
            )

    def qualify(self, local: str, domain: str, of_this_host: bool, trail: _Trail) -> None:
        if of_this_host:
            domain = self.world.qualify_domain
            if not domain:
                raise Failure(
                    f"{trail.told()}: no alias, no .forward, and no domain to send it to",
                    advice="set admin, or qualify_domain, or an alias",
                )
        self.finish(addresses.join(local, domain), trail)

    def finish(self, address: str, trail: _Trail) -> None:
        self.bounded(trail)
        shown = trail.told() if trail.hidden else f"<{address}>"
        self.final.setdefault(addresses.key(address), Recipient(address, trail.shown, shown))

    def bounded(self, trail: _Trail) -> None:
        if len(self.final) + len(self.seen) > RECIPIENTS * 2 or len(self.final) > RECIPIENTS:
            self.full = True
            raise Failure(f"{trail.told()}: more than {RECIPIENTS} recipients")

    def with_trail(self, failure: Failure, trail: _Trail, *culprit: str) -> Failure:
        """The same failure, told with the way that led to it."""
        what = trail.told(*culprit) + ("" if trail.hidden else f": {failure.what}")
        if trail.hidden:
            what += " cannot be used"
        return Failure(what, lead=failure.lead, advice=failure.advice)
