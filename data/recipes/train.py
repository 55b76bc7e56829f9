"""Trains the encoder on the frames drawn ahead.

    python -m data.recipes.train [--minutes 172]

Goes on from the last checkpoint if there is one. The learning rate follows the share of the time that is used, so an
interrupted run ends as an uninterrupted one would. To train a finished encoder further, ask for more minutes; to ship
what has been learned so far, for none. Each worker, a process with one thread, learns from batches of its own; they share
what they found after each step, which is faster than one process with many threads. Twins, the same frame in other
colours, come in one batch: nothing but a colour tells which caption is whose.
"""

import argparse
import json
import math
import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data.recipes import words
from data.recipes.captions import Captioner
from data.recipes.frames import FRAMES, HEIGHT, MARGIN, WIDTH, WORK
from data.recipes.model import MEAN, STD, TRUNK_WIDTH, UNKNOWN, Words, new_model, ship

BATCH = 128
CAPTIONS_EACH = 2
SIZES = ((0.12, 0.5), (0.4, 0.75), (1.0, 1.0))
"""(until this share of the time, size of the pictures): small ones first, as four times as many fit into the time."""
PEAK_RATE = 2e-3
WARMUP_STEPS = 150
HEAD_SHARE = 0.5
"""Weight of the multi-label head beside the contrastive loss."""
CHECKPOINT = WORK / "checkpoint.safetensors"
CHECKPOINT_EVERY = 180.0


