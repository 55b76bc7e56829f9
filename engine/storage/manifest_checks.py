"""Checks every value of a generation that the catalog lists: types, ranges, counts, and what must agree with what.

A checksum only says that the rows are those that somebody wrote, and anybody can write a checksum. A manifest that passes here can be
used anywhere without further checks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from engine.frames import FIRST_TIME, LAST_TIME
from engine.layout import PLACEMENTS, check_options, make_placement
from engine.routing import Calibration
from engine.storage.checksums import StoredRows
from engine.storage.manifest import CellsRow, DeleteRow, LayoutRow, Manifest, RouterRow, SegmentRow, Settings, VideoRow
from engine.storage.settings import check_settings
from engine.system import (
    MAX_CELLS,
    MAX_DIM,
    MAX_SEGMENTS,
    MAX_SHARDS,
    MAX_STORED_TEXT,
    MAX_TAG,
    MAX_TAGS,
    MAX_VIDEOS,
    bounds,
)

COUNTERS = {
    "frame": 1 << 60,
    "video": (1 << 31) - 2,
    "segment": 1 << 53,
    "layout": 1 << 53,
    "cells": 1 << 53,
    "router": 1 << 53,
}
"""The counters, and the highest value of each: videos are numbered in 32 bits."""
MAX_SEGMENT_ROWS = (1 << 31) - 1
"""Rows of a segment, which are numbered in 32 bits."""
_CELL_FILES = frozenset(
    f"{name}.npy" for name in ("centroids", "trained", "group_centroids", "group_of", "spread", "query_metric")
)
_CODES_ONLY_FILES = frozenset(("codes_recall.npy",))
_ROUTER_FILES = {
    kind: frozenset(
        f"{kind}_{name}.npy"
        for name in ("vectors", "biases", "group_vectors", "group_biases", "queries", "fold", "best")
    )
    for kind in ("text", "image")
}
_JUDGED_FILES = {
    kind: frozenset(f"{kind}_{name}.npy" for name in ("judged", "judged_groups", "judged_answers"))
    for kind in ("text", "image")
}
"""All or none of them: collections that were built before 29 November 2026 have none."""
_SEGMENT_FILES = frozenset(("vectors.npy", "frames.arrow", "cells.npy"))
_HASH = re.compile("[0-9a-f]{32}")
_NUMBER = re.compile("0|[1-9][0-9]{0,9}")


def read_manifest(rows: StoredRows, counters: Mapping[str, int]) -> Manifest:
    """The stored rows as values, checked.

    Raises
    ------
    ValueError, TypeError, KeyError, OverflowError, RecursionError
        If one of them is not what it must be.
    """
    manifest = _manifest(rows)
    check_manifest(manifest, counters)
    return manifest


def check_manifest(manifest: Manifest, counters: Mapping[str, int]) -> None:
    """Raise `ValueError`, its message being a clause, for the first thing in a manifest that cannot be.

    Parameters
    ----------
    counters : the next free number of each kind: all that are listed must lie below
    """
    _check_settings(manifest.settings)
    _check_layout(manifest.layout)
    _below(counters, "layout", (manifest.layout.layout_id,))
    built = manifest.cells is not None
    if manifest.cells is not None:
        _below(counters, "cells", (manifest.cells.cells_id,))
        measured = (
            _CODES_ONLY_FILES & manifest.cells.files.keys() if type(manifest.cells.files) is dict else frozenset()
        )
        _check_files("the cells", manifest.cells.files, _CELL_FILES | measured)
    if manifest.router is not None:
        if not built or manifest.settings.metric != "ip":
            raise ValueError("it has a router, but no cells that it could rank")
        _below(counters, "router", (manifest.router.router_id,))
        _check_router(manifest.router)
    _check_videos(manifest.videos)
    _below(counters, "video", (video.number for video in manifest.videos[-1:]))
    _check_segments(manifest.segments, len(manifest.layout.names), built=built, store=manifest.settings.store)
    _below(counters, "segment", (row.segment_id for row in manifest.segments[-1:]))
    _below(counters, "frame", (row.stats["frame_ids"][1] for row in manifest.segments))
    _check_deletes(manifest)


def check_counters(counters: Mapping[str, int]) -> None:
    """Raise `ValueError` unless all counters are there and can be counted on from."""
    for name, most in COUNTERS.items():
        value = counters.get(name)
        if type(value) is not int or not (name != "frame") <= value <= most:
            raise ValueError(f"the counter {name} is not a number that can be")


def _below(counters: Mapping[str, int], name: str, numbers: Iterable[int]) -> None:
    for number in numbers:
        if type(number) is not int or not (name != "frame") <= number < counters[name]:
            raise ValueError(f"the {name} {_cut(number)} was never given out")


def _check_settings(settings: Settings) -> None:
    texts = (settings.metric, settings.store, settings.codec, settings.encoder, settings.route, settings.placement)
    numbers = (settings.dim, settings.n_shards, settings.n_cells)
    if any(type(text) is not str or len(text) > MAX_STORED_TEXT for text in texts):
        raise ValueError("a setting is no text, or too long")
    if any(type(number) is not int for number in numbers) or not isinstance(settings.options, dict):
        raise ValueError("a setting is of another type")
    check_settings(settings)
    if settings.dim > MAX_DIM or settings.n_shards > MAX_SHARDS or settings.n_cells > MAX_CELLS:
        raise ValueError("a setting is larger than can be")
    check_options(settings.placement, settings.options)


def _check_layout(layout: LayoutRow) -> None:
    names = layout.names
    if not 1 <= len(names) <= MAX_SHARDS or len(set(map(type, names)) | {str}) > 1 or len(set(names)) < len(names):
        raise ValueError("its shards are none, too many, or not told apart by their names")
    if max(map(len, names)) > MAX_STORED_TEXT or layout.placement not in PLACEMENTS or type(layout.state) is not dict:
        raise ValueError("its layout is not one that there is")
    _check_state(layout.state)
    try:
        own_names = make_placement(layout.placement, layout.state).names()
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        raise ValueError("its layout lacks a part, or has one that cannot be") from error
    if len(own_names) != len(names):
        raise ValueError("its layout has another number of shards than names")


def _check_state(state: Mapping[str, Any]) -> None:
    """Look at every part that the state of a placement may have, before anything is made of it."""
    n_shards = state.get("n_shards")
    if "n_shards" in state and (type(n_shards) is not int or not 1 <= n_shards <= MAX_SHARDS):
        raise ValueError("its layout has a number of shards that cannot be")
    if "minutes" in state and not (_is_number(state["minutes"]) and state["minutes"] > 0):
        raise ValueError("its layout has chunks of time that cannot be")
    for name in ("hours", "classes"):
        if name in state and not _are_groups(state[name]):
            raise ValueError(f"its layout has {name} that cannot be")
    if not all(_are_ints(hours, 0, 23) for _, hours in state.get("hours", ())):
        raise ValueError("its layout has hours that no day has")
    if not all(set(map(type, tags)) <= {str} for _, tags in state.get("classes", ())):
        raise ValueError("its layout has tags that are no texts")
    cells = state.get("shard_of_cell")
    if "shard_of_cell" in state and not (
        type(cells) is list and len(cells) <= MAX_CELLS and n_shards is not None and _are_ints(cells, 0, n_shards - 1)
    ):
        raise ValueError("its layout puts a cell in a shard that there is not")


def _are_groups(value: Any) -> bool:
    """Whether it is a list of names, each once and with a list."""
    if type(value) is not list or len(value) > MAX_SHARDS:
        return False
    if not all(
        type(group) is list and len(group) == 2 and type(group[0]) is str and type(group[1]) is list for group in value
    ):
        return False
    return len({name for name, _ in value}) == len(value)


def _check_files(what: str, files: Any, names: frozenset[str]) -> None:
    if type(files) is not dict or files.keys() != names:
        raise ValueError(f"{what} lists other files than belong to it")
    for checksum in files.values():
        if type(checksum) is not str or not _HASH.fullmatch(checksum):
            raise ValueError(f"{what} has a checksum that is none")


def _check_router(router: RouterRow) -> None:
    listed = set(router.files) if type(router.files) is dict else set()
    images = _ROUTER_FILES["image"] if "image_best.npy" in listed else frozenset()
    judged = (files for kind, files in _JUDGED_FILES.items() if listed & files and (kind == "text" or images))
    optional = (listed & {"text_held_back.npy"}).union(*judged)
    _check_files("the router", router.files, _ROUTER_FILES["text"] | images | optional)
    about = router.about
    if type(about) is not dict or type(about.get("source")) is not str or len(about["source"]) > MAX_STORED_TEXT:
        raise ValueError("the router does not say what it was fitted on")
    for name in ("n_texts", "next_frame", "n_frames"):
        if type(about.get(name)) is not int or not 0 <= about[name] <= COUNTERS["frame"]:
            raise ValueError(f"the router has {name} that cannot be")
    if type(about.get("calibration")) is not dict:
        raise ValueError("the router has no calibration")
    Calibration.from_json(about["calibration"])


_VIDEO_TYPES = (int, str, str, str, float, float, int, str, str, dict, str)


def _check_videos(videos: tuple[VideoRow, ...]) -> None:
    if len(videos) > MAX_VIDEOS:
        raise ValueError("it has more videos than can be")
    last = 0
    for row in videos:
        texts = (row.video_id, row.title, row.source, row.fingerprint, row.pictures, row.media)
        values = (row.number, *texts[:3], row.duration, row.fps, row.n_frames, *texts[3:5], row.about, row.media)
        if tuple(map(type, values)) != _VIDEO_TYPES:
            raise ValueError("a video has a value of another type")
        if not last < row.number or row.n_frames < 0 or max(map(len, texts)) > MAX_STORED_TEXT:
            raise ValueError("a video has a number or a text that cannot be")
        last = row.number
        if not (0 <= row.duration < math.inf and 0 <= row.fps < math.inf):
            raise ValueError("a video has a length that cannot be")
        _check_time(row.captured_at)
        if row.about and not _are_texts((*row.about, *row.about.values())):
            raise ValueError("what is known about a video is no text, or too long")
    if len({row.video_id for row in videos}) < len(videos):
        raise ValueError("two of its videos have the same name")


def _check_time(at: datetime | None) -> None:
    if at is not None and at.tzinfo is not None:
        raise ValueError("a time has a time zone")


def _check_segments(segments: tuple[SegmentRow, ...], n_shards: int, *, built: bool, store: str) -> None:
    if len(segments) > MAX_SEGMENTS:
        raise ValueError("it has more segments than can be")
    last = 0
    for row in segments:
        if not _are_ints((row.segment_id, row.shard, row.n_rows), 0, 1 << 53) or not last < row.segment_id:
            raise ValueError("a segment has a number that cannot be")
        last = row.segment_id
        if row.shard >= n_shards or not 1 <= row.n_rows <= MAX_SEGMENT_ROWS:
            raise ValueError("a segment is in a shard that there is not, or has a number of rows that cannot be")
        coded = type(row.files) is dict and "codes.faiss" in row.files
        bare = coded and store == "codes" and "vectors.npy" not in row.files
        names = _SEGMENT_FILES | ({"codes.faiss"} if coded else frozenset())
        _check_files("a segment", row.files, names - ({"vectors.npy"} if bare else frozenset()))
        _check_time(row.written_at)
        _check_stats(row.stats, row.n_rows)
        if coded and not built:
            raise ValueError("a segment has codes, but there are no cells")
        if coded:
            _check_header(row.stats.get("header"))


def _check_stats(stats: Any, n_rows: int) -> None:
    names = ("videos", "seconds", "captured", "hours", "tags", "frame_ids", "n_cells")
    if type(stats) is not dict or not all(name in stats for name in names):
        raise ValueError("a segment has no statistics, or they lack a part")
    videos, tags, captured, hours = stats["videos"], stats["tags"], stats["captured"], stats["hours"]
    if type(videos) is not dict or not _are_ints(videos.values(), 1, n_rows) or sum(videos.values()) != n_rows:
        raise ValueError("a segment has other frames than its videos")
    if not all(map(_NUMBER.fullmatch, videos)) or max(map(int, videos)) > COUNTERS["video"]:
        raise ValueError("a segment has a video whose number cannot be")
    if type(tags) is not dict or len(tags) > MAX_TAGS or not _are_ints(tags.values(), 1, n_rows):
        raise ValueError("a segment has too many tags, or counts that cannot be")
    if max(map(len, tags), default=0) > MAX_TAG:
        raise ValueError("a segment has a tag that is too long")
    if not _is_range(stats["seconds"], 0, bounds.MAX_SECONDS) or type(stats["seconds"]) is not list:
        raise ValueError("a segment has times that cannot be")
    if captured is not None and not (_is_range(captured, FIRST_TIME, LAST_TIME) and _are_ints(captured)):
        raise ValueError("a segment has recording times that cannot be")
    if type(hours) is not list or not _are_ints(hours, 0, 23) or len(hours) > 24:
        raise ValueError("a segment has hours that cannot be")
    if not (_is_range(stats["frame_ids"], 0, COUNTERS["frame"]) and _are_ints(stats["frame_ids"])):
        raise ValueError("a segment has frames whose numbers cannot be")
    if not _are_ints((stats["n_cells"],), 1, min(n_rows, MAX_CELLS)):
        raise ValueError("a segment has a number of cells that cannot be")
    for name in ("drift", "clipped"):
        if name in stats and not (_is_number(stats[name]) and stats[name] >= 0):
            raise ValueError(f"a segment has a {name} that cannot be")


def _check_header(header: Any) -> None:
    # The longest has a place for each cell, and the ranges of each dimension.
    most = 1024 + 8 * MAX_CELLS + 8 * MAX_DIM
    if type(header) is not list or len(header) != 3 or not _are_ints(header[:2], 1, 1 << 53) or header[0] > most:
        raise ValueError("a segment has codes whose header cannot be")
    if type(header[2]) is not str or not _HASH.fullmatch(header[2]):
        raise ValueError("a segment has a checksum that is none")


def _check_deletes(manifest: Manifest) -> None:
    """A video is deleted whole, so what is deleted of a segment are the rows of the videos that are not listed any more."""
    known = {str(row.number) for row in manifest.videos}
    deleted: dict[int, list[tuple[int, int]]] = {}
    for delete in manifest.deletes:
        if not _are_ints((delete.segment_id, delete.start, delete.stop), 0, MAX_SEGMENT_ROWS << 22):
            raise ValueError("a delete has a number that cannot be")
        deleted.setdefault(delete.segment_id, []).append((delete.start, delete.stop))
    for row in manifest.segments:
        videos = row.stats["videos"]
        gone: list[tuple[int, int]] = []
        if not videos.keys() <= known:
            start = 0
            for number in sorted(videos, key=int):  # As the rows are sorted.
                stop = start + videos[number]
                if number not in known:
                    gone.append((start, stop))
                start = stop
        if sorted(deleted.pop(row.segment_id, ())) != gone:
            raise ValueError("a segment holds frames of a video that is not listed, or lacks some that are")
    if deleted:
        raise ValueError("frames are deleted from a segment that there is not")


def _are_ints(values: Iterable[Any], least: int = -(1 << 63), most: int = (1 << 63) - 1) -> bool:
    listed = list(values)
    if set(map(type, listed)) - {int}:
        return False
    return not listed or (min(listed) >= least and max(listed) <= most)


def _are_texts(values: tuple[Any, ...]) -> bool:
    return set(map(type, values)) == {str} and max(map(len, values)) <= MAX_STORED_TEXT


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_range(value: Any, least: float, most: float) -> bool:
    """Whether it is a list of two finite numbers, rising and within these."""
    if type(value) is not list or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return bool(least <= value[0] <= value[1] <= most)


def _cut(value: object) -> str:
    return str(value)[:20]


def _manifest(rows: StoredRows) -> Manifest:
    """The stored rows as values."""
    ((generation, settings),) = rows["generation"]
    if not rows["layout"]:
        raise ValueError("its layout is missing")
    ((layout_id, placement, names, state),) = rows["layout"]
    return Manifest(
        generation=generation,
        settings=Settings(**json.loads(settings)),
        layout=LayoutRow(layout_id, placement, tuple(json.loads(names)), json.loads(state)),
        cells=CellsRow(rows["cells"][0][0], json.loads(rows["cells"][0][1])) if rows["cells"] else None,
        router=_router(*rows["router"][0]) if rows["router"] else None,
        videos=tuple(_video(row) for row in rows["videos"]),
        segments=tuple(
            SegmentRow(segment_id, shard, n_rows, json.loads(files), json.loads(stats), datetime.fromisoformat(at))
            for segment_id, shard, n_rows, files, stats, at in rows["segments"]
        ),
        deletes=tuple(DeleteRow(*row) for row in rows["deletes"]),
    )


def _router(router_id: int, files: str, about: str) -> RouterRow:
    return RouterRow(router_id, json.loads(files), json.loads(about))


def _video(row: tuple[Any, ...]) -> VideoRow:
    number, video_id, title, source, duration, fps, captured_at, n_frames, fingerprint, pictures, about, media = row
    at = None if captured_at is None else datetime.fromisoformat(captured_at)
    facts = json.loads(about)
    return VideoRow(number, video_id, title, source, duration, fps, at, n_frames, fingerprint, pictures, facts, media)
