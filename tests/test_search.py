"""Exact search is one flat index; probing every cell is too; filters, limits, faults and the trace."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import DIM, TAGS, Flat, assert_answers, fill, flip, make_video, queries

from engine import segment as segment_module
from engine.collection import Collection
from engine.errors import CorruptData, NotFound, ShardFailed
from engine.placement import PLACEMENTS
from engine.types import Filter, FrameBatch, NewVideo, ShardState
from engine.vectorindex import CODECS

VIDEOS = [make_video(i) for i in range(5)]
STRIPES = 30
N = sum(len(frames) for _, frames in VIDEOS)


@pytest.fixture
def coded(monkeypatch):
    """Segments get codes however small they are."""
    monkeypatch.setattr(segment_module, "CODED_FROM", 1)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A built collection that only reads are done on."""
    with fill(tmp_path_factory.mktemp("town") / "c", VIDEOS, n_shards=4) as collection:
        yield collection


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    """The same frames in shards so small that filters rule many of them out."""
    path = tmp_path_factory.mktemp("striped") / "c"
    with fill(path, VIDEOS, placement="round_robin", n_shards=STRIPES) as collection:
        yield collection


@pytest.fixture(scope="module")
def flat():
    return Flat.of(VIDEOS)


def segment_files(collection: Collection, name: str):
    return sorted(collection.path.glob(f"segments/*/{name}"), key=lambda path: int(path.parent.name))


class TestAgainstOneFlatIndex:
    @pytest.mark.parametrize("n_shards", [1, 3, 7])
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
                for query in queries(4):
                    for k in (1, 10, 500):
                        assert_answers(collection.search(query, k, exact=True).hits, flat, query, k)
                        assert_answers(collection.search(query, k, n_probe=n_cells).hits, flat, query, k)

    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("placement", PLACEMENTS)
    @pytest.mark.usefixtures("coded")
    def test_codes_change_nothing_once_candidates_are_scored_exactly(self, tmp_path, placement, codec, flat):
        late = make_video(9)
        with fill(tmp_path / "c", VIDEOS, placement=placement, codec=codec) as collection:
            assert len(segment_files(collection, "codes.faiss")) == 3
            for videos in (VIDEOS, [*VIDEOS, late]):
                if videos is not VIDEOS:
                    collection.add(*late)
                flat = Flat.of(videos)
                for query in queries(5):
                    assert_answers(collection.search(query, 10, exact=True).hits, flat, query, 10)
                    result = collection.search(query, 10, n_probe=10**6)
                    assert_answers(result.hits, flat, query, 10)
                    assert result.trace.vectors_scanned == len(flat)
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
        steps=st.lists(st.sampled_from(["add", "delete", "build"]), max_size=5),
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
                elif step == "build":
                    collection.build()
            flat = Flat.of(videos, tuple(gone))
            for query in queries(2, 4):
                for k in (3, 200):
                    assert_answers(collection.search(query, k, exact=True).hits, flat, query, k)
                    assert_answers(collection.search(query, k, n_probe=10**6).hits, flat, query, k)


FILTERS = [
    Filter(videos=("v1",)),
    Filter(videos=("v0", "v3")),
    Filter(seconds=(10.0, None)),
    Filter(seconds=(None, 10.0)),
    Filter(seconds=(20.0, 22.0)),
    Filter(captured=(datetime(2024, 5, 1, 9, 0, 30), None)),
    Filter(captured=(None, datetime(2024, 5, 1, 9, 0, 30))),
    Filter(dayparts=("morning",)),
    Filter(dayparts=("night", "evening")),
    Filter(tags_any=("object:dog", "weather:snow")),
    Filter(tags_all=("object:dog", "scene:beach")),
    Filter(tags_none=("object:dog",)),
    Filter(videos=("v0", "v1", "v4"), seconds=(4.0, 40.0), tags_any=TAGS[:3], tags_none=("weather:snow",)),
    Filter(dayparts=("night",), tags_all=("object:cat",), captured=(datetime(2024, 5, 1), None)),
]


