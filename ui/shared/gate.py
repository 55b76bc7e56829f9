"""Which requests the server of the app answers; checked before a request is read, but for videos that are sent to it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streamlit import config

from engine.system import MAX_VISITORS
from ui.shared import uploads

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_READING = ("GET", "HEAD", "OPTIONS")
"""Methods that are answered: a browser needs no others besides its web socket and the one path that files are sent to."""
_CLOSED = ("/_stcore/upload_file", "/_stcore/metrics", "/_stcore/agent")
"""Parts of Streamlit that no page uses: its uploads (which stay in memory), metrics (which are slow to count), and its interface for agents."""
BROWSER_COOKIE = "framesearch_browser"
"""Cookie with a random name for a browser, by which its comparisons are found again after a reload; it says nothing else."""
_BROWSER = re.compile("[0-9a-f]{32}")
_HERE = ("localhost", "127.0.0.1", "::1")
"""Names that a computer has for itself."""


class Gate:
    """An ASGI middleware that refuses some requests and passes on the others.

    A server that listens on localhost only is asked for by a name such as localhost. Another name means that a page of
    somebody else, open in the same browser, has made its own name point to this computer (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._visitors = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = _refused(scope)
            if refused is not None:
                await _answer(send, *refused)
            elif uploads.PATH in scope["path"]:
                await _answer(send, *await uploads.take(scope, receive))
            else:
                await self._app(scope, receive, _naming(scope, send))
        elif scope["type"] == "websocket":
            await self._visit(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _visit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._visitors >= MAX_VISITORS or not _expected(scope):
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        self._visitors += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._visitors -= 1


def browser_name(value: object) -> str:
    """The name in the cookie of a browser; empty for anything else."""
    return value if isinstance(value, str) and _BROWSER.fullmatch(value) else ""


def _naming(scope: Scope, send: Send) -> Send:
    """What sends an answer; a browser that has no name yet gets one with its first page."""
    if scope["path"].count(".") or scope["path"].startswith("/_stcore"):
        return send
    cookies: SimpleCookie = SimpleCookie()
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                cookies.load(value.decode("latin-1"))
            except CookieError:
                return send
    if BROWSER_COOKIE in cookies and browser_name(cookies[BROWSER_COOKIE].value):
        return send
    cookie = f"{BROWSER_COOKIE}={uuid.uuid4().hex}; Path=/; HttpOnly; SameSite=Strict"

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie.encode())]}
        await send(message)

    return named


def _refused(scope: Scope) -> tuple[int, str] | None:
    """Status and sentence for a request that is refused; None if it is served."""
    if not _expected(scope):
        return 421, "The app answers under the name localhost only."
    if any(part in scope["path"] for part in _CLOSED):
        return 404, "There is nothing here."
    if uploads.PATH in scope["path"]:
        return None if _same_origin(scope) else (403, "Files are taken from pages of this app only.")
    if scope["method"] not in _READING:
        return 405, "Nothing is taken here."
    return None


def _same_origin(scope: Scope) -> bool:
    """Whether a request comes from a page of this server, or from no page at all."""
    named = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"host", b"origin")}
    origin = named.get(b"origin")
    try:
        return origin is None or urlsplit(origin).netloc.lower() == named.get(b"host", "").lower()
    except ValueError:
        return False


def _expected(scope: Scope) -> bool:
    """Whether the request was meant for this server. A server that others can reach leaves this to Streamlit's options."""
    if config.get_option("server.address") not in _HERE or config.get_option("server.allowedHosts"):
        return True
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    named = {name: value.decode("latin-1") for name, value in headers if name in (b"host", b"origin")}
    origin = named.get(b"origin")
    return _host(f"//{named.get(b'host', '')}") in _HERE and (
        scope["type"] == "http" or origin is None or _host(origin) in _HERE
    )


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


async def _answer(send: Send, status: int, sentence: str) -> None:
    """Answer and close the connection, so that the rest of the request is never read."""
    body = sentence.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
