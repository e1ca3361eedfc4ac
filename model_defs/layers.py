"""The components of a decoder: specs and formats go in, relax `nn` modules that emit plain operators come out.

Operators stay separate (`matmul(x, permute_dims(dequantize(...)))`, `rms_norm`, `silu`): the compiler finds and fuses
them.
Shapes in comments: b sequences, s tokens of each, n = b * s, h heads, d dimensions of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from argosy.model_defs.parameters import qk_norm_shape
from argosy.model_defs.spec import Activation, DecoderSpec, NormSpec, RopeSpec
from argosy.quant.relax_ops import dequantize, dequantize_rows
from argosy.quant.scheme import Format

ROPE_ATTRIBUTE = "argosy.rope"
_OPAQUE = 8  # the `op_pattern` of a function that is fused with nothing


@dataclass(frozen=True, slots=True)
class Storage:
    """How parameters are stored, the dtype that the network computes in, and that of cached keys and values.

    `formats` has the format of every linear and embedding parameter by its name; all else is stored as `plain`.
    """

    formats: Mapping[str, Format]
    plain: Format
    activation: str
    kv: str


class Matrix(nn.Module):
    """A stored (n, k) matrix: the tensors of its format become parameters named by their suffixes."""

    def __init__(self, name: str, shape: tuple[int, int], storage: Storage) -> None:
        self.format = storage.formats[name]
        self.shape = shape
        self.activation = storage.activation
        for suffix, (stored_shape, dtype) in self.format.tensors(shape).items():
            setattr(self, suffix, nn.Parameter(stored_shape, dtype))

    def stored(self) -> dict[str, Tensor]:
        """The parameters by suffix."""
        return {suffix: getattr(self, suffix) for suffix in self.format.tensors(self.shape)}

    def rows(self, ids: Tensor) -> Tensor:
        """Rows `ids` (n,) of the matrix: (n, k)."""
        return dequantize_rows(self.format, self.stored(), ids, self.shape[1], self.activation)

    def multiply(self, x: Tensor) -> Tensor:
        """x (..., k) times the transposed matrix: (..., n)."""
        weight = dequantize(self.format, self.stored(), self.shape, self.activation)
        return op.matmul(x, op.permute_dims(weight))


class Linear(Matrix):
    """y = x W^T (+ bias)."""

    def __init__(self, name: str, shape: tuple[int, int], storage: Storage, bias: bool = False) -> None:
        super().__init__(name, shape, storage)
        self.bias = nn.Parameter(shape[:1], storage.plain.dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.multiply(x)
        return y if self.bias is None else y + self.bias.astype(self.activation)


class Norm(nn.Module):
    """A normalisation over the last axis; a weight with more axes than one scales every row by its own."""

    def __init__(self, spec: NormSpec, shape: tuple[int, ...], storage: Storage) -> None:
        self.spec = spec
        self.activation = storage.activation
        self.weight = nn.Parameter(shape, storage.plain.dtype)
        self.bias = nn.Parameter(shape, storage.plain.dtype) if spec.bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.astype(self.activation)
        if self.spec.offset:
            weight = weight + Tensor.from_scalar(self.spec.offset, self.activation)
        bias = None if self.bias is None else self.bias.astype(self.activation)
        if len(self.weight.shape) == 1:
            return self._normalise(x, weight, bias)
        ones = Tensor.from_const(np.ones(self.weight.shape[-1], self.activation))
        y = self._normalise(x, ones, None) * weight
        return y if bias is None else y + bias

    def _normalise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.spec.kind == "rms":
            return op.rms_norm(x, weight, axes=[-1], epsilon=self.spec.eps)
        return op.layer_norm(x, self.weight.shape[-1], weight, bias, self.spec.eps)


@dataclass(frozen=True, slots=True)
class Rotation:
    """cos and sin (n, rotary_dim / 2) float32 of this step's positions, for one kind of rope."""

    cos: Tensor
    sin: Tensor


