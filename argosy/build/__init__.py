"""Build an artefact directory from a checkpoint: weights, config, and one library for each target.

    prepare -> weights -> config -> library, once for each target

`prepare` reads headers only and finds every mistake that can be found before work starts. The steps write files; a step
whose inputs have not changed is skipped. The directory's manifest records a step once its files are complete.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from argosy.build.config import CONFIG
from argosy.build.library import library_step
from argosy.build.recipe import BuildRecipe, prepare
from argosy.build.request import ROUNDINGS, STAGES, BuildRequest, Stage
from argosy.build.steps import BuildReport, BuildStep, StageReport, run_step
from argosy.build.variant import difference, merged_options, refusal
from argosy.build.weights import WEIGHTS
from argosy.dist.build_directory import open_build_directory
from argosy.dist.manifest import sign_manifest
from argosy.dist.signature import trusted_keys
from argosy.support.progress import Progress

if TYPE_CHECKING:
    from minisign import SecretKey

__all__ = [
    "ROUNDINGS", "STAGES", "BuildRecipe", "BuildReport", "BuildRequest", "BuildStep", "Stage", "StageReport", "build",
    "prepare",
]  # fmt: skip


def build(
    request: BuildRequest, progress: Progress, stages: Sequence[Stage] = STAGES, sign_with: SecretKey | None = None
) -> BuildReport:
    """Run those of `stages` that are not up to date, and sign what is complete with the key `sign_with`.

    What is signed was made by this build, or had that signature before. So with ARGOSY_TRUST, what none of its keys has
    signed is made anew. Raises ArgosyError. Stages that are complete by then are kept, and the next build continues
    from them.
    """
    started = time.perf_counter()
    recipe = prepare(request, whole=set(stages) == set(STAGES))
    reports, notes = [], recipe.notes
    keys = trusted_keys() if sign_with is None else (sign_with.get_public_key(),)
    with open_build_directory(
        recipe.directory, model=recipe.name, quantization=recipe.scheme.name, checkpoint_digest=recipe.digest, keys=keys
    ) as directory:
        found = directory.found
        differs = found and difference(found, recipe.name, recipe.digest, recipe.variant, stages, recipe.directory)
        if differs and request.output is None and not request.force:
            raise refusal(differs, recipe.directory)
        notes += (f"{differs}: it was replaced",) if differs else ()
        options = merged_options(found, recipe.variant, stages)
        directory.manifest = dataclasses.replace(directory.manifest, options=options)
        for step in _steps(stages, recipe.targets):
            reports.append(run_step(step, recipe, directory, request, progress))
        manifest = directory.manifest
        complete = None not in (manifest.weights, manifest.config, *map(manifest.libraries.get, recipe.targets))
        if sign_with is not None and complete:
            sign_manifest(recipe.directory, sign_with)
    return BuildReport(
        recipe.directory, recipe.name, recipe.scheme.name, recipe.targets, tuple(reports),
        time.perf_counter() - started, complete, notes,
    )  # fmt: skip


def _steps(stages: Sequence[Stage], targets: Sequence[str]) -> Iterator[BuildStep]:
    """Yield the steps of `stages`, in the order of `STAGES`."""
    if "weights" in stages:
        yield WEIGHTS
    if "config" in stages:
        yield CONFIG
    if "library" in stages:
        yield from map(library_step, targets)
