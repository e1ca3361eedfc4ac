"""LiftPacking: take the packing of weights out of every call, and export a recipe that packs them once.

    decode(x, params): tiles = call_tir(pack, (params[0], params[1])); call_tir(linear, (x, tiles, params[2]))
    ->
    decode(x, params): call_tir(linear, (x, params[0], params[1]))
    pack (exported), _packing() -> {"kept": [[2, 1]], "steps": [{"function": "pack", "inputs": [0, 1], "outputs": ..}]}

A program that loads the library runs the steps one by one, each on the tensors of one matrix, and frees its inputs.
(TVM's own LiftTransformParams lifts only what all functions have in common.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import tvm
from tvm import IRModule, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from argosy.compiler.passes.match import Dataflow

PACKING = "_packing"
PACK_ATTRIBUTE = "argosy.pack"  # on the PrimFuncs that pack: the name of the format


def LiftPacking() -> tvm.transform.Pass:
    """Create the pass. A module in which nothing is packed is left as it is."""

    @tvm.transform.module_pass(opt_level=0, name="LiftPacking")
    def lift(mod: IRModule, _context: tvm.transform.PassContext) -> IRModule:
        entries = {
            name: function
            for name, function in mod.functions_items()
            if isinstance(function, relax.Function) and function.attrs is not None and "num_input" in function.attrs
        }
        flows = {name: Dataflow(mod, function) for name, function in entries.items()}
        layout = _Layout()
        for name, function in entries.items():
            layout.collect(flows[name], function.params[-1])
        if not layout.packs:
            return mod
        layout.assign(next(iter(entries.values())).params[-1].ty)
        lifter = _Lifter(mod, layout)
        for name, function in entries.items():
            lifter.lift(name, function, flows[name])
        mod = lifter.builder_.finalize()
        for function in {pack.function for pack in layout.packs.values()}:
            mod.update_func(function, mod[function].with_attr("global_symbol", function.name_hint))
        builder = relax.BlockBuilder(mod)
        with builder.function(PACKING, params=[]):
            builder.emit_func_output(tvm.ir.StringImm(json.dumps(layout.recipe())))
        return builder.finalize()

    return lift


@dataclass(slots=True)
class _Pack:
    """A call that packs parameters, and the places of its outputs among the packed ones."""

    function: tvm.ir.GlobalVar
    inputs: tuple[int, ...]
    types: list[relax.TensorType]
    slots: list[int] = field(default_factory=list)


class _Layout:
    """The parameters that all functions together keep or pack, and their places among the packed ones."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}  # place before -> place after
        self.packs: dict[tuple[str, tuple[int, ...]], _Pack] = {}
        self.types: list[relax.Type] = []

    def collect(self, flow: Dataflow, packed: relax.Var) -> None:
        """Note what one function does with its parameters `packed`."""
        for var, value in flow.values.items():
            if isinstance(value, relax.TupleGetItem) and packed.same_as(value.tuple_value):
                users = [flow.values.get(user) for user in flow.users[var]]
                if not users or not all(user is not None and is_pack(flow, user) for user in users):
                    self.kept[int(value.index)] = -1
            elif is_pack(flow, value):
                key = pack_key(flow, value)
                self.packs.setdefault(key, _Pack(value.args[0], key[1], list(flow_fields(var))))

    def assign(self, before: relax.TupleType) -> None:
        """Assign places in the order of the parameters before; packed tensors take the place of their first input."""
        first = {pack.inputs[0]: pack for pack in self.packs.values()}
        for index, tensor in enumerate(before.fields):
            if index in self.kept:
                self.kept[index] = len(self.types)
                self.types.append(tensor)
            if index in first:
                pack = first[index]
                pack.slots = list(range(len(self.types), len(self.types) + len(pack.types)))
                self.types += pack.types

    def recipe(self) -> dict[str, object]:
        """Return the layout as data: `kept` pairs of places; `steps` of function, inputs and outputs."""
        steps = [
            {
                "function": pack.function.name_hint,
                "inputs": list(pack.inputs),
                "outputs": [
                    {"index": slot, "shape": [int(extent) for extent in tensor.shape], "dtype": str(tensor.dtype)}
                    for slot, tensor in zip(pack.slots, pack.types, strict=True)
                ],
            }
            for pack in self.packs.values()
        ]
        return {"kept": sorted([before, after] for before, after in self.kept.items()), "steps": steps}


def is_pack(flow: Dataflow, value: relax.Expr) -> bool:
    """Return whether `value` is a call that packs parameters."""
    if not (isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op) and value.op.name == "relax.call_tir"):
        return False
    attrs = flow.mod[value.args[0]].attrs
    return attrs is not None and PACK_ATTRIBUTE in attrs


def pack_key(flow: Dataflow, call: relax.Call) -> tuple[str, tuple[int, ...]]:
    """Return the function and the parameters it packs: equal for packing calls that are the same."""
    return call.args[0].name_hint, tuple(flow.parameter_indices(list(call.args[1])))


def flow_fields(var: relax.Var) -> list[relax.Type]:
    """Return the types of the results of a packing call."""
    return list(var.ty.fields) if isinstance(var.ty, relax.TupleType) else [var.ty]


@mutator
class _Lifter(PyExprMutator):
    """Rewrites functions to take packed parameters."""

    def __init__(self, mod: IRModule, layout: _Layout) -> None:
        super().__init__(mod)
        self.layout = layout

    def lift(self, name: tvm.ir.GlobalVar, function: relax.Function, flow: Dataflow) -> None:
        """Replace one function of the module."""
        self.flow, self.before = flow, function.params[-1]
        self.after = relax.Var("packed_params", relax.TupleType(self.layout.types))
        body = self.visit_expr(function.body)
        params = [*function.params[:-1], self.after]
        new = relax.Function(params, body, function.ret_ty, function.is_pure, function.attrs)
        self.builder_.update_func(name, new)

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        value = binding.value
        slot = self._slot(value)
        if slot is not None:
            self.set_var_remap(binding.var, self.builder_.emit(relax.TupleGetItem(self.after, slot)))
        elif not is_pack(self.flow, value) and not self._is_raw(value):
            super().visit_var_binding_(binding)

    def _slot(self, value: relax.Expr) -> int | None:
        """Return the place of `value` among the packed parameters, or None if it is not one of them."""
        if not isinstance(value, relax.TupleGetItem):
            return None
        if self.before.same_as(value.tuple_value):
            return self.layout.kept.get(int(value.index))
        source = self.flow.value(value.tuple_value)
        if not is_pack(self.flow, source):
            return None
        return self.layout.packs[pack_key(self.flow, source)].slots[int(value.index)]

    def _is_raw(self, value: relax.Expr) -> bool:
        """Return whether `value` is a parameter that only packing reads."""
        return isinstance(value, relax.TupleGetItem) and self.before.same_as(value.tuple_value)
