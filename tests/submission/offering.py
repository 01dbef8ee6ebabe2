"""One message offered to scripted servers: what the tests of this folder say again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from muawrap.failure import Failure
from muawrap.mail import Auth, Body, Recipient, SmartHost, Timeouts, Tls, Transaction, Way
from muawrap.submission.deliver import deliver
from tests.support.canary import CANARY, assert_silent
from tests.support.server import Action, Channel, Raw

PATIENT = Timeouts(connect=5, greeting=5, command=5, data=5, final=5)
HEADER = b"From: me@client.example\nTo: you@example.net\nSubject: hello\n"
ANY_SIZE = ("8BITMIME",)  # extensions of a server that takes BIG
BIG = 24 * 1024 * 1024  # octets; more than the kernel's buffers hold for a server that does not read


class Heard(Raw):
    """What a server does once it has read the client's hello."""

    def __init__(self, then: Action) -> None:
        super().__init__(b"in place of the handshake")
        self.then = then

    def perform(self, channel: Channel) -> None:
        channel.receive()
        self.then.perform(channel)


class HasPort(Protocol):
    port: int


def smart_host(
    where: HasPort | int, scheme: str = "smtp", *, policy: str = "", address: str = "127.0.0.1", **fields: Any
) -> SmartHost:
    """A smart host at a server or port; the policy is the one its scheme has by default. Tls fields go into `tls`."""
    port = where if isinstance(where, int) else where.port
    given: dict[str, Any] = {name: fields.pop(name) for name in Tls._fields if name in fields}
    secure: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    tls = Tls(policy or ("if-offered" if scheme == "smtp" else "required"), **secure)
    fields.setdefault("timeouts", PATIENT)
    return SmartHost(f"{scheme}://{address}:{port}", scheme, address, port, tls=tls, **fields)


def login(password: str = CANARY, **fields: Any) -> Auth:
    """AUTH as alice, with the password in the configuration."""
    from muawrap.mail import Secret

    return Auth("alice", (Secret("literal", password),), **fields)


def recipient(address: str) -> Recipient:
    return Recipient(address, (address,), f"<{address}>")


def offer(
    *hosts: SmartHost, to: tuple[str | Recipient, ...] = ("you@example.net",), text: bytes = b"Hello.\n", **fields: Any
) -> Transaction:
    """A transaction for these hosts."""
    values: dict[str, Any] = {"body": Body(text), "message_id": "<1@client.example>", "hostname": "client.example"}
    return Transaction(
        ways=tuple(Way(host, "me@client.example", HEADER) for host in hosts),
        recipients=tuple(recipient(one) if isinstance(one, str) else one for one in to),
        **{**values, **fields},
    )


def failure_of(transaction: Transaction, trace: Callable[[str, str], None] | None = None) -> Failure:
    """The Failure that ends this transaction."""
    with pytest.raises(Failure) as caught:
        deliver(transaction, trace)
    assert_silent(f"{caught.value} {caught.value.advice}".encode("utf-8", "surrogateescape"))
    return caught.value
