"""Merging what the shards gave, with exact scores taken once for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns
from engine.search.execute import Answers, Depth
from engine.search.failures import FAULTS
from engine.search.shard_selection import distinct
from engine.vectors import Floats, Metric, Rows, exact_scores

RERANKED = {"sq8": 20, "fp16": 20, "fp32": 10, "sq4": 50}
"""Rows that are scored exactly at the least, by codec: what the codes may have misordered around k = 10."""


def rerank_depth(codec: str, k: int) -> int:
    """Rows to score exactly, the best by their codes, for k hits."""
    return max(k, min(RERANKED[codec] * math.ceil(k / 10), 10 * k))


@dataclass(frozen=True, slots=True)
class Merged:
    """The best rows of each query over all shards, by falling exact score, ties by frame id."""

    scores: list[Floats]
    candidates: list[Rows]
    """Place of each row's segment among the candidates."""
    rows: list[Rows]
    columns: dict[int, FrameColumns]
    """Those of the candidates that gave rows."""
    reranked: Rows
    """(m,) rows whose score from codes was replaced."""


def merge(answers: Answers, queries: Floats, depth: Depth, metric: Metric) -> Merged:
    """The `depth.exact` best rows per query.

    A shard whose stored rows or columns cannot be read fails here, which is noted, and the others are merged without it.
    """
    while True:
        lacking = len(answers.errors)
        best = [_best(answers, i, depth) for i in range(len(queries))]
        stored = _Stored.read(answers, best)
        if len(answers.errors) == lacking:
            break
    ranked = [_ranked(found, stored, queries[i : i + 1], depth, metric) for i, found in enumerate(best)]
    return Merged(
        scores=[scores for scores, _ in ranked],
        candidates=[found.candidates[order] for found, (_, order) in zip(best, ranked, strict=True)],
        rows=[found.rows[order] for found, (_, order) in zip(best, ranked, strict=True)],
        columns=stored.columns,
        reranked=np.array([np.count_nonzero(found.coded) for found in best], np.int64),
    )


@dataclass(frozen=True, slots=True)
class _Best:
    """The best n rows for a query by the scores that the shards gave."""

    candidates: Rows
    rows: Rows
    scores: Floats
    coded: NDArray[np.bool_]
    """Whether the score comes from codes."""


_NOTHING = _Best(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.bool_))


def _best(answers: Answers, i: int, depth: Depth) -> _Best:
    parts = []
    for found in answers.found:
        place = i if len(found.which) > i and found.which[i] == i else int(np.searchsorted(found.which, i))
        if place < len(found.which) and found.which[place] == i:
            parts.append((found, place))
    if not parts:
        return _NOTHING
    candidates, rows, scores = (
        getattr(parts[0][0], name)[parts[0][1]]
        if len(parts) == 1
        else np.concatenate([getattr(found, name)[place] for found, place in parts])
        for name in ("candidates", "rows", "scores")
    )
    coded = np.repeat([not found.exact for found, _ in parts], [found.rows.shape[1] for found, _ in parts])
    there = candidates >= 0
    if answers.errors:
        there &= ~answers.failed[candidates]
    if not there.all():
        candidates, rows, scores, coded = candidates[there], rows[there], scores[there], coded[there]
    wanted = depth.coded if coded.any() else depth.exact
    if wanted < len(rows):
        keep = np.argpartition(-scores, wanted - 1)[:wanted]
        candidates, rows, scores, coded = candidates[keep], rows[keep], scores[keep], coded[keep]
    return _Best(candidates, rows, scores, coded)


_ROW_BITS = 32


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is stored of the best rows of several queries, each row once."""

    keys: Rows
    """(n,) rising: the place of the candidate, and the row in the last 32 bits."""
    frame_ids: Rows
    vectors: NDArray[np.floating] | None
    """(n, dim) where scores come from codes; None where none does."""
    columns: dict[int, FrameColumns]
    """By candidate."""

    @classmethod
    def read(cls, answers: Answers, best: Sequence[_Best]) -> _Stored:
        """Read it segment by segment. A segment that cannot be read makes its shard fail."""
        keys = [(found.candidates << _ROW_BITS) | found.rows for found in best]
        every = np.unique(keys[0] if len(keys) == 1 else np.concatenate(keys))
        of_candidate, rows = every >> _ROW_BITS, every & ((1 << _ROW_BITS) - 1)
        used = distinct(of_candidate)
        bounds = [*np.searchsorted(of_candidate, used).tolist(), len(every)]
        candidates = answers.selection.filtered.candidates
        coded = any(found.coded.any() for found in best)
        frame_ids, columns = np.empty(len(every), np.int64), {}
        vectors: dict[int, NDArray[np.floating] | None] = {}
        for number, start, stop in zip(used, bounds, bounds[1:], strict=False):
            segment, some = candidates[number].segment, rows[start:stop]
            try:
                columns[number] = its = segment.columns
                frame_ids[start:stop] = its.frame_id[some]
                if coded:
                    vectors[number] = segment.stored_in_memory(some, its)
            except FAULTS as fault:
                answers.fail(number, fault)
        # By now the disk was asked for all the others.
        for number, start, stop in zip(used, bounds, bounds[1:], strict=False):
            if number in vectors and vectors[number] is None:
                try:
                    vectors[number] = candidates[number].segment.stored(rows[start:stop], columns[number])
                except FAULTS as fault:
                    answers.fail(number, fault)
        there = [some for some in vectors.values() if some is not None]
        return cls(every, frame_ids, np.concatenate(there) if there else None, columns)

    def places(self, best: _Best) -> Rows:
        """Where some of the rows stand."""
        return np.searchsorted(self.keys, (best.candidates << _ROW_BITS) | best.rows)


def _ranked(best: _Best, stored: _Stored, query: Floats, depth: Depth, metric: Metric) -> tuple[Floats, Rows]:
    """The scores of the best rows, exact now, and their order among those given."""
    at = stored.places(best)
    scores = best.scores
    if stored.vectors is not None and best.coded.any():
        if best.coded.all():
            scores = exact_scores(query, stored.vectors[at], metric)
        else:
            scores = scores.copy()
            scores[best.coded] = exact_scores(query, stored.vectors[at[best.coded]], metric)
    order = np.lexsort((stored.frame_ids[at], -scores))[: depth.exact]
    return scores[order], order
