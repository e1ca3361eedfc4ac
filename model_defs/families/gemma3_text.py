"""gemma3_text: norms on both sides, local layers with a window and a rope of their own."""

from __future__ import annotations

from dataclasses import replace

from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.dense import GatedSpec
from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import ACTIVATIONS, decoder, heads_of, rms_norm, sliding, windows_of
from argosy.model_defs.family import Family
from argosy.model_defs.networks.decoder_spec import DecoderSpec, LayerSpec
from argosy.model_defs.rope import RopeSettings, read_settings

# What a config may leave out: published ones hold little more than their differences from these.
DEFAULTS = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
}


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `Gemma3ForCausalLM` config.

    `attn_logit_softcapping` means here what it means for gemma2; no published gemma3 sets it.
    """
    config = Config({**DEFAULTS, **config.values}, config.chosen_window)
    config.only("use_bidirectional_attention", False)
    heads, kv_heads = heads_of(config, kv_absent=4)
    head_dim = config.integer("head_dim", 256)
    norm = rms_norm(config, 1e-6, offset=1.0)
    bias = config.flag("attention_bias", False)
    attention = AttentionSpec(
        heads,
        kv_heads,
        head_dim,
        config.positive("query_pre_attn_scalar", 256) ** -0.5,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=norm,
        softcap=_cap(config, "attn_logit_softcapping"),
    )
    pattern = config.integer("sliding_window_pattern", 6)
    slides = sliding(config, tuple((i + 1) % pattern > 0 for i in range(config.integer("num_hidden_layers"))))
    windows = windows_of(slides, config.optional("sliding_window", 4096))
    activation = config.choice("hidden_activation", ACTIVATIONS, "gelu_pytorch_tanh")
    feed_forward = GatedSpec(config.integer("intermediate_size"), activation)
    network = decoder(
        config,
        topology="sandwich",
        norm=norm,
        layers=[
            LayerSpec(replace(attention, window=window, rope=int(local)), feed_forward)
            for window, local in zip(windows, slides, strict=True)
        ],
        ropes=_ropes(config, head_dim),
        tied=True,
    )
    return replace(
        network,
        embedding_scale=network.hidden_size**0.5,
        logit_softcap=_cap(config, "final_logit_softcapping"),
    )


def _ropes(config: Config, head_dim: int) -> tuple[RopeSettings, ...]:
    """Return the rope of the global layers, and that of the local ones, which is never scaled by `rope_scaling`."""
    positions = config.integer("max_position_embeddings", 131072)
    everywhere = read_settings(config, head_dim, positions=positions, layer_type="full_attention", theta=1e6)
    nearby = read_settings(
        config,
        head_dim,
        positions=positions,
        layer_type="sliding_attention",
        theta_key="rope_local_base_freq",
        theta=1e4,
        scaled=False,
    )
    return everywhere, nearby


def _cap(config: Config, key: str) -> float | None:
    return config.positive(key) if key in config else None


TINY = {
    "model_type": "gemma3_text",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "query_pre_attn_scalar": 24,
    "sliding_window": 24,
    "sliding_window_pattern": 3,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}

FAMILY = Family(spec, TINY)
