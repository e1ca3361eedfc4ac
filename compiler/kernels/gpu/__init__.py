"""Kernels for GPUs, which assume no more than threads that share memory in workgroups."""
