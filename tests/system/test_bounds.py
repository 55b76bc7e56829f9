"""Sizes are looked at before they are paid for: texts, tags, settings, counts, archives and sidecars."""

from __future__ import annotations

import itertools
import json
import time
import unicodedata

import numpy as np
import pytest

from engine.collection import Collection
from engine.datasets.synthetic import World
from engine.errors import VideoError
from engine.frames.columns import Tags, join_tags
from engine.importers.aic import import_aic
from engine.importers.videos import read_video_info
from engine.reports.capacity import plan_shards
from engine.system import bounds
from engine.types import Filter, FrameBatch, NewVideo
from testing.clips import make_clip
from testing.worlds import DIM, contents, fill, make_video, queries
from tests.importers.test_aic import DIM as FEATURES
from tests.importers.test_aic import Layout


@pytest.fixture
def empty(tmp_path):
    with Collection.create(tmp_path / "c", dim=DIM) as collection:
        yield collection


def frames(n: int = 3, **told: object) -> FrameBatch:
    return FrameBatch(queries(n), np.arange(n), np.arange(n) * 1.0, **told)


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "no id"),
            ("  ", "no id"),
            ("v\n1", r"control character \(U\+000A\)"),
            ("v\x001", r"U\+0000"),
            ("v\x1b[31m", r"U\+001B"),
            ("v\x85", r"U\+0085"),
            ("v\u2028w", r"U\+2028"),
            ("v\ud800", r"U\+D800"),
            ("v\u202egnp.exe", "turns text around"),
            ("v\u2066w", "turns text around"),
            ("v" * (bounds.MAX_ID + 1), "513 characters"),
        ],
        ids=ascii,
    )
    def test_an_id_that_cannot_be_shown_is_refused_and_nothing_is_stored(self, empty, text, why):
        before = contents(empty)
        with pytest.raises(ValueError, match=why) as caught:
            empty.add(NewVideo(text), frames())
        with pytest.raises(ValueError, match=why):
            empty.store([NewVideo("fine"), NewVideo(text)], [frames(video=np.array([0, 1, 1]))])
        assert str(caught.value).isprintable()
        assert (empty.videos(), contents(empty)) == ([], before)

    @pytest.mark.parametrize(
        "text", ["Phở bò ở Hà Nội", "👩‍👩‍👧 đi chợ", "日本\u3000東京", "מים 5", "a|b, c", "Tiê\u0301ng"]
    )
    def test_ordinary_texts_of_any_language_pass(self, empty, text):
        empty.add(NewVideo(text, title=text, about={"author": text}), frames(tags=((f"object:{text}",),) * 3))
        (info,) = empty.videos()
        name = unicodedata.normalize("NFC", text)
        assert (info.video_id, info.title, info.about) == (name, text, {"author": text})
        assert empty.tags() == {f"object:{name}": 3}

    @pytest.mark.parametrize(
        ("told", "why"),
        [
            ({"title": "x" * (bounds.MAX_TITLE + 1)}, "title of v has 1,001 characters"),
            ({"title": "a\x07b"}, "control character"),
            ({"about": {"author": "x" * 2_000}}, "fact about v has"),
            ({"about": {f"k{i}": "" for i in range(101)}}, "101 facts"),
            ({"source": "x" * 5_000}, "path of the video file of v has 5,000"),
            ({"pictures": "a\0b"}, "not valid text"),
            ({"duration": float("nan")}, "length of v is negative or not a number"),
            ({"fps": float("inf")}, "frame rate of v"),
        ],
        ids=lambda value: "",
    )
    def test_what_is_told_of_a_video_is_bounded(self, empty, told, why):
        with pytest.raises(ValueError, match=why):
            empty.add(NewVideo("v", **told), frames())
        assert empty.videos() == []


