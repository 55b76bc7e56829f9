"""Cars, buses, bicycles, trains, boats and balloons."""

import math

from data.recipes.palette import HAIRS, LAMPLIGHT, NAMED, SKINS, darker, paler
from data.recipes.pen import Pen, swing
from data.recipes.shot import Actor

_GLASS = (190, 226, 242)
_RUBBER = (38, 38, 44)
_SHADOW = (0, 0, 0, 60)


def _wheel(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, _RUBBER)
    pen.disc(x, y, r * 0.5, (200, 204, 210))


def _headlight(pen: Pen, x: float, y: float, s: float, facing: int, dark: bool) -> None:
    pen.disc(x, y, 2.3 * s, (255, 240, 170), shining=True)
    if dark:
        pen.glow(x + 7 * facing * s, y + s, 15 * s, (255, 240, 190), 150)


def car(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    s, y, paint = a.scale, a.y, NAMED[a.colour]

    def at(dx: float, dy: float) -> tuple[float, float]:
        return x + dx * a.facing * s, y - dy * s

    pen.oval(x, y, 27 * s, 2.8 * s, _SHADOW)
    pen.polygon([at(-17, 15), at(-11, 27), at(7, 27), at(15, 15)], darker(paint, 0.9))
    pen.polygon([at(-14, 16), at(-9.4, 25), at(-2, 25), at(-2, 16)], _GLASS)
    pen.polygon([at(0, 16), at(0, 25), at(6, 25), at(11.6, 16)], _GLASS)
    pen.rect(x - 25 * s, y - 17 * s, 50 * s, 14 * s, paint, 5 * s)
    pen.rect(x - 25 * s, y - 8 * s, 50 * s, 3 * s, darker(paint, 0.82))
    pen.rect(x - 5 * a.facing * s - 2 * s, y - 14 * s, 4 * s, 1.3 * s, darker(paint, 0.6))
    pen.disc(*at(-23.5, 12), 1.9 * s, (206, 30, 30))
    _headlight(pen, *at(23, 12), s, a.facing, dark)
    _wheel(pen, x - 14 * s, y - 4 * s, 5.8 * s)
    _wheel(pen, x + 14 * s, y - 4 * s, 5.8 * s)


def bus(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    s, y, paint = a.scale, a.y, NAMED[a.colour]
    pen.oval(x, y, 43 * s, 3 * s, _SHADOW)
    pen.rect(x - 41 * s, y - 43 * s, 82 * s, 39 * s, paint, 5 * s)
    pen.rect(x - 41 * s, y - 16 * s, 82 * s, 3 * s, paler(paint, 0.6))
    for i in range(5):
        pen.rect(
            x + (-36.5 + i * 14.8) * s, y - 37 * s, 12 * s, 14 * s, (255, 230, 150) if dark else _GLASS, 2 * s, dark
        )
    pen.rect(x - 41 * s, y - 7 * s, 82 * s, 3 * s, darker(paint, 0.7))
    _headlight(pen, x + 39 * a.facing * s, y - 11 * s, s, a.facing, dark)
    _wheel(pen, x - 25 * s, y - 4 * s, 6.4 * s)
    _wheel(pen, x + 25 * s, y - 4 * s, 6.4 * s)


def train(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    """Two coaches with a slanted nose, 190 units long."""
    s, y, paint, f = a.scale, a.y, NAMED[a.colour], a.facing

    def at(dx: float, dy: float) -> tuple[float, float]:
        return x + dx * f * s, y - dy * s

    pen.polygon([at(-95, 4), at(-95, 42), at(-3, 42), at(-3, 4)], paint)
    pen.polygon([at(1, 4), at(1, 42), at(78, 42), at(90, 26), at(95, 10), at(95, 4)], paint)
    pen.line([at(-3, 12), at(1, 12)], (50, 52, 60), 4 * s)
    pen.polygon([at(-95, 18), at(-95, 15), at(94, 15), at(93, 18)], paler(paint, 0.7))
    glass = (255, 230, 150) if dark else _GLASS
    for start in (-91, -73, -55, -37, -19, 5, 23, 41):
        pen.polygon([at(start, 24), at(start, 36), at(start + 13, 36), at(start + 13, 24)], glass, shining=dark)
    pen.polygon([at(66, 24), at(66, 38), at(78, 38), at(88, 24)], glass, shining=dark)
    for dx in (-82, -20, 16, 72):
        pen.disc(*at(dx, 4), 4.6 * s, (60, 62, 70))
    _headlight(pen, *at(92, 11), 1.1 * s, f, dark)


def _cyclist(pen: Pen, a: Actor, x: float, seconds: float) -> None:
    s, y, f = a.scale, a.y, a.facing
    skin, hair = SKINS[a.looks % 4], HAIRS[a.looks // 4 % 4]
    shirt = NAMED[a.clothes]
    turn = seconds * 6 + a.looks
    for phase in (math.pi, 0.0):
        fx, fy = x + (1 + 4.4 * math.cos(turn + phase)) * s * f, y - (9 + 4.4 * math.sin(turn + phase)) * s
        knee = (x + 6 * f * s, (y - 24 * s + fy) / 2 - 2 * s)
        pen.line([(x - 4 * f * s, y - 25 * s), knee, (fx, fy)], (66, 70, 96), 3.8 * s)
    pen.line([(x - 4 * f * s, y - 26 * s), (x + 3 * f * s, y - 39 * s)], shirt, 8.4 * s)
    pen.line([(x + 3 * f * s, y - 38 * s), (x + 11 * f * s, y - 28 * s)], darker(shirt, 0.86), 3.2 * s)
    pen.disc(x + 5 * f * s, y - 48 * s, 6 * s, skin)
    pen.dome(x + 5 * f * s, y - 48.5 * s, 6.8 * s, 7 * s, hair)
    pen.disc(x + 8.4 * f * s, y - 47 * s, 0.9 * s, (40, 30, 30))


def bicycle(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    """A bicycle, ridden unless it is parked."""
    s, y, f, paint = a.scale, a.y, a.facing, NAMED[a.colour]
    for side in (-1, 1):
        wx = x + side * 13 * s
        pen.ring(wx, y - 10 * s, 9 * s, (46, 46, 52), 2 * s)
        for spoke in range(3):
            angle = (seconds * 5 * f if a.rider else 0.4) + spoke * 2.09
            pen.line(
                [(wx, y - 10 * s), (wx + 8 * s * math.cos(angle), y - 10 * s + 8 * s * math.sin(angle))],
                (164, 164, 170),
                0.6 * s,
            )
    rear, front = (x - 13 * f * s, y - 10 * s), (x + 13 * f * s, y - 10 * s)
    saddle, pedal, fork = (x - 5 * f * s, y - 23 * s), (x + 0.5 * f * s, y - 9 * s), (x + 8.5 * f * s, y - 23 * s)
    pen.line([rear, saddle, fork, pedal, rear], paint, 4.4 * s)
    pen.line([saddle, pedal], paint, 4.4 * s)
    pen.line([front, (x + 7.6 * f * s, y - 28 * s)], paint, 4.4 * s)
    pen.line([(x + 7.6 * f * s, y - 28 * s), (x + 12 * f * s, y - 29 * s)], (50, 50, 56), 2.2 * s)
    pen.line([(x - 8 * f * s, y - 24.5 * s), (x - 2.5 * f * s, y - 24.5 * s)], (50, 50, 56), 2.6 * s)
    if a.rider:
        _cyclist(pen, a, x, seconds)


def boat(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    """A sailing boat; hull and sails share its colour."""
    s, paint = a.scale, NAMED[a.colour]
    y = a.y + swing(seconds, 1.4, a.x * 0.02) * 1.4 * s
    tilt = swing(seconds, 1.1, a.x) * 1.2 * s
    pen.line([(x, y - 8 * s), (x + tilt, y - 54 * s)], (112, 82, 60), 1.8 * s)
    pen.polygon([(x + 2 * s + tilt, y - 52 * s), (x + 2 * s, y - 13 * s), (x + 21 * s, y - 13 * s)], paint)
    pen.polygon([(x - 2 * s + tilt, y - 47 * s), (x - 2 * s, y - 13 * s), (x - 15 * s, y - 13 * s)], paler(paint, 0.14))
    pen.polygon(
        [(x - 24 * s, y - 9 * s), (x + 24 * s, y - 9 * s), (x + 16 * s, y + 2 * s), (x - 17 * s, y + 2 * s)],
        darker(paint, 0.88),
    )
    pen.rect(x - 24 * s, y - 10.5 * s, 48 * s, 2.6 * s, (242, 238, 228))
    if dark:
        pen.glow(x + tilt, y - 54 * s, 9 * s, LAMPLIGHT, 200)


def balloon(pen: Pen, a: Actor, x: float, seconds: float, dark: bool) -> None:
    """A hot-air balloon around (x, y)."""
    s, paint = a.scale, NAMED[a.colour]
    x, y = x + swing(seconds, 0.5, a.x) * 4, a.y + swing(seconds, 0.7, a.x) * 2
    for side in (-1, 1):
        pen.line([(x + side * 7 * s, y + 9 * s), (x + side * 4 * s, y + 23 * s)], (92, 72, 52), 0.9 * s)
    pen.polygon(
        [(x - 13 * s, y + 2 * s), (x + 13 * s, y + 2 * s), (x + 5 * s, y + 15 * s), (x - 5 * s, y + 15 * s)],
        darker(paint, 0.86),
    )
    pen.disc(x, y - 8 * s, 18 * s, paint)
    pen.oval(x, y - 8 * s, 7.4 * s, 18 * s, paler(paint, 0.16))
    pen.rect(x - 5 * s, y + 22 * s, 10 * s, 7 * s, (154, 104, 60), 1.5 * s)
    if dark:
        pen.glow(x, y + 8 * s, 20 * s, (255, 200, 120), 150)
