"""The coarse partition of a collection: one set of cells, shared by all its shards; from some size on, in two levels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData, Untrusted
from engine.system import MAX_CELLS, RESTORE, load_array, load_shape, read_header, real_file, save_arrays
from engine.vectors.arrays import NOT_FINITE, Floats
from engine.vectors.clustering import kmeans, nearest
from engine.vectors.codecs import n_trained, train_codec
from engine.vectors.faiss_common import one_thread, preassigned

TRAIN_PER_CELL = 100
"""Rows per cell that k-means sees; more change little and cost time in proportion."""
NEEDS_TWO_LEVELS = 1024
"""From this many cells on, comparing with every one costs more than it saves, so there are always two levels."""
CELLS_PER_GROUP = 16
"""Cells in a group on average, where that makes more groups than their square root. Small groups let a search leave out
most cells by their group alone: of 8,192 cells, 512 groups led text queries to .95 of the answer with less work than 90 or 256."""
GROUPS_SEARCHED = 16
"""Groups in which the nearest cell is looked for."""
PROJECTED = 128
"""Directions in which groups are made and told apart: nearly as many rows find their truly nearest cell as by all, and k-means takes a quarter
of the time (`python -m benchmarks.cell_training`)."""
CODEC_ROWS = 131_072
"""Rows of the sample, at even distances, that the codec learns from."""

_BLOCK = 16_384
"""Rows looked at in one step, so that memory stays small however many there are."""
_GROUPS = 256
"""Groups whose cells are copied in one step."""
_AXES_ROWS = 16_384
"""Rows of the sample, at even distances, in whose main directions groups are made."""
_SPREAD_ROWS = 65_536
"""Rows that the spread is measured on, evenly from the sample; its relative error is then well under a hundredth."""
_PRIOR_ROWS = 4.0
"""Rows of the overall spread that are mixed into that of each cell."""
_STORED = ("centroids", "trained", "group_centroids", "group_of", "spread", "query_metric")
"""Fields of `Cells` that are a file each."""


@dataclass(frozen=True)
class Cells:
    """Centroids and what the codec learned, trained once per build and immutable."""

    cells_id: int
    centroids: Floats
    """(n_cells, dim) means in the space of the vectors; with two levels, the cells of a group stand together."""
    trained: Floats
    """The codec's ranges, shared by all segments: trained on a small segment alone they would not fit the next frames."""
    group_centroids: Floats
    """(n_groups, dim); (0, dim) where there is one level."""
    group_of: NDArray[np.int32]
    """(n_cells,) group of each cell, rising; empty where there is one level."""
    spread: Floats
    """(n_cells,) mean squared distance of the sample's rows in each cell to its centroid, for cells with few rows drawn
    towards the mean of all. Later frames that lie farther than that have drifted."""
    query_metric: Floats
    """(dim, dim) symmetric M: a row belongs to the centroid c with the least (x - c)' M (x - c). (0, 0) for plain distances."""

    codes_recall: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    """(2,) recall at 10 and at 100 of scores from codes, where only those are kept; else empty."""

    def __len__(self) -> int:
        return len(self.centroids)

    def with_codes_recall(self, codes_recall: Floats) -> Cells:
        """The same, and codes are all that is kept of rows."""
        return replace(self, codes_recall=codes_recall)

    @property
    def two_level(self) -> bool:
        return len(self.group_centroids) > 0

    def assign(self, vectors: Floats) -> NDArray[np.int32]:
        """Cell (n,) of each row of vectors (n, dim), in bounded memory.

        One level finds the nearest centroid. Two levels look in the `GROUPS_SEARCHED` nearest groups only. That finds the truly
        nearest of 1,024 cells for more than 0.99 of the rows of clustered data (tests/vectors/test_cells.py holds it), for the
        others one hardly farther.
        """
        blocks = [self._finder.nearest(vectors[i : i + _BLOCK]) for i in range(0, len(vectors), _BLOCK)]
        return np.concatenate([np.empty(0, np.int32), *blocks])

    @cached_property
    def _finder(self) -> _Finder:
        return _Finder(self)

    def distances(self, vectors: Floats, cell: NDArray[np.int32]) -> Floats:
        """Squared distance (n,) of each row of vectors (n, dim) to the centroid of its own cell (n,), in bounded memory."""
        distances = np.empty(len(vectors), np.float32)
        for i in range(0, len(vectors), _BLOCK):
            difference = vectors[i : i + _BLOCK] - self.centroids[cell[i : i + _BLOCK]]
            distances[i : i + _BLOCK] = np.einsum("nd,nd->n", difference, difference)
        return distances


