"""Inverted lists: the rows of a segment coded and stored cell by cell, written, opened and searched."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.system import WatchedFile, read_errors, real_file, shortages
from engine.vectors.arrays import Floats, Metric, Rows
from engine.vectors.codecs import CODECS, train_codec
from engine.vectors.faiss_common import metric_number, preassigned, write_index
from engine.vectors.list_format import ListsForm, malformed, occupied_cells
from engine.vectors.masks import RowHits, count_passing, search_passing
from engine.vectors.packed_lists import fill, map_file

PER_LIST = 24
"""Bytes of memory that a list takes besides its ids, its codes and its length."""
ANOTHER_LIST = "codes.faiss is not what was written (a list's checksum differs); run a build to make it anew."


_NBytes = TypeVar("_NBytes", int, Rows)


class Lists:
    """A FAISS inverted file over the cells that occur in a segment."""

    def __init__(
        self,
        index: faiss.IndexIVF,
        sizes: Rows,
        nbytes: int,
        *,
        exact: bool,
        checksums: NDArray[np.uint32] | None = None,
        watched: WatchedFile | None = None,
        cells: NDArray[np.int32] | None = None,
        cell_of_row: Callable[[], NDArray[np.int32]] | None = None,
    ) -> None:
        """Take an index; with `checksums` each list is compared with its own the first time it is read.

        Parameters
        ----------
        sizes : (n_lists,) rows in each list
        nbytes : memory that it takes
        exact : whether the codes are the stored rows
        watched : the file whose mapped bytes the lists are; None where they are in memory
        cells, cell_of_row : the cell of each list, and what gives that of each row, for an index from a file, whose ids are
            to be checked; None for one that was made here
        """
        self.index = index
        self._watched = watched
        self.nbytes = nbytes
        self.exact = exact
        self._checksums = checksums
        self._cells = cells
        self._cell_of_row = cell_of_row
        self._unread = np.full(index.nlist, checksums is not None)
        self.sign = 1 if index.metric_type == faiss.METRIC_INNER_PRODUCT else -1
        """1 where higher distances are better, else -1."""
        self._sizes: Rows = np.append(sizes, 0)

    @property
    def sound(self) -> bool:
        """Whether the lists may be used: False once the file that they are mapped from has changed, and they must be opened anew."""
        return self._watched is None or self._watched.is_unchanged

    def search(
        self, queries: Floats, lists: Rows, k: int, mask: NDArray[np.bool_] | None = None, n_passing: int | None = None
    ) -> RowHits:
        """The k best rows of these lists that pass the mask.

        Parameters
        ----------
        queries : (m, dim) float32, C-contiguous
        lists : (m, width) int64, C-contiguous, positions among the cells that occur; -1 for none
        n_passing : rows of the segment that pass the mask; saves counting them

        Raises
        ------
        CorruptData
            If a list that is read for the first time is not what was written, or a score is not finite.
        """
        self.check(lists)
        scanned = self.n_rows(lists)

        def search(some: NDArray[np.bool_] | slice, k: int, selector: faiss.IDSelector | None) -> tuple[Floats, Rows]:
            return preassigned(self.index, queries[some], lists[some], k, selector)

        k = min(k, int(scanned.max(initial=0)))
        if not k:
            return RowHits.none(scanned, exact=self.exact)
        distances, labels = search_passing(search, k, mask, 0 if mask is None else count_passing(mask, n_passing))
        return RowHits.of(distances, labels, self.sign, scanned, exact=self.exact)

    def n_rows(self, lists: Rows) -> Rows:
        """Rows (m,) in lists (m, width), -1 for none."""
        rows: Rows = self._sizes[lists].sum(axis=1)
        return rows

    @property
    def sizes(self) -> Rows:
        """(n_lists,) rows in each list."""
        return self._sizes[:-1]

    @property
    def checked_one_by_one(self) -> bool:
        """Whether lists are to be checked before they are read, see `check`; else all were when they were opened."""
        return self._checksums is not None

    @cached_property
    def kind(self) -> tuple[object, ...]:
        """Codes of lists of one kind mean the same, so that they may be compared in one call."""
        index = self.index
        quantizer = getattr(index, "sq", None)
        learned = b"" if quantizer is None else faiss.vector_to_array(quantizer.trained).tobytes()
        return (
            type(index),
            index.code_size,
            index.metric_type,
            self.exact,
            hashlib.blake2b(learned, digest_size=16).digest(),
        )

    def check(self, lists: Rows) -> None:
        """Compare lists (any shape, -1 for none) that are mapped and read for the first time with their checksums.

        Raises
        ------
        CorruptData
            If one is not what was written.
        """
        checksums = self._checksums
        if checksums is None:
            return
        wanted = np.unique(lists[lists >= 0])
        for i in wanted[self._unread[wanted]]:
            if _checksum(self.index, int(i)) != checksums[i]:
                raise CorruptData(ANOTHER_LIST)
            self.check_ids([int(i)])
            self._unread[i] = False

    def check_ids(self, lists: Iterable[int]) -> None:
        """Raise `CorruptData` unless each of these lists holds rows of its own cell, rising: then no row is in two, or beyond the last."""
        if self._cells is None or self._cell_of_row is None:
            return
        cell = self._cell_of_row()
        for i in lists:
            ids = faiss.rev_swig_ptr(self.index.invlists.get_ids(i), int(self._sizes[i]))
            check_ids_of(ids, cell, int(self._cells[i]))


def check_ids_of(ids: Rows, cell: NDArray[np.int32], own: int) -> None:
    """Raise `CorruptData` unless ids (n,) rise and are rows of their own cell, given the cell of every row."""
    within = ids[0] >= 0 and ids[-1] < len(cell) and bool((ids[1:] > ids[:-1]).all())
    if not within or not bool((cell[ids] == own).all()):
        raise CorruptData(
            "codes.faiss cannot be used (a list holds other rows than those of its cell); run a build to make it anew."
        )


def _empty(dim: int, n_lists: int, codec: int | None, metric: int, trained: Floats) -> faiss.IndexIVF:
    """An inverted file without rows; FAISS's numbers say which codec and metric."""
    quantizer = faiss.IndexFlat(dim, metric)
    if codec is None:
        index = faiss.IndexIVFFlat(quantizer, dim, n_lists, metric)
    else:
        index = faiss.IndexIVFScalarQuantizer(quantizer, dim, n_lists, codec, metric, False)
        if len(trained):
            faiss.copy_array_to_vector(trained, index.sq.trained)
    index.is_trained = True
    return index


