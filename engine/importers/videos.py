"""Videos into a collection: decode, embed, tag, store. Runs over the public face of `Collection`."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.embedding import Encoder, Tagger
from engine.errors import DuplicateVideo, VideoError
from engine.media import Sample, check_every, probe, sample, thumbnail
from engine.storage import check_video
from engine.system import bounds
from engine.types import FrameBatch, NewVideo

BATCH = 32
"""Frames embedded at a time."""
SIDECAR = "videos.json"
"""Beside the videos: a list of {"file", "video_id", "title", "captured_at"}, all but the first optional."""
_INGEST_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest is."""

    stage: str
    """`ingest` or `build`."""
    video: str
    video_number: int
    """From 1."""
    n_videos: int
    fraction: float
    """Of everything, 0 to 1."""
    frames: int
    """Stored so far."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What came of an ingest."""

    added: tuple[str, ...]
    skipped: tuple[str, ...]
    """Videos that were in already."""
    refused: tuple[tuple[str, str], ...]
    """Path and one sentence why; nothing of these is stored."""
    n_frames: int
    seconds: float
    """Wall time."""


def ingest(
    collection: Collection,
    videos: Sequence[Path],
    *,
    every: float = 1.0,
    shots: bool = False,
    build: bool = True,
    progress: Callable[[Progress], None] = lambda now: None,
) -> IngestReport:
    """Store frames of videos; each video is in whole or not at all, and one that is in already is skipped.

    Parameters
    ----------
    every : seconds between frames
    shots : one frame per shot instead (long shots get several)
    build : build at the end if the collection has not been built yet

    Raises
    ------
    ValueError
        If `every` is not positive.
    Busy
        If somebody else is writing.
    EncoderError
        If the collection's encoder cannot be loaded.
    """
    check_every(every)
    started = time.perf_counter()
    encoder = collection.encoder
    tagger = Tagger(encoder)
    added: list[str] = []
    skipped: list[str] = []
    refused: list[tuple[str, str]] = []
    n_frames: list[int] = []
    share = _INGEST_SHARE if build and not collection.built else 1.0
    with collection.writing() as writer:
        known = {info.video_id for info in collection.videos()}
        for i, path in enumerate(videos):

            def tell(fraction: float, i: int = i, name: str = path.name) -> None:
                done = share * (i + fraction) / len(videos)
                progress(Progress("ingest", name, i + 1, len(videos), done, sum(n_frames)))

            tell(0.0)
            try:
                video = describe(path, every, shots)
                if video.video_id in known and _same(collection, video):
                    writer.trust_media([video])
                    skipped.append(video.video_id)
                    continue
                frames = embed(path, encoder, tagger, every=every, shots=shots, duration=video.duration, tell=tell)
                writer.add(video, frames)
            except (VideoError, DuplicateVideo) as error:
                refused.append((str(path), str(error)))
                continue
            known.add(video.video_id)
            added.append(video.video_id)
            n_frames.append(len(frames))

        def tell_build(what: str, fraction: float) -> None:
            done = share + (1 - share) * fraction
            progress(Progress("build", what, len(videos), len(videos), done, sum(n_frames)))

        collection.settle(added=bool(added), build=build, progress=tell_build)
    progress(Progress("build", "", len(videos), len(videos), 1.0, sum(n_frames)))
    return IngestReport(tuple(added), tuple(skipped), tuple(refused), sum(n_frames), time.perf_counter() - started)


def _same(collection: Collection, video: NewVideo) -> bool:
    """Whether the stored video of this id has this content."""
    if collection.fingerprint(video.video_id) == video.fingerprint:
        return True
    raise DuplicateVideo(
        f"A video called {video.video_id!r} with other content or another sampling is stored already; "
        "delete it first or rename the file."
    )


