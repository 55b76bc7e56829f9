"""Which shard a frame is written to."""

from engine.layout.grouping import alike
from engine.layout.placement import PLACEMENTS, Placement, RoundRobin, Shards, Survey, check_options, make_placement

__all__ = ["PLACEMENTS", "Placement", "RoundRobin", "Shards", "Survey", "alike", "check_options", "make_placement"]
