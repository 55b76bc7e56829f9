"""What can be seen in a frame, as a set of short facts.

``place:street``, ``time:night``, ``weather:snow`` (outdoors only), ``indoors`` or ``outdoors``; for each visible
kind its name (``car``) and colours (``car:red``); ``person``, ``people``, ``persons:2``, ``clothes:red``, of riders too;
``action:walking``, and what one person does and wears together: ``clothes:red+action:walking``,
``clothes:red+umbrella``; ``umbrella``, ``umbrella:red``; ``cows:3``, ``birds:2``; ``close:car`` when one fills the picture;
``nobody``, ``empty``.
"""

from collections import Counter

from data.recipes.shot import Actor, Shot

VEHICLES = ("car", "bus", "bicycle", "train")
ANIMALS = ("dog", "cat", "bird", "cow")
KINDS = (*VEHICLES, "boat", "balloon", *ANIMALS, "person", "umbrella")

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in world units."""
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
_LEAST_VISIBLE = {"train": 0.4}
"""Share of an actor's box that must lie in the picture and behind nobody else; half of it for all others."""
_LEAST_OF_PICTURE = 0.004
"""Share of the picture that its box must fill."""
_CLOSE = 0.42
"""Share of the picture's height or width from which on an actor is a close-up."""


def box(actor: Actor, seconds: float) -> Box:
    half, above, below = _BOXES[actor.kind]
    if actor.kind == "bicycle" and not actor.rider:
        above = 30
    if actor.action == "sitting":
        half = 13
    if actor.umbrella:
        half, above = 24, 68
    x, s = actor.x_at(seconds), actor.scale
    return x - half * s, actor.y - above * s, x + half * s, actor.y + below * s


def _common(one: Box, other: Box) -> Box:
    """What two boxes share; without width or height where they share nothing."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    return left, top, max(left, min(one[2], other[2])), max(top, min(one[3], other[3]))


def _area(of: Box) -> float:
    return (of[2] - of[0]) * (of[3] - of[1])


def visible(shot: Shot, actor: Actor, seconds: float) -> tuple[float, float, float]:
    """Shares: of the actor's box that can be seen, of the picture it covers, of the picture's width or height."""
    left, top, width, height = shot.view_at(seconds)
    own = box(actor, seconds)
    seen = _common(own, (left, top, left + width, top + height))
    nearer = (other for other in shot.actors if other.depth > actor.depth)
    hidden = max((_area(_common(seen, box(other, seconds))) for other in nearer), default=0.0)
    share = max((seen[2] - seen[0]) / width, (seen[3] - seen[1]) / height)
    return (_area(seen) - hidden) / _area(own), _area(seen) / (width * height), share


def facts(shot: Shot, seconds: float) -> frozenset[str]:
    """The facts of one frame."""
    found = {f"place:{shot.place}", f"time:{shot.time}", "indoors" if shot.indoors else "outdoors"}
    if not shot.indoors:
        found.add(f"weather:{shot.weather}")
    counts: Counter[str] = Counter()
    for actor in shot.actors:
        inside, share, span = visible(shot, actor, seconds)
        if inside < _LEAST_VISIBLE.get(actor.kind, 0.5) or share < _LEAST_OF_PICTURE:
            continue
        counts[actor.kind] += 1
        found.add(actor.kind)
        if actor.kind != "person":
            found.add(f"{actor.kind}:{actor.colour}")
        if actor.clothes:
            found.add(f"clothes:{actor.clothes}")
        if span >= _CLOSE:
            found.add(f"close:{actor.kind}")
        if actor.kind in VEHICLES:
            found.add("vehicle")
        if actor.kind in ANIMALS:
            found.add("animal")
        if actor.action:
            found |= {f"action:{actor.action}", f"clothes:{actor.clothes}+action:{actor.action}"}
        if actor.umbrella:
            found |= {"umbrella", f"umbrella:{actor.umbrella}", f"clothes:{actor.clothes}+umbrella"}
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
