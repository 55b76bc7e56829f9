"""Frame columns of a segment: the only module that knows PyArrow.

On disk they are one Arrow IPC file, a column per field and a bit-packed boolean column per tag that occurs, so any
Arrow reader understands them. In memory they are NumPy arrays, mapped from the file where the layout allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import CorruptData

NO_TIME = np.iinfo(np.int64).min
"""Stands for "no wall-clock time" in `captured_at`."""

_TAG = "tag:"


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """Columns of n frames, sorted by (video, frame_index) in a segment; any order before."""

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
    tags: dict[str, NDArray[np.bool_]]
    """Per tag that occurs, (n,) mask of the frames that carry it."""

    def __len__(self) -> int:
        return len(self.frame_id)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> FrameColumns:
        """The columns at these rows, in their order; tags that no longer occur are dropped."""
        taken = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "tags"}
        tags = {tag: mask[rows] for tag, mask in self.tags.items()}
        return FrameColumns(**taken, tags={tag: mask for tag, mask in tags.items() if mask.any()})

    def with_values(self, **changed: NDArray[np.generic]) -> FrameColumns:
        """A copy with some columns replaced."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return FrameColumns(**{**values, **changed})

    def tags_of(self, row: int) -> tuple[str, ...]:
        """The tags of one frame, sorted."""
        return tuple(tag for tag, mask in self.tags.items() if mask[row])


def tag_masks(tags: Sequence[Sequence[str]]) -> dict[str, NDArray[np.bool_]]:
    """Turn a list of tags per frame into a mask per tag."""
    masks: dict[str, NDArray[np.bool_]] = {}
    for row, names in enumerate(tags):
        for name in names:
            if name not in masks:
                masks[name] = np.zeros(len(tags), np.bool_)
            masks[name][row] = True
    return dict(sorted(masks.items()))


def join(parts: Sequence[FrameColumns]) -> FrameColumns:
    """All rows of all parts, one after the other."""
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(FrameColumns)
        if field.name != "tags"
    }
    names = sorted({tag for part in parts for tag in part.tags})
    absent = [np.zeros(len(part), np.bool_) for part in parts]
    tags = {
        tag: np.concatenate([part.tags.get(tag, no) for part, no in zip(parts, absent, strict=True)]) for tag in names
    }
    return FrameColumns(**joined, tags=tags)


def write_columns(file: BinaryIO, columns: FrameColumns) -> None:
    """Write the columns as one Arrow IPC file of a single record batch."""
    names = [field.name for field in fields(FrameColumns) if field.name != "tags"]
    arrays = {name: pa.array(getattr(columns, name)) for name in names}
    arrays |= {_TAG + tag: pa.array(mask) for tag, mask in columns.tags.items()}
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
            table = pa.ipc.open_file(source).read_all()
        values = {
            field.name: table.column(field.name).to_numpy() for field in fields(FrameColumns) if field.name != "tags"
        }
        tags = {
            name.removeprefix(_TAG): table.column(name).to_numpy()
            for name in table.column_names
            if name.startswith(_TAG)
        }
    except (pa.ArrowException, OSError, KeyError) as error:
        raise CorruptData(
            f"The frame columns in {path.parent.name} cannot be read ({error}); restore the file from a copy."
        ) from error
    return FrameColumns(**values, tags=tags)
