"""Small made-up collections, and what a search over them must return, worked out without the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.storage.snapshot import Snapshot
from engine.system.files import file_hash
from engine.types import DAYPARTS, Filter, FrameBatch, Hit, NewVideo

DIM = 8
TAGS = ("object:cat", "object:dog", "scene:beach", "scene:street", "weather:snow")
Video = tuple[NewVideo, FrameBatch]


def make_video(number: int, n: int = 30, dim: int = DIM, **told: object) -> Video:
    """A video of n frames, two seconds apart, around a few directions; every third has no recording time."""
    rng = np.random.default_rng(number)
    centres = np.random.default_rng(99).normal(size=(6, dim))
    vectors = centres[rng.integers(0, 6, n)] + 0.4 * rng.normal(size=(n, dim))
    captured = None if number % 3 == 2 else datetime(2024, 5, 1, 4) + timedelta(hours=5 * number)
    values = {
        "video_id": f"v{number}",
        "title": f"Video {number}",
        "captured_at": captured,
        "fingerprint": f"f{number}",
    }
    batch = FrameBatch(
        vectors=vectors.astype(np.float32),
        frame_index=np.arange(n, dtype=np.int64) * 24,
        seconds=np.arange(n) * 2.0,
        shot=(np.arange(n) // 4).astype(np.int32),
        # Each video lacks one tag, so that whole segments can be ruled out.
        tags=tuple(
            tuple(tag for i, tag in enumerate(TAGS) if i != number % len(TAGS) and rng.random() < 0.4) for _ in range(n)
        ),
    )
    return NewVideo(**{**values, **told}), batch


VIDEOS = [make_video(i) for i in range(5)]
N = sum(len(frames) for _, frames in VIDEOS)
"""Frames in all of them."""
FEW = [make_video(i, 12) for i in range(3)]
"""For tests that change what is stored."""


def fill(path: Path, videos: list[Video], *, built: bool = True, **settings: object) -> Collection:
    """A collection of these videos."""
    values = {"dim": DIM, "n_shards": 3, "route": "routed", **settings}
    collection = Collection.create(path, **values)
    for video, frames in videos:
        collection.add(video, frames)
    if built:
        collection.build()
    return collection


@dataclass
class Flat:
    """The frames that should be found, as plain arrays, and one flat FAISS index over them."""

    rows: NDArray[np.float32]
    frame_id: NDArray[np.int64]
    video: NDArray[np.str_]
    seconds: NDArray[np.float64]
    captured: list[datetime | None]
    tags: list[tuple[str, ...]]
    metric: str = "ip"

    @classmethod
    def of(cls, videos: list[Video], gone: tuple[str, ...] = (), metric: str = "ip", store: str = "fp16") -> Flat:
        rows, video, captured, tags = [], [], [], []
        for new, frames in videos:
            vectors = frames.vectors.astype(np.float64)
            if metric == "ip":
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            # Through float32 first, as a double rounding may differ from a single one.
            rows.append(vectors.astype(np.float32).astype(np.float16 if store == "fp16" else np.float32))
            video += [new.video_id] * len(frames)
            start = new.captured_at
            captured += [None if start is None else start + timedelta(seconds=float(s)) for s in frames.seconds]
            tags += list(frames.tags) or [()] * len(frames)
        keep = np.array([name not in gone for name in video])
        places = np.flatnonzero(keep)
        return cls(
            np.concatenate(rows).astype(np.float32)[keep],
            places.astype(np.int64),
            np.array(video)[keep],
            np.concatenate([frames.seconds for _, frames in videos])[keep],
            [captured[i] for i in places],
            [tags[i] for i in places],
            metric,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def index(self, mask: NDArray[np.bool_] | None = None) -> tuple[faiss.Index, NDArray[np.int64]]:
        ids = self.frame_id if mask is None else self.frame_id[mask]
        index = (faiss.IndexFlatIP if self.metric == "ip" else faiss.IndexFlatL2)(self.rows.shape[1])
        index.add(self.rows if mask is None else self.rows[mask])
        return index, ids

    def scores(self, query: NDArray[np.floating], k: int, mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """The k best scores."""
        index, ids = self.index(mask)
        found, _ = index.search(self.unit(query), min(k, len(ids)))
        return found[0] if self.metric == "ip" else -found[0]

    def unit(self, query: NDArray[np.floating]) -> NDArray[np.float32]:
        query = np.asarray(query, np.float32).reshape(1, -1)
        return query / np.linalg.norm(query) if self.metric == "ip" else query

    def score_of(self, query: NDArray[np.floating], frame_id: int) -> float:
        (place,) = np.flatnonzero(self.frame_id == frame_id)
        query, row = self.unit(query)[0], self.rows[place]
        return float(query @ row) if self.metric == "ip" else -float(((query - row) ** 2).sum())

    def passes(self, where: Filter) -> NDArray[np.bool_]:
        """Which frames pass a filter, one frame at a time."""

        def one(i: int) -> bool:
            at, tags, seconds = self.captured[i], set(self.tags[i]), self.seconds[i]
            tests = [
                not where.videos or self.video[i] in where.videos,
                where.seconds[0] is None or seconds >= where.seconds[0],
                where.seconds[1] is None or seconds < where.seconds[1],
                where.captured[0] is None or (at is not None and at >= where.captured[0]),
                where.captured[1] is None or (at is not None and at < where.captured[1]),
                not where.dayparts or (at is not None and any(in_daypart(at, part) for part in where.dayparts)),
                not where.hours or (at is not None and at.hour in where.hours),
                not where.tags_any or bool(tags & set(where.tags_any)),
                set(where.tags_all) <= tags,
                not tags & set(where.tags_none),
            ]
            return all(tests)

        return np.array([one(i) for i in range(len(self))], np.bool_)


def in_daypart(at: datetime, part: str) -> bool:
    first, last = DAYPARTS[part]
    return first <= at.hour < last if first < last else at.hour >= first or at.hour < last


def assert_answers(
    hits: tuple[Hit, ...],
    flat: Flat,
    query: NDArray[np.floating],
    k: int,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """The hits are the k best frames; which of several that tie is left open."""
    expected = flat.scores(query, k, mask)
    assert len(hits) == len(expected)
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=2e-5)
    ids = [hit.frame_id for hit in hits]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= set((flat.frame_id if mask is None else flat.frame_id[mask]).tolist())
    np.testing.assert_allclose([flat.score_of(query, i) for i in ids], expected, atol=2e-5)


def queries(n: int, dim: int = DIM) -> NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(n, dim)).astype(np.float32)


def segment_files(collection: Collection, name: str) -> list[Path]:
    """The files of this name of all segments, by segment."""
    return sorted(collection.path.glob(f"segments/*/{name}"), key=lambda path: int(path.parent.name))


def flip(path: Path, at: int | None = None) -> None:
    """Change one byte, by default in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 0x55
    path.write_bytes(content)


