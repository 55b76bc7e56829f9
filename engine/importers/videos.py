"""Videos into a collection: decoded, embedded, tagged and stored."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.embedding import Encoder, Tagger
from engine.errors import DuplicateVideo, VideoError
from engine.importers.report import ImportReport, Triage
from engine.media import DecodeReport, Sample, check_every, encode_thumbnail, probe, sample
from engine.storage import check_video, film_facts
from engine.system import Progress, bounds, no_progress, part_of, shortage, staged
from engine.types import FrameBatch, NewVideo

_BATCH = 32
"""Frames embedded at a time."""
SIDECAR = "videos.json"
"""Beside the videos: a list of {"file", "video_id", "title", "captured_at"}, all but the first optional."""
_INGEST_SHARE = 0.85
_MOST_FOLDERS = 3
"""Folders that may become part of an id, for a name that is taken."""
_NOTABLE_LEAD = 0.5
"""Seconds of sound ahead of the picture from which that is said."""
_T = TypeVar("_T")


def ingest(
    collection: Collection,
    videos: Sequence[Path],
    *,
    every: float = 1.0,
    shots: bool = False,
    build: bool = True,
    progress: Progress = no_progress,
) -> ImportReport:
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
    triage = Triage(collection)
    encoder = collection.encoder
    tagger = Tagger(encoder)
    share = _INGEST_SHARE if build and not collection.built else 1.0
    notes: list[str] = []
    with triage as writer:
        for i, path in enumerate(videos):
            whole = part_of(progress, share * i / len(videos), share * (i + 1) / len(videos))
            of_video = staged(whole, f"ingest {path.name}")
            of_video("", 0.0, 1.0)
            with triage.refusing(str(path), VideoError, DuplicateVideo):
                video = read_video_info(path, every, shots)
                named = video.video_id
                if named == path.stem.strip():
                    video = _told_apart(video, path, triage)
                if triage.is_new(video, str(path), _why_taken):
                    decoded = DecodeReport()
                    frames = embed_video(
                        path,
                        encoder,
                        tagger,
                        every=every,
                        shots=shots,
                        duration=video.duration,
                        report=decoded,
                        progress=of_video,
                    )
                    writer.add(_with_film(video, path, decoded), frames)
                    triage.add([video], len(frames))
                    notes.extend(_notes(path, decoded))
                    if video.video_id != named:
                        notes.append(f"{path} is stored as {video.video_id}: another video is called {named}.")
        rest = part_of(progress, share, 1.0)
        triage.settle(build=build, progress=lambda stage, done, total: rest(f"build {stage}", done, total))
    progress("build", 1.0, 1.0)
    return triage.report(notes)


def _why_taken(video_id: str) -> str:
    return (
        f"A video called {video_id!r} with other content or another sampling is stored already; "
        "delete it first or rename the file."
    )


def _told_apart(video: NewVideo, path: Path, triage: Triage) -> NewVideo:
    """The video with the folders it lies in as part of its id, as far as it takes to tell it from others of its name."""
    parts = path.resolve().parts[1:-1][-_MOST_FOLDERS:]
    ids = [video.video_id, *("_".join([*parts[-n:], video.video_id]) for n in range(1, len(parts) + 1))]
    video_id = triage.free_id(video, [each for each in ids if _is_id(each)])
    return video if video_id == video.video_id else replace(video, video_id=video_id, title=_titled(video_id))


def _with_film(video: NewVideo, path: Path, decoded: DecodeReport) -> NewVideo:
    """The video with what decoding has shown, and by what its film will be known again."""
    facts = _reading(path, lambda: film_facts(path, times_corrected=decoded.times_corrected))
    return replace(video, duration=decoded.end, about=facts)


def _is_id(text: str) -> bool:
    try:
        bounds.check_id(text)
    except ValueError:
        return False
    return True


def _titled(name: str) -> str:
    return bounds.one_line(name.replace("_", " ").replace("-", " "))


def _notes(path: Path, decoded: DecodeReport) -> Iterator[str]:
    if decoded.damage:
        yield f"{path.name}: {decoded.damage}."
    if decoded.sound_lead > _NOTABLE_LEAD:
        yield f"{path.name}: its sound starts {decoded.sound_lead:.1f} s before its picture; times count from the picture."


def _reading(path: Path, read: Callable[[], _T]) -> _T:
    """What `read` returns; a file that cannot be read any more is refused like any other."""
    try:
        return read()
    except OSError as error:
        short = shortage(f"reading {path.name}", error)
        if short is not None:
            raise short from error
        raise VideoError(f"{path.name} cannot be read ({error.strerror}); check that it is still there.") from error


def read_video_info(path: Path, every: float, shots: bool) -> NewVideo:
    """A video as its container and the sidecar describe it.

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
    entry = _sidecar(path)
    captured_at = entry.get("captured_at")
    video = NewVideo(
        video_id=entry.get("video_id", path.stem).strip(),
        title=bounds.one_line(entry["title"]) if "title" in entry else _titled(path.stem),
        source=str(path.resolve()),
        duration=file.duration,
        fps=file.fps,
        captured_at=None if captured_at is None else datetime.fromisoformat(captured_at).replace(tzinfo=None),
        fingerprint=_reading(path, lambda: _fingerprint(path, every, shots)),
    )
    try:
        check_video(video)
    except ValueError as error:
        raise VideoError(f"{path.name} cannot be filed: {error}") from error
    return video


