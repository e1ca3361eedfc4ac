"""Compare the fused linear kernels with numpy: every format, tile heights and their tails, norms, epilogues."""

import itertools

import numpy as np
import pytest
import tvm

from argosy.compiler.kernels.cpu.linear import ExactLinear, TileShape
from argosy.compiler.kernels.linear import InputNorm, LinearKernel
from argosy.compiler.targets import target_named
from argosy.quant.formats import pack, unpack
from argosy.quant.scheme import FORMATS, INT4_F16, Format

TILE = TileShape(4, (4, 2, 1))
NMSE = 1e-11


def _stored(fmt: Format, n: int, k: int, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the tensors of a random matrix in `fmt`, and its dequantized values."""
    if fmt.has_min:  # only importers make it
        groups = -(-k // fmt.group)
        tensors = {
            "q_weight": rng.integers(0, 2**32, (n, groups * fmt.words_per_group), dtype=np.uint32),
            "q_scale": rng.standard_normal((n, groups)).astype(fmt.dtype),
            "q_min": rng.standard_normal((n, groups)).astype(fmt.dtype),
        }
    else:
        tensors = pack(fmt, rng.standard_normal((n, k)).astype("float32"), "full")
    return [tensors[suffix] for suffix in fmt.tensors((n, k))], unpack(fmt, tensors, k)


def _run(kernel: LinearKernel, tokens: tuple[int, ...], tile: TileShape = TILE) -> None:
    function = ExactLinear(kernel, tile).build().with_attr("global_symbol", "main")
    library = tvm.compile(tvm.IRModule({"main": function}), target=target_named("cpu").tvm_target).jit()
    rng = np.random.default_rng(0)
    stored, weight = _stored(kernel.fmt, kernel.n, kernel.k, rng)
    for m in tokens:
        x = rng.standard_normal((1, m, kernel.k)).astype("float32")
        before, expected = _norm(kernel.norm, x[0].astype("float64"), rng)
        after = []
        expected = expected @ weight.T.astype("float64")
        if kernel.bias:
            after.append(rng.standard_normal(kernel.n).astype(kernel.bias))
            expected = expected + after[-1]
        if kernel.activation:
            gate, up = np.split(expected, 2, axis=1)
            expected = gate / (1 + np.exp(-gate)) * up
        if kernel.residual:
            after.append(rng.standard_normal((1, m, kernel.n)).astype("float32"))
            expected = expected + after[-1][0]
        out = tvm.runtime.tensor(np.zeros((1, m, kernel.outputs), "float32"))
        library["main"](*(tvm.runtime.tensor(a) for a in [x, *before, *stored, *after]), out)
        error = np.sum((out.numpy()[0] - expected) ** 2) / np.sum(expected**2)
        assert error < NMSE, (kernel.name, m, error)


def _norm(norm: InputNorm | None, x: np.ndarray, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    if norm is None:
        return [], x
    vectors = [rng.standard_normal(x.shape[1]).astype(dtype) for dtype in (norm.weight, norm.bias) if dtype]
    if norm.kind == "layer":
        x = x - x.mean(1, keepdims=True)
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + norm.eps) * (vectors[0].astype("float64") + norm.offset)
    return vectors, x + vectors[1] if len(vectors) == 2 else x


@pytest.mark.parametrize("name", FORMATS)
def test_formats_with_odd_shapes(name: str) -> None:
    fmt = FORMATS[name]
    k = 80 if fmt.bits == 0 else 100  # groups of 32 and of 40 both end inside the row
    _run(LinearKernel(6, k, fmt), (1, 2, 3, 5, 9))


@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_norm_on_the_way_in(kind: str, offset: float) -> None:
    bias = "float16" if kind == "layer" else None
    _run(LinearKernel(8, 96, INT4_F16, norm=InputNorm(kind, 1e-5, offset, "float16", bias)), (1, 6))


@pytest.mark.parametrize(("bias", "residual"), list(itertools.product([None, "float16", "float32"], [False, True])))
def test_bias_and_residual(bias: str | None, residual: bool) -> None:
    _run(LinearKernel(16, 64, INT4_F16, bias=bias, residual=residual), (1, 7))


@pytest.mark.parametrize("bias", [None, "float32"])
def test_gated_feed_forward(bias: str | None) -> None:
    _run(LinearKernel(24, 64, INT4_F16, activation="silu", bias=bias), (1, 5))


def test_many_tokens_cross_a_block() -> None:
    _run(LinearKernel(4, 64, INT4_F16), (191, 192, 193, 390))


@pytest.mark.parametrize("tile", [TileShape(2, (12, 8, 4, 2, 1)), TileShape(8, (1,)), TileShape(4, (3, 1))])
def test_other_tiles(tile: TileShape) -> None:
    _run(LinearKernel(20, 64, INT4_F16), (1, 13), tile)
