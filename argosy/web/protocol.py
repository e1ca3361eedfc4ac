"""Guard a connection of the HTTP server: limits in size, number and time, and a sentence for what is no HTTP.

Requests are parsed by h11, which refuses what could be read in two ways: lengths that contradict each other, a length
beside a transfer coding, two hosts, line breaks inside a header.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES = 16 << 10  # largest head of a request that comes in pieces; no other has twice as many
HEAD_SECONDS = 15  # longest time in which it must arrive, however slowly its bytes drip
IDLE_SECONDS = 60  # longest wait for the next request of a connection
STALLED_SECONDS = 600  # longest wait for a browser that does not read, as while it compiles shaders
MAX_HEADERS = 100
MAX_CONNECTIONS = 256


class GuardedProtocol(H11Protocol):
    """A connection that ends when it exceeds a limit."""

    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _since = 0.0
    _lines = 0  # since the last request

    @property
    def is_waiting(self) -> bool:
        """Whether no complete head of a request has arrived since the last answer."""
        return self.conn.their_state is h11.IDLE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection; beyond the limit, drop the one that has waited longest without a request."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect_head()
        if len(self.connections) > MAX_CONNECTIONS:
            present = [other for other in self.connections if isinstance(other, GuardedProtocol)]
            present = [other for other in present if not other.transport.is_closing()]
            if len(present) > MAX_CONNECTIONS:
                waiting = [other for other in present if other.is_waiting]
                min(waiting, key=lambda other: other._since, default=self)._drop()

    def data_received(self, data: bytes) -> None:
        """Parse `data`; the head of a request that it begins must be complete before long."""
        for start in range(0, len(data), HEAD_BYTES):
            part = data[start : start + HEAD_BYTES]
            self._lines += part.count(b"\n")
            super().data_received(part)
            if self.transport.is_closing():
                return
        if not self.is_waiting:
            self._forget_deadline()
            self._lines = 0
        elif self._deadline is None:
            self._expect_head()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._forget_deadline()
        self._since = self.loop.time()
        super().on_response_complete()
        if self.is_waiting and self.conn.trailing_data[0]:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._forget_deadline()
        self._watch_writing(None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give the browser some time to read what was sent."""
        super().pause_writing()
        self._watch_writing(self.loop.call_later(STALLED_SECONDS, self._drop))

    def resume_writing(self) -> None:
        """Note that it has."""
        self._watch_writing(None)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 has refused, with the status that fits best, and end the connection."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # in the middle of another answer
            self._drop()
            return
        error = sys.exc_info()[1]
        status = HTTPStatus(getattr(error, "error_status_hint", 400))
        if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE and b"\n" not in self.conn.trailing_data[0]:
            status = HTTPStatus.REQUEST_URI_TOO_LONG
        if status is HTTPStatus.BAD_REQUEST and self._lines > MAX_HEADERS:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refuse(status, status.phrase.lower())

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        body = f"{sentence}\n".encode()
        headers = [
            *self.server_state.default_headers, (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"), (b"connection", b"close"),
        ]  # fmt: skip
        answer = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:
            self.cycle.disconnected = True  # its answer, if any is still to come, is not sent any more
        self.transport.close()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        if self.transport.is_closing() or not self.is_waiting:
            return
        if self.conn.trailing_data[0]:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request took too long to arrive")
        else:
            self.transport.close()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch_writing(self, timer: asyncio.TimerHandle | None) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        self._stalled = timer

    def _drop(self) -> None:
        self.transport.abort()
