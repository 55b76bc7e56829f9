"""Preferring: the order among equals and the choice of shards under a cap, and never which frames may be found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.collection import Collection
from engine.frames.filters import CompiledFilter
from engine.search.boosts import Boosts
from engine.types import Filter, FrameBatch, NewVideo, ShardState
from testing.worlds import DIM, TAGS, VIDEOS, Flat, fill, make_video, queries
from tests.search.test_preview import filters

DOG, CAT = "object:dog", "object:cat"


def boosts_of(collection: Collection, boost: Filter) -> Boosts | None:
    with collection.reading() as snapshot:
        return Boosts.of(snapshot, boost)


class TestOrder:
    @pytest.fixture
    def alike(self, tmp_path):
        """Frames of five scores; among equals, dogs come last by their ids."""
        angles = np.repeat([0.1, 0.2, 0.3, 0.4, 0.5], 4)
        vectors = np.zeros((20, DIM), np.float32)
        vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
        tags = tuple(((), (CAT,), (DOG,), (CAT, DOG))[i % 4] for i in range(20))
        frames = FrameBatch(vectors, np.arange(20, dtype=np.int64), np.arange(20) * 1.0, tags=tags)
        with fill(tmp_path / "c", [(NewVideo("v"), frames)], n_shards=1) as collection:
            yield collection

    def test_among_equal_scores_those_that_meet_more_come_first(self, alike):
        query = np.eye(DIM, dtype=np.float32)[0]
        plain = alike.search(query, 20, exact=True).hits
        assert [hit.frame_id for hit in plain] == list(range(20))
        hits = alike.search(query, 20, exact=True, boost=Filter(tags_all=(CAT, DOG))).hits
        assert [hit.frame_id for hit in hits] == [4 * i + j for i in range(5) for j in (3, 1, 2, 0)]
        hits = alike.search(query, 20, exact=True, boost=Filter(tags_none=(CAT,))).hits
        assert [hit.frame_id for hit in hits] == [4 * i + j for i in range(5) for j in (0, 2, 1, 3)]

    def test_scores_that_are_shown_alike_are_equal(self, tmp_path):
        vectors = np.zeros((2, DIM), np.float32)
        vectors[:, 0] = 1
        vectors[:, 1] = (0.0, 0.025)  # The second scores 0.0003 less: 1.000 both.
        frames = FrameBatch(vectors, np.arange(2, dtype=np.int64), np.zeros(2), tags=((), (DOG,)))
        with fill(tmp_path / "c", [(NewVideo("v"), frames)], built=False) as collection:
            query = np.eye(DIM, dtype=np.float32)[0]
            assert [hit.frame_id for hit in collection.search(query, 2).hits] == [0, 1]
            hits = collection.search(query, 2, boost=Filter(tags_all=(DOG,))).hits
            assert [hit.frame_id for hit in hits] == [1, 0]
            assert hits[0].score < hits[1].score

    @given(seed=st.integers(0, 99), boost=filters(), k=st.sampled_from([3, 20]), exact=st.booleans())
    @settings(max_examples=50, deadline=None)
    def test_the_hits_are_the_same_and_shown_scores_never_rise(self, town, seed, boost, k, exact):
        query = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
        how = {"exact": True} if exact else {"n_probe": 2, "per_shot": 2}
        plain, leaning = town.search(query, k, **how), town.search(query, k, boost=boost, **how)
        assert sorted(hit.frame_id for hit in plain.hits) == sorted(hit.frame_id for hit in leaning.hits)
        shown = [float(f"{hit.score:.3f}") for hit in leaning.hits]
        assert shown == sorted(shown, reverse=True)
        assert [s.state in (ShardState.OPENED, ShardState.CACHED) for s in plain.trace.shards] == [
            s.state in (ShardState.OPENED, ShardState.CACHED) for s in leaning.trace.shards
        ]

    def test_a_batch_is_ordered_like_single_queries(self, town):
        boost = Filter(tags_all=(DOG,), tags_any=(TAGS[2], TAGS[3]))
        for query, result in zip(queries(6), town.search_many(queries(6), 30, boost=boost), strict=True):
            alone = town.search(query, 30, boost=boost)
            assert [hit.frame_id for hit in result.hits] == [hit.frame_id for hit in alone.hits]


class TestWhatIsMet:
    @given(where=filters())
    @settings(max_examples=60, deadline=None)
    def test_a_frame_meets_a_filter_if_a_search_for_all_finds_it(self, town, where):
        every = town.search(queries(1)[0], 1000, exact=True).hits
        found = {hit.frame_id for hit in town.search(queries(1)[0], 1000, exact=True, where=where).hits}
        assert {hit.frame_id for hit in every if CompiledFilter(where, {}).passes(hit)} == found

    def test_conditions_are_counted_one_by_one(self, town, flat: Flat):
        boost = Filter(
            videos=("v1", "v2"), seconds=(10.0, 30.0), hours=(9, 10), tags_all=(CAT, DOG), tags_none=(TAGS[4],)
        )
        leaning = boosts_of(town, boost)
        assert leaning is not None
        parts = [
            Filter(videos=("v1", "v2")),
            Filter(seconds=(10.0, 30.0)),
            Filter(hours=(9, 10)),
            Filter(tags_all=(CAT,)),
            Filter(tags_all=(DOG,)),
            Filter(tags_none=(TAGS[4],)),
        ]
        held = sum(flat.passes(part).astype(int) for part in parts)
        for hit in town.search(queries(1)[0], 1000, exact=True).hits:
            assert leaning.n_met(hit) == held[flat.frame_id.tolist().index(hit.frame_id)]

    def test_what_no_frame_carries_is_passed_over(self, town):
        query = queries(1)[0]
        plain = town.search(query, 20, max_shards=1)
        for nothing in (
            Filter(tags_all=("scene:moon",)),
            Filter(tags_none=("scene:moon",)),
            Filter(videos=("nobody",)),
        ):
            assert boosts_of(town, nothing) is None
            leaning = town.search(query, 20, max_shards=1, boost=nothing)
            assert leaning.hits == plain.hits
            assert not any("preferred" in shard.reason for shard in leaning.trace.shards)
        some = boosts_of(town, Filter(tags_any=("scene:moon", DOG), tags_all=("object:ufo",)))
        assert some is not None
        assert [condition.where for condition in some.conditions] == [Filter(tags_any=(DOG,))]


@pytest.fixture(scope="module")
def by_tag(tmp_path_factory):
    """Each shard carries a tag of its own."""
    new, frames = make_video(0, 150)
    tags = tuple((TAGS[i % 5],) for i in range(150))
    video = (new, FrameBatch(frames.vectors, frames.frame_index, frames.seconds, tags=tags))
    path = tmp_path_factory.mktemp("tagged") / "c"
    with fill(path, [video], n_shards=5, placement="round_robin", n_cells=16) as collection:
        yield collection


class TestShards:
    def test_shares_of_tags_and_videos_are_the_counts(self, town):
        stats = town.stats().shards
        every = town.search(queries(1)[0], 1000, exact=True).hits
        for boost, met in (
            (Filter(tags_all=(DOG,)), lambda hit: DOG in hit.tags),
            (Filter(tags_none=(DOG,)), lambda hit: DOG not in hit.tags),
            (Filter(videos=("v3",)), lambda hit: hit.video_id == "v3"),
        ):
            leaning = boosts_of(town, boost)
            assert leaning is not None
            for shard in stats:
                mine = [met(hit) for hit in every if hit.shard == shard.shard]
                assert leaning.shares[shard.shard] == pytest.approx(sum(mine) / len(mine))

    @given(boost=filters())
    @settings(max_examples=60, deadline=None)
    def test_shares_are_shares(self, town, boost):
        leaning = boosts_of(town, boost)
        if leaning is not None:
            assert all(0 <= share <= 1 for share in leaning.shares.values())

    def test_a_lift_is_a_share_of_the_way_from_worst_to_best(self):
        leaning = Boosts((), {0: 0.0, 1: 0.5, 2: 1.0, 3: 1.0})
        predicted = np.array([[0.5, 0.3], [0.4, 0.2], [0.3, 0.1], [-np.inf, -np.inf]], np.float32)
        boosts = leaning.for_shards([0, 1, 2, 3], predicted)
        np.testing.assert_allclose(boosts[:3], [[0.0, 0.0], [0.1, 0.1], [0.2, 0.2]], atol=1e-6)
        assert np.isfinite(leaning.for_shards([0, 1, 2, 3], np.full((4, 2), -np.inf, np.float32))).all()

    def test_under_a_cap_shards_that_carry_it_come_earlier_and_say_so(self, by_tag):
        lifted = tied = 0
        for query in queries(20):
            plain = by_tag.search(query, 5, max_shards=2, n_probe=4).trace
            for carrier, tag in enumerate(TAGS):
                leaning = by_tag.search(query, 5, max_shards=2, n_probe=4, boost=Filter(tags_all=(tag,))).trace
                assert leaning.shards_probed == plain.shards_probed == 2
                if "its best cell" in plain.shards[carrier].reason:
                    continue  # Nothing is probed there whatever is preferred.
                # All of its frames carry it, so it ranks no lower than the best.
                assert leaning.shards[carrier].state in (ShardState.OPENED, ShardState.CACHED)
                if plain.shards[carrier].state is ShardState.SKIPPED:
                    said = "higher for what is preferred" in leaning.shards[carrier].reason
                    same = len({s.score for s in plain.shards if "its best cell" not in s.reason}) == 1
                    assert said != same
                    lifted, tied = lifted + said, tied + same
        assert lifted > 5
        assert tied > 5

    def test_without_a_cap_no_shard_is_ranked(self, by_tag):
        for query in queries(5):
            trace = by_tag.search(query, 5, n_probe=4, boost=Filter(tags_all=(DOG,))).trace
            assert not any("preferred" in shard.reason for shard in trace.shards)


class TestAlso:
    def test_a_shard_that_is_asked_for_is_opened_whole(self, town):
        for query in queries(10):
            for shard in town.stats().shards:
                trace = town.search(query, 3, n_probe=1, force_shards=(shard.shard,)).trace
                told = trace.shards[shard.shard]
                assert told.state in (ShardState.OPENED, ShardState.CACHED)
                assert told.vectors_scanned == told.n_frames == shard.n_frames
                assert told.reason.endswith("opened whole, as asked")

    def test_with_all_shards_the_answer_is_the_exact_one(self, town):
        for query in queries(10):
            exact = town.search(query, 20, exact=True).hits
            for how in ({"n_probe": 1}, {"max_shards": 1}):
                assert town.search(query, 20, force_shards=range(4), **how).hits == exact

    def test_it_does_not_count_among_the_capped(self, town):
        for query in queries(10):
            capped = town.search(query, 3, max_shards=1).trace
            others = [s.shard for s in capped.shards if s.state is ShardState.SKIPPED]
            assert town.search(query, 3, max_shards=1, force_shards=others[:1]).trace.shards_probed == 2

    def test_a_filter_still_holds_in_it(self, town):
        where = Filter(videos=("v0",))
        hits = town.search(queries(1)[0], 100, n_probe=1, force_shards=range(4), where=where).hits
        assert {hit.video_id for hit in hits} == {"v0"}

    def test_codes_and_whole_shards_are_merged_by_exact_scores(self, tmp_path, coded):
        with fill(tmp_path / "c", VIDEOS, n_shards=4) as collection:
            flat = Flat.of(VIDEOS)
            for query in queries(10):
                for hit in collection.search(query, 10, n_probe=2, force_shards=(1,)).hits:
                    assert hit.score == pytest.approx(flat.score_of(query, hit.frame_id), abs=2e-5)
