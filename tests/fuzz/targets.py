"""The targets: each a function that takes octets and fails where a promise does not hold.

None of them needs more than the package. An input that is refused as documented (a Failure, an AddressError) is as good
as one that is accepted; what is told of it is checked, too. Several texts in one input are separated by NUL.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from muawrap import addresses, config, document, mail, schema
from muawrap.failure import Failure
from muawrap.mail import Header, Message
from muawrap.reading import message as reading
from muawrap.reading import options, recipients
from muawrap.routing import aliases as alias_files
from muawrap.routing import headers, redirect
from muawrap.routing.members import Entry
from muawrap.submission import sasl, wire
from muawrap.submission.replies import LINES_LIMIT, Malformed, Reader, capabilities
from tests.fuzz import accounts, checks, dialogues
from tests.fuzz.wired import replies_in

SECONDS = 1.0  # of processor time for one input
GROWTH = 64 * 1024  # KiB by which one input may raise the peak of resident memory


class Target(NamedTuple):
    """A target, and how many octets an input may have."""

    run: Callable[[bytes], None]
    length: int


def bounded(target: Target, data: bytes) -> None:
    """Run a target on one input, and fail where that takes too much time or memory (G1)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    target.run(data)
    seconds = time.process_time() - begun
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert seconds <= SECONDS, f"{seconds:.2f} s"
    assert grown <= GROWTH, f"{grown} KiB more"


def texts(data: bytes) -> list[str]:
    """What stands between NULs, as Python takes in arguments and files."""
    return [part.decode("utf-8", "surrogateescape") for part in data.split(b"\0")]


# -- the command line -----------------------------------------------------------------------------------------------


def argv(data: bytes) -> None:
    """Program name and arguments."""
    words = texts(data)
    options.expected_mode(words)
    try:
        invocation = options.parse(words)
    except Failure as failure:
        checks.told(failure)
        return
    for value in _values(invocation):
        assert not isinstance(value, str) or not re.search(r"[\x00-\x1f\x7f-\x9f]", value), value
    assert invocation.mode in (*options.KNOWN_MODES, "refused")
    assert invocation.refusal or invocation.mode != "refused"
    for parameter in invocation.notify, invocation.returns, invocation.envelope_id:
        assert re.fullmatch(r"[!-~]*", parameter)
    if "--" not in words[1:]:
        assert not any(one.startswith("-") for one in invocation.recipients)
    try:
        found = recipients.named(invocation, (), False) if invocation.recipients else []
    except Failure as failure:
        checks.told(failure)
        return
    for address in found:
        bare = address.removeprefix("\\")
        checks.envelope(bare)
        assert "--" in words[1:] or not address.startswith("-") or any("<-" in word for word in words)
        assert addresses.parse_one(bare).address == bare


# -- the header block and its addresses -----------------------------------------------------------------------------

_BCC = re.compile(rb"(?im)^(?:(?:resent-)?bcc|return-path)[ \t]*:")


def message(data: bytes) -> None:
    """An octet that says how, then standard input."""
    how, octets = data[0] if data else 0, data[1:]
    dot_ends, limit, own = bool(how & 1), 2 if how & 2 else 100, "own@example.org" if how & 4 else ""
    try:
        read, written = _read(octets, dot_ends, limit, 0)
    except Failure as failure:
        checks.told(failure)
        return
    body = b"".join(read.body.blocks())
    if how >> 3:
        again, above = _read(octets, dot_ends, limit, how >> 3)
        assert (again.headers, above, b"".join(again.body.blocks())) == (read.headers, written, body)
    _whole(read, body)
    for header in written:
        with contextlib.suppress(addresses.AddressError):
            checks.mailboxes(header.value)
    for fields in ((), ("resent-",)):
        chosen = tuple(header for header in written if header.name.startswith(fields or ""))
        try:
            for address in recipients.of_header(chosen):
                checks.envelope(address)
        except Failure as failure:
            checks.told(failure)
    _edited(read, own)


