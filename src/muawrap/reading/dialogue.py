"""The SMTP of -bs and -bS: octets from a caller turned into events, and verdicts on them into replies; pure, bounded.

    dialogue = Dialogue(hostname="client.example")         # -bs; batch=True is -bS, lmtp=True is LMTP
    for event in dialogue.events(octets):
        if isinstance(event, Mail): ...                     # a message begins: dialogue.accept() or .refuse(failure)
        elif isinstance(event, Rcpt): ...                   # one more recipient: the same
        elif isinstance(event, Text): ...                   # an iterator of blocks; the same, once they are read
        else: ...                                           # Reset: what has been said since Mail is forgotten

A driver of -bS may ask for Note events, too. Where an MTA speaks (`partial`, LMTP) there are Declined events. It has
accepted what it names, and would bounce it: a MAIL or RCPT that cannot be read is put off there, not refused.

`octets` is an iterator of pieces of any size. It is asked for more only when all that came has been dealt with, so
that it writes `dialogue.replies()` before it waits; the driver asks for them once more when there are no more events:
after QUIT, at the end of the input, or with a caller given up, whose input may go on. With -bs every event but Reset
is answered, exactly once and before the next. `refused` is the first refusal of a MAIL, RCPT, DATA or Text, the
dialogue's own too, or that nothing was understood: where it stands there is a message that was not sent.

With -bS nothing is answered and nothing is replied. The first mistake raises Failure, and so does an end of the input
within a message. Events may be read ahead: those up to the next Text cost nothing but their own lines.

In LMTP (RFC 2033) LHLO takes the place of EHLO, and the answer to a Text is told once for each recipient accepted.

A Text is read once, and only as far as wanted: what is left is skipped. It has the line ends of the caller, and its
dots are no longer doubled. Where the input ends before the lone dot, it raises Failure (so does whatever reads it):
a part of a message is never taken for the whole.

The first line fixes the line end, CRLF or LF, of everything that is not text. Only a dot between two such line ends
ends a text: LF.LF and CR.CR are text where lines end with CRLF, CRLF.CRLF is where they end with LF (RULES E8).
"""

# Annotations are values here: a NamedTuple compiles those that are texts, one by one, while a caller waits.

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from muawrap import addresses
from muawrap.failure import Failure
from muawrap.mail import Reply
from muawrap.reading import answers, commands
from muawrap.reading.commands import Refused

LINE_LIMIT = 4096  # octets of a command; RFC 5321 (4.5.3.1.4) asks for 512, DSN and long addresses for some 1,600
HEAD = 16  # octets that are kept of a longer one, to know the command
RECIPIENTS = 10_000  # of one message (RULES D6); RFC 5321 (4.5.3.1.8) asks for 100
MISTAKES = 20  # commands unknown or ill-formed, without a message taken in between, until we give up; as Postfix

