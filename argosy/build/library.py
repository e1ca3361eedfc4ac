"""The library step: compile and link the model for one target."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from argosy.build.recipe import BuildRecipe
from argosy.build.steps import BuildStep
from argosy.compiler.targets import TARGETS
from argosy.dist.fingerprint import library_key
from argosy.dist.manifest import ABI, LibraryTarget, argosy_version
from argosy.support.layout import weights_layout

if TYPE_CHECKING:
    from argosy.build.request import BuildRequest
    from argosy.dist.build_directory import BuildDirectory
    from argosy.support.progress import Progress


def library_step(target: str) -> BuildStep:
    """Return the step that makes the library for the target called `target`."""
    return BuildStep(
        "library", functools.partial(_key, target), functools.partial(_write, target),
        lambda manifest: manifest.libraries.get(target), target,
    )  # fmt: skip


def _key(target: str, recipe: BuildRecipe) -> str:
    entry = TARGETS[target]
    settings = entry.settings(recipe.scheme.name, recipe.options)
    formats = {name: fmt.name for name, fmt in recipe.plan.formats.items()} | {"": recipe.plan.plain.name}
    return library_key(
        spec_digest=recipe.spec.digest(), formats=formats, bounds=dataclasses.asdict(recipe.bounds),
        target={"name": target, "settings": settings, "machine": entry.machine_key()},
    )  # fmt: skip


def _write(
    name: str,
    recipe: BuildRecipe,
    directory: BuildDirectory,
    key: str,
    request: BuildRequest,
    progress: Progress,
) -> Mapping[str, float]:
    """Compile and link the library for the target called `name`."""
    progress.report("load the compiler", 0, 1)
    from argosy.compiler.build import compile_library
    from argosy.quant.convert import expected_tensors

    started = time.perf_counter()
    for other in recipe.targets:  # fail for want of a linker before compiling, not after
        TARGETS[other].prepare(progress)
    preparing = time.perf_counter() - started
    entry, scheme = TARGETS[name], recipe.scheme.name
    target = entry.resolve(scheme, entry.settings(scheme, recipe.options))
    dump = request.debug_dump
    if dump is not None and len(recipe.targets) > 1:
        dump = dump / name
    progress.report("load the compiler", 1, 1)
    path = directory.library_path(name, target.library_suffix)
    library = compile_library(
        recipe.spec, recipe.plan.formats, recipe.plan.plain, target, recipe.bounds, path,
        quantization=scheme, argosy_version=argosy_version(), abi=ABI, progress=progress,
        debug_dump=dump,
    )  # fmt: skip
    layout = weights_layout(expected_tensors(recipe.parameters, recipe.plan))
    assert library.metadata["weights_layout"] == layout, "compiler and converter disagree on the tensors"
    made_for = LibraryTarget(target.name, target.triple, target.cpu, target.features, target.device)
    directory.publish_library(path, made_for, key=key, weights_layout=layout, spec_digest=recipe.spec.digest())
    return {"prepare linking": preparing, **library.seconds}
