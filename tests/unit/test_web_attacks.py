"""The server of `argosy web` under attack, over raw sockets: smuggled requests, slow and too many ones, odd hosts."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from web_artefact import FOR_BROWSERS, NAME, WEBGPU, save_artefact, save_page

from argosy.support.progress import SilentProgress
from argosy.web import protocol
from argosy.web.files import artefact_files, page_files
from argosy.web.hosting import HttpServer
from argosy.web.origins import host_allowed, origin_allowed
from argosy.web.server import Site, listen

SHARD = "/artefact/params_shard_0.bin"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def all_reports() -> list[str]:
    return []


@pytest.fixture
def reports(all_reports: list[str]) -> list[str]:
    all_reports.clear()
    return all_reports


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, all_reports: list[str]) -> Iterator[HttpServer]:
    with serving(tmp_path_factory.mktemp("web"), all_reports) as server:
        yield server


@contextlib.contextmanager
def serving(folder: Path, reports: list[str]) -> Iterator[HttpServer]:
    """Serve an artefact and a page that are made in `folder`."""
    files = artefact_files(save_artefact(folder / NAME, WEBGPU), SilentProgress(), *FOR_BROWSERS)
    with running(Site({**page_files(save_page(folder / "static")), **files}, reports.append)) as server:
        yield server


@contextlib.contextmanager
def running(site: Site) -> Iterator[HttpServer]:
    with listen(site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def everything(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def raw(server: HttpServer, data: bytes) -> bytes:
    with connect(server) as connection:
        connection.sendall(data)
        return everything(connection)


def statuses(answer: bytes) -> list[int]:
    """Return the statuses of all answers on a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


# -- requests that could be read in two ways


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(HIDDEN),
        b"Content-Length: %d\r\nContent-Length: 0\r\n" % len(HIDDEN),
        b"Content-Length: 0, %d\r\n" % len(HIDDEN),
        b"Content-Length: +%d\r\n" % len(HIDDEN),
        b"Content-Length: 0x10\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: 1e3\r\n",
        b"Content-Length: " + b"9" * 40 + b"\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b" folded: x\r\n",
        b"x y: z\r\n",
        b": empty\r\n",
        b"no colon\r\n",
        b"x: \x00\r\n",
        b"x: a\rb\r\n",
        b"Host: localhost\r\n",
        b"Host: evil.example\r\n",
    ],
)
def test_a_request_with_two_readings_is_refused_and_ends_the_connection(
    headers: bytes, server: HttpServer, reports: list[str]
) -> None:
    answer = raw(server, GET + headers + b"\r\n" + HIDDEN)
    assert statuses(answer) in ([400], [403], [501]) and b"<" not in answer and b"connection: close" in answer.lower()
    assert b"content-security-policy" in answer.lower() and reports == []


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Content-Length: 3\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ],
)
def test_nothing_after_a_body_is_taken_for_a_request(head: bytes, server: HttpServer, reports: list[str]) -> None:
    answer = raw(server, GET + head + HIDDEN)
    assert len(statuses(answer)) == 1 and statuses(answer)[0] in (200, 400) and reports == []


@pytest.mark.parametrize(
    "line",
    [b"GET  / HTTP/1.1", b"GET / HTTP/1.1 x", b"GET /\t HTTP/1.1", b"GET / http/1.1", b"GET / HTTP/1.10",
     b"GET /\xff HTTP/1.1", b"GET /\x00 HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
     b"PRI * HTTP/2.0", b"GET / HTTP/2.0", b"get / HTTP/1.1",
     b"CONNECT localhost:80 HTTP/1.1", b"TRACE / HTTP/1.1", b"GET / HTTP/0.9", b"SSH-2.0-x"],
)  # fmt: skip
def test_what_is_no_request_of_ours_is_refused(line: bytes, server: HttpServer, reports: list[str]) -> None:
    answer = raw(server, line + b"\r\nHost: localhost\r\n\r\n" + HIDDEN)
    assert len(statuses(answer)) == 1 and statuses(answer)[0] in (400, 501, 505) and reports == []


def test_requests_in_a_row_are_answered_in_a_row(server: HttpServer) -> None:
    last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert statuses(raw(server, 20 * (GET + b"\r\n") + last + HIDDEN)) == [200] * 20 + [404]


def test_an_upgrade_is_not_made(server: HttpServer) -> None:
    wanted = b"Connection: Upgrade\r\nUpgrade: %s\r\n\r\n"
    for protocol_name in (b"websocket", b"h2c"):
        with connect(server) as connection:
            connection.sendall(GET + wanted % protocol_name)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


# -- hosts and origins


