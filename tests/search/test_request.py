"""What can be asked of a search, and that everything it says why can be put into words."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from engine.search.request import SearchOptions, SearchRequest
from engine.search.wording import _WORDS, search_sentence
from engine.types import Filter, Reason, ReasonCode

DOG = Filter(tags_all=("object:dog",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"^k is 0; ask for 1 or more\.$"),
        ({"n_probe": 0}, r"^n_probe is 0; ask for 1 or more\.$"),
        ({"max_shards": -1}, r"^max_shards is -1; ask for 1 or more\.$"),
        ({"per_shot": 0}, r"^per_shot is 0; ask for 1 or more\.$"),
        ({"recall": 0.0}, r"^A recall of 0.0 cannot be; ask for more than 0 and at most 1\.$"),
        ({"recall": 1.01}, r"^A recall of 1.01 cannot be; "),
        ({"router": "best"}, r"^Unknown router 'best'; use learned, spread, centroid\.$"),
        ({"kind": "sound"}, r"^Unknown kind 'sound'; use text, image\.$"),
        ({"exact": True, "max_shards": 1}, r"leave out either exact or max_shards\.$"),
    ],
)
def test_a_request_checks_itself_however_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        SearchRequest(**options)
    with pytest.raises(ValueError, match=message):
        replace(SearchRequest(), **options)


def test_every_field_is_a_keyword_of_a_search():
    assert set(SearchOptions.__annotations__) | {"k"} == {field.name for field in fields(SearchRequest)}


def test_requests_that_ask_the_same_are_equal():
    asked = SearchRequest(5, where=Filter(), boost=Filter(), force_shards=range(2))
    assert asked == SearchRequest(5, force_shards=[0, 1])
    assert hash(asked) == hash(SearchRequest(5, force_shards=(0, 1)))
    assert asked.where is None


def test_a_plan_is_kept_for_all_requests_that_differ_only_in_what_it_does_not_depend_on():
    usual = SearchRequest(5, recall=0.9)
    for other in ({"where": DOG}, {"boost": DOG}, {"allow_partial": True}, {"force_shards": (1,)}):
        assert replace(usual, **other).plan_key("text") == usual.plan_key("text")
    for other in ({"k": 6}, {"recall": 0.8}, {"n_probe": 2}, {"max_shards": 1}, {"per_shot": 1}, {"router": "spread"}):
        assert replace(usual, **other).plan_key("text") != usual.plan_key("text")
    assert usual.plan_key("image") != usual.plan_key("text")


def test_every_reason_has_words():
    assert set(_WORDS) == set(ReasonCode)


def test_more_cells_than_planned_are_told():
    asked = Reason(ReasonCode.CELLS_ASKED, (2, 8))
    assert search_sentence(asked, 10, 2) == "2 of 8 cells were asked for."
    assert search_sentence(asked, 10, 5) == "2 of 8 cells were asked for. It took 5 to find 10 frames."
