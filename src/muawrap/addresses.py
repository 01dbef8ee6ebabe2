"""RFC 5322 address lists and RFC 5321 mailboxes: read strictly, without the network."""

# Annotations are values here: a NamedTuple compiles those that are texts, one by one, while every delivery waits.

import re
from collections.abc import Iterator
from typing import NamedTuple

MAILBOX_LIMIT = 998
"""Octets of one mailbox: what still fits a line; RFC 5321 (4.5.3.1) asks for 256, long VERP senders need more."""
DOMAIN_LIMIT = 255  # RFC 5321, 4.5.3.1.2
LIST_LIMIT = 100_000  # addresses in one list
WORD_LIMIT = 998  # words in one display name or local part
SHOWN = 60  # characters of a bad word that an error quotes

# RFC 5322, 3.2.3: atext; everything beyond ASCII by RFC 6532. Dots ride along, so that a dot-atom is one token.
# Sets name what is not in them, and leave surrogates to _NOT_UTF8: large ones take milliseconds to compile. What only
# the full grammar needs is compiled when it is met, by way of the cache that re keeps.
_ATEXT = r"""[^\x00-\x20"(),.:;<>@\[\\\]\x7f-\x9f]"""
_DOT_ATOM = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
_ATOM = r'[^ \t\r\n()<>\[\]:;@\\,"\x00-\x1f\x7f]+'
_TOKEN = rf"(?P<space>[ \t\r\n]+)|(?P<atom>{_ATOM})|(?P<special>[<>:;@,])"
_BLANKS = " \t\r\n"  # str.strip() alone takes blanks beyond ASCII, too, and those are atext
# What encloses text: its kind, the end of it and what else counts inside, and the error when there is no end.
_ENCLOSED = {
    "(": ("comment", r"\\.|[()]", "a comment is not closed"),
    '"': ("quoted", r'\\.|"', "a quote is not closed"),
    "[": ("literal", r"\\.|\]", 'a "[" is not closed'),
}
_UNREADABLE = {")": 'a ")" without "("', "]": 'a "]" without "["', "\\": "a backslash outside quotes"}
_WORD = r"[^\x00-/:-@\[-^`{-\xa0]"  # RFC 5321, 4.1.2: Let-dig; "_" is met, U-labels by RFC 6531
_LABEL = rf"{_WORD}(?:[^\x00-,./:-@\[-^`{{-\xa0]*{_WORD})?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[A-Za-z0-9.:-]+\]"  # RFC 5321, 4.1.3, but only what an IP address or a tag is made of
_LDH = r"[A-Za-z0-9_-]{1,63}"
# What IDNA 2003, which Python has, and IDNA 2008 take for different domains, each of which may belong to somebody
# else (RFC 5894, 7.2): sharp s, final sigma, and the joiners.
_TWO_WAYS = "[\xdf\u1e9e\u03c2\u200c\u200d]"
_DOTS = "[.\u3002\uff0e\uff61]"  # RFC 3490, 3.1
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
_NOT_UTF8 = r"[\ud800-\udfff]"

_ASCII = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ASCII_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
PLAIN = rf"(?P<local>{_ASCII}(?:\.{_ASCII})*)(?:@(?P<domain>{_ASCII_LABEL}(?:\.{_ASCII_LABEL})*))?"
"""An address as most are: nothing quoted, nothing beyond ASCII. Up to PLAIN_LIMIT characters it means what it says."""
PLAIN_LIMIT = 255
_PLAIN_ITEM = re.compile(
    rf"""
    [ \t\r\n]*
    (?P<whole>
        (?: (?: (?P<display> "[^"\\]*" | {_ATOM} (?: [ \t\r\n]+ {_ATOM} ){{0,9}} ) [ \t\r\n]* )? (?P<angle> < ) )?
        {PLAIN}
        (?(angle) > )
    )
    [ \t\r\n]* (?: , | \Z )
    """,
    re.VERBOSE,
)


class AddressError(ValueError):
    """Why a text is no address list; the message is a clause such as 'nothing closes the "<"'."""


