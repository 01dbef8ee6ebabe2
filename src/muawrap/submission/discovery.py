"""The endpoints that DNS has for a srv:// or mx:// entry of smart_hosts, in the order in which they are tried.

srv://domain (RFC 6186, RFC 8314): the SRV records of _submissions._tcp.domain, TLS at once, then those of
_submission._tcp.domain, STARTTLS, but TLS at once at port 465, where nothing else is ever spoken (RFC 8314, 3.3); each
in the order of RFC 2782: priority, and by weight within.
mx://domain (RFC 5321, 5.1): its MX records by preference, equal ones shuffled; without any, the domain itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from muawrap import schema
from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import lookup, smarthosts
from muawrap.submission.lookup import Answer, Question, Trouble

SERVICES = {"_submissions._tcp": "submissions", "_submission._tcp": "submission"}
"""The services of srv://, the better one first (RFC 8314, 5.1), each with the scheme of its endpoints."""

LIMIT = 32
"""Endpoints of one answer that are tried; an answer may hold thousands, and each may take timeouts.connect."""

MX_PORT = schema.PORTS["smtp"]
TLS_PORT = schema.PORTS["submissions"]


class Endpoint(NamedTuple):
    """One host to try, and the record that names it, such as "example.org MX 10 mail.example.org."."""

    host: SmartHost
    record: str


class Found(NamedTuple):
    """What there is for an entry: at least one endpoint; and why a part of the question has no answer now."""

    endpoints: tuple[Endpoint, ...]
    failures: tuple[Failure, ...] = ()


def endpoints(entry: SmartHost) -> list[SmartHost]:
    """The endpoints of an entry, in the order of one draw; itself where DNS has no say in it. Raises Failure."""
    if not smarthosts.is_discovered(entry):
        return [entry]
    return [endpoint.host for endpoint in find(entry).endpoints]


def find(entry: SmartHost) -> Found:
    """Ask DNS for an entry, within `timeouts.connect`. Raises Failure where there is no endpoint."""
    try:
        return chosen(entry, lookup.ask(questions(entry), _seconds(entry)))
    except Failure as failure:
        if failure.stage is None:
            failure.stage, failure.host = Stage.CONNECT, entry.host  # another host may be reached without DNS
        raise


def _seconds(entry: SmartHost) -> float:
    limits = entry.timeouts
    return min(limits.connect, limits.total or limits.connect)


def questions(entry: SmartHost) -> list[Question]:
    """What is asked for an entry, best first."""
    if entry.scheme == "mx":
        return [Question(entry.host, "MX")]
    return [Question(f"{service}.{entry.host}", "SRV") for service in SERVICES]


def chosen(entry: SmartHost, answers: Sequence[Answer]) -> Found:
    """One draw of endpoints from the answers to an entry's questions. Raises Failure where there is none."""
    found: list[Endpoint] = []
    troubled: list[Answer] = []
    for answer, scheme in zip(answers, ("smtp",) if entry.scheme == "mx" else SERVICES.values(), strict=True):
        if answer.trouble is Trouble.NO_RECORD and entry.scheme == "mx":
            implicit = _at(entry, scheme, entry.host.lower(), MX_PORT)  # RFC 5321, 5.1
            found.append(Endpoint(implicit, f"{entry.host} has no MX record and is asked itself"))
        elif answer.trouble is not None:
            troubled.append(answer)
        else:
            usable = list(islice(_usable(entry, scheme, answer), LIMIT))
            found += usable
            troubled += [] if usable else [_unusable(answer)]
    if not found:
        raise _failure(entry, troubled)
    passing = [answer for answer in troubled if answer.trouble is not None and answer.trouble.passes]
    return Found(tuple(found), tuple(_failure(entry, [answer]) for answer in passing))


def _usable(entry: SmartHost, scheme: str, answer: Answer) -> Iterator[Endpoint]:
    """The endpoints of one answer, in an order its type allows (RFC 2782, RFC 5321)."""
    for record in answer.records.processing_order():
        name, port = _target(record)
        if name and port:
            at_once = scheme == "submission" and port == TLS_PORT
            text = f"{answer.question.name} {answer.question.kind} {record.to_text()}"
            yield Endpoint(_at(entry, "submissions" if at_once else scheme, name, port), text)


