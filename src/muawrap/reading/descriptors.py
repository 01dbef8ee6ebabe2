"""Descriptors 0, 1 and 2 as the caller left them: closed ones filled, an internet socket told from a pipe."""

from __future__ import annotations

import os
import stat


def fill() -> None:
    """Give closed descriptors a file, so that no socket takes their place; 0 stays unreadable (RULES F8)."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # takes the lowest number that is free: this one


def is_internet_socket(descriptor: int) -> bool:
    """Whether inetd would have started us; AF_UNIX is as good as a pipe, Node hands one over (RULES E5)."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        import socket

        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return copy.family in (socket.AF_INET, socket.AF_INET6)
    except OSError:
        return False
