"""The contenders of a comparison; each runs in a process of its own (`worker`)."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.collection import Collection
from engine.search import SearchRequest, Trace, float_rows, reading
from engine.storage import ShardView
from engine.system import Progress, drop_page_cache, resident_memory, storage_errors
from engine.types import SEARCHED, QueryKind, RouterName
from engine.vectors import FlatRows, Floats, Rows

ROUTED = ("centroid", "spread", "routed")
"""Contenders that search some shards only, each by a router: `routed` by the one that was fitted to queries."""
SHARDS = "shards"
"""Folder of the naive loop's files, within the folder that the processes of a comparison share."""
CHOOSING = -1
"""In place of a shard number in `ContenderAnswer.steps`: the end of shard selection."""
_UNBOUNDED_CACHE = 1 << 40
"""Bytes; no shard is evicted."""


@dataclass(frozen=True, slots=True)
class ContenderSetting:
    """The width of a contender's search; both None for contenders that scan everything."""

    n_probe: int | None = None
    recall: float | None = None
    """Asked of a calibrated router."""

    def __str__(self) -> str:
        if self.n_probe is not None:
            return f"n_probe {self.n_probe}"
        return "" if self.recall is None else f"recall {self.recall:g}"


@dataclass(frozen=True, slots=True)
class ContenderAnswer:
    """A contender's hits for one query, and their cost."""

    ms: float
    frame_ids: Sequence[int]
    """Best first."""
    shards_total: int
    shards_probed: int
    vectors_scanned: int
    work: int
    """Cells scored plus vectors scanned plus vectors re-scored."""
    bytes_read: int
    """From files."""
    generation: int
    """Of the collection that was searched."""
    router: str = ""
    """How cells were ranked; empty without routing."""
    reason: str = ""
    """Why this width, one sentence."""
    n_probe: int = 0
    expected_recall: float | None = None
    steps: Sequence[tuple[int, float]] = ()
    """(shard, milliseconds since the start of the query at which its search ended), in search order; the rest of the time
    is merging. Empty where shards were searched in parallel."""


class Contender(Protocol):
    """Answers queries (dim,), alone in its process."""

    def open(self, progress: Progress) -> None:
        """Load what queries need."""

    def ask(self, query: Floats, k: int, setting: ContenderSetting) -> ContenderAnswer: ...

    def drop_caches(self) -> None:
        """Empty its caches, and the page cache of its files."""


class PeakMemory:
    """Peak memory of this process above what it started with, over the samples taken."""

    def __init__(self) -> None:
        self._first = resident_memory()
        self._anonymous = self._file = 0

    def sample(self) -> None:
        now = resident_memory()
        if now is not None and self._first is not None:
            self._anonymous = max(self._anonymous, now.anonymous - self._first.anonymous)
            self._file = max(self._file, now.file - self._first.file)

    def peak(self) -> tuple[int | None, int | None]:
        """Take a last sample; anonymous and file-backed bytes, None where the system does not tell."""
        self.sample()
        return (None, None) if self._first is None else (self._anonymous, self._file)


def write_shards(path: Path, folder: Path, progress: Progress) -> None:
    """Write the files of the naive loop: per shard a flat float32 index, and the ids of its frames."""
    done = 0
    with reading(path) as snapshot, storage_errors("writing the files of the naive loop"):
        folder.mkdir()
        for shard in snapshot.shards:
            if not shard.n_live:
                continue
            rows = np.empty((shard.n_live, snapshot.settings.dim), np.float32)
            ids = _gather(shard, rows)
            FlatRows(rows, snapshot.metric).write(folder / f"{shard.shard}.faiss")
            np.save(folder / f"{shard.shard}.npy", ids)
            done += len(ids)
            progress("writing files", done, snapshot.n_live)
        about = {"metric": snapshot.metric, "shards": len(snapshot.shards), "generation": snapshot.generation}
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _gather(shard: ShardView, rows: Floats) -> Rows:
    """Fill rows (n, dim) with the live frames of a shard; returns their ids (n,)."""
    ids, at = np.empty(len(rows), np.int64), 0
    for part_ids, part in float_rows(shard):
        ids[at : at + len(part)], rows[at : at + len(part)] = part_ids, part
        at += len(part)
    return ids


