"""llama (also SmolLM, TinyLlama, ...): pre-norm, RMS norms, grouped heads, a gated feed-forward."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import decoder, gated, head_dim_of, heads_of, rms_norm
from argosy.model_defs.family import Family
from argosy.model_defs.rope import read_settings
from argosy.model_defs.spec import AttentionSpec, DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """The network of a `LlamaForCausalLM` config."""
    heads, kv_heads = heads_of(config)
    head_dim = head_dim_of(config)
    bias = config.flag("attention_bias", False)
    return decoder(
        config,
        topology="pre_norm",
        norm=rms_norm(config, 1e-6),
        attention=AttentionSpec(heads, kv_heads, head_dim, head_dim**-0.5, qkv_bias=bias, output_bias=bias),
        feed_forward=gated(config, config.flag("mlp_bias", False)),
        ropes=(read_settings(config, head_dim, positions=config.integer("max_position_embeddings", 2048)),),
    )


TINY = {
    "model_type": "llama",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}

FAMILY = Family(spec, TINY)
