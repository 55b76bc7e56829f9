"""An embeddings service as an encoder: `https://host/v1/embeddings#model=M`, in the form of OpenAI's `/v1/embeddings`.

After `#` may stand, with `&` between them:
`model=` as the service calls it; `key=` the environment variable with its API key, whose name ends in API_KEY;
`dim=` numbers of a vector, checked; `dimensions=` numbers of a vector that the service is asked for;
`images=` how it takes pictures, see `IMAGE_FORMS`; `batch=` texts or pictures of a request; `timeout=` seconds for a request.

A request is tried again for 429, 5xx and a broken connection, after a pause that doubles or that the service asks for, as long as all tries
together stay within `timeout`. Redirections are not followed. An answer is bounded, and checked: how many vectors, for which inputs, of
how many finite numbers. Pictures go out as JPEG of at most 1,024 pixels a side.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from time import monotonic, sleep
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.embedding.answers import TextMemory, checked_rows, shortened
from engine.embedding.model_files import model_shortage, quoted_encoder
from engine.embedding.spec_options import SpecOptions
from engine.errors import EncoderError
from engine.system import EncoderName, bounds

_KNOWN = ("batch", "dim", "dimensions", "images", "key", "model", "timeout")
_TEXT_BATCH = 64
_IMAGE_BATCH = 8
_TIMEOUT = 60
_KEY_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_SIDE = 1024
"""Pixels of the longer side of a picture that is sent."""
_LOCAL = ("localhost", "127.0.0.1", "::1")
_BUSY = (408, 425, 429, 500, 502, 503, 504, 529)
"""Answers after which trying again may help."""
_CHUNK = 1 << 16


def _as_object(urls: Sequence[str]) -> dict[str, Any]:
    return {"input": [{"image": url.partition(",")[2]} for url in urls]}


def _as_data_url(urls: Sequence[str]) -> dict[str, Any]:
    return {"input": list(urls), "modality": "image"}


def _as_messages(urls: Sequence[str]) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"messages": [{"role": "user", "content": content}]}


IMAGE_FORMS: dict[str, Callable[[Sequence[str]], dict[str, Any]] | None] = {
    "object": _as_object,
    "data-url": _as_data_url,
    "messages": _as_messages,
    "none": None,
}
"""How services take pictures: `object` is `input: [{"image": base64}]` (Jina), `data-url` is `input: ["data:image/jpeg;base64,..."]` with
`modality: "image"` (Infinity), `messages` is one chat message a picture (vLLM); `none` for a service of texts only."""


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """How long a service is waited for, and how much it may answer."""

    timeout: float = _TIMEOUT
    """Seconds for a request, with everything that is tried again."""
    first_pause: float = 0.25
    """Seconds before the second try; each further pause is twice as long."""
    tries: int = 5
    answer_nbytes: int = 64_000_000


def load_service(name: str, parsed: EncoderName) -> ServiceEncoder:
    """Ask a service for a first vector; `load_encoder` says what is raised."""
    options = SpecOptions(name, parsed, _KNOWN)
    form = options.one_of("images", tuple(IMAGE_FORMS), "object")
    timeout = options.number("timeout", 1, 3600, _TIMEOUT) or _TIMEOUT
    dimensions = options.number("dimensions", 1, bounds.MAX_DIM)
    dim = options.number("dim", 1, bounds.MAX_DIM, dimensions)
    batch = options.number("batch", 1, 2048)
    key = options.text("key")
    if key is not None and not (_KEY_NAME.fullmatch(key) and key.endswith("API_KEY")):
        raise options.wrong("key must be the name of an environment variable that ends in API_KEY, not the key itself")
    fields: dict[str, Any] = {"encoding_format": "float"}
    if options.text("model"):
        fields["model"] = options.text("model")
    if dimensions is not None:
        fields["dimensions"] = dimensions
    service = Service(name, _address(name, parsed.target), key, fields, ServiceLimits(timeout=timeout))
    return ServiceEncoder(name, service, dim, form, batch)


def _address(name: str, address: str) -> str:
    try:
        parts: SplitResult = urlsplit(address)
        parts.port  # noqa: B018  # It raises for what is no number.
    except ValueError as error:
        raise EncoderError(f"The encoder {quoted_encoder(name)} is no address of a service.") from error
    if not parts.hostname or not parts.path.strip("/") or not address.isascii() or re.search(r"[\s\x00-\x20]", address):
        raise EncoderError(
            f"The encoder {quoted_encoder(name)} is no address of a service; write it whole, such as http://localhost:8000/v1/embeddings."
        )
    if parts.username is not None or parts.password is not None:
        raise EncoderError(
            f"The encoder {quoted_encoder(name)} holds a password, which would be stored; put it in an environment variable and name that "
            "with #key=."
        )
    return address


class Service:
    """Sends requests to one service, and reads its answers."""

    def __init__(
        self, name: str, address: str, key: str | None, fields: dict[str, Any], limits: ServiceLimits | None = None
    ) -> None:
        """Take the encoder's name, the address, the environment variable with the key, and what every request says."""
        self.limits = limits or ServiceLimits()
        self._who = quoted_encoder(name)
        self._name, self._address, self._key, self._fields = name, address, key, fields
        local = urlsplit(address).hostname in _LOCAL
        self._opener = build_opener(_NoRedirection, *([ProxyHandler({})] if local else []))

    def ask(self, fields: dict[str, Any], n: int, dim: int | None) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm, for the n inputs of a request.

        Raises
        ------
        EncoderError
            If there is no usable answer in time.
        """
        body = json.dumps(self._fields | fields).encode()
        return checked_rows(self._name, self._vectors(self._answer(body), n), n, dim)

    def _answer(self, body: bytes) -> bytes:
        """The body of the first answer that is one, tried again while that may help and there is time."""
        end = monotonic() + self.limits.timeout
        headers = self._headers()
        pause = self.limits.first_pause
        for left in range(self.limits.tries - 1, -1, -1):
            asked = 0.0
            try:
                return self._once(Request(self._address, body, headers, method="POST"), end)
            except HTTPError as error:
                with error:
                    refusal = self._refusal(error, end)
                    asked = _retry_after(error)
                if error.code not in _BUSY:
                    raise refusal from error
                problem: EncoderError = refusal
            except TimeoutError as error:
                raise self._too_slow() from error
            except (URLError, HTTPException, OSError) as error:
                reason = error.reason if isinstance(error, URLError) else error
                if isinstance(reason, TimeoutError):
                    raise self._too_slow() from error
                short = model_shortage(f"asking the encoder {self._who}", error)
                if short is not None:
                    raise short from error
                said = shortened(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)
                problem = EncoderError(
                    f"The encoder {self._who} cannot be reached ({said}); check the address, and that it runs."
                )
            wait = max(pause, asked)
            if not left or monotonic() + wait >= end:
                raise problem
            sleep(wait)
            pause *= 2
        raise AssertionError  # The last try returned or raised.

    def _once(self, request: Request, end: float) -> bytes:
        remaining = end - monotonic()
        if remaining <= 0:
            raise TimeoutError
        with self._opener.open(request, timeout=remaining) as response:
            return self._read(response, end)

    def _read(self, response: Any, end: float) -> bytes:
        """A whole body; a service that sends a little now and then is too slow as well."""
        content = bytearray()
        while chunk := response.read1(_CHUNK):
            content += chunk
            if len(content) > self.limits.answer_nbytes:
                raise EncoderError(
                    f"The encoder {self._who} answers with more than {self.limits.answer_nbytes:,} bytes, which are not read; "
                    "check that it is an embeddings service."
                )
            if monotonic() > end:
                raise TimeoutError
        if getattr(response, "length", None):
            raise OSError("the answer was cut off")
        return bytes(content)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "framesearch"}
        if self._key is not None:
            key = os.environ.get(self._key, "").strip()
            if not key:
                raise EncoderError(
                    f"The encoder {self._who} needs an API key in the environment variable {self._key}, which is not set."
                )
            if not key.isascii() or not key.isprintable():
                raise EncoderError(
                    f"The API key in the environment variable {self._key} holds characters that no key has."
                )
            headers["Authorization"] = f"Bearer {key}"
        return headers

    def _refusal(self, error: HTTPError, end: float) -> EncoderError:
        if 300 <= error.code < 400:
            return EncoderError(
                f"The encoder {self._who} sends on to another address, which is not followed; name the right one."
            )
        if error.code in (401, 403):
            if self._key is None:
                return EncoderError(
                    f"The encoder {self._who} wants an API key ({error.code}); put it in an environment variable, and add #key= and that "
                    "variable's name."
                )
            return EncoderError(
                f"The encoder {self._who} refuses the API key in the environment variable {self._key} ({error.code})."
            )
        if error.code == 404:
            return EncoderError(
                f"The encoder {self._who} is not at this address (404); check the address and the model."
            )
        if error.code == 413:
            return EncoderError(
                f"The encoder {self._who} takes no requests of this size (413); add #batch= with fewer."
            )
        if error.code == 429:
            return EncoderError(
                f"The encoder {self._who} takes no more requests for now (429); try later, or a smaller batch."
            )
        said = self._message(error, end)
        return EncoderError(f"The encoder {self._who} answers with an error ({error.code}{said}).")

    def _message(self, error: HTTPError, end: float) -> str:
        """What a service says about an error, as `: text`; empty if it says nothing readable."""
        try:
            told: Any = json.loads(self._read(error, end))
            for key in ("error", "detail", "message"):
                if isinstance(told, dict) and key in told:
                    told = told[key]
            text = told if isinstance(told, str) else ""
        except (ValueError, RecursionError, EncoderError, HTTPException, OSError):
            return ""
        text = "".join(c if c.isprintable() else " " for c in text)
        return f": {shortened(text)}" if text.strip() else ""

    def _too_slow(self) -> EncoderError:
        return EncoderError(
            f"The encoder {self._who} gave no answer in {self.limits.timeout:g} s; add #timeout= with more seconds, or a smaller batch=."
        )

    def _vectors(self, answer: bytes, n: int) -> list[Any]:
        """The vectors of an answer, in the order of the inputs."""
        try:
            told = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise self._other("which is not JSON") from error
        items = told.get("data") if isinstance(told, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise self._other("which has no list data")
        if len(items) != n:
            raise self._other(f"which has {len(items):,} vectors for {n:,} inputs")
        places = [item.get("index", place) for place, item in enumerate(items)]
        if any(type(place) is not int for place in places) or sorted(places) != list(range(n)):
            raise self._other(f"whose vectors are not numbered 0 to {n - 1}")
        vectors: list[Any] = [None] * n
        for place, item in zip(places, items, strict=True):
            vector = item.get("embedding")
            if not isinstance(vector, list) or not all(type(value) in (float, int) for value in vector):
                raise self._other("where an embedding is no list of numbers")
            try:
                vectors[place] = [float(value) for value in vector]
            except OverflowError as error:
                raise self._other("where a number is too large") from error
        return vectors

    def _other(self, what: str) -> EncoderError:
        return EncoderError(f"The encoder {self._who} gives an answer {what}; check that it is an embeddings service.")


class _NoRedirection(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None  # The answer then is an `HTTPError` with this code.


def _retry_after(error: HTTPError) -> float:
    """Seconds that a service asks to wait; 0 if it does not, or names a date."""
    given = error.headers.get("Retry-After", "") if error.headers else ""
    try:
        seconds = float(given)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < 1e6 else 0.0


class ServiceEncoder:
    """A service that embeds texts and pictures; use `load_encoder`. Safe to use from several threads at once."""

    def __init__(self, name: str, service: Service, dim: int | None, form: str, batch: int | None = None) -> None:
        """Ask for one vector: it tells whether the service is there, and how long its vectors are if `dim` does not."""
        self.name = name
        self._service, self._form = service, form
        self._text_batch = batch or _TEXT_BATCH
        self._image_batch = 1 if form == "messages" else batch or _IMAGE_BATCH
        self._texts = TextMemory()
        self._known_dim = dim
        self.dim: int = self._encode_batch(["a photo"]).shape[1]
        self._known_dim = self.dim

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm. The last thousand texts are remembered.

        Raises
        ------
        EncoderError
            If the service does not answer in time, refuses, or gives something else than that many vectors.
        """
        rows = self._texts.rows(texts, self._encode_batch, self._text_batch)
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, dim) float32, unit norm, of (height, width, 3) uint8 RGB images of any sizes; raises as `encode_text`."""
        form = IMAGE_FORMS[self._form]
        if form is None:
            raise EncoderError(
                f"The encoder {quoted_encoder(self.name)} reads texts only; frames need a service that reads images as well."
            )
        rows = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(images), self._image_batch):
            urls = [_data_url(image) for image in images[start : start + self._image_batch]]
            rows.append(self._service.ask(form(urls), len(urls), self.dim))
        return np.concatenate(rows)

    def _encode_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._service.ask({"input": list(texts)}, len(texts), self._known_dim)


def _data_url(image: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
