"""The coarse partition of a collection: one set of cells, shared by all its shards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import vectorindex
from engine.durable import check_file, file_hash, save_array, sync_folder
from engine.vectorindex import Floats, Metric

TRAIN_PER_CELL = 100
"""Rows per cell that k-means sees; more change little and cost time in proportion."""
MAX_CELLS = 16_384
"""Above this, scoring every cell costs more than it saves without a second level."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Centroids and what the codec learned, trained once per build and immutable."""

    cells_id: int
    centroids: Floats
    """(n_cells, dim)"""
    trained: Floats
    """The codec's ranges, shared by all segments: trained on a small segment alone they would not fit the next frames."""

    def __len__(self) -> int:
        return len(self.centroids)

    def assign(self, vectors: Floats) -> NDArray[np.int32]:
        """Cell (n,) of each row of vectors (n, dim)."""
        return vectorindex.nearest(vectors, self.centroids)


def choose_n_cells(n_frames: int) -> int:
    """A power of two near 8 sqrt(n): finer than the textbook's 4 sqrt(n), because text queries spread over more cells."""
    if n_frames < 32:
        return 1
    return int(min(MAX_CELLS, 2 ** round(math.log2(8 * math.sqrt(n_frames))), 2 ** int(math.log2(n_frames / 4))))


def train(sample: Floats, n_cells: int, codec: str, cells_id: int) -> Cells:
    """Train cells and codec on a sample (n, dim) of a collection's rows.

    Raises
    ------
    ValueError
        If the sample has fewer rows than there are cells.
    """
    if len(sample) < n_cells:
        raise ValueError(f"{n_cells} cells need at least as many frames to train on; there are {len(sample)}.")
    centroids = sample.mean(axis=0, keepdims=True) if n_cells == 1 else vectorindex.kmeans(sample, n_cells)
    return Cells(cells_id, centroids.astype(np.float32), vectorindex.train_codec(codec, sample))


def write_cells(folder: Path, cells: Cells) -> dict[str, str]:
    """Write and sync the files of a set of cells; return their hashes by name."""
    folder.mkdir(parents=True)
    hashes = {}
    for name in ("centroids", "trained"):
        path = folder / f"{name}.npy"
        save_array(path, getattr(cells, name))
        hashes[path.name] = file_hash(path)
    sync_folder(folder)
    sync_folder(folder.parent)
    return hashes


def read_cells(folder: Path, cells_id: int, hashes: Mapping[str, str]) -> Cells:
    """Load a set of cells, checked whole.

    Raises
    ------
    CorruptData
        If a file is missing or differs from what was written.
    """
    for name, expected in hashes.items():
        check_file(folder / name, expected)
    return Cells(cells_id, np.load(folder / "centroids.npy"), np.load(folder / "trained.npy"))


def metric_of(name: str) -> Metric:
    """The metric by its stored name."""
    if name == "ip":
        return "ip"
    if name == "l2":
        return "l2"
    raise ValueError(f"Unknown metric {name!r}; use ip or l2.")
