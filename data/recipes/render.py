"""Shot and second -> picture."""

from collections.abc import Callable

import numpy as np
import skia
from numpy.typing import NDArray

from data.recipes import creatures, vehicles
from data.recipes.indoors import INDOOR_PLACES
from data.recipes.outdoors import OUTDOOR_PLACES
from data.recipes.palette import atmosphere
from data.recipes.pen import Pen
from data.recipes.scenery import weather
from data.recipes.shot import Actor, Shot

_PLACES = OUTDOOR_PLACES | INDOOR_PLACES
_ACTORS: dict[str, Callable[[Pen, Actor, float, float, bool], None]] = {
    "car": vehicles.car,
    "bus": vehicles.bus,
    "bicycle": vehicles.bicycle,
    "train": vehicles.train,
    "boat": vehicles.boat,
    "balloon": vehicles.balloon,
    "person": creatures.person,
    "dog": creatures.dog,
    "cat": creatures.cat,
    "bird": creatures.bird,
    "cow": creatures.cow,
}


def _seat(pen: Pen, shot: Shot, actor: Actor, x: float) -> None:
    """What someone sits on; sofa and office chairs are furniture of their rooms."""
    s, y, f = actor.scale, actor.y, actor.facing
    if shot.place in ("office", "living room"):
        return
    if shot.place == "beach":
        pen.rect(x - 12 * s, y - 13 * s, 24 * s, 4 * s, (240, 240, 236), 2)
        pen.line([(x - 12 * f * s, y - 11 * s), (x - 18 * f * s, y - 30 * s)], (90, 160, 210), 4 * s)
    elif shot.place == "farm":
        pen.rect(x - 14 * s, y - 13 * s, 26 * s, 13 * s, (228, 192, 102), 3)
        return
    elif shot.place == "kitchen":
        pen.rect(x - 9 * s, y - 13 * s, 18 * s, 3.4 * s, (150, 100, 64), 1)
        pen.rect(x - 10 * f * s - 1.5 * s, y - 32 * s, 3 * s, 32 * s, (150, 100, 64), 1)
    else:
        for height in (13, 21, 28):
            pen.rect(x - 24 * s, y - height * s, 48 * s, 3.4 * s, (156, 102, 62))
    for side in (-1, 1):
        width = 20 if shot.place not in ("kitchen", "beach") else 8
        pen.rect(x + side * width * s - 1.3 * s, y - 11 * s, 2.6 * s, 11 * s, (80, 74, 78))


def _draw(pen: Pen, shot: Shot, seconds: float) -> None:
    air = atmosphere(shot.time, shot.weather, shot.indoors)
    dark = shot.time == "night"
    _PLACES[shot.place](pen, shot, seconds)
    with pen.under(air.actors):
        for actor in sorted(shot.actors, key=lambda a: a.depth):
            x = actor.x_at(seconds)
            if actor.action == "sitting":
                _seat(pen, shot, actor, x)
            _ACTORS[actor.kind](pen, actor, x, seconds, dark)
    pen.finish()
    if not shot.indoors:
        weather(pen, shot, seconds)


def frame(shot: Shot, seconds: float, width: int = 426, height: int = 240) -> NDArray[np.uint8]:
    """Draw one frame.

    Parameters
    ----------
    seconds : float
        Time since the start of the shot.

    Returns
    -------
    (height, width, 3) uint8, RGB. The same arguments give the same bytes.
    """
    pixels = np.zeros((height, width, 4), np.uint8)
    surface = skia.Surface(pixels, colorType=skia.kRGBA_8888_ColorType)
    left, top, view_width, view_height = shot.view_at(seconds)
    with surface as canvas:
        canvas.scale(width / view_width, height / view_height)
        canvas.translate(-left, -top)
        _draw(Pen(canvas, atmosphere(shot.time, shot.weather, shot.indoors).scenery), shot, seconds)
    return np.ascontiguousarray(pixels[:, :, :3])
