"""Inverted lists, codecs, k-means and scans: the only module that knows FAISS.

All scores are "higher is better": the inner product for `ip`, minus the squared distance for `l2`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.system import WatchedFile, can_start_threads, read_errors, shortages, synced
from engine.vectors.clustering import NOT_FINITE
from engine.vectors.list_format import ListsForm, malformed, row_nbytes

Metric = Literal["ip", "l2"]
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

CODECS: dict[str, int | None] = {
    "sq8": faiss.ScalarQuantizer.QT_8bit,
    "sq4": faiss.ScalarQuantizer.QT_4bit,
    "fp16": faiss.ScalarQuantizer.QT_fp16,
    "fp32": None,
}
"""Codes of the inverted lists. 8 bits per dimension lose next to nothing; 4 halve the memory and want more re-scoring."""
PER_MAPPED_LIST = 160
"""Bytes of memory that a list takes whose ids and codes stay in the file."""
_DENSE = 0.2
"""Share of rows passing a mask from which it is faster to score them all and drop the others afterwards: testing every
row breaks the stream of memory reads (9.3 against 4.7 ms for half of 100,000 rows of 512 float16)."""
_RUN = 64
"""Rows that pass or not in one run, from which the stream is not broken: whole videos, or a stretch of time."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep FAISS to one OpenMP thread in the calling thread meanwhile; every outside thread has a pool of its own (faiss#2731)."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@contextmanager
def startable_threads() -> Iterator[None]:
    """Keep FAISS to one thread in the calling thread meanwhile where the system starts no others: OpenMP would end the process."""
    wanted = faiss.omp_get_max_threads() - 1
    if can_start_threads(wanted):
        yield
    else:
        with one_thread():
            yield


def metric_number(metric: Metric) -> int:
    """FAISS's number for a metric."""
    return int(faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2)


def scores_of(query: Floats, x: Floats, metric: Metric) -> Floats:
    """Exact scores (n,) of the rows of x (n, dim) for one query (dim,), or (m, n) for several (m, dim)."""
    if metric == "ip":
        products: Floats = query @ x.T
        return products
    if query.ndim == 2:
        return np.stack([scores_of(each, x, metric) for each in query])
    difference = x - query
    distances: Floats = np.einsum("nd,nd->n", difference, difference)
    return -distances


def products_at(query: Floats, x: Floats, rows: Rows) -> Floats:
    """Inner products (n,) of one query (dim,) with some rows of x (any, dim), all float32 and C-contiguous, without copying them."""
    products = np.empty(len(rows), np.float32)
    faiss.fvec_inner_products_by_idx(
        *(faiss.swig_ptr(each) for each in (products, query, x, rows)), x.shape[1], 1, len(rows)
    )
    return products


def train_codec(codec: str, x: Floats) -> Floats:
    """Ranges that the codec learns from a sample x (n, dim); empty for codecs that learn nothing."""
    if not np.isfinite(x).all():
        raise CorruptData(NOT_FINITE)
    kind = CODECS[codec]
    if kind is None:
        return np.empty(0, np.float32)
    quantizer = faiss.ScalarQuantizer(x.shape[1], kind)
    quantizer.train(np.ascontiguousarray(x, np.float32))
    return np.asarray(faiss.vector_to_array(quantizer.trained), np.float32)


def check_values(x: NDArray[np.floating], codec: str) -> None:
    """Raise `ValueError` for stored rows (n, dim) with a value that the codec would turn into infinity, `CorruptData` for one that is none."""
    if not np.isfinite(x).all():
        raise CorruptData(NOT_FINITE)
    if codec == "fp16" and x.dtype != np.float16 and np.abs(x).max(initial=0) > np.finfo(np.float16).max:
        raise ValueError("A value is too large for the codec fp16; build with sq8 or fp32.")


def clipped(x: Floats, codec: str, trained: Floats) -> float:
    """Share of the values of x (n, dim) that lie outside what the codec learned, and are stored as its nearest end."""
    if CODECS[codec] is None or not len(trained) or not len(x):
        return 0.0
    low, width = trained.reshape(2, -1)
    return float(((x < low) | (x > low + width)).mean())


@dataclass(frozen=True, slots=True)
class Found:
    """What one segment offers for m queries."""

    rows: Rows
    """(m, k) row numbers in the segment, best first; -1 where there are no more."""
    scores: Floats
    """(m, k), minus infinity where there is no row."""
    scanned: Rows
    """(m,) rows compared."""
    exact: bool
    """False where the scores come from codes and want re-scoring."""


