"""Vectors and tables that lie in several files each: which belong together, and all of them as one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.frames import NO_TIME, TABLES, FrameTable, read_table
from engine.system import ROOTS_VARIABLE, bounds, stays_within
from engine.vectors import open_vectors

Paths = Path | Sequence[Path]
"""One file, a folder of part files, or several of either."""
MAX_PART_FILES = 10_000
"""Files of vectors, or of tables, of one import."""


@dataclass(frozen=True)
class VectorParts:
    """Rows of several files, one after the other, as if they were one array."""

    paths: tuple[Path, ...]
    arrays: tuple[NDArray[np.floating], ...]
    starts: tuple[int, ...]
    """The first row of each file, and at the end how many rows there are."""
    dtype: np.dtype[np.floating]
    """A type that holds the numbers of every file as they are."""

    @classmethod
    def of(cls, paths: Sequence[Path]) -> VectorParts:
        """Map files of vectors.

        Raises
        ------
        ValueError
            In one sentence, if one is no file of vectors, or their rows have different lengths.
        """
        arrays = tuple(map(open_vectors, paths))
        dim = arrays[0].shape[1]
        other = next((i for i, array in enumerate(arrays) if array.shape[1] != dim), None)
        if other is not None:
            raise ValueError(
                f"{paths[other]} has rows of {arrays[other].shape[1]} numbers and {paths[0]} of {dim}; give parts of the same vectors."
            )
        starts, kinds = np.cumsum([0, *map(len, arrays)]), {array.dtype for array in arrays}
        bounds.check_count("rows in all files of vectors together", int(starts[-1]), bounds.MAX_ROWS)
        return cls(
            tuple(paths), arrays, tuple(starts.tolist()), kinds.pop() if len(kinds) == 1 else np.result_type(*kinds)
        )

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def dim(self) -> int:
        return int(self.arrays[0].shape[1])

    @property
    def name(self) -> str:
        """What messages call all of them together."""
        return str(self.paths[0]) if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1} more"

    def blocks(self, most: int) -> Iterator[tuple[int, NDArray[np.floating], Path, int]]:
        """Up to `most` rows at a time: the number of the first, the rows, and their file with the number of the first there."""
        for path, array, first in zip(self.paths, self.arrays, self.starts, strict=False):
            for start in range(0, len(array), most):
                yield first + start, array[start : start + most].astype(self.dtype, copy=False), path, start


def read_parts(vectors: Paths, frames: Paths) -> tuple[VectorParts, FrameTable]:
    """Vectors and the table of their frames, each from one file or from several that go on where the one before ends.

    Where there are as many tables as files of vectors, each goes with one of them: in the order given or, where a folder was
    given, by the number in their names (`img_emb_0.npy` with `metadata_0.parquet`). Otherwise only the rows of all together
    have to agree.

    Raises
    ------
    ValueError
        In one sentence, if a file is not what was expected, or they do not go together.
    """
    arrays = _files(vectors, (".npy",), "arrays")
    tables = _files(frames, TABLES, "tables of frames")
    if len(arrays) == len(tables) > 1 and (_has_folder(vectors) or _has_folder(frames)):
        tables = _by_name(arrays, tables)
    parts = VectorParts.of(arrays)
    if len(arrays) == len(tables):
        read = [
            read_table(table, (path, len(array)))
            for table, path, array in zip(tables, arrays, parts.arrays, strict=True)
        ]
        return parts, join_tables(read)
    if len(tables) == 1:
        return parts, read_table(tables[0], (Path(parts.name), len(parts)))
    table = join_tables([read_table(path) for path in tables])
    if len(table) != len(parts):
        raise ValueError(
            f"The {len(arrays)} files of vectors have {len(parts):,} rows and the {len(tables)} tables {len(table):,}; they must go together row by row."
        )
    return parts, table


def vector_files(vectors: Paths) -> list[Path]:
    """The files of vectors that these paths stand for."""
    return _files(vectors, (".npy",), "arrays")


def _given(paths: Paths) -> list[Path]:
    return [paths] if isinstance(paths, Path) else list(paths)


def _has_folder(paths: Paths) -> bool:
    return any(path.is_dir() for path in _given(paths))


def _files(paths: Paths, endings: Sequence[str], what: str) -> list[Path]:
    """The files given, with those of a folder by the numbers in their names."""
    files: list[Path] = []
    for path in _given(paths):
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(
            (
                file
                for file in path.iterdir()
                if file.name.lower().endswith(tuple(endings)) and not file.name.startswith(".")
            ),
            key=_natural,
        )
        if not inside:
            raise ValueError(
                f"There are no {what} in {path} (files that end in {', '.join(endings)}); give another folder."
            )
        away = next((file for file in inside if not stays_within(file, [path])), None)
        if away is not None:
            raise ValueError(
                f"{away.name} is a link that leads out of {path}; give the file that it leads to, or name the folder of that in {ROOTS_VARIABLE}."
            )
        files += inside
    if not files:
        raise ValueError(f"No {what} are given; give a file, several, or a folder.")
    bounds.check_count(f"files of {what}", len(files), MAX_PART_FILES)
    twice = (
        next((path for i, path in enumerate(files) if path in files[:i]), None)
        if len(set(files)) < len(files)
        else None
    )
    if twice is not None:
        raise ValueError(f"{twice} is given twice; give each file once.")
    return files


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts `part_2` before `part_10`."""
    pieces = re.split(r"(\d+)", path.name.lower())
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces]


