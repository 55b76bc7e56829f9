"""The bytes that a file of inverted lists must have, checked before FAISS reads it: FAISS allocates and maps whatever a file says."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.system import read_errors, real_file
from engine.vectors.arrays import Floats, Metric, Rows
from engine.vectors.codecs import CODECS, n_trained, row_nbytes

_ANEW = "run a build to make it anew"


def occupied_cells(cell: NDArray[np.int32]) -> tuple[NDArray[np.int32], Rows]:
    """Cells that occur among those of the rows (n,), sorted, and rows in each: an inverted file has a list for each of them."""
    counts = np.bincount(cell)
    cells = np.flatnonzero(counts)
    return cells.astype(np.int32), counts[cells]


def malformed(path: Path, why: str) -> CorruptData:
    """The error for a file of lists that cannot be used; `why` is a clause."""
    return CorruptData(f"{path.name} in {path.parent.name} cannot be used ({why}); {_ANEW}.")


@dataclass(frozen=True, slots=True)
class ListsForm:
    """The form of the lists of one segment, which follows from its settings and the cells of its rows."""

    dim: int
    metric: Metric
    codec: str
    cell: NDArray[np.int32]
    """(n,) cell of each row, n at least 1; each cell that occurs is a list of the rows that it holds."""
    trained: Floats | None = None
    """What the codec learned; None where that is not known."""

    def check(self, path: Path) -> tuple[int, Floats]:
        """Raise `CorruptData` unless a file has this form; its lists are not looked at.

        Returns
        -------
        bytes before the lists, and what the codec learned as it stands there
        """
        before, width, behind = self._header(occupied_cells(self.cell)[1])
        expected = len(before) + width + len(behind) + len(self.cell) * (row_nbytes(self.dim, self.codec) + 8)
        with read_errors(path, _ANEW), real_file(path).open("rb") as file:
            start, ranges, end = file.read(len(before)), file.read(width), file.read(len(behind))
            nbytes = file.seek(0, 2)
        if (start, end, nbytes) != (before, behind, expected):
            raise malformed(path, "its header is not the one that belongs to its segment")
        trained = np.frombuffer(ranges, "<f4")
        if not np.isfinite(trained).all() or not (self.trained is None or np.array_equal(trained, self.trained)):
            raise malformed(path, "its codec was trained on something else than the cells")
        return len(before) + width + len(behind), trained

    def _header(self, sizes: Rows) -> tuple[bytes, int, bytes]:
        """What FAISS writes before the lists: the bytes before what the codec learned, the length of that, and those behind it."""
        number, n_numbers, row = CODECS[self.codec], n_trained(self.codec, self.dim), row_nbytes(self.dim, self.codec)
        before = self._index(b"IwFl" if number is None else b"IwSq", len(self.cell))
        before += struct.pack("<QQ", len(sizes), 1)
        # The quantizer is empty, and there is no map from ids to lists.
        before += self._index(b"IxFI" if self.metric == "ip" else b"IxF2", 0) + bytes(8) + bytes(9)
        behind = b""
        if number is not None:
            before += struct.pack("<iifQQQ", number, 0, 0.0, self.dim, row, n_numbers)
            behind += struct.pack("<Q?", row, False)  # Codes are not of residuals.
        behind += b"ilar" + struct.pack("<QQ", len(sizes), row) + b"full" + struct.pack("<Q", len(sizes))
        return before, 4 * n_numbers, behind + sizes.astype("<u8").tobytes()

    def _index(self, code: bytes, n: int) -> bytes:
        return struct.pack("<4siqqq?i", code, self.dim, n, 1 << 20, 1 << 20, True, 0 if self.metric == "ip" else 1)
