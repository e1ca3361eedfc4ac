"""gpt_neox (also Pythia): layer norms, attention and feed-forward side by side, partial rotation, biases everywhere."""

from __future__ import annotations

from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.dense import PlainSpec
from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import ACTIVATIONS, decoder, layer_norm, repeated, split_head_dim
from argosy.model_defs.family import Family, Names
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.model_defs.rope import read_settings


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `GPTNeoXForCausalLM` config."""
    heads, head_dim = config.integer("num_attention_heads"), split_head_dim(config)
    bias = config.flag("attention_bias", True)
    activation = config.choice("hidden_act", ACTIVATIONS, "gelu")
    rope = read_settings(
        config,
        head_dim,
        positions=config.integer("max_position_embeddings", 2048),
        theta_key="rotary_emb_base",
        partial_key="rotary_pct",
        partial=0.25,
    )
    attention = AttentionSpec(heads, heads, head_dim, head_dim**-0.5, qkv_bias=bias, output_bias=bias)
    feed_forward = PlainSpec(config.integer("intermediate_size"), activation, bias=True)
    return decoder(
        config,
        topology="parallel" if config.flag("use_parallel_residual", True) else "pre_norm",
        norm=layer_norm(config),
        layers=repeated(config, attention, feed_forward),
        ropes=(rope,),
    )


NAMES = Names(
    rename=(
        ("model.layers.", "gpt_neox.layers."),
        ("model.embed_tokens", "gpt_neox.embed_in"),
        ("model.norm", "gpt_neox.final_layer_norm"),
        ("lm_head", "embed_out"),
        ("self_attn.qkv_proj", "attention.query_key_value"),
        ("self_attn.o_proj", "attention.dense"),
        ("mlp.up_proj", "mlp.dense_h_to_4h"),
        ("mlp.down_proj", "mlp.dense_4h_to_h"),
    ),
    merged=frozenset({"qkv_proj"}),
    adapt={"qkv_proj": "interleaved_qkv"},
    prefix=(("embed_out", "lm_head"),),
    derived={"*.attention.bias": "causal_mask", "*.attention.masked_bias": "masked_value"},
)

TINY = {
    "model_type": "gpt_neox",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rotary_pct": 0.25,
}

FAMILY = Family(spec, TINY, NAMES)
