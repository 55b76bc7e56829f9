"""Replay workloads of queries against a cache of their own."""

from engine.lab.replay.cache_history import CacheHistory
from engine.lab.replay.replay import Replay, ReplayRequest

__all__ = ["CacheHistory", "Replay", "ReplayRequest"]
