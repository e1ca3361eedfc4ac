"""Multi-head attention with grouped keys and values, over the paged KV cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from argosy.model_defs.components.component import StateKind
from argosy.model_defs.components.norm import NormSpec
from argosy.model_defs.components.parts import MatrixPart, NormPart, Part, Piece

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

    from argosy.model_defs.components.modules import ForwardContext, Node

# Head counts and sizes of q, k and v: dimensions in comments are b sequences, s tokens, h heads, d numbers of a head.


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """softmax(scale * q k^T) v, with one key/value head for every `heads / kv_heads` query heads.

    `qk_norm` is applied to q and k before the rotation: over each head, with one weight for all (`per_head`) or one for
    each (`each_head`), or over the whole projection. `softcap` c turns a score s into c * tanh(s / c). A token sees
    itself and the `window - 1` tokens before it, or every earlier one. `rope` is an index into the network's ropes;
    None: q and k are not rotated.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: NormSpec | None = None
    qk_norm_scope: Literal["per_head", "each_head", "projection"] = "per_head"
    softcap: float | None = None
    window: int | None = None
    rope: int | None = 0

    @property
    def state_kind(self) -> StateKind:
        """The state that is kept between calls: keys and values of every token."""
        return "kv_cache"

    def parts(self, hidden: int) -> dict[str, Part]:
        """Return the parameters by name."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        pieces = (Piece("q_proj", q), Piece("k_proj", kv), Piece("v_proj", kv))
        parts: dict[str, Part] = {
            "qkv_proj": MatrixPart((q + 2 * kv, hidden), self.qkv_bias, 0, pieces, self.heads),
            "o_proj": MatrixPart((hidden, q), self.output_bias, 1),
        }
        if self.qk_norm is not None:
            axis = None if self.qk_norm_scope == "per_head" else 0
            parts["q_norm"] = NormPart(self.qk_norm, self._norm_shape(self.heads), axis)
            parts["k_norm"] = NormPart(self.qk_norm, self._norm_shape(self.kv_heads), axis)
        return parts

    def _norm_shape(self, heads: int) -> tuple[int, ...]:
        """Return the shape of the weight that normalises `heads` heads."""
        d = self.head_dim
        return {"per_head": (d,), "each_head": (heads, d), "projection": (heads * d,)}[self.qk_norm_scope]

    def forward(self, parts: Node, x: Tensor, context: ForwardContext, index: int) -> Tensor:
        """Emit x (b, s, hidden) -> (b, s, hidden)."""
        from tvm.relax.frontend.nn import op

        from argosy.model_defs.components.rotation import rotate

        b, s, _ = x.shape
        qkv = op.reshape(parts["qkv_proj"](x), (b, s, self.heads + 2 * self.kv_heads, self.head_dim))
        if self.qk_norm is not None:
            q, k, v = op.split(qkv, [self.heads, self.heads + self.kv_heads], axis=2)
            qkv = op.concat([self._normalise(parts["q_norm"], q), self._normalise(parts["k_norm"], k), v], dim=2)
        if self.rope is not None:
            qkv = rotate(qkv, context.rotations[self.rope], self.heads + self.kv_heads, context.kv_dtype)
        y = context.cache.attention_with_fused_qkv(index, qkv.astype(context.kv_dtype), self.heads, self.scale)
        y = op.reshape(y, (b, s, self.heads * self.head_dim))  # from (b, s, h, d)
        return parts["o_proj"](y.astype(context.activation_dtype))

    def _normalise(self, norm: Node, x: Tensor) -> Tensor:
        from tvm.relax.frontend.nn import op

        if self.qk_norm_scope != "projection":
            return norm(x)
        b, s, h, d = x.shape
        return op.reshape(norm(op.reshape(x, (b, s, h * d))), (b, s, h, d))
