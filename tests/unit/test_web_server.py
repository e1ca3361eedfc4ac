"""The server of `argosy web`, over real sockets: what it serves, with which headers, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from web_artefact import ARM, EMPTY_MODULE, FOR_BROWSERS, NAME, WASM, WEBGPU, save_artefact, save_page

from argosy.support.errors import UsageError
from argosy.support.progress import SilentProgress
from argosy.web.files import Served, artefact_files, page_files
from argosy.web.hosting import HttpServer
from argosy.web.origins import host_allowed, is_loopback, origin_allowed
from argosy.web.ranges import Unsatisfiable, byte_range
from argosy.web.server import Site, listen, stable_port

SHARD = "/artefact/params_shard_0.bin"
SHARD_BYTES = 200_000


@dataclasses.dataclass
class Answer:
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __getitem__(self, header: str) -> str | None:
        return self.headers.get(header.lower())


def serve(site: Site, **where: object) -> Iterator[HttpServer]:
    with listen(site, **where) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# One server for all tests that change nothing, because each takes a moment to start and to stop.
@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_artefact(tmp_path_factory.mktemp("web") / NAME, WEBGPU, ARM)


@pytest.fixture(scope="module")
def all_reports() -> list[str]:
    return []


@pytest.fixture
def reports(all_reports: list[str]) -> list[str]:
    all_reports.clear()
    return all_reports


@pytest.fixture(scope="module")
def server(directory: Path, all_reports: list[str]) -> Iterator[HttpServer]:
    yield from serve(Site(site_files(directory), all_reports.append))


def site_files(directory: Path) -> dict[str, Served]:
    page = save_page(directory.parent / "static")
    return {**page_files(page), **artefact_files(directory, SilentProgress(), *FOR_BROWSERS)}


@pytest.fixture
def ask(server: HttpServer) -> Callable[..., Answer]:
    return asking(server)


def asking(server: HttpServer) -> Callable[..., Answer]:
    """Return `ask(path, method, header=value)`, which makes one request over a connection of its own."""

    def request(path: str, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    return request


def raw(server: HttpServer, data: bytes) -> bytes:
    """Send `data` and return everything that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


# -- what is handed out


def test_the_page(ask: Callable[..., Answer]) -> None:
    page = ask("/")
    assert page.status == 200 and b"<title>chat" in page.body
    assert page["Content-Type"] == "text/html; charset=utf-8" and page["Cache-Control"] == "no-cache"
    assert ask("/index.html").body == ask("/?model=x#top").body == page.body
    script = ask("/assets/main-0123abcd.js")
    assert script["Content-Type"] == "text/javascript; charset=utf-8"
    assert script["Cache-Control"] == "public, max-age=31536000, immutable"
    assert ask("/service-worker.js")["Cache-Control"] == "no-cache"
    assert ask("/.sources").status == 404