_Run = Callable[[NDArray[np.bool_] | slice, int, faiss.IDSelector | None], tuple[Floats, Rows]]
"""Distances and labels (m, k), as FAISS gives them, for those queries that are picked."""
_ALL = slice(None)


def _passing(run: _Run, k: int, mask: NDArray[np.bool_] | None, n_passing: int) -> tuple[Floats, Rows]:
    """The k best labels that pass the mask, by testing each row, or by dropping afterwards where most pass.

    Dropping is exact too: a query for which fewer than k of its best rows are left is run again with the test.
    """
    if mask is None:
        return run(_ALL, k, None)
    share = n_passing / len(mask)
    if share >= _DENSE and np.count_nonzero(mask[1:] != mask[:-1]) * _RUN > len(mask):
        # Four standard deviations more than expected, so that rows that pass at random hardly ever need the second run.
        wanted = min(len(mask), math.ceil((k + 4 * math.sqrt(k) + 8) / share))
        distances, labels = run(_ALL, wanted, None)
        keep = mask[labels] & (labels >= 0)
        if keep[:, :k].all():
            return distances[:, :k], labels[:, :k]
        short = (keep.sum(axis=1) < k) & (labels[:, -1] >= 0)
        order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
        labels = np.where(np.take_along_axis(keep, order, 1), np.take_along_axis(labels, order, 1), -1)
        distances = np.take_along_axis(distances, order, 1)
        if short.any():
            distances[short], labels[short] = _tested(run, short, k, mask)
        return distances, labels
    return _tested(run, _ALL, k, mask)


def _tested(run: _Run, picked: NDArray[np.bool_] | slice, k: int, mask: NDArray[np.bool_]) -> tuple[Floats, Rows]:
    # The selector holds a bare pointer, so the bits stay referenced here until the call returns.
    bits = np.packbits(mask, bitorder="little")
    return run(picked, k, faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(bits)))


def _found(distances: Floats, labels: Rows, sign: int, scanned: Rows, *, exact: bool) -> Found:
    scores = distances if sign == 1 else -distances
    if labels[:, -1].min() < 0:
        scores = np.where(labels >= 0, scores, np.float32(-np.inf))
        sound = np.isfinite(scores) | (labels < 0)
    else:
        sound = np.isfinite(scores)
    if not sound.all():
        raise CorruptData(NOT_FINITE)
    return Found(labels, scores, scanned, exact)


def _counted(mask: NDArray[np.bool_], n_passing: int | None) -> int:
    return int(np.count_nonzero(mask)) if n_passing is None else n_passing


def _nothing(scanned: Rows, *, exact: bool) -> Found:
    m = len(scanned)
    return Found(np.empty((m, 0), np.int64), np.empty((m, 0), np.float32), scanned, exact)


class FlatRows:
    """Stored rows, mapped, compared one by one with FAISS straight from the file's pages."""

    def __init__(self, rows: NDArray[np.floating], metric: Metric) -> None:
        """Take rows (n, dim) of float16 or float32, C-contiguous; they are not copied."""
        n, dim = rows.shape
        if rows.dtype == np.float16:
            index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, metric_number(metric))
            index.is_trained = True
        else:
            index = faiss.IndexFlat(dim, metric_number(metric))
        self._bytes = rows.reshape(-1).view(np.uint8)  # FAISS holds a bare pointer into it.
        view = faiss.MaybeOwnedVectorUInt8()
        view.is_owned = False
        view.view_data = view.c_ptr = faiss.swig_ptr(self._bytes)
        view.view_size = view.c_size = self._bytes.size
        index.codes = view
        index.ntotal = n
        self._index = index
        self._sign = 1 if metric == "ip" else -1

    def write(self, path: Path) -> None:
        """Write and sync a FAISS file of these rows."""
        _write_index(path, self._index)

    @classmethod
    def read(cls, path: Path, metric: Metric) -> FlatRows:
        """Read a file that `write` made whole into memory."""
        with read_errors(path), path.open("rb") as file:
            code = file.read(4)
        if code not in (b"IxSQ", b"IxFI", b"IxF2"):
            raise CorruptData(f"{path.name} in {path.parent.name} is not a file of rows; write it anew.")
        flat = cls.__new__(cls)
        flat._index = faiss.read_index(str(path))
        flat._sign = 1 if metric == "ip" else -1
        return flat

    def search(
        self, queries: Floats, k: int, mask: NDArray[np.bool_] | None = None, n_passing: int | None = None
    ) -> Found:
        """The k best rows that pass the mask, by exact score, for queries (m, dim); `n_passing` saves counting them."""
        n = self._index.ntotal if mask is None else _counted(mask, n_passing)
        scanned = np.full(len(queries), n)
        if not n:
            return _nothing(scanned, exact=True)

        def run(picked: NDArray[np.bool_] | slice, k: int, selector: faiss.IDSelector | None) -> tuple[Floats, Rows]:
            parameters = None if selector is None else faiss.SearchParameters(sel=selector)
            return self._index.search(queries[picked], k, params=parameters)  # type: ignore[no-any-return]

        distances, labels = _passing(run, min(k, n), mask, n)
        return _found(distances, labels, self._sign, scanned, exact=True)


