"""Compare ways to answer the same queries: time, recall, bytes read, memory."""

from engine.lab.compare.benchmark import COLD_QUERIES, Benchmark, ComparisonRequest, unsuitable_contenders
from engine.lab.compare.contenders import CONTENDER_NAMES, ROUTED
from engine.lab.compare.estimate import expected_seconds
from engine.lab.compare.report import AnswerDiff, ComparisonReport, ContenderResult, as_csv, format_table, table_row
from engine.lab.compare.timeline import ContenderTimeline, QueryTimeline, typical_query

__all__ = [
    "COLD_QUERIES",
    "CONTENDER_NAMES",
    "ROUTED",
    "AnswerDiff",
    "Benchmark",
    "ComparisonReport",
    "ComparisonRequest",
    "ContenderResult",
    "ContenderTimeline",
    "QueryTimeline",
    "as_csv",
    "expected_seconds",
    "format_table",
    "table_row",
    "typical_query",
    "unsuitable_contenders",
]
