"""Tables of frames in files, a part at a time: what each format says of its own size is looked at before anything is unpacked."""

from __future__ import annotations

import csv
import gzip
import re
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from engine.system import FORMULA_START, bounds

TEXTS = ("video_id", "tags", "title")
"""Columns of texts, which are read as a list of different ones; so are those that begin with `FACT`."""
FACT = "about:"
"""How columns begin that say something else of a video, such as `about:author`."""
CSV_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
"""Endings of tables that are lines of text."""


class ExpectColumns(Protocol):
    """Checks what a file says of its columns and rows before it is read, and names the columns to read."""

    known: list[str]
    beside: tuple[Path, int] | None
    """A file of vectors and how many it holds."""

    def expect(self, n_rows: int | None, names: Sequence[str]) -> None:
        """Raise `ValueError` for columns or a number of rows that will not do; None where rows are not counted yet."""


_PART = 1 << 18
"""Rows that are worked on at a time."""
_PART_NBYTES = 64 << 20
"""Bytes of a Parquet file, uncompressed, that are worked on at a time."""
_VALUE_NBYTES = 16
"""Bytes that a value may take while it is read, however little of the file it takes."""


def parquet_parts(path: Path, look: ExpectColumns) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        meta, schema = file.metadata, file.schema
        look.expect(meta.num_rows, file.schema_arrow.names[: bounds.MAX_COLUMNS + 1])
        bounds.check_count(f"parts in {path.name}", meta.num_row_groups, bounds.MAX_TABLE_PARTS)
        places = [schema.column(i).path for i in range(meta.num_columns)]
        leaves = [i for i, place in enumerate(places) if place.partition(".")[0] in look.known]
        texts = [places[i] for i in leaves if _holds_text(places[i].partition(".")[0])]
        steps, total = [], 0
        for i in range(meta.num_row_groups):
            group = meta.row_group(i)
            chunks = [group.column(leaf) for leaf in leaves]
            nbytes = sum(max(0, chunk.total_uncompressed_size) for chunk in chunks)
            total += nbytes
            bounds.check_nbytes(f"the table in {path.name}", total, bounds.MAX_TABLE_NBYTES)
            nbytes = max(nbytes, _VALUE_NBYTES * sum(max(0, chunk.num_values) for chunk in chunks), 1)
            steps.append(max(1, min(_PART, group.num_rows * _PART_NBYTES // nbytes)))
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for i, step in enumerate(steps):
            for batch in file.iter_batches(step, row_groups=[i], columns=look.known, use_threads=False):
                yield pa.Table.from_batches([batch])


def _holds_text(name: str) -> bool:
    return name in TEXTS or name.startswith(FACT)


def csv_parts(path: Path, look: ExpectColumns) -> Iterator[Any]:
    with _unpacked(path) as plain:
        table = _read_csv(path, plain, look)
    for batch in table.to_batches(max_chunksize=_PART) or [pa.RecordBatch.from_pylist([], table.schema)]:
        yield _with_formulas(pa.Table.from_batches([batch]))


def _read_csv(path: Path, plain: Path, look: ExpectColumns) -> Any:
    """The columns of a CSV that are known, with texts as lists of different ones."""
    import pyarrow.csv as pc

    written, lines, quoted, delimiter = _csv_lines(plain, path)
    names = [name.strip() for name in written]
    stripped = names != written
    at_most = bool(look.beside and lines < look.beside[1])
    # A text in quotes may hold ends of lines, so that there may be fewer rows than lines and not more.
    look.expect(lines if at_most or not quoted else None, names)
    text = pa.dictionary(pa.int32(), pa.string())
    convert = pc.ConvertOptions(
        column_types={name: text for name in look.known if _holds_text(name)},
        include_columns=look.known,
        null_values=[""],
        strings_can_be_null=True,
        decimal_point="," if delimiter != "," and _has_decimal_commas(plain, delimiter) else ".",
    )
    reading, parsing = pc.ReadOptions(block_size=_CSV_BLOCK), pc.ParseOptions(delimiter=delimiter)
    if stripped:  # The names in the file have blanks around them.
        reading.column_names, reading.skip_rows = names, 1
    with pa.OSFile(str(plain)) as file:
        table = pc.read_csv(file, convert_options=convert, read_options=reading, parse_options=parsing)
    look.expect(len(table), names)
    return table


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A file of text that may be packed by gzip, whatever it is called; what it unpacks to is bounded, and goes at the end."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} is text in UTF-16; save it as CSV in UTF-8.")
    if not start.startswith(b"\x1f\x8b"):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="framesearch-") as plain:
        with gzip.open(path) as packed:
            n = 0
            while block := packed.read(_CSV_BLOCK):
                n += len(block)
                bounds.check_nbytes(f"the table in {path.name}, unpacked,", n, bounds.MAX_TABLE_NBYTES)
                plain.write(block)
        plain.flush()
        yield Path(plain.name)


_DELIMITERS = (",", "\t", ";", "|")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_LOOKED_AT = 20
"""Lines in which numbers with a decimal comma are looked for."""


def _delimiter(first: str) -> str:
    """What stands between the names in the first line: whatever makes the most of them known."""
    known = ("video_id", "frame_index", "seconds", "captured_at", "shot", "tags", "title")

    def n_known(delimiter: str) -> int:
        return sum(name.strip() in known for name in next(csv.reader([first], delimiter=delimiter), []))

    return max(_DELIMITERS, key=n_known)


def _has_decimal_commas(path: Path, delimiter: str) -> bool:
    """Whether a number among the first seconds of a table is written like 0,5."""
    with path.open("rb") as file:
        lines = [file.readline(bounds.MAX_LINE_NBYTES).decode("utf-8-sig", "replace") for _ in range(_LOOKED_AT)]
    names, *rows = csv.reader(filter(str.strip, lines), delimiter=delimiter)
    at = names.index("seconds") if "seconds" in names else len(names)
    return any(_DECIMAL_COMMA.fullmatch(row[at].strip()) for row in rows if len(row) > at)


def _with_formulas(table: Any) -> Any:
    """A part of a CSV without the apostrophes that an export put before what a spreadsheet takes for formulas."""
    import pyarrow.compute as pc

    for at, name in enumerate(table.column_names):
        column = table.column(at)
        if _holds_text(name) and pa.types.is_dictionary(column.type):
            column = column.combine_chunks()
            column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
            texts = pc.replace_substring_regex(column.dictionary, f"^'({FORMULA_START})", r"\1", max_replacements=1)
            table = table.set_column(at, name, pa.DictionaryArray.from_arrays(column.indices, texts))
    return table


_CSV_BLOCK = bounds.MAX_LINE_NBYTES


def _csv_lines(path: Path, called: Path) -> tuple[list[str], int, bool, str]:
    """The names in the first line, how many lines follow that are not empty, whether there are quotes, and the delimiter."""
    bounds.check_nbytes(f"the table {called.name}", path.stat().st_size, bounds.MAX_TABLE_NBYTES)
    lines = length = 0
    inside = quoted = False
    with path.open("rb") as file:
        head = file.readline(bounds.MAX_LINE_NBYTES + 1)
        first = head.replace(b"\r", b"\n").partition(b"\n")[0]
        file.seek(len(first))
        while True:
            chunk = file.read(_CSV_BLOCK)
            quoted = quoted or b'"' in chunk
            values = np.frombuffer(chunk, np.uint8)
            ends = np.flatnonzero((values == 10) | (values == 13))
            longest = int(np.diff(ends, prepend=-length - 1).max()) - 1 if len(ends) else length + len(chunk)
            if longest > bounds.MAX_LINE_NBYTES or len(first) > bounds.MAX_LINE_NBYTES:
                raise bounds.TooLarge(
                    f"{called.name} has a line of more than {bounds.MAX_LINE_NBYTES:,} bytes; a table of frames has a short line for each."
                )
            if not chunk:
                break
            # A line ends where something stands before the end of the line.
            before = np.append(-1, ends[:-1]) if len(ends) else ends
            lines += int(np.count_nonzero(ends - before > 1))
            if len(ends):
                lines += bool(ends[0] == 0 and inside)
                inside, length = bool(ends[-1] < len(values) - 1), len(values) - 1 - int(ends[-1])
            else:
                inside, length = True, length + len(values)
    text = first.decode("utf-8-sig")
    delimiter = _delimiter(text)
    names = next(csv.reader([text], delimiter=delimiter), [])
    return names, lines + inside, quoted or b'"' in first, delimiter


def arrow_parts(path: Path, look: ExpectColumns) -> Iterator[Any]:
    with pa.memory_map(str(path)) as source:
        n_batches = pa.ipc.open_file(source).num_record_batches
        if n_batches > bounds.MAX_TABLE_PARTS:
            bounds.check_count(f"parts in {path.name}", n_batches, bounds.MAX_TABLE_PARTS)
        # The batches one after the other, as a stream: the list at the end of the file may name one of them a million times.
        source.seek(_ARROW_HEAD)
        names = pa.ipc.open_stream(source).schema.names
        source.seek(_ARROW_HEAD)
        n_rows, seen, nbytes = 0, 0, 0
        for message in pa.ipc.MessageReader.open_stream(source):
            rows, unpacked = _message_size(message)
            n_rows += rows if message.type == "record batch" else 0
            seen += message.type == "record batch"
            nbytes += unpacked
            bounds.check_nbytes(f"the table in {path.name}", nbytes, bounds.MAX_TABLE_NBYTES)
        look.expect(n_rows, names)
        if seen != n_batches:
            raise pa.ArrowInvalid("the list of batches is not that of the batches there are")
        source.seek(_ARROW_HEAD)
        known = [i for i, name in enumerate(names) if name in look.known]
        stream = pa.ipc.open_stream(source, options=pa.ipc.IpcReadOptions(included_fields=known))
        yield pa.Table.from_batches([], stream.schema)
        for batch in stream:
            batch.validate(full=True)  # Offsets in the file are believed otherwise, wherever they lead.
            for start in range(0, len(batch), _PART):
                yield pa.Table.from_batches([batch.slice(start, _PART)])


_ARROW_HEAD = 8
"""Bytes of an Arrow file ahead of its messages."""


def _message_size(message: Any) -> tuple[int, int]:
    """The rows that an Arrow message says it has, and the bytes that its buffers unpack to, both before they are unpacked.

    Its metadata is a FlatBuffer, which PyArrow has checked: tables with offsets of their fields, numbered as in Arrow's `Message.fbs`.
    """
    if message.body is None:
        return 0, 0
    metadata, body = message.metadata.to_pybytes(), message.body
    header = _field(metadata, struct.unpack_from("<I", metadata)[0], 2)
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    if message.type == "dictionary":
        data = _field(metadata, batch, 1)
        batch = data + struct.unpack_from("<I", metadata, data)[0]
    length = _field(metadata, batch, 0)
    rows = struct.unpack_from("<q", metadata, length)[0] if length else 0
    if not _field(metadata, batch, 3):
        return rows, 0  # Not compressed: what is there is mapped.
    buffers = _field(metadata, batch, 2)
    start = buffers + struct.unpack_from("<I", metadata, buffers)[0]
    unpacked = 0
    for i in range(struct.unpack_from("<I", metadata, start)[0]):
        offset, nbytes = struct.unpack_from("<qq", metadata, start + 4 + 16 * i)
        if nbytes >= 8:
            unpacked += max(0, struct.unpack("<q", body.slice(offset, 8).to_pybytes())[0])
    return rows, unpacked


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffer table stands; 0 where it is left out."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", metadata, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", metadata, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0
