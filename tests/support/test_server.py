"""The scripted server tells the truth: driven with smtplib, which knows nothing of it."""

from __future__ import annotations

import hashlib
import smtplib
import socket
import threading
import time

import pytest

from tests.support.certificates import Authority
from tests.support.server import Drip, Drop, Raw, Reset, Server, Silence, Then, Wait, read_script, reply_class

FROM, TO, TEXT = (
    "me@client.example",
    ["a@x.example", "b@x.example"],
    b"Subject: s\r\n\r\n.dot\r\n..two\r\n.\r\nend\r\n",
)


def client(server: Server) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", server.port, local_hostname="client.example", timeout=10)


def test_a_message_is_recorded_as_it_was_on_the_wire() -> None:
    with Server() as server:
        with client(server) as smtp:
            smtp.sendmail(FROM, TO, TEXT, mail_options=["BODY=8BITMIME"], rcpt_options=["X=1"])
        [session] = server.finished()
    [message] = session.accepted
    assert (message.sender, message.recipients) == (b"me@client.example", [b"a@x.example", b"b@x.example"])
    assert message.mail_parameters.split() == [b"size=%d" % len(TEXT), b"BODY=8BITMIME"]
    assert message.rcpt_parameters == [b"X=1", b"X=1"]
    assert message.data == TEXT.replace(b"\r\n.", b"\r\n..")
    assert message.text == TEXT
    assert [line.split(b" ")[0] for line in session.commands] == b"ehlo mail rcpt rcpt data QUIT".split()
    assert session.ending == "quit"
    assert bytes(session.raw) == b"".join(piece for who, piece in session.transcript if who == "C")


