"""Describe a rotary embedding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary embedding by rotating halves: one inverse frequency for each pair (i, i + rotary_dim / 2).

    `inverse_frequencies` has rotary_dim / 2 entries, all scaling already folded in; `magnitude` multiplies cos and sin
    (yarn's and longrope's attention factor). Dimensions from `rotary_dim` on pass through unrotated.
    """

    rotary_dim: int
    inverse_frequencies: tuple[float, ...]
    magnitude: float = 1.0
