"""Words that an encoder never saw: which they are, and whether a query has any other."""

import pytest

from engine.embedding.encoder import load_encoder
from engine.text.unknown_words import UnknownWords, find_unknown_words, names_something


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
    assert find_unknown_words(TOWN, text) == UnknownWords(words, alone)


def test_it_is_said_in_one_sentence():
    assert UnknownWords((), alone=False).sentence() == ""
    assert (
        UnknownWords(("yurt",), alone=False).sentence()
        == "The encoder has never seen “yurt” and went by the other words."
    )
    alone = UnknownWords(("yurt", "*igloo*", "tipi"), alone=True).sentence(lambda word: word.replace("*", r"\*"))
    assert alone.startswith(
        r"The encoder has never seen “yurt”, “\*igloo\*” and “tipi”, so the order of the frames is by chance"
    )


def test_an_encoder_that_cannot_tell_knows_every_word():
    assert find_unknown_words(object(), "a quokka") == UnknownWords((), alone=False)


def test_the_town_knows_its_colours_and_nothing_of_quokkas():
    town = load_encoder(device="cpu")
    assert find_unknown_words(town, "a violet bicycle beside a grey cat at night").words == ()
    assert find_unknown_words(town, "a quokka on a zeppelin") == UnknownWords(("quokka", "zeppelin"), alone=True)
    assert find_unknown_words(town, "a red zeppelin") == UnknownWords(("zeppelin",), alone=False)


@pytest.mark.parametrize("text", ["?", "🐶", "  ", "...!", "the of", "it is there", "👍 and 👎"])
def test_signs_emoji_and_little_words_name_nothing(text):
    assert not names_something(text)


@pytest.mark.parametrize("text", ["dog", "a dog 🐶", "con chó", "犬", "at 12:30", "no people", "собака"])
def test_a_word_of_any_language_or_a_number_names_something(text):
    assert names_something(text)
