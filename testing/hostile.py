"""Collections from somebody who means harm: every hash and checksum is right, and what they are of is not.

Each function of `HOSTILE` takes the folder of a sound collection (`make_world`) and changes it. `outcomes` then uses the
collection in every way there is; whatever it holds, each use must answer, or refuse in one sentence.
"""

from __future__ import annotations

import json
import os
import select
import sqlite3
import struct
import subprocess
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from engine.collection import Collection
from engine.errors import EngineError
from engine.frames.columns import FrameColumns, Tags, read_columns, write_columns
from engine.storage.checksums import counters_checksum, generation_checksum, list_generation
from engine.storage.query_log import past_queries
from engine.storage.schema import CATALOG_COLUMNS
from engine.storage.segment import header
from engine.system.files import file_hash
from engine.types import Filter
from testing.faults import BANK, QUERIES, one_sentence
from testing.worlds import DIM, make_video

HOSTILE: list[Callable[[Path], None]] = []
"""Ways to harm whoever opens a collection; the first line of each docstring says how."""
HARMLESS = frozenset(
    (
        "generations_without_number",
        "past_queries_of_nothing",
        "clips_with_notes_of_anything",
        "ladder_that_leads_outside",
    )
)
"""Those after which everything may be answered as before; all others must be refused by some use."""
THOROUGH: set[str] = set()
"""Those that are like others, and are left out where time is short."""


