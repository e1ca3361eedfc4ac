"""Make calls one after another in a thread of their own, on behalf of any other thread or of an event loop."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from argosy.support.errors import RequestError

T = TypeVar("T")
_Outcome = tuple[Any, BaseException | None]


class _Call:
    """A call to make, and who receives its outcome: a value and None, or anything and an exception."""

    __slots__ = ("_function", "_reply")

    def __init__(self, function: Callable[[], Any], reply: Callable[[_Outcome], object]) -> None:
        self._function = function
        self._reply = reply

    def make(self) -> None:
        """Make the call."""
        try:
            outcome = self._function(), None
        except BaseException as error:
            self.refuse(error)
        else:
            self._reply(outcome)

    def refuse(self, error: BaseException) -> None:
        """Reply with `error`."""
        self._reply((None, error))


class _Line:
    """The calls that wait for a thread."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()  # None ends the thread
        self._over = False

    def add(self, call: _Call | None) -> None:
        """Append a call, or with None the end of the thread."""
        self._calls.put(call)
        if self._over:
            self._refuse_rest()

    def make_all(self) -> None:
        """Make calls until there is a None among them, and refuse all others."""
        while (call := self._calls.get()) is not None:
            with suppress(BaseException):  # only a reply can fail, for lack of memory
                call.make()
            del call  # it may own a model
        self._over = True
        _threads.pop(threading.current_thread(), None)
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        with suppress(Empty):
            while True:
                call = self._calls.get_nowait()
                if call is not None:
                    call.refuse(RequestError("the model is closed", "load it again"))


_threads: dict[threading.Thread, _Line] = {}
_ending = False  # whether the program is at its end, where only daemon threads are left


class Worker:
    """A thread that makes calls in the order in which they were asked for.

    Python runs signal handlers in the main thread only, so what they raise, KeyboardInterrupt above all, can end a
    caller's wait, but cannot cut a call short. A caller that gives up waiting leaves the call to be made.

    Queues are the only thing that threads share here: nobody holds a lock while waiting, so finalisers may ask for
    calls wherever the garbage collector runs them. They should have little patience, in case somebody else's lock is
    held there.

    The thread ends with `close`, with the worker, and with the program. It does not survive a fork.
    """

    def __init__(self, name: str) -> None:
        self._process = os.getpid()
        self._line = _Line()
        self._thread = threading.Thread(target=self._line.make_all, name=name, daemon=True)
        self._end = weakref.finalize(self, self._line.add, None)
        self._end.atexit = False  # `_end_all` also waits
        _threads[self._thread] = self._line
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the worker's own."""
        return threading.current_thread() is self._thread

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._end.alive

    @property
    def ended(self) -> bool:
        """Whether no further call will be made: after `close`, or in a process that was forked."""
        return self.closed or os.getpid() != self._process

    def call(self, function: Callable[[], T], patience: float | None = None) -> T:
        """Return what `function` returns, or raise what it raises, when its turn has come. Raises `queue.Empty` if that
        takes more than `patience` seconds; the call is made all the same."""
        if self.is_here:
            raise RequestError("the model is computing, and only `cancel` may be called meanwhile")
        replies: SimpleQueue[tuple[T, BaseException | None]] = SimpleQueue()
        self._ask(_Call(function, replies.put))
        value, error = replies.get(timeout=patience)
        if error is not None:
            if _ending and threading.current_thread().daemon:
                threading.Event().wait()  # the interpreter drops this thread; an exception would be printed
            raise error
        return value

    async def call_async(self, function: Callable[[], T]) -> T:
        """Do what `call` does, without blocking the event loop meanwhile."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def receive(outcome: tuple[T, BaseException | None]) -> None:
            value, error = outcome
            if future.done():  # cancelled
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def reply(outcome: tuple[T, BaseException | None]) -> None:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(receive, outcome)

        self._ask(_Call(function, reply))
        return await future

    def post(self, function: Callable[[], object]) -> None:
        """Have `function` called without waiting for it. Its exceptions are lost, as is a call after the end."""
        if not self.ended:
            self._ask(_Call(function, _ignore))

    def close(self) -> None:
        """End the thread after the calls that were asked for."""
        self._end()

    def _ask(self, call: _Call) -> None:
        if os.getpid() != self._process:
            raise RequestError(
                f"the model was loaded by process `{self._process}` and cannot be used in its fork `{os.getpid()}`",
                "load it in the process that uses it, or start processes by `spawn`",
            )
        self._line.add(call)


def _ignore(outcome: _Outcome) -> None:
    pass


@atexit.register
def _end_all() -> None:
    """Wait for the calls under way: an interpreter that ends while a thread computes may crash."""
    global _ending
    _ending = True
    for thread, line in list(_threads.items()):
        line.add(None)
        thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.clear)
