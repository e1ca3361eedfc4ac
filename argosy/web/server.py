"""A table of files goes in; an HTTP server comes out that hands them to a browser on this machine, and nothing else.

site = Site({**page_files(static), **artefact_files(directory, progress, target, schemes)})
with listen(site, port=0) as server:
    print(server.url)
    server.serve_forever()
"""

from __future__ import annotations

import errno
import socket
import socketserver
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from argosy.support.errors import ArgosyError, UsageError
from argosy.web.files import ARTEFACT, Served
from argosy.web.origins import host_allowed, is_loopback, origin_allowed
from argosy.web.ranges import Unsatisfiable, byte_range

IDLE_SECONDS = 60  # how long a connection may wait for its next request
STALLED_SECONDS = 600  # how long a browser may leave an answer unread, as it does while it compiles shaders
PORTS_TRIED = 20

# Code comes from this server only, as files; `wasm-unsafe-eval` allows to compile wasm and nothing else.
CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'self'", "script-src 'self' 'wasm-unsafe-eval'", "img-src 'self' data:", "object-src 'none'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
))  # fmt: skip
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next: fine clocks and shared memory for the page
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
ALLOWED_METHODS = "GET, HEAD, OPTIONS"


def _ignore(sentence: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Site:
    """URL path -> file. `report` is told what went wrong while a file was sent."""

    files: Mapping[str, Served]
    report: Callable[[str], None] = field(default=_ignore)


class WebServer(socketserver.ThreadingTCPServer):
    """A listening server, with a thread for each connection; made by `listen`."""

    allow_reuse_address = sys.platform != "win32"  # where it would let two servers have one port
    daemon_threads = True  # a download that is under way does not hold up the end
    block_on_close = False
    request_queue_size = 64

    def __init__(self, site: Site, host: str, family: socket.AddressFamily, address: tuple[str, int]) -> None:
        self.site = site
        self.host = host
        self.address_family = family
        super().__init__(address, _Handler)
        self.open_to_others = not is_loopback(self.server_address[0])
        self.names = {host.lower(), socket.gethostname().lower(), f"{socket.gethostname()}.local".lower()}

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away is no error; anything else is one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            self.site.report(f"a request failed: {type(error).__name__}: {error}")


def stable_port(directory: Path) -> int:
    """A port for an artefact, the same every time: what a browser has cached belongs to a host and a port."""
    return 20_000 + zlib.crc32(str(directory.resolve()).encode()) % 10_000


def listen(site: Site, host: str = "127.0.0.1", port: int | None = None, preferred: int = 0) -> WebServer:
    """A server of `site` that listens. `port` 0 is any free one, None the first free one from `preferred` on.

    Raises UsageError, with a sentence, where that port or that address cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host or "127.0.0.1", 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UsageError(f"`{host}` is not an address of this machine", "leave `--host` out") from None
    wanted = [port] if port is not None else [*range(preferred, preferred + PORTS_TRIED), 0] if preferred else [0]
    for number in wanted:
        try:
            return WebServer(site, host, family, (str(address[0]), number))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number == wanted[-1]:
                raise _refusal(host, number, error) from None
    raise AssertionError("the last port is either taken or refused")


def _refusal(host: str, port: int, error: OSError) -> UsageError:
    hint = "leave `--port` out, and a free one is taken"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"port {port} of `{host}` is taken by another program", hint)
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} is not open to you: those below 1024 belong to the system", hint)
    return UsageError(f"`{host}` is not an address of this machine", "leave `--host` out")


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    server: WebServer

    def do_GET(self) -> None:
        """A file, or the part of it that was asked for."""
        if self._has_body():
            self.close_connection = True  # or the body would be read as the next request
        if not self._host_is_ours():
            return
        file = self.server.site.files.get(self._path())
        if file is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such file")
        elif self._is_known(file):
            self._begin(HTTPStatus.NOT_MODIFIED, self._about(file))
        else:
            self._send(file)

    do_HEAD = do_GET

    def do_OPTIONS(self) -> None:
        """A page of this machine asks whether it may send a `Range`."""
        if self._has_body():
            self.close_connection = True
        if self._host_is_ours():
            self._begin(HTTPStatus.NO_CONTENT, {
                "Allow": ALLOWED_METHODS, "Access-Control-Allow-Methods": ALLOWED_METHODS,
                "Access-Control-Allow-Headers": "Range, If-None-Match, If-Range, Cache-Control",
            })  # fmt: skip

    def do_POST(self) -> None:
        """Nothing here takes data."""
        self.close_connection = True
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "this server only hands out files", {"Allow": ALLOWED_METHODS})

    do_PUT = do_PATCH = do_DELETE = do_POST

    def _path(self) -> str:
        """The decoded path of the request; it is only ever looked up in a table."""
        try:
            return unquote(urlsplit(self.path).path, errors="replace")
        except ValueError:  # `http://[/`
            return ""

    def _has_body(self) -> bool:
        return "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0").strip() != "0"

    def _host_is_ours(self) -> bool:
        """Whether the request was sent to a name of this server; where it was not, it is answered here."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            self._refuse(HTTPStatus.BAD_REQUEST, "the request must have one Host header")
            return False
        if not host_allowed(hosts[0].lower(), self.server.open_to_others, self.server.names):
            self._refuse(HTTPStatus.FORBIDDEN, "the Host header is not a name of this server")
            return False
        return True

    def _is_known(self, file: Served) -> bool:
        """Whether the browser has this very file (If-None-Match)."""
        tags = [tag.strip().removeprefix("W/") for tag in self.headers.get("If-None-Match", "").split(",")]
        return "*" in tags or file.etag in tags

    def _send(self, file: Served) -> None:
        wanted = self.headers.get("Range") if self.command == "GET" else None
        if self.headers.get("If-Range", file.etag).strip() != file.etag:
            wanted = None
        try:
            part = byte_range(wanted, file.bytes)
        except Unsatisfiable:
            sentence = f"the file has {file.bytes} bytes"
            self._refuse(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, sentence, {"Content-Range": f"bytes */{file.bytes}"}
            )
            return
        try:
            source = file.open()
        except ArgosyError as error:
            self.server.site.report(error.message)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the file was changed; start `argosy web` again")
            return
        first, count = part or (0, file.bytes)
        about = {**self._about(file), "Content-Type": file.media_type, "Content-Length": str(count)}
        if part:
            about["Content-Range"] = f"bytes {first}-{first + count - 1}/{file.bytes}"
        with source:
            self._begin(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK, about)
            if self.command == "GET" and count:
                self.connection.settimeout(STALLED_SECONDS)
                if self.connection.sendfile(source, first, count) != count:  # it was cut short under our hands
                    self.close_connection = True
                self.connection.settimeout(IDLE_SECONDS)

    @staticmethod
    def _about(file: Served) -> dict[str, str]:
        return {"ETag": file.etag, "Cache-Control": file.cache_control, "Accept-Ranges": "bytes"}

    def _begin(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        """The status line and all headers."""
        self.send_response(status)
        for name, value in {**HEADERS, **self._sharing(), **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _sharing(self) -> dict[str, str]:
        """Headers that let other pages of this machine read the artefact (CORS)."""
        headers = getattr(self, "headers", None)  # None: the request was too malformed to have any
        if headers is None or not self._path().startswith(ARTEFACT):
            return {}
        origin = headers.get("Origin", "")
        if not origin_allowed(origin):
            return {"Vary": "Origin"}
        exposed = "ETag, Content-Length, Content-Range, Accept-Ranges"
        return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": exposed}

    def _refuse(self, status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        body = f"{sentence}\n".encode()
        about = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        self._begin(status, {**about, "Cache-Control": "no-store", **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class says of a malformed request, in our form."""
        self.close_connection = True
        self.request_version = self.protocol_version  # or a version that cannot be read gets no status line
        status = HTTPStatus(code)
        self._refuse(status, status.phrase.lower())

    def version_string(self) -> str:
        """The `Server` header, without versions."""
        return "argosy"

    def log_message(self, format: str, *args: object) -> None:
        """No log: a person watches the page."""
