"""Which cells a query needs, and how far to look for a recall."""

from engine.routing.calibration import MARGIN, Calibration, StopRule
from engine.routing.cell_selection import Route, default_n_probe, groups_for, padded
from engine.routing.model import (
    MAX_BANK_FRAMES,
    MAX_BEST_NBYTES,
    REFIT_GROWTH,
    Ranking,
    RouterFit,
    RoutingModel,
    RowBlocks,
    fit_routing_model,
    fitted_bank,
    n_held_out,
    read_routing_model,
    refit_routing_model,
    write_routing_model,
)
from engine.routing.prompts import PROMPTS, read_prompts
from engine.routing.query_bank import (
    MAX_BANK_TEXTS,
    QueryBank,
    bank_of_prompts,
    known_texts,
    prompts_source,
    readable_source,
)
from engine.routing.scorer import LinearModel, Scorer, centroid_scorer, log_counts, spread_scorer
from engine.routing.shard_stop import CellShards, HeldOut, ShardStop, ShardTrial, cell_shards_of, opened_shards

__all__ = [
    "MARGIN",
    "MAX_BANK_FRAMES",
    "MAX_BANK_TEXTS",
    "MAX_BEST_NBYTES",
    "PROMPTS",
    "REFIT_GROWTH",
    "Calibration",
    "CellShards",
    "HeldOut",
    "LinearModel",
    "QueryBank",
    "Ranking",
    "Route",
    "RouterFit",
    "RoutingModel",
    "RowBlocks",
    "Scorer",
    "ShardStop",
    "ShardTrial",
    "StopRule",
    "bank_of_prompts",
    "cell_shards_of",
    "centroid_scorer",
    "default_n_probe",
    "fit_routing_model",
    "fitted_bank",
    "groups_for",
    "known_texts",
    "log_counts",
    "n_held_out",
    "opened_shards",
    "padded",
    "prompts_source",
    "read_prompts",
    "read_routing_model",
    "readable_source",
    "refit_routing_model",
    "spread_scorer",
    "write_routing_model",
]
