"""What stands in etc/ for others to call: hooks, units and the line for cron, run as they are shipped."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.need import missing, need
from tests.support.program import REPOSITORY
from tests.support.user import NOBODY, public_folder

ETC = REPOSITORY / "etc"
CONNECTED = ETC / "connected"
NETWORK_MANAGER = ETC / "NetworkManager" / "dispatcher.d" / "50-muawrap"
PPP = ETC / "ppp" / "ip-up.d" / "muawrap"
SCRIPTS = (CONNECTED, NETWORK_MANAGER, PPP)
CRON = ETC / "cron.d" / "muawrap"
MUAWRAP = "/usr/local/bin/muawrap"
HOOKED = "/etc/muawrap/connected"


class Lab:
    """A folder of programs that write down how they were called, for scripts that find them first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a folder"
        self.bin = self.folder / "bin"
        self.bin.mkdir(parents=True)
        for path in (folder, self.folder, self.bin):
            path.chmod(0o755)
        self.record = self.folder / "record"
        self.record.touch()
        self.record.chmod(0o666)

    def stub(self, name: str, does: str = "") -> Path:
        """A program that writes down its name and arguments, and then does this."""
        path = self.bin / name
        called = f"""printf '%s\\n' "$(printf '<%s>' {name} "$@")" >>"{self.record}"\n"""  # in one piece
        path.write_text(f"#!/bin/sh\n{called}{does}\n")
        path.chmod(0o755)
        return path

    def shipped(self, script: Path, **changes: str) -> Path:
        """A script of ours as it is shipped, but for paths, and for the values of the lines meant to be changed."""
        text = script.read_text()
        for path, program in ((MUAWRAP, "muawrap"), (HOOKED, "connected")):
            text = text.replace(path, str(self.bin / program))
        for key, value in changes.items():
            text, found = re.subn(rf'^{key}="[^"]*"', f'{key}="{value}"', text, flags=re.MULTILINE)
            assert found == 1, key
        if f"[ -x {self.bin / 'connected'} ]" in text:
            text = text.replace(str(self.bin / "connected"), f'"{self.bin / "connected"}"')
        copy = self.folder / f"script-{script.name}"
        copy.write_text(text)
        copy.chmod(0o755)
        return copy

    def run(self, script: Path, *arguments: str, **environment: str) -> str:
        """What it and all it has left in the background have called; standard input is closed to them."""
        read, write = os.pipe()
        try:
            done = subprocess.run(
                [script, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={"PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", **environment},
                pass_fds=[write],
                timeout=60,
                check=False,
            )
            os.close(write)
            write = -1
            assert os.read(read, 1) == b""  # nobody has the other end any more
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)
        assert (done.returncode, done.stderr) == (0, b"")
        return self.record.read_text()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path)
    for name in ("muawrap", "connected", "runuser", "getent", "nmcli", "sleep"):
        made.stub(name)
    return made


# -- scripts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_can_be_run_and_is_plain_sh(script: Path) -> None:
    """For any POSIX shell: dash reads all of it."""
    assert stat.S_IMODE(script.stat().st_mode) & 0o111 == 0o111
    assert script.read_text().startswith("#!/bin/sh\n")
    subprocess.run([need("dash"), "-n", script], check=True)


def test_run_parts_takes_the_hook_of_ppp() -> None:
    """Debian's, which is particular about names."""
    done = subprocess.run([need("run-parts"), "--test", PPP.parent], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(PPP)]


@pytest.mark.parametrize(
    ("arguments", "environment", "interface"),
    [
        (["wlan0", "up"], {}, "wlan0"),
        (["a b*", "up"], {}, "a b*"),
        (["tun0", "vpn-up"], {}, "tun0"),
        (["", "connectivity-change"], {"CONNECTIVITY_STATE": "FULL"}, ""),
        (["", "connectivity-change"], {"CONNECTIVITY_STATE": "PORTAL"}, None),
        (["", "connectivity-change"], {}, None),
        (["lo", "up"], {}, None),
        (["wlan0", "down"], {}, None),
        (["wlan0", "pre-up"], {}, None),
        (["none", "hostname"], {}, None),
        ([], {}, None),
    ],
)
def test_networkmanager_calls_when_the_line_is_up_and_not_else(
    lab: Lab, arguments: list[str], environment: dict[str, str], interface: str | None
) -> None:
    """INTERMITTENT 6.9: in the background, with the interface as it is called."""
    called = lab.run(lab.shipped(NETWORK_MANAGER), *arguments, **environment)
    assert called == ("" if interface is None else f"<connected><{interface}>\n")


