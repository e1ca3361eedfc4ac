"""Sampling kernels for GPUs: probabilities, their order, tokens drawn from them, and changes to logits.

Each works on b rows of `vocab` numbers. `compiler/sampling.py` makes exported functions of them.
"""
