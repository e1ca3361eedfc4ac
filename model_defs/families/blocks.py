"""Read the pieces of a config that several families share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.component import FeedForward
from argosy.model_defs.components.dense import Activation, GatedSpec
from argosy.model_defs.components.norm import NormSpec
from argosy.model_defs.config import Config
from argosy.model_defs.networks.decoder_spec import DecoderSpec, LayerSpec, Topology
from argosy.model_defs.rope import RopeSettings, read_settings, rope_spec
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

# Hugging Face's words for the activations; the tanh forms of gelu differ only in how they are written.
ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def heads_of(config: Config, kv_absent: int | None = None) -> tuple[int, int]:
    """Return the query heads and the key/value heads.

    There are as many of the latter if their key is null, and `kv_absent` (or as many) if it is missing.
    """
    heads = config.integer("num_attention_heads")
    kv_heads = config.optional("num_key_value_heads", kv_absent) or heads
    if heads % kv_heads:
        raise CheckpointError(f"`{heads}` query heads do not share `{kv_heads}` key/value heads evenly")
    return heads, kv_heads


def head_dim_of(config: Config) -> int:
    """Return `head_dim`, or the hidden size divided by the heads."""
    return config.integer("head_dim") if "head_dim" in config else split_head_dim(config)


def split_head_dim(config: Config) -> int:
    """Return the hidden size divided by the heads, for families whose heads have no other size."""
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % heads:
        raise CheckpointError(f"the hidden size `{hidden}` is not a multiple of the `{heads}` heads")
    config.only("head_dim", hidden // heads)
    return hidden // heads


def rms_norm(config: Config, eps: float, offset: float = 0.0) -> NormSpec:
    """Return an RMS norm; `eps` is the family's default for `rms_norm_eps`."""
    return NormSpec("rms", config.positive("rms_norm_eps", eps), offset=offset)


def layer_norm(config: Config, key: str = "layer_norm_eps") -> NormSpec:
    """Return a layer norm with a bias."""
    return NormSpec("layer", config.positive(key, 1e-5), bias=True)


def gated(config: Config, bias: bool = False) -> GatedSpec:
    """Return a gated feed-forward, with silu unless `hidden_act` names another activation."""
    activation = config.choice("hidden_act", ACTIVATIONS, "silu")
    return GatedSpec(config.integer("intermediate_size"), activation, bias)


def sliding(config: Config, default: tuple[bool, ...]) -> tuple[bool, ...]:
    """Return which layers have a window: as `layer_types` says, or `default`."""
    words = config.words("layer_types", len(default))
    if words is None:
        return default
    for word in words:
        if word not in ("full_attention", "sliding_attention"):
            raise UnsupportedModelError(f"layer type `{one_line(word)}` is not supported")
    return tuple(word == "sliding_attention" for word in words)


def windows_of(slides: Sequence[bool], window: int | None) -> tuple[int | None, ...]:
    """Return the window of every layer: `window` if it slides, else None."""
    if any(slides) and window is None:
        raise CheckpointError("`config.json` has sliding layers but no `sliding_window`")
    return tuple(window if s else None for s in slides)


def sliding_windows(config: Config, absent: int | None) -> tuple[int | None, ...]:
    """Return the window of every layer: all slide if there is a `sliding_window`, which is `absent` by default."""
    window = config.optional("sliding_window", absent)
    return windows_of(sliding(config, (window is not None,) * config.integer("num_hidden_layers")), window)


def qwen_windows(config: Config) -> tuple[int | None, ...]:
    """Return the window of every layer of Qwen: with `use_sliding_window`, those from `max_window_layers` on slide."""
    used = config.flag("use_sliding_window", False)
    first = config.integer("max_window_layers", 28, least=0)
    default = tuple(used and i >= first for i in range(config.integer("num_hidden_layers")))
    return windows_of(sliding(config, default), config.optional("sliding_window", 4096) if used else None)


def repeated(
    config: Config, attention: AttentionSpec, feed_forward: FeedForward, windows: Sequence[int | None] | None = None
) -> tuple[LayerSpec, ...]:
    """Return layers that differ in their windows only; without `windows` every layer sees everything."""
    if windows is None:
        windows = (None,) * config.integer("num_hidden_layers")
        if any(sliding(config, (False,) * len(windows))):
            raise UnsupportedModelError("sliding layers are not supported for this model type")
    return tuple(LayerSpec(replace(attention, window=window), feed_forward) for window in windows)


def decoder(
    config: Config,
    *,
    topology: Topology,
    norm: NormSpec,
    layers: Sequence[LayerSpec],
    ropes: tuple[RopeSettings, ...] = (),
    positions: int | None = None,
    tied: bool = False,
) -> DecoderSpec:
    """Return a decoder with the sizes that every config has.

    `positions` is the promised context if there is no rope, `tied` the family's default for `tie_word_embeddings`.
    """
    context = config.context_window(
        positions or ropes[0].positions, min(rope.longest for rope in ropes) if ropes else positions
    )
    return DecoderSpec(
        model_type=config.text("model_type"),
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("hidden_size"),
        layers=tuple(_without_idle_window(layer, context) for layer in layers),
        topology=topology,
        norm=norm,
        context_window=context,
        ropes=tuple(rope_spec(rope, context) for rope in ropes),
        tied_embeddings=config.flag("tie_word_embeddings", tied),
    )


def _without_idle_window(layer: LayerSpec, context: int) -> LayerSpec:
    """Return `layer` without a window that is as long as the context, which hides nothing."""
    mixer = layer.mixer
    if isinstance(mixer, AttentionSpec) and mixer.window is not None and mixer.window >= context:
        return replace(layer, mixer=replace(mixer, window=None))
    return layer


def llama_like(
    config: Config,
    *,
    norm: NormSpec,
    positions: int,
    topology: Topology = "pre_norm",
    kv_absent: int | None = None,
    head_dim: int | None = None,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: NormSpec | None = None,
    qk_norm_scope: Literal["per_head", "each_head", "projection"] = "per_head",
    feed_forward: FeedForward | None = None,
    windows: Sequence[int | None] | None = None,
    rope: RopeSettings | None = None,
) -> DecoderSpec:
    """Return a decoder like llama (grouped heads, one rope, a gated feed-forward) but for the given differences.

    `positions` and `kv_absent` are the family's defaults for `max_position_embeddings` and `num_key_value_heads`.
    """
    heads, kv_heads = heads_of(config, kv_absent)
    head_dim = head_dim_of(config) if head_dim is None else head_dim
    attention = AttentionSpec(heads, kv_heads, head_dim, head_dim**-0.5, qkv_bias, output_bias, qk_norm, qk_norm_scope)
    if rope is None:
        rope = read_settings(config, head_dim, positions=config.integer("max_position_embeddings", positions))
    layers = repeated(config, attention, gated(config) if feed_forward is None else feed_forward, windows)
    return decoder(config, topology=topology, norm=norm, layers=layers, ropes=(rope,))
