"""One question to the keyring, in a process of its own: it can be given up, whatever the keyring waits for.

It is run as a file, and not imported. It reads service and user as JSON, and prints as JSON one of: `password`, null
where there is none; `missing`, why the package keyring cannot be loaded; `error`, an exception's name and its text.
"""

from __future__ import annotations

import json
import os
import sys


def answer(service: str, user: str) -> dict[str, str | list[str] | None]:
    """What the keyring says."""
    try:
        import keyring
    except Exception as error:
        return {"missing": str(error)}
    try:
        return {"password": keyring.get_password(service, user)}
    except Exception as error:  # every back end has exceptions of its own
        return {"error": [type(error).__name__, " ".join(str(error).split())]}


if __name__ == "__main__":
    own = os.dup(1)
    os.dup2(2, 1)  # a back end that talks does not talk to us
    service, user = json.loads(sys.stdin.buffer.read())
    os.write(own, json.dumps(answer(service, user)).encode("ascii"))
