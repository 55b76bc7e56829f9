"""Locks between processes and threads, on files."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from engine.errors import ReadOnly
from engine.system.real_paths import real_file
from engine.system.system_errors import NO_ACCESS, NO_LOCKS, read_only, storage_errors


def why_no_locks(folder: Path) -> str | None:
    """Why no file in this folder can be locked; None where it can. The folder itself is tried, which nobody else locks."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror if error.errno in NO_LOCKS else None
    finally:
        os.close(handle)
    return None


def no_locks_sentence(why: str) -> str:
    """The sentence for a file system on which two writers cannot exclude each other."""
    return (
        f"This file system has no locks ({why}), so nothing can be written safely; copy the collection to a local disk."
    )


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
                real_file(path)
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            except OSError as error:
                if error.errno not in NO_ACCESS:
                    raise
                # A file that another user made can be locked all the same.
                with suppress(OSError):
                    self._handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
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
            if error.errno in NO_LOCKS:
                raise ReadOnly(no_locks_sentence(error.strerror or str(error))) from error
            if error.errno == errno.EBADF:  # Some network file systems lock only what is open for writing.
                raise read_only("taking a lock", os.strerror(errno.EACCES)) from error
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
