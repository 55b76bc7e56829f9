"""Zero-shot tags: a frame gets the labels of a vocabulary whose prompts it is closest to.

A vocabulary is a TOML file with one table per kind of tag:

    scale = 100                                 # optional: factor ahead of the softmax; the encoder's own if absent

    [scene]
    mode = "one"                                # the best label
    [scene.labels]
    street = ["a street", "a city street"]      # prompts; their vectors are averaged

    [object]
    mode = "any"                                # every label that beats the background
    threshold = 0.7                             # by this probability
    background = ["an empty place"]
    only_if = ["street"]                        # optional: scenes in which the kind applies
    [object.labels]
    car = ["a car"]

Prompts and the averaging of their vectors after Radford et al., "Learning transferable visual models from natural
language supervision", 2021 (arXiv 2103.00020).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.embedding.encoder import Encoder, HasLogitScale
from engine.errors import EngineError
from engine.system import shipped, shortages

VOCABULARY = shipped.DATA / "vocabulary.toml"
SCENE = "scene"
"""The kind that `only_if` speaks of."""

_THRESHOLD = 0.7
_SCALE = 100.0
_KEYS = {
    "one": {"mode", "labels", "only_if"},
    "any": {"mode", "labels", "only_if", "threshold", "background"},
}


@dataclass(frozen=True, slots=True)
class TagKind:
    """Labels that answer one question about a frame."""

    name: str
    mode: str
    """`one`: the best label; `any`: every label whose probability against the background is above `threshold`."""
    labels: Mapping[str, tuple[str, ...]]
    """Prompts per label."""
    background: tuple[str, ...] = ()
    threshold: float = _THRESHOLD
    """Probability, 0 to 1."""
    only_if: tuple[str, ...] = ()
    """Scene labels for which this kind applies; empty means all."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All kinds of tags that are given, and the softmax's scale; None stands for the encoder's own."""

    kinds: tuple[TagKind, ...]
    scale: float | None = None


def load_vocabulary(path: Path | str | None = None) -> Vocabulary:
    """Read a vocabulary, by default `data/vocabulary.toml`.

    Raises
    ------
    EngineError
        If the file is missing or wrong; names the table and the key.
    """
    path = Path(path) if path is not None else VOCABULARY
    try:
        with shortages(f"reading {path.name}"):
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"The vocabulary {path} cannot be read: {error}; give the path of a TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise EngineError(f"The vocabulary {path} is not valid TOML: {error}.") from error
    scale = tables.pop("scale", None)
    if scale is not None and not _positive(scale):
        raise EngineError(f"In the vocabulary {path.name}, scale must be a number above 0, not {scale!r}.")
    kinds = tuple(_kind(path.name, name, table) for name, table in tables.items())
    scenes = next((kind.labels for kind in kinds if kind.name == SCENE and kind.mode == "one"), {})
    for kind in kinds:
        for scene in kind.only_if:
            if scene not in scenes or kind.name == SCENE:
                raise _wrong(path.name, kind.name, "only_if", f"names {scene!r}, which is not a label of [{SCENE}]")
    return Vocabulary(kinds, None if scale is None else float(scale))


