"""keep_failed: what was not sent stands in a file, whole and with its envelope, or the sentence says why not."""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import signal
import stat
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muawrap import keeping, report
from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure
from muawrap.mail import Body, Invocation, Message
from muawrap.reading import message as reading
from muawrap.routing.redirect import Expansion
from tests.support import half_loaded
from tests.support.exim import Exim
from tests.support.lmtp_server import LmtpServer
from tests.support.need import missing, need
from tests.support.program import Program, Result
from tests.support.server import Action, Drop, Hold, Server
from tests.support.user import NOBODY, WWW_DATA, acting_as, public_folder

SOURCE = Path(__file__).parents[1] / "src"
MESSAGE = b"Message-ID: <1@x.example>\nSubject: hello\n\nHello.\n"
ME = 'from = "me@client.example"\n'
NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{16}")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """As people have it, also after a copy was kept by this very process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "failed"
    folder.mkdir(mode=0o700)
    return folder


# -- a reader of batch SMTP that knows nothing of the writer ---------------------------------------------------------


class Batch(NamedTuple):
    """One transaction, as RFC 5321 and Exim's -bS understand it."""

    notes: list[str]
    sender: str
    recipients: list[str]
    text: bytes

    @property
    def facts(self) -> dict[str, str]:
        """The name=value pairs of the only note, which none of them breaks out of."""
        (note,) = self.notes
        assert re.fullmatch(r"muawrap( [a-z0-9]+=([^ \"\\]+|\"([^\"\\]|\\.)*\"))+", note), note
        pairs = re.findall(r" ([a-z0-9]+)=(?:([^ \"]+)|\"((?:[^\"\\]|\\.)*)\")", note)
        return {name: plain or re.sub(r"\\([\"\\])", r"\1", quoted) for name, plain, quoted in pairs}


def read_batch(octets: bytes) -> Batch:
    """The one transaction of a file."""
    assert b"\r" not in octets
    lines = octets.split(b"\n")
    assert lines.pop() == b""
    notes, sender, recipients = [], None, []
    while (line := lines.pop(0).decode()) != "DATA":
        assert len(line) <= 998
        if line.startswith("NOOP "):
            notes.append(line.removeprefix("NOOP "))
        elif match := re.fullmatch(r"MAIL FROM:<(.*)>", line):
            assert sender is None
            sender = match[1]
        elif match := re.fullmatch(r"RCPT TO:<(.+)>", line):
            assert sender is not None
            recipients.append(match[1])
        else:
            raise AssertionError(line)
    assert recipients
    end = lines.index(b".")
    assert end == len(lines) - 1  # nothing follows
    assert all(not line.startswith(b".") or line.startswith(b"..") for line in lines[:end])
    assert sender is not None
    return Batch(notes, sender, recipients, b"".join(line.removeprefix(b".") + b"\n" for line in lines[:end]))


def only_file(folder: Path) -> Path:
    """The one file in a folder, with a good name and for its owner only."""
    (file,) = (path for path in folder.iterdir() if path.name != "uncertain")
    assert NAME.fullmatch(file.name)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return file


def ready(program: Program, server: Server | str, folder: Path, more: str = "") -> Program:
    program.configure(f'{program.smart_hosts(server)}{ME}keep_failed = "{folder}"\n{more}')
    return program


# -- which messages, and where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "lead", "where"),
    [
        ({"greeting": "421 busy"}, TRY_AGAIN, "."),
        ({"RCPT": "450 4.2.1 later"}, TRY_AGAIN, "."),
        ({"RCPT 2": "550 5.1.1 no such user"}, REFUSED, "."),
        ({"dot": "554 5.6.0 spam"}, REFUSED, "."),
        ({"dot": Drop()}, UNCERTAIN, "uncertain"),
    ],
)
def test_a_message_that_was_not_sent_is_kept_and_the_sentence_names_the_file(
    program: Program, folder: Path, script: dict[str, Action | str], lead: str, where: str
) -> None:
    """A3, A4: with sender and recipients as given, its text and its outcome; what may have been sent stands apart."""
    with Server(script) as server:
        done = ready(program, server, folder).run("-f", "al@example.org", "a@b.example", "c@d.example", stdin=MESSAGE)
    assert (done.status, done.out) == (1, b"")
    file = only_file(folder / where)
    assert [path.name for path in folder.iterdir()] == [file.name if where == "." else where]
    assert done.sentence.startswith(f"sendmail: {lead}: ")
    assert re.search(rf"[(;] ?kept as {folder / where / file.name}\)$", done.sentence.replace("/./", "/"))
    assert f" kept={folder / where / file.name}" in program.log
    kept = read_batch(file.read_bytes())
    assert (kept.sender, kept.recipients) == ("al@example.org", ["a@b.example", "c@d.example"])
    assert kept.text == MESSAGE
    assert (kept.facts["outcome"], kept.facts["id"]) == (lead, "<1@x.example>")
    assert kept.facts["error"] in done.sentence
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", kept.facts["at"])
    assert file.name.startswith(re.sub("[-:]|Z", "", kept.facts["at"]))


