"""Shortage is not damage: what runs short is named, nothing stored is blamed, and the next question is answered."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.cli.main import main
from engine.collection import Collection
from engine.errors import Busy, EngineError, ResourceExhausted, VideoError
from engine.media.sampling import grab, probe
from engine.storage import catalog, pictures, thumbnails
from engine.storage.limits import limited
from engine.storage.segment import Segment
from engine.system.files import write_files
from engine.system.process import check_address_space, raise_open_file_limit
from engine.system.system_errors import can_start_threads, shortage
from engine.types import FrameBatch, NewVideo, ShardState
from engine.vectors import ListStack, startable_threads
from engine.vectors.clustering import kmeans
from testing.clips import make_clip
from testing.faults import unlisted
from testing.worlds import DIM, Flat, assert_answers, fill, make_video, queries

VIDEOS = [make_video(i, 20) for i in range(3)]
QUERY = queries(1)[0]
CHEAP = {"n_shards": 10, "placement": "round_robin", "n_cells": 6}


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("town") / "c"
    with limited(coded_from=1):
        fill(path, VIDEOS, **CHEAP).close()
    return path


@pytest.fixture(scope="module")
def flat() -> Flat:
    return Flat.of(VIDEOS)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    make_clip(path, 2.0, fps=10.0)
    return path


@contextmanager
def room_for(n: int) -> Iterator[None]:
    """Let this process open only n more files meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    # The limit is on the number of a handle, so the free ones below are taken first.
    taken = []
    while (handle := os.open(os.devnull, os.O_RDONLY)) < last:
        taken.append(handle)
    taken.append(handle)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1 + n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for handle in taken:
            os.close(handle)


