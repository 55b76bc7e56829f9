"""How well the sample encoder understands the town, on scenes and wordings it has never seen.

    python -m benchmarks.encoder_quality [--frames 6000] [--json]

Draws frames of new shots (one frame a shot; needs data/requirements.txt), embeds them through open_clip's public calls,
and asks in wordings that training never used. Prints precision@10 by kind of query beside the base rate (what a random
answer would reach) and the zero-shot accuracy of the tags in data/vocabulary.toml. Queries with fewer than ten
relevant frames are left out, and counted.
"""

import argparse
import json
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from data.recipes import words
from data.recipes.captions import an, plural
from data.recipes.casting import COLOURS
from data.recipes.facts import KINDS
from data.recipes.frames import HELD_OUT_SEED, example

DATA = Path(__file__).resolve().parent.parent / "data"
K = 10
FACT_OF_KIND = {"scene": "place", "time": "time", "weather": "weather"}
Vectors = NDArray[np.float32]
Facts = frozenset[str]


@dataclass(frozen=True, slots=True)
class Query:
    kind: str
    text: str
    needs: Facts


class Encoder:
    """The shipped encoder, through the calls any user of open_clip would make."""

    def __init__(self, folder: Path = DATA / "encoder") -> None:
        self._model, _, self._preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self._tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
        self._model.eval()
        self.scale = self._model.logit_scale.exp().item()

    @torch.no_grad()
    def images(self, pictures: list[NDArray[np.uint8]]) -> Vectors:
        """(n, dim) float32, unit norm."""
        made = []
        for start in range(0, len(pictures), 128):
            batch = torch.stack([self._preprocess(Image.fromarray(p)) for p in pictures[start : start + 128]])
            made.append(self._model.encode_image(batch, normalize=True).numpy())
        return np.concatenate(made)

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Vectors:
        """(n, dim) float32, unit norm."""
        return self._model.encode_text(self._tokenize(texts), normalize=True).numpy()


def _coloured(kind: str) -> list[tuple[str, Facts]]:
    noun = words.NOUNS[kind][0]
    return [(f"{an(noun)} that is {colour}", frozenset({f"{kind}:{colour}"})) for colour in COLOURS[kind]]


def queries() -> list[Query]:
    """Held-out wordings for every kind of question, with the facts that an answer must have."""
    asked: dict[str, list[tuple[str, Facts]]] = defaultdict(list)
    for place, name in words.PLACES.items():
        asked["scene"] += [(an(phrase), frozenset({f"place:{place}"})) for phrase in name.held_out]
    for time, phrases in words.HELD_OUT_TIMES.items():
        asked["time of day"] += [(f"the town {phrase}", frozenset({f"time:{time}"})) for phrase in phrases]
    for weather, phrases in words.HELD_OUT_WEATHERS.items():
        asked["outdoor weather"] += [(f"the town {phrase}", frozenset({f"weather:{weather}"})) for phrase in phrases]
    for kind in KINDS:
        noun = "person" if kind == "person" else words.NOUNS[kind][0]
        asked["main object"] += [(f"{an(noun)} somewhere in the town", frozenset({kind}))]
    for count in (1, 2, 3):
        many = "one person alone" if count == 1 else f"exactly {words.NUMBERS[count][0]} people"
        asked["count"].append((many, frozenset({f"persons:{count}"})))
        for kind in ("cow", "bird"):
            noun = words.NOUNS[kind][0]
            several = f"one {noun} alone" if count == 1 else f"exactly {words.NUMBERS[count][0]} {plural(noun)}"
            asked["count"].append((several, frozenset({f"{kind}s:{count}"})))
    for action in words.ACTIONS:
        asked["action"].append((f"somebody who is {action}", frozenset({f"action:{action}"})))
    for kind in ("car", "bus", "train", "bicycle"):
        asked["colour + vehicle"] += _coloured(kind)
    for kind in ("boat", "balloon"):
        asked["colour + boat or balloon"] += _coloured(kind)
    for kind in ("dog", "cat", "cow", "bird"):
        asked["colour + animal"] += _coloured(kind)
    for colour in COLOURS["person"]:
        dress = words.HELD_OUT_CLOTHES[0].format(colour)
        asked["colour of clothes"].append((f"somebody {dress}", frozenset({f"clothes:{colour}"})))
    asked["colour of umbrella"] += _coloured("umbrella")
    pairs = (
        ("car", "weather:snow"),
        ("bus", "time:night"),
        ("dog", "place:park"),
        ("dog", "place:beach"),
        ("cat", "place:kitchen"),
    )
    pairs += (
        ("bicycle", "weather:rain"),
        ("boat", "time:night"),
        ("train", "weather:snow"),
        ("person", "place:office"),
        ("cow", "time:evening"),
    )
    for kind, other in pairs:
        noun = "person" if kind == "person" else words.NOUNS[kind][0]
        asked["two attributes"].append((f"{an(noun)} {_held_out(other)}", frozenset({kind, other})))
    for place, other in (
        ("street", "weather:rain"),
        ("office", "time:night"),
        ("beach", "time:evening"),
        ("farm", "weather:snow"),
        ("harbour", "time:morning"),
    ):
        asked["two attributes"].append(
            (f"{an(words.PLACES[place].held_out[0])} {_held_out(other)}", frozenset({f"place:{place}", other}))
        )
    for kind, first, second in (
        ("car", "weather:snow", "time:night"),
        ("bus", "weather:rain", "time:evening"),
        ("dog", "weather:snow", "time:morning"),
        ("boat", "weather:rain", "time:night"),
        ("train", "weather:rain", "time:day"),
        ("umbrella", "time:night", "weather:rain"),
    ):
        noun = words.NOUNS[kind][0]
        asked["three attributes"].append(
            (f"{_held_out(first)} {an(noun)} {_held_out(second)}", frozenset({kind, first, second}))
        )
    for weather, time in (("snow", "night"), ("rain", "evening"), ("clear", "day")):
        text = f"{an(words.PLACES['street'].held_out[0])} {_held_out('time:' + time)} {_held_out('weather:' + weather)}"
        asked["three attributes"].append((text, frozenset({"place:street", f"time:{time}", f"weather:{weather}"})))
    openings = cycle(("", *words.HELD_OUT_OPENINGS))
    return [Query(kind, next(openings) + text, needs) for kind, pairs in asked.items() for text, needs in pairs]


