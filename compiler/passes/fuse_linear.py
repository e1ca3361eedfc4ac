"""FuseLinear: replace each matmul with stored weights, and what surrounds it, by a call of one fused kernel.

    w = call_tir(dequantize, (q_weight, q_scale)); y = matmul(rms_norm(x, g), permute_dims(w)); z = add(y + bias, r)
    ->
    z = call_tir(rmsnorm_linear_int4, (x, g, q_weight, q_scale, bias, r))

and, for a gated feed-forward, `multiply(silu(split(y)[0]), split(y)[1])` in place of the additions. If the target's
plan has a layout for the kernel's weights, the kernel reads `call_tir(pack, (q_weight, q_scale))`, and so do reads of
single rows of that matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace

import tvm
import tvm_ffi
from tvm import IRModule, relax, te
from tvm.relax.expr_functor import PyExprMutator, mutator

from argosy.compiler.kernels.linear import InputNorm, Layout, LinearKernel, LinearPlan
from argosy.compiler.passes.lift_packing import PACK_ATTRIBUTE
from argosy.compiler.passes.match import Dataflow

_ACTIVATIONS = {
    "relax.nn.silu": "silu",
    "relax.nn.gelu": "gelu",
    "relax.nn.gelu_tanh": "gelu_tanh",
    "relax.nn.relu": "relu",
}


@dataclass(frozen=True, slots=True)
class _Match:
    """A fused call under construction: the kernel, its operands, and the variable it will define."""

    kernel: LinearKernel
    output: relax.Var
    x: relax.Expr
    weights: list[relax.Expr]
    norm: list[relax.Expr] = field(default_factory=list)
    bias: relax.Expr | None = None
    residual: relax.Expr | None = None


@dataclass(frozen=True, slots=True)
class _Rows:
    """A read of rows `ids` of a matrix whose stored tensors are `weights`."""

    layout: Layout
    ids: relax.Expr
    weights: list[relax.Expr]


def FuseLinear(plan: LinearPlan) -> tvm.transform.Pass:
    """Create the pass, for a target that multiplies by `plan`."""

    @tvm.transform.module_pass(opt_level=0, name="FuseLinear")
    def fuse(mod: IRModule, _context: tvm.transform.PassContext) -> IRModule:
        return _Fuser(mod, plan).run()

    return fuse


@mutator
class _Fuser(PyExprMutator):
    def __init__(self, mod: IRModule, plan: LinearPlan) -> None:
        super().__init__(mod)
        self.mod = mod
        self.plan = plan
        self.matches: dict[relax.Var, _Match] = {}
        self.rows: dict[relax.Var, _Rows] = {}
        self.functions: dict[object, tvm.ir.GlobalVar] = {}

    def run(self) -> IRModule:
        flows = {
            name: Dataflow(self.mod, function)
            for name, function in self.mod.functions_items()
            if isinstance(function, relax.Function)
        }
        matches = {name: self._matches(flow) for name, flow in flows.items()}
        packed = {
            index
            for name, found in matches.items()
            for match in found.values()
            if self.plan.layout(match.kernel) is not None
            for index in flows[name].parameter_indices(match.weights)
        }
        for name, flow in flows.items():
            self.matches = matches[name]
            self.rows = self._row_reads(flow, packed)
            self.builder_.update_func(name, self.visit_expr(self.mod[name]))
        return relax.transform.DeadCodeElimination()(self.builder_.finalize())

    def _matches(self, flow: Dataflow) -> dict[relax.Var, _Match]:
        """Return the matches of a function, by the variable that each one defines."""
        found: dict[relax.Var, _Match] = {}
        for var in list(flow.values):
            match = _match(flow, var, found, self.plan)
            if match is not None:
                found[match.output] = match
        return found

    def _row_reads(self, flow: Dataflow, packed: set[int]) -> dict[relax.Var, _Rows]:
        """Return the reads of rows of matrices that are packed for a matmul: they read the packed form as well."""
        found: dict[relax.Var, _Rows] = {}
        for var in list(flow.values):
            read = flow.row_read(var)
            if read is None:
                continue
            fmt, ids, weights = read
            layout = self.plan.row_layout(fmt)
            if layout is not None and packed.issuperset(flow.parameter_indices(weights)):
                found[var] = _Rows(layout, ids, weights)
        return found

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        match, rows = self.matches.get(binding.var), self.rows.get(binding.var)
        if match is not None:
            call = self._linear_call(match)
        elif rows is not None:
            call = self._rows_call(rows, binding.var)
        else:
            super().visit_var_binding_(binding)
            return
        emit = self.builder_.emit if isinstance(binding.var, relax.DataflowVar) else self.builder_.emit_output
        self.set_var_remap(binding.var, emit(call))

    def _linear_call(self, match: _Match) -> relax.Call:
        kernel, layout = match.kernel, self.plan.layout(match.kernel)
        weights = [self.visit_expr(weight) for weight in match.weights]
        if layout is not None:
            weights = self._packed(layout, (kernel.n, kernel.k), weights)
        before = [self.visit_expr(operand) for operand in (match.x, *match.norm)]
        after = [self.visit_expr(operand) for operand in (match.bias, match.residual) if operand is not None]
        builder = self.plan.builder(kernel)
        assert builder is not None, kernel
        function = self._function(builder.key, builder.name, builder.build)
        return relax.call_tir(function, [*before, *weights, *after], match.output.ty)

    def _packed(self, layout: Layout, shape: tuple[int, int], weights: list[relax.Expr]) -> list[relax.Expr]:
        """Emit the packing of a stored matrix, which depends on parameters only, so that `LiftPacking` can lift it."""
        suffixes = list(layout.fmt.tensors(shape))

        def make() -> tvm.tirx.PrimFunc:
            stored = {suffix: te.placeholder(weight.ty.shape.values, str(weight.ty.dtype), suffix)
                      for suffix, weight in zip(suffixes, weights, strict=True)}  # fmt: skip
            function = te.create_prim_func([*stored.values(), *layout.pack(shape, stored)])
            return function.without_attr("global_symbol").with_attr(PACK_ATTRIBUTE, layout.fmt.name)

        name = f"pack_{layout.fmt.name}_{shape[0]}x{shape[1]}"
        types = [relax.TensorType(extents, dtype) for extents, dtype in layout.tensors(shape).values()]
        tiles = self.builder_.emit(relax.call_tir(self._function((layout, shape), name, make), weights, types))
        return [self.builder_.emit(relax.TupleGetItem(tiles, i)) for i in range(len(types))]

    def _rows_call(self, rows: _Rows, var: relax.Var) -> relax.Call:
        weights = [self.visit_expr(weight) for weight in rows.weights]
        n, k = int(weights[0].ty.shape[0]), int(var.ty.shape[1])
        tiles = self._packed(rows.layout, (n, k), weights)
        names = list(rows.layout.tensors((n, k)))

        def read(ids: te.Tensor, *tensors: te.Tensor) -> te.Tensor:
            element = rows.layout.row(dict(zip(names, tensors, strict=True)), str(var.ty.dtype))
            return te.compute((ids.shape[0], var.ty.shape[1]), lambda i, j: element(ids[i], j), name="rows")

        ids = self.visit_expr(rows.ids)
        return self.builder_.call_te(read, ids, *tiles, primfunc_name_hint=f"rows_{rows.layout.fmt.name}")

    def _function(self, key: object, name: str, make: Callable[[], tvm.tirx.PrimFunc]) -> tvm.ir.GlobalVar:
        """Return the function for `key`, added to the module on first use."""
        if key not in self.functions:
            self.functions[key] = self.builder_.add_func(make(), name)
        return self.functions[key]


def _match(flow: Dataflow, var: relax.Var, taken: Container[relax.Var], plan: LinearPlan) -> _Match | None:
    """Return the fused call around the matmul that defines `var`, with as many of its neighbours as a kernel can do.

    `taken` are the outputs of earlier matches: the sum of two matmuls belongs to the first.
    """
    matmul = flow.call(var, "relax.matmul")
    if matmul is None:
        return None
    x, transposed = matmul.args
    permute = flow.call(transposed, "relax.permute_dims")
    if permute is None:
        return None
    stored = flow.weight(permute.args[0])
    if stored is None or x.ty.ndim != 3 or {str(x.ty.dtype), str(var.ty.dtype)} != {plan.dtype}:
        return None
    fmt, weights = stored
    n, k = (int(extent) for extent in permute.args[0].ty.shape)
    match = _Match(LinearKernel(n, k, fmt, x=plan.dtype, out=plan.dtype), var, x, weights)
    if plan.builder(match.kernel) is None:
        return None
    for take in (_take_bias, _take_gate, _take_residual, _take_norm, _take_cast, _take_widening):
        larger = take(flow, match, taken)
        if larger is not None and plan.builder(larger.kernel) is not None:
            match = larger
    return match


def _take_bias(flow: Dataflow, match: _Match, taken: Container[relax.Var]) -> _Match | None:
    """Take the addition of a vector to the output."""
    user = flow.only_user(match.output)
    add = flow.call(user, "relax.add") if user is not None else None
    if add is None:
        return None
    bias = flow.uncast(_other(add, match.output))
    if bias.ty.ndim == 1 and str(bias.ty.dtype) in ("float32", "float16"):
        return replace(match, kernel=replace(match.kernel, bias=str(bias.ty.dtype)), output=user, bias=bias)
    return None


def _take_gate(flow: Dataflow, match: _Match, taken: Container[relax.Var]) -> _Match | None:
    """Take activation(first half) * second half of the output."""
    halves = flow.only_user(match.output)
    split = flow.call(halves, "relax.split") if halves is not None else None
    if split is None or match.kernel.n % 2:
        return None
    items = {
        flow.values[user].index: user
        for user in flow.users[halves]
        if isinstance(flow.values[user], relax.TupleGetItem)
    }
    if len(items) != 2 or len(flow.users[halves]) != 2:
        return None
    activated, product = flow.only_user(items[0]), flow.only_user(items[1])
    call = flow.value(activated) if activated is not None else None
    name = _ACTIVATIONS.get(call.op.name) if isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.Op) else None
    if product is None or flow.call(product, "relax.multiply") is None:
        return None
    if name is None or not product.same_as(flow.only_user(activated)):
        return None
    return replace(match, kernel=replace(match.kernel, activation=name), output=product)


def _take_residual(flow: Dataflow, match: _Match, taken: Container[relax.Var]) -> _Match | None:
    """Take the addition of a tensor of the output's shape."""
    user = flow.only_user(match.output)
    add = flow.call(user, "relax.add") if user is not None else None
    if add is None or match.kernel.activation or user in taken:
        return None
    residual = _other(add, match.output)
    if tvm_ffi.structural_equal(residual.ty, match.output.ty):
        return replace(match, kernel=replace(match.kernel, residual=True), output=user, residual=residual)
    return None


