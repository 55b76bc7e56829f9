"""Encoders of open_clip: the one that ships, models by name, folders, checkpoints.

torch and open_clip are imported when one is loaded, not before: the import takes seconds and brings a second OpenMP runtime.
Weights are read as plain tensors only (safetensors, or `torch.load` with `weights_only`), so a checkpoint from anywhere
cannot run code.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.embedding.answers import TextMemory, shortened
from engine.embedding.bpe import with_fast_bpe
from engine.embedding.hub import offline_without_hub, without_hub_logs
from engine.embedding.model_config import CONFIG, ModelConfig, read_config
from engine.embedding.model_files import (
    ENDINGS,
    cannot_load_sentence,
    check_format,
    existing_path,
    file_in_folder,
    load_error_reason,
    model_file_errors,
    model_shortage,
    quoted_encoder,
    weights_in,
)
from engine.embedding.torch_device import usable_device
from engine.errors import EncoderError, EngineError
from engine.system import BoundedCache, bounds, shipped, shortages
from engine.vectors import unit

if TYPE_CHECKING:
    import torch

SHIPPED = "town"
"""Name of the encoder that comes with the sample videos."""
SHIPPED_FOLDER = shipped.DATA / "encoder"

_BATCH = {"cpu": 32, "cuda": 256}


def load_open_clip(spec: str, device: str | None = None) -> OpenClipEncoder:
    """Load a model of open_clip; `load_encoder` says what the arguments may be and what is raised."""
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
            f"torch and open_clip cannot be imported ({shortened(str(error))}); install open_clip_torch again, "
            "without pinning torch or torchvision alone."
        ) from error

    where = usable_device(spec, device)
    source = _resolve(spec, open_clip.list_models(), open_clip.list_pretrained_tags_by_model)
    try:
        with without_hub_logs(), offline_without_hub(), source.opened() as (name, pretrained, tokenizer):
            model, _, preprocess = open_clip.create_model_and_transforms(
                name, pretrained=pretrained, device=where, require_pretrained=True, weights_only=True
            )
            if tokenizer is None:
                tokenizer = open_clip.get_tokenizer(name)
        model.eval().requires_grad_(False)
        return OpenClipEncoder(spec, model, preprocess, with_fast_bpe(tokenizer), torch.device(where))
    except EngineError:
        raise
    except Exception as error:
        _raise_shortage(spec, error)
        raise EncoderError(source.misfit(spec, error)) from error


def _raise_shortage(spec: str, error: BaseException) -> None:
    """Raise a shortage as one: taken for a fault of the encoder, it would leave the caller without one."""
    short = model_shortage(f"loading the encoder {quoted_encoder(spec)}", error)
    if short is not None:
        raise short from error


def _resolve(spec: str, models: list[str], tags_of: Callable[[str], list[str]]) -> _Source:
    if spec == SHIPPED:
        return _Shipped()
    folder = existing_path(spec, Path.is_dir)
    if folder is not None:
        return _Folder(folder, quoted_encoder(spec))
    model, slash, weights = spec.partition("/")
    if model not in models:
        raise EncoderError(
            f"There is no encoder {quoted_encoder(spec)}; give {SHIPPED!r}, a folder with open_clip_config.json, a model and its "
            "weights such as 'ViT-B-32/laion2b_s34b_b79k', or 'st:', 'https://' or 'python:' and what follows it."
        )
    tags = tags_of(model)
    if weights in tags:
        return _Tag(model, weights)
    if slash and weights.endswith(ENDINGS):
        path = existing_path(weights, Path.is_file)
        if path is not None:
            return _Checkpoint(model, path, quoted_encoder(spec))
        raise EncoderError(
            f"There is no checkpoint {quoted_encoder(weights)[1:-1]}; check the path in the encoder {quoted_encoder(spec)}."
        )
    known = ", ".join(tags[:4]) or "none"
    raise EncoderError(
        f"{model} has no weights {quoted_encoder(weights)}; known are {known}, or give the path of a .pt or .safetensors checkpoint."
    )


class _Source:
    def opened(self) -> AbstractContextManager[tuple[str, str | None, Any]]:
        """The model's name and weights as open_clip takes them, and its tokenizer unless open_clip finds it by the name."""
        raise NotImplementedError

    def misfit(self, spec: str, error: Exception) -> str:
        """The sentence for a model that open_clip cannot load; it quotes nothing of the files."""
        return cannot_load_sentence(quoted_encoder(spec), load_error_reason(error))


