"""Serve a table of files over HTTP to a browser on this machine, and nothing else.

site = Site({**page_files(static), **artefact_files(directory, progress, target, schemes)})
with listen(site, port=0) as server:
    print(server.url)
    server.serve_forever()
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from argosy.support.errors import ArgosyError
from argosy.web.files import ARTEFACT, Served
from argosy.web.hosting import HttpServer, Place, bind
from argosy.web.origins import host_allowed, origin_allowed
from argosy.web.protocol import MAX_HEADERS
from argosy.web.ranges import Unsatisfiable, byte_range

CHUNK_BYTES = 256 << 10

# Allow code from this server's files only; `wasm-unsafe-eval` allows compiling wasm and nothing else.
CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'self'", "script-src 'self' 'wasm-unsafe-eval'", "img-src 'self' data:", "object-src 'none'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
))  # fmt: skip
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next: gives the page precise clocks and shared memory
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
READING = ("GET", "HEAD", "OPTIONS")
WRITING = ("POST", "PUT", "PATCH", "DELETE")
# What no browser sends to us: nothing else is read from such a connection.
SUSPICIOUS = (
    HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
)  # fmt: skip
ALLOWED_METHODS = ", ".join(READING)


def _ignore(sentence: str) -> None:
    """Discard a report."""


@dataclass(frozen=True, slots=True)
class Site:
    """The files to serve by URL path, and a `report` of what goes wrong while one is sent."""

    files: Mapping[str, Served]
    report: Callable[[str], None] = field(default=_ignore)


def stable_port(directory: Path) -> int:
    """Return a port for an artefact, always the same, because browsers cache by host and port."""
    return 20_000 + zlib.crc32(str(directory.resolve()).encode()) % 10_000


def listen(site: Site, host: str = "127.0.0.1", port: int | None = None, preferred: int = 0) -> HttpServer:
    """Serve `site` on a port: 0 is any free one, None the first free one from `preferred` on.

    Raises UsageError if the port or the address is not available.
    """
    place = bind(host, port, preferred)
    return HttpServer(place, _Application(site, place), HEADERS)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What to send: a `body`, or `count` bytes of `source` from its byte `first` on."""

    status: HTTPStatus
    headers: Mapping[str, str]
    body: bytes = b""
    source: BinaryIO | None = None
    first: int = 0
    count: int = 0


class _Cut(Exception):
    """A file that was truncated while it was sent: the connection ends, so that the browser notices."""


