"""Two filters as one: it lets pass what both do, or says in one sentence that nothing could."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings

from engine.search.boosts import passes
from engine.text.to_filter import both
from engine.types import Filter
from testing.worlds import queries
from tests.search.test_preview import filters


@given(one=filters(), two=filters())
@settings(max_examples=300, deadline=None)
def test_what_passes_both_passes_the_two_and_nothing_else(town, one, two):
    frames = town.search(queries(1)[0], 1000, exact=True).hits
    # Frames of this town may carry several scenes, which frames of real collections do not.
    frames = [frame for frame in frames if sum(tag.startswith("scene:") for tag in frame.tags) <= 1]
    passing = [frame for frame in frames if passes(frame, one) and passes(frame, two)]
    joint, refused = None, ""
    try:
        joint = both(one, two)
    except ValueError as error:
        refused = str(error)
    if joint is None:
        assert refused.endswith("choose one.")
        assert "one list of alternatives" in refused or not passing
        return
    assert [frame for frame in frames if passes(frame, joint)] == passing


def test_an_empty_filter_changes_nothing():
    where = Filter(
        videos=("a",), seconds=(1.0, None), hours=(7,), tags_any=("object:dog", "object:cat"), tags_none=("x:y",)
    )
    assert both(where, Filter()) == both(Filter(), where) == where


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
        (Filter(tags_all=("weather:snow",)), Filter(tags_all=("weather:rain",)), "No frame is both weather:snow and"),
        (
            Filter(tags_any=("object:dog", "object:cat")),
            Filter(tags_any=("scene:park", "scene:farm")),
            "one list of alternatives",
        ),
    ],
)
def test_contradictions_are_named_in_one_sentence(one, two, why):
    for first, second in ((one, two), (two, one)):
        with pytest.raises(ValueError, match="choose one") as raised:
            both(first, second)
        assert str(raised.value).count(". ") == 0
    with pytest.raises(ValueError, match=why):
        both(one, two)


def test_alternatives_of_one_kind_become_what_is_common():
    one, two = Filter(tags_any=("scene:park", "scene:farm")), Filter(tags_any=("scene:farm", "scene:beach"))
    assert both(one, two) == Filter(tags_all=("scene:farm",))
    assert both(one, Filter(tags_all=("scene:farm",))) == Filter(tags_all=("scene:farm",))
