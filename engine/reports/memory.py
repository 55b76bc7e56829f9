"""Where the bytes of a collection are: on disk, in mapped pages, in memory, and what plain float32 in memory would take.

Files are counted by their sizes, mapped pages as the system tells them, arrays by looking at what the handle holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import CorruptData
from engine.storage import ByteLRU, Residency, Segment, Settings, ShardView, Snapshot
from engine.system import Resident, memory, shortages
from engine.vectors import PER_MAPPED_LIST, Lists

ID_NBYTES = 8
"""Of a frame's number beside its vector."""
_FRESH_NS = 2_000_000_000
"""A folder that changed within these nanoseconds may change again without its time of change showing it."""
_PICTURES = ("media", "pictures", "clips", "parents")
_HELD = "engine."
"""Modules whose objects are looked into for arrays."""
_NOT_HELD = "engine.storage.manifest"
"""Rows of the catalog hold no arrays, and can be very many."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of files, by what is in them."""

    rows: int
    """Stored vectors."""
    codes: int
    """Inverted lists with codes."""
    columns: int
    """Frame columns: places, times, tags, checksums."""
    lists: int
    """Which cells occur in each segment, and how many rows of each."""
    cells: int = 0
    """Centroids and what else was trained with them."""
    router: int = 0
    """What the router is, and what it is fitted on again when frames come."""
    pictures: int = 0
    """Thumbnails, pictures and clips."""
    other: int = 0
    """Catalog, past queries, and what earlier generations have left."""

    @property
    def total(self) -> int:
        return self.shards + self.cells + self.router + self.pictures + self.other

    @property
    def shards(self) -> int:
        """Rows, codes, columns and lists: all that lies in segments."""
        return self.rows + self.codes + self.columns + self.lists


@dataclass(frozen=True, slots=True)
class ShardMemory:
    """Where the bytes of one shard are."""

    shard: int
    name: str
    n_frames: int
    float32_nbytes: int
    """Vectors as float32 and ids, all in memory."""
    disk: Disk
    mapped_nbytes: int | None
    """Pages of its mapped files that are in memory now; None where the system does not tell."""
    cached_nbytes: int
    """In the cache now."""
    arrays_nbytes: int
    """Other arrays that are held for it now."""
    open_nbytes: int
    """What the cache counts once all of it is open."""

    @property
    def anonymous_nbytes(self) -> int:
        return self.cached_nbytes + self.arrays_nbytes


@dataclass(frozen=True, slots=True)
class MemoryAccount:
    """Where the bytes of a collection are, as one process sees it."""

    n_frames: int
    dim: int
    float32_nbytes: int
    """Vectors as float32 and ids, all in memory."""
    disk: Disk
    """Every file of the folder."""
    mapped_nbytes: int | None
    """Pages of its mapped files that this process has in memory now, by whichever handle; None where the system does not tell."""
    cached_nbytes: int
    """Opened shards in the cache: codes or rows, and ids. What FAISS adds per list is not in it."""
    arrays_nbytes: int
    """Other arrays that this handle holds: centroids, routing vectors, places of cells, masks."""
    budget: int
    """Bytes that opened shards may take in the cache."""
    open_nbytes: int
    """What the cache would count if every shard was open."""
    process: Resident | None
    """The whole process, with encoder, libraries and other collections; None where the system does not tell."""
    shards: tuple[ShardMemory, ...]

    @property
    def anonymous_nbytes(self) -> int:
        """What this handle holds in memory of its own."""
        return self.cached_nbytes + self.arrays_nbytes

    def document(self) -> dict[str, Any]:
        """The same for scripts, with the sums."""
        shards = [
            asdict(each) | {"anonymous_nbytes": each.anonymous_nbytes, "disk": _disk_document(each.disk)}
            for each in self.shards
        ]
        sums = {"anonymous_nbytes": self.anonymous_nbytes, "disk": _disk_document(self.disk)}
        return asdict(self) | sums | {"shards": shards}


def describe(told: MemoryAccount) -> str:
    """An account in a few lines for a terminal."""

    def size(nbytes: int | None) -> str:
        return "not known here" if nbytes is None else f"{nbytes / 1e6:,.1f} MB"

    disk = asdict(told.disk) | {"in shards": told.disk.shards}
    parts = ", ".join(f"{size(disk[name])} {name}" for name in ("in shards", "cells", "router", "pictures", "other"))
    own, files = (None, None) if told.process is None else (told.process.anonymous, told.process.file)
    lines = [
        f"{told.n_frames:,} frames of {told.dim} dimensions",
        f"as float32 in memory  {size(told.float32_nbytes)}",
        f"on disk               {size(told.disk.total)}: {parts}",
        f"mapped now            {size(told.mapped_nbytes)}",
        f"in memory now         {size(told.anonymous_nbytes)}: {size(told.cached_nbytes)} of opened shards, {size(told.arrays_nbytes)} of arrays",
        f"cache budget          {size(told.budget)}; every shard open takes {size(told.open_nbytes)}",
        f"the whole process     {size(own)} of its own, {size(files)} of mapped files",
    ]
    return "\n".join(lines)


def _disk_document(disk: Disk) -> dict[str, int]:
    return asdict(disk) | {"shards": disk.shards, "total": disk.total}


def account(path: Path, snapshot: Snapshot, cache: ByteLRU[Lists], residency: Residency) -> MemoryAccount:
    """Count the bytes of one generation, and of what lies beside it in the folder."""
    settings = snapshot.settings
    mapped = memory.mapped(path)
    count = _Arrays()
    shards = tuple(_shard(shard, settings, cache, residency, mapped, count) for shard in snapshot.shards)
    count.look(snapshot)
    return MemoryAccount(
        n_frames=snapshot.n_live,
        dim=settings.dim,
        float32_nbytes=_float32(snapshot.n_live, settings.dim),
        disk=_disk(path, snapshot, [shard.disk for shard in shards]),
        mapped_nbytes=None if mapped is None else sum(mapped.values()),
        cached_nbytes=cache.stats().nbytes,
        arrays_nbytes=count.nbytes,
        budget=cache.stats().budget,
        open_nbytes=sum(shard.open_nbytes for shard in shards),
        process=memory.resident(),
        shards=shards,
    )


