"""bin/sendmail: found and isolated wherever it stands and by whatever name it is called."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import REPOSITORY, Program
from tests.support.server import Server

NAMES = ("sendmail", "send-mail", "mailq", "newaliases", "rmail", "rsmtp", "runq")
SPY = """\
import json, os, sys
def main():
    print(json.dumps({"isolated": sys.flags.isolated, "no_site": sys.flags.no_site, "path": sys.path,
                      "argv": sys.argv, "executable": sys.executable, "file": __file__}))
"""
MINIMAL = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def spied(tmp_path: Path) -> Path:
    """A checkout whose package only tells how it was started."""
    shutil.copytree(REPOSITORY / "bin", tmp_path / "checkout" / "bin")
    package = tmp_path / "checkout" / "src" / "muawrap"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "sendmail.py").write_text(SPY)
    return tmp_path / "checkout"


def told(*command: str | Path, env: dict[str, str] = MINIMAL, cwd: Path | None = None) -> dict[str, object]:
    done = subprocess.run([*command], capture_output=True, env=env, cwd=cwd, check=True)
    assert done.stderr == b""
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.row("O5")
def test_a_checkout_starts_isolated_and_without_site(spied: Path) -> None:
    """DESIGN 3: sys.flags of the program that runs."""
    answer = told(spied / "bin" / "sendmail", "-t")
    assert (answer["isolated"], answer["no_site"]) == (1, 1)
    assert answer["argv"] == [str(spied / "bin" / "sendmail"), "-t"]


@pytest.mark.row("O5")
def test_the_environment_changes_nothing(spied: Path, tmp_path: Path) -> None:
    """RELIABILITY O5: neither PYTHON* variables nor a file in the current directory get a say."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for module in ("os", "re", "json", "smtplib", "muawrap", "sitecustomize", "usercustomize"):
        (trap / f"{module}.py").write_text("import sys; sys.stderr.write('trapped'); sys.exit(9)\n")
    hostile = {
        **MINIMAL,
        "PYTHONPATH": str(trap),
        "PYTHONSTARTUP": str(trap / "re.py"),
        "PYTHONHOME": str(trap),
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONUSERBASE": str(trap),
        "HOME": str(trap),
        "CDPATH": str(trap),
        "IFS": "/",
        "ENV": str(trap / "re.py"),
    }
    assert told(spied / "bin" / "sendmail", env=hostile, cwd=trap) == told(spied / "bin" / "sendmail")


@pytest.mark.parametrize("name", NAMES)
def test_a_link_at_any_path_and_under_any_name_is_the_program(spied: Path, tmp_path: Path, name: str) -> None:
    """Links to links, relative links, blanks in the path: the name it was called by arrives."""
    far = tmp_path / "usr lib" / "x"
    far.mkdir(parents=True)
    (far / "first").symlink_to(os.path.relpath(spied / "bin" / "sendmail", far))
    (far / name).symlink_to("first")
    answer = told(far / name, "a b", "")
    assert answer["argv"] == [str(far / name), "a b", ""]
    assert answer["file"] == str(spied / "src" / "muawrap" / "sendmail.py")


def test_a_relative_call_and_one_by_path_find_the_package(spied: Path) -> None:
    """As a shell in the checkout does it."""
    assert told("bin/sendmail", cwd=spied)["file"] == told(spied / "bin" / "sendmail")["file"]
    env = {"PATH": f"{spied / 'bin'}:/usr/bin:/bin"}
    assert told("sh", "-c", "sendmail", env=env)["file"] == told(spied / "bin" / "sendmail")["file"]


def test_the_python_beside_the_program_is_the_one_that_runs_it(spied: Path) -> None:
    """An installation brings its own interpreter."""
    beside = spied / "bin" / "python3"
    beside.symlink_to(os.path.realpath(sys.executable))
    assert told(spied / "bin" / "sendmail")["executable"] == str(beside)


def test_a_python_that_is_too_old_can_read_enough_to_say_so() -> None:
    """One line instead of a syntax error."""
    ast.parse((REPOSITORY / "bin" / "sendmail").read_text(), feature_version=(3, 4))


def test_a_machine_without_python_is_told_so_in_one_line(spied: Path, tmp_path: Path) -> None:
    """The same form as every other failure."""
    script = (spied / "bin" / "sendmail").read_text().replace("/usr/bin/", "/nowhere/")
    (spied / "bin" / "sendmail").write_text(script)
    done = subprocess.run([spied / "bin" / "sendmail"], env={"PATH": str(tmp_path)}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"sendmail: not sent, refused: there is no python3")


