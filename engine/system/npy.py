"""Stored .npy files: what their header says is compared with what must be there before a byte of it is believed.

NumPy evaluates the header as Python and takes any type and shape. A file that comes from somebody else may have both, with
hashes that are right.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.errors import CorruptData

MAX_HEADER = 10_000
"""Bytes of a header; NumPy's own limit."""
_MAGIC = b"\x93NUMPY"
_VERSIONS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""Bytes of the header's length, by version of the format."""
_HEADER = re.compile(
    r"\{'descr': ('[^']*'|\[[^\]]*\]), 'fortran_order': (False|True), 'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n"
)

LONGEST_AXIS = 1 << 17
"""Of an array whose length is not known: of cells, groups and queries."""
_CHUNK = 1 << 18
"""Values looked at in one step."""
Shape = Sequence[int | None]
"""What an array must measure; None for an axis of any length up to `LONGEST_AXIS`."""


@dataclass(frozen=True, slots=True)
class Header:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    nbytes: int
    """Of the header itself: where the values start."""


def read_header(file: BinaryIO, name: str, dtypes: Sequence[DTypeLike], shape: Shape, remedy: str) -> Header:
    """The header of an .npy file, which stands at its end afterwards.

    Parameters
    ----------
    name : of the file, for messages
    dtypes : types that it may hold

    Raises
    ------
    CorruptData
        If it is no such file, holds another type or shape, has its values by column, or is shorter or longer than they need.
    """
    start = file.read(len(_MAGIC) + 2)
    width = (
        _VERSIONS.get((start[-2], start[-1])) if len(start) == len(_MAGIC) + 2 and start.startswith(_MAGIC) else None
    )
    if width is None:
        raise CorruptData(f"{name} is not an array of numbers; {remedy}.")
    length = int.from_bytes(file.read(width), "little")
    told = file.read(length).decode("latin-1") if length <= MAX_HEADER else ""
    match = _HEADER.fullmatch(told)
    if match is None or match[2] != "False":
        raise CorruptData(f"{name} has a header that this program does not write; {remedy}.")
    known = {repr(np.lib.format.dtype_to_descr(np.dtype(each))): np.dtype(each) for each in dtypes}
    measured = tuple(int(n) for n in match[3].replace(" ", "").split(",") if n)
    fits = len(measured) == len(shape) and all(
        m == n or (n is None and m <= LONGEST_AXIS) for m, n in zip(measured, shape, strict=True)
    )
    if match[1] not in known or not fits:
        wanted = f"{' or '.join(str(dtype) for dtype in known.values())} ({', '.join('any' if n is None else str(n) for n in shape)})"
        raise CorruptData(f"{name} is {_brief(match[1])} ({', '.join(map(str, measured))}), not {wanted}; {remedy}.")
    header = Header(known[match[1]], measured, len(start) + width + length)
    if file.seek(0, 2) != header.nbytes + header.dtype.itemsize * math.prod(measured):
        raise CorruptData(f"{name} is shorter or longer than its numbers need; {remedy}.")
    return header


def array_shape(path: Path, dtype: DTypeLike, n_axes: int, remedy: str) -> tuple[int, ...]:
    """The shape of the array in a file; no axis may be longer than `LONGEST_AXIS`.

    Raises
    ------
    CorruptData
        See `read_header`.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        return read_header(file, f"{path.name} in {path.parent.name}", (dtype,), (None,) * n_axes, remedy).shape


def array_of(
    content: bytes, name: str, dtypes: Sequence[DTypeLike], shape: Shape, remedy: str, *, finite: bool = False
) -> NDArray[Any]:
    """The array, not writable, in what was read of an .npy file.

    Parameters
    ----------
    finite : refuse it for a value that is not a finite number

    Raises
    ------
    CorruptData
        See `read_header`.
    """
    header = read_header(io.BytesIO(content), name, dtypes, shape, remedy)
    array = np.frombuffer(content, header.dtype, math.prod(header.shape), header.nbytes)
    if finite and not all(np.isfinite(array[i : i + _CHUNK]).all() for i in range(0, len(array), _CHUNK)):
        raise CorruptData(f"{name} holds a value that is not a finite number; {remedy}.")
    return array.reshape(header.shape)


def _brief(descr: str) -> str:
    """A type as a file names it, cut short: it may be anything."""
    return "".join(c for c in descr[:40] if c.isprintable())
