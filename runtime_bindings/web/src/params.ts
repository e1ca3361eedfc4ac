/** Check generation options and complete them to a `GenerationConfig`. */
import { ArgosyError } from "./errors.js";
import type { Reader } from "./records.js";
import type { GenerateOptions, GenerationConfig } from "./types.js";

/** Field -> smallest value, largest value, and whether the smallest is excluded. */
export const RANGES = {
  temperature: [0, 100, false],
  top_p: [0, 1, true],
  min_p: [0, 1, false],
  typical_p: [0, 1, true],
  repetition_penalty: [0, 100, true],
  presence_penalty: [-2, 2, false],
  frequency_penalty: [-2, 2, false],
} as const satisfies Record<string, readonly [number, number, boolean]>;

/** Field -> smallest and largest whole number. */
export const INTEGER_RANGES = {
  top_k: [0, 2 ** 31 - 1],
  repeat_last_n: [-1, 2 ** 31 - 1],
  no_repeat_ngram_size: [0, 2 ** 31 - 1],
  top_logprobs: [0, 100],
  max_tokens: [1, 2 ** 31 - 1],
} as const satisfies Record<string, readonly [number, number]>;

const MAX_SEED = 2n ** 64n - 1n;
const MAX_BANNED = 65536; // tokens; also of `logit_bias`
const MAX_BAD_WORDS = 4096;
const MAX_BAD_WORD_TOKENS = 64;
const MAX_STOPS = 16;
const MAX_STOP_CHARACTERS = 1000;

/** Values for what neither the model nor the caller sets. */
export const DEFAULTS: GenerationConfig = {
  temperature: 0.7,
  top_k: 0,
  top_p: 0.95,
  min_p: 0.05,
  typical_p: 1,
  repetition_penalty: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
  repeat_last_n: 64,
  no_repeat_ngram_size: 0,
  logit_bias: {},
  suppress_tokens: [],
  begin_suppress_tokens: [],
  bad_words_ids: [],
  seed: null,
  logprobs: false,
  top_logprobs: 0,
  max_tokens: 1024,
  stop: [],
  ignore_eos: false,
  on_context_full: "stop",
};

const RECOMMENDED = [
  ...["temperature", "top_p", "top_k", "min_p", "typical_p", "presence_penalty", "frequency_penalty"],
  ...["repetition_penalty", "repeat_last_n", "no_repeat_ngram_size"],
] as const;

