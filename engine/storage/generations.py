"""Hands readers the newest generation, and closes old ones when nobody in this process reads them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import Busy, CorruptData, ShardFailed
from engine.storage.cache import ShardCache
from engine.storage.catalog import Catalog
from engine.storage.manifest import SegmentRow, Settings
from engine.storage.segment import Segment
from engine.storage.snapshot import Snapshot
from engine.system import shortages
from engine.vectors import Training, metric_of


class Generations:
    """Hands out the newest generation to any number of threads and keeps those in use readable."""

    def __init__(self, path: Path, catalog: Catalog, cache: ShardCache) -> None:
        self._path = path
        self._catalog = catalog
        self._cache = cache
        self._lock = threading.Lock()
        self._segments: dict[int, Segment] = {}
        self._readers: dict[int, int] = {}
        self._stale: list[Snapshot] = []
        self._seen = catalog.version()
        self._newest = Snapshot.open(path, catalog, self._segment)

    def close(self) -> None:
        """Let go of every generation."""
        with self._lock:
            for snapshot in (self._newest, *self._stale):
                snapshot.close()
            for segment in self._segments.values():
                segment.close()
            self._stale.clear()

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """The newest generation, held until the block ends.

        Raises
        ------
        ResourceExhausted
            If the system runs short of memory, open files or threads in the block.
        Busy
            If the collection cannot be held (see `take_lease`), and was changed while it was read.
        """
        with self._lock:
            with (
                suppress(Busy),
                shortages("the request"),
            ):  # While a writer commits, the generation in hand is still one to read.
                version = self._catalog.version()
                if version != self._seen:
                    self._move_on()
                    self._seen = version
            snapshot = self._newest
            self._readers[snapshot.generation] = self._readers.get(snapshot.generation, 0) + 1
        try:
            with shortages("the request"):
                yield snapshot
        except (CorruptData, ShardFailed) as error:
            self.check_unchanged(snapshot, error)
            raise
        finally:
            with self._lock:
                self._readers[snapshot.generation] -= 1
                self._let_go()

    def newest(self) -> Snapshot:
        """The newest generation, for a writer: he needs no hold on it, for nobody else sweeps."""
        with self.reading() as snapshot:
            return snapshot

    def check_unchanged(self, snapshot: Snapshot, error: Exception | None = None) -> None:
        """Raise `Busy` where what is missing of a generation was swept by a writer, and not lost: it could not be held."""
        if not snapshot.leased and self._catalog.current_generation() != snapshot.generation:
            raise Busy("The collection was changed while it was read; ask again.") from error

    def _segment(self, row: SegmentRow, settings: Settings, training: Training | None) -> Segment:
        """The open segment of a row; generations that share a segment share what is open of it."""
        segment = self._segments.get(row.segment_id)
        if segment is None or segment.row.files != row.files:
            folder = self._path / "segments" / str(row.segment_id)
            segment = Segment(folder, row, settings.dim, metric_of(settings.metric), settings.codec, training)
            self._segments[row.segment_id] = segment
        return segment

    def _move_on(self) -> None:
        """Open the newest generation if it is not the one in hand; the caller has the lock."""
        if self._catalog.current_generation() != self._newest.generation:
            newest = Snapshot.open(self._path, self._catalog, self._segment)
            self._stale.append(self._newest)
            self._newest = newest
            self._let_go()

    def _let_go(self) -> None:
        """Close generations that nobody in this process reads any more; the caller has the lock."""
        unused = [old for old in self._stale if not self._readers.get(old.generation)]
        if not unused:
            return
        for old in unused:
            old.close()
            self._stale.remove(old)
            self._readers.pop(old.generation, None)
        live = {view.segment.row.segment_id for snapshot in (self._newest, *self._stale) for view in snapshot.views()}
        for segment_id in self._segments.keys() - live:
            self._segments.pop(segment_id).close()
        self._cache.drop(lambda key: key in live)
