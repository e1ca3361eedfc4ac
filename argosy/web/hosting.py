"""Run an ASGI application on a socket of this machine, until Ctrl-C or `shutdown`.

    with HttpServer(bind("127.0.0.1"), application) as server:
        print(server.url)
        server.serve_forever()

Uvicorn serves; connections are guarded by `argosy.web.protocol`.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp
from uvicorn import Config, Server

from argosy.support.errors import UsageError
from argosy.web.origins import is_loopback
from argosy.web.protocol import HEAD_BYTES, IDLE_SECONDS, GuardedProtocol

BACKLOG = 128
PORTS_TRIED = 20
SILENT = logging.CRITICAL + 1  # what goes wrong is reported by the application, in a sentence


@dataclass(frozen=True, slots=True)
class Place:
    """A listening socket, and the `host` that was asked for."""

    socket: socket.socket
    host: str

    @property
    def port(self) -> int:
        """The port."""
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address for a program on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can connect."""
        return not is_loopback(str(self.socket.getsockname()[0]))

    @property
    def names(self) -> frozenset[str]:
        """The names that this machine is known by, besides its addresses."""
        return frozenset({self.host.lower(), socket.gethostname().lower(), f"{socket.gethostname()}.local".lower()})


def bind(host: str = "127.0.0.1", port: int | None = None, preferred: int = 0) -> Place:
    """Listen on a port: 0 is any free one, None the first free one from `preferred` on.

    Raises UsageError if the port or the address is not available.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host or "127.0.0.1", 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UsageError(f"`{host}` is not an address of this machine", "leave `--host` out") from None
    wanted = [port] if port is not None else [*range(preferred, preferred + PORTS_TRIED), 0] if preferred else [0]
    for number in wanted:
        try:
            return Place(_listening(family, str(address[0]), number), host)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number == wanted[-1]:
                raise _refusal(host, number, error) from None
    raise AssertionError("the last port is either taken or refused")


def _listening(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # where it would let two servers share a port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address, port))
        found.listen(BACKLOG)
    except BaseException:
        found.close()
        raise
    return found


def _refusal(host: str, port: int, error: OSError) -> UsageError:
    hint = "leave `--port` out to use a free one"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"port {port} of `{host}` is taken by another program", hint)
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} is not open to you: those below 1024 belong to the system", hint)
    return UsageError(f"`{host}` is not an address of this machine", "leave `--host` out")


class HttpServer:
    """An application on its socket; `headers` are in every answer, also to requests that never reach it."""

    def __init__(self, place: Place, application: ASGIApp, headers: Mapping[str, str] | None = None) -> None:
        self.place = place
        self._server = Server(Config(
            application, http=GuardedProtocol, ws="none", loop="asyncio", lifespan="off", interface="asgi3",
            log_config=None, log_level=SILENT, access_log=False, proxy_headers=False, server_header=False,
            headers=[*(headers or {}).items(), ("Server", "argosy")], h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=0,  # a running download does not delay the end
        ))  # fmt: skip

    def serve_forever(self) -> None:
        """Answer requests until `shutdown`, or until a signal, which is raised again at the end."""
        self._server.run(sockets=[self.place.socket])

    def shutdown(self) -> None:
        """Let `serve_forever`, in another thread, return."""
        self._server.should_exit = True

    @property
    def host(self) -> str:
        """The host that was asked for."""
        return self.place.host

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self.place.port

    @property
    def url(self) -> str:
        """The address of the page for a browser on this machine."""
        return self.place.url

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can connect."""
        return self.place.open_to_others

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.place.socket.close()
