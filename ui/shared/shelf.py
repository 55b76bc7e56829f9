"""The collections of this server: which there are, who uses which, and closing those that nobody uses. Nothing here knows Streamlit."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.errors import EncoderError
from engine.system import shipped
from engine.types import Frame
from ui.shared.jobs import Board, Job, Report

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.embedding import Encoder
    from engine.reports import ModalityGap
    from engine.system import Progress

Kind = Literal["town", "large", "folder"]
TOWN, LARGE = "town", "large-town"
"""Keys of the sample town, and of the large town of the usual size."""
LARGE_FRAMES = 100_000
"""Frames of that one."""
GRACE = 20.0
"""Seconds that a collection stays open after its last visitor: long enough for what is still being drawn."""
_NAME = re.compile(r"[^\W_][\w .-]{0,59}")
BUDGET = 64_000_000
"""Bytes of the shard cache of the sample and of the large town: ample for them, and not beyond the scale of a figure."""
EXAMPLES = shipped.DATA / "examples.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A collection that can be chosen."""

    key: str
    """What links call it."""
    name: str
    """What people call it."""
    kind: Kind
    path: Path

    @property
    def made(self) -> bool:
        """Whether it is there; the town is made when it is first opened."""
        return _is_collection(self.path)


@dataclass(frozen=True, slots=True)
class Opened:
    """A collection, ready."""

    place: Place
    collection: Collection
    examples: tuple[tuple[str, Frame], ...]
    """Queries that are known to work, each with a frame that answers it."""
    synthetic: bool
    """Whether its vectors were made up."""
    textless: str
    """Why it cannot be searched by typed words, one sentence; empty where it can."""
    gap: ModalityGap | None
    """How far texts lie from frames; None where no texts are stored."""

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def kind(self) -> Kind:
        return self.place.kind


class Shelf:
    """Opens each collection once, however many visitors use it."""

    def __init__(self, board: Board, town: Path, root: Path) -> None:
        """Take where the sample town is or will be, and the folder whose collections may be chosen."""
        self._board = board
        self._town = town
        self.root = root
        self._users: dict[str, str] = {}
        """Key of the collection that each visitor uses."""
        self._left: dict[str, float] = {}
        """When the last visitor left a collection."""
        self._encoders: dict[str, Encoder] = {}
        self._lock = threading.Lock()
        self._encoder_lock = threading.Lock()

    def places(self) -> dict[str, Place]:
        """All collections that can be chosen, by key."""
        found = [
            Place(TOWN, "Sample town", "town", self._town),
            Place(LARGE, "Large town", "large", self.large_path(LARGE_FRAMES)),
        ]
        for path in sorted(self._town.parent.glob(f"{LARGE}-*")):
            size = path.name.removeprefix(f"{LARGE}-")
            if size.isdecimal() and int(size) != LARGE_FRAMES and _is_collection(path):
                found.append(Place(path.name, f"Large town, {int(size):,} frames", "large", path))
        if self.root.is_dir():
            for path in sorted(self.root.iterdir()):
                if _is_collection(path) and _is_text(path.name):
                    found.append(Place(f"folder-{path.name}", path.name, "folder", path))
        return {place.key: place for place in found}

    def large_path(self, n_frames: int) -> Path:
        """Where the large town of so many frames is, or will be."""
        return self._town.parent / f"{LARGE}-{n_frames}"

    def new_path(self, name: str) -> Path:
        """Where a new collection of this name goes.

        Raises
        ------
        ValueError
            If the name cannot be that of a folder everywhere, or is taken.
        """
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise ValueError(
                "Name the collection with letters, digits, spaces, dots, - and _ (at most 60, the first a letter or a digit)."
            )
        if (self.root / name).exists():
            raise ValueError(f"There is something called {name} already; choose another name.")
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root / name

    def take(self, visitor: str, place: Place) -> None:
        """Note that a visitor uses this collection from now on, and no other."""
        with self._lock:
            before = self._users.get(visitor)
            if before == place.key:
                return
            self._users[visitor] = place.key
            self._left.pop(place.key, None)
        if before is not None:
            self._check_out(before)

    def leave(self, visitor: str) -> None:
        """Note that a visitor has gone."""
        with self._lock:
            before = self._users.pop(visitor, None)
        if before is not None:
            self._check_out(before)

    def job(self, place: Place) -> Job[Opened] | None:
        """The opening of a collection, if it has begun."""
        return self._board.get(_name(place.key))

    def open(self, place: Place, visitor: str = "") -> Job[Opened]:
        """Open a collection, making it first if need be, which only the visitor who asked for it may stop."""
        return self._board.once(_name(place.key), lambda report: self._open(place, report), visitor)

    def again(self, place: Place) -> None:
        """Forget an opening that failed."""
        self._board.forget(_name(place.key))

    # Closing

    def _check_out(self, key: str) -> None:
        """Close a collection a while from now, if nobody has come back by then. The sample stays open: everybody starts there."""
        with self._lock:
            if key == TOWN or key in self._users.values():
                return
            self._left[key] = time.monotonic()
        timer = threading.Timer(GRACE, self._sweep)
        timer.daemon = True
        timer.start()

    def _sweep(self) -> None:
        with self._lock:
            now = time.monotonic()
            gone = [
                key for key, left in self._left.items() if now - left >= GRACE * 0.9 and key not in self._users.values()
            ]
            jobs: list[Job[Opened] | None] = [self._board.get(_name(key)) for key in gone]
            for key, job in zip(gone, jobs, strict=True):
                if job is None or not job.running:
                    del self._left[key]
                    self._board.forget(_name(key))
        for job in jobs:
            if job is not None and not job.running and job.result is not None:
                job.result.collection.close()

    # Opening

    def _open(self, place: Place, report: Report) -> Opened:
        if place.kind == "town":
            return self._open_town(place, report)
        if place.kind == "large":
            return self._open_large(place, report)
        from engine.collection import Collection

        report("Opening the collection", 0.1, 1.0)
        collection = Collection.open(place.path)
        textless = ""
        name = collection.settings.encoder
        try:
            report(f"Loading the encoder {name}" if name else "Reading what is in it", 0.3, 1.0)
            if name:
                collection.trust.check_encoder(name)
                collection.use_encoder(self._encoder(name))
            else:
                textless = "This collection names no encoder: ask with a stored query or a frame, or import it again with an encoder."
        except EncoderError as error:
            textless = str(error)
        made_up = any(video.about.get("made") == "synthetic" for video in collection.videos()[:1])
        examples = () if textless or name != self._shipped() else _tried(collection)
        return Opened(place, collection, examples, made_up, textless, collection.modality_gap())

    def _open_town(self, place: Place, report: Report) -> Opened:
        from engine.datasets import sample_collection, sample_videos
        from engine.system import part_of

        report("Loading the encoder", 0.0, 1.0)
        encoder = self._encoder(self._shipped())
        collection = sample_collection(
            place.path, part_of(video_progress(report, len(sample_videos())), 0.03, 0.97), encoder
        )
        collection.cache.set_budget(BUDGET)
        report("Trying the examples", 0.97, 1.0)
        return Opened(
            place, collection, _tried(collection), synthetic=False, textless="", gap=collection.modality_gap()
        )

    def make_large(self, n_frames: int, report: Report) -> Collection:
        """Open the large town of so many frames, made first if need be, as the sample is; the caller closes it."""
        from engine.datasets import make_large_town

        town = self.open(self.places()[TOWN])
        while not town.wait(0.3):
            report(f"The sample town first: {town.note}", 0.0, 1.0)
        return make_large_town(
            self.large_path(n_frames),
            town.value().collection,
            n_frames,
            report,
        )

    def _open_large(self, place: Place, report: Report) -> Opened:
        collection = self.make_large(int(place.path.name.removeprefix(f"{LARGE}-")), report)
        collection.use_encoder(self._encoder(self._shipped()))
        collection.cache.set_budget(BUDGET)
        return Opened(place, collection, _tried(collection), synthetic=True, textless="", gap=collection.modality_gap())

    def _encoder(self, name: str) -> Encoder:
        """An encoder, loaded once for all collections."""
        from engine.embedding import load_encoder

        with self._encoder_lock:
            if name not in self._encoders:
                self._encoders[name] = load_encoder(name)
            return self._encoders[name]

    @staticmethod
    def _shipped() -> str:
        from engine.embedding import SHIPPED

        return SHIPPED


