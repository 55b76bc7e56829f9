"""Words that an encoder never saw: which they are, and whether a query has any other."""

import pytest

from engine.embedding.encoder import load_encoder
from engine.text.unknown_words import Unheard, unheard


class Knows:
    """Stands for an encoder that was trained on a few words."""

    def __init__(self, *words):
        self._words = words

    def unknown_words(self, text):
        return tuple(word for word in text.replace(",", "").split() if word.lower() not in self._words)


TOWN = Knows("a", "red", "car", "the", "in", "next", "to")


@pytest.mark.parametrize(
    ("text", "words", "alone"),
    [
        ("a red car", (), False),
        ("", (), False),
        ("a quokka", ("quokka",), True),
        ("the Quokka, in a zeppelin", ("Quokka", "zeppelin"), True),
        ("a red quokka", ("quokka",), False),
        ("quokka car", ("quokka",), False),
        ("a car that was red", (), False),
        ("a car and a quokka", ("quokka",), False),
        ("that quokka", ("quokka",), True),
        ("that", ("that",), True),
    ],
)
def test_they_are_named_and_little_words_do_not_count_as_known(text, words, alone):
    assert unheard(TOWN, text) == Unheard(words, alone)


def test_it_is_said_in_one_sentence():
    assert Unheard((), alone=False).told() == ""
    assert Unheard(("yurt",), alone=False).told() == "The encoder has never seen “yurt” and went by the other words."
    alone = Unheard(("yurt", "*igloo*", "tipi"), alone=True).told(lambda word: word.replace("*", r"\*"))
    assert alone.startswith(
        r"The encoder has never seen “yurt”, “\*igloo\*” and “tipi”, so the order of the frames is by chance"
    )


def test_an_encoder_that_cannot_tell_knows_every_word():
    assert unheard(object(), "a quokka") == Unheard((), alone=False)


def test_the_town_knows_its_colours_and_nothing_of_quokkas():
    town = load_encoder(device="cpu")
    assert unheard(town, "a violet bicycle beside a grey cat at night").words == ()
    assert unheard(town, "a quokka on a zeppelin") == Unheard(("quokka", "zeppelin"), alone=True)
    assert unheard(town, "a red zeppelin") == Unheard(("zeppelin",), alone=False)
