"""Put a prompt together from the command line and from stdin."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from typing import TextIO

from argosy.cli import console
from argosy.cli.waiting import READING_AFTER, waiting
from argosy.support.errors import UsageError


def prompt_of(option: str | None, words: Sequence[str]) -> str | None:
    """Return the prompt of `--prompt` or of the words after the model, with what a pipe holds before it, or None.

    `-` is stdin alone. Raises UsageError for two prompts.
    """
    if option is not None and words:
        raise UsageError(
            f"there are two prompts, `{option}` and `{' '.join(words)}`", "leave one of them out, or quote them as one"
        )
    prompt = " ".join(words) if words else option
    if prompt is None:
        return None
    if prompt == "-":
        return _all_of_stdin().strip("\n")
    if _is_fed(sys.stdin):
        piped = _all_of_stdin().strip("\n")
        return f"{piped}\n\n{prompt}" if piped.strip() else prompt
    return prompt


def _all_of_stdin() -> str:
    with waiting("reading stdin to its end", READING_AFTER):
        return console.read_text(sys.stdin)


def _is_fed(stream: TextIO | None) -> bool:
    """Return whether a program or a file feeds `stream`; a terminal and the null device do not."""
    try:
        mode = os.fstat(stream.fileno()).st_mode if stream is not None else 0
    except (OSError, ValueError):  # a stream of a test, which has no file below it
        return stream is not None and not stream.isatty()
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
