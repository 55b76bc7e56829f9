"""Imports into a collection that is made first if need be; the command line and the app call these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.collection import Collection
from engine.embedding import Encoder
from engine.errors import EncoderError
from engine.importers.aic import import_aic
from engine.importers.aic_layout import survey
from engine.importers.parts import Paths, vector_files
from engine.importers.report import ImportReport
from engine.importers.vectors import import_table
from engine.importers.videos import ingest
from engine.media import VIDEO_ENDINGS, check_every
from engine.storage import Settings, discard_collection
from engine.system import ROOTS_VARIABLE, Progress, no_progress, stays_within
from engine.vectors import open_vectors

_NOT_OURS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
"""Folders of other programs, which hold copies and thumbnails."""
RequestedSettings = Mapping[str, Any]
"""Settings that were asked for, as `Collection.create` takes them; a collection that is there already must agree."""


def from_videos(
    into: Path,
    videos: Sequence[Path],
    asked: RequestedSettings,
    *,
    every: float = 1.0,
    shots: bool = False,
    build: bool = True,
    progress: Progress = no_progress,
) -> ImportReport:
    """Store frames of videos in the collection at `into`, which is made if need be; see `ingest`.

    Raises
    ------
    ValueError
        If the step is not positive, or the collection is not as asked for.
    """
    from engine.embedding import SHIPPED, load_encoder

    check_every(every)
    loaded: list[Encoder] = []
    if not _is_collection(into):
        asked = {"encoder": SHIPPED} | dict(asked)

    def dim() -> int:
        loaded.append(load_encoder(asked["encoder"]))
        return loaded[0].dim

    with open_or_create(into, asked, dim) as collection:
        if loaded:
            collection.use_encoder(loaded[0])
        return ingest(collection, videos, every=every, shots=shots, build=build, progress=progress)


def from_table(
    into: Path,
    vectors: Paths,
    frames: Paths,
    asked: RequestedSettings,
    *,
    queries: NDArray[np.floating] | None = None,
    build: bool = True,
    progress: Progress = no_progress,
) -> ImportReport:
    """Store vectors with the table of their frames in the collection at `into`, which is made if need be; see `import_table`.

    Parameters
    ----------
    queries : (m, dim) that the router is fitted on
    """
    with open_or_create(into, asked, lambda: int(open_vectors(vector_files(vectors)[0]).shape[1])) as collection:
        if queries is not None:
            collection.use_queries(queries)
        report = import_table(collection, vectors, frames, build=build, progress=progress)
        return _with_encoder_note(collection, report, build)


def from_aic(
    into: Path,
    folder: Path,
    asked: RequestedSettings,
    *,
    features: Path | None = None,
    queries: NDArray[np.floating] | None = None,
    build: bool = True,
    progress: Progress = no_progress,
    found: Callable[[str], object] | None = None,
) -> ImportReport:
    """Store an archive in the AI Challenge layout in the collection at `into`, which is made if need be; see `import_aic`.

    Parameters
    ----------
    found : told at the start, in one line, what the archive holds where, and what of it is not used
    """
    archive = survey(folder, features)
    if found is not None:
        found(archive.found)
    loaded: list[Encoder] = []

    def dim() -> int:
        length = archive.dim()
        if length is not None:
            return length
        if not archive.pictures:
            raise ValueError(
                f"{folder} holds neither features nor keyframe images of its videos; add features, or add images and name an encoder."
            )
        if not asked.get("encoder"):
            raise ValueError(f"{folder} holds no features; name an encoder to embed its keyframe images.")
        from engine.embedding import load_encoder

        loaded.append(load_encoder(asked["encoder"]))
        return loaded[0].dim

    with open_or_create(into, asked, dim) as collection:
        for encoder in loaded:
            collection.use_encoder(encoder)
        if queries is not None:
            collection.use_queries(queries)
        report = import_aic(collection, archive, build=build, progress=progress)
        return _with_encoder_note(collection, report, build)


def videos_at(path: Path) -> list[Path]:
    """A video file, or those of a folder and of its sub-folders, by path.

    Hidden files and folders are passed over (`._a.mp4` is what macOS writes beside `a.mp4`), and so are collections and
    links to folders.

    Raises
    ------
    ValueError
        If there is nothing at this path, or no video in the folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        if path.exists():
            raise ValueError(f"{path} is not a file; give the path of a video or of a folder with videos.")
        raise ValueError(f"There is no file or folder {path}; give the path of a video or of a folder with videos.")
    files = sorted(_files_below(path))
    away = next((file for file in files if not stays_within(file, [path])), None)
    if away is not None:
        raise ValueError(
            f"{away.name} is a link that leads out of {path}; give the video that it leads to, or name the folder of that in {ROOTS_VARIABLE}."
        )
    if not files:
        raise ValueError(
            f"There is no video in {path} (files that end in {', '.join(VIDEO_ENDINGS[:5])} and the like); give another folder."
        )
    return files


def _with_encoder_note(collection: Collection, report: ImportReport, build: bool) -> ImportReport:
    """The report, with a note if the collection names an encoder that does not load: it is stored, and texts will find nothing.

    Without a build nothing is loaded for that.
    """
    if not build or not collection.settings.encoder:
        return report
    try:
        _ = collection.encoder
    except EncoderError as error:
        return replace(
            report, notes=(*report.notes, f"It cannot be searched by words until its encoder loads: {error}")
        )
    return report


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "." and name not in _NOT_OURS]
        if _is_collection(Path(place)):
            folders.clear()
            continue
        for name in names:
            if name[0] != "." and Path(name).suffix.lower() in VIDEO_ENDINGS:
                yield Path(place, name)


@contextmanager
def open_or_create(into: Path, asked: RequestedSettings, dim: Callable[[], int]) -> Iterator[Collection]:
    """The collection to import into; one that is made for it goes again if nothing was stored, whether the import failed or not.

    An empty collection would fix length, metric and encoder for the next try.
    """
    if _is_collection(into):
        with open_existing(into, asked) as collection:
            yield collection
        return
    missing = [folder for folder in (into, *into.parents) if not folder.exists()]
    with Collection.create(into, dim=dim(), **asked) as collection:
        try:
            yield collection
        finally:
            empty = not collection.n_frames
            collection.close()
            if empty:
                _take_away(into, missing)


def _take_away(into: Path, missing: Sequence[Path]) -> None:
    """Remove a collection and the folders that were made for it; what somebody else has put there since stays.

    Parameters
    ----------
    missing : folders that were not there before, the innermost first
    """
    discard_collection(into)
    if not missing:
        into.mkdir(exist_ok=True)
    for folder in missing[1:]:
        with suppress(OSError):
            folder.rmdir()


def _is_collection(path: Path) -> bool:
    return (path / "catalog.sqlite").is_file()


def open_existing(path: Path, asked: RequestedSettings) -> Collection:
    """An existing collection, if it is what was asked for."""
    collection = Collection.open(path)
    try:
        _agree(path, collection.settings, asked)
        collection.trust.allow_encoder(asked.get("encoder", ""))
    except ValueError:
        collection.close()
        raise
    return collection


def _agree(path: Path, settings: Settings, asked: RequestedSettings) -> None:
    for name in ("encoder", "metric", "store"):
        if name in asked and asked[name] != getattr(settings, name):
            raise ValueError(
                f"{path} was made with the {name} {getattr(settings, name)!r}; leave the {name} out or use another folder."
            )
    for name, value in asked.items():
        if value != getattr(settings, name):
            raise ValueError(
                f"{path} has {name}={getattr(settings, name)}, not {value}; leave that out, and build the collection anew with it."
            )
