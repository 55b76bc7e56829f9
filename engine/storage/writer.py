"""The one writer of a collection: store videos, update them, delete them. Each is one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import CollectionError, DuplicateVideo, NotFound, ResourceExhausted
from engine.frames import FrameColumns, FrameTable, TagChange
from engine.layout import make_placement
from engine.storage.catalog import Catalog
from engine.storage.generations import Generations
from engine.storage.maintenance import Maintenance
from engine.storage.manifest import DeleteRow
from engine.storage.next_generation import NextGeneration, vectors_of
from engine.storage.rows import Fingerprint, prepare_rows
from engine.storage.snapshot import Snapshot
from engine.storage.staging import Staging
from engine.storage.update import Update, UpdateReport
from engine.system import Progress, Trust, excerpt, no_progress, storage_errors
from engine.types import FrameBatch, NewVideo


class Writer:
    """Stores, updates and deletes videos; there is one at a time, which holds the writer's lock."""

    def __init__(self, path: Path, catalog: Catalog, generations: Generations, trust: Trust) -> None:
        """Take the collection's folder and parts.

        Parameters
        ----------
        trust : where it is noted which films and pictures the owner names
        """
        self.maintenance = Maintenance(path, catalog, generations)
        """What else the holder of the lock may do."""
        self._path = path
        self._catalog = catalog
        self._generations = generations
        self._trust = trust

    def add(self, video: NewVideo, frames: FrameBatch) -> int | None:
        """Store a video's frames; they are searchable on return.

        Returns
        -------
        int or None
            The video's number, or None if the same video with the same fingerprint is stored already.

        Raises
        ------
        ValueError
            If the frames do not fit, see `prepare_rows`.
        DuplicateVideo
            If the id is taken by other content.
        """
        snapshot = self._generations.newest()
        known = snapshot.number_of(video.video_id)
        if known is not None:
            settings = snapshot.settings
            vectors = prepare_rows(frames, settings.dim, settings.metric, settings.store)
            content = video.fingerprint or Fingerprint().add(vectors, frames.frame_index, frames.seconds).text()
            if snapshot.videos[known].fingerprint == content:
                self.trust_media([video])
                return None
        return self.store([video], [frames])[0]

    def store(self, videos: Sequence[NewVideo], batches: Iterable[FrameBatch]) -> list[int]:
        """Store many videos at once: all of them or, if anything fails, none. They are searchable on return.

        Parameters
        ----------
        videos : with ids that are not taken
        batches : frames in input order, each batch small enough for memory; `video` points into `videos`

        Returns
        -------
        list of int
            Number of each video.

        Raises
        ------
        ValueError
            If the frames do not fit, see `prepare_rows`, a video has none, or an id is given twice.
        DuplicateVideo
            If an id is taken.
        """
        snapshot = self._generations.newest()
        names = [video.video_id for video in videos]
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            raise ValueError(f"The video {min(twice)!r} is given twice; give each video once.")
        for name in names:
            if snapshot.number_of(name) is not None:
                raise DuplicateVideo(duplicate_reason(name))
        what = names[0] if len(names) == 1 else f"{len(names)} videos"
        new = NextGeneration(self._path, self._catalog, snapshot)
        with storage_errors(f"storing {what}"):
            counter = self._catalog.counter
            staging = Staging(self._path, snapshot, videos, counter("video"), counter("frame"))
            for vectors, columns in staging.portions(batches):
                self._write_placed(new, snapshot, columns, vectors)
            rows = staging.finish()
            self.trust_media(videos)
            with new.commit("add") as change:
                for row in rows:
                    change.add_video(row)
                change.advance("frame", staging.next_id)
        # The videos are in. Merging can wait: a later add or build does it, and a damaged segment shows in search and check.
        with suppress(ResourceExhausted, CollectionError):
            self.maintenance.merge()
            self.maintenance.refit()
        return [row.number for row in rows]

    def trust_media(self, videos: Iterable[NewVideo]) -> None:
        """Note that the owner names the films and pictures of these videos, so that they may be shown."""
        videos = list(videos)
        self._trust.allow("film", (video.source for video in videos if video.source))
        self._trust.allow("pictures", (video.pictures for video in videos if video.pictures))

    def delete(self, video_id: str) -> int:
        """Take a video out of every answer from now on; returns how many frames that were.

        Raises
        ------
        NotFound
            If there is no such video.
        """
        snapshot = self._generations.newest()
        number = snapshot.number_of(video_id)
        if number is None:
            raise NotFound(f"There is no video '{excerpt(video_id)}' in this collection, so nothing was deleted.")
        n_deleted = 0
        new = NextGeneration(self._path, self._catalog, snapshot)
        with storage_errors(f"deleting {video_id}"), new.commit("delete") as change:
            for view in snapshot.views():
                if str(number) in view.segment.row.stats["videos"]:
                    start, stop = np.searchsorted(view.segment.columns.video, [number, number + 1]).tolist()
                    change.add_delete(DeleteRow(view.segment.row.segment_id, start, stop))
                    n_deleted += stop - start
            change.end_video(number)
        return n_deleted

    def update(self, table: FrameTable, tags: TagChange = "replace", progress: Progress = no_progress) -> UpdateReport:
        """Change titles, facts, recording times, shots and tags of stored videos: all at once or, if anything fails, nothing.

        Where the table has no value, the stored one stays. Videos and frames that are not stored are passed over and reported.

        Parameters
        ----------
        table, tags : see `Update`

        Raises
        ------
        ValueError
            If there is nothing to change, two rows disagree, or a value cannot be kept.
        """
        snapshot = self._generations.newest()
        update = Update(snapshot, table, tags)
        new = NextGeneration(self._path, self._catalog, snapshot)
        with storage_errors("the update"):
            replaced, rows = update.write(new, progress)
            if replaced or rows:
                with new.commit("update") as change:
                    for view in replaced:
                        change.end_segment(view.segment.row.segment_id)
                    change.change_videos(rows)
        # It is in, whatever hinders the tidying up; the next writer sweeps anyway.
        with suppress(ResourceExhausted, CollectionError):
            self.maintenance.sweep()
        progress("done", 1.0, 1.0)
        return update.report()

    def differing(self, table: FrameTable) -> list[str]:
        """Ids of the stored videos that an update by this table would change; see `update`.

        Raises
        ------
        ValueError
            As `update`.
        """
        return Update(self._generations.newest(), table).changed_videos()

    def _write_placed(
        self, new: NextGeneration, snapshot: Snapshot, columns: FrameColumns, vectors: NDArray[np.floating]
    ) -> None:
        """Write frames as one segment for each shard that they belong to."""
        new.n_frames += len(columns)
        layout = snapshot.manifest.layout
        loads = np.array([shard.n_live for shard in snapshot.shards], np.int64)
        for row in new.segments:
            loads[row.shard] += row.n_rows
        shard_of = make_placement(layout.placement, layout.state).assign(columns, loads)
        for shard in np.unique(shard_of):
            mine = np.flatnonzero(shard_of == shard)
            new.write_segment(int(shard), columns.take(mine), vectors_of(vectors.__getitem__, mine), snapshot.cells)


def duplicate_reason(video_id: str) -> str:
    """Why a video is refused whose name is taken."""
    return f"A video called {video_id!r} with other content is stored already; delete it first or give this one another name."
