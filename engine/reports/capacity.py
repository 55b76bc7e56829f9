"""Plan how many shards a collection needs, how large, and how many stay in memory, before anything is written."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.reports.shard_sizes import (
    COLUMNS_NBYTES,
    LEAST_SHARD_ROWS,
    LIST_DISK_NBYTES,
    SHARD_NBYTES,
    STORES,
    PlanRequest,
)
from engine.routing import MAX_BANK_FRAMES
from engine.storage import CACHE_BYTES, current_limits
from engine.system import bounds, readable_bytes
from engine.vectors import CODECS, choose_n_cells

SHARE = 1 / 16
"""Part of the memory for shards that one shard may take where not all fit, so that sixteen are in memory."""
EXACT_UP_TO = 100_000
"""Vectors that an exact search scans in a few milliseconds."""
SCANNED_PER_MS = 100_000 * 512 // 5
"""Stored values that an exact search scans in a millisecond: 100,000 rows of 512 take about 5 ms (measured)."""
_MOST_VECTORS, _MOST_RAM = 10**12, 1 << 60


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A recommended layout, and what it takes. All sizes are bytes; tags and thumbnails are not counted."""

    ram: int
    """Memory given to the collection; the program and an encoder need theirs besides."""
    n_vectors: int
    dim: int
    codec: str
    store: str
    """Empty for bare rows."""
    n_cells: int
    """0 for bare rows."""
    workers: int
    """Shards searched at the same time."""
    n_shards: int
    vectors_per_shard: int
    """In the fullest shard, if frames are spread evenly; semantic placement fills some up to 1.3 times the mean."""
    segments_per_shard: int
    """Above 268 MB of stored rows a shard has several."""
    shard_nbytes: int
    """One open shard in memory: codes, ids and inverted lists."""
    centroids_nbytes: int
    """Centroids of the cells and their routing vectors."""
    router_nbytes: int
    """The queries that the router was fitted on, and the best scores of all cells for them. On disk only; read after frames were added."""
    columns_nbytes: int
    """Frame columns, in memory as on disk."""
    rows_nbytes: int
    """Stored rows on disk, all shards."""
    codes_nbytes: int
    """Inverted lists on disk, all shards; 0 where the collection is too small for codes, and for bare rows."""
    build_steps: Mapping[str, int]
    """Peak memory of each step of a build, about, by the name that its progress goes by; searches meanwhile take theirs besides, and so does
    the program. Empty for bare rows."""
    shards_in_memory: int
    """Open shards that fit at the same time. The cache reads a shard before it evicts another: unless all fit, set it smaller by one per worker."""

    @property
    def build_nbytes(self) -> int:
        """Peak memory of a build; 0 for bare rows."""
        return max(self.build_steps.values(), default=0)

    @property
    def resident_nbytes(self) -> int:
        """Centroids, columns and the shards that fit."""
        return self.centroids_nbytes + self.columns_nbytes + self.shards_in_memory * self.shard_nbytes

    @property
    def cache_nbytes(self) -> int:
        """The budget that the shard cache needs to hold the shards that fit: the usual one, unless they take more."""
        return max(CACHE_BYTES, self.shards_in_memory * self.shard_nbytes)

    @property
    def disk_nbytes(self) -> int:
        """Rows, codes, columns, centroids and router. A build that replaces another needs as much again while it runs."""
        cells_nbytes = self.centroids_nbytes + self.router_nbytes
        return self.rows_nbytes + self.codes_nbytes + self.columns_nbytes + cells_nbytes

    @property
    def fits(self) -> bool:
        return self.shards_in_memory == self.n_shards

    @property
    def exact_is_enough(self) -> bool:
        """Whether an exact search takes only milliseconds, so that routing gains little."""
        return self.n_vectors <= EXACT_UP_TO

    @property
    def reason(self) -> str:
        """The plan and why, in one sentence for people."""
        held = f"{self.codec} codes"
        if not self.store:
            held = "bare float32 rows, without cells and columns"
        elif not self.codes_nbytes:
            held = f"stored rows, too few for codes, so the codec {self.codec} changes nothing"
        if self.n_shards > 1:
            size = f"{readable_bytes(self.shard_nbytes)} each"
            shards = f"{self.n_shards:,} shards of {self.vectors_per_shard:,} ({size}, {held})"
            stay = f"all of them, {readable_bytes(self.n_shards * self.shard_nbytes)}, stay"
        else:
            shards, stay = f"one shard ({readable_bytes(self.shard_nbytes)}, {held})", "it stays"
        fixed = self.centroids_nbytes + self.columns_nbytes
        besides = f" beside {readable_bytes(fixed)} of centroids and columns" if fixed else ""
        outcome = f"{stay} in the {readable_bytes(self.ram)} given{besides}"
        if not self.fits:
            # Whole shards are read where there are no codes, and lists would have to be picked together row by row.
            of_others = "the lists of others" if self.store and self.codes_nbytes else "the others"
            outcome = (
                f"{readable_bytes(self.ram)} has room for {self.shards_in_memory:,} of them{besides}, "
                f"and {of_others} are read from disk when a query needs them"
            )
        if self.cache_nbytes > CACHE_BYTES and self.store:
            outcome += f", if the cache is given a budget of {readable_bytes(self.cache_nbytes, up=True)} (usually {readable_bytes(CACHE_BYTES)})"
        if self.workers > 1 and self.n_shards == 1:
            outcome += f", and with one shard {self.workers} workers are no faster than one"
        few = ""
        if self.exact_is_enough:
            ms = max(1, round(self.n_vectors * self.dim / SCANNED_PER_MS))
            few = f"; that few are scanned whole in about {ms} ms, so routing gains little"
        return f"{self.n_vectors:,} vectors of {self.dim} dimensions make {shards}: {outcome}{few}."


