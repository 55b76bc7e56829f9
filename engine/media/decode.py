"""Decoding by presentation time.

All times are presentation times in seconds from the start of the stream, from its pts; none is an index divided by a
frame rate. Every failure is a `VideoError` of one sentence.
"""

from __future__ import annotations

import ctypes
import math
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.errors import VideoError
from engine.system import bounds, shortage

TOLERANCE = 1e-6
"""Seconds within which two times are the same."""
SLACK = 1.0
"""Seconds by which a header may overstate the length."""
_MAX_LEAD = 20_000
"""Packets that may fail ahead of the first frame: minutes of a recording that waits for its key frame."""
_MAX_ALLOCATION = 1 << 29
"""Bytes that FFmpeg may take in one piece: a frame of `MAX_PIXELS` with 8 bytes each. An index may claim millions of samples in a few bytes."""
_MAX_IN_FLIGHT = 4 * bounds.MAX_PIXELS
"""Pixels of all the frames that are decoded at the same time, one to a thread."""
_MAX_THREADS = 16
# Containers only: playlists and image patterns can name other files, or other machines.
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,h264,hevc,ivf,mxf,rm,wtv,dv"


class TimedFrame(NamedTuple):
    """A decoded frame with its time."""

    number: int
    """Position among the frames decoded, from 0."""
    seconds: float
    """Presentation time from the start of the video."""
    frame: VideoFrame


with suppress(
    AttributeError, OSError
):  # Where symbols of linked libraries are not found so, frames are bounded all the same.
    ctypes.CDLL(av.buffer.__file__).av_max_alloc(ctypes.c_size_t(_MAX_ALLOCATION))


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its moving picture, closed again at the end."""
    if path.is_dir():
        raise VideoError(f"{path.name} is a folder; give a video file.")
    if not path.exists():
        raise VideoError(f"There is no file {path}; check its name and folder.")
    if not path.is_file():
        raise VideoError(f"{path.name} is not a file; give a video file.")
    try:
        if not path.stat().st_size:
            raise VideoError(f"{path.name} is empty; copy or download it again.")
        with path.open("rb") as file:
            head = file.read(12)
        if head[:3] == b"GIF" and len(head) == 12:  # Its container tells no size before a frame is decoded.
            _check_size(path, *struct.unpack_from("<HH", head, 6))
        container = av.open(
            str(path.absolute()),
            options={
                "max_pixels": str(bounds.MAX_PIXELS)
            },  # Some streams are looked into while the container is opened.
            container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except FFmpegError as error:
        _raise_shortage(path, error)
        if head[4:8] == b"ftyp" or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3"):
            raise VideoError(f"{path.name} is cut short or damaged; copy or download it again.") from error
        raise VideoError(f"{path.name} is not a video that can be read; give an mp4, mkv, webm, avi or mov.") from error
    except (OSError, MemoryError) as error:
        _raise_shortage(path, error)
        if not isinstance(error, OSError):
            raise
        raise VideoError(f"{path.name} cannot be opened: {error.strerror}; check its permissions.") from error
    with container:
        moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not moving:
            raise VideoError(f"{path.name} holds no moving picture; give a video file.")
        stream = moving[0]
        _check_size(path, stream.codec_context.width, stream.codec_context.height)
        _bound(stream)
        yield container, stream


def _check_size(path: Path, width: int, height: int) -> None:
    try:
        bounds.check_pixels(f"the picture of {path.name}", width, height)
    except ValueError as error:
        raise VideoError(f"{error} Scale it down first.") from error


def _bound(stream: VideoStream) -> None:
    """Have the decoder refuse frames that are too large, and take no more threads than their frames fit in memory together.

    A stream may change its size on the way; what a larger frame then may have is what the threads leave for each.
    """
    context = stream.codec_context
    claimed = max(1, context.width * context.height)
    threads = max(1, min(os.cpu_count() or 1, _MAX_THREADS, _MAX_IN_FLIGHT // claimed))
    context.options = {"max_pixels": str(min(bounds.MAX_PIXELS, _MAX_IN_FLIGHT // threads))}
    context.thread_type, context.thread_count = "AUTO", threads


def _raise_shortage(path: Path, error: BaseException) -> None:
    """Raise a shortage as one, so that the file is not taken for a broken one."""
    short = shortage(f"reading {path.name}", error)
    if short is not None:
        raise short from error


def decode(path: Path, container: InputContainer, stream: VideoStream, *, whole: bool = True) -> Iterator[TimedFrame]:
    """All frames in order of presentation; at least one where the `whole` video is read.

    Frames without a pts take their dts, or follow the one before by the mean distance. Packets that fail ahead of the
    first frame are passed over, as recordings that start between two key frames have them. Lost packets of a broadcast
    (MPEG-TS) are left to the decoder, which conceals most.
    """
    broadcast = container.format.name == "mpegts"
    base = float(stream.time_base or 0)
    step = float(1 / stream.average_rate) if stream.average_rate else 0.04
    origin = stream.start_time
    index, seconds, stop, failed = 0, -step, 0.0, 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt and index and not broadcast:
                raise VideoError(_broken(path, seconds))
            try:
                frames = packet.decode()
            except FFmpegError as error:
                _raise_shortage(path, error)
                failed += 1
                if index or failed > _MAX_LEAD:
                    raise
                continue
            for frame in frames:
                pts = frame.dts if frame.pts is None else frame.pts
                if pts is None:
                    seconds += step
                else:
                    origin = pts if origin is None else origin
                    before, seconds = seconds, max(0.0, (pts - origin) * base)
                    if seconds < before:
                        seconds = before + step
                if seconds > bounds.MAX_SECONDS:
                    raise VideoError(
                        f"{path.name} has a frame more than thirty years after its start; export it again from its source."
                    )
                _check_size(path, frame.width, frame.height)
                stop = seconds + (frame.duration or 0) * base
                yield TimedFrame(index, seconds, frame)
                index += 1
    except FFmpegError as error:
        _raise_shortage(path, error)
        raise VideoError(_broken(path, seconds)) from error
    if whole and not index:
        raise VideoError(f"{path.name} holds no picture that can be decoded; export it again from its source.")
    claimed = _claimed(stream)
    fewer = not stream.frames or index < 0.95 * stream.frames
    if whole and fewer and stop < claimed - max(SLACK, 0.05 * claimed):
        raise VideoError(_broken(path, seconds))


def _broken(path: Path, seconds: float) -> str:
    return f"{path.name} is damaged or cut short after {max(seconds, 0.0):.2f} s; copy or download it again."


@contextmanager
def decoded_from(path: Path, seconds: float) -> Iterator[tuple[InputContainer, VideoStream, Iterator[TimedFrame]]]:
    """Frames from at or before `seconds` on, at least one; `number` counts from the first one given.

    Decoding starts at a key frame near `seconds`, or at the start where the container cannot seek there.
    """
    for lead in (0.0, 10.0, math.inf):
        with open_video(path) as (container, stream):
            seek = lead < seconds
            if seek and not _seek(container, stream, seconds - lead):
                continue
            frames = decode(path, container, stream, whole=not seek)
            try:
                first = next(frames, None)
            except VideoError:
                if seek:
                    continue
                raise
            if first is not None and (not seek or (first.frame.pts is not None and first.seconds <= seconds)):
                yield container, stream, chain((first,), frames)
                return


def _seek(container: InputContainer, stream: VideoStream, seconds: float) -> bool:
    """Go to a key frame at or before `seconds`; False if this container cannot."""
    if stream.start_time is None or stream.time_base is None:
        return False
    try:
        container.seek(stream.start_time + int(seconds / stream.time_base), stream=stream)
    except FFmpegError as error:
        _raise_shortage(Path(container.name), error)
        return False
    return True


def _claimed(stream: VideoStream) -> float:
    """Seconds of this stream by its header, 0 where that does not tell; Matroska keeps them in a tag."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        end = sum(float(part) * 60.0**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        return 0.0
    return max(0.0, end - float((stream.start_time or 0) * (stream.time_base or 0)))


