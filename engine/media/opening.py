"""Opening video files: only containers that hold their own pictures, bounded in size, and in them the stream of the film."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from engine.errors import VideoError
from engine.system import bounds, shortage

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
            check_frame_size(path, *struct.unpack_from("<HH", head, 6))
        container = av.open(
            str(path.absolute()),
            options={
                "max_pixels": str(bounds.MAX_PIXELS)
            },  # Some streams are looked into while the container is opened.
            container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except FFmpegError as error:
        raise_shortage(path, error)
        raise VideoError(f"{path.name} {_why_not(head)}") from error
    except (OSError, MemoryError) as error:
        raise_shortage(path, error)
        if not isinstance(error, OSError):
            raise
        raise VideoError(f"{path.name} cannot be opened: {error.strerror}; check its permissions.") from error
    with container:
        stream = _moving_picture(container)
        if stream is None:
            raise VideoError(f"{path.name} holds no moving picture; give a video file.")
        check_frame_size(path, stream.codec_context.width, stream.codec_context.height)
        _bound(stream)
        yield container, stream


def _why_not(head: bytes) -> str:
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
    longest = max(claimed_seconds(stream) for stream in streams)
    coded = any(stream.codec_context.name not in _STILL_CODECS for stream in streams)

    def rank(stream: VideoStream) -> tuple[bool, bool, bool, int]:
        context = stream.codec_context
        still = stream.frames == 1 or (coded and context.name in _STILL_CODECS)
        brief = 0 < claimed_seconds(stream) < longest / 4
        return (
            not still,
            not brief,
            bool(stream.disposition & Disposition.default),
            context.width * context.height,
        )

    return max(streams, key=rank)


def check_frame_size(path: Path, width: int, height: int) -> None:
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


def raise_shortage(path: Path, error: BaseException) -> None:
    """Raise a shortage as one, so that the file is not taken for a broken one."""
    short = shortage(f"reading {path.name}", error)
    if short is not None:
        raise short from error


def claimed_seconds(stream: VideoStream) -> float:
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
    return claimed_seconds(stream) or (container.duration or 0) / 1e6
