"""A segment: the immutable files that hold some frames of one shard.

vectors.npy    (n, dim) float16 or float32: the record, mapped; absent where codes are all that is kept (`store=codes`)
frames.arrow   row-aligned columns, sorted by (video, frame_index, frame_id)
cells.npy      per cell that occurs: its number, its rows, and the CRC-32 of its inverted list
codes.faiss    inverted lists of compressed codes; only in collections of `Limits.coded_from` frames or more; else rows are scanned as they are
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData, Untrusted
from engine.frames import FrameColumns, map_bytes, max_file_nbytes, read_columns, statistics
from engine.storage.coded_record import CodedRecord
from engine.storage.manifest import SegmentRow
from engine.system import (
    MAX_CELLS,
    OPEN_FILES,
    RESTORE,
    WatchedFile,
    check_bytes,
    check_file,
    fetch_ahead,
    load_array,
    read_errors,
    read_header,
    read_into,
    real_file,
    real_files,
    runs,
)
from engine.vectors import (
    CODECS,
    FlatRows,
    Floats,
    ListFile,
    Lists,
    ListsForm,
    Metric,
    RowHits,
    Rows,
    Training,
    plain_lists,
    read_lists,
)

Residency = Literal["auto", "loaded", "lists", "mapped"]
"""How codes are held: whole segments in the cache, single lists in the cache, or left in the file and mapped. `auto` is the
first where the cache has room for all of them, else the second."""
STEP = 8192
"""Rows read or written at a time."""
_GATHERED = 200
"""Rows up to which gathering always wins."""
_AT_ONCE = getattr(os, "RWF_NOWAIT", 0)
CELL = np.dtype([("cell", np.int32), ("rows", np.int64), ("crc", np.uint32)])
"""A row of `cells.npy`."""
Stored = Callable[[Rows], NDArray[np.floating]]
"""Gives stored vectors (m, dim) of some rows, checked."""


def row_checksums(vectors: NDArray[np.generic]) -> NDArray[np.uint32]:
    """CRC-32 of the bytes of each row."""
    return np.fromiter((zlib.crc32(row) for row in np.ascontiguousarray(vectors)), np.uint32, len(vectors))


def _read_at_once(handle: int, into: memoryview, start: int) -> bool:
    """Read bytes of a file if the system has them in memory, or cannot tell."""
    try:
        return os.preadv(handle, [into], start, _AT_ONCE) == len(into)
    except OSError:  # They are on the disk, or this file system does not answer such a question.
        return False


def _read_runs(handle: int, first: int, width: int, rows: Rows) -> bytearray:
    """Many rows, a read for each run of neighbours; ends early where the file does."""
    read = bytearray(len(rows) * width)
    view = memoryview(read)
    at = 0
    for run in runs(rows):
        wanted = view[at : at + len(run) * width]
        n = read_into(handle, [wanted], first + int(run[0]) * width)
        at += n
        if n < len(wanted):
            return read[:at]
    return read


def header(path: Path, nbytes: int) -> list[Any]:
    """What describes the bytes before the lists: their number, the length of the whole file, and their hash."""
    with real_file(path).open("rb") as file:
        return [nbytes, path.stat().st_size, hashlib.blake2b(file.read(nbytes), digest_size=16).hexdigest()]


@dataclass(frozen=True)
class _Record:
    """`vectors.npy` as it stood when it was mapped."""

    vectors: NDArray[np.floating]
    """(n, dim) as stored, mapped."""
    first: int
    """Where the first row starts in the file."""
    metric: Metric

    @cached_property
    def flat(self) -> FlatRows:
        return FlatRows(self.vectors, self.metric)


class Segment:
    """A segment opened for reading. Every byte is checked before it takes part in an answer.

    A check holds for as long as the file stands still, which the system is asked before each use of what is mapped (see
    `Watched`). Rows that are read one by one are compared with their CRC each time.
    """

    def __init__(
        self, folder: Path, row: SegmentRow, dim: int, metric: Metric, codec: str, training: Training | None = None
    ) -> None:
        """Take a segment whose frames were put in the cells of a training; None where there are none, or that is not looked at."""
        real_files(folder, row.files)
        self.folder = folder
        self.row = row
        self.n_rows = row.n_rows
        self._dim = dim
        self._metric: Metric = metric
        self._codec = codec
        self._training = training
        self._lock = threading.Lock()
        self.codes_only = "vectors.npy" not in row.files
        """Whether the rows are what their codes stand for, and nothing else is kept of them."""
        self._vectors_path = folder / ("codes.faiss" if self.codes_only else "vectors.npy")
        self._mapped = WatchedFile(self._vectors_path)
        self._verified = WatchedFile(self._vectors_path)
        self._columns_file = WatchedFile(folder / "frames.arrow")
        self._mapping: _Record
        self._every_list: Lists | None = None
        self._columns: FrameColumns
        self._codes_file = WatchedFile(folder / "codes.faiss")
        self._list_file: ListFile | None = None
        self._reader = object()
        weakref.finalize(self, OPEN_FILES.forget_later, self._reader)

    def close(self) -> None:
        """Let go of the file that rows are read from; it is opened again if need be."""
        OPEN_FILES.forget(self._reader)
        if self._list_file is not None:
            self._list_file.close()

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def stored_dtype(self) -> np.dtype[np.floating]:
        """What `stored` gives."""
        return np.dtype(np.float32) if self.codes_only else self.vectors.dtype

    @property
    def coded(self) -> bool:
        return "codes.faiss" in self.row.files

    @cached_property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def _check(self, name: str) -> Path:
        path = self.folder / name
        if name == "frames.arrow":
            self._check_size(path)
        check_file(path, self.row.files[name])
        return path

    def _check_size(self, path: Path) -> None:
        """Look at the size of the columns before they are read whole, for a hash that may be right."""
        with read_errors(path):
            nbytes = path.stat().st_size
        if nbytes > max_file_nbytes(self.n_rows, len(self.row.stats["tags"])):
            raise CorruptData(f"{path.name} in {self.folder.name} is larger than its frames need; {RESTORE}.")

    @property
    def columns(self) -> FrameColumns:
        """The frame columns, mapped; checked whole on first use, and again once the file has changed."""
        if not self._columns_file.is_unchanged:
            with self._lock, read_errors(self.folder / "frames.arrow"):
                if not self._columns_file.is_unchanged:  # Another thread may have been faster.
                    state = self._columns_file.state()
                    self._columns = self._fitting(read_columns(self._check("frames.arrow"), self.n_rows))
                    self._columns_file.trust(state)
        return self._columns

    def read_columns(self) -> FrameColumns:
        """The frame columns, read and checked now whatever was checked before: for what is to be written again."""
        path = self.folder / "frames.arrow"
        with read_errors(path):
            self._check_size(path)
            content = real_file(path).read_bytes()
        check_bytes(path, content, self.row.files[path.name])
        return self._fitting(read_columns(path, self.n_rows, content))

    def _fitting(self, columns: FrameColumns) -> FrameColumns:
        """The same columns. Raises `CorruptData` if they differ from the statistics in the catalog."""
        wrong = statistics.check_columns(columns, self.row.stats, self._n_cells)
        if wrong is not None:
            raise CorruptData(f"The frame columns in {self.folder.name} cannot be used ({wrong}); {RESTORE}.")
        return columns

    @property
    def _n_cells(self) -> int:
        return MAX_CELLS if self._training is None else self._training.n_cells

    @cached_property
    def _cells(self) -> NDArray[np.void]:
        n, hashes = self.row.stats["n_cells"], self.row.files
        table: NDArray[np.void] = load_array(self.folder / "cells.npy", hashes, CELL, (n,))
        cells, rows = table["cell"], table["rows"]
        sound = cells[0] >= 0 and cells[-1] < self._n_cells and bool((cells[1:] > cells[:-1]).all())
        if not sound or rows.min() < 1 or rows.max() > self.n_rows or rows.sum() != self.n_rows:
            raise CorruptData(f"cells.npy in {self.folder.name} lists cells or rows that cannot be; {RESTORE}.")
        return table

    def _cell_of_row(self) -> NDArray[np.int32]:
        """(n,) the cell of each row, mapped, if the frames are in the cells that the table tells of."""
        cell = self.columns.cell
        counts = np.bincount(cell)
        if not np.array_equal(np.flatnonzero(counts), self.cells) or not np.array_equal(
            counts[self.cells], self.cell_rows
        ):
            raise CorruptData(f"cells.npy in {self.folder.name} differs from the cells of the frames; {RESTORE}.")
        return cell

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
        order = np.argsort(self._cell_of_row(), kind="stable").astype(np.int32)
        return order, np.cumsum(self.cell_rows) - self.cell_rows

    @property
    def _record(self) -> _Record:
        """The stored rows, mapped, and mapped anew once the file has changed. Check rows with `stored`, or all with `verify`."""
        if not self._mapped.is_unchanged:
            with self._lock, read_errors(self._vectors_path):
                if not self._mapped.is_unchanged:
                    state = self._mapped.state()
                    self._mapping = self._map()
                    self._mapped.trust(state)
        return self._mapping

    def _map(self) -> _Record:
        name, shape = f"vectors.npy in {self.folder.name}", (self.n_rows, self._dim)
        # The rows have checksums, but read as numbers of another type they would pass them.
        with real_file(self._vectors_path).open("rb") as file:
            header = read_header(file, name, ("<f2", "<f4"), shape, RESTORE)
        content = map_bytes(self._vectors_path)
        if len(content) != header.nbytes + self.n_rows * self._dim * header.dtype.itemsize:
            raise CorruptData(f"{name} changed while it was opened; ask again.")
        return _Record(content[header.nbytes :].view(header.dtype).reshape(shape), header.nbytes, self._metric)

    @property
    def vectors(self) -> NDArray[np.floating]:
        """The stored rows (n, dim), mapped and not checked: `stored` checks rows, and `verify` all of them."""
        return self._record.vectors

    def verify(self) -> int:
        """Check all stored rows before a scan, unless the file stands as it did when they were last; returns the bytes read for it."""
        if self._verified.is_unchanged:
            return 0
        _ = self._place_of_rows  # Whose size is looked at before it is read whole.
        with self._lock, read_errors(self._vectors_path):
            if self._verified.is_unchanged:
                return 0
            state = self._verified.state()
            self._check(self._vectors_path.name)
            self._verified.trust(state)
            return state.identity[2]

    def stored(self, rows: Rows, columns: FrameColumns | None = None) -> NDArray[np.floating]:
        """These rows (n, dim) as stored, each compared with its CRC in the columns, which may be given."""
        crc = (columns or self.columns).row_crc[rows]
        for _ in range(2):
            picked = self._read(rows)
            if np.array_equal(row_checksums(picked), crc):
                return self._coded_record.codec.decode(picked) if self.codes_only else picked
            OPEN_FILES.forget(self._reader)  # The file may have been put right since it was opened.
        raise CorruptData(
            f"{self._vectors_path.name} in {self.folder.name} is not what was written (a row's checksum differs); {RESTORE}."
        )

    def stored_in_memory(self, rows: Rows, columns: FrameColumns) -> NDArray[np.floating] | None:
        """The same where the system has these rows in memory; else None, and it is asked for those that it lacks.

        A disk fetches rows that are asked for side by side, those that are waited for one after another.
        """
        if self.codes_only:
            return self.stored(rows, columns)
        first, width, dtype = self._place_of_rows
        read = bytearray(len(rows) * width)
        view, lacking = memoryview(read), False
        with read_errors(self._vectors_path), OPEN_FILES.use(self._reader, self._vectors_path) as handle:
            for at, row in zip(range(0, len(read), width), rows.tolist(), strict=True):
                if not _read_at_once(handle, view[at : at + width], first + row * width):
                    lacking = True
                    fetch_ahead(handle, first + row * width, width)
        if lacking:
            return None
        picked = np.frombuffer(read, dtype).reshape(len(rows), self._dim)
        same = columns.row_crc[rows].tolist() == [
            zlib.crc32(view[at : at + width]) for at in range(0, len(read), width)
        ]
        return picked if same else None

    def _read(self, rows: Rows) -> NDArray[Any]:
        """These rows (n, dim), or their codes where only those are kept, as they stand in the file, fewer where it ends early; read and not through the mapping.

        There, each would make the process hold the pages around it as well, and a file that is cut short would end the process.
        """
        if self.codes_only:
            record = self._coded_record
            with read_errors(self._vectors_path), OPEN_FILES.use(self._reader, self._vectors_path) as handle:
                return record.read(handle, rows)
        first, width, dtype = self._place_of_rows
        with read_errors(self._vectors_path), OPEN_FILES.use(self._reader, self._vectors_path) as handle:
            if len(rows) <= _GATHERED:
                read: bytes | bytearray = b"".join(
                    [os.pread(handle, width, first + row * width) for row in rows.tolist()]
                )
            else:
                read = _read_runs(handle, first, width, rows)
        whole = len(read) // width
        return np.frombuffer(read, dtype, whole * self._dim).reshape(whole, self._dim)

    @cached_property
    def _place_of_rows(self) -> tuple[int, int, np.dtype[Any]]:
        """Where the first row starts in the file, the bytes of a row, and what it is made of."""
        if self.codes_only:
            return self.row.stats["header"][0], self._coded_record.codec.nbytes, np.dtype(np.uint8)
        record = self._record
        return record.first, record.vectors.itemsize * self._dim, record.vectors.dtype

    def gather(self, rows: Rows) -> Floats:
        """These rows as (n, dim) float32, checked."""
        return self.stored(rows).astype(np.float32)

    def load(self, residency: Residency) -> Lists:
        """Open the lists: codes where there are any, else the rows themselves in memory. Checked whole, or list by list where mapped."""
        if not self.coded:
            return plain_lists(self.stored(np.arange(self.n_rows)), self._cell_of_row(), self._metric)
        lists = self._load_codes(residency)
        if self.codes_only:
            lists.exact = True
        return lists

    def _load_codes(self, residency: Residency) -> Lists:
        path, form = self.folder / "codes.faiss", self._form
        if residency == "loaded":
            form.check(path)
            return read_lists(self._check("codes.faiss"), form)
        watched = WatchedFile(path)
        self._check_header(watched)
        return read_lists(
            path, form, checksums=self._cells["crc"], watched=watched, cell_of_row=lambda: self.columns.cell
        )

    @property
    def _form(self) -> ListsForm:
        trained = None if self._training is None else self._training.trained
        return ListsForm(self._dim, self._metric, self._codec, self._cell_of_row(), trained)

    def _check_header(self, watched: WatchedFile) -> None:
        """Compare the header of the codes with its hash; as long as it stands still, the file is trusted."""
        path = self.folder / "codes.faiss"
        with read_errors(path):
            state = watched.state()
            actual = header(path, self.row.stats["header"][0])
        if actual != self.row.stats["header"]:
            raise CorruptData(f"codes.faiss in {self.folder.name} is not what was written; {RESTORE}, or run a build.")
        watched.trust(state)

    @property
    def list_file(self) -> ListFile:
        """The lists, to be read one by one; looked at anew once the file has changed."""
        if self._list_file is None or not self._codes_file.is_unchanged:
            form = self._form
            with self._lock:
                if self._list_file is None or not self._codes_file.is_unchanged:
                    self._check_header(self._codes_file)
                    path, checksums = self.folder / "codes.faiss", self._cells["crc"]
                    exact = self.codes_only or CODECS[self._codec] is None
                    self._list_file = ListFile(path, form, checksums, lambda: self.columns.cell, exact=exact)
        return self._list_file

    @cached_property
    def _coded_record(self) -> CodedRecord:
        self._check_header(WatchedFile(self._vectors_path))
        return CodedRecord(self._vectors_path, self._form)

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
    ) -> tuple[RowHits, int]:
        """The k best of all rows that pass the mask, by exact score, for queries (m, dim); and the bytes read for it.

        Few rows are read one by one; else the mapped file is scanned, which is read and checked whole the first time.
        """
        if mask is not None:
            n_passing = int(np.count_nonzero(mask)) if n_passing is None else n_passing
            if self.are_few(n_passing):
                return self._scan_few(queries, k, np.flatnonzero(mask)), n_passing * self._place_of_rows[1]
        read = self.verify()
        if self.codes_only:
            if self._every_list is None or not self._every_list.sound:
                self._every_list = self.load("mapped")
            every = np.broadcast_to(np.arange(len(self.cells)), (len(queries), len(self.cells)))
            return self._every_list.search(queries, np.ascontiguousarray(every), k, mask, n_passing), read
        return self._record.flat.search(queries, k, mask, n_passing), read

    def scan_nbytes(self, n_passing: int | None) -> int:
        """Bytes that `scan` would read now, where so many rows pass a mask; None for no mask."""
        if n_passing is not None and self.are_few(n_passing):
            return n_passing * self._place_of_rows[1]
        return 0 if self._verified.is_unchanged else self._vectors_path.stat().st_size

    def _scan_few(self, queries: Floats, k: int, rows: Rows) -> RowHits:
        stored = self.stored_in_memory(rows, self.columns)
        best = FlatRows(self.stored(rows) if stored is None else stored, self._metric).search(queries, k)
        return RowHits(rows[best.rows], best.scores, best.scanned, exact=True)

    def problems(self) -> list[str]:
        """What is wrong with the files of this segment, a sentence each.

        Rows are compared with their checksums as well: a copy that was made of harmed rows has a hash of its own that is right.
        """
        problems = []
        for name in self.row.files:
            try:
                self._check(name)
            except (CorruptData, Untrusted) as error:
                problems.append(str(error))
        if not problems:
            try:
                for start in range(0, self.n_rows, STEP):
                    self.stored(np.arange(start, min(start + STEP, self.n_rows)))
                self._cell_of_row()
                if self.coded:
                    self.load("loaded")
            except (CorruptData, Untrusted) as error:
                problems.append(str(error))
        return problems
