"""New frames on their way in: portions, ids, numbers, fingerprints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.collection import Collection
from engine.storage.limits import limited
from engine.storage.rows import Fingerprint, prepare_rows
from engine.storage.staging import Staging
from engine.types import FrameBatch, NewVideo
from testing.worlds import DIM, assert_holds, fill, make_video, snapshot_of

VIDEOS = [NewVideo("a"), NewVideo("b", fingerprint="told"), NewVideo("c", title="Sea")]
FRAMES = make_video(4, 60)[1]
PLACE = (np.arange(60) * 7 % 3).astype(np.int32)


def cut(sizes: list[int]) -> list[FrameBatch]:
    """The sixty frames of three interleaved videos, in batches of these sizes and a last one."""
    bounds = np.minimum(np.cumsum([0, *sizes]), 60).tolist()
    return [
        FrameBatch(FRAMES.vectors[i:j], FRAMES.frame_index[i:j], FRAMES.seconds[i:j], video=PLACE[i:j])
        for i, j in zip(bounds, [*bounds[1:], 60], strict=True)
    ]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    with Collection.create(tmp_path_factory.mktemp("empty") / "c", dim=DIM) as collection:
        yield collection


def take(collection: Collection, batches, videos=VIDEOS, first_number: int = 5, first_id: int = 100):
    with snapshot_of(collection) as snapshot:
        intake = Staging(collection.path, snapshot, videos, first_number, first_id)
        return intake, list(intake.portions(batches))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 15), max_size=8))
def test_in_whatever_batches_frames_come_they_are_the_same_in_the_end(empty, sizes):
    with limited(portion=20):
        intake, portions = take(empty, cut(sizes))
    assert all(0 < len(columns) == len(vectors) <= 20 for vectors, columns in portions)
    ids = np.concatenate([columns.frame_id for _, columns in portions])
    assert ids.tolist() == list(range(100, 160))
    assert intake.next_id == 160
    vectors = np.concatenate([each for each, _ in portions])
    np.testing.assert_array_equal(vectors, prepare_rows(FRAMES, DIM, "ip", "fp16"))
    assert np.concatenate([columns.video for _, columns in portions]).tolist() == (5 + PLACE).tolist()
    rows = intake.finish()
    assert [(row.number, row.video_id, row.title, row.n_frames) for row in rows] == [
        (5, "a", "a", 20),
        (6, "b", "b", 20),
        (7, "c", "Sea", 20),
    ]
    own = [vectors[i == PLACE] for i in range(3)]
    told = [
        Fingerprint().add(own[i], FRAMES.frame_index[i == PLACE], FRAMES.seconds[i == PLACE]).text() for i in range(3)
    ]
    assert [row.fingerprint for row in rows] == [told[0], "told", told[2]]


def test_portions_are_as_full_as_the_batches_allow(empty, limit):
    limit(portion=20)
    _, portions = take(empty, cut([8] * 7))
    assert [len(columns) for _, columns in portions] == [16, 16, 16, 12]


def test_a_portion_is_no_more_than_a_segment_takes(empty, limit):
    limit(small_segment=10, segment_nbytes=1)
    _, portions = take(empty, cut([5] * 11))
    assert [len(columns) for _, columns in portions] == [10] * 6


def test_a_batch_beyond_the_limit_is_cut(empty, limit):
    limit(small_segment=25, segment_nbytes=1)
    _, portions = take(empty, cut([4, 52]))
    assert [len(columns) for _, columns in portions] == [4, 25, 25, 6]
    _, portions = take(empty, cut([50]))
    assert [len(columns) for _, columns in portions] == [25, 25, 10]


def test_no_segment_is_larger_than_one_may_be_however_large_the_batch(tmp_path, limit):
    limit(small_segment=25, segment_nbytes=1)
    video = make_video(4, 60)
    with fill(tmp_path / "c", [video], built=False, n_shards=1) as collection:
        with snapshot_of(collection) as snapshot:
            assert sorted(row.n_rows for row in snapshot.manifest.segments) == [10, 25, 25]
        assert_holds(collection, [video])


def test_a_video_without_frames_is_named(empty):
    intake, _ = take(empty, cut([]), [*VIDEOS, NewVideo("ghost")])
    with pytest.raises(ValueError, match=r"ghost: there are no frames"):
        intake.finish()


def test_a_bad_row_is_named_by_its_place_over_all_batches(empty):
    batches = cut([10, 10, 10])
    batches[2].vectors[4] = np.nan
    try:
        with pytest.raises(ValueError, match="Row 24 "):
            take(empty, batches)
    finally:
        batches[2].vectors[4] = 1


@pytest.mark.parametrize("wrong", [-1, 3, 99])
def test_a_frame_of_a_video_that_was_not_given_is_refused(empty, wrong):
    (batch,) = cut([])
    with pytest.raises(ValueError, match=f"video {wrong}"):
        take(empty, [replace(batch, video=np.where(np.arange(60) == 7, wrong, PLACE))])


def test_frames_go_into_the_cells_there_are(tmp_path):
    with fill(tmp_path / "c", [make_video(i) for i in range(3)]) as collection:
        _, portions = take(collection, cut([30]))
        with snapshot_of(collection) as snapshot:
            cells = snapshot.cells
        for vectors, columns in portions:
            np.testing.assert_array_equal(columns.cell, cells.assign(vectors.astype(np.float32)))
        assert len(np.unique(portions[0][1].cell)) > 3


def test_pictures_left_by_a_store_that_failed_are_gone_before_the_next(empty):
    stale = empty.path / "media" / "5" / "0.jpg"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"stale")
    intake, _ = take(empty, cut([]))
    assert not stale.exists()
    assert intake.finish()[0].media == ""
