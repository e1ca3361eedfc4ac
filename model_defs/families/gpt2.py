"""gpt2: learned positions, layer norms, a plain feed-forward, and matrices stored as (in, out)."""

from __future__ import annotations

from dataclasses import replace

from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.dense import PlainSpec
from argosy.model_defs.config import Config
from argosy.model_defs.families.blocks import ACTIVATIONS, decoder, layer_norm, split_head_dim
from argosy.model_defs.family import Family, Names
from argosy.model_defs.networks.decoder_spec import DecoderSpec, LayerSpec

KEYS = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
}


def spec(config: Config) -> DecoderSpec:
    """Return the network of a `GPT2LMHeadModel` config."""
    config = config.renamed(KEYS)
    config.only("add_cross_attention", False)
    heads, head_dim = config.integer("num_attention_heads"), split_head_dim(config)
    hidden = config.integer("hidden_size")
    positions = config.integer("max_position_embeddings", 1024)
    scale = head_dim**-0.5 if config.flag("scale_attn_weights", True) else 1.0
    by_depth = config.flag("scale_attn_by_inverse_layer_idx", False)
    depths = range(1, config.integer("num_hidden_layers") + 1)
    activation = config.choice("activation_function", ACTIVATIONS, "gelu_new")
    attention = AttentionSpec(heads, heads, head_dim, scale, qkv_bias=True, output_bias=True, rope=None)
    feed_forward = PlainSpec(config.integer("n_inner", 4 * hidden), activation, bias=True)
    scales = [scale * (1 / depth if by_depth else 1.0) for depth in depths]
    network = decoder(
        config,
        topology="pre_norm",
        norm=layer_norm(config, "layer_norm_epsilon"),
        layers=[LayerSpec(replace(attention, scale=scale), feed_forward) for scale in scales],
        positions=positions,
        tied=True,
    )
    return replace(network, learned_positions=positions)


NAMES = Names(
    rename=(
        ("model.layers.", "transformer.h."),
        ("model.embed_tokens", "transformer.wte"),
        ("model.embed_positions", "transformer.wpe"),
        ("model.norm", "transformer.ln_f"),
        ("self_attn.qkv_proj", "attn.c_attn"),
        ("self_attn.o_proj", "attn.c_proj"),
        ("mlp.up_proj", "mlp.c_fc"),
        ("mlp.down_proj", "mlp.c_proj"),
        ("input_layernorm", "ln_1"),
        ("post_attention_layernorm", "ln_2"),
    ),
    merged=frozenset({"qkv_proj"}),
    adapt=dict.fromkeys(("qkv_proj", "o_proj", "up_proj", "down_proj"), "transpose"),
    prefix=(("transformer.", ""),),
    derived={"*h.*.attn.bias": "causal_mask", "*h.*.attn.masked_bias": "masked_value"},
)

TINY = {
    "model_type": "gpt2",
    "vocab_size": 128,
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}

FAMILY = Family(spec, TINY, NAMES)
