"""Archives in the AI Challenge layout into a collection: features, keyframe maps, media info and detected objects.

clip-features-32/L01_V001.npy    (n, dim) in keyframe order
map-keyframes/L01_V001.csv       n, pts_time, fps, frame_idx; n counts from 1
media-info/L01_V001.json         optional: title, author, publish_date, length, watch_url
objects/L01_V001.json            optional: {"001": ["Boat", ...]}, or objects/L01_V001/001.json with
                                 detection_class_entities and detection_scores
keyframes/L01_V001/001.jpg       optional; numbered from 1, from 0 or by frame_idx
video/L01_V001.mp4               optional

Folders may be called otherwise, lie further down and come several times: what is in them counts, see `aic_layout`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.errors import EncoderError, VideoError
from engine.importers.aic_files import (
    MEDIA_INFO_KEYS,
    Keyframes,
    Unusable,
    length_in_seconds,
    parse_features,
    parse_keyframes,
    parse_media_info,
    read_object_tags,
)
from engine.importers.aic_layout import Archive, survey
from engine.importers.report import ImportReport, Triage
from engine.media import probe
from engine.storage import (
    TagBounds,
    Writer,
    check_video,
    keyframe_images,
    keyframe_numbers,
    numbered_images,
    read_image,
)
from engine.system import ROOTS_VARIABLE, Progress, bounds, no_progress, part_of, shortages
from engine.types import FrameBatch, NewVideo
from engine.vectors import check_rows, npy_header

GROUP = 65_536
"""Frames stored in one go: what is held in memory, and what a stopped import may lose."""
GROUP_NBYTES = 96 << 20
"""Bytes of features likewise."""
_STORED = 0.6
_FPS = 25.0
"""Frames a second of all videos of 2022, whose maps name no times."""
_GAP = 1.0
"""Seconds by which times and frames of a map may differ before a note says so."""
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
    oddities = _Oddities()
    with triage as writer:
        for group in _groups(collection, archive, triage, oddities, part_of(progress, 0.0, _STORED)):
            _store(writer, triage, group)
        triage.settle(build=build, progress=part_of(progress, _STORED, 1.0))
    progress("done", 1.0, 1.0)
    return replace(triage.report((*_notes(archive), *oddities.notes())), found=archive.found)


def _store(writer: Writer, triage: Triage, group: list[tuple[NewVideo, FrameBatch]]) -> None:
    """Store some videos together or, where one of them does not fit, one by one, so that only that one is refused."""
    videos = [video for video, _ in group]
    frames = _joined([frames for _, frames in group])
    try:
        writer.store(videos, [frames])
    except ValueError as error:
        if len(group) == 1:
            triage.refuse(videos[0].video_id, str(error))
            return
        for one in group:
            _store(writer, triage, [one])
    else:
        triage.add(videos, len(frames))


def _groups(
    collection: Collection, archive: Archive, triage: Triage, oddities: _Oddities, progress: Progress
) -> Iterator[list[tuple[NewVideo, FrameBatch]]]:
    """The new videos of an archive, as many together as are stored in one go."""
    group: list[tuple[NewVideo, FrameBatch]] = []
    names = archive.videos()
    for i, name in enumerate(names):
        progress(f"reading the frames of the video {name}, {i + 1:,} of {len(names):,}", i, len(names))
        video = None
        with triage.refusing(name, Unusable, OSError), shortages(f"reading {name}"):
            video = _VideoReader(collection, archive, name, oddities).read(triage)
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


class _Oddities:
    """What is said about videos that are stored all the same: one note for those of a kind."""

    def __init__(self) -> None:
        self._videos: dict[str, list[str]] = {}

    def add(self, what: str, video: str) -> None:
        """Note something, a sentence in which `{}` stands for the videos."""
        self._videos.setdefault(what, []).append(video)

    def notes(self) -> list[str]:
        """A sentence for each kind."""
        return [
            what.format(names[0] if len(names) == 1 else f"{len(names):,} videos, such as {names[0]},")
            for what, names in self._videos.items()
        ]


_UNNUMBERED = "The keyframe images of {} are not shown: their numbers are not those of its keyframes, from 1, from 0 or by frame_idx."
_CONTRADICTION = (
    "The map of {} gives times that differ from frame_idx / fps by more than a second; its times were taken."
)
_NO_TIMES = "The map of {} names no times; they were worked out from its frames, at the frame rate of its video file or else at 25."


class _VideoReader:
    """Reads the files of one video of an archive, and hashes those that make up its content."""

    def __init__(self, collection: Collection, archive: Archive, name: str, oddities: _Oddities) -> None:
        self._oddities = oddities
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
        if name in archive.clashes:
            raise Unusable(archive.clashes[name])
        if not bounds.is_utf8(f"{name}{archive.films.get(name)}{archive.pictures.get(name)}"):
            raise Unusable("A name of its files is not valid UTF-8, so it cannot be filed; rename it.")
        if path is None:
            raise Unusable(f"There is no map-keyframes/{name}.csv, so the times of its keyframes are not known.")
        video = self._places()
        keyframes = self._keyframes(path)
        n = len(keyframes)
        features = archive.features.get(name)
        images: list[Path] = []
        if features is not None:
            vectors = self._features(features, n)
        else:
            images = self._images(keyframes.frame_index)
            for image in images:
                self._bytes(image, bounds.MAX_IMAGE_NBYTES)
        tags = self._tags(keyframes.frame_index)
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

    def _keyframes(self, path: Path) -> Keyframes:
        """The map, with times."""
        keyframes = parse_keyframes(path, self._bytes(path))
        if not keyframes.has_times:
            film, fps = self._archive.films.get(self._name), 0.0
            if film is not None:
                with suppress(VideoError):
                    fps = probe(film).fps
            self._oddities.add(_NO_TIMES, self._name)
            return keyframes.timed(fps or _FPS)
        if keyframes.gap() > _GAP:
            self._oddities.add(_CONTRADICTION, self._name)
        return keyframes

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

    def _tags(self, frame_index: NDArray[np.int64]) -> tuple[tuple[str, ...], ...]:
        """Tags per keyframe (n,)."""
        images = self._numbers(frame_index)
        path = self._archive.objects.get(self._name)
        if path is None:
            return ((),) * len(frame_index)
        self._check_inside(path)
        return read_object_tags(path, frame_index, images, self._bytes, self._digest.update)

    def _numbers(self, frame_index: NDArray[np.int64]) -> list[int]:
        """Numbers of the keyframe images, where these are those of its keyframes; else it is noted that they are not."""
        folder = self._archive.pictures.get(self._name)
        if folder is None:
            return []
        try:
            images = list(numbered_images(folder))
        except OSError:
            images = []
        if keyframe_numbers(images, frame_index) is None:
            self._oddities.add(_UNNUMBERED, self._name)
            return []
        return images

    def _images(self, frame_index: NDArray[np.int64]) -> list[Path]:
        folder = self._archive.pictures.get(self._name)
        if folder is None:
            raise Unusable("It has a keyframe map and neither features nor keyframe images.")
        names = keyframe_images(folder, frame_index)
        if names is None:
            n = len(frame_index)
            raise Unusable(
                f"It has no features, and its {len(numbered_images(folder)):,} keyframe images are not numbered 1 to {n}, "
                f"0 to {n - 1} or by frame_idx as in its map."
            )
        return [folder / name for name in names]

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
            duration=length_in_seconds(info.get("length", "")),
            about={key: bounds.one_line(info[key]) for key in MEDIA_INFO_KEYS if info.get(key)},
        )
