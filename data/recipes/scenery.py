"""What places are built from: sky, hills, trees, houses, lamps, windows, and the weather in front of it all."""

import math
import random

from data.recipes.palette import LAMPLIGHT, RGB, SNOW, Colour, atmosphere, darker, mix, paler
from data.recipes.pen import Pen, swing
from data.recipes.shot import WORLD_HEIGHT, WORLD_WIDTH, Shot

_LEAVES: dict[str, RGB] = {"oak": (74, 158, 84), "round": (104, 178, 92), "autumn": (226, 136, 58)}


def chance(shot: Shot, salt: int) -> random.Random:
    """A generator of its own for each part of a place, so that parts do not disturb one another."""
    return random.Random(shot.seed * 1009 + salt)


def cloud(pen: Pen, x: float, y: float, s: float, colour: Colour) -> None:
    for dx, dy, r in ((0, 0, 9), (11, -4, 11), (23, -1, 9), (33, 2, 6)):
        pen.disc(x + dx * s, y + dy * s, r * s, colour, shining=True)
    pen.rect(x - 7 * s, y + s, 46 * s, 8 * s, colour, 4 * s, shining=True)


def sky(pen: Pen, shot: Shot, seconds: float, horizon: float) -> None:
    air, rng = atmosphere(shot.time, shot.weather), chance(shot, 1)
    pen.gradient(0, 0, WORLD_WIDTH, horizon + 2, air.sky_top, air.sky_bottom, shining=True)
    x = rng.uniform(60, 340)
    if shot.weather == "clear":
        if shot.time == "day":
            pen.glow(x, 30, 42, (255, 240, 180), 150)
            pen.disc(x, 30, 13, (255, 226, 92), shining=True)
        elif shot.time == "morning":
            pen.glow(x, horizon - 26, 64, (255, 244, 200), 190)
            pen.disc(x, horizon - 26, 14, (255, 246, 190), shining=True)
        elif shot.time == "evening":
            pen.glow(x, horizon - 14, 74, (255, 186, 100), 190)
            pen.disc(x, horizon - 14, 18, (255, 206, 108), shining=True)
        else:
            for _ in range(55):
                star = (236, 240, 255, rng.randint(120, 255))
                pen.disc(
                    rng.uniform(0, WORLD_WIDTH),
                    rng.uniform(0, horizon * 0.8),
                    rng.uniform(0.4, 1.1),
                    star,
                    shining=True,
                )
            pen.glow(x, 30, 34, (200, 216, 250), 110)
            pen.disc(x, 30, 12, (246, 244, 220), shining=True)
            pen.disc(x - 4, 27, 2.4, (224, 222, 196), shining=True)
            pen.disc(x + 3, 33, 1.8, (224, 222, 196), shining=True)
    pen.finish()
    for _ in range(rng.randint(2, 4) if shot.weather == "clear" else rng.randint(6, 8)):
        pace, span = rng.uniform(1.5, 4), WORLD_WIDTH + 120
        cloud(
            pen,
            (rng.uniform(0, span) + pace * seconds) % span - 60,
            rng.uniform(14, horizon * 0.42),
            rng.uniform(0.8, 1.4),
            air.cloud,
        )


def ground_colour(shot: Shot, bare: RGB, cover: float = 0.94) -> RGB:
    """The ground's colour, under snow when it snows, darker when wet."""
    if shot.weather == "snow":
        return mix(bare, SNOW, cover)
    return darker(bare, 0.9) if shot.weather == "rain" else bare


def hills(pen: Pen, shot: Shot, y: float, colour: Colour, height: float, salt: int) -> None:
    rng = chance(shot, salt)
    pace, phase = rng.uniform(0.011, 0.019), rng.uniform(0, 6)
    crest = [
        (x, y - height * (0.5 + 0.5 * math.sin(x * pace + phase)) - 3 * math.sin(x * pace * 2.7 + phase))
        for x in range(0, int(WORLD_WIDTH) + 9, 8)
    ]
    pen.polygon([(0, WORLD_HEIGHT), *crest, (WORLD_WIDTH, WORLD_HEIGHT)], colour)


def tree(pen: Pen, shot: Shot, x: float, y: float, s: float, kind: str, seconds: float) -> None:
    sway, snowy = swing(seconds, 1.3, x) * 1.2 * s, shot.weather == "snow"
    pen.rect(x - 2.6 * s, y - 20 * s, 5.2 * s, 20 * s, (118, 82, 56), 1.5 * s)
    if kind == "pine":
        for i, (w, h) in enumerate(((17, 16), (14, 15), (10, 14))):
            base, top = y - 12 * s - i * 10 * s, y - 12 * s - i * 10 * s - h * s * 1.3
            pen.polygon([(x - w * s, base), (x + w * s, base), (x + sway * 0.5, top)], (38, 124 - 6 * i, 80))
            if snowy:
                ledge = base - h * 0.6 * s
                pen.polygon([(x - w * 0.55 * s, ledge), (x + w * 0.55 * s, ledge), (x + sway * 0.5, top)], SNOW)
        return
    leaves = _LEAVES[kind]
    for dx, dy, r in ((-10, -27, 12), (10, -27, 12), (0, -38, 14), (0, -25, 12)):
        pen.disc(x + dx * s + sway, y + dy * s, r * s, leaves)
    pen.disc(x - 4 * s + sway, y - 40 * s, 6.4 * s, paler(leaves, 0.2))
    if snowy:
        for dx, dy, r in ((-10, -34, 8), (10, -34, 8), (0, -46, 10)):
            pen.oval(x + dx * s + sway, y + dy * s, r * s, r * 0.55 * s, SNOW)


