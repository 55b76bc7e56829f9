"""The coarse partition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CorruptData
from engine.system.bounds import MAX_CELLS
from engine.vectors.arrays import metric_of
from engine.vectors.cells import (
    CELLS_PER_GROUP,
    NEEDS_TWO_LEVELS,
    Cells,
    choose_n_cells,
    read_cells,
    train_cells,
    write_cells,
)
from engine.vectors.clustering import nearest
from engine.vectors.codecs import CODECS
from testing.worlds import flip

FILES = ["centroids.npy", "trained.npy", "group_centroids.npy", "group_of.npy", "spread.npy", "query_metric.npy"]


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def clustered():
    """Rows around 500 centres in 64 dimensions, half to train on and half held out."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(500, 64))
    return (centres[rng.integers(0, 500, 20_000)] + 0.5 * rng.normal(size=(20_000, 64))).astype(np.float32)


@pytest.fixture(scope="module")
def two_level(clustered) -> Cells:
    return train_cells(clustered[::2], 1024, "sq8", 1, two_level=True)


@pytest.mark.parametrize("n_frames", [1, 2, 31, 32, 33, 100, 1000, 10**5, 10**7, 10**9])
def test_the_number_of_cells_can_be_trained_on_the_frames_there_are(n_frames):
    n_cells = choose_n_cells(n_frames)
    assert 1 <= n_cells <= min(MAX_CELLS, max(1, n_frames // 8))
    assert n_cells & (n_cells - 1) == 0


def test_more_frames_never_get_fewer_cells():
    chosen = [choose_n_cells(n) for n in range(1, 5000)]
    assert chosen == sorted(chosen)


def test_very_many_frames_get_more_cells_than_one_level_serves():
    assert choose_n_cells(10**4) == NEEDS_TWO_LEVELS
    assert NEEDS_TWO_LEVELS < choose_n_cells(10**5) < choose_n_cells(10**6) < choose_n_cells(10**7) == MAX_CELLS


def test_there_are_about_24_times_the_square_root_of_the_frames():
    for n_frames in (50_000, 400_000, 5 * 10**6):
        assert 0.7 < choose_n_cells(n_frames) / (24 * n_frames**0.5) < 1.42


@pytest.mark.parametrize("two_level", [False, True])
class TestEitherNumberOfLevels:
    def test_a_single_cell_holds_everything(self, rows, two_level):
        cells = train_cells(rows, 1, "sq8", 1, two_level=two_level)
        assert len(cells) == 1
        assert not cells.assign(rows).any()
        np.testing.assert_allclose(cells.centroids[0], rows.mean(0), atol=1e-6)
        assert cells.two_level == two_level

    @pytest.mark.parametrize("n_cells", [2, 3, 17, 64, 199, 200])
    def test_as_many_cells_are_trained_as_were_asked_for(self, rows, two_level, n_cells):
        cells = train_cells(rows, n_cells, "sq8", 1, two_level=two_level)
        assert cells.centroids.shape == (len(cells), 8) == (n_cells, 8)
        assert cells.centroids.dtype == np.float32
        assert np.isfinite(cells.centroids).all()
        assigned = cells.assign(rows)
        assert assigned.dtype == np.int32
        assert 0 <= assigned.min() <= assigned.max() < n_cells

    def test_more_cells_than_rows_are_refused(self, rows, two_level):
        with pytest.raises(ValueError, match="at least as many frames"):
            train_cells(rows[:3], 4, "sq8", 1, two_level=two_level)

    def test_rows_that_are_all_the_same_can_be_trained_on(self, two_level):
        cells = train_cells(np.ones((50, 8), np.float32), 10, "sq8", 1, two_level=two_level)
        assert len(cells) == 10
        assert np.isfinite(cells.centroids).all()
        np.testing.assert_allclose(cells.spread, 0.0, atol=1e-6)

    def test_training_twice_gives_the_same_cells(self, rows, two_level):
        first, second = (train_cells(rows, 16, "sq8", 1, two_level=two_level) for _ in range(2))
        np.testing.assert_array_equal(first.centroids, second.centroids)
        np.testing.assert_array_equal(first.group_of, second.group_of)

    def test_distances_are_squared_and_to_the_own_centroid(self, rows, two_level):
        cells = train_cells(rows, 16, "sq8", 1, two_level=two_level)
        other = np.random.default_rng(3).integers(0, 16, len(rows)).astype(np.int32)
        found = cells.distances(rows, other)
        np.testing.assert_allclose(found, ((rows - cells.centroids[other]) ** 2).sum(1), rtol=1e-5)
        assert found.dtype == np.float32

    def test_the_spread_of_a_cell_is_the_mean_squared_distance_of_its_rows_drawn_to_that_of_all(self, rows, two_level):
        cells = train_cells(rows, 16, "sq8", 1, two_level=two_level)
        cell = cells.assign(rows)
        distances = ((rows - cells.centroids[cell]) ** 2).sum(1)
        for number in range(16):
            mine = distances[cell == number]
            expected = (mine.sum() + 4 * distances.mean()) / (len(mine) + 4)
            assert cells.spread[number] == pytest.approx(expected, rel=1e-5)

    def test_no_rows_are_assigned_to_no_cells(self, rows, two_level):
        cells = train_cells(rows, 16, "sq8", 1, two_level=two_level)
        assert cells.assign(rows[:0]).shape == (0,)
        assert cells.distances(rows[:0], np.empty(0, np.int32)).shape == (0,)

    @pytest.mark.parametrize("codec", CODECS)
    def test_cells_come_back_from_disk_as_they_were(self, tmp_path, rows, codec, two_level):
        cells = train_cells(rows, 9, codec, 7, two_level=two_level)
        back = read_cells(tmp_path / "7", 7, write_cells(tmp_path / "7", cells), rows.shape[1], codec)
        for name in ("centroids", "trained", "group_centroids", "group_of", "spread", "query_metric"):
            written, read = getattr(cells, name), getattr(back, name)
            np.testing.assert_array_equal(read, written)
            assert read.shape == written.shape
            assert read.dtype == written.dtype
        assert back.cells_id == 7
        assert back.two_level == two_level

    @pytest.mark.parametrize("name", FILES)
    def test_a_damaged_or_missing_file_is_corrupt_data(self, tmp_path, rows, name, two_level):
        hashes = write_cells(tmp_path / "1", train_cells(rows, 4, "sq8", 1, two_level=two_level))
        assert set(hashes) == set(FILES)
        flip(tmp_path / "1" / name)
        with pytest.raises(CorruptData, match=name):
            read_cells(tmp_path / "1", 1, hashes, rows.shape[1], "sq8")
        (tmp_path / "1" / name).unlink()
        with pytest.raises(CorruptData, match=name):
            read_cells(tmp_path / "1", 1, hashes, rows.shape[1], "sq8")


def test_every_row_goes_to_its_nearest_centroid(rows):
    cells = train_cells(rows, 16, "sq8", 1, two_level=False)
    distances = ((rows[:, None] - cells.centroids[None]) ** 2).sum(2)
    assigned = distances[np.arange(len(rows)), cells.assign(rows)]
    np.testing.assert_allclose(assigned, distances.min(1), rtol=1e-4)


def test_one_level_has_no_groups(rows):
    cells = train_cells(rows, 16, "sq8", 1, two_level=False)
    assert cells.group_centroids.shape == (0, 8)
    assert cells.group_of.shape == (0,)


def test_more_cells_than_one_level_serves_come_in_groups_unasked():
    rows = np.random.default_rng(2).normal(size=(NEEDS_TWO_LEVELS + 200, 2)).astype(np.float32)
    cells = train_cells(rows, NEEDS_TWO_LEVELS + 1, "sq8", 1, two_level=False)
    assert len(cells) == NEEDS_TWO_LEVELS + 1
    assert cells.two_level


def test_a_group_has_about_sixteen_cells_and_few_cells_make_as_many_groups_as_cells_in_a_group(rows, two_level):
    assert 56 <= len(two_level.group_centroids) <= 1024 // CELLS_PER_GROUP == 64
    assert len(train_cells(rows, 100, "sq8", 1, two_level=True).group_centroids) == 10
    assert two_level.group_centroids.shape[1] == 64


def test_the_cells_of_a_group_stand_together_and_no_group_is_empty(two_level):
    assert two_level.group_of.shape == (1024,)
    assert (np.diff(two_level.group_of) >= 0).all()
    np.testing.assert_array_equal(np.unique(two_level.group_of), np.arange(len(two_level.group_centroids)))


def test_groups_get_cells_in_proportion_to_their_members(clustered, two_level):
    group = nearest(clustered[::2], two_level.group_centroids)
    members = np.bincount(group, minlength=len(two_level.group_centroids))
    cells = np.bincount(two_level.group_of)
    assert (cells <= members).all()
    np.testing.assert_allclose(cells, members * 1024 / members.sum(), atol=2)


def test_two_levels_find_the_truly_nearest_cell_nearly_always(clustered, two_level):
    held_out = clustered[1::2]
    found = two_level.assign(held_out)
    truth = nearest(held_out, two_level.centroids)
    assert (found == truth).mean() >= 0.99
    excess = two_level.distances(held_out, found) - two_level.distances(held_out, truth)
    assert excess.min() >= -1e-2
    assert excess.mean() <= 0.01 * two_level.spread.mean()


def test_two_levels_with_few_groups_find_the_nearest_cell_always(rows):
    cells = train_cells(rows, 49, "sq8", 1, two_level=True)
    assert len(cells.group_centroids) <= 8
    np.testing.assert_array_equal(cells.assign(rows), nearest(rows, cells.centroids))


def test_a_row_gets_the_same_cell_among_many_as_alone(clustered, two_level):
    many = np.concatenate([clustered, clustered])
    assigned = two_level.assign(many)
    for row in (0, 7, 16_383, 16_384, 20_001, 39_999):
        assert two_level.assign(many[row : row + 1])[0] == assigned[row]


def test_two_levels_separate_nearly_as_finely_as_one(clustered):
    one, two = (train_cells(clustered[::2], 1000, "sq8", 1, two_level=two_level) for two_level in (False, True))
    assert not one.two_level
    assert two.spread.mean() <= 1.1 * one.spread.mean()


@pytest.fixture(scope="module")
def metric():
    """A metric that counts some directions a hundred times as much as others."""
    rng = np.random.default_rng(5)
    axes = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    return ((axes * np.geomspace(0.05, 5, 8)) @ axes.T).astype(np.float32)


class TestUnderAQueryMetric:
    """Rows belong to the centroid that is nearest by the metric's quadratic form."""

    @staticmethod
    def forms(rows, centroids, metric):
        """(n, n_centroids) values of (x - c)' M (x - c)."""
        apart = (rows[:, None] - centroids[None]).astype(np.float64)
        return np.einsum("ncd,de,nce->nc", apart, metric.astype(np.float64), apart)

    def test_a_row_goes_to_the_centroid_with_the_least_quadratic_form(self, rows, metric):
        cells = train_cells(rows.copy(), 16, "sq8", 1, two_level=False, query_metric=metric)
        forms = self.forms(rows, cells.centroids, metric)
        mine = forms[np.arange(len(rows)), cells.assign(rows)]
        np.testing.assert_allclose(mine, forms.min(axis=1), atol=1e-4)
        plain = nearest(rows, cells.centroids)
        assert (cells.assign(rows) != plain).mean() > 0.1

    def test_two_levels_with_few_groups_agree_with_the_quadratic_form_too(self, rows, metric):
        cells = train_cells(rows.copy(), 49, "sq8", 1, two_level=True, query_metric=metric)
        assert cells.two_level
        forms = self.forms(rows, cells.centroids, metric)
        mine = forms[np.arange(len(rows)), cells.assign(rows)]
        np.testing.assert_allclose(mine, forms.min(axis=1), atol=1e-4)

    @pytest.mark.parametrize("two_level", [False, True])
    def test_centroids_are_the_means_of_their_rows_in_the_space_of_the_vectors(self, metric, two_level):
        rng = np.random.default_rng(6)
        sample = (20 * rng.normal(size=(12, 8))[rng.integers(0, 12, 600)] + rng.normal(size=(600, 8))).astype("f4")
        cells = train_cells(sample.copy(), 12, "sq8", 1, two_level=two_level, query_metric=metric)
        cell = cells.assign(sample)
        for number in np.unique(cell):
            np.testing.assert_allclose(cells.centroids[number], sample[cell == number].mean(axis=0), atol=0.2)

    def test_the_sample_comes_back_up_to_rounding(self, rows, metric):
        sample = rows.copy()
        train_cells(sample, 16, "sq8", 1, two_level=True, query_metric=metric)
        np.testing.assert_allclose(sample, rows, atol=1e-4)

    def test_cells_separate_what_the_metric_counts(self, rows, metric):
        plain = train_cells(rows.copy(), 16, "sq8", 1, two_level=False)
        told = train_cells(rows.copy(), 16, "sq8", 1, two_level=False, query_metric=metric)

        def within(cells):
            return self.forms(rows, cells.centroids, metric)[np.arange(len(rows)), cells.assign(rows)].mean()

        assert within(told) < 0.9 * within(plain)
        assert told.spread.mean() > plain.spread.mean()  # It is measured plainly, and other distances were made small.

    def test_a_metric_comes_back_from_disk(self, tmp_path, rows, metric):
        cells = train_cells(rows.copy(), 9, "sq8", 7, two_level=False, query_metric=metric)
        back = read_cells(tmp_path / "7", 7, write_cells(tmp_path / "7", cells), rows.shape[1], "sq8")
        np.testing.assert_array_equal(back.query_metric, metric)
        np.testing.assert_array_equal(back.assign(rows), cells.assign(rows))


@settings(max_examples=40, deadline=None)
@given(copies=st.lists(st.integers(1, 60), min_size=1, max_size=12), share=st.floats(0.0, 1.0))
def test_however_unequal_the_groups_are_the_number_of_cells_is_exact(copies, share):
    rng = np.random.default_rng(len(copies))
    sample = np.repeat(rng.normal(size=(len(copies), 4)) * 50, copies, axis=0)
    sample = (sample + rng.normal(size=sample.shape)).astype(np.float32)
    n_cells = max(1, round(share * len(sample)))
    cells = train_cells(sample, n_cells, "sq8", 1, two_level=True)
    assert len(cells) == len(cells.group_of) == n_cells
    assert len(np.unique(cells.group_of)) == len(cells.group_centroids)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="cosine"):
        metric_of("cosine")
