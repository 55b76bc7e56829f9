"""What may go wrong with storage, done on purpose to a small collection, and what must stand afterwards.

The campaigns are in `outages` (power cuts, full disks), `damages` and `crowds` (kills, readers beside a writer); each
returns a `Tally`. What a collection should hold is kept beside it in plain Python (`Model`), and answers
are worked out by brute force, without the engine. A state that is neither the old nor the new one, damage that nobody
notices, or an answer that belongs to no generation raises `Lost`, or is counted as lost where the campaign goes on.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import numpy as np

from engine.collection import Collection
from engine.errors import StorageFull
from engine.frames import FrameTable
from engine.search import pipeline
from engine.storage.catalog import Catalog, Change
from engine.storage.limits import limited
from engine.storage.staged import staged_folders
from engine.types import FrameBatch, Hit
from engine.vectors import one_thread
from testing.powercut import PAGE
from testing.worlds import DIM, Video, make_video, queries

SMALL = {"coded_from": 24, "small_segment": 24, "segment_nbytes": 960, "portion": 20, "merge_at": 4}
"""Limits at which a few hundred frames go through everything that millions do: codes, several segments a shard, portions. Every candidate is
scored exactly: codes that were trained on some dozen frames misorder later ones, and a routed answer must be right to be compared."""
QUERIES = queries(4)
BANK = queries(40)[4:]
"""Queries that routers are fitted on."""
EVERYTHING = 100_000


class Lost(AssertionError):
    """Storage did what it must never do."""


@dataclass
class Tally:
    """What a campaign tried and what became of it."""

    what: str
    tried: int = 0
    old: int = 0
    """Times that the state before was found."""
    new: int = 0
    """Times that the state after was found."""
    by_check: int = 0
    """Damages that `check` told of."""
    by_use: int = 0
    """Damages that a search or a look-up refused to pass over."""
    harmless: int = 0
    """Damages after which content and answers were the same."""
    refused: int = 0
    """Attacks that were answered with one sentence, and changed nothing."""
    lost: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def miss(self, note: str) -> None:
        self.lost += 1
        self.notes.append(note)

    def named_notes(self) -> list[str]:
        """The notes, each with the name of the campaign."""
        return [note if note.startswith(self.what) else f"{self.what}: {note}" for note in self.notes]


@contextmanager
def timed(tally: Tally) -> Iterator[Tally]:
    started = time.perf_counter()
    yield tally
    tally.seconds += time.perf_counter() - started


@contextmanager
def small() -> Iterator[None]:
    """Shrink the limits meanwhile, and score all candidates again, so that routed answers are exact."""
    with limited(**SMALL), mock.patch.object(pipeline, "rerank_depth", lambda codec, k: max(k, 10_000)):
        yield


@contextmanager
def waiting_for_no_disk() -> Iterator[None]:
    """Let SQLite leave out its syncs meanwhile, where no power is cut."""
    real = Catalog.__init__

    def quick(self: Catalog, path: Path) -> None:
        real(self, path)
        self._db.execute("PRAGMA synchronous = OFF")

    with mock.patch.object(Catalog, "__init__", quick):
        yield


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder for a while, in memory where the system has a place for that: thousands of small files come and go."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def _no_sync(handle: int) -> None:
    """Where processes are killed and no power is cut, what was written is written."""


@contextmanager
def small_world() -> Iterator[tuple[Path, Model, Path]]:
    """A small collection, its model, and an empty folder for copies of it. Meanwhile limits are small and nothing waits for the disk."""
    with quick_folder() as folder, small(), one_thread(), mock.patch.object(os, "fsync", _no_sync):
        model = make_world(folder / "base")
        (folder / "work").mkdir()
        yield folder / "base", model, folder / "work"


def pictured(number: int, n: int, **told: object) -> Video:
    """A video with a thumbnail per frame."""
    new, frames = make_video(number, n, **told)
    return new, replace(frames, thumbnails=tuple(b"picture %d of %d" % (i, number) for i in range(n)))


# What a collection should hold


class Model:
    """The live frames of a collection by what was done to it."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        """First frame id of each video."""
        self.videos: dict[str, Video] = {}
        self.next_id = 0
        self._known: GroundTruth | None = None

    def copy(self) -> Model:
        other = Model()
        other.first, other.videos, other.next_id = dict(self.first), dict(self.videos), self.next_id
        return other

    def add(self, *videos: Video) -> Model:
        for new, frames in videos:
            self.videos[new.video_id] = new, frames
            self.first[new.video_id] = self.next_id
            self.next_id += len(frames)
        self._known = None
        return self

    def delete(self, video_id: str) -> Model:
        del self.videos[video_id], self.first[video_id]
        self._known = None
        return self

    def tag(self, video_id: str, tags: tuple[str, ...]) -> Model:
        """Give every frame of a video these tags, instead of its own."""
        new, frames = self.videos[video_id]
        self.videos[video_id] = new, replace(frames, tags=(tags,) * len(frames))
        self._known = None
        return self

    @property
    def truth(self) -> GroundTruth:
        if self._known is None:
            self._known = GroundTruth(self)
        return self._known


class GroundTruth:
    """The right answers to `QUERIES`, and what every frame is."""

    def __init__(self, model: Model) -> None:
        ids, rows = [], []
        self.frames: dict[int, tuple[object, ...]] = {}
        for name, (_, frames) in model.videos.items():
            first = model.first[name]
            ids.append(np.arange(first, first + len(frames)))
            vectors = frames.vectors.astype(np.float64)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            rows.append(vectors.astype(np.float32).astype(np.float16).astype(np.float32))
            for i in range(len(frames)):
                tags = tuple(sorted(frames.tags[i])) if frames.tags else ()
                self.frames[first + i] = (name, int(frames.frame_index[i]), float(frames.seconds[i]), tags)
        self.ids = np.concatenate(ids) if ids else np.empty(0, np.int64)
        unit = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
        self.scores = unit @ (np.concatenate(rows) if rows else np.empty((0, DIM), np.float32)).T
        self.n = len(self.ids)

    def wrong(self, query: int, hits: Sequence[Hit], k: int, only: frozenset[int] | None = None) -> str | None:
        """What is wrong with an answer to one of the queries; `only` of these frames is asked for."""
        told = [(hit.frame_id, hit.score, (hit.video_id, hit.frame_index, hit.seconds, hit.tags)) for hit in hits]
        return self.wrong_row(query, told, k, only)

    def wrong_row(
        self,
        query: int,
        hits: Sequence[tuple[int, float, tuple[object, ...] | None]],
        k: int,
        only: frozenset[int] | None = None,
    ) -> str | None:
        scores = dict(zip(self.ids.tolist(), self.scores[query].tolist(), strict=True))
        if only is not None:
            scores = {i: score for i, score in scores.items() if i in only}
        expected = sorted(scores.values(), reverse=True)[:k]
        if len(hits) != len(expected):
            return f"{len(hits)} hits instead of {len(expected)}"
        if len({i for i, _, _ in hits}) != len(hits):
            return "a frame twice"
        for (i, score, told), right in zip(hits, expected, strict=True):
            if i not in scores:
                return f"frame {i}, which is not there"
            if abs(score - right) > 2e-5 or abs(scores[i] - right) > 2e-5:
                return f"frame {i} with {score}, which has {scores[i]}, where {right} belongs"
            if told is not None and told != self.frames[i]:
                return f"frame {i} is told to be {told}, not {self.frames[i]}"
        return None


def folders(collection: Collection) -> dict[str, set[str]]:
    """What lies in the folders that the writer sweeps."""
    places = {kind: collection.path / kind for kind in ("segments", "cells", "routers", "media")}
    return {
        kind: {each.name for each in place.iterdir()} if place.is_dir() else set() for kind, place in places.items()
    }


def unlisted(collection: Collection) -> list[str]:
    """Folders that neither the newest generation nor a stopped build lists."""
    with collection.reading() as snapshot:
        manifest = snapshot.manifest
    staged = staged_folders(collection.path, manifest.generation)  # A stopped build goes on with these.
    listed = {
        "segments": {str(row.segment_id) for row in manifest.segments},
        "cells": set() if manifest.cells is None else {str(manifest.cells.cells_id)},
        "routers": set() if manifest.router is None else {str(manifest.router.router_id)},
        "media": {str(row.number) for row in manifest.videos},
    }
    return [
        f"{kind}/{name}"
        for kind, found in folders(collection).items()
        for name in sorted(found - listed[kind] - staged.get(kind, set()))
    ]


def verify(collection: Collection, model: Model, *, swept: bool = False) -> None:
    """Raise `Lost` unless the collection holds exactly what the model does, sound to the last byte."""
    truth = model.truth
    names = [info.video_id for info in collection.videos()]
    if set(names) != set(model.videos) or len(names) != len(model.videos):
        raise Lost(f"the videos are {names}, not {list(model.videos)}")
    if collection.n_frames != truth.n:
        raise Lost(f"{collection.n_frames} frames, not {truth.n}")
    for q, exact in ((0, True), (1, False)):
        probes = {} if exact else {"n_probe": EVERYTHING}
        wrong = truth.wrong(q, collection.search(QUERIES[q], 1000, exact=exact, **probes).hits, 1000)
        if wrong:
            raise Lost(f"the {'exact' if exact else 'routed'} answer is wrong: {wrong}")
    found = collection.check()
    if found:
        raise Lost(f"check tells of {found}")
    if swept and (left := unlisted(collection)):
        raise Lost(f"{left} lies there although nothing lists it")


# A small world, and what is done to it


def make_world(path: Path) -> Model:
    """A built collection with codes, a router, pictures, deleted frames, and so many small segments that the next add merges.

    Each video that is added is more than a fiftieth of it, so the router takes it in.
    """
    model = Model()
    first = [pictured(1, 8), *(make_video(i, 28) for i in range(2, 9))]
    late = [pictured(10, 5), *(make_video(i, 15) for i in range(11, 14))]
    real = Catalog.__init__

    def fine_grained(self: Catalog, where: Path) -> None:
        real(self, where)
        if not self._one("SELECT count(*) FROM sqlite_master")[0]:  # type: ignore[index]
            self._db.execute(f"PRAGMA page_size = {PAGE}")

    with (
        mock.patch.object(Catalog, "__init__", fine_grained),
        Collection.create(path, dim=DIM, n_shards=3, n_cells=8, route="routed") as collection,
    ):
        collection.store([new for new, _ in first], [placed(i, frames) for i, (_, frames) in enumerate(first)])
        collection.build(queries=BANK)
        collection.delete("v3")
        for video in late:
            collection.add(*video)
    model.add(*first).delete("v3")
    model.add(*late)
    return model


def placed(place: int, frames: FrameBatch) -> FrameBatch:
    """Frames of the video that stands at this place in a list of several."""
    return replace(frames, video=np.full(len(frames), place, np.int32))


@dataclass(frozen=True)
class Operation:
    """A change, and what it makes of a model."""

    do: Callable[[Collection], object]
    expect: Callable[[Model], Model] = lambda model: model


_MANY = [pictured(40, 9), *(make_video(i, 11) for i in range(41, 45))]


def _store_many(collection: Collection) -> None:
    collection.store([new for new, _ in _MANY], [placed(i, frames) for i, (_, frames) in enumerate(_MANY)])


def update_some(collection: Collection) -> None:
    """Give two videos other tags, and one of them another title."""
    table = FrameTable(
        video_ids=("v1", "v11"),
        titles=("New", ""),
        video=np.array([0, 1], np.int32),
        frame_index=np.zeros(2, np.int64),
        seconds=np.zeros(2),
        captured_at=None,
        shot=None,
        tag_names=("seen:yes",),
        tag=np.zeros(2, np.int32),
        tag_start=np.arange(3),
        tag_given=np.ones(2, np.bool_),
        facts=({}, {"author": "Lan"}),
        columns=frozenset(("video_id", "title", "tags", "about:author")),
        unknown=(),
    )
    with collection.writing() as writer:
        writer.update(table)


def merge_all(collection: Collection) -> None:
    """Merge all small segments."""
    with collection.writing() as held:
        held.maintenance.merge(everything=True)


def _add_after_failure(collection: Collection) -> None:
    """A failed build leaves folders whose numbers the next addition uses again."""
    full = StorageFull("The disk is full.")
    with mock.patch.object(Change, "commit_generation", side_effect=full), suppress(StorageFull):
        collection.build(n_cells=6, n_shards=4)
    collection.add(*pictured(30, 12))


OPERATIONS = {
    "add": Operation(lambda c: c.add(*pictured(30, 12)), lambda m: m.add(pictured(30, 12))),
    "store of many": Operation(_store_many, lambda m: m.add(*_MANY)),
    "delete": Operation(lambda c: c.delete("v1"), lambda m: m.delete("v1")),
    "update": Operation(update_some, lambda m: m.tag("v1", ("seen:yes",)).tag("v11", ("seen:yes",))),
    "compact": Operation(lambda c: c.compact()),
    "reshard": Operation(lambda c: c.reshard(n_shards=2)),
    "build": Operation(lambda c: c.build(n_cells=6, n_shards=4)),
    "build on other queries": Operation(lambda c: c.build(queries=-BANK)),
    "merge": Operation(merge_all),
    "add after a failed build": Operation(_add_after_failure, lambda m: m.add(pictured(30, 12))),
}


@contextmanager
def copied(base: Path, path: Path) -> Iterator[Path]:
    """A copy of a collection, for a while."""
    shutil.copytree(base, path)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def one_sentence(error: BaseException) -> bool:
    """Whether a message is fit for display."""
    text = str(error)
    return bool(text) and "\n" not in text and text.endswith((".", ")")) and "Traceback" not in text
