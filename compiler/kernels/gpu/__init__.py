"""Kernels for GPUs whose threads share memory in workgroups and no more than that is known of them."""
