"""The encoder, with a tiny model made here, and with the one that is shipped."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engine.embedding import hub
from engine.embedding.answers import TextMemory
from engine.embedding.encoder import load_encoder
from engine.embedding.open_clip_encoder import SHIPPED, OpenClipEncoder
from engine.errors import EncoderError

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "vision_cfg": {
            "timm_model_name": "regnetx_002",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": [72, 128],
        },
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
    },
    "preprocess_cfg": {"interpolation": "bicubic", "resize_mode": "squash"},
}
UNSEEN = "xylophone"


def picture(seed: int, height: int = 90, width: int = 160) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as open_clip saves it: an untrained model that never saw one word."""
    import open_clip
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("tiny")
    (path / "open_clip_config.json").write_text(json.dumps(CONFIG))
    weights = open_clip.CLIP(**CONFIG["model_cfg"]).state_dict()
    weights["token_embedding.weight"][open_clip.tokenizer.SimpleTokenizer().encode(UNSEEN)] = 0
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file({name: value.contiguous() for name, value in halves.items()}, path / "open_clip_model.safetensors")
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenClipEncoder:
    return load_encoder(str(folder), device="cpu")


@pytest.fixture(scope="module")
def town() -> OpenClipEncoder:
    return load_encoder(device="cpu")


@pytest.fixture
def tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the tiny model known by a name, as the big ones are."""
    import open_clip

    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", CONFIG["model_cfg"])
    return "tiny-test"


class TestVectors:
    def test_texts_become_unit_vectors_in_their_order(self, encoder: OpenClipEncoder) -> None:
        vectors = encoder.encode_text(["a dog", "a cat", "a dog"])
        assert (vectors.shape, vectors.dtype) == ((3, encoder.dim), np.float32)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
        assert np.array_equal(vectors[0], vectors[2])
        assert not np.allclose(vectors[0], vectors[1])

    def test_images_of_any_sizes_become_unit_vectors_in_their_order(self, encoder: OpenClipEncoder) -> None:
        images = [
            picture(seed, height, width) for seed, (height, width) in enumerate([(90, 160), (33, 47), (200, 100)])
        ]
        together = encoder.encode_images(images)
        assert (together.shape, together.dtype) == ((3, encoder.dim), np.float32)
        assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
        alone = np.concatenate([encoder.encode_images([image]) for image in images])
        assert together == pytest.approx(alone, abs=1e-4)

    def test_more_than_a_batch_keeps_its_order(self, encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
        images = [picture(seed) for seed in range(5)]
        whole = encoder.encode_images(images)
        monkeypatch.setattr(encoder, "_batch", 2)
        assert encoder.encode_images(images) == pytest.approx(whole, abs=1e-4)
        texts = [f"text {number}" for number in range(5)]
        assert np.array_equal(encoder.encode_text(texts)[3], encoder.encode_text(["text 3"])[0])

    def test_nothing_gives_no_vectors(self, encoder: OpenClipEncoder) -> None:
        assert encoder.encode_text([]).shape == (0, encoder.dim)
        assert encoder.encode_images([]).shape == (0, encoder.dim)

    def test_they_are_those_that_open_clip_itself_computes(self, encoder: OpenClipEncoder, folder: Path) -> None:
        import open_clip
        import torch

        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        model.eval()
        image = picture(1)
        with torch.inference_mode():
            by_image = model.encode_image(preprocess(Image.fromarray(image))[None], normalize=True).numpy()
            by_text = model.encode_text(tokenizer(["a red bus at night"]), normalize=True).numpy()
        assert encoder.encode_images([image]) == pytest.approx(by_image, abs=1e-5)
        assert encoder.encode_text(["a red bus at night"]) == pytest.approx(by_text, abs=1e-5)

    def test_texts_are_remembered_up_to_a_limit(
        self, encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = TextMemory(3)
        monkeypatch.setattr(encoder, "_texts", kept)
        first = encoder.encode_text(["kept text"])
        with monkeypatch.context() as patch:
            patch.setattr(encoder._model, "encode_text", lambda tokens: pytest.fail("asked the model again"))
            assert np.array_equal(encoder.encode_text(["kept text"]), first)
        texts = [f"other {number}" for number in range(5)]
        encoder.encode_text(texts)
        assert [text for text in ("kept text", *texts) if kept.get(text) is not None] == texts[2:]

    def test_a_remembered_vector_cannot_be_changed_from_outside(self, encoder: OpenClipEncoder) -> None:
        vectors = encoder.encode_text(["a boat"])
        before = vectors.copy()
        vectors[:] = 0
        assert np.array_equal(encoder.encode_text(["a boat"]), before)

    def test_several_threads_get_the_same_answers(self, encoder: OpenClipEncoder) -> None:
        texts = [f"text of thread {number}" for number in range(4)]
        expected = np.concatenate([encoder.encode_text([text]) for text in texts])
        encoder._texts = TextMemory(1000)
        found: dict[int, NDArray[np.float32]] = {}
        threads = [
            threading.Thread(target=lambda n=number: found.__setitem__(n, encoder.encode_text(texts[n:] + texts[:n])))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(4):
            assert found[number] == pytest.approx(np.roll(expected, -number, axis=0), abs=1e-5)

    def test_damaged_weights_are_noticed(self, folder: Path) -> None:
        damaged = load_encoder(str(folder), device="cpu")
        damaged._model.text_projection.data.fill_(float("nan"))
        with pytest.raises(EncoderError, match="not finite; its weights are damaged"):
            damaged.encode_text(["anything"])


class TestWords:
    def test_words_that_were_never_seen_are_named_once(self, encoder: OpenClipEncoder) -> None:
        assert encoder.unknown_words("a xylophone, and a dog beside the xylophone!") == ("xylophone",)
        assert encoder.unknown_words("a dog's bed") == ()
        assert encoder.unknown_words(" ...") == ()

    def test_a_text_is_too_long_when_its_end_is_cut_off(self, encoder: OpenClipEncoder) -> None:
        fits, cut = " ".join(["dog"] * 22), " ".join(["dog"] * 23)
        assert not encoder.too_long(fits)
        assert encoder.too_long(cut)
        assert np.array_equal(encoder.encode_text([cut]), encoder.encode_text([cut + " cat"]))

    def test_the_trained_scale_is_told(self, encoder: OpenClipEncoder) -> None:
        assert encoder.logit_scale == pytest.approx(1 / 0.07, rel=1e-2)


class TestLoading:
    def test_a_model_by_name_takes_a_checkpoint_by_path(
        self, tiny_architecture: str, folder: Path, encoder: OpenClipEncoder, tmp_path: Path
    ) -> None:
        import torch

        torch.save({"state_dict": encoder._model.state_dict()}, tmp_path / "weights.pt")
        for path in (tmp_path / "weights.pt", folder / "open_clip_model.safetensors"):
            found = load_encoder(f"{tiny_architecture}/{path}", device="cpu")
            assert found.encode_text(["a dog"]) == pytest.approx(encoder.encode_text(["a dog"]), abs=2e-3)
            assert found.name == f"{tiny_architecture}/{path}"

    def test_a_checkpoint_cannot_run_code(self, tiny_architecture: str, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "ran",))

        (tmp_path / "trap.pt").write_bytes(pickle.dumps({"state_dict": Trap()}))
        with pytest.raises(EncoderError, match=r"could not be loaded, its weights or config do not fit"):
            load_encoder(f"{tiny_architecture}/{tmp_path / 'trap.pt'}", device="cpu")
        assert not (tmp_path / "ran").exists()

    def test_weights_of_another_model_are_refused(self, tiny_architecture: str, tmp_path: Path) -> None:
        import torch

        torch.save({"visual.weight": torch.zeros(3)}, tmp_path / "other.pt")
        with pytest.raises(EncoderError, match="do not fit"):
            load_encoder(f"{tiny_architecture}/{tmp_path / 'other.pt'}", device="cpu")

    def test_weights_that_cannot_be_downloaded_are_told_at_once(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(hub, "_reachable", lambda url: False)
        with pytest.raises(EncoderError) as caught:
            load_encoder("ViT-B-32/laion2b_s34b_b79k")
        assert str(caught.value) == (
            "The weights laion2b_s34b_b79k of ViT-B-32 could not be downloaded and are not in the cache; connect to the "
            "network once, or give a folder with open_clip_config.json, or 'ViT-B-32/<path of a checkpoint>'."
        )
        assert not constants.HF_HUB_OFFLINE

    def test_an_address_that_nobody_answers_at_is_not_reachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub, "getproxies", dict)
        assert not hub._reachable("https://127.0.0.1:9")

    @pytest.mark.parametrize(
        ("spec", "sentence"),
        [
            ("nonsense", "There is no encoder 'nonsense'; give 'town', a folder"),
            ("ViT-B-32", "ViT-B-32 has no weights ''; known are openai, "),
            ("ViT-B-32/wrong", "ViT-B-32 has no weights 'wrong'; known are openai, "),
            ("ViT-B-32/gone.pt", "There is no checkpoint gone.pt; check the path"),
        ],
    )
    def test_a_wrong_name_is_told_with_what_to_give(self, spec: str, sentence: str) -> None:
        with pytest.raises(EncoderError) as caught:
            load_encoder(spec)
        assert str(caught.value).startswith(sentence)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("device", ["cuda:99", "abacus"])
    def test_a_device_that_is_not_there_is_refused(self, device: str, folder: Path) -> None:
        with pytest.raises(EncoderError, match=f"The device '{device}' cannot be used here; give 'cpu'"):
            load_encoder(str(folder), device=device)

    def test_loading_leaves_logging_as_it_was(self, folder: Path) -> None:
        before = list(logging.getLogger().handlers)
        load_encoder(str(folder), device="cpu")
        assert logging.getLogger().handlers == before

    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(EncoderError, match=r"has no open_clip_config\.json; give a folder saved by open_clip"):
            load_encoder(str(tmp_path))

    def test_a_folder_without_weights_is_refused_and_not_filled_with_chance(self, tmp_path: Path) -> None:
        (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIG))
        with pytest.raises(EncoderError, match=r"holds no weights; put open_clip_model\.safetensors beside"):
            load_encoder(str(tmp_path))

    def test_a_broken_config_is_refused_in_one_sentence(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "open_clip_config.json").write_text("{not json")
        (tmp_path / "open_clip_model.safetensors").symlink_to(folder / "open_clip_model.safetensors")
        with pytest.raises(EncoderError, match="could not be loaded") as caught:
            load_encoder(str(tmp_path))
        assert "\n" not in str(caught.value)


class TestShippedEncoder:
    def test_it_loads_by_its_name_without_a_network(self, town: OpenClipEncoder) -> None:
        assert town.name == SHIPPED
        assert town.encode_text(["a street at night"]).shape == (1, town.dim)

    def test_it_encodes_frames(self, town: OpenClipEncoder) -> None:
        assert town.encode_images([picture(1), picture(2)]).shape == (2, town.dim)

    def test_it_knows_the_words_of_its_town(self, town: OpenClipEncoder) -> None:
        assert town.unknown_words("a dog on a street in the snow at night") == ()
