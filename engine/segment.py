"""A segment: the immutable files that hold some frames of one shard.

vectors.npy    (n, dim) float16 or float32: the record, mapped
frames.arrow   row-aligned columns, sorted by (video, frame_index, frame_id)
cells.npy      per cell that occurs: its number, its rows, and the CRC-32 of its inverted list
codes.faiss    inverted lists of compressed codes; only from `CODED_FROM` rows on, below that rows are scanned as they are
"""

from __future__ import annotations

import threading
import zlib
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import stats, vectorindex
from engine.cells import Cells
from engine.columns import FrameColumns, read_columns, write_columns
from engine.durable import check_file, file_hash, save_array, sync_folder, synced
from engine.errors import CorruptData
from engine.manifest import SegmentRow
from engine.vectorindex import Floats, Found, Lists, Metric, PlainLists, Rows

CODED_FROM = 10_000
"""Rows from which a segment gets coded lists."""
_SCAN_ROWS = 8192
_CELL = np.dtype([("cell", np.int32), ("rows", np.int64), ("crc", np.uint32)])


def row_checksums(vectors: NDArray[np.generic]) -> NDArray[np.uint32]:
    """CRC-32 of the bytes of each row."""
    return np.fromiter((zlib.crc32(row) for row in np.ascontiguousarray(vectors)), np.uint32, len(vectors))


def write_segment(
    folder: Path,
    segment_id: int,
    shard: int,
    vectors: NDArray[np.floating],
    columns: FrameColumns,
    cells: Cells | None,
    codec: str,
    metric: Metric,
    at: datetime,
) -> SegmentRow:
    """Write and sync the files of one segment; the catalog makes them count.

    Parameters
    ----------
    vectors : (n, dim) in the stored type, n at least 1
    columns : of the same n frames, in any order; their `cell` must be right if `cells` is given
    cells : None before the first build, when everything is scanned
    """
    order = np.lexsort((columns.frame_id, columns.frame_index, columns.video))
    vectors = np.ascontiguousarray(vectors[order])
    columns = columns.take(order).with_values(row_crc=row_checksums(vectors))
    folder.mkdir(parents=True)
    save_array(folder / "vectors.npy", vectors)
    with synced(folder / "frames.arrow") as file:
        write_columns(file, columns)
    occupied, offsets, _ = vectorindex.list_order(columns.cell)
    table = np.zeros(len(occupied), _CELL)
    table["cell"], table["rows"] = occupied, np.diff(offsets)
    if cells is not None and len(columns) >= CODED_FROM:
        floats = vectors.astype(np.float32)
        table["crc"] = vectorindex.write_lists(
            folder / "codes.faiss", floats, columns.cell, codec, cells.trained, metric
        )
    save_array(folder / "cells.npy", table)
    sync_folder(folder)
    sync_folder(folder.parent)
    files = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    return SegmentRow(segment_id, shard, len(columns), files, stats.describe(columns), at)


