"""Models of sentence-transformers as encoders, with tiny ones that are built and saved here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.embedding import load_encoder
from engine.errors import EncoderError

pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is an extra; requirements-st.txt installs it"
)
# Under it lie libraries with warnings of their own.
pytestmark = pytest.mark.filterwarnings("default")

WORDS = ("a", "dog", "cat", "red", "blue", "bus", "on", "the", "street", "at", "night", "find")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CLIP of one layer, as sentence-transformers saves it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp("clip")
    vocabulary = {word: i for i, word in enumerate(("<pad>", "<s>", "</s>", "<unk>", *WORDS))}
    tokens = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=16,
    )
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 16, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            text_config=tower | text, vision_config=tower | {"image_size": 32, "patch_size": 16}, projection_dim=24
        )
    )
    model.save_pretrained(place / "plain")
    size = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size), tokenizer).save_pretrained(
        place / "plain"
    )
    SentenceTransformer(str(place / "plain"), device="cpu").save_pretrained(str(place / "saved"))
    return place / "saved"


@pytest.fixture(scope="module")
def model(folder: Path):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def encoder(folder: Path):
    return load_encoder(f"st:{folder}", device="cpu")


def picture(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_vectors_are_those_that_the_library_computes_and_of_unit_norm(encoder, model):
    texts, images = ["a red bus", "the street at night", "a red bus"], [picture(1), picture(2, 90, 33)]
    ours = encoder.encode_text(texts), encoder.encode_images(images)
    theirs = (
        model.encode(texts, normalize_embeddings=True),
        model.encode([Image.fromarray(image) for image in images], normalize_embeddings=True),
    )
    for mine, right in zip(ours, theirs, strict=True):
        assert mine.dtype == np.float32
        assert mine == pytest.approx(right, abs=1e-5)
    assert encoder.dim == 24
    assert encoder.encode_text([]).shape == encoder.encode_images([]).shape == (0, 24)
    assert encoder.logit_scale == pytest.approx(1 / 0.07, rel=1e-2)


def test_a_text_that_names_a_picture_stays_a_text(encoder, tmp_path):
    path = tmp_path / "secret.png"
    Image.fromarray(picture(3)).save(path)
    for text in (str(path), "http://127.0.0.1:9/a.jpg", "data:image/png;base64,AAAA"):
        assert encoder.encode_text([text]) != pytest.approx(encoder.encode_images([picture(3)]), abs=1e-3)
        assert encoder.encode_text([text]).shape == (1, 24)


def test_more_than_a_batch_keeps_its_order(folder, encoder):
    small = load_encoder(f"st:{folder}#batch=2", device="cpu")
    texts = [f"{word} street" for word in WORDS[:5]]
    assert small.encode_text(texts) == pytest.approx(encoder.encode_text(texts), abs=1e-5)
    images = [picture(seed) for seed in range(5)]
    assert small.encode_images(images) == pytest.approx(encoder.encode_images(images), abs=1e-5)


def test_a_prompt_stands_before_each_text_and_vectors_may_be_cut(folder, encoder):
    prompted = load_encoder(f"st:{folder}#prompt=find%20a%20&dim=8", device="cpu")
    assert prompted.dim == 8
    whole = encoder.encode_text(["find a red bus"])[:, :8]
    assert prompted.encode_text(["red bus"]) == pytest.approx(whole / np.linalg.norm(whole), abs=1e-5)
    assert prompted.encode_images([picture(1)]).shape == (1, 8)


def test_a_text_is_too_long_when_its_end_is_cut_off(encoder):
    fits, cut = " ".join(["dog"] * 14), " ".join(["dog"] * 15)
    assert not encoder.too_long(fits)
    assert encoder.too_long(cut)
    assert encoder.encode_text([cut]) == pytest.approx(encoder.encode_text([cut + " cat"]), abs=1e-6)


def test_a_model_of_texts_only_says_so_when_it_is_given_images(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import BoW

    SentenceTransformer(modules=[BoW(list(WORDS))], device="cpu").save_pretrained(str(tmp_path / "words"))
    texts = load_encoder(f"st:{tmp_path / 'words'}", device="cpu")
    assert texts.encode_text(["a red dog"]).shape == (1, len(WORDS))
    with pytest.raises(EncoderError, match="reads texts only; frames need a model that reads images as well"):
        texts.encode_images([picture(1)])


class TestFolders:
    def changed(self, folder: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    def test_code_that_comes_with_a_model_runs_only_if_its_name_says_so(self, folder, tmp_path):
        place = self.changed(folder, tmp_path)
        (place / "custom_st.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
            "from sentence_transformers.base.modules import Transformer\n"
            "class Own(Transformer): pass\n"
        )
        modules = json.loads((place / "modules.json").read_text())
        modules[0]["type"] = "custom_st.Own"
        (place / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(
            EncoderError, match=r"comes with Python code of its own, which is not run; read it, and add #trust_remote"
        ):
            load_encoder(f"st:{place}", device="cpu")
        assert not (tmp_path / "ran").exists()
        assert load_encoder(f"st:{place}#trust_remote_code=true", device="cpu").dim == 24
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize("harm", ["no weights", "cut weights", "no JSON", "empty"])
    def test_a_damaged_one_is_one_sentence(self, folder, tmp_path, harm):
        place = self.changed(folder, tmp_path)
        if harm == "no weights":
            (place / "model.safetensors").unlink()
        elif harm == "cut weights":
            (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes()[:-100])
        elif harm == "no JSON":
            (place / "modules.json").write_text("{")
        else:
            shutil.rmtree(place)
            place.mkdir()
        with pytest.raises(EncoderError, match="could not be loaded") as told:
            load_encoder(f"st:{place}", device="cpu")
        assert "\n" not in str(told.value)
        assert str(tmp_path) not in str(told.value)

    def test_what_cannot_be_had_is_told(self, monkeypatch, tmp_path):
        monkeypatch.setattr("engine.embedding.hub._reachable", lambda url: False)
        with pytest.raises(
            EncoderError, match=r"'st:nobody/no-such-model' could not be downloaded and is not in the cache"
        ):
            load_encoder("st:nobody/no-such-model", device="cpu")
        with pytest.raises(EncoderError, match=r"There is no folder of the encoder 'st:/.../gone'; check the path"):
            load_encoder(f"st:{tmp_path / 'gone'}")
        with pytest.raises(EncoderError, match="names no model"):
            load_encoder("st:")
        with pytest.raises(EncoderError, match="known are batch, dim, prompt, revision, trust_remote_code"):
            load_encoder("st:a/b#colour=red")
