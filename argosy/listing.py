"""What there is to choose from: a kind of thing goes in, rows of text come out, ready for a table or for JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from argosy.dist.artefact import list_artefacts
from argosy.dist.manifest import read_manifest
from argosy.dist.naming import output_root
from argosy.support.errors import ArtefactError
from argosy.support.text import human_size

Row = dict[str, str]


def models() -> list[Row]:
    """Models that have a name of their own; everything else is named by its path or its Hugging Face id."""
    from argosy.dist.catalogue import CATALOGUE

    return [{"name": entry.name, "summary": entry.summary} for entry in CATALOGUE.values()]


def targets() -> list[Row]:
    """What `--target` takes."""
    from argosy.compiler.targets import TARGETS

    return [{"name": entry.name, "summary": entry.summary} for entry in TARGETS.values()]


def schemes() -> list[Row]:
    """What `--quantization` takes."""
    from argosy.quant.scheme import SCHEMES

    return [{"name": scheme.name, "summary": scheme.summary} for scheme in SCHEMES.values()]


def families() -> list[Row]:
    """The architectures, by the `model_type` that a `config.json` names."""
    from argosy.model_defs.families import FAMILIES

    return [{"name": name, "summary": family.notice or ""} for name, family in sorted(FAMILIES.items())]


def artefacts() -> list[Row]:
    """What was built below the output root."""
    return [_artefact(path) for path in list_artefacts(output_root())]


def _artefact(path: Path) -> Row:
    """One directory; a manifest that cannot be read is shown as such, for the list must not end there."""
    size = human_size(sum(file.stat().st_size for file in path.iterdir() if file.is_file()))
    try:
        manifest = read_manifest(path)
    except ArtefactError as error:
        return {"name": str(path), "size": size, "summary": error.message}
    libraries = ", ".join(manifest.libraries) or "nothing yet"
    return {"name": str(path), "size": size, "summary": f"{manifest.model} as {manifest.quantization}, for {libraries}"}


KINDS: dict[str, Callable[[], list[Row]]] = {
    "models": models, "targets": targets, "schemes": schemes, "families": families, "artefacts": artefacts,
}  # fmt: skip
