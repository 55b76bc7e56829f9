"""Queries of any content: of a length that people type they are read at once, and longer ones are refused before anything reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection
from engine.cli.main import main
from engine.embedding.open_clip_encoder import OpenClipEncoder
from engine.system import bounds
from engine.text.hints import HintReader
from engine.text.to_filter import hints_to_filter
from engine.text.unknown_words import find_unknown_words
from testing.worlds import DIM, VIDEOS, fill
from ui.compare import comparison
from ui.search import link

N = bounds.MAX_QUERY
random = np.random.default_rng(0)
SHAPES: dict[str, str] = {
    "a list": "red, ",
    "and the": "and the ",
    "alternatives": "dog or cat or ",
    "clock times": "1:",
    "digits": "9",
    "no": "not not no red car ",
    "times": "9pm-",
    "ranges": "from 5 to 5 to ",
    "halves": "half an hour and ",
    "before": "before the last ",
    "days": "on monday to ",
    "quotes": "'",
    "possessives": "a'",
    "n't": "n't ",
    "hyphens": "-free ",
    "one letter": "a",
    "accents": "a\u0301",
    "accents alone": "\u0301",
    "letters that grow": "\u0130\u1e9e",
    "emoji": "\U0001f469\u200d\U0001f469",
    "entities": "&amp;",
    "misread letters": "\u00e2\u20ac\u2122",
    "marks": "&<",
}
LONG = {name: (shape * N)[:N] for name, shape in SHAPES.items()}
LONG["any letters"] = "".join(random.choice([*"abcdefghijklmnopqrstuvwxyz"], N))
LONG["any letters of all scripts"] = "".join(map(chr, random.integers(0x4E00, 0x9FFF, N)))
LONG["any letters of four bytes"] = "".join(map(chr, random.integers(0x10400, 0x1044F, N)))
LONG["any of all"] = "".join(random.choice([*"abc 1:'-\u00df ,.?!0pm"], N))


class Recorder:
    """An encoder that knows which texts reached it."""

    name = "recorder"
    dim = DIM

    def __init__(self):
        self.seen = []

    def encode_text(self, texts):
        self.seen += texts
        return np.ones((len(texts), DIM), np.float32) / np.sqrt(DIM)


@pytest.fixture
def encoder(town_encoder: OpenClipEncoder) -> OpenClipEncoder:
    return town_encoder


@pytest.fixture(scope="module")
def reader() -> HintReader:
    return HintReader()


def seconds(work: Callable[[], object]) -> float:
    """Of this thread, so that a busy machine does not count."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


@pytest.mark.parametrize("name", LONG)
def test_the_longest_query_is_read_within_20_ms(name: str, encoder: OpenClipEncoder, reader: HintReader) -> None:
    def hints() -> None:
        with suppress(ValueError):  # They may contradict each other.
            hints_to_filter(reader.read(text))

    text = LONG[name]
    assert seconds(hints) < 0.02
    assert seconds(lambda: find_unknown_words(encoder, text)) < 0.02
    assert seconds(lambda: encoder.too_long(text)) < 0.02


def test_a_caption_with_a_word_of_any_length_is_tokenized_in_time_in_line_with_it(encoder: OpenClipEncoder) -> None:
    word = "".join(random.choice([*"abcdefghijklmnopqrstuvwxyz"], 20_000))
    assert seconds(lambda: encoder.too_long(word)) < 0.5


def test_hints_are_made_a_filter_in_time_in_line_with_their_number(reader: HintReader) -> None:
    hints = [hint for _ in range(100) for hint in reader.read(LONG["a list"])]
    assert len(hints) == 10_000
    assert seconds(lambda: hints_to_filter(hints)) < 0.5


