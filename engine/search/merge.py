"""Merging what the shards gave, with exact scores taken once for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.errors import ShardFailed
from engine.search.execute import Depth, ShardAnswer
from engine.search.failures import FAULTS, shard_failure
from engine.storage import Segment
from engine.vectors import Floats, Metric, RowHits, Rows, exact_scores

RERANKED = {"sq8": 20, "fp16": 20, "fp32": 10, "sq4": 50}
"""Rows that are scored exactly at the least, by codec: what the codes may have misordered around k = 10."""


def rerank_depth(codec: str, k: int) -> int:
    """Rows to score exactly, the best by their codes, for k hits."""
    return max(k, min(RERANKED[codec] * math.ceil(k / 10), 10 * k))


@dataclass(frozen=True, slots=True)
class Merged:
    """The best rows of each query over all shards, by falling exact score, ties by frame id."""

    answers: list[ShardAnswer]
    """As they were given; with the error where a shard's stored rows could not be read."""
    sources: tuple[tuple[int, Segment], ...]
    """Shard and segment of each piece."""
    scores: list[Floats]
    pieces: list[Rows]
    """Place among `sources` of each row."""
    rows: list[Rows]
    reranked: Rows
    """(m,) rows whose score from codes was replaced."""


def merge(answers: Sequence[ShardAnswer], queries: Floats, depth: Depth, metric: Metric) -> Merged:
    """The `depth.exact` best rows per query.

    A shard whose stored rows cannot be read fails here, and the others are merged without it.
    """
    sound = list(answers)
    while True:
        pieces = [
            _Piece(number, answer, probe.segment, found, _places(probe.which, len(queries)))
            for number, answer in enumerate(sound)
            if answer.error is None
            for probe, found in zip(answer.probes, answer.found, strict=True)
            if found.rows.shape[1]
        ]
        try:
            ranked = [_best(pieces, i, queries[i : i + 1], depth, metric) for i in range(len(queries))]
        except _Unreadable as unreadable:
            for number, failure in unreadable.failures.items():
                sound[number] = replace(sound[number], error=failure)
            continue
        return Merged(
            answers=sound,
            sources=tuple((piece.answer.shard.shard, piece.segment) for piece in pieces),
            scores=[best.scores for best in ranked],
            pieces=[best.pieces for best in ranked],
            rows=[best.rows for best in ranked],
            reranked=np.array([best.reranked for best in ranked], np.int64),
        )


@dataclass(frozen=True, slots=True)
class _Piece:
    number: int
    """Of the shard's answer."""
    answer: ShardAnswer
    segment: Segment
    found: RowHits
    places: Rows
    """(m,) place of each query among those that want something of the segment; -1 for none."""


class _Unreadable(Exception):
    """Stored rows of some shards could not be read."""

    def __init__(self, failures: dict[int, ShardFailed]) -> None:
        self.failures = failures
        """By number of the answer."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    scores: Floats
    pieces: Rows
    rows: Rows
    reranked: int


def _places(which: Rows, m: int) -> Rows:
    places = np.full(m, -1, np.int64)
    places[which] = np.arange(len(which))
    return places


def _best(pieces: Sequence[_Piece], i: int, query: Floats, depth: Depth, metric: Metric) -> _Ranked:
    mine = [(number, piece, int(piece.places[i])) for number, piece in enumerate(pieces) if piece.places[i] >= 0]
    if not mine:
        return _Ranked(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64), 0)
    scores = np.concatenate([piece.found.scores[place] for _, piece, place in mine])
    rows = np.concatenate([piece.found.rows[place] for _, piece, place in mine])
    starts = np.cumsum([0, *(piece.found.rows.shape[1] for _, piece, _ in mine)])
    coded = any(not piece.found.exact for _, piece, _ in mine)
    wanted = depth.coded if coded else depth.exact
    keep = np.arange(len(rows)) if wanted >= len(rows) else np.sort(np.argpartition(-scores, wanted - 1)[:wanted])
    keep = keep[rows[keep] >= 0]
    scores, rows = scores[keep], rows[keep]
    bounds: list[int] = np.searchsorted(keep, starts).tolist()
    # Of each piece, what was kept stands together.
    kept = [
        (number, piece, slice(start, stop))
        for (number, piece, _), start, stop in zip(mine, bounds, bounds[1:], strict=False)
        if start < stop
    ]
    coarse = [(piece, some) for _, piece, some in kept if not piece.found.exact]
    if coarse:
        _rerank(coarse, query, scores, rows, metric)
    ids, piece_of = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for number, piece, some in kept:
        ids[some] = piece.segment.columns.frame_id[rows[some]]
        piece_of[some] = number
    order = np.lexsort((ids, -scores))[: depth.exact]
    return _Ranked(scores[order], piece_of[order], rows[order], sum(some.stop - some.start for _, some in coarse))


def _rerank(coarse: Sequence[tuple[_Piece, slice]], query: Floats, scores: Floats, rows: Rows, metric: Metric) -> None:
    """Replace scores from codes by exact ones, in place.

    Raises
    ------
    _Unreadable
        If stored rows cannot be read.
    """
    failures: dict[int, ShardFailed] = {}
    vectors: list[NDArray[np.floating]] = []
    for step in (Segment.ask_for, Segment.stored):  # All are asked for before the first is waited for.
        for piece, some in coarse:
            try:
                read = step(piece.segment, rows[some])
            except FAULTS as fault:
                failures[piece.number] = shard_failure(piece.answer.shard, piece.segment, fault)
                continue
            if read is not None:
                vectors.append(read)
    if failures:
        raise _Unreadable(failures)
    exact = exact_scores(query, vectors[0] if len(vectors) == 1 else np.concatenate(vectors), metric)
    start = 0
    for _, some in coarse:
        n = some.stop - some.start
        scores[some] = exact[start : start + n]
        start += n
