"""What must come of a message offered to smart hosts in turn: RULES A1, A3, A5, B6 and C1 to C7 in one function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN
from tests.hostile.matrix.behaviours import Behaviour, Reach


class Prediction(NamedTuple):
    """What caller, log and hosts must see."""

    status: int
    lead: str  # of the line on standard error; "" where there is none
    told: tuple[int, ...]  # the hosts whose trouble the line tells, in this order
    contacts: tuple[int, ...]  # to each host
    copies: tuple[int, ...]  # that each host keeps
    degraded: bool  # whether the log says why a host before the one that decided did not take it


def predict(hosts: Sequence[Behaviour], *, tempfail: str = "final", one_flight: bool = False) -> Prediction:
    """`one_flight`: one recipient, a short text, CHUNKING: the last host gets all at once, where it offers that."""
    for number, host in enumerate(hosts):
        last = number == len(hosts) - 1
        reach = host.reach
        if reach is Reach.LINK and last and one_flight and not host.by_data:
            reach = Reach.OPEN  # the end of the message left together with MAIL
        if reach in (Reach.HOST, Reach.LINK):
            continue
        if reach is Reach.MESSAGE and host.passing and tempfail == "next-host":
            continue
        verdict = TRY_AGAIN if host.passing else REFUSED
        lead = {Reach.TAKEN: "", Reach.OPEN: UNCERTAIN}.get(reach, verdict)
        return Prediction(
            status=1 if lead else 0,
            lead=lead,
            told=(number,) if lead else (),
            contacts=tuple(int(index <= number) for index in range(len(hosts))),
            copies=tuple(host.kept if index == number else 0 for index in range(len(hosts))),
            degraded=number > 0 or host.stumbles,
        )
    return Prediction(
        status=1,
        lead=TRY_AGAIN if any(host.passing for host in hosts) else REFUSED,
        told=tuple(range(len(hosts))),
        contacts=(1,) * len(hosts),
        copies=(0,) * len(hosts),
        degraded=False,
    )
