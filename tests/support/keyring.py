"""A session bus of its own, with gnome-keyring on it: what a desktop has, and cron has not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.need import missing, need, need_module
from tests.support.unpacked import Unavailable, unpacked

NAME = "org.freedesktop.secrets"
PROMPTER = "org.gnome.keyring.SystemPrompter"
PATIENCE = 20.0  # seconds for a daemon to be there


class Desktop:
    """A bus and a keyring, whose files are in a folder; `unlocked`: by the password of a login."""

    def __init__(self, folder: Path, unlocked: bool = True) -> None:
        need_module("jeepney")
        self.folder = folder
        self.unlocked = unlocked
        try:
            self._daemon = unpacked("gnome-keyring")
        except Unavailable as error:
            missing(str(error))
        self._processes: list[subprocess.Popen[bytes]] = []
        for name in "run", "data":
            (folder / name).mkdir(mode=0o700, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """Of a program that runs in this session."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "DBUS_SESSION_BUS_ADDRESS": self.address,
            "PYTHON_KEYRING_BACKEND": "keyring.backends.SecretService.Keyring",
        }

    def __enter__(self) -> Desktop:
        bus = subprocess.Popen(
            [need("dbus-daemon"), "--session", "--nofork", "--nosyslog", "--print-address=1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(bus)
        assert bus.stdout is not None
        self.address = bus.stdout.readline().decode().strip()
        assert self.address, "dbus-daemon has ended"
        command: list[str | Path] = [self._daemon.folder / "usr/bin/gnome-keyring-daemon", "--foreground"]
        keyring = subprocess.Popen(
            [*command, "--components=secrets", *(["--unlock"] if self.unlocked else [])],
            env={**self.environment, "LD_LIBRARY_PATH": self._daemon.library_path},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(keyring)
        assert keyring.stdin is not None
        keyring.stdin.write(b"the password of the login")
        keyring.stdin.close()
        self._wait()
        return self

    def _wait(self) -> None:
        """Until the keyring is on the bus."""
        from jeepney import MatchRule, message_bus  # type: ignore[import-untyped]
        from jeepney.io.blocking import Proxy, open_dbus_connection  # type: ignore[import-untyped]

        rule = MatchRule(type="signal", member="NameOwnerChanged", interface="org.freedesktop.DBus")
        rule.add_arg_condition(0, NAME)
        with open_dbus_connection(bus=self.address) as connection, connection.filter(rule) as queue:
            bus = Proxy(message_bus, connection)
            bus.AddMatch(rule)
            if not bus.NameHasOwner(NAME)[0]:
                connection.recv_until_filtered(queue, timeout=PATIENCE)

    def __exit__(self, *exception: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(PATIENCE)
            for pipe in process.stdin, process.stdout:
                if pipe is not None:
                    pipe.close()


class Prompter:
    """Who would ask for the password of a keyring on the screen, and does not: nobody sees the screen."""

    def __init__(self, desktop: Desktop) -> None:
        self._address = desktop.address

    def __enter__(self) -> None:
        from jeepney import message_bus
        from jeepney.io.blocking import Proxy, open_dbus_connection

        self._connection = open_dbus_connection(bus=self._address)
        Proxy(message_bus, self._connection).RequestName(PROMPTER)

    def __exit__(self, *exception: object) -> None:
        self._connection.close()


def without_session(folder: Path) -> dict[str, str]:
    """What cron gives its jobs."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LOGNAME": "al", "SHELL": "/bin/sh", "PWD": os.getcwd()}
