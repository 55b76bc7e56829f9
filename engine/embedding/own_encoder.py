"""An encoder of one's own: `python:module:attribute`, where the attribute is a class, a function that makes one, or an encoder.

The module is imported from where Python finds modules (`PYTHONPATH`), and so runs. No collection brings that about: its owner names
exactly this on the command line, by `framesearch trust`, or in the environment of a server.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.embedding.answers import checked_rows, shortened
from engine.embedding.model_files import model_shortage, quoted_encoder
from engine.embedding.spec_options import SpecOptions
from engine.errors import EncoderError, EngineError
from engine.system import EncoderName, bounds

_TARGET = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")


def load_own(name: str, parsed: EncoderName) -> OwnEncoder:
    """Import the module and make the encoder; `load_encoder` says what is raised."""
    SpecOptions(name, parsed, ())
    match = _TARGET.fullmatch(parsed.target)
    if match is None:
        raise EncoderError(
            f"There is no encoder {quoted_encoder(name)}; write python:module:attribute, such as python:my_models:Gme."
        )
    module, attribute = match.groups()
    with _own_errors(name, "be loaded"):
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # The module is there; what it needs is not.
            raise EncoderError(
                f"Python finds no module {module}; put the folder of its file into PYTHONPATH."
            ) from error
        if not hasattr(loaded, attribute):
            raise EncoderError(f"The module {module} has no {attribute}; check the name of the encoder.")
        made = getattr(loaded, attribute)
        if isinstance(made, type) or (callable(made) and not hasattr(made, "encode_text")):
            made = made()
        return OwnEncoder(name, made)


class OwnEncoder:
    """An object with `dim`, `encode_text` and `encode_images`, whose answers are checked, scaled to unit norm, and whose errors are told."""

    def __init__(self, name: str, inner: Any) -> None:
        """Take the name that messages use, and the object.

        Raises
        ------
        EncoderError
            If it lacks one of the three, or `dim` is no number of numbers.
        """
        self.name = name
        self._inner = inner
        for method in ("encode_text", "encode_images"):
            if not callable(getattr(inner, method, None)):
                raise EncoderError(
                    f"The encoder {quoted_encoder(name)} has no method {method}; docs/encoders.md shows one."
                )
        dim = getattr(inner, "dim", None)
        if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or not 1 <= dim <= bounds.MAX_DIM:
            raise EncoderError(
                f"The encoder {quoted_encoder(name)} does not say in dim how many numbers its vectors have, 1 to {bounds.MAX_DIM:,}."
            )
        self.dim = int(dim)
        # Only what the object has is there: who asks goes by that.
        if hasattr(inner, "unknown_words"):
            self.unknown_words = self._unknown_words
        if hasattr(inner, "too_long"):
            self.too_long = self._too_long
        if hasattr(inner, "logit_scale"):
            self.logit_scale = float(inner.logit_scale)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm.

        Raises
        ------
        EncoderError
            If the object fails, or gives something else than that many vectors.
        """
        return self._rows(self._inner.encode_text, list(texts))

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm, of (height, width, 3) uint8 RGB images; raises as `encode_text`."""
        return self._rows(self._inner.encode_images, list(images))

    def _unknown_words(self, text: str) -> tuple[str, ...]:
        with _own_errors(self.name, "read a text"):
            return tuple(str(word) for word in self._inner.unknown_words(text))

    def _too_long(self, text: str) -> bool:
        with _own_errors(self.name, "read a text"):
            return bool(self._inner.too_long(text))

    def _rows(self, encode: Any, items: list[Any]) -> NDArray[np.float32]:
        if not items:
            return np.zeros((0, self.dim), np.float32)
        with _own_errors(self.name, "make vectors"):
            return checked_rows(self.name, encode(items), len(items), self.dim)


@contextmanager
def _own_errors(name: str, what: str) -> Iterator[None]:
    """Say in one sentence what went wrong in code of somebody else."""
    try:
        yield
    except EngineError:
        raise
    except (Exception, SystemExit) as error:
        short = model_shortage(f"the work of the encoder {quoted_encoder(name)}", error)
        reason = f"{type(error).__name__}: {shortened(str(error))}" if str(error) else type(error).__name__
        raise short or EncoderError(f"The encoder {quoted_encoder(name)} could not {what} ({reason}).") from error
