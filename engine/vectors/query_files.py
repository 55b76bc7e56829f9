"""Query vectors from a user's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.system import bounds
from engine.vectors.arrays import load_npy


def read_queries(path: Path) -> NDArray[np.floating]:
    """One query vector (dim,) or several (m, dim) from a .npy file.

    Raises
    ------
    ValueError
        If there is no such file, or it holds something else, or more than a search may be asked.
    """
    if not path.is_file():
        why = "it is not a file" if path.exists() else "there is no such file"
        raise ValueError(f"{path} cannot be read as a NumPy array ({why}).")
    mapped = load_npy(path, path, mmap_mode="r")  # Its shape is checked before its rows are read.
    if not isinstance(mapped, np.ndarray) or mapped.dtype.kind not in "fiu":
        raise ValueError(f"{path} does not hold one array of numbers.")
    if mapped.ndim not in (1, 2) or not mapped.size:
        raise ValueError(f"{path} holds an array of shape {mapped.shape}; give one vector, or a row per query.")
    bounds.check_count(f"numbers in a row of {path.name}", mapped.shape[-1], bounds.MAX_DIM)
    bounds.check_count(f"queries in {path.name}", mapped.size // mapped.shape[-1], bounds.MAX_QUERIES)
    return np.array(mapped)
