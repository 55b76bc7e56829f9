"""Which image of a folder belongs to which keyframe: by the numbers that its files carry, which are looked at and not assumed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of keyframe images, in any case; of several with one number the first ending counts."""
_MAX_IMAGES = 1_000_000
"""Images of one folder that are looked at."""
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})", re.DOTALL)
_KEPT_FOLDERS = 512


def images_by_number(names: Iterable[str]) -> dict[int, str]:
    """Names of image files by the number that each ends with, such as 7 of `007.jpg`, `7.JPG` and `frame_0007.webp`.

    Empty where numbers cannot be told: two files of one ending carry the same one, or not all begin alike. Hidden files and
    those without a number are passed over.
    """
    found: dict[int, tuple[int, str]] = {}
    starts = set()
    for name in names:
        stem, _, ending = name.rpartition(".")
        match = _NUMBERED.fullmatch(stem)
        if match is None or name.startswith(".") or f".{ending.lower()}" not in PICTURES:
            continue
        starts.add(match[1])
        number, rank = int(match[2]), PICTURES.index(f".{ending.lower()}")
        held = found.get(number)
        if len(starts) > 1 or (held is not None and held[0] == rank):
            return {}
        if held is None or rank < held[0]:
            found[number] = (rank, name)
    return {number: name for number, (_, name) in found.items()}


def keyframe_numbers(numbers: Iterable[int], frame_index: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The number (n,) that each keyframe of a video goes by, where these numbers are those of all its keyframes.

    They may count from 1 or from 0, or be the frames' places in the video; None where they are neither.

    Parameters
    ----------
    frame_index : (n,) place of each keyframe among the frames of its video
    """
    wanted = set(numbers)
    return next((way for way in numberings(frame_index) if set(way.tolist()) == wanted), None)


def numberings(frame_index: NDArray[np.int64]) -> Sequence[NDArray[np.int64]]:
    """The ways (n,) in which the keyframes of a video may be numbered: from 1, from 0, by their places in the video."""
    n = len(frame_index)
    return np.arange(1, n + 1), np.arange(n), np.asarray(frame_index, np.int64)


def keyframe_images(folder: Path, frame_index: NDArray[np.int64]) -> list[str] | None:
    """The name of each keyframe's image (n,) in a folder; None where its images cannot be told apart. See `keyframe_numbers`.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    images = numbered_images(folder)
    numbers = keyframe_numbers(images, frame_index)
    return None if numbers is None else [images[number] for number in numbers.tolist()]


def numbered_images(folder: Path) -> Mapping[int, str]:
    """`images_by_number` of a folder, which is listed anew only when it changes."""
    return _listed(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=_KEPT_FOLDERS)
def _listed(folder: Path, _version: int) -> Mapping[int, str]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > _MAX_IMAGES:
                return {}
    return images_by_number(names)
