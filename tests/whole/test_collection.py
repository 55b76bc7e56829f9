"""The public face: making, opening, looking things up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import numpy as np
import pytest

import engine
from engine.collection import Collection
from engine.errors import CollectionError, CorruptData, EncoderError, NotACollection, NotFound
from engine.storage.catalog import Catalog
from engine.types import FrameBatch, NewVideo
from testing.worlds import DIM, fill, flip, make_video, queries

VIDEOS = [make_video(i, 10) for i in range(3)]


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with fill(tmp_path_factory.mktemp("town") / "c", VIDEOS) as collection:
        yield collection


class Axes:
    """An encoder of four words."""

    name, dim = "axes", DIM
    words = ("north", "south", "east", "west")

    def encode_text(self, texts):
        return np.stack([np.eye(DIM, dtype=np.float32)[self.words.index(text)] for text in texts])

    def encode_images(self, images):
        return np.zeros((len(images), DIM), np.float32)

    def unknown_words(self, text):
        return tuple(word for word in text.split() if word not in self.words)


class TestMaking:
    def test_the_package_offers_what_it_lists(self):
        assert engine.Collection is Collection
        values = {"SearchRequest", "Filter", "Hit", "SearchResult", "Trace", "NewVideo", "FrameBatch", "Settings"}
        errors = {name for name, value in vars(engine.errors).items() if isinstance(value, type)}
        assert set(engine.__all__) == {"Collection", "Encoder", "load_encoder"} | values | errors
        assert all(getattr(engine, name).__name__ == name for name in engine.__all__)
        with pytest.raises(AttributeError, match="nothing_else"):
            _ = engine.nothing_else

    def test_a_new_collection_is_empty_and_answers_with_nothing(self, tmp_path):
        with Collection.create(tmp_path / "c", dim=DIM) as collection:
            assert collection.search(queries(1)[0]).hits == ()
            assert not collection.built
            assert collection.n_frames == 0
            assert collection.videos() == []
            assert collection.check() == []
            assert collection.stats().n_cells == 0

    @pytest.mark.parametrize(
        "wrong",
        [
            {"dim": 0},
            {"metric": "cosine"},
            {"store": "int8"},
            {"codec": "pq8"},
            {"placement": "best"},
            {"codec": "fp32"},
            {"options": {"minutes": 3}},
            {"placement": "timeline", "options": {"minutes": 0}},
            {"route": "fast"},
            {"n_shards": 0},
            {"n_cells": -1},
            {"cache_bytes": -1},
        ],
    )
    def test_a_wrong_setting_is_refused(self, tmp_path, wrong):
        with pytest.raises(ValueError, match=r"\.$"):
            Collection.create(tmp_path / "c", **{"dim": DIM, **wrong})

    def test_a_folder_that_holds_something_is_not_used(self, tmp_path):
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "thesis.txt").write_text("years of work")
        with pytest.raises(NotACollection, match="not empty"):
            Collection.create(tmp_path / "c", dim=DIM)
        with pytest.raises(NotACollection, match="not empty"):
            Collection.create(tmp_path / "c" / "thesis.txt", dim=DIM)
        assert (tmp_path / "c" / "thesis.txt").read_text() == "years of work"

    def test_settings_last(self, tmp_path):
        told = {"metric": "l2", "store": "fp32", "codec": "sq4", "placement": "timeline", "n_shards": 5}
        told["options"] = {"minutes": 2.5}
        Collection.create(tmp_path / "c", dim=3, encoder="e", route="exact", n_cells=9, **told).close()
        with Collection.open(tmp_path / "c") as again:
            settings = again.settings
        assert {name: getattr(settings, name) for name in told} == told
        assert (settings.dim, settings.encoder, settings.route, settings.n_cells) == (3, "e", "exact", 9)


class TestOpening:
    def test_nothing_there_is_said_so_and_nothing_is_made(self, tmp_path):
        with pytest.raises(NotACollection, match="There is no collection"):
            Collection.open(tmp_path / "c")
        assert not (tmp_path / "c").exists()

    def test_a_catalog_that_was_changed_is_corrupt_and_holds_no_lock_afterwards(self, tmp_path):
        fill(tmp_path / "c", VIDEOS, built=False).close()
        catalog = tmp_path / "c" / "catalog.sqlite"
        sound = catalog.read_bytes()
        catalog.write_bytes(sound.replace(b"Video 1", b"Video 7"))
        with pytest.raises(CorruptData, match="checksum"):
            Collection.open(tmp_path / "c")
        catalog.write_bytes(sound)
        with Collection.open(tmp_path / "c") as collection:
            collection.build()
            assert len(list((tmp_path / "c" / "leases").iterdir())) == 1

    def test_check_finds_a_catalog_that_changes_while_it_is_open(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS[:1]) as collection:
            path = tmp_path / "c" / "catalog.sqlite"
            path.write_bytes(path.read_bytes().replace(b"Video 0", b"Video 7"))
            (problem,) = collection.check()
            assert "catalog" in problem

    def test_a_catalog_cut_short_is_an_error_of_the_collection(self, tmp_path):
        fill(tmp_path / "c", VIDEOS[:1]).close()
        path = tmp_path / "c" / "catalog.sqlite"
        content = path.read_bytes()
        for length in range(0, len(content), 1500):
            path.write_bytes(content[:length])
            with pytest.raises(CollectionError):
                Collection.open(tmp_path / "c")

    def test_two_open_the_same_folder_and_see_each_others_changes(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS) as one, Collection.open(tmp_path / "c") as two:
            one.delete("v0")
            assert two.n_frames == 20
            two.build(n_shards=2)
            assert len(one.stats().shards) == 2

    def test_a_closed_collection_may_be_closed_again(self, tmp_path):
        collection = fill(tmp_path / "c", VIDEOS[:1], workers=2)
        collection.search(queries(1)[0])
        collection.close()
        collection.close()


class TestLookingUp:
    def test_a_frame_is_what_its_hit_said(self, town):
        for hit in town.search(queries(1)[0], 30, exact=True).hits:
            frame = town.frame(hit.frame_id)
            assert {name: getattr(hit, name) for name in frame.__dataclass_fields__} == {
                name: getattr(frame, name) for name in frame.__dataclass_fields__
            }

    @pytest.mark.parametrize("frame_id", [-1, 30, 10**12])
    def test_a_frame_that_is_not_there_is_not_found(self, town, frame_id):
        with pytest.raises(NotFound, match=str(frame_id)):
            town.frame(frame_id)

    def test_neighbours_are_of_the_same_video_by_time_across_shards(self, town):
        found = town.neighbours(14, 3)
        assert [frame.frame_id for frame in found] == [11, 12, 13, 15, 16, 17]
        assert [frame.seconds for frame in found] == sorted(frame.seconds for frame in found)
        assert [frame.frame_id for frame in town.neighbours(10, 2)] == [11, 12]
        assert [frame.frame_id for frame in town.neighbours(19, 2)] == [17, 18]

    def test_videos_are_listed_as_they_were_added(self, town):
        assert [info.video_id for info in town.videos()] == ["v0", "v1", "v2"]
        info = town.video("v1")
        assert (info.title, info.n_frames, info.captured_at) == ("Video 1", 10, VIDEOS[1][0].captured_at)
        shards = {hit.shard for hit in town.search(queries(1)[0], 30, exact=True).hits if hit.video_id == "v1"}
        assert set(info.shards) == shards
        assert town.fingerprint("v1") == "f1"
        with pytest.raises(NotFound, match="'v9'"):
            town.video("v9")

    def test_tags_are_counted(self, town):
        everything = [tag for _, frames in VIDEOS for tags in frames.tags for tag in tags]
        assert town.tags() == {tag: everything.count(tag) for tag in set(everything)}
        assert list(town.tags().values()) == sorted(town.tags().values(), reverse=True)

    def test_statistics_add_up(self, town):
        stats = town.stats()
        assert stats.cache == town.cache.stats()
        assert stats.n_frames == sum(shard.n_frames for shard in stats.shards) == 30
        assert stats.n_videos == 3
        assert stats.nbytes == sum(shard.nbytes for shard in stats.shards)
        assert stats.nbytes == sum(path.stat().st_size for path in town.path.glob("segments/*/*"))
        for shard in stats.shards:
            hits = [h for h in town.search(queries(1)[0], 30, exact=True).hits if h.shard == shard.shard]
            assert set(shard.videos) == {hit.video_id for hit in hits}
            times = [hit.captured_at for hit in hits if hit.captured_at]
            assert shard.captured == ((min(times), max(times)) if times else None)
            seconds = [hit.seconds for hit in hits]
            assert shard.seconds == ((min(seconds), max(seconds)) if seconds else None)
            assert shard.tags == {tag: n for tag in town.tags() if (n := sum(tag in hit.tags for hit in hits))}
        town.search(queries(1)[0], n_probe=10**6)  # An exact search leaves nothing in the cache.
        after = town.stats()
        assert sum(shard.cached_nbytes for shard in after.shards) == after.cache.nbytes > 0

    def test_wall_clock_times_run_with_the_video(self, town):
        start = VIDEOS[1][0].captured_at
        assert town.frame(13).captured_at == start + timedelta(seconds=6)
        assert town.frame(23).captured_at is None
        assert isinstance(start, datetime)

    def test_pictures_are_kept_by_video_and_frame(self, tmp_path):
        frames = FrameBatch(
            VIDEOS[0][1].vectors[:3], np.array([0, 24, 48]), np.arange(3.0), thumbnails=(b"a", b"b", b"c")
        )
        with fill(tmp_path / "c", [(NewVideo("film"), frames), VIDEOS[1]]) as collection:
            hits = {hit.frame_id: hit for hit in collection.search(queries(1)[0], 99, exact=True).hits}
            assert collection.thumbnail(hits[1]).read_bytes() == b"b"
            assert collection.poster("film").read_bytes() == b"b"
            assert collection.thumbnail(hits[5]) is None
            assert collection.poster("v1") is None
            with pytest.raises(NotFound, match="only its frames were stored"):
                collection.clip(hits[1])
            collection.delete("film")
            with collection.writing():
                pass
            assert not (tmp_path / "c" / "media" / "1").exists()


class TestEncoders:
    def test_text_is_searched_in_the_space_of_the_encoder(self, tmp_path):
        frames = FrameBatch(np.eye(DIM)[:4], np.arange(4), np.arange(4.0))
        with fill(tmp_path / "c", [(NewVideo("compass"), frames)]) as collection:
            with pytest.raises(EncoderError, match="names no encoder"):
                collection.search("north")
            collection.use_encoder(Axes())
            result = collection.search("east", 1, exact=True)
            assert result.hits[0].frame_index == 2
            assert result.trace.ms["encode"] >= 0

    def test_a_batch_may_mix_texts_vectors_and_frames(self, tmp_path):
        frames = FrameBatch(np.eye(DIM)[:4], np.arange(4), np.arange(4.0))
        with fill(tmp_path / "c", [(NewVideo("compass"), frames)]) as collection:
            collection.use_encoder(Axes())
            found = collection.search_many(["west", np.eye(DIM)[1], 2, "north"], 1, exact=True)
            assert [result.hits[0].frame_index for result in found] == [3, 1, 2, 0]
            for wrong in (["north", " "], ["", 2]):
                with pytest.raises(ValueError, match="empty"):
                    collection.search_many(wrong)

    def test_an_encoder_of_another_size_is_refused(self, tmp_path):
        with Collection.create(tmp_path / "c", dim=DIM + 1) as collection, pytest.raises(EncoderError, match="8"):
            collection.use_encoder(Axes())

    def test_threads_that_search_first_at_once_load_the_encoder_once(self, tmp_path, monkeypatch):
        loads = []
        monkeypatch.setattr("engine.search.query_vectors.load_encoder", lambda name: loads.append(name) or Axes())
        with fill(tmp_path / "c", VIDEOS[:1], encoder="axes") as collection, ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(collection.search, ["north"] * 8))) == 8
        assert loads == ["axes"]


def test_a_damaged_file_leaves_the_catalog_free(tmp_path):
    fill(tmp_path / "c", VIDEOS[:1]).close()
    (path,) = (tmp_path / "c" / "segments").glob("*/frames.arrow")
    flip(path)
    with Collection.open(tmp_path / "c") as collection:
        assert len(collection.check()) == 1
        other = Catalog.open(tmp_path / "c" / "catalog.sqlite")
        assert other.current_generation() == collection.generation
        other.close()
