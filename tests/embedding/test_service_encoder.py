"""An embeddings service as an encoder, with one that runs here: what it is asked, what it may answer, and what is said when it does not."""

from __future__ import annotations

import time

import numpy as np
import pytest

from engine.embedding import Encoder, load_encoder
from engine.embedding.service_encoder import Service, ServiceLimits
from engine.errors import EncoderError
from testing.embedding_service import EmbeddingService


@pytest.fixture
def service():
    with EmbeddingService() as running:
        yield running


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Between tries there is no pause here."""
    monkeypatch.setattr("engine.embedding.service_encoder.sleep", pauses.append)
    pauses.clear()


pauses: list[float] = []


def load(service: EmbeddingService, options: str = "") -> Encoder:
    return load_encoder(f"{service.url}{options}")


def picture(*colour: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


RED, GREEN, BLUE = picture(250, 5, 5), picture(5, 250, 5), picture(5, 5, 250)


class TestVectors:
    def test_texts_and_images_are_unit_vectors_of_one_space(self, service):
        encoder = load(service, "#model=tiny")
        texts = encoder.encode_text(["a red bus", "blue sky", "a red bus"])
        assert (texts.shape, texts.dtype, encoder.dim) == ((3, 8), np.float32, 8)
        images = encoder.encode_images([BLUE, RED, GREEN])
        assert np.linalg.norm(np.concatenate([texts, images]), axis=1) == pytest.approx(1, abs=1e-6)
        assert (texts @ images.T).argmax(axis=1).tolist() == [1, 0, 1]
        assert encoder.encode_text([]).shape == encoder.encode_images([]).shape == (0, 8)
        assert all(body["model"] == "tiny" and body["encoding_format"] == "float" for body in service.bodies)

    def test_many_go_in_batches_and_the_same_text_is_asked_for_once(self, service):
        encoder = load(service, "#batch=4")
        texts = [f"{colour} {i}" for i in range(3) for colour in ("red", "green", "blue")]
        vectors = encoder.encode_text(texts)
        assert [len(body["input"]) for body in service.bodies] == [1, 4, 4, 1]
        assert np.array_equal(encoder.encode_text(texts[::-1]), vectors[::-1])
        assert len(service.bodies) == 4
        assert encoder.encode_images([RED] * 9).shape == (9, 8)
        assert [len(body["input"]) for body in service.bodies[4:]] == [4, 4, 1]

    @pytest.mark.parametrize("form", ["object", "data-url", "messages"])
    def test_pictures_go_out_in_the_form_that_the_service_takes(self, service, form):
        encoder = load(service, f"#images={form}")
        vectors = encoder.encode_images([RED, picture(5, 5, 250, size=(90, 3000))])
        assert vectors[:, :3].argmax(axis=1).tolist() == [0, 2]
        asked = service.bodies[-1]
        if form == "object":
            assert set(asked["input"][0]) == {"image"}
        elif form == "data-url":
            assert asked["modality"] == "image"
            assert asked["input"][0].startswith("data:image/jpeg;base64,")
        else:
            assert "input" not in asked
            assert len(service.bodies) == 3

    def test_a_service_of_texts_only_says_so(self, service):
        with pytest.raises(EncoderError, match=r"reads texts only; frames need a service that reads images"):
            load(service, "#images=none").encode_images([RED])

    def test_the_number_of_dimensions_is_asked_for_and_checked(self, service):
        assert load(service, "#dimensions=8").dim == 8
        assert service.bodies[-1]["dimensions"] == 8
        with pytest.raises(EncoderError, match=r"gave vectors of 8 numbers, not of 1,536\.$"):
            load(service, "#dim=1536")
        assert "dimensions" not in service.bodies[-1]

    @pytest.mark.parametrize("fault", ["reversed", "no index"])
    def test_vectors_come_in_any_order_if_they_say_which(self, service, fault):
        encoder = load(service)
        service.faults = [fault]
        assert encoder.encode_text(["red", "green", "blue"])[:, :3].argmax(axis=1).tolist() == [0, 1, 2]


class TestFaults:
    @pytest.mark.parametrize("fault", ["429", "500", "502", "503", "504", "hangs up", "is cut off"])
    def test_what_may_pass_is_tried_again_with_growing_pauses(self, service, fault):
        encoder = load(service)
        service.faults = [fault, fault]
        assert encoder.encode_text(["red"]).argmax() == 0
        assert pauses == [0.25, 0.5]

    def test_a_service_may_say_how_long_to_wait_but_not_for_longer_than_there_is_time(self, service):
        encoder = load(service, "#timeout=30")
        service.faults = ["429 7", "503 Wed, 21 Oct 2026 07:28:00 GMT", "429 31"]
        with pytest.raises(EncoderError, match=r"takes no more requests for now \(429\)"):
            encoder.encode_text(["red"])
        assert pauses == [7.0, 0.5]

    @pytest.mark.parametrize(
        ("fault", "tries", "sentence"),
        [
            ("429*", 5, "takes no more requests for now (429); try later, or a smaller batch."),
            ("500*", 5, "answers with an error (500: said [2J no 500)."),
            ("hangs up*", 5, "cannot be reached (Remote end closed connection without response); check the address"),
            ("is cut off*", 5, "cannot be reached (the answer was cut off)"),
            ("400*", 1, "answers with an error (400: said [2J no 400)."),
            ("401*", 1, "wants an API key (401); put it in an environment variable, and add #key="),
            ("404*", 1, "is not at this address (404); check the address and the model."),
            ("413*", 1, "takes no requests of this size (413); add #batch= with fewer."),
            ("302*", 1, "sends on to another address, which is not followed; name the right one."),
            ("307*", 1, "sends on to another address, which is not followed"),
            ("floods*", 1, "answers with more than 100,000 bytes, which are not read"),
            ("no JSON*", 1, "gives an answer which is not JSON; check that it is an embeddings service."),
            ("deep*", 1, "gives an answer which is not JSON"),
            ("a list*", 1, "gives an answer which has no list data"),
            ("no list*", 1, "gives an answer which has no list data"),
            ("one too few*", 1, "gives an answer which has 1 vectors for 2 inputs"),
            ("an index twice*", 1, "gives an answer whose vectors are not numbered 0 to 1"),
            ("another length*", 1, "gave vectors of 9 numbers, not of 8."),
            ("not a number*", 1, "gave a vector that is all zeros or not finite."),
            ("infinite*", 1, "gave a vector that is all zeros or not finite."),
            ("zeros*", 1, "gave a vector that is all zeros or not finite."),
            ("texts*", 1, "where an embedding is no list of numbers"),
            ("truths*", 1, "where an embedding is no list of numbers"),
            ("nested*", 1, "where an embedding is no list of numbers"),
            ("no vector*", 1, "where an embedding is no list of numbers"),
            ("too large*", 1, "where a number is too large"),
        ],
    )
    def test_each_is_one_sentence(self, service, fault, tries, sentence):
        service.faults = [fault]
        limits = ServiceLimits(timeout=30, answer_nbytes=100_000)
        asked = Service(service.url, service.url, None, {}, limits)
        with pytest.raises(EncoderError) as told:
            asked.ask({"input": ["red", "green"]}, 2, 8)
        assert sentence in str(told.value)
        assert str(told.value).startswith(f"The encoder '{service.url.removesuffix('v1/embeddings')}.../embeddings' ")
        assert str(told.value).endswith(".")
        assert "\n" not in str(told.value)
        assert "\x1b" not in str(told.value)
        assert len(service.bodies) == tries

    @pytest.mark.parametrize("fault", ["silent", "drips"])
    def test_a_service_that_is_too_slow_is_left(self, service, fault):
        encoder = load(service, "#timeout=1")
        service.faults = [fault]
        started = time.monotonic()
        with pytest.raises(EncoderError, match=r"gave no answer in 1 s; add #timeout="):
            encoder.encode_text(["red"])
        assert time.monotonic() - started < 3

    def test_a_service_that_is_down_is_told_when_it_is_loaded(self, service):
        with EmbeddingService() as gone:
            pass
        with pytest.raises(
            EncoderError, match=r"cannot be reached \(Connection refused\); check the address, and that it runs\.$"
        ):
            load(gone)
        with pytest.raises(EncoderError, match="cannot be reached"):
            load_encoder("http://no-such-host.invalid/v1/embeddings")


class TestKeys:
    NAME = "TEST_EMBEDDINGS_API_KEY"

    def test_it_comes_from_the_environment(self, monkeypatch):
        monkeypatch.setenv(self.NAME, "secret-1")
        with EmbeddingService(key="secret-1") as service:
            assert load(service, f"#key={self.NAME}").dim == 8
            monkeypatch.setenv(self.NAME, "secret-2")
            with pytest.raises(
                EncoderError, match=rf"refuses the API key in the environment variable {self.NAME} \(401\)"
            ) as told:
                load(service, f"#key={self.NAME}")
        assert "secret" not in str(told.value)

    def test_without_one_nothing_is_asked(self, service, monkeypatch):
        monkeypatch.delenv(self.NAME, raising=False)
        with pytest.raises(
            EncoderError, match=rf"needs an API key in the environment variable {self.NAME}, which is not set"
        ):
            load(service, f"#key={self.NAME}")
        monkeypatch.setenv(self.NAME, "two\r\nlines: x")
        with pytest.raises(EncoderError, match="holds characters that no key has"):
            load(service, f"#key={self.NAME}")
        assert service.bodies == []


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("http://", "is no address of a service; write it whole, such as http://localhost:8000/v1/embeddings."),
        ("http://host", "is no address of a service; write it whole"),
        ("http://host:port/v1/embeddings", "is no address of a service."),
        ("http://[::1/v1/embeddings", "is no address of a service."),
        ("http://host/v1 embeddings", "is no address of a service"),
        ("https://me:pass@host/v1/embeddings", "holds a password, which would be stored"),
        ("http://host/v1/embeddings#model", "after the #, 'model' is given twice or is no key=value."),
        ("http://host/v1/embeddings#dim=8&dim=9", "'dim=9' is given twice"),
        ("http://host/v1/embeddings#colour=red", "'colour' is not known; known are batch, dim, dimensions, images, key, model, timeout."),
        ("http://host/v1/embeddings#dim=many", "dim must be a whole number from 1 to "),
        ("http://host/v1/embeddings#timeout=0", "timeout must be a whole number from 1 to 3,600."),
        ("http://host/v1/embeddings#images=png", "images must be one of object, data-url, messages, none."),
        ("http://host/v1/embeddings#key=sk-123", "key must be the name of an environment variable that ends in API_KEY, not the key itself."),
        ("http://host/v1/embeddings#key=HOME", "key must be the name of an environment variable that ends in API_KEY"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_told_in_one_sentence(spec, sentence):
    with pytest.raises(EncoderError) as told:
        load_encoder(spec)
    assert sentence in str(told.value)
    assert "pass@" not in str(told.value)
