"""Build an artefact directory from a checkpoint: weights, config, and one library for each target.

    prepare -> weights -> config -> library, once for each target

`prepare` reads headers only and finds every mistake that can be found before work starts. The steps write files; a step
whose inputs have not changed is skipped. The directory's manifest records a step once its files are complete.

The package itself can be called: `argosy.build("smollm2-135m")` is `build_model("smollm2-135m")`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from argosy.build.call import request_for, shown_progress
from argosy.build.config import CONFIG
from argosy.build.library import library_step
from argosy.build.recipe import BuildRecipe, prepare
from argosy.build.request import ROUNDINGS, STAGES, BuildRequest, Stage
from argosy.build.steps import BuildReport, BuildStep, StageReport, run_step
from argosy.build.variant import difference, merged_options, refusal
from argosy.build.weights import WEIGHTS
from argosy.dist.build_directory import open_build_directory
from argosy.dist.catalogue import DEFAULT_SCHEME, scheme_for
from argosy.dist.manifest import sign_manifest
from argosy.dist.signature import trusted_keys
from argosy.support.progress import Progress

if TYPE_CHECKING:
    from minisign import SecretKey

__all__ = [
    "ROUNDINGS", "STAGES", "BuildRecipe", "BuildReport", "BuildRequest", "BuildStep", "Stage", "StageReport", "build",
    "build_model", "prepare",
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


def build_model(
    model: str | os.PathLike[str],
    *,
    target: str | Sequence[str] = "cpu",
    quantization: str | None = None,
    output: str | os.PathLike[str] | None = None,
    context_window: int | None = None,
    force: bool = False,
    progress: bool | Progress = True,
    **options: Any,
) -> BuildReport:
    """Build an artefact as `argosy build` does, and report what was done; the report stands for its directory.

    `model` is a name of the catalogue, a Hugging Face id, or the path of a checkpoint; `target` one target or several.
    `output` is by default a directory in which the artefact is found by name. `options` are the other fields of
    `BuildRequest`. Without `quantization` the scheme is q4f16_1, and for the demo model on CPUs keep. Progress appears
    on stderr unless `progress` is false, or goes to an object with a method `report`.

    Raises ArgosyError for what cannot be built.
    """
    if quantization is None:
        on_cpu = target in ("cpu", ["cpu"], ("cpu",))
        quantization = scheme_for(model, "cpu") if isinstance(model, str) and on_cpu else DEFAULT_SCHEME
    request = request_for(
        model, target, output,
        {"quantization": quantization, "context_window": context_window, "force": force, **options},
    )  # fmt: skip
    with shown_progress(progress) as shown:
        return build(request, shown)


class _CallablePackage(ModuleType):
    """This package, which is a function as well: `argosy.build` is both to those who type it."""

    def __call__(self, *arguments: Any, **options: Any) -> BuildReport:
        return build_model(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
