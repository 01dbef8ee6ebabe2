"""Whom the caller named: the addresses of the command line, and with -t those of the header."""

from __future__ import annotations

from muawrap import addresses
from muawrap.failure import Failure, together
from muawrap.mail import Header, Invocation


def named(invocation: Invocation, written: tuple[Header, ...], remove_arguments: bool) -> list[str]:
    """All of them: with -t those of the header beside the arguments, or without them (RULES E7). Raises Failure."""
    given = of_arguments(invocation.recipients)
    if not invocation.extract:
        return given
    found = of_header(written)
    found = without(found, given) if remove_arguments else given + found
    if not found:
        fields = "Resent-To:, Resent-Cc: and Resent-Bcc:" if _resent_block(written) else "To:, Cc: and Bcc:"
        beside = " beside the arguments, which extract_addresses_remove_arguments takes away" if given else ""
        raise Failure(f"no recipient: {fields} hold no address{beside}")
    return found


def of_arguments(words: tuple[str, ...]) -> list[str]:
    """The addresses of the command line; each word is an address list (cron's MAILTO=a,b).

    A backslash before a word stays before its first address, which is not redirected then (RULES D2). Raises Failure
    that names every word that cannot be read.
    """
    found = []
    failures = []
    for word in words:
        stop = "\\" if word.startswith("\\") else ""
        try:
            mailboxes = addresses.parse_list(word.removeprefix(stop))
        except addresses.AddressError as error:
            failures.append(Failure(f"cannot read the recipient {addresses.excerpt(word)}: {error}"))
            continue
        if not mailboxes:
            failures.append(Failure(f"the argument {addresses.excerpt(word)} holds no address"))
        for mailbox in mailboxes:
            found.append(stop + mailbox.address)
            stop = ""
    if failures:
        raise together(failures)
    return found


def without(found: list[str], removed: list[str]) -> list[str]:
    """The addresses that are not among those removed."""
    keys = {addresses.key(address.removeprefix("\\")) for address in removed}
    return [address for address in found if addresses.key(address) not in keys]


def of_header(headers: tuple[Header, ...]) -> list[str]:
    """The addresses of To, Cc and Bcc, all of them; with Resent- fields those of the top block (RULES E7).

    Raises Failure that names every field that is no address list.
    """
    names = ("to", "cc", "bcc")
    block = _resent_block(headers)
    if block:
        headers, names = block, ("resent-to", "resent-cc", "resent-bcc")
    found = []
    failures = []
    for header in headers:
        if header.name not in names:
            continue
        try:
            found += [mailbox.address for mailbox in addresses.parse_list(header.value)]
        except addresses.AddressError as error:
            failures.append(
                Failure(f"cannot read the {header.name.title()}: header {addresses.excerpt(header.value)}: {error}")
            )
    if failures:
        raise together(failures)
    return found


def _resent_block(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    """The Resent- fields of the latest resending (RFC 5322, 3.6.6).

    Blocks are not marked off from each other: one ends at a trace field, or where a name comes again that may be in
    a block only once. Callers who repeat Resent-To: write the lines one below the other, so that is one block still.
    """
    block: list[Header] = []
    seen: set[str] = set()
    above = ""
    for header in headers:
        if header.name.startswith("resent-"):
            if header.name in seen and header.name != above:
                break
            seen.add(header.name)
            block.append(header)
        elif header.name in ("received", "return-path") and block:
            break
        above = header.name
    return tuple(block)
