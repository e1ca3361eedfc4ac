"""Dense feed-forwards: every token passes through every weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from argosy.model_defs.components.parts import MatrixPart, Part, Piece

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

    from argosy.model_defs.components.modules import Node

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]


@dataclass(frozen=True, slots=True)
class GatedSpec:
    """down(activation(gate(x)) * up(x)), with gate and up in one matrix."""

    size: int
    activation: Activation
    bias: bool = False

    def parts(self, hidden: int) -> dict[str, Part]:
        """Return the parameters by name."""
        gate_and_up = (Piece("gate_proj", self.size), Piece("up_proj", self.size))
        return {
            "gate_up_proj": MatrixPart((2 * self.size, hidden), self.bias, 0, gate_and_up),
            "down_proj": MatrixPart((hidden, self.size), self.bias, 1),
        }

    def forward(self, parts: Node, x: Tensor) -> Tensor:
        """Emit x (b, s, hidden) -> (b, s, hidden)."""
        from tvm.relax.frontend.nn import op

        gate, up = op.split(parts["gate_up_proj"](x), 2, axis=-1)
        return parts["down_proj"](activate(gate, self.activation) * up)


@dataclass(frozen=True, slots=True)
class PlainSpec:
    """down(activation(up(x)))."""

    size: int
    activation: Activation
    bias: bool = False

    def parts(self, hidden: int) -> dict[str, Part]:
        """Return the parameters by name."""
        return {
            "up_proj": MatrixPart((self.size, hidden), self.bias, 0),
            "down_proj": MatrixPart((hidden, self.size), self.bias, 1),
        }

    def forward(self, parts: Node, x: Tensor) -> Tensor:
        """Emit x (b, s, hidden) -> (b, s, hidden)."""
        return parts["down_proj"](activate(parts["up_proj"](x), self.activation))


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Emit the activation function of every element of `x`."""
    from tvm.relax.frontend.nn import op

    if activation == "gelu_tanh":
        return op.gelu(x, approximate="tanh")
    return {"silu": op.silu, "gelu": op.gelu, "relu": op.relu}[activation](x)
