"""muawrap hands its messages to a real Exim."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from email.header import decode_header, make_header
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.exim import Arrived, Exim
from tests.support.program import Program

HELLO = b"Subject: hi\n\nhello\n"  # what `printf 'Subject: hi\n\nhello\n'` writes
PASSWORD = "s3cret pass-word"
NO_CHUNKING = "chunking_advertise_hosts =\n"  # DATA instead of BDAT


@pytest.fixture(scope="module", params=["BDAT", "DATA"])
def either_running_exim(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Exim]:
    extra = NO_CHUNKING if request.param == "DATA" else ""
    with Exim(tmp_path_factory.mktemp("exim"), refuse_recipients=["r499@y.example"], extra=extra) as exim:
        yield exim


@pytest.fixture
def either_exim(either_running_exim: Exim) -> Exim:
    """Once one that offers CHUNKING, once one that does not."""
    either_running_exim.forget()
    return either_running_exim


def configure(program: Program, *hosts: Exim | str, keys: str = "", tables: str = "") -> None:
    """Through these hosts, as box@client.example."""
    sender = 'from = "box@client.example"\nallowed_from = ["*@client.example"]\n'
    program.configure(program.smart_hosts(*hosts) + sender + keys + tables)


def send(program: Program, *argv: str, stdin: bytes = HELLO) -> None:
    """It goes out, and nothing is said about it (RULES A1, A2)."""
    result = program.run(*argv, stdin=stdin)
    assert (result.status, result.out, result.err) == (0, b"", b"")


def refusal(program: Program, *argv: str, stdin: bytes = HELLO) -> str:
    """It does not go out, and one sentence says so (RULES A1, A3)."""
    result = program.run(*argv, stdin=stdin)
    assert (result.status, result.out) == (1, b"")
    return result.sentence


def verbs(exim: Exim) -> list[str]:
    return [command.split()[0].upper() for command in exim.said]


def only(exim: Exim) -> Arrived:
    [arrived] = exim.messages()
    return arrived


def login(ca_file: Path, password: str = PASSWORD) -> str:
    """The tables for alice, who trusts this authority."""
    return f'[auth]\nuser = "alice"\npassword = "{password}"\n[tls]\nca_file = "{ca_file}"\n'


# --- one message, one transaction


def test_mail_for_root_arrives_where_the_alias_of_root_points(program: Program, exim: Exim, tmp_path: Path) -> None:
    """D1, B1, F3: the alias is followed, and the message says what it has to."""
    aliases = tmp_path / "aliases"
    aliases.write_text("# who reads the mail of this machine\nroot: ops@client.example\n")
    configure(program, exim, tables=f'[redirect]\naliases = ["{aliases}"]\n')
    send(program, "root")
    arrived = only(exim)
    assert arrived.sender == "box@client.example"
    assert arrived.recipients == ["ops@client.example"]
    assert arrived.header.startswith(b"Subject: hi\n")
    assert all(arrived.parsed[name] for name in ("Date", "Message-ID", "From"))
    assert b"ops@" not in arrived.header
    assert arrived.body == b"hello\n"
    assert verbs(exim) in (["MAIL", "RCPT", "DATA"], ["MAIL", "RCPT", "BDAT"])


def test_500_recipients_are_one_mail_and_one_data(program: Program, either_exim: Exim) -> None:
    """B1: Exim itself would split them at 100."""
    recipients = [f"r{number}@x.example" for number in range(1, 501)]
    configure(program, either_exim)
    send(program, *recipients)
    assert only(either_exim).recipients == recipients
    assert verbs(either_exim)[:-1] == ["MAIL"] + ["RCPT"] * 500


def test_nobody_gets_it_where_one_of_500_is_refused(program: Program, either_exim: Exim) -> None:
    """B2: not even where CHUNKING is offered; the sentence names the one."""
    configure(program, either_exim)
    sentence = refusal(program, *[f"r{number}@y.example" for number in range(1, 501)])
    assert sentence.startswith("sendmail: not sent, refused: ")
    assert "r499@y.example" in sentence
    assert "550 no such user here" in sentence
    assert "r498@" not in sentence
    assert either_exim.messages() == []
    assert not {"DATA", "BDAT"} & set(verbs(either_exim))


def test_the_null_sender_stays_null(program: Program, exim: Exim) -> None:
    """E1."""
    configure(program, exim)
    send(program, "-f", "", "a@x.example")
    assert only(exim).sender == ""


def test_a_refused_sender_is_a_verdict_and_no_second_host_is_tried(
    program: Program, exim: Exim, tmp_path: Path, authority: Authority
) -> None:
    """C2: here by a host that wants a login and was given none."""
    with Exim(tmp_path, tls=authority.certificate("127.0.0.1"), users={"alice": PASSWORD}) as closed:
        configure(program, closed, exim)
        sentence = refusal(program, "a@x.example")
        assert sentence.startswith("sendmail: not sent, refused: ")
        assert "550 authentication required" in sentence
        assert closed.messages() == exim.messages() == []


# --- hosts in turn


def test_with_the_first_host_down_it_goes_through_the_second(program: Program, exim: Exim, tmp_path: Path) -> None:
    """C1, A5: still in silence; the log says `degraded`."""
    with Exim(tmp_path) as first:
        first.stop()
        configure(program, first, exim)
        send(program, "a@x.example")
        assert only(exim).body == b"hello\n"
        assert "degraded" in program.log


def test_a_host_that_has_come_back_is_used_again(program: Program, exim: Exim, tmp_path: Path) -> None:
    """A4, C4: nothing is remembered from one message to the next."""
    with Exim(tmp_path) as first:
        first.stop()
        configure(program, first, exim)
        send(program, "a@x.example")
        first.start()
        send(program, "b@x.example")
        assert only(exim).recipients == ["a@x.example"]
        assert only(first).recipients == ["b@x.example"]


def test_with_both_hosts_down_one_line_names_both_and_why(program: Program, exim: Exim, tmp_path: Path) -> None:
    """C7, A3."""
    with Exim(tmp_path) as first:
        first.stop()
        exim.stop()
        configure(program, first, exim)
        sentence = refusal(program, "a@x.example")
        assert sentence.startswith("sendmail: not sent, try again: ")
        assert sentence.index(str(first.port)) < sentence.index(str(exim.port))
        assert sentence.lower().count("connection refused") == 2


# --- TLS and AUTH


@pytest.fixture
def secure_exim(tmp_path: Path, authority: Authority) -> Iterator[Exim]:
    """It takes mail from alice only."""
    with Exim(tmp_path, tls=authority.certificate("127.0.0.1"), users={"alice": PASSWORD}) as exim:
        yield exim


@pytest.fixture
def ca_file(tmp_path: Path, authority: Authority) -> Path:
    return authority.ca_file(tmp_path / "ca.pem")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
def test_a_login_goes_over_tls(program: Program, secure_exim: Exim, ca_file: Path, scheme: str, mechanism: str) -> None:
    """submission: STARTTLS; submissions: TLS at once."""
    port = secure_exim.port if scheme == "submission" else secure_exim.tls_port
    tables = login(ca_file).replace("[tls]", f'mechanisms = ["{mechanism}"]\n[tls]')
    configure(program, f"{scheme}://127.0.0.1:{port}", tables=tables)
    send(program, "a@x.example")
    arrived = only(secure_exim)
    assert arrived.authenticated == "alice"
    assert arrived.cipher.startswith("TLS1.3:")
    assert arrived.protocol == "esmtpsa"
    assert f" A={mechanism}:alice " in secure_exim.log
    assert arrived.body == b"hello\n"


def test_a_wrong_password_is_a_refusal_that_does_not_show_it(
    program: Program, secure_exim: Exim, ca_file: Path
) -> None:
    """C1: neither it nor its base64 stands in the output or in the log."""
    configure(program, f"submission://127.0.0.1:{secure_exim.port}", tables=login(ca_file, password="hunter2-hunter2"))
    result = program.run("-v", "a@x.example", stdin=HELLO)
    assert result.status == 1
    sentence = refusal(program, "a@x.example")
    assert sentence.startswith("sendmail: not sent, refused: ")
    assert "535 Incorrect authentication data" in sentence
    for text in (result.err.decode(), result.out.decode(), sentence, program.log):
        assert "hunter2" not in text
        assert "aHVudGVyMi1odW50ZXIy" not in text
        assert "AGh1bnRlcjItaHVudGVyMg" not in text
    assert secure_exim.messages() == []


@pytest.mark.parametrize("scheme", ["submission", "submissions"])
def test_a_certificate_for_another_name_gets_no_mail(
    program: Program, tmp_path: Path, authority: Authority, ca_file: Path, scheme: str
) -> None:
    """Required is verified, or the host fails: before the password, before MAIL."""
    certificate = authority.certificate("other.example")
    with Exim(tmp_path, tls=certificate, users={"alice": PASSWORD}) as exim:
        port = exim.port if scheme == "submission" else exim.tls_port
        configure(program, f"{scheme}://127.0.0.1:{port}", tables=login(ca_file))
        sentence = refusal(program, "a@x.example")
        assert "certificate" in sentence
        assert "127.0.0.1" in sentence
        assert exim.said == []
        assert "A=PLAIN" not in exim.log
        assert "authenticator" not in exim.log


def test_a_certificate_of_an_unknown_authority_gets_no_mail(
    program: Program, secure_exim: Exim, tmp_path: Path
) -> None:
    configure(
        program,
        f"submission://127.0.0.1:{secure_exim.port}",
        tables=login(Authority().ca_file(tmp_path / "other-ca.pem")),
    )
    assert "certificate" in refusal(program, "a@x.example")
    assert secure_exim.said == []


# --- the bytes


def any_bytes(size: int) -> bytes:
    """Lines of all bytes but CR, at most 998 octets long, the same each time."""
    text = random.Random(3).randbytes(size).replace(b"\r", b"\n")
    return re.sub(rb"[^\n]{998}(?!\n)", rb"\g<0>\n", text) + b"\n"


BODIES = {
    "8-bit text": ("Grüße, 日本\n".encode(), "Grüße, 日本\n".encode()),
    "bytes that are no text": (bytes(set(range(256)) - set(b"\r\n")) + b"\n",) * 2,
    "dots": (b".\n..\n.x\n..y\n...\nz.\n", b".\n..\n.x\n..y\n...\nz.\n"),
    "a last lone dot": (b"x\n.\n", b"x\n.\n"),
    "blank lines at both ends": (b"\n\nx\n\n\n", b"\n\nx\n\n\n"),
    "blanks at line ends": (b" x \n\t\n   \n", b" x \n\t\n   \n"),
    "lines like mbox separators": (b"From me\n>From me\n", b"From me\n>From me\n"),
    "lines like header fields": (b"Bcc: x@x.example\nSubject: y\n", b"Bcc: x@x.example\nSubject: y\n"),
    "no final line end": (b"x\ny", b"x\ny\n"),
    "a final dot without a line end": (b"x\n.", b"x\n.\n"),
    "CRLF": (b"x\r\n\r\n.\r\ny\r\n", b"x\n\n.\ny\n"),
    "bare CR": (b"x\ry\r\rz\r", b"x\ny\n\nz\n"),
    "a dot between bare CR": (b"x\r.\ry\n.\rz\r.\nend\n", b"x\n.\ny\n.\nz\n.\nend\n"),
    "all line ends": (b"a\nb\r\nc\rd\n\re\r\r\nf", b"a\nb\nc\nd\n\ne\n\nf\n"),
    "empty": (b"", b""),
    "lines of 998 octets": (b"x" * 998 + b"\n" + b"." * 998 + b"\n",) * 2,
    "3 MiB": (any_bytes(3 * 1024 * 1024),) * 2,
}


@pytest.mark.row("I5", "G10")
@pytest.mark.parametrize("body", BODIES)
def test_the_body_arrives_as_it_was(program: Program, either_exim: Exim, body: str) -> None:
    """F1, F2: each line of it, with -i; LF, CRLF and bare CR are each one line end."""
    given, expected = BODIES[body]
    configure(program, either_exim)
    send(program, "-i", "a@x.example", stdin=b"Subject: hi\n\n" + given)
    assert only(either_exim).body == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"a\n.\nmore\n", b"a\n"),
        (b"a\r\n.\r\nmore\r\n", b"a\n"),
        (b"a\n.\r\nmore\n", b"a\n"),
        (b"a\n.\rmore\n", b"a\n.\nmore\n"),
        (b"a\r.\nmore\n", b"a\n.\nmore\n"),
        (b"a\n..\nmore\n", b"a\n..\nmore\n"),
    ],
)
def test_a_lone_dot_ends_the_message_where_i_is_not_given(
    program: Program, exim: Exim, given: bytes, expected: bytes
) -> None:
    """F2, as Exim 4.96 does it: a bare CR on either side of the dot makes it text."""
    configure(program, exim)
    send(program, "a@x.example", stdin=b"Subject: hi\n\n" + given)
    assert only(exim).body == expected


@pytest.mark.row("G10")
def test_the_callers_header_keeps_its_bytes_and_order(program: Program, exim: Exim) -> None:
    """F3."""
    header = (
        b"Received: from elsewhere; Sat, 21 Nov 2026 10:00:00 +0000\n"
        b"X-Folded: one\n\ttwo\n   three\n"
        b"from: A <a@client.example>\n"
        b"Subject:no blank\n"
        b"Date: Sat, 21 Nov 2026 10:00:00 +0000\n"
        b"To: B <b@x.example>\n"
        b"X-Twice: 1\nX-Twice: 2\n"
        b"Message-ID: <1@client.example>\n"
        b"X-Empty:\n"
    )
    configure(program, exim)
    send(program, "b@x.example", stdin=header + b"\nhello\n")
    assert only(exim).header == header


@pytest.mark.row("I7")
def test_bcc_is_seen_by_nobody(program: Program, either_exim: Exim) -> None:
    """E7, F4."""
    configure(program, either_exim)
    header = b"To: a@x.example\nBcc: b@x.example,\n c@x.example\nbcc: d@x.example\nSubject: hi\n"
    send(program, "-t", stdin=header + b"\nhello\n")
    arrived = only(either_exim)
    assert arrived.recipients == ["a@x.example", "b@x.example", "c@x.example", "d@x.example"]
    assert arrived.parsed["Bcc"] is None
    assert b"b@x" not in arrived.header
    assert b"d@x" not in arrived.header


# --- what would not survive


def read(arrived: Arrived) -> bytes:
    """What a mail reader makes of the body."""
    octets = arrived.parsed.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets


@pytest.mark.row("S12 re-encoding")
def test_a_line_of_3000_characters_from_cron_arrives_as_it_was(program: Program, either_exim: Exim) -> None:
    """F6: Exim itself would refuse it, and the mail of the job would be lost."""
    header = b"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"
    output = b"before\n" + b"a log line " * 300 + b"\nGr\xc3\xbc\xc3\x9fe\n.\nafter\n"
    configure(program, either_exim)
    send(program, "-i", "a@x.example", stdin=b"From: root (Cron Daemon)\nSubject: Cron\n" + header + b"\n" + output)
    arrived = only(either_exim)
    assert read(arrived) == output
    assert max(map(len, arrived.body.split(b"\n"))) <= 76
    assert arrived.parsed.get_content_charset() == "utf-8"


@pytest.mark.row("S12 re-encoding")
def test_8_bit_text_arrives_through_an_exim_that_does_not_offer_8bitmime(program: Program, tmp_path: Path) -> None:
    """F6: ASCII only on the wire, and the reader sees what was written."""
    text = "Grüße, 日本\n"
    with Exim(tmp_path, extra="accept_8bitmime = false\n") as narrow:
        configure(program, narrow)
        send(program, "a@x.example", stdin=f"Subject: {text}\n{text}".encode())
        arrived = only(narrow)
    assert (arrived.header + arrived.body).isascii()
    assert read(arrived).decode() == text
    assert str(make_header(decode_header(arrived.parsed["Subject"]))) == text.strip()
