"""Memory is told as the system counts it, and dropped files are only dropped, not changed."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from engine.system import memory

pytestmark = pytest.mark.skipif(
    memory.resident_memory() is None or not memory.can_drop_page_cache(), reason="the system neither tells nor drops"
)
SIZE = 16 << 20


@pytest.fixture
def file(tmp_path):
    (tmp_path / "inside").mkdir()
    path = tmp_path / "inside" / "rows"
    path.write_bytes(np.arange(SIZE // 4, dtype=np.int32).tobytes())
    return path


def test_arrays_count_as_anonymous_memory():
    before = memory.resident_memory().anonymous
    # Pages of its own: an array may be given memory that the process held already.
    array = np.frombuffer(mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    array[:] = 1
    assert 0.9 * SIZE < memory.resident_memory().anonymous - before < 2 * SIZE
    assert array[-1] == 1


def test_mapped_pages_count_as_files_until_they_are_let_go_and_read_the_same_again(file):
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        values = np.frombuffer(mapped, np.int32)
        before = memory.resident_memory().file
        total = int(values.sum(dtype=np.int64))
        touched = memory.resident_memory().file
        assert touched - before > 0.9 * SIZE
        memory.drop_page_cache(file.parent)
        assert touched - memory.resident_memory().file > 0.9 * SIZE
        assert int(values.sum(dtype=np.int64)) == total
        del values


def test_files_elsewhere_and_maps_that_are_written_keep_their_pages(file, tmp_path):
    (tmp_path / "other").mkdir()
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as mine:
        mine[:4] = b"mine"
        memory.release_mapped_pages(tmp_path / "other")
        memory.release_mapped_pages(tmp_path)
        assert mine[:4] == b"mine"


def test_free_memory_is_some_and_not_more_than_there_is():
    total = memory._fields(memory._MEMINFO)["MemTotal"]
    assert 0 < memory.free_memory() < total
