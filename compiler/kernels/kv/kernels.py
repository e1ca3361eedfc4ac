"""Define the record of kernels that a paged KV cache needs, which every device fills in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from argosy.compiler.kernels.kv.shape import AttentionShape


@dataclass(frozen=True, slots=True)
class CacheKernels:
    """Functions that make the kernels of a device.

    All take the shape, `prefill` and `decode` also whether the layer slides, `read_back` also the number of layers.
    A device without the two kernels for trees refuses token trees.
    """

    checked_empty: Callable[[AttentionShape], tirx.PrimFunc]
    append: Callable[[AttentionShape], tirx.PrimFunc]
    ragged: Callable[[AttentionShape], tirx.PrimFunc]
    prefill: Callable[[AttentionShape, bool], tirx.PrimFunc]
    decode: Callable[[AttentionShape, bool], tirx.PrimFunc]
    tree: Callable[[AttentionShape], tirx.PrimFunc] | None
    ragged_tree: Callable[[AttentionShape], tirx.PrimFunc] | None
    merge_state: Callable[[AttentionShape], tirx.PrimFunc]
    split_qkv: Callable[[AttentionShape], tirx.PrimFunc]
    copy_page: Callable[[AttentionShape], tirx.PrimFunc]
    read_back: Callable[[AttentionShape, int], tirx.PrimFunc]
    compact: Callable[[AttentionShape], tirx.PrimFunc]
