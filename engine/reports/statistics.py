"""Statistics of a collection, its shards and its videos, and notes for its owner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.frames import statistics
from engine.reports.evenness import uneven_note
from engine.storage import ShardCache, ShardView, Snapshot, VideoRow, current_limits, keeps_codes_only
from engine.types import CollectionStats, ShardStats, VideoInfo

_FAR = 1.25
"""Frames count as far from this mean squared distance to their cell, as a multiple of that of frames like the trained ones."""
_FAR_ROWS, _FAR_SHARE = 1000, 0.05
"""More far frames than this, by number and by share, are noted."""
_CLIPPED = 0.01
"""A larger share of values beyond the codec's range is noted."""


def random_frame_ids(snapshot: Snapshot, n: int, rng: np.random.Generator) -> list[int]:
    """Ids of up to n live frames, rising."""
    if n < 0:
        raise ValueError(f"{n} frames cannot be chosen; ask for 0 or more.")
    ids = [view.segment.columns.frame_id[view.live_rows()] for view in snapshot.views() if view.n_live]
    live = np.concatenate(ids) if ids else np.zeros(0, np.int64)
    chosen: list[int] = np.sort(rng.choice(live, min(n, len(live)), replace=False)).tolist()
    return chosen


def video_info(snapshot: Snapshot, row: VideoRow) -> VideoInfo:
    """One video, with the shards that hold its frames."""
    name = str(row.number)
    views = ((shard.shard, view) for shard in snapshot.shards for view in shard.segments)
    return _info(row, sorted({shard for shard, view in views if name in view.segment.row.stats["videos"]}))


def video_infos(snapshot: Snapshot) -> list[VideoInfo]:
    """All videos, in the order in which they were added."""
    shards: dict[str, list[int]] = defaultdict(list)
    for shard in snapshot.shards:
        for name in {name for view in shard.segments for name in view.segment.row.stats["videos"]}:
            shards[name].append(shard.shard)
    return [_info(row, shards[str(row.number)]) for row in snapshot.manifest.videos]


def _info(row: VideoRow, shards: Sequence[int]) -> VideoInfo:
    return VideoInfo(
        row.number,
        row.video_id,
        row.title,
        row.source,
        row.duration,
        row.fps,
        row.captured_at,
        row.n_frames,
        tuple(shards),
        row.about,
    )


def collection_stats(path: Path, snapshot: Snapshot, cache: ShardCache) -> CollectionStats:
    """From the catalog and the cache, without reading frames."""
    shards = tuple(shard_stats(snapshot, shard, cache) for shard in snapshot.shards)
    settings, uneven = snapshot.settings, uneven_note(snapshot)
    return CollectionStats(
        path=str(path),
        generation=snapshot.generation,
        dim=settings.dim,
        metric=settings.metric,
        store=settings.store,
        codec=settings.codec,
        coded=any(view.segment.coded for view in snapshot.views()),
        placement=snapshot.manifest.layout.placement,
        encoder=settings.encoder,
        route=settings.route,
        n_frames=snapshot.n_live,
        n_videos=len(snapshot.videos),
        n_cells=0 if snapshot.cells is None else len(snapshot.cells),
        nbytes=sum(shard.nbytes for shard in shards),
        shards=shards,
        tags=statistics.merge_tags([view.segment.row.stats for view in snapshot.views()]),
        cache=cache.stats(),
        router=snapshot.routing.usual_router("text") if snapshot.built else "",
        why_router=snapshot.why_router,
        drift=_weighted(snapshot, "drift"),
        clipped=_weighted(snapshot, "clipped"),
        uneven=uneven,
        notes=_notes(snapshot, uneven),
    )


def shard_stats(snapshot: Snapshot, shard: ShardView, cache: ShardCache) -> ShardStats:
    """One shard, from the catalog and the cache."""
    segments = [view.segment.row.stats for view in shard.segments]
    captured = statistics.merge_range(stats["captured"] for stats in segments)
    numbers = {int(number) for stats in segments for number in stats["videos"]}
    tags = statistics.merge_tags(segments)
    return ShardStats(
        shard=shard.shard,
        name=shard.name,
        n_frames=shard.n_live,
        videos=tuple(snapshot.videos[number].video_id for number in sorted(numbers) if number in snapshot.videos),
        seconds=statistics.merge_range(stats["seconds"] for stats in segments),
        captured=None
        if captured is None
        else (
            statistics.EPOCH + statistics.MICROSECOND * captured[0],
            statistics.EPOCH + statistics.MICROSECOND * captured[1],
        ),
        tags=tags,
        scenes=dict(list(_labels(tags, "scene").items())[:3]),
        summary=_summary(tags, sum(view.segment.n_rows for view in shard.segments)),
        cells=len({int(cell) for view in shard.segments for cell in view.segment.cells}),
        segments=len(shard.segments),
        nbytes=sum(view.segment.nbytes for view in shard.segments),
        cached_nbytes=sum(cache.nbytes_of(view.segment.row.segment_id) for view in shard.segments),
        updated_at=max((view.segment.row.written_at for view in shard.segments), default=statistics.EPOCH),
    )


