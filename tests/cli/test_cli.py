"""The command line: one JSON document, three exit codes, one line for what the user can mend."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine
from engine.cli.main import commands, main
from engine.collection import Collection
from engine.types import Filter
from testing.clips import make_clip
from testing.worlds import DIM, fill, flip, make_video, queries

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = [make_video(i, 10) for i in range(3)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A built collection of vectors, which is copied and not touched."""
    folder = tmp_path_factory.mktemp("built") / "c"
    fill(folder, VIDEOS).close()
    return folder


@pytest.fixture
def folder(built, tmp_path):
    """A built collection of vectors."""
    return shutil.copytree(built, tmp_path / "c")


@pytest.fixture
def vector(tmp_path):
    np.save(tmp_path / "q.npy", queries(1)[0])
    return tmp_path / "q.npy"


@pytest.fixture
def run(capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as leave:
            status = leave.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def as_json(run):
    def call(*arguments: object, status: int = 0):
        code, out, _ = run(*arguments, "--json")
        assert code == status
        assert out.count("\n") == 1
        return json.loads(out)

    return call


@pytest.fixture
def loaded(monkeypatch, town_encoder):
    """The shipped encoder is not loaded again by every command."""
    monkeypatch.setattr("engine.embedding.encoder.load_encoder", lambda name="town": town_encoder)
    monkeypatch.setattr("engine.search.query_vectors.load_encoder", lambda name="town": town_encoder)


class TestSearch:
    def test_hits_are_printed_and_the_trace_goes_to_stderr(self, run, folder, vector):
        status, out, err = run("search", folder, "--vector", vector, "--k", 4)
        assert status == 0
        assert len(out.splitlines()) == 4
        assert "Opened " in err
        assert "of 30 frames" in err

    def test_json_is_what_the_search_found(self, as_json, folder, vector):
        document = as_json("search", folder, "--vector", vector, "--k", 4, "--exact")
        with Collection.open(folder) as collection:
            result = collection.search(queries(1)[0], 4, exact=True)
        assert [hit["frame_id"] for hit in document["hits"]] == [hit.frame_id for hit in result.hits]
        names = {"frame_id", "score", "video_id", "frame_index", "seconds", "shard", "captured_at", "tags"}
        assert set(document["hits"][0]) == names
        trace = document["trace"]
        assert trace["vectors_scanned"] == trace["vectors_total"] == 30
        assert trace["shards_total"] == trace["shards_probed"] + trace["shards_pruned"] + trace["shards_skipped"] == 3
        assert trace["ms"]["total"] > 0
        assert trace["method"] == "exact"

    def test_every_filter_reaches_the_engine(self, as_json, folder, vector):
        options = {
            ("--video", "v1"): lambda hit: hit["video_id"] == "v1",
            ("--from", 4, "--to", 9): lambda hit: 4 <= hit["seconds"] < 9,
            ("--after", "2024-05-01T09:00:10"): lambda hit: (hit["captured_at"] or "") >= "2024-05-01T09:00:10",
            ("--before", "2024-05-01T04:00:10"): lambda hit: (hit["captured_at"] or "3") < "2024-05-01T04:00:10",
            ("--daypart", "night"): lambda hit: hit["video_id"] == "v0",
            ("--tag-any", "object:dog"): lambda hit: "object:dog" in hit["tags"],
            ("--tag-all", "object:dog", "--tag-all", "scene:beach"): lambda hit: (
                {"object:dog", "scene:beach"} <= set(hit["tags"])
            ),
            ("--tag-none", "object:dog"): lambda hit: "object:dog" not in hit["tags"],
        }
        everything = as_json("search", folder, "--vector", vector, "--k", 100, "--exact")["hits"]
        for option, passes in options.items():
            hits = as_json("search", folder, "--vector", vector, "--k", 100, *option)["hits"]
            assert 0 < len(hits) < 30
            assert [hit["frame_id"] for hit in hits] == [hit["frame_id"] for hit in everything if passes(hit)]

    def test_what_is_preferred_and_opened_too_reaches_the_engine(self, as_json, folder, vector):
        narrow = ("search", folder, "--vector", vector, "--n-probe", 1, "--k", 5)
        wide = as_json(*narrow, "--also", 0, "--also", 1, "--also", 2)
        exact = as_json("search", folder, "--vector", vector, "--exact", "--k", 5)
        assert wide["hits"] == exact["hits"]
        assert as_json(*narrow, "--prefer-tag", "scene:moon")["hits"] == as_json(*narrow)["hits"]
        with Collection.open(folder) as collection:
            lean = collection.search(queries(1)[0], 30, boost=Filter(tags_all=("object:dog",)))
        told = as_json("search", folder, "--vector", vector, "--k", 30, "--prefer-tag", "object:dog")["hits"]
        assert [hit["frame_id"] for hit in told] == [hit.frame_id for hit in lean.hits]

    def test_what_was_missed_is_told_with_its_reason(self, run, as_json, tmp_path, vector):
        folder = tmp_path / "larger"
        fill(folder, [make_video(i) for i in range(5)], n_shards=4).close()
        narrow = ("search", folder, "--vector", vector, "--n-probe", 1, "--k", 8, "--missed")
        document = as_json(*narrow)
        exact = as_json("search", folder, "--vector", vector, "--exact", "--k", 8)["hits"]
        missed = [each["frame_id"] for each in document["missed"]]
        assert missed
        assert {*missed, *(hit["frame_id"] for hit in document["hits"])} >= {hit["frame_id"] for hit in exact}
        assert {each["cause"] for each in document["missed"]} <= {"skipped", "cell"}
        _, _, err = run(*narrow)
        assert f"Missed {len(missed)} of the 8 best." in err
        assert err.count("needed ") == len(missed)

    def test_width_and_limits_reach_the_engine(self, as_json, folder, vector):
        narrow = as_json("search", folder, "--vector", vector, "--n-probe", 1, "--k", 1)
        assert narrow["trace"]["n_probe"] == 1
        capped = as_json("search", folder, "--vector", vector, "--max-shards", 1)
        assert capped["trace"]["shards_probed"] == 1
        one_each = as_json("search", folder, "--vector", vector, "--per-shot", 1, "--k", 100)["hits"]
        assert len(one_each) == 9

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ([], "either a text or --vector or --frame"),
            (["a dog"], "names no encoder"),
            (["a dog", "--vector", "q.npy"], "not two of them"),
            (["--vector", "{q}", "--frame", "3"], "not two of them"),
            (["--frame", "999"], "no frame 999"),
            (["--frame", "first"], "'first' is not a whole number"),
            (["--vector", "{q}", "--workers", "0"], "0 workers cannot search"),
            (["--vector", "{q}", "--tag-any", "object:unicorn"], "carries the tag 'object:unicorn'"),
            (["--vector", "{q}", "--hours", "25"], "not a span of hours"),
            (["--vector", "{q}", "--hours", "noon"], "not an hour or a span"),
            (["--vector", "{nan}"], "Row 2 of"),
            (["--vector", "{zero}"], "Row 0 of"),
            (["--vector", "{nan1}"], "not a finite number"),
            (["--vector", "{cube}"], "shape (2, 2, 8)"),
            (["--vector", "{wide}"], "shape (9,)"),
            (["--vector", "{words}"], "one array of numbers"),
            (["--vector", "{npz}"], "several arrays"),
            (["--vector", "{pickle}"], "cannot be read"),
            (["--vector", "missing.npy"], "cannot be read"),
            (["--vector", "{q}", "--k", "0"], "k is 0"),
            (["--vector", "{q}", "--n-probe", "0"], "n_probe is 0"),
            (["--vector", "{q}", "--exact", "--n-probe", "2"], "not allowed with"),
            (["--vector", "{q}", "--recall", "0.9", "--n-probe", "2"], "not allowed with"),
            (["--vector", "{q}", "--recall", "0"], "A recall of 0.0 cannot be; ask for more than 0 and at most 1"),
            (["--vector", "{q}", "--recall", "most"], "'most' is not a share; write it as 0.95 or 95%"),
            (["--vector", "{q}", "--router", "best"], "invalid choice"),
            (["--vector", "{q}", "--router", "learned"], "has no learned router; there are no queries to fit one on"),
            (["--vector", "{q}", "--video", "nowhere"], "no video 'nowhere'"),
            (["--vector", "{q}", "--from", "9", "--to", "3"], "not after its start"),
            (["--vector", "{q}", "--after", "2024-05-01T00:00:00+07:00"], "time zone"),
            (["--vector", "{q}", "--after", "soon"], "'soon' is not a date or time; write it with the year first"),
            (["--vector", "{q}", "--from", "noon"], "'noon' is not a place in a video"),
            (["--vector", "{text}"], "cannot be read"),
        ],
    )
    def test_what_the_user_can_mend_is_one_line_and_status_two(self, run, folder, vector, tmp_path, arguments, why):
        (tmp_path / "text.npy").write_text("hello")
        arrays = {
            "nan": np.array([[1.0] * DIM, [1.0] * DIM, [np.nan] * DIM]),
            "nan1": np.full(DIM, np.nan),
            "zero": np.zeros((2, DIM)),
            "cube": np.ones((2, 2, DIM)),
            "wide": np.ones((3, DIM + 1)),
            "words": np.array(["a", "b"]),
        }
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        np.savez(tmp_path / "npz.npz", np.ones(DIM))
        np.save(tmp_path / "pickle.npy", np.array([None], object), allow_pickle=True)
        places = {name: tmp_path / f"{name}.npy" for name in ("text", "pickle", *arrays)}
        places |= {"q": vector, "npz": tmp_path / "npz.npz"}
        status, out, err = run("search", folder, *(each.format(**places) for each in arguments))
        assert (status, out) == (2, "")
        assert why in err
        assert len(err.splitlines()) == 1
        assert run("search", folder, *(each.format(**places) for each in arguments), "--json") == (2, "", err)

    def test_a_stored_frame_may_be_the_query(self, as_json, folder):
        hits = as_json("search", folder, "--frame", 17, "--k", 3)["hits"]
        assert hits[0]["frame_id"] == 17
        assert hits[0]["score"] > 0.99

    def test_a_row_per_query_gives_a_list_and_one_vector_does_not(self, run, as_json, folder, tmp_path):
        np.save(tmp_path / "many.npy", queries(3))
        documents = as_json("search", folder, "--vector", tmp_path / "many.npy", "--k", 2)
        assert [len(each["hits"]) for each in documents] == [2, 2, 2]
        with Collection.open(folder) as collection:
            for query, document in zip(queries(3), documents, strict=True):
                ids = [hit.frame_id for hit in collection.search(query, 2).hits]
                assert [hit["frame_id"] for hit in document["hits"]] == ids
        np.save(tmp_path / "one.npy", queries(1))
        assert len(as_json("search", folder, "--vector", tmp_path / "one.npy")) == 1
        status, out, err = run("search", folder, "--vector", tmp_path / "many.npy", "--k", 2)
        assert status == 0
        assert [line for line in out.splitlines() if line.startswith("Query")] == ["Query 0", "Query 1", "Query 2"]
        assert len(out.splitlines()) == 9
        assert err.count("Opened ") == 3

    @pytest.mark.parametrize(
        ("hours", "passes"),
        [
            ("4", {4}),
            ("9,14", {9, 14}),
            ("4-10", set(range(4, 10))),
            ("22-5", {22, 23, 0, 1, 2, 3, 4}),
            ("9-24", set(range(9, 24))),
        ],
    )
    def test_hours_of_the_day_filter(self, as_json, folder, vector, hours, passes):
        everything = as_json("search", folder, "--vector", vector, "--k", 100, "--exact")["hits"]
        hits = as_json("search", folder, "--vector", vector, "--k", 100, "--exact", "--hours", hours)["hits"]
        expected = [hit for hit in everything if hit["captured_at"] and int(hit["captured_at"][11:13]) in passes]
        assert [hit["frame_id"] for hit in hits] == [hit["frame_id"] for hit in expected]

    def test_workers_and_mapping_change_no_answer(self, as_json, folder, vector):
        plain = as_json("search", folder, "--vector", vector)
        other = as_json("search", folder, "--vector", vector, "--workers", 3, "--mapped")
        assert other["hits"] == plain["hits"]
        assert (plain["trace"]["workers"], other["trace"]["workers"]) == (1, 3)

    def test_a_shard_that_fails_is_status_two_or_one_where_part_of_an_answer_will_do(
        self, run, as_json, folder, vector
    ):
        run("reshard", folder, "--placement", "round_robin")
        flip(next(folder.glob("segments/*/vectors.npy")))
        status, out, err = run("search", folder, "--vector", vector, "--exact", "--k", 30)
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1
        document = as_json("search", folder, "--vector", vector, "--exact", "--k", 30, "--allow-partial", status=1)
        assert len(document["hits"]) == 20
        assert len(document["trace"]["missing"]) == 1

    def test_text_is_refused_where_the_encoders_vectors_have_another_length(
        self, run, tmp_path, town_encoder, monkeypatch
    ):
        monkeypatch.setattr("engine.search.query_vectors.load_encoder", lambda name: town_encoder)
        fill(tmp_path / "other", VIDEOS, encoder="town").close()
        status, out, err = run("search", tmp_path / "other", "a dog")
        assert (status, out) == (2, "")
        assert f"makes vectors of {town_encoder.dim} numbers; this collection stores {DIM}" in err
        assert len(err.splitlines()) == 1


