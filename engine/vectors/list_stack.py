"""Lists of several segments side by side, searched in one call of FAISS."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from engine.errors import CorruptData
from engine.vectors.arrays import NOT_FINITE, Floats, Rows
from engine.vectors.faiss_common import preassigned
from engine.vectors.lists import Lists, empty_like

_PLACE = (1 << 32) - 1
"""Bits of a label that are the place of a row in its list; those above are the list."""


@dataclass(frozen=True, slots=True)
class StackHits:
    """The best rows of m queries, best first."""

    parts: Rows
    """(m, k) the part of each row; -1 where there are no more."""
    rows: Rows
    """(m, k) row numbers in the parts."""
    scores: Floats
    """(m, k), minus infinity where there is no row."""


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
        self.sizes: Rows = np.concatenate([part.sizes for part in together])
        """(n_lists,) rows in each list."""
        self.starts: Rows = np.concatenate([[0], ends[:-1]])
        """(n_parts,) the first list of each part."""
        self._sign = together[0].sign
        self._places = weakref.WeakKeyDictionary(zip(together, range(len(together)), strict=True))
        self._stacked = faiss.VStackInvertedLists(len(together), vector.data())
        self._index = empty_like(together[0])
        self._index.nlist = int(ends[-1])
        self._index.replace_invlists(self._stacked, False)

    def holds(self, parts: Iterable[Lists]) -> bool:
        """Whether all of these are among its parts."""
        return all(part in self._places for part in parts)

    def places(self, parts: Iterable[Lists]) -> list[int]:
        """Where these are among its parts."""
        return [self._places[part] for part in parts]

    @property
    def parts(self) -> Sequence[Lists]:
        """Those that somebody still holds."""
        return list(self._places)

    def search(self, queries: Floats, lists: Rows, k: int) -> StackHits:
        """The best rows of some lists.

        Parameters
        ----------
        queries : (m, dim) float32, C-contiguous
        lists : (m, width) int64, C-contiguous, numbers from `starts` on, -1 for none
        k : rows wanted; memory is taken for so many, whether there are as many or not

        Raises
        ------
        CorruptData
            If a score is not finite.
        """
        distances, labels = preassigned(self._index, queries, lists, k, pairs=True)
        of_list = labels >> 32
        row_at = self._stacked.get_single_id
        numbers, places = of_list.ravel().tolist(), (labels & _PLACE).ravel().tolist()
        rows = np.array(
            [row_at(number, place) if number >= 0 else -1 for number, place in zip(numbers, places, strict=True)],
            np.int64,
        ).reshape(labels.shape)
        none = labels < 0
        scores = np.where(none, np.float32(-np.inf), self._sign * distances)
        if not (np.isfinite(scores) | none).all():
            raise CorruptData(NOT_FINITE)
        return StackHits(np.searchsorted(self.starts, of_list, "right") - 1, rows, scores)