def plan_shards(
    ram: int,
    n_vectors: int | None,
    dim: int,
    *,
    codec: str = "sq8",
    store: str | None = None,
    n_cells: int = 0,
    shard_bytes: int | None = None,
    workers: int = 1,
    share: float = SHARE,
) -> ShardPlan:
    """Recommend a number of shards for searching a collection within some memory.

    The rule: subtract centroids and frame columns from the memory. Make shards as large as possible, for each costs
    its inverted lists and a step per query, but no larger than `SHARD_NBYTES`, so that opening one stays quick. If they
    all fit, that is the plan. If not, a shard takes at most `share` of what is left, and the shards of all workers
    together at most half of it. No shard has fewer than 10,000 rows, nor fewer than two per cell. From 50,000 vectors on,
    shards of every size hold codes; fewer are held as they are stored. More memory never means more shards.

    The codec `fp32` goes with `store="fp32"` only. `fp32` without a store, of which no collection can be made, plans
    bare rows as one flat index holds them: rows and ids, and nothing on disk but the rows.

    Parameters
    ----------
    ram : bytes for searches of the collection; a build takes `build_nbytes`
    n_vectors : None plans the largest collection that stays in memory, of full shards if their size is given
    dim : dimensions of a vector
    codec : `sq8`, `sq4`, `fp16` or `fp32`
    store : type of the stored rows, `fp16` or `fp32`; None is `fp16`, or bare rows for the codec `fp32`
    n_cells : 0 chooses from the number of vectors, as a build does
    shard_bytes : most memory of one open shard, instead of the rule's
    workers : shards searched at the same time, and so in memory together
    share : part of the memory for shards that one shard may take where not all fit, above 0 and up to 1

    Raises
    ------
    ValueError
        If an argument makes no sense, or the memory cannot hold centroids, columns and a shard per worker.
    """
    if store is None:
        store = "" if codec == "fp32" else "fp16"
    elif store not in STORES:
        raise ValueError(f"Unknown store {store!r}; use {', '.join(STORES)}.")
    request = PlanRequest(ram, dim, codec, store, n_cells, shard_bytes, workers, share)
    _check(request, n_vectors)
    return _largest(request) if n_vectors is None else _plan(request, n_vectors)


