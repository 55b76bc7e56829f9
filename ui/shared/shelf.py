"""The collections of this server: opening each one once, and closing it when its last visitor has left. Nothing here imports Streamlit."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EncoderError
from ui.shared.jobs import Board, Job, Report
from ui.shared.places import LARGE, LARGE_FRAMES, TOWN, Opened, Place, is_collection, is_text, tried_examples

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.embedding import Encoder
    from engine.system import Progress

GRACE = 20.0
"""Seconds that a collection stays open after its last visitor, long enough to finish drawing a page."""
_NAME = re.compile(r"[^\W_][\w .-]{0,59}")


class Shelf:
    """Opens each collection once, however many visitors use it."""

    def __init__(self, board: Board, town: Path, root: Path) -> None:
        """Arguments: the path of the sample town, which need not exist, and the folder whose collections can be chosen."""
        self._board = board
        self._town = town
        self.root = root
        self._users: dict[str, str] = {}
        """Key of the collection that each visitor uses."""
        self._left: dict[str, float] = {}
        """When the last visitor left a collection, seconds of the monotonic clock."""
        self._encoders: dict[str, Encoder] = {}
        self._lock = threading.Lock()
        self._encoder_lock = threading.Lock()

    def places(self) -> dict[str, Place]:
        """All collections that can be chosen, by their keys."""
        places = [
            Place(TOWN, "Sample town", "town", self._town),
            Place(LARGE, "Large town", "large", self.large_path(LARGE_FRAMES)),
        ]
        for path in sorted(self._town.parent.glob(f"{LARGE}-*")):
            size = path.name.removeprefix(f"{LARGE}-")
            if size.isdecimal() and int(size) != LARGE_FRAMES and is_collection(path):
                places.append(Place(path.name, f"Large town, {int(size):,} frames", "large", path))
        if self.root.is_dir():
            for path in sorted(self.root.iterdir()):
                if is_collection(path) and is_text(path.name):
                    places.append(Place(f"folder-{path.name}", path.name, "folder", path))
        return {place.key: place for place in places}

    def large_path(self, n_frames: int) -> Path:
        """Path of the large town with this many frames, which need not exist."""
        return self._town.parent / f"{LARGE}-{n_frames}"

    @property
    def uploads(self) -> Path:
        """Folder of the videos that came through browsers."""
        return self._town.parent / "uploads"

    def new_path(self, name: str) -> Path:
        """Path for a new collection of this name.

        Raises
        ------
        ValueError
            If the name is not allowed or exists already.
        """
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise ValueError(
                "Use letters, digits, spaces, dots, - and _ for the name: at most 60 characters, the first a letter or a digit."
            )
        if (self.root / name).exists():
            raise ValueError(f"{name} already exists; choose another name.")
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root / name

    def take(self, visitor: str, place: Place) -> None:
        """Record that a visitor uses this collection from now on, and no other."""
        with self._lock:
            before = self._users.get(visitor)
            if before == place.key:
                return
            self._users[visitor] = place.key
            self._left.pop(place.key, None)
        if before is not None:
            self._check_out(before)

    def lose(self, key: str, visitor: str) -> None:
        """Record that a collection is not here: the visitor uses none, and what was open of it is closed."""
        self.leave(visitor)
        job: Job[Opened] | None = self._board.get(_name(key))
        if job is not None and not job.running:
            self._board.forget(_name(key))
            if job.result is not None:
                job.result.collection.close()

    def leave(self, visitor: str) -> None:
        """Record that a visitor has left."""
        with self._lock:
            before = self._users.pop(visitor, None)
        if before is not None:
            self._check_out(before)

    def job(self, place: Place) -> Job[Opened] | None:
        """The job that opens this collection; None if it has not been started."""
        return self._board.get(_name(place.key))

    def open(self, place: Place, visitor: str = "") -> Job[Opened]:
        """Open a collection, and make it first if it does not exist; only the visitor named here can stop that."""
        return self._board.once(_name(place.key), lambda report: self._open(place, report), visitor)

    def again(self, place: Place) -> None:
        """Forget an opening that failed, so that the next one tries anew."""
        self._board.forget(_name(place.key))

    # Closing

    def _check_out(self, key: str) -> None:
        """Close a collection after `GRACE` if nobody uses it by then. The sample stays open, as every visitor starts there."""
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
            report(f"Loading the encoder {name}" if name else "Reading the collection", 0.3, 1.0)
            if name:
                collection.trust.check_encoder(name)
                collection.use_encoder(self._encoder(name))
            else:
                textless = "This collection has no encoder, so it cannot be searched by words. Use a sample query, or import it again with an encoder."
        except EncoderError as error:
            textless = str(error)
        made_up = any(video.about.get("made") == "synthetic" for video in collection.videos()[:1])
        examples = () if textless or name != self._shipped() else tried_examples(collection)
        return Opened(place, collection, examples, made_up, textless, collection.modality_gap())

    def _open_town(self, place: Place, report: Report) -> Opened:
        from engine.datasets import sample_collection, sample_videos
        from engine.system import part_of

        report("Loading the encoder", 0.0, 1.0)
        encoder = self._encoder(self._shipped())
        collection = sample_collection(
            place.path, part_of(video_progress(report, len(sample_videos())), 0.03, 0.97), encoder
        )
        report("Searching the examples", 0.97, 1.0)
        return Opened(
            place, collection, tried_examples(collection), synthetic=False, textless="", gap=collection.modality_gap()
        )

    def make_large(self, n_frames: int, report: Report) -> Collection:
        """Open the large town with this many frames, and make it and the sample first if they do not exist; the caller closes it."""
        from engine.datasets import make_large_town

        town = self.open(self.places()[TOWN])
        while not town.wait(0.3):
            report(f"First the sample town: {town.note}", 0.0, 1.0)
        return make_large_town(
            self.large_path(n_frames),
            town.value().collection,
            n_frames,
            report,
        )

    def _open_large(self, place: Place, report: Report) -> Opened:
        collection = self.make_large(int(place.path.name.removeprefix(f"{LARGE}-")), report)
        collection.use_encoder(self._encoder(self._shipped()))
        return Opened(
            place, collection, tried_examples(collection), synthetic=True, textless="", gap=collection.modality_gap()
        )

    def _encoder(self, name: str) -> Encoder:
        """The encoder of this name, loaded once for all collections."""
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
    """A few words on the progress of an ingest, for people."""
    seen: list[str] = []

    def in_words(stage: str, done: float, total: float) -> None:
        doing, _, name = stage.partition(" ")
        if doing == "ingest":
            if name not in seen:
                seen.append(name)
            stage = f"Reading the video {name}, {len(seen)} of {n_videos}"
        else:
            stage = "Sorting the frames into shards"
        report(stage, done, total)

    return in_words


def _name(key: str) -> str:
    return f"open {key}"
