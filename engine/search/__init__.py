"""One query, from a request to hits and a trace."""

from engine.search.approach import Approach, Wanted
from engine.search.execute import Prober, ShardCache
from engine.search.explain import Missed, missed
from engine.search.ground_truth import Truth, float_rows, reading
from engine.search.loop import search
from engine.search.merge import rescore_depth
from engine.search.plan import DEFAULT_RECALL, Asked, Plan, check_choices, make_plan
from engine.search.preview import Preview, ShardPreview, preview_filter, preview_search
from engine.search.shard_selection import Width, best_held, choose, in_shards, winners

__all__ = [
    "DEFAULT_RECALL",
    "Approach",
    "Asked",
    "Missed",
    "Plan",
    "Preview",
    "Prober",
    "ShardCache",
    "ShardPreview",
    "Truth",
    "Wanted",
    "Width",
    "best_held",
    "check_choices",
    "choose",
    "float_rows",
    "in_shards",
    "make_plan",
    "missed",
    "preview_filter",
    "preview_search",
    "reading",
    "rescore_depth",
    "search",
    "winners",
]
