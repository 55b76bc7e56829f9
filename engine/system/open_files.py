"""Stored files in use: whether they have changed since they were checked, and how many are held open."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_COARSE_CLOCK = 5
"""Linux's CLOCK_REALTIME_COARSE, by which files get their times of change."""
_BUFFERS = 512
"""Buffers that one call to the system fills at the most."""
_UNSETTLED_NS = 20_000_000
"""Nanoseconds that such a clock may lag behind where it cannot be asked."""


@dataclass(frozen=True, slots=True)
class FileState:
    """Place, size and times of a file."""

    identity: tuple[int, ...]
    """Its place, size and times of change."""
    settled: bool
    """Whether any later change will show in it: false for a file that has changed within the same tick of the clock."""


class WatchedFile:
    """A stored file that was checked, and counts as unchanged while its place, size and times of change stay the same."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._right: tuple[int, ...] | None = None

    def state(self) -> FileState:
        """The state of the file now; to be taken *before* the file is read.

        Raises
        ------
        OSError
            If it is not there any more.
        """
        clock = time.clock_gettime_ns(_COARSE_CLOCK) if sys.platform == "linux" else time.time_ns() - _UNSETTLED_NS
        identity = self._identity()
        return FileState(identity, max(identity[3:]) < clock)

    def trust(self, state: FileState) -> None:
        """Remember a state in which the file was checked."""
        self._right = state.identity if state.settled else None

    @property
    def is_unchanged(self) -> bool:
        """Whether the file is as it was when it was checked."""
        try:
            return self._right is not None and self._identity() == self._right
        except OSError:
            return False

    def _identity(self) -> tuple[int, ...]:
        status = os.stat(self._path)  # noqa: PTH116 - asked some times in each search, and a Path takes three times as long
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Use:
    """A file that stays open while a block runs, which gets its handle."""

    # Not a generator, which takes longer than a read.
    __slots__ = ("_entry", "_files", "_owner", "_path")

    def __init__(self, files: OpenFiles, owner: object, path: Path) -> None:
        self._files = files
        self._owner = owner
        self._path = path

    def __enter__(self) -> int:
        self._entry = self._files.take(self._owner, self._path)
        return self._entry[0]

    def __exit__(self, *error: object) -> None:
        self._files.give_back(self._owner, self._entry)


class OpenFiles:
    """Files held open for reading, the least recently used closed first, so that many segments do not use up what a process may open."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._handles: OrderedDict[object, list[int]] = OrderedDict()
        """By owner: the handle, and how many use it now."""
        self._unwanted: deque[object] = deque()
        """Owners who have gone, whose files are closed at the next chance."""
        self._lock = threading.Lock()

    def use(self, owner: object, path: Path) -> Use:
        """The handle of a file, which stays open while the block runs.

        Parameters
        ----------
        owner : stands for whoever reads the file, by identity: another file may come to lie at the same path

        Raises
        ------
        OSError
            If it cannot be opened.
        """
        return Use(self, owner, path)

    def take(self, owner: object, path: Path) -> list[int]:
        """Handle and users of a file, one user more."""
        with self._lock:
            self._close_unwanted()
            entry = self._handles.get(owner)
            if entry is None:
                self._close_spare(self._most - 1)
                entry = self._handles[owner] = [self._open(path), 0]
            self._handles.move_to_end(owner)
            entry[1] += 1
        return entry

    def give_back(self, owner: object, entry: list[int]) -> None:
        """One user less."""
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
        """Close the files of owners who have gone; the caller has the lock."""
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


def fetch_ahead(handle: int, start: int, nbytes: int) -> None:
    """Tell the system that some bytes of a file are read next, so that a disk fetches what is asked for side by side."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, start, nbytes, os.POSIX_FADV_WILLNEED)


def read_into(handle: int, buffers: Iterable[memoryview], start: int) -> int:
    """Fill buffers one after another with the bytes of a file; returns the bytes read, fewer where the file ends early."""
    left, at = list(buffers), start
    while left:
        n = os.preadv(handle, left[:_BUFFERS], at)
        if not n:
            break
        at += n
        while left and n >= len(left[0]):
            n -= len(left.pop(0))
        if n:
            left[0] = left[0][n:]
    return at - start


def runs(rising: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Numbers that rise, cut where one is left out: each run lies together and is read in one go."""
    return np.split(rising, np.flatnonzero(np.diff(rising) != 1) + 1) if len(rising) else []
