"""Scores, k-means, codecs, and scans straight over the stored rows."""

from __future__ import annotations

from itertools import product

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.system.files import save_array
from engine.vectors.clustering import kmeans
from engine.vectors.codecs import CODECS, Codec, clipped_share, train_codec
from engine.vectors.faiss_common import one_thread
from engine.vectors.flat import FlatRows, scores_of
from engine.vectors.list_format import occupied_cells
from engine.vectors.lists import CodedRows
from testing.worlds import assert_ranking

N, DIM = 300, 16
METRICS = ["ip", "l2"]


@pytest.fixture(scope="module")
def rows():
    x = np.random.default_rng(1).normal(size=(N, DIM)).astype(np.float32)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def asked():
    return np.random.default_rng(2).normal(size=(4, DIM)).astype(np.float32)


class TestScores:
    @pytest.mark.parametrize("metric", METRICS)
    def test_scores_are_those_of_a_flat_index_with_the_best_highest(self, rows, asked, metric):
        index = faiss.IndexFlatIP(DIM) if metric == "ip" else faiss.IndexFlatL2(DIM)
        index.add(rows)
        found, ids = index.search(asked[:1], N)
        scores = scores_of(asked[0], rows, metric)
        np.testing.assert_allclose(scores[ids[0]], found[0] if metric == "ip" else -found[0], atol=1e-5)
        assert scores.argmax() == ids[0, 0]

    @pytest.mark.parametrize("metric", METRICS)
    def test_several_queries_score_as_each_does_alone(self, rows, asked, metric):
        together = scores_of(asked, rows, metric)
        assert together.shape == (4, N)
        for query, scores in zip(asked, together, strict=True):
            np.testing.assert_allclose(scores, scores_of(query, rows, metric), atol=1e-6)


class TestCells:
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
    def test_the_cells_that_occur_are_listed_rising_with_their_rows(self, cells):
        occurring, counts = occupied_cells(np.array(cells, np.int32))
        assert occurring.tolist() == sorted(set(cells))
        assert counts.tolist() == [cells.count(number) for number in occurring]

    def test_kmeans_is_the_same_every_time(self, rows):
        np.testing.assert_array_equal(kmeans(rows, 5), kmeans(rows, 5))

    @pytest.mark.parametrize("n_cells", [1, 8])
    def test_kmeans_of_identical_rows_stays_finite(self, n_cells):
        assert np.isfinite(kmeans(np.ones((40, 4), np.float32), n_cells)).all()


