/** Find the tokens that an answer must not continue with. */
import type { SamplingParams } from "./types.js";

/** The bans of step 1 of `SamplingParams` for one answer, whose tokens come one after the other. */
export class Bans {
  private readonly always: ReadonlySet<number>;
  private readonly first: ReadonlySet<number>;
  private readonly words: readonly (readonly number[])[];
  private readonly ngram: number;
  /** How many tokens there were before the answer, until it has begun. */
  private prompt: number | null = null;

  constructor(params: SamplingParams) {
    const single = params.bad_words_ids.filter((word) => word.length === 1).flat();
    this.always = new Set([...params.suppress_tokens, ...single]);
    this.first = new Set([...this.always, ...params.begin_suppress_tokens]);
    this.words = params.bad_words_ids.filter((word) => word.length > 1);
    this.ngram = params.no_repeat_ngram_size;
  }

  /** The ids that may not follow `history`, the prompt and answer so far. */
  ids(history: readonly number[]): ReadonlySet<number> {
    const banned = this.isFirst(history.length) ? this.first : this.always;
    if (!this.words.length && !this.ngram) return banned;
    const found = new Set(banned);
    for (const word of this.words) {
      const start = history.length - (word.length - 1);
      if (start >= 0 && word.slice(0, -1).every((token, i) => history[start + i] === token)) found.add(word.at(-1) as number);
    }
    if (this.ngram) continuations(history, this.ngram - 1, found);
    return found;
  }

  private isFirst(length: number): boolean {
    if (this.prompt === null) this.prompt = length;
    else if (length !== this.prompt) this.prompt = -1; // a context that slides may have this length once more
    return length === this.prompt;
  }
}

/** Add to `found` what has followed the last `count` tokens of `history` where they occurred before. */
function continuations(history: readonly number[], count: number, found: Set<number>): void {
  const end = history.length - count;
  for (let place = 0; place < end; place++) {
    let same = 0;
    while (same < count && history[place + same] === history[end + same]) same++;
    if (same === count) found.add(history[place + count] as number);
  }
}