def _float32(n_frames: int, dim: int) -> int:
    return n_frames * (4 * dim + ID_NBYTES)


def _shard(
    shard: ShardView,
    settings: Settings,
    cache: ByteLRU[Lists],
    residency: Residency,
    mapped: dict[Path, int] | None,
    count: _Arrays,
) -> ShardMemory:
    segments = [view.segment for view in shard.segments]
    before = count.nbytes
    count.look(*shard.segments)

    def of_files(name: str) -> int:
        return sum(_size(segment.folder / name) for segment in segments)

    folders = {segment.folder.resolve() for segment in segments}
    return ShardMemory(
        shard=shard.shard,
        name=shard.name,
        n_frames=shard.n_live,
        float32_nbytes=_float32(shard.n_live, settings.dim),
        disk=Disk(of_files("vectors.npy"), of_files("codes.faiss"), of_files("frames.arrow"), of_files("cells.npy")),
        mapped_nbytes=None if mapped is None else sum(n for file, n in mapped.items() if file.parent in folders),
        cached_nbytes=sum(cache.nbytes_of(segment.row.segment_id) for segment in segments),
        arrays_nbytes=count.nbytes - before,
        open_nbytes=sum(open_nbytes(segment, settings, residency) for segment in segments),
    )


def open_nbytes(segment: Segment, settings: Settings, residency: Residency) -> int:
    """What the cache counts for a segment once it is open; 0 for one whose files cannot be read."""
    if not segment.coded:
        return segment.n_rows * (settings.dim * (2 if settings.store == "fp16" else 4) + ID_NBYTES)
    if residency == "loaded":
        return _size(segment.folder / "codes.faiss")
    with suppress(CorruptData):
        return PER_MAPPED_LIST * len(segment.cells)
    return 0


def _disk(path: Path, snapshot: Snapshot, shards: Iterable[Disk]) -> Disk:
    """Every file of the folder: those of this generation by what they hold, and the rest."""
    cells, router = snapshot.manifest.cells, snapshot.manifest.router
    of_shards = list(shards)
    parts = {name: sum(getattr(each, name) for each in of_shards) for name in ("rows", "codes", "columns", "lists")}
    trained = 0 if cells is None else _folder(path / "cells" / str(cells.cells_id), _list)
    fitted = 0 if router is None else _folder(path / "routers" / str(router.router_id), _list)
    top, folders = _list(path, 0)
    everything = top + sum(_folder(folder, _list) for folder in folders if folder.name not in _PICTURES)
    pictures = sum(_folder(path / name, _listed) for name in _PICTURES)
    # A file may come or go while we count; what is left is never less than nothing.
    other = max(0, everything - sum(parts.values()) - trained - fitted)
    return Disk(**parts, cells=trained, router=fitted, pictures=pictures, other=other)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


_Look = Callable[[Path, int], tuple[int, tuple[Path, ...]]]
"""Gives the bytes of the files right in a folder, and the folders in it; takes when the folder changed, nanoseconds."""


def _list(path: Path, changed: int) -> tuple[int, tuple[Path, ...]]:
    nbytes, folders = 0, []
    for each in path.iterdir():
        if each.is_dir() and not each.is_symlink():
            folders.append(each)
        else:
            nbytes += _size(each)
    return nbytes, tuple(folders)


_listed: _Look = lru_cache(maxsize=1 << 16)(_list)
"""The same, remembered until the folder changes: for pictures, which are many, and only added and removed."""


def _folder(path: Path, look: _Look) -> int:
    """Bytes of all files under a folder; 0 where there is none."""
    try:
        with shortages(f"counting the bytes in {path.name}"):
            changed = path.stat().st_mtime_ns
            settled = time.time_ns() - changed > _FRESH_NS
            files, folders = look(path, changed) if settled else _list(path, changed)
    except OSError:
        return 0
    return files + sum(_folder(each, look) for each in folders)


class _Arrays:
    """Sums up the arrays that objects of the engine hold, each once; arrays over mapped or foreign memory are not ours."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._seen: dict[int, object] = {}
        """By identity; kept alive meanwhile, so that no identity is given twice."""

    def look(self, *roots: object) -> None:
        """Take in what these hold that was not seen before."""
        waiting: list[object] = list(roots)
        while waiting:
            one = waiting.pop()
            if id(one) in self._seen or one is None or isinstance(one, (str, bytes, int, float)):
                continue
            self._seen[id(one)] = one
            if isinstance(one, np.ndarray):
                self._add(one)
            elif isinstance(one, (tuple, list, set, frozenset)):
                waiting += list(one)
            elif isinstance(one, dict):
                waiting += list(one.values())
            else:
                module = type(one).__module__
                if module.startswith(_HELD) and module != _NOT_HELD:
                    waiting += list(getattr(one, "__dict__", {}).values())
                    waiting += [getattr(one, name, None) for name in getattr(type(one), "__slots__", ())]

    def _add(self, array: np.ndarray[Any, Any]) -> None:
        owner: Any = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if isinstance(owner.base, bytes):
            owner = owner.base
        elif owner.base is not None:
            return
        if owner is array or id(owner) not in self._seen:
            self._seen[id(owner)] = owner
            self.nbytes += len(owner) if isinstance(owner, bytes) else owner.nbytes
