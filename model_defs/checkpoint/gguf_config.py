"""Convert a GGUF file's metadata to a Hugging Face config.

A key under the architecture's prefix that nothing here reads may change the model, so it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from argosy.model_defs.checkpoint.gguf_file import GgufFile, MetadataValue
from argosy.model_defs.checkpoint.gguf_metadata import Metadata, is_no_token
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

GEMMA3_LARGEST = 62  # layers of the 27B model, whose attention scale is hidden / heads and is not in the file
GEMMA3_PATTERN = 6  # every sixth layer has full attention


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes that every architecture states."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    positions: int


def config_from(file: GgufFile, architecture: str, tied: bool) -> dict[str, object]:
    """Build the Hugging Face config of a checked file.

    Raises CheckpointError for missing and malformed values, UnsupportedModelError for features that the family lacks.
    """
    meta = Metadata(file.metadata, architecture)
    meta.only("expert_count", 0)
    meta.only("expert_used_count", 0)
    meta.only("attention.causal", True)
    hidden, heads = meta.integer("embedding_length"), meta.integer("attention.head_count")
    head_dim = meta.integer("attention.key_length", max(hidden // heads, 1))
    meta.only("attention.value_length", head_dim)
    shape = Dimensions(
        meta.integer("block_count"),
        hidden,
        heads,
        meta.integer("attention.head_count_kv", heads),
        head_dim,
        meta.integer("context_length"),
    )
    window = meta.values.get(f"{architecture}.attention.sliding_window")
    if type(window) is int and window >= shape.positions:
        meta.get("attention.sliding_window")  # hides nothing, so a family without windows may pass over it
    if "token_embd.weight" not in file.tensors:
        raise CheckpointError("the GGUF file has no tensor `token_embd.weight`", "it may hold only a part of a model")
    config = {
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": tied,
        **_token_ids(file.metadata),
        **BUILDERS[architecture](meta, shape, file),
    }
    meta.refuse_rest()
    return config


def _token_ids(values: Mapping[str, MetadataValue]) -> dict[str, object]:
    ids = {f"{name}_token_id": values.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    return {key: value for key, value in ids.items() if type(value) is int and not is_no_token(value)}


def _common(meta: Metadata, shape: Dimensions, file: GgufFile, model_type: str) -> dict[str, object]:
    """Return the keys of llama and its relatives."""
    return {
        "model_type": model_type,
        "hidden_size": shape.hidden,
        "intermediate_size": meta.integer("feed_forward_length"),
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.positions,
        "hidden_act": "silu",
        **_rope(meta, shape, file),
    }


def _rms(meta: Metadata) -> dict[str, object]:
    meta.get("attention.layer_norm_epsilon")  # of the other kind of norm, which the model lacks
    return {"rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon")}


def _rope(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    """Return `rope_theta`, `partial_rotary_factor` and `rope_scaling`."""
    rotary = meta.integer("rope.dimension_count", shape.head_dim)
    out: dict[str, object] = {"rope_theta": meta.number("rope.freq_base", 10000.0)}
    share = rotary / shape.head_dim
    # int(head_dim * share) must be `rotary` again. Never left out: families differ in the default.
    out["partial_rotary_factor"] = share if int(shape.head_dim * share) == rotary else math.nextafter(share, 2)
    scaling = _rope_scaling(meta, shape)
    factors = _rope_factors(file, "rope_freqs.weight", rotary // 2)
    if factors is not None:
        # llama 3's scaling is stored as computed divisors, which "longrope" uses as they are.
        if scaling is not None:
            raise UnsupportedModelError("`rope_freqs.weight` beside rope scaling is not supported", "use another model")
        scaling = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0}
        scaling |= {"factor": 1.0, "original_max_position_embeddings": shape.positions}
    if scaling is not None:
        out["rope_scaling"] = scaling
    return out


def _rope_scaling(meta: Metadata, shape: Dimensions) -> dict[str, object] | None:
    """Return the `rope_scaling` that the metadata describe, without factors that are stored as tensors."""
    kind = meta.get("rope.scaling.type")
    key = "rope.scale_linear" if meta.is_off("rope.scaling.factor") else "rope.scaling.factor"
    factor = 1.0 if meta.is_off(key) else meta.number(key)
    original = shape.positions
    if not meta.is_off("rope.scaling.original_context_length"):
        original = meta.integer("rope.scaling.original_context_length")
    attention_factor = 1.0 if meta.is_off("rope.scaling.attn_factor") else meta.number("rope.scaling.attn_factor")
    meta.only("rope.scaling.yarn_ext_factor", 1.0)
    meta.only("rope.scaling.yarn_attn_factor", 1.0)
    yarn = {"beta_fast": meta.number("rope.scaling.yarn_beta_fast", 32.0)}
    yarn["beta_slow"] = meta.number("rope.scaling.yarn_beta_slow", 1.0)
    if kind is not None and not isinstance(kind, str):
        raise CheckpointError(f"`rope.scaling.type` is `{one_line(kind)}`, which is not text", "the file is damaged")
    if kind == "linear" or (kind is None and factor != 1.0):
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        heat = (0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0) * attention_factor
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": heat,
            **yarn,
        }
    if kind in (None, "none", "longrope"):  # longrope's factors are tensors; phi3 reads them
        return None
    raise UnsupportedModelError(
        f"rope scaling `{one_line(kind)}` is not supported", "one of: none, linear, yarn, longrope"
    )


def _rope_factors(file: GgufFile, name: str, count: int) -> list[float] | None:
    """Read the divisors of the rope frequencies from the tensor `name`, or return None if there is none."""
    info = file.tensors.get(name)
    if info is None:
        return None
    if info.shape != (count,):
        raise CheckpointError(f"`{name}` has the shape `{info.shape}` instead of `({count},)`", "the file is damaged")
    values = file.values(info).astype(np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        raise CheckpointError(f"`{name}` holds values that are not above zero", "the file is damaged")
    return values.tolist()


def _llama(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    return {
        **_common(meta, shape, file, "llama"),
        **_rms(meta),
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in file.tensors,
    }


def _qwen2(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    return {**_common(meta, shape, file, "qwen2"), **_rms(meta)}


def _qwen3(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    return {
        **_common(meta, shape, file, "qwen3"),
        **_rms(meta),
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
    }


def _olmo2(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    return {**_common(meta, shape, file, "olmo2"), **_rms(meta), "attention_bias": "blk.0.attn_q.bias" in file.tensors}


def _gemma3(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    """Fill in the layer pattern and the local rope base, if absent, from the published models."""
    pattern = meta.get("attention.sliding_window_pattern")
    if isinstance(pattern, np.ndarray) and len(pattern) == shape.layers:
        local = [bool(value) for value in pattern]
    else:
        every = meta.integer("attention.sliding_window_pattern", GEMMA3_PATTERN)
        local = [(i + 1) % every != 0 for i in range(shape.layers)]
    largest = shape.layers == GEMMA3_LARGEST
    slides = meta.get("attention.sliding_window") is None or not meta.is_off("attention.sliding_window")
    config = {
        **_common(meta, shape, file, "gemma3_text"),
        **_rms(meta),
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": shape.hidden // shape.heads if largest else shape.head_dim,
        "sliding_window": meta.integer("attention.sliding_window") if slides else None,
        "layer_types": ["sliding_attention" if slides and one else "full_attention" for one in local],
        "rope_local_base_freq": meta.number("rope.freq_base_swa", 10000.0),
        "attention_bias": False,
    }
    del config["hidden_act"]
    if "gemma3.rope.freq_base" not in file.metadata:
        config["rope_theta"] = 1000000.0
    for key in ("final_logit_softcapping", "attn_logit_softcapping"):
        if not meta.is_off(key):
            config[key] = meta.number(key)
    return config


def _phi3(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    config = {**_common(meta, shape, file, "phi3"), **_rms(meta)}
    rotary = meta.integer("rope.dimension_count", shape.head_dim)
    factors = [_rope_factors(file, f"rope_factors_{name}.weight", rotary // 2) for name in ("short", "long")]
    original = shape.positions
    if not meta.is_off("rope.scaling.original_context_length"):
        original = meta.integer("rope.scaling.original_context_length")
    if None not in factors:
        scaling: dict[str, object] = {"rope_type": "longrope", "short_factor": factors[0], "long_factor": factors[1]}
        if not meta.is_off("rope.scaling.attn_factor"):
            scaling["attention_factor"] = meta.number("rope.scaling.attn_factor")
        config |= {"rope_scaling": scaling, "original_max_position_embeddings": original}
    elif factors != [None, None] or meta.get("rope.scaling.type") == "longrope":
        raise CheckpointError("the GGUF file lacks rope factors, long or short", "convert it again with llama.cpp")
    if not meta.is_off("attention.sliding_window"):
        config["sliding_window"] = meta.integer("attention.sliding_window")
    return config


def _stablelm(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    return {
        **_common(meta, shape, file, "stablelm"),
        "layer_norm_eps": meta.number("attention.layer_norm_epsilon"),
        "use_parallel_residual": meta.flag("use_parallel_residual", False),
        "use_qkv_bias": "blk.0.attn_q.bias" in file.tensors,
        "qk_layernorm": "blk.0.attn_q_norm.weight" in file.tensors,
    }


def _gptneox(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    config = _common(meta, shape, file, "gpt_neox")
    share = config.pop("partial_rotary_factor")
    return {
        **config,
        "layer_norm_eps": meta.number("attention.layer_norm_epsilon"),
        "use_parallel_residual": meta.flag("use_parallel_residual", True),
        "rotary_pct": share,
        "rotary_emb_base": config["rope_theta"],
        "attention_bias": "blk.0.attn_qkv.bias" in file.tensors,
        "hidden_act": "gelu",
    }


def _gpt2(meta: Metadata, shape: Dimensions, file: GgufFile) -> dict[str, object]:
    return {
        "model_type": "gpt2",
        "n_embd": shape.hidden,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_positions": shape.positions,
        "n_inner": meta.integer("feed_forward_length"),
        "layer_norm_epsilon": meta.number("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
    }


BUILDERS: dict[str, Callable[[Metadata, Dimensions, GgufFile], dict[str, object]]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "olmo2": _olmo2,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "stablelm": _stablelm,
    "gptneox": _gptneox,
    "gpt2": _gpt2,
}
