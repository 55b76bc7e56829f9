"""A class of one's own as an encoder: found by its name, its answers checked, its faults told in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from engine.embedding import HasLogitScale, TellsTooLong, TellsUnknownWords, load_encoder
from engine.errors import EncoderError, ResourceExhausted

SOURCE = '''
import numpy as np

class Plain:
    """As little as an encoder needs; its vectors are lists, and of any length."""

    dim = 4

    def encode_text(self, texts):
        return [[3.0 * len(text), 1, 0, 0] for text in texts]

    def encode_images(self, images):
        return np.stack([[*image.mean(axis=(0, 1)), 1] for image in images]).astype(np.float64)

class Whole(Plain):
    logit_scale = 20

    def unknown_words(self, text):
        return [word for word in text.split() if word == "quokka"]

    def too_long(self, text):
        return len(text) > 20

def made():
    return Whole()

ready = Plain()
number = 5

class NoDim:
    encode_text = encode_images = lambda self, items: items

class NoImages:
    dim = 4
    encode_text = lambda self, texts: texts

class Faulty(Plain):
    answer = None

    def encode_text(self, texts):
        return self.answer(texts)

def faulty(answer):
    made = Faulty()
    made.answer = answer
    return lambda: made

few = faulty(lambda texts: np.ones((len(texts) + 1, 4)))
long = faulty(lambda texts: np.ones((len(texts), 5)))
flat = faulty(lambda texts: np.ones(4))
ragged = faulty(lambda texts: [[1, 2, 3, 4], [1]])
words = faulty(lambda texts: [["1", "2", "3", "4"]] * len(texts))
zero = faulty(lambda texts: np.zeros((len(texts), 4)))
nan = faulty(lambda texts: np.full((len(texts), 4), np.nan))
none = faulty(lambda texts: None)
raises = faulty(lambda texts: texts.no_such_method("secret\\n" * 3))
empty = faulty(lambda texts: (_ for _ in ()).throw(MemoryError()))
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that Python finds."""
    (tmp_path / "own_models.py").write_text(SOURCE)
    (tmp_path / "own_broken.py").write_text("import no_such_library_here\n")
    (tmp_path / "own_ends.py").write_text("import sys; sys.exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("own_models", "own_broken", "own_ends"):
        sys.modules.pop(name, None)


def test_whatever_makes_one_will_do_and_answers_become_unit_vectors():
    for attribute in ("Plain", "made", "ready"):
        encoder = load_encoder(f"python:own_models:{attribute}")
        assert (encoder.name, encoder.dim) == (f"python:own_models:{attribute}", 4)
        texts = encoder.encode_text(["a", "bb"])
        assert (texts.shape, texts.dtype) == ((2, 4), np.float32)
        assert np.linalg.norm(texts, axis=1) == pytest.approx(1, abs=1e-6)
        assert encoder.encode_images([np.full((2, 3, 3), 9, np.uint8)]).shape == (1, 4)
        assert encoder.encode_text([]).shape == encoder.encode_images([]).shape == (0, 4)


def test_what_it_does_not_tell_is_not_told():
    plain, whole = load_encoder("python:own_models:Plain"), load_encoder("python:own_models:Whole")
    for optional in (TellsUnknownWords, TellsTooLong, HasLogitScale):
        assert not isinstance(plain, optional)
        assert isinstance(whole, optional)
    assert whole.unknown_words("a quokka") == ("quokka",)
    assert whole.too_long("x" * 21)
    assert whole.logit_scale == 20.0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("python:", "There is no encoder 'python:'; write python:module:attribute, such as"),
        ("python:own_models", "write python:module:attribute"),
        ("python:own_models:Plain()", "write python:module:attribute"),
        ("python:../own_models:Plain", "write python:module:attribute"),
        ("python:own_models:Plain#dim=4", "'dim' is not known; known are none."),
        ("python:no_such_module_here:A", "Python finds no module no_such_module_here; put the folder of its file into PYTHONPATH."),
        ("python:own_models.inner:A", "Python finds no module own_models.inner"),
        ("python:own_models:Missing", "The module own_models has no Missing; check the name"),
        ("python:own_broken:A", "could not be loaded (ModuleNotFoundError: No module named 'no_such_library_here')."),
        ("python:own_ends:A", "could not be loaded (SystemExit: 3)."),
        ("python:own_models:number", "has no method encode_text; docs/encoders.md shows one."),
        ("python:own_models:NoImages", "has no method encode_images"),
        ("python:own_models:NoDim", "does not say in dim how many numbers its vectors have"),
    ],
)  # fmt: skip
def test_what_is_no_encoder_is_told_in_one_sentence(name, sentence):
    with pytest.raises(EncoderError) as told:
        load_encoder(name)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("attribute", "sentence"),
    [
        ("few", "gave 3 vectors for 2 texts or images."),
        ("long", "gave vectors of 5 numbers, not of 4."),
        ("flat", "gave no rows of numbers"),
        ("ragged", "gave no rows of numbers"),
        ("words", "gave no rows of numbers"),
        ("none", "gave no rows of numbers"),
        ("zero", "gave a vector that is all zeros or not finite."),
        ("nan", "gave a vector that is all zeros or not finite."),
        ("raises", "could not make vectors (AttributeError: 'list' object has no attribute 'no_such_method')."),
    ],
)
def test_a_wrong_answer_is_told_in_one_sentence(attribute, sentence):
    encoder = load_encoder(f"python:own_models:{attribute}")
    with pytest.raises(EncoderError) as told:
        encoder.encode_text(["a", "b"])
    assert str(told.value).startswith(f"The encoder 'python:own_models:{attribute}' ")
    assert sentence in str(told.value)


def test_a_lack_of_memory_is_told_as_one():
    with pytest.raises(ResourceExhausted, match="memory"):
        load_encoder("python:own_models:empty").encode_text(["a"])
