"""What each folder of an archive is, by what is in it: a few of its files are looked into, of the others the names are enough.

A link may not lead out of the archive: what lies behind such a one is not read, and told by its name alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from engine.importers.aic_files import is_keyframe_number, is_map, kind_of_json
from engine.media import VIDEO_ENDINGS
from engine.storage import PICTURES
from engine.system import bounds
from engine.vectors import open_vectors

Ours = Callable[[Path], bool]
"""Whether a path stays within the archive, links followed."""
Kind = Literal["features", "maps", "infos", "objects", "pictures", "films", "zipped", ""]
"""What files are; empty for what an import does not use."""
_FILMS = frozenset(VIDEO_ENDINGS) - {".gif", ".apng"}
"""Endings of films in an archive; moving images that lie beside films are previews of them."""
_ZIPPED = (".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst")
_TABLES = (".csv", ".tsv")
_MAX_START = 64 << 10
"""Bytes of a table that are looked at."""
_MAX_JSON = 8 << 20
"""Bytes of a JSON file that is looked into."""
_BATCH = r"(?:[-_ .]*(?:aic[-_ ]?[0-9]*|b[1-9]|batch[-_ ]?[0-9]+|part[-_ ]?[0-9]+|[clv][0-9]+|\([0-9]+\)|copy))*"
"""What names of folders carry besides what they hold."""
_NAMES: dict[Kind, re.Pattern[str]] = {
    "features": re.compile(r".*(?:feature|clip).*"),
    "maps": re.compile(r"map[-_ ]?keyframes?" + _BATCH + r"|keyframes?[-_ ]?(?:map|p)" + _BATCH),
    "infos": re.compile(r"(?:media[-_ ]?info|meta[-_ ]?data)" + _BATCH),
    "objects": re.compile(r"objects?(?:[-_ ]?detections?)?" + _BATCH),
    "pictures": re.compile(r"key[-_ ]?frames?" + _BATCH),
}
_OTHER_TEXT = re.compile(r".*(?:ocr|asr|subtitle|caption|transcript|speech).*")
"""Folders of texts by keyframe, which look like those of objects."""


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one kind in one folder."""

    kind: Kind
    folder: Path
    names: tuple[str, ...]
    """Sorted; of a folder per video, see `whole`, its own name instead."""
    whole: bool = False
    """Whether the folder belongs to one video: it holds the images, or the objects, of its keyframes."""
    dim: int = 0
    """Of features, the length of the vectors; 0 where none was readable."""
    seen: bool = True
    """Whether the files themselves said what they are, not only a name."""


def read_folders(folder: Path, ours: Ours) -> Iterator[Files]:
    """What lies in a folder and below it, by folder and kind."""
    for place, inside, names in walk(folder, ours):
        inside[:] = sorted(name for name in inside if not _is_hidden(name))
        names = sorted(name for name in names if not _is_hidden(name))
        looked_into = ours(place)
        if not looked_into:
            yield from _behind_a_link(place, folder, inside)
        endings: dict[str, list[str]] = {}
        for name in names:
            endings.setdefault(_ending(name), []).append(name)
        yield from _in_one_folder(place, folder, endings, ours if looked_into else lambda _: False)


def walk(folder: Path, ours: Ours) -> Iterator[tuple[Path, list[str], list[str]]]:
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


def is_named(kind: Kind, place: Path, top: Path) -> bool:
    """Whether the name of a folder, or of one above it in the archive, says that it holds such files."""
    parts = place.parts[len(top.parts) :] if place.is_relative_to(top) else place.parts[-1:]
    return any(_NAMES[kind].fullmatch(part.lower()) for part in parts)


def without_batch(name: str) -> str:
    """The name of a folder in lower case, without what says which part of an archive it is, such as `-aic25-b1`."""
    return re.sub(_BATCH + "$", "", name.lower())


def _first(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    return ((Path(place), inside, names) for place, inside, names in islice(os.walk(folder), 1))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a path object for each of some 100,000 names takes seconds


def _behind_a_link(place: Path, top: Path, inside: list[str]) -> Iterator[Files]:
    """Folders per video that lie out of the archive, by the name of the one above them."""
    kinds: tuple[Kind, ...] = ("pictures", "objects")
    for kind in kinds:
        if is_named(kind, place, top):
            for name in inside:
                yield Files(kind, place / name, (name,), whole=True, seen=False)


def _in_one_folder(place: Path, top: Path, endings: dict[str, list[str]], ours: Ours) -> Iterator[Files]:
    images = [name for ending in PICTURES for name in endings.pop(ending, ())]
    if images:
        numbered = any(name.rpartition(".")[0][-1:].isdecimal() for name in images)
        kind: Kind = "pictures" if numbered else ""
        yield Files(kind, place, (place.name,) if numbered else tuple(images), whole=numbered)
    for ending, names in endings.items():
        if ending == ".npy":
            yield _arrays(place, top, names, ours)
        elif ending in _TABLES:
            yield _tables(place, top, names, ours)
        elif ending == ".json":
            yield _texts(place, top, names, ours)
        else:
            kind = "films" if ending in _FILMS else "zipped" if ending in _ZIPPED else ""
            yield Files(kind, place, tuple(names))


def _samples(place: Path, names: list[str], ours: Ours) -> Iterator[Path]:
    """A few files of a folder, from its beginning, its end and its middle."""
    for at in dict.fromkeys((0, len(names) - 1, len(names) // 2)):
        path = place / names[at]
        if ours(path) and path.is_file():
            yield path


def _arrays(place: Path, top: Path, names: list[str], ours: Ours) -> Files:
    for path in _samples(place, names, ours):
        with suppress(ValueError, OSError):
            return Files("features", place, tuple(names), dim=int(open_vectors(path).shape[1]))
    kind: Kind = "features" if is_named("features", place, top) else ""
    return Files(kind, place, tuple(names), seen=False)


def _tables(place: Path, top: Path, names: list[str], ours: Ours) -> Files:
    for path in _samples(place, names, ours):
        try:
            with path.open("rb") as file:
                start = file.read(_MAX_START)
        except OSError:
            continue
        if is_map(start.decode("utf-8-sig", "replace")):
            return Files("maps", place, tuple(names))
    kind: Kind = "maps" if is_named("maps", place, top) else ""
    return Files(kind, place, tuple(names), seen=False)


def _texts(place: Path, top: Path, names: list[str], ours: Ours) -> Files:
    by_keyframe = all(is_keyframe_number(name.rpartition(".")[0]) for name in names)
    found = ""
    for path in _samples(place, names, ours):
        try:
            found = kind_of_json(json.loads(bounds.read_bounded(path, _MAX_JSON).decode("utf-8-sig")))
        except (ValueError, OSError, RecursionError):
            continue
        if found:
            break
    text = any(_OTHER_TEXT.fullmatch(part.lower()) for part in (place.name, place.parent.name))
    if found == "infos":
        return Files("infos", place, tuple(names))
    if found == "objects" and not text:
        return Files("objects", place, tuple(names))
    if found == "labels" and by_keyframe and not text:
        return Files("objects", place, (place.name,), whole=True)
    if found == "labels":
        return Files("", place, tuple(names))
    if is_named("objects", place, top):
        whole = by_keyframe and not _NAMES["objects"].fullmatch(place.name.lower())
        return Files("objects", place, (place.name,) if whole else tuple(names), whole=whole, seen=False)
    return Files("infos" if is_named("infos", place, top) else "", place, tuple(names), seen=False)
