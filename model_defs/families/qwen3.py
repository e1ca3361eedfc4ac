"""qwen3: llama with an RMS norm over each head of q and k, and heads of their own size."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import decoder, gated, heads_of, qwen_layers, rms_norm
from argosy.model_defs.family import Family
from argosy.model_defs.rope import read_settings
from argosy.model_defs.spec import AttentionSpec, DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """The network of a `Qwen3ForCausalLM` config."""
    heads, kv_heads = heads_of(config, kv_absent=32)
    head_dim = config.integer("head_dim", 128)
    bias = config.flag("attention_bias", False)
    norm = rms_norm(config, 1e-6)
    return decoder(
        config,
        topology="pre_norm",
        norm=norm,
        attention=AttentionSpec(
            heads, kv_heads, head_dim, head_dim**-0.5, qkv_bias=bias, output_bias=bias, qk_norm=norm
        ),
        feed_forward=gated(config),
        ropes=(read_settings(config, head_dim, positions=config.integer("max_position_embeddings", 32768)),),
        layers=qwen_layers(config),
    )


TINY = {
    "model_type": "qwen3",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
}

FAMILY = Family(spec, TINY)
