"""Format what people read: sizes, times, near misses, and values from files that may hold anything."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable
from typing import TextIO


def human_size(size: int) -> str:
    """Format bytes in decimal units: `human_size(81_200_000) == "81.2 MB"`."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


def human_time(seconds: float) -> str:
    """Format seconds: `0.004 -> "4 ms"`, `1.31 -> "1.3 s"`, `125 -> "2 min 5 s"`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return a hint with the entries of `allowed` that resemble `word`, or with all of them."""
    names = list(allowed)
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), list(lowered), n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"`{lowered[name]}`" for name in near) + "?"
    return "one of: " + ", ".join(names)


def one_line(value: object, length: int = 60) -> str:
    """Format a value that may come from a stranger as one printable line of at most `length` characters.

    Text, paths and exceptions appear as their text (an exception without one as its type), anything else as its
    `repr`. Runs of white space become one space; characters that steer a terminal or turn the direction of writing are
    escaped; backticks become apostrophes, because messages put values between backticks. Never raises.
    """
    try:
        text = _plain(value)
    except Exception:  # the value's own `__str__` or `__repr__` failed
        text = f"<{type(value).__name__}>"
    # a header may hold megabytes of text, so cut before escaping
    line = " ".join(text.strip()[: 16 * length].split()).replace("`", "'")
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    return line if len(line) <= length else line[: length - 3] + "..."


# Control characters but newline and tab are shown as U+FFFD; a carriage return would write over the line.
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"} | {ord("\r"): None}


def shown_by(stream: TextIO, text: str) -> str:
    """Return `text`, from a model, as `stream` takes it.

    A terminal gets no control characters. Characters that the stream's encoding lacks become `?`.
    """
    with contextlib.suppress(ValueError):  # a closed stream
        text = text.translate(_CONTROLS) if stream.isatty() else text
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, "replace").decode(encoding)
    return text


def _plain(value: object) -> str:
    if isinstance(value, BaseException):
        return str(value).strip() or type(value).__name__
    return str(value) if isinstance(value, str | os.PathLike) else repr(value)
