"""Chooses who appears in a shot, in which colours, and how the camera looks at it."""

import random
from dataclasses import dataclass, replace

from data.recipes.facts import Box, box, facts
from data.recipes.indoors import DESKS, SOFA
from data.recipes.shot import (
    INDOORS,
    PAINTS,
    PLACES,
    TIMES,
    VIEW_WIDTH,
    WEATHERS,
    WORLD_HEIGHT,
    WORLD_WIDTH,
    Actor,
    Camera,
    Shot,
)

COLOURS: dict[str, tuple[str, ...]] = {
    "car": PAINTS,
    "bus": PAINTS,
    "bicycle": PAINTS,
    "train": PAINTS,
    "boat": PAINTS,
    "balloon": PAINTS,
    "dog": ("brown", "black", "white", "grey"),
    "cat": ("orange", "black", "white", "grey"),
    "bird": ("white", "black"),
    "cow": ("white", "brown", "black"),
    "person": PAINTS,
    "umbrella": PAINTS,
}


@dataclass(frozen=True, slots=True)
class Role:
    """How often and where a kind of actor appears in a place."""

    weight: float
    y: tuple[float, ...]
    """World units; one of them is taken."""
    scale: float = 1.2
    speed: tuple[float, float] = (0.0, 0.0)
    actions: tuple[str, ...] = ("",)


_PACE = (9.0, 13.0)
_TROT = (8.0, 20.0)
_RIDE = (16.0, 26.0)
_DRIVE = (22.0, 42.0)
_SKY = {"bird": Role(0.9, (34, 46, 60, 74), 1.25, (14, 22)), "balloon": Role(1.7, (46, 58), 1.15, (1, 4))}
_OUTSIDE = ("walking", "walking", "standing", "sitting")

ROLES: dict[str, dict[str, Role]] = {
    "street": {
        "car": Role(4.5, (153, 175), 1.3, _DRIVE),
        "bus": Role(3.2, (153, 175), 1.25, _DRIVE),
        "bicycle": Role(2.2, (154, 175), 1.2, _RIDE, ("cycling",)),
        "person": Role(2.2, (132,), 1.15, _PACE, ("walking", "walking", "standing")),
        "dog": Role(1.0, (132,), 1.15, _TROT),
        "cat": Role(0.5, (132,), 1.1),
    }
    | _SKY,
    "park": {
        "person": Role(2.0, (154, 168), 1.3, _PACE, _OUTSIDE),
        "dog": Role(1.6, (164, 174), 1.4, _TROT),
        "cat": Role(0.8, (160,), 1.3),
        "bicycle": Role(1.4, (169,), 1.25, _RIDE, ("cycling", "cycling", "")),
    }
    | _SKY,
    "beach": {
        "person": Role(2.0, (160, 170), 1.35, _PACE, _OUTSIDE),
        "boat": Role(2.2, (114, 120), 1.2, (2, 7)),
        "dog": Role(1.4, (164, 172), 1.4, _TROT),
    }
    | _SKY,
    "harbour": {
        "boat": Role(3.2, (128, 138), 1.35, (2, 7)),
        "person": Role(1.4, (168,), 1.3, _PACE, _OUTSIDE),
        "car": Role(1.6, (174,), 1.35, _DRIVE),
        "bicycle": Role(0.8, (172,), 1.25, _RIDE, ("cycling", "")),
        "dog": Role(0.7, (171,), 1.35, _TROT),
        "cat": Role(0.5, (170,), 1.3),
        "bird": _SKY["bird"],
    },
    "farm": {
        "cow": Role(4.0, (142, 152, 158), 1.3),
        "person": Role(1.0, (162,), 1.3, _PACE, _OUTSIDE),
        "dog": Role(0.9, (164,), 1.3, _TROT),
        "cat": Role(0.7, (160,), 1.25),
        "car": Role(1.1, (175,), 1.3, _DRIVE),
        "bus": Role(0.9, (176,), 1.2, _DRIVE),
        "bicycle": Role(0.8, (174,), 1.25, _RIDE, ("cycling",)),
    }
    | _SKY,
    "playground": {
        "person": Role(2.6, (160, 168), 1.25, _PACE, _OUTSIDE),
        "dog": Role(1.3, (166, 172), 1.35, _TROT),
        "cat": Role(0.7, (166,), 1.3),
        "bicycle": Role(1.2, (170,), 1.2, _RIDE, ("cycling", "")),
    }
    | _SKY,
    "station": {
        "train": Role(4.5, (146,), 1.2, (10, 34)),
        "person": Role(1.8, (168,), 1.25, _PACE, _OUTSIDE),
        "dog": Role(0.8, (170,), 1.3, _TROT),
        "bird": Role(0.5, (34, 46), 1.25, (14, 22)),
    },
    "office": {
        "person": Role(3.0, (169,), 1.25, _PACE, ("sitting", "sitting", "standing", "walking")),
        "dog": Role(0.7, (172,), 1.35),
        "cat": Role(0.8, (172,), 1.3),
    },
    "kitchen": {
        "person": Role(2.6, (168,), 1.6, _PACE, ("standing", "walking", "sitting")),
        "dog": Role(1.1, (172,), 1.5),
        "cat": Role(1.5, (170,), 1.45),
    },
    "living room": {
        "person": Role(2.6, (168,), 1.5, _PACE, ("sitting", "sitting", "standing", "walking")),
        "dog": Role(1.1, (172,), 1.5),
        "cat": Role(1.5, (172,), 1.45),
    },
}
_TOGETHER = 0.3
"""How often a shot is about two actors of different kinds."""
PLACE_WEIGHTS = {
    "street": 2.1,
    "harbour": 1.2,
    "station": 1.2,
    "farm": 1.3,
    "office": 0.8,
    "kitchen": 0.8,
    "living room": 0.8,
}
_SEATS: dict[str, tuple[float, ...]] = {
    "office": tuple(x - 20 for x in DESKS),
    "living room": (SOFA - 34, SOFA, SOFA + 34),
}


