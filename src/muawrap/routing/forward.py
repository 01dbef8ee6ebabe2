"""~/.forward and :include: files: trust is checked at the door, then there is only text."""

from __future__ import annotations

import pwd
import re

from muawrap import trust
from muawrap.failure import Failure
from muawrap.routing.members import Entry

FILE_LIMIT = 1024 * 1024  # RULES D6

# What may stand in for {user}: a login name, never a path.
_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\$?")
_FILTER = re.compile(r"#[ \t]*(Exim|Sieve)[ \t]+filter\b", re.IGNORECASE)


class Forwards:
    """The .forward files of users, found by the template of redirect.forward; "" switches them off."""

    def __init__(self, template: str) -> None:
        self.template = template

    def __call__(self, name: str) -> Entry | None:
        """What stands in the .forward of user `name`, None where there is no user or no file (RULES D1, D6).

        Raises Failure for a file that cannot be read or trusted.
        """
        if not self.template or not _LOGIN.fullmatch(name):
            return None
        user = _user(name)
        if user is None and "{home}" in self.template:
            return None
        login = user.pw_name if user else name
        path = self.template.replace("{user}", login).replace("{home}", user.pw_dir if user else "")
        try:
            contents = trust.read(path, limit=FILE_LIMIT, owners={0, user.pw_uid} if user else {0})
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Failure as failure:
            if isinstance(failure.__cause__, PermissionError):
                failure.advice = f"put {login} into the alias file, or set redirect.forward"
            raise
        kind = _FILTER.match(contents.text)
        if kind is not None:
            raise Failure(
                f"{path} is a filter file for {kind[1].title()}, and this program runs none",
                advice=f"put {login} into the alias file",
            )
        return Entry(contents.text, path, user.pw_uid if user else 0, login)


def include(path: str, within: Entry) -> Entry:
    """The list that `within` includes, under the same trust as what includes it (RULES D4, D6). Raises Failure."""
    try:
        contents = trust.read(path, limit=FILE_LIMIT, owners={0, within.owner})
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"{path} does not exist") from None
    return Entry(contents.text, path, within.owner, within.private)


def _user(name: str) -> pwd.struct_passwd | None:
    """The local user of that name, as written or in lower case."""
    for spelling in dict.fromkeys((name, name.lower())):
        try:
            return pwd.getpwnam(spelling)
        except KeyError:
            continue
    return None
