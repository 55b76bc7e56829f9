"""Bringing together what the shards found, with exact scores taken once for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.search.execute import FAULTS, Depth, Part, Task, failure
from engine.storage import Segment
from engine.vectors import Floats, Found, Metric, Rows, lists

RESCORE = {"sq8": 20, "fp16": 20, "fp32": 10, "sq4": 200}
"""Candidates re-scored exactly at the least, by codec: what the codes may have misordered around k = 10."""


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
    while True:
        pieces = [
            (task, part, part.found, _places(part.which, len(queries)))
            for task in tasks
            if task.error is None
            for part in task.parts
            if part.found is not None and part.found.rows.shape[1]
        ]
        ranked = [_best(pieces, i, queries[i : i + 1], depth, metric) for i in range(len(queries))]
        found = [each for each in ranked if each is not None]
        if len(found) == len(ranked):
            return Merged(
                sources=tuple((task.shard.shard, part.segment) for task, part, _, _ in pieces),
                scores=[each.scores for each in found],
                pieces=[each.pieces for each in found],
                rows=[each.rows for each in found],
                rescored=np.array([each.rescored for each in found], np.int64),
            )


_Piece = tuple[Task, Part, Found, Rows]
"""What a segment found, and the place of each query in it."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The best rows of one query."""

    scores: Floats
    pieces: Rows
    rows: Rows
    rescored: int


def _places(which: Rows, m: int) -> Rows:
    """(m,) place of each query among those that want something of a segment; -1 for none."""
    places = np.full(m, -1, np.int64)
    places[which] = np.arange(len(which))
    return places


def _best(pieces: Sequence[_Piece], i: int, query: Floats, depth: Depth, metric: Metric) -> _Ranked | None:
    """The best rows of query i; None if a shard failed on the way."""
    mine = [(number, piece, int(piece[3][i])) for number, piece in enumerate(pieces) if piece[3][i] >= 0]
    if not mine:
        return _Ranked(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64), 0)
    scores = np.concatenate([found.scores[place] for _, (_, _, found, _), place in mine])
    rows = np.concatenate([found.rows[place] for _, (_, _, found, _), place in mine])
    starts = np.cumsum([0, *(found.rows.shape[1] for _, (_, _, found, _), _ in mine)])
    coded = any(not found.exact for _, (_, _, found, _), _ in mine)
    wanted = depth.coded if coded else depth.exact
    keep = np.arange(len(rows)) if wanted >= len(rows) else np.sort(np.argpartition(-scores, wanted - 1)[:wanted])
    keep = keep[rows[keep] >= 0]
    scores, rows = scores[keep], rows[keep]
    bounds: list[int] = np.searchsorted(keep, starts).tolist()
    # Of each piece, what was kept stands together.
    parts = [
        (number, piece, slice(start, stop))
        for (number, piece, _), start, stop in zip(mine, bounds, bounds[1:], strict=False)
        if start < stop
    ]
    coarse = [(task, part.segment, some) for _, (task, part, found, _), some in parts if not found.exact]
    if coarse and not _rescore(coarse, query, scores, rows, metric):
        return None
    ids, piece_of = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for number, (_, part, _, _), some in parts:
        ids[some] = part.segment.columns.frame_id[rows[some]]
        piece_of[some] = number
    order = np.lexsort((ids, -scores))[: depth.exact]
    return _Ranked(scores[order], piece_of[order], rows[order], sum(some.stop - some.start for _, _, some in coarse))


def _rescore(
    coarse: Sequence[tuple[Task, Segment, slice]], query: Floats, scores: Floats, rows: Rows, metric: Metric
) -> bool:
    """Replace scores from codes by exact ones, in place; False if a shard failed on the way."""
    sound = True
    vectors: list[NDArray[np.floating]] = []
    for step in (Segment.ask_for, Segment.stored):  # All are asked for before the first is waited for.
        for task, segment, some in coarse:
            try:
                read = step(segment, rows[some])
            except FAULTS as error:
                task.error, sound = failure(task.shard, segment, error), False
                continue
            if read is not None:
                vectors.append(read)
    if sound:
        exact = lists.exact_scores(query, vectors[0] if len(vectors) == 1 else np.concatenate(vectors), metric)
        start = 0
        for _, _, some in coarse:
            n = some.stop - some.start
            scores[some] = exact[start : start + n]
            start += n
    return sound
