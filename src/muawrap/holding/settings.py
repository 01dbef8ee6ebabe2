"""What the configuration says about a host that is not always there, and about the outbox, with all defaults."""

from __future__ import annotations

import os
import pwd
from typing import NamedTuple

from muawrap import schema, trust
from muawrap.config import Config
from muawrap.failure import Failure
from muawrap.holding.rules import retry
from muawrap.mail import SmartHost

RULES_LIMIT = 1024 * 1024  # octets of a file of retry rules, which is written by hand
OUTBOX = "outbox"
"""The outbox is a host among the others; no [hold.NAME] can have this name."""


class Keeper(NamedTuple):
    """One folder of held messages, and what is to become of them."""

    name: str  # of [hold.NAME], or "outbox"
    folder: str
    hosts: tuple[SmartHost, ...]  # where they go; of the outbox: (), its messages go by smart_hosts
    domains: tuple[str, ...]
    etrn_names: tuple[str, ...]
    trust_caller: bool
    max_age: float  # seconds; 0: the last cutoff of the rule that matches
    on_expire: str  # bounce, archive, discard
    on_refuse: str
    uncertain: str  # park, resend
    rules: retry.Rules
    min_interval: float  # seconds between two tries, even with --now
    archive_keep: float  # seconds; 0: for ever
    mailstore_prefix: int  # lines before the sender in a .env file
    mailstore_suffix: int


def named(config: Config, name: str) -> str | None:
    """The NAME of the [hold.NAME] that has this name, else of that which has this domain; None where there is none.

    Raises Failure where several have the domain.
    """
    if name in config.holds:
        return name
    domain = name.lower().rstrip(".")
    found = [known for known, hold in config.holds.items() if domain in hold.keys.get("domains", ())]
    if len(found) > 1:
        tables = " and of ".join(f"[hold.{one}]" for one in found)
        raise Failure(f"{domain} is a domain of {tables} in {config.source}", advice=f"name one: {', '.join(found)}")
    return found[0] if found else None


def keeper(config: Config, name: str) -> Keeper:
    """That of [hold.NAME], by its name or one of its domains, with "@" or "#" before it or not. Raises Failure."""
    wanted = name[1:] if name[:1] in ("@", "#") else name
    known = named(config, wanted)
    if known is not None:
        hold = config.holds[known]
        return _made(config, known, os.path.join(config.spool, known), hold.hosts, hold.keys, "bounce")
    near = schema.nearest(wanted, config.holds)
    advice = f"did you mean {near}?" if near else f"write [hold.{wanted or 'NAME'}] into {config.source}"
    raise Failure(f'there is no host "{wanted}" to hold mail for in {config.source}', advice=advice)


def keepers(config: Config) -> list[Keeper]:
    """Those of every [hold.NAME], in the order of the configuration. Raises Failure."""
    return [keeper(config, name) for name in config.holds]


def chosen(config: Config, name: str | None) -> list[Keeper]:
    """That of one [hold.NAME], or without a name all of them. Raises Failure."""
    return keepers(config) if name is None else [keeper(config, name)]


def outbox(config: Config) -> Keeper:
    """That of the outbox of the calling user. Raises Failure."""
    folder = config.outbox.get("folder", "") or _own_folder(config)
    return _made(config, OUTBOX, folder, (), config.outbox, "archive")


def _own_folder(config: Config) -> str:
    """Where a user has an outbox of his own: root in the spool, people below their home, system accounts nowhere."""
    uid = os.getuid()
    if uid == 0:
        return os.path.join(config.spool, OUTBOX)
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        user = None
    if user is None or uid < 1000:
        raise Failure(
            f"the outbox of {user.pw_name if user else f'uid {uid}'} has no folder",
            advice=f"name one that belongs to it in outbox.folder of {config.source}",
        )
    return os.path.join(user.pw_dir, ".local", "state", "muawrap", OUTBOX)


def _made(config: Config, name: str, folder: str, hosts: tuple[SmartHost, ...], keys: object, giving_up: str) -> Keeper:
    assert isinstance(keys, dict)
    return Keeper(
        name=name,
        folder=folder,
        hosts=hosts,
        domains=keys.get("domains", ()),
        etrn_names=keys.get("etrn_names", ()),
        trust_caller=keys.get("trust_caller", False),
        max_age=keys.get("max_age", 0.0),
        on_expire=keys.get("on_expire", giving_up),
        on_refuse=keys.get("on_refuse", giving_up),
        uncertain=keys.get("uncertain", "park"),
        rules=_rules(config, name, keys.get("retry", "")),
        min_interval=keys.get("min_interval", 30.0),
        archive_keep=keys.get("archive_keep", 30 * 86_400.0),
        mailstore_prefix=keys.get("mailstore_prefix", 0),
        mailstore_suffix=keys.get("mailstore_suffix", 0),
    )


def _rules(config: Config, name: str, text: str) -> retry.Rules:
    """The retry rules of a table: as written there, or in the file it names. Raises Failure."""
    if not text:
        return retry.DEFAULT
    if not text.startswith(("/", "~/")):
        table = name if name == OUTBOX else f"hold.{name}"
        return retry.parse(text, f"{config.source}: {table}.retry")
    path = schema.home_path(text)
    try:
        return retry.parse(trust.read(path, limit=RULES_LIMIT).text, path)
    except FileNotFoundError:
        raise Failure(f"there is no file of retry rules {path}", advice=f"{config.source} names it") from None
