"""The values that travel from station to station: asked, read, handed over, come back."""

# Annotations are values here: a NamedTuple compiles those that are texts, one by one, while every delivery waits.

import errno
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 256 * 1024
"""Octets read or sent at once: large enough that system calls cost nothing, small beside the memory budget."""
LINE_LIMIT = 998
"""Octets of a line without its end (RFC 5321, 4.5.3.1.6)."""
SIGNATURES = ("dkim-signature", "domainkey-signature", "arc-message-signature")
"""Fields that vouch for header and body: where one stands, neither may be encoded anew (RULES F6)."""


# -- from the command line ------------------------------------------------------------------------------------------


class Invocation(NamedTuple):
    """What the caller asked for, by options, arguments and the name the program was called by."""

    mode: str = "deliver"  # or smtp, batch, verify, queue (show it), run (it), nothing, version, help, refused
    refusal: str = ""  # why the mode is refused
    recipients: tuple[str, ...] = ()  # address arguments, each as given: an address list (RFC 5322)
    sender: str | None = None  # -f as given; "" is the null sender, None: no -f
    full_name: str = ""  # -F
    config: str | None = None  # -C
    extract: bool = False  # -t
    dot_ends: bool = True  # without -i a line "." ends the message (RULES F2)
    gateway: bool = False  # -G: no header is added
    verbose: bool = False  # -v
    utf8: bool = False  # -U: SMTPUTF8 is asked for
    notify: str = ""  # -N, as it goes into RCPT NOTIFY= (RFC 3461, 4.1)
    returns: str = ""  # -R: FULL or HDRS (RFC 3461, 4.3)
    envelope_id: str = ""  # -V, as xtext (RFC 3461, 4.4)


# -- the message ----------------------------------------------------------------------------------------------------


class Header(NamedTuple):
    """One header field as the caller wrote it: its name in lower case, and all its octets, lines ended by LF."""

    name: str
    octets: bytes

    @property
    def value(self) -> str:
        """What follows the colon, unfolded; octets that are not UTF-8 survive as surrogate escapes."""
        text = self.octets.decode("utf-8", "surrogateescape")
        return text.partition(":")[2].replace("\n", "").strip(" \t")


class LongLines:
    """Looks for lines longer than LINE_LIMIT in the blocks of a text; `found` says whether there was one."""

    def __init__(self) -> None:
        self.found = False
        self._begun = 0  # octets of the line that the last block ended in

    def feed(self, block: bytes) -> None:
        """Look at the next block: at its line ends that are nearly LINE_LIMIT apart, and at no others."""
        end = block.find(b"\n")
        if self.found or end < 0:
            self._begun += len(block)
            self.found = self.found or self._begun > LINE_LIMIT
            return
        self.found = self._begun + end > LINE_LIMIT
        at = end + 1  # a line begins there
        while not self.found and at + LINE_LIMIT < len(block):
            at = block.rfind(b"\n", at, at + LINE_LIMIT + 1) + 1
            self.found = at == 0
        self._begun = len(block) - 1 - block.rfind(b"\n", max(at - 1, 0))


def has_long_lines(text: bytes) -> bool:
    """Whether a text has a line that is longer than LINE_LIMIT."""
    lines = LongLines()
    lines.feed(text)
    return lines.found


