"""Stored files: written and synced before anything refers to them, and checked against their hash when they are read."""

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
from engine.system.real_paths import real_file, wrong_kind
from engine.system.system_errors import map_on_pool, shortage

_CHUNK = 1 << 20
_SYNCS = 16
"""Files synced at the same time."""
RESTORE = "stop the app, restore the file from a copy beside it, and rename that over it"
"""What to do about a damaged file. Written over in place, a file that a running process has mapped would end that process."""


class read_errors:  # noqa: N801 - reads as what it does, and is no generator, which takes longer than a read
    """Translate the errors of opening and reading a stored file; a shortage and missing permission are not damage.

    Raises
    ------
    ResourceExhausted
        If the system is short of files or memory.
    ReadOnly
        If the file may not be read.
    CorruptData
        If it is missing or cannot be read otherwise.
    """

    __slots__ = ("_path", "_remedy")

    def __init__(self, path: Path, remedy: str = RESTORE) -> None:
        self._path = path
        self._remedy = remedy

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, (OSError, MemoryError)):
            return
        path = self._path
        name = f"{path.name} in {path.parent.name}"
        short = shortage(f"reading {name}", error)
        if short is not None:
            raise short from error
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise wrong_kind(path, "a link", "a file") from error
        if isinstance(error, PermissionError):
            raise ReadOnly(f"{name} may not be read by this user; ask its owner for permission to read it.") from error
        cause = error.strerror if isinstance(error, OSError) else str(error)
        raise CorruptData(f"{name} cannot be read ({cause}); {self._remedy}.") from error


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

    def write(file_and_content: tuple[Path, bytes]) -> Path:
        path, content = file_and_content
        with synced(path) as file:
            file.write(content)
        return path.parent

    with ThreadPoolExecutor(_SYNCS, "sync") as pool:
        for folder in set(map_on_pool(pool, _SYNCS, write, list(files))):
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
    """An array that `save_arrays` wrote, checked against its hash, type and shape.

    It is read into memory: a mapped file may change after it was checked.

    Raises
    ------
    CorruptData
        If the file is missing, differs from what was written, or holds something else than it must.
    """
    name = f"{path.name} in {path.parent.name}"
    with read_errors(path), real_file(path).open("rb") as file:
        read_header(file, name, (dtype,), shape, RESTORE)  # Before it is read whole, for a hash that may be right.
        file.seek(0)
        content = file.read()
    check_bytes(path, content, hashes.get(path.name, ""))
    return array_of(content, name, (dtype,), shape, RESTORE, finite=finite)


def load_shape(path: Path, dtype: DTypeLike, n_axes: int) -> tuple[int, ...]:
    """The shape of such an array as its header says; `load_array` checks it again."""
    with read_errors(path):
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
    with read_errors(path):
        actual = file_hash(real_file(path))
    _compare(path, actual, expected)


def check_bytes(path: Path, content: bytes, expected: str) -> None:
    """Raise `CorruptData` unless the hash of `content` is `expected`; `path` is for the message."""
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
    with read_errors(path):
        try:
            return read_bounded(real_file(path), most)
        except ValueError as error:
            raise CorruptData(str(error)) from error
