"""The small CLIP: its shape, its tokens in training, and how it is shipped."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

from data.recipes.frames import HEIGHT, WIDTH

ENCODER = Path(__file__).resolve().parent.parent / "encoder"
CONTEXT = 24
VOCABULARY = 49408
START, END = 49406, 49407
UNKNOWN = 0
"""A token no caption contains; its row stays zero and stands for every word that training never saw."""
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
MODEL_CFG = {
    "embed_dim": 128,
    "vision_cfg": {
        "timm_model_name": "regnetx_002",
        "timm_model_pretrained": False,
        "timm_pool": "max",
        "timm_proj": "linear",
        "image_size": [HEIGHT, WIDTH],
    },
    "text_cfg": {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 64, "heads": 4, "layers": 3},
}
PREPROCESS_CFG = {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "squash"}
TRUNK_WIDTH = 368
"""Features of the image trunk before its projection."""


class Words:
    """Captions to token ids, remembering every word and every token it has met."""

    def __init__(self) -> None:
        self._tokenizer = SimpleTokenizer(context_length=CONTEXT)
        self._ids: dict[str, list[int]] = {}
        self.seen: set[int] = {START, END}

    def ids(self, caption: str) -> list[int]:
        found: list[int] = []
        for word in caption.split():
            if word not in self._ids:
                self._ids[word] = self._tokenizer.encode(word)
                self.seen.update(self._ids[word])
            found += self._ids[word]
        return found[: CONTEXT - 2]

    def batch(self, captions: Sequence[list[int]]) -> torch.Tensor:
        """(n, CONTEXT) int64, padded with zeros after the end token."""
        tokens = torch.zeros(len(captions), CONTEXT, dtype=torch.long)
        for row, ids in enumerate(captions):
            tokens[row, : len(ids) + 2] = torch.tensor([START, *ids, END])
        return tokens


def new_model() -> torch.nn.Module:
    """An untrained model of this shape."""
    with tempfile.TemporaryDirectory() as folder:
        _write_config(Path(folder))
        return open_clip.create_model(f"local-dir:{folder}", load_weights=False)


def _write_config(folder: Path) -> None:
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def ship(model: torch.nn.Module, seen: set[int]) -> Path:
    """Write the weights as float16 for ``local-dir:``; rows of tokens that training never saw become zero.

    A word the model does not know is then nearly ignored, instead of pulling the query in a random direction.
    """
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    rows = state["token_embedding.weight"]
    unseen = torch.ones(len(rows), dtype=torch.bool)
    unseen[sorted(seen)] = False
    rows[unseen] = 0
    halved = {n: (v.half() if v.is_floating_point() else v).contiguous() for n, v in state.items()}
    ENCODER.mkdir(parents=True, exist_ok=True)
    _write_config(ENCODER)
    path = ENCODER / "open_clip_model.safetensors"
    partial = path.with_suffix(".partial")
    save_file(halved, str(partial))
    partial.chmod(0o644)
    partial.rename(path)
    return path
