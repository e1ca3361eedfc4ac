"""The kernels that a GPU's paged KV cache is made of. Token trees are left out: no browser runtime builds any."""

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
from argosy.compiler.kernels.kv.kernels import CacheKernels

GPU_KERNELS = CacheKernels(
    checked_empty, append, ragged_prefill, paged_prefill, decode, None, None, merge_state, split_qkv, copy_page,
    read_back, no_trees,
)  # fmt: skip
