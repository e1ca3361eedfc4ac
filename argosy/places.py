"""Finding artefacts: what a person calls one goes in, the directory it was built into comes out."""

from __future__ import annotations

from pathlib import Path

from argosy.dist.artefact import list_artefacts
from argosy.dist.catalogue import CATALOGUE
from argosy.dist.naming import build_command, model_slug, output_root
from argosy.support.errors import ArtefactError
from argosy.support.text import did_you_mean


def find_artefact(name: str, target: str = "cpu") -> Path:
    """The artefact that `name` means: a directory, or an artefact's or a model's name below the output root.

    Raises ArtefactError, with the command that builds it for `target` where it is not there and a choice where there
    are several.
    """
    path = Path(name).expanduser()
    if path.is_dir() or "/" in name or name in (".", ".."):
        return path  # whether it is a sound artefact is the reader's to say
    root = output_root()
    if (root / name).is_dir():
        return root / name
    built = list_artefacts(root)
    slug = model_slug(name)
    of_model = [artefact for artefact in built if slug and artefact.name.rpartition("-")[0] == slug]
    if len(of_model) == 1:
        return of_model[0]
    if of_model:
        raise ArtefactError(
            f"`{name}` is built in several schemes", "choose one: " + ", ".join(str(artefact) for artefact in of_model)
        )
    if name in CATALOGUE:
        raise ArtefactError(f"`{name}` is not built yet", build_command(name, target, "q4f16_1"))
    known = [*(artefact.name for artefact in built), *CATALOGUE]
    raise ArtefactError(f"no artefact `{name}` in `{root}`", did_you_mean(name, known))