def test_every_file_of_the_artefact_under_both_addresses(directory: Path, ask: Callable[..., Answer]) -> None:
    manifest = json.loads((directory / "argosy-manifest.json").read_bytes())
    names = {*manifest["files"], "argosy-manifest.json"} - {f"{NAME}-arm64.so"}
    assert WASM in names and "params_shard_0.bin" in names and "tensor-cache.json" in names
    for name in names:
        data = (directory / name).read_bytes()
        for prefix in ("/artefact/", "/artefact/resolve/main/"):
            answer = ask(prefix + name)
            assert (answer.status, answer.body) == (200, data)
            assert answer["Content-Length"] == str(len(data))
            assert answer["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
            assert answer["Cache-Control"] == "no-cache" and answer["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("name", "kind"),
    [(WASM, "application/wasm"), ("tensor-cache.json", "application/json"),
     ("params_shard_0.bin", "application/octet-stream")],
)  # fmt: skip
def test_media_types(name: str, kind: str, ask: Callable[..., Answer]) -> None:
    assert ask(f"/artefact/{name}")["Content-Type"] == kind


@pytest.mark.parametrize("path", ["/", SHARD, f"/artefact/{WASM}", "/nothing"])
def test_head_is_get_without_a_body(path: str, ask: Callable[..., Answer]) -> None:
    head, get = ask(path, "HEAD"), ask(path)
    assert head.body == b"" and head.status == get.status
    without_date = [{k: v for k, v in answer.headers.items() if k != "date"} for answer in (head, get)]
    assert without_date[0] == without_date[1]


# -- caching


def test_a_file_that_the_browser_has_is_not_sent_again(ask: Callable[..., Answer]) -> None:
    tag = ask(SHARD)["ETag"]
    assert tag is not None
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = ask(SHARD, If_None_Match=known)
        assert (answer.status, answer.body, answer["ETag"]) == (304, b"", tag)
        assert answer["Content-Length"] is None
    assert ask(SHARD, If_None_Match='"other"').status == 200
    assert ask(SHARD, If_None_Match=tag, Range="bytes=0-1").status == 304


# -- ranges


@pytest.mark.parametrize(
    ("header", "first", "count"),
    [("bytes=0-9", 0, 10), ("bytes=199990-", 199_990, 10), ("bytes=-7", 199_993, 7), ("bytes=5-5", 5, 1),
     ("bytes=199999-300000", 199_999, 1), ("BYTES = 3 - 4", 3, 2), ("bytes=-900000", 0, SHARD_BYTES)],
)  # fmt: skip
def test_a_range(header: str, first: int, count: int, directory: Path, ask: Callable[..., Answer]) -> None:
    answer = ask(SHARD, Range=header)
    data = (directory / "params_shard_0.bin").read_bytes()
    assert len(data) == SHARD_BYTES
    assert (answer.status, answer.body) == (206, data[first : first + count])
    assert answer["Content-Range"] == f"bytes {first}-{first + count - 1}/{SHARD_BYTES}"
    assert answer["Content-Length"] == str(count)


@pytest.mark.parametrize("header", ["bytes=0-1,4-5", "bytes=9-3", "bytes=-", "lines=0-1", "bytes=a-b", "bytes=", "x"])
def test_a_range_that_is_malformed_or_many_is_ignored(header: str, ask: Callable[..., Answer]) -> None:
    answer = ask(SHARD, Range=header)
    assert answer.status == 200 and len(answer.body) == SHARD_BYTES


@pytest.mark.parametrize("header", ["bytes=200000-", "bytes=999999-1000000", "bytes=-0"])
def test_a_range_beyond_the_end(header: str, ask: Callable[..., Answer]) -> None:
    answer = ask(SHARD, Range=header)
    assert answer.status == 416 and answer["Content-Range"] == f"bytes */{SHARD_BYTES}"
    assert answer.body == b"the file has 200000 bytes\n"


def test_a_range_of_another_version_is_the_whole_file(ask: Callable[..., Answer]) -> None:
    tag = ask(SHARD)["ETag"]
    assert tag is not None
    assert ask(SHARD, Range="bytes=0-9", If_Range=tag).status == 206
    assert ask(SHARD, Range="bytes=0-9", If_Range='"other"').status == 200
    assert ask(SHARD, "HEAD", Range="bytes=0-9").status == 200


def test_parts_of_ranges() -> None:
    assert byte_range(None, 10) is None and byte_range("bytes=0-0", 1) == (0, 1)
    assert byte_range("bytes=" + "9" * 200 + "-", 10) is None
    with pytest.raises(Unsatisfiable):
        byte_range("bytes=0-0", 0)


# -- what there is not


@pytest.mark.parametrize(
    "path",
    ["/artefact/../secret", "/artefact/..%2fsecret", "/artefact/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
     "/artefact//", "/artefact/..\\secret", "/artefact/.argosy.lock", "/artefact/", "/artefact",
     f"/artefact/{NAME}-arm64.so", "/artefact/stranger.txt", "/assets/", "/assets/../.sources", "/index.html/",
     "/artefact/resolve/main/../../../secret", "/%00", "/%ff", "/nothing",
     "/artefact/resolve/main/"],
)  # fmt: skip
def test_only_what_the_manifest_names(path: str, directory: Path, ask: Callable[..., Answer]) -> None:
    (directory / "stranger.txt").write_text("not of the manifest")
    (directory.parent / "secret").write_text("hunter2")
    answer = ask(path)
    assert (answer.status, answer.body) == (404, b"there is no such file\n")
    assert answer["Cache-Control"] == "no-store"


def test_a_file_that_changes_while_it_is_served(tmp_path: Path) -> None:
    directory, reports = save_artefact(tmp_path / NAME, WEBGPU), list[str]()
    for server in serve(Site(site_files(directory), reports.append)):
        changes(directory, asking(server), reports)


def changes(directory: Path, ask: Callable[..., Answer], reports: list[str]) -> None:
    (directory.parent / "secret").write_bytes((directory / "params_shard_0.bin").read_bytes())
    (directory / "params_shard_0.bin").unlink()
    gone = ask(SHARD)
    (directory / "params_shard_0.bin").symlink_to(directory.parent / "secret")
    linked = ask(SHARD)
    (directory / "params_shard_0.bin").unlink()
    (directory / "params_shard_0.bin").write_bytes((directory.parent / "secret").read_bytes())
    replaced = ask(SHARD)
    for answer in (gone, linked, replaced):
        assert answer.status == 500 and answer.body == b"the file was changed; start `argosy web` again\n"
    assert len(reports) == 3 and "changed while it was served" in reports[2]
    assert ask(f"/artefact/{WASM}").status == 200


def test_a_file_that_is_cut_while_it_is_sent_ends_the_connection(tmp_path: Path, directory: Path) -> None:
    file = artefact_files(directory, SilentProgress(), *FOR_BROWSERS)[SHARD]
    promised = dataclasses.replace(file, bytes=file.bytes + 10)
    for server in serve(Site({SHARD: promised})):
        with pytest.raises(http.client.IncompleteRead):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", SHARD)
            connection.getresponse().read()


@pytest.mark.parametrize("target", ["http://[/", "http://a]/artefact/", "//[x"])
def test_an_address_that_is_none_is_answered(target: str, server: HttpServer, reports: list[str]) -> None:
    answer = raw(server, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ") and answer.endswith(b"there is no such file\n")
    assert reports == []


# -- who may ask


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:99", "LOCALHOST", "[::1]:8080", "127.0.0.1:{port}", "127.9.9.9"]
)
def test_names_of_this_machine(host: str, server: HttpServer, ask: Callable[..., Answer]) -> None:
    assert ask("/", Host=host.format(port=server.port)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "192.168.0.7", "", "a@localhost",
             "localhost/x", "[::1", "0.0.0.0", " ", "evil.example#localhost"],
)  # fmt: skip
def test_other_names_are_refused(host: str, ask: Callable[..., Answer]) -> None:
    for path in ("/", SHARD, "/nothing"):
        answer = ask(path, Host=host)
        assert answer.status in (400, 403) and b"Host header" in answer.body


