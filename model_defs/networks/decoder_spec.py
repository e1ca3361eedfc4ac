"""Describe a decoder-only language model.

A `DecoderSpec` says everything that distinguishes one from another, in numbers and words, so that it can be hashed,
compared and written to JSON; `Decoder` is its module.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from argosy.model_defs.components import COMPONENTS
from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.component import FeedForward, Mixer, StateKind
from argosy.model_defs.components.norm import NormSpec
from argosy.model_defs.components.parts import MatrixPart, NormPart, Part, Slot, TablePart
from argosy.model_defs.components.rope import RopeSpec
from argosy.model_defs.networks.network import Argument, EntryPoint
from argosy.support.errors import UnsupportedModelError

Topology = Literal["pre_norm", "parallel", "post_norm", "sandwich"]

# The norms of a layer by their place, under the names of the Hugging Face implementations.
NORMS: dict[Topology, dict[str, str]] = {
    "pre_norm": {"before_mixer": "input_layernorm", "before_feed_forward": "post_attention_layernorm"},
    "parallel": {"before_mixer": "input_layernorm", "before_feed_forward": "post_attention_layernorm"},
    "post_norm": {"after_mixer": "post_attention_layernorm", "after_feed_forward": "post_feedforward_layernorm"},
    "sandwich": {
        "before_mixer": "input_layernorm",
        "after_mixer": "post_attention_layernorm",
        "before_feed_forward": "pre_feedforward_layernorm",
        "after_feed_forward": "post_feedforward_layernorm",
    },
}

_CHUNK = (Argument("x", (1, "n", "hidden"), "activation"),)  # tokens of all sequences, one after the other
ENTRY_POINTS: dict[str, EntryPoint] = {
    "embed": EntryPoint((Argument("ids", ("n",), "int32"),), stateful=False),
    "prefill": EntryPoint(_CHUNK),
    "decode": EntryPoint((Argument("x", (1, 1, "hidden"), "activation"),)),
    "batch_prefill": EntryPoint((*_CHUNK, Argument("logit_positions", ("b",), "int32"))),
    "batch_decode": EntryPoint((Argument("x", ("b", 1, "hidden"), "activation"),)),
    "batch_verify": EntryPoint(_CHUNK),
}


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer: a mixer, which looks at earlier tokens, and a feed-forward."""

    mixer: Mixer
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A decoder-only transformer.

    Topology, with N a norm, M the mixer and F the feed-forward of a layer:
      pre_norm   x += M(N(x));      x += F(N(x))
      parallel   x += M(N(x)) + F(N'(x)); N' is N itself if `parallel_shared_norm`
      post_norm  x += N(M(x));      x += N(F(x))
      sandwich   x += N(M(N(x)));   x += N(F(N(x)))
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    layers: tuple[LayerSpec, ...]
    topology: Topology
    norm: NormSpec
    context_window: int
    ropes: tuple[RopeSpec, ...] = ()
    learned_positions: int | None = None  # rows of the position table (gpt2)
    parallel_shared_norm: bool = False
    embedding_scale: float = 1.0
    tied_embeddings: bool = False
    head_bias: bool = False
    logit_softcap: float | None = None

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        return len(self.layers)

    @property
    def attention(self) -> tuple[AttentionSpec, ...]:
        """The mixers that keep keys and values, in the order of the layers."""
        return tuple(layer.mixer for layer in self.layers if isinstance(layer.mixer, AttentionSpec))

    @property
    def window(self) -> int | None:
        """The one window in tokens that the sliding layers share, or None if every layer sees everything."""
        windows = {attention.window for attention in self.attention if attention.window is not None}
        return windows.pop() if windows else None

    @property
    def state_kind(self) -> StateKind:
        """The state that the layers keep between calls.

        Raises UnsupportedModelError if it is not of one kind.
        """
        kinds = {layer.mixer.state_kind for layer in self.layers}
        if len(kinds) != 1:
            raise UnsupportedModelError(f"layers that keep `{' and '.join(sorted(kinds))}` are not supported together")
        return kinds.pop()

    @property
    def layer_norms(self) -> dict[str, str]:
        """The names of a layer's norms by their place."""
        norms = dict(NORMS[self.topology])
        if self.topology == "parallel" and self.parallel_shared_norm:
            del norms["before_feed_forward"]
        return norms

    @property
    def entry_points(self) -> Mapping[str, EntryPoint]:
        """The functions of the compiled library by name."""
        return ENTRY_POINTS

    def parts(self) -> dict[str, Part]:
        """Return every parameter by name: the one place that decides their order."""
        hidden = self.hidden_size
        parts: dict[str, Part] = {
            "model.embed_tokens": MatrixPart((self.vocab_size, hidden), shard_axis=0, kind="embedding")
        }
        if self.learned_positions is not None:
            parts["model.embed_positions"] = TablePart((self.learned_positions, hidden))
        for i, layer in enumerate(self.layers):
            for place, component in (("self_attn", layer.mixer), ("mlp", layer.feed_forward)):
                for name, part in component.parts(hidden).items():
                    parts[f"model.layers.{i}.{place}.{name}"] = part
            for name in self.layer_norms.values():
                parts[f"model.layers.{i}.{name}"] = NormPart(self.norm, (hidden,))
        parts["model.norm"] = NormPart(self.norm, (hidden,))
        if not self.tied_embeddings:
            parts["lm_head"] = MatrixPart((self.vocab_size, hidden), self.head_bias, shard_axis=0)
        return parts

    def slots(self) -> Iterator[Slot]:
        """Yield every parameter in the order of the compiled library.

        Names follow the Hugging Face llama spelling with q/k/v and gate/up merged, which is also MLC's:
        `model.layers.0.self_attn.qkv_proj`, `model.layers.0.mlp.gate_up_proj`, `model.embed_tokens`, `lm_head`, ...
        """
        for name, part in self.parts().items():
            yield from part.slots(name)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of everything the spec says."""
        text = json.dumps(_plain(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """Turn a spec into JSON values; components carry their kind, because two kinds may have the same fields."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, LayerSpec):
        return [[COMPONENTS[type(part)], _plain_fields(part)] for part in (value.mixer, value.feed_forward)]
    return _plain_fields(value) if dataclasses.is_dataclass(value) else value


def _plain_fields(record: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(record)
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
