"""Scores, codecs and inverted lists."""

from __future__ import annotations

import errno
import io
import threading
import zlib

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import vectorindex
from engine.durable import storage_errors
from engine.errors import CorruptData, StorageFull
from engine.vectorindex import CODECS, PlainLists, list_order, read_lists, scores_of, top, train_codec, write_lists

N, DIM, CELLS = 300, 16, 7


@pytest.fixture(scope="module")
def rows():
    x = np.random.default_rng(1).normal(size=(N, DIM)).astype(np.float32)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def cell(rows):
    # Numbers with gaps: a segment holds only some of a collection's cells.
    return (vectorindex.nearest(rows, vectorindex.kmeans(rows, CELLS)) * 3 + 5).astype(np.int32)


@pytest.fixture
def query():
    return np.random.default_rng(2).normal(size=DIM).astype(np.float32)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_scores_are_those_of_a_flat_index_with_the_best_highest(rows, query, metric):
    index = faiss.IndexFlatIP(DIM) if metric == "ip" else faiss.IndexFlatL2(DIM)
    index.add(rows)
    found, ids = index.search(query[None], N)
    scores = scores_of(query, rows, metric)
    np.testing.assert_allclose(scores[ids[0]], found[0] if metric == "ip" else -found[0], atol=1e-5)
    assert top(scores, 1)[0] == ids[0, 0]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(1, 50))
def test_top_gives_the_k_largest_and_ties_by_position(values, k):
    scores = np.array(values, np.float32)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert top(scores, k).tolist() == expected


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_lists_hold_every_row_once_under_its_cell(cells):
    cell = np.array(cells, np.int32)
    occurring, offsets, order = list_order(cell)
    assert occurring.tolist() == sorted(set(cells))
    assert sorted(order.tolist()) == list(range(len(cells)))
    for i, number in enumerate(occurring):
        inside = order[offsets[i] : offsets[i + 1]]
        assert set(cell[inside]) == {number}
        assert inside.tolist() == sorted(inside)


def test_kmeans_is_the_same_every_time(rows):
    np.testing.assert_array_equal(vectorindex.kmeans(rows, 5), vectorindex.kmeans(rows, 5))


@pytest.mark.parametrize("n_cells", [1, 8])
def test_kmeans_of_identical_rows_stays_finite(n_cells):
    assert np.isfinite(vectorindex.kmeans(np.ones((40, 4), np.float32), n_cells)).all()


def coded(tmp_path, rows, cell, codec, metric="ip", trained=None):
    path = tmp_path / "codes.faiss"
    sums = write_lists(path, rows, cell, codec, train_codec(codec, rows) if trained is None else trained, metric)
    return path, sums, read_lists(path)


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("codec", CODECS)
class TestEveryCodec:
    def test_finds_nearly_what_plain_lists_find(self, tmp_path, rows, cell, query, codec, metric):
        _, _, lists = coded(tmp_path, rows, cell, codec, metric)
        _, offsets, order = list_order(cell)
        plain = PlainLists(order, offsets, rows[order], metric)
        every = np.arange(len(offsets) - 1)
        exact, rough = plain.search(query, every, 10, None), lists.search(query, every, 60, None)
        assert set(exact.rows) <= set(rough.rows)
        assert rough.scanned == exact.scanned == N
        assert exact.exact
        assert not rough.exact
        # Scores of codes are near the exact ones and on the same scale.
        error = np.abs(rough.scores - scores_of(query, rows[rough.rows], metric))
        assert error.max() < {"fp16": 2e-3, "sq8": 0.05, "sq4": 0.7}[codec]

    def test_returns_only_rows_of_the_lists_asked_for_that_pass_the_mask(
        self, tmp_path, rows, cell, query, codec, metric
    ):
        _, _, lists = coded(tmp_path, rows, cell, codec, metric)
        occurring, _, _ = list_order(cell)
        mask = np.random.default_rng(3).random(N) < 0.3
        found = lists.search(query, np.array([1, 4]), N, mask)
        allowed = np.flatnonzero(mask & np.isin(cell, occurring[[1, 4]]))
        assert sorted(found.rows.tolist()) == allowed.tolist()
        assert found.scanned == int(np.isin(cell, occurring[[1, 4]]).sum())

    def test_the_quantizer_is_stored_empty_and_lists_cover_only_cells_that_occur(
        self, tmp_path, rows, cell, codec, metric
    ):
        path, _, _ = coded(tmp_path, rows, cell, codec, metric)
        index = faiss.read_index(str(path))
        assert index.quantizer.ntotal == 0
        assert index.nlist == len(np.unique(cell))
        assert not index.by_residual
        assert index.ntotal == N

    def test_list_checksums_are_those_of_the_stored_ids_and_codes(self, tmp_path, rows, cell, codec, metric):
        path, sums, _ = coded(tmp_path, rows, cell, codec, metric)
        stored = faiss.read_index(str(path))
        for i in range(stored.nlist):
            size = stored.invlists.list_size(i)
            ids = faiss.rev_swig_ptr(stored.invlists.get_ids(i), size).tobytes()
            codes = faiss.rev_swig_ptr(stored.invlists.get_codes(i), size * stored.code_size).tobytes()
            assert zlib.crc32(ids + codes) == sums[i]


