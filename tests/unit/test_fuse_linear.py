"""FuseLinear as before and after: the operators that end up in one kernel, and those that must not."""

import pytest
import tvm
from tvm import relax, te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from argosy.compiler.kernels.cpu.linear import CpuLinearPlan, TileShape
from argosy.compiler.kernels.cpu.linear.instruction import PORTABLE
from argosy.compiler.kernels.linear import InputNorm, LinearKernel
from argosy.compiler.passes.fuse_linear import FuseLinear
from argosy.quant.relax_ops import dequantize
from argosy.quant.scheme import F32, INT4_F16

N, K = 64, 32
EXACT = CpuLinearPlan(TileShape(4, (4, 2, 1)))
ON_BYTES = CpuLinearPlan(TileShape(4, (4, 2, 1)), PORTABLE)


class _Case(nn.Module):
    """A linear layer, with the operators of `before` and `after` around it."""

    def __init__(self, before=lambda self, x: x, after=lambda self, y, x: y) -> None:
        for suffix, (shape, dtype) in INT4_F16.tensors((N, K)).items():
            setattr(self, suffix, nn.Parameter(shape, dtype))
        self.bias = nn.Parameter((N,), "float16")
        self.gain = nn.Parameter((K,), "float16")
        self.before, self.after = before, after

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        tensors = {suffix: getattr(self, suffix) for suffix in INT4_F16.tensors((N, K))}
        weight = dequantize(INT4_F16, tensors, (N, K), "float32")
        return self.after(self, op.matmul(self.before(self, x), op.permute_dims(weight)), residual)


def _biased(self: _Case, y: Tensor, residual: Tensor) -> Tensor:
    return y + op.astype(self.bias, "float32")


def _normed(self: _Case, x: Tensor) -> Tensor:
    return op.rms_norm(x, op.astype(self.gain, "float32"), axes=[-1], epsilon=1e-5)


def _gated(self: _Case, y: Tensor, residual: Tensor) -> Tensor:
    gate, up = op.split(y, 2, axis=-1)
    return op.silu(gate) * up


def _fused(module: nn.Module) -> tuple[list[str], list[str]]:
    """Return the kernels called and the relax operators left over, in order."""
    hidden, out = nn.spec.Tensor([1, "n", K], "float32"), nn.spec.Tensor([1, "n", N], "float32")
    methods = {"forward": {"x": hidden, "residual": out, "$": {"param_mode": "packed", "effect_mode": "none"}}}
    mod = FuseLinear(EXACT)(module.export_tvm(methods)[0])
    relax.analysis.well_formed(mod)  # raises
    kernels, operators = [], []

    def visit(expr) -> None:
        if isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op):
            if expr.op.name == "relax.call_tir":
                kernels.append(expr.args[0].name_hint)
            else:
                operators.append(expr.op.name)

    relax.analysis.post_order_visit(mod["forward"].body, visit)
    return kernels, operators


@pytest.mark.parametrize(
    ("module", "kernel"),
    [
        (_Case(), "linear_int4_f16_64x32"),
        (_Case(after=_biased), "linear_int4_f16_64x32_bias"),
        (_Case(after=lambda self, y, r: r + y), "linear_int4_f16_64x32_residual"),
        (_Case(after=lambda self, y, r: _biased(self, y, r) + r), "linear_int4_f16_64x32_bias_residual"),
        (_Case(before=_normed), "rmsnorm_linear_int4_f16_64x32"),
        (_Case(before=_normed, after=_gated), "rmsnorm_linear_int4_f16_64x32_silu"),
        (
            _Case(after=lambda self, y, r: _gated(self, _biased(self, y, r), r)),
            "linear_int4_f16_64x32_silu_bias",
        ),
    ],
)
def test_one_kernel_takes_all(module: nn.Module, kernel: str) -> None:
    assert _fused(module) == ([kernel], [])


def test_a_result_used_twice_is_not_swallowed() -> None:
    def twice(self: _Case, y: Tensor, residual: Tensor) -> Tensor:
        return (y + residual) * y

    kernels, operators = _fused(_Case(after=twice))
    assert kernels == ["linear_int4_f16_64x32"]
    assert sorted(operators) == ["relax.add", "relax.multiply"]


def test_a_norm_used_twice_stays() -> None:
    class Shared(_Case):
        def forward(self, x: Tensor, residual: Tensor) -> Tensor:
            tensors = {suffix: getattr(self, suffix) for suffix in INT4_F16.tensors((N, K))}
            y = _normed(self, x)
            weight = op.permute_dims(dequantize(INT4_F16, tensors, (N, K), "float32"))
            return op.matmul(y, weight) + op.matmul(op.tanh(y), weight)

    kernels, operators = _fused(Shared())
    assert kernels == ["linear_int4_f16_64x32", "linear_int4_f16_64x32_residual"]
    assert "relax.nn.rms_norm" in operators


