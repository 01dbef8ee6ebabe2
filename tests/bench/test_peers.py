"""The table of peers holds together, and a run is believed only where the message arrived."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import packages, peers
from tests.bench.lab import Case, Lab, launch, write_text, wrong
from tests.bench.peers import MODES, Command, Job, Peer

FOUND = {"recipients": 1, "sha256": "right", "tls": True, "user": peers.USER}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prepare", [peers.muawrap, peers.bare, *(row[3] for row in peers.TABLE)])
def test_a_command_names_program_and_recipients(prepare: object, mode: str, tmp_path: Path) -> None:
    """Whatever a peer is told stands in its arguments or in a file that only we can read."""
    (tmp_path / "ca.pem").write_text("certificate")
    job = Job(mode, 2525, ("one@x.example", "two@x.example"), tmp_path / "text", tmp_path / "ca.pem", tmp_path)
    assert callable(prepare)
    command = prepare("/bin/program", job)
    files = [path for path in tmp_path.iterdir() if path.is_file() and path.name != "ca.pem"]
    told = " ".join(command.argv) + "".join(path.read_text() for path in files)
    assert command.argv[0] == "/bin/program"
    assert all(word in told for word in ("one@x.example", "two@x.example", "2525"))
    assert (peers.PASSWORD in told) >= (mode != "plain")
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_a_peer_that_is_nowhere_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it on the machine, in the cache and on the network, the others are still run."""
    monkeypatch.setattr(packages, "CACHE", tmp_path)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    found, missing = peers.available("/bin/sendmail")
    assert [peer.name for peer in found] == ["muawrap", "smtplib"]
    assert missing == [row[0] for row in peers.TABLE]


@pytest.mark.parametrize(
    ("told", "mode", "trouble"),
    [
        (FOUND, "tls", ""),
        (None, "tls", "nothing arrived"),
        ({**FOUND, "recipients": 0}, "tls", "0 of 1 recipients"),
        ({**FOUND, "sha256": "wrong"}, "tls", "the text was altered"),
        ({**FOUND, "tls": False}, "starttls", "no TLS"),
        ({**FOUND, "user": ""}, "tls", "no AUTH"),
        ({**FOUND, "tls": False, "user": ""}, "plain", ""),
    ],
)
def test_only_what_arrived_whole_counts(told: dict[str, object] | None, mode: str, trouble: str) -> None:
    """The sink's word decides, not the peer's status."""
    assert wrong(told, Case(mode), frozenset({"right"})) == trouble


def test_a_command_is_measured(tmp_path: Path) -> None:
    """Time, memory and status come from the command, not from the benchmark around it."""
    text = write_text(tmp_path / "text", 1024).path
    sample = launch(Command(["/bin/sleep", "0.05"]), text, tmp_path, 10)
    assert sample.trouble == ""
    assert 0.05 <= sample.wall < 5
    assert 0 < sample.peak < 16 << 20
    assert launch(Command(["/bin/false"]), text, tmp_path, 10).trouble.startswith("status 1")


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    """Every run is bounded."""
    text = write_text(tmp_path / "text", 1024).path
    assert launch(Command(["/bin/sleep", "60"]), text, tmp_path, 0.2).trouble.startswith("timed out")


@pytest.mark.parametrize("size", [1024, 1_000_000])
def test_a_text_has_the_size_it_is_asked_for(size: int, tmp_path: Path) -> None:
    """Within a line, lines ended by LF."""
    octets = write_text(tmp_path / "text", size).path.read_bytes()
    assert abs(len(octets) - size) < 100
    assert b"\r" not in octets
    assert b"\n." in octets


@pytest.mark.parametrize("mode", MODES)
def test_a_bare_smtplib_script_delivers_in_every_mode(lab: Lab, mode: str) -> None:
    """The one peer that is everywhere runs from one end to the other."""
    found, _ = peers.available("/bin/false", fetch=False)
    [script] = [peer for peer in found if peer.name == peers.SMTPLIB]
    sample = lab.run(script, Case(mode, recipients=2, rtt=0.05), 20)
    assert sample.trouble == ""
    assert sample.flights == {"plain": 7, "starttls": 11, "tls": 10}[mode]


def test_a_peer_that_sends_nothing_is_found_out(lab: Lab) -> None:
    """Exit status 0 is no proof of delivery."""
    liar = Peer("liar", "/bin/true", {}, lambda path, job: Command([path]))
    assert lab.run(liar, Case("plain"), 5).trouble == "nothing arrived"
