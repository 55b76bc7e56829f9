"""Metadata of video files, sampled frames, and thumbnails.

All times are presentation times in seconds from the start of the stream. Every failure is a `VideoError` of one sentence.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.media.convert import Converter, Sketch
from engine.media.decode import TOLERANCE, decode
from engine.media.opening import header_duration, open_video
from engine.media.seeking import decoded_from, frames_on_display
from engine.media.shots import middle_frames, number_shots
from engine.media.timed import DecodeReport, TimedFrame

SAMPLE_WIDTH = 640
"""Pixels; wide enough for a thumbnail on a dense screen and for every encoder's input."""
_TALLEST = 4
"""Multiple of the width up to which an image may be high; a taller one is scaled down further."""
_SHORTEST = 1e-3
"""Seconds between two picks at the least."""
_ROUNDED = 6e-4
"""Seconds by which a time that was rounded to milliseconds may lie before its frame; less than any two frames are apart."""
_LARGE = 1 << 24
"""Pixels from which a frame is scaled at once instead of being held as it is: more than 4K has."""


@dataclass(frozen=True, slots=True)
class VideoFile:
    """What a video file says about itself."""

    path: Path
    duration: float
    """Seconds; 0 where the file does not tell."""
    fps: float
    """Mean frames per second; 0 where the file does not tell. Never used for times."""
    width: int
    height: int
    """Pixels as displayed: after rotation, with square pixels."""
    n_frames: int
    """Number of frames that the container claims; 0 where it does not tell."""
    codec: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame picked from a video."""

    frame_index: int
    """Position among the decoded frames, from 0."""
    seconds: float
    """Presentation time from the start of the video."""
    shot: int
    """Number of the shot, from 0."""
    image: NDArray[np.uint8]
    """(height, width, 3) uint8 RGB."""


def probe(path: Path | str) -> VideoFile:
    """Read the header and decode the first frame.

    Raises
    ------
    VideoError
        If the file is missing, empty, a folder, damaged, or holds no moving picture.
    """
    path = Path(path)
    with open_video(path) as (container, stream):
        width, height = Converter(stream).size(next(decode(path, container, stream)).frame)
        rate = stream.average_rate or stream.guessed_rate
        return VideoFile(
            path=path,
            duration=header_duration(container, stream),
            fps=float(rate) if rate else 0.0,
            width=width,
            height=height,
            n_frames=stream.frames,
            codec=stream.codec_context.name,
        )


def sample(
    path: Path | str,
    *,
    every: float | None = 1.0,
    shots: bool = False,
    width: int | None = SAMPLE_WIDTH,
    on_time: Callable[[float], None] | None = None,
    report: DecodeReport | None = None,
) -> Iterator[Sample]:
    """Decode a video once and pick frames.

    Parameters
    ----------
    path : the video file
    every : seconds between the picks: for each of the times 0, s, 2s, ... the first frame at or after it, each frame at
        most once; None picks every frame
    shots : pick the middle frame of each shot instead, in long shots one for each five seconds; `every` is not used
    width : images wider than this many pixels, or more than four times as high, are scaled down, keeping their aspect;
        None keeps the native size
    on_time : called with the time reached, about twice per second of video
    report : filled while samples are taken: where the video ends, what was lost

    Yields
    ------
    Samples by rising `frame_index`; memory holds sixteen decoded frames at most.

    Raises
    ------
    VideoError
        As `probe`, and when the picture breaks off, naming the time reached.
    ValueError
        As `check_every`.
    """
    if every is not None:
        check_every(every)
    return _sample(Path(path), every, shots, width, on_time, report)


def check_every(every: float) -> None:
    """Raise `ValueError` for a step between frames, in seconds, that cannot be taken."""
    if not every >= _SHORTEST:
        raise ValueError(f"The step between frames is {every} s; give {_SHORTEST} or more.")


class _Seen(NamedTuple):
    """A decoded frame on its way, or already the picture of a large one."""

    number: int
    seconds: float
    held: TimedFrame | NDArray[np.uint8]


def _sample(
    path: Path,
    every: float | None,
    shots: bool,
    width: int | None,
    on_time: Callable[[float], None] | None,
    report: DecodeReport | None,
) -> Iterator[Sample]:
    with open_video(path) as (container, stream):
        sketch, converter = Sketch(), Converter(stream, width, None if width is None else _TALLEST * width)

        def seen(timed: TimedFrame) -> _Seen:
            # Sixteen frames may be held: as they are, those beyond 4K would take gigabytes.
            large = width is not None and timed.frame.width * timed.frame.height > _LARGE
            return _Seen(timed.number, timed.seconds, converter.rgb(timed.frame) if large else timed)

        # Of a damaged frame parts are made up: it counts, and is not picked.
        timed_frames = _reporting(decode(path, container, stream, report=report), on_time)
        numbered = number_shots(
            (seen(timed), sketch(timed.frame)) for timed in timed_frames if not timed.frame.is_corrupt
        )
        for seen_frame, shot in middle_frames(numbered) if shots else _ticks(numbered, every):
            image = converter.rgb(seen_frame.held.frame) if isinstance(seen_frame.held, TimedFrame) else seen_frame.held
            yield Sample(seen_frame.number, seen_frame.seconds, shot, image)


def grab(path: Path | str, seconds: float, width: int | None = None, *, in_sequence: bool = False) -> NDArray[np.uint8]:
    """The frame on display at a time, as (height, width, 3) uint8 RGB.

    Times before the first frame give the first, times past the end the last. `width` limits the width in pixels.
    `in_sequence` says that decoding must start at the start, as `DecodeReport.times_corrected` tells.

    Raises
    ------
    VideoError
        As `probe`.
    """
    with decoded_from(Path(path), seconds, in_sequence=in_sequence) as reading:
        shown = next(frames_on_display(reading.frames, seconds + _ROUNDED, math.inf))
        return Converter(reading.stream, width, None if width is None else _TALLEST * width).rgb(shown.frame)


def encode_thumbnail(image: NDArray[np.uint8], width: int = 320) -> bytes:
    """A JPEG of a (height, width, 3) uint8 RGB image, scaled down to at most `width` pixels across."""
    picture = Image.fromarray(image)
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _reporting(frames: Iterable[TimedFrame], on_time: Callable[[float], None] | None) -> Iterator[TimedFrame]:
    due = 0.0
    for timed in frames:
        if on_time is not None and timed.seconds >= due:
            on_time(timed.seconds)
            due = timed.seconds + 0.5
        yield timed


def _ticks(frames: Iterable[tuple[_Seen, int]], every: float | None) -> Iterator[tuple[_Seen, int]]:
    due = 0.0
    for timed, shot in frames:
        if every is None:
            yield timed, shot
        elif timed.seconds >= due - TOLERANCE:
            yield timed, shot
            due = (math.floor((timed.seconds + TOLERANCE) / every) + 1) * every
