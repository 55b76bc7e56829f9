"""A collection that keeps of its rows their codes only: what it finds, what it says of that, and that no code changes again."""

from __future__ import annotations

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import CorruptData
from engine.vectors import unit
from testing.worlds import fill, flip, make_video, snapshot_of

DIM = 32
VIDEOS = [make_video(i, 60, DIM) for i in range(5)]


@pytest.fixture(autouse=True)
def _codes_early(limit):
    limit(coded_from=100)


@pytest.fixture(params=["ip", "l2"])
def metric(request):
    return request.param


def made(path, **options) -> Collection:
    return fill(path, VIDEOS[:4], **{"dim": DIM, "n_cells": 8, "n_shards": 3, **options})


def vectors_of(collection: Collection) -> dict[int, np.ndarray]:
    with snapshot_of(collection) as snapshot:
        return {
            int(frame_id): row
            for view in snapshot.views()
            for frame_id, row in zip(
                view.segment.columns.frame_id[view.live_rows()], view.segment.stored(view.live_rows()), strict=True
            )
        }


def files_of(collection: Collection) -> set[str]:
    with snapshot_of(collection) as snapshot:
        return {name for view in snapshot.views() for name in view.segment.row.files}


@pytest.mark.parametrize("codec", ["sq8", "sq4", "fp16"])
def test_every_way_to_search_scores_what_the_codes_stand_for(tmp_path, metric, codec):
    with made(tmp_path / "c", codec=codec, metric=metric) as collection:
        before = vectors_of(collection)
        collection.build(store="codes")
        assert files_of(collection) == {"codes.faiss", "frames.arrow", "cells.npy"}
        after = vectors_of(collection)
        error = np.mean([np.linalg.norm(after[i] - row.astype(np.float32)) for i, row in before.items()])
        size = np.mean([np.linalg.norm(row.astype(np.float32)) for row in before.values()])
        assert error < {"sq8": 0.02, "sq4": 0.2, "fp16": 1e-6}[codec] * size
        rows = np.stack(list(after.values()))
        for query in np.random.default_rng(5).normal(size=(4, DIM)).astype(np.float32):
            asked = unit(query[None])[0] if metric == "ip" else query
            scores = rows @ asked if metric == "ip" else -((rows - asked) ** 2).sum(axis=1)
            best = np.sort(scores)[::-1][:7]
            for options in ({"exact": True}, {"n_probe": 8}):
                assert [hit.score for hit in collection.search(query, 7, **options).hits] == pytest.approx(
                    best, abs=1e-4
                )
        assert collection.check() == []
        assert any(f"only its {codec} code is kept" in note for note in collection.stats().notes)


def test_no_code_changes_again_whatever_is_done_to_the_collection(tmp_path):
    with made(tmp_path / "c", store="codes") as collection:
        assert "vectors.npy" not in files_of(collection)
        collection.add(*VIDEOS[4])
        first = vectors_of(collection)
        collection.reshard(n_shards=2)
        collection.delete("v0")
        collection.compact()
        collection.build(n_shards=4, n_cells=6)
        left = vectors_of(collection)
        assert len(left) == len(first) - 60
        assert all(np.array_equal(row, first[frame_id]) for frame_id, row in left.items())
        assert "vectors.npy" not in files_of(collection)
        assert collection.check() == []
        collection.export(tmp_path / "v.npy", tmp_path / "f.parquet")
        exported = np.load(tmp_path / "v.npy")
        assert np.array_equal(exported, np.stack([left[i] for i in sorted(left)]).astype(np.float16))


def test_what_codes_cannot_give_is_refused_in_a_sentence(tmp_path):
    with made(tmp_path / "c", store="codes") as collection:
        with pytest.raises(
            ValueError, match="keeps its rows as sq8 codes only, so it cannot be built with another codec"
        ):
            collection.build(codec="sq4")
        assert collection.settings.codec == "sq8"
    with made(tmp_path / "d") as collection, pytest.raises(ValueError, match="cannot turn stored rows into fp32"):
        collection.build(store="fp32")


def test_rows_are_kept_until_a_build_has_measured_what_codes_alone_find(tmp_path, limit):
    limit(coded_from=250)
    with made(tmp_path / "c", store="codes") as collection:
        assert "vectors.npy" in files_of(collection)
        assert not any("code is kept" in note for note in collection.stats().notes)
        collection.add(*VIDEOS[4])
        assert "vectors.npy" in files_of(collection)
        before = vectors_of(collection)
        collection.build(queries=np.random.default_rng(3).normal(size=(100, DIM)).astype(np.float32))
        assert "vectors.npy" not in files_of(collection)
        rows, codes = (
            np.stack([of[i].astype(np.float32) for i in sorted(of)]) for of in (before, vectors_of(collection))
        )
        with snapshot_of(collection) as snapshot:
            bank = snapshot.router.bank
            few, many = snapshot.cells.codes_recall
        queries = bank.vectors[: bank.n_texts : -(-bank.n_texts // 200)]
        for recall, k in ((few, 10), (many, 100)):
            best, found = (np.argsort(-(queries @ x.T), axis=1)[:, :k] for x in (rows, codes))
            shared = np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(best, found, strict=True)])
            assert recall == pytest.approx(shared, abs=0.002)


def test_a_changed_code_is_noticed(tmp_path):
    with made(tmp_path / "c", store="codes", n_shards=1) as collection, snapshot_of(collection) as snapshot:
        (view,) = snapshot.views()
        segment = view.segment
        flip(segment.folder / "codes.faiss", segment.row.stats["header"][0] + 5)
        with pytest.raises(CorruptData, match=r"codes\.faiss"):
            segment.gather(np.arange(segment.n_rows))
        assert any("codes.faiss" in problem for problem in collection.check())
