"""Values of one part of a table of frames as arrays; what cannot be meant is refused with its row."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.frames.frame_table import NO_TIME
from engine.system import bounds

_YEARS = tuple(int(np.datetime64(year, "us").astype(np.int64)) for year in ("0100", "9999"))
"""Microseconds between which a recording time makes sense; there is room for `bounds.MAX_SECONDS` before it, where the video starts."""


def row_error(path: Path, row: int, name: str, what: str) -> ValueError:
    return ValueError(f"Row {row} of {path}, counted from 0: its {name} {what}.")


def refuse_row(path: Path, name: str, what: str, bad: NDArray[np.bool_], first: int) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise row_error(path, first + int(rows[0]), name, what)


def null_flags(column: Any) -> NDArray[np.bool_]:
    """(n,) whether each value is missing."""
    return np.asarray(column.is_null().to_numpy() if len(column) else [], np.bool_)


def wrong_type(path: Path, name: str, column: Any, wanted: str) -> ValueError:
    return ValueError(f"The column {name} of {path} is of type {column.type}; give {wanted}.")


def is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def coded_texts(path: Path, name: str, column: Any, *, may_lack: bool = False) -> tuple[NDArray[np.int64], Any]:
    """A column of texts as (n,) places among the different ones, -1 where it is null, and these in order of first appearance."""
    if pa.types.is_null(column.type) and (may_lack or not len(column)):
        return np.full(len(column), -1, np.int64), pa.array([], pa.string())
    if not is_text(column.type):
        raise wrong_type(path, name, column, "text")
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


def read_numbers(
    path: Path, table: Any, name: str, kind: Any, first: int, *, absent: int | None = None
) -> NDArray[Any]:
    """A column as (n,) of an Arrow type; `absent` stands for what is missing, which is refused if that is None."""
    column = table.column(name)
    whole = pa.types.is_integer(kind)
    if pa.types.is_null(column.type):
        column = column.cast(kind)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    floating = pa.types.is_floating(column.type)
    if not floating and not pa.types.is_integer(column.type) and len(table):
        raise wrong_type(path, name, column, "whole numbers" if whole else "numbers")
    missing = null_flags(column)
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
            refuse_row(path, name, "is not a whole number", broken, first)
        # Beyond 2**53 a double does not tell a whole number from its neighbours.
        far = np.abs(given) > (min(np.iinfo(kind.to_pandas_dtype()).max, 1 << 53) if whole else np.inf)
    refuse_row(path, name, "is a number that is too large", far & ~missing, first)
    if absent is None:
        refuse_row(path, name, "is missing", missing, first)
    else:
        given = np.where(missing, absent, given)
    values: NDArray[Any] = given.astype(kind.to_pandas_dtype())
    return values


def recording_times(path: Path, table: Any, first: int) -> NDArray[np.int64] | None:
    if "captured_at" not in table.column_names or pa.types.is_null(table.column("captured_at").type):
        return None
    column = table.column("captured_at")
    if is_text(column.type):
        with suppress(pa.ArrowInvalid):  # What is no time is refused below for its type.
            column = column.cast(pa.string()).cast(pa.timestamp("us"))
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        raise wrong_type(path, "captured_at", column, "timestamps such as 2024-05-01 18:30:00")
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        raise ValueError(
            f"The column captured_at of {path} has a time zone ({column.type.tz}); frames are filed by the local time of the "
            "recording, so convert it to local time and drop the zone."
        )
    values: NDArray[np.int64] = (
        column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).fill_null(NO_TIME).to_numpy()
    )
    far = (values != NO_TIME) & ((values < _YEARS[0]) | (values >= _YEARS[1]))
    refuse_row(path, "captured_at", "lies outside the years 100 to 9998", far, first)
    return values