class TestRouter:
    """A router fitted from the command line, and searches that use it."""

    @pytest.fixture
    def fitted(self, run, folder, tmp_path):
        np.save(tmp_path / "bank.npy", queries(60))
        status, _, err = run("build", folder, "--queries", tmp_path / "bank.npy", "--cells", 4)
        assert (status, err) == (0, "")
        return folder

    def test_stats_tell_what_it_was_fitted_on(self, run, as_json, fitted):
        document = as_json("stats", fitted)
        assert document["router"] == "learned"
        # Sixty texts in five folds make thirty pairs.
        assert document["why_router"] == "it was fitted on 90 queries (given vectors) over 30 frames."
        assert "Router: learned: it was fitted on 90 queries" in run("stats", fitted)[1]

    def test_stats_tell_how_to_get_one(self, as_json, folder):
        document = as_json("stats", folder)
        assert document["router"] == "spread"
        assert "build --queries" in document["why_router"]

    def test_a_later_build_keeps_the_queries(self, run, as_json, fitted):
        assert run("build", fitted, "--shards", 2)[0] == 0
        assert "fitted on 90 queries (given vectors)" in as_json("stats", fitted)["why_router"]

    @pytest.mark.parametrize("router", ["learned", "spread", "centroid"])
    def test_a_search_says_which_router_it_used(self, as_json, fitted, vector, router):
        trace = as_json("search", fitted, "--vector", vector, "--router", router, "--n-probe", 2)["trace"]
        assert (trace["method"], trace["router"], trace["expected_recall"]) == ("routed", router, None)

    def test_the_kind_of_a_query_decides_how_it_is_routed(self, as_json, fitted, vector):
        def used(*how: object) -> str:
            return as_json("search", fitted, *how, "--n-probe", 2)["trace"]["router"]

        assert used("--vector", vector) == used("--vector", vector, "--kind", "text") == "learned"
        assert used("--vector", vector, "--kind", "image") == used("--frame", 3) == "spread"
        assert used("--frame", 3, "--kind", "text") == "learned"

    def test_a_recall_that_is_not_measured_is_answered_exactly(self, as_json, folder, fitted, vector):
        for recall in ("0.999", "1"):
            trace = as_json("search", fitted, "--vector", vector, "--recall", recall)["trace"]
            assert (trace["method"], trace["expected_recall"]) == ("exact", 1.0)

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("few", "31 queries are too few to fit a router on; give 32 or more."),
            ("one", "1 queries are too few"),
            ("wide", "The queries have shape (40, 9); give one row of 8 numbers for each."),
            ("zero", "all zeros or holds a value that is not a finite number"),
            ("words", "does not hold one array of numbers"),
            ("missing", "no such file"),
        ],
    )
    def test_queries_that_cannot_serve_are_one_line_and_nothing_is_built(self, run, folder, tmp_path, name, why):
        arrays = {
            "few": queries(31),
            "one": queries(1)[0],
            "wide": queries(40, DIM + 1),
            "zero": np.zeros((40, DIM)),
            "words": np.array(["a", "b"]),
        }
        for each, array in arrays.items():
            np.save(tmp_path / f"{each}.npy", array)
        with Collection.open(folder) as collection:
            before = collection.generation
        status, out, err = run("build", folder, "--queries", tmp_path / f"{name}.npy")
        assert (status, out) == (2, "")
        assert why in err
        assert len(err.splitlines()) == 1
        with Collection.open(folder) as collection:
            assert collection.generation == before


