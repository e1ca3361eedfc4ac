"""Choose the highest of a vocabulary's scores: a number of them, or as many as hold a share of the probability.

Sorting all scores would be simple, and too slow. For 262,144 of them numpy takes, in milliseconds: 15 to sort indices,
2 to sort values, 2 to pick out half of them by index, 0.4 for `exp`, 0.03 to compare all with a number or to find the
maximum. A token may take a few milliseconds in all. So scores are compared with thresholds, a few times, and only what
lies close to the end of the choice is picked out and sorted:

    scores    highest                                                    lowest
              |-------- taken --------|-- between --|------- left out -------|
                                    high           low
                                           ^ the run ends somewhere here

1. `_candidates`, for the few highest. The scores are arranged in a table, and the maximum of every column is found at
   the speed of memory. At least `count` scores reach the count-th largest maximum, so that is the threshold; usually
   not many more do. Most answers need nothing else: `top_k=40` takes 0.2 ms, and the nucleus of a distribution with
   a clear peak has fewer than `HEAD` tokens.
2. `_bracket`, for a run of unknown length, such as the nucleus of a flat distribution. A sample of 4 sqrt(n) scores is
   sorted. It tells where the run ends, give or take a statistical error; `low` and `high` are that far apart, or a bit
   further.
3. `_divide` takes everything above `high`, leaves out everything below `low`, and looks only between them for the end
   of the run, where it repeats the same with what is left. When the sample misled, the end lies on another side; that
   costs time and changes nothing. When little was gained, the next bracket is the median, so that no distribution can
   make this slow.

Results are exact whatever the sample says. A choice is a list of ascending indices if it is short, and a mask if it is
long, because picking out most of a vocabulary by index takes longer than the `exp` of all of it.
"""

from __future__ import annotations

import math

import numpy as np

from argosy.runtime_bindings.engine.softmax import BLOCK, block_sums, sum_of
from argosy.runtime_bindings.engine.workspace import Workspace

ROUNDING = 1e-6  # sums of probabilities are off by less: of 12 equal tokens, half the mass is 6 and not 7
FEW = 4096  # scores that are sorted or summed as they are
WIDE = 65536  # from this many scores on, columns are narrow enough to look into some of them only
HEAD = 384  # how many of the highest scores are tried first
DEVIATIONS = 2.5  # half the width of a bracket in standard errors; one in 80 runs ends outside
LOWEST = np.finfo(np.float32).min
SIGN_BIT = np.uint32(1 << 31)


