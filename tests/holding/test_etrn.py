"""`muawrap etrn`: what it asks, of whom, and what each answer comes to (INTERMITTENT 1, 6.2)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from muawrap import config
from muawrap.admin.etrn import command
from muawrap.failure import Failure
from muawrap.holding.asking import etrn, servers
from muawrap.holding.asking.servers import Wishes
from tests.support.certificates import Authority
from tests.support.program import REPOSITORY, Program
from tests.support.server import Drop, Hold, Server, closed_port

ETRN = ("PIPELINING", "ETRN")


class Ran(NamedTuple):
    status: int
    out: str
    err: str


def run(*words: str | Path) -> Ran:
    """`muawrap etrn`, in this process."""
    done = CliRunner().invoke(command, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def asked(server: Server) -> list[str]:
    """What was asked for, session by session, in order."""
    return [line.decode()[5:] for one in server.finished() for line in one.commands if line.startswith(b"ETRN ")]


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of this machine, and a log of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MUAWRAP_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(config, "SYSTEM_FILE", str(tmp_path / "none.toml"))


# -- the replies


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("250 OK, queuing for node a.example started", 0),
        ("251 OK, no messages waiting for node a.example", 0),
        ("252 OK, pending messages for node a.example started", 0),
        ("253 OK, 14 pending messages for node a.example started", 0),
        ("221 whatever that means", 0),
        ("458 Unable to queue messages for node a.example", 75),
        ("450 later", 75),
        ("454 TLS not available", 75),
        ("421 leaving", 75),
        ("459 Node a.example not allowed: unknown", 77),
        ("530 5.7.0 Must issue a STARTTLS command first", 77),
        ("535 no", 77),
        ("550 no", 77),
        ("500 Syntax error", 65),
        ("501 Syntax error in parameters", 65),
        ("502 not here", 69),
        ("503 not now", 69),
        ("554 no", 69),
        ("354 go ahead", 75),
        ("what?", 75),
    ],
)
def test_each_reply_is_told_and_has_its_exit_status(reply: str, status: int) -> None:
    """INTERMITTENT 1.1, 6.2: one line for each name; what is no yes is a sentence, too."""
    with Server({"ETRN": reply}, extensions=ETRN) as server:
        done = run(f"127.0.0.1:{server.port}", "a.example")
    assert done.status == status
    answered = reply[:3].isdigit() and reply[0] != "3"
    assert done.out == (f"a.example {reply}\n" if answered else "")
    assert bool(done.err) == (status != 0)
    if status:
        assert done.err.startswith(f"muawrap: 127.0.0.1:{server.port}")
        assert done.err.count("\n") == 1


def test_several_names_go_over_one_connection_one_by_one() -> None:
    """INTERMITTENT 6.2: EHLO, ETRN one by one, QUIT."""
    with Server(extensions=ETRN) as server:
        done = run(f"127.0.0.1:{server.port}", "a.example", "@b.example", "#queue")
        [session] = server.finished()
    assert done.status == 0
    assert [line.split()[0] for line in done.out.splitlines()] == ["a.example", "@b.example", "#queue"]
    assert session.commands[1:] == [b"ETRN a.example", b"ETRN @b.example", b"ETRN #queue", b"QUIT"]


@pytest.mark.parametrize(
    ("replies", "status"),
    [
        (("458 no", "501 no", "459 no", "502 no"), 65),
        (("458 no", "459 no", "502 no"), 77),
        (("458 no", "502 no"), 69),
        (("250 ok", "458 no"), 75),
        (("250 ok", "251 none"), 0),
    ],
)
def test_of_several_names_the_worst_counts(replies: tuple[str, ...], status: int) -> None:
    """INTERMITTENT 6.2: in the order 65, 77, 69, 75."""
    script = {f"ETRN {number}": reply for number, reply in enumerate(replies, 1)}
    with Server(script, extensions=ETRN) as server:
        assert run(f"127.0.0.1:{server.port}", *(f"n{n}.example" for n in range(len(replies)))).status == status


@pytest.mark.parametrize(("second", "status"), [("251 no messages", 9), ("250 started", 0), ("458 no", 75)])
def test_no_mail_has_a_status_of_its_own_on_request(second: str, status: int) -> None:
    """INTERMITTENT 6.2: where it is so for all names."""
    with Server({"ETRN 1": "251 no messages", "ETRN 2": second}, extensions=ETRN) as server:
        assert run("--none-is", "9", f"127.0.0.1:{server.port}", "a.example", "b.example").status == status


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("OK, 7 pending messages for node 4.example started", 7),
        ("2.0.0 1 message waits", 1),
        ("node a.example: 23", 23),
        ("many for 10.0.0.1", None),
    ],
)
def test_the_number_of_messages_is_told(text: str, number: int | None) -> None:
    """RFC 1985, 5.2.2: 253 says how many."""
    with Server({"ETRN": f"253 {text}"}, extensions=ETRN) as server:
        done = run("--json", f"127.0.0.1:{server.port}", "a.example")
    told = json.loads(done.out)
    meaning = "the server begins to send" + (f": {number} waiting" if number is not None else "")
    name = {"name": "a.example", "code": 253, "text": text, "meaning": meaning}
    assert told["server"] == f"127.0.0.1:{server.port}"
    assert told["names"] == [{**name, "pending": number} if number is not None else name]


# -- trouble


@pytest.mark.parametrize("last", [Drop(), "421 too late"])
def test_who_was_not_asked_is_told_once(last: Drop | str) -> None:
    """INTERMITTENT 6.2: 421 or a lost connection ends the run; the rest is for later."""
    with Server({"ETRN 2": last}, extensions=ETRN) as server:
        done = run("--json", f"127.0.0.1:{server.port}", "a.example", "b.example", "c.example", "d.example")
    told = json.loads(done.out)["names"]
    assert done.status == 75
    assert [one["code"] for one in told] == [250, None if isinstance(last, Drop) else 421, None, None]
    assert told[3]["meaning"] == "not asked"
    assert done.err.count("\n") == (1 if isinstance(last, Drop) else 2)


def test_nobody_there_is_75(closed_port: int) -> None:
    """INTERMITTENT 6.2: no connection."""
    done = run(f"127.0.0.1:{closed_port}", "a.example", "b.example")
    assert (done.status, done.out) == (75, "")
    assert done.err == (
        f"muawrap: 127.0.0.1:{closed_port}: connection refused while connecting"
        " (is the network up, and is this the right port?)\n"
    )


@pytest.mark.parametrize("offered", [(), ("8BITMIME",), ("8BITMIME", "ATRN")])
def test_without_the_keyword_nothing_is_asked(offered: tuple[str, ...]) -> None:
    """INTERMITTENT 6.2: 69, and what the server has instead."""
    with Server(extensions=offered) as server:
        done = run(f"127.0.0.1:{server.port}", "a.example", "b.example")
        assert asked(server) == []
    assert (done.status, done.out, done.err.count("\n")) == (69, "", 1)
    assert f"does not offer ETRN, but {' '.join(offered) or 'nothing'}" in done.err
    assert "muawrap atrn" in done.err


def test_without_ehlo_nothing_is_asked() -> None:
    """RFC 1985, 4: the client must have said EHLO."""
    with Server({"EHLO": "500 what?"}) as server:
        assert run(f"127.0.0.1:{server.port}", "a.example").status == 69
        assert asked(server) == []


@pytest.mark.parametrize("reply", ["421 too busy", "450 later"])
def test_where_ehlo_is_put_off_it_is_for_later(reply: str, program: Program) -> None:
    """INTERMITTENT 6.2: 75; that HELO is taken then says nothing of what is offered, and the next host may do."""
    with Server({"EHLO": reply}, extensions=ETRN) as server, Server(extensions=ETRN) as other:
        done = run(f"127.0.0.1:{server.port}", "a.example")
        assert (done.status, done.out) == (75, "")
        assert done.err.startswith(f"muawrap: 127.0.0.1:{server.port} answered EHLO with {reply}")
        [session] = server.finished()
        assert [line.split()[0] for line in session.commands] == [b"EHLO", b"HELO", b"QUIT"]
        program.configure(
            'smart_hosts = ["smtp://127.0.0.1:1"]\n'
            f'[hold.isp]\nto = ["smtp://127.0.0.1:{server.port}", "smtp://127.0.0.1:{other.port}"]\n'
        )
        assert run("-C", program.config, "isp", "a.example").status == 0


@pytest.mark.parametrize(
    "name",
    ["", "@", "#", "a b", "a\tb", "a\rb", "a.example\nQUIT", "a\x1bb", "a\x7fb", "x" * 256, "\udcff", "bücher.example"],
)
def test_a_name_that_cannot_be_is_never_sent_and_the_others_are(name: str) -> None:
    """INTERMITTENT 6.2: refused here, exit 65."""
    with Server(extensions=ETRN) as server:
        done = run(f"127.0.0.1:{server.port}", "a.example", name, "b.example")
        assert asked(server) == ["a.example", "b.example"]
        told = json.loads(run("--json", f"127.0.0.1:{server.port}", "a.example", name, "b.example").out)["names"]
    assert [one["code"] for one in told] == [250, None, 250]
    assert done.status == 65
    assert done.err.startswith("muawrap: cannot ask for ")
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()
    assert done.err.isascii()


def test_a_dry_run_tells_what_would_be_refused() -> None:
    """INTERMITTENT 6: --dry-run; the same sentences and status."""
    done = run("--dry-run", "192.0.2.1", "a b", "a.example")
    assert (done.status, done.out) == (65, "smtp://192.0.2.1 tls=if-offered\nETRN a.example\n")
    assert done.err.startswith('muawrap: cannot ask for "a b": ')


def test_where_no_name_can_be_nobody_is_contacted() -> None:
    """INTERMITTENT 6.2: a dial-on-demand line is not raised for nothing."""
    with Server(extensions=ETRN) as server:
        assert run(f"127.0.0.1:{server.port}", "a b", "").status == 65
        assert server.finished() == []


# -- whom, and for what


def write(program: Program, server: Server, keys: str = "", top: str = "") -> Path:
    """A configuration with the table [hold.isp] for this server."""
    program.configure(
        f'smart_hosts = ["smtp://127.0.0.1:1"]\n{top}[hold.isp]\nto = ["smtp://127.0.0.1:{server.port}"]\n{keys}'
    )
    return program.config


def test_the_names_are_those_of_the_table_else_our_own(program: Program) -> None:
    """INTERMITTENT 6.2: etrn_names, else domains, else the hostname; a domain of the table names it, too."""
    with Server(extensions=ETRN) as server:
        for keys, server_name, names in (
            ('domains = ["d.example"]\netrn_names = ["@e.example", "#q"]\n', "isp", ["@e.example", "#q"]),
            ('domains = ["d.example", "f.example"]\n', "F.example.", ["d.example", "f.example"]),
            ("", "isp", ["laptop.example"]),
        ):
            before = len(asked(server))
            path = write(program, server, keys, 'hostname = "laptop.example"\n')
            assert run("-C", path, server_name).status == 0
            assert asked(server)[before:] == names
    assert program.log.count(" etrn server=isp name=@e.example reply=") == 1


def test_a_machine_without_a_name_must_be_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C6: our own name comes from the configuration or the kernel, never from DNS."""
    node = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((node[0], "laptop", *node[2:])))
    monkeypatch.setattr(socket, "getfqdn", None)
    monkeypatch.setattr(socket, "gethostbyaddr", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    done = run("192.0.2.1")
    assert (done.status, done.out) == (64, "")
    assert done.err == (
        "muawrap: there is no name to ask for: this machine has none with a dot"
        " (give NAME, or set etrn_names in [hold.NAME], or hostname)\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("smtp.isp.example",), "smtp://smtp.isp.example tls=if-offered"),
        (("smtp.isp.example:2525",), "smtp://smtp.isp.example:2525 tls=if-offered"),
        (("-p", "26", "smtp.isp.example:2525"), "smtp://smtp.isp.example:26 tls=if-offered"),
        (("--tls", "required", "192.0.2.1"), "smtp://192.0.2.1 tls=required"),
        (("2001:db8::1",), "smtp://[2001:db8::1] tls=if-offered"),
        (("[2001:db8::1]:2525",), "smtp://[2001:db8::1]:2525 tls=if-offered"),
        (("submission://smtp.isp.example",), "submission://smtp.isp.example tls=required"),
        (("-p", "26", "submissions://smtp.isp.example"), "submissions://smtp.isp.example:26 tls=required"),
    ],
)
def test_a_server_is_a_host_an_address_or_a_url(words: tuple[str, ...], told: str) -> None:
    """INTERMITTENT 6.2: no configuration is needed then; --dry-run contacts nobody."""
    done = run("--dry-run", *words, "a.example")
    assert (done.status, done.out, done.err) == (0, f"{told}\nETRN a.example\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("smtp host",), "has no host name that DNS could know"),
        (("a\nb",), "control characters"),
        (("ftp://x.example",), "unknown scheme"),
        (("x.example:99999",), "impossible port"),
        (("alice@x.example",), "must not hold a user"),
        (("--tls", "none", "submissions://x.example"), "TLS from the first octet"),
        (("--auth", "alice", "x.example"), "there is no password for alice"),
        (("-C", "/nowhere/muawrap.toml", "isp"), "there is no configuration file"),
    ],
)
def test_a_server_that_cannot_be_is_a_sentence(words: tuple[str, ...], said: str) -> None:
    """A failure names the thing; no traceback."""
    done = run(*words)
    assert (done.out, done.err.count("\n")) == ("", 1)
    assert done.status in (64, 65)
    assert said in done.err


