"""What is in a collection: frames, videos, tags, statistics,  Searching and writing are in `collection`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.frames import statistics
from engine.media import Clip
from engine.reports import (
    ModalityGap,
    Recording,
    ShardContents,
    TagShares,
    collection_stats,
    measure_gap,
    recordings,
    shard_contents,
    tag_shares,
    video_info,
    video_infos,
)
from engine.storage import (
    ByteLRU,
    Catalog,
    Generations,
    Settings,
    Unrendered,
    export_frames,
    find_picture,
    middle_thumbnail,
    render_clip,
    render_picture,
    verify_snapshot,
)
from engine.system import Trust
from engine.types import CollectionStats, Frame, VideoInfo
from engine.vectors import Floats, Lists

_GAP_FRAMES = 500
"""Frames that stand for all in the modality gap."""


class Contents:
    """The reading side of a collection that needs no query."""

    def __init__(self, path: Path, catalog: Catalog, cache_bytes: int) -> None:
        self.path = path
        self.trust = Trust(path)
        """What it may open outside its folder."""
        self.cache: ByteLRU[Lists] = ByteLRU(cache_bytes)
        self._catalog = catalog
        self._infos: tuple[int, list[VideoInfo]] = (0, [])
        """What `videos` told last, and of which generation: pages ask for it again and again."""
        self._lacks: tuple[int, bool] = (0, False)
        """What `lacks_trust` told last, likewise."""
        try:
            self._generations = Generations(path, catalog, self.cache)
        except BaseException:
            catalog.close()
            raise

    def frame(self, frame_id: int) -> Frame:
        """One frame by its id.

        Raises
        ------
        NotFound
            If there is none.
        """
        with self._generations.reading() as snapshot:
            shard, view, row = snapshot.locate(frame_id)
            return snapshot.frames(shard.shard, view.segment, np.array([row]))[0]

    def neighbours(self, frame_id: int, n: int = 4) -> list[Frame]:
        """Up to n frames before and n after a frame in the same video, by time."""
        with self._generations.reading() as snapshot:
            return snapshot.neighbours(frame_id, n)

    def some_frames(self, n: int, rng: np.random.Generator) -> list[int]:
        """Ids of up to n frames at random, rising."""
        if n < 0:
            raise ValueError(f"{n} frames cannot be chosen; ask for 0 or more.")
        with self._generations.reading() as snapshot:
            ids = [view.segment.columns.frame_id[view.live_rows()] for view in snapshot.views() if view.n_live]
        every = np.concatenate(ids) if ids else np.zeros(0, np.int64)
        chosen: list[int] = np.sort(rng.choice(every, min(n, len(every)), replace=False)).tolist()
        return chosen

    def stored_texts(self) -> Floats | None:
        """Vectors (n, dim) of the single texts that the router was fitted on; None where there is no such router."""
        with self._generations.reading() as snapshot:
            bank = None if snapshot.router is None else snapshot.router.bank
            return None if bank is None else bank.vectors[: bank.n_texts]

    def modality_gap(self) -> ModalityGap | None:
        """How far texts lie from frames here, on the texts that the router was fitted on; None where there is no such router."""
        texts = self.stored_texts()
        ids = self.some_frames(_GAP_FRAMES, np.random.default_rng(0))
        if texts is None or len(ids) < 2:
            return None
        with self._generations.reading() as snapshot:
            return measure_gap(texts, np.stack([snapshot.vector(frame_id) for frame_id in ids]))

    def videos(self) -> list[VideoInfo]:
        """All videos, in the order in which they were added."""
        with self._generations.reading() as snapshot:
            generation, infos = self._infos
            if generation != snapshot.generation:
                infos = video_infos(snapshot)
                self._infos = (snapshot.generation, infos)
            return list(infos)

    def video(self, video_id: str) -> VideoInfo:
        """One video by its id.

        Raises
        ------
        NotFound
            If there is none.
        """
        with self._generations.reading() as snapshot:
            (number,) = snapshot.numbers_of([video_id])
            return video_info(snapshot, snapshot.videos[number])

    def fingerprint(self, video_id: str) -> str:
        """What tells the content of a stored video apart."""
        with self._generations.reading() as snapshot:
            (number,) = snapshot.numbers_of([video_id])
            return snapshot.videos[number].fingerprint

    def tags(self) -> dict[str, int]:
        """Frames per tag, most frequent first."""
        with self._generations.reading() as snapshot:
            return statistics.merge_tags([view.segment.row.stats for view in snapshot.views()])

    @property
    def built(self) -> bool:
        """Whether the frames have been placed by a build."""
        with self._generations.reading() as snapshot:
            return snapshot.built

    @property
    def n_frames(self) -> int:
        """Frames that can be found."""
        with self._generations.reading() as snapshot:
            return snapshot.n_live

    @property
    def generation(self) -> int:
        with self._generations.reading() as snapshot:
            return snapshot.generation

    @property
    def settings(self) -> Settings:
        with self._generations.reading() as snapshot:
            return snapshot.settings

    def stats(self) -> CollectionStats:
        """What is in the collection, shard by shard, and the cache's counters."""
        with self._generations.reading() as snapshot:
            return collection_stats(self.path, snapshot, self.cache)

    def shard(self, number: int, samples: int = 12) -> ShardContents:
        """What is in one shard: videos, tags, times, cells, and some of its frames.

        Raises
        ------
        ValueError
            If there is no such shard.
        """
        with self._generations.reading() as snapshot:
            return shard_contents(snapshot, number, self.cache, samples)

    def tag_shares(self, most: int = 24) -> TagShares:
        """Shards beside each other by the tags that tell them apart best."""
        with self._generations.reading() as snapshot:
            return tag_shares(snapshot, most)

    def recordings(self) -> tuple[Recording, ...]:
        """Shards beside each other by when their frames were recorded."""
        with self._generations.reading() as snapshot:
            return recordings(snapshot)

    def check(self) -> list[str]:
        """Compare every stored file and the catalog with their hashes; returns what is wrong, a sentence each.

        Raises
        ------
        ResourceExhausted
            If the system runs short of memory or open files: nothing is known then.
        ReadOnly
            If a file may not be read by this user.
        Busy
            If the collection cannot be held, and was changed meanwhile.
        """
        with self._generations.reading() as snapshot:
            problems = verify_snapshot(snapshot)
            if problems:
                self._generations.check_unchanged(snapshot)
            return problems

    def export(self, vectors: Path, frames: Path) -> int:
        """Write the vectors and a table of the live frames in input order; see `export.export`."""
        with self._generations.reading() as snapshot:
            return export_frames(snapshot, vectors, frames)

    def thumbnail(self, frame: Frame) -> Path | None:
        """A JPEG of a frame: the stored one, or one made on first use from its keyframe image or its video; None if there is neither."""
        with self._generations.reading() as snapshot:
            picture = find_picture(snapshot, frame)
        return render_picture(picture, self.trust) if isinstance(picture, Unrendered) else picture

    def poster(self, video_id: str) -> Path | None:
        """A JPEG that stands for a video, from its middle; None if there is none."""
        with self._generations.reading() as snapshot:
            (number,) = snapshot.numbers_of([video_id])
            stored = middle_thumbnail(self.path, number)
            row = snapshot.videos[number]
            if stored is not None or not (row.pictures or row.source):
                return stored
            ids = snapshot.frame_ids(number)
        return self.thumbnail(self.frame(int(ids[len(ids) // 2])))

    def clip(self, frame: Frame, *, before: float = 3.0, after: float = 5.0) -> Clip:
        """A short clip around a frame that plays in browsers, cut on first use and kept.

        Raises
        ------
        NotFound
            If the video file is not where it was.
        Untrusted
            If it lies outside the collection, and its owner has not named it.
        VideoError
            If it cannot be decoded.
        """
        return render_clip(self.path, self.video(frame.video_id), frame.seconds, before, after, self.trust)

    @property
    def lacks_trust(self) -> bool:
        """Whether the collection names films or pictures outside itself that nobody on this machine has allowed, so that they are not shown."""
        with self._generations.reading() as snapshot:
            generation, lacks = self._lacks
            if generation != snapshot.generation or lacks:  # What is lacking may have been allowed since.
                rows = snapshot.manifest.videos
                lacks = self.trust.lacks((row.source for row in rows), (row.pictures for row in rows))
                self._lacks = (snapshot.generation, lacks)
            return lacks
