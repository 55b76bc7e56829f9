"""The one normaliser, and checks of rows that a user gives."""

from __future__ import annotations

import numpy as np
import pytest

from engine.vectors import check_rows, unit

ROWS = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


class TestUnit:
    @pytest.mark.parametrize("norm_type", [np.float32, np.float64])
    def test_every_vector_keeps_its_direction_and_gets_length_one(self, norm_type):
        expected = ROWS.astype(np.float64) / np.sqrt((ROWS.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        for given in (ROWS, ROWS.astype(np.float64), ROWS[3]):
            scaled = unit(given, norm_type)
            assert scaled.dtype == np.float32
            np.testing.assert_allclose(scaled, expected if given.ndim == 2 else expected[3], atol=1e-6)

    @pytest.mark.parametrize("length", [1e-44, 1e-30, 1e30, 3e38])
    def test_no_float32_is_too_small_or_too_large(self, length):
        scaled = unit(np.array([[length, 0.0], [0.0, -length]], np.float32))
        assert scaled.tolist() == [[1.0, 0.0], [0.0, -1.0]]

    def test_what_was_given_stays_as_it_was(self):
        given = ROWS.copy()
        unit(given, np.float32)
        np.testing.assert_array_equal(given, ROWS)

    @pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
    def test_a_vector_without_a_direction_is_refused(self, bad):
        rows = ROWS.copy()
        rows[7] = bad
        for norm_type in (np.float32, np.float64):
            with pytest.raises(ValueError, match="all zeros or holds a value that is not a finite number"):
                unit(rows, norm_type)

    def test_no_vectors_are_no_vectors(self):
        assert unit(ROWS[:0]).shape == (0, 6)


@pytest.mark.parametrize(
    ("value", "metric", "store", "why"),
    [
        (np.nan, "ip", "fp16", "not a finite number"),
        (np.inf, "l2", "fp32", "not a finite number"),
        (0.0, "ip", "fp16", "all zeros"),
        (7e4, "l2", "fp16", "too large for float16"),
        (1e16, "l2", "fp32", "squares beyond float32"),
    ],
)
def test_the_first_row_that_cannot_be_stored_is_named(value, metric, store, why):
    rows = ROWS.copy()
    check_rows(rows, metric, store, "them")
    rows[4] = rows[9] = value
    with pytest.raises(ValueError, match=f"^Row 104 of them, counted from 0, .*{why}"):
        check_rows(rows, metric, store, "them", 100)
