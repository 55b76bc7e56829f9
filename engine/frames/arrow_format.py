"""Where the columns lie in an Arrow IPC file of the one form that segments have.

Readers of Arrow are made for any schema. They build what the metadata tell of, however deep or often repeated, and take the
lengths and places in them on trust. Of a file that somebody else made, nothing is believed here that the file itself does
not bear out: one record batch, no nesting, no dictionaries, no compression, every buffer within the body. The format is
that of https://arrow.apache.org/docs/format/Columnar.html, its metadata being FlatBuffers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"ARROW1"
_CONTINUED = 0xFFFFFFFF
_RECORD_BATCH = 3
_INT, _FLOAT, _BOOL = 2, 3, 6
"""Kinds of columns, by their number in Arrow's schema."""
_KINDS = {"i": _INT, "u": _INT, "f": _FLOAT}
_PRECISION = {2: 0, 4: 1, 8: 2}
"""Arrow's number for floats of so many bytes."""


class Malformed(Exception):
    """The file is not of the form that it must have; the message says in which way, in a clause."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a FlatBuffer; places outside of the buffer are `Malformed`."""

    buffer: bytes
    at: int

    def read(self, code: str, at: int) -> int:
        """The number at a place."""
        if not 0 <= at <= len(self.buffer) - struct.calcsize(code):
            raise Malformed("its metadata point outside of themselves")
        number: int = struct.unpack_from("<" + code, self.buffer, at)[0]
        return number

    def place(self, field: int) -> int | None:
        """Where a field of the table stands; None where it has its default."""
        table = self.at - self.read("i", self.at)
        if self.read("H", table) < 6 + 2 * field:
            return None
        offset = self.read("H", table + 4 + 2 * field)
        return self.at + offset if offset else None

    def number(self, field: int, code: str) -> int:
        """A field that is a number; 0 by default."""
        place = self.place(field)
        return 0 if place is None else self.read(code, place)

    def table(self, field: int) -> _Table:
        """A field that is a table."""
        place = self.place(field)
        if place is None:
            raise Malformed("its metadata lack a part")
        return _Table(self.buffer, place + self.read("I", place))

    def vector(self, field: int) -> tuple[int, int]:
        """A field that is a vector: how many there are, and where the first is; none by default."""
        place = self.place(field)
        if place is None:
            return 0, 0
        start = place + self.read("I", place)
        return self.read("I", start), start + 4

    def structs(self, field: int, code: str, n: int) -> list[tuple[int, ...]]:
        """A field that is a vector of exactly n structs."""
        told, start = self.vector(field)
        if told != n or start + n * struct.calcsize("<" + code) > len(self.buffer):
            raise Malformed(f"it lists {told:,} parts where {n:,} belong")
        return list(struct.iter_unpack("<" + code, self.buffer[start : start + n * struct.calcsize("<" + code)]))

    def text(self, field: int, most: int) -> str:
        """A field that is a text of at most so many bytes."""
        n, start = self.vector(field)
        if n > most or start + n > len(self.buffer):
            raise Malformed("a name in it is too long")
        try:
            return self.buffer[start : start + n].decode()
        except UnicodeDecodeError as error:
            raise Malformed("a name in it is no text") from error


