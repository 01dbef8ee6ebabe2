"""One connected socket for a smart host: begun without waiting, its addresses racing (RULES C5, RFC 8305)."""

from __future__ import annotations

import _thread
import errno
import os
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import smarthosts
from muawrap.submission.smarthosts import Address

if TYPE_CHECKING:  # loaded for hosts behind a proxy only
    from muawrap.submission.socks import Proxy

STAGGER = 0.25
"""Seconds an address has to itself before the next one is tried beside it (RFC 8305, 5); less where time is short."""

_NO_ADDRESS = "the name has no address"
_OF_A_FAMILY = "family and source_address decide which addresses are tried"
_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


class Dial:
    """A connection under way. An address literal is dialled at once; a name is first resolved, by a thread.

    So the caller may go on with something else, and a resolver that hangs holds nobody up for longer than the rest
    of a connection may take.

    Where the host is behind a proxy, it is the proxy that is resolved and dialled, from `source_address` and by
    `family`; the name of the host goes to the proxy as it is. A unix socket is there at once or not at all, and is
    connected when it is asked for.
    """

    def __init__(self, host: SmartHost, end: float = float("inf")) -> None:
        begun = time.monotonic()
        self.deadline = min(begun + host.timeouts.connect, end)
        if end < begun + host.timeouts.connect:  # then sentences tell what timeouts.total leaves
            left = max(0.01, round(end - begun, 2))
            host = host._replace(timeouts=host.timeouts._replace(connect=left))
        self.host = host
        self.proxy: Proxy | None = None
        self._target = host
        self._begun = 0.0  # when the latest attempt began
        self._stagger = STAGGER
        self._waiting: deque[Address] = deque()
        self._attempts: dict[int, tuple[socket.socket, Address]] = {}  # by descriptor
        self._reasons: list[tuple[Address, str]] = []
        self._problem = 0  # the errno of the latest of them
        self._advice = "is the network up, and is this the right port?"  # where they are all the same
        self._failure: Failure | None = None
        self._resolving = _thread.allocate_lock()
        if host.is_local:
            return
        if host.proxy:
            from muawrap.submission import socks

            self.proxy = socks.proxy(host.proxy)
            self._advice = "proxy names it"
            self._target = host._replace(host=self.proxy.host, port=self.proxy.port)
        self._resolving.acquire()
        if smarthosts.is_literal(self._target):
            self._resolve()
        else:
            try:
                _thread.start_new_thread(self._resolve, ())
            except RuntimeError:  # no thread is to be had: then it is waited for here
                self._resolve()

    def _resolve(self) -> None:
        """Look the addresses up and dial the first."""
        try:
            self._waiting.extend(self._of_the_family(smarthosts.addresses(self._target)))
            self._stagger = min(STAGGER, self.host.timeouts.connect / (2 * len(self._waiting) or 1))
            self._next()
        except Failure as failure:
            if self.proxy is not None:
                advice = failure.advice if failure.advice == _OF_A_FAMILY else ""  # others are about a smart host
                failure = self._failed(failure.what, failure.lead, advice)
            self._failure = failure
        finally:
            self._resolving.release()

    def _of_the_family(self, found: list[Address]) -> list[Address]:
        """Those that `family` and `source_address` allow, the families taking turns. Raises Failure."""
        source = self.host.source_address
        family = _FAMILIES.get(self.host.family or (source and ("ipv6" if ":" in source else "ipv4")))
        left = interleaved([address for address in found if family in (None, address.family)])
        if found and not left and family is not None:
            literal = smarthosts.is_literal(self._target)  # DNS may know more another time
            raise Failure(
                f"it has no {_NAMES[family]} address",
                lead=REFUSED if literal else TRY_AGAIN,
                stage=Stage.CONNECT,
                host=str(self.host),
                advice=_OF_A_FAMILY,
            )
        return left

    def _next(self) -> None:
        """Begin with the next address; with the one after it where that one fails on the spot."""
        while self._waiting:
            address = self._waiting.popleft()
            self._begun = time.monotonic()
            try:
                made = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError as error:  # a family this machine does not have
                self._failed_at(address, error.errno or 0)
                continue
            problem = self._bind(made)
            if problem:
                made.close()
                self._failed_at(address, problem, f"cannot connect from {self.host.source_address}: ")
                self._advice = "source_address must be an address of this machine"
                continue
            try:
                problem = made.connect_ex(address.sockaddr)
            except (OSError, OverflowError) as error:
                problem = getattr(error, "errno", None) or errno.EINVAL
            if problem in (0, errno.EINPROGRESS):
                self._attempts[made.fileno()] = made, address
                return
            made.close()
            self._failed_at(address, problem)

    def _bind(self, made: socket.socket) -> int:
        """Have a connection come from `source_address`; the errno where that cannot be, 0 where it can."""
        if self.host.source_address:
            try:
                made.bind((self.host.source_address, 0))
            except OSError as error:
                return error.errno or errno.EINVAL
        return 0

    def connected(self) -> socket.socket:
        """The first socket that is connected, all others being closed; by way of the proxy if any. Raises Failure."""
        if self.host.is_local:
            from muawrap.submission import unix

            return unix.connected(self.host, self.deadline)
        made = self._first()
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.proxy is not None:
            from muawrap.submission import socks

            try:
                socks.connect(made, self.proxy, self.host, self.deadline)
            except BaseException:
                made.close()
                raise
        return made

    def _first(self) -> socket.socket:
        """The winner of the race. Raises Failure."""
        if not self._resolving.acquire(timeout=max(0.0, self.deadline - time.monotonic())):
            looking = socket.gaierror(socket.EAI_AGAIN, "still being looked up")
            raise self._failed("the name is still being looked up") from looking
        if self._failure is not None:
            raise self._failure
        try:
            while self._attempts or self._waiting:
                now = time.monotonic()
                if now >= self.deadline:
                    seconds = f"{self.host.timeouts.connect:g} s"
                    self._reasons += [
                        (address, f"no answer within {seconds}") for _, address in self._attempts.values()
                    ]
                    self._problem = errno.ETIMEDOUT
                    break
                if not self._attempts or (self._waiting and now >= self._begun + self._stagger):
                    self._next()
                    continue
                winner = self._winner(
                    min(self.deadline, self._begun + self._stagger if self._waiting else self.deadline) - now
                )
                if winner is not None:
                    return winner
            raise self._failed() from OSError(self._problem, os.strerror(self._problem))
        finally:
            self.close()

    def _winner(self, seconds: float) -> socket.socket | None:
        """Wait for one of the attempts; one that has failed makes room for the next address at once."""
        poll = select.poll()
        for descriptor in self._attempts:
            poll.register(descriptor, select.POLLOUT)
        for descriptor, _ in poll.poll(max(1, int(seconds * 1000) + 1)):
            made, address = self._attempts.pop(descriptor)
            problem = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not problem:
                return made
            made.close()
            self._failed_at(address, problem)
            self._next()
        return None

    def _failed_at(self, address: Address, problem: int, what: str = "") -> None:
        self._reasons.append((address, what + os.strerror(problem).lower()))
        self._problem = problem

    @property
    def tried(self) -> tuple[str, ...]:
        """The addresses that could not be connected, in order."""
        return tuple(str(address) for address, _ in self._reasons)

    def close(self) -> None:
        """Give up what is still under way."""
        for made, _ in self._attempts.values():
            made.close()
        self._attempts.clear()

    def _failed(self, what: str = "", lead: str = TRY_AGAIN, advice: str = "") -> Failure:
        """The reason, or that of each address where they differ."""
        if not what and len({reason for _, reason in self._reasons}) == 1:
            what, advice = self._reasons[0][1], self._advice
        what = what or ", ".join(f"{address}: {reason}" for address, reason in self._reasons)
        if self.proxy is not None:
            why = f"the proxy {self.proxy} cannot be reached: {what or _NO_ADDRESS}"
            return Failure(why, lead=lead, stage=Stage.CONNECT, host=str(self.host), advice=advice or "proxy names it")
        return Failure(what or _NO_ADDRESS, lead=lead, stage=Stage.CONNECT, host=str(self.host), advice=advice)


def interleaved(addresses: list[Address]) -> list[Address]:
    """The addresses in order, the families taking turns (RFC 8305, 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    lines = list(families.values())
    longest = max(map(len, lines), default=0)
    return [line[turn] for turn in range(longest) for line in lines if turn < len(line)]
