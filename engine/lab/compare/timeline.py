"""When each contender finished each shard of one query, on the clock of its own process."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.lab.compare.contenders import CHOOSING
from engine.lab.compare.report import ComparisonReport, ContenderResult


@dataclass(frozen=True, slots=True)
class ShardSpan:
    """The search of one shard."""

    shard: int
    end_ms: float
    """Milliseconds from the start of the query to the end of this shard's search."""


@dataclass(frozen=True, slots=True)
class ContenderTimeline:
    """One contender on one query."""

    name: str
    setting: str
    """The width; empty for contenders that scan everything."""
    ms: float
    """Time of the whole query."""
    chosen_ms: float
    """Milliseconds from the start of the query to the end of shard selection; 0 where every shard is searched."""
    spans: tuple[ShardSpan, ...]
    """In search order; empty where shards were searched in parallel."""
    shards_total: int
    recall: float


@dataclass(frozen=True, slots=True)
class QueryTimeline:
    """All contenders on one query."""

    query: int
    """Number of the query among those measured."""
    row: int
    """Number of the query among those given."""
    contenders: tuple[ContenderTimeline, ...]
    """In the order of the comparison."""

    @classmethod
    def of(cls, report: ComparisonReport, query: int) -> QueryTimeline:
        """Take a measured query from a report; each contender at the width that `ComparisonReport.result_for` takes."""
        results = (report.result_for(name) for name in report.names)
        return cls(query, report.rows[query], tuple(_timeline(result, query) for result in results))

    @property
    def longest_ms(self) -> float:
        """Time of the slowest contender."""
        return max(timeline.ms for timeline in self.contenders)


def typical_query(report: ComparisonReport) -> int:
    """The measured query whose times, over all contenders, are nearest to their medians."""
    results = [report.result_for(name) for name in report.names]

    def distance(query: int) -> float:
        return sum(abs(math.log(result.queries[query].ms / result.p50_ms)) for result in results)

    return min(range(report.n_queries), key=distance)


def _timeline(result: ContenderResult, query: int) -> ContenderTimeline:
    measured = result.queries[query]
    chosen_ms = next((ms for shard, ms in measured.steps if shard == CHOOSING), 0.0)
    spans = tuple(ShardSpan(shard, ms) for shard, ms in measured.steps if shard != CHOOSING)
    return ContenderTimeline(
        result.name,
        result.setting,
        measured.ms,
        chosen_ms if result.router else 0.0,
        spans,
        result.shards_total,
        measured.recall,
    )
