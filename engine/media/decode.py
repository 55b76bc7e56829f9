"""Decoding by presentation time.

All times are presentation times in seconds from the start of the stream, from its pts; none is an index divided by a
frame rate. Every failure is a `VideoError` of one sentence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from engine.errors import VideoError
from engine.media.clock import PacketClock, has_index, lacks_pts
from engine.media.deinterlace import deinterlaced
from engine.media.opening import check_frame_size, claimed_seconds, raise_shortage
from engine.media.timed import DecodeReport, TimedFrame
from engine.system import bounds

TOLERANCE = 1e-6
"""Seconds within which two times are the same."""
SLACK = 1.0
"""Seconds by which a header may overstate the length."""
_MAX_LEAD = 20_000
"""Packets that may fail ahead of the first frame: minutes of a recording that waits for its key frame."""
_MOST_DAMAGED = 0.05
"""Share of the pictures that may fail or be damaged."""
_A_PICTURE_A_PACKET = ("h264", "hevc", "mpeg4", "mjpeg", "prores", "dnxhd")
_LEAST_PICTURE = 20
"""Bytes of a packet that is no mere placeholder for a picture that came before, as MPEG-4 in AVI has them."""
_LONGEST_LOSS = 10
"""Seconds missing from a broadcast that count as lost; more is a pause of the recording."""
_MOST_WAITING = 32
"""Frames that may wait for the first one with a time."""


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
                raise_shortage(path, error)
                times.drop()
                if packet.size and (report.n_frames or not broadcast):
                    report.n_lost += 1
                if not report.n_frames and report.n_packets > _MAX_LEAD:
                    raise
                continue
            report.times_corrected |= clock.corrected
            for frame in frames:
                check_frame_size(path, frame.width, frame.height)
                report.n_damaged += frame.is_corrupt
                for seconds, ready in times.of(frame):
                    yield _counted(path, seconds, ready, times, report)
        for seconds, ready in times.rest():
            yield _counted(path, seconds, ready, times, report)
    except FFmpegError as error:
        raise_shortage(path, error)
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
    claimed = claimed_seconds(stream)
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
        for frame in self._waiting:
            self.seconds += self._step
            yield self.seconds, frame
        self._waiting = []


def _broken(path: Path, seconds: float) -> str:
    return f"{path.name} is damaged or cut short after {max(seconds, 0.0):.2f} s; copy or download it again."
