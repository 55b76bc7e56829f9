"""Frames out of a collection: their vectors as one array, and what is known of them as a table beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.frames import EXPORTED, TableWriter, table_ending
from engine.storage.gather import GATHER_STEP, Gathered
from engine.storage.snapshot import Snapshot
from engine.system import storage_errors, sync_folder, synced, write_header


def export_frames(snapshot: Snapshot, vectors: Path, frames: Path) -> int:
    """Write the live frames in input order; returns how many there are.

    What is known of a video besides its title, such as its file and its links, does not go along.

    Parameters
    ----------
    vectors : .npy file to be, (n, dim) as stored: float16 or float32, and normalised for `ip`; where only codes are kept, what these stand for as float16
    frames : table to be, by its ending Parquet, Arrow or CSV: frame_id, video_id, frame_index, seconds, captured_at, shot,
        tags and title; row i belongs to row i of the vectors

    Raises
    ------
    ValueError
        If a file is there already, a name does not fit, or there are no frames. Nothing is written then.
    CorruptData
        If a stored row is not what was written; neither file appears.
    StorageFull
        If there is no room; neither file appears.
    """
    table_ending(frames, EXPORTED)
    if vectors.suffix != ".npy":
        raise ValueError(f"{vectors} is not named like an array; give a file that ends in .npy.")
    for path in (vectors, frames):
        if path.exists():
            raise ValueError(f"{path} is there already and is not overwritten; remove it or give another name.")
        if not path.parent.is_dir():
            raise ValueError(f"There is no folder {path.parent} to write {path.name} to; make it first.")
    if not snapshot.n_live:
        raise ValueError("The collection holds no frames, so there is nothing to export.")
    # The endings stay, so that a leftover of a crash is known for what it is.
    parts = [path.with_name(f".part-{path.name}") for path in (vectors, frames)]
    try:
        with storage_errors("the export"):
            for part in parts:
                part.unlink(missing_ok=True)
            n = _write(snapshot, parts[0], parts[1])
            parts[0].rename(vectors)
            try:
                parts[1].rename(frames)
            except BaseException:
                vectors.unlink()
                raise
            for folder in {vectors.parent, frames.parent}:
                sync_folder(folder)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return n


def _write(snapshot: Snapshot, vectors: Path, frames: Path) -> int:
    gathered = Gathered.of([view for view in snapshot.views() if view.n_live])
    order = np.argsort(gathered.columns.frame_id)
    dtype = np.dtype(np.float32 if snapshot.settings.store == "fp32" else np.float16)
    with synced(vectors) as array, synced(frames) as file, TableWriter(file, frames.suffix) as table:
        write_header(array, (len(order), snapshot.settings.dim), dtype)
        for start in range(0, len(order), GATHER_STEP):
            rows = order[start : start + GATHER_STEP]
            array.write(np.ascontiguousarray(gathered.stored(rows), dtype).reshape(-1).view(np.uint8).data)
            columns = gathered.columns.take(rows)
            videos = [snapshot.videos[number] for number in columns.video.tolist()]
            table.write(columns, [video.video_id for video in videos], [video.title for video in videos])
    return len(order)
