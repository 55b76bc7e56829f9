"""Lists of several segments side by side, searched in one call of FAISS."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.vectors.arrays import Floats, Rows
from engine.vectors.lists import Lists, empty_like, preassigned
from engine.vectors.masks import RowHits

_PLACE = (1 << 32) - 1
"""Bits of a label that are the place of a row in its list; those above are the list."""


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

    def search(self, queries: Floats, wanted: Sequence[tuple[Lists, Rows, Rows]], k: int) -> list[RowHits]:
        """The best rows of each part, of which together the k best of each query are among them.

        Parameters
        ----------
        queries : (m, dim) float32, C-contiguous
        wanted : parts, the queries (n,) that probe each, rising, and its lists (n, width) for them, -1 for none

        Raises
        ------
        CorruptData
            If a score is not finite.
        """
        exact, sign = wanted[0][0].exact, wanted[0][0].sign
        scanned = [part.n_rows(lists) for part, _, lists in wanted]
        total = np.zeros(len(queries), np.int64)
        both = np.full((len(queries), sum([lists.shape[1] for _, _, lists in wanted])), -1, np.int64)
        column = 0
        for (part, which, lists), n_rows in zip(wanted, scanned, strict=True):
            total[which] += n_rows
            start = self._starts[self._places[part]]
            both[which, column : column + lists.shape[1]] = np.where(lists >= 0, lists + start, -1)
            column += lists.shape[1]
        k = min(k, int(total.max(initial=0)))
        if not k:
            return [RowHits.none(n_rows, exact=exact) for n_rows in scanned]
        distances, labels = preassigned(self._index, queries, both, k, pairs=True)
        of_list = labels >> 32
        part_of = np.searchsorted(self._starts, of_list, "right") - 1
        found = []
        for (part, which, _), n_rows in zip(wanted, scanned, strict=True):
            place = self._places[part]
            mine = part_of[which] == place
            best, rows = _leading(mine, distances[which], labels[which])
            start = int(self._starts[place])
            for i, j in zip(*np.nonzero(rows >= 0), strict=True):
                label = int(rows[i, j])
                rows[i, j] = part.row((label >> 32) - start, label & _PLACE)
            hits = RowHits.of(best, rows, sign, n_rows, exact=exact) if rows.size else RowHits.none(n_rows, exact=exact)
            found.append(hits)
        return found


def _leading(mine: NDArray[np.bool_], distances: Floats, labels: Rows) -> tuple[Floats, Rows]:
    """Distances and labels (n, k) of those that are mine (n, k), moved to the front; the labels behind them are -1."""
    if len(mine) == 1:
        return distances[mine][None], labels[mine][None]
    width = int(mine.sum(axis=1).max(initial=0))
    order = np.argsort(~mine, axis=1, kind="stable")[:, :width]
    labels = np.where(np.take_along_axis(mine, order, 1), np.take_along_axis(labels, order, 1), -1)
    return np.take_along_axis(distances, order, 1), labels
