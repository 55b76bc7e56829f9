"""A segment: the immutable files that hold some frames of one shard.

vectors.npy    (n, dim) float16 or float32: the record, mapped
frames.arrow   row-aligned columns, sorted by (video, frame_index, frame_id)
cells.npy      per cell that occurs: its number, its rows, and the CRC-32 of its inverted list
codes.faiss    inverted lists of compressed codes; only from `CODED_FROM` rows on, below that rows are scanned as they are
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
import weakref
import zlib
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine import stats, vectorindex
from engine.cells import Cells
from engine.columns import FrameColumns, read_columns, write_columns
from engine.durable import check_file, file_hash, save_array, shortage, sync_folder, synced, write_header
from engine.errors import CorruptData
from engine.manifest import SegmentRow
from engine.vectorindex import FlatRows, Floats, Found, Lists, ListsWriter, Metric, Rows

CODED_FROM = 10_000
"""Rows from which a segment gets coded lists."""
MAX_NBYTES = 256 << 20
"""Bytes of stored rows up to which a segment grows; a larger shard has several."""
Residency = Literal["loaded", "mapped"]
"""Whether codes are read into the cache or left in the file and mapped."""
_STEP = 8192
_SAMPLED = 2000
"""Rows of a segment from which the fit of cells and codec is judged."""
_GATHERED = 200
"""Rows up to which gathering always wins."""
_REMEMBER_SECONDS = 10.0
_TINY = 1e-12
_CELL = np.dtype([("cell", np.int32), ("rows", np.int64), ("crc", np.uint32)])
Stored = Callable[[Rows], NDArray[np.floating]]
"""Gives stored vectors (m, dim) of some rows, checked."""


def row_checksums(vectors: NDArray[np.generic]) -> NDArray[np.uint32]:
    """CRC-32 of the bytes of each row."""
    return np.fromiter((zlib.crc32(row) for row in np.ascontiguousarray(vectors)), np.uint32, len(vectors))


def max_rows(dim: int, store: str) -> int:
    """Rows that a segment may hold."""
    return max(CODED_FROM, MAX_NBYTES // (dim * (2 if store == "fp16" else 4)))


def has_codes(rows: Rows) -> NDArray[np.bool_]:
    """Whether built segments of so many rows get codes."""
    return rows >= CODED_FROM


def write_segment(
    folder: Path,
    segment_id: int,
    shard: int,
    columns: FrameColumns,
    stored: Stored,
    cells: Cells | None,
    codec: str,
    metric: Metric,
    at: datetime,
) -> SegmentRow:
    """Write and sync the files of one segment; the catalog makes them count. Vectors pass through in bounded steps.

    Parameters
    ----------
    columns : of n frames, n at least 1, in any order; `row_crc` must be right, and `cell` too if `cells` is given
    stored : gives the vectors of the frames at these positions of `columns`, in the stored type
    cells : None before the first build, when everything is scanned

    Raises
    ------
    ValueError
        If there are cells, and a value is too large for the codec.
    """
    order = np.lexsort((columns.frame_id, columns.frame_index, columns.video))
    columns = columns.take(order)
    occupied, counts = vectorindex.list_order(columns.cell)
    first = stored(order[:1])
    dim = first.shape[1]
    lists = None
    if cells is not None and len(columns) >= CODED_FROM:
        lists = ListsWriter(dim, occupied, codec, cells.trained, metric)
    folder.mkdir(parents=True)
    seen = []
    with synced(folder / "vectors.npy") as file:
        write_header(file, (len(columns), dim), first.dtype)
        for start in range(0, len(columns), _STEP):
            rows = stored(order[start : start + _STEP])
            if cells is not None:  # Even without codes: merged with others, the same rows get some later.
                vectorindex.check_values(rows, codec)
            file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
            if lists is not None:
                lists.add(rows.astype(np.float32), columns.cell[start : start + _STEP])
            seen.append(_sample(rows, columns.cell[start : start + _STEP], len(columns)))
    with synced(folder / "frames.arrow") as file:
        write_columns(file, columns)
    described = stats.describe(columns)
    table = np.zeros(len(occupied), _CELL)
    table["cell"], table["rows"] = occupied, counts
    if lists is not None:
        path = folder / "codes.faiss"
        table["crc"] = lists.write(path)
        described["header"] = _header(path, lists.header_nbytes(path))
    if cells is not None:
        described |= _fit(seen, cells, codec)
    save_array(folder / "cells.npy", table)
    sync_folder(folder)
    sync_folder(folder.parent)
    files = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    return SegmentRow(segment_id, shard, len(columns), files, described, at)


def _sample(rows: NDArray[np.floating], cell: NDArray[np.int32], n: int) -> tuple[Floats, NDArray[np.int32]]:
    step = -(-n // _SAMPLED)
    return rows[::step].astype(np.float32), cell[::step]


def _fit(seen: list[tuple[Floats, NDArray[np.int32]]], cells: Cells, codec: str) -> dict[str, float]:
    """How well cells and codec fit these rows.

    `drift` is the mean squared distance to the own centroid, in that of the rows which trained the same cells; `clipped` the
    share of values beyond the codec's range.
    """
    rows, cell = np.concatenate([each for each, _ in seen]), np.concatenate([each for _, each in seen])
    return {
        "drift": float(cells.distances(rows, cell).mean() / max(cells.spread[cell].mean(), _TINY)),
        "clipped": vectorindex.clipped(rows, codec, cells.trained),
    }


def _header(path: Path, nbytes: int) -> list[Any]:
    """What stands before the lists: its length, the length of the whole file, and its hash."""
    with path.open("rb") as file:
        return [nbytes, path.stat().st_size, hashlib.blake2b(file.read(nbytes), digest_size=16).hexdigest()]


class Segment:
    """A segment opened for reading. Every byte is checked before it takes part in an answer."""

    def __init__(self, folder: Path, row: SegmentRow, dim: int, metric: Metric, codec: str) -> None:
        self.folder = folder
        self.row = row
        self.n_rows = row.n_rows
        self._dim = dim
        self._metric: Metric = metric
        self._exact_codes = codec == "fp32"
        self._verified = False
        self._asked = np.empty(0, np.bool_)
        self._asked_since = -math.inf
        self._lock = threading.Lock()

    @property
    def coded(self) -> bool:
        return "codes.faiss" in self.row.files

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
    def by_list(self) -> tuple[NDArray[np.int32], Rows]:
        """Row numbers (n,) cell by cell, and where each cell that occurs starts among them."""
        order = np.argsort(self.columns.cell, kind="stable").astype(np.int32)
        return order, np.cumsum(self.cell_rows) - self.cell_rows

    @cached_property
    def vectors(self) -> NDArray[np.floating]:
        """The stored rows (n, dim), mapped. Check rows with `stored`, or all with `verify`."""
        try:
            mapped: NDArray[np.floating] = np.load(self.folder / "vectors.npy", mmap_mode="r")
        except Exception as error:  # NumPy parses the header as Python: a changed byte may even raise a TokenError.
            short = shortage(f"reading vectors.npy in {self.folder.name}", error)
            if short is not None:
                raise short from error
            raise CorruptData(
                f"vectors.npy in {self.folder.name} cannot be read ({error}); restore it from a copy."
            ) from error
        # The rows have checksums, but read as numbers of another type they would pass them.
        if mapped.shape != (self.n_rows, self._dim) or mapped.dtype.str not in ("<f2", "<f4"):
            raise CorruptData(
                f"vectors.npy in {self.folder.name} is {mapped.dtype} {mapped.shape}, not floats {(self.n_rows, self._dim)}; restore it from a copy."
            )
        return mapped

    @cached_property
    def _rows(self) -> NDArray[np.floating]:
        """The same as a plain array, which is quicker to take rows from."""
        return self.vectors.view(np.ndarray)

    @cached_property
    def _flat(self) -> FlatRows:
        return FlatRows(self.vectors, self._metric)

    def verify(self) -> int:
        """Check all stored rows once per process, before the first scan; returns the bytes read for it, 0 later."""
        with self._lock:
            if self._verified:
                return 0
            read = self._check("vectors.npy").stat().st_size
            self._verified = True
            return read

    def stored(self, rows: Rows) -> NDArray[np.floating]:
        """These rows (n, dim) as stored, each checked against its CRC the first time it is read."""
        picked = self._read(rows)
        if not self._verified:
            new = np.flatnonzero(~self._sound[rows])
            if len(new):
                if not np.array_equal(row_checksums(picked[new]), self.columns.row_crc[rows[new]]):
                    raise CorruptData(
                        f"vectors.npy in {self.folder.name} is not what was written (a row's checksum differs); restore it from a copy."
                    )
                self._sound[rows[new]] = True
        return picked

    def _read(self, rows: Rows) -> NDArray[np.floating]:
        """These rows (n, dim) as they stand in the file.

        A few are read one by one: through the mapping, each would make the process hold the pages around it as well.
        """
        if len(rows) > _GATHERED:
            return self._rows.take(rows, axis=0)
        first, width = self._place_of_rows
        read = b"".join([os.pread(self._handle, width, first + row * width) for row in rows.tolist()])
        if len(read) != len(rows) * width:
            raise CorruptData(f"vectors.npy in {self.folder.name} ends before its last row; restore it from a copy.")
        return np.frombuffer(read, self.vectors.dtype).reshape(len(rows), self._dim)

    @cached_property
    def _place_of_rows(self) -> tuple[int, int]:
        """Where the first row starts in the file, and the bytes of a row."""
        first: int = self.vectors.offset  # type: ignore[attr-defined]
        return first, self.vectors.itemsize * self._dim

    @cached_property
    def _sound(self) -> NDArray[np.bool_]:
        """(n,) rows whose CRC was compared already."""
        return np.zeros(self.n_rows, np.bool_)

    def ask_for(self, rows: Rows) -> None:
        """Tell the system that these rows are read next, so that a disk fetches them side by side and not one after another.

        A row that was asked for within the last seconds is in memory, most likely, and is passed over.
        """
        if not hasattr(os, "posix_fadvise"):
            return
        if time.monotonic() - self._asked_since > _REMEMBER_SECONDS:
            self._asked, self._asked_since = np.zeros(self.n_rows, np.bool_), time.monotonic()
        new = rows[~self._asked[rows]]
        self._asked[new] = True
        first, width = self._place_of_rows
        for row in new.tolist():
            os.posix_fadvise(self._handle, first + row * width, width, os.POSIX_FADV_WILLNEED)

    @cached_property
    def _handle(self) -> int:
        handle = os.open(self.folder / "vectors.npy", os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, handle)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        return handle

    def gather(self, rows: Rows) -> Floats:
        """These rows as (n, dim) float32, checked."""
        return self.stored(rows).astype(np.float32)

    def load(self, residency: Residency) -> Lists:
        """Open the lists: codes where there are any, else the rows themselves in memory. Checked whole, or list by list where mapped."""
        if not self.coded:
            self.verify()
            return vectorindex.plain_lists(self.vectors, self.columns.cell, self._metric)
        if residency == "loaded":
            return vectorindex.read_lists(self._check("codes.faiss"), exact=self._exact_codes)
        path = self.folder / "codes.faiss"
        try:
            told = _header(path, self.row.stats["header"][0])
        except OSError as error:
            raise CorruptData(
                f"codes.faiss in {self.folder.name} cannot be read ({error.strerror}); restore it from a copy."
            ) from error
        if told != self.row.stats["header"]:
            raise CorruptData(
                f"codes.faiss in {self.folder.name} is not what was written; restore it from a copy or run a build."
            )
        return vectorindex.read_lists(path, exact=self._exact_codes, checksums=self._cells["crc"])

    def load_nbytes(self, residency: Residency) -> int:
        """Bytes that `load` reads."""
        if self.coded and residency == "mapped":
            return int(self.row.stats["header"][0])
        return (self.folder / ("codes.faiss" if self.coded else "vectors.npy")).stat().st_size

    def are_few(self, n_rows: int) -> bool:
        """Whether so few rows are better gathered and checked one by one than scanned with all the others."""
        return n_rows * 16 < self.n_rows or n_rows <= _GATHERED

    def scan(
        self, queries: Floats, k: int, mask: NDArray[np.bool_] | None = None, n_passing: int | None = None
    ) -> tuple[Found, int]:
        """The k best of all rows that pass the mask, by exact score, for queries (m, dim); and the bytes read for it.

        Few rows are read one by one; else the mapped file is scanned, which is read and checked whole the first time.
        """
        if mask is not None:
            n_passing = int(np.count_nonzero(mask)) if n_passing is None else n_passing
            if self.are_few(n_passing):
                return self._scan_few(queries, k, np.flatnonzero(mask)), n_passing * int(self.vectors[0].nbytes)
        read = self.verify()
        return self._flat.search(queries, k, mask, n_passing), read

    def scan_nbytes(self, n_passing: int | None) -> int:
        """Bytes that `scan` would read now, where so many rows pass a mask; None for no mask."""
        if n_passing is not None and self.are_few(n_passing):
            return n_passing * int(self.vectors[0].nbytes)
        return 0 if self._verified else (self.folder / "vectors.npy").stat().st_size

    def _scan_few(self, queries: Floats, k: int, rows: Rows) -> Found:
        self.ask_for(rows)
        found = FlatRows(self.stored(rows), self._metric).search(queries, k)
        return Found(rows[found.rows], found.scores, found.scanned, exact=True)

    def problems(self) -> list[str]:
        """What is wrong with the files of this segment, a sentence each."""
        found = []
        for name in self.row.files:
            try:
                self._check(name)
            except CorruptData as error:
                found.append(str(error))
        return found
