"""The three rooms. A window shows the hour; lamps burn in the evening and at night."""

from collections.abc import Callable

from data.recipes.palette import LAMPLIGHT, NAMED, Colour, darker, paler
from data.recipes.pen import Pen, swing
from data.recipes.scenery import chance, window
from data.recipes.shot import WORLD_HEIGHT, WORLD_WIDTH, Shot

DESKS = (84.0, 206.0, 328.0)
"""Left ends of the office desks."""
SOFA = 205.0
"""Middle of the sofa in the living room."""


def _room(pen: Pen, shot: Shot, wall: Colour, floor: Colour, floor_y: float) -> None:
    pen.rect(0, 0, WORLD_WIDTH, floor_y, wall)
    pen.rect(0, floor_y, WORLD_WIDTH, WORLD_HEIGHT - floor_y, floor)
    pen.rect(0, floor_y - 3, WORLD_WIDTH, 4, paler(wall, 0.5))
    if shot.time == "morning":
        for x in (70, 210, 330):
            pen.polygon([(x, 40), (x + 44, 40), (x + 4, 178), (x - 60, 178)], (255, 250, 214, 90), shining=True)


def _plant(pen: Pen, x: float, y: float, s: float) -> None:
    pot = (206, 122, 86)
    for dx, dy in ((-15, -30), (-8, -38), (0, -42), (8, -38), (15, -30)):
        pen.leaf(
            (x, y - 12 * s),
            (x + dx * 0.6 * s - 4, y - 28 * s),
            (x + dx * s, y + dy * s),
            (x + dx * 0.6 * s + 4, y - 22 * s),
            (72, 162, 98),
        )
    pen.polygon([(x - 8 * s, y - 15 * s), (x + 8 * s, y - 15 * s), (x + 6 * s, y), (x - 6 * s, y)], pot)


def _standing_lamp(pen: Pen, shot: Shot, x: float, y: float) -> None:
    lit = shot.time in ("evening", "night")
    pen.rect(x - 1.3, y - 62, 2.6, 62, (92, 82, 78))
    pen.oval(x, y, 8, 2, (92, 82, 78))
    pen.polygon([(x - 13, y - 60), (x + 13, y - 60), (x + 8, y - 80), (x - 8, y - 80)], (255, 230, 160), shining=lit)
    if lit:
        pen.glow(x, y - 66, 52, LAMPLIGHT, 170)


def office(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 41)
    wall = rng.choice(((226, 232, 238), (214, 228, 224), (232, 232, 222)))
    _room(pen, shot, wall, (140, 146, 158), 134)
    for x in (28, 270):
        window(pen, shot, x, 20, 104, 56, seconds)
    pen.rect(152, 20, 96, 88, (150, 106, 72), 2)
    for shelf in range(4):
        pen.rect(155, 23 + shelf * 21.4, 90, 18, (112, 78, 54))
        x = 157.0
        while x < 240:
            w, h = rng.uniform(3, 6), rng.uniform(10, 16)
            pen.rect(
                x,
                41 + shelf * 21.4 - h,
                w,
                h,
                rng.choice(((196, 90, 84), (90, 130, 190), (226, 186, 100), (110, 160, 120), (230, 226, 216))),
            )
            x += w + 0.7
    _plant(pen, 20, 150, 1.2)
    _plant(pen, 388, 150, 1.1)
    for i, x in enumerate(DESKS):
        pen.rect(x - 34, 118, 5, 36, (70, 78, 96), 2)
        pen.rect(x - 34, 147, 28, 4, (70, 78, 96), 2)
        pen.rect(x - 22, 150, 3.4, 19, (60, 66, 80))
        pen.rect(x, 134, 80, 5, (204, 154, 106), 1)
        for leg in (4, 72):
            pen.rect(x + leg, 139, 4, 33, (164, 120, 82))
        pen.rect(x + 30, 100, 42, 27, (42, 46, 56), 2)
        pen.rect(
            x + 32.4, 102.4, 37, 22, (96, 184, 232) if (int(seconds * 0.5) + i) % 2 else (116, 212, 190), shining=True
        )
        pen.rect(x + 49, 127, 4, 7, (62, 66, 76))
        for row in range(3):
            pen.rect(
                x + 36, 107 + row * 5.4, 12 + ((int(seconds * 2) + row * 3) % 4) * 4.5, 2, (240, 250, 255), shining=True
            )
        pen.rect(x + 12, 131.4, 15, 2.6, (72, 76, 86))
        if shot.time in ("evening", "night"):
            pen.glow(x + 51, 113, 34, (170, 220, 255), 90)
    if shot.time == "night":
        for x in (80, 320):
            pen.rect(x - 20, 4, 40, 4, (255, 244, 214), 2, shining=True)
            pen.glow(x, 8, 60, (255, 240, 210), 110)


