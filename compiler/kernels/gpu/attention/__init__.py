"""The paged KV cache of GPUs: kernels that move keys and values, and kernels that attend to them."""