class _Finder:
    """Finds the nearest centroid of rows by plain distances: rows and centroids are multiplied by the root of the metric.

    Groups are told apart in the `PROJECTED` directions in which they differ most, cells in all. FAISS does both, on all its threads.
    """

    def __init__(self, cells: Cells) -> None:
        self._root = _root(cells.query_metric)[0] if cells.query_metric.size else None
        self._two_level = cells.two_level
        if not cells.two_level:
            self._centroids = _times(cells.centroids, self._root)
            return
        groups = _times(cells.group_centroids, self._root)
        axes = _main_axes(groups)
        self._groups = _times(groups, axes)
        self._axes = axes if self._root is None or axes is None else self._root @ axes
        n_groups, dim = groups.shape
        self._n_searched = min(GROUPS_SEARCHED, n_groups)
        self._quantizer = faiss.IndexFlatL2(dim)  # Stays empty: the groups to search are given.
        self._lists = faiss.IndexIVFFlat(self._quantizer, dim, n_groups)
        starts = np.searchsorted(cells.group_of, np.arange(n_groups + 1)).tolist()
        for first in range(0, n_groups, _GROUPS):  # Some at a time, so that there is no second copy of all.
            last = min(first + _GROUPS, n_groups)
            centroids = _times(cells.centroids[starts[first] : starts[last]], self._root)
            ids = np.arange(starts[first], starts[last], dtype=np.int64)
            for group in range(first, last):
                mine = slice(starts[group] - starts[first], starts[group + 1] - starts[first])
                codes = centroids[mine].reshape(-1).view(np.uint8)
                self._lists.invlists.add_entries(
                    group, len(ids[mine]), faiss.swig_ptr(ids[mine]), faiss.swig_ptr(codes)
                )
        self._lists.ntotal, self._lists.is_trained = len(cells), True

    def nearest(self, vectors: Floats) -> NDArray[np.int32]:
        """Position (n,) of the nearest centroid of each row (n, dim)."""
        rows = np.ascontiguousarray(_times(vectors, self._root), np.float32)
        if not self._two_level:
            return nearest(rows, self._centroids)
        projected = rows if self._axes is None else vectors @ self._axes
        _, groups = faiss.knn(np.ascontiguousarray(projected), self._groups, self._n_searched)
        _, cell = preassigned(self._lists, rows, groups, 1)
        if cell.min(initial=0) < 0:
            raise CorruptData(NOT_FINITE)
        return cell[:, 0].astype(np.int32)


def _main_axes(rows: Floats) -> Floats | None:
    """(dim, PROJECTED) the directions in which rows (n, dim) differ most; None where there are no more than that."""
    if rows.shape[1] <= PROJECTED:
        return None
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return np.ascontiguousarray(axes[:, -PROJECTED:], np.float32)


def _times(rows: NDArray[np.floating], matrix: Floats | None) -> Floats:
    """Rows (n, dim) as float32, multiplied by a matrix, in steps; None leaves them as they are."""
    if matrix is None:
        return rows.astype(np.float32, copy=False)
    product = np.empty((len(rows), matrix.shape[1]), np.float32)
    for i in range(0, len(rows), _BLOCK):
        np.matmul(rows[i : i + _BLOCK].astype(np.float32, copy=False), matrix, out=product[i : i + _BLOCK])
    return product


def choose_n_cells(n_frames: int) -> int:
    """A power of two near 24 sqrt(n), with 8 frames each or more.

    Six times finer than the textbook's 4 sqrt(n): frames that answer a text lie scattered, so of small cells fewer frames
    are scanned in vain, and since most cells are left out with their group, more of them cost little.
    """
    if n_frames < 32:
        return 1
    return int(min(MAX_CELLS, 2 ** round(math.log2(24 * math.sqrt(n_frames))), 2 ** int(math.log2(n_frames / 8))))


