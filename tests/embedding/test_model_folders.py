"""Model folders and checkpoints from anybody: what is sound loads, anything else is one sentence, and nothing in it runs."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.embedding.bpe import merge_pairs
from engine.embedding.encoder import load_encoder
from engine.embedding.model_config import read_config
from engine.embedding.open_clip_encoder import SHIPPED_FOLDER
from engine.errors import EncoderError
from engine.system import bounds

TINY: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
KNOWN = {"timm/ViT-B-16-SigLIP"}


def shipped() -> dict[str, dict[str, Any]]:
    """The configs of open_clip's own models, by name."""
    import open_clip

    return {name: open_clip.get_model_config(name) for name in open_clip.list_models()}


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    import open_clip

    return dict(open_clip.CLIP(**TINY["model_cfg"]).state_dict())


@pytest.fixture
def folder(tmp_path: Path, state: dict[str, Any]) -> Path:
    """A sound model folder."""
    from safetensors.torch import save_file

    path = tmp_path / "tiny"
    path.mkdir()
    (path / "open_clip_config.json").write_text(json.dumps(TINY))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path / "open_clip_model.safetensors")
    return path


def changed(*steps: str | int, to: Any) -> str:
    """The tiny config with one value changed, as JSON."""
    config = deepcopy(TINY)
    inner = config
    for step in steps[:-1]:
        inner = inner.setdefault(step, {})
    inner[steps[-1]] = to
    return json.dumps(config)


def refusal(spec: str | Path) -> str:
    """The one sentence that a model is refused with; it names no path of this machine."""
    with pytest.raises(EncoderError) as caught:
        load_encoder(str(spec), device="cpu")
    told = str(caught.value)
    assert "\n" not in told
    assert told.isprintable()
    assert len(told) < 500
    assert "/tmp" not in told
    return told


class TestSoundFolders:
    def test_a_folder_gives_the_vectors_that_open_clip_itself_computes(self, folder: Path) -> None:
        import open_clip
        import torch

        encoder = load_encoder(str(folder), device="cpu")
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        texts = ["a red bus", "x" * 300, "ein Zug, 3 Hunde & <b>"]
        with torch.inference_mode():
            expected = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts), normalize=True).numpy()
        assert encoder.encode_text(texts) == pytest.approx(expected, abs=1e-5)
        assert encoder.encode_images([np.zeros((40, 50, 3), np.uint8)]).shape == (1, 16)

    @pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "weights.pth", "weights.pt"])
    def test_weights_saved_by_torch_load_as_well(self, folder: Path, state: dict[str, Any], name: str) -> None:
        import torch

        same = load_encoder(str(folder), device="cpu").encode_text(["a dog"])
        (folder / "open_clip_model.safetensors").unlink()
        torch.save({"state_dict": state}, folder / name)
        assert load_encoder(str(folder), device="cpu").encode_text(["a dog"]) == pytest.approx(same, abs=1e-6)

    def test_files_may_be_links_where_the_cache_of_the_hub_keeps_its_files(self, folder: Path, tmp_path: Path) -> None:
        snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        for file in list(folder.iterdir()):
            hashed = f"{len(file.name):064x}"
            file.rename(blobs / hashed)
            (snapshot / file.name).symlink_to(f"../../blobs/{hashed}")
        assert load_encoder(str(snapshot), device="cpu").dim == 16

    def test_the_config_of_every_model_of_open_clip_is_taken_unless_its_text_tower_is_of_others(
        self, tmp_path: Path
    ) -> None:
        known = {config["text_cfg"].get("hf_tokenizer_name", "") for config in shipped().values()}
        taken = 0
        for name, config in shipped().items():
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps({"model_cfg": config}))
            if "hf_model_name" in config["text_cfg"]:
                with pytest.raises(ValueError, match="package transformers"):
                    read_config(path, known)
                continue
            told = read_config(path, known)
            assert told.model["embed_dim"] == config["embed_dim"]
            assert told.context_length == config["text_cfg"].get("context_length", 77)
            assert told.tokenizer == config["text_cfg"].get("hf_tokenizer_name", "")
            taken += 1
        assert taken > 100
        assert read_config(SHIPPED_FOLDER / "open_clip_config.json", known).model["embed_dim"] == 128


