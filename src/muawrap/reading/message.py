"""Standard input, read and spooled, as a Message: a header block and a body."""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Iterator

from muawrap import addresses
from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.mail import BLOCK, Body, Header, Message

MEMORY = 1024 * 1024  # octets of body kept in memory before a file is used
HEADER_LIMIT = 4 * 1024 * 1024  # octets of header block; Exim stops at 1 MiB, nobody needs as much
IDLE = 0.05  # seconds a writer may pause once the message has ended before we stop listening to it

# RFC 5322, 2.2: printable ASCII but the colon; blanks before the colon are obs-optional (4.5).
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
# "From user@host Sat Nov 21 10:00:00 2026": a mailbox file's separator, not somebody's first sentence.
_MBOX = re.compile(rb">?From[ \t].*\b(?:[A-Z][a-z][a-z][ \t]+\d{1,2}|\d{1,2}[ \t]+[A-Z][a-z][a-z])\b.*\d{1,2}:\d\d")

Headers = tuple[Header, ...]

REMOVED = ("bcc", "resent-bcc", "return-path")
"""Fields that never leave (RULES F4)."""


def read(descriptor: int, dot_ends: bool, max_received: int) -> tuple[Message, Headers]:
    """Read one message to its end; the second value is the whole header block as the caller wrote it.

    Lines may end with LF, CRLF or CR, and end with LF afterwards (RULES F1). Raises Failure (RULES F8).
    """
    written, body = _spool(crlf_as_lf(blocks(descriptor, dot_ends)))
    received = sum(header.name == "received" for header in written)
    if received > max_received:
        raise Failure(
            f"{received} Received: lines: the message goes round in circles",
            advice="look at the first and the last of them; max_received sets the limit",
        )
    return Message(tuple(header for header in written if header.name not in REMOVED), body), written


def arguments(words: tuple[str, ...]) -> list[str]:
    """The addresses of the command line; each word is an address list (cron's MAILTO=a,b). Raises Failure."""
    found = []
    for word in words:
        try:
            mailboxes = addresses.parse_list(word)
        except addresses.AddressError as error:
            raise Failure(f"cannot read the recipient {word!r}: {error}") from error
        if not mailboxes:
            raise Failure(f"the argument {word!r} holds no address")
        found += [mailbox.address for mailbox in mailboxes]
    return found


def without(found: list[str], removed: list[str]) -> list[str]:
    """The addresses that are not among those removed."""
    keys = set(map(addresses.key, removed))
    return [address for address in found if addresses.key(address) not in keys]


def recipients(headers: Headers) -> list[str]:
    """The addresses of To, Cc and Bcc, all of them; with Resent- fields those of the top block (RULES E7).

    Raises Failure where a field is no address list.
    """
    names = ("to", "cc", "bcc")
    block = _resent_block(headers)
    if block:
        headers, names = block, ("resent-to", "resent-cc", "resent-bcc")
    found = []
    for header in headers:
        if header.name not in names:
            continue
        try:
            found += [mailbox.address for mailbox in addresses.parse_list(header.value)]
        except addresses.AddressError as error:
            raise Failure(f"cannot read the {header.name.title()}: header: {error}: {header.value!r}") from error
    return found


def _resent_block(headers: Headers) -> Headers:
    """The Resent- fields of the latest resending (RFC 5322, 3.6.6).

    Blocks are not marked off from each other: one ends where a field other than Resent- or trace stands between,
    or where a field comes for the second time that may be in a block only once.
    """
    block: list[Header] = []
    seen: set[str] = set()
    for header in headers:
        if header.name.startswith("resent-"):
            if header.name in seen and header.name in ("resent-date", "resent-from", "resent-message-id"):
                break
            seen.add(header.name)
            block.append(header)
        elif header.name in ("received", "return-path") and block:
            break
    return tuple(block)


def blocks(descriptor: int, dot_ends: bool) -> Iterator[bytes]:
    """The octets of standard input, up to its end or to the line with a lone dot (RULES F2).

    Raises Failure where standard input is closed or cannot be read (RULES F8).
    """
    source = _octets(descriptor)
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


def _octets(descriptor: int) -> Iterator[bytes]:
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
        ending = _DOT_LINE.search(data)
        # What may be the beginning of a dot line waits for the next block.
        cut = ending.start() + 1 if ending else _DOT_BEGUN.search(data).start()  # type: ignore[union-attr]
        yield data[invented:cut]
        if ending:
            return
        held = data[cut:]
        invented = max(0, invented - cut)
    yield held[invented:]


