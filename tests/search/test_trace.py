"""The trace: every shard accounted for, every number the truth."""

from __future__ import annotations

import numpy as np
import pytest

from engine.collection import Collection
from engine.routing.scorer import spread_scorer
from engine.types import Filter, FrameBatch, ShardState
from testing.worlds import DIM, VIDEOS, N, fill, make_video, queries, segment_files


class TestTrace:
    def test_every_shard_is_accounted_for_once(self, town):
        for query in queries(5):
            for wanted in (
                {"exact": True},
                {"n_probe": 1},
                {"n_probe": 3},
                {"where": Filter(videos=("v0", "v1"), seconds=(4.0, 40.0))},
            ):
                trace = town.search(query, 5, **wanted).trace
                assert [shard.shard for shard in trace.shards] == list(range(4))
                assert trace.vectors_scanned == sum(shard.vectors_scanned for shard in trace.shards)
                assert trace.count(*ShardState) == trace.shards_total == 4
                assert all(shard.reason for shard in trace.shards)
                for shard in trace.shards:
                    if shard.state in (ShardState.SKIPPED, ShardState.PRUNED):
                        assert shard.vectors_scanned == shard.bytes_read == shard.cells == 0
                assert trace.ms["total"] >= sum(value for stage, value in trace.ms.items() if stage != "total") - 1e-6

    def test_scanned_frames_are_those_of_the_cells_probed(self, town):
        with town.reading() as snapshot:
            cells, columns = snapshot.cells, [view.segment.columns for view in snapshot.views()]
        for query in queries(5):
            trace = town.search(query, 2, n_probe=3).trace
            rows = np.bincount(np.concatenate([each.cell for each in columns]), minlength=len(cells))
            unit = (query / np.linalg.norm(query)).astype(np.float32)
            order = np.argsort(-spread_scorer(cells, rows).score_cells(unit[None])[0])
            probed = [c for c in order if rows[c]][: trace.n_probe]
            assert trace.n_probe == 3
            assert trace.vectors_scanned == sum(int(np.isin(each.cell, probed).sum()) for each in columns)
            assert trace.cells_scored == trace.n_cells == len(cells)
            assert sum(shard.cells for shard in trace.shards) == 3

    def test_probing_further_than_asked_is_explained(self, town):
        trace = town.search(queries(1)[0], 100, n_probe=1).trace
        assert trace.n_probe > 1
        assert trace.reason.endswith(f"It took {trace.n_probe} to find 100 frames.")
        assert trace.vectors_scanned >= 100

    def test_an_exact_search_of_codes_reads_the_rows_and_not_the_codes(self, tmp_path, coded):
        with fill(tmp_path / "c", VIDEOS) as collection:
            trace = collection.search(queries(1)[0], 5, exact=True).trace
            sizes = [path.stat().st_size for path in segment_files(collection, "vectors.npy")]
            assert trace.bytes_read == sum(sizes) == N * DIM * 2 + 128 * len(sizes)
            assert collection.cache.stats().nbytes == 0
            assert all(shard.state is ShardState.OPENED for shard in trace.shards)

    @pytest.mark.parametrize("placement", ["semantic", "hierarchical"])
    def test_what_was_not_predicted_is_none_and_never_infinite(self, tmp_path, placement):
        with fill(tmp_path / "c", VIDEOS, placement=placement, n_cells=36, n_shards=4) as collection:
            shards = [s for query in queries(8) for s in collection.search(query, 3, n_probe=1).trace.shards]
        assert all(shard.score is None or np.isfinite(shard.score) for shard in shards)
        none = [shard.reason for shard in shards if shard.score is None]
        assert bool(none) == (placement == "hierarchical")
        assert all(reason == "its cells are in groups that were not looked into" for reason in none)

    def test_a_shard_is_read_once_and_cached_after(self, town):
        with Collection.open(town.path) as fresh:
            first, second = (fresh.search(queries(1)[0], 5, exact=True).trace for _ in range(2))
            assert {shard.state for shard in first.shards} == {ShardState.OPENED}
            assert first.bytes_read == sum(path.stat().st_size for path in segment_files(town, "vectors.npy"))
            assert {shard.state for shard in second.shards} == {ShardState.CACHED}
            assert second.bytes_read == 0
            assert first.vectors_scanned == second.vectors_scanned == first.vectors_total == N
            # Rows are scanned where they are mapped: the system's memory holds them, and not the cache.
            assert fresh.cache.stats().hits == fresh.cache.stats().misses == 0

    def test_what_is_routed_to_comes_through_the_cache(self, town):
        with Collection.open(town.path) as fresh:
            first, second = (fresh.search(queries(1)[0], 5, n_probe=10**6).trace for _ in range(2))
            assert {shard.state for shard in first.shards} == {ShardState.OPENED}
            assert first.bytes_read == sum(path.stat().st_size for path in segment_files(town, "vectors.npy"))
            assert {shard.state for shard in second.shards} == {ShardState.CACHED}
            assert second.bytes_read == 0
            assert (fresh.cache.stats().misses, fresh.cache.stats().hits) == (4, 4)

    def test_few_rows_are_read_one_by_one_each_time(self, town):
        where = Filter(videos=("v0", "v1"), seconds=(4.0, 40.0))
        with Collection.open(town.path) as fresh:
            for _ in range(2):
                trace = fresh.search(queries(1)[0], 5, exact=True, where=where).trace
                searched = [shard for shard in trace.shards if shard.state is not ShardState.PRUNED]
                assert {shard.state for shard in searched} == {ShardState.OPENED}
                assert [shard.bytes_read for shard in searched] == [s.vectors_scanned * DIM * 2 for s in searched]
                assert trace.vectors_scanned == 2 * 18

    @pytest.mark.parametrize(("n_matches", "method"), [(40, "exact"), (39, "routed")])
    def test_up_to_a_number_of_matches_they_are_scored_without_routing(
        self, town, n_matches, method, limit, monkeypatch
    ):
        limit(exact_matches=n_matches)
        monkeypatch.setattr("engine.search.filtering._SCATTERED", 10**6)
        trace = town.search(queries(1)[0], 5, n_probe=1, where=Filter(videos=("v0", "v1"), seconds=(0.0, 40.0))).trace
        assert trace.method == method
        assert ("40 frames pass the filter" in trace.reason) == (method == "exact")

    def test_routed_searches_cache_nothing_without_a_budget(self, town):
        with Collection.open(town.path, cache_bytes=0) as fresh:
            traces = [fresh.search(queries(1)[0], 5, n_probe=10**6).trace for _ in range(2)]
            assert [trace.count(ShardState.OPENED) for trace in traces] == [4, 4]
            assert traces[0].bytes_read == traces[1].bytes_read > 0
            assert fresh.cache.stats().nbytes == 0

    def test_ties_go_to_the_lower_frame_id(self, tmp_path):
        new, frames = make_video(0, 4)
        same = FrameBatch(np.repeat(frames.vectors[:1], 12, axis=0), np.arange(12), np.arange(12.0))
        with fill(tmp_path / "c", [(new, same)], n_shards=3, placement="round_robin", n_cells=1) as collection:
            hits = collection.search(queries(1)[0], 12, exact=True).hits
        assert len({hit.score for hit in hits}) == 1
        assert [hit.frame_id for hit in hits] == list(range(12))

    @pytest.mark.parametrize(
        ("route", "wanted", "method", "why"),
        [
            ("auto", {}, "exact", "not calibrated"),
            ("exact", {}, "exact", "set to exact"),
            ("routed", {}, "routed", "by default"),
            ("exact", {"n_probe": 2}, "routed", "were asked for"),
            ("routed", {"exact": True}, "exact", "was asked for"),
        ],
    )
    def test_the_method_follows_what_is_asked_and_then_the_collection(self, tmp_path, route, wanted, method, why):
        with fill(tmp_path / "c", VIDEOS[:2], route=route) as collection:
            trace = collection.search(queries(1)[0], **wanted).trace
        assert trace.method == method
        assert why in trace.reason

    def test_before_a_build_every_frame_is_scanned(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS[:2], built=False) as collection:
            trace = collection.search(queries(1)[0], n_probe=1).trace
        assert (trace.method, trace.vectors_scanned) == ("exact", 60)
        assert "not been built" in trace.reason