def rotation(spec: RopeSpec, positions: Tensor) -> Rotation:
    """The rotation of `positions` (n,) int32."""
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
    """Rotate the first `heads` heads (q and k) of qkv (b, s, h, d); the others (v) stay. The result has `dtype`.

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


class Attention(nn.Module):
    """Attention over the paged cache, with what comes before it (q/k norm, rope) and after it (output projection)."""

    def __init__(self, spec: DecoderSpec, name: str, storage: Storage) -> None:
        a = self.spec = spec.attention
        self.activation, self.kv = storage.activation, storage.kv
        rows = (a.heads + 2 * a.kv_heads) * a.head_dim
        self.qkv_proj = Linear(f"{name}.qkv_proj", (rows, spec.hidden_size), storage, a.qkv_bias)
        self.o_proj = Linear(f"{name}.o_proj", (spec.hidden_size, a.heads * a.head_dim), storage, a.output_bias)
        self.q_norm = self.k_norm = None
        if a.qk_norm is not None:
            self.q_norm = Norm(a.qk_norm, qk_norm_shape(spec, a.heads), storage)
            self.k_norm = Norm(a.qk_norm, qk_norm_shape(spec, a.kv_heads), storage)

    def forward(self, x: Tensor, kv: PagedKVCache, layer: int, scale: float, rotation: Rotation | None) -> Tensor:
        a = self.spec
        b, s, _ = x.shape
        qkv = op.reshape(self.qkv_proj(x), (b, s, a.heads + 2 * a.kv_heads, a.head_dim))
        qkv = self._normalise(qkv)
        if rotation is not None:
            qkv = rotate(qkv, rotation, a.heads + a.kv_heads, self.kv)
        y = kv.attention_with_fused_qkv(layer, qkv.astype(self.kv), a.heads, scale)  # (b, s, h, d)
        return self.o_proj(op.reshape(y, (b, s, a.heads * a.head_dim)).astype(self.activation))

    def _normalise(self, qkv: Tensor) -> Tensor:
        if self.q_norm is None or self.k_norm is None:
            return qkv
        a = self.spec
        q, k, v = op.split(qkv, [a.heads, a.heads + a.kv_heads], axis=2)
        return op.concat([self._norm(self.q_norm, q), self._norm(self.k_norm, k), v], dim=2)

    def _norm(self, norm: Norm, x: Tensor) -> Tensor:
        if self.spec.qk_norm_scope != "projection":
            return norm(x)
        b, s, h, d = x.shape
        return op.reshape(norm(op.reshape(x, (b, s, h * d))), (b, s, h, d))


def activate(x: Tensor, activation: Activation) -> Tensor:
    """`activation` of every element."""
    if activation == "gelu_tanh":
        return op.gelu(x, approximate="tanh")
    return {"silu": op.silu, "gelu": op.gelu, "relu": op.relu}[activation](x)


class GatedFeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)), with gate and up in one matrix."""

    def __init__(self, spec: DecoderSpec, name: str, storage: Storage) -> None:
        f = self.spec = spec.feed_forward
        self.gate_up_proj = Linear(f"{name}.gate_up_proj", (2 * f.size, spec.hidden_size), storage, f.bias)
        self.down_proj = Linear(f"{name}.down_proj", (spec.hidden_size, f.size), storage, f.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = op.split(self.gate_up_proj(x), 2, axis=-1)
        return self.down_proj(activate(gate, self.spec.activation) * up)


class PlainFeedForward(nn.Module):
    """down(activation(up(x)))."""

    def __init__(self, spec: DecoderSpec, name: str, storage: Storage) -> None:
        f = self.spec = spec.feed_forward
        self.up_proj = Linear(f"{name}.up_proj", (f.size, spec.hidden_size), storage, f.bias)
        self.down_proj = Linear(f"{name}.down_proj", (spec.hidden_size, f.size), storage, f.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(activate(self.up_proj(x), self.spec.activation))


FEED_FORWARDS = {"gated": GatedFeedForward, "plain": PlainFeedForward}


def softcap(x: Tensor, cap: float) -> Tensor:
    """cap * tanh(x / cap)."""
    limit = Tensor.from_scalar(cap, x.dtype)
    return op.tanh(x / limit) * limit