def describe(path: Path, every: float, shots: bool) -> NewVideo:
    """What the container and the sidecar say of a video.

    Raises
    ------
    VideoError
        If the file is not a video that can be decoded.
    """
    try:
        str(path.resolve()).encode()
    except (OSError, RuntimeError) as error:
        raise VideoError(f"{path.name} is a link that leads to itself; give a video file.") from error
    except UnicodeEncodeError as error:
        raise VideoError(f"The name of {path!a} is not valid UTF-8, so it cannot be filed; rename it.") from error
    file = probe(path)
    told = _sidecar(path)
    captured_at = told.get("captured_at")
    digest = hashlib.blake2b(f"{every if not shots else 'shots'}".encode(), digest_size=16)
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    video = NewVideo(
        video_id=told.get("video_id", path.stem).strip(),
        title=bounds.one_line(told.get("title", path.stem.replace("_", " ").replace("-", " "))),
        source=str(path.resolve()),
        duration=file.duration,
        fps=file.fps,
        captured_at=None if captured_at is None else datetime.fromisoformat(captured_at).replace(tzinfo=None),
        fingerprint=digest.hexdigest(),
    )
    try:
        check_video(video)
    except ValueError as error:
        raise VideoError(f"{path.name} cannot be filed: {error}") from error
    return video


def _sidecar(path: Path) -> dict[str, str]:
    """The entry for a video in the sidecar beside it; empty if there is none."""
    sidecar = path.parent / SIDECAR
    if not os.path.lexists(sidecar):
        return {}
    try:
        told = sidecar.stat()
        found: dict[str, object] = _entries(sidecar, (told.st_mtime_ns, told.st_size)).get(path.name, {})
        if "captured_at" in found:
            datetime.fromisoformat(str(found["captured_at"]))
    except OSError as error:
        raise VideoError(f"{sidecar} cannot be read ({error.strerror}); mend or remove it.") from error
    except bounds.TooLarge as error:
        raise VideoError(str(error)) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # What it says may quote the file.
        raise VideoError(
            f"{sidecar} is not a list of entries with a file name each, or a time in it is none; mend or remove it."
        ) from error
    return {str(name): str(value) for name, value in found.items()}


@lru_cache(maxsize=1)
def _entries(sidecar: Path, _version: tuple[int, int]) -> dict[str, dict[str, object]]:
    """The entries of a sidecar by file name, the first where there are several; read once for all videos of a folder."""
    listed = json.loads(bounds.read_bounded(sidecar, bounds.MAX_TEXT_NBYTES).decode("utf-8"))
    return {entry["file"]: entry for entry in reversed(listed)}


def embed(
    path: Path,
    encoder: Encoder,
    tagger: Tagger,
    *,
    every: float,
    shots: bool,
    duration: float,
    tell: Callable[[float], None] = lambda fraction: None,
) -> FrameBatch:
    """Decode a video once and turn the sampled frames into vectors, tags and thumbnails.

    Raises
    ------
    VideoError
        If decoding fails; frames decoded before that are not returned.
    """
    vectors: list[NDArray[np.float32]] = []
    kept: list[tuple[int, float, int]] = []
    pictures: list[bytes] = []
    samples = sample(path, every=every, shots=shots)
    # Encoding runs beside decoding: both leave the interpreter, and two batches on the way bound the memory.
    with ThreadPoolExecutor(1, "encode") as worker:
        on_the_way: deque[Future[NDArray[np.float32]]] = deque()
        for batch in _batches(samples):
            on_the_way.append(worker.submit(encoder.encode_images, [each.image for each in batch]))
            pictures.extend(thumbnail(each.image) for each in batch)
            kept.extend((each.frame_index, each.seconds, each.shot) for each in batch)
            tell(min(1.0, kept[-1][1] / duration) if duration else 0.0)
            if len(on_the_way) > 1:
                vectors.append(on_the_way.popleft().result())
        vectors.extend(future.result() for future in on_the_way)
    matrix = np.concatenate(vectors)
    return FrameBatch(
        vectors=matrix,
        frame_index=np.array([index for index, _, _ in kept], np.int64),
        seconds=np.array([seconds for _, seconds, _ in kept], np.float64),
        shot=np.array([shot for _, _, shot in kept], np.int32),
        tags=tuple(tagger.tag(matrix)),
        thumbnails=tuple(pictures),
    )


def _batches(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    while batch := list(islice(samples, BATCH)):
        yield batch