@pytest.mark.parametrize(
    ("recipient", "sender", "told"),
    [
        ("pager", "me@example.org", "local delivery"),
        ("a@dead.example", "me@example.org", "nobody lives there"),
        ("b@far.example", "me@example.org", "one transaction cannot serve both"),
        ("later", "me@example.org", ":defer:"),
    ],
)
def test_failures_before_any_connection_are_kept_too(
    program: Program, folder: Path, recipient: str, sender: str, told: str
) -> None:
    """A4, D: as the caller named the recipients, before aliases."""
    aliases = program.folder / "aliases"
    aliases.write_text("pager: |/bin/pager\nlater: :defer: moving house\nroot: ops@example.net\n")
    more = f"""qualify_domain = "example.org"
        [redirect]
        aliases = ["{aliases}"]
        [[route]]
        recipients = ["*@dead.example"]
        unroutable = "nobody lives there"
        [[route]]
        recipients = ["*@far.example"]
        smart_hosts = ["smtp://127.0.0.1:2"]
    """
    done = ready(program, "smtp://127.0.0.1:1", folder, more).run("-f", sender, "root", recipient, stdin=MESSAGE)
    assert done.status == 1
    assert told in done.sentence
    kept = read_batch(only_file(folder).read_bytes())
    assert (kept.sender, kept.recipients, kept.text) == (sender, ["root", recipient], MESSAGE)


@pytest.mark.parametrize(
    ("argv", "stdin"),
    [
        (["--frobnicate", "a@b.example"], MESSAGE),
        (["not an address"], MESSAGE),
        (["-t"], MESSAGE),
        (["-bd"], b""),
        (["a@b.example"], b"Received: x\n" * 101 + MESSAGE),
        (["a@b.example"], b"x: " + b"y" * 5_000_000),
    ],
)
def test_what_has_no_envelope_or_was_not_read_to_its_end_is_not_kept(
    program: Program, folder: Path, argv: list[str], stdin: bytes
) -> None:
    """muawrap.toml(5): usage errors, recipients that cannot be read, loops, messages that are none."""
    done = ready(program, "smtp://127.0.0.1:1", folder).run(*argv, stdin=stdin)
    assert done.status == 1
    assert "kept" not in done.sentence
    assert list(folder.iterdir()) == []


def test_a_sender_that_is_no_address_is_no_envelope(program: Program, folder: Path) -> None:
    """muawrap.toml(5)."""
    done = ready(program, "smtp://127.0.0.1:1", folder).run("-f", "a@b <", "a@b.example", stdin=MESSAGE)
    assert done.sentence.endswith("(could not be kept: the sender is no address)")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("keeps", [True, False])
def test_a_message_that_was_sent_is_not_kept_and_costs_only_those_who_asked(
    program: Program, folder: Path, keeps: bool
) -> None:
    """A4: what keeps it is loaded before a signal can come in the middle of that, and where no folder is named not."""
    with Server() as server:
        ready(program, server, folder)
        if not keeps:
            program.config.write_text(re.sub("(?m)^keep_failed.*$", "", program.config.read_text()))
        said = program.script(
            "import json;"
            "from muawrap import sendmail;"
            "status = sendmail.run(['sendmail', '-C', sys.argv[1], 'you@example.net']);"
            "print(json.dumps([status, 'muawrap.keeping' in sys.modules]))",
            MESSAGE,
        )
    assert json.loads(said) == [0, keeps]
    assert list(folder.iterdir()) == []


# -- LMTP, where some may have it and others not


THREE = "root: a@x.example, b@x.example, c@x.example\n"


def over_lmtp(program: Program, server: LmtpServer, folder: Path, text: str = THREE, more: str = "") -> Program:
    aliases = program.folder / "aliases"
    aliases.write_text(text)
    program.configure(
        f'smart_hosts = [{{ url = "lmtp://127.0.0.1:{server.port}", tls = {{ policy = "none" }} }}]\n'
        f'{ME}keep_failed = "{folder}"\nqualify_domain = "x.example"\n{more}[redirect]\naliases = ["{aliases}"]\n'
    )
    return program


def as_smtp(recipient: str) -> bytes:
    """MESSAGE as a batch, or as a caller of -bs says it."""
    return b"MAIL FROM:<me@client.example>\nRCPT TO:<%s>\nDATA\n%s.\n" % (recipient.encode(), MESSAGE)


