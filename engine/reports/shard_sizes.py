"""The arithmetic of capacity plans: bytes of rows, lists, shards and builds, as the engine lays them out."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from engine.routing import MAX_BANK_FRAMES, MAX_BANK_TEXTS, MAX_BEST_NBYTES, n_held_out
from engine.storage import FITTING, GATHER_STEP, TRAIN_VALUES, current_limits
from engine.system import readable_bytes
from engine.vectors import CODEC_ROWS, PROJECTED, TRAIN_PER_CELL

BITS = {"sq4": 4, "sq8": 8, "fp16": 16, "fp32": 32}
"""Bits per dimension by codec."""
STORES = {"fp16": 2, "fp32": 4, "codes": 2}
"""Bytes per dimension of the stored rows; with `codes` until there are some."""
SHARD_NBYTES = 128 << 20
"""Size of an open shard that takes 0.4 s to check and open (measured, file in the page cache): 170,000 sq8 vectors of 768 dimensions."""
ROWS_PER_CELL = 2
"""Least rows per cell of a shard; with fewer, its inverted lists weigh more than their rows."""
LEAST_SHARD_ROWS = 10_000
"""Least rows of a shard where nobody asks for others: of smaller ones, each costs a step per query and saves little memory."""
ID_NBYTES = 8
"""Of a frame's id beside its vector."""
BUILD_ROWS = 65_536
"""Rows that a build measures the spread of its cells on."""
WRITTEN_ROWS = 3 * 8192
"""Rows in hand while a segment is written."""
LIBRARIES_NBYTES = 96_000_000
"""What the libraries take for themselves when a build first uses them (measured)."""
COLUMNS_NBYTES = 48
"""Per frame: id, video, place, time, wall clock, shot, cell and checksum. Tags, a bit each, are not counted."""
LIST_NBYTES = 48
"""Memory per inverted list: its length and place, and its row of `cells.npy`."""
JUDGED_NBYTES = 44
"""Memory of calibrating, per calibration query and cell: scores and ranks in several steps (measured)."""
FIT_ROWS = 2048
"""Rows whose products with all queries are in memory at a time while the router is fitted."""
LIST_DISK_NBYTES = 24
"""Per list on disk: its length in `codes.faiss` and its row of `cells.npy`."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is asked for, but the number of vectors, and the sizes that follow from it."""

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
    coded: bool = True
    """Whether the collection is large enough for codes; bare rows count as codes."""

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row's code, rounded up, and its id."""
        return (self.dim * BITS[self.codec] + 7) // 8 + ID_NBYTES

    @property
    def queries(self) -> int:
        """Queries that the router is fitted on: a full bank with its pairs, as far as their best scores fit."""
        return min(MAX_BANK_TEXTS * 3 // 2, MAX_BEST_NBYTES // (2 * max(1, self.n_cells)) - MAX_BANK_FRAMES)

    @property
    def least_rows(self) -> int:
        """Least rows of a shard."""
        return max(LEAST_SHARD_ROWS, ROWS_PER_CELL * self.n_cells)

    def segments(self, rows: int) -> int:
        """Segments of a shard of so many rows."""
        return -(-rows // current_limits().segment_rows(self.dim, self.store)) if self.store else 1

    def lists(self, rows: int) -> int:
        """Inverted lists in a shard if every cell occurs in each segment, as with round-robin; semantic placement has fewer."""
        return min(rows, self.segments(rows) * self.n_cells)

    def nbytes(self, rows: int) -> int:
        """Memory of an open shard of so many rows, as codes or as stored rows."""
        row_nbytes = self.row_nbytes if self.coded else self.dim * STORES[self.store] + ID_NBYTES
        return rows * row_nbytes + self.lists(rows) * LIST_NBYTES

    def rows_within(self, nbytes: int) -> int:
        """Most rows of a shard within so many bytes."""
        return bisect_right(range(1, nbytes + 1), nbytes, key=self.nbytes)

    def full_shard(self) -> int:
        """Most rows of one shard where all shards fit in memory.

        Raises
        ------
        ValueError
            If the size asked for does not hold a single vector.
        """
        if self.shard_bytes is None:
            return max(self.least_rows, self.rows_within(SHARD_NBYTES))
        rows = self.rows_within(self.shard_bytes)
        if not rows:
            raise ValueError(
                f"A shard of {readable_bytes(self.shard_bytes)} does not hold one vector of {self.dim} dimensions; give a larger one."
            )
        return rows

    def build_steps(self, n: int, rows: int) -> dict[str, int]:
        """Peak memory of each step of a build of n rows into shards of `rows`, by the name that its progress goes by; about.

        Places of rows are 8 bytes a row, and 4 for its cell or its shard.
        """
        row, centroids = self.dim * 4, self.n_cells * self.dim * 4
        sampled = min(n, self.n_cells * TRAIN_PER_CELL, max(self.n_cells, TRAIN_VALUES // self.dim))
        learned = max(
            min(sampled, CODEC_ROWS) * self.dim * 5,  # As float32, and whether each value is finite.
            sampled * PROJECTED * 4 + GATHER_STEP * row * 3,
            3 * centroids + min(sampled, BUILD_ROWS) * row,
        )
        queries = self.queries + MAX_BANK_FRAMES
        best = self.n_cells * 2 * queries
        judged = n_held_out(self.n_cells)
        seen = 3 * min(n, GATHER_STEP) * row + min(n, FIT_ROWS) * 4 * 4 * (queries + judged)
        columns = n * (COLUMNS_NBYTES + 16)
        segment = 2 * self.nbytes(rows) // self.segments(rows) if self.coded else 0
        steps = {
            "training cells": n * 8 + sampled * self.dim * STORES[self.store] + learned,
            FITTING: n * 12 + 2 * centroids + best + seen,
            "fitting the router": n * 12 + centroids + best + max(2 * centroids, self.n_cells * JUDGED_NBYTES * judged),
            "laying out shards": n * 12 + 6 * centroids,
            "placing frames": columns + 2 * centroids,
            "writing shards": columns + centroids + segment + min(rows, WRITTEN_ROWS) * row,
        }
        return {step: LIBRARIES_NBYTES + nbytes for step, nbytes in steps.items()}