@dataclass(frozen=True, slots=True)
class Frames:
    """The training set: pictures part by part (memory-mapped), and their facts."""

    parts: list[NDArray[np.uint8]]
    facts: list[frozenset[str]]
    names: dict[str, int]
    labels: NDArray[np.bool_]

    @classmethod
    def load(cls, folder: Path = FRAMES) -> "Frames":
        parts, facts = [], []
        for path in sorted(folder.glob("[0-9][0-9][0-9].npy")):
            parts.append(np.load(path, mmap_mode="r"))
            lines = path.with_suffix(".jsonl").read_text().splitlines()
            facts += [frozenset(json.loads(line)) for line in lines]
        if not parts:
            raise SystemExit("No frames to train on: run `python -m data.recipes.frames` first.")
        names = {name: i for i, name in enumerate(sorted(set().union(*facts)))}
        labels = np.zeros((len(facts), len(names)), bool)
        for row, found in enumerate(facts):
            labels[row, [names[name] for name in found]] = True
        return cls(parts, facts, names, labels)

    def pictures(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        size = len(self.parts[0])
        return np.stack([self.parts[row // size][row % size] for row in rows])


def augmented(pictures: NDArray[np.uint8], size: float) -> torch.Tensor:
    """Mirrored, shifted, a little brighter or softer: what decoding and encoding may do to a frame.

    (n, HEIGHT + MARGIN, WIDTH + MARGIN, 3) uint8 -> (n, 3, size * HEIGHT, size * WIDTH) float32, normalised.
    Colours change little, as captions name them.
    """
    n = len(pictures)
    if random.random() < 0.5:
        pictures = pictures[:, :, ::-1]
    left, top = random.randint(0, MARGIN), random.randint(0, MARGIN)
    cropped = np.ascontiguousarray(pictures[:, top : top + HEIGHT, left : left + WIDTH])
    x = torch.from_numpy(cropped).permute(0, 3, 1, 2).float()
    gain = (1 + 0.12 * (torch.rand(n, 1, 1, 1) - 0.5)) * (1 + 0.05 * (torch.rand(n, 3, 1, 1) - 0.5))
    offset = 0.06 * (torch.rand(n, 1, 1, 1) - 0.5)
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    x = x.mul_(gain / (255 * std)).add_((offset - mean) / std)
    if size < 1:
        x = F.interpolate(x, (round(HEIGHT * size), round(WIDTH * size)), mode="area")
    elif random.random() < 0.15:
        x = F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 1)
    return x.contiguous(memory_format=torch.channels_last)


def contrastive_loss(logits: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy towards an even share over all that fits, in both directions; 0 at best.

    logits : (images, captions); fits : the same shape, 1 where the caption is true of the image. A caption that is true of none
    only has to lie far from all.
    """
    loss = torch.zeros(())
    for axis in (0, 1):
        count = fits.sum(axis)
        some = count.clamp(min=1)
        spread = -(F.log_softmax(logits, axis) * fits).sum(axis) / some - some.log()
        loss = loss + spread.sum() / (2 * (count > 0).sum())
    return loss


def seed(value: int) -> None:
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value)


class Trainer:
    """Model, optimizer and progress, with checkpoints in a plain format."""

    def __init__(self, frames: Frames, worker: int = 0, workers: int = 1, halved: bool = False) -> None:
        self.frames = frames
        self.worker, self.workers = worker, workers
        self.halved = halved
        self.words = Words()
        self.little = set(self.words.ids(" ".join(words.LITTLE)))
        self.captioner = Captioner(random.Random())
        self.model = new_model()
        self.model.visual.to(memory_format=torch.channels_last)
        self.head = torch.nn.Linear(TRUNK_WIDTH, len(frames.names))
        torch.nn.init.constant_(self.head.bias, -2.0)
        self._trunk_features = torch.empty(0)
        self.model.visual.trunk.register_forward_hook(self._keep_features)
        rare = torch.from_numpy(frames.labels.mean(0)).float().clamp(1e-4, 1 - 1e-4)
        self.label_weight = ((1 - rare) / rare).sqrt().clamp(max=12)
        named = [*self.model.named_parameters(), *(("head." + n, p) for n, p in self.head.named_parameters())]
        self.named = dict(named)
        matrices = [p for n, p in named if p.ndim > 1 and not n.startswith("token_embedding")]
        others = [p for n, p in named if p.ndim <= 1 or n.startswith("token_embedding")]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            betas=(0.9, 0.98),
            eps=1e-6,
        )
        self.elapsed, self.step = 0.0, 0

    def _keep_features(self, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        self._trunk_features = output

    def save(self) -> None:
        state = {f"model.{n}": v.contiguous() for n, v in self.model.state_dict().items()}
        state |= {f"head.{n}": v for n, v in self.head.state_dict().items()}
        for name, parameter in self.named.items():
            kept = self.optimizer.state.get(parameter, {})
            state |= {f"optimizer.{name}.{key}": value.contiguous() for key, value in kept.items()}
        state["seen"] = torch.tensor(sorted(self.words.seen))
        partial = CHECKPOINT.with_suffix(".partial")
        save_file(state, str(partial), {"elapsed": str(self.elapsed), "step": str(self.step)})
        partial.rename(CHECKPOINT)

    def resume(self) -> None:
        if not CHECKPOINT.exists():
            return
        with safe_open(str(CHECKPOINT), "pt") as file:
            told = file.metadata()
        state = load_file(str(CHECKPOINT))
        self.model.load_state_dict({n.removeprefix("model."): v for n, v in state.items() if n.startswith("model.")})
        self.head.load_state_dict({n: state[f"head.{n}"] for n in ("weight", "bias")})
        for name, parameter in self.named.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"optimizer.{name}.step" in state:
                self.optimizer.state[parameter] = {key: state[f"optimizer.{name}.{key}"] for key in keys}
        self.words.seen.update(state["seen"].tolist())
        self.elapsed, self.step = float(told["elapsed"]), int(told["step"])
        print(f"resumed at step {self.step}, {self.elapsed / 60:.1f} minutes", flush=True)

    def _texts(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of some captions of each frame and of their foils, and the facts that each caption needs."""
        names = self.frames.names
        captions = [self.captioner.caption(self.frames.facts[row]) for row in rows for _ in range(CAPTIONS_EACH)]
        captions += [each.foil for each in captions if each.foil and each.foil.needs <= names.keys()]
        ids, needs = [], torch.zeros(len(captions), len(names))
        for number, caption in enumerate(captions):
            needs[number, [names[need] for need in caption.needs]] = 1
            tokens = self.words.ids(caption.text)
            if random.random() < 0.12 and (little := [i for i, token in enumerate(tokens) if token in self.little]):
                tokens[random.choice(little)] = UNKNOWN
            if random.random() < 0.12 and len(tokens) < 20:
                for _ in range(random.choice((1, 1, 2, 3))):
                    tokens.insert(random.choice((0, random.randint(0, len(tokens)))), UNKNOWN)
            ids.append(tokens[:22])
        return self.words.batch(ids), needs

    def learn(self, rows: NDArray[np.int64], rate: float, size: float) -> tuple[float, float]:
        """One step; returns the contrastive loss and the head's loss."""
        tokens, needs = self._texts(rows)
        labels = torch.from_numpy(self.frames.labels[rows]).float()
        fits = ((1 - labels) @ needs.T == 0).float()
        pictures = augmented(self.frames.pictures(rows), size)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.halved):
            images = self.model.encode_image(pictures).float()
        images = F.normalize(images, dim=-1)
        texts = self.model.encode_text(tokens, normalize=True)
        contrast = contrastive_loss(self.model.logit_scale.exp() * images @ texts.T, fits)
        features = self._trunk_features.float()
        guesses = self.head(features.mean((2, 3)) if features.ndim == 4 else features)
        head = (
            F.binary_cross_entropy_with_logits(guesses, labels, pos_weight=self.label_weight, reduction="none")
            .sum(1)
            .mean()
            / 8
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        (contrast + HEAD_SHARE * head).backward()
        self._share()
        torch.nn.utils.clip_grad_norm_(list(self.named.values()), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
            self.model.token_embedding.weight[UNKNOWN].zero_()
        self.step += 1
        return float(contrast.detach()), float(head.detach())

    def _share(self) -> None:
        """Let all workers take the same step: along the mean of their gradients, and at the same time."""
        if self.workers == 1:
            return
        rows = self.model.token_embedding.weight.grad
        met = (rows != 0).any(1).to(torch.uint8)
        dist.all_reduce(met, dist.ReduceOp.MAX)
        words = met.nonzero().flatten()
        shared = [p.grad for p in self.named.values() if p.grad is not None and p.grad is not rows]
        flat = torch.cat([torch.tensor([self.elapsed]), rows[words].flatten(), *(g.flatten() for g in shared)])
        dist.all_reduce(flat)
        elapsed, of_words, *parts = flat.div_(self.workers).split(
            [1, len(words) * rows.shape[1], *map(torch.numel, shared)]
        )
        self.elapsed = elapsed.item()
        rows[words] = of_words.view(len(words), -1)
        for gradient, part in zip(shared, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def run(self, seconds: float) -> None:
        """Learn until so many seconds are spent in all, earlier runs counted in; the first worker tells and saves."""
        seed(self.step * self.workers + self.worker)
        self.captioner.rng.seed(self.step * self.workers + self.worker)
        self.model.train()
        count, order, position = len(self.frames.facts), np.empty(0, np.int64), 0
        last = last_saved = since = time.monotonic()
        losses: list[tuple[float, float]] = []
        while self.elapsed < seconds:
            if position + BATCH // 2 > len(order):
                order, position = np.random.permutation(count // 2), 0
            rows = (2 * np.sort(order[position : position + BATCH // 2])[:, None] + (0, 1)).ravel()
            position += BATCH // 2
            share = self.elapsed / seconds
            rate = (
                PEAK_RATE
                * min(1.0, (self.step + 1) / WARMUP_STEPS)
                * (0.5 * (1 + math.cos(math.pi * share)) * 0.99 + 0.01)
            )
            self.elapsed, last = self.elapsed + time.monotonic() - last, time.monotonic()
            losses.append(self.learn(rows, rate, next(size for until, size in SIZES if share < until)))
            if self.step % 50 == 0 and self.worker == 0:
                pace = self.workers * len(losses) * BATCH / (time.monotonic() - since)
                contrast, head = np.mean(losses, 0)
                minutes = self.elapsed / 60
                print(f"{self.step} {minutes:.1f} min {contrast:.3f} + {head:.3f}, {pace:.0f} images/s", flush=True)
                losses, since = [], time.monotonic()
            if self.worker == 0 and time.monotonic() - last_saved > CHECKPOINT_EVERY:
                self.save()
                last_saved = time.monotonic()


def train(worker: int, workers: int, port: int, minutes: float, halved: bool) -> None:
    """One worker's part."""
    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=worker, world_size=workers)
    seed(0)
    trainer = Trainer(Frames.load(), worker, workers, halved)
    trainer.resume()
    trainer.run(minutes * 60)
    if workers > 1:
        seen: list[set[int]] = [set()] * workers
        dist.all_gather_object(seen, trainer.words.seen)
        trainer.words.seen.update(*seen)
    if worker == 0:
        trainer.save()
        ship(trainer.model, trainer.words.seen)
    if workers > 1:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the encoder.")
    parser.add_argument("--minutes", type=float, default=172.0, help="of training in all, earlier runs counted in")
    parser.add_argument("--workers", type=int, default=torch.multiprocessing.cpu_count())
    parser.add_argument(
        "--bfloat16", action="store_true", help="half the numbers, nearly twice the pace, on CPUs that know them"
    )
    options = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train, (options.workers, port, options.minutes, options.bfloat16), options.workers)


if __name__ == "__main__":
    main()
