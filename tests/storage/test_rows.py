"""Frames as they are stored: checked, normalised, with their columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.frames import NO_TIME
from engine.frames.statistics import microseconds, wall_clock
from engine.storage import rows as records
from engine.storage.rows import Fingerprint, columns_of, prepare_rows
from engine.storage.segment import row_checksums
from engine.types import FrameBatch, NewVideo
from engine.vectors.cells import train_cells
from testing.worlds import DIM, make_video

NEW, FRAMES = make_video(0, 12)
ONE_SENTENCE = r"^[A-Z][^.\n]*\.$"


def batch(vectors, **more) -> FrameBatch:
    n = len(vectors)
    return FrameBatch(np.asarray(vectors), np.arange(n), np.arange(float(n)), **more)


def rows(vectors, metric: str = "ip", store: str = "fp16", first_row: int = 0):
    return prepare_rows(batch(vectors), np.asarray(vectors).shape[1], metric, store, first_row=first_row)


class TestPrepare:
    @given(arrays(np.float32, (5, 4), elements=st.floats(2**-100, 2**100, width=32)))
    def test_any_row_is_of_length_one_for_inner_products(self, vectors):
        norms = np.linalg.norm(rows(vectors, store="fp32").astype(np.float64), axis=1)
        np.testing.assert_allclose(norms, 1, atol=1e-6)

    def test_rows_stay_as_they_are_for_distances(self):
        vectors = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
        np.testing.assert_array_equal(rows(vectors, "l2", "fp32"), vectors)

    @pytest.mark.parametrize(("store", "kind"), [("fp16", np.float16), ("fp32", np.float32)])
    def test_numbers_of_any_type_come_out_in_the_stored_one(self, store, kind):
        for kind_given in (np.float16, np.float32, np.float64, np.int8, np.uint8):
            stored = rows(np.array([[3, 4, 0, 0]], kind_given), store=store)
            assert stored.dtype == kind
            np.testing.assert_allclose(stored, [[0.6, 0.8, 0, 0]], atol=5e-4)

    def test_what_is_no_number_is_refused(self):
        for wrong in (np.array([["a", "b"]]), np.ones((1, 2), complex), np.ones((1, 2), bool)):
            with pytest.raises(ValueError, match="give floating-point numbers"):
                rows(wrong)

    def test_steps_change_nothing(self, monkeypatch):
        vectors = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
        whole = rows(vectors)
        monkeypatch.setattr(records, "_STEP", 7)
        np.testing.assert_array_equal(rows(vectors), whole)

    @pytest.mark.parametrize(("value", "why"), [(np.nan, "not a finite number"), (np.inf, "finite"), (0, "all zeros")])
    def test_a_bad_row_is_named_by_its_place_in_the_whole_input(self, value, why, monkeypatch):
        monkeypatch.setattr(records, "_STEP", 7)
        vectors = np.ones((30, 4), np.float32)
        vectors[23] = value
        with pytest.raises(ValueError, match=f"Row 1023 .*{why}"):
            rows(vectors, first_row=1000)

    def test_a_value_beyond_float32_is_not_finite(self):
        with pytest.raises(ValueError, match=r"Row 1 .*not a finite number"):
            rows(np.array([[1, 2], [1e300, 1]]))

    def test_numbers_beyond_float16_are_refused_with_the_way_out(self):
        with pytest.raises(ValueError, match="store='fp32'"):
            rows(np.full((1, 4), 1e5), "l2", "fp16")
        assert rows(np.full((1, 4), 1e5), "l2", "fp32").max() == np.float32(1e5)

    @pytest.mark.parametrize("metric", ["ip", "l2"])
    def test_a_time_beyond_thirty_years_is_refused_in_one_sentence(self, metric):
        def timed(seconds: float):
            frames = replace(batch(np.ones((2, 4))), seconds=np.array([1.0, seconds]))
            return prepare_rows(frames, 4, metric, "fp16")

        assert len(timed(1e9)) == 2
        with pytest.raises(ValueError, match=ONE_SENTENCE) as refused:
            timed(np.nextafter(1e9, np.inf))
        assert "thirty years into its video" in str(refused.value)

    def test_a_value_whose_square_is_beyond_float32_is_refused_in_one_sentence(self):
        for sign in (1, -1):
            largest = sign * np.array([[np.float32(9.9e14), 0, 1, 0]])
            np.testing.assert_array_equal(rows(largest, "l2", "fp32"), largest)
            with pytest.raises(ValueError, match=ONE_SENTENCE) as refused:
                rows(largest * 1.1, "l2", "fp32")
            assert "larger than 1e+15" in str(refused.value)
        # An inner product takes the direction only.
        np.testing.assert_allclose(rows([[3e30, 4e30]], "ip", "fp32"), [[0.6, 0.8]], atol=1e-6)

    def test_no_frames_are_no_rows(self):
        assert rows(np.empty((0, 4))).shape == (0, 4)

    @pytest.mark.parametrize(
        "more",
        [{"video": np.zeros(3, np.int32)}, {"captured_at": np.array(["2024-05-01"], "datetime64[s]")}, {"shot": [1]}],
    )
    def test_one_value_per_frame_is_wanted(self, more):
        (name,) = more
        with pytest.raises(ValueError, match=f"2 vectors and . values of {name}"):
            prepare_rows(batch(np.ones((2, 4)), **more), 4, "ip", "fp16")


class TestColumns:
    def columns(self, frames: FrameBatch, videos=(NEW,), numbers=(3,), cells=None):
        vectors = prepare_rows(frames, DIM, "ip", "fp16")
        return columns_of(videos, np.array(numbers, np.int32), 100, frames, vectors, cells), vectors

    def test_every_column_holds_what_the_frames_came_with(self):
        cells = train_cells(FRAMES.vectors, 3, "sq8", 1, two_level=False)
        columns, vectors = self.columns(FRAMES, cells=cells)
        assert columns.frame_id.tolist() == list(range(100, 112))
        assert columns.video.tolist() == [3] * 12
        assert columns.frame_index.tolist() == FRAMES.frame_index.tolist()
        assert columns.shot.tolist() == FRAMES.shot.tolist()
        assert columns.tags.at(np.arange(12)) == [tuple(sorted(each)) for each in FRAMES.tags]
        np.testing.assert_array_equal(columns.row_crc, row_checksums(vectors))
        np.testing.assert_array_equal(columns.cell, cells.assign(vectors.astype(np.float32)))

    def test_what_is_not_known_is_marked_so(self):
        bare = FrameBatch(FRAMES.vectors, FRAMES.frame_index, FRAMES.seconds)
        columns, _ = self.columns(bare, (NewVideo("bare"),))
        assert set(columns.shot.tolist()) == {-1}
        assert set(columns.captured_at.tolist()) == {NO_TIME}
        assert set(columns.cell.tolist()) == {0}
        assert columns.tags.names == ()

    def test_frames_of_several_videos_take_the_number_and_the_start_of_their_own(self):
        start = datetime(2024, 5, 1, 23, 59)
        videos = (NewVideo("a"), NewVideo("b", captured_at=start))
        mixed = replace(FRAMES, video=np.arange(12, dtype=np.int32) % 2)
        columns, _ = self.columns(mixed, videos, (7, 9))
        assert columns.video.tolist() == [7, 9] * 6
        assert set(columns.captured_at[::2].tolist()) == {NO_TIME}
        expected = [microseconds(start + timedelta(seconds=float(s))) for s in FRAMES.seconds[1::2]]
        assert columns.captured_at[1::2].tolist() == expected

    def test_a_time_given_per_frame_counts_more_than_the_start(self):
        for unit in ("s", "ms", "us", "ns"):
            times = np.array(["2020-02-29T10:00:07", "NaT"] * 6, f"datetime64[{unit}]")
            columns, _ = self.columns(replace(FRAMES, captured_at=times))
            assert columns.captured_at.tolist() == [microseconds(datetime(2020, 2, 29, 10, 0, 7)), NO_TIME] * 6

    def test_a_year_that_no_date_has_is_refused_in_one_sentence(self):
        for times in (
            np.full(12, "10000-01-01", "datetime64[us]"),
            np.full(12, "400000-01-01", "datetime64[s]"),
            np.full(12, "0000-12-31", "datetime64[D]"),
            np.array(["2024-05-01"] * 11 + ["-0500-01-01"], "datetime64[ms]"),
        ):
            with pytest.raises(ValueError, match=ONE_SENTENCE) as refused:
                self.columns(replace(FRAMES, captured_at=times))
            assert "outside the years 1 to 9999" in str(refused.value)

    def test_a_recording_may_not_run_beyond_the_last_year(self):
        frames = replace(FRAMES, seconds=np.arange(12.0))
        last = datetime(9999, 12, 31, 23, 59, 48)
        columns, _ = self.columns(frames, (NewVideo("late", captured_at=last),))
        assert wall_clock(columns.captured_at[-1]) == last + timedelta(seconds=11)
        with pytest.raises(ValueError, match="outside the years 1 to 9999"):
            self.columns(frames, (NewVideo("late", captured_at=last + timedelta(seconds=1)),))

    @pytest.mark.parametrize("year", ["0001", "9999"])
    def test_the_first_and_the_last_year_are_taken(self, year):
        columns, _ = self.columns(replace(FRAMES, captured_at=np.full(12, f"{year}-06-01", "datetime64[s]")))
        assert {wall_clock(each) for each in columns.captured_at} == {datetime(int(year), 6, 1)}


class TestFingerprint:
    @given(st.lists(st.integers(0, 12), max_size=4))
    def test_it_is_the_same_in_whatever_batches_the_frames_come(self, cuts):
        whole = Fingerprint().add(FRAMES.vectors, FRAMES.frame_index, FRAMES.seconds).text()
        pieces = Fingerprint()
        for part in np.split(np.arange(12), sorted(cuts)):
            pieces.add(FRAMES.vectors[part], FRAMES.frame_index[part], FRAMES.seconds[part])
        assert pieces.text() == whole

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_any_change_shows(self, which):
        values = [FRAMES.vectors, FRAMES.frame_index, FRAMES.seconds]
        before = Fingerprint().add(*values).text()
        values[which] = values[which].copy()
        values[which].reshape(-1)[5] += 1
        assert Fingerprint().add(*values).text() != before

    def test_the_type_in_which_places_and_times_are_given_does_not_matter(self):
        plain = Fingerprint().add(FRAMES.vectors, FRAMES.frame_index, FRAMES.seconds).text()
        other = Fingerprint().add(FRAMES.vectors, FRAMES.frame_index.astype(np.int16), FRAMES.seconds.astype("f4"))
        assert other.text() == plain
