"""Frame columns of a segment, and tables of frames: the only module that knows PyArrow.

On disk the columns are one Arrow IPC file, a column per field and a bit-packed boolean column per tag that occurs, so any
Arrow reader understands them. In memory they are NumPy arrays, mapped from the file where the layout allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.durable import shortages
from engine.errors import CorruptData

NO_TIME = np.iinfo(np.int64).min
"""Stands for "no wall-clock time" in `captured_at`, like NumPy's NaT."""

_TAG = "tag:"
_ALONE = pa.ipc.IpcReadOptions(use_threads=False)
"""Read without threads of PyArrow's own, which the system may refuse: there is nothing to unpack."""
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
        mask = np.zeros((len(names), len(tags)), np.bool_)
        for row, each in enumerate(tags):
            for name in each:
                mask[place[name], row] = True
        return cls(tuple(names), np.packbits(mask, axis=1, bitorder="little"), len(tags))

    @classmethod
    def none(cls, n: int) -> Tags:
        """No tags on n frames."""
        return cls((), np.empty((0, (n + 7) // 8), np.uint8), n)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """(n,) the frames that carry a tag; none where it does not occur."""
        if name not in self.names:
            return np.zeros(self.n, np.bool_)
        row = self.bits[self.names.index(name)]
        return np.unpackbits(row, count=self.n, bitorder="little").view(np.bool_)

    def counts(self) -> dict[str, int]:
        """Frames per tag that occurs."""
        return {name: int(np.unpackbits(row).sum()) for name, row in zip(self.names, self.bits, strict=True)}

    def at(self, rows: NDArray[np.intp]) -> list[tuple[str, ...]]:
        """The tags of these frames, sorted."""
        found: list[list[str]] = [[] for _ in range(len(rows))]
        for first, carried in self._blocks(rows):
            tags, frames = np.divmod(np.flatnonzero(carried), len(rows))
            for tag, frame in zip(tags.tolist(), frames.tolist(), strict=True):
                found[frame].append(self.names[first + tag])
        return [tuple(each) for each in found]

    def take(self, rows: NDArray[np.intp]) -> Tags:
        """The same of these frames, in their order; tags that no longer occur are dropped."""
        names: list[str] = []
        bits = [np.empty((0, (len(rows) + 7) // 8), np.uint8)]
        for first, carried in self._blocks(rows):
            occurring = np.flatnonzero(carried.any(axis=1))
            names += [self.names[first + tag] for tag in occurring.tolist()]
            bits.append(np.packbits(carried[occurring], axis=1, bitorder="little"))
        return Tags(tuple(names), np.concatenate(bits), len(rows))

    def _blocks(self, rows: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Some tags at a time: the first one's place, and (tags, rows) 1 where a frame carries a tag."""
        byte, bit = rows >> 3, (rows & 7).astype(np.uint8)
        step = max(1, _BLOCK // max(1, len(rows)))
        for first in range(0, len(self.names), step):
            carried: NDArray[np.uint8] = (self.bits[first : first + step, byte] >> bit) & np.uint8(1)
            yield first, carried


def join_tags(parts: Sequence[Tags]) -> Tags:
    """The tags of all frames of all parts, one after the other."""
    names = sorted({name for part in parts for name in part.names})
    n = sum(part.n for part in parts)
    if not names:
        return Tags.none(n)
    rows = [np.packbits(np.concatenate([part.mask(name) for part in parts]), bitorder="little") for name in names]
    return Tags(tuple(names), np.stack(rows), n)


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
        with shortages(f"reading {path.name} in {path.parent.name}"), pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source, options=_ALONE).get_batch(0)
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
_YEARS = tuple(int(np.datetime64(year, "us").astype(np.int64)) for year in ("0100", "9999"))
"""Microseconds between which a recording time makes sense; there is room for `LONGEST` before it, where the video starts."""
LONGEST = 1e9
"""Seconds that a frame may lie into its video, some thirty years."""
TABLES = (".parquet", ".arrow", ".feather", ".csv")
"""Endings of the files that hold tables of frames."""
_BETWEEN_TAGS = "|"
"""Stands between the tags of a frame where they are one text, as in CSV; a tag may hold spaces."""


def check_table_name(path: Path) -> None:
    """Raise `ValueError` unless the name of a table of frames ends in one of `TABLES`."""
    if path.suffix.lower() not in TABLES:
        raise ValueError(f"{path} is not named like a table of frames; use a file that ends in {', '.join(TABLES)}.")


def read_table(path: Path) -> FrameTable:
    """Read a table of frames: `NEEDED` columns and those of `OPTIONAL` that are there.

    Raises
    ------
    ValueError
        In one sentence, if the file is not such a table, a column is missing or of another type, or a value is.
    """
    check_table_name(path)
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        with shortages(f"reading {path.name}"):
            table, unknown = _load_table(path)
        video_id = _texts(path, "video_id", table.column("video_id"))
        _refuse_row(path, "video_id", "is empty", _flags(video_id, lambda pc: pc.equal(video_id, "")))
        encoded = video_id.combine_chunks().dictionary_encode()
        names = tuple(encoded.dictionary.to_pylist())
        video = encoded.indices.to_numpy().astype(np.int32)
        frame_index = _numbers(path, table, "frame_index", pa.int64())
        seconds = _numbers(path, table, "seconds", pa.float64())
        _refuse_row(path, "frame_index", "is negative", frame_index < 0)
        _refuse_row(path, "seconds", "is negative or not a number", ~(np.isfinite(seconds) & (seconds >= 0)))
        _refuse_row(path, "seconds", "is more than thirty years", seconds > LONGEST)
        captured_at = _wall_clock(path, table)
        shot = _numbers(path, table, "shot", pa.int32(), absent=-1) if "shot" in table.column_names else None
        tag_names, tag, tag_start = _tag_lists(path, table)
        titles = _titles(path, table, video, len(names))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a table of frames ({_one_line(error)}).") from error
    return FrameTable(
        names, titles, video, frame_index, seconds, captured_at, shot, tag_names, tag, tag_start, tuple(unknown)
    )


def _load_table(path: Path) -> tuple[Any, list[str]]:
    """The columns that mean something, and the names of the others."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_names(path, names)
            table = file.read(columns=[name for name in names if name in NEEDED + OPTIONAL])
    elif suffix == ".csv":
        import pyarrow.csv as pc

        texts = {name: pa.string() for name in ("video_id", "tags", "title")}
        convert = pc.ConvertOptions(column_types=texts, null_values=[""], strings_can_be_null=True)
        table = pc.read_csv(path, convert_options=convert)
        names = table.column_names
    else:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            table.validate(full=True)  # Offsets in the file are believed otherwise, wherever they lead.
        names = table.column_names
    _check_names(path, names)
    known = [name for name in names if name in NEEDED + OPTIONAL]
    # Ids are given anew, so the column that an export writes is passed over without a word.
    return table.select(known), [name for name in names if name not in {*known, "frame_id"}]


def _check_names(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; a table of frames needs {', '.join(NEEDED)}, and may have {', '.join(OPTIONAL)}."
        )
    twice = [name for name in NEEDED + OPTIONAL if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]} more than once.")


def _refuse_row(path: Path, name: str, what: str, bad: NDArray[np.bool_]) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise ValueError(f"Row {rows[0]} of {path}, counted from 0: its {name} {what}.")


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


def _texts(path: Path, name: str, column: Any, *, may_lack: bool = False) -> Any:
    """A column as large strings."""
    if not _is_text(column.type) and not (may_lack and pa.types.is_null(column.type)):
        raise _wrong_type(path, name, column, "text")
    if not may_lack:
        _refuse_row(path, name, "is missing", _nulls(column))
    return column.cast(pa.large_string())


def _numbers(path: Path, table: Any, name: str, kind: Any, *, absent: int | None = None) -> NDArray[Any]:
    column = table.column(name)
    whole = pa.types.is_integer(kind)
    if absent is not None and pa.types.is_null(column.type):
        column = column.cast(kind)
    fits = pa.types.is_integer(column.type) or (not whole and pa.types.is_floating(column.type))
    if not fits and len(table):
        raise _wrong_type(path, name, column, "whole numbers" if whole else "numbers")
    if absent is None:
        _refuse_row(path, name, "is missing", _nulls(column))
    else:
        column = column.fill_null(absent)
    values: NDArray[Any] = column.cast(kind).to_numpy()
    return values


def _wall_clock(path: Path, table: Any) -> NDArray[np.int64] | None:
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
    _refuse_row(path, "captured_at", "lies outside the years 100 to 9998", far)
    return values


def _tag_lists(path: Path, table: Any) -> tuple[tuple[str, ...], NDArray[np.int32], NDArray[np.int64]]:
    import pyarrow.compute as pc

    none = (), np.zeros(0, np.int32), np.zeros(len(table) + 1, np.int64)
    if "tags" not in table.column_names or pa.types.is_null(table.column("tags").type):
        return none
    column = table.column("tags")
    if _is_text(column.type):
        column = pc.split_pattern(column.cast(pa.large_string()), _BETWEEN_TAGS)
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if not is_list or not (_is_text(column.type.value_type) or pa.types.is_null(column.type.value_type)):
        raise _wrong_type(path, "tags", column, f"a list of texts, or one text with {_BETWEEN_TAGS!r} between the tags")
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    flat = pc.list_flatten(column).cast(pa.large_string())
    encoded = pc.utf8_trim_whitespace(flat).combine_chunks().dictionary_encode()
    names = tuple(encoded.dictionary.to_pylist())
    if not names:
        return none
    tag = encoded.indices.fill_null(-1).to_numpy().astype(np.int32)
    if "" in names:
        tag[tag == names.index("")] = -1
    return names, tag, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _titles(path: Path, table: Any, video: NDArray[np.int32], n_videos: int) -> tuple[str, ...]:
    if "title" not in table.column_names:
        return ("",) * n_videos
    column = _texts(path, "title", table.column("title"), may_lack=True)
    given = np.flatnonzero(~_nulls(column))
    numbers, first = np.unique(video[given], return_index=True)
    titles = [""] * n_videos
    for number, text in zip(numbers.tolist(), column.take(pa.array(given[first])).to_pylist(), strict=True):
        titles[number] = text
    return tuple(titles)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


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
