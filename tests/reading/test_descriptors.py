"""Descriptors 0, 1 and 2 as the caller left them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from muawrap.reading import descriptors

SOURCE = Path(__file__).parents[2] / "src"

# Closes the descriptors named, fills them, and answers with its exit status whether they are open and 0 unreadable.
FILL = f"""
import os, sys
sys.path.insert(0, {str(SOURCE)!r})
from muawrap.reading import descriptors
closed = [int(word) for word in sys.argv[1:]]
for descriptor in closed:
    os.close(descriptor)
descriptors.fill()
for descriptor in (0, 1, 2):
    os.fstat(descriptor)
if 0 in closed:
    try:
        os.read(0, 1)
    except OSError:
        os._exit(7)
os._exit(7 if os.pipe()[0] > 2 else 1)
"""


@pytest.mark.row("O6")
@pytest.mark.parametrize("closed", [[], [0], [1], [2], [0, 1], [1, 2], [0, 1, 2]])
def test_closed_descriptors_are_filled_and_input_stays_unreadable(closed: list[int]) -> None:
    """RULES F8, A5: else a socket would become descriptor 2, and our errors would go to the smart host."""
    command = [sys.executable, "-I", "-S", "-c", FILL, *map(str, closed)]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60).returncode == 7


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_internet_socket_is_told(family: socket.AddressFamily) -> None:
    """RULES E5: inetd's way, and there is no daemon here."""
    with socket.socket(family) as inetd:
        assert descriptors.is_internet_socket(inetd.fileno())
        assert os.fstat(inetd.fileno())  # still open


def test_a_pipe_a_file_and_a_unix_socket_are_no_internet_sockets(tmp_path: Path) -> None:
    """RULES E5: Node hands over a socket pair."""
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    try:
        with ours, theirs, open(tmp_path / "file", "wb") as file:
            for descriptor in (ours.fileno(), reader, file.fileno(), -1):
                assert not descriptors.is_internet_socket(descriptor)
    finally:
        os.close(reader)
        os.close(writer)
