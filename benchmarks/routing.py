"""How well queries are led to the cells that hold their answers: the tables by which the router is judged.

    python -m benchmarks.routing [--features FOLDER_OF_NPY] [--texts TEXT_VECTORS.npz] [--only curve,shards,spared,asked,long,image,cells]

Frames are the features of an AI Challenge archive, one file per video, stored as float16. Of the texts, shuffled, 800 make the
bank and the rest ask. Recall is recall@10 against all inner products; nothing but routing is lost on the way, since the rows
of a cell are compared as stored. Shares are of all frames: what is scanned are the frames compared; work adds the cells and
groups scored. Where a share of the groups is chosen for the least work, it is chosen on the queries that ask, for every order
alike. Figures vary by about a hundredth with the k-means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import argument_parser
from benchmarks.reach import DEEPEST, Asked, Built, K, Order, OverShards, Searched, Stopped, Trial
from engine.layout.grouping import group_cells
from engine.routing import Calibration, Route, Scorer
from engine.routing.scorer import worth
from engine.vectors import Floats

SHARES = (0.005, 0.01, 0.02, 0.05, 0.10)
REACHED = (0.90, 0.95, 0.97)
ASKED = (0.90, 0.95, 0.99)
GROUP_SHARES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.32, 0.4, 0.55, 0.75, 1.0)
"""Shares of the groups whose cells are scored, of which the best is told."""
SHARDS = (10, 20, 50, 100)
OPENED = (0.1, 0.15, 0.2, 0.3)
SHARPER = 0.7
"""Of the temperature by which cells are ranked, that by which the answers in a shard are expected."""
N_CELLS = (2048, 4096, 8192, 16_384)
SPLITS = range(5)
CAPS = (2, 4, 8)
LENGTHS = (10, 24, 50, 100, 200, 500, 1000)
N_IMAGES = 400

Tried = Sequence[tuple[float, Order | Stopped]]
"""What it takes by the share of the groups that is looked into; the last looks into all."""


def curve(trial: Trial) -> None:
    """Recall by what is scanned and by work, for each way to order the cells."""
    asked = trial.split(0)[1]
    built, coarse, plain = trial.built(0, trial.n_cells), trial.built(0, 2048), trial.plain(512)
    learned = built.scorer("learned")
    by_groups = {name: orders(built.scorer(name), built, asked) for name in ("centroid", "spread", "learned")}
    stopped = [
        (share, Stopped.of(route, built, asked.answers, temperature(built.calibration, "text")))
        for share, route in routes(learned, asked.queries)
    ]
    lines: dict[str, Tried] = {f"{len(built.cells):,} cells, {name}": tried for name, tried in by_groups.items()}
    lines[f"{len(built.cells):,} cells, learned, each query's own stop"] = stopped
    lines["2,048 cells, learned, all scored"] = [(1.0, whole(coarse.scorer("learned"), coarse, asked))]
    lines["512 plain cells, centroid, all scored"] = [(1.0, whole(plain.scorer("centroid"), plain, asked))]

    head("recall by share scanned, all cells scored", (f"{share:.1%}" for share in SHARES))
    for name, tried in lines.items():
        line(name, (f"{tried[-1][1].recall_at(share):.3f}" for share in SHARES))
    head("recall by work, best share of groups", (f"{share:.1%}" for share in SHARES))
    for name, tried in lines.items():
        line(name, (f"{max(each.recall_at_work(share) for _, each in tried):.3f}" for share in SHARES))
    head("least work for a recall, all cells scored", (f"{recall:.2f}" for recall in REACHED))
    for name, tried in lines.items():
        line(name, (f"{tried[-1][1].work_for(recall):.2%}" for recall in REACHED))
    head(
        "least work for a recall, best share of groups (the share; scanned)",
        (f"{recall:.2f}" for recall in REACHED),
        22,
    )
    for name, tried in lines.items():
        found = [least(tried, recall) for recall in REACHED]
        line(name, (f"{work:.2%} ({share:.0%}; {scanned:.2%})" for work, share, scanned in found), 22)


def shards(trial: Trial) -> None:
    """Recall when cells lie in shards of like content and the best shards are opened whole, or as a calibrated search opens them.

    Opened whole are, for each query, as many shards with the most promising cells or the most fitting means; or, as `stop`,
    those with a cell worth more than a threshold, so that the share is that of all queries on average. `smallest` and
    `largest` are those shards in rows of the mean one.
    """
    asked = trial.split(0)[1]
    built = trial.built(0, trial.n_cells)
    scorer = built.scorer("learned")
    scores = np.where(built.rows > 0, Route.of(asked.queries, scorer, scorer.n_groups).scores, -np.inf)
    search = Searched.of(asked, built, scorer, built.calibration, "text", 0.95)
    promises = ("stop", "learned", "centroid")
    opened = (f"{name} {share:.0%}" for share in OPENED for name in promises)
    head("recall by share of shards opened whole", (*opened, "smallest", "largest"), 12)
    stop = built.calibration.setting_with_margin("text", K, 0.95)
    assert stop is not None
    values = worth(scores, np.zeros(len(built.rows), np.float32), stop[0].temperature)
    calibrated = {}
    assert built.learned is not None
    profiles, demand = built.learned.profiles(built.rows), built.learned.demand(built.rows)
    for n_shards in SHARDS:
        shard = group_cells(profiles, built.rows, n_shards, None, demand)
        sizes = np.bincount(shard, weights=built.rows, minlength=n_shards)
        best, most = (np.full((len(scores), n_shards), -np.inf, np.float32) for _ in range(2))
        means = np.zeros((n_shards, trial.frames.shape[1]), np.float32)
        for i in range(n_shards):
            best[:, i] = scores[:, shard == i].max(axis=1, initial=-np.inf)
            most[:, i] = values[:, shard == i].max(axis=1, initial=-np.inf)
            means[i] = trial.frames[shard[built.cell] == i].mean(axis=0)
        wanted = shard[built.cell[asked.answers]]
        found = []
        of_wanted = np.take_along_axis(most, wanted, 1)
        for share in OPENED:
            threshold = np.partition(most, -int(share * most.size), axis=None)[-int(share * most.size)]
            found.append(f"{(of_wanted >= threshold).mean():.3f}")
            for predicted in (best, asked.queries @ means.T):
                rank = np.argsort(np.argsort(-predicted, axis=1), axis=1)
                found.append(f"{(np.take_along_axis(rank, wanted, 1) < max(1, int(share * n_shards))).mean():.3f}")
        line(f"{n_shards} shards", (*found, *(f"{size / sizes.mean():.2f}" for size in (sizes.min(), sizes.max()))), 12)
        n_opened = [len(np.unique(shard[cells[cells >= 0]])) for cells in search.chosen]
        calibrated[n_shards] = np.mean(n_opened) / n_shards, np.percentile(n_opened, 95) / n_shards
    head(f"calibrated search for .95: recall {search.recall:.3f}, scanned {search.scanned:.2%}", ("opened", "95th pct"))
    for n_shards, shares in calibrated.items():
        line(f"{n_shards} shards", (f"{share:.1%}" for share in shares))

    head("opened whole for .95, shards by expected answers", ("opened", "95th pct", "of the rows", "at best"))
    expected = np.exp(worth(scores, np.zeros(len(built.rows), np.float32), SHARPER * stop[0].temperature))
    for n_shards in SHARDS:
        for name, known in (("alike", None), ("wanted together", demand)):
            shard = group_cells(profiles, built.rows, n_shards, None, known)
            line(
                f"{n_shards} shards, {name}", (f"{share:.1%}" for share in opened_whole(expected, shard, built, asked))
            )


def opened_whole(expected: Floats, shard: NDArray[np.int32], built: Built, asked: Asked) -> tuple[float, ...]:
    """Shares of the shards, opened on average and in 95 of 100 queries, of the rows in them, and of the shards by the true answers.

    A query opens the shards that it expects more than a share of its answer in, one share for all queries: the largest that gives .95.
    """
    in_shard = np.eye(int(shard.max()) + 1, dtype=np.float32)[shard]
    promised = expected @ in_shard
    wanted = shard[built.cell[asked.answers]]
    least = np.quantile(np.take_along_axis(promised, wanted, 1), 0.05, method="lower")
    opened = promised >= least
    truly = in_shard[built.cell[asked.answers]].sum(axis=1)
    best = np.cumsum(-np.sort(-truly, axis=None))
    n_best = np.searchsorted(best, 0.95 * best[-1]) + 1
    of_rows = opened @ (built.rows @ in_shard)
    n_opened = opened.sum(axis=1)
    n_shards = in_shard.shape[1]
    return (
        float(n_opened.mean()) / n_shards,
        float(np.percentile(n_opened, 95)) / n_shards,
        float(of_rows.mean() / built.rows.sum()),
        float(n_best / opened.size),
    )


def asked(trial: Trial) -> None:
    """What calibrated searches deliver, beside the least number of cells, the same for all queries, that would have."""
    head("asked by texts", ("asked", "delivered", "scanned", "work", "fixed", "ratio"))
    found = []
    for seed in SPLITS:
        texts, built = trial.split(seed)[1], trial.built(seed, trial.n_cells)
        scorer = built.scorer("learned")
        for recall in ASKED:
            search = Searched.of(texts, built, scorer, built.calibration, "text", recall)
            route = Route.of(texts.queries, scorer, search.n_groups)
            fixed = Order.of(route, built, texts.answers).share_probing(search.recall)
            found.append((recall, search.recall, search.scanned, search.work, fixed))
            delivered(f"split {seed}", *found[-1])
    for recall in ASKED:
        delivered("mean", *np.mean([each for each in found if each[0] == recall], axis=0))


def spared(trial: Trial) -> None:
    """What searches that spare shards open and find, beside those that spare rows, and under a cap beside what is expected of it.

    Of all texts, the least that could be opened are those shards that hold most of an answer, until as much is found.
    """
    head("spared shards, texts", ("asked", "delivered", "opened", "95th pct", "scanned", "least", "by rows"))
    for n_shards in (20, 50):
        found = []
        for seed in SPLITS:
            texts, built = trial.split(seed)[1], trial.built(seed, trial.n_cells)
            over = OverShards.of(built, n_shards)
            found += [(recall, *over.search(texts, recall)) for recall in ASKED]
            caps = [over.capped(texts, cap) for cap in CAPS]
            line(f"{n_shards} shards, split {seed}, at most {', '.join(map(str, CAPS))}: found / expected", caps, 14)
        for recall in ASKED:
            mean = np.mean([each for each in found if each[0] == recall], axis=0)
            shown = (f"{mean[0]:.2f}", f"{mean[1]:.3f}", *(f"{share:.1%}" for share in mean[2:]))
            line(f"{n_shards} shards, mean of {len(SPLITS)} splits", shown)


def long(trial: Trial) -> None:
    """What calibrated searches for lists of any length deliver, the most and the least of five splits, and what a search's choice of cells takes."""
    head("lists of k frames, texts", ("asked", "delivered", "least", "most", "rows", "route ms"))
    found: dict[tuple[int, float], list[tuple[float, float, float]]] = {}
    for seed in SPLITS:
        texts, built = trial.split(seed)[1], trial.built(seed, trial.n_cells)
        scorer, deep = built.scorer("learned"), trial.exact(texts.queries, k=DEEPEST)
        for k in LENGTHS:
            for recall in ASKED:
                started = time.thread_time()
                search = Searched.of(
                    Asked(texts.queries, deep[:, :k]), built, scorer, built.calibration, "text", recall, k
                )
                ms = (time.thread_time() - started) * 1e3 / len(texts.queries)
                rows = search.scanned * float(built.rows.sum())
                found.setdefault((k, recall), []).append((search.recall, rows, ms))
    for (k, recall), each in found.items():
        delivered, rows, ms = zip(*each, strict=True)
        shares = (f"{value:.3f}" for value in (np.mean(delivered), min(delivered), max(delivered)))
        line(f"k = {k:,}", (f"{recall:.2f}", *shares, f"{np.mean(rows):,.0f}", f"{np.mean(ms):.2f}"))


