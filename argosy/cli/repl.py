"""Read prompts and /commands from a terminal or a pipe, and answer them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TextIO

from argosy.cli import console
from argosy.cli.failures import report
from argosy.cli.talk import Talk
from argosy.support.errors import ArgosyError
from argosy.support.text import did_you_mean

HELP = """\
/help          this list
/stats         speed and memory of the last answer
/reset         forget the conversation
/system TEXT   start over with this system prompt, or with none
/exit          quit; so does Ctrl-D
\"\"\"            begin or end a prompt of several lines
Ctrl-C stops the current answer."""

QUOTES = '"""'
Read = Callable[[str], str]
"""Shows a prompt and returns the next line. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""


class Repl:
    """The loop that reads prompts and commands."""

    def __init__(self, talk: Talk, read: Read) -> None:
        self._talk = talk
        self._read = read
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda rest: console.say(HELP),
            "/stats": lambda rest: console.say(str(talk.model.stats())),
            "/reset": self._reset,
            "/system": self._system,
        }

    def run(self) -> int:
        """Run until /exit or the end of the input, and return the exit code of the last error, or 0."""
        code = 0
        while True:
            try:
                text = self._next()
                if text.split(maxsplit=1)[:1] in (["/exit"], ["/quit"]):
                    return code
                if text.strip():
                    self._handle(text)
            except EOFError:
                return code
            except KeyboardInterrupt:
                console.say("\n(/exit or Ctrl-D quits)")
            except ArgosyError as error:
                code = report(error.message, error.hint, error.exit_code)

    def _next(self) -> str:
        """Read one line, or the lines between triple quotes."""
        line = self._read("> ")
        if not line.strip().startswith(QUOTES):
            return line
        lines = [line.strip().removeprefix(QUOTES)]
        while not lines[-1].rstrip().endswith(QUOTES):
            lines.append(self._read(". "))
        lines[-1] = lines[-1].rstrip().removesuffix(QUOTES)
        return "\n".join(lines).strip("\n")

    def _handle(self, text: str) -> None:
        word, _, rest = text.strip().partition(" ")
        if word in self._commands:
            self._commands[word](rest.strip())
        elif word.startswith("/") and "/" not in word[1:]:  # a prompt may begin with a path like /etc/hosts
            hint = did_you_mean(word, [*self._commands, "/exit"])
            raise ArgosyError(f"no such command `{word}`", hint)
        else:
            self._talk.answer(text)

    def _reset(self, rest: str) -> None:
        self._talk.model.reset_chat()
        console.say("(conversation forgotten)")

    def _system(self, rest: str) -> None:
        self._talk.model.reset_chat(rest)
        console.say(
            "(new conversation with this system prompt)" if rest else "(new conversation without a system prompt)"
        )


def terminal_reader() -> Read:
    """Return a reader of the terminal, with line editing and history where Python has readline."""
    with contextlib.suppress(ImportError):
        import_module("readline")  # importing it is what makes input() edit lines
    return input


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
