"""The report of a comparison: a result per contender and width, and a one-sentence summary."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from engine.system import readable_milliseconds, readable_recall, three_digits

_RANKING = ("routed", "spread", "centroid", "exact", "ram_flat", "naive")
"""The summary is about the first of these that took part."""
_SLOW = {"naive": "the naive loop", "exact": "an exact search"}


@dataclass(frozen=True, slots=True)
class MeasuredQuery:
    """The answer of one contender to one query."""

    ms: float
    recall: float
    shards_probed: int
    frame_ids: tuple[int, ...] = ()
    """Hits, best first."""
    steps: tuple[tuple[int, float], ...] = ()
    """(shard, milliseconds since the start of the query at which its search ended), in search order. A first entry with
    shard -1 marks the end of shard selection, where there is one. Empty where shards were searched in parallel."""


@dataclass(frozen=True, slots=True)
class ContenderResult:
    """Figures of one contender at one width. Means are over the queries."""

    name: str
    setting: str
    """The width, such as `n_probe 8`; empty for contenders that scan everything."""
    router: str
    """How cells were ranked; empty without routing."""
    n_probe: float
    """Cells probed, mean; 0 without routing."""
    recall_asked: float | None
    """Recall that the router was asked for; None where a width was given or found."""
    recall: float
    """Share of the k best by exact float32 scores that were among the hits, mean."""
    expected_recall: float | None
    """Recall that the router predicted, mean; None where it predicts none."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    shards_probed: float
    """Mean."""
    shards_total: int
    fraction_scanned: float
    """Share of all vectors that were scanned, mean."""
    work: float
    """Cells scored, vectors scanned and vectors re-scored, divided by the number of vectors, mean."""
    bytes_read: float
    """From files, mean per query."""
    anonymous_bytes: int | None
    """Peak anonymous memory above what its process started with, over all widths; None where the system does not tell."""
    file_bytes: int | None
    """The same for pages of mapped files."""
    opening_seconds: float
    first_ms: float
    """Time of the very first query, at the first width."""
    queries: tuple[MeasuredQuery, ...]
    """In the order of the queries."""

    def document(self) -> dict[str, Any]:
        """All fields but `queries`, for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "queries"}


@dataclass(frozen=True, slots=True)
class AnswerDiff:
    """The hits of a contender for one query beside the exact answer."""

    query: int
    """Number of the query among those measured."""
    row: int
    """Number of the query among those given."""
    recall: float
    found: tuple[int, ...]
    """Frame ids, best first."""
    expected: tuple[int, ...]
    """Ids of the k best frames, best first; of frames that tie with the k-th, preferably those that were found."""

    @property
    def missed(self) -> frozenset[int]:
        """Frames expected and not found."""
        return frozenset(self.expected).difference(self.found)

    @property
    def extra(self) -> frozenset[int]:
        """Frames found and not expected."""
        return frozenset(self.found).difference(self.expected)


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """All results of a comparison."""

    results: tuple[ContenderResult, ...]
    k: int
    recall: float
    """Recall that routed contenders should reach."""
    kind: str
    n_queries: int
    n_frames: int
    cold: bool
    notes: tuple[str, ...]
    """Sentences for the reader."""
    rows: tuple[int, ...] = ()
    """Numbers of the queries that were measured, among those given."""
    ground_truth: tuple[tuple[int, ...], ...] = ()
    """Per measured query, ids of the k best frames, best first, followed by those that tie with the k-th."""
    generation: int = 0
    """Generation of the collection that was measured."""

    @property
    def summary(self) -> str:
        """The best contender beside the slowest, in one sentence."""
        best = self.best
        slow = next((result for result in self.results if result.name in _SLOW and result.name != best.name), None)
        shards = f"opening {best.shards_probed:.3g} of {best.shards_total} shards"
        files = " from cold files" if self.cold else ""
        text = f"{best.name} answered in {readable_milliseconds(best.p50_ms)} (p50){files}, {shards} with recall {readable_recall(best.recall)}"
        if slow is None:
            return f"{text}."
        times = slow.p50_ms / best.p50_ms
        if times < 1:
            return f"{text}; {_SLOW[slow.name]} took {readable_milliseconds(slow.p50_ms)}, which is less."
        return f"{text}; {_SLOW[slow.name]} took {readable_milliseconds(slow.p50_ms)}: {times:,.{0 if times >= 10 else 1}f} times as long."

    @property
    def best(self) -> ContenderResult:
        """The best contender that took part, at the width that `result_for` takes."""
        return self.result_for(next(name for name in _RANKING if name in self.names))

    @property
    def names(self) -> tuple[str, ...]:
        """The contenders, each once."""
        return tuple(dict.fromkeys(result.name for result in self.results))

    def result_for(self, name: str) -> ContenderResult:
        """Of a contender, the narrowest width that reaches the recall, else the one with the highest recall."""
        widths = sorted((result for result in self.results if result.name == name), key=lambda result: result.work)
        best = max(widths, key=lambda result: result.recall)
        return next((result for result in widths if result.recall >= self.recall), best)

    def diff(self, result: ContenderResult, query: int) -> AnswerDiff:
        """Hold a contender's hits for a measured query against the exact answer."""
        measured, best = result.queries[query], self.ground_truth[query]
        # Frames that tie with the k-th are as right as it is, so those that were found come first.
        found = set(measured.frame_ids).intersection(best)
        kept = [*(i for i in best if i in found), *(i for i in best if i not in found)][: self.k]
        expected = tuple(sorted(kept, key=best.index))
        return AnswerDiff(query, self.rows[query], measured.recall, measured.frame_ids, expected)

    def worst(self, result: ContenderResult, n: int) -> tuple[AnswerDiff, ...]:
        """Up to n queries with a recall below 1, lowest recall first."""
        missing = [i for i, measured in enumerate(result.queries) if measured.recall < 1]
        missing.sort(key=lambda i: result.queries[i].recall)
        return tuple(self.diff(result, i) for i in missing[:n])


