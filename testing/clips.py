"""Test clips made with PyAV, whose every frame carries its own number as a bar code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Pattern = Callable[[int], Image]
"""Makes the picture of a frame from its number."""

SIZE = (320, 180)
COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 60, 200),
    "yellow": (220, 200, 40),
    "white": (235, 235, 235),
    "black": (12, 12, 12),
}
_BITS = 12
_CLOCK = Fraction(1, 90_000)


def flat(colour: str, size: tuple[int, int] = SIZE) -> Pattern:
    """A cartoon-like still of one colour with a square that wanders."""

    def draw(number: int) -> Image:
        width, height = size
        image = np.empty((height, width, 3), np.uint8)
        image[:] = COLOURS[colour]
        side = height // 5
        left = (number * 3) % (width - side)
        image[height // 2 : height // 2 + side, left : left + side] = 128
        return image

    return draw


def pan(size: tuple[int, int] = SIZE, speed: int = 12) -> Pattern:
    """A camera that runs along a wall of coloured stripes, `speed` pixels a frame."""
    width, height = size
    wall = (
        np.random.default_rng(4)
        .integers(20, 230, (1, 400, 3))
        .repeat(24, axis=1)
        .repeat(height, axis=0)
        .astype(np.uint8)
    )
    return lambda number: np.roll(wall, -speed * number, axis=1)[:, :width]


def snow(size: tuple[int, int] = SIZE) -> Pattern:
    """Big flakes in other places on every frame."""

    def draw(number: int) -> Image:
        image = flat("blue", size)(0)
        rng = np.random.default_rng(number)
        for x, y in zip(rng.integers(0, size[0], 250), rng.integers(0, size[1], 250), strict=True):
            image[y : y + 6, x : x + 6] = 240
        return image

    return draw


def confetti(side: int, size: tuple[int, int] = SIZE) -> Pattern:
    """A still of squares, `side` pixels wide, each of one of a few colours that are about equally bright."""
    width, height = size
    colours = np.array([(230, 60, 60), (40, 130, 60), (70, 90, 240), (110, 110, 110)], np.uint8)
    chosen = np.random.default_rng(5).integers(0, len(colours), (-(-height // side), -(-width // side)))
    image = colours[chosen].repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return lambda number: image


def make_clip(
    path: Path,
    seconds: float = 4.0,
    fps: float = 10.0,
    *,
    shots: Sequence[str | Pattern] = ("red", "blue"),
    vfr: bool = False,
    times: Sequence[float] | None = None,
    start: float = 0.0,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    options: dict[str, str] | None = None,
    coding: dict[str, str] | None = None,
    first: int = 0,
) -> list[float]:
    """Write a video of equally long shots and return the presentation time of each frame, from the first one.

    `options` are the container's, `coding` the encoder's, `first` is the number of the first frame.
    `vfr` puts the frames at uneven distances, `times` where they are told to be; `start` moves all of them, so that the
    stream does not start at 0; codecs other than libx264 and libvpx round times to whole frames. The container follows the name's ending.
    """
    if times is None:
        even = np.arange(max(1, round(seconds * fps))) / fps
        jitter = np.random.default_rng(7).uniform(0, 0.8 / fps, len(even)) if vfr else np.zeros(len(even))
        times = [float(t) for t in even + jitter - jitter[0]]
    ticks = [round((start + t) / _CLOCK) for t in times]
    patterns = [flat(shot, size) if isinstance(shot, str) else shot for shot in shots]
    with av.open(str(path), "w", options=options or {}) as output:
        stream = output.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        if codec in ("libx264", "libvpx"):
            stream.codec_context.time_base = _CLOCK
        if codec == "libx264":
            stream.options = {"crf": "18", "preset": "veryfast"}
        stream.options = {**stream.options, **(coding or {})}
        if rotation:
            stream.set_display_rotation(rotation)
        for number, tick in enumerate(ticks):
            image = patterns[number * len(patterns) // len(ticks)](number).copy()
            write_number(image, first + number)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if codec in ("libx264", "libvpx"):
                frame.pts, frame.time_base = tick, _CLOCK
            else:
                frame.time_base = 1 / stream.codec_context.framerate
                frame.pts = round(tick * _CLOCK / frame.time_base)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return [(tick - ticks[0]) * float(_CLOCK) for tick in ticks]


def make_sound(path: Path, seconds: float = 1.0) -> None:
    """Write a file with sound and no picture."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44_100)
        samples = np.zeros((1, round(44_100 * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.rate, frame.pts = 44_100, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_number(image: Image, number: int) -> None:
    """Draw a number into the top of an image as a bar code."""
    side = image.shape[1] // _BITS
    for bit in range(_BITS):
        image[: image.shape[0] // 9, bit * side : (bit + 1) * side] = 235 if number >> bit & 1 else 16


def read_number(image: Image) -> int:
    """The number that a frame carries, whatever size it was scaled to."""
    side = image.shape[1] / _BITS
    row = image.shape[0] // 18
    return sum(int(image[row, int((bit + 0.5) * side)].mean() > 128) << bit for bit in range(_BITS))
