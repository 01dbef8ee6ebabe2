"""Dialogues as text files, played against the program; dialogues/README.md is their grammar."""

from __future__ import annotations

import re
import shlex
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.support.program import Result
from tests.support.server import Channel, Listener, Over, closed_port

ENTRY = re.compile(r"(rules|config|argv|stdin|exit|stderr|log|host)(?: (\w+))?([:~])(?: (.*))?")
LINE = re.compile(r"(S:|S,|S!|C:|C~|C\?|C=|C!)(?: (.*))?")
CHOICES = {"S!": ["drop", "reset", "silence"], "C=": ["stdin"], "C!": ["no dot"]}

TOP_LEVEL = {"hostname": '"client.example"', "from": '"me@client.example"'}  # unless config says otherwise
TIMEOUTS = "[timeouts]\nconnect = 5\ngreeting = 5\ncommand = 5\ndata = 5\nfinal = 5\n"
ARGV = "you@example.net"
STDIN = """\
Date: Thu, 1 Jan 2026 00:00:00 +0000
From: me@client.example
To: you@example.net
Message-ID: <1@client.example>
Subject: hello

Hello.
"""


@dataclass
class Script:
    """What happens at one host: a list of connections, each a list of (mark, text)."""

    connections: list[list[tuple[str, str]]] = field(default_factory=list)
    refused: bool = False


@dataclass
class Dialogue:
    promise: str
    rules: list[str]
    config: str = ""
    argv: list[str] = field(default_factory=lambda: [ARGV])
    stdin: str = STDIN
    hosts: dict[str, Script] = field(default_factory=dict)
    exit: int = -1
    stderr: list[tuple[str, str]] = field(default_factory=list)  # (":" exact or "~" pattern, text)
    log: list[str] = field(default_factory=list)  # patterns


class Runner(Protocol):
    """As much of `Program` as a dialogue needs."""

    def configure(self, toml: str) -> None: ...
    def run(self, *argv: str, stdin: bytes, timeout: float) -> Result: ...
    @property
    def log(self) -> str: ...


# --- reading ------------------------------------------------------------------------------------------------


def parse(text: str) -> Dialogue:
    """The dialogue in a file's text; AssertionError with the line at fault."""
    first, *lines = text.splitlines()
    assert first.startswith("# "), "line 1: the promise, '# ' and a sentence"
    entries: list[tuple[int, re.Match[str], list[str]]] = []
    for number, line in enumerate(lines, 2):
        if not line.strip() or line.startswith("    "):
            if entries:
                entries[-1][2].append(line[4:])
        elif not line.startswith("#"):
            entry = ENTRY.fullmatch(line)
            assert entry, f"line {number}: {line!r}"
            entries.append((number, entry, []))
    found = Dialogue(first[2:], [])
    seen = set()
    for number, entry, block in entries:
        key, name, mark, value = entry.groups()
        while block and not block[-1]:
            block.pop()
        body = "".join(line + "\n" for line in block)
        assert (key == "host") == bool(name), f"line {number}: only a host has a name"
        assert mark == ":" or key in ("stderr", "log"), f"line {number}: {key} takes no pattern"
        assert key in ("config", "stdin", "host") or not block, f"line {number}: {key} takes one line"
        assert key in ("host", "stderr", "log") or key not in seen, f"line {number}: {key} again"
        seen.add(key)
        if key == "host":
            add_connection(found.hosts.setdefault(name, Script()), value, block, number)
        elif key == "rules":
            found.rules = value.split()
        elif key == "argv":
            found.argv = shlex.split(value)
        elif key == "exit":
            found.exit = int(value)
        elif key == "stderr":
            found.stderr.append((mark, value or ""))
        elif key == "log":
            assert mark == "~", f"line {number}: log takes patterns only"
            found.log.append(value)
        else:
            setattr(found, key, body)
    missing = {"rules", "exit", "stderr"} - seen
    assert not missing, f"missing: {missing}"
    assert all(re.fullmatch("[A-F][0-9]+", rule) for rule in found.rules), f"rules: {found.rules}"
    return found


def add_connection(host: Script, value: str | None, block: list[str], number: int) -> None:
    if value == "refused":
        host.refused = True
    elif value != "not contacted":
        whole = bool(block) and not value
        assert whole, f"line {number}: a host is 'refused', 'not contacted' or a block"
        matches = [LINE.fullmatch(line.strip()) for line in block if line.strip()]
        assert all(matches), f"line {number}: lines of a host begin with {LINE.pattern}"
        script = [(match[1], match[2] or "") for match in matches if match]
        for index, (mark, text) in enumerate(script):
            assert mark not in CHOICES or text in CHOICES[mark], f"line {number}: {mark} {text}"
            assert mark != "S!" or index == len(script) - 1, f"line {number}: nothing can follow S!"
        host.connections.append(script)


# --- playing ------------------------------------------------------------------------------------------------


class Departed(Exception):
    """The client said something else, or left; the text is the complaint."""


