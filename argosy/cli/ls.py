"""`argosy ls`: list what is built."""

from __future__ import annotations

from argosy.cli.base import command as argosy_command
from argosy.cli.base import json_option
from argosy.cli.listing import show


@argosy_command("ls", examples=["argosy ls", "argosy ls --json"])
@json_option
def command(as_json: bool) -> None:
    """List the artefacts that are found by name, with their sizes; the same as `argosy list artefacts`."""
    show("artefacts", as_json)
