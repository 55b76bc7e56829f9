"""Gathering what is stored, training on a bounded sample, and the place of every frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.errors import CorruptData
from engine.layout import PLACEMENTS
from engine.storage import build as build_module
from engine.storage import gather
from engine.storage.build import draw_blueprint
from engine.storage.gather import Gathered
from engine.storage.rows import prepare_rows
from engine.storage.views import SegmentView
from engine.system import no_progress
from engine.vectors import train_cells
from testing.worlds import DIM, Flat, fill, make_video, snapshot_of

VIDEOS = [make_video(i, 12) for i in range(4)]
FLAT = Flat.of(VIDEOS)


@pytest.fixture(scope="module")
def scattered(tmp_path_factory):
    """Four videos in four segments, two videos more that are deleted."""
    path = tmp_path_factory.mktemp("scattered") / "c"
    with fill(path, [*VIDEOS, make_video(8, 5), make_video(9, 5)], built=False) as collection:
        collection.delete("v8")
        collection.delete("v9")
        yield collection


@pytest.fixture
def snapshot(scattered):
    with snapshot_of(scattered) as held:
        yield held


@pytest.fixture
def frames(snapshot):
    return Gathered.of([view for view in snapshot.views() if view.n_live])


class TestGathered:
    def test_it_holds_live_frames_only(self, snapshot):
        frames = Gathered.of(list(snapshot.views()))
        assert len(frames) == 48
        assert sorted(frames.columns.frame_id.tolist()) == list(range(48))

    @pytest.mark.parametrize("n", [1, 5, 48])
    def test_vectors_come_in_the_order_in_which_they_are_asked_for(self, frames, n):
        asked = np.random.default_rng(n).permutation(48)[:n]
        stored = frames.stored(asked)
        assert stored.dtype == np.float16
        np.testing.assert_array_equal(stored.astype(np.float32), FLAT.rows[frames.columns.frame_id[asked]])

    def test_floats_are_the_same_read_in_steps(self, frames, monkeypatch):
        asked = np.random.default_rng(1).permutation(48)
        whole = frames.floats(asked)
        monkeypatch.setattr(gather, "GATHER_STEP", 7)
        np.testing.assert_array_equal(frames.floats(asked), whole)
        np.testing.assert_array_equal(whole, FLAT.rows[frames.columns.frame_id[asked]])

    @pytest.mark.parametrize("most", [1, 5, 16, 47, 48, 1000])
    def test_pieces_fit_a_segment_each_and_hold_every_frame_once_in_order(self, snapshot, frames, most, limit):
        limit(small_segment=most, segment_nbytes=1)
        chosen = np.random.default_rng(2).permutation(48)
        columns = frames.columns
        pieces = gather.split_into_segments(columns, chosen, snapshot.settings)
        assert max(len(piece) for piece in pieces) <= most
        assert len(pieces) == -(-48 // most)
        together = np.concatenate(pieces)
        assert sorted(together.tolist()) == list(range(48))
        keys = list(zip(columns.video[together], columns.frame_index[together], strict=True))
        assert len(pieces) == 1 or keys == sorted(keys)  # A segment sorts its own rows.


class TestDraw:
    @pytest.mark.parametrize("placement", PLACEMENTS)
    def test_every_frame_has_one_cell_and_one_shard(self, snapshot, placement):
        drawn = draw_blueprint(
            snapshot, replace(snapshot.settings, placement=placement, n_shards=3), 4, 5, no_progress, keep=None
        )
        assert (drawn.cells.cells_id, drawn.layout.layout_id, drawn.layout.placement) == (4, 5, placement)
        shards = [drawn.of(shard) for shard in range(len(drawn.layout.names))]
        assert sorted(np.concatenate(shards).tolist()) == list(range(48))
        vectors = drawn.frames.floats(np.arange(48))
        np.testing.assert_array_equal(drawn.frames.columns.cell, drawn.cells.assign(vectors))
        assert drawn.cells.two_level == (placement == "hierarchical")

    def test_cells_that_are_kept_keep_every_frame_where_it_is(self, snapshot):
        first = draw_blueprint(snapshot, replace(snapshot.settings, n_shards=3), 1, 2, no_progress, keep=None)
        again = draw_blueprint(snapshot, replace(snapshot.settings, n_shards=3), 9, 2, no_progress, keep=first.cells)
        assert again.cells is first.cells
        # These segments were never in cells: what is stored with them counts.
        assert set(again.frames.columns.cell.tolist()) == {0}

    def test_the_sample_is_bounded_by_its_values_and_never_below_the_cells(self, snapshot, monkeypatch):
        seen = []
        monkeypatch.setattr(
            build_module,
            "train_cells",
            lambda rows, *rest, **more: seen.append(len(rows)) or train_cells(rows, *rest, **more),
        )
        settings = replace(snapshot.settings, n_cells=10)
        for values in (10**9, DIM * 20, 1):
            monkeypatch.setattr(build_module, "TRAIN_VALUES", values)
            draw_blueprint(snapshot, settings, 1, 1, no_progress, keep=None)
        assert seen == [48, 20, 10]

    def test_more_cells_than_frames_are_as_many_as_frames(self, snapshot):
        drawn = draw_blueprint(snapshot, replace(snapshot.settings, n_cells=1000), 1, 1, no_progress, keep=None)
        assert len(drawn.cells) == 48

    def test_it_is_drawn_the_same_every_time(self, snapshot):
        one, other = (draw_blueprint(snapshot, snapshot.settings, 1, 1, no_progress, keep=None) for _ in range(2))
        np.testing.assert_array_equal(one.shard_of, other.shard_of)
        np.testing.assert_array_equal(one.cells.centroids, other.cells.centroids)


def test_a_damaged_row_stops_what_is_gathered(tmp_path):
    with fill(tmp_path / "c", VIDEOS[:2], built=False) as collection, snapshot_of(collection) as snapshot:
        views: list[SegmentView] = list(snapshot.views())
        path = views[1].segment.folder / "vectors.npy"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        frames = Gathered.of(views)
        expected = prepare_rows(VIDEOS[0][1], DIM, "ip", "fp16")
        np.testing.assert_array_equal(frames.stored(np.arange(12)), expected)
        with pytest.raises(CorruptData, match="checksum"):
            frames.stored(np.array([3, 23]))
