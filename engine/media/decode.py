"""Decoding by presentation time.

All times are presentation times in seconds from the start of the stream, from its pts; none is an index divided by a
frame rate. Every failure is a `VideoError` of one sentence.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from engine.errors import VideoError
from engine.media.clock import INDEXED, PacketClock
from engine.media.deinterlace import deinterlaced
from engine.media.timed import DecodeReport, TimedFrame
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
_CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,h264,hevc,ivf,mxf,rm,wtv,dv,"
    "apng,m4v,mjpeg,nut,obu,av1,vc1,vvc,yuv4mpegpipe"
)
# fmt: off
VIDEO_ENDINGS = (
    ".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3g2", ".3gp",
    ".264", ".265", ".266", ".asf", ".apng", ".av1", ".avc", ".dif", ".divx", ".dv", ".f4v", ".gif", ".h264",
    ".h265", ".h266", ".hevc", ".ismv", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".mj2", ".mjpeg", ".mjpg",
    ".mk3d", ".mod", ".mpe", ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb",
    ".tod", ".tp", ".trp", ".vc1", ".vob", ".vro", ".vvc", ".wtv", ".xvid", ".y4m",
)
# fmt: on
"""How names of video files end, in small letters: what of a folder, and of an archive, is taken for a video."""
_NO_FILM = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
_STILL_CODECS = ("mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000", "ljpeg")
"""Codecs in which covers are stored; where another stream is coded otherwise, that one is the film."""
_IMAGES = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_NO_PTS_IN_AVI = ("h264", "hevc", "vvc")
_LEADS = (0.0, 10.0, 60.0)
"""Seconds ahead of the wanted time from which decoding is tried to start, before it starts at the start."""
_MOST_DAMAGED = 0.05
"""Share of the pictures that may fail or be damaged."""
_A_PICTURE_A_PACKET = ("h264", "hevc", "mpeg4", "mjpeg", "prores", "dnxhd")
_LEAST_PICTURE = 20
"""Bytes of a packet that is no mere placeholder for a picture that came before, as MPEG-4 in AVI has them."""
_LONGEST_LOSS = 10
"""Seconds missing from a broadcast that count as lost; more is a pause of the recording."""
_MOST_WAITING = 32
"""Frames that may wait for the first one with a time."""


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
        raise VideoError(f"{path.name} {_why_not(head)}") from error
    except (OSError, MemoryError) as error:
        _raise_shortage(path, error)
        if not isinstance(error, OSError):
            raise
        raise VideoError(f"{path.name} cannot be opened: {error.strerror}; check its permissions.") from error
    with container:
        stream = _moving_picture(container)
        if stream is None:
            raise VideoError(f"{path.name} holds no moving picture; give a video file.")
        _check_size(path, stream.codec_context.width, stream.codec_context.height)
        _bound(stream)
        yield container, stream


def _why_not(head: bytes) -> str:
    """Why a file that starts so could not be opened."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "is a WebP image, which is not read as a video; convert it to mp4 or gif."
    if head[4:8] == b"ftyp" and head[8:12] in _IMAGES:
        return "is an image, not a video; give a video file."
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"styp") or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3"):
        return "is cut short or damaged; copy or download it again."
    return "is not a video that can be read; give an mp4, mkv, webm, avi or mov."


def _moving_picture(container: InputContainer) -> VideoStream | None:
    """The stream of the film: not a cover, a still or a preview; of several, the one marked as the default, then the largest."""
    streams = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _NO_FILM
    ]
    if not streams:
        return None
    longest = max(_claimed(stream) for stream in streams)
    coded = any(stream.codec_context.name not in _STILL_CODECS for stream in streams)

    def rank(stream: VideoStream) -> tuple[bool, bool, bool, int]:
        context = stream.codec_context
        still = stream.frames == 1 or (coded and context.name in _STILL_CODECS)
        brief = 0 < _claimed(stream) < longest / 4
        return (
            not still,
            not brief,
            bool(stream.disposition & Disposition.default),
            context.width * context.height,
        )

    return max(streams, key=rank)


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


