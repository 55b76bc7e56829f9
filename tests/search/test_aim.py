"""Searches that spare shards: the recall asked for, in fewer shards than those that spare rows, whatever the layout."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from engine import Collection, Filter
from engine.datasets import World, write_synthetic
from engine.search.explain import Cause

N, DIM, N_SHARDS = 12_000, 32, 16


@pytest.fixture(scope="module")
def world():
    return World(DIM, 3)


@pytest.fixture(scope="module")
def town(tmp_path_factory, world):
    collection = Collection.create(tmp_path_factory.mktemp("aim") / "c", dim=DIM, n_shards=N_SHARDS, route="routed")
    write_synthetic(collection, world, N, build=False)
    collection.build(queries=world.text_queries(700, seed=2))
    yield collection
    collection.close()


@pytest.fixture(scope="module")
def asked(world):
    return world.text_queries(200, seed=1)


def outcome(town: Collection, asked, k: int = 10, where: Filter | None = None, **how) -> tuple[float, float, list]:
    """Share of the exact answers found, shards opened on average, and the traces."""
    exact = town.search_many(asked, k, exact=True, where=where)
    results = town.search_many(asked, k, where=where, **how)
    pairs = zip(results, exact, strict=True)
    share = np.mean([len({h.frame_id for h in a.hits} & {h.frame_id for h in b.hits}) / k for a, b in pairs])
    traces = [result.trace for result in results]
    return float(share), float(np.mean([trace.shards_probed for trace in traces])), traces


@pytest.mark.parametrize(("k", "recall"), [(10, 0.9), (10, 0.95), (24, 0.95), (100, 0.9)])
def test_the_recall_asked_for_is_found_in_fewer_shards(town, asked, k, recall):
    share, n_opened, traces = outcome(town, asked, k, recall=recall, aim="shards")
    _, n_by_rows, by_rows = outcome(town, asked, k, recall=recall, aim="rows")
    assert recall - 0.025 <= share <= recall + 0.05
    assert n_opened < 0.85 * n_by_rows
    assert {trace.expected_recall for trace in traces} == {recall}
    assert np.mean([trace.vectors_scanned for trace in traces]) > np.mean([t.vectors_scanned for t in by_rows])
    assert "Shards are opened until" in traces[0].reason


def test_a_batch_opens_what_single_searches_open_and_a_preview_foretells_it(town, asked):
    many = town.search_many(asked[:5], aim="shards", recall=0.9)
    for query, result in zip(asked[:5], many, strict=True):
        alone = town.search(query, aim="shards", recall=0.9)
        foretold = town.preview(query, aim="shards", recall=0.9)
        assert alone.hits == result.hits
        opened = [shard.shard for shard in alone.trace.shards if shard.cells]
        assert opened == [shard.shard for shard in result.trace.shards if shard.cells]
        assert opened == [shard.shard for shard in foretold.searched]
        assert foretold.expected_recall == alone.trace.expected_recall == 0.9
        assert foretold.vectors_scanned == alone.trace.vectors_scanned


def test_the_promise_holds_after_a_reshard_without_a_fit(town, asked, tmp_path):
    _, before, _ = outcome(town, asked, recall=0.9, aim="shards")
    shutil.copytree(town.path, tmp_path / "c")
    with Collection.open(tmp_path / "c") as again:
        again.reshard(n_shards=6)
        share, after, traces = outcome(again, asked, recall=0.9, aim="shards")
    assert share == pytest.approx(0.9, abs=0.03)
    assert {trace.expected_recall for trace in traces} == {0.9}
    assert before / N_SHARDS < after / 6


def test_a_filter_keeps_about_the_recall(town, asked):
    videos = [info.video_id for info in town.videos()]
    half = Filter(videos=tuple(np.random.default_rng(0).permutation(videos)[: len(videos) // 2].tolist()))
    share, _, traces = outcome(town, asked, where=half, recall=0.9, aim="shards")
    assert {(trace.method, trace.expected_recall) for trace in traces} == {("routed", 0.9)}
    assert 0.86 <= share <= 0.97


def test_more_shards_are_opened_rather_than_fewer_hits_given(town, asked):
    result = town.search(asked[0], k=900, recall=0.5, aim="shards")
    assert len(result.hits) == 900
    narrow = town.search(asked[0], k=40, recall=0.5, aim="shards", per_shot=1)
    assert len(narrow.hits) == 40


def test_a_shard_left_alone_says_how_little_was_expected_of_it(town, asked):
    spared = 0
    for query in asked[:40]:
        result = town.search(query, recall=0.9, aim="shards")
        reasons = [shard.reason for shard in result.trace.shards if "of the answer is expected here" in shard.reason]
        spared += len(reasons)
        for missed in town.missed(query, result, recall=0.9, aim="shards"):
            if missed.cause is Cause.SPARED:
                assert "of the answer is expected here" in missed.sentence
    assert spared


def test_what_is_spared_unasked_goes_by_whether_all_shards_fit_in_memory(town, asked):
    by_rows, by_shards = (town.preview(asked[0], recall=0.9, aim=aim).shards for aim in ("rows", "shards"))
    assert town.preview(asked[0], recall=0.9).shards == by_rows
    with Collection.open(town.path, cache_bytes=1 << 16) as small:
        opened = [shard.shard for shard in small.preview(asked[0], recall=0.9).searched]
    assert opened == [shard.shard for shard in by_shards if shard.cells]
