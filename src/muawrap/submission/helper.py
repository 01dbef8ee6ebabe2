"""Another program, run for what it prints: bounded in time and octets, and killed where it is not done by then."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence

SECONDS = 30  # long enough to type a passphrase
KILLED_SECONDS = 1  # for a killed program to be gone
_LOOK_SECONDS = 0.1  # between two looks whether it has ended, which its output does not tell where a child holds it


def bounded(seconds: float) -> float:
    """The seconds a program has, of those that the caller can wait."""
    return max(0.0, min(seconds, SECONDS))


def run(words: Sequence[str], limit: int, told: bytes = b"", seconds: float = float("inf")) -> tuple[int, bytes]:
    """Exit status (negative: a signal) and output of a program, which has no shell, no terminal and none of our files.

    told     what it reads on standard input; less than a pipe holds
    limit    octets of output
    seconds  that the caller can wait
    Raises OSError where it cannot be run, TimeoutError after bounded(seconds), OverflowError beyond the limit.
    """
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE if told else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + bounded(seconds)
    try:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(told)
        output = _output(process, limit, deadline)
        try:
            return process.wait(max(0.1, deadline - time.monotonic())), output
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
    except BaseException:
        # The whole group, and before wait() frees its number. What sudo made root's is not ours to kill or wait for.
        if process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILLED_SECONDS)
        raise


def _output(process: subprocess.Popen[bytes], limit: int, deadline: float) -> bytes:
    """What it prints until it ends, or closes its output: a child that it leaves, such as gpg-agent, may hold that."""
    assert process.stdout is not None
    output = b""
    with process.stdout as pipe:
        while (left := deadline - time.monotonic()) > 0:
            has_ended = process.poll() is not None  # asked first: then all it has printed is there
            if select.select([pipe], [], [], 0 if has_ended else min(left, _LOOK_SECONDS))[0]:
                part = os.read(pipe.fileno(), limit)
                if not part:
                    return output
                output += part
                if len(output) > limit:
                    raise OverflowError
            elif has_ended:
                return output
    raise TimeoutError