def test_four_bits_rank_rows_well_though_a_few_lie_far_out():
    rng = np.random.default_rng(2)
    x, asked = rng.normal(size=(4000, 64)).astype(np.float32), rng.normal(size=(50, 64)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[::1000] *= 10
    best = np.argsort(-(asked @ x.T), axis=1)[:, :10]
    found = CodedRows(x, "sq4", train_codec("sq4", x), "ip").search(asked, 20).rows
    # .72 where the 16 steps go from the lowest value to the highest.
    assert np.mean([len(np.intersect1d(*pair)) for pair in zip(best, found, strict=True)]) / 10 > 0.85


class TestClipped:
    @pytest.mark.parametrize("codec", CODECS)
    def test_next_to_nothing_that_the_codec_was_trained_on_is_cut_off(self, rows, codec):
        assert clipped_share(rows, codec, train_codec(codec, rows)) == 0
        heavy = np.random.default_rng(1).standard_cauchy((4000, 3)).astype(np.float32)
        assert clipped_share(heavy, codec, train_codec(codec, heavy)) <= (0.0051 if codec == "sq4" else 0.0005)

    @pytest.mark.parametrize("codec", ["sq8", "sq4"])
    def test_it_is_the_share_of_values_outside_the_range(self, rows, codec):
        trained = train_codec(codec, rows)
        low, width = trained.reshape(2, -1)
        later = np.clip(rows, low, low + width)
        later[:30, 0], later[:15, 1] = low[0] + 1.1 * width[0], low[1] - 0.01
        assert clipped_share(later, codec, trained) == pytest.approx(45 / rows.size)

    @pytest.mark.parametrize("codec", ["fp16", "fp32"])
    def test_codecs_without_a_range_cut_nothing_off(self, rows, codec):
        assert clipped_share(1000 * rows, codec, train_codec(codec, rows)) == 0

    def test_no_rows_are_not_cut_off(self, rows):
        assert clipped_share(rows[:0], "sq8", train_codec("sq8", rows)) == 0


DENSITIES = (0.0, 1 / N, 0.05, 0.19, 0.21, 0.5, 1.0)
"""Shares of rows that pass; from 0.2 on rows are dropped after they were ranked."""


def passing(share: float, seed: int = 3) -> np.ndarray:
    """A mask with exactly this share of rows, drawn at random."""
    mask = np.zeros(N, np.bool_)
    mask[np.random.default_rng(seed).permutation(N)[: round(share * N)]] = True
    return mask


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("store", [np.float16, np.float32], ids=["fp16", "fp32"])
class TestFlatRows:
    @pytest.fixture
    def flat(self, rows, store, metric, tmp_path):
        """As a segment opens them: mapped and read-only."""
        save_array(tmp_path / "vectors.npy", rows.astype(store))
        return FlatRows(np.load(tmp_path / "vectors.npy", mmap_mode="r"), metric)

    def test_a_scan_is_a_plain_ranking(self, flat, rows, metric):
        for m, k in product((1, 4, 30), (1, 10, N, 10**9)):
            asked = np.random.default_rng(5).normal(size=(m, DIM)).astype(np.float32)
            hits = flat.search(asked, k, None)
            assert hits.exact
            assert hits.scanned.tolist() == [N] * m
            for i, query in enumerate(asked):
                assert_ranking(hits.rows[i], hits.scores[i], scores_of(query, rows, metric), np.ones(N, np.bool_), k)

    def test_only_rows_that_pass_and_the_best_of_them(self, flat, rows, asked, metric):
        for share, k in product(DENSITIES, (1, 10, 200)):
            mask = passing(share)
            hits = flat.search(asked, k, mask)
            for i, query in enumerate(asked):
                assert_ranking(hits.rows[i], hits.scores[i], scores_of(query, rows, metric), mask, k)
                assert hits.scanned[i] == mask.sum()

    def test_a_mask_that_leaves_out_all_the_best_is_answered_all_the_same(self, flat, rows, asked, metric):
        # For the first query the best rows are the ones that do not pass; for the others they are spread.
        scores = scores_of(asked[0], rows, metric)
        for share in (0.21, 0.4, 0.6):
            mask = np.zeros(N, np.bool_)
            mask[np.argsort(scores)[: round(share * N)]] = True
            hits = flat.search(asked, 3, mask)
            # More rows are ahead of the first that passes than a first look takes in.
            assert (~mask).sum() > (3 + 4 * 3**0.5 + 8) / share
            for i, query in enumerate(asked):
                assert_ranking(hits.rows[i], hits.scores[i], scores_of(query, rows, metric), mask, 3)

    def test_rows_are_not_copied(self, rows, store, metric):
        mine = rows.astype(store)
        flat = FlatRows(mine, metric)
        mine[17] = 100 if metric == "ip" else 0.5
        query = np.full((1, DIM), 0.5, np.float32)
        assert flat.search(query, 1, None).rows.tolist() == [[17]]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 80),
    m=st.integers(1, 4),
    k=st.integers(1, 100),
    share=st.floats(0, 1),
    metric=st.sampled_from(METRICS),
    store=st.sampled_from([np.float16, np.float32]),
)
def test_any_mask_over_any_rows_is_a_plain_ranking_of_those_that_pass(n, m, k, share, metric, store):
    rng = np.random.default_rng(n * 101 + k)
    x = rng.normal(size=(n, 4)).astype(store)
    asked = rng.normal(size=(m, 4)).astype(np.float32)
    mask = rng.random(n) < share
    found = FlatRows(x, metric).search(asked, k, mask)
    for i, query in enumerate(asked):
        assert_ranking(found.rows[i], found.scores[i], scores_of(query, x.astype(np.float32), metric), mask, k)


def test_one_thread_gives_the_callers_threads_back():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        with one_thread():
            assert faiss.omp_get_max_threads() == 1
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("codec", ["sq8", "sq4", "fp16"])
def test_a_decoded_row_has_the_code_that_it_was_decoded_from(rows, codec):
    moved = (
        rows * np.linspace(0.01, 30, DIM, dtype=np.float32) - 5
    )  # Ranges that are narrow and far from zero, and wide ones.
    moved[:, 3] = 7
    coder = Codec(codec, DIM, train_codec(codec, moved[: N // 2]))
    codes = coder.encode(moved)
    np.testing.assert_array_equal(coder.encode(coder.decode(codes)), codes)
