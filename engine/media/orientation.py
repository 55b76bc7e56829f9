"""Which way up a picture is shown."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

_SQUARE = 0.01
"""Share of the larger entries below which the other entries of a matrix count as 0."""


def orientation_of(matrix: tuple[int, ...]) -> tuple[int, bool]:
    """Quarter turns clockwise (0 to 3), and whether the picture is mirrored left to right before it is turned.

    Parameters
    ----------
    matrix : the nine entries (a, b, u, c, d, v, x, y, w) of a display matrix, by which a point (p, q) of the picture, q
        downwards, is shown at (a p + c q + x, b p + d q + y)

    Notes
    -----
    As browsers do it: a matrix that does not turn by quarters (1 degree, 45 degrees, all zeros) is passed over.
    """
    a, b, _, c, d = (float(entry) for entry in matrix[:5])
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if straight > 0 and max(abs(b), abs(c)) <= _SQUARE * straight:
        turns = 0 if d > 0 else 2
    elif crossed > 0 and max(abs(a), abs(d)) <= _SQUARE * crossed:
        turns = 1 if c < 0 else 3
    else:
        return 0, False
    return turns, a * d - b * c < 0


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Of a decoded frame; see `orientation_of`."""
    side_data: Any = frame.side_data
    if not len(side_data) or "DISPLAYMATRIX" not in side_data:
        return 0, False
    data = bytes(side_data["DISPLAYMATRIX"])
    return orientation_of(struct.unpack("=9i", data[:36])) if len(data) >= 36 else (0, False)


def upright(image: NDArray[np.uint8], turns: int, mirrored: bool) -> NDArray[np.uint8]:
    """A (height, width, 3) image as it is to be shown."""
    if mirrored:
        image = image[:, ::-1]
    return np.ascontiguousarray(np.rot90(image, -turns)) if turns or mirrored else image
