"""Frame columns of a segment on disk and in memory, and the writer of exported tables.

On disk the columns are one Arrow IPC file, a column per field and a bit-packed boolean column per tag that occurs, so any
Arrow reader understands them. In memory they are NumPy arrays, mapped from the file where the layout allows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.frames.arrow_format import Malformed, locate_columns
from engine.frames.frame_table import joined_ranges
from engine.frames.tag_texts import tags_as_text
from engine.system import FORMULA_START, MAX_TAG, MAX_TAGS, RESTORE, shortages

TagChange = Literal["replace", "add", "remove"]
"""What given tags are to those that a frame has: instead of them, besides them, or taken off."""
_TAG = "tag:"
_BLOCK = 1 << 22
"""Tag bits looked at in one step, so that memory stays small however many tags there are."""


_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
"""Bits that are set in each byte."""


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
        names = sorted({name for names_of_frame in tags for name in names_of_frame})
        place = {name: i for i, name in enumerate(names)}
        tag = np.fromiter((place[name] for names_of_frame in tags for name in names_of_frame), np.int64)
        row = np.repeat(np.arange(len(tags)), np.fromiter(map(len, tags), np.int64, len(tags)))
        return cls(tuple(names), _packed(tag, row, len(names), len(tags)), len(tags))

    @classmethod
    def none(cls, n: int) -> Tags:
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
        blocks = [_ONES[self.bits[i : i + step]].sum(axis=1, dtype=np.int64) for i in range(0, len(self.names), step)]
        return dict(zip(self.names, np.concatenate(blocks).tolist() if blocks else (), strict=True))

    def at(self, rows: NDArray[np.intp]) -> list[tuple[str, ...]]:
        """The tags of these frames, sorted."""
        tags: list[list[str]] = [[] for _ in range(len(rows))]
        for tag, frame in self._carried(rows):
            for number, place in zip(tag.tolist(), frame.tolist(), strict=True):
                tags[place].append(self.names[number])
        return [tuple(number) for number in tags]

    def n_per_frame(self) -> NDArray[np.int64]:
        """(n,) how many tags each frame carries."""
        n = np.zeros(self.n, np.int64)
        for _, frame in self._carried(np.arange(self.n)):
            n += np.bincount(frame, minlength=self.n)
        return n

    def changed(
        self,
        rows: NDArray[np.intp],
        names: Sequence[str],
        tag: NDArray[np.integer],
        place: NDArray[np.integer],
        change: TagChange,
    ) -> tuple[Tags, NDArray[np.bool_]]:
        """The tags with those of some frames changed, and (n,) the frames that carry others than before.

        Parameters
        ----------
        rows : frames that are changed, each once
        names, tag, place : tags by name; numbers of these, and for each the place among `rows` of a frame that it is given to
        change : what the given tags are to those there are
        """
        used, tag = np.unique(tag, return_inverse=True)
        given = [names[number] for number in used.tolist()]
        every = tuple(sorted({*self.names, *given}))
        at = {name: i for i, name in enumerate(every)}
        inside = np.packbits(
            np.ones(self.n, np.bool_), bitorder="little"
        )  # Bits behind the last frame may hold anything.
        before = np.zeros((len(every), (self.n + 7) // 8), np.uint8)
        before[np.fromiter((at[name] for name in self.names), np.int64, len(self.names))] = self.bits & inside
        bits = _packed(np.array([at[name] for name in given], np.int64)[tag], rows[place], len(every), self.n)
        if change == "add":
            after = before | bits
        elif change == "remove":
            after = before & ~bits
        else:
            mask = np.zeros(self.n, np.bool_)
            mask[rows] = True
            after = (before & ~np.packbits(mask, bitorder="little")) | bits
        differ = np.bitwise_or.reduce(before ^ after, axis=0)
        kept = np.asarray(after.any(axis=1))
        names = tuple(name for name, keep in zip(every, kept.tolist(), strict=True) if keep)
        return Tags(names, after[kept], self.n), np.unpackbits(differ, count=self.n, bitorder="little").view(np.bool_)

    def take(self, rows: NDArray[np.intp]) -> Tags:
        """The tags of some frames, in the order of `rows`; tags that no longer occur are dropped."""
        names: list[str] = []
        bits = [np.empty((0, (len(rows) + 7) // 8), np.uint8)]
        for tag, frame in self._carried(rows):
            occurring, of = np.unique(tag, return_inverse=True)
            names += [self.names[number] for number in occurring.tolist()]
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
            yield np.repeat(tag, times) + first, order[joined_ranges(starts[frame], times)]


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
            some, targets = part.bits[first : first + step].copy(), rows[first : first + step]
            some[:, -1:] &= 0xFF >> (-part.n % 8)  # Bits behind the last frame may hold anything.
            bits[targets, byte : byte + width] |= some << shift
            if shift:
                bits[targets, byte + 1 : byte + 1 + width] |= some >> (8 - shift)
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
_TYPES = {
    name: np.dtype(kind)
    for name, kind in zip(PLAIN, ("<i8", "<i4", "<i8", "<f8", "<i8", "<i4", "<i4", "<u4"), strict=True)
}


def concat_columns(parts: Sequence[FrameColumns]) -> FrameColumns:
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


def map_bytes(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, mapped and not writable; no file stays open for it.

    Raises
    ------
    OSError
        If it cannot be mapped.
    """
    try:
        with pa.memory_map(str(path)) as source:
            return np.frombuffer(source.read_buffer(), np.uint8)
    except pa.ArrowException as error:
        raise OSError(_one_line(error)) from error