def _target(record: Any) -> tuple[str, int]:
    """Host and port of an SRV or MX record; "" where no such host can be: "." itself, an address, or no name at all."""
    name = getattr(record, "target", None) or record.exchange
    text = name.to_text(omit_final_dot=True).lower()
    is_host = schema.HOST_NAME.fullmatch(text) and not text.replace(".", "").isdigit()
    return text if is_host else "", getattr(record, "port", MX_PORT)


def _unusable(answer: Answer) -> Answer:
    """Why no record of an answer can be used: the domain says no by ".", or has written nonsense."""
    texts = [record.to_text() for record in answer.records]
    if all(text.split()[-1] == "." for text in texts):
        return answer._replace(trouble=Trouble.NOT_OFFERED)
    return answer._replace(trouble=Trouble.NO_HOST, detail=texts[0])


def _at(entry: SmartHost, scheme: str, name: str, port: int) -> SmartHost:
    """The entry's settings at one host. Whom an SRV record names is believed as far as the domain answers for it.

    The certificate must be good for the domain the user wrote, or for a host under that domain: DNS alone must not
    choose who gets the password (RFC 6186, 6), nor which of a netrc. Of those names the first is asked for in the
    handshake; tls.server_name stands above them.
    """
    names: tuple[str, ...] = ()
    if entry.scheme == "srv":
        domain = entry.host.lower()
        is_under = f".{name}".endswith(f".{domain}")
        names = tuple(dict.fromkeys((name, domain))) if is_under else (domain,)
    return entry._replace(scheme=scheme, host=name, port=port, names=names)


# -- why there is none ----------------------------------------------------------------------------------------------


def _failure(entry: SmartHost, answers: Sequence[Answer]) -> Failure:
    """The worst trouble of these answers, with all the names that have it."""
    worst = min(answers, key=lambda answer: (answer.trouble or Trouble.NO_NAME).value)
    asked = " or ".join(answer.question.name for answer in answers if answer.trouble is worst.trouble)
    kind, detail = worst.question.kind, worst.detail
    match worst.trouble:
        case Trouble.TIMEOUT:
            return _failed(
                f"no name server answered for {asked} within {_seconds(entry):g} s",
                entry,
                TRY_AGAIN,
                advice="is the network up?",
            )
        case Trouble.SERVER:
            return _failed(f"the name server answered {detail} for {asked}", entry, TRY_AGAIN)
        case Trouble.UNREACHABLE:
            return _failed(
                f"no name server can be asked for {asked} ({detail})", entry, TRY_AGAIN, advice="is the network up?"
            )
        case Trouble.UNREADABLE:
            return _failed(f"what the name server answered for {asked} cannot be read ({detail})", entry, TRY_AGAIN)
        case Trouble.ALIASES:
            return _failed(f"the aliases in DNS of {asked} go round in circles, or too far,", entry, REFUSED)
        case Trouble.NOT_OFFERED if kind == "MX":
            return _failed("the domain takes no mail, says its MX record,", entry, REFUSED)
        case Trouble.NOT_OFFERED:
            return _failed(f"the domain offers no submission, says the SRV record of {asked},", entry, REFUSED)
        case Trouble.NO_HOST:
            return _failed(f"the {kind} record of {asked} names no host: {detail}", entry, REFUSED)
        case Trouble.NO_RECORD:
            return _failed(
                f"DNS has no {kind} record for {asked}",
                entry,
                REFUSED,
                advice="name the server itself, see muawrap.toml(5)",
            )
        case _:
            return _failed(
                f"DNS does not know {asked}", entry, REFUSED, advice="name the server itself, see muawrap.toml(5)"
            )


def _failed(what: str, entry: SmartHost, lead: str, advice: str = "") -> Failure:
    return Failure(what, lead=lead, stage=Stage.CONNECT, host=entry.host, advice=advice)
