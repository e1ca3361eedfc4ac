"""Dequantization in the graph agrees with numpy, for every format and both dtypes of the graph."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.frontend import nn

from argosy.quant.formats import pack, unpack
from argosy.quant.relax_ops import ATTRIBUTE, dequantize, dequantize_rows
from argosy.quant.scheme import FORMATS, Format

EXPERTS, N, K = 3, 6, 72  # 72: whole groups of neither 32 nor 40
TOLERANCE = {"float32": 1e-6, "float16": 2e-3}


class Reader(nn.Module):
    """Reads a matrix stored as `fmt`, as a whole and by rows."""

    def __init__(self, fmt: Format, dtype: str) -> None:
        self.fmt, self.dtype = fmt, dtype
        self.suffixes = list(fmt.tensors((N, K)))
        for suffix, (shape, stored) in fmt.tensors((N, K)).items():
            setattr(self, suffix, nn.Parameter(shape, stored))

    def stored(self) -> dict[str, nn.Tensor]:
        return {suffix: getattr(self, suffix) for suffix in self.suffixes}

    def whole(self) -> nn.Tensor:
        return dequantize(self.fmt, self.stored(), (N, K), self.dtype)

    def rows(self, ids: nn.Tensor) -> nn.Tensor:
        return dequantize_rows(self.fmt, self.stored(), ids, K, self.dtype)


def exported(fmt: Format, dtype: str) -> tvm.IRModule:
    spec = {"whole": {}, "rows": {"ids": nn.spec.Tensor(["n"], "int32")}}
    mod, _ = Reader(fmt, dtype).export_tvm(spec=spec)
    return mod


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_graph_agrees_with_numpy(fmt: Format, dtype: str) -> None:
    values = np.random.default_rng(3).normal(size=(N, K)).astype(np.float32)
    tensors = pack(fmt, values)
    expected = unpack(fmt, tensors, K)
    machine = relax.VirtualMachine(relax.build(exported(fmt, dtype), target="llvm"), tvm.cpu())
    params = [tvm.runtime.tensor(tensor) for tensor in tensors.values()]

    ids = np.array([5, 0, 0, 3], np.int32)
    whole = machine["whole"](*params).numpy()
    rows = machine["rows"](tvm.runtime.tensor(ids), *params).numpy()
    assert whole.dtype == rows.dtype == dtype
    assert whole.shape == (N, K)
    scale = np.abs(expected).max()
    assert np.abs(whole - expected).max() <= TOLERANCE[dtype] * scale
    np.testing.assert_array_equal(rows, whole[ids])


class Experts(nn.Module):
    """The matrices of several experts stored as `fmt`."""

    def __init__(self, fmt: Format) -> None:
        self.fmt = fmt
        for suffix, (shape, stored) in fmt.tensors((EXPERTS, N, K)).items():
            setattr(self, suffix, nn.Parameter(shape, stored))

    def whole(self) -> nn.Tensor:
        stored = {suffix: getattr(self, suffix) for suffix in self.fmt.tensors((EXPERTS, N, K))}
        return dequantize(self.fmt, stored, (EXPERTS, N, K), "float32")


@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS.values() if fmt.bits], ids=lambda fmt: fmt.name)
def test_experts_agree_with_each_alone(fmt: Format) -> None:
    values = np.random.default_rng(4).normal(size=(EXPERTS, N, K)).astype(np.float32)
    stored = pack(fmt, values)
    mod, _ = Experts(fmt).export_tvm(spec={"whole": {}})
    machine = relax.VirtualMachine(relax.build(mod, target="llvm"), tvm.cpu())
    whole = machine["whole"](*(tvm.runtime.tensor(tensor) for tensor in stored.values())).numpy()
    expected = np.stack([unpack(fmt, {s: t[i] for s, t in stored.items()}, K) for i in range(EXPERTS)])
    assert whole.shape == (EXPERTS, N, K)
    assert np.abs(whole - expected).max() <= TOLERANCE["float32"] * np.abs(expected).max()


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_primfunc_carries_the_format(fmt: Format) -> None:
    """Passes find dequantization by its attribute; a float matrix of the right dtype needs none."""
    for dtype in ("float32", "float16"):
        found = [f.attrs[ATTRIBUTE] for f in exported(fmt, dtype).functions.values() if ATTRIBUTE in (f.attrs or {})]
        assert found == ([] if fmt.bits == 0 and fmt.dtype == dtype else [fmt.name])
