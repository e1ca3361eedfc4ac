"""FuseLinear as before and after: which operators end up in one kernel, and which must not."""

import pytest
import tvm
from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from argosy.compiler.kernels.cpu.linear import CpuLinearPlan, TileShape
from argosy.compiler.passes.fuse_linear import FuseLinear
from argosy.quant.relax_ops import dequantize
from argosy.quant.scheme import INT4_F16

N, K = 64, 32
EXACT = CpuLinearPlan(TileShape(4, (4, 2, 1)))


class _Case(nn.Module):
    """A linear layer with whatever `after` and `before` put around it."""

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
    """The kernels called, and the relax operators left over, in order."""
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
