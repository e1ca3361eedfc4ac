"""Build the kernels of linear layers for GPUs.

The sizes of the matrix are arguments, like the number of tokens: one pair of kernels computes all layers with the same
format, bias and residual. A kernel for every shape would multiply what is compiled before the first answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size
from argosy.compiler.kernels.gpu.linear.compute import Multiplication, few_tokens, many_tokens
from argosy.compiler.kernels.gpu.linear.tiles import matrix_tile, row_tile
from argosy.compiler.kernels.gpu.linear.weights import StoredWeights
from argosy.compiler.kernels.gpu.traits import GpuTraits
from argosy.compiler.kernels.linear import LinearKernel
from argosy.quant.scheme import Format

FEW_TOKENS = 4  # up to here, reading the weights once for each token is faster than filling tiles


@dataclass(frozen=True, slots=True)
class GpuLinearPlan:
    """How a GPU multiplies: in `dtype`, reading weights of `formats` as they are stored."""

    traits: GpuTraits
    dtype: str
    formats: frozenset[str]

    def layout(self, kernel: LinearKernel) -> None:
        """Return None: weights are not packed again."""
        return None

    def row_layout(self, fmt: Format) -> None:
        """Return None: rows are read from the weights as they are stored."""
        return None

    def builder(self, kernel: LinearKernel) -> GpuLinear | None:
        """Return the builder of `kernel`, or None if a part of it must be a kernel of its own."""
        simple = kernel.norm is None and kernel.activation is None and kernel.fmt.name in self.formats
        whole = kernel.fmt.bits == 0 or kernel.k % kernel.fmt.per_word == 0
        return GpuLinear(self.traits, kernel) if simple and whole else None


class GpuLinear:
    """O (b, s, n) = X (b, s, k) W^T (+ bias) (+ residual), with W (n, k) stored in `fmt` and all sizes symbolic.

    Arguments: X, the tensors of W, [bias (n,)], [residual (b, s, n)], O.
    """

    def __init__(self, traits: GpuTraits, kernel: LinearKernel) -> None:
        self.traits, self.kernel = traits, kernel

    @property
    def key(self) -> object:
        """What the function depends on: layers with the same key share it."""
        k = self.kernel
        return (k.fmt.name, k.bias, k.residual, k.x, k.out)

    @property
    def name(self) -> str:
        """The function's name in dumps and profiles."""
        k = self.kernel
        parts = ["linear", k.fmt.name, "bias" if k.bias else "", "residual" if k.residual else ""]
        return "_".join([*filter(None, parts), *([k.out] if k.out != k.x else [])])

    def build(self) -> tirx.PrimFunc:
        """Build the scheduled PrimFunc."""
        k = self.kernel
        b, s, n, columns = size("b"), size("s"), size("n"), size("k")
        kernel = Kernel(self.name)
        with kernel:
            x = kernel.tensor("x", (b, s, columns), k.x)
            weights = StoredWeights(kernel, k.fmt, n, columns)
            bias = kernel.tensor("bias", (n,), k.bias) if k.bias else None
            residual = kernel.tensor("residual", (b, s, n), k.out) if k.residual else None
            out = kernel.tensor("out", (b, s, n), k.out)
            x, out = _by_token(x), _by_token(out)
            residual = None if residual is None else _by_token(residual)

            def finish(token: tirx.Expr, row: tirx.Expr, value: tirx.Expr) -> None:
                if bias is not None:
                    value = value + T.Cast("float32", bias[row])
                if residual is not None:
                    value = value + T.Cast("float32", residual[token, row])
                T.buffer_store(out, T.Cast(k.out, value), [token, row])

            def input_at(token: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
                return T.Cast("float32", x[token, column])

            job = Multiplication(weights, input_at, finish, b * s, n, columns)
            if k.x != k.out:  # logits, of the last tokens only
                few_tokens(job, row_tile(self.traits))
            else:
                with T.If(b * s <= FEW_TOKENS):
                    with T.Then():
                        few_tokens(job, row_tile(self.traits))
                    with T.Else():
                        many_tokens(job, matrix_tile(self.traits))
        return kernel.function.with_attr("op_pattern", 8)


def _by_token(tensor: tirx.Buffer) -> tirx.Buffer:
    """View (b, s, k) as (b * s, k)."""
    b, s, k = tensor.shape
    return T.decl_buffer((b * s, k), tensor.dtype, data=tensor.data, layout=None)
