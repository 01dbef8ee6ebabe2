"""LMTP: one verdict for each recipient, told, kept and logged as what it is; never a second copy."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Receipt, SmartHost
from muawrap.submission.deliver import deliver
from muawrap.submission.line import Line, is_refusal
from tests.submission.offering import PATIENT, failure_of, login, offer, recipient, smart_host
from tests.support.lmtp_server import LmtpServer
from tests.support.program import Program
from tests.support.server import Drop, Reset, Server, Silence, Then, Wait

A, B, C = "a@x.example", "b@x.example", "c@x.example"
NO, LATER = "550 5.1.1 no such user", "452 4.2.2 over quota"
BOTH = ("PIPELINING", "8BITMIME", "CHUNKING")
OFFERS = [BOTH, ("PIPELINING",), ("CHUNKING",), ()]


def lmtp(server: LmtpServer, **fields: Any) -> SmartHost:
    fields.setdefault("policy", "none")
    return smart_host(server, "lmtp", **fields)


def addresses(failures: Sequence[Exception]) -> list[str]:
    return [one.recipient for one in failures if isinstance(one, Failure)]


# -- the dialogue


@pytest.mark.parametrize("extensions", OFFERS)
@pytest.mark.parametrize("to", [(A,), (A, B, C)])
def test_everybody_gets_it_once_whatever_is_offered(extensions: Sequence[str], to: tuple[str, ...]) -> None:
    """B1, RFC 2033, 4.2: one reply for each recipient, after BDAT LAST as after the dot."""
    with LmtpServer(extensions=extensions) as server:
        receipt = deliver(offer(lmtp(server), to=to, text=b".\nHello.\n"))
        (session,) = server.finished()
    text = session.messages[0].text
    assert text.endswith(b"\r\n\r\n.\r\nHello.\r\n")
    assert server.deliveries == [(one.encode(), text) for one in to]
    assert receipt.reply == "250 " + "; ".join(f"2.1.5 <{one}> taken" for one in to)
    assert session.commands[0] == b"LHLO client.example"
    assert session.commands[-1] == b"QUIT"


def test_commands_go_in_the_flights_of_smtp_but_the_text_waits_for_the_envelope() -> None:
    """B5; not B6: "250 2.1.5" may be an answer to RCPT or a verdict, so that one reply too many would not show."""
    with LmtpServer(extensions=BOTH) as server:
        deliver(offer(lmtp(server)))
        (session,) = server.finished()
    clients = [octets for who, octets in session.transcript if who == "C"]
    assert [octets.split(b" ")[0] for octets in clients] == [b"LHLO", b"MAIL", b"BDAT", b"QUIT\r\n"]


@pytest.mark.parametrize("reply", ["500 what?", "421 bye"])
def test_a_refused_lhlo_is_the_hosts_own_and_nothing_else_is_tried(reply: str) -> None:
    """C1, RFC 2033, 4.1: neither EHLO nor HELO."""
    with LmtpServer({"EHLO": reply}) as server:
        failure = failure_of(offer(lmtp(server)))
        (session,) = server.finished()
    assert failure.sentence() == f"127.0.0.1:{server.port} answered LHLO with {reply}"
    assert session.commands == [b"LHLO client.example", b"QUIT"]


def test_a_server_that_speaks_smtp_is_no_lmtp_server() -> None:
    """A3."""
    with Server() as server:
        failure = failure_of(offer(smart_host(server, "lmtp", policy="none")))
    assert failure.stage is Stage.LHLO
    assert "answered LHLO with 500" in failure.sentence()


def test_lmtp_has_tls_and_auth_as_smtp_has(authority: Any, tmp_path: Path) -> None:
    """RFC 2033, 4.3: LHLO comes once more behind STARTTLS; required is the default."""
    with LmtpServer(context=authority.server_context(), users={"alice": "s3cret"}) as server:
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        receipt = deliver(offer(smart_host(server, "lmtp", ca_file=ca_file, auth=login("s3cret"))))
        (session,) = server.finished()
    assert receipt.tls.startswith("TLSv1.")
    assert session.authenticated == "alice"
    assert [command.split(b" ")[0] for command in session.commands[:4]] == [b"LHLO", b"STARTTLS", b"LHLO", b"AUTH"]


def test_nobody_gets_it_where_one_is_refused_at_rcpt() -> None:
    """B2."""
    with LmtpServer({f"RCPT {B}": NO}) as server:
        failure = failure_of(offer(lmtp(server), to=(A, B, C)))
        server.finished()
    assert (failure.lead, failure.recipient, failure.shares) == (REFUSED, f"<{B}>", None)
    assert server.deliveries == []


# -- the verdicts


@pytest.mark.parametrize("extensions", [BOTH, ("PIPELINING",)])
@pytest.mark.parametrize(
    ("script", "lead", "sentence"),
    [
        # Some have it, and it is known who has not: sending all of it again would make two of theirs.
        ({f"dot {B}": NO}, REFUSED, f"did not take the message for all: sent to <{A}>, <{C}>; refused for <{B}>: {NO}"),
        (
            {f"dot {B}": LATER},
            REFUSED,
            f"did not take the message for all: sent to <{A}>, <{C}>; not now for <{B}>: {LATER}",
        ),
        (
            {f"dot {A}": NO, f"dot {C}": LATER},
            REFUSED,
            f"did not take the message for all: sent to <{B}>; refused for <{A}>: {NO}; not now for <{C}>: {LATER}",
        ),
        ({f"dot {A}": NO, f"dot {B}": NO}, REFUSED, f"sent to <{C}>; refused for <{A}>, <{B}>: {NO}"),
        # Nobody has it, so that it may be sent again where no refusal is for good.
        ({"dot": LATER}, TRY_AGAIN, f"refused the message: {LATER}"),
        ({"dot": NO}, REFUSED, f"refused the message: {NO}"),
        (
            {"dot": "452 4.3.1 full", f"dot {B}": LATER},
            TRY_AGAIN,
            f"did not take the message: not now for <{A}>, <{C}>: 452 4.3.1 full; not now for <{B}>: {LATER}",
        ),
        (
            {"dot": LATER, f"dot {B}": NO},
            REFUSED,
            f"did not take the message: not now for <{A}>, <{C}>: {LATER}; refused for <{B}>: {NO}",
        ),
        # It is not known of somebody.
        (
            {f"dot {B}": NO, f"dot {C}": Drop()},
            UNCERTAIN,
            f"sent to <{A}>; refused for <{B}>: {NO}; unknown for <{C}>: lost the connection while waiting for the",
        ),
        (
            {f"dot {B}": Drop()},
            UNCERTAIN,
            f"did not answer for all: sent to <{A}>; unknown for <{B}>, <{C}>: lost the connection while",
        ),
        ({"dot": LATER, f"dot {B}": Drop()}, UNCERTAIN, f"not now for <{A}>: {LATER}; unknown for <{B}>, <{C}>: lost"),
        ({f"dot {B}": "354 what"}, UNCERTAIN, f'sent to <{A}>; unknown for <{B}>, <{C}>: sent "354 what"'),
        ({f"dot {B}": "gar\nbage"}, UNCERTAIN, f"sent to <{A}>; unknown for <{B}>, <{C}>: sent what is no SMTP"),
        ({f"dot {B}": "250-yes\n550 no"}, UNCERTAIN, f"sent to <{A}>; unknown for <{B}>, <{C}>: sent a reply that"),
        ({f"dot {B}": "421 bye", f"dot {C}": Drop()}, UNCERTAIN, f"not now for <{B}>: 421 bye; unknown for <{C}>"),
        ({f"dot {A}": Drop()}, UNCERTAIN, ": lost the connection while waiting for the verdict on the message"),
        # A reply too many: whose is whose is not known any more.
        ({f"dot {C}": "250 yes\n250 yes"}, UNCERTAIN, 'sent "250 2.1.5 <a@x.example> taken" and then "250 yes"'),
        ({"dot 1": "250 yes\n550 no\n250 yes\n250 yes"}, UNCERTAIN, 'and then "250 yes", which nobody asked for'),
    ],
)
def test_each_recipients_verdict_is_told(
    script: dict[str, Any], lead: str, sentence: str, extensions: Sequence[str]
) -> None:
    """A3, C3: "may have been sent" where somebody's verdict is missing, never "try again" where somebody has it."""
    with LmtpServer(script, extensions=extensions) as server, LmtpServer() as other:
        failure = failure_of(offer(lmtp(server), lmtp(other), to=(A, B, C)))
        server.finished()
        assert other.finished() == []  # no second host after the end of the text
    assert sentence in failure.sentence()
    assert failure.sentence().startswith(f"127.0.0.1:{server.port}")
    assert failure.lead == lead
    assert failure.stage is Stage.VERDICT
    said = failure.shares
    if said is not None:
        has = {one.decode() for one, _ in server.deliveries}
        assert {one.address for one in said.sent} <= has
        assert not {one.address for one in said.unsent} & has
        assert sorted((*said.sent, *said.unsent, *said.unknown)) == [recipient(one) for one in (A, B, C)]


