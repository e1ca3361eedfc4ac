"""List what `argosy list` shows: models, targets, schemes, families and artefacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from argosy.dist.manifest import read_manifest
from argosy.dist.removal import size_on_disk
from argosy.dist.store import known_artefacts
from argosy.support.errors import ArtefactError

ListingRow: TypeAlias = dict[str, object]
"""Column -> value, ready for JSON."""


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
    row: ListingRow = {"name": path.name, "directory": str(path.absolute()), "bytes": size_on_disk(path)}
    try:
        manifest = read_manifest(path)
    except ArtefactError as error:
        return row | {"summary": error.message}
    targets = list(manifest.libraries)
    chosen = "".join(f", {name} {value}" for name, value in (manifest.options or {}).items())
    return row | {
        "summary": f"{manifest.model} as {manifest.quantization}{chosen}, for {', '.join(targets) or 'nothing yet'}",
        "model": manifest.model, "quantization": manifest.quantization, "targets": targets, "options": manifest.options,
    }  # fmt: skip


def total_bytes(rows: Iterable[ListingRow]) -> int:
    """Return the bytes of all artefacts in `rows`."""
    return sum(size for row in rows if isinstance(size := row.get("bytes"), int))


KINDS: dict[str, Callable[[], list[ListingRow]]] = {
    "models": models, "targets": targets, "schemes": schemes, "families": families, "artefacts": artefacts,
}  # fmt: skip


def kind_named(word: str) -> str:
    """Return the key of `KINDS` that a word means, in the singular and in American spelling too; else the word."""
    spelled = word.lower().replace("artifact", "artefact")
    plural = {"family": "families", "quantization": "schemes", "quantizations": "schemes"}.get(spelled, f"{spelled}s")
    return next((kind for kind in (spelled, plural) if kind in KINDS), word)
