"""The command line: one JSON document, three exit codes, one line for what the user can mend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from worlds import DIM, fill, flip, make_video, queries

from engine.__main__ import main
from engine.collection import Collection

ROOT = Path(__file__).resolve().parent.parent
VIDEOS = [make_video(i, 10) for i in range(3)]


@pytest.fixture
def folder(tmp_path):
    """A built collection of vectors."""
    fill(tmp_path / "c", VIDEOS).close()
    return tmp_path / "c"


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
    monkeypatch.setattr("engine.encoder.load_encoder", lambda name="town": town_encoder)
    monkeypatch.setattr("engine.collection.load_encoder", lambda name="town": town_encoder)


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
            ([], "either a text or --vector"),
            (["a dog"], "names no encoder"),
            (["a dog", "--vector", "q.npy"], "not both"),
            (["--vector", "missing.npy"], "cannot be read"),
            (["--vector", "{q}", "--k", "0"], "k is 0"),
            (["--vector", "{q}", "--n-probe", "0"], "n_probe is 0"),
            (["--vector", "{q}", "--k", "many"], "invalid int value"),
            (["--vector", "{q}", "--exact", "--n-probe", "2"], "not allowed with"),
            (["--vector", "{q}", "--video", "nowhere"], "no video 'nowhere'"),
            (["--vector", "{q}", "--daypart", "teatime"], "invalid choice"),
            (["--vector", "{q}", "--from", "9", "--to", "3"], "not after its start"),
            (["--vector", "{q}", "--after", "2024-05-01T00:00:00+07:00"], "time zone"),
            (["--vector", "{q}", "--after", "soon"], "invalid"),
            (["--vector", "{text}"], "cannot be read"),
            (["--vector", "{long}"], "shape"),
        ],
    )
    def test_what_the_user_can_mend_is_one_line_and_status_two(self, run, folder, vector, tmp_path, arguments, why):
        (tmp_path / "text.npy").write_text("hello")
        np.save(tmp_path / "long.npy", np.ones(DIM + 1))
        places = {"q": vector, "text": tmp_path / "text.npy", "long": tmp_path / "long.npy"}
        for extra in ([], ["--json"]):
            status, out, err = run("search", folder, *(each.format(**places) for each in arguments), *extra)
            assert status == 2
            assert out == ""
            assert why in err
            assert len(err.splitlines()) == 1


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

    @pytest.mark.parametrize(
        "arguments",
        [
            ["stats", "{gone}"],
            ["check", "{gone}"],
            ["build", "{gone}"],
            ["search", "{gone}", "dog"],
            ["build", "{c}", "--placement", "best"],
            ["build", "{c}", "--shards", "0"],
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