@pytest.mark.parametrize(
    ("script", "lead", "sentence"),
    [
        ({"dot": NO}, REFUSED, f"refused the message: {NO}"),
        ({"dot": LATER}, TRY_AGAIN, f"refused the message: {LATER}"),
        ({"dot": Reset()}, UNCERTAIN, "lost the connection"),
        ({"dot": "250 yes\n250 yes"}, UNCERTAIN, "which nobody asked for"),
    ],
)
def test_a_single_recipient_is_as_over_smtp(script: dict[str, Any], lead: str, sentence: str) -> None:
    """C3."""
    with LmtpServer(script) as server:
        failure = failure_of(offer(lmtp(server)))
    assert (failure.lead, failure.reasons, failure.shares) == (lead, (), None)
    assert sentence in failure.sentence()


def test_each_verdict_has_the_time_of_one() -> None:
    """Timeouts: a server that delivers to one after the other is waited for; silence is the end."""
    limits = PATIENT._replace(final=0.5)
    slow = {"dot": Then(Wait(0.2), "250 2.0.0 at last")}
    with LmtpServer(slow) as server:
        assert deliver(offer(lmtp(server, timeouts=limits), to=(A, B, C))).reply == "250 2.0.0 at last"
    with LmtpServer({f"dot {B}": Silence()}) as server:
        failure = failure_of(offer(lmtp(server, timeouts=limits), to=(A, B)))
    assert f"sent to <{A}>; unknown for <{B}>: timed out while waiting" in failure.sentence()


