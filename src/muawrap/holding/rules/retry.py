"""Exim's retry rules: their grammar, and the rule that is for a host, an address and an error.

    rule    = pattern WS error [WS "senders" "=" list] [WS sets]
    sets    = set *( ";" set ) [";"]
    set     = F "," time "," time  /  (G / H) "," time "," time "," factor

Rules stand below `begin retry`, or are all there is; `domainlist NAME = ...` and `addresslist NAME = ...` come before
them. A text that begins with a set is one rule, for everything. A line that ends with a backslash goes on in the next,
and one that begins with "#" is a comment. The first rule in the file that fits is the one; a rule without sets means
that the first failure is final, and where no rule fits it is, too (INTERMITTENT 3.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from muawrap.addresses import excerpt
from muawrap.failure import Failure
from muawrap.holding.rules import errors
from muawrap.holding.rules.errors import Error
from muawrap.holding.rules.lists import Lists, Test, unescaped

THOUSAND = 1000
"""Factors are whole thousandths."""

_SECTION = re.compile(r"begin[ \t]+([a-z]+)[ \t]*")
_NAMED_LIST = re.compile(r"(domain|address)list(?:_cache)?[ \t]+([A-Za-z0-9_]+)[ \t]*=[ \t]*(.*)", re.DOTALL)
_MACRO = re.compile(r"([A-Z][A-Za-z0-9_]*)[ \t]*=")
_DIRECTIVE = re.compile(r"\.(?:include|include_if_exists|ifdef|ifndef|else|elifdef|elifndef|endif)\b")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([^" \t][^ \t]*)', re.DOTALL)
_SENDERS = re.compile(r"senders[ \t]*(=?)[ \t]*")
_SET = re.compile(r"([A-Za-z]),[ \t]*([^,; \t]*),[ \t]*([^,; \t]*)(?:,[ \t]*([^,; \t]*))?")
_NEXT = re.compile(r"[ \t]*(?:;[ \t]*|\Z)")
_FACTOR = re.compile(r"([0-9]{1,7})(?:\.([0-9]*))?")
_LIKE = "write them like F,2h,15m; G,16h,1h,1.5"
_MEANT_SETS = re.compile(r"[A-Za-z][ \t]*,")


class Set(NamedTuple):
    """For how long, and in what intervals: times in seconds."""

    letter: str  # F: the interval stays; G: it grows by the factor; H: so, with chance
    cutoff: int  # until so long after the first failure
    interval: int  # the first, or only
    factor: int = THOUSAND  # of G and H, in thousandths

    def printed(self) -> str:
        """As `exim -brt` does, which leaves out the factor of H."""
        text = f"{self.letter},{errors.duration(self.cutoff)},{errors.duration(self.interval)}"
        if self.letter != "G":
            return text
        whole, rest = divmod(self.factor, THOUSAND)
        return f"{text},{whole}.{f'{rest:03}'.rstrip('0') or '0'}"


class Rule(NamedTuple):
    """One line of the rules."""

    pattern: str  # as written, without quotes
    error: Error
    senders: str | None  # the list as written; None: whoever the sender is
    sets: tuple[Set, ...]  # none: the first failure is final
    line: int  # where it begins

    def printed(self) -> str:
        """The line that `exim -brt` prints, with the blank at its end."""
        return f"Retry rule: {self.pattern}  {self.error.printed()}  " + "".join(
            f"{one.printed()}; " for one in self.sets
        )


class _Tested(NamedTuple):
    rule: Rule
    fits: Test
    is_from: Test | None


class Rules:
    """All rules of a text, in order, and what there is to say about them."""

    def __init__(self, tested: tuple[_Tested, ...], remarks: tuple[str, ...] = ()) -> None:
        self._tested = tested
        self.remarks = remarks

    def __iter__(self) -> Iterator[Rule]:
        return (one.rule for one in self._tested)

    def find(self, key: str, error: str = "", alternate: str = "", sender: str | None = None) -> Rule | None:
        """The first rule for a host or an address, then for the domain that it was for. Raises Failure.

        key        a host name, up to a colon; or an address
        error      a name of an error that a rule could be for, "" for any other
        alternate  the domain of the address; on each line it is looked at after the key
        sender     None where none is known: no rule with senders fits; "" is the null sender
        """
        event = errors.error(error)
        name = key.partition(":")[0]
        subjects = [name if "@" in name else f"*@{name}"]
        if alternate:
            subjects.append(f"*@{alternate}")
        for rule, fits, is_from in self._tested:
            if not rule.error.covers(event) or (is_from and (sender is None or not is_from(sender))):
                continue
            if any(fits(subject) for subject in subjects):
                return rule
        return None


def parse(text: str, source: str = "the retry rules") -> Rules:
    """The rules of a file, or of a text in the configuration; see above. Raises Failure, which names the line."""
    lines = list(_logical_lines(text))
    if lines and _MEANT_SETS.match(lines[0][1]):
        number = lines[0][0]
        lines = [(number, "* * " + " ".join(line for _, line in lines))]
    given, named, macros = _sections(lines)
    lists = Lists(named["domain"], named["address"], macros)
    tested = []
    remarks = []
    for number, line in given:
        try:
            one, name = _rule(lists.settled(line), number, lists)
        except Failure as failure:
            what = f"{source} line {number}: {failure}"
            raise Failure(what, lead=failure.lead, advice=failure.advice) from failure
        tested.append(one)
        if errors.is_no_longer(name):
            remarks.append(f"{source} line {number}: there is no {name} any more, and it is read as timeout")
    return Rules(tuple(tested), tuple(remarks))


# -- lines ----------------------------------------------------------------------------------------------------------


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line that says something, and the number of the line where it begins.

    As in Exim a comment may stand between a line and its continuation, and a blank line ends them.
    """
    begun = 0
    parts: list[str] = []
    for number, line in enumerate(text.replace("\0", "").split("\n"), 1):
        line = line.strip()
        if line.startswith("#"):
            continue
        begun = begun or number
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            if joined := "".join(parts).strip():
                yield begun, joined
            begun, parts = 0, []
    if joined := "".join(parts).strip():
        yield begun, joined


