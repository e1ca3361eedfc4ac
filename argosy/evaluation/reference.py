"""Find the unquantized artefact of the same checkpoint, or build it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from argosy.build import BuildRequest, build, prepare
from argosy.dist.artefact import Artefact, open_artefact
from argosy.dist.naming import artefact_roots
from argosy.dist.store import known_artefacts
from argosy.support.errors import ArgosyError, ArtefactError, UsageError
from argosy.support.progress import Progress, Unit

UNQUANTIZED = "q0f32"


def reference_for(artefact: Artefact, progress: Progress) -> Artefact:
    """Return the `q0f32` artefact of the checkpoint of `artefact`, from beside it or where artefacts are found by name.

    If there is none, it is built below the output root. Raises ArgosyError if that fails.
    """
    if artefact.manifest is None:
        sentence = f"`{artefact.directory}` does not say which checkpoint it was made from"
        raise ArtefactError(sentence, "name an unquantized artefact with `--reference`")
    digest = artefact.manifest.checkpoint_digest
    for directory in known_artefacts([artefact.directory.resolve().parent, *artefact_roots()]):
        found = _usable(directory, digest)
        if found is not None:
            return found
    return _build(artefact.manifest.model, digest, progress)


def _usable(directory: Path, digest: str) -> Artefact | None:
    """Return the artefact in `directory` if it is a complete reference that runs here."""
    try:
        found = open_artefact(directory)
        found.library()
    except ArgosyError:
        return None
    manifest = found.manifest
    assert manifest is not None
    return found if (manifest.checkpoint_digest, manifest.quantization) == (digest, UNQUANTIZED) else None


def _build(model: str, digest: str, progress: Progress) -> Artefact:
    """Build `model` without quantization; its checkpoint must still have this digest."""
    request = BuildRequest(model=model, quantization=UNQUANTIZED, kv="f32")
    if prepare(request).digest != digest:
        raise UsageError(
            f"`{model}` is no longer the checkpoint that the artefact was built from",
            "build the artefact again, or name an unquantized one with `--reference`",
        )
    return open_artefact(build(request, _ForReference(progress)).directory)


@dataclass(frozen=True, slots=True)
class _ForReference:
    """A progress whose stages are marked as the reference's."""

    progress: Progress

    def report(self, stage: str, done: int, total: int, unit: Unit = "steps") -> None:
        self.progress.report(f"reference: {stage}", done, total, unit)