def _read(octets: bytes, dot_ends: bool, limit: int, piece: int) -> tuple[Message, tuple[Header, ...]]:
    """From a descriptor that gives at most `piece` octets at once, 0: as many as it has."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, ours:
        for at in range(0, len(octets), piece or len(octets) or 1):
            ours.send(octets[at : at + (piece or len(octets))])
            if at // (piece or 1) > 100:  # more would not fit into the kernel
                ours.send(octets[at + piece :])
                break
        ours.close()
        return reading.read(theirs.fileno(), dot_ends, limit)


def _whole(read: Message, body: bytes) -> None:
    """A message as it leaves is in one reading only, and reads again as itself."""
    block = b"".join(header.octets for header in read.headers)
    for header in read.headers:
        assert re.fullmatch(rb"[!-9;-~]+[ \t]*:[^\r\n\0]*\n(?:[ \t][^\r\n\0]*\n)*", header.octets), header
    assert not _BCC.search(block)
    assert not body or body.endswith(b"\n")
    assert b"\r" not in body
    assert (read.body.size, read.body.lines) == (len(body), body.count(b"\n"))
    again, _ = _read(block + b"\n" + body, False, len(read.headers), 0)
    assert again.headers == read.headers
    assert b"".join(again.body.blocks()) == body
    dotted = b"".join(wire.with_dots(wire.text(block, read.body)))
    chunk = b"".join(wire.as_chunk(wire.text(block, read.body)))
    checks.wire(dotted)
    assert re.sub(rb"(?m)^\.", b"", dotted) == chunk + b"\r\n"
    assert len(chunk) == wire.size(block, read.body)


def _edited(read: Message, own: str) -> None:
    """The header block with what was missing, and with `own` for strangers in From:, where it is set.

    Nothing is smuggled in, and what was there stays in its order.
    """
    name = read.headers[0].value if read.headers else ""
    edits = headers.Edits(
        sender=own or "sender@example.org",
        own=own,
        full_name=name,
        domain="example.org",
        add_missing=True,
        date="Sat, 21 Nov 2026 10:00:00 +0000",
        message_id="<1@example.org>",
        may_pass=(lambda address: address.endswith("@example.net")) if own else None,
        host_local=frozenset({"localhost"}),
    )
    block, rewritten = headers.apply(read.headers, edits)
    again, written = _read(block + b"\n", False, len(read.headers), 0)
    assert again.headers == written
    names = [header.name for header in written]
    kept = [header.name for header in read.headers]
    assert names[: len(kept)] == kept
    assert set(names[len(kept) :]) <= {"from", "date", "message-id", "reply-to"} - set(kept)
    assert {"from", "date", "message-id"} <= set(names)
    assert own or not rewritten
    for before, after in zip(read.headers, written, strict=False):
        with_addresses = before.name in ("from", "sender", "reply-to", "to", "cc")
        assert before.octets == after.octets or with_addresses or not before.octets.isascii()
    if own:
        assert all(
            box.address == own or box.address.endswith("@example.net")
            for header in written
            if header.name == "from"
            for box in checks.mailboxes(header.value)
        )


# -- aliases, .forward files, included lists ------------------------------------------------------------------------

_PRIVATE = "canary@private.example"


def aliases(data: bytes) -> None:
    """An octet that says how; addresses, one a line; alias file; alice's .forward; the file every :include: names."""
    how, (asked, file, forward, included) = data[0] if data else 0, (*texts(data[1:]), "", "", "", "")[:4]
    names = [line for line in asked.split("\n") if line][:4]
    forward += f"\n{_PRIVATE}" * (not how & 2)
    listing = alias_files.parse("/etc/aliases", file)
    indexed = alias_files.AliasFile("/etc/aliases", file)
    scanned = alias_files.AliasFile("/etc/aliases", file + "\n" + "#" * alias_files.SHORT)
    for name in [*listing.entries][:8] + [name.lower() for name in names]:
        entry = indexed.entry(name)
        assert entry == scanned.entry(name)
        line, text = listing.entries.get(name, (0, None))
        assert entry == (None if text is None else Entry(text, f"/etc/aliases line {line}", 0))
    world = redirect.World(
        aliases=lambda name: indexed.entry(name.lower()),
        forward=lambda name: Entry(forward, "/home/alice/.forward", 1000, "alice") if name == "alice" else None,
        include=lambda path, within: Entry(included, path, within.owner, within.private),
        host_local=frozenset({"localhost", "host"}),
        local_domains=frozenset({"local.example"}),
        admin="Ops@Local.example" if how & 1 else "",
        qualify_domain="example.org",
        sees=lambda user: bool(how & 2),
    )
    try:
        given = recipients.of_arguments(tuple(names))
        expansion = redirect.expand(given, world)
    except Failure as failure:
        said = checks.told(failure)
        assert how & 2 or "canary" in asked + file + included or "canary" not in said, said
        return
    assert redirect.expand(given, world) == expansion
    keys = {addresses.key(recipient.address) for recipient in expansion.recipients}
    assert len(keys) == len(expansion.recipients) <= redirect.RECIPIENTS
    for recipient in expansion.recipients:
        checks.envelope(recipient.address)
        local, domain = addresses.split(recipient.address)
        assert local
        assert domain
        assert domain.lower() not in world.host_local
        checks.logged(recipient.story, *recipient.trail)
        assert "canary" not in recipient.story or "canary" in asked + file + included
    assert not any("canary" in trail for trail in expansion.discarded) or "canary" in asked + file + included


# -- replies --------------------------------------------------------------------------------------------------------


DRIPPED = 256  # octets that are fed one by one; more would take too long


