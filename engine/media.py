"""Pictures and clips of a collection: derived files, made anew when they are missing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from engine.clip import Clip, cut_clip
from engine.durable import sync_folder, write_files
from engine.errors import NotFound
from engine.manifest import VideoRow
from engine.types import VideoInfo

KEEP_CLIPS = 200
"""Clips kept per collection; the oldest go first."""


def folder(collection: Path, number: int) -> Path:
    """Where the thumbnails of a video lie."""
    return collection / "media" / str(number)


def write_thumbnails(collection: Path, number: int, images: Mapping[int, bytes]) -> list[tuple[int, bytes]]:
    """Write and sync JPEGs by frame index; returns the hash of each."""
    place = folder(collection, number)
    if not place.is_dir():
        place.mkdir(parents=True)
        sync_folder(place.parent)
    write_files((place / f"{index}.jpg", image) for index, image in images.items())
    return [(index, _hash(image)) for index, image in images.items()]


def digest(hashes: Iterable[tuple[int, bytes]]) -> str:
    """One hash over the hashes of a video's thumbnails; empty for none."""
    listed = sorted(hashes)
    return _hash(repr(listed).encode()).hex() if listed else ""


def problems(collection: Path, row: VideoRow) -> list[str]:
    """What is wrong with the thumbnails of a video, a sentence at most."""
    found = folder(collection, row.number).glob("*.jpg") if row.media else ()
    try:
        if digest((int(path.stem), _hash(path.read_bytes())) for path in found) == row.media:
            return []
    except (OSError, ValueError):
        pass
    return [f"The thumbnails of {row.video_id} are not what was written; delete the video and add it again."]


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def thumbnail(collection: Path, number: int, frame_index: int) -> Path | None:
    """The stored JPEG of a frame."""
    path = folder(collection, number) / f"{int(frame_index)}.jpg"
    return path if path.is_file() else None


def poster(collection: Path, number: int) -> Path | None:
    """The thumbnail from the middle of a video."""
    place = folder(collection, number)
    indices = sorted(int(path.stem) for path in place.glob("*.jpg")) if place.is_dir() else []
    return place / f"{indices[len(indices) // 2]}.jpg" if indices else None


def clip(collection: Path, video: VideoInfo, seconds: float, before: float, after: float) -> Clip:
    """A short clip around a time, cut from the video file on first use.

    Raises
    ------
    NotFound
        If the collection holds no video file for it, or the file is gone.
    """
    source = Path(video.source) if video.source else None
    if source is None or not source.is_file():
        where = f"expected at {source}" if source else "only its frames were stored"
        raise NotFound(f"The video file of {video.video_id} is not here ({where}), so there is no clip to play.")
    clips = collection / "clips"
    clips.mkdir(exist_ok=True)
    path = clips / f"{video.number}-{round(seconds * 1000)}-{round(before * 1000)}-{round(after * 1000)}.mp4"
    note = path.with_suffix(".json")
    if path.is_file() and note.is_file():
        return Clip(path, **json.loads(note.read_text()))
    made = cut_clip(source, seconds, path, before=before, after=after)
    note.write_text(json.dumps({"start": made.start, "duration": made.duration, "offset": made.offset}))
    _forget_oldest(clips)
    return made


def _forget_oldest(clips: Path) -> None:
    made = sorted(clips.glob("*.mp4"), key=os.path.getmtime)
    for old in made[:-KEEP_CLIPS]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
