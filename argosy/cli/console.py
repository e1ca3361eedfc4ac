"""Print data to stdout and messages to stderr, with colours only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from argosy.support import env


def say(text: str = "") -> None:
    """Print a message to stderr."""
    click.echo(text, err=True)


def data(text: str) -> None:
    """Print a line of data to stdout."""
    click.echo(text)


def data_json(value: object) -> None:
    """Print a JSON document to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


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


def styled(text: str, **style: Any) -> str:
    """Apply `click.style` to `text`, unless colours are off."""
    return click.style(text, **style) if _Colors.wanted else text


def is_terminal() -> bool:
    """Return whether stdin is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns to stdout; long cells are folded only on a terminal."""
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
