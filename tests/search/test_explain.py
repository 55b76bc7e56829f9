"""What was missed: the frames that only an exact search finds, and the true reason for each."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.collection import Collection
from engine.datasets.synthetic import World, write_synthetic
from engine.errors import CollectionError
from engine.search.explain import Cause, Missed
from engine.search.ground_truth import GroundTruth
from engine.storage.limits import limited
from engine.system import no_progress
from engine.types import Filter, FrameBatch, NewVideo, Reason, ReasonCode, ShardState
from testing.worlds import DIM, FEW, VIDEOS, fill, make_video, queries
from tests.search.test_preview import filters

SEARCHED = (ShardState.OPENED, ShardState.CACHED)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A collection with a learned router, two levels of cells and codes."""
    world = World(24, 3)
    with limited(coded_from=1):
        path = tmp_path_factory.mktemp("learned") / "c"
        with Collection.create(path, dim=24, n_shards=8, route="routed", codec="sq4") as collection:
            collection.use_queries(world.text_queries(600, seed=2))
            write_synthetic(collection, world, 6000, build=True)
            yield collection, world.text_queries(40, seed=1)


@pytest.mark.parametrize(
    "how",
    [
        {"n_probe": 1},
        {"n_probe": 4},
        {"recall": 0.6},
        {"recall": 0.9},
        {"max_shards": 1},
        {"max_shards": 2, "recall": 0.9},
    ],
)
def test_missed_and_found_together_are_the_exact_answer(learned, how):
    collection, asked = learned
    with collection.reading() as snapshot:
        truth = GroundTruth.of(snapshot, asked, 10, no_progress)
    for i, query in enumerate(asked):
        result = collection.search(query, 10, **how)
        missed = collection.missed(query, result, **how)
        exact = collection.search(query, 10, exact=True).hits
        found = {hit.frame_id for hit in result.hits}
        assert not found & {each.hit.frame_id for each in missed}
        assert all(exact[each.rank - 1] == each.hit for each in missed)
        assert [each.rank for each in missed] == sorted(each.rank for each in missed)
        assert len(missed) == round(10 * (1 - truth.recall(i, [hit.frame_id for hit in result.hits])))


def test_each_cause_is_the_true_one(learned):
    collection, asked = learned
    with collection.reading() as snapshot:
        cell_of = {
            int(frame_id): int(cell)
            for view in snapshot.views()
            for frame_id, cell in zip(view.segment.columns.frame_id, view.segment.columns.cell, strict=True)
        }
        scores = snapshot.routing.scorers("text")["learned"].score_cells(asked)
    seen: set[Cause] = set()
    for how in ({"n_probe": 2}, {"recall": 0.7}, {"recall": 0.9}, {"max_shards": 1, "recall": 0.95}):
        for i, query in enumerate(asked):
            result = collection.search(query, 10, **how)
            for each in collection.missed(query, result, **how):
                seen.add(each.cause)
                trace = result.trace.shards[each.hit.shard]
                assert (each.state, each.reason) == (trace.state, trace.reason)
                assert (trace.state in SEARCHED) == (each.cause in (Cause.CELL, Cause.CODES))
                if each.cause is Cause.CAPPED:
                    assert "max_shards" in how
                    assert each.predicted == trace.score
                    assert each.needed == min(s.score for s in result.trace.shards if s.state in SEARCHED)
                elif each.predicted is not None:
                    assert each.predicted == pytest.approx(scores[i, cell_of[each.hit.frame_id]], abs=1e-4)
                if each.cause in (Cause.SKIPPED, Cause.CELL, Cause.CAPPED) and each.predicted is not None:
                    assert each.needed is not None
                    assert each.predicted <= each.needed
                if each.cause is Cause.CODES:
                    assert trace.cells > 0
    assert seen >= {Cause.SKIPPED, Cause.CELL, Cause.CAPPED}


def test_opening_the_shards_of_what_was_missed_finds_it(learned):
    collection, asked = learned
    for query in asked:
        missed = collection.missed(query, collection.search(query, 10, n_probe=2), n_probe=2)
        also = sorted({each.hit.shard for each in missed})
        wider = collection.search(query, 10, n_probe=2, force_shards=also)
        assert {each.hit.frame_id for each in missed} <= {hit.frame_id for hit in wider.hits}
        assert {each.hit.shard for each in collection.missed(query, wider, n_probe=2, force_shards=also)}.isdisjoint(
            also
        )


