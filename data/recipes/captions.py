"""English captions for the facts of a frame. Each caption says which facts it needs, so it fits other frames too."""

import random
from collections.abc import Collection
from dataclasses import dataclass, replace

from data.recipes import words
from data.recipes.facts import ANIMALS, KINDS, VEHICLES


@dataclass(frozen=True, slots=True)
class Caption:
    text: str
    needs: frozenset[str]
    """Every frame with these facts is rightly called so."""
    foil: "Caption | None" = None
    """The same words with two colours exchanged, where it names two things with a colour each."""


def an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def plural(noun: str) -> str:
    head, _, tail = noun.partition(" with ")
    head = head + ("es" if head.endswith("s") else "s")
    return f"{head} with {tail}" if tail else head


def _values(facts: Collection[str], kind: str) -> list[str]:
    return sorted(fact.partition(":")[2] for fact in facts if fact.startswith(kind + ":"))


def _value(facts: Collection[str], kind: str) -> str:
    found = _values(facts, kind)
    return found[0] if found else ""


_UNDER = ("with", "under", "holding")
_AND = (" and ", " with ", " next to ", " beside ", " and ", " near ", ", ")


class Captioner:
    """Writes captions; `held_out` ones use openings, word orders and phrases that the others never use."""

    def __init__(self, rng: random.Random, held_out: bool = False) -> None:
        self.rng = rng
        self.held_out = held_out

    def caption(self, facts: frozenset[str]) -> Caption:
        """One caption true of a frame with these facts."""
        rng, things = self.rng, self._things(facts)
        lot = rng.random()
        if lot < 0.02:
            return Caption(rng.choice(words.ANYTHING), frozenset())
        if rng.random() < 0.35 and len(coloured := self._colours(facts)) > 1:
            return self._two(facts, coloured)
        if lot < 0.15 or not things:
            text, needs = self._circumstances(facts)
        elif lot < 0.32:
            return self._keywords(facts, things)
        elif lot < 0.5:
            text, needs = rng.choice(things)
        else:
            text, needs = self._sentence(facts, things)
        opening = rng.choice(words.HELD_OUT_OPENINGS if self.held_out else words.OPENINGS)
        return Caption(opening + text, frozenset(needs))

    def _colours(self, facts: frozenset[str]) -> dict[str, str]:
        """A colour of each kind of thing that has one."""
        found = {kind: _values(facts, kind) for kind in (*KINDS, "clothes")}
        return {
            kind: self.rng.choice(colours)
            for kind, each in found.items()
            if (colours := [c for c in each if "+" not in c])
        }

    def _two(self, facts: frozenset[str], coloured: dict[str, str]) -> Caption:
        """Two things with a colour each, and the same with the colours exchanged."""
        kinds = self.rng.sample(sorted(coloured), 2)
        colours = [coloured[kind] for kind in kinds]
        seed = self.rng.random()
        own, foil = (
            Captioner(random.Random(seed), self.held_out)._side_by_side(facts, dict(zip(kinds, each, strict=True)))
            for each in (colours, colours[::-1])
        )
        return replace(own, foil=foil if own.needs != foil.needs else None)

    def _side_by_side(self, facts: frozenset[str], coloured: dict[str, str]) -> Caption:
        """The same words for all colours, if the generator is in the same state."""
        rng, things = self.rng, []
        behind = rng.random() < 0.4
        for kind, colour in coloured.items():
            shade = self._shade(colour)
            if kind == "clothes":
                dress = rng.choice(words.HELD_OUT_CLOTHES if self.held_out else words.CLOTHES)
                things.append(f"{rng.choice(words.WHO)} {dress.format(shade)}")
            else:
                things.append(self._coloured(kind, rng.choice(words.NOUNS[kind]), shade, behind))
        text, needs = rng.choice(_AND).join(things), {f"{kind}:{colour}" for kind, colour in coloured.items()}
        if rng.random() < 0.5:
            tail, more = rng.choice((self._where, self._when, self._weather))(facts)
            text, needs = f"{text} {tail}".strip(), needs | more
        return Caption(text, frozenset(needs))

    def _sentence(self, facts: frozenset[str], things: list[tuple[str, set[str]]]) -> tuple[str, set[str]]:
        rng = self.rng
        text, needs = rng.choice(things)
        if rng.random() < 0.32:
            other, more = rng.choice(things)
            if not more & needs:
                text, needs = text + rng.choice(_AND) + other, needs | more
        tails: list[str] = []
        for share, maker in ((0.62, self._where), (0.5, self._when), (0.38, self._weather)):
            if rng.random() < share:
                tail, more = maker(facts)
                if tail and not (maker is self._weather and needs & more):
                    tails.append(tail)
                    needs = needs | more
        if rng.random() < 0.3:
            rng.shuffle(tails)
        if self.held_out or rng.random() < 0.12:
            tails.reverse()
        if tails and rng.random() < 0.14:
            return f"{tails[0]} {text} {' '.join(tails[1:])}".strip(), needs
        return " ".join((text, *tails)), needs

    def _keywords(self, facts: frozenset[str], things: list[tuple[str, set[str]]]) -> Caption:
        """Single words, and short lists of them."""
        rng = self.rng
        text, needs = rng.choice(things)
        parts = [(text.removeprefix("a ").removeprefix("an "), needs)]
        place, time, weather = (_value(facts, kind) for kind in ("place", "time", "weather"))
        parts.append((rng.choice(words.PLACES[place].nouns[:3]), {f"place:{place}"}))
        parts.append((rng.choice(words.TIME_WORDS[time]), {f"time:{time}"}))
        if weather:
            parts.append((rng.choice(words.WEATHER_WORDS[weather]), {f"weather:{weather}"}))
        else:
            parts.append((rng.choice(("indoors", "inside", "a room inside")), {"indoors"}))
        rng.shuffle(parts)
        chosen = parts[: rng.choice((1, 1, 2, 2, 3))]
        opening = (
            rng.choice(words.HELD_OUT_OPENINGS)
            if self.held_out
            else rng.choice(("", "", "", "a photo of ", "a picture of "))
        )
        needs = set().union(*(more for _, more in chosen))
        return Caption(opening + rng.choice((" ", " ", ", ")).join(text for text, _ in chosen), frozenset(needs))

    def _where(self, facts: frozenset[str]) -> tuple[str, set[str]]:
        rng, place = self.rng, _value(facts, "place")
        name, weather = words.PLACES[place], _value(facts, "weather")
        if "outdoors" in facts and rng.random() < 0.04:
            return rng.choice(("outdoors", "outside", "in the open air")), {"outdoors"}
        if "indoors" in facts and rng.random() < 0.08:
            return rng.choice(("indoors", "inside", "in a room")), {"indoors"}
        noun = rng.choice(name.held_out if self.held_out else name.nouns)
        needs = {f"place:{place}"}
        if weather in words.WEATHER_ADJECTIVES and rng.random() < 0.25:
            noun, needs = f"{rng.choice(words.WEATHER_ADJECTIVES[weather])} {noun}", needs | {f"weather:{weather}"}
        time = _value(facts, "time")
        if "the town" not in noun and time != "day" and rng.random() < 0.08:
            noun, needs = f"{words.TIME_WORDS[time][0]} {noun}", needs | {f"time:{time}"}
        article = "the" if noun.split()[0] in words.NO_ARTICLE or rng.random() < 0.25 else ""
        preposition = "in" if noun == "countryside" else "at" if noun == "seaside" else name.preposition
        return f"{preposition} {f'the {noun}' if article else an(noun)}", needs

    def _when(self, facts: frozenset[str]) -> tuple[str, set[str]]:
        time = _value(facts, "time")
        return self.rng.choice((words.HELD_OUT_TIMES if self.held_out else words.TIMES)[time]), {f"time:{time}"}

    def _weather(self, facts: frozenset[str]) -> tuple[str, set[str]]:
        weather = _value(facts, "weather")
        if not weather:
            return "", set()
        if weather == "clear" and facts & {"time:morning", "time:day"} and self.rng.random() < 0.4:
            return self.rng.choice(("in the sun", "in sunny weather", "in sunshine")), {
                "weather:clear",
                "time:" + _value(facts, "time"),
            }
        return self.rng.choice((words.HELD_OUT_WEATHERS if self.held_out else words.WEATHERS)[weather]), {
            f"weather:{weather}"
        }

    def _circumstances(self, facts: frozenset[str]) -> tuple[str, set[str]]:
        """Place, time and weather alone, in several word orders; sometimes that nobody is there."""
        rng = self.rng
        where, needs = self._where(facts)
        text = where.partition(" ")[2] if not where.startswith(("outdoors", "outside", "indoors", "inside")) else where
        if "empty" in facts and rng.random() < 0.4:
            text = "an empty " + text.removeprefix("an ").removeprefix("a ").removeprefix("the ")
            needs = needs | {"empty"}
        elif "nobody" in facts and rng.random() < 0.1:
            text, needs = (
                f"{text} {rng.choice(('without people', 'with no people', 'and nobody there'))}",
                needs | {"nobody"},
            )
        lot = rng.random()
        if lot < 0.1 and "empty" in facts:
            return rng.choice(
                ("an empty place", "nothing there", "nobody there and nothing moving", "an empty scene")
            ), {"empty"}
        if lot < 0.3:
            return text, needs
        makers = [self._when, self._weather] if lot < 0.55 else [rng.choice((self._when, self._weather))]
        if lot > 0.9:
            tail, more = makers[0](facts)
            return (tail, more) if tail else (text, needs)
        if lot > 0.82 and "the town" not in text:
            time = _value(facts, "time")
            return f"{rng.choice(words.TIME_WORDS[time])} {where}", needs | {f"time:{time}"}
        rng.shuffle(makers)
        for maker in makers:
            tail, more = maker(facts)
            if tail and not more <= needs:
                text, needs = f"{text} {tail}", needs | more
        return text, needs

    def _things(self, facts: frozenset[str]) -> list[tuple[str, set[str]]]:
        """What can be named: a phrase and the facts it needs, for each visible kind in several ways."""
        rng, things = self.rng, []
        for kind in KINDS:
            if kind not in facts or kind == "person":
                continue
            noun = rng.choice(words.NOUNS[kind])
            verb = rng.choice(("", "", *words.VERBS.get(kind, ("",))))
            things.append((f"{an(noun)} {verb}".strip(), {kind}))
            colours = _values(facts, kind)
            colour = rng.choice(colours)
            shade = self._shade(colour)
            things += [
                (f"{self._coloured(kind, noun, shade)} {verb}".strip(), {kind, f"{kind}:{colour}"}) for _ in range(3)
            ]
            if rng.random() < 0.2:
                things.append((plural(f"{shade} {noun}"), {kind, f"{kind}:{colour}"}))
            if f"close:{kind}" in facts and rng.random() < 0.3:
                things.append(
                    (
                        rng.choice((f"a close-up of {an(noun)}", f"a big {noun}", f"{an(noun)} from close by")),
                        {f"close:{kind}"},
                    )
                )
            if kind in VEHICLES and rng.random() < 0.15:
                things.append((an(f"{colour} vehicle"), {"vehicle", f"{kind}:{colour}"}))
            for count in _values(facts, f"{kind}s"):
                many = plural(noun)
                if int(count) > 1:
                    things.append(
                        (f"{rng.choice(words.NUMBERS[int(count)])} {many} {verb}".strip(), {f"{kind}s:{count}"})
                    )
                    things.append((rng.choice((many, f"some {many}")), {kind}))
                else:
                    things.append((rng.choice((f"one {noun}", f"a single {noun}")), {f"{kind}s:1"}))
                    things.append((many, {kind}))
        if "animal" in facts and rng.random() < 0.2:
            things.append((rng.choice(("an animal", "some animal", "animals")), {"animal"}))
        if "vehicle" in facts and rng.random() < 0.12:
            things.append(("a vehicle", {"vehicle"}))
        if "person" in facts:
            things += self._persons(facts)
        return things

    def _shade(self, colour: str) -> str:
        """A word for a colour; takes as much from the generator for each."""
        return self.rng.choice(words.COLOURS.get(colour, (colour,) * 3))

    def _coloured(self, kind: str, noun: str, shade: str, behind: bool = False) -> str:
        """A noun and its colour in one of the orders that English has, or the colour behind for certain."""
        rng = self.rng
        lot = rng.random()
        if self.held_out and lot < 0.5:
            return f"{an(noun)} that is {shade}"
        if lot < 0.24 or behind:
            tail = rng.choice(words.FURRED if kind in ANIMALS else words.PAINTED)
            return f"{an(noun)} {tail.format(shade)}"
        if lot < 0.36:
            return f"the {shade} {noun}"
        if lot < 0.42:
            return an(f"{shade} {rng.choice(('coloured', 'colored'))} {noun}")
        return an(f"{shade} {noun}")

    def _persons(self, facts: frozenset[str]) -> list[tuple[str, set[str]]]:
        rng = self.rng
        who, count = rng.choice(words.WHO), int(_value(facts, "persons"))
        things: list[tuple[str, set[str]]] = [(who, {"person"})]
        actions = _values(facts, "action")
        action = rng.choice(actions) if actions else ""
        doing = rng.choice(words.ACTIONS[action]) if action else ""
        act = {f"action:{action}"} if action else set()
        if doing:
            things += [(f"{who} {doing}", {"person"} | act)] * 2
        if action == "cycling":
            things.append((rng.choice(("a cyclist", "a rider on a bike")), {"action:cycling"}))
        dresses = words.HELD_OUT_CLOTHES if self.held_out else words.CLOTHES
        for found in _values(facts, "clothes"):
            colour, _, together = found.partition("+")
            shade = self._shade(colour)
            dressed = f"{who} {rng.choice(dresses).format(shade)}"
            if not together:
                things += [(dressed, {"person", f"clothes:{colour}"})] * 2
            elif together == "umbrella":
                things.append((f"{dressed} {rng.choice(_UNDER)} an umbrella", {"person", f"clothes:{found}"}))
            elif rng.random() < 0.6:
                does = rng.choice(words.ACTIONS[together.partition(":")[2]])
                things.append((f"{dressed} {does}", {"person", f"clothes:{found}"}))
        if count > 1:
            things += [(f"{rng.choice(words.NUMBERS[count])} people", {f"persons:{count}"})] * 2
            things.append((rng.choice(("people", "some people", "several people", "a group of people")), {"people"}))
            if doing:
                things.append((f"{rng.choice(words.NUMBERS[count])} people {doing}", {f"persons:{count}"} | act))
                things.append((f"people {doing}", {"people"} | act))
        else:
            things.append(
                (rng.choice(("one person", "a single person", "only one person", "a lone person")), {"persons:1"})
            )
        for colour in _values(facts, "umbrella"):
            shade = self._shade(colour)
            brolly = an(f"{shade} umbrella")
            things += [
                (f"{who} {rng.choice(_UNDER)} {brolly}", {"umbrella", f"umbrella:{colour}"}),
                (brolly, {"umbrella", f"umbrella:{colour}"}),
            ]
        if "umbrella" in facts:
            things.append((f"{who} {rng.choice(_UNDER)} an umbrella", {"umbrella"}))
        for animal in ANIMALS:
            if animal in facts and animal in ("dog", "cat") and rng.random() < 0.3:
                things.append((f"{who} with {an(animal)}", {"person", animal}))
        return things
