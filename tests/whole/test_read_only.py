"""Folders that may be read and not written: searched without a lease, and refused to writers before any work is done."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import Busy, ReadOnly
from engine.search import searcher
from engine.storage import pictures
from engine.storage.limits import limited
from engine.system.locks import FileLock
from engine.system.system_errors import check_writable
from engine.types import FrameBatch, NewVideo
from testing.clips import make_clip
from testing.worlds import DIM, Flat, assert_answers, fill, make_video, queries

VIDEOS = [make_video(i, 12) for i in range(3)]
QUERY = queries(1)[0]
ROOT = Path(__file__).resolve().parents[2]

STRANGER = """
import sys, os, json
sys.path[:0] = [{root!r}]
import numpy as np, pandas, pyarrow.compute
from pathlib import Path
from engine.cli.main import main
from engine.collection import Collection
from engine.types import Filter
from testing.worlds import make_video, queries
if os.getuid() == 0:  # Nothing is closed to root.
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
path, = sys.argv[1:]
def told(work):
    try:
        return work()
    except Exception as error:
        return [type(error).__name__, str(error)]
"""


def as_stranger(path: Path, code: str) -> object:
    """What a user says, as JSON, who may read the folder and not write to it."""
    start = STRANGER.format(root=str(ROOT))
    run = subprocess.run([sys.executable, "-c", start + code, path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def everything(path: Path) -> list[tuple[str, int]]:
    return sorted((str(each.relative_to(path)), each.stat().st_mtime_ns) for each in path.rglob("*"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "c"
    with limited(coded_from=1):
        fill(path, VIDEOS).close()
    return path


@pytest.fixture
def closed(sound) -> Iterator[Path]:
    """A collection in a folder that strangers may read, and nobody but root may write to."""
    outer = Path(tempfile.mkdtemp())
    outer.chmod(0o755)
    path = shutil.copytree(sound, outer / "c")
    shutil.rmtree(path / "leases")
    for each in (path, *path.rglob("*")):
        each.chmod(0o555 if each.is_dir() else 0o444)
    yield path
    for each in (path, *path.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    shutil.rmtree(outer)


class TestAFolderOfSomebodyElse:
    def test_it_is_searched_like_ones_own_and_nothing_is_written(self, closed, sound):
        before = everything(closed)
        code = """
found = []
for residency in ("loaded", "mapped"):
    with Collection.open(path, residency=residency) as collection:
        for how in ({"exact": True}, {"n_probe": 4}, {"where": Filter(seconds=(0.0, 12.0))}):
            found.append([hit.frame_id for hit in collection.search(queries(1)[0], 5, **how).hits])
        checked = collection.check()
        n = collection.stats().n_frames
print(json.dumps([found, checked, n]))
"""
        found, checked, n = as_stranger(closed, code)
        with Collection.open(sound) as collection:
            asked = [collection.search(QUERY, 5, exact=True), collection.search(QUERY, 5, n_probe=4)]
            ids = [[hit.frame_id for hit in result.hits] for result in asked]
        assert [found[0], found[1]] == [found[3], found[4]] == ids
        assert (checked, n) == ([], 36)
        assert everything(closed) == before

    def test_writers_are_refused_with_a_sentence_before_any_work(self, closed):
        before = everything(closed)
        code = """
with Collection.open(path) as collection:
    vector = np.ones((1, 8), np.float32)
    refusals = [
        told(lambda: collection.add(*make_video(9))),
        told(lambda: collection.delete("v0")),
        told(lambda: collection.build(progress=lambda *done: 1 / 0)),
        told(lambda: collection.reshard(n_shards=2)),
        told(lambda: collection.compact()),
    ]
made = told(lambda: Collection.create(path + "/new", dim=8))
beside = told(lambda: Collection.create(Path(path).parent / "new", dim=8))
print(json.dumps([refusals, made, beside, main(["build", path]), main(["stats", path])]))
"""
        refusals, made, beside, built, stats = as_stranger(closed, code)
        for kind, sentence in (*refusals, made, beside):
            assert kind == "ReadOnly"
            assert "may not be written to" in sentence
            assert "copy the collection to a folder of your own" in sentence
        assert (built, stats) == (2, 0)
        assert everything(closed) == before

    def test_a_write_that_was_cut_off_is_left_to_its_owner(self, closed):
        path = closed / "catalog.sqlite"
        whole = path.read_bytes()
        copy = closed.parent / "copy.sqlite"
        copy.write_bytes(whole)
        db = sqlite3.connect(copy, isolation_level=None)
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE videos SET title = hex(randomblob(40000))")
        halves = {"": copy.read_bytes(), "-journal": Path(f"{copy}-journal").read_bytes()}
        db.execute("ROLLBACK")
        db.close()
        path.chmod(0o644)
        path.write_bytes(halves[""])
        path.with_name("catalog.sqlite-journal").write_bytes(halves["-journal"])
        path.chmod(0o444)
        kind, sentence = as_stranger(closed, "print(json.dumps(told(lambda: Collection.open(path))))")
        assert kind == "ReadOnly"
        assert "was cut off" in sentence
        assert "let its owner open it once" in sentence

    def test_what_may_not_even_be_read_is_not_called_damaged(self, closed):
        (vectors, *_) = sorted(closed.glob("segments/*/vectors.npy"))
        vectors.chmod(0o000)
        code = """
with Collection.open(path) as collection:
    print(json.dumps([told(lambda: collection.check()), told(lambda: collection.search(queries(1)[0], exact=True))]))
