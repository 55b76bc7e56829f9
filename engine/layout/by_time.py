"""Placements by time: by the wall clock, and by the time in the video."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from engine.frames import HOUR, NO_TIME, FrameColumns
from engine.layout.placement import PlacementOption, Shards, Survey, options_of
from engine.system import bounds
from engine.types import DAYPARTS, daypart_hours

NO_RECORDING_TIME = "no recording time"
"""Name of the shard for frames without a wall-clock time."""
_DAYPART_HOURS = [[part, list(daypart_hours(part))] for part in DAYPARTS]
_SHORTEST = 1e-9
"""Minutes of a chunk; all videos shorter than that are one moment."""


def _check_by(value: Any) -> None:
    if value not in ("daypart", "hour"):
        raise ValueError(f"The option by must be daypart or hour, not {bounds.short_repr(value)}.")


class TimeOfDay:
    """A search at some time of day opens few shards; any other opens all, and what is filmed most fills its shard."""

    NAME: ClassVar[str] = "time_of_day"
    OPTIONS: ClassVar[Mapping[str, PlacementOption]] = {"by": PlacementOption("daypart", _check_by)}
    routed: ClassVar[bool] = False
    whole: ClassVar[str] = ""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        hours_of_shard = {str(name): list(hours) for name, hours in state["hours"]}
        self._names = (*hours_of_shard, NO_RECORDING_TIME)
        self._shard_of_hour = np.zeros(24, np.int32)
        for shard, hours in enumerate(hours_of_shard.values()):
            self._shard_of_hour[hours] = shard

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        if options_of(cls, survey.options)["by"] == "daypart":
            return cls({"hours": _DAYPART_HOURS})
        n = min(survey.n_shards, 24)
        hours_of_shard = [list(range(first, 24, n)) for first in range(n)]
        return cls({"hours": [[_title(hours), hours] for hours in hours_of_shard]})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        shard = self._shard_of_hour[frames.captured_at // HOUR % 24]
        shard[frames.captured_at == NO_TIME] = len(self._names) - 1
        return shard

    def names(self) -> tuple[str, ...]:
        return self._names


BY_DAYPART = TimeOfDay({"hours": _DAYPART_HOURS})
"""A shard for each part of the day, and one for frames without a time."""


def _title(hours: Sequence[int]) -> str:
    return ("hour " if len(hours) == 1 else "hours ") + ", ".join(map(str, hours))


def _check_minutes(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100_000:
        raise ValueError(
            f"The option minutes must be a number above 0 and at most 100,000, not {bounds.short_repr(value)}."
        )
    if value < _SHORTEST:
        raise ValueError(f"The option minutes is {value:g}; give {_SHORTEST:g} or more.")


class Timeline:
    """A search in some minutes of every video opens few shards; any other opens all, and late ones are small."""

    NAME: ClassVar[str] = "timeline"
    OPTIONS: ClassVar[Mapping[str, PlacementOption]] = {"minutes": PlacementOption(None, _check_minutes)}
    routed: ClassVar[bool] = False
    whole: ClassVar[str] = ""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._minutes = float(state["minutes"])
        self._n_shards = int(state["n_shards"])

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        share = survey.seconds / 60 / survey.n_shards
        minutes = options_of(cls, survey.options)["minutes"] or (_round_up(share) if share > _SHORTEST else 1.0)
        return cls({"n_shards": survey.n_shards, "minutes": minutes})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        chunk = np.maximum(frames.seconds, 0.0) // (60 * self._minutes)
        return np.minimum(chunk, self._n_shards - 1).astype(np.int32)

    def names(self) -> tuple[str, ...]:
        step, unit = (self._minutes, "min") if self._minutes >= 1 else (60 * self._minutes, "s")
        ends = [f"{i * step:.12g}" for i in range(self._n_shards)]
        return (*(f"{start}-{stop} {unit}" for start, stop in pairwise(ends)), f"from {ends[-1]} {unit}")


def _round_up(x: float) -> float:
    """Three significant digits, so that a name stays short; 0 for what is not above it."""
    if x <= 0:
        return 0.0
    scale = 10.0 ** (2 - math.floor(math.log10(x)))
    return math.ceil(round(x * scale, 6)) / scale
