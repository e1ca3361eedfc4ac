"""Pieces of an answer go in as they are generated; they appear on standard output, or in a loop of another thread."""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from typing import Protocol

from argosy.support.errors import UsageError


class ProgressCallback(Protocol):
    """What `ChatModule.generate` tells of its progress."""

    callback_interval: int
    """Tokens between two calls."""

    def __call__(self, delta: str, stopped: bool) -> None:
        """`delta`: text that is new since the last call. The last call has `stopped`, also when the answer was
        cancelled or failed."""


class StreamToStdout:
    """Writes the answer to standard output while it is generated, and a newline at its end."""

    def __init__(self, callback_interval: int = 2) -> None:
        self.callback_interval = checked_interval(callback_interval)

    def __call__(self, delta: str, stopped: bool) -> None:
        sys.stdout.write(delta + ("\n" if stopped else ""))
        sys.stdout.flush()


class StreamIterator:
    """Yields the pieces of an answer in one thread while `generate` runs in another.

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
    """UsageError unless it is a whole number from 1."""
    if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
        raise UsageError(f"`callback_interval={interval!r}` is not allowed, it must be a whole number of tokens from 1")
    return interval