def _take_norm(flow: Dataflow, match: _Match, taken: Container[relax.Var]) -> _Match | None:
    """Take the norm of the input, unless something else uses its result."""
    norm, kind = flow.call(match.x, "relax.nn.rms_norm"), "rms"
    if norm is None:
        norm, kind = flow.call(match.x, "relax.nn.layer_norm"), "layer"
    if norm is None or flow.only_user(match.x) is None or [int(axis) for axis in norm.attrs.axes] not in ([-1], [2]):
        return None
    weight, offset = _weight_and_offset(flow, norm.args[1])
    vectors = [weight]
    if kind == "layer" and not _is_constant(flow.value(norm.args[2]), 0.0):
        vectors.append(flow.uncast(norm.args[2]))
    dtypes = [str(vector.ty.dtype) for vector in vectors]
    record = InputNorm(kind, float(norm.attrs.epsilon), offset, *dtypes)
    kernel = replace(match.kernel, norm=record)
    if all(dtype in ("float32", "float16") for dtype in dtypes):
        return replace(match, kernel=kernel, x=norm.args[0], norm=vectors)
    return None


def _take_cast(flow: Dataflow, match: _Match, taken: Container[relax.Var]) -> _Match | None:
    """Take the conversion of a float16 input to float32: kernels convert what they load."""
    x = flow.uncast(match.x)
    if match.kernel.norm is None and str(x.ty.dtype) == "float16":
        return replace(match, kernel=replace(match.kernel, x="float16"), x=x)
    return None


