"""Small odd videos, made with PyAV alone: joined, fragmented, mirrored, damaged, interlaced, with a cover, without times."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc

from testing.clips import Image, flat, make_clip, write_number

FAST = {"preset": "veryfast", "crf": "18"}


def join(path: Path, *parts: Path) -> None:
    """Files one behind the other, as `cat` does; of FLV without the header of the later ones, as recorders do."""
    header = 13 if path.suffix == ".flv" else 0
    path.write_bytes(b"".join(part.read_bytes()[header * (i > 0) :] for i, part in enumerate(parts)))


def make_joined(path: Path, codec: str) -> None:
    """Two recordings in one file, whose clock starts anew: frames 0 to 49, then 1000 to 1074, at 25 frames a second."""
    parts = [path.with_name(f"{i}{path.suffix}") for i in range(2)]
    for part, seconds, first in zip(parts, (2, 3), (0, 1000), strict=True):
        make_clip(part, seconds, 25, codec=codec, first=first, coding={"g": "10"})
    join(path, *parts)


def copy_into(source: Path, target: Path) -> None:
    """The same coded frames in another container."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        out = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.dts is not None:
                packet.stream = out
                writer.mux(packet)


def make_covered(path: Path) -> None:
    """A film of 20 frames behind a larger still of the number 2000, which nothing marks as a cover."""
    with av.open(str(path), "w") as output:
        still = output.add_stream("mjpeg", rate=10)
        still.width, still.height, still.pix_fmt = 640, 360, "yuvj420p"
        film = output.add_stream("libx264", rate=10, options=FAST)
        film.width, film.height, film.pix_fmt = 320, 180, "yuv420p"
        picture = flat("white", (640, 360))(0)
        write_number(picture, 2000)
        output.mux(still.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(still.encode(None))
        for number in range(20):
            picture = flat("red")(number)
            write_number(picture, number)
            output.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(film.encode(None))


def set_matrix(path: Path, matrix: tuple[float, float, float, float]) -> None:
    """Write a, b, c, d of the display matrix into the first track of an mp4."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (round(entry * 65536) for entry in matrix)
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def shift_sync_table(path: Path, by: int) -> None:
    """Have the index of an mp4 call other frames key frames: those `by` behind the real ones."""
    data = bytearray(path.read_bytes())
    place = data.index(b"stss") + 8
    (n,) = struct.unpack_from(">I", data, place)
    for i in range(1, n):
        (number,) = struct.unpack_from(">I", data, place + 4 + 4 * i)
        struct.pack_into(">I", data, place + 4 + 4 * i, number + by)
    path.write_bytes(data)


def spoil(path: Path, numbers: list[int]) -> None:
    """Overwrite most of these coded pictures, by their place in the file; of MPEG-TS, the content behind the headers of its packets."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        start, size = places[number]
        assert start is not None
        if path.suffix == ".ts":
            for packet in range(start, places[number + 1][0] or start, 188):
                data[packet + 100 : packet + 188] = bytes([0x5A]) * 88
        else:
            data[start + 4 : start + size] = bytes([0x5A]) * (size - 4)
    path.write_bytes(data)


def make_interlaced(path: Path, n: int = 20) -> None:
    """A bright bar that runs across, its odd and even lines taken at two moments."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={**FAST, "x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for number in range(n):
            image: Image = np.full((192, 320, 3), 40, np.uint8)
            for field in range(2):
                left = 12 * number + 6 * field
                image[field::2, left : left + 60] = 220
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))


def make_hdr(path: Path, code: int, transfer: ColorTrc) -> None:
    """A grey of this code of 1023 that says that it is HDR."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options=FAST)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, ColorPrimaries.BT2020, 9
        for _ in range(10):
            frame = av.VideoFrame(320, 180, "yuv420p10le")
            for plane, value in zip(frame.planes, (code, 512, 512), strict=True):
                plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
            frame.color_trc, frame.color_primaries, frame.colorspace = transfer, ColorPrimaries.BT2020, 9
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def make_late_picture(path: Path, lead: float) -> None:
    """Sound from 0 on, and ten frames from `lead` seconds on."""
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=44_100)
        film = output.add_stream("libx264", rate=10, options=FAST)
        film.width, film.height, film.pix_fmt = 320, 180, "yuv420p"
        film.codec_context.time_base = Fraction(1, 1000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44_100 * 4), np.float32), format="fltp", layout="mono")
        silence.rate, silence.pts = 44_100, 0
        output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(flat("red")(number), format="rgb24")
            frame.pts, frame.time_base = round(1000 * lead + 100 * number), Fraction(1, 1000)
            output.mux(film.encode(frame))
        output.mux(film.encode(None))
