"""How well the sample encoder understands the town, on scenes and wordings it has never seen.

    python -m benchmarks.encoder_quality [--frames 20000] [--encoders FOLDER ...] [--sheet FILE] [--json]

Draws frames of new shots (one frame a shot; needs data/requirements.txt), embeds them as ingest does, and asks in wordings
that training never used. Prints, for each encoder and on the same frames:

* precision@10 by kind of query. Of the frames that answer a query so many are set aside, by chance, that at most one in
  twenty is an answer; queries with fewer than ten are left out, and counted.
* how often exchanged colours are told apart: of two pictures of one scene that differ only in which of two things has
  which colour, each with its own sentence and with the other's.
* how far a word that the encoder never saw moves a query.
* accuracy of the tags in data/vocabulary.toml.
* frames embedded a second, the encoders taking turns.

``--sheet`` writes a picture of the five best frames for twenty colourful queries.
"""

import argparse
import json
import multiprocessing
import random
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.common import stopwatch
from benchmarks.town_questions import COLOURFUL, Facts, drawn, exchanged, queries
from engine.embedding import load_encoder
from engine.embedding.open_clip_encoder import OpenClipEncoder
from engine.system import shipped
from engine.vectors import unit

K = 10
MOST_ANSWERS = 0.05
"""Share of the frames asked that may be right."""
FACT_OF_KIND = {"scene": "place", "time": "time", "weather": "weather"}
UNKNOWN_WORDS = ("kindly", "quokka", "zeppelin", "yesterday", "professional", "marvellous", "helicopter", "grandmother")
Vectors = NDArray[np.float32]


def embedded(encoders: Sequence[OpenClipEncoder], frames: int) -> tuple[list[Vectors], list[Facts]]:
    """Vectors of each encoder for as many new frames, and the facts of the frames."""
    vectors: list[list[Vectors]] = [[] for _ in encoders]
    found: list[Facts] = []
    with multiprocessing.get_context("spawn").Pool() as pool:
        pictures: list[NDArray[np.uint8]] = []
        for picture, facts_ in pool.imap(drawn, range(frames), chunksize=64):
            pictures.append(picture)
            found.append(facts_)
            if len(pictures) == 512 or len(found) == frames:
                for made, encoder in zip(vectors, encoders, strict=True):
                    made.append(encoder.encode_images(pictures))
                pictures = []
    return [np.concatenate(made) for made in vectors], found


def retrieval(encoder: OpenClipEncoder, vectors: Vectors, found: list[Facts]) -> dict[str, Any]:
    """Precision@10 and share of answers for each kind of query, and the hardest queries."""
    rows: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    skipped = 0
    for number, query in enumerate(queries()):
        answers = np.array([query.needs <= each for each in found])
        most = int(MOST_ANSWERS / (1 - MOST_ANSWERS) * (~answers).sum())
        if answers.sum() < K:
            skipped += 1
            continue
        asked = ~answers
        asked[np.random.default_rng(number).permutation(np.flatnonzero(answers))[:most]] = True
        scores = np.where(asked, vectors @ encoder.encode_text([query.text])[0], -2.0)
        precision = float(answers[np.argsort(-scores)[:K]].mean())
        rows[query.kind].append((precision, float(answers[asked].mean()), query.text))
    kinds = {
        kind: {
            "queries": len(each),
            "precision_at_10": float(np.mean([r[0] for r in each])),
            "share_of_answers": float(np.mean([r[1] for r in each])),
        }
        for kind, each in rows.items()
    }
    every = [row for each in rows.values() for row in each]
    kinds["all"] = {
        "queries": len(every),
        "precision_at_10": float(np.mean([r[0] for r in every])),
        "share_of_answers": float(np.mean([r[1] for r in every])),
    }
    return {
        "kinds": kinds,
        "skipped": skipped,
        "worst": [{"query": text, "precision_at_10": p} for p, _, text in sorted(every)[:12]],
    }


