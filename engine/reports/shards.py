"""The contents of shards: one in detail, and all of them by tag and by recording time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from engine.reports.statistics import shard_stats
from engine.storage import ShardCache, ShardView, Snapshot
from engine.types import Frame, ShardStats


@dataclass(frozen=True, slots=True)
class ShardContents:
    """One shard in detail."""

    stats: ShardStats
    videos: tuple[tuple[str, str, int], ...]
    """(id, title, number of frames here) of each video, most frames first; deleted frames count until they are compacted."""
    samples: tuple[Frame, ...]
    """Some live frames, evenly spaced in the order of cells, so that similar ones are adjacent."""
    largest_cell: int
    """Live frames here of the largest cell."""
    mean_cell: float
    """Live frames here per cell that occurs, mean."""


@dataclass(frozen=True, slots=True)
class TagShares:
    """The share of each shard that carries each tag."""

    shards: tuple[int, ...]
    names: tuple[str, ...]
    """Of the shards."""
    tags: tuple[str, ...]
    """As `kind:label`."""
    shares: NDArray[np.float64]
    """(shards, tags) share of the stored frames, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording within one shard."""

    shard: int
    video_id: str
    title: str
    captured_at: datetime
    """Wall-clock start, naive local."""
    n_frames: int
    """In the shard."""


def shard_contents(snapshot: Snapshot, number: int, cache: ShardCache, n: int) -> ShardContents:
    """One shard in detail, with at most n sample frames.

    Raises
    ------
    ValueError
        If there is no such shard.
    """
    if not 0 <= number < len(snapshot.shards):
        raise ValueError(f"There is no shard {number}; the collection has 0 to {len(snapshot.shards) - 1}.")
    shard = snapshot.shards[number]
    frames = _frames_of_videos(shard)
    rows: Counter[int] = Counter()
    for view in shard.segments:
        rows.update(dict(zip(view.segment.cells.tolist(), view.cell_rows.tolist(), strict=True)))
    videos = [(snapshot.videos[video], count) for video, count in frames.most_common() if video in snapshot.videos]
    live = [count for count in rows.values() if count]
    return ShardContents(
        stats=shard_stats(snapshot, shard, cache),
        videos=tuple((video.video_id, video.title, count) for video, count in videos),
        samples=tuple(_samples(snapshot, number, n)),
        largest_cell=max(live, default=0),
        mean_cell=sum(live) / len(live) if live else 0.0,
    )


def _frames_of_videos(shard: ShardView) -> Counter[int]:
    """Stored frames of each video in a shard, by the video's number."""
    frames: Counter[int] = Counter()
    for view in shard.segments:
        frames.update({int(video): count for video, count in view.segment.row.stats["videos"].items()})
    return frames


def _samples(snapshot: Snapshot, number: int, n: int) -> list[Frame]:
    """At most n live frames of a shard, evenly spaced in the order of cells."""
    views = [view for view in snapshot.shards[number].segments if view.n_live]
    rows = [view.live_rows() for view in views]
    if not rows:
        return []
    cells = np.concatenate([view.segment.columns.cell[mine] for view, mine in zip(views, rows, strict=True)])
    order = np.argsort(cells, kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(np.int64)]
    starts = np.cumsum([0, *(len(mine) for mine in rows)])
    frames = []
    for view, mine, start, stop in zip(views, rows, starts, starts[1:], strict=False):
        here = picked[(picked >= start) & (picked < stop)] - start
        frames += list(
            zip(cells[here + start].tolist(), snapshot.frames(number, view.segment, mine[here]), strict=True)
        )
    return [frame for _, frame in sorted(frames, key=lambda pair: (pair[0], pair[1].frame_id))]


def tag_shares(snapshot: Snapshot, most: int) -> TagShares:
    """The tags whose share differs most between shards, by its standard deviation; at most `most`, sorted by kind.

    Read from the statistics of segments, not from frames.
    """
    counts = [Counter[str]() for _ in snapshot.shards]
    for count, shard in zip(counts, snapshot.shards, strict=True):
        for view in shard.segments:
            count.update(view.segment.row.stats["tags"])
    tags = sorted({tag for count in counts for tag in count})
    rows = [max(1, sum(view.segment.n_rows for view in shard.segments)) for shard in snapshot.shards]
    shares = np.array([[count[tag] / n for tag in tags] for count, n in zip(counts, rows, strict=True)], np.float64)
    kept = np.sort(np.argsort(-shares.std(axis=0), kind="stable")[:most]) if tags else np.zeros(0, np.int64)
    return TagShares(
        tuple(shard.shard for shard in snapshot.shards),
        tuple(shard.name for shard in snapshot.shards),
        tuple(tags[i] for i in kept),
        shares.reshape(len(rows), len(tags))[:, kept],
    )


def recordings(snapshot: Snapshot) -> tuple[Recording, ...]:
    """The recordings in each shard, by shard and time; those without a wall-clock time are left out."""
    parts = []
    for shard in snapshot.shards:
        for number, count in _frames_of_videos(shard).items():
            video = snapshot.videos.get(number)
            if video is not None and video.captured_at is not None:
                parts.append(Recording(shard.shard, video.video_id, video.title, video.captured_at, count))
    return tuple(sorted(parts, key=lambda part: (part.shard, part.captured_at, part.video_id)))
