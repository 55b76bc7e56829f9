"""Films the storyboard: short H.264 videos, what can be seen in them, and when they were taken.

python -m data.recipes.film [NAME ...]
"""

import argparse
import json
import random
import tomllib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from data.recipes.casting import cast
from data.recipes.facts import KINDS, facts
from data.recipes.render import frame
from data.recipes.shot import Shot

VIDEOS = Path(__file__).resolve().parent.parent / "videos"
STORYBOARD = Path(__file__).with_name("storyboard.toml")
WIDTH, HEIGHT, FPS = 426, 240, 12
OPTIONS = {"crf": "24", "preset": "slow", "tune": "animation", "threads": "1"}
KEYFRAME_EVERY = 2 * FPS
ALWAYS_SEEN = 0.75
"""Share of a shot's seconds in which its main actor must be visible."""


@dataclass(frozen=True, slots=True)
class Take:
    """A shot with its place in a video."""

    shot: Shot
    start: float
    """Seconds from the start of the video."""
    length: float
    """Seconds."""

    def facts(self) -> list[str]:
        """What is visible in more than half of the shot."""
        moments = [facts(self.shot, second) for second in self._moments()]
        return sorted(f for f in set().union(*moments) if sum(f in m for m in moments) > len(moments) / 2)

    def shows(self, kind: str) -> bool:
        seen = [kind in facts(self.shot, second) for second in self._moments()]
        return sum(seen) >= ALWAYS_SEEN * len(seen)

    def _moments(self) -> list[float]:
        return [0.25 + 0.5 * i for i in range(int(self.length * 2))]


def takes(video: dict[str, Any]) -> list[Take]:
    """The shots of a video; each is cast again until its main actor stays in the picture."""
    made, start = [], 0.0
    for number, (place, size, main, *more) in enumerate(video["shots"]):
        seed = zlib.crc32(f"{video['name']} {number}".encode())
        for attempt in range(400):
            rng = random.Random(seed + attempt)
            length = video["seconds"] + rng.choice((-1.0, -0.5, 0.0, 0.5, 1.0))
            wishes = {"colour": more[0]} if main else {}
            beside = (more[1], more[2]) if more[1:] else None
            shot = cast(rng, place, video["time"], video["weather"], main, size, length / 2, beside, **wishes)
            take = Take(shot, start, length)
            if all(take.shows(kind) for kind in (main, *more[1:2]) if kind in KINDS):
                break
        else:
            raise ValueError(
                f"{video['name']}: shot {number + 1} never shows its {main}; give it another size or actor."
            )
        made.append(take)
        start += length
    return made


def pictures(made: list[Take]) -> Iterator[av.VideoFrame]:
    for take in made:
        for i in range(round(take.length * FPS)):
            yield av.VideoFrame.from_ndarray(frame(take.shot, i / FPS, WIDTH, HEIGHT), format="rgb24")


def encode(made: list[Take], path: Path) -> None:
    """Write the takes, one after the other, as one mp4."""
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = KEYFRAME_EVERY
        stream.time_base = Fraction(1, FPS)
        for number, picture in enumerate(pictures(made)):
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    partial.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Film the storyboard.")
    parser.add_argument("names", nargs="*", help="only these videos are encoded (the lists always cover all)")
    options = parser.parse_args()
    VIDEOS.mkdir(exist_ok=True)
    storyboard = tomllib.loads(STORYBOARD.read_text())["video"]
    listed, shots = [], {}
    for number, video in enumerate(storyboard, start=1):
        video_id = f"town-{number:02d}-{video['name']}"
        made = takes(video)
        path = VIDEOS / f"{video_id}.mp4"
        if not options.names or video["name"] in options.names:
            encode(made, path)
            print(
                f"{path.name}: {made[-1].start + made[-1].length:.1f} s, {path.stat().st_size / 1e6:.2f} MB", flush=True
            )
        if not path.exists():
            continue
        listed.append(
            {
                "file": path.name,
                "video_id": video_id,
                "title": video["title"],
                "captured_at": video["captured_at"].isoformat(),
            }
        )
        shots[video_id] = [{"start_s": t.start, "end_s": t.start + t.length, "facts": t.facts()} for t in made]
    (VIDEOS / "videos.json").write_text(json.dumps(listed, indent=2) + "\n")
    (VIDEOS / "shots.json").write_text(json.dumps(shots, indent=1) + "\n")


if __name__ == "__main__":
    main()