def image(trial: Trial) -> None:
    """The same for stored frames, beside plain cells in the textbook order."""
    taken = set(trial.places.tolist())
    free = np.array([i for i in np.random.default_rng(0).permutation(len(trial.frames)) if i not in taken])
    places = free[:N_IMAGES]
    frames = Asked(trial.frames[places], trial.exact(trial.frames[places], places))
    built, plain = trial.built(0, trial.n_cells), trial.plain(trial.n_cells)
    fitted = built.scorer("learned", "image")
    textbook = whole(plain.scorer("centroid"), plain, frames)
    head(
        "asked by frames; fixed: plain cells, centroid, all scored",
        ("asked", "delivered", "scanned", "work", "fixed", "ratio"),
    )
    for recall in ASKED:
        search = Searched.of(frames, built, fitted, built.calibration, "image", recall)
        fixed = textbook.share_probing(search.recall)
        delivered("learned on frames, calibrated", recall, search.recall, search.scanned, search.work, fixed)

    head("least scanned for a recall, all scored; least work, best groups", (*ASKED, *ASKED))
    lines = {
        "centroid": (built, built.scorer("centroid")),
        "spread": (built, built.scorer("spread")),
        "learned on texts": (built, built.scorer("learned")),
        "learned on frames": (built, fitted),
        "plain cells, centroid": (plain, plain.scorer("centroid")),
        "plain cells, spread": (plain, plain.scorer("spread")),
    }
    for name, (there, scorer) in lines.items():
        tried = orders(scorer, there, frames)
        scanned = (f"{tried[-1][1].share_for(recall):.2%}" for recall in ASKED)
        line(name, (*scanned, *(f"{least(tried, recall)[0]:.2%}" for recall in ASKED)))


