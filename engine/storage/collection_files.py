"""The files and folders that a collection consists of: checking that none is a link, and removing them without touching others."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from engine.system import read_errors, real_files, real_folder, remove_named, remove_numbered

CATALOG = "catalog.sqlite"
WRITE_LOCK = "write.lock"
"""Locked by whoever writes."""
FILES = (
    CATALOG,
    *(f"{CATALOG}-{part}" for part in ("journal", "wal", "shm")),
    WRITE_LOCK,
    "past-queries.f16",
)
"""Files right in the collection's folder; the parts of the catalog are SQLite's."""
NUMBERED = ("segments", "cells", "routers", "media", "leases", "ladder", "parents", "staged")
"""Folders in which every name of ours is a number."""
RENDERED = ("pictures", "clips")
"""Folders of what is made on demand, named after its video and time."""
_RENDERED = re.compile(r"\d+(-\d+){1,3}\.(jpg|mp4|json)|\.[0-9a-f]{32}\.part")


def place_of(path: str | os.PathLike[str]) -> Path:
    """The folder of a collection as it was given, or where it really lies if a link leads to it.

    A link that is turned to another collection meanwhile must not mix the two.
    """
    real = Path(os.path.realpath(path))
    return Path(path) if real == Path(path).absolute() else real


def check_files(folder: Path) -> None:
    """Raise `Untrusted` if anything that belongs to a collection is a link, or another kind of thing than it should be."""
    folder = place_of(folder)
    with read_errors(folder / CATALOG):
        real_files(folder, FILES)
        for name in (*NUMBERED, *RENDERED):
            real_folder(folder / name)


def is_rendered(name: str) -> bool:
    """Whether a file in one of the `RENDERED` folders is one of ours."""
    return _RENDERED.fullmatch(name) is not None


def discard_collection(folder: Path) -> None:
    """Remove what makes a folder a collection, and the folder if nothing else is in it. What is not ours stays, and so do links' targets."""
    for name in NUMBERED:
        remove_numbered(folder / name)
    for name in RENDERED:
        remove_named(folder / name, _RENDERED)
    with suppress(OSError):
        above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in (*NUMBERED, *RENDERED):
                with suppress(OSError):
                    os.rmdir(name, dir_fd=above)
            for name in FILES:
                with suppress(OSError):
                    if stat.S_ISREG(os.lstat(name, dir_fd=above).st_mode):
                        os.unlink(name, dir_fd=above)
        finally:
            os.close(above)
        folder.rmdir()
