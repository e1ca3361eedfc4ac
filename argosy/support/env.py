"""Read the `ARGOSY_*` environment variables, all listed in one table.

`env.THREADS.get()` is an `int | None`. A value that is not allowed is a UsageError, never a silent default.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from argosy.support.errors import UsageError
from argosy.support.text import did_you_mean

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Variable(Generic[T]):
    """One environment variable. `parse` raises ValueError for any value but the `allowed` ones."""

    name: str
    allowed: str
    default: T
    default_text: str
    summary: str
    parse: Callable[[str], T]

    def get(self) -> T:
        """Return the typed value, or the default if the variable is unset or empty.

        Raises UsageError for a value that is not allowed.
        """
        text = os.environ.get(self.name, "").strip()
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError:
            raise UsageError(
                f"environment variable {self.name} has the value `{text}`", f"allowed: {self.allowed}"
            ) from None


def _thread_count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1024:
        raise ValueError
    return count


def _switch(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError
    return words[text.lower()]


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if "" in words:
        raise ValueError
    return words


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError
        return text.lower()

    return parse


THREADS: Variable[int | None] = Variable(
    "ARGOSY_THREADS", "a number from 1 to 1024", None, "the physical cores this process may use",
    "threads that compute on the CPU (sets TVM_NUM_THREADS)", _thread_count,
)
HOME: Variable[Path | None] = Variable(
    "ARGOSY_HOME", "a directory", None, "`argosy` in the user's data directory",
    "where models (in `models`), the history and saved conversations of `argosy chat` are kept", Path,
)
DIST: Variable[Path | None] = Variable(
    "ARGOSY_DIST", "a directory", None, "`dist/out` in a checkout, else `models` in ARGOSY_HOME",
    "where `argosy build` puts artefacts, and the only place where they are looked for by name", Path,
)
PROGRESS: Variable[str] = Variable(
    "ARGOSY_PROGRESS", "auto, bars, lines or off", "auto", "auto",
    "how progress is shown on stderr; auto is bars on a terminal, else one line per stage",
    _one_of("auto", "bars", "lines", "off"),
)
NO_COLOR: Variable[bool] = Variable(
    "ARGOSY_NO_COLOR", "1 or 0", False, "0", "1 turns colours off, as does NO_COLOR", _switch,
)
DEBUG: Variable[bool] = Variable(
    "ARGOSY_DEBUG", "1 or 0", False, "0", "1 prints the traceback below an error message", _switch,
)
CHECK: Variable[bool] = Variable(
    "ARGOSY_CHECK", "1 or 0", False, "0",
    "1 checks that modules are well formed between the phases of compilation", _switch,
)
CACHE: Variable[Path | None] = Variable(
    "ARGOSY_CACHE", "a directory", None, "`argosy` in the user's cache directory",
    "where compiled parts that libraries share are kept (the browser's runtime)", Path,
)
TRUST: Variable[tuple[str, ...]] = Variable(
    "ARGOSY_TRUST", "public keys of minisign or their files, separated by commas", (), "none",
    "artefacts are opened only if one of these keys has signed them (`argosy sign`)", _words,
)
VARIABLES: tuple[
    Variable[int | None] | Variable[Path | None] | Variable[tuple[str, ...]] | Variable[str] | Variable[bool], ...
] = (
    THREADS, HOME, DIST, CACHE, TRUST, PROGRESS, NO_COLOR, DEBUG, CHECK,
)


def colour_wanted() -> bool:
    """Return whether to use colours: not if ARGOSY_NO_COLOR is on or NO_COLOR is set to anything (no-color.org)."""
    return not (NO_COLOR.get() or os.environ.get("NO_COLOR"))


def check_environment() -> None:
    """Raise UsageError for an `ARGOSY_*` variable that is unknown or has a value that is not allowed."""
    names = [variable.name for variable in VARIABLES]
    for name in os.environ:
        if name.startswith("ARGOSY_") and name not in names:
            raise UsageError(f"unknown environment variable `{name}`", did_you_mean(name, names))
    for variable in VARIABLES:
        variable.get()


def markdown_table() -> str:
    """Format the table of variables for the documentation."""
    rows = ["| variable | values | default | what it does |", "|---|---|---|---|"]
    rows += [f"| `{v.name}` | {v.allowed} | {v.default_text} | {v.summary} |" for v in VARIABLES]
    return "\n".join(rows) + "\n"