class _Shipped(_Source):
    @contextmanager
    def opened(self) -> Iterator[tuple[str, str | None, Any]]:
        if not (SHIPPED_FOLDER / CONFIG).is_file():
            raise EncoderError("The encoder that is shipped is not there; put the folder data/encoder back.")
        yield f"local-dir:{SHIPPED_FOLDER}", None, None


@dataclass(frozen=True)
class _Tag(_Source):
    """Weights that open_clip knows by name, from the model hub or its cache."""

    model: str
    tag: str

    @contextmanager
    def opened(self) -> Iterator[tuple[str, str | None, Any]]:
        import open_clip

        try:
            open_clip.download_pretrained(open_clip.get_pretrained_cfg(self.model, self.tag))
        except Exception as error:
            short = model_shortage(f"fetching the weights {self.tag} of {self.model}", error)
            raise short or EncoderError(
                f"The weights {self.tag} of {self.model} could not be downloaded and are not in the cache; connect to the network "
                f"once, or give a folder with open_clip_config.json, or '{self.model}/<path of a checkpoint>'."
            ) from error
        yield self.model, self.tag, None

    def misfit(self, spec: str, error: Exception) -> str:
        if isinstance(error, ImportError):
            return super().misfit(spec, error)
        return (
            f"The weights {self.tag} of {self.model}, or its tokenizer, are damaged in the cache or could not be fetched; "
            "remove them from the cache of the model hub and connect to the network once."
        )


@dataclass(frozen=True)
class _Checkpoint(_Source):
    """Weights in a file, of a model that open_clip knows by name."""

    model: str
    weights: Path
    quoted_name: str

    @contextmanager
    def opened(self) -> Iterator[tuple[str, str | None, Any]]:
        import open_clip

        with model_file_errors(self.quoted_name):
            _check_weights(self.weights)
            if "hf_model_name" not in open_clip.get_model_config(self.model)["text_cfg"]:
                _check_size(self.model, self.weights)
        yield self.model, str(self.weights), None


@dataclass(frozen=True)
class _Folder(_Source):
    """A folder as open_clip saves it. It may come from anybody: open_clip is given what was looked through and nothing else."""

    path: Path
    quoted_name: str

    @contextmanager
    def opened(self) -> Iterator[tuple[str, str | None, Any]]:
        import open_clip

        if not os.path.lexists(self.path / CONFIG):
            raise EncoderError(f"The folder {self.quoted_name} has no {CONFIG}; give a folder saved by open_clip.")
        with model_file_errors(self.quoted_name):
            weights = weights_in(self.path)
            if weights is None:
                raise EncoderError(
                    f"The folder {self.quoted_name} holds no weights; put open_clip_model.safetensors beside its config."
                )
            configs = [open_clip.get_model_config(name)["text_cfg"] for name in open_clip.list_models()]
            known = {str(text["hf_tokenizer_name"]) for text in configs if text.get("hf_tokenizer_name")}
            config = read_config(file_in_folder(self.path, CONFIG), known)
            _check_weights(weights)
        with TemporaryDirectory(prefix="encoder-") as name:
            private = Path(name)
            (private / CONFIG).write_bytes(config.written())
            ending = "model.safetensors" if weights.suffix == ".safetensors" else "pytorch_model.bin"
            (private / f"open_clip_{ending}").symlink_to(weights.resolve())
            with model_file_errors(self.quoted_name):
                _check_size(f"local-dir:{private}", weights)
            yield f"local-dir:{private}", None, _tokenizer_of(config, self.quoted_name)


def _tokenizer_of(config: ModelConfig, name: str) -> Any:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    if not config.tokenizer:
        return SimpleTokenizer(context_length=config.context_length, **config.tokenizer_options)
    options = dict(config.tokenizer_options) | {"context_length": config.context_length, "trust_remote_code": False}
    try:
        return HFTokenizer(config.tokenizer, **options)
    except ImportError:
        raise
    except Exception as error:
        reason = f"its tokenizer {config.tokenizer} could not be fetched; connect to the network once"
        raise EncoderError(cannot_load_sentence(name, reason)) from error


