"""`argosy help`: show the help page of a command."""

from __future__ import annotations

import click

from argosy.cli import console
from argosy.cli.base import command as argosy_command


@argosy_command("help", examples=["argosy help", "argosy help chat"])
@click.argument("name", required=False, metavar="[COMMAND]")
@click.pass_context
def command(ctx: click.Context, name: str | None) -> None:
    """Show the help page of COMMAND, or the list of commands."""
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)
    if name is None:
        console.data(root.get_help())
        return
    _, found, _ = group.resolve_command(root, [name])
    assert found is not None
    console.data(click.Context(found, info_name=found.name, parent=root).get_help())
