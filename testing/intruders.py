"""Input and collections made to hurt, each handed to the engine in a process of its own that is watched.

What may come out: it is refused in one sentence, or answered as if nothing were amiss. What may not: a signal, a traceback, more time or
memory than `Intrusion` allows, anything changed in a collection that refused, anything touched or shown that lies outside of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import sqlite3
import struct
import time
import traceback
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from engine.cli.main import main
from engine.collection import Collection
from engine.errors import EngineError
from engine.importers.aic import import_aic
from engine.importers.videos import ingest
from engine.storage.catalog import Catalog
from engine.storage.pictures import read_image
from engine.system import readable_bytes
from engine.types import Filter
from engine.vectors import unit
from testing import hostile
from testing.clips import make_clip
from testing.crowds import processes
from testing.faults import QUERIES, Tally, one_sentence, small, timed
from testing.worlds import DIM

SECRET = "s3cret-of-somebody-else"
"""Stands in files that no message and no answer may quote."""
_PRIVATE = (255, 0, 255)
"""Colour of a picture that nobody may be shown."""
_LONGEST = 1500
"""Characters of a message that somebody reads."""
_SPARE = 6 << 30
"""Address space that a process may take on top, so that a bomb cannot take the machine with it."""


@dataclass(frozen=True)
class Place:
    """Where an intrusion happens."""

    folder: Path
    """For what the intruder makes."""
    collection: Path
    """A copy of the small world."""
    outside: Path
    """What belongs to somebody else."""


Ask = Callable[[], object] | list[str]
"""Something to call, or arguments of the command line."""


@dataclass(frozen=True)
class Intrusion:
    """One way to hurt."""

    name: str
    make: Callable[[Place], Ask]
    """Makes what hurts; returns how it is handed to the engine."""
    may_pass: bool = False
    """Whether an answer is as good as a refusal."""
    may_change: bool = False
    """Whether the collection may be another afterwards although something was refused: the rest went in, or was done."""
    slow: bool = False
    """Whether it takes too long to be tried each time."""
    seconds: float = 20.0
    """Of a processor; twice as long may go by, for others are at work as well."""
    nbytes: int = 2 << 30
    """Memory on top of what the process had before."""

    @property
    def kind(self) -> str:
        return self.name.split(":")[0]


INTRUSIONS: list[Intrusion] = []


def intrusion(name: str, **how: Any) -> Callable[[Callable[[Place], Ask]], Callable[[Place], Ask]]:
    """List a maker of what hurts."""

    def listed(make: Callable[[Place], Ask]) -> Callable[[Place], Ask]:
        INTRUSIONS.append(Intrusion(name, make, **how))
        return make

    return listed


# Watching


def _lay_out(base: Path, folder: Path) -> Place:
    place = Place(folder / "in", folder / "c", folder / "outside")
    place.folder.mkdir(parents=True)
    shutil.copytree(base, place.collection)
    for number in ("1", "2", "999"):
        (place.outside / number).mkdir(parents=True)
        (place.outside / number / "0.jpg").write_bytes(b"mine")
    (place.outside / "diary.txt").write_text(SECRET)
    Image.new("RGB", (64, 36), _PRIVATE).save(place.outside / "001.jpg")
    return place


def digest(folder: Path) -> dict[str, str]:
    """What lies in a folder: hash of each file, target of each link; what readers and writers take hold of is passed over."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and not name.startswith(("leases/", "write.lock", "catalog.sqlite-")):
            found[name] = hashlib.blake2b(path.read_bytes()).hexdigest() if path.stat().st_size < 1 << 28 else "large"
        elif not path.is_file() and not path.is_dir():
            found[name] = "special"
    return found


def _say(ask: Ask) -> tuple[str, str]:
    """What came of it: `answered`, `refused` or `fault`, and in which words."""
    said, printed = io.StringIO(), io.StringIO()
    try:
        if not isinstance(ask, list):
            ask()
            return "answered", ""
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
            status = main(ask)
    except SystemExit as end:
        status = int(end.code or 0)
    except (EngineError, ValueError) as error:
        if one_sentence(error):
            return "refused", str(error)
        return "fault", f"not one sentence: {type(error).__name__}: {str(error)[:200]!r}"
    except BaseException:
        lines = [line.strip() for line in traceback.format_exc().strip().splitlines()]
        where = [line for line in lines if line.startswith("File ") and "/engine/" in line]
        return "fault", f"{lines[-1][:200]} ({where[-1] if where else 'not in the engine'})"
    lines = [line for line in said.getvalue().splitlines() if line.startswith(("engine:", "refused", "python -m"))]
    told = " ".join(lines) or printed.getvalue().strip().splitlines()[-1:][0] if lines or status else ""
    if "Traceback" in said.getvalue():
        return "fault", said.getvalue()[-300:]
    if status and not all(line.endswith((".", ")", "--help")) for line in lines):
        return "fault", f"not one sentence: {told[:300]!r}"
    return ("refused" if status else "answered"), told


def _intrude(which: str | Callable[[Place], Ask], place: Place, pipe: Connection) -> None:
    """In the child: make it, say so, hand it over, say what came of it."""
    try:
        # Functions within functions cannot be sent to another process; the list has them by name.
        make = next(case.make for case in INTRUSIONS if case.name == which) if isinstance(which, str) else which
        ask = make(place)
    except BaseException:
        pipe.send(("cannot", traceback.format_exc()))
        return
    pipe.send(("made", (digest(place.collection), digest(place.outside))))
    pipe.recv()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE, used + _SPARE))
    with small():
        pipe.send(_say(ask))


def _resident(process: int) -> int:
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _worked(process: int) -> float:
    """Seconds that a process has had of a processor."""
    with suppress(OSError, IndexError, ValueError):
        told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


@dataclass(frozen=True)
class Outcome:
    """How an intrusion ended."""

    what: str
    """`answered`, `refused` or `fault`."""
    told: str
    seconds: float
    nbytes: int
    """Memory on top, at its most."""


