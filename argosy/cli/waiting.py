"""Show a line on a terminal while something takes long: loading a model, reading a prompt."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

import click

from argosy.cli import console

LOADING_AFTER = 0.3  # seconds; what takes less needs no line
READING_AFTER = 2.0
EVERY = 0.5


class WaitingLine:
    """A line on stderr that appears after some seconds, follows what `text` returns, and disappears at the end.

    Where stderr is no terminal, or one that cannot erase, nothing is shown.
    """

    def __init__(self, text: Callable[[], str], after: float) -> None:
        self._text = text
        self._after = after
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._shown = False
        self._thread: threading.Thread | None = None
        if console.erases(sys.stderr):
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Erase the line. May be called more than once."""
        self._over.set()
        with self._lock:
            if self._shown:
                self._write("\r\x1b[K")
            self._shown = False

    def _run(self) -> None:
        wait = self._after
        while not self._over.wait(wait):
            wait = EVERY
            try:
                text = console.one_visible_line(self._text())
            except Exception:  # a figure that cannot be had now is no reason to end a command
                continue
            with self._lock:
                if not self._over.is_set():
                    self._shown = True
                    self._write(f"\r{text[: max(1, _columns() - 1)]}\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            click.echo(text, err=True, nl=False, color=True)


@contextlib.contextmanager
def waiting(text: str, after: float = LOADING_AFTER) -> Iterator[None]:
    """Show `text` while the block runs, if it takes longer than `after` seconds."""
    line = WaitingLine(lambda: text, after)
    try:
        yield
    finally:
        line.end()


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
