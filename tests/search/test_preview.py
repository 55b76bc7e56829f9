"""The preview: exactly what a search then opens, told before anything is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.collection import Collection
from engine.errors import NotFound, ShardFailed
from engine.search import SearchResult
from engine.search.preview import Preview
from engine.storage.limits import current_limits, limited
from engine.storage.segment import Segment
from engine.types import DAYPARTS, Filter, ShardState
from testing.worlds import DIM, TAGS, VIDEOS, N, fill, make_video, queries

WIDTHS = st.sampled_from([{}, {"exact": True}, {"n_probe": 1}, {"n_probe": 3}, {"n_probe": 8}, {"recall": 0.9}])
TAG_LISTS = st.lists(st.sampled_from(TAGS), unique=True, max_size=2).map(tuple)


@st.composite
def filters(draw):
    start = draw(st.sampled_from([None, 0.0, 10.0, 40.0]))
    return Filter(
        videos=draw(st.lists(st.sampled_from(["v0", "v1", "v2", "v4"]), unique=True, max_size=3).map(tuple)),
        seconds=(start, draw(st.sampled_from([None, 50.0, 58.0]))),
        dayparts=draw(st.lists(st.sampled_from(list(DAYPARTS)), unique=True, max_size=2).map(tuple)),
        tags_any=draw(TAG_LISTS),
        tags_all=draw(TAG_LISTS),
        tags_none=draw(TAG_LISTS),
    )


@pytest.fixture(scope="module", params=["plain", "coded", "round_robin", "mapped", "lists", "deleted"])
def world(request, tmp_path_factory):
    """Collections of different makes, with more segments than shards."""
    with limited(coded_from=1 if request.param in ("coded", "mapped", "lists") else current_limits().coded_from):
        path = tmp_path_factory.mktemp("world") / "c"
        placement = "round_robin" if request.param == "round_robin" else "semantic"
        with fill(path, VIDEOS, n_shards=4, placement=placement) as made:
            made.add(*make_video(7))
            if request.param == "deleted":
                made.delete("v3")
        with Collection.open(
            path, residency=request.param if request.param in ("mapped", "lists") else "loaded"
        ) as collection:
            yield collection


def told(preview: Preview) -> list[tuple[object, ...]]:
    return [
        (s.shard, s.name, s.state, s.n_frames, s.score, s.cells, s.vectors_scanned, s.to_read) for s in preview.shards
    ]


def done(result: SearchResult) -> list[tuple[object, ...]]:
    return [
        (s.shard, s.name, s.state, s.n_frames, s.score, s.cells, s.vectors_scanned, s.bytes_read)
        for s in result.trace.shards
    ]


def clause(reason: str) -> str:
    """A reason without where the shard was."""
    return reason.rpartition("; ")[2]


@given(
    seed=st.integers(0, 50),
    k=st.sampled_from([1, 5, 40]),
    width=WIDTHS,
    cap=st.sampled_from([None, None, 1, 2]),
    where=st.one_of(st.none(), filters()),
    boost=st.one_of(st.none(), filters()),
    force_shards=st.sampled_from([(), (), (2,), (0, 3)]),
    kind=st.sampled_from(["text", "image"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_search_opens_exactly_what_its_preview_says(world, seed, k, width, cap, where, boost, force_shards, kind):
    query = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    how = {**width, "where": where, "boost": boost, "force_shards": force_shards, "kind": kind}
    if cap is not None and not width.get("exact"):
        how["max_shards"] = cap
    preview = world.preview(query, k, **how)
    result = world.search(query, k, **how)
    trace = result.trace
    assert told(preview) == done(result)
    assert [clause(s.reason) for s in preview.shards] == [clause(s.reason) for s in trace.shards]
    assert (preview.method, preview.n_cells, preview.router) == (trace.method, trace.n_cells, trace.router)
    assert (preview.expected_recall, preview.warnings) == (trace.expected_recall, trace.warnings)
    assert trace.reason.startswith(preview.reason)
    assert preview.n_probe == trace.n_probe
    assert preview.vectors_scanned == trace.vectors_scanned
    assert preview.frames_total == trace.vectors_total


def test_nothing_is_opened_for_a_preview(world, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a shard was read")

    for name in ("load", "scan", "stored", "verify"):
        monkeypatch.setattr(Segment, name, refuse)
    before = world.cache.stats()
    for how in ({}, {"n_probe": 2}, {"exact": True}, {"where": Filter(tags_any=TAGS[:2])}):
        world.preview(queries(1)[0], 5, **how)
        world.preview(None, **how)
    assert world.cache.stats() == before


def test_a_limit_per_shot_opens_at_least_what_the_preview_says(world):
    for query in queries(6):
        how = {"n_probe": 1, "per_shot": 1}
        opened = {s.shard for s in world.preview(query, 6, **how).searched}
        states = (ShardState.OPENED, ShardState.CACHED)
        assert opened <= {s.shard for s in world.search(query, 6, **how).trace.shards if s.state in states}


class TestWithoutAQuery:
    def test_every_shard_may_answer_where_there_is_no_filter(self, town):
        preview = town.preview()
        assert preview.method == "filter"
        assert len(preview.searched) == 4
        assert preview.frames_left == preview.frames_total == preview.vectors_scanned == N
        assert preview.bytes_left == preview.bytes_total == town.stats().nbytes

    def test_a_filter_leaves_the_shards_that_an_exact_search_would_open(self, town):
        for where in (Filter(videos=("v0",)), Filter(tags_all=TAGS[:2]), Filter(seconds=(50.0, None))):
            preview = town.preview(where=where)
            trace = town.search(queries(1)[0], 5, where=where, exact=True).trace
            assert [s.vectors_scanned for s in preview.shards] == [s.vectors_scanned for s in trace.shards]
            pruned = [s.reason for s in trace.shards if s.state is ShardState.PRUNED]
            assert [s.reason for s in preview.shards if s.state is ShardState.PRUNED] == pruned

    def test_a_filter_that_nothing_passes_leaves_nothing(self, town):
        preview = town.preview(where=Filter(seconds=(1e6, None)))
        assert preview.searched == ()
        assert preview.frames_left == preview.bytes_left == 0


class TestNumbers:
    def test_sizes_are_those_of_the_statistics(self, town):
        town.search(queries(1)[0], 5, n_probe=8)
        stats = town.stats().shards
        preview = town.preview(queries(2)[1], 5, n_probe=1)
        assert [s.nbytes for s in preview.shards] == [s.nbytes for s in stats]
        assert [s.cached_nbytes for s in preview.shards] == [s.cached_nbytes for s in stats]
        assert preview.bytes_left == sum(s.nbytes for s in preview.searched) < preview.bytes_total

    def test_what_was_searched_once_is_in_memory_the_next_time(self, town):
        with Collection.open(town.path) as fresh:
            query = queries(1)[0]
            first = fresh.preview(query, 5, n_probe=2)
            assert {s.state for s in first.searched} == {ShardState.OPENED}
            assert first.to_read == fresh.search(query, 5, n_probe=2).trace.bytes_read > 0
            second = fresh.preview(query, 5, n_probe=2)
            assert {s.state for s in second.searched} == {ShardState.CACHED}
            assert second.to_read == 0

    def test_text_that_is_previewed_is_not_remembered(self, tmp_path, town_encoder):
        with fill(tmp_path / "c", [make_video(0, dim=128)], dim=128, encoder="town") as collection:
            collection.use_encoder(town_encoder)
            collection.searcher.query_encoder.remember = True
            result = collection.search("a dog", 3, n_probe=1)
            size = (collection.path / "past-queries.f16").stat().st_size
            collection.preview("a dog", 3)
            collection.missed("a dog", result, n_probe=1)
            assert (collection.path / "past-queries.f16").stat().st_size == size


class TestErrors:
    @pytest.mark.parametrize(
        ("how", "error", "why"),
        [
            ({"n_probe": 0}, ValueError, "n_probe is 0"),
            ({"recall": 2.0}, ValueError, "recall of 2.0"),
            ({"where": Filter(tags_all=("scene:moon",))}, NotFound, "scene:moon"),
            ({"force_shards": (4,)}, ValueError, "There is no shard 4; the collection has 0 to 3"),
            ({"force_shards": (-1,)}, ValueError, "There is no shard -1"),
        ],
    )
    def test_a_preview_refuses_what_the_search_refuses(self, town, how, error, why):
        for call in (town.preview, town.search):
            with pytest.raises(error, match=why):
                call(queries(1)[0], **how)

    def test_a_shard_that_cannot_be_read_is_told_or_refused(self, tmp_path):
        where = Filter(tags_none=(TAGS[0],))
        with fill(tmp_path / "c", VIDEOS, n_shards=3) as collection:
            broken = sorted(collection.path.glob("segments/*/frames.arrow"))[0]
            broken.write_bytes(b"nothing")
        with Collection.open(tmp_path / "c") as collection:
            for query in (None, queries(1)[0]):
                with pytest.raises(ShardFailed):
                    collection.preview(query, where=where)
                preview = collection.preview(query, where=where, allow_partial=True)
                assert preview.count(ShardState.FAILED) == 1