def intrude(case: Intrusion, base: Path, folder: Path) -> Outcome:
    """Let it happen in a process that is watched, in a folder of its own."""
    place = _lay_out(base, folder)
    context = processes()
    pipe, there = context.Pipe()
    child = context.Process(target=_intrude, args=(case.name if case in INTRUSIONS else case.make, place, there))
    child.start()
    there.close()
    try:
        try:
            what, told = pipe.recv()
        except EOFError:
            what, told = "cannot", "the maker died"
        if what == "cannot":
            return Outcome("fault", f"could not be made: {told}", 0.0, 0)
        before, outside = told
        started, least = time.monotonic(), _resident(child.pid)
        pipe.send("go on")
        most, end = 0, ("fault", "")
        while True:
            if pipe.poll(0.02):
                try:
                    end = pipe.recv()
                except (EOFError, ConnectionResetError):
                    child.join()
                    end = ("fault", f"the process died: exit code {child.exitcode}")
                break
            most = max(most, _resident(child.pid) - least)
            if most > case.nbytes:
                end = ("fault", f"took more than {readable_bytes(case.nbytes)}")
                break
            if _worked(child.pid) > case.seconds or time.monotonic() - started > 2 * case.seconds:
                end = ("fault", f"no end within {case.seconds:.0f} s")
                break
        seconds = time.monotonic() - started
    finally:
        child.kill()
        child.join()
    what, told = end
    if what == "refused" and len(told) > _LONGEST:
        what, told = "fault", f"a message of {len(told):,} characters: {told[:100]}"
    if SECRET in told or ":x:" in told:
        what, told = "fault", f"quotes what is private: {told[:200]}"
    if digest(place.outside) != outside:
        what, told = "fault", f"what lies outside was changed; {told}"
    if what == "refused" and not case.may_change and digest(place.collection) != before:
        what, told = "fault", f"refused, and yet the collection was changed; {told}"
    if what == "answered" and not case.may_pass:
        what, told = "fault", "taken as if nothing were amiss"
    return Outcome(what, told, seconds, most)


