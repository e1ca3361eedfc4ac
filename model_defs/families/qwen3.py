"""qwen3: llama with an RMS norm over each head of q and k, and heads of their own size."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import llama_like, qwen_windows, rms_norm
from argosy.model_defs.family import Family
from argosy.model_defs.networks.decoder_spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `Qwen3ForCausalLM` config."""
    bias = config.flag("attention_bias", False)
    norm = rms_norm(config, 1e-6)
    return llama_like(
        config,
        norm=norm,
        positions=32768,
        kv_absent=32,
        head_dim=config.integer("head_dim", 128),
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=norm,
        windows=qwen_windows(config),
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
