"""What a placement is: what it learns from at a build, its methods, and the options it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns
from engine.vectors import Cells, Floats

Shards = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a build knows when it lays out shards."""

    n_shards: int
    cells: Cells
    cell_sizes: NDArray[np.int64]
    """(n_cells,) live frames per cell."""
    seconds: float
    """Largest time in a video of any live frame, seconds."""
    options: Mapping[str, Any]
    """What the user asked of this placement, such as `{"minutes": 5}`."""
    profiles: Callable[[], Floats] | None = None
    """Gives (n_cells, any), what cells are grouped by the likeness of; None for their centroids."""
    demand: Callable[[], Floats] | None = None
    """Gives (n_cells, m), the share of the answer to each of m typical queries that a cell is taken to hold, so that what the same
    queries want lies together; None where nothing is known of queries."""


@dataclass(frozen=True, slots=True)
class PlacementOption:
    """An option of a placement."""

    default: Any
    """None is learned from the data."""
    check: Callable[[Any], None]
    """Raises `ValueError` for a value that the option cannot take; never called with None."""


class Placement(Protocol):
    """Places frames by their columns. What it learned at the build is in its `state`, so later frames go the same way."""

    NAME: ClassVar[str]
    """As users give it."""
    OPTIONS: ClassVar[Mapping[str, PlacementOption]]
    """By name."""
    routed: ClassVar[bool]
    """Whether whole cells live in one shard, so that a cap on opened shards loses little."""
    whole: ClassVar[str]
    """What a build keeps whole while it makes shards even: each is from a quarter of to twice the mean where none of these is above the
    mean. Empty where sizes are left to the input or to chance."""
    state: Mapping[str, Any]
    """JSON values; enough to go on placing later frames the same way."""

    def __init__(self, state: Mapping[str, Any]) -> None: ...

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        """Lay out the shards of a collection.

        Raises
        ------
        ValueError
            If an option is unknown or its value is not one it takes, or if the cells do not fit.
        """
        ...

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        """Shard (n,) of each frame.

        `loads` (n_shards,) are the live frames that are in each shard already: zeros at a build, where `frames` are all
        live frames of the collection; later additions bring whole videos.
        """
        ...

    def names(self) -> tuple[str, ...]:
        """Unique display names; their number is the number of shards."""
        ...


def options_of(placement: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a placement: the given value, or the default where that is None or missing.

    Raises
    ------
    ValueError
        For the first option that the placement does not know, or whose value it cannot take.
    """
    known = placement.OPTIONS
    for option, value in given.items():
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"The placement {placement.NAME} has no option {option!r}; {takes}.")
        if value is not None:
            known[option].check(value)
    defaults = {name: option.default for name, option in known.items()}
    return {**defaults, **{name: value for name, value in given.items() if value is not None}}


class NumberedShards:
    """Base of placements whose shards are known by their number."""

    NAME: ClassVar[str]
    OPTIONS: ClassVar[Mapping[str, PlacementOption]] = {}
    routed: ClassVar[bool] = False
    whole: ClassVar[str] = ""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._n_shards = int(state["n_shards"])

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        options_of(cls, survey.options)
        return cls({"n_shards": survey.n_shards})

    def names(self) -> tuple[str, ...]:
        return tuple(f"Shard {i}" for i in range(self._n_shards))
