"""Segments: what is on disk, and that no changed byte takes part in an answer."""

from __future__ import annotations

import gc
import time
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CorruptData
from engine.storage import segment as segment_module
from engine.storage.limits import Limits, current_limits
from engine.storage.rows import columns_of, prepare_rows
from engine.storage.segment import Residency, Segment
from engine.storage.segment_writer import write_segment
from engine.system.open_files import OPEN_FILES
from engine.vectors import CODECS, scores_of
from engine.vectors.cells import Cells, train_cells
from testing.worlds import DIM, assert_ranking, flip, make_video, queries

AT = datetime(2024, 5, 1)
RESIDENCIES: list[Residency] = ["loaded", "mapped"]


def trained(codec: str) -> Cells:
    return train_cells(make_video(0, 60)[1].vectors, 4, codec, 1, two_level=False)


@pytest.fixture(scope="module")
def cells():
    return trained("sq8")


def write(
    tmp_path,
    cells: Cells | None,
    n: int = 60,
    metric: str = "ip",
    store: str = "fp16",
    codec: str = "sq8",
    number: int = 0,
    coded: bool | None = None,
):
    new, frames = make_video(number, n)
    vectors = prepare_rows(frames, DIM, metric, store)
    columns = columns_of([new], np.array([3], np.int32), 100, frames, vectors, cells)
    backwards = np.arange(n)[::-1]
    stored = vectors[backwards].__getitem__
    coded = current_limits().coded(n) if coded is None else coded
    row = write_segment(tmp_path / "1", 1, 0, columns.take(backwards), stored, cells, codec, metric, AT, coded=coded)
    return Segment(tmp_path / "1", row, DIM, metric, codec), vectors


@pytest.fixture(scope="module")
def written(tmp_path_factory, cells):
    """Segments, and their vectors, by metric and store."""
    grid = [(metric, store) for metric in ("ip", "l2") for store in ("fp16", "fp32")]
    return {way: write(tmp_path_factory.mktemp("scan"), cells, metric=way[0], store=way[1]) for way in grid}


class TestWriting:
    @pytest.mark.parametrize("store", ["fp16", "fp32"])
    def test_rows_are_stored_in_video_order_whatever_order_they_came_in(self, tmp_path, cells, store):
        segment, vectors = write(tmp_path, cells, store=store)
        np.testing.assert_array_equal(segment.vectors, vectors)
        assert segment.columns.frame_index.tolist() == sorted(segment.columns.frame_index.tolist())
        assert segment.columns.frame_id.tolist() == list(range(100, 160))
        assert not segment.problems()

    @pytest.mark.usefixtures("coded")
    def test_many_small_steps_write_the_same_files_as_one(self, tmp_path, monkeypatch):
        for codec in CODECS:
            cells = trained(codec)
            store = "fp32" if codec == "fp32" else "fp16"
            whole, _ = write(tmp_path / codec / "a", cells, codec=codec, store=store)
            with monkeypatch.context() as patch:
                patch.setattr("engine.storage.segment_writer.STEP", 7)
                stepwise, _ = write(tmp_path / codec / "b", cells, codec=codec, store=store)
            assert stepwise.row.files == whole.row.files
            assert stepwise.row.stats == whole.row.stats

    def test_no_more_rows_than_a_step_are_asked_for_at_once(self, tmp_path, cells, monkeypatch):
        monkeypatch.setattr("engine.storage.segment_writer.STEP", 7)
        new, frames = make_video(0, 60)
        vectors = prepare_rows(frames, DIM, "ip", "fp16")
        columns = columns_of([new], np.array([3], np.int32), 0, frames, vectors, cells)
        asked = []
        write_segment(
            tmp_path / "1",
            1,
            0,
            columns,
            lambda rows: asked.append(len(rows)) or vectors[rows],
            cells,
            "sq8",
            "ip",
            AT,
            coded=False,
        )
        assert max(asked) == 7
        assert sum(asked) == 60 + 1  # One row ahead tells width and type.

    def test_a_segment_of_any_size_has_codes_where_they_are_asked_for_and_there_are_cells(self, tmp_path, cells):
        plain, _ = write(tmp_path / "a", cells, coded=False)
        one, _ = write(tmp_path / "b", cells, n=1, coded=True)
        before_build, _ = write(tmp_path / "c", None, coded=True)
        assert not plain.coded
        assert one.coded
        assert not before_build.coded
        assert set(one.row.files) == {"vectors.npy", "frames.arrow", "cells.npy", "codes.faiss"}

    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.usefixtures("coded")
    def test_cells_and_lists_cover_exactly_the_cells_that_occur(self, tmp_path, codec):
        segment, vectors = write(tmp_path, trained(codec), codec=codec)
        counts = np.unique(segment.columns.cell, return_counts=True)
        np.testing.assert_array_equal(segment.cells, counts[0])
        np.testing.assert_array_equal(segment.cell_rows, counts[1])
        query = vectors[:1].astype(np.float32)
        for residency in RESIDENCIES:
            lists = segment.load(residency)
            for place, number in enumerate(segment.cells):
                found = lists.search(query, np.array([[place]]), 60, None)
                assert sorted(found.rows[0]) == np.flatnonzero(segment.columns.cell == number).tolist()

    def test_a_segment_holds_268_mb_of_rows_and_at_least_what_is_not_small(self):
        assert Limits().segment_rows(512, "fp16") == (256 << 20) // 1024
        assert Limits().segment_rows(512, "fp32") == (256 << 20) // 2048
        assert Limits().segment_rows(10**6, "fp32") == Limits().small_segment


