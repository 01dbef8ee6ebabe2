"""Every promise of docs/reliability.md has a test that names it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ROW = re.compile(r"^\| ([A-Z])([0-9]+)( [A-Za-z-]+)? \|", re.MULTILINE)


@cache
def parts() -> list[tuple[str, str, str]]:
    """The names of the rows, in their order: letter, number, and the part of a row that is promised apart."""
    return ROW.findall((REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8"))


def rows() -> list[str]:
    """The names of the rows."""
    return ["".join(name) for name in parts()]


def marks(source: str) -> Iterator[str]:
    """The rows that the tests of a source name; a test that is expected to fail proves none."""
    tree = ast.parse(source)
    failing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and "mark.xfail" in "".join(map(ast.unparse, node.decorator_list))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row" and id(node) not in failing:
            yield from (ast.literal_eval(name) for name in node.args)


@cache
def named() -> dict[str, set[str]]:
    """Each row that is named, and the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for name in marks(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(str(path.relative_to(REPOSITORY)))
    return found


def test_every_row_has_a_test_that_names_it() -> None:
    """RELIABILITY: a promise without a test is a wish."""
    missing = [row for row in rows() if row not in named()]
    assert not missing, f"no test names {', '.join(missing)}"


def test_no_test_names_a_row_that_does_not_exist() -> None:
    """RELIABILITY: a slip in a name would leave its row unproved."""
    unknown = {name: files for name, files in named().items() if name not in rows()}
    assert not unknown


def test_the_page_leaves_no_row_out() -> None:
    """RELIABILITY: rows are counted, so that none goes together with its tests."""
    numbers = [(letter, int(number)) for letter, number, part in parts() if not part]
    counted = {letter: [number for _, number in group] for letter, group in groupby(numbers, lambda pair: pair[0])}
    expected = {"I": 10, "O": 6, "F": 6, "T": 9, "S": 13, "L": 9, "H": 18, "G": 10}
    assert counted == {letter: list(range(1, last + 1)) for letter, last in expected.items()}


def test_marks_are_found_wherever_they_stand_and_not_where_failure_is_expected() -> None:
    """The reader of marks itself."""
    source = """
pytestmark = pytest.mark.row("A1")
CASES = [pytest.param(1, marks=pytest.mark.row("A2", "A3"))]
@pytest.mark.row("A4")
def test_proved(): pass
@pytest.mark.xfail(strict=True, reason="known")
@pytest.mark.row("A5")
def test_not_proved(): pass
"""
    assert sorted(marks(source)) == ["A1", "A2", "A3", "A4"]
