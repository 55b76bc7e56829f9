"""Collections made to hurt, whose checksums are all right: refused in one sentence, and never a signal, a loop or a raw error."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import CorruptData, Untrusted
from engine.frames.columns import read_columns
from engine.frames.statistics import check_columns
from engine.storage.catalog import Catalog
from engine.storage.schema import SCHEMA
from engine.system.npy import array_of
from testing.faults import make_world, quick_folder, small
from testing.hostile import (
    HARMLESS,
    HOSTILE,
    QUICK,
    THOROUGH,
    Victim,
    a_segment,
    catalog_of,
    outcomes,
    rewrite,
    run_sql,
)

CASES = [make for make in HOSTILE if make.__name__ not in THOROUGH]


@pytest.fixture(scope="module")
def base():
    with quick_folder() as folder, small():
        make_world(folder / "base")
        yield folder / "base"


@pytest.fixture(scope="module")
def victim():
    made = Victim()
    yield made
    made.close()


@pytest.fixture
def world(base):
    shutil.copytree(base, base.parent / "world")
    yield base.parent / "world"
    shutil.rmtree(base.parent / "world")


def names_of(makes) -> list[str]:
    return [make.__name__ for make in makes]


def test_a_sound_collection_whose_checksums_were_made_anew_is_answered_by_every_use(world):
    rewrite(world)
    assert set(outcomes(world).values()) == {"answered"}


@pytest.mark.parametrize("make", CASES, ids=names_of(CASES))
def test_a_collection_made_to_hurt_is_refused_in_one_sentence(world, victim, make):
    make(world)
    found = victim.use(world, QUICK)
    assert not {use: told for use, told in found.items() if told.startswith("raised")}
    if make.__name__ not in HARMLESS:
        assert any(told.startswith("refused") for told in found.values())
    for beside in world.parent.glob("*-victim"):
        assert beside.read_bytes()
        assert "a secret of the server" not in str(found)
        beside.unlink()
    assert not (world.parent / "pickled").exists()


def test_a_build_on_rows_that_are_no_numbers_is_refused(world, victim):
    (make,) = (each for each in HOSTILE if each.__name__ == "vectors_without_end")
    make(world)
    assert victim.use(world, ["build"])["build"].startswith("refused")


def test_columns_with_any_bytes_changed_are_read_right_or_refused(world):
    """Bytes anywhere, in the metadata as in the body: what comes out has the right form, or is refused."""
    place, n_rows = a_segment(world)
    good = (place / "frames.arrow").read_bytes()
    with Collection.open(world) as collection, collection.reading() as snapshot:
        (row,) = (row for row in snapshot.manifest.segments if str(row.segment_id) == place.name)
    rng, refused = random.Random(1), 0
    for _ in range(3000):
        content = bytearray(good)
        width = rng.choice((1, 2, 4, 8))
        at = rng.randrange(len(content) - width)
        value = rng.choice((rng.getrandbits(8 * width), 0, (1 << 8 * width) - 1, 1 << (8 * width - 1)))
        content[at : at + width] = value.to_bytes(width, "little")
        try:
            columns = read_columns(place / "frames.arrow", n_rows, bytes(content))
        except CorruptData:
            refused += 1
            continue
        assert len(columns) == n_rows
        assert len(columns.tags.at(np.arange(n_rows))) == n_rows
        refused += check_columns(columns, row.stats, 8) is not None
    assert 1000 < refused < 3000


class TestTheCatalog:
    def test_a_file_of_any_earlier_layout_of_lines_is_ours(self, world):
        text = SCHEMA.split("CREATE TABLE videos")[1].split(";")[0]
        with catalog_of(world) as db:
            db.execute("PRAGMA writable_schema = ON")
            sql = "CREATE TABLE videos" + text.replace("\n   ", "\n\n \t")
            db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'videos'", (sql,))
        with Collection.open(world) as collection:
            assert collection.check() == []

    @pytest.mark.parametrize(
        "sql",
        [
            "CREATE VIEW v AS SELECT 1",
            "CREATE TABLE t (a)",
            "CREATE INDEX i ON videos (title)",
            "CREATE TRIGGER t AFTER INSERT ON counters BEGIN DELETE FROM videos; END",
            "ALTER TABLE layouts ADD COLUMN more",
            "DROP INDEX live_video",
        ],
    )
    def test_any_other_schema_is_refused_before_a_table_is_used(self, world, sql):
        with catalog_of(world) as db:
            db.execute(sql)
        with pytest.raises(CorruptData, match="not ours, so nothing of it was used"):
            Catalog.open(world / "catalog.sqlite")

    def test_a_journal_that_names_a_file_neither_removes_nor_reads_it(self, world):
        (make,) = (each for each in HOSTILE if each.__name__ == "journal_that_names_a_file")
        make(world)
        with pytest.raises(CorruptData, match="names another file"):
            Catalog.open(world / "catalog.sqlite")
        beside = world.parent / "world-victim"
        assert beside.read_bytes() == b"precious"
        with sqlite3.connect(world / "catalog.sqlite") as plain:  # Without a look at the journal, the file is gone.
            plain.execute("SELECT count(*) FROM videos").fetchone()
        plain.close()
        assert not beside.exists()

    def test_a_journal_that_is_a_pipe_is_not_waited_for(self, world):
        os.mkfifo(world / "catalog.sqlite-journal")
        with pytest.raises(Untrusted, match="pipe"):
            Catalog.open(world / "catalog.sqlite")

    def test_a_number_that_is_in_use_is_never_given_out_again(self, world):
        run_sql(world, "UPDATE counters SET value = 1 WHERE name = 'segment'")
        before = sorted(world.glob("segments/*/vectors.npy"))
        with pytest.raises(CorruptData, match="never given out"):
            Collection.open(world)
        assert sorted(world.glob("segments/*/vectors.npy")) == before


class TestArrays:
    def write(self, path: Path, array: np.ndarray) -> Path:
        np.save(path, array)
        return path

    def test_what_is_asked_for_comes_back(self, tmp_path):
        array = np.arange(12, dtype=np.float32).reshape(3, 4)
        path = self.write(tmp_path / "a.npy", array)
        for shape in ((3, 4), (None, 4), (None, None)):
            back = array_of(path.read_bytes(), path.name, ("<f4",), shape, "restore it", finite=True)
            np.testing.assert_array_equal(back, array)

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((3, 5), np.float32),
            np.zeros((3, 4), np.float64),
            np.zeros((3, 4), ">f4"),
            np.zeros(12, np.float32),
            np.asfortranarray(np.zeros((3, 4), np.float32)),
            np.full((3, 4), np.inf, np.float32),
            np.zeros((3, 4), [("a", "<f4")]),
        ],
    )
    def test_anything_else_is_refused(self, tmp_path, array):
        path = self.write(tmp_path / "a.npy", array)
        with pytest.raises(CorruptData, match=r"^a\.npy .*; restore it\.$"):
            array_of(path.read_bytes(), path.name, ("<f4",), (3, 4), "restore it", finite=True)

    def test_a_file_with_bytes_behind_the_last_value_is_refused(self, tmp_path):
        path = self.write(tmp_path / "a.npy", np.zeros((3, 4), np.float32))
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(CorruptData, match="shorter or longer"):
            array_of(path.read_bytes(), path.name, ("<f4",), (3, 4), "restore it")