def intrusions(
    base: Path,
    work: Path,
    cases: Iterable[Intrusion],
    tell: Callable[[str], None] | None = None,
    what: str = "made to hurt",
) -> Tally:
    """Let all of these happen."""
    tally = Tally(what)
    with timed(tally):
        for case in cases:
            folder = work / "intrusion"
            try:
                outcome = intrude(case, base, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            tally.tried += 1
            tally.refused += outcome.what == "refused"
            tally.harmless += outcome.what == "answered"
            if outcome.what == "fault":
                tally.miss(f"{case.name}: {outcome.told}")
            if tell is not None:
                tell(
                    f"{case.name}: {outcome.what} in {outcome.seconds:.1f} s, {readable_bytes(outcome.nbytes)}: {outcome.told}"
                )
    return tally


# An encoder that needs no weights


class Stub:
    """Turns texts and pictures into vectors by a hash."""

    name, dim, logit_scale = "stub", DIM, 100.0

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._unit([hashlib.blake2b(text.encode("utf-8", "replace")).digest() for text in texts])

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self._unit([hashlib.blake2b(image.tobytes()).digest() for image in images])

    def unknown_words(self, text: str) -> tuple[str, ...]:
        return ()

    def too_long(self, text: str) -> bool:
        return False

    def _unit(self, seeds: list[bytes]) -> NDArray[np.float32]:
        rows = [np.random.default_rng(list(seed)).normal(size=self.dim) for seed in seeds]
        return unit(np.array(rows, np.float32).reshape(-1, self.dim))


@contextlib.contextmanager
def _opened(place: Place) -> Iterator[Collection]:
    with Collection.open(place.collection) as collection:
        collection.use_encoder(Stub())  # type: ignore[arg-type]
        yield collection


def _refused(report: Any) -> None:
    """Raise what a report tells of, as one sentence."""
    if report.refused:
        _, reason = report.refused[0]
        raise EngineError(reason)


# Pictures and videos


def _gif(width: int, height: int) -> bytes:
    """One picture of the size that the header claims, of a few bytes."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF0, 0, 0) + bytes(6)
    frame = b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return head + (frame + b"\x02\x02\x4c\x01\x00") * 6 + b"\x3b"


def _avi(path: Path, width: int, height: int) -> None:
    """An AVI of raw video whose header claims another size."""
    import av

    with av.open(str(path), "w", format="avi") as output:
        stream = output.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 18, "yuv420p"
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((18, 32, 3), 40 * i, np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<ii", 32, 18), struct.pack("<ii", width, height)))


def _ivf(width: int, height: int) -> bytes:
    """A VP8 key frame that claims a size."""
    frame = b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(40)
    head = b"DKIF" + struct.pack("<HH4sHHIIII", 0, 32, b"VP80", width, height, 25, 1, 3, 0)
    return head + b"".join(struct.pack("<IQ", len(frame), i) + frame for i in range(3))


def _video(name: str, content: Callable[[Path], object], **how: Any) -> None:
    @intrusion(f"video: {name}", **how)
    def make(place: Place) -> Ask:
        path = place.folder / f"film.{name.split()[-1]}"
        content(path)

        def ask() -> None:
            with _opened(place) as collection:
                _refused(ingest(collection, [path]))

        return ask


_video("204 bytes of 65,535 x 65,535 pixels, gif", lambda path: path.write_bytes(_gif(65535, 65535)))
_video("12,000 x 12,000 pixels, gif", lambda path: path.write_bytes(_gif(12000, 12000)))
_video("65,535 x 1 pixels, gif", lambda path: path.write_bytes(_gif(65535, 1)), may_pass=True)
_video("raw video that claims 60,000 x 60,000 pixels, avi", lambda path: _avi(path, 60000, 60000))
_video("raw video that claims more pixels than there are, avi", lambda path: _avi(path, 4096, 4096))
_video("16,383 x 16,383 pixels, ivf", lambda path: path.write_bytes(_ivf(16383, 16383)))
_video("a pipe, mp4", lambda path: os.mkfifo(path))
_video("a link to a device without end, mp4", lambda path: path.symlink_to("/dev/zero"))
_video("8 GB of nothing, mp4", lambda path: _sparse(path, 8 << 30))
_video("a playlist that names a private file, mp4", lambda path: path.write_text("#EXTM3U\n/etc/passwd\n"))


def _sparse(path: Path, nbytes: int, head: bytes = b"") -> None:
    """A file of so many bytes that takes no room."""
    path.write_bytes(head)
    os.truncate(path, nbytes)


def _beside(name: str, content: Callable[[Path], object], **how: Any) -> None:
    @intrusion(f"videos.json: {name}", **how)
    def make(place: Place) -> Ask:
        path = place.folder / "film.mp4"
        make_clip(path, 0.4)
        content(place.folder / "videos.json")

        def ask() -> None:
            with _opened(place) as collection:
                _refused(ingest(collection, [path]))

        return ask


def _entry(**told: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps([{"file": "film.mp4", **told}]))


_beside("nested a million times", lambda path: path.write_text("[" * 1_000_000))
_beside("8 GB of nothing", lambda path: _sparse(path, 8 << 30))
_beside("a pipe", lambda path: os.mkfifo(path), may_pass=True)
_beside("a title of 20 MB", _entry(title="x" * 20_000_000))
_beside("an id with a control character", _entry(video_id="a\x1b[2Jb"))
_beside("an id of two lines", _entry(video_id="a\nb"))
_beside("a title with a control character", _entry(title="a\x07\x1b]0;b"))
_beside("an id of 10,000 characters", _entry(video_id="x" * 10_000))
_beside("a number for an id", _entry(video_id=["a"]), may_pass=True)
_beside("a year that does not exist", _entry(captured_at="0001-01-01T00:00:00"), may_pass=True)


def _png(width: int, height: int) -> bytes:
    """All of one colour: a few kilobytes, whatever its size."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(rows) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _png_of_text(nbytes: int) -> bytes:
    """A small picture whose remarks unpack to so many bytes."""
    import zlib

    packed = b"k\0\0" + zlib.compress(bytes(nbytes), 9)
    chunk = struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    whole = io.BytesIO()
    Image.new("RGB", (8, 8)).save(whole, "png")
    return whole.getvalue()[:33] + chunk + whole.getvalue()[33:]


def _as(kind: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        Image.new("RGB", (16, 16), "red").save(path, kind)

    return write


def _eps(path: Path) -> None:
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n0 0 64 64 rectfill\nshowpage\n%%EOF\n"
    )


def _with_ghostscript(place: Place) -> None:
    """Have a `gs` in the path that leaves a trace outside."""
    tools = place.folder / "tools"
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\ntouch {place.outside}/ghostscript-was-run\n")
    (tools / "gs").chmod(0o755)
    os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"


def _picture(name: str, content: Callable[[Path], object], ending: str = "jpg", **how: Any) -> None:
    @intrusion(f"picture: {name}", **how)
    def make(place: Place) -> Ask:
        path = place.folder / f"001.{ending}"
        content(path)
        _with_ghostscript(place)
        return lambda: read_image(path, 320)


_picture("a PostScript named .jpg", _eps)
_picture("60,000 x 60,000 pixels in a PNG", lambda path: path.write_bytes(_png(60000, 60000)), "png")
_picture("9,000 x 9,000 pixels in a PNG", lambda path: path.write_bytes(_png(9000, 9000)), "png")
_picture(
    "a PNG whose remarks unpack to 1 GB", lambda path: path.write_bytes(_png_of_text(1 << 30)), "png", may_pass=True
)
_picture("a GIF of 65,535 x 65,535 pixels named .jpg", lambda path: path.write_bytes(_gif(65535, 65535)))
for _kind in ("tiff", "bmp", "gif", "ppm", "tga", "ico", "pcx", "sgi", "pdf"):
    _picture(f"a {_kind.upper()} named .jpg", _as(_kind))
_picture("a pipe named .jpg", lambda path: os.mkfifo(path))
_picture("a link to a device without end", lambda path: path.symlink_to("/dev/zero"))
_picture("8 GB of nothing", lambda path: _sparse(path, 8 << 30, b"\xff\xd8\xff\xe0"))


# Tables and arrays


def _rows(place: Place, n: int = 3) -> Path:
    path = place.folder / "v.npy"
    np.save(path, np.random.default_rng(1).normal(size=(n, DIM)).astype(np.float32))
    return path


def _columns(n: int = 3, **others: Any) -> dict[str, Any]:
    columns = {"video_id": ["x"] * n, "frame_index": list(range(n)), "seconds": [float(i) for i in range(n)]}
    return {**columns, **others}


def _imported(place: Place, frames: Path, vectors: Path) -> list[str]:
    return ["import", "--into", str(place.collection), "--vectors", str(vectors), "--frames", str(frames)]


def _table(name: str, write: Callable[[Path], object], ending: str, *, n: int = 3, **how: Any) -> None:
    @intrusion(f"table: {name}", **how)
    def make(place: Place) -> Ask:
        path = place.folder / f"frames.{ending}"
        write(path)
        return _imported(place, path, _rows(place, n))


def _many_rows(n: int) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        step = 1 << 20
        part = pa.table(
            {
                "video_id": pa.DictionaryArray.from_arrays(np.zeros(step, np.int32), ["x"]),
                "frame_index": np.zeros(step, np.int64),
                "seconds": np.zeros(step, np.float64),
            }
        )
        with pq.ParquetWriter(path, part.schema, compression="zstd") as writer:
            for _ in range(-(-n // step)):
                writer.write_table(part)

    return write


def _wide_text(path: Path) -> None:
    texts = pa.DictionaryArray.from_arrays(np.zeros(2000, np.int32), ["x" * 50_000_000])
    values = {"video_id": texts, "frame_index": np.arange(2000), "seconds": np.zeros(2000)}
    pq.write_table(pa.table(values), path, compression="zstd")


def _claims(path: Path) -> None:
    n = 1003
    table = pa.table({"video_id": ["x"] * n, "frame_index": np.arange(n) + 5000, "seconds": np.zeros(n)})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(path.read_bytes().replace(struct.pack("<q", n), struct.pack("<q", 100_000 * n)))


def _packed(path: Path) -> None:
    """A gigabyte of nothing in some kilobytes."""
    n = 1 << 25
    table = pa.table({"video_id": pa.DictionaryArray.from_arrays(np.zeros(n, np.int8), ["x"])})
    table = table.append_column("frame_index", pa.array(np.zeros(n, np.int64)))
    table = table.append_column("seconds", pa.array(np.zeros(n)))
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)


def _arrow(**columns: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        table = pa.table(_columns(len(next(iter(columns.values()))), **columns))
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)

    return write


def _endless_csv(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"video_id,frame_index,seconds\nx,0,0\nx,1,1\n")
        for _ in range(300):
            file.write(b"a" * (1 << 20))


def _tags_csv(n: int, per: int = 1000) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        lines = [
            f"x,{i},{i},{'|'.join(f'object:t{k}' for k in range(start, min(n, start + per)))}"
            for i, start in enumerate(range(0, n, per))
        ]
        path.write_text("\n".join(["video_id,frame_index,seconds,tags", *lines]) + "\n")

    return write


_HEAD = "video_id,frame_index,seconds\n"
_table("Parquet of 40 million rows", _many_rows(40_000_000), "parquet", nbytes=1 << 30)
_table("Parquet of 300 million rows", _many_rows(300_000_000), "parquet", slow=True, nbytes=1 << 30)
_table("Parquet that unpacks to 100 GB of text", _wide_text, "parquet", n=2000)
_table("Arrow that claims 100,000 times its rows", _claims, "arrow")
_table("Arrow that unpacks to a gigabyte", _packed, "arrow", nbytes=1 << 30)
_table("CSV with a line of 300 MB", _endless_csv, "csv", nbytes=1 << 30)
_table("CSV that is a list of users", lambda path: shutil.copy("/etc/passwd", path), "csv")
_table("a link to a list of users", lambda path: path.symlink_to("/etc/passwd"), "csv")
_table("CSV of a secret", lambda path: path.write_text(f"{SECRET}\n{SECRET},{SECRET}\n"), "csv")
_table("CSV with a secret for a number", lambda path: path.write_text(f"{_HEAD}x,{SECRET},0\nx,1,1\nx,2,2\n"), "csv")
_table("CSV of a million columns", lambda path: path.write_text(",".join(map(str, range(1_000_000))) + "\n"), "csv")
_table("CSV of zeros", lambda path: path.write_bytes(bytes(1 << 20)), "csv")
_table("CSV that is not text", lambda path: path.write_bytes(_HEAD.encode() + b"\xff\xfe,0,0\nx,1,1\nx,2,2\n"), "csv")
_table("CSV with a quote that does not end", lambda path: path.write_text(_HEAD + '"x,0,0\n' * 100_000), "csv")
_table("16 GB of nothing", lambda path: _sparse(path, 16 << 30, _HEAD.encode()), "csv")
_table("a pipe", lambda path: os.mkfifo(path), "csv")
_table("a device without end", lambda path: path.symlink_to("/dev/zero"), "csv")
_table("a title of 200 MB", _arrow(title=["x" * 200_000_000, "", ""]), "arrow")
_table("an id of 20 MB", _arrow(video_id=["x" * 20_000_000] * 3), "arrow")
_table("a tag of 20 MB", _arrow(tags=[["x" * 20_000_000], [], []]), "arrow")
_table("an id with a control character", _arrow(video_id=["a\x1b[2J"] * 3), "arrow")
_table("an id of two lines", _arrow(video_id=["a\nb"] * 3), "arrow")
_table("an id with a zero in it", _arrow(video_id=["a\0b"] * 3), "arrow")
_table("an id that writes backwards", _arrow(video_id=["a\u202eb"] * 3), "arrow", may_pass=True)
_table("a title with a control character", _arrow(title=["a\x9bb", "", ""]), "arrow")
_table("a tag with a control character", _arrow(tags=[["object:\x1b[31m"], [], []]), "arrow")
_table("32,000 tags", _tags_csv(32_000), "csv", n=32)
_table("300,000 tags", _tags_csv(300_000), "csv", n=300)
_table("9,999 tags", _tags_csv(9_999), "csv", n=10, may_pass=True)
_table("20,000 tags on one frame", _tags_csv(20_000, 20_000), "csv", n=1)
_table("frames beyond all numbers", _arrow(frame_index=[2**63 - 1, 2**62, 0]), "arrow", may_pass=True)


def _npy(head: str, version: int = 1, body: bytes = bytes(96), length: int | None = None) -> bytes:
    told = (head + "\n").encode()
    size = len(told) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + told + body


def _described(shape: str, kind: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"


class _Bad:
    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (self.place,)


def _zip_bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("arr_0.npy", "w", force_zip64=True) as part,
    ):
        part.write(_npy(_described(f"({(3 << 30) // 32}, 8)"), body=b""))
        for _ in range(96):
            part.write(bytes(1 << 25))


_ARRAYS: dict[str, Callable[[Path], object]] = {
    "2^62 rows": lambda path: path.write_bytes(_npy(_described("(4611686018427387904, 8)"))),
    "fewer than no rows": lambda path: path.write_bytes(_npy(_described("(-3, 8)"))),
    "rows of 10^9 numbers each": lambda path: path.write_bytes(_npy(_described("(3,)", "('<f4', (1000000000,))"))),
    "rows of 10^12 numbers": lambda path: path.write_bytes(_npy(_described("(3, 1000000000000)"))),
    "no rows of 10^18 numbers": lambda path: path.write_bytes(_npy(_described("(0, 1000000000000000000)"), body=b"")),
    "a header of 100,000 brackets": lambda path: path.write_bytes(_npy("(" * 100_000, 2)),
    "a header that claims 4 GB": lambda path: path.write_bytes(_npy(_described("(3, 8)"), 2, length=2**32 - 1)),
    "a header of 10^7 minus signs": lambda path: path.write_bytes(_npy("-" * 10_000_000 + "1", 2)),
    "an unknown version": lambda path: path.write_bytes(b"\x93NUMPY\x09\x00" + bytes(100)),
    "by columns": lambda path: path.write_bytes(_npy(_described("(3, 8)", order="True"))),
    "a hundred dimensions": lambda path: path.write_bytes(_npy(_described("(" + "1," * 100 + ")"))),
    "an archive of 3 GB in some megabytes": _zip_bomb,
    "16 GB of nothing": lambda path: _sparse(path, 16 << 30, _npy(_described("(536870908, 8)"), body=b"")),
    "a pipe": lambda path: os.mkfifo(path),
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
}


def _array(name: str, write: Callable[[Path], object]) -> None:
    @intrusion(f"array to import: {name}")
    def imported(place: Place) -> Ask:
        path = place.folder / "v.npy"
        write(path)
        table = place.folder / "frames.csv"
        table.write_text(_HEAD + "x,0,0\nx,1,1\nx,2,2\n")
        return _imported(place, table, path)

    @intrusion(f"array as queries: {name}")
    def asked(place: Place) -> Ask:
        path = place.folder / "q.npy"
        write(path)
        return ["search", str(place.collection), "--vector", str(path)]


for _name, _write in _ARRAYS.items():
    _array(_name, _write)


@intrusion("array to import: pickled objects that make a folder")
def _pickled(place: Place) -> Ask:
    path = place.folder / "v.npy"
    body = pickle.dumps(np.array([_Bad(str(place.outside / "made"))], object))
    path.write_bytes(_npy(_described("(1,)", "'|O'"), body=body))
    table = place.folder / "frames.csv"
    table.write_text(_HEAD + "x,0,0\n")
    return _imported(place, table, path)


# Archives


def _archive(name: str, spoil: Callable[[Place, Path], object], **how: Any) -> None:
    """An archive of one sound video and one that `spoil` has been at; no picture made of it may be private."""

    @intrusion(f"archive: {name}", may_change=True, **how)
    def make(place: Place) -> Ask:
        root = place.folder / "archive"
        for folder in ("clip-features-32", "map-keyframes", "media-info", "objects", "keyframes/A", "video"):
            (root / folder).mkdir(parents=True)
        for video in ("A", "B"):
            np.save(root / f"clip-features-32/{video}.npy", np.random.default_rng(2).normal(size=(2, DIM)))
            (root / f"map-keyframes/{video}.csv").write_text("n,pts_time,fps,frame_idx\n1,0,25,0\n2,2,25,50\n")
        spoil(place, root)
        pictures = root / "keyframes/A"
        if pictures.is_dir() and not pictures.is_symlink() and not any(pictures.iterdir()):
            Image.new("RGB", (64, 36), "green").save(root / "keyframes/A/001.jpg")

        def ask() -> None:
            with _opened(place) as collection:
                report = import_aic(collection, root, build=False)
                _shows_nothing_private(collection)
                _refused(report)

        return ask


def _shows_nothing_private(collection: Collection) -> None:
    """Raise unless all pictures may be seen."""
    private = [b"mine", SECRET.encode()]
    for hit in collection.search(QUERIES[0], 500, exact=True).hits:
        with suppress(EngineError):
            path = collection.thumbnail(collection.frame(hit.frame_id))
            if path is None or not path.is_file():
                continue
            content = path.read_bytes()
            if content in private:
                raise AssertionError(f"{path.name} of {hit.video_id} shows a private file")
            with suppress(OSError), Image.open(io.BytesIO(content)) as image:
                mean = np.asarray(image.convert("RGB"), np.float64).mean(axis=(0, 1))
                if np.abs(mean - _PRIVATE).max() < 30:
                    raise AssertionError(f"{path.name} of {hit.video_id} shows a private picture")


def _link(place: Place, link: Path, target: Path) -> None:
    if link.is_dir() and not link.is_symlink():
        link.rmdir()
    else:
        link.unlink(missing_ok=True)
    link.symlink_to(target)


def _private_film(place: Place, root: Path) -> None:
    make_clip(place.outside / "film.mp4", 0.4)
    (root / "video/A.mp4").symlink_to(place.outside / "film.mp4")


_archive("pictures in a folder elsewhere", lambda at, root: _link(at, root / "keyframes/A", at.outside), may_pass=True)
_archive(
    "a picture elsewhere",
    lambda at, root: (root / "keyframes/A/001.jpg").symlink_to(at.outside / "001.jpg"),
    may_pass=True,
)
_archive(
    "a folder of archives elsewhere",
    lambda at, root: (shutil.rmtree(root / "keyframes"), (root / "keyframes").symlink_to(at.outside)),
    may_pass=True,
)
_archive("a video elsewhere", _private_film, may_pass=True)
_archive(
    "a map elsewhere, which is a secret",
    lambda at, root: _link(at, root / "map-keyframes/A.csv", at.outside / "diary.txt"),
)
_archive(
    "media info elsewhere, which is a secret",
    lambda at, root: (root / "media-info/A.json").symlink_to(at.outside / "diary.txt"),
)
_archive("features that are a pipe", lambda at, root: _piped(root / "clip-features-32/A.npy"), may_pass=True)
_archive("a map that is a pipe", lambda at, root: _piped(root / "map-keyframes/A.csv"), may_pass=True)
_archive("media info that is a pipe", lambda at, root: _piped(root / "media-info/A.json"), may_pass=True)
_archive("objects that are a pipe", lambda at, root: _piped(root / "objects/A.json"), may_pass=True)
_archive("objects without end", lambda at, root: (root / "objects/A.json").symlink_to("/dev/zero"), may_pass=True)
_archive("a folder of objects that are pipes", lambda at, root: _piped(root / "objects/A/001.json"), may_pass=True)
_archive("media info of 8 GB", lambda at, root: _sparse(root / "media-info/A.json", 8 << 30))
_archive("a map of 8 GB", lambda at, root: _sparse(root / "map-keyframes/A.csv", 8 << 30))
_archive("features of 8 GB", lambda at, root: _sparse(root / "clip-features-32/A.npy", 8 << 30))
_archive("objects of 8 GB", lambda at, root: _sparse(root / "objects/A.json", 8 << 30))
_archive("media info nested a million times", lambda at, root: (root / "media-info/A.json").write_text("[" * 1_000_000))
_archive("objects nested 100,000 times", lambda at, root: (root / "objects/A.json").write_text('{"1":' * 99_999 + "{}"))
_archive(
    "a title of 20 MB",
    lambda at, root: (root / "media-info/A.json").write_text(json.dumps({"title": "x" * 20_000_000})),
)
_archive(
    "a title with a control character",
    lambda at, root: (root / "media-info/A.json").write_text(json.dumps({"title": "a\x1b[2J"})),
)
_archive(
    "a number of 100,000 digits",
    lambda at, root: (root / "media-info/A.json").write_text('{"length": ' + "9" * 100_000 + "}"),
)
_archive(
    "300,000 labels",
    lambda at, root: (root / "objects/A.json").write_text(json.dumps({"001": [f"thing {i}" for i in range(300_000)]})),
)
_archive(
    "a label of 20 MB", lambda at, root: (root / "objects/A.json").write_text(json.dumps({"001": ["x" * 20_000_000]}))
)
_archive(
    "a label with a control character",
    lambda at, root: (root / "objects/A.json").write_text(json.dumps({"001": ["\x1b[2J"]})),
)
_archive(
    "folders that lead round in a circle", lambda at, root: (root / "keyframes/more").symlink_to(root), may_pass=True
)
_archive(
    "a name with a control character",
    lambda at, root: [
        (root / f"{folder}/A.{ending}").rename(root / f"{folder}/A\x1b[2J.{ending}")
        for folder, ending in (("clip-features-32", "npy"), ("map-keyframes", "csv"))
    ],
)


def _piped(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


# Collections from somebody else


def use_all(path: Path) -> None:
    """Everything that somebody may do with a collection that he was given; what is refused in one sentence goes on with the next."""
    steps: list[Callable[[Collection], object]] = [
        lambda c: c.check(),
        lambda c: c.stats(),
        lambda c: c.search(QUERIES[0], 500, exact=True),
        lambda c: c.search(QUERIES[0], 10, n_probe=4),
        lambda c: c.search(QUERIES[0], 10, where=Filter(tags_any=("object:cat",))),
        lambda c: [c.neighbours(hit.frame_id) for hit in c.search(QUERIES[0], 3).hits],
        lambda c: [c.poster(video.video_id) for video in c.videos()[:50]],
        _shows_nothing_private,
        lambda c: [c.clip(c.frame(hit.frame_id)) for hit in c.search(QUERIES[0], 3).hits],
        lambda c: c.memory(),
        lambda c: c.delete("v1"),
        lambda c: c.compact(),
        lambda c: c.reshard(n_shards=2),
        lambda c: c.build(n_cells=5),
    ]
    refused: list[str] = []
    for residency in ("loaded", "mapped"):
        with Collection.open(path, residency=residency) as collection:  # type: ignore[arg-type]
            for step in steps:
                try:
                    step(collection)
                except EngineError as error:
                    if not one_sentence(error):
                        raise AssertionError(f"not one sentence: {error}") from error
                    if SECRET in str(error):
                        raise AssertionError(f"quotes what is private: {error}") from error
                    refused.append(str(error))
    if refused:
        raise _Used(refused[0])


class _Used(EngineError):
    """Something of a collection was refused, and it was used all the same."""


def _given(name: str, spoil: Callable[[Place], object], **how: Any) -> None:
    """A collection that somebody gave; it may be used as far as it goes, so it may change, and nothing outside of it."""

    @intrusion(f"collection: {name}", **{"may_pass": True, "may_change": True, **how})
    def make(place: Place) -> Ask:
        spoil(place)

        def ask() -> None:
            with suppress(_Used) if how.get("may_pass", True) else contextlib.nullcontext():
                use_all(place.collection)

        return ask


def _elsewhere(name: str) -> Callable[[Place], object]:
    """Put a link to what is somebody else's in the place of a folder or a file."""

    def spoil(place: Place) -> None:
        path = place.collection / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(place.outside)

    return spoil


def _moved_out(name: str) -> Callable[[Place], object]:
    """Put a link in the place of a folder or a file, and what was there beside what is somebody else's."""

    def spoil(place: Place) -> None:
        path = place.collection / name
        if path.exists():
            for each in path.iterdir() if path.is_dir() else ():
                target = place.outside / each.name
                if not target.exists():
                    (shutil.copytree if each.is_dir() else shutil.copy)(each, target)
            (shutil.rmtree if path.is_dir() else Path.unlink)(path)
        path.symlink_to(place.outside)

    return spoil


def _dangling(name: str) -> Callable[[Place], object]:
    def spoil(place: Place) -> None:
        path = place.collection / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(place.outside / "new")

    return spoil


def _first(place: Place, pattern: str) -> Path:
    return min(place.collection.glob(pattern))


def _replaced(pattern: str, by: Callable[[Place, Path], object]) -> Callable[[Place], object]:
    def spoil(place: Place) -> None:
        path = _first(place, pattern)
        path.unlink()
        by(place, path)

    return spoil


def _lease(place: Place) -> Path:
    with contextlib.closing(Catalog.open(place.collection / "catalog.sqlite")) as catalog:
        return place.collection / "leases" / str(catalog.current_generation())


def _linked_lease(place: Place) -> None:
    path = _lease(place)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(place.outside / "new")


_FOLDERS = ("media", "clips", "pictures", "leases", "segments", "cells", "routers", "ladder", "parents", "staged")
for _folder in _FOLDERS:
    _given(f"{_folder} is a link to a folder elsewhere", _elsewhere(_folder))
for _folder in ("media", "segments", "cells", "routers"):
    _given(f"all of {_folder} lies elsewhere beside other things", _moved_out(_folder))
for _file in ("write.lock", "past-queries.f16", "leases/7", "catalog.sqlite-journal"):
    _given(f"{_file} is a link to a file that is not there yet", _dangling(_file))
_given("the lease in use is a link", _linked_lease)
_given("a folder of thumbnails is a link", _elsewhere("media/1"))
_given("a folder of thumbnails of nobody is a link", _elsewhere("media/77"))
_given("a segment of nobody is a link", _elsewhere("segments/7777"))
_PIPED = ("segments/*/vectors.npy", "segments/*/frames.arrow", "segments/*/cells.npy", "segments/*/codes.faiss")
for _pattern in (
    *_PIPED,
    "cells/*/centroids.npy",
    "routers/*/text_best.npy",
    "media/*/*.jpg",
    "write.lock",
    "catalog.sqlite",
):
    _given(f"{_pattern} is a pipe", _replaced(_pattern, lambda place, path: os.mkfifo(path)))
for _pattern in (*_PIPED, "cells/*/centroids.npy", "routers/*/text_best.npy", "media/*/*.jpg"):
    _given(f"{_pattern} is without end", _replaced(_pattern, lambda place, path: path.symlink_to("/dev/zero")))
_given(
    "a thumbnail is a link to a private picture",
    _replaced("media/1/*.jpg", lambda place, path: path.symlink_to(place.outside / "001.jpg")),
)
_given(
    "a thumbnail has a name that is no number", lambda place: (place.collection / "media/1/abc.jpg").write_bytes(b"x")
)
_given("past queries of 64 GB", lambda place: _sparse(place.collection / "past-queries.f16", 64 << 30))


def _told_clip(place: Place) -> None:
    """A clip that was cut already, by what a note beside it says, and is a private file."""
    clips = place.collection / "clips"
    clips.mkdir()
    for number in range(1, 15):
        for ms in range(0, 60_000, 2000):
            path = clips / f"{number}-{ms}-3000-5000.mp4"
            path.symlink_to(place.outside / "diary.txt")
            path.with_suffix(".json").write_text(json.dumps({"nbytes": len(SECRET), "start": "x", "who": 1}))


_given("clips that were cut already and are private files", _told_clip)

_SUPER = bytes.fromhex("d9d505f920a163d7")


def _super_journal(place: Place) -> None:
    """A journal to be rolled back that names another file as the one to be removed with it."""
    catalog = place.collection / "catalog.sqlite"
    content = catalog.read_bytes()
    size = struct.unpack(">H", content[16:18])[0]
    page = content[:size]
    checksum = 12345
    for at in range(size - 200, 0, -200):
        checksum = (checksum + page[at]) & 0xFFFFFFFF
    head = _SUPER + struct.pack(">IIIII", 1, 12345, len(content) // size, 512, size)
    victim = str(place.outside / "diary.txt").encode()
    record = struct.pack(">I", 1) + page + struct.pack(">I", checksum)
    tail = struct.pack(">I", 0x40000000 // size + 1) + victim + struct.pack(">II", len(victim), sum(victim)) + _SUPER
    (place.collection / "catalog.sqlite-journal").write_bytes(head.ljust(512, b"\0") + record + tail)


_given("a journal that names a private file as its own", _super_journal)


def _forged(name: str, *statements: tuple[str, Sequence[object]] | str, signed: bool = True, **how: Any) -> None:
    """A catalog that somebody has changed, with right checksums."""

    def spoil(place: Place) -> None:
        forge(place.collection, *statements, signed=signed)

    _given(f"catalog: {name}", spoil, **how)


def forge(path: Path, *statements: tuple[str, Sequence[object]] | str, signed: bool = True) -> None:
    """Change a catalog, and sign it again as it is then."""
    with contextlib.closing(Catalog.open(path / "catalog.sqlite")) as catalog:
        generation = catalog.current_generation()
    db = sqlite3.connect(path / "catalog.sqlite", isolation_level=None)
    for statement in statements:
        sql, values = (statement, ()) if isinstance(statement, str) else statement
        db.execute(sql.replace(":now", str(generation)), tuple(values))
    db.close()
    if signed:
        hostile.seal(path)


def _setting(**values: object) -> tuple[str, Sequence[object]]:
    sets = "settings"
    for name, value in values.items():
        sets = f"json_set({sets}, '$.{name}', json('{json.dumps(value)}'))"
    return f"UPDATE generations SET settings = {sets} WHERE generation = :now", ()


_STRICT: dict[str, Any] = {"may_pass": False, "may_change": False}
"""Nothing but a refusal will do, and nothing may change."""
_ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
_forged(
    "a view without end in place of the counters",
    "DROP TABLE counters",
    f"CREATE VIEW counters AS {_ENDLESS} SELECT 'frame' AS name, x AS value FROM n",
    signed=False,
    **_STRICT,
)
_forged("10^9 shards asked for", _setting(n_shards=10**9))
_forged("a setting that nobody knows", _setting(evil=True))
_forged(
    "files that lie elsewhere",
    "UPDATE segments SET files = json_insert(files, '$.\"../../../outside/diary.txt\"', '0')",
)
_forged("files without end", "UPDATE segments SET files = json_insert(files, '$.\"/dev/zero\"', '0')")
_forged("cells whose files are without end", "UPDATE cells SET files = json_insert(files, '$.\"/dev/zero\"', '0')")
_forged("routers whose files are without end", "UPDATE routers SET files = json_insert(files, '$.\"/dev/zero\"', '0')")
_forged(
    "tags that are no counts", "UPDATE segments SET stats = json_set(stats, '$.tags', json('{\"object:cat\": \"x\"}'))"
)
_forged(
    "frame ids that are texts", "UPDATE segments SET stats = json_set(stats, '$.frame_ids', json('[\"a\", \"b\"]'))"
)
_forged("videos that nobody knows", "UPDATE segments SET stats = json_set(stats, '$.videos', json('{\"-1\": 5}'))")
_forged("a title that is a number", "UPDATE videos SET title = 5")
_forged("a title with a control character", "UPDATE videos SET title = char(27) || '[2J'")
_forged("a blob for a video's id", "UPDATE videos SET video_id = x'ff00ff' WHERE number = 1")
_forged("the counter of frames at its end", "UPDATE counters SET value = 9223372036854775807 WHERE name = 'frame'")
_forged(
    "a generation at the end of all numbers", "UPDATE generations SET generation = 9223372036854775807", signed=False
)
_forged(
    "half a million videos of no frames",
    _ENDLESS.replace("FROM n)", "FROM n LIMIT 500000)")
    + (" INSERT INTO videos SELECT x + 1000, 'w' || x, '', '', 0, 0, NULL, 0, '', '', '{}', '', 0, NULL FROM n"),
)


def _stored(make: Callable[[Path], None], **how: Any) -> None:
    """A collection whose checksums are right, and what they are of is not; it is used in every way."""

    @intrusion(f"stored: {make.__name__.replace('_', ' ')}", may_pass=True, may_change=True, **how)
    def given(place: Place) -> Ask:
        make(place.collection)

        def ask() -> None:
            outcomes = hostile.outcomes(place.collection)
            for use, outcome in outcomes.items():
                if outcome.startswith("raised"):
                    raise AssertionError(f"{use}: {' '.join(outcome.split())[-300:]}")
            for outcome in outcomes.values():
                if outcome.startswith("refused: "):
                    raise EngineError(outcome.removeprefix("refused: "))

        return ask


for _i, _make in enumerate(hostile.HOSTILE):
    _stored(_make, slow=_i % 4 > 0)  # All of them are tried by a test of their own.


@intrusion("collection: videos and pictures of somebody else", may_pass=True)
def _private_sources(place: Place) -> Ask:
    film = place.outside / "film.mp4"
    make_clip(film, 0.4)
    forge(place.collection, ("UPDATE videos SET source = ?, pictures = ?, media = ''", (str(film), str(place.outside))))
    shutil.rmtree(place.collection / "media")

    def ask() -> None:
        with Collection.open(place.collection) as collection:
            _shows_nothing_private(collection)
            hit = collection.search(QUERIES[0], 1).hits[0]
            with suppress(EngineError):
                collection.clip(collection.frame(hit.frame_id))
                raise AssertionError("shows a private film")

    return ask


@intrusion("collection: an encoder of its own that is a pipe", slow=True)
def _own_encoder(place: Place) -> Ask:
    model = place.folder / "model"
    model.mkdir()
    os.mkfifo(model / "open_clip_config.json")
    (model / "open_clip_model.safetensors").write_bytes(b"x")
    forge(place.collection, _setting(encoder=str(model)))
    return ["search", str(place.collection), "a dog"]


# Model folders


def _model(name: str, spoil: Callable[[Place, Path, dict[str, Any]], object]) -> None:
    @intrusion(f"model: {name}", slow=True)
    def make(place: Place) -> Ask:
        from engine.embedding.open_clip_encoder import SHIPPED_FOLDER

        model = place.folder / "model"
        shutil.copytree(SHIPPED_FOLDER, model)
        config = json.loads((model / "open_clip_config.json").read_text())
        spoil(place, model, config)
        if not (model / "open_clip_config.json").is_fifo():
            (model / "open_clip_config.json").write_text(json.dumps(config))

        def ask() -> None:
            from engine.embedding.encoder import load_encoder

            load_encoder(str(model))

        return ask


def _part(config: dict[str, Any], part: str, **values: object) -> None:
    config["model_cfg"].setdefault(part, {}).update(values)


def _tokenizer_with_code(place: Place, model: Path, config: dict[str, Any]) -> None:
    (model / "evil.py").write_text(f"import pathlib\npathlib.Path({str(place.outside / 'ran')!r}).touch()\n")
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    values = {"hf_tokenizer_name": str(model), "tokenizer_kwargs": {"trust_remote_code": True}}
    _part(config, "text_cfg", **values)


def _pickled_weights(place: Place, model: Path, config: dict[str, Any]) -> None:
    for weights in model.glob("*.safetensors"):
        weights.unlink()
    (model / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(_Bad(str(place.outside / "made"))))


def _pipe_for_config(place: Place, model: Path, config: dict[str, Any]) -> None:
    (model / "open_clip_config.json").unlink()
    os.mkfifo(model / "open_clip_config.json")


_model("a tokenizer that brings code", _tokenizer_with_code)
_model("weights that make a folder", _pickled_weights)
_model("a pipe for a config", _pipe_for_config)
_model("a million layers of text", lambda place, model, config: _part(config, "text_cfg", layers=1_000_000))
_model("a million layers of vision", lambda place, model, config: _part(config, "vision_cfg", layers=1_000_000))
_model("vectors of 10^9 numbers", lambda place, model, config: config["model_cfg"].update(embed_dim=10**9))
_model("a width of 10^6", lambda place, model, config: _part(config, "text_cfg", width=10**6))
_model("a vocabulary of 10^10", lambda place, model, config: _part(config, "text_cfg", vocab_size=10**10))
_model("pictures of 10^6 pixels across", lambda place, model, config: _part(config, "vision_cfg", image_size=10**6))
_model("a text of 10^9 tokens", lambda place, model, config: _part(config, "text_cfg", context_length=10**9))
_model("a key that nobody knows", lambda place, model, config: _part(config, "vision_cfg", evil="x"))
_model("another model by name", lambda place, model, config: _part(config, "text_cfg", hf_model_name="x/y"))
_model("a vision tower by name", lambda place, model, config: _part(config, "vision_cfg", timm_model_name="resnet50"))


# Questions


def _question(name: str, ask: Callable[[Collection], object], **how: Any) -> None:
    @intrusion(f"question: {name}", **how)
    def make(place: Place) -> Ask:
        def asked() -> None:
            with _opened(place) as collection:
                ask(collection)

        return asked


_question("a text of 100 kB", lambda c: c.search("dog " * 25_000))
_question("a text of 501 characters", lambda c: c.search("d" * 501))
_question("a text of 500 characters", lambda c: c.search("d" * 500), may_pass=True)
_question("half a character", lambda c: c.search("\ud800"), may_pass=True)
_question("a zero in a text", lambda c: c.search("a\0b"), may_pass=True)
_question("10^12 hits", lambda c: c.search(QUERIES[0], 10**12), may_pass=True)
_question("2^70 hits", lambda c: c.search(QUERIES[0], 2**70), may_pass=True)
_question("10^18 cells", lambda c: c.search(QUERIES[0], 5, n_probe=10**18), may_pass=True)
_question("2^70 shards at most", lambda c: c.search(QUERIES[0], 5, max_shards=2**70), may_pass=True)
_question("a frame before the first", lambda c: c.search(-1))
_question("frame 2^70", lambda c: c.search(2**70))
_question("shard 2^70 as well", lambda c: c.search(QUERIES[0], 5, force_shards=(2**70,)))
_question("a recall that is no number", lambda c: c.search(QUERIES[0], 5, recall=float("nan")))
_question("a vector of 10^7 numbers", lambda c: c.search(np.zeros(10_000_000, np.float32)))
_question("a vector of no numbers", lambda c: c.search(np.zeros(0, np.float32)))
_question("a vector of infinities", lambda c: c.search(np.full(DIM, np.inf)))
_question("a tag of 10 MB", lambda c: c.search(QUERIES[0], where=Filter(tags_any=("x" * 10_000_000,))))
_question("100,000 tags", lambda c: c.search(QUERIES[0], where=Filter(tags_any=tuple(map(str, range(100_000))))))
_question("a video of 10 MB", lambda c: c.search(QUERIES[0], where=Filter(videos=("x" * 10_000_000,))))
_question(
    "seconds that are no numbers",
    lambda c: c.search(QUERIES[0], where=Filter(seconds=(float("nan"), 1.0))),
    may_pass=True,
)
_question("frame 2^70 by its id", lambda c: c.frame(2**70))
_question("10^9 neighbours", lambda c: c.neighbours(c.search(QUERIES[0], 1).hits[0].frame_id, 10**9), may_pass=True)
_question("10^6 shards", lambda c: c.reshard(n_shards=1_000_000))
_question("10^6 shards in a build", lambda c: c.build(n_shards=1_000_000))
_question("10^9 cells", lambda c: c.build(n_cells=10**9), may_pass=True)
_question("a placement of options that nest", lambda c: c.build(options={"minutes": _nested(5000)}))


def _nested(depth: int) -> object:
    found: object = 1
    for _ in range(depth):
        found = [found]
    return found


_COMMANDS = {
    "an option nested 100,000 times": ["build", "COLLECTION", "--option", "minutes=" + "[" * 60_000],
    "vectors of 10^9 numbers": ["synthetic", "--into", "NEW", "--frames", "10", "--dim", "1000000000"],
    "10^15 frames": ["synthetic", "--into", "NEW", "--frames", "1000000000000000"],
    "fewer than no frames": ["synthetic", "--into", "NEW", "--frames", "-5"],
    "a million shards": ["synthetic", "--into", "NEW", "--frames", "3000", "--dim", "16", "--shards", "1000000"],
    "endless memory": ["plan", "--ram", "1e400GB", "--dim", "8"],
    "10^30 dimensions": ["plan", "--ram", "8GB", "--dim", "1" + "0" * 30],
    "no dimensions": ["plan", "--ram", "8GB", "--dim", "0"],
    "10^6 workers": ["search", "COLLECTION", "--frame", "0", "--workers", "1000000"],
    "a text of 100 kB": ["search", "COLLECTION", "dog " * 25_000],
    "a collection that is a pipe": ["stats", "PIPE"],
    "a collection in a list of users": ["stats", "/etc/passwd"],
    "export over the catalog": [
        "export",
        "COLLECTION",
        "--vectors",
        "COLLECTION/catalog.npy",
        "--frames",
        "COLLECTION/catalog.sqlite",
    ],
    "delete of a path": ["delete", "COLLECTION", "../../outside/1"],
    "export into a link": ["export", "COLLECTION", "--vectors", "LINK.npy", "--frames", "NEW.parquet"],
}


def _command(name: str, arguments: list[str]) -> None:
    @intrusion(f"command: {name}", may_pass=name == "10^6 workers" or "link" in name)
    def make(place: Place) -> Ask:
        os.mkfifo(place.folder / "pipe")
        (place.folder / "link.npy").symlink_to(place.outside / "new.npy")
        names = {
            "COLLECTION": str(place.collection),
            "NEW": str(place.folder / "new"),
            "PIPE": str(place.folder / "pipe"),
            "LINK": str(place.folder / "link"),
        }

        def named(text: str) -> str:
            for word, path in names.items():
                text = text.replace(word, path)
            return text

        return [named(each) if len(each) < 1000 else each for each in arguments]


for _name, _arguments in _COMMANDS.items():
    _command(_name, _arguments)


def quick() -> list[Intrusion]:
    """Those that do not take long."""
    return [case for case in INTRUSIONS if not case.slow]
