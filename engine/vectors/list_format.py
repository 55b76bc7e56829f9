"""What a file of inverted lists must be, to the byte, before FAISS sees it: it allocates, maps and opens what a file says."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.system import read_errors, real_file

_ANEW = "run a build to make it anew"
_KINDS = {"sq8": 0, "sq4": 1, "fp16": 4, "fp32": None}
"""FAISS's numbers of the scalar quantizers, which stand in its files; None where rows are stored as they are."""
_BITS = {"sq8": 8, "sq4": 4, "fp16": 16, "fp32": 32}


def row_nbytes(dim: int, codec: str) -> int:
    """Bytes of the codes of a row."""
    return (dim * _BITS[codec] + 7) // 8


def n_trained(codec: str, dim: int) -> int:
    """Numbers that the codec learns: the lowest value of each dimension, and how far from there to the highest."""
    return 2 * dim if codec in ("sq8", "sq4") else 0


def malformed(path: Path, why: str) -> CorruptData:
    """The error for a file of lists that cannot be used; `why` is a clause."""
    return CorruptData(f"{path.name} in {path.parent.name} cannot be used ({why}); {_ANEW}.")


@dataclass(frozen=True, slots=True)
class ListsForm:
    """The form of the lists of one segment, which follows from its settings and the cells of its rows."""

    dim: int
    metric: Literal["ip", "l2"]
    codec: str
    cell: NDArray[np.int32]
    """(n,) cell of each row, n at least 1; each cell that occurs is a list of the rows that it holds."""
    trained: NDArray[np.float32] | None = None
    """What the codec learned; None where that is not known."""

    @property
    def occupied(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cells that occur (sorted) and rows in each."""
        counts = np.bincount(self.cell)
        cells = np.flatnonzero(counts)
        return cells, counts[cells]

    def check(self, path: Path) -> None:
        """Raise `CorruptData` unless a file has this form; its lists are not looked at."""
        before, width, behind = self._header(self.occupied[1])
        expected = len(before) + width + len(behind) + len(self.cell) * (row_nbytes(self.dim, self.codec) + 8)
        with read_errors(path, _ANEW), real_file(path).open("rb") as file:
            told = file.read(len(before)), file.read(width), file.read(len(behind))
            nbytes = file.seek(0, 2)
        if (told[0], told[2], nbytes) != (before, behind, expected):
            raise malformed(path, "its header is not the one that belongs to its segment")
        trained = np.frombuffer(told[1], "<f4")
        if not np.isfinite(trained).all() or not (self.trained is None or np.array_equal(trained, self.trained)):
            raise malformed(path, "its codec was trained on something else than the cells")

    def _header(self, sizes: NDArray[np.int64]) -> tuple[bytes, int, bytes]:
        """What FAISS writes before the lists: the bytes before what the codec learned, the length of that, and those behind it."""
        kind, n_numbers, row = _KINDS[self.codec], n_trained(self.codec, self.dim), row_nbytes(self.dim, self.codec)
        before = self._index(b"IwFl" if kind is None else b"IwSq", len(self.cell))
        before += struct.pack("<QQ", len(sizes), 1)
        # The quantizer is empty, and there is no map from ids to lists.
        before += self._index(b"IxFI" if self.metric == "ip" else b"IxF2", 0) + bytes(8) + bytes(9)
        behind = b""
        if kind is not None:
            before += struct.pack("<iifQQQ", kind, 0, 0.0, self.dim, row, n_numbers)
            behind += struct.pack("<Q?", row, False)  # Codes are not of residuals.
        behind += b"ilar" + struct.pack("<QQ", len(sizes), row) + b"full" + struct.pack("<Q", len(sizes))
        return before, 4 * n_numbers, behind + sizes.astype("<u8").tobytes()

    def _index(self, code: bytes, n: int) -> bytes:
        """How FAISS starts every index, a trained one."""
        return struct.pack("<4siqqq?i", code, self.dim, n, 1 << 20, 1 << 20, True, 0 if self.metric == "ip" else 1)
