"""The tags of a table of frames as numbers, a part at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.frames.frame_table import joined_ranges
from engine.frames.table_values import coded_texts, is_text, refuse_row, row_error, wrong_type
from engine.frames.tag_texts import BETWEEN_TAGS, tags_from_text
from engine.system import bounds
from engine.types import canonical_name


class TagNumbers:
    """Numbers tags as they come up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}

    def names(self) -> tuple[str, ...]:
        return tuple(self._numbers)

    def take(self, part: Any, first: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Numbers of the tags of all rows, one row after the other, -1 for an empty one; and how many each row has."""
        import pyarrow.compute as pc

        if "tags" not in part.column_names or pa.types.is_null(part.column("tags").type):
            return np.zeros(0, np.int32), np.zeros(len(part), np.int64)
        column = part.column("tags")
        if is_text(column.type):
            codes, texts = coded_texts(self._path, "tags", column)
            listed = [self._split(text or "", codes, place, first) for place, text in enumerate(texts.to_pylist())]
            lengths_of = np.array([*map(len, listed), 0], np.int64)
            lengths = lengths_of[codes]
            every = np.concatenate([np.zeros(0, np.int32), *(np.array(each, np.int32) for each in listed)])
            self._check_lengths(lengths, first)
            starts = (np.cumsum(lengths_of) - lengths_of)[codes]
            return every[joined_ranges(starts, lengths)], lengths
        is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        if not is_list or not (is_text(column.type.value_type) or pa.types.is_null(column.type.value_type)):
            raise wrong_type(
                self._path, "tags", column, f"a list of texts, or one text with {BETWEEN_TAGS!r} between the tags"
            )
        lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
        self._check_lengths(lengths, first)
        codes, texts = coded_texts(self._path, "tags", pc.list_flatten(column), may_lack=True)
        bounds.check_count(f"different tags in {self._path.name}", len(texts), bounds.MAX_TAGS)
        numbers = np.array([*(self._number(text or "") for text in texts.to_pylist()), -1], np.int32)
        return numbers[codes], lengths

    def _split(self, text: str, codes: NDArray[np.int64], place: int, first: int) -> list[int]:
        """Numbers of the tags in a text that holds them all, and stands at some place among those that occur."""
        bounds.check_count(f"tags of a frame in {self._path.name}", text.count(BETWEEN_TAGS), bounds.MAX_TAGS_PER_FRAME)
        try:
            names = tags_from_text(text)
        except ValueError as error:
            raise row_error(self._path, first + int(np.argmax(codes == place)), "tags", str(error)) from None
        return [number for name in names if (number := self._number(name)) >= 0]

    def _number(self, text: str) -> int:
        name = canonical_name(text)
        if not name:
            return -1
        if name not in self._numbers:
            bounds.check_tag(name)
            bounds.check_count(f"different tags in {self._path.name}", len(self._numbers) + 1, bounds.MAX_TAGS)
        return self._numbers.setdefault(name, len(self._numbers))

    def _check_lengths(self, lengths: NDArray[np.int64], first: int) -> None:
        refuse_row(
            self._path,
            "tags",
            f"are more than {bounds.MAX_TAGS_PER_FRAME:,}",
            lengths > bounds.MAX_TAGS_PER_FRAME,
            first,
        )
