"""The sendmail command line, as one table of data, turned into an Invocation."""

from __future__ import annotations

import os
import re
from collections import deque
from typing import NamedTuple

from muawrap import addresses
from muawrap.failure import Failure
from muawrap.mail import Invocation

# Kinds of value, as getopt(3) has them. An attached value is never taken from the next word.
NONE, REQUIRED, ATTACHED = "none", "required", "attached"


class Option(NamedTuple):
    """One row: the letter, the kind of its value, what is done with it, and a line for the manual."""

    letter: str
    kind: str
    effect: str
    help: str


# What is done: a name is a method of _Reading; "ignore" and "refuse" speak for themselves. An ignored option has
# its reason beside it, so that nobody has to wonder whether it was forgotten.
OPTIONS = (
    Option("-A", REQUIRED, "ignore", "choose submission or daemon configuration; there is one only"),
    Option("-B", REQUIRED, "ignore", "body type; the body itself is looked at"),
    Option("-b", REQUIRED, "mode", "mode of operation, see MODES"),
    Option("-C", REQUIRED, "config", "configuration file"),
    Option("-c", NONE, "ignore", "hold mail for expensive mailers; there is no queue"),
    Option("-D", REQUIRED, "refuse", "writes a file the caller names"),
    Option("-d", ATTACHED, "verbose", "debugging, as -v"),
    Option("-E", ATTACHED, "ignore", "Sony NEWS-OS; accepted so that old callers keep working"),
    Option("-e", REQUIRED, "ignore", "error disposition; errors go to standard error and the exit status"),
    Option("-F", REQUIRED, "full_name", "full name of the sender, for a From: that has to be added"),
    Option("-f", REQUIRED, "sender", "envelope sender; empty or <> is the null sender"),
    Option("-G", NONE, "gateway", "gateway submission: no header is added"),
    Option("-h", REQUIRED, "hop_count", "hop count; checked to be a number, then ignored: Received: lines count"),
    Option("-I", NONE, "newaliases", "as -bi"),
    Option("-i", NONE, "ignore_dots", "a line with a lone dot does not end the message"),
    Option("-J", ATTACHED, "ignore", "Sony NEWS-OS; accepted so that old callers keep working"),
    Option("-L", REQUIRED, "ignore", "tag for syslog; every line there begins with muawrap, so that it can be found"),
    Option("-M", REQUIRED, "refuse", "controls queued messages; there is no queue"),
    Option("-m", NONE, "ignore", "send to me too; a sender in an alias always gets his copy"),
    Option("-N", REQUIRED, "notify", "delivery status notifications: never, or of success, failure, delay"),
    Option("-n", NONE, "ignore", "no aliasing; aliases are how bare names reach anybody at all"),
    Option("-O", REQUIRED, "long_option", "option by long name; IgnoreDots is honoured, the rest ignored"),
    Option("-o", REQUIRED, "short_option", "option by letter, see SHORT_OPTIONS"),
    Option("-p", REQUIRED, "ignore", "protocol and host the message came by; we are where it starts"),
    Option("-Q", ATTACHED, "refuse", "quarantines queued messages; there is no queue"),
    Option("-q", ATTACHED, "queue_run", "run the queue: nothing to do; -q with a time asks for a daemon"),
    Option("-R", REQUIRED, "returns", "how much a notification returns: full or hdrs"),
    Option("-r", REQUIRED, "sender", "old name of -f"),
    Option("-S", REQUIRED, "refuse", "selects queued messages by sender; there is no queue"),
    Option("-s", NONE, "ignore", "save From lines; a leading one is always dropped"),
    Option("-T", NONE, "ignore", "timeout of queued messages; there is no queue"),
    Option("-t", NONE, "extract", "take recipients from To:, Cc: and Bcc:"),
    Option("-U", NONE, "utf8", "ask for SMTPUTF8"),
    Option("-V", REQUIRED, "envelope_id", "envelope identifier for notifications"),
    Option("-v", NONE, "verbose", "show the dialogue on standard error"),
    Option("-X", REQUIRED, "traffic_log", "traffic log; the word is swallowed and never opened"),
    Option("-x", NONE, "ignore", "AIX; accepted so that old callers keep working"),
)

DAEMON = "this program runs no daemon"
MODES = {  # -bX
    "a": "deliver",  # ARPANET mode; CRLF is always accepted
    "m": "deliver",
    "p": "queue",
    "i": "nothing",
    "v": "verify",
    "t": "verify",
    "V": "version",
    "d": DAEMON,
    "D": DAEMON,
    "l": DAEMON,
    "df": DAEMON,
    "w": DAEMON,
    "s": "smtp",
    "S": "batch",
}
KNOWN_MODES = ("deliver", "smtp", "batch", "verify", "queue", "run", "nothing", "version", "help")

