"""mistral: llama with a sliding window in every layer (or, in later versions, none)."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import decoder, gated, head_dim_of, heads_of, rms_norm, sliding, windowed
from argosy.model_defs.family import Family
from argosy.model_defs.rope import read_settings
from argosy.model_defs.spec import AttentionSpec, DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """The network of a `MistralForCausalLM` config."""
    heads, kv_heads = heads_of(config, kv_absent=8)
    head_dim = head_dim_of(config)
    window = config.optional("sliding_window", 4096)
    slides = sliding(config, (window is not None,) * config.integer("num_hidden_layers"))
    return decoder(
        config,
        topology="pre_norm",
        norm=rms_norm(config, 1e-6),
        attention=AttentionSpec(heads, kv_heads, head_dim, head_dim**-0.5),
        feed_forward=gated(config),
        ropes=(read_settings(config, head_dim, positions=config.integer("max_position_embeddings", 131072)),),
        layers=windowed(slides, window),
    )


TINY = {
    "model_type": "mistral",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "sliding_window": 24,
}

FAMILY = Family(spec, TINY)
