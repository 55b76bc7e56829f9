"""A file says how large it is before it is decoded or read: videos, pictures, tables, arrays."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from engine.errors import VideoError
from engine.frames.user_tables import read_table
from engine.media.clips import cut_clip
from engine.media.sampling import grab, probe, sample
from engine.storage.pictures import read_image
from engine.system import bounds
from engine.vectors import open_vectors, read_queries
from testing.clips import make_clip

ROOT = Path(__file__).resolve().parents[2]


def gif(path: Path, width: int, height: int) -> Path:
    """Three frames of a pixel on a screen of any size, in 89 bytes."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\x04\x0a\0\0\0\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    path.write_bytes(screen + frame * 3 + b"\x3b")
    return path


def mp4_of_many(path: Path, n: int) -> Path:
    """An MP4 of some hundred bytes that says it has n samples."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return struct.pack(">I", 8 + len(content)) + kind + content

    def full(kind: bytes, *parts: bytes) -> bytes:
        return box(kind, bytes(4), *parts)

    matrix = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    entry = bytes(6) + struct.pack(">H16xHHIIIH32xHh", 1, 64, 64, 0x480000, 0x480000, 0, 1, 24, -1)
    tables = box(
        b"stbl",
        full(b"stsd", struct.pack(">I", 1), box(b"mp4v", entry)),
        full(b"stts", struct.pack(">III", 1, n, 1)),
        full(b"stsc", struct.pack(">IIII", 1, 1, n, 1)),
        full(b"stsz", struct.pack(">II", 1, n)),
        full(b"stco", struct.pack(">II", 1, 40)),
    )
    track = box(
        b"trak",
        box(
            b"tkhd",
            b"\0\0\0\7",
            struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, 1000, 0, 0, 0, 0),
            matrix,
            struct.pack(">II", 64 << 16, 64 << 16),
        ),
        box(
            b"mdia",
            full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 1000, 1000, 0, 0)),
            full(b"hdlr", bytes(4) + b"vide" + bytes(12) + b"v\0"),
            box(
                b"minf",
                full(b"vmhd", bytes(8)),
                box(b"dinf", full(b"dref", struct.pack(">I", 1), box(b"url ", b"\0\0\0\1"))),
                tables,
            ),
        ),
    )
    head = full(
        b"mvhd", struct.pack(">IIIIIH10x", 0, 0, 1000, 1000, 1 << 16, 256), matrix, bytes(24), struct.pack(">I", 2)
    )
    path.write_bytes(box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"moov", head, track) + box(b"mdat", bytes(64)))
    return path


def film(path: Path, width: int, height: int, n: int = 3, codec: str = "libx264") -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=2, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([90]) * plane.buffer_size)
        for i in range(n):
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def peak(code: str, *arguments: object) -> tuple[str, int]:
    """What a process printed, and the MB that it took at the most."""
    told = f"{code}\nprint(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    done = subprocess.run(
        [sys.executable, "-c", told, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *lines, most = done.stdout.splitlines()
    return "\n".join(lines), int(most) >> 10


class TestVideos:
    def test_small_files_that_claim_much_take_little_memory(self, tmp_path):
        hostile = [
            gif(tmp_path / "large.gif", 16_200, 16_200),
            gif(tmp_path / "largest.gif", 65_535, 65_535),
            mp4_of_many(tmp_path / "many.mp4", 60_000_000),
        ]
        code = """
import sys
from pathlib import Path
from engine.errors import VideoError
from engine.media.sampling import probe
for path in sys.argv[1:]:
    try:
        probe(Path(path))
    except VideoError as error:
        print(error)
