/** The public types of this package. Names and meanings are the same as in Python. */

/** A part of a message's content. */
export interface ContentPart {
  type: "text";
  text: string;
}

/** One turn of a conversation; further keys, such as `tool_calls`, are for the model's chat template. */
export interface Message {
  role: string;
  /** Text, or parts of text; an assistant's message with `tool_calls` may have none. */
  content?: string | ContentPart[] | null;
  [key: string]: unknown;
}

/** Progress of loading: `loaded` of `total` bytes, or shader pipelines for the stage `shaders`. */
export interface LoadProgress {
  stage: "library" | "weights" | "tokenizer" | "shaders";
  loaded: number;
  total: number;
  /** Average of the last seconds; absent for shaders and for cached files. */
  bytesPerSecond?: number;
}

export interface LoadOptions {
  onProgress?: (progress: LoadProgress) => void;
  /** Whether to use the browser's Cache Storage. Default: true. */
  cache?: boolean;
  /** Aborting it makes `load` reject with the signal's reason; complete files stay in the cache. */
  signal?: AbortSignal;
  /** The initial system prompt; `resetChat` changes it. */
  systemPrompt?: string;
  /** Context size in tokens, smaller than the model was built for, to save memory. */
  contextWindowSize?: number;
}

/**
 * How the next token is chosen, in this order:
 *
 * 1. `logit_bias` is added to the logits (token id -> bias; `-Infinity` bans a token). Banned are also `suppress_tokens`,
 *    for the first token of an answer `begin_suppress_tokens`, what would complete a sequence of `bad_words_ids`, and
 *    what would repeat a sequence of `no_repeat_ngram_size` tokens of prompt and answer (0: off).
 * 2. Penalties, over the last `repeat_last_n` tokens of prompt and answer (0: off, -1: all of them).
 * 3. `top_k` keeps the k largest (0: off).
 * 4. `typical_p` keeps the tokens nearest to the entropy that together have this probability (1: off).
 * 5. `top_p` keeps the fewest of the likeliest tokens that together have this probability (1: off).
 * 6. `min_p` keeps the tokens at least this likely, relative to the likeliest (0: off).
 * 7. `temperature` divides the remaining logits, and `seed`'s generator draws one token. At temperature 0 the largest
 *    logit after step 2 is taken, and nothing is drawn.
 *
 * Ties go to the lower token id.
 */
export interface SamplingParams {
  temperature: number;
  top_k: number;
  top_p: number;
  min_p: number;
  typical_p: number;
  repetition_penalty: number;
  presence_penalty: number;
  frequency_penalty: number;
  repeat_last_n: number;
  no_repeat_ngram_size: number;
  logit_bias: Readonly<Record<number, number>>;
  suppress_tokens: readonly number[];
  begin_suppress_tokens: readonly number[];
  bad_words_ids: readonly (readonly number[])[];
  /** A whole number from 0 (a bigint above 2^53), or null for a new one each time. */
  seed: number | bigint | null;
  /** Whether to report the log-probability of every token in `last.logprobs`. */
  logprobs: boolean;
  /** How many of the likeliest tokens to report as well. */
  top_logprobs: number;
}

/** How an answer is generated, and where it ends. */
export interface GenerationConfig extends SamplingParams {
  /** The answer ends with the reason "length" after so many; null: when the model ends it or the context is full. */
  max_tokens: number | null;
  /** Strings before which the answer ends; they may span tokens. Options take a single one, too. */
  stop: readonly string[];
  /** Continue past the model's end-of-answer token. */
  ignore_eos: boolean;
  /** `stop` ends the answer with reason "context"; `slide` forgets the oldest turns, then the oldest tokens. */
  on_context_full: "stop" | "slide";
}

/** Options of one answer; they override the model's defaults. */
export interface GenerateOptions extends Partial<Omit<GenerationConfig, "stop">> {
  stop?: string | readonly string[];
  /** Aborting it ends the answer, like `stop()`. */
  signal?: AbortSignal;
  /** Further variables of the chat template, such as `enable_thinking`. */
  template_variables?: Readonly<Record<string, unknown>>;
}

export type FinishReason = "stop" | "length" | "context" | "cancelled";

/** Natural-log probabilities under the model's own distribution, before step 1 of `SamplingParams`. */
export interface TokenLogprob {
  token: number;
  logprob: number;
  /** The likeliest tokens, with their log-probabilities. */
  top: readonly (readonly [token: number, logprob: number])[];
}

/** A finished answer. */
export interface Reply {
  text: string;
  finishReason: FinishReason;
  tokens: readonly number[];
  logprobs: readonly TokenLogprob[];
}

/** Figures of the last answer and of the model, in bytes, seconds, tokens and tokens per second. */
export interface ChatStats {
  promptTokens: number;
  /** Prompt tokens that were already in the KV cache. */
  reusedTokens: number;
  prefillTokens: number;
  completionTokens: number;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  /** Seconds from the request to the first token. */
  timeToFirstToken: number;
  contextUsed: number;
  contextSize: number;
  /** Seconds that `load` took, and the part of it spent compiling shaders. */
  loadSeconds: number;
  shaderSeconds: number;
  weightBytes: number;
  kvBytes: number;
}

/** The loaded model. */
export interface ModelInfo {
  /** The artefact's name, such as `smollm2-135m-q4f16_1`. */
  name: string;
  modelType: string;
  quantization: string;
  contextWindowSize: number;
  vocabSize: number;
  /** Size of library, weights and tokenizer. */
  downloadBytes: number;
  /** Whether its files are cached in the browser for the next visit. */
  kept: boolean;
  /** The browser's description of the GPU. */
  adapter: string;
  /** Whether it has no chat template, so that it continues every prompt on its own. */
  completesOnly: boolean;
  /** The model's recommended settings. */
  defaults: GenerationConfig;
}

/** A loaded model with its conversation: a `ChatModule`, in this thread or in a worker. */
export interface Chat {
  readonly model: ModelInfo;
  /** The conversation so far, without the system prompt. */
  readonly messages: readonly Message[];
  /** The last finished answer. */
  readonly last: Reply | null;
  /**
   * Yield the pieces of the answer. A text adds a turn to the conversation, a list of messages replaces it. Leaving the
   * loop early ends the answer, and the text so far stays in the conversation. After an error the conversation is as it
   * was before.
   */
  generate(prompt: string | readonly Message[], options?: GenerateOptions): AsyncGenerator<string, void, undefined>;
  /** End the answer after the current token. */
  stop(): void;
  /** Forget the conversation. `systemPrompt` replaces the system prompt; an empty text removes it. */
  resetChat(systemPrompt?: string): void;
  stats(): ChatStats;
  /** Free the GPU's memory. The model cannot be used afterwards. */
  unload(): void;
}