def _check(request: PlanRequest, n: int | None) -> None:
    """Raise `ValueError` for the first argument that makes no sense."""
    if request.ram <= 0:
        raise ValueError(f"The memory to plan for is {request.ram} bytes; give more than 0, such as 8 GB.")
    if n is not None and n <= 0:
        raise ValueError(f"There are {n} vectors to plan for; give 1 or more.")
    if request.dim <= 0:
        raise ValueError(f"The vectors have {request.dim} dimensions; give 1 or more, as the encoder says.")
    if request.codec not in CODECS:
        raise ValueError(f"Unknown codec {request.codec!r}; use {', '.join(CODECS)}.")
    if request.codec == "fp32" and request.store in ("fp16", "codes"):
        raise ValueError("The codec fp32 needs store='fp32'; leave the store out to plan bare rows.")
    if request.workers < 1:
        raise ValueError(f"{request.workers} workers cannot search; give 1 or more.")
    if not 0 < request.share <= 1:
        raise ValueError(f"A shard cannot take {request.share:g} of the memory; give a share above 0 and up to 1.")
    if request.n_cells < 0:
        raise ValueError(f"There cannot be {request.n_cells} cells; give 0 to have their number chosen.")
    if request.n_cells and not request.store:
        raise ValueError("Bare fp32 rows have no cells; leave out their number, or give a store or another codec.")
    if n is not None and request.n_cells > n:
        raise ValueError(f"{request.n_cells:,} cells need at least as many vectors, and there are {n:,}.")
    size = request.shard_bytes
    if size is not None and size <= 0:
        raise ValueError(f"A shard of {size} bytes holds nothing; give more than 0.")
    if size is not None and size > request.ram:
        what = f"A shard of {readable_bytes(size)} is larger than the memory, {readable_bytes(request.ram)}"
        raise ValueError(f"{what}; give a smaller shard or more memory.")
    limits = (
        (request.dim, bounds.MAX_DIM, "numbers in a vector"),
        (request.workers, bounds.MAX_WORKERS, "workers"),
        (request.n_cells, bounds.MAX_CELLS, "cells"),
        (n or 0, _MOST_VECTORS, "vectors to plan for"),
    )
    for value, most, what in limits:
        bounds.check_count(what, value, most)
    if request.ram > _MOST_RAM:
        raise ValueError("The memory to plan for is more than an exabyte; give less.")