class Body:
    """The text below the header block: lines ended by LF, in memory or in an unlinked file.

    `size` counts octets as spooled, `lines` line ends, so that size + lines is what CRLF makes of it.
    """

    def __init__(self, memory: bytes = b"", file: int | None = None) -> None:
        self._memory = memory
        self._file = file
        self._is_owner = False  # of the file, which is closed with the body then
        self.size = len(memory)
        self.lines = memory.count(b"\n")
        self.eight_bit = not memory.isascii()
        self.long_lines = has_long_lines(memory)

    @classmethod
    def spooled(cls, file: int, size: int, lines: int, eight_bit: bool, long_lines: bool = False) -> "Body":
        """A body in the open file `file`, from its beginning; the counts were taken while it was written."""
        body = cls(file=file)
        body.size, body.lines, body.eight_bit, body.long_lines = size, lines, eight_bit, long_lines
        return body

    def owning(self) -> "Body":
        """The same, and nobody else closes its file."""
        self._is_owner = True
        return self

    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The octets, or those from `begin` to `end`, in blocks of at most BLOCK, as often as asked. Raises OSError."""
        end = self.size if end is None else end
        while begin < end:
            octets = min(BLOCK, end - begin)
            block = self._memory[begin : begin + octets] if self._file is None else os.pread(self._file, octets, begin)
            if not block:  # what has been written is there, or something is broken
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            begin += len(block)
            yield block

    def __del__(self) -> None:
        # Of many messages each has its file for as long as anybody may read it, or keep a copy.
        if self._is_owner and self._file is not None:
            try:
                os.close(self._file)
            except OSError:
                pass  # what was in it is not needed any more


class Message(NamedTuple):
    """A message as read: its header fields in order, and its body."""

    headers: tuple[Header, ...]
    body: Body

    @property
    def message_id(self) -> str:
        """As the caller gave it, "" where he gave none."""
        return next((header.value for header in self.headers if header.name == "message-id"), "")


# -- the smart hosts ------------------------------------------------------------------------------------------------


class Secret(NamedTuple):
    """One place a password may be found in: its form (literal, keyring, command, ...) and its value."""

    form: str
    value: str | tuple[str, ...]

    def __repr__(self) -> str:
        # A literal must not reach a log or a traceback by way of repr().
        return f"Secret({self.form!r}, ...)"


class Auth(NamedTuple):
    """How to authenticate (RFC 4954); without a user there is no AUTH, but by certificate."""

    user: str = ""
    password: tuple[Secret, ...] = ()
    mechanisms: tuple[str, ...] = ()
    allow_plaintext: bool = False
    token: tuple[Secret, ...] = ()  # for XOAUTH2 and OAUTHBEARER

    @property
    def is_wanted(self) -> bool:
        """Whether to authenticate: as a user, or as whomever a client certificate is for."""
        return bool(self.user) or self.mechanisms == ("EXTERNAL",)


class Tls(NamedTuple):
    """The certificate policy: required, if-offered or none."""

    policy: str = ""  # "" until the scheme of a URL decides
    ca_file: str = ""
    min_version: str = "1.2"
    server_name: str = ""
    fingerprint: tuple[str, ...] = ()  # SHA-256 of a certificate or of its public key, in lower-case hexadecimal
    client_cert: str = ""
    client_key: str = ""
    verify: bool = True

    @property
    def is_required(self) -> bool:
        """Whether the host fails without it: whoever names a fingerprint wants that certificate and no clear text."""
        return self.policy == "required" or (bool(self.fingerprint) and self.policy != "none")

    @property
    def is_unverified(self) -> bool:
        """Whether any certificate will do, which every line then says."""
        return not self.verify and not self.fingerprint and self.policy != "none"


class Timeouts(NamedTuple):
    """Seconds on the monotonic clock for each stage (RFC 5321, 4.5.3.2); total 0 is no limit."""

    connect: float = 30
    greeting: float = 300
    command: float = 300
    data: float = 180
    final: float = 600
    total: float = 0


class SmartHost(NamedTuple):
    """One endpoint to try: where, how, and as whom."""

    url: str
    scheme: str  # smtp, submission, submissions, lmtp; srv and mx until DNS has been asked
    host: str  # name or address literal without brackets; of a unix socket its path
    port: int  # 0: a unix socket
    auth: Auth = Auth()
    tls: Tls = Tls()
    timeouts: Timeouts = Timeouts()
    sender: str = ""  # the host's own `from`
    ignore_extensions: tuple[str, ...] = ()  # EHLO keywords not to be believed, in capitals
    source_address: str = ""  # to connect from
    family: str = ""  # ipv4 or ipv6: no other address is tried
    proxy: str = ""  # socks5://[user:password@]host:port, by which it is reached
    names: tuple[str, ...] = ()  # that its certificate may be for instead of `host`; () where DNS has not named it
    dials: bool = True  # over a line that a first attempt may raise, so that there may be a second one (RULES C6)

    @property
    def is_local(self) -> bool:
        """Whether it is a unix socket, which needs no network and no TLS."""
        return self.port == 0 and self.scheme not in ("srv", "mx")

    def __str__(self) -> str:
        where = endpoint(self.host, self.port) if self.port else self.host if self.is_local else self.url
        if self.port and self.url.startswith(("srv://", "mx://")):
            where = f"{where} (by {self.url})"
        return f"{where} (verify = false)" if self.tls.is_unverified else where


def endpoint(host: str, port: int) -> str:
    """A host and a port as people write them, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- the transaction ------------------------------------------------------------------------------------------------


