"""The tags of a frame as one text: what people and programs write is read as it is meant, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.frames.tag_texts import tags_as_text, tags_from_text

BOTH = ["object:dog", "scene:beach"]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("object:dog|scene:beach", BOTH),
        (" object:dog | | scene:beach|", BOTH),
        (repr(BOTH), BOTH),
        (repr(tuple(BOTH)), BOTH),
        ('["object:dog", "scene:beach"]', BOTH),
        (str(np.array(BOTH)), BOTH),
        ("object:dog, scene:beach", BOTH),
        ("object:dog;scene:beach;", BOTH),
        (repr(["it's", 'a "b"', "a|b", "đ\u00a0"]), ["it's", 'a "b"', "a|b", "đ"]),
        ("[]", []),
        ("{}", []),
        ("nan", []),
        ("", []),
        ("object:red car", ["object:red car"]),
        ("a, b|c", ["a, b", "c"]),
        ("(maybe)", ["(maybe)"]),
    ],
)
def test_a_text_is_read_as_it_is_meant(text, tags):
    assert tags_from_text(text) == tags


@pytest.mark.parametrize(
    "text",
    [
        "dog, beach",
        "object:dog, beach",
        "object:dog scene:beach",
        "a:1;b:2,c:3",
        "[dog, beach]",
        "['dog' + 'beach']",
        "['a', ['b']]",
        "['a', 3]",
    ],
)
def test_what_may_be_one_tag_or_several_is_refused(text):
    with pytest.raises(ValueError, match="between them, or a list"):
        tags_from_text(text)


@given(st.lists(st.text(st.sampled_from("ab|,;[](){}'\"\\: =đ"), min_size=1).map(str.strip).filter(bool), max_size=4))
def test_tags_come_back_from_their_text(tags):
    assert tags_from_text(tags_as_text(tuple(tags))) == tags
