"""The sample town: its films, its encoder, and the queries the app offers."""

import csv
import json
import random
import tomllib
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from engine import Collection

DATA = Path(__file__).resolve().parents[2] / "data"
ENCODER = DATA / "encoder"
VIDEOS = json.loads((DATA / "videos" / "videos.json").read_text(encoding="utf-8"))
SHOTS = json.loads((DATA / "videos" / "shots.json").read_text(encoding="utf-8"))
EXAMPLES = json.loads((DATA / "examples.json").read_text(encoding="utf-8"))
FACT_OF_KIND = {"scene": "place:", "time": "time:", "weather": "weather:", "object": ""}
COLOURED = ("car", "bus", "bicycle", "train", "boat", "balloon", "dog", "cat", "bird", "cow", "clothes", "umbrella")
HOURS = {"morning": range(5, 11), "day": range(11, 17), "evening": range(17, 21), "night": range(21, 24)}
EDGE = 0.5
"""Seconds next to a cut that say nothing about a shot."""


class Encoder:
    """The shipped weights, through open_clip's public calls."""

    def __init__(self):
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(f"local-dir:{ENCODER}")
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{ENCODER}")
        self.model.eval()

    @torch.no_grad()
    def images(self, pictures):
        batch = torch.stack([self.preprocess(picture) for picture in pictures])
        return self.model.encode_image(batch, normalize=True).numpy()

    @torch.no_grad()
    def texts(self, texts):
        return self.model.encode_text(self.tokenizer(texts), normalize=True).numpy()


@pytest.fixture(scope="module")
def encoder():
    return Encoder()


def facts_at(video_id, seconds):
    """The facts of the shot that runs at this second; none close to a cut."""
    for shot in SHOTS[video_id]:
        if shot["start_s"] + EDGE <= seconds <= shot["end_s"] - EDGE:
            return frozenset(shot["facts"])
    return None


@pytest.fixture(scope="module")
def frames(sample_town, tmp_path_factory):
    """The frames of all the films as the sample collection has stored them: (vectors, facts)."""
    vectors, table = (tmp_path_factory.mktemp("frames") / name for name in ("vectors.npy", "frames.csv"))
    with Collection.open(sample_town) as collection:
        assert collection.export(vectors, table) == collection.n_frames
    with table.open(encoding="utf-8") as file:
        facts = [facts_at(row["video_id"], float(row["seconds"])) for row in csv.DictReader(file)]
    rows = [i for i, found in enumerate(facts) if found is not None]
    return np.load(vectors)[rows].astype(np.float32), [facts[i] for i in rows]


def needed(expect, extra=()):
    """Facts that stand behind the tags an example expects."""
    return {FACT_OF_KIND[kind] + value for kind, value in expect.items()} | set(extra)


