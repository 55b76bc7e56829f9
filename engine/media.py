"""Pictures and clips of a collection: derived files, made anew when they are missing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from engine.clip import Clip, cut_clip
from engine.errors import NotFound
from engine.types import VideoInfo

KEEP_CLIPS = 200
"""Clips kept per collection; the oldest go first."""


def thumbnail(collection: Path, number: int, frame_index: int) -> Path | None:
    """The stored JPEG of a frame."""
    path = collection / "media" / str(number) / f"{int(frame_index)}.jpg"
    return path if path.is_file() else None


def poster(collection: Path, number: int) -> Path | None:
    """The thumbnail from the middle of a video."""
    folder = collection / "media" / str(number)
    indices = sorted(int(path.stem) for path in folder.glob("*.jpg")) if folder.is_dir() else []
    return folder / f"{indices[len(indices) // 2]}.jpg" if indices else None


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
    folder = collection / "clips"
    folder.mkdir(exist_ok=True)
    path = folder / f"{video.number}-{round(seconds * 1000)}-{round(before * 1000)}-{round(after * 1000)}.mp4"
    note = path.with_suffix(".json")
    if path.is_file() and note.is_file():
        return Clip(path, **json.loads(note.read_text()))
    made = cut_clip(source, seconds, path, before=before, after=after)
    note.write_text(json.dumps({"start": made.start, "duration": made.duration, "offset": made.offset}))
    _forget_oldest(folder)
    return made


def _forget_oldest(folder: Path) -> None:
    clips = sorted(folder.glob("*.mp4"), key=os.path.getmtime)
    for old in clips[:-KEEP_CLIPS]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