def test_a_residual_that_broadcasts_is_left_alone() -> None:
    class Broadcast(_Case):
        def forward(self, x: Tensor, residual: Tensor) -> Tensor:
            y = super().forward(x, residual)
            return y + op.sum(residual, axis=1, keepdims=True)

    kernels, operators = _fused(Broadcast())
    assert kernels == ["linear_int4_f16_64x32"]
    assert "relax.add" in operators


def test_running_it_again_changes_nothing() -> None:
    fuse = FuseLinear(EXACT)
    hidden, out = nn.spec.Tensor([1, "n", K], "float32"), nn.spec.Tensor([1, "n", N], "float32")
    methods = {"forward": {"x": hidden, "residual": out, "$": {"param_mode": "packed", "effect_mode": "none"}}}
    once = fuse(_Case(before=_normed, after=_biased).export_tvm(methods)[0])
    tvm.ir.assert_structural_equal(fuse(once), once)


@I.ir_module
class NormBiasResidual:
    @R.function
    def main(
        x: R.Tensor((1, 3, 32), "float32"),
        residual: R.Tensor((1, 3, 64), "float32"),
        gain: R.Tensor((32,), "float16"),
        weight: R.Tensor((64, 32), "float32"),
        bias: R.Tensor((64,), "float32"),
    ) -> R.Tensor((1, 3, 64), "float32"):
        with R.dataflow():
            wide = R.astype(gain, "float32")
            normed = R.nn.rms_norm(x, wide, axes=[-1], epsilon=1e-5)
            transposed = R.permute_dims(weight)
            y = R.matmul(normed, transposed)
            biased = R.add(y, bias)
            out = R.add(residual, biased)
            R.output(out)
        return out


def test_norm_matmul_bias_and_residual_become_one_call() -> None:
    kernel = LinearKernel(N, K, F32, norm=InputNorm("rms", 1e-5, 0.0, "float16"), bias="float32", residual=True)
    x, residual, gain, weight, bias = params = _like(NormBiasResidual)
    expected = relax.BlockBuilder()
    with expected.function("main", params):
        with expected.dataflow():
            function = expected.add_func(EXACT.builder(kernel).build(), kernel.name)
            call = relax.call_tir(function, [x, gain, weight, bias, residual], residual.ty)
            out = expected.emit_output(call)
        expected.emit_func_output(out)
    tvm.ir.assert_structural_equal(FuseLinear(EXACT)(NormBiasResidual), expected.finalize())


@I.ir_module
class Dequantized:
    @T.prim_func(private=True, s_tir=True)
    def dequantize(
        words: T.Buffer((64, 4), "uint32"), scales: T.Buffer((64, 1), "float16"), weight: T.Buffer((64, 32), "float32")
    ):
        T.func_attr({"argosy.dequantize": "int4_f16"})
        for i, j in T.grid(64, 32):
            with T.sblock("weight"):
                row, column = T.axis.remap("SS", [i, j])
                weight[row, column] = T.Cast("float32", words[row, column // 8]) * T.Cast("float32", scales[row, 0])

    @R.function
    def main(
        x: R.Tensor((1, 3, 32), "float32"),
        words: R.Tensor((64, 4), "uint32"),
        scales: R.Tensor((64, 1), "float16"),
    ) -> R.Tensor((1, 3, 64), "float32"):
        cls = Dequantized
        with R.dataflow():
            weight = R.call_tir(cls.dequantize, (words, scales), out_ty=R.Tensor((64, 32), "float32"))
            transposed = R.permute_dims(weight)
            out = R.matmul(x, transposed)
            R.output(out)
        return out


def test_weights_are_packed_where_the_kernel_wants_another_layout() -> None:
    kernel, shape = LinearKernel(N, K, INT4_F16), (N, K)
    layout = ON_BYTES.layout(kernel)
    x, words, scales = params = _like(Dequantized)
    stored = {
        name: te.placeholder(var.ty.shape.values, str(var.ty.dtype), name)
        for name, var in zip(INT4_F16.tensors(shape), (words, scales), strict=True)
    }
    pack = te.create_prim_func([*stored.values(), *layout.pack(shape, stored)])
    pack = pack.without_attr("global_symbol").with_attr("argosy.pack", "int4_f16")
    types = [relax.TensorType(extents, dtype) for extents, dtype in layout.tensors(shape).values()]
    expected = relax.BlockBuilder()
    with expected.function("main", params):
        with expected.dataflow():
            packed = expected.emit(
                relax.call_tir(expected.add_func(pack, "pack_int4_f16_64x32"), [words, scales], types)
            )
            tiles = [expected.emit(relax.TupleGetItem(packed, i)) for i in range(2)]
            function = expected.add_func(ON_BYTES.builder(kernel).build(), kernel.name)
            out = expected.emit_output(relax.call_tir(function, [x, *tiles], relax.TensorType((1, 3, N), "float32")))
        expected.emit_func_output(out)
    tvm.ir.assert_structural_equal(FuseLinear(ON_BYTES)(Dequantized), expected.finalize())


def _like(mod: tvm.IRModule) -> list[relax.Var]:
    """Create parameters like those of `main`."""
    return [relax.Var(param.name, param.ty) for param in mod["main"].params]
