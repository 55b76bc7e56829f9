"""Pictures and clips of a collection: thumbnails that came with the frames, and files made on demand and made anew when missing."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from engine.errors import CollectionError, NotFound, ReadOnly, ResourceExhausted, Untrusted, VideoError
from engine.media import Clip, cut_clip
from engine.media import sampling as films
from engine.storage.collection_files import is_made
from engine.storage.manifest import VideoRow
from engine.system import (
    Trust,
    bounds,
    is_number,
    is_real_file,
    may_write,
    read_real,
    real_folder,
    shortage,
    shortages,
    storage_errors,
    sync_folder,
    write_files,
)
from engine.types import VideoInfo

KEEP_CLIPS = 200
"""Clips kept per collection; the oldest go first."""
KEEP_PICTURES = 20_000
"""Pictures made on demand that are kept per collection; the oldest go first."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of keyframe images."""
FORMATS = ("JPEG", "PNG", "WEBP")
"""What images may be, whatever their names say: some of the formats that Pillow knows are read by other programs, such as Ghostscript."""
_MAX_NOTE_NBYTES = 4096
_WIDTH = 320
"""Pixels across a picture made on demand, as of a thumbnail."""
_DIGITS = range(3, 9)
"""Digits that a keyframe image's number may be written with."""


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
        with shortages(f"checking the thumbnails of {row.video_id}"):
            read = ((int(path.stem), _hash(read_real(path, bounds.MAX_IMAGE_NBYTES))) for path in found)
            if digest(read) == row.media:
                return []
    except ReadOnly:
        raise
    except (OSError, ValueError, CollectionError):
        pass
    return [f"The thumbnails of {row.video_id} are not what was written; delete the video and add it again."]


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def thumbnail(collection: Path, number: int, frame_index: int) -> Path | None:
    """The stored JPEG of a frame."""
    path = folder(collection, number) / f"{int(frame_index)}.jpg"
    return path if is_real_file(path) else None


def poster(collection: Path, number: int) -> Path | None:
    """The thumbnail from the middle of a video."""
    place = folder(collection, number)
    indices = sorted(int(path.stem) for path in place.glob("*.jpg") if is_number(path.stem) and is_real_file(path))
    return place / f"{indices[len(indices) // 2]}.jpg" if indices else None


def made(collection: Path, number: int, frame_id: int) -> Path:
    """Where the picture of a frame is, once it has been made on demand."""
    return place_for(collection, "pictures") / f"{number:d}-{frame_id:d}.jpg"


def place_for(collection: Path, kind: str) -> Path:
    """Where files made on demand are kept: in the collection, or where that may not be written to, in a folder of this process.

    The folder is there on return, if it can be had.
    """
    place = real_folder(collection / kind)
    if may_write(place if place.exists() else collection):
        with suppress(OSError):
            place.mkdir(exist_ok=True)
        return place
    try:
        own = (
            Path(_own_folder()) / hashlib.blake2b(os.fsencode(collection.absolute()), digest_size=8).hexdigest() / kind
        )
        own.mkdir(parents=True, exist_ok=True)
    except OSError:
        return place  # Whoever writes there is told why he may not.
    return own


@cache
def _own_folder() -> str:
    """A folder of this process, which goes when the process ends."""
    made = tempfile.mkdtemp(prefix="framesearch-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def make(collection: Path, row: VideoRow, frame_id: int, place: int, seconds: float, trust: Trust) -> Path | None:
    """Make the picture of a frame from its keyframe image, or else from the video file; None where neither can be read, or may be.

    Parameters
    ----------
    place : of the frame among the stored frames of its video, from 1: the number of its keyframe image
    """
    try:
        image = _keyframe(trust.find("pictures", row.pictures), place)
        if image is None:
            image = _from_video(trust.find("film", row.source), seconds)
        if image is None:
            return None
        path = made(collection, row.number, frame_id)
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            part.write_bytes(films.thumbnail(image, _WIDTH))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, MemoryError, ResourceExhausted):
        # A disk that is full or may not be written to costs the picture and nothing else, and so does a shortage.
        return None
    with suppress(OSError):
        # A margin, so that the times of all of them are not asked for each time one is made.
        if sum(1 for _ in path.parent.iterdir()) > KEEP_PICTURES + KEEP_PICTURES // 20:
            _forget_oldest(path.parent, "*.jpg", KEEP_PICTURES, path)
    return path


def _keyframe(images: Path | None, place: int) -> NDArray[np.uint8] | None:
    if images is None:
        return None
    for name in dict.fromkeys(f"{place:0{digits}d}{ending}" for ending in PICTURES for digits in _DIGITS):
        path = images / name
        if path.is_file():
            # A link may not lead to what lies elsewhere.
            real = path.resolve()
            if not real.is_relative_to(images):
                return None
            try:
                return read_image(real, _WIDTH)
            except VideoError:
                return None
    return None


