"""`argosy ps`: say that nothing runs in the background."""

from __future__ import annotations

from argosy.cli import console
from argosy.cli.base import command as argosy_command
from argosy.cli.base import json_option


@argosy_command("ps", examples=["argosy ps"])
@json_option
def command(as_json: bool) -> None:
    """List the models that are loaded: none, because nothing runs in the background.

    A model is loaded for as long as `argosy chat` or `argosy web` runs.
    """
    if as_json:
        console.data_json([])
    else:
        console.say("nothing runs in the background: a model is loaded for as long as argosy chat or argosy web runs")
