"""Tables of frames from users' files: looked at first, then read part by part."""

from __future__ import annotations

import csv
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from engine.frames.frame_table import NEEDED, FrameTable
from engine.frames.table_gathering import TableGatherer
from engine.frames.table_parts import CSV_ENDINGS, arrow_parts, csv_parts, parquet_parts
from engine.system import bounds

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
    gathering = TableGatherer(path, beside, needed)
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