def cells(trial: Trial) -> None:
    """What the number of cells does to the least work."""
    texts = trial.split(0)[1]
    head(
        "texts, recall .95",
        ("groups", "least work", "its groups", "scanned", "all scored", "scanned", "asked .95", "scanned", "work"),
    )
    for n_cells in N_CELLS:
        built = trial.built(0, n_cells)
        scorer = built.scorer("learned")
        tried = orders(scorer, built, texts)
        work, share, scanned = least(tried, 0.95)
        all_scored = tried[-1][1]
        search = Searched.of(texts, built, scorer, built.calibration, "text", 0.95)
        shares = f"{all_scored.work_for(0.95):.2%}", f"{all_scored.share_for(0.95):.2%}"
        told = f"{search.recall:.3f}", f"{search.scanned:.2%}", f"{search.work:.2%}"
        line(
            f"{n_cells:,} cells",
            (f"{scorer.n_groups}", f"{work:.2%}", f"{share:.0%}", f"{scanned:.2%}", *shares, *told),
        )


def routes(scorer: Scorer, queries: Floats) -> Iterable[tuple[float, Route]]:
    """Routes by share of the groups looked into; the last scores all cells."""
    for share in GROUP_SHARES if scorer.n_groups else (1.0,):
        yield share, Route.of(queries, scorer, max(1, round(share * scorer.n_groups)))


