"""Which cells a query needs, and how far to look for a recall."""

from engine.routing.calibration import Calibration, Kind, Stop
from engine.routing.cell_selection import Route, default_n_probe, groups_for
from engine.routing.model import (
    BEST_NBYTES,
    FRAMES,
    REFIT_AT,
    Blocks,
    Learned,
    Ranking,
    grown,
    judges_for,
    learn,
    read_learned,
    write_learned,
)
from engine.routing.prompts import PROMPTS, read_prompts
from engine.routing.query_bank import MOST_TEXTS, Bank, known_to, of_prompts, prompts_source, readable_source, unit
from engine.routing.scorer import Linear, RouterName, Scorer, by_centroid, by_spread, log_of

__all__ = [
    "BEST_NBYTES",
    "FRAMES",
    "MOST_TEXTS",
    "PROMPTS",
    "REFIT_AT",
    "Bank",
    "Blocks",
    "Calibration",
    "Kind",
    "Learned",
    "Linear",
    "Ranking",
    "Route",
    "RouterName",
    "Scorer",
    "Stop",
    "by_centroid",
    "by_spread",
    "default_n_probe",
    "groups_for",
    "grown",
    "judges_for",
    "known_to",
    "learn",
    "log_of",
    "of_prompts",
    "prompts_source",
    "read_learned",
    "read_prompts",
    "readable_source",
    "unit",
    "write_learned",
]
