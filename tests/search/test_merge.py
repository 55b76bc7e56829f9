"""Bringing together what the shards found: exact scores, one order, and a shard that fails on the way."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.search.execute import Answers, Depth, Found
from engine.search.filtering import Candidate, FilteredShards
from engine.search.merge import RERANKED, merge, rerank_depth
from engine.search.shard_selection import select_everything
from engine.storage.rows import columns_of, prepare_rows
from engine.storage.segment import Segment
from engine.storage.segment_writer import write_segment
from engine.storage.views import SegmentView, ShardView
from engine.vectors import CODECS, RowHits, scores_of
from testing.worlds import DIM, flip, make_video, queries

N = 40
METRICS = ["ip", "l2"]


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


@pytest.fixture
def shards(tmp_path, metric):
    """Three shards of a segment each, whose frame ids interleave."""
    made = []
    for i in range(3):
        new, frames = make_video(i, N)
        vectors = prepare_rows(frames, DIM, metric, "fp16")
        columns = columns_of([new], np.array([i + 1], np.int32), 0, frames, vectors, None)
        columns = columns.with_values(frame_id=np.arange(N) * 3 + i)
        row = write_segment(
            tmp_path / str(i),
            i,
            i,
            columns,
            vectors.__getitem__,
            None,
            "sq8",
            metric,
            datetime(2024, 5, 1),
            coded=False,
        )
        view = SegmentView(Segment(tmp_path / str(i), row, DIM, metric, "sq8"), ())
        made.append(ShardView(i, f"Shard {i}", (view,)))
    return made


def answer(shard: ShardView, which, rows, scores, *, exact: bool) -> Found:
    hits = RowHits(np.asarray(rows, np.int64), np.asarray(scores, np.float32), np.full(len(which), N), exact)
    return Found.of(shard.shard, np.asarray(which), hits)


def gathered(shards, m: int, answers) -> Answers:
    """What the shards gave, as a search keeps it."""
    candidates = tuple((shard, (Candidate(shard.segments[0], None, N, np.empty(0, np.int64)),)) for shard in shards)
    gathered = Answers(select_everything(FilteredShards(candidates, {}, ()), m))
    gathered.found += answers
    return gathered


def ranked(shard: ShardView, query, metric, n: int, *, noise: float = 0.0):
    """The n best rows and their scores, a little wrong as codes make them."""
    scores = scores_of(query, shard.segments[0].segment.vectors.astype(np.float32), metric)
    scores = scores + noise * np.random.default_rng(shard.shard).normal(size=N).astype(np.float32)
    best = np.argsort(-scores)[:n]
    return best, scores[best]


def expected(shards, query, metric, k):
    """Frame ids and scores over all shards, by score and then by id."""
    ids = np.concatenate([shard.segments[0].segment.columns.frame_id for shard in shards])
    scores = np.concatenate(
        [scores_of(query, shard.segments[0].segment.vectors.astype(np.float32), metric) for shard in shards]
    )
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def ids_of(merged, i: int):
    return [
        int(merged.columns[candidate].frame_id[row])
        for candidate, row in zip(merged.candidates[i].tolist(), merged.rows[i].tolist(), strict=True)
    ]


class TestMerge:
    @pytest.mark.parametrize("k", [1, 7, 30, 200])
    def test_exact_scores_are_put_in_one_order_for_each_query(self, shards, metric, k):
        asked = queries(4)
        answers = []
        for shard in shards:
            best = [ranked(shard, query, metric, min(k, N)) for query in asked]
            answers.append(answer(shard, np.arange(4), [b for b, _ in best], [s for _, s in best], exact=True))
        merged = merge(gathered(shards, len(asked), answers), asked, Depth(k, k), metric)
        assert merged.reranked.tolist() == [0] * 4
        for i, query in enumerate(asked):
            ids, scores = expected(shards, query, metric, k)
            assert ids_of(merged, i) == ids.tolist()
            np.testing.assert_allclose(merged.scores[i], scores, atol=1e-5)

    @pytest.mark.parametrize("m", [1, 4])
    def test_scores_of_codes_are_replaced_before_the_order_is_made(self, shards, metric, m):
        asked = queries(m)
        answers = []
        for shard in shards:
            best = [ranked(shard, query, metric, N, noise=0.5) for query in asked]
            answers.append(answer(shard, np.arange(m), [b for b, _ in best], [s for _, s in best], exact=False))
        merged = merge(gathered(shards, len(asked), answers), asked, Depth(10, 3 * N), metric)
        assert merged.reranked.tolist() == [3 * N] * m
        for i, query in enumerate(asked):
            ids, scores = expected(shards, query, metric, 10)
            assert ids_of(merged, i) == ids.tolist()
            np.testing.assert_allclose(merged.scores[i], scores, atol=1e-5)

    def test_only_the_best_by_codes_are_looked_at_again(self, shards, metric):
        asked = queries(1)
        answers = [
            answer(shard, [0], *[each[None] for each in ranked(shard, asked[0], metric, N)], exact=False)
            for shard in shards
        ]
        merged = merge(gathered(shards, len(asked), answers), asked, Depth(5, 12), metric)
        assert merged.reranked.tolist() == [12]
        assert ids_of(merged, 0) == expected(shards, asked[0], metric, 5)[0].tolist()

    def test_a_shard_gives_only_to_the_queries_that_asked_it(self, shards, metric):
        asked = queries(3)
        wanted = {0: [0, 2], 1: [1], 2: [2]}
        answers = []
        for shard in shards:
            best = [ranked(shard, asked[i], metric, 10) for i in wanted[shard.shard]]
            answers.append(
                answer(shard, wanted[shard.shard], [b for b, _ in best], [s for _, s in best], exact=shard.shard == 0)
            )
        merged = merge(gathered(shards, len(asked), answers), asked, Depth(8, 20), metric)
        for i, query in enumerate(asked):
            mine = [shard for shard in shards if i in wanted[shard.shard]]
            assert ids_of(merged, i) == expected(mine, query, metric, 8)[0].tolist()
        # Exact rows of the first shard are not looked at again.
        assert merged.reranked.tolist() == [0, 10, 10]

    def test_places_without_a_row_are_no_hits(self, shards, metric):
        rows, scores = [[3, -1, -1], [-1, -1, -1]], [[0.5, -np.inf, -np.inf], [-np.inf] * 3]
        for exact in (True, False):
            found = [answer(shards[0], [0, 1], rows, scores, exact=exact)]
            merged = merge(gathered(shards, 2, found), queries(2), Depth(3, 3), metric)
            assert [len(each) for each in merged.rows] == [1, 0]
            assert merged.reranked.tolist() == ([0, 0] if exact else [1, 0])

    def test_nothing_found_anywhere_is_nothing(self, shards, metric):
        merged = merge(gathered(shards, 2, []), queries(2), Depth(3, 3), metric)
        assert [len(each) for each in merged.scores] == [0, 0]

    def test_a_shard_whose_rows_are_damaged_fails_and_the_others_are_merged(self, shards, metric):
        flip(shards[1].segments[0].segment.folder / "vectors.npy", 128 + 2 * DIM * 5)
        asked = queries(2)
        answers = []
        for shard in shards:
            best = [ranked(shard, query, metric, N) for query in asked]
            answers.append(answer(shard, [0, 1], [b for b, _ in best], [s for _, s in best], exact=False))
        found = gathered(shards, 2, answers)
        merged = merge(found, asked, Depth(9, 3 * N), metric)
        assert [(place, error.shard, error.segment) for place, error in found.errors.items()] == [(1, 1, "1")]
        for i, query in enumerate(asked):
            assert ids_of(merged, i) == expected([shards[0], shards[2]], query, metric, 9)[0].tolist()


@pytest.mark.parametrize("codec", CODECS)
@given(k=st.integers(1, 10_000))
def test_candidates_are_never_fewer_than_the_hits_nor_ten_times_as_many(codec, k):
    assert k <= rerank_depth(codec, k) <= 10 * k
    assert rerank_depth(codec, 10) == min(100, RERANKED[codec])
