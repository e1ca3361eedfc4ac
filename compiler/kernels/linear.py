"""What a linear kernel is asked for: frozen records, from the pass that found the layer to the generators of code."""

from dataclasses import dataclass

from argosy.quant.scheme import Format


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
    """What one kernel computes: O from X (b, s, k) and W (n, k) stored in `fmt`.

    Without `activation`: O (b, s, n) = norm(X) W^T (+ bias) (+ residual). With one, the first half of W's rows are the
    gates and the second half the ups of a gated feed-forward, and O (b, s, n / 2) = activation(gate) * up; the bias
    comes before that. X has dtype `x`, O and the residual `out`.
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
        """For people who read dumps and profiles."""
        parts = [f"{self.norm.kind}norm" if self.norm else "", "linear", self.fmt.name, f"{self.n}x{self.k}"]
        parts.append(self.activation or "")
        parts += ["bias" if self.bias else "", "residual" if self.residual else ""]
        return "_".join(p for p in parts if p)

    @property
    def outputs(self) -> int:
        """Columns of O."""
        return self.n // 2 if self.activation else self.n


@dataclass(frozen=True, slots=True)
class TileShape:
    """One accumulator for each of `rows` weight rows (or vectors of rows) times some input rows.

    `tokens` are the heights in input rows, largest first, down to 1.
    """

    rows: int
    tokens: tuple[int, ...]
