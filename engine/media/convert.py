"""Decoded frames as people see them: upright, with square pixels, in ordinary colours, within limited sizes."""

from __future__ import annotations

import math

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.media.colour import BT709, WITH_ALL_COLOURS, ToneMapper, is_hdr, matrix_of, tags_of
from engine.media.orientation import orientation, upright

_SAME_SHAPE = 0.1
"""Share by which the ratio of width to height may differ: sizes are rounded."""
_TINY = 320 * 180
"""Pixels up to which a picture is worth doubling so that it keeps its colours."""


class Converter:
    """Turns decoded frames upright, with square pixels, into limited sizes."""

    def __init__(self, stream: VideoStream, width: int | None = None, height: int | None = None) -> None:
        aspect = stream.sample_aspect_ratio
        self._aspect = float(aspect) if aspect and 0.25 <= aspect <= 4 else 1.0
        self._limits = width or math.inf, height or math.inf
        self._even: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()
        self._tone_mapper = ToneMapper()
        self.tags = BT709

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height on display, in pixels, within the limits."""
        width = frame.width * max(self._aspect, 1.0)
        height = frame.height / min(self._aspect, 1.0)
        if orientation(frame)[0] % 2:
            width, height = height, width
        scale = min(1.0, self._limits[0] / width, self._limits[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        width, height = self.size(frame)
        turns, mirrored = orientation(frame)
        if turns % 2:
            width, height = height, width
        if is_hdr(frame):
            scaled = self._tone_mapper(frame, width, height)
        else:
            scaled = self._reformatter.reformat(
                frame, width, height, format="rgb24", interpolation=WITH_ALL_COLOURS, src_colorspace=matrix_of(frame)
            )
        return upright(np.asarray(scaled.to_ndarray(), np.uint8), turns, mirrored)

    def keeps_shape(self, frame: VideoFrame) -> bool:
        """Whether a frame has the shape of the first one that `even` was given, but for its size."""
        if self._even is None:
            return True
        width, height = self.size(frame)
        return abs(width / height * self._even[1] / self._even[0] - 1) < _SAME_SHAPE

    def even(self, frame: VideoFrame) -> VideoFrame:
        """A yuv420p frame of even width and height in the colours that `tags` names, the same for all frames."""
        if self._even is None:
            width, height = self.size(frame)
            if width * height <= _TINY and _has_full_colours(frame) and 2 * height <= self._limits[1]:
                width, height = 2 * width, 2 * height
            self._even = max(2, width // 2 * 2), max(2, height // 2 * 2)
            self.tags = tags_of(frame)
        matrix = matrix_of(frame)
        if orientation(frame) != (0, False) or is_hdr(frame):
            frame, matrix = VideoFrame.from_ndarray(self.rgb(frame), format="rgb24"), None
        return self._reformatter.reformat(
            frame,
            *self._even,
            format="yuv420p",
            interpolation="BICUBIC",
            src_colorspace=matrix,
            dst_colorspace=self.tags.matrix,
            dst_color_range="MPEG",
        )


def _has_full_colours(frame: VideoFrame) -> bool:
    """Whether each pixel has a colour of its own; clips have one for four pixels."""
    components = frame.format.components
    return len(components) >= 3 and (components[1].width, components[1].height) == (frame.width, frame.height)


class Sketch:
    """A frame as (3, 18, 32) int16: samples of Y, U and V on a grid, taken straight from the decoder's planes."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.int16]:
        planes = frame.planes
        small = len(planes) != 3 or planes[2].width < 32 or planes[2].height < 18
        if small or planes[2].line_size < 32 or frame.format.components[0].bits != 8:
            planes = self._reformatter.reformat(frame, 64, 36, format="yuv444p", interpolation="AREA").planes
        sketch = np.empty((3, 18, 32), np.int16)
        for plane, grid in zip(planes, sketch, strict=True):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            down, across = plane.height // 18, plane.width // 32
            grid[:] = rows[down // 2 :: down, across // 2 : plane.width : across][:18, :32]
        return sketch
