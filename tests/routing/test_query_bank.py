"""The bank of queries: what is in it, who may be judged by whom, and the metric it gives."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from engine.routing.prompts import read_prompts
from engine.routing.query_bank import FOLDS, MAX_BANK_TEXTS, MIN_BANK_TEXTS, QueryBank, bank_of_prompts, prompts_source
from engine.system import no_progress
from engine.vectors import unit
from testing.worlds import queries

DIM = 12
NONE = np.empty((0, DIM), np.float32)
"""No past queries."""


@pytest.fixture(scope="module")
def bank():
    return QueryBank.of(queries(203, DIM), "test")


class Words:
    """An encoder that knows the texts which a test lets it know; each has a vector of its own."""

    name, dim = "words", DIM

    def __init__(self, knows=lambda text: True, longest=10**6):
        self.knows, self.longest, self.seen = knows, longest, []

    def encode_text(self, texts):
        self.seen += texts
        return (
            np.stack([np.random.default_rng(list(text.encode())).normal(size=DIM) for text in texts]).astype(np.float32)
            + 1
        )

    def encode_images(self, images):
        raise NotImplementedError

    def unknown_words(self, text):
        return () if self.knows(text) else (text,)

    def too_long(self, text):
        return len(text) > self.longest


class TestBank:
    def test_texts_come_first_and_then_as_many_pairs_as_half_of_them(self, bank):
        assert bank.n_texts == 203
        assert len(bank.vectors) == len(bank.fold) == 203 + sum(n // 2 for n in np.bincount(bank.fold[:203]))

    def test_every_vector_has_unit_norm(self, bank):
        np.testing.assert_allclose(np.linalg.norm(bank.vectors, axis=1), 1, atol=1e-5)
        assert bank.vectors.dtype == np.float32

    def test_the_texts_are_those_that_were_given(self, bank):
        given = unit(queries(203, DIM))
        assert {row.tobytes() for row in bank.vectors[:203]} == {row.tobytes() for row in given}

    def test_a_pair_never_crosses_folds(self, bank):
        texts, fold = bank.vectors[:203], bank.fold
        for pair, part in zip(bank.vectors[203:], fold[203:], strict=True):
            # Of two texts that may have made it, the mean points exactly where the pair does.
            mine = texts[fold[:203] == part]
            means = mine[:, None] + mine[None]
            lengths = np.linalg.norm(means, axis=2)
            aligned = (means @ pair) / np.where(lengths > 0, lengths, 1)
            aligned[np.diag_indices(len(mine))] = 0
            assert aligned.max() > 1 - 1e-5

    def test_folds_are_even(self, bank):
        sizes = np.bincount(bank.fold[:203], minlength=FOLDS)
        assert len(sizes) == FOLDS
        assert sizes.max() - sizes.min() <= 1

    def test_the_first_texts_stand_for_all_of_them_however_they_were_ordered(self):
        ordered = queries(400, DIM)
        ordered = ordered[np.argsort(ordered[:, 0])]
        bank = QueryBank.of(ordered, "ordered")
        first, all_of_them = bank.vectors[:100, 0].mean(), bank.vectors[:400, 0].mean()
        assert abs(first - all_of_them) < 0.15 * unit(ordered)[:, 0].std() * 3
        assert unit(ordered)[:100, 0].mean() < all_of_them - 0.2

    def test_of_many_texts_a_selection_serves(self):
        bank = QueryBank.of(queries(MAX_BANK_TEXTS + 500, DIM), "many")
        assert bank.n_texts == MAX_BANK_TEXTS

    def test_the_same_text_twice_counts_once_so_that_none_is_judged_by_itself(self):
        asked = queries(100, DIM)
        bank = QueryBank.of(np.concatenate([asked, 3 * asked[:50]]), "repeated")
        assert bank.n_texts == 100
        np.testing.assert_allclose(np.sort(bank.vectors[:100], axis=0), np.sort(unit(asked), axis=0), atol=1e-6)

    def test_the_same_texts_give_the_same_bank(self, bank):
        again = QueryBank.of(queries(203, DIM), "test")
        np.testing.assert_array_equal(again.vectors, bank.vectors)
        np.testing.assert_array_equal(again.fold, bank.fold)

    def test_texts_that_point_in_opposite_directions_make_no_pair(self):
        axis = np.eye(DIM, dtype=np.float32)[0]
        rows = np.concatenate([queries(MIN_BANK_TEXTS, DIM), [axis], [-axis]]).astype(np.float32)
        bank = QueryBank.of(rows, "opposites")
        assert np.isfinite(bank.vectors).all()

    @pytest.mark.parametrize("n", [0, 1, MIN_BANK_TEXTS - 1])
    def test_too_few_are_refused_by_number(self, n):
        with pytest.raises(ValueError, match=f"^{n} queries are too few .* give {MIN_BANK_TEXTS} or more"):
            QueryBank.of(queries(40, DIM)[:n], "few")

    def test_one_text_many_times_is_too_few(self):
        with pytest.raises(ValueError, match=r"^1 queries are too few"):
            QueryBank.of(np.ones((100, DIM), np.float32), "one")

    @pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
    def test_a_vector_without_a_direction_is_refused(self, bad):
        rows = queries(50, DIM)
        rows[7] = bad
        with pytest.raises(ValueError, match="all zeros or holds a value that is not a finite number"):
            QueryBank.of(rows, "bad")


class TestQueryMetric:
    def test_it_is_symmetric_and_positive_definite(self, bank):
        metric = bank.query_metric()
        assert metric.shape == (DIM, DIM)
        np.testing.assert_allclose(metric, metric.T, atol=1e-6)
        assert np.linalg.eigvalsh(metric.astype(np.float64)).min() > 0.05

    def test_queries_that_are_all_alike_still_give_one(self):
        rows = np.ones((40, DIM), np.float32) + 1e-3 * queries(40, DIM)
        assert np.linalg.eigvalsh(QueryBank.of(rows, "alike").query_metric().astype(np.float64)).min() > 0.05

    def test_it_is_the_covariance_scaled_to_mean_one_and_drawn_towards_a_sphere(self, bank):
        covariance = np.cov(bank.vectors.T.astype(np.float64))
        expected = covariance * DIM / np.trace(covariance) + 0.1 * np.eye(DIM)
        np.testing.assert_allclose(bank.query_metric(), expected, atol=1e-4)
        assert np.trace(bank.query_metric()) == pytest.approx(1.1 * DIM, rel=1e-4)


class TestPrompts:
    def test_those_whose_words_an_encoder_knows_make_a_bank(self):
        encoder, told = Words(lambda text: "dog" not in text), []
        bank = bank_of_prompts(encoder, "source", NONE, lambda stage, done, total: told.append(done / total))
        assert bank is not None
        assert bank.source == "source"
        assert len(encoder.seen) == MAX_BANK_TEXTS
        assert not any("dog" in text for text in encoder.seen)
        assert any("dog" in text for text in read_prompts())
        assert told[0] == 0
        assert told == sorted(told)
        assert told[-1] < 1

    def test_an_encoder_that_cuts_long_texts_is_not_asked_for_them(self):
        encoder = Words(longest=20)
        bank_of_prompts(encoder, "source", NONE, no_progress)
        assert encoder.seen
        assert max(len(text) for text in encoder.seen) <= 20

    def test_an_encoder_that_does_not_tell_is_taken_at_its_word(self):
        encoder = SimpleNamespace(name="plain", dim=DIM, encode_text=Words().encode_text)
        assert bank_of_prompts(encoder, "source", NONE, no_progress) is not None

    def test_an_encoder_that_knows_too_few_of_them_gives_no_bank(self):
        known = set(read_prompts()[: MIN_BANK_TEXTS - 1])
        encoder = Words(known.__contains__)
        assert bank_of_prompts(encoder, "source", NONE, no_progress) is None
        assert not encoder.seen

    def test_a_bank_of_prompts_is_named_after_the_prompts_and_the_encoder(self):
        assert prompts_source("one") != prompts_source("other")
        assert prompts_source("one") == prompts_source("one")
