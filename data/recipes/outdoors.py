"""The seven places under the sky. Each draws what stands still; actors come later."""

from collections.abc import Callable

from data.recipes.palette import FACADES, LAMPLIGHT, NAMED, RGB, SNOW, atmosphere, darker, mix
from data.recipes.pen import Pen, swing
from data.recipes.scenery import chance, ground_colour, hills, house, lamp, sky, tree
from data.recipes.shot import WORLD_HEIGHT, WORLD_WIDTH, Shot

_SEAS: dict[str, tuple[RGB, RGB]] = {
    "morning": ((110, 176, 204), (214, 222, 206)),
    "day": ((36, 146, 204), (92, 204, 222)),
    "evening": ((112, 80, 136), (236, 150, 110)),
    "night": ((16, 38, 78), (34, 74, 116)),
}


def _waves(pen: Pen, shot: Shot, seconds: float, top: float, step: float, count: int) -> None:
    rng = chance(shot, 21)
    for i in range(count):
        x = (rng.uniform(0, WORLD_WIDTH) + seconds * rng.uniform(3, 7)) % WORLD_WIDTH
        pen.line([(x, top + i * step), (x + rng.uniform(12, 30), top + i * step)], (255, 255, 255, 90), 1.2)


def _sea(pen: Pen, shot: Shot, top: float, bottom: float, deep: float) -> None:
    upper, lower = _SEAS[shot.time]
    if shot.weather != "clear":
        upper, lower = (mix(c, (110, 122, 134) if shot.time != "night" else (34, 44, 58), 0.5) for c in (upper, lower))
    pen.gradient(0, top, WORLD_WIDTH, bottom - top, darker(upper, deep), darker(lower, deep), shining=True)


def street(pen: Pen, shot: Shot, seconds: float) -> None:
    rng, air = chance(shot, 31), atmosphere(shot.time, shot.weather)
    sky(pen, shot, seconds, 112)
    haze = mix(air.sky_bottom, (110, 120, 150), 0.5)
    x = -rng.uniform(0, 20)
    while x < WORLD_WIDTH:
        w, h = rng.uniform(22, 44), rng.uniform(40, 86)
        pen.rect(x, 112 - h, w, h + 4, haze, shining=True)
        x += w + rng.uniform(-2, 10)
    pen.rect(0, 108, WORLD_WIDTH, 14, ground_colour(shot, (150, 186, 126)))
    x, k = -rng.uniform(0, 30), rng.randint(0, 7)
    while x < WORLD_WIDTH:
        if x > 20 and rng.random() < 0.22:
            tree(pen, shot, x + 15, 119, 1.0, rng.choice(("oak", "round", "autumn")), seconds)
            x += 31
            continue
        w, h = rng.uniform(44, 66), rng.uniform(52, 86)
        shop = NAMED[rng.choice(("red", "blue", "green", "orange"))] if rng.random() < 0.3 else None
        house(pen, shot, x, 119, w, h, FACADES[k % 8], rng, shop)
        k += rng.randint(1, 3)
        x += w + rng.choice((0, 0, 3))
    pen.rect(0, 118, WORLD_WIDTH, 15, ground_colour(shot, (200, 194, 186)))
    pen.rect(0, 131, WORLD_WIDTH, 3, (160, 156, 150))
    tarmac = ground_colour(shot, (98, 102, 114), 0.45)
    pen.gradient(0, 133.5, WORLD_WIDTH, 47, tarmac, darker(tarmac, 0.8))
    for i in range(10):
        pen.rect(i * 44 + 10, 155, 23, 2.6, (238, 234, 216))
    if rng.random() < 0.4:
        crossing = rng.uniform(60, 320)
        for i in range(6):
            pen.rect(crossing + i * 8, 134, 5, 46, (234, 234, 228))
    for x in (rng.uniform(20, 80), rng.uniform(160, 230), rng.uniform(300, 380)):
        lamp(pen, shot, x, 129)


