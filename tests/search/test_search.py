"""Exact search is one flat index; probing every cell is too; and so are long answers and stored frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.collection import Collection
from engine.errors import NotFound
from engine.layout import PLACEMENTS
from engine.storage.limits import limited
from engine.types import Filter, FrameBatch, NewVideo
from engine.vectors.codecs import CODECS
from testing.worlds import VIDEOS, Flat, N, assert_answers, fill, make_video, queries, segment_files


class TestAgainstOneFlatIndex:
    @pytest.mark.parametrize("n_shards", [1, 7])
    @pytest.mark.parametrize("placement", PLACEMENTS)
    def test_exact_search_and_all_cells_return_what_a_flat_index_returns(self, tmp_path, placement, n_shards):
        late = make_video(9)
        with fill(tmp_path / "c", VIDEOS, placement=placement, n_shards=n_shards) as collection:
            n_cells = collection.stats().n_cells
            for videos, gone in (
                (VIDEOS, ()),
                ([*VIDEOS, late], ()),
                ([*VIDEOS, late], ("v1", "v9")),
            ):
                if len(videos) > len(VIDEOS) and not gone:
                    collection.add(*late)
                for name in gone:
                    collection.delete(name)
                flat = Flat.of(videos, gone)
                for k in (1, 10, 500):
                    for wanted in ({"exact": True}, {"n_probe": n_cells}):
                        found = collection.search_many(queries(4), k, **wanted)
                        for query, result in zip(queries(4), found, strict=True):
                            assert_answers(result.hits, flat, query, k)

    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("placement", PLACEMENTS)
    @pytest.mark.usefixtures("coded")
    def test_codes_change_nothing_once_candidates_are_scored_exactly(self, tmp_path, placement, codec):
        late, store = make_video(9), "fp32" if codec == "fp32" else "fp16"
        with fill(tmp_path / "c", VIDEOS, placement=placement, codec=codec, store=store) as collection:
            assert len(segment_files(collection, "codes.faiss")) == len(segment_files(collection, "vectors.npy")) > 1
            for videos in (VIDEOS, [*VIDEOS, late]):
                if videos is not VIDEOS:
                    collection.add(*late)
                flat = Flat.of(videos, store=store)
                asked = queries(5)
                for query, result in zip(asked, collection.search_many(asked, 10, exact=True), strict=True):
                    assert_answers(result.hits, flat, query, 10)
                for query in asked:
                    result = collection.search(query, 10, n_probe=10**6)
                    assert_answers(result.hits, flat, query, 10)
                    assert result.trace.vectors_scanned == len(flat)
                    if codec == "fp32":  # Such codes are the rows themselves.
                        assert result.trace.vectors_rescored == 0
                    else:
                        assert 10 <= result.trace.vectors_rescored <= len(flat)

    @pytest.mark.parametrize("store", ["fp16", "fp32"])
    @pytest.mark.parametrize("built", [True, False])
    def test_squared_distances_are_searched_as_well(self, tmp_path, store, built):
        flat = Flat.of(VIDEOS, metric="l2", store=store)
        with fill(tmp_path / "c", VIDEOS, built=built, metric="l2", store=store) as collection:
            for query in queries(4):
                assert_answers(collection.search(query, 7, exact=True).hits, flat, query, 7)
                assert_answers(collection.search(query, 7, n_probe=10**6).hits, flat, query, 7)

    @pytest.mark.usefixtures("coded")
    def test_squared_distances_through_codes(self, tmp_path):
        flat = Flat.of(VIDEOS, metric="l2")
        with fill(tmp_path / "c", VIDEOS, metric="l2") as collection:
            for query in queries(4):
                assert_answers(collection.search(query, 7, n_probe=10**6).hits, flat, query, 7)

    def test_shards_searched_side_by_side_answer_the_same(self, town, flat):
        with Collection.open(town.path, workers=3) as wide:
            for query in queries(6):
                result = wide.search(query, 10, n_probe=10**6)
                assert_answers(result.hits, flat, query, 10)
                assert result.trace.workers == 3

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5),
        n_shards=st.integers(1, 5),
        placement=st.sampled_from(sorted(PLACEMENTS)),
        n_cells=st.integers(0, 9),
        steps=st.lists(st.sampled_from(["add", "store", "delete", "build", "reshard", "compact"]), max_size=6),
        duplicate=st.booleans(),
    )
    def test_whatever_is_done_to_a_collection_it_stays_one_flat_index(
        self, tmp_path_factory, sizes, n_shards, placement, n_cells, steps, duplicate
    ):
        videos = [make_video(i, n, 4) for i, n in enumerate(sizes)]
        if duplicate:
            _, frames = videos[0]
            videos.append((NewVideo("again"), frames))
        gone: list[str] = []
        path = tmp_path_factory.mktemp("steps") / "c"
        with fill(path, videos, dim=4, n_shards=n_shards, placement=placement, n_cells=n_cells) as collection:
            for i, step in enumerate(steps):
                if step == "add":
                    videos.append(make_video(50 + i, 3 + i, 4))
                    collection.add(*videos[-1])
                elif step == "delete" and len(gone) < len(videos) - 1:
                    gone.append(next(new.video_id for new, _ in videos if new.video_id not in gone))
                    collection.delete(gone[-1])
                elif step == "store":
                    several = [make_video(70 + 3 * i + j, 2 + j, 4) for j in range(3)]
                    videos += several
                    collection.store(
                        [new for new, _ in several],
                        [replace(frames, video=np.full(len(frames), j)) for j, (_, frames) in enumerate(several)],
                    )
                elif step == "build":
                    collection.build()
                elif step == "reshard":
                    collection.reshard(n_shards=n_shards % 3 + 1, placement=["balanced", "semantic"][i % 2])
                elif step == "compact":
                    collection.compact()
            flat = Flat.of(videos, tuple(gone))
            for query in queries(2, 4):
                for k in (3, 200):
                    assert_answers(collection.search(query, k, exact=True).hits, flat, query, k)
                    assert_answers(collection.search(query, k, n_probe=10**6).hits, flat, query, k)
            assert collection.check() == []


class TestStoredFrames:
    @pytest.mark.parametrize("metric", ["ip", "l2"])
    @pytest.mark.parametrize("built", [True, False])
    def test_every_stored_frame_finds_itself_first(self, tmp_path, metric, built):
        with fill(tmp_path / "c", VIDEOS, metric=metric, built=built) as collection:
            for wanted in ({"exact": True}, {"n_probe": 10**6}):
                for frame_id, result in enumerate(collection.search_many(range(N), 3, **wanted)):
                    assert result.hits[0].frame_id == frame_id
                    assert result.hits[0].score == pytest.approx(1 if metric == "ip" else 0, abs=2e-3)

    def test_for_distances_its_own_cell_is_enough(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS, metric="l2") as collection:
            found = collection.search_many(range(N), 1, n_probe=1)
        assert [result.hits[0].frame_id for result in found] == list(range(N))

    def test_its_vector_is_the_one_stored(self, town, flat):
        for frame_id in (0, 71, 149):
            np.testing.assert_array_equal(town.vector(frame_id), flat.rows[frame_id])

    def test_a_frame_may_be_looked_for_in_other_videos(self, town, flat):
        where = Filter(videos=("v2", "v3"))
        assert_answers(town.search(5, 10, exact=True, where=where).hits, flat, flat.rows[5], 10, flat.passes(where))

    @pytest.mark.parametrize("frame_id", [-1, N, 10**12])
    def test_one_that_is_not_there_is_not_found(self, town, frame_id):
        with pytest.raises(NotFound, match=f"no frame {frame_id}"):
            town.search(frame_id)
        with pytest.raises(NotFound, match=f"no frame {frame_id}"):
            town.vector(frame_id)

    def test_one_that_was_deleted_is_not_found(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS[:2]) as collection:
            collection.delete("v0")
            with pytest.raises(NotFound, match="no frame 3"):
                collection.search(3)
            assert collection.search(30, 1, exact=True).hits[0].frame_id == 30


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A film of 21,000 frames with codes in its two shards, and what must be found of it."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 16))
    vectors = (centres[rng.integers(0, 60, 21_000)] + 0.5 * rng.normal(size=(21_000, 16))).astype(np.float32)
    frames = FrameBatch(vectors, np.arange(len(vectors)), np.arange(len(vectors)) * 0.5)
    videos = [(NewVideo("long"), frames)]
    path = tmp_path_factory.mktemp("long") / "c"
    with (
        limited(coded_from=20_000),
        fill(path, videos, dim=16, n_shards=2, placement="round_robin", n_cells=64) as filled,
    ):
        yield filled, Flat.of(videos)


class TestManyFrames:
    def test_they_are_coded_and_nearly_nothing_is_lost(self, long):
        collection, flat = long
        assert len(segment_files(collection, "codes.faiss")) == 2
        asked = queries(20, 16)
        best = [{hit.frame_id for hit in result.hits} for result in collection.search_many(asked, 10, exact=True)]
        assert_answers(collection.search(asked[0], 10, exact=True).hits, flat, asked[0], 10)
        results = collection.search_many(asked, 10, n_probe=64)
        recall = np.mean(
            [len(want & {hit.frame_id for hit in got.hits}) / 10 for want, got in zip(best, results, strict=True)]
        )
        assert recall >= 0.99
        assert all(got.trace.vectors_scanned == 21_000 for got in results)
        narrow = collection.search(asked[0], 10)
        assert narrow.trace.n_probe == 8
        assert narrow.trace.vectors_scanned < 21_000 / 2

    def test_k_may_be_thousands(self, long):
        collection, flat = long
        for query in queries(2, 16):
            assert_answers(collection.search(query, 3000, exact=True).hits, flat, query, 3000)
            hits = collection.search(query, 3000, n_probe=64).hits
            np.testing.assert_allclose([hit.score for hit in hits], flat.scores(query, 3000), atol=0.01)
            assert len({hit.frame_id for hit in hits}) == 3000
        narrow = collection.search(query, 3000, n_probe=1)
        assert len(narrow.hits) == 3000
        assert narrow.trace.vectors_scanned < 21_000

    @pytest.mark.parametrize("share", [0.5, 0.99])
    def test_a_filter_over_codes_and_rows_leaves_the_best_that_pass(self, long, share):
        collection, flat = long
        where = Filter(seconds=(None, 21_000 * 0.5 * share))
        for query in queries(3, 16):
            mask = flat.passes(where)
            exact = collection.search(query, 10, exact=True, where=where)
            assert_answers(exact.hits, flat, query, 10, mask)
            routed = collection.search(query, 10, n_probe=64, where=where)
            assert_answers(routed.hits, flat, query, 10, mask)


def test_a_collection_whose_frames_are_all_gone_answers_with_nothing(tmp_path):
    with fill(tmp_path / "c", VIDEOS[:1]) as collection:
        collection.delete("v0")
        assert collection.search(queries(1)[0], 10).hits == ()
        assert [result.hits for result in collection.search_many(queries(3), 10, exact=True)] == [()] * 3
