"""Tables of frames from users' files: looked at first, then read part by part."""

from __future__ import annotations

import csv
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.frames.table_parts import CSV_ENDINGS, FACT, arrow_parts, csv_parts, parquet_parts
from engine.frames.tag_texts import BETWEEN_TAGS, tags_from_text
from engine.system import bounds
from engine.types import canonical_name

NO_TIME = np.iinfo(np.int64).min
"""Stands for "no wall-clock time" in `captured_at`, like NumPy's NaT."""


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
    tag_given: NDArray[np.bool_]
    """(n,) whether there is a value for the tags of a row, be it an empty list."""
    facts: tuple[Mapping[str, str], ...]
    """What else is said of each video: the first text of each column `about:NAME`, by name."""
    columns: frozenset[str]
    """The columns that it has; numbers of columns that it lacks are 0."""
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

    def tag_pairs(self, rows: NDArray[np.intp]) -> tuple[tuple[str, ...], NDArray[np.int32], NDArray[np.int64]]:
        """The names of tags, and for each tag of these rows its place among the names and that of its row among `rows`."""
        lengths = self.tag_start[rows + 1] - self.tag_start[rows]
        place = np.repeat(np.arange(len(rows)), lengths)
        within = np.arange(len(place)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        tag = self.tag[self.tag_start[rows][place] + within]
        return self.tag_names, tag[tag >= 0], place[tag >= 0]


NEEDED = ("video_id", "frame_index", "seconds")
"""Columns of a table that goes with vectors."""
OPTIONAL = ("captured_at", "shot", "tags", "title")
_KNOWN = NEEDED + OPTIONAL
_YEARS = tuple(int(np.datetime64(year, "us").astype(np.int64)) for year in ("0100", "9999"))
"""Microseconds between which a recording time makes sense; there is room for `bounds.MAX_SECONDS` before it, where the video starts."""
EXPORTED = (".parquet", ".arrow", ".feather", ".csv")
"""Endings of the tables of frames that are written."""
TABLES = (*EXPORTED, *(ending for ending in CSV_ENDINGS if ending not in EXPORTED))
"""Endings of the tables of frames that are read."""


def table_ending(path: Path, endings: Sequence[str] = TABLES) -> str:
    """How the name of a table of frames ends, in small letters.

    Raises
    ------
    ValueError
        If that is none of these endings.
    """
    name = path.name.lower()
    ending = max((ending for ending in endings if name.endswith(ending)), key=len, default=None)
    if ending is None:
        raise ValueError(f"{path} is not named like a table of frames; use a file that ends in {', '.join(endings)}.")
    return ending


def read_table(path: Path, beside: tuple[Path, int] | None = None, needed: Sequence[str] = NEEDED) -> FrameTable:
    """Read a table of frames: the `needed` columns, and the other ones of `NEEDED` and `OPTIONAL` that are there.

    What the file says of its own size is looked at first; it is then read part by part, texts as a list of different ones.

    Parameters
    ----------
    beside : a file of vectors and how many it holds: a table with more or fewer rows is refused, before it is read if it says so itself
    needed : columns that it must have

    Raises
    ------
    ValueError
        In one sentence, if the file is not such a table or too large, a column is missing or of another type, or a value is.
    """
    ending = table_ending(path)
    bounds.check_is_file(path)
    _check_beginning(path, ending)
    gathering = _TableGatherer(path, beside, needed)
    read = csv_parts if ending in CSV_ENDINGS else parquet_parts if ending == ".parquet" else arrow_parts
    try:
        for part in read(path, gathering):
            gathering.add(part)
        return gathering.table()
    except MemoryError:
        raise
    except (
        pa.ArrowException,
        OSError,
        EOFError,
        UnicodeDecodeError,
        KeyError,
        struct.error,
        csv.Error,
        zlib.error,
    ) as error:
        # What the error says may quote the file, which need not be a table at all.
        raise ValueError(f"{path} cannot be read as a table of frames{_where(error)}; save it anew.") from error


def _check_beginning(path: Path, ending: str) -> None:
    """Raise `ValueError` for a file of one kind that is named like one of another."""
    with path.open("rb") as file:
        start = file.read(6)
    kinds = {b"PAR1": (".parquet",), b"ARROW1": (".arrow", ".feather"), b"PK\3\4": ()}
    for begin, endings in kinds.items():
        if start.startswith(begin) and ending not in endings:
            what = (
                f"is a {endings[0][1:].capitalize()} file; name it {endings[0]}"
                if endings
                else "is a ZIP file or a spreadsheet; save it as CSV or Parquet"
            )
            raise ValueError(f"{path} {what}.")


def _where(error: Exception) -> str:
    """Line and number of columns from an error of PyArrow, without the text that it quotes."""
    match = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", str(error))
    if match is None:
        if isinstance(error, (EOFError, zlib.error)) or "gzip" in str(error):
            return " (it is not packed whole)"
        return " (it is not text in UTF-8)" if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error) else ""
    row, wanted, got = match.groups()
    return f" (line {row or '?'} has {got} columns, and the first line {wanted})".replace("line ?", "a line")