NO, LATER = "550 5.1.1 no", "452 4.2.2 full"


@pytest.mark.parametrize(
    ("script", "waiting", "uncertain", "outcome"),
    [
        ({"dot b@x.example": NO}, ["b@x.example"], [], REFUSED),
        ({"dot b@x.example": LATER}, ["b@x.example"], [], TRY_AGAIN),
        ({"dot b@x.example": NO, "dot c@x.example": Drop()}, ["b@x.example"], ["c@x.example"], REFUSED),
        ({"dot b@x.example": Drop()}, [], ["b@x.example", "c@x.example"], UNCERTAIN),
        ({"dot a@x.example": NO, "dot b@x.example": Drop()}, ["a@x.example"], ["b@x.example", "c@x.example"], REFUSED),
        # Nobody has it, or nothing is known: all of it, with the recipients the caller gave.
        ({"dot": LATER, "dot b@x.example": NO}, ["root"], [], REFUSED),
        ({"dot": LATER}, ["root"], [], TRY_AGAIN),
        ({"dot": Drop()}, [], ["root"], UNCERTAIN),
    ],
)
def test_a_copy_is_for_those_only_who_do_not_have_it(
    program: Program,
    folder: Path,
    script: dict[str, Action | str],
    waiting: list[str],
    uncertain: list[str],
    outcome: str,
) -> None:
    """A4, RFC 2033, 4.2: else sending it again would make two of what has arrived; those unknown stand apart."""
    with LmtpServer(script) as server:
        done = over_lmtp(program, server, folder).run("root", stdin=MESSAGE)
        server.finished()
        had = [recipient for recipient, _ in server.deliveries]
    assert done.status == 1
    files = [only_file(place) for place, whom in ((folder, waiting), (folder / "uncertain", uncertain)) if whom]
    assert (folder / "uncertain").exists() == bool(uncertain)
    assert len([path for path in folder.iterdir() if path.is_file()]) == bool(waiting)
    assert f"kept as {' and '.join(map(str, files))})" in done.sentence
    kept = [read_batch(file.read_bytes()) for file in files]
    assert [one.recipients for one in kept] == [whom for whom in (waiting, uncertain) if whom]
    assert [one.facts["outcome"] for one in kept] == ([outcome] if waiting else []) + [UNCERTAIN] * bool(uncertain)
    assert [one.text for one in kept] == [MESSAGE] * len(kept)
    if waiting:  # which may be sent as it stands
        with LmtpServer() as server:
            again = over_lmtp(program, server, folder).run("-bS", stdin=files[0].read_bytes())
            assert (again.status, again.err) == (0, b"")
            have = [recipient for recipient, _ in server.deliveries]
        assert not set(have) & set(had)


@pytest.mark.parametrize(
    ("script", "outcomes"),
    [
        ({"dot b@x.example": NO}, {".": REFUSED}),
        ({"dot b@x.example": LATER}, {".": TRY_AGAIN}),
        ({"dot b@x.example": NO, "dot c@x.example": Drop()}, {".": REFUSED, "uncertain": UNCERTAIN}),
        ({"dot b@x.example": LATER, "dot c@x.example": Drop()}, {".": TRY_AGAIN, "uncertain": UNCERTAIN}),
    ],
)
@pytest.mark.parametrize("mode", ["-i", "-bs", "-bS"])
def test_a_copy_has_the_outcome_of_its_own_recipients_in_every_mode(
    program: Program, folder: Path, script: dict[str, Action | str], outcomes: dict[str, str], mode: str
) -> None:
    """A4, E8: what may be tried again is not called refused, nor the other way round."""
    words, stdin = (["-i", "root"], MESSAGE) if mode == "-i" else ([mode], as_smtp("root"))
    with LmtpServer(script) as server:
        assert over_lmtp(program, server, folder).run(*words, stdin=stdin).status == 1
    kept = {place: read_batch(only_file(folder / place).read_bytes()) for place in outcomes}
    assert {place: one.facts["outcome"] for place, one in kept.items()} == outcomes


HERE = 'local_domains = ["x.example"]\n'


