"""Hints in a query: what its words name, where they stand, what is ruled out, and what that comes to as a filter."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.synthetic_space import LABELS
from engine.embedding.tagger import TagKind, Vocabulary, load_vocabulary
from engine.errors import EngineError
from engine.system.bounds import MAX_QUERY
from engine.text import lexicon
from engine.text.hints import Hint, HintReader
from engine.text.lexicon import make_lexicon
from engine.text.times import plain_text
from engine.text.to_filter import can_filter, hints_to_filter
from engine.types import DAYPARTS, Filter

WORDS = """no not without never nobody people dog dogs cats or and , . in the a an street red orange eating building snowy
    night after before between first last second half minute minutes 5 10 1:30 18:30 7 pm o'clock Tuesday morning noon
    around at from to of video İ ſ ’s ß 😀 -free"""


SHIPPED = HintReader()


def read_hints(text: str, **options) -> list[Hint]:
    """The hints in a text, by the shipped words unless told otherwise."""
    return (HintReader(**options) if options else SHIPPED).read(text)


def tags(text: str, **options) -> list[str]:
    """Tags of the hints in a text; with a minus where it rules them out."""
    return ["-" * hint.negated + hint.tag for hint in read_hints(text, **options)]


def only(text: str) -> Hint:
    """The one hint of a text."""
    (hint,) = read_hints(text)
    return hint


def spoken(text: str) -> list[str]:
    """The parts of a text that are hints on a time."""
    return [hint.text for hint in read_hints(text) if hint.when is not None]


def where(text: str, **options) -> Filter:
    """The filter of all hints in a text, which must hold it without a rest."""
    narrowed = hints_to_filter(read_hints(text), **options)
    assert narrowed.notes == ()
    return narrowed.where


class TestWords:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("snowy street at night", ["weather:snow", "scene:street", "time:night"]),
            ("two dogs and an automobile", ["object:dog", "object:car"]),
            ("a woman walks by", ["object:person", "action:walking"]),
            ("a street light at dusk", ["scene:street", "time:evening"]),
            ("a dark night", ["time:night"]),
            ("DOGS! Cats? (Birds)", ["object:dog", "object:cat", "object:bird"]),
            ("the dog’s tail and the cat's", ["object:dog", "object:cat"]),
            ("a living-room, not a room for living", ["scene:living room"]),
            ("two beaches, three buses", ["scene:beach", "object:bus"]),
            ("a red square", ["colour:red"]),
            ("a midnight blue dress", ["colour:blue"]),
            ("", []),
            ("una calle de noche, 夜の街", []),
        ],
    )
    def test_words_stand_for_tags(self, text, found):
        assert tags(text) == found

    @pytest.mark.parametrize(
        "text", ["a carpet", "a scarf", "the businessman", "rainbow", "caŕ", "cat_nap", "redo", "dogś"]
    )
    def test_a_part_of_a_word_is_no_hint(self, text):
        assert tags(text) == []

    @pytest.mark.parametrize(
        "text", ["a hot dog", "a bird’s-eye view", "a car park", "black and white", "a clear glass", "a police station"]
    )
    def test_a_word_in_a_longer_one_of_another_meaning_is_no_hint(self, text):
        assert tags(text) == []

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("a man in orange eating an orange", ["object:person", "colour:orange"]),
            ("an orange, on a table", []),
            ("an orange and white cat", ["colour:orange", "colour:white", "object:cat"]),
            ("an orange car", ["colour:orange", "object:car"]),
            ("a shirt that is orange", ["colour:orange"]),
            ("an old building", []),
            ("people building a wall", ["object:person", "action:building"]),
            ("he is painting", ["action:painting"]),
            ("a painting of a dog", ["object:dog"]),
        ],
    )
    def test_a_thing_is_told_from_the_colour_or_action_of_its_name(self, text, found):
        assert tags(text) == found

    def test_the_text_is_marked_where_the_words_stand(self):
        text = "İstanbul 😀: Dogs, straße — LIVING  ROOM"
        assert [(hint.kind, hint.text, text[hint.start : hint.stop]) for hint in read_hints(text)] == [
            ("object", "Dogs", "Dogs"),
            ("scene", "LIVING  ROOM", "LIVING  ROOM"),
        ]

    def test_every_label_of_the_vocabulary_is_understood(self):
        for kind in load_vocabulary().kinds:
            for label, prompts in kind.labels.items():
                tag = f"{kind.name}:{label}"
                assert any(tag in tags(prompt) for prompt in prompts), tag

    @pytest.mark.parametrize("kind", ["colour", "action"])
    def test_made_up_colours_and_actions_are_understood(self, kind):
        for label in LABELS[kind].split():
            assert tags(f"somebody is {label}")[1:] == [f"{kind}:{label}"]

    def test_labels_of_another_vocabulary_are_understood(self):
        other = Vocabulary((TagKind("object", "any", {"hot dog": ("a hot dog",), "pony": ("a pony",)}),))
        assert tags("hot dogs, a hot dog and ponies near a bus", vocabulary=other) == [
            "object:hot dog",
            "object:hot dog",
            "object:pony",
        ]

    def test_labels_that_a_collection_carries_are_understood_and_go_first(self):
        carried = ["object:human_face", "object:man", "object:orange", "object:building", "colour:teal"]
        assert tags("a human face, a man, men, women", tags=carried) == [
            "object:human_face",
            "object:man",
            "object:man",
            "object:person",
        ]
        assert tags("eating an orange in an orange building", tags=carried) == [
            "object:orange",
            "colour:orange",
            "object:building",
        ]
        assert tags("people building a teal wall", tags=carried) == ["object:person", "action:building", "colour:teal"]
        assert tags("tag without a label", tags=["tag", "object:", ":"]) == []

    def test_a_reader_reads_as_one_alone(self):
        reader = HintReader(tags=["object:tree"])
        assert reader.read("a tree") == read_hints("a tree", tags=["object:tree"]) != []
        assert reader.read("a dog") == read_hints("a dog")

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ("colour = [", "cannot be read"),
            ("[colour]\nred = []", r"table \[negation\] must have the keys cancelled_by, denials, passes, words"),
            (
                lexicon.WORDS.read_text(encoding="utf-8").replace(
                    'person = ["people"', 'ape = "x"\nperson = ["people"'
                ),
                "ape",
            ),
        ],
    )
    def test_a_fault_in_the_words_is_named(self, content, sentence, tmp_path: Path, monkeypatch):
        (tmp_path / "words.toml").write_text(content, encoding="utf-8")
        monkeypatch.setattr(lexicon, "WORDS", tmp_path / "words.toml")
        lexicon._read_words.cache_clear()
        try:
            with pytest.raises(EngineError, match=sentence):
                make_lexicon(load_vocabulary())
        finally:
            lexicon._read_words.cache_clear()


class TestNegation:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("no people in the street", ["-object:person", "scene:street"]),
            ("without snow or rain", ["-weather:snow", "-weather:rain"]),
            ("without a dog or a cat", ["-object:dog", "-object:cat"]),
            ("no people, cars or dogs", ["-object:person", "-object:car", "-object:dog"]),
            ("no people, snow", ["-object:person", "weather:snow"]),
            ("no cars and buses at night", ["-object:car", "-object:bus", "time:night"]),
            ("no cat and a bird", ["-object:cat", "object:bird"]),
            ("no cats but dogs", ["-object:cat", "object:dog"]),
            ("neither cars nor people", ["-object:car", "-object:person"]),
            ("not red", ["-colour:red"]),
            ("no red car on the beach", ["-colour:red", "-object:car", "scene:beach"]),
            ("no people walking", ["-object:person", "-action:walking"]),
            ("street, not in the morning", ["scene:street", "-time:morning"]),
            ("it isn’t raining", ["-weather:rain"]),
            ("no sign of a dog", ["-object:dog"]),
            ("a snow-free road", ["-weather:snow", "scene:street"]),
            ("free snow", ["weather:snow"]),
            ("nobody in the park", ["-object:person", "scene:park"]),
            ("no one, a dog", ["-object:person", "object:dog"]),
            ("not only dogs", ["object:dog"]),
            ("no, at night", ["time:night"]),
            ("no shoes on the beach", ["scene:beach"]),
        ],
    )
    def test_no_covers_what_it_stands_for(self, text, found):
        assert tags(text) == found

    def test_a_time_can_be_ruled_out(self):
        assert only("not after 7 pm").negated
        assert only("before the last minute").negated
        assert not only("not before the last minute").negated


class TestAlternatives:
    @pytest.mark.parametrize(
        ("text", "groups"),
        [
            ("dogs or cats", [0, 0]),
            ("dogs, cats, or a bird on a street", [0, 0, 0, None]),
            ("dogs and cats", [None, None]),
            ("a dog or a cat in red or blue", [0, 0, 1, 1]),
            ("a dog or red", [None, None]),
            ("snow/rain", [0, 0]),
            ("at 7 am or at 7 pm", [0, 0]),
        ],
    )
    def test_or_joins_hints_of_one_kind(self, text, groups):
        assert [hint.either for hint in read_hints(text)] == groups


class TestTimesInTheVideo:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("first minute", (None, 60)),
            ("in the first 30 seconds", (None, 30)),
            ("the first half a minute", (None, 30)),
            ("after the first two minutes", (120, None)),
            ("third minute", (120, 180)),
            ("before the 3rd minute", (None, 120)),
            ("between 5 and 10 minutes", (300, 600)),
            ("between 1:20 and 2:05", (80, 125)),
            ("1:20–2:05", (80, 125)),
            ("from minute 3 to minute 5", (180, 300)),
            ("from minute 3 to 5", (180, 300)),
            ("minute 3", (180, 240)),
            ("after 0:30", (30, None)),
            ("from 0:30 on", (30, None)),
            ("before 2 min", (None, 120)),
            ("until 1:02:03", (None, 3723)),
            ("after 1 minute and 30 seconds", (90, None)),
            ("after 2m30s", (150, None)),
            ("after half an hour", (1800, None)),
            ("around 5 minutes in", (270, 330)),
            ("5 minutes into the video", (270, 330)),
            ("at the 5-minute mark", (270, 330)),
            ("at 1:30", (75, 105)),
            ("at 0:05", (0, 20)),
            ("at 20 seconds", (15, 25)),
            ("at 0:18:30", (1095, 1125)),
        ],
    )
    def test_a_time_is_read_whole(self, text, seconds):
        hint = only(text)
        assert (hint.kind, hint.when.seconds) == ("moment", seconds)
        assert text.removeprefix("in ").removeprefix("the ") == hint.text

    @pytest.mark.parametrize(
        ("text", "in_ten_minutes"),
        [
            ("last 2 minutes", (480, 600)),
            ("final 30 seconds of the video", (570, 600)),
            ("last hour", (0, 600)),
            ("second half", (300, 600)),
            ("first half of the clip", (0, 300)),
            ("last third", (400, 600)),
            ("second quarter", (150, 300)),
            ("before the second half", (0, 300)),
            ("after the first third", (200, 600)),
            ("in the middle of the video", (200, 400)),
            ("near the very end", (540, 600)),
            ("at the beginning of the film", (0, 60)),
        ],
    )
    def test_a_share_and_a_time_from_the_end_wait_for_the_duration(self, text, in_ten_minutes):
        hint = only(text)
        assert hint.kind == "moment"
        assert hint.when.relative
        assert hint.when.within(600) == pytest.approx(in_ten_minutes)

    def test_a_plain_time_lies_in_a_video_too(self):
        assert only("after 0:30").when.within(100) == (30, 100)
        assert only("first minute").when.within(100) == (0, 60)

    @pytest.mark.parametrize(
        "text",
        [
            "10 minutes",
            "a 5 to 10 minute video",
            "a 2:1 win",
            "16:09",
            "at 1:75",
            "at 7",
            "between 5 and 10 people",
            "between 10 and 5 minutes",
            "after 100 m",
            "after a second bus",
            "in the tens",
            "at tens",
            "at the end of the street",
            "the second half of the pizza",
            "second fifth",
            "last 0 minutes",
            "before 0 seconds",
            "from 3 and 5 minutes",
            "the first s",
            "the 0th minute",
        ],
    )
    def test_other_numbers_are_no_times(self, text):
        assert spoken(text) == []

    def test_a_half_hour_is_no_half_of_the_video(self):
        assert only("first half hour").when.seconds == (None, 1800)


class TestWallClock:
    @pytest.mark.parametrize(
        ("text", "hours"),
        [
            ("after 7 pm", range(19, 24)),
            ("before 7 a.m.", range(7)),
            ("at noon", [12]),
            ("at midnight", [0]),
            ("after midnight", range(5)),
            ("before midnight", range(21, 24)),
            ("between 9 and 11 am", [9, 10]),
            ("between 11 and 2 pm", [11, 12, 13]),
            ("between 10 pm and 2 am", [0, 1, 22, 23]),
            ("from 9 am to 5", range(9, 17)),
            ("from 9:00 to 17:00", range(9, 17)),
            ("from 20:00 to 22", [20, 21]),
            ("9-11 AM", [9, 10]),
            ("at 12 am", [0]),
            ("7 pm", [19]),
            ("around 7 pm", [18, 19]),
            ("at seven o'clock", [7, 19]),
            ("at 6 o’clock in the evening", [18]),
            ("at 7 in the morning", [7]),
            ("at 11 at night", [23]),
            ("at 2 at night", [2]),
        ],
    )
    def test_hours_are_read(self, text, hours):
        hint = only(text)
        assert (hint.kind, hint.text) == ("clock", text)
        assert hint.when.hours == tuple(hours)
        assert not hint.when.rounded

    @pytest.mark.parametrize(
        ("text", "hours"), [("at 18:30", [18]), ("after 7.30 pm", range(19, 24)), ("between 9:30 and 11 am", [9, 10])]
    )
    def test_minutes_are_rounded_out_to_hours(self, text, hours):
        assert only(text).when.hours == tuple(hours)
        assert only(text).when.rounded

    @pytest.mark.parametrize(
        ("text", "days", "hours"),
        [
            ("on Tuesday", (1,), ()),
            ("on Tuesday morning", (1,), range(5, 12)),
            ("Friday night", (4,), range(21, 24)),
            ("Sundays", (6,), ()),
            ("at the weekend", (5, 6), ()),
            ("on weekdays", (0, 1, 2, 3, 4), ()),
            ("Friday to Monday", (0, 4, 5, 6), ()),
        ],
    )
    def test_days_are_read(self, text, days, hours):
        hint = only(text)
        assert (hint.kind, hint.text) == ("clock", text)
        assert (hint.when.weekdays, hint.when.hours) == (days, tuple(hours))

    @pytest.mark.parametrize("text", ["Tuesday at 7:30", "at 7:30 on Tuesday"])
    def test_beside_a_day_a_time_is_of_the_clock(self, text):
        assert {hint.kind for hint in read_hints(text)} == {"clock"}
        assert (7, 19) in [hint.when.hours for hint in read_hints(text)]
        assert only("at 7:30").kind == "moment"

    @pytest.mark.parametrize(
        "text", ["at 25 pm", "at 1.5 pm", "at 1.75 pm", "the sun sat", "at quarter to 7 pm", "between 3 and 30 pm"]
    )
    def test_no_such_hour_is_no_hint(self, text):
        assert spoken(text) == []

    def test_noon_and_midnight_without_a_preposition_are_how_it_looks(self):
        assert tags("a midnight street") == ["time:night", "scene:street"]


class TestFilter:
    def test_tags_must_all_hold_or_none(self):
        assert where("a dog and a car on a street, no people") == Filter(
            tags_all=("object:dog", "object:car", "scene:street"), tags_none=("object:person",)
        )

    def test_alternatives_are_any_of(self):
        assert where("dogs or cats on a beach") == Filter(
            tags_any=("object:dog", "object:cat"), tags_all=("scene:beach",)
        )

    def test_one_of_the_alternatives_alone_must_hold(self):
        assert hints_to_filter(read_hints("dogs or cats")[1:]).where == Filter(tags_all=("object:cat",))

    def test_several_scenes_are_alternatives_for_a_frame_has_one(self):
        assert where("a street, then a beach").tags_any == ("scene:street", "scene:beach")

    def test_a_tag_asked_for_twice_is_one(self):
        assert where("a man and a woman").tags_all == ("object:person",)

    def test_a_second_list_of_alternatives_is_told_and_left_out(self):
        narrowed = hints_to_filter(read_hints("dogs or cats in snow or rain"))
        assert narrowed.where == Filter(tags_any=("object:dog", "object:cat"))
        assert narrowed.notes == ("A filter holds one list of alternatives: “snow” or “rain” is left out.",)

    def test_times_in_the_video_meet(self):
        assert where("after 0:30, before 2 minutes").seconds == (30, 120)
        assert where("not in the first minute").seconds == (60, None)
        assert where("not after 2 minutes").seconds == (None, 120)
        assert where("not before 0:30 or after 1:30").seconds == (30, 90)

    def test_what_depends_on_the_duration_needs_it(self):
        hints = read_hints("last 2 minutes")
        assert hints_to_filter(hints).where == Filter()
        assert hints_to_filter(hints).notes == (
            "“last 2 minutes” depends on how long each video is, which a filter cannot say: it is left out.",
        )
        assert where("last 2 minutes", duration=600).seconds == (480, None)
        assert where("before the last 2 minutes", duration=600).seconds == (None, 480)
        assert where("the second third", duration=600).seconds == pytest.approx((200, 400))

    def test_what_a_span_of_time_cannot_say_is_told_and_left_out(self):
        for text in ("not between 1 and 2 minutes", "before 0:30 or after 1:30"):
            narrowed = hints_to_filter(read_hints(text))
            assert narrowed.where == Filter()
            assert len(narrowed.notes) == sum(hint.when is not None for hint in read_hints(text))

    def test_hours_meet_and_alternatives_join(self):
        assert where("after 7 pm and before 9 pm").hours == (19, 20)
        assert where("at 7 am or 7 pm").hours == (7, 19)
        assert where("not after 2 am").hours == (0, 1)

    def test_days_and_minutes_are_told_and_left_out(self):
        narrowed = hints_to_filter(read_hints("on Tuesday morning"))
        assert narrowed.where == Filter(hours=tuple(range(5, 12)))
        assert narrowed.notes == (
            "A filter knows no days of the week: of “on Tuesday morning” only the hours are kept.",
        )
        for text in ("on Sunday", "not on Sunday morning"):
            assert hints_to_filter(read_hints(text)).where == Filter()
            assert "is left out" in hints_to_filter(read_hints(text)).notes[0]
        assert hints_to_filter(read_hints("at 18:30")).notes == (
            "A filter goes by whole hours, which “at 18:30” does not.",
        )

    def test_a_time_of_day_is_how_it_looks_or_else_the_clock(self):
        assert where("at night") == where("at night", tags={"time:night"}) == Filter(tags_all=("time:night",))
        assert where("at night", tags=set()) == Filter(dayparts=("night",))
        assert where("in the morning or in the evening", tags=set()).dayparts == ("morning", "evening")
        assert where("not at night", tags=set()).hours == tuple(range(5, 21))
        assert where("in the evening before 7 pm", tags=set()) == Filter(dayparts=("evening",), hours=tuple(range(19)))

    def test_a_tag_that_no_frame_carries_is_told_and_left_out(self):
        narrowed = hints_to_filter(read_hints("a red dog"), tags={"object:dog"})
        assert narrowed.where == Filter(tags_all=("object:dog",))
        assert narrowed.notes == ("No frame carries colour:red: “red” is left out.",)

    def test_no_hints_let_everything_pass(self):
        assert not hints_to_filter([]).where

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            (
                "first minute, after 10:00",
                "No time in the video is left by “first minute” and “after 10:00”; choose one.",
            ),
            ("after 7 pm, before 7 am", "No hour of the day is left by “after 7 pm” and “before 7 am”; choose one."),
            ("dogs but no dog", "object:dog is both asked for and ruled out, by “dogs” and “dog”; choose one."),
        ],
    )
    def test_hints_that_contradict_each_other_are_named(self, text, sentence):
        with pytest.raises(ValueError, match="choose one") as caught:
            hints_to_filter(read_hints(text))
        assert str(caught.value) == sentence

    def test_a_part_of_the_day_and_an_hour_outside_it_contradict_each_other(self):
        with pytest.raises(ValueError, match="No hour is both in the morning"):
            hints_to_filter(read_hints("in the morning, after 7 pm"), tags=set())

    def test_which_hints_can_act_depends_on_what_a_collection_carries(self):
        dog, night, moment, clock = read_hints("a dog at night in the first minute after 7 pm")
        carried = {"object:dog"}
        assert [can_filter(hint, carried, clock=False) for hint in (dog, night, moment, clock)] == [
            True,
            False,
            True,
            False,
        ]
        assert [can_filter(hint, set(), clock=True) for hint in (dog, night, moment, clock)] == [
            False,
            True,
            True,
            True,
        ]


texts = st.one_of(
    st.text(max_size=80),
    st.lists(st.sampled_from(WORDS.split()) | st.integers(0, 99).map(str), max_size=14).map(" ".join),
)


class TestAnyText:
    @settings(max_examples=60)
    @given(text=texts)
    def test_hints_stand_in_the_text_in_order_and_apart(self, text):
        hints = read_hints(text)
        assert all(0 <= hint.start < hint.stop <= len(text) for hint in hints)
        assert all(one.stop <= two.start for one, two in pairwise(hints))
        assert all(text[hint.start : hint.stop] == hint.text and hint.text.strip() for hint in hints)
        assert all((hint.tag == "") == (hint.when is not None) for hint in hints)
        assert read_hints(text) == hints

    @settings(max_examples=60)
    @given(text=texts, duration=st.none() | st.floats(0.1, 1e5))
    def test_hints_come_to_a_filter_or_to_a_contradiction(self, text, duration):
        try:
            narrowed = hints_to_filter(read_hints(text), duration=duration)
            sentences, hours = narrowed.notes, narrowed.where.hours
        except ValueError as error:
            sentences, hours = (str(error),), ()
        assert all(sentence.endswith(".") for sentence in sentences)
        assert set(hours) <= set(range(24))

    @settings(max_examples=60)
    @given(text=texts)
    def test_capitals_change_nothing(self, text):
        if len(text.upper()) == len(text) and plain_text(text.upper()) == plain_text(text):
            assert [(h.start, h.tag) for h in read_hints(text.upper())] == [(h.start, h.tag) for h in read_hints(text)]

    @given(text=st.text(max_size=60))
    def test_plain_text_keeps_every_place(self, text):
        assert len(plain_text(text)) == len(text)

    @pytest.mark.parametrize("piece", ["a dog or ", "7", " ", "between 5 and ", "1:20-"])
    def test_a_long_text_is_read_to_its_end_and_a_longer_one_refused(self, piece):
        text = piece * ((MAX_QUERY - 8) // len(piece)) + " . a dog"
        assert read_hints(text)[-1].text == "dog"
        with pytest.raises(ValueError, match="give at most 500"):
            read_hints(f"{piece.strip() or '7'} " * MAX_QUERY)


def test_the_parts_of_the_day_are_those_of_filters():
    for part in DAYPARTS:
        assert tags(f"in the {part}") == [f"time:{part}"]
