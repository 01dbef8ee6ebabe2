"""Peers that are not installed, fetched as Debian packages into a cache folder; nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muawrap-bench"
PLACES = ("usr/bin", "usr/sbin", "bin", "sbin")
PATIENCE = 300.0  # seconds for one apt-get


def find(package: str, names: tuple[str, ...], fetch: bool = True) -> tuple[str, dict[str, str]] | None:
    """The program under one of these names and the environment it needs: installed, cached or fetched now; or None."""
    for name in names:
        installed = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if installed:
            return installed, {}
    root = CACHE / package
    if fetch and not root.is_dir():
        unpack(package, root)
    for place in PLACES:
        for name in names:
            if (root / place / name).is_file():
                return str(root / place / name), environment(root)
    return None


def unpack(package: str, root: Path) -> None:
    """Download a package with what it lacks on this machine, and unpack all of it below `root`, where apt is there."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return
    downloads = root.with_suffix(".part")
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir(parents=True)
    try:
        plan = run("apt-get", "install", "--simulate", "--no-install-recommends", package, cwd=downloads)
        wanted = dict.fromkeys([package, *re.findall(r"^Inst (\S+)", plan, re.MULTILINE)])
        run("apt-get", "download", *wanted, cwd=downloads)
        for archive in sorted(downloads.glob("*.deb")):
            run("dpkg-deb", "-x", str(archive), str(downloads / "root"), cwd=downloads)
        (downloads / "root").rename(root)
    except (OSError, subprocess.SubprocessError):
        pass  # no network, or no such package: the peer is left out, and the table says so
    finally:
        shutil.rmtree(downloads, ignore_errors=True)


def run(*command: str, cwd: Path) -> str:
    environ = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PATIENCE
    )
    return done.stdout.decode("utf-8", "replace")


def environment(root: Path) -> dict[str, str]:
    """Where a program below `root` finds its libraries."""
    libraries = [str(folder) for folder in (root / "usr" / "lib").glob("*-linux-*")]
    perl = [str(root / "usr" / "share" / "perl5"), *map(str, (root / "usr" / "lib").glob("*-linux-*/perl5/*"))]
    return {"LD_LIBRARY_PATH": ":".join(libraries), "PERL5LIB": ":".join(perl)}
