"""Limits: hits per shot, shards per search, and questions that are refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from engine.layout import PLACEMENTS
from engine.types import Filter, FrameBatch, ShardState
from testing.worlds import DIM, VIDEOS, N, assert_answers, fill, make_video, queries


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

    @pytest.mark.parametrize("per_shot", [1, 2])
    @pytest.mark.parametrize("where", [None, Filter(tags_any=("object:dog",))], ids=["all", "filtered"])
    @pytest.mark.parametrize("coded", [False, True])
    def test_routing_goes_on_until_there_are_k_where_k_exist(self, tmp_path, flat, per_shot, where, coded, limit):
        limit(exact_matches=0)
        if coded:
            limit(coded_from=1)
        mask = flat.passes(where) if where else np.ones(N, np.bool_)
        shots = [shot for _, frames in VIDEOS for shot in frames.shot.tolist()]
        taken = Counter((flat.video[i], shots[i]) for i in np.flatnonzero(mask))
        exist = sum(min(per_shot, n) for n in taken.values())
        with fill(tmp_path / "c", VIDEOS) as collection:
            for k in (5, exist - 1, exist, exist + 20):
                for result in collection.search_many(queries(4), k, n_probe=1, per_shot=per_shot, where=where):
                    assert len(result.hits) == min(k, exist)
                    given = Counter((hit.video_id, hit.shot) for hit in result.hits)
                    assert max(given.values()) <= per_shot

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

    @pytest.mark.parametrize("placement", PLACEMENTS)
    def test_a_cap_on_shards_warns_where_whole_cells_do_not_live_in_one_shard(self, tmp_path, placement):
        with fill(tmp_path / "c", VIDEOS, placement=placement) as collection:
            for cap in (1, 2):
                for result in collection.search_many(queries(3), max_shards=cap, n_probe=10**6):
                    trace = result.trace
                    assert trace.shards_probed == cap
                    opened = [shard for shard in trace.shards if shard.cells]
                    assert {hit.shard for hit in result.hits} <= {shard.shard for shard in opened}
                    others = [shard.score for shard in trace.shards if shard.state is ShardState.SKIPPED]
                    assert min(shard.score for shard in opened) >= max(others, default=-9)
                    if placement in ("semantic", "hierarchical"):
                        assert trace.warnings == ()
                    else:
                        (warning,) = trace.warnings
                        assert warning.startswith(f"Under {placement.replace('_', '-')} placement")
                        assert warning.endswith("at random.")
            assert collection.search(queries(1)[0], n_probe=10**6).trace.warnings == ()

    def test_under_whole_cells_a_cap_loses_only_what_lies_in_the_shards_left_out(self, town, flat):
        for query in queries(5):
            result = town.search(query, 10, n_probe=10**6, max_shards=2)
            opened = [shard.shard for shard in result.trace.shards if shard.cells]
            everything = town.search(query, N, exact=True).hits
            expected = [hit.frame_id for hit in everything if hit.shard in opened][:10]
            assert [hit.frame_id for hit in result.hits] == expected

    @pytest.mark.parametrize("video", ["v0", "v1", "v2", "v3"])
    def test_under_a_filter_shards_are_ranked_by_cells_that_hold_a_match(self, town, video):
        where = Filter(videos=(video,), seconds=(0.0, 20.0))
        number = town.video(video).number
        with town.reading() as snapshot:
            spread, shards = snapshot.routing.scorers("text")["spread"], snapshot.shards
        for query in queries(8):
            matching = {}
            for shard in shards:
                columns = shard.segments[0].segment.columns
                matching[shard.shard] = columns.cell[(columns.video == number) & (columns.seconds < 20)]
            unit = (query / np.linalg.norm(query)).astype(np.float32)
            scores = spread.score_cells(unit[None])[0]
            best = {shard: scores[mine].max() for shard, mine in matching.items() if len(mine)}
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
            (np.full(DIM, 1e300), "not a finite"),
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

    @pytest.mark.parametrize("wanted", [{"exact": True}, {"n_probe": 10**6}])
    def test_a_query_whose_distances_are_beyond_float32_is_refused(self, tmp_path, wanted):
        with fill(tmp_path / "c", VIDEOS[:1], metric="l2") as collection:
            assert len(collection.search(np.full(DIM, 9e14), 5, **wanted).hits) == 5
            for far in (1.1e15, -1e30):
                with pytest.raises(ValueError, match=r"^The query holds a value larger than 1e\+15, [^.]*\.$"):
                    collection.search(np.full(DIM, far), 5, **wanted)

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_the_length_of_a_query_does_not_matter(self, town, flat, scale):
        query = queries(1)[0]
        assert_answers(town.search(query * np.float32(scale), 5, exact=True).hits, flat, query, 5)