NAMES = {  # argv[0] decides, options override
    "mailq": "-bp",
    "newaliases": "-bi",
    "rmail": "-i",
    "rsmtp": "-bS",
    "runq": "-q",
    "smtpd": "-bd",
    "hoststat": "-bi",  # nothing to say and nothing to do, like -bi
    "purgestat": "-bi",
}

# -oX: what is done where it is not simply ignored. Callers know dozens of letters; none of them changes anything
# here, because a delivery is always at once, and always reported by standard error and exit status (RULES E6).
SHORT_OPTIONS = {
    "i": "ignore_dots",
    "v": "verbose",
    "P": "refuse",
    "X": "refuse",
    "Y": "refuse",
}
NEEDS_ATTACHED = ("A", "Q", "T", "r", "s")  # alone they would take the next word in some programs, not in others
EXIM_MACROS = ("a", "aa", "as", "ai", "i", "m", "r", "s", "t")  # Exim's -oMx takes the next word
QUEUE_TIME = re.compile(r"[a-z]*[0-9]")  # -q15m, -qf15m, -qp15m: again and again, which takes a daemon
NO_MESSAGE = re.compile(r"-(?:b[^amS]|q|I)")
DASHED = re.compile(r"(?:^|,)\s*-")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_BY_LETTER = {option.letter[1]: option for option in OPTIONS}


def parse(argv: list[str]) -> Invocation:
    """Read argv, program name first, by getopt's rules with bundling; options may follow addresses (RULES E).

    Raises Failure: an option is never guessed, for a guess mails its argument.
    """
    reading = _Reading()
    name = os.path.basename(argv[0]) if argv else ""
    words = argv[1:]
    for word in words:
        if CONTROL.search(word):
            raise Failure(f"a control character in the argument {word!r}")
    if words[:1] == ["--version"]:
        return Invocation(mode="version")
    if words[:1] == ["--help"]:
        return Invocation(mode="help")
    if name in NAMES:
        reading.run([NAMES[name]])
    reading.run(words)
    return reading.result()


def expected_mode(argv: list[str]) -> str:
    """What stands on standard input, as far as a command line tells that may be unreadable (RULES A6, E8)."""
    if "-bs" in argv[1:]:
        return "smtp"
    name = os.path.basename(argv[0]) if argv else ""
    takes_message = NAMES.get(name, "-i") in ("-i", "-bS") and not any(map(NO_MESSAGE.match, argv[1:]))
    return "deliver" if takes_message else "refused"


def _begins_with_dash(word: str) -> bool:
    """Whether an address of an argument begins with a dash that no bracket protects (RULES E2)."""
    text = word.removeprefix("\\")
    try:
        return any(
            box.local.startswith("-") and not text.endswith("<", 0, box.start) for box in addresses.parse_list(text)
        )
    except addresses.AddressError:  # which is told later; an option that slipped in should be called one
        return bool(DASHED.search(word))


