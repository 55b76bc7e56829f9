"""Where the files of an archive in the AI Challenge layout are, by video. A link may not lead out of the archive.

`aic_folders` says what each folder is, `aic_files` what is in the files, and `aic` imports them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.importers.aic_folders import Files, Kind, Ours, is_named, read_folders, without_batch
from engine.system import bounds, stays_within
from engine.types import canonical_name
from engine.vectors import npy_header, open_vectors

_WORDS: Mapping[Kind, str] = {
    "features": "features",
    "maps": "keyframe maps",
    "infos": "media info",
    "objects": "objects",
    "pictures": "keyframe images",
    "films": "videos",
}
_SHOWN = 4
"""Folders that are named one by one."""
_COMPARED = 16
"""Files of two folders, and stretches of two large files, that are compared."""
_STRETCH = 1 << 16
_PREFERRED: tuple[Kind, ...] = ("infos", "objects", "pictures")
"""Kinds of which a folder that is called so counts before one that only looks so, such as one of small copies."""


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
    clashes: Mapping[str, str] = field(default_factory=dict)
    """Videos of which the archive holds two different files of one kind, and one sentence that names both."""
    found: str = ""
    """One line: what was found where, and what is not used."""

    def holds(self, path: Path) -> bool:
        """Whether a path stays within the archive, links followed."""
        return stays_within(path, (self.folder, *self.roots))

    def videos(self) -> list[str]:
        """Videos with features or a keyframe map, sorted."""
        return sorted({*self.features, *self.maps})

    def dim(self) -> int | None:
        """Length of the vectors: that of most feature files; None where there are none.

        Raises
        ------
        ValueError
            If there are, and not one of them can be read; the sentence says why.
        """
        lengths: Counter[int] = Counter()
        why = ""
        for path in self.features.values():
            try:
                lengths[self._length(path)] += 1
            except ValueError as error:
                why = why or str(error)
        if self.features and not lengths:
            many = f"None of the {len(self.features):,} files of features can be used: "
            raise ValueError(f"{many if len(self.features) > 1 else ''}{why}")
        return lengths.most_common(1)[0][0] if lengths else None

    def _length(self, path: Path) -> int:
        """Length of the vectors of a file, from its header."""
        if not self.holds(path):
            raise ValueError(f"{path} leads out of the archive by a link; put it there itself.")
        bounds.check_is_file(path)
        try:
            shape, _ = npy_header(path)
        except ValueError as error:
            raise ValueError(f"{path} cannot be read as features ({error}).") from error
        return shape[1] if len(shape) == 2 and shape[1] else int(open_vectors(path).shape[1])


def survey(folder: Path, features: Path | None = None) -> Archive:
    """Find the files of an archive: what each folder holds is told by a few of its files, at any depth and whatever it is called.

    Parameters
    ----------
    features : folder with the features; None takes all that there are

    Raises
    ------
    ValueError
        If there is no such folder, it holds neither features nor keyframe maps, or features of several models.
    """
    if not folder.is_dir():
        if folder.is_file():
            raise ValueError(f"{folder} is a file; unpack it if it is zipped, and give the folder.")
        raise ValueError(f"There is no folder {folder}.")
    if features is not None and not features.is_dir():
        raise ValueError(f"There is no folder {features} with features.")
    roots = () if features is None else (features,)

    def ours(path: Path) -> bool:
        return stays_within(path, (folder, *roots))

    files = list(read_folders(folder, ours))
    if features is not None:
        files = [replace(part, kind="") if part.kind == "features" else part for part in files]
        files += [
            Files("features", part.folder, names, dim=part.dim)
            for part in read_folders(features, ours)
            if (names := tuple(name for name in part.names if not part.whole and name.lower().endswith(".npy")))
        ]
        given = {part.folder for part in files if part.kind == "features"}
        files = [part for part in files if part.kind or part.folder not in given]
    return _Survey(folder, roots, ours, files).archive()


class _Survey:
    """Brings the files of an archive together by video."""

    def __init__(self, folder: Path, roots: tuple[Path, ...], ours: Ours, files: Sequence[Files]) -> None:
        self._folder = folder
        self._roots = roots
        self._ours = ours
        self._files = list(files)
        self._clashes: dict[str, str] = {}
        self._used: dict[Kind, dict[Path, None]] = {}
        self._used_folders: set[Path] = set()
        self._unused: Counter[tuple[Path, str]] = Counter()
        self._zipped: list[Path] = []

    def archive(self) -> Archive:
        if not self._roots:
            self._tell_features()
        kinds: tuple[Kind, ...] = ("features", "maps", "infos", "objects", "films")
        paths = {kind: self._paths(kind) for kind in kinds}
        if not paths["features"] and not paths["maps"]:
            raise ValueError(self._nothing())
        names = _spellings([paths[kind] for kind in ("maps", "features", "infos", "objects", "films")])
        known = {names.get(name, name) for kind in ("features", "maps") for name in paths[kind]}
        for kind in ("objects", "pictures"):
            self._add_folders(paths.setdefault(kind, {}), kind, known)
        chosen = {kind: self._choose(kind, _renamed(by_name, names), known) for kind, by_name in paths.items()}
        for part in self._files:
            self._note_unused(part)
        return Archive(
            folder=self._folder, **chosen, roots=self._roots, clashes=self._clashes, found=self._found(chosen)
        )

    def _tell_features(self) -> None:
        """Take arrays that cannot be read for features where they are called like videos, and others, such as an index, for none."""
        mapped = self._names_of("maps")
        sound = self._names_of("features")
        for i, part in enumerate(self._files):
            stems = set(map(_name, part.names))
            is_array = not part.whole and part.names[0].lower().endswith(".npy")
            if is_array and part.kind == "" and stems & mapped and not stems & sound:
                self._files[i] = replace(part, kind="features")
            named = is_named("features", part.folder, self._folder)
            if part.kind == "features" and not stems & mapped and not named:
                self._files[i] = replace(part, kind="")

    def _names_of(self, kind: Kind) -> set[str]:
        return {_name(name) for part in self._files if part.kind == kind for name in part.names}

    def _paths(self, kind: Kind) -> dict[str, list[Path]]:
        """Files of a kind by the name of the video."""
        paths: dict[str, list[Path]] = {}
        for part in self._files:
            if part.kind == kind and not part.whole:
                for name in part.names:
                    paths.setdefault(_name(name), []).append(part.folder / name)
        return paths

    def _add_folders(self, paths: dict[str, list[Path]], kind: Kind, known: set[str]) -> None:
        """Add folders that belong to one video each, whose name they or those above them bear."""
        folded = {name.casefold(): name for name in known}
        for part in self._files:
            if part.kind == kind and part.whole:
                own, above = canonical_name(part.folder.name), canonical_name(part.folder.parent.name)
                for name in (own, f"{above}_{own}", above):
                    video = name if name in known else folded.get(name.casefold())
                    if video is not None:
                        paths.setdefault(video, []).append(part.folder)
                        break

    def _choose(self, kind: Kind, paths: Mapping[str, Sequence[Path]], known: set[str]) -> dict[str, Path]:
        """One path per video. Of several with the same content one counts; a video with different ones is noted."""
        chosen: dict[str, Path] = {}
        used = self._used.setdefault(kind, {})
        for name, several in sorted(paths.items()):
            if kind in _PREFERRED:
                several = [path for path in several if is_named(kind, path.parent, self._folder)] or several
            first = chosen[name] = several[0]
            if kind == "features":
                self._check_one_model(several)
            other = next((path for path in several[1:] if not self._same(first, path)), None)
            if other is not None and name in known:
                self._clashes.setdefault(name, self._clash(kind, first, other))
            used.update(dict.fromkeys(path.parent for path in several))
            self._used_folders.update(several)
        return chosen

    def _check_one_model(self, paths: Sequence[Path]) -> None:
        """Raise `ValueError` for files of features of one video that come from several models."""
        folders = sorted({path.parent for path in paths}) if len(paths) > 1 else []
        dims = {part.folder: part.dim for part in self._files if part.kind == "features" and part.dim and folders}
        models = {
            next((without_batch(part) for part in reversed(self._shown(folder).parts) if "feature" in part.lower()), "")
            for folder in folders
        } - {""}
        lengths = {dims[folder] for folder in folders if folder in dims}
        if len(lengths) > 1 or (len(models) > 1 and len({folder.resolve() for folder in folders}) > 1):
            names = ", ".join(str(self._shown(folder)) for folder in folders)
            raise ValueError(
                f"{self._folder} has several folders of features ({names}); give one of them as the features."
            )

    def _clash(self, kind: Kind, one: Path, two: Path) -> str:
        hint = ", or name one folder as the features" if kind == "features" else ""
        form = " (its name in another Unicode form)" if canonical_name(str(one)) == canonical_name(str(two)) else ""
        return f"There are two different {_WORDS[kind]} of it, {self._shown(one)} and {self._shown(two)}{form}; remove one{hint}."

    def _same(self, one: Path, two: Path) -> bool:
        """Whether two files, or two folders, hold the same. Of large ones some stretches are compared, and of many files some."""
        try:
            if one.resolve() == two.resolve():
                return True
            if not (self._ours(one) and self._ours(two)):
                return False
            if one.is_dir() and two.is_dir():
                return _same_folders(one, two)
            return _same_files(one, two)
        except (OSError, RuntimeError):
            return False

    def _shown(self, path: Path) -> Path:
        """A path as messages have it: from the folder of the archive on."""
        return path.relative_to(self._folder) if path.is_relative_to(self._folder) else path

    # What was found

    def _note_unused(self, part: Files) -> None:
        if part.kind == "zipped":
            self._zipped += [part.folder / name for name in part.names]
        elif part.kind == "" or (not part.whole and part.folder not in self._used[part.kind]):
            for ending, n in Counter(Path(name).suffix.lower() or "without ending" for name in part.names).items():
                self._unused[(self._shown(part.folder), ending)] += n
        elif part.whole and part.folder not in self._used_folders:
            self._unused[(self._shown(part.folder.parent), f"folders of {_WORDS[part.kind]}")] += 1

    def _found(self, chosen: Mapping[Kind, Mapping[str, Path]]) -> str:
        """One line: what was found where, and what is not used."""
        found = []
        for kind, word in _WORDS.items():
            if chosen.get(kind):
                dims = sorted({part.dim for part in self._files if part.kind == kind and part.dim})
                length = f" ({' or '.join(map(str, dims))} numbers each)" if dims else ""
                places = [_of(self._shown(folder)) for folder in self._used[kind]]
                found.append(
                    f"{word} of {len(chosen[kind]):,} video{'s' * (len(chosen[kind]) != 1)}{length} in {_some(places)}"
                )
        lacking = [word for kind, word in _WORDS.items() if not chosen.get(kind)]
        line = f"Found {'; '.join(found)}" + (f"; no {', no '.join(lacking)}." if lacking else ".")
        return line + self._left_out()

    def _left_out(self) -> str:
        unused = [f"{_of(place)} ({n:,} {what})" for (place, what), n in self._unused.items()]
        zipped = [str(self._shown(path)) for path in self._zipped]
        line = f" Not used: {_some(unused)}." if unused else ""
        return line + (f" Still zipped, so not used: {_some(zipped)}; unpack what is to go in." if zipped else "")

    def _nothing(self) -> str:
        for part in self._files:
            if part.kind in ("", "zipped"):
                self._note_unused(part)
        return (
            f"{self._folder} is not an archive in the AI Challenge layout: below it are neither features (<video>.npy, rows of "
            f"floating-point numbers) nor keyframe maps (<video>.csv with n, pts_time, fps and frame_idx).{self._left_out()}"
        )


def _of(place: Path) -> str:
    return "the folder itself" if place == Path() else str(place)


def _some(things: Sequence[str]) -> str:
    more = len(things) - _SHOWN
    return ", ".join(things[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _name(file: str) -> str:
    """The name of the video that a file belongs to."""
    return canonical_name(file.rpartition(".")[0])


def _spellings(kinds: Iterable[Iterable[str]]) -> dict[str, str]:
    """The name that counts for each that is written otherwise, where names differ in capitals and no kind of files has both.

    Parameters
    ----------
    kinds : names of videos by kind of files; the spelling of the first counts
    """
    folded: dict[str, list[str]] = {}
    apart: set[str] = set()
    for names in kinds:
        own: dict[str, str] = {}
        for name in names:
            key = name.casefold()
            if own.setdefault(key, name) != name:
                apart.add(key)
            folded.setdefault(key, []).append(name)
    return {name: names[0] for key, names in folded.items() if key not in apart for name in names if name != names[0]}


def _renamed(paths: Mapping[str, list[Path]], names: Mapping[str, str]) -> dict[str, list[Path]]:
    renamed: dict[str, list[Path]] = {}
    for name, several in paths.items():
        renamed.setdefault(names.get(name, name), []).extend(several)
    return renamed


def _same_folders(one: Path, two: Path) -> bool:
    names = sorted(path.name for path in one.iterdir() if not path.name.startswith("."))
    if names != sorted(path.name for path in two.iterdir() if not path.name.startswith(".")):
        return False
    step = max(1, len(names) // _COMPARED)
    return all(_same_files(one / name, two / name) for name in (*names[::step], *names[-1:]))


def _same_files(one: Path, two: Path) -> bool:
    if not (one.is_file() and two.is_file()) or one.stat().st_size != two.stat().st_size:
        return False
    size = one.stat().st_size
    starts = range(0, size, _STRETCH) if size <= bounds.MAX_TEXT_NBYTES else range(0, size, size // _COMPARED)
    with one.open("rb") as first, two.open("rb") as second:
        for start in starts:
            first.seek(start)
            second.seek(start)
            if first.read(_STRETCH) != second.read(_STRETCH):
                return False
    return True
