"""Compare the linear kernels on bytes with numpy: every instruction set that runs here, every format, tails, epilogues.

The reference rounds the inputs to int8 as the kernel must, so that only errors of float32 arithmetic remain.
"""

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import te, tirx

from argosy.compiler.kernels.cpu.linear import DotLinear, TileShape
from argosy.compiler.kernels.cpu.linear.instruction import INSTRUCTIONS, DotInstruction
from argosy.compiler.kernels.cpu.linear.tiles import TileLayout
from argosy.compiler.kernels.linear import InputNorm, LinearKernel
from argosy.dist.cpu_features import host_features
from argosy.quant.formats import pack, unpack
from argosy.quant.scheme import FORMATS, INT4_F16, INT4_MIN_F16, INT8_F16, Format

NMSE = 1e-11
TILED = [fmt for fmt in FORMATS.values() if TileLayout.holds(fmt)]
CPUS = {"avx512vnni": "cascadelake", "avxvnni": "alderlake", "avx2": "haswell", "portable": "x86-64"}


def runs_here(instruction: DotInstruction) -> bool:
    """Return whether this machine has the features of `instruction`, and a processor with little more is known."""
    return instruction.name in CPUS and instruction.features <= (host_features() or frozenset())


def parameters(rows: list[DotInstruction]) -> list:
    """Make test parameters; an instruction set that this machine lacks is skipped by name."""
    lacking = pytest.mark.skip
    return [
        pytest.param(i, id=i.name, marks=() if runs_here(i) else lacking(reason=f"this CPU cannot run {i.name}"))
        for i in rows
    ]


every_instruction = pytest.mark.parametrize("instruction", parameters(list(INSTRUCTIONS)))


