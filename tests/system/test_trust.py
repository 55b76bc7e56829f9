"""What a catalog names outside the collection is opened only where its owner named it himself, or allowed it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import Collection
from engine.cli.main import main
from engine.cli.trust import allow
from engine.datasets.sample_town import VIDEOS
from engine.embedding.open_clip_encoder import SHIPPED_FOLDER
from engine.errors import EncoderError, NotFound, ReadOnly, Untrusted
from engine.importers.create import open_existing
from engine.importers.videos import ingest
from engine.system import trust
from engine.system.encoder_names import encoder_path
from engine.system.trust import Trust, check_typed_encoder
from engine.types import NewVideo
from testing.clips import make_clip
from testing.hostile import run_sql
from testing.worlds import DIM, fill, make_video
from ui.shared.places import Place
from ui.shared.shelf import Shelf


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """The notes of this user, kept for one test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("FRAMESEARCH_ROOTS", raising=False)
    return tmp_path / "state"


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make(tmp_path_factory.mktemp("films") / "film.mp4")


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_clip(path, 1.0, size=(96, 54))
    return path


def pictures(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i in range(1, 4):
        Image.new("RGB", (64, 36), (50 * i, 0, 0)).save(folder / f"{i:03d}.jpg")
    return folder


def stored(path: Path, *videos: NewVideo, **how: object) -> Path:
    """A collection with these videos, closed."""
    with Collection.create(path, dim=DIM, **how) as collection:
        for i, video in enumerate(videos):
            collection.add(video, make_video(i, 3)[1])
    return path


def rewrite(path: Path, encoder: str | None = None, **columns: str) -> None:
    """Write other values into a catalog as somebody would who knows how it is made: with the right hash."""
    for name, value in columns.items():
        run_sql(path, f"UPDATE videos SET {name} = ?", value)
    if encoder is not None:
        run_sql(path, "UPDATE generations SET settings = json_set(settings, '$.encoder', ?)", encoder)


def shown(path: Path) -> tuple[bool, bool]:
    """Whether the first frame has a clip, and a picture."""
    with Collection.open(path) as collection:
        frame = collection.frame(0)
        picture = collection.thumbnail(frame)
        try:
            clip = collection.clip(frame, before=0.1, after=0.1)
        except (Untrusted, NotFound):
            return False, picture is not None
        return clip.path.is_file(), picture is not None


class TestFilms:
    def test_what_the_owner_stored_plays(self, tmp_path, film):
        assert shown(stored(tmp_path / "c", NewVideo("v", source=str(film)))) == (True, True)

    def test_it_plays_by_way_of_links_as_well(self, tmp_path, film):
        (tmp_path / "films").symlink_to(film.parent)
        stored(tmp_path / "c", NewVideo("v", source=str(tmp_path / "films" / "film.mp4")))
        (tmp_path / "now").symlink_to(tmp_path / "c")
        assert shown(tmp_path / "now") == (True, True)

    def test_a_collection_from_somebody_else_opens_no_film_of_this_machine(self, tmp_path, film):
        stored(tmp_path / "c", NewVideo("v", source=str(film)))
        (tmp_path / "c").rename(tmp_path / "moved")
        with Collection.open(tmp_path / "moved") as collection:
            assert collection.thumbnail(collection.frame(0)) is None
            assert collection.poster("v") is None
            with pytest.raises(Untrusted, match=r"film of v lies outside") as caught:
                collection.clip(collection.frame(0))
            assert caught.value.hint == "trust COLLECTION --media"
            assert str(tmp_path) not in str(caught.value)
            assert collection.lacks_trust

    def test_another_path_written_into_the_owners_own_catalog_is_not_opened(self, tmp_path, film):
        stored(tmp_path / "c", NewVideo("v", source=str(film)))
        private = make(film.parent / "private.mp4")
        rewrite(tmp_path / "c", source=str(private))
        assert shown(tmp_path / "c") == (False, False)
        rewrite(tmp_path / "c", source=str(film))
        assert shown(tmp_path / "c") == (True, True)

    @pytest.mark.parametrize("named", ["/etc/passwd", "../private.mp4", "\0", "/", "x" * 5000, "file:///etc/passwd"])
    def test_no_path_is_opened_whatever_it_looks_like(self, tmp_path, film, named, monkeypatch):
        make(tmp_path / "private.mp4")
        monkeypatch.chdir(film.parent)
        stored(tmp_path / "c", NewVideo("v", source=str(film)))
        rewrite(tmp_path / "c", source=named, pictures=named)
        assert shown(tmp_path / "c") == (False, False)

    def test_whether_a_film_is_there_is_not_told_of_those_that_are_not_allowed(self, tmp_path, film):
        stored(tmp_path / "c", NewVideo("v", source=str(film)))
        told = []
        for name in ("/etc/passwd", "/etc/no-such-thing"):
            rewrite(tmp_path / "c", source=name)
            with Collection.open(tmp_path / "c") as collection, pytest.raises(Untrusted) as caught:
                collection.clip(collection.frame(0))
            told.append(str(caught.value))
        assert told[0] == told[1]

    def test_a_film_that_is_gone_is_told_as_before(self, tmp_path):
        make(tmp_path / "film.mp4")
        stored(tmp_path / "c", NewVideo("v", source=str(tmp_path / "film.mp4")))
        (tmp_path / "film.mp4").unlink()
        with Collection.open(tmp_path / "c") as collection, pytest.raises(NotFound, match="not here"):
            collection.clip(collection.frame(0))

    def test_a_film_that_was_changed_for_a_link_or_a_pipe_is_not_opened(self, tmp_path, film):
        stored(tmp_path / "c", NewVideo("v", source=str(make(tmp_path / "film.mp4"))))
        (tmp_path / "film.mp4").unlink()
        (tmp_path / "film.mp4").symlink_to(film)
        assert shown(tmp_path / "c") == (False, False)
        (tmp_path / "film.mp4").unlink()
        os.mkfifo(tmp_path / "film.mp4")
        assert shown(tmp_path / "c") == (False, False)

    def test_what_lies_in_the_collection_or_ships_is_allowed_and_a_link_out_of_it_is_not(self, tmp_path, film):
        stored(tmp_path / "c", NewVideo("v"))
        shutil.copy(film, tmp_path / "c" / "film.mp4")
        (tmp_path / "c" / "linked.mp4").symlink_to(film)
        (tmp_path / "c").rename(tmp_path / "d")
        for source, right in (
            (tmp_path / "d" / "film.mp4", True),
            (min(VIDEOS.glob("*.mp4")), True),
            (tmp_path / "d" / "linked.mp4", False),
            (tmp_path / "d" / ".." / "d-other" / "film.mp4", False),
        ):
            rewrite(tmp_path / "d", source=str(source))
            assert shown(tmp_path / "d")[0] == right

    def test_folders_that_a_server_names_are_allowed(self, tmp_path, film, monkeypatch):
        (stored(tmp_path / "c", NewVideo("v", source=str(film)))).rename(tmp_path / "d")
        monkeypatch.setenv("FRAMESEARCH_ROOTS", f"relative{os.pathsep}{os.pathsep}{film.parent.parent / 'other'}")
        assert shown(tmp_path / "d") == (False, False)
        monkeypatch.setenv("FRAMESEARCH_ROOTS", f"/nowhere{os.pathsep}{film.parent}")
        assert shown(tmp_path / "d") == (True, True)

    def test_naming_a_film_again_allows_it(self, tmp_path, film, town_encoder):
        def again() -> None:
            with Collection.open(tmp_path / "c") as collection:
                collection.use_encoder(town_encoder)
                ingest(collection, [film], build=False)

        with Collection.create(tmp_path / "c", dim=town_encoder.dim) as collection:
            collection.use_encoder(town_encoder)
            assert ingest(collection, [film], build=False).added == ("film",)
        shutil.rmtree(tmp_path / "state")
        assert shown(tmp_path / "c")[0] is False
        again()
        assert shown(tmp_path / "c")[0] is True


class TestPictures:
    def test_the_owners_are_shown_and_others_are_not(self, tmp_path):
        stored(tmp_path / "c", NewVideo("v", pictures=str(pictures(tmp_path / "mine"))))
        assert shown(tmp_path / "c") == (False, True)
        shutil.rmtree(tmp_path / "c" / "pictures")
        rewrite(tmp_path / "c", pictures=str(pictures(tmp_path / "private")))
        assert shown(tmp_path / "c") == (False, False)
        rewrite(tmp_path / "c", pictures=str(tmp_path))
        assert shown(tmp_path / "c") == (False, False)


class TestNotes:
    def test_they_are_one_users_own_and_lie_outside_the_collection(self, tmp_path, state, film):
        stored(tmp_path / "c", NewVideo("v", source=str(film)))
        (note,) = (state / "framesearch" / "trust").iterdir()
        assert note.stat().st_mode & 0o777 == 0o600
        assert note.parent.stat().st_mode & 0o777 == 0o700
        lines = [json.loads(line) for line in note.read_text().splitlines() if line]
        assert lines == [{"collection": str(tmp_path / "c"), "film": str(film)}]

    def test_the_same_is_noted_once(self, tmp_path, state):
        for _ in range(3):
            assert Trust(tmp_path / "c").allow("film", ["/a", "/b", "/a"])
        (note,) = state.rglob("*.jsonl")
        assert note.read_text().count("film") == 2

    @pytest.mark.parametrize("harm", ["cut", "noise", "others", "of another collection", "link", "pipe"])
    def test_what_is_not_right_in_them_allows_nothing_and_costs_nothing(self, tmp_path, state, harm):
        one = Trust(tmp_path / "c")
        one.allow("film", ["/a"])
        (note,) = state.rglob("*.jsonl")
        line = json.dumps({"collection": str(tmp_path / ("d" if harm.startswith("of") else "c")), "film": "/secret"})
        if harm == "cut":
            note.write_text(note.read_text() + line[:-4])
        elif harm == "noise":
            note.write_bytes(note.read_bytes() + b'[1]\n"x"\n{"collection": 1}\n\xff\xfe\n' + b"[" * 50_000 + b"\n")
        elif harm == "others":
            note.write_text(f"{line}\n")
            note.chmod(0o666)
        elif harm in ("link", "pipe"):
            (tmp_path / "forged").write_text(f"{line}\n")
            note.unlink()
            os.mkfifo(note) if harm == "pipe" else note.symlink_to(tmp_path / "forged")
        else:
            note.write_text(note.read_text() + line)
        assert one.find("film", "/secret") is None
        assert one.allow("film", ["/b"]) == (harm not in ("others", "link", "pipe"))
        assert one.find("film", "/b") == Path("/b")
        assert one.find("film", "/secret") is None

    def test_where_they_cannot_be_written_memory_serves(self, tmp_path, monkeypatch, film):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        assert shown(stored(tmp_path / "c", NewVideo("v", source=str(film)))) == (True, True)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
        assert shown(tmp_path / "c") == (False, True)

    def test_they_do_not_grow_without_bound(self, tmp_path, state, monkeypatch):
        monkeypatch.setattr(trust, "_MAX_NBYTES", 500)
        one = Trust(tmp_path / "c")
        assert [one.allow("film", [f"/{i}" + "x" * 100]) for i in range(4)] == [True, True, False, False]
        (note,) = state.rglob("*.jsonl")
        assert note.stat().st_size <= 500
        assert one.find("film", "/3" + "x" * 100) is not None

    def test_writers_side_by_side_lose_nothing(self, tmp_path, state):
        def write(n: int) -> None:
            for i in range(20):
                Trust(tmp_path / "c").allow("film", [f"/{n}/{i}"])

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (note,) = state.rglob("*.jsonl")
        assert note.read_text().count('"film"') == 80

    def test_a_long_import_does_not_read_its_own_notes_again_and_again(self, tmp_path, monkeypatch):
        reads: list[int] = []
        real = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda *given: reads.append(1) or real(*given))
        one = Trust(tmp_path / "c")
        for i in range(50):
            one.allow("film", [f"/{i}"])
        assert len(reads) <= 2


