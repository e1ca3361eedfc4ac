"""The library step: compile and link the model for one target."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.build.recipe import BuildRecipe
from argosy.build.steps import BuildStep
from argosy.dist.cpu_features import host_features
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
    formats = {name: fmt.name for name, fmt in recipe.plan.formats.items()} | {"": recipe.plan.plain.name}
    return library_key(
        spec_digest=recipe.spec.digest(), formats=formats, bounds=dataclasses.asdict(recipe.bounds),
        target={"name": target, "activations": recipe.activations, "kv": recipe.kv, "machine": _machine(target)},
    )  # fmt: skip


def _machine(target: str) -> list[str]:
    """What a target derives its instructions from, read without LLVM so that a build with nothing to do is quick."""
    from argosy.compiler.targets.cpu.processors import PROCESSORS

    if target == "webgpu":
        return []
    if target in PROCESSORS:  # its row is among the sources of the compiler
        return [platform.system(), platform.machine()]
    model = ""
    with contextlib.suppress(OSError):
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((row.partition(":")[2].strip() for row in rows if row.startswith("model name")), "")
    return [platform.platform(), platform.processor(), model, *sorted(host_features() or ())]


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
    from argosy.compiler.targets import prepare_linking, target_named
    from argosy.quant.convert import expected_tensors

    started = time.perf_counter()
    for other in recipe.targets:  # a machine without a linker should say so before it compiles, not after
        prepare_linking(other, progress)
    preparing = time.perf_counter() - started
    target = target_named(name, recipe.activations, recipe.kv, recipe.scheme.name)
    dump = request.debug_dump
    if dump is not None and len(recipe.targets) > 1:
        dump = dump / name
    progress.report("load the compiler", 1, 1)
    path = directory.library_path(name, target.library_suffix)
    library = compile_library(
        recipe.spec, recipe.plan.formats, recipe.plan.plain, target, recipe.bounds, path,
        quantization=recipe.scheme.name, argosy_version=argosy_version(), abi=ABI, progress=progress,
        debug_dump=dump,
    )  # fmt: skip
    layout = weights_layout(expected_tensors(recipe.parameters, recipe.plan))
    assert library.metadata["weights_layout"] == layout, "compiler and converter disagree on the tensors"
    made_for = LibraryTarget(target.name, target.triple, target.cpu, target.features, target.device)
    directory.publish_library(path, made_for, key=key, weights_layout=layout, spec_digest=recipe.spec.digest())
    return {"prepare linking": preparing, **library.seconds}
