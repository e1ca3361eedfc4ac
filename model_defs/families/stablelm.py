"""stablelm: layer norms, partial rotation; on request q/k/v biases, a norm for each head, a parallel residual."""

from __future__ import annotations

from dataclasses import replace

from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import layer_norm, llama_like, split_head_dim
from argosy.model_defs.family import Family, Names
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.model_defs.rope import read_settings

POSITIONS = 4096


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `StableLmForCausalLM` config."""
    head_dim = split_head_dim(config)
    parallel = config.flag("use_parallel_residual", False)
    norm = layer_norm(config)
    positions = config.integer("max_position_embeddings", POSITIONS)
    network = llama_like(
        config,
        topology="parallel" if parallel else "pre_norm",
        norm=norm,
        positions=POSITIONS,
        kv_absent=32,
        head_dim=head_dim,
        qkv_bias=config.flag("use_qkv_bias", False),
        qk_norm=replace(norm, bias=False) if config.flag("qk_layernorm", False) else None,
        qk_norm_scope="each_head",
        rope=read_settings(config, head_dim, positions=positions, partial=0.25),
    )
    return replace(network, parallel_shared_norm=parallel)


NAMES = Names(split={"q_norm": "q_layernorm.norms.{}", "k_norm": "k_layernorm.norms.{}"})

TINY = {
    "model_type": "stablelm",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "partial_rotary_factor": 0.25,
}

FAMILY = Family(spec, TINY, NAMES)
