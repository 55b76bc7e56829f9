"""Inverted lists that are read from their file and held one by one, where memory has not room for all."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.system import OPEN_FILES, fetch_ahead, read_errors, read_into, runs
from engine.vectors.arrays import Rows
from engine.vectors.codecs import row_nbytes
from engine.vectors.list_format import ListsForm, malformed, occupied_cells
from engine.vectors.lists import ANOTHER_LIST, Lists, ListsWriter, check_ids_of, list_checksum
from engine.vectors.packed_lists import scatter

PER_STORED_LIST = 600
"""Bytes of memory that a list takes besides its ids and codes if it is held by itself: an array, and its place in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredList:
    """One inverted list, read from its file and checked."""

    content: NDArray[np.uint8]
    """Its codes and then its ids, as in the file."""

    @property
    def nbytes(self) -> int:
        return self.content.nbytes + PER_STORED_LIST

    @property
    def sound(self) -> bool:
        """What was read once stays as it is, whatever becomes of the file."""
        return True


class ListFile:
    """A file of inverted lists of which each is read by itself, side by side with others."""

    def __init__(
        self,
        path: Path,
        form: ListsForm,
        checksums: NDArray[np.uint32],
        cell_of_row: Callable[[], NDArray[np.int32]],
        *,
        exact: bool,
    ) -> None:
        """Take a file whose header was checked.

        Parameters
        ----------
        checksums : (n_lists,) of each list
        cell_of_row : gives the cells (n,) of the rows when a list is read
        exact : whether the codes are the stored rows

        Raises
        ------
        CorruptData
            If the file is not of the form that it must have.
        """
        start, self._trained = form.check(path)
        self._path = path
        self._exact = exact
        self._reader = object()
        weakref.finalize(self, OPEN_FILES.forget_later, self._reader)
        self._form = form
        self._checksums = checksums
        self._cell_of_row = cell_of_row
        self._cells, self.sizes = occupied_cells(form.cell)
        self._width = row_nbytes(form.dim, form.codec)
        self._starts: Rows = start + (np.cumsum(self.sizes) - self.sizes) * (self._width + 8)

    def close(self) -> None:
        """Let go of the file; it is opened again if need be."""
        OPEN_FILES.forget(self._reader)

    def nbytes(self, lists: Rows) -> int:
        """Bytes of some lists in the file."""
        return int(self.sizes[lists].sum()) * (self._width + 8)

    def ask_for(self, lists: Rows) -> None:
        """Tell the system that these lists (n,), rising, are read next."""
        with read_errors(self._path), OPEN_FILES.use(self._reader, self._path) as handle:
            for run in runs(lists):
                fetch_ahead(handle, int(self._starts[run[0]]), self.nbytes(run))

    def read(self, lists: Rows) -> list[StoredList]:
        """These lists (n,), rising, each compared with its checksum: neighbours in one read.

        Raises
        ------
        CorruptData
            If one is not what was written.
        """
        try:
            return self._read(lists)
        except CorruptData:  # The file may have been put right since it was opened.
            self.close()
            return self._read(lists)

    def _read(self, lists: Rows) -> list[StoredList]:
        contents: list[NDArray[np.uint8]] = []
        with read_errors(self._path), OPEN_FILES.use(self._reader, self._path) as handle:
            for run in runs(lists):
                some = [np.empty(size * (self._width + 8), np.uint8) for size in self.sizes[run].tolist()]
                if read_into(handle, [each.data for each in some], int(self._starts[run[0]])) < self.nbytes(run):
                    raise malformed(self._path, "it has become shorter")
                contents += some
        for i, content in zip(lists.tolist(), contents, strict=True):
            self._check(i, content)
        return [StoredList(content) for content in contents]

    def _check(self, i: int, content: NDArray[np.uint8]) -> None:
        n_bytes = int(self.sizes[i]) * self._width
        if list_checksum(content[:n_bytes], content[n_bytes:]) != self._checksums[i]:
            raise CorruptData(ANOTHER_LIST)
        ids = np.frombuffer(content[n_bytes:].tobytes(), np.int64)
        check_ids_of(ids, self._cell_of_row(), int(self._cells[i]))

    def opened(self, lists: Rows, stored: Sequence[StoredList]) -> Lists:
        """An inverted file in which these lists have their rows and the others none."""
        index = ListsWriter(self._form.dim, self._cells, self._form.codec, self._trained, self._form.metric).index
        sizes = np.zeros(len(self.sizes), np.int64)
        sizes[lists] = self.sizes[lists]
        scatter(index, sizes, lists, [each.content for each in stored])
        return Lists(index, sizes, sum([each.nbytes for each in stored]), exact=self._exact)
