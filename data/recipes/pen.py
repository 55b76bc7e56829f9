"""A pen over a Skia canvas: flat shapes under one light, and glows that come last."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import skia

from data.recipes.palette import Colour, Light

Point = tuple[float, float]


class Pen:
    """Draws flat shapes in world units; every colour passes through the current light unless it shines itself."""

    def __init__(self, canvas: skia.Canvas, light: Light) -> None:
        self.canvas = canvas
        self.light = light
        self._paints: dict[tuple[Colour, Light | None, float], skia.Paint] = {}
        self._glows: list[tuple[float, float, float, Colour, int]] = []

    @contextmanager
    def under(self, light: Light) -> Iterator[None]:
        """Draw the block under another light."""
        before, self.light = self.light, light
        try:
            yield
        finally:
            self.light = before

    def _paint(self, colour: Colour, width: float = 0.0, shining: bool = False) -> skia.Paint:
        light = None if shining else self.light
        key = (colour, light, width)
        paint = self._paints.get(key)
        if paint is None:
            red, green, blue = colour[:3] if light is None else (c * k for c, k in zip(colour[:3], light, strict=True))
            alpha = colour[3] if len(colour) == 4 else 255
            paint = skia.Paint(AntiAlias=True, Color=skia.Color(int(red), int(green), int(blue), int(alpha)))
            if width:
                paint.setStyle(skia.Paint.kStroke_Style)
                paint.setStrokeWidth(width)
                paint.setStrokeCap(skia.Paint.kRound_Cap)
                paint.setStrokeJoin(skia.Paint.kRound_Join)
            self._paints[key] = paint
        return paint

    def rect(self, x: float, y: float, w: float, h: float, colour: Colour, r: float = 0, shining: bool = False) -> None:
        box, paint = skia.Rect.MakeXYWH(x, y, w, h), self._paint(colour, shining=shining)
        if r:
            self.canvas.drawRoundRect(box, r, r, paint)
        else:
            self.canvas.drawRect(box, paint)

    def disc(self, x: float, y: float, r: float, colour: Colour, shining: bool = False) -> None:
        self.canvas.drawCircle(x, y, r, self._paint(colour, shining=shining))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, shining: bool = False) -> None:
        """An ellipse around (x, y)."""
        self.canvas.drawOval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry), self._paint(colour, shining=shining))

    def dome(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """The upper half of an ellipse that stands on (x, y)."""
        path = skia.Path()
        path.addArc(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry), 180, 180)
        path.close()
        self.canvas.drawPath(path, self._paint(colour))

    def ring(self, x: float, y: float, r: float, colour: Colour, width: float) -> None:
        self.canvas.drawCircle(x, y, r, self._paint(colour, width))

    def line(self, points: Sequence[Point], colour: Colour, width: float, shining: bool = False) -> None:
        paint = self._paint(colour, width, shining)
        for (x0, y0), (x1, y1) in pairwise(points):
            self.canvas.drawLine(x0, y0, x1, y1, paint)

    def polygon(self, points: Sequence[Point], colour: Colour, shining: bool = False) -> None:
        path = skia.Path()
        path.addPoly([skia.Point(x, y) for x, y in points], True)
        self.canvas.drawPath(path, self._paint(colour, shining=shining))

    def curve(self, start: Point, bend: Point, end: Point, colour: Colour, width: float) -> None:
        path = skia.Path()
        path.moveTo(*start)
        path.quadTo(*bend, *end)
        self.canvas.drawPath(path, self._paint(colour, width))

    def leaf(self, start: Point, upper: Point, end: Point, lower: Point, colour: Colour) -> None:
        """The area between two curves from start to end."""
        path = skia.Path()
        path.moveTo(*start)
        path.quadTo(*upper, *end)
        path.quadTo(*lower, *start)
        self.canvas.drawPath(path, self._paint(colour))

    def gradient(
        self, x: float, y: float, w: float, h: float, top: Colour, bottom: Colour, shining: bool = False
    ) -> None:
        """A rectangle whose colour changes from top to bottom."""
        light = (1.0, 1.0, 1.0) if shining else self.light
        ends = [
            skia.Color(
                *(int(c * k) for c, k in zip(colour[:3], light, strict=True)), colour[3] if len(colour) == 4 else 255
            )
            for colour in (top, bottom)
        ]
        shader = skia.GradientShader.MakeLinear([(0, y), (0, y + h)], ends)
        self.canvas.drawRect(skia.Rect.MakeXYWH(x, y, w, h), skia.Paint(Shader=shader))

    def glow(self, x: float, y: float, r: float, colour: Colour, strength: int = 160) -> None:
        """Remember a soft light; `finish` draws them over everything else."""
        self._glows.append((x, y, r, colour, strength))

    def finish(self) -> None:
        for x, y, r, colour, strength in self._glows:
            ends = [skia.Color(*colour[:3], strength), skia.Color(*colour[:3], 0)]
            paint = skia.Paint(AntiAlias=True, Shader=skia.GradientShader.MakeRadial((x, y), r, ends))
            paint.setBlendMode(skia.BlendMode.kScreen)
            self.canvas.drawCircle(x, y, r, paint)
        self._glows.clear()


def swing(seconds: float, rate: float, phase: float = 0.0) -> float:
    """A value between -1 and 1 that swings `rate` radians a second."""
    return math.sin(seconds * rate + phase)
