"""olmo2: norms after attention and feed-forward instead of before, and an RMS norm over all of q and all of k."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import decoder, gated, head_dim_of, heads_of, rms_norm
from argosy.model_defs.family import Family
from argosy.model_defs.rope import read_settings
from argosy.model_defs.spec import AttentionSpec, DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """The network of an `Olmo2ForCausalLM` config."""
    config.only("clip_qkv")
    heads, kv_heads = heads_of(config)
    head_dim = head_dim_of(config)
    bias = config.flag("attention_bias", False)
    norm = rms_norm(config, 1e-5)
    attention = AttentionSpec(
        heads,
        kv_heads,
        head_dim,
        head_dim**-0.5,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=norm,
        qk_norm_scope="projection",
    )
    return decoder(
        config,
        topology="post_norm",
        norm=norm,
        attention=attention,
        feed_forward=gated(config),
        ropes=(read_settings(config, head_dim, positions=config.integer("max_position_embeddings", 2048)),),
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
