"""What is in the files of an archive in the AI Challenge layout: features, keyframe maps, objects and media info."""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.system import bounds, reason_unreadable
from engine.vectors import load_npy

MIN_OBJECT_SCORE = 0.4
"""Score from which a detected object becomes a tag; lists without scores are taken whole."""
MEDIA_INFO_KEYS = ("author", "publish_date", "watch_url", "length")
"""What of the media info is kept beside the title, as text."""
_MAX_LABELS = 10_000
"""Objects in a keyframe, sure or not."""


class Unusable(Exception):
    """A video of an archive cannot be stored; the message says why."""


@dataclass(frozen=True, slots=True)
class Keyframes:
    """The keyframes of a video, from its map."""

    seconds: NDArray[np.float64]
    """(n,)"""
    frame_index: NDArray[np.int64]
    """(n,)"""
    fps: float
    """0 where the map does not say."""

    def __len__(self) -> int:
        return len(self.seconds)


def parse_features(path: Path, content: bytes) -> NDArray[np.floating]:
    """(n, dim) vectors."""
    try:
        vectors: NDArray[np.floating] = load_npy(io.BytesIO(content), path, "features")
    except ValueError as error:
        raise Unusable(str(error)) from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise Unusable(f"{path} cannot be read as features (not rows of floating-point numbers).")
    return vectors


def parse_keyframes(path: Path, content: bytes) -> Keyframes:
    """The keyframes of a map, at least one; raises `Unusable`, as the others here do."""
    times, places, counts, fps = array("d"), array("q"), True, 0.0
    try:
        # Of each line no more is kept than its numbers.
        for n, row in enumerate(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))), 1):
            counts = counts and int(row["n"]) == n
            times.append(float(row["pts_time"]))
            places.append(int(float(row["frame_idx"])))
            if n == 1 and row.get("fps"):
                fps = float(row["fps"])
    except KeyError as error:
        raise Unusable(f"{path} has no column {error}; a keyframe map has n, pts_time, fps and frame_idx.") from error
    except (ValueError, TypeError, OverflowError, csv.Error) as error:  # It may quote what is no keyframe map at all.
        raise Unusable(
            f"{path} cannot be read as a keyframe map; it needs a number in each column of each line."
        ) from error
    if not times:
        raise Unusable(f"{path} names no keyframes.")
    if not counts:
        raise Unusable(f"The column n of {path} does not count 1 to {len(times)}.")
    seconds, frame_index = np.array(times, np.float64), np.array(places, np.int64)
    if not (np.isfinite(seconds).all() and (seconds >= 0).all() and (frame_index >= 0).all()):
        raise Unusable(f"{path} holds a time or a frame that is negative or not a number.")
    if seconds.max() > bounds.MAX_SECONDS:
        raise Unusable(f"{path} holds a time of more than thirty years.")
    return Keyframes(seconds, frame_index, fps if math.isfinite(fps) and fps > 0 else 0.0)


def read_object_tags(
    path: Path, n: int, read: Callable[[Path], bytes], note: Callable[[bytes], None]
) -> tuple[tuple[str, ...], ...]:
    """Tags per keyframe (n,), from one file for all keyframes or a folder with a file for each.

    Objects of keyframes that the map does not have are passed over.

    Parameters
    ----------
    read : gives what is in a file
    note : takes names of files that belong to the content
    """
    tags: list[tuple[str, ...]] = [()] * n
    for number, names in _objects(path, n, read, note):
        tags[number - 1] = tuple(dict.fromkeys(names))
    return tuple(tags)


def _objects(
    path: Path, n: int, read: Callable[[Path], bytes], note: Callable[[bytes], None]
) -> Iterator[tuple[int, list[str]]]:
    """Number of a keyframe, 1 to n, and its tags."""
    if path.is_dir():
        for file in sorted(path.glob("*.json")):
            if is_keyframe_number(file.stem):
                note(file.stem.encode())
                listed = _json(file, read(file))
                if 1 <= int(file.stem) <= n:
                    yield int(file.stem), _labels(file, listed)
        return
    listed = _json(path, read(path))
    if not isinstance(listed, dict) or not all(is_keyframe_number(key) for key in listed):
        raise Unusable(f"{path} does not list objects by the number of the keyframe.")
    for key, value in listed.items():
        if 1 <= int(key) <= n:
            yield int(key), _labels(path, value)


def _labels(path: Path, value: object) -> list[str]:
    """Tags for a list of labels, or for labels with scores."""
    labels, scores = value, None
    if isinstance(value, dict):
        labels, scores = value.get("detection_class_entities"), value.get("detection_scores")
    try:
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise Unusable(f"{path} does not list objects (no list of labels).")
        if len(labels) > _MAX_LABELS:
            raise Unusable(f"{path} does not list objects (more than {_MAX_LABELS:,} labels).")
        if not bounds.is_utf8("".join(labels)):
            raise Unusable(f"{path} does not list objects (a label is not valid text).")
        if scores is not None:
            labels = [label for label, score in zip(labels, scores, strict=True) if float(score) >= MIN_OBJECT_SCORE]
    except (ValueError, TypeError) as error:
        raise Unusable(
            f"{path} does not list objects, or not a score for each ({reason_unreadable(error)})."
        ) from error
    return [f"object:{'_'.join(label.lower().split())}" for label in labels if label.strip()]


def parse_media_info(path: Path, content: bytes) -> dict[str, str]:
    """The media info as text: what is neither text nor a number is left out."""
    listed = _json(path, content)
    if not isinstance(listed, dict):
        raise Unusable(f"{path} does not hold one object of media info.")
    texts = {
        key: str(value)
        for key, value in listed.items()
        if key in ("title", *MEDIA_INFO_KEYS) and isinstance(value, str | int | float)
    }
    if not bounds.is_utf8("".join(texts.values())):
        raise Unusable(f"{path} holds text that is not valid.")
    return texts


def is_keyframe_number(text: str) -> bool:
    """Whether it is the number of a keyframe, such as 001."""
    return text.isdecimal() and len(text) < 10


def positive_number(text: str) -> float:
    """A number that is not negative; 0 for what is none."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value >= 0 else 0.0


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{path} is not valid JSON ({reason_unreadable(error)}).") from error