@pytest.mark.parametrize(
    ("aliases", "final", "named", "more"),
    [
        ("root: ann, bob@other.example\nann: \\ann, bob@other.example\n", "ann@x.example", "\\ann@x.example", HERE),
        (
            "root: ann, bob@other.example\nann: bob@other.example, ann@x.example\n",
            "ann@x.example",
            "\\ann@x.example",
            HERE,
        ),
        ("root: ann, bob@other.example\n", "ann@x.example", "ann@x.example", HERE),
        ("root: ann, bob@other.example\nann: \\ann\n", "ann@x.example", "ann@x.example", HERE),
        ("root: ann, bob@other.example\nann: \\ann, bob@other.example\n", "ann@x.example", "ann@x.example", ""),
        ("root: ann@X.EXAMPLE, bob@other.example\n", "ann@X.EXAMPLE", "ann@X.EXAMPLE", HERE),
        # A name of this host: also by its other spelling.
        (
            "root: ann, bob@other.example\nann: \\ann, bob@other.example\n",
            "ann@x.example",
            "\\ann@x.example",
            'hostname = "x.example"\n',
        ),
        # Quoted; what is quoted may begin with a backslash, or hold one.
        (
            'root: "a>b", bob@other.example\n"a>b": \\"a>b", bob@other.example\n',
            '"a>b"@x.example',
            '\\"a>b"@x.example',
            HERE,
        ),
        (
            'root: "\\\\ann", bob@other.example\n"\\\\ann": \\"\\\\ann", bob@other.example\n',
            '"\\\\ann"@x.example',
            '\\"\\\\ann"@x.example',
            HERE,
        ),
        # To admin is no better than to bob: ann is the one who is to have it.
        (
            "root: ann, bob@other.example\nann: \\ann\n",
            "ann@x.example",
            "ann@x.example",
            'hostname = "x.example"\nadmin = "al@client.example"\n',
        ),
    ],
)
def test_a_recipient_of_a_copy_is_not_redirected_again_to_those_who_have_it(
    program: Program, folder: Path, aliases: str, final: str, named: str, more: str
) -> None:
    """A4, D2: a backslash where an alias would lead on; it is no part of the address on the wire and in the log."""
    with LmtpServer({f"dot {final}": LATER}) as server:
        assert over_lmtp(program, server, folder, aliases, more).run("root", stdin=MESSAGE).status == 1
        server.finished()
        assert [one for one, _ in server.deliveries] == [b"bob@other.example"]
    file = only_file(folder)
    assert read_batch(file.read_bytes()).recipients == [named]
    with LmtpServer() as server:
        again = over_lmtp(program, server, folder, aliases, more).run("-bS", stdin=file.read_bytes())
        (session,) = server.finished()
    assert (again.status, again.err) == (0, b"")
    assert [one.decode() for one, _ in server.deliveries] == [final]
    assert f"RCPT TO:<{final}>".encode() in session.commands
    logged = re.search(r' to=(?:(<[^ "]+)|"((?:[^"\\]|\\.)*)")', program.log.splitlines()[-1])
    assert logged is not None
    assert (logged[1] or re.sub(r"\\(.)", r"\1", logged[2])) == f"<{final}>"


def test_a_part_that_cannot_be_kept_does_not_hide_the_other(program: Program, folder: Path) -> None:
    """A4: the line says both."""
    (folder / "uncertain").write_text("in the way")
    with LmtpServer({"dot b@x.example": NO, "dot c@x.example": Drop()}) as server:
        done = over_lmtp(program, server, folder).run("root", stdin=MESSAGE)
    (file,) = (path for path in folder.iterdir() if path.name != "uncertain")
    assert f"could not be kept: {folder}/uncertain: not a directory; for others it is kept as {file})" in done.sentence


# -- the envelope ----------------------------------------------------------------------------------------------------


def test_with_t_the_recipients_are_those_of_the_header_and_bcc_is_only_in_the_envelope(
    program: Program, folder: Path
) -> None:
    """A4, E7, F4: so that -t is not needed again."""
    message = b'To: root, "Q, l" <"q l"@x.example>\nBcc: hidden@x.example\nCc: c@x.example\nSubject: x\n\nx\n'
    more = 'qualify_domain = "example.org"\nadmin = "ops@example.net"\n'
    ready(program, "smtp://127.0.0.1:1", folder, more).run("-t", "\\al", "-f", "", stdin=message)
    kept = read_batch(only_file(folder).read_bytes())
    assert kept.sender == ""
    assert kept.recipients == ["\\al", "root", '"q l"@x.example', "hidden@x.example", "c@x.example"]
    assert kept.text == message.replace(b"Bcc: hidden@x.example\n", b"")


def test_the_sender_is_the_one_given_although_another_was_to_be_used(program: Program, folder: Path) -> None:
    """A4; without -f it is the one that was to be used, or whose mail it is."""
    ready(program, "smtp://127.0.0.1:1", folder)
    for argv in (["-f", "al@work.example"], [], ["-f", "al"]):
        program.run(*argv, "a@b.example", stdin=MESSAGE)
    program.run("root", stdin=MESSAGE)  # nobody knows where to
    senders = [read_batch(file.read_bytes()).sender for file in sorted(folder.iterdir())]
    assert senders[:3] == ["al@work.example", "me@client.example", "al"]
    assert senders[3].partition("@")[0] == pwd.getpwuid(os.getuid()).pw_name