def _fingerprint(path: Path, every: float, shots: bool) -> str:
    digest = hashlib.blake2b(f"{every if not shots else 'shots'}".encode(), digest_size=16)
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sidecar(path: Path) -> dict[str, str]:
    """The entry for a video in the sidecar beside it; empty if there is none."""
    sidecar = path.parent / SIDECAR
    if not os.path.lexists(sidecar):
        return {}
    try:
        status = sidecar.stat()
        entry: dict[str, object] = _entries(sidecar, (status.st_mtime_ns, status.st_size)).get(path.name, {})
        entry = {name: value for name, value in entry.items() if value is not None}
        if "captured_at" in entry:
            datetime.fromisoformat(str(entry["captured_at"]))
    except OSError as error:
        raise VideoError(f"{sidecar} cannot be read ({error.strerror}); mend or remove it.") from error
    except bounds.TooLarge as error:
        raise VideoError(str(error)) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # What it says may quote the file.
        raise VideoError(
            f"{sidecar} is not a list of entries with a file name each, or a time in it is none; mend or remove it."
        ) from error
    return {str(name): str(value) for name, value in entry.items()}


@lru_cache(maxsize=1)
def _entries(sidecar: Path, _version: tuple[int, int]) -> dict[str, dict[str, object]]:
    """The entries of a sidecar by file name, the first where there are several; read once for all videos of a folder."""
    listed = json.loads(bounds.read_bounded(sidecar, bounds.MAX_TEXT_NBYTES).decode("utf-8"))
    return {entry["file"]: entry for entry in reversed(listed)}


def embed_video(
    path: Path,
    encoder: Encoder,
    tagger: Tagger,
    *,
    every: float,
    shots: bool,
    duration: float,
    report: DecodeReport | None = None,
    progress: Progress = no_progress,
) -> FrameBatch:
    """Decode a video once and turn the sampled frames into vectors, tags and thumbnails.

    Parameters
    ----------
    duration : seconds, as far as its header tells; only for `progress`
    report : filled while it is decoded

    Raises
    ------
    VideoError
        If decoding fails; frames decoded before that are not returned.
    """
    vectors: list[NDArray[np.float32]] = []
    places: list[tuple[int, float, int]] = []
    pictures: list[bytes] = []
    samples = sample(path, every=every, shots=shots, report=report)
    # Encoding runs beside decoding: both leave the interpreter, and two batches on the way bound the memory.
    with ThreadPoolExecutor(1, "encode") as worker:
        on_the_way: deque[Future[NDArray[np.float32]]] = deque()
        for batch in _batches(samples):
            on_the_way.append(worker.submit(encoder.encode_images, [sampled.image for sampled in batch]))
            pictures.extend(encode_thumbnail(sampled.image) for sampled in batch)
            places.extend((sampled.frame_index, sampled.seconds, sampled.shot) for sampled in batch)
            progress("embedding frames", min(1.0, places[-1][1] / duration) if duration else 0.0, 1.0)
            if len(on_the_way) > 1:
                vectors.append(on_the_way.popleft().result())
        vectors.extend(future.result() for future in on_the_way)
    if not vectors:
        raise VideoError(f"{path.name} holds no undamaged picture; copy or download it again.")
    matrix = np.concatenate(vectors)
    return FrameBatch(
        vectors=matrix,
        frame_index=np.array([index for index, _, _ in places], np.int64),
        seconds=np.array([seconds for _, seconds, _ in places], np.float64),
        shot=np.array([shot for _, _, shot in places], np.int32),
        tags=tuple(tagger.tag(matrix)),
        thumbnails=tuple(pictures),
    )


def _batches(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    while batch := list(islice(samples, _BATCH)):
        yield batch
