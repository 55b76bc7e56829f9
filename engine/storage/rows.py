"""Frames as they are stored: checked, normalised, in the stored type, with their columns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.frames import NO_TIME, FrameColumns, Tags, statistics
from engine.storage.segment import row_checksums
from engine.system import bounds
from engine.types import FrameBatch, NewVideo, canonical_name
from engine.vectors import LARGEST, Cells, Floats, unit

IntegerT = TypeVar("IntegerT", bound=np.integer[Any])
_STEP = 4096
"""Rows worked on at a time, so that the float64 copies stay small."""


def check_video(video: NewVideo) -> None:
    """Raise `ValueError` if a value of a new video cannot be kept: too long, not text, or not a number that can be."""
    name = bounds.excerpt(video.video_id)
    bounds.check_id(video.video_id)
    check_video_texts(video.video_id, video.title, video.about)
    for what, place in (("path of the video file", video.source), ("folder of pictures", video.pictures)):
        bounds.check_path(f"the {what} of {name}", place)
    bounds.check_text(f"the fingerprint of {name}", video.fingerprint, bounds.MAX_TITLE)
    for what, value in (("length", video.duration), ("frame rate", video.fps)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"The {what} of {name} is negative or not a number; leave it 0 where it is not known.")


def check_video_texts(video_id: str, title: str, about: Mapping[str, str]) -> None:
    """Raise `ValueError` if the title of a video, or what else is said of it, cannot be kept."""
    name = bounds.excerpt(video_id)
    bounds.check_text(f"the title of {name}", title, bounds.MAX_TITLE)
    bounds.check_count(f"facts about {name}", len(about), bounds.MAX_FACTS)
    for key, text in about.items():
        bounds.check_text(f"a fact about {name}", f"{key}{text}", bounds.MAX_TITLE)


class TagBounds:
    """Checks the tags of frames as they come in, each tag once."""

    def __init__(self, stored: Iterable[str] = ()) -> None:
        """Take the tags that the collection has already."""
        self._known = set(stored)
        self._checked: set[str] = set()

    def checked(self, tags: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        """The tags of frames by their canonical names, checked as by `check`."""
        new: set[str] = set().union(*tags) - self._checked
        renamed = {tag: name for tag in new if (name := canonical_name(tag)) != tag}
        if renamed:
            tags = tuple(tuple(renamed.get(tag, tag) for tag in of_frame) for of_frame in tags)
        self.check(tags)
        return tags

    def check(self, tags: Sequence[Sequence[str]]) -> None:
        """Raise `ValueError` for a tag that cannot be one, for too many of a frame, and for too many different ones."""
        most = max(map(len, tags), default=0)
        if most > bounds.MAX_TAGS_PER_FRAME:
            raise bounds.TooLarge(f"A frame has {most:,} tags; at most {bounds.MAX_TAGS_PER_FRAME:,} are taken.")
        new: set[str] = set().union(*tags) - self._checked
        for tag in new - self._known:
            bounds.check_tag(tag)
        self._checked |= new
        if new - self._known:
            self._known |= new
            bounds.check_count("different tags in this collection", len(self._known), bounds.MAX_TAGS)


def prepare_rows(frames: FrameBatch, dim: int, metric: str, store: str, *, first_row: int = 0) -> NDArray[np.floating]:
    """The rows as they are stored: checked, normalised for `ip`, in the stored type.

    Parameters
    ----------
    first_row : added to the row numbers in messages

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, a row is zero (for `ip`) or too large for float16.
    """
    vectors = np.asarray(frames.vectors)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"The vectors have shape {vectors.shape}; this collection stores rows of {dim} numbers.")
    if vectors.dtype.kind not in "fiu":
        raise ValueError(f"The vectors are of type {vectors.dtype}; give floating-point numbers.")
    _check_lengths(frames)
    if not np.isfinite(frames.seconds).all() or (np.asarray(frames.seconds) < 0).any():
        raise ValueError("A frame's time is negative or not a number; give seconds from the start of the video.")
    if (np.asarray(frames.frame_index) < 0).any():
        raise ValueError("A frame's number in its video is negative; count from 0.")
    if len(vectors) and np.asarray(frames.seconds).max() > bounds.MAX_SECONDS:
        raise ValueError("A frame's time is more than thirty years into its video; give seconds from its start.")
    stored: NDArray[np.floating] = np.empty(vectors.shape, np.float32 if store == "fp32" else np.float16)
    for start in range(0, len(vectors), _STEP):
        stored[start : start + _STEP] = _rows(vectors[start : start + _STEP], metric, store, first_row + start)
    return stored


def _check_lengths(frames: FrameBatch) -> None:
    n = len(frames)
    lengths = {"frame_index": len(frames.frame_index), "seconds": len(frames.seconds)}
    for name in ("video", "captured_at", "shot"):
        given = getattr(frames, name)
        lengths[name] = n if given is None else len(given)
    lengths |= {"tags": len(frames.tags) or n, "thumbnails": len(frames.thumbnails) or n}
    for name, length in lengths.items():
        if length != n:
            raise ValueError(f"There are {n} vectors and {length} values of {name}; give one per frame.")
    for name in ("frame_index", "seconds", "video", "captured_at", "shot"):
        if np.ndim(getattr(frames, name)) > 1:
            raise ValueError(f"The values of {name} are in several columns; give one per frame.")
    for image in frames.thumbnails:
        if len(image) > bounds.MAX_THUMBNAIL_NBYTES:
            raise bounds.TooLarge(
                f"A thumbnail has {len(image):,} bytes; at most {bounds.MAX_THUMBNAIL_NBYTES:,} are taken."
            )


def _rows(given: NDArray[np.generic], metric: str, store: str, first_row: int) -> NDArray[np.float32]:
    """A few rows as float32, ready to be stored."""
    with np.errstate(over="ignore"):  # What float32 cannot hold comes out infinite, and is refused as such.
        rows = given.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Row {first_row + bad[0]} of the vectors holds a value that is not a finite number; leave such frames out."
        )
    if metric == "ip":
        zero = np.flatnonzero(~rows.any(axis=1))
        if len(zero):
            raise ValueError(
                f"Row {first_row + zero[0]} of the vectors is all zeros, which has no direction; leave such frames out."
            )
        rows = unit(rows)
    elif np.abs(rows).max() > LARGEST:
        raise ValueError(f"A value is larger than {LARGEST:g}, whose square is beyond float32; scale the vectors.")
    if store != "fp32" and np.abs(rows).max() > np.finfo(np.float16).max:
        raise ValueError("A value is too large for float16; make the collection with store='fp32'.")
    return rows


class Fingerprint:
    """Identifies a video's content where the caller gave no fingerprint: a hash over its rows, frame numbers and times in input order."""

    def __init__(self) -> None:
        # One digest per column: whatever batches the rows come in, it is the same.
        self._digests = [hashlib.blake2b(digest_size=16) for _ in range(3)]

    def add(
        self, vectors: NDArray[np.generic], frame_index: NDArray[np.generic], seconds: NDArray[np.generic]
    ) -> Fingerprint:
        """Take in some more rows."""
        arrays = (vectors, np.asarray(frame_index, np.int64), np.asarray(seconds, np.float64))
        for digest, array in zip(self._digests, arrays, strict=True):
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return self

    def text(self) -> str:
        whole = hashlib.blake2b(digest_size=16)
        for digest in self._digests:
            whole.update(digest.digest())
        return whole.hexdigest()


