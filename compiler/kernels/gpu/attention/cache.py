"""The kernels of a GPU's paged KV cache."""

from __future__ import annotations

from functools import partial

from argosy.compiler.kernels.gpu.attention.attend import decode, paged_prefill, ragged_prefill
from argosy.compiler.kernels.gpu.attention.pages import (
    append,
    checked_empty,
    copy_page,
    merge_state,
    no_trees,
    read_back,
    split_qkv,
)
from argosy.compiler.kernels.gpu.traits import GpuTraits
from argosy.compiler.kernels.kv.kernels import CacheKernels


def gpu_kernels(traits: GpuTraits) -> CacheKernels:
    """Return the makers of the kernels for GPUs with `traits`. Token trees are refused: no runtime here builds any."""
    return CacheKernels(
        checked_empty=checked_empty,
        append=partial(append, traits),
        ragged=partial(ragged_prefill, traits),
        prefill=partial(paged_prefill, traits),
        decode=partial(decode, traits),
        tree=None,
        ragged_tree=None,
        merge_state=partial(merge_state, traits),
        split_qkv=partial(split_qkv, traits),
        copy_page=partial(copy_page, traits),
        read_back=partial(read_back, traits),
        compact=no_trees,
    )
