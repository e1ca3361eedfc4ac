"""Print data to stdout and messages to stderr, with colours only on a terminal.

Text may come from a model, a manifest or an argument. None of it reaches a terminal with characters that steer one
(`visible`), and none ends a command because the terminal's encoding lacks a character (`prepare_streams`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import click

from argosy.support import env
from argosy.support.errors import UsageError


@dataclass(frozen=True, slots=True)
class Styled:
    """A text, and how `click.style` shows it on a terminal that has colours."""

    text: str
    style: dict[str, Any]


def styled(text: str, **style: Any) -> Styled:
    """Return `text` with the keywords of `click.style`, for `say` and `data`."""
    return Styled(text, style)


def say(*parts: str | Styled) -> None:
    """Print a message to stderr."""
    _echo(parts, sys.stderr, visible)


def data(*parts: str | Styled) -> None:
    """Print a line of data to stdout; in a pipe it stays as it is."""
    _echo(parts, sys.stdout, visible if is_terminal(sys.stdout) else str)


def data_json(value: object, indent: int | None = 2) -> None:
    """Print a JSON document to stdout, with escapes only for characters that its encoding lacks."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        text = json.dumps(value, indent=indent)
    if is_terminal(sys.stdout):  # JSON escapes what is below U+0020 only
        text = "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)
    click.echo(text.replace("\x7f", "\\u007f"), color=True)


def visible(text: str) -> str:
    """Escape every character but newline and tab that is not printable: control characters, marks that turn the
    direction of writing, halves of surrogate pairs."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_visible_line(text: str) -> str:
    """Escape like `visible`, newlines and tabs too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _echo(parts: Sequence[str | Styled], stream: TextIO, clean: Any) -> None:
    colours = _Colors.wanted and is_terminal(stream)
    shown = [
        clean(part) if isinstance(part, str)
        else click.style(clean(part.text), **part.style) if colours else clean(part.text)
        for part in parts
    ]  # fmt: skip
    click.echo("".join(shown), file=stream, color=True)


class _Colors:
    """Whether to print colours; set once, before a command runs."""

    wanted = True


def decide_colors(no_color: bool) -> None:
    """Decide from --no-color and the environment; --no-color sets NO_COLOR, for the sake of progress bars."""
    if no_color:
        os.environ["NO_COLOR"] = "1"
    _Colors.wanted = env.colour_wanted()


def wants_color() -> bool:
    """Return whether to print colours; output that is not a terminal never has any."""
    return _Colors.wanted


def erases(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal that can erase a line."""
    return is_terminal(stream) and os.environ.get("TERM", "") not in ("dumb", "")


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def prepare_streams() -> None:
    """Make the standard streams safe to use: open, able to print every character, and strict about what they read.

    A stream that this process was started without is connected to the null device, so that no file that is opened later
    takes its place. Characters that an encoding lacks are replaced by `?` on stdout, and escaped on stderr.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            with contextlib.suppress(OSError):
                setattr(sys, name, _null_stream(descriptor, mode))
        elif isinstance(stream, io.TextIOWrapper):
            errors = {"stdin": "strict", "stdout": "replace", "stderr": "backslashreplace"}[name]
            if name == "stdin" or stream.errors in ("strict", "surrogateescape"):
                stream.reconfigure(errors=errors)


def _null_stream(descriptor: int, mode: str) -> TextIO:
    """Open the null device in the place of a standard stream."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != descriptor:
        os.dup2(opened, descriptor, inheritable=True)
        os.close(opened)
    return io.TextIOWrapper(open(descriptor, f"{mode}b", closefd=False), encoding="utf-8")


def discard_output() -> None:
    """Connect both output streams to the null device, so that what is left in them cannot fail once more at exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def read_text(stream: TextIO, what: str = "stdin") -> str:
    """Read all of a stream of text, without a byte order mark. Raises UsageError for bytes that are no text."""
    with text_expected(stream, what):
        return stream.read().removeprefix("\ufeff")
    raise AssertionError  # for type checkers: the block never swallows an error


@contextlib.contextmanager
def text_expected(stream: TextIO, what: str = "stdin") -> Any:
    """Raise UsageError for bytes that are no text in the encoding of `stream`, which is read inside the block."""
    try:
        yield
    except UnicodeDecodeError as error:
        encoding = error.encoding
        raise UsageError(
            f"{what} is not text in `{encoding}`: it has the byte `0x{error.object[error.start]:02x}`",
            f"convert it first: iconv -f ENCODING -t {encoding}",
        ) from None


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], stream: TextIO | None = None) -> None:
    """Print columns to stdout, or to another stream; long cells are folded only on a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = sys.stdout if stream is None else stream
    on_terminal = is_terminal(stream)
    width = shutil.get_terminal_size().columns if on_terminal else 400
    drawn = io.StringIO()
    console = Console(
        file=drawn, width=width, force_terminal=on_terminal, no_color=not wants_color(), highlight=False
    )
    made = Table(box=None, pad_edge=False, header_style="bold" if wants_color() else "")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(Text(visible(cell)) for cell in row))
    console.print(made)
    click.echo("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()), file=stream, color=True)
