"""An embeddings service to test against: a real HTTP server in a thread, in the form of OpenAI's `/v1/embeddings`, with faults on demand.

It knows three colours. A text is embedded by the words for them, a picture by its mean colour, so that texts find pictures.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue")


class EmbeddingService:
    """As a context it runs; `url` is its address."""

    def __init__(self, dim: int = 8, key: str = "") -> None:
        """Make vectors of so many numbers, 4 or more; with a key, answer nobody without it."""
        self.dim, self.key = dim, key
        self.bodies: list[dict[str, Any]] = []
        """What was asked, in order, whatever was answered."""
        self.faults: list[str] = []
        """What goes wrong with the next requests, one each; the last for all that follow if it ends in `*`."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                service.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                fault = service.next_fault()
                if not fault and service.key and self.headers["Authorization"] != f"Bearer {service.key}":
                    fault = "401"
                if fault in _ACTS:
                    _ACTS[fault](self)
                elif fault[:3].isdigit():
                    self.refuse(*fault.split())
                else:
                    self.answer(json.dumps(service.answer(service.bodies[-1], fault)).encode())

            def answer(self, content: bytes, length: int | None = None) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content) if length is None else length))
                self.end_headers()
                self.wfile.write(content)

            def refuse(self, code: str, wait: str = "") -> None:
                content = json.dumps({"error": {"message": f"said\x1b[2J\nno {code}"}}).encode()
                self.send_response(int(code))
                if wait:
                    self.send_header("Retry-After", wait)
                if code.startswith("3"):
                    self.send_header("Location", f"{service.url}/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def handle(self) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):  # Whoever asked does not wait any longer.
                    super().handle()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/embeddings"

    def __enter__(self) -> EmbeddingService:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_fault(self) -> str:
        if not self.faults:
            return ""
        fault = self.faults[0]
        if not fault.endswith("*"):
            self.faults.pop(0)
        return fault.removesuffix("*")

    def answer(self, body: dict[str, Any], fault: str) -> Any:
        vectors: list[Any] = [self._vector(item) for item in _inputs(body)]
        rows = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        if fault == "reversed":
            rows.reverse()
        elif fault == "no index":
            rows = [{"embedding": row["embedding"]} for row in rows]
        elif fault == "one too few":
            rows.pop()
        elif fault == "an index twice":
            rows[-1]["index"] = 0
        elif fault == "another length":
            rows = [row | {"embedding": [*row["embedding"], 1.0]} for row in rows]
        elif fault in _VALUES:
            rows[-1]["embedding"] = _VALUES[fault](rows[-1]["embedding"])
        elif fault == "no list":
            return {"data": None}
        elif fault == "a list":
            return vectors
        return {"object": "list", "model": body.get("model"), "data": rows}

    def _vector(self, item: str) -> list[float]:
        if item.startswith("data:image/jpeg;base64,"):
            picture = Image.open(io.BytesIO(base64.b64decode(item.partition(",")[2], validate=True)))
            shares = np.asarray(picture.convert("RGB"), np.float64).mean(axis=(0, 1)) / 255
        else:
            shares = np.array([colour in re.findall(r"\w+", item.lower()) for colour in COLOURS], np.float64)
        spread = np.random.default_rng(list(item.encode()[:200])).normal(scale=0.01, size=self.dim - 3)
        return [*shares.tolist(), *(spread + 0.05).tolist()]


def _inputs(body: dict[str, Any]) -> list[str]:
    """Texts and data URLs, in whichever of the three forms they were sent."""
    if "messages" in body:
        (message,) = body["messages"]
        return [part["image_url"]["url"] for part in message["content"]]
    return [f"data:image/jpeg;base64,{item['image']}" if isinstance(item, dict) else item for item in body["input"]]


_VALUES: dict[str, Any] = {
    "not a number": lambda row: [float("nan"), *row[1:]],
    "infinite": lambda row: [float("inf"), *row[1:]],
    "zeros": lambda row: [0.0] * len(row),
    "texts": lambda row: [str(value) for value in row],
    "truths": lambda row: [True] * len(row),
    "too large": lambda row: [10**400, *row[1:]],
    "nested": lambda row: [row],
    "no vector": lambda row: None,
}


def _drip(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def _flood(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * (1 << 20))


_ACTS: dict[str, Any] = {
    "silent": lambda handler: time.sleep(5),
    "drips": _drip,
    "floods": _flood,
    "hangs up": lambda handler: None,
    "is cut off": lambda handler: handler.answer(b'{"data": [', 1000),
    "no JSON": lambda handler: handler.answer(b"<html>welcome</html>"),
    "deep": lambda handler: handler.answer(b"[" * 90_000),
}
