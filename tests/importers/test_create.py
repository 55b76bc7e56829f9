"""Collections that an import makes: gone again where nothing went in, kept where something did."""

from __future__ import annotations

import pytest

from engine.collection import Collection
from engine.importers import from_videos, open_or_create
from testing.clips import make_clip
from testing.worlds import DIM, make_video


def test_videos_that_are_all_refused_leave_nothing_and_the_next_try_may_ask_for_other_settings(tmp_path):
    into = tmp_path / "new" / "deeper" / "c"
    (tmp_path / "notes.mp4").write_text("no film")
    report = from_videos(into, [tmp_path / "mistyped.mp4", tmp_path / "notes.mp4"], {"n_shards": 3})
    assert (report.added, len(report.refused)) == ((), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.mp4"]
    make_clip(tmp_path / "film.mp4", 1.0)
    assert from_videos(into, [tmp_path / "film.mp4"], {"n_shards": 2}, build=False).added == ("film",)
    with Collection.open(into) as collection:
        assert (collection.settings.n_shards, collection.settings.encoder) == (2, "town")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("was_there", [False, True])
def test_an_empty_collection_is_taken_away_and_nothing_else(tmp_path, fails, was_there):
    into = tmp_path / "c"
    if was_there:
        into.mkdir()
    try:
        with open_or_create(into, {}, lambda: DIM) as collection:
            assert (collection.path / "catalog.sqlite").is_file()
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert into.exists() == was_there
    assert list(tmp_path.rglob("*")) == [into] * was_there


def test_a_collection_with_frames_or_of_before_stays(tmp_path):
    into = tmp_path / "c"
    with open_or_create(into, {}, lambda: DIM) as collection:
        collection.add(*make_video(1))
    with open_or_create(into, {}, lambda: DIM) as collection:
        collection.delete(collection.videos()[0].video_id)
    with Collection.open(into) as collection:
        assert collection.n_frames == 0
        assert collection.settings.dim == DIM