"""
        told, most = peak(code, *hostile)
        assert len(told.splitlines()) == 3
        assert "16200 x 16200 pixels" in told
        assert most < 200

    def test_a_size_is_refused_whichever_way_it_is_asked_for(self, tmp_path):
        path = gif(tmp_path / "large.gif", 10_000, 10_000)
        for ask in (
            lambda: probe(path),
            lambda: list(sample(path)),
            lambda: grab(path, 0.1),
            lambda: cut_clip(path, 0.1, tmp_path / "clip.mp4"),
        ):
            with pytest.raises(VideoError, match=r"picture of large\.gif is 10000 x 10000 pixels; at most 67,108,864"):
                ask()
        assert not (tmp_path / "clip.mp4").exists()

    def test_a_stream_that_grows_on_the_way_is_stopped_there(self, tmp_path, monkeypatch):
        small, large = film(tmp_path / "s.h264", 64, 64), film(tmp_path / "l.h264", 640, 640)
        path = tmp_path / "both.h264"
        path.write_bytes(small.read_bytes() + large.read_bytes())
        assert {each.image.shape[0] for each in sample(path, every=None)} == {64, 640}
        monkeypatch.setattr(bounds, "MAX_PIXELS", 100_000)
        with pytest.raises(VideoError):
            list(sample(path, every=None))

    def test_the_largest_real_videos_are_decoded_in_bounded_memory(self, tmp_path):
        code = """
import sys
from engine.media.sampling import probe, sample
print(probe(sys.argv[1]).width, sum(1 for each in sample(sys.argv[1], every=None)))
"""
        told, most = peak(code, film(tmp_path / "8k.mp4", 7_680, 4_320, 6))
        assert told == "7680 6"
        assert most < 700

    def test_a_picture_that_is_very_high_is_scaled_by_its_height(self, tmp_path):
        path = film(tmp_path / "tall.mp4", 640, 8_000)
        images = [each.image for each in sample(path, every=None)]
        assert {image.shape for image in images} == {(2_560, 205, 3)}
        assert grab(path, 0.0, 640).shape == (2_560, 205, 3)

    @pytest.mark.parametrize("every", [1e-320, 1e-9, 0.0, -1.0, float("nan")])
    def test_a_step_of_next_to_nothing_is_refused(self, tmp_path, every):
        with pytest.raises(ValueError, match=r"0\.001 or more|above 0"):
            sample(tmp_path / "a.mp4", every=every)

    def test_frames_nearer_than_any_screen_shows_them_are_left_out_of_a_clip(self, tmp_path):
        path = tmp_path / "fast.mp4"
        make_clip(path, times=[i / 2_000 for i in range(400)], size=(64, 36), shots=("red",))
        clip = cut_clip(path, 0.1, tmp_path / "clip.mp4")
        with av.open(str(clip.path)) as container:
            assert 10 < sum(1 for _ in container.decode(video=0)) <= 50


def png(path: Path, width: int, height: int, extra: bytes = b"") -> Path:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes((min(width, 100) * 3 + 1) * 16)))
    more = chunk(b"zTXt", b"k\0\0" + extra) if extra else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + more + rows + chunk(b"IEND", b""))
    return path


class TestPictures:
    @pytest.mark.parametrize(("width", "height"), [(9_000, 9_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
    def test_the_size_is_looked_at_before_the_pixels(self, tmp_path, width, height):
        with pytest.raises(VideoError, match="67,108,864"):
            read_image(png(tmp_path / "001.png", width, height))

    def test_texts_in_them_are_not_unpacked_without_end(self, tmp_path):
        path = png(tmp_path / "001.png", 16, 16, zlib.compress(bytes(100 << 20), 9))
        with pytest.raises(VideoError, match="cannot be read as an image"):
            read_image(path)

    def test_a_file_too_large_is_not_read(self, tmp_path, monkeypatch):
        path = png(tmp_path / "001.png", 16, 16)
        assert read_image(path).shape == (16, 16, 3)
        monkeypatch.setattr(bounds, "MAX_IMAGE_NBYTES", 20)
        with pytest.raises(VideoError, match="at most 20 are read"):
            read_image(path)


def columns(n: int, **more: object) -> dict[str, object]:
    return {
        "video_id": pa.array(["v"] * n),
        "frame_index": np.arange(n, dtype=np.int32),
        "seconds": np.zeros(n, np.float32),
    } | more


def write(path: Path, table: pa.Table, times: int = 1) -> Path:
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for _ in range(times):
                writer.write_table(table)
    elif path.suffix == ".arrow":
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(path, table.schema, options=options) as writer:
            for _ in range(times):
                writer.write_table(table)
    else:
        pa.csv.write_csv(table, path)
    return path


class TestTables:
    @pytest.mark.parametrize("ending", ["parquet", "arrow"])
    def test_small_files_of_many_rows_take_little_memory(self, tmp_path, ending):
        n = 2_000_000
        rows = columns(1) | {
            "video_id": pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), ["v"]),
            "frame_index": np.zeros(n, np.int32),
            "seconds": np.zeros(n, np.float32),
        }
        path = write(tmp_path / f"f.{ending}", pa.table(rows), times=8)
        assert path.stat().st_size < 3 << 20
        code = """
