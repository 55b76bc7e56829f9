"""Where the bytes of a collection are: on disk, in mapped pages, in memory, and what plain float32 would take.

Files are counted by their sizes, mapped pages by what the system reports, arrays by walking the objects of a handle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.reports.shard_sizes import ID_NBYTES, STORES
from engine.storage import Residency, Segment, Settings, ShardCache, ShardView, Snapshot
from engine.system import ResidentMemory, mapped_files, readable_bytes, resident_memory, shortages
from engine.vectors import PER_LIST, plain_nbytes

_FRESH_NS = 2_000_000_000
"""A folder that changed this recently may change again without a new modification time."""
_PICTURES = ("media", "pictures", "clips", "parents")
_WALKED = "engine."
"""Objects of these modules are searched for arrays."""
_SKIPPED = "engine.storage.manifest"
"""Rows of the catalog hold no arrays, and can be very many."""


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes of files by their contents."""

    rows: int
    """Stored vectors."""
    codes: int
    """Inverted lists with codes."""
    columns: int
    """Frame columns: places, times, tags, checksums."""
    lists: int
    """Cells and row counts of each segment."""
    cells: int = 0
    """Centroids and other trained data."""
    router: int = 0
    """The router, and the queries to fit it on again."""
    pictures: int = 0
    """Thumbnails, pictures and clips."""
    other: int = 0
    """Catalog, past queries, and files of earlier generations."""

    @property
    def total(self) -> int:
        return self.shards + self.cells + self.router + self.pictures + self.other

    @property
    def shards(self) -> int:
        """All files of segments: rows, codes, columns and lists."""
        return self.rows + self.codes + self.columns + self.lists


@dataclass(frozen=True, slots=True)
class ShardMemory:
    """The bytes of one shard."""

    shard: int
    name: str
    n_frames: int
    float32_nbytes: int
    """All vectors as float32, with ids."""
    disk: DiskUsage
    mapped_nbytes: int | None
    """Pages of its mapped files in memory now; None where the system does not tell."""
    cached_nbytes: int
    """In the cache now."""
    arrays_nbytes: int
    """Other arrays in memory now."""
    open_nbytes: int
    """In the cache once all of it is open."""

    @property
    def anonymous_nbytes(self) -> int:
        return self.cached_nbytes + self.arrays_nbytes


@dataclass(frozen=True, slots=True)
class MemoryAccount:
    """The bytes of a collection, in one process."""

    n_frames: int
    dim: int
    float32_nbytes: int
    """All vectors as float32, with ids."""
    disk: DiskUsage
    """Every file of the folder."""
    mapped_nbytes: int | None
    """Pages of its mapped files in this process's memory now, by any handle; None where the system does not tell."""
    cached_nbytes: int
    """Open shards in the cache: codes or rows, and ids, and inverted lists."""
    arrays_nbytes: int
    """Other arrays of this handle: centroids, routing vectors, cell maps, masks."""
    budget: int
    """Of the cache."""
    open_nbytes: int
    """In the cache once every shard is open."""
    residency: Residency
    """How codes are held: `loaded`, `lists` or `mapped`."""
    process: ResidentMemory | None
    """The whole process, including encoder, libraries and other collections; None where the system does not tell."""
    shards: tuple[ShardMemory, ...]

    @property
    def anonymous_nbytes(self) -> int:
        """Memory of this handle: cache and other arrays."""
        return self.cached_nbytes + self.arrays_nbytes

    def document(self) -> dict[str, Any]:
        """For JSON, with the sums."""
        shards = [
            asdict(shard) | {"anonymous_nbytes": shard.anonymous_nbytes, "disk": _disk_document(shard.disk)}
            for shard in self.shards
        ]
        sums = {"anonymous_nbytes": self.anonymous_nbytes, "disk": _disk_document(self.disk)}
        return asdict(self) | sums | {"shards": shards}


def budget_sentence(budget: int, open_nbytes: int | None = None, residency: Residency = "loaded") -> str:
    """What the budget of the shard cache is; with the bytes of all open shards, also whether a larger one would change anything."""
    if residency == "lists":
        whole = (
            "" if open_nbytes is None else f"All shards together take {readable_bytes(open_nbytes)}, which is more: "
        )
        return (
            f"The cache keeps codes in at most {readable_bytes(budget)} of memory, its budget. {whole}so it keeps only the "
            "lists that searches read, one for each cell of a shard; when it is full, the list that was not used for the "
            "longest time is removed."
        )
    words = (
        f"The cache keeps opened shards in at most {readable_bytes(budget)} of memory, its budget; when it is full, the shard "
        "that was not used for the longest time is removed."
    )
    if open_nbytes is None or open_nbytes > budget:
        return words
    return f"{words} All shards together take {readable_bytes(open_nbytes)}, so a larger budget changes nothing."


def format_account(account: MemoryAccount) -> str:
    """A few lines for a terminal."""

    def size(nbytes: int | None) -> str:
        return "not known here" if nbytes is None else readable_bytes(nbytes)

    disk = asdict(account.disk) | {"in shards": account.disk.shards}
    parts = ", ".join(f"{size(disk[name])} {name}" for name in ("in shards", "cells", "router", "pictures", "other"))
    own, files = (None, None) if account.process is None else (account.process.anonymous, account.process.file)
    lines = [
        f"{account.n_frames:,} frames of {account.dim} dimensions",
        f"as float32 in memory  {size(account.float32_nbytes)}",
        f"on disk               {size(account.disk.total)}: {parts}",
        f"mapped now            {size(account.mapped_nbytes)}",
        f"in memory now         {size(account.anonymous_nbytes)}: {size(account.cached_nbytes)} of opened shards, {size(account.arrays_nbytes)} of arrays",
        f"cache budget          {size(account.budget)}; every shard open takes {size(account.open_nbytes)}",
        f"the whole process     {size(own)} of its own, {size(files)} of mapped files",
        budget_sentence(account.budget, account.open_nbytes, account.residency),
    ]
    return "\n".join(lines)


