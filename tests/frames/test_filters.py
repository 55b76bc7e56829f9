"""What a filter means is the same for one frame, for a mask over rows, for statistics, and for two filters together."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.frames.columns import FrameColumns, Tags
from engine.frames.filters import CompiledFilter, InSeconds, both_filters, known_part, split_filter
from engine.frames.statistics import segment_statistics, wall_clock
from engine.storage.rows import columns_of
from engine.types import DAYPARTS, Filter, Frame, daypart_hours
from testing.worlds import TAGS, Flat, make_video

VIDEOS = [make_video(i, 12) for i in range(5)]
NUMBERS = {new.video_id: i for i, (new, _) in enumerate(VIDEOS)}
FLAT = Flat.of(VIDEOS)
COLUMNS = [
    columns_of([new], np.array([i], np.int32), 12 * i, frames, frames.vectors.astype(np.float16), None)
    for i, (new, frames) in enumerate(VIDEOS)
]


def frames_of(columns: FrameColumns) -> list[Frame]:
    """The rows of a segment as single frames."""
    return [
        Frame(
            frame_id=int(columns.frame_id[row]),
            video_id=VIDEOS[int(columns.video[row])][0].video_id,
            title="",
            frame_index=int(columns.frame_index[row]),
            seconds=float(columns.seconds[row]),
            captured_at=wall_clock(int(columns.captured_at[row])),
            shot=-1,
            tags=tags,
            shard=0,
        )
        for row, tags in enumerate(columns.tags.at(np.arange(len(columns))))
    ]


FRAMES = [frames_of(columns) for columns in COLUMNS]

moments = st.none() | st.datetimes(datetime(2024, 5, 1), datetime(2024, 5, 3))
tag_sets = st.lists(st.sampled_from([*TAGS, "object:unicorn"]), max_size=2, unique=True).map(tuple)
FIELDS = {
    "videos": st.lists(st.sampled_from([*NUMBERS, "v9"]), max_size=2, unique=True).map(tuple),
    "seconds": st.tuples(*[st.none() | st.integers(-2, 26).map(float)] * 2),
    "captured": st.tuples(moments, moments),
    "dayparts": st.lists(st.sampled_from(list(DAYPARTS)), max_size=2, unique=True).map(tuple),
    "hours": st.lists(st.integers(0, 23), max_size=6, unique=True).map(tuple),
    "tags_any": tag_sets,
    "tags_all": tag_sets,
    "tags_none": tag_sets,
}


@st.composite
def filters(draw) -> Filter:
    """A filter with some of its fields set, all equally often."""
    asked = draw(st.sets(st.sampled_from(sorted(FIELDS))))
    values = {name: draw(FIELDS[name]) for name in sorted(asked)}
    for name in asked & {"seconds", "captured"}:
        start, stop = values[name]
        assume(start is None or stop is None or start < stop)
    return Filter(**values)


def test_every_field_is_drawn():
    assert set(FIELDS) == {field.name for field in fields(Filter)}


@settings(max_examples=400, deadline=None)
@given(where=filters())
def test_pruning_masks_and_single_frames_agree(where):
    """Against frames looked at one at a time by a second hand (`Flat.passes`)."""
    ready = CompiledFilter(where, NUMBERS)
    expected = FLAT.passes(where).reshape(len(VIDEOS), -1)
    for columns, frames, passing in zip(COLUMNS, FRAMES, expected, strict=True):
        assert [ready.passes(frame) for frame in frames] == passing.tolist()
        np.testing.assert_array_equal(ready.mask(columns), passing)
        if ready.why_none(segment_statistics(columns)) is not None:
            assert not passing.any()


@settings(max_examples=200, deadline=None)
@given(where=filters(), row=st.integers(0, len(VIDEOS) * 12 - 1))
def test_statistics_of_a_single_row_rule_it_out_exactly_when_it_does_not_pass(where, row):
    columns = COLUMNS[row // 12].take(np.array([row % 12]))
    # Conditions are ruled out one by one, and a single row is all that its statistics tell of.
    ready = CompiledFilter(where, NUMBERS)
    assert (ready.why_none(segment_statistics(columns)) is None) == ready.mask(columns)[0]
    assert (ready.share(segment_statistics(columns)) > 0) == ready.mask(columns)[0]


@settings(max_examples=200, deadline=None)
@given(where=filters())
def test_a_frame_passes_if_it_passes_every_part(where):
    parts = [CompiledFilter(part, NUMBERS) for part in split_filter(where)]
    whole = CompiledFilter(where, NUMBERS)
    for frame in (frame for frames in FRAMES for frame in frames):
        assert whole.passes(frame) == all(part.passes(frame) for part in parts)


@settings(max_examples=300, deadline=None)
@given(one=filters(), two=filters())
def test_what_passes_both_passes_the_two_and_nothing_else(one, two):
    # Frames of this town may carry several scenes, which frames of real collections do not.
    frames = [frame for some in FRAMES for frame in some if sum(tag.startswith("scene:") for tag in frame.tags) <= 1]
    passing = [
        frame
        for frame in frames
        if CompiledFilter(one, NUMBERS).passes(frame) and CompiledFilter(two, NUMBERS).passes(frame)
    ]
    joint, refused = None, ""
    try:
        joint = both_filters(one, two)
    except ValueError as error:
        refused = str(error)
    if joint is None:
        assert refused.endswith("choose one.")
        assert "one list of alternatives" in refused or not passing
        return
    assert [frame for frame in frames if CompiledFilter(joint, NUMBERS).passes(frame)] == passing


def test_a_segment_is_ruled_out_with_a_reason():
    every_beach = COLUMNS[1].with_values(tags=Tags.of([("scene:beach",)] * 12))
    for columns, where, why in (
        (COLUMNS[0], Filter(videos=("v9",)), "none of the chosen videos"),
        (COLUMNS[0], Filter(seconds=(100.0, None)), "between 0 s and 22 s"),
        (COLUMNS[0], Filter(captured=(datetime(2030, 1, 1), None)), "other times"),
        (COLUMNS[0], Filter(captured=(None, datetime(2000, 1, 1))), "other times"),
        (COLUMNS[2], Filter(captured=(datetime(2000, 1, 1), None)), "no recording time"),
        (COLUMNS[0], Filter(dayparts=("evening",)), "recorded in the evening"),
        (COLUMNS[0], Filter(hours=(0, 23)), "holds nothing recorded at 0:00, 23:00"),
        (COLUMNS[0], Filter(dayparts=("night",), hours=(12,)), "recorded in the night at 12:00"),
        (COLUMNS[2], Filter(hours=tuple(range(24))), "holds nothing recorded at 0:00"),
        (COLUMNS[0], Filter(tags_any=("object:unicorn",)), "holds no unicorn"),
        (COLUMNS[0], Filter(tags_all=("scene:beach", "object:red_car")), "holds no red car"),
        (every_beach, Filter(tags_none=("scene:beach",)), "every frame shows beach"),
    ):
        assert why in CompiledFilter(where, NUMBERS).why_none(segment_statistics(columns))


def test_a_span_ends_before_its_stop_and_begins_with_its_start():
    stats = {"seconds": (4.0, 9.0)}
    ruled_out = {
        span: InSeconds(*span).why_none(stats) is not None
        for span in ((None, 4.0), (None, 4.5), (9.0, None), (9.5, None), (0.0, 3.5), (9.0, 12.0))
    }
    assert [span for span, out in ruled_out.items() if out] == [(None, 4.0), (9.5, None), (0.0, 3.5)]


def test_the_parts_of_the_day_cover_every_hour_once():
    assert sorted(hour for part in DAYPARTS for hour in daypart_hours(part)) == list(range(24))
    assert daypart_hours("night") == (0, 1, 2, 3, 4, 21, 22, 23)


def test_times_before_1970_fall_into_their_hour():
    new, frames = make_video(0, 4, captured_at=datetime(1969, 7, 20, 22, 17))
    columns = columns_of([new], np.zeros(1, np.int32), 0, frames, frames.vectors, None)
    assert CompiledFilter(Filter(dayparts=("night",)), {}).mask(columns).all()
    assert segment_statistics(columns)["hours"] == [22]


def test_shares_are_counts_for_tags_and_videos_and_lengths_for_times():
    stats = {
        "videos": {"0": 30, "1": 10},
        "seconds": [0.0, 10.0],
        "captured": None,
        "hours": [9, 10],
        "tags": {"object:cat": 10, "object:dog": 20},
    }
    for where, share in (
        (Filter(videos=("v1",)), 0.25),
        (Filter(seconds=(5.0, 30.0)), 0.5),
        (Filter(captured=(datetime(2024, 1, 1), None)), 0.0),
        (Filter(hours=(9, 11)), 0.5),
        (Filter(tags_any=("object:cat", "object:dog")), 0.75),
        (Filter(tags_all=("object:cat", "object:dog")), 0.25),
        (Filter(tags_none=("object:cat",)), 0.75),
        (Filter(), 1.0),
    ):
        assert CompiledFilter(where, NUMBERS).share(stats) == share


def test_only_what_is_there_stays_in_the_known_part():
    where = Filter(
        videos=("v1", "v9"), hours=(3,), tags_any=("object:cat", "object:unicorn"), tags_none=("scene:moon",)
    )
    assert known_part(where, NUMBERS, set(TAGS)) == Filter(videos=("v1",), hours=(3,), tags_any=("object:cat",))


class TestFilter:
    """Filters that cannot be meant are refused when they are made."""

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"seconds": (5.0, 5.0)}, "not after its start"),
            ({"captured": (datetime(2024, 1, 2), datetime(2024, 1, 1))}, "not after its start"),
            ({"captured": (datetime(2024, 1, 1, tzinfo=UTC), None)}, "time zone"),
            ({"hours": (3, 24)}, "between 0 and 23"),
            ({"hours": (-1,)}, "between 0 and 23"),
            ({"dayparts": ("teatime",)}, "teatime"),
        ],
    )
    def test_it_is_refused(self, wrong, why):
        with pytest.raises(ValueError, match=why):
            Filter(**wrong)

    def test_only_an_empty_one_is_false(self):
        assert not Filter()
        some = Filter(("a",), (None, 1.0), (datetime(2024, 1, 1), None), ("night",), (0,), ("a",), ("a",), ("a",))
        for field in fields(Filter):
            assert Filter(**{field.name: getattr(some, field.name)})


class TestBoth:
    def test_an_empty_filter_changes_nothing(self):
        where = Filter(
            videos=("a",), seconds=(1.0, None), hours=(7,), tags_any=("object:dog", "object:cat"), tags_none=("x:y",)
        )
        assert both_filters(where, Filter()) == both_filters(Filter(), where) == where

    @pytest.mark.parametrize(
        ("one", "two", "why"),
        [
            (Filter(videos=("a",)), Filter(videos=("b",)), "name different videos"),
            (Filter(seconds=(None, 5.0)), Filter(seconds=(5.0, None)), "No time in the video is left"),
            (
                Filter(captured=(datetime(2024, 1, 2), None)),
                Filter(captured=(None, datetime(2024, 1, 1))),
                "No recording time",
            ),
            (Filter(dayparts=("night",)), Filter(dayparts=("morning",)), "different parts of the day"),
            (Filter(hours=(1, 2)), Filter(hours=(3,)), "No hour of the day"),
            (Filter(dayparts=("night",)), Filter(hours=(9,)), "No hour of the day"),
            (
                Filter(tags_all=("object:dog",)),
                Filter(tags_none=("object:dog",)),
                "object:dog is both asked for and ruled out",
            ),
            (
                Filter(tags_any=("scene:park", "scene:farm")),
                Filter(tags_all=("scene:street",)),
                "No frame is both scene:street",
            ),
            (
                Filter(tags_any=("scene:park",)),
                Filter(tags_any=("scene:street",)),
                "No frame is both scene:park and scene:street",
            ),
            (
                Filter(tags_all=("weather:snow",)),
                Filter(tags_all=("weather:rain",)),
                "No frame is both weather:snow and",
            ),
            (
                Filter(tags_any=("object:dog", "object:cat")),
                Filter(tags_any=("scene:park", "scene:farm")),
                "one list of alternatives",
            ),
        ],
    )
    def test_contradictions_are_named_in_one_sentence(self, one, two, why):
        for first, second in ((one, two), (two, one)):
            with pytest.raises(ValueError, match="choose one") as raised:
                both_filters(first, second)
            assert str(raised.value).count(". ") == 0
        with pytest.raises(ValueError, match=why):
            both_filters(one, two)

    def test_alternatives_of_one_kind_become_what_is_common(self):
        one, two = Filter(tags_any=("scene:park", "scene:farm")), Filter(tags_any=("scene:farm", "scene:beach"))
        assert both_filters(one, two) == Filter(tags_all=("scene:farm",))
        assert both_filters(one, Filter(tags_all=("scene:farm",))) == Filter(tags_all=("scene:farm",))
