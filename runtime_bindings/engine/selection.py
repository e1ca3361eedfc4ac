"""Scores of a whole vocabulary go in; which of them count comes out, without sorting or summing them one by one.

A vocabulary has up to 262,144 tokens. Comparing, `exp` and block sums run at the speed of the cache; sorting all of
them, or numpy's running sum, takes ten times as long as a token may. So does picking most of them out by index: a
choice is ascending indices where it is few, and a mask over all where it is many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from argosy.runtime_bindings.engine.workspace import Workspace

# Sums of probabilities are off by less: of 12 equal tokens half the mass is 6, and not 7.
ROUNDING = 1e-6
BLOCK = 128  # weights of which one sum is taken in float32
FEW = 4096  # scores that are sorted or summed as they are
WIDE = 65536  # scores from which on columns are narrow enough to look into some of them only
HEAD = 384  # how many of the largest scores are tried before the rest is looked at
DEVIATIONS = 2.5  # how many standard errors of a sample are allowed for; one in 80 is off by more
COLDEST = 1e-30  # colder temperatures are 0 in float32, or make differences infinite
LOWEST = np.finfo(np.float32).min
SIGN_BIT = np.uint32(1 << 31)


@dataclass(frozen=True, slots=True)
class Weights:
    """`values`, exp(logits - base) in float32, with their sums by block and in total; the largest value is `peak`.

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
    """The weights of `logits` (n,) float32, of which `best`, the largest, is finite; in memory of `space`."""
    values = exponentials(logits, best, out=space.floats("weights", len(logits)))
    return _summed(values, best, 1.0)


def reweigh(weights: Weights, logits: np.ndarray, best: np.float32, changed: np.ndarray, space: Workspace) -> Weights:
    """The weights of `logits`, which differ from those of `weights` in the ids `changed` only. Uses up `weights`."""
    apart = float(best) - float(weights.base)
    if abs(apart) > 16:  # further apart, weights may leave the range of float32
        return weigh(logits, best, space)
    weights.values[changed] = exponentials(logits[changed], weights.base)
    return _summed(weights.values, weights.base, math.exp(apart))


def _summed(values: np.ndarray, base: np.float32, peak: float) -> Weights:
    sums = block_sums(values)
    return Weights(values, sums, sum_of(sums), base, peak)


