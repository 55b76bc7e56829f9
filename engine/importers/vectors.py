"""Vectors that any model made, with a table of the frames they stand for, into a collection."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.frames import NO_TIME, FrameTable, statistics
from engine.importers.parts import Paths, VectorParts, read_parts
from engine.importers.report import ImportReport, Triage
from engine.layout import alike
from engine.storage import Writer
from engine.system import Progress, no_progress, part_of
from engine.types import FrameBatch, NewVideo
from engine.vectors import check_rows

ROWS_PER_BATCH = 16_384
"""Rows read from the vectors at a time."""
_READ, _STORED = 0.2, 0.6
"""Shares of the time after which everything has been looked at, and stored."""


def import_table(
    collection: Collection, vectors: Paths, frames: Paths, *, build: bool = True, progress: Progress = no_progress
) -> ImportReport:
    """Store vectors with the table of their frames: all new videos or, on an error, none.

    A video that is in already with the same vectors, frame indices and times is skipped, so a repeated import costs one
    reading of the file. Its tags, titles and recording times stay as they are; `Collection.update` changes them.

    Parameters
    ----------
    vectors : .npy file, (n, dim) float16, float32 or float64; read in steps, so it may be larger than memory. Or several part
        files, or a folder of them, see `read_parts`; a video that goes on in the next part is one video
    frames : Parquet, Arrow or CSV file of n rows, row i for row i of the vectors, see `read_table`. Columns video_id
        (text), frame_index (whole number from 0), seconds (from the start of the video); optional captured_at (local
        time without a zone), shot (whole number), tags (list of texts, or one text, see `tags_from_text`), title, and
        about:NAME for any other text about a video. Rows may come in any order, and those that repeat a frame are kept;
        frame ids follow the rows. Or several part files, or a folder of them
    build : build at the end if the collection has not been built yet

    Raises
    ------
    ValueError
        In one sentence, if a file is not what was expected or a row cannot be stored. Nothing is stored then.
    Busy
        If somebody else is writing.
    """
    triage = Triage(collection)
    rows, table = read_parts(vectors, frames)
    settings = collection.settings
    if not len(rows):
        raise ValueError(f"{rows.name} has no rows, so there is nothing to import.")
    if rows.dim != settings.dim:
        raise ValueError(f"{rows.name} has rows of {rows.dim} numbers; this collection stores {settings.dim}.")
    with triage as writer:
        prints = _fingerprints(rows, table, settings.metric, settings.store, part_of(progress, 0.0, _READ))
        videos = _videos(table, prints)
        chosen = [i for i, video in enumerate(videos) if triage.is_new(video, why_taken=_why_taken)]
        place = np.full(len(videos), -1, np.int32)
        place[chosen] = np.arange(len(chosen), dtype=np.int32)
        if chosen:
            new = [videos[i] for i in chosen]
            writer.store(new, _batches(rows, table, place, part_of(progress, _READ, _STORED)))
            triage.add(new, int((place[table.video] >= 0).sum()))
        notes = [*_notes(table.unknown), *_differences(writer, table, triage.skipped)]
        triage.settle(build=build, progress=part_of(progress, _STORED, 1.0))
    progress("done", 1.0, 1.0)
    return triage.report(notes)


def _differences(writer: Writer, table: FrameTable, skipped: Sequence[str]) -> list[str]:
    """A sentence if the table says other things of videos that were in already than is stored."""
    differing: set[str] = set()
    if skipped:
        with suppress(ValueError):  # It says no more than was stored, or several things of one frame.
            differing.update(writer.differing(table))
    n = len(differing.intersection(skipped))
    if not n:
        return []
    return [
        f"{n:,} of the videos that were in already have other titles, tags, shots, times or texts in the table, which was not taken over; "
        "update the collection by the table for that."
    ]


def _why_taken(video_id: str) -> str:
    return (
        f"A video called {video_id!r} with other content (vectors, frame indices or times) is stored already; delete it first or give this one "
        "another name. If this is another part of it, delete it and import all parts at once."
    )


def _fingerprints(rows: VectorParts, table: FrameTable, metric: str, store: str, progress: Progress) -> list[str]:
    """A hash per video over its rows as given, frame indices and times; checks every row on the way."""
    digests = [hashlib.blake2b(rows.dtype.str.encode(), digest_size=16) for _ in table.video_ids]
    for start, batch, path, first in rows.blocks(ROWS_PER_BATCH):
        progress("reading vectors", start, len(rows))
        check_rows(batch, metric, store, str(path), first)
        video = table.video[start : start + len(batch)]
        for of_video in alike(video):
            digests[video[of_video[0]]].update(np.ascontiguousarray(batch[of_video]).reshape(-1).view(np.uint8).data)
    # The columns follow the vectors in one piece, so that a hash does not depend on where the batches end.
    for of_video in alike(table.video):
        for column in (table.frame_index, table.seconds):
            digests[table.video[of_video[0]]].update(column[of_video].view(np.uint8).data)
    return [digest.hexdigest() for digest in digests]


def _videos(table: FrameTable, prints: Sequence[str]) -> list[NewVideo]:
    starts: dict[int, int] = {}
    if table.captured_at is not None:
        known = np.flatnonzero(table.captured_at != NO_TIME)
        numbers, first = np.unique(table.video[known], return_index=True)
        rows = known[first]
        start = table.captured_at[rows] - np.rint(table.seconds[rows] * 1e6).astype(np.int64)
        starts = dict(zip(numbers.tolist(), start.tolist(), strict=True))
    return [
        NewVideo(
            video_id,
            title=table.titles[i],
            captured_at=statistics.wall_clock(starts.get(i, NO_TIME)),
            fingerprint=prints[i],
            about=table.facts[i],
        )
        for i, video_id in enumerate(table.video_ids)
    ]


def _batches(
    rows: VectorParts, table: FrameTable, place: NDArray[np.int32], progress: Progress
) -> Iterator[FrameBatch]:
    """The frames of those videos that have a place, in the order of the table."""
    captured = None if table.captured_at is None else table.captured_at.view("datetime64[us]")
    if captured is None:
        captured = np.full(len(table), "NaT", "datetime64[us]")
    for start, batch, _, _ in rows.blocks(ROWS_PER_BATCH):
        progress("storing frames", start, len(rows))
        video = place[table.video[start : start + len(batch)]]
        chosen = np.flatnonzero(video >= 0)
        at = start + chosen
        yield FrameBatch(
            vectors=batch[chosen],
            frame_index=table.frame_index[at],
            seconds=table.seconds[at],
            video=video[chosen],
            captured_at=captured[at],
            shot=None if table.shot is None else table.shot[at],
            tags=table.tags(at) if len(at) else (),
        )


def _notes(unknown: Sequence[str]) -> tuple[str, ...]:
    if not unknown:
        return ()
    return (f"The table has columns that mean nothing here and were left out: {', '.join(unknown)}.",)
