"""Find the artefact that a command line names, or build it first."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from argosy.cli import console
from argosy.support.errors import ArtefactError
from argosy.support.text import one_line

CHECKPOINTS = "a Hugging Face id such as Qwen/Qwen3-0.6B, a directory, a .gguf file, or one of `argosy list models`"


def artefact_for(model: str, builds: bool) -> Path:
    """Return the directory of the artefact that `model` names, and build it if there is none.

    It is built if `builds` is true, or if the user at the terminal agrees. Raises ArgosyError.
    """
    from argosy.dist.store import NotBuiltError, find_artefact

    try:
        found = find_artefact(model)
        if builds and not os.path.lexists(found):
            raise ArtefactError(f"there is no model `{one_line(model, 200)}`", f"give {CHECKPOINTS}")
        return found
    except NotBuiltError as error:
        if not builds and not _agrees(error):
            both = shlex.join(["argosy", "run", model])
            raise ArtefactError(error.message, f"{error.hint} builds it; {both} builds it and chats") from None
        return _build(error.model)
    except ArtefactError as error:
        if builds and (error.hint or "").startswith("one of: "):
            raise ArtefactError(error.message, f"to build one, give {CHECKPOINTS}") from None
        raise


def _agrees(error: Exception) -> bool:
    """Ask the user whether to build now, if there is one."""
    if not (console.is_terminal(sys.stdin) and console.is_terminal(sys.stderr)):
        return False
    console.say(f"{console.one_visible_line(str(getattr(error, 'message', error)))}; this would build it:")
    console.say("  ", console.styled(console.one_visible_line(str(getattr(error, "hint", ""))), bold=True))
    return click.confirm("build it now?", default=True, err=True)


def _build(model: str) -> Path:
    from argosy.cli.stages import build_stages
    from argosy.dist.catalogue import scheme_for
    from argosy.support.text import human_time

    report = build_stages(("weights", "config", "library"), model=model, quantization=scheme_for(model, "cpu"))
    where = shlex.quote(str(report.directory))
    console.say(f"built {where} in {human_time(report.seconds)}")
    return report.directory
