"""A batch is each of its queries alone, from one generation, with every shard opened once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import NotFound
from engine.search import SearchResult
from engine.storage.limits import current_limits, limited
from engine.types import Filter, ShardState
from testing.worlds import DIM, fill, make_video, queries, segment_files

VIDEOS = [make_video(i) for i in range(5)]
THERE = (ShardState.OPENED, ShardState.CACHED)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A built collection that only reads are done on."""
    with fill(tmp_path_factory.mktemp("town") / "c", VIDEOS, n_shards=4) as collection:
        yield collection


def assert_same(one: SearchResult, other: SearchResult) -> None:
    """The same hits, found the same way; who opened a shard and how long it took is left open."""
    assert [hit.frame_id for hit in one.hits] == [hit.frame_id for hit in other.hits]
    np.testing.assert_allclose([hit.score for hit in one.hits], [hit.score for hit in other.hits], atol=1e-5)
    for name in (
        "method",
        "reason",
        "n_probe",
        "n_cells",
        "cells_scored",
        "vectors_scanned",
        "vectors_rescored",
        "vectors_total",
        "warnings",
        "missing",
    ):
        assert getattr(one.trace, name) == getattr(other.trace, name), name
    for mine, its in zip(one.trace.shards, other.trace.shards, strict=True):
        assert mine.state == its.state or {mine.state, its.state} == set(THERE)
        assert (mine.cells, mine.vectors_scanned) == (its.cells, its.vectors_scanned)
        assert mine.score == pytest.approx(its.score, abs=1e-5)


WANTED = {
    "exact": {"exact": True},
    "narrow": {"n_probe": 1},
    "some cells": {"n_probe": 3},
    "all cells": {"n_probe": 10**6},
    "many": {"n_probe": 2, "k": 140},
    "filtered": {"n_probe": 2, "where": Filter(tags_any=("object:dog",))},
    "exactly filtered": {"exact": True, "where": Filter(seconds=(4.0, 40.0), tags_none=("weather:snow",))},
    "nothing passes": {"where": Filter(seconds=(1e6, None))},
    "by shot": {"n_probe": 1, "per_shot": 1, "k": 25},
    "exactly by shot": {"exact": True, "per_shot": 1, "k": 25},
    "capped": {"n_probe": 10, "max_shards": 2},
    "filtered and capped": {"n_probe": 10, "max_shards": 1, "where": Filter(videos=("v1", "v2"))},
}


@pytest.fixture(scope="module", params=["rows", "codes", "distances", "two levels"])
def kind(request, tmp_path_factory):
    """Collections of each kind, with more than one segment in a shard and with deleted frames."""
    settings = {
        "distances": {"metric": "l2"},
        "two levels": {"placement": "hierarchical", "n_cells": 30},
    }.get(request.param, {})
    with limited(coded_from=1 if request.param == "codes" else current_limits().coded_from):
        path = tmp_path_factory.mktemp("kind") / "c"
        with fill(path, VIDEOS, n_shards=4, **settings) as collection:
            collection.add(*make_video(11, 20))
            collection.add(*make_video(12, 10))
            collection.delete("v12")
            yield collection


class TestBatch:
    @pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
    def test_a_batch_answers_like_each_query_alone(self, kind, wanted, limit):
        limit(exact_matches=5)
        asked = queries(25)
        wanted = {"k": 10, **wanted}
        together = kind.search_many(asked, **wanted)
        for query, result in zip(asked, together, strict=True):
            assert_same(result, kind.search(query, **wanted))

    @pytest.mark.parametrize("residency", ["loaded", "lists", "mapped"])
    @pytest.mark.parametrize("workers", [1, 3])
    def test_threads_and_residency_change_no_answer(self, kind, workers, residency):
        asked = queries(6)
        with Collection.open(kind.path, workers=workers, residency=residency) as other:
            for wanted in ({"exact": True}, {"n_probe": 2}):
                ours, its = (each.search_many(asked, 10, **wanted) for each in (kind, other))
                for one, two in zip(ours, its, strict=True):
                    assert_same(one, two)

    def test_a_batch_may_hold_vectors_and_stored_frames_side_by_side(self, kind):
        mixed = [queries(1)[0], 7, np.int64(160), queries(2)[1].astype(np.float64)]
        found = kind.search_many(mixed, 5, exact=True)
        for query, result in zip(mixed, found, strict=True):
            assert_same(result, kind.search(query, 5, exact=True))

    def test_no_queries_are_no_answers(self, town):
        assert town.search_many([]) == []
        assert town.search_many(np.empty((0, DIM))) == []

    def test_one_bad_query_refuses_the_batch(self, town):
        with pytest.raises(ValueError, match="all zeros"):
            town.search_many([queries(1)[0], np.zeros(DIM)])
        with pytest.raises(NotFound, match="999"):
            town.search_many([3, 999])

    def test_a_batch_comes_from_one_generation(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS[:2]) as collection:
            assert len({result.trace.generation for result in collection.search_many(queries(5))}) == 1