def _take_widening(flow: Dataflow, match: _Match, taken: Container[relax.Var]) -> _Match | None:
    """Take the conversion of a float16 output to float32: kernels sum in float32."""
    user = flow.only_user(match.output)
    cast = flow.call(user, "relax.astype") if user is not None else None
    if user is None or cast is None or str(user.ty.dtype) != "float32":
        return None
    if match.kernel.out != "float16" or match.kernel.residual:
        return None
    return replace(match, kernel=replace(match.kernel, out="float32"), output=user)


def _weight_and_offset(flow: Dataflow, weight: relax.Expr) -> tuple[relax.Expr, float]:
    """Split a norm's weight into the stored weight and the scalar constant added to it, or 0."""
    add = flow.call(weight, "relax.add")
    if add is not None and isinstance(add.args[1], tvm.ir.GenericConst) and add.args[1].ty.ndim == 0:
        return flow.uncast(add.args[0]), float(add.args[1].value.numpy())
    return flow.uncast(weight), 0.0


def _is_constant(expr: relax.Expr, value: float) -> bool:
    """Return whether `expr` is a constant with `value` everywhere."""
    return isinstance(expr, tvm.ir.GenericConst) and bool((expr.value.numpy() == value).all())


def _other(add: relax.Call, var: relax.Var) -> relax.Expr:
    """Return the operand of a binary call that is not `var`."""
    first, second = add.args
    return second if first.same_as(var) else first
