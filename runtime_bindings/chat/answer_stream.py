"""Read an answer piece by piece: in a loop, or in an event loop that does other work meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from argosy.runtime_bindings.chat.answer import Answer, Reply
from argosy.runtime_bindings.chat.shared_engine import PATIENCE_OF_FINALISERS, SharedEngine, Ticket, not_sent
from argosy.runtime_bindings.engine.request import Event, Request
from argosy.support.errors import RequestError
from argosy.support.text import one_line


class Turn(Protocol):
    """A question and its place in a conversation, which has at most one answer under way."""

    @property
    def engine(self) -> SharedEngine:
        """The engine that computes the answer."""
        ...

    @property
    def model_name(self) -> str:
        """The name of the model, for messages."""
        ...

    def begin(self, stream: AnswerStream) -> tuple[Request, Answer]:
        """Claim the conversation for `stream`, and return what to compute. Raises RequestError if it is claimed."""
        ...

    def conclude(self, answer: Answer) -> None:
        """Record an answer that has ended, or raise the error that ended it."""
        ...

    def release(self, stream: AnswerStream) -> None:
        """Give the conversation free. Finalisers call this as well: it takes no lock."""
        ...


class AnswerStream:
    """An answer as an iterator over its pieces, for `for` and for `async for`.

    It begins with the first piece. Leaving it early (`close`, the end of a `with` block, nobody holding it any more, a
    cancelled task) ends the answer between two tokens with the reason "cancelled", and the conversation keeps the text
    up to there. After any other exception the conversation is what it was before.

    One reader at a time: a second thread or task that asks for a piece meanwhile gets a RequestError. `close` may be
    called by any of them.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._lock = threading.Lock()  # of `_reading`
        self._reading = False
        self._answer: Answer | None = None
        self._ticket = Ticket()
        self._waits = True  # whether its reader may be kept waiting for a step
        self._cancelled = False
        self._over = False

    def __repr__(self) -> str:
        name, answer = self._turn.model_name, self._answer
        if answer is None:
            return f"<AnswerStream of {name}, {'closed' if self._over else 'not begun'}>"
        state = "ended" if self._over else "under way"
        return f"<AnswerStream of {name}, {state}: {one_line(answer.text)!r}>"

    __reduce__ = not_sent

    @property
    def text(self) -> str:
        """The text so far."""
        return "" if self._answer is None else self._answer.text

    @property
    def reply(self) -> Reply:
        """The record of the answer, once it has ended."""
        if self._answer is None or not self._answer.ended:
            raise RequestError("the answer has not ended", "read it to its end, or close it")
        return self._answer.reply

    def cancel(self) -> None:
        """End the answer after its current token. May be called by any thread and by signal handlers."""
        self._cancelled = True

    # -- read in a thread

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        piece = ""
        while not piece:
            more = self.advance()
            if more is None:
                raise StopIteration
            piece = more
        return piece

    def advance(self) -> str | None:
        """Make one step; return the text that it made certain, often a word and sometimes nothing. None at the end."""
        mine = False
        try:
            with self._lock:  # nothing but a call lets a signal handler in
                if not self._reading:
                    self._reading = mine = True
            if not mine:
                raise self._busy()
            if self._over:
                return None
            engine = self._turn.engine
            try:
                request = self._begin()
                if request is not None:
                    engine.add(request, self._ticket)
                return self._take((engine.cancel if self._ends else engine.advance)(self._ticket))
            except BaseException:
                self.abandon()
                raise
        finally:
            if mine:
                self._reading = False

    def close(self) -> None:
        """End the answer here, if it has not ended. A piece that another thread waits for is its last."""
        self._cancelled = True
        mine = False
        try:
            with self._lock:
                if not self._reading:
                    self._reading = mine = True
            if mine:
                self._leave()
        finally:
            if mine:
                self._reading = False

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- read in an event loop

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> str:
        piece = ""
        while not piece:
            more = await self._advance_async()
            if more is None:
                raise StopAsyncIteration
            piece = more
        return piece

    async def _advance_async(self) -> str | None:
        from asyncio import CancelledError

        mine = False
        try:
            with self._lock:
                if not self._reading:
                    self._reading = mine = True
            if not mine:
                raise self._busy()
            if self._over:
                return None
            self._waits = False
            engine = self._turn.engine
            try:
                request = self._begin()
                if request is not None:
                    await engine.add_async(request, self._ticket)
                return self._take(await (engine.cancel_async if self._ends else engine.advance_async)(self._ticket))
            except CancelledError:
                self._leave()
                raise
            except BaseException:
                self.abandon()
                raise
        finally:
            if mine:
                self._reading = False

    async def aclose(self) -> None:
        """Do what `close` does, without waiting for the step under way."""
        self._waits = False
        self.close()

    async def __aenter__(self) -> AnswerStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- inside

    @property
    def _ends(self) -> bool:
        assert self._answer is not None
        return self._cancelled or self._answer.stopped

    def _begin(self) -> Request | None:
        """Return the request to compute if this is the beginning."""
        if self._answer is not None:
            return None
        request, self._answer = self._turn.begin(self)
        return request

    def _take(self, event: Event | None) -> str:
        """Return the text that `event` makes certain; after the last one, conclude."""
        assert self._answer is not None
        piece = "" if event is None else self._answer.add(event)
        if self._answer.ended:
            self._turn.conclude(self._answer)
            self._end()
        return piece

    def _leave(self, patience: float | None = None) -> None:
        """End the answer with the text so far. Only a reader that waits gets its figures."""
        answer, engine = self._answer, self._turn.engine
        try:
            if not self._over and answer is not None and not answer.ended:
                answer.close(engine.cancel(self._ticket, patience) if self._waits else engine.cancel_soon(self._ticket))
                self._turn.conclude(answer)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End the answer without a trace in the conversation, unless it has ended."""
        over, self._over = self._over, True
        self._turn.release(self)
        if not over:
            self._turn.engine.cancel_soon(self._ticket)

    def _end(self) -> None:
        self._over = True
        self._turn.release(self)

    def _busy(self) -> RequestError:
        return RequestError(
            f"this answer of `{self._turn.model_name}` is being read by another thread or task",
            "let one of them read it, and pass the pieces on",
        )

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the program there may be nothing left to call
            if not self._over and self._answer is not None:
                self._leave(PATIENCE_OF_FINALISERS)
