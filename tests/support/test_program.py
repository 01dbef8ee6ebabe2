"""The way the program is run, seen by a stand-in that shows what it was given."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support import program as module
from tests.support.canary import FORMS
from tests.support.need import need, need_module
from tests.support.program import Program, Result

STAND_IN = '#!/bin/sh\necho "$0" "$@"\ncat\nenv >&2\nreadlink "${0%/*}/python3" "${0%/*}/../src"\nexit 7\n'


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    repository = tmp_path / "repository"
    (repository / "bin").mkdir(parents=True)
    (repository / "bin" / "sendmail").write_text(STAND_IN)
    (repository / "bin" / "sendmail").chmod(0o755)
    monkeypatch.setattr(module, "REPOSITORY", repository)
    (tmp_path / "tree").mkdir()
    return Program(tmp_path / "tree")


def test_a_run_has_its_own_tree_a_minimal_environment_and_what_it_was_given(stand_in: Program) -> None:
    result = stand_in.run("-t", "a b", stdin=b"text\n", name="mailq")
    folder = str(stand_in.folder)
    assert result.status == 7
    called, text, python, source = result.out.decode().splitlines()
    assert called == f"{folder}/bin/mailq -C {folder}/etc/muawrap.toml -t a b"
    assert (text, source) == ("text", f"{module.REPOSITORY}/src")
    assert os.path.isabs(python)
    assert {b"PATH=/usr/bin:/bin", f"HOME={folder}".encode()} <= set(result.err.splitlines())
    assert b"PYTEST" not in result.err
    assert stand_in.log == ""


def test_a_run_without_configuration_and_with_another_environment(stand_in: Program) -> None:
    result = stand_in.run("x", stdin=None, config=False, env={"HOME": "/elsewhere"}, cwd=stand_in.folder)
    assert result.out.startswith(b"%s/bin/sendmail x\n" % os.fsencode(stand_in.folder))
    assert b"HOME=/elsewhere" in result.err.splitlines()


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ('from = "a"\n', 'from = "a"\nLOG\n'),
        ('from = "a"', 'from = "a"\nLOG\n'),
        ("", "LOG\n"),
        ('x = [\n  "y",\n]\n\n[auth]\nuser = "a"\n', 'x = [\n  "y",\n]\n\nLOG\n[auth]\nuser = "a"\n'),
        ("[[route]] # first\n[tls]\n", "LOG\n[[route]] # first\n[tls]\n"),
        ('log = "none"\n[tls]\n', 'log = "none"\n[tls]\n'),
    ],
)
def test_the_log_stands_among_the_top_level_keys(stand_in: Program, given: str, written: str) -> None:
    stand_in.configure(given)
    assert stand_in.config.read_text() == written.replace("LOG", f'log = "{stand_in.log_file}"')
    assert stat.S_IMODE(stand_in.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(stand_in.config.parent.stat().st_mode) == 0o700


@pytest.mark.row("G8")
@pytest.mark.parametrize("where", ["stdout", "stderr", "log"])
@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_run_that_tells_the_password_fails_its_test(stand_in: Program, where: str, form: bytes) -> None:
    """RELIABILITY G8: whatever the test looks at."""
    log = f">{stand_in.log_file}"
    to = {"stdout": "", "stderr": ">&2", "log": log}[where]
    script = stand_in.bin / "sendmail"
    script.write_text(f"#!/bin/sh\necho before {form.decode()} after {to}\n")
    script.chmod(0o755)
    with pytest.raises(AssertionError, match="the password is told"):
        stand_in.run()


def test_smart_hosts_are_servers_or_urls() -> None:
    class Host:
        port = 26

    line = Program.smart_hosts(Host(), "mx://example.org")
    assert line == 'smart_hosts = ["smtp://127.0.0.1:26", "mx://example.org"]\n'


@pytest.mark.parametrize(
    "error", [b"", b"a\n", b"sendmail: a", b"sendmail: a\n\n", b"sendmail: \t\n", b"sendmail: \xff\n"]
)
def test_only_one_printable_line_is_a_sentence(error: bytes) -> None:
    assert Result(1, b"", b"sendmail: a\n").sentence == "sendmail: a"
    with pytest.raises(AssertionError):
        assert Result(1, b"", error).sentence


def test_what_is_missing_skips_here_and_fails_in_continuous_integration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert need("sh").endswith("/sh")
    need_module("json")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs no-such-program"):
        need("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs the Python module no_such_module"):
        need_module("no_such_module")
