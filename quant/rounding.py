"""Choose the scale (and minimum) of every group of weights.

All methods give values the nearest code, which `formats.py` finds. A method that also chooses codes, because it
compensates each error in the next columns (GPTQ), calls `formats.pack_codes` itself.
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
    """A method of choosing scales.

    `choose(fmt, groups, importance)` takes groups float32 (n, groups, group), padded at the end of a row, and
    importance float32 (groups, group) or None, such as the mean square of each column's activations. Methods that use
    the weights alone ignore it. It returns the scale and, for formats that have one, the minimum: float32 (n, groups),
    not yet rounded to the storage dtype; NaN or infinity in a group must give NaN or infinity.
    `symmetric`: codes stay within `Format.max_int` of zero.
    """

    name: str
    summary: str
    choose: Callable[[Format, np.ndarray, np.ndarray | None], Scales]
    symmetric: bool = False


def _span(fmt: Format, groups: np.ndarray) -> Scales:
    """Span the smallest to the largest value in 2^bits - 1 steps."""
    low = groups.min(axis=-1)
    return (groups.max(axis=-1) - low) / np.float32((1 << fmt.bits) - 1), low


def _symmetric(fmt: Format, groups: np.ndarray, importance: np.ndarray | None) -> Scales:
    """Scale by max |w| / max_int, as mlc-llm does."""
    if fmt.has_min:
        return _span(fmt, groups)
    peak = np.maximum(groups.max(axis=-1), -groups.min(axis=-1))
    return peak / np.float32(fmt.max_int), None


def _all_levels(fmt: Format, groups: np.ndarray, importance: np.ndarray | None) -> Scales:
    """Give the weight of largest magnitude the code farthest from zero, with a scale of either sign, like ggml's Q4_0.

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
    """Return the rounding method called `name`.

    Raises SchemeError for an unknown name.
    """
    if name not in ROUNDINGS:
        raise SchemeError(f"unknown rounding method `{name}`", f"one of: {', '.join(ROUNDINGS)}")
    return ROUNDINGS[name]
