"""The manual says what the program does: pages and tables are compared, and the examples are tried."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from muawrap import config, environment, failure, schema
from muawrap.admin import commands as admin
from muawrap.config import Config, hosts_for
from muawrap.failure import Failure, Stage
from muawrap.holding import settings
from muawrap.mail import Reply
from muawrap.reading import options
from muawrap.submission import advice, explain
from tests.support import server
from tests.support.need import need
from tests.support.program import REPOSITORY, Program

MAN = REPOSITORY / "man"
PAGES = ("sendmail.8", "muawrap.toml.5", "muawrap.1", "muawrap-holding.7")
REDIRECTS = ("mailq.1", "newaliases.1")
TABLES: dict[str, schema.Rows] = {
    "HOST": schema.HOST,
    "TOP": schema.TOP,
    "[auth]": schema.AUTH,
    "[tls]": schema.TLS,
    "[timeouts]": schema.TIMEOUTS,
    "[redirect]": schema.REDIRECT,
    "[[route]]": schema.ROUTE,
    "[[account]]": schema.ACCOUNT,
    "[hold.NAME]": schema.HOLD,
    "[outbox]": schema.OUTBOX,
}


class Item(NamedTuple):
    """One item of a list: what follows .It, and the lines below it."""

    head: str
    body: str

    def named(self, macro: str) -> list[str]:
        """The words that stand behind a macro in the head: "Fl bm , Fl ba" names bm and ba."""
        return re.findall(rf"\b{macro} (\S+)", self.head)


def source(page: str) -> str:
    return (MAN / page).read_text(encoding="ascii")


def section(page: str, title: str) -> str:
    """The lines of a section without its subsections, or of a subsection."""
    parts = re.split(r"^\.S[hs] (.*)\n", source(page), flags=re.MULTILINE)
    found = [text for name, text in zip(parts[1::2], parts[2::2], strict=True) if name == title]
    assert len(found) == 1, f"{page} has {len(found)} sections {title}"
    return found[0]


def items(page: str, title: str) -> list[Item]:
    """The items of all lists of a section."""
    parts = re.split(r"^\.It (.*)\n", section(page, title), flags=re.MULTILINE)
    return [Item(head, body) for head, body in zip(parts[1::2], parts[2::2], strict=True)]


def names(page: str, title: str, macro: str) -> list[str]:
    return [name for item in items(page, title) for name in item.named(macro)]


def plain(text: str) -> str:
    """Page text as it is printed, as far as our pages need it."""
    for escape, char in (("\\(dq", '"'), ("\\e", "\\"), ("\\&", ""), ("\\|", "")):
        text = text.replace(escape, char)
    return text


def displays(page: str, title: str, kind: str) -> list[str]:
    found = re.findall(rf"^\.Bd -{kind}.*\n((?:.*\n)*?)\.Ed$", section(page, title), re.MULTILINE)
    assert found
    return [plain(text) for text in found]


# -- the pages themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_good_mdoc(page: str) -> None:
    """mandoc finds nothing to warn of."""
    done = subprocess.run([need("mandoc"), "-T", "lint", "-W", "warning", MAN / page], capture_output=True, check=False)
    assert (done.stdout + done.stderr).decode() == ""


@pytest.mark.parametrize("page", REDIRECTS)
def test_mailq_and_newaliases_show_the_page_of_sendmail(page: str, tmp_path: Path) -> None:
    """As `man` does it: from the top of an installed manual."""
    for name in (page, "sendmail.8"):
        folder = tmp_path / f"man{name[-1]}"
        folder.mkdir()
        (folder / name).write_text(source(name))
    assert source(page) == ".so man8/sendmail.8\n"
    shown = [need("mandoc"), "-T", "ascii", f"man1/{page}"]
    assert b"SENDMAIL(8)" in subprocess.run(shown, capture_output=True, check=True, cwd=tmp_path).stdout


# -- sendmail.8 ------------------------------------------------------------------------------------------------------


OPTION_SECTIONS = ("Honoured", "Ignored", "Refused")


def test_every_option_stands_once_in_the_manual_and_no_other() -> None:
    """OPTIONS, and the two words that are options only where they stand first."""
    found = [name for title in OPTION_SECTIONS for name in names("sendmail.8", title, "Fl")]
    assert sorted(found) == sorted(["-help", "-version", *(option.letter[1:] for option in options.OPTIONS)])
    assert {options.parse(["sendmail", word]).mode for word in ("--help", "--version")} == {"help", "version"}


def _documented(option: options.Option) -> tuple[str, Item]:
    """The subsection an option stands in, and its item there."""
    every = [(title, item) for title in OPTION_SECTIONS for item in items("sendmail.8", title)]
    return next((title, item) for title, item in every if option.letter[1:] in item.named("Fl"))


@pytest.mark.parametrize("option", options.OPTIONS, ids=lambda option: option.letter)
def test_an_option_stands_under_what_becomes_of_it(option: options.Option) -> None:
    """Honoured, ignored with a reason, refused with a reason."""
    title, item = _documented(option)
    if option.effect in ("ignore", "refuse"):
        assert title == {"ignore": "Ignored", "refuse": "Refused"}[option.effect]
    else:
        assert title == "Honoured" or option.effect in ("hop_count", "traffic_log")  # looked at, and then ignored
    assert item.body.strip()


@pytest.mark.parametrize("option", options.OPTIONS, ids=lambda option: option.letter)
def test_an_option_is_shown_with_a_value_where_it_takes_one(option: options.Option) -> None:
    """None, required, or attached only."""
    _, item = _documented(option)
    value = item.head.removeprefix(f"Fl {option.letter[1:]}")
    shape = {options.NONE: r"", options.ATTACHED: r" Ns Op Ar \w+", options.REQUIRED: r" (Ns )?(Ar|Cm) \w.*"}
    assert re.fullmatch(shape[option.kind], value), value


def test_every_mode_stands_in_the_manual_and_no_other() -> None:
    """MODES, each refused there exactly where the program refuses it."""
    refused: dict[str, bool] = {}
    for item in items("sendmail.8", "Modes"):
        refused |= dict.fromkeys(item.named("Fl"), item.body.startswith("Refused"))
    assert refused == {"b" + mode: what not in options.KNOWN_MODES for mode, what in options.MODES.items()}


def test_every_program_name_stands_in_the_manual_and_no_other() -> None:
    """NAMES, each with the option it stands for."""
    found = {
        item.named("Nm")[0]: re.findall(r"^\.Fl (\S+)", item.body, re.MULTILINE)
        for item in items("sendmail.8", "PROGRAM NAMES")
    }
    assert found == {name: [option[1:]] for name, option in options.NAMES.items()}


def test_every_option_by_letter_that_is_not_simply_ignored_stands_in_the_manual() -> None:
    """SHORT_OPTIONS, NEEDS_ATTACHED and Exim's -oM."""
    bodies: dict[str, str] = {}
    for item in items("sendmail.8", "Options by letter"):
        bodies |= dict.fromkeys(item.named("Fl"), item.body)
    assert set(bodies) == {"o" + letter for letter in (*options.SHORT_OPTIONS, *options.NEEDS_ATTACHED, "M")}
    refused = {"o" + letter for letter, effect in options.SHORT_OPTIONS.items() if effect == "refuse"}
    assert {name for name, body in bodies.items() if body.startswith("Refused")} == refused
    macros = re.findall(r"\boM([a-z]+)", bodies["oM"])
    assert sorted(macros) == sorted(options.EXIM_MACROS)


