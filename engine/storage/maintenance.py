"""What keeps a collection in shape, and changes no answer to an exact search: build, reshard, compact, merge, refit, sweep."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from engine.errors import CollectionError, ResourceExhausted, StorageFull
from engine.routing import REFIT_GROWTH, QueryBank, refit_routing_model
from engine.storage.build import draw_blueprint
from engine.storage.catalog import Catalog
from engine.storage.collection_files import check_files
from engine.storage.gather import Gathered, frames_since
from engine.storage.generations import Generations
from engine.storage.leases import held_generations
from engine.storage.limits import current_limits
from engine.storage.manifest import Settings
from engine.storage.next_generation import NextGeneration
from engine.storage.settings import check_shards
from engine.storage.snapshot import Snapshot
from engine.storage.staged import StagedBuild, build_key, staged_folders
from engine.storage.views import SegmentView
from engine.system import Progress, readable_bytes, remove_numbered, storage_errors
from engine.vectors import Cells


class Maintenance:
    """May be used by whoever holds the writer's lock."""

    def __init__(self, path: Path, catalog: Catalog, generations: Generations) -> None:
        self._path = path
        self._catalog = catalog
        self._generations = generations

    def build(self, settings: Settings, bank: QueryBank | None, progress: Progress) -> None:
        """Train cells and codec on what is stored, place every frame anew, write all segments again, and fit the router.

        The generation before stays readable throughout; on disk both stand until readers let go of it. If it is stopped, the next build
        with the same settings and queries goes on where it was, unless the collection has changed.

        Parameters
        ----------
        bank : queries to fit on; without any, cells are plain and the router goes by their spread

        Raises
        ------
        ValueError
            If the collection is empty, or the placement does not work with these settings.
        StorageFull
            If old and new segments do not fit side by side.
        """
        self._lay_out(settings, progress, None, "build", bank)

    def reshard(self, settings: Settings, progress: Progress) -> None:
        """Place every frame anew in the cells there are, and write all segments again; nothing is trained.

        Raises
        ------
        ValueError
            If the collection is empty or not built, or the placement does not work with its cells.
        StorageFull
            If old and new segments do not fit side by side.
        """
        cells = self._generations.newest().cells
        if cells is None:
            raise ValueError("The collection has not been built, so it has no shards to change; run a build first.")
        self._lay_out(settings, progress, cells, "reshard")

    def _lay_out(
        self, settings: Settings, progress: Progress, keep: Cells | None, what: str, bank: QueryBank | None = None
    ) -> None:
        snapshot = self._generations.newest()
        check_shards(settings.n_shards, snapshot.n_live)
        self._check_room(snapshot, what)
        counter = self._catalog.counter
        with storage_errors(f"the {what}"):
            key = build_key(what, settings, bank)
            staged = StagedBuild(self._path, snapshot.generation, key, counter("router"), settings.dim, settings.codec)
            blueprint = draw_blueprint(
                snapshot,
                settings,
                counter("cells"),
                counter("layout"),
                progress,
                keep=keep,
                bank=bank,
                next_frame=counter("frame"),
                staged=staged,
            )
            new = NextGeneration(self._path, self._catalog, snapshot, staged)
            new.settings, new.layout = settings, blueprint.layout
            if keep is None:
                new.cells, new.router = staged.cells_row, staged.router_row
            n_shards = len(blueprint.layout.names)
            first = 0.75 if keep is None else 0.0
            for shard in range(n_shards):
                progress("writing shards", first + (1 - first) * shard / n_shards, 1.0)
                new.write_shard(shard, blueprint.frames, blueprint.of(shard), blueprint.cells)
            with new.commit(what) as change:
                for view in snapshot.views():
                    change.end_segment(view.segment.row.segment_id)
        self._sweep_if_possible()
        progress("done", 1.0, 1.0)

    def _check_room(self, snapshot: Snapshot, what: str) -> None:
        """Raise `StorageFull` before hours of work that could not be written."""
        staged = staged_folders(self._path, snapshot.generation)["segments"]
        written = sum(path.stat().st_size for name in staged for path in (self._path / "segments" / name).glob("*"))
        needed = sum(view.segment.nbytes for view in snapshot.views()) - written
        free = shutil.disk_usage(self._path).free
        if free < needed:
            raise StorageFull(
                f"The {what} writes every segment again beside the old ones, about {readable_bytes(needed)}, and {readable_bytes(free)} "
                "are free; the collection is as before. Free some space and try again."
            )

    def compact(self) -> int:
        """Write the segments that hold deleted frames again without them; returns how many frames were dropped."""
        snapshot = self._generations.newest()
        stale = {shard.shard: [view for view in shard.segments if view.dead] for shard in snapshot.shards}
        n_dropped = sum(view.segment.n_rows - view.n_live for views in stale.values() for view in views)
        self._rewrite(snapshot, {shard: views for shard, views in stale.items() if views}, "compact")
        return n_dropped

    def merge(self, *, everything: bool = False) -> int:
        """Merge small segments where a shard has `Limits.merge_at` of like size, or all small ones; returns how many shards were touched.

        Merging like with like writes each frame a few times only, however many videos are added one by one. Where the collection
        has grown to the frames from which there are codes, segments without any are written again as well: about `Limits.portion`
        rows at a time, so that no add waits long, or all of them.
        """
        snapshot = self._generations.newest()
        due = _uncoded(snapshot, everything=everything)
        chosen = {}
        for shard in snapshot.shards:
            merged = _mergeable(shard.segments, everything=everything)
            views = [view for view in shard.segments if view in merged or view.segment.row.segment_id in due]
            if views:
                chosen[shard.shard] = views
        self._rewrite(snapshot, chosen, "merge")
        return len(chosen)

    def _rewrite(self, snapshot: Snapshot, views: dict[int, list[SegmentView]], what: str) -> None:
        """Write some segments of each shard again as one, with their live frames only."""
        if not views:
            return
        new = NextGeneration(self._path, self._catalog, snapshot)
        with storage_errors(f"the {what}"):
            for shard, old in views.items():
                live = [view for view in old if view.n_live]
                if live:
                    frames = Gathered.of(live)
                    new.write_shard(shard, frames, np.arange(len(frames)), snapshot.cells)
            with new.commit(what) as change:
                for old in views.values():
                    for view in old:
                        change.end_segment(view.segment.row.segment_id)
        self._sweep_if_possible()

    def refit(self) -> bool:
        """Take frames into the router that came after it was last fitted, where they are enough to tell; returns whether it did."""
        snapshot = self._generations.newest()
        row = snapshot.manifest.router
        next_frame = self._catalog.counter("frame")
        # By the numbers given since: frames that came may be no more than those that were deleted. Asked of the catalog, for the
        # router's files are large, and most adds leave them alone.
        if row is None or next_frame - row.about["next_frame"] <= REFIT_GROWTH * row.about["n_frames"]:
            return False
        router, cells = snapshot.router, snapshot.cells
        assert router is not None
        assert cells is not None
        new = NextGeneration(self._path, self._catalog, snapshot)
        with storage_errors("fitting the router"):
            blocks = frames_since(snapshot, router.next_frame)
            new.write_router(
                refit_routing_model(router, cells, blocks, next_frame=next_frame, n_frames=snapshot.n_live)
            )
            with new.commit("refit"):
                pass
        self._sweep_if_possible()
        return True

    def sweep(self) -> None:
        """Remove files that neither the newest generation nor one that a reader holds needs, nor a build that was stopped.

        Raises
        ------
        Untrusted
            If a folder of the collection is a link; nothing is removed then.
        """
        check_files(self._path)
        held = held_generations(self._path, self._generations.newest().generation)
        staged = staged_folders(self._path, self._generations.newest().generation)
        listed = self._catalog.live_folders(held)
        for kind in listed | staged:
            remove_numbered(
                self._path / kind, {str(number) for number in listed.get(kind, ())} | staged.get(kind, set())
            )
        self._catalog.forget_before(min(held))

    def _sweep_if_possible(self) -> None:
        """Sweep after a change that is in: whatever hinders that must not deny the change, and the next writer sweeps anyway."""
        with suppress(ResourceExhausted, CollectionError):
            self.sweep()


def _uncoded(snapshot: Snapshot, *, everything: bool) -> set[int]:
    """Numbers of the segments that lack the codes which the collection has by now, and are due to be written again."""
    if not snapshot.built or not current_limits().coded(snapshot.n_live):
        return set()
    due: set[int] = set()
    n_rows = 0
    for view in snapshot.views():
        if view.n_live and not view.segment.coded and (everything or not due or n_rows < current_limits().portion):
            due.add(view.segment.row.segment_id)
            n_rows += view.n_live
    return due


def _mergeable(views: Sequence[SegmentView], *, everything: bool) -> list[SegmentView]:
    """The small segments of a shard that are due."""
    small = [view for view in views if view.segment.n_rows < current_limits().small_segment]
    if everything:
        return small if len(small) > 1 else []
    merge_at = current_limits().merge_at
    tiers = [int(math.log(view.segment.n_rows, merge_at)) for view in small]
    due = [tier for tier in set(tiers) if tiers.count(tier) >= merge_at]
    return [view for view, tier in zip(small, tiers, strict=True) if tier <= max(due, default=-1)]
