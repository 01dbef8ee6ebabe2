"""The sink of the benchmark takes DATA and BDAT, and tells what it got."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.bench.lab import Lab, Service
from tests.bench.sink import Digest, Undotted

HEADER = b"Subject: x\r\n\r\n"
BODY = b"one\r\n.two\r\n..three\r\n\r\n.\r\n.last\r\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def sink(lab: Lab) -> tuple[Service, list[int]]:
    assert lab.sink.ready is not None
    return lab.sink, lab.sink.ready["ports"]


def dotted(text: bytes) -> bytes:
    return (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7, 1000])
def test_dots_are_taken_out_wherever_the_octets_are_cut(step: int) -> None:
    """A doubled dot and the end of the text are found across blocks."""
    digest = Digest()
    text = Undotted(digest)
    wire = dotted(HEADER + BODY) + b"QUIT\r\n"
    rest = None
    at = 0
    while rest is None:
        rest = text.feed(wire[at : at + step])
        at += step
    assert rest + wire[at:] == b"QUIT\r\n"
    assert digest.octets == len(HEADER + BODY)
    assert digest.sha256 == hashlib.sha256(BODY).hexdigest()


def test_an_empty_text_ends_at_once() -> None:
    """The closing dot may be the first line."""
    digest = Digest()
    assert Undotted(digest).feed(b".\r\n") == b""
    assert digest.octets == 0


def test_the_cost_of_a_text_is_linear() -> None:
    """No block is looked at twice: a hundred times as many blocks take no more than a hundred times as long."""

    def cost(blocks: int) -> float:
        text = Undotted(Digest())
        block = b"x" * 998 + b"\r\n"
        begin = time.process_time()
        for _ in range(blocks):
            text.feed(block)
        return time.process_time() - begin

    assert cost(20_000) < 1000 * max(cost(200), 1e-4)


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_data_is_counted_and_hashed(lab: Lab, mode: int) -> None:
    """In the clear, after STARTTLS, with TLS at once; AUTH only under TLS."""
    service, ports = sink(lab)
    context = ssl.create_default_context(cafile=str(lab.ca_file))
    with (
        smtplib.SMTP_SSL("127.0.0.1", ports[mode], context=context)
        if mode == 2
        else smtplib.SMTP("127.0.0.1", ports[mode])
    ) as client:
        if mode == 1:
            client.starttls(context=context)
        client.ehlo()
        assert client.has_extn("auth") == (mode != 0)
        if mode != 0:
            client.login("user", "secret")
        client.sendmail("a@b", ["c@d", "e@f"], HEADER + BODY)
    told = service.next()
    assert told is not None
    assert (told["by"], told["recipients"], told["octets"]) == ("DATA", 2, len(HEADER + BODY))
    assert told["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert (told["tls"], told["user"]) == ((False, "") if mode == 0 else (True, "user"))


def test_chunks_are_counted_and_hashed(lab: Lab) -> None:
    """BDAT, all of it pipelined in one group, dots as they are."""
    service, ports = sink(lab)
    text = HEADER + BODY
    with smtplib.SMTP("127.0.0.1", ports[0]) as client:
        client.ehlo()
        group = b"MAIL FROM:<>\r\nRCPT TO:<c@d>\r\nBDAT 5\r\n" + text[:5]
        client.send(group + b"BDAT %d LAST\r\n" % len(text[5:]) + text[5:])
        assert [client.getreply()[0] for _ in range(4)] == [250, 250, 250, 250]
    told = service.next()
    assert told is not None
    assert (told["by"], told["chunks"], told["octets"]) == ("BDAT", 2, len(text))
    assert told["sha256"] == hashlib.sha256(BODY).hexdigest()