class TestEngine:
    @pytest.fixture
    def searched(self, tmp_path: Path) -> Iterator[tuple[Collection, Recorder]]:
        recorder = Recorder()
        with fill(tmp_path / "c", VIDEOS[:2]) as collection:
            collection.use_encoder(recorder)
            yield collection, recorder

    @pytest.mark.parametrize("text", ["x" * (N + 1), "a dog " * 20_000, "a\x00dog", "a\x1b[31mdog", "\udcff"], ids=len)
    def test_what_is_too_long_or_not_text_reaches_no_encoder(
        self, searched: tuple[Collection, Recorder], text: str
    ) -> None:
        collection, recorder = searched
        result = collection.search(np.ones(DIM), 3, max_shards=1)
        assert result.trace.method != "exact"
        asks: list[Callable[[], object]] = [
            lambda: collection.search(text),
            lambda: collection.search_many(["a dog", text]),
            lambda: collection.preview(text),
            lambda: collection.missed(text, result, max_shards=1),
        ]
        for ask in asks:
            with pytest.raises(
                ValueError, match=r"^The query (has .* characters; give at most 500|holds a control character)"
            ):
                ask()
        assert recorder.seen == []

    def test_blanks_of_all_kinds_are_spaces(self, searched: tuple[Collection, Recorder]) -> None:
        collection, recorder = searched
        collection.search("  a red\tcar\r\nat\u00a0night\u2028 ")
        assert recorder.seen == ["a red car at night"]
        with pytest.raises(ValueError, match="query is empty"):
            collection.search("\u00a0\n")

    def test_the_longest_query_is_searched(self, searched: tuple[Collection, Recorder]) -> None:
        collection, recorder = searched
        assert len(collection.search("d" * N, 3).hits) == 3
        assert recorder.seen == ["d" * N]

    def test_too_many_queries_are_refused_before_they_are_looked_at(
        self, searched: tuple[Collection, Recorder]
    ) -> None:
        collection, recorder = searched
        for queries in (["a dog"] * (bounds.MAX_QUERIES + 1), np.zeros((bounds.MAX_QUERIES + 1, DIM), np.float32)):
            with pytest.raises(ValueError, match=r"There are 20,001 queries; at most 20,000 are taken"):
                collection.search_many(queries)
        assert recorder.seen == []

    def test_readers_of_words_refuse_what_is_longer_than_a_query(
        self, reader: HintReader, encoder: OpenClipEncoder
    ) -> None:
        for read in (reader.read, lambda text: find_unknown_words(encoder, text)):
            with pytest.raises(ValueError, match="The query has 501 characters; give at most 500"):
                read("x" * (N + 1))

    def test_the_command_says_so_in_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with Collection.create(tmp_path / "c", dim=128, encoder="town"):
            pass
        assert main(["search", str(tmp_path / "c"), "x" * 10_000]) != 0
        assert "The query has 10,000 characters; give at most 500." in capsys.readouterr().err


BOX = """
import streamlit as st
from ui.search import query

st.session_state.read = query.box()
st.button("Ask", on_click=query.ask, args=(st.session_state.get("given", ""),))
"""


class TestBox:
    @staticmethod
    def opened(link: str) -> AppTest:
        app = AppTest.from_string(BOX, default_timeout=30)
        app.query_params["q"] = link
        app.run()
        assert not app.exception
        return app

    def test_a_link_with_a_text_of_any_length_is_refused_in_a_sentence(self) -> None:
        app = self.opened("x" * 100_000)
        assert app.session_state.read == ""
        assert "100,000 characters" in app.error[0].value

    def test_what_is_put_into_the_box_by_other_means_is_refused(self) -> None:
        app = self.opened("a dog")
        app.session_state.given = "z" * 100_000
        app.run()
        app.button[0].click().run()
        assert not app.exception
        assert app.session_state.read == ""
        assert "100,000 characters" in app.error[0].value

    def test_control_characters_are_refused_and_blanks_become_spaces(self) -> None:
        assert self.opened(" a red\ncar\u00a0at night").session_state.read == "a red car at night"
        app = self.opened("a\x00b")
        assert app.session_state.read == ""
        assert "control character" in app.error[0].value

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("a dog\n" + "x" * 501, "The query has 501 characters; give at most 500."),
            ("a dog\n" * 501, "501 texts are too many; give up to 500."),
            ("a \x07 dog", "The query holds a control character (U+0007); leave it out."),
            ("a dog\n\n a  cat ", ""),
        ],
    )
    def test_typed_lists_are_bounded_in_number_and_length(self, text: str, sentence: str) -> None:
        assert comparison.wrong(comparison.Choices(source="typed", text=text), "") == sentence

    def test_numbers_of_any_length_in_a_link_are_no_numbers(self) -> None:
        assert not link._is_whole("9" * 5_000)
        assert link._is_whole("9")
