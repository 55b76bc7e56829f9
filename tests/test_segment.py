"""Segments: what is on disk, and that no changed byte takes part in an answer."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from worlds import DIM, flip, make_video, queries

from engine import segment as segment_module
from engine.cells import Cells, train
from engine.errors import CorruptData
from engine.records import columns_of, prepare
from engine.segment import Segment, write_segment
from engine.vectorindex import CODECS, scores_of

AT = datetime(2024, 5, 1)


@pytest.fixture(scope="module")
def cells():
    return train(make_video(0, 60)[1].vectors, 4, "sq8", 1)


def write(tmp_path, cells: Cells | None, n: int = 60, metric: str = "ip", store: str = "fp16", codec: str = "sq8"):
    new, frames = make_video(0, n)
    vectors = prepare(frames, DIM, metric, store)
    columns = columns_of(new, 3, 100, frames, vectors, cells)
    backwards = np.arange(n)[::-1]
    row = write_segment(tmp_path / "1", 1, 0, vectors[backwards], columns.take(backwards), cells, codec, metric, AT)
    return Segment(tmp_path / "1", row, DIM, metric), vectors


@pytest.mark.parametrize("store", ["fp16", "fp32"])
def test_rows_are_stored_in_video_order_whatever_order_they_came_in(tmp_path, cells, store):
    segment, vectors = write(tmp_path, cells, store=store)
    np.testing.assert_array_equal(segment.vectors, vectors)
    assert segment.columns.frame_index.tolist() == sorted(segment.columns.frame_index.tolist())
    assert segment.columns.frame_id.tolist() == list(range(100, 160))
    assert not segment.problems()


def test_small_segments_have_no_codes_and_large_ones_do(tmp_path, cells, monkeypatch):
    small, _ = write(tmp_path / "a", cells)
    monkeypatch.setattr(segment_module, "CODED_FROM", 60)
    large, _ = write(tmp_path / "b", cells)
    before_build, _ = write(tmp_path / "c", None)
    assert not small.coded
    assert large.coded
    assert not before_build.coded
    assert before_build.scanned_whole
    assert set(large.row.files) == {"vectors.npy", "frames.arrow", "cells.npy", "codes.faiss"}


@pytest.mark.parametrize("codec", CODECS)
def test_cells_and_lists_cover_exactly_the_cells_that_occur(tmp_path, cells, codec, monkeypatch):
    monkeypatch.setattr(segment_module, "CODED_FROM", 1)
    segment, vectors = write(tmp_path, train(make_video(0, 60)[1].vectors, 4, codec, 1), codec=codec)
    counts = np.unique(segment.columns.cell, return_counts=True)
    np.testing.assert_array_equal(segment.cells, counts[0])
    np.testing.assert_array_equal(segment.cell_rows, counts[1])
    query = vectors[0].astype(np.float32)
    for place, number in enumerate(segment.cells):
        found = segment.load().search(query, np.array([place]), 60, None)
        assert sorted(found.rows) == np.flatnonzero(segment.columns.cell == number).tolist()


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("share", [None, 1.0, 0.5, 0.02])
def test_a_scan_returns_the_best_rows_that_pass(tmp_path, cells, metric, share, monkeypatch):
    monkeypatch.setattr(segment_module, "_SCAN_ROWS", 7)
    segment, vectors = write(tmp_path, cells, metric=metric)
    mask = None if share is None else np.random.default_rng(1).random(60) < share
    if share == 0.02:
        mask = np.arange(60) == 41
    found = segment.scan(queries(1)[0], 10, mask)
    allowed = np.arange(60) if mask is None else np.flatnonzero(mask)
    scores = scores_of(queries(1)[0], vectors[allowed].astype(np.float32), metric)
    np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][:10], atol=1e-5)
    assert set(found.rows) <= set(allowed)
    assert found.scanned == len(allowed)


@pytest.mark.parametrize("name", ["vectors.npy", "frames.arrow", "cells.npy", "codes.faiss"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "emptied", "gone"])
def test_any_harm_to_any_file_is_found_by_name(tmp_path, cells, name, harm, monkeypatch):
    monkeypatch.setattr(segment_module, "CODED_FROM", 1)
    segment, _ = write(tmp_path, cells)
    path = segment.folder / name
    if harm == "flipped":
        flip(path)
    elif harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if harm == "emptied" else -3])
    (problem,) = segment.problems()
    assert name in problem
    uses = {
        "vectors.npy": lambda: segment.gather(np.arange(60)),
        "frames.arrow": lambda: segment.columns,
        "cells.npy": lambda: segment.cells,
        "codes.faiss": segment.load,
    }
    with pytest.raises(CorruptData, match=name):
        uses[name]()


def test_no_byte_of_the_header_of_vectors_can_change_what_is_read(tmp_path, cells):
    segment, vectors = write(tmp_path, cells)
    path = segment.folder / "vectors.npy"
    content = path.read_bytes()
    silent = 0
    for at in range(0, 128):
        for value in (0x00, 0x20, ord("i"), ord(">"), ord("4"), content[at] ^ 0x01):
            path.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
            fresh = Segment(segment.folder, segment.row, DIM, "ip")
            try:
                rows = fresh.gather(np.arange(60))
            except CorruptData:
                continue
            silent += 1
            np.testing.assert_array_equal(rows, vectors.astype(np.float32))
    assert silent < 600


def test_a_gathered_row_is_checked_though_the_others_are_sound(tmp_path, cells):
    segment, vectors = write(tmp_path, cells)
    flip(segment.folder / "vectors.npy", 128 + 2 * DIM * 17 + 3)
    np.testing.assert_array_equal(segment.gather(np.array([16, 18])), vectors[[16, 18]].astype(np.float32))
    with pytest.raises(CorruptData, match="checksum"):
        segment.gather(np.array([16, 17]))


@pytest.mark.parametrize("n_matching", [1, 60])
def test_a_scan_never_uses_a_damaged_row(tmp_path, cells, n_matching):
    segment, _ = write(tmp_path, cells)
    flip(segment.folder / "vectors.npy", 128 + 3)
    with pytest.raises(CorruptData, match=r"vectors\.npy"):
        segment.scan(queries(1)[0], 5, np.arange(60) < n_matching)


def test_loading_checks_rows_that_have_no_codes(tmp_path, cells):
    segment, _ = write(tmp_path, cells)
    flip(segment.folder / "vectors.npy")
    with pytest.raises(CorruptData, match=r"vectors\.npy"):
        segment.load()


def test_what_loading_costs_is_the_size_of_the_file_it_reads(tmp_path, cells, monkeypatch):
    plain, _ = write(tmp_path / "a", cells)
    assert plain.load_nbytes == (plain.folder / "vectors.npy").stat().st_size
    monkeypatch.setattr(segment_module, "CODED_FROM", 1)
    coded, _ = write(tmp_path / "b", cells)
    assert coded.load_nbytes == (coded.folder / "codes.faiss").stat().st_size
    assert coded.nbytes == sum(path.stat().st_size for path in coded.folder.iterdir())
