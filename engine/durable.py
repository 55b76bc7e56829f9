"""Files that survive a crash: written, hashed and synced before anything refers to them; and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.arrays import Shape, array_of, array_shape, read_header
from engine.bounds import read_bounded
from engine.errors import CorruptData, ReadOnly, ResourceExhausted, StorageFull, Untrusted

_CHUNK = 1 << 20
_SYNCS = 16
"""Files synced at the same time."""
RESTORE = "stop the app, restore the file from a copy beside it, and rename that over it"
"""What to do about a damaged file. Written over in place, a file that a running process has mapped would end that process."""
_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened whose names are to be removed."""
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


SHORT_OF = {
    errno.EMFILE: "open files (this process may not open more; raise `ulimit -n`)",
    errno.ENFILE: "open files (the whole system may not open more)",
    errno.ENOMEM: "memory",
    errno.EAGAIN: "threads or processes",
}
"""What the system is short of, by its error number: a shortage, which says nothing about what is stored."""


def shortage(what: str, error: BaseException) -> ResourceExhausted | None:
    """The error to raise where the system ran short of something, `what` being given up; None where it is another error."""
    short = "memory" if isinstance(error, MemoryError) else None
    if isinstance(error, OSError):
        short = SHORT_OF.get(error.errno or 0)
    elif isinstance(error, RuntimeError) and "start new thread" in str(error):
        short = SHORT_OF[errno.EAGAIN]
    if short is None:
        return None
    return ResourceExhausted(f"There is not enough {short}, so {what} was given up; the collection is as before.")


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
            raise _odd(path, "a link", "a file") from error
        if isinstance(error, PermissionError):
            raise ReadOnly(f"{name} may not be read by this user; ask its owner for permission to read it.") from error
        told = error.strerror if isinstance(error, OSError) else str(error)
        raise CorruptData(f"{name} cannot be read ({told}); {remedy}.") from error


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Translate a full disk, a shortage and a folder that may not be written to into one sentence; other errors pass."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        short = shortage(what, error)
        if short is not None:
            raise short from error
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ReadOnly(
                f"The folder may not be written to ({error.strerror}), so {what} was given up and the collection is as before; "
                "make it writable, or copy the collection to a folder of your own."
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"The disk is full, so {what} was given up and the collection is as before; free some space and try again."
            ) from error
        raise


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
        for folder in set(pool.map(write, files)):
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
        return array_shape(path, dtype, n_axes, RESTORE)


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


def real_file(path: Path) -> Path:
    """The path of a stored file, unless it is something else: a link may lead anywhere, and a pipe would be waited for.

    Neither may the folder that it lies in be a link. What is missing passes.

    Raises
    ------
    Untrusted
        If it is not a file, or not in a real folder.
    """
    real_folder(path.parent)
    _check_kind(path, stat.S_ISREG, "a file")
    return path


def real_folder(path: Path) -> Path:
    """The path of a folder of ours, unless there is a link or anything else in its place, which raises `Untrusted`."""
    _check_kind(path, stat.S_ISDIR, "a folder")
    return path


def real_files(folder: Path, names: Iterable[str]) -> None:
    """Raise `Untrusted` unless all of these are names of files right in a folder of ours, as far as they are there."""
    real_folder(folder)
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise Untrusted(f"A file of {folder.name} is called {name!r}, which may lead out of it; {_DISTRUST}.")
        _check_kind(folder / name, stat.S_ISREG, "a file")


def is_real_file(path: Path) -> bool:
    """Whether there is such a file, and neither it nor its folder is a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and stat.S_ISDIR(os.lstat(path.parent).st_mode)
    except (OSError, ValueError):
        return False


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


_DISTRUST = "remove it, or do not use this collection"


def _check_kind(path: Path, right: Callable[[int], bool], wanted: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not right(mode):
        raise _odd(path, next((name for test, name in _KINDS if test(mode)), "a device"), wanted)


def _odd(path: Path, kind: str, wanted: str) -> Untrusted:
    """What to say of something that has the name of a file or folder of ours and is another kind of thing."""
    what = f"{path.name} in {path.parent.name}"
    if kind == "a link":
        return Untrusted(
            f"{what} is a link, which may lead anywhere; put {wanted} itself in its place, or do not use this collection."
        )
    return Untrusted(f"{what} is {kind} and not {wanted}; {_DISTRUST}.")


def is_number(name: str) -> bool:
    """Whether a name is a number as the engine writes them, which is what it calls its folders."""
    return _NUMBER.fullmatch(name) is not None


def numbered(folder: Path) -> list[str]:
    """The names in a folder of ours that are numbers, for no other is ours; none where a link or nothing is in its place."""
    try:
        handle = os.open(folder, _FOLDER)
    except OSError:
        return []
    try:
        return list(filter(is_number, _names(handle)))
    finally:
        os.close(handle)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def remove_folder(path: Path) -> None:
    """Remove what has this name, if it is there: a folder with all that is in it, anything else by itself.

    No link is followed: where the name is one it goes, and what it leads to stays; where the folder above is one, nothing is done.
    """
    _remove(path.parent, lambda name: name == path.name)


def remove_numbered(folder: Path, keep: Container[str] = ()) -> None:
    """Remove what is called by a number in a folder of ours, except `keep`, in the same way. Other names are not ours, and stay."""
    _remove(folder, lambda name: is_number(name) and name not in keep)


def remove_named(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove what is called so in a folder of ours, in the same way."""
    _remove(folder, lambda name: pattern.fullmatch(name) is not None)


def _remove(folder: Path, goes: Callable[[str], bool]) -> None:
    try:
        above = os.open(folder, _FOLDER)
    except OSError:
        return
    try:
        for name in filter(goes, _names(above)):
            with suppress(OSError):
                if stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                    shutil.rmtree(name, ignore_errors=True, dir_fd=above)
                else:
                    os.unlink(name, dir_fd=above)
    finally:
        os.close(above)


class FileLock:
    """An advisory lock on a file, held by this open file rather than by the process (`flock`), so that two threads exclude each other too."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        with storage_errors(f"taking the lock {path.name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _check_kind(path, stat.S_ISREG, "a file")
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock; without waiting, False if somebody else holds it."""
        try:
            fcntl.flock(self._handle, self._mode if wait else self._mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the lock back; the object is used up."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