def test_one_host_header_is_needed(server: HttpServer) -> None:
    assert b"400 Bad Request" in raw(server, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b"400 Bad Request" in raw(server, two)


def test_addresses_are_allowed_where_others_are_let_in() -> None:
    for host in ("192.168.0.7:8000", "[fe80::1]:80", "desk", "localhost"):
        assert host_allowed(host, True, {"desk"})
    for host in ("evil.example", "desk.evil.example", "", "192.168.0.7/x"):
        assert not host_allowed(host, True, {"desk"})
    assert not host_allowed("192.168.0.7", False, {"desk"}) and not host_allowed("desk", False, {"desk"})


def test_loopback() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "LocalHost."):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "192.168.0.1", "localhost.example", "", "example.org"):
        assert not is_loopback(host)


# -- headers


def test_the_page_can_only_run_its_own_code(ask: Callable[..., Answer]) -> None:
    for path in ("/", "/assets/main-0123abcd.js", SHARD, "/nothing"):
        answer = ask(path)
        policy = dict(rule.split(" ", 1) for rule in (answer["Content-Security-Policy"] or "").split("; "))
        assert policy["default-src"] == "'self'" and policy["script-src"] == "'self' 'wasm-unsafe-eval'"
        assert policy["object-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert answer["X-Content-Type-Options"] == "nosniff" and answer["Referrer-Policy"] == "no-referrer"
        assert answer["Server"] == "argosy"


def test_pages_of_this_machine_may_read_the_artefact_and_no_others(ask: Callable[..., Answer]) -> None:
    for origin in ("http://localhost:5173", "http://127.0.0.1:8080", "http://[::1]:1"):
        answer = ask(SHARD, Origin=origin, Range="bytes=0-3")
        assert answer["Access-Control-Allow-Origin"] == origin and answer["Vary"] == "Origin"
        assert "Content-Range" in (answer["Access-Control-Expose-Headers"] or "")
        assert ask("/", Origin=origin)["Access-Control-Allow-Origin"] is None
    for origin in ("https://evil.example", "http://localhost.evil.example", "null", "http://192.168.0.7", "file://"):
        answer = ask(SHARD, Origin=origin)
        assert answer["Access-Control-Allow-Origin"] is None and answer["Vary"] == "Origin"
    assert not origin_allowed("http://[::1")


def test_a_page_may_ask_first(ask: Callable[..., Answer]) -> None:
    answer = ask(SHARD, "OPTIONS", Origin="http://localhost:5173", Access_Control_Request_Headers="range")
    assert answer.status == 204 and answer["Access-Control-Allow-Origin"] == "http://localhost:5173"
    assert "Range" in (answer["Access-Control-Allow-Headers"] or "")
    assert ask(SHARD, "OPTIONS", Origin="https://evil.example")["Access-Control-Allow-Origin"] is None


# -- the protocol


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_sent_here(method: str, ask: Callable[..., Answer]) -> None:
    answer = ask("/", method, Content_Length="3")
    assert answer.status == 405 and answer["Allow"] == "GET, HEAD, OPTIONS" and answer["Connection"] == "close"


def test_several_requests_over_one_connection(server: HttpServer, directory: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for path, status in ((f"/artefact/{WASM}", 200), ("/nothing", 404), (SHARD, 200), ("/", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, len(response.read()) > 0) == (status, True)
    connection.close()


def test_a_body_is_not_taken_for_the_next_request(server: HttpServer) -> None:
    hidden = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    answer = raw(server, head + hidden)
    assert answer.startswith(b"HTTP/1.1 200 OK") and b"404" not in answer


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"GET\r\n\r\n", b"400"), (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"501"),
     (b"GET / HTTP/9.9\r\n\r\n", b"505"), (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
     (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431")],
)  # fmt: skip
def test_a_malformed_request(data: bytes, status: bytes, server: HttpServer, reports: list[str]) -> None:
    answer = raw(server, data)
    assert b" " + status + b" " in answer.splitlines()[0] and b"<" not in answer and reports == []


def test_many_at_once(directory: Path, ask: Callable[..., Answer]) -> None:
    data = (directory / "params_shard_0.bin").read_bytes()
    with ThreadPoolExecutor(16) as pool:
        assert all(answer.body == data for answer in pool.map(ask, [SHARD] * 64))


def test_a_browser_that_goes_away_is_no_news(
    server: HttpServer, ask: Callable[..., Answer], reports: list[str]
) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"GET {SHARD} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert ask("/").status == 200 and reports == []


# -- where it listens


def test_a_free_port_is_found_and_a_taken_one_is_named() -> None:
    for server in serve(Site({}), port=0):
        assert server.url == f"http://127.0.0.1:{server.port}/"
        with pytest.raises(UsageError, match=rf"port {server.port} of `127\.0\.0\.1` is taken") as refusal:
            listen(Site({}), port=server.port)
        assert "`--port`" in (refusal.value.hint or "")
        for other in serve(Site({}), preferred=server.port):
            assert server.port < other.port


def test_an_artefact_keeps_its_port(tmp_path: Path) -> None:
    first, second = stable_port(tmp_path / "a"), stable_port(tmp_path / "b")
    assert 20_000 <= first < 30_000 and first != second and stable_port(tmp_path / "x" / ".." / "a") == first


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.name.invalid", "a" * 70, "999.1.1.1"])
def test_an_address_of_another_machine(host: str) -> None:
    with pytest.raises(UsageError, match="is not an address of this machine"):
        listen(Site({}), host)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the system's ports are open to root")
def test_a_port_of_the_system() -> None:
    with pytest.raises(UsageError, match="those below 1024 belong to the system"):
        listen(Site({}), port=1)


def test_every_address(tmp_path: Path) -> None:
    for server in serve(Site({}), host="0.0.0.0"):
        assert server.open_to_others and server.url.startswith("http://127.0.0.1:")
    for server in serve(Site({})):
        assert not server.open_to_others


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "0.0.0.0", "::1", "::"])
def test_the_address_that_is_told_is_the_one_that_answers(host: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"this machine has no address {host}")
    for server in serve(Site({}), host=host):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.url, timeout=10)


def test_the_wasm_is_what_was_built(ask: Callable[..., Answer]) -> None:
    assert ask(f"/artefact/resolve/main/{WASM}").body == EMPTY_MODULE