_DOT_LINE = re.compile(rb"\n\.\r?\n")
_DOT_BEGUN = re.compile(rb"(?:\n(?:\.\r?)?)?\Z")


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
    headers, rest = _header_block(source)
    text = _cr_as_lf(rest, source)
    memory: list[bytes] = []
    size = 0
    for block in text:
        memory.append(block)
        size += len(block)
        if size > MEMORY:
            return headers, _to_file(memory, text)
    octets = b"".join(memory)
    return headers, Body(octets if octets.endswith(b"\n") or not octets else octets + b"\n")


def _cr_as_lf(rest: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    """The body: a CR that stands alone ends a line, too (RULES F1)."""
    yield rest.replace(b"\r", b"\n")
    for block in source:
        yield block.replace(b"\r", b"\n")


def _header_block(source: Iterator[bytes]) -> tuple[Headers, bytes]:
    """The header fields, and what was read beyond them.

    The block ends at an empty line, which belongs to neither, or before the first line that is no field
    (RULES F5). NUL is dropped before anything is looked at, so that it hides nothing. A CR alone ends a line here,
    too, but what follows is the same field, folded, as in Exim: nobody smuggles a Bcc: into a Subject: with it.
    """
    headers: list[Header] = []
    lines: list[bytes] = []  # of the field being read
    data = b""
    at = size = 0
    first = True
    ended = False

    def close() -> None:
        if lines:
            name = lines[0].partition(b":")[0].strip().decode("ascii").lower()
            while len(lines) > 1 and not lines[-1].strip():
                lines.pop()  # a last line of blanks only: some take it for the empty line that ends the header
            headers.append(Header(name, b"".join(lines)))
            lines.clear()

    while True:
        end = data.find(b"\n", at)
        if end < 0 and not ended:
            if len(data) - at <= HEADER_LIMIT:
                more = next(source, None)
                ended = more is None
                data, at = data[at:] + (more or b""), 0
                continue
            end = len(data) - 1  # so long a line is no field; below it is found to be text
        line = data[at:] if end < 0 else data[at : end + 1]
        if not line:
            close()
            return tuple(headers), b""
        bare = line.replace(b"\0", b"")
        if line == b"\n":
            close()
            return tuple(headers), data[at + 1 :]
        folded = bare[:1] in (b" ", b"\t") and lines
        if folded or _FIELD.match(bare):
            if not folded:
                close()
            parts = bare.rstrip(b"\r\n").split(b"\r")
            lines += [part + b"\n" if part is parts[0] else b" " + part + b"\n" for part in parts]
            size += len(bare)
            if size > HEADER_LIMIT:
                raise Failure(f"the header block is longer than {HEADER_LIMIT} octets")
        elif bare.strip(b"\n") and not (first and _MBOX.match(bare)):
            close()
            return tuple(headers), data[at:]
        # else: a line of NUL only, which ends no header, for a Bcc: may stand below it; or a mailbox separator
        first = False
        at += len(line)


def _to_file(memory: list[bytes], source: Iterator[bytes]) -> Body:
    """Write a large body into a file without a name. Raises Failure where the disk is full."""
    try:
        file = _nameless_file()
        size = lines = 0
        ascii_only = True
        last = b"\n"
        for blocks_ in (memory, source):
            for block in blocks_:
                if not block:
                    continue
                _write(file, block)
                size += len(block)
                lines += block.count(b"\n")
                ascii_only = ascii_only and block.isascii()
                last = block[-1:]
        if last != b"\n":
            _write(file, b"\n")
            size, lines = size + 1, lines + 1
    except OSError as error:
        raise Failure(
            f"no room to keep the message while it is sent: {error.strerror}",
            lead=TRY_AGAIN,
            advice="it is kept in TMPDIR, /var/tmp or /tmp",
        ) from error
    return Body.spooled(file, size, lines, not ascii_only)


def _write(file: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(file, view) :]


def _nameless_file() -> int:
    """A file that nobody can open by name and that goes with us; raises the last folder's OSError."""
    folders = [folder for folder in (os.environ.get("TMPDIR", ""), "/var/tmp", "/tmp") if folder.startswith("/")]
    flags = os.O_RDWR | os.O_CLOEXEC
    for folder in folders:
        try:
            if hasattr(os, "O_TMPFILE"):
                try:
                    return os.open(folder, flags | os.O_TMPFILE, 0o600)
                except OSError:
                    pass  # the file system has none; with a name, then, for as long as it takes to remove it
            name = f"{folder}/.muawrap-{os.getpid()}-{os.urandom(8).hex()}"
            file = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            os.unlink(name)
            return file
        except OSError:
            if folder == folders[-1]:
                raise
    raise OSError(errno.ENOENT, "no folder for temporary files")
