"""llama (also SmolLM, TinyLlama, ...): pre-norm, RMS norms, grouped heads, a gated feed-forward."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import gated, llama_like, rms_norm
from argosy.model_defs.family import Family
from argosy.model_defs.networks.decoder_spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `LlamaForCausalLM` config."""
    bias = config.flag("attention_bias", False)
    return llama_like(
        config,
        norm=rms_norm(config, 1e-6),
        positions=2048,
        qkv_bias=bias,
        output_bias=bias,
        feed_forward=gated(config, config.flag("mlp_bias", False)),
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
