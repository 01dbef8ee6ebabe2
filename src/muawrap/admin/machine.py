"""What the configuration means on this machine, before anybody is called: sender, alias files, folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from muawrap import keeping
from muawrap.admin.screen import size, told
from muawrap.config import Config
from muawrap.failure import Failure
from muawrap.holding import durable, settings
from muawrap.holding.settings import Keeper
from muawrap.holding.store.spool import Spool
from muawrap.mail import Body, Invocation, Message, Recipient
from muawrap.routing import transaction
from muawrap.routing.aliases import Aliases, Listing, parse
from muawrap.routing.members import MemberError, members


class Senders(NamedTuple):
    """The envelope senders of the calling user's own mail, or why there is none."""

    addresses: tuple[str, ...]
    trouble: str = ""


class Folder(NamedTuple):
    """A folder that messages are kept in, and whether we can use it."""

    name: str  # spool, outbox, keep_failed, or hold and its name
    path: str  # "" where there is none
    state: str  # in words
    is_usable: bool
    is_good: bool  # usable, or not meant for the calling user
    messages: int = 0  # that wait in it


def senders(config: Config) -> Senders:
    """As whom mail without -f leaves."""
    nobody = Recipient("postmaster@example.invalid", ("postmaster@example.invalid",), "<postmaster@example.invalid>")
    try:
        trial = transaction.build(Invocation(), config, Message((), Body()), (nobody,), transaction.caller())
    except Failure as failure:
        return Senders((), told(failure))
    return Senders(tuple(dict.fromkeys(way.sender for way in trial.ways)))


# -- alias files ----------------------------------------------------------------------------------------------------


def aliases(config: Config) -> list[Listing]:
    """The alias files that there are. Raises Failure."""
    files = Aliases(config.aliases, config.aliases_may_be_missing).files
    return [parse(each.path, each.text) for each in files]


def complaints(file: Listing) -> list[str]:
    """What in an alias file would fail those who use it (RULES D4)."""
    found = [f"line {number}: no entry" for number in file.wrong]
    for name, (number, text) in file.entries.items():
        try:
            kinds = {member.kind for member in members(text)}
        except MemberError as error:
            found.append(f"line {number}: {name}: {error}")
            continue
        found += [
            f"line {number}: {name}: delivers to a {kind}, which fails here"
            for kind in ("command", "file")
            if kind in kinds
        ]
    return found


# -- folders --------------------------------------------------------------------------------------------------------


def folders(config: Config) -> Iterator[Folder]:
    """Where messages are kept: keep_failed, the outbox, the spool and each host's folder in it."""
    if config.keep_failed:
        yield _keeps(config.keep_failed)
    yield _outbox(config)
    yield _spool(config)
    for name in config.holds:
        yield _hold(config, name)


def _keeps(path: str) -> Folder:
    try:
        os.close(keeping.opened(path))
    except Failure as failure:
        return Folder("keep_failed", path, told(failure), False, False)
    return _written("keep_failed", path, "", 0)


def _outbox(config: Config) -> Folder:
    try:
        keeper = settings.outbox(config)
    except Failure as failure:  # where a user has none, nothing that has been set is wrong
        return Folder("outbox", "", f"none: {told(failure)}", False, not config.outbox)
    return _kept("outbox", keeper, os.path.dirname(keeper.folder))


def _spool(config: Config) -> Folder:
    try:
        os.close(durable.opened(config.spool))
    except FileNotFoundError:
        if not config.holds:
            return Folder("spool", config.spool, "not there, and no [hold.NAME] needs it", False, True)
        return Folder("spool", config.spool, "not there; muawrap-holding(7) says how to make it", False, False)
    except Failure as failure:
        return Folder("spool", config.spool, told(failure), False, _is_of_others(failure))
    return _written("spool", config.spool, "", 0, is_shared=True)


def _hold(config: Config, name: str) -> Folder:
    label, path = f"hold {name}", os.path.join(config.spool, name)
    try:
        keeper = settings.keeper(config, name)
    except Failure as failure:
        return Folder(label, path, told(failure), False, False)
    return _kept(label, keeper, config.spool)


def _kept(label: str, keeper: Keeper, above: str) -> Folder:
    """A folder of held messages, which is made in `above` where it is missing."""
    is_shared = keeper.name != settings.OUTBOX
    try:
        with Spool(keeper, make=False) as spool:
            if not spool.there:
                return _missing(label, keeper.folder, above, is_shared)
            messages, octets = spool.total("new", "cur")
    except Failure as failure:
        return Folder(label, keeper.folder, told(failure), False, is_shared and _is_of_others(failure))
    count = f"{messages} message{'' if messages == 1 else 's'}"
    state = f"{count}, {size(octets)}" if messages else "empty"
    return _written(label, keeper.folder, state, messages, is_shared)


def _missing(label: str, path: str, above: str, is_shared: bool) -> Folder:
    """One that is made when it is needed; that of an outbox with all above it."""
    while not is_shared and above != "/" and not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.lexists(above):
        return Folder(label, path, "not there", False, False)
    if _is_writable(above):
        return Folder(label, path, "not there yet, made when it is needed", True, True)
    state = f"not there, and {durable.user()} cannot make it in {above}"
    return Folder(label, path, state, False, is_shared and os.geteuid() != 0)


def _written(label: str, path: str, state: str, messages: int, is_shared: bool = False) -> Folder:
    """One that is there, and can be written to or not."""
    if _is_writable(path):
        return Folder(label, path, state, True, True, messages)
    state = "; ".join(filter(None, (state, f"{durable.user()} cannot write to it")))
    return Folder(label, path, state, False, is_shared and os.geteuid() != 0, messages)


def _is_writable(path: str) -> bool:
    return os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _is_of_others(failure: Failure) -> bool:
    """Whether a folder is an MTA's, and we are neither that nor root: then nothing is wrong with it."""
    return isinstance(failure.__cause__, PermissionError)
