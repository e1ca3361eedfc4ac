"""Kernels for CPUs, as vectors of sixteen lanes and loops over threads."""
