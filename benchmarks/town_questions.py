"""What the sample encoder is asked: frames of shots it never saw, and questions about them in wordings it never read."""

import random
from collections import defaultdict
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from data.recipes import words
from data.recipes.captions import an, plural
from data.recipes.casting import COLOURS, twin
from data.recipes.facts import KINDS, facts
from data.recipes.frames import HELD_OUT_SEED, example, moment

TWIN_SEED = HELD_OUT_SEED + 50_000_000
COLOURFUL = (
    "a red car at night", "a blue car in the snow", "a yellow bus", "a green bus in the rain", "a white bicycle",
    "an orange bicycle in the park", "a purple train", "a black train in the evening", "a red boat on the sea", "a pink boat",
    "a blue balloon", "a yellow balloon over the farm", "a black dog on the beach", "a white dog in the snow",
    "an orange cat in the kitchen", "a grey cat", "a brown cow", "someone with a red umbrella in the rain",
    "a woman in a green jumper in the office", "a red bus and a blue car",
)  # fmt: skip
_TWO = (
    ("car", "weather:snow"),
    ("bus", "time:night"),
    ("dog", "place:park"),
    ("dog", "place:beach"),
    ("cat", "place:kitchen"),
    ("bicycle", "weather:rain"),
    ("boat", "time:night"),
    ("train", "weather:snow"),
    ("person", "place:office"),
    ("cow", "time:evening"),
    ("place:street", "weather:rain"),
    ("place:office", "time:night"),
    ("place:beach", "time:evening"),
    ("place:farm", "weather:snow"),
    ("place:harbour", "time:morning"),
)
_AROUND = (
    ("weather:snow", "car", "time:night"),
    ("weather:rain", "bus", "time:evening"),
    ("weather:snow", "dog", "time:morning"),
    ("weather:rain", "boat", "time:night"),
    ("weather:rain", "train", "time:day"),
    ("time:night", "umbrella", "weather:rain"),
)
_THREE = (
    ("place:street", "time:night", "weather:snow"),
    ("place:street", "time:evening", "weather:rain"),
    ("place:street", "time:day", "weather:clear"),
    ("car:red", "time:night"),
    ("bus:yellow", "weather:rain"),
    ("bicycle:blue", "time:day"),
    ("train:green", "weather:snow"),
    ("boat:white", "time:evening"),
    ("balloon:orange", "time:morning"),
    ("dog:black", "place:beach"),
    ("cat:orange", "place:kitchen"),
    ("cow:brown", "weather:snow"),
)
"""Facts of a question, in the order of its words; a colour and its thing are two attributes."""
Facts = frozenset[str]


@dataclass(frozen=True, slots=True)
class Query:
    kind: str
    text: str
    needs: Facts


def drawn(number: int) -> tuple[NDArray[np.uint8], Facts]:
    """The frame of this number: (240, 426, 3) uint8, and its facts."""
    rng = random.Random(HELD_OUT_SEED + number)
    return example(rng, *moment(rng))


def _colour_of(kind: str, colour: str) -> str:
    """The fact that something of this kind has a colour."""
    return f"{'clothes' if kind == 'person' else kind}:{colour}"


def exchanged(number: int) -> tuple[list[NDArray[np.uint8]], list[str]] | None:
    """Two frames of one moment in which two things have exchanged their colours, and what to call each; None if there are none."""
    rng = random.Random(TWIN_SEED + number)
    shot, seconds = moment(rng)
    other = twin(rng, shot, seconds)
    changed = [i for i, (a, b) in enumerate(zip(shot.actors, other.actors, strict=True)) if a.colour != b.colour]
    if len(changed) != 2:
        return None
    one, two = (shot.actors[i] for i in changed)
    if one.kind == two.kind or (one.colour, two.colour) != (
        other.actors[changed[1]].colour,
        other.actors[changed[0]].colour,
    ):
        return None
    if not {one.kind, two.kind} <= facts(shot, seconds):
        return None
    texts = [
        f"{_subject(_colour_of(one.kind, first))} and {_subject(_colour_of(two.kind, second))}"
        for first, second in ((one.colour, two.colour), (two.colour, one.colour))
    ]
    return [example(rng, each, seconds)[0] for each in (shot, other)], texts