def _weights(place: str, time: str, weather: str) -> dict[str, float]:
    """How often each kind appears; few birds fly at night, and few balloons in the dark or in rain and snow."""
    weights = {kind: role.weight for kind, role in ROLES[place].items()}
    if "balloon" in weights and (weather != "clear" or time == "night"):
        weights["balloon"] *= 0.2
    if "bird" in weights and time == "night":
        weights["bird"] *= 0.4
    return weights


def _actor(rng: random.Random, place: str, weather: str, kind: str) -> Actor:
    role = ROLES[place][kind]
    action, y, facing = rng.choice(role.actions), rng.choice(role.y), rng.choice((-1, 1))
    if place == "street" and kind in ("car", "bus", "bicycle"):
        facing = -1 if y < 160 else 1
    x = rng.uniform(50, 350)
    scale = role.scale * rng.uniform(0.92, 1.1)
    if action == "sitting" and place in _SEATS:
        x, facing = rng.choice(_SEATS[place]), 1 if place == "office" else facing
        y = 160 if place == "living room" else y
    moves = action in ("", "walking", "cycling") and role.speed[1] > 0 and (action != "" or kind != "bicycle")
    umbrella = ""
    if (
        kind == "person"
        and place not in INDOORS
        and action != "sitting"
        and rng.random() < (0.75 if weather == "rain" else 0.1)
    ):
        umbrella = rng.choice(COLOURS["umbrella"])
    return Actor(
        kind,
        rng.choice(COLOURS[kind]),
        x,
        y,
        scale,
        facing,
        rng.uniform(*role.speed) if moves else 0.0,
        action,
        umbrella,
        rng.randrange(4096),
    )


