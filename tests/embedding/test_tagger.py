"""Zero-shot tags, with an encoder whose vectors are known, and with the vocabulary that is shipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.embedding.encoder import load_encoder
from engine.embedding.tagger import VOCABULARY, Tagger, load_vocabulary
from engine.errors import EngineError

TEXT = """
scale = 10

[scene]
mode = "one"
[scene.labels]
street = ["a street", "a city street"]
kitchen = ["a kitchen"]

[weather]
mode = "one"
only_if = ["street"]
[weather.labels]
rain = ["rain"]
snow = ["snow"]

[object]
mode = "any"
threshold = 0.7
background = ["nothing", "emptiness"]
[object.labels]
car = ["a car"]
"hot dog" = ["a hot dog"]
"""
PROMPTS = ["a street", "a city street", "a kitchen", "rain", "snow", "nothing", "emptiness", "a car", "a hot dog"]


class Axes:
    """An encoder in which every prompt is an axis of its own."""

    name = "axes"
    dim = len(PROMPTS)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.eye(self.dim, dtype=np.float32)[[PROMPTS.index(text) for text in texts]]

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        raise NotImplementedError

    def frame(self, **closeness: float) -> NDArray[np.float32]:
        """A frame that is so close to these prompts (underscores stand for spaces)."""
        return np.array([closeness.get(prompt.replace(" ", "_"), 0) for prompt in PROMPTS], np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "words.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def tagger(file: Path) -> Tagger:
    return Tagger(Axes(), load_vocabulary(file))


class TestTagging:
    def test_the_best_label_of_a_kind_is_given(self, tagger: Tagger) -> None:
        frames = np.stack([Axes().frame(a_kitchen=0.5), Axes().frame(a_kitchen=0.5, a_street=0.9, snow=0.1)])
        assert tagger.tag(frames) == [("scene:kitchen",), ("scene:street", "weather:snow")]

    def test_prompts_of_a_label_are_averaged(self, tagger: Tagger) -> None:
        one_prompt = Axes().frame(a_street=0.6, a_kitchen=0.5)
        both_prompts = Axes().frame(a_street=0.4, a_city_street=0.4, a_kitchen=0.5)
        found = [tags[0] for tags in tagger.tag(np.stack([one_prompt, both_prompts]))]
        assert found == ["scene:kitchen", "scene:street"]

    def test_a_kind_is_left_out_where_its_scene_does_not_hold(self, tagger: Tagger) -> None:
        (tags,) = tagger.tag(Axes().frame(a_kitchen=0.9, rain=0.8)[None])
        assert tags == ("scene:kitchen",)

    def test_any_number_of_objects_may_beat_the_background(self, tagger: Tagger) -> None:
        frames = np.stack(
            [
                Axes().frame(a_kitchen=1, a_car=0.5, a_hot_dog=0.6, nothing=0.1),
                Axes().frame(a_kitchen=1, a_car=0.5, nothing=0.1, emptiness=0.49),
                Axes().frame(a_kitchen=1),
            ]
        )
        assert [tags[1:] for tags in tagger.tag(frames)] == [("object:car", "object:hot dog"), (), ()]

    def test_the_threshold_is_a_probability_against_the_best_background(self, tagger: Tagger) -> None:
        margin = np.log(0.7 / 0.3) / 10
        near = [Axes().frame(a_kitchen=1, a_car=0.3 + margin + step, emptiness=0.3) for step in (-0.001, 0.001)]
        assert ["object:car" in tags for tags in tagger.tag(np.stack(near))] == [False, True]

    def test_the_encoders_scale_is_used_where_the_file_gives_none(self, file: Path) -> None:
        class Sharp(Axes):
            logit_scale = 1000.0

        file.write_text(TEXT.replace("scale = 10\n", ""))
        frame = Axes().frame(a_kitchen=1, a_car=0.301, nothing=0.3)[None]
        assert Tagger(Sharp(), load_vocabulary(file)).tag(frame) == [("scene:kitchen", "object:car")]
        assert Tagger(Axes(), load_vocabulary(file)).tag(frame) == [("scene:kitchen",)]

    def test_no_frames_have_no_tags(self, tagger: Tagger) -> None:
        assert tagger.tag(np.zeros((0, Axes.dim), np.float32)) == []

    def test_an_empty_vocabulary_tags_nothing(self, file: Path) -> None:
        file.write_text("")
        assert Tagger(Axes(), load_vocabulary(file)).tag(np.ones((2, Axes.dim), np.float32)) == [(), ()]

    def test_vectors_of_another_model_are_refused(self, tagger: Tagger) -> None:
        with pytest.raises(ValueError, match=r"Vectors of shape \(2, 5\) cannot be tagged; they must be \(n, 9\)"):
            tagger.tag(np.zeros((2, 5), np.float32))

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30))
    def test_each_frame_is_tagged_as_if_it_were_alone(self, tagger: Tagger, seed: int, count: int) -> None:
        frames = np.random.default_rng(seed).normal(size=(count, Axes.dim)).astype(np.float32)
        together = tagger.tag(frames)
        assert together == [tags for frame in frames for tags in tagger.tag(frame[None])]
        assert all(sum(tag.startswith("scene:") for tag in tags) == 1 for tags in together)


class TestVocabularyFile:
    @pytest.mark.parametrize(
        ("old", "new", "sentence"),
        [
            ('mode = "any"', 'mode = "many"', """table [object], key mode: must be "one" or "any", not 'many'."""),
            ('mode = "any"\n', "", """table [object], key mode: must be "one" or "any", not None."""),
            ("threshold = 0.7", "threshold = 70", "table [object], key threshold: must be a probability"),
            ("threshold = 0.7", 'treshold = "0.7"', "table [object], key treshold: is not known in mode"),
            ('background = ["nothing", "emptiness"]\n', "", "table [object], key background: is missing"),
            (
                'rain = ["rain"]',
                'rain = "rain"',
                "table [weather.labels], key rain: must be a list of texts, not 'rain'.",
            ),
            ('rain = ["rain"]', "rain = []", "table [weather.labels], key rain: must be a list of texts, not []."),
            ('only_if = ["street"]', 'only_if = ["road"]', "table [weather], key only_if: names 'road', which is not"),
            (
                '[weather.labels]\nrain = ["rain"]\nsnow = ["snow"]\n',
                "",
                "table [weather], key labels: must be a table",
            ),
            ("scale = 10", "scale = -1", "scale must be a number above 0, not -1."),
            ("scale = 10", "size = 10", "size must be a table such as [size], not 10."),
        ],
    )
    def test_a_fault_is_named_with_its_table_and_key(self, old: str, new: str, sentence: str, file: Path) -> None:
        assert old in TEXT
        file.write_text(TEXT.replace(old, new))
        with pytest.raises(EngineError) as caught:
            load_vocabulary(file)
        assert str(caught.value).startswith("In the vocabulary words.toml, ")
        assert sentence in str(caught.value)

    def test_a_file_that_is_no_toml_is_refused_with_the_line(self, file: Path) -> None:
        file.write_text("[scene\nmode")
        with pytest.raises(EngineError, match=r"words\.toml is not valid TOML: .*line 1"):
            load_vocabulary(file)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=r"none\.toml cannot be read"):
            load_vocabulary(tmp_path / "none.toml")

    def test_the_shipped_one_is_sound(self) -> None:
        kinds = {kind.name: kind for kind in load_vocabulary().kinds}
        assert load_vocabulary(VOCABULARY) == load_vocabulary()
        assert kinds["scene"].mode == "one"
        assert "street" in kinds["scene"].labels

    def test_the_shipped_encoder_and_vocabulary_fit_each_other(self) -> None:
        encoder = load_encoder(device="cpu")
        known = {f"{kind.name}:{label}" for kind in load_vocabulary().kinds for label in kind.labels}
        tags = Tagger(encoder).tag(encoder.encode_images([np.full((72, 128, 3), 90, np.uint8)]))[0]
        assert set(tags) <= known
        assert sum(tag.startswith("scene:") for tag in tags) == 1
        prompts = [p for kind in load_vocabulary().kinds for texts in kind.labels.values() for p in texts]
        assert {prompt: encoder.unknown_words(prompt) for prompt in prompts if encoder.unknown_words(prompt)} == {}
        assert not any(encoder.too_long(prompt) for prompt in prompts)
