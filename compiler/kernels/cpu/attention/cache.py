"""Collect the kernels of the paged KV cache on CPUs."""

from argosy.compiler.kernels.cpu.attention.decode import decode
from argosy.compiler.kernels.cpu.attention.merge import merge_state
from argosy.compiler.kernels.cpu.attention.paged import paged_prefill
from argosy.compiler.kernels.cpu.attention.pages import append, checked_empty, compact, copy_page, read_back, split_qkv
from argosy.compiler.kernels.cpu.attention.ragged import ragged_prefill
from argosy.compiler.kernels.cpu.attention.tree import paged_tree, ragged_tree
from argosy.compiler.kernels.kv.kernels import CacheKernels

CPU_KERNELS = CacheKernels(
    checked_empty, append, ragged_prefill, paged_prefill, decode, paged_tree, ragged_tree, merge_state, split_qkv,
    copy_page, read_back, compact,
)  # fmt: skip
