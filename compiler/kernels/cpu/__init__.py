"""Kernels for CPUs: vectors of sixteen lanes, and loops over threads."""
