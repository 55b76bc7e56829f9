"""Placements by content: by the tags of frames, by tags and time, and by the cells of their vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.frames import FrameColumns
from engine.layout.by_time import BY_DAYPART
from engine.layout.grouping import group_cells, level
from engine.layout.placement import NumberedShards, PlacementOption, Shards, Survey, options_of
from engine.system import bounds

PIECES = 3
"""Pieces that a video is cut into at most."""
HYBRID_SPARE = 0.25
"""Room that the hybrid shards of a build have to spare, all together, in shards: none stays under 0.75 of the mean where no piece is above it."""
HYBRID_FILL = 1.1
"""Multiple of the mean up to which they take later videos: they are full by then, and little should still find its home."""
OTHER = "other"
"""Name of the shard for frames without a tag of any class."""

CLASSES: dict[str, list[str]] = {
    "people": ["object:person", "object:man", "object:woman", "object:boy", "object:girl", "object:human_*"],
    "vehicles": [
        *("object:car", "object:bus", "object:bicycle*", "object:train", "object:boat", "object:vehicle*"),
        *("object:land_vehicle", "object:truck", "object:van", "object:taxi", "object:motorcycle", "object:wheel"),
        *("object:tire", "object:watercraft", "object:canoe", "object:aircraft", "object:airplane"),
        *("object:helicopter", "object:limousine", "object:ambulance", "object:auto_part", "object:snowmobile"),
    ],
    "text": [
        *("text:*", "object:poster", "object:billboard", "object:traffic_sign", "object:stop_sign", "object:book"),
        *("object:scoreboard", "object:whiteboard", "object:envelope", "object:digital_clock"),
    ],
    "indoor": [
        *("scene:office", "scene:kitchen", "scene:living room", "scene:living_room", "object:furniture"),
        *("object:table", "object:desk", "object:chair", "object:couch", "object:bed", "object:shelf", "object:closet"),
        *("object:bookcase", "object:cabinetry", "object:curtain", "object:pillow", "object:lamp", "object:tableware"),
        *("object:picture_frame", "object:television", "object:computer_*", "object:laptop", "object:houseplant"),
        *("object:kitchen*", "object:home_appliance", "object:office_supplies", "object:vase", "object:bowl"),
    ],
    "outdoor": [
        *("scene:street", "scene:park", "scene:beach", "scene:harbour", "scene:farm", "scene:playground"),
        *("scene:station", "weather:*", "object:tree", "object:palm_tree", "object:plant", "object:flower"),
        *("object:building", "object:house", "object:skyscraper", "object:tower", "object:office_building"),
        *("object:street_light", "object:traffic_light", "object:swimming_pool", "object:fountain", "object:tent"),
        *("object:cow", "object:cattle", "object:horse", "object:bird"),
    ],
}
"""What frames are sorted by unless told otherwise: tags of the shipped vocabulary and of Open Images in lower case."""


def _listed(classes: Mapping[str, Sequence[str]]) -> list[list[Any]]:
    """Classes as JSON that keeps their order whoever sorts its keys."""
    return [[name, list(tags)] for name, tags in classes.items()]


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


_CLASSES: Mapping[str, PlacementOption] = {"classes": PlacementOption(CLASSES, _check_classes)}


class Content:
    """A search for tags of a class opens few shards; any other opens all, and the first classes take the most."""

    NAME: ClassVar[str] = "content"
    OPTIONS: ClassVar[Mapping[str, PlacementOption]] = _CLASSES
    routed: ClassVar[bool] = False
    whole: ClassVar[str] = ""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._classes = dict(state["classes"])

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        return cls({"classes": _listed(options_of(cls, survey.options)["classes"])})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        return class_of(frames, self._classes)

    def names(self) -> tuple[str, ...]:
        return (*self._classes, OTHER)


class Hybrid(NumberedShards):
    """Even shards, a video in three of them at most, and like times and classes close; no search is sure to open few."""

    NAME = "hybrid"
    whole = "parts of videos"
    OPTIONS = _CLASSES

    def __init__(self, state: Mapping[str, Any]) -> None:
        super().__init__(state)
        self._classes = dict(state["classes"])

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        return cls({"n_shards": survey.n_shards, "classes": _listed(options_of(cls, survey.options)["classes"])})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        n_times, n_classes = len(BY_DAYPART.names()), len(self._classes) + 1
        piece, sizes, classes = cut_videos(frames.video, class_of(frames, self._classes), n_classes)
        time = BY_DAYPART.assign(frames, loads)
        times = np.bincount(piece * n_times + time, minlength=len(sizes) * n_times).reshape(-1, n_times).argmax(1)
        kind = times * n_classes + classes
        return self._homes(kind, n_times * n_classes, sizes, loads)[piece]

    def _homes(
        self, kind: NDArray[np.int64], n_kinds: int, sizes: NDArray[np.int64], loads: NDArray[np.int64]
    ) -> Shards:
        """Shard of each piece, the largest first.

        The kinds of pieces divide the ring of shards among them. A piece goes to the least loaded shard of its own
        range that has room, or on around the ring to the first that has: consistent hashing with bounded loads
        (Mirrokni, Thorup, Zadimoghaddam 2018). A piece too large for any goes to the least loaded of all, and counts for nothing
        where the room of the others is shared out.
        """
        n = self._n_shards
        load = loads.astype(np.int64)
        capacity = (HYBRID_FILL if load.any() else 1 + HYBRID_SPARE / n) * level(np.concatenate([load, sizes]), n)
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


def class_of(frames: FrameColumns, classes: Mapping[str, Sequence[str]]) -> NDArray[np.int32]:
    """Number (n,) of the first class with a tag that the frame carries; the number of classes if there is none."""
    found = np.full(len(frames), len(classes), np.int32)
    for tag in frames.tags.names:
        for i, patterns in enumerate(classes.values()):
            if any(tag == each or (each.endswith("*") and tag.startswith(each[:-1])) for each in patterns):
                np.minimum(found, i, out=found, where=frames.tags.mask(tag))
                break
    return found


def cut_videos(
    video: NDArray[np.int32], kind: NDArray[np.int32], n_kinds: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut videos by the kinds of their frames: a piece for each of the most frequent, the last for all the rest.

    Returns
    -------
    (n,) piece of each frame; (n_pieces,) frames in each piece; (n_pieces,) most frequent kind in each
    """
    _, owner_of = np.unique(video, return_inverse=True)
    parts, part_of, counts = np.unique(owner_of * n_kinds + kind, return_inverse=True, return_counts=True)
    owner, part_kind = np.divmod(parts, n_kinds)
    rank = np.empty(len(parts), np.int64)
    rank[np.lexsort((part_kind, -counts, owner))] = np.arange(len(parts)) - np.searchsorted(owner, owner)
    pieces, piece_of = np.unique(owner * PIECES + np.minimum(rank, PIECES - 1), return_inverse=True)
    sizes = np.bincount(piece_of, weights=counts, minlength=len(pieces)).astype(np.int64)
    kinds = np.zeros(len(pieces), np.int64)
    leads = rank < PIECES
    kinds[piece_of[leads]] = part_kind[leads]
    return piece_of[part_of], sizes, kinds


