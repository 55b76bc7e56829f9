"""Conditions that break ties among hits and rank shards where a cap chooses, and exclude nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.frames import CompiledFilter, known_part, split_filter
from engine.storage import Snapshot
from engine.types import Filter, Frame, Hit
from engine.vectors import Floats


@dataclass(frozen=True, slots=True)
class Boosts:
    """The conditions of a filter one by one, each of which may hold or not."""

    conditions: tuple[CompiledFilter, ...]
    shares: Mapping[int, float]
    """Per shard, the share of its frames that meet a condition, 0 to 1, on average over the conditions."""

    @classmethod
    def of(cls, snapshot: Snapshot, boost: Filter) -> Boosts | None:
        """The conditions that can act here; None if there is none. Tags that no frame carries and unknown videos are passed over.

        Shares come from the statistics of the segments, so no frame is looked at. They are counts for tags and videos; for
        times they take frames to lie evenly between the first and the last, and among the hours that occur.
        """
        boost = snapshot.as_stored(boost)
        segments = [(shard.shard, view.segment) for shard in snapshot.shards for view in shard.segments]
        carried = {tag for tag in boost.tags if any(tag in segment.row.stats["tags"] for _, segment in segments)}
        parts = split_filter(known_part(boost, snapshot.numbers, carried))
        conditions = tuple(CompiledFilter(part, snapshot.numbers) for part in parts)
        if not conditions:
            return None
        rows = dict.fromkeys((shard.shard for shard in snapshot.shards), 0)
        meeting = dict.fromkeys(rows, 0.0)
        for shard, segment in segments:
            shares = [condition.share(segment.row.stats) for condition in conditions]
            rows[shard] += segment.n_rows
            meeting[shard] += segment.n_rows * sum(shares) / len(conditions)
        return cls(conditions, {shard: meeting[shard] / n if n else 0.0 for shard, n in rows.items()})

    def n_met(self, frame: Frame) -> int:
        return sum(condition.passes(frame) for condition in self.conditions)

    def ordered(self, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits; of those whose scores are equal to three decimals, those that meet more conditions first.

        Scores are shown with three decimals, so that shown scores still never rise.
        """
        return sorted(hits, key=lambda hit: (-float(f"{hit.score:.3f}"), -self.n_met(hit)))

    def for_shards(self, shards: Sequence[int], predicted: Floats) -> Floats:
        """What to add to the predicted scores of shards where only some may be opened.

        It is a shard's share, see `shares`, of the way from the worst to the best prediction among the shards that a query
        wants: one whose frames all meet every condition comes no later than the best, and one that has none of them gains
        nothing.

        Parameters
        ----------
        shards : their numbers
        predicted : (shards, m) predicted scores; minus infinity where a query does not want the shard or nothing was predicted

        Returns
        -------
        (shards, m)
        """
        known = np.isfinite(predicted)
        best = np.where(known, predicted, -np.inf).max(axis=0)
        worst = np.where(known, predicted, np.inf).min(axis=0)
        spread = np.where(known.any(axis=0), best - worst, 0.0)
        boosts: Floats = (self.shares_of(shards)[:, None] * spread).astype(np.float32)
        return boosts

    def shares_of(self, shards: Sequence[int]) -> Floats:
        """The shares (n,) of these shards."""
        return np.array([self.shares.get(shard, 0.0) for shard in shards], np.float32)
