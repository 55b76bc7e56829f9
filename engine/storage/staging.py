"""New frames before they are written: numbered, normalised, and gathered into portions of the size of a segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns, concat_columns
from engine.layout import alike
from engine.storage.limits import current_limits
from engine.storage.manifest import VideoRow
from engine.storage.rows import Fingerprint, TagBounds, check_video, columns_of, prepare_rows
from engine.storage.snapshot import Snapshot
from engine.storage.thumbnails import hash_thumbnails, thumbnails_folder, write_thumbnails
from engine.system import bounds, remove_folder
from engine.types import FrameBatch, NewVideo

Portion = tuple[NDArray[np.floating], FrameColumns]
"""Prepared vectors (n, dim) and the columns of the same frames."""
_MAX_EMPTY = 1_000_000


class Staging:
    """Prepares the frames of some new videos, writes their thumbnails, and gives the rows of the catalog at the end."""

    def __init__(
        self, path: Path, snapshot: Snapshot, videos: Sequence[NewVideo], first_number: int, first_id: int
    ) -> None:
        bounds.check_count("videos in this collection", len(snapshot.numbers) + len(videos), bounds.MAX_VIDEOS)
        for video in videos:
            check_video(video)
        self.next_id = first_id
        self._path = path
        self._cells = snapshot.cells
        self._settings = snapshot.settings
        self._videos = videos
        self._numbers = np.arange(first_number, first_number + len(videos), dtype=np.int32)
        self._n_frames = np.zeros(len(videos), np.int64)
        self._prints = {i: Fingerprint() for i, video in enumerate(videos) if not video.fingerprint}
        self._pictures: dict[int, dict[int, bytes]] = {}
        self._snapshot = snapshot
        for number in self._numbers:
            remove_folder(thumbnails_folder(path, int(number)))

    def portions(self, batches: Iterable[FrameBatch]) -> Iterator[Portion]:
        """The frames in input order, in portions of up to `Limits.portion`, or one segment if that is less; larger batches are cut.

        Raises
        ------
        ValueError
            If frames do not fit.
        """
        limit = min(current_limits().portion, current_limits().segment_rows(self._settings.dim, self._settings.store))
        held: list[Portion] = []
        n_held = n_seen = n_empty = 0
        for batch in batches:
            bounds.check_count("frames to store at once", n_seen + len(batch), bounds.MAX_ROWS)
            if not len(batch):
                n_empty += 1
                bounds.check_count("batches without frames", n_empty, _MAX_EMPTY)
                continue
            if held and n_held + len(batch) > limit:
                yield _joined(held)
                held, n_held = [], 0
            *full, rest = _cut(self._take(batch, n_seen), limit)
            yield from full
            held.append(rest)
            n_held += len(rest[1])
            n_seen += len(batch)
        if held:
            yield _joined(held)

    def _take(self, batch: FrameBatch, n_seen: int) -> Portion:
        settings = self._settings
        if batch.tags:
            batch = replace(batch, tags=self._tag_bounds.checked(batch.tags))
        vectors = prepare_rows(batch, settings.dim, settings.metric, settings.store, first_row=n_seen)
        columns = columns_of(self._videos, self._numbers, self.next_id, batch, vectors, self._cells)
        self.next_id += len(batch)
        place = columns.video - self._numbers[0]
        self._n_frames += np.bincount(place, minlength=len(self._videos))
        self._keep_pictures(batch, columns)
        if self._prints:
            for rows in alike(place):
                known = self._prints.get(int(place[rows[0]]))
                if known is not None:
                    known.add(vectors[rows], columns.frame_index[rows], columns.seconds[rows])
        return vectors, columns

    @cached_property
    def _tag_bounds(self) -> TagBounds:
        return TagBounds(tag for view in self._snapshot.views() for tag in view.segment.row.stats["tags"])

    def _keep_pictures(self, batch: FrameBatch, columns: FrameColumns) -> None:
        """Write the thumbnails of a batch; of each only a hash stays in memory. The first picture of a repeated frame counts."""
        by_video: dict[int, dict[int, bytes]] = {}
        for number, index, image in zip(
            columns.video.tolist(), columns.frame_index.tolist(), batch.thumbnails, strict=False
        ):
            if index not in self._pictures.setdefault(number, {}):
                by_video.setdefault(number, {}).setdefault(index, image)
        for number, images in by_video.items():
            self._pictures[number].update(write_thumbnails(self._path, number, images))

    def finish(self) -> list[VideoRow]:
        """The rows of the catalog, once every batch is through.

        Raises
        ------
        ValueError
            If a video got no frames.
        """
        empty = np.flatnonzero(self._n_frames == 0)
        if len(empty):
            raise ValueError(f"{self._videos[empty[0]].video_id}: there are no frames to store.")
        return [
            VideoRow(
                number=number,
                video_id=video.video_id,
                title=video.title or video.video_id,
                source=video.source,
                duration=video.duration,
                fps=video.fps,
                captured_at=video.captured_at,
                n_frames=n_frames,
                fingerprint=video.fingerprint or self._prints[i].text(),
                pictures=video.pictures,
                about=dict(video.about),
                media=hash_thumbnails(self._pictures.get(number, {}).items()),
            )
            for i, (video, number, n_frames) in enumerate(
                zip(self._videos, self._numbers.tolist(), self._n_frames.tolist(), strict=True)
            )
        ]


def _cut(portion: Portion, limit: int) -> list[Portion]:
    """At least one frame, in parts of up to `limit`; all but the last are full."""
    vectors, columns = portion
    if len(columns) <= limit:
        return [portion]
    places = np.arange(len(columns))
    return [
        (vectors[start : start + limit], columns.take(places[start : start + limit]))
        for start in range(0, len(columns), limit)
    ]


def _joined(held: Sequence[Portion]) -> Portion:
    if len(held) == 1:
        return held[0]
    return np.concatenate([vectors for vectors, _ in held]), concat_columns([columns for _, columns in held])
