"""Describe a normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class NormSpec:
    """A normalisation over the last axis.

    `rms`: x / sqrt(mean(x^2) + eps) * (weight + offset). `layer`: (x - mean) / sqrt(var + eps) * weight (+ bias).
    """

    kind: Literal["rms", "layer"]
    eps: float
    bias: bool = False
    offset: float = 0.0  # gemma stores weight - 1
