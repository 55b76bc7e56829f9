"""What a search found, and what it did for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from engine.search import wording
from engine.types import SEARCHED, Hit, Reason, ShardState


@dataclass(frozen=True, slots=True)
class ShardTrace:
    """What a search did with one shard, and why."""

    shard: int
    name: str
    state: ShardState
    why: Reason
    n_frames: int
    score: float | None = None
    """Best predicted score over the shard's cells; None where nothing was predicted."""
    cells: int = 0
    """Cells probed in this shard."""
    vectors_scanned: int = 0
    bytes_read: int = 0
    """Bytes read from disk to open it; 0 from the cache."""
    ms: float = 0.0

    @classmethod
    def of(cls, row: Row) -> ShardTrace:
        """The trace that a row stands for."""
        shard, name, state, why, *others = row
        return cls(shard, name, state, why if isinstance(why, Reason) else Reason(*why), *others)

    @property
    def reason(self) -> str:
        """Why, as a clause."""
        return wording.shard_clause(self.state, self.why)


Row = tuple[Any, ...]
"""The fields of a `ShardTrace`, as far as they are not the usual ones; `why` may be the code and the values of a reason."""


class ShardTraces(Sequence[ShardTrace]):
    """What a search did with each shard, by number: made when somebody reads it, for most searches are made for their hits alone."""

    __slots__ = ("_made", "_make", "_n")

    def __init__(self, n: int, make: Callable[[], Iterable[Row]]) -> None:
        """Take how many shards there are, and what gives a row for each."""
        self._n = n
        self._make: Callable[[], Iterable[Row]] | None = make
        self._made: tuple[ShardTrace, ...] = ()

    def _all(self) -> tuple[ShardTrace, ...]:
        make = self._make
        if make is not None:
            self._made = tuple(map(ShardTrace.of, make()))
            self._make = None
        return self._made

    @overload
    def __getitem__(self, place: int) -> ShardTrace: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[ShardTrace, ...]: ...
    def __getitem__(self, place: int | slice) -> ShardTrace | tuple[ShardTrace, ...]:
        return self._all()[place]

    def __iter__(self) -> Iterator[ShardTrace]:
        return iter(self._all())

    def __len__(self) -> int:
        return self._n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


@dataclass(frozen=True, slots=True)
class Trace:
    """How a search went."""

    generation: int
    method: str
    """`exact` or `routed`."""
    why: Reason
    """Why this method and this width."""
    k: int
    n_probe: int
    """Cells probed; 0 for exact search, which does not go by cells."""
    n_cells: int
    """Cells to choose from; 0 where an exact search was asked for."""
    cells_scored: int
    vectors_total: int
    """Live frames in the collection: what an exact search without filter scans."""
    vectors_scanned: int
    """Frames scanned: compared with the query, each counted once."""
    vectors_rescored: int
    """Of these, compared by codes first and then exactly."""
    workers: int
    """Shards searched at the same time."""
    shards: Sequence[ShardTrace]
    """One entry per shard of the collection, by number."""
    ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds per stage (encode, filter, route, search, rescore, lookup) and `total`."""
    cautions: tuple[Reason, ...] = ()
    """What to keep in mind about this answer."""
    missing: tuple[str, ...] = ()
    """Shards that failed, each in one sentence; empty unless partial answers were allowed."""
    router: str = ""
    """How cells were ranked: `learned`, `spread` or `centroid`; empty for an exact search."""
    expected_recall: float | None = None
    """Share of the exact answer that such searches found when they were calibrated, on average; an estimate under filters.
    None where nothing was measured."""
    idle: tuple[Reason, ...] = ()
    """Options that changed nothing."""

    @property
    def reason(self) -> str:
        """Why this method and this width, in one sentence or two."""
        return wording.search_sentence(self.why, self.k, self.n_probe)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The cautions, a sentence each."""
        return tuple(map(wording.sentence, self.cautions))

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Why options changed nothing, a sentence each."""
        return tuple(map(wording.sentence, self.idle))

    def count(self, *states: ShardState) -> int:
        """Number of shards in any of these states."""
        return sum(shard.state in states for shard in self.shards)

    @property
    def shards_total(self) -> int:
        return len(self.shards)

    @property
    def shards_probed(self) -> int:
        return self.count(*SEARCHED)

    @property
    def bytes_read(self) -> int:
        return sum(shard.bytes_read for shard in self.shards)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits by falling score (ties by frame id), and how they were found."""

    hits: tuple[Hit, ...]
    trace: Trace
