"""Turns errors of SQLite into errors of the engine: most are no fault of the file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import Busy, CorruptData, EngineError, ReadOnly, StorageFull
from engine.system import RESTORE, current_shortage, may_write, no_locks_sentence, shortage, why_no_locks

_BRIEF = 200
"""Characters of SQLite's reason that a message quotes."""
_USING = "using the catalog"
_NOT_FOR_READERS = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
"""Codes of SQLite where something wanted to write that may not."""
_LOCK_FAULTS = (
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
)
"""Extended codes of SQLite where the file system has no locks, or lost them."""


@contextmanager
def translate_sqlite_errors(path: Path) -> Iterator[None]:
    """Translate what SQLite raises about the catalog at `path`.

    Raises
    ------
    ResourceExhausted
        If the system is short of memory, open files or disk.
    Busy
        If another program keeps the catalog locked.
    ReadOnly
        If it may not be read or written by this user, or the file system has no locks.
    CorruptData
        If it is damaged.
    """
    try:
        yield
    except MemoryError as error:
        raise shortage(_USING, error) or error from error
    except sqlite3.OperationalError as error:
        raise _refusal(path, error) from error
    except sqlite3.ProgrammingError:
        raise  # Such as use after closing: a fault of the caller, not of the file.
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # The message itself cannot be decoded where a byte of the stored schema has changed.
        raise CorruptData(f"The catalog {path} is damaged ({short_reason(error)}); {RESTORE}.") from error


def _refusal(path: Path, error: sqlite3.OperationalError) -> EngineError:
    folder = path.parent
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & 0xFF
    short = current_shortage() or (MemoryError() if extended == sqlite3.SQLITE_IOERR_NOMEM else None)
    short_error = None if short is None else shortage(_USING, short)
    if short_error is not None:
        return short_error
    if code == sqlite3.SQLITE_FULL or "full" in str(error) or _no_room(folder):
        return StorageFull("The disk is full, so the collection is as before; free some space and try again.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL) or extended in _LOCK_FAULTS:
        lacking = why_no_locks(folder)
        if lacking is not None or code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return ReadOnly(no_locks_sentence(lacking or short_reason(error)))
        return Busy(f"The catalog {path} stays locked by another program; try again later.")
    if path.exists() and not os.access(path, os.R_OK):
        return ReadOnly(
            "The catalog may not be read by this user; ask its owner for permission to read the collection."
        )
    if code in _NOT_FOR_READERS and not (may_write(folder) and (may_write(path) or not path.exists())):
        if path.with_name(f"{path.name}-journal").exists():
            return ReadOnly(
                "A write to this collection was cut off, and undoing it takes permission to write to the folder; "
                "let its owner open it once, or copy the whole folder to one of your own."
            )
        return ReadOnly(
            "The folder of the collection may not be written to, so the collection is as before; "
            "make it writable, or copy the collection to a folder of your own."
        )
    return CorruptData(f"The catalog {path} cannot be used ({short_reason(error)}).")


def _no_room(folder: Path) -> bool:
    """Whether the file system has no block or no name left: SQLite then may say no more than that a file cannot be opened."""
    with suppress(OSError):
        status = os.statvfs(folder)
        if status.f_flag & os.ST_RDONLY:
            return False  # A disk that takes no writes has no room by nature, and that is not what it lacks.
        return status.f_bavail == 0 or (status.f_files > 0 and status.f_favail == 0)
    return False


def short_reason(error: Exception) -> str:
    """The reason of an error in one line, without the stored text that it may quote."""
    return "".join(c for c in str(error).split(" with text ")[0][:_BRIEF] if c.isprintable())