def _companions(rng: random.Random, first: Actor, place: str) -> list[Actor]:
    """One or two more of the same kind beside the first, each in a colour of its own."""
    gap = {"person": 27.0, "cow": 58.0, "bird": 32.0}[first.kind] * first.scale
    group = []
    for i in range(1, rng.choice((2, 2, 3))):
        side = gap * i * rng.uniform(0.95, 1.25)
        taken = [s for s in _SEATS.get(place, ()) if first.action == "sitting" and abs(s - first.x) > 5]
        x = taken[(i - 1) % len(taken)] if taken else first.x - first.facing * side
        group.append(
            replace(
                first,
                x=x,
                y=first.y
                + (
                    rng.choice((-12, 10))
                    if first.kind == "bird"
                    else rng.choice((-4, 0, 4))
                    if first.kind == "cow"
                    else 0
                ),
                colour=_another(rng, first.kind, first.colour) if first.kind == "person" else first.colour,
                umbrella=first.umbrella and rng.choice(COLOURS["umbrella"]),
                looks=rng.randrange(4096),
            )
        )
    return group


_SPANS = {"far": (0.1, 0.26), "medium": (0.26, 0.46), "close": (0.46, 0.84)}
"""Share of the picture's width or height, whichever is more, that is filled by whom the shot is about."""
_MOST_ZOOM = 4.5
_MOST_ZOOM_ON_NOBODY = 1.7


def _around(actors: tuple[Actor, ...], seconds: float) -> Box:
    boxes = [box(actor, seconds) for actor in actors]
    return min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)


def _camera(rng: random.Random, subjects: tuple[Actor, ...], size: str, seconds: float) -> Camera:
    """A camera that shows the subjects in the given size as they will be at `seconds`; on the place if there are none."""
    move = rng.choice(("still", "pan", "push"))
    drift = rng.uniform(3, 8) * rng.choice((-1, 1)) if move == "pan" else 0.0
    push = rng.uniform(0.01, 0.03) if move == "push" else 0.0
    if not subjects:
        zoom = rng.uniform(1.0, _MOST_ZOOM_ON_NOBODY)
        return Camera(rng.uniform(150, 250), 90 + 20 * rng.uniform(-1, 1) * (zoom - 1), zoom, drift, push)
    left, top, right, bottom = _around(subjects, seconds)
    span = max((right - left) / VIEW_WIDTH, (bottom - top) / WORLD_HEIGHT)
    zoom = min(max(1.0, rng.uniform(*_SPANS[size]) / span), _MOST_ZOOM)
    off = rng.uniform(-0.4, 0.4) * max(0.0, VIEW_WIDTH / zoom - (right - left))
    y = (top + bottom) / 2 + rng.uniform(-0.3, 0.2) * max(0.0, WORLD_HEIGHT / zoom - (bottom - top))
    first = subjects[0]
    if first.speed and zoom > 1.3 and all(s.speed == first.speed for s in subjects) and rng.random() < 0.7:
        return Camera(0.0, y, zoom, 0.0, push, 0, off + (left + right) / 2 - first.x_at(seconds))
    return Camera((left + right) / 2 + off - drift * seconds, y, zoom, drift, push)


def _apart(one: Actor, other: Actor, seconds: float) -> bool:
    """True if neither hides much of the other."""
    (left, _, right, _), (start, _, end, _) = box(one, seconds), box(other, seconds)
    gap = abs(one.x_at(seconds) - other.x_at(seconds))
    return gap > 0.8 * ((right - left) + (end - start)) / 2 or abs(one.y - other.y) > 50


def _beside(rng: random.Random, first: Actor, other: Actor, seconds: float) -> Actor:
    """The other, next to the first at `seconds`; both then move alike, or not at all."""
    (left, _, right, _), (start, _, end, _) = box(first, seconds), box(other, seconds)
    side = rng.choice((-1, 1)) * rng.uniform(0.85, 1.15) * ((right - left) + (end - start)) / 2
    x = first.x_at(seconds) + side
    if not -10 < x < WORLD_WIDTH + 10:
        x = first.x_at(seconds) - side
    speed = first.speed if other.speed and other.facing == first.facing else 0.0
    return replace(other, x=x - other.facing * speed * seconds, speed=speed)


