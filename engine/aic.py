"""Archives in the AI Challenge layout into a collection: features, keyframe maps, media info and detected objects.

clip-features-32/L01_V001.npy    (n, dim) in keyframe order; any folder called clip-features*
map-keyframes/L01_V001.csv       n, pts_time, fps, frame_idx; n counts from 1
media-info/L01_V001.json         optional: title, author, publish_date, length, watch_url
objects/L01_V001.json            optional: {"001": ["Boat", ...]}, or objects/L01_V001/001.json with
                                 detection_class_entities and detection_scores
keyframes/L01_V001/001.jpg       optional, as are further folders above, such as keyframes/Keyframes_L01/
video/L01_V001.mp4               optional, likewise
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.build import Progress
from engine.collection import Collection
from engine.durable import shortages
from engine.errors import EncoderError, VideoError
from engine.media import PICTURES, read_image
from engine.tables import ImportReport, check_rows, load_array, open_vectors, quiet, settle
from engine.types import FrameBatch, NewVideo
from engine.writer import taken

GROUP = 65_536
"""Frames stored in one go: what is held in memory, and what a stopped import may lose."""
GROUP_NBYTES = 96 << 20
"""Bytes of features likewise."""
SURE = 0.4
"""Score from which a detected object becomes a tag; lists without scores are taken whole."""
ABOUT = ("author", "publish_date", "watch_url", "length")
"""What of the media info is kept beside the title, as text."""
_STORED = 0.6
_BATCH = 32
"""Keyframes embedded at a time."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where the files of an archive are, by video."""

    folder: Path
    features: Mapping[str, Path]
    maps: Mapping[str, Path]
    infos: Mapping[str, Path] = field(default_factory=dict)
    objects: Mapping[str, Path] = field(default_factory=dict)
    """A file or a folder per video."""
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """A folder per video."""
    films: Mapping[str, Path] = field(default_factory=dict)

    def videos(self) -> list[str]:
        """Videos with features or a keyframe map, sorted."""
        return sorted({*self.features, *self.maps})

    def dim(self) -> int | None:
        """Length of the vectors, from the first feature file that can be read; None without any."""
        for path in self.features.values():
            try:
                return int(open_vectors(path).shape[1])
            except ValueError:
                continue
        return None


class Unusable(Exception):
    """A video of an archive cannot be stored; the message says why."""


def survey(folder: Path, features: Path | None = None) -> Archive:
    """Find the files of an archive by their names; nothing is read.

    Parameters
    ----------
    features : folder with the features; None looks for one called clip-features*

    Raises
    ------
    ValueError
        If there is no such folder, it holds neither features nor keyframe maps, or several folders of features.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    if features is None:
        found = sorted(path for path in folder.glob("clip-features*") if path.is_dir())
        if len(found) > 1:
            raise ValueError(
                f"{folder} has several folders of features ({', '.join(path.name for path in found)}); say which one with --features."
            )
        features = found[0] if found else None
    elif not features.is_dir():
        raise ValueError(f"There is no folder {features} with features.")
    vectors = _files([features] if features else [], ".npy")
    maps = _files([folder / "map-keyframes"], ".csv")
    if not vectors and not maps:
        raise ValueError(
            f"{folder} is not an archive in the AI Challenge layout: it has neither clip-features*/<video>.npy nor map-keyframes/<video>.csv."
        )
    known = {*vectors, *maps}
    objects = folder / "objects"
    return Archive(
        folder=folder,
        features=vectors,
        maps=maps,
        infos=_files([folder / "media-info"], ".json"),
        objects=_folders([objects], known) | {path.stem: path for path in sorted(objects.glob("*.json"))},
        pictures=_folders(_named(folder, "keyframes"), known),
        films=_files(_named(folder, "video"), ".mp4"),
    )


def _named(folder: Path, start: str) -> list[Path]:
    """Folders whose name starts so, whatever the case."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower().startswith(start))


def _files(folders: list[Path], suffix: str) -> dict[str, Path]:
    """Files with this ending below some folders, by their stem."""
    found = sorted(path for folder in folders for path in folder.rglob(f"*{suffix}") if path.is_file())
    return {path.stem: path for path in found if not path.name.startswith(".")}