@pytest.mark.parametrize("text", [b".\r\n", b"\r\n.\r\n", b".\n.\r\r\n.\r\n", b"\n.\n\r\n.\r\n", b"..\r\n.\r\n"])
@pytest.mark.parametrize("dripped", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_only_a_dot_between_two_line_ends_ends_the_text(text: bytes, dripped: bool, keep: bool) -> None:
    before = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a>\r\nDATA\r\n"
    stream = text + b"NOOP\r\nQUIT\r\n"
    with Server(keep_data=keep) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(before)
        for piece in [stream[i : i + 1] for i in range(len(stream))] if dripped else [stream]:
            sock.sendall(piece)
        while sock.recv(4096):
            pass
        [session] = server.finished()
    [message] = session.accepted
    expected = text.removesuffix(b".\r\n")
    assert (message.size, message.sha256) == (len(expected), hashlib.sha256(expected).hexdigest())
    assert message.data == (expected if keep else b"")
    assert session.commands[-2:] == [b"NOOP", b"QUIT"]


def test_an_unfinished_message_is_seen_but_not_accepted() -> None:
    with Server() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a>\r\nDATA\r\nhalf\r\n.")
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
        [session] = server.finished()
    assert [message.data for message in session.messages] == [b"half\r\n."]
    assert session.accepted == []
    assert session.ending == "client closed"


def test_fifty_megabytes_take_a_moment_and_leave_a_checksum() -> None:
    text = (b"x" * 76 + b"\r\n") * 650_000
    began = time.monotonic()
    with Server(extensions=[], keep_data=False) as server:
        with client(server) as smtp:
            smtp.sendmail(FROM, TO, text)
        [session] = server.finished()
    [message] = session.accepted
    assert (message.size, message.sha256) == (len(text), hashlib.sha256(text).hexdigest())
    assert message.data == b""
    assert len(session.raw) < 1_000_000
    assert time.monotonic() - began < 20


def test_starttls_and_implicit_tls(authority: Authority) -> None:
    context = authority.server_context("127.0.0.1")
    with Server(context=context) as server:
        with client(server) as smtp:
            smtp.ehlo()
            assert smtp.has_extn("starttls")
            smtp.starttls(context=authority.client_context())
            smtp.ehlo()
            assert not smtp.has_extn("starttls")
            smtp.sendmail(FROM, TO, TEXT)
        [session] = server.finished()
    assert session.tls
    assert session.tls_version == "TLSv1.3"
    assert session.accepted[0].text == TEXT

    with Server(context=context, implicit_tls=True) as server:
        with smtplib.SMTP_SSL("127.0.0.1", server.port, context=authority.client_context()) as smtp:
            smtp.sendmail(FROM, TO, TEXT)
        [session] = server.finished()
    assert session.tls
    assert session.accepted[0].text == TEXT


def test_a_client_that_distrusts_the_certificate_is_recorded(authority: Authority) -> None:
    with Server(context=authority.server_context("other.example")) as server:
        with client(server) as smtp, pytest.raises(OSError, match="mismatch"):
            smtp.starttls(context=authority.client_context())
        [session] = server.finished()
    assert session.ending != "quit"
    assert not session.messages


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("initial", [True, False])
def test_auth(mechanism: str, initial: bool) -> None:
    with Server(users={"alice": "wonder"}, mechanisms=[mechanism]) as server:
        smtp = client(server)
        smtp.ehlo()
        smtp.user, smtp.password = "alice", "wonder"
        method = getattr(smtp, "auth_" + mechanism.lower().replace("-", "_"))
        assert smtp.auth(mechanism, method, initial_response_ok=initial)[0] == 235
        assert server.sessions[0].authenticated == "alice"
        smtp.password = "wrong"
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            smtp.auth(mechanism, method, initial_response_ok=initial)
        smtp.close()


def test_a_scripted_challenge_is_answered() -> None:
    script = {"AUTH": "334 ", "AUTH reply": "454 later"}
    with Server(script, users={}, mechanisms=["XOAUTH2"]) as server, client(server) as smtp:
        smtp.ehlo()
        assert smtp.docmd("AUTH", "XOAUTH2")[0] == 334
        assert smtp.docmd("AAAA")[0] == 454
        assert smtp.noop()[0] == 250


def test_bdat_in_chunks() -> None:
    with Server(extensions=["CHUNKING"]) as server:
        with client(server) as smtp:
            smtp.ehlo()
            smtp.mail(FROM)
            smtp.rcpt(TO[0])
            smtp.send(b"BDAT 5\r\n.\r\nhe")
            assert smtp.getreply()[0] == 250
            smtp.send(b"BDAT 3\r\nllo")
            assert smtp.getreply()[0] == 250
            assert smtp.docmd("BDAT", "0 LAST")[0] == 250
            smtp.send(b"MAIL FROM:<>\r\nBDAT 2 LAST\r\nhi")
            assert [smtp.getreply()[0] for _ in range(2)] == [250, 503]
        [session] = server.finished()
    assert [(m.text, m.complete, m.accepted) for m in session.messages] == [
        (b".\r\nhello", True, True),
        (b"hi", True, False),
    ]


def test_bdat_in_many_chunks_takes_a_moment() -> None:
    chunk, number = b"x" * 8192, 2500
    began = time.monotonic()
    with Server(extensions=["CHUNKING"]) as server:
        with client(server) as smtp:
            smtp.ehlo()
            smtp.mail(FROM)
            smtp.rcpt(TO[0])
            for _ in range(number):
                smtp.send(b"BDAT 8192\r\n" + chunk)
                assert smtp.getreply()[0] == 250
            assert smtp.docmd("BDAT", "0 LAST")[0] == 250
            smtp.send(b"MAIL FROM:<>\r\nRCPT TO:<a>\r\nBDAT 2\r\nhiRSET\r\n")
            assert [smtp.getreply()[0] for _ in range(4)] == [250] * 4
        [session] = server.finished()
    whole, abandoned = session.messages
    assert whole.data == chunk * number
    assert (abandoned.data, abandoned.complete, abandoned.accepted) == (b"hi", False, False)
    assert time.monotonic() - began < 20


def test_commands_out_of_order_are_refused() -> None:
    with Server() as server, client(server) as smtp:
        codes = [smtp.docmd(line)[0] for line in ("MAIL FROM:<a>", "EHLO x", "RCPT TO:<a>", "DATA", "TURN", "BDAT 1")]
        codes += [
            smtp.docmd(line)[0] for line in ("MAIL FROM: <a>", "MAIL FROM:<a>", "MAIL FROM:<a>", "DATA", "VRFY x")
        ]
        assert codes == [503, 250, 503, 503, 500, 501, 501, 250, 503, 503, 252]


def test_the_narrowest_key_wins() -> None:
    script = {"RCPT": "450 later", "RCPT 3": "550 third", "RCPT c@x": "250 come in", "MAIL 2": "421 enough"}
    with Server(script) as server, client(server) as smtp:
        smtp.ehlo()
        smtp.mail("a@x")
        assert [smtp.rcpt(to)[0] for to in ("a@x", "c@x", "d@x", "e@x")] == [450, 250, 550, 450]
        smtp.rset()
        assert smtp.mail("a@x")[0] == 421


def test_a_misspelt_stage_is_an_error() -> None:
    for key in ("data", "RCPTS", "DATA x", "dot two"):
        with pytest.raises(ValueError, match="no such stage"):
            read_script({key: "250 ok"})


def test_each_connection_takes_its_own_script() -> None:
    with Server([{"greeting": "421 one"}, {"greeting": "554 two"}]) as server:
        for expected in (b"421 one", b"554 two", b"554 two"):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                assert sock.recv(100) == expected + b"\r\n"
        assert len(server.finished()) == 3


@pytest.mark.parametrize("stage", ["connect", "greeting", "EHLO", "MAIL", "RCPT 2", "DATA", "text", "dot"])
def test_a_drop_is_a_fin_and_a_reset_is_a_rst(stage: str) -> None:
    conversation = (
        b"EHLO x\r\n",
        b"MAIL FROM:<a>\r\n",
        b"RCPT TO:<b>\r\n",
        b"RCPT TO:<c>\r\n",
        b"DATA\r\n",
        b".\r\n",
    )
    with Server([{stage: Drop()}, {stage: Reset()}]) as server:
        for ending in ("dropped", "reset"):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                error: OSError | None = None
                try:
                    lines = iter(conversation)
                    while sock.recv(4096):
                        sock.sendall(next(lines))
                except OSError as raised:
                    error = raised
                assert isinstance(error, ConnectionResetError) == (ending == "reset"), error
            assert server.finished()[-1].ending == ending


def test_closing_never_hangs_whatever_the_server_is_doing(authority: Authority) -> None:
    never = threading.Event()
    began = time.monotonic()
    for script in (
        {"greeting": Wait(never)},
        {"greeting": Wait(600)},
        {"greeting": Silence()},
        {"greeting": Silence(reading=False)},
        {"greeting": Drip(b"220 ok\r\n", 600)},
        {"greeting": Raw(b"2" * 30_000_000)},
        {},
    ):
        with Server(script) as server, socket.create_connection(("127.0.0.1", server.port)):
            server.close()
        assert [session.ending for session in server.sessions] == ["server closed"]
    context = authority.server_context()
    with (
        Server(context=context, implicit_tls=True) as server,
        socket.create_connection(("127.0.0.1", server.port)),
    ):
        server.close()
    assert time.monotonic() - began < 10


def test_an_action_without_bytes_delays_the_answer() -> None:
    may_go = threading.Event()
    script = {"EHLO": Wait(may_go), "NOOP": Then(Drip(b"250-a\r\n", 0.001), "250 b")}
    with Server(script) as server, client(server) as smtp:
        threading.Timer(0.2, may_go.set).start()
        began = time.monotonic()
        assert smtp.ehlo()[0] == 250
        assert time.monotonic() - began >= 0.1
        assert smtp.noop() == (250, b"a\nb")


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"250 ok\r\n", 2),
        (b"250-a\r\n250 b\r\n", 2),
        (b"354\r\n", 3),
        (b"250-a\r\n550 b\r\n", 0),
        (b"2_5 x\r\n", 0),
        (b"", 0),
    ],
)
def test_only_a_well_formed_reply_has_a_class(wire: bytes, expected: int) -> None:
    assert reply_class(wire) == expected
