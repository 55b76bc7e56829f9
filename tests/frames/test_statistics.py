"""Statistics prove; masks decide. Both against one frame at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.frames.columns import Tags
from engine.frames.statistics import (
    describe,
    hours_of,
    label,
    mask_of,
    merge_range,
    merge_tags,
    microseconds,
    wall_clock,
    why_no_match,
)
from engine.storage.rows import columns_of
from engine.types import DAYPARTS, Filter
from testing.worlds import TAGS, Flat, make_video

VIDEOS = [make_video(i, 12) for i in range(5)]
FLAT = Flat.of(VIDEOS)
COLUMNS = [
    columns_of([new], np.array([i], np.int32), 12 * i, frames, frames.vectors.astype(np.float16), None)
    for i, (new, frames) in enumerate(VIDEOS)
]

moments = st.none() | st.datetimes(datetime(2024, 5, 1), datetime(2024, 5, 3))
tag_sets = st.lists(st.sampled_from([*TAGS, "object:unicorn"]), max_size=2, unique=True).map(tuple)


@st.composite
def filters(draw) -> Filter:
    seconds = draw(st.tuples(*[st.none() | st.integers(-2, 26).map(float)] * 2))
    captured = draw(st.tuples(moments, moments))
    for start, stop in (seconds, captured):
        assume(start is None or stop is None or start < stop)
    return Filter(
        videos=tuple(draw(st.lists(st.sampled_from([new.video_id for new, _ in VIDEOS]), max_size=2, unique=True))),
        seconds=seconds,
        captured=captured,
        dayparts=tuple(draw(st.lists(st.sampled_from(list(DAYPARTS)), max_size=2, unique=True))),
        hours=tuple(draw(st.lists(st.integers(0, 23), max_size=6, unique=True))),
        tags_any=draw(tag_sets),
        tags_all=draw(tag_sets),
        tags_none=draw(tag_sets),
    )


@settings(max_examples=300, deadline=None)
@given(where=filters())
def test_masks_agree_with_frames_looked_at_one_by_one_and_pruning_is_certain(where):
    numbers = {i for i, (new, _) in enumerate(VIDEOS) if new.video_id in where.videos} if where.videos else None
    expected = FLAT.passes(where).reshape(len(VIDEOS), -1)
    for columns, passing in zip(COLUMNS, expected, strict=True):
        np.testing.assert_array_equal(mask_of(columns, where, numbers), passing)
        if why_no_match(describe(columns), where, numbers) is not None:
            assert not passing.any()


@pytest.mark.parametrize(
    ("where", "numbers", "why"),
    [
        (Filter(videos=("v9",)), {9}, "none of the chosen videos"),
        (Filter(seconds=(100.0, None)), None, "between 0 s and 22 s"),
        (Filter(captured=(datetime(2030, 1, 1), None)), None, "other times"),
        (Filter(captured=(None, datetime(2000, 1, 1))), None, "other times"),
        (Filter(dayparts=("evening",)), None, "recorded in the evening"),
        (Filter(hours=(0, 23)), None, "holds nothing recorded at 0:00, 23:00"),
        (Filter(dayparts=("night",), hours=(12,)), None, "recorded in the night at 12:00"),
        (Filter(tags_any=("object:unicorn",)), None, "holds no unicorn"),
        (Filter(tags_all=("scene:beach", "object:red_car")), None, "holds no red car"),
    ],
)
def test_a_segment_is_ruled_out_with_a_reason(where, numbers, why):
    assert why in why_no_match(describe(COLUMNS[0]), where, numbers)


def test_a_segment_whose_every_frame_is_excluded_is_ruled_out():
    columns = COLUMNS[1].with_values()
    tags = Tags.of([("scene:beach",)] * len(columns))
    everywhere = type(columns)(**{name: getattr(columns, name) for name in columns.__slots__} | {"tags": tags})
    assert "every frame shows beach" in why_no_match(describe(everywhere), Filter(tags_none=("scene:beach",)), None)


def test_frames_without_a_recording_time_are_ruled_out_by_any_wall_clock_filter():
    assert "no recording time" in why_no_match(
        describe(COLUMNS[2]), Filter(captured=(datetime(2000, 1, 1), None)), None
    )
    for where in (Filter(dayparts=("morning",)), Filter(hours=tuple(range(24)))):
        assert why_no_match(describe(COLUMNS[2]), where, None) is not None
        assert not mask_of(COLUMNS[2], where, None).any()


def test_the_parts_of_the_day_cover_every_hour_once():
    hours = [hour for part in DAYPARTS for hour in hours_of([part])]
    assert sorted(hours) == list(range(24))
    assert hours_of(["night"]) == {21, 22, 23, 0, 1, 2, 3, 4}


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_a_wall_clock_time_comes_back_to_the_microsecond(at):
    assert wall_clock(microseconds(at)) == at


def test_times_before_1970_fall_into_their_hour():
    new, frames = make_video(0, 4, captured_at=datetime(1969, 7, 20, 22, 17))
    columns = columns_of([new], np.zeros(1, np.int32), 0, frames, frames.vectors, None)
    assert mask_of(columns, Filter(dayparts=("night",)), None).all()
    assert describe(columns)["hours"] == [22]


def test_a_time_with_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        microseconds(datetime(2024, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="time zone"):
        Filter(captured=(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2)))


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": (5.0, 5.0)}, {"seconds": (6.0, 2.0)}, {"captured": (datetime(2024, 1, 2), datetime(2024, 1, 1))}],
)
def test_a_range_that_ends_before_it_starts_is_refused(wrong):
    with pytest.raises(ValueError, match="not after its start"):
        Filter(**wrong)


@pytest.mark.parametrize("hours", [(24,), (-1,), (3, 99)])
def test_an_hour_that_no_day_has_is_refused(hours):
    with pytest.raises(ValueError, match="between 0 and 23"):
        Filter(hours=hours)


def test_an_unknown_part_of_the_day_is_refused():
    with pytest.raises(ValueError, match="teatime"):
        Filter(dayparts=("teatime",))


def test_only_an_empty_filter_is_false():
    assert not Filter()
    for name, value in {
        "videos": ("a",),
        "seconds": (None, 1.0),
        "captured": (datetime(2024, 1, 1), None),
        "dayparts": ("night",),
        "hours": (0,),
        "tags_any": ("a",),
        "tags_all": ("a",),
        "tags_none": ("a",),
    }.items():
        assert Filter(**{name: value})


def test_merging_adds_counts_and_widens_ranges():
    assert list(merge_tags([{"tags": {"a": 1, "b": 5}}, {"tags": {"a": 7}}]).items()) == [("a", 8), ("b", 5)]
    assert merge_range([None, (3, 4), (1, 2)]) == (1, 4)
    assert merge_range([None, None]) is None


@pytest.mark.parametrize(("tag", "readable"), [("scene:red_car", "red car"), ("plain", "plain")])
def test_labels_read_like_words(tag, readable):
    assert label(tag) == readable


def test_statistics_count_what_is_there():
    for (new, frames), columns in zip(VIDEOS, COLUMNS, strict=True):
        found = describe(columns)
        assert found["videos"] == {str(int(columns.video[0])): len(frames)}
        assert found["seconds"] == [0.0, 22.0]
        assert found["tags"] == {tag: n for tag in TAGS if (n := sum(tag in each for each in frames.tags))}
        times = [new.captured_at + timedelta(seconds=s) for s in (0.0, 22.0)] if new.captured_at else None
        assert found["captured"] == (times and [microseconds(each) for each in times])
    assert {new.captured_at is None for new, _ in VIDEOS} == {True, False}
    assert all(any(tag in describe(c)["tags"] for c in COLUMNS) for tag, _ in product(TAGS, [0]))
