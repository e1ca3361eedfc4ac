"""Recognise tensors that carry nothing of their own, by their values: buffers that the config determines.

Older versions of transformers saved them, newer ones ignore them. A name is not enough to leave a tensor out: one whose
values are others belongs to a model that this config does not describe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, Protocol

import numpy as np

from argosy.model_defs.components.rope import RopeSpec
from argosy.support.errors import UnsupportedModelError
from argosy.support.text import one_line

Buffer = Literal["causal_mask", "masked_value", "inverse_frequencies", "cosines", "sines"]

# Those that checkpoints of any family may hold: name (`fnmatch`) -> what it must be.
COMMON: Mapping[str, Buffer] = {
    "*.rotary_emb.inv_freq": "inverse_frequencies",
    "*.rotary_emb.cos_cached": "cosines",
    "*.rotary_emb.sin_cached": "sines",
}
COARSE = 2.0**-7  # relative rounding error of bfloat16
SMALLEST = 2.0**-24  # smallest float16 above zero
POSITIONS = 8  # rows of a table that are compared; the rounding errors of its angles grow with the position


class BufferSource(Protocol):
    """The tensors of a checkpoint."""

    def read(self, name: str) -> np.ndarray: ...


def derived_names(
    names: Iterable[str], buffers: Mapping[str, Buffer], tensors: BufferSource, ropes: Iterable[RopeSpec]
) -> tuple[str, ...]:
    """Return those of `names` that match a pattern of `buffers` or `COMMON`, after comparing their values.

    `ropes` are those that a table may have been computed for. Raises UnsupportedModelError for other values.
    """
    found = []
    for name in names:
        kind = next((kind for pattern, kind in {**COMMON, **buffers}.items() if fnmatchcase(name, pattern)), None)
        if kind is None:
            continue
        if not RECOGNISERS[kind](tensors.read(name), tuple(ropes)):
            raise UnsupportedModelError(
                f"`{one_line(name, 100)}` does not hold the {kind.replace('_', ' ')} that the config determines",
                "leaving it out would change the model; remove it from the checkpoint if the config is right",
            )
        found.append(name)
    return tuple(found)


def _is_causal_mask(values: np.ndarray, ropes: tuple[RopeSpec, ...]) -> bool:
    """Return whether `values` (1, 1, n, n) are 1 at and below the diagonal, and 0 above."""
    if values.ndim < 2 or values.shape[-1] != values.shape[-2] or values.size != values.shape[-1] ** 2:
        return False
    rows = values.reshape(values.shape[-2:])
    return all(bool((row[: i + 1] == 1).all()) and not row[i + 1 :].any() for i, row in enumerate(rows))


def _is_masked_value(values: np.ndarray, ropes: tuple[RopeSpec, ...]) -> bool:
    """Return whether `values` is one number so low that a softmax makes it zero."""
    return values.size == 1 and bool(values.reshape(-1)[0] <= -1e3)


def _are_inverse_frequencies(values: np.ndarray, ropes: tuple[RopeSpec, ...]) -> bool:
    flat = values.reshape(-1).astype(np.float64)
    return any(
        len(flat) == len(rope.inverse_frequencies)
        and bool((abs(flat - rope.inverse_frequencies) <= COARSE * np.array(rope.inverse_frequencies) + SMALLEST).all())
        for rope in ropes
    )


def _are_cosines(values: np.ndarray, ropes: tuple[RopeSpec, ...]) -> bool:
    return _is_table(values, np.cos, ropes)


def _are_sines(values: np.ndarray, ropes: tuple[RopeSpec, ...]) -> bool:
    return _is_table(values, np.sin, ropes)


def _is_table(values: np.ndarray, wave: Callable[[np.ndarray], np.ndarray], ropes: tuple[RopeSpec, ...]) -> bool:
    """Return whether `values` (..., positions, rotary_dim) begin with the `wave` of every position and pair, twice."""
    for rope in ropes:
        if values.ndim < 2 or values.shape[-1] != rope.rotary_dim or values.size != np.prod(values.shape[-2:]):
            continue
        rows = values.reshape(values.shape[-2:])[:POSITIONS].astype(np.float64)
        angles = np.outer(np.arange(len(rows)), rope.inverse_frequencies)
        expected = np.tile(wave(angles), 2) * rope.magnitude
        if bool((abs(rows - expected) <= COARSE * (1 + angles.max(initial=0))).all()):
            return True
    return False


RECOGNISERS: Mapping[Buffer, Callable[[np.ndarray, tuple[RopeSpec, ...]], bool]] = {
    "causal_mask": _is_causal_mask,
    "masked_value": _is_masked_value,
    "inverse_frequencies": _are_inverse_frequencies,
    "cosines": _are_cosines,
    "sines": _are_sines,
}
