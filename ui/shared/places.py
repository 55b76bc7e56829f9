"""A collection that can be chosen, one that is open, and which folders are collections. Nothing here imports Streamlit."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.system import shipped
from engine.types import Frame

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.reports import ModalityGap

PlaceKind = Literal["town", "large", "folder"]
TOWN, LARGE = "town", "large-town"
"""Keys of the sample town, and of the large town with `LARGE_FRAMES` frames."""
LARGE_FRAMES = int(os.environ.get("LARGE_TOWN_FRAMES") or 100_000)
"""The environment variable is for demonstrations and tests on slow machines."""
EXAMPLES = shipped.DATA / "examples.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A collection that can be chosen."""

    key: str
    """Its name in links."""
    name: str
    """Its name for people."""
    kind: PlaceKind
    path: Path

    @property
    def made(self) -> bool:
        """Whether it exists; the sample town is made when it is first opened."""
        return is_collection(self.path)


@dataclass(frozen=True, slots=True)
class Opened:
    """A collection that is open."""

    place: Place
    collection: Collection
    examples: tuple[tuple[str, Frame], ...]
    """Queries that are known to work, each with a frame that answers it."""
    synthetic: bool
    """Whether its vectors were made up."""
    textless: str
    """Why it cannot be searched by typed words, one sentence; empty if it can."""
    gap: ModalityGap | None
    """The distance between its texts and frames; None if no texts are stored."""

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def kind(self) -> PlaceKind:
        return self.place.kind


def is_collection(path: Path) -> bool:
    """Whether this folder is a collection that the app may read."""
    try:
        return (path / "catalog.sqlite").is_file()
    except OSError:
        return False


def is_text(name: str) -> bool:
    """Whether the name of a folder can be shown: the system allows names that are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def example_queries() -> list[str]:
    """Queries that are known to work on the sample town; empty if none are shipped."""
    if not EXAMPLES.is_file():
        return []
    return [str(example["query"]) for example in json.loads(EXAMPLES.read_text("utf-8"))]


def tried_examples(collection: Collection) -> tuple[tuple[str, Frame], ...]:
    """The example queries with one frame each, no frame twice.

    They are searched through another handle, so that the cache of this one stays empty and the first search of a visitor
    shows what a first search costs.
    """
    with type(collection).open(collection.path) as scout:
        scout.use_encoder(collection.encoder)
        scout.search("a street", 1)
        frames: dict[str, Frame] = {}
        for query in example_queries():
            hits = scout.search(query, 4, per_shot=1).hits
            taken = {frame.frame_id for frame in frames.values()}
            fresh = next((hit for hit in hits if hit.frame_id not in taken), None)
            if fresh is not None:
                frames[query] = fresh
    return tuple(frames.items())
