"""Recall of two orders of cells at the same share of frames scanned: by centroid, and by centroid plus expected best.

    python -m benchmarks.cell_order COLLECTION --queries TEXT_VECTORS.npz

The collection is one that `import-aic` made and built. A query's recall@10 is the share of its ten best frames that lie in the
first cells which hold so many frames; nothing else is lost on the way. Image-like queries are stored frames with some noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from engine import Collection
from engine.router import Route, best_above

SHARES = (0.01, 0.02, 0.05, 0.125, 0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--queries", type=Path, required=True, help="npz with `vectors` of the same space")
    parser.add_argument("--n", type=int, default=300)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with Collection.open(options.collection) as collection, collection._generations.reading() as snapshot:
        cells, counts = snapshot.cells, snapshot.cell_map.rows
        segments = [view.segment for view in snapshot.views()]
        rows = np.concatenate([segment.vectors.astype(np.float32) for segment in segments])
        cell = np.concatenate([segment.columns.cell for segment in segments])
        texts = np.load(options.queries)["vectors"].astype(np.float32)
        noise = 0.02 * rng.standard_normal((options.n, rows.shape[1])).astype(np.float32)
        kinds = {
            "text": texts[rng.permutation(len(texts))[: options.n]],
            "image": rows[rng.choice(len(rows), options.n, replace=False)] + noise,
        }
        print(
            f"{len(rows):,} x {rows.shape[1]}, {len(cells)} cells; recall@10 at", *(f"{share:.1%}" for share in SHARES)
        )
        for kind, queries in kinds.items():
            best = cell[np.argsort(-(queries @ rows.T), axis=1)[:, :10]]
            for name, above in (("centroid", None), ("expected best", best_above(cells, counts))):
                order = np.argsort(-Route.by_centroid(queries, cells, "ip", 1, above).scores, axis=1)
                widths = [
                    np.argmax(np.cumsum(counts[order], axis=1) >= share * len(rows), axis=1) + 1 for share in SHARES
                ]
                recall = [
                    np.mean([np.isin(best[i], order[i, : w[i]]).mean() for i in range(len(queries))]) for w in widths
                ]
                print(f"{kind:6} {name:14}", *(f"{value:6.3f}" for value in recall), flush=True)


if __name__ == "__main__":
    main()