def exact_scores(query: Floats, rows: NDArray[np.floating], metric: Metric) -> Floats:
    """Scores (n,) of stored rows (n, dim) for one query (1, dim). FAISS reads float16 as it is, which saves turning it into float32."""
    found = FlatRows(rows, metric).search(query, len(rows))
    if found.rows.min(initial=0) < 0:  # FAISS passes over what compares with nothing.
        raise CorruptData(NOT_FINITE)
    scores = np.empty(len(rows), np.float32)
    scores[found.rows[0]] = found.scores[0]
    return scores


class Lists:
    """A FAISS inverted file over the cells that occur in a segment."""

    def __init__(
        self,
        index: faiss.IndexIVF,
        nbytes: int,
        *,
        exact: bool,
        checksums: NDArray[np.uint32] | None = None,
        watched: WatchedFile | None = None,
        belongs: tuple[NDArray[np.int64], Callable[[], NDArray[np.int32]]] | None = None,
    ) -> None:
        """Take an index; with `checksums` each list is compared with its own the first time it is read.

        Parameters
        ----------
        watched : the file whose mapped bytes the lists are; None where they are in memory
        belongs : the cell of each list, and what gives that of each row, where the index comes from a file and its ids are to be checked
        """
        self._belongs = belongs
        self._index = index
        self._watched = watched
        self.nbytes = nbytes
        self.exact = exact
        self._checksums = checksums
        self._unread = np.full(index.nlist, checksums is not None)
        self._sign = 1 if index.metric_type == faiss.METRIC_INNER_PRODUCT else -1
        self._sizes = np.array([index.invlists.list_size(i) for i in range(index.nlist)] + [0], np.int64)

    @property
    def sound(self) -> bool:
        """Whether the lists may be used: False once the file that they are mapped from has changed, and they must be opened anew."""
        return self._watched is None or self._watched.is_unchanged

    def search(
        self, queries: Floats, lists: Rows, k: int, mask: NDArray[np.bool_] | None = None, n_passing: int | None = None
    ) -> Found:
        """The k best rows of these lists that pass the mask.

        Parameters
        ----------
        queries : (m, dim) float32, C-contiguous
        lists : (m, width) int64, C-contiguous, positions among the cells that occur; -1 for none
        n_passing : rows of the segment that pass the mask; saves counting them
        """
        if self._checksums is not None:
            self._check(lists, self._checksums)
        scanned = self._sizes[lists].sum(axis=1)

        def run(picked: NDArray[np.bool_] | slice, k: int, selector: faiss.IDSelector | None) -> tuple[Floats, Rows]:
            return self._preassigned(queries[picked], lists[picked], k, selector)

        k = min(k, int(scanned.max(initial=0)))
        if not k:
            return _nothing(scanned, exact=self.exact)
        distances, labels = _passing(run, k, mask, 0 if mask is None else _counted(mask, n_passing))
        return _found(distances, labels, self._sign, scanned, exact=self.exact)

    def _preassigned(
        self, queries: Floats, lists: Rows, k: int, selector: faiss.IDSelector | None
    ) -> tuple[Floats, Rows]:
        # The probe count belongs to the call: the index's own `nprobe` is shared between threads. FAISS holds bare
        # pointers, so the arrays stay referenced here until the call returns.
        m, width = lists.shape
        parameters = faiss.SearchParametersIVF(nprobe=width, sel=selector)
        coarse = np.zeros((m, width), np.float32)
        distances = np.empty((m, k), np.float32)
        labels = np.empty((m, k), np.int64)
        self._index.search_preassigned_c(
            m,
            faiss.swig_ptr(queries),
            k,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(coarse),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(labels),
            False,
            parameters,
            None,
        )
        return distances, labels

    def _check(self, lists: Rows, checksums: NDArray[np.uint32]) -> None:
        """Compare lists that are read for the first time with their checksums."""
        wanted = np.unique(lists[lists >= 0])
        for i in wanted[self._unread[wanted]]:
            if _checksum(self._index, int(i)) != checksums[i]:
                raise CorruptData(
                    "codes.faiss is not what was written (a list's checksum differs); run a build to make it anew."
                )
            self.check_ids([int(i)])
            self._unread[i] = False

    def check_ids(self, lists: Iterable[int]) -> None:
        """Raise `CorruptData` unless each of these lists holds rows of its own cell, rising: then no row is in two, or beyond the last."""
        if self._belongs is None:
            return
        cells, cell = self._belongs[0], self._belongs[1]()
        for i in lists:
            ids = faiss.rev_swig_ptr(self._index.invlists.get_ids(i), int(self._sizes[i]))
            within = ids[0] >= 0 and ids[-1] < len(cell) and bool((ids[1:] > ids[:-1]).all())
            if not within or not bool((cell[ids] == cells[i]).all()):
                raise CorruptData(
                    "codes.faiss cannot be used (a list holds other rows than those of its cell); run a build to make it anew."
                )