class TestOtherCommands:
    def test_stats_tell_what_is_in(self, run, as_json, folder):
        status, out, _ = run("stats", folder)
        assert status == 0
        assert "30 frames of 3 videos" in out
        document = as_json("stats", folder)
        assert document["n_frames"] == 30
        assert len(document["shards"]) == 3

    def test_check_passes_and_then_names_the_damage_with_status_one(self, run, as_json, folder):
        assert run("check", folder) == (0, "Every file is what was written.\n", "")
        assert as_json("check", folder) == {"problems": []}
        flip(next(folder.glob("segments/*/vectors.npy")))
        status, out, _ = run("check", folder)
        assert status == 1
        assert "vectors.npy" in out
        assert len(as_json("check", folder, status=1)["problems"]) == 1

    def test_a_damaged_catalog_is_status_two(self, run, folder):
        catalog = folder / "catalog.sqlite"
        catalog.write_bytes(catalog.read_bytes().replace(b"Video 1", b"Video 7"))
        status, out, err = run("check", folder)
        assert (status, out) == (2, "")
        assert "checksum" in err

    def test_build_places_anew(self, run, as_json, folder):
        document = as_json("build", folder, "--shards", 2, "--placement", "round_robin", "--cells", 4)
        assert document == {"n_frames": 30, "n_cells": 4, "n_shards": 2, "placement": "round_robin"}
        status, out, _ = run("build", folder)
        assert status == 0
        assert "4 cells and 2 round_robin shards" in out

    def test_build_takes_options_of_the_placement(self, as_json, folder):
        document = as_json("build", folder, "--placement", "timeline", "--option", "minutes=0.1")
        assert (document["placement"], document["n_shards"]) == (
            "timeline",
            as_json("stats", folder)["shards"].__len__(),
        )
        assert document["n_shards"] > 1
        with Collection.open(folder) as collection:
            assert collection.settings.options == {"minutes": 0.1}

    def test_reshard_keeps_the_cells(self, run, as_json, folder):
        before = as_json("stats", folder)
        document = as_json("reshard", folder, "--shards", 2, "--placement", "round_robin")
        assert document == {"n_frames": 30, "n_cells": before["n_cells"], "n_shards": 2, "placement": "round_robin"}
        status, out, _ = run("reshard", folder, "--shards", 3)
        assert status == 0
        assert out.startswith("Placed 30 frames into ")
        assert len(as_json("stats", folder)["shards"]) == 3

    def test_delete_takes_a_video_out_and_compact_gives_the_space_back(self, run, as_json, folder):
        assert as_json("delete", folder, "v1") == {"video_id": "v1", "n_frames": 10}
        status, out, _ = run("stats", folder)
        assert status == 0
        assert "20 frames of 2 videos" in out
        assert "10 deleted frames still take up space" in out
        assert as_json("compact", folder) == {"dropped": 10}
        status, out, _ = run("compact", folder)
        assert (status, out) == (0, "Dropped 0 deleted frames from the files.\n")
        status, out, _ = run("delete", folder, "v2")
        assert out.startswith("Deleted 10 frames of v2")

    def test_export_writes_what_import_reads(self, run, as_json, folder, vector, tmp_path):
        v, f = tmp_path / "v.npy", tmp_path / "f.parquet"
        document = as_json("export", folder, "--vectors", v, "--frames", f)
        assert document == {"n_frames": 30, "dim": DIM, "vectors": str(v), "frames": str(f)}
        imported = as_json("import", "--into", tmp_path / "new", "--vectors", v, "--frames", f, "--shards", 2)
        assert (imported["added"], imported["n_frames"], imported["notes"]) == (["v0", "v1", "v2"], 30, [])
        there, here = (
            as_json("search", each, "--vector", vector, "--exact")["hits"] for each in (folder, tmp_path / "new")
        )
        names = ("frame_id", "video_id", "frame_index", "seconds", "captured_at", "tags")
        assert [[hit[name] for name in names] for hit in here] == [[hit[name] for name in names] for hit in there]
        status, out, err = run("export", folder, "--vectors", v, "--frames", f)
        assert (status, out) == (2, "")
        assert "not overwritten" in err
        status, out, _ = run("export", folder, "--vectors", tmp_path / "w.npy", "--frames", tmp_path / "w.csv")
        assert status == 0
        assert out.startswith("Wrote 30 normalised fp16 vectors")

    def test_plan_says_how_many_shards(self, run, as_json):
        document = as_json("plan", "--ram", "8GB", "--vectors", 10_000_000, "--dim", 768, "--shard-size", "0.5GB")
        assert document["n_vectors"] == 10_000_000
        assert document["shard_nbytes"] <= 1 << 29
        assert document["n_shards"] * document["vectors_per_shard"] >= 10_000_000
        status, out, _ = run("plan", "--ram", "8GB", "--dim", 512, "--codec", "sq4", "--workers", 2)
        assert status == 0
        assert out.startswith("shards  ")
        for arguments, why in (
            (("--ram", "plenty"), "not a size"),
            (("--ram", "1KB"), "cannot hold"),
            (("--ram", "8GB", "--codec", "pq"), "Unknown codec"),
            (("--ram", "8GB", "--workers", 0), "0 workers"),
        ):
            status, out, err = run("plan", "--dim", 512, "--vectors", 1000, *arguments)
            assert (status, out) == (2, "")
            assert why in err
            assert len(err.splitlines()) == 1

    def test_help_names_every_placement_and_its_options(self, run):
        from engine.layout import PLACEMENTS

        for command in ("ingest", "build", "import", "import-aic", "reshard"):
            status, out, _ = run(command, "--help")
            assert status == 0
            text = "".join(out.split())
            assert all(name in text for name in PLACEMENTS)
            assert "timeline:minutes" in text

    @pytest.mark.parametrize(
        "arguments",
        [
            ["stats", "{gone}"],
            ["delete", "{c}"],
            ["reshard", "{c}"],
            ["reshard", "{c}", "--shards", "0"],
            ["build", "{c}", "--placement", "timeline", "--option", "seconds=5"],
            ["build", "{c}", "--placement", "timeline", "--option", "minutes=soon"],
            ["build", "{c}", "--placement", "timeline", "--option", "minutes"],
            ["export", "{c}", "--vectors", "{gone}/v.npy", "--frames", "{gone}/f.csv"],
            ["import", "--into", "{gone}", "--vectors", "{gone}/v.npy", "--frames", "{gone}/f.csv"],
            ["import", "--into", "{c}", "--vectors", "{gone}/v.npy", "--frames", "{gone}/f.csv"],
            ["import-aic", "--into", "{gone}", "{gone}/archive"],
            ["import-aic", "--into", "{gone}", "{c}"],
            ["plan", "--dim", "512"],
            ["build", "{gone}"],
            ["ingest", "--into", "{c}", "a.mp4", "--encoder", "other"],
            ["ingest", "--into", "{c}", "a.mp4", "--shards", "9"],
            ["ingest", "--into", "{gone}", "a.mp4", "--every", "0"],
            ["ingest", "--into", "{gone}", "a.mp4", "--encoder", "no/such"],
            ["ingest", "a.mp4"],
            ["dance"],
            [],
        ],
    )
    def test_mistakes_are_one_line_and_make_nothing(self, run, folder, tmp_path, arguments):
        places = {"gone": tmp_path / "gone", "c": folder}
        status, out, err = run(*(each.format(**places) for each in arguments))
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert not (tmp_path / "gone").exists()

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["delete", "{c}", "v9"], "no video 'v9' in this collection, so nothing was deleted"),
            (["stats", "{foreign}"], "foreign"),
            (["import", "--into", "{foreign}", "--vectors", "{q}", "--frames", "{f}"], "one row of numbers per frame"),
            (["build", "{c}", "--placement", "timeline", "--option", "sides=3"], "no option 'sides'; it takes minutes"),
            (["build", "{c}", "--option", "minutes=3"], "semantic has no option 'minutes'"),
            (["reshard", "{c}", "--placement", "best"], "Unknown placement 'best'; use round_robin"),
            (["export", "{c}", "--vectors", "{q}", "--frames", "{f}"], "there already"),
        ],
    )
    def test_the_line_says_what_is_wrong(self, run, folder, vector, tmp_path, arguments, why):
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "letter.txt").write_text("mine")
        (tmp_path / "f.csv").write_text("video_id,frame_index,seconds\na,0,0\n")
        places = {"c": folder, "foreign": tmp_path / "foreign", "q": vector, "f": tmp_path / "f.csv"}
        status, out, err = run(*(each.format(**places) for each in arguments))
        assert (status, out) == (2, "")
        assert why in err
        assert len(err.splitlines()) == 1
        assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["letter.txt"]

    def test_a_folder_that_may_not_be_made_is_one_line(self, run, tmp_path, loaded):
        (tmp_path / "file").write_text("")
        status, out, err = run("ingest", "--into", tmp_path / "file" / "c", "a.mp4")
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1

    def test_stopping_by_hand_is_said_in_one_line(self, run, folder, monkeypatch):
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Collection, "stats", stop)
        assert run("stats", folder) == (130, "", "engine: stopped; what was stored before stays.\n")


