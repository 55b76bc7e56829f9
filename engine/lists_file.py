"""The file of a segment's inverted lists: what it must be, to the byte, and opening it with FAISS once it is that."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.durable import reading, shortage
from engine.errors import CorruptData
from engine.standing import Watched
from engine.vectorindex import CODECS, PER_MAPPED_LIST, Floats, Lists, Metric, Rows, metric_number, n_trained

_ANEW = "run a build to make it anew"


@dataclass(frozen=True, slots=True)
class ListsForm:
    """What the file of a segment's lists must be, to the byte, before FAISS sees it: it allocates, maps and opens what a file says."""

    dim: int
    metric: Metric
    codec: str
    cell: NDArray[np.int32]
    """(n,) cell of each row, n at least 1; each cell that occurs is a list of the rows that it holds."""
    trained: Floats | None = None
    """What the codec learned; None where that is not known."""

    @property
    def occupied(self) -> tuple[NDArray[np.int64], Rows]:
        """Cells that occur (sorted) and rows in each."""
        counts = np.bincount(self.cell)
        cells = np.flatnonzero(counts)
        return cells, counts[cells]

    def header(self, sizes: Rows) -> tuple[bytes, int, bytes]:
        """What `ListsWriter` writes before the lists: the bytes before what the codec learned, the length of that, and those behind it."""
        kind, n_numbers = CODECS[self.codec], n_trained(self.codec, self.dim)
        row = lists_row_nbytes(self.dim, self.codec)
        before = _index_header(b"IwFl" if kind is None else b"IwSq", self.dim, len(self.cell), self.metric)
        before += struct.pack("<QQ", len(sizes), 1)
        # The quantizer is empty, and there is no map from ids to lists.
        before += (
            _index_header(b"IxFI" if self.metric == "ip" else b"IxF2", self.dim, 0, self.metric) + bytes(8) + bytes(9)
        )
        behind = b""
        if kind is not None:
            before += struct.pack("<iifQQQ", kind, 0, 0.0, self.dim, row, n_numbers)
            behind += struct.pack("<Q?", row, False)  # Codes are not of residuals.
        behind += b"ilar" + struct.pack("<QQ", len(sizes), row) + b"full" + struct.pack("<Q", len(sizes))
        return before, 4 * n_numbers, behind + sizes.astype("<u8").tobytes()

    def check(self, path: Path) -> None:
        """Raise `CorruptData` unless a file has this form; its lists are not looked at."""
        sizes = self.occupied[1]
        before, width, behind = self.header(sizes)
        expected = len(before) + width + len(behind) + len(self.cell) * (lists_row_nbytes(self.dim, self.codec) + 8)
        with reading(path, _ANEW), path.open("rb") as file:
            told = file.read(len(before)), file.read(width), file.read(len(behind))
            nbytes = file.seek(0, 2)
        if (told[0], told[2], nbytes) != (before, behind, expected):
            raise _malformed(path, "its header is not the one that belongs to its segment")
        trained = np.frombuffer(told[1], "<f4")
        if not np.isfinite(trained).all() or not (self.trained is None or np.array_equal(trained, self.trained)):
            raise _malformed(path, "its codec was trained on something else than the cells")


def _malformed(path: Path, why: str) -> CorruptData:
    return CorruptData(f"{path.name} in {path.parent.name} cannot be used ({why}); {_ANEW}.")


def _index_header(code: bytes, dim: int, n: int, metric: Metric) -> bytes:
    """How FAISS starts every index, a trained one."""
    return struct.pack("<4siqqq?i", code, dim, n, 1 << 20, 1 << 20, True, metric_number(metric))


def lists_row_nbytes(dim: int, codec: str) -> int:
    """Bytes of the codes of a row."""
    kind = CODECS[codec]
    return 4 * dim if kind is None else int(faiss.ScalarQuantizer(dim, kind).code_size)


def read_lists(
    path: Path,
    form: ListsForm,
    *,
    checksums: NDArray[np.uint32] | None = None,
    watched: Watched | None = None,
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
        index = faiss.read_index(str(path), 0 if checksums is None else faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        short = shortage(f"reading {path.name} in {path.parent.name}", error)
        raise short or _malformed(path, "FAISS refuses it") from error
    flat = CODECS[form.codec] is None
    told = type(index), index.d, index.ntotal, index.metric_type, index.code_size, index.nlist, index.is_trained
    cells, _ = form.occupied
    kind = faiss.IndexIVFFlat if flat else faiss.IndexIVFScalarQuantizer
    row = lists_row_nbytes(form.dim, form.codec)
    if told != (kind, form.dim, len(form.cell), metric_number(form.metric), row, len(cells), True) or index.by_residual:
        raise _malformed(path, "it is not the index that its header tells of")
    nbytes = path.stat().st_size if checksums is None else PER_MAPPED_LIST * index.nlist
    lists = Lists(
        index,
        nbytes,
        exact=flat,
        checksums=checksums,
        watched=watched,
        belongs=(cells, cell_of_row or (lambda: form.cell)),
    )
    if checksums is None:
        lists.check_ids(range(len(cells)))
    return lists