class TestEncoders:
    @pytest.fixture
    def loads(self, monkeypatch, town_encoder):
        """What is loaded."""
        loaded: list[str] = []
        monkeypatch.setattr(
            "engine.search.query_vectors.load_encoder", lambda name: loaded.append(name) or town_encoder
        )
        monkeypatch.setattr(
            "engine.embedding.encoder.load_encoder", lambda name="town": loaded.append(name) or town_encoder
        )
        return loaded

    def search(self, path: Path) -> None:
        with Collection.open(path) as collection:
            collection.search("a dog", 1)

    def make(self, path: Path, town_encoder, encoder: str) -> Path:
        with Collection.create(path, dim=town_encoder.dim, encoder=encoder) as collection:
            frames = replace(make_video(0, 3)[1], vectors=np.eye(3, town_encoder.dim, dtype=np.float32))
            collection.add(NewVideo("v"), frames)
        return path

    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("town", None),
            ("", None),
            ("ViT-B-32/laion2b_s34b_b79k", None),
            ("ViT-B-32/openai", None),
            ("ViT-B-32//data/w.safetensors", Path("/data/w.safetensors")),
            ("ViT-B-32/w.pt", Path("w.pt")),
            ("ViT-B-32/~/w.pt", Path.home() / "w.pt"),
            ("st:folder", None),
            ("st:org/model", None),
            ("http://host/v1/embeddings", None),
            ("python:folder:Model", None),
            (str(SHIPPED_FOLDER), SHIPPED_FOLDER),
            ("/no/such/folder", Path("/no/such/folder")),
            ("folder", Path("folder")),
            ("folder/inner", Path("folder/inner")),
        ],
    )
    def test_names_of_models_are_told_from_paths(self, tmp_path, monkeypatch, name, path):
        (tmp_path / "folder" / "inner").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        assert encoder_path(name) == path

    def test_a_path_is_loaded_only_where_the_owner_named_it(self, tmp_path, loads, town_encoder):
        folder = tmp_path / "model"
        folder.mkdir()
        self.make(tmp_path / "c", town_encoder, str(folder))
        self.search(tmp_path / "c")
        assert loads == [str(folder)]
        (tmp_path / "c").rename(tmp_path / "d")
        with pytest.raises(
            EncoderError, match="names a folder or file as its encoder that nobody on this machine"
        ) as told:
            self.search(tmp_path / "d")
        assert str(tmp_path) not in str(told.value)
        with Collection.open(tmp_path / "d") as collection:
            collection.use_encoder(town_encoder)
            assert collection.search("a dog", 1).hits
        assert loads == [str(folder)]

    @pytest.mark.parametrize("name", ["{}/evil", "ViT-B-32/{}/evil.pt", "{}/c/evil", "/etc"])
    def test_nor_is_one_that_was_written_into_the_catalog_even_within_the_collection(
        self, tmp_path, loads, town_encoder, name
    ):
        self.make(tmp_path / "c", town_encoder, "town")
        for place in (tmp_path / "evil", tmp_path / "c" / "evil"):
            place.mkdir()
        rewrite(tmp_path / "c", encoder=name.format(tmp_path))
        with pytest.raises(EncoderError, match="is not loaded"):
            self.search(tmp_path / "c")
        with Collection.open(tmp_path / "c") as collection:
            collection.build()
        shelf = Shelf(None, tmp_path / "town", tmp_path)  # type: ignore[arg-type]
        opened = shelf._open(Place("folder-c", "c", "folder", tmp_path / "c"), lambda stage, done, total: None)
        opened.collection.close()
        assert "is not loaded" in opened.textless
        assert loads == []

    def test_names_of_models_and_folders_of_the_server_load_as_before(self, tmp_path, loads, town_encoder, monkeypatch):
        (tmp_path / "models" / "a").mkdir(parents=True)
        monkeypatch.setenv("FRAMESEARCH_ROOTS", str(tmp_path / "models"))
        self.make(tmp_path / "c", town_encoder, "town")
        names = ["town", "ViT-B-32/openai", str(SHIPPED_FOLDER), str(tmp_path / "models" / "a")]
        for name in names:
            rewrite(tmp_path / "c", encoder=name)
            self.search(tmp_path / "c")
        assert loads == names

    OTHERS = (
        "st:org/model",
        "st:{}/model",
        "http://127.0.0.1:9/v1/embeddings#model=m",
        "https://host/v1/embeddings",
        "python:own:Model",
    )

    @pytest.mark.parametrize("name", OTHERS)
    def test_other_sources_are_loaded_only_where_the_owner_named_exactly_that(
        self, tmp_path, loads, town_encoder, name
    ):
        (tmp_path / "model").mkdir()
        name = name.format(tmp_path)
        self.make(tmp_path / "c", town_encoder, name)
        self.search(tmp_path / "c")
        assert loads == [name]
        for other in (f"{name}x", f"{name}#dim=8", f"{name}&dim=8", name.replace("127.0.0.1", "127.0.0.2") + "#"):
            rewrite(tmp_path / "c", encoder=other)
            with pytest.raises(EncoderError, match="that nobody on this machine has allowed"):
                self.search(tmp_path / "c")
        rewrite(tmp_path / "c", encoder=name)
        (tmp_path / "c").rename(tmp_path / "d")
        with pytest.raises(EncoderError, match="look at it and allow it") as told:
            self.search(tmp_path / "d")
        assert str(tmp_path) not in str(told.value)
        assert "127.0.0.1" not in str(told.value)
        (named,) = allow(tmp_path / "d", {"encoder"})
        assert (named.path, named.allowed) == (name, True)
        self.search(tmp_path / "d")
        assert loads == [name, name]

    @pytest.mark.parametrize("name", OTHERS)
    def test_a_server_names_those_that_every_collection_may_use(self, tmp_path, loads, town_encoder, name, monkeypatch):
        (tmp_path / "model").mkdir()
        name = name.format(tmp_path)
        self.make(tmp_path / "c", town_encoder, "town")
        rewrite(tmp_path / "c", encoder=name)
        for wrong in ("", f"'{name}", f"{name}x town", name.upper(), "st:* http://* *"):
            monkeypatch.setenv("FRAMESEARCH_ENCODERS", wrong)
            with pytest.raises(EncoderError, match="nobody on this machine has allowed"):
                self.search(tmp_path / "c")
            with pytest.raises(EncoderError, match=r"unless its owner names exactly that in FRAMESEARCH_ENCODERS"):
                check_typed_encoder(name)
        monkeypatch.setenv("FRAMESEARCH_ENCODERS", f"town '{name}' python:other:Model")
        check_typed_encoder(name)
        self.search(tmp_path / "c")
        assert loads == [name]

    def test_what_a_visitor_may_type_are_the_names_and_folders_of_open_clip(self, tmp_path):
        for name in ("town", "ViT-B-32/openai", str(tmp_path), "nonsense", ""):
            check_typed_encoder(name)

    def test_a_folder_of_sentence_transformers_is_the_same_by_any_path_and_its_code_is_another_matter(
        self, tmp_path, loads, town_encoder, monkeypatch
    ):
        (tmp_path / "models" / "a").mkdir(parents=True)
        (tmp_path / "linked").symlink_to(tmp_path / "models")
        self.make(tmp_path / "c", town_encoder, f"st:{tmp_path}/models/a#dim=8")
        rewrite(tmp_path / "c", encoder=f"st:{tmp_path}/linked/../linked/a#dim=8")
        self.search(tmp_path / "c")
        rewrite(tmp_path / "c", encoder=f"st:{tmp_path}/models/a#trust_remote_code=true")
        monkeypatch.setenv("FRAMESEARCH_ROOTS", str(tmp_path / "models"))
        with pytest.raises(EncoderError, match="nobody on this machine has allowed"):
            self.search(tmp_path / "c")
        rewrite(tmp_path / "c", encoder=f"st:{tmp_path}/models/a")
        self.search(tmp_path / "c")
        assert len(loads) == 2

    def test_saying_it_again_allows_it(self, tmp_path, loads, town_encoder):
        (tmp_path / "model").mkdir()
        self.make(tmp_path / "c", town_encoder, str(tmp_path / "model")).rename(tmp_path / "d")
        open_existing(tmp_path / "d", {"encoder": str(tmp_path / "model")}).close()
        self.search(tmp_path / "d")
        assert len(loads) == 1


