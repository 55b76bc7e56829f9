"""Thumbnails that came with the frames of a video: one JPEG per frame, `media/<video number>/<frame index>.jpg`, and one hash per video."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from engine.errors import CollectionError, ReadOnly
from engine.storage.manifest import VideoRow
from engine.system import bounds, is_number, is_real_file, read_real, shortages, sync_folder, write_files


def thumbnails_folder(collection: Path, number: int) -> Path:
    """Where the thumbnails of a video lie."""
    return collection / "media" / str(number)


def write_thumbnails(collection: Path, number: int, images: Mapping[int, bytes]) -> list[tuple[int, bytes]]:
    """Write and sync JPEGs by frame index; returns the hash of each."""
    folder = thumbnails_folder(collection, number)
    if not folder.is_dir():
        folder.mkdir(parents=True)
        sync_folder(folder.parent)
    write_files((folder / f"{index}.jpg", image) for index, image in images.items())
    return [(index, _hash(image)) for index, image in images.items()]


def hash_thumbnails(hashes: Iterable[tuple[int, bytes]]) -> str:
    """One hash over the hashes of a video's thumbnails by frame index, in any order; empty for none."""
    listed = sorted(hashes)
    return _hash(repr(listed).encode()).hex() if listed else ""


def thumbnail_problems(collection: Path, row: VideoRow) -> list[str]:
    """What is wrong with the thumbnails of a video, a sentence at most.

    Raises
    ------
    ResourceExhausted
        If the system runs short of memory or open files.
    ReadOnly
        If a thumbnail may not be read by this user.
    """
    paths = thumbnails_folder(collection, row.number).glob("*.jpg") if row.media else ()
    try:
        with shortages(f"checking the thumbnails of {row.video_id}"):
            hashes = ((int(path.stem), _hash(read_real(path, bounds.MAX_IMAGE_NBYTES))) for path in paths)
            if hash_thumbnails(hashes) == row.media:
                return []
    except ReadOnly:
        raise
    except (OSError, ValueError, CollectionError):
        pass
    return [f"The thumbnails of {row.video_id} are not what was written; delete the video and add it again."]


def stored_thumbnail(collection: Path, number: int, frame_index: int) -> Path | None:
    """The thumbnail that came with a frame; None where there is none."""
    path = thumbnails_folder(collection, number) / f"{int(frame_index)}.jpg"
    return path if is_real_file(path) else None


def middle_thumbnail(collection: Path, number: int) -> Path | None:
    """The thumbnail from the middle of a video; None where it has none."""
    folder = thumbnails_folder(collection, number)
    indices = sorted(int(path.stem) for path in folder.glob("*.jpg") if is_number(path.stem) and is_real_file(path))
    return folder / f"{indices[len(indices) // 2]}.jpg" if indices else None


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