def drift_of(segment: Segment, cells: Cells) -> float:
    """Mean squared distance of all rows to their own centroid, in that of the rows that trained the same cells."""
    rows, cell = segment.vectors.astype(np.float64), segment.columns.cell
    return ((rows - cells.centroids[cell]) ** 2).sum(axis=1).mean() / cells.spread[cell].mean()


class TestFit:
    def test_rows_that_the_cells_were_trained_on_fit_and_later_ones_of_another_kind_do_not(self, tmp_path):
        _, vectors = write(tmp_path / "a", None)
        cells = train_cells(vectors.astype(np.float32), 4, "sq8", 1, two_level=False)
        own, _ = write(tmp_path / "b", cells)
        other, _ = write(tmp_path / "c", cells, n=30, number=77)
        assert own.row.stats["drift"] == pytest.approx(drift_of(own, cells), rel=1e-5)
        assert own.row.stats["drift"] == pytest.approx(1, abs=0.05)
        assert own.row.stats["clipped"] == 0
        assert other.row.stats["drift"] == pytest.approx(drift_of(other, cells), rel=1e-5)
        assert other.row.stats["drift"] > own.row.stats["drift"]
        low, width = cells.trained.reshape(2, -1)
        later = other.vectors.astype(np.float32)
        assert other.row.stats["clipped"] == pytest.approx(((later < low) | (later > low + width * 256 / 255)).mean())
        assert other.row.stats["clipped"] > 0

    def test_a_sample_of_a_large_segment_tells_the_same(self, tmp_path, cells, monkeypatch):
        whole, _ = write(tmp_path / "a", cells, n=60)
        monkeypatch.setattr("engine.storage.segment_writer._SAMPLED", 30)
        sampled, _ = write(tmp_path / "b", cells, n=60)
        assert sampled.row.stats["drift"] == pytest.approx(whole.row.stats["drift"], rel=0.3)
        assert sampled.row.stats["drift"] != whole.row.stats["drift"]

    def test_before_a_build_there_is_nothing_to_fit(self, tmp_path):
        segment, _ = write(tmp_path, None)
        assert not {"drift", "clipped"} & set(segment.row.stats)


