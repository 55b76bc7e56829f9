"""The benchmark beside other libraries: contestants agree on tiny data, and the document says what the figures say."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from benchmarks.contest import GroundTruth, Point, Seat, Tally, built, contest, mapped, promising
from benchmarks.contestants import CONTESTANTS, is_installed
from benchmarks.peer_report import Contender, Figures, better, picture, text, worse
from benchmarks.peers import made_up

K = 10


@pytest.fixture(scope="module")
def data():
    """Few rows, and queries unlike them."""
    return made_up(3000, 32)


@pytest.fixture(scope="module")
def truth(data):
    return GroundTruth.of(data.rows, data.test[:30], K)


@pytest.mark.filterwarnings("default")  # Warnings of other libraries are theirs.
@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_contestant_finds_nearly_all_when_it_searches_widely(name, data, truth, tmp_path):
    contestant = CONTESTANTS[name]()
    if not is_installed(contestant):
        pytest.skip(f"{contestant.library} is not installed; pip install -r requirements-bench.txt")
    contestant.build(data.rows, data.bank, tmp_path)
    contestant = CONTESTANTS[name]()
    contestant.open(tmp_path)
    hits = [
        truth.hits(i, contestant.search(query, K, **contestant.settings[-1])) for i, query in enumerate(truth.queries)
    ]
    assert sum(hits) >= 0.9 * K * len(hits)


def test_two_contestants_in_processes_of_their_own_are_measured_in_turn(data, tmp_path):
    test = data.test[:20]
    for name, each in (("rows", data.rows), ("bank", data.bank), ("test", test)):
        np.save(tmp_path / f"{name}.npy", each)
    first = built("ours", tmp_path, n_shards=2)
    assert first.nbytes > data.rows.size * 2
    assert built("ours", tmp_path, n_shards=2) == first
    stale = {"options": {"lists": 1}, "built": {"seconds": -1, "threads": 1, "nbytes": 1}}
    (tmp_path / "faiss-ivf.json").write_text(json.dumps(stale), encoding="utf-8")
    assert built("faiss-ivf", tmp_path).seconds > 0
    settings = {"ours": [{"n_probe": 8}, {"n_probe": 4096}], "faiss-ivf": [{"nprobe": 1}]}
    with Seat("ours", tmp_path, 1) as ours, Seat("faiss-ivf", tmp_path, 1) as faiss:
        results = contest([ours, faiss], settings, GroundTruth.of(data.rows, test, K), rounds=2, block=15)
    wide = results["ours"].points[-1]
    assert wide.setting == {"n_probe": 4096}
    assert wide.recall > 0.98
    assert wide.n == 40
    (narrow,) = results["faiss-ivf"].points
    assert 0 < narrow.recall < wide.recall
    assert 0 < narrow.p50 <= narrow.p95 <= narrow.p99
    for result in results.values():
        assert result.memory is None or result.memory["anonymous"] > 0


def test_truth_counts_rows_that_tie_and_counts_a_row_once():
    rows = np.array([[1, 0], [1, 0], [0.6, 0.8], [0, 1]], np.float32)
    truth = GroundTruth.of(rows, np.array([[1, 0]], np.float32), k=1, step=3)
    assert truth.hits(0, [0]) == truth.hits(0, [1]) == 1
    assert truth.hits(0, [0, 0, 2]) == 1
    assert truth.hits(0, [2, 3]) == 0


def test_rows_as_float16_cannot_tell_near_duplicates_apart():
    near = np.array([[0.6 + 4e-6 * i, 0.8] for i in np.random.default_rng(0).permutation(100)], np.float32)
    assert GroundTruth.of(near, np.array([[1, 0]], np.float32), k=5).recall_in_half(step=7) < 1
    far = np.eye(8, dtype=np.float32)
    assert GroundTruth.of(far, far, k=1).recall_in_half(step=3) == 1.0


def test_a_setting_that_finds_no_more_in_far_more_time_is_dropped():
    quick, slow, better = Tally({"n": 1}, [1.0], 9, 10), Tally({"n": 2}, [2.5], 9, 10), Tally({"n": 3}, [9.0], 10, 10)
    assert promising([quick, slow, better]) == [quick, better]


def test_mapped_pages_are_counted_under_their_folder_only(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(1 << 18, np.uint8))
    rows = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert rows.sum() == 1 << 18
    assert mapped(tmp_path) >= 1 << 18
    assert mapped(tmp_path / "other") == 0


def contender(name, points, **changed):
    made = {"build_seconds": 10.0, "build_threads": 2, "disk": 100 << 20, "cpu_share": 1.0}
    made["memory"] = {"anonymous": 60 << 20, "mapped": 40 << 20}
    return Contender(
        name=name,
        label={"ours": "this engine"}.get(name, name),
        points=[Point({"ef": i}, recall, p50, 2 * p50, 3 * p50, 100) for i, (recall, p50) in enumerate(points)],
        **{**made, **changed},
    )


@pytest.fixture
def figures():
    return Figures(
        about="made-up figures",
        n=1000,
        dim=8,
        n_bank=5,
        n_test=100,
        k=K,
        rounds=3,
        n_shards=4,
        recall_in_half=0.9961,
        cpus=2,
        versions=["quick 1.0"],
        contenders=[
            contender("ours", [(0.91, 1.0), (0.96, 2.0), (0.98, 4.0)]),
            contender("quick", [(0.91, 0.5), (0.93, 3.0), (0.955, 2.5), (0.995, 20.0)], disk=50 << 20),
            contender("small", [(0.5, 0.1)], memory=None, build_seconds=30.0),
        ],
    )


def test_the_front_leaves_out_what_another_setting_beats_in_both(figures):
    assert [point.recall for point in figures.contenders[1].front()] == [0.91, 0.955, 0.995]


def test_the_document_says_where_each_side_is_better_in_the_figures_of_the_run(figures):
    (quick,) = better(figures)
    assert "**quick** answers sooner than this engine at recall 0.90 (0.50 ms against 1.00, 2.0 times)" in quick
    assert "alone reaches recall 0.99" in quick
    assert "takes less disk, 52 MB against 105" in quick
    assert "0.95" not in quick
    slower, small = worse(figures)
    assert "at recall 0.95 (2.50 ms against 2.00, 1.2 times)" in slower
    assert small == "**small** does not reach recall 0.90, 0.95, 0.97; builds later, 30 s against 10."
    document = text(figures)
    assert quick in document
    assert "| **this engine** | 1.00 (ef 0) | 2.00 (ef 1) | 4.00 (ef 2) | not reached |" in document
    assert "1,000 x 8" in document
    assert "finds 0.996 of" in document


def test_a_run_without_the_engine_claims_nothing(figures):
    alone = Figures.from_json({**figures.to_json(), "contenders": figures.to_json()["contenders"][1:]})
    assert better(alone) == worse(alone) == []
    assert "Nowhere in this run." in text(alone)


def test_figures_come_back_from_json_as_they_were(figures):
    assert Figures.from_json(figures.to_json()) == figures


def test_the_chart_is_svg_with_a_line_for_each_contender(figures):
    tree = ElementTree.fromstring(picture(figures))
    words = {each.text for each in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"this engine", "quick", "small"} <= words
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}circle"))) == 3 + 3