def told_apart(encoders: Sequence[OpenClipEncoder], pairs: int) -> list[float]:
    """Share of pictures with exchanged colours that lie nearer to their own sentence than to the other's, for each encoder."""
    right: list[list[bool]] = [[] for _ in encoders]
    with multiprocessing.get_context("spawn").Pool() as pool:
        for case in pool.imap(exchanged, range(100 * pairs), chunksize=16):
            if case is None:
                continue
            pictures, texts = case
            for verdicts, encoder in zip(right, encoders, strict=True):
                scores = encoder.encode_images(pictures) @ encoder.encode_text(texts).T
                verdicts += [bool(scores[0, 0] > scores[0, 1]), bool(scores[1, 1] > scores[1, 0])]
            if len(right[0]) >= 2 * pairs:
                break
    return [float(np.mean(verdicts)) for verdicts in right]


def moved(encoder: OpenClipEncoder, vectors: Vectors) -> dict[str, float]:
    """How near a query stays, and how many of its ten best frames, when a word that the encoder never saw is put into it."""
    rng = random.Random(0)
    strange = [word for word in UNKNOWN_WORDS if encoder.unknown_words(word)]
    cosines, kept = [], []
    for query in queries():
        tokens = query.text.split()
        tokens.insert(rng.randint(0, len(tokens)), rng.choice(strange))
        plain, longer = encoder.encode_text([query.text, " ".join(tokens)])
        cosines.append(float(plain @ longer))
        best = (set(np.argsort(-(vectors @ text))[:K].tolist()) for text in (plain, longer))
        kept.append(len(set.intersection(*best)) / K)
    return {
        "cosine": float(np.mean(cosines)),
        "tenth_of_cosines": float(np.quantile(cosines, 0.1)),
        "kept": float(np.mean(kept)),
    }


def pace(encoders: Sequence[OpenClipEncoder], rounds: int = 9) -> list[float]:
    """Frames a second of each encoder: the median of rounds in which they take turns."""
    pictures = [drawn(number)[0] for number in range(256)]
    seconds: list[list[float]] = [[] for _ in encoders]
    for _ in range(rounds):
        for taken, encoder in zip(seconds, encoders, strict=True):
            elapsed = stopwatch()
            encoder.encode_images(pictures)
            taken.append(elapsed())
    return [len(pictures) / float(np.median(taken)) for taken in seconds]


def prompt_vectors(encoder: OpenClipEncoder, prompts: list[list[str]]) -> Vectors:
    """(labels, dim): the mean of each label's prompts, unit norm."""
    means = np.stack([encoder.encode_text(group).mean(0) for group in prompts])
    return unit(means)


