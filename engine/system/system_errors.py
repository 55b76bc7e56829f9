"""Errors of the operating system as errors of the engine: shortages, a full disk, folders that may not be written to."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from engine.errors import EngineError, ReadOnly, ResourceExhausted, StorageFull

T = TypeVar("T")
R = TypeVar("R")
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
"""Words for the same in errors without a number: of FAISS, PyArrow, torch and the loader of shared libraries."""
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Error numbers for what this user, or nobody, may open or write."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""Error numbers that file systems without locks give."""


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
        message = str(error)
        return next((number for number, texts in _SAYS.items() if any(text in message for text in texts)), None)
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
        if error.errno in NO_ACCESS:
            raise read_only(what, error.strerror or str(error)) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"The disk is full, so {what} was given up and the collection is as before; free some space and try again."
            ) from error
        raise


def read_only(what: str, why: str) -> ReadOnly:
    """The error to raise where a folder may not be written to, `what` being given up."""
    return ReadOnly(
        f"The folder may not be written to ({why}), so {what} was given up and the collection is as before; "
        "make it writable, or copy the collection to a folder of your own."
    )


def current_shortage() -> OSError | None:
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
            raise read_only(what, os.strerror(errno.EROFS if _is_read_only_disk(path) else errno.EACCES))


def _is_read_only_disk(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def can_start_threads(n_threads: int) -> bool:
    """Whether the system starts this many more threads; they are started, and end at once."""
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


def map_on_pool(pool: Executor, workers: int, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Call `work` on every item on the threads of a pool, or in this thread if the system starts no more.

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
    for future in started:
        future.result()
    return [results[i] for i in range(len(items))]
