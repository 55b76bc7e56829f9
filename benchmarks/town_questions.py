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
)
_PLACE_AND_ONE = (
    ("street", "weather:rain"),
    ("office", "time:night"),
    ("beach", "time:evening"),
    ("farm", "weather:snow"),
    ("harbour", "time:morning"),
)
_THREE = (
    ("car", "weather:snow", "time:night"),
    ("bus", "weather:rain", "time:evening"),
    ("dog", "weather:snow", "time:morning"),
    ("boat", "weather:rain", "time:night"),
    ("train", "weather:rain", "time:day"),
    ("umbrella", "time:night", "weather:rain"),
)
_STREET_AND_TWO = (("snow", "night"), ("rain", "evening"), ("clear", "day"))
_COLOURED_AND_ONE = (
    ("car", "red", "time:night"),
    ("bus", "yellow", "weather:rain"),
    ("bicycle", "blue", "time:day"),
    ("train", "green", "weather:snow"),
    ("boat", "white", "time:evening"),
    ("balloon", "orange", "time:morning"),
    ("dog", "black", "place:beach"),
    ("cat", "orange", "place:kitchen"),
    ("cow", "brown", "weather:snow"),
)
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


def _thing(kind: str, colour: str) -> str:
    if kind == "person":
        return f"somebody {words.HELD_OUT_CLOTHES[0].format(colour)}"
    return f"{an(words.NOUNS[kind][0])} that is {colour}"


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
        f"{_thing(one.kind, first)} and {_thing(two.kind, second)}"
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
        asked["main object"] += [(f"{an(_noun(kind))} somewhere in the town", frozenset({kind}))]
    for count in (1, 2, 3):
        many = "one person alone" if count == 1 else f"exactly {words.NUMBERS[count][0]} people"
        asked["count"].append((many, frozenset({f"persons:{count}"})))
        for kind in ("cow", "bird"):
            noun = _noun(kind)
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
            fact = "clothes" if kind == "person" else kind
            asked[group] += [(_thing(kind, colour), frozenset({f"{fact}:{colour}"})) for colour in COLOURS[kind]]


def _about_several(asked: dict[str, list[tuple[str, Facts]]]) -> None:
    """Questions about two or three of them at once."""
    two, three = asked["two attributes"], asked["three attributes"]
    for kind, other in _TWO:
        two.append((f"{an(_noun(kind))} {_held_out(other)}", frozenset({kind, other})))
    for place, other in _PLACE_AND_ONE:
        two.append((f"{an(words.PLACES[place].held_out[0])} {_held_out(other)}", frozenset({f"place:{place}", other})))
    for kind, first, second in _THREE:
        text = f"{_held_out(first)} {an(_noun(kind))} {_held_out(second)}"
        three.append((text, frozenset({kind, first, second})))
    for weather, hour in _STREET_AND_TWO:
        text = f"{an(words.PLACES['street'].held_out[0])} {_held_out('time:' + hour)} {_held_out('weather:' + weather)}"
        three.append((text, frozenset({"place:street", f"time:{hour}", f"weather:{weather}"})))
    for kind, colour, other in _COLOURED_AND_ONE:
        three.append((f"{_thing(kind, colour)} {_held_out(other)}", frozenset({f"{kind}:{colour}", other})))


def _noun(kind: str) -> str:
    return "person" if kind == "person" else words.NOUNS[kind][0]


def _held_out(fact: str) -> str:
    kind, _, value = fact.partition(":")
    if kind == "place":
        name = words.PLACES[value]
        return f"{name.preposition} {an(name.held_out[0])}"
    return (words.HELD_OUT_TIMES if kind == "time" else words.HELD_OUT_WEATHERS)[value][0]