def test_many_are_named_up_to_ten() -> None:
    """A7."""
    to = tuple(f"r{number}@x.example" for number in range(40))
    with LmtpServer({f"dot r{number}@x.example": f"550 5.1.1 no {number}" for number in range(20)}) as server:
        sentence = failure_of(offer(lmtp(server), to=to)).sentence()
    assert "<r29@x.example> and 10 more; refused for <r0@x.example>: 550 5.1.1 no 0; " in sentence
    assert sentence.endswith("; and 10 more")


def test_an_address_of_somebody_elses_forward_is_not_shown() -> None:
    """D5: neither by us nor in the server's words."""
    hidden = recipient(B)._replace(shown="(by alice's .forward)")
    with LmtpServer({f"dot {B}": f"550 5.1.1 <{B}> no"}) as server:
        failure = failure_of(offer(lmtp(server), to=(A, hidden)))
    assert B not in failure.sentence()
    assert "refused for (by alice's .forward): 550 5.1.1 <***> no" in failure.sentence()


# -- a message for those who are accepted


def partly(script: dict[str, Any], to: tuple[str, ...] = (A, B, C)) -> tuple[Receipt, LmtpServer]:
    with LmtpServer(script) as server:
        receipt = deliver(offer(lmtp(server), to=to, partial=True))
        server.finished()
    return receipt, server


def test_a_partial_transaction_has_a_receipt_that_names_all_others() -> None:
    """INTERMITTENT 6.4: refused at RCPT, refused after the dot, and unknown, each with its reason."""
    receipt, server = partly({f"RCPT {A}": NO, "dot 2": LATER, "dot 3": Drop()}, (A, B, C, "d@x.example"))
    assert server.deliveries[:1] == [(B.encode(), server.deliveries[0][1])]
    assert receipt.reply == f"250 2.1.5 <{B}> taken"
    assert addresses(receipt.refused) == [f"<{A}>", f"<{C}>"]
    assert addresses(receipt.unknown) == ["<d@x.example>"]
    assert [str(one) for one in receipt.refused][1].endswith(f"refused the message: <{C}>: {LATER}")


