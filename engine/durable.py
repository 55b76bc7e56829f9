"""Files that survive a crash: written, hashed and synced before anything refers to them; and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData, EngineError, ReadOnly, ResourceExhausted, StorageFull

T = TypeVar("T")
R = TypeVar("R")
_CHUNK = 1 << 20
_SYNCS = 16
"""Files synced at the same time."""


SHORT_OF = {
    errno.EMFILE: "There are not enough open files (this process may open no more; raise `ulimit -n`)",
    errno.ENFILE: "There are not enough open files (the whole system may open no more)",
    errno.ENOMEM: "There is not enough memory",
    errno.EAGAIN: "There are not enough threads or processes",
}
"""What the system is short of, by its error number: a shortage, which says nothing about what is stored."""
_SAYS = {
    errno.EMFILE: (os.strerror(errno.EMFILE),),
    errno.ENFILE: (os.strerror(errno.ENFILE),),
    errno.ENOMEM: (
        os.strerror(errno.ENOMEM),
        "bad_alloc",
        "can't allocate memory",
        "failed to map segment from shared object",
        "out of memory",
    ),
    errno.EAGAIN: (os.strerror(errno.EAGAIN), "start new thread"),
}
"""How libraries word it that hand on no error number: FAISS, PyArrow, torch, the loader of shared libraries."""
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a door that is closed to this user, or to all."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What file systems without locks say when they are asked for one."""


def shortage(what: str, error: BaseException) -> ResourceExhausted | None:
    """The error to raise where the system ran short of something, `what` being given up; None where it is another error."""
    number = _short_of(error)
    if number is None:
        return None
    return ResourceExhausted(f"{SHORT_OF[number]}, so {what} was given up; the collection is as before.")


def _short_of(error: BaseException) -> int | None:
    """The error number of a shortage; None for another error."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    number = getattr(error, "errno", None)  # FFmpeg's errors have one, too.
    if isinstance(number, int):
        return number if number in SHORT_OF else None
    if isinstance(error, Exception) and not isinstance(error, (EngineError, ValueError, LookupError, TypeError)):
        told = str(error)
        return next((number for number, texts in _SAYS.items() if any(text in told for text in texts)), None)
    return None


@contextmanager
def shortages(what: str) -> Iterator[None]:
    """Translate a shortage, and nothing else: for what only reads, and for calls of libraries."""
    try:
        yield
    except Exception as error:
        short = shortage(what, error)
        if short is None:
            raise
        raise short from error


@contextmanager
def reading(path: Path, remedy: str = "restore it from a copy") -> Iterator[None]:
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
        if error.errno in _CLOSED:
            raise _read_only(what, error.strerror or str(error)) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"The disk is full, so {what} was given up and the collection is as before; free some space and try again."
            ) from error
        raise


def _read_only(what: str, why: str) -> ReadOnly:
    return ReadOnly(
        f"The folder may not be written to ({why}), so {what} was given up and the collection is as before; "
        "make it writable, or copy the collection to a folder of your own."
    )


def short_now() -> OSError | None:
    """The error that opening a file gives now, where the system is short of something: some libraries only say that they could not."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error if error.errno in SHORT_OF else None
    return None


def may_write(path: Path) -> bool:
    """Whether this user may write to a file or a folder: by its permissions, and because its disk takes writes at all."""
    return os.access(path, os.W_OK)


def check_writable(folder: Path, what: str) -> None:
    """Raise `ReadOnly` where a folder, or what lies right in it, may not be written to; before the work is done that is to be written.

    Raises
    ------
    ReadOnly
        In one sentence that names `what` is given up.
    """
    try:
        listed = [folder, *folder.iterdir()] if may_write(folder) else [folder]
    except OSError:
        listed = [folder]
    for path in listed:
        if not may_write(path) and path.exists():
            raise _read_only(what, os.strerror(errno.EROFS if _is_read_only_disk(path) else errno.EACCES))


def _is_read_only_disk(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


@contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing; on leaving, its bytes are on the disk."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def can_start(n_threads: int) -> bool:
    """Whether the system starts so many threads more; they are started and end again."""
    go_on = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(n_threads):
            thread = threading.Thread(target=go_on.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        return False
    finally:
        go_on.set()
        for thread in started:
            thread.join()
    return True


def work_off(pool: Executor, workers: int, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Do the same with every item, side by side on the threads of a pool, or here if the system has no more threads to give.

    The results stand in the order of the items; the first fault is raised when all threads have ended.
    """
    results: dict[int, R] = {}
    waiting = deque(enumerate(items))

    def work_on() -> None:
        while True:
            try:
                i, item = waiting.popleft()
            except IndexError:
                return
            results[i] = work(item)

    started: list[Future[None]] = []
    try:
        for _ in range(min(workers, len(items))):
            started.append(pool.submit(work_on))
    except RuntimeError as error:
        if shortage("this", error) is None:
            raise
        work_on()
    wait(started)
    for each in started:
        each.result()
    return [results[i] for i in range(len(items))]


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


def load_array(path: Path, hashes: Mapping[str, str], *, mapped: bool = False) -> NDArray[Any]:
    """One of them, checked whole.

    Raises
    ------
    CorruptData
        If the file is missing or differs from what was written.
    """
    check_file(path, hashes.get(path.name, ""))
    array: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None)
    return array.view(np.ndarray)


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
    if actual != expected:
        raise CorruptData(
            f"{path.name} in {path.parent.name} is not what was written (its checksum differs); restore it from a copy."
        )


def lacks_locks(folder: Path) -> str | None:
    """Why no file in this folder can be locked; None where it can. The folder itself is tried, which nobody else locks."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror if error.errno in _NO_LOCKS else None
    finally:
        os.close(handle)
    return None


def no_locks(why: str) -> str:
    """What to say of a file system that cannot keep two writers apart."""
    return (
        f"This file system has no locks ({why}), so nothing can be written safely; copy the collection to a local disk."
    )


def remove_folder(path: Path) -> None:
    """Remove a folder of ours, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


class FileLock:
    """An advisory lock on a file, held by this open file rather than by the process (`flock`), so that two threads exclude each other too."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        """Open the file, which is made if need be.

        Raises
        ------
        ReadOnly
            If it cannot be opened because the folder may not be written to.
        ResourceExhausted
            If the system is short of open files.
        """
        self._handle = -1
        with storage_errors(f"taking the lock {path.name}"):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                if error.errno not in _CLOSED:
                    raise
                # A file that another user made can be locked all the same.
                with suppress(OSError):
                    self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if self._handle < 0:
                    raise
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock; without waiting, False if somebody else holds it.

        Raises
        ------
        ReadOnly
            If the file system has no locks.
        """
        try:
            fcntl.flock(self._handle, self._mode if wait else self._mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise ReadOnly(no_locks(error.strerror or str(error))) from error
            if error.errno == errno.EBADF:  # Some network file systems lock only what is open for writing.
                raise _read_only("taking a lock", os.strerror(errno.EACCES)) from error
            with storage_errors("taking a lock"):
                raise
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