import sys
from pathlib import Path
from engine.system import bounds
from engine.frames.user_tables import read_table
bounds.MAX_TABLE_NBYTES = 1 << 28
for beside in ((Path("v.npy"), 10), None):
    try:
        read_table(Path(sys.argv[1]), beside)
    except ValueError as error:
        print(error)
"""
        told, most = peak(code, path)
        uneven, large = told.splitlines()
        assert "v.npy has 10 rows and" in uneven
        assert "has 16,000,000; they must go together" in uneven
        assert "at most 268,435,456 are read" in large
        assert most < 150

    @pytest.mark.parametrize("ending", ["parquet", "arrow", "csv"])
    def test_parts_are_one_table(self, tmp_path, monkeypatch, ending):
        monkeypatch.setattr("engine.frames.table_parts._PART", 7)
        n = 40
        ids = [f"v{i // 9}" for i in range(n)]
        tags = ["" if i % 5 == 0 else f"t{i % 3}| t{i % 4} |" for i in range(n)]
        titles = [None if i % 9 < 4 else f"T{i}" for i in range(n)]
        table = pa.table(columns(n) | {"video_id": ids, "tags": tags, "title": titles})
        read = read_table(write(tmp_path / f"f.{ending}", table), (tmp_path, n))
        assert read.video_ids == ("v0", "v1", "v2", "v3", "v4")
        assert read.titles == ("T4", "T13", "T22", "T31", "")
        assert [read.video_ids[i] for i in read.video] == ids
        assert read.frame_index.tolist() == list(range(n))
        wanted = [() if i % 5 == 0 else (f"t{i % 3}", f"t{i % 4}") for i in range(n)]
        assert list(read.tags(np.arange(n))) == wanted

    @pytest.mark.parametrize("ending", ["parquet", "arrow"])
    def test_lists_of_tags_come_in_parts_too(self, tmp_path, monkeypatch, ending):
        monkeypatch.setattr("engine.frames.table_parts._PART", 7)
        tags = [None if i % 4 == 0 else [f"t{i % 5}", " "][: i % 3] for i in range(30)]
        table = pa.table(columns(30) | {"tags": pa.array(tags, pa.list_(pa.string()))})
        read = read_table(write(tmp_path / f"f.{ending}", table))
        assert list(read.tags(np.arange(30))) == [tuple(t for t in each or () if t.strip()) for each in tags]

    @pytest.mark.parametrize("ending", ["parquet", "arrow"])
    def test_texts_that_repeat_are_kept_once(self, tmp_path, ending):
        n, text = 20_000, "x" * 100_000
        titles = pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [text])
        path = write(tmp_path / f"f.{ending}", pa.table(columns(n) | {"title": titles}))
        code = "import sys\nfrom pathlib import Path\nfrom engine.frames.user_tables import read_table\nprint(len(read_table(Path(sys.argv[1])).titles[0]))"
        told, most = peak(code, path)
        assert told == "100000"
        assert most < 300  # 2 GB, if each were written out.

    @pytest.mark.parametrize("ending", ["parquet", "arrow", "csv"])
    def test_texts_and_columns_are_counted(self, tmp_path, monkeypatch, ending):
        def refused(why: str, n: int = 3, **more: object) -> None:
            with pytest.raises(ValueError, match=why):
                read_table(write(tmp_path / f"f.{ending}", pa.table(columns(n) | more)))

        refused("tags", tags=["|".join(f"t{i}" for i in range(1_100))] * 3)
        refused("201 characters", tags=["x" * 201] * 3)
        for name, most in (("MAX_TAGS", 2), ("MAX_VIDEOS", 2), ("MAX_ROWS", 2), ("MAX_COLUMNS", 4)):
            with monkeypatch.context() as patch:
                patch.setattr(bounds, name, most)
                more = {"tags": ["a|b", "c", "d"], "video_id": ["a", "b", "c"]} | {f"c{i}": [0] * 3 for i in range(2)}
                refused("at most 2|at most 4", **more)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"root:x:0:0:secret:/root:/bin/sh\nbin:x:1:1:secret,,,:/:/bin/false\n", "has no column video_id"),
            (b"video_id,frame_index,seconds\nv,0,0\nv,secret,1\n", "frame_index"),
            (b"video_id,frame_index,seconds\nv,0,0\nv,secret,1,2\n", "a line has 4 columns, and the first line 3"),
            (b"video_id,frame_index,seconds\nv,0,0\n\xff\xfesecret,1,2\n", "cannot be read as a table"),
            (
                b"video_id,frame_index,seconds\n" + b"secret" * 400_000 + b",1,2\n",
                "a line of more than 1,000,000 bytes",
            ),
            (b"video_id,frame_index,seconds," + b"c," * 20_000 + b"c\n", "columns in f.csv"),
            (b"secret" * 400_000, "a line of more than"),
            (b"", "no column"),
        ],
        ids=lambda value: "",
    )
    def test_what_is_no_table_is_not_quoted(self, tmp_path, content, why):
        (tmp_path / "f.csv").write_bytes(content)
        with pytest.raises(ValueError, match=why) as caught:
            read_table(tmp_path / "f.csv")
        assert "secret" not in str(caught.value)
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize("ends", ["\n", "\r\n", "\r", "\n\n", "\r\n\r\n\r\n"])
    def test_lines_are_counted_however_they_end(self, tmp_path, ends):
        n = bounds.MAX_LINE_NBYTES // 8  # More than one piece of the file.
        lines = [f"v,{i},1" for i in range(100_000, 100_000 + n)]
        for name in ("v", "vv", "vvv"):  # Pieces end at other characters.
            for last in (ends, ""):
                text = ends.join(["video_id,frame_index,seconds", f"{name},0,1", *lines]) + last
                (tmp_path / "f.csv").write_bytes(text.encode())
                with pytest.raises(ValueError, match=f"has 9 rows and .*f.csv has {n + 1:,}; they must go together"):
                    read_table(tmp_path / "f.csv", (tmp_path, 9))

    def test_a_text_in_quotes_may_hold_ends_of_lines(self, tmp_path):
        (tmp_path / "f.csv").write_text('video_id,frame_index,seconds,title\nv,0,0,"a\nb"\nv,1,1,\n')
        read = read_table(tmp_path / "f.csv", (tmp_path, 2))
        assert (len(read), read.titles) == (2, ("a b",))
        with pytest.raises(ValueError, match="has 9 rows and"):
            read_table(tmp_path / "f.csv", (tmp_path, 9))


def npy(path: Path, header: str) -> Path:
    text = header.ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(64))
    return path


class TestArrays:
    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000000,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 100000000), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
            "{'descr': '|V16', 'fortran_order': False, 'shape': (4, 1), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (16, 1), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (4, 4), }",
            "secret secret secret",
        ],
    )
    def test_what_cannot_be_is_refused_before_memory_is_taken(self, tmp_path, header):
        path = npy(tmp_path / "v.npy", header)
        for read in (open_vectors, read_queries):
            with pytest.raises(ValueError, match=r"v\.npy") as caught:
                read(path)
            assert "secret" not in str(caught.value)

    def test_rows_of_too_many_numbers_are_refused_by_their_header(self, tmp_path):
        np.save(tmp_path / "v.npy", np.zeros((1, bounds.MAX_DIM + 1), np.float16))
        for read in (open_vectors, read_queries):
            with pytest.raises(ValueError, match="16,385 numbers in a row"):
                read(tmp_path / "v.npy")
        np.save(tmp_path / "v.npy", np.zeros((bounds.MAX_QUERIES + 1, 1), np.float16))
        with pytest.raises(ValueError, match=f"{bounds.MAX_QUERIES + 1:,} queries"):
            read_queries(tmp_path / "v.npy")
