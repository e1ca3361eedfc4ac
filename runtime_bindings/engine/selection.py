"""Scores of a whole vocabulary go in; which of them count comes out, without sorting or summing them one by one.

A vocabulary has up to 262,144 tokens. Comparing, `exp` and block sums run at the speed of the cache; sorting all of
them, or numpy's running sum, takes ten times as long as a token may.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Sums of probabilities are off by less: of 12 equal tokens half the mass is 6, and not 7.
ROUNDING = 1e-6
BLOCK = 512  # scores of which one maximum or one sum is taken
FEW = 4096  # scores that are sorted or summed as they are
HEAD = 384  # how many of the largest scores are tried before the rest is looked at
SAMPLE = 2048  # scores that say roughly how all of them are spread; a twentieth of it is over four standard errors
BANNED = np.float32(-1e30)  # stands for -inf where 0 * -inf would be in the way


@dataclass(frozen=True, slots=True)
class Weights:
    """`values`, exp(logits - best) in float32, their sum, and `best`: probability i is values[i] / total."""

    values: np.ndarray
    total: float
    best: float

    @property
    def log_sum(self) -> float:
        """The logarithm of the sum of the exponentials of the logits."""
        return self.best + float(np.log(self.total))


def weigh(logits: np.ndarray) -> Weights:
    """The weights of `logits` (n,) float32, of which the largest is finite."""
    best = logits.max()
    values = exponentials(logits, best)
    return Weights(values, total(values), float(best))


def exponentials(logits: np.ndarray, best: np.float32, temperature: float = 1.0) -> np.ndarray:
    """exp((logits - best) / temperature)."""
    values = np.subtract(logits, best)
    if temperature != 1.0:
        np.divide(values, np.float32(temperature), out=values)
    return np.exp(values, out=values)


def total(values: np.ndarray) -> float:
    """The sum of float32 `values` (n,), exact to 1e-7 of it or so."""
    return float(_block_sums(values).sum(dtype=np.float64))


def draw(values: np.ndarray, share: float) -> int:
    """The first index at which the running sum of `values` (n,) exceeds `share` (0 to 1) of their sum."""
    block, rest = _exceeds(_block_sums(values), share)
    first = block * BLOCK
    inside = values[first : first + BLOCK]
    return first + _exceeds(inside, rest)[0]


def _exceeds(values: np.ndarray, share: float) -> tuple[int, float]:
    """The first index at which the running sum exceeds `share` of the sum, and by which share of its value."""
    running = np.cumsum(values, dtype=np.float64)
    wanted = min(share * running[-1], np.nextafter(running[-1], 0.0))
    index = int(np.searchsorted(running, wanted, side="right"))
    before = float(running[index - 1]) if index else 0.0
    return index, (wanted - before) / float(running[index] - before)


def _block_sums(values: np.ndarray) -> np.ndarray:
    """Sums of `BLOCK` values each, in float32: numpy adds them pairwise."""
    return np.add.reduceat(values, np.arange(0, len(values), BLOCK))


def at_least(scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of all scores above some threshold that lets `count` or more pass, and seldom many more.

    Of groups of the scores, `count` have a maximum of at least the count-th largest maximum: that is the threshold.
    """
    groups = max(BLOCK, 1 << (2 * count - 1).bit_length())
    rows = len(scores) // groups
    if len(scores) <= FEW or rows < 4:
        place = max(0, len(scores) - count)
        return where(scores >= np.partition(scores, place)[place])
    maxima = scores[: rows * groups].reshape(rows, groups).max(axis=0)
    return where(scores >= np.partition(maxima, groups - count)[groups - count])


def where(mask: np.ndarray) -> np.ndarray:
    """Ascending indices of what is true in `mask` (n,); faster than numpy where that is little."""
    whole = len(mask) // 8
    words = np.flatnonzero(mask[: whole * 8].view(np.uint64))
    if len(words) > whole // 8:
        return np.flatnonzero(mask)
    word, byte = np.nonzero(mask[: whole * 8].reshape(whole, 8)[words])
    return np.concatenate([words[word] * 8 + byte, np.flatnonzero(mask[whole * 8 :]) + whole * 8])


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the `count` largest scores, ties to the lower index."""
    if count >= len(scores):
        return np.arange(len(scores))
    candidates = at_least(scores, count)
    return np.sort(candidates[_descending(scores[candidates])[:count]])


def largest_mass(scores: np.ndarray, weights: np.ndarray, mass: float) -> np.ndarray:
    """Ascending indices of the shortest run of the highest `scores` whose `weights` sum to `mass` or more.

    Mostly a few tokens hold it. Where they do not, a sample of the scores tells about where the run ends. What is above
    that is taken, what is below is left, and only the scores between are looked at again.
    """
    if len(scores) <= FEW:
        return np.sort(_run(np.arange(len(scores)), scores, weights, mass))
    head = at_least(scores, HEAD)
    if weights[head].sum(dtype=np.float64) >= mass:
        return np.sort(_run(head, scores, weights, mass))
    low, high = _bracket(scores, weights, mass)
    taken = scores > high
    held = total(weights * taken)
    between = where((scores >= low) & ~taken)
    inside = weights[between].sum(dtype=np.float64)
    if held >= mass:  # the sample misled: the run ends among those above, or else among those below
        taken, held, between = np.zeros(len(scores), bool), 0.0, where(taken)
    elif held + inside < mass:
        taken, held, between = scores >= low, held + inside, where(scores < low)
    if len(between) == len(scores):
        return np.sort(_run(between, scores, weights, mass))
    taken[between[largest_mass(scores[between], weights[between], mass - held)]] = True
    return where(taken)


def _bracket(scores: np.ndarray, weights: np.ndarray, mass: float) -> tuple[float, float]:
    """Two scores between which the run of `largest_mass` very likely ends."""
    step = len(scores) // SAMPLE
    order = np.argsort(-scores[::step])
    sampled, running = scores[::step][order], np.cumsum(weights[::step][order], dtype=np.float64)
    place, margin = int(np.searchsorted(running, mass / total(weights) * running[-1])), len(order) // 20
    high = float(sampled[place - margin]) if place >= margin else np.inf
    return float(sampled[place + margin]) if place + margin < len(order) else -np.inf, high


def _run(candidates: np.ndarray, scores: np.ndarray, weights: np.ndarray, mass: float) -> np.ndarray:
    """The shortest run of `candidates` by falling score that holds `mass`; all of them if they hold less."""
    ordered = candidates[_descending(scores[candidates])]
    running = np.cumsum(weights[ordered], dtype=np.float64)
    return ordered[: int(np.searchsorted(running, mass, side="left")) + 1]


def _descending(scores: np.ndarray) -> np.ndarray:
    """Indices by falling score, ties to the lower index."""
    return np.argsort(-scores, kind="stable")
