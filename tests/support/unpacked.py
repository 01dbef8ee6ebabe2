"""A Debian package fetched and unpacked in a cache folder, not installed: for what conflicts with what is there.

    postfix = unpacked("postfix")
    subprocess.run([postfix.folder / "usr/sbin/postconf", "-d"], env={"LD_LIBRARY_PATH": postfix.library_path})

The libraries it depends on are unpacked beside it where the machine has not got them. It is fetched once, into
~/.cache/muawrap-tests; the machine's packages and package lists stay as they are.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 300.0  # seconds; how long one run of apt-get may take


class Unavailable(Exception):
    """The package cannot be had here; the text says why."""


@dataclass(frozen=True)
class Unpacked:
    folder: Path  # with usr and etc in it

    @property
    def library_path(self) -> str:
        """LD_LIBRARY_PATH for its programs."""
        folders = {library.parent for library in self.folder.rglob("lib*.so*")}
        return ":".join(sorted(map(str, folders)))


def unpacked(package: str) -> Unpacked:
    """The package, fetched where it is not in the cache. Raises Unavailable."""
    found = attempt(package)
    if isinstance(found, str):
        raise Unavailable(found)
    return found


@functools.cache  # what cannot be had is not tried again for each test
def attempt(package: str) -> Unpacked | str:
    """The package, or why it is not here."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muawrap-tests"
    folder = cache / f"{package}-{release()}"
    if folder.is_dir():
        return Unpacked(folder)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return f"apt-get and dpkg-deb, to fetch the package {package}"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        try:
            fetch(package, Path(name))
            (Path(name) / "tree").rename(folder)  # at once: no other run sees half of it
        except subprocess.CalledProcessError as error:
            return f"the package {package}, which could not be fetched: {error.stderr.decode(errors='replace').strip()}"
        except subprocess.TimeoutExpired:
            return f"the package {package}, which could not be fetched in {PATIENCE:.0f} s"
        except OSError:
            if not folder.is_dir():  # otherwise another run was first
                raise
    return Unpacked(folder)


def release() -> str:
    """The system it was fetched for, like debian-12."""
    lines = Path("/etc/os-release").read_text().splitlines()
    values = {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
    return f"{values.get('ID', 'unknown')}-{values.get('VERSION_ID', 'unstable')}"


def fetch(package: str, folder: Path) -> None:
    """Into folder/tree: the package, and each library it needs and the machine has not got."""
    wanted, seen = [package], {package}
    while wanted:
        download(wanted, folder)
        wanted = []
        for archive in folder.glob("*.deb"):
            run("dpkg-deb", "-x", archive, folder / "tree")
            for need in run("dpkg-deb", "-f", archive, "Depends").split(","):
                names = [choice.split()[0].partition(":")[0] for choice in need.split("|") if choice.strip()]
                if names and names[0].startswith("lib") and names[0] not in seen and not any(map(installed, names)):
                    seen.add(names[0])
                    wanted.append(names[0])
            archive.unlink()
    (folder / "tree").chmod(0o755)


def download(packages: Sequence[str], folder: Path) -> None:
    """By the machine's package lists or, where those are missing or too old, by lists of our own."""
    try:
        run("apt-get", "-q", "download", *packages, cwd=folder)
    except subprocess.CalledProcessError:
        (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "apt").mkdir(exist_ok=True)
        own = ["-q", "-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/apt"]
        own += ["-o", "APT::Sandbox::User=root"]  # the folder is closed to apt's own user
        run("apt-get", *own, "update")
        run("apt-get", *own, "download", *packages, cwd=folder)


def installed(package: str) -> bool:
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", package]
    done = subprocess.run(command, capture_output=True, check=False)
    return b"installed" in done.stdout.split()


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PATIENCE)
    return done.stdout.decode()