def _sections(lines: list[tuple[int, str]]) -> tuple[list[tuple[int, str]], dict[str, dict[str, str]], list[str]]:
    """The lines that are rules, the named lists by their kind, and the names of macros.

    With any `begin` this is a whole configuration: of its main part only lists and macros count.
    """
    whole = any(_SECTION.fullmatch(line) for _, line in lines)
    section = "main" if whole else "retry"
    rules: list[tuple[int, str]] = []
    named: dict[str, dict[str, str]] = {"domain": {}, "address": {}}
    macros = []
    for number, line in lines:
        if match := _SECTION.fullmatch(line):
            section = match[1]
        elif (section == "main" or not whole) and (match := _NAMED_LIST.fullmatch(line)):
            quoted = _WORD.fullmatch(match[3])
            value = unescaped(quoted[1]) if quoted and quoted[1] is not None else match[3]
            named[match[1]][match[2]] = value
        elif match := _MACRO.match(line):
            macros.append(match[1])
        elif section == "retry":
            rules.append((number, line))
    return rules, named, macros


# -- one rule -------------------------------------------------------------------------------------------------------


def _rule(line: str, number: int, lists: Lists) -> tuple[_Tested, str]:
    """A rule, and the name of its error as written. Raises Failure."""
    if _DIRECTIVE.match(line):
        raise Failure(f"the directive {line.split()[0]} is not obeyed here", advice="write the rules out")
    pattern, rest = _word(line, "the pattern")
    name = rest.split()[0] if rest else ""
    if not name:
        raise Failure("no error stands behind the pattern", advice="write * for any, as in: example.org * F,2h,15m")
    error = errors.error(name)
    rest = rest[len(name) :].lstrip(" \t")
    senders, is_from = None, None
    if match := _SENDERS.match(rest):
        if not match[1]:
            raise Failure('"=" and a list come behind senders')
        senders, rest = _word(rest[match.end() :], "the list of senders")
        is_from = lists.addresses(senders)
    return _Tested(Rule(pattern, error, senders, tuple(_sets(rest)), number), lists.address(pattern), is_from), name


def _word(text: str, what: str) -> tuple[str, str]:
    """The first word, whose quotes are taken away, and what stands behind it. Raises Failure."""
    match = _WORD.match(text)
    if match is None:
        raise Failure(f"{what} is missing, or nothing closes its quote")
    return unescaped(match[1]) if match[1] is not None else match[2], text[match.end() :].lstrip(" \t")


def _sets(text: str) -> Iterator[Set]:
    """Raises Failure."""
    at = 0
    while at < len(text):
        match = _SET.match(text, at)
        if match is None:
            raise Failure(f"{excerpt(text[at:])} does not begin with a set of retry parameters", advice=_LIKE)
        yield _set(match)
        end = _NEXT.match(text, match.end())
        if end is None:
            raise Failure(f'a ";" must stand before {excerpt(text[match.end() :].lstrip())}', advice=_LIKE)
        at = end.end()


def _set(match: re.Match[str]) -> Set:
    letter = match[1].upper()
    if letter not in ("F", "G", "H"):
        raise Failure(f"there are sets of retry parameters F, G and H, but not {match[1]}", advice=_LIKE)
    if (letter == "F") != (match[4] is None):
        wanted = "two times" if letter == "F" else "two times and a factor"
        raise Failure(f"{excerpt(match[0])} is not {letter} with {wanted}", advice=_LIKE)
    cutoff, interval = errors.seconds(match[2]), errors.seconds(match[3])
    return Set(letter, cutoff, interval) if letter == "F" else Set(letter, cutoff, interval, _factor(match[4]))


def _factor(text: str) -> int:
    """In thousandths; what is finer is cut off. Raises Failure."""
    match = _FACTOR.fullmatch(text)
    factor = int(match[1]) * THOUSAND + int((match[2] or "")[:3].ljust(3, "0")) if match else 0
    if not THOUSAND <= factor <= errors.LONGEST:
        raise Failure(f"{excerpt(text)} is no factor from 1 to 2147483", advice="write it like 1.5")
    return factor


DEFAULT = parse("* * F,2h,15m; G,16h,1h,1.5; F,5d,8h", "the default retry rules")
"""What Exim's own configuration comes with, but for the last set: F,4d,6h."""
