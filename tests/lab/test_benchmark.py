"""Contenders side by side: each answers like the thing it stands for, is counted right, and leaves nothing behind."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from engine.cli.main import main
from engine.collection import Collection
from engine.errors import BenchError, NotACollection, Stopped, StorageFull
from engine.lab.compare.benchmark import Benchmark, ComparisonRequest, _rising_widths
from engine.lab.compare.contenders import (
    CHOOSING,
    CONTENDER_NAMES,
    ContenderAnswer,
    ContenderSetting,
    Naive,
    PeakMemory,
    RamFlat,
    search_request,
    write_shards,
)
from engine.lab.compare.report import (
    TABLE_COLUMNS,
    ComparisonReport,
    ContenderResult,
    MeasuredQuery,
    as_csv,
    format_table,
    table_row,
)
from engine.lab.compare.runner import ContenderRunner
from engine.search import SearchRequest
from engine.search.ground_truth import TIES, GroundTruth, reading
from engine.storage.limits import limited
from engine.system.memory import can_drop_page_cache, resident_memory
from engine.system.worker import WorkerProcess
from testing.worlds import DIM, FEW, VIDEOS, N, fill, queries

QUERIES = queries(6)
N_PROBE = 2
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A built collection with codes, that is only read."""
    with limited(coded_from=1):
        made = tmp_path_factory.mktemp("bench") / "c"
        with fill(made, VIDEOS, n_shards=4) as collection:
            collection.build(queries=np.random.default_rng(3).normal(size=(200, DIM)))
            collection.delete("v3")
    return made


@pytest.fixture
def scratch(tmp_path):
    """Where temporary files go."""
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def children(of: int | str = "self") -> set[int]:
    """Processes that this one has started and that have not ended; none where the system does not tell."""
    tasks = Path(f"/proc/{of}/task").glob("*/children")
    return {int(pid) for each in tasks for pid in each.read_text().split()}