def compiled(function: tirx.PrimFunc, instruction: DotInstruction) -> Callable[..., None]:
    """Compile `function` for a processor that has the instruction and little more."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": CPUS[instruction.name]})
    return tvm.compile(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), target=target).jit()["main"]


def stored(fmt: Format, n: int, k: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the tensors of a random matrix, and its values."""
    if fmt.has_min:  # only importers make it
        tensors = {
            "q_weight": rng.integers(0, 2**32, (n, k // fmt.per_word), dtype=np.uint32),
            "q_scale": rng.standard_normal((n, k // fmt.group)).astype(fmt.dtype),
            "q_min": rng.standard_normal((n, k // fmt.group)).astype(fmt.dtype),
        }
    else:
        tensors = pack(fmt, rng.standard_normal((n, k)).astype("float32"), "full")
    return tensors, unpack(fmt, tensors, k)


def tiles_of(layout: TileLayout, tensors: dict[str, np.ndarray], shape: tuple[int, int]) -> list[tvm.runtime.Tensor]:
    """Pack a stored matrix by the function that libraries export."""
    places = {name: te.placeholder(array.shape, str(array.dtype), name) for name, array in tensors.items()}
    function = te.create_prim_func([*places.values(), *layout.pack(shape, places)])
    out = [tvm.runtime.tensor(np.zeros(extents, dtype)) for extents, dtype in layout.tensors(shape).values()]
    compiled(function, layout.instruction)(*(tvm.runtime.tensor(a) for a in tensors.values()), *out)
    return out


def rounded(x: np.ndarray, planes: int = 1) -> np.ndarray:
    """Round x (m, k) to int8 in groups of 32, with one or two planes."""
    groups = x.astype("float32").reshape(x.shape[0], -1, 32)
    largest = np.abs(groups).max(-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    codes = np.rint(groups * inverse)
    if planes == 2:
        codes = codes + np.rint((groups * inverse - codes) * 254) / 254
    return (codes.astype("float64") * (largest / 127)).reshape(x.shape)


def check(
    kernel: LinearKernel, instruction: DotInstruction, tokens: tuple[int, ...], tile: TileShape, planes: int = 1
) -> None:
    rng = np.random.default_rng(0)
    assert DotLinear.fits(kernel, instruction)
    tensors, weight = stored(kernel.fmt, kernel.n, kernel.k, rng)
    packed = tiles_of(TileLayout(kernel.fmt, instruction), tensors, (kernel.n, kernel.k))
    function = compiled(DotLinear(kernel, tile, instruction, planes).build(), instruction)
    for m in tokens:
        x = rng.standard_normal((1, m, kernel.k)).astype("float32")
        x[0, 0, :32] = 0  # a group of zeros has no scale
        before, after, inputs = [], [], x[0]
        if kernel.norm:
            before = [rng.standard_normal(kernel.k).astype(kernel.norm.weight)]
            size = np.sqrt((inputs.astype("float64") ** 2).mean(1, keepdims=True) + kernel.norm.eps)
            inputs = inputs / size * before[0].astype("float64")
        expected = rounded(inputs, planes) @ weight.T.astype("float64")
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
        function(*(tvm.runtime.tensor(a) for a in [x, *before]), *packed, *(tvm.runtime.tensor(a) for a in after), out)
        error = np.sum((out.numpy()[0] - expected) ** 2) / np.sum(expected**2)
        # normalised inputs may be rounded the other way if they lie midway between two steps
        assert error < (1e-6 if kernel.norm else NMSE), (kernel.name, m, error)


@every_instruction
@pytest.mark.parametrize("fmt", TILED, ids=lambda fmt: fmt.name)
def test_formats(instruction: DotInstruction, fmt: Format) -> None:
    check(LinearKernel(32, 96, fmt), instruction, (1, 2, 7), TileShape(1, (4, 2, 1)))


@every_instruction
@pytest.mark.parametrize("fmt", TILED, ids=lambda fmt: fmt.name)
def test_two_planes(instruction: DotInstruction, fmt: Format) -> None:
    check(LinearKernel(32, 96, fmt), instruction, (1, 3), TileShape(1, (2, 1)), planes=2)


def test_two_planes_are_as_good_as_16_bits() -> None:
    x = np.random.default_rng(0).standard_normal((8, 256)).astype("float32")
    assert np.square(rounded(x, 2) - x).mean() < np.square(rounded(x) - x).mean() / 250**2


@every_instruction
def test_rows_that_are_no_whole_block(instruction: DotInstruction) -> None:
    check(LinearKernel(37, 64, INT4_F16), instruction, (1, 3), TileShape(1, (2, 1)))


@every_instruction
@pytest.mark.parametrize("fmt", [INT4_F16, INT4_MIN_F16], ids=lambda fmt: fmt.name)
def test_norm_bias_residual(instruction: DotInstruction, fmt: Format) -> None:
    kernel = LinearKernel(32, 64, fmt, InputNorm("rms", 1e-5, 0.0, "float16"), bias="float16", residual=True)
    check(kernel, instruction, (1, 5), TileShape(1, (2, 1)))


@every_instruction
def test_gated_feed_forward(instruction: DotInstruction) -> None:
    check(LinearKernel(64, 64, INT8_F16, activation="silu"), instruction, (1, 3), TileShape(1, (2, 1)))


@pytest.mark.parametrize("instruction", parameters([i for i in INSTRUCTIONS if i.name == "avx512vnni"]))
@pytest.mark.parametrize(
    "tile", [TileShape(1, (12, 8, 4, 2, 1)), TileShape(4, (4, 2, 1)), TileShape(2, (8, 3, 1))], ids=str
)
def test_tiles_and_tails(instruction: DotInstruction, tile: TileShape) -> None:
    check(LinearKernel(64, 64, INT4_F16), instruction, (1, 13, 64, 193), tile)


@every_instruction
@pytest.mark.parametrize("fmt", TILED, ids=lambda fmt: fmt.name)
def test_rows_read_back_from_tiles(instruction: DotInstruction, fmt: Format) -> None:
    tensors, weight = stored(fmt, 37, 64, np.random.default_rng(1))
    layout = TileLayout(fmt, instruction)
    packed = tiles_of(layout, tensors, (37, 64))
    places = {name: te.placeholder(extents, dtype, name) for name, (extents, dtype) in layout.tensors((37, 64)).items()}
    rows = te.compute((37, 64), layout.row(places, "float32"), name="rows")
    out = tvm.runtime.tensor(np.zeros((37, 64), "float32"))
    compiled(te.create_prim_func([*places.values(), rows]), instruction)(*packed, out)
    np.testing.assert_allclose(out.numpy(), weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("instruction", parameters([i for i in INSTRUCTIONS if i.name in ("avx2", "avx512vnni")]))
def test_the_largest_values_do_not_overflow(instruction: DotInstruction) -> None:
    """With codes and inputs at their limits, all of one sign, saturating 16-bit sums would be wrong."""
    for fmt in (INT4_F16, INT8_F16):
        for code in (0, (1 << fmt.bits) - 1):
            word = np.uint32(sum(code << (fmt.bits * i) for i in range(fmt.per_word)))
            tensors = {
                "q_weight": np.full((16, 64 // fmt.per_word), word, np.uint32),
                "q_scale": np.ones((16, 2), "float16"),
            }
            packed = tiles_of(TileLayout(fmt, instruction), tensors, (16, 64))
            kernel = DotLinear(LinearKernel(16, 64, fmt), TileShape(1, (1,)), instruction).build()
            out = tvm.runtime.tensor(np.zeros((1, 1, 16), "float32"))
            for sign in (1, -1):
                x = np.full((1, 1, 64), sign, "float32")
                compiled(kernel, instruction)(tvm.runtime.tensor(x), *packed, out)
                np.testing.assert_allclose(out.numpy(), sign * 64.0 * (code - fmt.zero), rtol=1e-6)
