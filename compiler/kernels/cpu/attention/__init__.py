"""Attention on CPUs: the kernels of the paged KV cache."""