def hostile(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Take a function into `HOSTILE`."""
    HOSTILE.append(make)
    return make


# Making everything agree again


@contextmanager
def catalog_of(folder: Path) -> Iterator[sqlite3.Connection]:
    """The catalog as SQLite sees it; what is changed counts at the end."""
    with closing(sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)) as db:
        yield db


def rewrite(folder: Path) -> None:
    """Hash all listed files anew, then each generation, then the counters, so that nothing differs from its checksum."""
    with catalog_of(folder) as db:
        for table, key in (("segments", "segment_id"), ("cells", "cells_id"), ("routers", "router_id")):
            for number, text in db.execute(f"SELECT {key}, files FROM {table}").fetchall():
                with suppress(ValueError, AttributeError, OSError, TypeError):
                    place = folder / table / str(number)
                    files = {name: file_hash(place / name) for name in json.loads(text)}
                    db.execute(f"UPDATE {table} SET files = ? WHERE {key} = ?", (json.dumps(files), number))
        for number, text in db.execute("SELECT segment_id, stats FROM segments").fetchall():
            path = folder / "segments" / str(number) / "codes.faiss"
            with suppress(ValueError, KeyError, TypeError, OSError, IndexError):
                stats = json.loads(text)
                stats["header"] = header(path, stats["header"][0])
                db.execute("UPDATE segments SET stats = ? WHERE segment_id = ?", (json.dumps(stats), number))
    seal(folder)


def seal(folder: Path) -> None:
    """Hash what is listed anew, and leave the listed hashes of files as they are."""
    with catalog_of(folder) as db:

        def read(sql: str, *values: object) -> list[tuple[Any, ...]]:
            return db.execute(sql, values).fetchall()

        for number, *told in db.execute(
            "SELECT generation, settings, layout_id, cells_id, router_id FROM generations ORDER BY generation DESC LIMIT 20"
        ).fetchall():
            try:
                digest = generation_checksum(list_generation(read, CATALOG_COLUMNS, number, *told))
            except sqlite3.OperationalError:  # Of text that is none there is no checksum.
                continue
            db.execute("UPDATE generations SET manifest = ? WHERE generation = ?", (digest, number))
        counters = db.execute("SELECT name, value FROM counters").fetchall()
        with suppress(sqlite3.IntegrityError):
            db.execute("INSERT OR REPLACE INTO counters VALUES ('sum', ?)", (counters_checksum(counters),))


def run_sql(folder: Path, sql: str, *values: object) -> None:
    """Change the catalog, and make its checksums right."""
    with catalog_of(folder) as db:
        db.execute(sql, values)
    seal(folder)


def change_json(folder: Path, table: str, column: str, change: Callable[[Any], Any]) -> None:
    """Change what is stored as JSON in the last row of a table that the newest generation lists."""
    where = "WHERE died IS NULL" if table == "segments" else ""
    with catalog_of(folder) as db:
        key, text = db.execute(f"SELECT rowid, {column} FROM {table} {where} ORDER BY rowid DESC LIMIT 1").fetchone()
        value = json.loads(text)
        changed = change(value)
        text = json.dumps(value if changed is None else changed)
        db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (text, key))
    seal(folder)


def a_segment(folder: Path, *, coded: bool = False) -> tuple[Path, int]:
    """The folder of a segment that the newest generation lists, and its rows; with codes, or the largest."""
    with catalog_of(folder) as db:
        like = "%codes.faiss%" if coded else "%"
        number, n_rows = db.execute(
            "SELECT segment_id, n_rows FROM segments WHERE died IS NULL AND files LIKE ? ORDER BY n_rows DESC", (like,)
        ).fetchone()
    return folder / "segments" / str(number), n_rows


def change_columns(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write the frame columns of a segment anew with some changed."""
    place, n_rows = a_segment(folder)
    columns = read_columns(place / "frames.arrow", n_rows)
    values = {name: np.array(getattr(columns, name)) for name in FrameColumns.__slots__ if name != "tags"}
    values["tags"] = columns.tags
    change(values)
    with (place / "frames.arrow").open("wb") as file:
        write_columns(file, FrameColumns(**values))
    rewrite(folder)


def change_table(folder: Path, change: Callable[[pa.Table], Any], **options: Any) -> None:
    """Write the frame columns of a segment anew as what becomes of them as a table: a table, or several batches."""
    place, _ = a_segment(folder)
    table = change(pa.ipc.open_file(pa.BufferReader((place / "frames.arrow").read_bytes())).read_all())
    with (place / "frames.arrow").open("wb") as file, pa.ipc.new_file(file, table.schema, **options) as writer:
        writer.write_table(table)
    rewrite(folder)


def patch_numbers(path: Path, old: int, new: int, *, most: int = 1000, last: bool = False) -> None:
    """Replace a number of 64 bits wherever it stands in a file, in its last fourth or in all of it."""
    content = path.read_bytes()
    start = 3 * len(content) // 4 if last else 0
    told = content[start:].replace(struct.pack("<q", old), struct.pack("<q", new), most)
    path.write_bytes(content[:start] + told)


def change_index(folder: Path, change: Callable[[faiss.Index], faiss.Index | None], *, keep_sums: bool = False) -> None:
    """Write a segment's codes anew after a change to the index, and the checksums of its lists."""
    place, _ = a_segment(folder, coded=True)
    index = faiss.read_index(str(place / "codes.faiss"))
    index = change(index) or index
    faiss.write_index(index, str(place / "codes.faiss"))
    if not keep_sums and hasattr(index, "invlists"):
        change_array(folder, place / "cells.npy", lambda cells: _set_sums(cells, index))
    rewrite(folder)


def _set_sums(cells: np.ndarray, index: faiss.IndexIVF) -> None:
    for i in range(min(len(cells), index.nlist)):
        size = index.invlists.list_size(i)
        ids = faiss.rev_swig_ptr(index.invlists.get_ids(i), size)
        codes = faiss.rev_swig_ptr(index.invlists.get_codes(i), size * index.code_size)
        cells["crc"][i] = zlib.crc32(codes, zlib.crc32(ids))


def change_array(folder: Path, path: Path, change: Callable[[np.ndarray], Any]) -> None:
    """Write an array anew after a change to it."""
    array = np.load(path)
    changed = change(array)
    np.save(path, array if changed is None else changed)
    rewrite(folder)


def first_of(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[-1]


def patch_bytes(folder: Path, path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content, (path, old)
    path.write_bytes(content.replace(old, new, 1))
    rewrite(folder)


# Frame columns


@hostile
def columns_that_claim_rows(folder: Path) -> None:
    """The columns claim 100,000 times their rows, in the message and in every column."""
    place, n_rows = a_segment(folder)
    patch_numbers(place / "frames.arrow", n_rows, n_rows * 100_000)
    rewrite(folder)


@hostile
def columns_and_a_manifest_that_claim_rows(folder: Path) -> None:
    """The manifest claims the rows as well."""
    place, n_rows = a_segment(folder)
    patch_numbers(place / "frames.arrow", n_rows, n_rows * 1000)
    with catalog_of(folder) as db:
        number = int(place.name)
        stats = json.loads(db.execute("SELECT stats FROM segments WHERE segment_id = ?", (number,)).fetchone()[0])
        stats["videos"] = {name: count * 1000 for name, count in stats["videos"].items()}
        db.execute(
            "UPDATE segments SET n_rows = n_rows * 1000, stats = ? WHERE segment_id = ?", (json.dumps(stats), number)
        )
    rewrite(folder)


@hostile
def columns_with_a_negative_length(folder: Path) -> None:
    """The columns have a negative number of rows."""
    place, n_rows = a_segment(folder)
    patch_numbers(place / "frames.arrow", n_rows, -n_rows)
    rewrite(folder)


@hostile
def columns_that_point_outside(folder: Path) -> None:
    """A buffer of the columns lies a terabyte behind the file."""
    place, n_rows = a_segment(folder)
    patch_numbers(place / "frames.arrow", n_rows * 8, 1 << 40)
    rewrite(folder)


@hostile
def columns_of_two_batches(folder: Path) -> None:
    """The columns come in two batches."""
    change_table(folder, lambda table: pa.concat_tables([table.slice(0, 3), table.slice(3)]))


@hostile
def columns_that_are_compressed(folder: Path) -> None:
    """The columns are compressed, so that little may become much."""
    change_table(folder, lambda table: table, options=pa.ipc.IpcWriteOptions(compression="zstd"))


@hostile
def columns_with_nulls(folder: Path) -> None:
    """A column has no values."""
    change_table(folder, lambda table: table.set_column(1, "video", pa.array([None] * table.num_rows, pa.int32())))


@hostile
def columns_of_a_dictionary(folder: Path) -> None:
    """A column is a dictionary."""
    change_table(
        folder, lambda table: table.set_column(1, "video", table.column(1).dictionary_encode().combine_chunks())
    )


@hostile
def columns_of_another_type(folder: Path) -> None:
    """The videos are texts."""
    change_table(folder, lambda table: table.set_column(1, "video", table.column(1).cast(pa.string())))


@hostile
def columns_of_another_width(folder: Path) -> None:
    """The cells are numbers of 64 bits."""
    change_table(folder, lambda table: table.set_column(6, "cell", table.column(6).cast(pa.int64())))


@hostile
def columns_with_the_same_name(folder: Path) -> None:
    """Two columns have one name."""
    change_table(folder, lambda table: table.append_column("cell", table.column(6)))


@hostile
def columns_that_are_nested(folder: Path) -> None:
    """A column is a list in a list, 60 deep."""

    def nest(table: pa.Table) -> pa.Table:
        kind = pa.int32()
        for _ in range(60):
            kind = pa.list_(kind)
        return table.append_column("tag:deep", pa.nulls(table.num_rows, kind))

    change_table(folder, nest)


@hostile
def columns_with_many_tags(folder: Path) -> None:
    """There are 30,000 tags."""

    def tag(table: pa.Table) -> pa.Table:
        flags = pa.array([True] * table.num_rows)
        names = [*table.column_names, *(f"tag:{i}" for i in range(30_000))]
        return pa.table([*table.columns, *[flags] * 30_000], names=names)

    change_table(folder, tag)


@hostile
def columns_with_many_blocks(folder: Path) -> None:
    """The footer lists a thousand batches, all the same one."""
    place, _ = a_segment(folder)
    path = place / "frames.arrow"
    content = path.read_bytes()
    n = int.from_bytes(content[-10:-6], "little")
    footer = bytearray(content[-10 - n : -10])
    at = footer.rfind(struct.pack("<I", 1))
    footer[at : at + 4] = struct.pack("<I", 1000)
    path.write_bytes(content[: -10 - n] + footer + content[-10:])
    rewrite(folder)


@hostile
def columns_of_unknown_videos(folder: Path) -> None:
    """The frames belong to videos that the catalog does not list."""
    change_columns(folder, lambda values: values.update(video=values["video"] + np.int32(1000)))


@hostile
def columns_out_of_their_cells(folder: Path) -> None:
    """The frames are in cells that there are not."""
    change_columns(folder, lambda values: values.update(cell=values["cell"] + np.int32(1 << 30)))


@hostile
def columns_in_negative_cells(folder: Path) -> None:
    """The frames are in cells below zero."""
    change_columns(folder, lambda values: values.update(cell=values["cell"] - np.int32(100)))


@hostile
def columns_that_are_not_sorted(folder: Path) -> None:
    """The frames are not sorted by video."""
    change_columns(folder, lambda values: values.update(video=values["video"][::-1].copy()))


@hostile
def columns_with_times_that_are_none(folder: Path) -> None:
    """Times are not numbers, or without an end."""
    times = np.array([np.nan, np.inf, -1.0])
    change_columns(folder, lambda values: values["seconds"].__setitem__(slice(3), times))


@hostile
def columns_of_no_calendar(folder: Path) -> None:
    """Frames were recorded in the year 200,000."""
    change_columns(folder, lambda values: values["captured_at"].__setitem__(slice(3), 1 << 62))


@hostile
def columns_with_other_frames(folder: Path) -> None:
    """The frames have other numbers than the catalog says."""
    change_columns(folder, lambda values: values.update(frame_id=values["frame_id"] + (1 << 40)))


@hostile
def columns_with_a_long_tag(folder: Path) -> None:
    """A tag has a million characters."""

    def tag(values: dict[str, Any]) -> None:
        n = len(values["video"])
        values["tags"] = Tags(("x" * 1_000_000,), np.full((1, (n + 7) // 8), 255, np.uint8), n)

    change_columns(folder, tag)


# Codes


@hostile
def codes_of_another_dimension(folder: Path) -> None:
    """The codes are of rows sixteen times as long, so that FAISS reads past the query."""

    def other(index: faiss.IndexIVF) -> faiss.Index:
        wide = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(DIM * 16),
            DIM * 16,
            index.nlist,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT,
            False,
        )
        wide.is_trained = True
        sizes = [index.invlists.list_size(i) for i in range(index.nlist)]
        keys = np.repeat(np.arange(index.nlist), sizes).astype(np.int64)
        rows, ids = np.ones((len(keys), DIM * 16), np.float32), np.arange(len(keys), dtype=np.int64)
        wide.add_core(len(keys), *(faiss.swig_ptr(each) for each in (rows, ids, keys)), None)
        faiss_kept.append((rows, ids, keys))
        return wide

    change_index(folder, other)


faiss_kept: list[object] = []


@hostile
def codes_in_another_file(folder: Path) -> None:
    """The lists lie in another file, which FAISS would map: any file of the server."""
    victim = folder.parent / f"{folder.name}-victim"
    victim.write_bytes(b"a secret of the server " * 4000)

    place, _ = a_segment(folder, coded=True)
    index = faiss.read_index(str(place / "codes.faiss"))
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(victim))
    index.replace_invlists(lists, False)
    faiss.write_index(index, str(place / "codes.faiss"))
    rewrite(folder)


@hostile
def codes_with_ids_out_of_range(folder: Path) -> None:
    """The ids of the lists are rows that there are not."""

    def shift(index: faiss.IndexIVF) -> None:
        for i in range(index.nlist):
            ids = faiss.rev_swig_ptr(index.invlists.get_ids(i), index.invlists.list_size(i))
            ids += 1 << 40

    change_index(folder, shift)


@hostile
def codes_with_negative_ids(folder: Path) -> None:
    """The ids of the lists are below zero."""

    def shift(index: faiss.IndexIVF) -> None:
        for i in range(index.nlist):
            faiss.rev_swig_ptr(index.invlists.get_ids(i), index.invlists.list_size(i))[:] = -7

    change_index(folder, shift)


@hostile
def codes_with_a_row_many_times(folder: Path) -> None:
    """Every id of a list is the same row."""

    def same(index: faiss.IndexIVF) -> None:
        for i in range(index.nlist):
            faiss.rev_swig_ptr(index.invlists.get_ids(i), index.invlists.list_size(i))[:] = 0

    change_index(folder, same)


@hostile
def codes_of_another_class(folder: Path) -> None:
    """The codes are a graph and no lists."""

    def graph(index: faiss.IndexIVF) -> faiss.Index:
        made = faiss.IndexHNSWFlat(DIM, 8)
        made.add(np.eye(DIM, dtype=np.float32))
        return made

    change_index(folder, graph)


@hostile
def codes_of_another_metric(folder: Path) -> None:
    """The codes are compared by distance."""
    change_index(folder, lambda index: setattr(index, "metric_type", faiss.METRIC_L2))


@hostile
def codes_of_residuals(folder: Path) -> None:
    """The codes are of residuals, of a quantizer that holds no centroids."""
    change_index(folder, lambda index: setattr(index, "by_residual", True))


@hostile
def codes_trained_on_nothing(folder: Path) -> None:
    """What the codec learned are no numbers."""
    change_index(
        folder,
        lambda index: faiss.copy_array_to_vector(np.full(2 * DIM, np.nan, np.float32), index.sq.trained),
    )


@hostile
def codes_with_too_little_trained(folder: Path) -> None:
    """What the codec learned is shorter than it reads."""
    change_index(folder, lambda index: faiss.copy_array_to_vector(np.zeros(1, np.float32), index.sq.trained))


@hostile
def codes_with_endless_lists(folder: Path) -> None:
    """A list claims to be of 2^40 rows."""
    place, _ = a_segment(folder, coded=True)
    content = (place / "codes.faiss").read_bytes()
    at = content.index(b"full") + 12
    (place / "codes.faiss").write_bytes(content[:at] + struct.pack("<Q", 1 << 40) + content[at + 8 :])
    rewrite(folder)


@hostile
def codes_with_many_lists(folder: Path) -> None:
    """The index claims to have 2^50 lists."""
    place, _ = a_segment(folder, coded=True)
    content = (place / "codes.faiss").read_bytes()
    at = content.index(b"ilar") + 4
    (place / "codes.faiss").write_bytes(content[:at] + struct.pack("<Q", 1 << 50) + content[at + 8 :])
    rewrite(folder)


@hostile
def codes_that_end_early(folder: Path) -> None:
    """The last rows of the codes are missing."""
    place, _ = a_segment(folder, coded=True)
    (place / "codes.faiss").write_bytes((place / "codes.faiss").read_bytes()[:-64])
    rewrite(folder)


@hostile
def codes_with_a_header_without_end(folder: Path) -> None:
    """The statistics say that the header of the codes is a terabyte."""
    place, _ = a_segment(folder, coded=True)
    with catalog_of(folder) as db:
        (text,) = db.execute("SELECT stats FROM segments WHERE segment_id = ?", (int(place.name),)).fetchone()
        stats = json.loads(text)
        stats["header"][0] = 1 << 40
        db.execute("UPDATE segments SET stats = ? WHERE segment_id = ?", (json.dumps(stats), int(place.name)))
    seal(folder)


# Arrays


def _arrays_of_every_kind() -> None:
    kinds = {
        "cells_of_a_segment": "segments/*/cells.npy",
        "vectors": "segments/*/vectors.npy",
        "centroids": "cells/*/centroids.npy",
        "trained": "cells/*/trained.npy",
        "spread": "cells/*/spread.npy",
        "query_metric": "cells/*/query_metric.npy",
        "routing_vectors": "routers/*/text_vectors.npy",
        "biases": "routers/*/text_biases.npy",
        "queries": "routers/*/text_queries.npy",
        "folds": "routers/*/text_fold.npy",
        "best": "routers/*/text_best.npy",
    }

    def path_of(folder: Path, pattern: str) -> Path:
        if pattern.startswith("segments"):
            return a_segment(folder)[0] / Path(pattern).name
        return first_of(folder, pattern)

    def add(name: str, told: str, pattern: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        def make(folder: Path) -> None:
            change_array(folder, path_of(folder, pattern), change)

        make.__name__, make.__doc__ = name, told
        hostile(make)

    def pickled(name: str, pattern: str) -> None:
        def make(folder: Path) -> None:
            path = path_of(folder, pattern)
            np.save(path, np.array([_Harm(str(folder.parent / "pickled"))], object), allow_pickle=True)
            rewrite(folder)

        make.__name__, make.__doc__ = f"{name}_as_objects", f"The array {name} holds objects, which a pickle makes."
        hostile(make)

    def headed(name: str, pattern: str, header: bytes, how: str) -> None:
        def make(folder: Path) -> None:
            path = path_of(folder, pattern)
            values = path.read_bytes()[-64:]
            path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + values)
            rewrite(folder)

        make.__name__, make.__doc__ = f"{name}_{how}", f"The header of the array {name} is {how.replace('_', ' ')}."
        hostile(make)

    changes: tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...] = (
        ("cut_short", "has lost its last row", lambda array: array[:-1]),
        ("longer", "is twice as long", lambda array: np.concatenate([array] * 2)),
        ("empty", "is empty", lambda array: array[:0]),
        ("as_texts", "holds texts", lambda array: np.full(array.shape, "x")),
        ("not_numbers", "holds what is not a number", lambda array: np.full_like(array, np.nan)),
    )
    for i, (name, pattern) in enumerate(kinds.items()):
        pickled(name, pattern)
        for j, (how, told, change) in enumerate(changes):
            # The best scores of a router are minus infinity where there is no row, and are only ever compared.
            if how == "not_numbers" and name in ("cells_of_a_segment", "folds", "best"):
                continue
            add(f"{name}_{how}", f"The array {name} {told}.", pattern, change)
            if i % len(changes) != j:
                THOROUGH.add(f"{name}_{how}")
        if i % 4:
            THOROUGH.add(f"{name}_as_objects")
    for name, pattern in (("centroids", kinds["centroids"]), ("vectors", kinds["vectors"])):
        add(f"{name}_by_column", f"The array {name} is stored by column.", pattern, np.asfortranarray)
        huge = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 8), }\n"
        headed(name, pattern, huge, "a_terabyte")
        headed(name, pattern, huge.replace(b"1099511627776", b"-5"), "negative")
        headed(name, pattern, b"(" * 9000 + b"\n", "nested")
    folds = kinds["folds"]
    add("folds_out_of_range", "A query is in a part that there is not.", folds, lambda a: np.full_like(a, 100))
    cells = kinds["cells_of_a_segment"]
    add("cells_out_of_range", "A segment lists cells beyond the last.", cells, lambda a: _with(a, "cell", 1 << 20))
    add("cells_negative", "A segment lists cells below zero.", cells, lambda a: _with(a, "cell", -1000))
    add("cells_without_rows", "A segment lists cells with no rows.", cells, lambda a: _with(a, "rows", -a["rows"]))
    add("cells_of_many_rows", "A segment lists more rows than it has.", cells, lambda a: _with(a, "rows", 1 << 50))


def _with(array: np.ndarray, field: str, add: Any) -> np.ndarray:
    array[field] += add
    return array


class _Harm:
    """What a pickle would make: a file, so that it shows."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


_arrays_of_every_kind()


@hostile
def vectors_without_end(folder: Path) -> None:
    """Stored rows hold infinity, with checksums that are right."""
    place, n_rows = a_segment(folder)
    vectors = np.full((n_rows, DIM), np.inf, np.float16)
    np.save(place / "vectors.npy", vectors)
    crc = np.array([zlib.crc32(row) for row in vectors], np.uint32)
    change_columns(folder, lambda values: values.update(row_crc=crc))


@hostile
def vectors_that_are_no_numbers(folder: Path) -> None:
    """Stored rows hold what is not a number, with checksums that are right."""
    place, n_rows = a_segment(folder)
    vectors = np.full((n_rows, DIM), np.nan, np.float16)
    np.save(place / "vectors.npy", vectors)
    crc = np.array([zlib.crc32(row) for row in vectors], np.uint32)
    change_columns(folder, lambda values: values.update(row_crc=crc))


# What the catalog lists


def _listed(name: str, told: str, table: str, column: str, change: Callable[[Any], Any]) -> None:
    def make(folder: Path) -> None:
        change_json(folder, table, column, change)

    make.__name__, make.__doc__ = name, told
    hostile(make)


def _sql(name: str, told: str, *statements: str, sealed: bool = True) -> None:
    def make(folder: Path) -> None:
        with catalog_of(folder) as db:
            for statement in statements:
                db.execute(statement)
        if sealed:
            seal(folder)

    make.__name__, make.__doc__ = name, told
    hostile(make)


for _name, _value in {
    "dim_of_a_billion": {"dim": 10**9},
    "dim_of_none": {"dim": None},
    "dim_as_text": {"dim": "8"},
    "dim_as_truth": {"dim": True},
    "negative_shards": {"n_shards": -1},
    "shards_without_number": {"n_shards": 1e300},
    "negative_cells": {"n_cells": -4},
    "many_cells": {"n_cells": 10**12},
    "unknown_codec": {"codec": "sq1"},
    "codec_as_list": {"codec": []},
    "unknown_metric": {"metric": "cosine"},
    "unknown_placement": {"placement": "nowhere"},
    "unknown_setting": {"extra": 1},
    "options_of_text": {"options": "minutes"},
    "unknown_options": {"options": {"x": 1}},
    "encoder_as_number": {"encoder": 7},
    "encoder_of_a_megabyte": {"encoder": "x" * 1_000_000},
}.items():
    _listed(
        f"settings_{_name}",
        "A setting is not one that can be.",
        "generations",
        "settings",
        lambda s, v=_value: s.update(v),
    )
_listed("settings_that_lack_one", "A setting is missing.", "generations", "settings", lambda s: s.pop("dim") and None)
_listed("settings_of_a_list", "The settings are a list.", "generations", "settings", lambda s: [s])
_sql(
    "settings_too_deep",
    "The settings are lists in lists, 100,000 deep.",
    "UPDATE generations SET settings = replace(hex(zeroblob(50000)), '0', '[')",
)

for _name, _value in {
    "no_videos": {"videos": {}},
    "videos_of_text": {"videos": "x"},
    "videos_not_numbered": {"videos": {"x": 3}},
    "videos_of_long_numbers": {"videos": {"9" * 5000: 3}},
    "negative_videos": {"videos": {"1": -3}},
    "seconds_of_none": {"seconds": None},
    "seconds_not_numbers": {"seconds": [float("nan"), 1.0]},
    "captured_of_text": {"captured": ["a", "b"]},
    "captured_of_no_calendar": {"captured": [0, 1 << 70]},
    "hours_of_no_day": {"hours": [99]},
    "hours_of_text": {"hours": "12"},
    "tags_of_a_list": {"tags": ["a"]},
    "tags_with_text_counts": {"tags": {"a": "many"}},
    "many_tags": {"tags": {str(i): 1 for i in range(50_000)}},
    "frame_ids_backwards": {"frame_ids": [10, 1]},
    "frame_ids_of_one": {"frame_ids": [1]},
    "frame_ids_beyond_the_counter": {"frame_ids": [0, 1 << 50]},
    "no_cells": {"n_cells": 0},
    "drift_of_text": {"drift": "far"},
    "drift_without_end": {"drift": float("inf")},
}.items():
    _listed(
        f"stats_{_name}", "The statistics of a segment cannot be.", "segments", "stats", lambda s, v=_value: s.update(v)
    )
_listed(
    "stats_that_lack_tags",
    "The statistics of a segment lack a part.",
    "segments",
    "stats",
    lambda s: s.pop("tags") and None,
)
_listed("stats_of_a_number", "The statistics of a segment are a number.", "segments", "stats", lambda s: 7)

_listed(
    "files_elsewhere",
    "A segment lists a file outside of it.",
    "segments",
    "files",
    lambda f: f.update({"../../../x": "0" * 32}),
)
_listed("files_missing", "A segment lists no vectors.", "segments", "files", lambda f: f.pop("vectors.npy") and None)
_listed(
    "files_without_hash",
    "A segment lists a file with no hash.",
    "segments",
    "files",
    lambda f: f.update({"vectors.npy": None}),
)
_listed(
    "cells_files_elsewhere",
    "The cells list a file outside.",
    "cells",
    "files",
    lambda f: f.update({"../x.npy": "0" * 32}),
)
_listed(
    "router_files_missing",
    "The router lists no vectors.",
    "routers",
    "files",
    lambda f: f.pop("text_vectors.npy") and None,
)

for _name, _value in {
    "source_of_a_number": {"source": 7},
    "texts_negative": {"n_texts": -5},
    "texts_too_many": {"n_texts": 10**9},
    "next_frame_of_text": {"next_frame": "x"},
    "no_frames": {"n_frames": None},
    "calibration_of_text": {"calibration": "x"},
    "calibration_empty": {"calibration": {}},
    "calibration_without_points": {
        "calibration": {
            "n_frames": 5,
            "curves": [{"kind": "text", "k": 10, "temperature": 1.0, "n_judges": 3, "points": []}],
        }
    },
    "calibration_of_no_temperature": {
        "calibration": {
            "n_frames": 5,
            "curves": [
                {
                    "kind": "text",
                    "k": 10,
                    "temperature": 0,
                    "n_judges": 3,
                    "points": [
                        {"recall": 0.9, "n_groups": 1, "threshold": -1.0, "n_probe": 1, "scored": 1, "scanned": 1}
                    ],
                }
            ],
        }
    },
}.items():
    _listed(
        f"router_{_name}",
        "What the router says of itself cannot be.",
        "routers",
        "about",
        lambda a, v=_value: a.update(v),
    )

for _name, _value in {
    "without_parts": {},
    "many_shards": {"n_shards": 10**9},
    "shards_of_text": {"n_shards": "three"},
    "cells_in_no_shard": {"n_shards": 3, "shard_of_cell": [99] * 8},
    "cells_in_negative_shards": {"n_shards": 3, "shard_of_cell": [-1] * 8},
    "cells_of_text": {"n_shards": 3, "shard_of_cell": "x"},
    "too_few_cells": {"n_shards": 3, "shard_of_cell": [0]},
}.items():
    _listed(f"layout_{_name}", "The layout cannot be.", "layouts", "state", lambda s, v=_value: v)
_sql("layout_unknown", "The layout is of a placement that there is not.", "UPDATE layouts SET placement = 'os.system'")
_sql(
    "layout_of_no_hours",
    "The layout has hours that no day has.",
    """UPDATE layouts SET placement = 'time_of_day', state = '{"hours": [["a", [99]], ["b", [-7]]]}'""",
)
_sql(
    "layout_of_no_minutes",
    "The layout has chunks of no length.",
    """UPDATE layouts SET placement = 'timeline', state = '{"n_shards": 3, "minutes": 0}'""",
)
_listed(
    "names_without_number",
    "There are 300,000 shards.",
    "layouts",
    "names",
    lambda n: [str(i) for i in range(300_000)],
)
_listed("names_that_are_numbers", "Shards are called by numbers.", "layouts", "names", lambda n: [1, 2, 3])
_listed("names_that_are_the_same", "Shards have one name.", "layouts", "names", lambda n: ["x"] * len(n))
_listed("names_of_none", "There is no shard.", "layouts", "names", lambda n: [])

_sql("shard_that_there_is_not", "A segment is in shard 10^9.", "UPDATE segments SET shard = 1000000000")
_sql("shard_negative", "A segment is in shard -1.", "UPDATE segments SET shard = -1")
_sql("rows_negative", "A segment has a negative number of rows.", "UPDATE segments SET n_rows = -n_rows")
_sql("rows_without_number", "A segment has 2^60 rows.", f"UPDATE segments SET n_rows = {1 << 60}")
_sql("rows_of_text", "A segment has rows that are a text.", "UPDATE segments SET n_rows = 'many'")
_sql("time_of_text", "A segment was written yesterday.", "UPDATE segments SET written_at = 'yesterday'")
_sql(
    "time_with_a_zone",
    "A segment was written in a time zone.",
    "UPDATE segments SET written_at = '2024-05-01T10:00:00+00:00'",
)
_sql("delete_negative", "A delete starts below zero.", "UPDATE deletes SET start = -5")
_sql("delete_backwards", "A delete ends before it starts.", "UPDATE deletes SET stop = start - 1")
_sql("delete_beyond", "A delete goes on to row 2^60.", f"UPDATE deletes SET stop = {1 << 60}")
_sql("delete_of_text", "A delete is of text.", "UPDATE deletes SET stop = 'end'")
_sql("deletes_gone", "Frames of a deleted video are not deleted.", "DELETE FROM deletes")
_sql(
    "deletes_of_the_living",
    "Frames of a listed video are deleted.",
    "INSERT OR IGNORE INTO deletes SELECT segment_id, 0, n_rows, born FROM segments WHERE died IS NULL",
)
_sql("video_of_text", "The length of a video is a text.", "UPDATE videos SET duration = 'long'")
_sql("video_of_bytes", "The title of a video are bytes.", "UPDATE videos SET title = x'00ff00'")
_sql("video_without_end", "A video is without an end.", "UPDATE videos SET duration = 9e999")
_sql(
    "video_of_a_long_title",
    "A title has 20 million characters.",
    "UPDATE videos SET title = hex(zeroblob(10000000)) WHERE number = 5",
)
_sql("video_about_a_list", "What is known about a video is a list.", "UPDATE videos SET about = '[1, 2]'")
_sql(
    "video_about_numbers",
    "What is known about a video are numbers.",
    """UPDATE videos SET about = '{"watch_url": 7}'""",
)
_sql("video_recorded_never", "A video was recorded never.", "UPDATE videos SET captured_at = 'never'")
_sql(
    "video_recorded_in_a_zone",
    "A video was recorded in a time zone.",
    "UPDATE videos SET captured_at = '2024-05-01T10:00:00+00:00'",
)
_sql(
    "video_of_no_text",
    "The name of a video is no UTF-8.",
    "UPDATE videos SET video_id = CAST(x'fffe80' AS TEXT) WHERE number = 5",
)
_sql("videos_gone", "The catalog lists no video.", "DELETE FROM videos")
_sql(
    "counter_low",
    "The next segment takes the place of one that there is.",
    "UPDATE counters SET value = 1 WHERE name = 'segment'",
)
_sql(
    "counter_low_for_frames",
    "The next frame has the number of one that there is.",
    "UPDATE counters SET value = 0 WHERE name = 'frame'",
)
_sql(
    "counter_huge",
    "The next video has a number beyond 32 bits.",
    f"UPDATE counters SET value = {1 << 62} WHERE name = 'video'",
)
_sql("counter_of_text", "A counter is a text.", "UPDATE counters SET value = 'x' WHERE name = 'video'")
_sql("counter_missing", "A counter is missing.", "DELETE FROM counters WHERE name = 'video'")
_sql(
    "counters_without_number",
    "There are 100,000 counters.",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) INSERT INTO counters SELECT 'x' || i, i FROM n",
)
_sql(
    "generation_negative",
    "The newest generation is below zero.",
    "DELETE FROM generations WHERE generation < (SELECT max(generation) FROM generations)",
    "UPDATE generations SET generation = -5",
    "UPDATE counters SET value = -5 WHERE name = 'generation'",
)
_sql(
    "generations_without_number",
    "There are 100,000 generations.",
    "WITH RECURSIVE n(i) AS (SELECT -100000 UNION ALL SELECT i + 1 FROM n WHERE i < 0) INSERT OR IGNORE INTO generations "
    "SELECT i, settings, layout_id, cells_id, router_id, what, at, manifest FROM generations, n WHERE generation = "
    "(SELECT max(generation) FROM generations)",
)
_sql("layout_gone", "The layout is missing.", "DELETE FROM layouts")
_sql("cells_gone", "The cells are missing.", "DELETE FROM cells")


# The catalog as a database

_schema = partial(_sql, sealed=False)

_schema(
    "endless_view",
    "A view without an end is called like a table.",
    "DROP TABLE deletes",
    "CREATE VIEW deletes AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i AS segment_id, i AS start, i AS stop, i AS born FROM n",
)
_schema(
    "trigger_that_deletes",
    "A trigger empties the collection inside our own commit.",
    "CREATE TRIGGER t AFTER INSERT ON generations BEGIN UPDATE segments SET died = 1; END",
)
_schema("foreign_table", "There is a table more.", "CREATE TABLE more (a)")
_schema(
    "generated_column",
    "A column of a table is worked out when it is read.",
    "ALTER TABLE videos ADD COLUMN more TEXT GENERATED ALWAYS AS (hex(zeroblob(number))) VIRTUAL",
)
_schema("index_on_an_expression", "An index works something out.", "CREATE INDEX more ON videos (hex(title))")
_schema(
    "many_tables",
    "There are 20,000 tables.",
    "PRAGMA writable_schema = ON",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO sqlite_master "
    "SELECT 'table', 't' || i, 't' || i, 2, 'CREATE TABLE t' || i || ' (a)' FROM n",
)
_schema(
    "long_schema",
    "The text of a table has 10 million characters.",
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_master SET sql = sql || ' /*' || hex(zeroblob(5000000)) || '*/' WHERE name = 'videos'",
)
_schema(
    "tables_in_one_place",
    "Two tables lie on the same page.",
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'layouts') WHERE name = 'cells'",
)
_schema("write_ahead_log", "The catalog keeps a write-ahead log.", "PRAGMA journal_mode = WAL")


@hostile
def planted_log(folder: Path) -> None:
    """A write-ahead log lies beside the catalog."""
    (folder / "catalog.sqlite-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(2000))


@hostile
def journal_that_names_a_file(folder: Path) -> None:
    """A journal beside the catalog names another file, which SQLite would remove."""
    victim = folder.parent / f"{folder.name}-victim"
    victim.write_bytes(b"precious")
    name = str(victim.resolve()).encode()
    magic = bytes.fromhex("d9d505f920a163d7")
    with catalog_of(folder) as db:
        (size,), (pages,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "page_count"))
    head = magic + struct.pack(">IIIII", 0, 7, pages, 512, size)
    # Behind the pages stand the page that no database has, the name, its length, its sum, and the magic.
    tail = struct.pack(">I", 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    (folder / "catalog.sqlite-journal").write_bytes(head + bytes(512 - len(head)) + tail)


@hostile
def pages_in_a_ring(folder: Path) -> None:
    """Every page of the table of videos leads to the same pages again, so that its rows have no end."""
    with catalog_of(folder) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'videos'").fetchone()
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    path = folder / "catalog.sqlite"
    content = bytearray(path.read_bytes())
    leaf = bytes(content[(root - 1) * size : root * size])
    levels = 12
    numbers = [root, *range(pages + 1, pages + levels + 1)]
    content += bytes(levels * size)
    content[28:32] = struct.pack(">I", pages + levels)
    for above, below in pairwise(numbers):
        cells = (size - 12) // 7 - 1
        at = size - 5 * cells
        page = bytearray(size)
        page[:12] = struct.pack(">BHHHBI", 5, 0, cells, at, 0, below)
        for i in range(cells):
            page[12 + 2 * i : 14 + 2 * i] = struct.pack(">H", at + 5 * i)
            page[at + 5 * i : at + 5 * i + 5] = struct.pack(">IB", below, 1 + i % 100)
        content[(above - 1) * size : above * size] = page
    content[(numbers[-1] - 1) * size : numbers[-1] * size] = leaf
    path.write_bytes(content)


# What else lies in the folder


@hostile
def past_queries_of_nothing(folder: Path) -> None:
    """Past queries are no numbers, and not whole."""
    (folder / "past-queries.f16").write_bytes(np.full(DIM * 3 + 1, np.nan, "<f2").tobytes() + b"x")


@hostile
def clips_with_notes_of_anything(folder: Path) -> None:
    """The notes beside clips are lists, and too deep."""
    (folder / "clips").mkdir(exist_ok=True)
    for i, text in enumerate(("[" * 100_000, "[1]", '{"nbytes": 1, "x": 2}', "null")):
        (folder / "clips" / f"{i}.mp4").write_bytes(b"x")
        (folder / "clips" / f"{i}.json").write_text(text)


@hostile
def ladder_that_leads_outside(folder: Path) -> None:
    """What was tried names files outside of the collection."""
    for n in (2, 4, 16, 32):
        place = folder / "ladder" / str(n)
        place.mkdir(parents=True)
        (place / "about.json").write_text(json.dumps({"fits": "x", "files": {"../../../../etc/passwd": "x"}}))


# Using it


def _export(collection: Collection) -> int:
    with tempfile.TemporaryDirectory() as place:
        return collection.export(Path(place, "v.npy"), Path(place, "f.csv"))


USES: dict[str, tuple[str, Callable[[Collection], object]]] = {
    "stats": ("loaded", lambda c: c.stats()),
    "check": ("loaded", lambda c: c.check()),
    "videos": ("loaded", lambda c: (c.videos(), c.tags(), c.recordings(), c.tag_shares())),
    "shards": ("loaded", lambda c: [c.shard(i) for i in range(len(c.stats().shards))]),
    "exact": ("loaded", lambda c: c.search_many(QUERIES, 30, exact=True)),
    "routed": ("loaded", lambda c: c.search_many(QUERIES, 30, n_probe=3)),
    "wide": ("loaded", lambda c: c.search_many(QUERIES, 300, n_probe=100)),
    "usual": ("loaded", lambda c: c.search(QUERIES[0], 10)),
    "filtered": ("loaded", lambda c: c.search(QUERIES[0], 10, where=Filter(tags_any=("object:cat",), seconds=(2, 40)))),
    "mapped": ("mapped", lambda c: c.search_many(QUERIES, 300, n_probe=100)),
    "frames": (
        "loaded",
        lambda c: [c.neighbours(i) and c.vector(i) for i in c.some_frames(5, np.random.default_rng(0))],
    ),
    "past queries": ("loaded", lambda c: past_queries(c.path, c.settings.dim)),
    "export": ("loaded", _export),
    "delete": ("loaded", lambda c: c.delete("v2")),
    "add": ("loaded", lambda c: c.add(*make_video(77, 9))),
    "compact": ("loaded", lambda c: c.compact()),
    "reshard": ("loaded", lambda c: c.reshard(n_shards=2)),
    "build": ("loaded", lambda c: c.build(queries=BANK, n_cells=6)),
}
"""Uses by name, with the residency of codes; those that write come last."""


QUICK = ("stats", "check", "exact", "wide", "mapped", "frames", "delete", "add")
"""Uses that take little time, and reach every file."""


def outcomes(folder: Path, uses: Sequence[str] = tuple(USES)) -> dict[str, str]:
    """What each use of a collection comes to: `answered`, `refused: ...`, or `raised: ...`, which must not be.

    Where it cannot be opened at all, that is the one outcome.
    """
    found = {}
    for name in uses:
        residency, use = USES[name]
        try:
            with Collection.open(folder, residency=residency) as collection:  # type: ignore[arg-type]
                told = use(collection)
        except EngineError as error:
            found[name] = (
                f"refused: {error}" if one_sentence(error) and len(str(error)) < 1000 else f"raised: {error!r}"
            )
        except BaseException:
            found[name] = f"raised: {traceback.format_exc()}"
        else:
            found[name] = "answered"
            if name == "check" and told:
                found[name] = f"refused: {told[0]}"  # type: ignore[index]
        if name == "stats" and found[name].startswith("refused: The catalog"):
            return {"open": found[name]}
    return found


def main() -> None:
    """Use the collections whose folders come in as lines of JSON with the uses; a line of JSON goes out for each."""
    for line in sys.stdin:
        folder, uses = json.loads(line)
        print(json.dumps(outcomes(Path(folder), uses)), flush=True)


class Victim:
    """Uses hostile collections in a process of its own, so that a signal or an endless loop is an outcome as well."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None

    def use(self, folder: Path, uses: Sequence[str] = tuple(USES)) -> dict[str, str]:
        """The `outcomes` of a collection."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), list(uses)]) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], self._seconds)
        line = self._process.stdout.readline() if ready else ""
        if line:
            found: dict[str, str] = json.loads(line)
            return found
        died = self._process.poll() if ready else "no end"
        self.close()
        return {"process": f"raised: {died}"}

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


if __name__ == "__main__":
    main()
