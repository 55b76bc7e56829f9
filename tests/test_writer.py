"""Adding, deleting, building, merging and sweeping; and what stands when one of them is cut off."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from worlds import DIM, Flat, assert_answers, fill, flip, make_video, queries

from engine import segment as segment_module
from engine import snapshot as snapshot_module
from engine import vectorindex, writer
from engine.collection import Collection
from engine.durable import file_hash
from engine.errors import Busy, DuplicateVideo, NotFound, StorageFull
from engine.types import Filter, NewVideo

VIDEOS = [make_video(i, 12) for i in range(3)]
ROOT = Path(__file__).resolve().parent.parent
QUERY = queries(1)[0]


@pytest.fixture
def collection(tmp_path):
    with fill(tmp_path / "c", VIDEOS) as made:
        yield made


def folders(collection: Collection, kind: str = "segments") -> set[str]:
    place = collection.path / kind
    return {path.name for path in place.iterdir()} if place.is_dir() else set()


def listed(collection: Collection) -> set[str]:
    """Segments of the newest generation."""
    with collection._generations.reading() as snapshot:
        return {str(row.segment_id) for row in snapshot.manifest.segments}


def contents(collection: Collection) -> dict[str, str]:
    """Hash of every segment file."""
    files = collection.path.glob("segments/*/*")
    return {str(path.relative_to(collection.path)): file_hash(path) for path in files}


def assert_holds(collection: Collection, videos, gone: tuple[str, ...] = ()) -> None:
    flat = Flat.of(videos, gone)
    assert collection.n_frames == len(flat)
    assert_answers(collection.search(QUERY, 1000, exact=True).hits, flat, QUERY, 1000)
    assert collection.check() == []


class Kin:
    """Another process, which runs each piece of code in a child of its own; importing the engine once saves seconds."""

    SERVER = """
import json, os, sys, traceback
from engine.catalog import Catalog, Change
from engine.collection import Collection
from engine.writer import Writer
from worlds import make_video
import numpy as np
for line in sys.stdin:
    code, path = json.loads(line)
    child = os.fork()
    if not child:
        try:
            exec(code, globals())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        self.server = subprocess.Popen(
            [sys.executable, "-c", self.SERVER],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, code: str, path: Path) -> None:
        """Run code, in which `path` is this path."""
        print(json.dumps([code, str(path)]), file=self.server.stdin, flush=True)

    def go_on(self) -> None:
        """Give a child that waits for a line one."""
        print(file=self.server.stdin, flush=True)

    def line(self) -> list[str]:
        """The words that it prints next; its exit status when it has ended."""
        return self.server.stdout.readline().split()

    def close(self) -> None:
        self.server.communicate()


@pytest.fixture(scope="module")
def kin():
    other = Kin()
    yield other
    other.close()