def header_duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds of the video by its header; 0 where that does not tell."""
    return _claimed(stream) or (container.duration or 0) / 1e6


def frames_on_display(frames: Iterable[TimedFrame], start: float, stop: float) -> Iterator[TimedFrame]:
    """The frame on display at `start` and all later ones up to `stop`."""
    shown: TimedFrame | None = None
    for timed in frames:
        if shown is not None and timed.seconds > stop:
            break
        if shown is not None and timed.seconds > start + TOLERANCE:
            yield shown
        shown = timed
    if shown is not None:
        yield shown


class Converter:
    """Turns decoded frames upright, with square pixels, into limited sizes."""

    def __init__(self, stream: VideoStream, width: int | None = None, height: int | None = None) -> None:
        aspect = stream.sample_aspect_ratio
        self._aspect = float(aspect) if aspect and 0.25 <= aspect <= 4 else 1.0
        self._limits = width or math.inf, height or math.inf
        self._even: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height on display, in pixels, within the limits."""
        width = frame.width * max(self._aspect, 1.0)
        height = frame.height / min(self._aspect, 1.0)
        if frame.rotation % 180:
            width, height = height, width
        scale = min(1.0, self._limits[0] / width, self._limits[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        width, height = self.size(frame)
        turns = round(frame.rotation / 90) % 4
        if turns % 2:
            width, height = height, width
        scaled = self._reformatter.reformat(frame, width, height, format="rgb24", interpolation="AREA")
        image = np.asarray(scaled.to_ndarray(), np.uint8)
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def even(self, frame: VideoFrame) -> VideoFrame:
        """A yuv420p frame of even width and height, the same for all frames."""
        if self._even is None:
            width, height = self.size(frame)
            self._even = max(2, width // 2 * 2), max(2, height // 2 * 2)
        if frame.rotation:
            frame = VideoFrame.from_ndarray(self.rgb(frame), format="rgb24")
        return self._reformatter.reformat(
            frame, *self._even, format="yuv420p", interpolation="BICUBIC", dst_color_range="MPEG"
        )


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