class Host(Listener):
    """One smart host, which knows its lines and checks the client's."""

    def __init__(self, script: Script, stdin: str) -> None:
        super().__init__()
        self.script = script
        self.stdin = stdin
        self.complaints: list[str] = []

    def serve(self, channel: Channel, number: int) -> None:
        if number >= len(self.script.connections):
            self.complaints.append(f"contacted {number + 1} times, expected {len(self.script.connections)}")
            return
        try:
            reply = b""
            for mark, text in self.script.connections[number]:
                if mark in ("S:", "S,"):
                    reply += text.encode() + b"\r\n" * (mark == "S:")
                    continue
                if reply:
                    self.say(channel, reply)
                self.play(channel, mark, text)
                reply = b""
            if reply:
                self.say(channel, reply)
            self.expect_end(channel)
        except Departed as departed:
            self.complaints.append(f"connection {number + 1}: {departed}")

    def say(self, channel: Channel, reply: bytes) -> None:
        try:
            channel.send(reply)
        except Over:
            if channel.session.commands[-1:] != [b"QUIT"]:
                raise Departed(f"the client left before {reply!r}") from None

    def play(self, channel: Channel, mark: str, text: str) -> None:
        if mark == "S!":
            {"drop": Channel.drop, "reset": Channel.reset, "silence": self.ignore}[text](channel)
        elif mark == "C=":
            for text in self.stdin.splitlines():
                self.expect(channel, "C:", "." * text.startswith(".") + text)
            self.expect(channel, "C:", ".")
        elif mark == "C!":
            while (line := self.hear(channel)) is not None:
                if line == b".":
                    raise Departed("the client ended the message")
        else:
            self.expect(channel, mark, text)

    def expect(self, channel: Channel, mark: str, text: str) -> None:
        line = self.hear(channel)
        if line is None and mark == "C?":
            raise Over("client closed")
        matches = re.fullmatch(text.encode(), line or b"") if mark == "C~" else line == text.encode()
        if line is None or not matches:
            raise Departed(f"expected {mark} {text}\n      got {line!r}")

    def ignore(self, channel: Channel) -> None:
        while (line := self.hear(channel)) is not None:
            if line != b"QUIT":
                raise Departed(f"expected the client to wait and leave\n      got {line!r}")

    def expect_end(self, channel: Channel) -> None:
        if (line := self.hear(channel)) is not None:
            raise Departed(f"expected the client to leave\n      got {line!r}")

    def hear(self, channel: Channel) -> bytes | None:
        """The client's next line, None when it has left."""
        try:
            line = channel.read_line()
        except Over:
            return None if not channel.buffer else bytes(channel.buffer)
        channel.session.commands.append(line)
        return line


def play(dialogue: Dialogue, program: Runner) -> None:
    """Run the program against the hosts; AssertionError with all that was said where it differs."""
    with ExitStack() as stack:
        hosts = {
            name: stack.enter_context(Host(script, dialogue.stdin))
            for name, script in dialogue.hosts.items()
            if not script.refused
        }
        ports = {
            name: hosts[name].port if name in hosts else stack.enter_context(closed_port()) for name in dialogue.hosts
        }

        def expand(text: str) -> str:
            return re.sub(r"\{port (\w+)\}", lambda match: str(ports[match[1]]), text)

        program.configure(expand(configuration(dialogue.config, list(ports))))
        result = program.run(*dialogue.argv, stdin=dialogue.stdin.encode(), timeout=60)
        said = [
            f"exit {result.status}",
            f"stdout {result.out!r}",
            f"stderr {result.err.decode(errors='replace')}",
        ]
        complaints = []
        for name, host in hosts.items():
            sessions = host.finished()
            for session in sessions:
                said += [f"--- {name}", *(f"{who}: {data!r}" for who, data in session.transcript)]
            complaints += [f"host {name}: {complaint}" for complaint in host.complaints]
            if len(sessions) < len(host.script.connections):
                complaints.append(f"host {name}: contacted {len(sessions)} times")
    error = result.err.decode("utf-8", "backslashreplace")
    if result.status != dialogue.exit:
        complaints.append(f"exit status: expected {dialogue.exit}, got {result.status}")
    if result.out:
        complaints.append("standard output is not empty")
    for mark, text in dialogue.stderr:
        if not (re.search(expand(text), error) if mark == "~" else error == expand(text) + "\n" * bool(text)):
            complaints.append(f"standard error: expected {text!r}")
    complaints += [
        f"log: expected {p!r} in {program.log!r}" for p in dialogue.log if not re.search(expand(p), program.log)
    ]
    if result.err and not complaints:
        assert result.sentence
    assert not complaints, "\n  ".join([dialogue.promise, *complaints, *said])


def configuration(config: str, names: list[str]) -> str:
    """The dialogue's own configuration with the defaults around it."""
    urls = ", ".join(f'"smtp://127.0.0.1:{{port {name}}}"' for name in names)
    defaults = {"smart_hosts": f"[{urls}]", **TOP_LEVEL}
    lines = [
        f"{key} = {value}\n" for key, value in defaults.items() if not re.search(rf"^{key}\s*=", config, re.MULTILINE)
    ]
    return "".join(lines) + config + ("" if "[timeouts]" in config else TIMEOUTS)


def read(path: Path) -> Dialogue:
    return parse(path.read_text(encoding="utf-8"))
