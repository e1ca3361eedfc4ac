"""ShareViews: create each tensor over planned memory once per shape, instead of once per layer.

    a = vm.alloc_tensor(storage, 0, (1, 1, 960), f32); ...; b = vm.alloc_tensor(storage, 0, (1, 1, 960), f32); f(x, b)
    ->
    a = vm.alloc_tensor(storage, 0, (1, 1, 960), f32); ...; f(x, a)

Memory planning lets layers take turns in the same storage; creating a tensor over it again in every layer costs the
virtual machine as much as a small kernel. Reshaped views and values computed without arguments are shared likewise.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import IRModule, relax
from tvm.relax.expr_functor import PyExprMutator, mutator


def ShareViews() -> tvm.transform.Pass:
    """Create the pass, for modules whose memory is planned and whose operators are those of the virtual machine."""

    @tvm.transform.module_pass(opt_level=0, name="ShareViews")
    def share(mod: IRModule, _context: tvm.transform.PassContext) -> IRModule:
        for name, function in mod.functions_items():
            if isinstance(function, relax.Function):
                mod.update_func(name, _Sharer(mod).visit_expr(function))
        return mod

    return share


@mutator
class _Sharer(PyExprMutator):
    """Rewrites one function, which has no branches: a variable bound above is bound everywhere below."""

    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self.seen: dict[int, list[tuple[relax.Call, relax.Var]]] = {}

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        if not _is_view(binding.value):
            super().visit_var_binding_(binding)
            return
        call = self.visit_expr(binding.value)
        bucket = self.seen.setdefault(tvm_ffi.structural_hash(call), [])
        for other, var in bucket:
            if tvm_ffi.structural_equal(call, other):
                self.set_var_remap(binding.var, var)
                return
        var = self.builder_.emit(call)
        self.set_var_remap(binding.var, var)
        bucket.append((call, var))

    def visit_if_(self, op: relax.If) -> relax.Expr:
        raise AssertionError("a branch: a variable bound in one arm does not exist in the other")


def _is_view(value: relax.Expr) -> bool:
    """Return whether `value` refers to memory or a constant and has no other effect."""
    if not isinstance(value, relax.Call):
        return False
    if isinstance(value.op, relax.GlobalVar):
        return not value.args
    if isinstance(value.op, relax.ExternFunc):
        return str(value.op.global_symbol) == "vm.builtin.reshape"
    return isinstance(value.op, tvm.ir.Op) and value.op.name == "relax.vm.alloc_tensor"
