"""Frame columns of a segment, and tables of frames: the only module that knows PyArrow.

On disk the columns are one Arrow IPC file, a column per field and a bit-packed boolean column per tag that occurs, so any
Arrow reader understands them. In memory they are NumPy arrays, mapped from the file where the layout allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
        found: list[list[str]] = [[] for _ in rows]
        for first, carried in self._blocks(rows):
            for tag, frame in np.argwhere(carried).tolist():
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


def _bits(array: pa.BooleanArray) -> NDArray[np.uint8]:
    """The packed bits of a boolean column."""
    return np.frombuffer(array.buffers()[1], np.uint8)[: (len(array) + 7) // 8]
