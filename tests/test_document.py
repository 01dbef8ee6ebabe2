"""Where in a configuration a key stands."""

from __future__ import annotations

import pytest

from muawrap import document
from muawrap.document import Where


def lines_of(text: str) -> document.Document:
    return document.parse("muawrap.toml", text.encode())


@pytest.mark.parametrize(
    ("text", "where", "line"),
    [
        ("a = 1\nb = [\n  1,\n  2,\n]\n", ("b", 1), 4),
        ("b = [1,\n  2,\n]\n", ("b", 0), 1),
        ("b = [\n1,\n]\n", ("b", 7), 1),
        ("b = [\n  { c = [1] },\n  { c = 2 },\n]\n", ("b", 1, "c"), 3),
    ],
)
def test_an_item_of_a_list_is_found_on_its_line(text: str, where: Where, line: int) -> None:
    """D4: an error names the line of what is wrong, not of the list it stands in."""
    assert lines_of(text).line(where) == line


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many characters each look at a text took."""
    looks: list[int] = []
    values = document._values

    def looked(text: str) -> dict[str, object]:
        looks.append(len(text))
        return values(text)

    monkeypatch.setattr(document, "_values", looked)
    return looks


@pytest.mark.row("G1")
def test_an_item_of_a_long_list_is_found_in_a_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: not by one look for each item before it."""
    made = lines_of("b = [\n" + '"x",\n' * 2000 + "]\n")
    looks = counted(monkeypatch)
    assert made.line(("b", 1999)) == 2001
    assert len(looks) < 20


@pytest.mark.row("G1")
def test_a_line_is_not_looked_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: where every line may be the end of a list, the error names its key only."""
    made = lines_of("b = [\n" + '"]",\n' * 20_000 + "]\nc = 1\n")
    looks = counted(monkeypatch)
    assert made.line(("c",)) == 0
    assert sum(looks) <= document.LOOKED
