"""Collections made here: the sample town, the large town, made-up frames; and queries to try them with."""

from engine.datasets.large_town import expected, make_large_town
from engine.datasets.queries import any_queries, sample_queries
from engine.datasets.sample_town import sample_collection
from engine.datasets.synthetic import World, write_synthetic

__all__ = [
    "World",
    "any_queries",
    "expected",
    "make_large_town",
    "sample_collection",
    "sample_queries",
    "write_synthetic",
]