def test_a_configuration_that_is_wrong_is_not_passed_over(tmp_path: Path) -> None:
    """DESIGN 2: found but wrong is a failure, for a host given by its name, too."""
    (tmp_path / "muawrap").mkdir(mode=0o700)
    (tmp_path / "muawrap" / "muawrap.toml").write_text("smart_host = 1\n")
    done = run("192.0.2.1", "a.example")
    assert done.status == 65
    assert "smart_host" in done.err


def test_tls_and_auth_come_first_and_the_password_is_never_shown(
    program: Program, authority: Authority, tmp_path: Path
) -> None:
    """INTERMITTENT 6.2: STARTTLS and AUTH of the table; -v shows the dialogue without secrets."""
    with Server(
        extensions=ETRN, context=authority.server_context(), users={"alice": "s3cr3t-word"}, mechanisms=["CRAM-MD5"]
    ) as server:
        tls = f'tls = {{ policy = "required", ca_file = "{authority.ca_file(tmp_path / "ca.pem")}" }}\n'
        auth = 'auth = { user = "alice", password = "s3cr3t-word", mechanisms = ["CRAM-MD5"] }\n'
        path = write(program, server, tls + auth)
        words = [sys.executable, "-c", "from muawrap.admin.commands import group; group()", "etrn", "-v"]
        words += ["-C", str(path), "isp", "a.example"]
        environment = {"PYTHONPATH": str(REPOSITORY / "src"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        [session] = server.finished()
    assert (done.returncode, session.authenticated, session.tls) == (0, "alice", True)
    assert ">>> ETRN a.example" in done.stderr
    assert "s3cr3t-word" not in done.stderr + done.stdout + program.log


def test_a_password_may_stand_in_a_file(program: Program, authority: Authority, tmp_path: Path) -> None:
    """A password is never on the command line, and goes to nobody else."""
    secret = tmp_path / "secret"
    secret.write_text("wonder\n")
    secret.chmod(0o600)
    with Server(extensions=ETRN, context=authority.server_context(), users={"alice": "wonder"}) as server:
        program.configure(
            f'smart_hosts = ["smtp://127.0.0.1:1"]\n[tls]\nca_file = "{authority.ca_file(tmp_path / "ca.pem")}"\n'
        )
        words = ("-C", program.config, f"127.0.0.1:{server.port}", "a.example")
        assert run("--auth", "alice", "--password-file", secret, *words).status == 0
        assert run(*words).status == 0
        sessions = server.finished()
    assert [session.authenticated for session in sessions] == ["alice", None]


def test_the_password_of_the_smart_hosts_meets_no_other_server(program: Program) -> None:
    """DESIGN 2: a password goes only to hosts of the table it stands in."""
    with Server(extensions=ETRN, users={"alice": "wonder"}) as server:
        program.configure(
            f'smart_hosts = ["smtp://127.0.0.1:{server.port}"]\n'
            '[auth]\nuser = "alice"\npassword = "wonder"\nallow_plaintext = true\n'
        )
        assert run("-C", program.config, f"127.0.0.1:{server.port}", "a.example").status == 0
        [session] = server.finished()
    assert session.authenticated is None


def test_a_refused_login_is_77(program: Program) -> None:
    """INTERMITTENT 6.2: nobody is asked then."""
    with Server(extensions=ETRN, users={"alice": "wonder"}) as server:
        auth = 'auth = { user = "alice", password = "wrong", allow_plaintext = true }\n'
        done = run("-C", write(program, server, auth), "isp", "a.example")
        assert asked(server) == []
    assert (done.status, done.err.count("\n")) == (77, 1)


def test_the_next_host_of_the_table_is_asked_where_the_first_is_away(program: Program, closed_port: int) -> None:
    """RULES C1: each in turn."""
    with Server(extensions=ETRN) as server:
        program.configure(
            'smart_hosts = ["smtp://127.0.0.1:1"]\n'
            f'[hold.isp]\nto = ["smtp://127.0.0.1:{closed_port}", "smtp://127.0.0.1:{server.port}"]\n'
        )
        assert run("-C", program.config, "isp", "a.example").status == 0
        assert asked(server) == ["a.example"]


# -- dial on demand


def settings(delay: float) -> config.Config:
    loaded = servers.settings(None, "192.0.2.1", os.environ)
    return loaded._replace(dial_delay=delay)


def test_dial_delay_passes_once_and_only_where_nobody_could_be_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C6: as for `sendmail`."""
    slept: list[float] = []
    with closed_port() as port, Server({"greeting": "421 no"}, extensions=ETRN) as server:
        monkeypatch.setattr(time, "sleep", slept.append)
        for where, pauses in ((port, [7.0]), (server.port, [])):
            found = servers.server(settings(7.0), Wishes(f"127.0.0.1:{where}"))
            [answer] = etrn.ask(settings(7.0), found, ["a.example"])
            assert (answer.status, slept) == (75, pauses)
            slept.clear()


def test_the_line_that_comes_up_meanwhile_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C6: the second round is a real one."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        found = servers.server(settings(1.0), Wishes(f"127.0.0.1:{held.getsockname()[1]}"))
        answering = threading.Thread(target=lambda: held.accept()[0].close())

        def up(seconds: float) -> None:
            held.listen()
            answering.start()

        monkeypatch.setattr(time, "sleep", up)
        with pytest.raises(Failure, match="greeting"):
            servers.reached(found, settings(1.0))
        answering.join()


def test_a_host_at_hand_is_not_waited_for(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C6, INTERMITTENT 4: only those behind the line have a second attempt, and each has its reason."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with closed_port() as near, closed_port() as far:
        at_hand = f'{{ url = "smtp://127.0.0.1:{near}", dials = false }}'
        for to, pauses in ((at_hand, []), (f'{at_hand}, "smtp://127.0.0.1:{far}"', [90.0])):
            program.configure(f'smart_hosts = ["smtp://a"]\ndial_delay = "1m30s"\n[hold.isp]\nto = [{to}]\n')
            done = run("-C", program.config, "isp", "a.example")
            assert (done.status, slept) == (75, pauses)
            assert done.err.count("connection refused") == 1 + len(pauses)
            slept.clear()


def test_our_own_port_is_waited_for(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.2: -b; the server will call right back."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(Failure) as caught:
        etrn.wait_for_own_port(closed_port)
    assert slept == [2, 4, 8, 16]
    assert "nothing listens at 127.0.0.1:" in str(caught.value)
    assert servers.status(caught.value) == 75
    with socket.socket() as late:
        late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        late.bind(("127.0.0.1", 0))
        monkeypatch.setattr(time, "sleep", lambda seconds: late.listen())
        etrn.wait_for_own_port(late.getsockname()[1])


def test_with_b_the_server_is_asked_when_our_port_is_open() -> None:
    """INTERMITTENT 6.2: and --own-port says which one."""
    with Server(extensions=ETRN) as server, Server() as own:
        assert run("-b", "--own-port", str(own.port), f"127.0.0.1:{server.port}", "a.example").status == 0
        assert (len(own.finished()), asked(server)) == (1, ["a.example"])


def test_a_call_that_could_not_ask_is_in_the_log(
    closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6: one line for each event, since the hooks show nobody what is said."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert run("-b", "--own-port", str(closed_port), "127.0.0.1:9", "a.example").status == 75
    [line] = (tmp_path / "log").read_text().splitlines()
    assert ' etrn server=127.0.0.1:9 error="nothing listens at 127.0.0.1:' in line


def test_a_literal_is_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C6: and nothing else is."""
    real, flags = socket.getaddrinfo, list[int]()

    def watched(*words: Any, **named: Any) -> Any:
        flags.append(named.get("flags", 0))
        return real(*words, **named)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    with Server(extensions=ETRN) as server:
        assert run(f"127.0.0.1:{server.port}", "a.example").status == 0
    assert flags
    assert all(one & socket.AI_NUMERICHOST for one in flags)


def test_a_server_that_falls_silent_is_given_up(program: Program) -> None:
    """INTERMITTENT 6.2: by timeouts.command; the names that were not asked are for later."""
    reached = threading.Event()
    with Server({"ETRN": Hold(reached)}, extensions=ETRN) as server:
        path = write(program, server, "timeouts = { command = 0.2 }\n")
        done = run("-C", path, "isp", "a.example", "b.example")
    assert reached.is_set()
    assert (done.status, done.out, done.err.count("\n")) == (75, "", 1)
    assert "timed out while asking for our mail" in done.err
