"""mistral: llama with a sliding window in every layer (or, in later versions, none)."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import llama_like, rms_norm, sliding_windows
from argosy.model_defs.family import Family
from argosy.model_defs.networks.decoder_spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `MistralForCausalLM` config."""
    return llama_like(
        config,
        norm=rms_norm(config, 1e-6),
        positions=131072,
        kv_absent=8,
        windows=sliding_windows(config, 4096),
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