def tagging(encoder: OpenClipEncoder, vectors: Vectors, frames: list[Facts]) -> dict[str, Any]:
    """Zero-shot accuracy of the one-of-many tags, precision and recall of the object tags."""
    vocabulary = tomllib.loads((shipped.DATA / "vocabulary.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for kind, fact in FACT_OF_KIND.items():
        table = vocabulary[kind]["labels"]
        labels = list(table)
        guesses = np.argmax(vectors @ prompt_vectors(encoder, list(table.values())).T, axis=1)
        truth = [next((label for label in labels if f"{fact}:{label}" in f), None) for f in frames]
        right = [labels[guess] == label for guess, label in zip(guesses, truth, strict=True) if label is not None]
        found[kind] = {"accuracy": float(np.mean(right)), "frames": len(right)}
    table = vocabulary["object"]
    background = vectors @ prompt_vectors(encoder, [table["background"]])[0]
    prompts = prompt_vectors(encoder, list(table["labels"].values()))
    probability = 1 / (1 + np.exp(-encoder.logit_scale * (vectors @ prompts.T - background[:, None])))
    for column, label in enumerate(table["labels"]):
        truth, tagged = np.array([label in f for f in frames]), probability[:, column] >= table["threshold"]
        both = float((truth & tagged).sum())
        found[f"object {label}"] = {
            "precision": both / max(1, tagged.sum()),
            "recall": both / max(1, truth.sum()),
            "frames": int(truth.sum()),
        }
    return found


def sheet(encoder: OpenClipEncoder, vectors: Vectors, path: Path) -> None:
    """The five best frames for each of the colourful queries, on one picture."""
    width, height, line = 213, 120, 18
    columns = 2
    rows = -(-len(COLOURFUL) // columns)
    picture = Image.new("RGB", (columns * (5 * width + 12), rows * (height + line)), "white")
    pen = ImageDraw.Draw(picture)
    for i, text in enumerate(COLOURFUL):
        left, top = (i % columns) * (5 * width + 12), (i // columns) * (height + line)
        pen.text((left + 4, top + 2), text, fill="black", font_size=13)
        best = np.argsort(-(vectors @ encoder.encode_text([text])[0]))[:5]
        for j, number in enumerate(best.tolist()):
            frame = Image.fromarray(drawn(number)[0]).resize((width - 3, height - 2))
            picture.paste(frame, (left + j * width, top + line))
    picture.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the sample encoder.")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=500, help="scenes with exchanged colours")
    parser.add_argument("--encoders", nargs="+", default=["town"], help="folders; the one shipped, if not given")
    parser.add_argument("--sheet", type=Path, help="write the five best frames of colourful queries to this file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    encoders = [load_encoder(spec, "cpu") for spec in options.encoders]
    vectors, frames = embedded(encoders, options.frames)
    found = {
        spec: {
            **retrieval(encoder, made, frames),
            "told_apart": apart,
            "unknown_word": moved(encoder, made),
            "frames_per_second": frames_per_second,
            "tags": tagging(encoder, made, frames),
        }
        for spec, encoder, made, apart, frames_per_second in zip(
            options.encoders, encoders, vectors, told_apart(encoders, options.pairs), pace(encoders), strict=True
        )
    }
    if options.sheet:
        sheet(encoders[-1], vectors[-1], options.sheet)
    if options.json:
        print(json.dumps({"frames": options.frames, "encoders": found}, indent=1))
    else:
        tell(found, options.frames)


def tell(found: dict[str, dict[str, Any]], frames: int) -> None:
    """Print the tables, a column for each encoder."""
    every = list(found.values())
    first = every[0]
    print(f"{frames} frames of unseen shots; {first['skipped']} queries with fewer than {K} answers left out\n")
    names = " | ".join(found)
    rule = "---|" * len(every)
    print(f"| kind of query | queries | answers | {names} |\n|---|---|---|{rule}")
    for kind, row in first["kinds"].items():
        figures = " | ".join(f"{each['kinds'][kind]['precision_at_10']:.2f}" for each in every)
        print(f"| {kind} | {row['queries']} | {row['share_of_answers']:.3f} | {figures} |")
    print(f"\n| | {names} |\n|---|{rule}")
    print("| exchanged colours told apart | " + " | ".join(f"{each['told_apart']:.3f}" for each in every) + " |")
    for key, what in (
        ("cosine", "cosine of a query and the same with an unknown word"),
        ("tenth_of_cosines", "the same, tenth percentile"),
        ("kept", "share of its ten best frames that stay"),
    ):
        print(f"| {what} | " + " | ".join(f"{each['unknown_word'][key]:.3f}" for each in every) + " |")
    print("| frames embedded a second | " + " | ".join(f"{each['frames_per_second']:.0f}" for each in every) + " |")
    print(f"\n| tag | {names} | frames |\n|---|{rule}---|")
    for kind in FACT_OF_KIND:
        figures = " | ".join(f"{each['tags'][kind]['accuracy']:.3f}" for each in every)
        print(f"| {kind} | {figures} | {first['tags'][kind]['frames']} |")
    print(f"\n| object tag: precision, recall | {names} | frames |\n|---|{rule}---|")
    for label in (name for name in first["tags"] if name.startswith("object ")):
        figures = " | ".join(
            f"{each['tags'][label]['precision']:.2f}, {each['tags'][label]['recall']:.2f}" for each in every
        )
        print(f"| {label.removeprefix('object ')} | {figures} | {first['tags'][label]['frames']} |")
    for spec, each in found.items():
        print(f"\nHardest of {spec}: " + "; ".join(f"{w['query']} ({w['precision_at_10']:.1f})" for w in each["worst"]))


if __name__ == "__main__":
    main()
