"""The shard-size planner: its rule, its figures against real files, and what it refuses."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.frames.columns import PLAIN
from engine.reports import capacity, shard_sizes
from engine.reports.capacity import format_plan, plan_shards
from engine.routing.calibration import Calibration
from engine.routing.model import MAX_BANK_FRAMES, Ranking, RoutingModel, fit_routing_model, write_routing_model
from engine.routing.query_bank import MAX_BANK_TEXTS, QueryBank
from engine.routing.scorer import LinearModel
from engine.storage import FITTING
from engine.storage.limits import Limits
from engine.storage.rows import columns_of, prepare_rows
from engine.storage.segment import Segment
from engine.storage.segment_writer import write_segment
from engine.system.units import parse_bytes
from engine.vectors import CODECS
from engine.vectors.cells import choose_n_cells, train_cells, write_cells
from testing.worlds import fill, make_video, queries

MB, GB = 1 << 20, 1 << 30

KINDS = [(codec, store) for codec in CODECS for store in shard_sizes.STORES if codec != "fp32" or store == "fp32"]
"""Codecs with the stores that a collection can be made with."""
counts = st.integers(1, 20_000_000)
dims = st.integers(1, 2048)
rams = st.integers(16, 40).flatmap(lambda power: st.integers(1 << power, 2 << power))
kinds = st.sampled_from([{"codec": codec, "store": store} for codec, store in KINDS] + [{"codec": "fp32"}])
"""All of these, and bare rows."""


def plan_or_none(*args, **options):
    try:
        return plan_shards(*args, **options)
    except ValueError:
        return None


def test_the_guides_example_comes_out_with_its_figures():
    plan = plan_shards(8 * GB, None, 768, codec="fp32", shard_bytes=GB // 2)
    assert plan.n_shards == 16
    assert float(f"{plan.vectors_per_shard:.2g}") == 170_000
    assert plan.fits
    assert plan.resident_nbytes <= 8 * GB
    assert plan.shard_nbytes == pytest.approx(GB // 2, rel=1e-4)
    # Ids count: without them it would be 2^29 / (768 * 4) = 174,762.
    assert plan.vectors_per_shard == 2**29 // (768 * 4 + 8)
    assert not plan.codes_nbytes + plan.columns_nbytes + plan.centroids_nbytes + plan.router_nbytes + plan.build_nbytes
    assert "bare float32 rows, without cells and columns" in plan.reason


def test_a_collection_of_the_codec_fp32_takes_more_than_the_guides_bare_rows():
    plan = plan_shards(8 * GB, None, 768, codec="fp32", store="fp32", shard_bytes=GB // 2)
    assert (plan.n_shards, plan.fits, plan.segments_per_shard) == (15, True, 2)
    assert plan.codes_nbytes > plan.rows_nbytes
    assert "fp32 codes" in plan.reason


def test_the_same_memory_holds_three_million_compressed_vectors_with_room_to_spare():
    plan = plan_shards(8 * GB, 3_000_000, 768)
    assert (plan.n_shards, plan.vectors_per_shard, plan.fits, plan.exact_is_enough) == (18, 166_667, True, False)
    assert plan.shard_nbytes < shard_sizes.SHARD_NBYTES
    assert plan.resident_nbytes < 3 * GB


def test_a_shard_of_the_usual_size_holds_as_many_vectors_as_the_guides():
    # With as many cells as a build chooses today, more of a shard are lists.
    plan = plan_shards(64 * GB, 5_000_000, 768, n_cells=8192)
    assert float(f"{plan.vectors_per_shard:.2g}") == 170_000


def test_what_does_not_fit_is_cut_so_that_sixteen_shards_stay_in_memory():
    plan = plan_shards(2 * GB, 10_000_000, 768, codec="sq4")
    assert not plan.fits
    assert 16 <= plan.shards_in_memory < plan.n_shards
    assert "read from disk" in plan.reason


def test_a_smaller_share_makes_smaller_shards_of_what_does_not_fit():
    # With fewer cells than a build chooses, or two rows for each already take more than the smaller share.
    usual, small = (plan_shards(2 * GB, 10_000_000, 768, n_cells=8192, share=share) for share in (1 / 16, 1 / 32))
    assert small.shard_nbytes < usual.shard_nbytes
    assert small.shards_in_memory >= 32


def test_many_workers_leave_half_the_memory_to_the_cache_where_not_all_fits():
    # With fewer cells than a build chooses, or two rows for each already take more than half.
    plan = plan_shards(GB, 3_000_000, 768, n_cells=8192, workers=12)
    left = GB - plan.centroids_nbytes - plan.columns_nbytes
    assert left / 3 < 12 * plan.shard_nbytes <= left / 2


def test_few_vectors_get_one_shard_and_the_advice_to_scan_them():
    plan = plan_shards(8 * GB, 94_000, 512)
    assert (plan.n_shards, plan.fits, plan.exact_is_enough) == (1, True, True)
    assert "scanned whole in about 5 ms" in plan.reason
    assert not plan_shards(8 * GB, capacity.EXACT_UP_TO + 1, 512).exact_is_enough


@pytest.mark.parametrize(("store", "width"), shard_sizes.STORES.items())
def test_collections_below_the_size_that_gets_codes_are_held_as_they_are_stored(store, width):
    plan = plan_shards(GB, 49_999, 64, store=store)
    assert plan.codes_nbytes == 0
    assert plan.shard_nbytes == 49_999 * (64 * width + 8) + plan.n_cells * shard_sizes.LIST_NBYTES
    assert plan_shards(GB, 50_000, 64, store=store).codes_nbytes > 0


@pytest.mark.parametrize("dim", [64, 16_384])
def test_a_large_collection_has_codes_however_small_its_shards_and_segments(dim):
    size = 300 * (dim + 8) + 300 * shard_sizes.LIST_NBYTES
    plan = plan_shards(64 * GB, 100_000, dim, shard_bytes=size)
    assert plan.vectors_per_shard == 300
    assert plan.codes_nbytes
    assert plan.shard_nbytes <= size
    assert Limits().segment_rows(16_384, "fp16") == 10_000
    assert plan_shards(64 * GB, 60_000, 16_384).codes_nbytes


def test_the_planner_knows_every_codec_and_the_frame_columns():
    new, frames = make_video(0, 5)
    vectors = prepare_rows(frames, frames.vectors.shape[1], "ip", "fp16")
    columns = columns_of([new], np.zeros(1, np.int32), 0, frames, vectors, None)
    assert sum(getattr(columns, name).itemsize for name in PLAIN) == shard_sizes.COLUMNS_NBYTES
    assert set(shard_sizes.BITS) == set(CODECS)
    assert {store: np.dtype(f"f{width}").itemsize for store, width in shard_sizes.STORES.items()} == shard_sizes.STORES


def write(folder, n: int, dim: int, n_cells: int, codec: str, store: str, *, coded: bool):
    """A segment of n rows, its cells and a router, on disk."""
    new, frames = make_video(0, n, dim)
    frames = replace(frames, tags=())
    vectors = prepare_rows(frames, dim, "ip", store)
    cells = train_cells(vectors.astype(np.float32), n_cells, codec, 1, two_level=False)
    columns = columns_of([new], np.zeros(1, np.int32), 0, frames, vectors, cells)
    row = write_segment(
        folder / "1",
        1,
        0,
        columns,
        vectors.__getitem__,
        cells,
        codec,
        "ip",
        datetime(2024, 5, 1),
        coded=coded,
        codes_only=coded and store == "codes",
    )
    write_cells(folder / "cells", cells)
    routing = LinearModel(np.zeros((n_cells, dim), np.float32), np.zeros(n_cells, np.float32))
    images = queries(MAX_BANK_FRAMES, dim)
    text, image = (
        Ranking(
            routing,
            None,
            lambda bank=bank: bank,
            lambda bank=bank: np.zeros((n_cells, len(bank.vectors)), "f4"),
            lambda: None,
        )
        for bank in (
            QueryBank.of(queries(MAX_BANK_TEXTS, dim), "test"),
            QueryBank(images, np.zeros(MAX_BANK_FRAMES, np.int8), MAX_BANK_FRAMES, "", images[:0]),
        )
    )
    write_routing_model(folder / "router", RoutingModel(text, lambda: image, Calibration((), n), n, n))
    return Segment(folder / "1", row, dim, "ip", codec)


def size(path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in path.iterdir()) if path.is_dir() else path.stat().st_size


@pytest.mark.parametrize(("codec", "store"), KINDS)
@pytest.mark.parametrize("dim", [32, 63])
def test_planned_bytes_are_those_of_real_files_and_of_a_loaded_segment(tmp_path, codec, store, dim, limit):
    n = 12_000
    n_cells = choose_n_cells(n) // 8
    limit(coded_from=n)
    written = write(tmp_path, n, dim, n_cells, codec, store, coded=True)
    plan = plan_shards(GB, n, dim, codec=codec, store=store, n_cells=n_cells)
    files = tmp_path / "1"
    assert plan.n_shards == plan.segments_per_shard == 1
    rows_nbytes = 0 if store == "codes" else size(files / "vectors.npy")
    assert plan.rows_nbytes == pytest.approx(rows_nbytes, rel=0.05)
    assert plan.codes_nbytes == pytest.approx(size(files / "codes.faiss") + size(files / "cells.npy"), rel=0.05)
    assert plan.columns_nbytes == pytest.approx(size(files / "frames.arrow"), rel=0.05)
    routing = 2 * size(tmp_path / "router" / "text_vectors.npy")
    assert plan.centroids_nbytes == pytest.approx(size(tmp_path / "cells" / "centroids.npy") + routing, rel=0.05)
    assert plan.router_nbytes == pytest.approx(size(tmp_path / "router") - routing, rel=0.05)
    whole = size(files) + size(tmp_path / "cells") + size(tmp_path / "router")
    assert plan.disk_nbytes == pytest.approx(whole, rel=0.05)
    assert plan.shard_nbytes == pytest.approx(written.load("loaded").nbytes, rel=0.05)


@pytest.mark.parametrize(("codec", "store"), KINDS)
def test_planned_memory_of_uncoded_rows_is_that_of_a_loaded_segment(tmp_path, codec, store):
    n, dim = 3_000, 64
    written = write(tmp_path, n, dim, 16, codec, store, coded=False)
    plan = plan_shards(GB, n, dim, codec=codec, store=store, n_cells=16)
    assert plan.shard_nbytes == pytest.approx(written.load("loaded").nbytes, rel=0.015)
    assert not plan.codes_nbytes


def test_a_shard_of_several_segments_is_planned_as_a_build_makes_it(tmp_path, limit, monkeypatch):
    n, dim, n_cells = 24_000, 32, 256
    limit(segment_nbytes=12_500 * 2 * dim, coded_from=n)
    samples = []
    monkeypatch.setattr(
        "engine.storage.build.train_cells",
        lambda sample, *rest, **told: samples.append(sample) or train_cells(sample, *rest, **told),
    )
    new, frames = make_video(0, n, dim)
    video = new, replace(frames, tags=())
    with fill(tmp_path / "c", [video], dim=dim, n_shards=1, n_cells=n_cells):
        folders = list((tmp_path / "c" / "segments").iterdir())
        plan = plan_shards(GB, n, dim, n_cells=n_cells)
        assert (plan.n_shards, plan.segments_per_shard) == (1, len(folders)) == (1, 2)
        codes = sum(size(folder / name) for folder in folders for name in ("codes.faiss", "cells.npy"))
        assert plan.codes_nbytes == pytest.approx(codes, rel=0.05)
        assert plan.rows_nbytes == pytest.approx(sum(size(folder / "vectors.npy") for folder in folders), rel=0.05)
    (sample,) = samples
    assert plan.build_nbytes > sample.nbytes + plan.shard_nbytes / 2


@pytest.mark.parametrize("n_cells", [64, 1024])
def test_fitting_the_router_takes_the_memory_that_is_planned_for_it(n_cells):
    n, dim = 10_000, 16
    rows = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cells = train_cells(rows.copy(), n_cells, "sq8", 1, two_level=True)
    cell = cells.assign(rows)
    bank, places = QueryBank.of(queries(MAX_BANK_TEXTS, dim), "test"), np.arange(0, n, n // 256)[:256]
    tracemalloc.start()
    fit_routing_model(bank, cells, np.bincount(cell, minlength=n_cells), [(rows, cell)], rows[places], places, n)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    steps = plan_shards(64 * GB, n, dim, n_cells=n_cells).build_steps
    planned = max(steps[FITTING], steps["fitting the router"]) - 12 * n - shard_sizes.LIBRARIES_NBYTES
    assert 0.7 * planned < peak < 1.1 * planned


def test_a_build_takes_no_more_for_more_vectors_than_their_columns_once_its_sample_is_full():
    some, more = (plan_shards(64 * GB, n, 768, n_cells=4096) for n in (5_000_000, 20_000_000))
    assert some.vectors_per_shard == pytest.approx(more.vectors_per_shard, rel=0.05)
    for step, nbytes in some.build_steps.items():
        a_row = (more.build_steps[step] - nbytes) / 15_000_000
        assert a_row == pytest.approx(
            {"placing frames": 64, "writing shards": 64, "training cells": 8}.get(step, 12), rel=0.05
        )
    assert shard_sizes.TRAIN_VALUES < some.build_nbytes < GB


@given(ram=rams, n=counts, dim=dims, kind=kinds, workers=st.integers(1, 32))
def test_a_plan_keeps_its_promises(ram, n, dim, kind, workers):
    plan = plan_or_none(ram, n, dim, workers=workers, **kind)
    if plan is None:
        return
    assert plan.n_shards * plan.vectors_per_shard >= n
    assert (plan.n_shards - 1) * plan.vectors_per_shard < n
    assert plan.workers * plan.shard_nbytes <= ram
    assert plan.resident_nbytes <= ram
    assert 1 <= plan.shards_in_memory <= plan.n_shards
    assert plan.fits == (plan.shards_in_memory == plan.n_shards)
    assert plan.n_shards == 1 or plan.vectors_per_shard >= max(shard_sizes.LEAST_SHARD_ROWS, 2 * plan.n_cells)
    assert format_plan(plan).endswith(plan.reason)


@given(ram=rams, n=counts, dim=dims, kind=kinds, size=st.integers(1, 2 * GB))
def test_a_shard_is_never_larger_than_was_asked_for(ram, n, dim, kind, size):
    plan = plan_or_none(ram, n, dim, shard_bytes=size, **kind)
    if plan is not None:
        assert plan.shard_nbytes <= size
        assert (plan.n_shards - 1) * plan.vectors_per_shard < n <= plan.n_shards * plan.vectors_per_shard


@given(ram=rams, more=rams, n=counts, dim=dims, kind=kinds, workers=st.integers(1, 8))
def test_more_memory_never_means_more_shards_nor_a_refusal(ram, more, n, dim, kind, workers):
    less, more = sorted([ram, more])
    before = plan_or_none(less, n, dim, workers=workers, **kind)
    if before is None:
        return
    after = plan_shards(more, n, dim, workers=workers, **kind)
    assert after.n_shards <= before.n_shards
    assert after.shards_in_memory == after.n_shards or not before.fits


@given(n=counts, dim=dims, store=st.sampled_from(["fp16", "fp32"]))
def test_more_bits_per_dimension_never_take_fewer_bytes(n, dim, store):
    # The same number of shards for all, so that only the codes differ.
    plans = [
        plan_shards(1 << 50, n, dim, codec=codec, store=store, shard_bytes=1 << 40)
        for codec, kept in KINDS
        if kept == store
    ]
    by_bits = sorted(plans, key=lambda plan: shard_sizes.BITS[plan.codec])
    for fewer, more in pairwise(by_bits):
        assert fewer.shard_nbytes <= more.shard_nbytes
        assert fewer.disk_nbytes <= more.disk_nbytes


@given(ram=rams, dim=dims, kind=kinds, size=st.none() | st.integers(MB, GB))
def test_the_largest_collection_fits_and_a_larger_one_does_not(ram, dim, kind, size):
    plan = plan_or_none(ram, None, dim, shard_bytes=size, **kind)
    if plan is None:
        return
    assert plan.fits
    assert plan_shards(ram, plan.n_vectors, dim, shard_bytes=size, **kind) == plan
    # A size that was asked for is kept to by full shards; from 50,000 vectors on codes take the place of stored rows.
    more = plan.n_vectors // 100 + 10_000
    if size is not None:
        more = 2 * plan.vectors_per_shard
    beyond = plan_or_none(ram, plan.n_vectors + more, dim, shard_bytes=size, **kind)
    assert beyond is None or not beyond.fits


@given(ram=rams, n=counts, dim=dims, kind=kinds, workers=st.integers(1, 8))
def test_the_memory_that_a_refusal_asks_for_is_enough(ram, n, dim, kind, workers):
    try:
        plan_shards(ram, n, dim, workers=workers, **kind)
    except ValueError as error:
        asked = re.search(r"give at least ([\d.]+ \w+)", str(error))
        assert asked is not None
        assert parse_bytes(asked[1]) > ram
        plan_shards(parse_bytes(asked[1]), n, dim, workers=workers, **kind)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ram": 0}, "memory to plan for is 0 bytes"),
        ({"ram": -5}, "memory to plan for is -5 bytes"),
        ({"dim": 0}, "0 dimensions"),
        ({"n_vectors": 0}, "0 vectors"),
        ({"codec": "pq"}, "Unknown codec 'pq'; use sq8, sq4, fp16, fp32"),
        ({"store": "int8"}, "Unknown store 'int8'; use fp16, fp32"),
        ({"workers": 0}, "0 workers"),
        ({"share": 0.0}, "share above 0"),
        ({"share": 1.5}, "share above 0"),
        ({"n_cells": -1}, "-1 cells"),
        ({"n_cells": 2_000_000}, "at least as many vectors"),
        ({"n_cells": 8, "codec": "fp32"}, "Bare fp32 rows have no cells"),
        ({"codec": "fp32", "store": "fp16"}, "The codec fp32 needs store='fp32'"),
        ({"store": ""}, "Unknown store ''; use fp16, fp32"),
        ({"shard_bytes": 0}, "holds nothing"),
        ({"shard_bytes": 9 * GB}, "9.7 GB is larger than the memory, 8.6 GB"),
        ({"shard_bytes": 100}, "does not hold one vector of 768 dimensions"),
        ({"shard_bytes": 4 * GB, "workers": 4, "n_vectors": 10**7}, "4 open shards"),
        ({"ram": 64 * MB}, "cannot hold .* of centroids and columns and an open shard"),
        ({"ram": 1, "n_vectors": None}, "cannot hold"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_sentence(changed, message):
    with pytest.raises(ValueError, match=message) as caught:
        plan_shards(**{"ram": 8 * GB, "n_vectors": 1_000_000, "dim": 768, **changed})
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_description_names_shards_memory_and_disk():
    lines = format_plan(plan_shards(8 * GB, 3_000_000, 768)).splitlines()
    assert lines[0] == "shards  18 of 166,667 vectors, 131 MB each when open"
    assert lines[1].startswith("memory  2.8 GB of 8.6 GB: 18 of 18 shards, ")
    assert lines[2].startswith("disk    7.7 GB: 4.6 GB stored rows, 2.3 GB sq8 codes, ")
    assert lines[2].endswith(" MB router")
    assert lines[3].startswith("build   1.2 GB of memory")
    assert len(lines) == 5
    bare = format_plan(plan_shards(8 * GB, 3_000_000, 256, codec="fp32"))
    assert "build" not in bare
    assert len(bare.splitlines()) == 4