def list_order(cell: NDArray[np.int32]) -> tuple[NDArray[np.int32], Rows]:
    """Cells that occur (sorted) and rows in each."""
    cells, counts = np.unique(cell, return_counts=True)
    return cells.astype(np.int32), counts.astype(np.int64)


class ListsWriter:
    """Fills an inverted file over given cells, ids being row numbers in the order in which they come.

    Codes are taken of the vectors themselves, not of residuals: with residuals the routing scores handed to FAISS would
    be added to every result. The quantizer is stored empty, for its centroids already lie under `cells/`.
    """

    def __init__(self, dim: int, cells: NDArray[np.int32], codec: str, trained: Floats, metric: Metric) -> None:
        self._cells = cells
        self._quantizer = faiss.IndexFlat(dim, metric_number(metric))
        kind = CODECS[codec]
        if kind is None:
            self.index = faiss.IndexIVFFlat(self._quantizer, dim, len(cells), metric_number(metric))
        else:
            self.index = faiss.IndexIVFScalarQuantizer(
                self._quantizer, dim, len(cells), kind, metric_number(metric), False
            )
            if len(trained):
                faiss.copy_array_to_vector(trained, self.index.sq.trained)
        self.index.is_trained = True

    def add(self, vectors: Floats, cell: NDArray[np.int32]) -> None:
        """Append rows (n, dim) that belong to these cells (n,)."""
        ids = np.arange(self.index.ntotal, self.index.ntotal + len(vectors), dtype=np.int64)
        keys = np.searchsorted(self._cells, cell).astype(np.int64)
        rows = np.ascontiguousarray(vectors, np.float32)
        self.index.add_core(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(ids), faiss.swig_ptr(keys), None)

    def write(self, path: Path) -> NDArray[np.uint32]:
        """Write and sync the file; returns a CRC-32 per list, so that a mapped file can be checked list by list."""
        _write_index(path, self.index)
        return np.array([_checksum(self.index, i) for i in range(self.index.nlist)], np.uint32)

    def header_nbytes(self, path: Path) -> int:
        """Bytes of the written file that come before the lists."""
        return int(path.stat().st_size - self.index.ntotal * (self.index.code_size + 8))


def lists_nbytes(dim: int, n_rows: NDArray[np.integer], n_lists: NDArray[np.integer], codec: str) -> Rows:
    """Bytes (n,) of coded lists, in the file as in memory once loaded, by the rows and the lists that they have."""
    ranges = np.zeros(len(train_codec(codec, np.zeros((2, dim), np.float32))), np.float32)
    writer = ListsWriter(dim, np.zeros(1, np.int32), codec, ranges, "ip")
    writer.add(np.zeros((1, dim), np.float32), np.zeros(1, np.int32))
    row, length = writer.index.code_size + 8, 8
    fixed = len(faiss.serialize_index(writer.index)) - row - length
    nbytes: Rows = fixed + n_rows.astype(np.int64) * row + n_lists.astype(np.int64) * length
    return nbytes