def _check_weights(path: Path) -> None:
    """Raise `ValueError` for a file that is no checkpoint, or would take more memory than it has bytes."""
    import torch

    check_format(path)
    if path.suffix == ".safetensors":
        return  # Its tensors are as large as the file, or it does not load.
    try:
        told = torch.load(path, map_location="meta", weights_only=True)
        tensors = told.get("state_dict", told)
        held = sum(each.numel() * each.element_size() for each in tensors.values() if isinstance(each, torch.Tensor))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch and its unpickler raise a dozen kinds for a damaged file.
        raise ValueError("its weights hold something else than tensors, or are damaged") from error
    if held > 2 * path.stat().st_size:
        raise ValueError("its weights hold tensors that are larger than their file")


def _check_size(name: str, weights: Path) -> None:
    """Raise `ValueError` for a model that is larger than its weights; it is made without memory for that."""
    import open_clip
    import torch

    try:
        with torch.device("meta"):
            model = open_clip.create_model(
                name, device="meta", load_weights=False, pretrained_image=False, pretrained_text=False
            )
        n = sum(tensor.numel() for tensor in model.state_dict().values())
    except Exception as error:
        raise ValueError("no model can be made as its config describes it") from error
    if n > bounds.MAX_PARAMETERS:
        raise ValueError(f"its model has {n:,} numbers, and at most {bounds.MAX_PARAMETERS:,} are taken")
    nbytes = weights.stat().st_size
    if 2 * n > 1.1 * nbytes + (16 << 20):
        raise ValueError(f"its model has {n:,} numbers, and the file of its weights has only {nbytes:,} bytes")


class OpenClipEncoder:
    """A model of open_clip; use `load_encoder`. Safe to use from several threads, which then take turns."""

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
        self._texts = TextMemory()
        self.dim: int = self.encode_text([""]).shape[1]
        scale = getattr(model, "logit_scale", None)
        self.logit_scale: float = float(scale.exp()) if scale is not None else 100.0
        """Factor on inner products ahead of a softmax, as trained."""
        self._unseen = self._zero_rows()
        self._strange: BoundedCache[str, bool] = BoundedCache(8192)  # The same words come again and again.

    @shortages("encoding texts")
    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm. The last thousand texts are remembered.

        Raises
        ------
        EncoderError
            If the model returns numbers that are not finite.
        """
        with self._lock:
            rows = self._texts.rows(texts, self._encode_batch, self._batch)
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def _encode_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._computing():
            return self._unit(self._model.encode_text(self._tokenizer(list(texts)).to(self._device)))

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
            with self._lock, self._computing():
                vectors.append(self._unit(self._model.encode_image(pixels.to(self._device))))
        return np.concatenate(vectors)

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words that the encoder never saw in training: a row of their tokens is zero, so it all but ignores them.

        Empty for models that were trained on everything.
        """
        if not self._unseen:
            return ()
        words = dict.fromkeys("".join(c if c.isalnum() or c in "'-" else " " for c in text).split())
        return tuple(word for word in words if self._strange.get_or_make(word, partial(self._is_strange, word)))

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

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Translate what a model says that runs short of memory, or whose parts do not fit each other."""
        try:
            with self._torch.inference_mode():
                yield
        except EngineError:
            raise
        except Exception as error:
            short = model_shortage(f"the work of the encoder {quoted_encoder(self.name)}", error)
            reason = "it makes no vectors of texts or images"
            raise short or EncoderError(cannot_load_sentence(quoted_encoder(self.name), reason)) from error

    def _unit(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        """Raises `ValueError` for what are no rows of vectors."""
        rows: NDArray[np.float32] = vectors.float().cpu().numpy()
        if rows.ndim != 2 or rows.shape[1] != getattr(self, "dim", rows.shape[1]):
            raise ValueError("not one vector each, of as many numbers as a text's")
        try:
            return unit(rows, np.float32)
        except ValueError as error:
            raise EncoderError(
                f"The encoder {quoted_encoder(self.name)} gave vectors that are not finite; its weights are damaged."
            ) from error
