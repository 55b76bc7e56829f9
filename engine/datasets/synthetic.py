"""Made-up videos of any number, with queries that are as hard to route as real ones; nothing is read or downloaded.

Beyond some 10^5 frames take what a search costs here for a worst case. Up to there the rows that a text compares grow like those of real keyframes,
by about the square root of the frames (`python -m benchmarks.growth --features FOLDER --texts FILE`); from 10^5 to 10^6 nearly in
proportion. Concepts and places are as many however many videos there are, and a thing can show only so clearly: new
frames are more of the same, each concept has ever more about equal best ones, and these lie in different cells that only chance ranks.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.datasets.synthetic_space import N_LABELS, PLACES, TAGS, Space, make_space, things_in, zipf
from engine.importers import ROWS_PER_BATCH, ImportReport, Triage
from engine.system import Progress, bounds, no_progress, part_of
from engine.types import DAYPARTS, FrameBatch, NewVideo
from engine.vectors import Floats, unit

SMALLEST_DIM = 16
LARGEST_DIM = 4096

_FPS = (23.976, 25.0, 26.44, 29.97, 30.0)
_FIRST_DAY = datetime(2024, 1, 1)
_LAYOUT, _SCRIPTS, _FRAMES, _TEXTS, _IMAGES = range(5)
"""Streams of random numbers."""
_STORED = 0.5
"""Share of the time after which all frames are stored."""
_SHOT = (0.5, 60)
"""Frames of a shot after its first: scale of an exponential distribution, rounded down, and the most. Of keyframes of news, one in eight looks
like the one before it, and ten answers to a text are ten different pictures (`benchmarks.synthetic_hardness`)."""


@dataclass(frozen=True, slots=True)
class _Script:
    """What is known of a video before its frames are made."""

    n_frames: int
    fps: float
    every: float
    """Seconds between frames."""
    captured_at: datetime
    scenes: NDArray[np.int64]
    """The few that the video keeps to, most frequent first."""

    @property
    def daypart(self) -> int:
        """Place in `DAYPARTS` of the hour in which the recording starts."""
        hour = self.captured_at.hour
        spans = enumerate(DAYPARTS.values())
        return next(i for i, (a, b) in spans if (a <= hour < b if a < b else hour >= a or hour < b))


@dataclass(frozen=True)
class World:
    """Makes videos and queries: the same ones for the same dim and seed, and a larger number of frames begins with the smaller."""

    dim: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if not SMALLEST_DIM <= self.dim <= LARGEST_DIM:
            raise ValueError(f"Vectors of {self.dim} numbers cannot be made up; give {SMALLEST_DIM} to {LARGEST_DIM}.")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"The seed is {self.seed}; give 0 or more, and less than 2^63.")

    def videos(self, n_frames: int) -> list[NewVideo]:
        """The videos that hold the first `n_frames` frames; the last one is cut short."""
        return [
            NewVideo(
                f"synthetic-{i:06d}",
                title=f"Synthetic video {i}",
                duration=n * script.every,
                fps=script.fps,
                captured_at=script.captured_at,
                fingerprint=f"synthetic {self.dim} {self.seed} {i} {n}",
                about={"made": "synthetic"},
            )
            for i, (script, n) in enumerate(self._scripts(n_frames))
        ]

    def batches(self, n_frames: int, without: Container[int] = ()) -> Iterator[FrameBatch]:
        """The first `n_frames` frames, in whole videos of up to `ROWS_PER_BATCH` rows.

        Parameters
        ----------
        without : numbers of videos to leave out; `video` is the place among the others
        """
        held: list[FrameBatch] = []
        place = n_held = 0
        for i, (script, n) in enumerate(self._scripts(n_frames)):
            if i in without:
                continue
            if n_held + n > ROWS_PER_BATCH:
                yield _joined(held)
                held, n_held = [], 0
            held.append(self._frames(i, script, n, place))
            n_held += n
            place += 1
        if held:
            yield _joined(held)

    def text_queries(self, m: int, seed: int = 1) -> Floats:
        """Vectors (m, dim) of made-up texts of one to three concepts and a wording; unit norm."""
        _check_count(m, "queries")
        rng = self._rng(_TEXTS, seed)
        return self._space.texts(rng, m)

    def image_queries(self, m: int, n_frames: int, seed: int = 1) -> Floats:
        """Vectors (m, dim) like frames of the shots that some of the first `n_frames` frames are in; unit norm."""
        _check_count(m, "queries")
        rng = self._rng(_IMAGES, seed)
        scripts = list(self._scripts(n_frames))
        ends = np.cumsum([n for _, n in scripts])
        rows = np.sort(rng.integers(0, n_frames, m))
        video = np.searchsorted(ends, rows, side="right")
        near = np.empty((m, self.dim), np.float32)
        for i in np.unique(video).tolist():
            script, n = scripts[i]
            of_video = video == i
            near[of_video] = self._frames(i, script, n, 0).vectors[rows[of_video] - (ends[i] - n)]
        return unit(rng.permutation(near + self._space.motion(rng, m)), np.float32)

    @cached_property
    def _space(self) -> Space:
        return make_space(self._rng(_LAYOUT), self.dim)

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *what])

    def _scripts(self, n_frames: int) -> Iterator[tuple[_Script, int]]:
        """The videos of the first `n_frames` frames, and how many of these each holds."""
        _check_count(n_frames, "frames")
        i, left = 0, n_frames
        while left > 0:
            script = self._script(i)
            yield script, min(left, script.n_frames)
            left -= script.n_frames
            i += 1

    def _script(self, i: int) -> _Script:
        rng = self._rng(_SCRIPTS, i)
        return _Script(
            n_frames=int(rng.integers(150, 351)),
            fps=_FPS[rng.integers(len(_FPS))],
            every=(0.5, 1.0, 2.0)[rng.integers(3)],
            captured_at=_FIRST_DAY
            + timedelta(
                # It ends within the hour, so that all its frames are of one part of the day.
                days=int(rng.integers(366)),
                hours=int(rng.integers(24)),
                seconds=int(rng.integers(2_800)),
            ),
            scenes=zipf(rng, N_LABELS["scene"], 2, 3),
        )

    def _frames(self, i: int, script: _Script, n: int, number: int) -> FrameBatch:
        """The first n frames of the video i, numbered as this one of those that are made."""
        rng = self._rng(_FRAMES, i)
        space = self._space
        # Always the whole video, so that a video cut short begins like the whole one.
        whole = script.n_frames
        lengths = 1 + np.minimum(rng.exponential(_SHOT[0], whole), _SHOT[1] - 1).astype(np.int64)
        shot = np.repeat(np.arange(whole), lengths)[:whole]
        n_shots = int(shot[-1]) + 1
        scene = script.scenes[rng.choice(len(script.scenes), n_shots, p=(0.6, 0.3, 0.1))]
        place = scene * PLACES + zipf(rng, PLACES, 1, n_shots)
        things = things_in(rng, scene, script.daypart)
        look, mean = space.look_of_shots(rng, place, things)
        vectors = space.frames(rng, shot, look, mean)[:n]
        index = np.rint(np.arange(n) * script.every * script.fps).astype(np.int64)
        seen = np.hstack([things, space.fixtures[place]])
        tags = [tuple(TAGS[each] for each in sorted(set(row)) if 0 <= each < len(TAGS)) for row in seen.tolist()]
        return FrameBatch(
            vectors=vectors,
            frame_index=index,
            seconds=index / script.fps,
            video=np.full(n, number, np.int32),
            shot=shot[:n].astype(np.int32),
            tags=tuple(tags[each] for each in shot[:n].tolist()),
        )


def write_synthetic(
    collection: Collection, world: World, n_frames: int, *, build: bool = True, progress: Progress = no_progress
) -> ImportReport:
    """Store the first frames of a made-up world: all its new videos or, on an error, none.

    Videos that are in already are skipped; one that was cut short then, or is of another world, is refused.

    Parameters
    ----------
    build : build at the end if the collection has not been built yet

    Raises
    ------
    ValueError
        If there are no frames to make, or the collection stores vectors of another length.
    Busy
        If somebody else is writing.
    """
    triage = Triage(collection)
    if collection.settings.dim != world.dim:
        raise ValueError(
            f"The made-up vectors have {world.dim} numbers; this collection stores {collection.settings.dim}."
        )
    bounds.check_count("frames to make", n_frames, bounds.MAX_ROWS)
    videos = world.videos(n_frames)
    with triage as writer:
        chosen = [i for i, video in enumerate(videos) if triage.is_new(video)]
        n_new = 0

        def frames() -> Iterator[FrameBatch]:
            nonlocal n_new
            for batch in world.batches(n_frames, without=set(range(len(videos))).difference(chosen)):
                progress("making frames", _STORED * n_new, n_frames)
                yield batch
                n_new += len(batch)

        if chosen:
            new = [videos[i] for i in chosen]
            writer.store(new, frames())
            triage.add(new, n_new)
        triage.settle(build=build, progress=part_of(progress, _STORED, 1.0))
    progress("done", 1.0, 1.0)
    return triage.report()


def _joined(held: Sequence[FrameBatch]) -> FrameBatch:
    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(batch, name) for batch in held])

    return FrameBatch(
        vectors=column("vectors"),
        frame_index=column("frame_index"),
        seconds=column("seconds"),
        video=column("video"),
        shot=column("shot"),
        tags=tuple(chain.from_iterable(batch.tags for batch in held)),
    )


def _check_count(n: int, what: str) -> None:
    if n < 1:
        raise ValueError(f"{n} {what} cannot be made; give 1 or more.")
    bounds.check_count(f"{what} to make", n, bounds.MAX_ROWS if what == "frames" else bounds.MAX_QUERIES)