def test_the_three_leads_stand_in_the_manual_with_examples() -> None:
    """RULES A3; every example is one line as it is printed."""
    leads = [failure.TRY_AGAIN, failure.REFUSED, failure.UNCERTAIN]
    found = items("sendmail.8", "DIAGNOSTICS")
    assert [item.head for item in found] == leads
    for item in found:
        examples = [example for example in _diagnostics() if example.startswith(f"sendmail: {item.head}: ")]
        assert examples
    assert len(_diagnostics()) == sum(item.body.count(".Bd ") for item in found)


def _diagnostics() -> list[str]:
    return [" ".join(text.split()) for text in displays("sendmail.8", "DIAGNOSTICS", "ragged")]


@pytest.mark.parametrize("argument", ["root", "later", "-z"])
def test_the_example_of_a_local_failure_is_what_the_program_says(program: Program, argument: str) -> None:
    """Aliases and options."""
    aliases = program.folder / "aliases"
    aliases.write_text("root: ops\nops: |/bin/pager\nlater: :defer: moving house\n")
    hosts = 'smart_hosts = ["smtp://127.0.0.1:1"]\nfrom = "me@example.org"\n'
    program.configure(f'{hosts}[redirect]\naliases = ["{aliases}"]\n')
    assert program.run(argument).sentence.replace(str(aliases), "/etc/aliases") in _diagnostics()


