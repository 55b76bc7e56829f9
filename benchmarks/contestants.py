"""What one would search with: this engine, FAISS by itself, hnswlib, usearch, LanceDB. Each builds, opens and searches.

A contestant is made anew in every process that needs it. Libraries other than the engine's own are imported when used, so
that one which is not installed is left out and the others still run; `requirements-bench.txt` names them.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.declared_recall import DeclaredRecall

Floats = NDArray[np.float32]
Setting = dict[str, Any]
"""Keywords of one search: `n_probe=64`, `ef=256`."""

LADDER = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
OURS: list[Setting] = [
    {"recall": recall} for recall in (0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99)
]
"""Keywords of `Collection.search` that are measured. For more it scans every row, exactly, which is not routing."""

GRAPH_DEGREE = 32
GRAPH_EFFORT = 200
"""Links per row and breadth while building, the same for every graph."""
STEP = 16_384
PER_VIDEO = 250


class Contestant(Protocol):
    """One way to search the rows by inner product; row numbers are its answers."""

    label: str
    imports: Sequence[str]
    """What one imports to use it, and what that imports on its own with the first search."""
    library: str
    """Distribution whose version is told."""
    settings: Sequence[Setting]

    def build(self, rows: Floats, bank: Floats, folder: Path) -> None:
        """Index rows (n, dim) of unit length and leave files in an empty folder; bank (m, dim) are queries to learn from."""

    def open(self, folder: Path) -> None:
        """Make what was built ready to search."""

    def search(self, query: Floats, k: int, **setting: Any) -> Sequence[int]:
        """The k best rows for a query (dim,)."""


class Ours:
    """A collection of some shards, with the settings it has unless told otherwise."""

    label = "this engine"
    imports = ("engine.collection", "pyarrow", "pandas")
    library = "faiss-cpu"
    settings = OURS

    def build(self, rows: Floats, bank: Floats, folder: Path, n_shards: int = 4) -> None:
        from engine import Collection
        from engine.types import FrameBatch, NewVideo

        def batches() -> Iterator[FrameBatch]:
            for start in range(0, len(rows), STEP):
                place = np.arange(start, min(start + STEP, len(rows)))
                at = place % PER_VIDEO
                yield FrameBatch(rows[place], at, at.astype(np.float64), video=(place // PER_VIDEO).astype(np.int32))

        videos = [NewVideo(f"v{i}") for i in range(math.ceil(len(rows) / PER_VIDEO))]
        learns = "queries" in inspect.signature(Collection.build).parameters
        with Collection.create(folder / "collection", dim=rows.shape[1], n_shards=n_shards, codec="sq8") as collection:
            collection.store(videos, batches())
            collection.build(**({"queries": bank} if learns else {}))

    def open(self, folder: Path) -> None:
        from engine import Collection

        self._collection = Collection.open(folder / "collection", cache_bytes=8 << 30)

    def search(self, query: Floats, k: int, **setting: Any) -> Sequence[int]:
        return [hit.frame_id for hit in self._collection.search(query, k, **setting).hits]


class Faiss:
    """One FAISS index in memory, read from one file."""

    imports = ("faiss",)
    library = "faiss-cpu"

    def _make(self, dim: int, n: int) -> Any:
        raise NotImplementedError

    def _parameters(self, **setting: int) -> Any:
        raise NotImplementedError

    def build(self, rows: Floats, bank: Floats, folder: Path) -> None:
        import faiss

        index = self._make(rows.shape[1], len(rows))
        if not index.is_trained:
            index.train(rows)
        for start in range(0, len(rows), STEP):
            index.add(rows[start : start + STEP])
        faiss.write_index(index, str(folder / "index.faiss"))

    def open(self, folder: Path) -> None:
        import faiss

        self._index = faiss.read_index(str(folder / "index.faiss"))

    def search(self, query: Floats, k: int, **setting: Any) -> Sequence[int]:
        rows: NDArray[np.int64] = self._index.search(query[None], k, params=self._parameters(**setting))[1][0]
        return rows.tolist()


class FaissLists(Faiss):
    """An inverted file of about 4 sqrt(n) lists, as float32 or as sq8."""

    settings = tuple({"nprobe": width} for width in LADDER[:16])

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.label = f"FAISS IVF {codec}"

    def _make(self, dim: int, n: int) -> Any:
        import faiss

        lists = round(4 * math.sqrt(n))
        kind = {"fp32": "Flat", "sq8": "SQ8"}[self.codec]
        return faiss.index_factory(dim, f"IVF{lists},{kind}", faiss.METRIC_INNER_PRODUCT)

    def _parameters(self, **setting: int) -> Any:
        import faiss

        return faiss.SearchParametersIVF(**setting)


class FaissRaBitQ(FaissLists):
    """The same lists as RaBitQ codes of some bits per dimension, rotated and scanned with FastScan; the best are scored exactly as float16."""

    def __init__(self, bits: int, refine: Sequence[int]) -> None:
        self.bits = bits
        self.label = f"FAISS IVF RaBitQ FastScan, {bits} bit{'s' if bits > 1 else ''}"
        self.settings = tuple({"nprobe": width, "k_factor": factor} for width in LADDER[4:16] for factor in refine)

    def _make(self, dim: int, n: int) -> Any:
        import faiss

        bits = self.bits if self.bits > 1 else ""
        kind = f"RR{dim},IVF{round(4 * math.sqrt(n))},RaBitQfs{bits},Refine(SQfp16)"
        return faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)

    def _parameters(self, **setting: int) -> Any:
        import faiss

        lists = faiss.SearchParametersPreTransform(index_params=faiss.SearchParametersIVF(nprobe=setting["nprobe"]))
        return faiss.IndexRefineSearchParameters(k_factor=setting["k_factor"], base_index_params=lists)


class FaissGraph(Faiss):
    """An HNSW graph over float32 or sq8 rows."""

    settings = tuple({"efSearch": breadth} for breadth in LADDER)

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.label = f"FAISS HNSW {codec}"

    def _make(self, dim: int, n: int) -> Any:
        import faiss

        kind = {"fp32": "Flat", "sq8": "SQ8"}[self.codec]
        index = faiss.index_factory(dim, f"HNSW{GRAPH_DEGREE},{kind}", faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = GRAPH_EFFORT
        return index

    def _parameters(self, **setting: int) -> Any:
        import faiss

        return faiss.SearchParametersHNSW(**setting)


class Hnswlib:
    """The graph library of the authors of HNSW; float32 rows in memory."""

    label = "hnswlib"
    imports = ("hnswlib",)
    library = "hnswlib"
    settings = tuple({"ef": breadth} for breadth in LADDER[1:])

    def build(self, rows: Floats, bank: Floats, folder: Path) -> None:
        import hnswlib

        index = hnswlib.Index("ip", rows.shape[1])
        index.init_index(len(rows), M=GRAPH_DEGREE, ef_construction=GRAPH_EFFORT, random_seed=0)
        for start in range(0, len(rows), STEP):
            index.add_items(rows[start : start + STEP], np.arange(start, min(start + STEP, len(rows))))
        index.save_index(str(folder / "index.hnswlib"))
        (folder / "dim").write_text(str(rows.shape[1]), encoding="ascii")

    def open(self, folder: Path) -> None:
        import hnswlib

        self._index = hnswlib.Index("ip", int((folder / "dim").read_text(encoding="ascii")))
        self._index.load_index(str(folder / "index.hnswlib"))

    def search(self, query: Floats, k: int, **setting: Any) -> Sequence[int]:
        self._index.set_ef(setting["ef"])
        rows: NDArray[np.uint64] = self._index.knn_query(query, k, num_threads=1)[0][0]
        return rows.tolist()


class Usearch:
    """A graph in memory over float32 or float16 rows."""

    imports = ("usearch.index",)
    library = "usearch"
    settings = tuple({"expansion_search": breadth} for breadth in LADDER[1:])

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.label = f"usearch {dtype}"

    def build(self, rows: Floats, bank: Floats, folder: Path) -> None:
        from usearch.index import Index

        index = Index(
            ndim=rows.shape[1],
            metric="ip",
            dtype=self.dtype,
            connectivity=GRAPH_DEGREE,
            expansion_add=GRAPH_EFFORT,
        )
        for start in range(0, len(rows), STEP):
            index.add(np.arange(start, min(start + STEP, len(rows))), rows[start : start + STEP])
        index.save(str(folder / "index.usearch"))

    def open(self, folder: Path) -> None:
        from usearch.index import Index

        self._index = Index.restore(str(folder / "index.usearch"))

    def search(self, query: Floats, k: int, **setting: Any) -> Sequence[int]:
        self._index.expansion_search = setting["expansion_search"]
        rows: NDArray[np.uint64] = self._index.search(query, k, threads=1).keys
        return rows.tolist()


class Lance:
    """A table on disk with one vector index; `refine_factor` times k candidates are scored again from the table."""

    imports = ("lancedb", "pyarrow", "pandas")
    library = "lancedb"

    def __init__(self, index: str, settings: Sequence[Setting], config: Callable[[int, int], Setting]) -> None:
        self.label = f"LanceDB {index}"
        self.settings = settings
        self._kind = index.split(" ")[0]
        self._config = config

    def build(self, rows: Floats, bank: Floats, folder: Path) -> None:
        import lancedb
        import lancedb.index
        import pyarrow as pa

        n, dim = rows.shape
        schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, n, STEP):
                place = np.arange(start, min(start + STEP, n))
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows[place].ravel()), dim)
                yield pa.record_batch([pa.array(place), vectors], schema=schema)

        table = lancedb.connect(folder).create_table("frames", pa.RecordBatchReader.from_batches(schema, batches()))
        kind = {"IVF_PQ": "IvfPq", "IVF_RQ": "IvfRq", "IVF_HNSW_SQ": "HnswSq"}[self._kind]
        config = getattr(lancedb.index, kind)(distance_type="dot", **self._config(n, dim))
        table.create_index("vector", config=config)

    def open(self, folder: Path) -> None:
        import lancedb

        self._table = lancedb.connect(folder).open_table("frames")
        for index in self._table.list_indices():
            self._table.prewarm_index(index.name)

    def search(self, query: Floats, k: int, **setting: Any) -> Sequence[int]:
        asked = self._table.search(query).distance_type("dot").limit(k).select(["row", "_distance"])
        for name, value in setting.items():
            asked = getattr(asked, name)(value)
        rows: list[int] = asked.to_arrow()["row"].to_pylist()
        return rows


def _grid(refine: Sequence[int], **knob: Sequence[int]) -> list[Setting]:
    """Every value of the one knob with every refine_factor."""
    ((name, values),) = knob.items()
    return [{name: value, "refine_factor": factor} for value in values for factor in refine]


def _lists(n: int) -> int:
    return max(1, round(math.sqrt(n)))


CONTESTANTS: dict[str, Callable[[], Contestant]] = {
    "ours": Ours,
    "faiss-ivf": lambda: FaissLists("fp32"),
    "faiss-ivf-sq8": lambda: FaissLists("sq8"),
    "faiss-ivf-rabitq1": lambda: FaissRaBitQ(1, (100, 500)),
    "faiss-ivf-rabitq4": lambda: FaissRaBitQ(4, (2, 5)),
    "faiss-ivf-darth": DeclaredRecall,
    "faiss-hnsw": lambda: FaissGraph("fp32"),
    "faiss-hnsw-sq8": lambda: FaissGraph("sq8"),
    "hnswlib": Hnswlib,
    "usearch-f32": lambda: Usearch("f32"),
    "usearch-f16": lambda: Usearch("f16"),
    "lancedb-pq": lambda: Lance(
        "IVF_PQ",
        _grid((5, 20, 50), nprobes=(16, 32, 64, 128, 256)),
        lambda n, dim: {"num_partitions": _lists(n), "num_sub_vectors": dim // 4},
    ),
    "lancedb-rq4": lambda: Lance(
        "IVF_RQ 4 bits",
        _grid((2, 5), nprobes=(16, 24, 32, 48, 64, 96, 128, 192, 256)),
        lambda n, dim: {"num_partitions": _lists(n), "num_bits": 4},
    ),
    "lancedb-rq8": lambda: Lance(
        "IVF_RQ 8 bits",
        _grid((1, 3), nprobes=(16, 24, 32, 48, 64, 96, 128, 192, 256)),
        lambda n, dim: {"num_partitions": _lists(n), "num_bits": 8},
    ),
    "lancedb-hnsw-sq": lambda: Lance(
        "IVF_HNSW_SQ",
        _grid((1, 3, 5), ef=(64, 128, 192, 256, 384, 512, 768, 1024, 1536)),
        lambda n, dim: {"num_partitions": 1, "m": GRAPH_DEGREE, "ef_construction": GRAPH_EFFORT},
    ),
}


def is_installed(contestant: Contestant) -> bool:
    """Whether its library is there."""
    return find_spec(contestant.imports[0].split(".")[0]) is not None


def version_of(contestant: Contestant) -> str:
    """Name and version of its library."""
    return f"{contestant.library} {version(contestant.library)}"


def cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
