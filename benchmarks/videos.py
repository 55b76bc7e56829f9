"""Videos as the engine reads them beside a plain decode of every frame in sequence.

    python -m benchmarks.videos FILE-OR-FOLDER... [--moments N] [--only-bad]

For each file: frames, the largest difference of times, of samples, of pictures found by their time and of clips at their
moment (mean difference, of 255), the length, the orientation; or the sentence with which it is refused. A line is marked
when a number differs: other frames, times apart by more than half a frame, pictures by more than 6 of 255, or a length by
more than a frame or two. The plain decode is a loop over packets, single-threaded, that takes the largest stream, turns pictures by the display
matrix pixel by pixel, scales them down as RGB, and counts frames where the file gives no rising times. HDR and interlaced
pictures, which are not shown as they are coded, are compared with the engine's own samples.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import argument_parser, stopwatch
from engine.errors import VideoError
from engine.media import DecodeReport, cut_clip, grab, sample

WIDTH = 160
LIMIT = 6.0
_KEPT = 1_500
_PQ_AND_HLG = (16, 18)


@dataclass
class Plain:
    """What the plain decode gives."""

    times: list[float] = field(default_factory=list)
    pictures: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    end: float = 0.0
    turned: str = "-"
    timed: bool = False
    """Whether the file gave rising times."""
    own: bool = False
    """Whether its pictures are HDR or interlaced, which the engine shows otherwise than they are coded."""


def plain_decode(path: Path) -> Plain:
    """All times, and pictures of at most `_KEPT` frames."""
    with av.open(str(path), metadata_errors="replace") as container:
        sizes: Counter[int] = Counter()
        n_packets: Counter[int] = Counter()
        for packet in container.demux(video=tuple(range(len(container.streams.video)))):
            sizes[packet.stream_index] += packet.size
            n_packets[packet.stream_index] += packet.size > 0
    if not sizes:
        return Plain()
    film = max(sizes, key=lambda index: (n_packets[index] > 1, sizes[index]))
    stride = max(1, n_packets[film] // _KEPT)
    found = Plain()
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams[film]
        if not isinstance(stream, VideoStream):
            return found
        stream.codec_context.thread_count = 1
        rate, base = float(stream.average_rate or stream.guessed_rate or 25), float(stream.time_base or 1)
        stamps: list[int | None] = []
        starts, claimed = stream.start_time, float((stream.duration or 0) * base)
        lasts = 0.0
        for packet in container.demux(stream):
            try:
                frames = packet.decode() if packet.size or packet.pts is None else []
            except FFmpegError:
                continue
            for frame in frames:
                number = len(stamps)
                stamps.append(frame.pts)
                lasts = (frame.duration or 0) * base or 1 / rate
                if number % stride == 0:
                    found.pictures[number] = _picture(frame, stream, found)
    known = [stamp for stamp in stamps if stamp is not None]
    found.timed = len(known) == len(stamps) and known == sorted(known)
    if found.timed and known:
        start = known[0]
        if starts is not None and not container_is_avi(path):
            start = min(start, starts)
        found.times = [(stamp - start) * base for stamp in known]
    else:
        seconds = claimed if claimed and container_is_avi(path) else len(stamps) / rate
        found.times = [number * seconds / len(stamps) for number in range(len(stamps))]
    found.end = found.times[-1] + lasts if found.times else 0.0
    return found


def container_is_avi(path: Path) -> bool:
    return path.suffix.lower() == ".avi"


def _picture(frame: av.VideoFrame, stream: VideoStream, found: Plain) -> NDArray[np.uint8]:
    aspect = float(stream.sample_aspect_ratio or 1)
    aspect = aspect if 0.25 <= aspect <= 4 else 1
    wide, high = frame.width * max(aspect, 1), frame.height / min(aspect, 1)
    turned = frame.rotation % 180 == 90
    scale = min(1, WIDTH / (high if turned else wide), 4 * WIDTH / (wide if turned else high))
    found.own |= frame.color_trc in _PQ_AND_HLG or frame.interlaced_frame
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    image = _rgb(frame, every_colour=size != (frame.width, frame.height))
    image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return image
    a, b, _, c, d = (round(entry / 65536, 2) for entry in struct.unpack("=9i", bytes(data))[:5])
    if not ((a and d and not b and not c) or (b and c and not a and not d)):
        return image
    found.turned = f"{np.sign(a):+.0f}{np.sign(b):+.0f}{np.sign(c):+.0f}{np.sign(d):+.0f}"
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    across = (np.sign(a) * columns + np.sign(c) * rows).astype(int)
    down = (np.sign(b) * columns + np.sign(d) * rows).astype(int)
    shown = np.empty((np.ptp(down) + 1, np.ptp(across) + 1, 3), np.uint8)
    shown[down - down.min(), across - across.min()] = image
    return shown


def _rgb(frame: av.VideoFrame, every_colour: bool) -> NDArray[np.uint8]:
    """A frame in its own size; colours that several pixels share are worked out for each if so asked."""
    matrix = None
    if not frame.format.is_rgb and len(frame.format.components) >= 3:
        matrix = 1 if frame.colorspace == 2 and frame.height >= 720 else None
        if every_colour:
            frame = frame.reformat(format="yuv444p", interpolation="BICUBIC")
    return frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()


def apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean difference of two pictures, of 255; all of it where their shapes differ."""
    if abs(one.shape[1] / one.shape[0] - other.shape[1] / other.shape[0]) > 0.1 * one.shape[1] / one.shape[0]:
        return 255.0
    if one.shape != other.shape:
        smaller = min(one.shape[1], other.shape[1]), min(one.shape[0], other.shape[0])
        one, other = (np.asarray(Image.fromarray(each).resize(smaller, Image.Resampling.BOX)) for each in (one, other))
    return float(np.abs(one.astype(np.int16) - other).mean())