def test_a_list_is_the_same_whatever_other_lists_lie_beside_it(tmp_path, rows, cell):
    trained = train_codec("sq8", rows)
    number = np.unique(cell)[2]
    mine = np.flatnonzero(cell == number)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, _, whole = coded(tmp_path / "a", rows, cell, "sq8", trained=trained)
    _, _, alone = coded(tmp_path / "b", rows[mine], cell[mine], "sq8", trained=trained)
    query = rows[mine[0]]
    one = whole.search(query, np.array([2]), 5, None)
    other = alone.search(query, np.array([0]), 5, None)
    np.testing.assert_array_equal(one.rows, mine[other.rows])
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_k_beyond_all_rows_costs_no_memory_and_returns_them_all(tmp_path, rows, cell, query):
    _, _, lists = coded(tmp_path, rows, cell, "sq8")
    assert len(lists.search(query, np.arange(3), 10**12, None).rows) == int(np.isin(cell, np.unique(cell)[:3]).sum())


def test_threads_with_other_widths_do_not_disturb_each_other(tmp_path, rows, cell, query):
    _, _, lists = coded(tmp_path, rows, cell, "sq8")
    widths = [np.arange(1), np.arange(3), np.arange(6)]
    alone = [lists.search(query, width, 20, None).rows.tolist() for width in widths]
    wrong: list[int] = []

    def ask(i: int) -> None:
        with vectorindex.one_thread():
            for _ in range(200):
                if lists.search(query, widths[i], 20, None).rows.tolist() != alone[i]:
                    wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i % 3,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_thread_gives_the_callers_threads_back():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        with vectorindex.one_thread():
            assert faiss.omp_get_max_threads() == 1
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_a_file_that_faiss_cannot_read_is_corrupt(tmp_path):
    (tmp_path / "codes.faiss").write_bytes(b"IwSq" + b"\0" * 40)
    with pytest.raises(CorruptData, match=r"codes\.faiss"):
        read_lists(tmp_path / "codes.faiss")


def test_a_disk_that_fills_up_at_the_last_buffer_is_noticed(tmp_path, rows, cell, monkeypatch):
    (tmp_path / "full").symlink_to("/dev/full")
    monkeypatch.setattr("engine.vectorindex.synced", lambda path: path.open("wb"))
    with pytest.raises(StorageFull), storage_errors("the build"):
        write_lists(tmp_path / "full", rows, cell, "sq8", train_codec("sq8", rows), "ip")


def test_a_piece_of_an_index_that_was_not_written_is_never_passed_over(tmp_path, rows, cell, monkeypatch):
    class FailsOnce(io.BytesIO):
        def write(self, chunk) -> int:
            if not self.failed and self.tell():
                FailsOnce.failed = True
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(chunk)

        failed = False

    monkeypatch.setattr("engine.vectorindex.synced", lambda path: FailsOnce())
    with pytest.raises(OSError, match="No space"):
        write_lists(tmp_path / "codes.faiss", rows, cell, "sq8", train_codec("sq8", rows), "ip")


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.sampled_from(["ip", "l2"]))
def test_plain_lists_probed_whole_are_a_flat_scan(n, n_cells, metric):
    rng = np.random.default_rng(n * 7 + n_cells)
    x, query = rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    cell = rng.integers(0, n_cells, n).astype(np.int32)
    _, offsets, order = list_order(cell)
    found = PlainLists(order, offsets, x[order], metric).search(query, np.arange(len(offsets) - 1), 5, None)
    np.testing.assert_allclose(found.scores, np.sort(scores_of(query, x, metric))[::-1][:5], atol=1e-5)
