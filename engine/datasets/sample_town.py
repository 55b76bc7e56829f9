"""The sample town: the collection that the app opens when it is given none."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.collection import Collection
from engine.embedding import SHIPPED, Encoder, load_encoder
from engine.errors import Busy, EngineError, NotACollection
from engine.importers import SIDECAR, ingest
from engine.routing import PROMPTS
from engine.storage import FORMAT, discard_collection
from engine.system import FileLock, Progress, file_hash, no_progress, shipped

VIDEOS = shipped.DATA / "videos"
_N_SHARDS = 12
EVERY = 0.5
"""Seconds between frames."""


def sample_collection(path: Path, progress: Progress = no_progress, encoder: Encoder | None = None) -> Collection:
    """Open the sample town at `path`, or make it first; an unfinished one goes on where it stopped.

    One that was made from other videos, another encoder or another place of the repository is made anew.

    Raises
    ------
    Busy
        If another process is making it right now.
    NotACollection
        If there is something else at `path`.
    EngineError
        If the sample videos are missing or cannot be read.
    """
    encoder = encoder or load_encoder(SHIPPED)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock"), shared=False) as lock:
        if not lock.acquire():
            raise Busy(f"The sample town in {path} is being made by another process; try again in half a minute.")
        collection = _current(path, encoder)
        collection.use_encoder(encoder)
        if not collection.built:
            report = ingest(collection, sample_videos(), every=EVERY, progress=progress)
            if report.refused:
                raise EngineError(f"A sample video cannot be read: {report.refused[0][1]}")
        return collection


def sample_videos() -> list[Path]:
    """The films of the sample town, by name."""
    paths = sorted(VIDEOS.glob("*.mp4"))
    if not paths:
        raise EngineError(f"There are no sample videos in {VIDEOS}; get the repository with its data folder.")
    return paths


def _current(path: Path, encoder: Encoder) -> Collection:
    """The collection at `path` if it was made from what ships now, else an empty one in its place."""
    note = path.with_name(path.name + ".made-from")
    origin = _origin()
    if (path / "catalog.sqlite").is_file():
        if not note.is_file():
            raise NotACollection(
                f"{path} holds a collection that is not the sample town; give the sample another folder."
            )
        if note.read_text(encoding="ascii", errors="replace") == origin:
            return Collection.open(path)
        discard_collection(path)
    note.write_text(origin, encoding="ascii")
    return Collection.create(path, dim=encoder.dim, encoder=SHIPPED, n_shards=_N_SHARDS, route="routed")


def _origin() -> str:
    """A hash over everything that the sample is made from."""
    files = [
        *sample_videos(),
        VIDEOS / SIDECAR,
        shipped.DATA / "vocabulary.toml",
        PROMPTS,
        *sorted((shipped.DATA / "encoder").glob("open_clip_*")),
    ]
    lines = [f"{file} {file_hash(file)}" for file in files if file.is_file()]
    return hashlib.blake2b(
        "\n".join([str(FORMAT), str(EVERY), str(_N_SHARDS), *lines]).encode(), digest_size=16
    ).hexdigest()
