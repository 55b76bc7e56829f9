"""Colours of the town and the light that falls on them."""

from dataclasses import dataclass

RGB = tuple[int, int, int]
RGBA = tuple[int, int, int, int]
Colour = RGB | RGBA
Light = tuple[float, float, float]

NAMED: dict[str, RGB] = {
    "red": (222, 54, 50),
    "blue": (44, 104, 214),
    "yellow": (250, 204, 44),
    "green": (46, 158, 82),
    "white": (246, 246, 242),
    "black": (42, 42, 50),
    "orange": (245, 136, 34),
    "purple": (138, 78, 190),
    "pink": (244, 132, 176),
    "brown": (160, 102, 56),
    "grey": (150, 154, 162),
}
SNOW: RGB = (238, 244, 248)
LAMPLIGHT: RGB = (255, 222, 142)
SKINS: tuple[RGB, ...] = ((250, 208, 174), (226, 174, 132), (166, 112, 80), (114, 76, 54))
HAIRS: tuple[RGB, ...] = ((62, 44, 34), (30, 26, 26), (198, 140, 66), (146, 74, 42))
FACADES: tuple[RGB, ...] = (
    (232, 154, 124),
    (240, 208, 146),
    (152, 188, 206),
    (210, 168, 190),
    (172, 202, 162),
    (222, 220, 212),
    (200, 116, 100),
    (132, 154, 190),
)


@dataclass(frozen=True, slots=True)
class Atmosphere:
    """What a time of day and a weather do to sky and light."""

    sky_top: RGB
    sky_bottom: RGB
    cloud: RGBA
    scenery: Light
    """Multiplies the colours of everything that stands still."""
    actors: Light
    """Multiplies the colours of what moves; mild and nearly grey, so that colours keep their names at night: a blue
    light would make white lilac."""


_FAIR = {
    "morning": Atmosphere((150, 204, 238), (255, 226, 186), (255, 244, 232, 235), (1.0, 0.97, 0.88), (1.0, 0.98, 0.93)),
    "day": Atmosphere((78, 168, 238), (204, 236, 250), (255, 255, 255, 240), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "evening": Atmosphere((88, 62, 138), (255, 160, 88), (255, 190, 168, 200), (0.96, 0.76, 0.64), (0.98, 0.94, 0.9)),
    "night": Atmosphere((12, 20, 54), (44, 72, 122), (60, 80, 118, 150), (0.38, 0.47, 0.58), (0.88, 0.88, 0.88)),
}
_GREY = {
    "morning": Atmosphere(
        (168, 180, 196), (240, 220, 198), (226, 218, 212, 255), (0.93, 0.9, 0.84), (0.97, 0.95, 0.91)
    ),
    "day": Atmosphere((142, 158, 176), (208, 216, 222), (178, 188, 198, 255), (0.88, 0.91, 0.94), (0.95, 0.97, 0.98)),
    "evening": Atmosphere((84, 70, 110), (208, 146, 116), (132, 106, 126, 255), (0.84, 0.69, 0.62), (0.94, 0.91, 0.88)),
    "night": Atmosphere((20, 26, 48), (48, 60, 84), (46, 56, 80, 255), (0.36, 0.44, 0.53), (0.86, 0.86, 0.86)),
}
_SNOWY_NIGHT = Atmosphere((20, 26, 48), (52, 64, 90), (48, 58, 82, 255), (0.5, 0.58, 0.68), (0.88, 0.88, 0.88))
_INDOORS: dict[str, tuple[Light, Light]] = {
    "morning": ((1.0, 0.95, 0.82), (1.0, 0.98, 0.92)),
    "day": ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "evening": ((1.0, 0.8, 0.62), (0.98, 0.94, 0.88)),
    "night": ((0.54, 0.5, 0.48), (0.88, 0.87, 0.86)),
}


def atmosphere(time: str, weather: str, indoors: bool = False) -> Atmosphere:
    """Sky and light at a time of day; indoors the room's light, with the sky that the window shows."""
    sky = (_FAIR if weather == "clear" else _GREY)[time]
    if (time, weather) == ("night", "snow"):
        sky = _SNOWY_NIGHT
    if not indoors:
        return sky
    scenery, actors = _INDOORS[time]
    return Atmosphere(sky.sky_top, sky.sky_bottom, sky.cloud, scenery, actors)


def mix(first: Colour, second: Colour, share: float) -> RGB:
    """The colour that lies `share` of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first[:3], second[:3], strict=True))
    return red, green, blue


def darker(colour: Colour, keep: float = 0.76) -> RGB:
    return mix((0, 0, 0), colour, keep)


def paler(colour: Colour, share: float = 0.35) -> RGB:
    return mix(colour, (255, 255, 255), share)
