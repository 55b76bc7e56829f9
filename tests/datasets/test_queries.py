"""Queries to try a collection with."""

from __future__ import annotations

import numpy as np
import pytest

from engine import Collection
from engine.datasets.queries import QUERIES, sample_queries
from engine.datasets.synthetic import World, write_synthetic
from engine.errors import EncoderError, NotFound
from engine.routing.prompts import read_prompts
from engine.routing.query_bank import known_texts

WORLD = World(dim=32, seed=1)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A collection without an encoder, whose router was fitted on vectors."""
    with Collection.create(tmp_path_factory.mktemp("bare") / "c", dim=32, n_shards=3) as collection:
        collection.use_queries(WORLD.text_queries(64))
        write_synthetic(collection, WORLD, 900)
        yield collection


def test_the_shipped_queries_are_no_prompts_and_most_are_in_words_that_the_encoder_knows(town_encoder):
    queries = read_prompts(QUERIES)
    assert len(set(queries)) == len(queries) == 400
    assert not set(queries) & set(read_prompts())
    assert len(known_texts(town_encoder, queries)) >= 380


def test_texts_for_an_encoder_are_unseen_and_the_same_for_the_same_seed(town_encoder, tmp_path):
    with Collection.create(tmp_path / "c", dim=town_encoder.dim, encoder="town") as collection:
        collection.use_encoder(town_encoder)
        one, again, other = (sample_queries(collection, 30, seed=seed) for seed in (0, 0, 1))
    assert one.unseen
    assert len(set(one.labels)) == 30
    assert one.labels == again.labels != other.labels
    np.testing.assert_array_equal(one.vectors, again.vectors)
    np.testing.assert_array_equal(one.vectors, town_encoder.encode_text(list(one.labels)))


def test_without_an_encoder_the_stored_texts_serve_and_say_that_they_were_fitted_on(bare):
    found = sample_queries(bare, 10)
    assert not found.unseen
    stored = bare.stored_texts()
    numbers = [int(label.removeprefix("stored text ")) for label in found.labels]
    np.testing.assert_array_equal(found.vectors, stored[np.array(numbers) - 1])


def test_of_many_given_queries_a_tenth_is_held_back_and_serves_first(tmp_path):
    given = WORLD.text_queries(400)
    with Collection.create(tmp_path / "c", dim=32, n_shards=3) as collection:
        collection.use_queries(given)
        write_synthetic(collection, WORLD, 900)
    with Collection.open(tmp_path / "c") as collection:
        collection.build(n_shards=4)
        held_back, fitted = collection.held_back_texts(), collection.stored_texts()
        assert (len(held_back), len(fitted)) == (40, 360)
        assert (held_back @ fitted.T).max() < 1 - 1e-4
        np.testing.assert_allclose((held_back @ given.T).max(axis=1), 1, atol=1e-5)
        found = sample_queries(collection, 50)
        assert found.unseen
        np.testing.assert_array_equal(found.vectors, held_back)
        assert not collection.check()


def test_images_are_stored_frames(bare):
    found = sample_queries(bare, 7, kind="image", seed=3)
    assert len(set(found.labels)) == len(found.vectors) == 7
    for vector in found.vectors:
        assert bare.search(vector, 1, exact=True).hits[0].score == pytest.approx(1, abs=2e-3)


def test_more_than_there_are_gives_all_there_are(bare):
    assert len(sample_queries(bare, 10_000).vectors) == len(bare.stored_texts())
    assert len(sample_queries(bare, 10_000, kind="image").vectors) == bare.n_frames


def test_where_there_is_nothing_to_ask_one_sentence_says_so(tmp_path):
    with Collection.create(tmp_path / "c", dim=32) as collection:
        with pytest.raises(EncoderError, match="names no encoder"):
            sample_queries(collection, 3)
        with pytest.raises(NotFound, match="holds no frames"):
            sample_queries(collection, 3, kind="image")
        with pytest.raises(ValueError, match="1 or more"):
            sample_queries(collection, 0)