def kitchen(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 42)
    wall = rng.choice(((250, 240, 218), (226, 240, 234), (244, 230, 226)))
    cupboard = rng.choice(((120, 170, 176), (150, 172, 126), (206, 162, 120)))
    _room(pen, shot, wall, (214, 190, 160), 142)
    for i in range(14):
        for j in range(2):
            tile = (226, 204, 176) if (i + j) % 2 else (206, 182, 152)
            pen.rect(i * 30 + j * 15 - 10, 142 + j * 19, 29, 18.4, tile)
    window(pen, shot, 152, 20, 80, 50, seconds)
    for x in (20, 66, 112 - 10, 250):
        pen.rect(x, 16, 42, 38, cupboard, 2)
        pen.disc(x + 36, 46, 1.7, (250, 242, 222))
    pen.rect(330, 40, 48, 108, (234, 238, 242), 4)
    pen.rect(330, 80, 48, 2, (182, 188, 194))
    pen.rect(334, 56, 3, 16, (162, 168, 174))
    pen.rect(334, 88, 3, 26, (162, 168, 174))
    pen.rect(0, 98, 322, 6, (246, 242, 234))
    pen.rect(0, 104, 322, 42, cupboard)
    for i in range(7):
        pen.rect(i * 46 + 3, 108, 41, 35, paler(cupboard, 0.14), 2)
        pen.disc(i * 46 + 38, 113, 1.7, (250, 242, 222))
    stove = rng.choice((60, 280))
    pen.rect(stove - 24, 97, 48, 49, (72, 78, 88), 2)
    pen.rect(stove - 18, 113, 36, 25, (42, 46, 52), 2)
    pen.rect(stove - 15, 116, 30, 18, (252, 156, 76), shining=shot.time == "night")
    pen.rect(stove - 13, 84, 26, 13, (200, 72, 66), 2)
    pen.line([(stove - 18, 89), (stove + 18, 89)], (62, 54, 54), 2.4)
    for k in range(3):
        rise = (seconds * 0.6 + k / 3) % 1
        pen.disc(
            stove + swing(seconds, 2, k * 2) * 4, 82 - rise * 28, 3 + 4 * rise, (255, 255, 255, int(120 * (1 - rise)))
        )
    pen.rect(170, 96, 36, 3, (172, 180, 188))
    pen.curve((188, 97), (188, 82), (196, 86), (152, 160, 168), 2.6)
    fruit = 128 if stove == 60 else 110
    pen.polygon([(fruit - 15, 90), (fruit + 15, 90), (fruit + 9, 98), (fruit - 9, 98)], (246, 246, 250))
    for dx, colour in ((-6, NAMED["red"]), (3, NAMED["orange"]), (9, (126, 184, 76))):
        pen.disc(fruit + dx, 87, 4.6, colour)
    pen.line([(240, 0), (240, 16)], (80, 80, 86), 1.2)
    pen.dome(240, 26, 15, 11, (226, 110, 84))
    if shot.time in ("evening", "night"):
        pen.glow(240, 30, 66, LAMPLIGHT, 170)


def living_room(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 43)
    wall = rng.choice(((234, 218, 206), (208, 224, 228), (230, 224, 202)))
    _room(pen, shot, wall, (188, 142, 102), 134)
    for i in range(10):
        pen.line([(i * 46 - 10, 135), (i * 52 - 40, WORLD_HEIGHT)], (168, 124, 88), 1)
    window(pen, shot, 30, 18, 92, 58, seconds)
    pen.oval(SOFA, 164, 120, 13, rng.choice(((216, 122, 112), (122, 142, 182), (232, 202, 142))))
    sofa = rng.choice(((190, 96, 90), (86, 128, 170), (110, 156, 120), (170, 130, 170)))
    x = SOFA - 64
    pen.rect(x, 92, 128, 40, darker(sofa, 0.86), 9)
    pen.rect(x + 6, 120, 116, 26, sofa, 6)
    pen.line([(SOFA, 122), (SOFA, 144)], darker(sofa, 0.8), 1.3)
    pen.rect(x - 8, 106, 17, 44, paler(sofa, 0.08), 7)
    pen.rect(x + 119, 106, 17, 44, paler(sofa, 0.08), 7)
    pen.rect(x + 12, 104, 20, 16, paler(sofa, 0.55), 4)
    pen.rect(300, 126, 82, 22, (122, 86, 62), 2)
    pen.rect(304, 78, 74, 46, (36, 38, 46), 3)
    screen = ((92, 172, 232), (242, 172, 92), (112, 202, 132))[int(seconds * 0.6) % 3]
    pen.rect(307, 81, 68, 40, screen, shining=True)
    pen.disc(334, 102, 9, (255, 255, 255, 150), shining=True)
    pen.rect(180, 24, 50, 36, (152, 102, 72), 1)
    pen.rect(184, 28, 42, 28, (192, 222, 202))
    pen.polygon([(184, 56), (202, 36), (226, 56)], (92, 142, 112))
    _standing_lamp(pen, shot, 126, 144)
    _plant(pen, 20, 148, 1.3)
    if shot.time == "night":
        pen.glow(340, 100, 60, screen, 90)


INDOOR_PLACES: dict[str, Callable[[Pen, Shot, float], None]] = {
    "office": office,
    "kitchen": kitchen,
    "living room": living_room,
}
