"""As whom a message leaves, and how its outcome is told, by the program from outside: tables, one row a case."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.need import missing, need
from tests.support.program import Program, Result
from tests.support.server import Drop, Received, Script, Server, closed_port
from tests.support.user import public_folder

TOP = 'qualify_domain = "q.example"\n'
FROM = TOP + 'from = "me@s.example"\n'
BODY = b"\nHello.\n"


def sent(program: Program, toml: str, argv: list[str], header: str = "") -> Received:
    """The one message that came of a call."""
    with Server() as server:
        program.configure(program.smart_hosts(server) + toml)
        done = program.run(*argv, "you@example.net", stdin=f"{header}\n".encode() + BODY if header else BODY)
        assert (done.status, done.out, done.err) == (0, b"", b"")
        [message] = server.accepted
    return message


def field(message: Received, name: str) -> str:
    """A header field as it arrived, unfolded; "" where there is none."""
    head = message.text.decode("ascii").partition("\r\n\r\n")[0].replace("\r\n ", " ")
    found = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith(name.lower() + ":")]
    assert len(found) <= 1
    return found[0] if found else ""


# -- the envelope sender ---------------------------------------------------------------------------------------------

LOGIN = pwd.getpwuid(os.getuid()).pw_name
ALLOWED = FROM + 'allowed_from = ["al@x.example", "*@lists.example", "b?@y.example"]\n'
TAKEN = TOP + "envelope_from_header = true\n"
TAKEN_IF_ALLOWED = ALLOWED + "envelope_from_header = true\n"

SENDERS = {
    # configuration, options, From: in, the envelope sender, From: out (None: whatever this machine's passwd has)
    "nothing said": (TOP, [], "", f"{LOGIN}@q.example", None),
    "-f": (TOP, ["-f", "s@x.example"], "", "s@x.example", "s@x.example"),
    "-r": (TOP, ["-r", "s@x.example"], "", "s@x.example", "s@x.example"),
    "-r attached": (TOP, ["-rs@x.example"], "", "s@x.example", "s@x.example"),
    "-f with a name": (TOP, ["-f", "S. Name <s@x.example>"], "", "s@x.example", "s@x.example"),
    "-f of this host": (TOP, ["-f", "bob@localhost"], "", "bob@q.example", "bob@q.example"),
    "-f twice": (TOP, ["-f", "a@x.example", "-r", "b@x.example"], "", "b@x.example", "b@x.example"),
    "-f and -F": (TOP, ["-f", "s@x.example", "-F", "Some Name"], "", "s@x.example", "Some Name <s@x.example>"),
    "-F beyond ASCII": (FROM, ["-F", "J\u00f6rg"], "", "me@s.example", "=?utf-8?B?SsO2cmc=?= <me@s.example>"),
    "-F beside a From:": (FROM, ["-F", "Some Name"], "Me <me@s.example>", "me@s.example", "Me <me@s.example>"),
    "-f beside a From:": (TOP, ["-f", "s@x.example"], "B <b@y.example>", "s@x.example", "B <b@y.example>"),
    "a bare From:": (FROM, [], "root (Cron Daemon)", "me@s.example", '"root (Cron Daemon)" <me@s.example>'),
    # from
    "from": (FROM, [], "", "me@s.example", None),
    "from, not -f": (FROM, ["-f", "s@x.example"], "", "me@s.example", None),
    "from as -f": (FROM, ["-f", "me@S.example"], "", "me@S.example", "me@S.example"),
    "from +detail": (FROM, ["-f", "me+lists@s.example"], "", "me+lists@s.example", "me+lists@s.example"),
    "from has +detail": (FROM.replace("me@", "me+box@"), ["-f", "me@s.example"], "", "me+box@s.example", None),
    "From: may not pass": (FROM, [], "B <b@x.example>", "me@s.example", "B <me@s.example>"),
    "From: without a name": (FROM, [], "b@x.example", "me@s.example", '"b@x.example" <me@s.example>'),
    "From: with +detail": (FROM, [], "me+lists@s.example", "me@s.example", "me+lists@s.example"),
    "From: is left": (FROM + "rewrite_from_header = false\n", [], "b@x.example", "me@s.example", "b@x.example"),
    # allowed_from
    "allowed": (ALLOWED, ["-f", "al@x.example"], "", "al@x.example", "al@x.example"),
    "allowed without case": (ALLOWED, ["-f", "AL@X.Example"], "", "AL@X.Example", "AL@X.Example"),
    "allowed +detail": (ALLOWED, ["-f", "al+a+b@x.example"], "", "al+a+b@x.example", "al+a+b@x.example"),
    "allowed by *": (ALLOWED, ["-f", "x+y@lists.example"], "", "x+y@lists.example", "x+y@lists.example"),
    "allowed by ?": (ALLOWED, ["-f", "b1@y.example"], "", "b1@y.example", "b1@y.example"),
    "* ends at the end": (ALLOWED, ["-f", "x@lists.example.net"], "", "me@s.example", None),
    "not allowed": (ALLOWED, ["-f", "bob@x.example"], "", "me@s.example", None),
    "From: is allowed": (ALLOWED, [], "Al <al+x@x.example>", "me@s.example", "Al <al+x@x.example>"),
    # null_sender
    "-f ''": (FROM, ["-f", ""], "me@s.example", "", "me@s.example"),
    "<> and no From:": (FROM, ["-f", "<>"], "", "", None),
    "<> becomes from": (FROM + 'null_sender = "from"\n', ["-f", "<>"], "", "me@s.example", None),
    "<> and no from": (TOP + 'null_sender = "from"\n', ["-f", "<>"], "", "", None),
    # envelope_from_header
    "taken from From:": (TAKEN, [], "B <b@x.example>", "b@x.example", "B <b@x.example>"),
    "taken, bare": (TAKEN, [], "bob", "bob@q.example", "bob <bob@q.example>"),
    "taken, the first": (TAKEN, [], "a@x.example, b@x.example", "a@x.example", "a@x.example, b@x.example"),
    "taken, but not readable": (TAKEN, [], "two words", f"{LOGIN}@q.example", None),
    "taken, but -f": (TAKEN, ["-f", "s@x.example"], "b@x.example", "s@x.example", "b@x.example"),
    "taken, but <>": (TAKEN, ["-f", ""], "b@x.example", "", "b@x.example"),
    "taken where allowed": (TAKEN_IF_ALLOWED, [], "al+x@x.example", "al+x@x.example", "al+x@x.example"),
    "not taken where not": (TAKEN_IF_ALLOWED, [], "B <b@x.example>", "me@s.example", "B <me@s.example>"),
    "not taken beside a bad -f": (TAKEN_IF_ALLOWED, ["-f", "n@o.example"], "al@x.example", "me@s.example", None),
}


@pytest.mark.parametrize("case", SENDERS)
def test_the_sender_is_the_first_that_may_pass(case: str, program: Program) -> None:
    """F3, F9, F10; muawrap.toml(5), PRECEDENCE: envelope and From: as they arrive."""
    toml, argv, header, sender, shown = SENDERS[case]
    message = sent(program, toml, argv, f"From: {header}" if header else "")
    assert message.sender.decode() == sender
    if shown is not None:
        assert field(message, "From") == shown


# -- accounts --------------------------------------------------------------------------------------------------------

ACCOUNTS = f"""
[[account]]
match = ["*@work.example", "boss@*"]
from = "w@work.example"
allowed_from = ["*@work.example"]

