"""A connection to a unix socket of this machine, in a bounded time."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time

from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost

PAUSE = 0.05
"""Seconds until a server whose queue is full is asked again; the kernel tells nobody when there is room."""
_RUNNING = "is the server running? its configuration says where its socket is"
_NAMED = "the URL must name the socket of a server"
_RIGHTS = "who may use it is for the server's configuration to say, and for the modes of the folders above it"


def connected(host: SmartHost, deadline: float) -> socket.socket:
    """The connected socket. Raises Failure, which names the path."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                made.connect(host.host)
                return made
            except BlockingIOError:  # its queue is full
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                time.sleep(min(PAUSE, left))
    except OSError as error:
        made.close()
        raise _failure(host, error) from error
    except BaseException:
        made.close()
        raise


def _failure(host: SmartHost, error: OSError) -> Failure:
    if error.errno == errno.EAGAIN:
        return _failed(f"its queue is full, and that for {host.timeouts.connect:g} s", host)
    if error.errno == errno.ENOENT:
        return _failed("there is no such socket", host, advice=_RUNNING)
    if error.errno == errno.ECONNREFUSED and _is_socket(host.host):
        return _failed("nobody listens there", host, advice=_RUNNING)
    if error.errno in (errno.ECONNREFUSED, errno.EPROTOTYPE):
        return _failed("it is no stream socket", host, REFUSED, advice=_NAMED)
    if error.errno == errno.ENOTDIR:
        return _failed("something on the way there is no folder", host, REFUSED, advice=_NAMED)
    if error.errno == errno.ELOOP:
        return _failed("its symbolic links go round in circles", host, REFUSED, advice=_NAMED)
    if error.errno in (errno.EACCES, errno.EPERM):
        return _failed("permission denied", host, REFUSED, advice=_RIGHTS)
    return _failed((error.strerror or str(error)).lower(), host)


def _failed(what: str, host: SmartHost, lead: str = TRY_AGAIN, advice: str = "") -> Failure:
    return Failure(what, lead=lead, stage=Stage.CONNECT, host=str(host), advice=advice)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True  # nobody knows