def _disk_document(disk: DiskUsage) -> dict[str, int]:
    return asdict(disk) | {"shards": disk.shards, "total": disk.total}


def memory_account(path: Path, snapshot: Snapshot, cache: ShardCache, residency: Residency) -> MemoryAccount:
    """Count the bytes of one generation, and of all files in the collection's folder."""
    settings = snapshot.settings
    mapped = mapped_files(path)
    arrays = _ArrayCounter()
    shards = tuple(_shard(shard, settings, cache, residency, mapped, arrays) for shard in snapshot.shards)
    arrays.add_all(snapshot)
    return MemoryAccount(
        n_frames=snapshot.n_live,
        dim=settings.dim,
        float32_nbytes=_float32(snapshot.n_live, settings.dim),
        disk=_disk(path, snapshot, [shard.disk for shard in shards]),
        mapped_nbytes=None if mapped is None else sum(mapped.values()),
        cached_nbytes=cache.stats().nbytes,
        arrays_nbytes=arrays.nbytes,
        budget=cache.stats().budget,
        open_nbytes=sum(shard.open_nbytes for shard in shards),
        residency=residency,
        process=resident_memory(),
        shards=shards,
    )


def _float32(n_frames: int, dim: int) -> int:
    return n_frames * (4 * dim + ID_NBYTES)


def _shard(
    shard: ShardView,
    settings: Settings,
    cache: ShardCache,
    residency: Residency,
    mapped: dict[Path, int] | None,
    arrays: _ArrayCounter,
) -> ShardMemory:
    segments = [view.segment for view in shard.segments]
    before = arrays.nbytes
    arrays.add_all(*shard.segments)

    def of_files(name: str) -> int:
        return sum(_size(segment.folder / name) for segment in segments)

    folders = {segment.folder.resolve() for segment in segments}
    return ShardMemory(
        shard=shard.shard,
        name=shard.name,
        n_frames=shard.n_live,
        float32_nbytes=_float32(shard.n_live, settings.dim),
        disk=DiskUsage(
            of_files("vectors.npy"), of_files("codes.faiss"), of_files("frames.arrow"), of_files("cells.npy")
        ),
        mapped_nbytes=None if mapped is None else sum(n for file, n in mapped.items() if file.parent in folders),
        cached_nbytes=sum(cache.nbytes_of(segment.row.segment_id) for segment in segments),
        arrays_nbytes=arrays.nbytes - before,
        open_nbytes=sum(open_nbytes(segment, settings, residency) for segment in segments),
    )


def open_nbytes(segment: Segment, settings: Settings, residency: Residency) -> int:
    """Bytes of a segment in the cache once it is open."""
    n_lists: int = segment.row.stats["n_cells"]
    if not segment.coded:
        return plain_nbytes(segment.n_rows * (settings.dim * STORES[settings.store] + ID_NBYTES), n_lists)
    header, whole, _ = segment.row.stats["header"]
    return int(header if residency == "mapped" else whole) + PER_LIST * n_lists


def _disk(path: Path, snapshot: Snapshot, shards: Iterable[DiskUsage]) -> DiskUsage:
    """Every file of the folder: those of this generation by their contents, and the rest."""
    cells, router = snapshot.manifest.cells, snapshot.manifest.router
    of_shards = list(shards)
    parts = {name: sum(getattr(disk, name) for disk in of_shards) for name in ("rows", "codes", "columns", "lists")}
    trained = 0 if cells is None else _folder(path / "cells" / str(cells.cells_id), _list)
    fitted = 0 if router is None else _folder(path / "routers" / str(router.router_id), _list)
    top, folders = _list(path, 0)
    everything = top + sum(_folder(folder, _list) for folder in folders if folder.name not in _PICTURES)
    pictures = sum(_folder(path / name, _listed) for name in _PICTURES)
    # Files may come or go while they are counted, so the rest could be negative.
    other = max(0, everything - sum(parts.values()) - trained - fitted)
    return DiskUsage(**parts, cells=trained, router=fitted, pictures=pictures, other=other)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


_Lister = Callable[[Path, int], tuple[int, tuple[Path, ...]]]
"""From a folder and its modification time in nanoseconds, the bytes of the files directly in it, and its subfolders."""


def _list(path: Path, changed: int) -> tuple[int, tuple[Path, ...]]:
    nbytes, folders = 0, []
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            folders.append(entry)
        else:
            nbytes += _size(entry)
    return nbytes, tuple(folders)


_listed: _Lister = lru_cache(maxsize=1 << 16)(_list)
"""The same, cached until the folder changes: for pictures, which are many, and only added or removed."""


def _folder(path: Path, lister: _Lister) -> int:
    """Bytes of all files under a folder; 0 where there is none."""
    try:
        with shortages(f"counting the bytes in {path.name}"):
            changed = path.stat().st_mtime_ns
            settled = time.time_ns() - changed > _FRESH_NS
            files, folders = lister(path, changed) if settled else _list(path, changed)
    except OSError:
        return 0
    return files + sum(_folder(folder, lister) for folder in folders)


class _ArrayCounter:
    """Sums up the arrays in objects of the engine, each once, but those over mapped or foreign memory."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._seen: dict[int, object] = {}
        """By identity; kept alive, so that no identity is used twice."""

    def add_all(self, *roots: object) -> None:
        """Count the arrays in these objects that were not counted before."""
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
                if module.startswith(_WALKED) and module != _SKIPPED:
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
