"""`argosy completion`: print what makes a shell complete commands, options and models."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from argosy.cli import console
from argosy.cli.base import command as argosy_command
from argosy.support.errors import UsageError
from argosy.support.text import did_you_mean

SHELLS = ("bash", "zsh", "fish")


@argosy_command(
    "completion",
    examples=[
        "argosy completion bash >> ~/.bashrc",
        "argosy completion zsh >> ~/.zshrc",
        "argosy completion fish > ~/.config/fish/completions/argosy.fish",
    ],
)
@click.argument("shell", required=False, metavar="[bash|zsh|fish]")
@click.pass_context
def command(ctx: click.Context, shell: str | None) -> None:
    """Print a script that makes a shell complete commands, options and models with Tab.

    Without an argument, it is for the shell in the variable SHELL.
    """
    name = shell or Path(os.environ.get("SHELL", "bash")).name
    kind = get_completion_class(name) if name in SHELLS else None
    if kind is None:
        raise UsageError(f"there is no completion for the shell `{name}`", did_you_mean(name, SHELLS))
    console.data(kind(ctx.find_root().command, {}, "argosy", "_ARGOSY_COMPLETE").source())