UNSAFE: dict[str, tuple[str, str]] = {
    "code beside the tokenizer": (
        changed("model_cfg", "text_cfg", "tokenizer_kwargs", to={"trust_remote_code": True}),
        "'trust_remote_code', which is not known or not safe",
    ),
    "a tokenizer of somebody": (
        changed("model_cfg", "text_cfg", "hf_tokenizer_name", to="somebody/tokenizer"),
        "such a tokenizer may run code",
    ),
    "a vocabulary at a path": (
        changed("model_cfg", "text_cfg", "tokenizer_kwargs", to={"bpe_path": "/etc/passwd"}),
        "'bpe_path'",
    ),
    "a pattern for the tokenizer": (
        changed("model_cfg", "text_cfg", "tokenizer_kwargs", to={"additional_special_tokens": ["(a+)+$"]}),
        "'additional_special_tokens'",
    ),
    "a download by the tokenizer": (
        changed("model_cfg", "text_cfg", "tokenizer_kwargs", to={"reduction_mask": "syntax"}),
        "'reduction_mask'",
    ),
    "a text tower of others": (changed("model_cfg", "text_cfg", "hf_model_name", to="./"), "package transformers"),
    "a text tower in the captions": (
        changed("model_cfg", "multimodal_cfg", "hf_model_name", to="gpt2"),
        "package transformers",
    ),
    "a vision tower from the hub": (
        changed("model_cfg", "vision_cfg", "timm_model_name", to="hf-hub:somebody/model"),
        "the name of a model of timm",
    ),
    "a vision tower in a folder": (
        changed("model_cfg", "vision_cfg", "timm_model_name", to="local-dir:/tmp/x"),
        "the name of a model of timm",
    ),
    "an unknown key": (changed("model_cfg", "cast_dtype", to="int"), "holds 'cast_dtype'"),
    "an unknown key of the file": (changed("auto_map", to={}), "holds 'auto_map'"),
    "options of a layer": (
        changed("model_cfg", "text_cfg", "norm_kwargs", to={"device": "cuda"}),
        "holds 'device'",
    ),
    "layers": (changed("model_cfg", "text_cfg", "layers", to=10**6), "text_cfg.layers must be a whole number from 1"),
    "layers of a list": (changed("model_cfg", "vision_cfg", "layers", to=[1, 1, 1, 10**6]), "vision_cfg.layers"),
    "a list of lists": (changed("model_cfg", "vision_cfg", "layers", to=[[1], 1, 1, 1]), "vision_cfg.layers"),
    "context": (changed("model_cfg", "text_cfg", "context_length", to=10**9), "text_cfg.context_length"),
    "vocabulary": (changed("model_cfg", "text_cfg", "vocab_size", to=10**9), "text_cfg.vocab_size"),
    "a small vocabulary": (changed("model_cfg", "text_cfg", "vocab_size", to=100), "less than the 49,408 tokens"),
    "width": (changed("model_cfg", "vision_cfg", "width", to=10**9), "vision_cfg.width"),
    "a negative width": (changed("model_cfg", "text_cfg", "width", to=-1), "text_cfg.width"),
    "a width as text": (changed("model_cfg", "text_cfg", "width", to="8"), "text_cfg.width"),
    "a width that is true": (changed("model_cfg", "text_cfg", "width", to=True), "text_cfg.width"),
    "image size": (changed("model_cfg", "vision_cfg", "image_size", to=[32, 10**9]), "vision_cfg.image_size"),
    "patches": (
        json.dumps(TINY | {"model_cfg": TINY["model_cfg"] | {"vision_cfg": {"image_size": 2048, "patch_size": 1}}}),
        "cuts a picture into more than 16,384 patches",
    ),
    "dimensions": (changed("model_cfg", "embed_dim", to=10**9), "embed_dim must be a whole number from 1 to 16,384"),
    "a larger model than its weights": (
        changed("model_cfg", "vision_cfg", to={"layers": 32, "width": 4096}),
        "numbers, and the file of its weights has only",
    ),
    "a giant of timm with tiny weights": (
        changed(
            "model_cfg", "vision_cfg", to={"timm_model_name": "eva02_enormous_patch14_clip_224", "timm_pool": "token"}
        ),
        "numbers, and the file of its weights has only",
    ),
    "heads that do not divide": (changed("model_cfg", "text_cfg", "heads", to=7), "no model can be made"),
    "preprocessing": (changed("preprocess_cfg", "size", to=10**9), "preprocess_cfg.size"),
    "a division by zero": (changed("preprocess_cfg", "std", to=[0, 0, 0]), "preprocess_cfg.std"),
    "a number that is none": (changed("preprocess_cfg", "mean", to=float("nan")), "not JSON that can be read"),
    "an infinite number": (changed("preprocess_cfg", "mean", to=7).replace("7,", "1e999,"), "preprocess_cfg.mean"),
    "a list": ("[]", "must be a table"),
    "a tower that is none": (changed("model_cfg", "text_cfg", to=[]), "text_cfg must be a table"),
    "no tower": (json.dumps({"model_cfg": {"embed_dim": 8}}), "has no vision_cfg"),
    "depth": ("[" * 100_000 + "]" * 100_000, "not JSON that can be read"),
    "a long number": ('{"model_cfg": ' + "9" * 10_000 + "}", "not JSON that can be read"),
    "a key that acts in a terminal": (changed("\x1b[31m" + "k" * 500, to=1), "holds '\\x1b[31mkkk"),
    "no text": ("\udcff", "not JSON that can be read"),
}


