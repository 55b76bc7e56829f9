"""One writer, many readers, and what stands when a change is cut off."""

from __future__ import annotations

import errno
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import Busy, NotFound, StorageFull
from engine.storage import snapshot as snapshot_module
from testing.kin import Kin
from testing.worlds import FEW, assert_holds, fill, folders, listed, make_video, queries

QUERY = queries(1)[0]


@pytest.fixture(scope="module")
def kin():
    other = Kin()
    yield other
    other.close()


class TestOneWriter:
    def test_a_second_writer_is_told_at_once(self, collection):
        with collection.writing(), Collection.open(collection.path) as other:
            with pytest.raises(Busy, match="writing"):
                other.delete("v0")
            told: list[BaseException] = []

            def write() -> None:
                try:
                    collection.delete("v0")
                except Busy as error:
                    told.append(error)

            thread = threading.Thread(target=write)
            thread.start()
            thread.join(5)
            assert len(told) == 1
        assert collection.delete("v0") == 12

    def test_the_one_who_writes_may_go_on_writing(self, collection):
        with collection.writing() as writer:
            writer.delete("v0")
            collection.delete("v1")
            collection.build()
        assert_holds(collection, FEW, ("v0", "v1"))

    def test_another_process_that_writes_is_respected_and_its_death_frees_the_lock(self, collection, kin):
        kin.start(
            "with Collection.open(path) as c, c.writing():\n    print(os.getpid(), flush=True); sys.stdin.readline()",
            collection.path,
        )
        (pid,) = kin.line()
        with pytest.raises(Busy):
            collection.add(*make_video(7, 5))
        assert len(collection.search(QUERY, 3).hits) == 3
        os.kill(int(pid), signal.SIGKILL)
        assert kin.line() == [str(-signal.SIGKILL)]
        assert collection.add(*make_video(7, 5)) == 4

    def test_a_change_that_fails_lets_go_of_the_lock(self, collection):
        with pytest.raises(NotFound):
            collection.delete("nobody")
        assert collection.delete("v0") == 12


def several(n: int):
    """What `store` takes: videos, and a batch of frames of each."""
    videos = [make_video(60 + i, 5) for i in range(n)]
    return [new for new, _ in videos], [replace(frames, video=np.full(5, i)) for i, (_, frames) in enumerate(videos)]


CHANGES = {
    "add": "c.add(*make_video(30, 6))",
    "build": "c.build(n_cells=3)",
    "delete": "c.delete('v1')",
    "merge": "\nwith c.writing() as writer: writer.maintenance.merge(everything=True)",
    "store": "c.store(*several(4))",
    "reshard": "c.reshard(placement='round_robin', n_shards=3)",
    "compact": "c.compact()",
    "update": "c.update(c.path.parent / 'update.csv')",
}


