"""Weights as an artefact stores them go in; weights as a library reads them come out.

A library that wants another layout exports `_packing() -> JSON` and the functions that it names (compiler pass
LiftPacking). One matrix is packed after the other, each by all threads.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from argosy.runtime_bindings.engine.arena import Arena, padded
from argosy.support.layout import TensorInfo

RECIPE = "_packing"


@dataclass(frozen=True, slots=True)
class PackingStep:
    """One call of `function` on the stored tensors `inputs`; it fills tensors of `outputs`: (place, shape, dtype)."""

    function: str
    inputs: tuple[int, ...]
    outputs: tuple[tuple[int, tuple[int, ...], str], ...]


@dataclass(frozen=True, slots=True)
class PackingRecipe:
    """How a library's weights are packed. `kept`: (place before, place after) of tensors that stay as they are."""

    kept: tuple[tuple[int, int], ...]
    steps: tuple[PackingStep, ...]

    def parameters(self, stored: Sequence[TensorInfo]) -> list[TensorInfo]:
        """What comes out, in order, of what is `stored`; a packed tensor is named after its place."""
        places = {after: stored[before][1:] for before, after in self.kept}
        places |= {place: (shape, dtype) for step in self.steps for place, shape, dtype in step.outputs}
        return [(f"packed.{place}", *places[place]) for place in sorted(places)]


def packing_recipe(machine: Any) -> PackingRecipe | None:
    """The recipe of a library, or None if it reads weights as they are stored."""
    if not machine.module.implements_function(RECIPE):
        return None
    told = json.loads(str(machine[RECIPE]()))
    steps = tuple(
        PackingStep(
            step["function"],
            tuple(step["inputs"]),
            tuple((out["index"], tuple(out["shape"]), out["dtype"]) for out in step["outputs"]),
        )
        for step in told["steps"]
    )
    return PackingRecipe(tuple((before, after) for before, after in told["kept"]), steps)


def pack(machine: Any, tensors: Sequence[Any], done: Callable[[int], None] = lambda index: None) -> list[Any]:
    """`tensors` in the library's layout and order.

    Each is looked up where it is needed and not held; `done` hears the index of each that is needed no longer, so that
    hardly more than one copy of the weights and one matrix is ever in memory.
    """
    recipe = packing_recipe(machine)
    if recipe is None:
        return list(tensors)
    places = [(shape, dtype) for step in recipe.steps for _, shape, dtype in step.outputs]
    arena = Arena(sum(padded(*place) for place in places))
    packed: dict[int, Any] = {after: tensors[before] for before, after in recipe.kept}
    uses = Counter(index for step in recipe.steps for index in step.inputs) + Counter(b for b, _ in recipe.kept)
    for step in recipe.steps:
        function = machine.module.get_function(step.function, query_imports=True)
        outputs = {place: arena.empty(shape, dtype) for place, shape, dtype in step.outputs}
        function(*(tensors[index] for index in step.inputs), *outputs.values())
        packed |= outputs
        for index in step.inputs:
            uses[index] -= 1
            if not uses[index]:
                done(index)
    return [packed[place] for place in range(len(packed))]