class Naive:
    """The loop of the beginner's guide: read a shard's flat float32 index, scan it, drop it, take the next."""

    def __init__(self, folder: Path, memory: PeakMemory) -> None:
        self._folder = folder
        self._memory = memory
        self._sampled = False

    def open(self, progress: Progress) -> None:
        about = json.loads((self._folder / "about.json").read_text(encoding="utf-8"))
        self._metric, self._total, self._generation = about["metric"], about["shards"], about["generation"]
        files = sorted(self._folder.glob("*.faiss"), key=lambda file: int(file.stem))
        self._shards: list[tuple[Path, Rows]] = [(file, np.load(file.with_suffix(".npy"))) for file in files]

    def ask(self, query: Floats, k: int, setting: ContenderSetting) -> ContenderAnswer:
        started = time.perf_counter()
        ids, scores, n_bytes, steps = [], [], 0, []
        for file, names in self._shards:
            index = FlatRows.read(file, self._metric)
            found = index.search(query[None], k)
            ids.append(names[found.rows[0]])
            scores.append(found.scores[0])
            if not self._sampled:  # Memory is highest with a shard loaded.
                self._memory.sample()
            del index
            n_bytes += file.stat().st_size
            steps.append((int(file.stem), (time.perf_counter() - started) * 1e3))
        best = np.argsort(-np.concatenate(scores), kind="stable")[:k]
        hits = np.concatenate(ids)[best].tolist()
        ms = (time.perf_counter() - started) * 1e3
        self._sampled = True
        n = sum(len(names) for _, names in self._shards)
        total, opened = self._total, len(self._shards)
        return ContenderAnswer(ms, hits, total, opened, n, n, n_bytes, self._generation, steps=steps)

    def drop_caches(self) -> None:
        drop_page_cache(self._folder)


class RamFlat:
    """One flat float32 index of everything, in memory: the fastest full scan, and the most memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, progress: Progress) -> None:
        with reading(self._path) as snapshot:
            self._generation, n, done = snapshot.generation, snapshot.n_live, 0
            self._rows, ids = np.empty((n, snapshot.settings.dim), np.float32), [np.empty(0, np.int64)]
            for shard in snapshot.shards:
                ids.append(_gather(shard, self._rows[done : done + shard.n_live]))
                done += shard.n_live
                progress("reading vectors", done, n)
            self._ids = np.concatenate(ids)
            self._index = FlatRows(self._rows, snapshot.metric)

    def ask(self, query: Floats, k: int, setting: ContenderSetting) -> ContenderAnswer:
        started = time.perf_counter()
        found = self._index.search(query[None], k)
        hits = self._ids[found.rows[0]].tolist()
        ms = (time.perf_counter() - started) * 1e3
        n = len(self._ids)
        return ContenderAnswer(ms, hits, 1, 1, n, n, 0, self._generation, steps=[(0, ms)])

    def drop_caches(self) -> None:
        """All is in memory of its own; nothing is read from files again."""


class CollectionContender:
    """A search of the collection: exact, or by one of its routers."""

    def __init__(self, path: Path, name: str, kind: QueryKind, threads: int) -> None:
        self._path = path
        self._name = name
        self._kind = kind
        self._threads = threads

    def open(self, progress: Progress) -> None:
        self._collection = Collection.open(self._path, cache_bytes=_UNBOUNDED_CACHE, workers=self._threads)

    def ask(self, query: Floats, k: int, setting: ContenderSetting) -> ContenderAnswer:
        request = search_request(self._name, self._kind, k, setting)
        started = time.perf_counter()
        result = self._collection.searcher.search(query, request)
        ms = (time.perf_counter() - started) * 1e3
        trace = result.trace
        return ContenderAnswer(
            ms,
            [hit.frame_id for hit in result.hits],
            trace.shards_total,
            trace.shards_probed,
            trace.vectors_scanned,
            trace.cells_scored + trace.vectors_scanned + trace.vectors_rescored,
            trace.bytes_read,
            trace.generation,
            trace.router,
            trace.reason,
            trace.n_probe,
            trace.expected_recall,
            steps_of(trace, ms),
        )

    def drop_caches(self) -> None:
        self._collection.cache.drop(lambda key: False)
        gc.collect()
        drop_page_cache(self._path)


def steps_of(trace: Trace, ms: float) -> list[tuple[int, float]]:
    """`ContenderAnswer.steps` of a search that took `ms` milliseconds, from the times of its trace."""
    if trace.workers > 1:
        return []
    at = ms - trace.ms["total"] + trace.ms["filter"] + trace.ms["route"]
    steps = [(CHOOSING, at)]
    for shard in trace.shards:
        if shard.state in SEARCHED:
            at = min(ms, at + shard.ms)
            steps.append((shard.shard, at))
    return steps


def search_request(name: str, kind: QueryKind, k: int, setting: ContenderSetting) -> SearchRequest:
    """The search of a contender.

    With a recall, and for images, `routed` leaves the choice of the router to the collection.
    """
    if name == "exact":
        return SearchRequest(k, exact=True)
    routers: dict[str, RouterName] = {"centroid": "centroid", "spread": "spread"}
    router = routers.get(name)
    if setting.recall is not None:
        return SearchRequest(k, recall=setting.recall, kind=kind, router=router)
    if name == "routed" and kind == "text":
        router = "learned"
    return SearchRequest(k, n_probe=setting.n_probe, kind=kind, router=router)


def make_contender(name: str, path: Path, folder: Path, kind: QueryKind, threads: int, memory: PeakMemory) -> Contender:
    """Make a contender by its name; it is not opened yet.

    Parameters
    ----------
    folder : shared by the processes of the comparison
    """
    if name == "naive":
        return Naive(folder / SHARDS, memory)
    if name == "ram_flat":
        return RamFlat(path)
    return CollectionContender(path, name, kind, threads)


CONTENDER_NAMES = ("naive", "ram_flat", "exact", *ROUTED)
