"""`argosy serve`: name what serves models today."""

from __future__ import annotations

import shlex

import click

from argosy.cli.base import command as argosy_command
from argosy.support.errors import ArgosyError


@argosy_command("serve", examples=["argosy serve smollm2-135m"])
@click.argument("model", required=False, metavar="[MODEL]")
def command(model: str | None) -> None:
    """Say what there is in place of an HTTP server, which argosy does not have yet.

    `argosy web` serves a chat page, with the model running in the browser, and `argosy.ChatModule` answers from Python.
    """
    name = model or "MODEL"
    page = shlex.join(["argosy", "web", name])
    raise ArgosyError(
        "argosy has no HTTP server for models yet",
        f"`{page}` serves a chat page to this machine's browser; from Python, argosy.ChatModule({name!r}) answers",
    )
