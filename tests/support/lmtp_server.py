"""A scripted LMTP server, on a loopback port or on a unix socket; and an SMTP server on a unix socket.

    with LmtpServer({"dot b@x.example": "552 5.2.2 over quota"}) as server:
        ...                                   # let a client talk to 127.0.0.1, server.port, or to server.path
        assert server.deliveries == [(b"a@x.example", text)]

The script is that of tests/support/server.py, with EHLO for LHLO. After a text "dot" is each recipient's verdict,
"dot 2" that of the second in its transaction, and "dot a@b" that of this one.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.server import PATIENCE, Action, Channel, Conversation, Listener, Received, Script, Server, as_action
from tests.support.server import read_script as read_smtp_script


class UnixServer(Server):
    """An SMTP server on a unix socket."""

    def __init__(self, path: Path, script: Script | Sequence[Script] = (), **fields: Any) -> None:
        super().__init__(script, **fields)
        move(self, path)

    def _catch_up(self) -> None:
        catch_up(self)


class LmtpServer(Server):
    """Takes every message for every recipient, but for what its script says."""

    def __init__(self, script: Script | Sequence[Script] = (), *, path: Path | None = None, **fields: Any) -> None:
        scripts = [script] if not isinstance(script, Sequence) else list(script) or [{}]
        super().__init__(**fields)
        self.scripts = [read_script(each) for each in scripts]
        self.deliveries: list[tuple[bytes, bytes]] = []  # recipient and text, before the reply says so
        self.path = path
        if path is not None:
            move(self, path)

    def serve(self, channel: Channel, number: int) -> None:
        LmtpConversation(self, channel, self.scripts[min(number, len(self.scripts) - 1)]).lead()

    def _catch_up(self) -> None:
        if self.path is None:
            super()._catch_up()
        else:
            catch_up(self)


def read_script(script: Script) -> dict[str, Action]:
    """The script with actions only."""
    dots = {key: as_action(action) for key, action in script.items() if key.startswith("dot ") and "@" in key}
    return {**read_smtp_script({key: action for key, action in script.items() if key not in dots}), **dots}


class LmtpConversation(Conversation):
    server: LmtpServer

    def do_lhlo(self, argument: bytes) -> None:
        super().do_ehlo(argument)

    def do_ehlo(self, argument: bytes) -> None:
        self.say(b"500 5.5.1 this is LMTP")

    do_helo = do_ehlo

    def give_verdict(self, message: Received) -> None:
        """One for each recipient, or one where there is none."""
        self.count["dot"] = 0
        recipients = message.recipients
        self.forget()
        if not recipients:
            self.say(b"503 5.5.1 no recipient")
        for recipient in recipients:
            default = b"250 2.1.5 <%s> taken" % recipient  # as Cyrus says it
            verdict, action = self.plan("dot", default, recipient.decode())
            if verdict == 2:
                message.accepted = True
                self.server.deliveries.append((recipient, message.text))
            action.perform(self.channel)


def move(server: Listener, path: Path) -> None:
    """From now on the server listens there instead of on its port."""
    server._listening.close()
    server._listening = socket.socket(socket.AF_UNIX)
    server._listening.bind(str(path))
    server._listening.listen(512)
    server.port = 0


def catch_up(server: Listener) -> None:
    """As it is done on a port: by a connection of our own, which is known by the name it is bound to."""
    name = server._listening.getsockname() + ".mark"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(name)
        mark = server._marks[name[:2]] = threading.Event()
        sock.connect(server._listening.getsockname())
        os.unlink(name)
        if not mark.wait(PATIENCE):
            raise TimeoutError("the accepting thread has died")
