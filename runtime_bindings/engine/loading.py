"""Load a compiled library and the weights it computes with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from argosy.dist.artefact import Artefact, LibraryMetadata
from argosy.dist.tvm_bridge import StoredParams
from argosy.runtime_bindings.engine.device import Device, open_device
from argosy.runtime_bindings.engine.packed_cache import PackedCache
from argosy.runtime_bindings.engine.packing import pack, packing_recipe
from argosy.runtime_bindings.engine.tvm_runtime import load_tvm
from argosy.support.errors import ArtefactError
from argosy.support.text import one_line


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded library: its virtual machine on a device, its `_metadata`, its file name and its target."""

    machine: Any
    device: Device
    metadata: LibraryMetadata
    file: str
    target: str


def load_library(artefact: Artefact, target: str | None = None, device_name: str = "cpu") -> Library:
    """Load the library for `target`, by default the fastest one for the device `device_name`.

    Raises TargetError for a device that this runtime does not drive, and ArtefactError if no library runs on it.
    """
    device = open_device(device_name)
    record = artefact.library(target, device_name)
    path = artefact.library_path(record)
    tvm = load_tvm()
    try:
        with artefact.verified_library(record) as copy:
            machine = tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(str(copy)), device.handle)
        text = str(machine["_metadata"]())
    except (ValueError, RuntimeError, OSError, AttributeError) as error:
        reason = one_line(str(error).strip().split("\n", 1)[0], 200)
        hint = artefact.rebuild_hint(record.target.name)
        raise ArtefactError(f"`{path}` cannot be loaded as a library: {reason}", hint) from error
    return Library(machine, device, artefact.check_metadata(record, text), record.file, record.target.name)


def load_weights(
    artefact: Artefact, library: Library, cache_packed: bool = False, warn: Callable[[str], None] = warnings.warn
) -> list[Any]:
    """Load the weights as tensors of the library's device, in the library's layout and order. Every byte is checked.

    With `cache_packed`, weights that had to be packed are kept beside the artefact and mapped at the next load. If
    they cannot be kept, `warn` is called with the reason.
    """
    device = library.device
    recipe = packing_recipe(library.machine)
    cache = None
    if cache_packed and recipe is not None and artefact.manifest is not None:
        record = artefact.manifest.libraries[library.target]
        cache = PackedCache(artefact, record, recipe, library.metadata.params)
        kept = cache.load()
        if kept is not None:
            return [device.place(tensor) for tensor in kept]
    stored = StoredParams(artefact.load_params(), library.metadata.params, artefact.rebuild_hint())
    weights = pack(library.machine, stored, stored.release, device)
    if cache is not None:
        problem = cache.save([device.read(tensor) for tensor in weights])
        if problem is not None:
            warn(problem)
    return weights
