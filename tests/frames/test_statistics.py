"""Statistics of segments: counts, ranges, and times to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.frames.statistics import (
    merge_range,
    merge_tags,
    microseconds,
    segment_statistics,
    tag_label,
    wall_clock,
)
from engine.storage.rows import columns_of
from testing.worlds import TAGS, make_video

VIDEOS = [make_video(i, 12) for i in range(5)]
COLUMNS = [
    columns_of([new], np.array([i], np.int32), 12 * i, frames, frames.vectors.astype(np.float16), None)
    for i, (new, frames) in enumerate(VIDEOS)
]


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_a_wall_clock_time_comes_back_to_the_microsecond(at):
    assert wall_clock(microseconds(at)) == at


def test_a_time_with_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        microseconds(datetime(2024, 1, 1, tzinfo=UTC))


def test_merging_adds_counts_and_widens_ranges():
    assert list(merge_tags([{"tags": {"a": 1, "b": 5}}, {"tags": {"a": 7}}]).items()) == [("a", 8), ("b", 5)]
    assert merge_range([None, (3, 4), (1, 2)]) == (1, 4)
    assert merge_range([None, None]) is None


def test_labels_read_like_words():
    assert tag_label("scene:red_car") == "red car"
    assert tag_label("plain") == "plain"


def test_statistics_count_what_is_there():
    for (new, frames), columns in zip(VIDEOS, COLUMNS, strict=True):
        found = segment_statistics(columns)
        assert found["videos"] == {str(int(columns.video[0])): len(frames)}
        assert found["seconds"] == [0.0, 22.0]
        assert found["tags"] == {tag: n for tag in TAGS if (n := sum(tag in each for each in frames.tags))}
        times = [new.captured_at + timedelta(seconds=s) for s in (0.0, 22.0)] if new.captured_at else None
        assert found["captured"] == (times and [microseconds(each) for each in times])
    assert {new.captured_at is None for new, _ in VIDEOS} == {True, False}
    assert all(any(tag in segment_statistics(c)["tags"] for c in COLUMNS) for tag in TAGS)
