"""Which shard a frame is written to: placement decides where frames are stored, routing where a search looks."""

from engine.layout.by_hash import RoundRobin
from engine.layout.grouping import MAX_FILL, MIN_FILL, alike
from engine.layout.placement import Placement, Shards, Survey
from engine.layout.registry import PLACEMENTS, check_options, make_placement

__all__ = [
    "MAX_FILL",
    "MIN_FILL",
    "PLACEMENTS",
    "Placement",
    "RoundRobin",
    "Shards",
    "Survey",
    "alike",
    "check_options",
    "make_placement",
]