@pytest.mark.parametrize(
    "host",
    ["local\thost", "localhost\t", "\tlocalhost", "localhost\n", "localhost\r\nx", "local host", "localhost:80:80",
     "localhost:x", "localhost:-1", "localhost:999999", "[::1", "::1", "[::1]x", "[localhost]", "127.1",
     "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "localhost..",
     "localhost%00", "user@localhost", "localhost/", "localhost?x",
     "\uff4cocalhost", "localhost,evil.example", "127.0.0.1\x00", "[::ffff:8.8.8.8]"],
)  # fmt: skip
def test_an_odd_host_is_none_of_ours(host: str) -> None:
    assert not host_allowed(host, False)
    assert not origin_allowed(f"http://{host}")


def test_a_tab_in_the_host_is_refused(server: HttpServer) -> None:
    for host in (b"local\thost", b"127.0.0\t.1"):
        assert statuses(raw(server, b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host)) == [403]


@pytest.mark.parametrize(
    "origin",
    ["http://", "http:///", "http://localhost/", "http://localhost#x", "HTTP//localhost", "javascript://localhost",
     "http://localhost\t", "http:/localhost", "http://[::1]:1:1"],
)  # fmt: skip
def test_an_odd_origin_may_read_nothing(origin: str) -> None:
    assert not origin_allowed(origin)


# -- files


def test_what_takes_the_place_of_a_file_is_not_sent(tmp_path: Path) -> None:
    path, secret, reports = tmp_path / NAME / "params_shard_0.bin", tmp_path / "secret", list[str]()
    secret.write_bytes(b"hunter2" * 10_000)
    with serving(tmp_path, reports) as server:
        path.unlink()
        for replace, remove in (
            (lambda: os.mkfifo(path), path.unlink),
            (lambda: path.symlink_to(secret), path.unlink),
            (path.mkdir, path.rmdir),
        ):
            replace()
            answer = raw(server, f"GET {SHARD} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert statuses(answer) == [500] and b"hunter2" not in answer
            remove()
        assert len(reports) == 3
        assert statuses(raw(server, GET + b"Connection: close\r\n\r\n")) == [200]


# -- limits


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "STALLED_SECONDS", 0.5)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("before", [b"", GET + b"\r\n"], ids=["first", "second"])
def test_a_request_that_drips_is_ended(before: bytes, server: HttpServer, reports: list[str]) -> None:
    started = time.monotonic()
    with connect(server) as connection:
        connection.sendall(before + b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - started < 4.5
        answer = everything(connection)
    assert statuses(answer)[-1:] in ([408], [])  # lost, if it crossed with another byte
    assert reports == []


@pytest.mark.usefixtures("hurried")
def test_a_connection_that_says_nothing_is_ended(server: HttpServer) -> None:
    with connect(server) as connection:
        assert everything(connection) == b""


@pytest.mark.usefixtures("hurried")
def test_a_browser_that_reads_nothing_is_let_go(tmp_path: Path, reports: list[str]) -> None:
    large = tmp_path / "page"
    (save_page(large) / "large.bin").write_bytes(bytes(32 << 20))
    with running(Site(page_files(large), reports.append)) as server, connect(server) as connection:
        connection.sendall(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(2)
        assert len(everything(connection)) < 32 << 20
    assert reports == []


def test_silent_connections_do_not_keep_others_out(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 20)
    before = threading.active_count()
    with contextlib.ExitStack() as open_ones:
        silent = [open_ones.enter_context(connect(server)) for _ in range(60)]
        silent[-1].sendall(b"GET / HTT")
        assert statuses(raw(server, GET + b"Connection: close\r\n\r\n")) == [200]
        ended = sum(everything_now(connection) == b"" for connection in silent)
        assert ended >= 40
        assert threading.active_count() - before < 10, "a connection takes no thread"


def everything_now(connection: socket.socket) -> bytes | None:
    """Return what has arrived: nothing if the connection was closed, None if it waits."""
    connection.settimeout(0.05)
    try:
        return connection.recv(100)
    except ConnectionResetError:
        return b""
    except TimeoutError:
        return None


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"GET / HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", 431),
     (GET + b"a: b\r\n" * 101 + b"\r\n", 431), (b"x" * 200_000, 414), (GET + b"y" * 200_000, 431)],
)  # fmt: skip
def test_a_head_that_is_too_large_is_refused(data: bytes, status: int, server: HttpServer, reports: list[str]) -> None:
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        found = statuses(everything(connection))
    assert found in ([status], []) and reports == []  # reset, if the rest was still on its way


def test_a_request_byte_by_byte_is_a_request(server: HttpServer) -> None:
    with connect(server) as connection:
        for byte in GET + b"Connection: close\r\n\r\n":
            connection.send(bytes([byte]))
        assert statuses(everything(connection)) == [200]
