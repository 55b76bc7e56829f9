"""Preview clips that play in browsers, cut around a moment."""

from __future__ import annotations

import errno
import uuid
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream

from engine.errors import StorageFull, VideoError
from engine.media.colour import LIMITED
from engine.media.convert import Converter
from engine.media.decode import SLACK, Reading, decoded_from, frames_on_display, header_duration
from engine.system import shortage

MAX_CLIP_HEIGHT = 720
"""Pixels."""
_MAX_CLIP_WIDTH = 8_192
_CLOCK = Fraction(1, 90_000)
_NEAREST = 375
"""Ticks of the clock between two frames at the least: 240 frames a second, whatever the source has."""
_LAST = 22_500
"""Ticks for which a frame at the very end of a clip is shown at the most: a quarter of a second."""


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
    in_sequence: bool = False,
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
    in_sequence : whether decoding must start at the start of the video, as `DecodeReport.times_corrected` tells

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
        with decoded_from(path, start, in_sequence=in_sequence) as reading:
            picture = Converter(reading.stream, _MAX_CLIP_WIDTH, height or MAX_CLIP_HEIGHT)
            lasts = _encode(reading, picture, part, start, seconds + after)
            end = max(reading.report.end, header_duration(reading.container, reading.stream))
            if reading.report.finished and seconds > end + SLACK:
                raise VideoError(f"{path.name} ends at {end:.1f} s, before {seconds:.1f} s; choose an earlier moment.")
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


def _encode(reading: Reading, picture: Converter, part: Path, start: float, stop: float) -> float:
    """Write frames to `part`, times counted from `start`, the last on display until `stop` or the end; returns the clip's length."""
    rate, clock = reading.stream.average_rate or Fraction(25), _CLOCK
    rate = rate if 1 / 60 <= rate <= clock.denominator / _NEAREST else Fraction(25)
    last, length = -_NEAREST, 0
    with av.open(str(part.absolute()), "w", format="mp4", options={"movflags": "+faststart"}) as output:
        encoder: VideoStream | None = None
        for timed in frames_on_display(reading.frames, start, stop):
            image = picture.even(timed.frame)
            if encoder is None:
                encoder = output.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
                encoder.width, encoder.height, encoder.pix_fmt = image.width, image.height, "yuv420p"
                encoder.codec_context.time_base = clock
                encoder.codec_context.max_b_frames = 0
                encoder.gop_size = max(1, round(rate))
                tags = picture.tags
                encoder.codec_context.colorspace = tags.colorspace
                encoder.codec_context.color_primaries = tags.primaries
                encoder.codec_context.color_trc = tags.transfer
                encoder.codec_context.color_range = LIMITED
            tick = max(0, round((timed.seconds - start) / clock))
            if tick >= last + _NEAREST:
                image.pts, image.time_base, image.pict_type = tick, clock, PictureType.NONE
                output.mux(encoder.encode(image))
                last = tick
        if encoder is not None:
            *packets, final = encoder.encode(None)
            if reading.report.finished:
                stop = min(stop, max(reading.report.end, header_duration(reading.container, reading.stream)))
            length = max(last + min(round(1 / rate / clock), _LAST), round((stop - start) / clock))
            final.duration = length - last
            output.mux([*packets, final])
    return float(length * clock)