def video_progress(report: Progress, n_videos: int) -> Progress:
    """Words for people where videos are looked at one by one, and then sorted into shards."""
    seen: list[str] = []

    def in_words(stage: str, done: float, total: float) -> None:
        doing, _, name = stage.partition(" ")
        if doing == "ingest":
            if name not in seen:
                seen.append(name)
            stage = f"Looking at {name} ({len(seen)} of {n_videos})"
        else:
            stage = "Sorting the frames into shards"
        report(stage, done, total)

    return in_words


def example_queries() -> list[str]:
    """Queries that are known to work on the sample; empty if none are shipped."""
    if not EXAMPLES.is_file():
        return []
    return [str(example["query"]) for example in json.loads(EXAMPLES.read_text("utf-8"))]


def _tried(collection: Collection) -> tuple[tuple[str, Frame], ...]:
    """The examples with a frame each, no frame twice.

    They are searched through a handle of their own, so that the cache of the shared one is still empty and the first
    search of a visitor shows what it costs.
    """
    with type(collection).open(collection.path) as scout:
        scout.use_encoder(collection.encoder)
        scout.search("a street", 1)
        found: dict[str, Frame] = {}
        for query in example_queries():
            hits = scout.search(query, 4, per_shot=1).hits
            taken = {frame.frame_id for frame in found.values()}
            fresh = next((hit for hit in hits if hit.frame_id not in taken), None)
            if fresh is not None:
                found[query] = fresh
    return tuple(found.items())


def _name(key: str) -> str:
    return f"open {key}"


def _is_collection(path: Path) -> bool:
    try:
        return (path / "catalog.sqlite").is_file()
    except OSError:  # A folder that the app may not look into is none of its collections.
        return False


def _is_text(name: str) -> bool:
    """Whether the name of a folder can be shown: it need not be UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