class TestTags:
    @pytest.mark.parametrize(
        ("tags", "why"),
        [
            ((("x" * (bounds.MAX_TAG + 1),), (), ()), "201 characters"),
            ((("a\nb",), (), ()), "control character"),
            ((("",), (), ()), "tag is empty"),
            ((tuple(f"t{i}" for i in range(1_001)), (), ()), "A frame has 1,001 tags"),
        ],
        ids=["long", "control", "empty", "many"],
    )
    def test_a_tag_that_cannot_be_one_is_refused(self, empty, tags, why):
        with pytest.raises(ValueError, match=why):
            empty.add(NewVideo("v"), frames(tags=tags))
        assert empty.videos() == []

    def test_different_tags_are_counted_over_all_that_is_stored(self, empty, monkeypatch):
        monkeypatch.setattr(bounds, "MAX_TAGS", 4)
        empty.add(NewVideo("a"), frames(tags=(("t1", "t2"), ("t3",), ())))
        empty.add(NewVideo("b"), frames(tags=(("t1",), ("t4",), ("t2",))))
        with pytest.raises(ValueError, match="There are 5 different tags"):
            empty.add(NewVideo("c"), frames(tags=(("t1",), ("t5",), ())))
        empty.add(NewVideo("d"), frames(tags=(("t4",), (), ())))
        assert [info.video_id for info in empty.videos()] == ["a", "b", "d"]

    def test_they_are_what_lists_of_them_are(self):
        rng = np.random.default_rng(3)
        for n, n_tags in ((1, 3), (9, 40), (70, 5)):
            listed = [
                tuple(f"t{i:02d}" for i in sorted(rng.choice(n_tags, rng.integers(0, 4), replace=False)))
                for _ in range(n)
            ]
            tags = Tags.of(listed)
            assert tags.at(np.arange(n)) == listed
            for rows in (np.arange(n)[::-1], rng.integers(0, n, 3 * n), rng.integers(0, n, 1), np.zeros(0, np.int64)):
                wanted = [listed[row] for row in rows]
                assert tags.at(rows) == tags.take(rows).at(np.arange(len(rows))) == wanted
                assert set(tags.take(rows).names) == set(itertools.chain(*wanted))
            assert tags.counts() == {name: sum(name in each for each in listed) for name in tags.names}
            assert all(tags.mask(name).tolist() == [name in each for each in listed] for name in (*tags.names, "no"))
            several = [listed[: n // 3], listed[n // 3 :], [], listed]
            joined = join_tags([Tags.of(each) for each in several])
            assert joined.at(np.arange(joined.n)) == list(itertools.chain(*several))

    def test_ten_times_the_tags_do_not_take_a_hundred_times_as_long(self):
        def seconds(n_tags: int) -> float:
            n = 8_192
            listed = [(f"t{i % n_tags:05d}", f"t{i * 7 % n_tags:05d}") for i in range(n)]
            started = time.process_time()
            tags = Tags.of(listed)
            halves = [tags.take(np.arange(start, n, 2)) for start in (0, 1)]
            assert sum(join_tags(halves).counts().values()) == sum(len(set(each)) for each in listed)
            return time.process_time() - started

        seconds(100)
        assert seconds(8_000) < 40 * seconds(800) + 0.5


class TestNumbers:
    @pytest.mark.parametrize(
        ("setting", "why"),
        [
            ({"dim": 16_385}, "dim is 16,385"),
            ({"n_shards": 10**30}, "at most 4,096"),
            ({"n_cells": 10**9}, "at most 65,536"),
            ({"encoder": "x" * 5_000}, "name of the encoder"),
            ({"placement": "timeline", "options": {"minutes": 1e-300}}, "minutes is 1e-300"),
            ({"placement": "timeline", "options": {"minutes": float("nan")}}, "above 0"),
            ({"placement": "content", "options": {"classes": {f"c{i}": ["a"] for i in range(1_001)}}}, "1,001 classes"),
            ({"placement": "hybrid", "options": {"classes": {"a": ["x"] * 1_001}}}, "1,001 tags in the class a"),
            ({"placement": "content", "options": {"classes": {"a" * 300: ["x"]}}}, "300 characters"),
            ({"placement": "content", "options": {"classes": ["x" * 10**6]}}, "must name one class"),
            ({"workers": 10**6}, "1,000,000 workers"),
        ],
        ids=lambda value: "",
    )
    def test_settings_are_bounded_before_a_folder_is_made(self, tmp_path, setting, why):
        with pytest.raises(ValueError, match=why) as caught:
            Collection.create(tmp_path / "c", **({"dim": DIM} | setting))
        assert len(str(caught.value)) < 400
        assert not (tmp_path / "c").exists()

    def test_shards_go_with_the_frames_there_are(self, tmp_path):
        with fill(tmp_path / "c", [make_video(0, 30), make_video(1, 120)]) as collection:
            generation = collection.generation
            for change in (collection.build, collection.reshard):
                with pytest.raises(ValueError, match="151 shards are too many for 150 frames; ask for at most 150"):
                    change(n_shards=151)
            assert collection.generation == generation
            collection.reshard(n_shards=150)
            assert len(collection.stats().shards) == 150

    def test_a_few_frames_may_have_the_usual_shards(self, tmp_path):
        with fill(tmp_path / "c", [make_video(0, 3)], n_shards=12) as collection:
            assert len(collection.stats().shards) == 12

    def test_any_number_of_hits_gives_what_there_is(self, tmp_path):
        with fill(tmp_path / "c", [make_video(0, 30)]) as collection:
            query = queries(1)[0]
            for how in ({}, {"exact": True}, {"n_probe": 10**30}, {"per_shot": 10**30}):
                assert len(collection.search(query, 10**30, **how).hits) == 30
            assert len(collection.neighbours(5, 10**30)) == 29
            assert collection.neighbours(5, 0) == []
            assert collection.some_frames(10**30, np.random.default_rng(0)) == list(range(30))
            with pytest.raises(ValueError, match="-1 frames"):
                collection.some_frames(-1, np.random.default_rng(0))
            with pytest.raises(ValueError, match="-1 frames"):
                collection.neighbours(5, -1)

    def test_hits_of_many_queries_together_are_bounded(self, tmp_path, monkeypatch):
        monkeypatch.setattr(bounds, "MAX_HITS", 100)
        with fill(tmp_path / "c", [make_video(0, 30)]) as collection:
            assert len(collection.search_many(queries(3), 10**9)) == 3
            with pytest.raises(ValueError, match="120 hits asked for"):
                collection.search_many(queries(4), 10**9)

    def test_a_source_of_frames_that_never_ends_is_ended(self, empty, monkeypatch):
        monkeypatch.setattr(bounds, "MAX_ROWS", 1_000)
        with pytest.raises(ValueError, match="frames to store at once"):
            empty.store([NewVideo("v")], itertools.repeat(frames(100)))
        assert empty.videos() == []

    @pytest.mark.parametrize(
        ("told", "why"),
        [
            ({"thumbnails": (b"x" * (bounds.MAX_THUMBNAIL_NBYTES + 1), b"", b"")}, "thumbnail has"),
            ({"shot": np.array([0, 1, 2**40])}, "shot does not fit 32 bits"),
            ({"shot": np.zeros((3, 10**4), np.int32)}, "several columns"),
        ],
        ids=["thumbnail", "shot", "columns"],
    )
    def test_columns_of_frames_are_looked_at(self, empty, told, why):
        with pytest.raises(ValueError, match=why):
            empty.add(NewVideo("v"), frames(**told))
        assert empty.videos() == []

    @pytest.mark.parametrize("seconds", [(0, 10**400), (float("nan"), None)])
    def test_a_filter_by_no_time_is_refused(self, seconds):
        with pytest.raises(ValueError, match="names no time"):
            Filter(seconds=seconds)

    def test_made_up_frames_and_plans_are_bounded(self):
        with pytest.raises(ValueError, match="frames to make"):
            next(World(16).batches(10**12))
        with pytest.raises(ValueError, match="queries to make"):
            World(16).text_queries(10**10)
        for changed in ({"dim": 10**9}, {"workers": 10**9}, {"n_vectors": 10**15}):
            with pytest.raises(ValueError, match="at most"):
                plan_shards(**({"ram": 1 << 50, "n_vectors": 10**6, "dim": 512} | changed))


class TestArchives:
    @pytest.fixture
    def layout(self, tmp_path):
        made = Layout(tmp_path / "archive")
        for name in ("bad", "good"):
            made.video(name)
        return made

    @pytest.mark.parametrize(
        ("name", "content", "why"),
        [
            ("media-info/bad.json", json.dumps({"title": "x" * 2_000}), "title of bad has 2,000 characters"),
            ("media-info/bad.json", '{"title": "a\\u0007"}', "control character"),
            ("media-info/bad.json", "[" * 100_000, "not valid JSON"),
            ("media-info/bad.json", '{"length": ' + "9" * 1_000_000 + "}", "not valid JSON"),
            ("objects/bad.json", json.dumps({"1": ["a"] * 10_001}), "more than 10,000 labels"),
            ("objects/bad.json", json.dumps({"1": [f"o{i}" for i in range(1_001)]}), "A frame has 1,001 tags"),
            ("objects/bad.json", json.dumps({"1": ["x" * 300]}), "characters"),
            ("objects/bad.json", json.dumps({"1": ["a\x00b"]}), "control character"),
            ("map-keyframes/bad.csv", "n,pts_time,fps,frame_idx\n1,0,25," + "9" * 200_000, "keyframe map"),
            ("map-keyframes/bad.csv", "n,pts_time,fps,frame_idx\n1,0,25,1e30\n", "keyframe map"),
            ("map-keyframes/bad.csv", "n,pts_time,fps,frame_idx\n1,nan,25,1\n", "not a number"),
            ("map-keyframes/bad.csv", "n,pts_time,fps,frame_idx\n1,1e300,25,1\n", "thirty years"),
            ("map-keyframes/bad.csv", "n,pts_time,fps,frame_idx\n1000000000,0,25,1\n", "does not count"),
            ("clip-features-32/bad.npy", b"\x93NUMPY\x01\x00\x76\x00" + b"secret" * 20, "cannot be read as features"),
        ],
        ids=lambda value: "",
    )
    def test_what_is_too_large_refuses_its_video_only(self, tmp_path, layout, name, content, why):
        layout.put(name, content)
        with Collection.create(tmp_path / "c", dim=FEATURES) as collection:
            report = import_aic(collection, layout.folder, build=False)
            assert report.added == ("good",)
            ((refused, reason),) = report.refused
        assert refused == "bad"
        assert why in reason
        assert "secret" not in reason
        assert len(reason) < 500

    def test_files_larger_than_is_read_are_not_read(self, tmp_path, layout, monkeypatch):
        monkeypatch.setattr(bounds, "MAX_TEXT_NBYTES", 1_000)
        layout.put("objects/bad.json", json.dumps({"1": ["a" * 1_000]}))
        with Collection.create(tmp_path / "c", dim=FEATURES) as collection:
            ((refused, reason),) = import_aic(collection, layout.folder, build=False).refused
        assert (refused, "at most 1,000 are read" in reason) == ("bad", True)

    def test_lines_in_titles_become_blanks(self, tmp_path, layout):
        layout.info("good", title="Tin tức\n\t60 giây ", author="a\r\nb")
        with Collection.create(tmp_path / "c", dim=FEATURES) as collection:
            import_aic(collection, layout.folder, build=False)
            info = next(info for info in collection.videos() if info.video_id == "good")
        assert (info.title, info.about) == ("Tin tức 60 giây", {"author": "a b"})


class TestSidecars:
    @pytest.mark.parametrize(
        ("told", "why"),
        [
            ({"video_id": "x" * 600}, "600 characters"),
            ({"video_id": "a\x00b"}, "control character"),
            ({"video_id": " "}, "no id"),
            ({"title": "x" * 2_000}, "2,000 characters"),
            ({"captured_at": "secret"}, "a time in it is none"),
        ],
        ids=lambda value: "",
    )
    def test_what_cannot_be_kept_refuses_the_video(self, tmp_path, told, why):
        path = tmp_path / "a.mp4"
        make_clip(path, seconds=0.3, size=(64, 36), shots=("red",))
        (tmp_path / "videos.json").write_text(json.dumps([{"file": "a.mp4"} | told]))
        with pytest.raises(VideoError, match=why) as caught:
            read_video_info(path, 1.0, False)
        assert "secret" not in str(caught.value)

    def test_it_is_read_bounded_and_follows_its_changes(self, tmp_path, monkeypatch):
        path, sidecar = tmp_path / "a.mp4", tmp_path / "videos.json"
        make_clip(path, seconds=0.3, size=(64, 36), shots=("red",))
        for title, kept in (("One\ntwo", "One two"), ("Three", "Three")):
            sidecar.write_text(json.dumps([{"file": "a.mp4", "title": title}, {"file": "a.mp4", "title": "later"}]))
            assert read_video_info(path, 1.0, False).title == kept
        for content in ("[" * 100_000, '[{"file": {}}]', "[1]", "{}x"):
            sidecar.write_text(content)
            with pytest.raises(VideoError, match="is not a list of entries"):
                read_video_info(path, 1.0, False)
        monkeypatch.setattr(bounds, "MAX_TEXT_NBYTES", 10)
        sidecar.write_text(json.dumps([{"file": "a.mp4"}]))
        with pytest.raises(VideoError, match="at most 10 are read"):
            read_video_info(path, 1.0, False)
