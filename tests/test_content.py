"""What becomes of a message on its way, from outside: long lines, 8-bit text, raw headers, domains, notifications."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.support.program import Program, Result
from tests.support.server import Received, Server

TO = "you@example.net"
ME = 'from = "me@client.example"\nqualify_domain = "client.example"\n'
WIDE = ("8BITMIME", "PIPELINING", "CHUNKING", "SIZE 10000000")
LONG = b"Mon Jan 1 00:00:00 box kernel: " + b"all is well, " * 230 + b"or so\n"
EIGHT = "Gr\xfc\xdfe\n".encode()
CRON = b"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"


def run(program: Program, *hosts: Server, stdin: bytes, argv: tuple[str, ...] = (TO,), keys: str = "") -> Result:
    program.configure(program.smart_hosts(*hosts) + ME + keys)
    return program.run(*argv, stdin=stdin)


def arrived(program: Program, host: Server, *, stdin: bytes, argv: tuple[str, ...] = (TO,), keys: str = "") -> Received:
    """The one message a server got; nothing was said about it (A2)."""
    done = run(program, host, stdin=stdin, argv=argv, keys=keys)
    assert (done.status, done.out, done.err) == (0, b"", b"")
    [message] = host.accepted
    assert f" size={len(message.text)} " in program.log
    if b"SIZE" in message.mail_parameters:
        assert f"SIZE={len(message.text)}".encode() in message.mail_parameters.split()
    return message


def parsed(message: Received) -> EmailMessage:
    return email.message_from_bytes(message.text.replace(b"\r\n", b"\n"), policy=email.policy.default)


def content(message: Received) -> bytes:
    """What a mail reader makes of the body."""
    octets = parsed(message).get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets


def longest(message: Received) -> int:
    return max(map(len, message.text.split(b"\r\n")))


# -- long lines (F6) -------------------------------------------------------------------------------------------------


@pytest.mark.row("S12 re-encoding")
@pytest.mark.parametrize("header", [b"Subject: x\n", CRON], ids=["no MIME", "cron"])
def test_a_log_line_of_3000_characters_arrives_as_it_was(program: Program, header: bytes) -> None:
    """F6: in quoted-printable, with SIZE of what leaves; Exim would refuse it."""
    assert len(LONG) > 3000
    with Server(extensions=WIDE) as server:
        message = arrived(program, server, stdin=header + b"\nbefore\n" + LONG + EIGHT)
    assert longest(message) < 100
    assert content(message) == b"before\n" + LONG + EIGHT
    assert parsed(message).get_content() == (b"before\n" + LONG + EIGHT).decode()
    assert b"BODY=" not in message.mail_parameters
    assert "longline" not in program.log


@pytest.mark.row("S12 re-encoding")
def test_a_message_of_many_blocks_is_encoded_from_its_file(program: Program) -> None:
    """F6, L2: and the last line, which did not end, too."""
    body = (b"x" * 70 + b"\n") * 30_000 + LONG * 100 + b"y" * 300_000
    with Server(extensions=("SIZE 10000000",)) as server:
        message = arrived(program, server, stdin=b"Subject: x\n\n" + body)
    assert content(message) == body + b"\n"
    assert longest(message) <= 76


@pytest.mark.row("S12")
def test_long_lines_pass_where_the_owner_wants_them_to(program: Program) -> None:
    """F6: long_lines = "pass": byte for byte, header lines too, and the log says so."""
    text = b"X: " + b"a " * 600 + b"\nFrom: me@client.example\n\n" + LONG
    with Server(extensions=WIDE) as server:
        message = arrived(program, server, stdin=text, argv=("-G", TO), keys='long_lines = "pass"\n')
    assert message.text == text.replace(b"\n", b"\r\n")
    assert " longline=pass" in program.log


@pytest.mark.row("S12")
@pytest.mark.parametrize("policy", ["encode", "pass"])
@pytest.mark.parametrize(
    "header",
    [
        b"DKIM-Signature: v=1; b=" + b"x" * 1000 + b"\n",
        b"Content-Type: multipart/signed; boundary=x\n",
        b"Content-Type: application/pgp-encrypted\n",
    ],
    ids=["DKIM", "signed", "encrypted"],
)
def test_what_is_signed_or_opaque_passes_byte_for_byte(program: Program, header: bytes, policy: str) -> None:
    """F6, F7: to a host that takes seven bits only, too; the log says both."""
    text = b"From: me@client.example\n" + header + b"Subject: x\n\n--x\n\n" + LONG + EIGHT
    with Server(extensions=()) as server:
        message = arrived(program, server, stdin=text, argv=("-G", TO), keys=f'long_lines = "{policy}"\n')
    assert message.text == text.replace(b"\n", b"\r\n")
    assert " 8bit=pass" in program.log
    assert " longline=pass" in program.log


@pytest.mark.row("S12")
@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"Subject: x\n\none\n" + LONG, f"line 2 of the body has {len(LONG) - 1} octets"),
        (b"Subject: x\nX: " + b"a " * 600 + b"\n\n", "line 2 of the header has 1203 octets"),
    ],
    ids=["body", "header"],
)
def test_long_lines_are_refused_where_the_owner_wants_that(program: Program, text: bytes, where: str) -> None:
    """F6: one line that names the line and the key, and no connection."""
    with Server() as server:
        done = run(program, server, stdin=text, keys='long_lines = "refuse"\n')
        assert server.finished() == []
    assert done.status == 1
    assert done.sentence.startswith(f"sendmail: not sent, refused: {where}, and 998 are the limit")
    assert "long_lines" in done.sentence


def test_header_lines_are_folded(program: Program) -> None:
    """F6: unfolded, they are what they were."""
    words = " ".join(["word"] * 1000)
    to = ", ".join(f"user{number}@x.example" for number in range(300))
    text = f"Subject: {words}\nTo: {to}\nX-Token: {'t' * 2000}\n\nhi\n".encode()
    with Server(extensions=WIDE) as server:
        message = arrived(program, server, stdin=text)
    header = message.text.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").decode()
    assert f"Subject: {words}\r\nTo: {to}\r\nX-Token: {'t' * 2000}\r\n" in header
    assert sorted(map(len, message.text.split(b"\r\n")))[-2] <= 998
    assert " longline=pass" in program.log  # there is no blank in the token


def test_several_hosts_get_the_same_text(program: Program) -> None:
    """F6, C1: encoded once, for whichever takes it, with the From: of its own."""
    text = b"From: Al <root@localhost>\nContent-Type: text/html\n\n" + LONG + EIGHT
    with Server({"greeting": "421 busy"}, extensions=WIDE) as first, Server(extensions=()) as second:
        hosts = f'smart_hosts = ["smtp://127.0.0.1:{first.port}", {{ url = "smtp://127.0.0.1:{second.port}",'
        program.configure(f'{hosts} from = "me@second.example" }}]\nfrom = "me@first.example"\n')
        done = program.run(TO, stdin=text)
        [message] = second.accepted
    assert (done.status, done.err) == (0, b"")
    assert b"From: Al <me@second.example>\r\nContent-Type: text/html; charset=utf-8\r\n" in message.text
    assert content(message) == LONG + EIGHT
    assert "8bit" not in program.log


# -- 8-bit text (F6) -------------------------------------------------------------------------------------------------


@pytest.mark.row("S12 re-encoding")
@pytest.mark.parametrize("extensions", [(), ("CHUNKING", "PIPELINING"), ("8BITMIME",), WIDE])
def test_8_bit_text_is_encoded_for_a_host_that_takes_seven_bits(program: Program, extensions: tuple[str, ...]) -> None:
    """F6: decided after EHLO; the others get it as it is."""
    with Server(extensions=extensions) as server:
        message = arrived(program, server, stdin=CRON + b"\n" + EIGHT, keys='long_lines = "pass"\n')
    wide = "8BITMIME" in extensions
    assert message.text.isascii() != wide
    assert content(message) == EIGHT
    assert (b"BODY=8BITMIME" in message.mail_parameters) == wide
    assert (b"Content-Transfer-Encoding: 8bit\r\n" in message.text) == wide
    assert "8bit" not in program.log


@pytest.mark.row("S12 re-encoding")
def test_each_host_gets_what_it_takes(program: Program) -> None:
    """F6, C1: after one that takes seven bits, one that takes eight, and the other way round."""
    for extensions in ((), WIDE), (WIDE, ()):
        script = {"MAIL": b"garbage\r\n"}
        with Server(script, extensions=extensions[0]) as first, Server(extensions=extensions[1]) as second:
            done = run(program, first, second, stdin=CRON + b"\n" + EIGHT)
            assert (done.status, done.err) == (0, b"")
            [message] = second.accepted
            [mail] = [line for line in first.finished()[0].commands if line.startswith(b"MAIL")]
        assert (b"BODY=8BITMIME" in mail) == bool(extensions[0])
        assert message.text.isascii() != bool(extensions[1])
        assert content(message) == EIGHT


def test_a_host_that_the_encoded_text_does_not_fit_is_not_asked(program: Program) -> None:
    """F6, C1: its limit is held against what it would get."""
    body = "\xfc".encode() * 50 + b"\n"
    with Server(extensions=("SIZE 500",)) as narrow, Server(extensions=("SIZE 500", "8BITMIME")) as wide:
        done = run(program, narrow, wide, stdin=b"Subject: x\n\n" + body)
        assert (done.status, done.err) == (0, b"")
        assert narrow.accepted == []
        assert content(wide.accepted[0]) == body
    assert "500 are the limit" in program.log


# -- headers (F7, F9, F10) -------------------------------------------------------------------------------------------


def test_raw_headers_become_words(program: Program) -> None:
    """F7: as bash, PHP and git's hooks write them; a reader shows what was written."""
    text = "From: J\xf6rg M\xfcller <root@localhost>\nTo: Ren\xe9 <rene@x.example>, bob (B\xf6b)\n"
    text += "Subject: [cron] \xdcber 9000 Gr\xfc\xdfe\nX-Note: \xe4\n\nhi\n"
    with Server(extensions=()) as server:
        message = arrived(program, server, stdin=text.encode())
    assert message.text.isascii()
    read = parsed(message)
    assert read["Subject"] == "[cron] \xdcber 9000 Gr\xfc\xdfe"
    assert read["X-Note"] == "\xe4"
    assert [(one.display_name, one.addr_spec) for one in read["From"].addresses] == [
        ("J\xf6rg M\xfcller", "me@client.example")
    ]
    assert [one.addr_spec for one in read["To"].addresses] == ["rene@x.example", "bob@client.example"]
    assert read["To"].addresses[0].display_name == "Ren\xe9"
    assert b"MIME-Version" not in message.text  # the words need none, and the body is ASCII