def park(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 32)
    sky(pen, shot, seconds, 112)
    hills(pen, shot, 106, ground_colour(shot, (132, 192, 132), 0.85), 18, 2)
    grass = ground_colour(shot, (122, 194, 104))
    pen.rect(0, 114, WORLD_WIDTH, 66, grass)
    if rng.random() < 0.4:
        x = rng.uniform(70, 300)
        pen.oval(x, 131, 62, 10, (112, 184, 220) if shot.weather != "snow" else (196, 220, 234))
        pen.oval(x - 10, 129, 26, 3, (166, 216, 240) if shot.weather != "snow" else (220, 236, 244))
    kind = rng.choice(("oak", "round", "autumn", "oak"))
    for _ in range(rng.randint(6, 9)):
        own = kind if rng.random() < 0.75 else "pine"
        tree(pen, shot, rng.uniform(6, 394), rng.uniform(116, 132), rng.uniform(1.0, 1.6), own, seconds)
    path = ground_colour(shot, (228, 208, 170), 0.6)
    pen.gradient(0, 156, WORLD_WIDTH, 16, path, darker(path, 0.95))
    pen.rect(0, 155, WORLD_WIDTH, 1.5, darker(grass, 0.85))
    pen.rect(0, 172, WORLD_WIDTH, 1.5, darker(grass, 0.85))
    if shot.weather != "snow":
        for _ in range(26):
            x, y = rng.uniform(0, WORLD_WIDTH), rng.choice((rng.uniform(136, 152), rng.uniform(175, 179)))
            pen.line([(x, y), (x, y + 3)], (80, 150, 80), 1)
            pen.disc(x, y, 1.8, rng.choice(((250, 120, 150), (255, 220, 90), (255, 255, 255))))
    for x in (rng.uniform(30, 120), rng.uniform(250, 370)):
        lamp(pen, shot, x, 150)


def _palm(pen: Pen, x: float, y: float, s: float, seconds: float) -> None:
    pen.polygon([(x - 3 * s, y), (x + 3 * s, y), (x + 9 * s, y - 48 * s), (x + 6 * s, y - 48 * s)], (152, 106, 66))
    top, crown = (
        (x + 8 * s, y - 48 * s),
        ((-24, 2), (-20, -10), (-6, -16), (10, -15), (22, -8), (25, 4), (-12, 12), (14, 13)),
    )
    for i, (dx, dy) in enumerate(crown):
        tip = (top[0] + dx * s + swing(seconds, 1.1, i) * 1.5 * s, top[1] + dy * s)
        middle = (top[0] + dx * 0.5 * s, top[1] + dy * 0.5 * s)
        pen.leaf(top, (middle[0], middle[1] - 9 * s), tip, (middle[0], middle[1] - 1 * s), (58, 152, 90))


def beach(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 33)
    sky(pen, shot, seconds, 92)
    _sea(pen, shot, 91, 146, 1.0)
    _waves(pen, shot, seconds, 96, 3.2, 11)
    surf = 134 + swing(seconds, 0.9) * 2.4
    edge = [(x, surf + 2.4 * swing(seconds, 1.0, x * 0.05)) for x in range(0, int(WORLD_WIDTH) + 11, 10)]
    pen.polygon([(0, WORLD_HEIGHT), *((x, y - 4) for x, y in edge), (WORLD_WIDTH, WORLD_HEIGHT)], (250, 250, 250))
    pen.polygon([(0, WORLD_HEIGHT), *edge, (WORLD_WIDTH, WORLD_HEIGHT)], ground_colour(shot, (246, 218, 160), 0.85))
    for _ in range(24):
        pen.disc(rng.uniform(0, WORLD_WIDTH), rng.uniform(144, 178), rng.uniform(0.6, 1.3), (206, 178, 124, 130))
    for x in (rng.uniform(10, 90), rng.uniform(300, 380)):
        _palm(pen, x, rng.uniform(150, 160), rng.uniform(1.3, 1.7), seconds)
    x = rng.uniform(120, 280)
    pen.polygon(
        [(x, 152), (x + 34, 152), (x + 30, 146), (x + 4, 146)],
        rng.choice(((240, 150, 150), (150, 190, 230), (250, 222, 130))),
    )
    x = rng.uniform(60, 340)
    for dx, h in ((-9, 9), (0, 14), (9, 9)):
        pen.rect(x + dx - 4, 158 - h, 8, h, (222, 184, 116))
        pen.polygon([(x + dx - 5, 158 - h), (x + dx + 5, 158 - h), (x + dx, 150 - h)], (204, 160, 96))


