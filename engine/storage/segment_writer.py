"""Writing the files of a segment, in bounded steps; `segment` says which there are."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.frames import FrameColumns, statistics, write_columns
from engine.storage.manifest import SegmentRow
from engine.storage.segment import CELL, STEP, Stored, header, row_checksums
from engine.system import file_hash, save_array, sync_folder, synced, write_header
from engine.vectors import Cells, Codec, Floats, ListsWriter, Metric, check_values, clipped_share, occupied_cells

_SAMPLED = 2000
"""Rows of a segment from which the fit of cells and codec is judged."""
_TINY = 1e-12


def write_segment(
    folder: Path,
    segment_id: int,
    shard: int,
    columns: FrameColumns,
    stored: Stored,
    cells: Cells | None,
    codec: str,
    metric: Metric,
    at: datetime,
    *,
    coded: bool,
    codes_only: bool = False,
) -> SegmentRow:
    """Write and sync the files of one segment; the catalog makes them count. Vectors pass through in bounded steps.

    Parameters
    ----------
    columns : of n frames, n at least 1, in any order; `row_crc` must be right, and `cell` too if `cells` is given
    stored : gives the vectors of the frames at these positions of `columns`, in the stored type
    cells : None before the first build, when everything is scanned
    coded : whether the rows get codes, where there are cells; see `Limits.coded`
    codes_only : whether they are kept as codes and nothing else; they must be coded, then

    Raises
    ------
    ValueError
        If there are cells, and a value is too large for the codec.
    """
    order = np.lexsort((columns.frame_id, columns.frame_index, columns.video))
    columns = columns.take(order)
    occupied, counts = occupied_cells(columns.cell)
    first = stored(order[:1])
    dim = first.shape[1]
    lists = None
    if cells is not None and coded:
        lists = ListsWriter(dim, occupied, codec, cells.trained, metric)
    folder.mkdir(parents=True)
    seen = []
    code_of = Codec(codec, dim, cells.trained) if codes_only and cells is not None else None
    row_crc = columns.row_crc.copy()
    with nullcontext() if code_of else synced(folder / "vectors.npy") as file:
        if file is not None:
            write_header(file, (len(columns), dim), first.dtype)
        for start in range(0, len(columns), STEP):
            rows = stored(order[start : start + STEP])
            if cells is not None:  # Even without codes: the same rows get some once the collection has grown.
                check_values(rows, codec)
            if file is not None:
                file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
            if code_of is not None:
                row_crc[start : start + STEP] = row_checksums(code_of.encode(rows.astype(np.float32)))
            if lists is not None:
                lists.add(rows.astype(np.float32), columns.cell[start : start + STEP])
            seen.append(_sample(rows, columns.cell[start : start + STEP], len(columns)))
    with synced(folder / "frames.arrow") as file:
        write_columns(file, columns.with_values(row_crc=row_crc))
    described = statistics.segment_statistics(columns)
    table = np.zeros(len(occupied), CELL)
    table["cell"], table["rows"] = occupied, counts
    if lists is not None:
        path = folder / "codes.faiss"
        table["crc"] = lists.write(path)
        described["header"] = header(path, lists.header_nbytes(path))
    if cells is not None:
        described |= _fit(seen, cells, codec)
    save_array(folder / "cells.npy", table)
    sync_folder(folder)
    sync_folder(folder.parent)
    files = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    return SegmentRow(segment_id, shard, len(columns), files, described, at)


def _sample(rows: NDArray[np.floating], cell: NDArray[np.int32], n: int) -> tuple[Floats, NDArray[np.int32]]:
    step = -(-n // _SAMPLED)
    return rows[::step].astype(np.float32), cell[::step]


def _fit(seen: list[tuple[Floats, NDArray[np.int32]]], cells: Cells, codec: str) -> dict[str, float]:
    """How well cells and codec fit these rows.

    `drift` is the mean squared distance to the own centroid, in that of the rows which trained the same cells; `clipped` the
    share of values beyond the codec's range.
    """
    rows, cell = np.concatenate([rows for rows, _ in seen]), np.concatenate([cell for _, cell in seen])
    return {
        "drift": float(cells.distances(rows, cell).mean() / max(cells.spread[cell].mean(), _TINY)),
        "clipped": clipped_share(rows, codec, cells.trained),
    }