class Mailbox(NamedTuple):
    """One mailbox of a list, and where it stands in the text it was read from."""

    local: str  # as it goes into an envelope: quoted only where it must be
    domain: str  # "" for a bare name
    display: str  # the display name as written, quotes and all; "" without one
    start: int  # text[start:end] is the addr-spec
    end: int
    first: int  # text[first:last] is the whole mailbox with display name, brackets and comments
    last: int

    @property
    def address(self) -> str:
        """local@domain, or the bare name."""
        return join(self.local, self.domain)


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def join(local: str, domain: str) -> str:
    """An address from its halves; without a domain it stays bare."""
    return f"{local}@{domain}" if domain else local


def split(address: str) -> tuple[str, str]:
    """The halves of an address as `Mailbox.address` writes it: ("root", "") for a bare name."""
    if address.endswith('"') or "@" not in address:  # a bare quoted name may hold an "@"
        return address, ""
    local, _, domain = address.rpartition("@")
    return local, domain


def key(address: str) -> str:
    """What decides whether two addresses are one: local parts exactly, domains without case (RULES B1)."""
    local, domain = split(address)
    return join(local, domain.lower())


def in_a_labels(address: str) -> str:
    """The address with its domain as it travels, and as it is compared (RULES F7). Raises AddressError."""
    if address.isascii():
        return address
    local, domain = split(address)
    return join(local, a_labels(domain))


def a_labels(domain: str) -> str:
    """A domain in ASCII, each label beyond it as its A-label (RFC 3490). Raises AddressError."""
    if domain.isascii():
        return domain
    labels = re.split(_DOTS, domain)
    if not all(labels):
        raise AddressError(f"{excerpt(domain)} is no domain")
    made = ".".join(label if label.isascii() else _a_label(label) for label in labels)
    if len(made) > DOMAIN_LIMIT:
        raise AddressError(f"{excerpt(made)} is longer than a domain may be")
    return made


def _a_label(label: str) -> str:
    """What is made of a label must be one: NFKC turns some characters into dots, blanks and brackets."""
    from encodings import idna

    if differing := re.search(_TWO_WAYS, label):
        raise AddressError(f"{excerpt(label)} is one domain or another, as {differing[0]!r} is read; write its A-label")
    try:
        prepared = idna.nameprep(label)
        made = idna.ToASCII(label).decode("ascii")
    except UnicodeError:
        prepared = made = ""
    if not re.fullmatch(_LDH, made) or prepared.startswith("-") or prepared.endswith("-"):
        raise AddressError(f"{excerpt(label)} is no label of a domain (IDNA)")
    return made


def xtext(text: str) -> str:
    """Printable ASCII as a parameter of SMTP takes it (RFC 3461, 4)."""
    return "".join(char if "!" <= char <= "~" and char not in "+=" else f"+{ord(char):02X}" for char in text)


def same(one: str, other: str) -> bool:
    """Whether two addresses name one mailbox (RULES B1)."""
    return key(one) == key(other)


def parse_list(text: str, *, null: bool = False) -> list[Mailbox]:
    """Read an address-list (RFC 5322, 3.4, obsolete forms too): groups opened, source routes dropped.

    With `null` a "<>" is the mailbox with neither local part nor domain (RFC 5321, 4.5.5).
    Raises AddressError: nothing is guessed and nothing is left out.
    """
    found, at = _plain_items(text)
    return _Parser(text, null, found, at).run() if at < len(text) else found


def parse_one(text: str, *, null: bool = False) -> Mailbox:
    """Read a text that must hold exactly one mailbox. Raises AddressError."""
    mailboxes = parse_list(text, null=null)
    if len(mailboxes) != 1:
        raise AddressError("it holds no address" if not mailboxes else "it holds more than one address")
    return mailboxes[0]


def is_ascii(address: str) -> bool:
    """Whether an address can be named without SMTPUTF8 (RFC 6531)."""
    return address.isascii()