def harbour(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 34)
    sky(pen, shot, seconds, 92)
    hills(pen, shot, 96, ground_colour(shot, (112, 144, 132), 0.85), 12, 2)
    _sea(pen, shot, 92, 154, 0.84)
    _waves(pen, shot, seconds, 102, 4, 12)
    x = rng.choice((60, 200, 340))
    pen.polygon([(x - 32, 99), (x + 32, 99), (x + 20, 90), (x - 18, 90)], (112, 106, 102))
    pen.polygon([(x - 10, 92), (x + 10, 92), (x + 6.6, 42), (x - 6.6, 42)], (248, 246, 240))
    for i in range(2):
        low, high = 82 - i * 20, 72 - i * 20
        pen.polygon(
            [(x - 9.3 + i * 1.4, low), (x + 9.3 - i * 1.4, low), (x + 8.2 - i * 1.4, high), (x - 8.2 + i * 1.4, high)],
            (222, 70, 64),
        )
    pen.rect(x - 5.5, 32, 11, 10, (255, 236, 150), shining=shot.time != "day")
    pen.polygon([(x - 8, 33), (x + 8, 33), (x, 24)], (200, 60, 56))
    if shot.time in ("evening", "night"):
        pen.glow(x, 37, 46, (255, 236, 160), 210)
    x = (x + 140) % 400
    for dx, paint in ((-24, (206, 120, 90)), (2, (92, 140, 160)), (28, (214, 176, 90))):
        pen.rect(x + dx, 86, 24, 11, paint)
    pen.line([(x - 30, 97), (x - 30, 52), (x + 40, 58)], (196, 150, 70), 3)
    pen.line([(x + 30, 57), (x + 30, 78)], (80, 80, 86), 1)
    quay = ground_colour(shot, (168, 120, 78), 0.85)
    pen.rect(0, 152, WORLD_WIDTH, 28, quay)
    pen.rect(0, 152, WORLD_WIDTH, 3, darker(quay, 0.8))
    for i in range(25):
        pen.rect(i * 17, 152, 1, 28, darker(quay, 0.8))
    for i in range(8):
        pen.rect(i * 56 + 14, 140, 7, 20, (112, 80, 54), 2)
    lamp(pen, shot, rng.uniform(60, 340), 157)


def farm(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 35)
    sky(pen, shot, seconds, 104)
    hills(pen, shot, 100, ground_colour(shot, (152, 198, 112), 0.82), 16, 2)
    pen.rect(0, 104, WORLD_WIDTH, 76, ground_colour(shot, (146, 196, 92)))
    for i in range(11):
        near, far = 200 + (i - 5) * 66, 190 + i * 4
        stripe = ground_colour(shot, (222, 194, 98) if i % 2 else (180, 202, 98), 0.8)
        pen.polygon([(far, 107), (far + 3, 107), (near + 28, 166), (near - 6, 166)], stripe)
    x = rng.choice((80, 200, 320))
    barn = (192, 66, 58)
    pen.rect(x - 34, 76, 68, 46, barn)
    pen.polygon(
        [(x - 39, 78), (x - 21, 55), (x + 21, 55), (x + 39, 78)], SNOW if shot.weather == "snow" else (112, 72, 68)
    )
    pen.rect(x - 11, 98, 22, 24, (242, 234, 222))
    pen.line([(x - 11, 98), (x + 11, 122)], barn, 2)
    pen.line([(x + 11, 98), (x - 11, 122)], barn, 2)
    if shot.time in ("evening", "night"):
        pen.rect(x - 5, 82, 10, 8, LAMPLIGHT, 1, shining=True)
        pen.glow(x, 86, 26, LAMPLIGHT, 130)
    for dx in (90, 150, 260):
        tree(
            pen,
            shot,
            (x + dx + rng.uniform(-20, 20)) % 400,
            rng.uniform(116, 124),
            rng.uniform(1.1, 1.5),
            rng.choice(("oak", "round", "pine")),
            seconds,
        )
    for i in range(3):
        hay = (x - 70 + i * 120) % 400
        pen.oval(hay, 124, 11, 8, (226, 190, 100))
        pen.ring(hay, 124, 4, (196, 156, 72), 1)
    fence = (220, 204, 170)
    for i in range(17):
        pen.rect(i * 25 - 4, 122, 3.4, 15, fence)
    pen.rect(0, 125, WORLD_WIDTH, 2.4, fence)
    pen.rect(0, 131, WORLD_WIDTH, 2.4, fence)
    track = ground_colour(shot, (206, 170, 122), 0.55)
    pen.rect(0, 166, WORLD_WIDTH, 14, track)
    pen.rect(0, 172, WORLD_WIDTH, 2, darker(track, 0.9))


