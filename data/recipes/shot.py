"""Values that describe a shot: where and when, who is in it, and how the camera looks at them."""

from dataclasses import dataclass

WORLD_WIDTH = 400.0
"""World units; the widest view shows VIEW_WIDTH of them."""
WORLD_HEIGHT = 180.0
VIEW_WIDTH = 320.0

TIMES = ("morning", "day", "evening", "night")
WEATHERS = ("clear", "rain", "snow")
OUTDOORS = ("street", "park", "beach", "harbour", "farm", "playground", "station")
INDOORS = ("office", "kitchen", "living room")
PLACES = OUTDOORS + INDOORS
PAINTS = ("red", "blue", "yellow", "green", "white", "black", "orange", "purple", "pink")
"""Colours of whatever is painted or worn: all of them on each kind of thing, so that none tells the other."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Something that can move or be looked for: a person, an animal, a vehicle, a boat, a balloon."""

    kind: str
    colour: str
    """Paint of a vehicle, coat of an animal, clothes of a person."""
    x: float
    """World units, at second 0; the middle of the actor."""
    y: float
    """World units; where it touches the ground (a balloon's or bird's middle)."""
    scale: float = 1.0
    facing: int = 1
    """1 looks right, -1 looks left."""
    speed: float = 0.0
    """World units a second, towards where it faces."""
    action: str = ""
    umbrella: str = ""
    looks: int = 0
    """Seed of skin, hair and rhythm."""

    @property
    def rider(self) -> bool:
        """True of a bicycle with somebody on it."""
        return self.kind == "bicycle" and self.action == "cycling"

    @property
    def clothes(self) -> str:
        """Colour of what somebody wears up to the neck; "" without anybody."""
        return self.colour if self.kind == "person" else PAINTS[self.looks // 16 % len(PAINTS)] if self.rider else ""

    @property
    def depth(self) -> tuple[bool, float]:
        """Whoever has more of it is drawn in front of others; what flies is behind all."""
        return self.kind not in ("bird", "balloon"), self.y

    def x_at(self, seconds: float) -> float:
        """Where it is now; whoever leaves the world on one side comes back on the other."""
        if not self.speed:
            return self.x
        margin = 60.0
        span = WORLD_WIDTH + 2 * margin
        return (self.x + self.facing * self.speed * seconds + margin) % span - margin


@dataclass(frozen=True, slots=True)
class Camera:
    """A window on the world that may drift, or follow an actor."""

    x: float = WORLD_WIDTH / 2
    y: float = WORLD_HEIGHT / 2
    zoom: float = 1.0
    """1 shows the full height; 2 half of it."""
    drift: float = 0.0
    """World units a second, to the right."""
    push: float = 0.0
    """Zoom added a second."""
    follows: int | None = None
    """Index of the actor kept in the middle."""
    lead: float = 0.0
    """World units between the followed actor and the middle of the picture."""

    @property
    def size(self) -> str:
        return "far" if self.zoom < 1.3 else "medium" if self.zoom < 2.0 else "close"


@dataclass(frozen=True, slots=True)
class Shot:
    """All there is to know to draw any frame of a shot."""

    place: str
    time: str
    weather: str
    """One of WEATHERS; indoors what the window shows."""
    actors: tuple[Actor, ...]
    camera: Camera
    seed: int
    """Decides everything that stands still: houses, trees, furniture."""

    @property
    def indoors(self) -> bool:
        return self.place in INDOORS

    def view_at(self, seconds: float) -> tuple[float, float, float, float]:
        """(left, top, width, height) of what the camera sees, in world units, inside the world."""
        camera = self.camera
        zoom = max(1.0, camera.zoom + camera.push * seconds)
        width, height = VIEW_WIDTH / zoom, WORLD_HEIGHT / zoom
        x = camera.x + camera.drift * seconds
        if camera.follows is not None:
            x = self.actors[camera.follows].x_at(seconds) + camera.lead
        left = min(max(x - width / 2, 0.0), WORLD_WIDTH - width)
        top = min(max(camera.y - height / 2, 0.0), WORLD_HEIGHT - height)
        return left, top, width, height
