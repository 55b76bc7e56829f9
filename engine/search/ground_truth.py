"""Exact answers to hold others against: every stored row as float32, compared with every query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.storage import ByteLRU, Catalog, Generations, ShardView, Snapshot, place_of
from engine.system import Progress
from engine.vectors import FlatRows, Floats, Rows, startable_threads

TIES = 64
"""Frames looked at beyond the k best, so that those as good as the last of these count as well; more where all of them are as good."""
_MOST_TIES = 1 << 24
"""Frames kept in all for queries with more ties than that."""
_STEP = 4096
"""Rows taken at a time: what the system keeps of freed memory stays small."""
_DIRECT = 16
"""Queries at a time for `l2`: FAISS takes differences for so few, and for more the formula that cancels."""
_TOLERANCE = 1e-5
"""By how much scores differ that differ by rounding only: absolute for `ip`, where they are cosines, relative for `l2`."""


@contextmanager
def reading(path: Path) -> Iterator[Snapshot]:
    """The newest generation of a collection, without the means to search it.

    Raises
    ------
    NotACollection
        If there is none in this folder.
    """
    path = place_of(path)
    catalog = Catalog.open(path / "catalog.sqlite")
    try:
        generations = Generations(path, catalog, ByteLRU(0))
        try:
            with generations.reading() as snapshot, startable_threads():
                yield snapshot
        finally:
            generations.close()
    finally:
        catalog.close()


def float_rows(shard: ShardView) -> Iterator[tuple[Rows, Floats]]:
    """The live frames of a shard in steps: frame ids (n,) and their rows (n, dim)."""
    for view in shard.segments:
        if not view.n_live:
            continue
        live, ids = view.live_rows(), view.segment.columns.frame_id
        for start in range(0, len(live), _STEP):
            rows = live[start : start + _STEP]
            yield np.asarray(ids[rows]), view.segment.gather(rows)


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The best frames for m queries, best first."""

    ids: Rows
    """(m, k + TIES), fewer where there are fewer frames; wider where more frames tie with the k-th, and -1 where a query has fewer."""
    scores: Floats
    k: int
    metric: str

    @classmethod
    def of(cls, snapshot: Snapshot, queries: Floats, k: int, progress: Progress) -> GroundTruth:
        """Compare every query (m, dim) with every live frame, and again where more frames tie with the k-th best than were kept."""
        ids, scores = _best(snapshot, queries, k + TIES, progress)
        while True:
            truth = cls(ids, scores, k, snapshot.metric)
            cut = np.flatnonzero(truth.all_right()[:, -1])
            depth = ids.shape[1]
            deeper = min(8 * depth, snapshot.n_live, _MOST_TIES // max(1, len(cut)))
            if not len(cut) or deeper <= depth:
                return truth
            more = (len(queries), deeper - depth)
            ids = np.hstack([ids, np.full(more, -1, np.int64)])
            scores = np.hstack([scores, np.full(more, -np.inf, np.float32)])
            ids[cut], scores[cut] = _best(snapshot, queries[cut], deeper, progress)

    def right(self, i: int) -> tuple[int, ...]:
        """Ids of the k best for query i, best first, then of those as good as the last of them, which are as right."""
        k = min(self.k, len(self.ids[i]))
        last = float(self.scores[i, k - 1])
        least = last - tolerance(last, self.metric)
        return tuple(self.ids[i, self.scores[i] >= least].tolist())

    def all_right(self) -> NDArray[np.bool_]:
        """The same for all queries at once: which of `ids` are right."""
        last = self.scores[:, min(self.k, self.scores.shape[1]) - 1, None]
        least = last - np.array([[tolerance(float(score), self.metric)] for score in last[:, 0]], np.float32)
        right: NDArray[np.bool_] = self.scores >= least
        return right

    def recall(self, i: int, found: Sequence[int]) -> float:
        """Share of the k best that were found for query i; a frame as good as the last of them is as right."""
        k = min(self.k, len(self.ids[i]))
        return min(k, len(set(self.right(i)).intersection(found))) / k


def _best(snapshot: Snapshot, queries: Floats, depth: int, progress: Progress) -> tuple[Rows, Floats]:
    m, done = len(queries), 0
    ids, scores = np.empty((m, 0), np.int64), np.empty((m, 0), np.float32)
    at_once = m if snapshot.metric == "ip" else _DIRECT
    for shard in snapshot.shards:
        for some, rows in float_rows(shard):
            flat = FlatRows(rows, snapshot.metric)
            best = [flat.search(queries[i : i + at_once], depth) for i in range(0, m, at_once)]
            ids = np.hstack([ids, some[np.concatenate([part.rows for part in best])]])
            scores = np.hstack([scores, np.concatenate([part.scores for part in best])])
            order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
            ids, scores = np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
            done += len(some)
            progress("comparing every frame", done, snapshot.n_live)
    return ids, scores


def tolerance(score: float, metric: str) -> float:
    """By how much a score may differ from this one and still be as good."""
    return _TOLERANCE * (1.0 if metric == "ip" else abs(score))