def _folders(above: list[Path], names: set[str]) -> dict[str, Path]:
    """Folders of these names below some folders; what is inside them is not looked at."""
    found: dict[str, Path] = {}
    for folder in above:
        for place, inside, _ in os.walk(folder):
            found |= {name: Path(place) / name for name in inside if name in names}
            inside[:] = sorted(name for name in inside if name not in names)
    return found


def import_aic(
    collection: Collection, archive: Archive | Path, *, build: bool = True, progress: Progress = quiet
) -> ImportReport:
    """Store the keyframes of an archive. A video whose files are missing or broken is named, and the others go in.

    Videos are stored in groups of at most `GROUP` frames, so an import that was stopped goes on where it was: a video
    that is in already with the same features, map and objects is skipped. One without features is embedded from its
    keyframe images if there are any and the collection's encoder can be loaded, else named.

    Objects become tags such as `object:human_face`; those with a score under `SURE` are left out.

    Parameters
    ----------
    archive : a folder, or what `survey` found in it
    build : build at the end if the collection has not been built yet

    Raises
    ------
    ValueError
        If the folder is not such an archive.
    Busy
        If somebody else is writing.
    """
    started = time.perf_counter()
    if isinstance(archive, Path):
        archive = survey(archive)
    added: list[str] = []
    skipped: list[str] = []
    refused: list[tuple[str, str]] = []
    group: list[tuple[NewVideo, FrameBatch]] = []
    n_frames = 0
    names = archive.videos()
    with collection.writing() as writer:
        reader = _Reader(collection, archive)
        stored = {info.video_id for info in collection.videos()}

        def store() -> None:
            writer.store([video for video, _ in group], [_joined([frames for _, frames in group])])
            added.extend(video.video_id for video, _ in group)
            group.clear()

        for i, name in enumerate(names):
            progress(f"reading {name}", _STORED * i / len(names))
            try:
                with shortages(f"reading {name}"):
                    found = reader.read(name, collection.fingerprint(name) if name in stored else "")
            except (Unusable, OSError) as error:
                refused.append((name, str(error)))
                continue
            if found is None:
                skipped.append(name)
                continue
            video, frames = found
            if group and _is_full([each for _, each in group], frames):
                store()
            group.append((video, frames))
            n_frames += len(frames)
        if group:
            store()
        settle(writer, bool(added), build, _STORED, progress)
    return ImportReport(
        tuple(added), tuple(skipped), tuple(refused), _notes(archive), n_frames, time.perf_counter() - started
    )


def _is_full(held: list[FrameBatch], more: FrameBatch) -> bool:
    """Whether these frames are too many for one go, or take too much memory."""
    parts = [*held, more]
    return sum(map(len, parts)) > GROUP or sum(part.vectors.nbytes for part in parts) > GROUP_NBYTES


def _joined(parts: list[FrameBatch]) -> FrameBatch:
    """The frames of some videos, one after the other."""
    return FrameBatch(
        vectors=np.concatenate([part.vectors for part in parts]),
        frame_index=np.concatenate([part.frame_index for part in parts]),
        seconds=np.concatenate([part.seconds for part in parts]),
        video=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts]),
        tags=tuple(tags for part in parts for tags in part.tags),
    )


def _notes(archive: Archive) -> tuple[str, ...]:
    """Files that belong to no video with features or a map."""
    known = set(archive.videos())
    notes = []
    for what, files in (("media-info", archive.infos), ("objects", archive.objects), ("video", archive.films)):
        spare = sorted(set(files) - known)
        if spare:
            notes.append(
                f"{what}: {len(spare)} without features or keyframe map were left out, such as {files[spare[0]].name}."
            )
    return tuple(notes)