def train_cells(
    sample: NDArray[np.floating],
    n_cells: int,
    codec: str,
    cells_id: int,
    *,
    two_level: bool,
    query_metric: Floats | None = None,
) -> Cells:
    """Train cells and codec on a sample (n, dim) of a collection's rows.

    From `NEEDS_TWO_LEVELS` cells on there are two levels whether asked for or not: `Cells.two_level` tells.

    Parameters
    ----------
    sample : float16 or float32; it is left as it is
    query_metric : (dim, dim) symmetric positive definite; cells then separate what queries ask about

    Raises
    ------
    ValueError
        If the sample has fewer rows than there are cells.

    Notes
    -----
    Two levels are k-means into groups, then k-means within each group on its own members, as in Nister and Stewenius's
    vocabulary tree (CVPR 2006) at depth two. Under a metric M, k-means runs on x M^(1/2); as that map is linear, the means
    of cells there are the images of their means here. A last step of Lloyd's over all cells lets rows at the border of a
    group move to the nearer cell of another, and as much is found in fewer rows.
    """
    if len(sample) < n_cells:
        raise ValueError(f"{n_cells} cells need at least as many frames to train on; there are {len(sample)}.")
    trained = train_codec(codec, sample[:: math.ceil(len(sample) / CODEC_ROWS)].astype(np.float32))
    there, back = (None, None) if query_metric is None else _root(query_metric)
    if two_level or n_cells >= NEEDS_TWO_LEVELS:
        centroids, group_centroids, group_of = _train_groups(sample, n_cells, there, back)
    else:
        centroids = _times(_centroids(_times(sample, there), n_cells), back)
        group_centroids, group_of = np.empty((0, sample.shape[1]), np.float32), np.empty(0, np.int32)
    metric = np.empty((0, 0), np.float32) if query_metric is None else query_metric
    nothing = np.zeros(n_cells, np.float32)
    cells = Cells(cells_id, centroids, trained, group_centroids, group_of, nothing, metric)
    del centroids
    if cells.two_level:
        cells = replace(cells, centroids=_means(sample, cells.assign(sample), cells.centroids))
    seen = sample[:: math.ceil(len(sample) / _SPREAD_ROWS)].astype(np.float32)
    cell = cells.assign(seen)
    distances = cells.distances(seen, cell)
    counts = np.bincount(cell, minlength=n_cells)
    totals = np.bincount(cell, weights=distances, minlength=n_cells)
    spread = (totals + _PRIOR_ROWS * distances.mean(dtype=np.float64)) / (counts + _PRIOR_ROWS)
    return replace(cells, spread=spread.astype(np.float32))


def _means(rows: NDArray[np.floating], cell: NDArray[np.int32], centroids: Floats) -> Floats:
    """Mean (n_cells, dim) of the rows of each cell; where a cell has none, its centroid as it was."""
    counts = np.bincount(cell, minlength=len(centroids))
    means = np.where(counts[:, None] > 0, np.float32(0), centroids)
    for i in range(0, len(rows), _BLOCK):
        some = cell[i : i + _BLOCK]
        order = np.argsort(some, kind="stable")
        occurring, starts = np.unique(some[order], return_index=True)
        means[occurring] += np.add.reduceat(rows[i + order].astype(np.float32, copy=False), starts, axis=0)
    means /= np.maximum(counts, 1)[:, None].astype(np.float32)
    return means


def _root(metric: Floats) -> tuple[Floats, Floats]:
    """The symmetric square root of a metric, and its inverse."""
    values, axes = np.linalg.eigh(metric.astype(np.float64))
    root = np.sqrt(values)
    return ((axes * root) @ axes.T).astype(np.float32), ((axes / root) @ axes.T).astype(np.float32)