CALLERS = {
    "cron": (
        "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@box> true\n",
        'From: "root (Cron Daemon)" <me@client.example>\nTo: root@client.example\nSubject: Cron <root@box> true\n',
    ),
    "bsd-mailx": (
        "Subject: x\nTo: <root>\nMIME-Version: 1.0\n",
        "Subject: x\nTo: <root@client.example>\nMIME-Version: 1.0\n",
    ),
    "git send-email": (
        "From: A U Thor <au@x.example>\nTo: list@x.example\nCc: A U Thor <au@x.example>,\n\tB <b@x.example>\n",
        (
            "From: A U Thor <me@client.example>\nTo: list@x.example\nCc: A U Thor <au@x.example>,\n\tB <b@x.example>\n"
            "Reply-To: au@x.example\n"
        ),
    ),
    "PHP": (
        "To: you@example.net\r\nX-PHP-Originating-Script: 0:x.php\r\nFrom: www-data\r\n",
        "To: you@example.net\nX-PHP-Originating-Script: 0:x.php\nFrom: www-data <me@client.example>\n",
    ),
    "a contact form": (
        "From: visitor@x.example\nReply-To: other@x.example\n",
        'From: "visitor@x.example" <me@client.example>\nReply-To: other@x.example\n',
    ),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_what_callers_write_into_from_is_completed_or_rewritten(program: Program, caller: str) -> None:
    """F9, F10: and the rest keeps its bytes."""
    given, expected = CALLERS[caller]
    with Server(extensions=WIDE) as server:
        message = arrived(program, server, stdin=f"{given}\nhi\n".encode(), argv=("-G", TO))
    assert message.text == f"{expected}\nhi\n".replace("\n", "\r\n").encode()


# -- addresses (F7) --------------------------------------------------------------------------------------------------


@pytest.mark.row("I10 A-labels")
def test_a_domain_beyond_ascii_travels_as_a_labels(program: Program) -> None:
    """F7, B1: sender, recipients and header, without SMTPUTF8; one address in two spellings is one recipient."""
    text = "From: al@b\xfccher.example\nTo: x@b\xfccher.example, x@xn--bcher-kva.example, y@p\u0430ypal.example\n\nhi\n"
    with Server(extensions=()) as server:
        program.configure(
            program.smart_hosts(server) + 'allowed_from = ["*@B\xdcCHER.example"]\nfrom = "me@x.example"\n'
        )
        done = program.run("-t", "-f", "al@b\xfccher.example", stdin=text.encode())
        assert (done.status, done.err) == (0, b"")
        [message] = server.accepted
    assert message.sender == b"al@xn--bcher-kva.example"
    assert message.recipients == [b"x@xn--bcher-kva.example", b"y@xn--pypal-4ve.example"]
    assert b"From: al@xn--bcher-kva.example\r\n" in message.text
    assert message.text.isascii()
    assert "from=<al@xn--bcher-kva.example> to=<x@xn--bcher-kva.example>,<y@xn--pypal-4ve.example>" in program.log


@pytest.mark.row("I10 A-labels")
@pytest.mark.parametrize("address", ["al@fa\xdf.example", "al@a\uff1eb.example", "al@\u202eab.example"])
@pytest.mark.parametrize("option", ["-f", "--"])
def test_what_idna_does_not_know_is_one_line(program: Program, address: str, option: str) -> None:
    """F7: and nobody is contacted."""
    with Server(extensions=("SMTPUTF8",)) as server:
        argv = (option, address, TO) if option == "-f" else (TO, address)
        done = run(program, server, stdin=b"Subject: x\n\nhi\n", argv=argv)
        assert server.finished() == []
    assert done.status == 1
    assert "al@" in done.sentence
    assert "IDNA" in done.sentence or "A-label" in done.sentence


def test_mail_for_a_local_domain_beyond_ascii_is_redirected(program: Program, tmp_path: Path) -> None:
    """D1, F7: however it is spelled, here or there; routes match it, too."""
    (tmp_path / "aliases").write_text("al: al@else.example\n")
    keys = 'local_domains = ["b\xfccher.example"]\n[redirect]\naliases = ["%s"]\n' % (tmp_path / "aliases")
    keys += '[[route]]\nrecipients = ["*@\xe4.example"]\nunroutable = "closed"\n'
    with Server() as server:
        for spelling in "al@b\xfccher.example", "al@xn--bcher-kva.example":
            done = run(program, server, stdin=b"Subject: x\n\nhi\n", argv=(spelling,), keys=keys)
            assert (done.status, done.err) == (0, b"")
        assert [message.recipients for message in server.accepted] == [[b"al@else.example"]] * 2
    assert (
        "<x@xn--4ca.example>: closed" in run(program, server, stdin=b"\n", argv=("x@\xe4.example",), keys=keys).sentence
    )


# -- notifications (E6) ----------------------------------------------------------------------------------------------


def test_notifications_name_the_address_that_was_given(program: Program, tmp_path: Path) -> None:
    """E6: ORCPT is kept through aliases (RFC 3461, 4.2), where notifications are asked for."""
    (tmp_path / "aliases").write_text("root: ops@x.example, dev+list@x.example\n")
    keys = f'[redirect]\naliases = ["{tmp_path / "aliases"}"]\n'
    argv = ("-N", "failure,delay", "-R", "hdrs", "-V", "id=1", "root", "a+b@x.example", "j\xf6rg@x.example")
    with Server(extensions=("DSN", "SMTPUTF8")) as server:
        message = arrived(program, server, stdin=b"Subject: x\n\nhi\n", argv=argv, keys=keys)
        done = run(program, server, stdin=b"Subject: x\n\nhi\n", argv=("root",), keys=keys)
        assert done.status == 0
        assert server.accepted[1].rcpt_parameters == [b"", b""]
    asked = b"NOTIFY=FAILURE,DELAY"
    assert message.recipients[:3] == [b"ops@x.example", b"dev+list@x.example", b"a+b@x.example"]
    assert message.rcpt_parameters == [
        asked + b" ORCPT=rfc822;root@client.example",
        asked + b" ORCPT=rfc822;root@client.example",
        asked + b" ORCPT=rfc822;a+2Bb@x.example",
        asked,  # the address is no ASCII
    ]
    assert message.mail_parameters.split() == [b"SMTPUTF8", b"RET=HDRS", b"ENVID=id+3D1"]
