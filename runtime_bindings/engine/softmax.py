"""Turn the logits of a vocabulary into weights, sum them, and draw from them.

A vocabulary has up to 262,144 tokens, and numpy's running sum adds them one by one, which takes longer than the `exp`
of all of them. So weights are summed in blocks of `BLOCK`, in float32; the running sum goes over the sums of the blocks
and then, in float64, over the one block that matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from argosy.runtime_bindings.engine.workspace import Workspace

BLOCK = 128  # weights that are summed in float32
COLDEST = 1e-30  # colder temperatures are 0 in float32, or make differences infinite


@dataclass(frozen=True, slots=True)
class Weights:
    """`values`, exp(logits - base) in float32, with their sums by block and in total; `peak` is the largest value.

    Probability i is values[i] / total.
    """

    values: np.ndarray
    sums: np.ndarray
    total: float
    base: np.float32
    peak: float = 1.0

    @property
    def log_sum(self) -> float:
        """The logarithm of the sum of the exponentials of the logits."""
        return float(self.base) + math.log(self.total)


def weigh(logits: np.ndarray, best: np.float32, space: Workspace) -> Weights:
    """Return the weights of `logits` (n,) float32, in memory of `space`. `best`, the largest of them, is finite."""
    values = exponentials(logits, best, out=space.floats("weights", len(logits)))
    return _summed(values, best, 1.0)


def reweigh(weights: Weights, logits: np.ndarray, best: np.float32, changed: np.ndarray, space: Workspace) -> Weights:
    """Return the weights of `logits`, which differ from those of `weights` only in the ids `changed`; overwrites
    `weights`."""
    apart = float(best) - float(weights.base)
    if abs(apart) > 16:  # beyond, weights may leave the range of float32
        return weigh(logits, best, space)
    weights.values[changed] = exponentials(logits[changed], weights.base)
    return _summed(weights.values, weights.base, math.exp(apart))


def _summed(values: np.ndarray, base: np.float32, peak: float) -> Weights:
    sums = block_sums(values)
    return Weights(values, sums, sum_of(sums), base, peak)


def exponentials(
    logits: np.ndarray, best: np.float32, temperature: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """Return exp((logits - best) / temperature). At `COLDEST` the least differences decide, so it stands for any colder
    temperature."""
    values = np.subtract(logits, best, out=out)
    if temperature != 1.0:
        np.divide(values, np.float32(max(temperature, COLDEST)), out=values)
    return np.exp(values, out=values)


def block_sums(values: np.ndarray, factors: np.ndarray | None = None) -> np.ndarray:
    """Sum every `BLOCK` of the float32 `values` (n,), or of their products with `factors`; exact to about 1e-7.

    `einsum` adds in several lanes at once, unlike `add.reduceat`, and stays in the calling thread.
    """
    whole = len(values) // BLOCK * BLOCK
    if factors is None:
        sums = np.einsum("ij->i", values[:whole].reshape(-1, BLOCK))
        return sums if whole == len(values) else np.append(sums, values[whole:].sum())
    sums = np.einsum("ij,ij->i", values[:whole].reshape(-1, BLOCK), factors[:whole].reshape(-1, BLOCK))
    return sums if whole == len(values) else np.append(sums, np.einsum("i,i", values[whole:], factors[whole:]))


def sum_of(values: np.ndarray) -> float:
    """Return the sum of a few `values`, in float64."""
    return float(values.sum(dtype=np.float64))


def draw(values: np.ndarray, share: float, sums: np.ndarray | None = None, mask: np.ndarray | None = None) -> int:
    """Return the first index at which the running sum of `values` (n,) exceeds `share` (0 to 1) of their sum.

    `sums` are those of the blocks, if known. With a `mask`, only the values for which it is true count.
    """
    block, rest = _exceeds(block_sums(values, mask) if sums is None or mask is not None else sums, share)
    inside = slice(block * BLOCK, (block + 1) * BLOCK)
    return inside.start + _exceeds(values[inside] if mask is None else values[inside] * mask[inside], rest)[0]


def _exceeds(values: np.ndarray, share: float) -> tuple[int, float]:
    """Return the first index at which the running sum exceeds `share` of the sum, and which share of its value is
    below."""
    running = np.cumsum(values, dtype=np.float64)
    wanted = min(share * running[-1], np.nextafter(running[-1], 0.0))
    index = int(np.searchsorted(running, wanted, side="right"))
    before = float(running[index - 1]) if index else 0.0
    return index, (wanted - before) / float(running[index] - before)
