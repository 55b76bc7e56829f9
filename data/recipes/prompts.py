"""Writes the bank of text prompts that routers are fitted on: what people might type when they look for a moment.

python -m data.recipes.prompts

The words stand in `prompts.toml`, whole sentences in `prompts_by_hand.txt`, the town's words in `words`.
"""

import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from data.recipes import words
from data.recipes.palette import NAMED

PROMPTS = Path(__file__).resolve().parent.parent / "prompts.txt"
TABLES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("prompts.toml").read_text(encoding="utf-8"))
BY_HAND = Path(__file__).with_name("prompts_by_hand.txt")
EXAMPLES = PROMPTS.with_name("examples.json")
"""Queries that the app offers; they are left out, so that they can test what was fitted."""

SHARES = {
    "by hand": 1000,
    "noun": 2000,
    "screen": 230,
    "broad": 330,
    "town": 1150,
    "place": 420,
    "action": 430,
    "thing": 1100,
    "sentence": 640,
}
"""At most so many prompts of each kind; kinds that come first have first call on the words."""
MOST_PER_WORD = 80
"""Prompts in which one word may stand, unless it is one of `free` in the tables."""
MOST_PER_NOUN = 3
"""Prompts of the kind `thing` about one noun."""

_FREE = frozenset(TABLES["free"]["words"].split())
_IRREGULAR = {
    "calf": "calves",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
    "cactus": "cacti",
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "church": "churches",
} | {
    same: same
    for same in ("sheep", "deer", "moose", "bison", "squid", "tuna", "salmon", "buffalo", "shrimp", "aircraft")
}
_HEADS = (" of ", " with ", " in ", " on ")
_A_BEFORE = ("uni", "eu", "uk", "one-", "us")
_AN_BEFORE = ("hour", "heir", "honest", "x-ray")


def an(noun: str) -> str:
    """The noun with its article, by how it sounds."""
    low = noun.lower()
    vowel = low.startswith(_AN_BEFORE) or (low[0] in "aeiou" and not low.startswith(_A_BEFORE))
    return f"an {noun}" if vowel else f"a {noun}"


def plural(noun: str) -> str:
    """More than one of a noun, which may have a tail such as `of flowers`."""
    cut = min((noun.index(mark) for mark in _HEADS if mark in noun), default=len(noun))
    head, tail = noun[:cut], noun[cut:]
    before, space, last = head.rpartition(" ")
    return f"{before}{space}{_many(last)}{tail}"


