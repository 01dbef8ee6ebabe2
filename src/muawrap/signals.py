"""What a signal does: it ends us before the end of the message has left; later it waits for the verdict."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from types import FrameType

from muawrap.failure import TRY_AGAIN, Failure

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 10
"""Seconds the verdict is waited for after the first signal: the message may be on its way into somebody's mailbox."""


def _interrupted() -> Failure:
    return Failure("interrupted by a signal", lead=TRY_AGAIN)


class _Moment:
    """Where the program stands, as far as a signal is concerned."""

    def __init__(self) -> None:
        self.act: Callable[[], None] | None = None
        self.end: Callable[[Failure], None] | None = None
        self.came = False  # one has come; where it did not end us, it ends us before the next message
        self.ends: tuple[int, ...] = ()  # of a pipe into which each signal writes as it comes
        self.unknown = _interrupted  # what is reported where the verdict does not come


_now = _Moment()


def watch(end: Callable[[Failure], None]) -> None:
    """From now on a signal is a failure that `end` reports before it ends the program; ignored ones stay ignored.

    One that has waited for a verdict ends it now: this is another message.
    """
    _now.end = end
    _now.act = lambda: _end(_interrupted())
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _received)
    if _now.came:
        _now.act()


def watched() -> bool:
    """Whether a signal is to end us in good order."""
    return _now.end is not None


def poll(waiting: select.poll, milliseconds: int | None) -> list[tuple[int, int]]:
    """Wait as select.poll does, but not past a signal: one that comes just before the wait is heard, too.

    Raises OSError.
    """
    if not _now.ends and watched():
        with contextlib.suppress(OSError, ValueError):  # without descriptors, or in another thread: as it was
            _now.ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            signal.set_wakeup_fd(_now.ends[1], warn_on_full_buffer=False)
    if not _now.ends:
        return waiting.poll(milliseconds)
    ear = _now.ends[0]
    waiting.register(ear, select.POLLIN)
    found = waiting.poll(milliseconds)
    if any(descriptor == ear for descriptor, _ in found):
        with contextlib.suppress(OSError):
            os.read(ear, 64)
    return [one for one in found if one[0] != ear]


def then(act: Callable[[], None]) -> None:
    """From now on a signal does this."""
    if _now.end is not None:
        _now.act = act


def stop_on(failure: Failure) -> None:
    """From now on a signal reports this failure, which is what became of the message already."""
    then(lambda: _end(failure))
    if _now.came:
        _end(failure)


def committed(failure: Failure) -> None:
    """The end of the message is about to leave: the first signal waits for the verdict, a second one does not.

    `failure` is what is reported where the verdict does not come.
    """
    in_part(lambda: failure)

    def wait() -> None:
        then(lambda: _end(_now.unknown()))
        signal.signal(signal.SIGALRM, _received)
        signal.alarm(PATIENCE)

    then(wait)


def in_part(tell: Callable[[], Failure]) -> None:
    """The verdict comes piece by piece: `tell` says what is known of it, where the rest does not come."""
    _now.unknown = tell


def _end(failure: Failure) -> None:
    """Report it once, however many signals there are."""
    then(lambda: None)
    if _now.end is not None:
        _now.end(failure)


def decided() -> None:
    """The verdict is there, and no signal changes it (RULES A5)."""
    if _now.end is not None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    then(lambda: None)


def interrupting() -> None:
    """From now on a signal raises InterruptedError, once: what is waited for is worth no patience."""
    then(_interrupt)
    if _now.came:
        _interrupt()


def _interrupt() -> None:
    then(lambda: None)
    raise InterruptedError


def _received(number: int, frame: FrameType | None) -> None:
    _now.came = True
    if _now.act is not None:
        _now.act()