class TestScan:
    @settings(max_examples=80, deadline=None)
    @given(
        metric=st.sampled_from(["ip", "l2"]),
        store=st.sampled_from(["fp16", "fp32"]),
        gathered=st.sampled_from([0, 200]),
        n_passing=st.none() | st.sampled_from([0, 1, 6, 30, 60]) | st.integers(0, 60),
        k=st.integers(1, 70),
        seed=st.integers(0, 5),
    )
    def test_a_scan_returns_the_best_rows_that_pass(self, written, metric, store, gathered, n_passing, k, seed):
        segment, vectors = written[metric, store]
        mask = None if n_passing is None else np.random.default_rng(seed).permutation(60) < n_passing
        asked = queries(3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segment_module, "_GATHERED", gathered)
            found, _ = segment.scan(asked, k, mask)
        allowed = np.ones(60, np.bool_) if mask is None else mask
        for i, query in enumerate(asked):
            reference = scores_of(query, vectors.astype(np.float32), metric)
            assert_ranking(found.rows[i], found.scores[i], reference, allowed, k)
        assert found.exact
        assert found.scanned.tolist() == [allowed.sum()] * 3

    @pytest.mark.parametrize(("store", "gathered"), [("fp16", 0), ("fp32", 200)], ids=["scanned", "gathered"])
    def test_a_scan_tells_what_it_read(self, tmp_path, cells, store, gathered, monkeypatch):
        monkeypatch.setattr(segment_module, "_GATHERED", gathered)
        segment, vectors = write(tmp_path, cells, store=store)
        time.sleep(0.02)  # A file that has only just been written is checked again.
        whole, mask = (segment.folder / "vectors.npy").stat().st_size, np.arange(60) < 6
        some = 6 * vectors[0].nbytes
        reads = [segment.scan(queries(2), 5, each)[1] for each in (mask, mask, None, None, mask)]
        assert reads == ([some, some, whole, 0, some] if gathered else [whole, 0, 0, 0, 0])

    def test_two_hundred_rows_are_always_gathered_and_more_where_they_are_less_than_a_sixteenth(self, tmp_path, cells):
        segment, _ = write(tmp_path, cells)
        assert [n for n in (0, 1, 200, 201, 249, 250) if segment.are_few(n)] == [0, 1, 200]
        segment.n_rows = 4000
        assert [n for n in (0, 200, 201, 249, 250, 251, 4000) if segment.are_few(n)] == [0, 200, 201, 249]

    def test_a_scan_never_uses_a_damaged_row(self, tmp_path, cells, monkeypatch):
        segment, _ = write(tmp_path, cells)
        flip(segment.folder / "vectors.npy", 128 + 3)
        for gathered in (0, 200):
            monkeypatch.setattr(segment_module, "_GATHERED", gathered)
            for n_matching in (1, 60):
                with pytest.raises(CorruptData, match=r"vectors\.npy"):
                    segment.scan(queries(1), 5, np.arange(60) < n_matching)


