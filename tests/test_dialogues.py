"""Every file in dialogues/ is a promise: its first line says which, the rest proves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import dialogue
from tests.support.program import Program

FILES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dialogue(file: Path, program: Program) -> None:
    dialogue.play(dialogue.read(file), program)