class TestHostileFolders:
    @pytest.mark.parametrize("case", UNSAFE)
    def test_a_config_that_reaches_too_far_is_one_sentence(self, case: str, folder: Path) -> None:
        content, sentence = UNSAFE[case]
        (folder / "open_clip_config.json").write_bytes(content.encode(errors="surrogateescape"))
        told = refusal(folder)
        assert sentence in told
        assert "could not be loaded" in told

    def test_a_tokenizer_cannot_import_what_lies_in_the_folder(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = tmp_path / "transformers.py"
        library.write_text(
            "class AutoTokenizer:\n"
            "    def from_pretrained(name, cache_dir=None, trust_remote_code=None, **kwargs):\n"
            "        assert trust_remote_code is not False\n"
            f"        open({str(tmp_path / 'ran')!r}, 'w').close()\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "transformers", raising=False)
        for name in ("anything", next(iter(KNOWN))):
            text = TINY["model_cfg"]["text_cfg"] | {"hf_tokenizer_name": name}
            for kwargs in ({"trust_remote_code": True}, {}):
                config = changed("model_cfg", "text_cfg", to=text | {"tokenizer_kwargs": kwargs})
                (folder / "open_clip_config.json").write_text(config)
                refusal(folder)
        monkeypatch.delitem(sys.modules, "transformers", raising=False)
        assert not (tmp_path / "ran").exists()

    def test_a_config_of_many_bytes_is_not_read(self, folder: Path) -> None:
        with (folder / "open_clip_config.json").open("r+b") as file:
            file.truncate(1 << 30)
        assert f"at most {bounds.MAX_MODEL_CONFIG_NBYTES:,} are read" in refusal(folder)

    @pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_model.safetensors"])
    @pytest.mark.parametrize("kind", ["pipe", "folder", "link out", "link to nothing", "link to itself", "device"])
    def test_what_is_not_a_file_of_the_folder_is_refused(
        self, folder: Path, tmp_path: Path, name: str, kind: str
    ) -> None:
        (folder / name).rename(tmp_path / "outside")
        make: dict[str, Callable[[Path], object]] = {
            "pipe": os.mkfifo,
            "folder": Path.mkdir,
            "link out": lambda path: path.symlink_to(tmp_path / "outside"),
            "link to nothing": lambda path: path.symlink_to("gone"),
            "link to itself": lambda path: path.symlink_to(name),
            "device": lambda path: path.symlink_to("/dev/zero"),
        }
        make[kind](folder / name)
        told = refusal(folder)
        assert name in told
        assert "not a file" in told if kind in ("pipe", "folder") else "is a link" in told


def torch_weights(path: Path, content: object) -> None:
    import torch

    torch.save(content, path)


class TestHostileWeights:
    @pytest.fixture
    def weights(self, folder: Path) -> Callable[[str], Path]:
        """Where to put weights of this name, in the place of the sound ones."""
        (folder / "open_clip_model.safetensors").unlink()
        return lambda name: folder / name

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"", "not a whole safetensors file"),
            (b"{}", "not a whole safetensors file"),
            ((1 << 30).to_bytes(8, "little") + b"{}", "not a whole safetensors file"),
            ((2**63).to_bytes(8, "little") + b"{}", "not a whole safetensors file"),
            ((2).to_bytes(8, "little") + b"{}", "could not be loaded"),
            (b"\x80\x02}q\x00." * 9, "not a whole safetensors file"),
        ],
    )
    def test_what_is_no_safetensors_file_is_refused(
        self, weights: Callable[[str], Path], content: bytes, sentence: str
    ) -> None:
        path = weights("open_clip_model.safetensors")
        path.write_bytes(content)
        assert sentence in refusal(path.parent)

    @pytest.mark.parametrize("shape", [[10**9, 10**9], [0, 10**18], [2**62, 4]])
    def test_tensors_of_absurd_shapes_take_no_memory(self, weights: Callable[[str], Path], shape: list[int]) -> None:
        path = weights("open_clip_model.safetensors")
        index = json.dumps({"logit_scale": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
        padding = b"\0" * (12 << 20)  # So that the file is not too small for the model.
        path.write_bytes(len(index).to_bytes(8, "little") + index + padding)
        assert "could not be loaded" in refusal(path.parent)

    def test_code_in_a_pickle_does_not_run(self, weights: Callable[[str], Path], tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "ran",))

        path = weights("open_clip_pytorch_model.bin")
        path.write_bytes(pickle.dumps({"state_dict": Trap()}))
        assert "not a checkpoint that torch saves" in refusal(path.parent)
        torch_weights(path, {"state_dict": {"logit_scale": Trap()}})
        assert "hold something else than tensors" in refusal(path.parent)
        assert not (tmp_path / "ran").exists()

    def test_packed_weights_that_would_grow_are_refused(
        self, weights: Callable[[str], Path], state: dict[str, Any], tmp_path: Path
    ) -> None:
        import torch

        path = weights("open_clip_pytorch_model.bin")
        torch_weights(tmp_path / "loose", {"filler": torch.zeros(5_000_000)})
        with (
            zipfile.ZipFile(tmp_path / "loose") as loose,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for member in loose.infolist():
                packed.writestr(member.filename, loose.read(member))
        assert path.stat().st_size < 100_000
        assert "would grow" in refusal(path.parent)

    def test_tensors_that_are_larger_than_their_file_are_refused(
        self, weights: Callable[[str], Path], state: dict[str, Any]
    ) -> None:
        import torch

        path = weights("open_clip_pytorch_model.bin")
        torch_weights(path, state | {"visual.positional_embedding": torch.zeros(1).expand(10**9, 16)})
        assert "larger than their file" in refusal(path.parent)

    @pytest.mark.parametrize("content", [[], {}, {"state_dict": []}, {"state_dict": {}}, {"logit_scale": {}}, 7])
    def test_what_holds_no_tensors_is_refused(self, weights: Callable[[str], Path], content: object) -> None:
        path = weights("open_clip_pytorch_model.bin")
        torch_weights(path, content)
        assert "could not be loaded" in refusal(path.parent)

    def test_a_model_by_name_does_not_take_more_memory_than_its_weights_have(self, tmp_path: Path) -> None:
        import torch

        torch_weights(tmp_path / "tiny.pt", {"logit_scale": torch.zeros(1)})
        assert "numbers, and the file of its weights has only" in refusal(f"ViT-bigG-14/{tmp_path / 'tiny.pt'}")

    def test_a_broken_file_in_the_cache_of_the_hub_is_said_to_be_that(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import open_clip
        from open_clip import factory

        broken = tmp_path / "open_clip_model.safetensors"
        broken.write_bytes(b"half of it")
        monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-B-32", TINY["model_cfg"])
        monkeypatch.setattr(open_clip, "download_pretrained", lambda *_, **__: str(broken))
        monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: str(broken))
        told = refusal("ViT-B-32/laion2b_s34b_b79k")
        assert "damaged in the cache" in told
        assert "remove them from the cache of the model hub" in told


class TestNames:
    @pytest.mark.parametrize(
        "spec",
        [
            "",
            "a\x00b",
            "a\nb",
            "\x1b[2J",
            "\udcff",
            "x" * 5_000,
            "x" * 600,
            "x/" * 400,
            "/" + "y" * 300,
            "~nosuchuser/x",
            "ViT-B-32/~nosuchuser/x.pt",
            "ViT-B-32/" + "z" * 600 + ".pt",
            "ViT-B-32//proc/self/mem.pt",
            "hf-hub:somebody/model",
            "local-dir:data/encoder",
            "/dev/zero",
            "ViT-B-32/" + "tag" * 200,
        ],
        ids=ascii,
    )
    def test_a_name_of_any_sort_is_answered_in_one_sentence(self, spec: str) -> None:
        assert refusal(spec).endswith(".")

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.safetensors")
        assert "There is no encoder" in refusal(tmp_path / "pipe.safetensors")
        assert "There is no checkpoint" in refusal(f"ViT-B-32/{tmp_path / 'pipe.safetensors'}")


def test_pairs_are_merged_as_the_tokenizer_of_clip_merges_them() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer, random = SimpleTokenizer(), np.random.default_rng(0)
    letters = [*"etaoinshrdlucmfgyp", *"abab", *tokenizer.byte_encoder.values()]
    for _ in range(300):
        size = int(random.integers(1, 60))
        spread = int(random.choice([3, 18, len(letters)]))
        word = "".join(letters[int(random.integers(spread))] for _ in range(size))
        symbols = [*word[:-1], word[-1] + "</w>"]
        assert " ".join(merge_pairs(symbols, tokenizer.bpe_ranks)) == SimpleTokenizer.bpe(tokenizer, word)
