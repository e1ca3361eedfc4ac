"""The kernels of the paged KV cache on CPUs."""
