"""Arrays of vectors: their types, how they are normalised, and what an array must be to be taken."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.system import bounds, check_is_file, shortages

Metric = Literal["ip", "l2"]
"""All scores are "higher is better": the inner product for `ip`, minus the squared distance for `l2`."""
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

LARGEST = 1e15
"""Absolute value of a component up to which squared distances stay within float32."""
NOT_FINITE = "A stored row holds a value that is not a finite number; restore its vectors from a copy."
"""Message of the `CorruptData` for such rows."""


def metric_of(name: str) -> Metric:
    """The metric by its stored name."""
    if name == "ip":
        return "ip"
    if name == "l2":
        return "l2"
    raise ValueError(f"Unknown metric {name!r}; use ip or l2.")


def unit(vectors: NDArray[np.floating], norm_type: type[np.floating[Any]] = np.float64) -> Floats:
    """Vectors (dim,) or (n, dim) scaled to unit norm.

    Parameters
    ----------
    norm_type : type in which norms are computed. In float64 the squares of no float32 overflow or vanish; float32 takes
        less time and memory, for vectors of ordinary length.

    Raises
    ------
    ValueError
        If a vector holds a value that is not finite, or is all zeros.
    """
    values = vectors.astype(norm_type, copy=False)
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise ValueError("A vector is all zeros or holds a value that is not a finite number; leave it out.")
    scaled: Floats = (values / norms).astype(np.float32, copy=False)
    return scaled


def check_rows(rows: NDArray[np.floating], metric: str, store: str, what: str, first_row: int = 0) -> None:
    """Raise `ValueError` naming the first of the rows (n, dim), counted from `first_row`, that cannot be stored."""
    with np.errstate(over="ignore"):
        values = rows.astype(np.float32)
    finite = np.isfinite(values).all(axis=1)
    tests = [(~finite, "holds a value that is not a finite number")]
    if metric == "ip":
        tests.append((~values.any(axis=1), "is all zeros, which has no direction"))
    else:
        half = store != "fp32"
        largest = float(np.finfo(np.float16).max) if half else LARGEST
        why = "is too large for float16 (make the collection as fp32)" if half else "has squares beyond float32"
        tests.append((np.abs(values).max(axis=1) > largest, why))
    for bad, why in tests:
        if bad.any():
            raise ValueError(f"Row {first_row + int(bad.argmax())} of {what}, counted from 0, {why}; leave it out.")


def load_npy(
    source: Path | BinaryIO, path: Path, what: str = "a NumPy array", mmap_mode: Literal["r"] | None = None
) -> Any:
    """What NumPy finds in a user's .npy file, or in the bytes of one that `path` names. Pickled objects are refused.

    Raises
    ------
    ValueError
        In one sentence that names the path, if it cannot be read.
    """
    try:
        with shortages(f"reading {path.name}"):
            loaded = np.load(source, mmap_mode=mmap_mode, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        loaded.close()  # A ZIP file, whatever is in it.
    except EngineError:
        raise
    except Exception as error:  # NumPy parses the header as Python: a changed byte may even raise a TokenError.
        # What it says may quote the file, which need not be an array at all.
        raise ValueError(f"{path} cannot be read as {what}: {_why_no_array(path)}.") from error
    raise ValueError(f"{path} cannot be read as {what}: {_why_no_array(path)}.")


_SAVE = "save an array, as `np.save(path, array)` does"
_BEGINNINGS = (
    (b"PAR1", f"it is a Parquet file; {_SAVE}"),
    (b"ARROW1", f"it is an Arrow file; {_SAVE}"),
    (b"\x89HDF", f"it is an HDF5 file; {_SAVE}"),
    (b"\x1f\x8b", "it is packed by gzip; unpack it first"),
    (b"\x80\x02\x8a\x0al\xfc", "it is a file of an old PyTorch; save `tensor.float().cpu().numpy()` by `np.save`"),
    (b"\x80", f"it is a pickle, which may run code and is never opened; {_SAVE}"),
)
"""How other files begin, and what to do."""


def _why_no_array(path: Path) -> str:
    """Why a file is no array, in a clause, by its first bytes."""
    try:
        with path.open("rb") as file:
            start, nbytes = file.read(64), path.stat().st_size
    except OSError as error:
        return f"{error.strerror or 'it cannot be opened'}; look at its path and its rights"
    if not nbytes:
        return f"it is empty; {_SAVE}"
    if start.startswith(b"\x93NUMPY"):
        if b"|O" in start:
            return f"it holds Python objects, which may run code and are never opened; {_SAVE}"
        try:
            _, needed = npy_header(path)
        except ValueError:
            return f"its first line is not one that NumPy writes, or names a type that it does not hold; {_SAVE}"
        if nbytes < needed:
            return f"it is cut off, with {nbytes:,} bytes of {needed:,}; copy or save it anew"
        return f"it holds another type or shape than an array of numbers has; {_SAVE}"
    if start.startswith(b"PK"):
        return _what_archive(path)
    if int.from_bytes(start[:8], "little") < nbytes and start[8:9] == b"{":
        return f"it is a safetensors file; {_SAVE}"
    return next((what for begin, what in _BEGINNINGS if start.startswith(begin)), f"it is no .npy file; {_SAVE}")


def _what_archive(path: Path) -> str:
    """What a ZIP file is that stands where an array should, and what to do, in a clause."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return f"it is a ZIP file that is not whole; {_SAVE}"
    if any(name.endswith("data.pkl") for name in names):
        return "it is a file of PyTorch (.pt); save `tensor.float().cpu().numpy()` by `np.save`"
    if names and all(name.endswith(".npy") for name in names):
        return f"it is an .npz file, which holds several arrays under names; save one of them, as `np.save(path, arrays[{names[0][:-4][:40]!a}])` does"
    return "it is a ZIP file; unpack it first, and give one .npy file in it"


