"""Standard input, read and spooled, as a Message: a header block and a body."""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Generator, Iterator
from itertools import chain

from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.mail import BLOCK, Body, Header, LongLines, Message

MEMORY = 1024 * 1024  # octets of body kept in memory before a file is used
HEADER_LIMIT = 4 * 1024 * 1024  # octets of header block; Exim stops at 1 MiB, nobody needs as much
FIELD_LIMIT = 20_000  # header fields: one To: for each of 10 000 recipients, and as much again
IDLE = 0.05  # seconds a writer may pause once the message has ended before we stop listening to it

# RFC 5322, 2.2: printable ASCII but the colon; blanks before the colon are obs-optional (4.5).
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
# "From user@host Sat Nov 21 10:00:00 2026": a mailbox file's separator, not somebody's first sentence. As Exim's
# uucp_from_pattern, and with a ">" that mailbox programs put before it. Seldom asked for, so compiled when it is.
_MBOX = rb"""
    >?From [ \t]+ \S+ [ \t]+                # the sender, one word
    (?: [A-Za-z]{3} ,? [ \t]+ )?            # day of the week
    (?: [A-Za-z]{3} [ \t]+ \d{1,2}          # Nov 21
      | \d{1,2} [ \t]+ [A-Za-z]{3} [ \t]+ \d{2}(?:\d{2})? )  # 21 Nov 2026
    [ \t]+ \d{1,2} : \d
"""

Headers = tuple[Header, ...]

REMOVED = ("bcc", "resent-bcc", "return-path")
"""Fields that never leave (RULES F4)."""


def read(descriptor: int, dot_ends: bool, max_received: int) -> tuple[Message, Headers]:
    """Read one message to its end; the second value is the whole header block as the caller wrote it.

    Lines may end with LF, CRLF or CR, and end with LF afterwards (RULES F1). Raises Failure (RULES F8).
    """
    return taken(blocks(descriptor, dot_ends), max_received)


def taken(source: Iterator[bytes], max_received: int) -> tuple[Message, Headers]:
    """The same for a message that comes in blocks. Raises Failure (RULES F8), and what the source raises."""
    written, body = _spool(crlf_as_lf(source))
    received = sum(header.name == "received" for header in written)
    if received > max_received:
        raise Failure(
            f"{received} Received: lines: the message goes round in circles",
            advice="look at the first and the last of them; max_received sets the limit",
        )
    return Message(tuple(header for header in written if header.name not in REMOVED), body), written


def as_it_is(source: Iterator[bytes]) -> tuple[bytes, Body]:
    """Split a message that is only passed on at its first empty line: nothing is dropped, and nothing judged.

    The header block, lines ended by LF and without the empty line, and the body; text without an empty line is all
    header. Lines may end with LF, CRLF or CR (RULES F1). Raises Failure where the header block is longer than
    HEADER_LIMIT octets or there is no room for the body, and what the source raises.
    """
    text = as_lf(source)
    begun = bytearray(b"\n")  # the beginning counts as the end of a line
    end = -1
    for block in text:
        searched = len(begun) - 1
        begun += block
        end = begun.find(b"\n\n", searched)
        if end >= 0 or len(begun) > HEADER_LIMIT + 1:
            break
    header, rest = (begun[1:], begun[:0]) if end < 0 else (begun[1 : end + 1], begun[end + 2 :])
    if header and not header.endswith(b"\n"):
        header += b"\n"
    if len(header) > HEADER_LIMIT:  # were it taken for a body, an empty line would come to stand above it
        raise Failure(f"the header block is longer than {HEADER_LIMIT} octets")
    return bytes(header), _spooled(chain((bytes(rest),), text))


def as_lf(source: Iterator[bytes]) -> Iterator[bytes]:
    """The same text with every line ended by LF, whether that was LF, CRLF or CR (RULES F1)."""
    return (block.replace(b"\r", b"\n") for block in crlf_as_lf(source))


def blocks(descriptor: int, dot_ends: bool) -> Iterator[bytes]:
    """The octets of standard input, up to its end or to the line with a lone dot (RULES F2).

    Raises Failure where standard input is closed or cannot be read (RULES F8).
    """
    source = octets(descriptor)
    return _before_dot(source) if dot_ends else source