@pytest.mark.parametrize(
    ("arguments", "environment", "interface"),
    [
        (["ppp0", "ttyS0", "115200", "192.0.2.2", "192.0.2.1", "isp"], {}, "ppp0"),
        ([], {"PPP_IFACE": "ppp1"}, "ppp1"),
        ([], {}, ""),
    ],
)
def test_ppp_calls_with_its_interface(
    lab: Lab, arguments: list[str], environment: dict[str, str], interface: str
) -> None:
    """INTERMITTENT 6.9: by pppd itself, and by Debian's run-parts, which tells it in the environment."""
    assert lab.run(lab.shipped(PPP), *arguments, **environment) == f"<connected><{interface}>\n"


@pytest.mark.parametrize("script", [NETWORK_MANAGER, PPP], ids=lambda script: script.name)
def test_a_hook_without_anything_to_do_is_silent(lab: Lab, script: Path) -> None:
    """Where nobody has copied `connected`, and where it is not executable."""
    (lab.bin / "connected").chmod(0o644)
    assert lab.run(lab.shipped(script), "eth0", "up") == ""


def test_as_shipped_only_outboxes_are_looked_at(lab: Lab) -> None:
    """Whom to ask for mail is for the owner of the machine to say; the retry rules do not matter now."""
    called = lab.run(lab.shipped(CONNECTED), "eth0").splitlines()
    assert sorted(called) == ["<getent><passwd>", "<muawrap><ship><--outbox><--now>"]


@pytest.mark.parametrize(("status", "times"), [(0, 1), (69, 1), (75, 2)])
def test_what_could_not_be_sent_yet_is_tried_twice(lab: Lab, status: int, times: int) -> None:
    """INTERMITTENT 6.4: an attempt just before the line came up has begun a min_interval."""
    lab.stub("muawrap", f"exit {status}")
    called = lab.run(lab.shipped(CONNECTED), "eth0").splitlines()
    assert called.count("<muawrap><ship><--outbox><--now>") == times
    assert called.count("<sleep><31>") == times - 1


def test_everybody_is_asked_whatever_the_one_before_says(lab: Lab) -> None:
    """INTERMITTENT 6.9: `etrn -b`, then `atrn`, then the outbox; none of them reads what is for another."""
    lab.stub("muawrap", "cat >/dev/null; exit 75")
    called = lab.run(lab.shipped(CONNECTED, etrn="isp *", atrn="other", outboxes=""), "eth0")
    assert called == "<muawrap><etrn><-b><isp>\n<muawrap><etrn><-b><*>\n<muawrap><atrn><other>\n"


COSTS = "<--max-bytes><200000>"


@pytest.mark.parametrize(
    ("interface", "told", "limit"),
    [
        ("a b", "echo yes", COSTS),
        ("a b", "echo 'yes (guessed)'", COSTS),
        ("a b", "echo no", ""),
        ("a b", "echo 'no (guessed)'", ""),
        ("a b", "echo unknown", COSTS),
        ("a b", "echo unknown device >&2; exit 10", COSTS),
        ("", r"printf 'no (guessed)\n\nyes\n\nunknown\n'", COSTS),
        ("", r"printf 'unknown\n\nno\n'", ""),
        ("", r"printf 'unknown\n\nunknown\n'", COSTS),
        ("", "exit 127", COSTS),
    ],
)
def test_a_line_that_costs_or_may_cost_has_a_limit(lab: Lab, interface: str, told: str, limit: str) -> None:
    """The interface is asked for by name; where there is none, as with connectivity-change, all in use are."""
    lab.stub("nmcli", told)
    called = lab.run(lab.shipped(CONNECTED, metered="200000"), interface).splitlines()
    assert sorted(called) == [
        "<getent><passwd>",
        f"<muawrap><ship><--outbox><--now>{limit}",
        "<nmcli><-g><GENERAL.METERED><device><show>" + (f"<{interface}>" if interface else ""),
    ]


def test_what_a_person_sends_has_the_same_limit(lab: Lab) -> None:
    """It goes over the same line."""
    lab.stub("nmcli", "echo yes")
    lab.stub("getent", f"cat <<'END'\n{ACCOUNTS}END")
    called = lab.run(lab.shipped(CONNECTED, metered="200000"), "eth0")
    assert called.count("<ship><--outbox><--now>") == called.count(f"<ship><--outbox><--now>{COSTS}\n") == 3


