"""Compare the polynomials of the vector kernels with numpy in double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.target import codegen
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size
from argosy.compiler.kernels.cpu import lanes, vector


def applied(function: Callable[[tirx.Expr], tirx.Expr], x: np.ndarray) -> np.ndarray:
    """Apply `function`, which takes sixteen lanes, to all of x."""
    n = size("n")
    kernel = Kernel("main")
    with kernel:
        source = kernel.tensor("x", (n,), "float32")
        target = kernel.tensor("y", (n,), "float32")
        with T.serial(n // lanes.LANES) as i:
            value = function(lanes.load(source, i * lanes.LANES))
            value = lanes.splat(value) if value.ty == tvm.ir.PrimType("float32") else value
            lanes.store(target, value, i * lanes.LANES)
    machine = tvm.target.Target({"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu()})
    out = tvm.runtime.tensor(np.zeros_like(x))
    tvm.compile(tvm.IRModule({"main": kernel.function}), machine)["main"](tvm.runtime.tensor(x), out)
    return out.numpy()


def test_exp2() -> None:
    x = np.concatenate([np.linspace(-126, 20, 16000), np.linspace(-1, 1, 16000)]).astype("float32")
    exact = np.exp2(x.astype("float64"))
    assert np.max(np.abs(applied(vector.exp2, x) / exact - 1)) < 2e-7


def test_exp2_of_very_small_numbers_is_zero() -> None:
    x = np.full(16, -126.6, "float32")
    x[1:4] = -200, -1e30, -np.inf
    np.testing.assert_array_equal(applied(vector.exp2, x), 0)


def test_tanh() -> None:
    x = np.concatenate([np.linspace(-12, 12, 16000), np.geomspace(1e-8, 1, 16000), [-1e30, 1e30] * 8]).astype("float32")
    exact = np.tanh(x.astype("float64"))
    assert np.max(np.abs(applied(vector.tanh, x) / exact - 1)) < 5e-7


@pytest.mark.parametrize(("reduce", "reference"), [(lanes.reduce_sum, np.sum), (lanes.reduce_max, np.max)])
def test_reductions(reduce: Callable[[tirx.Expr], tirx.Expr], reference: Callable[..., np.ndarray]) -> None:
    x = np.random.default_rng(0).standard_normal(160, dtype="float32")
    expected = np.repeat(reference(x.reshape(-1, 16).astype("float64"), axis=1), 16)
    np.testing.assert_allclose(applied(reduce, x), expected, rtol=1e-5)
