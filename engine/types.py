"""Values that pass between the engine's modules and out of it. All are immutable; units stand under each field."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DAYPARTS: dict[str, tuple[int, int]] = {
    "morning": (5, 12),
    "afternoon": (12, 17),
    "evening": (17, 21),
    "night": (21, 5),
}
"""Parts of the day by wall clock: first hour (included) and last hour (excluded); night wraps around midnight."""


def daypart_hours(part: str) -> tuple[int, ...]:
    """The hours (0-23) of a part of the day, rising."""
    start, stop = DAYPARTS[part]
    return tuple(range(start, stop)) if start < stop else (*range(stop), *range(start, 24))


def canonical_name(text: str) -> str:
    """The one spelling of an id or a tag: Unicode's composed form (NFC), without blanks and marks that have no width around it.

    Names of files on macOS come decomposed, and the same name in a table composed.
    """
    return unicodedata.normalize("NFC", text).strip(_AROUND)


_AROUND = " \t\r\n\u200b\ufeff" + "".join(chr(i) for i in range(0x3001) if unicodedata.category(chr(i)) == "Zs")


QueryKind = Literal["text", "image"]
"""What a query vector was made from; texts lie farther from the frames than images do."""
RouterName = Literal["learned", "spread", "centroid"]
"""How cells are ranked for a query."""
SearchAim = Literal["rows", "shards"]
"""What a search with a recall spends least of: rows compared, or shards opened."""

_FAR = 1e300
"""Seconds beyond any video."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that a frame must meet, combined with *and*. An empty filter lets every frame pass."""

    videos: tuple[str, ...] = ()
    """Ids of the videos to look in; empty means all."""
    seconds: tuple[float | None, float | None] = (None, None)
    """Time in the video, seconds: from (included) and to (excluded); None leaves that end open."""
    captured: tuple[datetime | None, datetime | None] = (None, None)
    """Wall-clock time, naive local: from (included) and to (excluded); frames without one do not match."""
    dayparts: tuple[str, ...] = ()
    """Names of `DAYPARTS`, any of which may hold; frames without a wall-clock time do not match."""
    hours: tuple[int, ...] = ()
    """Hours of the day, 0-23, any of which may hold; frames without a wall-clock time do not match."""
    tags_any: tuple[str, ...] = ()
    tags_all: tuple[str, ...] = ()
    tags_none: tuple[str, ...] = ()
    """Tags as `kind:label`, such as `scene:street` or `object:dog`."""

    def __post_init__(self) -> None:
        for part in self.dayparts:
            if part not in DAYPARTS:
                raise ValueError(f"Unknown part of the day {part!r}; use {', '.join(DAYPARTS)}.")
        if any(not 0 <= hour <= 23 for hour in self.hours):
            raise ValueError(f"The hours {self.hours} are not all between 0 and 23.")
        for second in self.seconds:
            if second is not None and (second != second or (isinstance(second, int) and abs(second) > _FAR)):
                raise ValueError("The seconds filter names no time in a video; give a number of seconds.")
        if any(at is not None and at.tzinfo is not None for at in self.captured):
            raise ValueError(
                "The captured filter has a time zone; recordings are filed by local time, so leave it out."
            )
        for name in ("seconds", "captured"):
            start, stop = getattr(self, name)
            if start is not None and stop is not None and start >= stop:
                raise ValueError(f"The {name} filter ends at {stop}, which is not after its start {start}.")

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags that it names."""
        return (*self.tags_any, *self.tags_all, *self.tags_none)

    def __bool__(self) -> bool:
        return any(getattr(self, name) not in ((), (None, None)) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class NewVideo:
    """A video to be stored."""

    video_id: str
    """Kept as its `canonical_name`."""
    title: str = ""
    source: str = ""
    """Path of the video file; empty where there is none."""
    duration: float = 0.0
    """Seconds."""
    fps: float = 0.0
    captured_at: datetime | None = None
    """Wall-clock start of the recording, naive local."""
    fingerprint: str = ""
    """Tells the content apart: the same id with another fingerprint is refused. Empty takes a hash of the frames."""
    pictures: str = ""
    """Folder with an image per stored frame, numbered in their order from 1 (`001.jpg`) or 0, or by `frame_index`; empty where there is none."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What else is known, such as `author` or `watch_url`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "video_id", canonical_name(self.video_id))


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames row by row, of one video or of several."""

    vectors: NDArray[np.floating]
    """(n, dim), any float type; normalised on storing for `ip`."""
    frame_index: NDArray[np.int64]
    seconds: NDArray[np.float64]
    video: NDArray[np.int32] | None = None
    """(n,) place of each frame's video in the list of videos given with the batch; None where that is a single one."""
    captured_at: NDArray[np.datetime64] | None = None
    """(n,) wall-clock time per frame, naive local, NaT where unknown; None counts from the start of the recording."""
    shot: NDArray[np.int32] | None = None
    tags: tuple[tuple[str, ...], ...] = ()
    """Tags per frame; empty for none at all. Each is kept as its `canonical_name`."""
    thumbnails: tuple[bytes, ...] = ()
    """JPEG per frame; empty for none at all."""

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True)
class Frame:
    """One stored frame."""

    frame_id: int
    """Number given by the catalog in input order; never reused."""
    video_id: str
    title: str
    frame_index: int
    """Position among the video's decoded frames, from 0; what a submission asks for."""
    seconds: float
    """Presentation time from the start of the video, from the stream's pts."""
    captured_at: datetime | None
    """Wall-clock time of the frame, naive local, where the recording's start is known."""
    shot: int
    """Number of the shot within the video, from 0; -1 where shots are not known."""
    tags: tuple[str, ...]
    shard: int


