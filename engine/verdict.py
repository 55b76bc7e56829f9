"""What a comparison found: a row per contender and width, and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_CHAMPIONS = ("routed", "spread", "centroid", "exact", "ram_flat", "naive")
"""Whom the sentence is about: the first of these that took part."""
_SLOW = {"naive": "the naive loop", "exact": "an exact search"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One query as one contender answered it."""

    ms: float
    recall: float
    shards_probed: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A contender at one width. Means are over the queries."""

    name: str
    setting: str
    """How wide it searched, a few words; empty where it always scans everything."""
    router: str
    """How cells were ranked; empty where it does not go by cells."""
    n_probe: float
    """Cells probed, mean; 0 where it does not go by cells."""
    recall_asked: float | None
    """What the router was asked for; None where a width was given or found."""
    recall: float
    """Share of the k best by exact float32 scores that were among the hits, mean."""
    expected_recall: float | None
    """What the router itself expected, mean; None where it says nothing."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    shards_probed: float
    """Mean."""
    shards_total: int
    fraction_scanned: float
    """Vectors scanned, of all."""
    work: float
    """Cells scored, vectors scanned and vectors re-scored, of all vectors."""
    bytes_read: float
    """From files, per query."""
    anonymous_bytes: int | None
    """Most memory of its own, over what its process started with; None where the system does not tell. Shared by all widths."""
    file_bytes: int | None
    """The same for pages of mapped files."""
    opening_seconds: float
    first_ms: float
    """The first query that its process was ever asked, at its first width."""
    queries: tuple[Asked, ...]
    """One entry per query, in their order."""

    def document(self) -> dict[str, Any]:
        """What scripts read: everything but the single queries."""
        return {name: value for name, value in asdict(self).items() if name != "queries"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found."""

    standings: tuple[Standing, ...]
    k: int
    recall: float
    """What was asked for."""
    kind: str
    n_queries: int
    n_frames: int
    cold: bool
    notes: tuple[str, ...]
    """What the reader should know, one sentence each."""

    @property
    def summary(self) -> str:
        """The best way beside the slowest, in one sentence."""
        best = self._champion()
        slow = next((each for each in self.standings if each.name in _SLOW and each.name != best.name), None)
        shards = f"opening {best.shards_probed:.3g} of {best.shards_total} shards"
        told = f"{best.name} answered in {_ms(best.p50_ms)} (p50), {shards} with recall {best.recall:.3g}"
        if slow is None:
            return f"{told}."
        times = slow.p50_ms / best.p50_ms
        return (
            f"{told}; {_SLOW[slow.name]} took {_ms(slow.p50_ms)}: {times:,.{0 if times >= 10 else 1}f} times as long."
        )

    def _champion(self) -> Standing:
        """Of the best contender, the narrowest width that reaches what was asked for, else the one that finds most."""
        name = next(name for name in _CHAMPIONS if any(each.name == name for each in self.standings))
        widths = sorted((each for each in self.standings if each.name == name), key=lambda each: each.work)
        return next((each for each in widths if each.recall >= self.recall), max(widths, key=lambda each: each.recall))


def _ms(ms: float) -> str:
    return f"{ms:,.{0 if ms >= 100 else 1 if ms >= 10 else 2}f} ms"


COLUMNS = (
    "contender", "width", "recall", "p50 ms", "p95 ms", "p99 ms", "first ms", "shards", "scanned", "work", "read MB", "own MB", "file MB", "open s",
)  # fmt: skip


def table(standings: Sequence[Standing]) -> list[str]:
    """Aligned lines: a head, and a line per standing."""
    rows = [COLUMNS, *(_cells(each) for each in standings)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return [
        "  ".join(
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _cells(standing: Standing) -> tuple[str, ...]:
    times = (standing.p50_ms, standing.p95_ms, standing.p99_ms, standing.first_ms)
    return (
        standing.name,
        standing.setting or "all",
        f"{standing.recall:.3f}",
        *(f"{ms:.2f}" for ms in times),
        f"{standing.shards_probed:.1f}/{standing.shards_total}",
        f"{standing.fraction_scanned:.1%}",
        f"{standing.work:.1%}",
        f"{standing.bytes_read / 1e6:.1f}",
        *("?" if each is None else f"{each / 1e6:.1f}" for each in (standing.anonymous_bytes, standing.file_bytes)),
        f"{standing.opening_seconds:.2f}",
    )


def percentiles(ms: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99."""
    p50, p95, p99 = (float(each) for each in np.percentile(ms, [50, 95, 99]))
    return p50, p95, p99
