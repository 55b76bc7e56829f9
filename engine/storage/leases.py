"""Leases: a reader holds a shared lock on a file per generation, so that a writer leaves the files of that generation alone."""

from __future__ import annotations

from pathlib import Path

from engine.errors import ReadOnly
from engine.system import FileLock, is_real_file, numbered_names, remove_folder


def lease_path(collection: Path, generation: int) -> Path:
    """The file whose shared lock says that a generation is being read."""
    return collection / "leases" / str(generation)


def take_lease(collection: Path, generation: int) -> FileLock | None:
    """Hold a generation; many readers may.

    None where no lease can be had: in a folder that may not be written to, and on a file system without locks. Nobody here can
    write there either; somebody elsewhere may, and then sweeps what this reader still looks at, see `Generations.reading`.
    """
    lease = None
    try:
        lease = FileLock(lease_path(collection, generation), shared=True)
        lease.acquire(wait=True)
    except ReadOnly:
        if lease is not None:
            lease.release()
        return None
    except BaseException:
        if lease is not None:
            lease.release()
        raise
    return lease


def held_generations(collection: Path, current: int) -> list[int]:
    """The current generation and those before it that a reader holds. The leases of all others are removed."""
    held = [current]
    for generation in map(int, numbered_names(collection / "leases")):
        if generation < current:
            path = lease_path(collection, generation)
            if not is_real_file(path):  # No reader holds that.
                remove_folder(path)
                continue
            try:
                with FileLock(path, shared=False) as lease:
                    if lease.acquire():
                        remove_folder(path)
                    else:
                        held.append(generation)
            except ReadOnly:  # Another user's: whether it is held cannot be told.
                held.append(generation)
    return held
