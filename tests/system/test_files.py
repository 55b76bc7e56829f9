"""Files that survive, and locks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from engine.errors import CorruptData, ReadOnly, ResourceExhausted, StorageFull
from engine.system.files import check_file, file_hash, save_array, synced, write_files, write_header
from engine.system.locks import FileLock
from engine.system.system_errors import storage_errors


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float16).reshape(3, 4),
        np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],
        np.empty((0, 4), np.float32),
        np.zeros(2, [("cell", np.int32), ("crc", np.uint32)]),
    ],
)
def test_an_array_comes_back_as_it_was_saved(tmp_path, array):
    save_array(tmp_path / "a.npy", array)
    back = np.load(tmp_path / "a.npy")
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_an_array_may_be_written_piece_by_piece_behind_its_header(tmp_path, kind):
    array = np.random.default_rng(1).normal(size=(50, 3)).astype(kind)
    save_array(tmp_path / "whole.npy", array)
    with synced(tmp_path / "pieces.npy") as file:
        write_header(file, array.shape, array.dtype)
        for start in range(0, 50, 7):
            file.write(array[start : start + 7].tobytes())
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "pieces.npy"), array)


class TestManyFiles:
    def test_all_are_written_and_every_one_is_synced_and_then_its_folder(self, tmp_path, monkeypatch):
        done = []
        monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.fstat(handle).st_ino))
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        files = {tmp_path / "ab"[i % 2] / f"{i}.jpg": bytes([i]) * i for i in range(40)}
        write_files(files.items())
        assert {path: path.read_bytes() for path in files} == files
        assert sorted(done[:40]) == sorted(path.stat().st_ino for path in files)
        assert sorted(done[40:]) == sorted((tmp_path / name).stat().st_ino for name in ("a", "b"))

    def test_a_file_that_cannot_be_written_is_an_error_of_the_whole(self, tmp_path, monkeypatch):
        left = [20]

        def full(handle: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull), storage_errors("storing v1"):
            write_files((tmp_path / f"{i}.jpg", b"x") for i in range(40))

    def test_none_is_written_over(self, tmp_path):
        (tmp_path / "1.jpg").write_bytes(b"first")
        with pytest.raises(FileExistsError):
            write_files([(tmp_path / "1.jpg", b"second")])
        assert (tmp_path / "1.jpg").read_bytes() == b"first"

    def test_nothing_to_write_is_no_fault(self, tmp_path):
        write_files([])
        assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_written_over(tmp_path):
    (tmp_path / "a").write_bytes(b"first")
    with pytest.raises(FileExistsError), synced(tmp_path / "a") as file:
        file.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_changed_or_missing_file_is_told_by_name(tmp_path):
    path = tmp_path / "vectors.npy"
    path.write_bytes(b"abc" * 1000)
    expected = file_hash(path)
    check_file(path, expected)
    path.write_bytes(b"abc" * 999 + b"abd")
    with pytest.raises(CorruptData, match=r"vectors\.npy.*checksum"):
        check_file(path, expected)
    path.unlink()
    with pytest.raises(CorruptData, match=r"vectors\.npy.*cannot be read"):
        check_file(path, expected)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(number):
    with pytest.raises(StorageFull, match="as before"), storage_errors("storing v1"):
        raise OSError(number, os.strerror(number))


def test_other_faults_of_the_system_pass_as_they_are():
    with pytest.raises(OSError, match="broken"), storage_errors("storing v1"):
        raise OSError(errno.EIO, "broken")


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (PermissionError(errno.EACCES, "no"), ReadOnly, "make it writable"),
        (OSError(errno.EMFILE, "many"), ResourceExhausted, "not enough open files"),
        (OSError(errno.ENOMEM, "none"), ResourceExhausted, "not enough memory"),
        (MemoryError(), ResourceExhausted, "not enough memory"),
        (RuntimeError("can't start new thread"), ResourceExhausted, "not enough threads"),
    ],
)
def test_a_shortage_is_told_as_a_shortage(raised, expected, words):
    with pytest.raises(expected, match=words), storage_errors("storing v1"):
        raise raised


def test_a_full_device_is_noticed_by_save_array(monkeypatch, tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    monkeypatch.setattr("engine.system.files.synced", lambda path: path.open("wb"))
    with pytest.raises(StorageFull), storage_errors("storing v1"):
        save_array(tmp_path / "full", np.zeros(100_000))


class TestFileLock:
    def test_one_excludes_another_even_in_the_same_process(self, tmp_path):
        with FileLock(tmp_path / "lock", shared=False) as one, FileLock(tmp_path / "lock", shared=False) as other:
            assert one.acquire()
            assert not other.acquire()
            one.release()
            assert other.acquire()

    def test_readers_share_and_keep_the_writer_out(self, tmp_path):
        path = tmp_path / "lock"
        with FileLock(path, shared=True) as one, FileLock(path, shared=True) as two, FileLock(path, shared=False) as w:
            assert one.acquire()
            assert two.acquire()
            one.release()
            assert not w.acquire()
            two.release()
            assert w.acquire()

    def test_waiting_ends_when_the_holder_lets_go(self, tmp_path):
        path, got = tmp_path / "lock", threading.Event()
        holder = FileLock(path, shared=False)
        assert holder.acquire()

        def wait() -> None:
            with FileLock(path, shared=True) as lock:
                assert lock.acquire(wait=True)
                got.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.1)
        holder.release()
        assert got.wait(5)
        thread.join()

    def test_a_dead_process_holds_nothing(self, tmp_path):
        code = (
            "import os, sys; from pathlib import Path; from engine.system.locks import FileLock\n"
            "lock = FileLock(Path(sys.argv[1]), shared=False); assert lock.acquire(); os._exit(9)"
        )
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], check=False).returncode == 9
        with FileLock(tmp_path / "lock", shared=False) as lock:
            assert lock.acquire()
