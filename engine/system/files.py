"""Files that survive a crash: written, hashed and synced before anything refers to them, and checked when they are read."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.errors import CorruptData, ReadOnly
from engine.system.bounds import read_bounded
from engine.system.npy import Shape, array_of, array_shape, read_header
from engine.system.real_paths import odd, real_file
from engine.system.system_errors import shortage, work_off

_CHUNK = 1 << 20
_SYNCS = 16
"""Files synced at the same time."""
RESTORE = "stop the app, restore the file from a copy beside it, and rename that over it"
"""What to do about a damaged file. Written over in place, a file that a running process has mapped would end that process."""


@contextmanager
def reading(path: Path, remedy: str = RESTORE) -> Iterator[None]:
    """Translate what may happen when a stored file is opened and read: a shortage is not damage, and neither is a closed door.

    Raises
    ------
    ResourceExhausted
        If the system is short of files or memory.
    ReadOnly
        If the file may not be read.
    CorruptData
        If it is missing or cannot be read otherwise.
    """
    name = f"{path.name} in {path.parent.name}"
    try:
        yield
    except (OSError, MemoryError) as error:
        short = shortage(f"reading {name}", error)
        if short is not None:
            raise short from error
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise odd(path, "a link", "a file") from error
        if isinstance(error, PermissionError):
            raise ReadOnly(f"{name} may not be read by this user; ask its owner for permission to read it.") from error
        told = error.strerror if isinstance(error, OSError) else str(error)
        raise CorruptData(f"{name} cannot be read ({told}); {remedy}.") from error


@contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing; on leaving, its bytes are on the disk."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_files(files: Iterable[tuple[Path, bytes]]) -> None:
    """Write many small files; on return all of them, and their names in the folders, are on the disk.

    Side by side, because a file system takes many syncs that wait together in one go.
    """

    def write(each: tuple[Path, bytes]) -> Path:
        path, content = each
        with synced(path) as file:
            file.write(content)
        return path.parent

    with ThreadPoolExecutor(_SYNCS, "sync") as pool:
        for folder in set(work_off(pool, _SYNCS, write, list(files))):
            sync_folder(folder)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as .npy, synced.

    `np.save` writes through C streams, which report a full disk without its error number, or at their close not at all.
    """
    with synced(path) as file:
        write_header(file, array.shape, array.dtype)
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Make a folder of .npy files, synced with all names; return their hashes by file name."""
    folder.mkdir(parents=True)
    hashes = {}
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        save_array(path, array)
        hashes[path.name] = file_hash(path)
    sync_folder(folder)
    sync_folder(folder.parent)
    return hashes


def load_array(
    path: Path, hashes: Mapping[str, str], dtype: DTypeLike, shape: Shape, *, finite: bool = False
) -> NDArray[Any]:
    """One of them, checked whole, and of the type and shape that it must have; read into memory: mapped, it would be trusted for longer
    than its bytes stand still.

    Raises
    ------
    CorruptData
        If the file is missing, differs from what was written, or holds something else than it must.
    """
    name = f"{path.name} in {path.parent.name}"
    with reading(path), real_file(path).open("rb") as file:
        read_header(file, name, (dtype,), shape, RESTORE)  # Before it is read whole, for a hash that may be right.
        file.seek(0)
        content = file.read()
    check_bytes(path, content, hashes.get(path.name, ""))
    return array_of(content, name, (dtype,), shape, RESTORE, finite=finite)


def load_shape(path: Path, dtype: DTypeLike, n_axes: int) -> tuple[int, ...]:
    """What one of them measures, as its header says; which is looked at again when it is loaded."""
    with reading(path):
        return array_shape(real_file(path), dtype, n_axes, RESTORE)


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write what stands before the values of an .npy file, so that the values can follow piece by piece."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_hash(path: Path) -> str:
    """BLAKE2b-128 of a whole file, in hex."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_file(path: Path, expected: str) -> None:
    """Raise `CorruptData` unless the file's hash is `expected`, and `Untrusted` unless it is a file of the collection's own."""
    with reading(path):
        actual = file_hash(real_file(path))
    _compare(path, actual, expected)


def check_bytes(path: Path, content: bytes, expected: str) -> None:
    """The same for what was read of it."""
    _compare(path, hashlib.blake2b(content, digest_size=16).hexdigest(), expected)


def _compare(path: Path, actual: str, expected: str) -> None:
    if actual != expected:
        raise CorruptData(
            f"{path.name} in {path.parent.name} is not what was written (its checksum differs); {RESTORE}."
        )


def read_real(path: Path, most: int) -> bytes:
    """The bytes of a stored file, `most` at the most.

    Raises
    ------
    Untrusted, CorruptData, ReadOnly, ResourceExhausted
        If it is not a file of the collection's own, or cannot be read, or has more.
    """
    with reading(path):
        try:
            return read_bounded(real_file(path), most)
        except ValueError as error:
            raise CorruptData(str(error)) from error
