"""The large town beside the sample town: what it takes to make, and whether texts find in it what they find in the town.

    python -m benchmarks.large_town [--frames 100000] [--keep FOLDER]

Prints the seconds and the disk that it took, the modality gap of the shipped encoder in both, and for the sample's example
queries the share of the 24 best frames whose tags are as asked, and how many different frames of the town are among their parents.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import argument_parser, stopwatch
from engine import Collection
from engine.datasets import make_large_town, sample_collection
from engine.datasets.large_town import DEFAULT_FRAMES
from engine.system import readable_bytes, shipped

K = 24


def expected_tags() -> dict[str, set[str]]:
    """The tags that a frame must carry to be right, by query."""
    examples = json.loads((shipped.DATA / "examples.json").read_text(encoding="utf-8"))
    return {
        example["query"]: {f"{kind}:{label}" for kind, label in example.get("expect", {}).items()}
        for example in examples
    }


def judged(collection: Collection, *, exact: bool) -> tuple[float, float, float]:
    """Share of right frames, different parents, and milliseconds (median), means over the example queries."""
    right, parents, ms = [], [], []
    for query, tags in expected_tags().items():
        collection.search(query, K, per_shot=2, exact=exact)
        result = collection.search(query, K, per_shot=2, exact=exact)
        right.append(np.mean([tags <= set(hit.tags) for hit in result.hits]))
        videos = {hit.video_id: collection.video(hit.video_id).about for hit in result.hits}
        parents.append(
            len({(videos[hit.video_id].get("parent", hit.video_id), hit.frame_index) for hit in result.hits})
        )
        ms.append(result.trace.ms["total"] - result.trace.ms["encode"])
    return float(np.mean(right)), float(np.mean(parents)), float(np.median(ms))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--frames", type=int, default=DEFAULT_FRAMES)
    parser.add_argument("--keep", type=Path, help="folder to leave both collections in; made if need be")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        with sample_collection(folder / "town") as town:
            elapsed = stopwatch()
            with make_large_town(folder / f"large-town-{options.frames}", town, options.frames) as large:
                seconds = elapsed()
                large.use_encoder(town.encoder)
                disk = sum(path.stat().st_size for path in large.path.rglob("*") if path.is_file())
                print(f"{large.n_frames:,} frames made in {seconds:.0f} s, {readable_bytes(disk)} of disk")
                for name, collection in (("sample town", town), ("large town", large)):
                    gap = collection.modality_gap()
                    assert gap is not None
                    print(
                        f"{name}: modality gap {gap.distance:.2f} (cosine of the means {gap.cosine:.2f}); "
                        f"mean cosine of two frames {gap.within:.2f}, of a text and a frame {gap.across:.2f}"
                    )
                    for how, exact in (("exact", True), ("as it is set", False)):
                        right, parents, ms = judged(collection, exact=exact)
                        print(
                            f"  {how}: {right:.2f} of the {K} best are as asked, from {parents:.1f} different frames; {ms:.1f} ms"
                        )


if __name__ == "__main__":
    main()
