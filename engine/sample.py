"""The sample town: the collection that the app opens when it is given none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from engine.collection import Collection
from engine.durable import FileLock
from engine.encoder import SHIPPED, Encoder, load_encoder
from engine.errors import Busy, EngineError
from engine.ingest import Progress, ingest

VIDEOS = Path(__file__).resolve().parent.parent / "data" / "videos"
N_SHARDS = 12


def sample_collection(
    path: Path, progress: Callable[[Progress], None] = lambda now: None, encoder: Encoder | None = None
) -> Collection:
    """Open the sample town at `path`, or make it first; an unfinished one goes on where it stopped.

    Raises
    ------
    Busy
        If another process is making it right now.
    EngineError
        If the sample videos are missing or cannot be read.
    """
    encoder = encoder or load_encoder(SHIPPED)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock"), shared=False) as lock:
        if not lock.acquire():
            raise Busy(f"The sample town in {path} is being made by another process; try again in half a minute.")
        collection = _open_or_create(path, encoder)
        collection.use_encoder(encoder)
        if not collection.built:
            videos = sorted(VIDEOS.glob("*.mp4"))
            if not videos:
                raise EngineError(f"There are no sample videos in {VIDEOS}; get the repository with its data folder.")
            report = ingest(collection, videos, progress=progress)
            if report.refused:
                raise EngineError(f"A sample video cannot be read: {report.refused[0][1]}")
        return collection


def _open_or_create(path: Path, encoder: Encoder) -> Collection:
    """The collection at `path`; anything unfinished that is not a collection is made anew."""
    if (path / "catalog.sqlite").is_file():
        return Collection.open(path)
    if path.is_dir() and not any(path.iterdir()):
        shutil.rmtree(path)
    return Collection.create(path, dim=encoder.dim, encoder=SHIPPED, n_shards=N_SHARDS, route="routed")
