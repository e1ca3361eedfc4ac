"""Which parameters a spec has, and which checkpoint tensors each is made of: a spec goes in, a tuple of `Parameter` comes out.

The names follow the Hugging Face llama spelling with q/k/v and gate/up merged, which is also MLC's:
`model.layers.0.self_attn.qkv_proj`, `model.layers.0.mlp.gate_up_proj`, `model.embed_tokens`, `lm_head`, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Source:
    """One checkpoint tensor, and how it becomes rows of the parameter.

    `shape` is the tensor's shape in the checkpoint; `adapt` (name in `ADAPTERS`) turns it into (n, k) or (n,).
    """

    name: str
    shape: tuple[int, ...]
    adapt: str = "none"
    heads: int = 0  # what the adapter needs


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of the network: `linear` and `embedding` are (n, k) matrices that may be quantized, `plain` is kept.

    Its sources, adapted, are concatenated along the first axis.
    """

    name: str
    kind: Literal["linear", "embedding", "plain"]
    shape: tuple[int, ...]
    sources: tuple[Source, ...]


def _transpose(array: np.ndarray, source: Source) -> np.ndarray:
    """GPT-2's Conv1D stores (in, out)."""
    return np.ascontiguousarray(array.T)


def _interleaved_qkv(array: np.ndarray, source: Source) -> np.ndarray:
    """GPT-NeoX stores (heads, [q k v], head_dim) rows; we want all of q, then k, then v."""
    rest = array.shape[1:]
    by_head = array.reshape(source.heads, 3, -1, *rest)
    return np.ascontiguousarray(np.swapaxes(by_head, 0, 1)).reshape(-1, *rest)


ADAPTERS: dict[str, Callable[[np.ndarray, Source], np.ndarray]] = {
    "none": lambda array, source: array,
    "transpose": _transpose,
    "interleaved_qkv": _interleaved_qkv,
}
