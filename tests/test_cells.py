"""The coarse partition."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import flip

from engine.cells import MAX_CELLS, choose_n_cells, metric_of, read_cells, train, write_cells
from engine.errors import CorruptData
from engine.vectorindex import CODECS


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)


@pytest.mark.parametrize("n_frames", [1, 2, 31, 32, 33, 100, 1000, 10**5, 10**7, 10**9])
def test_the_number_of_cells_can_be_trained_on_the_frames_there_are(n_frames):
    n_cells = choose_n_cells(n_frames)
    assert 1 <= n_cells <= min(MAX_CELLS, max(1, n_frames // 4))
    assert n_cells & (n_cells - 1) == 0


def test_more_frames_never_get_fewer_cells():
    chosen = [choose_n_cells(n) for n in range(1, 5000)]
    assert chosen == sorted(chosen)


def test_every_row_goes_to_its_nearest_centroid(rows):
    cells = train(rows, 16, "sq8", 1)
    distances = ((rows[:, None] - cells.centroids[None]) ** 2).sum(2)
    assigned = distances[np.arange(len(rows)), cells.assign(rows)]
    np.testing.assert_allclose(assigned, distances.min(1), rtol=1e-4)


def test_a_single_cell_holds_everything(rows):
    cells = train(rows, 1, "sq8", 1)
    assert not cells.assign(rows).any()
    np.testing.assert_allclose(cells.centroids[0], rows.mean(0), atol=1e-6)


def test_more_cells_than_rows_are_refused(rows):
    with pytest.raises(ValueError, match="at least as many frames"):
        train(rows[:3], 4, "sq8", 1)


@pytest.mark.parametrize("codec", CODECS)
def test_cells_come_back_from_disk_as_they_were(tmp_path, rows, codec):
    cells = train(rows, 4, codec, 7)
    back = read_cells(tmp_path / "7", 7, write_cells(tmp_path / "7", cells))
    np.testing.assert_array_equal(back.centroids, cells.centroids)
    np.testing.assert_array_equal(back.trained, cells.trained)
    assert back.cells_id == 7


@pytest.mark.parametrize("name", ["centroids.npy", "trained.npy"])
def test_a_damaged_or_missing_file_is_corrupt_data(tmp_path, rows, name):
    hashes = write_cells(tmp_path / "1", train(rows, 4, "sq8", 1))
    flip(tmp_path / "1" / name)
    with pytest.raises(CorruptData, match=name):
        read_cells(tmp_path / "1", 1, hashes)
    (tmp_path / "1" / name).unlink()
    with pytest.raises(CorruptData, match=name):
        read_cells(tmp_path / "1", 1, hashes)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="cosine"):
        metric_of("cosine")