/** The settings of the artefact: those that the model's makers recommend, or else the defaults. */
export function modelDefaults(chat: Reader): GenerationConfig {
  const given = (name: string): boolean => (chat.values[name] ?? null) !== null;
  const chosen = ["temperature", "top_p", "top_k", "min_p", "typical_p"].some(given);
  const otherwise = chosen ? { ...DEFAULTS, temperature: 1, top_p: 1, min_p: 0 } : DEFAULTS;
  const config: GenerationConfig = { ...DEFAULTS };
  for (const name of RECOMMENDED) config[name] = chat.number(name, otherwise[name]);
  if (!given("repeat_last_n") && config.repetition_penalty !== 1) config.repeat_last_n = -1;
  config.max_tokens = chat.number("max_tokens", DEFAULTS.max_tokens as number);
  for (const name of ["suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "stop"] as const) {
    if (given(name)) config[name] = chat.values[name] as never; // checked below
  }
  check(config);
  return config;
}

/** Override `defaults` with the caller's options; refuse unknown names and values out of range. */
export function resolve(asked: GenerateOptions, defaults: GenerationConfig): GenerationConfig {
  const { signal: _signal, template_variables: _variables, ...settings } = asked;
  for (const name of Object.keys(settings)) {
    if (!(name in DEFAULTS)) {
      const known = Object.keys(DEFAULTS).sort().join(", ");
      throw new ArgosyError(`\`${name}\` is not a generation setting`, `the settings are: ${known}`);
    }
  }
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  const config: GenerationConfig = { ...defaults, ...Object.fromEntries(given) };
  if (typeof settings.stop === "string") config.stop = [settings.stop];
  check(config);
  return config;
}

/** Refuse a bias or a ban of a token that the model does not have. */
export function checkVocabulary(config: GenerationConfig, vocabSize: number): void {
  const named = {
    logit_bias: Object.keys(config.logit_bias).map(Number),
    suppress_tokens: config.suppress_tokens,
    begin_suppress_tokens: config.begin_suppress_tokens,
    bad_words_ids: config.bad_words_ids.flat(),
  };
  for (const [name, tokens] of Object.entries(named)) {
    const unknown = tokens.find((token) => token >= vocabSize);
    if (unknown !== undefined) throw refuse(name, unknown, `made of token ids below the model's ${vocabSize}`);
  }
}

function check(config: GenerationConfig): void {
  for (const [name, [low, high, open]] of Object.entries(RANGES)) {
    const value = config[name as keyof typeof RANGES];
    const allowed = `a number ${open ? "above" : "from"} ${low} ${open ? "and up " : ""}to ${high}`;
    const fits = typeof value === "number" && value <= high && value >= low && !(open && value === low);
    if (!fits) throw refuse(name, value, allowed);
  }
  for (const [name, [low, high]] of Object.entries(INTEGER_RANGES)) {
    const value = config[name as keyof typeof INTEGER_RANGES];
    if (name === "max_tokens" && value === null) continue;
    const fits = typeof value === "number" && Number.isInteger(value) && low <= value && value <= high;
    if (!fits) throw refuse(name, value, `a whole number from ${low} to ${high}`);
  }
  checkSeed(config.seed);
  checkBias(config.logit_bias);
  checkTokens("suppress_tokens", config.suppress_tokens, MAX_BANNED);
  checkTokens("begin_suppress_tokens", config.begin_suppress_tokens, MAX_BANNED);
  checkBadWords(config.bad_words_ids);
  checkStops(config.stop);
  for (const name of ["logprobs", "ignore_eos"] as const) {
    if (typeof config[name] !== "boolean") throw refuse(name, config[name], "true or false");
  }
  if (config.top_logprobs && !config.logprobs) {
    throw refuse("top_logprobs", config.top_logprobs, "0 unless `logprobs` is true");
  }
  if (!["stop", "slide"].includes(config.on_context_full)) {
    throw refuse("on_context_full", config.on_context_full, "stop or slide");
  }
}

function checkSeed(seed: unknown): void {
  if (seed === null) return;
  const whole = typeof seed === "bigint" || (typeof seed === "number" && Number.isSafeInteger(seed));
  if (!whole || BigInt(seed) < 0n || BigInt(seed) > MAX_SEED) {
    throw refuse("seed", seed, `a whole number from 0 to ${MAX_SEED} (a bigint above 2^53), or null`);
  }
}

function checkBias(bias: unknown): void {
  const entries = typeof bias === "object" && bias !== null ? Object.entries(bias as object) : null;
  if (!entries || entries.length > MAX_BANNED) {
    throw refuse("logit_bias", typeof bias, `a table of at most ${MAX_BANNED} token ids and biases`);
  }
  for (const [token, value] of entries) {
    if (!/^\d{1,9}$/.test(token)) throw refuse("logit_bias", token, "keyed by token ids, whole numbers from 0");
    if (typeof value !== "number" || Number.isNaN(value) || value === Infinity) {
      throw refuse("logit_bias", value, "a finite bias, or -Infinity to ban the token");
    }
  }
}

function checkTokens(name: string, tokens: unknown, most: number): void {
  if (!Array.isArray(tokens) || tokens.length > most) throw refuse(name, tokens, `a list of at most ${most} token ids`);
  for (const token of tokens) {
    if (!Number.isSafeInteger(token) || token < 0) throw refuse(name, token, "made of token ids, whole numbers from 0");
  }
}

function checkBadWords(words: unknown): void {
  const name = "bad_words_ids";
  if (!Array.isArray(words) || words.length > MAX_BAD_WORDS || words.some((word) => word?.length === 0)) {
    throw refuse(name, words, `at most ${MAX_BAD_WORDS} lists of token ids, none of them empty`);
  }
  for (const word of words) checkTokens(name, word, MAX_BAD_WORD_TOKENS);
}

function checkStops(stops: unknown): void {
  if (!Array.isArray(stops) || stops.length > MAX_STOPS) {
    throw refuse("stop", stops, `a string or a list of at most ${MAX_STOPS} strings`);
  }
  for (const stop of stops) {
    const characters = typeof stop === "string" ? [...stop].length : 0;
    if (!characters || characters > MAX_STOP_CHARACTERS) {
      throw refuse("stop", stop, `strings of 1 to ${MAX_STOP_CHARACTERS} characters`);
    }
  }
}

function refuse(name: string, value: unknown, allowed: string): ArgosyError {
  return new ArgosyError(`\`${name}=${String(value).slice(0, 60)}\` is not allowed, it must be ${allowed}`);
}