class Semantic(NumberedShards):
    """Whole cells, grouped by likeness: a query opens few shards, whose sizes are from a quarter of to twice the mean as far as cells allow."""

    NAME = "semantic"
    routed = True
    whole = "cells"

    def __init__(self, state: Mapping[str, Any]) -> None:
        super().__init__(state)
        self._shard_of_cell = np.asarray(state["shard_of_cell"], np.int32)

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        options_of(cls, survey.options)
        return cls._of(survey, family=None)

    @classmethod
    def _of(cls, survey: Survey, family: NDArray[np.int32] | None) -> Self:
        profiles = survey.cells.centroids if survey.profiles is None else survey.profiles()
        demand = None if survey.demand is None else survey.demand()
        shard_of_cell = group_cells(profiles, survey.cell_sizes, survey.n_shards, family, demand)
        return cls({"n_shards": survey.n_shards, "shard_of_cell": shard_of_cell.tolist()})

    def assign(self, frames: FrameColumns, loads: NDArray[np.int64]) -> Shards:
        if frames.cell.max(initial=-1) >= len(self._shard_of_cell):
            raise CorruptData("The layout knows fewer cells than there are; run a build to lay the shards out anew.")
        return self._shard_of_cell[frames.cell]


class Hierarchical(Semantic):
    """Whole groups of cells: a query opens few shards, and they are quickly laid out; sizes are coarser than semantic's."""

    NAME = "hierarchical"

    @classmethod
    def learn(cls, survey: Survey) -> Self:
        options_of(cls, survey.options)
        if not survey.cells.two_level:
            raise ValueError("The placement hierarchical needs cells in two levels, and these have one; train them so.")
        return cls._of(survey, survey.cells.group_of)
