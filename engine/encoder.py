"""Text and images as unit vectors of one space: the only door to torch and open_clip.

Both are imported when an encoder is loaded, not before: the import takes seconds and brings a second OpenMP runtime.
Weights are read as plain tensors only (safetensors, or `torch.load` with `weights_only`), so a checkpoint from anywhere
cannot run code.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .durable import can_start, shortage, shortages
from .errors import EncoderError

if TYPE_CHECKING:
    import torch

SHIPPED = "town"
"""Name of the encoder that comes with the sample videos."""
SHIPPED_FOLDER = Path(__file__).resolve().parent.parent / "data" / "encoder"

_TEXTS_KEPT = 1024
_BATCH = {"cpu": 32, "cuda": 256}
_CHECKPOINTS = (".pt", ".pth", ".bin", ".safetensors")


class Encoder(Protocol):
    """Whatever turns texts and images into comparable vectors."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm."""
        ...

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm, of (height, width, 3) uint8 RGB images."""
        ...


def load_encoder(spec: str = SHIPPED, device: str | None = None) -> OpenClipEncoder:
    """Load an open_clip model.

    Parameters
    ----------
    spec : one of
        `town`, the encoder that is shipped;
        a folder that holds `open_clip_config.json` and the weights;
        `model/tag`, such as `ViT-B-32/laion2b_s34b_b79k`, downloaded once;
        `model/checkpoint`, such as `ViT-B-32//data/weights.safetensors` (.pt, .pth, .bin or .safetensors).
    device : torch device, such as `cpu` or `cuda:1`; a GPU if there is one, if None

    Raises
    ------
    EncoderError
        If the model is unknown, its weights or tokenizer cannot be had, or the device is not there; says what to do.
    """
    # OpenMP threads that spin while they wait starve each other wherever other work runs, several times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import open_clip
        import torch
    except (
        ImportError,
        RuntimeError,
        OSError,
        MemoryError,
    ) as error:  # a torchvision of another torch fails with RuntimeError
        _raise_shortage(spec, error)
        raise EncoderError(
            f"torch and open_clip cannot be imported ({_shortened(str(error))}); install open_clip_torch again, "
            "without pinning torch or torchvision alone."
        ) from error

    if not can_start(torch.get_num_threads() - 1):
        torch.set_num_threads(1)  # Its OpenMP ends the process where a thread cannot be started.
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=where)
    except (RuntimeError, AssertionError) as error:
        _raise_shortage(spec, error)
        raise EncoderError(f"The device {where!r} cannot be used here; give 'cpu', or none to choose one.") from error
    model_name, pretrained = _resolve(spec, open_clip.list_models(), open_clip.list_pretrained_tags_by_model)
    try:
        with _quietly(), _offline_if_cut_off():
            if pretrained and not Path(pretrained).is_file():
                open_clip.download_pretrained(open_clip.get_pretrained_cfg(model_name, pretrained))
            model, _, preprocess = open_clip.create_model_and_transforms(
                model_name, pretrained=pretrained, device=where, require_pretrained=True, weights_only=True
            )
            tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as error:
        _raise_shortage(spec, error)
        raise EncoderError(_cannot_load(spec, model_name, pretrained, error)) from error
    model.eval().requires_grad_(False)
    return OpenClipEncoder(spec, model, preprocess, tokenizer, torch.device(where))


def _raise_shortage(spec: str, error: BaseException) -> None:
    """A shortage is no fault of the encoder: raised as what it is, so that nobody goes on without one."""
    short = shortage(f"loading the encoder {spec!r}", error)
    if short is not None:
        raise short from error


def _resolve(spec: str, models: list[str], tags_of: Callable[[str], list[str]]) -> tuple[str, str | None]:
    """The model name and the weights that open_clip understands."""
    folder = SHIPPED_FOLDER if spec == SHIPPED else Path(spec).expanduser()
    if spec == SHIPPED or folder.is_dir():
        config = folder / "open_clip_config.json"
        if not config.is_file():
            raise EncoderError(f"The folder {folder} has no open_clip_config.json; give a folder saved by open_clip.")
        if not any(path.suffix in _CHECKPOINTS for path in folder.iterdir()):
            raise EncoderError(
                f"The folder {folder} holds no weights; put open_clip_model.safetensors beside its config."
            )
        return f"local-dir:{folder}", None
    model, slash, weights = spec.partition("/")
    if model not in models:
        raise EncoderError(
            f"There is no encoder {spec!r}; give {SHIPPED!r}, a folder with open_clip_config.json, "
            "or a model and its weights such as 'ViT-B-32/laion2b_s34b_b79k'."
        )
    tags = tags_of(model)
    if weights in tags:
        return model, weights
    path = Path(weights).expanduser()
    if slash and path.suffix in _CHECKPOINTS:
        if path.is_file():
            return model, str(path)
        raise EncoderError(f"There is no checkpoint {path}; check the path in the encoder {spec!r}.")
    known = ", ".join(tags[:4]) or "none"
    raise EncoderError(
        f"{model} has no weights {weights!r}; known are {known}, or give the path of a .pt or .safetensors checkpoint."
    )


def _cannot_load(spec: str, model: str, pretrained: str | None, error: Exception) -> str:
    if pretrained is None or Path(pretrained).is_file():
        return f"The encoder {spec!r} could not be loaded, its weights or config do not fit: {_shortened(str(error))}."
    return (
        f"The weights {pretrained} of {model} could not be downloaded and are not in the cache; connect to the network "
        f"once, or give a folder with open_clip_config.json, or '{model}/<path of a checkpoint>'."
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep open_clip's remarks off the console, and from configuring the root logger, as its first remark would."""
    silent = logging.NullHandler()
    logging.getLogger().addHandler(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(silent)


@contextmanager
def _offline_if_cut_off() -> Iterator[None]:
    """Without a way to the model hub, use its cache at once instead of trying again for most of a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    if getproxies().get("https"):
        return True
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=3).close()
    except OSError:
        return False
    return True


def _shortened(text: str) -> str:
    """On one line, without a full stop of its own."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 160 else line[:157].rstrip() + "..."


class OpenClipEncoder:
    """An open_clip model; use `load_encoder`. Safe to use from several threads, which then take turns."""

    def __init__(
        self,
        name: str,
        model: Any,
        preprocess: Callable[[Image.Image], torch.Tensor],
        tokenizer: Any,
        device: torch.device,
    ) -> None:
        import torch

        self.name = name
        self._torch = torch
        self._model, self._preprocess, self._tokenizer, self._device = model, preprocess, tokenizer, device
        self._batch = _BATCH.get(device.type, 32)
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self.dim: int = self.encode_text([""]).shape[1]
        scale = getattr(model, "logit_scale", None)
        self.logit_scale: float = float(scale.exp()) if scale is not None else 100.0
        """Factor on inner products ahead of a softmax, as trained."""
        self._unseen = self._zero_rows()
        self._strange = lru_cache(maxsize=8192)(self._is_strange)  # The same words come again and again.

    @shortages("encoding texts")
    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm. The last thousand texts are remembered.

        Raises
        ------
        EncoderError
            If the model returns numbers that are not finite.
        """
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
            fresh: dict[str, NDArray[np.float32]] = {}
            for start in range(0, len(missing), self._batch):
                batch = missing[start : start + self._batch]
                with self._torch.inference_mode():
                    vectors = self._model.encode_text(self._tokenizer(batch).to(self._device))
                fresh.update(zip(batch, self._unit(vectors), strict=True))
            found = [fresh[text] if text in fresh else self._texts[text] for text in texts]
            for text, vector in zip(texts, found, strict=True):
                self._texts[text] = vector
                self._texts.move_to_end(text)
            while len(self._texts) > _TEXTS_KEPT:
                self._texts.popitem(last=False)
        return np.stack(found) if found else np.zeros((0, self.dim), np.float32)

    @shortages("encoding pictures")
    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm, of (height, width, 3) uint8 RGB images of any sizes.

        Raises
        ------
        EncoderError
            If the model returns numbers that are not finite.
        """
        torch = self._torch
        vectors = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(images), self._batch):
            pixels = torch.stack(
                [self._preprocess(Image.fromarray(image)) for image in images[start : start + self._batch]]
            )
            with self._lock, torch.inference_mode():
                vectors.append(self._unit(self._model.encode_image(pixels.to(self._device))))
        return np.concatenate(vectors)

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words that the encoder never saw in training: a row of their tokens is zero, so it all but ignores them.

        Empty for models that were trained on everything.
        """
        if not self._unseen:
            return ()
        words = dict.fromkeys("".join(c if c.isalnum() or c in "'-" else " " for c in text).split())
        return tuple(word for word in words if self._strange(word))

    def _is_strange(self, word: str) -> bool:
        return not self._unseen.isdisjoint(self._tokens(word))

    def too_long(self, text: str) -> bool:
        """True if the end of the text is cut off, because it has more tokens than the model takes."""
        length = getattr(self._tokenizer, "context_length", None)
        return length is not None and len(self._tokens(text)) + 2 > length

    def _tokens(self, text: str) -> list[int]:
        if hasattr(self._tokenizer, "encode"):
            return list(self._tokenizer.encode(text))
        return list(self._tokenizer.tokenizer.encode(text, add_special_tokens=False))

    def _zero_rows(self) -> frozenset[int]:
        embedding = getattr(getattr(self._model, "text", self._model), "token_embedding", None)
        if embedding is None:
            return frozenset()
        rows = (embedding.weight == 0).all(dim=1).nonzero().flatten()
        return frozenset(rows.tolist())

    def _unit(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = vectors.float().cpu().numpy()
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise EncoderError(f"The encoder {self.name!r} gave vectors that are not finite; its weights are damaged.")
        unit: NDArray[np.float32] = rows / norms
        return unit
