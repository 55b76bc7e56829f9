"""Frame columns on disk and in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CorruptData
from engine.frames import NO_TIME
from engine.frames.columns import FrameColumns, Tags, concat_columns, read_columns, write_columns
from engine.system.files import synced


def columns(n: int, tags: tuple[tuple[str, ...], ...] = ()) -> FrameColumns:
    rng = np.random.default_rng(n)
    return FrameColumns(
        frame_id=np.arange(n, dtype=np.int64) + 2**40,
        video=rng.integers(0, 3, n).astype(np.int32),
        frame_index=np.arange(n, dtype=np.int64) * 24,
        seconds=np.arange(n) * 0.96,
        captured_at=np.where(np.arange(n) % 2, NO_TIME, 1_700_000_000_000_000 + np.arange(n)),
        shot=np.full(n, -1, np.int32),
        cell=rng.integers(0, 9, n).astype(np.int32),
        row_crc=rng.integers(0, 2**32, n, dtype=np.uint32),
        tags=Tags.of(tags) if tags else Tags.none(n),
    )


def assert_same(one: FrameColumns, other: FrameColumns) -> None:
    for name in FrameColumns.__slots__:
        if name != "tags":
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype
    assert carried(one) == carried(other)


def carried(values: FrameColumns) -> list[tuple[str, ...]]:
    return values.tags.at(np.arange(len(values)))


def store(path, values: FrameColumns):
    with synced(path) as file:
        write_columns(file, values)
    return path


names = st.text("ab: _é✓車'", max_size=8)


@settings(max_examples=25, deadline=None)
@given(tags=st.lists(st.lists(names, max_size=3).map(tuple), min_size=1, max_size=20).map(tuple))
def test_columns_come_back_as_they_were_written(tmp_path_factory, tags):
    values = columns(len(tags), tags)
    back = read_columns(store(tmp_path_factory.mktemp("segment") / "frames.arrow", values), len(values))
    assert_same(back, values)
    assert carried(back) == [tuple(sorted(set(each))) for each in tags]
    for tag in {tag for each in tags for tag in each}:
        assert back.tags.mask(tag).tolist() == [tag in each for each in tags]
        assert back.tags.counts()[tag] == sum(tag in each for each in tags)


def test_any_arrow_reader_understands_the_file(tmp_path):
    path = store(tmp_path / "frames.arrow", columns(4, (("scene:beach",), (), (), ("scene:beach",))))
    table = pa.ipc.open_file(path).read_all()
    assert table.column("tag:scene:beach").to_pylist() == [True, False, False, True]
    assert table.column("frame_id").to_pylist() == [2**40 + i for i in range(4)]


def test_taking_rows_drops_tags_that_no_longer_occur():
    taken = columns(3, (("a",), ("b",), ("a", "b"))).take(np.array([0]))
    assert carried(taken) == [("a",)]
    assert taken.tags.names == ("a",)


def test_joining_parts_with_other_tags_gives_every_row_its_own():
    both = concat_columns([columns(2, (("a",), ())), columns(2, (("b",), ("a",)))])
    assert carried(both) == [("a",), (), ("b",), ("a",)]
    assert len(both) == 4


@pytest.mark.parametrize("content", [b"", b"not an Arrow file at all", b"ARROW1\0\0" + b"\0" * 200])
def test_a_file_that_is_none_of_ours_is_corrupt(tmp_path, content):
    (tmp_path / "frames.arrow").write_bytes(content)
    with pytest.raises(CorruptData, match="cannot be read"):
        read_columns(tmp_path / "frames.arrow", 1)


def test_a_file_without_our_columns_is_corrupt(tmp_path):
    with (tmp_path / "frames.arrow").open("wb") as file:
        batch = pa.record_batch({"other": pa.array([1])})
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
    with pytest.raises(CorruptData, match="cannot be read"):
        read_columns(tmp_path / "frames.arrow", 1)