def empty_like(lists: Lists) -> faiss.IndexIVF:
    """An inverted file of the same kind, with one list that has no rows."""
    index = lists.index
    if isinstance(index, faiss.IndexIVFFlat):
        return _empty(index.d, 1, None, index.metric_type, np.empty(0, np.float32))
    return _empty(index.d, 1, index.sq.qtype, index.metric_type, faiss.vector_to_array(index.sq.trained))


class ListsWriter:
    """Fills an inverted file over given cells, ids being row numbers in the order in which they come.

    Codes are taken of the vectors themselves, not of residuals: with residuals the routing scores handed to FAISS would
    be added to every result. The quantizer is stored empty, for its centroids already lie under `cells/`.
    """

    def __init__(self, dim: int, cells: NDArray[np.int32], codec: str, trained: Floats, metric: Metric) -> None:
        """Take the cells (n,) that occur, rising, and what the codec learned."""
        self._cells = cells
        self.index = _empty(dim, len(cells), CODECS[codec], metric_number(metric), trained)

    def add(self, vectors: Floats, cell: NDArray[np.int32]) -> None:
        """Append rows (n, dim) that belong to these cells (n,)."""
        ids = np.arange(self.index.ntotal, self.index.ntotal + len(vectors), dtype=np.int64)
        keys = np.searchsorted(self._cells, cell).astype(np.int64)
        rows = np.ascontiguousarray(vectors, np.float32)
        self.index.add_core(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(ids), faiss.swig_ptr(keys), None)

    def write(self, path: Path) -> NDArray[np.uint32]:
        """Write and sync the file; returns a CRC-32 per list, so that a mapped file can be checked list by list."""
        write_index(path, self.index)
        return np.array([_checksum(self.index, i) for i in range(self.index.nlist)], np.uint32)

    def header_nbytes(self, path: Path) -> int:
        """Bytes of the written file that come before the lists."""
        return int(path.stat().st_size - self.index.ntotal * (self.index.code_size + 8))


def lists_nbytes(dim: int, n_rows: NDArray[np.integer], n_lists: NDArray[np.integer], codec: str) -> Rows:
    """Bytes (n,) of coded lists in memory once loaded, by the rows and the lists that they have."""
    ranges = np.zeros(len(train_codec(codec, np.zeros((2, dim), np.float32))), np.float32)
    writer = ListsWriter(dim, np.zeros(1, np.int32), codec, ranges, "ip")
    writer.add(np.zeros((1, dim), np.float32), np.zeros(1, np.int32))
    row, length = writer.index.code_size + 8, 8
    fixed = len(faiss.serialize_index(writer.index)) - row - length
    nbytes: Rows = fixed + n_rows.astype(np.int64) * row + n_lists.astype(np.int64) * (length + PER_LIST)
    return nbytes