def orders(scorer: Scorer, built: Built, asked: Asked) -> list[tuple[float, Order]]:
    return [(share, Order.of(route, built, asked.answers)) for share, route in routes(scorer, asked.queries)]


def whole(scorer: Scorer, built: Built, asked: Asked) -> Order:
    """The order when all cells are scored."""
    return Order.of(Route.of(asked.queries, scorer, scorer.n_groups), built, asked.answers)


def least(tried: Tried, recall: float) -> tuple[float, float, float]:
    """The least work for a recall, the share of the groups looked into, and the share of the frames scanned."""
    return min((each.work_for(recall), share, each.share_for(recall)) for share, each in tried)


def temperature(calibration: Calibration, kind: str) -> float:
    return next(curve.temperature for curve in calibration.curves if curve.kind == kind and curve.k == K)


def head(name: str, columns: Iterable[object], width: int = 11) -> None:
    print()
    line(name, columns, width)


def line(name: str, columns: Iterable[object], width: int = 11) -> None:
    print(f"{name:66}", *(f"{each:>{width}}" for each in columns), flush=True)


def delivered(name: str, asked: float, recall: float, scanned: float, work: float, fixed: float) -> None:
    shares = (f"{share:.2%}" for share in (scanned, work, fixed))
    line(name, (f"{asked:.2f}", f"{recall:.3f}", *shares, f"{fixed / scanned:.2f}"))


TABLES: dict[str, Callable[[Trial], None]] = {
    "curve": curve,
    "shards": shards,
    "spared": spared,
    "asked": asked,
    "long": long,
    "image": image,
    "cells": cells,
}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--features", type=Path, default=Path("../shared/aic-sample/clip-features-32"))
    parser.add_argument("--texts", type=Path, default=Path("../shared/text-queries/lvis_clip_vitb32.npz"))
    parser.add_argument("--only", default=",".join(TABLES), help="tables to print, by commas")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in TABLES]:
        parser.error(f"there is no table {unknown[0]!r}; choose from {', '.join(TABLES)}")
    trial = Trial(options.features, options.texts)
    print(f"{len(trial.frames):,} x {trial.frames.shape[1]}, {trial.n_cells:,} cells by default")
    for name in names:
        TABLES[name](trial)


if __name__ == "__main__":
    main()
