"""What can be seen in a frame, as a set of short facts.

``place:street``, ``time:night``, ``weather:snow`` (outdoors only), ``indoors`` or ``outdoors``; for each visible
kind its name (``car``) and colours (``car:red``); ``person``, ``people``, ``persons:2``, ``clothes:red``,
``action:walking``; ``umbrella``, ``umbrella:red``; ``cows:3``, ``birds:2``; ``close:car`` when one fills the picture;
``nobody``, ``empty``.
"""

from collections import Counter

from data.recipes.shot import Actor, Shot

VEHICLES = ("car", "bus", "bicycle", "train")
ANIMALS = ("dog", "cat", "bird", "cow")
KINDS = (*VEHICLES, "boat", "balloon", *ANIMALS, "person", "umbrella")

_BOXES: dict[str, tuple[float, float, float]] = {
    # half width, units above and below the actor's y, at scale 1
    "car": (25, 27, 0),
    "bus": (41, 43, 0),
    "bicycle": (22, 55, 0),
    "train": (95, 42, 0),
    "boat": (24, 54, 2),
    "balloon": (18, 26, 29),
    "person": (9, 50, 0),
    "dog": (18, 26, 0),
    "cat": (15, 30, 0),
    "bird": (11, 9, 5),
    "cow": (24, 34, 0),
}
_LEAST_VISIBLE = 0.5
"""Share of an actor's box that must lie in the picture."""
_LEAST_OF_PICTURE = 0.004
"""Share of the picture that its box must fill."""
_CLOSE = 0.42
"""Share of the picture's height or width from which on an actor is a close-up."""


def box(actor: Actor, seconds: float) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in world units."""
    half, above, below = _BOXES[actor.kind]
    if actor.kind == "bicycle" and actor.action != "cycling":
        above = 30
    if actor.action == "sitting":
        half = 13
    x, s = actor.x_at(seconds), actor.scale
    return x - half * s, actor.y - above * s, x + half * s, actor.y + below * s


def visible(shot: Shot, actor: Actor, seconds: float) -> tuple[float, float, float]:
    """Shares: of the actor's box inside the picture, of the picture it covers, of the picture's width or height."""
    left, top, width, height = shot.view_at(seconds)
    x0, y0, x1, y1 = box(actor, seconds)
    seen_w = max(0.0, min(x1, left + width) - max(x0, left))
    seen_h = max(0.0, min(y1, top + height) - max(y0, top))
    inside = seen_w * seen_h / ((x1 - x0) * (y1 - y0))
    return inside, seen_w * seen_h / (width * height), max(seen_w / width, seen_h / height)


def facts(shot: Shot, seconds: float) -> frozenset[str]:
    """The facts of one frame."""
    found = {f"place:{shot.place}", f"time:{shot.time}", "indoors" if shot.indoors else "outdoors"}
    if not shot.indoors:
        found.add(f"weather:{shot.weather}")
    counts: Counter[str] = Counter()
    for actor in shot.actors:
        inside, share, span = visible(shot, actor, seconds)
        if inside < (0.4 if actor.kind == "train" else _LEAST_VISIBLE) or share < _LEAST_OF_PICTURE:
            continue
        counts[actor.kind] += 1
        found.add(actor.kind)
        found.add(f"clothes:{actor.colour}" if actor.kind == "person" else f"{actor.kind}:{actor.colour}")
        if span >= _CLOSE:
            found.add(f"close:{actor.kind}")
        if actor.kind in VEHICLES:
            found.add("vehicle")
        if actor.kind in ANIMALS:
            found.add("animal")
        if actor.action:
            found.add(f"action:{actor.action}")
        if actor.umbrella:
            found |= {"umbrella", f"umbrella:{actor.umbrella}"}
    riders = "action:cycling" in found
    persons = counts["person"] + counts["bicycle"] * riders
    if persons:
        found |= {"person", f"persons:{persons}"}
        if persons > 1:
            found.add("people")
    else:
        found.add("nobody")
    for kind in ("cow", "bird"):
        if counts[kind]:
            found.add(f"{kind}s:{counts[kind]}")
    if not counts:
        found.add("empty")
    return frozenset(found)
