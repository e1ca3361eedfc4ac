"""qwen2 (also Qwen2.5): llama with biases on q, k and v, and optional windows in the upper layers."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import decoder, gated, head_dim_of, heads_of, qwen_layers, rms_norm
from argosy.model_defs.family import Family
from argosy.model_defs.rope import read_settings
from argosy.model_defs.spec import AttentionSpec, DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """The network of a `Qwen2ForCausalLM` config."""
    heads, kv_heads = heads_of(config, kv_absent=32)
    head_dim = head_dim_of(config)
    return decoder(
        config,
        topology="pre_norm",
        norm=rms_norm(config, 1e-6),
        attention=AttentionSpec(heads, kv_heads, head_dim, head_dim**-0.5, qkv_bias=True),
        feed_forward=gated(config),
        ropes=(read_settings(config, head_dim, positions=config.integer("max_position_embeddings", 32768)),),
        layers=qwen_layers(config),
    )


TINY = {
    "model_type": "qwen2",
    "vocab_size": 128,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}

FAMILY = Family(spec, TINY)
