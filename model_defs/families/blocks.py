"""Pieces that several families share: a `Config` goes in, parts of a `DecoderSpec` come out."""

from __future__ import annotations

from dataclasses import replace

from argosy.model_defs.config import Config
from argosy.model_defs.rope import RopeSettings, rope_spec
from argosy.model_defs.spec import (
    Activation,
    AttentionSpec,
    DecoderSpec,
    FeedForwardSpec,
    LayerSpec,
    NormSpec,
    Topology,
)
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
    """Query heads, and key/value heads: as many where the key is null, `kv_absent` (or as many) where it is missing."""
    heads = config.integer("num_attention_heads")
    kv_heads = config.optional("num_key_value_heads", kv_absent) or heads
    if heads % kv_heads:
        raise CheckpointError(f"`{heads}` query heads do not share `{kv_heads}` key/value heads evenly")
    return heads, kv_heads


def head_dim_of(config: Config) -> int:
    """`head_dim`, or the hidden size divided by the heads."""
    return config.integer("head_dim") if "head_dim" in config else split_head_dim(config)


def split_head_dim(config: Config) -> int:
    """The hidden size divided by the heads, for families that know no other size of a head."""
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % heads:
        raise CheckpointError(f"the hidden size `{hidden}` is not a multiple of the `{heads}` heads")
    config.only("head_dim", hidden // heads)
    return hidden // heads


def rms_norm(config: Config, eps: float, offset: float = 0.0) -> NormSpec:
    """An RMS norm, with the family's default for `rms_norm_eps`."""
    return NormSpec("rms", config.positive("rms_norm_eps", eps), offset=offset)


def layer_norm(config: Config, key: str = "layer_norm_eps") -> NormSpec:
    """A layer norm with a bias."""
    return NormSpec("layer", config.positive(key, 1e-5), bias=True)


def gated(config: Config, bias: bool = False) -> FeedForwardSpec:
    """A gated feed-forward, with silu unless `hidden_act` says otherwise."""
    activation = config.choice("hidden_act", ACTIVATIONS, "silu")
    return FeedForwardSpec("gated", config.integer("intermediate_size"), activation, bias)


def sliding(config: Config, default: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which layers have a window: `layer_types` says it, or `default` where the config does not."""
    words = config.words("layer_types", len(default))
    if words is None:
        return default
    for word in words:
        if word not in ("full_attention", "sliding_attention"):
            raise UnsupportedModelError(f"layer type `{one_line(word)}` is not supported")
    return tuple(word == "sliding_attention" for word in words)


def windowed(slides: tuple[bool, ...], window: int | None) -> tuple[LayerSpec, ...]:
    """One `LayerSpec` a layer, with `window` where `slides`."""
    if any(slides) and window is None:
        raise CheckpointError("`config.json` asks for sliding layers but sets no `sliding_window`")
    return tuple(LayerSpec(window if s else None) for s in slides)


def qwen_layers(config: Config) -> tuple[LayerSpec, ...]:
    """Qwen's windows: with `use_sliding_window`, the layers from `max_window_layers` on slide."""
    used = config.flag("use_sliding_window", False)
    first = config.integer("max_window_layers", 28, least=0)
    default = tuple(used and i >= first for i in range(config.integer("num_hidden_layers")))
    return windowed(sliding(config, default), config.optional("sliding_window", 4096) if used else None)


def decoder(
    config: Config,
    *,
    topology: Topology,
    norm: NormSpec,
    attention: AttentionSpec,
    feed_forward: FeedForwardSpec,
    ropes: tuple[RopeSettings, ...] = (),
    layers: tuple[LayerSpec, ...] | None = None,
    positions: int | None = None,
    tied: bool = False,
) -> DecoderSpec:
    """A decoder; the same full attention in every layer unless `layers` says otherwise.

    `positions` is the promised context where there is no rope, `tied` the family's default for `tie_word_embeddings`.
    """
    if layers is None:
        layers = (LayerSpec(),) * config.integer("num_hidden_layers")
        if any(sliding(config, (False,) * len(layers))):
            raise UnsupportedModelError("sliding layers are not supported for this model type")
    context = config.context_window(
        positions or ropes[0].positions, min(rope.longest for rope in ropes) if ropes else positions
    )
    # A window as long as the context hides nothing.
    layers = tuple(replace(s, window=None) if s.window is not None and s.window >= context else s for s in layers)
    return DecoderSpec(
        model_type=config.text("model_type"),
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("hidden_size"),
        layers=layers,
        topology=topology,
        norm=norm,
        attention=attention,
        feed_forward=feed_forward,
        context_window=context,
        ropes=tuple(rope_spec(rope, context) for rope in ropes),
        tied_embeddings=config.flag("tie_word_embeddings", tied),
    )
