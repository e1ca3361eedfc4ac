"""phi3 (also Phi-4-mini): llama with q/k/v and gate/up stored merged, partial rotation and longrope."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import decoder, gated, head_dim_of, heads_of, rms_norm, sliding, windowed
from argosy.model_defs.family import Family, Names
from argosy.model_defs.rope import read_settings
from argosy.model_defs.spec import AttentionSpec, DecoderSpec


def spec(config: Config) -> DecoderSpec:
    """The network of a `Phi3ForCausalLM` config."""
    config.only("attention_bias", False)
    config.only("lm_head_bias", False)
    heads, kv_heads = heads_of(config)
    head_dim = head_dim_of(config)
    window = config.optional("sliding_window", None)
    slides = sliding(config, (window is not None,) * config.integer("num_hidden_layers"))
    rope = read_settings(
        config,
        head_dim,
        positions=config.integer("max_position_embeddings", 4096),
        trained=4096,
        partial=1.0,
        aliases={"su": "longrope", "yarn": "longrope"},
    )
    return decoder(
        config,
        topology="pre_norm",
        norm=rms_norm(config, 1e-5),
        attention=AttentionSpec(heads, kv_heads, head_dim, head_dim**-0.5),
        feed_forward=gated(config),
        ropes=(rope,),
        layers=windowed(slides, window),
    )


TINY = {
    "model_type": "phi3",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "original_max_position_embeddings": 128,
    "pad_token_id": 0,
}

FAMILY = Family(spec, TINY, Names(merged=frozenset({"qkv_proj", "gate_up_proj"})))
