"""The config of a model folder, read and looked through before open_clip sees it.

A folder may come from anybody, and what open_clip takes from a config reaches far: Python files beside it, downloads, any size of
memory. So only keys that describe a model are taken, each with the values that it may have; anything else is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from engine.system import bounds

CONFIG = "open_clip_config.json"
PLAIN_VOCABULARY = 49_408
"""Tokens of the tokenizer that open_clip brings along."""

_Check = Callable[[str, Any], None]
"""Raises `ValueError` for a value that a key, given by its full name, may not have."""
_TIMM_NAME = re.compile(r"[a-z0-9_]{1,80}(?:\.[a-z0-9_]{1,80})?")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a model folder says of its model; nothing in it runs code, fetches anything, or is larger than the bounds."""

    model: Mapping[str, Any]
    """As open_clip's `model_cfg`, without the tokenizer."""
    preprocess: Mapping[str, Any]
    """As open_clip's `preprocess_cfg`."""
    tokenizer: str
    """Name of a tokenizer that open_clip's own models use; empty for the one that it brings along."""
    tokenizer_options: Mapping[str, Any]

    @property
    def context_length(self) -> int:
        """Tokens of a text that the model reads."""
        return int(self.model["text_cfg"].get("context_length", 77))

    def written(self) -> bytes:
        """As the file that open_clip reads."""
        return json.dumps({"model_cfg": self.model, "preprocess_cfg": self.preprocess}).encode()


def read_config(path: Path, tokenizers: Collection[str]) -> ModelConfig:
    """Read `open_clip_config.json`.

    Parameters
    ----------
    tokenizers : names of those that open_clip's own models use

    Raises
    ------
    ValueError
        If it is not a file, is too large, is not JSON, or says anything that is not known or not in range; one sentence.
    OSError
        If it cannot be read.
    """
    content = bounds.read_bounded(path, bounds.MAX_MODEL_CONFIG_NBYTES)
    try:
        config = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CONFIG} is not JSON that can be read; save the model again") from error
    _table(_FILE, needed=("model_cfg",))("the file", config)
    model, preprocess = dict(config["model_cfg"]), config.get("preprocess_cfg") or {}
    vision, text = dict(model["vision_cfg"]), dict(model["text_cfg"])
    name, options = text.pop("hf_tokenizer_name", None) or "", dict(text.pop("tokenizer_kwargs", None) or {})
    mode = text.pop("tokenizer_mode", None)
    if name and name not in tokenizers:
        raise ValueError(
            "it wants a tokenizer that open_clip's own models do not use, and such a tokenizer may run code; "
            "give the name of the model and its weights, as 'ViT-B-16-SigLIP/<path of its weights>'"
        )
    if not name and text.get("vocab_size", PLAIN_VOCABULARY) < PLAIN_VOCABULARY:
        _refuse("text_cfg.vocab_size", f"is less than the {PLAIN_VOCABULARY:,} tokens of its tokenizer")
    if not name and (mode or "strip_sep_token" in options):
        _refuse("text_cfg", "has options of a tokenizer that it does not name")
    if name and mode:
        options["tokenizer_mode"] = mode
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    elif not isinstance(vision.get("layers"), list):  # A ResNet has no patches.
        _check_patches(vision)
    return ModelConfig(model | {"vision_cfg": vision, "text_cfg": text}, preprocess, name, options)


