"""Attention on the CPU: the kernels of the paged KV cache, and the cache that is made of them."""

from argosy.compiler.kernels.attention.cache import ArgosyPagedKVCache

__all__ = ["ArgosyPagedKVCache"]
