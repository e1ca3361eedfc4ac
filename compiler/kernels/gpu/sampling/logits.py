"""Change logits (b, vocab) float32 in place: add biases, apply penalties, mask what a grammar forbids."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size
from argosy.compiler.kernels.gpu.launch import ceildiv, elementwise
from argosy.compiler.kernels.gpu.traits import GpuTraits

FORBIDDEN = float.fromhex("-0x1.fffffep+127")  # the lowest float32: a masked token keeps a finite logit


def logit_bias(traits: GpuTraits, vocab: int) -> tirx.PrimFunc:
    """Build logits (b, vocab), rows (n,) and tokens (n,) int32, bias (n,): add `bias[i]` at rows[i], tokens[i]."""
    b, n = size("b"), size("n")
    kernel = Kernel("logit_bias")
    with kernel:
        logits = kernel.tensor("logits", (b, vocab), "float32")
        rows = kernel.tensor("rows", (n,), "int32")
        tokens = kernel.tensor("tokens", (n,), "int32")
        bias = kernel.tensor("bias", (n,), "float32")
        with elementwise(traits, n) as i:
            row, token = T.bind(rows[i]), T.bind(tokens[i])
            T.buffer_store(logits, logits[row, token] + bias[i], [row, token])
    return kernel.function


def penalties(traits: GpuTraits, vocab: int) -> tirx.PrimFunc:
    """Build logits (b, vocab), sequences (s,), owners (n,), tokens (n,), counts (n,) int32, penalties (s, 3).

    Token `tokens[i]` occurred `counts[i]` times in sequence `owners[i]`, whose logits are row `sequences[owners[i]]`,
    and whose penalties are (presence, frequency, repetition). The logit loses presence + count * frequency; then it is
    divided by the repetition penalty, or multiplied where it is negative (Keskar et al. 2019).
    """
    b, s, n = size("b"), size("s"), size("n")
    kernel = Kernel("penalties")
    with kernel:
        logits = kernel.tensor("logits", (b, vocab), "float32")
        sequences = kernel.tensor("sequences", (s,), "int32")
        owners = kernel.tensor("owners", (n,), "int32")
        tokens = kernel.tensor("tokens", (n,), "int32")
        counts = kernel.tensor("counts", (n,), "int32")
        values = kernel.tensor("penalties", (s, 3), "float32")
        with elementwise(traits, n) as i:
            owner, token = T.bind(owners[i]), T.bind(tokens[i])
            row = T.bind(sequences[owner])
            lower = values[owner, 0] + T.Cast("float32", counts[i]) * values[owner, 1]
            logit = T.bind(logits[row, token] - lower)
            repetition = T.bind(values[owner, 2])
            changed = T.if_then_else(logit < T.float32(0), logit * repetition, logit / repetition)
            T.buffer_store(logits, changed, [row, token])
    return kernel.function


def bitmask(traits: GpuTraits, vocab: int) -> tirx.PrimFunc:
    """Build logits (b, vocab), sequences (s,) int32, mask (s, ceil(vocab / 32)) int32: where bit v % 32 of word v // 32
    of a mask is 0, forbid token v in the mask's row `sequences[...]`."""
    b, s = size("b"), size("s")
    kernel = Kernel("bitmask")
    with kernel:
        logits = kernel.tensor("logits", (b, vocab), "float32")
        sequences = kernel.tensor("sequences", (s,), "int32")
        mask = kernel.tensor("mask", (s, ceildiv(vocab, 32)), "int32")
        with elementwise(traits, s * vocab) as i:
            which, token = T.bind(i // vocab), T.bind(i % vocab)
            row = T.bind(sequences[which])
            allowed = T.bitwise_and(T.shift_right(mask[which, token // 32], token % 32), 1) == 1
            kept = T.if_then_else(allowed, logits[row, token], T.float32(FORBIDDEN))
            T.buffer_store(logits, kept, [row, token])
    return kernel.function
