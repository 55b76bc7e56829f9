"""How many shards, how large, and what stays in memory: sizes worked out before anything is written.

Bytes are counted as the engine lays them out, so a plan can be held against the files it becomes. Sizes are read and
printed in powers of two, the way people size memory: a GB here is 2^30 bytes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, replace

from engine.routing import BEST_NBYTES, FRAMES, MOST_TEXTS, judges_for
from engine.storage import CODED_FROM, TRAIN_NBYTES, max_rows
from engine.system import bounds
from engine.vectors import CODECS, TRAIN_PER_CELL, choose_n_cells

BITS = {"sq4": 4, "sq8": 8, "fp16": 16, "fp32": 32}
"""Bits per dimension by codec."""
STORES = {"fp16": 2, "fp32": 4}
"""Bytes per dimension of the stored rows."""
SHARD_NBYTES = 128 << 20
"""A shard of this size takes 0.4 s to check and open (measured, file in the page cache); as sq8 it holds 170,000 vectors of 768 dimensions."""
SHARE = 1 / 16
"""Part of the memory for shards that one shard may take where not all fit: it then stands beside fifteen others."""
ROWS_PER_CELL = 2
"""A shard has at least so many rows per cell, or the inverted lists outweigh what is in them."""
EXACT_UP_TO = 100_000
"""Up to so many vectors every stored row is scanned in a few milliseconds."""
SCANNED_PER_MS = 100_000 * 512 // 5
"""Stored values that an exact scan gets through in a millisecond: 100,000 rows of 512 take about 5 (measured)."""
ID_NBYTES = 8
_MOST_VECTORS, _MOST_RAM = 10**12, 1 << 60
BUILD_ROWS = 65_536
"""Rows that a build has in hand besides its training sample, to measure cells or on their way to a segment."""
COLUMNS_NBYTES = 48
"""Per frame: its id, video, place, time, wall clock, shot, cell and checksum. Each tag adds a bit, not counted here."""
LIST_NBYTES = 224
"""Memory per inverted list: two vectors of FAISS's with what their allocation costs, and its row of `cells.npy`."""
JUDGED_NBYTES = 44
"""Memory of calibrating, per judge and cell: promises, ranks and worths in several steps (measured)."""
ANSWERS_NBYTES = 288 << 20
"""Memory in which the exact answers of all judges are gathered, whatever the collection (measured)."""
LIST_DISK_NBYTES = 24
"""Per list on disk: its length in `codes.faiss` and its row of `cells.npy`."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A recommended layout, and what it takes. All sizes are bytes; tags and thumbnails are not counted."""

    ram: int
    """Memory given to the collection; the program itself and an encoder need theirs besides."""
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
    """Above 256 MB of stored rows a shard has several."""
    shard_nbytes: int
    """What one shard occupies in memory when it is open: codes, ids and inverted lists."""
    centroids_nbytes: int
    """Centroids of the cells and, as many again, their routing vectors."""
    router_nbytes: int
    """Best scores of all cells for the queries that the router was fitted on, and those: on disk only, read when frames were added."""
    columns_nbytes: int
    """Frame columns, in memory as on disk."""
    rows_nbytes: int
    """Stored rows on disk, all shards."""
    codes_nbytes: int
    """Inverted lists on disk, all shards; 0 where shards are too small for codes, and for bare rows."""
    build_nbytes: int
    """Memory that a build takes at the most, about; a search meanwhile takes its own besides. 0 for bare rows."""
    shards_in_memory: int
    """Open shards that fit at the same time. The cache reads a shard before it drops another: unless all fit, set it smaller by one per worker."""

    @property
    def resident_nbytes(self) -> int:
        """Centroids, columns and the shards that fit."""
        return self.centroids_nbytes + self.columns_nbytes + self.shards_in_memory * self.shard_nbytes

    @property
    def disk_nbytes(self) -> int:
        """Everything on disk: rows, codes, columns, centroids and router. A build that replaces another needs as much again meanwhile."""
        cells_nbytes = self.centroids_nbytes + self.router_nbytes
        return self.rows_nbytes + self.codes_nbytes + self.columns_nbytes + cells_nbytes

    @property
    def fits(self) -> bool:
        """Whether every shard stays in memory once opened."""
        return self.shards_in_memory == self.n_shards

    @property
    def exact_is_enough(self) -> bool:
        """Whether so few vectors are scanned whole in milliseconds, so that routing gains little."""
        return self.n_vectors <= EXACT_UP_TO

    @property
    def reason(self) -> str:
        """Why, with the figures, in one sentence fit for display."""
        held = f"{self.codec} codes"
        if not self.store:
            held = "bare float32 rows, without cells and columns"
        elif not self.codes_nbytes:
            held = "stored rows, too few for codes"
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
            outcome = (
                f"{readable_bytes(self.ram)} has room for {self.shards_in_memory:,} of them{besides}, "
                "and the others are read from disk when a query needs them"
            )
        few = ""
        if self.exact_is_enough:
            ms = max(1, round(self.n_vectors * self.dim / SCANNED_PER_MS))
            few = f"; that few are scanned whole in about {ms} ms, so routing gains little"
        return f"{self.n_vectors:,} vectors of {self.dim} dimensions make {shards}: {outcome}{few}."


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for, whatever the number of vectors, and what shards of it take."""

    ram: int
    dim: int
    codec: str
    store: str
    """Empty for bare rows."""
    n_cells: int
    """0 until chosen, and for bare rows."""
    shard_bytes: int | None
    workers: int
    share: float

    @property
    def row_nbytes(self) -> int:
        """A row's code and its id; half bytes are rounded up per row."""
        return (self.dim * BITS[self.codec] + 7) // 8 + ID_NBYTES

    @property
    def queries(self) -> int:
        """Queries that the router is fitted on: a full bank with its pairs, as far as their best scores may take."""
        return min(MOST_TEXTS * 3 // 2, BEST_NBYTES // (4 * max(1, self.n_cells)))

    @property
    def least(self) -> int:
        """The fewest rows that are worth a shard."""
        return max(CODED_FROM, ROWS_PER_CELL * self.n_cells)

    def segments(self, rows: int) -> int:
        """Segments of a shard of so many rows."""
        return -(-rows // max_rows(self.dim, self.store)) if self.store else 1

    def coded(self, rows: int) -> bool:
        """Whether a shard of so many rows gets codes; bare rows count as their own."""
        return not self.store or rows // self.segments(rows) >= CODED_FROM

    def lists(self, rows: int) -> int:
        """Inverted lists in a shard, as if every cell occurred in each segment: round-robin's figure; semantic placement has fewer."""
        return min(rows, self.segments(rows) * self.n_cells)

    def nbytes(self, rows: int, *, coded: bool | None = None) -> int:
        """Memory of an open shard of so many rows, with codes or as they are stored."""
        coded = self.coded(rows) if coded is None else coded
        row_nbytes = self.row_nbytes if coded else self.dim * STORES[self.store] + ID_NBYTES
        return rows * row_nbytes + self.lists(rows) * LIST_NBYTES

    def rows_within(self, nbytes: int, *, coded: bool = True) -> int:
        """The most rows of a coded shard within so many bytes, or of an uncoded one."""
        most = nbytes if coded else min(nbytes, CODED_FROM - 1)
        return bisect_right(range(1, most + 1), nbytes, key=lambda rows: self.nbytes(rows, coded=coded))

    def full_shard(self) -> int:
        """The most rows of one shard where all shards fit.

        Raises
        ------
        ValueError
            If the size asked for does not hold a single vector.
        """
        if self.shard_bytes is None:
            return max(self.least, self.rows_within(SHARD_NBYTES))
        rows = self.rows_within(self.shard_bytes)
        if rows and not self.coded(rows):
            rows = self.rows_within(self.shard_bytes, coded=False)
        if not rows:
            raise ValueError(
                f"A shard of {readable_bytes(self.shard_bytes)} does not hold one vector of {self.dim} dimensions; give a larger one."
            )
        return rows

    def build_nbytes(self, n: int, rows: int) -> int:
        """Memory of a build: columns as they are copied, centroids, rows in hand, and the training sample, one segment's codes or
        what the router is fitted on, whichever is most.

        Codes are appended to, so that up to twice their size is allocated.
        """
        sampled = min(n, self.n_cells * TRAIN_PER_CELL, max(self.n_cells, TRAIN_NBYTES // (4 * self.dim)))
        floats = self.n_cells + min(n, BUILD_ROWS)
        segment = 2 * self.nbytes(rows) // self.segments(rows) if self.coded(rows) else 0
        judging = self.n_cells * (4 * self.queries + JUDGED_NBYTES * judges_for(self.n_cells))
        fitted = self.n_cells * 4 * (self.queries + FRAMES) + max(ANSWERS_NBYTES, judging)
        return 2 * n * COLUMNS_NBYTES + floats * self.dim * 4 + max(sampled * self.dim * 4, segment, fitted)


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

    The rule: centroids and frame columns come off the memory first. Shards are then as large as they may be, for each
    costs its inverted lists and a step per query, but no larger than `SHARD_NBYTES`, so that opening one stays quick.
    If they all fit, that is the plan. If not, a shard takes at most `share` of what is left, and all workers' shards
    together at most half of it, so that there is a cache to speak of. No shard has fewer than 10,000 rows, below which
    there are no codes, nor fewer than two per cell. More memory never means more shards.

    A collection is planned by the codec and store that it is made with, and `fp32` goes with `store="fp32"` only.
    `fp32` without a store, of which no collection can be made, plans bare rows as one flat index holds them: rows and
    ids, and no cells, columns or anything else on disk.

    Parameters
    ----------
    ram : bytes for the collection while it is searched; a build takes `build_nbytes`
    n_vectors : None plans the largest collection that stays in memory, of full shards if their size is given
    dim : dimensions of a vector
    codec : `sq8`, `sq4`, `fp16` or `fp32`
    store : type of the stored rows, `fp16` or `fp32`; None is `fp16`, or bare rows for the codec `fp32`
    n_cells : 0 chooses from the number of vectors, as a build does
    shard_bytes : memory of one open shard at the most, instead of the rule's
    workers : shards searched at the same time; theirs are in memory together
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
    wish = _Wish(ram, dim, codec, store, n_cells, shard_bytes, workers, share)
    _check(wish, n_vectors)
    return _largest(wish) if n_vectors is None else _plan(wish, n_vectors)


def _check(wish: _Wish, n: int | None) -> None:
    """Raise `ValueError` for the first argument that makes no sense."""
    if wish.ram <= 0:
        raise ValueError(f"The memory to plan for is {wish.ram} bytes; give more than 0, such as 8 GB.")
    if n is not None and n <= 0:
        raise ValueError(f"There are {n} vectors to plan for; give 1 or more.")
    if wish.dim <= 0:
        raise ValueError(f"The vectors have {wish.dim} dimensions; give 1 or more, as the encoder says.")
    if wish.codec not in CODECS:
        raise ValueError(f"Unknown codec {wish.codec!r}; use {', '.join(CODECS)}.")
    if wish.codec == "fp32" and wish.store == "fp16":
        raise ValueError("The codec fp32 needs store='fp32'; leave the store out to plan bare rows.")
    if wish.workers < 1:
        raise ValueError(f"{wish.workers} workers cannot search; give 1 or more.")
    if not 0 < wish.share <= 1:
        raise ValueError(f"A shard cannot take {wish.share:g} of the memory; give a share above 0 and up to 1.")
    if wish.n_cells < 0:
        raise ValueError(f"There cannot be {wish.n_cells} cells; give 0 to have their number chosen.")
    if wish.n_cells and not wish.store:
        raise ValueError("Bare fp32 rows have no cells; leave out their number, or give a store or another codec.")
    if n is not None and wish.n_cells > n:
        raise ValueError(f"{wish.n_cells:,} cells need at least as many vectors, and there are {n:,}.")
    size = wish.shard_bytes
    if size is not None and size <= 0:
        raise ValueError(f"A shard of {size} bytes holds nothing; give more than 0.")
    if size is not None and size > wish.ram:
        what = f"A shard of {readable_bytes(size)} is larger than the memory, {readable_bytes(wish.ram)}"
        raise ValueError(f"{what}; give a smaller shard or more memory.")
    limits = (
        (wish.dim, bounds.MAX_DIM, "numbers in a vector"),
        (wish.workers, bounds.MAX_WORKERS, "workers"),
        (wish.n_cells, bounds.MAX_CELLS, "cells"),
        (n or 0, _MOST_VECTORS, "vectors to plan for"),
    )
    for value, most, what in limits:
        bounds.check_count(what, value, most)
    if wish.ram > _MOST_RAM:
        raise ValueError("The memory to plan for is more than an exabyte; give less.")


def _largest(wish: _Wish) -> ShardPlan:
    """The plan for the most vectors that stay in memory, of full shards if their size is given."""

    def too_many(n: int) -> bool:
        try:
            return not _plan(wish, n).fits
        except ValueError:
            return True

    # A few rows below those that get codes may take more than those do, so the search starts above where it can. Later
    # too a larger collection may take a little less, with fewer segments in a shard, so it looks a hundredth or two shards further.
    n, further = 0, 1 if too_many(CODED_FROM) else CODED_FROM
    while not too_many(further):
        # Every vector takes more than a byte.
        n = further - 1 + bisect_right(range(further, wish.ram + 1), False, key=too_many)
        best = _plan(wish, n)
        two = 2 * best.vectors_per_shard + (CODED_FROM if best.n_shards == 1 else 0)
        further = n + (n // 100 + CODED_FROM if wish.shard_bytes is None else two)
    best = _plan(wish, max(n, 1))
    if wish.shard_bytes is not None:
        rows = replace(wish, n_cells=best.n_cells).full_shard()
        full = n // rows * rows
        while not too_many(full + rows):
            full += rows
        if full and not too_many(full):
            return _plan(wish, full)
    return best


def _spread(n: int, rows: int) -> int:
    """Rows of the fullest of as few shards as hold n rows with at most so many each."""
    return -(-n // -(-n // rows))


def _rows(wish: _Wish, n: int, left: int) -> int:
    """Rows of the fullest shard, by the rule, where shards may take `left` bytes."""
    rows = _spread(n, wish.full_shard())
    if wish.shard_bytes is not None:
        if wish.nbytes(rows) <= wish.shard_bytes:
            return rows
        # Spread evenly they came below the rows that get codes, and uncoded ones are larger.
        return _spread(n, wish.rows_within(wish.shard_bytes, coded=False))
    least = min(n, wish.least)
    most_shards = n // least
    rows = max(rows, _spread(n, -(-n // most_shards)))
    if max(wish.workers, -(-n // rows)) * wish.nbytes(rows) <= left:
        return rows
    target = min(SHARD_NBYTES, int(wish.share * left), left // (2 * wish.workers))
    n_shards = min(-(-n // max(least, wish.rows_within(target))), most_shards)
    return -(-n // n_shards)


def _plan(wish: _Wish, n: int) -> ShardPlan:
    bare = not wish.store
    wish = replace(wish, n_cells=0 if bare else min(n, wish.n_cells or choose_n_cells(n)))
    centroids_nbytes = 3 * wish.n_cells * wish.dim * 4
    columns_nbytes = 0 if bare else n * COLUMNS_NBYTES
    fixed = centroids_nbytes + columns_nbytes
    left = wish.ram - fixed
    rows = _rows(wish, n, left)
    n_shards, shard_nbytes = -(-n // rows), wish.nbytes(rows)
    if wish.workers * shard_nbytes > left:
        raise ValueError(_too_small(wish, fixed, rows, shard_nbytes))
    coded = wish.coded(rows) and not bare
    return ShardPlan(
        ram=wish.ram,
        n_vectors=n,
        dim=wish.dim,
        codec=wish.codec,
        store=wish.store,
        n_cells=wish.n_cells,
        workers=wish.workers,
        n_shards=n_shards,
        vectors_per_shard=rows,
        segments_per_shard=wish.segments(rows),
        shard_nbytes=shard_nbytes,
        centroids_nbytes=centroids_nbytes,
        router_nbytes=0 if bare else (wish.queries + FRAMES) * (wish.n_cells * 2 + wish.dim * 4),
        columns_nbytes=columns_nbytes,
        rows_nbytes=n * (wish.row_nbytes if bare else wish.dim * STORES[wish.store]),
        codes_nbytes=n * wish.row_nbytes + n_shards * wish.lists(rows) * LIST_DISK_NBYTES if coded else 0,
        build_nbytes=0 if bare else wish.build_nbytes(n, rows),
        shards_in_memory=min(n_shards, left // shard_nbytes),
    )


def _too_small(wish: _Wish, fixed: int, rows: int, shard_nbytes: int) -> str:
    """Why the memory does not do, and how much would."""
    several = wish.workers > 1
    shards = f"{wish.workers} open shards" if several else "an open shard"
    size = f"{readable_bytes(shard_nbytes)} each" if several else readable_bytes(shard_nbytes)
    besides = f"{readable_bytes(fixed)} of centroids and columns and " if fixed else ""
    return (
        f"{readable_bytes(wish.ram)} of memory cannot hold {besides}{shards} of {rows:,} vectors ({size}); "
        f"give at least {readable_bytes(fixed + wish.workers * shard_nbytes, up=True)}"
        f"{', fewer workers' if several else ''} or a codec with fewer bits."
    )


def describe(plan: ShardPlan) -> str:
    """A plan in a few lines for a terminal."""

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


_UNITS = ("B", "KB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes from what people write: `8G`, `8GB`, `8 GiB`, `1.5 GB`, `512MB`, or a plain number of bytes.

    A GB is 2^30 bytes here, the way people size memory, and likewise KB, MB and TB.

    Raises
    ------
    ValueError
        If the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write a number with a unit, such as 8GB, 512 MB or 1.5 GiB.")
    whole, fraction, unit = match.groups()
    scale = 1 << (10 * " kmgt".index(unit.lower() or " "))
    digits = fraction or ""
    return int(whole + digits) * scale // int(10 ** len(digits))


_COUNT = re.compile(r"([0-9]{1,15}|[0-9]{1,3}(?:[, ][0-9]{3}){1,4})(?:\.([0-9]{1,9}))?\s*(k|m|million)?", re.IGNORECASE)


def parse_count(text: str) -> int:
    """A number from what people write: `3,000,000`, `3 000 000`, `3 M`, `3 million`, `250k`, `1.5 M`.

    Raises
    ------
    ValueError
        If the text is not a whole number of things.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a number of frames; write it as 3,000,000 or 3 M.")
    whole, fraction, unit = match.groups()
    scale = 1 if not unit else 1000 if unit in "kK" else 1_000_000
    digits = fraction or ""
    count, rest = divmod(int(re.sub("[, ]", "", whole) + digits) * scale, 10 ** len(digits))
    if rest:
        raise ValueError(f"{text!r} is not a whole number of frames; write it as 3,000,000 or 3 M.")
    return int(count)


def readable_bytes(n: int, *, up: bool = False) -> str:
    """Bytes as people read them, two or three digits and a unit of powers of two: `512 MB`, `2.3 GB`; rounded up if asked."""
    power = 0
    while power < len(_UNITS) - 1 and n >= 1024 << (10 * power):
        power += 1
    tenths = n * 10 / (1 << (10 * power))
    step = 1 if tenths < 1000 else 10
    shown = -(-tenths // step) if up else round(tenths / step)
    if shown * step >= 10240 and power < len(_UNITS) - 1:  # Rounding reached the next unit.
        return f"1 {_UNITS[power + 1]}"
    return f"{shown * step / 10:g} {_UNITS[power]}"
