"""The declarative decoder: a config goes in (in the family files), a frozen description of the network comes out.

A `DecoderSpec` says everything that distinguishes one decoder-only language model from another. It holds numbers and
words only, so it can be hashed, compared and written to JSON; `decoder.py` turns it into a module.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
Topology = Literal["pre_norm", "parallel", "post_norm", "sandwich"]


@dataclass(frozen=True, slots=True)
class NormSpec:
    """A normalisation over the last axis.

    `rms`: x / sqrt(mean(x^2) + eps) * (weight + offset). `layer`: (x - mean) / sqrt(var + eps) * weight (+ bias).
    """

    kind: Literal["rms", "layer"]
    eps: float
    bias: bool = False
    offset: float = 0.0  # gemma stores weight - 1


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary embedding by rotating halves: one inverse frequency for each pair (i, i + rotary_dim / 2).

    `inverse_frequencies` has rotary_dim / 2 entries, all scaling already folded in; `magnitude` multiplies cos and sin
    (yarn's and longrope's attention factor). Dimensions from `rotary_dim` on pass through unrotated.
    """

    rotary_dim: int
    inverse_frequencies: tuple[float, ...]
    magnitude: float = 1.0


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """Multi-head attention with grouped keys and values.

    `qk_norm` is applied to q and k before the rotation: over each head, with one weight for all (`per_head`) or one for
    each (`each_head`), or over the whole projection.
    `scale` multiplies q k^T. `softcap` c turns a score s into c * tanh(s / c).
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


@dataclass(frozen=True, slots=True)
class FeedForwardSpec:
    """`gated`: down(activation(gate(x)) * up(x)). `plain`: down(activation(up(x)))."""

    kind: Literal["gated", "plain"]
    size: int
    activation: Activation
    bias: bool = False


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What may differ from one layer to the next.

    A token sees itself and the `window - 1` tokens before it, or every earlier one. `rope` is an index into
    `DecoderSpec.ropes`. `scale` multiplies `AttentionSpec.scale`.
    """

    window: int | None = None
    rope: int = 0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A decoder-only transformer.

    Topology, with N a norm, A attention and F the feed-forward:
      pre_norm   x += A(N(x));      x += F(N(x))
      parallel   x += A(N(x)) + F(N'(x)); N' is N itself if `parallel_shared_norm`
      post_norm  x += N(A(x));      x += N(F(x))
      sandwich   x += N(A(N(x)));   x += N(F(N(x)))
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    layers: tuple[LayerSpec, ...]
    topology: Topology
    norm: NormSpec
    attention: AttentionSpec
    feed_forward: FeedForwardSpec
    context_window: int
    ropes: tuple[RopeSpec, ...] = ()
    learned_positions: int | None = None  # rows of the position table (gpt2)
    parallel_shared_norm: bool = False
    embedding_scale: float = 1.0
    tied_embeddings: bool = False
    head_bias: bool = False
    logit_softcap: float | None = None

    @property
    def window(self) -> int | None:
        """The one window in tokens that the sliding layers share, or None where every layer sees everything."""
        windows = {layer.window for layer in self.layers if layer.window is not None}
        return windows.pop() if windows else None

    def digest(self) -> str:
        """SHA-256 (hex) of everything the spec says."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