def check(path: Path, moments: int) -> tuple[str, list[str]]:
    """A line about a file, and what is wrong with it."""
    report = DecodeReport()
    times: dict[int, float] = {}
    samples: dict[int, NDArray[np.uint8]] = {}
    try:
        reference = plain_decode(path)
    except (FFmpegError, OSError, ValueError, IndexError):
        reference = Plain()
    try:
        for frame in sample(path, every=None, width=WIDTH, report=report):
            times[frame.frame_index] = frame.seconds
            if frame.frame_index in reference.pictures:
                samples[frame.frame_index] = frame.image
    except VideoError as error:
        return f"refused: {error}", []
    wrong = []
    step = float(np.median(np.diff(reference.times))) if len(reference.times) > 1 else 0.04
    known = dict(enumerate(reference.times))
    late = max((abs(seconds - known[number]) for number, seconds in times.items() if number in known), default=0.0)
    target = samples if reference.own else reference.pictures
    of_samples = max((apart(samples[number], target[number]) for number in samples if number in target), default=255.0)
    places = sorted(samples)
    chosen = [places[i] for i in sorted(set(np.linspace(0, len(places) - 1, moments).astype(int)))]
    of_pictures = [apart(grab(path, times[number], width=WIDTH), target[number]) for number in chosen]
    of_clips = []
    length_ok = True
    with tempfile.TemporaryDirectory() as folder:
        for number in chosen[:: max(1, len(chosen) // 5)]:
            clip = cut_clip(path, times[number], Path(folder) / "clip.mp4")
            of_clips.append(apart(grab(clip.path, clip.offset, width=WIDTH), target[number]))
            length_ok &= clip.duration <= 8.3
    if report.n_frames != len(reference.times):
        wrong.append("frames")
    if late > (step / 2 if reference.timed else 1.5 * step) + 1e-3:
        wrong.append("times")
    if abs(report.end - reference.end) > 2 * step:
        wrong.append("length")
    if not length_ok:
        wrong.append("clip's length")
    for name, figure in (("samples", of_samples), ("pictures", max(of_pictures)), ("clips", max(of_clips))):
        if figure >= LIMIT:
            wrong.append(name)
    line = (
        f"{report.n_frames:6,} of {len(reference.times):6,} frames  times {late:6.3f} s  samples {of_samples:5.1f}  pictures {max(of_pictures):5.1f}  "
        f"clips {max(of_clips):5.1f}  length {report.end:8.2f} of {reference.end:8.2f}  turned {reference.turned}"
    )
    return line + f"  {report.damage}" * bool(report.damage), wrong


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--moments", type=int, default=12)
    parser.add_argument("--only-bad", action="store_true", help="print only files with a difference")
    options = parser.parse_args()
    files = [
        file
        for path in options.paths
        for file in (sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path])
    ]
    n_bad = 0
    elapsed = stopwatch()
    for file in files:
        line, wrong = check(file, options.moments)
        n_bad += bool(wrong)
        if wrong or not options.only_bad:
            print(f"{file.name:28} {line}" + f"  DIFFERS: {', '.join(wrong)}" * bool(wrong), flush=True)
    print(f"{len(files):,} files, {n_bad:,} that differ, {elapsed():.0f} s")
    sys.exit(bool(n_bad))


if __name__ == "__main__":
    main()
