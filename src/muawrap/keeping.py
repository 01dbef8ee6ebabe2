"""A message that was not sent, kept as batch SMTP in the folder its owner named for that.

It is kept with the recipients the caller gave, so that it is routed anew when it is sent again (RULES A4). Where some
of its final recipients have it, or may have it, that would make two of theirs: then the copy names the final recipients
who do not have it, and one in the folder for what is uncertain those of whom nobody knows. They stand there by their
addresses, also where they come from somebody else's .forward: the file is the caller's own, who could read that. A
backslash before one stops the redirection that would bring in the others again (RULES D2).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from muawrap import addresses, report, trust
from muawrap.batch import NOTE, transaction
from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure
from muawrap.mail import Invocation, Message
from muawrap.routing.redirect import Expansion

UNCERTAIN_FOLDER = "uncertain"
"""Below the folder: what may have been sent is nothing to be sent again without a look."""
NOTE_LIMIT = 998
"""Octets of the line of facts: what every reader of SMTP commands takes in one line; Sendmail stops at 2048."""
_NO_FILES = os.O_DIRECTORY | os.O_CLOEXEC
_SEARCH = getattr(os, "O_PATH", os.O_RDONLY)  # a folder that we may not list, such as one of mode 1733


Route = Callable[[list[str]], Expansion]
"""Who gets what is sent to these, named as a caller names them. Raises Failure."""


class Given(NamedTuple):
    """What the caller gave, before anything was made of it (RULES A4)."""

    invocation: Invocation
    recipients: list[str]
    message: Message
    default_sender: str  # whose mail it is where no -f says so


def keep(folder: str, given: Given, failure: Failure, message_id: str, route: Route) -> str:
    """Write the message down, with its envelope and what became of it; the path of the file, or of two.

    Each stands there whole and on disk, or not at all. Raises Failure.
    """
    kept = ""
    for part, lead in _parts(given, failure, route):
        try:
            path = _keep(folder, part, failure, lead, message_id)
        except Failure as trouble:
            if kept:  # for some of them
                trouble.what = f"{trouble.what}; for others it is kept as {kept}"
            raise
        kept = f"{kept} and {path}" if kept else path
    return kept


def _parts(given: Given, failure: Failure, route: Route) -> list[tuple[Given, str]]:
    """What is to be kept, for whom, and the lead that says what became of it."""
    shares = failure.shares
    if shares is None or not (shares.sent or shares.unknown):
        return [(given, failure.lead)]
    refused = any(reason.lead == REFUSED for reason in _leaves(failure))
    parts = ((shares.unsent, REFUSED if refused else TRY_AGAIN), (shares.unknown, UNCERTAIN))
    return [
        (given._replace(recipients=[_alone(one.address, route) for one in whom]), lead) for whom, lead in parts if whom
    ]


def _leaves(failure: Failure) -> Iterator[Failure]:
    """The failures that it sums up, and those that these sum up; itself where there are none."""
    for reason in failure.reasons:
        yield from _leaves(reason)
    if not failure.reasons:
        yield failure


def _alone(final: str, route: Route) -> str:
    """A final recipient so named that nobody else gets it; as it is where there is no such name (RULES D2)."""
    for named in (final, "\\" + final):
        with suppress(Failure):
            reached = [one.address for one in route([named]).recipients]
            if len(reached) == 1 and addresses.same(reached[0], final):
                return named
    return final


def _keep(folder: str, given: Given, failure: Failure, lead: str, message_id: str) -> str:
    now = time.time()
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{int(now % 1 * 1e6):06}Z-{os.urandom(8).hex()}"
    os.umask(0o077)  # nothing that comes into being from here on is anybody else's
    try:
        text = batch(given, _note(given, failure, lead, message_id, now))
        with _held(opened(folder)) as place:
            if lead != UNCERTAIN:
                _write(place, name, text)
            else:
                folder = os.path.join(folder, UNCERTAIN_FOLDER)
                with _held(_below(place, folder)) as below:
                    _write(below, name, text)
    except OSError as error:
        raise Failure(_reason(error)) from error
    return os.path.join(folder, name)


# -- the text -------------------------------------------------------------------------------------------------------


def batch(given: Given, note: str) -> Iterator[bytes]:
    """One transaction as `sendmail -bS` reads it, lines ended by LF. Raises Failure where the sender is no address."""
    header = b"".join(field.octets for field in given.message.headers)
    return transaction([note], sender(given), given.recipients, header, given.message.body)


def sender(given: Given) -> str:
    """As the caller gave it; "" is the null sender. Raises Failure."""
    value = given.invocation.sender
    if not value:
        return given.default_sender if value is None else ""
    try:
        return addresses.parse_one(value, null=True).address
    except addresses.AddressError as error:
        raise Failure("the sender is no address") from error


def _note(given: Given, failure: Failure, lead: str, message_id: str, now: float) -> str:
    """The facts that no other command has room for, in a command that means nothing.

    One line only: Exim gives up after ten such commands, and several files may be read in one go.
    """
    asked = given.invocation
    fields = [
        ("at", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))),
        ("outcome", lead),
        ("notify", asked.notify),  # what is short comes first, and is never cut by what is long
        ("ret", asked.returns),
        ("envid", asked.envelope_id),
        ("gateway", "yes" if asked.gateway else ""),
        ("smtputf8", "yes" if asked.utf8 else ""),
        ("id", message_id),
        ("name", asked.full_name),
        ("error", failure.sentence()),
    ]
    return report.paired(NOTE, fields, NOTE_LIMIT)


# -- the folder -----------------------------------------------------------------------------------------------------


@contextmanager
def _held(descriptor: int) -> Iterator[int]:
    """A descriptor that is closed in the end; what matters is on disk by then."""
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            os.close(descriptor)


def opened(path: str, below: int | None = None) -> int:
    """A folder in which nobody but its owner can put another file in the place of ours. Raises Failure.

    `below` is the folder that holds it, to which others may write: there it is no symbolic link.
    """
    try:
        if below is None:
            place = os.open(path, _SEARCH | _NO_FILES)
        else:
            place = os.open(os.path.basename(path), _SEARCH | _NO_FILES | os.O_NOFOLLOW, dir_fd=below)
    except OSError as error:
        raise Failure(f"{path}: {_reason(error)}") from error
    status = os.fstat(place)
    if status.st_uid not in (0, os.geteuid()):
        raise Failure(f"{path} belongs to uid {status.st_uid}")
    if _is_shared(status) and not status.st_mode & stat.S_ISVTX:
        raise Failure(f"{path} is writable by others")
    return place


def _below(parent: int, path: str) -> int:
    """The folder `path` in the folder `parent`, made where it is missing and all of `parent` is ours. Raises Failure.

    In a folder of many users it would be the first one's who needs it, and no use to the others.
    """
    if not _is_shared(os.fstat(parent)):
        with suppress(FileExistsError):
            os.mkdir(os.path.basename(path), 0o700, dir_fd=parent)
    return opened(path, parent)


def _is_shared(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IWOTH) or trust.written_by_group(status)


def _write(place: int, name: str, blocks: Iterable[bytes]) -> None:
    """A new file with this name, whole and on disk, or none. Raises OSError."""
    written = "." + name  # no pattern that looks for messages finds it before it is one
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _held(os.open(written, flags, 0o600, dir_fd=place)) as file:
        try:
            for block in blocks:
                view = memoryview(block)
                while view:
                    view = view[os.write(file, view) :]
            os.fsync(file)
            os.rename(written, name, src_dir_fd=place, dst_dir_fd=place)
            written = name
            _settle(place, file)
        except BaseException:
            with suppress(OSError):
                os.unlink(written, dir_fd=place)
            raise


def _settle(place: int, file: int) -> None:
    """Have the file's new name on disk, too. Raises OSError."""
    try:
        with _held(os.open(".", os.O_RDONLY | _NO_FILES, dir_fd=place)) as folder:
            os.fsync(folder)
    except PermissionError:
        os.fsync(file)  # we may not list the folder; the file's own journal brings its name along
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has nothing to do for it
            raise


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason[:1].lower() + reason[1:]
