"""Choosing, making and importing collections in the browser, as a visitor's session runs it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection
from engine.datasets.synthetic import World, write_synthetic
from testing.worlds import fill, make_video
from tests.ui.test_pages import ask, checked, drawn, said
from ui.library.create import MAKING
from ui.shared import resources


@pytest.fixture
def root(tmp_path: Path, town: Collection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose collections can be chosen."""
    monkeypatch.setattr(resources.shelf(), "root", tmp_path / "root")
    (tmp_path / "root").mkdir()
    yield tmp_path / "root"
    resources.board().forget(MAKING)
    for key in [key for key in resources.shelf().places() if key.startswith("folder-")]:
        resources.board().forget(f"open {key}")


@pytest.fixture(scope="module")
def encoderless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection without an encoder."""
    path = tmp_path_factory.mktemp("encoderless") / "bare"
    world = World(dim=32, seed=3)
    with Collection.create(path, dim=32, n_shards=4, route="routed") as collection:
        collection.use_queries(world.text_queries(80))
        write_synthetic(collection, world, 1500)
    return path


@pytest.fixture
def bare(encoderless: Path, root: Path) -> Path:
    """The same, where it can be chosen."""
    return shutil.copytree(encoderless, root / "bare")


def settled(app: AppTest, name: str) -> AppTest:
    job = resources.board().get(name)
    assert job is not None
    assert job.wait(90)
    return checked(app.run())


def chosen(app: AppTest, key: str) -> AppTest:
    """The page after this collection was chosen in the sidebar and has been opened."""
    checked(app.selectbox(key="collection").set_value(key).run())
    if resources.board().get(f"open {key}") is None:
        checked(app.run())
    return settled(app, f"open {key}")


class TestChoosing:
    def test_the_sample_is_chosen_first_and_the_lab_begins_with_the_large_town(self, visit: Any) -> None:
        app = visit()
        assert app.selectbox(key="collection").value == "town"
        checked(app.switch_page("pages/compare.py").run())
        assert app.selectbox(key="collection").value == "large-town"
        assert [button.label for button in app.button][:2] == ["Make the large town", "Use the sample town"]
        assert "100,000 synthetic frames" in app.markdown[0].value
        assert "of disk" in app.markdown[0].value

    def test_a_choice_holds_on_every_page_and_stands_in_the_link(self, visit: Any, bare: Path) -> None:
        app = chosen(visit(), "folder-bare")
        assert "folder-bare" in app.query_params["collection"]
        for page in ("library", "compare", "search"):
            checked(app.switch_page(f"pages/{page}.py").run())
            assert app.selectbox(key="collection").value == "folder-bare"

    def test_a_link_chooses(self, visit: Any, bare: Path) -> None:
        assert visit(collection="folder-bare").selectbox(key="collection").value == "folder-bare"

    @pytest.mark.parametrize("page", ["search", "library", "shards", "compare", "memory", "tune"])
    def test_a_link_to_a_collection_that_is_not_here_says_so_and_shows_nothing_else(
        self, visit: Any, page: str
    ) -> None:
        app = visit(page, collection="folder-no such", q="a dog")
        assert "“no such”, which is not on this server" in said(app)
        assert app.query_params["collection"] == "folder-no such"
        assert not [part for part in app.get("bidi_component") if part.proto.component_name == "frames"]
        checked(app.button[-1].click().run())
        assert app.query_params["collection"] == "town"

    def test_two_visitors_use_two_collections_and_one_that_nobody_uses_is_closed(
        self,
        visit: Any,
        bare: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("ui.shared.shelf.GRACE", 0.2)
        one, other = chosen(visit(), "folder-bare"), ask(visit(), "a beach")
        shelf = resources.shelf()
        job = shelf.open(shelf.places()["folder-bare"])
        assert drawn(other, "frames")["items"]
        checked(one.selectbox(key="collection").set_value("town").run())
        for _ in range(100):
            if resources.board().get("open folder-bare") is None:
                break
            job._thread.join(0.05)
            time.sleep(0.05)
        assert resources.board().get("open folder-bare") is None
        with pytest.raises(Exception, match="closed"):
            job.value().collection.search(np.ones(32, np.float32))


class TestWithoutPictures:
    @pytest.mark.parametrize(
        ("url", "link"),
        [
            ("https://www.youtube.com/watch?v=abc", "https://www.youtube.com/watch?v=abc&t=2s"),
            ("https://youtu.be/abc?t=9", "https://youtu.be/abc?t=9"),
            ("http://example.org/film", "http://example.org/film"),
            ("javascript:alert(1)", ""),
            ("https://user@evil.example/", ""),
            ("https://a\\b.example/", ""),
            ("data:text/html,x", ""),
            ("http://[::1", ""),
        ],
    )
    def test_a_tile_says_which_frame_it_is_and_links_to_the_web_only(
        self, visit: Any, root: Path, url: str, link: str
    ) -> None:
        fill(root / "plain", [make_video(0, 12, about={"watch_url": url})]).close()
        item = drawn(chosen(visit(like="1", collection="folder-plain"), "folder-plain"), "frames")["items"][0]
        assert item["lines"][:2] == ["v0", "frame 24"]
        assert item["link"] == link


class TestWithoutAnEncoder:
    def test_it_says_what_is_missing_and_offers_sample_queries(self, visit: Any, bare: Path) -> None:
        app = chosen(visit(), "folder-bare")
        assert "has no encoder" in said(app)
        assert any("Sample queries" in str(each.proto) for each in app.get("menu_button"))

    def test_a_stored_text_and_a_stored_frame_can_be_asked(self, visit: Any, bare: Path) -> None:
        chosen(visit(), "folder-bare")
        assert drawn(visit(collection="folder-bare", stored="3"), "frames")["items"]
        assert drawn(visit(collection="folder-bare", like="5"), "frames")["items"][0]["id"] == "5"

    def test_a_row_of_an_own_file_can_be_asked_and_what_is_wrong_with_it_is_one_sentence(
        self, visit: Any, bare: Path, tmp_path: Path
    ) -> None:
        app = chosen(visit(), "folder-bare")
        with Collection.open(bare) as collection:
            np.save(tmp_path / "q.npy", np.stack([collection.vector(5), collection.vector(9)]))
        np.save(tmp_path / "long.npy", np.ones((2, 33), "f4"))
        app.text_input(key="own_vectors_path").set_value(str(tmp_path / "q.npy"))
        app.number_input(key="own_vectors_row").set_value(1)
        app = checked(app.button(key="ask_vector").click().run())
        assert drawn(app, "frames")["items"][0]["id"] == "9"
        link = {"collection": "folder-bare", "vectors": str(tmp_path / "q.npy")}
        assert "would open" in visit("shards", **link, row="0").subheader[0].value
        assert "there is no row 2" in visit(**link, row="2").error[0].value
        for name, wrong in (("long", "33 numbers in a row"), ("none", "no such file")):
            for page in ("search", "shards"):
                app = visit(page, **link | {"vectors": str(tmp_path / f"{name}.npy")})
                assert wrong in app.error[0].value


class TestMaking:
    def made(self, app: AppTest, kind: str, **values: Any) -> AppTest:
        checked(app.segmented_control(key="making_kind").set_value(kind).run())
        for key, value in values.items():
            app.text_input(key=f"making_{key}").set_value(value)
        return checked(next(button for button in app.button if button.label == "Make it").click().run())

    def test_videos_become_a_collection(self, visit: Any, town: Collection, root: Path, tmp_path: Path) -> None:
        clip = town.clip(town.search("a beach", 1).hits[0])
        (tmp_path / "films").mkdir()
        shutil.copy(clip.path, tmp_path / "films" / "one.mp4")
        app = self.made(visit("library"), "Videos", name="my films", path=str(tmp_path / "films"))
        app = settled(app, MAKING)
        assert "Stored" in app.success[0].value
        with Collection.open(root / "my films") as collection:
            assert [video.video_id for video in collection.videos()] == ["one"]
        assert "folder-my films" in app.selectbox(key="collection").options or "my films" in str(
            app.selectbox(key="collection").options
        )

    def test_vectors_with_their_table_become_a_collection(self, visit: Any, bare: Path, tmp_path: Path) -> None:
        with Collection.open(bare) as collection:
            collection.export(tmp_path / "v.npy", tmp_path / "f.parquet")
        app = self.made(
            visit("library"), "Vectors", name="copy", path=str(tmp_path / "v.npy"), table=str(tmp_path / "f.parquet")
        )
        app = settled(app, MAKING)
        assert "1,500 frames" in app.success[0].value

    def test_an_archive_becomes_a_collection(self, visit: Any, root: Path, tmp_path: Path) -> None:
        archive = tmp_path / "archive"
        for folder in ("clip-features-32", "map-keyframes"):
            (archive / folder).mkdir(parents=True)
        rows = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float16)
        np.save(archive / "clip-features-32" / "L01_V001.npy", rows)
        lines = ["n,pts_time,fps,frame_idx", *(f"{i + 1},{i * 2.0},25.0,{i * 50}" for i in range(6))]
        (archive / "map-keyframes" / "L01_V001.csv").write_text("\n".join(lines) + "\n")
        app = settled(self.made(visit("library"), "AI Challenge", name="challenge", path=str(archive)), MAKING)
        assert "6 frames" in app.success[0].value
        with Collection.open(root / "challenge") as collection:
            assert collection.frame(3).frame_index == 150

    def test_an_import_whose_encoder_cannot_be_loaded_says_that_words_will_not_work(
        self, visit: Any, bare: Path, tmp_path: Path
    ) -> None:
        with Collection.open(bare) as collection:
            collection.export(tmp_path / "v.npy", tmp_path / "f.parquet")
        values = {"name": "odd", "path": str(tmp_path / "v.npy"), "table": str(tmp_path / "f.parquet")}
        app = settled(self.made(visit("library"), "Vectors", encoder="no/such", **values), MAKING)
        assert "cannot be searched by words until its encoder loads" in app.warning[0].value
        app = chosen(visit(), "folder-odd")
        ask(app, "a dog")
        assert "“a dog” was not searched" in app.error[0].value
        assert not app.title

    def test_a_large_town_of_another_size_says_first_what_it_takes_and_can_be_chosen_then(
        self,
        visit: Any,
        root: Path,
    ) -> None:
        app = visit("library")
        checked(app.select_slider(key="making_size").set_value(10_000).run())
        assert any("Synthetic frames" in part.value and "of disk" in part.value for part in app.caption)
        checked(app.button(key="make_large").click().run())
        app = settled(app, MAKING)
        assert "The large town is ready" in app.success[0].value
        assert "large-town-10000" in resources.shelf().places()
        assert app.button(key="make_large").disabled

    def test_what_cannot_be_made_is_said_in_a_sentence(self, visit: Any, root: Path) -> None:
        (root / "taken").mkdir()
        app = visit("library")
        for values, sentence in (
            ({"name": "../up", "path": "/"}, "letters, digits"),
            ({"name": "", "path": "/"}, "letters, digits"),
            ({"name": "fine", "path": ""}, "Type a path"),
            ({"name": "fine", "path": "/no/such/place"}, "There is no file or folder"),
            ({"name": "taken", "path": "/"}, "already"),
        ):
            self.made(app, "Videos", **values)
            assert sentence in app.error[0].value
            assert resources.board().get(MAKING) is None

    def test_an_import_that_fails_says_so_and_leaves_nothing(self, visit: Any, root: Path, tmp_path: Path) -> None:
        (tmp_path / "v.npy").write_text("no vectors")
        app = self.made(
            visit("library"), "Vectors", name="broken", path=str(tmp_path / "v.npy"), table=str(tmp_path / "f")
        )
        app = settled(app, MAKING)
        assert app.error[0].value
        assert not (root / "broken").exists()