OFFERED = ("PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
"""What EHLO tells, whatever the smart host offers (RULES E8)."""

_CUT = "the input ends in the middle of a message"

# -- the octets -----------------------------------------------------------------------------------------------------

_ENDS = {b"\n": "LF alone", b"\r\n": "CRLF"}


class _Line(NamedTuple):
    """A command without its line end, or the beginning of what is none."""

    octets: bytes
    fault: Refused | None = None


class _Input:
    """Pieces of any size, of which no more than one and a command are here at once."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = filter(None, source)
        self.data = b""
        self.at = 0
        self.line = 0  # lines that have been read
        self.end = b""  # what ends a line, once there has been one

    def more(self, rest: bytes) -> bool:
        """Go on with the next piece, behind what is still wanted of this one; False where there is none."""
        piece = next(self._source, b"")
        self.data, self.at = rest + piece, 0
        return bool(piece)

    def command(self) -> _Line | None:
        """The next line, None where no end of a line comes any more."""
        head = b""  # of a line that is too long
        while (stop := self.data.find(b"\n", self.at)) < 0:
            rest = self.data[self.at :]
            if len(rest) > LINE_LIMIT + 1:  # more than a line and its CR
                head = head or rest[:HEAD]
                rest = rest[-1:]
            if not self.more(rest):
                return None
        line = self.data[self.at : stop]
        self.at = stop + 1
        self.line += 1
        end = b"\r\n" if line.endswith(b"\r") else b"\n"
        line = line.removesuffix(b"\r")
        if not self.end and (head or line.strip()):
            self.end = end
        if self.end and end != self.end:
            # Somebody else's line end in an address, or a caller who would wait for ever at the end of the text.
            text = f"a line ends with {_ENDS[end]}, and the first one with {_ENDS[self.end]}"
            return _Line((head or line)[:HEAD], Refused(521, "5.5.2", text, closing=True))
        if head or len(line) > LINE_LIMIT:
            return _Line((head or line)[:HEAD], Refused(500, "5.5.2", f"a line longer than {LINE_LIMIT} octets"))
        return _Line(line)

    @property
    def rest(self) -> bytes:
        """At the end of the input: what stands there without an end of a line."""
        return self.data[self.at :].strip()


# -- events ---------------------------------------------------------------------------------------------------------


class Mail(NamedTuple):
    """A message begins (RFC 5321, 4.1.1.2)."""

    line: int  # where in the input
    sender: str  # "" is the null sender
    size: int = 0  # as announced (RFC 1870); 0: it was not
    body: str = ""  # 7BIT or 8BITMIME (RFC 6152)
    utf8: bool = False  # SMTPUTF8 is asked for (RFC 6531)
    returns: str = ""  # FULL or HDRS (RFC 3461, 4.3)
    envelope_id: str = ""  # as xtext (RFC 3461, 4.4)


class Rcpt(NamedTuple):
    """One more recipient (RFC 5321, 4.1.1.3)."""

    line: int
    address: str  # a backslash before it stops redirection, as on the command line (RULES D2)
    notify: str = ""  # as it goes into NOTIFY= (RFC 3461, 4.1)
    original: str = ""  # ORCPT: a type and, as xtext, an address (RFC 3461, 4.2)


class Reset(NamedTuple):
    """The message begun is given up: by RSET, EHLO or HELO."""

    line: int


class Note(NamedTuple):
    """A NOOP of a batch, for a driver that asks for them: it stands within a message, or before one."""

    line: int
    text: str  # what follows NOOP; octets that are not UTF-8 survive as surrogate escapes


class Text:
    """The text of the message, in blocks; see above."""

    def __init__(self, given: _Input) -> None:
        self.line = given.line
        self.complete = False
        self._given = given
        self._end = given.end
        self._dot = given.end + b"."
        self._last = given.end + b"." + given.end
        # The end of the line DATA, which is still there, begins the first line, and is not passed on.
        given.at -= len(given.end)
        self._foreign = len(given.end)

    def __iter__(self) -> "Text":
        return self

    def __next__(self) -> bytes:
        given = self._given
        while not self.complete:
            begin = given.at
            found = given.data.find(self._last, begin)
            if found >= 0:
                stop = found + len(self._end)
                given.at = found + len(self._last)
                self.complete = True
            else:
                stop = given.at = len(given.data) - self._held()
            foreign = self._foreign if stop > begin else 0
            self._foreign -= foreign
            given.line += given.data.count(b"\n", begin + foreign, given.at)
            block = given.data[begin:stop].replace(self._dot, self._end)[foreign:]
            if block:
                return block
            if not self.complete and not given.more(given.data[given.at :]):
                given.line += given.data.count(b"\n", self._foreign)
                given.data = b""
                raise Failure(f"line {given.line}: {_CUT}")
        raise StopIteration

    def _held(self) -> int:
        """How many octets may be the beginning of a lone dot, or of a doubled one, and wait for the next piece."""
        most = min(len(self._last) - 1, len(self._given.data) - self._given.at)
        return next(size for size in range(most, -1, -1) if self._given.data.endswith(self._last[:size]))


class Declined(NamedTuple):
    """A MAIL or RCPT of an MTA that we have answered ourselves, and not by yes; the driver may tell of it."""

    line: int
    verb: str
    reply: Reply


Event: TypeAlias = Mail | Rcpt | Text | Reset | Note | Declined


# -- the dialogue ---------------------------------------------------------------------------------------------------

_ANSWERS = {
    "NOOP": (250, "2.0.0", "nothing done"),
    "HELP": (214, "2.0.0", "see sendmail(8)"),
    "VRFY": (252, "2.1.5", "name it by RCPT, and you will hear"),
    "EXPN": (502, "5.5.1", "lists are not shown"),
    "ETRN": (502, "5.5.1", "there is no queue"),
    "ATRN": (502, "5.5.1", "there is no queue"),
    "TURN": (502, "5.5.1", "there is no queue"),
    "SEND": (502, "5.5.1", "there are no terminals to write to"),
    "SOML": (502, "5.5.1", "there are no terminals to write to"),
    "SAML": (502, "5.5.1", "there are no terminals to write to"),
    "STARTTLS": (502, "5.5.1", "TLS was not offered"),
    "AUTH": (502, "5.5.1", "AUTH was not offered"),
}
"""Commands that change nothing, and what is said to them."""

_IDLE = ("NOOP", "HELP", "VRFY", "EXPN", "ETRN")
"""Those that a batch may hold, as with Exim: the first carries notes."""

_MISTAKEN = (500, 501, 502, 555)
"""Replies that count as a mistake, unless it is about an address: a long list has many that are none."""
_COMMANDS = {
    verb: f"_{verb.lower()}" for verb in ("EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "QUIT")
}
_UNKNOWN = {False: ("LHLO",), True: ("EHLO", "HELO")}
"""Of these, by whether it is LMTP (RFC 2033, 4.1)."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Dialogue:
    """One caller, from the greeting to QUIT; see above."""

    def __init__(
        self,
        *,
        batch: bool = False,
        notes: bool = False,
        lmtp: bool = False,
        hostname: str = "localhost",
        broken: Failure | None = None,
        offered: tuple[str, ...] = OFFERED,
        partial: bool = False,
        address: Callable[[str, bool], str] = commands.address,
    ) -> None:
        """With `notes` each NOOP of a batch is an event. `offered` is what EHLO tells.

        `partial`: a recipient that is refused takes nothing from the others, as between mail servers.
        `address` reads the path of MAIL and RCPT, which may be the null sender in the former; it raises Refused.
        `broken` is a failure at start-up: it is the greeting, and no command is obeyed.
        """
        self.refused: Reply | None = None
        self._batch = batch
        self._notes = batch and notes
        self._lmtp = lmtp
        self._hostname = hostname
        self._broken = broken is not None
        self._offered = offered
        self._partial = partial or lmtp
        self._address = address
        self.left = False  # the caller has said QUIT
        self._replies = bytearray()
        self._over = False
        self._asked: Mail | Rcpt | Text | None = None  # the event that waits for its answer
        self._verb = ""  # the command being obeyed
        self._begun: Mail | None = None  # the message
        self._recipients = 0  # accepted for it
        self._regret = ""  # how the text before was refused, until the next message
        self._spoilt = False  # something about it was refused: DATA is, too, so that nothing goes to a part of them
        self._text_may_come = False  # DATA was refused, and there are callers who send the text without looking
        self._mistakes = 0
        self._understood = False  # a command that there is
        if broken is not None:
            self._say(Reply(554, (answers.sentence(broken),)))
        else:
            self._say(Reply(220, (f"{hostname} {'LMTP' if lmtp else 'ESMTP'} muawrap",)))

    def replies(self) -> bytes:
        """What the caller is to be told now: every line ends with CRLF, whatever the caller's own do."""
        octets = bytes(self._replies)
        self._replies.clear()
        return octets

    def events(self, source: Iterable[bytes]) -> Iterator[Event]:
        """The events of these octets, in order. Raises Failure with -bS, and what the source raises."""
        given = _Input(source)
        while not self._over and (line := given.command()) is not None:
            try:
                event = self._obey(line, given)
            except Refused as refused:
                reply = self._refuse(refused, given.line)
                if self._partial and self._verb in ("MAIL", "RCPT"):
                    yield Declined(given.line, self._verb, reply)
                continue
            if isinstance(event, (Reset, Note, Declined)):
                yield event
            elif event is not None and self._batch:
                yield event
                self._settle(event, True)
            elif event is not None:
                self._asked = event
                yield event
                if self._asked is not None:
                    raise RuntimeError(f"{event} was not answered")
        if self._batch and not self._over and (self._begun or given.rest.upper() not in (b"", b"QUIT")):
            raise Failure(f"line {given.line + bool(given.rest)}: {_CUT}")
        if self._mistakes and not self._understood and self.refused is None:
            self.refused = Reply(500, ("nothing was understood",))  # what came instead of commands may be a message

    # -- answers

    def accept(self, text: str = "") -> None:
        """Yes; of a text this may only be said once a smart host has taken it, and in its words."""
        words = {Mail: "2.1.0 sender ok", Rcpt: "2.1.5 recipient ok"}.get(type(self._asked), "2.0.0 sent")
        self.answer(Reply(250, (text or words,)))

    def refuse(self, failure: Failure) -> None:
        """No, for this reason."""
        self.answer(answers.verdict(failure) if isinstance(self._asked, Text) else answers.not_routed(failure))

    def answer(self, reply: Reply) -> None:
        """A reply in words of your own: 2yz is yes, anything else no."""
        event, self._asked = self._asked, None
        if event is None:
            raise RuntimeError("there is nothing to answer")
        times = self._recipients if self._lmtp and isinstance(event, Text) else 1
        self._settle(event, reply.kind == 2)
        if reply.kind != 2 and self.refused is None:
            self.refused = reply
        if reply.code == 421:
            reply = reply._replace(code=451)  # it is not us who leave
        if isinstance(event, Text) and reply.kind != 2:
            self._regret = " ".join((str(reply.code), *reply.lines[:1]))
        for _ in range(times):
            self._say(reply, f"{reply.kind}.0.0")

    def _settle(self, event: Mail | Rcpt | Text, accepted: bool) -> None:
        """What becomes of the message by an answer."""
        if isinstance(event, Mail):
            self._begun = event if accepted else None
            self._recipients, self._spoilt, self._regret = 0, False, ""
        elif isinstance(event, Rcpt):
            self._recipients += accepted
            self._spoilt = self._spoilt or not (accepted or self._partial)
        else:
            self._begun = None
            try:
                for _ in event:
                    pass
            except Failure:
                if self._batch or accepted:
                    raise
            if accepted:
                self._mistakes = 0

    # -- commands

    def _obey(self, line: _Line, given: _Input) -> Event | None:
        """What a command asks of the driver, None where it concerns nobody but us. Raises Refused."""
        if self._batch and not line.octets.strip():
            return None
        text = line.octets.decode("utf-8", "surrogateescape").rstrip(" \t")
        verb, _, rest = text.partition(" ")
        self._verb = verb = verb.upper()
        if line.fault is not None:
            raise line.fault
        if _CONTROL.search(line.octets):
            raise Refused(501, "5.5.2", f"a control character in {addresses.excerpt(text)}")
        if self._broken and verb != "QUIT":
            raise Refused(503, "5.5.1", "nothing can be sent from here, as the greeting said")
        event: Event | None = None
        if verb == "NOOP" and self._notes:
            event = Note(given.line, rest.strip(" \t"))
        elif verb in _ANSWERS:
            self._answer_to(verb)
        elif verb in _COMMANDS and verb not in _UNKNOWN[self._lmtp]:
            event = getattr(self, _COMMANDS[verb])(rest.strip(" \t"), given)
        else:
            raise Refused(500, "5.5.2", f"unknown command {addresses.excerpt(verb)}")
        self._understood, self._text_may_come = True, False
        return event

    def _refuse(self, refused: Refused, line: int) -> Reply:
        """The reply to a mistake in the dialogue: told, counted, and the end of a batch. Raises Failure."""
        if self._batch:
            raise Failure(f"line {line}: {refused.text}") from refused
        if self._text_may_come and refused.code in (500, 501):
            # What stands in a text may have been written by anybody, and must not be taken for commands.
            refused = Refused(521, "5.5.1", "a text came, and DATA had been refused", closing=True)
        self._mistakes += self._broken or (refused.code in _MISTAKEN and refused.status.startswith("5.5"))
        if self._partial and refused.code in (500, 501) and self._verb in ("MAIL", "RCPT"):
            refused = Refused(451, f"4{refused.status[1:]}", refused.text)
        reply = Reply(refused.code, (refused.text,))
        if self._begun is not None or self._verb in ("MAIL", "RCPT", "DATA"):
            self.refused = self.refused or reply
        if not self._partial or self._verb == "MAIL":
            self._spoilt = True  # it may have been one more recipient; behind a second MAIL they are another message's
        self._text_may_come = self._verb == "DATA"
        self._over = refused.closing
        if self._mistakes >= MISTAKES and not self._over:
            self._over = True
            self.refused = self.refused or reply
            self._say(Reply(421, ("too many mistakes",)), "4.7.0")
        else:
            self._say(reply, refused.status)
        return reply

    def _answer_to(self, verb: str) -> None:
        if self._batch and verb in _IDLE:
            return
        code, status, text = _ANSWERS[verb]
        if code >= 500:
            raise Refused(code, status, text)
        self._say(Reply(code, (text,)), status)

    def _ehlo(self, name: str, given: _Input) -> Reset | None:
        return self._hello(name, given, self._offered)

    def _helo(self, name: str, given: _Input) -> Reset | None:
        return self._hello(name, given, ())

    def _lhlo(self, name: str, given: _Input) -> Reset | None:
        return self._hello(name, given, self._offered)

    def _hello(self, name: str, given: _Input, offered: tuple[str, ...]) -> Reset | None:
        if not name and not self._batch:
            raise Refused(501, "5.5.4", f"{self._verb} wants a name")
        self._say(Reply(250, (self._hostname, *offered)))
        return self._forget(given)

    def _rset(self, _: str, given: _Input) -> Reset | None:
        # alpine says RSET when a text was refused, and shows its user the reply to that.
        self._say(Reply(250, (f"after {self._regret}" if self._regret else "forgotten",)), "2.0.0")
        return self._forget(given)

    def _forget(self, given: _Input) -> Reset | None:
        begun, self._begun = self._begun, None
        return Reset(given.line) if begun is not None else None

    def _mail(self, rest: str, given: _Input) -> Mail:
        if self._begun is not None and not self._spoilt:
            raise Refused(503, "5.5.1", "MAIL was given already")
        path, words = commands.path("MAIL", rest)
        sender = self._address(path, True)
        asked = commands.parameters("MAIL", words)
        utf8 = "SMTPUTF8" in asked
        if not self._batch:
            commands.reachable(sender, utf8)
        return Mail(
            given.line,
            sender,
            int(asked.get("SIZE", 0)),
            asked.get("BODY", "").upper(),
            utf8,
            asked.get("RET", "").upper(),
            asked.get("ENVID", ""),
        )

    def _rcpt(self, rest: str, given: _Input) -> Rcpt:
        if self._begun is None:
            raise Refused(503, "5.5.1", "RCPT comes after MAIL")
        if self._recipients >= RECIPIENTS:
            raise Refused(452, "4.5.3", f"more than {RECIPIENTS} recipients")
        path, words = commands.path("RCPT", rest)
        address = self._address(path, False)
        asked = commands.parameters("RCPT", words)
        original = asked.get("ORCPT", "")
        if not self._batch:
            commands.reachable(address + original, self._begun.utf8)
        notify = ",".join(dict.fromkeys(asked.get("NOTIFY", "").upper().split(",")))
        return Rcpt(given.line, address, notify, original)

    def _data(self, rest: str, given: _Input) -> Text:
        if self._begun is None:
            raise Refused(503, "5.5.1", "DATA comes after MAIL and RCPT")
        if self._spoilt:
            raise Refused(554, "5.5.0", "not all of it was accepted, and nothing goes to a part of the recipients")
        if not self._recipients:
            raise Refused(503, "5.5.1", "DATA comes after RCPT")
        if rest:
            raise Refused(501, "5.5.4", "DATA takes no parameter")
        self._say(Reply(354, ("the text now, and a line with a dot",)))
        return Text(given)

    def _bdat(self, _: str, given: _Input) -> None:
        # What follows is octets of a text and no commands.
        raise Refused(521, "5.5.1", "CHUNKING was not offered", closing=True)

    def _quit(self, _: str, given: _Input) -> None:
        if self._batch and self._begun is not None:
            raise Refused(503, "5.5.1", "QUIT in the middle of a message")
        self._say(Reply(221, ("goodbye",)), "2.0.0")
        self._over = self.left = True

    # -- replies

    def _say(self, reply: Reply, status: str = "") -> None:
        if not self._batch:
            self._replies += answers.on_the_wire(reply, status)