@contextmanager
def no_threads() -> Iterator[None]:
    """Let the system start no thread meanwhile."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def once(fault: BaseException, real: Callable[..., object]) -> Callable[..., object]:
    """A call that fails the first time."""
    left = [fault]

    def call(*values: object, **named: object) -> object:
        if left:
            raise left.pop()
        return real(*values, **named)

    return call


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("Error in FileIOReader: could not open codes.faiss for reading: Too many open files"),
            "open files",
        ),
        (OSError(errno.ENFILE, "x"), "the whole system"),
        (MemoryError("std::bad_alloc"), "memory"),
        (RuntimeError("Error: 'std::bad_alloc'"), "memory"),
        (OSError("Memory mapping file failed: Cannot allocate memory"), "memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
            "memory",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "threads or processes"),
        (RuntimeError("can't start new thread"), "threads or processes"),
    ],
)
def test_every_library_words_a_shortage_in_its_own_way(error, words):
    told = shortage("the search", error)
    assert isinstance(told, ResourceExhausted)
    assert "not enough" in str(told)
    assert words in str(told)
    assert str(told).endswith("so the search was given up; the collection is as before.")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Too many open files"),
        FileNotFoundError(errno.ENOENT, "x"),
        ValueError("the title is 'out of memory'"),
        EngineError("Cannot allocate memory"),
        RuntimeError("read error in codes.faiss: 12 != 13"),
    ],
)
def test_what_only_sounds_like_a_shortage_is_none(error):
    assert shortage("the search", error) is None


class TestOpenFiles:
    @pytest.mark.parametrize("residency", ["loaded", "mapped"])
    @pytest.mark.parametrize("wanted", [{"exact": True}, {"n_probe": 6}], ids=["exact", "routed"])
    @pytest.mark.parametrize("workers", [1, 3])
    def test_a_search_that_lacks_them_says_so_or_is_right(self, town, flat, residency, wanted, workers):
        for n in (0, 2, 5):
            with Collection.open(town, residency=residency, workers=workers) as collection:
                with room_for(n):
                    try:
                        assert_answers(collection.search(QUERY, 5, **wanted).hits, flat, QUERY, 5)
                    except ResourceExhausted as error:
                        assert "not enough open files" in str(error)  # noqa: PT017
                        assert "copy" not in str(error)  # noqa: PT017
                assert_answers(collection.search(QUERY, 5, **wanted).hits, flat, QUERY, 5)

    def test_shards_left_out_for_want_of_them_are_named_with_that_reason(self, town, flat):
        with Collection.open(town) as collection:
            with room_for(0):
                missing = collection.search(QUERY, 5, exact=True, allow_partial=True).trace.missing
            assert all("not enough open files" in each and "restore" not in each for each in missing)
            result = collection.search(QUERY, 5, exact=True, allow_partial=True)
            assert result.trace.missing == ()
            assert_answers(result.hits, flat, QUERY, 5)

    def test_a_check_reports_no_damage_for_want_of_them(self, town):
        with Collection.open(town) as collection:
            with room_for(0), pytest.raises(ResourceExhausted, match="not enough open files"):
                collection.check()
            assert collection.check() == []

    def test_a_collection_is_not_called_damaged_that_cannot_be_opened_for_want_of_them(self, town):
        for n in (0, 1):
            with room_for(n), pytest.raises(ResourceExhausted, match="not enough open files"):
                Collection.open(town)
        with Collection.open(town) as collection:
            assert collection.n_frames == 60

    def test_a_video_is_not_called_broken_that_cannot_be_opened_for_want_of_them(self, film):
        for n in (0, 1):
            with room_for(n):
                for read in (probe, lambda path: grab(path, 0.5)):
                    try:
                        read(film)
                    except VideoError as error:
                        pytest.fail(str(error))
                    except ResourceExhausted as error:
                        assert "not enough open files" in str(error)  # noqa: PT017
        with room_for(0), pytest.raises(ResourceExhausted):
            probe(film)
        assert probe(film).fps == 10.0

    def test_pictures_are_left_out_and_clips_say_what_they_lack(self, tmp_path, film):
        with Collection.create(tmp_path / "c", dim=DIM) as collection:
            frames = FrameBatch(np.eye(3, DIM, dtype=np.float32), np.arange(3), np.arange(3) * 0.5)
            collection.add(NewVideo("film", source=str(film)), frames)
            time.sleep(0.02)  # A file that has only just been written is opened again at each use.
            frame = collection.frame(1)
            with room_for(0):
                assert collection.thumbnail(frame) is None
                with pytest.raises(ResourceExhausted, match="open files"):
                    collection.clip(frame)
            assert collection.thumbnail(frame) is not None
            assert collection.clip(frame).path.is_file()

    def test_thumbnails_are_not_called_damaged_for_want_of_them(self, tmp_path):
        new, frames = make_video(1, 2)
        pictured = FrameBatch(frames.vectors, frames.frame_index, frames.seconds, thumbnails=(b"a", b"b"))
        with Collection.create(tmp_path / "c", dim=DIM) as collection:
            collection.add(new, pictured)
            row = collection._generations.newest().videos[1]
            with room_for(0), pytest.raises(ResourceExhausted):
                thumbnails.thumbnail_problems(collection.path, row)
            assert thumbnails.thumbnail_problems(collection.path, row) == []

    def test_a_collection_holds_few_of_them_and_gives_all_back(self, town):
        def held() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        before, threads = held(), threading.active_count()
        opened = [Collection.open(town) for _ in range(20)]
        assert held() - before <= 20 * 2  # The catalog, and the lease.
        for collection in opened:
            collection.close()
        for _ in range(20):
            with Collection.open(town, workers=2) as collection:
                collection.search(QUERY, 3, exact=True)
        assert held() <= before + 12  # What was mapped goes when nobody refers to it any more.
        assert threading.active_count() == threads

    def test_a_program_may_open_as_many_as_the_system_allows(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
            raise_open_file_limit()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, 65_536), hard)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestMemory:
    @pytest.mark.parametrize(
        "name",
        [
            "load",
            "stored_in_memory",
        ],
    )
    def test_a_search_that_lacks_it_blames_no_shard_and_the_next_one_is_right(self, town, flat, name, monkeypatch):
        real = getattr(Segment, name)
        with Collection.open(town) as collection:
            fault = once(MemoryError("std::bad_alloc"), real)
            monkeypatch.setattr(Segment, name, lambda *a, **k: fault(*a, **k))
            with pytest.raises(ResourceExhausted, match="not enough memory"):
                collection.search(QUERY, 5, n_probe=6)
            again = once(MemoryError("std::bad_alloc"), real)
            monkeypatch.setattr(Segment, name, lambda *a, **k: again(*a, **k))
            trace = collection.search(QUERY, 5, n_probe=6, allow_partial=True).trace
            (missing,) = trace.missing
            assert "not enough memory" in missing
            assert [shard.state for shard in trace.shards].count(ShardState.FAILED) == 1
            assert_answers(collection.search(QUERY, 5, n_probe=6).hits, flat, QUERY, 5)

    def test_shards_that_cannot_be_searched_together_are_searched_one_by_one(self, town, flat, monkeypatch):
        fault = once(MemoryError("std::bad_alloc"), ListStack.search)
        monkeypatch.setattr(ListStack, "search", lambda *a: fault(*a))
        with Collection.open(town) as collection:
            result = collection.search(QUERY, 5, n_probe=6)
        assert_answers(result.hits, flat, QUERY, 5)
        assert result.trace.vectors_scanned == sum(shard.vectors_scanned for shard in result.trace.shards) > 0

    def test_a_way_to_search_that_was_chosen_under_it_is_not_kept(self, town, monkeypatch):
        from engine.storage import snapshot

        with Collection.open(town) as collection:
            usual = collection.search(QUERY, 5).trace
            monkeypatch.setattr(snapshot, "read_cells", once(MemoryError(), snapshot.read_cells))
        with Collection.open(town) as collection:
            with pytest.raises(ResourceExhausted):
                collection.search(QUERY, 5)
            trace = collection.search(QUERY, 5).trace
            assert (trace.method, trace.n_probe) == (usual.method, usual.n_probe) == ("routed", trace.n_probe)

    def test_a_build_that_lacks_it_leaves_the_collection_as_it_was(self, tmp_path, monkeypatch):
        with fill(tmp_path / "c", VIDEOS[:1]) as collection:
            before = collection.generation
            monkeypatch.setattr("engine.layout.grouping.kmeans", once(MemoryError(), kmeans))
            with pytest.raises(ResourceExhausted, match="not enough memory"):
                collection.build()
            assert collection.generation == before
            assert collection.check() == []
            collection.build()
            assert collection.generation == before + 1

    @pytest.mark.parametrize(
        ("fault", "words"),
        [(MemoryError(), "not enough memory"), (RecursionError("deep"), "nested too deeply")],
    )
    def test_the_command_line_says_one_sentence(self, town, monkeypatch, capsys, fault, words):
        monkeypatch.setattr(Collection, "stats", once(fault, Collection.stats))
        assert main(["stats", str(town)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert words in told.err
        assert len(told.err.splitlines()) == 1

    def test_too_few_addresses_are_told_before_the_libraries_crash(self, monkeypatch):
        monkeypatch.setattr(resource, "getrlimit", lambda which: (500 << 20, 500 << 20))
        with pytest.raises(ResourceExhausted, match=r"524 MB.*ulimit -v"):
            check_address_space()


class TestThreads:
    def test_shards_are_searched_one_after_another_where_none_can_be_started(self, town, flat):
        with Collection.open(town, workers=3) as collection:
            with no_threads():
                assert_answers(collection.search(QUERY, 5, exact=True).hits, flat, QUERY, 5)
            assert_answers(collection.search(QUERY, 5, exact=True).hits, flat, QUERY, 5)

    def test_files_are_written_and_videos_stored_where_none_can_be_started(self, tmp_path):
        with no_threads():
            write_files((tmp_path / f"{i}", b"%d" % i) for i in range(40))
            assert not can_start_threads(1)
        assert [(tmp_path / f"{i}").read_bytes() for i in range(40)] == [b"%d" % i for i in range(40)]
        assert can_start_threads(2)
        with no_threads(), fill(tmp_path / "c", VIDEOS[:1]) as collection:
            assert collection.built
            assert collection.check() == []

    def test_faiss_keeps_to_one_where_it_would_end_the_process(self):
        import faiss

        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(4)
        try:
            with no_threads(), startable_threads():
                assert faiss.omp_get_max_threads() == 1
            with startable_threads():
                assert faiss.omp_get_max_threads() == 4
        finally:
            faiss.omp_set_num_threads(before)

    def test_a_fault_in_a_thread_is_raised_and_the_others_end(self, tmp_path):
        (tmp_path / "3").write_bytes(b"there already")
        with pytest.raises(FileExistsError):
            write_files((tmp_path / f"{i}", b"x") for i in range(20))


class TestALockedCatalog:
    @pytest.fixture
    def locked(self, tmp_path, monkeypatch):
        monkeypatch.setattr(catalog, "_PATIENCE", 0.05)
        with fill(tmp_path / "c", VIDEOS, built=False) as collection:
            other = sqlite3.connect(tmp_path / "c" / "catalog.sqlite", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            yield collection
            other.execute("ROLLBACK")
            other.close()

    def test_readers_go_on_with_the_generation_in_hand(self, locked, flat):
        assert_answers(locked.search(QUERY, 5, exact=True).hits, flat, QUERY, 5)

    def test_whoever_opens_it_then_or_writes_is_told_to_try_again(self, locked):
        with pytest.raises(Busy, match="try again"):
            Collection.open(locked.path)
        with pytest.raises(Busy, match="try again"):
            locked.delete("v0")


def test_a_clip_just_cut_is_kept_when_the_clock_was_set_back(tmp_path, film, monkeypatch):
    monkeypatch.setattr(pictures, "KEEP_CLIPS", 2)
    with Collection.create(tmp_path / "c", dim=DIM) as collection:
        frames = FrameBatch(np.eye(4, DIM, dtype=np.float32), np.arange(4), np.arange(4) * 0.4)
        collection.add(NewVideo("film", source=str(film)), frames)
        for i in range(4):
            clip = collection.clip(collection.frame(i))
            assert clip.path.is_file()
            later = time.time() + 1e6 - i  # Each one seems older than those before.
            os.utime(clip.path, (later, later))
        assert len(list((tmp_path / "c" / "clips").glob("*.mp4"))) == 2


class TestTheProcess:
    """What happens around the command line."""

    def test_asked_to_end_it_stops_in_order_and_leaves_the_old_state_or_the_new(self, town, tmp_path):
        with Collection.open(town) as collection:
            before = collection.generation
        code = (
            "import sys, time\n"
            "from engine.storage import next_generation\n"
            "from engine.cli.main import program\n"
            "def slow(*values, **named):\n"
            "    print('writing', flush=True)\n"
            "    time.sleep(60)\n"
            "next_generation.write_segment = slow\n"
            "sys.exit(program())"
        )
        command = [sys.executable, "-c", code, "build", str(town)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"writing\n"
            process.send_signal(signal.SIGTERM)
            assert process.stderr.read() == b"engine: stopped; what was stored before stays.\n"
            assert process.wait(20) == 143
        with Collection.open(town) as collection:
            assert collection.generation == before
            assert collection.check() == []
            with collection.writing():
                pass  # The next writer sweeps what was left behind; a build goes on with what it had finished.
            assert unlisted(collection) == []

    def test_closed_streams_get_a_place_of_their_own(self, tmp_path):
        code = (
            "import os, sys\n"
            "for handle in range(3):\n"
            "    os.close(handle)\n"
            "sys.stdout = sys.stderr = None\n"
            "from engine.system.process import open_standard_streams\n"
            "open_standard_streams()\n"
            "print('to nobody')\n"
            "with open(sys.argv[1], 'wb') as file:\n"
            "    os._exit(file.fileno())"
        )
        assert subprocess.run([sys.executable, "-c", code, tmp_path / "file"]).returncode == 3