def queries() -> list[Query]:
    """Held-out wordings for every kind of question, with the facts that an answer must have."""
    asked: dict[str, list[tuple[str, Facts]]] = defaultdict(list)
    _about_one(asked)
    _about_several(asked)
    openings = cycle(("", *words.HELD_OUT_OPENINGS))
    return [Query(kind, next(openings) + text, needs) for kind, pairs in asked.items() for text, needs in pairs]


def _about_one(asked: dict[str, list[tuple[str, Facts]]]) -> None:
    """Questions about a place, a time, a weather, a thing, how many or which colour."""
    for place, name in words.PLACES.items():
        asked["scene"] += [(an(phrase), frozenset({f"place:{place}"})) for phrase in name.held_out]
    for hour, phrases in words.HELD_OUT_TIMES.items():
        asked["time of day"] += [(f"the town {phrase}", frozenset({f"time:{hour}"})) for phrase in phrases]
    for weather, phrases in words.HELD_OUT_WEATHERS.items():
        asked["outdoor weather"] += [(f"the town {phrase}", frozenset({f"weather:{weather}"})) for phrase in phrases]
    for kind in KINDS:
        asked["main object"] += [(f"{_subject(kind)} somewhere in the town", frozenset({kind}))]
    for count in (1, 2, 3):
        many = "one person alone" if count == 1 else f"exactly {words.NUMBERS[count][0]} people"
        asked["count"].append((many, frozenset({f"persons:{count}"})))
        for kind in ("cow", "bird"):
            noun = words.NOUNS[kind][0]
            several = f"one {noun} alone" if count == 1 else f"exactly {words.NUMBERS[count][0]} {plural(noun)}"
            asked["count"].append((several, frozenset({f"{kind}s:{count}"})))
    for action in words.ACTIONS:
        asked["action"].append((f"somebody who is {action}", frozenset({f"action:{action}"})))
    for group, kinds in (
        ("colour + vehicle", ("car", "bus", "train", "bicycle")),
        ("colour + boat or balloon", ("boat", "balloon")),
        ("colour + animal", ("dog", "cat", "cow", "bird")),
        ("colour of clothes", ("person",)),
        ("colour of umbrella", ("umbrella",)),
    ):
        for kind in kinds:
            coloured = [_colour_of(kind, colour) for colour in COLOURS[kind]]
            asked[group] += [(_subject(fact), frozenset({fact})) for fact in coloured]


def _about_several(asked: dict[str, list[tuple[str, Facts]]]) -> None:
    """Questions about two or three of them at once."""
    for subject, tail in _TWO:
        asked["two attributes"].append((f"{_subject(subject)} {_held_out(tail)}", frozenset({subject, tail})))
    for before, subject, behind in _AROUND:
        text = f"{_held_out(before)} {_subject(subject)} {_held_out(behind)}"
        asked["three attributes"].append((text, frozenset({before, subject, behind})))
    for subject, *tails in _THREE:
        text = " ".join((_subject(subject), *map(_held_out, tails)))
        asked["three attributes"].append((text, frozenset({subject, *tails})))


def _subject(fact: str) -> str:
    """What a sentence is about: a place, a thing, or one in a colour."""
    kind, _, value = fact.partition(":")
    if kind == "place":
        return an(words.PLACES[value].held_out[0])
    if kind == "clothes":
        return f"somebody {words.HELD_OUT_CLOTHES[0].format(value)}"
    noun = an("person" if kind == "person" else words.NOUNS[kind][0])
    return f"{noun} that is {value}" if value else noun


def _held_out(fact: str) -> str:
    """Where, when or in what weather."""
    kind, _, value = fact.partition(":")
    if kind == "place":
        return f"{words.PLACES[value].preposition} {_subject(fact)}"
    return (words.HELD_OUT_TIMES if kind == "time" else words.HELD_OUT_WEATHERS)[value][0]
