"""The program from outside: what the caller sees, and what arrives."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.server import Hold, Server, closed_port

MESSAGE = b"Subject: hello\n\nHello.\n"
ME = 'from = "me@client.example"\n'


@pytest.fixture
def server() -> object:
    with Server() as running:
        yield running


def ready(program: Program, *hosts: Server | str, more: str = "") -> Program:
    program.configure(f"{program.smart_hosts(*hosts)}{ME}{more}")
    return program


def delivered(server: Server) -> list[bytes]:
    return [recipient for message in server.accepted for recipient in message.recipients]


# -- the answer ------------------------------------------------------------------------------------------------------


def test_success_is_silent_and_logged(program: Program, server: Server) -> None:
    """RULES A1, A2."""
    done = ready(program, server).run("you@example.net", stdin=MESSAGE)
    assert (done.status, done.out, done.err) == (0, b"", b"")
    (line,) = program.log.splitlines()
    for fact in (
        "sent",
        "from=<me@client.example>",
        "to=<you@example.net>",
        f"host=127.0.0.1:{server.port}",
        "tls=none",
    ):
        assert fact in line
    assert "id=<" in line
    assert 'reply="250 ' in line


@pytest.mark.parametrize("options", [["-oem"], ["-oee"], ["-oeq"], ["-odq"], ["-odb", "-oep"], ["-em"]])
def test_failure_is_one_line_whatever_the_error_options_say(program: Program, options: list[str]) -> None:
    """RULES A1, A3, E6."""
    with Server({"RCPT": "550 5.1.1 no such user"}) as server:
        done = ready(program, server).run(*options, "you@example.net", stdin=MESSAGE)
    assert (done.status, done.out) == (1, b"")
    assert done.sentence.startswith("sendmail: not sent, refused: ")
    for fact in (f"127.0.0.1:{server.port}", "<you@example.net>", "550 5.1.1 no such user"):
        assert fact in done.sentence
    assert "failed" in program.log
    assert "no such user" in program.log


def test_a_usage_error_is_a_failure_like_any_other(program: Program, server: Server) -> None:
    """RULES A1: exit 1, one line, no connection."""
    done = ready(program, server).run("--frobnicate", "you@example.net", stdin=MESSAGE)
    assert done.status == 1
    assert "--frobnicate" in done.sentence
    assert server.sessions == []


def test_a_configuration_error_is_a_failure_like_any_other(program: Program) -> None:
    """RULES A3: file, line and key."""
    program.configure('smart_hosts = ["smtp://127.0.0.1:1"]\nsmrt_hosts = []\n')
    done = program.run("you@example.net", stdin=MESSAGE)
    assert done.status == 1
    for fact in (str(program.config), "line 2", "smrt_hosts", "smart_hosts"):
        assert fact in done.sentence


@pytest.mark.row("F5")
def test_nothing_is_left_anywhere(program: Program) -> None:
    """RULES A4: no queue and no file, after a failure either."""
    with closed_port() as port:
        ready(program, f"smtp://127.0.0.1:{port}")
        spool = program.folder / "tmp"
        spool.mkdir()
        env = {"PATH": "/usr/bin:/bin", "HOME": str(program.folder), "TMPDIR": str(spool)}
        before = sorted(program.folder.iterdir())
        done = program.run("you@example.net", stdin=MESSAGE + b"x" * 3_000_000, env=env)
    assert done.status == 1
    assert list(spool.iterdir()) == []
    assert sorted(program.folder.iterdir()) == sorted([*before, program.log_file])


def test_a_delivery_that_needed_a_second_host_is_logged_as_degraded(program: Program, server: Server) -> None:
    """RULES A5."""
    with closed_port() as port:
        done = ready(program, f"smtp://127.0.0.1:{port}", server).run("you@example.net", stdin=MESSAGE)
    assert (done.status, done.err) == (0, b"")
    assert f'degraded="127.0.0.1:{port}: connection refused' in program.log


@pytest.mark.row("S7")
def test_all_hosts_failed_is_one_line_with_each_reason_in_order(program: Program) -> None:
    """RULES C7."""
    with closed_port() as one, Server({"greeting": "554 5.3.2 not today"}) as two:
        done = ready(program, f"smtp://127.0.0.1:{one}", two).run("you@example.net", stdin=MESSAGE)
    first, second = done.sentence.index(f"127.0.0.1:{one}"), done.sentence.index(f"127.0.0.1:{two.port}")
    assert first < second
    assert "connection refused" in done.sentence[first:second]
    assert "554 5.3.2 not today" in done.sentence[second:]


@pytest.mark.row("L4")
@pytest.mark.parametrize("log", ["/dev/full", "/nowhere/log", "/proc/self/mem"])
def test_log_trouble_never_changes_the_outcome(program: Program, server: Server, log: str) -> None:
    """RULES A5."""
    done = ready(program, server, more=f'log = "{log}"\n').run("you@example.net", stdin=MESSAGE)
    assert (done.status, done.out, done.err) == (0, b"", b"")


@pytest.mark.row("O6", "L4")
@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_closed_descriptors_change_nothing(program: Program, server: Server, closed: tuple[int, ...]) -> None:
    """RULES A5, RELIABILITY O6: no socket takes their place."""
    ready(program, server)
    script = "exec " + " ".join(f"{descriptor}>&-" for descriptor in closed) + f' "{program.named("sendmail")}" "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", "-C", program.config, "you@example.net"], input=MESSAGE, check=False
    )
    assert done.returncode == 0
    assert delivered(server) == [b"you@example.net"]
    assert b"".join(command for session in server.sessions for command in session.commands).count(b"sendmail:") == 0


def test_the_whole_message_is_read_before_a_failure_is_told(program: Program) -> None:
    """RULES A6: the writer of 8 MB gets our status, not SIGPIPE."""
    program.configure("nonsense = 1\n")
    with subprocess.Popen(
        [program.named("sendmail"), "-C", program.config, "-i", "you@example.net"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for _ in range(128):
            process.stdin.write(b"x" * 65_535 + b"\n")
        process.stdin.close()
        assert b"nonsense" in process.stderr.read()
    assert process.returncode == 1


def test_what_follows_the_lone_dot_is_read_so_that_the_writer_lives(program: Program, server: Server) -> None:
    """RULES A6, F2."""
    ready(program, server)
    with subprocess.Popen(
        [program.named("sendmail"), "-C", program.config, "you@example.net"], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(MESSAGE + b".\n" + b"not the message\n" * 200_000)
        process.stdin.close()
    assert process.returncode == 0
    assert b"not the message" not in server.accepted[0].data


def test_a_writer_that_waits_for_us_after_the_dot_is_not_waited_for(program: Program, server: Server) -> None:
    """RULES F2: the dot ends the message, an open pipe or not."""
    ready(program, server)
    with subprocess.Popen(
        [program.named("sendmail"), "-C", program.config, "you@example.net"], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(MESSAGE + b".\n")
        process.stdin.flush()
        assert process.wait(20) == 0


NO_MESSAGE_GOOD = ["-bp"], ["-bi"], ["-q"], ["-bV"], ["--help"]
NO_MESSAGE_BAD = (
    ["-bd"],
    ["-q15m"],
    ["-bv"],
    ["-bz"],
    ["-bp", "-Z"],
    ["-bd", "-Z"],
    ["-q", "root"],
    ["-bi", "-t"],
)


@pytest.mark.parametrize("options", [*NO_MESSAGE_GOOD, *NO_MESSAGE_BAD])
def test_a_mode_that_takes_no_message_never_reads_standard_input(program: Program, options: list[str]) -> None:
    """RULES A6, E5: it ends although its standard input stays open."""
    read, write = os.pipe()
    try:
        done = program.run(*options, stdin=read, config=False, timeout=20)
        assert done.status == (1 if options in NO_MESSAGE_BAD else 0)
    finally:
        os.close(read)
        os.close(write)


def test_the_log_knows_the_message_by_its_id_however_early_it_failed(program: Program) -> None:
    """RULES A3."""
    aliases = program.folder / "aliases"
    aliases.write_text("root: |/bin/pager\n")
    more = f'[redirect]\naliases = ["{aliases}"]\n'
    done = ready(program, "smtp://127.0.0.1:1", more=more).run("root", stdin=b"Message-ID: <1@x.example>\n\nx\n")
    assert done.status == 1
    assert "id=<1@x.example>" in program.log


@pytest.mark.row("S8")
def test_many_refused_recipients_are_named_up_to_ten(program: Program) -> None:
    """RULES A7."""
    with Server({"RCPT": "550 5.1.1 no such user"}) as server:
        done = ready(program, server).run(*[f"r{number}@example.net" for number in range(25)], stdin=MESSAGE)
    assert done.sentence.count("no such user") == 10
    assert "and 15 more" in done.sentence
    assert "r24@example.net" in program.log


# -- one transaction -------------------------------------------------------------------------------------------------


def test_500_recipients_are_one_mail_and_one_data(program: Program, server: Server) -> None:
    """RULES B1."""
    recipients = [f"r{number}@example.net" for number in range(500)]
    done = ready(program, server).run(*recipients, stdin=MESSAGE)
    assert (done.status, done.err) == (0, b"")
    (message,) = server.accepted
    assert message.recipients == [recipient.encode() for recipient in recipients]
    (session,) = server.sessions
    assert sum(command.startswith(b"MAIL") for command in session.commands) == 1
    assert session.commands.count(b"DATA") == 1


@pytest.mark.row("S8")
def test_one_of_500_refused_means_none_delivered(program: Program) -> None:
    """RULES B2."""
    with Server({"RCPT 499": "550 5.1.1 no such user"}) as server:
        done = ready(program, server).run(*[f"r{number}@example.net" for number in range(1, 501)], stdin=MESSAGE)
        (session,) = server.finished()
    assert done.status == 1
    assert "<r499@example.net>" in done.sentence
    assert server.messages == []
    assert session.commands[-1] == b"QUIT"
    assert b"DATA" not in session.commands


def test_a_recipient_named_twice_counts_once(program: Program, server: Server) -> None:
    """RULES B1: local parts compare exactly, domains without case."""
    ready(program, server).run(
        "-t", "You@example.net", "you@EXAMPLE.net", stdin=b"To: you@example.net, You@Example.NET\n\nx\n"
    )
    assert delivered(server) == [b"You@example.net", b"you@EXAMPLE.net"]


def test_one_bad_recipient_means_no_connection(program: Program, server: Server) -> None:
    """RULES B3."""
    done = ready(program, server).run("you@example.net", "not an address", stdin=MESSAGE)
    assert done.status == 1
    assert "not an address" in done.sentence
    assert server.sessions == []


def test_recipients_that_disagree_fail_all_and_both_are_named(program: Program) -> None:
    """RULES B4."""
    with Server() as one, Server() as two:
        routes = f'[[route]]\nrecipients = ["*@corp.example"]\nsmart_hosts = ["smtp://127.0.0.1:{two.port}"]\n'
        done = ready(program, one, more=routes).run("a@example.net", "b@corp.example", stdin=MESSAGE)
        assert ready(program, one, more=routes).run("b@corp.example", stdin=MESSAGE).status == 0
    assert done.status == 1
    for fact in ("<a@example.net>", "<b@corp.example>", f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"):
        assert fact in done.sentence
    assert one.sessions == []
    assert delivered(two) == [b"b@corp.example"]


# -- standard input and signals --------------------------------------------------------------------------------------


def test_empty_input_is_sent_with_the_added_headers(program: Program, server: Server) -> None:
    """RULES F8."""
    assert ready(program, server).run("you@example.net", stdin=b"").status == 0
    header = server.accepted[0].text
    assert [line.partition(b":")[0] for line in header.split(b"\r\n") if line] == [b"From", b"Date", b"Message-ID"]


@pytest.mark.row("O6", "L1")
def test_closed_standard_input_is_a_failure_and_no_empty_mail(program: Program, server: Server) -> None:
    """RULES F8."""
    ready(program, server)
    script = f'exec 0<&-; exec "{program.named("sendmail")}" "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", "-C", program.config, "you@example.net"], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"standard input is closed" in done.stderr
    assert server.sessions == []


@pytest.mark.row("L1")
def test_a_directory_as_standard_input_is_one_line(program: Program, server: Server) -> None:
    """RELIABILITY L1: Python itself would die of it in five."""
    folder = os.open("/", os.O_RDONLY)
    try:
        done = ready(program, server).run("you@example.net", stdin=folder)
    finally:
        os.close(folder)
    assert done.status == 1
    assert "standard input is a directory" in done.sentence


def test_a_backslash_keeps_a_name_from_its_alias(program: Program, server: Server) -> None:
    """RULES D2: on the command line, too."""
    aliases = program.folder / "aliases"
    aliases.write_text("root: ops@example.net\n")
    more = f'qualify_domain = "example.org"\n[redirect]\naliases = ["{aliases}"]\nforward = ""\n'
    assert ready(program, server, more=more).run("\\root", stdin=MESSAGE).status == 0
    assert delivered(server) == [b"root@example.org"]


def test_a_file_is_read_from_where_it_stands(program: Program, server: Server, tmp_path: Path) -> None:
    """INTERFACE 5.4: anacron and atd hand over a file they have read from."""
    path = tmp_path / "job"
    path.write_bytes(b"what was read before\n" + MESSAGE)
    with path.open("rb") as file:
        os.lseek(file.fileno(), len(b"what was read before\n"), os.SEEK_SET)
        assert ready(program, server).run("you@example.net", stdin=file.fileno()).status == 0
    assert server.accepted[0].text.startswith(b"Subject: hello\r\n")


@pytest.mark.parametrize(("family", "status"), [(socket.AF_INET, 1), (socket.AF_UNIX, 0)])
def test_an_internet_socket_is_refused_and_a_local_one_is_a_pipe(
    program: Program, server: Server, family: socket.AddressFamily, status: int
) -> None:
    """RULES E5: no inetd; Node hands over a socketpair."""
    ready(program, server)
    if family == socket.AF_UNIX:
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            theirs = listening.accept()[0]
    with ours, theirs:
        ours.sendall(MESSAGE)
        ours.shutdown(socket.SHUT_WR)
        done = program.run("you@example.net", stdin=theirs.fileno(), timeout=20)
    assert done.status == status
    assert len(server.accepted) == 1 - status


@pytest.mark.row("L3")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("stage", "lead", "arrives"),
    [("greeting", "not sent, try again", 0), ("RCPT", "not sent, try again", 0), ("dot", "may have been sent", 1)],
)
def test_a_signal_is_a_failure_with_the_lead_that_is_true(
    program: Program, number: signal.Signals, stage: str, lead: str, arrives: int
) -> None:
    """RULES A3: before the end of the message has left, and after it, where a second signal does not wait."""
    reached = threading.Event()
    with (
        Server({stage: Hold(reached)}) as server,
        subprocess.Popen(
            [ready(program, server).named("sendmail"), "-C", program.config, "-i", "you@example.net"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL) and None,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(MESSAGE)
        process.stdin.close()
        assert reached.wait(20)
        process.send_signal(number)
        if arrives:
            while process.poll() is None:  # the first one only makes it wait less long
                process.send_signal(number)
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert said.startswith(f"sendmail: {lead}: ")
    assert said.count("\n") == 1
    assert "interrupted by a signal" in program.log
    assert len(server.messages) == arrives


@pytest.mark.row("L3")
def test_a_signal_after_the_verdict_changes_nothing(program: Program) -> None:
    """RULES A5: the writer keeps us listening, and the message has been accepted."""
    with (
        Server() as server,
        subprocess.Popen(
            [ready(program, server).named("sendmail"), "-C", program.config, "you@example.net"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(MESSAGE + b".\n")
        process.stdin.flush()
        while "sent" not in program.log:
            process.stdin.write(b"more that is not the message\n")
            process.stdin.flush()
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(BrokenPipeError):
            while process.poll() is None:
                process.stdin.write(b"more that is not the message\n")
                process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.row("L3")
def test_an_interrupt_is_one_line_and_nothing_is_sent(program: Program, server: Server) -> None:
    """RULES A3."""
    ready(program, server)
    read, write = os.pipe()
    with subprocess.Popen(
        [program.named("sendmail"), "-C", program.config, "you@example.net"],
        stdin=read,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    ) as process:
        os.write(write, b"Subject: x\n")
        while not _reads_a_pipe(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        os.close(write)
        assert process.stderr is not None
        assert process.stderr.read() == b"sendmail: not sent, try again: interrupted by a signal\n"
    os.close(read)
    assert process.returncode == 1
    assert server.sessions == []


def _reads_a_pipe(pid: int) -> bool:
    """Whether the program itself waits for more of the message: it is Python by now, and the pipe is empty."""
    is_python = b"-I\0-S\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return is_python and "pipe" in Path(f"/proc/{pid}/wchan").read_text()


@pytest.mark.row("T7")
def test_verbose_shows_the_dialogue_without_the_secret(program: Program) -> None:
    """INTERFACE -v; RELIABILITY T7."""
    with Server(users={"al": "s3cret"}) as server:
        auth = '[auth]\nuser = "al"\npassword = "s3cret"\nallow_plaintext = true\n'
        program.configure(f"{program.smart_hosts(server)}{ME}{auth}")
        done = program.run("-v", "you@example.net", stdin=MESSAGE)
    assert (done.status, done.out) == (0, b"")
    said = done.err.decode()
    assert ">>> AUTH PLAIN ***" in said
    assert "<<< 235 " in said
    assert ">>> RCPT TO:<you@example.net>" in said
    assert "s3cret" not in said
    assert "AHMzY3JldA" not in said
    assert "czNjcmV0" not in said
    assert server.accepted
    assert "user=al" in program.log


def test_bv_tells_the_trail_and_contacts_nobody(program: Program, server: Server) -> None:
    """RULES E9."""
    aliases = program.folder / "aliases"
    aliases.write_text("root: ops\nops: alice@example.net\n")
    done = ready(program, server, more=f'[redirect]\naliases = ["{aliases}"]\n').run("-bv", "root", stdin=None)
    assert (done.status, done.out, done.err) == (0, b"root -> ops -> <alice@example.net>\n", b"")
    assert server.sessions == []


def test_what_is_discarded_is_success_without_contact_and_logged(program: Program, server: Server) -> None:
    """RULES A1, D3."""
    aliases = program.folder / "aliases"
    aliases.write_text("devnull: :blackhole:\n")
    done = ready(program, server, more=f'[redirect]\naliases = ["{aliases}"]\n').run("devnull", stdin=MESSAGE)
    assert (done.status, done.out, done.err) == (0, b"", b"")
    assert server.sessions == []
    assert "discarded" in program.log
    assert "devnull" in program.log


def test_without_any_configuration_the_sentence_says_where_to_put_one(program: Program) -> None:
    """muawrap.toml(5)."""
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "XDG_CONFIG_HOME": str(program.folder / "none")}
    done = program.run("you@example.net", stdin=MESSAGE, env=env, config=False)
    assert done.status == 1
    for fact in (str(program.folder / "none"), "/etc/muawrap/muawrap.toml", "MUAWRAP_SMART_HOSTS", "cron"):
        assert fact in done.sentence


def test_the_environment_alone_configures_a_container(program: Program, server: Server) -> None:
    """muawrap.toml(5): no file is read."""
    env = {
        "PATH": "/usr/bin:/bin",
        "MUAWRAP_SMART_HOSTS": f"smtp://127.0.0.1:{server.port}",
        "MUAWRAP_FROM": "noreply@example.org",
        "MUAWRAP_ADMIN": "ops@example.org",
        "MUAWRAP_LOG": "none",
        "MUAWRAP_REDIRECT": "",
    }
    assert "MUAWRAP_REDIRECT" in program.run("root", stdin=MESSAGE, env=env, config=False).sentence
    del env["MUAWRAP_REDIRECT"]
    done = program.run("root@localhost", stdin=MESSAGE, env=env, config=False)
    assert (done.status, done.err) == (0, b"")
    assert delivered(server) == [b"ops@example.org"]