class _Reading:
    """Walks the words; each option's effect is the method of that name."""

    def __init__(self) -> None:
        self.words: deque[str] = deque()
        self.operands: list[str] = []
        self.fields: dict[str, object] = {}

    def run(self, words: list[str]) -> None:
        self.words = deque(words)
        while self.words:
            word = self.words.popleft()
            if word == "--":
                self.operands += self.words
                self.words.clear()
            elif word == "-":
                raise Failure('the argument "-" is neither an option nor an address')
            elif word.startswith("-"):
                self.bundle(word)
            elif _begins_with_dash(word):
                raise Failure(f"the argument {word!r} holds an address that begins with a dash", advice="put -- first")
            else:
                self.operands.append(word)

    def bundle(self, word: str) -> None:
        """The options of one word: -it, -tifADDRESS."""
        rest = word[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            option = _BY_LETTER.get(letter)
            if option is None:
                raise Failure(f"unknown option {word if word.startswith('--') else '-' + letter}", advice=_SEE)
            value = ""
            if option.kind != NONE:
                value, rest = rest, ""
                if option.kind == REQUIRED and not value:
                    if not self.words:
                        raise Failure(f"option -{letter} needs a value", advice=_SEE)
                    value = self.words.popleft()
            self.apply(option.letter, option.effect, value, option.help)

    def apply(self, shown: str, effect: str, value: str, why: str) -> None:
        if effect == "ignore":
            return
        if effect == "refuse":
            raise Failure(f"option {shown} is refused: {why}")
        getattr(self, effect)(value)

    # -- effects, one method a row

    def mode(self, value: str) -> None:
        mode = MODES.get(value)
        if mode is None:
            raise Failure(f"unknown mode -b{value}", advice=_SEE)
        if mode in KNOWN_MODES:
            self.fields["mode"] = mode
        else:
            self.refuse_mode(f"-b{value}", mode)

    def refuse_mode(self, shown: str, why: str) -> None:
        # Told after the whole line is read, as a mode of its own: one that takes no message (RULES A6, E5).
        self.fields["mode"] = "refused"
        self.fields["refusal"] = f"option {shown} is refused: {why}"

    def newaliases(self, _: str) -> None:
        self.fields["mode"] = "nothing"

    def queue_run(self, value: str) -> None:
        if QUEUE_TIME.match(value):
            self.refuse_mode(f"-q{value}", DAEMON)
        else:
            self.fields["mode"] = "run"

    def config(self, value: str) -> None:
        # A web application that can add words behind an address must not choose our configuration (RULES E2).
        if self.operands:
            raise Failure("option -C is refused after an address")
        if not value:
            raise Failure("option -C needs the name of a file")
        self.fields["config"] = value

    def sender(self, value: str) -> None:
        self.fields["sender"] = value  # given twice, the last one counts

    def full_name(self, value: str) -> None:
        self.fields["full_name"] = value

    def extract(self, _: str) -> None:
        self.fields["extract"] = True

    def ignore_dots(self, value: str) -> None:
        self.fields["dot_ends"] = value[:1].lower() in ("f", "n", "0")  # false, no; nothing at all is a yes

    def gateway(self, _: str) -> None:
        self.fields["gateway"] = True

    def utf8(self, _: str) -> None:
        self.fields["utf8"] = True

    def verbose(self, _: str) -> None:
        self.fields["verbose"] = True

    def hop_count(self, value: str) -> None:
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise Failure(f"option -h needs a number, not {value!r}")

    def traffic_log(self, value: str) -> None:
        if re.fullmatch(r"V(..)?", value):
            raise Failure(f"option -X{value} is refused: one transaction has one sender for all recipients (no VERP)")

    def notify(self, value: str) -> None:
        """RFC 3461, 4.1: NEVER alone, or a list of SUCCESS, FAILURE, DELAY."""
        items = value.upper().split(",")
        if items != ["NEVER"] and not set(items) <= {"SUCCESS", "FAILURE", "DELAY"}:
            raise Failure(f"option -N knows never, or a list of success, failure and delay, not {value!r}")
        self.fields["notify"] = ",".join(dict.fromkeys(items))

    def returns(self, value: str) -> None:
        """RFC 3461, 4.3."""
        kind = {"full": "FULL", "hdrs": "HDRS", "headers": "HDRS"}.get(value.lower())
        if kind is None:
            raise Failure(f"option -R knows full and hdrs, not {value!r}")
        self.fields["returns"] = kind

    def envelope_id(self, value: str) -> None:
        """RFC 3461, 4.4: at most 100 printable characters, sent as xtext."""
        if not value or len(value) > 100 or not all(" " <= char <= "~" for char in value):
            raise Failure(f"option -V needs 1 to 100 printable ASCII characters, not {value!r}")
        self.fields["envelope_id"] = addresses.xtext(value)

    def long_option(self, value: str) -> None:
        name, _, setting = value.partition("=")
        if name.strip().lower() == "ignoredots":
            self.ignore_dots(setting.strip())

    def short_option(self, value: str) -> None:
        letter, setting = value[:1], value[1:]
        if letter == "M":
            if setting in EXIM_MACROS and self.words:
                self.words.popleft()
        elif letter in NEEDS_ATTACHED and not setting:
            raise Failure(f"option -o{letter} needs its value attached, as in -o{letter}VALUE")
        elif letter in SHORT_OPTIONS:
            self.apply(f"-o{letter}", SHORT_OPTIONS[letter], setting, DAEMON)

    def result(self) -> Invocation:
        mode = self.fields.get("mode", "deliver")
        for operand in self.operands:
            if not operand.strip() and mode in ("deliver", "verify"):
                raise Failure("an empty argument is no address")
        if mode in ("nothing", "run") and (self.operands or self.fields.get("extract")):
            # "sendmail -q user@example.org" is a slip, and a message may be waiting on standard input.
            given = repr(self.operands[0]) if self.operands else "-t"
            raise Failure(f"this mode takes no message and no address, but {given} was given", advice=_SEE)
        if mode in ("smtp", "batch") and (self.operands or self.fields.get("extract")):
            given = repr(self.operands[0]) if self.operands else "-t"
            raise Failure(f"this mode takes its recipients from RCPT, but {given} was given", advice=_SEE)
        if mode == "verify" and not self.operands:
            raise Failure("no address to look up: name one", advice=_SEE)
        if mode == "deliver" and not self.operands and not self.fields.get("extract"):
            raise Failure("no recipient: name one, or use -t to take them from the message", advice=_SEE)
        return Invocation(recipients=tuple(self.operands), **self.fields)  # type: ignore[arg-type]


_SEE = "see sendmail(8)"
