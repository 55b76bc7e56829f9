"""Preview clips that play in browsers, cut around a moment."""

from __future__ import annotations

import errno
import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream

from engine.errors import StorageFull, VideoError
from engine.media.decode import SLACK, Converter, TimedFrame, decoded_from, frames_on_display, header_duration
from engine.system import shortage

MAX_CLIP_HEIGHT = 720
"""Pixels."""
_MAX_CLIP_WIDTH = 8_192
_CLOCK = Fraction(1, 90_000)
_NEAREST = 375
"""Ticks of the clock between two frames at the least: 240 frames a second, whatever the source has."""


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
        with decoded_from(path, start) as (container, stream, frames):
            length = header_duration(container, stream)
            if length and seconds > length + SLACK:
                raise VideoError(
                    f"{path.name} ends at {length:.1f} s, before {seconds:.1f} s; choose an earlier moment."
                )
            picture = Converter(stream, _MAX_CLIP_WIDTH, height or MAX_CLIP_HEIGHT)
            stop = min(seconds + after, length or math.inf)
            lasts = _encode(frames_on_display(frames, start, seconds + after), picture, stream, part, start, stop)
        part.replace(out)
    except (OSError, FFmpegError, MemoryError) as error:
        short = shortage(f"cutting the clip {out.name}", error)
        if short is not None:
            raise short from error
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise StorageFull(
                f"There is no room left for the clip {out.name}; free some space and try again."
            ) from error
        raise VideoError(
            f"The clip {out.name} could not be written: {error}; check the folder {out.parent}."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return Clip(out, start, lasts, max(seconds, 0.0) - start)


def _encode(
    frames: Iterable[TimedFrame], picture: Converter, stream: VideoStream, part: Path, start: float, stop: float
) -> float:
    """Write frames to `part`, times counted from `start`, the last on display until `stop`; returns the clip's length."""
    rate, clock = stream.average_rate or Fraction(25), _CLOCK
    rate = rate if 1 / 60 <= rate <= clock.denominator / _NEAREST else Fraction(25)
    last, length = -_NEAREST, 0
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
            if tick >= last + _NEAREST:
                image.pts, image.time_base, image.pict_type = tick, clock, PictureType.NONE
                output.mux(encoder.encode(image))
                last = tick
        if encoder is not None:
            *packets, final = encoder.encode(None)
            length = max(last + round(1 / rate / clock), round((stop - start) / clock))
            final.duration = length - last
            output.mux([*packets, final])
    return float(length * clock)
