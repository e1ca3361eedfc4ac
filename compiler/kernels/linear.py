"""Describe linear layers to the kernel generators, and define what a target provides to compute them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from argosy.quant.scheme import Format

if TYPE_CHECKING:
    from tvm import te, tirx


@dataclass(frozen=True, slots=True)
class InputNorm:
    """A norm of the input rows: `rms` or `layer`, as `NormSpec` defines them; dtypes of its weight and bias (k,)."""

    kind: str
    eps: float
    offset: float
    weight: str
    bias: str | None = None


@dataclass(frozen=True, slots=True)
class LinearKernel:
    """The computation of one kernel: O from X (b, s, k) and W (n, k) stored in `fmt`.

    Without `activation`: O (b, s, n) = norm(X) W^T (+ bias) (+ residual). With one, the first half of W's rows are the
    gates and the second half the ups of a gated feed-forward, and O (b, s, n / 2) = activation(gate) * up; the bias is
    added before the activation. X has dtype `x`, O and the residual `out`.
    """

    n: int
    k: int
    fmt: Format
    norm: InputNorm | None = None
    bias: str | None = None  # its dtype
    residual: bool = False
    activation: str | None = None
    x: str = "float32"
    out: str = "float32"

    @property
    def name(self) -> str:
        """The name of the kernel in dumps and profiles."""
        parts = [f"{self.norm.kind}norm" if self.norm else "", "linear", self.fmt.name, f"{self.n}x{self.k}"]
        parts.append(self.activation or "")
        parts += ["bias" if self.bias else "", "residual" if self.residual else ""]
        return "_".join(p for p in parts if p)

    @property
    def outputs(self) -> int:
        """Columns of O."""
        return self.n // 2 if self.activation else self.n


class Layout(Protocol):
    """A form of the weights other than the stored one: the tensors a library packs a matrix into when it is loaded."""

    @property
    def fmt(self) -> Format:
        """The format the matrix is stored in."""

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return name -> (shape, dtype) of the packed tensors, in the order in which kernels take them."""

    def pack(self, shape: tuple[int, int], stored: Mapping[str, te.Tensor]) -> list[te.Tensor]:
        """Pack a stored (n, k) matrix, as TE."""

    def row(self, tensors: Mapping[str, te.Tensor], dtype: str) -> Callable[[tirx.Expr, tirx.Expr], tirx.Expr]:
        """Return the function that reads the weight at (row, column) back from packed tensors."""


class LinearBuilder(Protocol):
    """Emits the PrimFunc of one `LinearKernel`."""

    @property
    def key(self) -> object:
        """Layers with equal keys share the function."""

    @property
    def name(self) -> str:
        """The name of the function in dumps and profiles."""

    def build(self) -> tirx.PrimFunc:
        """Build the scheduled PrimFunc.

        Arguments: X (b, s, k), [norm weight (k,)], [norm bias (k,)], the weight tensors, [bias (n,)],
        [residual (b, s, n)], O. The weight tensors are those of the plan's layout, else of the format.
        """


class LinearPlan(Protocol):
    """How a target multiplies by stored weights."""

    @property
    def dtype(self) -> str:
        """The dtype of the graph's activations."""

    def layout(self, kernel: LinearKernel) -> Layout | None:
        """Return the layout `kernel` reads its weights in, or None if it reads them as they are stored."""

    def row_layout(self, fmt: Format) -> Layout | None:
        """Return the layout from which single rows of a matrix in `fmt` can be read, or None if there is none."""

    def builder(self, kernel: LinearKernel) -> LinearBuilder | None:
        """Return the builder of `kernel`, or None if no kernel of this target computes it as a whole."""
