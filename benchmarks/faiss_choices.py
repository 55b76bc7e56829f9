"""What FAISS has to offer in place of our codes and of our exact scores: same rows, same cells probed, one thread.

    python -m benchmarks.faiss_choices [--features FOLDER --texts NPZ | --synthetic N]

The first table is of codes in inverted lists. Every line probes the cells that the learned router picks for a text at the given recall, and
scores as many rows exactly as its column says; recall@10 is of an exact search. Below the line every row lies in the cell of its
nearest centroid, because FastScan assigns rows itself and takes no cells from outside; two of ours stand there again to compare with.
The second is of exact search over all rows, and of float32 lists that leave rows out by bounds (Panorama), where a pretransform
puts most of the length of a row into its first dimensions. Times are processor time of one query, the median; memory is of the codes of a row,
with its id, as FAISS holds it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.common import on_one_thread
from benchmarks.peers import Data, data_of, data_parser
from engine import Collection
from engine.search import SearchRequest, make_plan
from engine.search.plan import PreparedSearch
from engine.search.shard_selection import select_shards
from engine.types import FrameBatch, NewVideo
from engine.vectors import Floats, Rows, train_codec

DEPTHS = (10, 20, 30, 50, 100, 200)
IP = faiss.METRIC_INNER_PRODUCT
SQ = faiss.ScalarQuantizer


@dataclass(frozen=True)
class Routed:
    """Rows in cells, and the cells that each query probes."""

    rows: Floats
    centroids: Floats
    cell: Rows
    queries: Floats
    probed: list[Rows]
    exact: Floats
    """(m, n) exact scores."""

    @classmethod
    def of(cls, data: Data, recall: float) -> Routed:
        dim, place = data.rows.shape[1], np.arange(len(data.rows))
        request = SearchRequest(10, recall=recall)
        with tempfile.TemporaryDirectory() as folder, Collection.create(Path(folder) / "c", dim=dim) as collection:
            collection.store([NewVideo("v")], [FrameBatch(data.rows, place, place.astype(np.float64))])
            collection.build(queries=data.bank)
            with collection.reading() as snapshot:
                segments = [view.segment for view in snapshot.views()]
                prepared = PreparedSearch.of(snapshot, request, make_plan(snapshot, request, "text"))
                probed = []
                for query in data.test:
                    probes = [
                        probe
                        for shard in select_shards(snapshot, query[None], prepared, 10).opened
                        for probe in shard.probes
                    ]
                    cells = [probe.segment.cells[probe.lists[0][probe.lists[0] >= 0]] for probe in probes]
                    probed.append(np.unique(np.concatenate(cells)).astype(np.int64))
                rows = np.concatenate([segment.gather(np.arange(segment.n_rows)) for segment in segments])
                cell = np.concatenate([segment.columns.cell for segment in segments]).astype(np.int64)
                return cls(rows, snapshot.cells.centroids, cell, data.test, probed, data.test @ rows.T)

    def recall(self, query: int, found: Rows) -> float:
        """Share of the ten best that are among some rows; rows that tie count as one another."""
        scores = self.exact[query]
        least = np.partition(scores, -10)[-10]
        return min(10, int((scores[found[found >= 0]] >= least - 1e-6).sum())) / 10


@dataclass(frozen=True)
class Choice:
    """Lists of one kind over the centroids, empty."""

    index: Any
    rotation: Floats | None = None
    """(dim, dim) that rows, centroids and queries are multiplied by."""
    parameters: Callable[[int], Any] = lambda width: faiss.SearchParametersIVF(nprobe=width)


def quantized(
    routed: Routed, number: int, trained: Floats | None = None, *, residual: bool = False, stat: int = 0, arg: float = 0
) -> Choice:
    """A scalar quantizer, with ranges given or trained by FAISS."""
    dim = routed.rows.shape[1]
    index = faiss.IndexIVFScalarQuantizer(
        _centroids(routed.centroids), dim, len(routed.centroids), number, IP, residual
    )
    index.sq.rangestat, index.sq.rangestat_arg = stat, arg
    if trained is not None and len(trained):
        faiss.copy_array_to_vector(trained, index.sq.trained)
    elif trained is None:
        some = np.random.default_rng(0).choice(len(routed.rows), min(len(routed.rows), 20_000), replace=False)
        index.sq.train(
            np.ascontiguousarray(routed.rows[some] - (routed.centroids[routed.cell[some]] if residual else 0))
        )
    return Choice(index)


def rabitq(routed: Routed, bits: int, *, fast: bool) -> Choice:
    """RaBitQ after a random rotation, with queries as 8 bits, without which it takes 6 ms."""
    dim = routed.rows.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))[0].astype(np.float32)
    quantizer, n = _centroids(routed.centroids @ rotation), len(routed.centroids)
    if fast:
        index = faiss.IndexIVFRaBitQFastScan(quantizer, dim, n, IP, 32, True, bits)
        index.qb = 8
        return Choice(index, rotation)
    return Choice(
        faiss.IndexIVFRaBitQ(quantizer, dim, n, IP, True, bits),
        rotation,
        lambda width: faiss.IVFRaBitQSearchParameters(nprobe=width, qb=8),
    )


def product(routed: Routed, parts: int) -> Choice:
    """Product quantization of 4 bits a part with FastScan."""
    index = faiss.IndexIVFPQFastScan(
        _centroids(routed.centroids), routed.rows.shape[1], len(routed.centroids), parts, 4, IP
    )
    index.by_residual = False
    index.pq.train(routed.rows[:: max(1, len(routed.rows) // 20_000)])
    return Choice(index)


def panorama(routed: Routed, levels: int, rotation: Floats | None) -> Choice:
    """Rows as float32, left out by bounds as their dimensions are read level by level; 0 levels are plain float32."""
    centroids = routed.centroids if rotation is None else routed.centroids @ rotation
    dim, n = routed.rows.shape[1], len(centroids)
    quantizer = _centroids(centroids)
    index = (
        faiss.IndexIVFFlatPanorama(quantizer, dim, n, levels, IP)
        if levels
        else faiss.IndexIVFFlat(quantizer, dim, n, IP)
    )
    return Choice(index, rotation)


def _centroids(centroids: Floats) -> faiss.Index:
    quantizer = faiss.IndexFlat(centroids.shape[1], faiss.METRIC_L2)
    quantizer.add(np.ascontiguousarray(centroids))
    return quantizer


def measure(label: str, choice: Choice, routed: Routed, *, assigned: bool) -> None:
    """Fill, search, print a line."""
    index, rotation = choice.index, choice.rotation
    rows, queries, centroids = (
        np.ascontiguousarray(x if rotation is None else x @ rotation)
        for x in (routed.rows, routed.queries, routed.centroids)
    )
    index.is_trained = True
    if assigned:
        ids = np.arange(len(rows))
        index.add_core(len(rows), *map(faiss.swig_ptr, (rows, ids, routed.cell)), None)
    else:
        index.add(rows)
    found, ms = [], []
    for query, cells in zip(queries, routed.probed, strict=True):
        lists, to_centroid = cells[None], (centroids[cells] @ query)[None]

        def search(k: int, query: Floats = query[None], lists: Rows = lists, to_centroid: Floats = to_centroid) -> Rows:
            scores, labels = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
            arrays = (query, lists, to_centroid, scores, labels)
            x, keys, coarse, best, ids = map(faiss.swig_ptr, arrays)
            index.search_preassigned_c(1, x, k, keys, coarse, best, ids, False, choice.parameters(lists.shape[1]), None)
            return labels[0]

        found.append(search(max(DEPTHS)))
        ms += [_ms(lambda search=search: search(20)) for _ in range(3)]
    recalls = (np.mean([routed.recall(i, rows[:depth]) for i, rows in enumerate(found)]) for depth in DEPTHS)
    lists = faiss.downcast_InvertedLists(index.invlists)
    block = getattr(lists, "n_per_block", 1)  # FastScan keeps rows in blocks, of which the last is seldom full.
    nbytes = lists.block_size / block if block > 1 else lists.code_size
    filled = sum(-(-lists.list_size(i) // block) * block for i in range(index.nlist)) / index.ntotal
    print(
        f"{label:34}{nbytes + 8:6.0f}{nbytes * filled + 8:8.0f}"
        + "".join(f"{recall:8.4f}" for recall in recalls)
        + f"{np.median(ms):9.3f}",
        flush=True,
    )


def _ms(run: Callable[[], object]) -> float:
    started = time.thread_time()
    run()
    return (time.thread_time() - started) * 1e3


def codes(routed: Routed) -> None:
    """The table of codes."""
    print(f"{'codes':34}{'B/row':>6}{'memory':>8}" + "".join(f"{f'of {depth}':>8}" for depth in DEPTHS) + f"{'ms':>9}")
    four = SQ.QT_4bit
    ours = {
        codec: lambda codec=codec, number=number: quantized(routed, number, train_codec(codec, routed.rows))
        for codec, number in (("fp16", SQ.QT_fp16), ("sq8", SQ.QT_8bit), ("sq4", four))
    }
    others = {
        "QT_8bit of residuals": lambda: quantized(routed, SQ.QT_8bit, residual=True),
        "QT_6bit": lambda: quantized(routed, SQ.QT_6bit),
        "QT_4bit, lowest to highest": lambda: quantized(routed, four),
        "QT_4bit, RS_meanstd 2.5": lambda: quantized(routed, four, stat=SQ.RS_meanstd, arg=2.5),
        "QT_4bit, RS_meanstd 3": lambda: quantized(routed, four, stat=SQ.RS_meanstd, arg=3),
        "QT_4bit, RS_quantiles .01": lambda: quantized(routed, four, stat=SQ.RS_quantiles, arg=0.01),
        "QT_4bit, RS_optim": lambda: quantized(routed, four, stat=SQ.RS_optim),
        "QT_4bit of residuals, RS_optim": lambda: quantized(routed, four, stat=SQ.RS_optim, residual=True),
        "QT_4bit_uniform, RS_optim": lambda: quantized(routed, SQ.QT_4bit_uniform, stat=SQ.RS_optim),
        **{f"RaBitQ {bits}": lambda bits=bits: rabitq(routed, bits, fast=False) for bits in (1, 2, 3, 4)},
    }
    for label, make in {**ours, **others}.items():
        measure(label, make(), routed, assigned=True)
    print("every row in the cell of its nearest centroid:")
    fast = {f"RaBitQ {bits} FastScan": lambda bits=bits: rabitq(routed, bits, fast=True) for bits in (1, 2, 3, 4)}
    parts = routed.rows.shape[1]
    fast |= {f"PQ{n}x4 FastScan": lambda n=n: product(routed, n) for n in (parts // 4, parts // 2)}
    for label, make in {"sq8": ours["sq8"], "sq4": ours["sq4"], **fast}.items():
        measure(label, make(), routed, assigned=False)


def turned(rows: Floats) -> Floats:
    """(dim, dim) principal axes: most of the length of a row comes first."""
    some = rows[:: max(1, len(rows) // 20_000)].astype(np.float64)
    return np.ascontiguousarray(np.linalg.eigh(some.T @ some)[1][:, ::-1]).astype(np.float32)


def exact(routed: Routed) -> None:
    """The table of exact search."""
    print(f"\n{'exact search over all rows':34}{'B/row':>6}{'recall':>8}{'ms':>9}")
    dim, axes = routed.rows.shape[1], turned(routed.rows)
    half = faiss.IndexScalarQuantizer(dim, SQ.QT_fp16, IP)
    half.is_trained = True
    flat: dict[str, tuple[Any, Floats | None]] = {
        "float16, as stored": (half, None),
        "float32": (faiss.IndexFlatIP(dim), None),
    }
    for levels in (8, 16):
        flat[f"Panorama, {levels} levels"] = faiss.IndexFlatIPPanorama(dim, levels), None
        flat[f"Panorama, {levels} levels, turned"] = faiss.IndexFlatIPPanorama(dim, levels), axes
    for label, (index, rotation) in flat.items():
        rows, queries = (
            np.ascontiguousarray(x if rotation is None else x @ rotation) for x in (routed.rows, routed.queries)
        )
        index.add(rows)
        found, ms = [], []
        for query in queries[:100]:
            found.append(index.search(query[None], 10)[1][0])
            ms.append(_ms(lambda index=index, query=query: index.search(query[None], 10)))
        recall = np.mean([routed.recall(i, rows) for i, rows in enumerate(found)])
        print(f"{label:34}{index.code_size:6}{recall:8.4f}{np.median(ms):9.3f}", flush=True)
    print("in the cells probed:")
    for levels in (0, 8, 16):
        label = f"IVFFlatPanorama, {levels} levels, turned" if levels else "IVFFlat"
        measure(label, panorama(routed, levels, axes if levels else None), routed, assigned=True)


def main() -> None:
    parser = data_parser(__doc__)
    parser.add_argument("--recall", type=float, default=0.95)
    options: argparse.Namespace = parser.parse_args()
    on_one_thread("benchmarks.faiss_choices")
    data = data_of(options)
    routed = Routed.of(data, options.recall)
    n_rows = np.bincount(routed.cell, minlength=len(routed.centroids))
    compared = np.mean([n_rows[cells].sum() for cells in routed.probed])
    print(
        f"{len(routed.rows):,} x {routed.rows.shape[1]}, {data.about}; {len(routed.queries)} texts, {compared:,.0f} rows compared in "
        f"{np.mean([len(cells) for cells in routed.probed]):,.0f} of {len(routed.centroids):,} cells; FAISS {faiss.__version__}"
    )
    codes(routed)
    exact(routed)


if __name__ == "__main__":
    main()
