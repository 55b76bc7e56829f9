"""One query, from a request to hits and a trace."""

from engine.search.execute import Prober
from engine.search.explain import Missed
from engine.search.ground_truth import GroundTruth, float_rows, reading
from engine.search.merge import rerank_depth
from engine.search.passing import PassingFrames, browse
from engine.search.pipeline import search
from engine.search.plan import DEFAULT_RECALL, Plan, make_plan
from engine.search.preview import Preview, ShardPreview
from engine.search.query_vectors import Query, QueryEncoder
from engine.search.request import SearchOptions, SearchRequest
from engine.search.searcher import Searcher
from engine.search.shard_selection import best_shards, choose_cells, in_shards
from engine.search.trace import SearchResult, ShardTrace, Trace
from engine.search.wording import sentence

__all__ = [
    "DEFAULT_RECALL",
    "GroundTruth",
    "Missed",
    "PassingFrames",
    "Plan",
    "Preview",
    "Prober",
    "Query",
    "QueryEncoder",
    "SearchOptions",
    "SearchRequest",
    "SearchResult",
    "Searcher",
    "ShardPreview",
    "ShardTrace",
    "Trace",
    "best_shards",
    "browse",
    "choose_cells",
    "float_rows",
    "in_shards",
    "make_plan",
    "reading",
    "rerank_depth",
    "search",
    "sentence",
]
