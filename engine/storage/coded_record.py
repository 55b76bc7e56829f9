"""The rows of a segment without `vectors.npy`, of a collection with `store=codes`: each is what its code stands for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.vectors import Codec, ListsForm, Rows


class CodedRecord:
    """The rows of a segment in its `codes.faiss`, where those of a cell stand together."""

    def __init__(self, path: Path, form: ListsForm) -> None:
        """Take a file whose header has been compared with its hash.

        Raises
        ------
        CorruptData
            If it is not of the form.
        """
        start, trained = form.check(path)
        self.codec = Codec(form.codec, form.dim, trained)
        order = np.argsort(form.cell, kind="stable")
        sizes = np.bincount(form.cell)
        before = np.cumsum(sizes) - sizes  # Rows in the lists before that of a cell; each has an id behind the codes.
        self._at = np.empty(len(order), np.int64)
        self._at[order] = start + np.arange(len(order)) * self.codec.nbytes
        self._at += 8 * before[form.cell]

    def read(self, handle: int, rows: Rows) -> NDArray[np.uint8]:
        """Codes (m, nbytes) of some rows, from the open file; fewer where it ends early."""
        width = self.codec.nbytes
        read = b"".join([os.pread(handle, width, at) for at in self._at[rows].tolist()])
        whole = len(read) // width
        return np.frombuffer(read, np.uint8, whole * width).reshape(whole, width)