def playground(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 36)
    sky(pen, shot, seconds, 108)
    pen.rect(0, 104, WORLD_WIDTH, 76, ground_colour(shot, (134, 200, 116)))
    for i in range(9):
        tree(
            pen,
            shot,
            i * 48 + rng.uniform(-14, 14),
            114,
            rng.uniform(0.8, 1.2),
            rng.choice(("oak", "round", "autumn")),
            seconds,
        )
    for i in range(34):
        pen.rect(i * 12 + 1, 108, 8, 16, ((236, 110, 100), (250, 206, 90), (100, 170, 226), (120, 196, 120))[i % 4], 2)
    sand = ground_colour(shot, (238, 196, 142), 0.8)
    pen.rect(0, 130, WORLD_WIDTH, 50, sand)
    pen.rect(0, 129, WORLD_WIDTH, 2.4, (176, 132, 92))
    left, middle, right = rng.sample((70, 200, 330), 3)
    steel, slide = (120, 128, 142), rng.choice(((236, 84, 76), (60, 140, 220), (250, 190, 60)))
    pen.line([(left - 26, 152), (left - 26, 92), (left - 14, 92), (left - 14, 152)], steel, 2.6)
    for rung in range(6):
        pen.line([(left - 26, 100 + rung * 9), (left - 14, 100 + rung * 9)], steel, 1.8)
    pen.polygon(
        [(left - 16, 92), (left - 8, 92), (left + 34, 144), (left + 46, 146), (left + 46, 151), (left + 30, 150)], slide
    )
    pen.polygon([(left - 32, 92), (left - 4, 92), (left - 18, 74)], darker(slide, 0.85))
    pen.line([(middle - 36, 152), (middle - 24, 88), (middle + 30, 88), (middle + 42, 152)], (230, 120, 60), 3.2)
    for i, dx in enumerate((-10, 16)):
        away = swing(seconds, 1.8, i * 2.0) * 10
        pen.line([(middle + dx - 4, 88), (middle + dx - 4 + away, 134)], steel, 1)
        pen.line([(middle + dx + 4, 88), (middle + dx + 4 + away, 134)], steel, 1)
        pen.rect(middle + dx - 7 + away, 133, 14, 3.4, (70, 90, 160), 1)
    tilt = swing(seconds, 1.2) * 8
    pen.polygon([(right - 8, 152), (right + 8, 152), (right, 138)], (90, 170, 110))
    pen.line([(right - 40, 139 + tilt), (right + 40, 139 - tilt)], (250, 200, 60), 4)
    lamp(pen, shot, rng.uniform(120, 280), 132)


def station(pen: Pen, shot: Shot, seconds: float) -> None:
    rng = chance(shot, 37)
    sky(pen, shot, seconds, 104)
    hills(pen, shot, 106, ground_colour(shot, (140, 176, 132), 0.85), 16, 2)
    pen.rect(0, 104, WORLD_WIDTH, 20, ground_colour(shot, (150, 176, 120)))
    x = rng.choice((90, 200, 310))
    house(pen, shot, x - 62, 120, 124, 54, (204, 128, 104), rng, None)
    pen.polygon([(x - 22, 64), (x + 22, 64), (x, 42)], SNOW if shot.weather == "snow" else (120, 74, 70))
    pen.disc(x, 62, 8.6, (84, 62, 60))
    pen.disc(x, 62, 7, (252, 250, 240), shining=shot.time == "night")
    pen.line([(x, 62), (x, 57)], (40, 40, 46), 1.2)
    pen.line([(x, 62), (x + 3.6, 63.6)], (40, 40, 46), 1.2)
    for i in range(5):
        pen.rect(i * 96 + 20, 44, 3, 78, (110, 116, 128))
        pen.line([(i * 96 + 21, 50), (i * 96 + 40, 50)], (110, 116, 128), 1.6)
    pen.line([(0, 54), (WORLD_WIDTH, 54)], (70, 74, 84), 0.8)
    gravel = ground_colour(shot, (150, 142, 134), 0.6)
    pen.rect(0, 120, WORLD_WIDTH, 28, gravel)
    for i in range(34):
        pen.rect(i * 12, 136, 6, 9, (106, 82, 66))
    for y in (136, 143):
        pen.rect(0, y, WORLD_WIDTH, 1.8, (176, 182, 190))
    platform = ground_colour(shot, (206, 202, 196), 0.9)
    pen.rect(0, 148, WORLD_WIDTH, 32, platform)
    pen.rect(0, 148, WORLD_WIDTH, 3, (120, 118, 116))
    pen.rect(0, 153.5, WORLD_WIDTH, 2.6, (250, 206, 60))
    for i in range(11):
        pen.rect(i * 40, 157, 1, 23, darker(platform, 0.9))
    for x in (rng.uniform(20, 90), rng.uniform(310, 380)):
        lamp(pen, shot, x, 160)


OUTDOOR_PLACES: dict[str, Callable[[Pen, Shot, float], None]] = {
    place.__name__: place for place in (street, park, beach, harbour, farm, playground, station)
}
