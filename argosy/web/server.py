"""Serve a table of files over HTTP to a browser on this machine, and nothing else.

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

IDLE_SECONDS = 60  # longest wait for the next request of a connection
STALLED_SECONDS = 600  # longest wait for a browser that does not read, as while it compiles shaders
PORTS_TRIED = 20

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
ALLOWED_METHODS = "GET, HEAD, OPTIONS"


def _ignore(sentence: str) -> None:
    """Discard a report."""


@dataclass(frozen=True, slots=True)
class Site:
    """The files to serve by URL path, and a `report` of what goes wrong while one is sent."""

    files: Mapping[str, Served]
    report: Callable[[str], None] = field(default=_ignore)


class WebServer(socketserver.ThreadingTCPServer):
    """A listening server with a thread for each connection, made by `listen`."""

    allow_reuse_address = sys.platform != "win32"  # which would let two servers share a port
    daemon_threads = True  # a running download does not delay the exit
    block_on_close = False
    request_queue_size = 64

    def __init__(self, site: Site, host: str, family: socket.AddressFamily, address: tuple[str, int]) -> None:
        self.site = site
        self.host = host
        self.address_family = family
        super().__init__(address, _Handler)
        self.open_to_others = not is_loopback(str(self.server_address[0]))
        self.names = {host.lower(), socket.gethostname().lower(), f"{socket.gethostname()}.local".lower()}

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page for a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Report an error in one line, unless the browser has closed the connection."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            self.site.report(f"a request failed: {type(error).__name__}: {error}")


def stable_port(directory: Path) -> int:
    """Return a port for an artefact, always the same, because browsers cache by host and port."""
    return 20_000 + zlib.crc32(str(directory.resolve()).encode()) % 10_000


def listen(site: Site, host: str = "127.0.0.1", port: int | None = None, preferred: int = 0) -> WebServer:
    """Serve `site` on a port: 0 is any free one, None the first free one from `preferred` on.

    Raises UsageError if the port or the address is not available.
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
    hint = "leave `--port` out to use a free one"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"port {port} of `{host}` is taken by another program", hint)
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} is not open to you: those below 1024 belong to the system", hint)
    return UsageError(f"`{host}` is not an address of this machine", "leave `--host` out")


class _Handler(BaseHTTPRequestHandler):
    """The handler of one connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    server: WebServer

    def do_GET(self) -> None:
        """Send a file, or the requested part of it."""
        if self._has_body():
            self.close_connection = True  # else the body would be read as the next request
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
        """Answer the preflight request of a page on this machine that wants to send a `Range`."""
        if self._has_body():
            self.close_connection = True
        if self._host_is_ours():
            self._begin(HTTPStatus.NO_CONTENT, {
                "Allow": ALLOWED_METHODS, "Access-Control-Allow-Methods": ALLOWED_METHODS,
                "Access-Control-Allow-Headers": "Range, If-None-Match, If-Range, Cache-Control",
            })  # fmt: skip

    def do_POST(self) -> None:
        """Refuse any request that sends data."""
        self.close_connection = True
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "this server only hands out files", {"Allow": ALLOWED_METHODS})

    do_PUT = do_PATCH = do_DELETE = do_POST

    def _path(self) -> str:
        """Return the decoded path of the request, which is only looked up in the table."""
        try:
            return unquote(urlsplit(self.path).path, errors="replace")
        except ValueError:  # `http://[/`
            return ""

    def _has_body(self) -> bool:
        return "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0").strip() != "0"

    def _host_is_ours(self) -> bool:
        """Return whether the request was sent to a name of this server, or refuse it."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            self._refuse(HTTPStatus.BAD_REQUEST, "the request must have one Host header")
            return False
        if not host_allowed(hosts[0].lower(), self.server.open_to_others, self.server.names):
            self._refuse(HTTPStatus.FORBIDDEN, "the Host header is not a name of this server")
            return False
        return True

    def _is_known(self, file: Served) -> bool:
        """Return whether the browser has this file already (If-None-Match)."""
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
                if self.connection.sendfile(source, first, count) != count:  # the file was truncated meanwhile
                    self.close_connection = True
                self.connection.settimeout(IDLE_SECONDS)

    @staticmethod
    def _about(file: Served) -> dict[str, str]:
        return {"ETag": file.etag, "Cache-Control": file.cache_control, "Accept-Ranges": "bytes"}

    def _begin(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        """Send the status line and all headers."""
        self.send_response(status)
        for name, value in {**HEADERS, **self._sharing(), **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _sharing(self) -> dict[str, str]:
        """Return the headers that let other pages of this machine read the artefact (CORS)."""
        headers = getattr(self, "headers", None)  # not set if the request was too malformed
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
        """Answer a malformed request in our form, instead of with the base class's page."""
        self.close_connection = True
        self.request_version = self.protocol_version  # else an unreadable version gets no status line
        status = HTTPStatus(code)
        self._refuse(status, status.phrase.lower())

    def version_string(self) -> str:
        """Return the `Server` header, without versions."""
        return "argosy"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
