"""What data and visitors write is shown letter by letter: on pages, in figures, in tables, on a terminal."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection
from engine.cli import output
from engine.importers.create import from_table
from engine.system.escape import reason_unreadable, spreadsheet_cell, visible
from testing.app import ROOT
from testing.nasty import NASTY, SNIPPETS
from testing.worlds import fill, make_video
from ui.shared import resources, words

if TYPE_CHECKING:
    pass

PAGES = ("search", "library", "shards", "memory")


@pytest.fixture
def visit(nasty_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(resources.shelf(), "root", nasty_root)
    key = f"folder-{NASTY}"
    assert resources.shelf().open(resources.shelf().places()[key]).wait(60)

    def opened(page: str, **link: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60)
        app.query_params.update({"collection": key, **link})
        app.run()
        return app if page == "search" else app.switch_page(f"pages/{page}.py").run()

    yield opened
    resources.board().forget(f"open {key}")


def texts(app: AppTest) -> str:
    """All that Streamlit reads as Markdown, as it is sent to the browser."""
    kinds = ("markdown", "heading", "alert", "button", "button_group", "caption", "popover", "menu_button", "progress")
    return "\n".join(str(part.proto) for kind in kinds for part in app.get(kind)).replace("\\\\", "\\")


@pytest.mark.parametrize("page", PAGES)
def test_no_page_has_markup_from_a_collection(visit: Any, page: str) -> None:
    app = visit(page, like="5", hit="5", shard="1")
    assert not app.exception
    said = texts(app)
    for wrong in ("[click](", "<img", "<script", "$x^2", "https://evil", "www.evil", "me@evil", "**b**", ":smile:"):
        assert not re.search(rf"(?<!\\){re.escape(wrong)}", said), wrong


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_value_in_a_link_that_is_not_here_is_named_and_stays_text(visit: Any, snippet: str) -> None:
    app = visit("search", scene=f"no {snippet}", video=f"no {snippet}", k=snippet, hit="9" * 5000, t=["9" * 5000, "1"])
    assert not app.exception
    assert words.plain(f"no {snippet}")[:60] in app.warning[0].value


class TestWords:
    def test_usual_labels_stay_as_they_are_in_links(self) -> None:
        for label in ("living room", "semi-detached", "traffic_light", "person", "người đi bộ", "car (red)"):
            assert words.option(label) == label

    @pytest.mark.parametrize("snippet", SNIPPETS)
    def test_what_markdown_would_act_on_is_escaped_in_links_too(self, snippet: str) -> None:
        assert words.option(snippet) == words.plain(snippet)
        assert words.plain(snippet) != snippet

    def test_plain_text_is_seen_letter_by_letter(self) -> None:
        for text in (*SNIPPETS, "21:30:24", "a -> b", "C:\\dir"):
            seen = words.plain(text).replace("\N{WORD JOINER}", "")
            assert re.sub(r"\\(.)", r"\1", seen) == text

    def test_control_characters_and_turned_lines_are_shown_as_escapes(self) -> None:
        assert words.plain("a\x1b[2Jb\u202ec\x00") == "a\\\\x1b\\[2Jb\\\\u202ec\\\\x00"
        assert words.hypertext("<b>\u202e") == "&lt;b&gt;\\u202e"

    def test_a_badge_leaves_brackets_to_streamlit(self) -> None:
        assert words.badge_text("[a](b)") == "[a]\\(b\\)"


class TestTables:
    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\ta", "\ra", "'=1", "''-1"])
    def test_a_formula_gets_an_apostrophe(self, text: str) -> None:
        assert spreadsheet_cell(text).startswith("'")
        assert spreadsheet_cell("plain -1") == "plain -1"

    def test_an_export_as_csv_has_no_formula_and_comes_back_as_it_was(self, tmp_path: Path) -> None:
        names = ["=cmd|'/c calc'!A0", "+1", "-abc", "@home", "'=1", "''+1", "'quoted'", "plain"]
        videos = [make_video(i, 4, video_id=name, title=f"{name} title") for i, name in enumerate(names)]
        with fill(tmp_path / "c", videos) as collection:
            collection.export(tmp_path / "v.npy", tmp_path / "f.csv")
        rows = list(csv.DictReader(io.StringIO((tmp_path / "f.csv").read_text("utf-8"))))
        assert len(rows) == 4 * len(names)
        assert not [
            text for row in rows for text in (row["video_id"], row["title"], row["tags"]) if text[:1] in set("=+-@")
        ]
        from_table(tmp_path / "copy", tmp_path / "v.npy", tmp_path / "f.csv", {})
        with Collection.open(tmp_path / "copy") as copy:
            assert {(video.video_id, video.title) for video in copy.videos()} == {(n, f"{n} title") for n in names}


class TestTerminal:
    def test_a_line_that_is_printed_can_neither_end_itself_nor_act(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.say("a\x1b]0;title\x07b\nengine: fine\rc\u202ed\u2028e", "next", error=True)
        assert capsys.readouterr().err == "a\\x1b]0;title\\x07b\\nengine: fine\\rc\\u202ed\\u2028e\nnext\n"

    def test_letters_of_all_languages_are_left_alone(self) -> None:
        for text in (
            "người đi bộ",
            "東京",
            "नमस्ते",
            "\N{FAMILY}",
            "a\N{NO-BREAK SPACE}b",
            "می\N{ZERO WIDTH NON-JOINER}خواهم",
        ):
            assert visible(text) == text

    def test_a_terminal_without_the_letters_gets_escapes_and_no_error(self, tmp_path: Path) -> None:
        video = make_video(0, 4, video_id="đường-phố", title="Đường phố")
        fill(tmp_path / "c", [video]).close()
        command = [sys.executable, "-m", "engine", "search", str(tmp_path / "c"), "--frame", "1"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "\\u0111\\u01b0\\u1eddng-ph\\u1ed1" in done.stdout

    def test_an_argument_that_is_wrong_is_quoted_harmlessly(self, capsys: pytest.CaptureFixture[str]) -> None:
        from engine.cli.main import main

        with pytest.raises(SystemExit):
            main(["search", "c", "--hours", "\x1b[2J"])
        assert main(["stats", "/no/such\x1b[2Jplace"]) == 2
        assert "\x1b" not in capsys.readouterr().err


class TestReasons:
    def test_a_file_that_is_no_table_is_named_and_not_quoted(self, tmp_path: Path) -> None:
        secret = "hunter2"
        (tmp_path / "v.npy").write_text(f"password={secret}")
        (tmp_path / "f.csv").write_text("video_id,frame_index,seconds\nv,0,0.0\n")
        with pytest.raises(ValueError, match="cannot be read as") as caught:
            from_table(tmp_path / "c", tmp_path / "v.npy", tmp_path / "f.csv", {})
        assert secret not in str(caught.value)

    def test_words_of_libraries_are_not_passed_on(self) -> None:
        for call in (lambda: int("hunter2"), lambda: np.dtype("hunter2"), lambda: "\udc80hunter2".encode()):
            with pytest.raises((ValueError, TypeError)) as caught:
                call()
            assert "hunter2" not in reason_unreadable(caught.value)
