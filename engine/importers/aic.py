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

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.errors import EncoderError, VideoError
from engine.importers.aic_files import (
    MEDIA_INFO_KEYS,
    Unusable,
    is_keyframe_number,
    parse_features,
    parse_keyframes,
    parse_media_info,
    positive_number,
    read_object_tags,
)
from engine.importers.aic_layout import Archive, survey
from engine.importers.report import ImportReport, Triage
from engine.storage import PICTURES, TagBounds, check_video, read_image
from engine.system import ROOTS_VARIABLE, Progress, bounds, no_progress, part_of, shortages
from engine.types import FrameBatch, NewVideo
from engine.vectors import check_rows, npy_header

GROUP = 65_536
"""Frames stored in one go: what is held in memory, and what a stopped import may lose."""
GROUP_NBYTES = 96 << 20
"""Bytes of features likewise."""
_STORED = 0.6
_BATCH = 32
"""Keyframes embedded at a time, fewer where they are large."""
_BATCH_NBYTES = 256 << 20


def import_aic(
    collection: Collection, archive: Archive | Path, *, build: bool = True, progress: Progress = no_progress
) -> ImportReport:
    """Store the keyframes of an archive. A video whose files are missing or broken is named, and the others go in.

    Videos are stored in groups of at most `GROUP` frames, so an import that was stopped goes on where it was: a video
    that is in already with the same features, map and objects is skipped. One without features is embedded from its
    keyframe images if there are any and the collection's encoder can be loaded, else named.

    Objects become tags such as `object:human_face`; those with a score under `MIN_OBJECT_SCORE` are left out.

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
    triage = Triage(collection)
    if isinstance(archive, Path):
        archive = survey(archive)
    with triage as writer:
        for group in _groups(collection, archive, triage, part_of(progress, 0.0, _STORED)):
            videos = [video for video, _ in group]
            frames = _joined([frames for _, frames in group])
            writer.store(videos, [frames])
            triage.add(videos, len(frames))
        triage.settle(build=build, progress=part_of(progress, _STORED, 1.0))
    progress("done", 1.0, 1.0)
    return triage.report(_notes(archive))


def _groups(
    collection: Collection, archive: Archive, triage: Triage, progress: Progress
) -> Iterator[list[tuple[NewVideo, FrameBatch]]]:
    """The new videos of an archive, as many together as are stored in one go."""
    group: list[tuple[NewVideo, FrameBatch]] = []
    names = archive.videos()
    for i, name in enumerate(names):
        progress(f"reading {name}", i, len(names))
        video = None
        with triage.refusing(name, Unusable, OSError), shortages(f"reading {name}"):
            video = _VideoReader(collection, archive, name).read(triage)
        if video is None:
            continue
        if group and _is_full([frames for _, frames in group], video[1]):
            yield group
            group = []
        group.append(video)
    if group:
        yield group


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


class _VideoReader:
    """Reads the files of one video of an archive, and hashes those that make up its content."""

    def __init__(self, collection: Collection, archive: Archive, name: str) -> None:
        self._collection = collection
        self._archive = archive
        self._name = name
        self._digest = hashlib.blake2b(digest_size=16)

    def read(self, triage: Triage) -> tuple[NewVideo, FrameBatch] | None:
        """The video and its keyframes; None if it is not new.

        Raises
        ------
        Unusable
            If one of its files is missing or broken.
        """
        archive, name = self._archive, self._name
        path = archive.maps.get(name)
        if not bounds.is_utf8(f"{name}{archive.films.get(name)}{archive.pictures.get(name)}"):
            raise Unusable("A name of its files is not valid UTF-8, so it cannot be filed; rename it.")
        if path is None:
            raise Unusable(f"There is no map-keyframes/{name}.csv, so the times of its keyframes are not known.")
        video = self._places()
        keyframes = parse_keyframes(path, self._bytes(path))
        n = len(keyframes)
        features = archive.features.get(name)
        images: list[Path] = []
        if features is not None:
            vectors = self._features(features, n)
        else:
            images = self._images(n)
            for image in images:
                self._bytes(image, bounds.MAX_IMAGE_NBYTES)
        tags = self._tags(n)
        video = replace(video, fps=keyframes.fps, fingerprint=self._digest.hexdigest())
        if not triage.is_new(video):
            return None
        if features is None:
            vectors = self._embed(images)
        video = self._with_media_info(video)
        try:
            check_video(video)
            TagBounds().check(tags)
        except ValueError as error:
            raise Unusable(str(error)) from error
        return video, FrameBatch(vectors, keyframes.frame_index, keyframes.seconds, tags=tags)

    def _places(self) -> NewVideo:
        """The video with where its film and its keyframes lie.

        Raises
        ------
        Unusable
            If a link leads out of the archive to them, or the film is no file.
        """
        film, pictures = self._archive.films.get(self._name), self._archive.pictures.get(self._name)
        for path in filter(None, (film, pictures)):
            self._check_inside(path)
        if film is not None and not film.is_file():
            raise Unusable(f"{film.name} is not a file; put the film in its place, or remove it.")
        source, folder = ("" if path is None else str(path.resolve()) for path in (film, pictures))
        return NewVideo(self._name, source=source, pictures=folder)

    def _check_inside(self, path: Path) -> None:
        """Raise `Unusable` if a link leads out of the archive: what lies there is not the archive's to show."""
        if not self._archive.holds(path):
            raise Unusable(
                f"{path.name} in {path.parent.name} leads out of the archive by a link; put it there itself, or name the folder "
                f"that it leads to in {ROOTS_VARIABLE}."
            )

    def _bytes(self, path: Path, most: int | None = None) -> bytes:
        """What is in a file of at most so many bytes, which also goes into the fingerprint."""
        self._check_inside(path)
        try:
            with shortages(f"reading {path.name}"):
                content = bounds.read_bounded(path, bounds.MAX_TEXT_NBYTES if most is None else most)
        except OSError as error:
            raise Unusable(f"{path} cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise Unusable(str(error)) from error
        self._digest.update(len(content).to_bytes(8, "little"))
        self._digest.update(content)
        return content

    def _features(self, path: Path, n: int) -> NDArray[np.floating]:
        """(n, dim) features that can be stored; before they are read, what their header says is compared with the file."""
        self._check_inside(path)
        try:
            bounds.check_is_file(path)
            shape, nbytes = npy_header(path)
        except ValueError as error:
            raise Unusable(f"{path} cannot be read as features ({error}).") from error
        if len(shape) == 2:
            self._check_shape(shape[0], shape[1], n)
        if nbytes != path.stat().st_size:
            raise Unusable(
                f"{path} cannot be read as features (its header tells of {nbytes:,} bytes, and it has {path.stat().st_size:,})."
            )
        vectors = parse_features(path, self._bytes(path, bounds.MAX_FEATURES_NBYTES))
        self._check_shape(vectors.shape[0], vectors.shape[1], n)
        settings = self._collection.settings
        try:
            check_rows(vectors, settings.metric, settings.store, "its features")
        except ValueError as error:
            raise Unusable(str(error)) from error
        return vectors

    def _check_shape(self, n_rows: int, dim: int, n: int) -> None:
        if n_rows != n:
            raise Unusable(f"There are {n_rows} rows of features and {n} keyframes in the map; they must go together.")
        if dim != self._collection.settings.dim:
            raise Unusable(
                f"Its features are rows of {dim} numbers; this collection stores {self._collection.settings.dim}."
            )

    def _tags(self, n: int) -> tuple[tuple[str, ...], ...]:
        """Tags per keyframe (n,)."""
        path = self._archive.objects.get(self._name)
        if path is None:
            return ((),) * n
        self._check_inside(path)
        return read_object_tags(path, n, self._bytes, self._digest.update)

    def _images(self, n: int) -> list[Path]:
        """The n keyframe images of a video without features, in order."""
        folder = self._archive.pictures.get(self._name)
        if folder is None:
            raise Unusable("It has a keyframe map and neither features nor keyframe images.")
        images = sorted(
            path for path in folder.iterdir() if path.suffix.lower() in PICTURES and is_keyframe_number(path.stem)
        )
        images.sort(key=lambda path: int(path.stem))
        if [int(path.stem) for path in images] != list(range(1, n + 1)):
            raise Unusable(
                f"It has no features, and its {len(images)} keyframe images are not numbered 1 to {n} as in its map."
            )
        return images

    def _embed(self, images: list[Path]) -> NDArray[np.float32]:
        """(n, dim) vectors of keyframe images."""
        try:
            encoder = self._collection.encoder
        except EncoderError as error:
            raise Unusable(f"It has no features, and its keyframe images cannot be embedded: {error}") from error
        vectors = []
        batch: list[NDArray[np.uint8]] = []
        for i, path in enumerate(images, 1):
            try:
                batch.append(read_image(path))
            except VideoError as error:
                raise Unusable(str(error)) from error
            if len(batch) == _BATCH or sum(image.nbytes for image in batch) > _BATCH_NBYTES or i == len(images):
                vectors.append(encoder.encode_images(batch))
                batch.clear()
        return np.concatenate(vectors)

    def _with_media_info(self, video: NewVideo) -> NewVideo:
        path = self._archive.infos.get(self._name)
        if path is None:
            return video
        info = parse_media_info(path, self._bytes(path))
        return replace(
            video,
            title=bounds.one_line(info.get("title", "")),
            duration=positive_number(info.get("length", "")),
            about={key: bounds.one_line(info[key]) for key in MEDIA_INFO_KEYS if info.get(key)},
        )
