"""Pass an answer on while it is generated: to a callback, to standard output, or to another thread."""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from argosy.runtime_bindings.chat.answer_stream import AnswerStream
from argosy.support.errors import RequestError, UsageError
from argosy.support.text import one_line, shown_by


class ProgressCallback(Protocol):
    """A callable that `ChatModule.generate` calls with the answer as it grows."""

    callback_interval: int
    """The number of tokens between two calls."""

    def __call__(self, delta: str, stopped: bool) -> None:
        """Take `delta`, the text since the last call. `stopped` marks the last call, also after an error."""


class StreamToStdout:
    """A callback that writes the answer to standard output, with a newline at its end.

    A terminal gets no control characters, and characters that the output's encoding lacks become `?`.
    """

    def __init__(self, callback_interval: int = 2) -> None:
        self.callback_interval = checked_interval(callback_interval)

    def __repr__(self) -> str:
        return f"StreamToStdout(callback_interval={self.callback_interval})"

    def __call__(self, delta: str, stopped: bool) -> None:
        sys.stdout.write(shown_by(sys.stdout, delta) + ("\n" if stopped else ""))
        sys.stdout.flush()


class StreamIterator:
    """A callback that yields the pieces of an answer in one thread while `generate` runs in another.

    Several threads may iterate at once, and share the pieces. For the next answer, iterate again once it has begun.
    Where one thread is enough, `ChatModule.stream` is simpler.
    """

    def __init__(self, callback_interval: int = 2) -> None:
        self.callback_interval = checked_interval(callback_interval)
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopped = False

    def __repr__(self) -> str:
        return f"StreamIterator(callback_interval={self.callback_interval})"

    def __call__(self, delta: str, stopped: bool) -> None:
        if self._stopped:  # the next answer
            self._pieces = queue.SimpleQueue()
        self._stopped = stopped
        if delta:
            self._pieces.put(delta)
        if stopped:
            self._pieces.put(None)

    def __iter__(self) -> Iterator[str]:
        pieces = self._pieces
        while (piece := pieces.get()) is not None:
            yield piece
        pieces.put(None)  # for other threads, and for whoever iterates again


def check_callback(callback: object) -> None:
    """Raise RequestError if `callback` is neither None nor a callable whose `callback_interval`, if any, is allowed."""
    if callback is None:
        return
    if not callable(callback):
        raise RequestError(
            f"`progress_callback` is `{one_line(callback)}`, it must be a callable",
            "settings are keyword arguments, such as `temperature=0`",
        )
    checked_interval(getattr(callback, "callback_interval", 1))


def checked_interval(interval: int) -> int:
    """Return `interval`. Raises UsageError unless it is a whole number from 1."""
    if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
        allowed = "it must be a whole number of tokens from 1"
        raise UsageError(f"`callback_interval={one_line(interval)}` is not allowed, {allowed}")
    return interval


def deliver(pieces: AnswerStream, callback: ProgressCallback | None) -> None:
    """Read an answer to its end, and pass it to `callback` every `callback_interval` tokens.

    The last call has `stopped` set, also after an error. An error in the callback ends the answer, and is raised again.
    """
    interval = 1 if callback is None else checked_interval(getattr(callback, "callback_interval", 1))
    gathered, tokens = "", 0
    try:
        while (piece := pieces.advance()) is not None:
            gathered, tokens = gathered + piece, tokens + 1
            if callback is not None and gathered and tokens % interval == 0:
                gathered, ready = "", gathered
                callback(ready, False)
    except BaseException:
        pieces.abandon()
        stop_callback(callback)
        raise
    if callback is not None:
        callback(gathered, True)


def stop_callback(callback: ProgressCallback | None) -> None:
    """Make the last call to `callback` after an error, whose own errors do not count."""
    if callback is not None:
        with suppress(Exception):
            callback("", True)
