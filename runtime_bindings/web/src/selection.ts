/** Scores of a whole vocabulary go in; which of them count comes out, without sorting all of them. */

/** Sums of probabilities are off by less: of 12 equal tokens half the mass is 6, and not 7. */
export const ROUNDING = 1e-6;
const BUCKETS = 4096;
const COLDEST = 1e-30; // colder temperatures are 0 in float32, or make differences infinite
const FEW = 512; // scores that are sorted as they are

/** exp((logits - best) / temperature), rounded to float32 at each step as numpy does, and their sum. */
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

/** The index of the largest value, the lowest of equal ones; NaN counts as the largest, as in numpy. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (Number.isNaN(value)) return i;
    if (value > (values[best] as number)) best = i;
  }
  return best;
}

/** The first index at which the running sum of `values` exceeds `share` (0 to 1) of `total`, their sum. */
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

/** Ascending indices of the `count` largest scores, ties to the lower index. */
export function largest(scores: Float32Array, count: number): Uint32Array {
  return heaviest(scores, null, count);
}

/** Indices of the `count` largest scores, largest first, ties to the lower index. */
export function leaders(scores: Float32Array, count: number): number[] {
  return descending(scores, [...largest(scores, count)]);
}

/**
 * Ascending indices of the shortest run of the highest `scores` whose `weights` (null: 1 each) sum to `mass` or more,
 * ties to the lower index; all of them if they hold less.
 *
 * Scores are counted into buckets; only the bucket in which the run ends is sorted.
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

/** A bucket for each score, 0 for the highest: even steps down from `best`, the last one for all that is far below. */
function buckets(scores: Float32Array, best: number): Uint16Array {
  const found = new Uint16Array(scores.length);
  if (scores.length <= FEW) return found;
  const span = spread(scores, best);
  const scale = span > 0 ? (BUCKETS - 1) / span : 0;
  for (let i = 0; i < scores.length; i++) {
    const below = (best - (scores[i] as number)) * scale;
    found[i] = below < BUCKETS - 1 ? below : BUCKETS; // also for -Infinity, and for NaN, which no comparison holds for
  }
  return found;
}

/** Between the highest score and the lowest finite one; not more than what float32 weights can tell from nothing. */
function spread(scores: Float32Array, best: number): number {
  let lowest = best;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i] as number;
    if (score < lowest && score !== -Infinity) lowest = score;
  }
  return Math.min(best - lowest, 100);
}

/** `ids` by falling score, ties to the lower id. */
function descending(scores: Float32Array, ids: number[]): number[] {
  return ids.sort((one, other) => (scores[other] as number) - (scores[one] as number) || one - other);
}