def test_what_the_caller_asked_for_beside_is_noted(program: Program, folder: Path) -> None:
    """RFC 3461, and sendmail(8): in a command that every reader ignores."""
    asked = ["-N", "failure,delay", "-R", "hdrs", "-V", "QQ+1=2", "-F", 'Cron "D\u00e4mon"', "-G", "-U"]
    ready(program, "smtp://127.0.0.1:1", folder).run(*asked, "a@b.example", stdin=MESSAGE)
    facts = read_batch(only_file(folder).read_bytes()).facts
    found = {name: facts[name] for name in ("notify", "ret", "envid", "name", "gateway", "smtputf8")}
    assert found == {
        "notify": "FAILURE,DELAY",
        "ret": "HDRS",
        "envid": "QQ+2B1+3D2",
        "name": 'Cron "D\\xe4mon"',
        "gateway": "yes",
        "smtputf8": "yes",
    }


# -- the text --------------------------------------------------------------------------------------------------------


def given_message(
    text: Message, recipients: list[str] | None = None, sender: str | None = "a@b.example"
) -> keeping.Given:
    return keeping.Given(Invocation(sender=sender), recipients or ["c@d.example"], text, "login")


def never(named: list[str]) -> Expansion:
    """No routing, for what is kept as the caller gave it."""
    raise AssertionError(named)


def read_in(octets: bytes) -> Message:
    """A message as standard input would bring it."""
    with open(os.memfd_create("message"), "w+b", buffering=0) as file:
        file.write(octets)
        file.seek(0)
        return reading.read(file.fileno(), False, 100)[0]


LINES = st.lists(
    st.sampled_from([b".", b"..", b".x", b"x", b"", b"From x", b"DATA", b"\xff\xe4", b"\0", b"To: a", b"a\r.", b"QUIT"])
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans(), st.text(), st.text())
def test_what_is_kept_reads_back_as_the_message_that_was_read(
    folder: Path, lines: list[bytes], end: bytes, ended: bool, error: str, message_id: str
) -> None:
    """A4, F1: dots, 8-bit, NUL and every line end; whatever the note has to say, it is one line."""
    message = read_in(end.join(lines) + (end if ended else b""))
    path = Path(keeping.keep(str(folder), given_message(message), Failure(error), message_id, never))
    octets = path.read_bytes()
    path.unlink()
    kept = read_batch(octets)
    assert re.fullmatch(rb"NOOP muawrap [ -~]*\n", octets[: octets.index(b"\n") + 1])
    assert "at" in kept.facts
    header = b"".join(field.octets for field in message.headers)
    assert kept.text == header + b"\n" + b"".join(message.body.blocks())
    again = read_in(kept.text)
    assert again.headers == message.headers
    assert b"".join(again.body.blocks()) == b"".join(message.body.blocks())


def test_a_large_message_is_kept_octet_for_octet(program: Program, folder: Path) -> None:
    """A4: 5 MB, which were put aside in a file without a name."""
    message = MESSAGE + (b".x\n" + b"\xe4" * 997 + b"\n") * 5000 + b"no line end"
    with Server({"RCPT": "450 4.2.1 later"}) as server:
        done = ready(program, server, folder).run("-i", "a@b.example", stdin=message)
    assert f"kept as {folder}" in done.sentence
    assert read_batch(only_file(folder).read_bytes()).text == message + b"\n"


