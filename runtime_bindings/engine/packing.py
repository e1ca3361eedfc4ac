"""Weights as an artefact stores them go in; weights as a library reads them come out, packed one tensor after the other.

A library that wants another layout exports `_packing() -> JSON` and the functions that it names (compiler pass LiftPacking).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from argosy.runtime_bindings.engine.tvm_runtime import load_tvm

RECIPE = "_packing"


def packing_recipe(machine: Any) -> dict[str, Any] | None:
    """The recipe of a library, or None if it reads weights as they are stored."""
    if not machine.module.implements_function(RECIPE):
        return None
    return json.loads(str(machine[RECIPE]()))


def pack(machine: Any, tensors: Sequence[Any], done: Callable[[Any], None] = lambda tensor: None) -> list[Any]:
    """`tensors` in the library's layout and order; `done` hears of each tensor that is needed no longer."""
    recipe = packing_recipe(machine)
    if recipe is None:
        return list(tensors)
    tvm = load_tvm()
    total = len(recipe["kept"]) + sum(len(step["outputs"]) for step in recipe["steps"])
    packed: list[Any] = [None] * total
    for before, after in recipe["kept"]:
        packed[after] = tensors[before]
    for step in recipe["steps"]:
        function = machine.module.get_function(step["function"], query_imports=True)
        outputs = [tvm.runtime.empty(tuple(out["shape"]), out["dtype"]) for out in step["outputs"]]
        inputs = [tensors[index] for index in step["inputs"]]
        function(*inputs, *outputs)
        for out, tensor in zip(step["outputs"], outputs, strict=True):
            packed[out["index"]] = tensor
        for tensor in inputs:
            done(tensor)
    return packed
