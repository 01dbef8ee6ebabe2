"""RFC 5322 address lists and RFC 5321 mailboxes: read strictly, without the network."""

from __future__ import annotations

import re
from typing import NamedTuple

MAILBOX_LIMIT = 998
"""Octets of one mailbox: what still fits a line; RFC 5321 (4.5.3.1) asks for 256, long VERP senders need more."""
DOMAIN_LIMIT = 255  # RFC 5321, 4.5.3.1.2
LIST_LIMIT = 100_000  # addresses in one list

# RFC 5322, 3.2.3: atext; everything beyond ASCII by RFC 6532. Dots ride along, so that a dot-atom is one token.
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a0-\ud7ff\ue000-\U0010ffff"
_DOT_ATOM = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<quoted>"(?:[^"\\]|\\.)*")                   # quoted-string
    | (?P<literal>\[(?:[^\[\]\\]|\\.)*\])             # domain-literal
    | (?P<atom>[^ \t\r\n()<>\[\]:;@\\,"\x00-\x1f\x7f]+)
    | (?P<special>[<>:;@,])
    """,
    re.VERBOSE | re.DOTALL,
)
_WORD = r"A-Za-z0-9_\u00a1-\ud7ff\ue000-\U0010ffff"  # RFC 5321, 4.1.2: Let-dig; "_" is met, U-labels by RFC 6531
_LABEL = rf"[{_WORD}](?:[{_WORD}-]*[{_WORD}])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[[!-Z^-~]+\]")  # RFC 5321, 4.1.3, dtext
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


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


def same(one: str, other: str) -> bool:
    """Whether two addresses name one mailbox (RULES B1)."""
    return key(one) == key(other)


def parse_list(text: str, *, null: bool = False) -> list[Mailbox]:
    """Read an address-list (RFC 5322, 3.4, obsolete forms too): groups opened, source routes dropped.

    With `null` a "<>" is the mailbox with neither local part nor domain (RFC 5321, 4.5.5).
    Raises AddressError: nothing is guessed and nothing is left out.
    """
    tokens = _tokens(text)
    return _Parser(text, tokens, null).run()


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
    text = " ".join(_CONTROL.sub(" ", text).split())
    if all(_DOT_ATOM.fullmatch(word) and "." not in word for word in text.split(" ")):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _tokens(text: str) -> list[_Token]:
    """Words and specials, without white space and comments. Raises AddressError."""
    tokens = []
    at = 0
    while at < len(text):
        if text[at] == "(":
            at = _comment_end(text, at)
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise AddressError(_UNREADABLE.get(text[at], f"a stray {text[at]!r}"))
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(_Token(kind, match.group(), at, match.end()))
        at = match.end()
    return tokens


_UNREADABLE = {
    '"': "a quote is not closed",
    "[": 'a "[" is not closed',
    ")": 'a ")" without "("',
    "\\": "a backslash outside quotes",
}


def _comment_end(text: str, at: int) -> int:
    """Where the comment that starts at `at` ends; comments nest (RFC 5322, 3.2.2)."""
    depth = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    raise AddressError("a comment is not closed")


class _Parser:
    """Reads tokens left to right; one token of look-ahead is all the grammar needs."""

    def __init__(self, text: str, tokens: list[_Token], null: bool) -> None:
        self.text = text
        self.tokens = tokens
        self.null = null
        self.at = 0
        self.found: list[Mailbox] = []

    def peek(self) -> str:
        """The next special, "" at the end, "word" before a word."""
        if self.at == len(self.tokens):
            return ""
        token = self.tokens[self.at]
        return token.text if token.kind == "special" else "word"

    def run(self) -> list[Mailbox]:
        in_group = False
        while self.peek():
            begin = self.at
            if self.peek() == ",":  # obs-addr-list: empty elements
                self.at += 1
                continue
            if self.peek() == ";" and in_group:
                in_group = False
                self.at += 1
                continue
            words = self.words()
            following = self.peek()
            if following == ":" and words and not in_group:
                in_group = True
                self.at += 1
            elif following == "<":
                self.angle(begin)
            elif following == "@" and words:
                self.at += 1
                domain = self.domain()
                if self.peek() == "<":  # "a@b <a@b>": not RFC 5322, but the brackets leave no doubt
                    self.angle(begin)
                else:
                    self.add(words, domain, words[0].start, self.tokens[self.at - 1].end, begin)
            elif words and following in ("", ",", ";"):
                self.add(words, "", words[0].start, words[-1].end, begin)
            else:
                raise AddressError(f'a stray "{following}"')
            if len(self.found) > LIST_LIMIT:
                raise AddressError(f"more than {LIST_LIMIT} addresses")
            if self.peek() not in ("", ",", ";", ":") and following != ":":
                raise AddressError("two addresses without a comma between them")
        if in_group:
            raise AddressError('a group is not closed by ";"')
        return self.found

    def words(self) -> list[_Token]:
        begin = self.at
        while self.peek() == "word" and self.tokens[self.at].kind != "literal":
            self.at += 1
        return self.tokens[begin : self.at]

    def angle(self, begin: int) -> None:
        """angle-addr, with the route that RFC 5321 (C) tells us to drop."""
        display = ""
        opening = self.tokens[self.at]
        if self.at > begin:
            display = self.text[self.tokens[begin].start : opening.start].strip()
        self.at += 1
        if self.peek() == "@":
            while self.peek() in ("@", ","):
                if self.peek() == ",":
                    self.at += 1
                    continue
                self.at += 1
                self.domain()
            if self.peek() != ":":
                raise AddressError('a source route without ":"')
            self.at += 1
        words = self.words()
        if not words:
            if self.peek() == ">" and self.null:
                self.at += 1
                here = opening.end
                self.found.append(Mailbox("", "", display, here, here, opening.start, here + 1))
                return
            raise AddressError('nothing stands between "<" and ">"')
        start, end, domain = words[0].start, words[-1].end, ""
        if self.peek() == "@":
            self.at += 1
            domain = self.domain()
            end = self.tokens[self.at - 1].end
        if self.peek() != ">":
            raise AddressError('nothing closes the "<"')
        self.at += 1
        self.add(words, domain, start, end, begin)
        self.found[-1] = self.found[-1]._replace(display=display)

    def domain(self) -> str:
        """dot-atom or domain-literal (RFC 5321, 4.1.2 and 4.1.3); obs-domain's blanks around dots go."""
        begin = self.at
        if self.peek() == "word" and self.tokens[self.at].kind == "literal":
            self.at += 1
            literal = "".join(self.tokens[begin].text.split())
            if not _LITERAL.fullmatch(literal):
                raise AddressError("a domain literal that is none")
            return literal
        parts: list[str] = []
        while self.peek() == "word" and self.tokens[self.at].kind == "atom":
            text = self.tokens[self.at].text
            if parts and not (parts[-1].endswith(".") or text.startswith(".")):
                break
            parts.append(text)
            self.at += 1
        domain = "".join(parts)
        if not domain:
            raise AddressError('no domain after "@"')
        if len(domain.encode("utf-8", "surrogateescape")) > DOMAIN_LIMIT or not _DOMAIN.fullmatch(domain):
            raise AddressError(f"{domain!r} is no domain")
        return domain

    def add(self, words: list[_Token], domain: str, start: int, end: int, begin: int) -> None:
        local = _local_part(words)
        if len(join(local, domain).encode("utf-8", "surrogateescape")) > MAILBOX_LIMIT:
            raise AddressError(f"an address longer than {MAILBOX_LIMIT} octets")
        # The mailbox reaches from its first token to the comma that ends it, so that comments belong to it.
        first = self.tokens[begin - 1].end if begin else 0
        last = self.tokens[self.at].start if self.at < len(self.tokens) else len(self.text)
        whole = self.text[first:last]
        first += len(whole) - len(whole.lstrip())
        last -= len(whole) - len(whole.rstrip())
        self.found.append(Mailbox(local, domain, "", start, end, first, last))


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
            joined += _unquote(word.text)
        else:
            joined += word.text
        previous = word.text
    if _CONTROL.search(joined):
        raise AddressError("a control character in an address")
    if _DOT_ATOM.fullmatch(joined):
        return joined
    if not quoted:
        raise AddressError(f"{joined!r} is no local part")
    return '"' + joined.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquote(text: str) -> str:
    """The content of a quoted-string; a fold inside it is white space only (RFC 5322, 3.2.4)."""
    return re.sub(r"\\(.)", r"\1", text[1:-1].replace("\r", "").replace("\n", ""), flags=re.DOTALL)
