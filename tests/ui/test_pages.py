"""The pages as a visitor's session runs them, on the real sample town. What only a browser shows is in test_browser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection
from engine.types import Filter, ShardState
from ui.library.videos import adding
from ui.shared import resources, words
from ui.shared.looks import LOOKS
from ui.shared.places import example_queries


def checked(app: AppTest) -> AppTest:
    """The same session, without a bug on its page."""
    assert not app.exception
    return app


def ask(app: AppTest, text: str) -> AppTest:
    return checked(app.text_input(key="q").set_value(text).run())


def drawn(app: AppTest, name: str) -> Any:
    """The data that one of our browser components was given."""
    found = [part.proto for part in app.get("bidi_component") if part.proto.component_name == name]
    assert found, f"{name} is not on the page"
    return json.loads(found[0].json)


def said(app: AppTest) -> str:
    return " ".join(box.value for box in [*app.error, *app.warning, *app.info, *app.success])


class TestSearch:
    def test_an_empty_query_welcomes_with_examples_as_pictures(self, visit: Any) -> None:
        app = visit()
        assert app.title[0].value == "What do you want to see?"
        cards = drawn(app, "frames")["items"]
        assert [card["title"] for card in cards] == example_queries()
        assert all(card["src"].startswith("data:image/jpeg;base64,") for card in cards)

    def test_a_query_shows_24_frames_best_first_at_most_two_per_shot(self, visit: Any, town: Collection) -> None:
        app = ask(visit(), "a snowy street at night")
        frames = [town.frame(int(item["id"])) for item in drawn(app, "frames")["items"]]
        assert len(frames) == 24
        shots = [(frame.video_id, frame.shot) for frame in frames]
        assert max(shots.count(shot) for shot in shots) <= 2
        scores = [float(item["mark"]) for item in drawn(app, "frames")["items"]]
        assert scores == sorted(scores, reverse=True)

    def test_the_bar_draws_every_shard_and_says_what_was_scanned(self, visit: Any, town: Collection) -> None:
        bar = drawn(ask(visit(), "a dog in the park"), "route")
        assert len(bar["shards"]) == len(town.stats().shards)
        assert sum(shard["width"] for shard in bar["shards"]) == town.n_frames
        probed = sum(shard["state"] in ("opened", "cached") for shard in bar["shards"])
        assert bar["sentence"].startswith(f"Opened {probed} of 12 shards")
        assert f"of {town.n_frames:,} frames" in bar["sentence"]
        assert all(len(shard["lines"]) == 3 for shard in bar["shards"])

    def test_opening_a_hit_does_not_search_again(self, visit: Any) -> None:
        app = ask(visit(), "boats in the harbour")
        before = drawn(app, "route")
        app.query_params["hit"] = drawn(app, "frames")["items"][0]["id"]
        checked(app.run())
        assert drawn(app, "route") == before

    def test_a_hit_shows_its_clip_its_tags_and_what_to_copy(self, visit: Any, town: Collection) -> None:
        hit = town.search("a train at the station", 1).hits[0]
        app = visit(q="a train at the station", hit=str(hit.frame_id))
        assert app.subheader[0].value == words.plain(hit.title)
        assert app.code[0].value == f"{hit.video_id},{hit.frame_index}"
        assert drawn(app, "player")["offset"] == pytest.approx(min(hit.seconds, 3.0))
        assert drawn(app, "frames")["picked"] == str(hit.frame_id)
        assert any(words.label(tag) in str(badge.value) for tag in hit.tags for badge in app.markdown)

    def test_a_link_repeats_query_filters_and_settings(self, visit: Any, town: Collection) -> None:
        app = visit(q="a person", scene=["park", "street"], day="morning", k="12", per_shot="1", method="exact")
        assert app.text_input(key="q").value == "a person"
        frames = [town.frame(int(item["id"])) for item in drawn(app, "frames")["items"]]
        assert 0 < len(frames) <= 12
        for frame in frames:
            assert {"scene:park", "scene:street"} & set(frame.tags)
            assert frame.captured_at is not None
            assert 5 <= frame.captured_at.hour < 12

    def test_filters_narrow_the_answer_and_prune_shards(self, visit: Any, town: Collection) -> None:
        name = town.videos()[0].title
        app = visit(q="a person", video=name, t=["5", "20"], method="exact")
        frames = [town.frame(int(item["id"])) for item in drawn(app, "frames")["items"]]
        assert frames
        assert {frame.title for frame in frames} == {name}
        assert all(5 <= frame.seconds < 20 for frame in frames)
        assert "pruned" in {shard["state"] for shard in drawn(app, "route")["shards"]}
        checked(app.button(key=f"remove_video_{town.videos()[0].video_id}").click().run())
        assert len({item["title"] for item in drawn(app, "frames")["items"]}) > 1

    def test_no_result_says_that_the_filters_leave_nothing(self, visit: Any, town: Collection) -> None:
        at_night = next(video for video in town.videos() if video.captured_at and video.captured_at.hour >= 22)
        app = visit(q="a street", video=at_night.title, day="morning")
        assert drawn(app, "frames")["items"] == []
        assert "Remove one" in said(app)
        assert {shard["state"] for shard in drawn(app, "route")["shards"]} <= {"pruned", "skipped"}

    def test_unknown_words_are_named(self, visit: Any) -> None:
        app = ask(visit(), "a quixotic street")
        assert "“quixotic”" in said(app)
        assert "went by the other words" in said(app)

    def test_a_query_of_unknown_words_only_says_that_the_order_is_chance(self, visit: Any) -> None:
        assert "by chance" in said(ask(visit(), "quixotic zeitgeist"))

    def test_an_over_long_query_says_that_only_its_beginning_counted(self, visit: Any) -> None:
        assert "only its beginning counted" in said(ask(visit(), "a dog and a cat and a cow in the park " * 10))

    def test_bad_values_in_a_link_are_named_and_the_rest_applies(self, visit: Any) -> None:
        bad = {"video": "no such video", "day": "teatime", "k": "99", "t": "9", "hit": "99999999", "method": "magic"}
        app = visit(q="a dog", scene=["moon", "<script>alert(1)</script>", "street"], **bad)
        for words_of_it in (
            "scene “moon”",
            r"scene “\<script\>",
            "video “no such video”",
            "time of day “teatime”",
            "number of frames “99”",
            "time “9”",
            "frame “99999999”",
            "search method “magic”",
        ):
            assert words_of_it in app.warning[0].value
        frames = drawn(app, "frames")["items"]
        assert len(frames) == 24
        assert app.session_state.answer[0][0].request.where == Filter(tags_any=("scene:street",))

    @pytest.mark.parametrize("text", ["🐶", "?", "the of"])
    def test_a_question_without_a_word_for_a_picture_is_said_and_not_answered(self, visit: Any, text: str) -> None:
        app = ask(visit(), text)
        assert f"nothing to search for in “{words.plain(text)}”" in said(app)
        assert not [part for part in app.get("bidi_component") if part.proto.component_name in ("frames", "route")]

    def test_a_filter_alone_shows_the_frames_that_pass_in_the_order_of_time(self, visit: Any, town: Collection) -> None:
        app = visit(scene="beach", t=["0", "10"], k="12")
        where = Filter(tags_any=("scene:beach",), seconds=(None, 10.0))
        assert [int(item["id"]) for item in drawn(app, "frames")["items"]] == [
            frame.frame_id for frame in town.browse(where, 0, 12).frames
        ]
        assert any(f"{town.browse(where).n_passing} frames of" in part.value for part in app.markdown)
        app.query_params["page"] = "2"
        assert (
            int(drawn(checked(app.run()), "frames")["items"][0]["id"]) == town.browse(where, 12, 1).frames[0].frame_id
        )

    def test_a_video_is_chosen_by_its_title_or_its_id_and_tags_by_kind_with_their_counts(
        self, visit: Any, town: Collection
    ) -> None:
        app, video, tags = visit(), town.videos()[2], town.tags()
        assert f"{video.title} · {video.video_id} ({video.n_frames:,})" in app.multiselect(key="video").options
        assert f"beach ({tags['scene:beach']:,})" in app.multiselect(key="scene").options
        assert "time: night" in " ".join(app.multiselect(key="tag").options)
        checked(app.multiselect(key="video").set_value([video.video_id]).run())
        assert app.query_params["video"] == video.video_id
        assert {item["title"] for item in drawn(app, "frames")["items"]} == {video.title}

    def test_a_new_query_closes_the_open_frame_in_the_same_step(self, visit: Any) -> None:
        app = visit(q="a dog", hit="5", scene="park")
        ask(app, "a red car")
        assert app.query_params["q"] == "a red car"
        assert "hit" not in app.query_params
        assert app.query_params["scene"] == "park"

    def test_the_page_shows_what_the_address_says_whatever_was_typed_before(self, visit: Any) -> None:
        app = ask(visit(), "a red car")
        app.query_params["q"] = "a dog"
        checked(app.run())
        assert app.text_input(key="q").value == "a dog"
        assert app.session_state.answer[0][0].question.text == "a dog"

    def test_every_page_of_an_answer_names_its_collection(self, visit: Any) -> None:
        for link in ({"q": "a dog"}, {"scene": "park"}, {}):
            assert any("Sample town · " in part.value.replace("\\", "") for part in visit(**link).markdown)

    def test_markup_in_a_query_stays_text(self, visit: Any) -> None:
        app = ask(visit(), "<b>zyx</b> **zyx** :red[zyx]")
        assert "<b>" not in said(app).replace("\\<", "")


class TestLibrary:
    @pytest.fixture
    def library(self, visit: Any) -> AppTest:
        return visit("library")

    def add(self, library: AppTest, path: str) -> AppTest:
        library.text_input(key="path").set_value(path)
        checked(next(button for button in library.button if button.label == "Add").click().run())
        job = resources.board().get(adding(resources.shelf().places()["town"]))
        assert job is not None
        assert job.wait(60)
        return checked(library.run())

    def test_it_shows_a_poster_for_every_video(self, library: AppTest, town: Collection) -> None:
        posters = drawn(library, "frames")["items"]
        assert [poster["id"] for poster in posters] == [video.video_id for video in town.videos()]
        assert all(poster["src"] for poster in posters)
        assert any("12 shards" in part.value for part in library.markdown)

    def test_videos_are_found_by_title_and_id_whatever_the_accents(self, visit: Any, town: Collection) -> None:
        video = town.videos()[4]
        for find in (video.video_id.upper(), video.title.replace("a", "á").lower()):
            assert video.video_id in [item["id"] for item in drawn(visit("library", find=find), "frames")["items"]]
        app = visit("library", find="no such video")
        assert drawn(app, "frames")["items"] == []
        assert any("No title or id has" in part.value for part in app.caption)

    def test_a_broken_video_is_refused_in_one_sentence_and_changes_nothing(
        self, library: AppTest, town: Collection, tmp_path: Path
    ) -> None:
        before = (town.generation, town.n_frames)
        broken = tmp_path / "so <b>called<b> video.mp4"
        broken.write_text("I am a text.")
        assert "The collection was not changed." in self.add(library, str(broken)).error[0].value
        assert "<b>" not in library.error[0].value.replace("\\<", "")
        assert (town.generation, town.n_frames) == before

    def test_a_missing_path_is_asked_for(self, library: AppTest) -> None:
        checked(next(button for button in library.button if button.label == "Add").click().run())
        assert "Type the path" in library.error[0].value

    def test_a_video_is_added_by_path_and_then_skipped(
        self, library: AppTest, town: Collection, tmp_path: Path
    ) -> None:
        frames = town.n_frames
        clip = town.clip(town.search("a beach", 1).hits[0])
        fresh = shutil.copy(clip.path, tmp_path / "added-by-a-test.mp4")
        assert "Added added" in self.add(library, f'"{fresh}"').success[0].value
        assert town.n_frames > frames
        assert "already" in self.add(library, str(fresh)).info[0].value


def test_every_state_has_a_look_of_its_own() -> None:
    assert set(LOOKS) == set(ShardState)
    for theme in ("light", "dark"):
        assert len({getattr(look, theme) for look in LOOKS.values()}) == len(LOOKS)


@pytest.mark.parametrize(
    ("seconds", "read"), [(0, "0:00"), (7.99, "0:07"), (65, "1:05"), (3723.4, "1:02:03"), (119.9999999, "2:00")]
)
def test_times_in_a_video_read_like_a_clock(seconds: float, read: str) -> None:
    assert words.clock(seconds) == read
