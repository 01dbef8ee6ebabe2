"""The expander: recipients in, final remote recipients out, each with the trail that led to it."""

# Annotations are values here: a NamedTuple compiles those that are texts, one by one, while every delivery waits.

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from muawrap import addresses
from muawrap.failure import REFUSED, TRY_AGAIN, Failure, together
from muawrap.mail import Recipient
from muawrap.routing.members import Entry, Member, MemberError, members

DEPTH = 50  # RULES D6; a chain this long is a mistake
RECIPIENTS = 10_000  # RULES D6; distinct final addresses


class World(NamedTuple):
    """What the expander has to know of the outside, handed in so that it can be tested without one."""

    aliases: Callable[[str], Entry | None]
    forward: Callable[[str], Entry | None]
    include: Callable[[str, Entry], Entry]
    host_local: frozenset[str]  # this host's own names, in lower case
    local_domains: frozenset[str]  # further domains in which aliases and .forward apply, in lower case
    admin: str
    qualify_domain: str
    sees: Callable[[str], bool]  # may the caller read what stands in this user's .forward?


class Expansion(NamedTuple):
    """Who gets the message, and which trails ended in :blackhole:."""

    recipients: tuple[Recipient, ...]
    discarded: tuple[str, ...]


class _Trail(NamedTuple):
    """The way from the address the caller gave; below somebody else's .forward it is told no further (RULES D5)."""

    steps: tuple[str, ...] = ()  # what the caller may read of it
    ancestors: frozenset[str] = frozenset()
    hidden: str = ""  # the user whose .forward led on, where the caller may not read it
    by_admin: bool = False  # RULES D1: admin is expanded once

    def to(self, step: str, ancestor: str) -> "_Trail":
        """One step further. Raises Failure where that is one too many (RULES D6)."""
        if len(self.ancestors) == DEPTH:
            raise self.failure(step, f"redirected more than {DEPTH} times")
        steps = self.steps if self.hidden else (*self.steps, step)
        return self._replace(steps=steps, ancestors=self.ancestors | {ancestor})

    def told(self, last: str = "") -> str:
        """The way as the caller may read it, to a last step that may be none: "root -> ops -> |/bin/pager"."""
        if self.hidden:
            return " -> ".join(self.steps) + f" (by {self.hidden}'s .forward)"
        return " -> ".join(filter(None, (*self.steps, last)))

    def failure(self, culprit: str, why: str, *, lead: str = REFUSED, advice: str = "", status: int = 0) -> Failure:
        """Why the trail ends here. Culprit, reason and advice may quote the file that the caller may not read."""
        if self.hidden:
            what, advice = f"{self.told()} cannot be delivered", f"{self.hidden} and root are told why"
        else:
            what = ": ".join(filter(None, (self.told(culprit), why)))
        return Failure(what, lead=lead, advice=advice, status=status)


def expand(given: Iterable[str], world: World) -> Expansion:
    """Expand aliases and .forward files until only final addresses are left (RULES D).

    Raises Failure that names every given address that cannot be delivered, and why.
    """
    expander = _Expander(world)
    failures = []
    for address in given:
        try:
            expander.visit(address.removeprefix("\\"), address.startswith("\\"), _Trail())
        except Failure as failure:
            failures.append(failure)
            if len(expander.final) > RECIPIENTS:
                break
    if failures:
        raise together(failures)
    return Expansion(tuple(expander.final.values()), tuple(expander.discarded))


