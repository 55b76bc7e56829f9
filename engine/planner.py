"""How many shards, how large, and what stays in memory: sizes worked out before anything is written.

Bytes are counted as the engine lays them out, so a plan can be held against the files it becomes. Sizes are read and
printed in powers of two, the way people size memory: a GB here is 2^30 bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.cells import choose_n_cells
from engine.vectorindex import CODECS

BITS = {"sq4": 4, "sq8": 8, "fp16": 16, "fp32": 32}
"""Bits per dimension by codec. `fp32` plans bare rows, as one flat index holds them."""
STORES = {"fp16": 2, "fp32": 4}
"""Bytes per dimension of the stored rows."""
SHARD_NBYTES = 128 << 20
"""A shard of this size takes 0.4 s to check and open (measured, file in the page cache); as sq8 it holds 170,000 vectors of 768 dimensions."""
SHARE = 1 / 16
"""Part of the memory for shards that one shard may take where not all fit: it then stands beside fifteen others."""
UNCODED_BELOW = 10_000
"""Shards with fewer rows have no codes: they are held as they are stored."""
ROWS_PER_CELL = 2
"""A shard has at least so many rows per cell, or the inverted lists outweigh what is in them."""
EXACT_UP_TO = 100_000
"""Up to so many vectors one core scans every stored row in a few milliseconds."""
ID_NBYTES = 8
COLUMNS_NBYTES = 48
"""Per frame: its id, video, place, time, wall clock, shot, cell and checksum. Each tag adds a bit, not counted here."""
LIST_NBYTES = 224
"""Memory per inverted list: two vectors of FAISS's with what their allocation costs, and its row of `cells.npy`."""
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
    n_cells: int
    """0 for bare rows."""
    workers: int
    """Shards searched at the same time."""
    n_shards: int
    vectors_per_shard: int
    """In the fullest shard, if frames are spread evenly; semantic placement fills some up to 1.3 times the mean."""
    shard_nbytes: int
    """What one shard occupies in memory when it is open: codes, ids and inverted lists."""
    centroids_nbytes: int
    columns_nbytes: int
    """Frame columns, in memory as on disk."""
    rows_nbytes: int
    """Stored rows on disk, all shards."""
    codes_nbytes: int
    """Inverted lists on disk, all shards; 0 where shards are too small for codes."""
    disk_nbytes: int
    """Everything on disk: rows, codes, columns and centroids. A build that replaces another needs as much again meanwhile."""
    shards_in_memory: int
    """Open shards that fit at the same time. The cache reads a shard before it drops another: unless all fit, set it smaller by one per worker."""
    resident_nbytes: int
    """Centroids, columns and the shards that fit."""
    fits: bool
    """Whether every shard stays in memory once opened."""
    exact_is_enough: bool
    """Whether so few vectors are scanned whole in milliseconds, so that routing gains little."""
    reason: str
    """Why, with the figures, in one sentence fit for display."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for, whatever the number of vectors."""

    ram: int
    dim: int
    codec: str
    store: str
    n_cells: int
    shard_bytes: int | None
    workers: int
    share: float


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the bytes of a shard depend on, besides its rows."""

    dim: int
    codec: str
    store: str
    n_cells: int

    @property
    def row_nbytes(self) -> int:
        """A row's code and its id; half bytes are rounded up per row."""
        return (self.dim * BITS[self.codec] + 7) // 8 + ID_NBYTES

    @property
    def plain_row_nbytes(self) -> int:
        return STORES[self.store] * self.dim + ID_NBYTES

    def coded(self, rows: int) -> bool:
        """Whether a shard of so many rows gets codes; bare rows count as their own."""
        return self.codec == "fp32" or rows >= UNCODED_BELOW

    def lists(self, rows: int) -> int:
        """Inverted lists in a shard, as if every cell occurred in it: round-robin's figure; semantic placement has fewer."""
        return min(self.n_cells, rows)

    def nbytes(self, rows: int) -> int:
        """Memory of an open shard."""
        if self.coded(rows):
            return rows * self.row_nbytes + self.lists(rows) * LIST_NBYTES
        return rows * self.plain_row_nbytes + self.lists(rows) * LIST_NBYTES

    def rows_within(self, nbytes: int) -> int:
        """The most rows of a coded shard within so many bytes."""
        rows = (nbytes - self.n_cells * LIST_NBYTES) // self.row_nbytes
        if rows >= self.n_cells:
            return rows
        return max(0, min(self.n_cells, nbytes // (self.row_nbytes + LIST_NBYTES)))

    def plain_rows_within(self, nbytes: int) -> int:
        """The most rows of an uncoded shard within so many bytes."""
        return min(UNCODED_BELOW - 1, nbytes // (self.plain_row_nbytes + LIST_NBYTES))


def plan_shards(
    ram: int,
    n_vectors: int | None,
    dim: int,
    *,
    codec: str = "sq8",
    store: str = "fp16",
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

    Parameters
    ----------
    ram : bytes for the collection while it is searched; a build needs more
    n_vectors : None plans the largest collection that stays in memory, of full shards if their size is given
    dim : dimensions of a vector
    codec : `sq8`, `sq4` or `fp16`; or `fp32` for bare rows as one flat index holds them: rows and ids, no cells, no
        columns, and nothing else on disk, whatever `store` says
    store : type of the stored rows, `fp16` or `fp32`
    n_cells : 0 chooses from the number of vectors, as a build does
    shard_bytes : memory of one open shard at the most, instead of the rule's
    workers : shards searched at the same time; theirs are in memory together
    share : part of the memory for shards that one shard may take where not all fit, above 0 and up to 1

    Raises
    ------
    ValueError
        If an argument makes no sense, or the memory cannot hold centroids, columns and a shard per worker.
    """
    wish = _Wish(ram, dim, codec, store, n_cells, shard_bytes, workers, share)
    _check(wish, n_vectors)
    return _largest(wish) if n_vectors is None else _plan(wish, n_vectors)


def _check(wish: _Wish, n_vectors: int | None) -> None:
    """Raise `ValueError` for the first argument that makes no sense."""
    if wish.ram <= 0:
        raise ValueError(f"The memory to plan for is {wish.ram} bytes; give more than 0, such as 8 GB.")
    if n_vectors is not None and n_vectors <= 0:
        raise ValueError(f"There are {n_vectors} vectors to plan for; give 1 or more.")
    if wish.dim <= 0:
        raise ValueError(f"The vectors have {wish.dim} dimensions; give 1 or more, as the encoder says.")
    if wish.codec not in CODECS:
        raise ValueError(f"Unknown codec {wish.codec!r}; use {', '.join(CODECS)}.")
    if wish.store not in STORES:
        raise ValueError(f"Unknown store {wish.store!r}; use {', '.join(STORES)}.")
    if wish.workers < 1:
        raise ValueError(f"{wish.workers} workers cannot search; give 1 or more.")
    if not 0 < wish.share <= 1:
        raise ValueError(f"A shard cannot take {wish.share:g} of the memory; give a share above 0 and up to 1.")
    if wish.n_cells < 0:
        raise ValueError(f"There cannot be {wish.n_cells} cells; give 0 to have their number chosen.")
    if wish.n_cells and wish.codec == "fp32":
        raise ValueError("Bare fp32 rows have no cells; leave out their number or choose another codec.")
    if n_vectors is not None and wish.n_cells > n_vectors:
        raise ValueError(f"{wish.n_cells:,} cells need at least as many vectors, and there are {n_vectors:,}.")
    if wish.shard_bytes is None:
        return
    if wish.shard_bytes <= 0:
        raise ValueError(f"A shard of {wish.shard_bytes} bytes holds nothing; give more than 0.")
    if wish.shard_bytes > wish.ram:
        raise ValueError(
            f"A shard of {readable_bytes(wish.shard_bytes)} is larger than the memory, {readable_bytes(wish.ram)}; "
            "give a smaller shard or more memory."
        )


def _largest(wish: _Wish) -> ShardPlan:
    """The plan for the most vectors that stay in memory, of full shards if their size is given."""

    def fitting(n: int) -> ShardPlan | None:
        try:
            plan = _plan(wish, n)
        except ValueError:
            return None
        return plan if plan.fits else None

    # A few rows below those that get codes may take more than those do, so the search starts above where it can.
    best = fitting(UNCODED_BELOW) or _plan(wish, 1)
    too_many = wish.ram + 1  # Every vector takes more than a byte.
    while too_many - best.n_vectors > 1:
        middle = (best.n_vectors + too_many) // 2
        plan = fitting(middle)
        if plan is None:
            too_many = middle
        else:
            best = plan
    if wish.shard_bytes is None:
        return best
    rows = _limit(_Layout(wish.dim, wish.codec, wish.store, best.n_cells), wish.shard_bytes)
    full = fitting(best.n_vectors // rows * rows) if best.n_vectors >= rows else None
    return full or best


def _limit(layout: _Layout, shard_bytes: int | None) -> int:
    """The most rows of one shard where all shards fit.

    Raises
    ------
    ValueError
        If the size asked for does not hold a single vector.
    """
    if shard_bytes is None:
        return max(_least(layout), layout.rows_within(SHARD_NBYTES))
    rows = layout.rows_within(shard_bytes)
    if not layout.coded(rows):
        rows = layout.plain_rows_within(shard_bytes)
    if rows < 1:
        raise ValueError(
            f"A shard of {readable_bytes(shard_bytes)} does not hold one vector of {layout.dim} dimensions; give a larger one."
        )
    return rows


def _least(layout: _Layout) -> int:
    """The fewest rows that are worth a shard."""
    return max(UNCODED_BELOW, ROWS_PER_CELL * layout.n_cells)


def _spread(n: int, rows: int) -> int:
    """Rows of the fullest of as few shards as hold n rows with at most so many each."""
    return -(-n // -(-n // rows))


def _rows(wish: _Wish, n: int, layout: _Layout, left: int) -> int:
    """Rows of the fullest shard, by the rule, where shards may take `left` bytes."""
    rows = _spread(n, _limit(layout, wish.shard_bytes))
    if wish.shard_bytes is not None:
        if layout.nbytes(rows) <= wish.shard_bytes:
            return rows
        # Spread evenly they came below the rows that get codes, and uncoded ones are larger.
        return _spread(n, layout.plain_rows_within(wish.shard_bytes))
    least = min(n, _least(layout))
    most_shards = n // least
    rows = max(rows, _spread(n, -(-n // most_shards)))
    if -(-n // rows) * layout.nbytes(rows) <= left and wish.workers * layout.nbytes(rows) <= left:
        return rows
    target = min(SHARD_NBYTES, int(wish.share * left), left // (2 * wish.workers))
    n_shards = min(-(-n // max(least, layout.rows_within(target))), most_shards)
    return -(-n // n_shards)


def _plan(wish: _Wish, n: int) -> ShardPlan:
    bare = wish.codec == "fp32"
    layout = _Layout(wish.dim, wish.codec, wish.store, 0 if bare else min(n, wish.n_cells or choose_n_cells(n)))
    centroids_nbytes = layout.n_cells * wish.dim * 4
    columns_nbytes = 0 if bare else n * COLUMNS_NBYTES
    fixed = centroids_nbytes + columns_nbytes
    left = wish.ram - fixed
    rows = _rows(wish, n, layout, left)
    n_shards, shard_nbytes = -(-n // rows), layout.nbytes(rows)
    if wish.workers * shard_nbytes > left:
        raise ValueError(_too_small(wish, fixed, rows, shard_nbytes))
    in_memory = min(n_shards, left // shard_nbytes)
    coded = layout.coded(rows) and not bare
    rows_nbytes = n * (layout.row_nbytes if bare else wish.dim * STORES[wish.store])
    codes_nbytes = n * layout.row_nbytes + n_shards * layout.lists(rows) * LIST_DISK_NBYTES if coded else 0
    return ShardPlan(
        ram=wish.ram,
        n_vectors=n,
        dim=wish.dim,
        codec=wish.codec,
        n_cells=layout.n_cells,
        workers=wish.workers,
        n_shards=n_shards,
        vectors_per_shard=rows,
        shard_nbytes=shard_nbytes,
        centroids_nbytes=centroids_nbytes,
        columns_nbytes=columns_nbytes,
        rows_nbytes=rows_nbytes,
        codes_nbytes=codes_nbytes,
        disk_nbytes=rows_nbytes + codes_nbytes + columns_nbytes + centroids_nbytes,
        shards_in_memory=in_memory,
        resident_nbytes=fixed + in_memory * shard_nbytes,
        fits=in_memory == n_shards,
        exact_is_enough=n <= EXACT_UP_TO,
        reason=_reason(wish.ram, n, layout, rows, in_memory, fixed),
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


def _reason(ram: int, n: int, layout: _Layout, rows: int, in_memory: int, fixed: int) -> str:
    n_shards, size = -(-n // rows), layout.nbytes(rows)
    held = f"{layout.codec} codes"
    if layout.codec == "fp32":
        held = "bare float32 rows"
    elif not layout.coded(rows):
        held = "stored rows, too few for codes"
    if n_shards > 1:
        shards = f"{n_shards:,} shards of {rows:,} ({readable_bytes(size)} each, {held})"
        stay = f"all of them, {readable_bytes(n_shards * size)}, stay"
    else:
        shards = f"one shard ({readable_bytes(size)}, {held})"
        stay = "it stays"
    besides = f" beside {readable_bytes(fixed)} of centroids and columns" if fixed else ""
    if in_memory == n_shards:
        outcome = f"{stay} in the {readable_bytes(ram)} given{besides}"
    else:
        outcome = (
            f"{readable_bytes(ram)} has room for {in_memory:,} of them{besides}, "
            "and the others are read from disk when a query needs them"
        )
    few = "; that few are scanned whole in milliseconds, so routing gains little"
    return f"{n:,} vectors of {layout.dim} dimensions make {shards}: {outcome}{few if n <= EXACT_UP_TO else ''}."


def describe(plan: ShardPlan) -> str:
    """A plan in a few lines for a terminal."""
    shards = "1 shard" if plan.n_shards == 1 else f"{plan.n_shards:,} shards"
    fixed = [
        f"{readable_bytes(nbytes)} {what}"
        for nbytes, what in (
            (plan.columns_nbytes, "columns"),
            (plan.centroids_nbytes, f"centroids of {plan.n_cells:,} cells"),
        )
        if nbytes
    ]
    codes = [f"{readable_bytes(plan.codes_nbytes)} {plan.codec} codes"] if plan.codes_nbytes else []
    memory = ", ".join([f"{plan.shards_in_memory:,} of {shards}", *fixed])
    disk = ", ".join([f"{readable_bytes(plan.rows_nbytes)} stored rows", *codes, *fixed])
    return "\n".join(
        [
            f"shards  {plan.n_shards:,} of {plan.vectors_per_shard:,} vectors, {readable_bytes(plan.shard_nbytes)} each when open",
            f"memory  {readable_bytes(plan.resident_nbytes)} of {readable_bytes(plan.ram)}: {memory}",
            f"disk    {readable_bytes(plan.disk_nbytes)}: {disk}",
            plan.reason,
        ]
    )


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