class _Application:
    """The ASGI application."""

    def __init__(self, site: Site, place: Place) -> None:
        self.site = site
        self.open_to_others, self.names = place.open_to_others, place.names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        path = _path(scope)
        try:
            answer = await asyncio.to_thread(self._answer, scope, headers, path)
            about = {**_sharing(headers, path), **answer.headers}
            if _ends_connection(scope, headers, answer):
                about["Connection"] = "close"
            await send({
                "type": "http.response.start", "status": int(answer.status),
                "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in about.items()],
            })  # fmt: skip
            if answer.source is None:
                await send({"type": "http.response.body", "body": answer.body})
            else:
                with answer.source as source:
                    await _send_file(source, answer, receive, send)
        except _Cut:
            pass  # an answer without an end closes the connection
        except Exception as error:
            self.site.report(f"a request failed: {type(error).__name__}: {error}")

    def _answer(self, scope: Scope, headers: Headers, path: str) -> _Answer:
        method = scope["method"]
        if scope["http_version"] not in ("1.0", "1.1"):
            return _refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "http version not supported")
        if len(scope["headers"]) > MAX_HEADERS:
            return _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request header fields too large")
        if method in WRITING:
            sentence = "this server only hands out files"
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, sentence, {"Allow": ALLOWED_METHODS})
        if method not in READING:
            return _refusal(HTTPStatus.NOT_IMPLEMENTED, "not implemented")
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            return _refusal(HTTPStatus.BAD_REQUEST, "the request must have one Host header")
        if not host_allowed(hosts[0].lower(), self.open_to_others, self.names):
            return _refusal(HTTPStatus.FORBIDDEN, "the Host header is not a name of this server")
        if method == "OPTIONS":  # of a page on this machine that wants to send a `Range`
            return _Answer(HTTPStatus.NO_CONTENT, {
                "Allow": ALLOWED_METHODS, "Access-Control-Allow-Methods": ALLOWED_METHODS,
                "Access-Control-Allow-Headers": "Range, If-None-Match, If-Range, Cache-Control",
            })  # fmt: skip
        file = self.site.files.get(path)
        if file is None:
            return _refusal(HTTPStatus.NOT_FOUND, "there is no such file")
        if _is_known(file, headers):
            return _Answer(HTTPStatus.NOT_MODIFIED, _about(file))
        return self._file(file, method, headers)

    def _file(self, file: Served, method: str, headers: Headers) -> _Answer:
        """Return the file, or the requested part of it."""
        wanted = headers.get("range") if method == "GET" else None
        if headers.get("if-range", file.etag).strip() != file.etag:
            wanted = None
        try:
            part = byte_range(wanted, file.bytes)
        except Unsatisfiable:
            sentence, about = f"the file has {file.bytes} bytes", {"Content-Range": f"bytes */{file.bytes}"}
            return _refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, sentence, about)
        try:
            source = file.open()
        except ArgosyError as error:
            self.site.report(error.message)
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the file was changed; start `argosy web` again")
        first, count = part or (0, file.bytes)
        about = {**_about(file), "Content-Type": file.media_type, "Content-Length": str(count)}
        if part:
            about["Content-Range"] = f"bytes {first}-{first + count - 1}/{file.bytes}"
        if method == "HEAD" or count == 0:
            source.close()
            return _Answer(HTTPStatus.OK, about)
        status = HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK
        return _Answer(status, about, source=source, first=first, count=count)


async def _send_file(source: BinaryIO, answer: _Answer, receive: Receive, send: Send) -> None:
    """Send a part of a file, until the browser goes away. Raises _Cut if the file has become shorter."""

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(until_gone())
    try:
        source.seek(answer.first)
        left = answer.count
        while left and not gone.done():
            chunk = await asyncio.to_thread(source.read, min(left, CHUNK_BYTES))
            if not chunk:
                raise _Cut
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
    finally:
        gone.cancel()


def _path(scope: Scope) -> str:
    """Return the decoded path of the request, which is only looked up in the table."""
    try:
        return unquote(urlsplit(scope["raw_path"].decode("latin-1")).path, errors="replace")
    except ValueError:  # `http://[/`
        return ""


def _ends_connection(scope: Scope, headers: Headers, answer: _Answer) -> bool:
    """Return whether to close the connection: after a request with a body, which is not read, or a malformed one."""
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    return has_body or scope["method"] not in READING or answer.status in SUSPICIOUS


def _is_known(file: Served, headers: Headers) -> bool:
    """Return whether the browser has this file already (If-None-Match)."""
    tags = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
    return "*" in tags or file.etag in tags


def _about(file: Served) -> dict[str, str]:
    return {"ETag": file.etag, "Cache-Control": file.cache_control, "Accept-Ranges": "bytes"}


def _sharing(headers: Headers, path: str) -> dict[str, str]:
    """Return the headers that let other pages of this machine read the artefact (CORS)."""
    if not path.startswith(ARTEFACT):
        return {}
    origin = headers.get("origin", "")
    if not origin_allowed(origin):
        return {"Vary": "Origin"}
    exposed = "ETag, Content-Length, Content-Range, Accept-Ranges"
    return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": exposed}


def _refusal(status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> _Answer:
    body = f"{sentence}\n".encode()
    about = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), "Cache-Control": "no-store"}
    return _Answer(status, {**about, **(headers or {})}, body)
