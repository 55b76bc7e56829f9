"""Inverted lists, codecs, k-means and scans: the only module that knows FAISS.

All scores are "higher is better": the inner product for `ip`, minus the squared distance for `l2`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.durable import synced
from engine.errors import CorruptData

Metric = Literal["ip", "l2"]
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

CODECS: dict[str, int] = {
    "sq8": faiss.ScalarQuantizer.QT_8bit,
    "sq4": faiss.ScalarQuantizer.QT_4bit,
    "fp16": faiss.ScalarQuantizer.QT_fp16,
}
"""Codes of the inverted lists. 8 bits per dimension lose next to nothing; 4 halve the memory and want more re-scoring."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep FAISS to one OpenMP thread in the calling thread meanwhile; every outside thread has a pool of its own (faiss#2731)."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _metric(metric: Metric) -> int:
    return int(faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2)


def kmeans(x: Floats, n_cells: int, *, seed: int = 1234, n_iter: int = 12) -> Floats:
    """Centroids (n_cells, dim) of Lloyd's k-means on the rows of x (n, dim); n must be at least `n_cells`."""
    model = faiss.Kmeans(
        x.shape[1], n_cells, niter=n_iter, seed=seed, min_points_per_centroid=1, max_points_per_centroid=256
    )
    model.train(np.ascontiguousarray(x, np.float32))
    return np.asarray(model.centroids, np.float32)


def nearest(x: Floats, centroids: Floats) -> NDArray[np.int32]:
    """Index (n,) of the nearest centroid by Euclidean distance for each row of x (n, dim)."""
    _, labels = faiss.knn(np.ascontiguousarray(x, np.float32), np.ascontiguousarray(centroids, np.float32), 1)
    cell: NDArray[np.int32] = labels[:, 0].astype(np.int32)
    return cell


def scores_of(query: Floats, x: Floats, metric: Metric) -> Floats:
    """Exact scores (n,) of the rows of x (n, dim) for one query (dim,)."""
    if metric == "ip":
        products: Floats = x @ query
        return products
    difference = x - query
    distances: Floats = np.einsum("nd,nd->n", difference, difference)
    return -distances


def top(scores: Floats, k: int) -> Rows:
    """Positions of the k largest scores, by falling score, ties by position."""
    if k < len(scores):
        # Everything that ties with the k-th best stays in until the stable sort decides.
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k].astype(np.int64)


def train_codec(codec: str, x: Floats) -> Floats:
    """Ranges that the codec learns from a sample x (n, dim); empty for codecs that learn nothing."""
    quantizer = faiss.ScalarQuantizer(x.shape[1], CODECS[codec])
    quantizer.train(np.ascontiguousarray(x, np.float32))
    return np.asarray(faiss.vector_to_array(quantizer.trained), np.float32)


@dataclass(frozen=True, slots=True)
class Found:
    """What one segment offers for one query."""

    rows: Rows
    """Row numbers in the segment."""
    scores: Floats
    scanned: int
    exact: bool
    """False where the scores come from codes and want re-scoring."""


class Lists(Protocol):
    """Rows of a segment grouped by cell, ready to be probed."""

    nbytes: int

    def search(self, query: Floats, lists: Rows, k: int, mask: NDArray[np.bool_] | None) -> Found:
        """The k best rows within these lists (positions among the cells that occur) that pass the mask."""
        ...


class PlainLists:
    """Uncoded rows ordered by cell: exact scores, and for a few thousand rows as fast as any index."""

    def __init__(self, rows_by_list: Rows, offsets: Rows, vectors: Floats, metric: Metric) -> None:
        self._rows = rows_by_list
        self._offsets = offsets
        self._vectors = vectors
        self._metric: Metric = metric
        self.nbytes = int(vectors.nbytes + rows_by_list.nbytes + offsets.nbytes)

    def search(self, query: Floats, lists: Rows, k: int, mask: NDArray[np.bool_] | None) -> Found:
        spans = [np.arange(self._offsets[i], self._offsets[i + 1]) for i in lists]
        places = np.concatenate(spans) if spans else np.empty(0, np.int64)
        if mask is not None:
            places = places[mask[self._rows[places]]]
        scores = scores_of(query, self._vectors[places], self._metric)
        best = top(scores, k)
        return Found(self._rows[places[best]], scores[best], len(places), exact=True)


