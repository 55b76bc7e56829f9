"""Which shard a frame is written to. Placement writes; routing reads."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.frames import HOUR, NO_TIME, FrameColumns
from engine.layout.grouping import CLASSES, OTHER, class_of, cut_videos, group_cells
from engine.system import bounds
from engine.types import DAYPARTS, daypart_hours
from engine.vectors import Cells, Floats

Shards = NDArray[np.int32]

NO_RECORDING_TIME = "no recording time"
HYBRID_SPARE = 0.25
"""Room that the hybrid shards of a build have to spare, all together, in shards: none stays under 0.75 of the mean where no piece is above it."""
HYBRID_FILL = 1.1
"""Multiple of the mean up to which they take later videos: they are full by then, and little should still find its home."""

_DAYPART_HOURS = [[part, list(daypart_hours(part))] for part in DAYPARTS]
_SHORTEST = 1e-9
"""Minutes of a chunk; all videos shorter than that are one moment."""


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
    profiles: Floats | None = None
    """(n_cells, dim) what cells are likened by: their routing vectors, so that what the same queries want lies together;
    None for their centroids."""


class Placement(Protocol):
    """Places frames by their columns. What it learned at the build is in its `state`, so later frames go the same way."""

    state: Mapping[str, Any]
    """JSON values; enough to go on placing later frames the same way."""
    routed: ClassVar[bool]
    """Whether whole cells live in one shard, so that a cap on opened shards loses little."""
    OPTIONS: ClassVar[Mapping[str, Any]]
    """Options it understands and what they are unless given; None is learned from the data."""

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


def make_placement(name: str, state: Mapping[str, Any]) -> Placement:
    """The placement of a stored layout."""
    return PLACEMENTS[name](state)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise `ValueError` for the first option that the placement does not know, or whose value it cannot take."""
    known = PLACEMENTS[name].OPTIONS
    for option, value in options.items():
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"The placement {name} has no option {option!r}; {takes}.")
        if value is not None:
            _CHECKS[option](value)


class _Numbered:
    """Shards that are known by their number."""

    routed: ClassVar[bool] = False
    OPTIONS: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._n_shards = int(state["n_shards"])

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        _asked(cls, survey)
        return cls({"n_shards": survey.n_shards})

    def names(self) -> tuple[str, ...]:
        return tuple(f"Shard {i}" for i in range(self._n_shards))


class RoundRobin(_Numbered):
    """Even shards; every query must open all of them."""

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        return (frames.frame_id % self._n_shards).astype(np.int32)


class Random(_Numbered):
    """Even shards whatever rhythm the input has, which round-robin may follow; every query must open all of them."""

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        return _scattered(frames.frame_id, self._n_shards)


class Balanced(_Numbered):
    """Whole videos and shards as even as those allow; where a video goes depends on what was there before it."""

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        # Largest first, each to the smallest shard: LPT (Graham 1969), within 4/3 of the best possible where shards start empty.
        _, video, sizes = np.unique(frames.video, return_inverse=True, return_counts=True)
        shard_of = np.zeros(len(sizes), np.int32)
        heap = [(int(load), shard) for shard, load in enumerate(loads)]
        heapq.heapify(heap)
        for i in np.argsort(-sizes, kind="stable"):
            load, shard = heap[0]
            shard_of[i] = shard
            heapq.heapreplace(heap, (load + int(sizes[i]), shard))
        return shard_of[video]


class ByVideo(_Numbered):
    """A video is in one shard for good, so adding or deleting it touches one; shards are as uneven as chance makes them."""

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        return _scattered(frames.video, self._n_shards)


