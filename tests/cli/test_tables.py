"""Tables on the command line: parts that go in together, updates of what is stored, and the list of videos."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.cli.main import main
from testing.worlds import FEW, fill, queries


@pytest.fixture
def run(capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return call


def test_an_update_says_what_changed_and_what_was_not_found(run, tmp_path):
    fill(tmp_path / "c", FEW).close()
    table = tmp_path / "t.csv"
    table.write_text("video_id;frame_index;tags;title\nv0;0;a:1|b:1;New\nv0;24;;\nv1;7;a:1;\ngone;0;a:1;\n")
    status, out, err = run("update", tmp_path / "c", table)
    assert status == 1
    assert err.splitlines() == ["not found: the video gone", "not found: frame 7 of v1"]
    assert out.startswith(
        "Changed 1 videos and 1 frames; 1 videos were so already, 1 videos and 1 frames were not found."
    )
    table.write_text("video_id,tags\nv0,c:1\n")
    status, out, err = run("update", tmp_path / "c", table, "--tags", "add", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["changed"] == ["v0"]
    assert json.loads(run("stats", tmp_path / "c", "--json")[1])["tags"]["c:1"] == 12
    assert run("update", tmp_path / "c", tmp_path / "no.csv")[0] == 2


def test_the_list_of_videos_is_where_the_message_says_it_is(run, tmp_path):
    fill(tmp_path / "c", FEW).close()
    np.save(tmp_path / "q.npy", queries(1)[0])
    status, _, err = run("search", tmp_path / "c", "--vector", tmp_path / "q.npy", "--video", "nope")
    assert status == 2
    assert "stats COLLECTION --videos" in err
    _, out, _ = run("stats", tmp_path / "c", "--videos")
    assert "  v1: 12 frames, 2024-05-01 09:00, Video 1\n" in out
    videos = json.loads(run("stats", tmp_path / "c", "--videos", "--json")[1])["videos"]
    assert [video["video_id"] for video in videos] == ["v0", "v1", "v2"]


def test_parts_are_given_as_folders_or_one_by_one(run, tmp_path):
    for i in range(2):
        np.save(tmp_path / f"img_emb_{i}.npy", queries(4)[2 * i : 2 * i + 2])
        (tmp_path / f"metadata_{i}.csv").write_text(
            f"video_id,frame_index,seconds\na,{2 * i},{i}\na,{2 * i + 1},{i}.5\n"
        )
    status, out, err = run("import", "--into", tmp_path / "c", "--vectors", tmp_path, "--frames", tmp_path)
    assert (status, err) == (0, "")
    assert "Stored 4 frames of 1 videos" in out
    one_by_one = [
        ("--vectors", tmp_path / f"img_emb_{i}.npy", "--frames", tmp_path / f"metadata_{i}.csv") for i in (0, 1)
    ]
    status, out, _ = run("import", "--into", tmp_path / "c", *one_by_one[0], *one_by_one[1])
    assert "1 were in already" in out