def skip(descriptor: int, dot_ends: bool) -> None:
    """Read a message to its end and forget it, for a caller who is to hear of a failure (RULES A6)."""
    try:
        for _ in blocks(descriptor, dot_ends):
            pass
    except Failure:
        pass


def drain(descriptor: int) -> None:
    """Read on after the end of the message while the writer still writes, so that it is spared a SIGPIPE (RULES A6).

    A caller that keeps the pipe open and waits for us is not waited for in turn.
    """
    try:
        while select.select([descriptor], [], [], IDLE)[0] and os.read(descriptor, BLOCK):
            pass
    except (OSError, ValueError):
        pass  # there is nothing to read, and no message depends on it


def octets(descriptor: int) -> Iterator[bytes]:
    """Blocks from the current offset on, never seeking: anacron and atd hand over their files half read."""
    while True:
        try:
            block = os.read(descriptor, BLOCK)
        except BlockingIOError:
            select.select([descriptor], [], [])
            continue
        except OSError as error:
            reason = "is closed" if error.errno == errno.EBADF else f"cannot be read: {error.strerror}"
            lead = TRY_AGAIN if error.errno == errno.EIO else REFUSED
            raise Failure(f"standard input {reason}", lead=lead) from error
        if not block:
            return
        yield block


def _before_dot(source: Iterator[bytes]) -> Iterator[bytes]:
    """What comes before a line that is one dot: begun after LF or at the start, ended by LF or CRLF."""
    held = b"\n"  # the beginning counts as the end of a line; this LF is never passed on
    invented = 1
    for block in source:
        data = held + block
        if ending := _DOT_LINE.search(data):
            yield data[invented : ending.start() + 1]
            return
        held = next((begun for begun in _DOT_BEGUN if data.endswith(begun)), b"")
        cut = len(data) - len(held)
        yield data[invented:cut]
        invented = max(0, invented - cut)
    yield held[invented:]


_DOT_LINE = re.compile(rb"\n\.\r?\n")
_DOT_BEGUN = (b"\n.\r", b"\n.", b"\n")  # what may be the beginning of one waits for the next block


def crlf_as_lf(source: Iterator[bytes]) -> Iterator[bytes]:
    """Every CRLF as LF, so that a CR that is left stands alone; one at the end of a block waits for its LF."""
    held = b""
    for block in source:
        data = held + block
        held = b"\r" if data.endswith(b"\r") else b""
        yield data[: len(data) - len(held)].replace(b"\r\n", b"\n") if b"\r" in data else data
    yield held


def _spool(source: Iterator[bytes]) -> tuple[Headers, Body]:
    """Split the header block off and put the rest aside: in memory up to MEMORY octets, beyond that in a file."""
    lines = _Lines(source)
    headers = _header_block(lines)
    return headers, _spooled(block.replace(b"\r", b"\n") for block in lines.rest())  # a CR alone ends a line, too


def _spooled(text: Iterator[bytes]) -> Body:
    """A body of lines ended by LF; the last one gets its end where it has none. Raises Failure."""
    memory: list[bytes] = []
    size = 0
    for block in text:
        memory.append(block)
        size += len(block)
        if size > MEMORY:
            return _to_file(memory, text)
    octets = b"".join(memory)
    return Body(octets if octets.endswith(b"\n") or not octets else octets + b"\n")