def decode(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    *,
    report: DecodeReport | None = None,
    sought: bool = False,
) -> Iterator[TimedFrame]:
    """All frames in order of presentation, interlaced ones made whole; at least one where the whole video is read.

    Packets that fail are passed over and counted; so are those ahead of the first frame, as recordings that start between two
    key frames have them. Frames without a pts take their dts, or follow the one before by the mean distance. Where the clock
    starts anew, times go on.

    Parameters
    ----------
    report : filled as frames are read
    sought : whether the container was sent to some place, and frames are read from there; `report.origin` is known then

    Raises
    ------
    VideoError
        If too much of it fails, or its end is missing, once the end is reached.
    """
    return deinterlaced(_decode(path, container, stream, DecodeReport() if report is None else report, sought))


def _decode(
    path: Path, container: InputContainer, stream: VideoStream, report: DecodeReport, sought: bool
) -> Iterator[TimedFrame]:
    clock = PacketClock(stream)
    times = _FrameTimes(container, stream, report)
    broadcast = container.format.name == "mpegts"
    losses = _SilentLosses(container, stream, report)
    packets: Iterable[Packet[Any]] = container.demux(stream)
    torn, waits = False, sought
    try:
        for packet in packets if has_index(container) else clock(packets):
            if packet.size:
                report.n_packets += 1
                losses.take(packet)
                torn = packet.is_corrupt and not broadcast
                waits = waits and not packet.is_keyframe
                if not report.n_frames and packet.has_sidedata("encryption_info"):
                    raise VideoError(f"{path.name} is encrypted; give a copy without protection.")
            if waits or (not packet.size and not (packet.pts is None and packet.dts is None)):
                continue
            times.take(packet)
            try:
                frames = packet.decode()
            except FFmpegError as error:
                _raise_shortage(path, error)
                times.drop()
                if packet.size and (report.n_frames or not broadcast):
                    report.n_lost += 1
                if not report.n_frames and report.n_packets > _MAX_LEAD:
                    raise
                continue
            report.times_corrected |= clock.corrected
            for frame in frames:
                _check_size(path, frame.width, frame.height)
                report.n_damaged += frame.is_corrupt
                for seconds, ready in times.of(frame):
                    yield _counted(path, seconds, ready, times, report)
        for seconds, ready in times.rest():
            yield _counted(path, seconds, ready, times, report)
    except FFmpegError as error:
        _raise_shortage(path, error)
        raise VideoError(_broken(path, times.seconds)) from error
    report.finished = True
    if not sought:
        losses.settle()
    report.sound_lead = _sound_lead(container, stream, report)
    if not sought:
        _check_whole(path, stream, report, times.seconds, torn)


def _sound_lead(container: InputContainer, stream: VideoStream, report: DecodeReport) -> float:
    starts = [
        float(sound.start_time * sound.time_base)
        for sound in container.streams.audio
        if sound.start_time and sound.time_base
    ]
    starts += [0.0 for sound in container.streams.audio if sound.start_time == 0]
    if not starts or report.origin is None or stream.time_base is None:
        return 0.0
    return max(0.0, float(report.origin * stream.time_base) - min(starts))


def _counted(path: Path, seconds: float, frame: VideoFrame, times: _FrameTimes, report: DecodeReport) -> TimedFrame:
    if seconds > bounds.MAX_SECONDS:
        raise VideoError(
            f"{path.name} has a frame more than thirty years after its start; export it again from its source."
        )
    number = report.n_frames
    report.n_frames += 1
    report.end = max(report.end, seconds + times.lasts(frame))
    return TimedFrame(number, seconds, frame)


def _check_whole(path: Path, stream: VideoStream, report: DecodeReport, last: float, torn: bool) -> None:
    """Raise `VideoError` for a video that was read to its end if much of it failed or its tail is missing."""
    if not report.n_frames:
        raise VideoError(f"{path.name} holds no picture that can be decoded; export it again from its source.")
    if report.n_lost + report.n_damaged > max(1, _MOST_DAMAGED * report.n_packets):
        raise VideoError(f"{path.name} is damaged: {report.damage}; copy or download it again.")
    claimed = _claimed(stream)
    fewer = not stream.frames or report.n_frames + report.n_lost < 0.95 * stream.frames
    # Some lengths count from the zero of the clock, not from the first frame.
    reached = report.end + max(0.0, float((report.origin or 0) * (stream.time_base or 0)))
    if torn or (fewer and reached < claimed - max(SLACK, 0.05 * claimed)):
        raise VideoError(_broken(path, last))


