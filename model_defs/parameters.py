"""Describe how a checkpoint's tensors become the parameters of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from argosy.model_defs.components.parts import ParameterKind


@dataclass(frozen=True, slots=True)
class Source:
    """One checkpoint tensor, and how it becomes rows of the parameter.

    `shape` is the tensor's shape in the checkpoint; `adapt` (a name in `ADAPTERS`) turns it into (n, k) or (n,).
    """

    name: str
    shape: tuple[int, ...]
    adapt: str = "none"
    heads: int = 0  # what `interleaved_qkv` needs

    def rows(self, array: np.ndarray) -> np.ndarray:
        """Return the tensor as rows of the parameter: (n, k) or (n,)."""
        return ADAPTERS[self.adapt](array, self)

    @property
    def reorders_rows_only(self) -> bool:
        """Whether `rows` moves whole rows, so that it may be applied to packed rows as well."""
        return self.adapt != "transpose"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of the network: `linear` and `embedding` are (n, k) matrices that may be quantized, `plain` is not.

    Its adapted sources are concatenated along the first axis.
    """

    name: str
    kind: ParameterKind
    shape: tuple[int, ...]
    sources: tuple[Source, ...]


def _row(array: np.ndarray, source: Source) -> np.ndarray:
    """Make one head's vector one row, or the matrix of one expert one of several."""
    return array[None]


def _transpose(array: np.ndarray, source: Source) -> np.ndarray:
    """Transpose a matrix: GPT-2's Conv1D stores (in, out)."""
    return np.ascontiguousarray(array.T)


def _interleaved_qkv(array: np.ndarray, source: Source) -> np.ndarray:
    """Reorder GPT-NeoX's (heads, [q k v], head_dim) rows to all of q, then k, then v."""
    rest = array.shape[1:]
    by_head = array.reshape(source.heads, 3, -1, *rest)
    return np.ascontiguousarray(np.swapaxes(by_head, 0, 1)).reshape(-1, *rest)


ADAPTERS: dict[str, Callable[[np.ndarray, Source], np.ndarray]] = {
    "none": lambda array, source: array,
    "row": _row,
    "transpose": _transpose,
    "interleaved_qkv": _interleaved_qkv,
}
