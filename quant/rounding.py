"""Rounding methods: a format and groups of weights go in, the scale (and minimum) of every group comes out.

Where values lie on the chosen grid is the same for all methods (the nearest code) and is done in `formats.py`. A method
that also chooses codes, because it moves each error on to the next columns (GPTQ), calls `formats.pack_codes` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from argosy.quant.scheme import Format
from argosy.support.errors import SchemeError

Scales = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True, slots=True)
class Rounding:
    """One way of choosing grids.

    `choose(fmt, groups, importance)`: groups float32 (n, groups, group), the end of a row filled up; importance
    float32 (groups, group) or None, for example the mean square of the activations that meet each column. Methods that
    look at the weights alone take no notice of it. It returns the scale and, for formats with one, the minimum:
    float32 (n, groups), not yet rounded to the storage dtype; NaN or infinity in a group must give NaN or infinity
    here. `symmetric`: codes stay within `Format.max_int` of zero.
    """

    name: str
    summary: str
    choose: Callable[[Format, np.ndarray, np.ndarray | None], Scales]
    symmetric: bool = False


def _span(fmt: Format, groups: np.ndarray) -> Scales:
    """From the smallest to the largest value in 2^bits - 1 steps."""
    low = groups.min(axis=-1)
    return (groups.max(axis=-1) - low) / np.float32((1 << fmt.bits) - 1), low


def _symmetric(fmt: Format, groups: np.ndarray, importance: np.ndarray | None) -> Scales:
    """max |w| / max_int: what mlc-llm does."""
    if fmt.has_min:
        return _span(fmt, groups)
    peak = np.maximum(groups.max(axis=-1), -groups.min(axis=-1))
    return peak / np.float32(fmt.max_int), None


def _all_levels(fmt: Format, groups: np.ndarray, importance: np.ndarray | None) -> Scales:
    """The weight of largest magnitude gets the code farthest from zero, by a scale of either sign, as ggml's Q4_0 does.

    Codes reach from -zero to 2^bits - 1 - zero, one step farther on one side: int4 to 8, int3 to 4, int8 to -128.
    """
    if fmt.has_min:
        return _span(fmt, groups)
    high, low = groups.max(axis=-1), groups.min(axis=-1)
    peak = np.where(high >= -low, high, low)
    above = (1 << fmt.bits) - 1 - fmt.zero
    return peak / np.float32(above if above > fmt.zero else -fmt.zero), None


ROUNDINGS: dict[str, Rounding] = {
    r.name: r
    for r in (
        Rounding("rtn", "mlc-llm's: a positive scale, all but one of the levels", _symmetric, symmetric=True),
        Rounding("full", "all levels, the scale takes the sign of the largest weight", _all_levels),
    )
}


def rounding_named(name: str) -> Rounding:
    """The rounding method called `name`.

    Raises SchemeError for an unknown name.
    """
    if name not in ROUNDINGS:
        raise SchemeError(f"unknown rounding method `{name}`", f"one of: {', '.join(ROUNDINGS)}")
    return ROUNDINGS[name]
