"""Gathering a table of frames from its parts, each of them checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.frames.frame_table import KNOWN, FrameTable
from engine.frames.table_parts import FACT
from engine.frames.table_tags import TagNumbers
from engine.frames.table_values import coded_texts, null_flags, read_numbers, recording_times, refuse_row
from engine.system import bounds
from engine.types import canonical_name

_ROW_NBYTES = 40
"""Bytes of a row of a `FrameTable`, without its tags."""
_GATHERED = ("video", "frame_index", "seconds", "captured_at", "shot", "tag", "n_tags", "tag_given")


class TableGatherer:
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
        self._tags = TagNumbers(path)
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _GATHERED}

    def expect(self, n_rows: int | None, names: Sequence[str]) -> None:
        """Look at the columns that a file has, and at the rows it says it has, before it is read."""
        bounds.check_count(f"columns in {self.path.name}", len(names), bounds.MAX_COLUMNS)
        _check_names(self.path, names, self._needed)
        self.known = [name for name in names if name in KNOWN or name.startswith(FACT)]
        bounds.check_count(f"columns {FACT}... in {self.path.name}", len(self.known) - len(KNOWN), bounds.MAX_FACTS)
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
        path, first = self.path, self._n
        if self.beside is not None and first + len(part) > self.beside[1]:  # More than the file said.
            self._check_beside(first + len(part))
        self._check_size(first + len(part))
        video, names = self._video_numbers(part, first), part.column_names

        def numbers(name: str, kind: Any) -> NDArray[Any]:
            return (
                read_numbers(path, part, name, kind, first)
                if name in names
                else np.zeros(len(part), kind.to_pandas_dtype())
            )

        frame_index, seconds = numbers("frame_index", pa.int64()), numbers("seconds", pa.float64())
        refuse_row(path, "frame_index", "is negative", frame_index < 0, first)
        refuse_row(path, "seconds", "is negative or not a number", ~(np.isfinite(seconds) & (seconds >= 0)), first)
        refuse_row(path, "seconds", "is more than thirty years", seconds > bounds.MAX_SECONDS, first)
        captured_at = recording_times(path, part, first)
        shot = read_numbers(path, part, "shot", pa.int32(), first, absent=-1) if "shot" in names else None
        tag, n_tags = self._tags.take(part, first)
        tag_given = ~null_flags(part.column("tags")) if "tags" in names else np.zeros(len(part), np.bool_)
        if "title" in names:
            self._take_texts("title", part.column("title"), video, self._titles)
        for name in names:
            if name.startswith(FACT):
                column = part.column(name)
                if pa.types.is_primitive(column.type) and not pa.types.is_temporal(column.type):
                    column = column.cast(pa.string())
                self._take_texts(name, column, video, self._facts.setdefault(name[len(FACT) :], {}))
        columns = (video, frame_index, seconds, captured_at, shot, tag, n_tags, tag_given)
        for name, column in zip(_GATHERED, columns, strict=True):
            if column is not None:
                self._parts[name].append(column)
                self._nbytes += column.nbytes
        self._n += len(part)
        bounds.check_nbytes(f"the table in {path.name}", self._nbytes, bounds.MAX_TABLE_NBYTES)

    def _video_numbers(self, part: Any, first: int) -> NDArray[np.int32]:
        codes, column = coded_texts(self.path, "video_id", part.column("video_id"))
        refuse_row(self.path, "video_id", "is missing", codes < 0, first)
        names = [canonical_name(name or "") for name in column.to_pylist()]
        if "" in names:
            empty = np.array([not name for name in names], np.bool_)
            refuse_row(self.path, "video_id", "is empty", empty[codes], first)
        numbers = [self._videos.setdefault(name, len(self._videos)) for name in names]
        bounds.check_count(f"videos in {self.path.name}", len(self._videos), bounds.MAX_VIDEOS)
        return np.array(numbers, np.int32)[codes] if numbers else np.zeros(0, np.int32)

    def _take_texts(self, name: str, column: Any, video: NDArray[np.int32], kept: dict[int, str]) -> None:
        """Keep the first text given for each video."""
        codes, texts = coded_texts(self.path, name, column, may_lack=True)
        given = np.flatnonzero(codes >= 0)
        numbers, first = np.unique(video[given], return_index=True)
        new = [i for i, number in enumerate(numbers.tolist()) if number not in kept]
        listed = texts.take(pa.array(codes[given[first[new]]], pa.int64())).to_pylist() if new else []
        for i, text in zip(new, listed, strict=True):
            kept[int(numbers[i])] = bounds.one_line(text or "")

    def table(self) -> FrameTable:
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
            tag_names=self._tags.names(),
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


def _check_names(path: Path, names: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        spelled = {re.sub(r"[\s_-]+", "_", name.strip("\ufeff \t'\"").lower()): name for name in names}
        near = [f"{spelled[name]!r} must be written {name}" for name in missing if name in spelled]
        rest = [name for name in KNOWN if name not in needed]
        raise ValueError(
            f"{path} has no column {', '.join(missing)} in its first line or schema, which was read as {len(names):,} "
            f"column{'s' * (len(names) != 1)}{' (' + ', '.join(near) + ')' if near else ''}; a table of frames needs "
            f"{', '.join(needed)}, and may have {', '.join(rest)}."
        )
    twice = [name for name in names if names.count(name) > 1 and (name in KNOWN or name.startswith(FACT))]
    if twice:
        raise ValueError(f"{path} has the column {bounds.excerpt(twice[0])} more than once.")
