"""A collection as plain arrays: what is in it and what a search of it must return, worked out without the engine.

Only the values of `engine.types` are shared. Nothing here is fast, clever or stored; a frame is a row until it is deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.types import Filter, Frame, FrameBatch, Hit, NewVideo

ABSOLUTE, RELATIVE = 2e-5, 2e-6
"""How far two scores of one pair may lie apart: sums of float32 products taken in another order."""
HOURS = {
    "morning": range(5, 12),
    "afternoon": range(12, 17),
    "evening": range(17, 21),
    "night": [*range(21, 24), *range(5)],
}
Mask = NDArray[np.bool_]
Vector = NDArray[np.floating]


class Model:
    """Videos and frames that can be found, and those that are gone for good."""

    def __init__(self, dim: int, metric: str = "ip", store: str = "fp16") -> None:
        self.dim, self.metric, self.store = dim, metric, store
        self.videos: dict[str, NewVideo] = {}
        """Live videos by id, in the order in which they came."""
        self.used: set[int] = set()
        """Every frame id there ever was."""
        self.rows: NDArray[np.float32] = np.empty((0, dim), np.float32)
        """(n, dim) live vectors, with the values that are stored."""
        self.frame_id = np.empty(0, np.int64)
        self.video = np.empty(0, np.object_)
        self.frame_index = np.empty(0, np.int64)
        self.seconds = np.empty(0, np.float64)
        self.captured = np.empty(0, "datetime64[us]")
        self.shot = np.empty(0, np.int64)
        self.tags = np.empty(0, np.object_)

    def __len__(self) -> int:
        return len(self.frame_id)

    # Changing

    def add(self, videos: Sequence[NewVideo], batches: Iterable[FrameBatch]) -> None:
        """Take in frames; ids count up in input order."""
        for batch in batches:
            n = len(batch)
            place = np.zeros(n, np.int64) if batch.video is None else batch.video
            ids = np.arange(n) + max(self.used, default=-1) + 1
            self.used.update(ids.tolist())
            for name, values in {
                "frame_id": ids,
                "video": [videos[i].video_id for i in place],
                "frame_index": batch.frame_index,
                "seconds": batch.seconds,
                "captured": self._captured(videos, batch, place),
                "shot": np.full(n, -1) if batch.shot is None else batch.shot,
                "tags": _objects([frozenset(each) for each in batch.tags] or [frozenset()] * n),
                "rows": self.as_stored(batch.vectors),
            }.items():
                before = getattr(self, name)
                setattr(self, name, np.concatenate([before, np.asarray(values, before.dtype)]))
        self.videos |= {video.video_id: video for video in videos}

    def update(
        self,
        name: str,
        *,
        title: str = "",
        index: int | None = None,
        at: datetime | None = None,
        shot: int | None = None,
        tags: frozenset[str] | None = None,
        change: str = "replace",
    ) -> None:
        """Change what is said of a video, and of its frames with this index or of all; None and nothing leave a value."""
        mine = np.flatnonzero((self.video == name) & (True if index is None else self.frame_index == index))
        if title:
            self.videos[name] = replace(self.videos[name], title=title)
        for i in mine.tolist():
            if at is not None:
                since = np.rint(self.seconds[i] * 1e6).astype("timedelta64[us]")
                self.captured[i] = np.datetime64(at, "us") + (since if index is None else np.timedelta64(0, "us"))
            if shot is not None:
                self.shot[i] = shot
            if tags is not None:
                before = self.tags[i]
                self.tags[i] = {"replace": tags, "add": before | tags, "remove": before - tags}[change]
        if at is not None and len(mine):
            start = np.datetime64(at, "us")
            if index is not None:
                start = (start - np.rint(self.seconds[mine] * 1e6).astype("timedelta64[us]")).min()
            self.videos[name] = replace(self.videos[name], captured_at=start.item())

    def delete(self, name: str) -> int:
        """Forget a video; returns how many frames that were."""
        del self.videos[name]
        keep = self.video != name
        for column in ("frame_id", "video", "frame_index", "seconds", "captured", "shot", "tags", "rows"):
            setattr(self, column, getattr(self, column)[keep])
        return int((~keep).sum())

    def as_stored(self, vectors: Vector) -> NDArray[np.float32]:
        """The values that rows have once they are stored: unit length for `ip`, rounded to the stored type."""
        rows = vectors.astype(np.float64)
        if self.metric == "ip":
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        # Through float32 first, as a double rounding may differ from a single one.
        single = rows.astype(np.float32)
        return single.astype(np.float16).astype(np.float32) if self.store == "fp16" else single

    def _captured(
        self, videos: Sequence[NewVideo], batch: FrameBatch, place: NDArray[np.integer]
    ) -> NDArray[np.datetime64]:
        if batch.captured_at is not None:
            return batch.captured_at.astype("datetime64[us]")
        starts = np.array([videos[i].captured_at for i in place], "datetime64[us]")
        return starts + np.rint(batch.seconds * 1e6).astype("timedelta64[us]")

    # Asking

    def unit(self, query: Vector) -> NDArray[np.float32]:
        """A query as it is compared: unit length for `ip`."""
        query = np.asarray(query, np.float64)
        return (query / np.linalg.norm(query) if self.metric == "ip" else query).astype(np.float32)

    def scores(self, query: Vector) -> NDArray[np.float64]:
        """(n,) score of every live frame."""
        query, rows = self.unit(query).astype(np.float64), self.rows.astype(np.float64)
        return rows @ query if self.metric == "ip" else -((rows - query) ** 2).sum(axis=1)

    def best(self, query: Vector, k: int, mask: Mask | None = None) -> NDArray[np.float32]:
        """The k best scores, by one flat FAISS index over the frames that pass."""
        rows = self.rows if mask is None else self.rows[mask]
        index = (faiss.IndexFlatIP if self.metric == "ip" else faiss.IndexFlatL2)(self.dim)
        index.add(np.ascontiguousarray(rows))
        if not len(rows):
            return np.empty(0, np.float32)
        found = index.search(self.unit(query)[None], min(k, len(rows)))[0][0]
        return found if self.metric == "ip" else -found

    def best_per_shot(self, query: Vector, k: int, per_shot: int, mask: Mask) -> NDArray[np.float64]:
        """The k best scores where a shot gives only its `per_shot` best."""
        scores, taken = self.scores(query), Counter[tuple[str, int]]()
        kept = []
        for i in np.argsort(-scores, kind="stable"):
            shot = (self.video[i], int(self.shot[i]) if self.shot[i] >= 0 else -1 - int(self.seconds[i] // 10))
            if mask[i] and taken[shot] < per_shot:
                taken[shot] += 1
                kept.append(scores[i])
        return np.array(kept[:k])

    def passes(self, where: Filter) -> Mask:
        """(n,) which frames pass a filter."""
        timed = ~np.isnat(self.captured)
        hour = np.where(timed, self.captured.astype("datetime64[h]").astype(np.int64) % 24, -1)
        passing = np.ones(len(self), np.bool_)
        if where.videos:
            passing &= np.isin(self.video.astype(str), where.videos)
        if where.seconds[0] is not None:
            passing &= self.seconds >= where.seconds[0]
        if where.seconds[1] is not None:
            passing &= self.seconds < where.seconds[1]
        if where.captured[0] is not None:
            passing &= timed & (self.captured >= np.datetime64(where.captured[0]))
        if where.captured[1] is not None:
            passing &= timed & (self.captured < np.datetime64(where.captured[1]))
        if where.dayparts:
            passing &= np.isin(hour, [each for part in where.dayparts for each in HOURS[part]])
        if where.hours:
            passing &= np.isin(hour, where.hours)
        for i, tags in enumerate(self.tags):
            passing[i] &= not where.tags_any or bool(tags & set(where.tags_any))
            passing[i] &= tags >= set(where.tags_all) and not tags & set(where.tags_none)
        return passing

    def tag_counts(self) -> Counter[str]:
        """Live frames per tag."""
        return Counter(tag for tags in self.tags for tag in tags)

    def neighbours(self, frame_id: int, n: int) -> list[float]:
        """Times of up to n frames before and n after a frame in its video."""
        at = self.place(frame_id)
        times = np.sort(self.seconds[self.video == self.video[at]])
        return [*times[times < self.seconds[at]][-n:].tolist(), *times[times > self.seconds[at]][:n].tolist()]

    def place(self, frame_id: int) -> int:
        """The row of a live frame."""
        (place,) = np.flatnonzero(self.frame_id == frame_id)
        return int(place)

    # Comparing

    def assert_is(self, frame: Frame) -> None:
        """All that is told of a frame is what was stored for this id."""
        i = self.place(frame.frame_id)
        at = None if np.isnat(self.captured[i]) else self.captured[i].item()
        assert frame.video_id == self.video[i]
        assert frame.title == (self.videos[frame.video_id].title or frame.video_id)
        assert (frame.frame_index, frame.seconds, frame.shot) == (self.frame_index[i], self.seconds[i], self.shot[i])
        assert frame.captured_at == at
        assert frame.tags == tuple(sorted(self.tags[i]))

    def assert_answers(self, hits: Sequence[Hit], query: Vector, k: int, mask: Mask | None = None) -> None:
        """The hits are the k best frames that pass; which of several that tie is left open."""
        self.assert_true(hits, query, mask)
        close(self.best(query, k, mask), [hit.score for hit in hits])

    def assert_true(self, hits: Sequence[Hit], query: Vector, mask: Mask | None = None) -> None:
        """Each hit passes, is told truly with its exact score, and they fall, ties by frame id."""
        ids = [hit.frame_id for hit in hits]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set((self.frame_id if mask is None else self.frame_id[mask]).tolist())
        own = self.scores(query)
        close(own[[self.place(i) for i in ids]], [hit.score for hit in hits])
        for hit in hits:
            self.assert_is(hit)
        assert [(-hit.score, hit.frame_id) for hit in hits] == sorted((-hit.score, hit.frame_id) for hit in hits)


def close(expected: object, found: object) -> None:
    """Scores agree, one by one."""
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=RELATIVE, atol=ABSOLUTE)


def _objects(values: Sequence[object]) -> NDArray[np.object_]:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array
