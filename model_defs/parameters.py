"""Which parameters a spec has, and what a parameter is made of: a spec goes in, its `Slot`s come out.

The names follow the Hugging Face llama spelling with q/k/v and gate/up merged, which is also MLC's:
`model.layers.0.self_attn.qkv_proj`, `model.layers.0.mlp.gate_up_proj`, `model.embed_tokens`, `lm_head`, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from argosy.model_defs.spec import DecoderSpec, NormSpec, Topology

ParameterKind = Literal["linear", "embedding", "plain"]

# The norms of a layer by where they stand, named as the Hugging Face implementations name them.
NORMS: dict[Topology, dict[str, str]] = {
    "pre_norm": {"before_attention": "input_layernorm", "before_feed_forward": "post_attention_layernorm"},
    "parallel": {"before_attention": "input_layernorm", "before_feed_forward": "post_attention_layernorm"},
    "post_norm": {"after_attention": "post_attention_layernorm", "after_feed_forward": "post_feedforward_layernorm"},
    "sandwich": {
        "before_attention": "input_layernorm",
        "after_attention": "post_attention_layernorm",
        "before_feed_forward": "pre_feedforward_layernorm",
        "after_feed_forward": "post_feedforward_layernorm",
    },
}


@dataclass(frozen=True, slots=True)
class Source:
    """One checkpoint tensor, and how it becomes rows of the parameter.

    `shape` is the tensor's shape in the checkpoint; `adapt` (name in `ADAPTERS`) turns it into (n, k) or (n,).
    """

    name: str
    shape: tuple[int, ...]
    adapt: str = "none"
    heads: int = 0  # what the adapter needs

    def rows(self, array: np.ndarray) -> np.ndarray:
        """The tensor as rows of the parameter: (n, k) or (n,)."""
        return ADAPTERS[self.adapt](array, self)

    @property
    def reorders_rows_only(self) -> bool:
        """Whether `rows` moves whole rows, so that it may be applied to packed rows as well."""
        return self.adapt != "transpose"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of the network: `linear` and `embedding` are (n, k) matrices that may be quantized, `plain` is kept.

    Its sources, adapted, are concatenated along the first axis.
    """

    name: str
    kind: ParameterKind
    shape: tuple[int, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a tensor in the network: a `Parameter` before it is known where its values come from."""

    name: str
    kind: ParameterKind
    shape: tuple[int, ...]


def layer_norms(spec: DecoderSpec) -> dict[str, str]:
    """Where a norm stands in a layer of `spec` -> its name."""
    norms = dict(NORMS[spec.topology])
    if spec.topology == "parallel" and spec.parallel_shared_norm:
        del norms["before_feed_forward"]
    return norms


def slots(spec: DecoderSpec) -> Iterator[Slot]:
    """Every tensor of the network, in the order of the compiled library's parameters."""
    yield Slot("model.embed_tokens", "embedding", (spec.vocab_size, spec.hidden_size))
    if spec.learned_positions is not None:
        yield Slot("model.embed_positions.weight", "plain", (spec.learned_positions, spec.hidden_size))
    for i in range(len(spec.layers)):
        layer = f"model.layers.{i}"
        yield from _attention_slots(spec, f"{layer}.self_attn")
        yield from _feed_forward_slots(spec, f"{layer}.mlp")
        for name in layer_norms(spec).values():
            yield from _norm_slots(spec.norm, f"{layer}.{name}", (spec.hidden_size,))
    yield from _norm_slots(spec.norm, "model.norm", (spec.hidden_size,))
    if not spec.tied_embeddings:
        yield Slot("lm_head", "linear", (spec.vocab_size, spec.hidden_size))
    if spec.head_bias:
        yield Slot("lm_head.bias", "plain", (spec.vocab_size,))


def _attention_slots(spec: DecoderSpec, name: str) -> Iterator[Slot]:
    a = spec.attention
    rows = (a.heads + 2 * a.kv_heads) * a.head_dim
    yield from _linear_slots(f"{name}.qkv_proj", (rows, spec.hidden_size), a.qkv_bias)
    yield from _linear_slots(f"{name}.o_proj", (spec.hidden_size, a.heads * a.head_dim), a.output_bias)
    if a.qk_norm is not None:
        yield from _norm_slots(a.qk_norm, f"{name}.q_norm", qk_norm_shape(spec, a.heads))
        yield from _norm_slots(a.qk_norm, f"{name}.k_norm", qk_norm_shape(spec, a.kv_heads))


def qk_norm_shape(spec: DecoderSpec, heads: int) -> tuple[int, ...]:
    """Shape of the weight that normalises `heads` heads of q or k."""
    d = spec.attention.head_dim
    return {"per_head": (d,), "each_head": (heads, d), "projection": (heads * d,)}[spec.attention.qk_norm_scope]


def _feed_forward_slots(spec: DecoderSpec, name: str) -> Iterator[Slot]:
    f = spec.feed_forward
    if f.kind == "gated":
        yield from _linear_slots(f"{name}.gate_up_proj", (2 * f.size, spec.hidden_size), f.bias)
    else:
        yield from _linear_slots(f"{name}.up_proj", (f.size, spec.hidden_size), f.bias)
    yield from _linear_slots(f"{name}.down_proj", (spec.hidden_size, f.size), f.bias)


def _linear_slots(name: str, shape: tuple[int, int], bias: bool) -> Iterator[Slot]:
    yield Slot(name, "linear", shape)
    if bias:
        yield Slot(f"{name}.bias", "plain", shape[:1])


def _norm_slots(norm: NormSpec, name: str, shape: tuple[int, ...]) -> Iterator[Slot]:
    yield Slot(f"{name}.weight", "plain", shape)
    if norm.bias:
        yield Slot(f"{name}.bias", "plain", shape)


def _row(array: np.ndarray, source: Source) -> np.ndarray:
    """One head's vector becomes one row."""
    return array[None]


def _transpose(array: np.ndarray, source: Source) -> np.ndarray:
    """GPT-2's Conv1D stores (in, out)."""
    return np.ascontiguousarray(array.T)


def _interleaved_qkv(array: np.ndarray, source: Source) -> np.ndarray:
    """GPT-NeoX stores (heads, [q k v], head_dim) rows; we want all of q, then k, then v."""
    rest = array.shape[1:]
    by_head = array.reshape(source.heads, 3, -1, *rest)
    return np.ascontiguousarray(np.swapaxes(by_head, 0, 1)).reshape(-1, *rest)


ADAPTERS: dict[str, Callable[[np.ndarray, Source], np.ndarray]] = {
    "none": lambda array, source: array,
    "row": _row,
    "transpose": _transpose,
    "interleaved_qkv": _interleaved_qkv,
}
