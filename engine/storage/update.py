"""What is said of stored videos and frames, changed from a table: titles, facts, recording times, shots, tags. Vectors stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from engine.frames import NO_TIME, FrameColumns, FrameTable, TagChange, statistics
from engine.storage.gather import Gathered
from engine.storage.manifest import VideoRow
from engine.storage.next_generation import NextGeneration
from engine.storage.rows import check_video_texts, check_years
from engine.storage.snapshot import Snapshot
from engine.storage.views import SegmentView
from engine.system import Progress, bounds, no_progress

_EXAMPLES = 20
"""Frames that were not found which are named."""
_SECONDS_APART = 1e-3
_PLACED_BY = {
    "content": ("tags",),
    "hybrid": ("tags",),
    "time_of_day": ("captured_at",),
    "timeline": ("captured_at",),
}
"""What placements go by that an update may change."""


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What an update changed, and what it did not find."""

    changed: tuple[str, ...]
    """Ids of the videos of which something changed, in the order of the table."""
    unchanged: tuple[str, ...]
    """Ids of those that were as the table says already."""
    missing: tuple[str, ...]
    """Ids of which no video is stored."""
    n_frames: int
    """Frames of which a tag, a shot or a recording time changed."""
    n_missing_frames: int
    """Rows about frames that stored videos do not have."""
    missing_frames: tuple[tuple[str, int], ...]
    """Video and frame index of some of them."""
    notes: tuple[str, ...]
    """What was passed over or is to be done, one sentence each."""