@pytest.mark.row("L2")
def test_keeping_takes_no_more_memory_than_sending(folder: Path) -> None:
    """A4: whatever the size."""
    size = 16 * 1024 * 1024
    file = os.memfd_create("body")
    for _ in range(16):
        os.write(file, b".234567\n" * 131_072)
    message = given_message(Message((), Body.spooled(file, size, size // 8, False)))
    tracemalloc.start()
    try:
        path = keeping.keep(str(folder), message, Failure("no"), "", never)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        os.close(file)
    assert os.stat(path).st_size > size + size // 8
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize(
    "address", ["o'x+y@b.example", '"a>b\\\\ \\"c"@b.example', "\u00e4@\u00f6.example", "a@[192.0.2.1]"]
)
def test_every_address_reads_back(folder: Path, address: str) -> None:
    """A4."""
    text = read_in(MESSAGE)
    path = keeping.keep(str(folder), given_message(text, [address], address), Failure("x"), "", never)
    kept = read_batch(Path(path).read_bytes())
    assert (kept.sender, kept.recipients) == (address, [address])


# -- the folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_nobody_else_reads_it_whatever_the_umask(program: Program, folder: Path, mask: int) -> None:
    """muawrap.toml(5): 0600, and 0700 for uncertain/."""
    with Server({"dot": Drop()}) as server:
        ready(program, server, folder).run("a@b.example", stdin=MESSAGE, umask=mask)
    assert stat.S_IMODE((folder / "uncertain").stat().st_mode) == 0o700
    assert read_batch(only_file(folder / "uncertain").read_bytes()).text == MESSAGE


def keep(folder: Path, lead: str = REFUSED) -> str:
    """Where it is kept, or the reason why it is not."""
    try:
        return keeping.keep(str(folder), given_message(read_in(MESSAGE)), Failure("no", lead=lead), "", never)
    except Failure as failure:
        return str(failure)


@pytest.mark.parametrize("lead", [REFUSED, UNCERTAIN])
@pytest.mark.parametrize(
    ("uid", "mode", "group", "caller", "reason"),
    [
        (0, 0o700, 0, 0, ""),
        (0, 0o755, 0, 0, ""),
        (0, 0o770, 0, 0, ""),  # root's own group
        (0, 0o777, 0, 0, "writable by others"),
        (0, 0o770, 33, 0, "writable by others"),
        (0, 0o1733, 0, NOBODY, ""),
        (0, 0o1777, 0, NOBODY, ""),
        (0, 0o1733, 0, WWW_DATA, ""),
        (0, 0o755, 0, NOBODY, "permission denied"),
        (0, 0o700, 0, NOBODY, "permission denied"),
        (NOBODY, 0o700, NOBODY, NOBODY, ""),
        (NOBODY, 0o777, NOBODY, NOBODY, "writable by others"),
        (NOBODY, 0o700, NOBODY, 0, f"belongs to uid {NOBODY}"),
        (WWW_DATA, 0o1777, NOBODY, NOBODY, f"belongs to uid {WWW_DATA}"),
    ],
)
def test_the_folder_is_one_that_others_cannot_change(
    uid: int, mode: int, group: int, caller: int, reason: str, lead: str
) -> None:
    """muawrap.toml(5): owner x mode x caller; uncertain/ as the folder itself."""
    with public_folder() as public, acting_as(0):
        folder = public / "failed"
        for path in (folder, folder / "uncertain") if mode & stat.S_ISVTX else (folder,):
            path.mkdir()
            os.chown(path, uid, group)
            path.chmod(mode)
        with acting_as(caller):
            said = keep(folder, lead)
        found = [path for path in folder.rglob("*") if path.name != "uncertain"]
        assert [str(path) for path in found] == ([] if reason else [said])
        assert reason in said
        for path in found:
            assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (caller, 0o600)


def test_uncertain_is_not_made_in_a_folder_of_many_users() -> None:
    """muawrap.toml(5): the first one's would be no use to the others."""
    with public_folder() as public, acting_as(0):
        public.chmod(0o1733)
        with acting_as(NOBODY):
            assert keep(public, UNCERTAIN) == f"{public}/uncertain: no such file or directory"
        assert list(public.iterdir()) == []


def test_uncertain_is_no_link_into_another_folder(folder: Path, tmp_path: Path) -> None:
    """A4: who may add files to a sticky folder cannot send ours elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "uncertain").symlink_to(elsewhere)
    assert keep(folder, UNCERTAIN) == f"{folder}/uncertain: not a directory"
    assert list(elsewhere.iterdir()) == []


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    """muawrap.toml(5): who owns the configuration has said so."""
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert keep(link) == str(link / only_file(folder).name)


def test_a_folder_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    """muawrap.toml(5): it is not made, for it may be a file system that is not mounted."""
    assert keep(tmp_path / "none") == f"{tmp_path}/none: no such file or directory"
    (tmp_path / "file").touch()
    assert keep(tmp_path / "file") == f"{tmp_path}/file: not a directory"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_names_sort_by_time(folder: Path) -> None:
    """muawrap.toml(5)."""
    names = [Path(keep(folder)).name for _ in range(20)]
    assert names == sorted(set(names))


def test_many_at_once_are_as_many_files(program: Program, folder: Path) -> None:
    """A4."""
    ready(program, "smtp://127.0.0.1:1", folder)
    with ThreadPoolExecutor(8) as pool:
        runs = pool.map(lambda number: program.run(f"r{number}@b.example", stdin=MESSAGE), range(8))
        named = {run.sentence.rpartition("kept as ")[2].rstrip(")") for run in runs}
    assert named == {str(path) for path in folder.iterdir()}
    kept = [read_batch(path.read_bytes()) for path in folder.iterdir()]
    assert {batch.recipients[0] for batch in kept} == {f"r{number}@b.example" for number in range(8)}
    assert {batch.text for batch in kept} == {MESSAGE}


# -- trouble ---------------------------------------------------------------------------------------------------------


def without_remark(sentence: str) -> str:
    return re.sub(r"( \(|; )could not be kept: .*\)$", "", sentence).removesuffix(")")


def changes_nothing_else(program: Program, plain: Result, troubled: Result, reason: str) -> None:
    """Same status, same sentence, and the reason briefly."""
    assert (troubled.status, troubled.out) == (plain.status, plain.out) == (1, b"")
    assert without_remark(troubled.sentence) == plain.sentence.removesuffix(")")
    assert troubled.sentence.endswith(f"could not be kept: {reason})")
    first, second = (re.sub("^[^ ]* | not-kept=.*(?= error=)", "", line) for line in program.log.splitlines())
    assert first == second


def run_without(program: Program, stdin: bytes = MESSAGE) -> Result:
    """The run that has to look the same."""
    program.configure(f"{program.smart_hosts('smtp://127.0.0.1:1')}{ME}")
    return program.run("a@b.example", stdin=stdin)


def under(program: Program, *command: str, stdin: bytes = MESSAGE) -> Result:
    """The program run by another one."""
    own = (program.named("sendmail"), "-C", program.config, "a@b.example")
    done = subprocess.run([*command, *own], input=stdin, capture_output=True, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def failing(program: Program, inject: str) -> list[str]:
    """The command under which a system call fails."""
    calls = inject.partition(":")[0]
    return [need("strace"), "-o", f"{program.folder}/trace", "-e", f"trace={calls}", "-e", f"inject={inject}"]


@pytest.mark.row("L8")
@pytest.mark.parametrize(
    ("inject", "reason"),
    [
        ("write:error=ENOSPC:when=1", "no space left on device"),
        ("write:error=EDQUOT:when=1", "disk quota exceeded"),
        ("fsync:error=EIO:when=1", "input/output error"),  # the file's
        ("fsync:error=EIO:when=2", "input/output error"),  # the folder's
        ("renameat,renameat2:error=EROFS", "read-only file system"),
    ],
)
def test_a_call_that_fails_leaves_no_file_and_changes_nothing_else(
    program: Program, folder: Path, inject: str, reason: str
) -> None:
    """A4, A5: no half file, and none that a power failure might take away."""
    plain = run_without(program)
    ready(program, "smtp://127.0.0.1:1", folder)
    changes_nothing_else(program, plain, under(program, *failing(program, inject)), reason)
    assert list(folder.iterdir()) == []


def test_a_folder_whose_file_system_has_no_fsync_for_it_will_do(program: Program, folder: Path) -> None:
    """muawrap.toml(5)."""
    ready(program, "smtp://127.0.0.1:1", folder)
    under(program, *failing(program, "fsync:error=EINVAL:when=2"))
    assert read_batch(only_file(folder).read_bytes()).text == MESSAGE


@pytest.mark.row("L8")
@pytest.mark.parametrize(
    ("options", "reason"), [("size=16k", "no space left on device"), ("ro", "read-only file system")]
)
def test_a_full_or_read_only_disk_changes_nothing_else(
    program: Program, folder: Path, options: str, reason: str
) -> None:
    """A4, A5: a real file system, on which the message has room for its first half only."""
    unshare, _ = need("unshare"), need("mount")
    if os.getuid() != 0:
        missing("root, to mount a file system")
    message = MESSAGE + b"x" * 40_000
    plain = run_without(program, message)
    ready(program, "smtp://127.0.0.1:1", folder)
    script = f'mount -t tmpfs -o {options} none {folder} && "$@"; status=$?; ls -A {folder}; exit $status'
    done = under(program, unshare, "-m", "sh", "-c", script, "sh", stdin=message)
    changes_nothing_else(program, plain, done, reason)


@pytest.mark.row("L8")
def test_a_limit_on_the_size_of_files_changes_nothing_else(program: Program, folder: Path) -> None:
    """A4, A5: what has been written up to the limit goes again."""
    message = MESSAGE + b"x" * 100_000
    plain = run_without(program, message)
    done = ready(program, "smtp://127.0.0.1:1", folder).run(
        "a@b.example",
        stdin=message,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    changes_nothing_else(program, plain, done, "file too large")
    assert list(folder.iterdir()) == []


def test_trouble_of_our_own_making_changes_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    """A5: a mistake in the program, or no memory."""

    def keep(failure: Failure) -> str:
        raise MemoryError

    facts = report.Facts()
    facts.log, facts.keep = ("none",), keep
    assert report.failure(Failure("no", advice="do this"), facts) == 1
    said = capfd.readouterr().err
    assert said == "sendmail: not sent, refused: no (do this; could not be kept: internal error: MemoryError: )\n"


def test_a_path_that_is_very_long_is_cut_and_the_rest_is_still_said(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A7: no field crowds out the others."""
    facts = report.Facts()
    facts.log, facts.keep = (str(tmp_path / "log"),), lambda failure: "/" + "x" * 4094
    report.failure(Failure("no such user", advice="do this"), facts)
    said, logged = capfd.readouterr().err, (tmp_path / "log").read_text()
    assert said.startswith("sendmail: not sent, refused: no such user (do this; kept as /xxx")
    assert "no such user (do this)" in logged
    assert max(len(said), len(logged)) <= report.LINE_LIMIT


# -- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.row("L3")
@pytest.mark.parametrize(("stage", "where"), [("greeting", "."), ("RCPT", "."), ("dot", "uncertain")])
def test_a_message_that_a_signal_stopped_is_kept_once(program: Program, folder: Path, stage: str, where: str) -> None:
    """A4: it had been read to its end."""
    reached = threading.Event()
    with (
        Server({stage: Hold(reached)}) as server,
        subprocess.Popen(
            [ready(program, server, folder).named("sendmail"), "-C", program.config, "-i", "a@b.example"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(MESSAGE)
        process.stdin.close()
        assert reached.wait(20)
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
        said = process.stderr.read().decode()
    file = only_file(folder / where)
    assert said.endswith(f"kept as {folder / where / file.name}".replace("/./", "/") + ")\n")
    assert read_batch(file.read_bytes()).text == MESSAGE


@pytest.mark.row("L3")
def test_a_message_is_kept_whatever_a_signal_finds_half_loaded(
    program: Program, folder: Path, closed_port: int
) -> None:
    """A4: it had been read to its end; what writes it down needs nothing that is not loaded by then."""
    program.configure(f'smart_hosts = ["smtp://127.0.0.1:{closed_port}"]\n{ME}keep_failed = "{folder}"\n')
    for run in half_loaded.runs("sendmail", ["-C", str(program.config), "a@b.example"], MESSAGE):
        file = only_file(folder)
        assert read_batch(file.read_bytes()).text == MESSAGE, run
        assert (run.status, "interrupted by a signal" in run.said) == (1, bool(run.module)), run
        file.unlink()


@pytest.mark.row("L3")
def test_a_message_that_a_signal_cut_short_is_not_kept(program: Program, folder: Path) -> None:
    """A4: half a message is none."""
    ready(program, "smtp://127.0.0.1:1", folder)
    read, write = os.pipe()
    with subprocess.Popen(
        [program.named("sendmail"), "-C", program.config, "a@b.example"], stdin=read, stderr=subprocess.PIPE
    ) as process:
        os.write(write, MESSAGE)
        while "pipe" not in Path(f"/proc/{process.pid}/wchan").read_text() or not is_python(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        os.close(write)
        assert process.stderr is not None
        assert process.stderr.read() == b"sendmail: not sent, try again: interrupted by a signal\n"
    os.close(read)
    assert list(folder.iterdir()) == []


def is_python(pid: int) -> bool:
    return b"-I\0-S\0" in Path(f"/proc/{pid}/cmdline").read_bytes()


# -- a real reader ---------------------------------------------------------------------------------------------------


def test_a_real_exim_takes_what_was_kept(program: Program, folder: Path, tmp_path: Path) -> None:
    """A4: `exim -bS` reads back sender, recipients and text; several files in one go."""
    message = (
        b"To: c@d.example\nFrom: a@b.example\nDate: Sat, 21 Nov 2026 10:45:00 +0000\n" + MESSAGE + b".\n..\n.x\n\xe4\n"
    )
    ready(program, "smtp://127.0.0.1:1", folder)
    recipients = ["c@d.example", '"q l"@x.example', "root"]
    for sender in "Al@b.example", "":
        program.run("-i", "-f", sender, "-N", "never", *recipients, stdin=message)
    batch = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    with Exim(tmp_path) as exim:
        command = [exim.path, "-C", str(exim.folder / "exim.conf"), "-bS"]
        subprocess.run(command, input=batch, check=True, capture_output=True)
        arrived = exim.messages()
    assert [one.sender for one in arrived] == ["Al@b.example", ""]
    for one in arrived:
        assert one.recipients[:2] == recipients[:2]
        assert one.recipients[2].startswith("root@")
        assert one.text == message


def test_a_real_exim_takes_the_backslash_for_a_part_of_the_address(tmp_path: Path) -> None:
    """D2, muawrap.toml(5): what LMTP left is for our own readers, where its recipient has such a mark."""
    with Exim(tmp_path) as exim:
        command = [exim.path, "-C", str(exim.folder / "exim.conf"), "-bS"]
        subprocess.run(command, input=as_smtp("\\ann@x.example"), check=True, capture_output=True)
        (arrived,) = exim.messages()
    assert arrived.recipients == ["\\ann@x.example"]
