"""`argosy rm`: remove artefacts."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from argosy.cli import console
from argosy.cli.base import ModelName, json_option
from argosy.cli.base import command as argosy_command
from argosy.support.errors import UsageError


@argosy_command("rm", examples=["argosy rm smollm2-135m-q4f16_1", "argosy rm smollm2-135m --yes"])
@click.argument("names", type=ModelName(), metavar="NAME...", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def command(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove artefacts, and say how much disk space that frees.

    NAME is a name of `argosy ls` or an artefact's directory. Checkpoints are never removed, nor files that argosy did
    not write.
    """
    from argosy.dist.removal import Removal, plan_removal, remove
    from argosy.support.text import human_size

    plans: dict[Path, Removal] = {}
    for name in names:
        plan = plan_removal(name)
        plans.setdefault(plan.directory.resolve(), plan)
    total = sum(plan.bytes for plan in plans.values())
    if not yes and not _agrees([f"{plan.directory} ({human_size(plan.bytes)})" for plan in plans.values()]):
        console.say("nothing was removed")
        return
    removed = []
    for plan in plans.values():
        kept = remove(plan)
        removed.append({"directory": str(plan.directory), "bytes": plan.bytes, "kept": kept})
        if not as_json:
            console.data(f"removed {plan.directory}, {human_size(plan.bytes)} freed")
        if kept:
            console.say(f"note: argosy did not write these in `{plan.directory}`, so they stay: {', '.join(kept[:5])}")
    if as_json:
        console.data_json({"removed": removed, "bytes": total})
    elif len(plans) > 1:
        console.data(f"{human_size(total)} freed in all")


def _agrees(what: list[str]) -> bool:
    """Ask whether to remove these directories. Raises UsageError where nobody can answer."""
    if not (console.is_terminal(sys.stdin) and console.is_terminal(sys.stderr)):
        raise UsageError("`argosy rm` asks before it removes, and there is no terminal", "--yes removes without asking")
    for line in what:
        console.say("  ", line)
    return click.confirm("remove this?" if len(what) == 1 else "remove these?", default=False, err=True)
