"""olmo2: norms after attention and feed-forward instead of before, and an RMS norm over all of q and all of k."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import llama_like, rms_norm
from argosy.model_defs.family import Family
from argosy.model_defs.networks.decoder_spec import DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """Return the network of an `Olmo2ForCausalLM` config."""
    config.only("clip_qkv")
    bias = config.flag("attention_bias", False)
    norm = rms_norm(config, 1e-5)
    return llama_like(
        config,
        topology="post_norm",
        norm=norm,
        positions=2048,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=norm,
        qk_norm_scope="projection",
    )


TINY = {
    "model_type": "olmo2",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}

FAMILY = Family(spec, TINY)
