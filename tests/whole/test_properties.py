"""Whatever is done to a collection, it holds and finds what a model of plain arrays does (`testing/model.py`).

Three ways to look for a difference: random histories of one collection, a table in which every pair of circumstances
occurs, and answers that must not depend on how the frames are stored. Sizes inside the engine are set so low that tens of
frames already have codes, several segments to a shard and several steps to every loop.

    pytest tests/whole/test_properties.py                                           the same examples every time, about a minute
    PROPERTY_EXAMPLES=500 PROPERTY_STEPS=30 pytest tests/whole/test_properties.py   new examples every time, to hunt

`PROPERTY_EXAMPLES` is the number of histories (and half of it the number of examples of the other properties),
`PROPERTY_STEPS` the length of a history.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.collection import Collection
from engine.errors import DuplicateVideo, NotFound
from engine.frames import columns
from engine.layout import PLACEMENTS
from engine.routing import regression
from engine.search import SearchResult, pipeline, plan
from engine.storage import gather, segment
from engine.storage import rows as records
from engine.storage.limits import limited
from engine.types import DAYPARTS, Filter, FrameBatch, NewVideo
from engine.vectors import cells
from testing.model import Mask, Model, Vector, close

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "0"))
STEPS = int(os.environ.get("PROPERTY_STEPS", "12"))
QUICK = settings(
    max_examples=EXAMPLES or 15,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    phases=(Phase.generate, Phase.shrink) if EXAMPLES else (Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    print_blob=True,
)
FEW = settings(QUICK, max_examples=EXAMPLES // 2 or 8)

TAGS = ("object:cat", "object:car", "scene:beach", "scene:street", "weather:snow")
SHARDS = (1, 3, 7, 20)
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "time_of_day": ({}, {"by": "hour"}),
    "timeline": ({}, {"minutes": 0.1}),
    "content": ({}, {"classes": {"animals": ["object:cat"], "cold": ["weather:*"]}}),
    "hybrid": ({}, {"classes": {"cold": ["weather:*"]}}),
}
"""What is asked of a placement, where it takes anything."""


@pytest.fixture(autouse=True, scope="module")
def _everything_in_small() -> Iterator[None]:
    small = limited(coded_from=40, small_segment=20, segment_nbytes=1000, portion=64, merge_at=3, exact_matches=3)
    with small, pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.storage.segment_writer.STEP", 16)
        patch.setattr("engine.storage.segment_writer._SAMPLED", 10)
        patch.setattr(segment, "_GATHERED", 4)
        patch.setattr(gather, "GATHER_STEP", 16)
        patch.setattr(records, "_STEP", 8)
        patch.setattr(cells, "_BLOCK", 16)
        patch.setattr(cells, "GROUPS_SEARCHED", 2)
        patch.setattr(columns, "_BLOCK", 32)
        patch.setattr(regression, "_ROWS", 16)
        patch.setattr(regression, "_CELLS", 5)
        patch.setattr(plan, "FIXED_WORK", 0)
        yield


# What is stored


@dataclass(frozen=True)
class Told:
    """How a video is made up."""

    seed: int = 0
    n: int = 30
    vectors: str = "clusters"
    """`clusters`, `same` where many rows are equal, `far` where they lie outside what a codec has seen."""
    captured: str = "start"
    """`start` of the recording, `none`, or a time for `each` frame, some unknown."""
    tagged: float = 0.4
    """Share of frames that a tag is on."""
    shots: bool = True
    in_order: bool = True
    """Whether frames come by time, each place in the video once."""

    def made(self, name: str, dim: int) -> tuple[NewVideo, FrameBatch]:
        rng = np.random.default_rng(self.seed)
        n = self.n
        centres = np.random.default_rng(99).normal(size=(6, dim))
        vectors = centres[rng.integers(0, 6, n)] + 0.3 * rng.normal(size=(n, dim))
        if self.vectors == "same":
            vectors = vectors[rng.integers(0, min(3, n), n)]
        elif self.vectors == "far":
            vectors *= 3.0
            vectors[:, 0] += 4.0
        start = datetime(2024, 5, 1, 4) + timedelta(hours=5 * self.seed, seconds=self.seed / 3)
        each = np.datetime64(start, "us") + rng.integers(0, 30 * 3600, n).astype("timedelta64[s]")
        each[rng.random(n) < 0.3] = np.datetime64("NaT")
        index = np.arange(n) * 24
        seconds = np.arange(n) * 2.5
        if not self.in_order:
            index, seconds = rng.permutation(index // 48), rng.permutation(np.round(seconds / 7, 1))
        carried = rng.random((n, len(TAGS))) < self.tagged
        carried[:, self.seed % len(TAGS)] = False  # So that some segments can be ruled out.
        batch = FrameBatch(
            vectors=vectors.astype(np.float32),
            frame_index=index.astype(np.int64),
            seconds=seconds,
            captured_at=each if self.captured == "each" else None,
            shot=(np.arange(n) // 4).astype(np.int32) if self.shots else None,
            tags=tuple(tuple(np.array(TAGS)[row].tolist()) for row in carried) if self.tagged else (),
        )
        title = f"Video {name}" if self.seed % 2 else ""
        return NewVideo(name, title, captured_at=start if self.captured == "start" else None), batch


def interleaved(batches: Sequence[FrameBatch], rng: np.random.Generator) -> list[FrameBatch]:
    """The frames of several videos in mixed order, in batches of any size."""
    place = np.concatenate([np.full(len(batch), i, np.int32) for i, batch in enumerate(batches)])
    none = np.datetime64("NaT", "us")
    captured = [
        np.full(len(batch), none) if batch.captured_at is None else batch.captured_at.astype("datetime64[us]")
        for batch in batches
    ]
    shots = [np.full(len(batch), -1, np.int32) if batch.shot is None else batch.shot for batch in batches]
    tags = [each for batch in batches for each in batch.tags or ((),) * len(batch)]
    by_start = all(batch.captured_at is None for batch in batches)
    order = rng.permutation(len(place))
    cuts = np.sort(rng.integers(0, len(place) + 1, rng.integers(0, 5)))
    return [
        FrameBatch(
            vectors=np.concatenate([batch.vectors for batch in batches])[rows],
            frame_index=np.concatenate([batch.frame_index for batch in batches])[rows],
            seconds=np.concatenate([batch.seconds for batch in batches])[rows],
            video=place[rows],
            captured_at=None if by_start else np.concatenate(captured)[rows],
            shot=np.concatenate(shots)[rows],
            tags=tuple(tags[i] for i in rows),
        )
        for rows in np.split(order, cuts)
    ]


# What is asked

FILTERS = ("videos", "seconds", "captured", "dayparts", "hours", "tags_any", "tags_all", "tags_none")


def make_filter(model: Model, kinds: Sequence[str], seed: int) -> Filter:
    """A filter with conditions of these kinds, on what the model holds; a kind that has nothing to name is left out."""
    rng = np.random.default_rng(seed)
    times = model.captured[~np.isnat(model.captured)]
    tags = sorted(model.tag_counts())
    made: dict[str, Any] = {}
    for kind in kinds:
        if kind == "videos" and model.videos:
            made[kind] = _some(rng, list(model.videos))
        elif kind == "seconds" and len(model):
            made[kind] = _range(rng, np.unique(model.seconds).tolist())
        elif kind == "captured" and len(times):
            made[kind] = _range(rng, np.unique(times).tolist())
        elif kind == "dayparts":
            made[kind] = _some(rng, list(DAYPARTS), 2)
        elif kind == "hours":
            made[kind] = _some(rng, list(range(24)), 8)
        elif kind.startswith("tags") and tags:
            made[kind] = _some(rng, tags, 2)
    return Filter(**made)


def _some(rng: np.random.Generator, values: list[Any], most: int = 3) -> tuple[Any, ...]:
    picked = rng.choice(len(values), int(rng.integers(1, min(most, len(values)) + 1)), replace=False)
    return tuple(values[i] for i in picked)


def _range(rng: np.random.Generator, values: list[Any]) -> tuple[Any, Any]:
    """From one value to another, either end perhaps open; never empty by itself."""
    start, stop = sorted(rng.choice(len(values), 2).tolist())
    low, high = values[start], values[stop]
    open_end = rng.integers(0, 4)
    return (None if open_end == 0 else low, None if open_end == 1 or low == high else high)


def make_queries(model: Model, n: int, seed: int) -> list[Vector]:
    """Directions at random and, every other, near a stored frame."""
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(n, model.dim)).astype(np.float32)
    if len(model):
        near = rng.integers(0, len(model), n)
        queries[::2] = model.rows[near[::2]] + 0.1 * queries[::2]
    return list(queries)


def keys(result: SearchResult) -> list[tuple[str, int, float]]:
    return [(hit.video_id, hit.frame_index, hit.seconds) for hit in result.hits]


def scores(result: SearchResult) -> list[float]:
    return [hit.score for hit in result.hits]


# A collection beside its model


class Twins:
    """One collection and its model; what is done is done to both."""

    def __init__(self, folder: Path, dim: int, metric: str, store: str, **given: Any) -> None:
        self.folder = folder
        self.model = Model(dim, metric, store)
        self.opened: dict[str, Any] = {"cache_bytes": 1 << 20, "workers": 1, "residency": "loaded"}
        # Codes of the store's own type, so that nothing is refused before it is asked for.
        self.collection = Collection.create(
            folder, dim=dim, metric=metric, store=store, route="routed", n_shards=3, **given, **self.opened
        )
        self.two_level = False
        """Whether the cells come in two levels."""
        self.clean = True
        """Whether no deleted frame can still be counted."""

    def close(self) -> None:
        self.collection.close()

    def reopen(self, **opened: Any) -> None:
        self.collection.close()
        self.opened = {**self.opened, **opened}
        self.collection = Collection.open(self.folder, **self.opened)

    def add(self, name: str, told: Told) -> None:
        video, frames = told.made(name, self.model.dim)
        assert self.collection.add(video, frames) is not None
        self.model.add([video], [frames])

    def store(self, told: dict[str, Told], seed: int) -> None:
        made = [each.made(name, self.model.dim) for name, each in told.items()]
        batches = interleaved([frames for _, frames in made], np.random.default_rng(seed))
        assert len(self.collection.store([video for video, _ in made], iter(batches))) == len(made)
        self.model.add([video for video, _ in made], batches)

    def update(self, names: Sequence[str], seed: int, *, by_frame: bool, change: str) -> None:
        """Change what is said of some videos, or of some of their frames, by a table."""
        rng, model = np.random.default_rng(seed), self.model
        rows: list[dict[str, Any]] = []
        for name in names:
            indices = np.unique(model.frame_index[model.video == name])
            titles = {"title": f"Now {seed}"} if rng.random() < 0.4 else {}
            for index in (
                np.sort(rng.choice(indices, rng.integers(1, len(indices) + 1), False)) if by_frame else (None,)
            ):
                row: dict[str, Any] = {"name": name, **titles, "index": None if index is None else int(index)}
                if rng.random() < 0.5:
                    row["at"] = datetime(2025, 2, 3, 4) + timedelta(minutes=int(rng.integers(0, 5000)))
                if by_frame and rng.random() < 0.5:
                    row["shot"] = int(rng.integers(0, 9))
                if rng.random() < 0.7:
                    row["tags"] = frozenset(rng.choice([*TAGS, "mood:calm"], rng.integers(0, 4), False).tolist())
                rows.append(row)
        rows = [rows[i] for i in rng.permutation(len(rows))]
        table = pa.table(
            {
                "video_id": [row["name"] for row in rows],
                **({"frame_index": [row["index"] for row in rows]} if by_frame else {}),
                "title": pa.array([row.get("title") for row in rows], pa.string()),
                "captured_at": pa.array([row.get("at") for row in rows], pa.timestamp("us")),
                **({"shot": pa.array([row.get("shot") for row in rows], pa.int32())} if by_frame else {}),
                "tags": pa.array(
                    [None if "tags" not in row else sorted(row["tags"]) for row in rows], pa.list_(pa.string())
                ),
            }
        )
        path = self.folder.parent / f"{self.folder.name}.parquet"
        pa.parquet.write_table(table, path)
        report = self.collection.update(path, tags=change)
        assert (set(report.changed) | set(report.unchanged), report.missing) == (set(names), ())
        assert report.n_missing_frames == 0
        # The first of its frames says when a recording started.
        for row in sorted(rows, key=lambda row: -(row["index"] or 0)):
            model.update(**row, change=change)
        again = self.collection.update(path, tags=change)
        assert (again.changed, again.n_frames) == ((), 0)

    def delete(self, name: str) -> None:
        gone = self.collection.delete(name)
        assert gone == self.model.delete(name)
        self.clean = self.clean and not gone

    def build(self, *, fitted: bool = False, **given: Any) -> None:
        """Build; `fitted` gives queries to fit a router on, which later builds keep."""
        if fitted:
            given["queries"] = np.random.default_rng(1).normal(size=(40, self.model.dim))
        self.collection.build(**given)
        self.two_level = self.collection.settings.placement == "hierarchical"
        self.clean = True

    def reshard(self, **given: Any) -> None:
        self.collection.reshard(**given)
        self.clean = True

    def compact(self) -> None:
        n_rows = sum(stats["rows"] for stats in self._segments())
        assert self.collection.compact() == n_rows - len(self.model)
        assert sum(stats["rows"] for stats in self._segments()) == len(self.model)
        self.clean = True

    def merge(self) -> None:
        small = [stats["shard"] for stats in self._segments() if stats["rows"] < 20]
        with self.collection.writing() as held:
            assert held.maintenance.merge(everything=True) == sum(small.count(shard) > 1 for shard in set(small))

    def _segments(self) -> list[dict[str, int]]:
        with self.collection._generations.reading() as snapshot:
            return [{"shard": view.segment.row.shard, "rows": view.segment.n_rows} for view in snapshot.views()]

    # Claims

    def assert_alike(self, where: Filter, k: int, seed: int, n_queries: int = 3) -> None:
        """All claims about searches with one filter."""
        model, collection = self.model, self.collection
        mask = model.passes(where)
        queries = make_queries(model, n_queries, seed)
        self.assert_exact(collection, queries, k, where, mask)
        self.assert_routed(queries, k, where, mask)
        self.assert_aimed(queries, k, where, mask)
        self.assert_by_frame(where, k, mask, seed)
        self.assert_per_shot(queries[0], k, where, mask)

    def assert_exact(self, collection: Collection, queries: list[Vector], k: int, where: Filter, mask: Mask) -> None:
        many = collection.search_many(queries, k, exact=True, where=where)
        for query, result in zip(queries, many, strict=True):
            self.model.assert_answers(result.hits, query, k, mask)
            one = collection.search(query, k, exact=True, where=where)
            self.model.assert_answers(one.hits, query, k, mask)
            close(scores(one), scores(result))
            assert one.trace.method == "exact"
            assert one.trace.vectors_total == len(self.model)
            assert [shard.shard for shard in one.trace.shards] == list(range(one.trace.shards_total))

    def assert_routed(self, queries: list[Vector], k: int, where: Filter, mask: Mask) -> None:
        """Probing every cell is a full scan, and fewer cells still give exact scores and as many hits as there are."""
        collection, model = self.collection, self.model
        if not collection.built:
            return
        stats = collection.stats()
        # A cap that caps nothing keeps the search from scoring the few matches instead.
        wide: dict[str, Any] = {"n_probe": stats.n_cells, "max_shards": len(stats.shards), "where": where}
        everything = max(k, 10 * len(model))
        for query, result in zip(queries, collection.search_many(queries, everything, **wide), strict=True):
            assert result.trace.method == "routed"
            model.assert_answers(result.hits, query, everything, mask)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "rerank_depth", lambda codec, k: 100_000)
            many = collection.search_many(queries, k, **wide)
            for query, result in zip(queries, many, strict=True):
                model.assert_answers(result.hits, query, k, mask)
                one = collection.search(query, k, **wide)
                model.assert_answers(one.hits, query, k, mask)
                assert one.trace.n_probe == result.trace.n_probe
                assert one.trace.vectors_scanned == result.trace.vectors_scanned
                cheap = collection.search(query, k, where=where, n_probe=stats.n_cells)
                model.assert_answers(cheap.hits, query, k, mask)
        for n_probe in {1, max(1, stats.n_cells // 3)}:
            narrow = {**wide, "n_probe": n_probe}
            for query, result in zip(queries, collection.search_many(queries, k, **narrow), strict=True):
                model.assert_true(result.hits, query, mask)
                assert len(result.hits) == min(k, int(mask.sum()))
                assert all(shard.score is None or np.isfinite(shard.score) for shard in result.trace.shards)

    def assert_aimed(self, queries: list[Vector], k: int, where: Filter, mask: Mask) -> None:
        """A search that aims at a recall gives true frames, as many as there are, and is exact where it cannot tell."""
        for recall in (None, 0.5, 0.95, 1.0):
            results = self.collection.search_many(queries, k, recall=recall, where=where)
            for query, result in zip(queries, results, strict=True):
                self.model.assert_true(result.hits, query, mask)
                assert len(result.hits) == min(k, int(mask.sum()))
                if result.trace.method == "exact":
                    assert result.trace.expected_recall == 1.0
                    self.model.assert_answers(result.hits, query, k, mask)
                elif recall is not None:
                    assert result.trace.expected_recall == recall < 1

    def assert_by_frame(self, where: Filter, k: int, mask: Mask, seed: int) -> None:
        """A stored frame as the query is a query by its vector, and finds itself."""
        model = self.model
        if not len(model):
            return
        place = seed % len(model)
        frame_id = int(model.frame_id[place])
        np.testing.assert_array_equal(self.collection.vector(frame_id), model.rows[place])
        model.assert_is(self.collection.frame(frame_id))
        hits = self.collection.search(frame_id, k, exact=True, where=where).hits
        model.assert_answers(hits, model.rows[place], k, mask)
        found = self.collection.neighbours(frame_id, 1 + seed % 4)
        assert [each.seconds for each in found] == model.neighbours(frame_id, 1 + seed % 4)
        assert len({each.frame_id for each in found}) == len(found)
        for each in found:
            model.assert_is(each)
            assert each.video_id == model.video[place]

    def assert_per_shot(self, query: Vector, k: int, where: Filter, mask: Mask) -> None:
        for per_shot in (1, 2):
            hits = self.collection.search(query, k, exact=True, where=where, per_shot=per_shot).hits
            self.model.assert_true(hits, query, mask)
            close(self.model.best_per_shot(query, k, per_shot, mask), [hit.score for hit in hits])

    def assert_contents(self) -> None:
        """What is told of the collection is what the model holds, over all and shard by shard."""
        model, collection = self.model, self.collection
        stats = collection.stats()
        assert collection.n_frames == stats.n_frames == len(model)
        assert stats.n_videos == len(model.videos)
        counts = model.tag_counts()
        assert collection.tags() == stats.tags
        if self.clean:
            assert stats.tags == counts
        assert all(stats.tags.get(tag, 0) >= count for tag, count in counts.items())
        frames = [collection.frame(i) for i in model.frame_id.tolist()]
        for frame in frames:
            model.assert_is(frame)
        shard = np.array([frame.shard for frame in frames], np.int64)
        assert [each.n_frames for each in stats.shards] == np.bincount(shard, minlength=len(stats.shards)).tolist()
        videos = collection.videos()
        assert [video.video_id for video in videos] == list(model.videos)
        for video in videos:
            mine = model.video == video.video_id
            assert video.n_frames == mine.sum()
            assert video.shards == tuple(np.unique(shard[mine]).tolist())
            assert video.captured_at == model.videos[video.video_id].captured_at
        for each in stats.shards:
            mine = shard == each.shard
            assert each.videos == tuple(name for name in model.videos if name in set(model.video[mine]))
            if mine.any():
                assert each.seconds is not None
                assert each.seconds[0] <= model.seconds[mine].min() <= model.seconds[mine].max() <= each.seconds[1]
        if collection.built and stats.placement == "round_robin":
            assert shard.tolist() == (model.frame_id % len(stats.shards)).tolist()
        if collection.built and stats.placement == "by_video":
            assert all(len(video.shards) == 1 for video in videos)
        assert stats.cache.nbytes <= self.opened["cache_bytes"]


# Random histories

told = st.builds(
    Told,
    seed=st.integers(0, 50),
    n=st.one_of(st.integers(1, 8), st.integers(1, 90)),
    vectors=st.sampled_from(("clusters", "same", "far")),
    captured=st.sampled_from(("start", "none", "each")),
    tagged=st.sampled_from((0.0, 0.1, 0.4)),
    shots=st.booleans(),
    in_order=st.booleans(),
)
names = st.integers(0, 9).map(lambda i: f"v{i}")
some_filter = st.lists(st.sampled_from(FILTERS), max_size=4, unique=True)
laid_out = st.sampled_from(tuple(PLACEMENTS)).flatmap(
    lambda name: st.fixed_dictionaries(
        {
            "placement": st.just(name),
            "options": st.sampled_from((None, *OPTIONS.get(name, ()))),
            "n_shards": st.sampled_from(SHARDS),
        }
    )
)


class Histories(RuleBasedStateMachine):
    """Anything may be done at any time, and the collection stays its model's twin."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.steps = 0

    @initialize(
        dim=st.sampled_from((8, 13)),
        metric=st.sampled_from(("ip", "l2")),
        store=st.sampled_from(("fp16", "fp32")),
        first=st.dictionaries(names, told, min_size=0, max_size=3),
        layout=st.none() | laid_out,
        seed=st.integers(0, 100),
    )
    def make(
        self, dim: int, metric: str, store: str, first: dict[str, Told], layout: dict[str, Any] | None, seed: int
    ) -> None:
        self.twins = Twins(self.folder / "collection", dim, metric, store)
        # Somebody who reads all the while, with codes left in the file and no cache to speak of.
        self.reader = Collection.open(self.twins.folder, cache_bytes=0, workers=2, residency="mapped")
        if first:
            self.twins.store(first, seed)
            if layout is not None:
                self.twins.build(**layout)

    @rule(name=names, told=told)
    def add(self, name: str, told: Told) -> None:
        if name in self.twins.model.videos:
            video, frames = told.made(name, self.twins.model.dim)
            with pytest.raises(DuplicateVideo, match="stored already"):
                self.twins.collection.add(replace(video, fingerprint="another"), frames)
        else:
            self.twins.add(name, told)
            # Once more is no offence, and nothing new.
            assert self.twins.collection.add(*told.made(name, self.twins.model.dim)) is None

    @rule(told=st.dictionaries(names, told, min_size=1, max_size=4), seed=st.integers(0, 100))
    def store(self, told: dict[str, Told], seed: int) -> None:
        if set(told) & set(self.twins.model.videos):
            made = [each.made(name, self.twins.model.dim) for name, each in told.items()]
            with pytest.raises(DuplicateVideo, match="stored already"):
                self.twins.collection.store([video for video, _ in made], [frames for _, frames in made])
        else:
            self.twins.store(told, seed)

    @rule(told=st.lists(told, min_size=1, max_size=3))
    def store_in_vain(self, told: list[Told]) -> None:
        """One bad row in the last batch, after others have been written, and nothing is stored."""
        made = [each.made(f"new{i}", self.twins.model.dim) for i, each in enumerate(told)]
        batches = [replace(frames, video=np.full(len(frames), i, np.int32)) for i, (_, frames) in enumerate(made)]
        bad = batches[-1].vectors.copy()
        bad[-1, -1] = np.nan
        with pytest.raises(ValueError, match="not a finite number"):
            self.twins.collection.store(
                [video for video, _ in made], [*batches[:-1], replace(batches[-1], vectors=bad)]
            )

    @rule(which=st.integers(0, 9))
    def delete(self, which: int) -> None:
        if not self.twins.model.videos:
            with pytest.raises(NotFound):
                self.twins.collection.delete("v0")
            return
        name = list(self.twins.model.videos)[which % len(self.twins.model.videos)]
        frame_id = int(self.twins.model.frame_id[self.twins.model.video == name][0])
        self.twins.delete(name)
        with pytest.raises(NotFound):
            self.twins.collection.search(frame_id)
        with pytest.raises(NotFound):
            self.reader.search(frame_id, where=Filter(videos=(name,)))

    @rule(
        layout=laid_out,
        codec=st.sampled_from((None, "sq8", "sq4", "fp16", "fp32")),
        n_cells=st.sampled_from((None, 0, 1, 2, 5, 16, 40)),
        fitted=st.booleans(),
    )
    def build(self, layout: dict[str, Any], codec: str | None, n_cells: int | None, fitted: bool) -> None:
        given = {**layout, "codec": codec, "n_cells": n_cells}
        if codec == "fp32" and self.twins.model.store == "fp16":
            with pytest.raises(ValueError, match=r"^The codec fp32 needs .*\.$"):
                self.twins.collection.build(**given)
        elif not len(self.twins.model):
            with pytest.raises(ValueError, match=r"^The collection holds no frames yet, .*\.$"):
                self.twins.collection.build(**given)
        else:
            fitted = fitted and self.twins.model.metric == "ip"
            self.twins.build(**given, fitted=fitted)
            event(f"built {layout['placement']}{' with a router' if fitted else ''}")

    @precondition(lambda self: self.twins.collection.built and len(self.twins.model))
    @rule(layout=laid_out)
    def reshard(self, layout: dict[str, Any]) -> None:
        if layout["placement"] == "hierarchical" and not self.twins.two_level:
            with pytest.raises(ValueError, match=r"^The placement hierarchical needs cells in two levels, .*\.$"):
                self.twins.collection.reshard(**layout)
        else:
            self.twins.reshard(**layout)
            event(f"resharded {layout['placement']}")

    @precondition(lambda self: self.twins.model.videos)
    @rule(
        which=st.lists(st.integers(0, 9), min_size=1, max_size=3),
        seed=st.integers(0, 100),
        by_frame=st.booleans(),
        change=st.sampled_from(("replace", "add", "remove")),
    )
    def update(self, which: list[int], seed: int, by_frame: bool, change: str) -> None:
        there = list(self.twins.model.videos)
        names = list(dict.fromkeys(there[i % len(there)] for i in which))
        self.twins.update(names, seed, by_frame=by_frame, change=change)

    @rule()
    def compact(self) -> None:
        self.twins.compact()

    @rule()
    def merge(self) -> None:
        self.twins.merge()

    @rule(
        residency=st.sampled_from(("loaded", "lists", "mapped")),
        workers=st.sampled_from((1, 2)),
        cache_bytes=st.sampled_from((0, 3000, 1 << 20)),
    )
    def reopen(self, residency: str, workers: int, cache_bytes: int) -> None:
        self.twins.reopen(residency=residency, workers=workers, cache_bytes=cache_bytes)
        assert self.twins.collection.check() == []

    @rule(kinds=some_filter, k=st.sampled_from((1, 3, 10, 300)), seed=st.integers(0, 1000))
    def ask(self, kinds: list[str], k: int, seed: int) -> None:
        where = make_filter(self.twins.model, kinds, seed)
        self.twins.assert_alike(where, k, seed)
        mask = self.twins.model.passes(where)
        self.twins.assert_exact(self.reader, make_queries(self.twins.model, 2, seed), k, where, mask)

    @invariant()
    def alike(self) -> None:
        self.steps += 1
        model = self.twins.model
        self.twins.assert_contents()
        kinds = ((), (FILTERS[self.steps % len(FILTERS)],), (FILTERS[self.steps % 5], FILTERS[5 + self.steps % 3]))
        where = make_filter(model, kinds[self.steps % 3], self.steps)
        self.twins.assert_alike(where, 5, self.steps, n_queries=2)
        self.twins.assert_exact(self.reader, make_queries(model, 2, self.steps), 5, where, model.passes(where))

    def teardown(self) -> None:
        try:
            if hasattr(self, "twins"):
                with closing(self.twins), closing(self.reader):
                    assert self.twins.collection.check() == []
                    assert self.reader.check() == []
        finally:
            shutil.rmtree(self.folder)