def locate_columns(
    content: NDArray[np.uint8], n_rows: int, plain: Mapping[str, np.dtype[np.generic]], most_bits: int, most_name: int
) -> dict[str, NDArray[np.generic]]:
    """The columns of a file by name, as views of its bytes: numbers as they are, flags as packed bits with the first row lowest.

    Parameters
    ----------
    content : the bytes of the whole file
    plain : columns of numbers that must be there; all others must be flags
    most_bits, most_name : columns of flags, and bytes of a name, at the most

    Raises
    ------
    Malformed
        If it is not such a file, or not of `n_rows` rows.
    """
    footer = _footer(content)
    fields, start = _fields(footer, len(plain) + most_bits)
    ((offset, width, _, nbytes),) = footer.structs(3, "qiiq", 1)
    if footer.vector(2)[0]:
        raise Malformed("it holds dictionaries")
    if not (8 <= offset <= len(content) and width > 8 and nbytes >= 0 and offset + width + nbytes <= len(content)):
        raise Malformed("its rows lie outside of the file")
    batch = _batch(content[offset : offset + width].tobytes(), n_rows)
    nodes, buffers = batch.structs(1, "qq", fields), batch.structs(2, "qq", 2 * fields)
    if any(node != (n_rows, 0) for node in nodes):
        raise Malformed("a column has another number of rows, or rows without a value")
    body = content[offset + width : offset + width + nbytes]
    columns: dict[str, NDArray[np.generic]] = {}
    for i in range(fields):
        name, values = _column(footer, start + 4 * i, body, buffers[2 * i + 1], n_rows, plain, most_name)
        if name in columns:
            raise Malformed("two of its columns have the same name")
        columns[name] = values
    missing = [name for name in plain if name not in columns]
    if missing:
        raise Malformed(f"it has no column {missing[0]}")
    return columns


def _footer(content: NDArray[np.uint8]) -> _Table:
    end = len(content) - len(_MAGIC) - 4
    if end < len(_MAGIC) + 2 or content[: len(_MAGIC)].tobytes() != _MAGIC or content[end + 4 :].tobytes() != _MAGIC:
        raise Malformed("it is no Arrow file")
    n = int.from_bytes(content[end : end + 4].tobytes(), "little")
    if not 8 <= n <= end:
        raise Malformed("it is no Arrow file")
    buffer = content[end - n : end].tobytes()
    return _Table(buffer, int.from_bytes(buffer[:4], "little"))


def _fields(footer: _Table, most: int) -> tuple[int, int]:
    schema = footer.table(1)
    fields, start = schema.vector(1)
    if fields > most:
        raise Malformed(f"it has {fields:,} columns")
    if schema.number(0, "h"):
        raise Malformed("its numbers are in another byte order")
    return fields, start


def _batch(message: bytes, n_rows: int) -> _Table:
    start = 8 if int.from_bytes(message[:4], "little") == _CONTINUED else 4  # Before Arrow 0.15 the length came first.
    table = _Table(message[start:], int.from_bytes(message[start : start + 4], "little"))
    if table.number(1, "B") != _RECORD_BATCH:
        raise Malformed("it holds no rows")
    batch = table.table(2)
    if batch.place(3) is not None:
        raise Malformed("its rows are compressed")
    if batch.number(0, "q") != n_rows:
        raise Malformed(f"it has {batch.number(0, 'q'):,} rows and not {n_rows:,}")
    return batch


def _column(
    footer: _Table,
    place: int,
    body: NDArray[np.uint8],
    buffer: tuple[int, ...],
    n_rows: int,
    plain: Mapping[str, np.dtype[np.generic]],
    most_name: int,
) -> tuple[str, NDArray[np.generic]]:
    field = _Table(footer.buffer, place + footer.read("I", place))
    name = field.text(0, most_name)
    if field.place(4) is not None or field.vector(5)[0]:
        raise Malformed("a column in it is made of others")
    kind, dtype = field.number(2, "B"), plain.get(name)
    if dtype is None:
        right, nbytes = kind == _BOOL, (n_rows + 7) // 8
    else:
        right, nbytes = kind == _KINDS[dtype.kind], n_rows * dtype.itemsize
        if right and kind == _INT:
            described = field.table(3)
            right = described.number(0, "i") == 8 * dtype.itemsize and described.number(1, "B") == (dtype.kind == "i")
        elif right:
            right = field.table(3).number(0, "h") == _PRECISION[dtype.itemsize]
    if not right:
        raise Malformed("a column in it is of another type")
    offset, length = buffer
    if not (offset >= 0 and nbytes <= length and offset + length <= len(body)) or offset % 8:
        raise Malformed("a column in it lies outside of its body")
    values = body[offset : offset + nbytes]
    return name, values if dtype is None else values.view(dtype)