def test_the_example_of_failing_hosts_is_what_the_program_says(program: Program) -> None:
    """With other ports."""
    with server.closed_port() as one, server.closed_port() as two:
        program.configure(
            program.smart_hosts(f"smtp://127.0.0.1:{one}", f"smtp://127.0.0.1:{two}") + 'from = "a@b.example"'
        )
        said = program.run("you@example.net", stdin=b"Message-ID: <1@example.org>\n\n").sentence
    assert said.replace(f":{one}:", ":1:").replace(f":{two}:", ":2:") in _diagnostics()


def test_the_examples_of_a_verdict_are_what_the_program_says() -> None:
    """A refused recipient, and a loss after the end of the message."""
    host = "smtp.example.org:465"
    refused = Failure(
        stage=Stage.RCPT,
        host=host,
        recipient="<nobody@example.net>",
        reply=Reply(550, ("5.1.1 No such user here",)),
    )
    lost = Failure("lost the connection", lead=failure.UNCERTAIN, stage=Stage.VERDICT, host=host)
    assert refused.reply
    advised = advice.for_reply(Stage.RCPT, refused.reply)
    said = f"sendmail: {refused.lead}: {refused.sentence()} [Message-ID "
    assert any(example.startswith(said) and example.endswith(f">] ({advised})") for example in _diagnostics())
    assert any(
        example.startswith(f"sendmail: {lost.lead}: {lost.sentence()} [Message-ID ") for example in _diagnostics()
    )


def _explained(title: str) -> list[tuple[str, str, str]]:
    """The items of a subsection of DIAGNOSTICS: what is said, what it means, and the advice."""
    found = []
    for item in items("sendmail.8", title):
        lines = [plain(line) for line in item.body.partition(".El")[0].splitlines()]
        advised = [line[len('.Dq "') : -len('" .')] for line in lines if line.startswith(".Dq")]
        meaning = " ".join(line for line in lines if not line.startswith(".Dq"))
        found.append((plain(item.head)[len('Li "') : -1], meaning, " ".join(advised)))
    return found


def test_every_reply_we_have_advice_for_stands_in_the_manual_and_no_other() -> None:
    """advice.ROWS, in their order; of several examples the last one has the words."""
    expected = [
        (example, *((row.cause, row.advice) if example is row.examples[-1] else ("", "")))
        for row in advice.ROWS
        for example in row.examples
    ]
    assert _explained("Replies") == expected


def test_every_trouble_with_tls_stands_in_the_manual_and_no_other() -> None:
    """explain.FLAWS and explain.SIGNS, in their order, then the server that waits for TLS."""
    expected = [(flaw.cause, flaw.advice) for flaw in explain.FLAWS] + [
        (sign.cause, sign.advice) for sign in explain.SIGNS
    ]
    found = [(meaning, advised) for _, meaning, advised in _explained("TLS") if meaning]
    assert found[:-1] == expected
    signs = [said for said, meaning, _ in _explained("TLS") if meaning][-1 - len(explain.SIGNS) : -1]
    for said, sign in zip(signs, explain.SIGNS, strict=True):
        assert said == (sign.what or f"TLS failed: ... {sign.words[0]}")


# -- muawrap.toml.5 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_every_key_stands_in_the_manual_and_no_other(table: str) -> None:
    """The rows of the schema."""
    assert sorted(names("muawrap.toml.5", table, "Ic")) == sorted(TABLES[table])


def _defaults(table: str) -> str:
    """The defaults printed for a table, as TOML."""
    heads = [item.head for item in items("muawrap.toml.5", table) if " No = " in item.head]
    return "".join(plain(head).replace("Ic ", "", 1).replace(" No = ", " = ") + "\n" for head in heads)


def _load(folder: Path, toml: str) -> Config:
    file = folder / "muawrap.toml"
    file.touch(mode=0o600)
    file.write_text(toml)
    return config.load(str(file), {})