class TestDamage:
    @pytest.mark.parametrize("name", ["vectors.npy", "frames.arrow", "cells.npy", "codes.faiss"])
    @pytest.mark.usefixtures("coded")
    def test_any_harm_to_any_file_is_found_by_name(self, tmp_path, cells, name):
        written, _ = write(tmp_path, cells)
        path, content = written.folder / name, (written.folder / name).read_bytes()
        every = np.arange(written.row.stats["n_cells"])[None]

        def use(segment: Segment, residency: Residency) -> None:
            {
                "vectors.npy": lambda: segment.gather(np.arange(60)),
                "frames.arrow": lambda: segment.columns,
                "cells.npy": lambda: segment.cells,
                "codes.faiss": lambda: segment.load(residency).search(queries(1), every, 60, None),
            }[name]()

        for harm in ("flipped", "cut", "emptied", "gone"):
            path.write_bytes(content)
            if harm == "flipped":
                flip(path)
            elif harm == "gone":
                path.unlink()
            else:
                path.write_bytes(content[: 0 if harm == "emptied" else -3])
            for residency in RESIDENCIES:
                segment = Segment(written.folder, written.row, DIM, "ip", "sq8")
                (problem,) = segment.problems()
                assert name in problem
                with pytest.raises(CorruptData, match=name):
                    use(segment, residency)

    @pytest.mark.parametrize("codec", ["sq8", "fp32"])
    @pytest.mark.usefixtures("coded")
    def test_no_byte_of_the_header_of_codes_reaches_faiss_changed(self, tmp_path, codec, monkeypatch):
        cells = trained(codec)
        segment, _ = write(tmp_path, cells, codec=codec)
        path, content = segment.folder / "codes.faiss", (segment.folder / "codes.faiss").read_bytes()
        nbytes = segment.row.stats["header"][0]
        assert 100 < nbytes < len(content)
        read = []
        monkeypatch.setattr(segment_module, "read_lists", lambda *given, **more: read.append(given))
        for at in range(nbytes):
            flip(path, at)
            with pytest.raises(CorruptData, match=r"codes\.faiss"):
                segment.load("mapped")
            path.write_bytes(content)
        path.write_bytes(content + b"\0")
        with pytest.raises(CorruptData, match=r"codes\.faiss"):
            segment.load("mapped")
        assert not read
        path.write_bytes(content)
        segment.load("mapped")
        assert len(read) == 1

    @pytest.mark.usefixtures("coded")
    def test_a_list_is_checked_when_it_is_first_read(self, tmp_path, cells):
        segment, _ = write(tmp_path, cells)
        flip(segment.folder / "codes.faiss", -1)
        lists = segment.load("mapped")
        last = len(segment.cells) - 1
        assert (lists.search(queries(1), np.arange(last)[None], 5, None).rows >= 0).all()
        with pytest.raises(CorruptData, match="checksum"):
            lists.search(queries(1), np.array([[last]]), 5, None)

    def test_no_byte_of_the_header_of_vectors_can_change_what_is_read(self, tmp_path, cells):
        segment, vectors = write(tmp_path, cells)
        path = segment.folder / "vectors.npy"
        content = path.read_bytes()
        silent = 0
        for at in range(0, 128):
            for value in (ord("i"), ord(">"), content[at] ^ 0x01):
                path.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
                fresh = Segment(segment.folder, segment.row, DIM, "ip", "sq8")
                try:
                    rows = fresh.gather(np.arange(60))
                except CorruptData:
                    continue
                silent += 1
                np.testing.assert_array_equal(rows, vectors.astype(np.float32))
        assert silent < 300

    def test_a_gathered_row_is_checked_though_the_others_are_sound(self, tmp_path, cells):
        segment, vectors = write(tmp_path, cells)
        flip(segment.folder / "vectors.npy", 128 + 2 * DIM * 17 + 3)
        np.testing.assert_array_equal(segment.gather(np.array([16, 18])), vectors[[16, 18]].astype(np.float32))
        with pytest.raises(CorruptData, match="checksum"):
            segment.gather(np.array([16, 17]))

    def test_loading_checks_rows_that_have_no_codes(self, tmp_path, cells):
        segment, _ = write(tmp_path, cells)
        flip(segment.folder / "vectors.npy")
        for residency in RESIDENCIES:
            with pytest.raises(CorruptData, match=r"vectors\.npy"):
                segment.load(residency)


class TestLoading:
    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.usefixtures("coded")
    def test_mapped_codes_answer_like_loaded_ones(self, tmp_path, codec):
        cells = trained(codec)
        for metric in ("ip", "l2"):
            segment, _ = write(tmp_path / metric, cells, metric=metric, codec=codec)
            every = np.tile(np.arange(len(segment.cells)), (5, 1))
            for mask in (None, np.arange(60) % 3 == 0):
                one, other = (segment.load(each).search(queries(5), every, 20, mask) for each in RESIDENCIES)
                np.testing.assert_array_equal(one.rows, other.rows)
                np.testing.assert_array_equal(one.scores, other.scores)

    def test_codes_of_full_precision_need_no_second_look(self, tmp_path, limit):
        limit(coded_from=1)
        for codec, exact in (("fp32", True), ("sq8", False)):
            cells = trained(codec)
            segment, _ = write(tmp_path / codec, cells, store="fp32", codec=codec)
            assert segment.load("loaded").exact == segment.load("mapped").exact == exact

    def test_what_loading_costs_is_the_size_of_what_it_reads(self, tmp_path, cells, limit):
        plain, _ = write(tmp_path / "a", cells)
        size = (plain.folder / "vectors.npy").stat().st_size
        assert plain.load_nbytes("loaded") == plain.load_nbytes("mapped") == size
        limit(coded_from=1)
        coded, _ = write(tmp_path / "b", cells)
        size = (coded.folder / "codes.faiss").stat().st_size
        assert coded.load_nbytes("loaded") == size
        assert 0 < coded.load_nbytes("mapped") < size
        assert coded.nbytes == sum(path.stat().st_size for path in coded.folder.iterdir())

    def test_an_open_file_is_let_go_with_its_segment(self, tmp_path, cells):
        gc.collect()
        before = len(OPEN_FILES)
        segment, _ = write(tmp_path, cells)
        segment.stored(np.arange(3))
        assert len(OPEN_FILES) == before + 1
        del segment
        gc.collect()
        assert len(OPEN_FILES) == before
