"""What is in the files of an archive in the AI Challenge layout: features, keyframe maps, objects and media info."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.storage import PICTURES, numberings
from engine.system import bounds, reason_unreadable
from engine.types import canonical_name
from engine.vectors import load_npy

MIN_OBJECT_SCORE = 0.4
"""Score from which a detected object becomes a tag; lists without scores are taken whole."""
MEDIA_INFO_KEYS = ("author", "publish_date", "watch_url", "length")
"""What of the media info is kept beside the title, as text."""
_MAX_LABELS = 10_000
"""Objects in a keyframe, sure or not."""
_MAP_COLUMNS = {"n", "pts_time", "fps", "frame_idx"}
_DELIMITERS = (",", "\t", ";", "|")
_UNTIMED = re.compile(r"[0-9]{1,9}\.(?:jpe?g|png|webp)\s*[,;\t|]\s*[0-9]{1,18}", re.IGNORECASE)
"""A line of a map of 2022."""
_OTHER_UNIT = 100
"""Times that are so many times too large or too small are not in seconds."""
_CLOCK = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,2}(?:\.[0-9]+)?)")
_ISO_LENGTH = re.compile(r"PT(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9.]{1,12})S)?")


class Unusable(Exception):
    """A video of an archive cannot be stored; the message says why."""


@dataclass(frozen=True, slots=True)
class Keyframes:
    """The keyframes of a video, from its map."""

    seconds: NDArray[np.float64]
    """(n,); zeros where the map names no times."""
    frame_index: NDArray[np.int64]
    """(n,)"""
    fps: float
    """0 where the map does not say."""
    has_times: bool = True
    """Maps of 2022 name frames only."""

    def __len__(self) -> int:
        return len(self.seconds)

    def timed(self, fps: float) -> Keyframes:
        """The same, with the times that frames have at so many frames a second."""
        return Keyframes(self.frame_index / fps, self.frame_index, fps)

    def gap(self) -> float:
        """Seconds by which a time differs from `frame_idx / fps` at most; 0 where the frame rate is not known."""
        if not self.fps or not self.has_times:
            return 0.0
        return float(np.abs(self.seconds - self.frame_index / self.fps).max())


def parse_features(path: Path, content: bytes) -> NDArray[np.floating]:
    """(n, dim) vectors."""
    try:
        vectors: NDArray[np.floating] = load_npy(io.BytesIO(content), path, "features")
    except ValueError as error:
        raise Unusable(str(error)) from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        kind = f": shape {vectors.shape}, type {vectors.dtype}" if isinstance(vectors, np.ndarray) else ""
        raise Unusable(f"{path} cannot be read as features (not rows of floating-point numbers{kind}).")
    return vectors


def is_map(start: str) -> bool:
    lines = start.splitlines()
    if not lines:
        return False
    columns, _ = _columns(lines[0])
    return {"pts_time", "frame_idx"} <= columns.keys() or _UNTIMED.fullmatch(lines[0].strip()) is not None


def parse_keyframes(path: Path, content: bytes) -> Keyframes:
    """The keyframes of a map, at least one; raises `Unusable`, as the others here do.

    Columns stand between commas, tabs, semicolons (then a number may have a decimal comma) or bars. A map of 2022 has no
    header, and names the image and the frame in each line: `000000.jpg,125`.
    """
    try:
        text = content.decode("utf-8-sig")
        first = text[: bounds.MAX_LINE_NBYTES].partition("\n")[0].rstrip("\r")
        if _UNTIMED.fullmatch(first.strip()):
            return _untimed(path, text)
        columns, delimiter = _columns(first)
        times, places, numbers, fps = array("d"), array("q"), array("q"), 0.0
        # Of each line no more is kept than its numbers.
        for row in _rows(text, delimiter):
            cells = {name: row[place] if place < len(row) else "" for name, place in columns.items()}
            numbers.append(_whole(_number(cells["n"], delimiter)))
            times.append(_number(cells["pts_time"], delimiter))
            places.append(int(_number(cells["frame_idx"], delimiter)))
            if len(times) == 1 and cells.get("fps", "").strip():
                fps = _number(cells["fps"], delimiter)
    except KeyError as error:
        raise Unusable(f"{path} has no column {error}; a keyframe map has n, pts_time, fps and frame_idx.") from error
    except (ValueError, TypeError, OverflowError, ZeroDivisionError, csv.Error) as error:
        # It may quote what is no keyframe map at all.
        raise Unusable(
            f"{path} cannot be read as a keyframe map; it needs a number in each column of each line."
        ) from error
    return _checked(path, times, places, numbers, fps)


def _checked(
    path: Path, times: Sequence[float], places: Sequence[int], numbers: Sequence[int], fps: float
) -> Keyframes:
    if not times:
        raise Unusable(f"{path} names no keyframes.")
    if numbers[0] not in (0, 1) or any(number != numbers[0] + i for i, number in enumerate(numbers)):
        raise Unusable(f"The column n of {path} does not count 1 to {len(times)}.")
    seconds, frame_index = np.array(times, np.float64), np.array(places, np.int64)
    if not (np.isfinite(seconds).all() and (seconds >= 0).all() and (frame_index >= 0).all()):
        raise Unusable(f"{path} holds a time or a frame that is negative or not a number.")
    if seconds.max() > bounds.MAX_SECONDS:
        raise Unusable(f"{path} holds a time of more than thirty years.")
    keyframes = Keyframes(seconds, frame_index, fps if math.isfinite(fps) and fps > 0 else 0.0)
    _check_unit(path, keyframes)
    return keyframes


def _check_unit(path: Path, keyframes: Keyframes) -> None:
    """Raise `Unusable` for times in another unit than seconds, as the frames and the frame rate show."""
    rows = (keyframes.frame_index > 0) & (keyframes.seconds > 0)
    if not keyframes.fps or not rows.any():
        return
    factor = float(np.median(keyframes.seconds[rows] * keyframes.fps / keyframes.frame_index[rows]))
    if 1 / _OTHER_UNIT < factor < _OTHER_UNIT:
        return
    unit = ", as if in milliseconds" if 900 < factor < 1100 else ""
    raise Unusable(
        f"The times of {path} contradict its frames: pts_time is about {factor:,.4g} times frame_idx / fps{unit}; give seconds."
    )


def _untimed(path: Path, text: str) -> Keyframes:
    rows = [(row[0].strip(), int(row[1])) for row in _rows(text, _columns(text.partition("\n")[0])[1], header=False)]
    numbers = [int(name.partition(".")[0]) for name, _ in rows]
    places = np.array([place for _, place in rows], np.int64)
    images = next((way for way in numberings(places) if way.tolist() == numbers), None)
    if images is None or (places < 0).any():
        raise Unusable(
            f"{path} does not name the images of its keyframes in order, from 0 or 1, with the frame of each."
        )
    return Keyframes(np.zeros(len(places)), places, 0.0, has_times=False)


def _rows(text: str, delimiter: str, *, header: bool = True) -> Iterator[list[str]]:
    """The lines of a table below its header that are not empty."""
    for i, row in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter)):
        if (i or not header) and any(cell.strip() for cell in row):
            yield row


def _columns(header: str) -> tuple[dict[str, int], str]:
    """Places of the columns by name, and what stands between them: what finds most of those that a map has."""
    found: list[tuple[int, dict[str, int], str]] = []
    for delimiter in _DELIMITERS:
        names = next(csv.reader([header], delimiter=delimiter), [])
        columns = {name.strip().casefold(): place for place, name in enumerate(names)}
        found.append((len(columns.keys() & _MAP_COLUMNS), columns, delimiter))
    _, columns, delimiter = max(found, key=lambda reading: (reading[0], len(reading[1])))
    return columns, delimiter


def _number(text: str, delimiter: str = ",") -> float:
    """A number, or a fraction such as 30000/1001."""
    text = text.strip()
    if delimiter == ";":
        text = text.replace(",", ".")
    return float(Fraction(text)) if "/" in text else float(text)


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError("not a whole number")
    return int(value)


def read_object_tags(
    path: Path,
    frame_index: NDArray[np.int64],
    images: Iterable[int],
    read: Callable[[Path], bytes],
    note: Callable[[bytes], None],
) -> tuple[tuple[str, ...], ...]:
    """Tags per keyframe (n,), from one file for all keyframes or a folder with a file for each.

    Objects go by the numbers of the keyframe images, if all these are known, or else count from 1, from 0 or by the frames'
    places in the video, whichever holds them. Those of keyframes that the map does not have are passed over.

    Parameters
    ----------
    frame_index : (n,) place of each keyframe in its video
    images : numbers of its keyframe images, empty if there are none or they are not those of its keyframes
    read : gives what is in a file
    note : takes names of files that belong to the content
    """
    found: dict[int, list[str]] = {}
    for number, names in _objects(path, read, note):
        if number in found:
            raise Unusable(f"{path} lists objects of keyframe {number} twice; remove one.")
        found[number] = names
    numbers = _object_numbers(path, found, frame_index, set(images))
    return tuple(tuple(dict.fromkeys(found.get(number, ()))) for number in numbers.tolist())


def _object_numbers(
    path: Path, found: Mapping[int, object], frame_index: NDArray[np.int64], images: set[int]
) -> NDArray[np.int64]:
    """The number (n,) that objects of each keyframe go by."""
    ways = numberings(frame_index)
    held = [set(way.tolist()) for way in ways]
    listed = set(found)
    if images and listed <= images:
        return ways[held.index(images)]
    for way, numbers in zip(ways, held, strict=True):
        if numbers == listed:
            return way
    for way, numbers in zip(ways, held, strict=True):
        if listed <= numbers:
            return way
    if 0 in listed:
        raise Unusable(
            f"{path} lists objects by numbers that are neither those of {len(frame_index)} keyframes from 0 or from 1 nor their frame_idx."
        )
    return ways[0]


def _objects(
    path: Path, read: Callable[[Path], bytes], note: Callable[[bytes], None]
) -> Iterator[tuple[int, list[str]]]:
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.suffix.lower() == ".json" and is_keyframe_number(file.stem):
                note(file.stem.encode())
                yield int(file.stem), _labels(file, _json(file, read(file)))
        return
    listed = _json(path, read(path))
    if not isinstance(listed, dict) or not all(is_keyframe_number(_without_ending(key)) for key in listed):
        raise Unusable(f"{path} does not list objects by the number of the keyframe.")
    for key, value in listed.items():
        yield int(_without_ending(key)), _labels(path, value)


def _without_ending(name: str) -> str:
    """A number, of which an image may be named."""
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending.lower()}" in PICTURES else name


def _labels(path: Path, value: object) -> list[str]:
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
    return [canonical_name(f"object:{'_'.join(label.lower().split())}") for label in labels if label.strip()]


def kind_of_json(value: object) -> str:
    """What a JSON value of an archive is by its shape: "infos", "objects" (of many keyframes), "labels" (of one), or empty."""
    if not isinstance(value, dict):
        return "labels" if isinstance(value, list) and value and all(isinstance(item, str) for item in value) else ""
    if "detection_class_entities" in value:
        return "labels"
    if value.keys() & {"title", *MEDIA_INFO_KEYS}:
        return "infos"
    if value and all(is_keyframe_number(_without_ending(key)) for key in value):
        some = next((part for part in value.values() if part), None)
        if (isinstance(some, list) and isinstance(some[0], str)) or kind_of_json(some) == "labels":
            return "objects"
    return ""


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
    return text.isascii() and text.isdecimal() and len(text) < 10


def length_in_seconds(text: str) -> float:
    """A length: seconds, "21:07", "00:21:07" or "PT21M7S" (ISO 8601, as YouTube has it); 0 for what is none of these."""
    match = _CLOCK.fullmatch(text.strip()) or _ISO_LENGTH.fullmatch(text.strip().upper())
    try:
        if match is None or not any(match.groups()):
            value = float(text)
        else:
            hours, minutes, seconds = (float(part or 0) for part in match.groups())
            value = 3600 * hours + 60 * minutes + seconds
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value >= 0 else 0.0


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{path} is not valid JSON ({reason_unreadable(error)}).") from error