_ROW_NBYTES = 40
"""Bytes of a row of a `FrameTable`, without its tags."""


class _TableGatherer:
    """Gathers a table part by part, checking every part."""

    def __init__(self, path: Path, beside: tuple[Path, int] | None, needed: Sequence[str]) -> None:
        self.path = path
        self.beside = beside
        self._needed = needed
        self.known: list[str] = []
        """Columns that mean something, once the names were looked at."""
        self._unknown: tuple[str, ...] = ()
        self._n = self._nbytes = 0
        self._videos: dict[str, int] = {}
        self._titles: dict[int, str] = {}
        self._facts: dict[str, dict[int, str]] = {}
        self._tags: dict[str, int] = {}
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _GATHERED}

    def expect(self, n_rows: int | None, names: Sequence[str]) -> None:
        """Look at the columns that a file has, and at the rows it says it has, before it is read."""
        bounds.check_count(f"columns in {self.path.name}", len(names), bounds.MAX_COLUMNS)
        _check_names(self.path, names, self._needed)
        self.known = [name for name in names if name in _KNOWN or name.startswith(FACT)]
        bounds.check_count(f"columns {FACT}... in {self.path.name}", len(self.known) - len(_KNOWN), bounds.MAX_FACTS)
        # Ids are given anew, so the column that an export writes is passed over without a word, and so is the index of pandas.
        passed_over = {*self.known, "frame_id", "", "Unnamed: 0", "__index_level_0__"}
        self._unknown = tuple(name for name in names if name not in passed_over)
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
        video, names = self._video_numbers(part, first), part.column_names

        def numbers(name: str, kind: Any) -> NDArray[Any]:
            return (
                _numbers(path, part, name, kind, first)
                if name in names
                else np.zeros(len(part), kind.to_pandas_dtype())
            )

        frame_index, seconds = numbers("frame_index", pa.int64()), numbers("seconds", pa.float64())
        _refuse_row(path, "frame_index", "is negative", frame_index < 0, first)
        _refuse_row(path, "seconds", "is negative or not a number", ~(np.isfinite(seconds) & (seconds >= 0)), first)
        _refuse_row(path, "seconds", "is more than thirty years", seconds > bounds.MAX_SECONDS, first)
        captured_at = _wall_clock(path, part, first)
        shot = _numbers(path, part, "shot", pa.int32(), first, absent=-1) if "shot" in names else None
        tag, n_tags = self._tag_numbers(part, first)
        tag_given = ~_nulls(part.column("tags")) if "tags" in names else np.zeros(len(part), np.bool_)
        if "title" in names:
            self._take_texts("title", part.column("title"), video, self._titles)
        for name in names:
            if name.startswith(FACT):
                column = part.column(name)
                if (
                    pa.types.is_integer(column.type)
                    or pa.types.is_floating(column.type)
                    or pa.types.is_boolean(column.type)
                ):
                    part = part.set_column(names.index(name), name, column.cast(pa.string()))
                self._take_texts(name, part.column(name), video, self._facts.setdefault(name[len(FACT) :], {}))
        columns = (video, frame_index, seconds, captured_at, shot, tag, n_tags, tag_given)
        for name, column in zip(_GATHERED, columns, strict=True):
            if column is not None:
                self._parts[name].append(column)
                self._nbytes += column.nbytes
        self._n += len(part)
        bounds.check_nbytes(f"the table in {path.name}", self._nbytes, bounds.MAX_TABLE_NBYTES)

    def _video_numbers(self, part: Any, first: int) -> NDArray[np.int32]:
        codes, column = _coded(self.path, "video_id", part.column("video_id"))
        _refuse_row(self.path, "video_id", "is missing", codes < 0, first)
        names = [canonical_name(name or "") for name in column.to_pylist()]
        if "" in names:
            empty = np.array([not name for name in names], np.bool_)
            _refuse_row(self.path, "video_id", "is empty", empty[codes], first)
        numbers = [self._videos.setdefault(name, len(self._videos)) for name in names]
        bounds.check_count(f"videos in {self.path.name}", len(self._videos), bounds.MAX_VIDEOS)
        return np.array(numbers, np.int32)[codes] if numbers else np.zeros(0, np.int32)

    def _take_texts(self, name: str, column: Any, video: NDArray[np.int32], kept: dict[int, str]) -> None:
        """Keep the first text given for each video."""
        codes, texts = _coded(self.path, name, column, may_lack=True)
        given = np.flatnonzero(codes >= 0)
        numbers, first = np.unique(video[given], return_index=True)
        new = [i for i, number in enumerate(numbers.tolist()) if number not in kept]
        listed = texts.take(pa.array(codes[given[first[new]]], pa.int64())).to_pylist() if new else []
        for i, text in zip(new, listed, strict=True):
            kept[int(numbers[i])] = bounds.one_line(text or "")

    def _tag_numbers(self, part: Any, first: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Numbers of the tags of all rows, one row after the other, -1 for an empty one; and how many each row has."""
        import pyarrow.compute as pc

        if "tags" not in part.column_names or pa.types.is_null(part.column("tags").type):
            return np.zeros(0, np.int32), np.zeros(len(part), np.int64)
        column = part.column("tags")
        if _is_text(column.type):
            codes, texts = _coded(self.path, "tags", column)
            listed = [self._split(text or "", codes, place, first) for place, text in enumerate(texts.to_pylist())]
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
                self.path, "tags", column, f"a list of texts, or one text with {BETWEEN_TAGS!r} between the tags"
            )
        lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
        self._check_lengths(lengths, first)
        codes, texts = _coded(self.path, "tags", pc.list_flatten(column), may_lack=True)
        bounds.check_count(f"different tags in {self.path.name}", len(texts), bounds.MAX_TAGS)
        numbers = np.array([*(self._tag(text or "") for text in texts.to_pylist()), -1], np.int32)
        return numbers[codes], lengths

    def _split(self, text: str, codes: NDArray[np.int64], place: int, first: int) -> list[int]:
        """Numbers of the tags in a text that holds them all, and stands at some place among those that occur."""
        bounds.check_count(f"tags of a frame in {self.path.name}", text.count(BETWEEN_TAGS), bounds.MAX_TAGS_PER_FRAME)
        try:
            names = tags_from_text(text)
        except ValueError as error:
            raise _row_error(self.path, first + int(np.argmax(codes == place)), "tags", str(error)) from None
        return [number for name in names if (number := self._tag(name)) >= 0]

    def _tag(self, text: str) -> int:
        name = canonical_name(text)
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
        """The whole table."""
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
            tag_given=whole("tag_given", np.bool_),
            facts=tuple(
                {name: texts[number] for name, texts in self._facts.items() if texts.get(number)}
                for number in range(len(self._videos))
            ),
            columns=frozenset(self.known),
            unknown=self._unknown,
        )


_GATHERED = ("video", "frame_index", "seconds", "captured_at", "shot", "tag", "n_tags", "tag_given")


def _check_names(path: Path, names: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        spelled = {re.sub(r"[\s_-]+", "_", name.strip("\ufeff \t'\"").lower()): name for name in names}
        near = [f"{spelled[name]!r} must be written {name}" for name in missing if name in spelled]
        rest = [name for name in _KNOWN if name not in needed]
        raise ValueError(
            f"{path} has no column {', '.join(missing)} in its first line or schema, which was read as {len(names):,} "
            f"column{'s' * (len(names) != 1)}{' (' + ', '.join(near) + ')' if near else ''}; a table of frames needs "
            f"{', '.join(needed)}, and may have {', '.join(rest)}."
        )
    twice = [name for name in names if names.count(name) > 1 and (name in _KNOWN or name.startswith(FACT))]
    if twice:
        raise ValueError(f"{path} has the column {bounds.excerpt(twice[0])} more than once.")


def _row_error(path: Path, row: int, name: str, what: str) -> ValueError:
    return ValueError(f"Row {row} of {path}, counted from 0: its {name} {what}.")


def _refuse_row(path: Path, name: str, what: str, bad: NDArray[np.bool_], first: int) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise _row_error(path, first + int(rows[0]), name, what)


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
    if pa.types.is_null(column.type):
        column = column.cast(kind)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    floating = pa.types.is_floating(column.type)
    if not floating and not pa.types.is_integer(column.type) and len(table):
        raise _wrong_type(path, name, column, "whole numbers" if whole else "numbers")
    missing = _nulls(column)
    if whole and not floating:
        given: NDArray[Any] = column.fill_null(0).to_numpy()
        limits = np.iinfo(kind.to_pandas_dtype())
        far = (given > int(limits.max)) | (given < int(limits.min))
    else:
        # As pandas writes whole numbers where some are missing.
        given = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
        if whole:
            missing |= np.isnan(given)
            broken = ~missing & np.isfinite(given) & (given != np.rint(given))
            _refuse_row(path, name, "is not a whole number", broken, first)
        far = np.abs(given) > _largest(kind) if whole else np.zeros(len(given), np.bool_)
    _refuse_row(path, name, "is a number that is too large", far & ~missing, first)
    if absent is None:
        _refuse_row(path, name, "is missing", missing, first)
    else:
        given = np.where(missing, absent, given)
    values: NDArray[Any] = given.astype(kind.to_pandas_dtype())
    return values


def _largest(kind: Any) -> int:
    """The largest whole number of a type that a double tells apart from its neighbours."""
    return min(int(np.iinfo(kind.to_pandas_dtype()).max), 1 << 53)


def _wall_clock(path: Path, table: Any, first: int) -> NDArray[np.int64] | None:
    if "captured_at" not in table.column_names or pa.types.is_null(table.column("captured_at").type):
        return None
    column = table.column("captured_at")
    if _is_text(column.type):
        with suppress(pa.ArrowInvalid):  # What is no time is refused below for its type.
            column = column.cast(pa.string()).cast(pa.timestamp("us"))
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
