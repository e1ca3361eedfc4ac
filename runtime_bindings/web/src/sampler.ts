/** Sample a token from its logits, with log-probabilities on request. */
import { Bans } from "./bans.js";
import { ArgosyError } from "./errors.js";
import { Random } from "./random.js";
import { argmax, draw, exponentials, heaviest, largest, largestOf, leaders, ROUNDING } from "./selection.js";
import type { SamplingParams, TokenLogprob } from "./types.js";

const LOWEST = -3.4028234663852886e38; // of float32

export interface Sample {
  token: number;
  logprob: TokenLogprob | null;
}

/** Samples the tokens of one answer, with its own generator, so that a seed always gives the same answer. */
export class Sampler {
  private readonly random: Random;
  private readonly bans: Bans;

  constructor(private readonly params: SamplingParams) {
    this.random = new Random(params.seed);
    this.bans = new Bans(params);
  }

  /** Sample from `logits` (vocab,), unchanged; `history` is prompt and answer so far, for the penalties. */
  sample(logits: Float32Array, history: readonly number[]): Sample {
    const { params } = this;
    const adjusted = adjust(logits, params, history, this.bans.ids(history));
    let token: number;
    if (params.temperature === 0) {
      token = argmax(adjusted);
      if (!Number.isFinite(adjusted[token])) throw notFinite();
    } else {
      const left = truncate(adjusted, params);
      const { values, total } = exponentials(left.logits, largestOf(left.logits), params.temperature);
      const place = draw(values, total, this.random.next());
      token = left.ids ? (left.ids[place] as number) : place;
    }
    return { token, logprob: params.logprobs ? tokenLogprob(logits, token, params.top_logprobs) : null };
  }
}

/** Of an adjusted logit, however extreme the settings: its difference to another is finite. */
const HIGHEST = 1e30;

/** Apply steps 1 and 2 of `SamplingParams`; returns `logits` itself if they do nothing. */
export function adjust(
  logits: Float32Array,
  params: SamplingParams,
  history: readonly number[],
  banned: ReadonlySet<number>,
): Float32Array {
  const biases = Object.entries(params.logit_bias);
  const { repetition_penalty: repetition, frequency_penalty: frequency, presence_penalty: presence } = params;
  const penalises = (repetition !== 1 || presence !== 0 || frequency !== 0) && params.repeat_last_n !== 0;
  if (!biases.length && !banned.size && !penalises) return logits;
  const adjusted = logits.slice();
  for (const [token, bias] of biases) {
    const id = Number(token);
    adjusted[id] = Math.min((adjusted[id] as number) + bias, HIGHEST);
  }
  for (const id of banned) adjusted[id] = -Infinity;
  if (!penalises) return adjusted;
  const seen = params.repeat_last_n < 0 ? history : history.slice(-params.repeat_last_n);
  for (const [token, count] of counts(seen)) {
    const value = adjusted[token] as number;
    const scaled = value > 0 ? value / repetition : value * repetition;
    adjusted[token] = Math.min(scaled, HIGHEST) - count * frequency - presence;
  }
  return adjusted;
}

function counts(tokens: readonly number[]): Map<number, number> {
  const found = new Map<number, number>();
  for (const token of tokens) found.set(token, (found.get(token) ?? 0) + 1);
  return found;
}

/** The remaining tokens: `logits` of `ids`, which ascend; null means all tokens. */
interface Left {
  logits: Float32Array;
  ids: Uint32Array | null;
}

/** Apply steps 3 to 6; at least one token remains. */
export function truncate(logits: Float32Array, params: SamplingParams): Left {
  if (!Number.isFinite(largestOf(logits)) || logits.includes(NaN)) throw notFinite();
  let left: Left = { logits, ids: null };
  if (params.top_k > 0 && params.top_k < logits.length) left = keep(left, largest(logits, params.top_k));
  if (params.typical_p < 1) {
    const { values, total } = exponentials(left.logits, largestOf(left.logits));
    const scores = typicality(left.logits, values, total);
    left = keep(left, heaviest(scores, values, (params.typical_p - ROUNDING) * total));
  }
  if (params.top_p < 1) {
    const { values, total } = exponentials(left.logits, largestOf(left.logits));
    left = keep(left, heaviest(left.logits, values, (params.top_p - ROUNDING) * total));
  }
  if (params.min_p > 0) {
    const floor = Math.fround(largestOf(left.logits) + Math.fround(Math.log(params.min_p)));
    const chosen: number[] = [];
    left.logits.forEach((value, i) => value >= floor && chosen.push(i));
    left = keep(left, Uint32Array.from(chosen));
  }
  return left;
}

function keep(left: Left, chosen: Uint32Array): Left {
  const logits = new Float32Array(chosen.length);
  chosen.forEach((from, to) => (logits[to] = left.logits[from] as number));
  const { ids } = left;
  return { logits, ids: ids ? chosen.map((place) => ids[place] as number) : chosen };
}

/** Minus the distance between each token's surprisal and the entropy. */
function typicality(logits: Float32Array, weights: Float32Array, total: number): Float32Array {
  const logSum = Math.fround(largestOf(logits) + Math.log(total));
  const logprobs = logits.map((logit) => Math.max(logit - logSum, LOWEST));
  let sum = 0;
  for (let i = 0; i < logprobs.length; i++) sum += (weights[i] as number) * (logprobs[i] as number);
  const entropy = Math.fround(-sum / total);
  return logprobs.map((logprob) => -Math.abs(logprob + entropy));
}

/** Compute the log-probability of `token` and of the `top` likeliest tokens, likeliest first. */
export function tokenLogprob(logits: Float32Array, token: number, top: number): TokenLogprob {
  const best = largestOf(logits);
  const logSum = best + Math.log(exponentials(logits, best).total);
  const likeliest = top ? leaders(logits, top) : [];
  const logprob = (id: number): number => (logits[id] as number) - logSum;
  return { token, logprob: logprob(token), top: likeliest.map((id) => [id, logprob(id)] as const) };
}

function notFinite(): ArgosyError {
  return new ArgosyError(
    "the model's logits have no finite number to sample from (NaN, or every token banned)",
    "remove bans (logit_bias, suppress_tokens, bad_words_ids, no_repeat_ngram_size); without any, the GPU or its driver computes wrongly: try another browser",
  );
}
