"""What it takes to keep rows as their codes and nothing else: a measured recall, and settings that ask no more of them."""

from __future__ import annotations

import numpy as np

from engine.routing import QueryBank
from engine.storage.gather import GATHER_STEP, RowPlaces
from engine.storage.manifest import Settings
from engine.storage.snapshot import Snapshot
from engine.system import Progress
from engine.vectors import Cells, Codec, metric_of, scores_of

_N_QUERIES = 200
"""Queries that the recall of scores from codes is measured with."""
_MEASURED = (10, 100)
"""Hits for which it is."""


def keeps_codes_only(settings: Settings, cells: Cells | None) -> bool:
    """Whether what is written into these cells is kept as codes: from the build on that measured what that costs."""
    return settings.store == "codes" and cells is not None and len(cells.codes_recall) > 0


def with_codes_recall(
    cells: Cells, frames: RowPlaces, settings: Settings, bank: QueryBank | None, progress: Progress
) -> Cells:
    """The same cells with the recall of scores from codes against the rows as they came, for `_MEASURED` hits over all frames.

    Parameters
    ----------
    bank : whose texts are asked; None for stored frames at even distances
    """
    if bank is None:
        queries = frames.floats(np.unique(np.linspace(0, len(frames) - 1, _N_QUERIES).astype(np.int64)))
    else:
        queries = bank.vectors[: bank.n_texts : -(-bank.n_texts // _N_QUERIES)]
    metric, codec = metric_of(settings.metric), Codec(settings.codec, settings.dim, cells.trained)
    k = min(max(_MEASURED), len(frames))
    best = np.full((len(queries), k), -np.inf, np.float32)
    ranked = np.full(
        (2, len(queries), k), -np.inf, np.float32
    )  # By codes: the scores from codes, and those of the rows.
    for start in range(0, len(frames), GATHER_STEP):
        progress("comparing codes with rows", 0.3, 1.0)
        rows = frames.floats(np.arange(start, min(start + GATHER_STEP, len(frames))))
        exact = scores_of(queries, rows, metric)
        coded = scores_of(queries, codec.decode(codec.encode(rows)), metric)
        best = -np.partition(-np.hstack([best, exact]), k - 1, axis=1)[:, :k]
        both = np.concatenate([ranked, np.stack([coded, exact])], axis=2)
        kept = np.argpartition(-both[0], k - 1, axis=1)[:, :k]
        ranked = np.take_along_axis(both, kept[None], axis=2)
    order = np.argsort(-ranked[0], axis=1, kind="stable")
    found = np.take_along_axis(ranked[1], order, axis=1)
    least = -np.sort(-best, axis=1)
    recalls = [float(np.mean(found[:, : min(n, k)] >= least[:, min(n, k) - 1, None])) for n in _MEASURED]
    return cells.with_codes_recall(np.array(recalls, np.float32))


def check_store(snapshot: Snapshot, settings: Settings) -> None:
    """Raise `ValueError` for a build that asks stored rows for more than they hold."""
    before = snapshot.settings
    if keeps_codes_only(before, snapshot.cells) and (settings.store, settings.codec) != ("codes", before.codec):
        raise ValueError(
            f"This collection keeps its rows as {before.codec} codes only, so it cannot be built with another codec or store; "
            "import what it was made from into a new collection."
        )
    if settings.store not in (before.store, "codes"):
        raise ValueError(f"A build cannot turn stored rows into {settings.store}; import them into a new collection.")