@dataclass(frozen=True, slots=True)
class Hit(Frame):
    """One frame that answers a query."""

    score: float
    """Inner product with the query, or minus the squared distance for `l2`; higher is better."""


class ShardState(StrEnum):
    """What a search did with a shard."""

    OPENED = "opened"
    """Searched after reading it from disk."""
    CACHED = "cached"
    """Searched from memory."""
    SKIPPED = "skipped"
    """Not opened: none of the cells that the query probes lives here."""
    PRUNED = "pruned"
    """Not opened: its statistics show that no frame here can pass the filter."""
    FAILED = "failed"
    """Could not be searched; the answer lacks it."""


SEARCHED = (ShardState.OPENED, ShardState.CACHED)
"""The states of a shard that was looked into."""


class ReasonCode(StrEnum):
    """What a reason says. Beside each stand the values that belong to it; `engine.search.wording` has the sentences."""

    # Why a search is exact or routed, and how wide.
    EXACT_ASKED = "exact_asked"
    NOT_BUILT = "not_built"
    SET_TO_EXACT = "set_to_exact"
    ALL_ASKED = "all_asked"
    CELLS_ASKED = "cells_asked"
    """cells to probe, cells there are"""
    DEFAULT_CELLS = "default_cells"
    """cells to probe, cells there are"""
    CALIBRATED = "calibrated"
    """recall aimed at, cells to probe on average"""
    FEWEST_SHARDS = "fewest_shards"
    """recall aimed at, shards to open on average"""
    NOT_CALIBRATED = "not_calibrated"
    NOT_MEASURED = "not_measured"
    """recall asked for"""
    TOO_DEEP = "too_deep"
    """recall asked for"""
    FEW_FRAMES = "few_frames"
    """frames in the collection"""
    FEW_PASS = "few_pass"
    """frames that pass the filter"""
    # What a preview without a query goes by.
    NO_QUERY = "no_query"
    ONLY_FILTER = "only_filter"
    # Why a shard was searched, and how.
    SCANNED = "scanned"
    FORCED = "forced"
    CELLS_HERE = "cells_here"
    """cells probed in the shard, by how much its predicted score was boosted"""
    FRAMES_PASS = "frames_pass"
    """frames that pass the filter, frames in the shard"""
    # Why a shard was not searched.
    SKIPPED = "skipped"
    """predicted score of its best cell, and of the last cell probed, where there is one"""
    NOT_SCORED = "not_scored"
    LITTLE_EXPECTED = "little_expected"
    """share of the answer expected in it, share from which shards are opened"""
    CAPPED = "capped"
    """predicted score, by how much it was boosted, shards allowed"""
    EMPTY = "empty"
    DELETED = "deleted"
    RULED_OUT = "ruled_out"
    """what its statistics say, a clause"""
    NONE_PASSES_ALL = "none_passes_all"
    FAILED = "failed"
    """the fault, a sentence"""
    # What to keep in mind about an answer.
    CAP_AT_RANDOM = "cap_at_random"
    """placement"""
    CAP_NOT_MEASURED = "cap_not_measured"
    OLD_CALIBRATION = "old_calibration"
    """frames when it was calibrated, frames now"""
    NONE_PASSES = "none_passes"
    # Which options changed nothing.
    SCANNED_ANYWAY = "scanned_anyway"
    """the option, in words"""
    ALL_CELLS = "all_cells"
    """cells there are"""
    CAP_TOO_HIGH = "cap_too_high"
    """shards allowed, shards there are"""
    FEWER_THAN_K = "fewer_than_k"
    """frames asked for, frames that pass"""
    NONE_PREFERRED = "none_preferred"
    NO_TIES = "no_ties"
    ONE_SHARD = "one_shard"
    """workers"""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was done, as data: searches make it, and whoever reads it makes the sentence."""

    code: ReasonCode
    values: tuple[float | str, ...] = ()
    """As listed beside the code."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """One stored video."""

    number: int
    """Integer id in the catalog; names the media folder."""
    video_id: str
    """The user's id, such as `L01_V001`."""
    title: str
    source: str
    """Path of the video file; empty where only embeddings are stored."""
    duration: float
    """Seconds."""
    fps: float
    """Mean frames per second of the stream; 0 where unknown."""
    captured_at: datetime | None
    n_frames: int
    """Frames stored, not frames in the file."""
    shards: tuple[int, ...]
    """Shards that hold frames of it."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What else is known, such as `author` or `watch_url`."""


