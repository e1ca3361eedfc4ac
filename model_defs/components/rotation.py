"""Emit the operators of rotary embeddings (RoPE, Su et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend.nn import Tensor, op

from argosy.model_defs.components.rope import RopeSpec

ROPE_ATTRIBUTE = "argosy.rope"  # on a PrimFunc that rotates: the number of heads that it rotates
_OPAQUE = 8  # the `op_pattern` of a function that is fused with nothing


@dataclass(frozen=True, slots=True)
class Rotation:
    """cos and sin (n, rotary_dim / 2) float32 of this step's positions, for one kind of rope."""

    cos: Tensor
    sin: Tensor


def rotation(spec: RopeSpec, positions: Tensor) -> Rotation:
    """Emit the rotation of `positions` (n,) int32."""
    frequencies = Tensor.from_const(np.array(spec.inverse_frequencies, "float32"))

    def table(positions: te.Tensor, frequencies: te.Tensor) -> list[te.Tensor]:
        shape = (positions.shape[0], frequencies.shape[0])
        magnitude = tirx.const(spec.magnitude, "float32")

        def angle(i: tirx.Var, j: tirx.Var) -> tirx.Expr:
            return positions[i].astype("float32") * frequencies[j]

        return [
            te.compute(shape, lambda i, j: tirx.cos(angle(i, j)) * magnitude, name="cos"),
            te.compute(shape, lambda i, j: tirx.sin(angle(i, j)) * magnitude, name="sin"),
        ]

    return Rotation(*op.tensor_expr_op(table, "rope_table", [positions, frequencies]))


def rotate(qkv: Tensor, by: Rotation, heads: int, dtype: str) -> Tensor:
    """Rotate the first `heads` heads (q and k) of qkv (b, s, h, d) and keep the others (v). The result has `dtype`.

    The PrimFunc carries the attribute `argosy.rope`, which is `heads`, and is not fused with others.
    """

    def compute(qkv: te.Tensor, cos: te.Tensor, sin: te.Tensor) -> te.Tensor:
        pairs = cos.shape[1]
        tokens = qkv.shape[1]

        def element(b: tirx.Var, s: tirx.Var, h: tirx.Var, d: tirx.Var) -> tirx.Expr:
            row = b * tokens + s
            first = d < pairs
            pair = d % pairs
            partner = tirx.if_then_else(first, d + pairs, d - pairs)
            sign = tirx.if_then_else(first, tirx.const(-1.0, "float32"), tirx.const(1.0, "float32"))
            turned = qkv[b, s, h, d].astype("float32") * cos[row, pair]
            turned = turned + sign * qkv[b, s, h, partner].astype("float32") * sin[row, pair]
            kept = qkv[b, s, h, d].astype("float32")
            return tirx.if_then_else(tirx.all(h < heads, d < 2 * pairs), turned, kept).astype(dtype)

        return te.compute(qkv.shape, element, name="rotated")

    return op.tensor_expr_op(
        compute, "rope", [qkv, by.cos, by.sin], attrs={ROPE_ATTRIBUTE: heads, "op_pattern": _OPAQUE}
    )