class Update:
    """A table laid beside one generation."""

    def __init__(self, snapshot: Snapshot, table: FrameTable, tags: TagChange = "replace") -> None:
        """Check that the table goes with the generation.

        Parameters
        ----------
        table : with the column video_id and whatever is to be changed. With frame_index, its rows are about frames; without, about
            whole videos: captured_at is then the start of the recording, and tags are those of each frame
        tags : whether tags take the place of those there are, are added to them, or taken off

        Raises
        ------
        ValueError
            If there is nothing to change, two rows disagree, or a value cannot be kept.
        """
        if tags not in get_args(TagChange):
            raise ValueError(f"Unknown change of tags {tags!r}; use {', '.join(get_args(TagChange))}.")
        self._snapshot, self._table, self._tags = snapshot, table, tags
        self._by_frame = "frame_index" in table.columns
        self._of_frames = table.columns & {"captured_at", "shot", "tags"}
        if not self._of_frames and not any(table.titles) and not any(table.facts):
            raise ValueError(
                "The table has nothing to change; give it a column title, captured_at, shot, tags or about:NAME."
            )
        if table.shot is not None and not self._by_frame:
            raise ValueError("The table gives shots without saying of which frames; give it a column frame_index, too.")
        self._check_tags()
        numbers = [snapshot.number_of(name) for name in table.video_ids]
        self._numbers = np.array([-1 if number is None else number for number in numbers], np.int32)
        """(videos,) of each video of the table, -1 where it is not stored."""
        video = self._numbers[table.video]
        index = table.frame_index if self._by_frame else np.zeros(len(table), np.int64)
        order = np.lexsort((np.arange(len(table)), index, video))
        self._order = order[np.searchsorted(video[order], 0) :]
        """Rows about stored videos, by video and frame."""
        self._video, self._index = video[self._order], index[self._order]
        again = (self._video[1:] == self._video[:-1]) & (self._index[1:] == self._index[:-1])
        self._check_repeated(np.flatnonzero(again))
        self._key = np.cumsum(np.append(True, ~again)) - 1 if len(self._order) else np.zeros(0, np.int64)
        """Number of the frame, or the video, of each of these rows."""
        self._found = np.zeros(len(self._order), np.bool_)
        self._starts: dict[int, tuple[int, int]] = {}
        """By number of the video: the first frame that is given a time, and when the recording started by that."""
        self._n_frames = self._n_apart = 0
        self._changed: set[int] = set()

    def _check_tags(self) -> None:
        stored = {tag for view in self._snapshot.views() for tag in view.segment.row.stats["tags"]}
        if self._tags != "remove":
            n = len(stored.union(self._table.tag_names))
            bounds.check_count("different tags in this collection", n, max(bounds.MAX_TAGS, len(stored)))

    def _check_repeated(self, places: NDArray[np.intp]) -> None:
        """Refuse rows about the same frame, or the same video, that do not say the same."""
        table = self._table

        def said(row: int) -> tuple[object, ...]:
            times = None if table.captured_at is None else int(table.captured_at[row])
            shot = None if table.shot is None else int(table.shot[row])
            return times, shot, bool(table.tag_given[row]), *map(set, table.tags(np.array([row])))

        for place in places.tolist():
            one, two = sorted((int(self._order[place]), int(self._order[place + 1])))
            if said(one) != said(two):
                name = table.video_ids[table.video[one]]
                what = f"frame {table.frame_index[one]} of {name}" if self._by_frame else f"the video {name}"
                how = "" if self._by_frame else ", or a column frame_index"
                raise ValueError(
                    f"Rows {one} and {two}, counted from 0, say different things of {what}; give each once{how}."
                )

    def write(self, new: NextGeneration, progress: Progress) -> tuple[list[SegmentView], list[VideoRow]]:
        """Write the segments anew that hold frames which change; returns those that they take the place of, and the changed videos.

        Raises
        ------
        ValueError
            If a time or a number of tags cannot be kept.
        CorruptData
            If a segment that is to be written again is damaged.
        """
        replaced = []
        for shard, view, frames in self._changed_segments(progress):
            new.write_shard(shard, frames, np.arange(len(frames)), self._snapshot.cells)
            replaced.append(view)
        rows = self._video_rows()
        self._changed.update(row.number for row in rows)
        return replaced, rows

    def changed_videos(self) -> list[str]:
        """Ids of the videos that it would change; writes nothing."""
        for _ in self._changed_segments(no_progress):
            pass
        return [
            self._snapshot.videos[number].video_id
            for number in self._changed.union(row.number for row in self._video_rows())
        ]

    def _changed_segments(self, progress: Progress) -> Iterator[tuple[int, SegmentView, Gathered]]:
        """Shard, segment and live frames as they are to be, wherever a frame changes."""
        wanted = {str(number) for number in self._numbers.tolist() if number >= 0} if self._of_frames else set()
        views = [(shard.shard, view) for shard in self._snapshot.shards for view in shard.segments if view.n_live]
        for i, (shard, view) in enumerate(views):
            progress("updating frames", i, len(views))
            if wanted.isdisjoint(view.segment.row.stats["videos"]):
                continue
            gathered = Gathered.of([view])
            columns, differ = self._columns(gathered.columns)
            if differ.any():
                self._n_frames += int(differ.sum())
                self._changed.update(np.unique(columns.video[differ]).tolist())
                yield shard, view, replace(gathered, columns=columns)

    def _columns(self, columns: FrameColumns) -> tuple[FrameColumns, NDArray[np.bool_]]:
        """The columns of live frames, sorted, as they are to be, and (n,) which frames change."""
        table = self._table
        at = self._rows_of(columns)
        touched = np.flatnonzero(at >= 0)
        at = at[touched]
        if self._by_frame and "seconds" in table.columns:
            self._n_apart += int((np.abs(table.seconds[at] - columns.seconds[touched]) > _SECONDS_APART).sum())
        captured, shot, tags = columns.captured_at.copy(), columns.shot.copy(), columns.tags
        differ = np.zeros(len(columns), np.bool_)
        if table.captured_at is not None:
            given = table.captured_at[at]
            known = given != NO_TIME
            frames, given = touched[known], given[known]
            since = np.rint(columns.seconds[frames] * 1e6).astype(np.int64)
            if self._by_frame:
                self._note_starts(columns, frames, given - since)
            else:
                given = given + since
            check_years(given.view("datetime64[us]"))
            captured[frames] = given
            differ |= captured != columns.captured_at
        if table.shot is not None:
            known = table.shot[at] >= 0
            shot[touched[known]] = table.shot[at[known]]
            differ |= shot != columns.shot
        if "tags" in table.columns:
            known = table.tag_given[at]
            tags, changed = columns.tags.changed(touched[known], *table.tag_pairs(at[known]), self._tags)
            if self._tags == "add":
                most = int(tags.n_per_frame()[touched[known]].max(initial=0))
                bounds.check_count("tags of a frame", most, bounds.MAX_TAGS_PER_FRAME)
            differ |= changed
        return replace(columns, captured_at=captured, shot=shot, tags=tags), differ

    def _rows_of(self, columns: FrameColumns) -> NDArray[np.int64]:
        """(n,) the row of the table about each frame, -1 for none."""
        at = np.full(len(columns), -1, np.int64)
        for number in np.unique(columns.video).tolist():
            low, high = np.searchsorted(self._video, [number, number + 1])
            start, stop = np.searchsorted(columns.video, [number, number + 1])
            if low == high:
                continue
            place = np.full(stop - start, low)
            if self._by_frame:
                index = columns.frame_index[start:stop]
                place = np.minimum(low + np.searchsorted(self._index[low:high], index), high - 1)
                hit = self._index[place] == index
            else:
                hit = np.ones(stop - start, np.bool_)
            at[start:stop][hit] = self._order[place[hit]]
            self._found[place[hit]] = True
        return at

    def _note_starts(self, columns: FrameColumns, frames: NDArray[np.intp], starts: NDArray[np.int64]) -> None:
        video, index = columns.video[frames], columns.frame_index[frames]
        order = np.lexsort((starts, index, video))
        numbers, first = np.unique(video[order], return_index=True)
        for number, place in zip(numbers.tolist(), order[first].tolist(), strict=True):
            noted = (int(index[place]), int(starts[place]))
            self._starts[number] = min(self._starts.get(number, noted), noted)

    def _video_rows(self) -> list[VideoRow]:
        """The videos of which more than a frame changes, as they are to be."""
        table, rows = self._table, []
        for place, number in enumerate(self._numbers.tolist()):
            if number < 0:
                continue
            row = self._snapshot.videos[number]
            about = {**row.about, **table.facts[place]}
            changed = replace(row, title=table.titles[place] or row.title, about=about)
            if changed != row:
                check_video_texts(row.video_id, changed.title, about)
            start = self._start(place, number)
            if start != NO_TIME:
                changed = replace(changed, captured_at=statistics.wall_clock(start))
            if changed != row:
                rows.append(changed)
        return sorted(rows, key=lambda row: row.number)

    def _start(self, place: int, number: int) -> int:
        """When the recording of a video started, as the table says; `NO_TIME` where it does not."""
        if self._by_frame:
            return self._starts.get(number, (0, NO_TIME))[1]
        return self._video_starts.get(place, NO_TIME)

    @cached_property
    def _video_starts(self) -> Mapping[int, int]:
        times = self._table.captured_at
        if times is None:
            return {}
        known = np.flatnonzero(times != NO_TIME)
        return dict(zip(self._table.video[known].tolist(), times[known].tolist(), strict=True))

    def report(self) -> UpdateReport:
        """What was written."""
        table, ids = self._table, self._table.video_ids
        stored = self._numbers >= 0
        names = {number: self._snapshot.videos[number].video_id for number in self._numbers[stored].tolist()}
        missing = self._missing_rows()
        examples = tuple((ids[table.video[row]], int(table.frame_index[row])) for row in missing[:_EXAMPLES].tolist())
        return UpdateReport(
            changed=tuple(name for number, name in names.items() if number in self._changed),
            unchanged=tuple(name for number, name in names.items() if number not in self._changed),
            missing=tuple(name for name, known in zip(ids, stored.tolist(), strict=True) if not known),
            n_frames=self._n_frames,
            n_missing_frames=len(missing),
            missing_frames=examples,
            notes=tuple(self._notes()),
        )

    def _missing_rows(self) -> NDArray[np.int64]:
        """Rows of the table about frames that stored videos do not have, rising; each frame once."""
        if not (self._by_frame and self._of_frames) or not len(self._order):
            return np.zeros(0, np.int64)
        found = np.zeros(self._key[-1] + 1, np.bool_)
        found[self._key[self._found]] = True
        first = np.flatnonzero(np.diff(self._key, prepend=-1))
        return np.sort(self._order[first[~found]])

    def _notes(self) -> list[str]:
        notes = []
        if self._table.unknown:
            notes.append(
                f"The table has columns that mean nothing here and were left out: {', '.join(self._table.unknown)}. "
                "A column with a text about videos is called about:NAME."
            )
        if self._n_apart:
            notes.append(
                f"{self._n_apart:,} frames have other seconds in the table than are stored; seconds are content, as vectors are, and stay."
            )
        by = _PLACED_BY.get(self._snapshot.manifest.layout.placement, ())
        if self._n_frames and self._of_frames & set(by):
            notes.append(
                "The frames stay in the shards they were in; a reshard or a build places them by what they are now."
            )
        return notes
