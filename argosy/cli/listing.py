"""`argosy list`: list models, targets, schemes, families and artefacts."""

from __future__ import annotations

from collections.abc import Iterable

import click

from argosy.cli import console
from argosy.cli.base import Choice, json_option
from argosy.cli.base import command as argosy_command


def _kinds() -> Iterable[str]:
    from argosy.listing import KINDS

    return KINDS


@argosy_command("list", examples=["argosy list", "argosy list schemes", "argosy list artefacts --json"])
@click.argument(
    "kind", required=False, type=Choice("kind", _kinds), metavar="[models|targets|schemes|families|artefacts]"
)
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """List models, targets, quantization schemes, model families or artefacts; without KIND, all of them."""
    from argosy.listing import KINDS

    found = {name: KINDS[name]() for name in ([kind] if kind else KINDS)}
    if as_json:
        console.data_json(found[kind] if kind else found)
        return
    for number, (name, rows) in enumerate(found.items()):
        if not kind:
            console.data("\n" if number else "", console.styled(name, bold=True))
        if rows:
            console.table(list(rows[0]), ([*row.values()] for row in rows))
        else:
            console.data("none yet" if name == "artefacts" else "none")
