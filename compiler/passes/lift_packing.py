"""LiftPacking: weights packed in every call go in, functions that take packed weights come out, and how to pack them once.

    decode(x, params): tiles = call_tir(pack, params[0], params[1]); call_tir(linear, x, tiles, params[2])
    ->
    decode(x, packed): call_tir(linear, x, packed[0], packed[1])
    pack (exported), _packing() -> {"kept": [[2, 1]], "steps": [{"function": "pack", "inputs": [0, 1], "outputs": [...]}]}

Whoever loads the library runs the steps one after the other, each with two or three tensors, and forgets what it packed.
"""

from __future__ import annotations

import json

import tvm
from tvm import IRModule, relax

from argosy.compiler.passes.match import Dataflow

PACKING = "_packing"
_TRANSFORM = "transform_params"


def LiftPacking() -> tvm.transform.Pass:
    """The pass. A module in which nothing is packed is left as it is."""

    @tvm.transform.module_pass(opt_level=0, name="LiftPacking")
    def lift(mod: IRModule, _context: tvm.transform.PassContext) -> IRModule:
        if not _packs(mod):
            return mod
        mod = relax.transform.LiftTransformParams(shared_transform=True)(mod)
        recipe, functions = _recipe(mod)
        mod = relax.transform.BundleModelParams("packed_params")(mod)
        del mod[_TRANSFORM]
        for function in functions:
            mod.update_func(function, mod[function].with_attr("global_symbol", function.name_hint))
        builder = relax.BlockBuilder(mod)
        with builder.function(PACKING, params=[]):
            builder.emit_func_output(tvm.ir.StringImm(json.dumps(recipe)))
        return builder.finalize()

    return lift


def _packs(mod: IRModule) -> bool:
    """Whether any function packs weights."""
    return any(_is_pack(function) for _, function in mod.functions_items())


def _is_pack(function: tvm.ir.BaseFunc) -> bool:
    return function.attrs is not None and "argosy.pack" in function.attrs


def _recipe(mod: IRModule) -> tuple[dict[str, object], list[tvm.ir.GlobalVar]]:
    """What `transform_params` does, as data, and the functions that it calls.

    `kept`: [index before, index after] of tensors that stay as they are. `steps`: a function, the indices of its inputs
    before, and index after, shape and dtype of each output.
    """
    transform = mod[_TRANSFORM]
    flow = Dataflow(mod, transform)
    results = flow.value(transform.body.body)
    kept: list[list[int]] = []
    steps: dict[relax.Expr, dict[str, object]] = {}
    functions: dict[str, tvm.ir.GlobalVar] = {}
    for index, result in enumerate(results.fields):
        item = flow.value(result)
        source = flow.value(item.tuple_value) if isinstance(item, relax.TupleGetItem) else item
        if not (isinstance(source, relax.Call) and source.op.name == "relax.call_tir"):
            kept.append([_parameter_index(flow, result), index])
            continue
        pack = source.args[0]
        functions[pack.name_hint] = pack
        inputs = [_parameter_index(flow, argument) for argument in source.args[1]]
        step = steps.setdefault(source, {"function": pack.name_hint, "inputs": inputs, "outputs": []})
        tensor = result.ty
        step["outputs"].append(
            {
                "output": item.index if isinstance(item, relax.TupleGetItem) else 0,
                "index": index,
                "shape": [int(extent) for extent in tensor.shape],
                "dtype": str(tensor.dtype),
            }
        )
    for step in steps.values():
        step["outputs"].sort(key=lambda output: output["output"])
    return {"kept": kept, "steps": list(steps.values())}, list(functions.values())


def _parameter_index(flow: Dataflow, expr: relax.Expr) -> int:
    """Which of the original parameters `expr` is."""
    item = flow.value(expr)
    assert isinstance(item, relax.TupleGetItem), item
    return int(item.index)