class TestAdd:
    def test_a_new_video_is_found_at_once_and_old_segments_stay_untouched(self, collection):
        before, late = contents(collection), make_video(7, 5)
        number = collection.add(*late)
        after = contents(collection)
        assert {name: after[name] for name in before} == before
        assert len(after) > len(before)
        assert collection.video("v7").number == number
        assert_holds(collection, [*VIDEOS, late])
        routed = collection.search(late[1].vectors[2], 1, n_probe=4).hits[0]
        assert (routed.video_id, routed.frame_index) == ("v7", late[1].frame_index[2])

    def test_a_stored_frame_keeps_everything_that_it_came_with(self, collection):
        new, frames = VIDEOS[1]
        hits = collection.search(QUERY, 100, exact=True, where=Filter(videos=("v1",))).hits
        assert len(hits) == 12
        for hit in hits:
            row = hit.frame_id - 12
            assert hit.frame_index == frames.frame_index[row]
            assert hit.seconds == frames.seconds[row]
            assert hit.shot == frames.shot[row]
            assert hit.tags == tuple(sorted(frames.tags[row]))
            assert (hit.captured_at - new.captured_at).total_seconds() == frames.seconds[row]
            assert hit.title == "Video 1"

    def test_the_same_video_again_is_skipped_and_another_one_under_its_id_is_refused(self, collection):
        generation = collection.generation
        assert collection.add(*VIDEOS[0]) is None
        with pytest.raises(DuplicateVideo, match="'v0' with other content"):
            collection.add(replace(VIDEOS[0][0], fingerprint="other"), VIDEOS[0][1])
        assert collection.generation == generation
        assert_holds(collection, VIDEOS)

    def test_without_a_fingerprint_the_frames_themselves_tell(self, collection):
        bare, frames = NewVideo("bare"), make_video(8, 4)[1]
        assert collection.add(bare, frames) is not None
        assert collection.add(bare, frames) is None
        with pytest.raises(DuplicateVideo):
            collection.add(bare, make_video(9, 4)[1])
        with pytest.raises(DuplicateVideo):
            collection.add(bare, replace(frames, seconds=frames.seconds + 1))

    def test_frame_ids_count_up_and_are_never_given_twice(self, collection):
        collection.delete("v2")
        collection.add(*VIDEOS[2])
        again = collection.search(QUERY, 100, exact=True, where=Filter(videos=("v2",))).hits
        assert sorted(hit.frame_id for hit in again) == list(range(36, 48))
        assert collection.video("v2").number == 4

    def test_rows_that_repeat_a_frame_are_kept(self, collection):
        frames = replace(make_video(8, 4)[1], frame_index=np.array([3, 3, 3, 1]), shot=None, tags=())
        collection.add(NewVideo("twice"), frames)
        hits = collection.search(QUERY, 100, exact=True, where=Filter(videos=("twice",))).hits
        assert sorted(hit.frame_index for hit in hits) == [1, 3, 3, 3]
        assert {hit.shot for hit in hits} == {-1}

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"vectors": np.ones((12, DIM + 1))}, "rows of 8"),
            ({"vectors": np.ones(12)}, "shape"),
            ({"vectors": np.full((12, DIM), np.nan)}, "Row 0 .* not a finite number"),
            ({"vectors": np.full((12, DIM), np.inf)}, "not a finite number"),
            ({"vectors": np.zeros((12, DIM))}, "all zeros"),
            ({"frame_index": np.arange(11)}, "11 values of frame_index"),
            ({"seconds": np.arange(13.0)}, "13 values of seconds"),
            ({"seconds": np.arange(12.0) - 1}, "negative"),
            ({"seconds": np.full(12, np.nan)}, "not a number"),
            ({"shot": np.arange(3)}, "3 values of shot"),
            ({"tags": ((),)}, "1 values of tags"),
            ({"thumbnails": (b"",) * 2}, "2 values of thumbnails"),
            ({"vectors": np.ones((0, DIM))}, "no frames"),
        ],
    )
    def test_frames_that_do_not_fit_are_refused_and_change_nothing(self, collection, change, why):
        generation = collection.generation
        with pytest.raises(ValueError, match=why):
            collection.add(NewVideo("bad"), replace(VIDEOS[0][1], **change))
        assert collection.generation == generation

    def test_a_recording_time_with_a_zone_is_refused(self, collection):
        with pytest.raises(ValueError, match="time zone"):
            collection.add(NewVideo("bad", captured_at=datetime(2024, 1, 1, tzinfo=UTC)), VIDEOS[0][1])

    @pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e30])
    def test_the_length_of_a_vector_does_not_matter_for_inner_products(self, tmp_path, scale):
        new, frames = VIDEOS[0]
        scaled = replace(frames, vectors=frames.vectors * np.float32(scale))
        with fill(tmp_path / "c", [(new, scaled)], built=False) as collection:
            assert_answers(collection.search(QUERY, 5).hits, Flat.of(VIDEOS[:1]), QUERY, 5)

    def test_numbers_beyond_float16_are_refused_for_distances(self, tmp_path):
        frames = replace(VIDEOS[0][1], vectors=VIDEOS[0][1].vectors * 1e6)
        with fill(tmp_path / "a", [], built=False, metric="l2") as collection, pytest.raises(ValueError, match="fp32"):
            collection.add(NewVideo("big"), frames)
        with fill(tmp_path / "b", [], built=False, metric="l2", store="fp32") as collection:
            assert collection.add(NewVideo("big"), frames) == 1


