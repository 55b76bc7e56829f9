"""The sample town, the large town, synthetic collections, and queries to try a collection with."""

from engine.datasets.large_town import expected_cost, make_large_town
from engine.datasets.queries import any_queries, sample_queries
from engine.datasets.sample_town import sample_collection, sample_videos
from engine.datasets.synthetic import World, write_synthetic

__all__ = [
    "World",
    "any_queries",
    "expected_cost",
    "make_large_town",
    "sample_collection",
    "sample_queries",
    "sample_videos",
    "write_synthetic",
]