class TestTracesOfABatch:
    @pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
    def test_what_was_scanned_adds_up_for_every_query(self, kind, wanted, limit):
        limit(exact_matches=5)
        for result in kind.search_many(queries(25), **{"k": 10, **wanted}):
            trace = result.trace
            assert [shard.shard for shard in trace.shards] == list(range(trace.shards_total))
            assert trace.vectors_scanned == sum(shard.vectors_scanned for shard in trace.shards)
            assert all(shard.score is None or np.isfinite(shard.score) for shard in trace.shards)
            assert all(shard.reason and "inf" not in shard.reason for shard in trace.shards)
            if trace.method == "routed" and not wanted.get("where"):
                assert trace.n_probe <= sum(shard.cells for shard in trace.shards)

    def test_a_query_alone_says_of_every_frame_that_it_was_scanned_once(self, town):
        for result in town.search_many(queries(25), 3, n_probe=10**6):
            assert result.trace.vectors_scanned == result.trace.vectors_total == 150

    @pytest.mark.parametrize("wanted", [{"n_probe": 1, "k": 1}, {"n_probe": 4}, {"n_probe": 10**6}], ids=str)
    def test_bytes_are_read_once_and_belong_to_the_first_query_that_wants_them(self, kind, wanted):
        with Collection.open(kind.path) as fresh:
            for again in (False, True):
                traces = [result.trace for result in fresh.search_many(queries(25), **wanted)]
                read = dict.fromkeys(range(traces[0].shards_total), 0)
                for number in read:
                    mine = [trace.shards[number] for trace in traces]
                    there = [shard for shard in mine if shard.state in THERE]
                    opened = [shard for shard in there if shard.state is ShardState.OPENED]
                    assert len(opened) == (bool(there) and not again)
                    assert opened == there[: len(opened)]
                    read[number] = sum(shard.bytes_read for shard in mine)
                    assert read[number] == sum(shard.bytes_read for shard in opened)
                with fresh.reading() as snapshot:
                    whole = {
                        shard.shard: sum(view.segment.load_nbytes("loaded") for view in shard.segments if view.n_live)
                        for shard in snapshot.shards
                    }
                assert all(read[number] <= whole[number] for number in read)
                assert any(read.values()) != again
                if wanted["n_probe"] == 10**6 and not again:
                    assert read == whole

    def test_bytes_are_not_forgotten_when_a_search_goes_on_for_more_shots(self, tmp_path):
        new, frames = make_video(0, 120)
        query = queries(1)[0]
        unit = frames.vectors / np.linalg.norm(frames.vectors, axis=1, keepdims=True)
        best = np.argsort(-(unit @ query))
        # The hundred best frames are one shot, so a look at some of the best finds too few shots.
        shot = np.zeros(120, np.int32)
        shot[best[100:]] = np.arange(20) + 1
        with fill(tmp_path / "c", [(new, replace(frames, shot=shot))], n_shards=2) as collection:
            size = sum(path.stat().st_size for path in segment_files(collection, "vectors.npy"))
        for wanted in ({"exact": True}, {"n_probe": 10**6}):
            with Collection.open(tmp_path / "c") as fresh:
                cold, warm = (fresh.search(query, 15, per_shot=1, **wanted) for _ in range(2))
            assert len(cold.hits) == len(warm.hits) == 15
            assert (cold.trace.bytes_read, warm.trace.bytes_read) == (size, 0)
            assert {shard.state for shard in cold.trace.shards} == {ShardState.OPENED}
            assert all("read from disk" in shard.reason for shard in cold.trace.shards)

    def test_times_are_shares_of_the_batch(self, town):
        traces = [result.trace for result in town.search_many(queries(8), 5, n_probe=3)]
        assert len({trace.ms["total"] for trace in traces}) == 1
        for trace in traces:
            assert trace.ms["total"] >= sum(value for stage, value in trace.ms.items() if stage != "total") - 1e-6
            assert {"filter", "route", "search", "rescore", "lookup", "encode", "total"} == set(trace.ms)
