"""The encoder for GME that the documentation shows, with a Qwen2-VL of two layers in place of GME's weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.embedding import load_encoder

pytest.importorskip("transformers", reason="transformers comes with the extra st; requirements-st.txt installs it")
# Under it lie libraries with warnings of their own.
pytestmark = pytest.mark.filterwarnings("default")

DOCS = Path(__file__).parents[2] / "docs"
MARKS = ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")
SPECIAL = [f"<|{mark}|>" for mark in MARKS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    place = tmp_path_factory.mktemp("qwen")
    letters = ["<unk>", *SPECIAL, *"abcdefghijklmnopqrstuvwxyzFY .\n"]
    tokens = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        unk_token="<unk>",
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        additional_special_tokens=SPECIAL[1:],
    )
    ids = {f"{mark}_token_id": i + 1 for i, mark in enumerate(MARKS)}
    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": len(letters),
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    torch.manual_seed(0)
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image_pad_token_id"],
        video_token_id=ids["video_pad_token_id"],
        vision_start_token_id=ids["vision_start_token_id"],
        vision_end_token_id=ids["vision_end_token_id"],
    )
    Qwen2VLForConditionalGeneration(config).save_pretrained(place)
    Qwen2VLProcessor(Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor()).save_pretrained(place)
    return place


@pytest.fixture
def encoder(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.setenv("GME_MODEL", str(folder))
    yield load_encoder("python:gme_encoder:Gme")
    sys.modules.pop("gme_encoder")


def as_published(folder: Path, message: str, image: Image.Image | None) -> np.ndarray:
    """What GME's own code does with one input: embeddings with those of the picture in their places, into the text model alone."""
    import torch
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder, min_pixels=256 * 28 * 28, max_pixels=1280 * 28 * 28)
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder).eval()
    inputs = processor(text=[message], images=None if image is None else [image], return_tensors="pt")
    with torch.inference_mode():
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        if image is not None:
            seen = model.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
            embeds[inputs["input_ids"] == model.config.image_token_id] = getattr(seen, "pooler_output", seen)
        hidden = model.model.language_model(inputs_embeds=embeds, attention_mask=inputs["attention_mask"])
    vector = hidden.last_hidden_state[0, -1].numpy()
    return vector / np.linalg.norm(vector)


def test_vectors_are_those_of_the_published_code(encoder, folder):
    import gme_encoder

    images = [np.random.default_rng(seed).integers(0, 255, (90, 160 + 60 * seed, 3), dtype=np.uint8) for seed in (0, 1)]
    texts = ["a red bus", "a long street at night with many people"]
    content = "<|vision_start|><|image_pad|><|vision_end|>"
    expected = [as_published(folder, gme_encoder.chat(gme_encoder.QUERY, text), None) for text in texts]
    assert encoder.encode_text(texts) == pytest.approx(np.stack(expected), abs=1e-4)
    message = gme_encoder.chat(gme_encoder.PICTURE, content)
    expected = [as_published(folder, message, Image.fromarray(image)) for image in images]
    assert encoder.encode_images(images) == pytest.approx(np.stack(expected), abs=1e-4)
    assert encoder.dim == 32
    assert abs(expected[0] - expected[1]).max() > 0.001


def test_more_than_a_batch_keeps_its_order(encoder):
    texts = [f"a {letter} bus" for letter in "abcdefghijklmnopqr"]
    assert encoder.encode_text(texts)[17] == pytest.approx(encoder.encode_text(["a r bus"])[0], abs=1e-4)