def test_a_partial_transaction_that_nobody_has_is_a_failure() -> None:
    """INTERMITTENT 6.4: with the reason of each."""
    with LmtpServer({"dot": LATER, f"dot {B}": NO}) as server:
        failure = failure_of(offer(lmtp(server), to=(A, B), partial=True))
    assert [(one.recipient, one.lead) for one in failure.reasons] == [(f"<{A}>", TRY_AGAIN), (f"<{B}>", REFUSED)]


# -- several messages


def test_several_messages_go_over_one_connection() -> None:
    """E8: each waits for all its verdicts, and none is announced ahead of them."""
    with LmtpServer(extensions=BOTH) as server:
        line = Line()
        for first, second in [((A, B), (B, C)), ((B, C), ())]:
            line.deliver(offer(lmtp(server), to=first), offer(lmtp(server), to=second) if second else None)
        line.close()
        (session,) = server.finished()
    assert [one for one, _ in server.deliveries] == [one.encode() for one in (A, B, B, C)]
    assert b"".join(session.commands).count(b"MAIL") == 2


def test_a_line_goes_on_after_refusals_and_anew_after_a_loss() -> None:
    """INTERMITTENT 6.4, C8: all replies to the one message are heard before the next is offered."""
    with LmtpServer({f"dot {A}": NO, f"dot {B}": LATER}) as server:
        line = Line(goes_on=True)
        with pytest.raises(Failure) as caught:
            line.deliver(offer(lmtp(server), to=(A, B)))
        assert is_refusal(caught.value)
        assert line.deliver(offer(lmtp(server), to=(C,))).reply.startswith("250")
        line.close()
        assert len(server.finished()) == 1
    with LmtpServer([{f"dot {B}": Drop()}, {}]) as server:
        line = Line(goes_on=True)
        receipt = line.deliver(offer(lmtp(server), to=(A, B), partial=True))
        assert addresses(receipt.unknown) == [f"<{B}>"]
        line.deliver(offer(lmtp(server), to=(C,), partial=True))
        line.close()
        assert len(server.finished()) == 2


# -- from outside


def configured(program: Program, server: LmtpServer, more: str = "") -> Program:
    program.configure(
        f'smart_hosts = [{{ url = "lmtp://127.0.0.1:{server.port}", tls = {{ policy = "none" }} }}]\n'
        f'from = "me@client.example"\n{more}'
    )
    return program


MESSAGE = b"Message-ID: <1@client.example>\nSubject: hello\n\nHello.\n"


def test_one_line_says_who_has_it(program: Program) -> None:
    """A1, A3: exit 1, and what to do."""
    with LmtpServer({f"dot {B}": NO}) as server:
        done = configured(program, server).run(A, B, stdin=MESSAGE)
    where = f"127.0.0.1:{server.port}"
    sentence = f"{where} did not take the message for all: sent to <{A}>; refused for <{B}>: {NO}"
    advice = "send it again to those only who do not have it"
    assert done.sentence == f"sendmail: not sent, refused: {sentence} [Message-ID <1@client.example>] ({advice})"
    assert done.status == 1
    assert f'lead="not sent, refused" error="{sentence} ({advice})"' in program.log


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ({f"dot {B}": LATER}, os.EX_UNAVAILABLE),  # not 75: whoever reads that sends all of it again
        ({f"dot {B}": "550 5.7.1 no"}, os.EX_NOPERM),
        ({f"dot {B}": Drop()}, os.EX_SOFTWARE),
        ({"dot": LATER, f"dot {B}": "452 full"}, os.EX_TEMPFAIL),
    ],
)
def test_sysexits_never_ask_for_a_second_copy(program: Program, script: dict[str, Any], status: int) -> None:
    """A1."""
    with LmtpServer(script) as server:
        assert configured(program, server, 'exit_status = "sysexits"\n').run(A, B, stdin=MESSAGE).status == status


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ({}, 250, f"2.1.5 <{A}> taken; 2.1.5 <{B}> taken"),
        ({f"dot {B}": LATER}, 554, f"sent to <{A}>; not now for <{B}>"),
        ({f"dot {B}": NO}, 550, f"sent to <{A}>; refused for <{B}>"),
        ({f"dot {B}": Drop()}, 554, "5.4.2 may have been sent: "),
        ({"dot": LATER}, 452, "over quota"),
    ],
)
def test_a_caller_by_smtp_is_never_asked_to_send_a_second_copy(
    program: Program, script: dict[str, Any], code: int, words: str
) -> None:
    """E8: no 4yz where somebody has it."""
    said = f"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<{A}>\r\nRCPT TO:<{B}>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
    with LmtpServer(script) as server:
        done = configured(program, server).run("-bs", stdin=said.encode())
    verdict = done.out.decode().partition("354 ")[2].partition("\r\n")[2]
    assert re.match(rf"{code}[ -]", verdict)
    assert words in verdict
    assert done.status == int(code != 250)


