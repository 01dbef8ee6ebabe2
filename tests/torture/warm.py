"""The program with its imports done, forked for each run: some milliseconds instead of a Python's start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from tests.support.program import REPOSITORY
from tests.torture.tally import Run

PATIENCE = 60  # seconds until a run counts as a hang; those that should not wait wait for nothing

# What runs in the process that forks. It is started as the program is, and has no thread, so that forking is safe.
_FORKS = """
import gc, os, socket, sys
gc.disable()
sys.path.append(sys.argv[1])
from muawrap import sendmail, session
import muawrap.submission.deliver, encodings.idna, _ssl, ssl, smtplib
from muawrap import extras
from muawrap.submission import discovery, lookup
def resolver(dns):
    made = dns.Resolver(configure=False)
    made.nameservers, made.port = ["127.0.0.1"], names
    return made
names = int(sys.argv[3])
if names:
    extras.load("dns.resolver", "the torture")
    lookup.resolver = resolver
told = socket.socket(fileno=int(sys.argv[2]))
while True:
    try:
        asked, descriptors, _, _ = socket.recv_fds(told, 65536, 3)
    except ConnectionResetError:
        break
    if not asked:
        break
    pid = os.fork()
    if pid == 0:
        told.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.argv[:] = asked.decode().split(chr(0))
        try:
            sendmail.main()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    for descriptor in descriptors:
        os.close(descriptor)
    told.send(pid.to_bytes(8, "big"))
    told.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]).to_bytes(8, "big", signed=True))
"""


class Warm:
    """Runs the program again and again. It asks the name server at port `names` instead of that of resolv.conf(5)."""

    def __init__(self, names: int = 0) -> None:
        self._names = names

    def __enter__(self) -> Warm:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _FORKS, REPOSITORY / "src", str(theirs.fileno()), str(self._names)],
                pass_fds=[theirs.fileno()],
                env={"PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._socket.close()
        self._process.wait(PATIENCE)

    def run(self, argv: list[str], stdin: bytes) -> Run:
        """One run of the program with this input, which is short."""
        read, write = os.pipe()
        os.write(write, stdin)
        os.close(write)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            self._socket.settimeout(PATIENCE)
            asked = "\0".join(["sendmail", *argv]).encode()
            socket.send_fds(self._socket, [asked], [read, out.fileno(), err.fileno()])
            os.close(read)
            pid = int.from_bytes(self._socket.recv(8), "big")
            status: int | None = None
            try:
                status = int.from_bytes(self._socket.recv(8), "big", signed=True)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._socket.settimeout(None)
                self._socket.recv(8)
            out.seek(0)
            err.seek(0)
            return Run(status, out.read(), err.read())


def real(argv: list[str], stdin: bytes) -> Run:
    """The same with the program as users start it."""
    program: list[str | Path] = [sys.executable, "-I", "-S", REPOSITORY / "bin" / "sendmail"]
    try:
        done = subprocess.run(
            [*program, *argv],
            input=stdin,
            capture_output=True,
            env={"PATH": "/usr/bin:/bin"},
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return Run(None, late.stdout or b"", late.stderr or b"")
    return Run(done.returncode, done.stdout, done.stderr)
