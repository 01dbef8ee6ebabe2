"""muawrap-holding(7) tells of what is there: its examples are read by the programs they are for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from muawrap import config
from muawrap.admin.commands import group
from muawrap.holding import settings
from muawrap.holding.formats import batchsmtp
from muawrap.holding.rules.schedule import Record
from muawrap.holding.shipping.settling import EXPIRED, PARKED, REFUSED, SENT
from muawrap.holding.store.records import Noted
from muawrap.holding.store.spool import Spool
from tests.support.need import need
from tests.support.program import REPOSITORY
from tests.support.spool import AT, held, keeper

PAGE = (REPOSITORY / "man" / "muawrap-holding.7").read_text(encoding="ascii")
ETC = REPOSITORY / "etc"
EXAMPLES = [
    text.replace("\\e", "\\").replace("\\(dq", '"')
    for text in re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed$", PAGE, re.MULTILINE)
]
CONFIGURATIONS = [text for text in EXAMPLES if re.search(r"^\[", text, re.MULTILINE)]
LINES = [line for text in EXAMPLES for line in text.splitlines()]
COMMANDS = [line for line in LINES if re.match(r"(muawrap|install|ln|systemctl) ", line)]
OURS = [line for line in COMMANDS if line.startswith("muawrap ")]


def items(section: str) -> list[str]:
    """What the lists of a section name."""
    [text] = re.findall(rf"^\.Sh {section}\n((?:(?!\.Sh).*\n)*)", PAGE, re.MULTILINE)
    heads = " ".join(re.findall(r"^\.It (.*)$", text, re.MULTILINE))
    return re.findall(r"[\w./@-]{3,}", heads)


def test_every_example_is_looked_at() -> None:
    """So that none of another kind goes unread."""
    others = [text for text in EXAMPLES if text not in CONFIGURATIONS and not text.startswith("set ")]
    assert [line for text in others for line in text.splitlines()] == COMMANDS
    assert len(EXAMPLES) - len(others) == 4


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=lambda text: text.splitlines()[0])
def test_a_configuration_loads(text: str, tmp_path: Path) -> None:
    """Each with one host."""
    file = tmp_path / "muawrap.toml"
    file.write_text(text)
    file.chmod(0o600)
    [host] = settings.keepers(config.load(str(file), {}))
    assert host.hosts


@pytest.mark.parametrize("line", OURS)
def test_a_command_of_ours_can_be_read(line: str) -> None:
    """By the command itself, as far as its arguments."""
    _, name, *words = shlex.split(line)
    with click.Context(group) as above:
        command = group.get_command(above, name)
        assert command is not None
        command.make_context(name, words, parent=above)


def test_the_schedule_can_be_shown() -> None:
    """As it stands on the page."""
    [line] = [line for line in OURS if line.startswith("muawrap retry ")]
    start = [sys.executable, "-c", "from muawrap.admin.program import main; main()", *shlex.split(line)[1:]]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(start, env=environment, capture_output=True, check=True)
    assert done.stdout
    assert done.stderr == b""


def test_the_folder_is_made_as_muawrap_wants_it(tmp_path: Path) -> None:
    """The line for `install`, for another user; the folder of a host is made in it then."""
    [line] = [line for line in COMMANDS if line.startswith("install -d ")]
    words = shlex.split(line)
    owner, group_id = str(os.geteuid()), str(os.getegid())
    words[words.index("-o") + 1], words[words.index("-g") + 1] = owner, group_id
    words[-1] = str(tmp_path / "spool")
    subprocess.run(words, check=True)
    with Spool(keeper(tmp_path / "spool")):
        pass
    assert (tmp_path / "spool" / "cheshire").stat().st_mode & 0o7777 == 0o2770


INSTALLED = [line for line in COMMANDS if line.startswith("install -m ")]


@pytest.mark.parametrize("line", INSTALLED)
def test_what_is_installed_is_there_and_gets_where_it_says(line: str, tmp_path: Path) -> None:
    """From the folder of the samples, for a system below a folder of the test's own."""
    [target] = re.findall(r"-t (\S+)", line)
    below = tmp_path / target.removeprefix("~").lstrip("/")
    if " -D " not in line:
        below.mkdir(parents=True)
    subprocess.run(["sh", "-c", line.replace(target, str(below))], cwd=ETC, check=True)
    found = [path.read_text() for path in below.iterdir()]
    assert found
    for text in found:
        assert re.search(rf"^# .*{re.escape(target)}", text, re.MULTILINE)


def test_every_unit_that_is_enabled_is_shipped() -> None:
    """By its template where it is an instance."""
    named = {word for line in COMMANDS if line.startswith("systemctl ") for word in re.findall(r"muawrap-\S+", line)}
    user = {word for word in named if "outbox" in word}
    for words, folder in ((named - user, "system"), (user, "user")):
        assert words
        for word in words:
            unit = ETC / "systemd" / folder / re.sub(r"@\w+\.", "@.", word)
            assert "[Install]" in unit.read_text()


def test_everything_in_etc_is_named_and_nothing_else() -> None:
    """FILES, beside the configuration and the aliases."""
    named = [name for name in items("FILES") if (ETC / name).exists()]
    for file in (path for path in ETC.rglob("*") if path.is_file()):
        assert file.name in ("muawrap.toml", "aliases") or any(file.is_relative_to(ETC / name) for name in named)
    assert {name for name in items("FILES") if "/" in name.rstrip("/")} - {*named} == {"archive/YYYY-MM/"}


def test_what_stands_in_the_folder_of_a_host_is_named_and_nothing_else(tmp_path: Path) -> None:
    """FILES: all that a spool ever makes."""
    with Spool(keeper(tmp_path)) as spool:
        for name in ("id-one", "id-two", "three"):
            spool.put(batchsmtp.write(held()), name)
        with spool.lock():
            one, two, three = spool.entries()
            spool.fail(one, {})
            spool.archive(two, AT, {})
            spool.set_note(three.name, Noted(Record(AT, AT, AT), "no"))
            spool.set_record(Noted(Record(AT, AT, AT), "no"))
            spool.wake()
    found = {path.name for path in (tmp_path / "cheshire").iterdir()}
    named = {name.rstrip("/").partition("/")[0] for name in items("FILES") if not (ETC / name).exists()}
    assert named == found


def test_every_word_of_the_log_is_explained_and_no_other() -> None:
    """Looking at it: what happens to a message that is held, or is fetched."""
    source = "".join(
        path.read_text()
        for folder in ("admin", "holding")
        for path in (REPOSITORY / "src/muawrap" / folder).rglob("*.py")
    )
    written = {SENT, REFUSED, EXPIRED, PARKED, *re.findall(r'\bevent\(\s*"([a-z-]+)"', source)}
    [text] = re.findall(r"^\.Ss Looking at it\n((?:(?!\.Ss).*\n)*)", PAGE, re.MULTILINE)
    named = {word for line in re.findall(r"^\.It Li (.*)$", text, re.MULTILINE) for word in line.split(" , ")}
    assert named == written


def test_the_line_for_mutt_is_one_that_mutt_takes(tmp_path: Path) -> None:
    """And what it calls is our program."""
    [line] = [text for text in EXAMPLES if text.startswith("set ")]
    rc = tmp_path / "muttrc"
    rc.write_text(line)
    command = [need("mutt"), "-n", "-F", str(rc), "-Q", "sendmail"]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TERM": "dumb"}
    said = subprocess.run(command, env=home, capture_output=True, text=True, check=True).stdout
    assert said.strip() == line.strip().removeprefix("set ")
