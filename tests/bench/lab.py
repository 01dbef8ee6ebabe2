"""The laboratory: sink and proxy running, certificates and texts made, and one run of one peer checked and measured."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trustme

from tests.bench.peers import MODES, REPOSITORY, SENDER, USER, Command, Job, Peer

PATIENCE = 5.0  # seconds for what the sink and the proxy tell after a run
LAUNCH = Path(__file__).with_name("launch.py")
LINE = b"The quick brown fox jumps over the lazy dog, and the mail goes its way.\n"
PARAGRAPH = 8192  # lines; before each paragraph stands its number, behind a dot


@dataclass(frozen=True)
class Case:
    """What is sent, and over which network. A round trip time of 0 is the bare loopback."""

    mode: str
    recipients: int = 1
    octets: int = 1024
    rtt: float = 0.0
    messages: int = 1  # of one process; a peer that sends one only stands for as many processes


@dataclass(frozen=True)
class Sample:
    """One run: what it cost, or why it does not count."""

    wall: float = 0.0  # seconds a message
    cpu: float = 0.0  # seconds a message
    peak: int = 0  # octets of resident memory
    flights: int = 0  # of all messages; 0 where the proxy was not between
    waited: int = 0  # flights whose answer the client waited for
    trouble: str = ""


class Service:
    """A process of ours that prints JSON lines, and ends when its standard input does."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = self.next(30.0)
        if self.ready is None:
            raise RuntimeError(f"tests.bench.{module} did not start")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def next(self, seconds: float = PATIENCE) -> dict[str, Any] | None:
        """What it told next; None where it tells nothing more."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def forget(self) -> None:
        """Whatever has been told so far belonged to an earlier run."""
        while not self._lines.empty():
            self._lines.get()

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


@dataclass(frozen=True)
class Text:
    """A message in a file, lines ended by LF, and the hashes its body may have when it has arrived."""

    path: Path
    hashes: frozenset[str]


def write_text(path: Path, octets: int) -> Text:
    """A message of about this size; the number of octets is that of the file."""
    header = f"From: {SENDER}\nTo: friends@bench.example\nSubject: bench\nMessage-ID: <1@bench.example>\n"
    header += "Date: Thu, 01 Jan 2026 00:00:00 +0000\n\n"
    digest = hashlib.sha256()
    left = octets - len(header)
    number = 0
    with path.open("wb") as file:
        file.write(header.encode("ascii"))
        while left > 0:
            lines = min(PARAGRAPH, max(1, left // len(LINE)))
            block = b".%08d\n" % number + LINE * lines
            file.write(block)
            digest.update(block.replace(b"\n", b"\r\n"))
            number += 1
            left -= len(block)
    one_more = digest.copy()
    one_more.update(b"\r\n")  # swaks ends every text with an empty line
    return Text(path, frozenset((digest.hexdigest(), one_more.hexdigest())))


def write_batch(path: Path, text: Path, recipients: tuple[str, ...], messages: int) -> Path:
    """The same text again and again as batch SMTP, each time for all recipients."""
    body = (b"\n" + text.read_bytes()).replace(b"\n.", b"\n..")[1:]
    envelope = "".join(f"{line}\n" for line in (f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<{to}>" for to in recipients)))
    with path.open("wb") as file:
        for _ in range(messages):
            file.write(envelope.encode("ascii") + b"DATA\n" + body + b".\n")
    return path


class Lab:
    """Everything a run needs; use it as a context manager."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._texts: dict[int, Text] = {}
        self._proxies: dict[float, Service] = {}

    def __enter__(self) -> Lab:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="muawrap-bench-")))
        self.folder.chmod(0o711)  # Exim gives root's rights away and still has to reach its files
        authority = trustme.CA(key_type=trustme.KeyType.RSA)
        self.ca_file = self.folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        certificate = self.folder / "sink.pem"
        leaf = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
        leaf.private_key_and_cert_chain_pem.write_to_path(certificate)
        self.sink = self._service("sink", str(certificate))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _service(self, module: str, *arguments: str) -> Service:
        service = Service(module, *arguments)
        self._stack.callback(service.stop)
        return service

    def _proxy(self, rtt: float) -> Service:
        if rtt not in self._proxies:
            assert self.sink.ready is not None
            self._proxies[rtt] = self._service("proxy", str(rtt), *map(str, self.sink.ready["ports"]))
        return self._proxies[rtt]

    def text(self, octets: int) -> Text:
        if octets not in self._texts:
            self._texts[octets] = write_text(self.folder / f"{octets}.eml", octets)
        return self._texts[octets]

    def run(self, peer: Peer, case: Case, timeout: float, recipients: tuple[str, ...] = ()) -> Sample:
        """Send with one peer, and look whether everything arrived whole. Recipients may be given by name."""
        text = self.text(case.octets)
        proxy = self._proxy(case.rtt) if case.rtt else None
        assert self.sink.ready is not None
        port = self.sink.ready["ports"][MODES.index(case.mode)]
        if proxy is not None:
            assert proxy.ready is not None
            port = proxy.ready["ports"][MODES.index(case.mode)]
            proxy.forget()
        self.sink.forget()
        folder = self.folder / peer.name
        folder.mkdir(mode=0o700, exist_ok=True)
        named = recipients or tuple(f"r{number}@bench.example" for number in range(case.recipients))
        messages = case.messages if peer.batches else 1
        stdin = write_batch(self.folder / "batch", text.path, named, messages) if messages > 1 else text.path
        job = Job(case.mode, port, named, text.path, self.ca_file, folder, messages)
        sample = launch(peer.command(job), stdin, folder, timeout)
        if sample.trouble:
            return sample
        sample = replace(sample, wall=sample.wall / messages, cpu=sample.cpu / messages)
        trouble = next(filter(None, (wrong(self.sink.next(), case, text.hashes) for _ in range(messages))), "")
        if trouble or proxy is None:
            return replace(sample, trouble=trouble)
        told = proxy.next()
        if told is None:
            return Sample(trouble="the proxy counted nothing")
        return replace(sample, flights=told["flights"], waited=told["flights"] - told["unwaited"])


def wrong(told: Mapping[str, Any] | None, case: Case, hashes: frozenset[str]) -> str:
    """Why what the sink got is not what was to be sent; "" where it is."""
    if told is None:
        return "nothing arrived"
    if told["recipients"] != case.recipients:
        return f"{told['recipients']} of {case.recipients} recipients"
    if told["sha256"] not in hashes:
        return "the text was altered"
    if case.mode != "plain" and not told["tls"]:
        return "no TLS"
    if case.mode != "plain" and told["user"] != USER:
        return "no AUTH"
    return ""


def launch(command: Command, text: Path, folder: Path, timeout: float) -> Sample:
    """Run a command with the text on its standard input, and measure it; it is killed when its time is up."""
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(folder), "LC_ALL": "C", **command.environment}
    figures, writing = os.pipe()
    output = folder / "output"
    with open(figures, "rb") as told, text.open("rb") as stdin, output.open("wb") as written:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCH), str(writing), *command.argv],
            env=environment,
            cwd=folder,
            stdin=stdin,
            stdout=written,
            stderr=written,
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            return Sample(trouble=f"timed out after {timeout:.0f} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        words = told.read().split()
    if len(words) < 4:
        return Sample(trouble="did not start")
    if int(words[3]) != 0:
        said = output.read_bytes()[-400:].decode("utf-8", "replace").strip().splitlines()
        return Sample(trouble=f"status {int(words[3])}: {said[-1] if said else ''}")
    return Sample(float(words[0]), float(words[1]), int(words[2]) * 1024)
