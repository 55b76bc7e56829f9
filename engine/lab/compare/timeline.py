"""One query of a comparison as a race: when each contender was done with each shard, by the clock of its own process."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.lab.compare.contenders import CHOOSING
from engine.lab.compare.report import ComparisonReport, ContenderResult


@dataclass(frozen=True, slots=True)
class ShardSpan:
    """One shard searched."""

    shard: int
    end_ms: float
    """Milliseconds since the question at which it was done."""


@dataclass(frozen=True, slots=True)
class ContenderTimeline:
    """One contender's way through the query."""

    name: str
    setting: str
    """How wide it searched; empty where it always scans everything."""
    ms: float
    """Until its answer was there."""
    chosen_ms: float
    """Until it knew which shards to open; 0 where it opens all and has nothing to choose."""
    spans: tuple[ShardSpan, ...]
    """In the order of the search; empty where shards were searched side by side."""
    shards_total: int
    recall: float


@dataclass(frozen=True, slots=True)
class QueryTimeline:
    """All contenders on one query."""

    query: int
    """Number of the query among those measured."""
    row: int
    """Of the query among those that were given."""
    contenders: tuple[ContenderTimeline, ...]
    """In the order of the comparison."""

    @classmethod
    def of(cls, verdict: ComparisonReport, query: int) -> QueryTimeline:
        """One of the queries measured; each contender at the width that `ComparisonReport.result_for` takes."""
        picks = (verdict.result_for(name) for name in verdict.names)
        return cls(query, verdict.rows[query], tuple(_entrant(each, query) for each in picks))

    @property
    def longest_ms(self) -> float:
        """Until the last one was done."""
        return max(each.ms for each in self.contenders)


def typical_query(verdict: ComparisonReport) -> int:
    """The query on which all contenders together took the times nearest to their medians."""
    picks = [verdict.result_for(name) for name in verdict.names]

    def apart(query: int) -> float:
        return sum(abs(math.log(each.queries[query].ms / each.p50_ms)) for each in picks)

    return min(range(verdict.n_queries), key=apart)


def _entrant(standing: ContenderResult, query: int) -> ContenderTimeline:
    asked = standing.queries[query]
    chosen = next((ms for shard, ms in asked.steps if shard == CHOOSING), 0.0)
    laps = tuple(ShardSpan(shard, ms) for shard, ms in asked.steps if shard != CHOOSING)
    return ContenderTimeline(
        standing.name,
        standing.setting,
        asked.ms,
        chosen if standing.router else 0.0,
        laps,
        standing.shards_total,
        asked.recall,
    )
