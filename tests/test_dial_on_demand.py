"""A line that is dialled when somebody talks: nobody is asked anything, and nobody called, before there is a reason."""

from __future__ import annotations

import pytest

from tests.support.alone import OWN_NAME
from tests.support.program import Program
from tests.support.resolver import Seen, alone

NAME = "mail.client.example"
BY_NAME = f"smtp://{NAME}:{{port}}"
BY_ADDRESS = "smtp://127.0.0.1:{port}"
NOWHERE = ("smtp://192.0.2.1:25", "smtp://192.0.2.2:25")  # for which this machine has no route
ONCE = [(NAME, "A"), (NAME, "AAAA")]
LOOKED_UP = ("/etc/hosts", "/etc/resolv.conf", "/etc/host.conf", "/etc/gai.conf", "htons(53)", "libnss_dns")
TWICE = "dial_delay = 0.3\n"


def after_the_message(seen: Seen) -> None:
    """Neither a question nor a call before standard input has ended."""
    ended = seen.at('read(0, "", ')[0]
    calls = [at for family in ("AF_INET,", "AF_INET6,") for at in seen.at(f"socket({family}")]
    assert calls
    assert ended < min(calls + seen.asked_at)


# -- look-ups --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [["you@example.net"], ["-odd", "-Fal", "root", f"you@{OWN_NAME}"], ["-odq", "-f", "al", "-t"]],
    ids=["plain", "own name", "sender"],
)
def test_with_an_address_nobody_is_asked_anything(argv: list[str], program: Program) -> None:
    """INTERMITTENT 4, E6: neither DNS nor nscd nor the hosts file, whatever names the message has; ours neither."""
    message = b"To: you@example.net, root\nFrom: al (Al)\nReply-To: you@elsewhere.example\n\nHello.\n"
    admin = f'admin = "al@client.example"\nqualify_domain = "client.example"\nhostname = "{OWN_NAME}"\n'
    seen = alone(program, "smtp://[::1]:1", BY_ADDRESS, argv=argv, stdin=message, more=admin)
    assert (seen.status, seen.out, seen.err, seen.sent) == (0, "", "", 1)
    assert (seen.questions, seen.about_names) == ([], [])
    assert [line for line in seen.trace if any(file in line for file in LOOKED_UP)] == []
    after_the_message(seen)


def test_with_a_name_that_name_is_asked_for_and_no_other(program: Program) -> None:
    """INTERMITTENT 4: once, when the message is complete."""
    seen = alone(program, BY_NAME, argv=["root", f"you@{OWN_NAME}"], more=ADMIN, answers={NAME: ["127.0.0.1"]})
    assert (seen.status, seen.err, seen.sent) == (0, "", 1)
    assert seen.questions == ONCE
    assert {asked.partition(" ")[2].rstrip("\0") for asked in seen.about_names} <= {"hosts", NAME}
    after_the_message(seen)


ADMIN = 'admin = "al@client.example"\n'


def test_with_a_name_in_the_hosts_file_no_name_server_is_asked(program: Program) -> None:
    """INTERMITTENT 4."""
    seen = alone(program, "smtp://known.client.example:{port}", answers={})
    assert (seen.status, seen.sent, seen.questions) == (0, 1, [])


@pytest.mark.parametrize(
    ("argv", "more", "words"),
    [
        (["you@"], "", "cannot read the recipient"),
        (["-t"], "", "no recipient"),
        (["you@example.net"], '[auth]\nuser = "me"\npassword = { file = "/nowhere" }\n', "/nowhere"),
    ],
    ids=["recipient", "header", "password"],
)
def test_what_fails_here_asks_nobody(argv: list[str], more: str, words: str, program: Program) -> None:
    """B3, INTERMITTENT 4: everything local comes first."""
    seen = alone(program, BY_NAME, argv=argv, more=more, answers={NAME: ["127.0.0.1"]})
    assert seen.status == 1
    assert words in seen.err
    assert (seen.questions, seen.about_names, seen.sessions) == ([], [], 0)


# -- the second round ------------------------------------------------------------------------------------------------


def test_where_there_is_no_network_all_hosts_are_called_twice(program: Program) -> None:
    """C6: in order, dial_delay apart, and never a third time."""
    seen = alone(program, *NOWHERE, more=TWICE)
    calls = [(line.split('inet_addr("')[1].split('"')[0], at) for line, at in connects(seen)]
    assert [host for host, _ in calls] == ["192.0.2.1", "192.0.2.2"] * 2
    assert calls[2][1] - calls[1][1] >= 0.3
    assert (seen.status, seen.err.count("network is unreachable")) == (1, 2)
    assert seen.err.startswith("sendmail: not sent, try again: ")
    after_the_message(seen)


def connects(seen: Seen) -> list[tuple[str, float]]:
    return [(line, float(line.split()[1])) for line in seen.trace if " connect(" in line and "AF_INET," in line]


def test_a_name_that_cannot_be_looked_up_now_is_looked_up_twice(program: Program) -> None:
    """C6: which is what a line that sleeps gives; nobody is called."""
    seen = alone(program, BY_NAME, more=TWICE, answers={NAME: ["SERVFAIL"]})
    assert rounds(seen) == 2
    assert set(seen.questions) == set(ONCE)
    assert (seen.status, seen.sessions) == (1, 0)
    assert seen.err.startswith(f"sendmail: not sent, try again: {NAME}:")
    after_the_message(seen)


def rounds(seen: Seen) -> int:
    """How often questions came that were dial_delay apart; within a round the C library asks more than once."""
    pairs = zip(seen.asked_at, seen.asked_at[1:], strict=False)
    return 1 + sum(later - earlier >= 0.3 for earlier, later in pairs)


def test_a_line_that_comes_up_meanwhile_takes_the_message(program: Program) -> None:
    """C6: silently."""
    seen = alone(program, BY_NAME, more=TWICE, answers={NAME: ["SERVFAIL", "SERVFAIL", "127.0.0.1"]})
    assert (seen.status, seen.err, seen.sent, seen.sessions, rounds(seen)) == (0, "", 1, 1, 2)
    assert set(seen.questions) == set(ONCE)


def test_without_dial_delay_there_is_one_round(program: Program) -> None:
    """C6: it is off unless set."""
    seen = alone(program, BY_NAME, *NOWHERE, answers={NAME: ["SERVFAIL"]})
    assert (seen.status, set(seen.questions), rounds(seen)) == (1, set(ONCE), 1)
    assert len([line for line, _ in connects(seen) if "192.0.2." in line]) == 2


@pytest.mark.parametrize("stage", ["greeting", "MAIL"])
def test_after_a_connection_nobody_is_called_again(stage: str, program: Program) -> None:
    """C6: the line was up, whatever came of the other hosts."""
    seen = alone(program, NOWHERE[0], BY_NAME, more=TWICE, answers={NAME: ["127.0.0.1"]}, script={stage: "421 busy"})
    assert (seen.status, seen.sessions, seen.sent) == (1, 1, 0)
    assert (seen.questions, len(seen.at('inet_addr("192.0.2.1")'))) == (ONCE, 1)
