"""The large town: as many frames as wanted in the space of the sample town, each made from one of its frames.

Every video of the town is taken again and again. A take keeps the tags, times and pictures of its parent; its vectors move
about the parent's as far as frames with the same tags lie apart, so that texts find in it what they find in the town.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from engine.collection import Collection
from engine.errors import StorageFull
from engine.importers import ROWS_PER_BATCH
from engine.search import reading
from engine.storage import discard_collection
from engine.system import Progress, no_progress, part_of, readable_bytes, storage_errors
from engine.types import Frame, FrameBatch, NewVideo, VideoInfo
from engine.vectors import Floats, unit

MIN_FRAMES, DEFAULT_FRAMES, MAX_FRAMES = 10_000, 100_000, 5_000_000
"""Frames of a large town."""
_N_SHARDS = 20
BYTES, BYTES_PER_FRAME = 35_000_000, 950
"""Disk that is taken at the most: pictures; and for each frame its row, codes, columns and the router's share."""
FRAMES_PER_SECOND = 4_000
"""Frames made, stored and built in a second on two cores, about."""
PARENTS = "parents"
"""Folder of the town's pictures in the collection."""
_ABOUT = {"made": "synthetic", "from": "the sample town"}
"""What is known of each video."""

_TAKE, _SHOT = 0.55, 0.75
"""How far a take, and each shot of it, moves away: in what frames with the same tags lie apart. Together little less than one, so
that a parent's takes are spread as its likes are."""
_STORED = 0.4
"""Share of the time after which all frames are stored."""
_ROOM = 64 << 20


@dataclass(frozen=True, slots=True)
class _Parent:
    video: VideoInfo
    frames: tuple[Frame, ...]
    """By their place in the video."""
    vectors: Floats
    """(n, dim) of unit norm."""