class TestFilters:
    @pytest.mark.parametrize("where", FILTERS, ids=range(len(FILTERS)))
    @pytest.mark.parametrize("few", [0, 1000], ids=["routed", "scored"])
    def test_only_frames_that_pass_and_all_of_the_best_of_them(self, town, flat, where, few, monkeypatch):
        monkeypatch.setattr("engine.scope.EXACT_MATCHES", few)
        mask = flat.passes(where)
        assert 0 < mask.sum() < len(flat)
        for query in queries(3):
            for wanted in ({"exact": True}, {"n_probe": 10**6}):
                result = town.search(query, 8, where=where, **wanted)
                assert_answers(result.hits, flat, query, 8, mask)
            routed = town.search(query, 8, n_probe=1, where=where)
            assert {hit.frame_id for hit in routed.hits} <= set(flat.frame_id[mask])
            # Probing goes on until as many matches as were asked for have been seen.
            assert len(routed.hits) == min(8, mask.sum())

    @pytest.mark.usefixtures("coded")
    @pytest.mark.parametrize("where", FILTERS[::3], ids=range(len(FILTERS[::3])))
    def test_codes_are_searched_under_a_filter_too(self, tmp_path, flat, where, monkeypatch):
        monkeypatch.setattr("engine.scope.EXACT_MATCHES", 0)
        with fill(tmp_path / "c", VIDEOS) as collection:
            for query in queries(2):
                assert_answers(
                    collection.search(query, 8, n_probe=10**6, where=where).hits, flat, query, 8, flat.passes(where)
                )

    @pytest.mark.parametrize("exact", [True, False])
    @pytest.mark.parametrize("where", FILTERS, ids=range(len(FILTERS)))
    def test_a_pruned_shard_never_holds_a_match(self, striped, flat, where, exact):
        matching = set(flat.frame_id[flat.passes(where)].tolist())
        trace = striped.search(queries(1)[0], 5, exact=exact, where=where).trace
        for shard in trace.shards:
            if shard.state is ShardState.PRUNED:
                assert shard.reason
                assert not [i for i in matching if i % STRIPES == shard.shard]

    def test_shards_are_pruned_by_their_statistics_alone(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS, built=False) as collection:
            collection.build(placement="round_robin", n_shards=2, n_cells=1)
            collection.add(*make_video(20, 1, captured_at=None))
            for path in segment_files(collection, "frames.arrow"):
                path.unlink()
            trace = collection.search(queries(1)[0], where=Filter(seconds=(1e6, None))).trace
            assert trace.count(ShardState.PRUNED) == 2
            assert all("its frames lie between" in shard.reason for shard in trace.shards)

    @pytest.mark.parametrize("exact", [True, False])
    def test_a_filter_that_nothing_passes_returns_nothing_and_says_so(self, town, exact):
        for where in (Filter(seconds=(1e6, None)), Filter(videos=("v0",), tags_any=("object:cat",))):
            result = town.search(queries(1)[0], where=where, exact=exact)
            assert result.hits == ()
            assert result.trace.warnings == ("No frame passes the filter.",)
            assert result.trace.vectors_scanned == result.trace.bytes_read == 0

    @pytest.mark.parametrize("kind", ["tags_any", "tags_all", "tags_none"])
    def test_a_tag_that_no_frame_carries_is_not_found(self, town, kind):
        with pytest.raises(NotFound, match="'object:unicorn'"):
            town.search(queries(1)[0], where=Filter(**{kind: ("object:cat", "object:unicorn")}))

    def test_an_unknown_video_is_not_found_rather_than_ignored(self, town):
        with pytest.raises(NotFound, match="'nowhere'"):
            town.search(queries(1)[0], where=Filter(videos=("v1", "nowhere")))

    def test_a_deleted_video_can_no_longer_be_filtered_for(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS) as collection:
            collection.delete("v1")
            with pytest.raises(NotFound, match="'v1'"):
                collection.search(queries(1)[0], where=Filter(videos=("v1",)))