class TestImport:
    @pytest.fixture
    def pair(self, tmp_path):
        """Vectors and a table of 40 frames of two videos."""
        np.save(tmp_path / "v.npy", queries(40))
        lines = [f"{'ab'[i % 2]},{i},{i / 2},object:dog|scene:beach" for i in range(40)]
        (tmp_path / "f.csv").write_text("\n".join(["video_id,frame_index,seconds,tags", *lines]) + "\n")
        return "--vectors", tmp_path / "v.npy", "--frames", tmp_path / "f.csv"

    def test_a_collection_is_made_as_told_and_filled_and_built(self, run, as_json, pair, tmp_path):
        into = tmp_path / "new"
        settings = ("--metric", "l2", "--store", "fp32", "--codec", "fp16", "--encoder", "any/model", "--cells", 4)
        first = as_json("import", "--into", into, *pair, *settings, "--shards", 2, "--placement", "random")
        assert (first["added"], first["n_frames"], first["refused"]) == (["a", "b"], 40, [])
        stats = as_json("stats", into)
        told = ("metric", "store", "codec", "encoder", "n_cells", "placement")
        assert [stats[name] for name in told] == ["l2", "fp32", "fp16", "any/model", 4, "random"]
        assert len(stats["shards"]) == 2
        assert stats["tags"] == {"object:dog": 40, "scene:beach": 40}
        status, out, err = run("import", "--into", into, *pair)
        assert status == 0
        assert err.startswith(
            "It cannot be searched by words until its encoder loads: There is no encoder 'any/model';"
        )
        assert "2 were in already" in out

    def test_without_a_build_frames_stay_as_they_come(self, as_json, pair, tmp_path):
        as_json("import", "--into", tmp_path / "new", *pair, "--no-build")
        assert as_json("stats", tmp_path / "new")["n_cells"] == 0

    def test_other_content_is_refused_with_status_one(self, run, pair, tmp_path):
        run("import", "--into", tmp_path / "new", *pair)
        np.save(tmp_path / "v.npy", queries(40) + 1)
        status, out, err = run("import", "--into", tmp_path / "new", *pair)
        assert status == 1
        assert [line.split(":")[0] for line in err.splitlines()] == ["refused a", "refused b"]
        assert "2 were refused" in out

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            (("--metric", "cosine"), "invalid choice"),
            (("--placement", "best"), "Unknown placement 'best'"),
            (("--placement", "timeline", "--option", "sides=3"), "no option 'sides'"),
            (("--codec", "fp32"), "store"),
            (("--frames", "{folder}/short.csv"), "must go together"),
            (("--vectors", "{folder}/nan.npy"), "Row 7 of"),
        ],
    )
    def test_a_mistake_is_one_line_and_leaves_no_collection(self, run, pair, tmp_path, wrong, why):
        (tmp_path / "short.csv").write_text("video_id,frame_index,seconds\na,0,0\n")
        rows = queries(40)
        rows[7, 2] = np.nan
        np.save(tmp_path / "nan.npy", rows)
        changed = [each.format(folder=tmp_path) for each in wrong]
        if wrong[0] in pair:  # Given twice, they would be parts.
            at = pair.index(wrong[0])
            pair = (*pair[:at], *pair[at + 2 :])
        for into in (tmp_path / "new", tmp_path / "empty"):
            (tmp_path / "empty").mkdir(exist_ok=True)
            status, out, err = run("import", "--into", into, *pair, *changed)
            assert (status, out) == (2, "")
            assert why in err
            assert len(err.splitlines()) == 1
        assert not (tmp_path / "new").exists()
        assert list((tmp_path / "empty").iterdir()) == []

    def test_a_foreign_folder_and_other_settings_are_refused(self, run, pair, folder, tmp_path):
        for into, extra, why in (
            (tmp_path, (), "not empty"),
            (folder, ("--metric", "l2"), "was made with the metric 'ip'"),
            (folder, ("--encoder", "any"), "was made with the encoder ''"),
            (folder, ("--store", "fp32"), "was made with the store 'fp16'"),
            (folder, ("--shards", 9), "has n_shards=3, not 9"),
        ):
            status, out, err = run("import", "--into", into, *pair, *extra)
            assert (status, out) == (2, "")
            assert why in err
            assert len(err.splitlines()) == 1

    def test_an_archive_goes_in_and_what_is_broken_is_status_one(self, run, as_json, tmp_path):
        archive = tmp_path / "archive"
        for name in ("clip-features-32", "map-keyframes"):
            (archive / name).mkdir(parents=True)
        for name in ("L01_V001", "L01_V002"):
            np.save(archive / "clip-features-32" / f"{name}.npy", queries(5).astype(np.float16))
            lines = [f"{i + 1},{i},25,{i * 25}" for i in range(5)]
            (archive / "map-keyframes" / f"{name}.csv").write_text("\n".join(["n,pts_time,fps,frame_idx", *lines]))
        document = as_json("import-aic", "--into", tmp_path / "c", archive, "--shards", 2)
        assert (document["added"], document["n_frames"]) == (["L01_V001", "L01_V002"], 10)
        (archive / "map-keyframes" / "L01_V002.csv").unlink()
        document = as_json("import-aic", "--into", tmp_path / "c", archive, status=1)
        assert (document["skipped"], [name for name, _ in document["refused"]]) == (["L01_V001"], ["L01_V002"])
        status, _, err = run("import-aic", "--into", tmp_path / "c", archive, "--features", archive / "none")
        assert status == 2
        assert "none with features" in err

    def test_keyframes_without_features_want_an_encoder(self, run, tmp_path):
        (tmp_path / "archive" / "map-keyframes").mkdir(parents=True)
        (tmp_path / "archive" / "map-keyframes" / "a.csv").write_text("n,pts_time,fps,frame_idx\n1,0,25,0\n")
        status, out, err = run("import-aic", "--into", tmp_path / "c", tmp_path / "archive")
        assert (status, out) == (2, "")
        assert "name an encoder" in err
        assert not (tmp_path / "c").exists()