def make_large_town(
    path: Path, town: Collection, n_frames: int = DEFAULT_FRAMES, progress: Progress = no_progress
) -> Collection:
    """Open the large town at `path`, or make it first from the sample town.

    Parameters
    ----------
    n_frames : `LEAST` to `MOST`

    Raises
    ------
    ValueError
        If there are too few or too many frames.
    StorageFull
        If the disk has no room for it.
    Busy
        If somebody else is making it.
    """
    if not MIN_FRAMES <= n_frames <= MAX_FRAMES:
        raise ValueError(f"A large town has {MIN_FRAMES:,} to {MAX_FRAMES:,} frames, not {n_frames:,}.")
    if (path / "catalog.sqlite").is_file():
        collection = Collection.open(path)
        if collection.built:
            return collection
        collection.close()
        discard_collection(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    free, wanted = shutil.disk_usage(path.parent).free, expected_cost(n_frames)[0]
    if free < wanted + _ROOM:
        raise StorageFull(
            f"A large town of {n_frames:,} frames takes {readable_bytes(wanted)}, and {readable_bytes(free)} "
            f"are free in {path.parent}; make a smaller one or make room."
        )
    settings = town.settings
    collection = Collection.create(path, dim=settings.dim, encoder=settings.encoder, n_shards=_N_SHARDS, route="routed")
    try:
        collection.use_encoder(town.encoder)
        _fill(collection, town, n_frames, progress)
    except BaseException:
        collection.close()
        discard_collection(path)
        raise
    return collection


def expected_cost(n_frames: int) -> tuple[int, float]:
    """Bytes of disk and seconds that a large town of so many frames takes, about."""
    return BYTES + n_frames * BYTES_PER_FRAME, n_frames / FRAMES_PER_SECOND


def _fill(collection: Collection, town: Collection, n_frames: int, progress: Progress) -> None:
    parents = _parents(town)
    _copy_pictures(town, collection.path / PARENTS, parents)
    takes = _takes(parents, n_frames)
    with collection.writing() as writer:
        shown = [town.trust.find("film", parent.video.source) is not None for parent in parents]
        videos = [
            _video(parents[i].video, take, n, collection.path / PARENTS / str(i), shown=shown[i])
            for i, take, n in takes
        ]
        writer.store(videos, _batches(parents, takes, n_frames, progress))
        collection.settle(added=True, build=True, progress=part_of(progress, _STORED, 1.0))
    progress("done", 1.0, 1.0)


def _parents(town: Collection) -> list[_Parent]:
    by_video: dict[str, list[tuple[Frame, Floats]]] = {}
    with reading(town.path) as snapshot:
        for shard in snapshot.shards:
            for view in shard.segments:
                live = view.live_rows()
                rows = view.segment.gather(live)
                for frame, row in zip(snapshot.frames(shard.shard, view.segment, live), rows, strict=True):
                    by_video.setdefault(frame.video_id, []).append((frame, row))
    parents = []
    for video in town.videos():
        frames, vectors = zip(*sorted(by_video[video.video_id], key=lambda pair: pair[0].frame_index), strict=True)
        parents.append(_Parent(video, frames, unit(np.stack(vectors))))
    return parents


def _copy_pictures(town: Collection, folder: Path, parents: Sequence[_Parent]) -> None:
    """Copy the town's thumbnails, numbered by their place in the video, so that the collection needs nothing else."""
    with storage_errors("copying pictures"):
        for number, parent in enumerate(parents):
            place = folder / str(number)
            place.mkdir(parents=True)
            for i, frame in enumerate(parent.frames, 1):
                picture = town.thumbnail(frame)
                if picture is not None:
                    shutil.copyfile(picture, place / f"{i:03d}.jpg")


def _takes(parents: Sequence[_Parent], n_frames: int) -> list[tuple[int, int, int]]:
    """Per video to be made: its parent, the number of the take, and its frames; the last one is cut short."""
    takes, left, take = [], n_frames, 0
    while left > 0:
        for i, parent in enumerate(parents):
            if left > 0:
                takes.append((i, take, min(left, len(parent.frames))))
                left -= len(parent.frames)
        take += 1
    return takes


def _video(parent: VideoInfo, take: int, n: int, pictures: Path, *, shown: bool) -> NewVideo:
    """A take of a video; its film goes along only if the town may show it, for storing it allows it."""
    captured = None if parent.captured_at is None else parent.captured_at + timedelta(days=take)
    return NewVideo(
        f"{parent.video_id}-{take + 1:05d}",
        title=f"{parent.title}, take {take + 1:,}",
        source=parent.source if shown else "",
        duration=parent.duration,
        fps=parent.fps,
        captured_at=captured,
        fingerprint=f"take {take} of {parent.video_id}, {n} frames",
        pictures=str(pictures.resolve()),
        about=_ABOUT | {"parent": parent.video_id},
    )


def _batches(
    parents: Sequence[_Parent], takes: Sequence[tuple[int, int, int]], n_frames: int, progress: Progress
) -> Iterator[FrameBatch]:
    """The frames of all takes, in whole videos of up to `ROWS_PER_BATCH` rows."""
    moves, jitter = _spreads(parents)
    held: list[tuple[int, Floats, _Parent, int]] = []
    n_held = done = 0
    for number, (i, take, n) in enumerate(takes):
        if n_held + n > ROWS_PER_BATCH:
            yield _joined(held)
            progress("making frames", _STORED * done, n_frames)
            held, n_held = [], 0
        held.append((number, _moved(parents[i], moves, jitter, (i, take))[:n], parents[i], n))
        n_held += n
        done += n
    yield _joined(held)


def _spreads(parents: Sequence[_Parent]) -> tuple[Floats, Floats]:
    """What standard normal rows are multiplied by (dim, dim): to lie apart as frames with the same tags do, and as frames of one shot do."""
    vectors = np.concatenate([parent.vectors for parent in parents])
    tags = [frame.tags for parent in parents for frame in parent.frames]
    shots = [(frame.video_id, frame.shot) for parent in parents for frame in parent.frames]
    return _root(vectors, tags), _root(vectors, shots)


def _root(vectors: Floats, groups: Sequence[object]) -> Floats:
    """The symmetric root of the covariance (dim, dim) within groups of rows."""
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    of = np.array([numbers[group] for group in groups])
    counts = np.bincount(of)
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, of, vectors)
    own = vectors - (means / counts[:, None])[of]
    covariance = own.T @ own / max(1, len(vectors) - len(counts))
    values, axes = np.linalg.eigh(covariance)
    root: Floats = ((axes * np.sqrt(values.clip(0))) @ axes.T).astype(np.float32)
    return root


def _moved(parent: _Parent, moves: Floats, jitter: Floats, which: tuple[int, int]) -> Floats:
    """The vectors (n, dim) of a take."""
    rng = np.random.default_rng([1, *which])
    n, dim = parent.vectors.shape
    shots = np.unique([frame.shot for frame in parent.frames], return_inverse=True)[1]
    away = _TAKE * rng.standard_normal((1, dim), np.float32)
    away = away + _SHOT * rng.standard_normal((int(shots.max()) + 1, dim), np.float32)
    return unit(parent.vectors + away[shots] @ moves + rng.standard_normal((n, dim), np.float32) @ jitter)


def _joined(held: Sequence[tuple[int, Floats, _Parent, int]]) -> FrameBatch:
    frames = [frame for _, _, parent, n in held for frame in parent.frames[:n]]
    return FrameBatch(
        vectors=np.concatenate([vectors for _, vectors, _, _ in held]),
        frame_index=np.array([frame.frame_index for frame in frames], np.int64),
        seconds=np.array([frame.seconds for frame in frames], np.float64),
        video=np.repeat(np.array([number for number, _, _, _ in held], np.int32), [n for _, _, _, n in held]),
        shot=np.array([frame.shot for frame in frames], np.int32),
        tags=tuple(frame.tags for frame in frames),
    )
