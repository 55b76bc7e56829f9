"""Lists of several segments side by side, searched in one call of FAISS."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.vectors.arrays import NOT_FINITE, Floats, Rows
from engine.vectors.lists import Lists, empty_like, preassigned
from engine.vectors.masks import RowHits

_PLACE = (1 << 32) - 1
"""Bits of a label that are the place of a row in its list; those above are the list."""

Wanted = tuple[Lists, Rows, Rows]
"""A part, the queries (n,) that probe it, rising, and its lists (n, width) for them, -1 for none."""


class ListStack:
    """Lists of one kind side by side: an inverted file that points into those of its parts.

    The parts are held weakly, so that what a cache lets go of is gone. Whoever searches holds those that he probes; of
    the others not a byte is read.
    """

    def __init__(self, parts: Iterable[Lists]) -> None:
        """Take lists of one `kind`, one part at least."""
        together = list(parts)
        vector = faiss.InvertedListsPtrVector()
        for part in together:
            vector.push_back(part.index.invlists)
        ends = np.cumsum([part.index.nlist for part in together])
        self._sizes: Rows = np.concatenate([*(part.sizes for part in together), [0]])
        self._starts: Rows = np.concatenate([[0], ends[:-1]])
        self._places = weakref.WeakKeyDictionary(zip(together, range(len(together)), strict=True))
        self._stacked = faiss.VStackInvertedLists(len(together), vector.data())
        self._index = empty_like(together[0])
        self._index.nlist = int(ends[-1])
        self._index.replace_invlists(self._stacked, False)

    def holds(self, parts: Iterable[Lists]) -> bool:
        """Whether all of these are among its parts."""
        return all(part in self._places for part in parts)

    @property
    def parts(self) -> list[Lists]:
        """Those that somebody still holds."""
        return list(self._places)

    def search(self, queries: Floats, wanted: Sequence[Wanted], k: int) -> list[RowHits]:
        """The best rows of each part, of which together the k best of each query are among them.

        Parameters
        ----------
        queries : (m, dim) float32, C-contiguous
        wanted : what is probed, one part at least, each with a list or more

        Raises
        ------
        CorruptData
            If a score is not finite.
        """
        exact, sign = wanted[0][0].exact, wanted[0][0].sign
        places = [self._places[part] for part, _, _ in wanted]
        columns = np.cumsum([0, *(lists.shape[1] for _, _, lists in wanted)])
        both = self._side_by_side(len(queries), wanted, places, columns)
        scanned: Rows = np.add.reduceat(self._sizes[both], columns[:-1], axis=1)
        k = min(k, int(scanned.sum(axis=1).max()))
        if not k:
            return [RowHits.none(scanned[which, i], exact=exact) for i, (_, which, _) in enumerate(wanted)]
        distances, labels = preassigned(self._index, queries, both, k, pairs=True)
        of_list, in_list = labels >> 32, labels & _PLACE
        part_of = np.searchsorted(self._starts, of_list, "right") - 1
        # By query and part, each part's rows best first: as they come, for the sort is stable.
        query, rank = np.nonzero(part_of >= 0)
        order = (
            np.lexsort((part_of[query, rank], query))
            if len(queries) > 1
            else np.argsort(part_of[0, rank], kind="stable")
        )
        query, rank = query[order], rank[order]
        parts = part_of[query, rank]
        scores = sign * distances[query, rank]
        if not np.isfinite(scores).all():
            raise CorruptData(NOT_FINITE)
        by_place = dict(zip(places, (part for part, _, _ in wanted), strict=True))
        offsets = (of_list[query, rank] - self._starts[parts]).tolist()
        rows = np.array(
            [
                by_place[place].row(number, at)
                for place, number, at in zip(parts.tolist(), offsets, in_list[query, rank].tolist(), strict=True)
            ],
            np.int64,
        )
        return [
            _of_part(which, *_some(parts == place, query, rows, scores), scanned[which, i], exact=exact)
            for i, ((_, which, _), place) in enumerate(zip(wanted, places, strict=True))
        ]

    def _side_by_side(self, m: int, wanted: Sequence[Wanted], places: Sequence[int], columns: Rows) -> Rows:
        """The lists that are wanted of all parts, as lists of the whole: (m, columns[-1]), those of part i from columns[i] on, -1 for none."""
        if m == 1:
            lists = np.concatenate([lists[0] for _, _, lists in wanted])
            starts = np.repeat(self._starts[places], np.diff(columns))
            return np.where(lists >= 0, lists + starts, -1)[None]
        both = np.full((m, columns[-1]), -1, np.int64)
        for (_, which, lists), place, column in zip(wanted, places, columns.tolist(), strict=False):
            both[which, column : column + lists.shape[1]] = np.where(lists >= 0, lists + self._starts[place], -1)
        return both


def _some(mine: NDArray[np.bool_], *values: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return tuple(each[mine] for each in values)


def _of_part(which: Rows, query: Rows, rows: Rows, scores: Floats, scanned: Rows, *, exact: bool) -> RowHits:
    """What a part gave to the queries (n,) that probed it: rows (h,) with their scores, by query, each query's best first."""
    if len(which) == 1:
        return RowHits(rows[None], scores[None], scanned, exact)
    at = np.searchsorted(which, query)
    counts = np.bincount(at, minlength=len(which))
    column = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded = np.full((len(which), int(counts.max())), -1, np.int64)
    padded_scores = np.full(padded.shape, -np.inf, np.float32)
    padded[at, column], padded_scores[at, column] = rows, scores
    return RowHits(padded, padded_scores, scanned, exact)
