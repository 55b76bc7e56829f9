"""Pictures and clips that are rendered when somebody looks at a frame, kept as files, and rendered anew when those are missing."""

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
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from engine.errors import CollectionError, NotFound, ResourceExhausted, Untrusted, VideoError
from engine.media import SAMPLE_WIDTH, Clip, cut_clip, encode_thumbnail, grab
from engine.storage.collection_files import is_rendered
from engine.storage.film import film_was_replaced, times_were_corrected
from engine.storage.image_numbers import keyframe_images
from engine.storage.manifest import VideoRow
from engine.storage.snapshot import Snapshot
from engine.storage.thumbnails import stored_thumbnail
from engine.system import (
    Trust,
    bounds,
    is_real_file,
    may_write,
    read_real,
    real_folder,
    shortage,
    storage_errors,
)
from engine.types import Frame, VideoInfo

KEEP_CLIPS = 200
"""Clips kept per collection; the oldest go first."""
KEEP_PICTURES = 20_000
"""Rendered pictures that are kept per collection; the oldest go first."""
FORMATS = ("JPEG", "PNG", "WEBP")
"""What images may be, whatever their names say: some of the formats that Pillow knows are read by other programs, such as Ghostscript."""
_MAX_NOTE_NBYTES = 4096
_WIDTH = 320
"""Pixels across a rendered picture, as of a thumbnail."""


@dataclass(frozen=True, slots=True, eq=False)
class Unrendered:
    """A frame without a picture so far, and what it takes to render one."""

    collection: Path
    """Its folder."""
    video: VideoRow
    frame_id: int
    place: int
    """Of the frame among the stored frames of its video, from 0."""
    frame_index: NDArray[np.int64]
    """(n,) of all stored frames of its video, in the order in which they came; tells how keyframe images are numbered."""
    seconds: float


def find_picture(snapshot: Snapshot, frame: Frame) -> Path | Unrendered | None:
    """The thumbnail that came with a frame, or the picture that was rendered of it; None if its video names no images and no film.

    Raises
    ------
    NotFound
        If the frame's video is not in this generation.
    """
    (number,) = snapshot.numbers_of([frame.video_id])
    stored = stored_thumbnail(snapshot.path, number, frame.frame_index)
    if stored is not None:
        return stored
    rendered = _picture_path(snapshot.path, number, frame.frame_id)
    if is_real_file(rendered):
        return rendered
    video = snapshot.videos[number]
    if not video.pictures and not video.source:
        return None
    ids, frame_index = snapshot.frames_of(number)
    place = int(np.searchsorted(ids, frame.frame_id))
    return Unrendered(snapshot.path, video, frame.frame_id, place, frame_index, frame.seconds)


def render_picture(unrendered: Unrendered, trust: Trust) -> Path | None:
    """Render the picture of a frame from its keyframe image, or else from its film; None where neither can be read, or may be, or the film is another one now."""
    try:
        image = _keyframe(trust.find("pictures", unrendered.video.pictures), unrendered)
        if image is None:
            image = _from_film(trust.find("film", unrendered.video.source), unrendered.video, unrendered.seconds)
        if image is None:
            return None
        path = _picture_path(unrendered.collection, unrendered.video.number, unrendered.frame_id)
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            part.write_bytes(encode_thumbnail(image, _WIDTH))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, MemoryError, ResourceExhausted):
        # A disk that is full or may not be written to costs the picture and nothing else, and so does a shortage.
        return None
    with suppress(OSError):
        # A margin, so that the times of all of them are not asked for each time one is rendered.
        if sum(1 for _ in path.parent.iterdir()) > KEEP_PICTURES + KEEP_PICTURES // 20:
            _forget_oldest(path.parent, "*.jpg", KEEP_PICTURES, path)
    return path


def _picture_path(collection: Path, number: int, frame_id: int) -> Path:
    return _rendered_folder(collection, "pictures") / f"{number:d}-{frame_id:d}.jpg"


def _rendered_folder(collection: Path, kind: str) -> Path:
    """Where rendered files are kept: in the collection, or where that may not be written to, in a folder of this process.

    The folder is there on return, if it can be had.
    """
    folder = real_folder(collection / kind)
    if may_write(folder if folder.exists() else collection):
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
        return folder
    try:
        own = (
            Path(_own_folder()) / hashlib.blake2b(os.fsencode(collection.absolute()), digest_size=8).hexdigest() / kind
        )
        own.mkdir(parents=True, exist_ok=True)
    except OSError:
        return folder  # Whoever writes there is told why he may not.
    return own


