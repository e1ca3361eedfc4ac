"""Finding artefacts: what a person calls one goes in, the directory it was built into comes out."""

from __future__ import annotations

from pathlib import Path

from argosy.dist.artefact import list_artefacts
from argosy.dist.build_directory import model_slug, output_root
from argosy.support.errors import ArtefactError


def find_artefact(name: str) -> Path:
    """The artefact that `name` means: a directory, or an artefact's or a model's name below the output root.

    Raises ArtefactError, with the command that builds it where it is not there and a choice where there are several.
    """
    path = Path(name).expanduser()
    if path.is_dir() or "/" in name or name in (".", ".."):
        return path  # whether it is a sound artefact is the reader's to say
    root = output_root()
    if (root / name).is_dir():
        return root / name
    built = list_artefacts(root)
    of_model = [artefact for artefact in built if artefact.name.rpartition("-")[0] == model_slug(name)]
    if len(of_model) == 1:
        return of_model[0]
    if of_model:
        raise ArtefactError(
            f"`{name}` is built in several schemes", "choose one: " + ", ".join(str(artefact) for artefact in of_model)
        )
    there = f"; built so far: {', '.join(str(artefact) for artefact in built)}" if built else ""
    raise ArtefactError(f"no artefact `{name}` in `{root}`", f"argosy build --model {name}{there}")
