"""The account of a collection's bytes agrees with its files, its cache, its statistics, the planner and the system."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.cli.main import main
from engine.collection import Collection
from engine.reports import capacity, shard_sizes
from engine.reports import memory as report
from engine.reports.memory import DiskUsage, MemoryAccount
from engine.storage.segment import Residency
from engine.system import memory as system_memory
from testing.worlds import DIM, FEW, VIDEOS, fill, flip, make_video, queries, segment_files

needs_smaps = pytest.mark.skipif(system_memory.mapped_files(Path("/")) is None, reason="the system does not tell")


def files_nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def _forget():
    report._listed.cache_clear()


class TestDisk:
    def test_every_file_of_the_folder_is_counted_once(self, collection):
        (collection.path / "media" / "7").mkdir(parents=True)
        (collection.path / "media" / "7" / "0.jpg").write_bytes(bytes(1234))
        (collection.path / "notes.txt").write_bytes(bytes(77))
        disk = collection.memory().disk
        assert disk.total == files_nbytes(collection.path)
        assert disk.rows == sum(path.stat().st_size for path in segment_files(collection, "vectors.npy"))
        assert disk.columns == sum(path.stat().st_size for path in segment_files(collection, "frames.arrow"))
        assert disk.lists == sum(path.stat().st_size for path in segment_files(collection, "cells.npy"))
        assert disk.cells == files_nbytes(collection.path / "cells")
        assert disk.pictures == 1234
        assert disk.other >= 77 + (collection.path / "catalog.sqlite").stat().st_size
        assert disk.codes == disk.router == 0

    def test_codes_and_a_fitted_router_have_their_place(self, tmp_path, coded):
        with fill(tmp_path / "c", VIDEOS, built=False) as collection:
            collection.build(queries=queries(80))
            disk = collection.memory().disk
            assert disk.codes == sum(path.stat().st_size for path in segment_files(collection, "codes.faiss")) > 0
            assert disk.router == files_nbytes(collection.path / "routers") > 0
            assert disk.total == files_nbytes(collection.path)

    def test_shards_add_up_to_what_statistics_say(self, town):
        told, stats = town.memory(), town.stats()
        assert told.disk.shards == sum(shard.disk.total for shard in told.shards) == stats.nbytes
        assert [shard.disk.shards for shard in told.shards] == [shard.nbytes for shard in stats.shards]
        assert [(shard.shard, shard.name, shard.n_frames) for shard in told.shards] == [
            (shard.shard, shard.name, shard.n_frames) for shard in stats.shards
        ]

    def test_files_of_an_earlier_generation_that_is_still_read_are_other(self, collection):
        with Collection.open(collection.path):  # Its lease keeps what it reads.
            before = collection.memory().disk
            collection.build(n_shards=2)
            after = collection.memory().disk
            assert after.total == files_nbytes(collection.path)
            assert after.other > before.other + before.shards - 1

    def test_pictures_are_counted_anew_when_their_folder_changes(self, collection, monkeypatch):
        monkeypatch.setattr(report, "_FRESH_NS", -1)
        folder = collection.path / "media" / "0"
        folder.mkdir(parents=True)
        before = collection.memory().disk.pictures
        (folder / "more.jpg").write_bytes(bytes(500))
        assert collection.memory().disk.pictures == before + 500

    def test_a_folder_that_has_just_changed_is_not_remembered(self, collection):
        folder = collection.path / "media" / "0"
        folder.mkdir(parents=True)
        (folder / "one.jpg").write_bytes(bytes(10))
        assert collection.memory().disk.pictures == 10
        (folder / "one.jpg").write_bytes(bytes(30))
        assert collection.memory().disk.pictures == 30


class TestMemory:
    def test_plain_float32_takes_four_bytes_a_number_and_eight_a_frame(self, town):
        told = town.memory()
        assert told.float32_nbytes == town.n_frames * (DIM * 4 + 8)
        assert told.float32_nbytes == sum(shard.float32_nbytes for shard in told.shards)
        bare = capacity.plan_shards(1 << 30, town.n_frames, DIM, codec="fp32")
        assert told.float32_nbytes == bare.n_shards * bare.shard_nbytes

    def test_deleted_frames_would_not_be_held_and_still_lie_on_disk(self, collection):
        before = collection.memory()
        n = collection.delete("v1")
        after = collection.memory()
        assert after.float32_nbytes == before.float32_nbytes - n * (DIM * 4 + 8)
        assert after.disk.shards == before.disk.shards

    @pytest.mark.parametrize("residency", ["loaded", "mapped"])
    @pytest.mark.parametrize("n_coded", [1, 10_000])
    def test_opened_shards_take_what_was_foretold(self, tmp_path, limit, residency: Residency, n_coded):
        limit(coded_from=n_coded)
        fill(tmp_path / "c", VIDEOS).close()
        with Collection.open(tmp_path / "c", residency=residency) as collection:
            before = collection.memory()
            assert before.cached_nbytes == 0
            assert before.open_nbytes == sum(shard.open_nbytes for shard in before.shards) > 0
            collection.search(queries(1)[0], 5, n_probe=10_000)
            after = collection.memory()
            assert after.cached_nbytes == after.open_nbytes == before.open_nbytes == collection.cache.stats().nbytes
            assert [shard.cached_nbytes for shard in after.shards] == [shard.open_nbytes for shard in before.shards]
            assert [shard.cached_nbytes for shard in after.shards] == [
                shard.cached_nbytes for shard in collection.stats().shards
            ]

    @pytest.mark.parametrize("n_coded", [1, 10_000])
    def test_the_planner_adds_only_what_lists_take(self, tmp_path, limit, n_coded):
        limit(coded_from=n_coded)
        with fill(tmp_path / "c", [make_video(i, 400) for i in range(3)], n_shards=1, n_cells=16) as collection:
            told, cells = collection.memory(), collection.stats().shards[0].cells
            plan = capacity.plan_shards(1 << 30, told.n_frames, DIM, n_cells=16)
        assert plan.n_shards == 1
        lists = plan.shard_nbytes - shard_sizes.LIST_NBYTES * cells
        # A file of codes has a header; of both kinds of lists the lengths and places are held.
        assert 0 <= told.open_nbytes - lists < 4096

    def test_the_budget_is_the_caches(self, collection):
        collection.cache.set_budget(12_345)
        assert collection.memory().budget == 12_345

    def test_arrays_are_counted_as_they_come_and_each_once(self, collection):
        assert collection.memory().arrays_nbytes == 0
        collection.search(queries(1)[0], 5, n_probe=10_000)
        with collection._generations.reading() as snapshot:
            cells = snapshot.cells
            held = cells.centroids.nbytes + cells.trained.nbytes + cells.spread.nbytes
        told = collection.memory()
        assert told.arrays_nbytes > held
        assert told.arrays_nbytes == collection.memory().arrays_nbytes
        assert told.anonymous_nbytes == told.cached_nbytes + told.arrays_nbytes
        assert sum(shard.arrays_nbytes for shard in told.shards) < told.arrays_nbytes

    def test_views_count_once_and_what_is_mapped_or_foreign_does_not(self, tmp_path):
        np.save(tmp_path / "a.npy", np.arange(100.0))
        array = np.zeros(1000, np.float32)
        count = report._ArrayCounter()
        count.add_all(
            {"a": array, "b": [array[10:20], array.reshape(10, 100)]}, np.load(tmp_path / "a.npy", mmap_mode="r")
        )
        assert count.nbytes == 4000
        count.add_all(array[:5], np.frombuffer(b"abcd", np.uint8), np.frombuffer(memoryview(bytearray(8)), np.uint8))
        assert count.nbytes == 4004

    @needs_smaps
    def test_mapped_pages_are_told_by_shard_and_go_when_they_are_let_go(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS) as collection:
            collection.search(queries(1)[0], 5, exact=True)
            told = collection.memory()
            assert 0 < sum(shard.mapped_nbytes for shard in told.shards) == told.mapped_nbytes
            assert all(shard.mapped_nbytes >= 4096 for shard in told.shards if shard.n_frames)
            system_memory.release_mapped_pages(collection.path)
            assert collection.memory().mapped_nbytes == 0

    @needs_smaps
    def test_pages_that_two_handles_have_mapped_count_once(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS) as one, Collection.open(tmp_path / "c") as other:
            one.search(queries(1)[0], 5, exact=True)
            told = one.memory().mapped_nbytes
            other.search(queries(1)[0], 5, exact=True)
            assert one.memory().mapped_nbytes == told == other.memory().mapped_nbytes

    def test_where_the_system_does_not_tell_nothing_is_made_up(self, collection, monkeypatch, capsys):
        monkeypatch.setattr(system_memory, "_SMAPS", collection.path / "nothing")
        monkeypatch.setattr(system_memory, "_STATUS", collection.path / "nothing")
        told = collection.memory()
        assert told.mapped_nbytes is None
        assert told.process is None
        assert all(shard.mapped_nbytes is None for shard in told.shards)
        assert report.format_account(told).count("not known here") == 3

    def test_a_damaged_collection_can_be_accounted_for(self, tmp_path, coded):
        with fill(tmp_path / "c", FEW) as collection:
            flip(segment_files(collection, "cells.npy")[0])
            segment_files(collection, "codes.faiss")[1].unlink()
            assert collection.memory().disk.total == files_nbytes(collection.path)
        with Collection.open(tmp_path / "c", residency="mapped") as collection:
            assert collection.memory().open_nbytes >= 0


class TestCommand:
    def test_json_is_the_account(self, collection, capsys):
        assert main(["memory", str(collection.path), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        told = collection.memory()
        for name in ("n_frames", "dim", "float32_nbytes", "open_nbytes", "anonymous_nbytes"):
            assert document[name] == getattr(told, name)
        assert document["disk"] == {
            name: getattr(told.disk, name) for name in (*DiskUsage.__slots__, "shards", "total")
        }
        assert len(document["shards"]) == len(told.shards)
        assert document["shards"][0]["disk"]["total"] == told.shards[0].disk.total
        assert set(MemoryAccount.__slots__) <= set(document)

    def test_people_read_lines(self, collection, capsys):
        assert main(["memory", str(collection.path)]) == 0
        out = capsys.readouterr().out
        assert out.startswith("36 frames of 8 dimensions\n")
        assert "every shard open takes" in out
        if sys.platform == "linux":
            assert "not known here" not in out

    def test_no_collection_is_one_line(self, tmp_path, capsys):
        assert main(["memory", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