[[account]]
match = ["nobody@none.example"]
users = ["{LOGIN}"]
from = "login@s.example"

[[account]]
match = ["late@x.example"]
from = "never@s.example"
"""
OTHERS = ACCOUNTS.replace(f'"{LOGIN}"', '"somebody-else"')

BY_CALLER = {
    # configuration, options, From: in, the envelope sender
    "by -f": (ACCOUNTS, ["-f", "al@work.example"], "", "al@work.example"),
    "by -f with +detail": (ACCOUNTS, ["-f", "boss+x@y.example"], "", "w@work.example"),
    "by -f without case": (ACCOUNTS, ["-f", "Al@Work.Example"], "", "Al@Work.Example"),
    "by From:": (ACCOUNTS, [], "Al <al@work.example>", "w@work.example"),
    "by From: with +detail": (ACCOUNTS, [], "boss+x@y.example", "w@work.example"),
    "not by From: beside -f": (ACCOUNTS, ["-f", "a@x.example"], "al@work.example", "login@s.example"),
    "not by From: beside <>": (OTHERS + 'null_sender = "from"\n', ["-f", ""], "al@work.example", "me@s.example"),
    "by login": (ACCOUNTS, [], "", "login@s.example"),
    "by login, whatever -f": (ACCOUNTS, ["-f", "late@x.example"], "", "login@s.example"),
    "by the third": (OTHERS, ["-f", "late@x.example"], "", "never@s.example"),
    "by none": (OTHERS, ["-f", "a@x.example"], "", "me@s.example"),
}


@pytest.mark.parametrize("case", BY_CALLER)
def test_the_first_account_that_matches_the_caller_holds(case: str, program: Program) -> None:
    """muawrap.toml(5), [[account]]: by -f, without it by From:, or by login."""
    toml, argv, header, sender = BY_CALLER[case]
    tables, _, key = toml.partition("null_sender")
    top = FROM + (f"null_sender{key}" if key else "")
    message = sent(program, top + tables, argv, f"From: {header}" if header else "")
    assert message.sender.decode() == sender


def test_an_account_has_hosts_and_a_login_of_its_own(program: Program) -> None:
    """muawrap.toml(5), [[account]]: and the password of the top meets its hosts no more than its own meets those."""
    with Server(users={"al": "s3cret"}) as work, Server(users={"me": "s3cret"}) as top:
        program.configure(
            f"{program.smart_hosts(top)}{TOP}"
            '[auth]\nuser = "me"\npassword = "s3cret"\nallow_plaintext = true\n'
            f'[[account]]\nmatch = ["*@work.example"]\n{program.smart_hosts(work)}'
            'auth = { user = "al", password = "s3cret", allow_plaintext = true }\n'
        )
        for sender in "a@work.example", "a@x.example":
            assert program.run("-f", sender, "you@example.net", stdin=BODY).status == 0
        assert [(one.authenticated, len(one.messages)) for one in work.finished()] == [("al", 1)]
        assert [(one.authenticated, len(one.messages)) for one in top.finished()] == [("me", 1)]
    assert (work.accepted[0].sender, top.accepted[0].sender) == (b"a@work.example", b"a@x.example")


# -- who calls -------------------------------------------------------------------------------------------------------

UID = 4711


@pytest.fixture(scope="module")
def public() -> Iterator[Program]:
    """The program where everybody may run it."""
    if os.getuid() != 0:
        missing("root, to act as another user")
    if subprocess.run([need("unshare"), "--mount", "true"], capture_output=True, check=False).returncode != 0:
        missing("the right to mount")
    with public_folder() as folder:
        made = Program(folder)
        made.for_everybody()
        yield made


CALLERS = {
    # the line of the passwd file but for uid and shell, environment, options, the envelope sender, From:
    "a name": ("al:Al Bundy", {}, [], "al@q.example", "Al Bundy <al@q.example>"),
    "a name and a room": ("al:Al Bundy,Room 1,555-1234,", {}, [], "al@q.example", "Al Bundy <al@q.example>"),
    "& is the login": ("alB:& Bundy", {}, [], "alB@q.example", "AlB Bundy <alB@q.example>"),
    "no name": ("al:", {}, [], "al@q.example", "al@q.example"),
    "a name to be quoted": ('al:Al "Shoe" B.', {}, [], "al@q.example", r'"Al \"Shoe\" B." <al@q.example>'),
    "UTF-8": ("al:J\u00f6rg", {}, [], "al@q.example", "=?utf-8?B?SsO2cmc=?= <al@q.example>"),
    "no UTF-8": ("al:J\udcf6rg", {}, [], "al@q.example", "=?unknown-8bit?B?SvZyZw==?= <al@q.example>"),
    "-F is nearer": ("al:Al Bundy", {}, ["-F", "Me"], "al@q.example", "Me <al@q.example>"),
    "-f is somebody else": ("al:Al Bundy", {}, ["-f", "bob"], "bob@q.example", "bob@q.example"),
    "an odd login": ("CORP\\al:Al", {}, [], r'"CORP\\al"@q.example', r'Al <"CORP\\al"@q.example>'),
    "a login with dots": ("al.b:Al", {}, [], "al.b@q.example", "Al <al.b@q.example>"),
    "an unknown uid": ("", {}, [], "4711@q.example", "4711@q.example"),
    "sudo's HOME": ("al:Al", {"HOME": "/"}, [], "al@q.example", "Al <al@q.example>"),
    "a lying environment": (
        "al:Al",
        {"HOME": "/root", "NAME": "Root", "USER": "root", "LOGNAME": "root", "MAIL": "/x", "EMAIL": "root@x.example"},
        [],
        "al@q.example",
        "Al <al@q.example>",
    ),
    "an unknown uid in a lying one": ("", {"HOME": "/root", "USER": "root"}, [], "4711@q.example", "4711@q.example"),
}


@pytest.mark.parametrize("case", CALLERS)
def test_the_caller_is_who_the_passwd_file_says(case: str, public: Program) -> None:
    """F3: by the uid, with an environment that is empty but for what the row says."""
    entry, env, argv, sender, shown = CALLERS[case]
    login, _, gecos = entry.partition(":")
    line = f"{login}:x:{UID}:{UID}:{gecos}:/nonexistent:/bin/sh\n" if entry else ""
    passwd = public.folder / "passwd"
    passwd.write_bytes(b"root:x:0:0:root:/root:/bin/sh\n" + line.encode("utf-8", "surrogateescape"))
    with Server() as server:
        public.configure(f'{public.smart_hosts(server)}{TOP}log = "none"\n')
        public.config.parent.chmod(0o755)
        public.config.chmod(0o644)
        done = as_the_uid(public, passwd, env, argv)
        assert (done.status, done.out, done.err) == (0, b"", b"")
        [message] = server.accepted
    assert message.sender.decode() == sender
    assert field(message, "From") == shown


def as_the_uid(program: Program, passwd: Path, env: dict[str, str], argv: list[str]) -> Result:
    """The program run by UID, where the passwd file is this one."""
    unshare, setpriv, clean = need("unshare"), need("setpriv"), need("env")
    need("mount")
    script = f'mount --bind {passwd} /etc/passwd && exec {clean} -i "$@"'
    surroundings = [f"{name}={value}" for name, value in env.items()]
    rights = [setpriv, f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    command: list[str | Path] = [program.named("sendmail"), "-C", program.config, *argv, "you@example.net"]
    done = subprocess.run(
        [unshare, "--mount", "sh", "-c", script, "sh", *surroundings, *rights, *command],
        input=BODY,
        capture_output=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


# -- the exit status -------------------------------------------------------------------------------------------------

AUTH = '[auth]\nuser = "al"\npassword = "wrong"\nallow_plaintext = true\n'
NO_PASSWORD = '[auth]\nuser = "al"\npassword = { env = "NO_SUCH_VARIABLE" }\nallow_plaintext = true\n'
TEMPORARY, REFUSED, UNCERTAIN = "not sent, try again", "not sent, refused", "may have been sent"

OUTCOMES: dict[str, tuple[Script, str, list[str], int, str]] = {
    # what the server does, configuration, arguments, the status, the lead
    "greeting 554": ({"greeting": "554 no"}, "", ["a@x.example"], 69, REFUSED),
    "login refused": ({}, AUTH, ["a@x.example"], 77, REFUSED),
    "no password": ({}, NO_PASSWORD, ["a@x.example"], 78, REFUSED),
    "MAIL 553": ({"MAIL": "553 who?"}, "", ["a@x.example"], 65, REFUSED),
    "RCPT 550": ({"RCPT": "550 unknown user"}, "", ["a@x.example"], 67, REFUSED),
    "RCPT 550 of two": ({"RCPT a@x.example": "550 5.1.1 unknown"}, "", ["a@x.example", "b@x.example"], 67, REFUSED),
    "RCPT no domain": ({"RCPT": "550 5.1.2 no such domain"}, "", ["a@x.example"], 68, REFUSED),
    "RCPT no relay": ({"RCPT": "550 relay not permitted"}, "", ["a@x.example"], 77, REFUSED),
    "verdict 451": ({"dot": "451 4.3.0 later"}, "", ["a@x.example"], 75, TEMPORARY),
    "verdict 554": ({"dot": "554 5.6.0 no"}, "", ["a@x.example"], 65, REFUSED),
    "no verdict": ({"dot": Drop()}, "", ["a@x.example"], 70, UNCERTAIN),
    "garbage for a verdict": ({"dot": b"what?\r\n"}, "", ["a@x.example"], 70, UNCERTAIN),
    "lost before the text": ({"MAIL": Drop()}, "", ["a@x.example"], 75, TEMPORARY),
    "no recipient": ({}, "", ["-t"], 65, REFUSED),
    "no address": ({}, "", ["a b@x.example"], 65, REFUSED),
    "a pipe": ({}, "", ["pager"], 65, REFUSED),
    ":defer:": ({}, "", ["moving"], 75, TEMPORARY),
    "no alias file": ({}, '[redirect]\naliases = ["/nonexistent"]\n', ["root"], 78, REFUSED),
    "no domain": ({}, '[redirect]\nforward = ""\n', ["nobody-at-all"], 78, REFUSED),
    "-bv": ({}, "", ["-bv", "pager"], 65, REFUSED),
}


def outcome(program: Program, case: str, more: str) -> Result:
    script, toml, argv, _, _ = OUTCOMES[case]
    aliases = program.folder / "aliases"
    aliases.write_text("pager: |/bin/pager\nmoving: :defer: moving house\n")
    if "[redirect]" not in toml:
        toml += f'[redirect]\naliases = ["{aliases}"]\n'
    elif "aliases" not in toml:
        toml += f'aliases = ["{aliases}"]\n'
    with Server(script, users={"al": "s3cret"} if "auth" in toml else None) as server:
        keys = 'from = "me@s.example"\nqualify_domain = "lan"\n'
        program.configure(f"{program.smart_hosts(server)}{keys}{more}{toml}")
        done = program.run(*argv, stdin=BODY)
        assert server.accepted == []
    return done


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_failure_is_one_of_sysexits_for_those_who_ask(case: str, program: Program) -> None:
    """A1: 75 only for temporary and certainly not sent, 70 only for what may have been; the line is the same."""
    *_, status, lead = OUTCOMES[case]
    done = outcome(program, case, 'exit_status = "sysexits"\n')
    assert (done.status, done.out) == (status, b"")
    assert done.sentence.startswith(f"sendmail: {lead}: ")


@pytest.mark.parametrize("case", ["RCPT 550", "verdict 451", "no verdict", "no alias file", "-bv"])
def test_whoever_does_not_ask_gets_1(case: str, program: Program) -> None:
    """A1."""
    assert outcome(program, case, "").status == 1


def test_no_smart_host_that_can_be_connected_is_temporary(program: Program) -> None:
    """A1: asked for by the environment, which is a configuration as well."""
    with closed_port() as port:
        env = {
            "MUAWRAP_SMART_HOSTS": f"smtp://127.0.0.1:{port}",
            "MUAWRAP_FROM": "me@s.example",
            "MUAWRAP_EXIT_STATUS": "sysexits",
            "MUAWRAP_LOG": "none",
        }
        assert program.run("you@example.net", stdin=BODY, env=env, config=False).status == os.EX_TEMPFAIL


@pytest.mark.parametrize(
    ("argv", "toml"), [(["--frobnicate", "a@x.example"], ""), (["a@x.example"], "smrt_hosts = []\n"), ([], "")]
)
def test_what_fails_before_the_configuration_has_been_read_is_1(argv: list[str], toml: str, program: Program) -> None:
    """A1: nobody has asked for anything else by then."""
    program.configure('smart_hosts = ["smtp://127.0.0.1:1"]\nexit_status = "sysexits"\n' + toml)
    done = program.run(*argv, stdin=BODY)
    assert done.status == 1
    assert done.sentence.startswith(f"sendmail: {REFUSED}: ")


def test_success_is_0_for_those_who_ask_too(program: Program) -> None:
    """A1, A2."""
    sent(program, FROM + 'exit_status = "sysexits"\n', [])


# -- the log ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", [{}, {"RCPT": '550 5.1.1 no "such" us\\er \u00e9\U0001f4a9'}], ids=["sent", "failed"]
)
def test_the_log_in_json_has_the_fields_of_the_log_in_text(script: Script, program: Program) -> None:
    """muawrap.toml(5), log_format; RELIABILITY I8."""
    message = b"From: me@s.example\nDate: x\nMessage-ID: <1@x>\n\n"
    with Server(script) as server:
        for more in "", 'log_format = "json"\n':
            program.configure(program.smart_hosts(server) + FROM + more)
            program.run("a@x.example", stdin=message)
    text, line = program.log.splitlines()
    read = json.loads(line)
    assert list(read)[:2] == ["time", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", read.pop("time"))
    assert text.split(" ")[1] == read.pop("event") == ("failed" if script else "sent")
    assert re.findall(r" ([a-z-]+)=", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)) == list(read)
    assert read["to"] == "<a@x.example>"
    if script:
        assert 'no "such" us\\er' in read["error"]


def test_a_line_of_json_is_one_line_of_4096_octets_at_most(program: Program) -> None:
    """A7: whatever ten thousand refused recipients have to say."""
    with Server({"RCPT": '550 5.1.1 "no" \\ such user'}) as server:
        program.configure(f'{program.smart_hosts(server)}{FROM}log_format = "json"\n')
        program.run(*(f"user{number}@x.example" for number in range(1000)), stdin=BODY)
    assert program.log.count("\n") == 1
    assert 3000 < len(program.logged) <= 4096
    read = json.loads(program.log)
    assert re.search(r"; and \d+ more", read["error"])
    assert re.search(r",and \d+ more$", read["to"])


@pytest.mark.parametrize("format", ["text", "json"])
def test_of_several_logs_the_first_that_works_is_used(format: str, program: Program) -> None:
    """A5; muawrap.toml(5), log: a file that cannot be made, a full disk, a folder, then one, and no other."""
    good, unused = program.folder / "good", program.folder / "unused"
    places = [program.folder / "none" / "log", "/dev/full", program.folder, good, unused]
    log = ", ".join(f'"{place}"' for place in places)
    sent(program, f'{FROM}log = [{log}]\nlog_format = "{format}"\n', [])
    assert good.read_text().count("\n") == 1
    assert not unused.exists()
