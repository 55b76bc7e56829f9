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
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.errors import EncoderError, VideoError
from engine.importers.aic_layout import Archive, survey
from engine.importers.vectors import ImportReport, array_header, check_rows, load_array, quiet, settle
from engine.storage import PICTURES, Progress, TagBounds, check_video, duplicate_reason, read_image
from engine.system import ROOTS, bounds, shortages, why
from engine.types import FrameBatch, NewVideo

GROUP = 65_536
"""Frames stored in one go: what is held in memory, and what a stopped import may lose."""
GROUP_NBYTES = 96 << 20
"""Bytes of features likewise."""
SURE = 0.4
"""Score from which a detected object becomes a tag; lists without scores are taken whole."""
ABOUT = ("author", "publish_date", "watch_url", "length")
"""What of the media info is kept beside the title, as text."""
Read = Callable[[Path, Any], bytes]
"""Gives what is in a file, after it has been looked at, and takes it into a fingerprint."""
_TOLD = ("title", *ABOUT)
_STORED = 0.6
_BATCH = 32
"""Keyframes embedded at a time, fewer where they are large."""
_BATCH_NBYTES = 256 << 20
_MAX_LABELS = 10_000
"""Objects in a keyframe, sure or not."""


class Unusable(Exception):
    """A video of an archive cannot be stored; the message says why."""


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
                writer.trust_media([reader.places(name)])
                skipped.append(name)
                continue
            video, frames = found
            if group and _is_full([each for _, each in group], frames):
                store()
            group.append((video, frames))
            n_frames += len(frames)
        if group:
            store()
        settle(collection, bool(added), build, _STORED, progress)
    return ImportReport(
        tuple(added),
        tuple(skipped),
        tuple(refused),
        _notes(archive),
        n_frames,
        time.perf_counter() - started,
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
        if not bounds.is_utf8(f"{name}{archive.films.get(name)}{archive.pictures.get(name)}"):
            raise Unusable("A name of its files is not valid UTF-8, so it cannot be filed; rename it.")
        if path is None:
            raise Unusable(f"There is no map-keyframes/{name}.csv, so the times of its keyframes are not known.")
        places = self.places(name)
        digest = hashlib.blake2b(digest_size=16)
        seconds, frame_index, fps = _keyframes(path, self._bytes(path, digest))
        images: list[Path] = []
        features = archive.features.get(name)
        if features is not None:
            self._look(features, len(seconds))
            vectors = _features(features, self._bytes(features, digest, bounds.MAX_FEATURES_NBYTES))
            self._check(vectors, len(seconds))
        else:
            images = self._images(name, len(seconds))
            for image in images:
                self._bytes(image, digest, bounds.MAX_IMAGE_NBYTES)
        tags = self._tags(archive.objects.get(name), len(seconds), digest)
        if stored == digest.hexdigest():
            return None
        if stored:
            raise Unusable(duplicate_reason(name))
        if features is None:
            vectors = self._embed(images)
        about = _info(archive.infos[name], self._bytes) if name in archive.infos else {}
        video = NewVideo(
            name,
            title=bounds.one_line(about.get("title", "")),
            source=places.source,
            duration=_number(about.get("length", "")),
            fps=fps,
            fingerprint=digest.hexdigest(),
            pictures=places.pictures,
            about={key: bounds.one_line(about[key]) for key in ABOUT if about.get(key)},
        )
        try:
            check_video(video)
            TagBounds().check(tags)
        except ValueError as error:
            raise Unusable(str(error)) from error
        return video, FrameBatch(vectors, frame_index, seconds, tags=tags)

    def places(self, name: str) -> NewVideo:
        """Where the film and the keyframes of a video lie.

        Raises
        ------
        Unusable
            If a link leads out of the archive to them, or the film is no file.
        """
        film, pictures = self._archive.films.get(name), self._archive.pictures.get(name)
        for path in filter(None, (film, pictures)):
            self._stays(path)
        if film is not None and not film.is_file():
            raise Unusable(f"{film.name} is not a file; put the film in its place, or remove it.")
        return NewVideo(name, source=_place(film), pictures=_place(pictures))

    def _stays(self, path: Path) -> None:
        """Raise `Unusable` if a link leads out of the archive: what lies there is not the archive's to show."""
        if not self._archive.holds(path):
            raise Unusable(
                f"{path.name} in {path.parent.name} leads out of the archive by a link; put it there itself, or name the folder "
                f"that it leads to in {ROOTS}."
            )

    def _bytes(self, path: Path, digest: Any, most: int | None = None) -> bytes:
        """What is in a file of at most so many bytes, which also goes into the fingerprint."""
        self._stays(path)
        try:
            with shortages(f"reading {path.name}"):
                content = bounds.read_bounded(path, bounds.MAX_TEXT_NBYTES if most is None else most)
        except OSError as error:
            raise Unusable(f"{path} cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise Unusable(str(error)) from error
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
        return content

    def _look(self, path: Path, n: int) -> None:
        """Compare what the header of features says with the size of the file, the keyframes and the collection, before it is read."""
        self._stays(path)
        try:
            bounds.check_is_file(path)
            shape, nbytes = array_header(path)
        except ValueError as error:
            raise Unusable(f"{path} cannot be read as features ({error}).") from error
        if len(shape) == 2:
            self._fits(shape[0], shape[1], n)
        if nbytes != path.stat().st_size:
            raise Unusable(
                f"{path} cannot be read as features (its header tells of {nbytes:,} bytes, and it has {path.stat().st_size:,})."
            )

    def _tags(self, path: Path | None, n: int, digest: Any) -> tuple[tuple[str, ...], ...]:
        """Tags per keyframe; objects of keyframes that the map does not have are passed over."""
        tags: list[tuple[str, ...]] = [()] * n
        if path is not None:
            self._stays(path)
            for number, found in _objects(path, n, digest, self._bytes):
                tags[number - 1] = tuple(dict.fromkeys(found))
        return tuple(tags)

    def _fits(self, n_rows: int, dim: int, n: int) -> None:
        if n_rows != n:
            raise Unusable(f"There are {n_rows} rows of features and {n} keyframes in the map; they must go together.")
        if dim != self._settings.dim:
            raise Unusable(f"Its features are rows of {dim} numbers; this collection stores {self._settings.dim}.")

    def _check(self, vectors: NDArray[np.floating], n: int) -> None:
        """Raise `Unusable` unless these are n rows of features that can be stored."""
        settings = self._settings
        self._fits(vectors.shape[0], vectors.shape[1], n)
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
        some: list[NDArray[np.uint8]] = []
        for i, path in enumerate(images, 1):
            try:
                some.append(read_image(path))
            except VideoError as error:
                raise Unusable(str(error)) from error
            if len(some) == _BATCH or sum(image.nbytes for image in some) > _BATCH_NBYTES or i == len(images):
                vectors.append(encoder.encode_images(some))
                some.clear()
        return np.concatenate(vectors)


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
    times, places, counts, fps = array("d"), array("q"), True, 0.0
    try:
        # Of each line no more is kept than its numbers.
        for n, row in enumerate(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))), 1):
            counts = counts and int(row["n"]) == n
            times.append(float(row["pts_time"]))
            places.append(int(float(row["frame_idx"])))
            if n == 1 and row.get("fps"):
                fps = float(row["fps"])
    except KeyError as error:
        raise Unusable(f"{path} has no column {error}; a keyframe map has n, pts_time, fps and frame_idx.") from error
    except (ValueError, TypeError, OverflowError, csv.Error) as error:  # It may quote what is no keyframe map at all.
        raise Unusable(
            f"{path} cannot be read as a keyframe map; it needs a number in each column of each line."
        ) from error
    if not times:
        raise Unusable(f"{path} names no keyframes.")
    if not counts:
        raise Unusable(f"The column n of {path} does not count 1 to {len(times)}.")
    seconds, frame_index = np.array(times, np.float64), np.array(places, np.int64)
    if not (np.isfinite(seconds).all() and (seconds >= 0).all() and (frame_index >= 0).all()):
        raise Unusable(f"{path} holds a time or a frame that is negative or not a number.")
    if seconds.max() > bounds.MAX_SECONDS:
        raise Unusable(f"{path} holds a time of more than thirty years.")
    return seconds, frame_index, fps if math.isfinite(fps) and fps > 0 else 0.0