def phrase(text: str) -> str:
    """A display name as it may stand before "<": as it is where atoms do, else as a quoted-string (RFC 5322, 3.2.4)."""
    text = " ".join(re.sub(_NOT_UTF8, " ", re.sub(_CONTROL, " ", text)).split())
    if all(re.fullmatch(_DOT_ATOM, word) and "." not in word for word in text.split(" ")):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain_items(text: str) -> tuple[list[Mailbox], int]:
    """The mailboxes a list begins with that need no parser, and where the others begin. Raises AddressError."""
    found: list[Mailbox] = []
    at = 0
    while at < len(text) and (item := _PLAIN_ITEM.match(text, at)):
        start, end = item.start("local"), item.end("local" if item["domain"] is None else "domain")
        if end - start > PLAIN_LIMIT:
            break
        found.append(
            Mailbox(item["local"], item["domain"] or "", item["display"] or "", start, end, *item.span("whole"))
        )
        if len(found) > LIST_LIMIT:
            raise AddressError(f"more than {LIST_LIMIT} addresses")
        at = item.end()
    return found, at


def _tokens(text: str, at: int) -> Iterator[_Token]:
    """Words and specials from there on, without white space and comments. Raises AddressError."""
    token = re.compile(_TOKEN)
    while at < len(text):
        start = at
        if text[at] in _ENCLOSED:
            kind, at = _enclosed(text, at)
        else:
            match = token.match(text, at)
            if match is None:
                raise AddressError(_UNREADABLE.get(text[at], f"a stray {text[at]!r}"))
            kind, at = match.lastgroup or "", match.end()
        if kind not in ("space", "comment"):
            yield _Token(kind, text[start:at], start, at)


def _enclosed(text: str, at: int) -> tuple[str, int]:
    """The kind and the end of the comment, quoted-string or domain-literal that starts at `at`. Raises AddressError."""
    kind, inside, unclosed = _ENCLOSED[text[at]]
    depth = 1
    for match in re.compile(inside, re.DOTALL).finditer(text, at + 1):
        if match.group() == "(":
            depth += 1  # only comments nest (RFC 5322, 3.2.2)
        elif len(match.group()) == 1:
            depth -= 1
        if depth == 0:
            return kind, match.end()
    raise AddressError(unclosed)


