"""Translate GGUF tensor names to Hugging Face names, and tell what the conversion to GGUF did to the values.

The changes are those of llama.cpp's converter: it permutes the rows of q and k for `llama` only, ungroups GPT-NeoX's
q, k and v, transposes GPT-2's matrices, and adds 1 to Gemma's norms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

MOST_HEADS = 4096

Change = Literal["none", "rope_q", "rope_k", "ungrouped_qkv", "transposed", "plus_one", "stacked_heads"]

OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LLAMA = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
AFTER_NORMS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}


def _without(table: Mapping[str, str], *keys: str) -> dict[str, str]:
    return {key: value for key, value in table.items() if key not in keys}


@dataclass(frozen=True, slots=True)
class Spelling:
    """One architecture's names: `outer` occur once in a model, `layer` in every block, below `prefix`.N.

    `changes` maps GGUF names to what the conversion to GGUF did to the values. `consumed` tensors become part of the
    config.
    """

    layer: Mapping[str, str]
    outer: Mapping[str, str] = field(default_factory=lambda: OUTER)
    prefix: str = "model.layers"
    changes: Mapping[str, Change] = field(default_factory=dict)
    consumed: tuple[str, ...] = ("rope_freqs.weight",)


SPELLINGS: dict[str, Spelling] = {
    "llama": Spelling(LLAMA, changes={"attn_q": "rope_q", "attn_k": "rope_k"}),
    "qwen2": Spelling(LLAMA),
    "qwen3": Spelling(LLAMA | HEAD_NORMS),
    "gemma3": Spelling(
        LLAMA | HEAD_NORMS | AFTER_NORMS | {"ffn_norm": "pre_feedforward_layernorm"},
        changes=dict.fromkeys(
            (
                "output_norm",
                "attn_norm",
                "ffn_norm",
                "post_attention_norm",
                "post_ffw_norm",
                "attn_q_norm",
                "attn_k_norm",
            ),
            "plus_one",
        ),
    ),
    "phi3": Spelling(
        _without(LLAMA, "attn_q", "attn_k", "attn_v", "ffn_gate")
        | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
        consumed=("rope_factors_long.weight", "rope_factors_short.weight"),
    ),
    "olmo2": Spelling(_without(LLAMA, "attn_norm", "ffn_norm") | HEAD_NORMS | AFTER_NORMS, consumed=()),
    "stablelm": Spelling(
        LLAMA | {"attn_q_norm": "self_attn.q_layernorm.norms.{}", "attn_k_norm": "self_attn.k_layernorm.norms.{}"},
        changes={"attn_q_norm": "stacked_heads", "attn_k_norm": "stacked_heads"},
    ),
    "gptneox": Spelling(
        {
            "attn_norm": "input_layernorm",
            "attn_qkv": "attention.query_key_value",
            "attn_output": "attention.dense",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.dense_h_to_4h",
            "ffn_down": "mlp.dense_4h_to_h",
        },
        {"token_embd": "gpt_neox.embed_in", "output_norm": "gpt_neox.final_layer_norm", "output": "embed_out"},
        "gpt_neox.layers",
        {"attn_qkv": "ungrouped_qkv"},
        (),
    ),
    "gpt2": Spelling(
        {
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        },
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        "transformer.h",
        dict.fromkeys(("attn_qkv", "attn_output", "ffn_up", "ffn_down"), "transposed"),
        (),
    ),
}


@dataclass(frozen=True, slots=True)
class Translated:
    """A Hugging Face tensor and the GGUF tensor that holds it; `head` is its row among stacked heads."""

    name: str
    source: str
    change: Change = "none"
    head: int = 0


def spelling_of(architecture: str) -> Spelling:
    """Return the names of `architecture`.

    Raises UnsupportedModelError for one without a table.
    """
    if architecture not in SPELLINGS:
        raise UnsupportedModelError(
            f"the GGUF architecture `{architecture}` is not supported", f"supported: {', '.join(SPELLINGS)}"
        )
    return SPELLINGS[architecture]


def translate(spelling: Spelling, source: str, shape: tuple[int, ...], layers: int) -> tuple[Translated, ...]:
    """Return the Hugging Face tensors that the GGUF tensor `source` holds, none if the config consumes it.

    Raises UnsupportedModelError for a name the architecture does not have.
    """
    if source in spelling.consumed:
        return ()
    match = re.fullmatch(r"(?:blk\.(0|[1-9]\d{0,5})\.)?(\w+)\.(weight|bias)", source, re.ASCII)
    if match:
        block, stem, leaf = match.groups()
        table = spelling.outer if block is None else spelling.layer
        if stem in table and (block is None or int(block) < layers):
            name = table[stem] if block is None else f"{spelling.prefix}.{block}.{table[stem]}"
            change = spelling.changes.get(stem, "none")
            if change == "transposed" and leaf == "bias":
                change = "none"
            if change == "stacked_heads":
                if shape[0] > MOST_HEADS:
                    raise CheckpointError(f"`{one_line(source)}` is made for `{shape[0]}` heads", "the file is damaged")
                return tuple(Translated(f"{name.format(i)}.{leaf}", source, change, i) for i in range(shape[0]))
            return (Translated(f"{name}.{leaf}", source, change),)
    raise UnsupportedModelError(
        f"tensor `{one_line(source)}` is not one that this architecture is known to have",
        "leaving it out would change the model; convert it again with a current llama.cpp",
    )


def row_order(change: Change, rows: int, heads: int, kv_heads: int) -> np.ndarray | None:
    """Return the stored row of every Hugging Face row, or None if the order is the same.

    q and k of llama: GGUF pairs neighbouring rows of a head, Hugging Face pairs row i with row i + head_dim / 2.
    GPT-NeoX: GGUF has all of q, then k, then v; Hugging Face has q, k and v of the first head, of the second, ...
    """
    if change in ("rope_q", "rope_k"):
        split, swap = (heads if change == "rope_q" else kv_heads, -1, 2), (1, 2)
    elif change == "ungrouped_qkv":
        split, swap = (3, heads, -1), (0, 1)
    else:
        return None
    parts = -math.prod(split)
    if rows % parts:
        raise CheckpointError(f"`{rows}` rows of q, k or v do not divide into {parts} parts", "the file is damaged")
    return np.arange(rows).reshape(split).swapaxes(*swap).ravel()
