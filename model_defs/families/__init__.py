"""The families, one file for each `model_type`: a `Config` goes in, a `DecoderSpec` comes out."""

from __future__ import annotations

from argosy.model_defs.families import (
    gemma3_text,
    gpt2,
    gpt_neox,
    llama,
    mistral,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    stablelm,
)
from argosy.model_defs.family import Family

FAMILIES: dict[str, Family] = {
    "gemma3": gemma3_text.WRAPPED,
    "gemma3_text": gemma3_text.FAMILY,
    "gpt2": gpt2.FAMILY,
    "gpt_neox": gpt_neox.FAMILY,
    "llama": llama.FAMILY,
    "mistral": mistral.FAMILY,
    "olmo2": olmo2.FAMILY,
    "phi3": phi3.FAMILY,
    "qwen2": qwen2.FAMILY,
    "qwen3": qwen3.FAMILY,
    "stablelm": stablelm.FAMILY,
}