class _SilentLosses:
    """Pictures that are missing without an error: packets of a broadcast that did not arrive, and pictures that a decoder left out."""

    def __init__(self, container: InputContainer, stream: VideoStream, report: DecodeReport) -> None:
        rate = stream.average_rate or stream.guessed_rate
        base = stream.time_base
        self._report = report
        self._broadcast = container.format.name == "mpegts"
        self._paired = stream.codec_context.name in _A_PICTURE_A_PACKET and (
            has_index(container) or container.format.name in ("avi", "flv")
        )
        self._step = max(1, round(1 / rate / base)) if rate and base else 0
        self._most = int(_LONGEST_LOSS / base) if base else 0
        self._last: int | None = None
        self._torn = False
        self._n_pictures = 0

    def take(self, packet: Packet[Any]) -> None:
        """Note a packet with content."""
        if not packet.is_discard and packet.size >= _LEAST_PICTURE:
            self._n_pictures += bool(self._n_pictures or packet.is_keyframe)
        if packet.dts is None:
            return
        gap = 0 if self._last is None else packet.dts - self._last
        torn, self._torn = packet.is_corrupt or self._torn, packet.is_corrupt
        if self._broadcast and torn and self._step and 0 < gap <= self._most:
            missing = max(0, round(gap / self._step) - 1)
            self._report.n_lost += missing
            self._report.n_packets += missing
        self._last = packet.dts

    def settle(self) -> None:
        """Count what decoders left out, at the end."""
        if self._paired:
            report = self._report
            report.n_lost += max(0, self._n_pictures - report.n_frames - report.n_lost)


class _FrameTimes:
    """Times of decoded frames, in seconds from the start of the video."""

    def __init__(self, container: InputContainer, stream: VideoStream, report: DecodeReport) -> None:
        rate = stream.average_rate or stream.guessed_rate
        self._report = report
        self._base = float(stream.time_base or 0)
        self._step = float(1 / rate) if rate else 0.04
        self._start = stream.start_time
        self._avi = container.format.name == "avi"
        self._waiting: list[VideoFrame] = []
        self._slots: deque[int] | None = deque() if lacks_pts(container, stream) else None
        self.seconds = -self._step
        """Of the last frame given."""

    def lasts(self, frame: VideoFrame) -> float:
        """Seconds for which a frame is on display."""
        known = frame.duration if self._slots is None else 0
        return (known or 0) * self._base or self._step

    def take(self, packet: Packet[Any]) -> None:
        """Note a packet that goes to the decoder."""
        if self._slots is not None and packet.size and packet.dts is not None:
            self._slots.append(packet.dts)

    def drop(self) -> None:
        """The packet taken last has failed."""
        if self._slots:
            self._slots.pop()

    def of(self, frame: VideoFrame) -> Iterator[tuple[float, VideoFrame]]:
        """This frame and those that waited for it; none while no frame has had a time."""
        pts = frame.dts if frame.pts is None else frame.pts
        if self._slots is not None:
            if len(self._slots) > 1:
                self._step = (self._slots[1] - self._slots[0]) * self._base or self._step
            # Where the container has times of decoding only, frames take them in order.
            pts = self._slots.popleft() if self._slots else None
        origin = self._report.origin
        if origin is None:
            if pts is None and self._start is not None and len(self._waiting) < _MOST_WAITING:
                self._waiting.append(frame)
                return
            if pts is not None:
                origin = pts - round(len(self._waiting) * self._step / self._base)
                # A recording may start with pictures that cannot be decoded; AVI counts from the time of decoding.
                if self._start is not None and not self._avi:
                    origin = min(origin, self._start)
                self._report.origin = origin
        yield from self.rest()
        before = self.seconds
        if pts is None or origin is None:
            self.seconds = before + self._step
            self._report.times_corrected |= self._start is not None
        else:
            self.seconds = (pts - origin) * self._base
            if self.seconds < before - TOLERANCE:
                self.seconds = before + self._step
                self._report.times_corrected = True
        self.seconds = max(self.seconds, 0.0)
        yield self.seconds, frame

    def rest(self) -> Iterator[tuple[float, VideoFrame]]:
        """The frames that still wait."""
        for frame in self._waiting:
            self.seconds += self._step
            yield self.seconds, frame
        self._waiting = []


