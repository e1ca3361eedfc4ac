"""Let conversations in several threads drive one engine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.request import Event, Request, RequestStats
from argosy.support.errors import RequestError

MAX_UNREAD = 4096
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that has not ended for its reader, and the events that the reader has not taken yet."""

    sequence: int | None
    events: deque[Event] = field(default_factory=deque)


class SharedEngine:
    """An engine that is stepped by whichever of its readers needs an event.

    A step advances the requests of all readers; their events wait for them. Threads use the engine in the order in
    which they came, so that each waits for a step of another one and never for a whole answer. No lock is held between
    two calls, so callbacks may call back.

    `cancel` and `close_sequence` may also be called by finalisers, which the garbage collector runs at any point, even
    within a step of the same thread: they are then postponed to the end of that step.

    TVM keeps a thread pool for every thread that computes. Only one of them computes at a time, so the pools do not
    compete for cores: the workers of all others sleep.
    """

    def __init__(self, engine: Engine, max_unread: int = MAX_UNREAD) -> None:
        """`max_unread`: the number of events that nobody reads at which a request that waits for them gives up."""
        self._engine = engine
        self._max_unread = max_unread
        self._requests: dict[int, _Pending] = {}
        self._lock = threading.RLock()  # held while the engine is in use
        self._next_in_line = threading.Lock()  # held by the first of the threads that wait for `_lock`
        self._this_thread = threading.local()
        self._postponed: deque[Callable[[], object]] = deque()

    def open_sequence(self) -> int:
        """Open a sequence that outlives its requests, and return its id."""
        with self._turn():
            return self._engine.open_sequence()

    def close_sequence(self, sequence: int) -> None:
        """Free an open sequence, and cancel a request that uses it."""
        self._soon(lambda: self._close_sequence(sequence))

    def count_cached_tokens(self, sequence: int) -> int:
        """Return the number of tokens of an open sequence that are in the KV cache."""
        with self._turn():
            return len(self._engine.cached_tokens(sequence))

    def add(self, request: Request) -> int:
        """Queue a request, and return its id. Raises RequestError or ContextFullError if the model cannot serve it."""
        with self._turn():
            identity = self._engine.add(request)
            self._requests[identity] = _Pending(request.sequence)
            return identity

    def advance(self, request: int) -> Event | None:
        """Return the next event of a request, or None if one step of the engine brought none.

        Raises RequestError if the request waits for another one that runs without a reader, and might never end.
        """
        pending = self._requests[request]
        if not pending.events:
            with self._turn():
                if not pending.events:  # else another reader has made the step meanwhile
                    self._step()
        if not pending.events:
            self._check_readers()
            return None
        event = pending.events.popleft()
        if event.finish is not None:
            del self._requests[request]
        return event

    def cancel(self, request: int) -> Event:
        """End a request, and return the event that ended it."""
        return self._soon(lambda: self._cancel(request)) or Event(request, finish="cancelled", stats=RequestStats())

    # -- inside, with the engine in use by this thread

    def _step(self) -> None:
        for event in self._engine.step():
            pending = self._requests.get(event.request)
            if pending is not None:
                pending.events.append(event)

    def _cancel(self, request: int) -> Event | None:
        pending = self._requests.pop(request, None)
        unread = () if pending is None else pending.events
        return self._engine.cancel(request) or next((event for event in unread if event.finish is not None), None)

    def _close_sequence(self, sequence: int) -> None:
        for request, pending in list(self._requests.items()):
            event = self._engine.cancel(request) if pending.sequence == sequence else None
            if event is not None:
                pending.events.append(event)
        self._engine.close_sequence(sequence)

    # -- turns

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until the threads that came before have used the engine, and use it."""
        if self._in_use_here:
            raise RequestError("the model is computing, and only `cancel` may be called meanwhile")
        self._this_thread.uses = True
        try:
            # A thread that comes back at once queues up behind the one that waits: `_lock` alone would be its again.
            with self._next_in_line:
                self._lock.acquire()
            try:
                yield
            finally:
                while self._postponed:
                    self._postponed.popleft()()
        finally:
            with suppress(RuntimeError):  # interrupted before it was acquired
                self._lock.release()
            self._this_thread.uses = False

    @property
    def _in_use_here(self) -> bool:
        return getattr(self._this_thread, "uses", False)

    def _soon(self, call: Callable[[], T]) -> T | None:
        """Make a call in a turn, or postpone it if this thread is in the middle of one."""
        if self._in_use_here:
            self._postponed.append(call)
            return None
        with self._turn():
            return call()

    def _check_readers(self) -> None:
        if any(len(pending.events) >= self._max_unread for pending in list(self._requests.values())):
            raise RequestError(
                "`generate` waits for another answer of this model, and nobody reads that one",
                "read it to its end, close its iterator, or load the model with a larger max_batch",
            )
