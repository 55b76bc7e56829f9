"""Reading a video from some time on: at the key frame before it where that leads to the same frames, else from the start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream

from engine.errors import VideoError
from engine.media.clock import PacketClock, has_index, lacks_pts
from engine.media.decode import TOLERANCE, decode
from engine.media.opening import open_video, raise_shortage
from engine.media.timed import DecodeReport, TimedFrame

_LEADS = (0.0, 10.0, 60.0)
"""Seconds ahead of the wanted time from which decoding is tried to start, before it starts at the start."""


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
        raise_shortage(path, error)
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
            raise_shortage(path, error)
            return frozenset()
    return frozenset(keys)


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