def _comparable(loaded: Config) -> Config:
    """Without the difference between a key that is not set and one that is set to nothing."""

    def bare(profile: config.Profile) -> config.Profile:
        return profile._replace(
            sender=profile.sender or "", allowed_from=profile.allowed_from or (), auth=None, tls=None
        )

    return loaded._replace(
        profile=bare(loaded.profile),
        routes=tuple(route._replace(profile=bare(route.profile)) for route in loaded.routes),
        accounts=tuple(account._replace(profile=bare(account.profile)) for account in loaded.accounts),
        aliases_may_be_missing=True,
    )


@pytest.mark.parametrize("table", TABLES)
def test_a_printed_default_changes_nothing(table: str, tmp_path: Path) -> None:
    """A file that writes out the defaults of the manual means what it means without them."""
    host = 'smart_hosts = ["submissions://smtp.example.org"]\n'
    defaults = _defaults(table)
    if table == "HOST":
        inline = "".join(f", {line}" for line in defaults.splitlines())
        without, spelled = host, f'smart_hosts = [{{ url = "submissions://smtp.example.org"{inline} }}]\n'
    elif table == "TOP":
        without, spelled = host, host + defaults
    else:
        needed = {
            "[[route]]": 'recipients = ["*"]\n',
            "[[account]]": 'users = ["al"]\n',
            "[hold.NAME]": 'to = "smtp://host.example"\n',
        }.get(table, "")
        without, spelled = f"{host}{table}\n{needed}", f"{host}{table}\n{needed}{defaults}"
    one, two = _load(tmp_path, without), _load(tmp_path, spelled)
    if table in ("[hold.NAME]", "[outbox]"):
        made = settings.outbox if table == "[outbox]" else lambda loaded: settings.keeper(loaded, "NAME")
        assert made(two) == made(one)
        one, two = (loaded._replace(holds={}, outbox={}) for loaded in (one, two))
    assert _comparable(two) == _comparable(one)
    assert hosts_for(two, None, None) == hosts_for(one, None, None)
    assert defaults


def test_every_form_of_a_secret_stands_in_the_manual_and_no_other() -> None:
    """schema.SECRETS, beside the password itself."""
    found = [form for item in items("muawrap.toml.5", "SECRETS") for form in re.findall(r"Li { (\w+)", item.head)]
    assert sorted(found) == sorted(schema.SECRETS)


def test_every_scheme_of_a_smart_host_stands_in_the_manual_with_its_port() -> None:
    """schema.PORTS, and no other."""
    ports = {}
    without = []
    for item in items("muawrap.toml.5", "SMART HOSTS"):
        schemes = re.findall(r"Li ([a-z+]+)://", item.head)
        if schemes[0] in schema.PORTS:
            ports[schemes[0]] = int(re.findall(r"\b[Pp]ort (\d+)", item.body)[0])
        else:
            without += schemes
    assert ports == schema.PORTS
    assert sorted(without) == sorted([*schema.DISCOVERED, *schema.SOCKETS])


@pytest.mark.parametrize(
    "example", displays("muawrap.toml.5", "EXAMPLES", "literal"), ids=lambda example: example.split("\n")[0]
)
def test_an_example_configuration_loads(example: str, tmp_path: Path) -> None:
    """Taken from the page, each as a file or as the environment of a container."""
    if example.startswith(environment.PREFIX):
        loaded = config.load(None, dict(line.split("=", 1) for line in example.splitlines()))
    else:
        loaded = _load(tmp_path, example)
    assert hosts_for(loaded, None, None)


# -- muawrap.1 -------------------------------------------------------------------------------------------------------


def _options(command: click.Command) -> set[str]:
    """Those of a command and of the commands below it: the short name of each, or its long one."""
    found = {min(one.opts, key=len).removeprefix("-") for one in command.params if isinstance(one, click.Option)}
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            found |= _options(inner)
    return found


def test_every_command_of_muawrap_stands_in_the_manual_with_its_options_and_no_other() -> None:
    """The commands of muawrap.admin.commands; short options may stand together, as in -bv."""
    found: dict[str, set[str]] = {}
    for item in items("muawrap.1", "DESCRIPTION"):
        flags = found.setdefault(item.named("Cm")[0], set())
        for flag in item.named("Fl"):
            flags |= {flag} if flag.startswith("-") else set(flag)
    context = click.Context(admin.group)
    assert list(found) == admin.group.list_commands(context)
    for name, flags in found.items():
        command = admin.group.get_command(context, name)
        assert command is not None
        assert flags == _options(command), name
