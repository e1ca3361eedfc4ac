"""The families, one file each, named after the `model_type` that it reads: a `Config` goes in, a `DecoderSpec` comes out."""

from __future__ import annotations

from argosy.model_defs.families import llama
from argosy.model_defs.family import Family

FAMILIES: dict[str, Family] = {
    "llama": llama.FAMILY,
}
