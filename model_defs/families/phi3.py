"""phi3 (also Phi-4-mini): llama with q/k/v and gate/up stored merged, partial rotation and longrope."""

from __future__ import annotations

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import head_dim_of, llama_like, rms_norm, sliding_windows
from argosy.model_defs.family import Family, Names
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.model_defs.rope import read_settings

POSITIONS = 4096


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `Phi3ForCausalLM` config."""
    config.only("attention_bias", False)
    config.only("lm_head_bias", False)
    rope = read_settings(
        config,
        head_dim_of(config),
        positions=config.integer("max_position_embeddings", POSITIONS),
        trained=POSITIONS,
        partial=1.0,
        aliases={"su": "longrope", "yarn": "longrope"},
    )
    return llama_like(
        config, norm=rms_norm(config, 1e-5), positions=POSITIONS, windows=sliding_windows(config, None), rope=rope
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
