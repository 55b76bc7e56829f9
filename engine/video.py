"""Decoding, sampling and cutting of videos: the only door to PyAV.

All times are presentation times in seconds from the start of the stream, from its pts; none is an index divided by a
frame rate. Every failure is a `VideoError` of one sentence, or `StorageFull` where a clip does not fit on the disk.
"""

from __future__ import annotations

import errno
import io
import math
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from .errors import StorageFull, VideoError
from .shots import middles, number_shots

MAX_WIDTH = 640
"""Pixels; wide enough for a thumbnail on a dense screen and for every encoder's input."""
MAX_CLIP_HEIGHT = 720

_TOLERANCE = 1e-6
_SLACK = 1.0
# Containers only: playlists and image patterns can name other files, or other machines.
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,h264,hevc,ivf,mxf,rm,wtv,dv"


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


@dataclass(frozen=True, slots=True)
class Clip:
    """A short MP4 cut from a video."""

    path: Path
    start: float
    """Seconds of the source that the clip's time 0 stands for."""
    duration: float
    """Seconds."""
    offset: float
    """Seconds into the clip at which the wanted moment is on display."""


class _Timed(NamedTuple):
    number: int
    """Position among the frames decoded, from 0."""
    seconds: float
    frame: VideoFrame


def probe(path: Path | str) -> VideoFile:
    """Read the header and decode the first frame.

    Raises
    ------
    VideoError
        If the file is missing, empty, a folder, damaged, or holds no moving picture.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        width, height = _Converter(stream).size(next(_decode(path, container, stream)).frame)
        rate = stream.average_rate or stream.guessed_rate
        return VideoFile(
            path=path,
            duration=_duration(container, stream),
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
    width: int | None = MAX_WIDTH,
    on_time: Callable[[float], None] | None = None,
) -> Iterator[Sample]:
    """Decode a video once and pick frames.

    Parameters
    ----------
    path : the video file
    every : seconds between the picks: for each of the times 0, s, 2s, ... the first frame at or after it, each frame at
        most once; None picks every frame
    shots : pick the middle frame of each shot instead, in long shots one for each five seconds; `every` is not used
    width : images wider than this many pixels are scaled down, keeping their aspect; None keeps the native size
    on_time : called with the time reached, about twice per second of video

    Yields
    ------
    Samples by rising `frame_index`; memory holds sixteen decoded frames at most.

    Raises
    ------
    VideoError
        As `probe`, and when the picture breaks off, naming the time reached.
    ValueError
        If `every` is not above 0.
    """
    if every is not None and not every > 0:
        raise ValueError(f"every must be above 0 seconds, not {every}.")
    return _sample(Path(path), every, shots, width, on_time)


def _sample(
    path: Path, every: float | None, shots: bool, width: int | None, on_time: Callable[[float], None] | None
) -> Iterator[Sample]:
    with _opened(path) as (container, stream):
        sketch, picture = _Sketch(), _Converter(stream, width)
        timed_frames = _reporting(_decode(path, container, stream), on_time)
        numbered = number_shots((timed, sketch(timed.frame)) for timed in timed_frames)
        for timed, shot in middles(numbered) if shots else _ticks(numbered, every):
            yield Sample(timed.number, timed.seconds, shot, picture.rgb(timed.frame))


def grab(path: Path | str, seconds: float, width: int | None = None) -> NDArray[np.uint8]:
    """The frame on display at a time, as (height, width, 3) uint8 RGB.

    Times before the first frame give the first, times past the end the last. `width` limits the width in pixels.

    Raises
    ------
    VideoError
        As `probe`.
    """
    with _decoded_from(Path(path), seconds) as (_, stream, frames):
        shown = next(_between(frames, seconds + 1e-3, math.inf))
        return _Converter(stream, width).rgb(shown.frame)


def thumbnail(image: NDArray[np.uint8], width: int = 320) -> bytes:
    """A JPEG of a (height, width, 3) uint8 RGB image, scaled down to at most `width` pixels across."""
    picture = Image.fromarray(image)
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def cut_clip(
    path: Path | str,
    seconds: float,
    out: Path | str,
    *,
    before: float = 3.0,
    after: float = 5.0,
    height: int | None = None,
) -> Clip:
    """Cut a short silent MP4 around a moment, which every browser plays (H.264, yuv420p, index in front).

    The clip's time 0 is exactly `before` seconds ahead of the moment, or the start of the video: the frame on display
    then opens the clip, so `offset` is `before` wherever there is so much video, whatever the frame rate.

    Parameters
    ----------
    path : the video file
    seconds : the moment, in seconds from the start of the video
    out : where the clip goes; it appears there whole or not at all
    before, after : seconds of video around the moment
    height : pixels at most, 720 if None; sizes are rounded down to even numbers

    Raises
    ------
    VideoError
        As `probe`, and when the video ends before the moment.
    StorageFull
        If there is no room for the clip.
    """
    path, out = Path(path), Path(out)
    start = max(seconds - before, 0.0)
    part = out.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with _decoded_from(path, start) as (container, stream, frames):
            length = _duration(container, stream)
            if length and seconds > length + _SLACK:
                raise VideoError(
                    f"{path.name} ends at {length:.1f} s, before {seconds:.1f} s; choose an earlier moment."
                )
            picture = _Converter(stream, None, height or MAX_CLIP_HEIGHT)
            stop = min(seconds + after, length or math.inf)
            duration = _encode(_between(frames, start, seconds + after), picture, stream, part, start, stop)
        part.replace(out)
    except (OSError, FFmpegError) as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull(
                f"There is no room left for the clip {out.name}; free some space and try again."
            ) from error
        raise VideoError(
            f"The clip {out.name} could not be written: {error}; check the folder {out.parent}."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return Clip(out, start, duration, max(seconds, 0.0) - start)


def _between(frames: Iterable[_Timed], start: float, stop: float) -> Iterator[_Timed]:
    """The frame on display at `start` and all later ones up to `stop`."""
    shown: _Timed | None = None
    for timed in frames:
        if shown is not None and timed.seconds > stop:
            break
        if shown is not None and timed.seconds > start + _TOLERANCE:
            yield shown
        shown = timed
    if shown is not None:
        yield shown


def _encode(
    frames: Iterable[_Timed], picture: _Converter, stream: VideoStream, part: Path, start: float, stop: float
) -> float:
    """Write frames to `part`, times counted from `start`, the last on display until `stop`; returns the clip's length."""
    rate = stream.average_rate or Fraction(25)
    clock = Fraction(1, 90_000)
    last, length = -1, 0
    with av.open(str(part.absolute()), "w", format="mp4", options={"movflags": "+faststart"}) as output:
        encoder: VideoStream | None = None
        for timed in frames:
            image = picture.even(timed.frame)
            if encoder is None:
                encoder = output.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
                encoder.width, encoder.height, encoder.pix_fmt = image.width, image.height, "yuv420p"
                encoder.codec_context.time_base = clock
                encoder.codec_context.max_b_frames = 0
                encoder.gop_size = max(1, round(rate))
            tick = max(0, round((timed.seconds - start) / clock))
            if tick > last:
                image.pts, image.time_base, image.pict_type = tick, clock, PictureType.NONE
                output.mux(encoder.encode(image))
                last = tick
        if encoder is not None:
            *packets, final = encoder.encode(None)
            length = max(last + round(1 / rate / clock), round((stop - start) / clock))
            final.duration = length - last
            output.mux([*packets, final])
    return float(length * clock)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its moving picture, closed again at the end."""
    if path.is_dir():
        raise VideoError(f"{path.name} is a folder; give a video file.")
    if not path.exists():
        raise VideoError(f"There is no file {path}; check its name and folder.")
    try:
        if not path.stat().st_size:
            raise VideoError(f"{path.name} is empty; copy or download it again.")
        with path.open("rb") as file:
            head = file.read(12)
        container = av.open(
            str(path.absolute()),
            container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except FFmpegError as error:
        if head[4:8] == b"ftyp" or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3"):
            raise VideoError(f"{path.name} is cut short or damaged; copy or download it again.") from error
        raise VideoError(f"{path.name} is not a video that can be read; give an mp4, mkv, webm, avi or mov.") from error
    except OSError as error:
        raise VideoError(f"{path.name} cannot be opened: {error.strerror}; check its permissions.") from error
    with container:
        moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not moving:
            raise VideoError(f"{path.name} holds no moving picture; give a video file.")
        stream = moving[0]
        stream.thread_type = "AUTO"
        yield container, stream


def _decode(path: Path, container: InputContainer, stream: VideoStream, *, whole: bool = True) -> Iterator[_Timed]:
    """All frames in order of presentation; at least one where the `whole` video is read.

    Frames without a pts take their dts, or follow the one before by the mean distance. Packets that fail ahead of the
    first frame are passed over, as recordings that start between two key frames have them. Lost packets of a broadcast
    (MPEG-TS) are left to the decoder, which conceals most.
    """
    broadcast = container.format.name == "mpegts"
    base = float(stream.time_base or 0)
    step = float(1 / stream.average_rate) if stream.average_rate else 0.04
    origin = stream.start_time
    index, seconds, stop = 0, -step, 0.0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt and index and not broadcast:
                raise VideoError(_broken(path, seconds))
            try:
                frames = packet.decode()
            except FFmpegError:
                if index:
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
                stop = seconds + (frame.duration or 0) * base
                yield _Timed(index, seconds, frame)
                index += 1
    except FFmpegError as error:
        raise VideoError(_broken(path, seconds)) from error
    if whole and not index:
        raise VideoError(f"{path.name} holds no picture that can be decoded; export it again from its source.")
    claimed = _claimed(stream)
    fewer = not stream.frames or index < 0.95 * stream.frames
    if whole and fewer and stop < claimed - max(_SLACK, 0.05 * claimed):
        raise VideoError(_broken(path, seconds))


def _broken(path: Path, seconds: float) -> str:
    return f"{path.name} is damaged or cut short after {max(seconds, 0.0):.2f} s; copy or download it again."


@contextmanager
def _decoded_from(path: Path, seconds: float) -> Iterator[tuple[InputContainer, VideoStream, Iterator[_Timed]]]:
    """Frames from at or before `seconds` on, at least one; `number` counts from the first one given.

    Decoding starts at a key frame near `seconds`, or at the start where the container cannot seek there.
    """
    for lead in (0.0, 10.0, math.inf):
        with _opened(path) as (container, stream):
            seek = lead < seconds
            if seek and not _seek(container, stream, seconds - lead):
                continue
            frames = _decode(path, container, stream, whole=not seek)
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
    except FFmpegError:
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


def _duration(container: InputContainer, stream: VideoStream) -> float:
    return _claimed(stream) or (container.duration or 0) / 1e6


class _Converter:
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


def _reporting(frames: Iterable[_Timed], on_time: Callable[[float], None] | None) -> Iterator[_Timed]:
    due = 0.0
    for timed in frames:
        if on_time is not None and timed.seconds >= due:
            on_time(timed.seconds)
            due = timed.seconds + 0.5
        yield timed


def _ticks(frames: Iterable[tuple[_Timed, int]], every: float | None) -> Iterator[tuple[_Timed, int]]:
    due = 0.0
    for timed, shot in frames:
        if every is None:
            yield timed, shot
        elif timed.seconds >= due - _TOLERANCE:
            yield timed, shot
            due = (math.floor((timed.seconds + _TOLERANCE) / every) + 1) * every


class _Sketch:
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
