"""Acting as another user for the length of a block: what root may always read, others may not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from tests.support.need import missing

NOBODY = 65534  # a login user by its number
WWW_DATA = 33  # a system account


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Real and effective uid and gid are `uid` in here; the saved ones bring root back."""
    if os.getuid() != 0:
        missing("root, to act as another user")
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(uid, uid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="muawrap-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        rmtree(folder)