class Recipient(NamedTuple):
    """A final remote recipient, and how it was reached from an address the caller gave."""

    address: str
    trail: tuple[str, ...]
    shown: str  # how it is named to the caller: "<address>", or by whose .forward it was reached (RULES D5)
    original: str = ""  # RCPT ORCPT=: the address the caller gave, or was given (RFC 3461, 4.2); "": not told
    notify: str = ""  # RCPT NOTIFY= of its own (RFC 3461, 4.1); "": that of the message

    @property
    def story(self) -> str:
        """The trail, down to the address where the caller may read it."""
        if self.address not in self.shown:
            return self.shown
        steps = self.trail[:-1] if self.trail[-1:] == (self.address,) else self.trail
        return " -> ".join((*steps, self.shown))


class Way(NamedTuple):
    """One smart host with the envelope sender and the header block it would get."""

    host: SmartHost
    sender: str
    header: bytes  # the whole block, lines ended by LF, without the empty line
    rewritten: bool = False  # a From: that may not pass became `from` (RULES F10)


class Transaction(NamedTuple):
    """One MAIL, all recipients, one text: what every smart host of `ways` is offered in turn (RULES B1)."""

    ways: tuple[Way, ...]
    recipients: tuple[Recipient, ...]
    body: Body
    message_id: str  # for the log
    hostname: str  # for EHLO; "": the address literal of the connection
    utf8: bool = False
    notify: str = ""
    returns: str = ""
    envelope_id: str = ""
    dial_delay: float = 0
    tempfail: str = "final"
    partial: bool = False  # those who are accepted get it, whatever becomes of the others: never where a caller waits
    before_end: Callable[[tuple[Recipient, ...]], None] | None = None  # told who will get it, before its end leaves


# -- the outcome ----------------------------------------------------------------------------------------------------


class Reply(NamedTuple):
    """A complete, well-formed SMTP reply (RFC 5321, 4.2): its code and the text of each line."""

    code: int
    lines: tuple[str, ...]

    @property
    def kind(self) -> int:
        """The first digit: 2 done, 3 go on, 4 not now, 5 no."""
        return self.code // 100

    def __str__(self) -> str:
        return " ".join((str(self.code), *filter(None, (line.strip() for line in self.lines))))


class Shares(NamedTuple):
    """Who has a message, who has not, and of whom nobody knows: LMTP answers for each recipient (RFC 2033, 4.2)."""

    sent: tuple[Recipient, ...]
    unsent: tuple[Recipient, ...]
    unknown: tuple[Recipient, ...]


class Receipt(NamedTuple):
    """Proof of delivery: who accepted the message, over what, and in which words."""

    host: str = ""  # "" when everything was discarded and nobody was contacted
    sender: str = ""
    tls: str = "none"  # "TLSv1.3", "TLSv1.3 unverified" or "none"
    user: str = ""  # the user authenticated as
    size: int = 0  # octets, as SIZE= counts them (RFC 1870)
    reply: str = ""
    rewritten: bool = False
    degraded: tuple[str, ...] = ()  # why the hosts before this one did not take it
    eight_bit: bool = False  # octets beyond ASCII went to a host that does not offer 8BITMIME
    refused: tuple[Exception, ...] = ()  # of a partial transaction: the Failure of each recipient who does not get it
    unknown: tuple[Exception, ...] = ()  # and that of each recipient who may have it (LMTP only)
