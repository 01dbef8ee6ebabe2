"""What a check has found: lines for people, and objects with the same facts for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from muawrap import report
from muawrap.admin.endpoints import Endpoint
from muawrap.admin.machine import Folder
from muawrap.admin.screen import size, table
from muawrap.admin.trial import Finding
from muawrap.mail import SmartHost
from muawrap.submission import socks

COLUMNS = 80
_LABEL = 13
_NARROW = 12  # columns of "for" that are there however long a host's name is
_UNREAD = "this Python does not tell what the server has shown"

# -- lines ----------------------------------------------------------------------------------------------------------


def labelled(label: str, text: str, indent: int = 0) -> list[str]:
    """A label and what belongs to it, in lines of at most 80 columns as far as its words let them."""
    head = f"{'':{indent}}{label:<{_LABEL - indent}}  "
    room = COLUMNS - len(head)
    lines = textwrap.wrap(report.printable(text), room, break_long_words=False, break_on_hyphens=False)
    return [f"{head if number == 0 else ' ' * len(head)}{line}" for number, line in enumerate(lines or [""])]


def summary(findings: list[Finding]) -> list[str]:
    """A line for each endpoint."""
    rows = [("verdict", "smart host", "for")]
    rows += [(_word(finding), finding.endpoint.name, "; ".join(finding.endpoint.purposes)) for finding in findings]
    before = sum(max(len(report.printable(row[column])) + 2 for row in rows) for column in (0, 1))
    room = max(COLUMNS - before, _NARROW)
    return table([(*row[:2], row[2] if len(row[2]) <= room else f"{row[2][: room - 3]}...") for row in rows])


def _word(finding: Finding) -> str:
    return ("good, but" if finding.warning else "good") if finding.is_good else "FAILED"


def heading(endpoint: Endpoint) -> list[str]:
    """The name of an endpoint, which stands there while it is tried."""
    return ["", report.printable(endpoint.name)]


def block(finding: Finding) -> list[str]:
    """All about one endpoint, for below its name."""
    lines = []
    for label, text in _facts(finding):
        lines += labelled(label, text, indent=2)
    return lines


def folder(one: Folder) -> list[str]:
    """Where it is, and whether it can be used."""
    path = "" if one.path and one.state.startswith(one.path) else one.path
    return labelled(one.name, ": ".join(filter(None, (path, one.state))))


def _facts(finding: Finding) -> Iterator[tuple[str, str]]:
    """Labels and texts, in the order of a dialogue; what was not reached is not there."""
    endpoint, host = finding.endpoint, finding.endpoint.host
    yield "source", _source(endpoint)
    if endpoint.record:
        yield "DNS", endpoint.record
    yield "for", "; ".join(endpoint.purposes)
    yield from _way(finding, host)
    yield from _tls(finding, host)
    if finding.offers is not None:
        yield "AUTH", _auth(finding, host)
        yield "SIZE", _size(finding)
        yield "extensions", " ".join(_extensions(finding)) or "none"
    if host.ignore_extensions:
        yield "not used", f"{' '.join(host.ignore_extensions)} (ignore_extensions)"
    yield "verdict", _verdict(finding)
    if finding.failure is not None and finding.failure.advice:
        yield "advice", finding.failure.advice


def _source(endpoint: Endpoint) -> str:
    lists = " and ".join(endpoint.sources)
    return lists if endpoint.name == endpoint.host.url else f"{lists}: {endpoint.host.url}"


def _way(finding: Finding, host: SmartHost) -> Iterator[tuple[str, str]]:
    if host.proxy:
        yield "proxy", f"socks5 {socks.proxy(host.proxy)}"
    if finding.connect_seconds is not None:
        origin = f" from {host.source_address}" if host.source_address else ""
        yield "connected", f"{finding.address or 'and reset'}{origin}, {finding.connect_seconds:.3f} s"
    if finding.tried:
        yield "unreachable", ", ".join(finding.tried)


def _tls(finding: Finding, host: SmartHost) -> Iterator[tuple[str, str]]:
    facts = finding.facts
    if facts is None:
        if finding.is_good:
            yield "TLS", f"none: {_no_tls(finding, host)}"
        return
    if facts.version:
        yield "TLS", f"{facts.version}, {facts.cipher}, {finding.tls_seconds:.3f} s"
    words = [facts.subject or ("for no host" if facts.fingerprint else _UNREAD)]
    words += [f"issued by {facts.issuer}"] if facts.issuer else []
    if facts.days_left is not None:
        days = facts.days_left
        words.append(f"{days:,} day{'' if days == 1 else 's'} left" if days >= 0 else "expired")
    yield "certificate", ", ".join(words)
    if not facts.version:
        yield "verified", "no: the verdict says why"
    elif facts.how == "unverified":
        why = "tls.verify is false" if host.tls.is_unverified else finding.unverified or "tls.policy asks for no more"
        yield "verified", f"no: {why}"
    else:
        yield "verified", "by tls.fingerprint" if facts.how == "pinned" else f"by name, and {facts.how}".rstrip()
    told = f"{finding.unverified} {finding.failure or ''}"
    if not facts.how.startswith("chain") and facts.fingerprint not in told:
        yield "fingerprint", facts.fingerprint


def _no_tls(finding: Finding, host: SmartHost) -> str:
    if host.is_local:
        return "a socket of this machine"
    if host.tls.policy == "none":
        return 'tls.policy is "none"'
    if finding.unverified:
        return finding.unverified
    offered = finding.offers is not None and finding.offers.offers("STARTTLS")
    return "the server offers it, and then refuses" if offered else "the server does not offer it"


def _auth(finding: Finding, host: SmartHost) -> str:
    assert finding.offers is not None
    offered = f"offered: {' '.join(finding.offers.mechanisms) or 'nothing'}"
    if finding.mechanism:
        who = f"as {host.auth.user}" if host.auth.user else "by tls.client_cert"
        return f"{finding.mechanism} {who}; {offered}"
    return f"{'not done' if host.auth.is_wanted else 'not used'}; {offered}"


def _size(finding: Finding) -> str:
    assert finding.offers is not None
    if finding.offers.size_limit:
        return f"up to {size(finding.offers.size_limit)}"
    return "no limit" if finding.offers.offers("SIZE") else "not told"


def _extensions(finding: Finding) -> list[str]:
    """Those that have no line of their own."""
    return [name for name in finding.offers.keywords if name not in ("AUTH", "SIZE")] if finding.offers else []


def _verdict(finding: Finding) -> str:
    if finding.failure is not None:
        return f"FAILED: {finding.failure}"
    return f"good, but {finding.warning}" if finding.warning else "good"


# -- objects --------------------------------------------------------------------------------------------------------


def as_object(finding: Finding) -> dict[str, Any]:
    """An endpoint; seconds and octets are numbers, null is what was not reached, or is not told."""
    endpoint, host, failure = finding.endpoint, finding.endpoint.host, finding.failure
    offers = finding.offers
    return {
        "url": endpoint.name,
        "entry": host.url,
        "sources": endpoint.sources,
        "record": endpoint.record or None,
        "for": endpoint.purposes,
        "proxy": str(socks.proxy(host.proxy)) if host.proxy else None,
        "source_address": host.source_address or None,
        "address": finding.address or None,
        "unreachable": finding.tried,
        "connect_seconds": _rounded(finding.connect_seconds),
        "tls": _tls_object(finding),
        "unverified": finding.unverified or None,  # why TLS is, or why there is none, where there could be
        "user": host.auth.user or None,
        "mechanism": finding.mechanism or None,
        "mechanisms": offers.mechanisms if offers is not None else None,
        "size_limit": (offers.size_limit or None) if offers is not None else None,
        "extensions": list(offers.keywords) if offers is not None else None,
        "good": finding.is_good,
        "verdict": _verdict(finding),
        "warning": finding.warning or None,
        "error": str(failure) if failure is not None else None,
        "advice": (failure.advice or None) if failure is not None else None,
    }


def _tls_object(finding: Finding) -> dict[str, Any] | None:
    facts = finding.facts
    if facts is None:
        return None
    how, _, root = facts.how.partition(" to ")
    was_read = bool(facts.fingerprint)
    return {
        "version": facts.version or None,
        "cipher": facts.cipher or None,
        "seconds": _rounded(finding.tls_seconds),
        "subject": facts.subject if was_read else None,
        "issuer": facts.issuer if was_read else None,
        "days_left": facts.days_left,
        "verified": how,  # chain, pinned or unverified
        "root": root or None,
        "fingerprint": facts.fingerprint or None,
    }


def folder_object(one: Folder) -> dict[str, Any]:
    """A folder."""
    return {
        "name": one.name,
        "path": one.path or None,
        "usable": one.is_usable,
        "messages": one.messages,
        "state": one.state,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