ACCOUNTS = """\
root:x:0:0:root:/root:/bin/bash
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
al:x:1000:1000:Al,,,:/home/al b:/bin/bash
eve:x:1001:1001:$(id >&2):/home/*;x:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
+::::::

broken:x:zero:0::/:
"""


def test_people_are_visited_as_themselves(lab: Lab) -> None:
    """Nothing in a home is touched as root, and system accounts have no outbox."""
    lab.stub("getent", f"cat <<'END'\n{ACCOUNTS}END")
    lab.stub("runuser", "cat >/dev/null; exit 1")
    called = lab.run(lab.shipped(CONNECTED), "eth0")
    found = re.findall(r"^<runuser><-u><(\w+)><--><env><-i><PATH=[^>]*><HOME=(.*?)>", called, re.MULTILINE)
    assert sorted(found) == [
        ("al", "/home/al b"),
        ("eve", "/home/*;x"),
    ]


def test_what_waits_for_a_person_is_sent_as_that_person_and_nothing_else_is_started() -> None:
    """With the real runuser: identity, environment and folder; and no program where nothing waits."""
    if os.geteuid() != 0:
        missing("root, to act as another user")
    need("runuser")
    with public_folder() as folder:
        lab = Lab(folder)
        lab.stub("muawrap", f'[ "$(id -u)" = 0 ] || env >>"{lab.record}"')
        new = folder / "home of one" / ".local" / "state" / "muawrap" / "outbox" / "new"
        new.mkdir(parents=True)
        (folder / "nothing waits").mkdir()
        closed = folder / "closed"
        shutil.copytree(folder / "home of one", closed)
        (closed / ".local" / "state" / "muawrap" / "outbox" / "new" / "message").touch()
        closed.chmod(0o700)
        for home in ("home of one", "nothing waits"):
            shutil.chown(folder / home, NOBODY)
        account = "nobody:x:1000:65534::{}:/usr/sbin/nologin"
        homes = [folder / "nothing waits", folder / "home of one", closed, folder / "none"]
        lab.stub("getent", "cat <<'END'\n" + "".join(account.format(home) + "\n" for home in homes) + "END")
        script = lab.shipped(CONNECTED)
        assert lab.run(script, "eth0").count("<muawrap>") == 1  # root's
        (new / "message").touch()
        lab.record.write_text("")
        called = lab.run(script, "eth0")
        assert called.count("<muawrap><ship><--outbox><--now>\n") == 2
        assert f"\nHOME={folder}/home of one\n" in called
        assert "\nUSER=nobody\n" in called
        assert "\nXDG_RUNTIME_DIR=/run/user/1000\n" in called
        assert f"\nPWD={folder}/home of one\n" in called


def test_the_session_of_a_person_is_told_so_that_the_keyring_can_be_reached(lab: Lab) -> None:
    """A socket at the place where systemd puts it."""
    run = lab.folder / "run"
    (run / "1000").mkdir(parents=True)
    lab.stub("getent", f"cat <<'END'\n{ACCOUNTS}END")
    script = lab.shipped(CONNECTED)
    script.write_text(script.read_text().replace("/run/user/", "./run/"))
    at = os.getcwd()
    os.chdir(lab.folder)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as bus:
            bus.bind("run/1000/bus")
            called = lab.run(script, "eth0")
    finally:
        os.chdir(at)
    assert "<XDG_RUNTIME_DIR=./run/1000><DBUS_SESSION_BUS_ADDRESS=unix:path=./run/1000/bus><sh>" in called
    assert "<XDG_RUNTIME_DIR=./run/1001><sh>" in called


# -- cron ------------------------------------------------------------------------------------------------------------


def cron_lines() -> list[list[str]]:
    """Five fields of time, the user, and the command."""
    return [line.split(None, 6) for line in CRON.read_text().splitlines() if line and not line.startswith("#")]


def test_a_line_for_cron_has_a_time_a_user_and_a_command() -> None:
    """crontab(5): a name without a dot, a last line that ends, no `%`, which would be a line end."""
    assert re.fullmatch(r"[A-Za-z0-9_-]+", CRON.name)
    assert CRON.read_text().endswith("\n")
    for *when, user, command in cron_lines():
        assert all(re.fullmatch(r"\*(/\d+)?|\d+", field) for field in when)
        assert user == "Debian-exim"
        assert "%" not in command


