"""Pieces that several families share: a `Config` goes in, parts of a `DecoderSpec` come out."""

from __future__ import annotations

from argosy.model_defs.config import Config, shown
from argosy.model_defs.rope import RopeSettings, rope_spec
from argosy.model_defs.spec import Activation, AttentionSpec, DecoderSpec, FeedForwardSpec, LayerSpec, NormSpec, Topology
from argosy.support.errors import CheckpointError, UnsupportedModelError

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


def heads_of(config: Config, kv_default: int | None = None) -> tuple[int, int]:
    """Query heads, and key/value heads (as many, unless the config says otherwise)."""
    heads = config.integer("num_attention_heads")
    kv_heads = config.integer("num_key_value_heads", kv_default or heads)
    if heads % kv_heads:
        raise CheckpointError(f"`{heads}` query heads do not share `{kv_heads}` key/value heads evenly")
    return heads, kv_heads


def head_dim_of(config: Config, default: int | None = None) -> int:
    """`head_dim`, or the hidden size divided by the heads."""
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if "head_dim" not in config and default is None and hidden % heads:
        raise CheckpointError(f"the hidden size `{hidden}` is not a multiple of the `{heads}` heads")
    return config.integer("head_dim", default or max(hidden // heads, 1))


def rms_norm(config: Config, eps: float, offset: float = 0.0) -> NormSpec:
    """An RMS norm, with the family's default for `rms_norm_eps`."""
    return NormSpec("rms", config.positive("rms_norm_eps", eps), offset=offset)


def layer_norm(config: Config, key: str = "layer_norm_eps") -> NormSpec:
    """A layer norm with a bias."""
    return NormSpec("layer", config.positive(key, 1e-5), bias=True)


def gated(config: Config, bias: bool = False, activation: str = "silu", key: str = "hidden_act") -> FeedForwardSpec:
    """A gated feed-forward."""
    return FeedForwardSpec("gated", config.integer("intermediate_size"), config.choice(key, ACTIVATIONS, activation), bias)


def windowed_layers(config: Config, default: tuple[bool, ...], window: int | None) -> tuple[LayerSpec, ...]:
    """One `LayerSpec` a layer: `layer_types` says which slide, or `default` where the config does not."""
    words = config.words("layer_types", len(default))
    if words is not None:
        for word in words:
            if word not in ("full_attention", "sliding_attention"):
                raise UnsupportedModelError(f"layer type `{shown(word)}` is not supported")
        default = tuple(word == "sliding_attention" for word in words)
    if any(default) and window is None:
        raise CheckpointError("`layer_types` has sliding layers, but `sliding_window` is not set")
    return tuple(LayerSpec(window if slides else None) for slides in default)


def decoder(
    config: Config,
    *,
    topology: Topology,
    norm: NormSpec,
    attention: AttentionSpec,
    feed_forward: FeedForwardSpec,
    rope: RopeSettings,
    layers: tuple[LayerSpec, ...] | None = None,
    tied: bool = False,
    parallel_shared_norm: bool = False,
) -> DecoderSpec:
    """A decoder with one rope and, unless `layers` says otherwise, the same full attention in every layer."""
    window = config.context_window(rope.longest)
    if config.chosen_window is None:
        window = rope.positions
    return DecoderSpec(
        model_type=config.text("model_type"),
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("hidden_size"),
        layers=layers or (LayerSpec(),) * config.integer("num_hidden_layers"),
        topology=topology,
        norm=norm,
        attention=attention,
        feed_forward=feed_forward,
        context_window=window,
        ropes=(rope_spec(rope, window),),
        parallel_shared_norm=parallel_shared_norm,
        tied_embeddings=config.flag("tie_word_embeddings", tied),
    )
