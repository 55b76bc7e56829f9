"""What one visitor sees of another and of what goes wrong, and what the server lets in."""

from __future__ import annotations

import http.client
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from engine.errors import NotFound, ResourceExhausted
from engine.system.bounds import MAX_JOBS, MAX_TYPED_PATH
from testing.app import ROOT, served
from testing.app import visit as open_visit
from testing.worlds import fill, make_video
from tests.ui.test_pages import drawn
from ui.library.create import MAKING
from ui.shared import resources, uncaught
from ui.shared.jobs import Board
from ui.shared.paths import typed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FAILING = """
import streamlit as st
from starlette.middleware import Middleware

from ui.shared import gate, uncaught


def fail():
    raise KeyError("secret \\x1b[2J")


@st.fragment
def part():
    if st.button("In a part"):
        fail()


def page():
    st.button("In a callback", on_click=fail)
    part()
    if st.button("In the page"):
        fail()
    if st.button("Rerun"):
        st.rerun()
    st.write("The page is whole")


if __name__ == "failing":
    uncaught.escape_log()
    app = st.App(__file__, middleware=[Middleware(gate.Gate)], on_script_error=uncaught.show_error)
else:
    with uncaught.shown():
        page()
"""
"""An app that fails on every road that an exception can take, behind the same front door."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a collection of the name `plain`."""
    folder = tmp_path / "root"
    fill(folder / "plain", [make_video(0, 12), make_video(1, 12)]).close()
    monkeypatch.setattr(resources.shelf(), "root", folder)
    assert resources.shelf().open(resources.shelf().places()["folder-plain"]).wait(60)
    yield folder
    for name in (MAKING, "open folder-plain"):
        resources.board().forget(name)


def visit(page: str = "search", **link: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60)
    app.query_params.update({"collection": "folder-plain", **link})
    app.run()
    return app if page == "search" else app.switch_page(f"pages/{page}.py").run()


def read(app: AppTest) -> str:
    """All that stands on the page in boxes, captions and bars."""
    assert not app.exception
    boxes = [box.value for box in [*app.error, *app.warning, *app.info, *app.success, *app.caption]]
    return " ".join([*boxes, *(str(part.proto) for part in app.get("progress"))])