@pytest.mark.usefixtures("loaded")
class TestIngest:
    @pytest.fixture
    def film(self, tmp_path):
        make_clip(tmp_path / "film.mp4", 3.0, size=(96, 54))
        return tmp_path / "film.mp4"

    def test_a_video_is_stored_searched_and_skipped_the_second_time(self, run, as_json, film, tmp_path):
        into = tmp_path / "new" / "c"
        first = as_json("ingest", "--into", into, film, "--shards", 2)
        assert (first["added"], first["n_frames"], first["refused"]) == (["film"], 3, [])
        hits = as_json("search", into, "a street", "--k", 2)["hits"]
        assert [hit["video_id"] for hit in hits] == ["film", "film"]
        status, out, err = run("ingest", "--into", into, film, "--shards", 2)
        assert (status, err) == (0, "")
        assert "1 were in already" in out

    def test_a_refused_video_is_status_one_and_the_rest_is_stored(self, run, as_json, film, tmp_path):
        (tmp_path / "bad.mp4").write_bytes(b"")
        document = as_json("ingest", "--into", tmp_path / "c", film, tmp_path / "bad.mp4", "--no-build", status=1)
        assert document["added"] == ["film"]
        assert "empty" in document["refused"][0][1]
        assert as_json("stats", tmp_path / "c")["n_cells"] == 0
        status, out, err = run("ingest", "--into", tmp_path / "c", tmp_path / "bad.mp4")
        assert status == 1
        assert err.startswith("refused ")
        assert len(err.splitlines()) == 1
        assert "1 were refused" in out


