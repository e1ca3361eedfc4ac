/** Select the highest scores of a vocabulary without sorting all of it. */

/** Exceeds the rounding error of summed probabilities: half the mass of 12 equal tokens is 6 of them, not 7. */
export const ROUNDING = 1e-6;
const BUCKETS = 4096;
const COLDEST = 1e-30; // lower temperatures are 0 in float32 or overflow the quotient
const FEW = 512; // this many scores are simply sorted

/** Compute exp((logits - best) / temperature), rounded to float32 at each step as in numpy, and its sum. */
export function exponentials(logits: Float32Array, best: number, temperature = 1): { values: Float32Array; total: number } {
  const values = new Float32Array(logits.length);
  const divisor = Math.fround(Math.max(temperature, COLDEST));
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    const value = Math.fround(Math.exp(Math.fround(Math.fround((logits[i] as number) - best) / divisor)));
    values[i] = value;
    total += value;
  }
  return { values, total };
}

export function largestOf(values: Float32Array): number {
  let best = -Infinity;
  for (let i = 0; i < values.length; i++) if ((values[i] as number) > best) best = values[i] as number;
  return best;
}

/** Find the index of the largest value, the lowest on a tie; NaN counts as the largest, as in numpy. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (Number.isNaN(value)) return i;
    if (value > (values[best] as number)) best = i;
  }
  return best;
}

/** Find the first index at which the running sum of `values` exceeds `share` (0 to 1) of `total`, their sum. */
export function draw(values: Float32Array, total: number, share: number): number {
  const wanted = share * total;
  let running = 0;
  let last = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value > 0) last = i;
    running += value;
    if (running > wanted) return i;
  }
  return last;
}

/** Find the `count` largest scores; returns ascending indices, ties to the lower index. */
export function largest(scores: Float32Array, count: number): Uint32Array {
  return heaviest(scores, null, count);
}

/** Find the `count` largest scores; returns indices, largest score first, ties to the lower index. */
export function leaders(scores: Float32Array, count: number): number[] {
  return descending(scores, [...largest(scores, count)]);
}

/**
 * Find the fewest of the highest `scores` whose `weights` (null: 1 each) sum to at least `mass`; all of them if they
 * sum to less. Returns ascending indices; ties go to the lower index.
 *
 * Scores are counted into buckets, and only the bucket where the sum reaches `mass` is sorted.
 */
export function heaviest(scores: Float32Array, weights: Float32Array | null, mass: number): Uint32Array {
  const best = largestOf(scores);
  const bucket = buckets(scores, best);
  const sums = new Float64Array(BUCKETS + 1);
  for (let i = 0; i < scores.length; i++) {
    const at = bucket[i] as number;
    sums[at] = (sums[at] as number) + (weights ? (weights[i] as number) : 1);
  }
  let held = 0;
  let end = 0;
  while (end < BUCKETS && held + (sums[end] as number) < mass) held += sums[end++] as number;
  const ending: number[] = [];
  let count = 0;
  for (let i = 0; i < scores.length; i++) {
    if ((bucket[i] as number) < end) count++;
    else if (bucket[i] === end) ending.push(i);
  }
  const taken = new Set<number>();
  for (const i of descending(scores, ending)) {
    if (held >= mass && count + taken.size > 0) break;
    taken.add(i);
    held += weights ? (weights[i] as number) : 1;
  }
  const chosen = new Uint32Array(count + taken.size);
  let place = 0;
  for (let i = 0; i < scores.length; i++) {
    const at = bucket[i] as number;
    if (at < end || (at === end && taken.has(i))) chosen[place++] = i;
  }
  return chosen;
}

/** Assign scores to buckets, 0 for the highest: even steps down from `best`, the last one for everything far below. */
function buckets(scores: Float32Array, best: number): Uint16Array {
  const found = new Uint16Array(scores.length);
  if (scores.length <= FEW) return found;
  const span = spread(scores, best);
  const scale = span > 0 ? (BUCKETS - 1) / span : 0;
  for (let i = 0; i < scores.length; i++) {
    const below = (best - (scores[i] as number)) * scale;
    found[i] = below < BUCKETS - 1 ? below : BUCKETS; // also for -Infinity, and for NaN, which compares false
  }
  return found;
}

/** The range of the finite scores, at most 100: weights further below vanish in float32. */
function spread(scores: Float32Array, best: number): number {
  let lowest = best;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i] as number;
    if (score < lowest && score !== -Infinity) lowest = score;
  }
  return Math.min(best - lowest, 100);
}

/** Sort `ids` by descending score, ties to the lower id. */
function descending(scores: Float32Array, ids: number[]): number[] {
  return ids.sort((one, other) => (scores[other] as number) - (scores[one] as number) || one - other);
}
