"""Load a compiled library and the weights it computes with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from argosy.dist.artefact import Artefact, LibraryMetadata
from argosy.dist.tvm_bridge import StoredParams
from argosy.runtime_bindings.engine.packed_cache import PackedCache
from argosy.runtime_bindings.engine.packing import pack, packing_recipe
from argosy.runtime_bindings.engine.tvm_runtime import load_tvm
from argosy.support.errors import ArtefactError


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded library: its virtual machine, what its `_metadata` says, its file's name and the target it is for."""

    machine: Any
    device: Any
    metadata: LibraryMetadata
    file: str
    target: str


def load_library(artefact: Artefact, target: str | None = None) -> Library:
    """Loads the library for `target`, or the fastest that this machine can run. ArtefactError where none runs here."""
    record = artefact.library(target)
    path = artefact.library_path(record)
    tvm = load_tvm()
    device = tvm.cpu()
    try:
        machine = tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(str(path)), device)
        text = str(machine["_metadata"]())
    except (ValueError, RuntimeError, OSError, AttributeError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        hint = artefact.rebuild_hint(record.target.name)
        raise ArtefactError(f"`{path}` cannot be loaded as a library: {reason}", hint) from error
    return Library(machine, device, artefact.check_metadata(record, text), record.file, record.target.name)


def load_weights(
    artefact: Artefact, library: Library, cache_packed: bool = False, warn: Callable[[str], None] = warnings.warn
) -> list[Any]:
    """The weights as TVM tensors, every byte checked, in the layout and the order in which the library takes them.

    `cache_packed`: what had to be packed is kept beside the artefact, and mapped at the next load. Where that cannot
    be, `warn` hears why.
    """
    recipe = packing_recipe(library.machine)
    cache = None
    if cache_packed and recipe is not None and artefact.manifest is not None:
        record = artefact.manifest.libraries[library.target]
        cache = PackedCache(artefact, record, recipe, library.metadata.params)
        kept = cache.load()
        if kept is not None:
            return kept
    stored = StoredParams(artefact.load_params(), library.metadata.params, artefact.rebuild_hint())
    weights = pack(library.machine, stored, stored.release)
    if cache is not None:
        problem = cache.save(weights)
        if problem is not None:
            warn(problem)
    return weights
