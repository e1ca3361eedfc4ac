"""`argosy list`: list models, targets, schemes, families and artefacts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from argosy.cli import console
from argosy.cli.base import Choice, json_option
from argosy.cli.base import command as argosy_command


def _kinds() -> Iterable[str]:
    from argosy.listing import KINDS

    return KINDS


class Kind(Choice):
    """A kind of things to list; `artifacts` and singulars are understood."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from argosy.listing import kind_named

        return super().convert(kind_named(str(value)), param, ctx)


@argosy_command("list", examples=["argosy list", "argosy list schemes", "argosy list artefacts --json"])
@click.argument(
    "kind", required=False, type=Kind("kind", _kinds), metavar="[models|targets|schemes|families|artefacts]"
)
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """List models, targets, quantization schemes, model families or artefacts; without KIND, all of them."""
    show(kind, as_json)


def show(kind: str | None, as_json: bool) -> None:
    """Print what there is of a kind, or of all kinds."""
    from argosy.listing import KINDS

    found = {name: KINDS[name]() for name in ([kind] if kind else KINDS)}
    if as_json:
        console.data_json(found[kind] if kind else found)
        return
    for number, (name, rows) in enumerate(found.items()):
        if not kind:
            console.data("\n" if number else "", console.styled(name, bold=True))
        if name == "artefacts":
            _show_artefacts(rows)
        else:
            console.table(("name", "summary"), ((str(row["name"]), str(row["summary"])) for row in rows))


def _show_artefacts(rows: list[dict[str, object]]) -> None:
    from argosy.listing import total_bytes
    from argosy.support.text import human_size

    if not rows:
        console.data("none yet")
        console.say("hint: argosy run smollm2-135m builds one and chats with it")
        return
    names = [str(row["name"]) for row in rows]
    lines = [
        (
            name if names.count(name) == 1 else str(row["directory"]),
            human_size(total_bytes([row])),
            str(row["summary"]),
        )
        for name, row in zip(names, rows, strict=True)
    ]
    if len(rows) > 1:
        lines.append(("total", human_size(total_bytes(rows)), ""))
    console.table(("name", "size", "summary"), lines)
