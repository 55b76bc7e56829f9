"""What is in a collection, shard by shard, and what its owner should know."""

from __future__ import annotations

from pathlib import Path

from engine import stats
from engine.cache import ByteLRU
from engine.manifest import VideoRow
from engine.snapshot import ShardView, Snapshot
from engine.types import CollectionStats, ShardStats, VideoInfo
from engine.vectorindex import Lists


def video_info(snapshot: Snapshot, row: VideoRow) -> VideoInfo:
    """One video, with the shards that hold frames of it."""
    shards = tuple(
        shard.shard
        for shard in snapshot.shards
        if any(str(row.number) in view.segment.row.stats["videos"] for view in shard.segments)
    )
    return VideoInfo(
        row.number,
        row.video_id,
        row.title,
        row.source,
        row.duration,
        row.fps,
        row.captured_at,
        row.n_frames,
        shards,
        row.about,
    )


def collection_stats(path: Path, snapshot: Snapshot, cache: ByteLRU[Lists]) -> CollectionStats:
    """Everything that the catalog and the cache know."""
    shards = tuple(_shard_stats(snapshot, shard, cache) for shard in snapshot.shards)
    settings = snapshot.settings
    return CollectionStats(
        path=str(path),
        generation=snapshot.generation,
        dim=settings.dim,
        metric=settings.metric,
        store=settings.store,
        codec=settings.codec,
        placement=snapshot.manifest.layout.placement,
        encoder=settings.encoder,
        route=settings.route,
        n_frames=snapshot.n_live,
        n_videos=len(snapshot.videos),
        n_cells=0 if snapshot.cells is None else len(snapshot.cells),
        nbytes=sum(shard.nbytes for shard in shards),
        shards=shards,
        tags=stats.merge_tags([view.segment.row.stats for view in snapshot.views()]),
        cache=cache.stats(),
        notes=_notes(snapshot, shards),
    )


def _shard_stats(snapshot: Snapshot, shard: ShardView, cache: ByteLRU[Lists]) -> ShardStats:
    each = [view.segment.row.stats for view in shard.segments]
    captured = stats.merge_range(one["captured"] for one in each)
    numbers = {int(number) for one in each for number in one["videos"]}
    return ShardStats(
        shard=shard.shard,
        name=shard.name,
        n_frames=shard.n_live,
        videos=tuple(snapshot.videos[number].video_id for number in sorted(numbers) if number in snapshot.videos),
        seconds=stats.merge_range(one["seconds"] for one in each),
        captured=None
        if captured is None
        else (stats.EPOCH + stats.MICROSECOND * captured[0], stats.EPOCH + stats.MICROSECOND * captured[1]),
        tags=stats.merge_tags(each),
        cells=len({int(cell) for view in shard.segments for cell in view.segment.cells}),
        segments=len(shard.segments),
        nbytes=sum(view.segment.nbytes for view in shard.segments),
        cached_nbytes=sum(cache.nbytes_of(view.segment.row.segment_id) for view in shard.segments),
        updated_at=max((view.segment.row.written_at for view in shard.segments), default=stats.EPOCH),
    )


def _notes(snapshot: Snapshot, shards: tuple[ShardStats, ...]) -> tuple[str, ...]:
    notes = []
    if not snapshot.built and snapshot.n_live:
        notes.append("Not built yet: every search scans every frame. Run a build.")
    dead = sum(view.segment.n_rows - view.n_live for view in snapshot.views())
    if dead:
        notes.append(f"{dead:,} deleted frames still take up space; the next build leaves them out.")
    if snapshot.built and snapshot.n_live < 100_000:
        notes.append(
            "With fewer than 100,000 frames an exact search takes milliseconds; routing is here to be seen, not needed."
        )
    return tuple(notes)
