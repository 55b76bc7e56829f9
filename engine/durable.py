"""Files that survive a crash: written, hashed and synced before anything refers to them; and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.arrays import Shape, array_of, array_shape, read_header
from engine.errors import CorruptData, ReadOnly, ResourceExhausted, StorageFull

_CHUNK = 1 << 20
_SYNCS = 16
"""Files synced at the same time."""
RESTORE = "stop the app, restore the file from a copy beside it, and rename that over it"
"""What to do about a damaged file. Written over in place, a file that a running process has mapped would end that process."""
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
    with reading(path), path.open("rb") as file:
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
    """Raise `CorruptData` unless the file's hash is `expected`."""
    with reading(path):
        actual = file_hash(path)
    _compare(path, actual, expected)


def check_bytes(path: Path, content: bytes, expected: str) -> None:
    """The same for what was read of it."""
    _compare(path, hashlib.blake2b(content, digest_size=16).hexdigest(), expected)


def _compare(path: Path, actual: str, expected: str) -> None:
    if actual != expected:
        raise CorruptData(
            f"{path.name} in {path.parent.name} is not what was written (its checksum differs); {RESTORE}."
        )


_COARSE_CLOCK = 5
"""Linux's CLOCK_REALTIME_COARSE, by which files get their times of change."""
_UNSETTLED_NS = 20_000_000
"""Nanoseconds that such a clock may lag behind where it cannot be asked."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What the system says of a file."""

    identity: tuple[int, ...]
    """Its place, size and times of change."""
    settled: bool
    """Whether any later change will show in it: false for a file that has changed within the same tick of the clock."""


class Watched:
    """A stored file whose bytes are trusted for as long as the system says that they stand still."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._right: tuple[int, ...] | None = None

    def look(self) -> FileState:
        """What the system says of the file now; to be asked *before* it is read.

        Raises
        ------
        OSError
            If it is not there any more.
        """
        clock = time.clock_gettime_ns(_COARSE_CLOCK) if sys.platform == "linux" else time.time_ns() - _UNSETTLED_NS
        identity = self._identity()
        return FileState(identity, max(identity[3:]) < clock)

    def trust(self, state: FileState) -> None:
        """Remember a state in which the file was found right."""
        self._right = state.identity if state.settled else None

    @property
    def stands_still(self) -> bool:
        """Whether the file is as it was when it was found right."""
        try:
            return self._right is not None and self._identity() == self._right
        except OSError:
            return False

    def _identity(self) -> tuple[int, ...]:
        told = self._path.stat()
        return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


class OpenFiles:
    """Files held open for reading, the least recently used closed first, so that many segments do not use up what a process may open."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._handles: OrderedDict[object, list[int]] = OrderedDict()
        """By owner: the handle, and how many use it now."""
        self._unwanted: deque[object] = deque()
        """Owners who have gone, whose files are closed at the next chance."""
        self._lock = threading.Lock()

    @contextmanager
    def use(self, owner: object, path: Path) -> Iterator[int]:
        """The handle of a file, which stays open while the block runs.

        Parameters
        ----------
        owner : stands for whoever reads the file, by identity: another file may come to lie at the same path

        Raises
        ------
        OSError
            If it cannot be opened.
        """
        with self._lock:
            self._close_unwanted()
            entry = self._handles.get(owner)
            if entry is None:
                self._close_spare(self._most - 1)
                entry = self._handles[owner] = [self._open(path), 0]
            self._handles.move_to_end(owner)
            entry[1] += 1
        try:
            yield entry[0]
        finally:
            with self._lock:
                entry[1] -= 1
                if not entry[1] and self._handles.get(owner) is not entry:
                    os.close(entry[0])

    def forget(self, owner: object) -> None:
        """Close the file of an owner; it is opened anew when it is next used."""
        self._unwanted.append(owner)
        with self._lock:
            self._close_unwanted()

    def forget_later(self, owner: object) -> None:
        """The same at the next chance: safe in a finalizer, which may run anywhere, even where this thread has the lock."""
        self._unwanted.append(owner)

    def _close_unwanted(self) -> None:
        """Close what nobody wants any more; the caller has the lock."""
        while self._unwanted:
            entry = self._handles.pop(self._unwanted.popleft(), None)
            if entry is not None and not entry[1]:
                os.close(entry[0])

    def _open(self, path: Path) -> int:
        """A new handle; where the process may open no more, all that are not in use are closed first. The caller has the lock."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            handle = os.open(path, flags)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._close_spare(0)
            handle = os.open(path, flags)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        return handle

    def _close_spare(self, most: int) -> None:
        """Close the oldest that nobody uses until at most so many are left; the caller has the lock."""
        spare = [owner for owner, (_, users) in self._handles.items() if not users]
        for owner in spare[: max(0, len(self._handles) - most)]:
            os.close(self._handles.pop(owner)[0])

    def __len__(self) -> int:
        with self._lock:
            self._close_unwanted()
            return len(self._handles)


OPEN_FILES = OpenFiles()
"""The record files of all collections of this process."""


def remove_folder(path: Path) -> None:
    """Remove a folder of ours, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


class FileLock:
    """An advisory lock on a file, held by this open file rather than by the process (`flock`), so that two threads exclude each other too."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        with storage_errors(f"taking the lock {path.name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
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