def _from_video(source: Path | None, seconds: float) -> NDArray[np.uint8] | None:
    if source is None or not source.is_file():
        return None
    try:
        return films.grab(source, seconds, width=films.MAX_WIDTH)
    except VideoError:
        return None


def read_image(path: Path, width: int | None = None) -> NDArray[np.uint8]:
    """An image file as (height, width, 3) uint8 RGB.

    Parameters
    ----------
    width : pixels across that are enough; a JPEG is then decoded at a fraction of its size, but no smaller

    Raises
    ------
    VideoError
        If it is not an image of one of the `FORMATS` that can be decoded, is larger than any frame of a video, or moves.
    """
    try:
        content = bounds.read_bounded(path, bounds.MAX_IMAGE_NBYTES)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            # JPEGs of phones hold a second one, which is passed over.
            if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
                raise bounds.TooLarge(f"The image {path.name} moves; give a still.")
            bounds.check_pixels(f"the image {path.name}", image.width, image.height)
            if width is not None:
                image.draft("RGB", (width, 1))
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise VideoError(f"{path} cannot be read as an image (it is no JPEG, PNG or WebP).") from error
    except bounds.TooLarge as error:
        raise VideoError(str(error)) from error
    except (
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:  # Pillow's own limit, far above ours.
        raise VideoError(f"The image {path.name} has more than {bounds.MAX_PIXELS:,} pixels; scale it down.") from error
    except Exception as error:  # Pillow's plugins raise what they like on damaged files.
        short = shortage(f"reading {path.name}", error)
        if short is not None:
            raise short from error
        raise VideoError(f"{path} cannot be read as an image ({' '.join(str(error).split())}).") from error


def clip(collection: Path, video: VideoInfo, seconds: float, before: float, after: float, trust: Trust) -> Clip:
    """A short clip around a time, cut from the video file on first use.

    Raises
    ------
    NotFound
        If the collection holds no video file for it, or the file is gone.
    Untrusted
        If the film lies outside the collection, and its owner has not named it.
    """
    source = trust.find("film", video.source)
    if video.source and source is None:
        raise Untrusted(
            f"The film of {video.video_id} lies outside this collection, and nobody on this machine has allowed it to be shown; "
            "its owner can do so with `python -m engine trust COLLECTION --media`."
        )
    if source is None or not source.is_file():
        where = f"expected at {video.source}" if source else "only its frames were stored"
        raise NotFound(f"The video file of {video.video_id} is not here ({where}), so there is no clip to play.")
    with storage_errors("cutting a clip"):
        clips = real_folder(place_for(collection, "clips"))
    path = clips / f"{video.number}-{round(seconds * 1000)}-{round(before * 1000)}-{round(after * 1000)}.mp4"
    note = path.with_suffix(".json")
    told = _read_note(note, path)
    if told is not None:
        return Clip(path, **told)
    made = cut_clip(source, seconds, path, before=before, after=after)
    told = {"start": made.start, "duration": made.duration, "offset": made.offset, "nbytes": path.stat().st_size}
    part = note.with_name(f".{uuid.uuid4().hex}.part")
    with storage_errors("cutting a clip"):
        try:
            part.write_text(json.dumps(told))
            part.replace(note)
        finally:
            part.unlink(missing_ok=True)
        _forget_oldest(clips, "*.mp4", KEEP_CLIPS, path)
    return made


def _read_note(note: Path, clip: Path) -> dict[str, float] | None:
    """What was noted of a clip; None if it has to be cut anew, as after a power cut that left less than was written."""
    if not (is_real_file(note) and is_real_file(clip)):
        return None
    try:
        told = json.loads(read_real(note, _MAX_NOTE_NBYTES))
        found = {name: float(told[name]) for name in ("start", "duration", "offset")}
        sound = told["nbytes"] == clip.stat().st_size and all(map(math.isfinite, found.values()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, CollectionError):
        return None
    return found if sound else None


def _forget_oldest(place: Path, kind: str, keep: int, new: Path) -> None:
    """Remove all but the newest files of ours of a kind, with the notes beside them, but never the `new` one: clocks are set back."""
    made = {}
    for path in place.glob(kind):
        with suppress(FileNotFoundError):  # Somebody else may be forgetting it, too.
            if is_made(path.name):
                made[path] = path.lstat().st_mtime
    made[new] = math.inf
    for old in sorted(made, key=made.__getitem__)[:-keep]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
