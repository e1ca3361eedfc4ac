"""Read prompts line by line: from a terminal, with editing and a history, or from a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from argosy.cli import console
from argosy.support.errors import UsageError

Read = Callable[[str], str]
"""Shows a prompt and returns the next line. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""

HISTORY_LENGTH = 1000


def history_file() -> Path | None:
    """Return the file with the prompts of earlier conversations, or None for a user without a directory."""
    from argosy.support.user_files import data_directory

    try:
        return data_directory() / "history"
    except UsageError:
        return None


class History:
    """The lines typed before, kept in a file that only this user can read. `kept` is whether new ones are added."""

    def __init__(self, readline: Any, path: Path | None) -> None:
        self.kept = True
        self._readline = readline
        self._path = path
        readline.set_history_length(HISTORY_LENGTH)
        readline.set_auto_history(False)
        with contextlib.suppress(OSError):
            if path is not None:
                readline.read_history_file(path)

    def add(self, line: str) -> None:
        """Add a line, at once, so that a killed program loses none."""
        length = self._readline.get_current_history_length()
        if not line.strip() or (length and self._readline.get_history_item(length) == line):
            return
        self._readline.add_history(line)
        if not self.kept or self._path is None:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._path.chmod(0o600)
            self._readline.append_history_file(1, self._path)

    def trim(self) -> None:
        """Shorten the file to the newest lines."""
        if self.kept and self._path is not None and self._path.is_file():
            with contextlib.suppress(OSError):
                self._readline.write_history_file(self._path)


class TerminalReader:
    """Reads lines from a terminal. `history` is None where Python has no readline."""

    def __init__(self, history: History | None) -> None:
        self.history = history

    def __call__(self, prompt: str) -> str:
        try:
            if console.is_terminal(sys.stdout):
                line = input(prompt)
            else:  # stdout is for answers alone
                sys.stderr.write(prompt)
                sys.stderr.flush()
                line = sys.stdin.readline()
                if not line:
                    raise EOFError
        except UnicodeDecodeError as error:
            raise UsageError(f"that line is not text in `{error.encoding}`", "type it again") from None
        if self.history is not None:
            self.history.add(line.rstrip("\n"))
        return line.rstrip("\n")


@contextlib.contextmanager
def terminal_reader() -> Iterator[TerminalReader]:
    """Yield a reader of the terminal, with line editing and history where Python has readline."""
    history = None
    with contextlib.suppress(ImportError):  # importing it is what makes input() edit lines
        history = History(import_module("readline"), history_file())
    try:
        yield TerminalReader(history)
    finally:
        if history is not None:
            history.trim()


def pipe_reader(stream: TextIO) -> Read:
    """Return a reader of a stream, which shows no prompts."""
    lines: Iterator[str] = iter(stream)

    def read(prompt: str) -> str:
        with console.text_expected(stream):
            line = next(lines, None)
        if line is None:
            raise EOFError
        return line.rstrip("\r\n").removeprefix("\ufeff")

    return read
