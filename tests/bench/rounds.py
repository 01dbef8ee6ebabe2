"""Interleaved runs of several peers, and what they say together: medians, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench.lab import Case, Lab, Sample
from tests.bench.peers import Peer

GIVEN_UP = 2  # runs in trouble after which a peer is run no more in a case


@dataclass
class Series:
    """The runs of one peer in one case, one a round."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def good(self) -> list[Sample]:
        return [sample for sample in self.samples if not sample.trouble]

    @property
    def trouble(self) -> str:
        """How many runs do not count, and why the first of them does not; "" where all do."""
        bad = [sample.trouble for sample in self.samples if sample.trouble]
        return f"{len(bad)} of {len(self.samples)}: {bad[0]}" if bad else ""

    def median(self, figure: str) -> float | None:
        """Of wall, cpu, peak, flights or waited; None where no run counts."""
        values = [float(getattr(sample, figure)) for sample in self.good]
        return statistics.median(values) if values else None

    def most(self, figure: str) -> float | None:
        return max((float(getattr(sample, figure)) for sample in self.good), default=None)


class Results:
    """Every series, by case and peer."""

    def __init__(self) -> None:
        self.series: dict[tuple[Case, str], Series] = {}

    def of(self, case: Case, peer: str) -> Series:
        """Empty where the peer was not run in this case."""
        return self.series.get((case, peer), Series())

    def ratio(self, case: Case, ours: str, peer: str, figure: str = "wall") -> float | None:
        """The median of the ratios within each round: what drifts from round to round cancels out."""
        pairs = zip(self.of(case, ours).samples, self.of(case, peer).samples, strict=False)
        ratios = [
            getattr(a, figure) / getattr(b, figure)
            for a, b in pairs
            if not a.trouble and not b.trouble and getattr(b, figure)
        ]
        return statistics.median(ratios) if ratios else None

    def interleave(
        self, lab: Lab, peers: list[Peer], case: Case, rounds: Mapping[str, int], timeout: float, warm: bool = True
    ) -> None:
        """Run each peer as many rounds as it is given, all of them in turn; before that once that does not count."""
        running = [peer for peer in peers if rounds.get(peer.name) and case.mode in peer.modes]
        if warm:
            for peer in running:
                lab.run(peer, case, timeout)
        for number in range(max((rounds[peer.name] for peer in running), default=0)):
            for peer in running:
                series = self.series.setdefault((case, peer.name), Series())
                if number < rounds[peer.name] and sum(bool(s.trouble) for s in series.samples) < GIVEN_UP:
                    series.samples.append(lab.run(peer, case, timeout))