def runs(pid: int) -> bool:
    """Whether a process is there and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.fixture(scope="module")
def raced(path, tmp_path_factory):
    """Everybody against everybody, once; with what was told on the way and what was left in the folder."""
    scratch, told, before = tmp_path_factory.mktemp("scratch"), [], children()
    bench = Benchmark(ComparisonRequest(path, QUERIES, k=5, n_probe=N_PROBE, scratch=scratch))
    verdict = bench.run(lambda *now: told.append(now))
    return verdict, told, list(scratch.iterdir()), children() - before


class TestARace:
    def test_everybody_takes_part_and_every_query_is_kept(self, raced):
        verdict = raced[0]
        assert [each.name for each in verdict.results] == list(CONTENDER_NAMES)
        assert (verdict.n_queries, verdict.n_frames, verdict.k) == (6, N - 30, 5)
        for each in verdict.results:
            assert len(each.queries) == 6
            assert 0 < min(query.ms for query in each.queries) <= each.p50_ms <= each.p95_ms <= each.p99_ms
            assert each.recall == pytest.approx(np.mean([query.recall for query in each.queries]))
            assert each.first_ms > 0

    def test_who_scans_everything_finds_everything(self, raced):
        for each in raced[0].results[:3]:
            assert each.recall == 1
            assert each.fraction_scanned == each.work == 1
            assert each.setting == ""

    def test_figures_are_those_of_the_same_search_made_here(self, raced, path):
        for each in raced[0].results[3:]:
            router = "learned" if each.name == "routed" else each.name
            with Collection.open(path) as collection:
                traces = [collection.search(query, 5, n_probe=N_PROBE, router=router).trace for query in QUERIES]
            assert each.router == router
            assert [query.shards_probed for query in each.queries] == [trace.shards_probed for trace in traces]
            assert each.shards_total == 4
            assert each.n_probe == np.mean([trace.n_probe for trace in traces])
            assert each.fraction_scanned == pytest.approx(
                np.mean([trace.vectors_scanned for trace in traces]) / (N - 30)
            )
            work = [trace.cells_scored + trace.vectors_scanned + trace.vectors_rescored for trace in traces]
            assert each.work == pytest.approx(np.mean(work) / (N - 30))
            assert each.bytes_read == 0
            assert each.recall < 1

    def test_the_naive_loop_reads_every_file_for_every_query(self, raced):
        naive = raced[0].results[0]
        heads = naive.bytes_read - (N - 30) * DIM * 4
        assert 0 < heads <= naive.shards_probed * 64
        assert naive.shards_probed <= naive.shards_total == 4

    def test_what_was_found_is_kept_and_who_scans_everything_found_what_is_right(self, raced):
        verdict = raced[0]
        assert (verdict.rows, len(verdict.ground_truth)) == (tuple(range(6)), 6)
        for each in verdict.results:
            for asked, right in zip(each.queries, verdict.ground_truth, strict=True):
                assert len(asked.frame_ids) == 5
                assert asked.recall == min(5, len(set(asked.frame_ids) & set(right))) / 5
        assert all(
            set(asked.frame_ids) <= set(right)
            for asked, right in zip(verdict.result_for("exact").queries, verdict.ground_truth, strict=True)
        )

    def test_steps_name_every_shard_searched_in_the_order_of_the_clock(self, raced):
        for each in raced[0].results:
            for asked in each.queries:
                shards, ends = zip(*asked.steps, strict=True)
                assert list(ends) == sorted(ends)
                assert 0 < ends[0] <= ends[-1] <= asked.ms
                opened = [shard for shard in shards if shard != CHOOSING]
                assert len(set(opened)) == len(opened) == asked.shards_probed
                assert set(opened) <= set(range(each.shards_total))
                assert (CHOOSING in shards) == (each.name not in ("naive", "ram_flat"))

    @pytest.mark.skipif(resident_memory() is None, reason="the system does not tell")
    def test_memory_is_told_where_the_system_tells(self, raced):
        for each in raced[0].results:
            assert 0 <= each.anonymous_bytes < 1e9
            assert 0 <= each.file_bytes < 1e9

    def test_progress_names_contenders_and_ends_with_all_queries(self, raced):
        told = raced[1]
        assert {name for name, done, total in told if (done, total) == (6, 6)} >= set(CONTENDER_NAMES)
        assert all(0 <= done <= total for _, done, total in told)

    def test_neither_files_nor_processes_are_left(self, raced):
        assert raced[2:] == ([], set())

    def test_the_sentence_and_the_table_say_the_figures(self, raced):
        verdict = raced[0]
        routed, naive = verdict.results[-1], verdict.results[0]
        assert verdict.summary.startswith(f"routed answered in {routed.p50_ms:,.2f} ms (p50), opening")
        assert "the naive loop took" in verdict.summary
        times = naive.p50_ms / routed.p50_ms
        assert verdict.summary.endswith("which is less." if times < 1 else "times as long.")
        assert times < 1 or f"{times:,.1f}"[:1] in verdict.summary.rsplit(":", 1)[1]
        lines = format_table(verdict.results)
        assert len({len(line) for line in lines}) == 1
        assert [line.split()[0] for line in lines[1:]] == list(CONTENDER_NAMES)

    def test_figures_for_other_programs_are_those_of_the_document(self, raced):
        standings = raced[0].results
        rows = list(csv.DictReader(io.StringIO(as_csv(standings))))
        assert [
            {name: str("" if value is None else value) for name, value in each.document().items()} for each in standings
        ] == rows
        for each in standings:
            told = table_row(each)
            assert (told["recall"], told["p95 ms"], told["read MB"]) == (
                each.recall,
                each.p95_ms,
                each.bytes_read / 1e6,
            )
            assert tuple(told) == TABLE_COLUMNS


class TestWidths:
    def test_the_least_that_reaches_the_recall_is_found_on_other_queries(self, path, scratch):
        request = ComparisonRequest(path, QUERIES, k=5, recall=0.9, contenders=("spread",), scratch=scratch)
        (found,) = Benchmark(request).run().results
        assert len(found.queries) == 3
        width = int(found.setting.removeprefix("n_probe "))
        with Collection.open(path) as collection, reading(path) as snapshot:
            truth = GroundTruth.of(
                snapshot, QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True), 5, lambda *_: None
            )

            def recall(n_probe: int) -> float:
                hits = {i: collection.search(QUERIES[i], 5, n_probe=n_probe, router="spread").hits for i in (0, 2, 4)}
                return np.mean([truth.recall(i, [hit.frame_id for hit in each]) for i, each in hits.items()])

            ladder = _rising_widths(len(snapshot.cells), halves=True)
            assert recall(width) >= 0.9
            assert all(recall(n) < 0.9 for n in ladder[: ladder.index(width)])

    def test_a_sweep_has_a_row_for_each_width(self, path, scratch):
        verdict = Benchmark(
            ComparisonRequest(path, QUERIES, k=5, sweep=True, contenders=("centroid",), scratch=scratch)
        ).run()
        with reading(path) as snapshot:
            ladder = _rising_widths(len(snapshot.cells), halves=False)
        assert [each.setting for each in verdict.results] == [f"n_probe {n}" for n in ladder]
        scanned = [each.fraction_scanned for each in verdict.results]
        assert scanned == sorted(scanned)
        assert verdict.results[-1].recall == 1

    def test_a_recall_is_left_to_the_router_unless_that_scans_everything(self, path, scratch, monkeypatch):
        def reason(self, which, setting, **how):
            return [ContenderAnswer(0, (), 4, 4, 1, 1, 0, 1, router, "So few frames.")]

        for router, setting in (("learned", ContenderSetting(recall=0.9)), ("", ContenderSetting(n_probe=7))):
            with monkeypatch.context() as patch:
                patch.setattr("engine.lab.compare.runner.ContenderRunner.ask", reason)
                patch.setattr(
                    "engine.lab.compare.runner.ContenderPool.trying",
                    lambda self, name: nullcontext(ContenderRunner(name, None, 0.0)),
                )
                patch.setattr(
                    "engine.lab.compare.benchmark.Benchmark._least_width",
                    lambda self, runner, truth: ContenderSetting(n_probe=7),
                )
                bench = Benchmark(ComparisonRequest(path, QUERIES, recall=0.9, contenders=("routed",), scratch=scratch))
                assert bench._widths("routed", None) == [setting]
                told = [] if router else ["Asked for a recall of 0.9, routed scans everything: So few frames."]
                assert bench._notes == told

    def test_a_router_that_is_not_there_stays_out_or_is_named(self, tmp_path, scratch):
        fill(tmp_path / "c", FEW).close()
        request = ComparisonRequest(tmp_path / "c", QUERIES, n_probe=1, contenders=("routed",), scratch=scratch)
        with pytest.raises(ValueError, match="has no learned router"):
            Benchmark(request).run()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("engine.lab.compare.benchmark.CONTENDER_NAMES", ("exact", "routed"))
            verdict = Benchmark(replace(request, contenders=())).run()
        assert [each.name for each in verdict.results] == ["exact"]
        assert "has no learned router" in verdict.notes[0]

    def test_a_rising_widths_rises_to_every_cell(self):
        assert _rising_widths(1, halves=True) == [1]
        assert _rising_widths(6, halves=False) == [1, 2, 4, 6]
        assert _rising_widths(16, halves=True) == [1, 2, 3, 4, 6, 8, 12, 16]

    def test_what_a_contender_asks_of_the_search(self):
        assert search_request("exact", "text", 5, ContenderSetting()) == SearchRequest(5, exact=True)
        assert search_request("spread", "image", 5, ContenderSetting(n_probe=3)) == SearchRequest(
            5, router="spread", kind="image", n_probe=3
        )
        assert search_request("routed", "text", 5, ContenderSetting(n_probe=3)) == SearchRequest(
            5, router="learned", kind="text", n_probe=3
        )
        assert search_request("routed", "text", 5, ContenderSetting(recall=0.9)) == SearchRequest(
            5, kind="text", recall=0.9
        )
        assert str(ContenderSetting(recall=0.9)) == "recall 0.9"


@pytest.mark.skipif(not can_drop_page_cache(), reason="the system does not drop files when asked")
def test_cold_queries_read_every_shard_that_they_open_anew(path, scratch):
    verdict = Benchmark(
        ComparisonRequest(path, QUERIES, n_probe=N_PROBE, cold=True, limit=2, contenders=("routed",), scratch=scratch)
    ).run()
    (routed,) = verdict.results
    read = []
    for query in QUERIES[:2]:
        with Collection.open(path) as collection:
            read.append(collection.search(query, 10, n_probe=N_PROBE).trace.bytes_read)
    assert verdict.cold
    assert routed.bytes_read == np.mean(read) > 0


def test_squared_distances_are_compared_too(tmp_path, scratch):
    fill(tmp_path / "c", FEW, metric="l2").close()
    verdict = Benchmark(ComparisonRequest(tmp_path / "c", 3 * QUERIES, n_probe=1000, scratch=scratch)).run()
    assert [each.name for each in verdict.results] == ["naive", "ram_flat", "exact", "centroid"]
    assert [each.recall for each in verdict.results] == [1, 1, 1, 1]
    assert [note.split()[0] for note in verdict.notes] == ["spread", "routed"]


class TestTheReference:
    def test_it_is_every_inner_product(self, path):
        with reading(path) as snapshot:
            truth = GroundTruth.of(snapshot, QUERIES, 3, lambda *_: None)
            rows = np.concatenate([view.segment.vectors[view.live_rows()] for view in snapshot.views()])
            ids = np.concatenate([view.segment.columns.frame_id[view.live_rows()] for view in snapshot.views()])
        scores = QUERIES @ rows.astype(np.float32).T
        best = np.argsort(-scores, axis=1)[:, : 3 + TIES]
        np.testing.assert_allclose(truth.scores, np.take_along_axis(scores, best, 1), atol=1e-5)
        assert truth.recall(0, ids[best[0, :3]].tolist()) == 1
        assert truth.recall(0, [int(ids[best[0, 0]]), -1, -2]) == pytest.approx(1 / 3)

    def test_a_frame_as_good_as_the_last_counts_as_well(self):
        truth = GroundTruth(np.array([[5, 6, 7, 8]]), np.array([[0.9, 0.5, 0.5, 0.4]], np.float32), 2, "ip")
        assert truth.recall(0, [5, 7]) == truth.recall(0, [5, 6]) == 1
        assert truth.recall(0, [5, 8]) == 0.5
        assert truth.recall(0, [5, 6, 7]) == 1

    def test_the_flat_contenders_agree_with_it(self, path, scratch):
        write_shards(path, scratch / "shards", lambda *_: None)
        unit = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
        with reading(path) as snapshot:
            truth = GroundTruth.of(snapshot, unit, 7, lambda *_: None)
        for contender in (Naive(scratch / "shards", PeakMemory()), RamFlat(path)):
            contender.open(lambda *_: None)
            for i, query in enumerate(unit):
                assert truth.recall(i, contender.ask(query, 7, ContenderSetting()).frame_ids) == 1


class TestTheEnd:
    def test_a_stop_ends_every_process_and_removes_every_file(self, path, scratch):
        bench, before = (
            Benchmark(ComparisonRequest(path, np.tile(QUERIES, (10, 1)), contenders=("exact",), scratch=scratch)),
            children(),
        )
        started: list[set[int]] = []

        def progress(what: str, done: int, total: int) -> None:
            if what == "exact":
                started.append(children() - before)
                bench.stop()

        with pytest.raises(Stopped, match="was stopped"):
            bench.run(progress)
        assert started[0] or not Path("/proc").is_dir()
        assert children() - before == set()
        assert list(scratch.iterdir()) == []

    def test_a_stop_may_come_first(self, path, scratch):
        bench = Benchmark(ComparisonRequest(path, QUERIES, contenders=("exact",), scratch=scratch))
        bench.stop()
        with pytest.raises(Stopped):
            bench.run()
        assert list(scratch.iterdir()) == []

    def test_a_fault_in_what_listens_ends_it_as_well(self, path, scratch):
        before = children()

        def progress(what: str, done: int, total: int) -> None:
            raise RuntimeError("the page is gone")

        with pytest.raises(RuntimeError, match="the page is gone"):
            Benchmark(ComparisonRequest(path, QUERIES, contenders=("naive",), scratch=scratch)).run(progress)
        assert children() - before == set()
        assert list(scratch.iterdir()) == []

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
    def test_processes_end_and_clean_up_when_the_one_that_asks_is_killed(self, path, scratch, tmp_path):
        np.save(tmp_path / "q.npy", np.tile(QUERIES, (2000, 1)))
        command = [sys.executable, "-m", "engine", "bench", str(path), "--queries", str(tmp_path / "q.npy")]
        command += ["--contenders", "naive", "--scratch", str(scratch)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            found: list[Path] = []
            while not found:
                found = list(scratch.glob("*/shards"))
                time.sleep(0.02)
            started = children(process.pid)
            process.kill()
        assert started
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (any(scratch.iterdir()) or any(map(runs, started))):
            time.sleep(0.02)
        assert list(scratch.iterdir()) == []
        assert not any(map(runs, started))

    def test_a_contender_that_dies_is_named(self):
        process = WorkerProcess("engine.lab.compare.worker", "ram_flat", 1, "nowhere")
        process.kill()
        with pytest.raises(BenchError, match=r"^ram_flat ended .* want of memory"):
            process.ask("memory")
        process.end()


class TestTheCommand:
    @pytest.fixture
    def run(self, capsys):
        def call(*arguments: object) -> tuple[int, str, str]:
            try:
                status = main(["bench", *(str(each) for each in arguments)])
            except SystemExit as leave:
                status = leave.code
            return status, *capsys.readouterr()

        return call

    @pytest.fixture
    def file(self, tmp_path):
        np.save(tmp_path / "q.npy", QUERIES)
        return tmp_path / "q.npy"

    @pytest.fixture
    def told(self, raced, monkeypatch):
        """The comparison above, as if it had been made just now."""
        monkeypatch.setattr("engine.lab.compare.benchmark.Benchmark.run", lambda self, progress: raced[0])
        return raced[0]

    def test_json_is_a_list_of_contenders(self, run, told, path, file):
        status, out, err = run(path, "--queries", file, "--json")
        assert status == 0
        assert out.count("\n") == 1
        document = json.loads(out)
        assert [each["name"] for each in document] == list(CONTENDER_NAMES)
        assert [each["p50_ms"] for each in document] == [each.p50_ms for each in told.results]
        wanted = {"recall", "p50_ms", "p95_ms", "p99_ms", "shards_probed", "fraction_scanned", "work", "bytes_read"}
        wanted |= {"shards_total", "anonymous_bytes", "file_bytes", "opening_seconds", "first_ms"}
        assert wanted < set(document[0])
        assert "queries" not in document[0]
        assert re.match(r"The naive loop's files take [\d.]+ kB in ", err)

    def test_people_get_a_sentence_and_a_table(self, run, told, path, file):
        status, out, err = run(path, "--queries", file, "--contenders", "exact")
        assert (status, err) == (0, "")
        assert out.splitlines() == [told.summary, *format_table(told.results)]

    @pytest.mark.parametrize(
        ("extra", "why"),
        [
            (["--contenders", "hnsw"], "There is no contender 'hnsw'"),
            (["--k", "0"], "k is 0"),
            (["--limit", "0"], "limit is 0"),
            (["--threads", "0"], "threads is 0"),
            (["--n-probe", "0"], "n_probe is 0"),
            (["--recall", "1.5"], "The recall is 1.5"),
            (["--recall", "nan"], "is not a share"),
            (["--n-probe", "3", "--sweep"], "not allowed with"),
            (["--scratch", "{folder}/none"], "There is no folder"),
            (["--calibrate", "{folder}/wide.npy"], "the queries to calibrate on have shape (1, 9)"),
            (["--queries", "{folder}/wide.npy"], "shape (1, 9)"),
            (["--queries", "{folder}/nan.npy"], "Row 1 of the queries"),
            (["--queries", "{folder}/empty.npy"], "shape (0, 8)"),
            (["--queries", "{folder}/none.npy"], "cannot be read"),
        ],
    )
    def test_what_the_user_can_mend_is_one_line_and_status_two(self, run, path, file, tmp_path, extra, why):
        np.save(tmp_path / "wide.npy", np.ones(DIM + 1))
        np.save(tmp_path / "nan.npy", np.array([[1.0] * DIM, [np.nan] * DIM]))
        np.save(tmp_path / "empty.npy", np.ones((0, DIM)))
        status, out, err = run(path, "--queries", file, *(each.format(folder=tmp_path) for each in extra))
        assert (status, out) == (2, "")
        assert why in err
        assert len(err.splitlines()) == 1

    def test_other_folders_are_refused(self, run, file, tmp_path):
        status, out, err = run(tmp_path, "--queries", file)
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1


class TestLookingFirst:
    def test_what_is_not_a_collection_or_holds_nothing_is_refused(self, tmp_path):
        with pytest.raises(NotACollection):
            Benchmark(ComparisonRequest(tmp_path / "none", QUERIES))
        Collection.create(tmp_path / "c", dim=DIM).close()
        with pytest.raises(ValueError, match="holds no frames"):
            Benchmark(ComparisonRequest(tmp_path / "c", QUERIES))

    def test_routers_do_not_take_part_before_the_first_build(self, tmp_path):
        fill(tmp_path / "c", FEW, built=False).close()
        assert Benchmark(ComparisonRequest(tmp_path / "c", QUERIES)).names == ("naive", "ram_flat", "exact")
        with pytest.raises(ValueError, match="has not been built"):
            Benchmark(ComparisonRequest(tmp_path / "c", QUERIES, contenders=("routed",)))

    def test_a_disk_or_a_memory_too_small_is_said_first(self, path, monkeypatch):
        class Usage:
            free = 1000

        monkeypatch.setattr("engine.lab.compare.benchmark.shutil.disk_usage", lambda folder: Usage)
        with pytest.raises(StorageFull, match=r"The naive loop wants .* leave naive out"):
            Benchmark(ComparisonRequest(path, QUERIES))
        monkeypatch.undo()
        monkeypatch.setattr("engine.lab.compare.benchmark.free_memory", lambda: 1000)
        with pytest.raises(ValueError, match="ram_flat wants"):
            Benchmark(ComparisonRequest(path, QUERIES))
        assert (
            Benchmark(ComparisonRequest(path, QUERIES, contenders=("naive", "exact"))).disk_nbytes == (N - 30) * DIM * 4
        )

    def test_where_half_find_the_width_the_others_are_measured_and_named(self, path):
        for settings, rows in (({}, [1, 3, 5]), ({"limit": 2}, [1, 3]), ({"sweep": True, "limit": 2}, [0, 1])):
            bench = Benchmark(ComparisonRequest(path, QUERIES, contenders=("routed",), **settings))
            assert list(bench._rows) == rows
            unit = QUERIES[rows] / np.linalg.norm(QUERIES[rows], axis=1, keepdims=True)
            np.testing.assert_allclose(bench._queries, unit, atol=1e-6)

    def test_one_query_is_measured_and_calibrated_on(self, path):
        bench = Benchmark(ComparisonRequest(path, QUERIES[:1], contenders=("routed",)))
        assert len(bench._queries) == len(bench._others) == 1


def standing(
    name: str, recall: float, work: float, ms: float, queries: tuple[MeasuredQuery, ...] = ()
) -> ContenderResult:
    """A row of a verdict."""
    times = dict.fromkeys(("p50_ms", "p95_ms", "p99_ms", "first_ms"), ms)
    rest = {
        "setting": "",
        "router": "",
        "n_probe": 1,
        "recall_asked": None,
        "expected_recall": None,
        "shards_probed": 3.0,
        "shards_total": 20,
    }
    rest |= {"fraction_scanned": work, "bytes_read": 0.0, "anonymous_bytes": None, "file_bytes": None}
    return ContenderResult(name=name, recall=recall, work=work, opening_seconds=0.0, queries=queries, **times, **rest)


def test_the_sentence_of_a_sweep_is_about_the_least_width_that_is_good():
    rows = standing("routed", 1, 0.9, 9), standing("routed", 0.96, 0.1, 1.2), standing("routed", 0.5, 0.01, 0.4)
    verdict = ComparisonReport((standing("naive", 1, 1, 412), *rows), 10, 0.95, "text", 100, 1000, False, ())
    assert verdict.summary == (
        "routed answered in 1.20 ms (p50), opening 3 of 20 shards with recall 0.96; the naive loop took 412 ms: 343 times as long."
    )
    assert set(asdict(rows[0])) - set(rows[0].document()) == {"queries"}
    assert "?" in format_table(rows)[1]


def test_the_sentence_says_when_the_slow_way_was_faster_and_when_files_were_cold():
    rows = standing("exact", 1, 1, 0.4), standing("routed", 0.96, 0.1, 1.2)
    few = ComparisonReport(rows, 10, 0.95, "text", 100, 1000, False, ())
    assert few.summary.endswith("with recall 0.96; an exact search took 0.40 ms, which is less.")
    assert few.names == ("exact", "routed")
    assert replace(few, cold=True).summary.startswith("routed answered in 1.20 ms (p50) from cold files, opening")


class TestShortfalls:
    @pytest.fixture
    def verdict(self):
        asked = (
            MeasuredQuery(1, 1, 1, (4, 3)),
            MeasuredQuery(1, 0.5, 1, (9, 7)),
            MeasuredQuery(1, 0, 1, (0, 1)),
            MeasuredQuery(1, 0.5, 1, (5,)),
        )
        right = ((3, 4), (7, 8), (5, 6), (5, 6, 7))
        return ComparisonReport(
            (standing("routed", 0.5, 0.1, 1, asked),), 2, 0.95, "text", 4, 10, False, (), (1, 3, 5, 7), right
        )

    def test_the_worst_come_first_and_those_without_fault_not_at_all(self, verdict):
        worst = verdict.worst(verdict.best, 9)
        assert [(each.query, each.row, each.recall) for each in worst] == [(2, 5, 0), (1, 3, 0.5), (3, 7, 0.5)]
        assert [each.query for each in verdict.worst(verdict.best, 1)] == [2]

    def test_what_was_missed_and_what_was_found_beside(self, verdict):
        fall = verdict.diff(verdict.best, 1)
        assert (fall.found, fall.expected, fall.missed, fall.extra) == ((9, 7), (7, 8), {8}, {9})

    def test_of_frames_as_good_as_the_last_those_count_that_were_found(self, verdict):
        tied = replace(
            verdict,
            results=(standing("routed", 1, 1, 1, (MeasuredQuery(1, 1, 1, (5, 7)),)),),
            ground_truth=((5, 6, 7),),
        )
        fall = tied.diff(tied.best, 0)
        assert (fall.expected, fall.missed, fall.extra) == ((5, 7), set(), set())
