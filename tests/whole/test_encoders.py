"""Videos to a search with encoders that are not open_clip's: a service that runs here, a class of one's own, and what is said without."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from engine import Collection
from engine.cli.main import main
from engine.errors import EncoderError
from testing.embedding_service import EmbeddingService
from ui.shared.places import Place
from ui.shared.shelf import Shelf

COLOURS = {"red": (240, 10, 10), "green": (10, 240, 10), "blue": (10, 10, 240)}
OWN = '''
import numpy as np

class ByColour:
    """The mean colour of a picture; the colours that a text names."""

    dim = 6

    def encode_text(self, texts):
        return [[float(c in text) for c in ("red", "green", "blue")] + self.rest(text) for text in texts]

    def encode_images(self, images):
        return [[*(image.mean(axis=(0, 1)) / 255), 0.1, 0.1, 0.1] for image in images]

    def rest(self, text):
        return (np.random.default_rng(list(text.encode())).random(3) * 0.2 + 0.01).tolist()
'''


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("engine.embedding.service_encoder.sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Two seconds each of red, green and blue."""
    path = tmp_path_factory.mktemp("films") / "colours.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for colour in COLOURS.values():
            picture = np.full((64, 96, 3), colour, np.uint8)
            for _ in range(20):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def found(capsys, path: Path, text: str) -> float:
    """Seconds of the best hit."""
    assert main(["search", str(path), text, "--k", "1", "--json"]) == 0
    return float(json.loads(capsys.readouterr().out)["hits"][0]["seconds"])


def opened(path: Path, root: Path) -> str:
    """Why the app cannot search the collection by words; empty if it can."""
    place = Place("folder-c", "c", "folder", path)
    shelf = Shelf(None, root / "town", root)  # type: ignore[arg-type]
    result = shelf._open(place, lambda stage, done, total: None)
    result.collection.close()
    return result.textless


def test_a_service_takes_videos_to_a_search_and_its_end_is_told(tmp_path, film, capsys):
    with EmbeddingService() as service:
        name = f"{service.url}#model=colours"
        assert main(["ingest", "--into", str(tmp_path / "c"), "--encoder", name, str(film)]) == 0
        capsys.readouterr()
        with Collection.open(tmp_path / "c") as collection:
            assert (collection.n_frames, collection.settings.dim, collection.settings.encoder) == (6, 8, name)
            with collection.reading() as snapshot:
                assert snapshot.router is not None  # Fitted on the prompts that ship, as the service embeds them.
                assert snapshot.router.bank.source.endswith(name)
        for i, colour in enumerate(COLOURS):
            assert 2 * i <= found(capsys, tmp_path / "c", f"something {colour}") < 2 * i + 2
        assert max(len(body["input"]) for body in service.bodies) == 64
        assert len(service.bodies) < 60  # The prompts that the router is fitted on go in batches.
        assert opened(tmp_path / "c", tmp_path) == ""
    assert main(["search", str(tmp_path / "c"), "something red"]) == 2
    assert "cannot be reached (Connection refused); check the address, and that it runs." in capsys.readouterr().err
    assert "cannot be reached (Connection refused)" in opened(tmp_path / "c", tmp_path)
    with Collection.open(tmp_path / "c") as collection:
        assert len(collection.search(0, 3).hits) == 3  # A stored frame needs no encoder.


def test_a_service_that_fails_in_the_middle_ends_the_ingest_and_a_second_run_goes_on(tmp_path, film, capsys):
    films = [film, tmp_path / "other.mp4"]
    films[1].write_bytes(film.read_bytes())
    with EmbeddingService() as service:
        name = f"{service.url}#images=messages"
        ingest = ["ingest", "--encoder", name, "--no-build", "--into"]
        assert main([*ingest, str(tmp_path / "first"), str(film)]) == 0
        service.faults = [""] * (len(service.bodies) + 2) + ["500*"]
        assert main([*ingest, str(tmp_path / "c"), *map(str, films)]) == 2
        assert "answers with an error (500: said [2J no 500)" in capsys.readouterr().err
        with Collection.open(tmp_path / "c") as collection:
            assert collection.n_frames == 6
        service.faults = []
        assert main([*ingest, str(tmp_path / "c"), *map(str, films)]) == 0
        with Collection.open(tmp_path / "c") as collection:
            assert collection.n_frames == 12


def test_an_own_class_takes_videos_to_a_search_and_nobody_else_runs_it(tmp_path, film, capsys, monkeypatch):
    (tmp_path / "own_colours.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "python:own_colours:ByColour"
    assert main(["ingest", "--into", str(tmp_path / "c"), "--encoder", name, str(film)]) == 0
    capsys.readouterr()
    assert 2 <= found(capsys, tmp_path / "c", "green") < 4
    sys.modules.pop("own_colours")
    (tmp_path / "c").rename(tmp_path / "d")
    with (
        Collection.open(tmp_path / "d") as collection,
        pytest.raises(EncoderError, match="names code in Python as its encoder"),
    ):
        collection.search("green", 1)
    assert "names code in Python as its encoder that nobody on this machine has allowed" in opened(
        tmp_path / "d", tmp_path
    )
    assert "own_colours" not in sys.modules
    assert main(["trust", str(tmp_path / "d"), "--encoder"]) == 0
    capsys.readouterr()
    assert 4 <= found(capsys, tmp_path / "d", "blue") < 6
    sys.modules.pop("own_colours", None)


def test_a_collection_of_another_length_than_its_encoder_says_so(tmp_path, film, capsys):
    np.save(tmp_path / "v.npy", np.eye(5, dtype="f4"))
    (tmp_path / "f.csv").write_text("video_id,frame_index,seconds\n" + "".join(f"v,{i},{i}\n" for i in range(5)))
    with EmbeddingService() as service:
        paths = ("--vectors", tmp_path / "v.npy", "--frames", tmp_path / "f.csv", "--into", tmp_path / "c")
        assert main(["import", *map(str, paths), "--encoder", service.url]) == 0
        told = capsys.readouterr().err
    assert "It cannot be searched by words until its encoder loads: The encoder" in told
    assert "makes vectors of 8 numbers; this collection stores 5." in told
