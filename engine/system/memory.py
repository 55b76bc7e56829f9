"""Memory that a process occupies, and dropping files from the page cache; known on Linux only."""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_MAPS = Path("/proc/self/maps")
_SMAPS = Path("/proc/self/smaps")
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class ResidentMemory:
    """Memory of a process, bytes."""

    anonymous: int
    """Its own: arrays, loaded codes."""
    file: int
    """Pages of mapped files, which the system may take back."""


def resident_memory() -> ResidentMemory | None:
    """Memory of this process now; None where the system does not tell."""
    fields = _fields(_STATUS)
    if "RssAnon" not in fields:
        return None
    return ResidentMemory(fields["RssAnon"], fields["RssFile"])


def mapped_files(folder: Path) -> dict[Path, int] | None:
    """Resident bytes of the mapped files under a folder, by file; None where the system does not tell.

    A file that is mapped several times shares its pages, so for each part of it the map with the most of them counts. Files that
    were removed since count as long as they are mapped.
    """
    inside = f"{folder.resolve()}{os.sep}"
    try:
        lines = _SMAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    most: dict[tuple[Path, str], int] = {}
    current: tuple[Path, str] | None = None
    for line in lines:
        if current is not None and line.startswith("Rss:"):
            most[current] = max(most.get(current, 0), int(line.split()[1]) * 1024)
        elif "-" in line.split(" ", 1)[0]:  # The first line of a map; those about it start with a name and a colon.
            words = line.split(maxsplit=5)
            name = words[5].removesuffix(" (deleted)") if len(words) == 6 else ""
            current = (Path(name), words[2]) if name.startswith(inside) else None
    by_file: dict[Path, int] = {}
    for (path, _), nbytes in most.items():
        by_file[path] = by_file.get(path, 0) + nbytes
    return by_file


def free_memory() -> int | None:
    """Bytes that programs can still take without swapping; None where the system does not tell."""
    return _fields(_MEMINFO).get("MemAvailable")


def _fields(path: Path) -> dict[str, int]:
    """The fields in kB of a file of the kernel, in bytes."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    split = [line.split() for line in lines if line.endswith(" kB")]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in split}


def can_drop_page_cache() -> bool:
    return hasattr(os, "posix_fadvise") and _MAPS.exists()


def drop_page_cache(folder: Path) -> None:
    """Drop the files under a folder from the page cache, except pages that another process has mapped and touched."""
    release_mapped_pages(folder)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def release_mapped_pages(folder: Path) -> None:
    """Release the pages of all read-only maps of files under a folder; they are read again when they are next used."""
    inside = f"{folder.resolve()}{os.sep}"
    madvise = ctypes.CDLL(None).madvise
    for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5].startswith(inside) and words[1].startswith("r-"):
            start, stop = (int(word, 16) for word in words[0].split("-"))
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)