def _check_patches(vision: Mapping[str, Any]) -> None:
    size, patch = vision.get("image_size", 224), vision.get("patch_size", 16)
    if not patch:
        _refuse("vision_cfg.patch_size", "is missing")
    height, width = size if isinstance(size, list) else (size, size)
    if (height // patch) * (width // patch) > bounds.MAX_PATCHES:
        _refuse("vision_cfg", f"cuts a picture into more than {bounds.MAX_PATCHES:,} patches")


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _refuse(name: str, why: str) -> NoReturn:
    raise ValueError(f"in {CONFIG}, {name} {why}")


def _shown(key: str) -> str:
    return ascii(key if len(key) <= 40 else key[:37] + "...")


def _flag(name: str, value: Any) -> None:
    if type(value) is not bool:
        _refuse(name, "must be true or false")


def _whole(least: int, most: int) -> _Check:
    def check(name: str, value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            _refuse(name, f"must be a whole number from {least:,} to {most:,}")

    return check


def _number(least: float, most: float) -> _Check:
    def check(name: str, value: Any) -> None:
        if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
            _refuse(name, f"must be a number from {least:g} to {most:g}")

    return check


def _one_of(*known: str | bool) -> _Check:
    def check(name: str, value: Any) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in known):
            _refuse(name, f"must be one of {', '.join(json.dumps(choice) for choice in known)}")

    return check


def _or_none(inner: _Check) -> _Check:
    def check(name: str, value: Any) -> None:
        if value is not None:
            inner(name, value)

    return check


def _or_list(inner: _Check, length: int) -> _Check:
    """One value, or so many of them."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, list):
            inner(name, value)
            return
        if len(value) != length:
            _refuse(name, f"must be one number, or {length}")
        for item in value:
            inner(name, item)

    return check


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > 200:
        _refuse(name, "must be a name")


def _timm_name(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _TIMM_NAME.fullmatch(value):
        _refuse(name, "must be the name of a model of timm, not an address or a folder")


def _table(known: Mapping[str, _Check], needed: Collection[str] = ()) -> _Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, dict):
            _refuse(name, "must be a table of keys and values")
        for key in needed:
            if key not in value:
                _refuse(name, f"has no {key}")
        for key, item in value.items():
            if key in _TOWERS_OF_OTHERS:
                raise ValueError(
                    "it wants a model of the package transformers, which may run code or be fetched; "
                    "give the name of the model and its weights, as 'ViT-B-16-SigLIP/<path of its weights>'"
                )
            if key not in known:
                _refuse(name, f"holds {_shown(key)}, which is not known or not safe; take it out")
            known[key](f"{name}.{key}" if name != "the file" else key, item)

    return check


_TOWERS_OF_OTHERS = {"hf_model_name", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"}
_BLOCKS: dict[str, _Check] = {
    "mlp_ratio": _number(0.01, 16),
    "ls_init_value": _or_none(_number(-1e3, 1e3)),
    "final_ln_after_pool": _flag,
    "output_tokens": _flag,
    "act_kwargs": _or_none(_table({"approximate": _one_of("none", "tanh")})),
    "norm_kwargs": _or_none(_table({"eps": _number(0, 1)})),
    "block_type": _or_none(_one_of("default", "custom")),
    "qk_norm": _flag,
    "scaled_cosine_attn": _flag,
    "scale_heads": _flag,
    "scale_attn_inner": _flag,
    "scale_attn": _flag,
    "scale_fc": _flag,
}
_VISION: dict[str, _Check] = _BLOCKS | {
    "layers": _or_list(_whole(1, bounds.MAX_LAYERS), 4),
    "width": _whole(1, bounds.MAX_LAYER_WIDTH),
    "head_width": _whole(1, bounds.MAX_LAYER_WIDTH),
    "patch_size": _or_none(_whole(1, bounds.MAX_SIDE)),
    "image_size": _or_list(_whole(1, bounds.MAX_SIDE), 2),
    "patch_dropout": _number(0, 1),
    "attentional_pool": _one_of(False, True, "parallel", "cascade"),
    "attn_pooler_queries": _whole(1, bounds.MAX_CONTEXT),
    "attn_pooler_heads": _whole(1, bounds.MAX_HEADS),
    "no_ln_pre": _flag,
    "pos_embed_type": _one_of("learnable"),
    "pool_type": _one_of("tok", "avg"),
    "timm_model_name": _timm_name,
    "timm_model_pretrained": _flag,
    "timm_pool": _one_of("", "avg", "max", "avgmax", "catavgmax", "token", "map", "abs_attn", "rot_attn"),
    "timm_proj": _or_none(_one_of("", "linear", "mlp", "none")),
    "timm_proj_bias": _flag,
    "timm_drop": _number(0, 1),
    "timm_drop_path": _or_none(_number(0, 1)),
}
_READS: dict[str, _Check] = {
    "context_length": _whole(3, bounds.MAX_CONTEXT),
    "vocab_size": _whole(1, bounds.MAX_VOCABULARY),
    "width": _whole(1, bounds.MAX_LAYER_WIDTH),
    "heads": _whole(1, bounds.MAX_HEADS),
    "layers": _whole(1, bounds.MAX_LAYERS),
}
_TEXT: dict[str, _Check] = _BLOCKS | _READS
_TEXT |= {
    "embed_cls": _flag,
    "pad_id": _whole(0, bounds.MAX_VOCABULARY),
    "eos_id": _whole(0, bounds.MAX_VOCABULARY),
    "no_causal_mask": _flag,
    "pool_type": _one_of("first", "last", "argmax", "eos"),
    "proj_bias": _flag,
    "proj_type": _one_of("linear", "none"),
    "hf_tokenizer_name": _or_none(_text),
    "tokenizer_mode": _or_none(_one_of("", "clips")),
    "tokenizer_kwargs": _or_none(
        _table({"clean": _one_of("canonicalize", "lower", "whitespace"), "strip_sep_token": _flag})
    ),
}
_CAPTIONS: dict[str, _Check] = _BLOCKS | _READS
_CAPTIONS |= {
    "dim_head": _whole(1, bounds.MAX_LAYER_WIDTH),
    "n_queries": _whole(1, bounds.MAX_CONTEXT),
    "attn_pooler_heads": _whole(1, bounds.MAX_HEADS),
}
_MODEL: dict[str, _Check] = {
    "embed_dim": _whole(1, bounds.MAX_DIM),
    "quick_gelu": _flag,
    "custom_text": _flag,
    "init_logit_scale": _number(-100, 100),
    "init_logit_bias": _or_none(_number(-1e3, 1e3)),
    "nonscalar_logit_scale": _flag,
    "vision_cfg": _table(_VISION),
    "text_cfg": _table(_TEXT),
    "multimodal_cfg": _table(_CAPTIONS),
}
_PREPROCESS: dict[str, _Check] = {
    "size": _or_list(_whole(1, bounds.MAX_SIDE), 2),
    "mode": _one_of("RGB"),
    "mean": _or_list(_number(-1e3, 1e3), 3),
    "std": _or_list(_number(1e-6, 1e3), 3),
    "interpolation": _one_of("bicubic", "bilinear", "random"),
    "resize_mode": _one_of("shortest", "longest", "squash"),
    "fill_color": _whole(0, 255),
}
_FILE: dict[str, _Check] = {
    "model_cfg": _table(_MODEL, needed=("embed_dim", "vision_cfg", "text_cfg")),
    "preprocess_cfg": _or_none(_table({key: _or_none(check) for key, check in _PREPROCESS.items()})),
}