def lamp(pen: Pen, shot: Shot, x: float, y: float) -> None:
    dark = shot.time in ("evening", "night")
    post = (70, 76, 88)
    pen.rect(x - 1.3, y - 60, 2.6, 60, post)
    pen.line([(x, y - 59), (x + 9, y - 61)], post, 2.2)
    pen.oval(x + 10, y - 60, 5, 2.4, LAMPLIGHT if dark else (222, 224, 226), shining=dark)
    if dark:
        pen.glow(x + 10, y - 57, 34, LAMPLIGHT, 180 if shot.time == "night" else 120)


def house(
    pen: Pen, shot: Shot, x: float, y: float, w: float, h: float, wall: RGB, rng: random.Random, shop: RGB | None
) -> None:
    """A town house whose windows light up towards the night; with a shop's awning if given one."""
    lit_share = {"night": 0.6, "evening": 0.35}.get(shot.time, 0.0)
    pen.rect(x, y - h, w, h, wall)
    pen.rect(x - 1.5, y - h - 3, w + 3, 5.5, SNOW if shot.weather == "snow" else darker(wall, 0.8))
    columns, floors = max(2, int(w // 15)), max(1, int((h - 28) // 17))
    for floor in range(floors):
        for column in range(columns):
            lit = rng.random() < lit_share
            wx, wy = x + (column + 0.5) * w / columns - 4, y - h + 9 + floor * 17
            pane = LAMPLIGHT if lit else (190, 222, 238) if not lit_share else darker(wall, 0.55)
            pen.rect(wx, wy, 8, 11, pane, 1, shining=lit)
            if lit:
                pen.glow(wx + 4, wy + 5, 10, LAMPLIGHT, 70)
    if shop is None:
        pen.rect(x + w / 2 - 5, y - 15, 10, 15, darker(wall, 0.5), 1)
        return
    lit = lit_share > 0
    pen.rect(x + 4, y - 16, w - 8, 16, LAMPLIGHT if lit else (176, 212, 228), shining=lit)
    pen.rect(x + w / 2 - 4, y - 15, 8, 15, darker(wall, 0.5))
    stripes = int((w - 4) // 6)
    for i in range(stripes):
        pen.rect(x + 2 + i * 6, y - 23, 6, 7, shop if i % 2 else (250, 248, 240))


def window(pen: Pen, shot: Shot, x: float, y: float, w: float, h: float, seconds: float) -> None:
    """A window with the sky of the hour behind it."""
    canvas = pen.canvas
    canvas.save()
    canvas.translate(x, y)
    canvas.scale(w / WORLD_WIDTH, h / 112)
    canvas.clipRect((0, 0, WORLD_WIDTH, 112))
    outside = Pen(canvas, atmosphere(shot.time, shot.weather).scenery)
    sky(outside, shot, seconds, 112)
    hills(outside, shot, 108, (124, 174, 112), 22, 3)
    outside.finish()
    canvas.restore()
    frame = (246, 244, 238)
    for fx, fy, fw, fh in (
        (x - 2, y - 2, w + 4, 3.4),
        (x - 2, y + h - 1.4, w + 4, 3.4),
        (x - 2, y, 3.4, h),
        (x + w - 1.4, y, 3.4, h),
    ):
        pen.rect(fx, fy, fw, fh, frame)
    pen.rect(x + w / 2 - 1.2, y, 2.4, h, frame)


def weather(pen: Pen, shot: Shot, seconds: float) -> None:
    """Rain or snow in front of everything; drawn in world units so that it grows with the zoom."""
    if shot.weather == "clear":
        return
    rng = chance(shot, 11)
    dark = shot.time == "night"
    if shot.weather == "rain":
        streak = (190, 210, 230, 150) if dark else (236, 244, 255, 170)
        for _ in range(110):
            x, y, pace = rng.uniform(0, WORLD_WIDTH + 40), rng.uniform(0, WORLD_HEIGHT), rng.uniform(240, 320)
            y = (y + pace * seconds) % (WORLD_HEIGHT + 20) - 10
            x = (x - 0.25 * pace * seconds) % (WORLD_WIDTH + 40) - 20
            pen.line([(x, y), (x - 2.8, y + 11)], streak, 1.1, shining=True)
        return
    flake = (206, 216, 228, 235) if dark else (255, 255, 255, 245)
    for _ in range(130):
        x, y, pace = rng.uniform(0, WORLD_WIDTH), rng.uniform(0, WORLD_HEIGHT), rng.uniform(16, 28)
        r, phase = rng.uniform(1.0, 2.2), rng.uniform(0, 6.28)
        y = (y + pace * seconds) % (WORLD_HEIGHT + 8) - 4
        x = (x + 5 * math.sin(seconds * 0.9 + phase)) % WORLD_WIDTH
        pen.disc(x, y, r, flake, shining=True)
