"""What a comparison found: a row per contender and width, and one sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

_CHAMPIONS = ("routed", "spread", "centroid", "exact", "ram_flat", "naive")
"""Whom the sentence is about: the first of these that took part."""
_SLOW = {"naive": "the naive loop", "exact": "an exact search"}


@dataclass(frozen=True, slots=True)
class MeasuredQuery:
    """One query as one contender answered it."""

    ms: float
    recall: float
    shards_probed: int
    frame_ids: tuple[int, ...] = ()
    """What it found, best first."""
    steps: tuple[tuple[int, float], ...] = ()
    """Shards in the order they were searched, and the milliseconds since the question at which each was done. In place of a
    shard -1 stands first where there was a choice of shards to make. Empty where several were searched at once."""


@dataclass(frozen=True, slots=True)
class ContenderResult:
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
    queries: tuple[MeasuredQuery, ...]
    """One entry per query, in their order."""

    def document(self) -> dict[str, Any]:
        """What scripts read: everything but the single queries."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "queries"}


@dataclass(frozen=True, slots=True)
class AnswerDiff:
    """A query, what a contender found for it, and what it should have."""

    query: int
    """Number of the query among those measured."""
    row: int
    """Of the query among those that were given."""
    recall: float
    found: tuple[int, ...]
    """Frame ids, best first."""
    expected: tuple[int, ...]
    """The k best, best first; of frames as good as the last, those that were found."""

    @property
    def missed(self) -> frozenset[int]:
        """Frames wanted and not found."""
        return frozenset(self.expected).difference(self.found)

    @property
    def extra(self) -> frozenset[int]:
        """Frames found and not wanted."""
        return frozenset(self.found).difference(self.expected)


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """What a comparison found."""

    results: tuple[ContenderResult, ...]
    k: int
    recall: float
    """What was asked for."""
    kind: str
    n_queries: int
    n_frames: int
    cold: bool
    notes: tuple[str, ...]
    """What the reader should know, one sentence each."""
    rows: tuple[int, ...] = ()
    """Which of the given queries were measured, by their place."""
    right: tuple[tuple[int, ...], ...] = ()
    """Per query measured, the ids of the k best frames, best first, and behind them of those as good as the last."""

    @property
    def summary(self) -> str:
        """The best way beside the slowest, in one sentence."""
        best = self.best
        slow = next((each for each in self.results if each.name in _SLOW and each.name != best.name), None)
        shards = f"opening {best.shards_probed:.3g} of {best.shards_total} shards"
        files = " from cold files" if self.cold else ""
        told = f"{best.name} answered in {_ms(best.p50_ms)} (p50){files}, {shards} with recall {best.recall:.3g}"
        if slow is None:
            return f"{told}."
        times = slow.p50_ms / best.p50_ms
        if times < 1:
            return f"{told}; {_SLOW[slow.name]} took {_ms(slow.p50_ms)}, which is less."
        return (
            f"{told}; {_SLOW[slow.name]} took {_ms(slow.p50_ms)}: {times:,.{0 if times >= 10 else 1}f} times as long."
        )

    @property
    def best(self) -> ContenderResult:
        """The best contender, at the width that `pick` takes."""
        return self.result_for(next(name for name in _CHAMPIONS if any(each.name == name for each in self.results)))

    @property
    def names(self) -> tuple[str, ...]:
        """The contenders, each once."""
        return tuple(dict.fromkeys(each.name for each in self.results))

    def result_for(self, name: str) -> ContenderResult:
        """Of a contender, the narrowest width that reaches what was asked for, else the one that finds most."""
        widths = sorted((each for each in self.results if each.name == name), key=lambda each: each.work)
        return next((each for each in widths if each.recall >= self.recall), max(widths, key=lambda each: each.recall))

    def diff(self, standing: ContenderResult, query: int) -> AnswerDiff:
        """What a contender found for one of the queries measured, and what it should have found."""
        asked, right = standing.queries[query], self.right[query]
        k = min(self.k, len(right))
        # Of those as good as the k-th best, which are as right, the ones that were found come first.
        found = set(asked.frame_ids).intersection(right)
        kept = [*(i for i in right if i in found), *(i for i in right if i not in found)][:k]
        wanted = tuple(sorted(kept, key=right.index))
        return AnswerDiff(query, self.rows[query], asked.recall, asked.frame_ids, wanted)

    def worst(self, standing: ContenderResult, n: int) -> tuple[AnswerDiff, ...]:
        """The n queries for which a contender missed most, worst first; fewer where it missed less often than that."""
        missing = [i for i, asked in enumerate(standing.queries) if asked.recall < 1]
        missing.sort(key=lambda i: standing.queries[i].recall)
        return tuple(self.diff(standing, i) for i in missing[:n])


def _ms(ms: float) -> str:
    return f"{ms:,.{0 if ms >= 100 else 1 if ms >= 10 else 2}f} ms"


COLUMNS = (
    "contender", "width", "recall", "p50 ms", "p95 ms", "p99 ms", "first ms", "shards", "scanned", "work", "read MB", "own MB", "file MB", "open s",
)  # fmt: skip


def table_row(standing: ContenderResult) -> dict[str, str | float | None]:
    """What stands in each of `COLUMNS`, in its unit; shares from 0 to 1, shards as a mean, None where the system does not tell."""
    own, file = (None if each is None else each / 1e6 for each in (standing.anonymous_bytes, standing.file_bytes))
    values = (
        standing.name,
        standing.setting or "all",
        standing.recall,
        standing.p50_ms,
        standing.p95_ms,
        standing.p99_ms,
        standing.first_ms,
        standing.shards_probed,
        standing.fraction_scanned,
        standing.work,
        standing.bytes_read / 1e6,
        own,
        file,
        standing.opening_seconds,
    )
    return dict(zip(COLUMNS, values, strict=True))


def as_csv(standings: Sequence[ContenderResult]) -> str:
    """Everything that `ContenderResult.document` tells, as a table for other programs: a head, and a line per standing."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [field.name for field in fields(ContenderResult) if field.name != "queries"], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(each.document() for each in standings)
    return text.getvalue()


def format_table(standings: Sequence[ContenderResult]) -> list[str]:
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


def _cells(standing: ContenderResult) -> tuple[str, ...]:
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