def test_as_a_process_it_keeps_stdout_for_json_and_stderr_for_words(folder, vector):
    command = [sys.executable, "-m", "engine", "search", str(folder), "--vector", str(vector), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["hits"]) == 10
    command[-1] = "--exat"
    wrong = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.splitlines()[0].endswith("see python -m engine --help")


def test_every_command_in_the_readme_and_the_guide_is_one_that_there_is():
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/guide.md"))
    lines = [line for line in text.splitlines() if line.startswith(".venv/bin/python -m engine ")]
    named = {shlex.split(line)[3] for line in lines}
    assert {"ingest", "import", "import-aic", "export", "reshard", "search"} <= named
    for line in lines:
        name, *arguments = shlex.split(line)[3:]
        assert commands.commands[name].make_context(name, arguments).command.callback


def test_the_version_is_the_one_that_is_packaged(run):
    assert run("--version") == (0, f"framesearch {engine.__version__}\n", "")


def test_help_of_the_whole_waits_for_no_heavy_library():
    code = (
        "import sys\nfrom engine.cli.main import main\nstatus = main(['--help'])\n"
        "print(status, *{'faiss', 'pyarrow', 'sqlite3', 'torch', 'av'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *text, last = done.stdout.splitlines()
    assert last == "0"
    assert all(any(line.startswith(f"  {name} ") for line in text) for name in commands.commands)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], ["--server.address=localhost"]),
        (
            ["--port", "8600", "--headless", "--address", "0.0.0.0", "--server.allowedHosts", "here"],
            [
                "--server.address=0.0.0.0",
                "--server.port=8600",
                "--server.headless=true",
                "--server.allowedHosts",
                "here",
            ],
        ),
    ],
)
def test_the_app_is_started_by_streamlit_in_the_place_of_the_command(run, monkeypatch, arguments, options):
    started = []
    monkeypatch.setattr(os, "execv", lambda path, command: started.append(command))
    run("app", *arguments)
    assert started == [[sys.executable, "-P", "-m", "streamlit", "run", str(ROOT / "streamlit_app.py"), *options]]
    assert run("app", "--port", "many")[0] == 2


def test_a_reader_that_has_had_enough_is_no_error():
    command = [sys.executable, "-m", "engine", "plan", "--ram", "8GB", "--dim", "768"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (0, b"")
