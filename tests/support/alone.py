"""A machine of its own for one run of a program, and what the program asks there: run by tests.support.resolver.

What is wanted comes as JSON on standard input, and what was seen goes to standard output. It imports little, for it
starts anew for each run.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.server import Server

OWN_NAME = "laptop.client.example"
TYPES = {1: "A", 28: "AAAA"}
PASSWD = {1: "GETPWBYNAME", 2: "GETPWBYUID", 11: "GETFDPW"}  # nscd-client.h of the GNU C library; the rest: names
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
FILES = {
    "resolv.conf": "nameserver 127.0.0.1\nsearch .\noptions timeout:5 attempts:1\n",
    "hosts": "127.0.0.1 localhost\n127.0.0.1 known.client.example\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def main() -> None:
    """The machine, for one run of the program."""
    wanted = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        furnish(Path(folder))
        names, users = Names(wanted["answers"]), Daemon()
        with Server(wanted["script"]) as server:
            config = Path(wanted["config"])
            config.write_text(config.read_text().replace("{port}", str(server.port)))
            trace = Path(folder, "trace")
            strace = ["strace", "-f", "-ttt", "-qq", "-s", "64", "-e", "trace=%network,%file,read", "-o", str(trace)]
            done = subprocess.run(
                [*strace, *wanted["command"]],
                input=wanted["stdin"].encode("latin-1"),
                capture_output=True,
                env={"PATH": "/usr/bin:/bin"},
                check=False,
            )
        seen = {
            "status": done.returncode,
            "out": done.stdout.decode("latin-1"),
            "err": done.stderr.decode("latin-1"),
            "questions": sorted(names.questions),
            "asked_at": names.asked_at,
            "about_names": users.about_names,
            "sent": len(server.accepted),
            "sessions": len(server.sessions),
            "trace": trace.read_text(errors="replace").splitlines(),
        }
    json.dump(seen, sys.stdout)


def furnish(folder: Path) -> None:
    """A name, a loopback that is up, and files of its own in /etc and /run."""
    socket.sethostname(OWN_NAME)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    for name, text in FILES.items():
        (folder / name).write_text(text)
        mount(folder / name, Path("/etc", name))
    (folder / "run").mkdir(mode=0o755)
    mount(folder / "run", Path("/run"))
    os.chmod(folder, 0o755)


def mount(source: Path, target: Path) -> None:
    """Have one file or folder stand in the place of another, in this namespace."""
    MS_BIND = 4096
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {target}")


class Names:
    """A name server that answers by a table, and writes down what it is asked."""

    def __init__(self, answers: Mapping[str, Sequence[str]]) -> None:
        self.questions: list[tuple[str, str]] = []
        self.asked_at: list[float] = []
        self._answers = answers
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            name, end = question(query)
            kind = TYPES.get(int.from_bytes(query[end : end + 2], "big"), "other")
            self.asked_at.append(time.time())
            number = Counter(self.questions)[name, kind]
            self.questions.append((name, kind))
            given = self._answers.get(name, ["NXDOMAIN"])
            self._socket.sendto(answer(query, end + 4, kind, given[min(number, len(given) - 1)]), client)


def question(query: bytes) -> tuple[str, int]:
    """The name a query is about, and where its type stands (RFC 1035, 4.1.2)."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    return ".".join(labels).lower(), at + 1


def answer(query: bytes, end: int, kind: str, given: str) -> bytes:
    """The reply to a query whose question ends at `end` (RFC 1035, 4.1)."""
    codes = {"SERVFAIL": 2, "NXDOMAIN": 3}
    found = b""
    if given not in codes and kind == "A":
        found = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(given)
    flags = 0x8180 | codes.get(given, 0)
    return query[:2] + struct.pack("!HHHHH", flags, 1, bool(found), 0, 0) + query[12:end] + found


class Daemon:
    """What listens in nscd's place: it hears what it is asked, and hangs up, so that it is done without."""

    def __init__(self) -> None:
        self.about_names: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.mkdir("/run/nscd", 0o755)
        self._socket.bind("/run/nscd/socket")
        os.chmod("/run/nscd/socket", 0o666)
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._socket.accept()
            with client:
                asked = client.recv(4096)
                kind = struct.unpack("iii", asked[:12])[1] if len(asked) >= 12 else -1
                if kind not in PASSWD:
                    self.about_names.append(f"{kind} {asked[12:].decode('latin-1')}")


if __name__ == "__main__":
    main()