def cast(
    rng: random.Random,
    place: str | None = None,
    time: str | None = None,
    weather: str | None = None,
    main: str | None = None,
    size: str | None = None,
    seconds: float = 4.0,
    beside: tuple[str, str] | None = None,
    **wishes: object,
) -> Shot:
    """Compose a shot; what is not asked for is chosen at random.

    Parameters
    ----------
    main : str
        Kind of the main actor; "" for an empty place.
    seconds : float
        When the main actor should be in the picture.
    beside : (str, str)
        Kind and colour of somebody next to the main actor; left to chance if None.
    wishes
        Fields of the main actor that are given (``colour="red"``, ``umbrella=""``, ``action="sitting"``).
    """
    place = place or rng.choices(PLACES, [PLACE_WEIGHTS.get(p, 1.0) for p in PLACES])[0]
    time = time or rng.choice(TIMES)
    weather = weather or rng.choices(WEATHERS, (0.42, 0.29, 0.29))[0]
    weights = _weights(place, time, weather)
    if main is None:
        main = "" if rng.random() < 0.08 else _one_of(rng, weights)
    size = size or rng.choice(tuple(_SPANS))
    actors: list[Actor] = []
    subjects = 1 if main else 0
    if main:
        first = _actor(rng, place, weather, main)
        while "action" in wishes and first.action != wishes["action"]:
            first = _actor(rng, place, weather, main)
        start = first.x - first.facing * first.speed * seconds
        first = replace(first, x=start if first.speed else first.x, **wishes)
        actors.append(first)
        others = {kind: weight for kind, weight in weights.items() if kind != main}
        if beside or rng.random() < _TOGETHER:
            second = _actor(rng, place, weather, beside[0] if beside else _one_of(rng, others))
            second = replace(second, colour=beside[1]) if beside else second
            actors.append(_beside(rng, first, second, seconds))
            subjects = 2
        elif main in ("person", "cow", "bird") and rng.random() < 0.5:
            actors += _companions(rng, first, place)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            kind = _one_of(rng, others | {main: 0.4 * weights[main]})
            if kind == "train" and main == "train":
                continue
            other = _actor(rng, place, weather, kind)
            if all(_apart(actor, other, seconds) for actor in actors):
                actors.append(other)
    shot = Shot(place, time, weather, tuple(actors), Camera(), rng.randrange(1 << 30))
    return replace(shot, camera=_camera(rng, shot.actors[:subjects], size, seconds))


def _one_of(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def twin(rng: random.Random, shot: Shot, seconds: float) -> Shot:
    """The same shot in other colours: exchanged between two unlike actors in the picture where that can be, else new ones.

    Only colours tell a shot from its twin, so whoever learns to tell them apart looks at the colours, and whoever learns it
    of exchanged ones looks at what wears them.
    """
    seen = facts(shot, seconds)
    shown = [i for i, a in enumerate(shot.actors) if facts(replace(shot, actors=(a,)), seconds) & seen & {a.kind}]
    pairs = [
        (i, j)
        for i in shown
        for j in shown
        if i < j
        and (one := shot.actors[i]).kind != (other := shot.actors[j]).kind
        and one.colour != other.colour
        and one.colour in COLOURS[other.kind]
        and other.colour in COLOURS[one.kind]
    ]
    painted = list(shot.actors)
    if pairs and rng.random() < 0.7:
        i, j = rng.choice(pairs)
        painted[i] = replace(painted[i], colour=shot.actors[j].colour)
        painted[j] = replace(painted[j], colour=shot.actors[i].colour)
        return replace(shot, actors=tuple(painted))
    herds: dict[tuple[str, str], str] = {}
    for i, actor in enumerate(painted):
        colour = herds.setdefault((actor.kind, actor.colour), _another(rng, actor.kind, actor.colour))
        umbrella = actor.umbrella and _another(rng, "umbrella", actor.umbrella)
        looks = actor.looks + 16 * rng.randrange(1, len(PAINTS)) if actor.rider else actor.looks
        painted[i] = replace(actor, colour=colour, umbrella=umbrella, looks=looks)
    return replace(shot, actors=tuple(painted))


def _another(rng: random.Random, kind: str, colour: str) -> str:
    return rng.choice([c for c in COLOURS[kind] if c != colour])