def test_what_cron_sends_of_root_is_silent_and_off_as_shipped(lab: Lab) -> None:
    """A word would be a mail that waits as well; the status is for nobody."""
    [line] = [line[1:].split(None, 6) for line in CRON.read_text().splitlines() if line.startswith("#*")]
    assert line[5] == "root"
    lab.stub("muawrap", "echo told; echo trouble >&2; exit 75")
    command = line[6].replace(MUAWRAP, f'"{lab.bin / "muawrap"}"')
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert lab.record.read_text() == "<muawrap><ship><--outbox>\n"


@pytest.mark.parametrize("number", range(2))
def test_a_command_of_cron_minds_no_program_that_has_gone(lab: Lab, number: int) -> None:
    """As /bin/sh runs it: only trouble is told, the status is that of the program, and silence where there is none."""
    command = cron_lines()[number][6].replace(MUAWRAP, f'"{lab.bin / "muawrap"}"')
    lab.stub("muawrap", "echo told; echo trouble >&2; exit 75")
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (75, b"", b"trouble\n")
    assert lab.record.read_text() == ("<muawrap><ship><--all>\n", "<muawrap><expire><--all>\n")[number]
    (lab.bin / "muawrap").unlink()
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# -- systemd ---------------------------------------------------------------------------------------------------------


def analyze(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """As the person who installs the units might."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    command = [need("systemd-analyze"), "--man=no", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The folders `system` and `user`, with a program and a user that are there, and an instance for a host."""
    folder = tmp_path / "units"
    shutil.copytree(ETC / "systemd", folder)
    for name in ("muawrap-ship@", "muawrap-ship", "muawrap-expire"):
        (folder / "system" / f"{name}.service.d").mkdir()
        shutil.copy(folder / "strict.conf", folder / "system" / f"{name}.service.d")
    program = tmp_path / "muawrap"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in folder.rglob("*.*"):
        if unit.is_file():
            unit.write_text(unit.read_text().replace(MUAWRAP, str(program)).replace("Debian-exim", "mail"))
    for kind in ("path", "service"):
        shutil.copy(folder / "system" / f"muawrap-ship@.{kind}", folder / "system" / f"muawrap-ship@a-b.c_1.{kind}")
    return folder


@pytest.mark.parametrize("kind", ["system", "user"])
def test_systemd_has_nothing_to_say_of_the_units(units: Path, kind: str) -> None:
    """Nor of the drop-in, which it reads with the template."""
    found = [path for path in (units / kind).iterdir() if path.is_file() and "@." not in path.name]
    assert len(found) == {"system": 6, "user": 3}[kind]
    done = analyze(units, f"--{kind}", "verify", *found)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_find_a_mistake_in_the_drop_in(units: Path) -> None:
    """So that the silence above says something."""
    with (units / "system" / "muawrap-ship@.service.d" / "strict.conf").open("a") as file:
        file.write("NoSuchSetting=1\n")
    done = analyze(units, "--system", "verify", units / "system" / "muawrap-ship@a-b.c_1.service")
    assert "NoSuchSetting" in done.stderr


def test_the_drop_in_leaves_little_to_do_harm_with(units: Path) -> None:
    """systemd's own figure, of 10."""
    unit = units / "system" / "muawrap-ship@a-b.c_1.service"
    done = analyze(units, "security", "--offline=yes", "--threshold=25", unit)
    assert done.returncode == 0, done.stdout


def settings(unit: Path) -> list[tuple[str, str]]:
    return re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", sorted((ETC / "systemd").rglob("*.service")), ids=lambda unit: unit.name)
def test_what_may_bounce_is_not_kept_from_a_setuid_sendmail(unit: Path) -> None:
    """systemd.exec(5): some settings, with User=, mean NoNewPrivileges; what goes on in the background lives on."""
    implied = re.compile(r"(NoNew|CapabilityBounding|Restrict|SystemCall|Lock|MemoryDeny|Private)\w+")
    found = dict(settings(unit))
    assert found["KillMode"] == "process"
    if unit.parent.name == "system":
        assert not [key for key in found if implied.fullmatch(key)]


@pytest.mark.parametrize("unit", sorted((ETC / "systemd").rglob("*.path")), ids=lambda unit: unit.name)
def test_a_path_unit_does_not_start_over_while_mail_waits(unit: Path) -> None:
    """systemd.path(5): PathChanged looks at changes only; what it starts may start often."""
    watched = [key for key, _ in settings(unit) if key.startswith(("Path", "Directory"))]
    assert watched == ["PathChanged"]
    service = unit.with_suffix(".service")
    assert ("StartLimitIntervalSec", "0") in settings(service)
