"""What is inside the shards: one of them in detail, and all of them beside each other by tag and by recording time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from engine.reports.statistics import shard_stats
from engine.storage import ByteLRU, ShardView, Snapshot
from engine.types import Frame, ShardStats
from engine.vectors import Lists


@dataclass(frozen=True, slots=True)
class ShardContents:
    """One shard in detail."""

    stats: ShardStats
    videos: tuple[tuple[str, str, int], ...]
    """Id, title and frames here of each video, most frames first; frames are a superset until deleted ones are compacted."""
    samples: tuple[Frame, ...]
    """Some live frames, at even distances where all are laid out cell by cell: like ones stand together."""
    largest_cell: int
    """Live frames in the cell that has most of them here."""
    mean_cell: float
    """Live frames in a cell here, on average."""


@dataclass(frozen=True, slots=True)
class TagShares:
    """How much of each shard carries each tag."""

    shards: tuple[int, ...]
    names: tuple[str, ...]
    """Of the shards."""
    tags: tuple[str, ...]
    """As `kind:label`."""
    shares: NDArray[np.float64]
    """(shards, tags) share of the stored frames, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording as far as one shard holds it."""

    shard: int
    video_id: str
    title: str
    captured_at: datetime
    """Wall-clock start, naive local."""
    n_frames: int
    """Frames of it in the shard."""


def shard_contents(snapshot: Snapshot, number: int, cache: ByteLRU[Lists], n: int) -> ShardContents:
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
    """Frames at even distances where all of the shard are laid out cell by cell."""
    views = [view for view in snapshot.shards[number].segments if view.n_live]
    rows = [view.live_rows() for view in views]
    if not rows:
        return []
    cells = np.concatenate([view.segment.columns.cell[mine] for view, mine in zip(views, rows, strict=True)])
    order = np.argsort(cells, kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(np.int64)]
    starts = np.cumsum([0, *(len(mine) for mine in rows)])
    found = []
    for view, mine, start, stop in zip(views, rows, starts, starts[1:], strict=False):
        here = picked[(picked >= start) & (picked < stop)] - start
        found += list(zip(cells[here + start].tolist(), snapshot.frames(number, view.segment, mine[here]), strict=True))
    return [frame for _, frame in sorted(found, key=lambda each: (each[0], each[1].frame_id))]


def tag_shares(snapshot: Snapshot, most: int) -> TagShares:
    """The tags that tell shards apart best, at most `most` of them, grouped by kind; from the statistics alone.

    Those are the tags whose share differs most between shards, by its standard deviation.
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
    """Which recordings each shard holds frames of, by shard and time; those without a wall-clock time are left out."""
    found = []
    for shard in snapshot.shards:
        for number, count in _frames_of_videos(shard).items():
            video = snapshot.videos.get(number)
            if video is not None and video.captured_at is not None:
                found.append(Recording(shard.shard, video.video_id, video.title, video.captured_at, count))
    return tuple(sorted(found, key=lambda each: (each.shard, each.captured_at, each.video_id)))