@dataclass(frozen=True, slots=True)
class ShardStats:
    """What is in one shard. Counts are supersets until deleted rows are compacted."""

    shard: int
    name: str
    n_frames: int
    videos: tuple[str, ...]
    seconds: tuple[float, float] | None
    """First and last time in a video."""
    captured: tuple[datetime, datetime] | None
    tags: dict[str, int]
    """Frames per tag."""
    scenes: dict[str, int]
    """Frames of the scenes that make up most of it, at most three."""
    summary: str
    """What it shows, one clause."""
    cells: int
    """Occupied cells."""
    segments: int
    nbytes: int
    """On disk."""
    cached_nbytes: int
    """In the cache now."""
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters of the shard cache since it was made."""

    budget: int
    """Bytes."""
    nbytes: int
    entries: int
    hits: int
    misses: int
    evictions: int


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """What is in a collection."""

    path: str
    generation: int
    dim: int
    metric: str
    store: str
    codec: str
    coded: bool
    """Whether any frames are held as codes; a small collection holds its vectors as they are stored."""
    placement: str
    encoder: str
    """Name of the encoder whose text fits; empty for none."""
    route: str
    n_frames: int
    n_videos: int
    n_cells: int
    nbytes: int
    shards: tuple[ShardStats, ...]
    tags: dict[str, int]
    cache: CacheStats
    router: str
    """How text queries are routed: `learned`, `spread`, `centroid`, or empty before a build."""
    why_router: str
    """Why, in one sentence."""
    drift: float
    """Mean squared distance of frames to their cells, in that of the frames these were trained on; 0 before a build."""
    clipped: float
    """Share of values beyond what the codec was trained on."""
    uneven: str
    """Which shards are under a quarter of the mean or over twice it, and what to do, in one sentence; empty if none is."""
    notes: tuple[str, ...]
    """What the owner should know or do, one sentence each."""
