"""The grammar of SMTP commands: the words of MAIL and RCPT as an address and parameters, read strictly."""

from __future__ import annotations

import re

from muawrap import addresses


class Refused(Exception):
    """A command that is not obeyed: what the caller is told; after some there is nothing more to be heard."""

    def __init__(self, code: int, status: str, text: str, *, closing: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.text = text
        self.closing = closing


# RFC 5321, 4.1.2: Path = "<" [ A-d-l ":" ] Mailbox ">"; many callers leave the brackets out, or a blank before them.
_PATH = r'[ \t]*(<(?:"(?:[^"\\]|\\.)*"|[^">])*>|[^ \t<>]+)(?:[ \t]+(.*))?'
_PATHS = {"MAIL": re.compile(rf"(?i:FROM):{_PATH}"), "RCPT": re.compile(rf"(?i:TO):{_PATH}")}
# RFC 5321, 4.1.2: esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
# RFC 3461, 4: xtext = *( xchar / hexchar ), and beyond ASCII by RFC 6533
_XTEXT = r"(?:[^\x00- +=\x7f-\x9f\ud800-\udfff]|\+[0-9A-F]{2})"
_NOTIFY = r"(?:SUCCESS|FAILURE|DELAY)"
# Compiled when they are met, by way of the cache that re keeps.
_PARAMETERS = {
    "MAIL": {
        "SIZE": r"=([0-9]{1,20})",
        "BODY": r"=((?i:7BIT|8BITMIME))",
        "SMTPUTF8": r"()",
        "RET": r"=((?i:FULL|HDRS))",
        "ENVID": rf"=(?=.{{1,100}}\Z)({_XTEXT}+)",
    },
    "RCPT": {
        "NOTIFY": rf"=((?i:NEVER|{_NOTIFY}(?:,{_NOTIFY})*))",
        "ORCPT": rf"=(?=.{{1,500}}\Z)([A-Za-z0-9-]+;{_XTEXT}+)",
    },
}


def address(path: str, null: bool) -> str:
    """A mailbox, or a bare name (RFC 5321, 4.1.1.3 has one, callers have all of them). Raises Refused."""
    stop = "\\" if not null and path.removeprefix("<").startswith("\\") else ""
    try:
        return stop + addresses.parse_one(path.replace(stop, "", 1), null=null).address
    except addresses.AddressError as error:
        text = f"cannot read the address {addresses.excerpt(path)}: {error}"
        raise Refused(501, "5.1.7" if null else "5.1.3", text) from error


def parameters(verb: str, text: str) -> dict[str, str]:
    """What follows the path. Raises Refused: who asks for what is not offered must not believe it was given."""
    found: dict[str, str] = {}
    for word in text.split():
        keyword = _KEYWORD.match(word)
        name = keyword.group().upper() if keyword else ""
        if name not in _PARAMETERS[verb]:
            raise Refused(555, "5.5.4", f"{verb} has no parameter {addresses.excerpt(word)} here")
        value = re.fullmatch(_PARAMETERS[verb][name], word[len(name) :])
        if value is None:
            raise Refused(501, "5.5.4", f"cannot read the parameter {addresses.excerpt(word)}")
        if name in found:
            raise Refused(501, "5.5.4", f"{name} is given twice")
        found[name] = value[1]
    return found


def path(verb: str, text: str) -> tuple[str, str]:
    """The address that follows MAIL or RCPT, as written, and what follows it. Raises Refused."""
    match = _PATHS[verb].fullmatch(text)
    if match is None:
        raise Refused(501, "5.5.4", f"cannot read {verb} {addresses.excerpt(text)}")
    return match[1], match[2] or ""


def reachable(address: str, utf8: bool) -> None:
    """Whether SMTP may name an address (RFC 6531). Raises Refused."""
    if not utf8 and not addresses.is_ascii(address):
        raise Refused(553, "5.6.7", f"{addresses.excerpt(address)} needs SMTPUTF8")