def _many(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("fish"):
        return word
    if word.endswith(("loaf", "leaf", "shelf", "scarf", "wolf")):
        return word[:-1] + "ves"
    if word.endswith("knife"):
        return word[:-2] + "ves"
    if word.endswith(("s", "x", "z", "ch", "sh")) or word in ("potato", "tomato", "mango", "mosquito", "chilli"):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def words_of(prompt: str) -> set[str]:
    """The words of a prompt that are held under the limit, in one form for singular and plural."""
    found = set(re.findall(r"[a-z][a-z'-]*", prompt.lower())) - _FREE
    return {word[:-1] if word.endswith("s") and not word.endswith("ss") else word for word in found} - _FREE


def prompts() -> dict[str, str]:
    """Every prompt and its kind, in the order of the file; the same each time."""
    rng = random.Random("prompts")
    makers: dict[str, Callable[[random.Random], Iterable[str]]] = {
        "by hand": _by_hand,
        "noun": _nouns,
        "screen": _screen,
        "broad": _broad,
        "town": _town,
        "place": _places,
        "action": _actions,
        "thing": _things,
        "sentence": _sentences,
    }
    kept: dict[str, str] = {}
    taken: Counter[str] = Counter()
    known = {example["query"].lower() for example in json.loads(EXAMPLES.read_text(encoding="utf-8"))}
    for kind, most in SHARES.items():
        left = most
        for prompt in makers[kind](rng):
            held = words_of(prompt)
            if not left or prompt.lower() in known or any(taken[word] >= MOST_PER_WORD for word in held):
                continue
            kept[prompt] = kind
            known.add(prompt.lower())
            taken.update(held)
            left -= 1
    order = list(kept)
    rng.shuffle(order)
    return {prompt: kept[prompt] for prompt in order}


def _by_hand(rng: random.Random) -> Iterable[str]:
    return BY_HAND.read_text(encoding="utf-8").splitlines()


def _nouns(rng: random.Random) -> Iterator[str]:
    for table in TABLES["things"].values():
        yield from (an(noun) for noun in table["nouns"])
        yield from table.get("mass", ())
    for table in TABLES["scenes"].values():
        yield from (an(noun) for noun in table["nouns"])


def _screen(rng: random.Random) -> Iterator[str]:
    table = TABLES["screen"]
    yield from table["lines"]
    yield from _mixed(
        rng, (f"{who} {where}" for who in table["presenters"] for where in table["settings"] if not _echo(who, where))
    )


def _places(rng: random.Random) -> Iterator[str]:
    found = []
    for table in TABLES["scenes"].values():
        for noun in table["nouns"]:
            fitting = [tail for tail in table["tails"] if not _echo(noun, tail)]
            found += [f"{an(noun)} {tail}" for tail in rng.sample(fitting, 2)]
            found.append(f"{rng.choice(('a view of', 'a wide shot of', 'footage of'))} {an(noun)}")
    return _mixed(rng, found)


def _actions(rng: random.Random) -> Iterator[str]:
    found = []
    for table in TABLES["actions"].values():
        for doing in table["doing"]:
            one, other, third = rng.sample(table["who"], 3)
            tail, more = rng.sample([tail for tail in table["tails"] if not _echo(doing, tail)], 2)
            found += [f"{one} {doing}", f"{other} {doing} {tail}", rng.choice((f"{third} {doing} {more}", doing))]
    return _mixed(rng, found)


def _things(rng: random.Random) -> Iterator[str]:
    found = []
    for name, table in TABLES["things"].items():
        near = TABLES["things"][table.get("near", name)]["nouns"]
        for noun in table["nouns"]:
            shapes = _shapes(rng, table, noun, [other for other in near if not _echo(noun, other)])
            found += rng.sample(shapes, min(MOST_PER_NOUN, len(shapes)))
        found += [f"{noun} {rng.choice(table['where'])}" for noun in table.get("mass", ())]
    return _mixed(rng, found)


def _shapes(rng: random.Random, table: dict[str, Any], noun: str, near: list[str]) -> list[str]:
    """A noun with a look, a place, a number, a view, a doing or a neighbour."""
    where = rng.choice([where for where in table["where"] if not _echo(noun, where)])
    found = [f"{an(noun)} {where}", rng.choice(TABLES["views"][table["view"]]).format(an(noun))]
    looks = [look for look in table["looks"] if not _echo(noun, look)]
    if looks:
        found.append(an(f"{rng.choice(looks)} {noun}"))
        found.append(f"{an(f'{rng.choice(looks)} {noun}')} {where}")
    if "doing" in table:
        found.append(f"{an(noun)} {rng.choice(table['doing'])}")
    if table.get("counted", True):
        found.append(f"{rng.choice(('two', 'three', 'several', 'a row of', 'many'))} {plural(noun)}")
        found.append(f"{an(noun)} {rng.choice(('next to', 'and', 'in front of', 'behind'))} {an(rng.choice(near))}")
    return found


def _sentences(rng: random.Random) -> Iterator[str]:
    """A hundred of each setting; no half sentence is used often."""
    found = []
    for setting in TABLES["setting"]:
        wear, starts = TABLES["wear"][setting["wear"]], Counter[str]()
        for number in range(100):
            does, then = rng.choice(setting["does"]), rng.choice(setting["then"])
            who = rng.choice(setting["who"])
            who = who if " with " in who or " in " in who else f"{who} {rng.choice(wear)}".strip()
            if max(starts[does], starts[then]) >= 6 or _echo(does, then):
                continue
            starts.update((does, then))
            found.append(_sentence(_PATTERNS[number % len(_PATTERNS)], who, does, then))
    return _mixed(rng, found)


_PATTERNS = (
    "{who} {does}.",
    "{who} {does}, and {then}.",
    "{who} {does}; later {then}.",
    "{who} {does} while {then}.",
    "{who} {does}. {Then}.",
    "the camera follows {who} who {does}.",
    "first {then}, then {who} {does}.",
    "{then}, and {who} {does}.",
    "we see {who} who {does}; in the next shot {then}.",
    "{then}. {Who} {does}.",
    "I am looking for the scene in which {who} {does}.",
    "the clip begins when {then}; at the end {who} {does}.",
    "{who} {does} just before {then}.",
)


def _sentence(pattern: str, who: str, does: str, then: str) -> str:
    text = pattern.format(who=who, does=does, then=then, Who=who[0].upper() + who[1:], Then=then[0].upper() + then[1:])
    return text[0].upper() + text[1:]


# ---- the town


_HOMES = {
    "car": ("street", "farm"),
    "bus": ("street", "harbour"),
    "bicycle": ("street", "park", "harbour", "playground"),
    "train": ("station",),
    "boat": ("harbour", "beach"),
    "balloon": ("park", "beach", "farm", "playground", "harbour"),
    "dog": ("park", "beach", "farm", "street", "living room", "kitchen", "playground"),
    "cat": ("kitchen", "living room", "farm", "street", "office"),
    "bird": ("beach", "harbour", "park", "farm", "station"),
    "cow": ("farm",),
}
_COLOURS = {
    "dog": ("black", "white", "brown", "grey"),
    "cat": ("black", "white", "orange", "grey"),
    "bird": ("black", "white", "grey", "blue"),
    "cow": ("black", "white", "brown"),
    "train": ("red", "blue", "green", "yellow", "grey", "orange"),
}
_IN_NUMBERS = ("bird", "cow")
"""The encoder knows the plurals of no others."""
_INDOORS = ("office", "kitchen", "living room")
_ODD = (("snow", "palm"), ("snow", "green park"), ("winter", "palm"), ("wint", "green park"), ("rain", "sandy"))
"""Pairs of words that do not go together."""


def _broad(rng: random.Random) -> Iterator[str]:
    """A place, a time, a weather, a thing or somebody alone, in words that the shipped encoder knows: true of very many frames."""
    when = [phrase for table in (words.TIMES, words.WEATHERS) for phrases in table.values() for phrase in phrases]
    bare = [word for table in (words.TIME_WORDS, words.WEATHER_WORDS) for each in table.values() for word in each]
    places = [noun for place in words.PLACES.values() for noun in place.nouns]
    nouns = list(dict.fromkeys((*places, *(noun for each in words.NOUNS.values() for noun in each))))
    named = [*map(_with_article, nouns), *dict.fromkeys(words.WHO)]
    found = ["indoors", "outdoors", "outside", "inside", "people", "an animal", "a vehicle", *bare, *nouns, *named]
    found += [f"{rng.choice(words.WHO)} {rng.choice(doing)}" for doing in words.ACTIONS.values()]
    found += [f"{rng.choice(('the town', 'a scene', 'a picture', 'something'))} {phrase}" for phrase in when]
    found += [f"a {rng.choice(('picture', 'photo', 'drawing'))} of {each}" for each in (*bare, *named)]
    found += [f"{rng.choice(('there is', 'this shows', 'a scene with'))} {each}" for each in named]
    return _mixed(rng, found)


def _with_article(noun: str) -> str:
    return f"the {noun}" if noun in words.NO_ARTICLE else an(noun)


def _town(rng: random.Random) -> Iterator[str]:
    """Prompts in words that the shipped encoder knows; no two say the same about what is seen."""
    said: set[tuple[str, ...]] = set()
    makers = (_town_object, _town_object, _town_object, _town_person, _town_person, _town_place, _town_pair)
    for number in range(20_000):
        text, facts = makers[number % len(makers)](rng)
        if facts in said or any(one in text and other in text for one, other in _ODD):
            continue
        said.add(facts)
        yield text


Told = tuple[str, tuple[str, ...]]
"""A text and what it says, in plain words."""


def _town_object(rng: random.Random) -> Told:
    subject, facts = _subject(rng, rng.choice(list(_HOMES)))
    return _told(rng, subject, facts, _HOMES[facts[0]])


def _subject(rng: random.Random, kind: str) -> Told:
    noun = rng.choice(words.NOUNS[kind])
    colour = rng.choice(_COLOURS.get(kind, tuple(NAMED))) if rng.random() < 0.6 else ""
    number = rng.choice((1, 2, 3)) if kind in _IN_NUMBERS else 1
    called = f"{colour} {noun}".strip()
    called = an(called) if number == 1 else f"{('two', 'three')[number - 2]} {plural(called)}"
    verb = rng.choice(words.VERBS.get(kind, ("",))) if rng.random() < 0.35 else ""
    close = number == 1 and not verb and rng.random() < 0.12
    return f"{'a close-up of ' if close else ''}{called} {verb}".strip(), (kind, colour, str(number), str(close))


def _town_person(rng: random.Random) -> Told:
    who, action = rng.choice(words.WHO), rng.choice(list(words.ACTIONS))
    told = "on foot" if action in ("walking", "standing") else action  # which the encoder hardly tells apart
    colour, lot = rng.choice(list(NAMED)), rng.random()
    homes = tuple(words.PLACES) if action in ("standing", "sitting") else ("street", "park", "harbour", "farm", "beach")
    doing = rng.choice(words.ACTIONS[action])
    if lot < 0.3:
        return _told(rng, f"{who} {doing}", ("person", told), homes)
    if lot < 0.5:
        subject = f"{who} {_dressed(rng, colour)}"
        return _told(rng, subject, ("person", colour), homes)
    if lot < 0.75:
        subject = f"{who} {_dressed(rng, colour)} {doing}"
        return _told(rng, subject, ("person", colour), homes)
    if lot < 0.9:
        brolly = an(f"{colour} umbrella")
        subject = f"{who} {rng.choice(('with', 'under', 'holding'))} {brolly}"
        return _told(rng, subject, ("umbrella", colour), ("street", "park", "beach", "station", "harbour"))
    many = rng.choice(("two people", "three people", "a group of people", "people"))
    return _told(rng, f"{many} {doing}", ("people", told), homes)


def _dressed(rng: random.Random, colour: str) -> str:
    dress = rng.choice(words.CLOTHES)
    return dress.replace("a {0}", an(colour)) if "a {0}" in dress else dress.format(colour)


def _town_place(rng: random.Random) -> Told:
    name = rng.choice(list(words.PLACES))
    noun = rng.choice(words.PLACES[name].nouns)
    lot = rng.random()
    opening = "" if lot < 0.5 else rng.choice(("a view of ", "a picture of ", "a drawing of ", "this shows "))
    text, facts = _circumstances(rng, name)
    empty = "empty " if lot > 0.8 and noun not in words.NO_ARTICLE else ""
    return f"{opening}{_with_article(empty + noun)} {text}".strip(), (name, empty, *facts)


def _town_pair(rng: random.Random) -> Told:
    kind = rng.choice(list(_HOMES))
    other = rng.choice([other for other in (*_HOMES, "person") if other != kind and _shared(kind, other)])
    first, facts = _subject(rng, kind)
    second, more = _subject(rng, other) if other != "person" else (rng.choice(words.WHO), ("person",))
    first, second = first.removeprefix("a close-up of "), second.removeprefix("a close-up of ")
    subject = f"{first} {rng.choice(('and', 'next to', 'with'))} {second}"
    return _told(rng, subject, (*facts, *more), _shared(kind, other))


def _shared(kind: str, other: str) -> tuple[str, ...]:
    return tuple(name for name in _HOMES[kind] if other == "person" or name in _HOMES[other])


def _told(rng: random.Random, subject: str, facts: tuple[str, ...], homes: tuple[str, ...]) -> Told:
    """The subject with some of where, when and in what weather; sometimes as a sentence."""
    name, lot = rng.choice(homes), rng.random()
    if lot < 0.12:
        return subject, facts
    place = words.PLACES[name]
    noun = rng.choice(place.nouns)
    preposition = {"countryside": "in", "seaside": "at"}.get(noun, place.preposition)
    where = f"{preposition} {f'the {noun}' if noun in words.NO_ARTICLE or rng.random() < 0.4 else an(noun)}"
    text, more = _circumstances(rng, name)
    if lot < 0.27 and more:
        return f"{subject} {text}", (*facts, *more)
    if lot < 0.5:
        return f"{subject} {where}", (*facts, name)
    told = f"{subject} {where} {text}".strip()
    if lot > 0.84 and not subject.startswith(("two", "three", "people")):
        told = f"There is {told}."
    return told, (*facts, name, *more)


def _circumstances(rng: random.Random, place: str) -> Told:
    """Time, weather, both or nothing."""
    lot, texts, facts = rng.random(), list[str](), list[str]()
    if lot < 0.65:
        time = rng.choice(list(words.TIMES))
        texts.append(rng.choice(words.TIMES[time]))
        facts.append(time)
    if 0.4 < lot < 0.95 and place not in _INDOORS:
        weather = rng.choice(list(words.WEATHERS))
        texts.append(rng.choice(words.WEATHERS[weather]))
        facts.append(weather)
    return " ".join(texts), tuple(facts)


# ----


def _echo(one: str, other: str) -> bool:
    """True if both hold the same word of some length, which would sound odd."""
    return bool({w for w in words_of(one) if len(w) > 2} & words_of(other))


def _mixed(rng: random.Random, found: Iterable[str]) -> Iterator[str]:
    mixed = list(found)
    rng.shuffle(mixed)
    return iter(mixed)


def main() -> None:
    made = prompts()
    PROMPTS.write_text("\n".join(made) + "\n", encoding="utf-8", newline="\n")
    print(f"{len(made)} prompts:", ", ".join(f"{n} {kind}" for kind, n in Counter(made.values()).most_common()))


if __name__ == "__main__":
    main()
