"""Find the directory of an artefact by its name."""

from __future__ import annotations

from pathlib import Path

from argosy.dist.artefact import list_artefacts
from argosy.dist.catalogue import CATALOGUE
from argosy.dist.naming import build_command, model_slug, output_root
from argosy.support.errors import ArtefactError
from argosy.support.text import did_you_mean


def find_artefact(name: str, target: str = "cpu") -> Path:
    """Return the artefact called `name`: a directory, or the name of an artefact or a model below the output root.

    Raises ArtefactError; its hint is the command that builds the artefact for `target` if there is none, and the choice
    if there are several.
    """
    path = Path(name).expanduser()
    if path.is_dir() or "/" in name or name in (".", ".."):
        return path  # opening it reports whether it is a sound artefact
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
