"""Loads of queries against a cache of their own."""

from engine.lab.replay.cache_history import Occupancy
from engine.lab.replay.replay import Replay, Request

__all__ = ["Occupancy", "Replay", "Request"]