class TestCommand:
    @pytest.fixture
    def foreign(self, tmp_path, film):
        """A collection from somebody else, which names three things."""
        videos = [NewVideo("v", source=str(film)), NewVideo("w", pictures=str(pictures(tmp_path / "keyframes")))]
        stored(tmp_path / "c", *videos, encoder=str(tmp_path)).rename(tmp_path / "d")
        return tmp_path / "d"

    @pytest.mark.parametrize(
        ("flags", "allowed"),
        [
            ([], []),
            (["--media"], ["film", "pictures"]),
            (["--encoder"], ["encoder"]),
            (["--all"], ["film", "pictures", "encoder"]),
        ],
    )
    def test_it_lists_what_is_named_and_allows_what_is_asked_for(self, foreign, capsys, flags, allowed):
        assert main(["trust", str(foreign), *flags, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [each["kind"] for each in told["named"]] == ["film", "pictures", "encoder"]
        assert [each["kind"] for each in told["named"] if each["allowed"]] == allowed
        assert told["allowed"] == len(allowed)
        assert shown(foreign)[0] == ("film" in allowed)
        with Collection.open(foreign) as collection:
            assert collection.lacks_trust == ("film" not in allowed)

    @pytest.mark.parametrize(
        ("name", "warning"),
        [
            ("python:own:Model", "runs Python code on this machine"),
            ("st:org/model#trust_remote_code=true", "runs Python code on this machine"),
            ("http://host/v1/embeddings", "sends queries, and the pictures of an ingest, to that address"),
            ("st:org/model", ""),
        ],
    )
    def test_what_an_encoder_may_do_is_said_before_it_is_allowed(self, foreign, capsys, name, warning):
        rewrite(foreign, encoder=name)
        assert main(["trust", str(foreign)]) == 0
        out = capsys.readouterr().out
        assert f"not allowed  encoder  {name}\n" in out
        assert ("Such an encoder" in out) == bool(warning)
        assert warning in out
        assert main(["trust", str(foreign), "--encoder"]) == 0
        out = capsys.readouterr().out
        assert f"\nallowed  encoder  {name}\n" in f"\n{out}"
        assert "Such an encoder" not in out

    def test_a_folder_may_be_allowed_for_films_and_pictures_and_not_for_the_encoder(
        self, foreign, tmp_path, film, capsys
    ):
        assert main(["trust", str(foreign), "--root", str(film.parent), "--root", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert "2 of 3 that lie outside the collection are allowed" in out
        assert "not allowed  encoder" in out
        assert shown(foreign)[0]

    def test_what_could_act_on_a_terminal_is_escaped(self, foreign, capsys):
        rewrite(foreign, source="/tmp/\x1b[2J\rallowed  film  \u202e.mp4", pictures="")
        assert main(["trust", str(foreign)]) == 0
        out = capsys.readouterr().out
        assert r"not allowed  film  /tmp/\x1b[2J\rallowed  film  \u202e.mp4" in out
        assert "\x1b" not in out
        assert "\r" not in out

    def test_a_collection_that_names_nothing_says_so(self, tmp_path, capsys):
        fill(tmp_path / "c", [make_video(0, 4)]).close()
        assert main(["trust", str(tmp_path / "c")]) == 0
        assert capsys.readouterr().out == "This collection names nothing outside itself.\n"

    def test_what_cannot_be_written_down_is_told(self, foreign, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        with pytest.raises(ReadOnly, match="XDG_STATE_HOME"):
            allow(foreign, {"film"})

    def test_only_the_catalog_is_read(self, foreign, capsys):
        for name in ("segments", "leases", "media"):
            shutil.rmtree(foreign / name, ignore_errors=True)
        assert main(["trust", str(foreign)]) == 0
        assert "0 of 3" in capsys.readouterr().out
        assert not (foreign / "leases").exists()