def largest(scores: np.ndarray, count: int, space: Workspace) -> np.ndarray:
    """Choose the `count` largest scores, ties to the lower index."""
    if count <= min(FEW, len(scores) // 16) or len(scores) <= FEW:
        return np.sort(leaders(scores, count))
    ones = np.broadcast_to(np.float32(1), scores.shape)
    return largest_mass(scores, ones, len(scores), count, space)


def leaders(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` largest scores, largest first, ties to the lower index.

    Of more than `FEW` scores, `count` is at most a sixteenth.
    """
    candidates = _candidates(scores, min(count, len(scores)))
    return candidates[_descending(scores[candidates])[:count]]


def _candidates(scores: np.ndarray, count: int) -> np.ndarray:
    """Return ascending indices of at least `count` scores, usually not many more, among them the `count` largest.

    They are the scores that reach the count-th largest maximum of the columns of a table. Columns are looked at in
    groups, of which there are at least twice as many as `count`; in a large table only columns with a maximum that high
    are searched.
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
    """Return ascending indices of the scores of at least `floor`, which `count` or more reach.

    If many scores equal `floor`, only as many of these are returned as it takes to have `count`.
    """
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
    """Choose the shortest run of the highest `scores` whose `weights` sum to `mass` or more, ties to the lower index.

    It has at least one score, and all of them if they hold less. `total` is the sum of all weights, `peak` the largest.
    Usually a few tokens hold the mass, or a 64th of all: these are tried first, unless even twice as many could not.
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
        if np.count_nonzero(neck) <= size // 16:  # more if many are equal
            ids = indices(neck)
            heavy = weights[ids]
            above, ceiling = sum_of(heavy), np.nextafter(floor, -ceiling)
            if above >= mass:
                return ids[_among(scores[ids], heavy, mass)]
    low, high = _bracket(scores, weights, sample, (mass - above) / (total - above), ceiling)
    return _divide(scores, weights, mass, low, high, space)


def _sample(scores: np.ndarray) -> np.ndarray:
    """Return indices of 4 sqrt(n) of the `scores` (n,), spread evenly, highest score first."""
    step = int(math.sqrt(len(scores))) // 4
    return np.argsort(-scores[::step]) * step


def _bracket(
    scores: np.ndarray, weights: np.ndarray, sample: np.ndarray, share: float, ceiling: np.float32
) -> tuple[np.float32, np.float32]:
    """Return two scores, low and high, between which a run very likely ends: the one that holds `share` of the weights
    of the scores up to `ceiling`."""
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
    if end < len(sample) and sampled[end] in (low, high):  # many have this score
        return sampled[end], sampled[end]
    return min(low, high), high


def _divide(
    scores: np.ndarray, weights: np.ndarray, mass: float, low: np.float32, high: np.float32, space: Workspace,
    halve: bool = True,
) -> np.ndarray:  # fmt: skip
    """Return the run of `largest_mass` as a mask in memory of `space`; it probably ends between `low` and `high`.

    Scores above are taken, scores below left out, and those between looked at again. If these are most of the scores
    and `halve` is true, the next bracket is their median.
    """
    taken, between = space.mask("taken", len(scores)), space.mask("between", len(scores))
    held = sum_of(block_sums(weights, np.greater(scores, high, out=taken)))
    np.not_equal(np.greater_equal(scores, low, out=between), taken, out=between)
    if low == high and held < mass:  # of many equal scores, the first ones
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
    """Return ascending indices of the run of `largest_mass` among scores that are left; with `halve`, their median
    divides them."""
    total = sum_of(weights)
    if len(scores) <= FEW or total < mass:
        return np.sort(_run(scores, weights, mass))
    sample = _sample(scores)
    low = high = scores[sample[len(sample) // 2]]
    if not halve:
        low, high = _bracket(scores, weights, sample, mass / total, np.float32(np.inf))
    return np.flatnonzero(_divide(scores, weights, mass, low, high, Workspace(), not halve))


def _reaches(values: np.ndarray, mask: np.ndarray, sums: np.ndarray, wanted: float) -> int:
    """Return the first index at which the running sum of `values` * `mask`, with `sums` by block, is `wanted` or more;
    if rounding hides it, the last index of that block."""
    running = np.cumsum(sums, dtype=np.float64)
    block = min(int(np.searchsorted(running, wanted)), len(sums) - 1)
    place = slice(block * BLOCK, (block + 1) * BLOCK)
    inside = np.cumsum(values[place] * mask[place], dtype=np.float64)
    rest = wanted - (float(running[block - 1]) if block else 0.0)
    return place.start + min(int(np.searchsorted(inside, rest)), len(inside) - 1)


def indices(mask: np.ndarray) -> np.ndarray:
    """Return ascending indices of the true elements of `mask` (n,).

    If less than a tenth are true, numpy jumps from one to the next, which is slowest just below a tenth. Appending true
    elements makes it scan instead.
    """
    count = np.count_nonzero(mask)
    if len(mask) < WIDE or not len(mask) // 40 < count <= len(mask) // 10:
        return np.flatnonzero(mask)
    return np.flatnonzero(np.append(mask, np.ones(len(mask) // 9, bool)))[:count]


def _run(scores: np.ndarray, weights: np.ndarray, mass: float) -> np.ndarray:
    """Return indices of the shortest run that holds `mass`, highest score first; all of them if they hold less."""
    order = _descending(scores)
    running = np.cumsum(weights[order], dtype=np.float64)
    return order[: int(np.searchsorted(running, mass)) + 1]


def _descending(scores: np.ndarray) -> np.ndarray:
    """Return indices by falling score, ties to the lower index.

    Integers are sorted that hold the score in their upper half, as bits that order like floats (those of a negative
    float are inverted), and the index in their lower half. That is several times as fast as a stable sort of floats.
    """
    bits = (np.float32(0) - scores).view(np.int32)  # minus zero becomes zero
    keys = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64) << 32 | np.arange(len(scores))
    keys.sort()
    return keys & 0xFFFFFFFF