class _Parser:
    """Reads tokens left to right; one token of look-ahead is all the grammar needs."""

    def __init__(self, text: str, null: bool, found: list[Mailbox], at: int) -> None:
        self.text = text
        self.null = null
        self.found = found  # what has been read up to `at`
        self.tokens = _tokens(text, at)
        self.token = next(self.tokens, None)
        self.end = at  # of the token before that one

    def peek(self) -> str:
        """The next special, "" at the end, "word" before a word."""
        if self.token is None:
            return ""
        return self.token.text if self.token.kind == "special" else "word"

    def take(self) -> _Token:
        """The next token, which is then behind us; never asked for at the end."""
        assert self.token is not None
        taken = self.token
        self.end = taken.end
        self.token = next(self.tokens, None)
        return taken

    def run(self) -> list[Mailbox]:
        in_group = False
        while self.token is not None:
            if self.peek() == ",":  # obs-addr-list: empty elements
                self.take()
                continue
            if self.peek() == ";" and in_group:
                in_group = False
                self.take()
                continue
            after, begin = self.end, self.token.start
            words = self.words()
            following = self.peek()
            if following == ":" and words and not in_group:
                in_group = True
                self.take()
                continue
            if following == "<":
                self.angle(begin, after)
            elif following == "@" and words:
                self.take()
                domain = self.domain()
                if self.peek() == "<":  # "a@b <a@b>": not RFC 5322, but the brackets leave no doubt
                    self.angle(begin, after)
                else:
                    self.add(words, domain, self.end, after)
            elif words and following in ("", ",", ";"):
                self.add(words, "", words[-1].end, after)
            else:
                raise AddressError(f"a stray {excerpt(self.token.text) if self.token else following}")
            if len(self.found) > LIST_LIMIT:
                raise AddressError(f"more than {LIST_LIMIT} addresses")
            if self.peek() not in ("", ",", ";"):
                raise AddressError("two addresses without a comma between them")
        if in_group:
            raise AddressError('a group is not closed by ";"')
        return self.found

    def words(self) -> list[_Token]:
        """The atoms and quoted-strings that stand here; there may be none."""
        words: list[_Token] = []
        while self.token is not None and self.token.kind in ("atom", "quoted"):
            words.append(self.take())
            if len(words) > WORD_LIMIT:
                raise AddressError(f"more than {WORD_LIMIT} words without a comma")
        return words

    def angle(self, begin: int, after: int) -> None:
        """angle-addr behind the display name that begins at `begin`; RFC 5321 (C) tells us to drop its route."""
        opening = self.take()
        display = self.text[begin : opening.start].strip(_BLANKS)
        if self.peek() == "@":
            while self.peek() in ("@", ","):
                if self.take().text == "@":
                    self.domain()
            if self.peek() != ":":
                raise AddressError('a source route without ":"')
            self.take()
        words = self.words()
        if not words and self.peek() == ">" and self.null:
            self.found.append(Mailbox("", "", display, opening.end, opening.end, opening.start, self.take().end))
            return
        if not words:
            raise AddressError('nothing stands between "<" and ">"' if self.peek() == ">" else 'no address after "<"')
        domain = ""
        if self.peek() == "@":
            self.take()
            domain = self.domain()
        end = self.end
        if self.peek() != ">":
            raise AddressError('nothing closes the "<"')
        self.take()
        self.add(words, domain, end, after)
        self.found[-1] = self.found[-1]._replace(display=display)

    def domain(self) -> str:
        """dot-atom or domain-literal (RFC 5321, 4.1.2 and 4.1.3); obs-domain's blanks around dots go."""
        if self.token is not None and self.token.kind == "literal":
            literal = re.sub(rf"[{_BLANKS}]", "", self.take().text)
            if not re.fullmatch(_LITERAL, literal) or len(literal) > DOMAIN_LIMIT:
                raise AddressError(f"{excerpt(literal)} is no domain literal")
            return literal
        domain = ""
        while self.token is not None and self.token.kind == "atom" and len(domain) <= DOMAIN_LIMIT:
            if domain and not (domain.endswith(".") or self.token.text.startswith(".")):
                break
            domain += self.take().text
        if not domain:
            raise AddressError('no domain after "@"')
        if not re.fullmatch(_DOMAIN, domain) or re.search(_NOT_UTF8, domain) or len(domain.encode()) > DOMAIN_LIMIT:
            raise AddressError(f"{excerpt(domain)} is no domain")
        return domain

    def add(self, words: list[_Token], domain: str, end: int, after: int) -> None:
        """One more mailbox, whose addr-spec ends at `end`; the token before it ended at `after`."""
        local = _local_part(words)
        if len(join(local, domain).encode()) > MAILBOX_LIMIT:
            raise AddressError(f"an address longer than {MAILBOX_LIMIT} octets")
        # The mailbox reaches from there to the comma that ends it, so that comments belong to it.
        last = self.token.start if self.token else len(self.text)
        whole = self.text[after:last]
        first = after + len(whole) - len(whole.lstrip(_BLANKS))
        last -= len(whole) - len(whole.rstrip(_BLANKS))
        self.found.append(Mailbox(local, domain, "", words[0].start, end, first, last))


def _local_part(words: list[_Token]) -> str:
    """One dot-atom or quoted-string, or obs-local-part's words joined by dots. Raises AddressError."""
    joined = ""
    quoted = False
    previous = ""
    for word in words:
        if previous and not (previous.endswith(".") or word.text.startswith(".")):
            raise AddressError("two words where an address should be")
        if word.kind == "quoted":
            quoted = True
            joined += unescaped(word.text[1:-1])
        else:
            joined += word.text
        previous = word.text
    if re.search(_CONTROL, joined) or re.search(_NOT_UTF8, joined):
        raise AddressError("a control character, or what is not UTF-8, in an address")
    if re.fullmatch(_DOT_ATOM, joined):
        return joined
    if not quoted:
        raise AddressError(f"{excerpt(joined)} is no local part")
    return '"' + joined.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unescaped(text: str) -> str:
    """What stands in a quoted-string or a comment; a fold inside it is white space only (RFC 5322, 3.2.4)."""
    return re.sub(r"\\(.)", r"\1", text.replace("\r", "").replace("\n", ""), flags=re.DOTALL)


def excerpt(text: str) -> str:
    """A word as an error quotes it; of a long one the beginning."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")
