"""Verdicts follow from the figures, and a missing peer is no verdict."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path

import pytest

from tests.bench import page, tables, targets
from tests.bench.growth import Curve, Point, powers, write_aliases
from tests.bench.lab import Case, Sample
from tests.bench.rounds import Results, Series

PLAIN = Case("plain", rtt=targets.RTT)


def results(**walls: list[float]) -> Results:
    made = Results()
    for name, values in walls.items():
        samples = [Sample(wall=wall, cpu=wall, peak=1 << 20, flights=3, waited=2) for wall in values]
        made.series[PLAIN, name] = Series(samples)
    return made


def test_a_ratio_is_taken_within_each_round() -> None:
    """A machine that slows down between rounds changes nothing."""
    assert results(muawrap=[1, 10, 2], Exim=[2, 20, 4]).ratio(PLAIN, "muawrap", "Exim") == 0.5


def test_runs_in_trouble_do_not_count() -> None:
    """Neither in medians nor in ratios; and the table says why."""
    found = results(muawrap=[1, 1], Exim=[2, 2])
    found.series[PLAIN, "Exim"].samples[0] = Sample(wall=99, trouble="timed out")
    assert found.ratio(PLAIN, "muawrap", "Exim") == 0.5
    assert found.of(PLAIN, "Exim").median("wall") == 2
    assert found.of(PLAIN, "Exim").trouble == "1 of 2: timed out"
    assert "timed out" in tables.troubles(found)[0]


@pytest.mark.parametrize(
    ("walls", "verdict"),
    [
        ({"muawrap": [0.9], "Exim": [1.0]}, "met"),
        ({"muawrap": [0.91], "Exim": [1.0]}, "missed"),
        ({"muawrap": [0.5]}, "no peer"),
        ({"Exim": [1.0]}, "not measured"),
        ({}, "not measured"),
    ],
)
def test_a_verdict_on_a_ratio(walls: dict[str, list[float]], verdict: str) -> None:
    """At the limit a target is met."""
    assert targets.against(results(**walls), "P2", "wall", PLAIN, "Exim", 0.90).verdict == verdict


def test_a_peer_in_trouble_says_so() -> None:
    """A hung peer is no peer to be compared with, and the table says what it did."""
    found = results(muawrap=[1.0], Exim=[1.0])
    found.series[PLAIN, "Exim"].samples[0] = Sample(trouble="timed out after 20 s")
    assert targets.against(found, "P2", "", PLAIN, "Exim", 1).verdict == "no peer (1 of 1: timed out after 20 s)"


def test_only_flights_that_are_waited_for_are_judged() -> None:
    """The others are shown."""
    [check, *_] = targets.checks(results(muawrap=[1.0]), [])
    assert (check.number, check.ours, check.verdict) == ("P1", "2+1", "met")


def test_every_target_has_its_rows_even_without_a_measurement() -> None:
    """They say so."""
    checks = targets.checks(Results(), [Curve("x", "octets", ())])
    assert {check.number for check in checks} == {f"P{number}" for number in range(1, 8)}
    assert {check.verdict for check in checks if check.number != "P1"} <= {"not measured", "-"}


@pytest.mark.parametrize(("ours", "verdict"), [(0.05, "met"), (0.051, "missed")])
def test_a_batch_is_judged_against_the_best_peer_in_seconds_a_message(ours: float, verdict: str) -> None:
    """PERFORMANCE P6: eight times fewer than whoever needs least, however many messages were measured."""
    found = Results()
    for name, wall in (("muawrap", ours), ("Exim", 0.5), ("msmtp", 0.4)):
        found.series[Case("tls", rtt=targets.RTT, messages=100), name] = Series([Sample(wall=wall)])
    [check] = [check for check in targets.checks(found, []) if check.number == "P6"]
    assert (check.target, check.peer, check.verdict) == ("<= 1/8 x msmtp", "msmtp 400 ms", verdict)
    assert check.what.endswith("-bS with 100")


@pytest.mark.parametrize(("power", "verdict"), [(1, "met"), (2, "missed")])
def test_growth_is_judged_by_its_last_step(power: int, verdict: str) -> None:
    """A constant start-up hides neither a linear nor a quadratic cost."""
    points = tuple(Point(amount, 0.05 + 1e-6 * amount**power, 1 << 20) for amount in (1, 1000, 10_000, 100_000))
    curve = Curve("Size", "recipients", points)
    assert curve.exponent == pytest.approx(power, abs=0.05)
    assert [check.verdict for check in targets.checks(Results(), [curve]) if check.number == "P7"] == [verdict]


def test_amounts_rise_by_powers_of_ten() -> None:
    """The last one is what was asked for."""
    assert powers(1000, 1_000_000) == [1000, 10_000, 100_000, 1_000_000]
    assert powers(10, 320) == [10, 100, 320]
    assert powers(10, 123) == [10, 123]


def test_an_alias_file_has_the_edges_it_is_asked_for(tmp_path: Path) -> None:
    """Lists of all the addresses, as many as it takes."""
    text = write_aliases(tmp_path / "aliases", 30_000).read_text()
    assert text.startswith("everyone: list0, list1, list2\n")
    assert text.count("@") == 30_000


def test_page_and_charts_are_made_from_whatever_was_measured() -> None:
    """They are whole with one peer missing and one curve empty."""
    found = results(muawrap=[0.2], msmtp=[0.3])
    curves = [Curve("Size", "octets", tuple(Point(10**n, 0.1 * n, 2e7) for n in range(1, 4))), Curve("x", "edges", ())]
    written = page.page(found, curves, targets.checks(found, curves), [], ["Exim"])
    assert "Not to be had here: Exim." in written
    assert "| muawrap " in written
    for chart in (page.distant(found), page.growth(curves)):
        xml.etree.ElementTree.fromstring(chart)
