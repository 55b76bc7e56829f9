"""Bringing together what the shards found, with exact scores taken once for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import vectorindex
from engine.errors import EngineError
from engine.probe import Depth, Part, Task, failure
from engine.segment import Segment
from engine.vectorindex import Floats, Metric, Rows

RESCORE = {"sq8": 50, "fp16": 50, "fp32": 10, "sq4": 200}
"""Candidates re-scored exactly at the least, by codec: what the codes may have misordered around k = 10."""
_PAIRS = 4096


def rescore_depth(codec: str, k: int) -> int:
    """Candidates to re-score for k hits."""
    return max(k, min(RESCORE[codec] * math.ceil(k / 10), 10 * k))


@dataclass(frozen=True, slots=True)
class Merged:
    """The best rows of each query over all shards, by falling exact score, ties by frame id."""

    sources: tuple[tuple[int, Segment], ...]
    """Shard and segment of each piece."""
    scores: list[Floats]
    pieces: list[Rows]
    """Place among `sources` of each row."""
    rows: list[Rows]
    rescored: Rows
    """(m,) rows whose score from codes was replaced."""


def merge(tasks: Sequence[Task], queries: Floats, depth: Depth, metric: Metric) -> Merged:
    """The `depth.exact` best rows per query.

    A shard whose stored rows cannot be read fails here, and the others are merged without it.
    """
    m = len(queries)
    pieces = [
        (task, part)
        for task in tasks
        if task.error is None
        for part in task.parts
        if part.found is not None and part.found.rows.shape[1]
    ]
    widths = [part.found.rows.shape[1] for _, part in pieces if part.found is not None]
    scores = np.full((m, sum(widths)), -np.inf, np.float32)
    rows = np.full((m, sum(widths)), -1, np.int64)
    piece_of = np.repeat(np.arange(len(pieces)), widths)
    start = 0
    for (_, part), width in zip(pieces, widths, strict=True):
        assert part.found is not None
        scores[part.which, start : start + width] = part.found.scores
        rows[part.which, start : start + width] = part.found.rows
        start += width
    coded = np.array([part.found is not None and not part.found.exact for _, part in pieces], np.bool_)
    keep = _largest(scores, depth.coded if coded.any() else depth.exact)
    scores, rows = np.take_along_axis(scores, keep, 1), np.take_along_axis(rows, keep, 1)
    pieces_kept = piece_of[keep] if len(pieces) else keep
    valid = rows >= 0
    rescored = np.zeros(m, np.int64)
    ids = np.zeros(rows.shape, np.int64)
    if coded.any():
        again = valid & coded[pieces_kept]
        failed = _rescore(pieces, queries, scores, rows, pieces_kept, again, metric)
        if failed:
            return merge(tasks, queries, depth, metric)
        rescored = again.sum(axis=1)
    for i in np.unique(pieces_kept[valid]).tolist():
        mine = valid & (pieces_kept == i)
        ids[mine] = pieces[i][1].segment.columns.frame_id[rows[mine]]
    order = [np.lexsort((ids[i], -scores[i]))[: min(depth.exact, int(valid[i].sum()))] for i in range(m)]
    return Merged(
        sources=tuple((task.shard.shard, part.segment) for task, part in pieces),
        scores=[scores[i][each] for i, each in enumerate(order)],
        pieces=[pieces_kept[i][each] for i, each in enumerate(order)],
        rows=[rows[i][each] for i, each in enumerate(order)],
        rescored=rescored,
    )


def _largest(scores: Floats, n: int) -> Rows:
    """Positions (m, n) of the n largest scores in each row, in any order."""
    if n >= scores.shape[1]:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(-scores, n - 1, axis=1)[:, :n]


def _rescore(
    pieces: Sequence[tuple[Task, Part]],
    queries: Floats,
    scores: Floats,
    rows: Rows,
    piece_of: Rows,
    again: NDArray[np.bool_],
    metric: Metric,
) -> bool:
    """Replace scores from codes by exact ones, in place; True if a shard failed on the way."""
    picked: list[tuple[int, Segment, NDArray[np.bool_], Rows]] = []
    for i in np.unique(piece_of[again]).tolist():
        mine = again & (piece_of == i)
        segment = pieces[i][1].segment
        picked.append((i, segment, mine, rows[mine]))
    failed = False
    for i, segment, _, wanted in picked:
        try:
            segment.ask_for(wanted)
        except (EngineError, OSError) as error:
            pieces[i][0].error, failed = failure(pieces[i][0].shard, segment, error), True
    for i, segment, mine, wanted in picked:
        try:
            vectors = segment.gather(wanted)
        except (EngineError, OSError) as error:
            pieces[i][0].error, failed = failure(pieces[i][0].shard, segment, error), True
            continue
        query_of = np.nonzero(mine)[0]
        scores[mine] = pair_scores(queries, query_of, vectors, metric)
    return failed


def pair_scores(queries: Floats, query_of: Rows, vectors: Floats, metric: Metric) -> Floats:
    """Scores (n,) of each vector (n, dim) for its own query."""
    if len(queries) == 1:
        return vectorindex.scores_of(queries[0], vectors, metric)
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _PAIRS):
        step = slice(start, start + _PAIRS)
        mine = queries[query_of[step]]
        found[step] = (
            np.einsum("nd,nd->n", mine, vectors[step])
            if metric == "ip"
            else -np.einsum("nd,nd->n", mine - vectors[step], mine - vectors[step])
        )
    return found
