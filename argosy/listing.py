"""List what `argosy list` shows: models, targets, schemes, families and artefacts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from argosy.dist.manifest import read_manifest
from argosy.dist.store import known_artefacts
from argosy.support.errors import ArtefactError
from argosy.support.text import human_size

ListingRow: TypeAlias = dict[str, str]
"""Column -> text, ready for a table or for JSON."""


def models() -> list[ListingRow]:
    """List the models that have a name; any other is given by its path or its Hugging Face id."""
    from argosy.dist.catalogue import CATALOGUE

    return [{"name": entry.name, "summary": entry.summary} for entry in CATALOGUE.values()]


def targets() -> list[ListingRow]:
    """List the values of `--target`."""
    from argosy.compiler.targets import TARGETS

    return [{"name": entry.name, "summary": entry.summary} for entry in TARGETS.values()]


def schemes() -> list[ListingRow]:
    """List the values of `--quantization`."""
    from argosy.quant.scheme import SCHEMES

    return [{"name": scheme.name, "summary": scheme.summary} for scheme in SCHEMES.values()]


def families() -> list[ListingRow]:
    """List the architectures by the `model_type` in their `config.json`."""
    from argosy.model_defs.families import FAMILIES

    return [{"name": name, "summary": family.notice or ""} for name, family in sorted(FAMILIES.items())]


def artefacts() -> list[ListingRow]:
    """List the artefacts that are found by name."""
    return [_artefact(path) for path in known_artefacts()]


def _artefact(path: Path) -> ListingRow:
    """Describe an artefact directory; of a manifest that cannot be read, show the error."""
    size = human_size(sum(file.stat().st_size for file in path.iterdir() if file.is_file()))
    try:
        manifest = read_manifest(path)
    except ArtefactError as error:
        return {"name": str(path), "size": size, "summary": error.message}
    libraries = ", ".join(manifest.libraries) or "nothing yet"
    return {"name": str(path), "size": size, "summary": f"{manifest.model} as {manifest.quantization}, for {libraries}"}


KINDS: dict[str, Callable[[], list[ListingRow]]] = {
    "models": models, "targets": targets, "schemes": schemes, "families": families, "artefacts": artefacts,
}  # fmt: skip
