"""`argosy run`: build a model if that is needed, and chat with it."""

from __future__ import annotations

from typing import Any

import click

from argosy.cli.base import command as argosy_command
from argosy.cli.chat import chat, chat_options


@argosy_command(
    "run",
    examples=[
        "argosy run smollm2-135m",
        'argosy run ./Qwen3-0.6B "Why is the sky blue?"',
    ],
)
@chat_options
@click.pass_context
def command(ctx: click.Context, **choices: Any) -> None:
    """Build a model if it is not built yet, and chat with it.

    This is `argosy chat` without its question: a checkpoint is built in the default scheme, for this machine.
    """
    chat(ctx, builds=True, **choices)