def max_file_nbytes(n_rows: int, n_tags: int) -> int:
    """Bytes that the file of so many frames and tags may have, with room to spare; more are not read."""
    return (1 << 16) + n_rows * 64 + n_tags * (n_rows // 8 + 16 * MAX_TAG)


def read_columns(path: Path, n_rows: int, content: bytes | None = None) -> FrameColumns:
    """Map the columns of a segment, or take them from the `content` of its file.

    Raises
    ------
    CorruptData
        If the file is not an Arrow file with these columns, whole and without gaps, of `n_rows` frames.
    """
    try:
        with shortages(f"reading {path.name} in {path.parent.name}"):
            whole = map_bytes(path) if content is None else np.frombuffer(content, np.uint8)
            columns = locate_columns(whole, n_rows, _TYPES, MAX_TAGS, len(_TAG) + 4 * MAX_TAG)
    except (Malformed, OSError) as error:
        raise CorruptData(
            f"The frame columns in {path.parent.name} cannot be read ({_one_line(error)}); {RESTORE}."
        ) from error
    plain = {name: columns.pop(name) for name in PLAIN}
    names = tuple(name.removeprefix(_TAG) for name in columns)
    if any(not name.startswith(_TAG) or len(name) > len(_TAG) + MAX_TAG for name in columns):
        raise CorruptData(f"The frame columns in {path.parent.name} hold one that is unknown; {RESTORE}.")
    tags = Tags(names, np.stack(list(columns.values())).view(np.uint8), n_rows) if names else Tags.none(n_rows)
    return FrameColumns(**plain, tags=tags)  # type: ignore[arg-type]


def preload_pandas() -> None:
    """Have PyArrow import pandas now, where it is installed, as it otherwise does when it first turns a column into an array."""
    pa.array([0]).to_numpy()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class TableWriter:
    """Writes a table of frames part by part, in the format that its name stands for.

    In CSV a text that a spreadsheet would work out as a formula gets an apostrophe before it, which `read_table` takes off; for
    tags see `tags_as_text`.
    """

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
        """Take an open file and one of `EXPORTED`."""
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
            "tags": [tags_as_text(of_frame) for of_frame in tags] if self._joined else tags,
            "title": titles,
        }
        arrays = [pa.array(values[field.name], field.type) for field in self._schema]
        if self._joined:
            import pyarrow.compute as pc

            arrays = [
                pc.replace_substring_regex(array, f"^({FORMULA_START})", r"'\1", max_replacements=1)
                if array.type == pa.string()
                else array
                for array in arrays
            ]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