def _labels(tags: Mapping[str, int], kind: str) -> dict[str, int]:
    """Counts of the tags of one kind, by readable label, most frequent first."""
    return {statistics.tag_label(tag): count for tag, count in tags.items() if tag.startswith(f"{kind}:")}


def _summary(tags: Mapping[str, int], n_rows: int) -> str:
    """The most frequent scenes, or objects where no scenes are known."""
    for kind in ("scene", "object"):
        shares = [f"{label} {count / n_rows:.0%}" for label, count in list(_labels(tags, kind).items())[:3]]
        if shares:
            return ", ".join(shares)
    return "no tags" if n_rows else "empty"


def _weighted(snapshot: Snapshot, name: str) -> float:
    """Mean of a statistic over all segments that have it, weighted by rows."""
    known = [(row.n_rows, row.stats[name]) for row in snapshot.manifest.segments if name in row.stats]
    total = sum(n_rows for n_rows, _ in known)
    return sum(n_rows * value for n_rows, value in known) / total if total else 0.0


def _notes(snapshot: Snapshot, uneven: str) -> tuple[str, ...]:
    notes = []
    if not snapshot.built and snapshot.n_live:
        notes.append("Not built yet: every search scans every frame. Run a build.")
    if snapshot.router is not None and snapshot.router.calibration.stale(snapshot.n_live):
        notes.append(
            f"The router was calibrated on {snapshot.router.calibration.n_frames:,} frames and there are {snapshot.n_live:,} now, "
            "so the recall it expects may be off. Run a build."
        )
    if uneven:
        notes.append(uneven)
    dead = sum(view.segment.n_rows - view.n_live for view in snapshot.views())
    if dead:
        notes.append(f"{dead:,} deleted frames still take up space; compact drops them.")
    bare = sum(view.n_live for view in snapshot.views() if not view.segment.coded)
    if bare and snapshot.built and current_limits().coded(snapshot.n_live):
        notes.append(
            f"{bare:,} frames were stored before the collection had codes, and are held in memory as they are stored. What is added "
            "later brings them along bit by bit; a build or a reshard gives codes to all."
        )
    far = _far_rows(snapshot)
    if far > max(_FAR_ROWS, _FAR_SHARE * snapshot.n_live):
        notes.append(
            f"About {far:,} frames lie far from the cells they were put in, for these were trained on other frames: "
            "routing misses more of them. Run a build."
        )
    if snapshot.cells is not None and keeps_codes_only(snapshot.settings, snapshot.cells):
        few, many = snapshot.cells.codes_recall.tolist()
        notes.append(
            f"Of each row only its {snapshot.settings.codec} code is kept, and every score is the code's, that of an exact search, too. When it was "
            f"built, ranking all frames by codes found {few:.1%} of the 10 and {many:.1%} of the 100 that ranking them by the rows as they came found."
        )
    clipped = _weighted(snapshot, "clipped")
    if clipped > _CLIPPED:
        notes.append(
            f"{clipped:.1%} of all values lie beyond what the codec {snapshot.settings.codec} was trained on and are cut off: "
            "candidates are ranked less well before they are re-scored. Run a build."
        )
    if snapshot.built and snapshot.n_live and not current_limits().coded(snapshot.n_live):
        notes.append(codec_note(snapshot.settings.codec, snapshot.settings.store))
    if snapshot.built and snapshot.n_live < 100_000:
        notes.append(
            "With fewer than 100,000 frames an exact search takes milliseconds; routing is here to be seen, not needed."
        )
    return tuple(notes)


def codec_note(codec: str, store: str) -> str:
    """That a codec changes nothing where no shard has codes."""
    return (
        f"The codec {codec} changes nothing yet: a collection has codes from {current_limits().coded_from:,} frames on, and this one "
        f"holds its vectors as they are stored ({'fp16' if store == 'codes' else store})."
    )


def _far_rows(snapshot: Snapshot) -> int:
    """Rows of segments that fit the cells worse than new frames like the trained ones would."""
    per_cell = snapshot.n_live / max(1, len(snapshot.cells or ()))
    if per_cell <= 2:
        return 0
    # k-means centroids are closer to their training rows: with r rows a cell, new rows are (r + 1) / (r - 1) as far on average.
    expected = (per_cell + 1) / (per_cell - 1)
    return sum(row.n_rows for row in snapshot.manifest.segments if row.stats.get("drift", 0.0) > _FAR * expected)
