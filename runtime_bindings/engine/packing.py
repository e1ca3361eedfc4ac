"""Bring weights from the layout in which an artefact stores them into the one that a library reads.

A library that reads another layout exports `_packing() -> JSON` and the functions named there (compiler pass
LiftPacking). Matrices are packed one after another, each by all threads.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from argosy.runtime_bindings.engine.arena import padded
from argosy.runtime_bindings.engine.device import Device, open_device
from argosy.support.layout import TensorInfo

RECIPE = "_packing"


@dataclass(frozen=True, slots=True)
class PackingStep:
    """One call of `function` on the stored tensors `inputs`, which fills the tensors `outputs`: (place, shape,
    dtype)."""

    function: str
    inputs: tuple[int, ...]
    outputs: tuple[tuple[int, tuple[int, ...], str], ...]


@dataclass(frozen=True, slots=True)
class PackingRecipe:
    """How a library's weights are packed. `kept`: (place before, place after) of tensors that stay as they are."""

    kept: tuple[tuple[int, int], ...]
    steps: tuple[PackingStep, ...]

    def parameters(self, stored: Sequence[TensorInfo]) -> list[TensorInfo]:
        """List the packed tensors made from `stored`, in order; each is named after its place."""
        places = {after: stored[before][1:] for before, after in self.kept}
        places |= {place: (shape, dtype) for step in self.steps for place, shape, dtype in step.outputs}
        return [(f"packed.{place}", *places[place]) for place in sorted(places)]


def packing_recipe(machine: Any) -> PackingRecipe | None:
    """Return the recipe of a library, or None if it reads weights as they are stored."""
    if not machine.module.implements_function(RECIPE):
        return None
    recipe = json.loads(str(machine[RECIPE]()))
    steps = tuple(
        PackingStep(
            step["function"],
            tuple(step["inputs"]),
            tuple((out["index"], tuple(out["shape"]), out["dtype"]) for out in step["outputs"]),
        )
        for step in recipe["steps"]
    )
    return PackingRecipe(tuple((before, after) for before, after in recipe["kept"]), steps)


def pack(
    machine: Any,
    tensors: Sequence[Any],
    done: Callable[[int], None] = lambda index: None,
    device: Device | None = None,
) -> list[Any]:
    """Return `tensors`, which lie in host memory, in the library's layout and order, on `device` (default: the CPU).

    A tensor is looked up when it is needed, and `done` is called with its index when it is needed no longer, so that
    little more than one copy of the weights and one matrix is in memory at any time.
    """
    device = device or open_device("cpu")
    recipe = packing_recipe(machine)
    if recipe is None:
        return [device.place(tensor) for tensor in tensors]
    outputs = [(shape, dtype) for step in recipe.steps for _, shape, dtype in step.outputs]
    memory = device.reserve(sum(padded(shape, dtype) for shape, dtype in outputs))
    packed: dict[int, Any] = {after: device.place(tensors[before]) for before, after in recipe.kept}
    uses = Counter(index for step in recipe.steps for index in step.inputs) + Counter(b for b, _ in recipe.kept)
    for step in recipe.steps:
        function = machine.module.get_function(step.function, query_imports=True)
        filled = {place: memory.empty(shape, dtype) for place, shape, dtype in step.outputs}
        function(*(device.place(tensors[index]) for index in step.inputs), *filled.values())
        packed |= filled
        for index in step.inputs:
            uses[index] -= 1
            if not uses[index]:
                done(index)
    return [packed[place] for place in range(len(packed))]
