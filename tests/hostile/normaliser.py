"""Every short text over CR, LF, dot, NUL and "a", through reading and wire: what leaves can be read in one way only.

    python -m tests.hostile.normaliser [LONGEST]      all of them up to that length, 9 unless told: 2 441 406 texts

A text is read at every buffer size, with and without -i, and what was read is held against a reference that follows the
rules and not the program. What goes on the wire depends on what was read alone; so everything that can come out of the
reading is taken there once, again at every buffer size, by DATA and by BDAT.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from itertools import chain, product
from typing import NamedTuple

from muawrap.reading import message as reading
from muawrap.submission import wire

ALPHABET = (b"\r", b"\n", b".", b"\0", b"a")
BUFFERS = (1, 2, 3, 4, 5, 256 * 1024)
"""Octets that come at once; the last one takes a text whole."""
PLACES = {"body": b"X: y\n\n", "field": b"X:", "start": b""}
"""Where a text stands, by what stands before it: in the body, in a header field, where the message begins."""
SHORTER = 2  # in a field and at the beginning lengths end that much earlier, for less can happen there
NAMED = 10  # violations that a process tells


class Proof(NamedTuple):
    """What was run, and the cases that broke a rule."""

    texts: int
    runs: int
    violations: list[str]


# -- the reference ---------------------------------------------------------------------------------------------------


def read_as(place: str, text: bytes, dot_ends: bool) -> tuple[bytes, bytes]:
    """The header block and the body that a text means at that place (RULES F1, F2, F5)."""
    message = PLACES[place] + text
    if dot_ends:
        message = before_dot(message)
    if place == "body":
        return b"X: y\n", with_lf(message.removeprefix(PLACES[place]))
    # As long as the header lasts, a CR alone ends no line: in a field it is a fold.
    header = b""
    lines = message.replace(b"\r\n", b"\n").split(b"\n")
    if place == "field":
        first, *folded = lines.pop(0).replace(b"\0", b"").split(b"\r")
        header = b"\n ".join([first, *filter(None, folded)]) + b"\n"
    while lines and lines[0] and not lines[0].strip(b"\0"):  # a line of NUL only is no empty line
        lines.pop(0)
    if lines[:1] == [b""]:
        lines.pop(0)
    return header, with_lf(b"\n".join(lines).replace(b"\r", b"\n"))


def with_lf(text: bytes) -> bytes:
    """LF, CRLF and CR are each one line end, and the last one is never missing."""
    return b"".join(line + b"\n" for line in text.splitlines())


def before_dot(text: bytes) -> bytes:
    """What stands before a line that is one dot, begun and ended by LF or CRLF."""
    at, previous = 0, b"\n"
    for line in text.splitlines(keepends=True):
        if line in (b".\n", b".\r\n") and previous.endswith(b"\n"):
            break
        at, previous = at + len(line), line
    return text[:at]


# -- the program -----------------------------------------------------------------------------------------------------


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def read(blocks: Iterable[bytes], dot_ends: bool) -> tuple[bytes, bytes]:
    """The header block and the body as the program reads them from these blocks."""
    source = iter(blocks)
    headers, body = reading._spool(reading.crlf_as_lf(reading._before_dot(source) if dot_ends else source))
    return b"".join(header.octets for header in headers), b"".join(body.blocks())


def misread(place: str, text: bytes) -> Iterator[str]:
    """Where the program reads a text otherwise than the rules do."""
    for dot_ends in (False, True):
        expected = read_as(place, text, dot_ends)
        for size in BUFFERS:
            found = read(cut(PLACES[place] + text, size), dot_ends)
            if found != expected:
                yield f"{place} {text!r}, dot_ends={dot_ends}, {size} at once: read as {found!r}, not {expected!r}"


def ambiguous(text: bytes) -> Iterator[str]:
    """What is wrong on the wire with a text whose lines end with LF."""
    for size in BUFFERS:
        blocks = list(wire.with_dots(cut(text, size)))
        dotted, chunk = b"".join(blocks), b"".join(wire.as_chunk(cut(text, size)))
        if wrong := [*faults_of_data(dotted, text), *faults_of_chunk(chunk, text)]:
            yield f"{text!r}, {size} at once: {', '.join(wrong)}: {dotted!r}, {chunk!r}"
        if not blocks[-1].endswith(b".\r\n"):
            yield f"{text!r}, {size} at once: the end is torn: {blocks!r}"


def faults_of_data(sent: bytes, text: bytes) -> Iterator[str]:
    """RFC 5321, 4.5.2, as a strict server reads it, and what it then has must be the text."""
    if not sent.count(b"\r") == sent.count(b"\n") == sent.count(b"\r\n"):
        yield "a bare CR or LF"
    if (b"\r\n" + sent).find(b"\r\n.\r\n") != len(sent) - 3:
        yield "not one end, and at the end"
    undone = b"".join(line.removeprefix(b".") for line in sent[:-3].splitlines(keepends=True))
    if undone != b"".join(line + b"\r\n" for line in text.split(b"\n")[:-1]):
        yield "another text"


def faults_of_chunk(sent: bytes, text: bytes) -> Iterator[str]:
    """RFC 3030, 2: the text with CRLF, nothing more."""
    if sent != b"".join(line + b"\r\n" for line in text.split(b"\n")[:-1]):
        yield "another chunk"


# -- all of them -----------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """The texts up to a length that begin in the same way."""

    begin: bytes
    longest: int
    longest_elsewhere: int  # of those that are read in a header field and at the start as well

    def texts(self) -> Iterator[bytes]:
        for length in range(self.longest - len(self.begin) + 1):
            for letters in product(ALPHABET, repeat=length):
                yield self.begin + b"".join(letters)


def prove_reading(job: Job) -> tuple[Proof, set[bytes]]:
    """The texts read, and what came out of it."""
    count = runs = 0
    violations: list[str] = []
    bodies: set[bytes] = set()
    for text in job.texts():
        count += 1
        for place in PLACES:
            if place == "body" or len(text) <= job.longest_elsewhere:
                violations += misread(place, text)
                runs += 2 * len(BUFFERS)
        bodies.add(with_lf(text))
    return Proof(count, runs, violations[:NAMED]), bodies


def prove_wire(bodies: list[bytes]) -> Proof:
    """What was read taken to the wire."""
    violations = [wrong for body in bodies for wrong in ambiguous(body)]
    return Proof(0, 2 * len(BUFFERS) * len(bodies), violations[:NAMED])


def prove(longest: int = 9, processes: int = 1) -> Proof:
    """All texts up to that length, at least 2, at every buffer size; one process is this one."""
    elsewhere = longest - SHORTER
    jobs = [Job(b"", 1, elsewhere), *(Job(b"".join(two), longest, elsewhere) for two in product(ALPHABET, repeat=2))]
    with ProcessPoolExecutor(processes) if processes > 1 else nullcontext() as pool:
        each = pool.map if pool else map
        proofs, bodies = zip(*each(prove_reading, jobs), strict=True)
        portions = batched(sorted(set().union(*bodies)))
        proofs += tuple(each(prove_wire, portions))
    counts, runs, violations = zip(*proofs, strict=True)
    return Proof(sum(counts), sum(runs), list(chain.from_iterable(violations)))


def batched(bodies: list[bytes], size: int = 10_000) -> list[list[bytes]]:
    return [bodies[at : at + size] for at in range(0, len(bodies), size)]


def main(longest: int = 9) -> int:
    """Prove it, print the figures, and say by the exit status whether it holds."""
    begin = time.monotonic()
    proof = prove(longest, os.cpu_count() or 1)
    print(f"texts       {proof.texts}, at {len(BUFFERS)} buffer sizes")
    print(f"runs        {proof.runs}, in {time.monotonic() - begin:.0f} s")
    print(f"violations  {len(proof.violations)}")
    print(*proof.violations[:NAMED], sep="\n", end="\n" if proof.violations else "")
    return 1 if proof.violations else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
