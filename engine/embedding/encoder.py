"""What an encoder is, and loading one by its name: this room is the only door to torch, open_clip and sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.embedding.open_clip_encoder import SHIPPED, load_open_clip
from engine.embedding.own_encoder import load_own
from engine.embedding.sentence_encoder import load_sentence_transformers
from engine.embedding.service_encoder import load_service
from engine.errors import EncoderError
from engine.system import EncoderName, bounds


class Encoder(Protocol):
    """Turns texts and images into vectors of one space; safe to call from several threads.

    An encoder may besides have `unknown_words`, `too_long` and `logit_scale`: see `TellsUnknownWords`, `TellsTooLong`, `HasLogitScale`.
    """

    @property
    def name(self) -> str:
        """As people and messages call it."""
        ...

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        ...

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm."""
        ...

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm, of (height, width, 3) uint8 RGB images of any sizes."""
        ...


@runtime_checkable
class TellsUnknownWords(Protocol):
    """An encoder that knows which words it never saw in training; people are told, and prompts with such words fit no router."""

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Those of a text, in its order."""
        ...


@runtime_checkable
class TellsTooLong(Protocol):
    """An encoder that knows how much of a text it reads; people are told, and longer prompts fit no router."""

    def too_long(self, text: str) -> bool:
        """Whether the end of the text is cut off."""
        ...


@runtime_checkable
class HasLogitScale(Protocol):
    """An encoder that says how far apart its scores lie; zero-shot tags go by 100 otherwise."""

    @property
    def logit_scale(self) -> float:
        """Factor on inner products ahead of a softmax, as trained."""
        ...


def load_encoder(spec: str = SHIPPED, device: str | None = None) -> Encoder:
    """Load an encoder by its name; docs/encoders.md says how to choose one.

    Whoever calls this with a name out of a collection asks `Trust.check_encoder` first: some names run code or send pictures away.

    Parameters
    ----------
    spec : one of
        `town`, the encoder that is shipped;
        a folder that holds `open_clip_config.json` and the weights, see `model_config` for what the config may say;
        `model/tag` of open_clip, such as `ViT-B-32/laion2b_s34b_b79k`, downloaded once;
        `model/checkpoint` of open_clip, such as `ViT-B-32//data/weights.safetensors` (.pt, .pth, .bin or .safetensors);
        `st:model` of sentence-transformers, a name or a folder, with options after `#`, see `sentence_encoder`;
        the address of an embeddings service, such as `https://host/v1/embeddings#model=M`, see `service_encoder`;
        `python:module:attribute`, a class of one's own, see `own_encoder`.
    device : torch device, such as `cpu` or `cuda:1`; a GPU if there is one, if None. A service and an own class choose for themselves.

    Raises
    ------
    EncoderError
        If there is no such encoder, its weights or tokenizer cannot be had, the device is not there, a service does not answer, or what
        it answers is no vectors; says what to do.
    ResourceExhausted
        If there is not enough memory for it.
    """
    try:
        bounds.check_text("the name of the encoder", spec, bounds.MAX_ENCODER)
    except ValueError as error:
        raise EncoderError(str(error)) from error
    parsed = EncoderName.parse(spec)
    if parsed.source == "st":
        return load_sentence_transformers(spec, parsed, device)
    if parsed.source == "service":
        return load_service(spec, parsed)
    if parsed.source == "python":
        return load_own(spec, parsed)
    return load_open_clip(spec, device)