class _Reader:
    """Reads one video of an archive after the other."""

    def __init__(self, collection: Collection, archive: Archive) -> None:
        self._collection = collection
        self._archive = archive
        self._settings = collection.settings

    def read(self, name: str, stored: str) -> tuple[NewVideo, FrameBatch] | None:
        """A video and its keyframes; None if its content is the one stored.

        Parameters
        ----------
        stored : fingerprint of the stored video of this name; empty if there is none

        Raises
        ------
        Unusable
            If one of its files is missing or broken, or other content is stored under its name.
        """
        archive = self._archive
        path = archive.maps.get(name)
        if not _is_utf8(name, archive.films.get(name), archive.pictures.get(name)):
            raise Unusable("A name of its files is not valid UTF-8, so it cannot be filed; rename it.")
        if path is None:
            raise Unusable(f"There is no map-keyframes/{name}.csv, so the times of its keyframes are not known.")
        digest = hashlib.blake2b(digest_size=16)
        seconds, frame_index, fps = _keyframes(path, _bytes(path, digest))
        images: list[Path] = []
        features = archive.features.get(name)
        if features is not None:
            vectors = _features(features, _bytes(features, digest))
            self._check(vectors, len(seconds))
        else:
            images = self._images(name, len(seconds))
            for image in images:
                _bytes(image, digest)
        tags = _tags(archive.objects.get(name), len(seconds), digest)
        if stored == digest.hexdigest():
            return None
        if stored:
            raise Unusable(taken(name))
        if features is None:
            vectors = self._embed(images)
        about = _info(archive.infos[name]) if name in archive.infos else {}
        video = NewVideo(
            name,
            title=about.get("title", ""),
            source=_place(archive.films.get(name)),
            duration=_number(about.get("length", "")),
            fps=fps,
            fingerprint=digest.hexdigest(),
            pictures=_place(archive.pictures.get(name)),
            about={key: about[key] for key in ABOUT if about.get(key)},
        )
        return video, FrameBatch(vectors, frame_index, seconds, tags=tags)

    def _check(self, vectors: NDArray[np.floating], n: int) -> None:
        """Raise `Unusable` unless these are n rows of features that can be stored."""
        settings = self._settings
        if len(vectors) != n:
            raise Unusable(
                f"There are {len(vectors)} rows of features and {n} keyframes in the map; they must go together."
            )
        if vectors.shape[1] != settings.dim:
            raise Unusable(
                f"Its features are rows of {vectors.shape[1]} numbers; this collection stores {settings.dim}."
            )
        try:
            check_rows(vectors, settings.metric, settings.store, "its features")
        except ValueError as error:
            raise Unusable(str(error)) from error

    def _images(self, name: str, n: int) -> list[Path]:
        """The keyframe images of a video without features, in order."""
        folder = self._archive.pictures.get(name)
        if folder is None:
            raise Unusable("It has a keyframe map and neither features nor keyframe images.")
        images = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and _is_number(path.stem))
        images.sort(key=lambda path: int(path.stem))
        if [int(path.stem) for path in images] != list(range(1, n + 1)):
            raise Unusable(
                f"It has no features, and its {len(images)} keyframe images are not numbered 1 to {n} as in its map."
            )
        return images

    def _embed(self, images: list[Path]) -> NDArray[np.float32]:
        try:
            encoder = self._collection.encoder
        except EncoderError as error:
            raise Unusable(f"It has no features, and its keyframe images cannot be embedded: {error}") from error
        vectors = []
        for start in range(0, len(images), _BATCH):
            try:
                some = [read_image(path) for path in images[start : start + _BATCH]]
                vectors.append(encoder.encode_images(some))
            except VideoError as error:
                raise Unusable(str(error)) from error
        return np.concatenate(vectors)


def _bytes(path: Path, digest: Any) -> bytes:
    """What is in a file, which also goes into the fingerprint."""
    try:
        with shortages(f"reading {path.name}"):
            content = path.read_bytes()
    except OSError as error:
        raise Unusable(f"{path} cannot be read ({error.strerror}).") from error
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)
    return content


def _features(path: Path, content: bytes) -> NDArray[np.floating]:
    try:
        vectors: NDArray[np.floating] = load_array(io.BytesIO(content), path, "features")
    except ValueError as error:
        raise Unusable(str(error)) from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise Unusable(f"{path} cannot be read as features (not rows of floating-point numbers).")
    return vectors


