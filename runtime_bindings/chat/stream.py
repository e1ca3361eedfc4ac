"""Pass an answer on while it is generated: to a callback, to standard output, or to another thread."""

from __future__ import annotations

import queue
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Protocol

from argosy.support.errors import UsageError


class ProgressCallback(Protocol):
    """A callable that `ChatModule.generate` calls with the answer as it grows."""

    callback_interval: int
    """The number of tokens between two calls."""

    def __call__(self, delta: str, stopped: bool) -> None:
        """Take `delta`, the text since the last call. `stopped` marks the last call, also after an error."""


class StreamToStdout:
    """A callback that writes the answer to standard output, with a newline at its end."""

    def __init__(self, callback_interval: int = 2) -> None:
        self.callback_interval = checked_interval(callback_interval)

    def __call__(self, delta: str, stopped: bool) -> None:
        sys.stdout.write(delta + ("\n" if stopped else ""))
        sys.stdout.flush()


class StreamIterator:
    """A callback that yields the pieces of an answer in one thread while `generate` runs in another.

    Where one thread is enough, `ChatModule.generate(..., stream=True)` is simpler and starts no thread pool of its own.
    """

    def __init__(self, callback_interval: int = 2) -> None:
        self.callback_interval = checked_interval(callback_interval)
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def __call__(self, delta: str, stopped: bool) -> None:
        if delta:
            self._pieces.put(delta)
        if stopped:
            self._pieces.put(None)

    def __iter__(self) -> Iterator[str]:
        while (piece := self._pieces.get()) is not None:
            yield piece


def checked_interval(interval: int) -> int:
    """Return `interval`. Raises UsageError unless it is a whole number from 1."""
    if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
        raise UsageError(f"`callback_interval={interval!r}` is not allowed, it must be a whole number of tokens from 1")
    return interval


def deliver(pieces: Generator[str, None, None], callback: ProgressCallback | None) -> None:
    """Exhaust `pieces`, and pass them to `callback` every `callback_interval` tokens.

    The last call has `stopped` set, also after an error. An error in the callback is thrown into the generator, which
    cancels its request, and is raised again.
    """
    interval = 1 if callback is None else checked_interval(getattr(callback, "callback_interval", 1))
    gathered = ""
    try:
        for number, piece in enumerate(pieces, start=1):
            gathered += piece
            if callback is not None and gathered and number % interval == 0:
                gathered, ready = "", gathered
                callback(ready, False)
    except BaseException as error:
        with suppress(type(error)):
            pieces.throw(error)
        if callback is not None:
            with suppress(Exception):
                callback("", True)
        raise
    if callback is not None:
        callback(gathered, True)