def _by_name(arrays: Sequence[Path], tables: Sequence[Path]) -> list[Path]:
    """The tables in the order of the arrays that they go with."""
    for key in (_stem, lambda path: _numbers(path)[-1], lambda path: _numbers(path)[0]):
        keyed = {key(table): table for table in tables}
        wanted = [key(array) for array in arrays]
        if len(keyed) == len(tables) and set(wanted) == set(keyed):
            return [keyed[name] for name in wanted]
    raise ValueError(
        f"It cannot be told which table goes with which vectors, as {tables[0].name} with {arrays[0].name}; "
        "give their names the same numbers, or name the files one by one in the same order."
    )


def _stem(path: Path) -> str:
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in (".npy", *reversed(TABLES)) if name.endswith(ending)), name)


def _numbers(path: Path) -> list[str]:
    """The numbers in a name without leading zeros; one that is empty where there are none."""
    return [number.lstrip("0") for number in re.findall(r"\d+", _stem(path))] or [""]


def join_tables(tables: Sequence[FrameTable]) -> FrameTable:
    """The rows of all tables, one after the other; a video that goes on in the next one is one video."""
    if len(tables) == 1:
        return tables[0]
    bounds.check_count("rows in all tables together", sum(map(len, tables)), bounds.MAX_ROWS)
    videos: dict[str, int] = {}
    tags: dict[str, int] = {}
    titles: dict[int, str] = {}
    facts: dict[int, dict[str, str]] = {}
    video, tag = [], []
    for table in tables:
        numbers = [videos.setdefault(name, len(videos)) for name in table.video_ids]
        for number, title, of_video in zip(numbers, table.titles, table.facts, strict=True):
            titles[number] = titles.get(number) or title
            facts[number] = {**of_video, **facts.get(number, {})}
        video.append(np.array(numbers, np.int32)[table.video])
        places = [tags.setdefault(name, len(tags)) for name in table.tag_names]
        tag.append(np.array([*places, -1], np.int32)[table.tag])
    bounds.check_count("videos in all tables together", len(videos), bounds.MAX_VIDEOS)
    bounds.check_count("different tags in all tables together", len(tags), bounds.MAX_TAGS)
    captured = [table.captured_at for table in tables]
    shot = [table.shot for table in tables]
    lengths = [np.diff(table.tag_start) for table in tables]
    return replace(
        tables[0],
        video_ids=tuple(videos),
        titles=tuple(titles[number] for number in range(len(videos))),
        facts=tuple(facts[number] for number in range(len(videos))),
        video=np.concatenate(video),
        frame_index=np.concatenate([table.frame_index for table in tables]),
        seconds=np.concatenate([table.seconds for table in tables]),
        captured_at=_filled(captured, tables, NO_TIME, np.int64),
        shot=_filled(shot, tables, -1, np.int32),
        tag_names=tuple(tags),
        tag=np.concatenate(tag),
        tag_start=np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
        tag_given=np.concatenate([table.tag_given for table in tables]),
        columns=frozenset().union(*(table.columns for table in tables)),
        unknown=tuple(dict.fromkeys(name for table in tables for name in table.unknown)),
    )


def _filled(
    columns: Sequence[NDArray[Any] | None], tables: Sequence[FrameTable], absent: int, kind: type[np.generic]
) -> NDArray[Any] | None:
    """A column of all tables, with a value for rows of tables that lack it; None where all do."""
    if all(column is None for column in columns):
        return None
    return np.concatenate(
        [
            np.full(len(table), absent, kind) if column is None else column
            for column, table in zip(columns, tables, strict=True)
        ]
    )