def exponentials(
    logits: np.ndarray, best: np.float32, temperature: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """exp((logits - best) / temperature). Least differences decide at `COLDEST`, so colder counts as that."""
    values = np.subtract(logits, best, out=out)
    if temperature != 1.0:
        np.divide(values, np.float32(max(temperature, COLDEST)), out=values)
    return np.exp(values, out=values)


def block_sums(values: np.ndarray, factors: np.ndarray | None = None) -> np.ndarray:
    """Sums of `BLOCK` of the float32 `values` (n,) each, of their products if there are `factors`; exact to 1e-7 or so.

    `einsum` adds in several lanes at once, which `add.reduceat` does not, and stays in the calling thread.
    """
    whole = len(values) // BLOCK * BLOCK
    if factors is None:
        sums = np.einsum("ij->i", values[:whole].reshape(-1, BLOCK))
        return sums if whole == len(values) else np.append(sums, values[whole:].sum())
    sums = np.einsum("ij,ij->i", values[:whole].reshape(-1, BLOCK), factors[:whole].reshape(-1, BLOCK))
    return sums if whole == len(values) else np.append(sums, np.einsum("i,i", values[whole:], factors[whole:]))


def sum_of(values: np.ndarray) -> float:
    """The sum of a few `values`, in float64."""
    return float(values.sum(dtype=np.float64))


def draw(values: np.ndarray, share: float, sums: np.ndarray | None = None, mask: np.ndarray | None = None) -> int:
    """The first index at which the running sum of `values` (n,) exceeds `share` (0 to 1) of their sum.

    `sums`: those of its blocks, where they are known. With a `mask`, the values that it is true for are all there are.
    """
    block, rest = _exceeds(block_sums(values, mask) if sums is None or mask is not None else sums, share)
    inside = slice(block * BLOCK, (block + 1) * BLOCK)
    return inside.start + _exceeds(values[inside] if mask is None else values[inside] * mask[inside], rest)[0]


def _exceeds(values: np.ndarray, share: float) -> tuple[int, float]:
    """The first index at which the running sum exceeds `share` of the sum, and by which share of its value."""
    running = np.cumsum(values, dtype=np.float64)
    wanted = min(share * running[-1], np.nextafter(running[-1], 0.0))
    index = int(np.searchsorted(running, wanted, side="right"))
    before = float(running[index - 1]) if index else 0.0
    return index, (wanted - before) / float(running[index] - before)


def largest(scores: np.ndarray, count: int, space: Workspace) -> np.ndarray:
    """The `count` largest scores, ties to the lower index."""
    if count <= min(FEW, len(scores) // 16) or len(scores) <= FEW:
        return np.sort(leaders(scores, count))
    ones = np.broadcast_to(np.float32(1), scores.shape)
    return largest_mass(scores, ones, len(scores), count, space)


def leaders(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest scores, largest first, ties to the lower index.

    `count` is at most a sixteenth of the scores, if these are more than a few.
    """
    candidates = _candidates(scores, min(count, len(scores)))
    return candidates[_descending(scores[candidates])[:count]]


def _candidates(scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of `count` scores or more, mostly not many more, among them the `count` largest.

    Of groups of the scores, `count` have a maximum of at least the count-th largest maximum: candidates reach that.
    """
    if len(scores) <= FEW:
        return _reaching(scores, np.partition(scores, len(scores) - count)[len(scores) - count], count)
    groups = max(1024, 1 << (2 * count - 1).bit_length())
    columns = max(groups, 8192) if len(scores) >= WIDE else groups
    whole = len(scores) // columns * columns
    table = scores[:whole].reshape(-1, columns)
    maxima = table.max(axis=0)
    floor = np.partition(maxima.reshape(-1, groups).max(axis=0), groups - count)[groups - count]
    reached = np.flatnonzero(maxima >= floor)
    if len(reached) > columns // 4:
        return _reaching(scores, floor, count)
    row, place = np.divmod(np.flatnonzero(table.take(reached, axis=1) >= floor), len(reached))
    rest = np.flatnonzero(scores[whole:] >= floor)
    return np.concatenate([row * columns + reached[place], rest + whole])


def _reaching(scores: np.ndarray, floor: np.float32, count: int) -> np.ndarray:
    """Ascending indices of scores of at least `floor`, which `count` reach; of equal ones no more than needed."""
    mask = scores >= floor
    if np.count_nonzero(mask) <= 4 * count:
        return indices(mask)
    above = np.flatnonzero(scores > floor)
    missing = count - len(above)
    if missing <= 0:
        return above
    equal = scores == floor
    first = np.flatnonzero(equal[:FEW])
    first = first if len(first) >= missing else np.flatnonzero(equal)
    return np.sort(np.concatenate([above, first[:missing]]))


def largest_mass(
    scores: np.ndarray, weights: np.ndarray, total: float, mass: float, space: Workspace, peak: float = 1.0
) -> np.ndarray:
    """The shortest run of the highest `scores` whose `weights` sum to `mass` or more, ties to the lower index. It has
    one score at least, and all of them if they hold less.

    `total` is the sum of all weights, and `peak` the largest. Mostly a few tokens hold the mass, or at most a 64th of
    all: these are tried first, unless not even twice as many could.
    """
    size = len(scores)
    if size <= FEW:
        return np.sort(_run(scores, weights, mass))
    if mass <= 0.0:
        return leaders(scores, 1)
    likely = mass <= size // 32 * peak
    if likely and size >= 16 * HEAD:
        head = _candidates(scores, HEAD)
        heavy = weights[head]
        if sum_of(heavy) >= mass:
            return np.sort(head[_run(scores[head], heavy, mass)])
    sample = _sample(scores)
    ceiling, above = np.float32(np.inf), 0.0
    if likely:
        floor = scores[sample[len(sample) // 64]]
        neck = scores >= floor
        if np.count_nonzero(neck) <= size // 16:  # not where many are equal
            ids = indices(neck)
            heavy = weights[ids]
            above, ceiling = sum_of(heavy), np.nextafter(floor, -ceiling)
            if above >= mass:
                return ids[_among(scores[ids], heavy, mass)]
    low, high = _bracket(scores, weights, sample, (mass - above) / (total - above), ceiling)
    return _divide(scores, weights, mass, low, high, space)


def _sample(scores: np.ndarray) -> np.ndarray:
    """Indices of some of the `scores` (n,), spread evenly, by falling score: 4 times the square root of n."""
    step = int(math.sqrt(len(scores))) // 4
    return np.argsort(-scores[::step]) * step


def _bracket(
    scores: np.ndarray, weights: np.ndarray, sample: np.ndarray, share: float, ceiling: np.float32
) -> tuple[np.float32, np.float32]:
    """Two scores between which the run that holds `share` of the scores up to `ceiling` very likely ends."""
    sample = sample[scores[sample] <= ceiling]
    sampled = np.append(scores[sample], LOWEST)
    values = np.append(weights[sample], 0).astype(np.float64)
    running, squares = np.cumsum(values), np.cumsum(values * values)
    wanted = share * running[-1]
    end = min(int(np.searchsorted(running, wanted)), len(sample))
    # The standard error of a ratio of two sums over the same sample (Cochran, Sampling Techniques, chapter 6).
    error = DEVIATIONS * math.sqrt((1 - share) ** 2 * squares[end] + share**2 * (squares[-1] - squares[end]))
    first = min(int(np.searchsorted(running, wanted - error)), end - 2)
    last = max(int(np.searchsorted(running, wanted + error)), end + 2)
    high = sampled[first] if first >= 0 and wanted > error else ceiling
    low = sampled[min(last, len(sample))]
    if end < len(sample) and sampled[end] in (low, high):  # a score that many have
        return sampled[end], sampled[end]
    return min(low, high), high


def _divide(
    scores: np.ndarray, weights: np.ndarray, mass: float, low: np.float32, high: np.float32, space: Workspace,
    halve: bool = True,
) -> np.ndarray:  # fmt: skip
    """The run of `largest_mass`, as a mask in memory of `space`; it probably ends between the scores `low` and `high`.

    What is above is taken, what is below is left, and only what lies between is looked at again. If that is most of
    the scores and `halve` is true, it is then split in the middle.
    """
    taken, between = space.mask("taken", len(scores)), space.mask("between", len(scores))
    held = sum_of(block_sums(weights, np.greater(scores, high, out=taken)))
    np.not_equal(np.greater_equal(scores, low, out=between), taken, out=between)
    if low == high and held < mass:  # of many equal scores the first ones
        sums = block_sums(weights, between)
        if held + sum_of(sums) >= mass:
            end = _reaches(weights, between, sums, mass - held) + 1
            taken[:end] |= between[:end]
            return taken
    ids = indices(taken if held >= mass else between)
    heavy = weights[ids]
    if held >= mass:  # the sample misled: the run ends among those above, or else among those below
        taken[:], held = False, 0.0
    elif held + (inside := sum_of(heavy)) < mass:
        taken[ids], held = True, held + inside
        ids = indices(scores < low)
        heavy = weights[ids]
    taken[ids[_among(scores[ids], heavy, mass - held, halve and len(ids) > len(scores) // 2)]] = True
    return taken


def _among(scores: np.ndarray, weights: np.ndarray, mass: float, halve: bool = False) -> np.ndarray:
    """The run of `largest_mass` among what is left of other scores, ascending; the middle one divides them if `halve`,
    so that nothing can make the run hard to find."""
    total = sum_of(weights)
    if len(scores) <= FEW or total < mass:
        return np.sort(_run(scores, weights, mass))
    sample = _sample(scores)
    low = high = scores[sample[len(sample) // 2]]
    if not halve:
        low, high = _bracket(scores, weights, sample, mass / total, np.float32(np.inf))
    return np.flatnonzero(_divide(scores, weights, mass, low, high, Workspace(), not halve))


def _reaches(values: np.ndarray, mask: np.ndarray, sums: np.ndarray, wanted: float) -> int:
    """The first index at which the running sum of `values` * `mask`, with `sums` by block, is `wanted` or more; or the
    last of the block in which it should be."""
    running = np.cumsum(sums, dtype=np.float64)
    block = min(int(np.searchsorted(running, wanted)), len(sums) - 1)
    place = slice(block * BLOCK, (block + 1) * BLOCK)
    inside = np.cumsum(values[place] * mask[place], dtype=np.float64)
    rest = wanted - (float(running[block - 1]) if block else 0.0)
    return place.start + min(int(np.searchsorted(inside, rest)), len(inside) - 1)


def indices(mask: np.ndarray) -> np.ndarray:
    """Ascending indices of what is true in `mask` (n,).

    Where less than a tenth is, numpy goes from one to the next, which takes longest just below that: some more, at the
    end, spare it that.
    """
    count = np.count_nonzero(mask)
    if len(mask) < WIDE or not len(mask) // 40 < count <= len(mask) // 10:
        return np.flatnonzero(mask)
    return np.flatnonzero(np.append(mask, np.ones(len(mask) // 9, bool)))[:count]


def _run(scores: np.ndarray, weights: np.ndarray, mass: float) -> np.ndarray:
    """Indices of the shortest run by falling score that holds `mass`; all of them if they hold less."""
    order = _descending(scores)
    running = np.cumsum(weights[order], dtype=np.float64)
    return order[: int(np.searchsorted(running, mass)) + 1]


def _descending(scores: np.ndarray) -> np.ndarray:
    """Indices by falling score, ties to the lower index.

    Whole numbers that order the scores (of a negative float, the larger the bits, the smaller it is) are sorted with
    their indices below them: numpy does that several times as fast as it keeps the order of equal floats.
    """
    bits = (np.float32(0) - scores).view(np.int32)  # minus zero becomes zero
    keys = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64) << 32 | np.arange(len(scores))
    keys.sort()
    return keys & 0xFFFFFFFF