class Tagger:
    """Tags frames by their vectors; the prompts are encoded once, when it is made."""

    def __init__(self, encoder: Encoder, vocabulary: Vocabulary | None = None) -> None:
        self.vocabulary = vocabulary or load_vocabulary()
        self._scale = self.vocabulary.scale or (encoder.logit_scale if isinstance(encoder, HasLogitScale) else _SCALE)
        self._dim = encoder.dim
        # All at once: a service takes many texts in one request.
        told = [
            text for kind in self.vocabulary.kinds for some in (*kind.labels.values(), kind.background) for text in some
        ]
        row_of = dict(zip(told, encoder.encode_text(told), strict=True))

        def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
            return np.stack([row_of[text] for text in texts])

        self._labels = {
            kind.name: np.stack([_mean(vectors_of(prompts)) for prompts in kind.labels.values()])
            for kind in self.vocabulary.kinds
        }
        self._background = {kind.name: vectors_of(kind.background) for kind in self.vocabulary.kinds if kind.background}

    def tag(self, vectors: NDArray[np.float32]) -> list[tuple[str, ...]]:
        """The tags `kind:label` of each frame, in the vocabulary's order.

        Parameters
        ----------
        vectors : (n, dim) float32, unit norm, of the encoder that made the tagger

        Raises
        ------
        ValueError
            If the shape is another.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._dim:
            raise ValueError(f"Vectors of shape {vectors.shape} cannot be tagged; they must be (n, {self._dim}).")
        holds: dict[str, NDArray[np.bool_]] = {kind.name: self._holds(kind, vectors) for kind in self.vocabulary.kinds}
        for kind in self.vocabulary.kinds:
            if kind.only_if:
                scenes = list(
                    next(scene_kind.labels for scene_kind in self.vocabulary.kinds if scene_kind.name == SCENE)
                )
                holds[kind.name] &= holds[SCENE][:, [scenes.index(scene) for scene in kind.only_if]].any(
                    1, keepdims=True
                )
        tags = np.array(
            [f"{kind.name}:{label}" for kind in self.vocabulary.kinds for label in kind.labels], dtype=object
        )
        if not len(tags):
            return [()] * len(vectors)
        return [tuple(tags[row]) for row in np.concatenate(list(holds.values()), axis=1)]

    def _holds(self, kind: TagKind, vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n, labels) bool."""
        scores = vectors @ self._labels[kind.name].T
        if kind.mode == "one":
            best: NDArray[np.bool_] = scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
            return best
        background = (vectors @ self._background[kind.name].T).max(axis=1, keepdims=True)
        margin = self._scale * (scores - background)
        passes: NDArray[np.bool_] = 1 / (1 + np.exp(-np.clip(margin, -50, 50))) >= kind.threshold
        return passes


def _mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = vectors.mean(axis=0)
    # Not `unit`: a mean of nothing stays zero, and stored tags depend on its last bits.
    direction: NDArray[np.float32] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return direction


def _wrong(file: str, table: str, key: str, fault: str) -> EngineError:
    return EngineError(f"In the vocabulary {file}, table [{table}], key {key}: {fault}.")


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _kind(file: str, name: str, table: Any) -> TagKind:
    if not isinstance(table, dict):
        raise EngineError(f"In the vocabulary {file}, {name} must be a table such as [{name}], not {table!r}.")
    mode = table.get("mode")
    if mode not in _KEYS:
        raise _wrong(file, name, "mode", f'must be "one" or "any", not {mode!r}')
    for key in table:
        if key not in _KEYS[mode]:
            raise _wrong(file, name, key, f'is not known in mode "{mode}"; known are {", ".join(sorted(_KEYS[mode]))}')
    labels = table.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise _wrong(file, name, "labels", "must be a table with at least one label and its prompts")
    threshold = table.get("threshold", _THRESHOLD)
    if not _positive(threshold) or threshold >= 1:
        raise _wrong(file, name, "threshold", f"must be a probability between 0 and 1, not {threshold!r}")
    if mode == "any" and "background" not in table:
        raise _wrong(file, name, "background", 'is missing; mode "any" compares each label with it')
    return TagKind(
        name=name,
        mode=mode,
        labels={label: _texts(file, f"{name}.labels", label, prompts) for label, prompts in labels.items()},
        background=_texts(file, name, "background", table["background"]) if "background" in table else (),
        threshold=float(threshold),
        only_if=_texts(file, name, "only_if", table["only_if"]) if "only_if" in table else (),
    )


def _texts(file: str, table: str, key: str, value: Any) -> tuple[str, ...]:
    texts: Sequence[Any] = value if isinstance(value, list) else []
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise _wrong(file, table, key, f"must be a list of texts, not {value!r}")
    return tuple(texts)