def _held_out(fact: str) -> str:
    kind, _, value = fact.partition(":")
    if kind == "place":
        name = words.PLACES[value]
        return f"{name.preposition} {an(name.held_out[0])}"
    return (words.HELD_OUT_TIMES if kind == "time" else words.HELD_OUT_WEATHERS)[value][0]


def retrieval(encoder: Encoder, vectors: Vectors, facts: list[Facts]) -> dict[str, Any]:
    """Precision@10 and base rate for each kind of query, and for each query."""
    rows: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    skipped = 0
    for query in queries():
        relevant = np.array([query.needs <= found for found in facts])
        if relevant.sum() < K:
            skipped += 1
            continue
        scores = vectors @ encoder.texts([query.text])[0]
        precision = float(relevant[np.argsort(-scores)[:K]].mean())
        rows[query.kind].append((precision, float(relevant.mean()), query.text))
    kinds = {
        kind: {
            "queries": len(found),
            "precision_at_10": float(np.mean([r[0] for r in found])),
            "base_rate": float(np.mean([r[1] for r in found])),
        }
        for kind, found in rows.items()
    }
    worst = sorted(row for found in rows.values() for row in found)[:12]
    return {
        "kinds": kinds,
        "skipped": skipped,
        "worst": [{"query": text, "precision_at_10": p} for p, _, text in worst],
    }


def prompt_vectors(encoder: Encoder, prompts: list[list[str]]) -> Vectors:
    """(labels, dim): the mean of each label's prompts, unit norm."""
    means = np.stack([encoder.texts(group).mean(0) for group in prompts])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def tagging(encoder: Encoder, vectors: Vectors, facts: list[Facts]) -> dict[str, Any]:
    """Zero-shot accuracy of the one-of-many tags, precision and recall of the object tags."""
    vocabulary = tomllib.loads((DATA / "vocabulary.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for kind, fact in FACT_OF_KIND.items():
        table = vocabulary[kind]["labels"]
        labels = list(table)
        guesses = np.argmax(vectors @ prompt_vectors(encoder, list(table.values())).T, axis=1)
        truth = [next((label for label in labels if f"{fact}:{label}" in f), None) for f in facts]
        right = [labels[guess] == label for guess, label in zip(guesses, truth, strict=True) if label is not None]
        found[kind] = {"accuracy": float(np.mean(right)), "frames": len(right)}
    table = vocabulary["object"]
    background = vectors @ prompt_vectors(encoder, [table["background"]])[0]
    prompts = prompt_vectors(encoder, list(table["labels"].values()))
    probability = 1 / (1 + np.exp(-encoder.scale * (vectors @ prompts.T - background[:, None])))
    for column, label in enumerate(table["labels"]):
        truth, tagged = np.array([label in f for f in facts]), probability[:, column] >= table["threshold"]
        both = float((truth & tagged).sum())
        found[f"object {label}"] = {
            "precision": both / max(1, tagged.sum()),
            "recall": both / max(1, truth.sum()),
            "frames": int(truth.sum()),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the sample encoder.")
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    encoder = Encoder()
    pictures, facts = zip(*(example(HELD_OUT_SEED + i) for i in range(options.frames)), strict=True)
    vectors = encoder.images(list(pictures))
    found = retrieval(encoder, vectors, list(facts))
    tags = tagging(encoder, vectors, list(facts))
    if options.json:
        print(json.dumps({"frames": options.frames, **found, "tags": tags}, indent=1))
        return
    print(f"{options.frames} frames of unseen shots; {found['skipped']} queries with fewer than {K} answers left out\n")
    print("| kind of query | queries | precision@10 | base rate |\n|---|---|---|---|")
    for kind, row in found["kinds"].items():
        print(f"| {kind} | {row['queries']} | {row['precision_at_10']:.2f} | {row['base_rate']:.3f} |")
    print("\n| tag | zero-shot accuracy | frames |\n|---|---|---|")
    for kind in FACT_OF_KIND:
        print(f"| {kind} | {tags[kind]['accuracy']:.3f} | {tags[kind]['frames']} |")
    print("\n| object tag | precision | recall | frames |\n|---|---|---|---|")
    for label in (name for name in tags if name.startswith("object ")):
        row = tags[label]
        print(f"| {label.removeprefix('object ')} | {row['precision']:.2f} | {row['recall']:.2f} | {row['frames']} |")
    print("\nHardest queries: " + "; ".join(f"{w['query']} ({w['precision_at_10']:.1f})" for w in found["worst"]))


if __name__ == "__main__":
    main()