TestAnyHistory = Histories.TestCase
TestAnyHistory.settings = QUICK


# Every pair of circumstances


FACTORS: dict[str, tuple[Any, ...]] = {
    "placement": tuple(PLACEMENTS),
    "codec": ("sq8", "sq4", "fp16", "fp32"),
    "shards": SHARDS,
    "metric": ("ip", "l2"),
    "store": ("fp16", "fp32"),
    "segments": ("one build", "build plus adds"),
    "deletes": ("none", "some", "all of a shard"),
    "residency": ("loaded", "lists", "mapped"),
    "workers": (1, 2),
    "cache": (0, 3000, 1 << 20),
    "cells": (0, 1, 16),
    "router": ("none", "fitted"),
    "then": ("nothing", "compact", "merge", "reshard", "rebuild", "update"),
}


def possible(case: dict[str, Any]) -> bool:
    """Whether the settings go together: codes no finer than the store, and a router for inner products only."""
    return (case.get("codec"), case.get("store")) != ("fp32", "fp16") and (
        (case.get("router"), case.get("metric")) != ("fitted", "l2")
    )


def pairs(case: dict[str, Any]) -> set[tuple[tuple[str, Any], ...]]:
    return set(combinations(((name, case[name]) for name in FACTORS if name in case), 2))