def has_index(container: InputContainer) -> bool:
    """Whether times come from one index, so that nothing can be joined behind it."""
    return container.format.name.startswith(INDEXED)


def lacks_pts(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the container tells times of decoding only, and frames are shown in another order."""
    context = stream.codec_context
    return container.format.name == "avi" and context.name in _NO_PTS_IN_AVI and context.has_b_frames > 0


def _broken(path: Path, seconds: float) -> str:
    return f"{path.name} is damaged or cut short after {max(seconds, 0.0):.2f} s; copy or download it again."


class Reading(NamedTuple):
    """A video that is being read from some time on."""

    container: InputContainer
    stream: VideoStream
    frames: Iterator[TimedFrame]
    report: DecodeReport


@contextmanager
def decoded_from(path: Path, seconds: float, *, in_sequence: bool = False) -> Iterator[Reading]:
    """Frames from at or before `seconds` on, at least one; `number` counts from the first one given.

    Decoding starts at a key frame near `seconds`, or at the start where seeking would not lead to the same frames.

    Parameters
    ----------
    in_sequence : whether it is known that decoding must start at the start, as `DecodeReport.times_corrected` says
    """
    for lead in () if in_sequence else _LEADS:
        if lead >= seconds:
            break
        with open_video(path) as (container, stream):
            starts = _starts(path, container, stream)
            if starts == frozenset():
                break
            reading = _sought(path, container, stream, seconds, lead, starts)
            if reading is not None:
                yield reading
                return
    with open_video(path) as (container, stream):
        report = DecodeReport()
        yield Reading(container, stream, decode(path, container, stream, report=report), report)


def _sought(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    seconds: float,
    lead: float,
    starts: frozenset[int] | None,
) -> Reading | None:
    """From the key frame at or before `seconds - lead` on; None if that is not where this container leads to."""
    report = DecodeReport()
    try:
        # The first frame tells the time of the start, and some decoders what their later frames rely on.
        next(decode(path, container, stream, report=report))
        if report.origin is None or report.times_corrected or not stream.time_base:
            return None
        container.seek(report.origin + int((seconds - lead) / stream.time_base), stream=stream)
        report = DecodeReport(origin=report.origin)
        frames = decode(path, container, stream, report=report, sought=True)
        first = next(frames, None)
    except FFmpegError as error:
        _raise_shortage(path, error)
        return None
    except (VideoError, StopIteration):
        return None
    if first is None or first.seconds > seconds + TOLERANCE or first.frame.is_corrupt:
        return None
    # Some containers give the first packet the time of another one.
    tick = round(first.seconds / stream.time_base) + (report.origin or 0)
    if starts is not None and tick not in starts:
        return None
    # An index may call frames key frames that are none. What an intra picture lacks, the next ten seconds make good.
    if not (first.frame.key_frame or (lead and first.frame.pict_type == PictureType.I)):
        return None
    return Reading(container, stream, chain((first,), frames), report)


def _starts(path: Path, container: InputContainer, stream: VideoStream) -> frozenset[int] | None:
    """The ticks at which a frame may be that seeking leads to: none where frames have other times after seeking than in sequence, any where it is None."""
    if stream.start_time is None or stream.time_base is None or lacks_pts(container, stream):
        return frozenset()
    if has_index(container) and not container.format.name.startswith("matroska"):
        return None
    status = path.stat()
    return _key_times(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _key_times(path: Path, _nbytes: int, _changed: int) -> frozenset[int]:
    """Times of the key frames in ticks; none where they cannot be relied on, as each must be shown after all that was coded before it.

    Reads the file through, once for each version of it.
    """
    keys: set[int] = set()
    with open_video(path) as (container, stream):
        clock = PacketClock(stream)
        last: int | None = None
        try:
            for packet in clock(container.demux(stream)):
                if clock.corrected:
                    return frozenset()
                if packet.pts is None:
                    continue
                if packet.is_keyframe:
                    if last is not None and packet.pts <= last:
                        return frozenset()
                    keys.add(packet.pts)
                last = packet.pts if last is None else max(last, packet.pts)
        except FFmpegError as error:
            _raise_shortage(path, error)
            return frozenset()
    return frozenset(keys)


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