class _Expander:
    """Walks from address to address, depth first; what it has found is in `final` and `discarded`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.final: dict[str, Recipient] = {}
        self.discarded: list[str] = []
        self.seen: set[tuple[bool, str]] = set()
        self.included: dict[tuple[str, int], bool] = {}

    def visit(self, address: str, stop: bool, trail: _Trail) -> None:
        """Expand one address, or find that it is final; `stop`: aliases and .forward do not apply. Raises Failure."""
        try:
            address = addresses.in_a_labels(address)
        except addresses.AddressError as error:
            raise trail.failure(address, str(error)) from error
        local, domain = addresses.split(address)
        of_this_host = not domain or domain.lower() in self.world.host_local
        if not of_this_host and domain.lower() not in self.world.local_domains:
            self.finish(address, trail)
            return
        # Names are looked up without case, so a loop is found without case; names of this host are bare ones.
        name = local.lower() if of_this_host else addresses.join(local, domain).lower()
        if name in trail.ancestors:
            self.qualify(local, domain, of_this_host, trail)
            return
        # Every address expands once. What has been seen and is no ancestor is done: its recipients are known.
        if (stop, addresses.key(address)) in self.seen:
            return
        self.seen.add((stop, addresses.key(address)))
        trail = trail.to(address, name)
        if not stop and self.redirected(local, trail):
            return
        if of_this_host and self.world.admin and not trail.by_admin:
            self.visit(self.world.admin, False, trail._replace(by_admin=True))
        else:
            self.qualify(local, domain, of_this_host, trail)

    def redirected(self, local: str, trail: _Trail) -> bool:
        """Whether an alias, else a .forward, says where the mail goes (RULES D1). Raises Failure."""
        for look_up in (self.world.aliases, self.world.forward):
            try:
                entry = look_up(local)
            except Failure as failure:
                what, lead, advice = failure.what, failure.lead, failure.advice
                raise trail.failure("", what, lead=lead, advice=advice, status=os.EX_CONFIG) from failure
            if entry is not None and self.enter(entry, trail):
                return True
        return False

    def enter(self, entry: Entry, trail: _Trail) -> bool:
        """Expand a right-hand side; False where it names nobody, which counts as absent (RULES D2). Raises Failure."""
        if entry.private and not trail.hidden and not self.world.sees(entry.private):
            trail = trail._replace(hidden=entry.private)
        try:
            found = members(entry.text)
        except MemberError as error:
            raise trail.failure(f"{error} ({entry.where})", "") from error
        if any(member.kind == "blackhole" for member in found):
            self.discarded.append(trail.told(":blackhole:"))
            return True
        named = [self.member(member, entry, trail) for member in found]  # all of them, which any() alone would not ask
        return any(named)

    def member(self, member: Member, entry: Entry, trail: _Trail) -> bool:
        """Follow one member; False for an included list that names nobody. Raises Failure."""
        if member.kind == "include":
            return self.include(member.value, entry, trail)
        if member.kind in ("fail", "defer"):
            lead = REFUSED if member.kind == "fail" else TRY_AGAIN
            raise trail.failure(f":{member.kind}: {member.value}".strip(), "", lead=lead)
        if member.kind in ("command", "file"):
            raise trail.failure(
                member.value,
                f"{entry.where} asks for a local delivery, and there are none here",
                advice="give an address instead, or :blackhole: to discard",
            )
        self.visit(member.value, member.kind == "stop", trail)
        return True

    def include(self, path: str, entry: Entry, trail: _Trail) -> bool:
        """Expand an included list, once for each owner it is trusted for. Raises Failure."""
        key = path, entry.owner
        if key not in self.included:
            self.included[key] = False  # until it has been read: a list that includes itself adds nobody
            member = ":include:" + path
            try:
                included = self.world.include(path, entry)
            except Failure as failure:
                what, lead, advice = failure.what, failure.lead, failure.advice
                raise trail.failure(member, what, lead=lead, advice=advice, status=os.EX_CONFIG) from failure
            self.included[key] = self.enter(included, trail.to(member, member))
        return self.included[key]

    def qualify(self, local: str, domain: str, of_this_host: bool, trail: _Trail) -> None:
        """An address that nothing redirects; a name of this host leaves under qualify_domain only (RULES D1)."""
        if of_this_host:
            domain = self.world.qualify_domain
            if "." not in domain:
                raise trail.failure(
                    "",
                    f"{local} is a name of this host, and there is no domain to send it to",
                    advice="set qualify_domain, or admin, or make it an alias",
                    status=os.EX_CONFIG,
                )
        self.finish(addresses.join(local, domain), trail)

    def finish(self, address: str, trail: _Trail) -> None:
        """Note a final recipient, once. Raises Failure where there are too many (RULES D6)."""
        key = addresses.key(address)
        if key not in self.final:
            shown = trail.told() if trail.hidden else f"<{address}>"
            self.final[key] = Recipient(address, trail.steps, shown)
        if len(self.final) > RECIPIENTS:
            raise trail.failure(address, f"more than {RECIPIENTS} recipients")
