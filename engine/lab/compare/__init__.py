"""Contenders beside each other on the same queries."""

from engine.lab.compare.benchmark import COLD_QUERIES, Bench, Request, unfit_for
from engine.lab.compare.contenders import NAMES
from engine.lab.compare.estimate import expected_seconds
from engine.lab.compare.report import Shortfall, Standing, Verdict, as_csv, numbers, table
from engine.lab.compare.timeline import Entrant, Heat, typical

__all__ = [
    "COLD_QUERIES",
    "NAMES",
    "Bench",
    "Entrant",
    "Heat",
    "Request",
    "Shortfall",
    "Standing",
    "Verdict",
    "as_csv",
    "expected_seconds",
    "numbers",
    "table",
    "typical",
    "unfit_for",
]