class TestDelete:
    def test_a_deleted_video_vanishes_from_every_answer_at_once(self, collection):
        assert collection.delete("v1") == 12
        assert_holds(collection, VIDEOS, ("v1",))
        assert [info.video_id for info in collection.videos()] == ["v0", "v2"]
        for ask in (lambda: collection.video("v1"), lambda: collection.frame(12), lambda: collection.delete("v1")):
            with pytest.raises(NotFound):
                ask()
        assert any("12 deleted frames" in note for note in collection.stats().notes)

    def test_a_build_leaves_deleted_frames_out_for_good(self, collection):
        collection.delete("v1")
        collection.build()
        assert sum(int(row["rows"].sum()) for row in map(np.load, collection.path.glob("segments/*/cells.npy"))) == 24
        assert_holds(collection, VIDEOS, ("v1",))

    def test_everything_may_be_deleted_and_more_be_added(self, collection):
        for new, _ in VIDEOS:
            collection.delete(new.video_id)
        result = collection.search(QUERY, n_probe=5)
        assert result.hits == ()
        assert {shard.reason for shard in result.trace.shards} == {"all its frames were deleted"}
        with pytest.raises(ValueError, match="nothing to build"):
            collection.build()
        late = make_video(5, 4)
        collection.add(*late)
        assert [hit.video_id for hit in collection.search(QUERY, 9, n_probe=99).hits] == ["v5"] * 4

    def test_damage_elsewhere_does_not_stop_a_delete(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS, built=False) as collection:
            flip(collection.path / "segments" / "1" / "frames.arrow")
        with Collection.open(tmp_path / "c") as collection:
            assert collection.delete("v2") == 12


class TestBuild:
    def test_frames_keep_their_ids_and_order_through_any_number_of_builds(self, collection):
        before = [hit.frame_id for hit in collection.search(QUERY, 36, exact=True).hits]
        for settings in ({"placement": "round_robin", "n_shards": 5}, {"n_cells": 2, "codec": "fp16"}):
            collection.build(**settings)
            assert [hit.frame_id for hit in collection.search(QUERY, 36, exact=True).hits] == before
        stats = collection.stats()
        assert (stats.placement, len(stats.shards), stats.n_cells, stats.codec) == ("round_robin", 5, 2, "fp16")

    def test_the_codec_is_trained_once_for_all_segments_until_the_next_build(self, collection, monkeypatch):
        monkeypatch.setattr(segment_module, "CODED_FROM", 1)
        calls = []
        train = vectorindex.train_codec
        monkeypatch.setattr(vectorindex, "train_codec", lambda *given: calls.append(given) or train(*given))
        collection.build()
        assert len(calls) == 1
        assert len(folders(collection)) == 3
        collection.add(*make_video(7, 5))
        assert len(calls) == 1
        (cells_id,) = folders(collection, "cells")
        collection.build()
        assert len(calls) == 2
        assert folders(collection, "cells") != {cells_id}

    def test_old_files_are_swept_after_a_build(self, collection):
        old = folders(collection)
        collection.build()
        assert folders(collection) == listed(collection)
        assert not old & folders(collection)
        assert len(folders(collection, "cells")) == 1
        assert len(list((collection.path / "leases").iterdir())) == 1

    def test_progress_rises_from_zero_to_one(self, collection):
        seen: list[float] = []
        collection.build(progress=lambda what, fraction: seen.append(fraction))
        assert seen[0] == 0
        assert seen == sorted(seen)
        assert seen[-1] == 1

    @pytest.mark.parametrize(
        "wrong", [{"placement": "best"}, {"codec": "pq"}, {"n_shards": 0}, {"n_cells": -1}, {"codec": ""}]
    )
    def test_a_setting_that_does_not_exist_is_refused_and_changes_nothing(self, collection, wrong):
        generation = collection.generation
        with pytest.raises(ValueError, match=r"\."):
            collection.build(**wrong)
        assert collection.generation == generation

    @pytest.mark.parametrize("n_shards", [1, 40])
    def test_more_shards_than_frames_or_cells_leave_some_empty(self, collection, n_shards):
        for placement in ("semantic", "round_robin"):
            collection.build(n_shards=n_shards, placement=placement)
            assert len(collection.stats().shards) == n_shards
            assert_holds(collection, VIDEOS)