def _objects(path: Path, n: int, digest: Any, read: Read) -> Iterator[tuple[int, list[str]]]:
    """Number of the keyframe, 1 to n, and tags, from one file for all keyframes or a folder with a file for each."""
    if path.is_dir():
        for file in sorted(path.glob("*.json")):
            if _is_number(file.stem):
                digest.update(file.stem.encode())
                told = _json(file, read(file, digest))
                if 1 <= int(file.stem) <= n:
                    yield int(file.stem), _labels(file, told)
        return
    told = _json(path, read(path, digest))
    if not isinstance(told, dict) or not all(_is_number(key) for key in told):
        raise Unusable(f"{path} does not list objects by the number of the keyframe.")
    for key, value in told.items():
        if 1 <= int(key) <= n:
            yield int(key), _labels(path, value)


def _labels(path: Path, value: object) -> list[str]:
    """Tags for a list of labels, or for labels with scores."""
    labels, scores = value, None
    if isinstance(value, dict):
        labels, scores = value.get("detection_class_entities"), value.get("detection_scores")
    try:
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise Unusable(f"{path} does not list objects (no list of labels).")
        if len(labels) > _MAX_LABELS:
            raise Unusable(f"{path} does not list objects (more than {_MAX_LABELS:,} labels).")
        if not bounds.is_utf8("".join(labels)):
            raise Unusable(f"{path} does not list objects (a label is not valid text).")
        if scores is not None:
            labels = [label for label, score in zip(labels, scores, strict=True) if float(score) >= SURE]
    except (ValueError, TypeError) as error:
        raise Unusable(f"{path} does not list objects, or not a score for each ({why(error)}).") from error
    return [f"object:{'_'.join(label.lower().split())}" for label in labels if label.strip()]


def _info(path: Path, read: Read) -> dict[str, str]:
    """The media info as text: what is neither text nor a number is left out."""
    told = _json(path, read(path, hashlib.blake2b()))
    if not isinstance(told, dict):
        raise Unusable(f"{path} does not hold one object of media info.")
    texts = {
        str(key): str(value) for key, value in told.items() if key in _TOLD and isinstance(value, str | int | float)
    }
    if not bounds.is_utf8("".join(texts.values())):
        raise Unusable(f"{path} holds text that is not valid.")
    return texts


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{path} is not valid JSON ({why(error)}).") from error


def _is_utf8(*texts: object) -> bool:
    """Whether all of them can be stored: names of files need not be UTF-8."""
    return bounds.is_utf8("".join(str(text) for text in texts))


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