def npy_header(path: Path) -> tuple[tuple[int, ...], int]:
    """The shape that an .npy file claims, and the bytes that it must have for that.

    Raises
    ------
    ValueError
        In a few words, if it does not begin like one.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            return shape, file.tell() + math.prod(shape) * dtype.itemsize
    except Exception as error:  # NumPy parses the header as Python: a changed byte may even raise a TokenError.
        raise ValueError("it does not begin like an array") from error


def _advice_on_shape(shape: tuple[int, ...]) -> str:
    """How an array of another shape becomes rows of numbers."""
    long = [n for n in shape if n != 1]
    if len(shape) > 2 and len(long) <= 2 and 0 not in shape:
        return f"save it without the dimensions of length 1, as `np.save(path, vectors.reshape({shape[0]}, {math.prod(shape[1:])}))` does"
    if len(shape) > 2:
        return "give one row of numbers per frame, for example the mean over tokens or patches"
    return "give one row of numbers per frame, and so two dimensions"


def _advice_on_type(dtype: np.dtype[Any]) -> str:
    """How numbers of another type become floating-point numbers."""
    if dtype.kind == "V" and dtype.names is None and dtype.itemsize == 2:
        return (
            "this is how bfloat16 is saved, which .npy files have no name for: save `tensor.float().cpu().numpy()`, or make "
            "float32 of the file by `(np.load(path).view('u2').astype('u4') << 16).view('f4')`"
        )
    if dtype.kind in "iub":
        return "give float16, float32 or float64, as `vectors.astype('float32')` makes them, scaled back if they were quantised"
    return "give float16, float32 or float64"


def open_vectors(path: Path) -> NDArray[np.floating]:
    """Map a user's file of vectors (n, dim), without reading it.

    Raises
    ------
    ValueError
        In one sentence, if it is not a .npy file of rows of floating-point numbers.
    """
    check_is_file(path)
    mapped: NDArray[np.floating] = load_npy(path, path, mmap_mode="r")
    if mapped.ndim != 2 or not mapped.shape[1]:
        raise ValueError(f"{path} holds an array of shape {mapped.shape}; {_advice_on_shape(mapped.shape)}.")
    if mapped.dtype.kind != "f" or mapped.dtype.itemsize > 8:
        raise ValueError(f"{path} holds numbers of type {mapped.dtype}; {_advice_on_type(mapped.dtype)}.")
    bounds.check_count(f"numbers in a row of {path.name}", mapped.shape[1], bounds.MAX_DIM)
    bounds.check_count(f"rows in {path.name}", len(mapped), bounds.MAX_ROWS)
    if not mapped.flags.c_contiguous:
        raise ValueError(
            f"{path} is in Fortran order, column after column; save it by rows, as `np.save(path, np.ascontiguousarray(vectors))` does."
        )
    return mapped