def assert_ranking(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    reference: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    k: int,
    atol: float = 1e-5,
) -> None:
    """What was found for one query are the k best allowed rows by their reference scores (n,), and nothing after them."""
    expected = np.sort(reference[allowed])[::-1][:k]
    n = len(expected)
    assert (rows >= 0).sum() == n
    assert allowed[rows[:n]].all()
    assert len(set(rows[:n].tolist())) == n
    np.testing.assert_allclose(scores[:n], expected, atol=atol)
    np.testing.assert_allclose(reference[rows[:n]], expected, atol=2 * atol)
    assert (rows[n:] == -1).all()
    assert (scores[n:] == -np.inf).all()


@contextmanager
def snapshot_of(collection: Collection) -> Iterator[Snapshot]:
    """What its readers see now."""
    with collection.reading() as snapshot:
        yield snapshot


def folders(collection: Collection, kind: str = "segments") -> set[str]:
    """Names of the folders that are there."""
    place = collection.path / kind
    return {path.name for path in place.iterdir()} if place.is_dir() else set()


def listed(collection: Collection) -> set[str]:
    """Segments of the newest generation."""
    with snapshot_of(collection) as snapshot:
        return {str(row.segment_id) for row in snapshot.manifest.segments}


def assert_holds(collection: Collection, videos: list[Video], gone: tuple[str, ...] = (), **how: str) -> None:
    """Exactly these videos are found, and every file is sound."""
    flat = Flat.of(videos, gone, **how)
    assert collection.n_frames == len(flat)
    assert_answers(collection.search(queries(1)[0], 1000, exact=True).hits, flat, queries(1)[0], 1000)
    assert collection.check() == []


def contents(collection: Collection) -> dict[str, tuple[int, int, str]]:
    """Inode, time of the last change and hash of every segment file."""
    return {
        str(path.relative_to(collection.path)): (path.stat().st_ino, path.stat().st_mtime_ns, file_hash(path))
        for path in collection.path.glob("segments/*/*")
    }