def made(app: AppTest, path: Path | str) -> None:
    """Ask for a collection made of the archive at this path."""
    app.segmented_control(key="making_kind").set_value("AI Challenge").run()
    app.text_input(key="making_name").set_value("new")
    app.text_input(key="making_path").set_value(str(path))
    next(button for button in app.button if button.label == "Make it").click().run()


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (NotFound("There is no such frame; ask for another one."), "There is no such frame; ask for another one."),
            (KeyError("hunter2"), "Something went wrong on our side (number"),
            (int, "Something went wrong on our side (number"),
            (UnicodeDecodeError("utf-8", b"hunter2", 0, 1, "hunter2"), "Something went wrong on our side (number"),
            (OSError(28, "hunter2", "/hunter2"), "A file could not be read or written (number"),
            (MemoryError("hunter2"), "There is not enough memory for this at the moment (number"),
            (RecursionError("hunter2"), "Something went wrong on our side (number"),
        ],
        ids=lambda value: getattr(type(value), "__name__", "") if isinstance(value, Exception) else "",
    )
    def test_a_page_that_fails_is_one_sentence_and_its_number_stands_in_the_log(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Any, told: str
    ) -> None:
        def fails(*_: object) -> None:
            if error is int:
                int("hunter2")
            raise error

        monkeypatch.setattr("ui.library.videos.headline", fails)
        app = visit("library")
        (box,) = [box.value.replace("\\", "") for box in app.error]
        assert box.startswith(told)
        assert "hunter2" not in read(app)
        if "number" in told:
            number = box.partition("number ")[2][:4]
            assert f"Number {number}" in caplog.text
            assert "in fails" in caplog.text

    def test_a_number_is_the_same_each_time_and_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        error = KeyError("x\x1b[2J")
        with caplog.at_level(logging.ERROR):
            assert uncaught.error_sentence(error) == uncaught.error_sentence(error)
        assert len(caplog.records) == 1
        assert "\x1b" not in caplog.text

    def test_a_job_that_fails_oddly_is_a_sentence_for_who_started_it(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise RuntimeError("hunter2")

        monkeypatch.setattr("engine.importers.from_aic", fails)
        one, other = visit("library"), visit("library")
        made(one, root)
        job = resources.board().get(MAKING)
        assert job is not None
        assert job.wait(30)
        assert "on our side" in read(one.run())
        assert "hunter2" not in read(one)
        assert "on our side" not in read(other.run())
        one.button(key="dismiss_made").click().run()
        assert "on our side" not in read(one)

    def test_every_road_of_an_exception_in_a_browser(self, browser: Browser, tmp_path: Path) -> None:
        (tmp_path / "failing.py").write_text(FAILING)
        with served(tmp_path / "town", tmp_path / "log", str(tmp_path / "failing.py")) as (address, _):
            seat = open_visit(browser)
            page = seat.page
            page.goto(address)
            for road in ("In the page", "In a part", "In a callback"):
                page.get_by_role("button", name=road).click()
                box = page.get_by_test_id("stAlert")
                box.wait_for(timeout=20_000)
                assert box.inner_text().startswith("Something went wrong on our side (number ")
                number = box.inner_text().partition("number ")[2][:4]
                assert f"Number {number}" in (tmp_path / "log").read_text("utf-8")
                assert page.get_by_test_id("stException").count() == 0
                assert "secret" not in page.content()
                page.reload()
                page.get_by_text("The page is whole").wait_for()
            page.get_by_role("button", name="Rerun").click()
            page.get_by_text("The page is whole").wait_for()
            assert page.get_by_test_id("stAlert").count() == 0
            page.context.close()
        assert "\x1b[2J" not in (tmp_path / "log").read_text("utf-8")


class TestOthers:
    def test_how_something_ended_is_read_by_who_asked_and_dismissed_by_him(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object, **__: object) -> None:
            raise NotFound("There is no such file as mine.csv.")

        monkeypatch.setattr("engine.importers.from_aic", refused)
        one, other, board = visit("library"), visit("library"), resources.board()
        made(one, root)
        assert board.get(MAKING).wait(10)
        assert "mine" in read(one.run())
        assert "mine" not in read(other.run())
        assert "Dismiss" not in [button.label for button in other.button]
        board.start(MAKING, lambda report: None, owner="third")
        assert board.get(MAKING).wait(10)
        assert "mine" in read(one.run())
        one.button(key="dismiss_made").click().run()
        assert "mine" not in read(one)

    def test_others_read_that_something_is_going_on_and_cannot_stop_it(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate, told = threading.Event(), threading.Event()

        def work(*_: object, progress: Any, **__: object) -> None:
            progress("looking at secret.csv", 0.5, 1.0)
            told.set()
            gate.wait(30)
            raise NotFound("It is over.")

        monkeypatch.setattr("engine.importers.from_aic", work)
        one, other = visit("library"), visit("library")
        made(one, root)
        try:
            assert told.wait(10)
            said = read(other.run())
            assert "Another visitor is making a collection" in said
            assert "secret" not in said
            assert "Stop" not in [button.label for button in other.button]
            assert "secret" in read(one.run())
            assert "Stop" in [button.label for button in one.button]
        finally:
            gate.set()
            assert resources.board().get(MAKING).wait(10)

    def test_a_collection_that_goes_while_it_is_looked_at_leaves_a_sentence_and_a_way_back(self, root: Path) -> None:
        app = visit("library")
        (root / "plain").rename(root.parent / "elsewhere")
        assert "not here any more" in read(app.run())
        assert app.selectbox(key="collection").value is None
        assert not app.markdown
        app.button[-1].click().run()
        assert app.selectbox(key="collection").value == "town"

    def test_a_video_that_goes_while_a_link_names_it_leaves_a_sentence(self, root: Path) -> None:
        app = visit(like="1", hit="1", video="Video 0")
        assert not app.warning or "does not have" not in app.warning[0].value
        resources.board().get("open folder-plain").value().collection.delete("v0")
        told = read(visit(like="1", hit="1", video="Video 0"))
        assert "frame “1”" in told
        assert "video “Video 0”" in told

    def test_the_welcome_leaves_out_an_example_that_is_gone(self, root: Path) -> None:
        opened = resources.board().get("open folder-plain").value()
        shown = [opened.collection.frame(0), opened.collection.frame(14)]
        resources.board().get("open folder-plain").result = replace(
            opened, examples=tuple(zip(("one", "two"), shown, strict=True)), textless=""
        )
        opened.collection.delete(shown[0].video_id)
        app = visit()
        assert not app.exception
        assert [item["title"] for item in drawn(app, "frames")["items"]] == ["two"]

    def test_a_video_that_goes_between_two_looks_at_it_leaves_a_sentence_beside_the_grid(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collection = resources.board().get("open folder-plain").value().collection
        clip = type(collection).clip

        def gone(*given: Any, **named: Any) -> Any:
            collection.delete("v1")
            return clip(*given, **named)

        monkeypatch.setattr(type(collection), "clip", gone)
        app = visit(like="1", hit="14")
        assert "was removed from the collection while it was open" in read(app)
        assert drawn(app, "frames")["label"] == "Frames found, best first"

    def test_a_folder_that_the_app_may_not_look_into_is_passed_over(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (root / "closed").mkdir()
        (root / os.fsdecode(b"bad\xff")).mkdir()
        is_file = Path.is_file

        def guarded(path: Path) -> bool:
            if path.parent.name == "closed":
                raise PermissionError(13, "Permission denied")
            return is_file(path)

        monkeypatch.setattr(Path, "is_file", guarded)
        assert "folder-closed" not in resources.shelf().places()
        assert "folder-plain" in resources.shelf().places()


class TestTypedPaths:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "first."),
            ("  '' ", "first."),
            ("/x" * MAX_TYPED_PATH, "characters; give at most"),
            ("/" + "x" * 300, "a name in it is too long"),
            ("/a\0b", "control character"),
            ("/a\x1b[2Jb", "control character"),
            ("~nosuchuser/x", "no such home folder"),
            ("films/x.mp4", "whole path"),
            ("../x.mp4", "whole path"),
            ("/dev/null", "neither a file nor a folder"),
        ],
    )
    def test_what_can_be_no_path_is_said_in_one_sentence(self, text: str, told: str) -> None:
        with pytest.raises(ValueError, match=told) as caught:
            typed(text)
        assert str(caught.value).endswith(".")

    def test_a_path_may_be_quoted_and_begin_at_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert typed(' "~/films/x.mp4" ') == tmp_path / "films" / "x.mp4"

    def test_a_link_in_a_circle_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to(tmp_path / "a")
        with pytest.raises(ValueError, match="leads back to itself"):
            typed(str(tmp_path / "a"))

    @pytest.mark.parametrize("text", ["/x" * MAX_TYPED_PATH, "~nosuchuser/x", "/a\0b"])
    def test_the_form_says_it_and_everybody_goes_on(self, root: Path, text: str) -> None:
        one, other = visit("library"), visit("library")
        made(one, text)
        assert not one.exception
        assert len(one.error) == 1
        assert not other.run().error
        assert resources.board().get(MAKING) is None


class TestJobs:
    def test_a_visitor_has_only_so_many_going_at_a_time(self) -> None:
        board, gate = Board(), threading.Event()
        jobs = [board.start(f"me {i}", lambda report: gate.wait(10), owner="me") for i in range(MAX_JOBS)]
        with pytest.raises(ResourceExhausted, match="jobs running already"):
            board.once("me more", lambda report: None, "me")
        assert board.start("you", lambda report: None, owner="you") is not None
        gate.set()
        assert all(job.wait(10) for job in jobs)
        assert board.start("me more", lambda report: 1, owner="me").wait(10)

    def test_what_a_visitor_leaves_behind_may_be_stopped_by_anybody_and_is_told_to_nobody(self) -> None:
        board, gate = Board(), threading.Event()
        job = board.start("shared", lambda report: gate.wait(10), owner="me")
        board.leave("me")
        assert job.running
        assert job.owner == ""
        assert board.own("shared", "me") is None
        gate.set()
        assert job.wait(10)

    def test_a_job_without_a_thread_blocks_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        board = Board()

        def none_left(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none_left)
            with pytest.raises(ResourceExhausted, match="not enough threads"):
                board.start("a", lambda report: 1, "lane")
        job = board.start("a", lambda report: 1, "lane")
        assert job.wait(10)
        assert job.value() == 1


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where a server of the app listens."""
    folder = tmp_path_factory.mktemp("gate")
    with served(folder / "town", folder / "log") as (address, _):
        yield int(address.rpartition(":")[2])


class TestGate:
    def ask(self, port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        line = http.client.HTTPConnection("localhost", port, timeout=20)
        try:
            line.request(method, path, body, headers)
            return line.getresponse().status
        finally:
            line.close()

    @pytest.mark.parametrize("path", ["/_stcore/upload_file/a/b", "/_stcore/upload_file/" + "a" * 32 + "/b", "/"])
    @pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
    def test_nothing_is_taken(self, port: int, method: str, path: str) -> None:
        assert self.ask(port, method, path, b"x" * 1000) in (404, 405)

    def test_a_large_upload_is_refused_before_it_is_read(self, port: int) -> None:
        line = http.client.HTTPConnection("localhost", port, timeout=20)
        line.putrequest("PUT", "/_stcore/upload_file/a/b")
        line.putheader("Content-Length", str(190_000_000))
        line.endheaders(b"x" * 10)
        answer = line.getresponse()
        assert answer.status == 404
        assert answer.getheader("connection") == "close"
        line.close()

    def test_a_page_of_somebody_else_cannot_send_files(self, port: int) -> None:
        assert self.ask(port, "PUT", "/_upload/x/a.mp4", b"abc", Origin="http://evil.example") == 403
        assert self.ask(port, "PUT", "/_upload/x/a.mp4", b"abc", Origin=f"http://localhost:{port}") == 403
        assert self.ask(port, "PUT", "/_upload/x/a.mp4", b"abc", Host="evil.example") == 421

    def test_pages_and_their_files_are_served(self, port: int) -> None:
        for path in ("/", "/library", "/_stcore/health", "/_stcore/host-config"):
            assert self.ask(port, "GET", path) == 200
        assert self.ask(port, "GET", "/media/nothing.png") == 404

    @pytest.mark.parametrize("name", ["evil.example", "evil.example:80", "localhost.evil.example", "", "[::1"])
    def test_under_another_name_nothing_is_served(self, port: int, name: str) -> None:
        assert self.ask(port, "GET", "/", Host=name) == 421

    @pytest.mark.parametrize("name", ["localhost:1", "127.0.0.1", "[::1]:8501", "LOCALHOST"])
    def test_all_names_of_this_machine_are_served(self, port: int, name: str) -> None:
        assert self.ask(port, "GET", "/", Host=name) == 200

    @pytest.mark.parametrize(
        ("host", "origin", "status"),
        [
            ("localhost", None, 101),
            ("localhost", "http://localhost:8501", 101),
            ("localhost", "http://evil.example", 403),
            ("evil.example", "http://evil.example", 403),
        ],
    )
    def test_a_page_of_somebody_else_gets_no_socket(
        self, port: int, host: str, origin: str | None, status: int
    ) -> None:
        headers = {
            "Host": host,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        } | ({} if origin is None else {"Origin": origin})
        assert self.ask(port, "GET", "/_stcore/stream", **headers) == status
