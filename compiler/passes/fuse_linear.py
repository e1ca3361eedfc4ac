"""FuseLinear: matmuls with stored weights go in, calls of one fused kernel each come out.

    w = call_tir(dequantize, (q_weight, q_scale)); y = matmul(rms_norm(x, g), permute_dims(w)); z = add(add(y, bias), r)
    ->
    z = call_tir(rmsnorm_linear_int4, (x, g, q_weight, q_scale, bias, r))

and, for a gated feed-forward, `multiply(silu(split(y)[0]), split(y)[1])` in place of the additions.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

import tvm
import tvm_ffi
from tvm import IRModule, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from argosy.compiler.kernels.linear import InputNorm, LinearKernel, TileShape, linear
from argosy.compiler.passes.match import Dataflow

_ACTIVATIONS = {
    "relax.nn.silu": "silu",
    "relax.nn.gelu": "gelu",
    "relax.nn.gelu_tanh": "gelu_tanh",
    "relax.nn.relu": "relu",
}


@dataclass(slots=True)
class _Match:
    """A fused call under construction: the kernel, its operands, and the variable it will define."""

    kernel: LinearKernel
    output: relax.Var
    x: relax.Expr
    weights: list[relax.Expr]
    norm: list[relax.Expr] = field(default_factory=list)
    bias: relax.Expr | None = None
    residual: relax.Expr | None = None

    @property
    def operands(self) -> list[relax.Expr]:
        return [self.x, *self.norm, *self.weights, *(e for e in (self.bias, self.residual) if e is not None)]


def FuseLinear(tile: TileShape) -> tvm.transform.Pass:
    """The pass, for kernels with accumulator tiles of shape `tile`."""

    @tvm.transform.module_pass(opt_level=0, name="FuseLinear")
    def fuse(mod: IRModule, _context: tvm.transform.PassContext) -> IRModule:
        return _Fuser(mod, tile).run()

    return fuse


@mutator
class _Fuser(PyExprMutator):
    def __init__(self, mod: IRModule, tile: TileShape) -> None:
        super().__init__(mod)
        self.mod = mod
        self.tile = tile
        self.matches: dict[relax.Var, _Match] = {}
        self.kernels: dict[LinearKernel, tvm.ir.GlobalVar] = {}

    def run(self) -> IRModule:
        for name, function in self.mod.functions_items():
            if isinstance(function, relax.Function):
                flow = Dataflow(self.mod, function)
                self.matches = {}
                for var in list(flow.values):
                    match = _match(flow, var, self.matches)
                    if match is not None:
                        self.matches[match.output] = match
                self.builder_.update_func(name, self.visit_expr(function))
        return relax.transform.DeadCodeElimination()(self.builder_.finalize())

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        match = self.matches.get(binding.var)
        if match is None:
            super().visit_var_binding_(binding)
            return
        operands = [self.visit_expr(operand) for operand in match.operands]
        call = relax.call_tir(self._kernel(match.kernel), operands, binding.var.ty)
        emit = self.builder_.emit if isinstance(binding.var, relax.DataflowVar) else self.builder_.emit_output
        self.set_var_remap(binding.var, emit(call))

    def _kernel(self, kernel: LinearKernel) -> tvm.ir.GlobalVar:
        if kernel not in self.kernels:
            self.kernels[kernel] = self.builder_.add_func(linear(kernel, self.tile), kernel.name)
        return self.kernels[kernel]


def _match(flow: Dataflow, var: relax.Var, taken: Container[relax.Var]) -> _Match | None:
    """The fused call that begins at the matmul `var` defines, with as much of what follows as the kernel can do.

    `taken` are the outputs of earlier matches: the sum of two matmuls goes to the first.
    """
    matmul = flow.call(var, "relax.matmul")
    if matmul is None:
        return None
    x, transposed = matmul.args
    permute = flow.call(transposed, "relax.permute_dims")
    stored = flow.weight(permute.args[0]) if permute is not None else None
    if stored is None or x.ty.ndim != 3 or str(x.ty.dtype) != "float32" or str(var.ty.dtype) != "float32":
        return None
    fmt, weights = stored
    n, k = (int(extent) for extent in permute.args[0].ty.shape)
    match = _Match(LinearKernel(n, k, fmt), var, x, weights)
    if not match.kernel.fits():
        return None
    return _take_norm(flow, _take_residual(flow, _take_gate(flow, _take_bias(flow, match)), taken))


def _take_bias(flow: Dataflow, match: _Match) -> _Match:
    user = flow.only_user(match.output)
    add = flow.call(user, "relax.add") if user is not None else None
    if add is None:
        return match
    bias = flow.uncast(_other(add, match.output))
    if bias.ty.ndim == 1 and str(bias.ty.dtype) in ("float32", "float16"):
        match.kernel, match.output, match.bias = replace(match.kernel, bias=str(bias.ty.dtype)), user, bias
    return match


def _take_gate(flow: Dataflow, match: _Match) -> _Match:
    """activation(first half) * second half."""
    halves = flow.only_user(match.output)
    split = flow.call(halves, "relax.split") if halves is not None else None
    if split is None or match.kernel.n % 2:
        return match
    items = {
        flow.values[user].index: user
        for user in flow.users[halves]
        if isinstance(flow.values[user], relax.TupleGetItem)
    }
    if len(items) != 2 or len(flow.users[halves]) != 2:
        return match
    activated, product = flow.only_user(items[0]), flow.only_user(items[1])
    call = flow.value(activated) if activated is not None else None
    name = _ACTIVATIONS.get(call.op.name) if isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.Op) else None
    multiply = flow.call(product, "relax.multiply") if product is not None else None
    if name is None or multiply is None or not product.same_as(flow.only_user(activated)):
        return match
    match.kernel, match.output = replace(match.kernel, activation=name), product
    return match


def _take_residual(flow: Dataflow, match: _Match, taken: Container[relax.Var]) -> _Match:
    user = flow.only_user(match.output)
    add = flow.call(user, "relax.add") if user is not None else None
    if add is None or match.kernel.activation or user in taken:
        return match
    residual = _other(add, match.output)
    if tvm_ffi.structural_equal(residual.ty, match.output.ty):
        match.kernel, match.output, match.residual = replace(match.kernel, residual=True), user, residual
    return match


def _take_norm(flow: Dataflow, match: _Match) -> _Match:
    """The norm that makes the input, where nothing else wants its result."""
    norm, kind = flow.call(match.x, "relax.nn.rms_norm"), "rms"
    if norm is None:
        norm, kind = flow.call(match.x, "relax.nn.layer_norm"), "layer"
    if norm is None or flow.only_user(match.x) is None or [int(axis) for axis in norm.attrs.axes] not in ([-1], [2]):
        return match
    weight, offset = _weight_and_offset(flow, norm.args[1])
    vectors = [weight]
    if kind == "layer" and not _is_constant(flow.value(norm.args[2]), 0.0):
        vectors.append(flow.uncast(norm.args[2]))
    dtypes = [str(vector.ty.dtype) for vector in vectors]
    record = InputNorm(kind, float(norm.attrs.epsilon), offset, *dtypes)
    kernel = replace(match.kernel, norm=record)
    if kernel.fits() and all(dtype in ("float32", "float16") for dtype in dtypes):
        match.kernel, match.x, match.norm = kernel, norm.args[0], vectors
    return match


def _weight_and_offset(flow: Dataflow, weight: relax.Expr) -> tuple[relax.Expr, float]:
    """A norm's weight, taken apart where it is a stored weight plus a scalar constant."""
    add = flow.call(weight, "relax.add")
    if add is not None and isinstance(add.args[1], tvm.ir.GenericConst) and add.args[1].ty.ndim == 0:
        return flow.uncast(add.args[0]), float(add.args[1].value.numpy())
    return flow.uncast(weight), 0.0


def _is_constant(expr: relax.Expr, value: float) -> bool:
    """Whether `expr` is a constant with `value` everywhere."""
    return isinstance(expr, tvm.ir.GenericConst) and bool((expr.value.numpy() == value).all())


def _other(add: relax.Call, var: relax.Var) -> relax.Expr:
    """The operand of a binary call that is not `var`."""
    first, second = add.args
    return second if first.same_as(var) else first