@given(
    seed=st.integers(0, 60),
    where=st.one_of(st.none(), filters()),
    per_shot=st.sampled_from([None, 1, 2]),
    cap=st.sampled_from([None, 1]),
    boost=st.one_of(st.none(), filters()),
)
@settings(max_examples=60, deadline=None)
def test_under_any_filter_missed_frames_pass_it_and_were_not_found(town, seed, where, per_shot, cap, boost):
    query = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    how = {"n_probe": 1, "where": where, "per_shot": per_shot, "max_shards": cap, "boost": boost}
    result = town.search(query, 8, **how)
    missed = town.missed(query, result, **how)
    exact = town.search(query, 8, exact=True, where=where, per_shot=per_shot).hits
    lacking = [hit for hit in exact if hit.frame_id not in {found.frame_id for found in result.hits}]
    # No two frames of this town score alike.
    assert [each.hit for each in missed] == lacking


def test_a_frame_as_good_as_the_last_is_as_right(tmp_path):
    vectors = np.zeros((8, DIM), np.float32)
    vectors[:, 0] = 1
    vectors[0, 1] = 0.1
    tied = FrameBatch(vectors, np.arange(8, dtype=np.int64), np.arange(8) * 60.0)
    with fill(tmp_path / "c", [(NewVideo("v"), tied), *FEW], n_shards=2) as collection:
        query = np.eye(DIM, dtype=np.float32)[0]
        exact = collection.search(query, 3, exact=True)
        # The same answer with another of the frames that tie.
        other = next(hit for hit in collection.search(query, 8, exact=True).hits[3:7])
        trace = collection.search(query, 3, n_probe=1).trace
        swapped = type(exact)((*exact.hits[:2], other), trace)
        assert collection.missed(query, swapped, n_probe=1) == ()
        lacking = type(exact)(exact.hits[:2], trace)
        assert [each.hit for each in collection.missed(query, lacking, n_probe=1)] == [exact.hits[2]]


def test_an_exact_answer_misses_nothing(town):
    assert town.missed(queries(1)[0], town.search(queries(1)[0], 5, exact=True), exact=True) == ()


def test_an_answer_of_another_generation_is_refused(tmp_path):
    with fill(tmp_path / "c", FEW) as collection:
        result = collection.search(queries(1)[0], 3, n_probe=1)
        collection.add(*make_video(8))
        with pytest.raises(CollectionError, match="has changed since this search; search again"):
            collection.missed(queries(1)[0], result, n_probe=1)


def test_frames_of_a_failed_shard_are_missed_because_it_failed(tmp_path):
    with fill(tmp_path / "c", VIDEOS, n_shards=3) as collection:
        query = queries(1)[0]
        sound = collection.search(query, 1, exact=True).hits[0]
        result = collection.search(query, 5, n_probe=3)
        failed = [
            type(s)(s.shard, s.name, ShardState.FAILED, Reason(ReasonCode.FAILED, ("it is broken",)), s.n_frames)
            if s.shard == sound.shard
            else s
            for s in result.trace.shards
        ]
        from dataclasses import replace

        broken = replace(
            result,
            hits=tuple(hit for hit in result.hits if hit.shard != sound.shard),
            trace=replace(result.trace, shards=tuple(failed)),
        )
        first = collection.missed(query, broken, n_probe=3)[0]
        assert first.cause is Cause.FAILED
        assert first.sentence == f"in shard {sound.shard}, which failed: it is broken"


@pytest.mark.parametrize(
    ("cause", "predicted", "needed", "said"),
    [
        (Cause.SKIPPED, 0.271, 0.294, "in shard 7, skipped: predicted 0.27, needed 0.29"),
        (Cause.SKIPPED, None, 0.3, "in shard 7, skipped: its cell is in a group that was not looked into"),
        (Cause.SKIPPED, 0.27, None, "in shard 7, skipped: predicted 0.27"),
        (Cause.CAPPED, 0.271, 0.274, "in shard 7, left out by the cap on shards: predicted 0.271, needed 0.274"),
        (Cause.CELL, -0.5, 1.2, "in shard 7, opened, but its cell was not probed: predicted -0.50, needed 1.20"),
        (Cause.CODES, 0.3, 0.2, "in shard 7, probed, but its codes ranked it too low to be compared exactly"),
    ],
)
def test_the_sentence_says_where_and_why(town, cause, predicted, needed, said):
    from dataclasses import replace

    hit = replace(town.search(queries(1)[0], 1, exact=True).hits[0], shard=7)
    missed = Missed(hit, 1, cause, ShardState.SKIPPED, "", predicted, needed)
    assert missed.sentence == said
    assert re.fullmatch(r"in shard \d+, .+", missed.sentence)


def test_a_filter_that_makes_it_exact_misses_nothing(town):
    where = Filter(videos=("v1",))
    result = town.search(queries(1)[0], 5, n_probe=1, where=where)
    assert result.trace.method == "exact"
    assert town.missed(queries(1)[0], result, n_probe=1, where=where) == ()