class CodedRows:
    """Rows (n, dim) as codes in one list, to measure how well the codes alone rank them."""

    def __init__(self, x: Floats, codec: str, trained: Floats, metric: Metric) -> None:
        writer = ListsWriter(x.shape[1], np.zeros(1, np.int32), codec, trained, metric)
        writer.add(x, np.zeros(len(x), np.int32))
        self._lists = Lists(writer.index, np.array([len(x)]), 0, exact=False)

    def search(self, queries: Floats, k: int) -> RowHits:
        """The k best rows for queries (m, dim), by their codes."""
        return self._lists.search(queries, np.zeros((len(queries), 1), np.int64), k)


def plain_lists(rows: NDArray[np.floating], cell: NDArray[np.int32], metric: Metric) -> Lists:
    """Stored rows (n, dim) of float16 or float32 by cell, in memory as they are: exact scores."""
    codec = "fp16" if rows.dtype == np.float16 else "fp32"
    cells, sizes = occupied_cells(cell)
    nothing = np.empty(0, np.float32)
    writer = ListsWriter(rows.shape[1], cells, codec, nothing, metric)
    writer.add(rows.astype(np.float32), cell)
    content = faiss.serialize_index(writer.index)[-len(rows) * (writer.index.code_size + 8) :]
    del writer
    # A copy begins at an even address, and is without the header.
    index = ListsWriter(rows.shape[1], cells, codec, nothing, metric).index
    fill(index, sizes, content.copy())
    return Lists(index, sizes, plain_nbytes(content.nbytes, len(cells)), exact=True)


def plain_nbytes(content: _NBytes, n_lists: _NBytes) -> _NBytes:
    """Bytes of stored rows in memory, by those of the rows with their ids, and by the lists that they have."""
    return content + (PER_LIST + 8) * n_lists


def _checksum(index: faiss.IndexIVF, i: int) -> int:
    """CRC-32 of ids and codes of one list."""
    size = index.invlists.list_size(i)
    if not size:
        return 0
    ids = faiss.rev_swig_ptr(index.invlists.get_ids(i), size)
    codes = faiss.rev_swig_ptr(index.invlists.get_codes(i), size * index.code_size)
    return list_checksum(codes, ids)


def list_checksum(codes: NDArray[np.uint8], ids: NDArray[np.generic]) -> int:
    """CRC-32 of a list: of its ids, and then of its codes."""
    return zlib.crc32(codes.data, zlib.crc32(ids.data))


def read_lists(
    path: Path,
    form: ListsForm,
    *,
    checksums: NDArray[np.uint32] | None = None,
    watched: WatchedFile | None = None,
    cell_of_row: Callable[[], NDArray[np.int32]] | None = None,
) -> Lists:
    """Open an inverted file: in memory, or mapped where the `checksums` of its lists are given.

    Check its hash first (that of its header if it is to be mapped), for changed codes are codes, too.

    Parameters
    ----------
    watched : the file, where it is to be mapped
    cell_of_row : gives the cells (n,) of the rows when a mapped list is first read; None for those of the form

    Raises
    ------
    CorruptData
        If the file is not of the form that it must have, or its ids are not those of the rows.
    """
    start, trained = form.check(path)
    cells, sizes = occupied_cells(form.cell)
    index = ListsWriter(form.dim, cells, form.codec, trained, form.metric).index
    nbytes = start + PER_LIST * len(cells)
    try:
        with shortages(f"reading {path.name} in {path.parent.name}"):
            if checksums is None:
                content = _read_content(path, start, len(form.cell) * (index.code_size + 8))
                nbytes += content.nbytes
                fill(index, sizes, content)
            else:
                map_file(index, sizes, path, start)
    except RuntimeError as error:
        raise malformed(path, "FAISS cannot map it") from error
    lists = Lists(
        index,
        sizes,
        nbytes,
        exact=CODECS[form.codec] is None,
        checksums=checksums,
        watched=watched,
        cells=cells,
        cell_of_row=cell_of_row or (lambda: form.cell),
    )
    if checksums is None:
        lists.check_ids(range(len(cells)))
    return lists


def _read_content(path: Path, start: int, nbytes: int) -> NDArray[np.uint8]:
    """The lists of a file, which begin at a byte."""
    content = np.empty(nbytes, np.uint8)
    with read_errors(path), real_file(path).open("rb") as file:
        file.seek(start)
        if file.readinto(content.data) != nbytes:
            raise malformed(path, "it has become shorter")
    return content