def test_a_batch_says_who_has_the_message_it_stops_at(program: Program, tmp_path: Path) -> None:
    """E8, A4: and keeps it for the others only."""
    one = f"MAIL FROM:<me@client.example>\nRCPT TO:<{A}>\nRCPT TO:<{B}>\nDATA\nSubject: x\n\nx\n.\n"
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    with LmtpServer() as server:
        assert configured(program, server).run("-bS", stdin=(one * 3).encode()).status == 0
        assert len(server.finished()) == 1
    assert [to for to, _ in server.deliveries] == [A.encode(), B.encode()] * 3
    with LmtpServer({f"dot {B}": NO}) as server:
        done = configured(program, server, f'keep_failed = "{kept}"\n').run("-bS", stdin=one.encode())
    assert f"message 1, at line 1, after 0 sent: 127.0.0.1:{server.port} did not take the message for all" in (
        done.sentence
    )
    (file,) = kept.iterdir()
    assert re.findall(r"RCPT TO:<(.*)>", file.read_text()) == [B]


def test_a_signal_between_two_verdicts_tells_what_is_known(program: Program) -> None:
    """A5, C3: the first signal waits for the rest, the second one does not."""
    reached = threading.Event()

    class Reached(Silence):
        def perform(self, channel: Any) -> None:
            reached.set()
            super().perform(channel)

    with LmtpServer({f"dot {B}": Reached()}) as server:
        configured(program, server)
        process = subprocess.Popen(
            [program.named("sendmail"), "-C", program.config, A, B],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"},
        )
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(MESSAGE)
        process.stdin.close()
        assert reached.wait(20)
        while process.poll() is None:  # the first may come before the verdict of A has been read
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
        err = process.stderr.read()
        process.stderr.close()
    assert process.returncode == 1
    assert b"may have been sent: " in err
    assert f"sent to <{A}>; unknown for <{B}>: interrupted by a signal while waiting".encode() in err


def test_verbose_shows_every_verdict(program: Program) -> None:
    """The dialogue is told as it is."""
    with LmtpServer({f"dot {B}": NO}) as server:
        done = configured(program, server).run("-v", A, B, stdin=MESSAGE)
    lines = done.err.decode().splitlines()
    assert ">>> LHLO" in done.err.decode()
    assert f"<<< 250 2.1.5 <{A}> taken" in lines
    assert f"<<< {NO}" in lines


def test_a_plain_delivery_does_not_load_it(program: Program) -> None:
    """PERFORMANCE: what a configuration needs is loaded when it needs it."""
    with Server() as server:
        program.configure(f'{program.smart_hosts(server)}from = "me@client.example"\n')
        said = program.script(
            "from muawrap import sendmail;"
            "sendmail.run(['sendmail', '-C', sys.argv[1], 'you@example.net']);"
            "print(*sys.modules)",
            MESSAGE,
        )
    loaded = {name.rpartition(".")[2] for name in said.decode().split() if name.startswith("muawrap.")}
    assert "transact" in loaded
    assert not loaded & {"lmtp", "unix", "socks"}


def test_tls_is_required_by_default_on_the_network() -> None:
    """DESIGN: TLS required unless the scheme is smtp or mx, or the socket is local."""
    with LmtpServer() as server:
        failure = failure_of(offer(smart_host(server, "lmtp")))
    assert failure.what == "the server does not offer TLS"