def every_pair() -> set[tuple[tuple[str, Any], ...]]:
    """Each value of each factor beside each value of every other, as far as both can be had."""
    return {
        ((one, a), (two, b))
        for one, two in combinations(FACTORS, 2)
        for a, b in product(FACTORS[one], FACTORS[two])
        if possible({one: a, two: b})
    }


def covering() -> list[dict[str, Any]]:
    """Few cases in which every possible pair occurs: each starts from a pair that is missing and takes what adds most."""
    missing = every_pair()
    cases = []
    while missing:
        case = dict(min(missing, key=repr))
        for name in FACTORS:
            if name not in case:
                options = [{**case, name: value} for value in FACTORS[name] if possible({**case, name: value})]
                # Ties go round, so that no value is the favourite.
                turned = [options[(i + len(cases)) % len(options)] for i in range(len(options))]
                case = max(turned, key=lambda each: len(pairs(each) & missing))
        missing -= pairs(case)
        cases.append({name: case[name] for name in FACTORS})
    return cases


CASES = covering()


def test_the_table_holds_every_possible_pair_of_circumstances():
    held = set().union(*(pairs(case) for case in CASES))
    assert held == every_pair()
    assert len(CASES) < 70


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "-".join(str(each).replace(" ", "_") for each in case.values())
)
def test_any_two_circumstances_together_lose_nothing(tmp_path, case):
    twins = Twins(tmp_path / "collection", 8, case["metric"], case["store"], codec=case["codec"])
    layout = {"placement": case["placement"], "n_shards": case["shards"]}
    with closing(twins):
        captured = ("start", "none", "each")
        first = {f"v{i}": Told(seed=i, n=8 + 9 * i, captured=captured[i % 3], shots=i != 2) for i in range(5)}
        twins.store(first, seed=1)
        twins.build(**layout, n_cells=case["cells"], fitted=case["router"] == "fitted")
        if case["segments"] == "build plus adds":
            twins.add("w0", Told(seed=11, n=50, vectors="far", in_order=False))
            twins.store({"w1": Told(seed=12, n=40, captured="each"), "w2": Told(seed=13, n=3, vectors="same")}, seed=2)
        if case["deletes"] == "some":
            twins.delete("v1")
            twins.delete("v4")
        elif case["deletes"] == "all of a shard":
            held = {video.video_id: set(video.shards) for video in twins.collection.videos()}
            shards = set().union(*held.values())
            emptied = min(shards, key=lambda shard: (sum(shard in each for each in held.values()), shard))
            for name in [name for name, each in held.items() if emptied in each]:
                twins.delete(name)
            assert twins.collection.stats().shards[emptied].n_frames == 0
            if not twins.model.videos:
                twins.assert_contents()
                twins.assert_alike(Filter(), 5, seed=1)
                twins.add("v1", Told(seed=20, n=35))
        if case["then"] == "compact":
            twins.compact()
        elif case["then"] == "merge":
            twins.merge()
        elif case["then"] == "reshard":
            twins.reshard(n_shards=4)
        elif case["then"] == "rebuild":
            twins.build(n_shards=5, codec="sq8")
        elif case["then"] == "update":
            names = list(twins.model.videos)[::2]
            twins.update(names, seed=3, by_frame=case["metric"] == "ip", change="replace")
        twins.reopen(residency=case["residency"], workers=case["workers"], cache_bytes=case["cache"])
        twins.assert_contents()
        # Three kinds of filters go round, so that each meets many cases.
        number = CASES.index(case)
        single = [(FILTERS[(3 * number + i) % len(FILTERS)],) for i in range(3)]
        for i, kinds in enumerate(((), *single, FILTERS[:6]), start=number):
            twins.assert_alike(make_filter(twins.model, kinds, i), (1, 7)[i % 2], seed=i, n_queries=1 + i // 2 % 2)
        assert twins.collection.check() == []


# What an answer must not depend on


def filled(folder: Path, told: dict[str, Told], metric: str, *, order: int = 0) -> Twins:
    """A collection that is not built, of videos added one by one in some order."""
    twins = Twins(folder, 8, metric, "fp16")
    for i in np.random.default_rng(order).permutation(len(told)) if order else range(len(told)):
        twins.add(list(told)[i], list(told.values())[i])
    return twins


# Rows that are all different, so that keys tell frames apart and ties are rare.
distinct = st.builds(
    Told, seed=st.integers(0, 50), n=st.integers(5, 60), captured=st.sampled_from(("start", "none", "each"))
)
some_videos = st.dictionaries(names, distinct, min_size=2, max_size=4)


@FEW
@given(
    told=some_videos,
    layouts=st.lists(laid_out, min_size=2, max_size=3),
    order=st.integers(1, 100),
    metric=st.sampled_from(("ip", "l2")),
    kinds=some_filter,
    seed=st.integers(0, 100),
)
def test_an_exact_answer_does_not_depend_on_how_the_frames_are_stored(told, layouts, order, metric, kinds, seed):
    with tempfile.TemporaryDirectory() as folder, closing(filled(Path(folder) / "a", told, metric)) as twins:
        queries = make_queries(twins.model, 3, seed)
        where = make_filter(twins.model, kinds, seed)

        def answers(collection: Collection) -> list[list[float]]:
            return [scores(each) for each in collection.search_many(queries, 12, exact=True, where=where)]

        def found(collection: Collection) -> list[list[tuple[str, int, float]]]:
            return [sorted(keys(each)) for each in collection.search_many(queries, 500, exact=True, where=where)]

        expected, frames = answers(twins.collection), found(twins.collection)

        def assert_the_same(collection: Collection) -> None:
            for ours, theirs in zip(answers(collection), expected, strict=True):
                close(theirs, ours)
            assert found(collection) == frames

        with closing(filled(Path(folder) / "b", told, metric, order=order)) as other:
            assert_the_same(other.collection)
            for layout in layouts:
                other.build(**layout)
                assert_the_same(other.collection)
            other.reopen(residency="mapped", cache_bytes=0, workers=2)
            assert_the_same(other.collection)
            if layouts[0]["placement"] != "hierarchical" or other.two_level:
                other.reshard(**layouts[0])
                assert_the_same(other.collection)
        twins.merge()
        assert_the_same(twins.collection)
        twins.build(**layouts[0])
        # What was added and taken away again leaves no trace.
        twins.add("passing", Told(seed=77, n=40))
        twins.delete("passing")
        assert_the_same(twins.collection)
        twins.compact()
        assert_the_same(twins.collection)


@FEW
@given(
    told=some_videos,
    layout=laid_out,
    built=st.booleans(),
    kinds=some_filter,
    more=some_filter,
    seed=st.integers(0, 100),
)
def test_filters_narrow_join_and_split_answers(told, layout, built, kinds, more, seed):
    with tempfile.TemporaryDirectory() as folder, closing(filled(Path(folder) / "a", told, "ip")) as twins:
        if built:
            twins.build(**layout)
        (query,) = make_queries(twins.model, 1, seed)

        def ids(where: Filter) -> set[int]:
            hits = twins.collection.search(query, 500, exact=True, where=where).hits
            return {hit.frame_id for hit in hits}

        where = make_filter(twins.model, kinds, seed)
        both = Filter(**{name: getattr(where, name) for name in FILTERS})
        narrower = make_filter(twins.model, more, seed + 1)
        for name in more:
            if getattr(both, name) == getattr(Filter(), name):
                both = replace(both, **{name: getattr(narrower, name)})
        assert ids(both) <= ids(where) <= ids(Filter())

        tags = sorted(twins.model.tag_counts())
        each = [ids(replace(where, tags_any=(tag,), tags_all=(), tags_none=())) for tag in tags]
        without = ids(replace(where, tags_any=(), tags_all=(), tags_none=()))
        if tags:
            assert set().union(*each) == ids(replace(where, tags_any=tuple(tags), tags_all=(), tags_none=()))
        for tag, carried in zip(tags, each, strict=True):
            assert carried == ids(replace(where, tags_any=(), tags_all=(tag,), tags_none=()))
            assert without - carried == ids(replace(where, tags_any=(), tags_all=(), tags_none=(tag,)))

        whole = replace(where, seconds=(None, None))
        cut = float(np.random.default_rng(seed).choice(twins.model.seconds))
        early, late = ids(replace(whole, seconds=(None, cut))), ids(replace(whole, seconds=(cut, None)))
        assert not early & late
        assert early | late == ids(whole)

        timed = set().union(*(ids(replace(whole, dayparts=(part,), hours=())) for part in DAYPARTS))
        assert timed == ids(replace(whole, dayparts=(), hours=tuple(range(24))))
        by_hour = [ids(replace(whole, dayparts=(), hours=(hour,))) for hour in range(24)]
        assert sum(map(len, by_hour)) == len(timed)


@FEW
@given(
    told=some_videos,
    layout=laid_out,
    codec=st.sampled_from(("sq8", "sq4", "fp16")),
    n_cells=st.sampled_from((2, 8, 24)),
    metric=st.sampled_from(("ip", "l2")),
    kinds=some_filter,
    seed=st.integers(0, 100),
)
def test_probing_more_cells_never_finds_worse_frames(told, layout, codec, n_cells, metric, kinds, seed):
    with tempfile.TemporaryDirectory() as folder, closing(filled(Path(folder) / "a", told, metric)) as twins:
        twins.build(**layout, codec=codec, n_cells=n_cells)
        where = make_filter(twins.model, kinds, seed)
        n_shards = len(twins.collection.stats().shards)
        reached = twins.collection.stats().n_cells
        mask = twins.model.passes(where)
        for query in make_queries(twins.model, 3, seed):
            best = twins.model.best(query, 5, mask)
            last = np.full(len(best), -np.inf)
            for n_probe in range(1, reached + 1):
                # Every hit is asked for, so that no code decides.
                hits = twins.collection.search(query, 300, n_probe=n_probe, max_shards=n_shards, where=where).hits
                now = np.array([hit.score for hit in hits])[: len(best)]
                assert len(now) == len(best)
                assert (now <= best + 1e-4).all()
                if not twins.two_level:  # Of two levels, more groups are looked into as well, and others may win.
                    assert (now >= last - 1e-4).all()
                last = now
            close(best, last)


def test_a_large_batch_of_queries_is_as_exact_as_one(tmp_path):
    """For many queries FAISS may take squared distances from norms and products, which cancels where vectors are long."""
    rng = np.random.default_rng(3)
    vectors = (100 + 0.05 * rng.normal(size=(60, 16))).astype(np.float32)
    with closing(Twins(tmp_path / "collection", 16, "l2", "fp32")) as twins:
        frames = FrameBatch(vectors, np.arange(60), np.arange(60.0))
        twins.collection.add(NewVideo("long"), frames)
        twins.model.add([NewVideo("long")], [frames])
        queries = list(vectors[:25] + np.float32(0.01))
        for query, result in zip(queries, twins.collection.search_many(queries, 5, exact=True), strict=True):
            twins.model.assert_answers(result.hits, query, 5)


@pytest.mark.parametrize("codec", ["sq8", "fp32"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_a_filter_for_what_the_query_is_not_about_still_finds_the_best(tmp_path, limit, codec, metric):
    """Where many frames pass, all are compared first and the others dropped; here nearly all the best are dropped."""
    limit(segment_nbytes=1 << 20)
    with closing(Twins(tmp_path / "collection", 8, metric, "fp32", codec=codec)) as twins:
        rng = np.random.default_rng(5)
        for name, side in (("here", 1.0), ("there", -1.0)):
            vectors = (0.5 * rng.normal(size=(300, 8)) + side).astype(np.float32)
            frames = FrameBatch(vectors, np.arange(300), np.arange(300.0))
            twins.collection.add(NewVideo(name), frames)
            twins.model.add([NewVideo(name)], [frames])
        where = Filter(videos=("there",))
        mask = twins.model.passes(where)
        queries = [np.ones(8, np.float32), *make_queries(twins.model, 4, 6)]
        twins.assert_exact(twins.collection, queries, 3, where, mask)
        twins.build(n_shards=1, placement="round_robin", n_cells=8)
        twins.assert_exact(twins.collection, queries, 3, where, mask)
        twins.assert_routed(queries, 3, where, mask)