def test_an_installation_finds_the_python_its_library_belongs_to(spied: Path, tmp_path: Path) -> None:
    """As `pip install --prefix` leaves it: no Python stands beside the program, and the newest may be another one."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = spied / "lib" / version / "site-packages"
    library.mkdir(parents=True)
    (spied / "src" / "muawrap").rename(library / "muawrap")
    path = tmp_path / "path"
    path.mkdir()
    (path / version).symlink_to(os.path.realpath(sys.executable))
    answer = told(spied / "bin" / "sendmail", env={"PATH": f"{path}:/usr/bin:/bin"})
    assert answer["executable"] == str(path / version)
    assert answer["file"] == str(library / "muawrap" / "sendmail.py")


def test_a_package_that_cannot_be_loaded_is_one_line(spied: Path) -> None:
    """The same form as every other failure."""
    (spied / "src" / "muawrap" / "sendmail.py").write_text("import no_such_module\n")
    done = subprocess.run([spied / "bin" / "sendmail"], env=MINIMAL, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"no_such_module" in done.stderr


def test_the_name_decides_what_it_does(program: Program) -> None:
    """RULES E10."""
    program.configure('smart_hosts = ["smtp://127.0.0.1:1"]')
    queue = program.run(name="mailq", config=False)
    assert (queue.status, queue.out, queue.err) == (0, b"Mail queue is empty\n", b"")
    for name in ("newaliases", "runq"):
        done = program.run(name=name, config=False)
        assert (done.status, done.out, done.err) == (0, b"", b"")
    program.configure('smart_hosts = ["smtp://127.0.0.1:1"]')
    batch = program.run(name="rsmtp", stdin=b"HELO me\nQUIT\n")
    assert (batch.status, batch.out, batch.err) == (0, b"", b"")


# -- installed -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean virtual environment with the wheel of this checkout installed in it; its folder."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    quiet = {"cwd": folder, "check": True, "capture_output": True}
    subprocess.run([*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", folder / "dist", source], **quiet)  # type: ignore[call-overload]
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], **quiet)  # type: ignore[call-overload]
    (wheel,) = (folder / "dist").glob("*.whl")
    # What muawrap depends on is taken from the environment of the tests, so that no index has to be reached.
    subprocess.run([*pip, "--python", folder / "venv/bin/python", "install", "--no-deps", wheel], **quiet)  # type: ignore[call-overload]
    (library,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (library / "tests.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")) + "\n")
    return folder / "venv"


def test_the_wheel_brings_both_programs_the_manual_and_the_samples(installed: Path) -> None:
    """`pip install .` gives `sendmail` and `muawrap`."""
    for path in (
        "bin/sendmail",
        "bin/muawrap",
        "share/man/man8/sendmail.8",
        "share/man/man5/muawrap.toml.5",
        "share/man/man1/muawrap.1",
        "share/man/man1/mailq.1",
        "share/man/man1/newaliases.1",
        "share/man/man7/muawrap-holding.7",
        "share/doc/muawrap/examples/muawrap.toml",
        "share/doc/muawrap/examples/aliases",
    ):
        assert (installed / path).is_file(), path
    for shipped in (REPOSITORY / "etc").rglob("*"):
        if shipped.is_dir():
            continue
        found = installed / "share/doc/muawrap/examples" / shipped.relative_to(REPOSITORY / "etc")
        assert found.read_bytes() == shipped.read_bytes()
        assert os.access(found, os.X_OK) == os.access(shipped, os.X_OK)
    version = subprocess.run([installed / "bin/muawrap", "version"], capture_output=True, check=True).stdout
    assert version == subprocess.run([installed / "bin/sendmail", "--version"], capture_output=True, check=True).stdout


def test_the_installed_program_is_isolated_and_sends(installed: Path, tmp_path: Path) -> None:
    """DESIGN 3: pip rewrites first lines, and ours holds all the same."""
    with Server() as server:
        config = tmp_path / "muawrap.toml"
        config.write_text(f'{Program.smart_hosts(server)}from = "me@client.example"\nlog = "none"\n')
        link = tmp_path / "sendmail"
        link.symlink_to(installed / "bin" / "sendmail")
        read, write = os.pipe()
        with subprocess.Popen([link, "-C", config, "you@example.net"], stdin=read, env=MINIMAL) as process:
            os.write(write, b"Subject: hello\n\n")
            # It waits for the rest of the message; only once it reads is it sure to be Python.
            with open(f"/proc/{process.pid}/cmdline", "rb") as words:
                while b"-I\0-S\0" not in (line := words.read()):
                    assert process.poll() is None, line
                    words.seek(0)
            assert os.path.realpath(f"/proc/{process.pid}/exe") == os.path.realpath(sys.executable)
            os.close(read)
            os.close(write)
        assert process.returncode == 0
    assert [message.recipients for session in server.sessions for message in session.messages] == [[b"you@example.net"]]
