"""Let conversations in several threads and event loops drive one engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty
from typing import NoReturn

from argosy.runtime_bindings.chat.worker import Worker
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.request import Event, Request, RequestStats
from argosy.support.errors import RequestError

MAX_UNREAD = 4096
PATIENCE_OF_FINALISERS = 1.0
"""Seconds: a step takes less, and a finaliser must not wait for a thread that waits for what is held where it runs."""
_CANCELLED = Event(-1, finish="cancelled", stats=RequestStats())


def not_sent(self: object) -> NoReturn:
    """Refuse to copy or pickle an object, as its `__reduce__`: a copy would use the same part of the KV cache."""
    raise RequestError(
        f"a {type(self).__name__} cannot be copied, nor sent to another process",
        "make another ChatModule over the LoadedModel, or load the model in that process",
    )


@dataclass(slots=True, eq=False)
class Ticket:
    """What a reader holds of its request, also before the engine has it: its id and sequence there, and the events that
    the reader has not taken yet."""

    request: int | None = None
    sequence: int | None = None
    events: deque[Event] = field(default_factory=deque)


class SharedEngine:
    """An engine that makes a step whenever one of its readers needs an event.

    A step advances the requests of all readers; their events wait for them. All steps are made by one thread, the
    engine's own, in the order in which they were asked for, so a reader waits for a step of another one and never for
    a whole answer. Any thread may make any call, a callback and a finaliser included.

    An interrupted reader loses nothing: its event is there when it asks again. TVM keeps a thread pool for every thread
    that computes, and here that is one.
    """

    def __init__(
        self, engine: Engine, max_unread: int = MAX_UNREAD, prepare: Callable[[], object] = lambda: None
    ) -> None:
        """`max_unread`: the number of events that nobody reads at which a request that waits for them gives up.
        `prepare` is called first, in the thread that will make the steps."""
        self._engine: Engine | None = engine
        self._max_unread = max_unread
        self._tickets: dict[int, Ticket] = {}  # of the requests that the engine serves
        self._worker = Worker("argosy-engine")
        self._worker.call(prepare)

    def __repr__(self) -> str:
        return f"<SharedEngine, {'closed' if self.closed else f'{len(self._tickets)} requests'}>"

    @property
    def closed(self) -> bool:
        """Whether the engine was closed."""
        return self._worker.closed

    def open_sequence(self) -> int:
        """Open a sequence that outlives its requests, and return its id."""
        return self._worker.call(lambda: self._use().open_sequence())

    def close_sequence(self, sequence: int, patience: float | None = None) -> None:
        """Free an open sequence, and end a request that uses it for its reader. Wait for `patience` seconds at most."""
        self._soon(partial(self._close_sequence, sequence), patience)

    def count_cached_tokens(self, sequence: int) -> int:
        """Return the number of tokens of an open sequence that are in the KV cache."""
        return self._worker.call(lambda: len(self._use().cached_tokens(sequence)))

    def check(self, request: Request) -> None:
        """Raise RequestError or ContextFullError for a request that the model cannot serve, without waiting for a
        step."""
        self._use().check(request)

    def add(self, request: Request, ticket: Ticket | None = None) -> Ticket:
        """Queue a request, and return the ticket to read it with. Raises RequestError or ContextFullError if the model
        cannot serve it.

        A reader that may be interrupted passes its ticket, with which it can cancel the request in any case. A request
        that still uses the sequence was left behind by an interrupted reader: it is cancelled.
        """
        ticket = Ticket() if ticket is None else ticket
        self._worker.call(partial(self._add, request, ticket))
        return ticket

    async def add_async(self, request: Request, ticket: Ticket) -> None:
        """Do what `add` does, without blocking the event loop."""
        await self._worker.call_async(partial(self._add, request, ticket))

    def advance(self, ticket: Ticket) -> Event | None:
        """Return the next event of a request, or None if one step of the engine brought none.

        Raises RequestError if the request waits for another one that runs without a reader, and might never end.
        """
        if not ticket.events:
            self._worker.call(partial(self._step_for, ticket))
        return self._take(ticket)

    async def advance_async(self, ticket: Ticket) -> Event | None:
        """Do what `advance` does, without blocking the event loop."""
        if not ticket.events:
            await self._worker.call_async(partial(self._step_for, ticket))
        return self._take(ticket)

    def cancel(self, ticket: Ticket, patience: float | None = None) -> Event:
        """End a request, and return the event that ended it; one without figures after `patience` seconds."""
        return self._soon(partial(self._cancel, ticket), patience) or _CANCELLED

    async def cancel_async(self, ticket: Ticket) -> Event:
        """Do what `cancel` does, without blocking the event loop."""
        return await self._worker.call_async(partial(self._cancel, ticket)) or _CANCELLED

    def cancel_soon(self, ticket: Ticket) -> Event:
        """End a request after the step under way, without waiting for that; the event has no figures."""
        self._worker.post(partial(self._cancel, ticket))
        return _CANCELLED

    def close(self, unless_shared: bool = False) -> None:
        """End all requests for their readers, and let go of the model; with `unless_shared` only if no sequence is
        open. A second time does nothing."""
        self._soon(partial(self._close, unless_shared))

    # -- in the caller's thread

    def _take(self, ticket: Ticket) -> Event | None:
        if ticket.events:
            return ticket.events.popleft()
        if any(len(other.events) >= self._max_unread for other in list(self._tickets.values())):
            raise RequestError(
                "`generate` waits for another answer of this model, and nobody reads that one",
                "read it to its end, close its iterator, or load the model with a larger max_batch",
            )
        return None

    def _soon(self, call: Callable[[], Event | None], patience: float | None = None) -> Event | None:
        """Make a call, or only ask for it within a step, where a finaliser may run. After the end, do nothing."""
        if self._worker.is_here:
            self._worker.post(call)
        elif not self._worker.ended:
            with suppress(Empty):
                return self._worker.call(call, patience)
        return None

    # -- in the worker's thread

    def _use(self) -> Engine:
        if self._engine is None:
            raise RequestError("the model is closed", "load it again")
        return self._engine

    def _add(self, request: Request, ticket: Ticket) -> None:
        engine = self._use()
        if request.sequence is not None:
            self._end_requests(engine, request.sequence)
        ticket.sequence = request.sequence
        ticket.request = engine.add(request)
        self._tickets[ticket.request] = ticket

    def _step_for(self, ticket: Ticket) -> None:
        if ticket.events:  # another reader's step brought some meanwhile
            return
        if ticket.request not in self._tickets:
            ticket.events.append(_CANCELLED)
            return
        for event in self._use().step():
            reader = self._tickets.get(event.request)
            if reader is not None:
                reader.events.append(event)
                if event.finish is not None:
                    del self._tickets[event.request]

    def _cancel(self, ticket: Ticket) -> Event | None:
        if self._engine is not None and ticket.request in self._tickets:
            del self._tickets[ticket.request]
            event = self._engine.cancel(ticket.request)
        else:
            event = next((event for event in ticket.events if event.finish is not None), None)
        ticket.events.clear()
        return event

    def _close_sequence(self, sequence: int) -> None:
        if self._engine is not None:
            self._end_requests(self._engine, sequence)
            self._engine.close_sequence(sequence)

    def _close(self, unless_shared: bool) -> None:
        if self._engine is None or (unless_shared and self._engine.open_sequences):
            return
        for ticket in list(self._tickets.values()):
            self._end_requests(self._engine, ticket.sequence)
        self._engine = None
        self._worker.close()

    def _end_requests(self, engine: Engine, sequence: int | None) -> None:
        """Cancel the requests that use a sequence, and leave their last events for their readers."""
        for request, ticket in list(self._tickets.items()):
            if ticket.sequence == sequence:
                del self._tickets[request]
                event = engine.cancel(request)
                if event is not None:
                    ticket.events.append(event)