def _train_groups(
    sample: NDArray[np.floating], n_cells: int, there: Floats | None, back: Floats | None
) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """Centroids of the cells and of the groups, and the group of each cell.

    Parameters
    ----------
    there, back : the root of the metric, and its inverse; None for plain distances
    """
    axes = _main_axes(_times(sample[:: math.ceil(len(sample) / _AXES_ROWS)], there))
    projected = _times(sample, axes if there is None else there if axes is None else there @ axes)
    group_centroids = _centroids(projected, max(round(math.sqrt(n_cells)), n_cells // CELLS_PER_GROUP))
    group = nearest(projected, group_centroids)
    del projected
    occurring, place, members = np.unique(group, return_inverse=True, return_counts=True)
    group = place.astype(np.int32)
    group_centroids = _means(sample, group, np.zeros((len(occurring), sample.shape[1]), np.float32))
    share = _share_out(n_cells, members)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(members)
    centroids = np.empty((n_cells, sample.shape[1]), np.float32)
    start = 0
    with one_thread():  # Several would wait for each other longer than they work on so few rows.
        for first in range(0, len(members), _GROUPS):
            last = min(first + _GROUPS, len(members))
            some = _times(sample[order[ends[first] - members[first] : ends[last - 1]]], there)
            parts = np.split(some, np.cumsum(members[first : last - 1]))
            found = np.concatenate([_centroids(x, int(n)) for x, n in zip(parts, share[first:last], strict=True)])
            centroids[start : start + len(found)] = _times(found, back)
            start += len(found)
    return centroids, group_centroids, np.repeat(np.arange(len(share), dtype=np.int32), share)


def _share_out(n_cells: int, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cells per group in proportion to its members (largest remainders): at least one, at most as many as members."""
    spare = n_cells - len(members)
    share, remainder = np.divmod((members - 1) * spare, max(1, int((members - 1).sum())))
    left = spare - int(share.sum())
    share[np.argsort(-remainder, kind="stable")[:left]] += 1
    return 1 + share


def _centroids(sample: Floats, n: int) -> Floats:
    """k-means; a single centroid is the mean."""
    if n == 1:
        mean: Floats = sample.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        return mean
    return kmeans(sample, n)


def write_cells(folder: Path, cells: Cells) -> dict[str, str]:
    """Write and sync the files of a set of cells; return their hashes by name."""
    names = (*_STORED, "codes_recall") if len(cells.codes_recall) else _STORED
    return save_arrays(folder, {name: getattr(cells, name) for name in names})


def read_cells(folder: Path, cells_id: int, hashes: Mapping[str, str], dim: int, codec: str) -> Cells:
    """Load a set of cells, checked whole.

    Raises
    ------
    CorruptData
        If a file is missing, differs from what was written, or does not fit the others.
    """

    def load(name: str, *shape: int | None, dtype: type[np.generic] = np.float32) -> NDArray[Any]:
        return load_array(folder / f"{name}.npy", hashes, dtype, shape, finite=dtype is np.float32)

    centroids = load("centroids", None, dim)
    group_centroids = load("group_centroids", None, dim)
    n, n_groups = len(centroids), len(group_centroids)
    if not 1 <= n <= MAX_CELLS or n_groups > n:
        raise _misfit(folder, f"{n:,} cells in {n_groups:,} groups")
    group_of = load("group_of", n if n_groups else 0, dtype=np.int32)
    spread = load("spread", n)
    n_metric = min(dim, *load_shape(folder / "query_metric.npy", np.float32, 2))
    metric = load("query_metric", *(dim if n_metric else 0,) * 2)
    trained = load("trained", n_trained(codec, dim))
    if n_groups and not are_groups(group_of, n_groups):
        raise _misfit(folder, "cells that are not sorted by their group")
    if spread.min() < 0:
        raise _misfit(folder, "a spread below zero")
    cells = Cells(cells_id, centroids, trained, group_centroids, group_of, spread, metric)
    return cells.with_codes_recall(load("codes_recall", 2)) if "codes_recall.npy" in hashes else cells


def are_groups(group_of: NDArray[np.int32], n_groups: int) -> bool:
    """Whether groups (at least one) are numbered as they come and none is empty, so that the cells of each stand together."""
    return bool(group_of[0] == 0 and group_of[-1] == n_groups - 1 and np.isin(np.diff(group_of), (0, 1)).all())


def _misfit(folder: Path, what: str) -> CorruptData:
    return CorruptData(f"The files of the cells in {folder.name} hold {what}, which cannot be; {RESTORE}.")


class Training:
    """The number of cells and the codec's ranges that the segments of these cells must fit; read when first needed."""

    def __init__(self, folder: Path, hashes: Mapping[str, str], dim: int, codec: str) -> None:
        self._folder = folder
        self._hashes = hashes
        self._dim = dim
        self._codec = codec

    @cached_property
    def n_cells(self) -> int:
        """Number of cells; `MAX_CELLS` where it cannot be read, as whoever needs the cells gets the error."""
        with suppress(OSError, CorruptData, Untrusted), real_file(self._folder / "centroids.npy").open("rb") as file:
            return read_header(file, "centroids.npy", (np.float32,), (None, self._dim), "").shape[0]
        return MAX_CELLS

    @cached_property
    def trained(self) -> Floats:
        """The codec's ranges.

        Raises
        ------
        CorruptData
            If their file is missing or differs from what was written.
        """
        n = n_trained(self._codec, self._dim)
        return load_array(self._folder / "trained.npy", self._hashes, np.float32, (n,), finite=True)