class TestLimits:
    @pytest.mark.parametrize("per_shot", [1, 2])
    @pytest.mark.parametrize("wanted", [{"exact": True}, {"n_probe": 10**6}])
    def test_no_shot_gives_more_than_its_share_and_the_best_of_each_remain(self, town, flat, per_shot, wanted):
        for query in queries(4):
            hits = town.search(query, 20, per_shot=per_shot, **wanted).hits
            everything = town.search(query, N, exact=True).hits
            taken: dict[tuple[str, int], int] = {}
            expected = []
            for hit in everything:
                shot = (hit.video_id, hit.shot)
                taken[shot] = taken.get(shot, 0) + 1
                if taken[shot] <= per_shot:
                    expected.append(hit.frame_id)
            assert [hit.frame_id for hit in hits] == expected[:20]

    def test_all_shots_are_given_when_more_are_asked_for(self, town):
        hits = town.search(queries(1)[0], 10_000, per_shot=1, exact=True).hits
        assert len(hits) == sum(len(set(frames.shot.tolist())) for _, frames in VIDEOS)

    def test_ten_seconds_stand_for_a_shot_where_shots_are_not_known(self, tmp_path):
        new, frames = make_video(0, 30)
        plain = FrameBatch(frames.vectors, frames.frame_index, frames.seconds)
        with fill(tmp_path / "c", [(new, plain)]) as collection:
            hits = collection.search(queries(1)[0], 100, per_shot=1, exact=True).hits
        assert {hit.shot for hit in hits} == {-1}
        assert sorted(int(hit.seconds // 10) for hit in hits) == list(range(6))

    def test_fewer_shards_may_be_allowed_and_the_rest_are_named(self, town, flat):
        for query in queries(5):
            result = town.search(query, 10, n_probe=10**6, max_shards=1)
            assert result.trace.shards_probed == 1
            (opened,) = [s for s in result.trace.shards if s.state in (ShardState.OPENED, ShardState.CACHED)]
            assert opened.score == max(shard.score for shard in result.trace.shards)
            assert {hit.shard for hit in result.hits} == {opened.shard}
            assert sum("allowed" in shard.reason for shard in result.trace.shards) == 3
            assert result.trace.n_probe == opened.cells < result.trace.n_cells
            assert not result.trace.warnings

    def test_a_cap_on_shards_holds_under_a_filter_that_few_frames_pass(self, town):
        trace = town.search(queries(1)[0], 10, max_shards=1, where=Filter(seconds=(4.0, 40.0))).trace
        assert trace.shards_probed == 1
        assert trace.method == "routed"

    def test_a_cap_on_shards_under_round_robin_warns(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS, placement="round_robin") as collection:
            assert "at random" in collection.search(queries(1)[0], max_shards=1).trace.warnings[0]

    @pytest.mark.parametrize("video", ["v0", "v1", "v2", "v3"])
    def test_under_a_filter_shards_are_ranked_by_cells_that_hold_a_match(self, town, video):
        where = Filter(videos=(video,), seconds=(0.0, 20.0))
        number = town.video(video).number
        with town._generations.reading() as snapshot:
            cells, shards = snapshot.cells, snapshot.shards
        for query in queries(8):
            scores = cells.centroids @ (query / np.linalg.norm(query))
            best = {}
            for shard in shards:
                columns = shard.segments[0].segment.columns
                matching = columns.cell[(columns.video == number) & (columns.seconds < 20)]
                if len(matching):
                    best[shard.shard] = scores[matching].max()
            trace = town.search(query, 1, n_probe=10**6, max_shards=1, where=where).trace
            (opened,) = [shard for shard in trace.shards if shard.cells]
            assert opened.shard == max(best, key=best.get)
            assert {s.shard: s.score for s in trace.shards if s.score is not None} == pytest.approx(best, abs=1e-5)


class TestBadQuestions:
    def test_an_exact_search_with_a_cap_on_shards_is_a_contradiction(self, town):
        with pytest.raises(ValueError, match="leave out either exact or max_shards"):
            town.search(queries(1)[0], exact=True, max_shards=1)

    @pytest.mark.parametrize("name", ["k", "n_probe", "max_shards", "per_shot"])
    @pytest.mark.parametrize("value", [0, -1])
    def test_a_number_below_one_is_refused_by_name(self, town, name, value):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            town.search(queries(1)[0], **{name: value})

    @pytest.mark.parametrize(
        ("query", "why"),
        [
            (np.zeros(DIM), "all zeros"),
            (np.full(DIM, np.nan), "not a finite"),
            (np.array([np.inf] + [0.0] * (DIM - 1)), "not a finite"),
            (np.ones(DIM + 1), "shape"),
            (np.ones((1, DIM)), "shape"),
            (np.float32(1), "shape"),
            ("", "empty"),
            (" \n", "empty"),
        ],
    )
    def test_a_query_that_cannot_be_answered_is_refused_with_a_sentence(self, town, query, why):
        with pytest.raises(ValueError, match=why) as caught:
            town.search(query)
        assert str(caught.value).endswith(".")

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_the_length_of_a_query_does_not_matter(self, town, flat, scale):
        query = queries(1)[0]
        assert_answers(town.search(query * np.float32(scale), 5, exact=True).hits, flat, query, 5)


class TestTrace:
    def test_every_shard_is_accounted_for_once(self, town):
        for query in queries(5):
            for wanted in ({"exact": True}, {"n_probe": 1}, {"n_probe": 3}, {"where": FILTERS[12]}):
                trace = town.search(query, 5, **wanted).trace
                assert [shard.shard for shard in trace.shards] == list(range(4))
                assert trace.vectors_scanned == sum(shard.vectors_scanned for shard in trace.shards)
                assert trace.count(*ShardState) == trace.shards_total == 4
                assert all(shard.reason for shard in trace.shards)
                for shard in trace.shards:
                    if shard.state in (ShardState.SKIPPED, ShardState.PRUNED):
                        assert shard.vectors_scanned == shard.bytes_read == shard.cells == 0
                assert trace.ms["total"] >= sum(value for stage, value in trace.ms.items() if stage != "total") - 1e-6

    def test_scanned_frames_are_those_of_the_cells_probed(self, town):
        with town._generations.reading() as snapshot:
            cells, columns = snapshot.cells, [view.segment.columns for view in snapshot.views()]
        for query in queries(5):
            trace = town.search(query, 2, n_probe=3).trace
            order = np.argsort(-(cells.centroids @ (query / np.linalg.norm(query))))
            probed = [c for c in order if any((each.cell == c).any() for each in columns)][: trace.n_probe]
            assert trace.n_probe == 3
            assert trace.vectors_scanned == sum(int(np.isin(each.cell, probed).sum()) for each in columns)
            assert trace.cells_scored == trace.n_cells == len(cells)
            assert sum(shard.cells for shard in trace.shards) == 3

    def test_probing_further_than_asked_is_explained(self, town):
        trace = town.search(queries(1)[0], 100, n_probe=1).trace
        assert trace.n_probe > 1
        assert trace.reason.endswith(f"It took {trace.n_probe} to find 100 frames.")
        assert trace.vectors_scanned >= 100

    def test_a_shard_is_read_once_and_cached_after(self, town, flat):
        with Collection.open(town.path) as fresh:
            first, second = (fresh.search(queries(1)[0], 5, exact=True).trace for _ in range(2))
            assert {shard.state for shard in first.shards} == {ShardState.OPENED}
            assert first.bytes_read == sum(path.stat().st_size for path in segment_files(town, "vectors.npy"))
            assert {shard.state for shard in second.shards} == {ShardState.CACHED}
            assert second.bytes_read == 0
            assert first.vectors_scanned == second.vectors_scanned == first.vectors_total == N
            assert fresh.cache.stats().hits == fresh.cache.stats().misses == 4

    def test_nothing_is_cached_without_a_budget(self, town):
        with Collection.open(town.path, cache_bytes=0) as fresh:
            traces = [fresh.search(queries(1)[0], 5, exact=True).trace for _ in range(2)]
            assert [trace.count(ShardState.OPENED) for trace in traces] == [4, 4]
            assert fresh.cache.stats().nbytes == 0

    def test_ties_go_to_the_lower_frame_id(self, tmp_path):
        new, frames = make_video(0, 4)
        same = FrameBatch(np.repeat(frames.vectors[:1], 12, axis=0), np.arange(12), np.arange(12.0))
        with fill(tmp_path / "c", [(new, same)], n_shards=3, placement="round_robin", n_cells=1) as collection:
            hits = collection.search(queries(1)[0], 12, exact=True).hits
        assert len({hit.score for hit in hits}) == 1
        assert [hit.frame_id for hit in hits] == list(range(12))

    @pytest.mark.parametrize(
        ("route", "wanted", "method", "why"),
        [
            ("auto", {}, "exact", "not calibrated"),
            ("exact", {}, "exact", "set to exact"),
            ("routed", {}, "routed", "by default"),
            ("exact", {"n_probe": 2}, "routed", "were asked for"),
            ("routed", {"exact": True}, "exact", "was asked for"),
        ],
    )
    def test_the_method_follows_what_is_asked_and_then_the_collection(self, tmp_path, route, wanted, method, why):
        with fill(tmp_path / "c", VIDEOS[:2], route=route) as collection:
            trace = collection.search(queries(1)[0], **wanted).trace
        assert trace.method == method
        assert why in trace.reason

    def test_before_a_build_every_frame_is_scanned(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS[:2], built=False) as collection:
            trace = collection.search(queries(1)[0], n_probe=1).trace
        assert (trace.method, trace.vectors_scanned) == ("exact", 60)
        assert "not been built" in trace.reason


class TestFaults:
    """A shard that cannot be read is named; with allow_partial the others answer and the trace says what is missing."""

    @pytest.fixture
    def broken(self, tmp_path, coded):
        """A built collection; a function damages one file of one of its shards."""
        fill(tmp_path / "c", VIDEOS).close()
        return tmp_path / "c"

    @pytest.mark.parametrize("harm", [flip, lambda path: path.unlink()], ids=["flipped", "gone"])
    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("vectors.npy", {"exact": True}),
            ("vectors.npy", {"n_probe": 10**6, "k": 200}),
            ("vectors.npy", {"where": Filter(seconds=(0.0, 30.0))}),
            ("frames.arrow", {"exact": True}),
            ("frames.arrow", {"n_probe": 10**6}),
            ("frames.arrow", {"where": Filter(seconds=(0.0, 30.0))}),
            ("cells.npy", {"n_probe": 10**6}),
            ("codes.faiss", {"n_probe": 10**6}),
        ],
    )
    @pytest.mark.parametrize("workers", [1, 3])
    def test_a_damaged_file_fails_its_shard_and_no_other(self, broken, flat, name, wanted, harm, workers):
        with Collection.open(broken, workers=workers) as collection:
            path = segment_files(collection, name)[1]
            with collection._generations.reading() as snapshot:
                (shard,) = [s for s in snapshot.shards for v in s.segments if v.segment.folder == path.parent]
                lost = set(shard.segments[0].segment.columns.frame_id.tolist())
        harm(path)
        query, wanted = queries(1)[0], dict(wanted)
        k, where = wanted.pop("k", 20), wanted.get("where")
        with Collection.open(broken, workers=workers) as collection:
            with pytest.raises(ShardFailed, match=name) as caught:
                collection.search(query, k, **wanted)
            assert (caught.value.shard, caught.value.segment) == (shard.shard, path.parent.name)
            result = collection.search(query, k, allow_partial=True, **wanted)
            (problem,) = collection.check()
        mask = ~np.isin(flat.frame_id, list(lost))
        assert_answers(result.hits, flat, query, k, mask & flat.passes(where) if where else mask)
        (missing,) = result.trace.missing
        assert f"Shard {shard.shard} " in missing
        assert name in missing
        assert name in problem
        assert [s.shard for s in result.trace.shards if s.state is ShardState.FAILED] == [shard.shard]
        assert "No frame passes the filter." not in result.trace.warnings

    def test_damage_in_a_shard_that_is_not_opened_hinders_nobody(self, broken, flat):
        query = queries(1)[0]
        with Collection.open(broken) as collection:
            trace = collection.search(query, 1, n_probe=1).trace
            skipped = [shard.shard for shard in trace.shards if shard.state is ShardState.SKIPPED]
            with collection._generations.reading() as snapshot:
                folder = snapshot.shards[skipped[0]].segments[0].segment.folder
        (folder / "codes.faiss").unlink()
        (folder / "frames.arrow").unlink()
        with Collection.open(broken) as collection:
            assert len(collection.search(query, 1, n_probe=1).hits) == 1

    def test_damaged_cells_stop_routing_with_a_sentence_and_leave_exact_search(self, broken, flat):
        (centroids,) = broken.glob("cells/*/centroids.npy")
        flip(centroids)
        with Collection.open(broken) as collection:
            with pytest.raises(CorruptData, match="centroids"):
                collection.search(queries(1)[0])
            assert_answers(collection.search(queries(1)[0], 5, exact=True).hits, flat, queries(1)[0], 5)
            assert any("centroids" in problem for problem in collection.check())

    def test_a_sound_collection_has_no_problems(self, broken):
        with Collection.open(broken) as collection:
            assert collection.check() == []


