"""qwen2 (also Qwen2.5): llama with biases on q, k and v, and optional windows in the upper layers."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import llama_like, qwen_windows, rms_norm
from argosy.model_defs.family import Family
from argosy.model_defs.networks.decoder_spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `Qwen2ForCausalLM` config."""
    return llama_like(
        config,
        norm=rms_norm(config, 1e-6),
        positions=32768,
        kv_absent=32,
        qkv_bias=True,
        windows=qwen_windows(config),
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
