/** The words of this package: what a caller hands in, and what comes back. Names and meanings are those of Python's. */

/** One turn of a conversation. */
export interface Message {
  role: "system" | "user" | "assistant" | "tool" | "developer";
  content: string;
}

/** What is being loaded: `loaded` of `total` bytes, or of shader pipelines for `shaders`. */
export interface LoadProgress {
  stage: "library" | "weights" | "tokenizer" | "shaders";
  loaded: number;
  total: number;
  /** Over the last seconds; absent for shaders, and for what came from the browser's cache. */
  bytesPerSecond?: number;
}

export interface LoadOptions {
  onProgress?: (progress: LoadProgress) => void;
  /** Whether files are kept in the browser's Cache Storage, and taken from there. Default: true. */
  cache?: boolean;
  /** Aborting it makes `load` reject with the signal's reason; whole files stay in the cache. */
  signal?: AbortSignal;
  /** The first system prompt; `resetChat` sets another one. */
  systemPrompt?: string;
  /** Tokens of the context, fewer than the model was built for, to save memory. */
  contextWindowSize?: number;
}

/**
 * How the next token is chosen, in this order:
 *
 * 1. `logit_bias` is added to the logits (token id -> bias; `-Infinity` bans a token).
 * 2. Penalties, over the last `repeat_last_n` tokens of prompt and answer (0: off, -1: all of them).
 * 3. `top_k` keeps the k largest (0: off).
 * 4. `typical_p` keeps the tokens nearest to the entropy that hold this mass (1: off).
 * 5. `top_p` keeps the smallest set of the likeliest tokens that holds this mass (1: off).
 * 6. `min_p` keeps the tokens at least this likely, relative to the likeliest (0: off).
 * 7. `temperature` divides what is left, and one token is drawn with the generator of `seed`. At temperature 0 the
 *    largest logit after step 2 is taken, and nothing is drawn.
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
  logit_bias: Readonly<Record<number, number>>;
  /** A whole number from 0 (a bigint above 2^53), or null for another draw each time. */
  seed: number | bigint | null;
  /** Whether `last.logprobs` tells the probability of each token. */
  logprobs: boolean;
  /** How many of the likeliest tokens it tells as well. */
  top_logprobs: number;
}

/** How an answer is generated, and where it ends. */
export interface GenerationConfig extends SamplingParams {
  /** null goes on until the model stops or the context is full. */
  max_tokens: number | null;
  /** Strings before which the answer ends; they may lie across tokens. */
  stop: readonly string[];
  /** The model's own end of answer does not end it. */
  ignore_eos: boolean;
  /** `stop` ends the answer with reason "context"; `slide` forgets the oldest turns, then the oldest tokens. */
  on_context_full: "stop" | "slide";
}

/** What differs from the model's defaults for one answer. */
export interface GenerateOptions extends Partial<GenerationConfig> {
  /** Aborting it ends the answer as `stop()` does. */
  signal?: AbortSignal;
  /** Further variables of the chat template, such as `enable_thinking`. */
  template_variables?: Readonly<Record<string, unknown>>;
}

export type FinishReason = "stop" | "length" | "context" | "cancelled";

/** Natural-log probabilities under the model's own distribution, before step 1 of `SamplingParams`. */
export interface TokenLogprob {
  token: number;
  logprob: number;
  /** The likeliest tokens with theirs. */
  top: readonly (readonly [token: number, logprob: number])[];
}

/** An answer as it ended. */
export interface Reply {
  text: string;
  finishReason: FinishReason;
  tokens: readonly number[];
  logprobs: readonly TokenLogprob[];
}

/** How the last answer went, and what the model takes. Bytes, seconds, tokens, tokens per second. */
export interface ChatStats {
  promptTokens: number;
  /** Of them, those that were in the KV cache already. */
  reusedTokens: number;
  prefillTokens: number;
  completionTokens: number;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  /** Seconds from asking to the first token. */
  timeToFirstToken: number;
  contextUsed: number;
  contextSize: number;
  /** Seconds that `load` took, and the part of it in which shaders were compiled. */
  loadSeconds: number;
  shaderSeconds: number;
  weightBytes: number;
  kvBytes: number;
}

/** What was loaded. */
export interface ModelInfo {
  /** The artefact's name, such as `smollm2-135m-q4f16_1`. */
  name: string;
  modelType: string;
  quantization: string;
  contextWindowSize: number;
  vocabSize: number;
  /** Bytes of the library, the weights and the tokenizer. */
  downloadBytes: number;
  /** Whether the next visit finds its files in the browser: there was room for them, and `cache` was not off. */
  kept: boolean;
  /** What the browser says of the GPU. */
  adapter: string;
  /** Whether it has no chat template: then every prompt stands alone, and is continued. */
  completesOnly: boolean;
  /** What the model's makers recommend. */
  defaults: GenerationConfig;
}

/** A loaded model with its conversation: `ChatModule` itself, or its stand-in for one in a worker. */
export interface Chat {
  readonly model: ModelInfo;
  /** The conversation so far, without the system prompt. */
  readonly messages: readonly Message[];
  /** The last answer, once it has ended. */
  readonly last: Reply | null;
  /**
   * The pieces of the answer. A text adds a turn to the conversation, a list of messages replaces the conversation.
   * Leaving the loop early ends the answer; what was said until then stays in the conversation. After an error the
   * conversation is as it was before.
   */
  generate(prompt: string | readonly Message[], options?: GenerateOptions): AsyncGenerator<string, void, undefined>;
  /** Ends the answer that is being generated, after the present token. */
  stop(): void;
  /** Forgets the conversation. Without a text the system prompt stays; an empty one removes it. */
  resetChat(systemPrompt?: string): void;
  stats(): ChatStats;
  /** Frees the GPU's memory. Nothing can be asked of the model afterwards. */
  unload(): void;
}