"""
        (kind, checked), (_, searched) = as_stranger(closed, code)
        assert kind == "ReadOnly"
        for sentence in (checked, searched):
            assert "permission" in sentence
            assert "restore" not in sentence


class TestWithoutALease:
    @pytest.fixture
    def path(self, tmp_path, sound):
        return shutil.copytree(sound, tmp_path / "c")

    @pytest.fixture
    def no_locks(self, monkeypatch):
        """A file system that has none."""

        def refuse(handle: int, what: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", refuse)
        return monkeypatch

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
    def test_a_file_system_without_locks_is_read_and_not_written(self, path, monkeypatch, number):
        def refuse(handle: int, what: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with Collection.open(path) as collection:
            assert_answers(collection.search(QUERY, 5, exact=True).hits, Flat.of(VIDEOS), QUERY, 5)
            with pytest.raises(ReadOnly, match=r"no locks .* copy the collection to a local disk\.$"):
                collection.delete("v0")
            assert collection.n_frames == 36

    def test_a_collection_that_changes_under_a_reader_is_asked_again(self, path, no_locks):
        with Collection.open(path) as reader:
            no_locks.undo()
            with Collection.open(path) as writer:
                real = searcher.search

                def overtaken(*values: object) -> object:
                    no_locks.undo()
                    writer.delete("v0")
                    writer.build()
                    with writer.writing():
                        pass  # Sweeps the segments that nobody holds.
                    return real(*values)

                no_locks.setattr(searcher, "search", overtaken)
                with pytest.raises(Busy, match=r"changed while it was read; ask again\.$"):
                    reader.search(QUERY, 5, exact=True)
                flat = Flat.of(VIDEOS, gone=("v0",))
                assert_answers(reader.search(QUERY, 5, exact=True).hits, flat, QUERY, 5)
                assert reader.check() == []

    def test_what_is_lost_is_still_called_lost(self, path, no_locks):
        with Collection.open(path) as reader:
            (vectors, *_) = sorted(path.glob("segments/*/vectors.npy"))
            vectors.unlink()
            (problem,) = reader.check()
            assert "vectors.npy" in problem

    def test_a_lock_that_another_user_made_can_be_taken(self, tmp_path, monkeypatch):
        path = tmp_path / "lock"
        path.touch()
        real = os.open

        def mine_to_read(name: os.PathLike[str], flags: int, *more: int) -> int:
            if Path(name) == path and flags & os.O_ACCMODE != os.O_RDONLY:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return real(name, flags, *more)

        monkeypatch.setattr(os, "open", mine_to_read)
        with FileLock(path, shared=False) as one, FileLock(path, shared=True) as other:
            assert one.acquire()
            assert not other.acquire()

    def test_a_lease_of_another_user_does_not_stop_the_writer(self, path, monkeypatch):
        with Collection.open(path) as collection:
            collection.delete("v0")
            old = path / "leases" / str(collection.generation - 1)
            old.touch()
            real = os.open

            def closed(name: os.PathLike[str], flags: int, *more: int) -> int:
                if Path(name) == old:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                return real(name, flags, *more)

            monkeypatch.setattr(os, "open", closed)
            collection.build()
            assert collection.n_frames == 24
            assert old.exists()


class TestAReadOnlyDisk:
    @pytest.fixture
    def mounted(self, tmp_path, sound):
        """The collection on a disk that takes no writes; root meets that as well."""
        place = tmp_path / "disk"
        place.mkdir()
        if shutil.which("mount") is None or os.getuid() != 0:
            pytest.skip("only root can mount")
        if subprocess.run(["mount", "-o", "bind,ro", sound.parent, place], capture_output=True).returncode != 0:
            pytest.skip("nothing can be mounted here")
        if os.access(place, os.W_OK):
            subprocess.run(["mount", "-o", "remount,bind,ro", place], capture_output=True)
        yield place / "c"
        gc.collect()  # What is mapped keeps a disk in use.
        subprocess.run(["umount", place], check=True)

    def test_it_is_searched_and_checked_and_not_written(self, mounted):
        before = everything(mounted)
        with Collection.open(mounted, remember=True) as collection:
            for how in ({"exact": True}, {"n_probe": 10**6}):
                assert_answers(collection.search(QUERY, 5, **how).hits, Flat.of(VIDEOS), QUERY, 5)
            assert collection.check() == []
            assert collection.memory().disk.total > 0
            with pytest.raises(ReadOnly, match="Read-only file system"):
                collection.build()
            with pytest.raises(ReadOnly, match="Read-only file system"):
                check_writable(mounted, "this")
        assert everything(mounted) == before


class TestPicturesAndClips:
    def test_they_are_made_elsewhere_where_the_collection_takes_none(self, tmp_path, monkeypatch):
        make_clip(tmp_path / "film.mp4", 1.0, fps=10.0)
        with Collection.create(tmp_path / "c", dim=DIM) as collection:
            frames = FrameBatch(np.eye(3, DIM, dtype=np.float32), np.arange(3), np.arange(3) * 0.2)
            collection.add(NewVideo("film", source=str(tmp_path / "film.mp4")), frames)
            monkeypatch.setattr(pictures, "may_write", lambda path: False)
            before = everything(collection.path)
            frame = collection.frame(1)
            picture, clip = collection.thumbnail(frame), collection.clip(frame)
            assert picture is not None
            assert picture.read_bytes()[:3] == b"\xff\xd8\xff"
            assert picture == collection.thumbnail(frame)
            assert clip.path.read_bytes()[4:8] == b"ftyp"
            assert clip == collection.clip(frame)
            assert everything(collection.path) == before
            for made in (picture, clip.path):
                assert not made.is_relative_to(collection.path)