class _Lines:
    """The lines of a header block, and after them the rest of the source."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = filter(None, source)
        self._data = b""
        self._at = 0

    def line(self) -> bytes:
        """The next line with its LF, b"" at the end; the last one, and the beginning of one that is longer than
        any field may be, come without LF."""
        pieces = []
        size = 0
        while not (end := self._data.find(b"\n", self._at) + 1):
            pieces.append(self._data[self._at :])
            size += len(pieces[-1])
            self._data = b"" if size > HEADER_LIMIT else next(self._source, b"")
            self._at = 0
            if not self._data:
                return b"".join(pieces)
        pieces.append(self._data[self._at : end])
        self._at = end
        return b"".join(pieces)

    def rest(self) -> Iterator[bytes]:
        """What has not been read as a line."""
        yield self._data[self._at :]
        yield from self._source

    def unread(self, line: bytes) -> None:
        """Give back a line that belongs to the rest."""
        self._data = line + self._data[self._at :]
        self._at = 0


def _header_block(lines: _Lines) -> Headers:
    """The header fields; the lines that are left are the body.

    The block ends at an empty line, which belongs to neither, or before the first line that is no field
    (RULES F5). NUL is dropped before anything is looked at, so that it hides nothing. Raises Failure where the block
    is too long.
    """
    headers: list[Header] = []
    field: list[bytes] = []  # the lines of the field being read
    size = 0
    first = True
    while (line := lines.line()) not in (b"", b"\n"):
        bare = line.replace(b"\0", b"")
        folded = field and bare.startswith((b" ", b"\t"))
        if folded or _FIELD.match(bare):
            if field and not folded:
                headers.append(_header(field))
                field = []
            field.append(bare if bare.endswith(b"\n") and b"\r" not in bare else _cr_as_fold(bare))
            size += len(line)
            if size > HEADER_LIMIT:
                raise Failure(f"the header block is longer than {HEADER_LIMIT} octets")
            if len(headers) > FIELD_LIMIT:
                raise Failure(f"more than {FIELD_LIMIT} header fields")
        elif bare.strip(b"\n") and not (first and re.match(_MBOX, bare, re.VERBOSE)):
            lines.unread(line)
            break
        # else: a line of NUL only, which ends no header, for a Bcc: may stand below it; or a mailbox separator
        first = False
    if field:
        headers.append(_header(field))
    return tuple(headers)


def _header(field: list[bytes]) -> Header:
    """A field from its lines, without last lines of blanks only: some take one for the end of the header."""
    name = field[0].partition(b":")[0].strip().decode("ascii").lower()
    octets = b"".join(field)
    return Header(name, octets[: octets.index(b"\n", len(octets.rstrip(b" \t\n"))) + 1])


def _cr_as_fold(line: bytes) -> bytes:
    """A header line with an LF where each CR alone stood, and the field going on behind it, as in Exim.

    So nobody smuggles a Bcc: into a Subject: with a CR.
    """
    first, *others = line.rstrip(b"\n").split(b"\r")
    return b"\n ".join((first, *filter(None, map(bytes.strip, others)))) + b"\n"


def _to_file(memory: list[bytes], source: Iterator[bytes]) -> Body:
    """Write a large body into a file without a name. Raises Failure where no folder has room for it."""
    size = lines = 0
    eight_bit = False
    long_lines = LongLines()
    last = b""
    files = _nameless_files()
    try:
        file = next(files)
        for block in filter(None, chain(memory, source)):
            file = _kept(file, size, block, files)
            size += len(block)
            lines += block.count(b"\n")
            eight_bit = eight_bit or not block.isascii()
            long_lines.feed(block)
            last = block[-1:]
        if last != b"\n":
            file = _kept(file, size, b"\n", files)
            size, lines = size + 1, lines + 1
    except OSError as error:
        raise Failure(
            f"no room to keep the message while it is sent: {error.strerror}",
            lead=TRY_AGAIN,
            advice="it is kept in TMPDIR, /var/tmp or /tmp",
        ) from error
    return Body.spooled(file, size, lines, eight_bit, long_lines.found).owning()


def _kept(file: int, size: int, block: bytes, files: Generator[int, None, None]) -> int:
    """Put a block behind the `size` octets of a file; where that has no room, all of them go to the next one.

    The file they are in now. Raises OSError where none is left.
    """
    full = file
    while True:
        try:
            if file != full:
                for part in Body.spooled(full, size, 0, False).blocks():
                    _write(file, part)
            _write(file, block)
            return file
        except OSError as error:
            file = files.throw(error)


def _write(file: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(file, view) :]


def _nameless_files() -> Generator[int, None, None]:
    """Files that nobody can open by name and that go with us, one in each folder that takes one.

    What is wrong with one is thrown in, and the next one comes. Raises the last OSError where none is left.
    """
    failed = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in dict.fromkeys((os.environ.get("TMPDIR", ""), "/var/tmp", "/tmp")):
        if folder.startswith("/"):
            try:
                yield _nameless_in(folder)
            except OSError as error:
                failed = error
    raise failed


def _nameless_in(folder: str) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(folder, flags | os.O_TMPFILE, 0o600)
        except OSError:
            pass  # the file system has none; with a name, then, for as long as it takes to remove it
    name = f"{folder}/.muawrap-{os.getpid()}-{os.urandom(8).hex()}"
    file = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.unlink(name)
    return file