def _keyframes(path: Path, content: bytes) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Seconds (n,), frame index (n,) and frames per second of a keyframe map."""
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
        numbers = [int(row["n"]) for row in rows]
        seconds = np.array([float(row["pts_time"]) for row in rows], np.float64)
        frame_index = np.array([int(float(row["frame_idx"])) for row in rows], np.int64)
        fps = float(rows[0]["fps"]) if rows and rows[0].get("fps") else 0.0
    except KeyError as error:
        raise Unusable(f"{path} has no column {error}; a keyframe map has n, pts_time, fps and frame_idx.") from error
    except (ValueError, TypeError, OverflowError, csv.Error) as error:
        raise Unusable(f"{path} cannot be read as a keyframe map ({error}).") from error
    if not rows:
        raise Unusable(f"{path} names no keyframes.")
    if numbers != list(range(1, len(rows) + 1)):
        raise Unusable(f"The column n of {path} does not count 1 to {len(rows)}.")
    if not (np.isfinite(seconds).all() and (seconds >= 0).all() and (frame_index >= 0).all()):
        raise Unusable(f"{path} holds a time or a frame that is negative or not a number.")
    return seconds, frame_index, fps if math.isfinite(fps) and fps > 0 else 0.0


def _tags(path: Path | None, n: int, digest: Any) -> tuple[tuple[str, ...], ...]:
    """Tags per keyframe; objects of keyframes that the map does not have are passed over."""
    tags: list[tuple[str, ...]] = [()] * n
    for number, found in _objects(path, digest) if path is not None else ():
        if 1 <= number <= n:
            tags[number - 1] = tuple(dict.fromkeys(found))
    return tuple(tags)


def _objects(path: Path, digest: Any) -> Iterator[tuple[int, list[str]]]:
    """Number of the keyframe and tags, from one file for all keyframes or a folder with a file for each."""
    if path.is_dir():
        for file in sorted(path.glob("*.json")):
            if _is_number(file.stem):
                digest.update(file.stem.encode())
                yield int(file.stem), _labels(file, _json(file, _bytes(file, digest)))
        return
    told = _json(path, _bytes(path, digest))
    if not isinstance(told, dict) or not all(_is_number(key) for key in told):
        raise Unusable(f"{path} does not list objects by the number of the keyframe.")
    for key, value in told.items():
        yield int(key), _labels(path, value)


def _labels(path: Path, value: object) -> list[str]:
    """Tags for a list of labels, or for labels with scores."""
    labels, scores = value, None
    if isinstance(value, dict):
        labels, scores = value.get("detection_class_entities"), value.get("detection_scores")
    try:
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("no list of labels")
        if not _is_utf8(*labels):
            raise ValueError("a label is not valid text")
        if scores is not None:
            labels = [label for label, score in zip(labels, scores, strict=True) if float(score) >= SURE]
    except (ValueError, TypeError) as error:
        raise Unusable(f"{path} does not list objects, or not a score for each ({error}).") from error
    return [f"object:{'_'.join(label.lower().split())}" for label in labels if label.strip()]


def _info(path: Path) -> dict[str, str]:
    """The media info as text: what is neither text nor a number is left out."""
    told = _json(path, _bytes(path, hashlib.blake2b()))
    if not isinstance(told, dict):
        raise Unusable(f"{path} does not hold one object of media info.")
    texts = {str(key): str(value) for key, value in told.items() if isinstance(value, str | int | float)}
    if not _is_utf8(*texts.values()):
        raise Unusable(f"{path} holds text that is not valid.")
    return texts


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{path} is not valid JSON ({error}).") from error


def _is_utf8(*texts: object) -> bool:
    """Whether all of them can be stored: names of files need not be UTF-8, and JSON may hold halves of characters."""
    try:
        "".join(str(text) for text in texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(text: str) -> bool:
    """Whether it is the number of a keyframe, such as 001."""
    return text.isdecimal() and len(text) < 10


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value >= 0 else 0.0


def _place(path: Path | None) -> str:
    return "" if path is None else str(path.resolve())