def test_more_than_ten_thousand_frames_are_coded_and_nearly_nothing_is_lost(tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 16))
    vectors = (centres[rng.integers(0, 60, 21_000)] + 0.5 * rng.normal(size=(21_000, 16))).astype(np.float32)
    frames = FrameBatch(vectors, np.arange(len(vectors)), np.arange(len(vectors)) * 0.5)
    videos = [(NewVideo("long"), frames)]
    flat = Flat.of(videos)
    with fill(tmp_path / "c", videos, dim=16, n_shards=2, placement="round_robin", n_cells=64) as collection:
        assert len(segment_files(collection, "codes.faiss")) == 2
        asked = queries(20, 16)
        best = [{hit.frame_id for hit in collection.search(query, 10, exact=True).hits} for query in asked]
        assert_answers(collection.search(asked[0], 10, exact=True).hits, flat, asked[0], 10)
        results = [collection.search(query, 10, n_probe=64) for query in asked]
        recall = np.mean(
            [len(want & {hit.frame_id for hit in got.hits}) / 10 for want, got in zip(best, results, strict=True)]
        )
        assert recall >= 0.99
        assert all(got.trace.vectors_scanned == 21_000 for got in results)
        narrow = collection.search(asked[0], 10)
        assert narrow.trace.n_probe == 8
        assert narrow.trace.vectors_scanned < 21_000 / 2
        collection.delete("long")
        assert collection.search(asked[0], 10).hits == ()