TABLE_COLUMNS = (
    "contender", "width", "recall", "p50 ms", "p95 ms", "p99 ms", "first ms", "shards", "scanned", "work", "read MB", "own MB", "file MB", "open s",
)  # fmt: skip


def table_row(result: ContenderResult) -> dict[str, str | float | None]:
    """The value of each of `TABLE_COLUMNS`: shares from 0 to 1, shards as a mean, None where the system does not tell."""
    own, file = (None if each is None else each / 1e6 for each in (result.anonymous_bytes, result.file_bytes))
    values = (
        result.name,
        result.setting or "all",
        result.recall,
        result.p50_ms,
        result.p95_ms,
        result.p99_ms,
        result.first_ms,
        result.shards_probed,
        result.fraction_scanned,
        result.work,
        result.bytes_read / 1e6,
        own,
        file,
        result.opening_seconds,
    )
    return dict(zip(TABLE_COLUMNS, values, strict=True))


def as_csv(results: Sequence[ContenderResult]) -> str:
    """All that `ContenderResult.document` holds: a header, and a line per result."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [field.name for field in fields(ContenderResult) if field.name != "queries"], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(result.document() for result in results)
    return text.getvalue()


def format_table(results: Sequence[ContenderResult]) -> list[str]:
    """Aligned lines: a header, and a line per result."""
    rows = [TABLE_COLUMNS, *(_cells(result) for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(TABLE_COLUMNS))]
    return [
        "  ".join(
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _cells(result: ContenderResult) -> tuple[str, ...]:
    times = (result.p50_ms, result.p95_ms, result.p99_ms, result.first_ms)
    return (
        result.name,
        result.setting or "all",
        f"{result.recall:.3f}",
        *map(three_digits, times),
        f"{result.shards_probed:.1f}/{result.shards_total}",
        f"{result.fraction_scanned:.1%}",
        f"{result.work:.1%}",
        f"{result.bytes_read / 1e6:.1f}",
        *("?" if each is None else f"{each / 1e6:.1f}" for each in (result.anonymous_bytes, result.file_bytes)),
        f"{result.opening_seconds:.2f}",
    )


def percentiles(ms: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99."""
    p50, p95, p99 = (float(each) for each in np.percentile(ms, [50, 95, 99]))
    return p50, p95, p99
