"""A check holds only while the bytes stand still: damage under a running process is found, and never written on."""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import CorruptData, EngineError, ShardFailed
from engine.storage.segment import Segment
from engine.system.files import file_hash
from engine.system.open_files import OpenFiles
from testing import faults
from testing.faults import QUERIES
from testing.worlds import DIM, VIDEOS, fill

REWRITES = {
    "reshard": lambda c, folder: c.reshard(n_shards=2),
    "build": lambda c, folder: c.build(n_cells=5),
    "merge": lambda c, folder: faults.merge_all(c),
    "compact": lambda c, folder: c.compact(),
    "update": lambda c, folder: faults.update_some(c),
    "export": lambda c, folder: c.export(folder / "v.npy", folder / "f.parquet"),
}


@pytest.fixture(scope="module")
def world():
    with faults.quick_folder() as folder, faults.small():
        yield folder / "base", faults.make_world(folder / "base")


@pytest.fixture
def path(world, tmp_path):
    with faults.copied(world[0], tmp_path / "c") as path:
        time.sleep(0.02)  # What has only just changed is checked at each use anyway.
        yield path


def used(path, **how) -> Collection:
    """A collection that has verified and remembers all that a process may remember."""
    collection = Collection.open(path, **how)
    for probes in ({"exact": True}, {"n_probe": faults.EVERYTHING}, {"n_probe": faults.EVERYTHING}):
        collection.search_many(QUERIES, 50, **probes)
    return collection


def overwrite(file, how: str) -> None:
    """Change a file in place, as `cp` over it does."""
    size = file.stat().st_size
    with file.open("r+b") as handle:
        if how == "rows":
            handle.seek(128)
            handle.write(np.random.default_rng(0).normal(size=(size - 128) // 2).astype("<f2").tobytes())
        elif how == "cut":
            handle.truncate(size // 2)
        else:
            handle.seek(size - 9)
            handle.write(b"\xff" * 9)


@pytest.mark.parametrize("operation", REWRITES)
@pytest.mark.parametrize("name", ["vectors.npy", "frames.arrow"])
def test_nothing_is_written_on_from_bytes_that_changed_after_they_were_checked(world, path, tmp_path, operation, name):
    with faults.small(), used(path) as collection:
        before = collection.generation
        for file in path.glob(f"segments/*/{name}"):
            overwrite(file, "rows" if name == "vectors.npy" else "end")
        with pytest.raises(CorruptData, match=name):
            REWRITES[operation](collection, tmp_path)
        assert collection.generation == before
        assert not list(tmp_path.glob("*.npy"))


@pytest.mark.parametrize("residency", ["loaded", "lists", "mapped"])
@pytest.mark.parametrize("how", ["end", "cut"])
@pytest.mark.parametrize("name", ["vectors.npy", "frames.arrow", "codes.faiss"])
def test_damage_under_a_running_process_never_changes_an_answer(world, path, residency, how, name):
    truth = world[1].truth
    with faults.small(), used(path, residency=residency) as collection:
        for file in path.glob(f"segments/*/{name}"):
            overwrite(file, how)
        for probes in ({"exact": True}, {"n_probe": faults.EVERYTHING}):
            for i in range(len(QUERIES)):
                with suppress(CorruptData, ShardFailed):
                    assert truth.wrong(i, collection.search(QUERIES[i], 40, **probes).hits, 40) is None


@pytest.mark.parametrize("name", ["vectors.npy", "frames.arrow", "codes.faiss"])
def test_a_file_that_is_put_back_by_renaming_is_taken_up_again(world, path, tmp_path, name):
    model = world[1]
    with faults.small(), used(path, residency="mapped") as collection:
        for file in path.glob(f"segments/*/{name}"):
            shutil.copy2(file, file.with_suffix(".good"))
            overwrite(file, "end")
        probes = {"n_probe": faults.EVERYTHING} if name == "codes.faiss" else {"exact": True}
        with pytest.raises(EngineError):
            collection.search_many(QUERIES, 50, **probes)
        for good in path.glob("segments/*/*.good"):
            good.rename(good.with_name(name))
        faults.verify(collection, model)


def test_rows_that_were_harmed_before_they_were_hashed_anew_are_found(tmp_path):
    with fill(tmp_path / "c", VIDEOS) as collection, collection.reading() as snapshot:
        segment = next(iter(snapshot.views())).segment
        file = segment.folder / "vectors.npy"
        overwrite(file, "rows")
        harmed = replace(segment.row, files={**segment.row.files, "vectors.npy": file_hash(file)})
        (problem,) = Segment(segment.folder, harmed, DIM, "ip", "sq8").problems()
        assert "a row's checksum differs" in problem


class TestOpenFiles:
    @pytest.fixture
    def paths(self, tmp_path):
        paths = [tmp_path / str(i) for i in range(6)]
        for path in paths:
            path.write_text(path.name)
        return paths

    def test_the_oldest_are_closed_beyond_the_bound(self, paths):
        files = OpenFiles(2)
        for path in [*paths, paths[0]]:
            with files.use(path, path) as handle:
                assert os.pread(handle, 9, 0).decode() == path.name
        assert len(files) == 2

    def test_a_file_in_use_stays_open_whatever_is_forgotten(self, paths):
        files = OpenFiles(1)
        with files.use(paths[0], paths[0]) as handle, files.use(paths[1], paths[1]):
            files.forget(paths[0])
            assert os.pread(handle, 9, 0) == b"0"
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(handle)

    def test_where_no_more_may_be_opened_those_that_nobody_uses_are_closed(self, paths, monkeypatch):
        files, real, full = OpenFiles(100), os.open, [True]

        def scarce(path, flags):
            if path == paths[5] and full.pop():
                raise OSError(errno.EMFILE, "Too many open files")
            return real(path, flags)

        for path in paths[:5]:
            with files.use(path, path):
                pass
        monkeypatch.setattr(os, "open", scarce)
        full.insert(0, False)
        with files.use(paths[5], paths[5]) as handle:
            assert os.pread(handle, 9, 0) == b"5"
        assert len(files) == 1

    def test_a_link_is_not_followed(self, tmp_path, paths):
        files = OpenFiles(2)
        (tmp_path / "link").symlink_to(paths[0])
        with pytest.raises(OSError, match="symbolic links"), files.use(0, tmp_path / "link"):
            pass
