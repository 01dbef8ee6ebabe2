"""OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's and Microsoft's forerunner of it): a token instead of a password."""

from __future__ import annotations

import json
import re

from muawrap.failure import Failure
from muawrap.submission import sasl
from muawrap.submission.sasl import Channel, Mechanism

_TOLD = ("status", "scope", "schemes", "openid-configuration")  # of the server's complaint (RFC 7628, 3.2.2)


class Bearer(Mechanism):
    """The token goes in the initial response; a refusal is a challenge in JSON, and after our answer a 5yz.

    Raises Failure where the token cannot be one (RFC 6750, 2.1, somewhat wider).
    """

    advice = "look at auth.user and auth.token: a token expires, and it must be made for this service (its scope)"

    def __init__(self, name: str, user: str, token: str, channel: Channel = sasl.NOTHING_KNOWN) -> None:
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise Failure("the token is none: it holds a space, or what is not ASCII", advice="look at auth.token")
        self.name = name
        if name == "XOAUTH2":
            fields, self._end = [f"user={user}"], b""
        else:
            who = user.replace("=", "=3D").replace(",", "=2C")
            fields, self._end = [f"n,a={who},"], b"\x01"
            fields += [f"host={channel.host}", f"port={channel.port}"] if channel.port else []
        self.initial = sasl.octets("\x01".join((*fields, f"auth=Bearer {token}", "", "")))
        self._asked = False

    def answer(self, challenge: bytes) -> bytes:
        """Where the server did not take the initial response with AUTH, that; else the end of a refusal."""
        if not challenge and not self._asked:
            self._asked = True
            return self.initial or b""
        self.complaint = _complaint(challenge)
        return self._end


def _complaint(challenge: bytes) -> str:
    """What of the server's words is for people, "" where nothing is."""
    try:
        words = json.loads(challenge)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(words, dict):
        return ""
    told = [f"{name} {words[name]}" for name in _TOLD if isinstance(words.get(name), (str, int)) and words[name]]
    return f"the server says {', '.join(told)}" if told else ""
