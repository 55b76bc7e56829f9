"""A comparison's query as a race: laps by each contender's own clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.lab.compare.contenders import CHOOSING
from engine.lab.compare.report import ComparisonReport, MeasuredQuery
from engine.lab.compare.timeline import QueryTimeline, ShardSpan, typical_query
from tests.lab.test_benchmark import standing


@pytest.fixture
def verdict() -> ComparisonReport:
    naive = [MeasuredQuery(ms, 1, 2, (1, 2), ((0, ms / 2), (1, ms - 0.1))) for ms in (8.0, 6.0, 7.0)]
    routed = [MeasuredQuery(ms, 0.9, 1, (1, 3), ((CHOOSING, 0.3), (1, ms - 0.1))) for ms in (3.0, 1.0, 2.0)]
    rows = standing("naive", 1, 1, 7, tuple(naive)), standing("routed", 0.96, 0.1, 2, tuple(routed))
    return ComparisonReport(rows, 10, 0.95, "text", 3, 100, False, (), (4, 5, 6), ((1, 2),) * 3)


def test_every_contender_runs_its_own_time(verdict: ComparisonReport) -> None:
    heat = QueryTimeline.of(verdict, 1)
    assert (heat.query, heat.row, heat.longest_ms) == (1, 5, 6.0)
    naive, routed = heat.contenders
    assert (naive.name, naive.ms, naive.chosen_ms, naive.spans) == (
        "naive",
        6.0,
        0.0,
        (ShardSpan(0, 3.0), ShardSpan(1, 5.9)),
    )
    assert (routed.name, routed.ms, routed.recall, routed.spans) == ("routed", 1.0, 0.9, (ShardSpan(1, 0.9),))
    assert routed.shards_total == 20


def test_only_who_chooses_takes_time_to_choose(verdict: ComparisonReport) -> None:
    rows = tuple(replace(each, router="learned" if each.name == "routed" else "") for each in verdict.results)
    assert [each.chosen_ms for each in QueryTimeline.of(replace(verdict, results=rows), 0).contenders] == [0.0, 0.3]


def test_the_typical_query_is_the_one_at_the_medians(verdict: ComparisonReport) -> None:
    assert typical_query(verdict) == 2
    one = replace(verdict.results[0].queries[2], ms=70.0)
    spoilt = replace(verdict.results[0], queries=(*verdict.results[0].queries[:2], one))
    assert typical_query(replace(verdict, results=(spoilt, verdict.results[1]))) != 2
