"""Where output goes: data to stdout, everything else to stderr, colours only where a person reads them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from argosy.support import env


def say(text: str = "") -> None:
    """A line for the person, on stderr."""
    click.echo(text, err=True)


def data(text: str) -> None:
    """A line of data, on stdout."""
    click.echo(text)


def data_json(value: object) -> None:
    """A JSON document, on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


class _Colors:
    """Whether colours are wanted at all; the first thing that a command line decides."""

    wanted = True


def decide_colors(no_color: bool) -> None:
    """Set what --no-color and the environment say; --no-color also reaches the progress bars, through NO_COLOR."""
    if no_color:
        os.environ["NO_COLOR"] = "1"
    _Colors.wanted = env.colour_wanted()


def wants_color() -> bool:
    """Whether colours are wanted; where the output is not a terminal there are none in any case."""
    return _Colors.wanted


def styled(text: str, **style: Any) -> str:
    """`text` in a style of `click.style`, where colours are wanted."""
    return click.style(text, **style) if _Colors.wanted else text


def is_terminal() -> bool:
    """Whether a person types at stdin."""
    return sys.stdin is not None and sys.stdin.isatty()


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns on stdout; nothing is folded where stdout is not a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(no_color=not wants_color(), highlight=False)
    if not console.is_terminal:
        console.width = 400
    made = Table(box=None, pad_edge=False, header_style="bold" if wants_color() else "")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    with console.capture() as capture:
        console.print(made)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
