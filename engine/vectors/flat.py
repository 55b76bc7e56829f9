"""Exact scores of rows as they are: of arrays in memory, and of rows that are mapped from a file."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.system import read_errors
from engine.vectors.arrays import NOT_FINITE, Floats, Metric, Rows
from engine.vectors.faiss_common import metric_number, write_index
from engine.vectors.masks import RowHits, count_passing, search_passing


def scores_of(query: Floats, x: Floats, metric: Metric) -> Floats:
    """Exact scores (n,) of the rows of x (n, dim) for one query (dim,), or (m, n) for several (m, dim)."""
    if metric == "ip":
        products: Floats = query @ x.T
        return products
    if query.ndim == 2:
        return np.stack([scores_of(row, x, metric) for row in query])
    difference = x - query
    distances: Floats = np.einsum("nd,nd->n", difference, difference)
    return -distances


def products_at(query: Floats, x: Floats, rows: Rows) -> Floats:
    """Inner products (n,) of one query (dim,) with some rows of x (any, dim), all float32 and C-contiguous, without copying them."""
    products = np.empty(len(rows), np.float32)
    faiss.fvec_inner_products_by_idx(
        *(faiss.swig_ptr(array) for array in (products, query, x, rows)), x.shape[1], 1, len(rows)
    )
    return products


def exact_scores(query: Floats, rows: NDArray[np.floating], metric: Metric) -> Floats:
    """Scores (n,) of stored rows (n, dim) for one query (1, dim). FAISS reads float16 as it is, which saves turning it into float32."""
    hits = FlatRows(rows, metric).search(query, len(rows))
    if hits.rows.min(initial=0) < 0:  # FAISS passes over what compares with nothing.
        raise CorruptData(NOT_FINITE)
    scores = np.empty(len(rows), np.float32)
    scores[hits.rows[0]] = hits.scores[0]
    return scores


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
        write_index(path, self._index)

    @classmethod
    def read(cls, path: Path, metric: Metric) -> FlatRows:
        """Read a file that `write` made whole into memory.

        Raises
        ------
        CorruptData
            If it is no such file.
        """
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
    ) -> RowHits:
        """The k best rows that pass the mask, by exact score, for queries (m, dim); `n_passing` saves counting them."""
        n = self._index.ntotal if mask is None else count_passing(mask, n_passing)
        scanned = np.full(len(queries), n)
        if not n:
            return RowHits.none(scanned, exact=True)

        def search(some: NDArray[np.bool_] | slice, k: int, selector: faiss.IDSelector | None) -> tuple[Floats, Rows]:
            parameters = None if selector is None else faiss.SearchParameters(sel=selector)
            return self._index.search(queries[some], k, params=parameters)  # type: ignore[no-any-return]

        distances, labels = search_passing(search, min(k, n), mask, n)
        return RowHits.of(distances, labels, self._sign, scanned, exact=True)