@pytest.mark.parametrize("change", CHANGES)
class TestCutOff:
    @pytest.fixture
    def scattered(self, tmp_path):
        """A built collection with more than one segment per shard, and rows that are deleted."""
        self.videos = [*FEW, make_video(12, 6), make_video(10, 8), make_video(11, 8)]
        with fill(tmp_path / "c", self.videos[:4], n_shards=2) as collection:
            for video in self.videos[4:]:
                collection.add(*video)
            collection.delete("v12")
            (tmp_path / "update.csv").write_text(
                "video_id,title,shot,frame_index\nv0,New,9,0\nv1,,8,24\nv10,Newer,7,0\n"
            )
            yield collection

    def do(self, collection: Collection, change: str) -> None:
        exec(CHANGES[change], {"c": collection, "make_video": make_video, "several": several})

    @pytest.mark.parametrize("when", ["before", "within"])
    def test_a_killed_writer_leaves_the_old_state_and_its_leftovers_are_swept(self, scattered, change, when, kin):
        cut = {
            "before": "Catalog.transaction = lambda self: os._exit(9)",
            "within": "Change.commit_generation = lambda *given: os._exit(9)",
        }
        # The sweep with which a writer starts has a transaction of its own, which is not the one to be cut.
        code = f"Maintenance.sweep = lambda self: None\n{cut[when]}\nc = Collection.open(path)\n{CHANGES[change]}"
        kin.start(code, scattered.path)
        assert kin.line() == ["9"]
        left = folders(scattered) - listed(scattered)
        assert bool(left) == (change != "delete")
        with Collection.open(scattered.path) as again:
            assert_holds(again, self.videos, ("v12",))
            with again.writing():
                pass
            if change not in ("build", "reshard"):  # Which go on where they were.
                assert folders(again) == listed(again)
                assert folders(again, "cells") == {"1"}
            self.do(again, change)
            assert folders(again, "staged") == set()
            assert again.check() == []

    def test_a_full_disk_at_any_moment_leaves_the_collection_as_it_was(self, scattered, change, monkeypatch):
        real, generation = os.fsync, scattered.generation
        for allowed in range(100):
            left = [allowed]

            def sync(handle: int, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                real(handle)

            monkeypatch.setattr(os, "fsync", sync)
            try:
                self.do(scattered, change)
            except StorageFull:
                assert scattered.generation == generation
                assert scattered.n_frames == sum(len(frames) for _, frames in self.videos) - 6
            else:
                break
        monkeypatch.undo()
        assert allowed > 3 or change == "delete"
        assert scattered.generation > generation
        assert scattered.check() == []
        with scattered.writing():
            pass
        assert folders(scattered) == listed(scattered)


def test_a_writer_may_try_again_after_the_disk_was_full(collection, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with collection.writing() as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageFull, match="as before"):
                writer.add(*make_video(7, 5))
        assert writer.add(*make_video(7, 5)) == 4
    assert_holds(collection, [*FEW, make_video(7, 5)])


class TestReaders:
    def test_each_answer_comes_from_one_generation_however_much_is_written_meanwhile(self, tmp_path):
        live: dict[int, set[int]] = {}
        answers: list[tuple[int, set[int]]] = []
        faults: list[BaseException] = []
        with fill(tmp_path / "c", FEW, n_shards=2) as collection, Collection.open(tmp_path / "c") as other:
            stop = threading.Event()

            def note() -> None:
                with collection.reading() as snapshot:
                    rows = [view.segment.columns.frame_id[view.live_rows()].tolist() for view in snapshot.views()]
                    live[snapshot.generation] = {i for ids in rows for i in ids}

            def read(source: Collection, exact: bool) -> None:
                try:
                    while not stop.is_set():
                        result = source.search(QUERY, 1000, exact=exact, n_probe=None if exact else 10**6)
                        answers.append((result.trace.generation, {hit.frame_id for hit in result.hits}))
                except BaseException as error:
                    faults.append(error)

            threads = [threading.Thread(target=read, args=(c, e)) for c in (collection, other) for e in (True, False)]
            note()
            for thread in threads:
                thread.start()
            with collection.writing() as writer:
                for i in range(8):
                    collection.add(*make_video(40 + i, 4))
                    note()
                    if i % 3 == 2:
                        collection.delete(f"v{40 + i}")
                        note()
                    if i % 4 == 3:
                        collection.build()
                        note()
                    if i == 5:
                        collection.reshard(placement="round_robin", n_shards=4)
                        note()
                        collection.compact()
                        note()
                writer.maintenance.merge(everything=True)
                note()
            stop.set()
            for thread in threads:
                thread.join(20)
        assert not faults
        # A merge that an add brings about makes a generation with the same frames, which was not noted.
        known = [(live[generation], found) for generation, found in answers if generation in live]
        assert all(found == expected for expected, found in known)
        assert len({generation for generation, _ in answers}) > 3
        assert len(known) > 20

    def test_what_a_reader_holds_is_kept_and_swept_after(self, collection):
        with collection.reading() as held:
            old = {str(row.segment_id) for row in held.manifest.segments}
            collection.build()
            collection.delete("v0")
            collection.build()
            assert old <= folders(collection)
            assert sum(len(view.segment.gather(np.arange(view.segment.n_rows))) for view in held.views()) == 36
            assert collection.n_frames == 24
        assert old <= folders(collection)
        with collection.writing():
            pass
        assert folders(collection) == listed(collection)

    def test_what_another_process_reads_is_kept_until_it_lets_go(self, collection, kin):
        kin.start(
            "with Collection.open(path) as c, c.reading() as held:\n"
            "    print(held.generation, flush=True); sys.stdin.readline()\n"
            "    rows = [len(view.segment.gather(np.arange(view.segment.n_rows))) for view in held.views()]\n"
            "    print(sum(rows), len(held.cells), held.generation, flush=True); sys.stdin.readline()",
            collection.path,
        )
        (held,) = kin.line()
        old, n_cells = folders(collection), collection.stats().n_cells
        collection.build()
        assert old <= folders(collection)
        kin.go_on()
        assert kin.line() == ["36", str(n_cells), held]
        kin.go_on()
        assert kin.line() == ["0"]
        with collection.writing():
            pass
        assert not old & folders(collection)

    def test_a_reader_that_a_writer_overtakes_while_opening_takes_the_newer_generation(self, collection, monkeypatch):
        take, overtaken = snapshot_module.take_lease, []

        def slow(path: Path, generation: int):
            if not overtaken:
                overtaken.append(generation)
                collection.build()
            return take(path, generation)

        monkeypatch.setattr(snapshot_module, "take_lease", slow)
        with Collection.open(collection.path) as late:
            assert late.generation == collection.generation > overtaken[0]
            assert_holds(late, FEW)

    def test_old_generations_leave_the_cache(self, collection):
        collection.search(QUERY, n_probe=10**6)
        held = collection.cache.stats()
        assert held.entries == 3
        collection.build()
        collection.search(QUERY, n_probe=10**6)
        assert collection.cache.stats().entries == 3
        assert collection.cache.stats().evictions == 0

    def test_a_commit_of_another_process_is_seen_by_the_next_question(self, collection, kin):
        kin.start("with Collection.open(path) as c: c.delete('v0')", collection.path)
        assert kin.line() == ["0"]
        assert_holds(collection, FEW, ("v0",))
