"""Conditions that break ties among hits and rank shards where a cap chooses, and exclude nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.frames import statistics
from engine.storage import Snapshot
from engine.types import Filter, Frame, Hit
from engine.vectors import Floats


@dataclass(frozen=True, slots=True)
class Boosts:
    """The conditions of a filter one by one, each of which may hold or not."""

    conditions: tuple[Filter, ...]
    shares: Mapping[int, float]
    """Per shard, the share of its frames that meet a condition, 0 to 1, on average over the conditions."""

    @classmethod
    def of(cls, snapshot: Snapshot, boost: Filter) -> Boosts | None:
        """The conditions that can act here; None if there is none. Tags that no frame carries and unknown videos are passed over.

        Shares come from the statistics of the segments, so no frame is looked at. They are counts for tags and videos; for
        times they take frames to lie evenly between the first and the last, and among the hours that occur.
        """
        segments = [(shard.shard, view.segment) for shard in snapshot.shards for view in shard.segments]
        asked = {*boost.tags_any, *boost.tags_all, *boost.tags_none}
        carried = {tag for tag in asked if any(tag in segment.row.stats["tags"] for _, segment in segments)}
        conditions = tuple(_conditions(boost, carried, snapshot.numbers))
        if not conditions:
            return None
        rows = dict.fromkeys((shard.shard for shard in snapshot.shards), 0)
        meeting = dict.fromkeys(rows, 0.0)
        for shard, segment in segments:
            shares = [
                _share(segment.row.stats, segment.n_rows, condition, snapshot.numbers) for condition in conditions
            ]
            rows[shard] += segment.n_rows
            meeting[shard] += segment.n_rows * sum(shares) / len(conditions)
        return cls(conditions, {shard: meeting[shard] / n if n else 0.0 for shard, n in rows.items()})

    def n_met(self, frame: Frame) -> int:
        """How many of the conditions a frame meets."""
        return sum(passes(frame, condition) for condition in self.conditions)

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


def _conditions(boost: Filter, carried: set[str], videos: Mapping[str, int]) -> list[Filter]:
    """A filter for each condition that some frame of a collection may meet."""
    any_of, all_of, none_of = (
        tuple(tag for tag in tags if tag in carried) for tags in (boost.tags_any, boost.tags_all, boost.tags_none)
    )
    conditions = [
        Filter(videos=tuple(name for name in boost.videos if name in videos)),
        Filter(seconds=boost.seconds),
        Filter(captured=boost.captured),
        Filter(dayparts=boost.dayparts),
        Filter(hours=boost.hours),
        Filter(tags_any=any_of),
        *(Filter(tags_all=(tag,)) for tag in all_of),
        *(Filter(tags_none=(tag,)) for tag in none_of),
    ]
    return [condition for condition in conditions if condition]


def passes(frame: Frame, where: Filter) -> bool:
    """Whether a frame meets every condition of a filter."""
    at, tags = frame.captured_at, set(frame.tags)
    start, stop = where.seconds
    begin, end = where.captured
    clocked = bool(where.dayparts or where.hours) or begin is not None or end is not None
    return (
        (not where.videos or frame.video_id in where.videos)
        and (start is None or frame.seconds >= start)
        and (stop is None or frame.seconds < stop)
        and (not clocked or at is not None)
        and (begin is None or (at is not None and at >= begin))
        and (end is None or (at is not None and at < end))
        and (at is None or at.hour in statistics.hours_wanted(where))
        and (not where.tags_any or bool(tags & set(where.tags_any)))
        and set(where.tags_all) <= tags
        and not tags & set(where.tags_none)
    )


def _share(stats: Mapping[str, Any], rows: int, where: Filter, videos: Mapping[str, int]) -> float:
    """The share of a segment's frames that meet one condition, as its statistics have it."""
    if where.videos:
        return float(sum(stats["videos"].get(str(videos[name]), 0) for name in where.videos) / rows)
    if where.seconds != (None, None):
        return _overlap(stats["seconds"], *where.seconds)
    if where.captured != (None, None):
        begin, end = (None if at is None else float(statistics.microseconds(at)) for at in where.captured)
        return 0.0 if stats["captured"] is None else _overlap(stats["captured"], begin, end)
    if where.dayparts or where.hours:
        occurring = set(stats["hours"])
        return len(occurring & statistics.hours_wanted(where)) / len(occurring) if occurring else 0.0
    if where.tags_none:
        return 1.0 - min(1.0, float(stats["tags"].get(where.tags_none[0], 0) / rows))
    return min(1.0, float(sum(stats["tags"].get(tag, 0) for tag in (*where.tags_any, *where.tags_all)) / rows))


def _overlap(span: Sequence[float], start: float | None, stop: float | None) -> float:
    """The share of a span that lies between two bounds, None for no bound; of a single point, all or nothing."""
    first, last = float(span[0]), float(span[1])
    low, high = first if start is None else max(first, start), last if stop is None else min(last, stop)
    if last > first:
        return max(0.0, high - low) / (last - first)
    return float((start is None or first >= start) and (stop is None or first < stop))
