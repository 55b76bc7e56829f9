"""What can be asked of a search."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TypedDict

from engine.types import Filter, QueryKind, RouterName, SearchAim


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """How to search, for any query. Equal requests are answered alike.

    Raises
    ------
    ValueError
        If a number is out of range, a choice does not exist, or two options contradict each other.
    """

    k: int = 10
    """Frames to find."""
    where: Filter | None = None
    """Conditions that every hit meets; an empty filter becomes None."""
    boost: Filter | None = None
    """Changes the order of the hits and never which they are: of those with the same score to three decimals, those that meet
    more of its conditions come first. Where `max_shards` chooses among shards, it also counts how many of a shard's frames
    meet them, see `Boosts.for_shards`. Tags that no frame carries are passed over. An empty filter becomes None."""
    recall: float | None = None
    """Share of the exact answer to find on average; None leaves it to the collection's route. Where it was not calibrated, or
    only an exact search reaches it, the search is exact, and the trace says so."""
    aim: SearchAim | None = None
    """What to spend least of for the recall: `rows` compared, or `shards` opened, which compares more rows in fewer shards. None takes
    rows where all shards fit in memory, and shards where they are to be read. Without a calibrated recall it changes nothing."""
    n_probe: int | None = None
    """Cells to probe, whatever the recall."""
    max_shards: int | None = None
    """Shards to open at most; frames elsewhere are missed."""
    exact: bool = False
    """Scan every frame that passes the filter."""
    per_shot: int | None = None
    """Hits from one shot at most."""
    router: RouterName | None = None
    """How to rank cells; None takes the best there is for the kind of query."""
    kind: QueryKind | None = None
    """How a query is routed; None takes stored frames for images, and texts and vectors for texts."""
    allow_partial: bool = False
    """Answer from the other shards when one fails; the trace says which."""
    force_shards: Sequence[int] = ()
    """Numbers of shards to open whatever the router says: every frame in them that passes is scanned. They do not count among
    `max_shards`. It becomes a tuple."""

    def __post_init__(self) -> None:
        for name, value in zip(_COUNTS, _counts(self), strict=True):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; ask for 1 or more.")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise ValueError(f"A recall of {self.recall} cannot be; ask for more than 0 and at most 1.")
        if self.router is not None and self.router not in _ROUTERS:
            raise ValueError(f"Unknown router {self.router!r}; use {', '.join(_ROUTERS)}.")
        if self.kind is not None and self.kind not in _KINDS:
            raise ValueError(f"Unknown kind {self.kind!r}; use {', '.join(_KINDS)}.")
        if self.aim is not None and self.aim not in _AIMS:
            raise ValueError(f"Unknown aim {self.aim!r}; use {', '.join(_AIMS)}.")
        if self.exact and self.max_shards is not None:
            raise ValueError("An exact search opens every shard that may match; leave out either exact or max_shards.")
        if self.where is not None and not self.where:
            object.__setattr__(self, "where", None)
        if self.boost is not None and not self.boost:
            object.__setattr__(self, "boost", None)
        if not isinstance(self.force_shards, tuple):
            object.__setattr__(self, "force_shards", tuple(self.force_shards))

    def plan_key(self, kind: QueryKind) -> Hashable:
        """What the plan for a query of this kind depends on: equal for requests that are planned alike."""
        return kind, _planned(self)


class SearchOptions(TypedDict, total=False):
    """The fields of a `SearchRequest` but `k`, as keywords."""

    where: Filter | None
    boost: Filter | None
    recall: float | None
    aim: SearchAim | None
    n_probe: int | None
    max_shards: int | None
    exact: bool
    per_shot: int | None
    router: RouterName | None
    kind: QueryKind | None
    allow_partial: bool
    force_shards: Sequence[int]


_ROUTERS = ("learned", "spread", "centroid")
_KINDS = ("text", "image")
_AIMS = ("rows", "shards")
_COUNTS = ("k", "n_probe", "max_shards", "per_shot")
_counts = attrgetter(*_COUNTS)
_UNPLANNED = ("where", "boost", "kind", "allow_partial", "force_shards")
"""Fields that no plan depends on; any other one belongs to `plan_key`."""
_planned = attrgetter(*(field.name for field in fields(SearchRequest) if field.name not in _UNPLANNED))
