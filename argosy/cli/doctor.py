"""`argosy doctor`: report what works on this machine and what is missing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from argosy.cli import console
from argosy.cli.base import command as argosy_command
from argosy.cli.base import json_option

if TYPE_CHECKING:
    from argosy.support.checks import Check


@argosy_command("doctor", examples=["argosy doctor", "argosy doctor --json"])
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what works on this machine, and how to install what is missing.

    Exits with 1 if models cannot be built or cannot be run.
    """
    from argosy.doctor import examine, works

    checks = examine()
    running, building = works(checks, "running"), works(checks, "building")
    if as_json:
        rows = [dataclasses.asdict(check) for check in checks]
        console.data_json({"running": running, "building": building, "checks": rows})
    else:
        for check in checks:
            console.data(*_line(check))
        can = "built and run" if building else "run but not built" if running else "neither built nor run"
        console.data(f"\nmodels can be {can} on this machine")
    ctx.exit(0 if building else 1)


def _line(check: Check) -> list[str | console.Styled]:
    color = "green" if check.ok else "yellow" if check.needed_for == "nothing" else "red"
    word = "ok" if check.ok else "absent" if check.needed_for == "nothing" else "missing"
    line: list[str | console.Styled] = [console.styled(f"{word:<8}", fg=color), f" {check.name:<16} {check.detail}"]
    if check.ok or check.remedy is None:
        return line
    return [*line, f"\n{'':<25} ", console.styled(check.remedy, bold=True)]
