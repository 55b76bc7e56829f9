"""Which shard a frame goes to."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.embedding.tagger import load_vocabulary
from engine.frames import NO_TIME
from engine.frames.columns import FrameColumns, Tags
from engine.frames.statistics import microseconds
from engine.layout.by_content import CLASSES, HYBRID_FILL, HYBRID_SPARE, OTHER
from engine.layout.by_time import NO_RECORDING_TIME
from engine.layout.grouping import MAX_FILL, MIN_FILL, group_cells, largest_first
from engine.layout.placement import Placement, Survey
from engine.layout.registry import PLACEMENTS, check_options, make_placement
from engine.types import DAYPARTS
from engine.vectors.cells import Cells, train_cells

N_CELLS = 36
LABELS = ("object:man", "object:car", "object:poster", "object:table", "object:tree", "object:unheard_of")
FREE = {"time_of_day", "content"}
"""Placements that have as many shards as their categories, whatever was asked for."""
MOVING = {"balanced", "hybrid"}
"""Placements that look at load, so that where a frame goes depends on what it comes with."""


def frames_of(n: int, seed: int = 0, **columns: object) -> FrameColumns:
    """Frames of about n / 25 videos of unequal length with times, tags and cells at random; a fifth lack a time or tags."""
    rng = np.random.default_rng(seed)
    captured = rng.integers(0, 10**15, n)
    captured[rng.random(n) < 0.2] = NO_TIME
    tags = [tuple(tag for tag in LABELS if rng.random() < 0.25) for _ in range(n)]
    values = {
        "frame_id": 1000 + np.arange(n, dtype=np.int64),
        "video": np.sort((rng.random(n) ** 2 * max(1, n // 25)).astype(np.int32)),
        "frame_index": np.arange(n, dtype=np.int64),
        "seconds": rng.random(n) * 1800,
        "captured_at": captured,
        "shot": np.full(n, -1, np.int32),
        "cell": rng.integers(0, N_CELLS, n).astype(np.int32),
        "row_crc": np.zeros(n, np.uint32),
        "tags": Tags.of(tags),
    }
    return FrameColumns(**{**values, **columns})


def alike(n: int, **columns: object) -> FrameColumns:
    """Frames of one video that know neither time nor tags, but for these columns."""
    values = {"video": np.ones(n, np.int32), "captured_at": np.full(n, NO_TIME), "tags": Tags.none(n), **columns}
    return frames_of(n, **values)


@pytest.fixture(scope="module")
def cells() -> Cells:
    return train_cells(
        np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32), N_CELLS, "sq8", 1, two_level=True
    )


@pytest.fixture(scope="module")
def many() -> Cells:
    """400 cells in two levels, in more groups than shards."""
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(40, 16)).repeat(100, axis=0) + 0.3 * rng.normal(size=(4000, 16))
    return train_cells(rows.astype(np.float32), 400, "sq8", 1, two_level=True)


@pytest.fixture(scope="module")
def frames() -> FrameColumns:
    return frames_of(1500)


@pytest.fixture(scope="module")
def learned(cells, frames):
    """A placement as a build of these frames lays it out."""

    def learn(name: str, n_shards: int = 7, **options: object) -> Placement:
        sizes = np.bincount(frames.cell, minlength=N_CELLS)
        return PLACEMENTS[name].learn(Survey(n_shards, cells, sizes, float(frames.seconds.max()), options))

    return learn


def placed(placement: Placement, frames: FrameColumns, loads: np.ndarray | None = None) -> np.ndarray:
    return placement.assign(frames, empty(placement) if loads is None else loads)


def empty(placement: Placement) -> np.ndarray:
    return np.zeros(len(placement.names()), np.int64)


@pytest.fixture
def placements(learned):
    """A placement by its name as builds lay it out for several numbers of shards."""
    return lambda name: [(n_shards, learned(name, n_shards)) for n_shards in (1, 3, 7, 20)]


@pytest.mark.parametrize("name", PLACEMENTS)
class TestEveryPlacement:
    def test_names_one_existing_shard_per_frame(self, name, placements, frames):
        for _, placement in placements(name):
            for some in (
                frames,
                alike(50),
                frames.take(np.empty(0, np.intp)),
            ):  # Also without time, tags, or any frame.
                shard = placed(placement, some)
                assert shard.shape == (len(some),)
                assert shard.dtype == np.int32
                assert 0 <= shard.min(initial=0) <= shard.max(initial=0) < len(placement.names())

    def test_gives_every_shard_a_name_of_its_own(self, name, placements):
        for n_shards, placement in placements(name):
            names = placement.names()
            assert len(set(names)) == len(names)
            assert all(shard_name.strip() for shard_name in names)
            assert name in FREE or len(names) == n_shards

    def test_uses_more_than_one_shard_where_there_are_more(self, name, placements, frames):
        for _, placement in placements(name):
            assert len(set(placed(placement, frames))) >= min(len(placement.names()), 3)

    def test_goes_on_from_its_stored_state_as_before_and_leaves_the_loads(self, name, placements, frames):
        for _, placement in placements(name):
            again = make_placement(name, json.loads(json.dumps(placement.state, sort_keys=True)))
            loads = np.random.default_rng(5).integers(0, 900, len(placement.names()))
            before = loads.copy()
            shard = placed(placement, frames, loads)
            for same in (placement, again):
                np.testing.assert_array_equal(placed(same, frames, loads), shard)
            np.testing.assert_array_equal(loads, before)
            assert again.names() == placement.names()


@pytest.mark.parametrize("name", sorted(set(PLACEMENTS) - MOVING))
def test_a_frame_is_placed_the_same_whatever_comes_with_it(name, learned, frames):
    placement = learned(name)
    some = np.array([1150, 3, 77])
    busy = empty(placement) + np.arange(len(placement.names())) * 1000
    np.testing.assert_array_equal(placed(placement, frames.take(some), busy), placed(placement, frames)[some])


@pytest.mark.parametrize("name", sorted(MOVING))
def test_later_videos_go_where_there_is_room(name, learned, frames):
    placement = learned(name)
    loads = np.full(7, 10_000)
    loads[4] = 0
    assert set(placed(placement, frames, loads)) == {4}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_an_unknown_option_is_refused_in_one_sentence(name, learned):
    for refuse in (lambda: check_options(name, {"colour": 1}), lambda: learned(name, colour=1)):
        with pytest.raises(ValueError, match="colour") as refused:
            refuse()
        text = str(refused.value)
        assert name in text
        assert text.endswith(".")
        assert text.count(". ") == 0
        assert all(option in text for option in PLACEMENTS[name].OPTIONS)


@pytest.mark.parametrize("name", [name for name, placement in PLACEMENTS.items() if placement.OPTIONS])
def test_defaults_are_options_that_a_placement_takes(name, learned):
    defaults = {option: PLACEMENTS[name].OPTIONS[option].default for option in PLACEMENTS[name].OPTIONS}
    check_options(name, defaults)
    check_options(name, dict.fromkeys(defaults))
    assert learned(name, **defaults).state == learned(name).state == learned(name, **dict.fromkeys(defaults)).state


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    n_shards=st.integers(1, 12),
    name=st.sampled_from(["balanced", "hybrid"]),
)
def test_no_shard_is_under_a_quarter_or_over_twice_the_mean_where_videos_allow_it(sizes, n_shards, name):
    state = {"n_shards": n_shards, "classes": [["people", ["object:man"]], ["vehicles", ["object:car"]]]}
    video = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    some = frames_of(len(video), video=video)
    load = np.bincount(placed(make_placement(name, state), some), minlength=n_shards)
    assert len(load) == n_shards
    if max(sizes) <= load.mean():
        assert n_uneven(load) == 0


def test_one_video_longer_than_all_others_leaves_the_other_shards_even(learned):
    video = np.repeat(np.arange(301, dtype=np.int32), [10_000, *[20] * 300])
    for name in ("balanced", "hybrid"):
        load = np.sort(np.bincount(placed(learned(name), alike(len(video), video=video)), minlength=7))
        assert load[-1] == 10_000
        assert n_uneven(load[:-1]) == 0


def test_placements_that_do_not_go_by_size_say_so():
    assert {name: placement.whole for name, placement in PLACEMENTS.items() if placement.whole} == {
        "balanced": "videos",
        "hybrid": "parts of videos",
        "semantic": "cells",
        "hierarchical": "cells",
    }


def test_only_placements_of_whole_cells_can_leave_shards_closed_cheaply():
    assert {name for name, placement in PLACEMENTS.items() if placement.routed} == {"semantic", "hierarchical"}


def test_the_registry_holds_every_placement_the_guide_names():
    assert set(PLACEMENTS) == {
        *("round_robin", "random", "balanced", "time_of_day", "timeline"),
        *("content", "by_video", "hybrid", "semantic", "hierarchical"),
    }


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("time_of_day", "by", ["week"]),
        ("timeline", "minutes", [0, -5, float("nan"), float("inf"), "5", True]),
        (
            "content",
            "classes",
            [
                {},
                ["object:car"],
                *({"cars": tags} for tags in ([], "object:car", [""], [3])),
                {" ": ["object:car"]},
                {OTHER: ["object:car"]},
            ],
        ),
    ],
)
def test_a_value_that_an_option_cannot_take_is_refused_in_one_sentence(name, option, values):
    for value in values:
        with pytest.raises(ValueError, match=r"^The (option|class) [^.]*\.$"):
            check_options(name, {option: value})


def test_shards_do_not_depend_on_the_seed_of_the_interpreter():
    code = (
        "import hashlib, numpy as np\n"
        "from tests.layout import test_placement as t\n"
        "frames = t.frames_of(300)\n"
        "cells = t.train_cells(np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32), 36, 'sq8', 1, two_level=True)\n"
        "for name in t.PLACEMENTS:\n"
        "    p = t.PLACEMENTS[name].learn(t.Survey(7, cells, np.bincount(frames.cell, minlength=36), 1800.0, {}))\n"
        "    print(name, hashlib.sha1(t.placed(p, frames).tobytes()).hexdigest(), *p.names())\n"
    )
    root = Path(__file__).resolve().parents[2]
    runs = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    first, second = (run.communicate()[0].decode() for run in runs)
    assert len(first.splitlines()) == len(PLACEMENTS)
    assert first == second


class TestRoundRobin:
    def test_counts_frame_ids(self, learned, frames):
        np.testing.assert_array_equal(placed(learned("round_robin"), frames), frames.frame_id % 7)


class TestRandom:
    def test_is_even_whatever_the_step_between_frame_ids(self, learned):
        n = 70_000
        for step in (1, 7, 49, 1 << 20):
            ids = np.arange(n, dtype=np.int64) * step
            counts = np.bincount(placed(learned("random"), alike(n, frame_id=ids)), minlength=7)
            # The chi-squared statistic with 6 degrees of freedom is above 27.9 once in ten thousand.
            assert ((counts - n / 7) ** 2 / (n / 7)).sum() < 27.9

    def test_does_not_follow_the_order_of_frames(self, learned):
        shard = placed(learned("random"), alike(7000))
        assert (shard[1:] == shard[:-1]).mean() == pytest.approx(1 / 7, abs=0.02)

    def test_mixes_as_splitmix64_does(self, learned):
        # The first outputs of SplitMix64 seeded with 0 and with its own increment.
        ids = np.array([0, 0x9E3779B97F4A7C15 - (1 << 64)], np.int64)
        expected = [0xE220A8397B1DCDAF % 7, 0x6E789E6AA1B965F4 % 7]
        assert placed(learned("random"), alike(2, frame_id=ids)).tolist() == expected


class TestByVideo:
    def test_keeps_a_video_in_one_shard_from_one_addition_to_the_next(self, learned, frames):
        placement = learned("by_video")
        shard = placed(placement, frames)
        later = placed(placement, frames_of(400, seed=9), empty(placement) + 500)
        for video in np.unique(frames.video):
            assert len({*shard[frames.video == video], *later[frames_of(400, seed=9).video == video]}) == 1

    def test_spreads_videos_over_all_shards(self, learned):
        counts = np.bincount(placed(learned("by_video"), alike(7000, video=np.arange(7000, dtype=np.int32))))
        assert counts.min() > 850


class TestBalanced:
    @settings(max_examples=80, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 60), min_size=1, max_size=40),
        loads=st.lists(st.integers(0, 100), min_size=1, max_size=9),
    )
    def test_keeps_videos_whole_and_no_shard_more_than_a_video_above_the_mean(self, sizes, loads):
        placement = make_placement("balanced", {"n_shards": len(loads)})
        video = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
        shard = placed(placement, alike(len(video), video=video), np.array(loads))
        assert all(len(set(shard[video == each])) == 1 for each in range(len(sizes)))
        after = loads + np.bincount(shard, minlength=len(loads))
        assert after.max() <= max(max(loads), after.mean() + max(sizes))

    def test_is_within_a_third_of_the_best_possible(self):
        # Two shards of 12 are possible: 7 + 5 and 4 + 4 + 4.
        sizes = [7, 5, 4, 4, 4]
        video = np.repeat(np.arange(5, dtype=np.int32), sizes)
        counts = np.bincount(placed(make_placement("balanced", {"n_shards": 2}), alike(24, video=video)))
        assert counts.max() <= 12 * 7 / 6

    def test_fills_the_emptiest_shard_first(self, learned):
        loads = np.array([9, 9, 9, 2, 9, 9, 9])
        assert set(placed(learned("balanced"), alike(5), loads)) == {3}


class TestTimeOfDay:
    def test_a_daypart_begins_at_its_first_hour_and_ends_before_its_last(self, learned):
        parts = {
            "night": [(0, 0), (4, 59), (21, 0), (23, 59)],
            "morning": [(5, 0), (11, 59)],
            "afternoon": [(12, 0), (16, 59)],
            "evening": [(17, 0), (20, 59)],
        }
        clocks = [(part, clock) for part, clocks in parts.items() for clock in clocks]
        placement = learned("time_of_day")
        for year in (1969, 2024):
            captured = np.array([microseconds(datetime(year, 5, 1, *clock, 59, 999_999)) for _, clock in clocks])
            shard = placed(placement, alike(len(clocks), captured_at=captured))
            assert [placement.names()[i] for i in shard] == [part for part, _ in clocks]

    @pytest.mark.parametrize("by", ["daypart", "hour"])
    def test_frames_without_a_time_are_in_the_default_shard_and_no_others(self, learned, frames, by):
        placement = learned("time_of_day", by=by)
        default = placed(placement, frames) == placement.names().index(NO_RECORDING_TIME)
        np.testing.assert_array_equal(default, frames.captured_at == NO_TIME)

    def test_dayparts_are_shards_whatever_number_was_asked_for(self, learned):
        assert learned("time_of_day", 2).names() == learned("time_of_day", 40).names() == (*DAYPARTS, NO_RECORDING_TIME)

    def test_hours_go_round_the_shards_that_name_them(self, learned):
        hours = np.array([microseconds(datetime(2024, 1, 31, hour, 30)) for hour in range(24)])
        for n_shards in (1, 5, 24, 40):
            placement = learned("time_of_day", n_shards, by="hour")
            shard = placed(placement, alike(24, captured_at=hours))
            np.testing.assert_array_equal(shard, np.arange(24) % n_shards)
            assert len(placement.names()) == min(n_shards, 24) + 1
            for hour in range(24):
                name = placement.names()[shard[hour]]
                assert str(hour) in name.removeprefix("hours ").removeprefix("hour ").split(", ")


class TestTimeline:
    @pytest.mark.parametrize("longest", [0.0, 1e-310])
    def test_videos_of_a_single_moment_lie_in_the_first_shard(self, cells, longest):
        placement = PLACEMENTS["timeline"].learn(Survey(4, cells, np.ones(N_CELLS, np.int64), longest, {}))
        assert not placed(placement, alike(3, seconds=np.array([0.0, longest, longest]))).any()

    def test_cuts_at_the_minutes_asked_for_and_keeps_the_rest_together(self, learned):
        placement = learned("timeline", 12, minutes=5)
        seconds = np.array([0, 299.9, 300, 599.9, 3299.9, 3300, 10**6])
        assert placed(placement, alike(7, seconds=seconds)).tolist() == [0, 0, 1, 1, 10, 11, 11]
        assert placement.names()[:2] == ("0-5 min", "5-10 min")
        assert placement.names()[-1] == "from 55 min"

    @pytest.mark.parametrize("n_shards", [1, 3, 20])
    def test_chunks_chosen_from_the_longest_video_cover_it_and_fill_every_shard(self, cells, n_shards):
        for longest in (0.04, 44.9, 1800.0, 3600.0, 86_400.0):
            survey = Survey(n_shards, cells, np.ones(N_CELLS, np.int64), longest, {})
            placement = PLACEMENTS["timeline"].learn(survey)
            shard = placed(placement, alike(2000, seconds=np.linspace(0, longest, 2000)))
            counts = np.bincount(shard, minlength=n_shards)
            np.testing.assert_allclose(counts, 2000 / n_shards, rtol=0.25)
            assert (np.diff(shard) >= 0).all()

    def test_times_that_are_all_zero_still_make_shards(self, cells):
        placement = PLACEMENTS["timeline"].learn(Survey(3, cells, np.ones(N_CELLS, np.int64), 0.0, {}))
        assert not placed(placement, alike(5, seconds=np.zeros(5))).any()
        assert placement.names() == ("0-1 min", "1-2 min", "from 2 min")

    def test_short_chunks_are_named_in_seconds(self, learned):
        assert learned("timeline", 3, minutes=0.05).names() == ("0-3 s", "3-6 s", "from 6 s")


class TestContent:
    def test_the_first_class_with_a_tag_of_the_frame_takes_it(self, learned):
        tags = [
            ("object:tree", "object:car"),
            ("object:car", "object:human_face"),
            ("object:tree",),
            ("object:what",),
            (),
        ]
        placement = learned("content")
        shard = placed(placement, alike(5, tags=Tags.of(tags)))
        assert [placement.names()[i] for i in shard] == ["vehicles", "people", "outdoor", OTHER, OTHER]

    def test_own_classes_take_tags_and_beginnings_of_tags_in_their_order(self, learned):
        placement = learned("content", classes={"late": ["time:night", "time:e*"], "pets": ["object:d*", "object:cat"]})
        tags = [("object:dog", "time:evening"), ("object:dog",), ("object:cattle",), ("object:cat",), ("time:night2",)]
        shard = placed(placement, alike(5, tags=Tags.of(tags)))
        assert [placement.names()[i] for i in shard] == ["late", "pets", OTHER, "pets", OTHER]
        assert placement.names() == ("late", "pets", OTHER)

    def test_every_scene_of_the_shipped_vocabulary_has_a_class(self, learned):
        scenes = next(kind.labels for kind in load_vocabulary().kinds if kind.name == "scene")
        tags = Tags.of([(f"scene:{scene}",) for scene in scenes])
        placement = learned("content")
        found = {placement.names()[i] for i in placed(placement, alike(len(scenes), tags=tags))}
        assert found == {"indoor", "outdoor"}

    def test_labels_of_open_images_have_a_class(self, learned):
        classes = {
            "people": ["person", "man", "woman", "human_face"],
            "vehicles": ["car", "land_vehicle", "boat"],
            "text": ["poster"],
            "indoor": ["table", "furniture"],
            "outdoor": ["tree", "building"],
        }
        labels = [(name, label) for name, labels in classes.items() for label in labels]
        placement = learned("content")
        tags = Tags.of([(f"object:{label}",) for _, label in labels])
        shard = placed(placement, alike(len(labels), tags=tags))
        assert [placement.names()[i] for i in shard] == [name for name, _ in labels]

    def test_no_tag_stands_in_two_default_classes(self):
        listed = [tag for tags in CLASSES.values() for tag in tags]
        assert len(set(listed)) == len(listed)


class TestHybrid:
    @settings(max_examples=60, deadline=None)
    @given(
        n_shards=st.integers(1, 25),
        n_videos=st.integers(1, 12),
        n_classes=st.integers(1, 40),
        n=st.integers(1, 300),
        seed=st.integers(0, 10**6),
    )
    def test_keeps_a_video_in_three_shards_and_loads_even(self, n_shards, n_videos, n_classes, n, seed):
        rng = np.random.default_rng(seed)
        video = rng.integers(0, n_videos, n).astype(np.int32)
        tags = Tags.of([(f"t:{i}",) for i in rng.integers(0, n_classes + 3, n)])
        placement = make_placement(
            "hybrid", {"n_shards": n_shards, "classes": [[str(i), [f"t:{i}"]] for i in range(n_classes)]}
        )
        captured = rng.integers(0, 10**15, n)
        loads = rng.integers(0, 50, n_shards)
        shard = placed(placement, alike(n, video=video, tags=tags, captured_at=captured), loads)
        assert all(len(set(shard[video == each])) <= 3 for each in set(video.tolist()))
        after = loads + np.bincount(shard, minlength=n_shards)
        assert len(after) == n_shards
        largest = np.bincount(video).max()
        assert after.max() <= max(loads.max(), HYBRID_FILL * after.mean(), after.mean() + largest)

    def test_evens_out_shards_when_there_are_many_videos(self, learned):
        frames = frames_of(20_000, seed=4)
        for n_shards in (3, 20, 40):
            counts = np.bincount(placed(learned("hybrid", n_shards), frames), minlength=n_shards)
            assert counts.max() <= (1 + HYBRID_SPARE / n_shards) * counts.mean()
            assert counts.min() >= 0.75 * counts.mean()

    def test_evens_out_shards_even_where_all_frames_are_of_one_kind(self, learned):
        video = np.repeat(np.arange(4000, dtype=np.int32), 5)
        counts = np.bincount(placed(learned("hybrid", 20), alike(20_000, video=video)), minlength=20)
        assert counts.max() <= 1010
        assert counts.min() >= 0.75 * 1000

    def test_keeps_one_time_and_class_in_few_shards(self, learned):
        rng = np.random.default_rng(2)
        n = 30_000
        video = np.repeat(np.arange(n // 30, dtype=np.int32), 30)
        label = np.repeat(rng.integers(0, 5, n // 30), 30)
        hour = np.repeat(rng.integers(0, 24, n // 30), 30)
        tags = Tags.of([(LABELS[i],) for i in label])
        frames = alike(n, video=video, tags=tags, captured_at=hour * 3_600_000_000)
        shard = placed(learned("hybrid", 20), frames)
        for each in range(5):
            mornings = (label == each) & (hour >= 5) & (hour < 12)
            counts = np.sort(np.bincount(shard[mornings], minlength=20))
            assert counts[-6:].sum() >= 0.6 * counts.sum()

    def test_has_shards_apart_for_the_classes_of_one_time_and_uses_all_of_them(self, learned):
        # Five times and six classes share 90 shards: three for each.
        video = np.arange(100, dtype=np.int32)
        tags = Tags.of([("object:man",) if i % 2 else ("object:car",) for i in video])
        shard = placed(learned("hybrid", 90), alike(100, video=video, tags=tags), np.full(90, 1000))
        people, vehicles = set(shard[1::2]), set(shard[::2])
        assert len(people) == len(vehicles) == 3
        assert not people & vehicles

    def test_places_large_pieces_first(self, learned):
        video = np.repeat(np.arange(3, dtype=np.int32), [3, 4, 5])
        counts = np.bincount(placed(learned("hybrid", 2), alike(12, video=video)))
        assert sorted(counts) == [5, 7]

    def test_cuts_a_video_by_its_two_most_frequent_classes(self, learned):
        tags = [("object:man",)] * 5 + [("object:car",)] * 4 + [("object:tree",)] * 3 + [()] * 2
        shard = placed(learned("hybrid", 20), alike(14, tags=Tags.of(tags)))
        pieces = shard[:5], shard[5:9], shard[9:]
        assert [len(set(piece)) for piece in pieces] == [1, 1, 1]
        assert len(set(shard)) == 3

    def test_gives_a_later_video_the_shards_of_its_kind_while_they_have_room(self, learned):
        placement = learned("hybrid", 20)
        evening = np.full(10, microseconds(datetime(2024, 5, 1, 18)))
        video = alike(10, captured_at=evening, tags=Tags.of([("object:car",)] * 10))
        (home,) = set(placed(placement, video, empty(placement) + 1000))
        other = video.with_values(video=np.full(10, 99, np.int32))
        assert set(placed(placement, other, empty(placement) + 1000)) == {home}
        full = empty(placement) + 1000
        full[home] = 2000
        assert home not in set(placed(placement, other, full))


CELL_SIZES = st.one_of(
    st.lists(st.integers(0, 1000), min_size=1, max_size=60),
    st.lists(st.integers(0, 14).map(lambda power: 2**power), min_size=1, max_size=60),
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 3, 40]), min_size=1, max_size=120),
    st.lists(st.integers(1, 30), max_size=80).map(lambda sizes: [*sizes, 10_000]),
    st.lists(st.just(1), min_size=1, max_size=30),
)
"""Frames per cell: any, powers of two, most without any, one huge, and few."""


def n_uneven(load: np.ndarray) -> int:
    """Shards under a quarter of the mean or over twice it."""
    return int(((load < MIN_FILL * load.mean()) | (load > MAX_FILL * load.mean())).sum())


class TestSemantic:
    def test_keeps_cells_whole(self, learned, frames):
        shard = placed(learned("semantic"), frames)
        for number in range(N_CELLS):
            assert len(set(shard[frames.cell == number])) == 1
        assert len(set(shard)) == 7

    def test_puts_like_with_like(self):
        rng = np.random.default_rng(5)
        corners = np.repeat(np.eye(4, dtype=np.float32) * 10, 6, axis=0)
        group = group_cells(corners + 0.1 * rng.normal(size=corners.shape).astype(np.float32), np.ones(24, np.int64), 4)
        assert [len(set(group[i : i + 6])) for i in range(0, 24, 6)] == [1, 1, 1, 1]
        assert len(set(group)) == 4

    @settings(max_examples=150, deadline=None)
    @given(sizes=CELL_SIZES, n_shards=st.integers(1, 40), n_families=st.integers(0, 30), seed=st.integers(0, 99))
    @example(sizes=[0, 0, 0, 4], n_shards=4, n_families=15, seed=0)  # A family for each cell, in another order.
    @example(sizes=[100_000] + [7] * 60, n_shards=9, n_families=0, seed=0)  # One huge cell.
    @example(sizes=[1, 1, 1] + [50] * 40, n_shards=8, n_families=3, seed=1)
    def test_no_shard_is_under_a_quarter_or_over_twice_the_mean_where_whole_cells_allow_it(
        self, sizes, n_shards, n_families, seed
    ):
        rng = np.random.default_rng(seed)
        # Heavy tails: a few cells lie far from all others, and would get shards of their own.
        centroids = rng.standard_cauchy(size=(len(sizes), 4)).astype(np.float32)
        family = rng.integers(0, n_families, len(sizes)).astype(np.int32) if n_families else None
        demand = rng.dirichlet(np.full(len(sizes), 0.1), 20).T.astype(np.float32) if seed % 2 else None
        shard = group_cells(centroids, np.array(sizes), n_shards, family, demand)
        assert shard.shape == (len(sizes),)
        weights = np.array(sizes if any(sizes) else [1] * len(sizes))
        load = np.bincount(shard, weights=weights, minlength=n_shards)
        mean = weights.sum() / n_shards
        assert len(load) == n_shards
        assert load.max() <= max(MAX_FILL * mean, mean + weights.max()) + 1e-6
        if weights.max() <= mean:
            assert n_uneven(load) == 0
        # Where cells are larger, no more shards are uneven than without regard to content.
        assert n_uneven(load) <= n_uneven(np.bincount(largest_first(weights, np.zeros(n_shards)), weights, n_shards))

    def test_what_the_same_queries_want_lies_together_however_unlike_it_is(self):
        """Cells are alike in eights, and each query wants one of each eight: by likeness alone it would open every shard."""
        rng = np.random.default_rng(3)
        centroids = np.repeat(np.eye(8, dtype=np.float32), 8, axis=0) + 0.1 * rng.normal(size=(64, 8)).astype(
            np.float32
        )
        wants = np.arange(64) % 8
        demand = 0.125 * (wants[:, None] == np.arange(8)).astype(np.float32)

        def opened(shard: np.ndarray) -> float:
            return float(np.mean([len(set(shard[wants == query])) for query in range(8)]))

        sizes = np.ones(64, np.int64)
        assert opened(group_cells(centroids, sizes, 8)) >= 7
        together = group_cells(centroids, sizes, 8, None, demand)
        assert opened(together) < 5
        assert n_uneven(np.bincount(together, minlength=8)) == 0

    def test_a_cell_unlike_all_others_gets_no_shard_of_its_own(self):
        rng = np.random.default_rng(1)
        centroids = rng.normal(size=(500, 8)).astype(np.float32)
        centroids[:12] *= 50
        sizes = rng.integers(5, 20, 500)
        sizes[:12] = 1
        load = np.bincount(group_cells(centroids, sizes, 20), weights=sizes, minlength=20)
        assert n_uneven(load) == 0

    def test_cells_without_frames_lie_with_those_like_them(self):
        centroids = np.repeat(np.eye(4, dtype=np.float32) * 10, 25, axis=0)
        sizes = np.zeros(100, np.int64)
        sizes[::25] = 30
        shard = group_cells(centroids, sizes, 4).reshape(4, 25)
        assert (shard == shard[:, :1]).all()
        assert len(set(shard[:, 0])) == 4


class TestHierarchical:
    def shard_of_cell(self, cells: Cells, sizes: np.ndarray, n_shards: int) -> np.ndarray:
        placement = PLACEMENTS["hierarchical"].learn(Survey(n_shards, cells, sizes, 1.0, {}))
        return placed(placement, alike(len(cells), cell=np.arange(len(cells), dtype=np.int32)))

    def test_keeps_groups_whole_where_they_fit(self, many):
        shard = self.shard_of_cell(many, np.full(400, 10), 4)
        assert all(len(set(shard[many.group_of == group])) == 1 for group in np.unique(many.group_of))
        assert len(set(shard)) == 4

    def test_splits_a_group_that_alone_exceeds_the_limit_and_no_other(self, many):
        sizes = np.full(400, 10)
        large = int(np.bincount(many.group_of).argmax())
        sizes[many.group_of == large] = 400
        shard = self.shard_of_cell(many, sizes, 8)
        whole = [group for group in np.unique(many.group_of) if len(set(shard[many.group_of == group])) == 1]
        assert set(np.unique(many.group_of)) - set(whole) == {large}
        load = np.bincount(shard, weights=sizes, minlength=8)
        assert load.max() <= max(MAX_FILL * load.mean(), load.mean() + 400)

    def test_has_shards_as_asked_for_when_they_outnumber_cells(self, many):
        shard = self.shard_of_cell(many, np.full(400, 10), 500)
        assert 0 <= shard.min() <= shard.max() < 500

    def test_cells_of_one_level_are_refused(self):
        rows = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
        cells = train_cells(rows, 16, "sq8", 1, two_level=False)
        with pytest.raises(ValueError, match="two levels"):
            self.shard_of_cell(cells, np.ones(16, np.int64), 3)