def replies(data: bytes) -> None:
    """An octet that says how large the pieces are, then what a server sent."""
    piece, octets = data[0] if data else 0, data[1:]
    whole, rest = _replies(octets, len(octets))
    for size in {1 if len(octets) < DRIPPED else 997, piece % 64 + 1 if len(octets) < DRIPPED else piece + 100}:
        assert _replies(octets, size) == (whole, rest)
    expected = replies_in(octets)
    if rest != "too long":
        assert [reply.code for reply in whole] == [said.code for said in expected]
    for reply in whole:
        assert 200 <= reply.code <= 599
        assert len(reply.lines) <= LINES_LIMIT
        checks.logged(str(reply))
        lines = [f"{reply.code}-{line}" for line in reply.lines]
        lines[-1] = lines[-1].replace("-", " ", 1)
        again, _ = _replies("".join(line + "\r\n" for line in lines).encode(), 1000)
        assert again in ([reply], [])  # what was shown escaped is longer now
        offered = capabilities(reply)
        assert 0 <= offered.size_limit < 10**19
        assert all(name == name.upper() and name.split() == [name] for name in offered.keywords)
        assert not offered.without(tuple(offered.keywords)).keywords
        assert sasl.choose(offered.mechanisms, sasl.BY_PASSWORD) in ("", *offered.mechanisms)


def _replies(octets: bytes, piece: int) -> tuple[list[mail.Reply], str]:
    """All replies, and what became of the rest."""
    reader = Reader()
    found = []
    try:
        for at in range(0, len(octets), piece or 1):
            reader.feed(octets[at : at + piece])
            while (reply := reader.next()) is not None:
                found.append(reply)
    except Malformed as error:
        checks.logged(error.line)
        return found, "too long" if "longer" in str(error) else "malformed"
    return found, "" if reader.empty else "unfinished"


# -- the configuration ----------------------------------------------------------------------------------------------


def configuration(data: bytes) -> None:
    """A file, then environment variables as NAME=value; without variables the file is given by -C."""
    toml, *variables = data.split(b"\0")
    environ = {}
    for variable in variables:
        name, _, value = variable.decode("utf-8", "surrogateescape").partition("=")
        if not name.endswith("_FILE") or name.endswith("PASSWORD_FILE"):  # others would be read here and now
            environ[name] = value
    file = os.memfd_create("muawrap.toml")
    try:
        os.fchmod(file, 0o644 if len(toml) % 2 else 0o600)
        os.write(file, toml)
        if environ:
            environ = {"MUAWRAP_SMART_HOSTS": "smtp://relay.example", **environ}
        settings = config.load(None if environ else f"/proc/self/fd/{file}", environ)
    except Failure as failure:
        said = checks.told(failure)
        assert not any(secret in said for secret in _secrets(data, toml, environ)), said
        return
    finally:
        os.close(file)
    for held in _values(settings):
        assert not isinstance(held, str) or not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", held), held
    for sender in settings.profile.sender, settings.admin:
        if sender:
            checks.envelope(sender)
            assert addresses.parse_one(sender).address == sender
    for route in (None, *settings.routes):
        for account in (None, *settings.accounts):
            try:
                hosts = config.hosts_for(settings, route, account)
            except schema.Bad:
                assert route
                assert account
                continue
            for host in hosts:
                assert 0 < host.port < 65536
                assert host.scheme in schema.PORTS
                assert host.tls.policy in schema.POLICIES
                assert all(0 < seconds <= 86_400 for seconds in host.timeouts[:-1])
                assert bool(host.auth.user) == bool(host.auth.password)
                assert not any(secret in repr(host) for secret in _secrets(data, toml, environ))
                checks.logged(str(host))


def _secrets(data: bytes, toml: bytes, environ: dict[str, str]) -> Iterator[str]:
    """The passwords that stand in a configuration and nowhere else in the input, as far as words tell them."""
    tables: list[object] = [{"password": environ.get("MUAWRAP_AUTH_PASSWORD", "")}]
    with contextlib.suppress(Failure):
        tables.append(document.parse("muawrap.toml", toml).values)
    while tables:
        table = tables.pop()
        if isinstance(table, list):
            tables += table
        elif isinstance(table, dict):
            tables += table.values()
            password = table.get("password")
            text = password if isinstance(password, str) else ""
            if "canary" in text and data.count(text.encode("utf-8", "surrogateescape")) == 1:
                yield text


def _values(value: object) -> Iterator[object]:
    """All that a configuration is made of."""
    if isinstance(value, (tuple, frozenset)):
        for item in value:
            yield from _values(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _values(item)
    else:
        yield value


# -- the table ------------------------------------------------------------------------------------------------------

TARGETS = {
    "argv": Target(argv, 512),
    "message": Target(message, 4096),
    "aliases": Target(aliases, 4096),
    "replies": Target(replies, 1024),
    "configuration": Target(configuration, 4096),
    "sasl": Target(dialogues.sasl_exchange, 1024),
    "dialogue": Target(dialogues.dialogue, 2048),
    "scram": Target(accounts.scram_messages, 512),
    "certificate": Target(accounts.certificate, 2048),
    "names": Target(accounts.names, 512),
    "socks": Target(accounts.socks_replies, 512),
    "netrc": Target(accounts.netrc_text, 1024),
    "complaint": Target(accounts.complaint, 1024),
}