class TestMerge:
    def test_small_segments_are_merged_when_a_shard_has_eight(self, tmp_path):
        videos = [make_video(i, 4) for i in range(20)]
        with fill(tmp_path / "c", videos[:1], n_shards=1) as collection:
            counts = []
            for video in videos[1:]:
                collection.add(*video)
                counts.append(collection.stats().shards[0].segments)
            assert counts == [2, 3, 4, 5, 6, 7, 1] * 2 + [2, 3, 4, 5, 6]
            assert folders(collection) == listed(collection)
            assert_holds(collection, videos)

    def test_merging_leaves_out_what_was_deleted(self, tmp_path):
        videos = [make_video(i, 4) for i in range(8)]
        with fill(tmp_path / "c", videos[:7], built=False) as collection:
            collection.delete("v3")
            collection.add(*videos[7])
            assert collection.stats().shards[0].segments == 1
            assert not any("deleted" in note for note in collection.stats().notes)
            assert_holds(collection, videos, ("v3",))

    def test_large_segments_are_left_alone(self, tmp_path, monkeypatch):
        monkeypatch.setattr(writer, "CODED_FROM", 10)
        videos = [VIDEOS[0], *(make_video(20 + i, 3) for i in range(8))]
        with fill(tmp_path / "c", videos[:1], n_shards=1) as collection:
            (large,) = folders(collection)
            for video in videos[1:]:
                collection.add(*video)
            assert large in folders(collection)
            assert collection.stats().shards[0].segments == 2
            assert_holds(collection, videos)

    def test_a_merge_that_finds_damage_does_not_fail_the_add_before_it(self, tmp_path):
        videos = [make_video(i, 4) for i in range(8)]
        fill(tmp_path / "c", videos[:7], built=False).close()
        flip(tmp_path / "c" / "segments" / "2" / "vectors.npy")
        with Collection.open(tmp_path / "c") as collection:
            assert collection.add(*videos[7]) == 8
            assert collection.stats().shards[0].segments == 8
            assert len(collection.check()) == 1


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
        assert_holds(collection, VIDEOS, ("v0", "v1"))

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


CHANGES = {
    "add": "c.add(*make_video(30, 6))",
    "build": "c.build(n_cells=3)",
    "delete": "c.delete('v1')",
    "merge": "\nwith c.writing() as writer: writer.merge(2)",
}


@pytest.mark.parametrize("change", CHANGES)
class TestCutOff:
    @pytest.fixture
    def scattered(self, tmp_path):
        """A built collection with more than one segment per shard."""
        self.videos = [*VIDEOS, make_video(10, 8), make_video(11, 8)]
        with fill(tmp_path / "c", VIDEOS, n_shards=2) as collection:
            for video in self.videos[3:]:
                collection.add(*video)
            yield collection

    def do(self, collection: Collection, change: str) -> None:
        exec(CHANGES[change], {"c": collection, "make_video": make_video})

    @pytest.mark.parametrize("when", ["before", "within"])
    def test_a_killed_writer_leaves_the_old_state_and_its_leftovers_are_swept(self, scattered, change, when, kin):
        cut = {
            "before": "Catalog.transaction = lambda self: os._exit(9)",
            "within": "Change.commit_generation = lambda *given: os._exit(9)",
        }
        # The sweep with which a writer starts has a transaction of its own, which is not the one to be cut.
        code = f"Writer.sweep = lambda self: None\n{cut[when]}\nc = Collection.open(path)\n{CHANGES[change]}"
        kin.start(code, scattered.path)
        assert kin.line() == ["9"]
        left = folders(scattered) - listed(scattered)
        assert bool(left) == (change != "delete")
        with Collection.open(scattered.path) as again:
            assert_holds(again, self.videos)
            with again.writing():
                pass
            assert folders(again) == listed(again)
            assert folders(again, "cells") == {"1"}
            self.do(again, change)
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
                assert scattered.n_frames == sum(len(frames) for _, frames in self.videos)
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
    assert_holds(collection, [*VIDEOS, make_video(7, 5)])


class TestReaders:
    def test_each_answer_comes_from_one_generation_however_much_is_written_meanwhile(self, tmp_path):
        live: dict[int, set[int]] = {}
        answers: list[tuple[int, set[int]]] = []
        faults: list[BaseException] = []
        with fill(tmp_path / "c", VIDEOS, n_shards=2) as collection, Collection.open(tmp_path / "c") as other:
            stop = threading.Event()

            def note() -> None:
                with collection._generations.reading() as snapshot:
                    rows = [view.live_columns().frame_id.tolist() for view in snapshot.views()]
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
                writer.merge(1)
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
        with collection._generations.reading() as held:
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
            "with Collection.open(path) as c, c._generations.reading() as held:\n"
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
            assert_holds(late, VIDEOS)

    def test_old_generations_leave_the_cache(self, collection):
        collection.search(QUERY, exact=True)
        held = collection.cache.stats()
        assert held.entries == 3
        collection.build()
        collection.search(QUERY, exact=True)
        assert collection.cache.stats().entries == 3
        assert collection.cache.stats().evictions == 0

    def test_a_commit_of_another_process_is_seen_by_the_next_question(self, collection, kin):
        kin.start("with Collection.open(path) as c: c.delete('v0')", collection.path)
        assert kin.line() == ["0"]
        assert_holds(collection, VIDEOS, ("v0",))
