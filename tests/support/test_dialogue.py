"""A dialogue fails where it should: played to clients that get it wrong, each in one way."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest

from tests.support import dialogue
from tests.support.program import Result

TEXT = """\
# A promise
rules: A1

stdin:
    .
host one:
    S: 220 hello
    C~ EHLO .+
    S, 250
    S:  one
    C= stdin
    S: 250 ok
    C: QUIT
    S: 221 bye

host two: not contacted
host three: refused

exit: 0
stderr:
log~ port {port one}
"""
GREETING = b"220 hello\r\n"
SILENT = Result(0, b"", b"")
RIGHT = [GREETING, b"EHLO x\r\n", b"250 one\r\n", b"..\r\n.\r\n", b"250 ok\r\n", b"QUIT\r\n"]


class Client:
    """Says these lines at host one, expects those that begin with a digit, and ends as told."""

    def __init__(self, lines: list[bytes], result: Result = SILENT, contacts: str = "one") -> None:
        self.lines, self.result, self.contacts = lines, result, contacts
        self.log = ""

    def configure(self, toml: str) -> None:
        ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", toml)]
        self.ports = dict(zip(("one", "two", "three"), ports, strict=True))
        self.log = f"port {ports[0]}"

    def run(self, *argv: str, stdin: bytes, timeout: float) -> Result:
        for name in self.contacts.split():
            with socket.create_connection(("127.0.0.1", self.ports[name])) as sock:
                for line in self.lines:
                    if line[:1].isdigit():
                        got = b""
                        while len(got) < len(line) and (chunk := sock.recv(len(line) - len(got))):
                            got += chunk
                        if got != line:
                            break
                    else:
                        sock.sendall(line)
        return self.result


def test_a_client_that_says_its_lines_passes() -> None:
    dialogue.play(dialogue.parse(TEXT), Client(RIGHT))


@pytest.mark.parametrize(
    ("client", "complaint"),
    [
        (lambda: Client([GREETING, b"HELO x\r\n"]), r"expected C~ EHLO .+\s+got b'HELO x'"),
        (lambda: Client([*RIGHT[:3], b"..\n.\r\n"]), r"expected C: \.\.\s+got b'\.\.\\n'"),
        (lambda: Client(RIGHT[:5]), r"expected C: QUIT\s+got None"),
        (
            lambda: Client([*RIGHT, b"221 bye\r\n", b"NOOP\r\n"]),
            r"expected the client to leave\s+got b'NOOP'",
        ),
        (lambda: Client([*RIGHT, b"221 bye\r\n", b"half"]), r"expected the client to leave\s+got b'half'"),
        (lambda: Client(RIGHT, contacts="one two"), "host two: contacted 1 times, expected 0"),
        (lambda: Client(RIGHT, contacts="one one"), "host one: contacted 2 times, expected 1"),
        (lambda: Client(RIGHT, contacts=""), "host one: contacted 0 times"),
        (lambda: Client(RIGHT, Result(1, b"", b"")), "exit status: expected 0, got 1"),
        (lambda: Client(RIGHT, Result(0, b"\n", b"")), "standard output is not empty"),
        (lambda: Client(RIGHT, Result(0, b"", b"\n")), "standard error: expected ''"),
    ],
)
def test_a_departure_from_the_script_fails(client: Callable[[], Client], complaint: str) -> None:
    with pytest.raises(AssertionError) as raised:
        dialogue.play(dialogue.parse(TEXT), client())
    assert re.search(complaint, str(raised.value)), raised.value


@pytest.mark.parametrize("error", [b"sendmail: a\nsendmail: b\n", b"sendmail: \xc3\xa4\n", b"a\n", b"sendmail: a"])
def test_standard_error_is_one_printable_line(error: bytes) -> None:
    text = TEXT.replace("stderr:\n", "stderr~ a|b|.\n")
    with pytest.raises(AssertionError, match="not one printable line"):
        dialogue.play(dialogue.parse(text), Client(RIGHT, Result(0, b"", error)))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("# A", "A", "the promise"),
        ("exit: 0\n", "", "missing: {'exit'}"),
        ("exit: 0\n", "exit: 0\nexit: 1\n", "exit again"),
        ("rules: A1", "rules: A1 G9", "rules"),
        ("host two", "hose two", "line 16: 'hose two"),
        ("not contacted", "contacted", "line 16"),
        ("    C: QUIT", "    D: QUIT", "line 6"),
        ("C= stdin", "C= stdout", "line 6: C= stdout"),
        ("    C: QUIT", "    S! drop\n    C: QUIT", "nothing can follow"),
        ("log~", "log:", "patterns only"),
    ],
)
def test_a_mistake_in_a_file_is_named(old: str, new: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        dialogue.parse(TEXT.replace(old, new, 1))