class TimeOfDay:
    """A search at some time of day opens few shards; any other opens all, and what is filmed most fills its shard."""

    routed: ClassVar[bool] = False
    OPTIONS: ClassVar[Mapping[str, Any]] = {"by": "daypart"}

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        hours = {str(name): list(each) for name, each in state["hours"]}
        self._names = (*hours, NO_RECORDING_TIME)
        self._shard_of_hour = np.zeros(24, np.int32)
        for shard, each in enumerate(hours.values()):
            self._shard_of_hour[each] = shard

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        if _asked(cls, survey)["by"] == "daypart":
            return cls({"hours": _DAYPART_HOURS})
        n = min(survey.n_shards, 24)
        every = [list(range(first, 24, n)) for first in range(n)]
        return cls({"hours": [[_title(hours), hours] for hours in every]})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        shard = self._shard_of_hour[frames.captured_at // HOUR % 24]
        shard[frames.captured_at == NO_TIME] = len(self._names) - 1
        return shard

    def names(self) -> tuple[str, ...]:
        return self._names


_BY_DAYPART = TimeOfDay({"hours": _DAYPART_HOURS})


class Timeline:
    """A search in some minutes of every video opens few shards; any other opens all, and late ones are small."""

    routed: ClassVar[bool] = False
    OPTIONS: ClassVar[Mapping[str, Any]] = {"minutes": None}

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._minutes = float(state["minutes"])
        self._n_shards = int(state["n_shards"])

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        share = survey.seconds / 60 / survey.n_shards
        minutes = _asked(cls, survey)["minutes"] or (_round_up(share) if share > _SHORTEST else 1.0)
        return cls({"n_shards": survey.n_shards, "minutes": minutes})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        chunk = np.maximum(frames.seconds, 0.0) // (60 * self._minutes)
        return np.minimum(chunk, self._n_shards - 1).astype(np.int32)

    def names(self) -> tuple[str, ...]:
        step, unit = (self._minutes, "min") if self._minutes >= 1 else (60 * self._minutes, "s")
        bounds = [f"{i * step:.12g}" for i in range(self._n_shards)]
        return (*(f"{start}-{stop} {unit}" for start, stop in pairwise(bounds)), f"from {bounds[-1]} {unit}")


class Content:
    """A search for tags of a class opens few shards; any other opens all, and the first classes take the most."""

    routed: ClassVar[bool] = False
    OPTIONS: ClassVar[Mapping[str, Any]] = {"classes": CLASSES}

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._classes = dict(state["classes"])

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        return cls({"classes": _listed(_asked(cls, survey)["classes"])})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        return class_of(frames, self._classes)

    def names(self) -> tuple[str, ...]:
        return (*self._classes, OTHER)


class Hybrid(_Numbered):
    """Even shards, a video in three of them at most, and like times and classes close; no search is sure to open few."""

    OPTIONS: ClassVar[Mapping[str, Any]] = {"classes": CLASSES}

    def __init__(self, state: Mapping[str, Any]) -> None:
        super().__init__(state)
        self._classes = dict(state["classes"])

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        return cls({"n_shards": survey.n_shards, "classes": _listed(_asked(cls, survey)["classes"])})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        n_times, n_classes = len(_BY_DAYPART.names()), len(self._classes) + 1
        piece, sizes, classes = cut_videos(frames.video, class_of(frames, self._classes), n_classes)
        time = _BY_DAYPART.assign(frames, loads)
        times = np.bincount(piece * n_times + time, minlength=len(sizes) * n_times).reshape(-1, n_times).argmax(1)
        kind = times * n_classes + classes
        return self._homes(kind, n_times * n_classes, sizes, loads)[piece]

    def _homes(
        self, kind: NDArray[np.int64], n_kinds: int, sizes: NDArray[np.int64], loads: NDArray[np.int64]
    ) -> Shards:
        """Shard of each piece, the largest first.

        The kinds of pieces divide the ring of shards among them. A piece goes to the least loaded shard of its own
        range that has room, or on around the ring to the first that has: consistent hashing with bounded loads
        (Mirrokni, Thorup, Zadimoghaddam 2018). A piece too large for any goes to the least loaded of all.
        """
        n = self._n_shards
        load = loads.astype(np.int64)
        capacity = (HYBRID_FILL if load.any() else 1 + HYBRID_SPARE / n) * (load.sum() + sizes.sum()) / n
        starts = np.arange(n_kinds + 1) * n // n_kinds
        shard_of = np.zeros(len(sizes), np.int32)
        for i in np.argsort(-sizes, kind="stable"):
            start = int(starts[kind[i]])
            width = max(1, int(starts[kind[i] + 1]) - start)
            roomy = load + sizes[i] <= capacity
            if not roomy.any():
                shard = int(load.argmin())
            elif roomy[start : start + width].any():
                own = np.where(roomy[start : start + width], load[start : start + width], capacity)
                shard = start + int(own.argmin())
            else:
                shard = (start + int(np.roll(roomy, -start).argmax())) % n
            shard_of[i] = shard
            load[shard] += sizes[i]
        return shard_of


class Semantic(_Numbered):
    """Whole cells, grouped by likeness: a query opens few shards, at the price of uneven sizes."""

    routed: ClassVar[bool] = True

    def __init__(self, state: Mapping[str, Any]) -> None:
        super().__init__(state)
        self._shard_of_cell = np.asarray(state["shard_of_cell"], np.int32)

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        _asked(cls, survey)
        return cls._of(survey, family=None)

    @classmethod
    def _of(cls, survey: Survey, family: NDArray[np.int32] | None) -> Self:
        profiles = survey.cells.centroids if survey.profiles is None else survey.profiles
        shard_of_cell = group_cells(profiles, survey.cell_sizes, survey.n_shards, family)
        return cls({"n_shards": survey.n_shards, "shard_of_cell": shard_of_cell.tolist()})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        if frames.cell.max(initial=-1) >= len(self._shard_of_cell):
            raise CorruptData("The layout knows fewer cells than there are; run a build to lay the shards out anew.")
        return self._shard_of_cell[frames.cell]


class Hierarchical(Semantic):
    """Whole groups of cells: a query opens few shards, and they are quickly laid out; sizes are coarser than semantic's."""

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        _asked(cls, survey)
        if not survey.cells.two_level:
            raise ValueError("The placement hierarchical needs cells in two levels, and these have one; train them so.")
        return cls._of(survey, survey.cells.group_of)


def _asked(placement: type[Any], survey: Survey) -> dict[str, Any]:
    """Every option of a placement: what was asked for, checked, else its default."""
    (name,) = (each for each, known in PLACEMENTS.items() if known is placement)
    check_options(name, survey.options)
    return {**placement.OPTIONS, **{option: value for option, value in survey.options.items() if value is not None}}


def _scattered(numbers: NDArray[np.integer], n_shards: int) -> Shards:
    """Shard of each number, the same in every run and even over the shards: SplitMix64's finaliser (Steele et al. 2014)."""
    z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(n_shards)).astype(np.int32)


