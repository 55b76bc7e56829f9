"""Frame columns of a segment, and tables of frames: the only module that knows PyArrow.

On disk the columns are one Arrow IPC file, a column per field and a bit-packed boolean column per tag that occurs, so any
Arrow reader understands them. In memory they are NumPy arrays, mapped from the file where the layout allows.
"""

from __future__ import annotations

import csv
import re
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import bounds
from engine.errors import CorruptData

NO_TIME = np.iinfo(np.int64).min
"""Stands for "no wall-clock time" in `captured_at`, like NumPy's NaT."""

_TAG = "tag:"
_BLOCK = 1 << 22
"""Tag bits looked at in one step, so that memory stays small however many tags there are."""


@dataclass(frozen=True, slots=True)
class Tags:
    """Which of n frames carry which tags, a bit each."""

    names: tuple[str, ...]
    """Tags that occur, sorted."""
    bits: NDArray[np.uint8]
    """(n_tags, ceil(n / 8)), the first frame in the lowest bit."""
    n: int

    @classmethod
    def of(cls, tags: Sequence[Sequence[str]]) -> Tags:
        """From a list of tags per frame."""
        names = sorted({name for each in tags for name in each})
        place = {name: i for i, name in enumerate(names)}
        tag = np.fromiter((place[name] for each in tags for name in each), np.int64)
        row = np.repeat(np.arange(len(tags)), np.fromiter(map(len, tags), np.int64, len(tags)))
        return cls(tuple(names), _packed(tag, row, len(names), len(tags)), len(tags))

    @classmethod
    def none(cls, n: int) -> Tags:
        """No tags on n frames."""
        return cls((), np.empty((0, (n + 7) // 8), np.uint8), n)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """(n,) the frames that carry a tag; none where it does not occur."""
        place = bisect_left(self.names, name)
        if place == len(self.names) or self.names[place] != name:
            return np.zeros(self.n, np.bool_)
        return np.unpackbits(self.bits[place], count=self.n, bitorder="little").view(np.bool_)

    def counts(self) -> dict[str, int]:
        """Frames per tag that occurs."""
        step = max(1, _BLOCK // max(1, self.bits.shape[1]))
        counts: list[int] = []
        for first in range(0, len(self.names), step):
            counts += _ONES[self.bits[first : first + step]].sum(axis=1, dtype=np.int64).tolist()
        return dict(zip(self.names, counts, strict=True))

    def at(self, rows: NDArray[np.intp]) -> list[tuple[str, ...]]:
        """The tags of these frames, sorted."""
        found: list[list[str]] = [[] for _ in range(len(rows))]
        for tag, frame in self._carried(rows):
            for each, place in zip(tag.tolist(), frame.tolist(), strict=True):
                found[place].append(self.names[each])
        return [tuple(each) for each in found]

    def take(self, rows: NDArray[np.intp]) -> Tags:
        """The same of these frames, in their order; tags that no longer occur are dropped."""
        names: list[str] = []
        bits = [np.empty((0, (len(rows) + 7) // 8), np.uint8)]
        for tag, frame in self._carried(rows):
            occurring, of = np.unique(tag, return_inverse=True)
            names += [self.names[each] for each in occurring.tolist()]
            bits.append(_packed(of, frame, len(occurring), len(rows)))
        return Tags(tuple(names), np.concatenate(bits), len(rows))

    def _carried(self, rows: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For some tags at a time: tag and place among the rows wherever a frame carries a tag, by tag and then by row.

        Most frames carry few of many tags, so that what is looked at is bytes in which a bit is set.
        """
        many = len(rows) > self.bits.shape[1]
        if many:
            # A frame may be asked for several times: the places of each, one frame after the other.
            order = np.argsort(rows, kind="stable")
            starts = np.searchsorted(rows[order], np.arange(self.n + 1))
        byte, bit = rows >> 3, (rows & 7).astype(np.uint8)
        step = max(1, _BLOCK // max(1, self.bits.shape[1] * 8, len(rows)))
        for first in range(0, len(self.names), step):
            bits = self.bits[first : first + step]
            if not many:
                tag, place = np.nonzero((bits[:, byte] >> bit) & np.uint8(1))
                yield tag + first, place
                continue
            tag, where = np.nonzero(bits)
            set_bits, at = np.nonzero(_BITS[bits[tag, where]])
            tag, frame = tag[set_bits], where[set_bits] * 8 + at
            inside = frame < self.n
            tag, frame = tag[inside], frame[inside]
            times = starts[frame + 1] - starts[frame]
            tag, frame = np.repeat(tag, times), np.repeat(frame, times)
            within = np.arange(len(tag)) - np.repeat(np.cumsum(times) - times, times)
            yield tag + first, order[starts[frame] + within]


_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
"""(256, 8) the bits of each byte, lowest first."""
_ONES = _BITS.sum(axis=1, dtype=np.uint8)


def _packed(tag: NDArray[np.int64], row: NDArray[np.int64], n_tags: int, n: int) -> NDArray[np.uint8]:
    """(n_tags, ceil(n / 8)) with a bit set for each pair of a tag and a row."""
    bits = np.zeros((n_tags, (n + 7) // 8), np.uint8)
    np.bitwise_or.at(bits, (tag, row >> 3), np.left_shift(1, row & 7).astype(np.uint8))
    return bits


def join_tags(parts: Sequence[Tags]) -> Tags:
    """The tags of all frames of all parts, one after the other."""
    names = sorted({name for part in parts for name in part.names})
    n = sum(part.n for part in parts)
    if not names:
        return Tags.none(n)
    place = {name: i for i, name in enumerate(names)}
    # A byte to spare, for what the last bits of a part are moved into.
    bits = np.zeros((len(names), (n + 7) // 8 + 1), np.uint8)
    start = 0
    for part in parts:
        rows = np.fromiter((place[name] for name in part.names), np.int64, len(part.names))
        byte, shift = divmod(start, 8)
        width = part.bits.shape[1]
        for first in range(0, len(rows), step := max(1, _BLOCK // max(1, width))):
            some, mine = part.bits[first : first + step].copy(), rows[first : first + step]
            some[:, -1:] &= 0xFF >> (-part.n % 8)  # What stands behind the last frame is nobody's.
            bits[mine, byte : byte + width] |= some << shift
            if shift:
                bits[mine, byte + 1 : byte + 1 + width] |= some >> (8 - shift)
        start += part.n
    return Tags(tuple(names), np.ascontiguousarray(bits[:, :-1]), n)


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """Columns of n frames, sorted by (video, frame_index, frame_id) in a segment; any order before."""

    frame_id: NDArray[np.int64]
    video: NDArray[np.int32]
    """Integer video number of the catalog."""
    frame_index: NDArray[np.int64]
    seconds: NDArray[np.float64]
    captured_at: NDArray[np.int64]
    """Microseconds since 1970, naive local time; `NO_TIME` where unknown."""
    shot: NDArray[np.int32]
    cell: NDArray[np.int32]
    row_crc: NDArray[np.uint32]
    """CRC-32 of the stored bytes of each row's vector."""
    tags: Tags

    def __len__(self) -> int:
        return len(self.frame_id)

    def take(self, rows: NDArray[np.intp]) -> FrameColumns:
        """The columns at these rows, in their order."""
        taken = {name: getattr(self, name)[rows] for name in PLAIN}
        return FrameColumns(**taken, tags=self.tags.take(rows))

    def with_values(self, **changed: NDArray[np.generic]) -> FrameColumns:
        """A copy with some columns replaced."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return FrameColumns(**{**values, **changed})


PLAIN = tuple(field.name for field in fields(FrameColumns) if field.name != "tags")
"""Columns that are one number per frame."""


def join(parts: Sequence[FrameColumns]) -> FrameColumns:
    """All rows of all parts, one after the other."""
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PLAIN}
    return FrameColumns(**joined, tags=join_tags([part.tags for part in parts]))


def write_columns(file: BinaryIO, columns: FrameColumns) -> None:
    """Write the columns as one Arrow IPC file of a single record batch."""
    arrays = {name: pa.array(getattr(columns, name)) for name in PLAIN}
    for name, bits in zip(columns.tags.names, columns.tags.bits, strict=True):
        arrays[_TAG + name] = pa.Array.from_buffers(pa.bool_(), len(columns), [None, pa.py_buffer(bits.tobytes())])
    batch = pa.record_batch(arrays)
    with pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def read_columns(path: Path) -> FrameColumns:
    """Map the columns of a segment.

    Raises
    ------
    CorruptData
        If the file is not an Arrow file with these columns.
    """
    try:
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        values = {name: batch.column(name).to_numpy() for name in PLAIN}
        carried = {
            name.removeprefix(_TAG): _bits(batch.column(name)) for name in batch.schema.names if name.startswith(_TAG)
        }
    except (pa.ArrowException, OSError, KeyError) as error:
        raise CorruptData(
            f"The frame columns in {path.parent.name} cannot be read ({error}); restore the file from a copy."
        ) from error
    n = batch.num_rows
    tags = Tags(tuple(carried), np.stack(list(carried.values())), n) if carried else Tags.none(n)
    return FrameColumns(**values, tags=tags)


def import_companions() -> None:
    """Have PyArrow import pandas now, where there is one, as it does when it first turns a column into an array."""
    pa.array([0]).to_numpy()


def _bits(array: pa.BooleanArray) -> NDArray[np.uint8]:
    """The packed bits of a boolean column."""
    return np.frombuffer(array.buffers()[1], np.uint8)[: (len(array) + 7) // 8]


@dataclass(frozen=True, slots=True)
class FrameTable:
    """A table of n frames from a user's file, row by row as written there."""

    video_ids: tuple[str, ...]
    """In order of first appearance."""
    titles: tuple[str, ...]
    """The first one given for each video; empty where there is none."""
    video: NDArray[np.int32]
    """(n,) place of each row's video among `video_ids`."""
    frame_index: NDArray[np.int64]
    seconds: NDArray[np.float64]
    captured_at: NDArray[np.int64] | None
    """Microseconds since 1970, naive local time; `NO_TIME` where unknown. None without such a column."""
    shot: NDArray[np.int32] | None
    tag_names: tuple[str, ...]
    tag: NDArray[np.int32]
    """Place among `tag_names` of every tag of every row, one row after the other; -1 for an empty one."""
    tag_start: NDArray[np.int64]
    """(n + 1,) where the tags of each row start."""
    unknown: tuple[str, ...]
    """Columns that mean nothing here and were left out."""

    def __len__(self) -> int:
        return len(self.video)

    def tags(self, rows: NDArray[np.intp]) -> tuple[tuple[str, ...], ...]:
        """The tags of these rows; empty if the table has none at all."""
        if not self.tag_names:
            return ()
        spans = zip(self.tag_start[rows].tolist(), self.tag_start[rows + 1].tolist(), strict=True)
        return tuple(tuple(self.tag_names[i] for i in self.tag[start:stop].tolist() if i >= 0) for start, stop in spans)


NEEDED = ("video_id", "frame_index", "seconds")
OPTIONAL = ("captured_at", "shot", "tags", "title")
_TEXTS = ("video_id", "tags", "title")
_YEARS = tuple(int(np.datetime64(year, "us").astype(np.int64)) for year in ("0100", "9999"))
"""Microseconds between which a recording time makes sense; there is room for `LONGEST` before it, where the video starts."""
LONGEST = bounds.MAX_SECONDS
TABLES = (".parquet", ".arrow", ".feather", ".csv")
"""Endings of the files that hold tables of frames."""
_BETWEEN_TAGS = "|"
"""Stands between the tags of a frame where they are one text, as in CSV; a tag may hold spaces."""


def check_table_name(path: Path) -> None:
    """Raise `ValueError` unless the name of a table of frames ends in one of `TABLES`."""
    if path.suffix.lower() not in TABLES:
        raise ValueError(f"{path} is not named like a table of frames; use a file that ends in {', '.join(TABLES)}.")


def read_table(path: Path, beside: tuple[Path, int] | None = None) -> FrameTable:
    """Read a table of frames: `NEEDED` columns and those of `OPTIONAL` that are there.

    What the file says of its own size is looked at first; it is then read part by part, texts as a list of different ones.

    Parameters
    ----------
    beside : a file of vectors and how many it holds: a table with more or fewer rows is refused, before it is read if it says so itself

    Raises
    ------
    ValueError
        In one sentence, if the file is not such a table or too large, a column is missing or of another type, or a value is.
    """
    check_table_name(path)
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    gathering = _Gathering(path, beside)
    read = {".parquet": _parquet_parts, ".csv": _csv_parts}.get(path.suffix.lower(), _arrow_parts)
    try:
        for part in read(path, gathering):
            gathering.add(part)
        return gathering.table()
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError, struct.error, csv.Error) as error:
        # What the error says may quote the file, which need not be a table at all.
        raise ValueError(f"{path} cannot be read as a table of frames{_where(error)}; save it anew.") from error


def _where(error: Exception) -> str:
    """The figures of an error of PyArrow's, without what it quotes."""
    found = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", str(error))
    if found is None:
        return ""
    row, wanted, got = found.groups()
    return f" (line {row or '?'} has {got} columns, and the first line {wanted})".replace("line ?", "a line")


_PART = 1 << 18
"""Rows that are worked on at a time."""
_PART_NBYTES = 64 << 20
"""Bytes of a Parquet file, uncompressed, that are worked on at a time."""
_VALUE_NBYTES = 16
"""Bytes that a value may take while it is read, however little of the file it takes."""
_ROW_NBYTES = 40
"""Bytes of a row of a `FrameTable`, without its tags."""


def _parquet_parts(path: Path, gathering: _Gathering) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        meta, schema = file.metadata, file.schema
        gathering.expect(meta.num_rows, file.schema_arrow.names[: bounds.MAX_COLUMNS + 1])
        bounds.check_count(f"parts in {path.name}", meta.num_row_groups, bounds.MAX_TABLE_PARTS)
        places = [schema.column(i).path for i in range(meta.num_columns)]
        leaves = [i for i, place in enumerate(places) if place.partition(".")[0] in gathering.known]
        texts = [places[i] for i in leaves if places[i].partition(".")[0] in _TEXTS]
        steps, total = [], 0
        for i in range(meta.num_row_groups):
            group = meta.row_group(i)
            chunks = [group.column(leaf) for leaf in leaves]
            nbytes = sum(max(0, chunk.total_uncompressed_size) for chunk in chunks)
            total += nbytes
            bounds.check_nbytes(f"the table in {path.name}", total, bounds.MAX_TABLE_NBYTES)
            nbytes = max(nbytes, _VALUE_NBYTES * sum(max(0, chunk.num_values) for chunk in chunks), 1)
            steps.append(max(1, min(_PART, group.num_rows * _PART_NBYTES // nbytes)))
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for i, step in enumerate(steps):
            for batch in file.iter_batches(step, row_groups=[i], columns=gathering.known, use_threads=False):
                yield pa.Table.from_batches([batch])


def _csv_parts(path: Path, gathering: _Gathering) -> Iterator[Any]:
    import pyarrow.csv as pc

    names, lines, quoted = _csv_lines(path)
    at_most = bool(gathering.beside and lines < gathering.beside[1])
    # A text in quotes may hold ends of lines, so that there may be fewer rows than lines and not more.
    gathering.expect(lines if at_most or not quoted else None, names)
    text = pa.dictionary(pa.int32(), pa.string())
    convert = pc.ConvertOptions(
        column_types=dict.fromkeys(_TEXTS, text),
        include_columns=gathering.known,
        null_values=[""],
        strings_can_be_null=True,
    )
    table = pc.read_csv(path, convert_options=convert, read_options=pc.ReadOptions(block_size=_CSV_BLOCK))
    gathering.expect(len(table), names)
    for batch in table.to_batches(max_chunksize=_PART) or [pa.RecordBatch.from_pylist([], table.schema)]:
        yield pa.Table.from_batches([batch])


_CSV_BLOCK = bounds.MAX_LINE_NBYTES


def _csv_lines(path: Path) -> tuple[list[str], int, bool]:
    """The names in the first line, how many lines follow that are not empty, and whether there are quotes."""
    bounds.check_nbytes(f"the table {path.name}", path.stat().st_size, bounds.MAX_TABLE_NBYTES)
    lines = length = 0
    inside = quoted = False
    with path.open("rb") as file:
        head = file.readline(bounds.MAX_LINE_NBYTES + 1)
        first = head.replace(b"\r", b"\n").partition(b"\n")[0]
        file.seek(len(first))
        while True:
            chunk = file.read(_CSV_BLOCK)
            quoted = quoted or b'"' in chunk
            values = np.frombuffer(chunk, np.uint8)
            ends = np.flatnonzero((values == 10) | (values == 13))
            longest = int(np.diff(ends, prepend=-length - 1).max()) - 1 if len(ends) else length + len(chunk)
            if longest > bounds.MAX_LINE_NBYTES or len(first) > bounds.MAX_LINE_NBYTES:
                raise bounds.TooLarge(
                    f"{path.name} has a line of more than {bounds.MAX_LINE_NBYTES:,} bytes; a table of frames has a short line for each."
                )
            if not chunk:
                break
            # A line ends where something stands before the end of the line.
            before = np.append(-1, ends[:-1]) if len(ends) else ends
            lines += int(np.count_nonzero(ends - before > 1))
            if len(ends):
                lines += bool(ends[0] == 0 and inside)
                inside, length = bool(ends[-1] < len(values) - 1), len(values) - 1 - int(ends[-1])
            else:
                inside, length = True, length + len(values)
    names = next(csv.reader([first.decode("utf-8-sig")]), [])
    return names, lines + inside, quoted or b'"' in first


def _arrow_parts(path: Path, gathering: _Gathering) -> Iterator[Any]:
    with pa.memory_map(str(path)) as source:
        n_batches = pa.ipc.open_file(source).num_record_batches
        if n_batches > bounds.MAX_TABLE_PARTS:
            bounds.check_count(f"parts in {path.name}", n_batches, bounds.MAX_TABLE_PARTS)
        # The batches one after the other, as a stream: the list at the end of the file may name one of them a million times.
        source.seek(_ARROW_HEAD)
        names = pa.ipc.open_stream(source).schema.names
        source.seek(_ARROW_HEAD)
        n_rows, seen, nbytes = 0, 0, 0
        for message in pa.ipc.MessageReader.open_stream(source):
            rows, unpacked = _message_size(message)
            n_rows += rows if message.type == "record batch" else 0
            seen += message.type == "record batch"
            nbytes += unpacked
            bounds.check_nbytes(f"the table in {path.name}", nbytes, bounds.MAX_TABLE_NBYTES)
        gathering.expect(n_rows, names)
        if seen != n_batches:
            raise pa.ArrowInvalid("the list of batches is not that of the batches there are")
        source.seek(_ARROW_HEAD)
        known = [i for i, name in enumerate(names) if name in gathering.known]
        stream = pa.ipc.open_stream(source, options=pa.ipc.IpcReadOptions(included_fields=known))
        yield pa.Table.from_batches([], stream.schema)
        for batch in stream:
            batch.validate(full=True)  # Offsets in the file are believed otherwise, wherever they lead.
            for start in range(0, len(batch), _PART):
                yield pa.Table.from_batches([batch.slice(start, _PART)])


_ARROW_HEAD = 8
"""Bytes of an Arrow file ahead of its messages."""


def _message_size(message: Any) -> tuple[int, int]:
    """The rows that an Arrow message says it has, and the bytes that its buffers unpack to, both before they are unpacked.

    Its metadata is a FlatBuffer, which PyArrow has checked: tables with offsets of their fields, numbered as in Arrow's `Message.fbs`.
    """
    if message.body is None:
        return 0, 0
    told, body = message.metadata.to_pybytes(), message.body
    header = _field(told, struct.unpack_from("<I", told)[0], 2)
    batch = header + struct.unpack_from("<I", told, header)[0]
    if message.type == "dictionary":
        data = _field(told, batch, 1)
        batch = data + struct.unpack_from("<I", told, data)[0]
    length = _field(told, batch, 0)
    rows = struct.unpack_from("<q", told, length)[0] if length else 0
    if not _field(told, batch, 3):
        return rows, 0  # Not compressed: what is there is mapped.
    buffers = _field(told, batch, 2)
    start = buffers + struct.unpack_from("<I", told, buffers)[0]
    unpacked = 0
    for i in range(struct.unpack_from("<I", told, start)[0]):
        offset, nbytes = struct.unpack_from("<qq", told, start + 4 + 16 * i)
        if nbytes >= 8:
            unpacked += max(0, struct.unpack("<q", body.slice(offset, 8).to_pybytes())[0])
    return rows, unpacked


def _field(told: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffer table stands; 0 where it is left out."""
    vtable = table - struct.unpack_from("<i", told, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", told, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", told, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


class _Gathering:
    """Takes in a table part by part."""

    def __init__(self, path: Path, beside: tuple[Path, int] | None) -> None:
        self.path = path
        self.beside = beside
        self.known: list[str] = []
        """Columns that mean something, once the names were looked at."""
        self._unknown: tuple[str, ...] = ()
        self._n = self._nbytes = 0
        self._videos: dict[str, int] = {}
        self._titles: dict[int, str] = {}
        self._tags: dict[str, int] = {}
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _GATHERED}

    def expect(self, n_rows: int | None, names: Sequence[str]) -> None:
        """Look at the columns that a file has, and at the rows it says it has, before it is read."""
        bounds.check_count(f"columns in {self.path.name}", len(names), bounds.MAX_COLUMNS)
        _check_names(self.path, names)
        self.known = [name for name in names if name in NEEDED + OPTIONAL]
        # Ids are given anew, so the column that an export writes is passed over without a word.
        self._unknown = tuple(name for name in names if name not in {*self.known, "frame_id"})
        if n_rows is not None:
            self._check_beside(n_rows)
            self._check_size(n_rows)

    def _check_beside(self, n_rows: int) -> None:
        if self.beside is not None and n_rows != self.beside[1]:
            vectors, n = self.beside
            raise ValueError(
                f"{vectors} has {n:,} rows and {self.path} has {n_rows:,}; they must go together row by row."
            )

    def _check_size(self, n_rows: int) -> None:
        bounds.check_count(f"rows in {self.path.name}", n_rows, bounds.MAX_ROWS)
        bounds.check_nbytes(f"the table in {self.path.name}", n_rows * _ROW_NBYTES, bounds.MAX_TABLE_NBYTES)

    def add(self, part: Any) -> None:
        """Take in some more rows."""
        path, first = self.path, self._n
        if self.beside is not None and first + len(part) > self.beside[1]:  # More than the file said.
            self._check_beside(first + len(part))
        self._check_size(first + len(part))
        video = self._video_numbers(part, first)
        frame_index = _numbers(path, part, "frame_index", pa.int64(), first)
        seconds = _numbers(path, part, "seconds", pa.float64(), first)
        _refuse_row(path, "frame_index", "is negative", frame_index < 0, first)
        _refuse_row(path, "seconds", "is negative or not a number", ~(np.isfinite(seconds) & (seconds >= 0)), first)
        _refuse_row(path, "seconds", "is more than thirty years", seconds > LONGEST, first)
        captured_at = _wall_clock(path, part, first)
        shot = _numbers(path, part, "shot", pa.int32(), first, absent=-1) if "shot" in part.column_names else None
        tag, n_tags = self._tag_numbers(part, first)
        if "title" in part.column_names:
            self._take_titles(part.column("title"), video)
        columns = (video, frame_index, seconds, captured_at, shot, tag, n_tags)
        for name, column in zip(_GATHERED, columns, strict=True):
            if column is not None:
                self._parts[name].append(column)
                self._nbytes += column.nbytes
        self._n += len(part)
        bounds.check_nbytes(f"the table in {path.name}", self._nbytes, bounds.MAX_TABLE_NBYTES)

    def _video_numbers(self, part: Any, first: int) -> NDArray[np.int32]:
        codes, column = _coded(self.path, "video_id", part.column("video_id"))
        _refuse_row(self.path, "video_id", "is missing", codes < 0, first)
        names = [(name or "").strip() for name in column.to_pylist()]
        if "" in names:
            empty = np.array([not name for name in names], np.bool_)
            _refuse_row(self.path, "video_id", "is empty", empty[codes], first)
        numbers = [self._videos.setdefault(name, len(self._videos)) for name in names]
        bounds.check_count(f"videos in {self.path.name}", len(self._videos), bounds.MAX_VIDEOS)
        return np.array(numbers, np.int32)[codes] if numbers else np.zeros(0, np.int32)

    def _take_titles(self, column: Any, video: NDArray[np.int32]) -> None:
        """The first one given for each video."""
        codes, titles = _coded(self.path, "title", column, may_lack=True)
        given = np.flatnonzero(codes >= 0)
        numbers, first = np.unique(video[given], return_index=True)
        new = [i for i, number in enumerate(numbers.tolist()) if number not in self._titles]
        texts = titles.take(pa.array(codes[given[first[new]]], pa.int64())).to_pylist() if new else []
        for i, text in zip(new, texts, strict=True):
            self._titles[int(numbers[i])] = bounds.one_line(text or "")

    def _tag_numbers(self, part: Any, first: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Numbers of the tags of all rows, one row after the other, -1 for an empty one; and how many each row has."""
        import pyarrow.compute as pc

        if "tags" not in part.column_names or pa.types.is_null(part.column("tags").type):
            return np.zeros(0, np.int32), np.zeros(len(part), np.int64)
        column = part.column("tags")
        if _is_text(column.type):
            codes, texts = _coded(self.path, "tags", column)
            listed = [self._split(text or "") for text in texts.to_pylist()]
            lengths_of = np.array([*map(len, listed), 0], np.int64)
            lengths = lengths_of[codes]
            every = np.concatenate([np.zeros(0, np.int32), *(np.array(each, np.int32) for each in listed)])
            starts = (np.cumsum(lengths_of) - lengths_of)[codes]
            self._check_lengths(lengths, first)
            within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            return every[np.repeat(starts, lengths) + within], lengths
        is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        if not is_list or not (_is_text(column.type.value_type) or pa.types.is_null(column.type.value_type)):
            raise _wrong_type(
                self.path, "tags", column, f"a list of texts, or one text with {_BETWEEN_TAGS!r} between the tags"
            )
        lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
        self._check_lengths(lengths, first)
        codes, texts = _coded(self.path, "tags", pc.list_flatten(column), may_lack=True)
        bounds.check_count(f"different tags in {self.path.name}", len(texts), bounds.MAX_TAGS)
        numbers = np.array([*(self._tag(text or "") for text in texts.to_pylist()), -1], np.int32)
        return numbers[codes], lengths

    def _split(self, text: str) -> list[int]:
        """Numbers of the tags in a text that holds them all."""
        bounds.check_count(f"tags of a frame in {self.path.name}", text.count(_BETWEEN_TAGS), bounds.MAX_TAGS_PER_FRAME)
        return [number for each in text.split(_BETWEEN_TAGS) if (number := self._tag(each)) >= 0]

    def _tag(self, text: str) -> int:
        name = text.strip()
        if not name:
            return -1
        if name not in self._tags:
            bounds.check_tag(name)
            bounds.check_count(f"different tags in {self.path.name}", len(self._tags) + 1, bounds.MAX_TAGS)
        return self._tags.setdefault(name, len(self._tags))

    def _check_lengths(self, lengths: NDArray[np.int64], first: int) -> None:
        _refuse_row(
            self.path,
            "tags",
            f"are more than {bounds.MAX_TAGS_PER_FRAME:,}",
            lengths > bounds.MAX_TAGS_PER_FRAME,
            first,
        )

    def table(self) -> FrameTable:
        """All that was taken in."""
        self._check_beside(self._n)

        def whole(name: str, kind: type[np.generic]) -> NDArray[Any]:
            parts = self._parts.pop(name)
            return np.concatenate([np.zeros(0, kind), *parts], dtype=kind)

        captured_at = whole("captured_at", np.int64) if self._parts["captured_at"] else None
        shot = whole("shot", np.int32) if self._parts["shot"] else None
        return FrameTable(
            video_ids=tuple(self._videos),
            titles=tuple(self._titles.get(number, "") for number in range(len(self._videos))),
            video=whole("video", np.int32),
            frame_index=whole("frame_index", np.int64),
            seconds=whole("seconds", np.float64),
            captured_at=captured_at,
            shot=shot,
            tag_names=tuple(self._tags),
            tag=whole("tag", np.int32),
            tag_start=np.concatenate([[0], np.cumsum(whole("n_tags", np.int64))]),
            unknown=self._unknown,
        )


_GATHERED = ("video", "frame_index", "seconds", "captured_at", "shot", "tag", "n_tags")


def _check_names(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; a table of frames needs {', '.join(NEEDED)}, and may have {', '.join(OPTIONAL)}."
        )
    twice = [name for name in NEEDED + OPTIONAL if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]} more than once.")


def _refuse_row(path: Path, name: str, what: str, bad: NDArray[np.bool_], first: int) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise ValueError(f"Row {first + rows[0]} of {path}, counted from 0: its {name} {what}.")


def _flags(column: Any, test: Any) -> NDArray[np.bool_]:
    """(n,) what a test of pyarrow.compute says of each value."""
    import pyarrow.compute as pc

    flags: NDArray[np.bool_] = np.asarray(test(pc).to_numpy(), np.bool_) if len(column) else np.zeros(0, np.bool_)
    return flags


def _nulls(column: Any) -> NDArray[np.bool_]:
    return _flags(column, lambda pc: pc.is_null(column))


def _wrong_type(path: Path, name: str, column: Any, wanted: str) -> ValueError:
    return ValueError(f"The column {name} of {path} is of type {column.type}; give {wanted}.")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _coded(path: Path, name: str, column: Any, *, may_lack: bool = False) -> tuple[NDArray[np.int64], Any]:
    """A column of texts as (n,) places among the different ones, -1 where it is null, and these in order of first appearance."""
    if pa.types.is_null(column.type) and (may_lack or not len(column)):
        return np.full(len(column), -1, np.int64), pa.array([], pa.string())
    if not _is_text(column.type):
        raise _wrong_type(path, name, column, "text")
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks else pa.array([], column.type)
    if not pa.types.is_dictionary(values.type):
        values = _whole_texts(path, name, values).dictionary_encode()
    place = values.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False).copy()
    n, given = len(values.dictionary), np.flatnonzero(place >= 0)
    if n > 4 * len(place):  # Most of them are of other parts, so that the few that occur are looked for instead.
        known, place[given] = np.unique(place[given], return_inverse=True)
    else:
        known = np.arange(n)
    first = np.full(len(known), -1, np.int64)
    first[place[given][::-1]] = given[::-1]  # Of those that occur again, the first is written last.
    order = np.flatnonzero(first >= 0)
    order = order[np.argsort(first[order])]
    rank = np.full(len(known) + 1, -1, np.int64)  # The last one is that of a null.
    rank[order] = np.arange(len(order))
    return rank[place], _whole_texts(path, name, values.dictionary).take(pa.array(known[order], pa.int64()))


def _whole_texts(path: Path, name: str, values: Any) -> Any:
    """Texts that are views of some bytes, which may all be the same ones, as texts of their own."""
    if not pa.types.is_string_view(values.type):
        return values
    if len(values):
        sizes = np.frombuffer(values.buffers()[1], np.int32).reshape(-1, 4)[:, 0]
        nbytes = int(sizes[values.offset : values.offset + len(values)].sum(dtype=np.int64))
        bounds.check_nbytes(f"the column {name} of {path.name}", nbytes, bounds.MAX_TABLE_NBYTES)
    return values.cast(pa.large_string())


def _numbers(path: Path, table: Any, name: str, kind: Any, first: int, *, absent: int | None = None) -> NDArray[Any]:
    column = table.column(name)
    whole = pa.types.is_integer(kind)
    if absent is not None and pa.types.is_null(column.type):
        column = column.cast(kind)
    fits = pa.types.is_integer(column.type) or (not whole and pa.types.is_floating(column.type))
    if not fits and len(table):
        raise _wrong_type(path, name, column, "whole numbers" if whole else "numbers")
    if absent is None:
        _refuse_row(path, name, "is missing", _nulls(column), first)
    else:
        column = column.fill_null(absent)
    try:
        values: NDArray[Any] = column.cast(kind).to_numpy()
    except pa.ArrowInvalid as error:  # It quotes the value.
        raise ValueError(f"The column {name} of {path} holds a number that is too large.") from error
    return values


def _wall_clock(path: Path, table: Any, first: int) -> NDArray[np.int64] | None:
    if "captured_at" not in table.column_names or pa.types.is_null(table.column("captured_at").type):
        return None
    column = table.column("captured_at")
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        raise _wrong_type(path, "captured_at", column, "timestamps such as 2024-05-01 18:30:00")
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        raise ValueError(
            f"The column captured_at of {path} has a time zone ({column.type.tz}); frames are filed by the local time of the "
            "recording, so convert it to local time and drop the zone."
        )
    values: NDArray[np.int64] = (
        column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).fill_null(NO_TIME).to_numpy()
    )
    far = (values != NO_TIME) & ((values < _YEARS[0]) | (values >= _YEARS[1]))
    _refuse_row(path, "captured_at", "lies outside the years 100 to 9998", far, first)
    return values


class TableWriter:
    """Writes a table of frames part by part, in the format that its name stands for."""

    _SCHEMA = pa.schema(
        {
            "frame_id": pa.int64(),
            "video_id": pa.string(),
            "frame_index": pa.int64(),
            "seconds": pa.float64(),
            "captured_at": pa.timestamp("us"),
            "shot": pa.int32(),
            "tags": pa.list_(pa.string()),
            "title": pa.string(),
        }
    )

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        """Take an open file and one of `TABLES`."""
        self._joined = suffix.lower() == ".csv"
        self._schema = self._SCHEMA
        if self._joined:
            import pyarrow.csv as pc

            at = self._schema.get_field_index("tags")
            self._schema = self._schema.set(at, pa.field("tags", pa.string()))
            self._writer = pc.CSVWriter(file, self._schema)
        elif suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            self._writer = pq.ParquetWriter(file, self._schema)
        else:
            self._writer = pa.ipc.new_file(file, self._schema)

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, columns: FrameColumns, video_ids: Sequence[str], titles: Sequence[str]) -> None:
        """Append frames.

        Parameters
        ----------
        columns : of n frames
        video_ids, titles : of the video of each of these frames
        """
        tags: list[Any] = columns.tags.at(np.arange(len(columns)))
        values = {
            **{name: getattr(columns, name) for name in ("frame_id", "frame_index", "seconds", "shot")},
            "video_id": video_ids,
            "captured_at": columns.captured_at.view("datetime64[us]"),
            "tags": [_BETWEEN_TAGS.join(each) for each in tags] if self._joined else tags,
            "title": titles,
        }
        arrays = [pa.array(values[field.name], field.type) for field in self._schema]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