def columns_of(
    videos: Sequence[NewVideo],
    numbers: NDArray[np.int32],
    first_id: int,
    frames: FrameBatch,
    vectors: NDArray[np.floating],
    cells: Cells | None,
) -> FrameColumns:
    """The columns of frames whose ids count up from `first_id`.

    Parameters
    ----------
    videos, numbers : the list that `frames.video` points into, and their numbers in the catalog
    vectors : (n, dim) as prepared

    Raises
    ------
    ValueError
        If a frame points to a video that is not in the list, or was recorded in a year that no calendar date has.
    """
    n = len(frames)
    place = np.zeros(n, np.intp) if frames.video is None else _whole("video", frames.video, np.intp)
    wrong = place[(place < 0) | (place >= len(videos))]
    if len(wrong):
        raise ValueError(f"A frame is of video {wrong[0]}, but {len(videos)} videos are given, counted from 0.")
    seconds = np.asarray(frames.seconds, np.float64)
    if frames.captured_at is not None:
        times = np.asarray(frames.captured_at)
        check_years(times if times.dtype.kind == "M" else times.astype("datetime64[us]"))
        captured = times.astype("datetime64[us]").view(np.int64)
    else:
        starts = [
            NO_TIME if video.captured_at is None else statistics.microseconds(video.captured_at) for video in videos
        ]
        start = np.array(starts, np.int64)[place]
        captured = np.where(start == NO_TIME, NO_TIME, start + np.rint(seconds * 1e6).astype(np.int64))
        check_years(captured.view("datetime64[us]"))
    return FrameColumns(
        frame_id=np.arange(first_id, first_id + n, dtype=np.int64),
        video=numbers[place],
        frame_index=_whole("frame_index", frames.frame_index, np.int64),
        seconds=seconds,
        captured_at=captured,
        shot=np.full(n, -1, np.int32) if frames.shot is None else _whole("shot", frames.shot, np.int32),
        cell=np.zeros(n, np.int32) if cells is None else cells.assign(vectors.astype(np.float32)),
        row_crc=row_checksums(vectors),
        tags=Tags.of(frames.tags) if frames.tags else Tags.none(n),
    )


def _whole(name: str, values: NDArray[Any], kind: type[IntegerT]) -> NDArray[IntegerT]:
    """Values as whole numbers of a type, none cut off."""
    given, limits = np.asarray(values), np.iinfo(kind)
    if given.size and (given.min() < limits.min or given.max() > limits.max):
        raise ValueError(f"A value of {name} does not fit {limits.bits} bits; give smaller numbers.")
    return given.astype(kind)


def check_years(times: NDArray[np.datetime64]) -> None:
    """Raise `ValueError` for a recording time in a year that no calendar date has."""
    # By the year, which no unit is too fine or too coarse for.
    years = times[~np.isnat(times)].astype("datetime64[Y]").astype(np.int64) + 1970
    if len(years) and (years.min() < MINYEAR or years.max() > MAXYEAR):
        raise ValueError(
            f"A frame's recording time is outside the years {MINYEAR} to {MAXYEAR}; give local times of the calendar, or none."
        )


def prepare_query(vector: Floats, dim: int, metric: str) -> Floats:
    """A query as the search wants it: right length, finite, unit norm for `ip`.

    Raises
    ------
    ValueError
        If it is not like that or cannot be made so.
    """
    if vector.shape != (dim,):
        raise ValueError(f"The query has shape {vector.shape}; this collection is searched with {dim} numbers.")
    if not np.isfinite(vector).all():
        raise ValueError("The query holds a value that is not a finite number.")
    if metric == "l2":
        if np.abs(vector).max() > LARGEST:
            raise ValueError(f"The query holds a value larger than {LARGEST:g}, whose square is beyond float32.")
        return vector
    if not vector.any():
        raise ValueError("The query is all zeros, which has no direction.")
    return unit(vector)