class TestFilms:
    def test_together_they_stay_small(self):
        assert sum((DATA / "videos" / v["file"]).stat().st_size for v in VIDEOS) < 20_000_000

    def test_every_file_is_listed_once(self):
        listed = sorted(v["file"] for v in VIDEOS)
        assert listed == sorted(p.name for p in (DATA / "videos").glob("*.mp4"))
        assert len({v["video_id"] for v in VIDEOS}) == len(VIDEOS) >= 20

    @pytest.mark.parametrize("video", VIDEOS, ids=lambda v: v["video_id"])
    def test_it_has_a_title_and_was_taken_at_the_hour_it_shows(self, video):
        assert video["title"].strip()
        taken = datetime.fromisoformat(video["captured_at"])
        assert taken.tzinfo is None
        for shot in SHOTS[video["video_id"]]:
            (time,) = (f.removeprefix("time:") for f in shot["facts"] if f.startswith("time:"))
            assert taken.hour in HOURS[time]

    @pytest.mark.parametrize("video", VIDEOS, ids=lambda v: v["video_id"])
    def test_it_is_h264_as_long_as_its_shots_and_can_be_sought_every_two_seconds(self, video):
        with av.open(str(DATA / "videos" / video["file"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 426, 240)
            packets = [p for p in container.demux(stream) if p.pts is not None]
            keys = [float(p.pts * p.time_base) for p in packets if p.is_keyframe]
            end = max(float((p.pts + p.duration) * p.time_base) for p in packets)
        assert 28 <= end <= 62
        assert end == pytest.approx(SHOTS[video["video_id"]][-1]["end_s"], abs=0.2)
        assert all(later - earlier <= 2.001 for earlier, later in pairwise(keys))

    def test_they_cover_every_place_time_and_weather(self):
        shown = set().union(*(shot["facts"] for shots in SHOTS.values() for shot in shots))
        vocabulary = tomllib.loads((DATA / "vocabulary.toml").read_text(encoding="utf-8"))
        for kind, prefix in FACT_OF_KIND.items():
            assert {prefix + label for label in vocabulary[kind]["labels"]} <= shown


class TestEncoder:
    def test_its_folder_is_small(self):
        assert sum(p.stat().st_size for p in ENCODER.iterdir()) <= 12_000_000

    def test_vectors_have_unit_length_and_one_space(self, encoder):
        image = encoder.images([Image.new("RGB", (426, 240), (90, 160, 220))])
        text = encoder.texts(["a dog on the beach"])
        assert image.shape == text.shape == (1, 128)
        assert np.linalg.norm(image) == pytest.approx(1, abs=1e-4)
        assert np.linalg.norm(text) == pytest.approx(1, abs=1e-4)

    def test_words_it_never_saw_move_a_query_less_than_words_it_knows(self, encoder):
        plain, unknown, known = encoder.texts(["a red car", "kindly a red car", "a red car at night"])
        assert plain @ unknown > plain @ known
        assert plain @ unknown > 0.95

    @pytest.mark.parametrize(("kind", "least"), [("scene", 0.9), ("time", 0.9), ("weather", 0.9)])
    def test_its_tags_are_right_on_the_films(self, encoder, frames, kind, least):
        vectors, facts = frames
        table = tomllib.loads((DATA / "vocabulary.toml").read_text(encoding="utf-8"))[kind]["labels"]
        prompts = np.stack([encoder.texts(group).mean(0) for group in table.values()])
        guesses = np.argmax(vectors @ (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).T, axis=1)
        labels, prefix = list(table), FACT_OF_KIND[kind]
        judged = [
            prefix + labels[guess] in found
            for guess, found in zip(guesses, facts, strict=True)
            if any(fact.startswith(prefix) for fact in found)
        ]
        assert np.mean(judged) >= least

    def test_a_colour_finds_what_wears_it_on_the_films(self, encoder, frames):
        vectors, facts = frames
        worn = {fact for found in facts for fact in found if fact.partition(":")[0] in COLOURED and "+" not in fact}
        precision = {}
        for fact in sorted(worn):
            kind, _, colour = fact.partition(":")
            shown = np.array([fact in found for found in facts])
            if shown.sum() >= 5:
                asked = f"someone dressed in {colour}" if kind == "clothes" else f"a {colour} {kind}"
                precision[fact] = shown[np.argsort(-(vectors @ encoder.texts([asked])[0]))[:5]].mean()
        assert len(precision) >= 60
        assert np.mean(list(precision.values())) >= 0.85


class TestExamples:
    def test_a_handful_with_the_first_promise_among_them(self):
        assert 8 <= len(EXAMPLES) <= 10
        assert "snowy street at night" in [e["query"] for e in EXAMPLES]

    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e["query"])
    def test_the_five_best_frames_show_what_was_asked(self, encoder, frames, example):
        vectors, facts = frames
        best = np.argsort(-(vectors @ encoder.texts([example["query"]])[0]))[:5]
        wanted = needed(example["expect"], example.get("facts", ()))
        assert [wanted - facts[i] for i in best] == [set()] * 5


class TestRecipes:
    """What the films and captions are made with; skipped where skia-python is not installed."""

    @pytest.fixture(autouse=True)
    def _needs_skia(self):
        pytest.importorskip("skia", reason="skia-python draws the town; data/requirements.txt installs it")

    def test_a_shot_gives_the_same_bytes_every_time(self):
        from data.recipes.casting import cast
        from data.recipes.render import frame

        for seed in range(12):
            first, again = (frame(cast(random.Random(seed)), 2.5, 160, 90) for _ in range(2))
            assert first.shape == (90, 160, 3)
            assert np.array_equal(first, again)

    def test_different_seeds_give_different_pictures(self):
        from data.recipes.casting import cast
        from data.recipes.render import frame

        pictures = {frame(cast(random.Random(seed)), 2.5, 160, 90).tobytes() for seed in range(20)}
        assert len(pictures) == 20

    def test_something_moves_in_every_shot_with_rain(self):
        from data.recipes.casting import cast
        from data.recipes.render import frame

        shot = cast(random.Random(4), place="park", weather="rain")
        assert not np.array_equal(frame(shot, 1.0, 160, 90), frame(shot, 1.5, 160, 90))

    @pytest.mark.parametrize("held_out", [False, True])
    def test_a_caption_needs_only_what_its_frame_shows(self, held_out):
        from data.recipes.captions import Captioner
        from data.recipes.casting import cast
        from data.recipes.facts import facts

        rng = random.Random(7)
        captioner = Captioner(rng, held_out)
        for _ in range(300):
            found = facts(cast(rng), rng.uniform(0, 8))
            caption = captioner.caption(found)
            assert caption.text == caption.text.strip() != ""
            assert caption.needs <= found

    def test_a_foil_differs_from_its_caption_in_nothing_but_exchanged_colours(self):
        from data.recipes.captions import Captioner
        from data.recipes.facts import facts
        from data.recipes.frames import moment

        rng = random.Random(5)
        captioner, foils = Captioner(rng), 0
        for _ in range(600):
            found = facts(*moment(rng))
            caption = captioner.caption(found)
            if caption.foil is None:
                continue
            foils += 1
            own, other = (sorted(need.partition(":")[2] for need in each.needs) for each in (caption, caption.foil))
            assert own == other
            assert caption.needs != caption.foil.needs
            assert len(caption.text.split()) == len(caption.foil.text.split())
            assert caption.needs <= found
        assert foils > 40

    def test_a_caption_that_is_true_of_no_frame_is_only_pushed_away(self):
        from data.recipes.train import contrastive_loss

        logits = torch.zeros(3, 4, requires_grad=True)
        fits = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]])
        loss = contrastive_loss(logits, fits)
        loss.backward()
        assert torch.isfinite(loss)
        assert (logits.grad[:, 3] > 0).all()
        assert (logits.grad[fits == 1] < 0).all()
        settled = contrastive_loss(torch.where(fits == 1, 50.0, -50.0), fits)
        assert settled == pytest.approx(0, abs=1e-4)

    def test_an_actor_outside_the_picture_is_no_fact(self):
        from data.recipes.facts import facts
        from data.recipes.shot import Actor, Camera, Shot

        car = Actor("car", "red", x=60, y=170, scale=1.3)
        seen = Shot("street", "day", "clear", (car,), Camera(x=100), seed=1)
        missed = Shot("street", "day", "clear", (car,), Camera(x=340, zoom=2.0), seed=1)
        assert {"car", "car:red", "vehicle"} <= facts(seen, 0.0)
        assert "empty" in facts(missed, 0.0)

    def test_an_actor_behind_another_is_no_fact(self):
        from data.recipes.facts import facts
        from data.recipes.shot import Actor, Camera, Shot

        bus, dog = Actor("bus", "red", x=200, y=175), Actor("dog", "brown", x=200, y=160)
        hidden = Shot("street", "day", "clear", (bus, dog), Camera(), seed=1)
        shown = Shot("street", "day", "clear", (bus, Actor("dog", "brown", x=200, y=178)), Camera(), seed=1)
        assert "dog" not in facts(hidden, 0.0)
        assert {"dog", "bus"} <= facts(shown, 0.0)

    def test_a_twin_is_the_same_moment_in_other_colours(self):
        from dataclasses import replace

        from data.recipes.casting import twin
        from data.recipes.facts import facts
        from data.recipes.frames import moment
        from data.recipes.render import frame

        def bare(shot):
            return replace(shot, actors=tuple(replace(a, colour="red", umbrella="", looks=0) for a in shot.actors))

        exchanged = 0
        for seed in range(200):
            rng = random.Random(seed)
            shot, seconds = moment(rng)
            other = twin(rng, shot, seconds)
            first, second = facts(shot, seconds), facts(other, seconds)
            assert bare(shot) == bare(other)
            assert {f for f in first if ":" not in f} == {f for f in second if ":" not in f}
            if "empty" not in first:
                assert first != second
                assert not np.array_equal(frame(shot, seconds, 160, 90), frame(other, seconds, 160, 90))
            wearers = {(a.kind, a.colour) for a in shot.actors}, {(a.kind, a.colour) for a in other.actors}
            exchanged += wearers[0] != wearers[1] and sorted(c for _, c in wearers[0]) == sorted(
                c for _, c in wearers[1]
            )
        assert exchanged > 10

    def test_what_a_shot_is_about_is_near_as_often_as_far(self):
        from data.recipes.facts import visible
        from data.recipes.frames import moment

        spans = []
        for seed in range(600):
            shot, seconds = moment(random.Random(seed))
            if shot.actors:
                spans.append(visible(shot, shot.actors[0], seconds)[2])
        shares = np.histogram(spans, (0, 0.26, 0.46, 1.01))[0] / len(spans)
        assert shares.min() > 0.15

    def test_colours_tell_nothing_about_what_wears_them(self):
        from data.recipes.casting import COLOURS
        from data.recipes.shot import PAINTS

        painted = {kind for kind, colours in COLOURS.items() if colours == PAINTS}
        assert {"car", "bus", "bicycle", "train", "boat", "balloon", "person", "umbrella"} <= painted

    @pytest.mark.parametrize("time", ["morning", "day", "evening", "night"])
    @pytest.mark.parametrize("weather", ["clear", "rain", "snow"])
    def test_white_stays_nearer_to_white_than_to_any_other_colour_in_every_light(self, time, weather):
        from data.recipes.palette import NAMED, atmosphere

        for indoors in (False, True):
            light = np.array(atmosphere(time, weather, indoors).actors)
            for name, paint in NAMED.items():
                lit = np.array(paint) * light
                nearest = min(NAMED, key=lambda other: np.abs(lit - np.array(NAMED[other])).sum())
                assert nearest == name
            white = np.array(NAMED["white"]) * light
            assert white.max() - white.min() < 30
