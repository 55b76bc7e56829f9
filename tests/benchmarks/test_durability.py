"""A quick part of what `python -m benchmarks.durability` does in full, and that it would notice."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from engine.collection import Collection
from engine.errors import NotACollection, StorageFull
from engine.routing import model as learned
from engine.storage import segment_writer, thumbnails
from engine.storage.catalog import Catalog, Change
from engine.system import files
from testing import crowds, damages, faults, outages
from testing.clips import make_clip
from testing.faults import Lost, Tally


@pytest.fixture(scope="module")
def world():
    """A small collection that every test copies, and its model."""
    with faults.quick_folder() as folder, faults.small():
        yield folder / "base", faults.make_world(folder / "base")


@pytest.fixture
def work():
    with faults.quick_folder() as folder:
        yield folder


def sound(tally: Tally) -> Tally:
    assert not tally.lost, "\n".join(tally.notes)
    assert tally.tried
    return tally


@pytest.mark.parametrize("name", faults.OPERATIONS)
class TestEveryOperation:
    def test_a_power_cut_leaves_the_old_state_or_the_new_one(self, world, work, name):
        tally = sound(outages.cut_power(name, *world, work, spread=3))
        assert tally.old
        assert tally.new
        assert tally.old + tally.new == tally.tried

    def test_a_full_disk_leaves_the_old_state_and_says_so(self, world, work, name):
        tally = sound(outages.fill_disk(name, *world, work, every=4 if name == "delete" else 41))
        assert tally.old


def test_a_killed_writer_leaves_the_state_before_or_after_what_it_was_at(world, work):
    tally = sound(crowds.kill(*world, work, 3))
    assert tally.old + tally.new == tally.tried == 3


def test_damage_to_any_kind_of_file_is_found_and_never_answered_from(world, work):
    tally = sound(damages.corrupt(*world, work, len(damages.KINDS), seed=1))
    assert tally.by_check + tally.harmless >= tally.tried


def test_readers_beside_a_writer_get_the_answers_of_the_generation_they_name(world, work):
    tally = sound(crowds.readers(*world, work, 5))
    assert tally.tried > 8


def _unsynced_file(path: Path):
    return path.open("xb")


def _no_sync(folder: Path) -> None:
    pass


BLUNDERS = {
    "bytes are not synced": lambda: mock.patch.object(segment_writer, "synced", _unsynced_file),
    "names of files are not synced": lambda: mock.patch.object(segment_writer, "sync_folder", _no_sync),
    "thumbnails are not synced": lambda: mock.patch.object(files, "synced", _unsynced_file),
    "folders of thumbnails are not synced": lambda: mock.patch.object(thumbnails, "sync_folder", _no_sync),
}


@pytest.mark.parametrize("blunder", BLUNDERS)
def test_a_power_cut_shows_what_a_writer_forgot_to_sync(world, work, blunder):
    with BLUNDERS[blunder]():
        assert outages.cut_power("add", *world, work, spread=3).lost


def _wrong_hashes(folder: Path, arrays: dict) -> dict[str, str]:
    return dict.fromkeys(files.save_arrays(folder, arrays), "0" * 32)


@pytest.mark.parametrize(
    ("module", "step", "careless"), [(files, "sync_folder", _no_sync), (learned, "save_arrays", _wrong_hashes)]
)
def test_a_power_cut_or_a_check_shows_a_router_that_was_not_written_with_care(world, work, module, step, careless):
    with mock.patch.object(module, step, careless):
        assert outages.cut_power("add", *world, work, spread=4).lost


def test_a_power_cut_shows_a_sweep_that_comes_before_the_commit(world, work):
    def hasty(self: Catalog):
        shutil.rmtree(self._path.parent / "cells", ignore_errors=True)
        return real(self)

    real = Catalog.transaction
    with mock.patch.object(Catalog, "transaction", hasty):
        assert outages.cut_power("delete", *world, work, spread=2).lost


@pytest.mark.parametrize("left", [b"", b"[]", b"{}", b'{"start": 0'])
@pytest.mark.parametrize("ending", [".mp4", ".json"])
def test_a_clip_that_a_power_cut_left_half_written_is_cut_again(tmp_path, ending, left):
    source = tmp_path / "film.mp4"
    make_clip(source, 1.0)
    video, frames = faults.make_video(1, 3)
    with Collection.create(tmp_path / "c", dim=faults.DIM) as collection:
        collection.add(replace(video, source=str(source)), frames)
        whole = collection.clip(collection.frame(0), before=0.2, after=0.2)
        content = whole.path.read_bytes()
        whole.path.with_suffix(ending).write_bytes(left)
        assert collection.clip(collection.frame(0), before=0.2, after=0.2) == whole
        assert whole.path.read_bytes() == content


class TestMaking:
    def test_a_full_disk_leaves_a_folder_that_can_be_used_again(self, tmp_path):
        full = sqlite3.OperationalError("database or disk is full")
        with (
            mock.patch.object(Change, "commit_generation", side_effect=full),
            pytest.raises(StorageFull),
        ):
            Collection.create(tmp_path / "c", dim=faults.DIM)
        with Collection.create(tmp_path / "c", dim=faults.DIM) as collection:
            assert collection.check() == []

    def test_what_is_cut_off_is_told_as_such(self, tmp_path):
        Catalog(tmp_path / "catalog.sqlite").close()
        (tmp_path / "catalog.sqlite").touch()
        with pytest.raises(NotACollection, match="cut off; remove the folder"):
            Collection.open(tmp_path)


def test_a_wrong_answer_is_told_from_a_right_one(world):
    base, model = world
    with Collection.open(base) as collection:
        hits = collection.search(faults.QUERIES[0], 20, exact=True).hits
        truth = model.truth
        assert truth.wrong(0, hits, 20) is None
        for wrong in (hits[1:], hits[::-1], (*hits[:-1], hits[0])):
            assert truth.wrong(0, wrong, 20)
        assert truth.wrong(1, hits, 20)
        with pytest.raises(Lost, match="videos"):
            faults.verify(collection, model.copy().add(faults.make_video(99, 3)))
