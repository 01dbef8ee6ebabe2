"""Header fields beyond ASCII made ASCII: names and free text as encoded-words (RFC 2047), domains as A-labels."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from muawrap import addresses, charset

WORD_LIMIT = 75  # characters of an encoded-word (RFC 2047, 2)
LINE = 76  # characters of a line that holds one
_ROOM = 24  # characters of a line that are worth beginning an encoded-word there

ADDRESSES = frozenset(
    {
        *("from", "sender", "reply-to", "to", "cc", "resent-from", "resent-sender", "resent-reply-to"),
        *("resent-to", "resent-cc", "mail-followup-to", "mail-reply-to", "disposition-notification-to"),
        *("return-receipt-to", "errors-to", "delivered-to"),
    }
)
"""Fields that hold addresses."""
STRUCTURED = frozenset(
    {
        *("date", "resent-date", "message-id", "resent-message-id", "in-reply-to", "references", "received"),
        *("keywords", "mime-version", "content-type", "content-transfer-encoding", "content-id"),
        *("content-disposition", "content-location", "content-language", "content-base", "content-md5"),
        *("content-length", "autocrypt", "authentication-results", "received-spf", "list-id", "list-help"),
        *("list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post", "list-owner"),
        *("list-archive", "archived-at", "auto-submitted", "newsgroups"),
    }
)
"""Fields in which an encoded-word would be taken literally, or break what is meant."""

_BLANKS = " \t\n"
_QUOTED = r'"(?:\\.|[^"\\]+)*"'
_ENCODED_WORD = r"=\?[!-~]+\?[BbQq]\?[!-~]*\?="
# What is replaced as a whole, in free text, in a comment and in a phrase (RFC 2047, 5).
_FREE = r"[^ \t\n]+"
_COMMENT = r"(?:\\.|[^ \t\n()\\]+)+"
_PHRASE = rf'(?:{_QUOTED}|[^ \t\n"(),:;<>@]+)+'
# What stands between two addresses: comments, which nest, phrases, and specials.
_ROUTE = r"<[ \t\n]*@[^<>]*:[ \t\n]*\Z"
_AROUND = rf'(?P<special>[),:;<>@])|(?P<phrase>(?:{_QUOTED}|[^"(),:;<>@]+)+)'


def encoded(field: str) -> str:
    """A field in ASCII, as far as it can be; what is ASCII keeps its octets (RULES F7)."""
    colon = field.index(":") + 1
    name, value = field[: colon - 1].rstrip(_BLANKS).lower(), field[colon:]
    if field.isascii() or name in STRUCTURED:
        return field
    writer = _Writer(field[:colon])
    if name not in ADDRESSES:
        writer.words(value, _FREE)
        return writer.text
    try:
        mailboxes = addresses.parse_list(value)
    except addresses.AddressError:
        return field
    at = 0
    for mailbox in mailboxes:
        writer.around(value[at : mailbox.start])
        writer.plain(_in_a_labels(value[mailbox.start : mailbox.end], mailbox))
        at = mailbox.end
    writer.around(value[at:])
    return writer.text


def phrase(name: str) -> str:
    """A display name as encoded-words, each on a line of its own."""
    writer = _Writer("")
    writer.encode(name, "")
    return writer.text


class _Writer:
    """A field as it is written anew; it knows how long the line has become."""

    def __init__(self, begun: str) -> None:
        self._pieces = [begun]
        self._column = len(begun)
        self._after_word = False  # an encoded-word is what was written last

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def plain(self, text: str) -> None:
        """What keeps its octets; behind an encoded-word on a line of its own where it is long."""
        if not text:
            return
        may_go_on_below = self._after_word and text[0] in " \t" and text.strip(_BLANKS)
        if may_go_on_below and self._column + len(text.partition("\n")[0]) > LINE:
            text = "\n" + text
        self._write(text)
        self._after_word = False

    def _write(self, text: str) -> None:
        self._pieces.append(text)
        self._column = len(text) - text.rindex("\n") - 1 if "\n" in text else self._column + len(text)

    def words(self, text: str, pattern: str) -> None:
        """A text with its words beyond ASCII encoded."""
        at = 0
        for begin, end, run in _runs(text, pattern):
            before = text[at:begin]
            kept = before.rstrip(_BLANKS)
            self.plain(kept)
            self.encode(run, before[len(kept) :])
            at = end
        self.plain(text[at:])

    def around(self, text: str) -> None:
        """What stands between two addresses."""
        if text.isascii() or re.search(_ROUTE, text):  # nobody writes source routes beyond ASCII
            self.plain(text)
            return
        at = 0
        while at < len(text):
            piece = re.compile(_AROUND, re.DOTALL).match(text, at)
            if piece is None:
                end = _end_of_comment(text, at)
                self.words(text[at:end], _COMMENT)
            else:
                end = piece.end()
                if piece["phrase"]:
                    self._phrase(text[at:end])
                else:
                    self.plain(text[at:end])
            at = end

    def _phrase(self, text: str) -> None:
        """A display name; blanks part its encoded-words from what is around (RFC 2047, 5)."""
        if not text.isascii() and text[0] not in _BLANKS:
            text = " " + text
        self.words(text, _PHRASE)
        if self._after_word:
            self.plain(" ")

    def encode(self, text: str, blank: str) -> None:
        """A text as encoded-words behind a blank, where a line may end."""
        name, octets = _known(text.encode("utf-8", "surrogateescape"))
        frame = len(f"=?{name}?B??=")
        if blank and "\n" not in blank and self._column + len(blank) + _ROOM + frame > LINE:
            blank = "\n" + blank
        self._write(blank)
        room = min(WORD_LIMIT, max(LINE - self._column, frame + _ROOM)) - frame
        words = []
        at = 0
        while at < len(octets):
            end = at + room // 4 * 3
            while name == "utf-8" and end < len(octets) and octets[end] & 0xC0 == 0x80:
                end -= 1  # whole characters only (RFC 2047, 5)
            words.append(f"=?{name}?B?{base64.b64encode(octets[at:end]).decode('ascii')}?=")
            at, room = end, WORD_LIMIT - frame
        self._write("\n ".join(words))
        self._after_word = True


def _known(octets: bytes) -> tuple[str, bytes]:
    """A text in UTF-8 and that name, or as it is where nobody knows what it is in."""
    for name in ("utf-8", charset.of_the_locale()):
        try:
            return "utf-8", octets.decode(name).encode("utf-8")
        except (LookupError, UnicodeDecodeError):
            pass
    return charset.UNKNOWN, octets


def _runs(text: str, pattern: str) -> Iterator[tuple[int, int, str]]:
    """Where words beyond ASCII stand with nothing but blanks between them, and what they say together."""
    run: list[str] = []
    begin = end = 0  # of the run, or of the word before it
    beside = ""  # the blank behind an encoded-word that was there already: a reader drops it before another one
    for word in re.compile(pattern, re.DOTALL).finditer(text):
        blank = text[end : word.start()].replace("\n", "")
        apart = bool(blank.strip(_BLANKS))
        is_word = re.fullmatch(_ENCODED_WORD, word[0])
        if run and (apart or word[0].isascii()):
            yield begin, end, "".join(run) + (blank if is_word and not apart else "")
            run = []
        if not word[0].isascii():
            if run:
                run.append(blank)
            else:
                begin = word.start()
                run = [blank] if beside and not apart else []
            run.append(_meaning(word[0], pattern))
        beside = word[0] if is_word else ""
        end = word.end()
    if run:
        yield begin, end, "".join(run)


def _meaning(word: str, pattern: str) -> str:
    """What a word says, without the quotes and backslashes of its place."""
    if pattern == _PHRASE:
        return re.sub(_QUOTED, lambda quoted: addresses.unescaped(quoted[0][1:-1]), word, flags=re.DOTALL)
    return addresses.unescaped(word) if pattern == _COMMENT else word


def _end_of_comment(text: str, at: int) -> int:
    """Where the comment ends that begins there, those within it included (RFC 5322, 3.2.2)."""
    depth = 0
    for match in re.compile(r"\\.|[()]", re.DOTALL).finditer(text, at):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return len(text)


def _in_a_labels(written: str, mailbox: addresses.Mailbox) -> str:
    """An address as it was written but for its domain; one that needs SMTPUTF8 anyway stays as it is."""
    if mailbox.domain.isascii() or not mailbox.local.isascii() or not written.endswith(mailbox.domain):
        return written
    try:
        return written.removesuffix(mailbox.domain) + addresses.a_labels(mailbox.domain)
    except addresses.AddressError:
        return written
