"""What a pass of several queries did in each shard: kept as arrays, of which the traces of a query are made when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.search.execute import Answers
from engine.search.shard_selection import ShardChoice, ShardSelection, Why
from engine.search.trace import Row
from engine.types import ReasonCode, ShardState
from engine.vectors import Rows


@dataclass(frozen=True, slots=True)
class ShardWork:
    """What was done for m queries in the shards of a collection."""

    shards: tuple[tuple[int, str, int], ...]
    """Number, name and live frames of each that may hold an answer."""
    closed: Mapping[int, Row]
    """The trace of each of the others, by number."""
    choice: ShardChoice | None
    cells: Rows
    """(shards, m) cells probed."""
    scanned: Rows
    """(shards, m) rows compared."""
    first: Rows
    """(shards,) the first query that opened each shard, in a batch, for the others as well."""
    n_sharing: Rows
    """(shards,) queries that its time is divided among."""
    bytes_read: list[int]
    loads: list[int]
    ms: NDArray[np.float64]
    """(shards,)"""
    errors: Mapping[int, str]
    """Why shards failed, by their place."""

    @classmethod
    def of(cls, selection: ShardSelection, answers: Answers) -> ShardWork:
        filtered, choice, m = selection.filtered, selection.shards, selection.m
        broken: dict[int, Row] = {
            shard.shard: (
                shard.shard,
                shard.name,
                ShardState.FAILED,
                (ReasonCode.FAILED, (failure.reason,)),
                shard.n_live,
            )
            for shard, failure in filtered.broken
        }
        n_shards = len(filtered.shards)
        opened = np.ones((n_shards, m), np.bool_) if choice is None else choice.opened
        scanned = np.add.reduceat(answers.scanned, filtered.starts, axis=0) if n_shards else answers.scanned
        return cls(
            filtered.about,
            {**filtered.pruned, **broken},
            choice,
            selection.cells_per_shard(),
            scanned,
            opened.argmax(axis=1),
            np.maximum(1, opened.sum(axis=1)),
            answers.bytes_read,
            answers.loads,
            answers.ms,
            {place: error.reason for place, error in answers.errors.items()},
        )

    def rows(self, i: int) -> list[Row]:
        """A trace of query i for each shard of the collection, by number."""
        rows: dict[int, Row] = dict(self.closed)
        if self.choice is not None:
            rows |= {row[0]: row for row in self.choice.left_out(i)}
        rows |= {row[0]: row for row in self._opened(i)}
        return [rows[number] for number in sorted(rows)]

    def _opened(self, i: int) -> Iterator[Row]:
        choice = self.choice
        for place, (number, name, n_live) in enumerate(self.shards):
            if choice is not None and not choice.opened[place, i]:
                continue
            cells, mine = int(self.cells[place, i]), i == self.first[place]
            # In a batch, the first query that wants a shard opens it for the others.
            state = ShardState.OPENED if self.loads[place] and mine else ShardState.CACHED
            why: Why = (ReasonCode.SCANNED,) if choice is None else choice.why_opened(place, i, cells)
            if place in self.errors:
                state, why = ShardState.FAILED, (ReasonCode.FAILED, (self.errors[place],))
            score = None if choice is None else choice.score(place, i)
            bytes_read, ms = self.bytes_read[place] if mine else 0, float(self.ms[place] / self.n_sharing[place])
            yield number, name, state, why, n_live, score, cells, int(self.scanned[place, i]), bytes_read, ms