class Segment:
    """A segment opened for reading. Every byte is checked before it takes part in an answer."""

    def __init__(self, folder: Path, row: SegmentRow, dim: int, metric: Metric) -> None:
        self.folder = folder
        self.row = row
        self.n_rows = row.n_rows
        self._dim = dim
        self._metric: Metric = metric
        self._verified = False
        self._lock = threading.Lock()

    @property
    def coded(self) -> bool:
        return "codes.faiss" in self.row.files

    @property
    def scanned_whole(self) -> bool:
        """True for a segment too large to keep uncoded in memory that has no codes either, as before a build."""
        return not self.coded and self.n_rows >= CODED_FROM

    def are_few(self, n_rows: int) -> bool:
        """Whether so few rows are better gathered and checked one by one than scanned with all the others."""
        return n_rows * 20 < self.n_rows

    @cached_property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def _check(self, name: str) -> Path:
        path = self.folder / name
        check_file(path, self.row.files[name])
        return path

    @cached_property
    def columns(self) -> FrameColumns:
        """The frame columns, checked whole on first use and mapped."""
        return read_columns(self._check("frames.arrow"))

    @cached_property
    def _cells(self) -> NDArray[np.void]:
        table: NDArray[np.void] = np.load(self._check("cells.npy"))
        return table

    @property
    def cells(self) -> NDArray[np.int32]:
        """Cells that occur here, rising; a list's position is its cell's position in this array."""
        cells: NDArray[np.int32] = self._cells["cell"]
        return cells

    @property
    def cell_rows(self) -> Rows:
        """Rows per cell that occurs."""
        rows: Rows = self._cells["rows"]
        return rows

    @cached_property
    def vectors(self) -> NDArray[np.floating]:
        """The stored rows (n, dim), mapped. Check rows with `gather`, or all with `verify`."""
        try:
            mapped: NDArray[np.floating] = np.load(self.folder / "vectors.npy", mmap_mode="r")
        except Exception as error:  # NumPy parses the header as Python: a changed byte may even raise a TokenError.
            raise CorruptData(
                f"vectors.npy in {self.folder.name} cannot be read ({error}); restore it from a copy."
            ) from error
        # The rows have checksums, but read as numbers of another type they would pass them.
        if mapped.shape != (self.n_rows, self._dim) or mapped.dtype.str not in ("<f2", "<f4"):
            raise CorruptData(
                f"vectors.npy in {self.folder.name} is {mapped.dtype} {mapped.shape}, not floats {(self.n_rows, self._dim)}; restore it from a copy."
            )
        return mapped

    def verify(self) -> None:
        """Check all stored rows once per process, before the first scan."""
        with self._lock:
            if not self._verified:
                self._check("vectors.npy")
                self._verified = True

    def stored(self, rows: Rows) -> NDArray[np.floating]:
        """These rows (n, dim) as stored, each checked against its CRC."""
        picked = np.ascontiguousarray(self.vectors[rows])
        if not np.array_equal(row_checksums(picked), self.columns.row_crc[rows]):
            raise CorruptData(
                f"vectors.npy in {self.folder.name} is not what was written (a row's checksum differs); restore it from a copy."
            )
        return picked

    def gather(self, rows: Rows) -> Floats:
        """These rows as (n, dim) float32, checked."""
        return self.stored(rows).astype(np.float32)

    def scores(self, query: Floats, rows: Rows) -> Floats:
        """Exact scores (n,) of these rows."""
        return vectorindex.scores_of(query, self.gather(rows), self._metric)

    def load(self) -> Lists:
        """Read the lists into memory, checked whole: codes where there are any, else the rows themselves."""
        if self.coded:
            return vectorindex.read_lists(self._check("codes.faiss"))
        self.verify()
        _, offsets, order = vectorindex.list_order(self.columns.cell)
        return PlainLists(order, offsets, self.vectors[order].astype(np.float32), self._metric)

    @property
    def load_nbytes(self) -> int:
        """Bytes that `load` reads."""
        return (self.folder / ("codes.faiss" if self.coded else "vectors.npy")).stat().st_size

    def scan(self, query: Floats, k: int, mask: NDArray[np.bool_] | None) -> Found:
        """The k best of all rows that pass the mask, by exact score, read from the map in bounded steps."""
        rows = np.arange(self.n_rows) if mask is None else np.flatnonzero(mask)
        few = self.are_few(len(rows))
        if not few:
            self.verify()
        best_rows, best_scores = np.empty(0, np.int64), np.empty(0, np.float32)
        for start in range(0, len(rows), _SCAN_ROWS):
            step = rows[start : start + _SCAN_ROWS]
            if few:
                chunk: NDArray[np.floating] = self.stored(step)
            else:
                chunk = self.vectors[step[0] : step[-1] + 1] if mask is None else self.vectors[step]
            scores = vectorindex.scores_of(query, chunk.astype(np.float32), self._metric)
            best_rows, best_scores = np.append(best_rows, step), np.append(best_scores, scores)
            keep = vectorindex.top(best_scores, k)
            best_rows, best_scores = best_rows[keep], best_scores[keep]
        return Found(best_rows.astype(np.int64), best_scores.astype(np.float32), len(rows), exact=True)

    def problems(self) -> list[str]:
        """What is wrong with the files of this segment, a sentence each."""
        found = []
        for name in self.row.files:
            try:
                self._check(name)
            except CorruptData as error:
                found.append(str(error))
        return found