class CodedRows:
    """Rows (n, dim) as codes in one list, to see what the codes alone tell of them."""

    def __init__(self, x: Floats, codec: str, trained: Floats, metric: Metric) -> None:
        writer = ListsWriter(x.shape[1], np.zeros(1, np.int32), codec, trained, metric)
        writer.add(x, np.zeros(len(x), np.int32))
        self._lists = Lists(writer.index, 0, exact=False)

    def search(self, queries: Floats, k: int) -> Found:
        """The k best rows for queries (m, dim), by their codes."""
        return self._lists.search(queries, np.zeros((len(queries), 1), np.int64), k)


def plain_lists(rows: NDArray[np.floating], cell: NDArray[np.int32], metric: Metric) -> Lists:
    """Stored rows (n, dim) of float16 or float32 by cell, in memory as they are: exact scores."""
    codec = "fp16" if rows.dtype == np.float16 else "fp32"
    writer = ListsWriter(rows.shape[1], list_order(cell)[0], codec, np.empty(0, np.float32), metric)
    writer.add(rows.astype(np.float32), cell)
    # Lists that grew row by row hold half as much again in reserve; read back, they hold what is in them.
    index = faiss.deserialize_index(faiss.serialize_index(writer.index))
    return Lists(index, int(rows.nbytes + 8 * len(rows)), exact=True)


def _write_index(path: Path, index: faiss.Index) -> None:
    """Write an index through Python's files: FAISS's own say nothing of a disk that fills up at the last buffer."""
    faults: list[OSError | MemoryError] = []
    with synced(path) as file:

        def write(chunk: bytes) -> None:
            try:
                file.write(chunk)
            except (OSError, MemoryError) as error:  # It cannot pass through C++.
                faults.append(error)

        faiss.write_index(index, faiss.PyCallbackIOWriter(write))
        if faults:
            raise faults[0]


def _checksum(index: faiss.IndexIVF, i: int) -> int:
    """CRC-32 of ids and codes of one list."""
    size = index.invlists.list_size(i)
    if not size:
        return 0
    ids = faiss.rev_swig_ptr(index.invlists.get_ids(i), size)
    codes = faiss.rev_swig_ptr(index.invlists.get_codes(i), size * index.code_size)
    return zlib.crc32(codes, zlib.crc32(ids))


def read_lists(
    path: Path,
    form: ListsForm,
    *,
    checksums: NDArray[np.uint32] | None = None,
    watched: WatchedFile | None = None,
    cell_of_row: Callable[[], NDArray[np.int32]] | None = None,
) -> Lists:
    """Open an inverted file: in memory, or mapped where the `checksums` of its lists are given.

    Check its hash first (that of its header if it is to be mapped), for FAISS does not notice changed bytes.

    Parameters
    ----------
    watched : the file, where it is to be mapped
    cell_of_row : gives the cells (n,) of the rows when a mapped list is first read; None for those of the form

    Raises
    ------
    CorruptData
        If the file is not of the form that it must have, or its ids are not those of the rows.
    """
    form.check(path)
    try:
        with shortages(f"reading {path.name} in {path.parent.name}"):
            index = faiss.read_index(str(path), 0 if checksums is None else faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise malformed(path, "FAISS refuses it") from error
    flat = CODECS[form.codec] is None
    told = type(index), index.d, index.ntotal, index.metric_type, index.code_size, index.nlist, index.is_trained
    cells, _ = form.occupied
    kind = faiss.IndexIVFFlat if flat else faiss.IndexIVFScalarQuantizer
    row = row_nbytes(form.dim, form.codec)
    if told != (kind, form.dim, len(form.cell), metric_number(form.metric), row, len(cells), True) or index.by_residual:
        raise malformed(path, "it is not the index that its header tells of")
    nbytes = path.stat().st_size if checksums is None else PER_MAPPED_LIST * index.nlist
    belongs = cells, cell_of_row or (lambda: form.cell)
    lists = Lists(index, nbytes, exact=flat, checksums=checksums, watched=watched, belongs=belongs)
    if checksums is None:
        lists.check_ids(range(len(cells)))
    return lists
