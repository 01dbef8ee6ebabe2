"""One connected socket for a smart host: begun without waiting, its addresses racing (RULES C5, RFC 8305)."""

from __future__ import annotations

import _thread
import errno
import os
import select
import socket
import time
from collections import deque

from muawrap.failure import TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import smarthosts
from muawrap.submission.smarthosts import Address

STAGGER = 0.25
"""Seconds an address has to itself before the next one is tried beside it (RFC 8305, 5); less where time is short."""


class Dial:
    """A connection under way. An address literal is dialled at once; a name is first resolved, by a thread.

    So the caller may go on with something else, and a resolver that hangs holds nobody up for longer than the rest
    of a connection may take.
    """

    def __init__(self, host: SmartHost, end: float = float("inf")) -> None:
        self.host = host
        self.deadline = min(time.monotonic() + host.timeouts.connect, end)
        self._begun = 0.0  # when the latest attempt began
        self._stagger = STAGGER
        self._waiting: deque[Address] = deque()
        self._attempts: dict[int, tuple[socket.socket, Address]] = {}  # by descriptor
        self._reasons: list[tuple[Address, str]] = []
        self._problem = 0  # the errno of the latest of them
        self._failure: Failure | None = None
        self._resolving = _thread.allocate_lock()
        self._resolving.acquire()
        if smarthosts.is_literal(host):
            self._resolve()
        else:
            try:
                _thread.start_new_thread(self._resolve, ())
            except RuntimeError:  # no thread is to be had: then it is waited for here
                self._resolve()

    def _resolve(self) -> None:
        """Look the addresses up and dial the first."""
        try:
            self._waiting.extend(interleaved(smarthosts.addresses(self.host)))
            self._stagger = min(STAGGER, self.host.timeouts.connect / (2 * len(self._waiting) or 1))
            self._next()
        except Failure as failure:
            self._failure = failure
        finally:
            self._resolving.release()

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
            try:
                problem = made.connect_ex(address.sockaddr)
            except (OSError, OverflowError) as error:
                problem = getattr(error, "errno", None) or errno.EINVAL
            if problem in (0, errno.EINPROGRESS):
                self._attempts[made.fileno()] = made, address
                return
            made.close()
            self._failed_at(address, problem)

    def connected(self) -> socket.socket:
        """The first socket that is connected; all others are closed. Raises Failure."""
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
                    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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

    def _failed_at(self, address: Address, problem: int) -> None:
        self._reasons.append((address, _reason(problem)))
        self._problem = problem

    def close(self) -> None:
        """Give up what is still under way."""
        for made, _ in self._attempts.values():
            made.close()
        self._attempts.clear()

    def _failed(self, what: str = "") -> Failure:
        """The reason, or that of each address where they differ."""
        advice = ""
        if not what and len({reason for _, reason in self._reasons}) == 1:
            what, advice = self._reasons[0][1], "is the network up, and is this the right port?"
        what = what or ", ".join(f"{address}: {reason}" for address, reason in self._reasons)
        return Failure(
            what or "the name has no address", lead=TRY_AGAIN, stage=Stage.CONNECT, host=str(self.host), advice=advice
        )


def interleaved(addresses: list[Address]) -> list[Address]:
    """The addresses in order, the families taking turns (RFC 8305, 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    lines = list(families.values())
    longest = max(map(len, lines), default=0)
    return [line[turn] for turn in range(longest) for line in lines if turn < len(line)]


def _reason(problem: int) -> str:
    return os.strerror(problem).lower()
