"""Preview clips that play in browsers, cut around a moment."""

from __future__ import annotations

import errno
import math
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from engine.errors import StorageFull, VideoError
from engine.media.colour import LIMITED
from engine.media.convert import Converter
from engine.media.decode import SLACK, TOLERANCE
from engine.media.opening import header_duration
from engine.media.seeking import Reading, decoded_from, frames_on_display
from engine.media.timed import TimedFrame
from engine.system import shortage

MAX_CLIP_HEIGHT = 720
"""Pixels."""
_MAX_CLIP_SIDE = 8_192
_SMALL = 640 * 360
"""Pixels up to which a picture keeps its size, however high it is."""
_CLOCK = Fraction(1, 90_000)
_NEAREST = 375
"""Ticks of the clock between two frames at the least: 240 frames a second, whatever the source has."""
_FINER = ((160 * 90, 10), (640 * 360, 18))
"""Pixels of a picture up to which it is coded so finely (x264's crf, lower is finer): there is little to save."""
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
    height : pixels at most; if None, 720 for pictures of more than 640x360 pixels. Sizes are rounded down to even numbers, and tiny
        pictures whose colours are as fine as their brightness are written in double size, so that they keep them
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
        while True:
            with decoded_from(path, start, in_sequence=in_sequence) as reading:
                coded = reading.stream.codec_context
                most = _MAX_CLIP_SIDE if coded.width * coded.height <= _SMALL else MAX_CLIP_HEIGHT
                picture = Converter(reading.stream, _MAX_CLIP_SIDE, height or most)
                written = _encode(reading, picture, part, start, seconds, seconds + after)
                end = _end(reading)
                if reading.report.finished and seconds > end + SLACK:
                    raise VideoError(
                        f"{path.name} ends at {end:.1f} s, before {seconds:.1f} s; choose an earlier moment."
                    )
            if written.complete:
                break
            start = written.seconds
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
    return Clip(out, start, written.seconds, max(seconds, 0.0) - start)


class _Written(NamedTuple):
    complete: bool
    seconds: float
    """The clip's length; where it is not complete, the time ahead of the wanted moment from which the picture has another shape."""


def _end(reading: Reading) -> float:
    """Seconds at which the video ends, as far as is known."""
    return max(reading.report.end, header_duration(reading.container, reading.stream))


def _encode(reading: Reading, picture: Converter, part: Path, start: float, wanted: float, stop: float) -> _Written:
    """Write frames to `part`, times counted from `start`, the last on display until `stop` or the end.

    Frames closer together than players can show are left out, but never the one on display at `wanted`. The clip ends where
    the shape of the picture changes.
    """
    rate, clock = reading.stream.average_rate or Fraction(25), _CLOCK
    rate = rate if 1 / 60 <= rate <= clock.denominator / _NEAREST else Fraction(25)
    last, length = -_NEAREST, 0
    with av.open(str(part.absolute()), "w", format="mp4", options={"movflags": "+faststart"}) as output:
        encoder: VideoStream | None = None
        for timed, following in _with_next(frames_on_display(reading.frames, start, stop)):
            if not picture.keeps_shape(timed.frame):
                if timed.seconds <= wanted + TOLERANCE:
                    return _Written(False, timed.seconds)
                stop = min(stop, timed.seconds)
                break
            image = picture.even(timed.frame)
            if encoder is None:
                encoder = _add_encoder(output, image, picture, rate)
            # The first frame opens the clip, also where the video has none for the first moments.
            tick = 0 if last < 0 else max(0, round((timed.seconds - start) / clock))
            on_display = timed.seconds <= wanted + TOLERANCE < (math.inf if following is None else following.seconds)
            if tick >= last + _NEAREST or (on_display and tick > last):
                image.pts, image.time_base, image.pict_type = tick, clock, PictureType.NONE
                output.mux(encoder.encode(image))
                last = tick
        if encoder is not None:
            *packets, final = encoder.encode(None)
            if reading.report.finished:
                stop = min(stop, _end(reading))
            length = max(last + min(round(1 / rate / clock), _LAST), round((stop - start) / clock))
            final.duration = length - last
            output.mux([*packets, final])
    return _Written(True, float(length * clock))


def _with_next(frames: Iterable[TimedFrame]) -> Iterator[tuple[TimedFrame, TimedFrame | None]]:
    held: TimedFrame | None = None
    for timed in frames:
        if held is not None:
            yield held, timed
        held = timed
    if held is not None:
        yield held, None


def _add_encoder(output: OutputContainer, image: VideoFrame, picture: Converter, rate: Fraction) -> VideoStream:
    n_pixels = image.width * image.height
    quality = next((crf for most, crf in _FINER if n_pixels <= most), 23)
    options = {"preset": "veryfast", "crf": str(quality)}
    encoder = output.add_stream("libx264", rate=rate, options=options)
    encoder.width, encoder.height, encoder.pix_fmt = image.width, image.height, "yuv420p"
    encoder.gop_size = max(1, round(rate))
    context = encoder.codec_context
    context.time_base = _CLOCK
    context.max_b_frames = 0
    context.colorspace, context.color_primaries = picture.tags.colorspace, picture.tags.primaries
    context.color_trc, context.color_range = picture.tags.transfer, LIMITED
    return encoder
