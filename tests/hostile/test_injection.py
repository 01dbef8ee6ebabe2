"""Nothing written into an address, a header, a name or a reply becomes a command, a field or a line of the log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap import report
from muawrap.reading import message as reading
from muawrap.reading import recipients
from muawrap.routing import headers
from tests.submission.offering import failure_of, offer, smart_host
from tests.support.need import missing, need
from tests.support.program import Program, Result
from tests.support.server import Server

MESSAGE = b"Subject: hello\n\nHello.\n"
ME = 'from = "me@client.example"\n'
TO = "you@example.net"

PAIR = re.compile(r' ([a-z-]+)=("(?:[^"\\]|\\.)*"|[^ "\\]+)')


def fields(line: str) -> dict[str, str]:
    """What a log line was made of; a line that is not wholly made of name=value pairs is no log line."""
    stamped = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}) (sent|failed|discarded)((?: .*)?)", line)
    assert stamped is not None, line
    pairs = PAIR.findall(stamped[3])
    assert "".join(f" {name}={value}" for name, value in pairs) == stamped[3]
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names)
    return {
        "event": stamped[2],
        **{name: value[1:-1].encode().decode("unicode_escape") if value[0] == '"' else value for name, value in pairs},
    }


def refused(program: Program, server: Server, *argv: str | bytes, stdin: bytes = MESSAGE) -> str:
    """The one line of a run that never connected; the log has the same and nothing else."""
    done = program.run(*argv, stdin=stdin)
    assert (done.status, done.out) == (1, b"")
    assert done.sentence.startswith("sendmail: not sent, refused: ")
    assert server.finished() == []
    for line in program.log.splitlines():
        assert fields(line)["event"] == "failed"
    return done.sentence


# -- control bytes in addresses, from everywhere (I1, I2) ------------------------------------------------------------

CONTROLS = {"\x01": "\\x01", "\x1b": "\\x1b", "\x7f": "\\x7f", "\x85": "\\x85", "\x9b": "\\x9b"}
"""Those that a line of a file may hold, and how they are shown."""

IN_AN_ADDRESS = ('"a{}b"@example.net', "a{}b@example.net", "a@exam{}ple.net", "<a{}b@example.net>")


@pytest.fixture
def listening() -> object:
    with Server() as running:
        yield running


@pytest.mark.row("I1")
@pytest.mark.parametrize("shape", IN_AN_ADDRESS)
@pytest.mark.parametrize("kind", ["alias", "forward", "include"])
def test_a_control_byte_in_a_redirection_is_refused(program: Program, listening: Server, kind: str, shape: str) -> None:
    """D3, E4: each of them, in an alias, a .forward and an included file, shown escaped."""
    names = [f"user{number}" for number in range(len(CONTROLS))]
    members = dict(zip(names, (shape.format(char) for char in CONTROLS), strict=True))
    folder = program.folder / "redirect"
    folder.mkdir()
    for name, member in members.items():
        (folder / name).write_text(f"{member}\n", encoding="utf-8")
    entries = {"alias": "{0}: {1}\n", "forward": "", "include": "{0}: :include:{2}/{0}\n"}[kind]
    aliases = program.folder / "aliases"
    aliases.write_text("".join(entries.format(name, members[name], folder) for name in names), encoding="utf-8")
    forward = f"{folder}/{{user}}" if kind == "forward" else ""
    redirect = f'[redirect]\naliases = ["{aliases}"]\nforward = "{forward}"\n'
    program.configure(f"{program.smart_hosts(listening)}{ME}{redirect}")
    sentence = refused(program, listening, *names)
    for name in names:
        assert f"{name} -> " in sentence
    if shape.startswith('"'):
        for shown in CONTROLS.values():
            assert shown in sentence


@pytest.mark.row("I1")
@pytest.mark.parametrize("shape", IN_AN_ADDRESS)
@pytest.mark.parametrize("resent", ["", "Resent-"])
def test_a_control_byte_in_a_header_is_refused(program: Program, listening: Server, resent: str, shape: str) -> None:
    """E7, E4: in To, Cc and Bcc, shown escaped."""
    program.configure(f"{program.smart_hosts(listening)}{ME}")
    names = ["To", "To", "Cc", "Cc", "Bcc"]  # one resending: the same names stand together
    lines = [f"{resent}{name}: {shape.format(char)}\n" for name, char in zip(names, CONTROLS, strict=True)]
    sentence = refused(program, listening, "-t", stdin="".join(lines).encode() + b"\nHello.\n")
    for shown in CONTROLS.values():
        assert shown in sentence


@pytest.mark.row("I1")
@pytest.mark.parametrize("words", [["a{}b@example.net"], ["-f", "a{}b@client.example", TO], ["-ra{}@x.example", TO]])
@pytest.mark.parametrize("char", ["\n", "\r\n", "\x1b", "\x9b"])
def test_a_control_byte_in_an_argument_is_refused(
    program: Program, listening: Server, words: list[str], char: str
) -> None:
    """E4: shown escaped."""
    program.configure(f"{program.smart_hosts(listening)}{ME}")
    sentence = refused(program, listening, *(word.format(char) for word in words))
    assert repr(char)[1:-1] in sentence


@pytest.mark.row("I1")
@pytest.mark.parametrize(
    "address", ["a b@example.net", "a<b@example.net", "a>b@example.net", "<a@b.example> x@y.example"]
)
def test_what_would_end_a_path_is_refused_outside_quotes(program: Program, listening: Server, address: str) -> None:
    """B3: blanks and angle brackets, as recipient and as sender."""
    program.configure(f"{program.smart_hosts(listening)}{ME}")
    for words in [address], ["-f", address, TO]:
        assert "cannot read the" in refused(program, listening, *words)


KEYS = {
    "from": 'from = "me{}@client.example"\n',
    "hostname": f'{ME}hostname = "client{{}}.example"\n',
    "admin": f'{ME}admin = "ops{{}}@example.net"\n',
    "qualify_domain": f'{ME}qualify_domain = "exam{{}}ple.net"\n',
    "route.from": f'{ME}[[route]]\nrecipients = ["*"]\nfrom = "me{{}}@client.example"\n',
    "route.add_headers": f'{ME}[[route]]\nrecipients = ["*"]\nadd_headers = ["X-A: b{{}}Bcc: x@y.example"]\n',
    "account.from": f'{ME}[[account]]\nmatch = ["*"]\nfrom = "me{{}}@client.example"\n',
}


@pytest.mark.row("I1", "I4")
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("escape", ["\\r\\n", "\\u001b", "\\u0085"])
def test_a_control_byte_in_the_configuration_is_refused(
    program: Program, listening: Server, key: str, escape: str
) -> None:
    """muawrap.toml(5): the sentence names the key."""
    program.configure(program.smart_hosts(listening) + KEYS[key].replace("{}", escape))
    assert key in refused(program, listening, TO)


@pytest.mark.row("I1")
@pytest.mark.parametrize("variable", ["MUAWRAP_FROM", "MUAWRAP_HOSTNAME", "MUAWRAP_ADMIN", "MUAWRAP_QUALIFY_DOMAIN"])
def test_a_control_byte_in_the_environment_is_refused(program: Program, listening: Server, variable: str) -> None:
    """muawrap.toml(5): the sentence names the variable."""
    url = f"smtp://127.0.0.1:{listening.port}"
    env = {"PATH": "/usr/bin:/bin", "MUAWRAP_SMART_HOSTS": url, "MUAWRAP_LOG": "none"}
    for value in "a@b.example\r\nRCPT TO:<evil@x.example>", "a@b.example\x1b":
        done = program.run(TO, stdin=MESSAGE, env={**env, variable: value}, config=False)
        assert done.status == 1
        assert variable in done.sentence
    assert listening.finished() == []


@pytest.mark.row("I2")
@pytest.mark.parametrize("option", ["-f", "-r", "-F", "--"])
def test_a_dialogue_hidden_in_an_argument_is_refused(program: Program, listening: Server, option: str) -> None:
    """E4: as old web applications pass on what a visitor wrote."""
    program.configure(f"{program.smart_hosts(listening)}{ME}")
    hidden = "a@b.example>\r\nRCPT TO:<evil@x.example>\r\nDATA\r\nSubject: forged\r\n\r\nforged\r\n.\r\n"
    assert "\\r\\nRCPT TO:<evil@x.example>\\r\\n" in refused(program, listening, option, hidden, TO)


@pytest.mark.row("I1", "I2", "I4")
@pytest.mark.parametrize(
    "name", ["evil\r\nRCPT TO:<x@y.example>", "box\n.evil.example", "a b.example", "\x1b[2J.example", "\xff.x"]
)
def test_a_hostname_that_is_none_goes_nowhere(program: Program, listening: Server, name: str) -> None:
    """F3, F9: what root wrote as the machine's name is neither in EHLO nor in a header."""
    if os.getuid() != 0 or subprocess.run([need("unshare"), "--uts", "true"], check=False).returncode:
        missing("root, to give a machine another name")
    program.configure(f"{program.smart_hosts(listening)}{ME}")
    rename = "import os, socket, sys; socket.sethostname(os.fsencode(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
    renamed = ["unshare", "--uts", sys.executable, "-c", rename, name]
    command = [*renamed, str(program.named("sendmail")), "-C", str(program.config), TO]
    done = subprocess.run(command, input=b"To: root\nCc: bob\n\nHello.\n", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    (session,) = listening.finished()
    assert session.commands[0] == b"EHLO [127.0.0.1]"
    (message,) = session.messages
    names = [line.partition(b":")[0] for line in message.text.split(b"\r\n\r\n")[0].split(b"\r\n")]
    assert names == [b"To", b"Cc", b"From", b"Date", b"Message-ID"]
    assert re.search(rb"^To: root@[A-Za-z0-9.-]+\r\nCc: bob@[A-Za-z0-9.-]+\r\n", message.text)


# -- parameters (I3) and added headers (I4) --------------------------------------------------------------------------


@pytest.mark.row("I3")
@pytest.mark.parametrize(
    "words",
    [
        ["b@example.net> NOTIFY=NEVER"],
        ["-f", "a@client.example> SIZE=1", TO],
        ["-N", "never,success", TO],
        ["-N", "never> ORCPT=x", TO],
        ["-R", "full ENVID=x", TO],
        ["-V", "x\ty", TO],
        ["-V", "é", TO],
    ],
)
def test_a_parameter_hidden_in_a_value_is_refused(program: Program, listening: Server, words: list[str]) -> None:
    """E3, E6: RFC 3461."""
    program.configure(f"{program.smart_hosts(listening)}{ME}")
    refused(program, listening, *words)


@pytest.mark.row("I3")
def test_what_looks_like_a_parameter_leaves_as_a_value(program: Program) -> None:
    """E6: ENVID in xtext, a local part in quotes; each command is one."""
    with Server(extensions=("DSN",)) as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        done = program.run("-N", "success", "-V", "a> RET=FULL+=", '"b> NOTIFY=NEVER"@example.net', stdin=MESSAGE)
        (session,) = server.finished()
    assert (done.status, done.err) == (0, b"")
    assert session.commands[1:3] == [
        b"MAIL FROM:<me@client.example> ENVID=a>+20RET+3DFULL+2B+3D",
        b'RCPT TO:<"b> NOTIFY=NEVER"@example.net> NOTIFY=SUCCESS ORCPT=rfc822;"b>+20NOTIFY+3DNEVER"@example.net',
    ]


EDITS = headers.Edits(
    "me@client.example", "", "", "client.example", True, "now", "<1@client.example>", None, frozenset()
)


@pytest.mark.row("I4")
@given(name=st.text(st.one_of(st.characters(), st.sampled_from('\r\n\0\t",<>()@\\\x1b\x85\u2028\udcff')), max_size=300))
@settings(deadline=None)
def test_a_full_name_is_part_of_one_field_whatever_it_is(name: str) -> None:
    """F3, F7: of -F or the passwd file; no line end but folds, and ASCII only."""
    block, _ = headers.apply((), EDITS._replace(full_name=name))
    field = re.fullmatch(rb"From:((?: [ -~]+\n)+)Date: now\nMessage-ID: <1@client.example>\n", block)
    assert field is not None, block
    assert field[1].endswith(b"me@client.example\n") or field[1].endswith(b"<me@client.example>\n")


# -- Bcc (I6, I7) ----------------------------------------------------------------------------------------------------


def spelled(word: str) -> st.SearchStrategy[str]:
    """A field name in any case."""
    return st.tuples(*(st.sampled_from([char.lower(), char.upper()]) for char in word)).map("".join)


# "%" is a word that is hidden in the text and named in the envelope, "~" where comments and folds may stand.
LOCALS = {"%": "%", "%~.~x": "%.x", '"%"': "%", '"% y"': '"% y"', '"%"~.~"z"': "%.z", '"\\%"': "%"}
DOMAINS = ("@example.net", "~@~example.net", "@example~.~net")
MAILBOXES = ("~%~", "~<%>~", "Name~<~%~>", '"A, B;"~<%>', "J.~R. Doe <%>", "<@x.example,~@y.example:%>")
GAPS = ("", "", " ", "\t", "\n ", " \n \n\t", "(x)", " (a (b) \\) c) ", "(\n x)", " (\x01\x7f) ", "(\\\x08)")


@st.composite
def named(draw: st.DrawFn, number: int) -> tuple[str, str]:
    """A mailbox in some spelling of RFC 5322, obsolete ones too (4.4), and the address it is."""
    written, address = draw(st.sampled_from(sorted(LOCALS.items())))
    text = draw(st.sampled_from(MAILBOXES)).replace("%", written + draw(st.sampled_from(DOMAINS)))
    first, *others = text.replace("%", f"hidden{number}").split("~")
    gaps = (draw(st.sampled_from(GAPS)) + part for part in others)
    return first + "".join(gaps), address.replace("%", f"hidden{number}") + "@example.net"


@st.composite
def hiding(draw: st.DrawFn, name: str, numbers: list[int]) -> tuple[str, list[str]]:
    """A Bcc field in some spelling, and the addresses it names."""
    found = [draw(named(number)) for number in numbers]
    separators = st.sampled_from([",", ", ", ",\n ", " ,, ", ",\n ,\n\t"])
    value = "".join(text + draw(separators) for text, _ in found[:-1]) + found[-1][0]
    value = draw(st.sampled_from(["%s", " %s", "\n %s", " ,%s", " group: %s;", " %s ,", " %s\n \n "])) % value
    field = draw(spelled(name)) + draw(st.sampled_from([":", " :", "\t:", " \t :"])) + value
    return field, [address for _, address in found]


@pytest.mark.row("I7")
@pytest.mark.parametrize("name", ["bcc", "resent-bcc"])
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_no_spelling_of_bcc_leaves_and_each_address_is_in_the_envelope(name: str, data: st.DataObject) -> None:
    """F4, E7: with the obsolete syntax of RFC 5322, folded, repeated, among other fields, as the last line."""
    lists = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    bcc = [data.draw(hiding(name, [10 * at + number for number in range(count)])) for at, count in enumerate(lists)]
    others = data.draw(st.lists(st.sampled_from(["Subject: x", "X-Bcc: y", "From: a@b.example\n (c)"]), max_size=3))
    block = data.draw(st.permutations([*(field for field, _ in bcc), *others]))
    if name == "resent-bcc":  # fields of one resending stand together
        block = [*(field for field, _ in bcc), *others]
    text = "\n".join(block) + data.draw(st.sampled_from(["", "\n", "\n\nbody\n"]))
    octets = text.replace("\n", data.draw(st.sampled_from(["\n", "\r\n"]))).encode()
    written, _ = reading._spool(reading.crlf_as_lf(iter([octets])))
    left = b"".join(field.octets for field in written if field.name not in reading.REMOVED)
    assert b"hidden" not in left
    assert sorted(recipients.of_header(written)) == sorted(address for _, found in bcc for address in found)


@pytest.mark.row("I6", "I7")
def test_a_bcc_behind_nul_is_in_the_envelope_and_nowhere_else(program: Program, listening: Server) -> None:
    """F4, F5: from outside; the log and the header that leaves hold no NUL."""
    program.configure(f"{program.smart_hosts(listening)}{ME}")
    text = (
        b"To: you@example.net\n\0\nSub\0ject: x\n\0Bcc: one@example.net\nB\0cc : two@ex\0ample.net\n\0\0\n\nHello\0.\n"
    )
    done = program.run("-t", stdin=text)
    assert (done.status, done.err) == (0, b"")
    (message,) = listening.finished()[0].messages
    assert message.recipients == [b"you@example.net", b"one@example.net", b"two@example.net"]
    block, _, body = message.text.partition(b"\r\n\r\n")
    assert block.startswith(b"To: you@example.net\r\nSubject: x\r\nFrom: ")
    assert b"\0" not in block
    assert not re.search(rb"(?im)^bcc", block)
    assert body == b"Hello\0.\r\n"


# -- what is shown (I8, I9) ------------------------------------------------------------------------------------------

EVIL = (
    b"\x1b[2J\x1b]0;title\x07\x08\x08 \x9b31m \xc2\x9b31m \xe2\x80\xae drowssap \xe2\x80\xa8 \xff\xfe\x7f \t "
    b'sent id=<forged@x.example> "to=<x@y.example>" \\ \\" \r sendmail: not sent, refused: forged'
)


SAID = EVIL.decode("utf-8", "backslashreplace")  # as a Reply has it


@pytest.mark.row("I8", "I9")
@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
def test_a_reply_is_shown_escaped_everywhere(stage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A3: escapes, C1 controls, right-to-left overrides, octets that are no UTF-8: in the line, the log and with -v."""
    reply = b"550-first " + EVIL + b"\r\n550 second " + EVIL + b"\r\n"
    script = {stage: reply, **({"HELO": reply} if stage == "EHLO" else {})}
    with Server(script) as server:
        failure = failure_of(offer(smart_host(server, policy="none")), report.trace)
    facts = report.Facts()
    facts.log = (str(tmp_path / "log"),)
    facts.message_id = "<1@client.example>"
    assert report.failure(failure, facts) == 1
    *dialogue, line = capfd.readouterr().err.split("\n")[:-1]
    assert all(re.fullmatch(r"(>>>|<<<|---) [ -~]+", shown) for shown in dialogue)
    assert re.fullmatch(r"sendmail: not sent, refused: [ -~]+", line)
    assert "\\x1b[2J" in line
    assert "\\u202e drowssap" in line
    assert any("\\x1b[2J" in shown for shown in dialogue)
    (logged,) = (tmp_path / "log").read_text(encoding="ascii").splitlines()
    told = fields(logged)
    assert set(told) == {"event", "id", "lead", "error"}
    assert (told["event"], told["id"]) == ("failed", "<1@client.example>")
    assert told["error"].count(SAID) == 2


@pytest.mark.row("I8", "I9")
def test_an_accepting_reply_is_logged_as_one_line(program: Program) -> None:
    """A2, A5: and with -v every line on the terminal is printable."""
    with Server({"dot": b"250 2.0.0 " + EVIL + b"\r\n"}) as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        done = program.run("-v", TO, stdin=b'Message-ID: <\x1b]0;\xff" to=<forged> \\>\n' + MESSAGE)
    assert (done.status, done.out) == (0, b"")
    assert all(re.fullmatch(rb"(>>>|<<<|---) [ -~]+", line) for line in done.err.split(b"\n")[:-1])
    (line,) = program.log.splitlines()
    told = fields(line)
    assert told["event"] == "sent"
    assert told["id"] == '<\x1b]0;\udcff" to=<forged> \\>'
    assert told["to"] == f"<{TO}>"
    assert told["reply"] == f"250 2.0.0 {SAID}"


@pytest.mark.row("I8")
@given(
    values=st.lists(
        st.text(st.one_of(st.characters(), st.sampled_from('\r\n\0\x1b\x9b"\\= \u202e\udcff')), max_size=60),
        min_size=3,
        max_size=3,
    )
)
@settings(deadline=None)
def test_a_log_line_tells_what_went_in(values: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """A3: of sender, recipient and Message-ID, whatever they are, written to a file and read back."""
    log = tmp_path_factory.getbasetemp() / "injected"
    facts = report.Facts()
    facts.log = (str(log),)
    facts.message_id, sender, to = values
    facts.sender, facts.recipients = sender, (f"<{to}>",)
    report._log("discarded", facts, [])
    (line,) = log.read_bytes().decode("ascii").splitlines()
    log.unlink()
    expected = {"event": "discarded", "id": values[0], "from": f"<{sender}>", "to": f"<{to}>"}
    assert fields(line) == {name: value for name, value in expected.items() if value}


@pytest.mark.row("I9")
@pytest.mark.parametrize(
    "run",
    [
        lambda program: program.run("-v", "\u202eevil\u2028@", stdin=MESSAGE),
        lambda program: program.run(b"\xff\xfe", stdin=MESSAGE),
        lambda program: program.run("--\u202e", TO, stdin=MESSAGE),
        lambda program: program.run("-b\xe9", stdin=MESSAGE),
        lambda program: program.run("-C", "/nowhere/\u202e\x9d", TO, stdin=MESSAGE, config=False),
        lambda program: program.run("-t", stdin="To: \u202e\x9b31m <\n\nx\n".encode()),
        lambda program: program.run(TO, stdin=MESSAGE, env={"MUAWRAP_SMART_HOSTS": "smtp://\u202e"}, config=False),
    ],
)
def test_what_the_caller_gave_is_shown_escaped(program: Program, run: Callable[[Program], Result]) -> None:
    """A3, E4: one printable line for every mistake."""
    program.configure(f"{program.smart_hosts('smtp://127.0.0.1:1')}{ME}")
    done = run(program)
    assert (done.status, done.out) == (1, b"")
    assert "\\" in done.sentence


# -- beyond ASCII (I10) ----------------------------------------------------------------------------------------------


@pytest.mark.row("I10")
@pytest.mark.parametrize(
    "words", [["j\u00f6rg@example.net"], [TO, "x\u00e9@b\u00fccher.example"], ["-f", "j\u00f6rg@x.example", TO]]
)
def test_addresses_beyond_ascii_need_smtputf8(program: Program, listening: Server, words: list[str]) -> None:
    """C1, F7: one line that shows them escaped, and nothing is sent to a host without it."""
    program.configure(program.smart_hosts(listening) + 'qualify_domain = "client.example"\n')
    done = program.run(*words, stdin=MESSAGE)
    assert done.status == 1
    assert "SMTPUTF8" in done.sentence
    (session,) = listening.finished()
    assert [command.partition(b" ")[0] for command in session.commands] == [b"EHLO", b"QUIT"]
    for line in program.log.splitlines():
        assert fields(line)["event"] == "failed"
