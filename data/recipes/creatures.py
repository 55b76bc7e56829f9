"""People and animals."""

import math

from data.recipes.palette import HAIRS, NAMED, SKINS, Colour, darker, paler
from data.recipes.pen import Pen, swing
from data.recipes.shot import Actor

_SHOES = (52, 42, 42)
_DARK = (36, 30, 30)
_COATS = {
    "white": (242, 238, 230),
    "black": (52, 48, 54),
    "brown": (168, 108, 60),
    "orange": (236, 150, 66),
    "grey": (150, 152, 160),
}


def _umbrella(pen: Pen, x: float, y: float, s: float, colour: str) -> None:
    """Open, its handle held at (x, y)."""
    paint = NAMED[colour]
    pen.line([(x, y), (x, y - 30 * s)], (84, 74, 74), 1.5 * s)
    pen.dome(x, y - 25 * s, 21 * s, 18 * s, paint)
    pen.dome(x, y - 25 * s, 7 * s, 18 * s, paler(paint, 0.14))


def _head(pen: Pen, a: Actor, x: float, y: float) -> None:
    s, f = a.scale, a.facing
    hair = HAIRS[a.looks // 4 % 4]
    long_hair = a.looks // 16 % 2
    if long_hair:
        pen.rect(x - 7 * s if f > 0 else x + 1 * s, y - 3 * s, 6 * s, 13 * s, hair, 2.6 * s)
    pen.disc(x, y, 6.6 * s, SKINS[a.looks % 4])
    pen.dome(x, y - 0.6 * s, 7.1 * s, 7.4 * s, hair)
    pen.disc(x + 3.2 * f * s, y + 0.8 * s, 0.9 * s, _DARK)


def _trousers(a: Actor) -> Colour:
    return ((56, 66, 106), (116, 92, 70), (70, 72, 80))[(a.looks // 32 + (a.colour == "blue")) % 3]


def _sitting(pen: Pen, a: Actor, x: float, seconds: float) -> None:
    s, y, f, shirt, legs = a.scale, a.y, a.facing, NAMED[a.colour], _trousers(a)
    nod = swing(seconds, 1.3, a.looks) * 0.5 * s
    pen.line([(x, y - 15 * s), (x + 10 * f * s, y - 15 * s), (x + 10 * f * s, y - 2 * s)], legs, 5 * s)
    pen.line([(x + 10 * f * s, y - 1.6 * s), (x + 13 * f * s, y - 1.6 * s)], _SHOES, 3.2 * s)
    pen.rect(x - 6.4 * s, y - 36 * s, 12.8 * s, 23 * s, shirt, 4.4 * s)
    pen.line([(x, y - 31 * s), (x + 8 * f * s, y - 21 * s + nod)], darker(shirt, 0.86), 4 * s)
    _head(pen, a, x + f * s, y - 42.5 * s + nod)


def person(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    """Someone who walks, stands or sits; `a.y` is the floor."""
    if a.action == "sitting":
        _sitting(pen, a, x, seconds)
        return
    s, f, shirt, legs = a.scale, a.facing, NAMED[a.colour], _trousers(a)
    walking = a.action == "walking"
    phase = seconds * 5.6 + a.looks
    stride = math.sin(phase) * 6 * s if walking else 0.0
    y = a.y - (abs(math.sin(phase)) * 1.1 * s if walking else 0.0)
    for side, colour in ((1, darker(legs, 0.8)), (-1, legs)):
        foot = x + side * (stride if walking else 3 * s)
        lift = max(0.0, math.sin(phase + (0 if side > 0 else math.pi))) * 2 * s if walking else 0.0
        pen.line([(x + side * 1.4 * s, y - 17 * s), (foot, a.y - 2 * s - lift)], colour, 4.8 * s)
        pen.line([(foot, a.y - 1.6 * s - lift), (foot + 3.2 * f * s, a.y - 1.6 * s - lift)], _SHOES, 3 * s)
    pen.line([(x, y - 33 * s), (x - stride * 0.9 - f * s, y - 19 * s)], darker(shirt, 0.74), 4 * s)
    pen.rect(x - 6.6 * s, y - 37 * s, 13.2 * s, 22 * s, shirt, 4 * s)
    if a.umbrella:
        _umbrella(pen, x + 7 * f * s, y - 25 * s, s, a.umbrella)
        pen.line([(x, y - 32 * s), (x + 7 * f * s, y - 26 * s)], darker(shirt, 0.86), 4 * s)
    else:
        wave = swing(seconds, 2.0, a.looks) * 1.5 * s if not walking else 0.0
        pen.line([(x, y - 33 * s), (x + stride * 0.9 + f * s + wave, y - 19 * s)], darker(shirt, 0.86), 4 * s)
    _head(pen, a, x + f * 0.6 * s, y - 43 * s)


def dog(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    s, y, f, coat = a.scale, a.y, a.facing, _COATS[a.colour]
    moving = seconds * 9 if a.speed else 0.0
    for i, dx in enumerate((-8, -5.4, 6, 8.6)):
        swept = math.sin(moving + i * 2) * 3.4 * s if a.speed else 0.0
        pen.line([(x + dx * f * s, y - 8 * s), (x + dx * f * s + swept, y - 1.4 * s)], darker(coat, 0.82), 3 * s)
    pen.line([(x - 10 * f * s, y - 13 * s), (x - 15 * f * s, y - 20 * s + swing(seconds, 12) * 2 * s)], coat, 2.8 * s)
    pen.rect(x - 11.5 * s, y - 16 * s, 23 * s, 10 * s, coat, 4.6 * s)
    hx, hy = x + 12 * f * s, y - 19 * s
    pen.disc(hx, hy, 6.4 * s, coat)
    pen.oval(hx + 5 * f * s, hy + 2 * s, 4.4 * s, 3.2 * s, paler(coat, 0.25))
    pen.disc(hx + 8.6 * f * s, hy + 1 * s, 1.5 * s, _DARK)
    pen.oval(hx - 3.6 * f * s, hy + 1 * s, 2.5 * s, 5.4 * s, darker(coat, 0.62))
    pen.disc(hx + 2 * f * s, hy - 1.6 * s, 1.1 * s, _DARK if a.colour != "black" else (236, 232, 224))
    pen.line([(x + 7 * f * s, y - 14.6 * s), (x + 9.4 * f * s, y - 11.4 * s)], NAMED["red"], 2.2 * s)


def cat(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    """Sitting upright, its tail alive."""
    s, y, f, coat = a.scale, a.y, a.facing, _COATS[a.colour]
    pen.curve(
        (x - 6 * f * s, y - 2.4 * s),
        (x - 17 * f * s, y - 1 * s),
        (x - 14 * f * s, y - (13 + 2.4 * swing(seconds, 2.2)) * s),
        coat,
        3 * s,
    )
    pen.oval(x, y - 8.4 * s, 8 * s, 8.6 * s, coat)
    pen.oval(x + 1.5 * f * s, y - 6 * s, 4.4 * s, 5.6 * s, paler(coat, 0.28))
    hx, hy = x + 3 * f * s, y - 20 * s
    for side in (-1, 1):
        pen.polygon(
            [(hx + side * 6.4 * s, hy - 1 * s), (hx + side * 5.6 * s, hy - 9.4 * s), (hx + side * 1 * s, hy - 5 * s)],
            coat,
        )
    pen.oval(hx, hy, 7 * s, 6 * s, coat)
    eye = (60, 120, 70) if a.colour != "black" else (200, 220, 90)
    for side in (-1, 1):
        pen.disc(hx + side * 2.7 * s, hy - 0.4 * s, 1.2 * s, eye)
        pen.line([(hx + side * 2 * s, hy + 2.6 * s), (hx + side * 8 * s, hy + 2 * s)], paler(coat, 0.5), 0.5 * s)
    pen.disc(hx, hy + 2 * s, 0.9 * s, (230, 130, 130))


def bird(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    """A gull on the wing around (x, y)."""
    s, f, coat = a.scale, a.facing, _COATS[a.colour]
    y = a.y + swing(seconds, 1.1, a.looks) * 2
    beat = swing(seconds, 8.0, a.looks)
    for side, shade in ((1, 0.8), (-1, 1.0)):
        tip = (x + side * 9 * s - 2 * f * s, y - (4 + 6 * beat) * s)
        pen.leaf(
            (x - 2 * s, y),
            (x + side * 3 * s, y - (7 + 3 * beat) * s),
            tip,
            (x + side * 5 * s, y - (1 + 1.6 * beat) * s),
            darker(coat, shade),
        )
    pen.oval(x, y, 6.4 * s, 2.7 * s, coat)
    pen.polygon([(x - 5 * f * s, y), (x - 10 * f * s, y - 2 * s), (x - 10 * f * s, y + 1.6 * s)], darker(coat, 0.85))
    pen.disc(x + 6 * f * s, y - 1.6 * s, 2.6 * s, coat)
    pen.polygon(
        [(x + 8 * f * s, y - 2.4 * s), (x + 8 * f * s, y - 0.4 * s), (x + 11.6 * f * s, y - 1 * s)], (246, 160, 50)
    )
    pen.disc(x + 6.8 * f * s, y - 2.2 * s, 0.6 * s, _DARK if a.colour != "black" else (240, 240, 240))


def cow(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    s, y, f, coat = a.scale, a.y, a.facing, _COATS[a.colour]
    patch = darker(coat, 0.84) if a.colour == "white" else paler(coat, 0.26)
    graze = (swing(seconds, 0.8, a.looks) + 1) * 3 * s
    for dx in (-12, -8, 8, 12):
        pen.rect(x + dx * s - 1.6 * s, y - 11 * s, 3.2 * s, 11 * s, darker(coat, 0.88), 1 * s)
    pen.curve(
        (x - 16 * f * s, y - 23 * s),
        (x - 20 * f * s, y - 18 * s),
        (x - 18 * f * s, y - 10 * s),
        darker(coat, 0.8),
        1.6 * s,
    )
    pen.rect(x - 17 * s, y - 26 * s, 34 * s, 17 * s, coat, 6 * s)
    pen.oval(x - 7 * s, y - 20 * s, 5.6 * s, 4.6 * s, patch)
    pen.oval(x + 6 * s, y - 16 * s, 4.6 * s, 3.8 * s, patch)
    pen.oval(x + 5 * f * s, y - 8.6 * s, 3 * s, 2.4 * s, (244, 178, 178))
    hx, hy = x + 20 * f * s, y - 25 * s + graze
    pen.line([(x + 14 * f * s, y - 21 * s), (hx - 2 * f * s, hy)], coat, 8 * s)
    for side in (-1, 1):
        pen.line([(hx + side * 3 * s, hy - 5 * s), (hx + side * 5 * s, hy - 9 * s)], (236, 222, 190), 1.6 * s)
    pen.oval(hx, hy, 6 * s, 6.4 * s, coat)
    pen.oval(hx - 6 * f * s, hy - 4 * s, 3.4 * s, 2 * s, patch)
    pen.oval(hx + 2 * f * s, hy + 5 * s, 5 * s, 3.6 * s, (244, 186, 182))
    pen.disc(hx + 1.6 * f * s, hy - 1.6 * s, 1 * s, _DARK)
