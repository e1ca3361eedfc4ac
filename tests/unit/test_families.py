"""Every family, and its variants, agree with transformers in float32: prefill, decoding, and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny_models import TinyLibrary, build_library, nmse, reference_logits, save_model
from transformers.models.gemma3 import modeling_gemma3

from argosy.model_defs.families import FAMILIES

TOLERANCE = 1e-9  # exact gelu and its tanh form are further apart than that; rounding gives 1e-12
PROMPT, STEPS = 40, 32
LENGTHS = (15, 31, 6)  # in a batch; decoding crosses a page of 16 tokens in each

PAIRS = 8  # of a head of 16 dimensions
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0 + 0.1 * i for i in range(PAIRS)],
    "long_factor": [1.5 + 0.7 * i for i in range(PAIRS)],
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 4.0}

# name -> (family, what differs from its tiny config); a family's own name is its tiny config itself.
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name in FAMILIES if name != "gemma3"},
    "llama, tied, biases, linear rope, wide heads": (
        "llama",
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "head_dim": 24,
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
        },
    ),
    "llama, llama3 rope": ("llama", {"rope_scaling": LLAMA3, "rope_theta": 5e5}),
    "qwen2, yarn, upper layer slides": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1, "rope_scaling": YARN},
    ),
    "qwen3, tied, biases": ("qwen3", {"attention_bias": True, "tie_word_embeddings": True}),
    "gemma3_text, soft-caps, ropes by layer type": (
        "gemma3_text",
        {
            "final_logit_softcapping": 6.0,
            "attn_logit_softcapping": 2.0,
            "rope_scaling": None,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
                "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 8000.0},
            },
        },
    ),
    "phi3, longrope, short": ("phi3", {"rope_scaling": LONGROPE, "max_position_embeddings": 256}),
    "phi3, longrope, long, partial, sliding": (
        "phi3",
        {
            "rope_scaling": LONGROPE,
            "original_max_position_embeddings": 4,
            "hidden_size": 128,
            "partial_rotary_factor": 0.5,
            "num_key_value_heads": 1,
            "sliding_window": 33,
        },
    ),
    "gpt_neox, one after the other": (
        "gpt_neox",
        {"use_parallel_residual": False, "attention_bias": False, "rotary_pct": 1.0, "rotary_emb_base": 500},
    ),
    "gpt2, scaled by depth only, untied, relu": (
        "gpt2",
        {
            "scale_attn_by_inverse_layer_idx": True,
            "scale_attn_weights": False,
            "n_inner": 80,
            "tie_word_embeddings": False,
            "activation_function": "relu",
        },
    ),
    "stablelm, parallel, biases, norms of heads": (
        "stablelm",
        {"use_parallel_residual": True, "use_qkv_bias": True, "qk_layernorm": True, "partial_rotary_factor": 0.5},
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_transformers(variant: str, tmp_path: Path) -> None:
    family, changes = VARIANTS[variant]
    config = {**FAMILIES[family].tiny_config, **changes}
    model = save_model(config, tmp_path)
    if "attn_logit_softcapping" in config:
        soften_attention(model, config["attn_logit_softcapping"])
    window = 128 if variant == "phi3, longrope, short" else None
    library = build_library(tmp_path, context_window=window)
    check_one_sequence(library, model)
    check_batch(library, model)


def soften_attention(model: torch.nn.Module, cap: float) -> None:
    """Apply gemma3's cap on attention scores, which transformers reads but never applies, although it could."""
    eager = modeling_gemma3.eager_attention_forward
    transformers.AttentionInterface.register("softened", lambda *a, **k: eager(*a, **{**k, "softcap": cap}))
    transformers.masking_utils.AttentionMaskInterface.register("softened", transformers.masking_utils.eager_mask)
    model.config._attn_implementation = "softened"


def random_ids(library: TinyLibrary, count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, library.spec.vocab_size, count).tolist()


def check_one_sequence(library: TinyLibrary, model: torch.nn.Module) -> None:
    """Prefill a prompt in chunks, then decode token by token."""
    ids = random_ids(library, PROMPT + STEPS, seed=1)
    expected = reference_logits(model, ids)
    library.add(0)
    assert nmse(library.prefill(0, ids[:PROMPT]), expected[PROMPT - 1]) <= TOLERANCE
    for i in range(PROMPT, PROMPT + STEPS):
        assert nmse(library.forward("decode", {0: ids[i : i + 1]})[0, 0], expected[i]) <= TOLERANCE, f"step {i}"
    library.remove(0)


def check_batch(library: TinyLibrary, model: torch.nn.Module) -> None:
    """Prefill three sequences together in pieces, decode them together, then verify several tokens of each."""
    steps, verified = 12, 4
    sequences = {s: random_ids(library, n + steps + verified, seed=s) for s, n in enumerate(LENGTHS)}
    expected = {s: reference_logits(model, ids) for s, ids in sequences.items()}
    for s in sequences:
        library.add(s)
    share = library.bounds.prefill_chunk // len(LENGTHS)
    for start in range(0, max(LENGTHS), share):
        chunks = {s: ids[start : min(start + share, LENGTHS[s])] for s, ids in sequences.items() if start < LENGTHS[s]}
        logits = library.forward("batch_prefill", chunks)[0]
        wanted = np.stack([expected[s][start + len(tokens) - 1] for s, tokens in chunks.items()])
        assert nmse(logits, wanted) <= TOLERANCE, f"prefill from {start}"
    for step in range(steps):
        logits = library.forward("batch_decode", {s: [ids[LENGTHS[s] + step]] for s, ids in sequences.items()})[:, 0]
        assert nmse(logits, np.stack([expected[s][LENGTHS[s] + step] for s in sequences])) <= TOLERANCE, f"step {step}"
    tails = {s: ids[LENGTHS[s] + steps :] for s, ids in sequences.items()}
    logits = library.forward("batch_verify", tails)[0]
    assert nmse(logits, np.concatenate([expected[s][-verified:] for s in sequences])) <= TOLERANCE, "verify"
