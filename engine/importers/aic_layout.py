"""Where the files of an archive in the AI Challenge layout are, by their names. A link may not lead out of the archive.

`aic_files` says what is in them, and `aic` imports them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from engine.system import stays_within
from engine.vectors import open_vectors

Ours = Callable[[Path], bool]
"""Whether a path stays within the archive, links followed."""


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
    roots: tuple[Path, ...] = ()
    """Folders besides that were named for it, such as one of features. No link may lead out of them all."""

    def holds(self, path: Path) -> bool:
        """Whether a path stays within the archive, links followed."""
        return stays_within(path, (self.folder, *self.roots))

    def videos(self) -> list[str]:
        """Videos with features or a keyframe map, sorted."""
        return sorted({*self.features, *self.maps})

    def dim(self) -> int | None:
        """Length of the vectors, from the first feature file that can be read; None without any."""
        for path in self.features.values():
            try:
                if self.holds(path):
                    return int(open_vectors(path).shape[1])
            except ValueError:
                continue
        return None


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
    given = features
    if features is None:
        folders = sorted(path for path in folder.glob("clip-features*") if path.is_dir())
        if len(folders) > 1:
            raise ValueError(
                f"{folder} has several folders of features ({', '.join(path.name for path in folders)}); give one of them as the features."
            )
        features = folders[0] if folders else None
    elif not features.is_dir():
        raise ValueError(f"There is no folder {features} with features.")
    roots = () if given is None else (given,)

    def ours(path: Path) -> bool:
        return stays_within(path, (folder, *roots))

    vectors = _files([features] if features else [], ".npy", ours)
    maps = _files([folder / "map-keyframes"], ".csv", ours)
    if not vectors and not maps:
        raise ValueError(
            f"{folder} is not an archive in the AI Challenge layout: it has neither clip-features*/<video>.npy nor map-keyframes/<video>.csv."
        )
    known = {*vectors, *maps}
    objects = folder / "objects"
    pictures, films = _named(folder, "keyframes"), _named(folder, "video")
    return Archive(
        folder=folder,
        features=vectors,
        maps=maps,
        infos=_files([folder / "media-info"], ".json", ours),
        objects=_folders([objects], known, ours) | {path.stem: path for path in sorted(objects.glob("*.json"))},
        pictures=_folders(pictures, known, ours),
        films=_files(films, ".mp4", ours),
        roots=roots,
    )


def _named(folder: Path, start: str) -> list[Path]:
    """Folders whose name starts so, whatever the case."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower().startswith(start))


def _files(folders: list[Path], suffix: str, ours: Ours) -> dict[str, Path]:
    """What has this ending below some folders and is no folder, by its stem; what it is instead is told when it is to be read."""
    paths = sorted(
        place / name
        for folder in folders
        for place, _, names in _walk(folder, ours)
        for name in names
        if name.endswith(suffix)
    )
    return {path.stem: path for path in paths if not path.name.startswith(".")}


def _folders(above: list[Path], names: set[str], ours: Ours) -> dict[str, Path]:
    """Folders of these names below some folders; what is inside them is not looked at."""
    by_name: dict[str, Path] = {}
    for folder in above:
        for place, inside, _ in _walk(folder, ours):
            by_name |= {name: place / name for name in inside if name in names}
            inside[:] = sorted(name for name in inside if name not in names)
    return by_name


def _walk(folder: Path, ours: Ours) -> Iterator[tuple[Path, list[str], list[str]]]:
    """The folders below one with the names of folders and of files in each; those that are taken out of the first are not gone into.

    Behind a link only the next names are looked at, so that those are known which lead out of the archive: more may be a whole disk.
    """
    if not ours(folder):
        yield from _first(folder)
        return
    for place, inside, names in os.walk(folder):
        yield Path(place), inside, names
        for linked in [Path(place) / name for name in inside if (Path(place) / name).is_symlink()]:
            yield from _first(linked)


def _first(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    return ((Path(place), inside, names) for place, inside, names in islice(os.walk(folder), 1))