def _title(hours: Sequence[int]) -> str:
    return ("hour " if len(hours) == 1 else "hours ") + ", ".join(map(str, hours))


def _round_up(x: float) -> float:
    """Three significant digits, so that a name stays short; 0 for what is not above it."""
    if x <= 0:
        return 0.0
    scale = 10.0 ** (2 - math.floor(math.log10(x)))
    return math.ceil(round(x * scale, 6)) / scale


def _listed(classes: Mapping[str, Sequence[str]]) -> list[list[Any]]:
    """Classes as JSON that keeps their order whoever sorts its keys."""
    return [[name, list(tags)] for name, tags in classes.items()]


def _check_by(value: Any) -> None:
    if value not in ("daypart", "hour"):
        raise ValueError(f"The option by must be daypart or hour, not {bounds.short_repr(value)}.")


def _check_minutes(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100_000:
        raise ValueError(
            f"The option minutes must be a number above 0 and at most 100,000, not {bounds.short_repr(value)}."
        )
    if value < _SHORTEST:
        raise ValueError(f"The option minutes is {value:g}; give {_SHORTEST:g} or more.")


def _check_classes(value: Any) -> None:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            f"The option classes must name one class or more with the tags of each, not {bounds.short_repr(value)}."
        )
    bounds.check_count("classes", len(value), bounds.MAX_CLASSES)
    for name, tags in value.items():
        if not isinstance(name, str) or not name.strip() or name == OTHER:
            raise ValueError(
                f"The option classes cannot name a class {bounds.short_repr(name)}; {OTHER} is kept for all other frames."
            )
        bounds.check_text(f"the name of the class {bounds.excerpt(name)}", name, bounds.MAX_TAG)
        if not isinstance(tags, list | tuple) or not tags or not all(isinstance(tag, str) and tag for tag in tags):
            raise ValueError(
                f"The class {name} must be a list of tags such as object:car or object:*, not {bounds.short_repr(tags)}."
            )
        bounds.check_count(f"tags in the class {name}", len(tags), bounds.MAX_CLASS_TAGS)
        for tag in tags:
            bounds.check_tag(tag)


_CHECKS: dict[str, Callable[[Any], None]] = {"by": _check_by, "minutes": _check_minutes, "classes": _check_classes}
"""Raises `ValueError` for a value that an option cannot take."""

PLACEMENTS: dict[str, type[Placement]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "balanced": Balanced,
    "time_of_day": TimeOfDay,
    "timeline": Timeline,
    "content": Content,
    "by_video": ByVideo,
    "hybrid": Hybrid,
    "semantic": Semantic,
    "hierarchical": Hierarchical,
}