def _largest(request: PlanRequest) -> ShardPlan:
    """The plan for the most vectors that stay in memory, of full shards if their size is given."""

    def too_many(n: int) -> bool:
        try:
            return not _plan(request, n).fits
        except ValueError:
            return True

    # A few rows below those that get codes may take more than those do, so the search starts above where it can. Later
    # too a larger collection may take a little less, with fewer segments in a shard, so it looks a hundredth or two shards further.
    n, further = 0, 1 if too_many(current_limits().coded_from) else current_limits().coded_from
    while not too_many(further):
        # Every vector takes more than a byte.
        n = further - 1 + bisect_right(range(further, request.ram + 1), False, key=too_many)
        best = _plan(request, n)
        further = n + (n // 100 + LEAST_SHARD_ROWS if request.shard_bytes is None else 2 * best.vectors_per_shard)
    best = _plan(request, max(n, 1))
    if request.shard_bytes is not None:
        rows = replace(request, n_cells=best.n_cells, coded=_coded(request, best.n_vectors)).full_shard()
        full = n // rows * rows
        while not too_many(full + rows):
            full += rows
        # Fewer vectors than get codes would be another plan.
        if full and _coded(request, full) == _coded(request, best.n_vectors) and not too_many(full):
            return _plan(request, full)
    return best


def _spread(n: int, rows: int) -> int:
    """Rows of the fullest of as few shards as hold n rows with at most so many each."""
    return -(-n // -(-n // rows))


def _rows(request: PlanRequest, n: int, left: int) -> int:
    """Rows of the fullest shard, by the rule, where shards may take `left` bytes."""
    rows = _spread(n, request.full_shard())
    if request.shard_bytes is not None:
        return rows
    least = min(n, request.least_rows)
    most_shards = n // least
    rows = max(rows, _spread(n, -(-n // most_shards)))
    if max(request.workers, -(-n // rows)) * request.nbytes(rows) <= left:
        return rows
    target = min(SHARD_NBYTES, int(request.share * left), left // (2 * request.workers))
    n_shards = min(-(-n // max(least, request.rows_within(target))), most_shards)
    return -(-n // n_shards)


def _plan(request: PlanRequest, n: int) -> ShardPlan:
    bare = not request.store
    n_cells = 0 if bare else min(n, request.n_cells or choose_n_cells(n))
    request = replace(request, n_cells=n_cells, coded=_coded(request, n))
    centroids_nbytes = 3 * request.n_cells * request.dim * 4
    columns_nbytes = 0 if bare else n * COLUMNS_NBYTES
    fixed = centroids_nbytes + columns_nbytes
    left = request.ram - fixed
    rows = _rows(request, n, left)
    n_shards, shard_nbytes = -(-n // rows), request.nbytes(rows)
    if request.workers * shard_nbytes > left:
        raise ValueError(_too_small(request, fixed, rows, shard_nbytes))
    return ShardPlan(
        ram=request.ram,
        n_vectors=n,
        dim=request.dim,
        codec=request.codec,
        store=request.store,
        n_cells=request.n_cells,
        workers=request.workers,
        n_shards=n_shards,
        vectors_per_shard=rows,
        segments_per_shard=request.segments(rows),
        shard_nbytes=shard_nbytes,
        centroids_nbytes=centroids_nbytes,
        router_nbytes=0 if bare else (request.queries + MAX_BANK_FRAMES) * (request.n_cells * 2 + request.dim * 4),
        columns_nbytes=columns_nbytes,
        rows_nbytes=_rows_nbytes(request, n),
        codes_nbytes=n * request.row_nbytes + n_shards * request.lists(rows) * LIST_DISK_NBYTES
        if request.coded and not bare
        else 0,
        build_steps={} if bare else request.build_steps(n, rows),
        shards_in_memory=min(n_shards, left // shard_nbytes),
    )


def _rows_nbytes(request: PlanRequest, n: int) -> int:
    """On disk, besides codes."""
    if not request.store:
        return n * request.row_nbytes
    return 0 if request.store == "codes" and request.coded else n * request.dim * STORES[request.store]


def _coded(request: PlanRequest, n: int) -> bool:
    return not request.store or current_limits().coded(n)


def _too_small(request: PlanRequest, fixed: int, rows: int, shard_nbytes: int) -> str:
    """Why the memory is not enough, and how much would be."""
    several = request.workers > 1
    shards = f"{request.workers} open shards" if several else "an open shard"
    size = f"{readable_bytes(shard_nbytes)} each" if several else readable_bytes(shard_nbytes)
    besides = f"{readable_bytes(fixed)} of centroids and columns and " if fixed else ""
    return (
        f"{readable_bytes(request.ram)} of memory cannot hold {besides}{shards} of {rows:,} vectors ({size}); "
        f"give at least {readable_bytes(fixed + request.workers * shard_nbytes, up=True)}"
        f"{', fewer workers' if several else ''} or a codec with fewer bits."
    )


def format_plan(plan: ShardPlan) -> str:
    """A few lines for a terminal."""

    def sizes(*parts: tuple[int, str]) -> str:
        return ", ".join(f"{readable_bytes(nbytes)} {what}" for nbytes, what in parts if nbytes)

    fixed = (plan.columns_nbytes, "columns"), (plan.centroids_nbytes, f"centroids of {plan.n_cells:,} cells")
    codes = (plan.rows_nbytes, "stored rows"), (plan.codes_nbytes, f"{plan.codec} codes")
    disk = sizes(*codes, *fixed, (plan.router_nbytes, "router"))
    shards = f"{plan.shards_in_memory:,} of {plan.n_shards:,} shard{'s' if plan.n_shards > 1 else ''}"
    memory = ", ".join(filter(None, [shards, sizes(*fixed)]))
    lines = [
        f"shards  {plan.n_shards:,} of {plan.vectors_per_shard:,} vectors, {readable_bytes(plan.shard_nbytes)} each when open",
        f"memory  {readable_bytes(plan.resident_nbytes)} of {readable_bytes(plan.ram)}: {memory}",
        f"disk    {readable_bytes(plan.disk_nbytes)}: {disk}",
        f"build   {readable_bytes(plan.build_nbytes)} of memory at the most, besides what a search takes",
        plan.reason,
    ]
    return "\n".join(line for line in lines if plan.build_nbytes or not line.startswith("build"))
