"""Questions to DNS, asked all at once and in bounded time: their records, or why there are none."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence
from enum import Enum
from types import ModuleType
from typing import Any, NamedTuple

from muawrap import extras
from muawrap.failure import TRY_AGAIN, Failure

CONFIGURATION = "/etc/resolv.conf"
LOCAL = "127.0.0.1"  # whom resolv.conf(5) has asked where no name server is named
SHORTEST_TRY = 1.0  # seconds a name server has at least for one answer, whatever resolv.conf says


class Trouble(Enum):
    """Why a question has no usable answer. Of several questions the first trouble in this order is told."""

    TIMEOUT = 1  # this one and the next three may pass
    SERVER = 2
    UNREACHABLE = 3
    UNREADABLE = 4
    ALIASES = 5  # CNAME records that go round in circles, or too far
    NOT_OFFERED = 6  # a target of "." (RFC 2782, RFC 7505)
    NO_HOST = 7  # no target that could be connected
    NO_RECORD = 8
    NO_NAME = 9

    @property
    def passes(self) -> bool:
        return self.value <= Trouble.UNREADABLE.value


class Question(NamedTuple):
    """One name and the type of the records that are wanted of it: SRV or MX."""

    name: str
    kind: str


class Answer(NamedTuple):
    """What DNS has to say: a dns.rrset.RRset, or a trouble with a word on it."""

    question: Question
    records: Any = None
    trouble: Trouble | None = None
    detail: str = ""


def ask(questions: Sequence[Question], seconds: float) -> list[Answer]:
    """The answers, in the order of the questions, all within `seconds`.

    UDP is tried again and again, one name server after the other, and TCP for what is too large. Raises Failure where
    dnspython or the configuration of the resolver cannot be used.
    """
    deadline = time.monotonic() + seconds
    dns = extras.load("dns.resolver", "looking for smart hosts in DNS", package="dnspython")
    asked = resolver(dns)
    answers = [Answer(question, trouble=Trouble.TIMEOUT) for question in questions]

    def fill_in(number: int) -> None:
        answers[number] = _answer(dns, asked, questions[number], max(0.0, deadline - time.monotonic()))

    # By threads: at once, and because dnspython trusts a clock that may be set meanwhile.
    threads = [threading.Thread(target=fill_in, args=(number,), daemon=True) for number in range(len(questions))]
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had: then it is waited for here
            thread.run()
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
    return list(answers)


def resolver(dns: ModuleType) -> Any:
    """A dns.resolver.Resolver for the name servers of /etc/resolv.conf. Raises Failure."""
    try:
        made = dns.Resolver(configure=False)
        try:
            made.read_resolv_conf(io.StringIO(_understood(dns)))
        except dns.NoResolverConfiguration:
            made.nameservers = [LOCAL]
        made.timeout = max(made.timeout, SHORTEST_TRY)
        return made
    except Exception as error:  # whatever somebody has written there
        advice = "look at /etc/resolv.conf, and at the hostname"
        raise Failure(f"the resolver cannot be used: {error}", lead=TRY_AGAIN, advice=advice) from error


def _understood(dns: ModuleType) -> str:
    """The lines of resolv.conf(5) that count here. As with the C library, no line spoils another one."""
    try:
        with open(CONFIGURATION, encoding="ascii", errors="replace") as file:
            return "".join(line for line in file if _counts(dns, *line.split()[:2]))
    except OSError:
        return ""


def _counts(dns: ModuleType, key: str = "", value: str = "") -> bool:
    return key == "options" or (key == "nameserver" and dns.dns.inet.is_address(value))


def _answer(dns: ModuleType, asked: Any, question: Question, seconds: float) -> Answer:
    """The answer to one question; dnspython follows aliases (CNAME). Raises nothing."""
    try:
        name = dns.dns.name.from_text(question.name)  # absolute: no search list is gone through
        found = asked.resolve(name, question.kind, lifetime=seconds)
        return Answer(question, found.rrset)
    except (dns.NXDOMAIN, dns.dns.name.LabelTooLong, dns.dns.name.NameTooLong):
        return Answer(question, trouble=Trouble.NO_NAME)
    except dns.NoAnswer:
        return Answer(question, trouble=Trouble.NO_RECORD)
    except dns.YXDOMAIN:
        return Answer(question, trouble=Trouble.ALIASES)
    except dns.LifetimeTimeout:
        return Answer(question, trouble=Trouble.TIMEOUT)
    except dns.NoNameservers as error:
        return Answer(question, None, *_why(dns, error))
    except Exception as error:
        return Answer(question, trouble=Trouble.UNREADABLE, detail=str(error))


def _why(dns: ModuleType, error: Any) -> tuple[Trouble, str]:
    """What was the matter with the last name server that was asked."""
    told = error.kwargs["errors"][-1][3] if error.kwargs.get("errors") else "no answer"
    if isinstance(told, dns.dns.message.ChainTooLong):
        return Trouble.ALIASES, ""
    if isinstance(told, OSError):
        return Trouble.UNREACHABLE, (told.strerror or str(told)).lower()
    if isinstance(told, str):
        return Trouble.SERVER, told
    return Trouble.UNREADABLE, type(told).__name__
