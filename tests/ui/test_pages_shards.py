"""Hints, the Shards page and missed frames, as a visitor's session runs them on the real sample town."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection, SearchRequest
from engine.types import Filter, ShardState
from testing.app import FRONT_DOOR
from testing.worlds import fill, make_video
from tests.ui.test_pages import ask, checked, drawn, said
from ui.search import hints
from ui.search import query as asking
from ui.search.missed import SHOWN
from ui.shards.preview import preview_sentence
from ui.shared import resources, words

DOG = "a dog in the park on a snowy morning, no people"
NARROW = {"method": "routed", "probes": "1"}


@pytest.fixture
def open_page(town: Collection) -> Any:
    """Open the Shards page with a link."""

    def opened(**link: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(FRONT_DOOR), default_timeout=60)
        app.switch_page("pages/shards.py")
        app.query_params.update(link)
        return checked(app.run())

    return opened


@pytest.fixture
def shared(town: Collection) -> Collection:
    """The collection as the pages hold it, with its cache."""
    job = resources.shelf().job(resources.shelf().places()["town"])
    assert job is not None
    return job.value().collection


def plainly(text: str) -> str:
    return text.replace("\\", "")


def head(app: AppTest) -> str:
    return plainly(app.subheader[0].value)


def pressed(app: AppTest, key: str) -> AppTest:
    return checked(app.button(key=key).click().run())


class TestHints:
    def test_the_words_are_marked_and_each_hint_is_preferred_at_first(self, visit: Any) -> None:
        app = ask(visit(), DOG)
        parts = drawn(app, "hints")["parts"]
        assert "".join(part["text"] for part in parts) == DOG
        assert [part["text"] for part in parts if part["mode"]] == ["dog", "park", "snowy", "morning", "people"]
        assert {part["mode"] for part in parts if part["mode"]} == {"prefer"}
        for tag in ("object:dog", "scene:park", "weather:snow", "time:morning", "no object:person"):
            assert app.segmented_control(key=f"hint_{tag}").value == "prefer"

    def test_preferring_changes_no_frame_of_the_answer(self, visit: Any, town: Collection) -> None:
        shown = {int(card["id"]) for card in drawn(ask(visit(), DOG), "frames")["items"]}
        assert shown == {hit.frame_id for hit in town.search(DOG, 24, per_shot=2).hits}

    def test_only_leaves_out_all_other_frames(self, visit: Any, town: Collection) -> None:
        app = ask(visit(), DOG)
        checked(app.segmented_control(key="hint_weather:snow").set_value("only").run())
        checked(app.segmented_control(key="hint_no object:person").set_value("only").run())
        frames = [town.frame(int(card["id"])) for card in drawn(app, "frames")["items"]]
        assert frames
        assert all("weather:snow" in frame.tags and "object:person" not in frame.tags for frame in frames)
        assert [p["text"] for p in drawn(app, "hints")["parts"] if p["mode"] == "only"] == ["snowy", "people"]

    def test_an_ignored_hint_is_not_preferred(self, visit: Any) -> None:
        app = ask(visit(), "a dog")
        assert app.session_state.answer[0][0].request.boost == Filter(tags_all=("object:dog",))
        checked(app.segmented_control(key="hint_object:dog").set_value("ignore").run())
        assert app.session_state.answer[0][0].request.boost is None

    def test_a_link_repeats_what_is_made_of_the_hints(self, visit: Any, town: Collection) -> None:
        app = visit(q=DOG, **{"hint_weather:snow": "only", "hint_object:dog": "ignore", "hint_scene:park": "nonsense"})
        assert app.session_state.answer[0][0].request.where == Filter(tags_all=("weather:snow",))
        assert "object:dog" not in app.session_state.answer[0][0].request.boost.tags_all
        assert "scene:park" in app.session_state.answer[0][0].request.boost.tags_all

    def test_words_that_no_frame_is_tagged_with_stand_as_any_other_word(self, visit: Any) -> None:
        app = ask(visit(), "a red elephant")
        assert [part["mode"] for part in drawn(app, "hints")["parts"]] == [None] * 3
        assert not [control for control in app.segmented_control if control.key.startswith("hint_")]

    def test_hints_join_the_filter_and_contradictions_are_one_sentence(self, visit: Any) -> None:
        app = visit(q="a park", scene="street", **{"hint_scene:park": "only"})
        assert "scene:street" in plainly(app.warning[0].value)
        assert plainly(app.warning[0].value).count("choose one.") == 1
        assert app.session_state.answer[0][0].request.where == Filter(tags_any=("scene:street",))

    def test_what_a_filter_cannot_say_is_noted(self, visit: Any) -> None:
        app = visit(q="a dog in the last 5 seconds", **{"hint_last 5 seconds": "only"})
        assert any("depends on how long each video is" in plainly(caption.value) for caption in app.caption)

    def test_a_query_without_hints_says_so(self, visit: Any) -> None:
        assert drawn(ask(visit(), "something beautiful"), "hints")["label"] == "Searched by its words"

    def test_markup_in_a_query_is_handed_over_as_text(self, visit: Any) -> None:
        text = "<b>dog</b> **park**"
        parts = drawn(ask(visit(), text), "hints")["parts"]
        assert "".join(part["text"] for part in parts) == text

    def test_nothing_is_drawn_without_a_query(self, town: Collection) -> None:
        where = Filter(videos=("x",))
        assert hints.row(town, "", where) == (where, Filter())


class TestPreview:
    def test_without_a_query_every_shard_may_answer(self, open_page: Any, town: Collection) -> None:
        app = open_page()
        told = town.preview()
        assert head(app) == preview_sentence(told)
        assert f"{len(told.shards)} shards, {town.n_frames:,} frames" in head(app)
        tiles = drawn(app, "treemap")["shards"]
        assert sum(tile["weight"] for tile in tiles) == town.n_frames
        assert not [button for button in app.button if button.key == "search_these"]

    def test_the_headline_has_the_engines_numbers(self, open_page: Any, town: Collection) -> None:
        app = ask(open_page(), "a red car")
        told = town.preview("a red car", 24)
        n, left, total = len(told.searched), told.frames_left, told.frames_total
        assert head(app).startswith(f"This query would open {n} of 12 shards: {left:,} of {total:,} frames (")
        assert f"({100 * left / total:.0f}%)" in head(app)
        assert words.nbytes_of(told.bytes_left, told.bytes_total) in head(app)
        assert f"{told.vectors_scanned:,} frames to scan" in " ".join(plainly(caption.value) for caption in app.caption)

    def test_the_map_shows_state_score_and_reason_of_each_shard(self, open_page: Any, shared: Collection) -> None:
        app = ask(open_page(), "a red car")
        told = shared.preview("a red car", 24)
        drawing = drawn(app, "treemap")
        assert {tile["id"]: (tile["state"], tile["score"]) for tile in drawing["shards"]} == {
            str(shard.shard): (shard.state.value, words.predicted(shard.score)) for shard in told.shards
        }
        for tile, shard in zip(drawing["shards"], told.shards, strict=True):
            assert tile["lines"][1].lower() == shard.reason.lower()
        counted = {look["state"]: look["count"] for look in drawing["looks"]}
        assert counted == {state.value: told.count(state) for state in ShardState}

    def test_filters_prune_before_anything_is_asked(self, open_page: Any, town: Collection) -> None:
        app = open_page(scene="beach")
        told = town.preview(where=Filter(tags_any=("scene:beach",)))
        assert head(app) == preview_sentence(told)
        assert head(app).startswith(f"These filters leave {len(told.searched)} of 12 shards: ")
        pruned = [tile for tile in drawn(app, "treemap")["shards"] if tile["state"] == "pruned"]
        assert len(pruned) == told.count(ShardState.PRUNED) > 0
        assert all("holds no beach" in tile["lines"][1].lower() for tile in pruned)

    def test_a_cap_on_shards_is_kept(self, open_page: Any) -> None:
        app = ask(open_page(cap="1"), "a red car")
        assert head(app).startswith("This query would open 1 of 12 shards")

    @pytest.mark.parametrize(("view", "key"), [("Tags", "tags"), ("Times", "times")])
    def test_the_switch_shows_the_shards_another_way(self, open_page: Any, view: str, key: str) -> None:
        app = open_page()
        checked(app.segmented_control(key="view").set_value(view).run())
        charts = app.get("plotly_chart")
        assert len(charts) == 1
        assert not [part for part in app.get("bidi_component") if part.proto.component_name == "treemap"]
        assert checked(open_page(view=view).run()).segmented_control(key="view").value == view

    def test_a_filter_that_leaves_nothing_says_so_and_cannot_be_searched(
        self,
        open_page: Any,
        town: Collection,
    ) -> None:
        at_night = next(video for video in town.videos() if video.captured_at and video.captured_at.hour >= 22)
        app = ask(open_page(video=at_night.title, day="morning"), "a street")
        assert "0 of 12 shards" in head(app)
        assert app.button(key="search_these").disabled


class TestInside:
    def test_a_shard_tells_what_is_in_it(self, open_page: Any, town: Collection) -> None:
        app = open_page(shard="3")
        inside = town.shard(3)
        assert drawn(app, "treemap")["picked"] == "3"
        samples = [part for part in drawn_all(app, "frames") if part["size"] == "small"]
        assert [card["id"] for card in samples[0]["items"]] == [str(frame.frame_id) for frame in inside.samples]
        told = " ".join(plainly(caption.value) for caption in app.caption)
        assert f"{inside.stats.n_frames:,} frames of {len(inside.videos)} videos in {inside.stats.cells} cells" in told
        assert f"largest {inside.largest_cell}" in told
        assert inside.videos[0][1] in told
        pressed(app, "close_shard")
        assert drawn(app, "treemap")["picked"] is None

    @pytest.mark.parametrize("asked", ["99", "-1", "x", "<b>"])
    def test_a_shard_that_is_not_there_is_said(self, open_page: Any, asked: str) -> None:
        app = open_page(shard=asked)
        assert "the collection has 0 to 11" in plainly(app.warning[0].value)


class TestSearchThese:
    def test_the_search_opens_what_was_said(self, open_page: Any, town: Collection) -> None:
        app = ask(open_page(), "boats in the harbour")
        opened = {tile["id"] for tile in drawn(app, "treemap")["shards"] if tile["state"] in ("opened", "cached")}
        assert not drawn_all(app, "frames")
        pressed(app, "search_these")
        result = town.search("boats in the harbour", 24)
        cards = drawn_all(app, "frames")[-1]["items"]
        assert {int(card["id"]) for card in cards} == {hit.frame_id for hit in result.hits}
        probed = {str(s.shard) for s in app.session_state.answer[1].trace.shards if s.state in ("opened", "cached")}
        assert probed == opened

    def test_words_that_the_encoder_never_saw_are_told(self, open_page: Any) -> None:
        assert "by chance" in said(ask(open_page(), "quixotic zeitgeist"))
        assert "went by the other words" in said(ask(open_page(), "a quixotic red car"))

    def test_another_query_is_not_searched_by_itself(self, open_page: Any) -> None:
        app = pressed(ask(open_page(), "boats in the harbour"), "search_these")
        assert drawn_all(app, "frames")
        assert not drawn_all(ask(app, "a red car"), "frames")


class TestMissed:
    def test_missed_frames_are_shown_with_their_reason(self, open_page: Any, town: Collection) -> None:
        app = pressed(ask(open_page(**NARROW), "a red car"), "search_these")
        missed = town.missed("a red car", town.search("a red car", 24, n_probe=1), n_probe=1)
        assert missed
        told = [plainly(caption.value) for caption in app.caption]
        for each in missed[:SHOWN]:
            assert each.sentence[1:] in " ".join(told)
            cards = [card for part in drawn_all(app, "frames") for card in part["items"]]
            (card,) = [card for card in cards if card["id"] == str(each.hit.frame_id)]
            assert card["mark"] == f"missed, rank {each.rank}"
        assert f"An exact search finds {len(missed)} frames that this one missed" in plainly(
            " ".join(text.value for text in app.markdown)
        )

    def test_open_it_too_finds_them(self, open_page: Any, town: Collection) -> None:
        app = pressed(ask(open_page(**NARROW), "a red car"), "search_these")
        missed = town.missed("a red car", town.search("a red car", 24, n_probe=1), n_probe=1)
        for shard in {each.hit.shard for each in missed}:
            first = next(each for each in missed if each.hit.shard == shard)
            pressed(app, f"open_{first.hit.frame_id}")
        assert "Nothing is missed" in said(app)
        found = {int(card["id"]) for card in drawn_all(app, "frames")[-1]["items"]}
        assert {each.hit.frame_id for each in missed} <= found
        pressed(app, "no_more")
        assert "Nothing is missed" not in said(app)

    def test_on_search_a_button_checks_against_exact(self, visit: Any, town: Collection) -> None:
        app = ask(visit(method="routed", probes="1", per_shot="all"), "a red car")
        assert "missed" not in said(app) + " ".join(text.value for text in app.markdown)
        pressed(app, "check")
        missed = town.missed("a red car", town.search("a red car", 24, n_probe=1), n_probe=1)
        assert f"finds {len(missed)} frames that this one missed" in " ".join(text.value for text in app.markdown)
        assert drawn(app, "route")

    def test_an_exact_search_has_nothing_to_check(self, visit: Any) -> None:
        app = ask(visit(method="exact"), "a red car")
        assert not [button for button in app.button if button.key == "check"]


def drawn_all(app: AppTest, name: str) -> list[Any]:
    """The data of all components of one name, in the order of the page."""
    import json

    return [json.loads(part.proto.json) for part in app.get("bidi_component") if part.proto.component_name == name]


@pytest.mark.parametrize(
    ("part", "whole", "read"),
    [
        (69_000, 612_000, "69 of 612 kB"),
        (2_400_000, 26_000_000, "2.4 of 26 MB"),
        (5, 90, "5 of 90 B"),
        (0, 2_000, "0 of 2 kB"),
        (999_000, 999_600, "1 of 1 MB"),
    ],
)
def test_bytes_of_bytes_are_told_in_one_unit(part: int, whole: int, read: str) -> None:
    assert words.nbytes_of(part, whole) == read


@pytest.mark.parametrize(
    ("part", "whole", "read"),
    [
        (0, 5, "0%"),
        (1, 1000, "under 1%"),
        (9_412, 100_000, "9%"),
        (999, 1000, "99%"),
        (5, 5, "100%"),
        (0, 0, "0%"),
    ],
)
def test_shares_never_round_to_all_or_nothing(part: int, whole: int, read: str) -> None:
    assert words.share(part, whole) == read


@pytest.mark.parametrize(
    ("score", "read"), [(0.271, "0.27"), (-0.05, "-0.05"), (-0.001, "0.00"), (1.3, "1.30"), (None, "")]
)
def test_predicted_scores_are_short(score: float | None, read: str) -> None:
    assert words.predicted(score) == read


def test_a_search_is_the_same_for_the_engine_wherever_it_is_asked(town: Collection) -> None:
    request = SearchRequest(24, per_shot=2, max_shards=2, boost=Filter(tags_all=("object:dog",)))
    search = asking.Search(asking.Question("a dog"), request)
    result = town.searcher.search("a dog", search.request)
    assert result.trace.shards_probed <= 2
    assert town.searcher.preview("a dog", search.request).count(ShardState.OPENED, ShardState.CACHED) <= 2


def test_shards_far_from_the_mean_are_told_with_what_to_do(
    visit: Any, town: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources.shelf(), "root", tmp_path)
    videos = [make_video(1, 400), *(make_video(number, 20) for number in range(2, 8))]
    with fill(tmp_path / "uneven", videos, placement="by_video", n_shards=4) as uneven:
        sentence = uneven.stats().uneven
        sizes = [shard.n_frames for shard in uneven.stats().shards]
    try:
        app = visit("shards", collection="folder-uneven")
        if resources.board().get("open folder-uneven") is None:
            checked(app.run())
        assert resources.board().get("open folder-uneven").wait(60)
        app = checked(app.run())
        assert "(shard" in sentence
        assert sentence in [plainly(caption.value) for caption in app.caption]
        told = {tile["id"] for tile in drawn(app, "treemap")["shards"] if any("the mean" in x for x in tile["lines"])}
        mean = sum(sizes) / 4
        assert told == {str(i) for i, n in enumerate(sizes) if n and (n < mean / 4 or n > 2 * mean)}
    finally:
        resources.board().forget("open folder-uneven")
