"""The bank of prompts: that the recipe writes what is shipped, that it is varied, and that a bad file is told."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from data.recipes import prompts as recipe
from engine.errors import EngineError
from engine.routing.prompts import MIN_PROMPTS, PROMPTS, fingerprint, read_prompts

ENOUGH = "\n".join(f"prompt {number}" for number in range(MIN_PROMPTS))


@pytest.fixture(scope="module")
def shipped() -> tuple[str, ...]:
    return read_prompts()


class TestTheShippedBank:
    def test_holds_four_thousand_prompts_and_none_twice(self, shipped):
        assert len(shipped) >= 4000
        assert len({prompt.lower() for prompt in shipped}) == len(shipped)

    def test_is_what_the_recipe_writes_byte_for_byte(self):
        assert PROMPTS.read_bytes() == ("\n".join(recipe.prompts()) + "\n").encode()

    def test_is_plain_text_with_single_spaces(self, shipped):
        for prompt in shipped:
            assert prompt.isascii(), prompt
            assert prompt.isprintable(), prompt
            assert prompt == " ".join(prompt.split())
            assert not set("{}[]<>") & set(prompt), prompt

    def test_has_the_right_article_before_vowels_and_no_word_twice_in_a_row(self, shipped):
        wrong = re.compile(r"\ba [aeio]|\ban [^aeiouhx]|\b(\w+) \1\b", re.IGNORECASE)
        assert [prompt for prompt in shipped if wrong.search(prompt)] == []

    def test_holds_short_and_long_prompts(self, shipped):
        lengths = Counter(min(len(prompt.split()) // 4, 4) for prompt in shipped)
        assert all(lengths[quarter] >= 0.04 * len(shipped) for quarter in range(5)), lengths
        assert max(len(prompt.split()) for prompt in shipped) <= 40

    def test_a_fifth_or_so_are_full_sentences_which_start_with_a_capital(self, shipped):
        sentences = [prompt for prompt in shipped if prompt.endswith(".")]
        assert 0.15 <= len(sentences) / len(shipped) <= 0.4
        assert all(sentence[0].isupper() for sentence in sentences)
        assert len(recipe.BY_HAND.read_text(encoding="utf-8").splitlines()) >= 200

    def test_no_kind_takes_more_than_a_third(self):
        kinds = Counter(recipe.prompts().values())
        assert set(kinds) == set(recipe.SHARES)
        assert max(kinds.values()) <= sum(kinds.values()) / 3
        assert min(kinds.values()) >= 200

    def test_no_word_that_names_something_is_in_more_than_one_of_fifty(self, shipped):
        word, times = Counter(word for prompt in shipped for word in recipe.words_of(prompt)).most_common(1)[0]
        assert times <= len(shipped) / 50, word

    def test_leaves_out_the_queries_that_the_app_offers(self, shipped):
        examples = {example["query"].lower() for example in json.loads(recipe.EXAMPLES.read_text(encoding="utf-8"))}
        assert examples
        assert not examples & {prompt.lower() for prompt in shipped}

    def test_names_hundreds_of_things(self, shipped):
        things = {noun for table in recipe.TABLES["things"].values() for noun in table["nouns"]}
        assert len({recipe.an(noun) for noun in things} & set(shipped)) >= 800

    def test_a_thousand_prompts_are_in_words_that_the_shipped_encoder_knows(self, shipped):
        from engine.embedding.encoder import load_encoder

        encoder = load_encoder()
        assert sum(not encoder.unknown_words(prompt) for prompt in shipped) >= 1000


def test_the_recipe_needs_the_standard_library_only():
    folder = Path(recipe.__file__).parent
    for name in ("prompts", "words", "palette"):
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        found |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        assert {full.split(".")[0] for full in found} <= {*sys.stdlib_module_names, "data"}


def test_nouns_get_their_article_and_plural():
    for noun, one, many in (
        ("axe", "an axe", "axes"),
        ("X-ray image", "an X-ray image", "X-ray images"),
        ("university campus", "a university campus", "university campuses"),
        ("ukulele", "a ukulele", "ukuleles"),
        ("umbrella", "an umbrella", "umbrellas"),
        ("loaf of bread", "a loaf of bread", "loaves of bread"),
        ("boat with sails", "a boat with sails", "boats with sails"),
        ("water buffalo", "a water buffalo", "water buffalo"),
        ("bread knife", "a bread knife", "bread knives"),
        ("strawberry", "a strawberry", "strawberries"),
    ):
        assert recipe.an(noun) == one
        assert recipe.plural(noun) == many


class TestReading:
    def test_empty_lines_and_a_byte_order_mark_do_not_count(self, tmp_path):
        file = tmp_path / "own.txt"
        file.write_bytes(b"\xef\xbb\xbf" + ENOUGH.replace("\n", "\r\n\n").encode())
        assert read_prompts(file) == tuple(ENOUGH.split("\n"))

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (None, "cannot be read"),
            ("caf\u00e9\n".encode("latin-1") * 40, "not UTF-8"),
            (b"", "too few, 0"),
            (ENOUGH.rpartition("\n")[0].encode(), f"too few, {MIN_PROMPTS - 1}"),
        ],
    )
    def test_a_bad_file_is_told_in_one_sentence(self, tmp_path, content, told):
        file = tmp_path / "own.txt"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(EngineError, match=told) as caught:
            read_prompts(str(file))
        message = str(caught.value)
        assert str(file) in message
        assert message.endswith(".")
        assert "\n" not in message


def test_a_fingerprint_changes_with_any_prompt_and_with_their_order():
    prompts = ("a kettle", "two goats")
    same = fingerprint(list(prompts))
    assert same == fingerprint(prompts)
    assert len(same) == 64
    assert int(same, 16)
    assert same not in {fingerprint(prompts[::-1]), fingerprint(prompts[:1]), fingerprint(("a kettle", "two goat"))}