@cache
def _own_folder() -> str:
    """A folder of this process, which goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="framesearch-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _keyframe(images: Path | None, unrendered: Unrendered) -> NDArray[np.uint8] | None:
    """The image of a frame; None where there is none, or the folder's numbers do not tell which it is."""
    if images is None or not images.is_dir():
        return None
    names = keyframe_images(images, unrendered.frame_index)
    if names is None:
        return None
    path = images / names[unrendered.place]
    if not path.is_file():
        return None
    # A link may not lead to what lies elsewhere.
    real = path.resolve()
    if not real.is_relative_to(images):
        return None
    try:
        return read_image(real, _WIDTH)
    except VideoError:
        return None


def _from_film(source: Path | None, video: VideoRow, seconds: float) -> NDArray[np.uint8] | None:
    if source is None or not source.is_file() or film_was_replaced(source, video.about):
        return None
    try:
        return grab(source, seconds, width=SAMPLE_WIDTH, in_sequence=times_were_corrected(video.about))
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


def render_clip(collection: Path, video: VideoInfo, seconds: float, before: float, after: float, trust: Trust) -> Clip:
    """A short clip around a time, cut from the film the first time and kept.

    Raises
    ------
    NotFound
        If the collection holds no video file for it, or the file is gone or another one lies there.
    Untrusted
        If the film lies outside the collection, and its owner has not named it.
    """
    source = trust.find("film", video.source)
    if video.source and source is None:
        raise Untrusted(
            f"The film of {video.video_id} lies outside this collection, and nobody on this machine has allowed it to be shown; "
            "its owner can allow it.",
            hint="trust COLLECTION --media",
        )
    if source is None or not source.is_file():
        where = f"expected at {video.source}" if source else "only its frames were stored"
        raise NotFound(f"The video file of {video.video_id} is not here ({where}), so there is no clip to play.")
    with storage_errors("cutting a clip"):
        clips = real_folder(_rendered_folder(collection, "clips"))
    path = clips / f"{video.number}-{round(seconds * 1000)}-{round(before * 1000)}-{round(after * 1000)}.mp4"
    note = path.with_suffix(".json")
    times = _read_note(note, path)
    if times is not None:
        return Clip(path, **times)
    if film_was_replaced(source, video.about):
        raise NotFound(
            f"{source} is another file than the one whose frames were stored as {video.video_id}, so its clip would be of another moment; "
            "put the old file back, or delete the video and add it again."
        )
    clip = cut_clip(source, seconds, path, before=before, after=after, in_sequence=times_were_corrected(video.about))
    written = {"start": clip.start, "duration": clip.duration, "offset": clip.offset, "nbytes": path.stat().st_size}
    part = note.with_name(f".{uuid.uuid4().hex}.part")
    with storage_errors("cutting a clip"):
        try:
            part.write_text(json.dumps(written))
            part.replace(note)
        finally:
            part.unlink(missing_ok=True)
        _forget_oldest(clips, "*.mp4", KEEP_CLIPS, path)
    return clip


def _read_note(note: Path, clip: Path) -> dict[str, float] | None:
    """What was noted of a clip; None if it has to be cut anew, as after a power cut that left less than was written."""
    if not (is_real_file(note) and is_real_file(clip)):
        return None
    try:
        content = json.loads(read_real(note, _MAX_NOTE_NBYTES))
        times = {name: float(content[name]) for name in ("start", "duration", "offset")}
        sound = content["nbytes"] == clip.stat().st_size and all(map(math.isfinite, times.values()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, CollectionError):
        return None
    return times if sound else None


def _forget_oldest(folder: Path, pattern: str, keep: int, new: Path) -> None:
    """Remove all but the newest rendered files, with the notes beside them, but never the `new` one: clocks are set back."""
    changed = {}
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # Another process may be removing it, too.
            if is_rendered(path.name):
                changed[path] = path.lstat().st_mtime
    changed[new] = math.inf
    for old in sorted(changed, key=changed.__getitem__)[:-keep]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
