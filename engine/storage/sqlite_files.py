"""Checks the files beside the catalog that SQLite would open by itself."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from engine.errors import CorruptData, Untrusted
from engine.system import read_errors

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""How a rollback journal starts, and how it ends where it names another file."""


def check_sqlite_files(path: Path) -> None:
    """Look at what SQLite would open by itself, before it does. The catalog is not opened for that: closing it would end SQLite's locks.

    SQLite takes up a write-ahead log, which ours never have, and plays back a journal. A journal may name a second file, which
    it then reads, and removes: any file of this user, whoever wrote the journal.

    Raises
    ------
    CorruptData
        If something lies beside the catalog that we never write.
    Untrusted
        If its journal is a link or a pipe.
    """
    for ending in ("-wal", "-shm"):
        if os.path.lexists(f"{path}{ending}"):
            raise CorruptData(
                f"Beside the catalog lies {path.name}{ending}, which this program never writes; remove it, or restore the collection from a copy."
            )
    journal = path.with_name(f"{path.name}-journal")
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(journal.lstat().st_mode):
            raise Untrusted(f"{journal.name} beside the catalog is a link or a pipe; remove it.")
        with read_errors(journal), journal.open("rb") as file:
            nbytes = file.seek(0, os.SEEK_END)
            file.seek(max(0, nbytes - len(_JOURNAL_MAGIC)))
            names_another = nbytes > 16 and file.read() == _JOURNAL_MAGIC
        if names_another:
            raise CorruptData(
                f"{journal.name} beside the catalog names another file, which this program never does; remove it, or restore the collection from a copy."
            )
