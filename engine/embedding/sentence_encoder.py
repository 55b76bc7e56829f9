"""Encoders of sentence-transformers: `st:model`, a name on the model hub or a folder.

It is an extra (`requirements-st.txt`), imported when such an encoder is loaded. Texts and images are given as `{"text": ...}` and
`{"image": ...}`: a bare text that looks like a path or an address of a picture would be opened or fetched.

After `#` may stand, with `&` between them:
`prompt=` what stands before each text, or as which instruction it is read (the model's own prompt for queries, if left out);
`dim=` numbers that are kept of each vector, for models that were trained for that;
`revision=` the version on the model hub; `batch=` texts or images at a time;
`trust_remote_code=true` run the Python code that comes with the model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.embedding.answers import TextMemory, checked_rows, shortened
from engine.embedding.hub import offline_without_hub, without_hub_logs
from engine.embedding.model_files import model_shortage, quoted_encoder
from engine.embedding.spec_options import SpecOptions
from engine.embedding.torch_device import usable_device
from engine.errors import EncoderError, EngineError
from engine.system import EncoderName, bounds

_KNOWN = ("batch", "dim", "prompt", "revision", "trust_remote_code")
_BATCH = {"cpu": 8, "cuda": 32}


def load_sentence_transformers(name: str, parsed: EncoderName, device: str | None) -> SentenceEncoder:
    """Load a model; `load_encoder` says what is raised."""
    options = SpecOptions(name, parsed, _KNOWN)
    batch, dim = options.number("batch", 1, 4096), options.number("dim", 1, bounds.MAX_DIM)
    runs_code = options.flag("trust_remote_code")
    if not parsed.target:
        raise EncoderError(
            "The encoder 'st:' names no model; write st:model, such as st:sentence-transformers/clip-ViT-B-32."
        )
    folder = parsed.folder()
    if folder is not None and not folder.is_dir():
        raise EncoderError(f"There is no folder of the encoder {quoted_encoder(name)}; check the path.")
    # OpenMP threads that spin while they wait starve each other wherever other work runs, several times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from sentence_transformers import SentenceTransformer
    except (ImportError, RuntimeError, OSError, MemoryError) as error:
        short = model_shortage(f"loading the encoder {quoted_encoder(name)}", error)
        if isinstance(error, ModuleNotFoundError) and error.name == "sentence_transformers":
            raise EncoderError(
                f"The encoder {quoted_encoder(name)} needs the package sentence-transformers, which is not installed; "
                "pip install 'sentence-transformers>=6,<7'."
            ) from error
        raise short or EncoderError(
            f"torch and sentence-transformers cannot be imported ({shortened(str(error))}); install both again."
        ) from error
    if not hasattr(SentenceTransformer, "supports"):
        raise EncoderError("The package sentence-transformers is too old; pip install 'sentence-transformers>=6,<7'.")
    where = usable_device(name, device)
    try:
        with without_hub_logs(), _without_bars(), offline_without_hub():
            model = SentenceTransformer(
                str(folder) if folder is not None else parsed.target,
                device=where,
                revision=options.text("revision"),
                trust_remote_code=runs_code,
                truncate_dim=dim,
                model_kwargs=None if where == "cpu" else {"dtype": "auto"},
            )
        model.eval().requires_grad_(False)
    except EngineError:
        raise
    except Exception as error:
        short = model_shortage(f"loading the encoder {quoted_encoder(name)}", error)
        raise short or EncoderError(_why_not(name, error, folder, runs_code)) from error
    return SentenceEncoder(name, model, options.text("prompt"), batch or _BATCH.get(where.partition(":")[0], 8))


def _why_not(name: str, error: Exception, folder: Path | None, runs_code: bool) -> str:
    who, said = quoted_encoder(name), str(error)
    if "trust_remote_code" in said and not runs_code:
        return (
            f"The encoder {who} comes with Python code of its own, which is not run; read it, and add #trust_remote_code=true to its "
            "name if you trust it."
        )
    if folder is None and isinstance(error, OSError):
        return (
            f"The encoder {who} could not be downloaded and is not in the cache; check its name, connect to the network once, or give "
            "the folder of the model."
        )
    if folder is not None:
        said = said.replace(str(folder), folder.name)
    return f"The encoder {who} could not be loaded ({type(error).__name__}: {shortened(said)})."


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the progress bars of transformers off the console."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class SentenceEncoder:
    """A model of sentence-transformers; use `load_encoder`. Safe to use from several threads, which then take turns."""

    def __init__(self, name: str, model: Any, prompt: str | None, batch: int) -> None:
        self.name = name
        self._model, self._prompt, self._batch = model, prompt, batch
        # Code of a model's own reads an instruction beside each text; what sentence-transformers brings reads it for all texts.
        self._own_code = not type(model[0]).__module__.startswith("sentence_transformers.")
        self._lock = threading.Lock()
        self._texts = TextMemory()
        self.dim: int = self._encode_batch(["a photo"]).shape[1]
        scale = getattr(getattr(model, "transformers_model", None), "logit_scale", None)
        self.logit_scale: float = float(scale.exp()) if scale is not None else 100.0
        """Factor on inner products ahead of a softmax, as trained, or that of CLIP."""

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm, as the model encodes queries. The last thousand texts are remembered.

        Raises
        ------
        EncoderError
            If the model fails, or returns numbers that are not finite.
        """
        with self._lock:
            rows = self._texts.rows(texts, self._encode_batch, self._batch)
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm, of (height, width, 3) uint8 RGB images of any sizes.

        Raises
        ------
        EncoderError
            If the model reads no images, fails, or returns numbers that are not finite.
        """
        if not (self._own_code or self._model.supports("image")):
            raise EncoderError(
                f"The encoder {quoted_encoder(self.name)} reads texts only; frames need a model that reads images as well."
            )
        rows = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(images), self._batch):
            some = [{"image": Image.fromarray(image)} for image in images[start : start + self._batch]]
            with self._lock, self._computing("images"):
                answer = self._model.encode_document(some, **self._how())
                rows.append(checked_rows(self.name, answer, len(some), self.dim))
        return np.concatenate(rows)

    def too_long(self, text: str) -> bool:
        """True if the end of the text is cut off, because it has more tokens than the model takes; False where that cannot be told."""
        most = self._model.get_max_seq_length() if not self._own_code else None
        tokenizer = getattr(self._model, "tokenizer", None)
        if most is None or tokenizer is None:
            return False
        with self._lock, self._computing("texts"):
            return bool(len(tokenizer(text, truncation=False, verbose=False)["input_ids"]) > most)

    def _encode_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._computing("texts"):
            return checked_rows(self.name, self._answer(texts), len(texts), getattr(self, "dim", None))

    def _answer(self, texts: Sequence[str]) -> Any:
        if self._own_code:
            extra = {} if self._prompt is None else {"prompt": self._prompt}
            return self._model.encode([{"text": text, **extra} for text in texts], **self._how())
        plain = self._model.modalities == ["text"]  # Nothing of a text is opened then, and old modules take no more.
        return self._model.encode_query(
            list(texts) if plain else [{"text": text} for text in texts], prompt=self._prompt, **self._how()
        )

    def _how(self) -> dict[str, Any]:
        return {"batch_size": self._batch, "show_progress_bar": False, "convert_to_numpy": True}

    @contextmanager
    def _computing(self, what: str) -> Iterator[None]:
        """Say in one sentence what a model says that runs short of memory, or whose parts do not fit each other."""
        try:
            yield
        except EngineError:
            raise
        except Exception as error:
            short = model_shortage(f"the work of the encoder {quoted_encoder(self.name)}", error)
            reason = f"{type(error).__name__}: {shortened(str(error))}"
            raise short or EncoderError(
                f"The encoder {quoted_encoder(self.name)} makes no vectors of {what} ({reason})."
            ) from error
