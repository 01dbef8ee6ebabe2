"""A message as held for later: its envelope, its header block as it is, and its body."""

# Annotations are values here, as in muawrap.mail: whoever lists a hundred thousand messages waits for each.

from typing import NamedTuple

from muawrap.mail import Body


class Addressee(NamedTuple):
    """One recipient: a mailbox without brackets, quoting and case as received."""

    address: str
    notify: str = ""  # as it goes into RCPT NOTIFY= (RFC 3461, 4.1)
    original: str = ""  # RCPT ORCPT=: a type and, as xtext, an address (RFC 3461, 4.2)


class Envelope(NamedTuple):
    """Whom a message is from and for, and what else was said about it when it was accepted."""

    sender: str  # "" is the null sender
    recipients: tuple[Addressee, ...]
    at: float = 0  # when it was accepted, seconds since the epoch; 0: not known, the file's mtime is next best
    id: str = ""  # what its MTA or caller names it by
    body: str = ""  # 7BIT or 8BITMIME as announced (RFC 6152)
    utf8: bool = False  # SMTPUTF8 was asked for (RFC 6531)
    returns: str = ""  # FULL or HDRS (RFC 3461, 4.3)
    envelope_id: str = ""  # as xtext (RFC 3461, 4.4)
    facts: tuple[tuple[str, str], ...] = ()  # whatever else its note says (outcome, name, gateway, error ...), in order


class Held(NamedTuple):
    """One message as held; nothing of its text has been dropped or judged."""

    envelope: Envelope
    header: bytes  # the header block, lines ended by LF, without the empty line
    body: Body
