"""The frames that pass a filter, in the order of time: what there is to see without a query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from engine.search.filtering import filter_shards
from engine.storage import Snapshot
from engine.types import Filter, Frame


@dataclass(frozen=True, slots=True)
class PassingFrames:
    """Some of the frames that pass a filter."""

    frames: tuple[Frame, ...]
    n_passing: int
    """Frames that pass, whether they are among these or not."""
    missing: tuple[str, ...]
    """A sentence for each shard that could not be read; its frames are lacking."""


def browse(snapshot: Snapshot, where: Filter, first: int, n: int) -> PassingFrames:
    """Frames that pass, `n` of them from the one at place `first` on.

    Videos whose recording time is known come first, by that time; then the others, in the order in which they were stored. Within a
    video, frames are ordered by their time.

    Raises
    ------
    NotFound
        If the filter names a video or a tag that is not there.
    """
    filtered = filter_shards(snapshot, where or None, routed=False)
    by_time = sorted(snapshot.videos, key=lambda number: (snapshot.videos[number].captured_at or datetime.max, number))
    rank = np.zeros(max(snapshot.videos, default=0) + 1, np.int64)
    rank[by_time] = np.arange(len(by_time))
    ranks, seconds, places, rows = ([np.zeros(0, kind)] for kind in (np.int64, np.float64, np.int64, np.int64))
    found = [(shard.shard, candidate) for shard, candidates in filtered.shards for candidate in candidates]
    for place, (_, candidate) in enumerate(found):
        columns = candidate.segment.columns
        passing = np.arange(candidate.segment.n_rows) if candidate.mask is None else np.flatnonzero(candidate.mask)
        ranks.append(rank[columns.video[passing]])
        seconds.append(np.asarray(columns.seconds[passing], np.float64))
        places.append(np.full(len(passing), place))
        rows.append(passing)
    order = np.lexsort((np.concatenate(seconds), np.concatenate(ranks)))
    wanted = order[max(first, 0) : max(first, 0) + n]
    place_of, row_of = np.concatenate(places)[wanted].tolist(), np.concatenate(rows)[wanted].tolist()
    frames = [
        snapshot.frames(found[place][0], found[place][1].segment, np.array([row]))[0]
        for place, row in zip(place_of, row_of, strict=True)
    ]
    return PassingFrames(tuple(frames), len(order), tuple(str(failure) for _, failure in filtered.broken))