class CodedLists:
    """A FAISS inverted file over the cells that occur, read from `codes.faiss`."""

    def __init__(self, index: faiss.IndexIVF, nbytes: int) -> None:
        self._index = index
        self.nbytes = nbytes
        self._sign = 1 if index.metric_type == faiss.METRIC_INNER_PRODUCT else -1
        self._sizes = np.array([index.invlists.list_size(i) for i in range(index.nlist)], np.int64)

    def search(self, query: Floats, lists: Rows, k: int, mask: NDArray[np.bool_] | None) -> Found:
        query = np.ascontiguousarray(query, np.float32).reshape(1, -1)
        keys = np.ascontiguousarray(lists, np.int64)
        # The probe count belongs to the call: the index's own `nprobe` is shared between threads. The arrays and the
        # selector stay referenced here until the call returns, for FAISS holds bare pointers.
        selector = None
        if mask is not None:
            bits = np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(bits))
        parameters = faiss.SearchParametersIVF(nprobe=len(keys), sel=selector)
        coarse = np.zeros(len(keys), np.float32)
        scanned = int(self._sizes[keys].sum())
        k = min(k, scanned)
        distances = np.empty(k, np.float32)
        labels = np.empty(k, np.int64)
        self._index.search_preassigned_c(
            1,
            faiss.swig_ptr(query),
            k,
            faiss.swig_ptr(keys),
            faiss.swig_ptr(coarse),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(labels),
            False,
            parameters,
            None,
        )
        found = labels >= 0
        return Found(labels[found], self._sign * distances[found], scanned, exact=False)


def list_order(cell: NDArray[np.int32]) -> tuple[NDArray[np.int32], Rows, Rows]:
    """Cells that occur (sorted), offsets (n_lists + 1,) and row numbers ordered by cell, stable."""
    order = np.argsort(cell, kind="stable").astype(np.int64)
    cells, starts = np.unique(cell[order], return_index=True)
    return cells.astype(np.int32), np.append(starts, len(cell)).astype(np.int64), order


def write_lists(
    path: Path, vectors: Floats, cell: NDArray[np.int32], codec: str, trained: Floats, metric: Metric
) -> NDArray[np.uint32]:
    """Write an inverted file over the cells that occur in `cell` (n,), ids being row numbers; return a CRC-32 per list.

    Codes are taken of the vectors themselves, not of residuals: with residuals the routing scores handed to FAISS would
    be added to every result. The quantizer is stored empty, for its centroids already lie under `cells/`.
    """
    dim = vectors.shape[1]
    cells, _, _ = list_order(cell)
    quantizer = faiss.IndexFlat(dim, _metric(metric))
    index = faiss.IndexIVFScalarQuantizer(quantizer, dim, len(cells), CODECS[codec], _metric(metric), False)
    if len(trained):
        faiss.copy_array_to_vector(trained, index.sq.trained)
    index.is_trained = True
    ids = np.arange(len(vectors), dtype=np.int64)
    keys = np.searchsorted(cells, cell).astype(np.int64)
    rows = np.ascontiguousarray(vectors, np.float32)
    index.add_core(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(ids), faiss.swig_ptr(keys), None)
    _write_index(path, index)
    return list_checksums(index)


def _write_index(path: Path, index: faiss.Index) -> None:
    """Write an index through Python's files: FAISS's own say nothing of a disk that fills up at the last buffer."""
    faults: list[OSError] = []
    with synced(path) as file:

        def write(chunk: bytes) -> None:
            try:
                file.write(chunk)
            except OSError as error:  # It cannot pass through C++.
                faults.append(error)

        faiss.write_index(index, faiss.PyCallbackIOWriter(write))
        if faults:
            raise faults[0]


def list_checksums(index: faiss.IndexIVF) -> NDArray[np.uint32]:
    """CRC-32 of ids and codes of every list, so that a mapped file can be checked cell by cell."""
    sums = np.zeros(index.nlist, np.uint32)
    for i in range(index.nlist):
        size = index.invlists.list_size(i)
        ids = faiss.rev_swig_ptr(index.invlists.get_ids(i), size)
        codes = faiss.rev_swig_ptr(index.invlists.get_codes(i), size * index.code_size)
        sums[i] = zlib.crc32(codes, zlib.crc32(ids))
    return sums


def read_lists(path: Path) -> CodedLists:
    """Load an inverted file into memory; check its hash first, for FAISS does not notice changed bytes."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise CorruptData(
            f"{path.name} in {path.parent.name} cannot be read by FAISS; run a build to make it anew."
        ) from error
    return CodedLists(index, path.stat().st_size)
